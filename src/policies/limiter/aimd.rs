//! Concurrency limit that grows by one while it is used and shrinks by a factor when something is lost (AIMD, as TCP).
//!
//! ## What it does
//! It admits work while less than the limit is in flight. A sample that was dropped (timed out, refused by the callee) or took
//! longer than `timeout` multiplies the limit by `backoff-ratio`; another one adds 1, if at least half the limit was in
//! flight when the work began. The limit stays between `min-limit` and `max-limit`.
//!
//! ## When it helps
//! Where losses are a clear sign of overload: callees that refuse or time out when they have too much.
//!
//! ## How it fails
//! It sees queueing only when work is lost, thus late: with the default timeout of 5 s the queue may grow to seconds. Losses
//! for other reasons shrink it for nothing. The default minimum of 20 is above what a small instance can do.
//!
//! ## Settings
//! * `initial-limit` (default 20), `min-limit` (default 20), `max-limit` (default 200).
//! * `backoff-ratio` (default 0.9, at least 0.5 and below 1).
//! * `timeout` (default `5s`): what takes longer counts as dropped.
//!
//! ## Origin
//! Netflix/concurrency-limits 78a74b98 (v0.5.4+4), `limit/AIMDLimit.java`; in flight is counted as `SimpleLimiter` does.
//!
//! ## Deliberate differences
//! Failures that are no losses are ignored, as in upstream's gRPC interceptor. Work of cost n counts n times in flight.
//! No refusal promises an instant.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::bounds;
use super::simple::{Estimator, Simple};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `limiter.aimd`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AimdSettings {
    /// Limit at the start.
    pub initial_limit: NonZeroU32,
    /// Smallest limit.
    pub min_limit: NonZeroU32,
    /// Largest limit.
    pub max_limit: NonZeroU32,
    /// What a loss multiplies the limit by.
    #[serde(deserialize_with = "bounds::backoff")]
    pub backoff_ratio: f64,
    /// What takes longer counts as dropped.
    #[serde(deserialize_with = "bounds::positive")]
    pub timeout: Duration,
}

checked!(AimdSettings);

impl Default for AimdSettings {
    fn default() -> Self {
        Self {
            initial_limit: bounds::count(20),
            min_limit: bounds::count(20),
            max_limit: bounds::count(200),
            backoff_ratio: 0.9,
            timeout: Duration::from_secs(5),
        }
    }
}

impl AimdSettings {
    fn check(&self) -> Result<(), String> {
        bounds::ordered(self.min_limit, self.max_limit)
    }
}

/// See the module documentation.
pub type Aimd = Simple<AimdLimit>;

/// The estimate alone.
#[derive(Clone, Debug)]
pub struct AimdLimit {
    limit: u32,
    min: u32,
    max: u32,
    backoff: f64,
    timeout: Duration,
}

impl Algorithm for AimdLimit {
    type Settings = AimdSettings;

    fn new(settings: &AimdSettings, _now: Time) -> Self {
        Self {
            limit: settings.initial_limit.get(),
            min: settings.min_limit.get(),
            max: settings.max_limit.get(),
            backoff: settings.backoff_ratio,
            timeout: settings.timeout,
        }
    }
}

impl Estimator for AimdLimit {
    #[inline]
    fn on_sample(&mut self, _start: Time, rtt: Duration, in_flight: u32, dropped: bool, _rng: &mut Rng) {
        if dropped || rtt > self.timeout {
            self.limit = (f64::from(self.limit) * self.backoff) as u32;
        } else if u64::from(in_flight) * 2 >= u64::from(self.limit) {
            self.limit = self.limit.saturating_add(1);
        }
        self.limit = self.limit.clamp(self.min, self.max);
    }

    #[inline]
    fn limit(&self) -> u32 {
        self.limit
    }
}
