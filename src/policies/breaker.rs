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
