//! Calling side: one client's view of one service and the policies it owns there.

use std::sync::Arc;

use crate::policies::balancer::{AnyBalancer, Balancer as _, Needs};
use crate::policies::breaker::{AnyBreaker, BreakerState};
use crate::policies::limiter::{AnyLimiter, Limiter};
use crate::policies::retry::{AnyBudget, AnyRetry};
use crate::policies::view::{Endpoints, Slot};
use crate::time::Time;

use super::backlog::Backlog;
use super::spec::EdgeSpec;

/// Zone of a calling side that the instances of a service share: that of whoever calls.
pub(super) const ANYWHERE: u16 = u16::MAX;

/// "No attribute".
pub(super) const NO_ATTRIBUTE: u16 = u16::MAX;

// What has to be seen to before a pick; 0 is the common case.
/// The list has changed since the balancer was last told.
pub(super) const STALE: u8 = 1;
/// The balancer wants to know the true load of the instances.
pub(super) const LOAD: u8 = 1 << 1;
/// It sends probes.
pub(super) const PROBES: u8 = 1 << 2;
/// It wants to know an attribute of the request.
pub(super) const AFFINITY: u8 = 1 << 3;

/// What a client (an instance, or a client of a source) knows and owns about one service it calls.
pub(super) struct Outbound {
    /// Endpoints as this client knows them.
    pub(super) view: Endpoints,
    pub(super) balancer: AnyBalancer,
    /// What it asks for.
    pub(super) asks: u8,
    /// Attribute that it keeps together, or [`NO_ATTRIBUTE`].
    pub(super) affinity: u16,
    /// Weights of instances by ordinal, over and over again; empty: all 1.
    weights: Arc<[u32]>,
    /// Called service.
    pub(super) service: u32,
    /// Where the client sits, [`ANYWHERE`] if several share it.
    pub(super) zone: u32,
    /// Source it belongs to, or `NIL` for an instance's.
    pub(super) source: u32,
    /// False once its owner is dead; late answers then change nothing.
    pub(super) alive: bool,
    /// Timed-out attempts are cancelled at the callee.
    pub(super) cancel: bool,
    /// Attempts go through a call record.
    pub(super) stateful: bool,
    pub(super) retry: Option<AnyRetry>,
    pub(super) budget: Option<AnyBudget>,
    pub(super) breaker: Option<AnyBreaker>,
    /// As it was last seen.
    pub(super) breaker_state: BreakerState,
    pub(super) limiter: Option<AnyLimiter>,
    /// Who waits for room there, if one may.
    pub(super) backlog: Option<Backlog>,
    /// Share of the calls that is made.
    pub(super) share: f64,
    /// Attempts sent.
    pub(super) attempts: u64,
    /// Calls made, where a call can take more than one attempt; elsewhere `attempts` says it.
    pub(super) firsts: u64,
}

impl Outbound {
    pub(super) fn new(edge: &EdgeSpec, zone: u32, source: u32, now: Time) -> Self {
        let balancer = edge.balancer.build(now);
        let Needs { load, probes } = balancer.needs();
        let asks = if load { LOAD } else { 0 }
            | if probes { PROBES } else { 0 }
            | if edge.affinity.is_some() { AFFINITY } else { 0 };
        let limiter = edge.limiter.as_ref().map(|settings| settings.build(now));
        Self {
            view: Endpoints { service: edge.callee.0.clone(), clients: 1, ..Endpoints::default() },
            balancer,
            asks,
            affinity: edge.affinity.unwrap_or(NO_ATTRIBUTE),
            weights: edge.callee.1.clone(),
            service: edge.to,
            zone,
            source,
            alive: true,
            cancel: edge.cancel,
            stateful: edge.is_stateful(),
            retry: edge.retry.as_ref().map(|settings| settings.build(now)),
            budget: edge.budget.as_ref().map(|settings| settings.build(now)),
            breaker: edge.breaker.as_ref().map(|settings| settings.build(now)),
            breaker_state: BreakerState::Closed,
            backlog: limiter.as_ref().and_then(Limiter::waiting_room).map(Backlog::new),
            limiter,
            share: 1.0,
            attempts: 0,
            firsts: 0,
        }
    }

    /// The same for client number `client` of `clients`.
    pub(super) const fn numbered(mut self, client: u32, clients: u32) -> Self {
        self.view.client = client;
        self.view.clients = clients;
        self
    }

    /// The client learns that `slot` may be picked. The balancer hears of it before its next pick.
    pub(super) fn learn(&mut self, now: Time, slot: Slot) {
        let view = &mut self.view;
        let needed = slot.0 as usize + 1;
        if view.weight.len() < needed {
            view.grow(needed);
        }
        if let Err(at) = view.eligible.binary_search(&slot) {
            view.eligible.insert(at, slot);
            view.since[slot.0 as usize] = now;
            if !self.weights.is_empty() {
                view.weight[slot.0 as usize] = self.weights[slot.0 as usize % self.weights.len()];
            }
            self.asks |= STALE;
        }
    }

    /// The client learns that `slot` is gone.
    pub(super) fn forget(&mut self, slot: Slot) {
        if let Ok(at) = self.view.eligible.binary_search(&slot) {
            self.view.eligible.remove(at);
            self.asks |= STALE;
        }
    }

    /// The owner died; gives the memory back.
    pub(super) fn bury(&mut self) {
        self.alive = false;
        self.asks |= STALE;
        self.view = Endpoints::default();
    }
}
