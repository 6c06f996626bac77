//! Limiters: refuse or delay work so that what is admitted can be served.

pub mod bulkhead;
pub mod seed_token_bucket;
pub mod seed_token_bucket_naive;

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

registry! {
    ($)
    /// A limiter and its settings, as written in a scenario.
    LimiterSettings,
    /// Any limiter, by value.
    AnyLimiter: Limiter,
    family "limiter" in "limiter",
    "seed-token-bucket" => seed_token_bucket::SeedTokenBucket,
    "seed-token-bucket-naive" => seed_token_bucket_naive::SeedTokenBucketNaive,
    "bulkhead" => bulkhead::Bulkhead,
}

// One cache line: every client of every limited edge, and every limited instance, holds one.
const _: () = assert!(size_of::<AnyLimiter>() <= 64);

impl Limiter for AnyLimiter {
    #[inline]
    fn try_acquire(&mut self, now: Time, cost: u32, max_wait: Duration) -> Admit {
        dispatch!(self, policy => policy.try_acquire(now, cost, max_wait))
    }

    #[inline]
    fn on_outcome(&mut self, now: Time, permit: Permit, outcome: &Outcome) {
        dispatch!(self, policy => policy.on_outcome(now, permit, outcome));
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        dispatch!(self, policy => policy.gauges(now, show));
    }
}
