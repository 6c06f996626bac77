//! Retries: whether a failed attempt is made again, and when; and budgets that bound how many.

use super::view::Outcome;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Answer of a retry policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Try again after this delay (zero: at once).
    After(Duration),
    /// Report the last outcome to the caller.
    GiveUp,
}

/// Decides what follows a failed attempt of one call. Stateless between calls; state over calls is a [`Budget`].
pub trait RetryPolicy {
    /// Attempt number `attempt` (0 for the first) ended with `outcome`, which is not a success. `previous` is the delay
    /// before that attempt (zero for the first), for policies whose next delay grows from it.
    fn on_failure(&self, now: Time, attempt: u32, previous: Duration, outcome: &Outcome, rng: &mut Rng) -> Retry;
}

/// Bounds retries over all calls of one client on one edge.
pub trait Budget {
    /// A first attempt is made.
    fn deposit(&mut self, now: Time);

    /// May one retry be made?
    fn withdraw(&mut self, now: Time) -> bool;
}

/// Placeholder until the registry stands.
#[derive(Clone, Debug, PartialEq)]
pub enum RetrySettings {}

/// Placeholder until the registry stands.
#[derive(Clone, Debug, PartialEq)]
pub enum BudgetSettings {}
