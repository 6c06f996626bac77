//! Phi accrual: how unlikely the silence is, judged by the intervals of the heartbeats before it.
//!
//! ## What it does
//! It keeps the last `max-sample-size` intervals between heartbeats. phi = -log10 of the probability that a heartbeat comes
//! later than the time since the last one, for a normal law with their mean (plus `acceptable-heartbeat-pause`) and standard
//! deviation (at least `min-std-deviation`), in the logistic approximation. The target is gone while phi is at least
//! `threshold`. The first heartbeat fills the history with `heartbeat-interval` minus and plus a quarter of it. An interval
//! that ends a failure is not kept.
//!
//! ## When it helps
//! Networks with their own rhythm: the threshold is a probability, not a time.
//!
//! ## How it fails
//! With very regular heartbeats the deviation falls to its floor and the detector becomes a plain time-out. A slow change
//! widens the history, a sudden one does not. The pause is added to the mean, so it dominates all else.
//!
//! ## Settings
//! Names and defaults as of Pekko's cluster.
//! * `threshold` (default 8), `max-sample-size` (default 1000), `min-std-deviation` (default `100ms`),
//!   `acceptable-heartbeat-pause` (default `3s`), `heartbeat-interval` (default `1s`, also `first-heartbeat-estimate`).
//!
//! ## Origin
//! apache/pekko 9d977134, `PhiAccrualFailureDetector.scala` (`phi`, `heartbeat`), after Hayashibara and others (2004); pinned by
//! `tests/vectors/balancer/phi_accrual.json`. The defaults of the cluster are from memory.
//!
//! ## Deliberate differences
//! Its owner asks when it likes; upstream looks once in `unreachable-nodes-reaper-interval` (1 s).

use std::collections::VecDeque;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Detector, Probe, Verdict, next_tick};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `detector.phi-accrual`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct PhiAccrualSettings(Written);

/// The settings before they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "PhiAccrualSettings")]
struct Written {
    /// Suspicion from which on the target is gone.
    threshold: f64,
    /// Intervals that are kept.
    max_sample_size: NonZeroU32,
    /// Floor of the standard deviation.
    min_std_deviation: Duration,
    /// Added to the mean.
    acceptable_heartbeat_pause: Duration,
    /// Time between heartbeats.
    heartbeat_interval: Duration,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            threshold: 8.0,
            max_sample_size: NonZeroU32::MIN.saturating_add(999),
            min_std_deviation: Duration::from_millis(100),
            acceptable_heartbeat_pause: Duration::from_secs(3),
            heartbeat_interval: Duration::from_secs(1),
        }
    }
}

/// Most intervals that are kept.
const SAMPLES_MAX: u32 = 100_000;

impl TryFrom<Written> for PhiAccrualSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if !(written.threshold > 0.0 && written.threshold.is_finite()) {
            return Err("threshold must be > 0 (Pekko: failure-detector.threshold)".to_owned());
        }
        if written.max_sample_size.get() > SAMPLES_MAX {
            return Err(format!("max-sample-size is at most {SAMPLES_MAX}"));
        }
        if written.min_std_deviation < Duration::from_millis(1) {
            return Err("min-std-deviation must be > 0, in milliseconds (Pekko)".to_owned());
        }
        if written.heartbeat_interval < Duration::from_millis(1) {
            return Err("heartbeat-interval must be > 0, in milliseconds (Pekko)".to_owned());
        }
        Ok(Self(written))
    }
}

/// The intervals that are kept, in milliseconds.
#[derive(Clone, Debug)]
struct History {
    intervals: VecDeque<u64>,
    most: usize,
    sum: u64,
    squares: u128,
}

impl History {
    /// What the first heartbeat leaves.
    fn first(estimate: u64, most: usize) -> Self {
        let deviation = estimate / 4;
        let mut history =
            Self { intervals: VecDeque::with_capacity(most.max(2) + 1), most, sum: 0, squares: 0 };
        history.push(estimate - deviation);
        history.push(estimate + deviation);
        history
    }

    fn push(&mut self, interval: u64) {
        if self.intervals.len() >= self.most
            && let Some(oldest) = self.intervals.pop_front()
        {
            self.sum -= oldest;
            self.squares -= u128::from(oldest) * u128::from(oldest);
        }
        self.intervals.push_back(interval);
        self.sum += interval;
        self.squares += u128::from(interval) * u128::from(interval);
    }

    fn mean(&self) -> f64 {
        self.sum as f64 / self.intervals.len() as f64
    }

    fn deviation(&self) -> f64 {
        let mean = self.mean();
        (self.squares as f64 / self.intervals.len() as f64 - mean * mean).max(0.0).sqrt()
    }
}

/// -log10(1 - F(time)) of a normal law, times in milliseconds.
pub fn phi(time_diff: u64, mean: f64, std_deviation: f64) -> f64 {
    let y = (time_diff as f64 - mean) / std_deviation;
    let e = libm::exp(-y * (1.5976 + 0.070_566 * y * y));
    if time_diff as f64 > mean { -libm::log10(e / (1.0 + e)) } else { -libm::log10(1.0 - 1.0 / (1.0 + e)) }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct PhiAccrual(Box<State>);

#[derive(Clone, Debug)]
struct State {
    settings: Written,
    history: History,
    /// Millisecond of the last heartbeat.
    latest: Option<u64>,
}

impl Algorithm for PhiAccrual {
    type Settings = PhiAccrualSettings;

    fn new(settings: &PhiAccrualSettings, _now: Time) -> Self {
        let settings = settings.0;
        let most = settings.max_sample_size.get() as usize;
        let history = History::first(settings.heartbeat_interval.as_millis(), most);
        Self(Box::new(State { settings, history, latest: None }))
    }
}

impl PhiAccrual {
    /// The suspicion at `now`; 0 before the first heartbeat.
    pub fn phi(&self, now: Time) -> f64 {
        let State { settings, history, latest } = &*self.0;
        let Some(latest) = latest else { return 0.0 };
        let floor = settings.min_std_deviation.as_millis() as f64;
        let mean = history.mean() + settings.acceptable_heartbeat_pause.as_millis() as f64;
        phi(now.as_millis() - latest, mean, history.deviation().max(floor))
    }

    /// Whether the suspicion is below the threshold.
    pub fn is_available(&self, now: Time) -> bool {
        self.phi(now) < self.0.settings.threshold
    }
}

impl Detector for PhiAccrual {
    fn interval(&self) -> Duration {
        self.0.settings.heartbeat_interval
    }

    fn timeout(&self) -> Duration {
        self.0.settings.heartbeat_interval
    }

    fn next_probe(&self, began: Time, now: Time, _rng: &mut Rng) -> Time {
        next_tick(began, now, self.0.settings.heartbeat_interval)
    }

    fn on_result(&mut self, now: Time, result: Probe) {
        if result != Probe::Passed {
            return;
        }
        let at = now.as_millis();
        if let Some(latest) = self.0.latest
            && self.is_available(now)
        {
            self.0.history.push(at - latest);
        }
        self.0.latest = Some(at);
    }

    fn verdict(&self, now: Time) -> Verdict {
        match self.0.latest {
            None => Verdict::Unknown,
            Some(_) if self.is_available(now) => Verdict::Healthy,
            Some(_) => Verdict::Unhealthy,
        }
    }
}
