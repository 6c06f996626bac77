//! What a study brings back: plain data, ready to be written and drawn.

use std::collections::BTreeMap;

pub use crate::world::VersionLife;

/// Everything `run` found.
#[derive(Clone, Debug)]
pub struct StudyOutcome {
    /// Facts about how it was made.
    pub manifest: Manifest,
    /// In file order.
    pub strategies: Vec<StrategyOutcome>,
    /// Each strategy against the baseline, in file order, the baseline itself left out.
    pub comparisons: Vec<ComparisonOutcome>,
    /// In file order.
    pub thresholds: Vec<ThresholdOutcome>,
    /// The last line on stdout: which strategy, better by how much, how sure.
    pub verdict: String,
    /// Validity warnings: too few replications, warm-up too short, bistable outcomes.
    pub warnings: Vec<String>,
}

/// Facts about how a study was made. No wall-clock figures: the command line adds those to `run.json`.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Version of simlab.
    pub simlab: String,
    /// `scenario.name`.
    pub scenario: String,
    /// `scenario.title`.
    pub title: String,
    /// `scenario.note`, shown on every chart.
    pub note: Option<String>,
    /// Path as given.
    pub path: String,
    /// Text of the scenario file.
    pub text: String,
    /// Hash of everything that was read.
    pub hash: u64,
    /// Root seed.
    pub seed: u64,
    /// Replications asked for.
    pub replications: u32,
    /// Counted part of a run: from here ...
    pub warm_up_s: f64,
    /// ... to here, in seconds.
    pub duration_s: f64,
    /// The metric that decides.
    pub primary: String,
    /// Name of the baseline strategy.
    pub baseline: String,
    /// Source whose requests the charts show; `None` = all requests.
    pub focus: Option<String>,
    /// Some replications are missing because the study was interrupted.
    pub partial: bool,
}

/// One strategy over all replications.
#[derive(Clone, Debug)]
pub struct StrategyOutcome {
    /// Name.
    pub name: String,
    /// One line on what it adds, may be empty.
    pub title: String,
    /// By name of metric (DESIGN section 8); a metric that does not apply is absent.
    pub metrics: BTreeMap<String, Estimate>,
    /// Probabilities of two-cluster metrics, which have no meaningful mean.
    pub bistable: Vec<Bistable>,
    /// In order of replication; interrupted ones are left out.
    pub replications: Vec<Replication>,
}

/// Mean over replications and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Mean.
    pub mean: f64,
    /// Lower end; `None` with fewer than two replications.
    pub lo: Option<f64>,
    /// Upper end.
    pub hi: Option<f64>,
    /// Replications in which the metric applied.
    pub n: u32,
}

/// A metric whose replications fall into two clusters.
#[derive(Clone, Debug, PartialEq)]
pub struct Bistable {
    /// Name of the metric.
    pub metric: String,
    /// Replications in the bad cluster, and in all.
    pub bad: (u32, u32),
    /// Clopper-Pearson 95 % interval of the probability of the bad cluster.
    pub interval: (f64, f64),
    /// Mean of the good cluster and of the bad one.
    pub centres: (f64, f64),
}

/// One run.
#[derive(Clone, Debug)]
pub struct Replication {
    /// Number, from 0.
    pub index: u32,
    /// Its seed.
    pub seed: u64,
    /// Digest of its event journal.
    pub digest: u64,
    /// Root requests simulated (warm-up and drain included).
    pub requests: u64,
    /// Attempts delivered to instances.
    pub hops: u64,
    /// Events handled.
    pub events: u64,
    /// Keys of the first counted requests that met two versions of a service.
    pub inconsistent: Vec<u64>,
    /// By name.
    pub metrics: BTreeMap<String, f64>,
    /// Curves over time.
    pub timeline: Timeline,
    /// Percentile curves, one per scope.
    pub percentiles: Vec<PercentileCurve>,
    /// Versions of the services that are updated: from which each was made, and when it was alive.
    pub lives: Vec<VersionLife>,
    /// Faults, instance and node life, rollouts, operator actions.
    pub events_log: Vec<LogEvent>,
    /// Control ticks and state changes, already as one JSON object each.
    pub decisions: Vec<serde_json::Value>,
}

/// Curves on a common grid of windows.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// End of each window, in seconds.
    pub t_s: Vec<f64>,
    /// One entry per (scope, name, metric).
    pub series: Vec<Series>,
}

/// One curve.
#[derive(Clone, Debug)]
pub struct Series {
    /// `run` (all sources together), `source`, `service` or `pool`.
    pub scope: &'static str,
    /// Name within the scope; empty for `run`.
    pub name: String,
    /// `offered_rps`, `throughput_rps`, `goodput_rps`, `availability`, `latency_p50_ms`, `latency_p99_ms`, `replicas_wanted`,
    /// `replicas_ready`, `utilization`, `queue_length`, `attempts_rps`, `in_system`, `breaker_open`, ...
    pub metric: &'static str,
    /// One per window; NaN where there is nothing to say.
    pub values: Vec<f64>,
}

/// Latency by percentile, in ms, ascending; percentiles with fewer than 10 exceedances are left out.
#[derive(Clone, Debug)]
pub struct PercentileCurve {
    /// `run`, `source` or `service`.
    pub scope: &'static str,
    /// Name within the scope; empty for `run`.
    pub name: String,
    /// (percentile 0..100, latency in ms).
    pub points: Vec<(f64, f64)>,
}

/// One line of `events.csv`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEvent {
    /// Seconds since the start.
    pub t_s: f64,
    /// `fault`, `fault_end`, `instance`, `node`, `rollout`, `rollout_end`, `rollout_stalled`, `rollout_moves`, `action`, `alert`, `alert_end`, `prediction`.
    pub kind: &'static str,
    /// Name of the service, node, fault ...
    pub subject: String,
    /// What happened, in words.
    pub detail: String,
}

/// A strategy against the baseline, on common random numbers.
#[derive(Clone, Debug)]
pub struct ComparisonOutcome {
    /// The strategy.
    pub strategy: String,
    /// The baseline.
    pub baseline: String,
    /// Paired difference (strategy minus baseline) by metric.
    pub differences: BTreeMap<String, Estimate>,
    /// The primary metric.
    pub primary: String,
    /// p value of the primary difference after Holm's correction; `None` with fewer than two pairs.
    pub p_holm: Option<f64>,
    /// What follows, in words.
    pub words: String,
    /// Whether the difference of the primary metric is better, worse or not shown.
    pub finding: Finding,
}

/// Result of one paired test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Better than the baseline.
    Better,
    /// Worse than the baseline.
    Worse,
    /// The data do not show a difference.
    NotShown,
}

/// One threshold on one strategy.
#[derive(Clone, Debug)]
pub struct ThresholdOutcome {
    /// As written.
    pub text: String,
    /// Strategy it was applied to.
    pub strategy: String,
    /// What was found; `None` if the metric does not apply there.
    pub estimate: Option<Estimate>,
    /// Pass, fail, inconclusive.
    pub verdict: Verdict,
    /// Whether it makes the exit code 99.
    pub failed: bool,
}

/// Of a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval is on the right side.
    Pass,
    /// The whole interval is on the wrong side.
    Fail,
    /// The interval holds the limit.
    Inconclusive,
}
