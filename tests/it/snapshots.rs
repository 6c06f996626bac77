//! What people read, pinned as text: the summary, the tables, and the words on the charts.
//!
//! `SIMLAB_LOOK=folder cargo test --test it snapshots` also writes the whole results folder there, for looking at.

mod sample;

use std::convert::Infallible;

use simlab::lab::outcome::StudyOutcome;
use simlab::report::{self, ResultFile, WallClock};

const WALL: WallClock = WallClock { seconds: 41.5, threads: 2 };

fn files(outcome: &StudyOutcome) -> Vec<ResultFile> {
    let mut files = Vec::new();
    let Ok(()) = report::render(outcome, &WALL, |file| {
        files.push(file);
        Ok::<(), Infallible>(())
    });
    files
}

fn text(files: &[ResultFile], path: &str) -> String {
    let file = files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("{path} is missing"));
    String::from_utf8(file.bytes.clone()).expect("text")
}

#[test]
fn the_whole_folder_can_be_looked_at() {
    let files = files(&sample::typhoon());
    if let Some(folder) = std::env::var_os("SIMLAB_LOOK") {
        for file in &files {
            let path = std::path::Path::new(&folder).join(&file.path);
            std::fs::create_dir_all(path.parent().expect("inside the folder")).expect("creates");
            std::fs::write(path, &file.bytes).expect("writes");
        }
    }
    let mut known = report::known_paths();
    let mut made: Vec<String> = files.into_iter().map(|file| file.path).collect();
    known.sort();
    made.sort();
    assert_eq!(known, made, "the sample shows everything there is");
}
