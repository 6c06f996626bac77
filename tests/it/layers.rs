//! Imports point strictly down. This test reads the source as text, which is why the house style is absolute `crate::`
//! paths between modules.

use std::fs;
use std::path::{Path, PathBuf};

/// Every top-level module with its layer and its place there. A module may import what has a smaller pair; equal
/// pairs are siblings and may not import each other.
const LAYERS: &[(&str, (u32, u32))] = &[
    ("time", (0, 0)),
    ("units", (0, 1)),
    ("random", (0, 2)),
    ("stats", (0, 3)),
    ("policies", (1, 0)),
    ("kernel", (1, 0)),
    ("scenario", (2, 0)),
    ("world", (2, 0)),
    ("lab", (3, 0)),
    ("conform", (3, 1)),
    ("report", (4, 0)),
    ("cli", (5, 0)),
    ("main", (5, 1)),
];

/// What only the command line may do.
const COMMAND_LINE_ONLY: &[&str] = &[
    "println!(",
    "eprintln!(",
    "print!(",
    "eprint!(",
    "Instant::now",
    "SystemTime::now",
    "process::exit",
    "stdout()",
    "stderr()",
];

#[test]
fn imports_point_strictly_down() {
    let mut wrong = Vec::new();
    let mut crossings = 0;
    for line in source_lines() {
        for target in imported_modules(&line.code) {
            if target == line.module {
                continue;
            }
            let Some(to) = place(&target) else {
                wrong.push(format!("{line}: `{target}` has no layer; name it in LAYERS and src/lib.rs, and import module by module"));
                continue;
            };
            crossings += 1;
            if to >= place(&line.module).expect("every file belongs to a layer") {
                wrong.push(format!("{line}: `{}` may not import `{target}`", line.module));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that do not point down:\n{}", wrong.join("\n"));
    assert!(crossings > 10, "only {crossings} imports between modules found: the scan is broken");
}

#[test]
fn only_assemble_knows_both_the_scenario_and_the_world() {
    let knows = |module: &str| -> Vec<PathBuf> {
        let mut files: Vec<_> = source_lines()
            .into_iter()
            .filter(|line| {
                line.module == "lab" && imported_modules(&line.code).iter().any(|name| name == module)
            })
            .map(|line| line.file)
            .collect();
        files.dedup();
        files
    };
    let world = knows("world");
    let both: Vec<_> = knows("scenario").into_iter().filter(|file| world.contains(file)).collect();
    assert!(
        both.iter().all(|file| file.ends_with("lab/assemble.rs")),
        "these know both scenario and world, which is the task of lab/assemble.rs alone: {both:?}"
    );
}

#[test]
fn only_the_command_line_prints_exits_or_reads_a_clock() {
    let mut wrong = Vec::new();
    for line in source_lines().into_iter().filter(|line| line.module != "cli" && line.module != "main") {
        for word in COMMAND_LINE_ONLY.iter().filter(|word| line.code.contains(**word)) {
            wrong.push(format!("{line}: `{word}` belongs to src/cli"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_module_is_named_for_what_does_not_fit_elsewhere() {
    let vague = ["utils", "util", "common", "helpers", "helper", "misc", "mod"];
    let files = rust_files(&source_root());
    let wrong: Vec<_> = files
        .iter()
        .filter(|file| vague.iter().any(|stem| file.file_stem() == Some(stem.as_ref())))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// A line of code with its comment cut off, and where it stands.
struct Line {
    file: PathBuf,
    number: usize,
    module: String,
    code: String,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let file = self.file.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(&self.file);
        write!(f, "{}:{}", file.display(), self.number)
    }
}

fn source_lines() -> Vec<Line> {
    let root = source_root();
    let mut lines = Vec::new();
    for file in rust_files(&root) {
        let module = module_of(&root, &file);
        if module == "lib" {
            continue; // declares the modules, belongs to none
        }
        let text = fs::read_to_string(&file).expect("source files are readable");
        for (index, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("").to_owned();
            lines.push(Line { file: file.clone(), number: index + 1, module: module.clone(), code });
        }
    }
    lines
}

/// `src/world/node.rs` and `src/world.rs` both belong to `world`.
fn module_of(root: &Path, file: &Path) -> String {
    let first = file.strip_prefix(root).expect("inside src").iter().next().expect("not empty");
    Path::new(first).file_stem().expect("a name").to_string_lossy().into_owned()
}

/// The top-level modules named after `crate::` (or `simlab::`, as the binary says) in a line. A brace list directly
/// behind it has an empty name, which no layer holds: one `use` per module keeps every import visible here.
fn imported_modules(code: &str) -> Vec<String> {
    let names = ["crate::", "simlab::"].into_iter().flat_map(|prefix| code.split(prefix).skip(1));
    names.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()).collect()
}

fn place(module: &str) -> Option<(u32, u32)> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, place)| *place)
}

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("src is readable") {
        let path = entry.expect("src is readable").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
