//! Remembers when each admitted request came and counts those of the last window.
//!
//! ## What it does
//! A request of cost n passes if the requests admitted within the `window` before it, weighed by cost, leave room for n below
//! `limit`. Refused requests are not remembered. An entry counts as long as its time plus the window lies in the future.
//!
//! ## When it helps
//! Where the limit must hold over *every* span of the window's length: no double burst at a border.
//!
//! ## How it fails
//! It remembers every admitted unit of cost, so memory grows with the limit. After a burst the next one passes exactly
//! a window later, again and again: it does not smooth.
//!
//! ## Settings
//! * `limit` (required, at most 100000): cost admitted in any span of the window's length.
//! * `window` (required): length of the span.
//!
//! ## Origin
//! The Python package limits 5.8.0, `MovingWindowRateLimiter` over `MemoryStorage` (`acquire_entry`).
//!
//! ## Deliberate differences
//! Times are exact nanoseconds, not floating-point seconds. The limit is bounded because the memory for it is set aside at once.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{Limiter, admitted, bounds};
use crate::policies::Algorithm;
use crate::policies::view::Admit;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Largest limit; each unit takes 8 bytes.
const LIMIT_MAX: u32 = 100_000;

/// Settings of `limiter.sliding-window-log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SlidingWindowLogSettings {
    /// Cost admitted in any span of the window's length.
    #[schemars(range(min = 1, max = 100_000))]
    #[serde(deserialize_with = "limit")]
    pub limit: u32,
    /// Length of the span.
    #[serde(deserialize_with = "bounds::positive")]
    pub window: Duration,
}

fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let limit = u32::deserialize(deserializer)?;
    if (1..=LIMIT_MAX).contains(&limit) {
        Ok(limit)
    } else {
        Err(de::Error::custom(format!(
            "limit is {limit}, but it must be 1 to {LIMIT_MAX}: every admitted unit is remembered"
        )))
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct SlidingWindowLog {
    /// Ring of the times of what was admitted.
    log: Box<[Time]>,
    window: Duration,
    oldest: u32,
    len: u32,
}

impl Algorithm for SlidingWindowLog {
    type Settings = SlidingWindowLogSettings;

    fn new(settings: &SlidingWindowLogSettings, _now: Time) -> Self {
        let log = vec![Time::ZERO; settings.limit as usize].into();
        Self { log, window: settings.window, oldest: 0, len: 0 }
    }
}

impl SlidingWindowLog {
    /// Position in the ring of the `n`-th entry from the oldest.
    #[inline]
    fn at(&self, n: u32) -> usize {
        let index = (self.oldest + n) as usize;
        if index < self.log.len() { index } else { index - self.log.len() }
    }

    /// When the `n`-th entry from the oldest no longer counts.
    #[inline]
    fn expiry(&self, n: u32) -> Time {
        Time(self.log[self.at(n)].0.saturating_add(self.window.0))
    }
}

impl Limiter for SlidingWindowLog {
    #[inline]
    fn try_acquire(&mut self, now: Time, cost: u32, _max_wait: Duration, _rng: &mut Rng) -> Admit {
        while self.len > 0 && self.expiry(0) <= now {
            self.oldest = self.at(1) as u32;
            self.len -= 1;
        }
        let limit = self.log.len() as u32;
        if cost > limit {
            return Admit::Reject { until: None };
        }
        if cost > limit - self.len {
            // So many entries have to go first.
            return Admit::Reject { until: Some(self.expiry(cost - (limit - self.len) - 1)) };
        }
        for _ in 0..cost {
            let end = self.at(self.len);
            self.log[end] = now;
            self.len += 1;
        }
        admitted(now, Duration::ZERO)
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        let counted = (0..self.len).rev().take_while(|&n| self.expiry(n) > now).count();
        show("tokens", (self.log.len() - counted) as f64);
        show("capacity", self.log.len() as f64);
    }
}
