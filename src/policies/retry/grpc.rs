//! gRPC's transparent back-off: a delay drawn between nothing and a bound that grows by a factor.
//!
//! ## What it does
//! Before retry n it waits a time uniform between 0 and min(`max-backoff`, `initial-backoff` · `backoff-multiplier`^(n - 1)),
//! until `max-attempts` have been made in all.
//!
//! ## When it helps
//! To see what a service config in production does. It is full jitter with a factor of one's own.
//!
//! ## How it fails
//! As every back-off, it delays the extra load but does not bound it: put the retry throttle of the same service config, or
//! another budget, beside it.
//!
//! ## Settings
//! * `max-attempts` (required, 2 to 5; upstream takes more for 5).
//! * `initial-backoff`, `max-backoff` (required, more than zero), `backoff-multiplier` (required, above 0).
//! * `on` (default `["failure", "timeout", "rejected"]`): endings that are retried; upstream lists status codes.
//!
//! ## Origin
//! gRPC proposal A6 (grpc/proposal 1fd77201), *Exponential Backoff* and *Validation of retryPolicy*.
//!
//! ## Deliberate differences
//! More than five attempts are refused instead of cut. Server pushback is not modelled. Delays are rounded to whole nanoseconds.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{RetryOnSet, RetryPolicy};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `retry.grpc`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GrpcSettings {
    /// Attempts in all, the first included.
    #[schemars(range(min = 2, max = 5))]
    #[serde(deserialize_with = "attempts")]
    pub max_attempts: u32,
    /// Bound of the first delay.
    #[serde(deserialize_with = "positive")]
    pub initial_backoff: Duration,
    /// Largest bound of a delay.
    #[serde(deserialize_with = "positive")]
    pub max_backoff: Duration,
    /// What the bound grows by.
    #[serde(deserialize_with = "multiplier")]
    pub backoff_multiplier: f64,
    /// Endings that are retried.
    #[serde(default)]
    pub on: RetryOnSet,
}

fn attempts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let attempts = u32::deserialize(deserializer)?;
    if (2..=5).contains(&attempts) {
        Ok(attempts)
    } else {
        Err(de::Error::custom(format!("max-attempts is {attempts}, but gRPC makes 2 to 5")))
    }
}

fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let time = Duration::deserialize(deserializer)?;
    if time > Duration::ZERO { Ok(time) } else { Err(de::Error::custom("gRPC wants more than zero")) }
}

fn multiplier<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err(de::Error::custom(format!("backoff-multiplier is {value}, but gRPC wants a number above 0")))
    }
}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Grpc(GrpcSettings);

impl Grpc {
    /// Delay before retry `n`, in nanoseconds, not yet rounded.
    #[inline]
    pub fn backoff_ns(&self, n: u32, rng: &mut Rng) -> f64 {
        let grown = self.0.initial_backoff.0 as f64 * libm::pow(self.0.backoff_multiplier, f64::from(n - 1));
        grown.min(self.0.max_backoff.0 as f64) * rng.unit()
    }
}

impl Algorithm for Grpc {
    type Settings = GrpcSettings;

    fn new(settings: &GrpcSettings, _now: Time) -> Self {
        Self(*settings)
    }
}

impl RetryPolicy for Grpc {
    #[inline]
    fn bounds(&self) -> (u32, RetryOnSet) {
        (self.0.max_attempts, self.0.on)
    }

    #[inline]
    fn delay(&self, attempt: u32, _carry: &mut f64, rng: &mut Rng) -> Duration {
        Duration::from_ns_f64(self.backoff_ns(attempt + 1, rng))
    }
}
