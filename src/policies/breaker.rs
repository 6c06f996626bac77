//! Circuit breakers: stop calling a dependency that fails.

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

    /// The attempt admitted with `permit` ended.
    fn on_outcome(&mut self, now: Time, permit: Permit, outcome: &Outcome);

    /// The state as it would be reported at `now`; looking does not move it.
    fn state(&self, now: Time) -> BreakerState;
}

/// Placeholder until the registry stands.
#[derive(Clone, Debug, PartialEq)]
pub enum BreakerSettings {}
