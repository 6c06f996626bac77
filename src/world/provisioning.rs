//! Node pools that grow and shrink: the provisioner decides, the provisioning service delivers, the cloud takes back.
//!
//! An order waits until the provisioning service has a hand free, is worked on, fails or becomes a machine; the machine
//! boots and takes instances. A node that is removed takes no new instances, those that are there are evicted and started
//! elsewhere, and when the last has left it is deleted.

use std::collections::VecDeque;

use crate::kernel::queue::Queue;
use crate::policies::provisioner::{
    AnyProvisioner, Cluster as Seen, Decision as Order, Failure, Group, Node as NodeView, NodeState, Pod,
    Provisioner as _,
};
use crate::random::{Key, Rng};
use crate::time::{Duration, Time};

use super::cluster::{NODE_GRACE, Phase, allocatable};
use super::control::Control;
use super::instance::State;
use super::report::{Decision, Step};
use super::spec::Spec;
use super::{Flow, World};

/// Orders to empty a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    pub(super) node: u32,
    /// The longest that an instance may take to end.
    pub(super) grace: Duration,
    /// Until when evictions are tried again.
    pub(super) until: Time,
}

/// Pause after an eviction that was refused (cluster autoscaler, `core/scaledown/actuation/drain.go`, `EvictionRetryTime`).
const EVICTION_RETRY: Duration = Duration::from_secs(10);

/// After so long a drain has failed (the default of `max-pod-eviction-time`).
const DRAIN_GIVES_UP: Duration = Duration::from_secs(120);

/// Nodes of one pool in one zone, which are ordered together.
#[derive(Clone, Copy, Debug)]
struct NodeGroup {
    pool: u32,
    zone: u32,
    min: u32,
    max: u32,
}

/// The provisioner and the service that carries its orders out.
pub(super) struct Provisioning {
    provisioner: Option<AnyProvisioner>,
    rng: Rng,
    groups: Vec<NodeGroup>,
    /// Orders that wait, oldest first.
    waiting: VecDeque<u32>,
    /// Orders being worked on.
    working: u32,
    /// Outages in force, by pool or (`None`) of all.
    outages: Vec<Option<u32>>,
}

impl Provisioning {
    pub(super) fn new(spec: &Spec, seed: u64) -> Self {
        let mut groups = Vec::new();
        if spec.provisioner.is_some() {
            for (pool, of) in spec.pools.iter().enumerate() {
                let Some((min, max)) = of.scales else { continue };
                let zones: &[u32] = if of.zones.is_empty() { &[0] } else { &of.zones };
                // Bounds are dealt over the zones in turn, like the nodes themselves.
                let dealt = |number: u32, at: usize| {
                    let zones = zones.len() as u32;
                    number / zones + u32::from((at as u32) < number % zones)
                };
                groups.extend(zones.iter().enumerate().map(|(at, &zone)| NodeGroup {
                    pool: pool as u32,
                    zone,
                    min: dealt(min, at),
                    max: dealt(max, at),
                }));
            }
        }
        Self {
            provisioner: spec.provisioner.as_ref().map(|settings| settings.build(Time::ZERO)),
            rng: Key::new(seed).named("provisioner").rng(),
            groups,
            waiting: VecDeque::new(),
            working: 0,
            outages: Vec::new(),
        }
    }

    /// The group that a node of this pool and zone belongs to.
    fn group_of(&self, pool: u32, zone: u32) -> Option<u32> {
        let found = self.groups.iter().position(|group| (group.pool, group.zone) == (pool, zone));
        found.map(|at| at as u32)
    }

    /// Whether a provisioner changes the size of this pool.
    pub(super) fn scales(&self, pool: u32) -> bool {
        self.groups.iter().any(|group| group.pool == pool)
    }
}

impl World<'_> {
    /// Schedules the first look; its phase is the provisioner's own.
    pub(super) fn begin_provisioning(&mut self, queue: &mut Queue) {
        if let Some(provisioner) = &self.provisioning.provisioner {
            let phase = Key::new(self.seed).named("phase").named("provisioner").draws().unit();
            let first = Duration::from_ns_f64(provisioner.interval().0 as f64 * phase);
            self.schedule(queue, Time::ZERO + first, Control::Provision);
        }
    }

    /// The provisioner looks at the cluster.
    pub(super) fn on_provision(&mut self, now: Time, queue: &mut Queue) -> Flow {
        let Some(mut provisioner) = self.provisioning.provisioner.take() else { return Ok(()) };
        let (groups, nodes, pods) = self.seen_by_provisioner(now);
        let seen = Seen { groups: &groups, nodes: &nodes, pods: &pods };
        let mut orders = Vec::new();
        provisioner.evaluate(now, &seen, &mut self.provisioning.rng, &mut orders);
        let interval = provisioner.interval();
        self.provisioning.provisioner = Some(provisioner);
        for order in orders {
            self.note_order(now, order, &groups, &nodes, &pods);
            self.carry_out(now, queue, order)?;
        }
        if now + interval < self.spec.end {
            self.schedule(queue, now + interval, Control::Provision);
        }
        Ok(())
    }

    /// Groups, nodes and instances as the control plane sees them.
    fn seen_by_provisioner(&self, now: Time) -> (Vec<Group>, Vec<NodeView>, Vec<Pod>) {
        let mut groups: Vec<Group> = self.provisioning.groups.iter().map(|group| self.group(group)).collect();
        let mut nodes = Vec::new();
        let mut position = vec![u32::MAX; self.cluster.nodes.len()];
        for (id, node) in self.cluster.nodes.iter().enumerate() {
            let noticed = node.turned + NODE_GRACE;
            let (state, since) = match node.phase {
                Phase::Gone => continue,
                Phase::Ordered | Phase::Booting => (NodeState::Upcoming, node.since),
                Phase::Deleting(drained) => (NodeState::Deleting { drained }, node.since),
                Phase::Ready if node.alive => (NodeState::Ready, node.since.max(node.turned)),
                Phase::Ready if noticed > now => (NodeState::Ready, node.since),
                Phase::Ready => (NodeState::NotReady, noticed),
            };
            let group = self.provisioning.group_of(node.pool, node.zone);
            if let Some(group) = group
                && !matches!(state, NodeState::Deleting { .. })
            {
                groups[group as usize].target += 1;
            }
            let pool = &self.spec.pools[node.pool as usize];
            position[id] = nodes.len() as u32;
            nodes.push(NodeView {
                id: id as u32,
                group,
                state,
                since,
                changed: node.changed,
                allocatable: allocatable(pool),
                max_pods: pool.max_pods,
                zone: node.zone,
                kind: node.pool,
            });
        }
        let mut pods = Vec::new();
        for (owner, service) in self.services.iter().enumerate() {
            let spec = &self.spec.services[owner];
            if spec.node_pools.is_empty() {
                continue;
            }
            let kinds = spec.node_pools.iter().fold(0, |kinds, pool| kinds | 1 << pool);
            let movable = self.disruptions_allowed(now, owner as u32) > 0;
            pods.extend(service.living.iter().map(|&index| {
                let instance = &self.instances[index as usize];
                Pod {
                    owner: owner as u32,
                    request: spec.request(&instance.more.ask),
                    kinds,
                    node: position.get(instance.more.node as usize).copied(),
                    created: instance.more.launched,
                    anti_affinity: spec.anti_affinity,
                    movable,
                    // What is on its way out, or was lost with its node, keeps its room and needs no other.
                    daemon: instance.more.leaving || instance.state == State::Dead,
                }
            }));
        }
        (groups, nodes, pods)
    }

    fn group(&self, group: &NodeGroup) -> Group {
        let pool = &self.spec.pools[group.pool as usize];
        Group {
            allocatable: allocatable(pool),
            max_pods: pool.max_pods,
            zone: group.zone,
            kind: group.pool,
            min: group.min,
            max: group.max,
            target: 0,
            price: pool.price.unwrap_or(0.0),
            priority: pool.rank,
        }
    }

    /// Writes a decision down, with what led to it.
    fn note_order(&mut self, now: Time, order: Order, groups: &[Group], nodes: &[NodeView], pods: &[Pod]) {
        let count = |state: fn(&NodeState) -> bool| nodes.iter().filter(|node| state(&node.state)).count();
        let step = |what, value: f64| Step { metric: None, what, value };
        let mut inputs = vec![
            step("pending-instances", pods.iter().filter(|pod| pod.node.is_none()).count() as f64),
            step("ready-nodes", count(|state| *state == NodeState::Ready) as f64),
            step("upcoming-nodes", count(|state| *state == NodeState::Upcoming) as f64),
        ];
        let (subject, before, change, reason) = match order {
            Order::Grow { group, nodes, reason } => {
                let seen = &groups[group as usize];
                inputs.push(step("max-nodes", f64::from(seen.max)));
                let of = self.provisioning.groups[group as usize];
                let pool = &self.spec.pools[of.pool as usize];
                let name = match pool.zones.len() {
                    0 | 1 => pool.name.clone(),
                    _ => format!("{} in {}", pool.name, self.spec.zones[of.zone as usize]),
                };
                (name, seen.target, f64::from(nodes), reason)
            }
            Order::Remove { node, reason, .. } => {
                let state = &self.cluster.nodes[node as usize];
                inputs.push(step("instances", state.guests.len() as f64));
                let pool = &self.spec.pools[state.pool as usize];
                inputs
                    .push(step("cpu-requested", state.requested().cpu_milli as f64 / (pool.cores * 1000.0)));
                let group = self.provisioning.group_of(state.pool, state.zone);
                let target = group.map_or(0, |group| groups[group as usize].target);
                (self.node_name(node), target, -1.0, reason)
            }
            Order::GiveUp { node } => {
                let state = &self.cluster.nodes[node as usize];
                let group = self.provisioning.group_of(state.pool, state.zone);
                let target = group.map_or(0, |group| groups[group as usize].target);
                (self.node_name(node), target, -1.0, "it does not come")
            }
        };
        self.telemetry.decide(Decision {
            at: now,
            kind: "provisioner",
            subject,
            inputs,
            before: f64::from(before),
            after: f64::from(before) + change,
            reason,
        });
    }

    fn carry_out(&mut self, now: Time, queue: &mut Queue, order: Order) -> Flow {
        match order {
            Order::Grow { group, nodes, .. } => {
                for _ in 0..nodes {
                    self.order_node(now, queue, group);
                }
                Ok(())
            }
            Order::Remove { node, drain, grace, .. } => {
                let state = &mut self.cluster.nodes[node as usize];
                if state.phase != Phase::Ready {
                    return Ok(());
                }
                (state.phase, state.since) = (Phase::Deleting(drain), now);
                self.cluster.look_again();
                self.log_node(now, node, "draining");
                self.drain(now, queue, Drain { node, grace, until: now + DRAIN_GIVES_UP })
            }
            Order::GiveUp { node } => {
                let state = &mut self.cluster.nodes[node as usize];
                if matches!(state.phase, Phase::Ordered | Phase::Booting) {
                    (state.phase, state.gone_at) = (Phase::Gone, now);
                    self.provisioning.waiting.retain(|&other| other != node);
                    self.log_node(now, node, "given up");
                }
                Ok(())
            }
        }
    }

    // ---- a node comes

    fn order_node(&mut self, now: Time, queue: &mut Queue, group: u32) {
        let NodeGroup { pool, zone, .. } = self.provisioning.groups[group as usize];
        let node = self.cluster.add(pool, zone, Phase::Ordered, now);
        self.log_node(now, node, "ordered");
        let service = &self.spec.provisioning;
        if self.provisioning.working < service.concurrency {
            self.work_on(now, queue, node);
        } else if self.provisioning.waiting.len() < service.queue as usize {
            self.provisioning.waiting.push_back(node);
        } else {
            return self.node_failed(now, node, "refused: too many orders wait");
        }
        if let Some(timeout) = service.timeout {
            self.schedule(queue, now + timeout, Control::OrderTimeout(node));
        }
    }

    fn work_on(&mut self, now: Time, queue: &mut Queue, node: u32) {
        self.provisioning.working += 1;
        let takes =
            self.spec.provisioning.takes.sample_duration(&mut self.node_key(node, "provision").draws());
        self.schedule(queue, now + takes, Control::Provisioned(node));
    }

    /// What concerns one node only is drawn under its name, so that no strategy shifts another's luck.
    fn node_key(&self, node: u32, purpose: &str) -> Key {
        let state = &self.cluster.nodes[node as usize];
        let pool = &self.spec.pools[state.pool as usize].name;
        Key::new(self.seed).named(purpose).named(pool).with(u64::from(state.number))
    }

    /// The provisioning service is done with an order, for better or worse.
    pub(super) fn on_provisioned(&mut self, now: Time, queue: &mut Queue, node: u32) {
        self.provisioning.working -= 1;
        if let Some(next) = self.provisioning.waiting.pop_front() {
            self.work_on(now, queue, next);
        }
        let state = &self.cluster.nodes[node as usize];
        if state.phase != Phase::Ordered {
            return;
        }
        let (pool, zone) = (state.pool, state.zone);
        let out = self.provisioning.outages.iter().any(|outage| outage.is_none_or(|struck| struck == pool));
        let unlucky = self.node_key(node, "provision-failure").draws().unit();
        if out || unlucky < self.spec.provisioning.failure_rate {
            return self.node_failed(now, node, "could not be provided");
        }
        if self.cluster.zone_losses[zone as usize] > 0 {
            return self.node_failed(now, node, "its zone is lost");
        }
        let state = &mut self.cluster.nodes[node as usize];
        (state.phase, state.launched) = (Phase::Booting, now);
        let boot = &self.spec.pools[pool as usize].boot;
        let boot = boot.sample_duration(&mut self.node_key(node, "boot").draws());
        self.log_node(now, node, "booting");
        self.schedule(queue, now + boot, Control::NodeReady(node));
    }

    /// An order has waited long enough.
    pub(super) fn on_order_timeout(&mut self, now: Time, node: u32) {
        if self.cluster.nodes[node as usize].phase == Phase::Ordered {
            self.node_failed(now, node, "timed out");
        }
    }

    /// A node that was ordered does not come, and the provisioner hears of it.
    pub(super) fn node_failed(&mut self, now: Time, node: u32, why: &str) {
        let state = &mut self.cluster.nodes[node as usize];
        (state.phase, state.gone_at) = (Phase::Gone, now);
        let group = self.provisioning.group_of(state.pool, state.zone);
        self.provisioning.waiting.retain(|&other| other != node);
        self.log_node(now, node, why);
        if let (Some(group), Some(provisioner)) = (group, &mut self.provisioning.provisioner) {
            provisioner.on_failure(now, Failure::Grow { group });
        }
    }

    /// A node has booted and takes instances.
    pub(super) fn on_node_ready(&mut self, now: Time, queue: &mut Queue, node: u32) {
        let state = &mut self.cluster.nodes[node as usize];
        if state.phase != Phase::Booting {
            return;
        }
        (state.phase, state.since) = (Phase::Ready, now);
        let pool = &self.spec.pools[state.pool as usize];
        self.cluster.enrol(node, pool);
        self.log_node(now, node, "ready");
        self.note_nodes(now, node);
        self.retry_pending(now, queue);
    }

    // ---- a node goes

    /// Evicts the instances of a node as far as the budgets of their services allow; they are started elsewhere. The rest is
    /// tried again.
    pub(super) fn drain(&mut self, now: Time, queue: &mut Queue, drain: Drain) -> Flow {
        let Drain { node, grace, until } = drain;
        let mut guests = self.cluster.nodes[node as usize].guests.clone();
        guests.sort_unstable();
        let mut refused = false;
        for index in guests {
            let instance = &self.instances[index as usize];
            let service = instance.service;
            match instance.state {
                // Lost with its node, which nobody waits for any longer.
                State::Dead => self.evict(now, queue, index)?,
                _ if instance.more.leaving => {}
                _ if instance.more.available && self.disruptions_allowed(now, service) == 0 => refused = true,
                _ => {
                    self.shut_down_within(now, queue, index, grace)?;
                    self.reconcile(now, queue, service)?;
                    self.membership_changed(now, queue, service)?;
                }
            }
        }
        if refused && now < until {
            self.schedule(queue, now + EVICTION_RETRY, Control::Drain(drain));
        } else if refused {
            self.keep_node(now, queue, node);
        }
        self.delete_if_empty(now, queue, node);
        Ok(())
    }

    /// Another try at what a budget refused, if the node still is to go.
    pub(super) fn drain_again(&mut self, now: Time, queue: &mut Queue, drain: Drain) -> Flow {
        let node = &self.cluster.nodes[drain.node as usize];
        let goes =
            matches!(node.phase, Phase::Deleting(_)) || node.reclaimed > 0 && !node.taken || node.cordons > 0;
        if goes && node.alive { self.drain(now, queue, drain) } else { Ok(()) }
    }

    /// A node could not be drained in time: it takes instances again, and the provisioner hears of it.
    fn keep_node(&mut self, now: Time, queue: &mut Queue, node: u32) {
        let state = &mut self.cluster.nodes[node as usize];
        if !matches!(state.phase, Phase::Deleting(_)) {
            return;
        }
        (state.phase, state.since) = (Phase::Ready, now);
        self.cluster.look_again();
        self.log_node(now, node, "kept: a disruption budget refused to let it go");
        if let Some(provisioner) = &mut self.provisioning.provisioner {
            provisioner.on_failure(now, Failure::Remove { node });
        }
        self.retry_pending(now, queue);
    }

    /// How many ready instances of a service may be taken away on purpose.
    pub(super) fn disruptions_allowed(&self, now: Time, service: u32) -> u32 {
        let Some(budget) = self.spec.services[service as usize].disruption_budget else { return u32::MAX };
        let state = &self.services[service as usize];
        let ready = state.living.iter().filter(|&&index| self.ready_since(now, index).is_some()).count();
        budget.allowed(state.wanted, ready as u32)
    }

    /// A node that is to go goes when the last instance has left.
    pub(super) fn delete_if_empty(&mut self, now: Time, queue: &mut Queue, node: u32) {
        let state = &self.cluster.nodes[node as usize];
        if matches!(state.phase, Phase::Deleting(_)) && state.guests.is_empty() {
            self.delete_node(now, queue, node, "deleted");
        }
    }

    fn delete_node(&mut self, now: Time, queue: &mut Queue, node: u32, how: &str) {
        let state = &mut self.cluster.nodes[node as usize];
        (state.phase, state.gone_at) = (Phase::Gone, now);
        self.cluster.strike_off(node);
        self.drop_pulls(now, queue, node);
        self.log_node(now, node, how);
        self.note_nodes(now, node);
    }

    // ---- troubles

    /// The owner of a machine announces that he wants it back, or (at the end of the fault) has no more need of it.
    pub(super) fn reclaim(
        &mut self,
        now: Time,
        queue: &mut Queue,
        node: u32,
        notice: Duration,
        on: bool,
    ) -> Flow {
        self.cluster.look_again();
        let reclaimed = &mut self.cluster.nodes[node as usize].reclaimed;
        *reclaimed = if on { *reclaimed + 1 } else { *reclaimed - 1 };
        if on {
            self.log_node(now, node, "reclaimed");
            self.schedule(queue, now + notice, Control::TakeBack(node));
            return self.drain(now, queue, Drain { node, grace: notice, until: now + notice });
        }
        let state = &mut self.cluster.nodes[node as usize];
        if state.reclaimed == 0 && std::mem::take(&mut state.taken) {
            return self.restore_node(now, queue, node);
        }
        self.retry_pending(now, queue);
        Ok(())
    }

    /// The notice is over: the machine is off. Where a provisioner orders new ones, it never comes back.
    pub(super) fn take_back(&mut self, now: Time, queue: &mut Queue, node: u32) -> Flow {
        let state = &mut self.cluster.nodes[node as usize];
        if state.reclaimed == 0 || state.phase == Phase::Gone || std::mem::replace(&mut state.taken, true) {
            return Ok(());
        }
        let pool = state.pool;
        self.lose_node(now, queue, node)?;
        if self.provisioning.scales(pool) {
            // Its owner says so, hence nobody waits for it to answer again.
            let mut left = std::mem::take(&mut self.cluster.nodes[node as usize].guests);
            left.sort_unstable();
            self.delete_node(now, queue, node, "taken back");
            for index in left {
                self.evict(now, queue, index)?;
            }
        }
        Ok(())
    }

    /// Orders fail from now on, or no longer.
    pub(super) fn set_provisioning_outage(&mut self, of: Option<u32>, on: bool) {
        let outages = &mut self.provisioning.outages;
        if on {
            outages.push(of);
        } else if let Some(at) = outages.iter().position(|outage| *outage == of) {
            outages.swap_remove(at);
        }
    }
}
