//! Cockatiel's exponential back-off, with any of its four ways to be random.
//!
//! ## What it does
//! With d = min(`max-delay`, `initial-delay` · 2^n) before retry n (n = 0 for the first) it waits, by `generator`: d
//! (`no-jitter`); a time uniform between 0 and d (`full-jitter`) or between d / 2 and d (`half-jitter`), both cut to whole
//! milliseconds; or (`decorrelated-jitter`) `initial-delay` / 1.4 times what the smooth curve `exponent`^t · tanh(√(4 t)) has grown
//! since the retry before, where t is uniform between n and n + 1, at most `max-delay`.
//!
//! ## When it helps
//! Calls over a network. The decorrelated form has no clusters: full jitter leaves a pile of very early retries, and this curve
//! spreads them evenly.
//!
//! ## How it fails
//! As every back-off, it delays the extra load but does not bound it: in a long outage each call makes all its attempts. Put a
//! budget beside it.
//!
//! ## Settings
//! * `max-attempts` (required, at least 1): retries, the first attempt *not* included, as upstream counts.
//! * `generator` (default `decorrelated-jitter`).
//! * `initial-delay` (default `128ms`), `max-delay` (default `30s`).
//! * `exponent` (default 2, above 0): used by `decorrelated-jitter` alone; the others always double, as upstream.
//! * `on` (default `["failure", "timeout", "rejected"]`): endings that are retried.
//!
//! ## Origin
//! npm cockatiel 3.2.1, `src/backoff/ExponentialBackoff.ts` and `ExponentialBackoffGenerators.ts` (`noJitterGenerator`,
//! `fullJitterGenerator`, `halfJitterGenerator`, `decorrelatedJitterGenerator`); the last is Polly.Contrib.WaitAndRetry's
//! `DecorrelatedJitterBackoffV2`. `src/RetryPolicy.ts` counts retries.
//!
//! ## Deliberate differences
//! Upstream retries without end unless `maxAttempts` is given; here it must be. Decorrelated delays are rounded to whole
//! nanoseconds.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{RetryOnSet, RetryPolicy};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `retry.cockatiel`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CockatielSettings {
    /// Retries, the first attempt not included.
    pub max_attempts: NonZeroU32,
    /// How delays are drawn.
    #[serde(default)]
    pub generator: Generator,
    /// What the first delay is drawn around.
    #[serde(default = "initial_delay")]
    pub initial_delay: Duration,
    /// No delay is longer.
    #[serde(default = "max_delay")]
    pub max_delay: Duration,
    /// Growth of the decorrelated delays.
    #[serde(default = "two", deserialize_with = "exponent")]
    pub exponent: f64,
    /// Endings that are retried.
    #[serde(default)]
    pub on: RetryOnSet,
}

/// Which of upstream's generators draws the delays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Generator {
    /// Doubling delays.
    NoJitter,
    /// Uniform from nothing to the doubling delay.
    FullJitter,
    /// Uniform from half of the doubling delay to all of it.
    HalfJitter,
    /// Polly's decorrelated jitter, second version.
    #[default]
    DecorrelatedJitter,
}

const fn initial_delay() -> Duration {
    Duration::from_millis(128)
}

const fn max_delay() -> Duration {
    Duration::from_secs(30)
}

const fn two() -> f64 {
    2.0
}

fn exponent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let exponent = f64::deserialize(deserializer)?;
    if exponent.is_finite() && exponent > 0.0 {
        Ok(exponent)
    } else {
        Err(de::Error::custom(format!("exponent is {exponent}, but it must be a number above 0")))
    }
}

/// Helps to smooth the first delay.
const P_FACTOR: f64 = 4.0;
/// Brings the medians near whole multiples of the initial delay.
const RP_SCALING_FACTOR: f64 = 1.0 / 1.4;

/// Polly's decorrelated jitter, second version: the next delay in units of the initial one. `prev` is the value of the curve
/// that the delay before was drawn at, and becomes this one's.
#[inline]
pub(super) fn decorrelated_jitter_v2(exponent: f64, attempt: u32, prev: &mut f64, rng: &mut Rng) -> f64 {
    let t = f64::from(attempt) + rng.unit();
    let next = libm::pow(exponent, t) * libm::tanh(libm::sqrt(P_FACTOR * t));
    let formula_intrinsic_value = if next.is_finite() { (next - *prev).max(0.0) } else { f64::INFINITY };
    *prev = next;
    formula_intrinsic_value * RP_SCALING_FACTOR
}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Cockatiel(CockatielSettings);

impl Cockatiel {
    /// The next delay in milliseconds, not yet rounded. `carry` is the generator's state beside the number of the attempt.
    #[inline]
    pub fn next_ms(&self, attempt: u32, carry: &mut f64, rng: &mut Rng) -> f64 {
        let CockatielSettings { generator, initial_delay, max_delay, exponent, .. } = self.0;
        let (initial, max) = (initial_delay.0 as f64 / 1e6, max_delay.0 as f64 / 1e6);
        // 2^1100 is infinite, and the minimum takes the maximum then.
        let delay = libm::scalbn(initial, attempt.min(1100).cast_signed()).min(max);
        match generator {
            Generator::NoJitter => delay,
            Generator::FullJitter => (rng.unit() * delay).floor(),
            Generator::HalfJitter => f64::midpoint(delay, rng.unit() * delay).floor(),
            Generator::DecorrelatedJitter => {
                (decorrelated_jitter_v2(exponent, attempt, carry, rng) * initial).min(max)
            }
        }
    }
}

impl Algorithm for Cockatiel {
    type Settings = CockatielSettings;

    fn new(settings: &CockatielSettings, _now: Time) -> Self {
        Self(*settings)
    }
}

impl RetryPolicy for Cockatiel {
    #[inline]
    fn bounds(&self) -> (u32, RetryOnSet) {
        (self.0.max_attempts.get().saturating_add(1), self.0.on)
    }

    #[inline]
    fn delay(&self, attempt: u32, carry: &mut f64, rng: &mut Rng) -> Duration {
        Duration::from_ns_f64(self.next_ms(attempt, carry, rng) * 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked() {
        let parse = serde_json::from_str::<CockatielSettings>;
        assert_eq!(Cockatiel(parse(r#"{"max-attempts": 3}"#).unwrap()).bounds().0, 4, "retries are counted");
        for json in [
            "{}",
            r#"{"max-attempts": 0}"#,
            r#"{"max-attempts": 3, "exponent": 0}"#,
            r#"{"max-attempts": 3, "generator": "decorrelated"}"#,
            r#"{"max-attempts": 3, "initial-delay": 128}"#,
        ] {
            assert!(parse(json).is_err(), "{json}");
        }
    }
}
