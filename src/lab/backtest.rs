//! What a backtest measures beside the ordinary metrics, and its verdict.
//!
//! Everything is counted after the warm-up, window by window of the timeline:
//!
//! * `under_provisioned_ratio`: share of the time in which the load needs more cores (requests offered times their CPU,
//!   as recorded) than the ready instances have. Ready is the mean of the window's two ends.
//! * `saturated_ratio`: share of the time in which more than 90 % of the ready cores are busy.
//! * `scaling_actions`: decisions of the autoscaler that changed the number of replicas.
//! * `bad_requests`: requests without a good answer in time, each simulated one times what it stands for.

use super::metric;
use super::outcome::{Estimate, Replication, StrategyOutcome, StudyOutcome};

/// Above this a window is saturated.
const SATURATED: f64 = 0.9;

/// The facts that the measures need.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Name of the service.
    pub service: String,
    /// (second, cores needed) of each piece of the load, ascending.
    pub demand: Vec<(f64, f64)>,
    /// Cores of an instance.
    pub cores: f64,
    /// Requests that one simulated request stands for.
    pub thin: u32,
    /// Seconds that are not counted.
    pub warm_up_s: f64,
    /// Wanted availability, 0..1.
    pub objective: f64,
}

impl Replay {
    /// Adds the metrics.
    pub fn measure(&self, run: &mut Replication) {
        let series = |metric: &str| {
            let found = run.timeline.series.iter().find(|series| {
                series.scope == "service" && series.name == self.service && series.metric == metric
            });
            found.map(|series| series.values.as_slice()).unwrap_or_default()
        };
        let (ready, busy) = (series("replicas_ready"), series("utilization"));
        let (mut counted, mut short, mut saturated) = (0.0, 0.0, 0.0);
        let mut from = 0.0;
        for (index, &to) in run.timeline.t_s.iter().enumerate() {
            let width = to - from;
            if from >= self.warm_up_s - 1e-9 && width > 0.0 {
                let now = ready.get(index).copied().unwrap_or(f64::NAN);
                let before = if index > 0 { ready[index - 1] } else { now };
                let capacity = 0.5 * (now + before) * self.cores;
                counted += width;
                if self.needed(from, to) > capacity {
                    short += width;
                }
                if busy.get(index).is_some_and(|busy| *busy > SATURATED) {
                    saturated += width;
                }
            }
            from = to;
        }
        let actions = run.decisions.iter().filter(|decision| {
            decision["kind"] == "autoscaler"
                && decision["before"] != decision["after"]
                && decision["t_s"].as_f64().is_some_and(|t| t >= self.warm_up_s)
        });
        let actions = actions.count() as f64;
        if counted > 0.0 {
            run.metrics.insert("under_provisioned_ratio".into(), short / counted);
            run.metrics.insert("saturated_ratio".into(), saturated / counted);
        }
        run.metrics.insert("scaling_actions".into(), actions);
        if let (Some(availability), Some(requests)) =
            (run.metrics.get("availability"), run.metrics.get("requests"))
        {
            let bad = (1.0 - availability) * requests * f64::from(self.thin);
            run.metrics.insert("bad_requests".into(), bad.round());
        }
    }

    /// Mean cores that the load needs in a window.
    fn needed(&self, from: f64, to: f64) -> f64 {
        let first = self.demand.partition_point(|(at, _)| *at <= from).saturating_sub(1);
        let (mut sum, mut at) = (0.0, from);
        for index in first..self.demand.len() {
            let end = self.demand.get(index + 1).map_or(to, |next| next.0).min(to);
            sum += (end - at).max(0.0) * self.demand[index].1;
            at = end.max(at);
            if at >= to {
                break;
            }
        }
        sum / (to - from)
    }

    /// One sentence: which policy keeps the objective at the least, and which do not.
    pub fn verdict(&self, outcome: &StudyOutcome) -> String {
        let of = |strategy: &StrategyOutcome, name: &str| strategy.metrics.get(name).copied();
        let contenders: Vec<(&StrategyOutcome, Estimate, f64)> = outcome
            .strategies
            .iter()
            .filter_map(|strategy| {
                Some((strategy, of(strategy, "availability")?, of(strategy, "instance_hours")?.mean))
            })
            .collect();
        let wanted = share(self.objective);
        let mut keeping: Vec<_> = contenders.iter().filter(|one| one.1.mean >= self.objective).collect();
        keeping.sort_by(|a, b| a.2.total_cmp(&b.2));
        let missing: Vec<String> = contenders
            .iter()
            .filter(|one| one.1.mean < self.objective)
            .map(|one| format!("`{}` ({})", one.0.name, share(one.1.mean)))
            .collect();
        let Some((best, good, hours)) = keeping.first().map(|one| (one.0, one.1, one.2)) else {
            let best = contenders.iter().max_by(|a, b| a.1.mean.total_cmp(&b.1.mean));
            return best.map_or_else(
                || "Nothing was finished, so nothing can be said.".to_owned(),
                |(best, good, hours)| {
                    format!(
                        "No policy keeps {wanted} good; the best is `{}` with {} at {}.",
                        best.name,
                        between(good),
                        replica_hours(*hours)
                    )
                },
            );
        };
        let doubt = if good.lo.is_some_and(|lo| lo < self.objective) {
            ", though its interval reaches below"
        } else {
            ""
        };
        let base =
            contenders.iter().find(|one| one.0.name == outcome.manifest.baseline && one.0.name != best.name);
        let saved = base.map_or_else(String::new, |base| {
            let change = (hours / base.2 - 1.0) * 100.0;
            let word = if change <= 0.0 { "less" } else { "more" };
            format!(", {:.0} % {word} than `{}`", change.abs(), base.0.name)
        });
        let others = match missing.len() {
            0 => String::new(),
            1 => format!("; {} does not keep it", missing[0]),
            _ => format!("; {} do not keep it", missing.join(", ")),
        };
        let which = match (contenders.len(), keeping.len()) {
            (1, _) => "keeps",
            (_, 1) => "alone keeps",
            _ => "is the cheapest that keeps",
        };
        format!(
            "`{}` {which} {wanted} good ({}{doubt}): {}{saved}{others}.",
            best.name,
            between(&good),
            replica_hours(hours)
        )
    }
}

fn replica_hours(hours: f64) -> String {
    format!("{} replica-hours", metric::value("instance_hours", hours).trim_end_matches(" h"))
}

/// A share in percent, to three decimals at most.
fn share(share: f64) -> String {
    let text = format!("{:.3}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A share with its interval, which cannot reach above the whole.
fn between(good: &Estimate) -> String {
    match (good.lo, good.hi) {
        (Some(lo), Some(hi)) if share(lo) != share(hi) => {
            format!("{}, 95 % interval {} to {}", share(good.mean), share(lo.max(0.0)), share(hi.min(1.0)))
        }
        _ => share(good.mean),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::outcome::{Series, Timeline};
    use crate::lab::summary::tests::replications;

    fn replay() -> Replay {
        Replay {
            service: "web".into(),
            demand: vec![(0.0, 1.0), (60.0, 3.0), (90.0, 1.0)],
            cores: 1.0,
            thin: 10,
            warm_up_s: 30.0,
            objective: 0.99,
        }
    }

    #[test]
    fn what_the_load_needs_is_its_mean_over_a_window() {
        let replay = replay();
        assert!((replay.needed(0.0, 30.0) - 1.0).abs() < 1e-12);
        assert!((replay.needed(45.0, 75.0) - 2.0).abs() < 1e-12);
        assert!((replay.needed(60.0, 120.0) - 2.0).abs() < 1e-12);
        assert!((replay.needed(200.0, 230.0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn windows_are_counted_after_the_warm_up() {
        let mut run = replications(&[("availability", &[0.9]), ("requests", &[100.0])]).remove(0);
        let series = |metric, values: &[f64]| Series {
            scope: "service",
            name: "web".into(),
            metric,
            values: values.to_vec(),
        };
        run.timeline = Timeline {
            t_s: vec![30.0, 60.0, 90.0, 120.0],
            series: vec![
                series("replicas_ready", &[1.0, 2.0, 2.0, 4.0]),
                series("utilization", &[1.0, 0.5, 1.0, 0.3]),
            ],
        };
        let decision = |t: f64, after: f64| serde_json::json!({"kind": "autoscaler", "t_s": t, "before": 1.0, "after": after});
        run.decisions = vec![decision(15.0, 2.0), decision(45.0, 2.0), decision(60.0, 1.0)];
        replay().measure(&mut run);
        // Of three windows after the warm-up the second needs 3 cores and has 2.
        assert!((run.metrics["under_provisioned_ratio"] - 1.0 / 3.0).abs() < 1e-12);
        assert!((run.metrics["saturated_ratio"] - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(run.metrics["scaling_actions"], 1.0);
        assert_eq!(run.metrics["bad_requests"], 100.0);
    }
}
