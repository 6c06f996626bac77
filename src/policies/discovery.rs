//! Discovery: who knows which endpoints a service has, how it learns that one came or went, and how clients learn it.
//!
//! A registry is *told*: an endpoint registers when its process is ready, says goodbye when it is shut down, and sends
//! heartbeats in between. It is *woken* for its own work, in which it may ask who answers. It *lists* what it would tell a
//! client now; [`Delivery`] says how a client gets that.

pub mod consul;
pub mod eureka;
pub mod heartbeats;
pub mod poll;
pub mod swim;

use super::view::Slot;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// How clients get the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Each change is sent to each client, and takes between so long and so long.
    Push(Duration, Duration),
    /// Each client fetches the list so often, in a rhythm of its own.
    Fetch(Duration),
}

/// What a registry knows about one service.
pub trait Discovery {
    /// The process of an endpoint is ready.
    fn on_register(&mut self, now: Time, slot: Slot);

    /// An endpoint says goodbye.
    fn on_deregister(&mut self, now: Time, slot: Slot);

    /// The control plane of the cluster has noticed that an endpoint is gone, or does not want traffic. Registries that
    /// nobody tells such things do not listen.
    fn on_reported_gone(&mut self, _now: Time, _slot: Slot) {}

    /// How often an endpoint sends a heartbeat, if it does.
    fn heartbeat_interval(&self) -> Option<Duration>;

    /// A heartbeat arrived.
    fn on_heartbeat(&mut self, now: Time, slot: Slot);

    /// Time between its own looks, if it has any.
    fn interval(&self) -> Option<Duration>;

    /// Its own work. `answers` says whether an endpoint answers a ping.
    fn on_interval(&mut self, _now: Time, _answers: &mut dyn FnMut(Slot) -> bool, _rng: &mut Rng) {}

    /// How clients get the list.
    fn delivery(&self) -> Delivery;

    /// What a client gets that asks at `now`, ascending.
    fn listed(&self, now: Time) -> &[Slot];
}

registry! {
    ($)
    /// A registry and its settings, as written in a scenario.
    DiscoverySettings,
    /// Any registry, by value.
    AnyDiscovery: Discovery,
    family "discovery" in "discovery",
    "poll" => poll::Poll,
    "heartbeats" => heartbeats::Heartbeats,
    "eureka" => eureka::Eureka,
    "consul" => consul::Consul,
    "swim" => swim::Swim,
}

impl Discovery for AnyDiscovery {
    fn on_register(&mut self, now: Time, slot: Slot) {
        dispatch!(self, policy => policy.on_register(now, slot));
    }

    fn on_deregister(&mut self, now: Time, slot: Slot) {
        dispatch!(self, policy => policy.on_deregister(now, slot));
    }

    fn on_reported_gone(&mut self, now: Time, slot: Slot) {
        dispatch!(self, policy => policy.on_reported_gone(now, slot));
    }

    fn heartbeat_interval(&self) -> Option<Duration> {
        dispatch!(self, policy => policy.heartbeat_interval())
    }

    fn on_heartbeat(&mut self, now: Time, slot: Slot) {
        dispatch!(self, policy => policy.on_heartbeat(now, slot));
    }

    fn interval(&self) -> Option<Duration> {
        dispatch!(self, policy => policy.interval())
    }

    fn on_interval(&mut self, now: Time, answers: &mut dyn FnMut(Slot) -> bool, rng: &mut Rng) {
        dispatch!(self, policy => policy.on_interval(now, answers, rng));
    }

    fn delivery(&self) -> Delivery {
        dispatch!(self, policy => policy.delivery())
    }

    fn listed(&self, now: Time) -> &[Slot] {
        dispatch!(self, policy => policy.listed(now))
    }
}

/// Puts a slot into an ascending list, or takes it out; whether that changed anything.
fn set_listed(list: &mut Vec<Slot>, slot: Slot, listed: bool) -> bool {
    match (list.binary_search(&slot), listed) {
        (Err(at), true) => list.insert(at, slot),
        (Ok(at), false) => drop(list.remove(at)),
        _ => return false,
    }
    true
}
