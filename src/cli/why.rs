//! `simlab why DIR`: what an autoscaler, or whoever else decides, did at a moment, and why, in plain words.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use clap::Args;

use super::console::Console;
use super::{Exit, Failure};
use crate::report::why::{Line, explained};
use crate::time::Duration;
use crate::units::parse_duration;

/// Flags of `why`.
#[derive(Args)]
pub(super) struct Arguments {
    /// Results folder of an earlier run
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Service whose autoscaler is meant; may be left out if there is only one
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Who decided: autoscaler, provisioner, recommender, breaker ...
    #[arg(long, value_name = "KIND", default_value = AUTOSCALER)]
    kind: String,
    /// Simulated time, such as 1h12m: the last decision at or before it
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Duration,
    /// Strategy; may be left out if only one has an autoscaler there
    #[arg(long, value_name = "NAME")]
    strategy: Option<String>,
    /// Replication, from 1
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    replication: u32,
}

const AUTOSCALER: &str = "autoscaler";

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// Finds the decision and prints it.
pub(super) fn why(arguments: &Arguments, console: &Console) -> Result<Exit, Failure> {
    let path = arguments.folder.join("decisions.jsonl");
    let (mut kinds, mut services, mut strategies) = (Vec::new(), Vec::new(), Vec::new());
    let mut found: Option<Line> = None;
    for line in lines(&path)? {
        let line = line?;
        note(&mut kinds, &line.kind);
        if line.kind != arguments.kind {
            continue;
        }
        let is_service = arguments.service.as_ref().is_none_or(|name| *name == line.subject);
        note(&mut services, &line.subject);
        if !is_service {
            continue;
        }
        note(&mut strategies, &line.strategy);
        let is_wanted = arguments.strategy.as_ref().is_none_or(|name| *name == line.strategy)
            && line.replication + 1 == arguments.replication
            && line.t_s <= arguments.at.as_secs_f64();
        if is_wanted && found.as_ref().is_none_or(|found| found.t_s <= line.t_s) {
            found = Some(line);
        }
    }
    let kind = &arguments.kind;
    if services.is_empty() {
        let mut message = format!("`{}` holds no decision of this kind: {kind}", path.display());
        if !kinds.is_empty() {
            let _ = write!(message, "\n\nhint: it has --kind {}", kinds.join(", --kind "));
        }
        return Err(Failure::new(Exit::INPUT, message));
    }
    // Machines come and go one by one, each under its own name; the last one is meant.
    if kind == AUTOSCALER || arguments.service.is_some() {
        one_of(kind, "service", "--service", arguments.service.as_deref(), &services)?;
    }
    one_of(kind, "strategy", "--strategy", arguments.strategy.as_deref(), &strategies)?;
    let Some(line) = found else {
        let message =
            format!("replication {} has no decision at or before {}", arguments.replication, arguments.at);
        return Err(Failure::new(Exit::INPUT, message));
    };
    console.print(&explained(&line))?;
    Ok(Exit::OK)
}

/// The decisions in a file.
fn lines(path: &Path) -> Result<impl Iterator<Item = Result<Line, Failure>>, Failure> {
    let unread = |error: &dyn std::fmt::Display| {
        let hint = "give the folder that `simlab run` wrote";
        Failure::new(Exit::INPUT, format!("cannot read `{}`: {error}\n\nhint: {hint}", path.display()))
    };
    let file = File::open(path).map_err(|error| unread(&error))?;
    let name = path.display().to_string();
    Ok(BufReader::new(file).lines().enumerate().map(move |(at, line)| {
        let wrong = |error: &dyn std::fmt::Display| {
            Failure::new(Exit::INPUT, format!("`{name}`, line {}: {error}", at + 1))
        };
        let line = line.map_err(|error| wrong(&error))?;
        serde_json::from_str::<Line>(&line).map_err(|error| wrong(&error))
    }))
}

fn note(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

/// Whether the one that is meant is clear.
fn one_of(kind: &str, what: &str, flag: &str, wanted: Option<&str>, known: &[String]) -> Result<(), Failure> {
    let list = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match wanted {
        Some(name) if !known.iter().any(|known| known == name) => {
            let message =
                format!("no {what} with decisions of kind {kind} is called `{name}`\n\nknown: {list}");
            Err(Failure::new(Exit::INPUT, message))
        }
        None if known.len() > 1 => {
            let message = format!(
                "which {what}? Several have a decision of kind {kind}: {list}\n\nhint: add {flag} {}",
                known[0]
            );
            Err(Failure::new(Exit::USAGE, message))
        }
        _ => Ok(()),
    }
}
