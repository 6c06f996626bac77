//! The last line on stdout, and the doubts that go with it.

use super::compare::{SIGNIFICANT, Split, Test, p_words};
use super::metric::{self, Direction};
use super::outcome::{ComparisonOutcome, Estimate, Finding, StrategyOutcome};
use crate::scenario::model::{Edge, Scenario, Study};
use crate::stats::interval::RUNS_FOR_RARE;
use crate::time::Duration;

/// One sentence: which strategy, better by how much, how sure. `strategies` holds the baseline too.
pub fn sentence(
    strategies: &[StrategyOutcome],
    comparisons: &[ComparisonOutcome],
    baseline: &str,
    primary: &str,
) -> String {
    let label = metric::label(primary);
    let find = |name: &str| strategies.iter().find(|strategy| strategy.name == name);
    let Some(base) = find(baseline).filter(|base| !base.replications.is_empty()) else {
        return "Nothing was finished, so nothing can be said.".into();
    };
    let Some(base_value) = base.metrics.get(primary) else {
        return format!("No verdict: {label} does not apply to `{baseline}`.");
    };
    if comparisons.is_empty() {
        return alone(base, base_value, primary);
    }
    let direction = metric::direction(primary);
    if direction == Direction::Neither {
        return format!(
            "No verdict: {label} is a fact, neither good nor bad; choose another metric as scenario.primary."
        );
    }
    // The largest improvement first, what cannot be compared left out.
    let gain = |comparison: &ComparisonOutcome| {
        let change = comparison.differences.get(primary)?.mean;
        Some(if direction == Direction::Up { change } else { -change })
    };
    let mut ranked: Vec<&ComparisonOutcome> =
        comparisons.iter().filter(|comparison| gain(comparison).is_some()).collect();
    ranked.sort_by(|a, b| gain(b).unwrap_or(0.0).total_cmp(&gain(a).unwrap_or(0.0)));
    let Some(first) = ranked.first() else {
        return format!("No verdict: {label} applies to no pair of strategies.");
    };
    if ranked.iter().all(|comparison| comparison.p_holm.is_none()) {
        return by_the_point(first, base, base_value, primary);
    }
    let by = |comparison: &ComparisonOutcome| by(comparison, strategies, base, primary, comparisons.len());
    if let Some(best) = ranked.iter().find(|comparison| comparison.finding == Finding::Better) {
        let winner = find(&best.strategy);
        let rivals: Vec<&str> = ranked
            .iter()
            .filter(|other| other.finding == Finding::Better && other.strategy != best.strategy)
            .filter(|other| match (winner, find(&other.strategy)) {
                (Some(winner), Some(other)) => {
                    Test::of(other, winner, primary).p.is_none_or(|p| p >= SIGNIFICANT)
                }
                _ => false,
            })
            .map(|other| other.strategy.as_str())
            .collect();
        let rivals = match rivals[..] {
            [] => String::new(),
            _ => format!("; it cannot be told apart from {}", list(&rivals)),
        };
        return format!("`{}` beats `{baseline}`: {}{rivals}.", best.strategy, by(best));
    }
    let alone = comparisons.len() == 1;
    // The largest difference may be the least sure one.
    if let Some(worst) = ranked.iter().rev().find(|comparison| comparison.finding == Finding::Worse) {
        let others = if alone { String::new() } else { format!("No strategy beats `{baseline}`, and ") };
        return format!("{others}`{}` is worse than `{baseline}`: {}.", worst.strategy, by(worst));
    }
    let same = |comparison: &&ComparisonOutcome| {
        comparison
            .differences
            .get(primary)
            .is_some_and(|difference| difference.mean == 0.0 && difference.lo == difference.hi)
    };
    if ranked.iter().all(same) {
        let names: Vec<&str> = ranked.iter().map(|comparison| comparison.strategy.as_str()).collect();
        let verb = if names.len() == 1 { "gives" } else { "give" };
        return format!(
            "{} {verb} exactly the same {label} as `{baseline}` in every replication.",
            list(&names)
        );
    }
    if alone {
        return format!("`{}` is not shown to differ from `{baseline}`: {}.", first.strategy, by(first));
    }
    format!(
        "No strategy is shown to differ from `{baseline}`; the best of them is `{}`: {}.",
        first.strategy,
        by(first)
    )
}

/// By how much, and how sure.
fn by(
    comparison: &ComparisonOutcome,
    strategies: &[StrategyOutcome],
    base: &StrategyOutcome,
    primary: &str,
    comparisons: usize,
) -> String {
    let label = metric::label(primary);
    let Some(difference) = comparison.differences.get(primary) else { return label };
    let Some(other) = strategies.iter().find(|strategy| strategy.name == comparison.strategy) else {
        return label;
    };
    let corrected =
        if comparisons > 1 { format!(" corrected for {comparisons} comparisons") } else { String::new() };
    let p = comparison.p_holm.map_or(String::new(), |p| format!(", {}{corrected}", p_words(p)));
    let pairs = format!("{} paired replications{p}", difference.n);
    if let Some(split) = Split::between(base, other, primary) {
        return format!(
            "{} collapse instead of {}, to {label} near {} ({pairs})",
            split.odds(other, primary),
            split.odds(base, primary),
            metric::value(primary, split.centres.1)
        );
    }
    let mean = |strategy: &StrategyOutcome| {
        strategy
            .metrics
            .get(primary)
            .map_or_else(|| "unknown".to_owned(), |is| metric::value(primary, is.mean))
    };
    format!(
        "{label} {}, {} instead of {} (95 % interval over {pairs})",
        metric::difference(primary, difference),
        mean(other),
        mean(base)
    )
}

/// There is nothing to compare with.
fn alone(only: &StrategyOutcome, value: &Estimate, primary: &str) -> String {
    let label = metric::label(primary);
    let lonely = "there is no other strategy to compare it with";
    let n = only.replications.len();
    if let Some(split) = Split::between(only, only, primary) {
        let (good, bad) = (metric::value(primary, split.centres.0), metric::value(primary, split.centres.1));
        let odds = split.odds(only, primary);
        return format!(
            "`{}` collapses in {odds}, to {label} near {bad} instead of {good}; {lonely}.",
            only.name
        );
    }
    let runs = if n == 1 { "in the only replication".to_owned() } else { format!("over {n} replications") };
    format!("`{}` has {label} {} {runs}; {lonely}.", only.name, metric::estimate(primary, value))
}

/// Nothing can be said about chance.
fn by_the_point(best: &ComparisonOutcome, base: &StrategyOutcome, value: &Estimate, primary: &str) -> String {
    let label = metric::label(primary);
    let doubt = "one replication cannot say whether that is luck (use --replications 5 or more)";
    let was = metric::value(primary, value.mean);
    match best.differences.get(primary) {
        Some(difference) if metric::direction(primary).improves(difference.mean) => format!(
            "`{}` looks best: {label} {} from {was} under `{}`, but {doubt}.",
            best.strategy,
            metric::difference(primary, difference),
            base.name
        ),
        _ => format!("Nothing looks better than `{}` with {label} {was}, but {doubt}.", base.name),
    }
}

/// Quoted, with commas and a last "and".
fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match &quoted[..] {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// What the warnings need to know of a study.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Start of the counted part of a run.
    pub warm_up: Duration,
    /// Whether anything has a memory that starts empty: autoscalers, breakers, caches.
    pub controllers: bool,
    /// Whether anything is decided by the figures: more than one strategy, or a threshold.
    pub decides: bool,
}

impl Facts {
    /// Of a study.
    pub fn of(study: &Study) -> Self {
        let breaks = |edge: &Edge| edge.all_policies().any(|policies| policies.breaker.is_some());
        let learns = |scenario: &Scenario| {
            scenario.services.iter().any(|service| {
                service.autoscaler.is_some() || !service.caches.is_empty() || service.edges.iter().any(breaks)
            }) || scenario.sources.iter().any(|source| source.edges.iter().any(breaks))
        };
        Self {
            warm_up: study.warm_up,
            controllers: study.strategies.iter().any(|strategy| learns(&strategy.scenario)),
            decides: study.strategies.len() > 1 || !study.thresholds.is_empty(),
        }
    }
}

/// Why the figures may mislead, one line each.
pub fn warnings(facts: Facts, strategies: &[StrategyOutcome]) -> Vec<String> {
    let mut warnings = Vec::new();
    let runs = strategies.iter().map(|strategy| strategy.replications.len()).min().unwrap_or(0);
    match runs {
        1 if facts.decides => warnings.push(
            "one replication: there are no intervals, thresholds go by the point value and no difference can be told from luck \
             (use --replications 5 or more)"
                .into(),
        ),
        2..5 if facts.decides => warnings.push(format!(
            "{runs} replications: intervals are wide and lean on the assumption that runs scatter normally (5 or more are usual)"
        )),
        _ => {}
    }
    if facts.controllers && facts.warm_up == Duration::ZERO {
        warnings.push(
            "warm-up is 0 although autoscalers, breakers or caches start empty: the figures include their start \
             (set scenario.warm-up to at least the longest of their windows)"
                .into(),
        );
    }
    let mut split = false;
    for strategy in strategies {
        let n = strategy.replications.len();
        for bistable in &strategy.bistable {
            split = true;
            warnings.push(format!(
                "{} under `{}` falls into two clusters, near {} in {} of {} runs and near {} in the others: read the probability, not the mean",
                metric::label(&bistable.metric),
                strategy.name,
                metric::value(&bistable.metric, bistable.centres.1),
                bistable.bad.0,
                bistable.bad.1,
                metric::value(&bistable.metric, bistable.centres.0),
            ));
        }
        if let Some(lost) = strategy.metrics.get("recovery_unrecovered").filter(|lost| lost.mean > 0.0) {
            let count = strategy
                .replications
                .iter()
                .filter(|run| run.metrics.get("recovery_unrecovered").is_some_and(|lost| *lost > 0.5))
                .count();
            warnings.push(format!(
                "{count} of {} runs under `{}` had not recovered when they ended: the recovery time is the Kaplan-Meier median, not a mean",
                lost.n, strategy.name
            ));
        }
        // Censored recovery times are missing for a reason that is told above.
        let partial = strategy.metrics.iter().filter(|(name, estimate)| {
            !name.contains('.') && !name.starts_with("recovery_") && (estimate.n as usize) < n
        });
        let partial: Vec<String> =
            partial.map(|(name, estimate)| format!("{} ({})", metric::label(name), estimate.n)).collect();
        if !partial.is_empty() {
            warnings.push(format!(
                "some metrics under `{}` apply in fewer than its {n} replications: {}",
                strategy.name,
                partial.join(", ")
            ));
        }
    }
    if split && runs < RUNS_FOR_RARE as usize {
        warnings.push(format!(
            "below {RUNS_FOR_RARE} replications nobody may claim that a strategy collapses in under 5 % of runs, not even one that never did here"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::compare::compare;
    use crate::lab::summary::tests::strategy;

    fn verdict(primary: &str, strategies: &[StrategyOutcome]) -> String {
        let others: Vec<&StrategyOutcome> = strategies[1..].iter().collect();
        let comparisons = compare(&strategies[0], &others, primary);
        sentence(strategies, &comparisons, &strategies[0].name, primary)
    }

    const BASE: &[f64] = &[0.950, 0.957, 0.948, 0.955, 0.951];

    fn moved(by: f64, wobble: f64) -> Vec<f64> {
        BASE.iter()
            .enumerate()
            .map(|(index, value)| value + by + wobble * [0.0, 1.0, -1.0, 0.5, -0.5][index])
            .collect()
    }

    fn availability(name: &str, values: &[f64]) -> StrategyOutcome {
        strategy(name, &[("availability", values)])
    }

    /// The strategy that lies furthest behind has a single replication in which the metric applies, and proves nothing.
    #[test]
    fn the_largest_loss_may_be_the_least_sure() {
        let strategies = [
            availability("nothing", BASE),
            availability("storm", &moved(-0.1, 0.002)),
            availability("collapsed", &[0.1]),
        ];
        let words = verdict("availability", &strategies);
        assert!(words.starts_with("No strategy beats `nothing`, and `storm` is worse"), "{words}");
    }

    #[test]
    fn sentences() {
        let base = || availability("nothing", BASE);
        let latency = |name: &str, by: f64| {
            let values: Vec<f64> = [900.0, 950.0, 870.0, 905.0, 940.0]
                .iter()
                .map(|value| value + by * (1.0 + value / 9000.0))
                .collect();
            strategy(name, &[("latency_p99_ms", &values)])
        };
        let bad: Vec<f64> =
            (0..20).map(|i| if i % 5 < 3 { 0.4 } else { 0.998 } + f64::from(i) * 1e-5).collect();
        let good: Vec<f64> = (0..20).map(|i| 0.998 + f64::from(i) * 1e-5).collect();
        let cases = [
            (
                "a clear winner",
                verdict(
                    "availability",
                    &[
                        base(),
                        availability("hpa", &moved(0.02, 0.001)),
                        availability("limiter", &moved(0.03, 0.001)),
                    ],
                ),
            ),
            (
                "two that cannot be told apart",
                verdict(
                    "availability",
                    &[
                        base(),
                        availability("hpa", &moved(0.03, 0.001)),
                        availability("limiter", &moved(0.0301, -0.001)),
                    ],
                ),
            ),
            (
                "a single comparison",
                verdict("latency_p99_ms", &[latency("nothing", 0.0), latency("hpa", -100.0)]),
            ),
            ("worse", verdict("availability", &[base(), availability("storm", &moved(-0.1, 0.002))])),
            (
                "nothing better, one worse",
                verdict(
                    "availability",
                    &[
                        base(),
                        availability("storm", &moved(-0.1, 0.002)),
                        availability("retry", &moved(0.0001, 0.003)),
                    ],
                ),
            ),
            (
                "nothing shown",
                verdict("availability", &[base(), availability("retry", &moved(0.0001, 0.003))]),
            ),
            (
                "exactly the same",
                verdict("availability", &[base(), availability("a", BASE), availability("b", BASE)]),
            ),
            (
                "one replication",
                verdict(
                    "availability",
                    &[
                        availability("nothing", &[0.95]),
                        availability("a", &[0.99]),
                        availability("b", &[0.96]),
                    ],
                ),
            ),
            (
                "one replication, none better",
                verdict("availability", &[availability("nothing", &[0.95]), availability("a", &[0.93])]),
            ),
            ("alone", verdict("availability", &[base()])),
            ("alone, once", verdict("availability", &[availability("default", &[0.99987])])),
            ("alone and bistable", verdict("availability", &[availability("default", &bad)])),
            (
                "collapses prevented",
                verdict("availability", &[availability("nothing", &bad), availability("breaker", &good)]),
            ),
            (
                "a collapse in five proves nothing",
                verdict(
                    "availability",
                    &[
                        availability("nothing", &[0.99, 0.4, 0.99, 0.98, 0.99]),
                        availability("breaker", &[0.99, 0.98, 0.99, 0.98, 0.99]),
                    ],
                ),
            ),
            (
                "a neutral metric",
                verdict(
                    "requests",
                    &[strategy("nothing", &[("requests", BASE)]), strategy("a", &[("requests", BASE)])],
                ),
            ),
            ("not applicable", verdict("cost", &[base(), availability("a", BASE)])),
            ("nothing finished", verdict("availability", &[availability("nothing", &[])])),
        ];
        insta::assert_snapshot!(cases.map(|(case, sentence)| format!("{case}: {sentence}")).join("\n"));
    }

    #[test]
    fn doubts() {
        let facts = Facts { warm_up: Duration::ZERO, controllers: true, decides: true };
        let nan = f64::NAN;
        let shaky = strategy(
            "hpa",
            &[
                ("availability", &[0.999, 0.41, 0.998, 0.52]),
                ("latency_p99_ms", &[10.0, nan, 12.0, nan]),
                ("recovery_time_s", &[30.0, nan, 50.0, nan]),
                ("recovery_unrecovered", &[0.0, 1.0, 0.0, 1.0]),
            ],
        );
        insta::assert_snapshot!(warnings(facts, &[shaky]).join("\n"));
        let one = warnings(Facts { controllers: false, ..facts }, &[availability("a", &[0.9])]);
        assert_eq!(one.len(), 1);
        let calm = Facts { warm_up: Duration::from_secs(60), controllers: true, decides: true };
        assert!(warnings(calm, &[availability("a", BASE)]).is_empty());
        assert!(warnings(Facts { decides: false, ..calm }, &[availability("a", &[0.9])]).is_empty());
    }
}
