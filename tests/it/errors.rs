//! A scenario that is refused says where, why, and what to write instead. Each file of `tests/broken` has one mistake
//! (its first line says which); its message is a snapshot.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use simlab::scenario::Overrides;
use simlab::scenario::model::Study;

fn message(path: &str, overrides: &Overrides) -> String {
    match Study::load(path, overrides) {
        Ok(_) => "no error".to_owned(),
        Err(error) => error.render(false),
    }
}

#[test]
fn every_broken_file_is_refused_with_its_place() {
    let mut files: Vec<String> = fs::read_dir("tests/broken")
        .expect("the folder is part of the repository")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    files.sort();
    assert!(files.len() >= 40);
    for file in files {
        let name = Path::new(&file).file_stem().expect("has a name").to_string_lossy().into_owned();
        let message = message(&file, &Overrides::default());
        assert!(message.starts_with("error: "), "{file}: {message}");
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "snapshots/errors" }, {
            insta::assert_snapshot!(name, message);
        });
    }
}

#[test]
fn every_shipped_scenario_loads() {
    let mut folders = vec![PathBuf::from("scenarios")];
    let mut loaded = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the folder is part of the repository") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "toml") {
                let study = Study::load(&path.to_string_lossy(), &Overrides::default());
                assert!(study.is_ok(), "{}", study.unwrap_err());
                loaded += 1;
            }
        }
    }
    assert!(loaded > 30, "only {loaded} scenarios found");
}

/// A valid scenario with everything in it, whose data files are found from anywhere.
fn typhoon() -> Vec<u8> {
    let data = fs::canonicalize("scenarios/data").expect("the folder is part of the repository");
    let text = fs::read_to_string("scenarios/typhoon.toml").expect("readable");
    text.replace("data/", &format!("{}/", data.display())).into_bytes()
}

const PRINTABLE: &[u8] = b"0-\"=.[]{}(),%$ aeh9\n";

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens to the bytes of a scenario, the answer is a study or a message, never a panic.
    #[test]
    fn damaged_files_never_panic(damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6)) {
        let mut bytes = typhoon();
        for (at, byte, kind) in damage {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                // Printable damage reaches the deeper layers.
                2 => bytes[at] = PRINTABLE[usize::from(byte) % PRINTABLE.len()],
                _ => {
                    let end = (at + 1 + usize::from(byte) % 40).min(bytes.len());
                    bytes.drain(at..end);
                }
            }
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("damaged.toml");
        fs::write(&path, &bytes).expect("written");
        if let Err(error) = Study::load(&path.to_string_lossy(), &Overrides::default()) {
            prop_assert!(error.render(true).contains("error"));
            prop_assert!(!error.diagnostics().is_empty());
        }
    }
}
