//! A scenario that is refused says where, why, and what to write instead. Each file of `tests/broken` has one mistake
//! (its first line says which); its message is a snapshot.

use std::fs;
use std::path::Path;

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
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(name, message);
        });
    }
}

#[test]
fn every_shipped_scenario_loads() {
    for folder in ["scenarios", "scenarios/bench"] {
        for entry in fs::read_dir(folder).expect("the folder is part of the repository") {
            let path = entry.expect("readable").path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let path = path.to_string_lossy();
                let loaded = Study::load(&path, &Overrides::default());
                assert!(loaded.is_ok(), "{}", loaded.unwrap_err());
            }
        }
    }
}
