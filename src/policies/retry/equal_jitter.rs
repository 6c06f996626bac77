//! Tries again after a delay of which half is fixed and half is random, with a bound that doubles from try to try.
//!
//! ## What it does
//! Before try n (n = 1 for the first retry) it takes the bound min(`max-delay`, `base` · 2^n) and waits half of it plus a time
//! uniform between 0 and the other half, until `attempts` have been made in all.
//!
//! ## When it helps
//! As `exponential`, where a retry must not come at once: the dependency gets at least half of the pause.
//!
//! ## How it fails
//! Callers that failed together stay closer together than with full jitter: the same work is done with more calls. As every
//! back-off, it delays the extra load but does not bound it.
//!
//! ## Settings
//! * `attempts` (default 3, the first included; at least 1).
//! * `base` (default `5ms`): half of the bound of the first delay.
//! * `max-delay` (default `2s`): the bound grows no further.
//! * `on` (default `["failure", "timeout", "rejected"]`): endings that are retried.
//!
//! ## Origin
//! AWS, *Exponential Backoff And Jitter* (Architecture Blog, 2015) and its simulator aws-arch-backoff-simulator at 66cb1692,
//! `src/backoff_simulator.py`, `ExpoBackoffEqualJitter.backoff`.
//!
//! ## Deliberate differences
//! The number of attempts is bounded; the simulator tries until it succeeds. Delays are rounded to whole nanoseconds.

use super::exponential::{ExponentialSettings, bound_ns};
use super::{RetryOnSet, RetryPolicy};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct EqualJitter(ExponentialSettings);

impl EqualJitter {
    /// The simulator's `backoff(n)` in nanoseconds, not yet rounded.
    #[inline]
    pub fn backoff_ns(&self, n: u32, rng: &mut Rng) -> f64 {
        let half = bound_ns(&self.0, n) / 2.0;
        half + half * rng.unit()
    }
}

impl Algorithm for EqualJitter {
    type Settings = ExponentialSettings;

    fn new(settings: &ExponentialSettings, _now: Time) -> Self {
        Self(*settings)
    }
}

impl RetryPolicy for EqualJitter {
    #[inline]
    fn bounds(&self) -> (u32, RetryOnSet) {
        (self.0.attempts.get(), self.0.on)
    }

    #[inline]
    fn delay(&self, attempt: u32, _carry: &mut f64, rng: &mut Rng) -> Duration {
        Duration::from_ns_f64(self.backoff_ns(attempt + 1, rng))
    }
}
