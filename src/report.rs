//! Exporters: pure functions from a [`StudyOutcome`] to bytes. Nothing here reads a clock, a file or the environment,
//! so the same outcome gives the same bytes on any number of threads; writing them is the command line's business.
//!
//! Adding a table is one function and one line in [`TABLES`]; adding a chart is one file under `chart/` and one line
//! in [`chart::CHARTS`].
//!
//! A metric that does not apply is absent, never zero. An infinite value (`latency_offered_p99_ms` when more than 1 %
//! of the requests are bad) is `inf` in CSV; JSON has no such number, so there it is `null` with `"infinite": true`.

pub mod backtest;
pub mod calibrate;
pub mod chart;
mod curves;
pub mod html;
pub mod quantity;
pub mod summary;
mod tables;
pub mod terminal;
pub mod trace;
pub mod why;

use crate::lab::outcome::StudyOutcome;

pub use summary::WallClock;
pub use tables::timeline_csv_within;

/// One file of a results folder.
#[derive(Clone, Debug)]
pub struct ResultFile {
    /// Path within the folder, with `/`.
    pub path: String,
    /// Content.
    pub bytes: Vec<u8>,
}

/// A table that depends on nothing but the outcome.
pub struct Table {
    /// Path within the results folder.
    pub path: &'static str,
    /// Content.
    pub render: fn(&StudyOutcome) -> Vec<u8>,
}

/// Every table, in the order in which they are written.
pub const TABLES: &[Table] = &[
    Table { path: "summary.json", render: summary::summary_json },
    Table { path: "summary.csv", render: tables::summary_csv },
    Table { path: "replications.csv", render: tables::replications_csv },
    Table { path: "timeline.csv", render: tables::timeline_csv },
    Table { path: "latency.csv", render: tables::latency_csv },
    Table { path: "decisions.jsonl", render: tables::decisions_jsonl },
    Table { path: "events.csv", render: tables::events_csv },
];

/// Renders every file of a results folder, one at a time, so that no more than one of the large tables is in memory.
///
/// `sink` takes each file; its first error ends the rendering and is handed on. Files that have nothing to show (a cost
/// chart without costs) are not made at all; [`known_paths`] lists all that could be.
pub fn render<E>(
    outcome: &StudyOutcome,
    wall: &WallClock,
    mut sink: impl FnMut(ResultFile) -> Result<(), E>,
) -> Result<(), E> {
    sink(ResultFile { path: "run.json".to_owned(), bytes: summary::run_json(outcome, wall) })?;
    for table in TABLES {
        sink(ResultFile { path: table.path.to_owned(), bytes: (table.render)(outcome) })?;
    }
    let charts = chart::draw_all(outcome);
    for chart in &charts {
        sink(ResultFile { path: chart.path(), bytes: chart.svg.clone().into_bytes() })?;
    }
    sink(ResultFile { path: "report.html".to_owned(), bytes: html::report_html(outcome, &charts) })
}

/// Paths of all files that [`render`] and [`trace::files`] may make, so that a folder can be cleared of those of an earlier run.
pub fn known_paths() -> Vec<String> {
    let tables = TABLES.iter().map(|table| table.path.to_owned());
    let charts = chart::CHARTS.iter().map(|entry| chart::path(entry.slug));
    let traces = trace::PATHS.iter().map(|path| (*path).to_owned());
    let fixed = ["run.json".to_owned(), "report.html".to_owned()];
    fixed.into_iter().chain(tables).chain(charts).chain(traces).collect()
}
