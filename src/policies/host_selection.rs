//! Host selection by health: from which set of endpoints the balancer picks.
//!
//! A client that knows which endpoints are healthy does not hand all of them to its balancer, but one *host set* of several.
//! The policy here says which; each set has a balancer of its own, as in Envoy.

pub mod envoy;

use super::view::Slot;
use crate::random::Rng;
use crate::time::Time;

/// What a client knows about the health of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// May be picked.
    Healthy,
    /// Asks to be spared.
    Degraded,
    /// Left out.
    Unhealthy,
}

/// An endpoint as a client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Which.
    pub slot: Slot,
    /// Position of its zone among all zones.
    pub zone: u32,
    /// How it is.
    pub health: Health,
}

/// Who calls: instances of the calling service in one zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalHosts {
    /// Those that are healthy.
    pub healthy: u32,
    /// All.
    pub total: u32,
}

/// All that a client knows.
#[derive(Clone, Copy, Debug)]
pub struct Cluster<'a> {
    /// The endpoints, by slot.
    pub hosts: &'a [Host],
    /// The calling service, by zone.
    pub local: &'a [LocalHosts],
    /// Zone of the client, `None` outside all zones.
    pub zone: Option<u32>,
    /// Names of the zones; they never change.
    pub zones: &'a [String],
}

/// Position of a host set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetIndex(pub u32);

/// Says from which set of endpoints to pick.
pub trait HostSelection {
    /// What the client knows has changed. Sets are rebuilt here, never in `choose`.
    fn on_update(&mut self, now: Time, cluster: &Cluster<'_>);

    /// The sets, each with its endpoints in ascending order; their number and order never change for one number of zones.
    fn sets(&self) -> &[Vec<Slot>];

    /// The set for the next attempt; `None` if it shall fail at once.
    fn choose(&mut self, rng: &mut Rng) -> Option<SetIndex>;

    /// Whether health is ignored at present, for at least a part of the traffic.
    fn is_panicking(&self) -> bool;
}

registry! {
    ($)
    /// A host selection and its settings, as written in a scenario.
    HostSelectionSettings,
    /// Any host selection, by value.
    AnyHostSelection: HostSelection,
    family "host-selection" in "host_selection",
    "envoy" => envoy::Envoy,
}

impl Default for HostSelectionSettings {
    fn default() -> Self {
        Self::Envoy(envoy::EnvoySettings::default())
    }
}

impl HostSelection for AnyHostSelection {
    fn on_update(&mut self, now: Time, cluster: &Cluster<'_>) {
        dispatch!(self, policy => policy.on_update(now, cluster));
    }

    #[inline]
    fn sets(&self) -> &[Vec<Slot>] {
        dispatch!(self, policy => policy.sets())
    }

    #[inline]
    fn choose(&mut self, rng: &mut Rng) -> Option<SetIndex> {
        dispatch!(self, policy => policy.choose(rng))
    }

    fn is_panicking(&self) -> bool {
        dispatch!(self, policy => policy.is_panicking())
    }
}
