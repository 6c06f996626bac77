//! Outlier detection: which endpoints a client leaves out because of how they have answered it.

pub mod envoy;

use super::view::{Outcome, Slot};
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Watches the endpoints that one client knows.
pub trait Outlier {
    /// The client's list of endpoints changed, or it has just got its first list. Ascending; whoever is no longer on it is
    /// forgotten.
    fn on_update(&mut self, now: Time, hosts: &[Slot]);

    /// An attempt sent to `slot` ended.
    fn on_outcome(&mut self, now: Time, slot: Slot, outcome: &Outcome, rng: &mut Rng);

    /// An active check of `slot` succeeded and its endpoint counts as healthy there.
    fn on_check_passed(&mut self, _now: Time, _slot: Slot) {}

    /// Time between sweeps.
    fn interval(&self) -> Duration;

    /// A sweep.
    fn on_interval(&mut self, now: Time, rng: &mut Rng);

    /// Whether `slot` is left out.
    fn is_ejected(&self, slot: Slot) -> bool;

    /// The next change that nobody has been told yet, oldest first. To be asked until there is none after each call that
    /// can change something.
    fn take_change(&mut self) -> Option<Change>;

    /// What charts show: named readings.
    fn gauges(&self, _show: &mut dyn FnMut(&'static str, f64)) {}
}

/// An endpoint is left out from now on, or let in again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub slot: Slot,
    /// Left out.
    pub ejected: bool,
    /// Why.
    pub reason: &'static str,
}

registry! {
    ($)
    /// An outlier detection and its settings, as written in a scenario.
    OutlierSettings,
    /// Any outlier detection, by value.
    AnyOutlier: Outlier,
    family "outlier" in "outlier",
    "envoy" => envoy::Envoy,
}

impl Outlier for AnyOutlier {
    fn on_update(&mut self, now: Time, hosts: &[Slot]) {
        dispatch!(self, policy => policy.on_update(now, hosts));
    }

    #[inline]
    fn on_outcome(&mut self, now: Time, slot: Slot, outcome: &Outcome, rng: &mut Rng) {
        dispatch!(self, policy => policy.on_outcome(now, slot, outcome, rng));
    }

    fn on_check_passed(&mut self, now: Time, slot: Slot) {
        dispatch!(self, policy => policy.on_check_passed(now, slot));
    }

    fn interval(&self) -> Duration {
        dispatch!(self, policy => policy.interval())
    }

    fn on_interval(&mut self, now: Time, rng: &mut Rng) {
        dispatch!(self, policy => policy.on_interval(now, rng));
    }

    fn is_ejected(&self, slot: Slot) -> bool {
        dispatch!(self, policy => policy.is_ejected(slot))
    }

    #[inline]
    fn take_change(&mut self) -> Option<Change> {
        dispatch!(self, policy => policy.take_change())
    }

    fn gauges(&self, show: &mut dyn FnMut(&'static str, f64)) {
        dispatch!(self, policy => policy.gauges(show));
    }
}
