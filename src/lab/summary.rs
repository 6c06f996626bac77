//! From replications to a strategy's figures.
//!
//! * A metric's mean is taken over the replications in which it applies, with Student's 95 % interval from two of them on.
//! * `recovery_unrecovered` is 1 in a replication that never met its objective again after a fault, 0 in one that did. Its mean
//!   is the share of runs that did not recover, with the exact interval of a probability (Clopper-Pearson).
//! * `recovery_time_s` is absent in a replication that did not recover: its time is *censored*, known only to be longer than all that
//!   were seen (every replication watches until the same end). As soon as one is censored, the mean of the others would be
//!   the better the fewer recover, so the summary has no `recovery_time_s` then; `recovery_time_median_s`, the Kaplan-Meier
//!   median, stands in for it, and is absent too where half of the runs or more never recovered. It carries no interval.
//! * Metrics of the whole run that fall into two clusters are listed as [`Bistable`]; their means stay in `metrics` for
//!   machines, and no sentence uses them.

use std::collections::BTreeMap;

use super::metric::{self, Direction, Unit};
use super::outcome::{Bistable, Estimate, Replication, StrategyOutcome};
use crate::stats::clusters::two_clusters;
use crate::stats::interval;
use crate::stats::kaplan_meier::{self, Observation};
use crate::stats::moments::Moments;

/// A jump of a share that is an event by itself: 30 percentage points.
const MATERIAL_SHARE: f64 = 0.3;

/// A smaller gap between two clusters of a share is nobody's collapse: 5 percentage points.
const NOTICEABLE_SHARE: f64 = 0.05;

/// The same for latencies, as a factor.
const NOTICEABLE_FACTOR: f64 = 1.5;

/// Outcomes of the whole run that a collapse shows up in.
const COLLAPSING: &[&str] = &[
    "availability",
    "goodput_rps",
    "latency_mean_ms",
    "latency_p50_ms",
    "latency_p99_ms",
    "failed_ratio",
    "rejected_ratio",
    "timeout_ratio",
    "unfinished_ratio",
];

/// All figures of one strategy. Replications keep their order.
pub fn summarize(name: &str, title: &str, replications: Vec<Replication>) -> StrategyOutcome {
    let mut by_metric: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for replication in &replications {
        for (metric, value) in &replication.metrics {
            by_metric.entry(metric).or_default().push(*value);
        }
    }
    let mut metrics: BTreeMap<String, Estimate> =
        by_metric.iter().map(|(name, values)| ((*name).to_owned(), estimate_of(name, values))).collect();
    censor_recovery(&replications, &mut metrics);
    let bistable = COLLAPSING.iter().filter_map(|name| bistable(name, by_metric.get(name)?)).collect();
    StrategyOutcome { name: name.to_owned(), title: title.to_owned(), metrics, bistable, replications }
}

fn estimate_of(name: &str, values: &[f64]) -> Estimate {
    let mean = Moments::of(values).mean().unwrap_or(f64::NAN);
    let mean = if values.iter().any(|value| value.is_infinite()) { values.iter().sum::<f64>() } else { mean };
    let n = values.len() as u32;
    let interval = if name == "recovery_unrecovered" {
        let yes = values.iter().filter(|value| **value > 0.5).count() as u32;
        (n > 1).then(|| interval::of_probability(yes, n, interval::LEVEL))
    } else {
        interval::of_mean(values, interval::LEVEL)
    };
    Estimate { mean, lo: interval.map(|(lo, _)| lo), hi: interval.map(|(_, hi)| hi), n }
}

/// See the head of this file.
fn censor_recovery(replications: &[Replication], metrics: &mut BTreeMap<String, Estimate>) {
    let observations: Vec<Observation> = replications
        .iter()
        .filter_map(|replication| {
            let lost = replication.metrics.get("recovery_unrecovered").is_some_and(|lost| *lost > 0.5);
            match replication.metrics.get("recovery_time_s") {
                _ if lost => Some(Observation { time: f64::INFINITY, happened: false }),
                Some(&time) => Some(Observation { time, happened: true }),
                None => None,
            }
        })
        .collect();
    if observations.iter().all(|observation| observation.happened) {
        return;
    }
    metrics.remove("recovery_time_s");
    if let Some(median) = kaplan_meier::median(&observations) {
        let estimate = Estimate { mean: median, lo: None, hi: None, n: observations.len() as u32 };
        metrics.insert("recovery_time_median_s".to_owned(), estimate);
    }
}

/// The two clusters of a metric, if there are two.
fn bistable(name: &str, values: &[f64]) -> Option<Bistable> {
    let largest = values.iter().copied().fold(0.0, f64::max);
    // Latencies differ by factors, everything else by amounts.
    let (scaled, noticeable, material): (Vec<f64>, _, _) = match metric::unit(name) {
        Unit::Milliseconds | Unit::Seconds => {
            let logarithms = values.iter().map(|value| libm::log(value.max(1e-9))).collect();
            (logarithms, libm::log(NOTICEABLE_FACTOR), None)
        }
        Unit::Share => (values.to_vec(), NOTICEABLE_SHARE, Some(MATERIAL_SHARE)),
        _ => (values.to_vec(), NOTICEABLE_SHARE * largest, Some(MATERIAL_SHARE * largest)),
    };
    let clusters = two_clusters(&scaled, noticeable, material)?;
    let upper_is_bad = metric::direction(name) == Direction::Down;
    let (mut good, mut bad) = (Moments::default(), Moments::default());
    for (value, scaled) in values.iter().zip(&scaled) {
        let cluster = if (*scaled > clusters.split) == upper_is_bad { &mut bad } else { &mut good };
        cluster.push(*value);
    }
    let (count, n) = (bad.count() as u32, values.len() as u32);
    Some(Bistable {
        metric: name.to_owned(),
        bad: (count, n),
        interval: interval::of_probability(count, n, interval::LEVEL),
        centres: (good.mean()?, bad.mean()?),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::lab::outcome::Timeline;

    /// Replications with these values of some metrics; NaN leaves a metric out.
    pub(crate) fn replications(metrics: &[(&str, &[f64])]) -> Vec<Replication> {
        let count = metrics.iter().map(|(_, values)| values.len()).max().unwrap_or(0);
        (0..count)
            .map(|index| Replication {
                index: index as u32,
                seed: index as u64,
                digest: 0,
                requests: 0,
                hops: 0,
                events: 0,
                inconsistent: Vec::new(),
                metrics: metrics
                    .iter()
                    .filter(|(_, values)| values.get(index).is_some_and(|value| !value.is_nan()))
                    .map(|(name, values)| ((*name).to_owned(), values[index]))
                    .collect(),
                timeline: Timeline::default(),
                percentiles: Vec::new(),
                lives: Vec::new(),
                events_log: Vec::new(),
                decisions: Vec::new(),
            })
            .collect()
    }

    /// A strategy with these values.
    pub(crate) fn strategy(name: &str, metrics: &[(&str, &[f64])]) -> StrategyOutcome {
        summarize(name, "", replications(metrics))
    }

    #[test]
    fn means_carry_intervals_and_counts() {
        let found =
            strategy("x", &[("availability", &[0.98, 0.99, 0.985]), ("cost", &[f64::NAN, 2.0, f64::NAN])]);
        let availability = found.metrics["availability"];
        assert!((availability.mean - 0.985).abs() < 1e-12);
        assert!((availability.hi.unwrap() - 0.985 - 4.302_653 * 0.005 / 3_f64.sqrt()).abs() < 1e-7);
        assert_eq!(found.metrics["cost"], Estimate { mean: 2.0, lo: None, hi: None, n: 1 });
        let infinite = strategy("x", &[("latency_offered_p99_ms", &[5.0, f64::INFINITY])]).metrics["latency_offered_p99_ms"];
        assert_eq!((infinite.mean, infinite.lo, infinite.hi, infinite.n), (f64::INFINITY, None, None, 2));
    }

    #[test]
    fn runs_that_never_recover_are_not_forgotten() {
        let nan = f64::NAN;
        let lost = strategy(
            "x",
            &[
                ("recovery_time_s", &[30.0, nan, 50.0, 40.0, nan]),
                ("recovery_unrecovered", &[0.0, 1.0, 0.0, 0.0, 1.0]),
            ],
        );
        assert!(!lost.metrics.contains_key("recovery_time_s"));
        assert_eq!(lost.metrics["recovery_time_median_s"], Estimate { mean: 50.0, lo: None, hi: None, n: 5 });
        let share = lost.metrics["recovery_unrecovered"];
        assert!((share.mean - 0.4).abs() < 1e-12 && (share.lo.unwrap() - 0.0527).abs() < 1e-4);
        let hopeless = strategy(
            "x",
            &[("recovery_time_s", &[30.0, nan, nan]), ("recovery_unrecovered", &[0.0, 1.0, 1.0])],
        );
        assert!(!hopeless.metrics.contains_key("recovery_time_median_s"));
        let fine =
            strategy("x", &[("recovery_time_s", &[30.0, 40.0]), ("recovery_unrecovered", &[0.0, 0.0])]);
        assert_eq!(fine.metrics["recovery_time_s"].mean, 35.0);
        // Without a fault nothing recovers.
        assert!(
            !strategy("x", &[("availability", &[1.0, 1.0])]).metrics.contains_key("recovery_time_median_s")
        );
    }

    #[test]
    fn two_clusters_become_a_probability() {
        let found = strategy(
            "x",
            &[
                ("availability", &[0.999, 0.41, 0.998, 0.52, 0.999]),
                ("latency_p99_ms", &[100.0, 4000.0, 110.0, 90.0, 105.0]),
                ("offered_rps", &[1.0, 1.0, 100.0, 100.0, 1.0]),
            ],
        );
        assert_eq!(found.bistable.len(), 1);
        let bistable = &found.bistable[0];
        assert_eq!((bistable.metric.as_str(), bistable.bad), ("availability", (2, 5)));
        assert!((bistable.centres.1 - 0.465).abs() < 1e-12);
        let slow: Vec<f64> =
            (0..10).map(|i| if i % 3 == 0 { 5000.0 } else { 100.0 } * (1.0 + f64::from(i) / 100.0)).collect();
        assert_eq!(strategy("x", &[("latency_p99_ms", &slow)]).bistable[0].bad, (4, 10));
    }
}
