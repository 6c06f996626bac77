//! Retry budgets: bound the retries of all calls of one client on one edge.

pub mod tower;

use crate::time::Time;

/// Bounds retries over all calls of one client on one edge.
pub trait Budget {
    /// A first attempt is made.
    fn deposit(&mut self, now: Time);

    /// May one retry be made?
    fn withdraw(&mut self, now: Time) -> bool;

    /// What charts show: named readings at `now` (balance).
    fn gauges(&self, _now: Time, _show: &mut dyn FnMut(&'static str, f64)) {}
}

registry! {
    ($)
    /// A retry budget and its settings, as written in a scenario.
    BudgetSettings,
    /// Any retry budget, by value.
    AnyBudget: Budget,
    family "retry-budget" in "budget",
    "tower" => tower::Tower,
}

const _: () = assert!(size_of::<AnyBudget>() <= 24);

impl Budget for AnyBudget {
    #[inline]
    fn deposit(&mut self, now: Time) {
        dispatch!(self, policy => policy.deposit(now));
    }

    #[inline]
    fn withdraw(&mut self, now: Time) -> bool {
        dispatch!(self, policy => policy.withdraw(now))
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        dispatch!(self, policy => policy.gauges(now, show));
    }
}
