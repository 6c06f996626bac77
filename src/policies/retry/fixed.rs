//! Tries again after the same delay, a fixed number of times.
//!
//! ## What it does
//! A failed attempt is followed by another one after `delay`, until `attempts` have been made in all.
//!
//! ## When it helps
//! Rare, independent failures (a lost packet, an instance that has just died) behind a balancer that picks another
//! instance for the next attempt.
//!
//! ## How it fails
//! Under overload every failed call comes back `attempts` - 1 times, so the load multiplies exactly when it must not, and
//! callers that failed together come back together. Put a retry budget beside it.
//!
//! ## Settings
//! * `attempts` (default 3, the first included; at least 1).
//! * `delay` (default `500ms`).
//! * `on` (default `["failure", "timeout", "rejected"]`): endings that are retried.
//!
//! ## Origin
//! resilience4j v2.4.0, `resilience4j-retry`, `RetryConfig` (3 attempts, 500 ms) with `IntervalFunction.of`.
//!
//! ## Deliberate differences
//! None.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{RetryOnSet, RetryPolicy};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `retry.fixed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct FixedSettings {
    /// Attempts in all, the first included.
    pub attempts: NonZeroU32,
    /// Delay before each further attempt.
    pub delay: Duration,
    /// Endings that are retried.
    pub on: RetryOnSet,
}

impl Default for FixedSettings {
    fn default() -> Self {
        Self {
            attempts: NonZeroU32::MIN.saturating_add(2),
            delay: Duration::from_millis(500),
            on: RetryOnSet::ALL,
        }
    }
}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Fixed(FixedSettings);

impl Algorithm for Fixed {
    type Settings = FixedSettings;

    fn new(settings: &FixedSettings, _now: Time) -> Self {
        Self(*settings)
    }
}

impl RetryPolicy for Fixed {
    #[inline]
    fn bounds(&self) -> (u32, RetryOnSet) {
        (self.0.attempts.get(), self.0.on)
    }

    #[inline]
    fn delay(&self, _attempt: u32, _carry: &mut f64, _rng: &mut Rng) -> Duration {
        self.0.delay
    }
}
