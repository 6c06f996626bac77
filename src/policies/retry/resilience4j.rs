//! resilience4j's retry with exponential intervals: whole milliseconds, cut off at every step.
//!
//! ## What it does
//! The first retry waits `wait-duration`, each further one the previous wait times `exponential-backoff-multiplier`, cut to whole
//! milliseconds, and at most `exponential-max-wait-duration`, until `max-attempts` have been made in all.
//!
//! ## When it helps
//! To see what a configuration in production does. It has no randomness: see `exponential` for what that costs.
//!
//! ## How it fails
//! Callers that failed together come back together. As every back-off, it delays the extra load but does not bound it.
//!
//! ## Settings
//! * `max-attempts` (default 3, the first included; at least 1).
//! * `wait-duration` (default `500ms`), `exponential-max-wait-duration` (default `1min`); whole milliseconds, at least one.
//! * `exponential-backoff-multiplier` (default 1.5, at least 1).
//! * `on` (default `["failure", "timeout", "rejected"]`): endings that are retried.
//!
//! ## Origin
//! resilience4j v2.4.0, `resilience4j-core`, `IntervalFunction.ofExponentialBackoff`; `RetryConfig` (3 attempts).
//!
//! ## Deliberate differences
//! The randomized form is not offered. Upstream's largest wait has no default; it is the bound that simlab sets all delays.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{RetryOnSet, RetryPolicy};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `retry.resilience4j`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Resilience4jSettings {
    /// Attempts in all, the first included.
    pub max_attempts: NonZeroU32,
    /// Wait before the first retry.
    #[serde(deserialize_with = "millis")]
    pub wait_duration: Duration,
    /// What the wait grows by.
    #[serde(deserialize_with = "multiplier")]
    pub exponential_backoff_multiplier: f64,
    /// Longest wait.
    #[serde(deserialize_with = "millis")]
    pub exponential_max_wait_duration: Duration,
    /// Endings that are retried.
    pub on: RetryOnSet,
}

impl Default for Resilience4jSettings {
    fn default() -> Self {
        Self {
            max_attempts: NonZeroU32::MIN.saturating_add(2),
            wait_duration: Duration::from_millis(500),
            exponential_backoff_multiplier: 1.5,
            exponential_max_wait_duration: Duration::from_secs(60),
            on: RetryOnSet::ALL,
        }
    }
}

fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let time = Duration::deserialize(deserializer)?;
    if time > Duration::ZERO && time.0.is_multiple_of(1_000_000) {
        Ok(time)
    } else {
        Err(de::Error::custom(format!(
            "it is {time}, but resilience4j counts in whole milliseconds, from 1ms"
        )))
    }
}

fn multiplier<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if value.is_finite() && value >= 1.0 {
        Ok(value)
    } else {
        Err(de::Error::custom(format!("the multiplier is {value}, but resilience4j wants at least 1")))
    }
}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Resilience4j(Resilience4jSettings);

impl Algorithm for Resilience4j {
    type Settings = Resilience4jSettings;

    fn new(settings: &Resilience4jSettings, _now: Time) -> Self {
        Self(*settings)
    }
}

impl RetryPolicy for Resilience4j {
    #[inline]
    fn bounds(&self) -> (u32, RetryOnSet) {
        (self.0.max_attempts.get(), self.0.on)
    }

    #[inline]
    fn delay(&self, attempt: u32, last_interval: &mut f64, _rng: &mut Rng) -> Duration {
        // Each interval comes from the one before, already cut to whole milliseconds.
        let interval = match attempt {
            0 => self.0.wait_duration.as_millis(),
            _ => (*last_interval * self.0.exponential_backoff_multiplier) as u64,
        };
        let interval = interval.min(self.0.exponential_max_wait_duration.as_millis());
        *last_interval = interval as f64;
        Duration::from_millis(interval)
    }
}
