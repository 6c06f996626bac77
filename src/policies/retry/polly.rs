//! Polly's retry strategy: constant, linear or exponential delays, with or without jitter.
//!
//! ## What it does
//! Before retry n (n = 0 for the first) it waits `delay` (`constant`), `delay` · (n + 1) (`linear`) or `delay` · 2^n (`exponential`).
//! With `use-jitter` the first two are lengthened or shortened by a random quarter at most, and the third becomes decorrelated
//! jitter, second version (see `retry.cockatiel`). No delay is longer than `max-delay`, if there is one.
//!
//! ## When it helps
//! To see what a .NET service in production does. With `exponential` and jitter it is one of the smoothest back-offs.
//!
//! ## How it fails
//! Its defaults are constant delays without jitter: callers that failed together come back together, two seconds later. It does not
//! bound the extra load; put a budget beside it.
//!
//! ## Settings
//! * `max-retry-attempts` (default 3, at least 1): retries, the first attempt not included.
//! * `delay` (default `2s`, up to `1d`).
//! * `backoff-type` (default `constant`): `constant`, `linear`, `exponential`.
//! * `use-jitter` (default false).
//! * `max-delay` (default none, up to `1d`).
//! * `on` (default `["failure", "timeout", "rejected"]`): endings that are retried.
//!
//! ## Origin
//! Polly v8 (8.7.0+91, 173d6d1d), `src/Polly.Core/Retry/RetryStrategyOptions.TResult.cs` and `RetryHelper.cs` (`GetRetryDelay`,
//! `DecorrelatedJitterBackoffV2`, which is the form that `retry.cockatiel`'s vectors hold; `ApplyJitter` with its quarter both ways is
//! from the documentation).
//!
//! ## Deliberate differences
//! Delays are rounded to whole nanoseconds, upstream's to 100 ns. A delay generator cannot be given.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::cockatiel::decorrelated_jitter_v2;
use super::{RetryOnSet, RetryPolicy};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `retry.polly`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PollySettings {
    /// Retries, the first attempt not included.
    pub max_retry_attempts: NonZeroU32,
    /// Base of the delays.
    #[serde(deserialize_with = "up_to_a_day")]
    pub delay: Duration,
    /// How delays grow.
    pub backoff_type: DelayBackoffType,
    /// Whether they are random.
    pub use_jitter: bool,
    /// No delay is longer.
    #[serde(deserialize_with = "maybe_up_to_a_day")]
    pub max_delay: Option<Duration>,
    /// Endings that are retried.
    pub on: RetryOnSet,
}

/// How delays grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DelayBackoffType {
    /// Not at all.
    #[default]
    Constant,
    /// By the base each time.
    Linear,
    /// Twofold each time.
    Exponential,
}

impl Default for PollySettings {
    fn default() -> Self {
        Self {
            max_retry_attempts: NonZeroU32::MIN.saturating_add(2),
            delay: Duration::from_secs(2),
            backoff_type: DelayBackoffType::Constant,
            use_jitter: false,
            max_delay: None,
            on: RetryOnSet::ALL,
        }
    }
}

fn up_to_a_day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let delay = Duration::deserialize(deserializer)?;
    if delay <= Duration::from_secs(86_400) {
        Ok(delay)
    } else {
        Err(de::Error::custom(format!("it is {delay}, but Polly allows at most a day")))
    }
}

fn maybe_up_to_a_day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    up_to_a_day(deserializer).map(Some)
}

/// How far a delay may be moved, both ways together, as a share of it.
const JITTER_FACTOR: f64 = 0.5;
/// Growth of exponential delays.
const EXPONENTIAL_FACTOR: f64 = 2.0;

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Polly(PollySettings);

impl Algorithm for Polly {
    type Settings = PollySettings;

    fn new(settings: &PollySettings, _now: Time) -> Self {
        Self(*settings)
    }
}

/// `delay` moved by a random quarter at most.
fn apply_jitter(delay: f64, rng: &mut Rng) -> f64 {
    let offset = delay * JITTER_FACTOR / 2.0;
    delay + delay * JITTER_FACTOR * rng.unit() - offset
}

impl RetryPolicy for Polly {
    #[inline]
    fn bounds(&self) -> (u32, RetryOnSet) {
        (self.0.max_retry_attempts.get().saturating_add(1), self.0.on)
    }

    #[inline]
    fn delay(&self, attempt: u32, carry: &mut f64, rng: &mut Rng) -> Duration {
        let PollySettings { delay: base, backoff_type, use_jitter, max_delay, .. } = self.0;
        if base == Duration::ZERO {
            return base;
        }
        let base = base.0 as f64;
        let delay = match (backoff_type, use_jitter) {
            (DelayBackoffType::Constant, false) => base,
            (DelayBackoffType::Constant, true) => apply_jitter(base, rng),
            (DelayBackoffType::Linear, false) => f64::from(attempt + 1) * base,
            (DelayBackoffType::Linear, true) => apply_jitter(f64::from(attempt + 1) * base, rng),
            (DelayBackoffType::Exponential, false) => {
                libm::pow(EXPONENTIAL_FACTOR, f64::from(attempt)) * base
            }
            (DelayBackoffType::Exponential, true) => {
                decorrelated_jitter_v2(EXPONENTIAL_FACTOR, attempt, carry, rng) * base
            }
        };
        Duration::from_ns_f64(max_delay.map_or(delay, |max| delay.min(max.0 as f64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    fn delays(json: &str) -> Vec<u64> {
        let policy = Polly(serde_json::from_str(json).unwrap());
        let (mut carry, mut rng) = (0.0, Key::new(1).rng());
        (0..4).map(|attempt| policy.delay(attempt, &mut carry, &mut rng).as_millis()).collect()
    }

    #[test]
    fn delays_grow_as_they_should() {
        assert_eq!(delays("{}"), [2000, 2000, 2000, 2000]);
        assert_eq!(delays(r#"{"backoff-type": "linear", "max-delay": "7s"}"#), [2000, 4000, 6000, 7000]);
        assert_eq!(delays(r#"{"backoff-type": "exponential"}"#), [2000, 4000, 8000, 16000]);
        for (n, delay) in (1..).zip(delays(r#"{"backoff-type": "linear", "use-jitter": true}"#)) {
            assert!((n * 1500..=n * 2500).contains(&delay), "{n}: {delay}");
        }
    }

    #[test]
    fn settings_are_checked() {
        let parse = serde_json::from_str::<PollySettings>;
        for json in [r#"{"delay": "2d"}"#, r#"{"max-retry-attempts": 0}"#, r#"{"backoff-type": "quadratic"}"#]
        {
            assert!(parse(json).is_err(), "{json}");
        }
    }
}
