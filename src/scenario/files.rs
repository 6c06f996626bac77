//! Every file that a scenario is made of: read once, checked, remembered for messages and hashed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::error::{Diagnostic, Place, SourceFile};
use crate::random::mix;

/// Scenario files are written by hand; this is generous.
const LARGEST_SCENARIO: u64 = 16 << 20;

/// A million points of a metric.
const LARGEST_RECORDING: u64 = 64 << 20;

/// What has been read so far.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Files that places point into.
    pub(super) sources: Vec<SourceFile>,
    /// Folder of each source, against which its relative paths are taken.
    folders: Vec<PathBuf>,
    data: BTreeMap<PathBuf, Result<String, String>>,
    /// Largest data file, in bytes (`limits.file-size`).
    pub(super) largest: u64,
    /// Hash of everything read.
    pub(super) hash: u64,
}

impl Files {
    /// Nothing read yet; data files may have `largest` bytes.
    pub(super) fn new(largest: u64) -> Self {
        Self { largest, ..Self::default() }
    }

    /// Reads a scenario file (`-` is standard input); the answer is its number.
    pub(super) fn scenario(&mut self, path: &str) -> Result<u32, Diagnostic> {
        let number = self.sources.len() as u32;
        let (name, folder, bytes) = if path == "-" {
            ("<stdin>", PathBuf::new(), bounded(io::stdin().lock(), LARGEST_SCENARIO))
        } else {
            let folder = Path::new(path).parent().map(Path::to_path_buf).unwrap_or_default();
            (path, folder, open(Path::new(path)).and_then(|file| bounded(file, LARGEST_SCENARIO)))
        };
        let text = bytes.and_then(|bytes| text(bytes, "16 MiB, the most a scenario file may have"));
        let text = text.map_err(|reason| Diagnostic::new(format!("cannot read `{name}`: {reason}")))?;
        let empty = text.trim().is_empty();
        self.add(name, folder, text);
        if empty {
            let error = Diagnostic::new(format!("`{name}` is empty"));
            return Err(error.hint("a scenario starts with [scenario] and its name and duration"));
        }
        Ok(number)
    }

    /// The line of a place, counted from 1.
    pub(super) fn line(&self, place: Place) -> usize {
        let text = &self.sources[place.file as usize].text;
        text.bytes().take(place.start as usize).filter(|byte| *byte == b'\n').count() + 1
    }

    /// Reads a manifest; the answer is its number.
    pub(super) fn manifest(&mut self, path: &Path) -> Result<u32, Diagnostic> {
        self.whole(path, LARGEST_SCENARIO, "16 MiB, the most a manifest may have")
    }

    /// Reads a file of measurements (`-` is standard input); the answer is its number.
    pub(super) fn recording(&mut self, path: &Path) -> Result<u32, Diagnostic> {
        self.whole(path, LARGEST_RECORDING, "64 MiB, the most a file of measurements may have")
    }

    fn whole(&mut self, path: &Path, limit: u64, limit_in_words: &str) -> Result<u32, Diagnostic> {
        let number = self.sources.len() as u32;
        let stdin = path == Path::new("-");
        let name = if stdin { "<stdin>".to_owned() } else { path.display().to_string() };
        let bytes = if stdin {
            bounded(io::stdin().lock(), limit)
        } else {
            open(path).and_then(|file| bounded(file, limit))
        };
        let text = bytes
            .and_then(|bytes| text(bytes, limit_in_words))
            .map_err(|reason| Diagnostic::new(format!("cannot read `{name}`: {reason}")))?;
        if text.trim().is_empty() {
            return Err(Diagnostic::new(format!("`{name}` is empty")));
        }
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        self.add(&name, folder, text);
        Ok(number)
    }

    /// Puts a data file in place without reading it, for scenarios that a program has written.
    pub(super) fn attach(&mut self, path: &str, text: &str) {
        self.hash = hashed(self.hash, text.as_bytes());
        self.data.insert(PathBuf::from(path), Ok(text.to_owned()));
    }

    /// A text that is no file, such as a command-line option or a generated scenario; relative paths in it are taken like the scenario's own.
    pub(super) fn option(&mut self, name: &str, text: &str) -> u32 {
        let folder = self.folders.first().cloned().unwrap_or_default();
        self.add(name, folder, text.to_owned());
        self.sources.len() as u32 - 1
    }

    fn add(&mut self, name: &str, folder: PathBuf, text: String) {
        self.hash = hashed(self.hash, text.as_bytes());
        self.sources.push(SourceFile { name: name.to_owned(), text });
        self.folders.push(folder);
    }

    /// The bytes `range` of the string that was written at `place` and means `text`; all of it if it has escapes.
    pub(super) fn inside(&self, place: Place, text: &str, range: Range<usize>) -> Place {
        let written = self
            .sources
            .get(place.file as usize)
            .and_then(|source| source.text.get(place.start as usize..place.end as usize));
        match written.and_then(|written| written.find(text)) {
            Some(at) => {
                let start = place.start as usize + at;
                Place::new(place.file, start + range.start..start + range.end)
            }
            None => place,
        }
    }

    /// `path` as it is meant in source number `from`.
    pub(super) fn resolve(&self, from: u32, path: &str) -> PathBuf {
        self.folders.get(from as usize).map_or_else(|| PathBuf::from(path), |folder| folder.join(path))
    }

    /// The text of a data file named in source number `from`.
    pub(super) fn data(&mut self, from: u32, path: &str) -> Result<&str, String> {
        let resolved = self.resolve(from, path);
        if !self.data.contains_key(&resolved) {
            let limit = self.largest;
            let too_large = format!("{limit} bytes, the limit of `file-size` under [limits]");
            let read = open(&resolved)
                .and_then(|file| bounded(file, limit))
                .and_then(|bytes| text(bytes, &too_large));
            if let Ok(text) = &read {
                self.hash = hashed(self.hash, text.as_bytes());
            }
            let read = read.map_err(|reason| format!("cannot read `{}`: {reason}", resolved.display()));
            self.data.insert(resolved.clone(), read);
        }
        self.data[&resolved].as_deref().map_err(Clone::clone)
    }
}

fn open(path: &Path) -> Result<File, String> {
    let file = File::open(path).map_err(|error| reason(&error))?;
    match file.metadata() {
        Ok(metadata) if metadata.is_dir() => Err("it is a folder".to_owned()),
        Ok(_) => Ok(file),
        Err(error) => Err(reason(&error)),
    }
}

/// At most `limit` bytes and one more, by which a larger file shows itself.
fn bounded(input: impl io::Read, limit: u64) -> Result<(Vec<u8>, u64), String> {
    let mut bytes = Vec::new();
    input.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| reason(&error))?;
    Ok((bytes, limit))
}

fn text((bytes, limit): (Vec<u8>, u64), limit_in_words: &str) -> Result<String, String> {
    if bytes.len() as u64 > limit {
        return Err(format!("it is larger than {limit_in_words}"));
    }
    if bytes.contains(&0) {
        return Err("it is not a text file (it contains a zero byte)".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].split(|byte| *byte == b'\n').count();
        format!("it is not UTF-8 text (line {line}, byte {at})")
    })?;
    // A byte-order mark would shift every column.
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

/// The operating system's words without its error number, the same on every platform we know.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// Folds bytes into a hash, eight at a time; the length is folded too.
pub(super) fn hashed(hash: u64, bytes: &[u8]) -> u64 {
    let fold = |hash: u64, chunk: &[u8]| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(hash.rotate_left(23) ^ u64::from_le_bytes(word))
    };
    mix(bytes.chunks(8).fold(hash, fold) ^ bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_text() {
        let reason = |bytes: &[u8]| text((bytes.to_vec(), 8), "eight").unwrap_err();
        assert_eq!(reason(b"a\0b"), "it is not a text file (it contains a zero byte)");
        assert_eq!(reason(b"a\nb\xff"), "it is not UTF-8 text (line 2, byte 3)");
        assert_eq!(reason(b"123456789"), "it is larger than eight");
        assert_eq!(text(("\u{feff}a".as_bytes().to_vec(), 8), "").as_deref(), Ok("a"));
    }

    #[test]
    fn the_hash_sees_everything() {
        assert_ne!(hashed(0, b"ab"), hashed(0, b"ab\0"));
        assert_ne!(hashed(0, b"12345678ab"), hashed(0, b"ab12345678"));
    }
}
