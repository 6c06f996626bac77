//! Thresholds: pass, fail, or not decided by the data.
//!
//! A threshold passes where the whole 95 % interval is on its right side, fails where the whole interval is on the wrong side, and is
//! inconclusive where the limit lies inside, which fails unless the scenario allows it. Three cases need a rule of their own:
//!
//! * *No interval* (one replication, or an infinite mean): the point value decides; [`verdict::warnings`](super::verdict::warnings) says so.
//! * *The metric does not apply* (no good request to have a latency, a recovery time in a run that did not recover): fails, also where
//!   inconclusive is allowed. A gate that opens because there is nothing to measure is no gate.
//! * *It applies in some replications only*: what would pass is inconclusive, because the others may be missing for a reason.

use super::outcome::{Estimate, StrategyOutcome, ThresholdOutcome, Verdict};
use crate::scenario::model::{Comparison, Threshold};

/// Every threshold on every strategy it applies to, in order of the thresholds.
pub fn judge(thresholds: &[Threshold], strategies: &[StrategyOutcome]) -> Vec<ThresholdOutcome> {
    let on = |threshold: &Threshold| {
        let chosen = strategies
            .iter()
            .enumerate()
            .filter(|(index, _)| threshold.strategy.is_none_or(|only| only == *index));
        chosen.map(|(_, strategy)| judge_one(threshold, strategy)).collect::<Vec<_>>()
    };
    thresholds.iter().flat_map(on).collect()
}

fn judge_one(threshold: &Threshold, strategy: &StrategyOutcome) -> ThresholdOutcome {
    let estimate = strategy.metrics.get(&threshold.metric).copied();
    let verdict = match estimate {
        None => Verdict::Fail,
        Some(estimate) => match verdict(threshold, &estimate) {
            Verdict::Pass if (estimate.n as usize) < strategy.replications.len() => Verdict::Inconclusive,
            verdict => verdict,
        },
    };
    let failed = match verdict {
        Verdict::Pass => false,
        Verdict::Fail => true,
        Verdict::Inconclusive => !threshold.allow_inconclusive,
    };
    ThresholdOutcome {
        text: threshold.text.clone(),
        strategy: strategy.name.clone(),
        estimate,
        verdict,
        failed,
    }
}

fn verdict(threshold: &Threshold, estimate: &Estimate) -> Verdict {
    let limit = threshold.value;
    let (lo, hi) = (estimate.lo.unwrap_or(estimate.mean), estimate.hi.unwrap_or(estimate.mean));
    let (right, wrong) = match threshold.comparison {
        Comparison::Less => (hi < limit, lo >= limit),
        Comparison::AtMost => (hi <= limit, lo > limit),
        Comparison::Greater => (lo > limit, hi <= limit),
        Comparison::AtLeast => (lo >= limit, hi < limit),
        Comparison::Equal => (lo >= limit && hi <= limit, lo > limit || hi < limit),
        Comparison::NotEqual => (lo > limit || hi < limit, lo >= limit && hi <= limit),
    };
    match (right, wrong) {
        (true, _) => Verdict::Pass,
        (_, true) => Verdict::Fail,
        _ => Verdict::Inconclusive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::summary::tests::strategy;

    fn threshold(metric: &str, comparison: Comparison, value: f64) -> Threshold {
        Threshold {
            text: String::new(),
            metric: metric.into(),
            strategy: None,
            comparison,
            value,
            allow_inconclusive: false,
        }
    }

    #[test]
    fn the_interval_decides() {
        // 100 with an interval of about 98.0 to 102.0.
        let strategies = [strategy("x", &[("latency_p99_ms", &[98.0, 102.0, 100.0, 101.0, 99.0])])];
        let check = |comparison, value| {
            judge(&[threshold("latency_p99_ms", comparison, value)], &strategies)[0].verdict
        };
        assert_eq!(check(Comparison::Less, 103.0), Verdict::Pass);
        assert_eq!(check(Comparison::Less, 101.0), Verdict::Inconclusive);
        assert_eq!(check(Comparison::Less, 97.0), Verdict::Fail);
        assert_eq!(check(Comparison::AtMost, 103.0), Verdict::Pass);
        assert_eq!(check(Comparison::Greater, 97.0), Verdict::Pass);
        assert_eq!(check(Comparison::Greater, 99.0), Verdict::Inconclusive);
        assert_eq!(check(Comparison::AtLeast, 103.0), Verdict::Fail);
        assert_eq!(check(Comparison::Equal, 100.0), Verdict::Inconclusive);
        assert_eq!(check(Comparison::Equal, 110.0), Verdict::Fail);
        assert_eq!(check(Comparison::NotEqual, 110.0), Verdict::Pass);
    }

    #[test]
    fn limits_count_as_written() {
        let strategies = [strategy("x", &[("version_inconsistent_requests", &[0.0, 0.0, 0.0])])];
        let check = |comparison| {
            judge(&[threshold("version_inconsistent_requests", comparison, 0.0)], &strategies)[0].verdict
        };
        assert_eq!(check(Comparison::Equal), Verdict::Pass);
        assert_eq!(check(Comparison::AtMost), Verdict::Pass);
        assert_eq!(check(Comparison::Less), Verdict::Fail);
        assert_eq!(check(Comparison::NotEqual), Verdict::Fail);
        assert_eq!(check(Comparison::Greater), Verdict::Fail);
    }

    #[test]
    fn inconclusive_fails_unless_allowed() {
        let strategies = [strategy("x", &[("availability", &[0.98, 0.99, 1.0])])];
        let mut threshold = threshold("availability", Comparison::Greater, 0.985);
        let outcome = &judge(std::slice::from_ref(&threshold), &strategies)[0];
        assert_eq!((outcome.verdict, outcome.failed), (Verdict::Inconclusive, true));
        threshold.allow_inconclusive = true;
        assert!(!judge(&[threshold], &strategies)[0].failed);
    }

    #[test]
    fn what_is_missing_does_not_pass() {
        let nan = f64::NAN;
        let strategies =
            [strategy("x", &[("latency_p99_ms", &[10.0, 10.0, nan]), ("availability", &[1.0, 1.0, 0.0])])];
        let mut absent = threshold("cost", Comparison::Less, 1.0);
        absent.allow_inconclusive = true;
        let outcomes = judge(&[absent, threshold("latency_p99_ms", Comparison::Less, 20.0)], &strategies);
        assert_eq!(
            (outcomes[0].verdict, outcomes[0].failed, outcomes[0].estimate),
            (Verdict::Fail, true, None)
        );
        assert_eq!(outcomes[1].verdict, Verdict::Inconclusive);
    }

    #[test]
    fn one_replication_and_infinity_go_by_the_point() {
        let strategies =
            [strategy("a", &[("availability", &[0.99])]), strategy("b", &[("availability", &[0.8])])];
        let verdicts = |threshold: Threshold| -> Vec<Verdict> {
            judge(&[threshold], &strategies).iter().map(|outcome| outcome.verdict).collect()
        };
        assert_eq!(
            verdicts(threshold("availability", Comparison::Greater, 0.9)),
            [Verdict::Pass, Verdict::Fail]
        );
        let only = Threshold { strategy: Some(1), ..threshold("availability", Comparison::Greater, 0.9) };
        assert_eq!(verdicts(only), [Verdict::Fail]);
        let infinite = [strategy("a", &[("latency_offered_p99_ms", &[5.0, f64::INFINITY])])];
        let outcome = &judge(&[threshold("latency_offered_p99_ms", Comparison::Less, 800.0)], &infinite)[0];
        assert_eq!(outcome.verdict, Verdict::Fail);
    }
}
