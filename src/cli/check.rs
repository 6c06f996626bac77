//! `simlab check`: everything that `run` would refuse, without running.

use std::fmt::Write as _;

use clap::Args;

use super::console::Console;
use super::run::OverrideArguments;
use super::{Exit, Failure};
use crate::scenario::model::Study;

/// Flags of `check`.
#[derive(Args)]
pub(super) struct Arguments {
    /// Scenario files; `-` reads standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<String>,
    #[command(flatten)]
    overrides: OverrideArguments,
}

/// One line per good file on stdout, one message per bad one on stderr.
pub(super) fn check(arguments: &Arguments, console: &Console) -> Result<Exit, Failure> {
    let overrides = arguments.overrides.overrides();
    let mut exit = Exit::OK;
    for file in &arguments.files {
        match Study::load(file, &overrides) {
            Ok(study) => {
                console.print(&described(file, &study))?;
                study.warnings.iter().for_each(|warning| console.warn(warning));
            }
            Err(error) => {
                console.complain(&error.render(console.colour_err));
                exit = Exit::INPUT;
            }
        }
    }
    Ok(exit)
}

/// `scenarios/typhoon.toml: ok: 5 strategies x 5 replications of 3h, 8 services, 2 sources, 4 thresholds`.
fn described(file: &str, study: &Study) -> String {
    let mut text = format!("{file}: ok: {}", counted(study.strategies.len(), "strategy", "strategies"));
    write!(text, " x {}", counted(study.replications as usize, "replication", "replications")).expect(STRING);
    write!(text, " of {}", study.duration).expect(STRING);
    if let Some(strategy) = study.strategies.get(study.baseline) {
        let scenario = &strategy.scenario;
        write!(text, ", {}", counted(scenario.services.len(), "service", "services")).expect(STRING);
        write!(text, ", {}", counted(scenario.sources.len(), "source", "sources")).expect(STRING);
    }
    if !study.thresholds.is_empty() {
        write!(text, ", {}", counted(study.thresholds.len(), "threshold", "thresholds")).expect(STRING);
    }
    text.push('\n');
    text
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

const STRING: &str = "writing into a string cannot fail";
