//! Guava's `RateLimiter`: the caller pays for the request before it, and idle time is saved up for a burst.
//!
//! ## What it does
//! Permits come at `permits-per-second`; unused ones are stored, at most those of `max-burst`. A request is granted as soon as the
//! debt of the one before it is paid, however much it asks for, and moves the next instant on by the permits that were not in
//! store. It waits for that at most `timeout`.
//!
//! ## When it helps
//! In a client, to hold jobs to a rate: cheap, fair in order, and a large request never starves.
//!
//! ## How it fails
//! A large request passes at once and all after it pay for it. The store starts empty, so after a start there is no burst.
//! Those who wait hold their thread.
//!
//! ## Settings
//! * `permits-per-second` (required), as in `"5/s"`.
//! * `max-burst` (default `1s`): of how much idle time the permits are kept.
//! * `timeout` (default `0s`): how long a request may wait, as in `tryAcquire`.
//!
//! ## Origin
//! Guava 31.1, `SmoothRateLimiter.java` (`SmoothBursty`, `reserveEarliestAvailable`, `resync`), `RateLimiter.java`
//! (`tryAcquire`); times are whole microseconds, cut off.
//!
//! ## Deliberate differences
//! The rate cannot be changed while running.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Limiter, admitted, bounds};
use crate::policies::Algorithm;
use crate::policies::view::Admit;
use crate::random::Rng;
use crate::time::{Duration, Time};
use crate::units::Rate;

/// Settings of `limiter.smooth-bursty`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SmoothBurstySettings {
    /// Permits gained.
    #[serde(deserialize_with = "bounds::positive")]
    pub permits_per_second: Rate,
    /// Of how much idle time the permits are kept.
    #[serde(default = "second")]
    pub max_burst: Duration,
    /// How long a request may wait.
    #[serde(default)]
    pub timeout: Duration,
}

const fn second() -> Duration {
    Duration::from_secs(1)
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct SmoothBursty {
    pub(super) store: Store,
    /// Microseconds per permit.
    pub(super) interval: f64,
    /// Microseconds.
    timeout: u64,
}

/// Stored permits and the instant from which the next request is granted.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pub(super) start: Time,
    pub(super) permits: f64,
    pub(super) max: f64,
    /// Microseconds of idle time per stored permit.
    pub(super) cool_down: f64,
    /// Microseconds since `start`.
    next_free: u64,
}

impl Store {
    pub(super) const fn new(start: Time, permits: f64, max: f64, cool_down: f64) -> Self {
        Self { start, permits, max, cool_down, next_free: 0 }
    }

    /// Stored permits at `now` (in microseconds).
    #[inline]
    fn permits_at(&self, now: u64) -> f64 {
        if now <= self.next_free {
            return self.permits;
        }
        (self.permits + (now - self.next_free) as f64 / self.cool_down).min(self.max)
    }

    /// Answers a request for `cost`; `price` is the time that stored permits cost, given the store and the share taken.
    #[inline]
    pub(super) fn acquire(
        &mut self,
        now: Time,
        cost: u32,
        patience: u64,
        interval: f64,
        price: impl Fn(f64, f64) -> u64,
    ) -> Admit {
        let micros = (now - self.start).0 / 1000;
        if self.next_free.saturating_sub(patience) > micros {
            let until = (self.next_free - patience).checked_mul(1000);
            return Admit::Reject {
                until: until.and_then(|until| self.start.0.checked_add(until)).map(Time),
            };
        }
        self.permits = self.permits_at(micros);
        let free = self.next_free.max(micros);
        let stored = self.permits.min(f64::from(cost));
        let fresh = ((f64::from(cost) - stored) * interval) as u64;
        self.next_free = free.saturating_add(price(self.permits, stored).saturating_add(fresh));
        self.permits -= stored;
        admitted(now, Duration((free - micros).saturating_mul(1000)))
    }

    pub(super) fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("tokens", self.permits_at((now - self.start).0 / 1000));
        show("capacity", self.max);
    }
}

impl Algorithm for SmoothBursty {
    type Settings = SmoothBurstySettings;

    fn new(settings: &SmoothBurstySettings, now: Time) -> Self {
        let rate = settings.permits_per_second.0;
        let interval = 1e6 / rate;
        let max = settings.max_burst.as_secs_f64() * rate;
        Self { store: Store::new(now, 0.0, max, interval), interval, timeout: settings.timeout.0 / 1000 }
    }
}

impl SmoothBursty {
    /// Permits in store, as of the last grant.
    pub(crate) const fn stored(&self) -> f64 {
        self.store.permits
    }
}

impl Limiter for SmoothBursty {
    #[inline]
    fn try_acquire(&mut self, now: Time, cost: u32, max_wait: Duration, _rng: &mut Rng) -> Admit {
        let patience = self.timeout.min(max_wait.0 / 1000);
        self.store.acquire(now, cost, patience, self.interval, |_, _| 0)
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        self.store.gauges(now, show);
    }
}
