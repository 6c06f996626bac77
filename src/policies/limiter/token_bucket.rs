//! Token bucket of Go's `x/time/rate`: fractions of tokens, reservations that run into debt.
//!
//! ## What it does
//! The bucket starts full with `burst` tokens and gains `rate`, as a real number. A request takes its cost at once if the
//! tokens are there. Otherwise it may borrow: the balance goes below zero and the request starts when the debt is paid, if
//! that is at most `max-wait` away. A refusal takes nothing and moves no clock.
//!
//! ## When it helps
//! To hold a client to a rate while allowing bursts of up to `burst`; with `max-wait` it smooths short bursts instead of
//! refusing them.
//!
//! ## How it fails
//! The rate is a guess about capacity: a service that slows down gets the old rate. Every client has a bucket of its own, so
//! the total grows with their number. Those who wait hold a place at the caller.
//!
//! ## Settings
//! * `rate` (required): tokens gained, as in `"50/s"`.
//! * `burst` (required): tokens in a full bucket. A request that costs more is never admitted.
//! * `max-wait` (default `0s`, as `Allow`): how long a request may wait for its tokens, as `Wait` with a deadline.
//!
//! ## Origin
//! golang.org/x/time 0.3.0, `rate/rate.go` (`Limiter.reserveN`, `advance`, `durationFromTokens`), in the same floating-point
//! steps: a debt worth less than one nanosecond counts as none.
//!
//! ## Deliberate differences
//! Reservations cannot be cancelled, and the rate cannot be changed while running. `Inf` is no rate here: leave the limiter out.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Limiter, admitted, bounds, first_instant};
use crate::policies::Algorithm;
use crate::policies::view::Admit;
use crate::random::Rng;
use crate::time::{Duration, Time};
use crate::units::Rate;

/// Settings of `limiter.token-bucket`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TokenBucketSettings {
    /// Tokens gained.
    #[serde(deserialize_with = "bounds::positive")]
    pub rate: Rate,
    /// Tokens in a full bucket.
    pub burst: NonZeroU32,
    /// How long a request may wait for its tokens.
    #[serde(default)]
    pub max_wait: Duration,
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate: f64,
    burst: u32,
    max_wait: Duration,
    /// Balance at `last`; below zero while reservations wait.
    tokens: f64,
    last: Time,
}

impl Algorithm for TokenBucket {
    type Settings = TokenBucketSettings;

    fn new(settings: &TokenBucketSettings, now: Time) -> Self {
        let burst = settings.burst.get();
        Self {
            rate: settings.rate.0,
            burst,
            max_wait: settings.max_wait,
            tokens: f64::from(burst),
            last: now,
        }
    }
}

impl TokenBucket {
    #[inline]
    fn balance(&self, now: Time) -> f64 {
        let elapsed = (now - self.last).0;
        let seconds = (elapsed / 1_000_000_000) as f64 + (elapsed % 1_000_000_000) as f64 / 1e9;
        (self.tokens + seconds * self.rate).min(f64::from(self.burst))
    }

    /// Time until `tokens` below zero are paid.
    #[inline]
    fn wait(&self, tokens: f64) -> Duration {
        if tokens < 0.0 { Duration((1e9 * (-tokens / self.rate)) as u64) } else { Duration::ZERO }
    }
}

impl Limiter for TokenBucket {
    #[inline]
    fn try_acquire(&mut self, now: Time, cost: u32, max_wait: Duration, _rng: &mut Rng) -> Admit {
        if cost > self.burst {
            return Admit::Reject { until: None };
        }
        let patience = self.max_wait.min(max_wait);
        let tokens = self.balance(now) - f64::from(cost);
        let wait = self.wait(tokens);
        if wait <= patience {
            self.last = now;
            self.tokens = tokens;
            return admitted(now, wait);
        }
        let guess = Time(now.0.saturating_add(wait.0 - patience.0));
        let passes = |at| self.wait(self.balance(at) - f64::from(cost)) <= patience;
        Admit::Reject { until: first_instant(now, guess, passes) }
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        let balance = self.balance(now);
        show("tokens", balance.max(0.0));
        show("debt", (-balance).max(0.0));
        show("capacity", f64::from(self.burst));
    }
}
