//! Sentinel's throttling: a leaky bucket that lets requests through at even distances and keeps the others waiting.
//!
//! ## What it does
//! Each request has a cost in time (`stat-duration` divided by `count`, times its cost). It passes at once if so much time has gone
//! since the last one; otherwise it waits for its turn behind those that wait already, if that takes at most
//! `max-queueing-time`.
//!
//! ## When it helps
//! To turn bursts into an even stream: consumers of message queues, batch jobs that start on the minute.
//!
//! ## How it fails
//! Quiet times earn nothing: it never lets two pass together, so the fine structure of ordinary traffic is refused or delayed
//! even far below the rate. Those who wait hold a place at the caller.
//!
//! ## Settings
//! * `count` (required): requests per `stat-duration`.
//! * `stat-duration` (default `1s`), in whole milliseconds.
//! * `max-queueing-time` (default `500ms`), in whole milliseconds.
//!
//! ## Origin
//! alibaba/Sentinel 1.8.9, `flow/controller/ThrottlingController.java` (`checkPassUsingNanoSeconds`,
//! `checkPassUsingCachedMs`): in nanoseconds if `stat-duration` is no multiple of the rounded `count` or more than one
//! per millisecond is allowed, else in milliseconds.
//!
//! ## Deliberate differences
//! Upstream remembers -1 as the time of the last request, long ago on its clocks; here the first request passes at once.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Limiter, admitted, bounds};
use crate::policies::Algorithm;
use crate::policies::view::Admit;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `limiter.sentinel-throttling`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SentinelThrottlingSettings {
    /// Requests per `stat-duration`.
    #[serde(deserialize_with = "bounds::positive")]
    pub count: f64,
    /// Span that `count` is for.
    #[serde(default = "second", deserialize_with = "bounds::some_millis")]
    pub stat_duration: Duration,
    /// How long a request may wait.
    #[serde(default = "half_a_second", deserialize_with = "bounds::millis")]
    pub max_queueing_time: Duration,
}

const fn second() -> Duration {
    Duration::from_secs(1)
}

const fn half_a_second() -> Duration {
    Duration::from_millis(500)
}

/// Nanoseconds in a millisecond.
const MS: u64 = 1_000_000;

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct SentinelThrottling {
    /// Ticks per statistical span and request, as a real number.
    cost: f64,
    /// Nanoseconds per tick: 1 or a million.
    tick: u64,
    max_queueing: Duration,
    /// When the last request passed or will pass, in ticks.
    latest: Option<u64>,
    /// Requests per span, which divide `cost`.
    count: f64,
}

impl Algorithm for SentinelThrottling {
    type Settings = SentinelThrottlingSettings;

    fn new(settings: &SentinelThrottlingSettings, _now: Time) -> Self {
        let (count, span) = (settings.count, settings.stat_duration.as_millis());
        let rounded = count.round() as u64;
        // Upstream divides by the rounded count; without one there is nothing to gain from nanoseconds.
        let fine = rounded != 0 && !span.is_multiple_of(rounded) || count / span as f64 > 1.0;
        let tick = if fine { 1 } else { MS };
        let cost = (settings.stat_duration.0 / tick) as f64;
        Self { cost, tick, max_queueing: settings.max_queueing_time, latest: None, count }
    }
}

impl Limiter for SentinelThrottling {
    #[inline]
    fn try_acquire(&mut self, now: Time, cost: u32, max_wait: Duration, _rng: &mut Rng) -> Admit {
        let at = now.0 / self.tick;
        let cost = (self.cost * f64::from(cost) / self.count).round() as u64;
        let due = self.latest.map_or(0, |latest| latest.saturating_add(cost));
        if due <= at {
            self.latest = Some(at);
            return admitted(now, Duration::ZERO);
        }
        let (wait, patience) = (due - at, self.max_queueing.min(max_wait).0 / self.tick);
        if wait <= patience {
            self.latest = Some(due);
            return admitted(now, Duration(wait.saturating_mul(self.tick)));
        }
        Admit::Reject { until: (due - patience).checked_mul(self.tick).map(Time) }
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        let ahead = self.latest.map_or(0, |latest| latest.saturating_sub(now.0 / self.tick));
        show("queueing_ms", ahead as f64 * self.tick as f64 / 1e6);
    }
}
