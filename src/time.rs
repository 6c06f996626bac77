//! Model time: integer nanoseconds since the start of a run.
//!
//! Two newtypes, so that an instant is never added to an instant: [`Time`] is a point, [`Duration`] a distance.
//! Floats never hold time in the model; a sampled duration becomes whole nanoseconds in [`Duration::from_ns_f64`]
//! and nowhere else.

use std::fmt;
use std::ops::{Add, AddAssign, Mul, Sub};

/// An instant, in nanoseconds since the start of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

/// A distance between two instants, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub u64);

impl Time {
    /// The start of the run.
    pub const ZERO: Self = Self(0);
    /// Later than anything a run can reach.
    pub const MAX: Self = Self(u64::MAX);

    /// Time passed since `earlier`; zero if `earlier` lies in the future.
    #[inline]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }

    /// Seconds since the start of the run.
    #[inline]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Whole seconds since the start of the run, truncated.
    #[inline]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// Whole milliseconds since the start of the run, truncated.
    #[inline]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The instant `secs` seconds after the start of the run.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1_000_000_000)
    }

    /// The instant `millis` milliseconds after the start of the run.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }
}

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// Longer than any run.
    pub const MAX: Self = Self(u64::MAX);

    /// `secs` whole seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1_000_000_000)
    }

    /// `millis` whole milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }

    /// The one place where a sampled (floating-point) duration becomes whole nanoseconds: rounded to nearest, ties to
    /// even, negative and NaN to zero, saturating at the top.
    #[inline]
    pub fn from_ns_f64(ns: f64) -> Self {
        // Below 2^52 (52 days) the sum with 2^52 holds the rounded integer in its lowest bits. Negative numbers and NaN
        // have larger bit patterns and take the long way.
        if ns.to_bits() < INTEGERS.to_bits() {
            return Self((ns + INTEGERS).to_bits() - INTEGERS.to_bits());
        }
        Self(ns.round_ties_even() as u64)
    }

    /// Seconds, rounded to whole nanoseconds.
    pub fn from_secs_f64(secs: f64) -> Self {
        Self::from_ns_f64(secs * 1e9)
    }

    /// Length in seconds.
    #[inline]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Length in milliseconds.
    #[inline]
    pub fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Whole milliseconds, truncated.
    #[inline]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }
}

/// From here on every float is an integer: 2^52.
const INTEGERS: f64 = 4_503_599_627_370_496.0;

impl Add<Duration> for Time {
    type Output = Self;
    #[inline]
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by.0))
    }
}

impl AddAssign<Duration> for Time {
    #[inline]
    fn add_assign(&mut self, by: Duration) {
        *self = *self + by;
    }
}

impl Sub for Time {
    type Output = Duration;
    /// Time passed since `earlier`; zero if `earlier` lies in the future.
    #[inline]
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

impl Add for Duration {
    type Output = Self;
    #[inline]
    fn add(self, by: Self) -> Self {
        Self(self.0.saturating_add(by.0))
    }
}

impl Sub for Duration {
    type Output = Self;
    #[inline]
    fn sub(self, by: Self) -> Self {
        Self(self.0.saturating_sub(by.0))
    }
}

impl Mul<u64> for Duration {
    type Output = Self;
    #[inline]
    fn mul(self, by: u64) -> Self {
        Self(self.0.saturating_mul(by))
    }
}

impl fmt::Display for Time {
    /// `1h02m03.450s`; hours and minutes only where they are not zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hours, minutes) = (self.0 / 3_600_000_000_000, self.0 / 60_000_000_000 % 60);
        let millis = self.0 / 1_000_000 % 60_000;
        match (hours, minutes) {
            (0, 0) => write!(f, "{}.{:03}s", millis / 1000, millis % 1000),
            (0, m) => write!(f, "{m}m{:02}.{:03}s", millis / 1000, millis % 1000),
            (h, m) => write!(f, "{h}h{m:02}m{:02}.{:03}s", millis / 1000, millis % 1000),
        }
    }
}

impl fmt::Display for Duration {
    /// The largest unit that keeps the figure at one or more: `250ms`, `1.5s`, `90min` is written `1h30m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trimmed = |value: f64, unit: &str| {
            let text = format!("{value:.3}");
            format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
        };
        let ns = self.0;
        let text = match ns {
            0 => "0s".to_owned(),
            1..=999 => format!("{ns}ns"),
            1_000..=999_999 => trimmed(ns as f64 / 1e3, "us"),
            1_000_000..=999_999_999 => trimmed(ns as f64 / 1e6, "ms"),
            1_000_000_000..=59_999_999_999 => trimmed(ns as f64 / 1e9, "s"),
            _ => {
                let secs = ns / 1_000_000_000;
                let (h, m, s) = (secs / 3600, secs / 60 % 60, secs % 60);
                match (h, m, s) {
                    (0, m, 0) => format!("{m}min"),
                    (0, m, s) => format!("{m}m{s:02}s"),
                    (h, 0, 0) => format!("{h}h"),
                    (h, m, 0) => format!("{h}h{m:02}m"),
                    (h, m, s) => format!("{h}h{m:02}m{s:02}s"),
                }
            }
        };
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_in_one_place() {
        assert_eq!(Duration::from_ns_f64(0.0), Duration::ZERO);
        assert_eq!(Duration::from_ns_f64(1.5), Duration(2));
        assert_eq!(Duration::from_ns_f64(2.5), Duration(2));
        assert_eq!(Duration::from_ns_f64(123_456_789.4), Duration(123_456_789));
        assert_eq!(Duration::from_ns_f64(INTEGERS - 1.0), Duration((1 << 52) - 1));
        assert_eq!(Duration::from_ns_f64(INTEGERS * 2.0), Duration(1 << 53));
        assert_eq!(Duration::from_ns_f64(-0.0), Duration::ZERO);
        assert_eq!(Duration::from_ns_f64(-3.0), Duration::ZERO);
        assert_eq!(Duration::from_ns_f64(f64::NAN), Duration::ZERO);
        assert_eq!(Duration::from_ns_f64(f64::INFINITY), Duration::MAX);
    }

    #[test]
    fn reads_like_a_clock() {
        assert_eq!(Time(3_723_450_000_000).to_string(), "1h02m03.450s");
        assert_eq!(Time(62_000_000_000).to_string(), "1m02.000s");
        assert_eq!(Duration::from_millis(250).to_string(), "250ms");
        assert_eq!(Duration::from_secs(5400).to_string(), "1h30m");
        assert_eq!(Duration::from_millis(1500).to_string(), "1.5s");
    }
}
