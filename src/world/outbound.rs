//! Calling side: one client's view of one service and the policies it owns there.

use std::sync::Arc;

use crate::policies::balancer::{AnyBalancer, Balancer as _, BalancerSettings, Needs};
use crate::policies::breaker::{AnyBreaker, BreakerState};
use crate::policies::hedge::{AnyHedge, HedgePolicy as _};
use crate::policies::limiter::{AnyLimiter, Limiter};
use crate::policies::retry::{AnyBudget, AnyRetry, RetryPolicy as _};
use crate::policies::view::{Class, Endpoints, RequestHead, Slot};
use crate::random::Rng;
use crate::time::Time;

use super::backlog::Backlog;
use super::frame::NIL;
use super::hosts::Hosts;
use super::pool::Pool;
use super::spec::{Deadline, EdgeSpec, NO_RING, StackSpec};
use super::versions::Split;

/// Zone of a calling side that the instances of a service share: that of whoever calls.
pub(super) const ANYWHERE: u16 = u16::MAX;

/// "No attribute".
pub(super) const NO_ATTRIBUTE: u16 = u16::MAX;

// What has to be seen to before a pick; 0 is the common case.
/// The list has changed since the balancer was last told.
pub(super) const STALE: u16 = 1;
/// The balancer wants to know the true load of the instances.
pub(super) const LOAD: u16 = 1 << 1;
/// It sends probes.
pub(super) const PROBES: u16 = 1 << 2;
/// It wants to know an attribute of the request.
pub(super) const AFFINITY: u16 = 1 << 3;
/// Some level sends more than one copy of a call, each to another endpoint.
pub(super) const HEDGES: u16 = 1 << 4;
/// Cookies of requests name instances.
pub(super) const COOKIE: u16 = 1 << 5;
/// A rollout divides its traffic between two versions.
pub(super) const SPLIT: u16 = 1 << 6;
/// An update wants to say where its calls go, and when.
pub(super) const BOUND: u16 = 1 << 7;
/// Some of its calls are the business of the leader among the instances.
pub(super) const LEADS: u16 = 1 << 8;

/// What a client (an instance, or a client of a source) knows and owns about one service it calls.
pub(super) struct Outbound {
    /// Endpoints as this client knows them.
    pub(super) view: Endpoints,
    pub(super) balancer: AnyBalancer,
    /// What it knows about their health, if it cares.
    pub(super) hosts: Option<Box<Hosts>>,
    /// How it tells two versions apart, while a rollout divides the traffic or binds requests to versions.
    pub(super) split: Option<Box<Split>>,
    /// What it asks for.
    pub(super) asks: u16,
    /// Balancer or `hosts` want to know how attempts end.
    pub(super) hears: bool,
    /// Attribute that it keeps together, or [`NO_ATTRIBUTE`].
    pub(super) affinity: u16,
    /// Weights of instances by ordinal, over and over again; empty: all 1.
    pub(super) weights: Arc<[u32]>,
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
    /// Attempts go through a call record.
    pub(super) stateful: bool,
    /// What it does with deadlines.
    pub(super) deadline: Deadline,
    /// Its policies.
    pub(super) stack: Stack,
    /// Those of the levels around it, from the inside out.
    pub(super) above: Vec<Stack>,
    /// Share of the calls that is made.
    pub(super) share: f64,
    /// Position in `Spec::connections`, `NIL` if attempts need no connection ...
    pub(super) connections: u32,
    /// ... and the connections, until its owner dies.
    pub(super) pool: Option<Box<Pool>>,
    /// Attempts sent.
    pub(super) attempts: u64,
    /// Attempts that were picked in panic.
    pub(super) panic_picks: u64,
    /// Calls made, where a call can take more than one attempt; elsewhere `attempts` says it.
    pub(super) firsts: u64,
}

/// The policies of one level.
pub(super) struct Stack {
    /// Attempts that timed out or lost to another copy are cancelled at the callee.
    pub(super) cancel: bool,
    /// Ring of the timeout of an outer level's attempts.
    pub(super) ring: u8,
    pub(super) retry: Option<AnyRetry>,
    pub(super) hedge: Option<AnyHedge>,
    pub(super) budget: Option<AnyBudget>,
    pub(super) breaker: Option<AnyBreaker>,
    /// As it was last seen.
    pub(super) breaker_state: BreakerState,
    pub(super) limiter: Option<AnyLimiter>,
    /// Who waits for room there, if one may.
    pub(super) backlog: Option<Box<Backlog>>,
}

impl Stack {
    fn new(spec: &StackSpec, now: Time) -> Self {
        let limiter = spec.limiter.as_ref().map(|settings| settings.build(now));
        Self {
            cancel: spec.cancel,
            ring: spec.ring,
            retry: spec.retry.as_ref().map(|settings| settings.build(now)),
            hedge: spec.hedge.as_ref().map(|settings| settings.build(now)),
            budget: spec.budget.as_ref().map(|settings| settings.build(now)),
            breaker: spec.breaker.as_ref().map(|settings| settings.build(now)),
            breaker_state: BreakerState::Closed,
            backlog: limiter
                .as_ref()
                .and_then(Limiter::waiting_room)
                .map(|room| Box::new(Backlog::new(room))),
            limiter,
        }
    }

    /// Whether its retry or hedging policy would go on after an attempt that ended in `class`.
    pub(super) fn goes_on_after(&self, class: Class) -> bool {
        self.retry.as_ref().is_some_and(|retry| retry.bounds().1.covers(class))
            || self.hedge.as_ref().is_some_and(|hedge| hedge.goes_on_after(class))
    }
}

impl Outbound {
    pub(super) fn new(edge: &EdgeSpec, zone: u32, source: u32, now: Time) -> Self {
        let balancer = edge.balancer.build(now);
        let Needs { load, probes, outcomes } = balancer.needs();
        let asks = if load { LOAD } else { 0 }
            | if probes { PROBES } else { 0 }
            | if edge.affinity.is_some() { AFFINITY } else { 0 }
            | if edge.cookie { COOKIE } else { 0 }
            | if edge.stacks().any(|stack| stack.hedge.is_some()) { HEDGES } else { 0 }
            | if edge.leads { LEADS } else { 0 };
        Self {
            hosts: edge.knows_health().then(|| Box::new(Hosts::new(edge, now))),
            view: Endpoints { service: edge.callee.0.clone(), clients: 1, ..Endpoints::default() },
            balancer,
            split: None,
            asks,
            hears: outcomes || edge.knows_health(),
            affinity: edge.affinity.unwrap_or(NO_ATTRIBUTE),
            weights: edge.callee.1.clone(),
            service: edge.to,
            zone,
            source,
            owner: None,
            alive: true,
            stateful: edge.is_stateful(),
            share: 1.0,
            deadline: edge.deadline,
            stack: Stack::new(&edge.stack, now),
            above: edge.above.iter().map(|stack| Stack::new(stack, now)).collect(),
            connections: edge.connections.unwrap_or(NIL),
            pool: None,
            attempts: 0,
            panic_picks: 0,
            firsts: 0,
        }
    }

    /// The calling side of somebody who sends probes and nothing else.
    pub(super) fn of_prober(service: u32, source: u32, now: Time) -> Self {
        let edge = EdgeSpec {
            to: service,
            stack: StackSpec {
                cancel: false,
                ring: NO_RING,
                retry: None,
                hedge: None,
                budget: None,
                breaker: None,
                limiter: None,
            },
            above: Vec::new(),
            deadline: Deadline::Stop,
            balancer: BalancerSettings::default(),
            affinity: None,
            cookie: false,
            callee: ("".into(), [].into()),
            outlier: None,
            check: None,
            host_selection: None,
            shared: false,
            connections: None,
            throttled: false,
            leads: false,
        };
        // Nobody counts what it has outstanding.
        Self { alive: false, ..Self::new(&edge, 0, source, now) }
    }

    /// An endpoint for an attempt.
    #[inline(always)]
    pub(super) fn pick(&mut self, now: Time, head: &RequestHead, rng: &mut Rng) -> Option<Slot> {
        match &mut self.hosts {
            None => match &mut self.split {
                Some(split) if split.is_for_one() => split.pick(now, head, &mut self.view, rng),
                _ => self.balancer.pick(now, head, &self.view, rng),
            },
            Some(hosts) => {
                self.panic_picks += u64::from(hosts.is_panicking());
                hosts.pick(now, head, &mut self.view, rng)
            }
        }
    }

    /// Whether `slot` may be picked at present.
    pub(super) fn may_pick(&self, slot: Slot) -> bool {
        match &self.hosts {
            None => self.view.eligible.binary_search(&slot).is_ok(),
            Some(hosts) => hosts.may_pick(slot),
        }
    }

    /// The policies of a level; 0 is the innermost.
    #[inline]
    pub(super) fn stack(&self, level: u8) -> &Stack {
        match level {
            0 => &self.stack,
            level => &self.above[usize::from(level) - 1],
        }
    }

    /// The policies of a level; 0 is the innermost.
    #[inline]
    pub(super) fn stack_mut(&mut self, level: u8) -> &mut Stack {
        match level {
            0 => &mut self.stack,
            level => &mut self.above[usize::from(level) - 1],
        }
    }

    /// All levels, from the inside out.
    pub(super) fn stacks(&self) -> impl Iterator<Item = &Stack> {
        std::iter::once(&self.stack).chain(&self.above)
    }

    /// The same for client number `client` of `clients`.
    pub(super) const fn numbered(mut self, client: u32, clients: u32) -> Self {
        self.view.client = client;
        self.view.clients = clients;
        self
    }

    /// The client learns that `slot` may be picked. The balancer hears of it before its next pick.
    pub(super) fn learn(&mut self, now: Time, slot: Slot) {
        if self.goes_by_name() {
            return;
        }
        if add(&mut self.view, now, slot, &self.weights) {
            self.asks |= STALE;
        }
        if let Some(pool) = &mut self.pool {
            pool.learn(now, slot, &self.weights);
        }
    }

    /// The client learns that `slot` is gone.
    pub(super) fn forget(&mut self, slot: Slot) {
        if self.goes_by_name() {
            return;
        }
        if remove(&mut self.view, slot) {
            self.asks |= STALE;
        }
        if let Some(pool) = &mut self.pool {
            pool.forget(slot);
        }
    }

    /// Whether it finds endpoints by itself.
    fn goes_by_name(&self) -> bool {
        self.pool.as_ref().is_some_and(|pool| pool.name.is_some())
    }

    /// The owner died; gives the memory back.
    pub(super) fn bury(&mut self) {
        self.alive = false;
        self.hosts = None;
        self.split = None;
        self.asks |= STALE;
        self.view = Endpoints::default();
        self.pool = None;
    }
}

/// Adds an endpoint to a view; whether it is new there.
pub(super) fn add(view: &mut Endpoints, now: Time, slot: Slot, weights: &[u32]) -> bool {
    let needed = slot.0 as usize + 1;
    if view.weight.len() < needed {
        view.grow(needed);
    }
    let Err(at) = view.eligible.binary_search(&slot) else { return false };
    view.eligible.insert(at, slot);
    view.since[slot.0 as usize] = now;
    if !weights.is_empty() {
        view.weight[slot.0 as usize] = weights[slot.0 as usize % weights.len()];
    }
    true
}

/// Takes an endpoint out of a view; whether it was there.
pub(super) fn remove(view: &mut Endpoints, slot: Slot) -> bool {
    let Ok(at) = view.eligible.binary_search(&slot) else { return false };
    view.eligible.remove(at);
    true
}
