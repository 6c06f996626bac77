//! `simlab backtest LOAD --manifest hpa.yaml ..`: what autoscalers would have done under a recorded load.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::console::Console;
use super::run::{Job, OutputArguments, perform};
use super::{Exit, Failure};
use crate::lab::backtest::Replay;
use crate::report;
use crate::scenario::backtest::{self, Assumptions, Contender, Written};
use crate::scenario::model::Study;
use crate::scenario::recording::{Quantity, RateUnit, Reading, Recording};
use crate::scenario::{Overrides, ScenarioError};
use crate::time::Duration;
use crate::units::{UnitError, parse_duration};

/// Flags of `backtest`.
#[derive(Args)]
pub(super) struct Arguments {
    /// Load over time: answer of a Prometheus range query (JSON), or CSV; `-` reads standard input
    #[arg(value_name = "LOAD")]
    load: String,
    /// Manifest with an autoscaler, or a folder of manifests; may be repeated
    #[arg(long = "manifest", value_name = "PATH", required_unless_present = "policies")]
    manifests: Vec<String>,
    /// Autoscaler as in a scenario, e.g. 'seed-formula = { .. }'; may be repeated
    #[arg(long = "policy", value_name = "NAME = { .. }")]
    policies: Vec<String>,
    /// What is scaled, if a manifest scales several things
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Multiply the load, e.g. 1.5 for half as much again
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = factor)]
    scale: f64,
    /// What LOAD counts, over what its header says
    #[arg(long, value_enum, value_name = "UNIT")]
    unit: Option<UnitWord>,
    /// Cores in use over time: as the load, or CSV with a column `cpu_cores` or `cpu_per_request`
    #[arg(long, value_name = "FILE")]
    cpu: Option<String>,
    /// CPU time of one request: a duration or a law, e.g. 60ms
    #[arg(long, value_name = "LAW", conflicts_with = "cpu")]
    cpu_per_request: Option<String>,
    /// Cores of an instance [default: its limit in the manifest, else 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    cores: Option<u32>,
    /// CPU request of an instance, which utilization is measured against [default: the manifest's, else its cores]
    #[arg(long, value_name = "CORES", value_parser = factor)]
    cpu_request: Option<f64>,
    /// Memory in use of an idle instance, and what each request inside adds, e.g. 300MiB or 300MiB+2MiB
    #[arg(long, value_name = "SIZE[+SIZE]")]
    memory_use: Option<String>,
    /// Requests that an instance works on at one moment [default: 16 per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    workers: Option<u32>,
    /// Requests that wait at an instance before it refuses more
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_queue: u32,
    /// From the decision for a new instance until it is ready
    #[arg(long, value_name = "LAW", default_value = "lognormal(30s, cv=0.3)")]
    start: String,
    /// Answers after this long are bad
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = time)]
    deadline: Duration,
    /// Instances at the start [default: the manifest's, else what the first value needs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    replicas: Option<u32>,
    /// Price of an instance, e.g. 0.05/h
    #[arg(long, value_name = "PRICE")]
    price: Option<String>,
    /// Share of good answers that is wanted
    #[arg(long, value_name = "SHARE", default_value = "99.9%")]
    objective: String,
    /// What a metric of the cluster is here, e.g. http_requests=service.front.requests-per-second; may be repeated
    #[arg(long = "metric", value_name = "THERE=HERE", value_parser = pair)]
    metrics: Vec<(String, String)>,
    /// Longest gap in a recording that is bridged
    #[arg(long, value_name = "TIME", default_value = "10min", value_parser = time)]
    max_gap: Duration,
    /// Simulate one request for so many [default: by the length of the load]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    thin: Option<u32>,
    /// Root seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Runs per policy
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    replications: u64,
    /// Also write the scenario and its load, to go on with
    #[arg(long, value_name = "FILE")]
    scenario_out: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArguments,
}

/// `--unit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum UnitWord {
    /// Requests per second
    PerSecond,
    /// Requests per minute
    PerMinute,
    /// Requests per hour
    PerHour,
    /// Requests from each row to the next
    Count,
}

impl UnitWord {
    pub(super) const fn unit(self) -> RateUnit {
        match self {
            Self::PerSecond => RateUnit::PerSecond,
            Self::PerMinute => RateUnit::PerMinute,
            Self::PerHour => RateUnit::PerHour,
            Self::Count => RateUnit::Count,
        }
    }
}

pub(super) fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor > 0.0 => Ok(factor),
        _ => Err("write a number above zero, as in 1.5".to_owned()),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (there, here) = text.split_once('=').ok_or("write THERE=HERE")?;
    Ok((there.trim().to_owned(), here.trim().to_owned()))
}

/// Reads, runs, tells.
pub(super) fn backtest(arguments: &Arguments, console: &Console) -> Result<Exit, Failure> {
    let input = |error: ScenarioError| Failure::input(error.render(console.colour_err));
    let unit = arguments.unit.map(UnitWord::unit);
    let reading = |bare| Reading { bare, unit, longest_gap: arguments.max_gap };
    let load = Recording::read(&arguments.load, &reading(Quantity::Rate)).map_err(input)?;
    let cpu = match &arguments.cpu {
        Some(path) => Some(Recording::read(path, &reading(Quantity::CpuCores)).map_err(input)?),
        None => None,
    };
    let (service, contenders) = contenders(arguments).map_err(input)?;
    let written = backtest::write(&load, cpu.as_ref(), &service, contenders, &assumptions(arguments))
        .map_err(refused)?;
    let overrides = Overrides { seed: Some(arguments.seed), ..Overrides::default() };
    let study = if let Some(path) = &arguments.scenario_out {
        keep(&written, path)?;
        Study::load(&path.to_string_lossy(), &overrides)
    } else {
        let data = [(written.data.0.as_str(), written.data.1.as_str())];
        Study::from_parts("backtest.toml", &written.text, &data, &overrides)
    };
    let study = study.map_err(input)?;

    let replay = Replay {
        service: written.service.clone(),
        demand: written.demand.clone(),
        cores: written.cores,
        thin: written.thin,
        warm_up_s: study.warm_up.as_secs_f64(),
        objective: written.objective,
    };
    let notes: Vec<String> =
        [Some(&load), cpu.as_ref()].into_iter().flatten().flat_map(|one| one.notes.clone()).collect();
    let said: Vec<String> = notes.iter().chain(&written.assumptions).cloned().collect();
    let job = Job {
        trace: None,
        measure: &|run| replay.measure(run),
        conclude: &|outcome| {
            outcome.verdict = replay.verdict(outcome);
            outcome.warnings.extend(notes.iter().cloned());
        },
        summary: &|outcome, colour| report::backtest::summary(outcome, &said, colour),
    };
    perform(&study, &arguments.output, &job, console)
}

/// Who takes part, and what is scaled.
fn contenders(arguments: &Arguments) -> Result<(String, Vec<Contender>), ScenarioError> {
    let mut service = arguments.service.clone();
    let mut list = Vec::new();
    let folder = arguments.scenario_out.as_deref().and_then(Path::parent).unwrap_or_else(|| Path::new(""));
    for path in &arguments.manifests {
        let (target, contender) =
            backtest::of_manifest(path, folder, arguments.service.as_deref(), &arguments.metrics)?;
        service.get_or_insert(target);
        list.push(contender);
    }
    list.extend(arguments.policies.iter().map(|text| backtest::of_setting(text)));
    Ok((service.unwrap_or_else(|| "service".to_owned()), list))
}

fn assumptions(arguments: &Arguments) -> Assumptions {
    Assumptions {
        scale: arguments.scale,
        cpu_per_request: arguments.cpu_per_request.clone(),
        cores: arguments.cores,
        cpu_request: arguments.cpu_request,
        memory_use: arguments.memory_use.clone(),
        workers: arguments.workers,
        max_queue: arguments.max_queue,
        start: arguments.start.clone(),
        deadline: arguments.deadline,
        replicas: arguments.replicas,
        price: arguments.price.clone(),
        objective: arguments.objective.clone(),
        thin: arguments.thin,
        replications: arguments.replications,
    }
}

fn refused(error: UnitError) -> Failure {
    Failure::new(
        Exit::INPUT,
        match error.hint {
            Some(hint) => format!("{}\n\nhint: {hint}", error.message),
            None => error.message,
        },
    )
}

/// Writes the scenario, and its load beside it.
fn keep(written: &Written, path: &Path) -> Result<(), Failure> {
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    for (path, text) in [(folder.join(&written.data.0), &written.data.1), (path.to_path_buf(), &written.text)]
    {
        fs::write(&path, text).map_err(|error| {
            Failure::new(Exit::INTERNAL, format!("cannot write `{}`: {error}", path.display()))
        })?;
    }
    Ok(())
}
