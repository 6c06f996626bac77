//! One replication: a seed, a world, and its report in the lab's own words.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::kernel::{Handle, Stop};
use crate::random::Key;
use crate::stats::histogram::Totals;
use crate::time::Time;
use crate::world::spec::Spec;
use crate::world::{self, Decision, RunReport};

use super::outcome::{LogEvent, PercentileCurve, Replication, Series, Timeline};

/// Runs replication number `index` of one strategy of a study with seed `root`.
pub(super) fn replicate(spec: &Spec, root: u64, index: u32, progress: &Handle) -> Result<Replication, Stop> {
    let seed = seed_of(root, index);
    let report = world::run(spec, seed, progress)?;
    note_progress(spec, &report, progress);
    Ok(replication(index, seed, report))
}

/// A run that ended early or drained longer still counts as one duration of progress.
pub(super) fn note_progress(spec: &Spec, report: &RunReport, progress: &Handle) {
    progress.done_ns.fetch_add(spec.end.0.wrapping_sub(report.end.0), Ordering::Relaxed);
}

/// Seed of replication `index`, the same for every strategy.
pub fn seed_of(root: u64, index: u32) -> u64 {
    Key::new(root).named("replication").with(u64::from(index)).0
}

fn replication(index: u32, seed: u64, report: RunReport) -> Replication {
    let series = report.series.into_iter().map(|series| Series {
        scope: series.scope,
        name: series.name,
        metric: series.metric,
        values: series.values,
    });
    let events = report.log.into_iter().map(|entry| LogEvent {
        t_s: entry.at.as_secs_f64(),
        kind: entry.kind,
        subject: entry.subject,
        detail: entry.detail,
    });
    let curves = report.histograms.into_iter().filter(|(.., histogram)| !histogram.is_empty());
    Replication {
        index,
        seed,
        digest: report.digest,
        requests: report.requests,
        hops: report.hops,
        events: report.events,
        inconsistent: report.inconsistent,
        metrics: report.metrics,
        timeline: Timeline { t_s: report.t_s, series: series.collect() },
        percentiles: curves.map(|(scope, name, histogram)| curve(scope, name, &histogram)).collect(),
        lives: report.lives,
        events_log: events.collect(),
        decisions: report.decisions.iter().map(decision).collect(),
    }
}

/// Percentiles of a latency histogram, without those that fewer than ten requests exceed.
fn curve(scope: &'static str, name: String, histogram: &Totals) -> PercentileCurve {
    let known = PERCENTILES.iter().filter(|&&p| histogram.exceedances(p / 100.0) >= MIN_EXCEEDANCES);
    let points = known.filter_map(|&p| Some((p, histogram.quantile(p / 100.0)? / 1e6)));
    PercentileCurve { scope, name, points: points.collect() }
}

fn decision(decision: &Decision) -> Value {
    let mut line = json!({
        "t_s": decision.at.since(Time::ZERO).as_secs_f64(),
        "kind": decision.kind,
        "subject": decision.subject,
        "before": decision.before,
        "after": decision.after,
        "reason": decision.reason,
    });
    let steps = decision.inputs.iter().map(|step| match &step.metric {
        None => json!([step.what, step.value]),
        Some(metric) => json!([step.what, step.value, **metric]),
    });
    line["steps"] = Value::Array(steps.collect());
    line
}

/// Fewer exceedances than this leave a percentile to chance.
const MIN_EXCEEDANCES: u64 = 10;

const PERCENTILES: [f64; 26] = [
    1.0, 5.0, 10.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 85.0, 90.0, 92.5, 95.0, 96.0, 97.0,
    98.0, 99.0, 99.5, 99.8, 99.9, 99.95, 99.98, 99.99,
];
