//! Tries again after a delay that doubles from try to try, without any randomness.
//!
//! ## What it does
//! Before try n (n = 1 for the first retry) it waits min(`max-delay`, `base` · 2^n), until `attempts` have been made in all.
//!
//! ## When it helps
//! Only where callers cannot fail together: a single job that polls. It is here to be compared with.
//!
//! ## How it fails
//! Callers that failed together come back together, again and again, in ever larger gaps: between the waves the
//! dependency idles, in them it fails.
//!
//! ## Settings
//! * `attempts` (default 3, the first included; at least 1).
//! * `base` (default `5ms`): half of the first delay.
//! * `max-delay` (default `2s`): the delay grows no further.
//! * `on` (default `["failure", "timeout", "rejected"]`): endings that are retried.
//!
//! ## Origin
//! AWS, *Exponential Backoff And Jitter* (Architecture Blog, 2015) and its simulator aws-arch-backoff-simulator at 66cb1692,
//! `src/backoff_simulator.py`, `ExpoBackoff.backoff`.
//!
//! ## Deliberate differences
//! The number of attempts is bounded; the simulator tries until it succeeds.

use super::exponential::{ExponentialSettings, bound_ns};
use super::{RetryOnSet, RetryPolicy};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct NoJitter(ExponentialSettings);

impl NoJitter {
    /// The simulator's `backoff(n)` in nanoseconds.
    #[inline]
    pub fn backoff_ns(&self, n: u32) -> f64 {
        bound_ns(&self.0, n)
    }
}

impl Algorithm for NoJitter {
    type Settings = ExponentialSettings;

    fn new(settings: &ExponentialSettings, _now: Time) -> Self {
        Self(*settings)
    }
}

impl RetryPolicy for NoJitter {
    #[inline]
    fn bounds(&self) -> (u32, RetryOnSet) {
        (self.0.attempts.get(), self.0.on)
    }

    #[inline]
    fn delay(&self, attempt: u32, _carry: &mut f64, _rng: &mut Rng) -> Duration {
        Duration::from_ns_f64(self.backoff_ns(attempt + 1))
    }
}
