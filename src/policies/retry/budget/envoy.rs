//! Envoy's retry budget: bounds the retries that are under way at one moment.
//!
//! ## What it does
//! A retry counts from the moment it is decided (its back-off included) until it ends. It is allowed while fewer are counted than the
//! whole part of `budget-percent` of the active requests, or than `min-retry-concurrency` if that is more.
//!
//! ## When it helps
//! It needs no window and no memory: as long as answers come back fast there are few active requests and few retries; when they become
//! slow, retries stay a fixed share of what is in flight.
//!
//! ## How it fails
//! In an overload active requests pile up, and so does the budget: a fifth of a hundred times as many requests in flight is a lot of
//! retries. Errors that come back at once leave hardly any active requests, so their retries are bounded by
//! `min-retry-concurrency` at one moment, which with short back-offs is many per second.
//!
//! ## Settings
//! * `budget-percent` (default `20%`, at most 100 %).
//! * `min-retry-concurrency` (default 3).
//!
//! ## Origin
//! Envoy, `source/common/upstream/resource_manager_impl.h` (`RetryBudgetImpl::max`, `canCreate`) and
//! `source/common/router/retry_state_impl.cc` (`RetryStateImpl::shouldRetry` releases the retry that has just failed, asks, and counts the
//! next one before its back-off). That the request that has just failed still counts as active then is from memory of how streams end.
//!
//! ## Deliberate differences
//! * Active are the attempts in flight of this client on this edge; upstream counts per cluster and priority, over all worker threads.
//! * Requests that wait for a connection (upstream's pending ones) count as active once they are sent.
//! * Upstream's budget over an interval (`budget_interval`) is not modelled.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Budget, Ended};
use crate::policies::Algorithm;
use crate::policies::view::Class;
use crate::time::Time;
use crate::units::Share;

/// Settings of `retry-budget.envoy`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct EnvoySettings {
    /// Retries at one moment, as a share of the active requests.
    pub budget_percent: Share,
    /// Retries at one moment that are always allowed.
    pub min_retry_concurrency: u32,
}

impl Default for EnvoySettings {
    fn default() -> Self {
        Self { budget_percent: Share(0.2), min_retry_concurrency: 3 }
    }
}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Envoy {
    budget_percent: f64,
    min_retry_concurrency: u32,
    /// Attempts in flight.
    active: u32,
    /// Retries decided and not over.
    retries: u32,
}

impl Algorithm for Envoy {
    type Settings = EnvoySettings;

    fn new(settings: &EnvoySettings, _now: Time) -> Self {
        Self {
            budget_percent: settings.budget_percent.0 * 100.0,
            min_retry_concurrency: settings.min_retry_concurrency,
            active: 0,
            retries: 0,
        }
    }
}

impl Envoy {
    /// Most retries at one moment while `current_active` requests are active.
    #[inline]
    fn max(&self, current_active: u32) -> u32 {
        ((self.budget_percent / 100.0 * f64::from(current_active)) as u32).max(self.min_retry_concurrency)
    }
}

impl Budget for Envoy {
    #[inline]
    fn deposit(&mut self, _now: Time) {}

    #[inline]
    fn withdraw(&mut self, _now: Time, after: Option<Class>) -> Option<u32> {
        // The request that has just failed is still there when the router decides.
        let current_active = self.active + u32::from(after.is_some());
        (self.retries < self.max(current_active)).then(|| {
            self.retries += 1;
            1
        })
    }

    #[inline]
    fn on_sent(&mut self, _now: Time) {
        self.active += 1;
    }

    #[inline]
    fn on_ended(&mut self, _now: Time, ended: &Ended) {
        self.active -= u32::from(ended.sent);
        self.retries -= u32::from(ended.withdrawn.is_some());
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("active", f64::from(self.active));
        show("retries", f64::from(self.retries));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_at_one_moment_are_a_share_of_what_is_active() {
        let mut budget = Envoy::new(&EnvoySettings::default(), Time::ZERO);
        let allowed = |budget: &mut Envoy| {
            (0..99).take_while(|_| budget.withdraw(Time::ZERO, Some(Class::Failure)).is_some()).count()
        };
        assert_eq!(allowed(&mut budget), 3, "the minimum");
        // One of them ends; 38 active ones and the failed one allow 7.8.
        (0..39).for_each(|_| budget.on_sent(Time::ZERO));
        let ended = Ended { class: Class::Failure, sent: true, withdrawn: Some(1), retryable: true };
        budget.on_ended(Time::ZERO, &ended);
        assert_eq!(allowed(&mut budget), 7 - 2);
        assert_eq!(budget.active, 38);
    }
}
