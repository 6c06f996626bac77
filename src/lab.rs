//! The lab repeats and compares.
//!
//! [`run`] makes every replication of every strategy on common random numbers, in parallel, and collects them by index,
//! so that the number of threads is invisible. What comes out is plain data ([`outcome`]).

pub mod assemble;
pub mod backtest;
pub mod calibrate;
pub mod compare;
pub mod gate;
pub mod metric;
pub mod outcome;
pub mod replicate;
pub mod summary;
pub mod trace;
pub mod verdict;

use rayon::prelude::*;

pub use crate::kernel::Handle as Progress;
use crate::kernel::Stop;
use crate::scenario::model::Study;
use outcome::{Manifest, Replication, StudyOutcome};
use std::sync::atomic::Ordering;

/// How to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    /// Worker threads; `None` is one per core.
    pub threads: Option<usize>,
}

/// Why a study could not be run.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LabError {
    /// A run asked for more than a limit allows, or can never end.
    #[error("strategy `{strategy}`, replication {replication}: {stop}")]
    Stopped {
        /// Strategy.
        strategy: String,
        /// Replication, from 0.
        replication: u32,
        /// Why.
        stop: Stop,
    },
    /// The thread pool could not be started.
    #[error("cannot start worker threads: {0}")]
    Threads(String),
}

impl LabError {
    /// Whether the scenario is to blame (exit code 3) and not simlab or the machine (1).
    pub const fn is_input(&self) -> bool {
        matches!(self, Self::Stopped { .. })
    }
}

/// Adds metrics of its own to a replication.
pub type Measure<'a> = &'a (dyn Fn(&mut Replication) + Sync);

/// Runs a study. Interrupted replications are left out and the outcome is marked partial.
pub fn run(study: &Study, options: &RunOptions, progress: &Progress) -> Result<StudyOutcome, LabError> {
    run_measured(study, options, progress, &|_| {})
}

/// As [`run`], with metrics that `measure` adds to every replication before they are summarized and compared.
pub fn run_measured(
    study: &Study,
    options: &RunOptions,
    progress: &Progress,
    measure: Measure<'_>,
) -> Result<StudyOutcome, LabError> {
    let runs = study.strategies.len() as u64 * u64::from(study.replications);
    progress.total_ns.store(runs.saturating_mul(study.duration.0), Ordering::Relaxed);
    let pool = pool(options)?;
    let specs: Vec<_> =
        study.strategies.iter().map(|strategy| assemble::assemble(study, &strategy.scenario)).collect();
    // Replication by replication, so that an interrupted study has all strategies on the same seeds.
    let jobs: Vec<(u32, usize)> = (0..study.replications)
        .flat_map(|index| (0..specs.len()).map(move |strategy| (index, strategy)))
        .collect();
    let results: Vec<Result<Option<Replication>, LabError>> = pool.install(|| {
        jobs.par_iter()
            .map(|&(index, strategy)| {
                if progress.cancelled.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                match replicate::replicate(&specs[strategy], study.seed, index, progress) {
                    Ok(mut replication) => {
                        measure(&mut replication);
                        Ok(Some(replication))
                    }
                    Err(Stop::Cancelled) => Ok(None),
                    Err(stop) => {
                        progress.cancelled.store(true, Ordering::Relaxed);
                        let strategy = study.strategies[strategy].name.clone();
                        Err(LabError::Stopped { strategy, replication: index, stop })
                    }
                }
            })
            .collect()
    });
    let mut by_strategy: Vec<Vec<Replication>> = vec![Vec::new(); specs.len()];
    let mut partial = false;
    let mut failure = None;
    for ((_, strategy), result) in jobs.into_iter().zip(results) {
        match result {
            Ok(Some(replication)) => by_strategy[strategy].push(replication),
            Ok(None) => partial = true,
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    Ok(conclude(study, by_strategy, partial))
}

/// Follows `sample` requests of the first replication of each strategy, evenly spread over the counted part, and every
/// inconsistent one. Strategies without a replication are left out.
pub fn trace(
    study: &Study,
    outcome: &StudyOutcome,
    sample: u64,
    options: &RunOptions,
    progress: &Progress,
) -> Result<Vec<trace::StrategyTraces>, LabError> {
    let jobs: Vec<_> = study
        .strategies
        .iter()
        .zip(&outcome.strategies)
        .filter_map(|(strategy, found)| Some((strategy, found.replications.first()?)))
        .collect();
    progress.total_ns.fetch_add(jobs.len() as u64 * study.duration.0, Ordering::Relaxed);
    let told: Vec<_> = pool(options)?.install(|| {
        jobs.par_iter()
            .map(|(strategy, first)| {
                let spec = assemble::assemble(study, &strategy.scenario);
                let told = trace::follow(&spec, first, sample, progress);
                told.map(|traces| traces.map(|traces| (strategy.name.clone(), traces))).map_err(|stop| {
                    LabError::Stopped { strategy: strategy.name.clone(), replication: first.index, stop }
                })
            })
            .collect()
    });
    let mut found = Vec::new();
    for told in told {
        if let Some((strategy, traces)) = told? {
            found.push(trace::StrategyTraces { strategy, ..traces });
        }
    }
    Ok(found)
}

/// Threads that run the jobs of a study.
fn pool(options: &RunOptions) -> Result<rayon::ThreadPool, LabError> {
    let mut pool = rayon::ThreadPoolBuilder::new();
    if let Some(threads) = options.threads {
        pool = pool.num_threads(threads);
    }
    pool.build().map_err(|error| LabError::Threads(error.to_string()))
}

/// From replications to a study's outcome.
fn conclude(study: &Study, by_strategy: Vec<Vec<Replication>>, partial: bool) -> StudyOutcome {
    let strategies: Vec<_> = study
        .strategies
        .iter()
        .zip(by_strategy)
        .map(|(strategy, runs)| summary::summarize(&strategy.name, &strategy.title, runs))
        .collect();
    let baseline = &strategies[study.baseline];
    let others: Vec<_> = strategies.iter().filter(|strategy| strategy.name != baseline.name).collect();
    let comparisons = compare::compare(baseline, &others, &study.primary);
    let mut warnings = study.warnings.clone();
    warnings.extend(verdict::warnings(verdict::Facts::of(study), &strategies));
    StudyOutcome {
        verdict: verdict::sentence(&strategies, &comparisons, &baseline.name, &study.primary),
        thresholds: gate::judge(&study.thresholds, &strategies),
        comparisons,
        warnings,
        manifest: Manifest {
            simlab: env!("CARGO_PKG_VERSION").to_owned(),
            scenario: study.name.clone(),
            title: study.title.clone(),
            note: study.note.clone(),
            path: study.path.clone(),
            text: study.text.clone(),
            hash: study.hash,
            seed: study.seed,
            replications: study.replications,
            warm_up_s: study.warm_up.as_secs_f64(),
            duration_s: study.duration.as_secs_f64(),
            primary: study.primary.clone(),
            baseline: baseline.name.clone(),
            focus: study.focus.clone(),
            partial,
        },
        strategies,
    }
}
