//! One more copy when a call takes longer than most of the last ones did.
//!
//! ## What it does
//! It keeps the times of successful attempts in two histograms: one is written during a `period`, and the one of the period before is read.
//! If that holds at least `min-data-points`, a call that has not been answered after its `latency-percentile` is sent a second time. Whichever
//! copy ends first, well or badly, is the answer.
//!
//! ## When it helps
//! As `hedge.grpc`, without a delay to be guessed: it follows the latency of the service, so about 100 % - `latency-percentile` of the calls
//! are hedged in good times and in bad ones.
//!
//! ## How it fails
//! That holds in an overload, too: when everything is slow the percentile rises one period later, and until then most calls are sent twice.
//! After that the extra load is a twentieth again, but a twentieth of what is too much already. A copy that fails fast ends the call although the
//! other one would have been answered well. The second copy's own short time is recorded and the first one's long time is not, so the percentile
//! sinks and more is hedged than asked for: with exponential times a tenth of the calls instead of a twentieth.
//!
//! ## Settings
//! * `latency-percentile` (default `95%`).
//! * `min-data-points` (default 100).
//! * `period` (default `60s`, more than 0): how long times are gathered before they are used. simlab's defaults: upstream has none.
//!
//! ## Origin
//! crate tower 0.5, `tower/src/hedge/mod.rs`, `rotating_histogram.rs`, `latency.rs`, `select.rs`; times are whole milliseconds, rounded up,
//! in a histogram of three significant digits as in crate hdrhistogram 7 (`value_at_quantile`). The idea is *hedged requests* of Dean and
//! Barroso, *The Tail at Scale* (2013), who report about 5 % more load at the 95th percentile.
//!
//! ## Deliberate differences
//! * The histogram ends at 131 s; longer times count as that. Upstream's grows.
//! * `can_retry` of upstream's policy is the retry budget of the edge.
//! * Upstream drops the slower copy, which cancels it. Here the edge's `cancel` says whether its instance hears of it.
//! * tower does not look where the other copy went. Here the second one avoids its instance, as long as the client knows another one.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{HedgePolicy, Verdict};
use crate::policies::Algorithm;
use crate::policies::view::{Class, Outcome};
use crate::time::{Duration, Time};
use crate::units::Share;

/// Settings of `hedge.percentile`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PercentileSettings {
    /// Share of earlier attempts that were answered sooner than the second copy goes out.
    pub latency_percentile: Share,
    /// Fewest earlier attempts that are enough.
    pub min_data_points: u64,
    /// How long times are gathered before they are used.
    #[serde(deserialize_with = "period")]
    pub period: Duration,
}

impl Default for PercentileSettings {
    fn default() -> Self {
        Self { latency_percentile: Share(0.95), min_data_points: 100, period: Duration::from_secs(60) }
    }
}

fn period<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let period = Duration::deserialize(deserializer)?;
    if period > Duration::ZERO {
        Ok(period)
    } else {
        Err(de::Error::custom("period must be longer than zero"))
    }
}

/// Values that are counted one by one; from here on two, four, eight ... share a counter: three significant digits.
const SUB_BUCKETS: u64 = 2048;
const HALF: u64 = SUB_BUCKETS / 2;
/// Doublings of the range beyond [`SUB_BUCKETS`].
const DOUBLINGS: u64 = 6;
const COUNTERS: usize = (SUB_BUCKETS + DOUBLINGS * HALF) as usize;

/// Whole milliseconds with three significant digits.
#[derive(Clone, Debug)]
struct Histogram {
    counts: Box<[u32]>,
    total: u64,
}

impl Histogram {
    fn new() -> Self {
        Self { counts: vec![0; COUNTERS].into(), total: 0 }
    }

    fn clear(&mut self) {
        if self.total > 0 {
            self.counts.fill(0);
            self.total = 0;
        }
    }

    fn record(&mut self, value: u64) {
        let doublings = u64::from(u64::BITS - (value | (SUB_BUCKETS - 1)).leading_zeros()) - 11;
        let at = if doublings == 0 { value } else { doublings * HALF + (value >> doublings) };
        self.counts[(at as usize).min(COUNTERS - 1)] += 1;
        self.total += 1;
    }

    fn value_at_quantile(&self, quantile: f64) -> u64 {
        let count = ((quantile * self.total as f64).ceil() as u64).max(1);
        let mut passed = 0;
        let at = self.counts.iter().position(|&here| {
            passed += u64::from(here);
            passed >= count
        });
        let Some(at) = at.map(|at| at as u64) else { return 0 };
        if at < SUB_BUCKETS {
            return at;
        }
        let doublings = at / HALF - 1;
        // The highest value of those that share the counter.
        ((at % HALF + HALF + 1) << doublings) - 1
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Percentile(Box<State>);

#[derive(Clone, Debug)]
struct State {
    latency_percentile: f64,
    min_data_points: u64,
    period: Duration,
    read: Histogram,
    write: Histogram,
    last_rotation: Time,
    /// What the histogram that is read says; it changes at rotations only.
    delay: Option<Duration>,
}

impl Algorithm for Percentile {
    type Settings = PercentileSettings;

    fn new(settings: &PercentileSettings, now: Time) -> Self {
        let mut state = State {
            // Upstream's parameter is of single precision.
            latency_percentile: f64::from(settings.latency_percentile.0 as f32),
            min_data_points: settings.min_data_points,
            period: settings.period,
            read: Histogram::new(),
            write: Histogram::new(),
            last_rotation: now,
            delay: None,
        };
        state.look();
        Self(Box::new(state))
    }
}

impl State {
    fn maybe_rotate(&mut self, now: Time) {
        let rotations = (now - self.last_rotation).0 / self.period.0;
        match rotations {
            0 => return,
            1 => {
                std::mem::swap(&mut self.read, &mut self.write);
                self.write.clear();
            }
            _ => {
                self.read.clear();
                self.write.clear();
            }
        }
        self.last_rotation += Duration(self.period.0 * rotations);
        self.look();
    }

    fn look(&mut self) {
        let enough = self.read.total >= self.min_data_points;
        let quantile = self.latency_percentile;
        self.delay = enough.then(|| Duration::from_millis(self.read.value_at_quantile(quantile)));
    }
}

impl HedgePolicy for Percentile {
    #[inline]
    fn most(&self) -> u32 {
        2
    }

    #[inline]
    fn delay(&mut self, now: Time, _sent: u32) -> Option<Duration> {
        self.0.maybe_rotate(now);
        self.0.delay
    }

    #[inline]
    fn on_outcome(&mut self, now: Time, outcome: &Outcome) -> Verdict {
        if outcome.class == Class::Success {
            self.0.maybe_rotate(now);
            self.0.write.record(outcome.latency.0.div_ceil(1_000_000));
        }
        Verdict::Final
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("delay_ms", self.0.delay.map_or(0.0, |delay| delay.0 as f64 / 1e6));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_kept() {
        let mut histogram = Histogram::new();
        for value in [0, 1, 2047, 2048, 2049, 4095, 4096, 70_000, 131_071, u64::MAX] {
            histogram.clear();
            histogram.record(value);
            let read = histogram.value_at_quantile(1.0);
            let value = value.min(131_071);
            assert!((value..=value + value / 1024).contains(&read), "{value}: {read}");
        }
    }

    #[test]
    fn the_period_before_is_what_counts() {
        let settings = PercentileSettings { min_data_points: 10, ..Default::default() };
        let mut policy = Percentile::new(&settings, Time::ZERO);
        let answer = |ms| Outcome::new(Class::Success, Duration::from_millis(ms));
        for ms in 1..=100 {
            let _ = policy.on_outcome(Time::ZERO, &answer(ms));
        }
        assert_eq!(policy.delay(Time::from_secs(59), 1), None, "what is being written is not read");
        assert_eq!(policy.delay(Time::from_secs(60), 1), Some(Duration::from_millis(95)));
        assert_eq!(policy.delay(Time::from_secs(120), 1), None, "nothing came in the period before");
        for _ in 0..9 {
            let _ = policy.on_outcome(Time::from_secs(120), &answer(5));
        }
        assert_eq!(policy.delay(Time::from_secs(180), 1), None, "nine are not ten");
        let odd = Outcome::new(Class::Success, Duration(4_000_001));
        for _ in 0..10 {
            let _ = policy.on_outcome(Time::from_secs(180), &odd);
        }
        assert_eq!(policy.delay(Time::from_secs(240), 1), Some(Duration::from_millis(5)), "rounded up");
    }
}
