//! Conformance: replays recorded cases through the very functions the policies call, and queueing tables through the
//! whole engine ([`queueing`]).
//!
//! One adapter per vector family, in the file of its policy family; [`ADAPTERS`] lists them all. [`run_path`] replays a
//! file or all files below a folder and gives a [`Report`]: what was replayed, from which upstream, how the cases were
//! obtained, and how many agree.
//!
//! A case that simlab declines because of its *configuration* is **refused** (the reason cites upstream and stands under
//! *Deliberate differences* of the policy); one whose policy or form simlab does not have is **skipped**. A case that
//! misses a field fails: a vector that cannot be read proves nothing.

pub mod autoscaler;
pub mod aws;
pub mod balancer;
pub mod breaker;
mod cards;
pub mod detector;
pub mod discovery;
pub mod election;
pub mod hedge;
pub mod host_selection;
pub mod judge;
pub mod keda;
pub mod knative;
pub mod limiter;
pub mod outlier;
pub mod queueing;
pub mod recommender;
pub mod retry;
pub mod rollout;
pub mod scheduler;
pub mod shedding;
mod table;
pub mod version_consistency;

use std::collections::BTreeMap;
use std::iter::Sum;
use std::ops::AddAssign;
use std::path::{Path, PathBuf};
use std::{fs, io};

use queueing::Effort;
use serde::Serialize;
use serde_json::{Value, json};

/// Result of one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Every expected column agrees.
    Passed,
    /// The first disagreement, in words.
    Failed(String),
    /// A predicate on the case's configuration says that this policy declines it; cites upstream.
    Refused(&'static str),
    /// simlab has no such policy or form yet.
    Skipped(&'static str),
}

/// Replays the cases of one vector family.
#[derive(Clone, Copy)]
pub struct Adapter {
    /// Schema id of the file (`simlab-conformance/1`, `simlab.vectors/1`, `simlab-autoscaler-vectors/1`).
    pub schema: &'static str,
    /// `family` of the file, or its `policy` where the schema has one.
    pub family: &'static str,
    /// The simlab algorithm it checks, as in a scenario: `limiter.seed-token-bucket`.
    pub algorithm: &'static str,
    /// Runs one case; `file` is the whole file without its cases.
    pub run: fn(file: &Value, case: &Value) -> Check,
}

/// Every adapter, by family of policies.
pub const ADAPTERS: &[&[Adapter]] = &[
    autoscaler::ADAPTERS,
    aws::ADAPTERS,
    balancer::ADAPTERS,
    breaker::ADAPTERS,
    detector::ADAPTERS,
    discovery::ADAPTERS,
    election::ADAPTERS,
    host_selection::ADAPTERS,
    hedge::ADAPTERS,
    judge::ADAPTERS,
    keda::ADAPTERS,
    knative::ADAPTERS,
    limiter::ADAPTERS,
    outlier::ADAPTERS,
    recommender::ADAPTERS,
    retry::ADAPTERS,
    rollout::ADAPTERS,
    scheduler::ADAPTERS,
    shedding::ADAPTERS,
    version_consistency::ADAPTERS,
];

/// Schema of breaker and limiter vectors: steps in columns.
pub const SCHEMA_STEPS: &str = "simlab-conformance/1";
/// Schema of balancer and rollout vectors: `in` and `out` per case.
pub const SCHEMA_IN_OUT: &str = "simlab.vectors/1";
/// Schema of autoscaler vectors: inputs and `expected` per case.
pub const SCHEMA_AUTOSCALER: &str = "simlab-autoscaler-vectors/1";

/// Failures kept per file; the rest is only counted.
const FAILURES_SHOWN: usize = 3;

/// Why a replay could not even begin. All of these are faults of the input (exit code 3).
#[derive(Debug, thiserror::Error)]
pub enum ConformError {
    /// The path or something below it cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not JSON.
    #[error("`{}` is not a JSON file: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// JSON, but not one of the known kinds of vectors.
    #[error(
        "`{}` has {found}; known are `{SCHEMA_STEPS}`, `{SCHEMA_IN_OUT}` and `{SCHEMA_AUTOSCALER}`",
        path.display()
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// What it says of itself.
        found: String,
    },
    /// A known schema, but the file lacks something that every file of it has.
    #[error("`{}` has no {missing}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        missing: &'static str,
    },
    /// A CSV file, but not a queueing table.
    #[error("`{}` is not a queueing table: {reason}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A file of neither kind.
    #[error("`{}` is neither a conformance file (*.json) nor a queueing table (*.csv)", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// A folder without anything to replay.
    #[error("there is nothing to replay below `{}`", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
}

/// How cases were obtained, from the strongest evidence to the weakest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obtained {
    /// Upstream's own code ran, or its own tests say so.
    Ran,
    /// Bodies of upstream's functions, carried by hand into a harness, ran.
    Harness,
    /// Upstream's code was rewritten line by line in another language, or followed by reading.
    Port,
    /// From a published formula, table or specification.
    Documentation,
    /// simlab's own definition: there is no upstream.
    Definition,
    /// From memory of a paper: provisional.
    Memory,
}

impl Obtained {
    /// All, in order.
    pub const ALL: [Self; 6] =
        [Self::Ran, Self::Harness, Self::Port, Self::Documentation, Self::Definition, Self::Memory];

    /// Its name in tables.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ran => "ran",
            Self::Harness => "harness",
            Self::Port => "port",
            Self::Documentation => "documentation",
            Self::Definition => "definition",
            Self::Memory => "memory",
        }
    }

    /// What it means.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ran => "upstream's own code ran with a controlled clock, or upstream's own tests say so",
            Self::Harness => "bodies of upstream's functions, carried by hand into a harness, ran",
            Self::Port => "upstream's code was rewritten line by line or followed by reading; it did not run",
            Self::Documentation => "from a published formula, table or specification",
            Self::Definition => "simlab's own definition; there is no upstream",
            Self::Memory => "from memory of a publication; provisional",
        }
    }

    /// Reads what a file of vectors says, each in its own words.
    fn read(words: &str) -> Option<Self> {
        let known = [
            ("ran", Self::Ran),
            ("generated", Self::Ran),
            ("upstream", Self::Ran),
            ("harness", Self::Harness),
            ("port", Self::Port),
            ("transliteration", Self::Port),
            ("derived-from-source", Self::Port),
            ("document", Self::Documentation),
            ("derived-from-docs", Self::Documentation),
            ("transcribed", Self::Documentation),
            ("definition", Self::Definition),
            ("re-expressed", Self::Definition),
            ("FROM MEMORY", Self::Memory),
        ];
        known.into_iter().find(|(word, _)| words.starts_with(word)).map(|(_, obtained)| obtained)
    }
}

/// Numbers of cases by result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Every expected value agreed.
    pub passed: u64,
    /// Something disagreed.
    pub failed: u64,
    /// Declined because of the configuration.
    pub refused: u64,
    /// No such policy or form yet.
    pub skipped: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.refused += other.refused;
        self.skipped += other.skipped;
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, counts| {
            sum += counts;
            sum
        })
    }
}

/// The replay of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The file, as it was reached.
    pub path: PathBuf,
    /// Family of its cases.
    pub family: String,
    /// The algorithm they check, as in a scenario; `None` if simlab has none yet.
    pub algorithm: Option<&'static str>,
    /// Upstream and version, as the file says.
    pub upstream: String,
    /// How the cases were obtained, in the file's words.
    pub provenance: String,
    /// Results, by how the cases were obtained.
    pub counts: BTreeMap<Obtained, Counts>,
    /// Case and message of the first failures.
    pub failures: Vec<(String, String)>,
    /// How many cases were refused or skipped for each reason that an adapter gave.
    pub reasons: BTreeMap<&'static str, u64>,
}

impl Row {
    /// Results of all its cases.
    pub fn totals(&self) -> Counts {
        self.counts.values().copied().sum()
    }
}

/// All that was replayed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was to be replayed.
    pub path: PathBuf,
    /// Whether skipped cases count against the result.
    pub strict: bool,
    /// One row per file of recorded cases, by algorithm; files without an algorithm come last.
    pub rows: Vec<Row>,
    /// Queueing tables.
    pub tables: Vec<Table>,
}

/// The replay of one queueing table.
#[derive(Clone, Debug)]
pub struct Table {
    /// The file, as it was reached.
    pub path: PathBuf,
    /// One line per row of the table.
    pub lines: Vec<queueing::Line>,
}

impl Table {
    /// Rows by result.
    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for line in &self.lines {
            match line.verdict {
                queueing::Verdict::Passed => counts.passed += 1,
                queueing::Verdict::Failed(_) => counts.failed += 1,
                queueing::Verdict::Skipped(_) => counts.skipped += 1,
            }
        }
        counts
    }
}

/// Replays the conformance file or queueing table at `path`, or every one below it; tables with the `effort` given. With
/// `strict`, skipped cases spoil the result.
pub fn run_path(path: &Path, strict: bool, effort: &Effort) -> Result<Report, ConformError> {
    let metadata = fs::metadata(path).map_err(|source| read_error(path, source))?;
    let mut files = Vec::new();
    if metadata.is_dir() {
        find_files(path, &mut files)?;
        if files.is_empty() {
            return Err(ConformError::Empty { path: path.to_owned() });
        }
    } else {
        files.push(path.to_owned());
    }
    let (mut rows, mut tables) = (Vec::new(), Vec::new());
    for file in &files {
        match kind_of(file) {
            Some(Kind::Vectors) => rows.push(replay_vectors(file)?),
            Some(Kind::Queueing) => tables.push(replay_table(file, effort)?),
            None => return Err(ConformError::Kind { path: file.clone() }),
        }
    }
    rows.sort_by(|a, b| {
        let key = |row: &Row| (row.algorithm.is_none(), row.algorithm, row.family.clone(), row.path.clone());
        key(a).cmp(&key(b))
    });
    Ok(Report { path: path.to_owned(), strict, rows, tables })
}

/// Every file below `folder` that can be replayed, in the order of their names.
fn find_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), ConformError> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut paths: Vec<_> =
        entries.map_err(|source| read_error(folder, source))?.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            find_files(&path, files)?;
        } else if kind_of(&path).is_some() {
            files.push(path);
        }
    }
    Ok(())
}

/// What a file holds, by its extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Recorded cases of policies.
    Vectors,
    /// Values known from queueing theory.
    Queueing,
}

fn kind_of(path: &Path) -> Option<Kind> {
    match path.extension()?.to_str()? {
        "json" => Some(Kind::Vectors),
        "csv" => Some(Kind::Queueing),
        _ => None,
    }
}

fn read_error(path: &Path, source: io::Error) -> ConformError {
    ConformError::Read { path: path.to_owned(), source }
}

/// Replays one queueing table.
fn replay_table(path: &Path, effort: &Effort) -> Result<Table, ConformError> {
    let text = fs::read(path).map_err(|source| read_error(path, source))?;
    let rows =
        queueing::read(&text).map_err(|reason| ConformError::Table { path: path.to_owned(), reason })?;
    let lines = queueing::replay(&rows, effort);
    Ok(Table { path: path.to_owned(), lines })
}

/// Replays one file of recorded cases.
fn replay_vectors(path: &Path) -> Result<Row, ConformError> {
    let text = fs::read(path).map_err(|source| read_error(path, source))?;
    let mut file: Value = serde_json::from_slice(&text)
        .map_err(|source| ConformError::Json { path: path.to_owned(), source })?;
    let missing = |missing| ConformError::Shape { path: path.to_owned(), missing };

    let schema = match file.get("schema").and_then(Value::as_str) {
        Some(schema) => schema.to_owned(),
        None => return Err(ConformError::Schema { path: path.to_owned(), found: "no schema".to_owned() }),
    };
    let (family_key, upstream, provenance) = match schema.as_str() {
        SCHEMA_STEPS => {
            ("policy", text_at(&file, "/provenance/implementation"), text_at(&file, "/provenance/kind"))
        }
        SCHEMA_IN_OUT => {
            let (project, revision) = (text_at(&file, "/source/project"), text_at(&file, "/source/revision"));
            let upstream =
                if revision.contains(&project) { revision } else { format!("{project} {revision}") };
            ("family", upstream, text_at(&file, "/source/how"))
        }
        SCHEMA_AUTOSCALER => ("family", text_at(&file, "/upstream"), text_at(&file, "/defaults/src")),
        _ => {
            let found = format!("the unknown schema `{schema}`");
            return Err(ConformError::Schema { path: path.to_owned(), found });
        }
    };
    let family = file.get(family_key).and_then(Value::as_str).ok_or_else(|| missing("family"))?.to_owned();
    let cases = match file.get_mut("cases").map(Value::take) {
        Some(Value::Array(cases)) if !cases.is_empty() => cases,
        _ => return Err(missing("cases")),
    };

    let adapter = ADAPTERS
        .iter()
        .flat_map(|family| family.iter())
        .find(|adapter| adapter.schema == schema && adapter.family == family);
    let mut row = Row {
        path: path.to_owned(),
        family,
        algorithm: adapter.map(|adapter| adapter.algorithm),
        upstream,
        provenance,
        counts: BTreeMap::new(),
        failures: Vec::new(),
        reasons: BTreeMap::new(),
    };
    for (number, case) in cases.iter().enumerate() {
        // In files about autoscalers each case may say for itself where it comes from.
        let source = case.get("src").and_then(Value::as_str).unwrap_or(&row.provenance);
        let obtained =
            Obtained::read(source).ok_or_else(|| missing("known word for how its cases were obtained"))?;
        let counts = row.counts.entry(obtained).or_default();
        match adapter.map(|adapter| (adapter.run)(&file, case)) {
            None => counts.skipped += 1,
            Some(Check::Passed) => counts.passed += 1,
            Some(Check::Failed(message)) => {
                counts.failed += 1;
                if row.failures.len() < FAILURES_SHOWN {
                    row.failures.push((case_id(case, number), message));
                }
            }
            Some(Check::Refused(reason)) => {
                counts.refused += 1;
                *row.reasons.entry(reason).or_default() += 1;
            }
            Some(Check::Skipped(reason)) => {
                counts.skipped += 1;
                *row.reasons.entry(reason).or_default() += 1;
            }
        }
    }
    Ok(row)
}

fn text_at(file: &Value, pointer: &str) -> String {
    file.pointer(pointer).and_then(Value::as_str).unwrap_or("?").to_owned()
}

/// The name of a case, or its position.
fn case_id(case: &Value, number: usize) -> String {
    let id = case.get("id").or_else(|| case.get("name")).and_then(Value::as_str);
    id.map_or_else(|| format!("#{number}"), str::to_owned)
}

impl Report {
    /// Sums over all files.
    pub fn totals(&self) -> Counts {
        self.rows.iter().map(Row::totals).chain(self.tables.iter().map(Table::counts)).sum()
    }

    /// Whether nothing failed, and with `strict` nothing was skipped either.
    pub fn is_ok(&self) -> bool {
        let totals = self.totals();
        totals.failed == 0 && !(self.strict && totals.skipped > 0)
    }

    /// The last line: `N passed, M failed, R refused, S skipped`.
    pub fn summary(&self) -> String {
        let Counts { passed, failed, refused, skipped } = self.totals();
        format!("{passed} passed, {failed} failed, {refused} refused, {skipped} skipped")
    }

    /// The same for machines, with the texts in full.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let failures: Vec<Value> = row
                    .failures
                    .iter()
                    .map(|(case, message)| json!({ "case": case, "message": message }))
                    .collect();
                json!({
                    "algorithm": row.algorithm,
                    "family": row.family,
                    "file": row.path.to_string_lossy(),
                    "upstream": row.upstream,
                    "provenance": row.provenance,
                    "counts": row.totals(),
                    "obtained": row.counts,
                    "failures": failures,
                    "reasons": row.reasons,
                })
            })
            .collect();
        let tables: Vec<Value> = self
            .tables
            .iter()
            .map(|table| {
                json!({
                    "file": table.path.to_string_lossy(),
                    "counts": table.counts(),
                    "rows": queueing::json(&table.lines),
                })
            })
            .collect();
        json!({
            "strict": self.strict, "ok": self.is_ok(), "totals": self.totals(), "rows": rows, "tables": tables,
        })
    }
}

// What adapters read cases with. Errors are in words, and become the message of a failed case.

/// An adapter's answer: what cannot be read or does not agree has failed.
fn verdict(replayed: Result<Check, String>) -> Check {
    replayed.unwrap_or_else(Check::Failed)
}

/// The field `key` of `object`.
fn field<'a>(object: &'a Value, key: &str) -> Result<&'a Value, String> {
    object.get(key).ok_or_else(|| format!("the case has no `{key}`"))
}

/// A whole number that is not negative.
fn integer(value: &Value) -> Result<u64, String> {
    value.as_u64().ok_or_else(|| format!("`{value}` is not a whole number"))
}

/// Any number.
fn number(value: &Value) -> Result<f64, String> {
    value.as_f64().ok_or_else(|| format!("`{value}` is not a number"))
}

/// A text.
fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("`{value}` is not a text"))
}

/// A list.
fn list(value: &Value) -> Result<&[Value], String> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| format!("`{value}` is not a list"))
}

/// Says where two values differ.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, got: &T) -> Result<(), String> {
    if expected == got { Ok(()) } else { Err(format!("{what}: expected {expected:?}, got {got:?}")) }
}

/// Says where two numbers differ by more than the relative tolerance.
fn close(what: &str, expected: f64, got: f64, relative: f64) -> Result<(), String> {
    if (expected - got).abs() <= relative * expected.abs().max(got.abs()) {
        Ok(())
    } else {
        Err(format!("{what}: expected {expected}, got {got}"))
    }
}

/// One step of a case of [`SCHEMA_STEPS`], by column name.
#[derive(Clone, Copy)]
struct Step<'a> {
    columns: &'a [Value],
    cells: &'a [Value],
    /// Position in the case, for messages.
    number: usize,
}

/// The steps of a case of [`SCHEMA_STEPS`].
fn steps<'a>(file: &'a Value, case: &'a Value) -> Result<impl Iterator<Item = Step<'a>>, String> {
    let columns = list(field(file, "columns")?)?;
    let rows = list(field(case, "steps")?)?;
    if rows.is_empty() {
        return Err("the case has no steps".to_owned());
    }
    Ok(rows.iter().enumerate().map(move |(number, row)| Step {
        columns,
        cells: row.as_array().map_or(&[][..], Vec::as_slice),
        number,
    }))
}

impl<'a> Step<'a> {
    /// The cell in column `name`.
    fn cell(self, name: &str) -> Result<&'a Value, String> {
        let column = self.columns.iter().position(|column| column.as_str() == Some(name));
        let cell = column.and_then(|column| self.cells.get(column));
        cell.ok_or_else(|| self.at(&format!("there is no column `{name}`")))
    }

    /// A whole number.
    fn integer(self, name: &str) -> Result<u64, String> {
        integer(self.cell(name)?).map_err(|message| self.at(&message))
    }

    /// Any number.
    fn number(self, name: &str) -> Result<f64, String> {
        number(self.cell(name)?).map_err(|message| self.at(&message))
    }

    /// A text.
    fn text(self, name: &str) -> Result<&'a str, String> {
        text(self.cell(name)?).map_err(|message| self.at(&message))
    }

    /// Compares a whole number; `null` in the file stands for nothing to compare.
    fn expect(self, name: &str, got: u64) -> Result<(), String> {
        match self.cell(name)? {
            Value::Null => Ok(()),
            expected => same(name, &integer(expected)?, &got).map_err(|message| self.at(&message)),
        }
    }

    /// `message` with the place of this step.
    fn at(self, message: &str) -> String {
        format!("step {}: {message}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_vector_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let run = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            run_path(&path, false, &Effort::default()).unwrap_err().to_string()
        };
        assert!(
            run_path(&folder.path().join("none.json"), false, &Effort::default())
                .unwrap_err()
                .to_string()
                .contains("cannot read")
        );
        assert!(
            run_path(folder.path(), false, &Effort::default())
                .unwrap_err()
                .to_string()
                .contains("nothing to replay")
        );
        assert!(run("a.json", b"\x00\xff").contains("is not a JSON file"));
        assert!(run("b.json", b"[]").contains("has no schema"));
        assert!(run("c.json", br#"{"schema": "x/9"}"#).contains("the unknown schema `x/9`; known are"));
        assert!(run("d.json", br#"{"schema": "simlab.vectors/1"}"#).contains("has no family"));
        assert!(run("e.json", br#"{"schema": "simlab.vectors/1", "family": "f"}"#).contains("has no cases"));
        let odd =
            br#"{"schema": "simlab.vectors/1", "family": "f", "source": {"how": "dreamt"}, "cases": [{}]}"#;
        assert!(run("g.json", odd).contains("has no known word for how its cases were obtained"));
        assert!(run("f.txt", b"").contains("neither a conformance file"));
    }

    #[test]
    fn a_case_that_cannot_be_read_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed.json");
        let file = json!({
            "schema": SCHEMA_STEPS, "policy": "seed", "columns": ["t", "op"], "provenance": { "kind": "definition" },
            "cases": [{ "name": "broken", "config": {} }],
        });
        fs::write(&path, file.to_string()).unwrap();
        let report = run_path(&path, false, &Effort::default()).unwrap();
        assert_eq!(report.totals(), Counts { failed: 1, ..Counts::default() });
        assert!(!report.is_ok());
        assert!(report.table().contains("case broken: the case has no"), "{}", report.table());
        assert!(report.table().ends_with("\n0 passed, 1 failed, 0 refused, 0 skipped\n"));
    }

    #[test]
    fn strict_minds_what_is_skipped() {
        let row = Row {
            path: PathBuf::new(),
            family: "f".to_owned(),
            algorithm: None,
            upstream: String::new(),
            provenance: "ran".to_owned(),
            counts: BTreeMap::from([(Obtained::Ran, Counts { skipped: 1, ..Counts::default() })]),
            failures: Vec::new(),
            reasons: BTreeMap::new(),
        };
        let report =
            |strict| Report { path: PathBuf::new(), strict, rows: vec![row.clone()], tables: Vec::new() };
        assert!(report(false).is_ok());
        assert!(!report(true).is_ok());
    }
}
