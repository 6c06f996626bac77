//! Envoy's local rate limit: whole tokens, added in portions at fixed intervals.
//!
//! ## What it does
//! The bucket starts full with `max-tokens`. Every `fill-interval`, counted from its creation, `tokens-per-fill` are added and
//! the bucket is cut at its size. A request takes its cost or is refused.
//!
//! ## When it helps
//! In a side-car or gateway, in front of each instance: a hard bound that needs no service to ask.
//!
//! ## How it fails
//! With long intervals the tokens come in portions, and so does the traffic. The limit is per proxy, so the total grows
//! with the fleet.
//!
//! ## Settings
//! * `max-tokens` (required): tokens in a full bucket. A request that costs more is never admitted.
//! * `tokens-per-fill` (default 1): tokens added per interval.
//! * `fill-interval` (required, at least `50ms`).
//!
//! ## Origin
//! Envoy at 016c0c80, `source/extensions/filters/common/local_ratelimit/local_ratelimit_impl.cc` (the form with a fill timer,
//! `onFillTimerHelper`), `envoy.type.v3.TokenBucket`.
//!
//! ## Deliberate differences
//! Fills that came due are added when somebody looks, which cannot be told from a timer. Later revisions of Envoy fill by
//! elapsed time, which is `token-bucket` here. Descriptors are not modelled.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{Limiter, admitted};
use crate::policies::Algorithm;
use crate::policies::view::Admit;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `limiter.envoy-local-rate-limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EnvoyLocalRateLimitSettings {
    /// Tokens in a full bucket.
    pub max_tokens: NonZeroU32,
    /// Tokens added per interval.
    #[serde(default = "one")]
    pub tokens_per_fill: NonZeroU32,
    /// Time between fills.
    #[serde(deserialize_with = "fill_interval")]
    pub fill_interval: Duration,
}

const fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

fn fill_interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let interval = Duration::deserialize(deserializer)?;
    if interval >= Duration::from_millis(50) {
        Ok(interval)
    } else {
        Err(de::Error::custom(format!("fill-interval is {interval}, but Envoy's timer needs at least 50ms")))
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct EnvoyLocalRateLimit {
    interval: u64,
    start: Time,
    /// Fills since `start` that are in `tokens`.
    fills: u64,
    tokens: u32,
    max_tokens: u32,
    per_fill: u32,
}

impl Algorithm for EnvoyLocalRateLimit {
    type Settings = EnvoyLocalRateLimitSettings;

    fn new(settings: &EnvoyLocalRateLimitSettings, now: Time) -> Self {
        let max_tokens = settings.max_tokens.get();
        Self {
            interval: settings.fill_interval.0,
            start: now,
            fills: 0,
            tokens: max_tokens,
            max_tokens,
            per_fill: settings.tokens_per_fill.get(),
        }
    }
}

impl EnvoyLocalRateLimit {
    /// Fills that are due by `now`, and the tokens with them.
    #[inline]
    fn filled(&self, now: Time) -> (u64, u32) {
        let fills = (now - self.start).0 / self.interval;
        let gained = (fills - self.fills).saturating_mul(self.per_fill.into());
        let tokens = u64::from(self.tokens).saturating_add(gained).min(self.max_tokens.into());
        (fills, tokens as u32)
    }
}

impl Limiter for EnvoyLocalRateLimit {
    #[inline]
    fn try_acquire(&mut self, now: Time, cost: u32, _max_wait: Duration, _rng: &mut Rng) -> Admit {
        (self.fills, self.tokens) = self.filled(now);
        if cost <= self.tokens {
            self.tokens -= cost;
            return admitted(now, Duration::ZERO);
        }
        if cost > self.max_tokens {
            return Admit::Reject { until: None };
        }
        let due = self.fills + u64::from((cost - self.tokens).div_ceil(self.per_fill));
        let until = due.checked_mul(self.interval).and_then(|after| self.start.0.checked_add(after));
        Admit::Reject { until: until.map(Time) }
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("tokens", f64::from(self.filled(now).1));
        show("capacity", f64::from(self.max_tokens));
    }
}
