//! `simlab calibrate --load load.csv --latency latency.csv ..`: laws for a scenario from what production measures.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::backtest::{UnitWord, time};
use super::console::Console;
use super::{Exit, Failure};
use crate::lab::calibrate::{Measured, calibrate as fit};
use crate::random::law::{Dimension, Law};
use crate::report::calibrate as report;
use crate::scenario::recording::{Quantity, Reading, Recording};
use crate::time::Duration;
use crate::units::UnitError;

/// Flags of `calibrate`.
#[derive(Args)]
pub(super) struct Arguments {
    /// Load over time, as `backtest` reads it; its columns of CPU, replicas and latency count, too
    #[arg(long, value_name = "FILE")]
    load: String,
    /// Latency over time: CSV with columns such as `latency_p99_ms`, or a query answer with mean seconds
    #[arg(long, value_name = "FILE")]
    latency: Option<String>,
    /// Latency of a quiet time as Prometheus histogram buckets
    #[arg(long, value_name = "FILE")]
    buckets: Option<String>,
    /// Cores in use over time
    #[arg(long, value_name = "FILE")]
    cpu: Option<String>,
    /// Instances, where no column says it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    replicas: u32,
    /// Cores of an instance [default: what explains the latencies best]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    cores: Option<u32>,
    /// What the load counts, over what its header says
    #[arg(long, value_enum, value_name = "UNIT")]
    unit: Option<UnitWord>,
    /// Longest gap in a recording that is bridged
    #[arg(long, value_name = "TIME", default_value = "10min", value_parser = time)]
    max_gap: Duration,
    /// Write a scenario that replays the load under the laws found, and its load beside it
    #[arg(long, value_name = "FILE")]
    scenario_out: Option<PathBuf>,
    /// Print one JSON document instead of the report
    #[arg(long)]
    json: bool,
}

/// Reads, fits, tells.
pub(super) fn calibrate(arguments: &Arguments, console: &Console) -> Result<Exit, Failure> {
    let read = |path: &str, bare| {
        let unit = arguments.unit.map(UnitWord::unit).filter(|_| bare == Quantity::Rate);
        let reading = Reading { bare, unit, longest_gap: arguments.max_gap };
        Recording::read(path, &reading).map_err(|error| Failure::input(error.render(console.colour_err)))
    };
    let load = read(&arguments.load, Quantity::Rate)?;
    let cpu = arguments.cpu.as_deref().map(|path| read(path, Quantity::CpuCores)).transpose()?;
    let latency = arguments.latency.as_deref().map(|path| read(path, Quantity::MeanLatency)).transpose()?;
    let input = |error: &dyn std::fmt::Display| Failure::new(Exit::INPUT, error);
    let mut measured = Measured::of(&load, cpu.as_ref(), latency.as_ref(), arguments.replicas)
        .map_err(|error| input(&error))?;
    measured.cores = arguments.cores;
    if let Some(path) = &arguments.buckets {
        let law =
            histogram(path).map_err(|error| input(&error.to_string().replace("\nhint:", "\n\nhint:")))?;
        measured.buckets =
            law.bucket_shares().into_iter().map(|(bound, share)| (bound / 1e9, share)).collect();
    }
    let found = fit(&measured).map_err(|error| input(&error))?;

    let known = || measured.rate.iter().copied().filter(|rate| rate.is_finite());
    let (count, sum) = (known().count().max(1) as f64, known().sum::<f64>());
    let replicas = measured.replicas.iter().copied().fold(1.0, f64::max) as u32;
    if let Some(path) = &arguments.scenario_out {
        let stem = path
            .file_stem()
            .map_or_else(|| "calibrated".to_owned(), |stem| stem.to_string_lossy().into_owned());
        let data = format!("{stem}-load.csv");
        let mut csv = "# requests per second\nt_s,request\n".to_owned();
        for (t, rate) in load.t_s.iter().zip(&measured.rate) {
            let _ = writeln!(csv, "{t},{}", if rate.is_finite() { *rate } else { 0.0 });
        }
        let text = report::scenario(&found, replicas, load.length(), Ok(&data));
        for (path, text) in [(path.with_file_name(&data), &csv), (path.clone(), &text)] {
            fs::write(&path, text).map_err(|error| {
                Failure::new(Exit::INTERNAL, format!("cannot write `{}`: {error}", path.display()))
            })?;
        }
    }
    let snippet = report::scenario(&found, replicas, load.length().min(3600.0), Err(sum / count));
    if arguments.json {
        console.print(&format!("{:#}\n", report::json(&found, &snippet)))?;
    } else {
        console.print(&format!("{}\n{snippet}\n{}\n", report::report(&found), report::verdict(&found)))?;
    }
    let notes = [Some(&load), cpu.as_ref(), latency.as_ref()];
    notes
        .into_iter()
        .flatten()
        .flat_map(|one| &one.notes)
        .chain(&found.warnings)
        .for_each(|words| console.warn(words));
    Ok(Exit::OK)
}

/// The file as the law `buckets(..)` reads it; what lies above its highest bound is taken to lie on it.
fn histogram(path: &str) -> Result<Law, UnitError> {
    let content = fs::read(path).map_err(|error| UnitError::new(format!("cannot read `{path}`: {error}")))?;
    Law::parse("buckets(histogram)", Dimension::Time, &mut |_| Ok(content.clone()))
        .map_err(|error| UnitError { message: error.message.replacen("histogram", path, 1), ..error })
}
