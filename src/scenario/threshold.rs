//! Thresholds as k6 writes them: `"latency{strategy:hpa}" = ["p(99) < 800ms"]`; and the names of all metrics.

use super::error::Diagnostic;
use super::model::Comparison;
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

/// Metrics of the whole scenario (DESIGN section 8).
pub const METRICS: &[(&str, Unit)] = &[
    ("availability", Unit::Share),
    ("degraded_ratio", Unit::Share),
    ("offered_rps", Unit::Rate),
    ("throughput_rps", Unit::Rate),
    ("goodput_rps", Unit::Rate),
    ("latency_mean_ms", Unit::Milliseconds),
    ("latency_p50_ms", Unit::Milliseconds),
    ("latency_p90_ms", Unit::Milliseconds),
    ("latency_p99_ms", Unit::Milliseconds),
    ("latency_p999_ms", Unit::Milliseconds),
    ("latency_offered_p99_ms", Unit::Milliseconds),
    ("rejected_ratio", Unit::Share),
    ("timeout_ratio", Unit::Share),
    ("failed_ratio", Unit::Share),
    ("abandoned_ratio", Unit::Share),
    ("unfinished_ratio", Unit::Share),
    ("wasted_work_ratio", Unit::Share),
    ("amplification", Unit::Number),
    ("attempts_per_request", Unit::Number),
    ("instance_hours", Unit::Number),
    ("node_hours", Unit::Number),
    ("cost", Unit::Number),
    ("recovery_time_s", Unit::Seconds),
    ("version_inconsistent_requests", Unit::Number),
    ("error_budget_burned", Unit::Number),
    ("requests", Unit::Number),
];

/// Metrics of one service, written `service.NAME.METRIC`; those of [`METRICS`] are allowed there too.
pub const SERVICE_METRICS: &[(&str, Unit)] = &[
    ("wait_mean_ms", Unit::Milliseconds),
    ("wait_p99_ms", Unit::Milliseconds),
    ("sojourn_mean_ms", Unit::Milliseconds),
    ("sojourn_p50_ms", Unit::Milliseconds),
    ("sojourn_p90_ms", Unit::Milliseconds),
    ("sojourn_p99_ms", Unit::Milliseconds),
    ("sojourn_p999_ms", Unit::Milliseconds),
    ("in_system_mean", Unit::Number),
    ("utilization", Unit::Share),
    ("cpu_of_request", Unit::Share),
];

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

/// Unit of a metric by its full name, if there is such a metric and such a service.
pub(super) fn unit_of(metric: &str, services: &[String]) -> Option<Unit> {
    let find = |list: &[(&str, Unit)], name: &str| {
        list.iter().find(|(known, _)| *known == name).map(|(_, unit)| *unit)
    };
    match metric.strip_prefix("service.") {
        None => find(METRICS, metric),
        Some(rest) => {
            let (service, rest) = rest.split_once('.')?;
            services.iter().find(|known| *known == service)?;
            // `service.A.call.B.METRIC` belongs to one edge.
            let name = match rest.strip_prefix("call.") {
                Some(edge) => {
                    let (callee, name) = edge.split_once('.')?;
                    services.iter().find(|known| *known == callee)?;
                    name
                }
                None => rest,
            };
            find(SERVICE_METRICS, name).or_else(|| find(METRICS, name))
        }
    }
}

/// What a condition says.
#[derive(Debug, PartialEq)]
pub(super) struct Condition {
    /// Full name of the metric.
    pub(super) metric: String,
    pub(super) comparison: Comparison,
    pub(super) value: f64,
}

/// Reads `p(99) < 800ms` about `metric`.
pub(super) fn condition(metric: &str, text: &str, services: &[String]) -> Result<Condition, Diagnostic> {
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
            return Err(Diagnostic::new(format!(
                "unknown aggregate `{}`",
                super::error::shortened(aggregate)
            ))
            .hint("write mean, p(50), p(90), p(99) or p(99.9)"));
        }
    };
    let full = format!("{metric}_{suffix}_ms");
    let (metric, unit) = match (unit_of(&full, services), unit_of(metric, services)) {
        (Some(unit), _) => (full, unit),
        (None, Some(unit)) if suffix == "mean" => (metric.to_owned(), unit),
        (None, Some(_)) => {
            return Err(Diagnostic::new(format!("`{metric}` has no percentiles")).hint("write \"mean < ..\""));
        }
        (None, None) if unit_of(&format!("{metric}_mean_ms"), services).is_some() => {
            return Err(Diagnostic::new(format!("`{metric}` has no {aggregate}"))
                .hint("p(50), p(90), p(99) and p(99.9) are kept"));
        }
        (None, None) => return Err(unknown_metric(metric, services, &["latency", "latency_offered"])),
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
        Unit::Milliseconds => parse_duration(text).map(|value| value.as_millis_f64()),
        Unit::Seconds => parse_duration(text).map(|value| value.as_secs_f64()),
        Unit::Rate => parse_rate(text),
        Unit::Number => parse_number(text),
    }
}

/// Says which metrics there are: those of the service if one is named, else those of the scenario; and names that stand
/// for several metrics where these are allowed.
pub(super) fn unknown_metric(metric: &str, services: &[String], short: &[&str]) -> Diagnostic {
    let names = |list: &'static [(&str, Unit)]| list.iter().map(|(name, _)| *name);
    let Some((service, name)) = metric.strip_prefix("service.").and_then(|rest| rest.split_once('.')) else {
        return Diagnostic::unknown("metric", metric, short.iter().copied().chain(names(METRICS)));
    };
    if !services.iter().any(|known| known == service) {
        return Diagnostic::unknown("service", service, services.iter().map(String::as_str));
    }
    let short: &[&str] = if short.is_empty() { &[] } else { &["wait", "sojourn"] };
    let unknown = Diagnostic::new(format!("unknown metric `{}` of a service", super::error::shortened(name)));
    unknown.among(name, short.iter().copied().chain(names(SERVICE_METRICS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str, text: &str) -> Result<(String, Comparison, f64), String> {
        let services = ["typhoon".to_owned()];
        let (metric, _) = selector(key).map_err(|error| error.message)?;
        let read = condition(metric, text, &services).map_err(|error| error.message)?;
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
