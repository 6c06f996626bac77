//! Tries again after a random delay that grows from the delay before it, not from the number of tries (decorrelated jitter).
//!
//! ## What it does
//! It waits a time uniform between `base` and three times the previous delay (at first three times `base`), at most `max-delay`,
//! until `attempts` have been made in all.
//!
//! ## When it helps
//! As `exponential`, and callers spread out faster: each follows a path of its own.
//!
//! ## How it fails
//! An unlucky small draw starts the growth anew, so some callers come back often. As every back-off, it delays the extra
//! load but does not bound it.
//!
//! ## Settings
//! * `attempts` (default 3, the first included; at least 1).
//! * `base` (default `5ms`): smallest delay.
//! * `max-delay` (default `2s`): largest delay.
//! * `on` (default `["failure", "timeout", "rejected"]`): endings that are retried.
//!
//! ## Origin
//! AWS, *Exponential Backoff And Jitter* (Architecture Blog, 2015) and its simulator aws-arch-backoff-simulator at 66cb1692,
//! `src/backoff_simulator.py`, `ExpoBackoffDecorr.backoff`.
//!
//! ## Deliberate differences
//! The number of attempts is bounded; the simulator tries until it succeeds. Delays are rounded to whole nanoseconds.

use super::exponential::ExponentialSettings;
use super::{RetryOnSet, RetryPolicy};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Decorrelated(ExponentialSettings);

impl Decorrelated {
    /// The simulator's `backoff()` in nanoseconds, not yet rounded. `sleep` is the delay before (zero for the first) and
    /// becomes this one.
    #[inline]
    pub fn backoff_ns(&self, sleep: &mut f64, rng: &mut Rng) -> f64 {
        let base = self.0.base.0 as f64;
        *sleep = (base + (sleep.max(base) * 3.0 - base) * rng.unit()).min(self.0.max_delay.0 as f64);
        *sleep
    }
}

impl Algorithm for Decorrelated {
    type Settings = ExponentialSettings;

    fn new(settings: &ExponentialSettings, _now: Time) -> Self {
        Self(*settings)
    }
}

impl RetryPolicy for Decorrelated {
    #[inline]
    fn bounds(&self) -> (u32, RetryOnSet) {
        (self.0.attempts.get(), self.0.on)
    }

    #[inline]
    fn delay(&self, _attempt: u32, sleep: &mut f64, rng: &mut Rng) -> Duration {
        Duration::from_ns_f64(self.backoff_ns(sleep, rng))
    }
}
