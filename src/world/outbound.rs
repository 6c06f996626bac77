//! Calling side: one client's view of one service and the policies it owns there.

use crate::policies::balancer::{AnyBalancer, Balancer as _, BalancerSettings};
use crate::policies::breaker::{AnyBreaker, BreakerState};
use crate::policies::limiter::AnyLimiter;
use crate::policies::retry::{AnyBudget, AnyRetry};
use crate::policies::view::{Endpoints, RequestHead, Slot};
use crate::random::Rng;
use crate::time::Time;

use super::hosts::Hosts;
use super::spec::EdgeSpec;

/// Zone of a calling side that the instances of a service share: that of whoever calls.
pub(super) const ANYWHERE: u16 = u16::MAX;

/// What a client (an instance, or a client of a source) knows and owns about one service it calls.
pub(super) struct Outbound {
    /// Endpoints as this client knows them.
    pub(super) view: Endpoints,
    pub(super) balancer: AnyBalancer,
    /// What it knows about their health, if it cares.
    pub(super) hosts: Option<Box<Hosts>>,
    /// Called service.
    pub(super) service: u32,
    /// Where the client sits, [`ANYWHERE`] if several share it.
    pub(super) zone: u32,
    /// Source it belongs to, or `NIL` for an instance's.
    pub(super) source: u32,
    /// Calling service, if it is not a source.
    pub(super) owner: Option<u32>,
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
    /// Attempts sent.
    pub(super) attempts: u64,
    /// Attempts that were picked in panic.
    pub(super) panic_picks: u64,
    /// Calls made, where a call can take more than one attempt; elsewhere `attempts` says it.
    pub(super) firsts: u64,
}

impl Outbound {
    pub(super) fn new(edge: &EdgeSpec, zone: u32, source: u32, now: Time) -> Self {
        Self {
            view: Endpoints::default(),
            balancer: edge.balancer.build(now),
            hosts: edge.knows_health().then(|| Box::new(Hosts::new(edge, now))),
            service: edge.to,
            zone,
            source,
            owner: None,
            alive: true,
            cancel: edge.cancel,
            stateful: edge.is_stateful(),
            retry: edge.retry.as_ref().map(|settings| settings.build(now)),
            budget: edge.budget.as_ref().map(|settings| settings.build(now)),
            breaker: edge.breaker.as_ref().map(|settings| settings.build(now)),
            breaker_state: BreakerState::Closed,
            limiter: edge.limiter.as_ref().map(|settings| settings.build(now)),
            attempts: 0,
            panic_picks: 0,
            firsts: 0,
        }
    }

    /// The calling side of somebody who sends probes and nothing else.
    pub(super) fn of_prober(service: u32, source: u32, now: Time) -> Self {
        let edge = EdgeSpec {
            to: service,
            cancel: false,
            retry: None,
            budget: None,
            breaker: None,
            limiter: None,
            balancer: BalancerSettings::default(),
            outlier: None,
            check: None,
            host_selection: None,
            shared: false,
        };
        // Nobody counts what it has outstanding.
        Self { alive: false, ..Self::new(&edge, 0, source, now) }
    }

    /// An endpoint for an attempt.
    #[inline(always)]
    pub(super) fn pick(&mut self, now: Time, head: &RequestHead, rng: &mut Rng) -> Option<Slot> {
        match &mut self.hosts {
            None => self.balancer.pick(now, head, &self.view, rng),
            Some(hosts) => {
                self.panic_picks += u64::from(hosts.is_panicking());
                hosts.pick(now, head, &mut self.view, rng)
            }
        }
    }

    /// The client learns that `slot` may be picked.
    pub(super) fn learn(&mut self, now: Time, slot: Slot) {
        let view = &mut self.view;
        let needed = slot.0 as usize + 1;
        if view.weight.len() < needed {
            view.weight.resize(needed, 1);
            view.active.resize(needed, 0);
        }
        if let Err(at) = view.eligible.binary_search(&slot) {
            view.eligible.insert(at, slot);
            self.balancer.on_update(now, &self.view);
        }
    }

    /// The client learns that `slot` is gone.
    pub(super) fn forget(&mut self, now: Time, slot: Slot) {
        if let Ok(at) = self.view.eligible.binary_search(&slot) {
            self.view.eligible.remove(at);
            self.balancer.on_update(now, &self.view);
        }
    }

    /// The owner died; gives the memory back.
    pub(super) fn bury(&mut self) {
        self.alive = false;
        self.hosts = None;
        self.view = Endpoints::default();
    }
}
