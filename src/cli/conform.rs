//! `simlab conform`: do the policies still do what their originals do?

use std::path::PathBuf;

use clap::Args;

use super::console::Console;
use super::{Exit, Failure};
use crate::conform::{self, queueing::Effort};

/// Flags of `conform`.
#[derive(Args)]
pub(super) struct Arguments {
    /// File or folder of vectors (*.json) or queueing tables (*.csv)
    #[arg(value_name = "PATH", default_value = "tests/vectors")]
    path: PathBuf,
    /// Print one JSON document instead of the table
    #[arg(long)]
    json: bool,
    /// Print the fidelity cards (docs/FIDELITY.md) instead of the table
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Fail if any case is skipped, too
    #[arg(long)]
    strict: bool,
    /// Root seed of the scenarios that reproduce queueing tables
    #[arg(long, default_value_t = Effort::default().seed, value_name = "SEED")]
    seed: u64,
}

/// Replays and counts.
pub(super) fn conform(arguments: &Arguments, console: &Console) -> Result<Exit, Failure> {
    let effort = Effort { seed: arguments.seed, ..Effort::default() };
    let report = conform::run_path(&arguments.path, arguments.strict, &effort)
        .map_err(|error| Failure::new(Exit::INPUT, error))?;
    let text = match arguments {
        Arguments { json: true, .. } => format!("{:#}\n", report.json()),
        Arguments { markdown: true, .. } => report.cards(),
        Arguments { .. } => report.table(),
    };
    console.print(&text)?;
    Ok(if report.is_ok() { Exit::OK } else { Exit::INTERNAL })
}
