//! Strategies against the baseline, pair by pair.
//!
//! Replication r of every strategy sees the same arrivals and the same luck, so the difference within a pair is what the strategy did. One
//! metric decides (the scenario's primary one), and its p values are corrected over all strategies (Holm); the other
//! differences are descriptive. "Better" needs a corrected p value below 5 %, and then the interval excludes 0 as well.
//!
//! Where the primary metric is bistable, differences of means say nothing. What is compared then is how often a run ends in
//! the bad cluster, by the exact sign test on the pairs that end differently (`McNemar`).

use std::collections::BTreeMap;

use super::metric;
use super::outcome::{Bistable, ComparisonOutcome, Estimate, Finding, StrategyOutcome};
use crate::stats::holm::holm;
use crate::stats::interval;
use crate::stats::paired::{Paired, paired};

/// The level below which a corrected p value counts.
pub const SIGNIFICANT: f64 = 0.05;

/// Each of `others` against `baseline`, in their order.
pub fn compare(
    baseline: &StrategyOutcome,
    others: &[&StrategyOutcome],
    primary: &str,
) -> Vec<ComparisonOutcome> {
    let tests: Vec<Test> = others.iter().map(|other| Test::of(baseline, other, primary)).collect();
    let p_values: Vec<f64> = tests.iter().filter_map(|test| test.p).collect();
    let mut corrected = holm(&p_values).into_iter();
    let outcome = |(other, test): (&&StrategyOutcome, Test)| {
        let p_holm = test.p.and_then(|_| corrected.next());
        let shown = p_holm.is_some_and(|p| p < SIGNIFICANT);
        let direction = metric::direction(primary);
        let finding = match test.change {
            change if shown && direction.improves(change) => Finding::Better,
            change if shown && direction.improves(-change) => Finding::Worse,
            _ => Finding::NotShown,
        };
        let differences = differences(baseline, other);
        let words = words(baseline, other, primary, differences.get(primary), finding, p_holm);
        ComparisonOutcome {
            strategy: other.name.clone(),
            baseline: baseline.name.clone(),
            differences,
            primary: primary.to_owned(),
            p_holm,
            words,
            finding,
        }
    };
    others.iter().zip(tests).map(outcome).collect()
}

/// The test of the primary metric between two strategies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Test {
    /// Uncorrected p value; `None` where nothing can be tested.
    pub(super) p: Option<f64>,
    /// Signed so that [`metric::Direction::improves`] applies.
    pub(super) change: f64,
}

impl Test {
    pub(super) fn of(from: &StrategyOutcome, to: &StrategyOutcome, primary: &str) -> Self {
        let pairs = pairs(from, to, primary);
        if let Some(Split { at, .. }) = Split::between(from, to, primary) {
            let count = |wanted: (bool, bool)| {
                pairs.iter().filter(|(a, b)| (*a > at, *b > at) == wanted).count() as u32
            };
            let (up, down) = (count((false, true)), count((true, false)));
            let p = (pairs.len() > 1).then(|| sign_test(up, down));
            return Self { p, change: f64::from(up) - f64::from(down) };
        }
        let differences: Vec<f64> = pairs.iter().map(|(a, b)| b - a).collect();
        match paired(&differences) {
            Some(Paired { mean, p, .. }) => Self { p, change: mean },
            None => Self { p: None, change: 0.0 },
        }
    }
}

/// Where a metric splits into two clusters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Split {
    at: f64,
    /// Means of the good cluster and of the bad one.
    pub(super) centres: (f64, f64),
}

impl Split {
    /// The split of either strategy; that with the wider gap if both have one.
    pub(super) fn between(a: &StrategyOutcome, b: &StrategyOutcome, metric: &str) -> Option<Self> {
        let gap = |split: &Self| (split.centres.0 - split.centres.1).abs();
        [a, b]
            .into_iter()
            .flat_map(|strategy| strategy.bistable.iter().filter(|bistable| bistable.metric == metric))
            .map(|Bistable { centres, .. }| Self { at: 0.5 * (centres.0 + centres.1), centres: *centres })
            .max_by(|a, b| gap(a).total_cmp(&gap(b)))
    }

    /// How many runs of a strategy end in the bad cluster: `2 of 5 runs [5.3 %, 85.3 %]`.
    pub(super) fn odds(&self, strategy: &StrategyOutcome, metric: &str) -> String {
        let upper_is_bad = self.centres.1 > self.centres.0;
        let (mut bad, mut n) = (0, 0);
        for value in strategy.replications.iter().filter_map(|run| run.metrics.get(metric)) {
            n += 1;
            bad += u32::from((*value > self.at) == upper_is_bad);
        }
        let (lo, hi) = interval::of_probability(bad, n, interval::LEVEL);
        format!("{bad} of {n} runs [{:.1} %, {:.1} %]", 100.0 * lo, 100.0 * hi)
    }
}

/// Values of a metric in the replications that both have, in order.
fn pairs(from: &StrategyOutcome, to: &StrategyOutcome, metric: &str) -> Vec<(f64, f64)> {
    let pair = |a: &super::outcome::Replication| {
        let b = to.replications.iter().find(|b| b.index == a.index)?;
        Some((*a.metrics.get(metric)?, *b.metrics.get(metric)?))
    };
    from.replications.iter().filter_map(pair).collect()
}

/// Mean paired difference (`to` minus `from`) of every metric that both have in the same replications.
fn differences(from: &StrategyOutcome, to: &StrategyOutcome) -> BTreeMap<String, Estimate> {
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for a in &from.replications {
        let Some(b) = to.replications.iter().find(|b| b.index == a.index) else { continue };
        for (metric, was) in &a.metrics {
            if let Some(is) = b.metrics.get(metric) {
                values.entry(metric).or_default().push(is - was);
            }
        }
    }
    let estimate = |(metric, values): (&str, Vec<f64>)| {
        // A recovery time exists only in runs that recovered; pairs of survivors would be a biased choice.
        if metric == "recovery_time_s"
            && !(from.metrics.contains_key(metric) && to.metrics.contains_key(metric))
        {
            return None;
        }
        let Paired { n, mean, interval, .. } = paired(&values)?;
        Some((
            metric.to_owned(),
            Estimate { mean, lo: interval.map(|(lo, _)| lo), hi: interval.map(|(_, hi)| hi), n },
        ))
    };
    values.into_iter().filter_map(estimate).collect()
}

/// Two-sided exact sign test of `up` against `down`.
fn sign_test(up: u32, down: u32) -> f64 {
    let n = up + down;
    // P(X <= min) of a fair coin, built up term by term.
    let (mut term, mut sum) = (libm::exp(-f64::from(n) * std::f64::consts::LN_2), 0.0);
    for k in 0..=up.min(down) {
        sum += term;
        term *= f64::from(n - k) / f64::from(k + 1);
    }
    (2.0 * sum).min(1.0)
}

/// `p = 0.012`, `p < 0.001`.
pub(super) fn p_words(p: f64) -> String {
    if p < 0.001 { "p < 0.001".into() } else { format!("p = {p:.3}") }
}

fn words(
    baseline: &StrategyOutcome,
    other: &StrategyOutcome,
    primary: &str,
    difference: Option<&Estimate>,
    finding: Finding,
    p: Option<f64>,
) -> String {
    let label = metric::label(primary);
    let ending = match (finding, p) {
        (Finding::Better, Some(p)) => format!("better ({})", p_words(p)),
        (Finding::Worse, Some(p)) => format!("worse ({})", p_words(p)),
        (_, Some(p)) => format!("no difference shown ({})", p_words(p)),
        (_, None) => "one pair says nothing about chance".into(),
    };
    if let Some(split) = Split::between(baseline, other, primary) {
        let (here, there) = (split.odds(other, primary), split.odds(baseline, primary));
        return format!("{label} collapses in {here} instead of {there}; {ending}");
    }
    match difference {
        None => format!("{label} does not apply to both strategies"),
        Some(Estimate { mean: 0.0, lo: Some(0.0) | None, hi: Some(0.0) | None, .. }) => {
            format!("{label} exactly the same")
        }
        Some(difference) => format!("{label} {}; {ending}", metric::difference(primary, difference)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::summary::tests::strategy;

    #[test]
    fn sign_test_known_values() {
        assert_eq!(sign_test(0, 0), 1.0);
        assert_eq!(sign_test(1, 1), 1.0);
        assert!((sign_test(0, 5) - 0.0625).abs() < 1e-12);
        assert!((sign_test(1, 9) - 22.0 / 1024.0).abs() < 1e-12);
        assert!((sign_test(9, 1) - 22.0 / 1024.0).abs() < 1e-12);
    }

    #[test]
    fn differences_in_words() {
        let baseline = strategy(
            "nothing",
            &[
                ("availability", &[0.950, 0.957, 0.948, 0.955, 0.951]),
                ("latency_p99_ms", &[900.0, 950.0, 870.0, 905.0, 940.0]),
            ],
        );
        let better = strategy(
            "hpa",
            &[
                ("availability", &[0.983, 0.989, 0.979, 0.987, 0.984]),
                ("latency_p99_ms", &[800.0, 840.0, 790.0, 810.0, 845.0]),
            ],
        );
        let same = strategy("same", &[("availability", &[0.950, 0.957, 0.948, 0.955, 0.951])]);
        let unclear = strategy("retry", &[("availability", &[0.955, 0.951, 0.949, 0.956, 0.948])]);
        let worse = strategy("storm", &[("availability", &[0.850, 0.861, 0.845, 0.857, 0.852])]);
        let other = strategy("other", &[("cost", &[1.0, 1.0, 1.0, 1.0, 1.0])]);
        let found = compare(&baseline, &[&better, &same, &unclear, &worse, &other], "availability");
        let lines = found
            .iter()
            .map(|outcome| format!("{}: {} {:?}", outcome.strategy, outcome.words, outcome.finding));
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r"
        hpa: availability +3.22 percentage points [+3.12, +3.32]; better (p < 0.001) Better
        same: availability exactly the same NotShown
        retry: availability -0.04 percentage points [-0.56, +0.48]; no difference shown (p = 1.000) NotShown
        storm: availability -9.92 percentage points [-10.24, -9.60]; worse (p < 0.001) Worse
        other: availability does not apply to both strategies NotShown
        ");
        let latency = compare(&baseline, &[&better], "latency_p99_ms");
        insta::assert_snapshot!(latency[0].words, @"p99 latency -96 ms [-109, -83]; better (p < 0.001)");
        assert_eq!(latency[0].finding, Finding::Better);
        assert_eq!(found[0].differences["latency_p99_ms"].mean, -96.0);
    }

    #[test]
    fn correction_counts_the_strategies() {
        let baseline = strategy("nothing", &[("availability", &[0.90, 0.91, 0.92])]);
        // p = 0.029 alone.
        let other = strategy("a", &[("availability", &[0.910, 0.923, 0.927])]);
        assert_eq!(compare(&baseline, &[&other], "availability")[0].finding, Finding::Better);
        let both = compare(&baseline, &[&other, &other], "availability");
        assert_eq!((both[0].finding, both[1].finding), (Finding::NotShown, Finding::NotShown));
    }

    #[test]
    fn pairs_go_by_number() {
        let mut baseline = strategy("nothing", &[("availability", &[0.1, 0.5, 0.9])]);
        let other = strategy("a", &[("availability", &[0.2, 0.6, 1.0])]);
        baseline.replications.remove(1);
        let found = compare(&baseline, &[&other], "availability");
        assert_eq!(found[0].differences["availability"].n, 2);
        assert!((found[0].differences["availability"].mean - 0.1).abs() < 1e-12);
    }

    #[test]
    fn collapses_are_counted() {
        let bad: Vec<f64> =
            (0..20).map(|i| if i % 5 < 3 { 0.4 } else { 0.998 } + f64::from(i) * 1e-5).collect();
        let good: Vec<f64> = (0..20).map(|i| 0.998 + f64::from(i) * 1e-5).collect();
        let baseline = strategy("nothing", &[("availability", &bad)]);
        let fixed = strategy("breaker", &[("availability", &good)]);
        let found = compare(&baseline, &[&fixed], "availability");
        insta::assert_snapshot!(found[0].words, @"availability collapses in 0 of 20 runs [0.0 %, 16.8 %] instead of 12 of 20 runs [36.1 %, 80.9 %]; better (p < 0.001)");
        assert_eq!(found[0].finding, Finding::Better);
        assert_eq!(compare(&fixed, &[&baseline], "availability")[0].finding, Finding::Worse);
    }

    #[test]
    fn one_replication_decides_nothing() {
        let baseline = strategy("nothing", &[("availability", &[0.9])]);
        let other = strategy("a", &[("availability", &[0.99])]);
        let found = &compare(&baseline, &[&other], "availability")[0];
        assert_eq!((found.finding, found.p_holm), (Finding::NotShown, None));
        insta::assert_snapshot!(found.words, @"availability +9.00 percentage points; one pair says nothing about chance");
    }
}
