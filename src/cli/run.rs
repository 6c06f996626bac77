//! `simlab run`: the main job.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::Args;

use super::console::Console;
use super::progress;
use super::store::Store;
use super::{Exit, Failure};
use crate::lab::outcome::StudyOutcome;
use crate::lab::trace::StrategyTraces;
use crate::lab::{self, LabError, Progress, RunOptions};
use crate::report::{self, WallClock, quantity, summary, terminal};
use crate::scenario::Overrides;
use crate::scenario::model::Study;
use crate::world::MAX_SPANS;

/// Flags of `run`.
#[derive(Args)]
pub(super) struct Arguments {
    /// Scenario file; `-` reads standard input
    #[arg(value_name = "FILE")]
    file: String,
    #[command(flatten)]
    overrides: OverrideArguments,
    /// Write down the paths of N requests of the first replication, evenly spread, and of every request that met two
    /// versions: traces.zipkin.json, and traces.events.json for ui.perfetto.dev
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=100_000))]
    trace: Option<u64>,
    #[command(flatten)]
    output: OutputArguments,
}

/// Flags of every verb that runs a study.
#[derive(Args)]
pub(super) struct OutputArguments {
    /// Threads [default: all cores]; results do not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
    /// Folder for the results [default: results/<scenario>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one JSON document instead of the tables
    #[arg(long)]
    json: bool,
    /// Print the verdict only; no progress, timings or warnings
    #[arg(long, short, conflicts_with = "json")]
    pub(super) quiet: bool,
}

/// What a verb adds to a plain run.
pub(super) struct Job<'a> {
    /// Metrics of its own.
    pub(super) measure: lab::Measure<'a>,
    /// Requests to follow, if any.
    pub(super) trace: Option<u64>,
    /// Changes what was found before anybody sees it.
    pub(super) conclude: &'a dyn Fn(&mut StudyOutcome),
    /// The tables on stdout, coloured or not.
    pub(super) summary: &'a dyn Fn(&StudyOutcome, bool) -> String,
}

/// Flags that change what a scenario says.
#[derive(Args)]
pub(super) struct OverrideArguments {
    /// Root seed instead of the scenario's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Replications per strategy instead of the scenario's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    replications: Option<u64>,
    /// Run this strategy only; may be repeated
    #[arg(long = "strategy", value_name = "NAME")]
    strategies: Vec<String>,
    /// Change one setting, e.g. service.typhoon.replicas=8; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl OverrideArguments {
    pub(super) fn overrides(&self) -> Overrides {
        Overrides {
            settings: self.set.clone(),
            seed: self.seed,
            replications: self.replications,
            strategies: self.strategies.clone(),
        }
    }
}

/// Loads, runs, writes, tells.
pub(super) fn run(arguments: &Arguments, console: &Console) -> Result<Exit, Failure> {
    let study = Study::load(&arguments.file, &arguments.overrides.overrides())
        .map_err(|error| Failure::input(error.render(console.colour_err)))?;
    let job =
        Job { measure: &|_| {}, trace: arguments.trace, conclude: &|_| {}, summary: &terminal::summary };
    perform(&study, &arguments.output, &job, console)
}

/// Runs, writes, tells.
pub(super) fn perform(
    study: &Study,
    arguments: &OutputArguments,
    job: &Job<'_>,
    console: &Console,
) -> Result<Exit, Failure> {
    let folder = arguments.out.clone().unwrap_or_else(|| PathBuf::from("results").join(&study.name));
    let mut store = Store::open(&folder)?;

    let progress = Arc::new(Progress::default());
    stop_on_ctrl_c(&progress, &store, console)?;
    let options = RunOptions { threads: arguments.threads.map(|threads| threads as usize) };
    let visible = !arguments.quiet && io::stderr().is_terminal();
    let start = progress::now();
    let done =
        progress::shown(&progress, visible, || lab::run_measured(study, &options, &progress, job.measure));
    let seconds = start.elapsed().as_secs_f64();
    let interrupted = progress.cancelled.load(Ordering::Relaxed);
    let mut outcome = done.map_err(stopped)?;
    if outcome.manifest.partial && outcome.strategies.iter().all(|strategy| strategy.replications.is_empty())
    {
        let message = "interrupted before any run was finished; nothing was written";
        return Err(Failure::new(Exit::INTERRUPTED, message));
    }

    let mut traces = None;
    if let Some(sample) = job.trace.filter(|_| !interrupted) {
        let follow = || lab::trace(study, &outcome, sample, &options, &progress);
        traces = Some(progress::shown(&progress, visible, follow).map_err(stopped)?);
    }
    // Whoever asked for traces and stopped them has not got all that he asked for.
    let untraced =
        job.trace.is_some() && traces.as_ref().is_none_or(|traces| traces.len() < outcome.strategies.len());
    (job.conclude)(&mut outcome);

    // Files are written even if nobody could read the summary, and the summary is told even if they cannot be written.
    let told = tell(arguments, job, console, &outcome);
    let threads =
        options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    report::render(&outcome, &WallClock { seconds, threads }, |file| store.add(&file))?;
    for file in traces.iter().flat_map(|traces| report::trace::files(traces)) {
        store.add(&file)?;
    }
    store.commit()?;
    told?;
    if !arguments.quiet {
        traces.iter().flatten().for_each(|traces| tell_of_traces(traces, console));
        if untraced {
            console.warn("interrupted: not every strategy has its traces");
        }
    }
    if !arguments.quiet {
        let requests =
            outcome.strategies.iter().flat_map(|s| &s.replications).map(|run| run.requests).sum::<u64>()
                as f64;
        let (count, speed) = (quantity::si(requests), quantity::si((requests / seconds.max(1e-9)).round()));
        console.note(&format!(
            "{count} requests in {seconds:.1} s ({speed} requests/s); results in {}",
            folder.display()
        ));
    }
    Ok(match () {
        () if untraced || interrupted && outcome.manifest.partial => Exit::INTERRUPTED,
        () if outcome.thresholds.iter().any(|threshold| threshold.failed) => Exit::THRESHOLD,
        () => Exit::OK,
    })
}

/// Why there is no outcome.
fn stopped(error: LabError) -> Failure {
    let exit = if error.is_input() { Exit::INPUT } else { Exit::INTERNAL };
    Failure::new(exit, error)
}

/// How many requests were followed, and what is missing.
fn tell_of_traces(traces: &StrategyTraces, console: &Console) {
    let strategy = &traces.strategy;
    let followed = traces.requests.len();
    let found = traces.requests.iter().filter(|request| request.inconsistent).count();
    let of = traces.inconsistent;
    console.note(&match of {
        0 => format!("`{strategy}`: {followed} requests traced"),
        _ => format!(
            "`{strategy}`: {followed} requests traced, {found} of the {of} that met two versions among them"
        ),
    });
    if traces.lost > 0 {
        let lost = traces.lost;
        console.warn(&format!(
            "`{strategy}`: {lost} attempts are not in the traces: they hold {MAX_SPANS} at most, so ask for fewer requests"
        ));
    }
}

/// The summary to stdout, warnings to stderr.
fn tell(
    arguments: &OutputArguments,
    job: &Job<'_>,
    console: &Console,
    outcome: &StudyOutcome,
) -> Result<(), Failure> {
    if arguments.json {
        let document = String::from_utf8_lossy(&summary::summary_json(outcome)).into_owned();
        console.print(&document)?;
    } else if arguments.quiet {
        console.print(&terminal::verdict(outcome, console.colour_out))?;
    } else {
        console.print(&(job.summary)(outcome, console.colour_out))?;
    }
    if !arguments.quiet {
        outcome.warnings.iter().for_each(|warning| console.warn(warning));
    }
    Ok(())
}

/// The first Ctrl-C asks the runs to stop, the second ends the process at once.
fn stop_on_ctrl_c(progress: &Arc<Progress>, store: &Store, console: &Console) -> Result<(), Failure> {
    let (progress, staging) = (Arc::clone(progress), store.staging().to_path_buf());
    let bar = io::stderr().is_terminal();
    let plain = Console { colour_out: console.colour_out, colour_err: console.colour_err };
    let handler = move || {
        if progress.cancelled.swap(true, Ordering::Relaxed) {
            let _ = fs::remove_dir_all(&staging);
            abort();
        }
        if !bar {
            plain.note("stopping; what is finished is kept");
        }
    };
    ctrlc::set_handler(handler)
        .map_err(|error| Failure::new(Exit::INTERNAL, format!("cannot listen for Ctrl-C: {error}")))
}

#[expect(clippy::exit, reason = "the user asked twice, and the runs may not answer")]
fn abort() {
    std::process::exit(i32::from(Exit::INTERRUPTED.0));
}
