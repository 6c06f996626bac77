//! Counts requests in windows that start with the first request and refuses what goes over the limit.
//!
//! ## What it does
//! The first request opens a window; until the window ends every request adds its cost to the count and passes if the count
//! stays within `limit`. A refused request has been counted too. The next request after the end opens a new window.
//!
//! ## When it helps
//! Quotas ("1000 per hour") that people can check by counting; one number per key.
//!
//! ## How it fails
//! Around the border of two windows twice the limit passes in a moment. A client that keeps asking stays shut out until
//! the window ends, and all who wait for that end come back in the same instant.
//!
//! ## Settings
//! * `limit` (required): cost admitted per window. A request that costs more is never admitted, and uses the window up.
//! * `window` (required): length of a window.
//!
//! ## Origin
//! The Python package limits 5.8.0, `FixedWindowRateLimiter` over `MemoryStorage` (`strategies.py`, `storage/memory.py`).
//!
//! ## Deliberate differences
//! Times are exact nanoseconds, not floating-point seconds.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Limiter, admitted, bounds};
use crate::policies::Algorithm;
use crate::policies::view::Admit;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `limiter.fixed-window` and `limiter.sliding-window-counter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WindowSettings {
    /// Cost admitted per window.
    pub limit: NonZeroU32,
    /// Length of a window.
    #[serde(deserialize_with = "bounds::positive")]
    pub window: Duration,
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct FixedWindow {
    limit: u64,
    window: Duration,
    /// Cost asked for in the present window.
    count: u64,
    /// When the present window ends.
    end: Time,
}

impl Algorithm for FixedWindow {
    type Settings = WindowSettings;

    fn new(settings: &WindowSettings, now: Time) -> Self {
        Self { limit: settings.limit.get().into(), window: settings.window, count: 0, end: now }
    }
}

impl Limiter for FixedWindow {
    #[inline]
    fn try_acquire(&mut self, now: Time, cost: u32, _max_wait: Duration, _rng: &mut Rng) -> Admit {
        if now >= self.end {
            self.count = 0;
            self.end = Time(now.0.saturating_add(self.window.0));
        }
        self.count += u64::from(cost);
        if self.count <= self.limit {
            admitted(now, Duration::ZERO)
        } else {
            Admit::Reject { until: (u64::from(cost) <= self.limit).then_some(self.end) }
        }
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        let count = if now >= self.end { 0 } else { self.count };
        show("tokens", self.limit.saturating_sub(count) as f64);
        show("capacity", self.limit as f64);
    }
}
