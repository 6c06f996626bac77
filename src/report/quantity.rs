//! How figures are written for people: the unit follows from the name of the metric, the number of digits from its
//! interval.

use crate::lab::outcome::Estimate;

/// Unit of a metric, told from its name (snake case, unit last).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Shown in percent, stored as 0..1.
    Percent,
    /// Milliseconds.
    Millis,
    /// Seconds.
    Seconds,
    /// Per second.
    PerSecond,
    /// Hours of instances or nodes.
    Hours,
    /// A plain number: counts, factors, money in the currency of the scenario's prices.
    Plain,
}

impl Unit {
    /// Of the metric with this full name (`service.api.utilization`, `latency_p99_ms`).
    pub fn of(metric: &str) -> Self {
        let last = metric.rsplit('.').next().unwrap_or(metric);
        match last {
            "availability" | "utilization" | "cpu_of_request" => Self::Percent,
            _ if last.ends_with("_ratio") => Self::Percent,
            _ if last.ends_with("_ms") => Self::Millis,
            _ if last.ends_with("_rps") => Self::PerSecond,
            _ if last.ends_with("_hours") => Self::Hours,
            _ if last.ends_with("_s") => Self::Seconds,
            _ => Self::Plain,
        }
    }

    /// Name of a metric for a column head: without the unit, which stands behind it (`latency mean`).
    pub fn words(metric: &str) -> String {
        let endings: &[&str] = match Self::of(metric) {
            Self::Percent => &["_ratio"],
            Self::Millis => &["_ms"],
            Self::Seconds => &["_s"],
            Self::PerSecond => &["_rps"],
            Self::Hours => &["_hours"],
            Self::Plain => &[],
        };
        let name = endings.iter().find_map(|ending| metric.strip_suffix(ending)).unwrap_or(metric);
        name.replace('_', " ")
    }

    /// Sign that follows a figure or stands in a column head; empty for plain numbers.
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Percent => "%",
            Self::Millis => "ms",
            Self::Seconds => "s",
            Self::PerSecond => "/s",
            Self::Hours => "h",
            Self::Plain => "",
        }
    }

    /// Sign of a difference: shares differ by points, not by percent.
    pub const fn difference_sign(self) -> &'static str {
        match self {
            Self::Percent => "points",
            _ => self.sign(),
        }
    }

    /// What a stored value is multiplied by to be shown with [`Unit::sign`].
    pub const fn factor(self) -> f64 {
        match self {
            Self::Percent => 100.0,
            _ => 1.0,
        }
    }
}

/// Half the width of an interval; `None` with fewer than two replications.
pub fn half_width(estimate: &Estimate) -> Option<f64> {
    estimate.lo.zip(estimate.hi).map(|(lo, hi)| (hi - lo) / 2.0)
}

/// `99.93 ± 0.02`, in the metric's shown unit but without its sign: two digits of the half-width, the mean to the same
/// place; without an interval four digits of the mean.
pub fn estimate(metric: &str, estimate: &Estimate) -> String {
    let factor = Unit::of(metric).factor();
    let mean = estimate.mean * factor;
    match half_width(estimate).map(|half| half * factor) {
        Some(half) if half.is_finite() => {
            let decimals = if half > 0.0 { decimals(half, 2, 4) } else { decimals(mean, 4, 3) };
            format!("{} ± {}", fixed(mean, decimals), fixed(half, decimals))
        }
        _ => fixed(mean, decimals(mean, 4, 3)),
    }
}

/// As [`estimate`], with an explicit plus on positive differences.
pub fn difference(metric: &str, value: &Estimate) -> String {
    let text = estimate(metric, value);
    if value.mean > 0.0 { format!("+{text}") } else { text }
}

/// One value in the metric's shown unit, without its sign.
pub fn value(metric: &str, value: f64) -> String {
    let shown = value * Unit::of(metric).factor();
    fixed(shown, decimals(shown, 4, 3))
}

/// A duration as axis and table text: `800 ms`, `1.5 s`, `250 µs`.
pub fn millis(ms: f64) -> String {
    match ms {
        _ if !ms.is_finite() => ms.to_string(),
        _ if ms == 0.0 => "0".to_owned(),
        _ if ms.abs() < 0.999_999 => format!("{} µs", short(ms * 1e3)),
        _ if ms.abs() < 999.999 => format!("{} ms", short(ms)),
        _ => format!("{} s", short(ms / 1e3)),
    }
}

/// A rate: `850/s`, `12k/s`, `1.5M/s`.
pub fn per_second(rate: f64) -> String {
    format!("{}/s", si(rate))
}

/// A count with SI prefix: `850`, `12k`, `1.5M`, `2G`.
pub fn si(count: f64) -> String {
    match count.abs() {
        x if x >= 999_999_500.0 => format!("{}G", short(count / 1e9)),
        x if x >= 999_999.5 => format!("{}M", short(count / 1e6)),
        x if x >= 9_999.5 => format!("{}k", short(count / 1e3)),
        _ => short(count),
    }
}

/// Length or instant of model time in the way of the scenario language: `36s`, `10min`, `1h40m`.
pub fn span(seconds: f64) -> String {
    crate::time::Duration::from_secs_f64(seconds).to_string()
}

/// A clock reading: `0:07` hours and minutes, or with seconds where they are not zero.
pub fn clock(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    let (h, m, s) = (whole / 3600, whole / 60 % 60, whole % 60);
    if s == 0 { format!("{h}:{m:02}") } else { format!("{h}:{m:02}:{s:02}") }
}

/// A clock reading with seconds, for tables: `1:40:00`.
pub fn clock_seconds(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    format!("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60)
}

/// Count with thin grouping for tables: `1 234 567`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// At most four significant digits, without trailing zeros.
pub fn short(number: f64) -> String {
    let text = fixed(number, decimals(number, 4, 4));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// At most seven significant digits, without trailing zeros: nines must not be rounded away (`99.995`).
pub fn share_digits(number: f64) -> String {
    let text = fixed(number, decimals(number, 7, 6));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Decimals that show `digits` significant digits of `number`, at most `most`.
fn decimals(number: f64, digits: i32, most: usize) -> usize {
    if number == 0.0 || !number.is_finite() {
        return 0;
    }
    let magnitude = libm::floor(libm::log10(number.abs()) + 1e-9) as i32;
    usize::try_from(digits - 1 - magnitude).unwrap_or(0).min(most)
}

/// Fixed decimals; `inf` for infinity, and never a minus before a zero.
fn fixed(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| c == '0' || c == '.') => rest.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_follow_the_interval() {
        let of = |mean: f64, half: f64| Estimate { mean, lo: Some(mean - half), hi: Some(mean + half), n: 5 };
        assert_eq!(estimate("latency_p99_ms", &of(812.345, 41.2)), "812 ± 41");
        assert_eq!(estimate("availability", &of(0.999_312, 0.000_214)), "99.931 ± 0.021");
        assert_eq!(estimate("amplification", &of(3.0, 0.0)), "3.000 ± 0.000");
        assert_eq!(estimate("requests", &of(1_234_567.0, 1_532.0)), "1234567 ± 1532");
        assert_eq!(
            estimate("latency_p99_ms", &Estimate { mean: 812.345, lo: None, hi: None, n: 1 }),
            "812.3"
        );
        assert_eq!(
            estimate("latency_p99_ms", &Estimate { mean: f64::INFINITY, lo: None, hi: None, n: 5 }),
            "inf"
        );
        assert_eq!(difference("availability", &of(0.01, 0.001)), "+1.00 ± 0.10");
        assert_eq!(difference("availability", &of(-0.000_000_1, 0.01)), "0.0 ± 1.0");
    }

    #[test]
    fn axis_labels_read_like_speech() {
        assert_eq!(millis(800.0), "800 ms");
        assert_eq!(millis(1500.0), "1.5 s");
        assert_eq!(millis(0.25), "250 µs");
        assert_eq!(per_second(12_000.0), "12k/s");
        assert_eq!(per_second(850.0), "850/s");
        assert_eq!(clock(5400.0), "1:30");
        assert_eq!(clock(61.0), "0:01:01");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(grouped(999), "999");
    }

    #[test]
    fn the_unit_is_told_from_the_name() {
        assert_eq!(Unit::of("service.api.utilization"), Unit::Percent);
        assert_eq!(Unit::of("latency_p99_ms"), Unit::Millis);
        assert_eq!(Unit::of("recovery_time_s"), Unit::Seconds);
        assert_eq!(Unit::of("service.api.attempts_per_request"), Unit::Plain);
        assert_eq!(Unit::of("goodput_rps"), Unit::PerSecond);
        assert_eq!(Unit::words("latency_mean_ms"), "latency mean");
        assert_eq!(Unit::words("service.api.utilization"), "service.api.utilization");
    }
}
