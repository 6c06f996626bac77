//! What a metric means: which way is better, in which unit it is, and how it is written for people.
//!
//! Metrics are known by name (snake case, unit last), with `service.NAME.` or the like in front where they belong to a part
//! of the system. Everything here follows from the last part of the name, so a new metric that keeps to the convention needs no entry.

use super::outcome::Estimate;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// More is better: availability, goodput.
    Up,
    /// Less is better: latencies, ratios of trouble, cost.
    Down,
    /// A fact, neither good nor bad: offered load, utilization.
    Neither,
}

impl Direction {
    /// Whether a difference of this sign is an improvement.
    pub fn improves(self, difference: f64) -> bool {
        match self {
            Self::Up => difference > 0.0,
            Self::Down => difference < 0.0,
            Self::Neither => false,
        }
    }
}

/// How a metric is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 0..1, written in percent; differences in percentage points.
    Share,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Per second.
    PerSecond,
    /// Hours (of instances, of nodes).
    Hours,
    /// Anything else: a count, a factor, a sum of money.
    Plain,
}

impl Unit {
    /// What stands behind a value: ` %`, ` ms`, nothing.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Share => " %",
            Self::Milliseconds => " ms",
            Self::Seconds => " s",
            Self::PerSecond => "/s",
            Self::Hours => " h",
            Self::Plain => "",
        }
    }

    /// Factor from the stored value to the written one.
    const fn factor(self) -> f64 {
        match self {
            Self::Share => 100.0,
            _ => 1.0,
        }
    }
}

/// The last part of a name: `utilization` of `service.api.utilization`.
fn stem(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Which way a metric is better.
pub fn direction(name: &str) -> Direction {
    let stem = stem(name);
    match stem {
        "availability" | "goodput_rps" | "throughput_rps" | "rollouts_completed" | "committed"
        | "consumed" => Direction::Up,
        "amplification"
        | "attempts_per_request"
        | "in_system_mean"
        | "instance_hours"
        | "node_hours"
        | "cost"
        | "version_inconsistent_requests"
        | "error_budget_burned"
        | "bad_requests"
        | "recovery_unrecovered"
        | "throttled_per_instance_s"
        | "oom_kills"
        | "crash_restarts"
        | "outage_starts"
        | "wrong_rollbacks"
        | "hurt"
        | "people_called"
        | "detect_s"
        | "recover_s"
        | "mixed_s"
        | "failed_items"
        | "stopped_runs"
        | "readiness_lost"
        | "rollouts_stalled"
        | "shutdown_refused"
        | "shutdown_cut_off"
        | "rollout_time_s"
        | "probe_restarts"
        | "ejections"
        | "checked_out"
        | "missed"
        | "false_alarms"
        | "disk_evictions"
        | "gc_pause_mean_ms"
        | "connect_mean_ms"
        | "pool_wait_mean_ms"
        | "pool_waiting_mean"
        | "stale_requests"
        | "publish_failed"
        | "redelivered"
        | "doubled"
        | "lost"
        | "dead_lettered"
        | "waiting"
        | "out_of_order"
        | "backlog_max"
        | "backlog_mean"
        | "lag_mean_s"
        | "lag_max_s"
        | "aborted"
        | "in_doubt"
        | "in_doubt_max_s"
        | "lock_wait_mean_ms"
        | "lock_wait_max_s"
        | "lock_timeouts"
        | "compensated"
        | "stuck"
        | "heuristic"
        | "heuristic_damage"
        | "update_s"
        | "unfinished"
        | "timeliness_s"
        | "held"
        | "states_lost"
        | "leaderless_s"
        | "split_brain_s"
        | "blocked_writes"
        | "failed_writes"
        | "lost_writes"
        | "double_leader_writes"
        | "stale_reads" => Direction::Down,
        "offered_rps" | "requests" | "utilization" | "cpu_of_request" => Direction::Neither,
        _ if ["latency_", "wait_", "held_", "sojourn_", "recovery_time_"]
            .iter()
            .any(|prefix| stem.starts_with(prefix)) =>
        {
            Direction::Down
        }
        _ if stem.ends_with("_ratio") => Direction::Down,
        _ => Direction::Neither,
    }
}

/// The unit of a metric.
pub fn unit(name: &str) -> Unit {
    match stem(name) {
        "availability"
        | "utilization"
        | "cpu_of_request"
        | "recovery_unrecovered"
        | "connect_resumed_share" => Unit::Share,
        stem if stem.ends_with("_ratio") => Unit::Share,
        stem if stem.ends_with("_ms") => Unit::Milliseconds,
        stem if stem.ends_with("_s") => Unit::Seconds,
        stem if stem.ends_with("_rps") => Unit::PerSecond,
        stem if stem.ends_with("_hours") => Unit::Hours,
        _ => Unit::Plain,
    }
}

/// A metric in words: `p99 latency`, `utilization of api`.
pub fn label(name: &str) -> String {
    let stem = stem(name);
    let bare = ["_ms", "_s", "_rps"].iter().find_map(|unit| stem.strip_suffix(unit)).unwrap_or(stem);
    let parts: Vec<&str> = bare.split('_').collect();
    let words = match &parts[..] {
        ["offered"] => "offered load".to_owned(),
        ["latency", "offered", kind] => format!("{} latency of all offered", percentile(kind)),
        [what @ .., kind] if is_percentile(kind) || ["mean", "median"].contains(kind) => {
            format!("{} {}", percentile(kind), what.join(" "))
        }
        _ => bare.replace('_', " "),
    };
    match name.split('.').collect::<Vec<_>>()[..] {
        [_, .., _] if name.split('.').count() > 2 => {
            let of = &name[name.find('.').map_or(0, |dot| dot + 1)..name.len() - stem.len() - 1];
            format!("{words} of {of}")
        }
        _ => words,
    }
}

fn percentile(kind: &str) -> &str {
    if kind == "p999" { "p99.9" } else { kind }
}

fn is_percentile(word: &str) -> bool {
    word.strip_prefix('p')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A value with its unit, to about three digits that matter: `98.4 %`, `812 ms`.
pub fn value(name: &str, value: f64) -> String {
    let unit = unit(name);
    let written = value * unit.factor();
    let digits = match unit {
        // Availabilities are read from the other end: 99.987 %, not 100 %.
        Unit::Share => decimals(written.abs().min((100.0 - written).abs())).max(1),
        _ => decimals(written.abs() / 10.0),
    };
    fixed(written, digits) + suffix(unit, value)
}

/// Infinity has no unit.
fn suffix(unit: Unit, value: f64) -> &'static str {
    if value.is_finite() { unit.suffix() } else { "" }
}

/// Mean and interval with the digits that the interval leaves room for: `98.41 % [98.30, 98.52]`.
pub fn estimate(name: &str, estimate: &Estimate) -> String {
    let unit = unit(name);
    match (estimate.lo, estimate.hi) {
        (Some(lo), Some(hi)) if hi > lo => {
            let (mean, lo, hi) = (estimate.mean * unit.factor(), lo * unit.factor(), hi * unit.factor());
            let digits = decimals(0.5 * (hi - lo));
            format!("{}{} [{}, {}]", fixed(mean, digits), unit.suffix(), fixed(lo, digits), fixed(hi, digits))
        }
        _ => value(name, estimate.mean),
    }
}

/// A difference with sign, unit and interval: `+3.21 percentage points [2.90, 3.52]`.
pub fn difference(name: &str, difference: &Estimate) -> String {
    let unit = unit(name);
    let suffix = if unit == Unit::Share { " percentage points" } else { unit.suffix() };
    let mean = difference.mean * unit.factor();
    match (difference.lo, difference.hi) {
        (Some(lo), Some(hi)) if hi > lo => {
            let (lo, hi) = (lo * unit.factor(), hi * unit.factor());
            let digits = decimals(0.5 * (hi - lo));
            format!("{}{suffix} [{}, {}]", signed(mean, digits), signed(lo, digits), signed(hi, digits))
        }
        _ => format!("{}{suffix}", signed(mean, decimals(mean.abs() / 10.0))),
    }
}

/// The smallest number of decimals that shows two digits of this error.
fn decimals(error: f64) -> usize {
    if error > 0.0 && error.is_finite() {
        (1.0 - libm::floor(libm::log10(error))).clamp(0.0, 6.0) as usize
    } else {
        0
    }
}

/// Rounded; never `-0`.
fn fixed(value: f64, decimals: usize) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "infinite" } else { "-infinite" }.into();
    }
    let text = format!("{value:.decimals$}");
    if text.trim_start_matches(['-', '0', '.']).is_empty() {
        text.trim_start_matches('-').to_owned()
    } else {
        text
    }
}

fn signed(value: f64, decimals: usize) -> String {
    let text = fixed(value, decimals);
    if text.starts_with('-') || text.trim_start_matches(['0', '.']).is_empty() {
        text
    } else {
        format!("+{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(mean: f64, lo: f64, hi: f64) -> Estimate {
        Estimate { mean, lo: Some(lo), hi: Some(hi), n: 5 }
    }

    #[test]
    fn figures_are_written_with_the_digits_they_deserve() {
        let single = |mean| Estimate { mean, lo: None, hi: None, n: 1 };
        insta::assert_snapshot!(
            [
                estimate("availability", &of(0.98413, 0.98304, 0.98522)),
                estimate("availability", &single(0.999_87)),
                estimate("availability", &of(1.0, 1.0, 1.0)),
                estimate("latency_p99_ms", &of(812.345, 790.1, 834.6)),
                estimate("latency_mean_ms", &single(2.591_47)),
                estimate("offered_rps", &of(90.01, 89.7, 90.3)),
                estimate("cost", &of(12.3456, 12.1, 12.6)),
                estimate("latency_offered_p99_ms", &single(f64::INFINITY)),
                difference("availability", &of(0.0321, 0.029, 0.0352)),
                difference("latency_p99_ms", &of(-123.4, -160.0, -86.8)),
                difference("latency_p99_ms", &of(1e-9, -1.0, 1.0)),
                difference("instance_hours", &single(-1.25)),
                difference("availability", &of(0.0, 0.0, 0.0)),
            ]
            .join("\n"),
            @r"
        98.41 % [98.30, 98.52]
        99.987 %
        100.0 %
        812 ms [790, 835]
        2.59 ms
        90.01/s [89.70, 90.30]
        12.35 [12.10, 12.60]
        infinite
        +3.21 percentage points [+2.90, +3.52]
        -123 ms [-160, -87]
        0.0 ms [-1.0, +1.0]
        -1.25 h
        0 percentage points
        "
        );
    }

    #[test]
    fn names_speak() {
        insta::assert_snapshot!(
            [
                "availability", "latency_p99_ms", "latency_p999_ms", "latency_mean_ms", "latency_offered_p99_ms", "goodput_rps",
                "timeout_ratio", "service.api-gateway.utilization", "service.a.b.sojourn_p99_ms", "recovery_time_s", "recovery_time_median_s",
                "instance_hours", "amplification", "version_inconsistent_requests", "offered_rps",
            ]
            .map(|name| format!("{name}: {}, {:?}, {:?}", label(name), unit(name), direction(name)))
            .join("\n"),
            @r"
        availability: availability, Share, Up
        latency_p99_ms: p99 latency, Milliseconds, Down
        latency_p999_ms: p99.9 latency, Milliseconds, Down
        latency_mean_ms: mean latency, Milliseconds, Down
        latency_offered_p99_ms: p99 latency of all offered, Milliseconds, Down
        goodput_rps: goodput, PerSecond, Up
        timeout_ratio: timeout ratio, Share, Down
        service.api-gateway.utilization: utilization of api-gateway, Share, Neither
        service.a.b.sojourn_p99_ms: p99 sojourn of a.b, Milliseconds, Down
        recovery_time_s: recovery time, Seconds, Down
        recovery_time_median_s: median recovery time, Seconds, Down
        instance_hours: instance hours, Hours, Down
        amplification: amplification, Plain, Down
        version_inconsistent_requests: version inconsistent requests, Plain, Down
        offered_rps: offered load, PerSecond, Neither
        "
        );
    }
}
