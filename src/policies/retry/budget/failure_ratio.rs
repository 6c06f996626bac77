//! Retries only while failures are a small share of all calls so far.
//!
//! ## What it does
//! It counts calls and failed attempts over the whole life of the client, retries included, and allows a retry while failures are at
//! most `max-ratio` of the calls.
//!
//! ## When it helps
//! It is the "circuit breaker" of the comparison that its Origin names: for a stateless service with many clients it stops retries
//! early, as there is no full bucket to use up first.
//!
//! ## How it fails
//! Near the ratio it switches on and off by chance. It has no window, so after a long good time it takes a long outage to notice, and
//! after a bad start it takes long to forgive. Failures of retries count against first attempts.
//!
//! ## Settings
//! * `max-ratio` (default `10%`).
//!
//! ## Origin
//! Marc Brooker, `mbrooker/simulator_example` at bbfe394, `retry_sim/retry_strategy.py`, `CircuitBreakerRetryStrategy`.
//!
//! ## Deliberate differences
//! None.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Budget, Ended};
use crate::policies::Algorithm;
use crate::policies::view::Class;
use crate::time::Time;
use crate::units::Share;

/// Settings of `retry-budget.failure-ratio`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct FailureRatioSettings {
    /// Failed attempts per call up to which retries are made.
    pub max_ratio: Share,
}

impl Default for FailureRatioSettings {
    fn default() -> Self {
        Self { max_ratio: Share(0.1) }
    }
}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct FailureRatio {
    max_rate: f64,
    calls: f64,
    failures: f64,
}

impl Algorithm for FailureRatio {
    type Settings = FailureRatioSettings;

    fn new(settings: &FailureRatioSettings, _now: Time) -> Self {
        Self { max_rate: settings.max_ratio.0, calls: 0.0, failures: 0.0 }
    }
}

impl Budget for FailureRatio {
    #[inline]
    fn deposit(&mut self, _now: Time) {
        self.calls += 1.0;
    }

    #[inline]
    fn withdraw(&mut self, _now: Time, _after: Option<Class>) -> Option<u32> {
        (self.failures <= self.max_rate * self.calls).then_some(0)
    }

    #[inline]
    fn on_ended(&mut self, _now: Time, ended: &Ended) {
        let failed = !matches!(ended.class, Class::Success | Class::Abandoned);
        self.failures += f64::from(u8::from(failed));
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("failure_ratio", self.failures / self.calls.max(1.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenth_part_is_the_limit() {
        let mut budget = FailureRatio::new(&FailureRatioSettings::default(), Time::ZERO);
        let failure = Ended { class: Class::Failure, sent: true, withdrawn: None, retryable: true };
        (0..20).for_each(|_| budget.deposit(Time::ZERO));
        (0..2).for_each(|_| budget.on_ended(Time::ZERO, &failure));
        assert!(budget.withdraw(Time::ZERO, None).is_some());
        budget.on_ended(Time::ZERO, &failure);
        assert!(budget.withdraw(Time::ZERO, None).is_none());
    }
}
