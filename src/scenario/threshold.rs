//! Thresholds as k6 writes them: `"latency{strategy:hpa}" = ["p(99) < 800ms"]`; and the names of all metrics.

use super::error::Diagnostic;
use super::model::{Comparison, Scenario};
use crate::time::Duration;
use crate::units::{UnitError, parse_duration, parse_number, parse_rate, parse_share};

/// What a metric counts, which decides how a number beside it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 0..1, written as a percentage.
    Share,
    /// Milliseconds, written as a duration.
    Milliseconds,
    /// Seconds, written as a duration.
    Seconds,
    /// Per second, written as a rate.
    Rate,
    /// A plain number.
    Number,
}

/// Metrics of requests: of all of them, and written `source.NAME.METRIC` of one source among several.
pub const REQUEST_METRICS: &[(&str, Unit)] = &[
    ("availability", Unit::Share),
    ("latency_mean_ms", Unit::Milliseconds),
    ("latency_p50_ms", Unit::Milliseconds),
    ("latency_p90_ms", Unit::Milliseconds),
    ("latency_p99_ms", Unit::Milliseconds),
    ("latency_p999_ms", Unit::Milliseconds),
    ("latency_offered_p99_ms", Unit::Milliseconds),
    ("offered_rps", Unit::Rate),
    ("throughput_rps", Unit::Rate),
    ("goodput_rps", Unit::Rate),
    ("rejected_ratio", Unit::Share),
    ("timeout_ratio", Unit::Share),
    ("failed_ratio", Unit::Share),
    ("unfinished_ratio", Unit::Share),
    ("degraded_ratio", Unit::Share),
    ("in_system_mean", Unit::Number),
    ("requests", Unit::Number),
];

/// Metrics of the whole run.
pub const RUN_METRICS: &[(&str, Unit)] = &[
    ("amplification", Unit::Number),
    ("wasted_work_ratio", Unit::Share),
    ("instance_hours", Unit::Number),
    ("node_hours", Unit::Number),
    ("cost", Unit::Number),
    ("recovery_time_s", Unit::Seconds),
    ("recovery_censored_s", Unit::Seconds),
    ("recovery_unrecovered", Unit::Share),
    ("version_inconsistent_requests", Unit::Number),
    ("error_budget_burned", Unit::Number),
];

/// Metrics of one service, written `service.NAME.METRIC`.
pub const SERVICE_METRICS: &[(&str, Unit)] = &[
    ("utilization", Unit::Share),
    ("cpu_of_request", Unit::Share),
    ("wait_mean_ms", Unit::Milliseconds),
    ("waited_ratio", Unit::Share),
    ("held_ratio", Unit::Share),
    ("held_mean_ms", Unit::Milliseconds),
    ("sojourn_mean_ms", Unit::Milliseconds),
    ("sojourn_p99_ms", Unit::Milliseconds),
    ("in_system_mean", Unit::Number),
    ("replicas_mean", Unit::Number),
    ("attempts_rps", Unit::Rate),
    ("attempts_per_call", Unit::Number),
    ("refused_ratio", Unit::Share),
    ("shed_ratio", Unit::Share),
    ("cache_hit_ratio", Unit::Share),
    ("affinity_broken_ratio", Unit::Share),
    ("probes_rps", Unit::Rate),
    ("throttled_ratio", Unit::Share),
    ("throttled_per_instance_s", Unit::Seconds),
    ("steal_ratio", Unit::Share),
    ("oom_kills", Unit::Number),
    ("crash_restarts", Unit::Number),
    ("outage_starts", Unit::Number),
    ("cpu_requested_mean", Unit::Number),
    ("memory_requested_mean_bytes", Unit::Number),
    ("disk_evictions", Unit::Number),
    ("network_bytes_per_second", Unit::Number),
    ("gc_pause_ratio", Unit::Share),
    ("gc_pause_mean_ms", Unit::Milliseconds),
    ("rollouts_completed", Unit::Number),
    ("rollouts_stalled", Unit::Number),
    ("rollout_time_s", Unit::Seconds),
    ("shutdown_refused", Unit::Number),
    ("shutdown_cut_off", Unit::Number),
    ("readiness_lost", Unit::Number),
    ("probe_restarts", Unit::Number),
    ("probes_failed_ratio", Unit::Share),
    ("rollouts_aborted", Unit::Number),
    ("rollout_abort_s", Unit::Seconds),
    ("ejections", Unit::Number),
    ("checked_out", Unit::Number),
    ("panic_ratio", Unit::Share),
    ("connections_mean", Unit::Number),
    ("connects_rps", Unit::Rate),
    ("connect_failed_ratio", Unit::Share),
    ("connect_resumed_share", Unit::Share),
    ("connect_mean_ms", Unit::Milliseconds),
    ("pool_waiting_mean", Unit::Number),
    ("pool_waited_ratio", Unit::Share),
    ("pool_wait_mean_ms", Unit::Milliseconds),
    ("pool_refused_ratio", Unit::Share),
    ("stale_requests", Unit::Number),
];

/// Metrics of the version changes of one service, written `rollout.SERVICE.METRIC`.
pub(super) const ROLLOUT_METRICS: &[(&str, Unit)] = &[
    ("update_s", Unit::Seconds),
    ("unfinished", Unit::Number),
    ("timeliness_s", Unit::Seconds),
    ("held", Unit::Number),
    ("held_s", Unit::Seconds),
    ("held_lost", Unit::Number),
    ("states_lost", Unit::Number),
    ("wrong_rollbacks", Unit::Number),
    ("missed", Unit::Number),
    ("detect_s", Unit::Seconds),
    ("hurt", Unit::Number),
];

/// Metrics of one group, written `group.SERVICE.METRIC`.
pub const GROUP_METRICS: &[(&str, Unit)] = &[
    ("leaderless_s", Unit::Seconds),
    ("split_brain_s", Unit::Seconds),
    ("elections", Unit::Number),
    ("writes", Unit::Number),
    ("blocked_writes", Unit::Number),
    ("failed_writes", Unit::Number),
    ("lost_writes", Unit::Number),
    ("double_leader_writes", Unit::Number),
    ("reads", Unit::Number),
    ("stale_reads", Unit::Number),
    ("stale_read_ratio", Unit::Share),
    ("syncs", Unit::Number),
    ("promotions_refused", Unit::Number),
];

/// Metrics of one node pool, written `node-pool.NAME.METRIC`.
pub const NODE_POOL_METRICS: &[(&str, Unit)] = &[("nodes_up_mean", Unit::Number)];

/// Metrics of one alert, written `alert.NAME.METRIC`.
pub const ALERT_METRICS: &[(&str, Unit)] = &[("fired", Unit::Number), ("firing_s", Unit::Seconds)];

/// Metrics of one prediction, written `prediction.NAME.METRIC`.
pub const PREDICTION_METRICS: &[(&str, Unit)] =
    &[("raised", Unit::Number), ("false_alarms", Unit::Number), ("missed", Unit::Number)];

/// Metrics of whoever takes changes back, written `rollback.NAME.METRIC`.
pub const ROLLBACK_METRICS: &[(&str, Unit)] = &[
    ("rollbacks", Unit::Number),
    ("wrong_rollbacks", Unit::Number),
    ("people_called", Unit::Number),
    ("missed", Unit::Number),
    ("detect_s", Unit::Seconds),
    ("recover_s", Unit::Seconds),
];

/// Metrics of one configuration, written `config.NAME.METRIC`.
pub const CONFIG_METRICS: &[(&str, Unit)] = &[
    ("publishes", Unit::Number),
    ("mixed_s", Unit::Seconds),
    ("failed_items", Unit::Number),
    ("retried_items", Unit::Number),
    ("stopped_runs", Unit::Number),
    ("restarts", Unit::Number),
];

/// Metrics of one topic, written `topic.NAME.METRIC`; those after `published` sum over its consumers.
pub const TOPIC_METRICS: &[(&str, Unit)] = &[
    ("published", Unit::Number),
    ("publish_failed", Unit::Number),
    ("delivered", Unit::Number),
    ("redelivered", Unit::Number),
    ("consumed", Unit::Number),
    ("doubled", Unit::Number),
    ("deduplicated", Unit::Number),
    ("lost", Unit::Number),
    ("dead_lettered", Unit::Number),
    ("waiting", Unit::Number),
    ("replayed", Unit::Number),
    ("out_of_order", Unit::Number),
    ("backlog_max", Unit::Number),
    ("backlog_mean", Unit::Number),
    ("lag_mean_s", Unit::Seconds),
    ("lag_max_s", Unit::Seconds),
];

/// Metrics of one transaction, written `transaction.NAME.METRIC`.
pub const TRANSACTION_METRICS: &[(&str, Unit)] = &[
    ("begun", Unit::Number),
    ("committed", Unit::Number),
    ("aborted", Unit::Number),
    ("unfinished", Unit::Number),
    ("recovered", Unit::Number),
    ("in_doubt", Unit::Number),
    ("in_doubt_max_s", Unit::Seconds),
    ("lock_wait_mean_ms", Unit::Milliseconds),
    ("lock_wait_max_s", Unit::Seconds),
    ("lock_timeouts", Unit::Number),
    ("compensated", Unit::Number),
    ("stuck", Unit::Number),
    ("heuristic", Unit::Number),
    ("heuristic_damage", Unit::Number),
];

/// The parts of a scenario that have metrics of their own.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    pub(super) services: Vec<String>,
    pub(super) sources: Vec<String>,
    pub(super) rollouts: Vec<String>,
    pub(super) node_pools: Vec<String>,
    pub(super) alerts: Vec<String>,
    pub(super) predictions: Vec<String>,
    pub(super) rollbacks: Vec<String>,
    pub(super) configs: Vec<String>,
    pub(super) topics: Vec<String>,
    pub(super) transactions: Vec<String>,
    pub(super) groups: Vec<String>,
}

impl Parts {
    pub(super) fn of(scenario: &Scenario) -> Self {
        let groups = scenario.services.iter().filter(|service| service.group.is_some());
        Self {
            services: scenario.services.iter().map(|service| service.name.clone()).collect(),
            sources: scenario.sources.iter().map(|source| source.name.clone()).collect(),
            rollouts: scenario
                .rollouts
                .iter()
                .map(|rollout| scenario.services[rollout.service].name.clone())
                .collect(),
            node_pools: scenario.node_pools.iter().map(|pool| pool.name.clone()).collect(),
            alerts: scenario.alerts.iter().map(|alert| alert.name.clone()).collect(),
            predictions: scenario.predictions.iter().map(|prediction| prediction.name.clone()).collect(),
            rollbacks: scenario.rollbacks.iter().map(|rollback| rollback.name.clone()).collect(),
            configs: scenario.configs.iter().map(|config| config.name.clone()).collect(),
            topics: scenario.topics.iter().map(|topic| topic.name.clone()).collect(),
            transactions: scenario.transactions.iter().map(|transaction| transaction.name.clone()).collect(),
            groups: groups.map(|service| service.name.clone()).collect(),
        }
    }

    /// What `service.NAME.` and the like may be followed by, and the known names; without prefix, everything of the run.
    fn scope<'m>(&self, metric: &'m str) -> Scope<'_, 'm> {
        let inside = |kind: &str| metric.strip_prefix(kind).and_then(|rest| rest.split_once('.'));
        if let Some((name, metric)) = inside("service.") {
            let owner = Some(("service", name, self.services.as_slice()));
            return Scope { owner, metric, lists: [SERVICE_METRICS, &[]], short: &["wait", "sojourn"] };
        }
        if let Some((name, metric)) = inside("source.") {
            let owner = Some(("source", name, self.sources.as_slice()));
            return Scope {
                owner,
                metric,
                lists: [REQUEST_METRICS, &[]],
                short: &["latency", "latency_offered"],
            };
        }
        if let Some((name, metric)) = inside("rollout.") {
            let owner = Some(("rollout of", name, self.rollouts.as_slice()));
            return Scope { owner, metric, lists: [ROLLOUT_METRICS, &[]], short: &[] };
        }
        if let Some((name, metric)) = inside("group.") {
            let owner = Some(("group", name, self.groups.as_slice()));
            return Scope { owner, metric, lists: [GROUP_METRICS, &[]], short: &[] };
        }
        if let Some((name, metric)) = inside("node-pool.") {
            let owner = Some(("node pool", name, self.node_pools.as_slice()));
            return Scope { owner, metric, lists: [NODE_POOL_METRICS, &[]], short: &[] };
        }
        if let Some((name, metric)) = inside("alert.") {
            let owner = Some(("alert", name, self.alerts.as_slice()));
            return Scope { owner, metric, lists: [ALERT_METRICS, &[]], short: &[] };
        }
        if let Some((name, metric)) = inside("prediction.") {
            let owner = Some(("prediction", name, self.predictions.as_slice()));
            return Scope { owner, metric, lists: [PREDICTION_METRICS, &[]], short: &[] };
        }
        if let Some((name, metric)) = inside("rollback.") {
            let owner = Some(("rollback", name, self.rollbacks.as_slice()));
            return Scope { owner, metric, lists: [ROLLBACK_METRICS, &[]], short: &[] };
        }
        if let Some((name, metric)) = inside("config.") {
            let owner = Some(("configuration", name, self.configs.as_slice()));
            return Scope { owner, metric, lists: [CONFIG_METRICS, &[]], short: &[] };
        }
        if let Some((name, metric)) = inside("topic.") {
            let owner = Some(("topic", name, self.topics.as_slice()));
            return Scope { owner, metric, lists: [TOPIC_METRICS, &[]], short: &[] };
        }
        if let Some((name, metric)) = inside("transaction.") {
            let owner = Some(("transaction", name, self.transactions.as_slice()));
            return Scope { owner, metric, lists: [TRANSACTION_METRICS, &[]], short: &["lock_wait"] };
        }
        Scope {
            owner: None,
            metric,
            lists: [REQUEST_METRICS, RUN_METRICS],
            short: &["latency", "latency_offered"],
        }
    }
}

/// Where a metric is looked up.
struct Scope<'p, 'm> {
    /// Kind and name of the part it belongs to, and the names there are.
    owner: Option<(&'static str, &'m str, &'p [String])>,
    /// Its own name.
    metric: &'m str,
    lists: [&'static [(&'static str, Unit)]; 2],
    /// Names that stand for a mean and percentiles.
    short: &'static [&'static str],
}

/// `latency{strategy:hpa}` as metric and strategy.
pub(super) fn selector(key: &str) -> Result<(&str, Option<&str>), Diagnostic> {
    let Some((metric, rest)) = key.split_once('{') else { return Ok((key.trim(), None)) };
    let strategy = rest.trim_end().strip_suffix('}').and_then(|inside| inside.split_once(':'));
    match strategy {
        Some((tag, name)) if tag.trim() == "strategy" => Ok((metric.trim(), Some(name.trim()))),
        _ => {
            Err(Diagnostic::new(format!("`{}` is not a metric of a strategy", super::error::shortened(key)))
                .hint("write \"latency{strategy:hpa}\""))
        }
    }
}

/// Unit of a metric by its full name, if there is such a metric and such a part.
pub(super) fn unit_of(metric: &str, parts: &Parts) -> Option<Unit> {
    let scope = parts.scope(metric);
    if let Some((_, name, known)) = scope.owner {
        known.iter().find(|known| *known == name)?;
    }
    scope.lists.into_iter().flatten().find(|(known, _)| *known == scope.metric).map(|(_, unit)| *unit)
}

/// What a condition says.
#[derive(Debug, PartialEq)]
pub(super) struct Condition {
    /// Full name of the metric.
    pub(super) metric: String,
    pub(super) comparison: Comparison,
    pub(super) value: f64,
}

/// What is wrong with a threshold: the name of the metric, or the condition on it.
#[derive(Debug)]
pub(super) enum Wrong {
    Metric(Diagnostic),
    Condition(Diagnostic),
}

impl From<Diagnostic> for Wrong {
    fn from(error: Diagnostic) -> Self {
        Self::Condition(error)
    }
}

/// Reads `p(99) < 800ms` about `metric`.
pub(super) fn condition(metric: &str, text: &str, parts: &Parts) -> Result<Condition, Wrong> {
    let sign = text.find(['<', '>', '=', '!']).ok_or_else(|| {
        Diagnostic::new(format!("`{}` compares nothing", super::error::shortened(text)))
            .hint("write \"p(99) < 800ms\" or \"mean > 99.5%\"")
    })?;
    let (aggregate, rest) = (text[..sign].trim(), &text[sign..]);
    let (comparison, value) = OPERATORS
        .iter()
        .find_map(|(sign, comparison)| rest.strip_prefix(sign).map(|value| (*comparison, value.trim())))
        .ok_or_else(|| {
            Diagnostic::new("unknown comparison").hint("comparisons are <, <=, >, >=, == and !=")
        })?;
    let suffix = match aggregate.strip_prefix("p(").and_then(|rest| rest.strip_suffix(')')).map(str::trim) {
        Some("99.9") => "p999".to_owned(),
        Some(percentile) => format!("p{percentile}"),
        None if aggregate == "mean" || aggregate == "avg" => "mean".to_owned(),
        None => {
            return Err(Wrong::Condition(
                Diagnostic::new(format!("unknown aggregate `{}`", super::error::shortened(aggregate)))
                    .hint("write mean, p(50), p(90), p(99) or p(99.9)"),
            ));
        }
    };
    let full = format!("{metric}_{suffix}_ms");
    let (metric, unit) = match (unit_of(&full, parts), unit_of(metric, parts)) {
        (Some(unit), _) => (full, unit),
        (None, Some(unit)) if suffix == "mean" => (metric.to_owned(), unit),
        (None, Some(_)) => {
            return Err(Wrong::Condition(
                Diagnostic::new(format!("`{metric}` has no percentiles")).hint("write \"mean < ..\""),
            ));
        }
        (None, None) if unit_of(&format!("{metric}_mean_ms"), parts).is_some() => {
            return Err(Wrong::Condition(
                Diagnostic::new(format!("`{metric}` has no {aggregate}"))
                    .hint("p(50), p(90), p(99) and p(99.9) are kept"),
            ));
        }
        (None, None) => return Err(Wrong::Metric(unknown_metric(metric, parts, true))),
    };
    let value = number(value, unit).map_err(|error| {
        let diagnostic = Diagnostic::new(error.message);
        match error.hint {
            Some(hint) => diagnostic.hint(hint),
            None => diagnostic,
        }
    })?;
    Ok(Condition { metric, comparison, value })
}

/// Longest first, so that `<=` is not read as `<`.
const OPERATORS: &[(&str, Comparison)] = &[
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

fn number(text: &str, unit: Unit) -> Result<f64, UnitError> {
    match unit {
        Unit::Share => parse_share(text),
        Unit::Milliseconds => parse_duration(text).map(Duration::as_millis_f64),
        Unit::Seconds => parse_duration(text).map(Duration::as_secs_f64),
        Unit::Rate => parse_rate(text),
        Unit::Number => parse_number(text),
    }
}

/// Says which metrics there are: those of the part if one is named, else those of the run; and where conditions are
/// allowed (`short`) the names that stand for several metrics.
pub(super) fn unknown_metric(metric: &str, parts: &Parts, short: bool) -> Diagnostic {
    let scope = parts.scope(metric);
    let names = scope.lists.into_iter().flatten().map(|(name, _)| *name);
    let known = scope.short.iter().copied().filter(|_| short).chain(names);
    match scope.owner {
        Some((kind, name, there)) if !there.iter().any(|known| known == name) => {
            Diagnostic::unknown(kind, name, there.iter().map(String::as_str))
        }
        Some((kind, ..)) => {
            let name = super::error::shortened(scope.metric);
            let error = Diagnostic::new(format!("unknown metric `{name}` of a {kind}"));
            error.among(scope.metric, known)
        }
        None => Diagnostic::unknown("metric", metric, known),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str, text: &str) -> Result<(String, Comparison, f64), String> {
        let names = |name: &str| vec![name.to_owned()];
        let parts = Parts {
            rollouts: Vec::new(),
            services: names("typhoon"),
            sources: names("public"),
            node_pools: names("general"),
            alerts: names("busy"),
            predictions: names("wear"),
            rollbacks: names("guard"),
            configs: names("limits"),
            topics: names("orders"),
            transactions: names("checkout"),
            groups: names("store"),
        };
        let (metric, _) = selector(key).map_err(|error| error.message)?;
        let read = condition(metric, text, &parts).map_err(|wrong| match wrong {
            Wrong::Metric(error) | Wrong::Condition(error) => error.message,
        })?;
        Ok((read.metric, read.comparison, read.value))
    }

    #[test]
    fn reads_like_k6() {
        let ok = |key, text| read(key, text).unwrap();
        assert_eq!(
            ok("latency{strategy:hpa}", "p(99) < 800ms"),
            ("latency_p99_ms".to_owned(), Comparison::Less, 800.0)
        );
        assert_eq!(ok("latency", "p(99.9)<=2s"), ("latency_p999_ms".to_owned(), Comparison::AtMost, 2000.0));
        assert_eq!(ok("latency", "mean != 1ms"), ("latency_mean_ms".to_owned(), Comparison::NotEqual, 1.0));
        assert_eq!(
            ok("availability", "mean > 99.5%"),
            ("availability".to_owned(), Comparison::Greater, 0.995)
        );
        assert_eq!(ok("goodput_rps", "mean >= 60/min"), ("goodput_rps".to_owned(), Comparison::AtLeast, 1.0));
        assert_eq!(
            ok("recovery_time_s", "mean < 2min"),
            ("recovery_time_s".to_owned(), Comparison::Less, 120.0)
        );
        assert_eq!(ok("amplification", "mean < 1.5"), ("amplification".to_owned(), Comparison::Less, 1.5));
        assert_eq!(ok("service.typhoon.utilization", "mean < 80%").0, "service.typhoon.utilization");
        assert_eq!(ok("service.typhoon.sojourn", "p(99) < 1s").0, "service.typhoon.sojourn_p99_ms");
        assert_eq!(ok("source.public.latency", "p(99) < 1s").0, "source.public.latency_p99_ms");
        assert_eq!(ok("node-pool.general.nodes_up_mean", "mean > 3").0, "node-pool.general.nodes_up_mean");
        assert_eq!(selector("latency{strategy:hpa}").unwrap(), ("latency", Some("hpa")));
    }

    #[test]
    fn refuses_the_rest() {
        let error = |key, text| read(key, text).unwrap_err();
        assert_eq!(error("latenzy", "p(99) < 1s"), "unknown metric `latenzy`");
        assert_eq!(error("service.typhon.utilization", "mean < 80%"), "unknown service `typhon`");
        assert_eq!(
            error("service.typhoon.utilisation", "mean < 80%"),
            "unknown metric `utilisation` of a service"
        );
        assert_eq!(error("latency", "p(95) < 1s"), "`latency` has no p(95)");
        assert_eq!(error("availability", "p(99) < 1s"), "`availability` has no percentiles");
        assert_eq!(error("latency", "median < 1s"), "unknown aggregate `median`");
        assert_eq!(error("latency", "mean 1s"), "`mean 1s` compares nothing");
        assert!(read("latency", "mean < 800").is_err());
        assert!(selector("latency{zone:a}").is_err());
    }
}
