//! Circuit breakers: stop calling a dependency that fails.

pub mod cockatiel;
pub mod failsafe;
pub mod gobreaker;
pub mod hystrix;
pub mod opossum;
pub mod polly;
pub mod recloser;
pub mod resilience4j;
pub mod seed;
pub mod sentinel;

use super::view::{Admit, Outcome, Permit};
use crate::time::Time;

/// What a breaker shows on charts and in `decisions.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open,
    /// A few calls pass as probes.
    HalfOpen,
}

/// Guards one dependency of one client.
pub trait Breaker {
    /// May an attempt be sent now? A breaker answers `Now` or `Reject`, never `At`.
    fn try_acquire(&mut self, now: Time) -> Admit;

    /// The attempt admitted with `permit` ended. An attempt that never left its caller (refused by a limiter behind the
    /// breaker, cancelled) is reported as ignored.
    fn on_outcome(&mut self, now: Time, permit: Permit, outcome: &Outcome);

    /// Runs the policy's own timers that are due by `now`. The two calls above do so first; this is for who only looks.
    fn poll(&mut self, _now: Time) {}

    /// The state as of the last call, or of [`poll`](Self::poll); looking does not move it.
    fn state(&self, now: Time) -> BreakerState;

    /// What charts show: named readings at `now` (errors in the window).
    fn gauges(&self, _now: Time, _show: &mut dyn FnMut(&'static str, f64)) {}
}

registry! {
    ($)
    /// A circuit breaker and its settings, as written in a scenario.
    BreakerSettings,
    /// Any circuit breaker, by value.
    AnyBreaker: Breaker,
    family "breaker" in "breaker",
    "seed" => seed::Seed,
    "resilience4j" => resilience4j::Resilience4j,
    "hystrix" => hystrix::Hystrix,
    "sentinel" => sentinel::Sentinel,
    "gobreaker" => gobreaker::Gobreaker,
    "polly" => polly::Polly,
    "opossum" => opossum::Opossum,
    "cockatiel" => cockatiel::Cockatiel,
    "recloser" => recloser::Recloser,
    "failsafe" => failsafe::Failsafe,
}

// One cache line: every client of every guarded edge holds one.
const _: () = assert!(size_of::<AnyBreaker>() <= 64);

impl Breaker for AnyBreaker {
    #[inline]
    fn try_acquire(&mut self, now: Time) -> Admit {
        dispatch!(self, policy => policy.try_acquire(now))
    }

    #[inline]
    fn on_outcome(&mut self, now: Time, permit: Permit, outcome: &Outcome) {
        dispatch!(self, policy => policy.on_outcome(now, permit, outcome));
    }

    #[inline]
    fn poll(&mut self, now: Time) {
        dispatch!(self, policy => policy.poll(now));
    }

    #[inline]
    fn state(&self, now: Time) -> BreakerState {
        dispatch!(self, policy => policy.state(now))
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        dispatch!(self, policy => policy.gauges(now, show));
    }
}

#[cfg(test)]
mod tests {
    use super::BreakerSettings;

    #[test]
    fn contradictions_are_refused_with_the_rule_of_upstream() {
        for (json, message) in [
            (r#"{"resilience4j": {"failure-rate-threshold": "101%"}}"#, "more than the whole"),
            (r#"{"resilience4j": {"failure-rate-threshold": "0%"}}"#, "greater than 0%"),
            (r#"{"resilience4j": {"permitted-number-of-calls-in-half-open-state": 0}}"#, "nonzero"),
            (r#"{"resilience4j": {"exponential-backoff-multiplier": 0.5}}"#, "between 1 and"),
            (r#"{"hystrix": {"rolling-window": "0s"}}"#, "not a whole multiple"),
            (r#"{"hystrix": {"health-snapshot-interval": "0s"}}"#, "must not be zero"),
            (r#"{"hystrix": {"error-threshold-percentage": "33.3%"}}"#, "whole percentage"),
            (r#"{"sentinel": {"time-window": "1s"}}"#, "needs max-rt"),
            (r#"{"sentinel": {"grade": "error-count", "time-window": "1s"}}"#, "needs count"),
            (r#"{"sentinel": {"max-rt": "1s", "time-window": "0s"}}"#, "at least 1ms"),
            (r#"{"gobreaker": {"failure-ratio": "50%", "consecutive-failures": 3}}"#, "is one rule"),
            (r#"{"gobreaker": {"min-requests": 3}}"#, "belongs to failure-ratio"),
            (r#"{"polly": {"minimum-throughput": 1}}"#, "at least 2"),
            (r#"{"opossum": {"rolling-count-timeout": "0s"}}"#, "at least 1ms per bucket"),
            (r#"{"cockatiel": {"threshold": "100%", "size": 5}}"#, "both excluded"),
            (r#"{"cockatiel": {"threshold": "50%"}}"#, "give one rule"),
            (r#"{"recloser": {"closed-len": 0}}"#, "nonzero"),
            (r#"{"recloser": {"doubling-cap": "1s"}}"#, "less than open-wait"),
            (r#"{"failsafe": {"backoff-max": "1s"}}"#, "less than backoff-start"),
            (r#"{"failsafe": {"window": "1ms"}}"#, "at least 1s"),
        ] {
            let error = serde_json::from_str::<BreakerSettings>(json).unwrap_err().to_string();
            assert!(error.contains(message), "{json}: {error}");
        }
    }
}
