//! The retry quota of the AWS SDKs: a fixed stock of capacity, which failures use up and successes give back.
//!
//! ## What it does
//! A retry takes `retry-cost`, one after a timeout `timeout-cost`, if there is as much. A success gives back what was taken for the
//! attempt that succeeded, or `no-retry-increment` if it was the first one; never above `initial-capacity`.
//!
//! ## When it helps
//! With the defaults a hundred failures in a row (fifty timeouts) are retried, then retries stop until first attempts succeed again:
//! five successes for one retry. As retries that help cost nothing in the end, a service that is merely unreliable keeps all of them.
//!
//! ## How it fails
//! The stock is per client: thousands of clients bring thousands of stocks. A client of few calls takes long to refill it.
//!
//! ## Settings
//! * `initial-capacity` (default 500).
//! * `retry-cost` (default 5), `timeout-cost` (default 10), `no-retry-increment` (default 1).
//!
//! ## Origin
//! botocore, `botocore/retries/quota.py` (`RetryQuota`) and `botocore/retries/standard.py` (`RetryQuotaChecker`), the *standard* retry mode.
//!
//! ## Deliberate differences
//! The numbers can be set; upstream has them as constants.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Budget, Ended};
use crate::policies::Algorithm;
use crate::policies::view::Class;
use crate::time::Time;

/// Settings of `retry-budget.aws-sdk`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AwsSdkSettings {
    /// Capacity at the start, and at most.
    pub initial_capacity: u32,
    /// What a retry takes.
    pub retry_cost: u32,
    /// What a retry after a timeout takes.
    pub timeout_cost: u32,
    /// What a first attempt that succeeds gives back.
    pub no_retry_increment: u32,
}

impl Default for AwsSdkSettings {
    fn default() -> Self {
        Self { initial_capacity: 500, retry_cost: 5, timeout_cost: 10, no_retry_increment: 1 }
    }
}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct AwsSdk {
    settings: AwsSdkSettings,
    available_capacity: u32,
}

impl Algorithm for AwsSdk {
    type Settings = AwsSdkSettings;

    fn new(settings: &AwsSdkSettings, _now: Time) -> Self {
        Self { settings: *settings, available_capacity: settings.initial_capacity }
    }
}

impl Budget for AwsSdk {
    #[inline]
    fn deposit(&mut self, _now: Time) {}

    #[inline]
    fn withdraw(&mut self, _now: Time, after: Option<Class>) -> Option<u32> {
        let capacity_amount = match after {
            Some(Class::Timeout) => self.settings.timeout_cost,
            _ => self.settings.retry_cost,
        };
        (capacity_amount <= self.available_capacity).then(|| {
            self.available_capacity -= capacity_amount;
            capacity_amount
        })
    }

    #[inline]
    fn on_ended(&mut self, _now: Time, ended: &Ended) {
        if ended.class == Class::Success {
            let capacity_amount = ended.withdrawn.unwrap_or(self.settings.no_retry_increment);
            let raised = self.available_capacity.saturating_add(capacity_amount);
            self.available_capacity = raised.min(self.settings.initial_capacity);
        }
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("available_capacity", f64::from(self.available_capacity));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_that_helps_costs_nothing() {
        let mut budget = AwsSdk::new(&AwsSdkSettings::default(), Time::ZERO);
        let success = |withdrawn| Ended { class: Class::Success, sent: true, withdrawn, retryable: false };
        let cost = budget.withdraw(Time::ZERO, Some(Class::Timeout));
        assert_eq!((cost, budget.available_capacity), (Some(10), 490));
        budget.on_ended(Time::ZERO, &success(cost));
        assert_eq!(budget.available_capacity, 500);
        let allowed = (0..200).take_while(|_| budget.withdraw(Time::ZERO, Some(Class::Failure)).is_some());
        assert_eq!(allowed.count(), 100);
        (0..4).for_each(|_| budget.on_ended(Time::ZERO, &success(None)));
        assert_eq!(budget.withdraw(Time::ZERO, Some(Class::Failure)), None);
        budget.on_ended(Time::ZERO, &success(None));
        assert_eq!(budget.withdraw(Time::ZERO, Some(Class::Failure)), Some(5));
    }
}
