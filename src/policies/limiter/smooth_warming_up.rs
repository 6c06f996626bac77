//! Guava's `RateLimiter` with warm-up: stored permits cost time, the more of them the more.
//!
//! ## What it does
//! As `smooth-bursty`, but the store starts full and its permits are not free: above a threshold their price rises along a slope to
//! `cold-factor` times the interval of the rate. So a limiter that was idle starts slowly and reaches its rate after
//! `warmup-period`.
//!
//! ## When it helps
//! In front of a callee that must warm up after a start or a quiet time (caches, connections).
//!
//! ## How it fails
//! What comes after a quiet time meets the cold rate, however healthy the callee is. There is no burst at all.
//!
//! ## Settings
//! * `permits-per-second` (required), as in `"5/s"`.
//! * `warmup-period` (required): how long the rate rises.
//! * `cold-factor` (default 3, above 1): the cold interval in intervals of the rate; upstream sets no other.
//! * `timeout` (default `0s`): how long a request may wait, as in `tryAcquire`.
//!
//! ## Origin
//! Guava 31.1, `SmoothRateLimiter.java` (`SmoothWarmingUp.doSetRate`, `storedPermitsToWaitTime`); times are whole
//! microseconds, cut off.
//!
//! ## Deliberate differences
//! The rate cannot be changed while running. A warm-up shorter than one microsecond is refused.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::smooth_bursty::Store;
use super::{Limiter, bounds};
use crate::policies::Algorithm;
use crate::policies::view::Admit;
use crate::random::Rng;
use crate::time::{Duration, Time};
use crate::units::Rate;

/// Settings of `limiter.smooth-warming-up`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SmoothWarmingUpSettings {
    /// Permits gained.
    #[serde(deserialize_with = "bounds::positive")]
    pub permits_per_second: Rate,
    /// How long the rate rises.
    #[serde(deserialize_with = "warmup")]
    pub warmup_period: Duration,
    /// The cold interval in intervals of the rate.
    #[serde(default = "three", deserialize_with = "bounds::above_one")]
    pub cold_factor: f64,
    /// How long a request may wait.
    #[serde(default)]
    pub timeout: Duration,
}

const fn three() -> f64 {
    3.0
}

fn warmup<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let period = Duration::deserialize(deserializer)?;
    if period.0 >= 1000 { Ok(period) } else { Err(de::Error::custom("warmup-period must be at least 1us")) }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct SmoothWarmingUp(Box<WarmingUp>);

#[derive(Clone, Debug)]
struct WarmingUp {
    store: Store,
    /// Microseconds per permit when warm.
    interval: f64,
    /// Stored permits above which they cost more than that.
    threshold: f64,
    /// Microseconds that the price rises per permit.
    slope: f64,
    /// Microseconds.
    timeout: u64,
}

impl Algorithm for SmoothWarmingUp {
    type Settings = SmoothWarmingUpSettings;

    fn new(settings: &SmoothWarmingUpSettings, now: Time) -> Self {
        let warmup = (settings.warmup_period.0 / 1000) as f64;
        let interval = 1e6 / settings.permits_per_second.0;
        let cold = interval * settings.cold_factor;
        let threshold = 0.5 * warmup / interval;
        let max = threshold + 2.0 * warmup / (interval + cold);
        Self(Box::new(WarmingUp {
            store: Store::new(now, max, max, warmup / max),
            interval,
            threshold,
            slope: (cold - interval) / (max - threshold),
            timeout: settings.timeout.0 / 1000,
        }))
    }
}

impl SmoothWarmingUp {
    /// Permits in store, as of the last grant.
    pub(crate) const fn stored(&self) -> f64 {
        self.0.store.permits
    }
}

impl Limiter for SmoothWarmingUp {
    fn try_acquire(&mut self, now: Time, cost: u32, max_wait: Duration, _rng: &mut Rng) -> Admit {
        let WarmingUp { store, interval, threshold, slope, timeout } = &mut *self.0;
        let (interval, threshold, slope) = (*interval, *threshold, *slope);
        let price = |stored: f64, taken: f64| {
            // The area under the price, first along the slope, then along the level.
            let above = stored - threshold;
            if above <= 0.0 {
                return (interval * taken) as u64;
            }
            let dear = above.min(taken);
            let at = |permits: f64| interval + permits * slope;
            let sloped = (dear * (at(above) + at(above - dear)) / 2.0) as u64;
            sloped.saturating_add((interval * (taken - dear)) as u64)
        };
        store.acquire(now, cost, (*timeout).min(max_wait.0 / 1000), interval, price)
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        self.0.store.gauges(now, show);
    }
}
