//! A results folder, written whole or not at all.
//!
//! Files are written into a hidden folder beside their places and renamed when all of them are complete. If anything goes
//! wrong before that, the hidden folder goes away, and so do folders that were made for it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Exit, Failure};
use crate::report::{ResultFile, known_paths};

/// A results folder under construction.
pub(super) struct Store {
    folder: PathBuf,
    staging: PathBuf,
    /// Folders that did not exist before, the deepest first.
    made: Vec<PathBuf>,
    /// Paths within the folder.
    staged: Vec<String>,
}

impl Store {
    /// Prepares `folder`, so that one that cannot be written is known before a long run and not after it.
    pub(super) fn open(folder: &Path) -> Result<Self, Failure> {
        let missing = folder.ancestors().filter(|path| !path.as_os_str().is_empty());
        let made = missing.take_while(|path| !path.exists()).map(Path::to_path_buf).collect();
        let staging = folder.join(format!(".simlab-{}", std::process::id()));
        // Made before the first attempt, so that a failure half-way is cleared too.
        let store = Self { folder: folder.to_path_buf(), staging, made, staged: Vec::new() };
        fs::create_dir_all(&store.staging)
            .map_err(|error| store.failure("make the results folder", folder, &error))?;
        Ok(store)
    }

    /// Where unfinished files lie.
    pub(super) fn staging(&self) -> &Path {
        &self.staging
    }

    /// Adds a file.
    pub(super) fn add(&mut self, file: &ResultFile) -> Result<(), Failure> {
        let place = self.staging.join(&file.path);
        let write = || {
            place.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(&place, &file.bytes)
        };
        write().map_err(|error| self.failure("write", &self.folder.join(&file.path), &error))?;
        self.staged.push(file.path.clone());
        Ok(())
    }

    /// Moves all files to their places and removes result files of an earlier run that this one did not make.
    pub(super) fn commit(mut self) -> Result<(), Failure> {
        for path in &self.staged {
            let place = self.folder.join(path);
            let moved = place.parent().map_or(Ok(()), fs::create_dir_all);
            moved
                .and_then(|()| fs::rename(self.staging.join(path), &place))
                .map_err(|error| self.failure("write", &place, &error))?;
        }
        for path in known_paths().into_iter().filter(|path| !self.staged.contains(path)) {
            match fs::remove_file(self.folder.join(&path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.failure("remove the outdated", &self.folder.join(&path), &error));
                }
                _ => {}
            }
        }
        self.made.clear();
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "called on the store in every place where an error arises")]
    fn failure(&self, deed: &str, place: &Path, error: &io::Error) -> Failure {
        Failure::new(
            Exit::INTERNAL,
            format!("cannot {deed} `{}`: {error}\n\nhint: choose another folder with --out", place.display()),
        )
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Best effort: what cannot be removed now could not be written either.
        let _ = fs::remove_dir_all(&self.staging);
        for folder in &self.made {
            let _ = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> ResultFile {
        ResultFile { path: path.to_owned(), bytes: b"x".to_vec() }
    }

    #[test]
    fn a_folder_appears_whole() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("results/a");
        let mut store = Store::open(&folder).unwrap();
        store.add(&file("charts/latency.svg")).unwrap();
        assert!(!folder.join("charts").exists());
        store.commit().unwrap();
        assert!(folder.join("charts/latency.svg").exists());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no leftovers");
    }

    #[test]
    fn a_dropped_store_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let mut store = Store::open(&root.path().join("results/a")).unwrap();
        store.add(&file("run.json")).unwrap();
        drop(store);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn outdated_files_go_and_foreign_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("summary.csv"), "old").unwrap();
        fs::write(at("notes.txt"), "mine").unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        store.add(&file("run.json")).unwrap();
        store.commit().unwrap();
        assert!(at("run.json").exists() && at("notes.txt").exists() && !at("summary.csv").exists());
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("out"), "a file").unwrap();
        let failure = Store::open(&root.path().join("out/deep")).err().unwrap();
        assert_eq!(failure.exit, Exit::INTERNAL);
        assert!(failure.message.contains("cannot make the results folder"));
    }
}
