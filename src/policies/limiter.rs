//! Limiters: refuse or delay work so that what is admitted can be served.

use super::view::{Admit, Outcome, Permit};
use crate::time::{Duration, Time};

/// Admits work by rate or by concurrency, at the caller or at the callee.
pub trait Limiter {
    /// May work of `cost` units start now, or within `max_wait`?
    fn try_acquire(&mut self, now: Time, cost: u32, max_wait: Duration) -> Admit;

    /// The work admitted with `permit` ended.
    fn on_outcome(&mut self, _now: Time, _permit: Permit, _outcome: &Outcome) {}

    /// What charts show: named readings at `now` (tokens left, in flight, limit).
    fn gauges(&self, _now: Time, _show: &mut dyn FnMut(&'static str, f64)) {}
}

/// Placeholder until the registry stands.
#[derive(Clone, Debug, PartialEq)]
pub enum LimiterSettings {}
