//! resilience4j's rate limiter: so many permissions per cycle, and reservations of those of coming cycles.
//!
//! ## What it does
//! Time is cut into cycles of `limit-refresh-period`, counted from the creation. At each change of cycle the permissions rise by
//! `limit-for-period` per cycle passed, at most to that number. A request that finds too few waits for the cycle in which there
//! will be enough, if that is within `timeout-duration`, and takes them in advance: the permissions go below zero.
//!
//! ## When it helps
//! To spread the calls of a client over time while they still are useful after a short wait.
//!
//! ## How it fails
//! Around the border of two cycles twice the limit passes. With the default timeout of five seconds an overloaded caller queues
//! five seconds of work, and each of those calls holds a thread.
//!
//! ## Settings
//! * `limit-for-period` (default 50): permissions per cycle.
//! * `limit-refresh-period` (default `500ns`, upstream's): length of a cycle.
//! * `timeout-duration` (default `5s`): how long a call may wait.
//!
//! ## Origin
//! resilience4j v2.4.0, `resilience4j-ratelimiter`, `internal/AtomicRateLimiter.java` (`calculateNextState`,
//! `nanosToWaitForPermission`, `reservePermissions`); defaults of `RateLimiterConfig`.
//!
//! ## Deliberate differences
//! Limits cannot be changed while running; `drainPermissionsOnResult` is not modelled.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Limiter, admitted, bounds};
use crate::policies::Algorithm;
use crate::policies::view::Admit;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `limiter.resilience4j-rate-limiter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Resilience4jRateLimiterSettings {
    /// Permissions per cycle.
    pub limit_for_period: NonZeroU32,
    /// Length of a cycle.
    #[serde(deserialize_with = "bounds::positive")]
    pub limit_refresh_period: Duration,
    /// How long a call may wait.
    pub timeout_duration: Duration,
}

impl Default for Resilience4jRateLimiterSettings {
    fn default() -> Self {
        Self {
            limit_for_period: NonZeroU32::MIN.saturating_add(49),
            limit_refresh_period: Duration(500),
            timeout_duration: Duration::from_secs(5),
        }
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Resilience4jRateLimiter {
    per_cycle: u32,
    period: u64,
    timeout: Duration,
    start: Time,
    /// Cycle that `available` belongs to.
    cycle: u64,
    /// Permissions left; below zero while calls wait.
    available: i64,
}

impl Algorithm for Resilience4jRateLimiter {
    type Settings = Resilience4jRateLimiterSettings;

    fn new(settings: &Resilience4jRateLimiterSettings, now: Time) -> Self {
        let per_cycle = settings.limit_for_period.get();
        Self {
            per_cycle,
            period: settings.limit_refresh_period.0,
            timeout: settings.timeout_duration,
            start: now,
            cycle: 0,
            available: per_cycle.into(),
        }
    }
}

impl Resilience4jRateLimiter {
    /// Permissions as of `cycle`.
    #[inline]
    fn available(&self, cycle: u64) -> i64 {
        let per_cycle = i64::from(self.per_cycle);
        let passed = i64::try_from(cycle - self.cycle).unwrap_or(i64::MAX);
        self.available.saturating_add(passed.saturating_mul(per_cycle)).min(per_cycle)
    }

    /// Whole cycles to wait after the end of the present one, for a request that finds too few `available`.
    #[inline]
    fn full_cycles(&self, cost: u32, available: i64) -> u64 {
        let per_cycle = i64::from(self.per_cycle);
        let missing = i64::from(cost) - available - per_cycle;
        ((missing + per_cycle - 1) / per_cycle) as u64
    }

    /// The first instant after the refused moment `since` (in cycle `cycle`) at which the wait is at most `patience`.
    #[cold]
    fn passes_at(&self, cost: u32, cycle: u64, wait: u64, since: u64, patience: u64) -> Option<u64> {
        let per_cycle = i64::from(self.per_cycle);
        // As long as no permission is cut off at the limit, the goal stands still.
        let until = since.checked_add(wait - patience)?;
        let uncut = cycle.checked_add((per_cycle - self.available).div_euclid(per_cycle) as u64)?;
        if until / self.period <= uncut || i64::from(cost) <= per_cycle {
            return Some(until);
        }
        // From then on it moves along: the wait is a saw tooth with the period of a cycle.
        let waiting = self.full_cycles(cost, per_cycle).checked_mul(self.period)?;
        if waiting >= patience {
            return None;
        }
        let full = uncut + u64::from((per_cycle - self.available) % per_cycle != 0);
        let start = full.checked_mul(self.period)?;
        Some(start.max(start.checked_add(self.period + waiting)?.saturating_sub(patience)))
    }
}

impl Limiter for Resilience4jRateLimiter {
    #[inline]
    fn try_acquire(&mut self, now: Time, cost: u32, max_wait: Duration, _rng: &mut Rng) -> Admit {
        let since = (now - self.start).0;
        let cycle = since / self.period;
        if cycle != self.cycle {
            self.available = self.available(cycle);
            self.cycle = cycle;
        }
        let wait = if self.available >= i64::from(cost) {
            0
        } else {
            let cycles = self.full_cycles(cost, self.available);
            cycles.saturating_mul(self.period).saturating_add(self.period - since % self.period)
        };
        let patience = self.timeout.min(max_wait).0;
        if wait <= patience {
            self.available -= i64::from(cost);
            return admitted(now, Duration(wait));
        }
        let until = self.passes_at(cost, cycle, wait, since, patience);
        Admit::Reject { until: until.and_then(|until| self.start.0.checked_add(until)).map(Time) }
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("available_permissions", self.available((now - self.start).0 / self.period) as f64);
    }
}
