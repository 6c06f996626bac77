//! Client-side throttling of Google's SRE book: a client refuses itself a share of its requests as the backend refuses them.
//!
//! ## What it does
//! The client counts its requests and those the backend accepted over the last `window`. It refuses a new one with probability
//! max(0, (requests - `k` · accepts) / (requests + 1)), by a draw. Requests it refused itself count as requests, so it goes on
//! throttling harder until what it sends is about `k` times what is accepted.
//!
//! ## When it helps
//! When even saying no costs the backend much: in an overload most refusals happen at the clients, with no coordination.
//!
//! ## How it fails
//! It needs traffic to learn: a client of few requests never throttles. After the backend has recovered it keeps refusing until
//! the bad minutes leave the window. With `k` near 1 it refuses good requests as soon as a few fail.
//!
//! ## Settings
//! * `k` (default 2, at least 1): requests sent per accepted one.
//! * `window` (default `2min`): how long a request counts.
//! * `resolution` (default `1s`): requests are forgotten in portions of this length; at most 3600 of them.
//!
//! ## Origin
//! *Site Reliability Engineering* (Google, 2016), chapter 21, *Client-Side Throttling*; pinned by
//! `tests/vectors/limiter/sre_adaptive_throttle.json`, made from the formula.
//!
//! ## Deliberate differences
//! The book does not say what an accept is: here every answer but a refusal and a timeout; a request that its own side gave up
//! counts as accepted too. It counts when the answer comes. A refusal promises no instant.

use schemars::JsonSchema;
use serde::Deserialize;

use super::history::History;
use super::{Limiter, admitted_with, bounds};
use crate::policies::Algorithm;
use crate::policies::view::{Admit, Class, Outcome, Permit};
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `limiter.sre-adaptive-throttle`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SreAdaptiveThrottleSettings {
    /// Requests sent per accepted one.
    #[serde(deserialize_with = "bounds::factor")]
    pub k: f64,
    /// How long a request counts.
    #[serde(deserialize_with = "bounds::positive")]
    pub window: Duration,
    /// Requests are forgotten in portions of this length.
    #[serde(deserialize_with = "bounds::positive")]
    pub resolution: Duration,
}

checked!(SreAdaptiveThrottleSettings);

impl Default for SreAdaptiveThrottleSettings {
    fn default() -> Self {
        Self { k: 2.0, window: Duration::from_secs(120), resolution: Duration::from_secs(1) }
    }
}

impl SreAdaptiveThrottleSettings {
    fn check(&self) -> Result<(), String> {
        let Self { window, resolution, .. } = self;
        if resolution > window {
            return Err(format!("resolution = {resolution} is longer than window = {window}"));
        }
        if window.0 / resolution.0 > 3600 {
            return Err(format!("window = {window} has more than 3600 portions of {resolution}"));
        }
        Ok(())
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct SreAdaptiveThrottle {
    k: f64,
    history: Box<History>,
}

impl Algorithm for SreAdaptiveThrottle {
    type Settings = SreAdaptiveThrottleSettings;

    fn new(settings: &SreAdaptiveThrottleSettings, _now: Time) -> Self {
        let history = Box::new(History::new(settings.window, settings.resolution));
        Self { k: settings.k, history }
    }
}

impl SreAdaptiveThrottle {
    #[inline]
    fn probability(&self, (requests, accepts): (u64, u64)) -> f64 {
        let requests = requests as f64;
        ((requests - self.k * accepts as f64) / (requests + 1.0)).max(0.0)
    }
}

impl Limiter for SreAdaptiveThrottle {
    fn try_acquire(&mut self, now: Time, cost: u32, _max_wait: Duration, rng: &mut Rng) -> Admit {
        self.history.turn(now);
        let probability = self.probability(self.history.totals());
        self.history.record(now, cost.into(), 0);
        if probability > 0.0 && rng.unit() < probability {
            return Admit::Reject { until: None };
        }
        admitted_with(now, cost)
    }

    fn on_outcome(&mut self, now: Time, permit: Permit, outcome: &Outcome, _rng: &mut Rng) {
        let refused = matches!(outcome.class, Class::Rejected | Class::Timeout) && !outcome.ignored;
        if !refused {
            self.history.record(now, 0, permit.slot.into());
        }
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("reject_probability", self.probability(self.history.totals_at(now)));
    }
}
