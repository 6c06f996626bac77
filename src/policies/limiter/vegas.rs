//! Concurrency limit that holds a small queue, estimated from how much longer work takes than it did at its fastest (Vegas).
//!
//! ## What it does
//! It admits work while less than the limit is in flight. From the shortest duration seen it estimates the queue: limit times
//! (1 - shortest / this one). While the queue is short the limit grows, fast when there is next to none; when it is long, or
//! a sample was dropped, the limit shrinks. The steps are the decimal logarithm of the limit. Now and then, after about
//! `probe-multiplier` times the limit samples, the shortest duration is taken anew.
//!
//! ## When it helps
//! In front of a service whose durations vary little, to keep it busy with next to no queue, without knowing its capacity.
//!
//! ## How it fails
//! One lucky fast answer makes all others look queued. A probe under load takes the queue for normal, so the limit drifts up.
//! Mixed fast and slow work confuses it.
//!
//! ## Settings
//! * `initial-limit` (default 20), `max-limit` (default 1000; upstream's builder says `maxConcurrency`).
//! * `smoothing` (default 1.0, above 0 and at most 1): weight of a new value.
//! * `probe-multiplier` (default 30): samples between probes, in limits.
//!
//! ## Origin
//! Netflix/concurrency-limits 78a74b98 (v0.5.4+4), `limit/VegasLimit.java` with its default functions (alpha 3, beta 6 and
//! threshold 1 times the logarithm); in flight is counted as `SimpleLimiter` does. A drop that is a probe or a new minimum is lost.
//!
//! ## Deliberate differences
//! The first probe's jitter is drawn at the first sample, upstream's in the constructor. Failures that are no losses are
//! ignored. Work of cost n counts n times in flight. No refusal promises an instant.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::bounds;
use super::simple::{Estimator, Simple};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `limiter.vegas`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct VegasSettings {
    /// Limit at the start.
    pub initial_limit: NonZeroU32,
    /// Largest limit.
    pub max_limit: NonZeroU32,
    /// Weight of a new value.
    #[serde(deserialize_with = "bounds::weight")]
    pub smoothing: f64,
    /// Samples between probes, in limits.
    pub probe_multiplier: NonZeroU32,
}

impl Default for VegasSettings {
    fn default() -> Self {
        Self {
            initial_limit: bounds::count(20),
            max_limit: bounds::count(1000),
            smoothing: 1.0,
            probe_multiplier: bounds::count(30),
        }
    }
}

/// See the module documentation.
pub type Vegas = Simple<VegasLimit>;

/// The estimate alone.
#[derive(Clone, Debug)]
pub struct VegasLimit {
    estimated: f64,
    max: f64,
    smoothing: f64,
    /// In 0.5..1; 0 before the first draw.
    jitter: f64,
    /// Shortest duration since the last probe; 0 before the first sample.
    no_load: Duration,
    multiplier: u32,
    /// Samples since the last probe.
    count: u32,
}

impl Algorithm for VegasLimit {
    type Settings = VegasSettings;

    fn new(settings: &VegasSettings, _now: Time) -> Self {
        Self {
            estimated: settings.initial_limit.get().into(),
            max: settings.max_limit.get().into(),
            smoothing: settings.smoothing,
            jitter: 0.0,
            no_load: Duration::ZERO,
            multiplier: settings.probe_multiplier.get(),
            count: 0,
        }
    }
}

/// The decimal logarithm, cut off; at least 1.
const fn step(limit: u32) -> f64 {
    match limit.checked_ilog10() {
        None | Some(0) => 1.0,
        Some(log) => log as f64,
    }
}

impl VegasLimit {
    /// What the queue makes of the limit; `None` leaves it.
    #[inline]
    fn proposal(&self, rtt: Duration, in_flight: u32, dropped: bool) -> Option<f64> {
        let step = step(self.estimated as u32);
        if dropped {
            return Some(self.estimated - step);
        }
        if 2.0 * f64::from(in_flight) < self.estimated {
            return None;
        }
        let queue = (self.estimated * (1.0 - self.no_load.0 as f64 / rtt.0 as f64)).ceil();
        if queue <= step {
            Some(self.estimated + 6.0 * step)
        } else if queue < 3.0 * step {
            Some(self.estimated + step)
        } else if queue > 6.0 * step {
            Some(self.estimated - step)
        } else {
            None
        }
    }
}

impl Estimator for VegasLimit {
    #[inline]
    fn on_sample(&mut self, _start: Time, rtt: Duration, in_flight: u32, dropped: bool, rng: &mut Rng) {
        let draw = |rng: &mut Rng| 0.5 + 0.5 * rng.unit();
        if self.jitter == 0.0 {
            self.jitter = draw(rng);
        }
        self.count = self.count.saturating_add(1);
        if self.jitter * f64::from(self.multiplier) * self.estimated <= f64::from(self.count) {
            self.jitter = draw(rng);
            self.count = 0;
            self.no_load = rtt;
        } else if self.no_load == Duration::ZERO || rtt < self.no_load {
            self.no_load = rtt;
        } else if let Some(proposal) = self.proposal(rtt, in_flight, dropped) {
            let proposal = proposal.min(self.max).max(1.0);
            self.estimated = (1.0 - self.smoothing) * self.estimated + self.smoothing * proposal;
        }
    }

    #[inline]
    fn limit(&self) -> u32 {
        self.estimated as u32
    }

    fn estimated(&self) -> f64 {
        self.estimated
    }
}
