//! The metric over the last seconds, in buckets of one second (upstream: `pkg/autoscaler/aggregation/bucketing.go`), and
//! how many pods are scraped for it (`pkg/autoscaler/metrics/sample_size.go`).
//!
//! What is recorded twice within a second adds up, because each of several reporters (pods, activators) tells its part.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::time::{Duration, Time};

/// How the buckets of a window become one figure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregation {
    /// The mean of the buckets.
    #[default]
    Linear,
    /// Each bucket counts for less than the one after it.
    WeightedExponential,
}

/// A ring of sums, one per second of the window.
#[derive(Clone, Debug)]
pub struct Window {
    buckets: Vec<f64>,
    /// Sum over all buckets, kept up to date rather than summed up, as upstream.
    total: f64,
    /// Seconds of the first and the last write since the window was last empty.
    written: Option<(u64, u64)>,
    aggregation: Aggregation,
    /// Weight of the newest bucket where weights decay.
    smoothing: f64,
}

/// The least decay from one bucket to the one before it, or a long window would be little else than the mean.
const MIN_SMOOTHING: f64 = 0.2;
/// What the weights of all buckets may fall short of 1.
const WEIGHT_LEFT_OUT: f64 = 0.0001;

impl Window {
    /// A window of `length`, rounded up to whole seconds, at least one.
    pub fn new(length: Duration, aggregation: Aggregation) -> Self {
        let count = length.0.div_ceil(Duration::from_secs(1).0).max(1) as usize;
        Self {
            buckets: vec![0.0; count],
            total: 0.0,
            written: None,
            aggregation,
            smoothing: (1.0 - libm::pow(WEIGHT_LEFT_OUT, 1.0 / count as f64)).max(MIN_SMOOTHING),
        }
    }

    /// Adds `value` to the bucket of `now`. Seconds without any record count as zero, unless the whole window had none:
    /// then it starts anew. A record may come late by less than the window; an older one is ignored.
    pub fn record(&mut self, now: Time, value: f64) {
        let (bucket, length) = (now.as_secs(), self.buckets.len() as u64);
        self.written = match self.written {
            None => Some((bucket, bucket)),
            Some((_, last)) if bucket >= last + length => {
                self.buckets.fill(0.0);
                self.total = 0.0;
                Some((bucket, bucket))
            }
            Some((first, last)) if bucket > last => {
                for expired in last + 1..=bucket {
                    let slot = self.slot(expired);
                    self.total -= self.buckets[slot];
                    self.buckets[slot] = 0.0;
                }
                Some((first, bucket))
            }
            Some((_, last)) if bucket + length <= last => return,
            Some((first, last)) => Some((first.min(bucket), last)),
        };
        let slot = self.slot(bucket);
        self.buckets[slot] += value;
        self.total += value;
    }

    /// The figure for the window that ends at `now`; 0 if nothing was recorded in it.
    pub fn average(&self, now: Time) -> f64 {
        let length = self.buckets.len() as u64;
        let Some((first, last)) = self.written else { return 0.0 };
        let idle = now.as_secs().saturating_sub(last);
        match self.aggregation {
            Aggregation::Linear if idle < length => {
                // Buckets that the window has left since the last write; the seconds since then do not count as zero.
                let total = (last + 1..=last + idle)
                    .fold(self.total, |total, expired| total - self.buckets[self.slot(expired)]);
                let count = (last - first + 1).min(length - idle);
                // Rounded to six digits: a residue of the running sum must not ask for a pod.
                (total / count as f64 * 1e6).round() / 1e6
            }
            Aggregation::WeightedExponential if idle <= length => {
                let decay = 1.0 - self.smoothing;
                let newest = self.smoothing * libm::pow(decay, idle as f64);
                let older = (0..length - idle).map(|age| self.buckets[self.slot(last + length - age)]);
                older.fold((0.0, newest), |(sum, weight), value| (sum + value * weight, weight * decay)).0
            }
            _ => 0.0,
        }
    }

    /// Whether nothing was recorded for longer than the window, or ever.
    pub fn is_empty(&self, now: Time) -> bool {
        self.written.is_none_or(|(_, last)| now.as_secs().saturating_sub(last) > self.buckets.len() as u64)
    }

    fn slot(&self, second: u64) -> usize {
        (second % self.buckets.len() as u64) as usize
    }
}

/// How many of `pods` ready pods are scraped each second: all of up to three, then a sample for a margin of error of 5 at
/// 95 % confidence and an assumed variance of 100 (`populationMeanSampleSize`). The mean of the sample stands for all.
pub fn sample_size(pods: u32) -> u32 {
    if pods <= 3 {
        return pods;
    }
    let (population, unbounded) = (f64::from(pods), 1.96 * 1.96 * 100.0 / 25.0);
    (population * unbounded / (population + unbounded - 1.0)).ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    fn linear(secs: u64, records: &[(u64, f64)]) -> Window {
        let mut window = Window::new(Duration::from_secs(secs), Aggregation::Linear);
        for &(millis, value) in records {
            window.record(at(millis), value);
        }
        window
    }

    #[test]
    fn a_young_window_averages_over_what_it_has() {
        let window = linear(60, &[(0, 10.0), (400, 10.0), (1000, 40.0)]);
        assert_eq!(window.average(at(1999)), 30.0, "two seconds, the first told twice");
        // Seconds after the last write are not known to be idle.
        assert_eq!(window.average(at(50_000)), 30.0);
        assert_eq!(window.average(at(60_000)), 40.0, "the first second has left");
        assert_eq!(window.average(at(61_000)), 0.0);
    }

    #[test]
    fn gaps_count_as_zero_unless_they_fill_the_window() {
        let window = linear(6, &[(0, 6.0), (5000, 6.0)]);
        assert_eq!(window.average(at(5000)), 2.0);
        let window = linear(6, &[(0, 6.0), (6000, 6.0)]);
        assert_eq!(window.average(at(6000)), 6.0, "started anew");
    }

    #[test]
    fn late_records_count_within_the_window() {
        let window = linear(6, &[(10_000, 6.0), (5000, 6.0), (4999, 600.0)]);
        assert_eq!(window.average(at(10_000)), 2.0, "second 5 is the oldest of six, second 4 is ignored");
    }

    #[test]
    fn emptiness_begins_after_the_window() {
        let window = linear(6, &[(1000, 0.0)]);
        assert!(!window.is_empty(at(7999)));
        assert!(window.is_empty(at(8000)));
        assert!(linear(6, &[]).is_empty(Time::ZERO));
        assert_eq!(linear(6, &[]).average(Time::ZERO), 0.0);
    }

    #[test]
    fn a_residue_of_the_sum_asks_for_nothing() {
        let mut window = linear(3, &[(0, 0.1), (1000, 0.2), (2000, 0.3)]);
        for second in 3..6 {
            window.record(Time::from_secs(second), 0.0);
        }
        assert!(window.total != 0.0, "0.1 + 0.2 + 0.3 - 0.1 - 0.2 - 0.3 in doubles");
        assert_eq!(window.average(Time::from_secs(5)), 0.0);
    }

    #[test]
    fn weights_decay_and_end_with_the_window() {
        let mut window = Window::new(Duration::from_secs(60), Aggregation::WeightedExponential);
        assert_eq!(window.smoothing, MIN_SMOOTHING);
        window.record(at(0), 100.0);
        assert_eq!(window.average(at(0)), 20.0);
        assert!((window.average(at(2000)) - 12.8).abs() < 1e-12);
        assert!(window.average(at(59_000)) > 0.0);
        assert_eq!(window.average(at(60_000)), 0.0);
        let short = Window::new(Duration::from_secs(5), Aggregation::WeightedExponential);
        assert!((short.smoothing - 0.841_510_680_753_888_8).abs() < 1e-12);
    }

    #[test]
    fn large_fleets_are_sampled() {
        let sizes = [0, 1, 3, 4, 5, 10, 50, 100, 1000, 100_000].map(sample_size);
        assert_eq!(sizes, [0, 1, 3, 4, 4, 7, 12, 14, 16, 16]);
    }
}
