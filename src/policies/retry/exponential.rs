//! Tries again after a delay that is random up to a bound which doubles from try to try (full jitter).
//!
//! ## What it does
//! Before try n (n = 1 for the first retry) it waits a time uniform between 0 and min(`max-delay`, `base` · 2^n), until
//! `attempts` have been made in all.
//!
//! ## When it helps
//! The usual choice for calls over a network: the doubling takes pressure off a dependency in trouble, and the jitter
//! spreads callers that failed together, so they do not come back as one wave.
//!
//! ## How it fails
//! It delays the extra load but does not bound it: in a long outage each call still makes `attempts` attempts, and the
//! sum over many clients can keep a recovering service down. Put a retry budget beside it. Long delays use up deadlines.
//!
//! ## Settings
//! * `attempts` (default 3, the first included; at least 1).
//! * `base` (default `5ms`): half of the bound of the first delay.
//! * `max-delay` (default `2s`): the bound grows no further.
//! * `on` (default `["failure", "timeout", "rejected"]`): endings that are retried.
//!
//! ## Origin
//! AWS, *Exponential Backoff And Jitter* (Architecture Blog, 2015) and its simulator aws-arch-backoff-simulator at 66cb1692,
//! `src/backoff_simulator.py`, `ExpoBackoffFullJitter.backoff` (base 5 ms and cap 2000 ms are the simulator's; it counts
//! from n = 1, so the first bound is 2 · `base`). Three attempts are the default of the AWS SDKs' standard mode.
//!
//! ## Deliberate differences
//! The number of attempts is bounded; the simulator tries until it succeeds. Delays are rounded to whole nanoseconds.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{RetryOnSet, RetryPolicy};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `retry.exponential`, `retry.equal-jitter`, `retry.decorrelated` and `retry.no-jitter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExponentialSettings {
    /// Attempts in all, the first included.
    pub attempts: NonZeroU32,
    /// Half of the bound of the first delay; the smallest delay of `decorrelated`.
    pub base: Duration,
    /// Largest bound of a delay.
    pub max_delay: Duration,
    /// Endings that are retried.
    pub on: RetryOnSet,
}

impl Default for ExponentialSettings {
    fn default() -> Self {
        Self {
            attempts: NonZeroU32::MIN.saturating_add(2),
            base: Duration::from_millis(5),
            max_delay: Duration::from_secs(2),
            on: RetryOnSet::ALL,
        }
    }
}

/// The simulator's `expo(n)`: the bound of the delay before try `n`, in nanoseconds.
#[inline]
pub(super) fn bound_ns(settings: &ExponentialSettings, n: u32) -> f64 {
    // 2^1100 is infinite, and the minimum takes the cap then.
    libm::scalbn(settings.base.0 as f64, n.min(1100).cast_signed()).min(settings.max_delay.0 as f64)
}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Exponential(ExponentialSettings);

impl Exponential {
    /// The simulator's `backoff(n)` in nanoseconds, not yet rounded.
    #[inline]
    pub fn backoff_ns(&self, n: u32, rng: &mut Rng) -> f64 {
        bound_ns(&self.0, n) * rng.unit()
    }
}

impl Algorithm for Exponential {
    type Settings = ExponentialSettings;

    fn new(settings: &ExponentialSettings, _now: Time) -> Self {
        Self(*settings)
    }
}

impl RetryPolicy for Exponential {
    #[inline]
    fn bounds(&self) -> (u32, RetryOnSet) {
        (self.0.attempts.get(), self.0.on)
    }

    #[inline]
    fn delay(&self, attempt: u32, _carry: &mut f64, rng: &mut Rng) -> Duration {
        Duration::from_ns_f64(self.backoff_ns(attempt + 1, rng))
    }
}
