//! Shedding: drop what has waited too long, when its turn comes.

pub mod codel;

use crate::time::{Duration, Time};

/// Decides over each piece of work that leaves a queue.
pub trait Shedding {
    /// Is the work whose turn has come dropped, after it has waited for `delay`?
    fn drops(&mut self, now: Time, delay: Duration) -> bool;

    /// What charts show: named readings at `now`.
    fn gauges(&self, _now: Time, _show: &mut dyn FnMut(&'static str, f64)) {}
}

registry! {
    ($)
    /// A way of shedding and its settings, as written in a scenario.
    SheddingSettings,
    /// Any way of shedding, by value.
    AnyShedding: Shedding,
    family "shedding" in "shedding",
    "codel" => codel::Codel,
}

impl Shedding for AnyShedding {
    #[inline]
    fn drops(&mut self, now: Time, delay: Duration) -> bool {
        dispatch!(self, policy => policy.drops(now, delay))
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        dispatch!(self, policy => policy.gauges(now, show));
    }
}
