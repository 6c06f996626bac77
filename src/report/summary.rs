//! `summary.json` (also what `--json` prints) and `run.json`.

use serde_json::{Map, Value, json};

use crate::lab::outcome::{
    Bistable, ComparisonOutcome, Estimate, Finding, StrategyOutcome, StudyOutcome, Verdict,
};

/// Facts about the machine's time, which only the command line knows. They appear in `run.json` alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WallClock {
    /// Seconds from the first event to the last, loading and writing excluded.
    pub seconds: f64,
    /// Threads that worked.
    pub threads: usize,
}

/// `summary.json`.
pub fn summary_json(outcome: &StudyOutcome) -> Vec<u8> {
    pretty(&summary(outcome))
}

/// The summary as one JSON document.
pub fn summary(outcome: &StudyOutcome) -> Value {
    json!({
        "scenario": outcome.manifest.scenario,
        "partial": outcome.manifest.partial,
        "primary": outcome.manifest.primary,
        "baseline": outcome.manifest.baseline,
        "strategies": outcome.strategies.iter().map(strategy).collect::<Vec<_>>(),
        "comparisons": outcome.comparisons.iter().map(comparison).collect::<Vec<_>>(),
        "thresholds": outcome.thresholds.iter().map(|threshold| json!({
            "threshold": threshold.text,
            "strategy": threshold.strategy,
            "verdict": verdict_word(threshold.verdict),
            "failed": threshold.failed,
            "found": threshold.estimate.as_ref().map(estimate),
        })).collect::<Vec<_>>(),
        "warnings": outcome.warnings,
        "verdict": outcome.verdict,
    })
}

/// `run.json`: how the results were made. Hashes and digests are hexadecimal text, since many readers of JSON round
/// integers beyond 2^53; the derived seeds of replications are decimal text for the same reason.
pub fn run_json(outcome: &StudyOutcome, wall: &WallClock) -> Vec<u8> {
    let manifest = &outcome.manifest;
    let runs = || outcome.strategies.iter().flat_map(|strategy| &strategy.replications);
    let requests: u64 = runs().map(|run| run.requests).sum();
    let hops: u64 = runs().map(|run| run.hops).sum();
    let events: u64 = runs().map(|run| run.events).sum();
    let per_second = if wall.seconds > 0.0 { requests as f64 / wall.seconds } else { 0.0 };
    pretty(&json!({
        "simlab": manifest.simlab,
        "scenario": {
            "name": manifest.scenario,
            "title": manifest.title,
            "note": manifest.note,
            "path": manifest.path,
            "hash": hex(manifest.hash),
        },
        "seed": manifest.seed,
        "replications": manifest.replications,
        "partial": manifest.partial,
        "warm_up_s": manifest.warm_up_s,
        "duration_s": manifest.duration_s,
        "primary": manifest.primary,
        "baseline": manifest.baseline,
        "requests": requests,
        "hops": hops,
        "events": events,
        "strategies": outcome.strategies.iter().map(|strategy| json!({
            "name": strategy.name,
            "title": strategy.title,
            "replications": strategy.replications.iter().map(|run| json!({
                "replication": run.index,
                "seed": run.seed.to_string(),
                "digest": hex(run.digest),
                "requests": run.requests,
                "hops": run.hops,
                "events": run.events,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "warnings": outcome.warnings,
        "wall_clock": { "seconds": round(wall.seconds, 1e3), "requests_per_s": round(per_second, 1.0), "threads": wall.threads },
    }))
}

/// Fixed-width hexadecimal, as run.json and the report write hashes.
pub(super) fn hex(hash: u64) -> String {
    format!("{hash:016x}")
}

/// The word for a threshold's verdict.
pub(super) const fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::Inconclusive => "inconclusive",
    }
}

/// The word for a finding.
pub(super) const fn finding_word(finding: Finding) -> &'static str {
    match finding {
        Finding::Better => "better",
        Finding::Worse => "worse",
        Finding::NotShown => "not shown",
    }
}

fn strategy(strategy: &StrategyOutcome) -> Value {
    json!({
        "name": strategy.name,
        "title": strategy.title,
        "replications": strategy.replications.len(),
        "metrics": estimates(&strategy.metrics),
        "bistable": strategy.bistable.iter().map(bistable).collect::<Vec<_>>(),
    })
}

fn comparison(comparison: &ComparisonOutcome) -> Value {
    json!({
        "strategy": comparison.strategy,
        "baseline": comparison.baseline,
        "primary": comparison.primary,
        "finding": finding_word(comparison.finding),
        "p_holm": comparison.p_holm,
        "words": comparison.words,
        "differences": estimates(&comparison.differences),
    })
}

fn bistable(bistable: &Bistable) -> Value {
    json!({
        "metric": bistable.metric,
        "bad": bistable.bad.0,
        "of": bistable.bad.1,
        "lo": bistable.interval.0,
        "hi": bistable.interval.1,
        "good_centre": number(bistable.centres.0),
        "bad_centre": number(bistable.centres.1),
    })
}

fn estimates(metrics: &std::collections::BTreeMap<String, Estimate>) -> Value {
    Value::Object(metrics.iter().map(|(name, value)| (name.clone(), estimate(value))).collect())
}

fn estimate(estimate: &Estimate) -> Value {
    let mut object = Map::new();
    object.insert("mean".to_owned(), number(estimate.mean));
    object.insert("lo".to_owned(), estimate.lo.map_or(Value::Null, number));
    object.insert("hi".to_owned(), estimate.hi.map_or(Value::Null, number));
    object.insert("n".to_owned(), estimate.n.into());
    if estimate.mean.is_infinite() {
        object.insert("infinite".to_owned(), true.into());
    }
    Value::Object(object)
}

fn number(number: f64) -> Value {
    serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number)
}

fn round(number: f64, parts: f64) -> f64 {
    (number * parts).round() / parts
}

/// Indented, with a line end after the last brace.
fn pretty(document: &Value) -> Vec<u8> {
    let mut bytes =
        serde_json::to_vec_pretty(document).expect("a document without maps of odd keys always serializes");
    bytes.push(b'\n');
    bytes
}
