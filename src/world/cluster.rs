//! Machines and placement: which node an instance gets, what it takes there, and how nodes are lost and come back.

use std::collections::BTreeSet;

use crate::kernel::queue::Queue;
use crate::policies::scheduler::kube::DEFAULT_REQUEST;
use crate::policies::scheduler::{AnyScheduler, NodeView, PodRequest, Scheduler as _};
use crate::policies::view::Resources;
use crate::random::{Key, Rng};
use crate::time::{Duration, Time};

use super::frame::NIL;
use super::image::Store;
use super::instance::State;
use super::resize::Fit;
use super::spec::{PoolSpec, Spec};
use super::{Flow, World};

/// A lost node is noticed after this long: kube-controller-manager's `node-monitor-grace-period`, default 40 s.
pub(super) const NODE_GRACE: Duration = Duration::from_secs(40);

/// Its instances are given up this long after that: the default `tolerationSeconds` of unreachable nodes, 300 s.
pub(super) const EVICTION: Duration = Duration::from_secs(300);

/// How far a node is in its life. Being up or down is another matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waits for the provisioning service, or is worked on there.
    Ordered,
    /// The machine is there and starts.
    Booting,
    /// Takes instances.
    Ready,
    /// Takes none any more and goes as soon as the last has left; whether there were any.
    Deleting(bool),
    /// Deleted, or never came.
    Gone,
}

/// A machine.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) pool: u32,
    pub(super) zone: u32,
    /// Number within its pool, part of its name.
    pub(super) number: u32,
    pub(super) phase: Phase,
    /// Since when it has been in its phase ...
    pub(super) since: Time,
    /// ... and up or down.
    pub(super) alive: bool,
    pub(super) turned: Time,
    /// Faults that keep it down.
    faults: u32,
    /// Notices that its owner wants it back.
    pub(super) reclaimed: u32,
    /// Operators who want nothing new on it.
    pub(super) cordons: u32,
    /// The owner has it back.
    pub(super) taken: bool,
    /// When an instance last came or went.
    pub(super) changed: Time,
    /// Paid for from here ...
    pub(super) launched: Time,
    /// ... to here.
    pub(super) gone_at: Time,
    /// Instances that count as being here, dead ones that nobody has given up included.
    pub(super) guests: Vec<u32>,
    requested: Resources,
    non_zero_requested: Resources,
    pods: u32,
    pub(super) images: Store,
    /// Place in `Cluster::roster`.
    seat: u32,
}

impl Node {
    /// Whether it runs.
    pub(super) const fn is_up(&self) -> bool {
        self.alive && matches!(self.phase, Phase::Ready | Phase::Deleting(_))
    }

    /// Whether new instances may go there.
    const fn is_open(&self) -> bool {
        self.alive && matches!(self.phase, Phase::Ready) && self.reclaimed == 0 && self.cordons == 0
    }

    /// Requests of the instances there.
    pub(super) const fn requested(&self) -> Resources {
        self.requested
    }
}

/// All machines, and who places instances on them.
pub(super) struct Cluster {
    /// By id, gone ones included.
    pub(super) nodes: Vec<Node>,
    /// Nodes that have been ready and are not gone, in the order in which they came.
    roster: Vec<u32>,
    /// The roster as the scheduler sees it, for the service and version in `seen_by`.
    views: Vec<NodeView>,
    seen_by: Option<(u32, u8)>,
    scheduler: AnyScheduler,
    rng: Rng,
    /// (service, instance) without a node.
    pub(super) pending: BTreeSet<(u32, u32)>,
    /// By zone: losses in force.
    pub(super) zone_losses: Vec<u32>,
    /// By pool: nodes so far.
    built: Vec<u32>,
}

impl Cluster {
    pub(super) fn new(spec: &Spec, seed: u64) -> Self {
        let mut cluster = Self {
            nodes: Vec::new(),
            roster: Vec::new(),
            views: Vec::new(),
            seen_by: None,
            scheduler: spec.scheduler.build(Time::ZERO),
            rng: Key::new(seed).named("scheduler").rng(),
            pending: BTreeSet::new(),
            zone_losses: vec![0; spec.zones.len() + 1],
            built: vec![0; spec.pools.len()],
        };
        for (pool, of) in spec.pools.iter().enumerate() {
            for number in 0..of.nodes {
                let zone = if of.zones.is_empty() { 0 } else { of.zones[number as usize % of.zones.len()] };
                let node = cluster.add(pool as u32, zone, Phase::Ready, Time::ZERO);
                cluster.nodes[node as usize].launched = Time::ZERO;
                cluster.enrol(node, of);
            }
        }
        cluster
    }

    /// A node of a pool in the given phase.
    pub(super) fn add(&mut self, pool: u32, zone: u32, phase: Phase, now: Time) -> u32 {
        let number = self.built[pool as usize];
        self.built[pool as usize] += 1;
        self.nodes.push(Node {
            pool,
            zone,
            number,
            phase,
            since: now,
            alive: true,
            turned: now,
            faults: 0,
            reclaimed: 0,
            cordons: 0,
            taken: false,
            changed: now,
            launched: Time::MAX,
            gone_at: Time::MAX,
            guests: Vec::new(),
            requested: Resources::ZERO,
            non_zero_requested: Resources::ZERO,
            pods: 0,
            images: Store::default(),
            seat: NIL,
        });
        self.nodes.len() as u32 - 1
    }

    /// Instances may be placed on a node from now on.
    pub(super) fn enrol(&mut self, node: u32, pool: &PoolSpec) {
        self.nodes[node as usize].seat = self.roster.len() as u32;
        self.roster.push(node);
        self.views.push(NodeView {
            eligible: false,
            allocatable: allocatable(pool),
            max_pods: pool.max_pods,
            requested: Resources::ZERO,
            non_zero_requested: Resources::ZERO,
            pods: 0,
            zone: self.nodes[node as usize].zone,
            same: 0,
            has_image: false,
        });
        self.seen_by = None;
    }

    /// A node is gone for good.
    pub(super) fn strike_off(&mut self, node: u32) {
        let seat = std::mem::replace(&mut self.nodes[node as usize].seat, NIL);
        if seat == NIL {
            return;
        }
        self.roster.remove(seat as usize);
        self.views.remove(seat as usize);
        for &later in &self.roster[seat as usize..] {
            self.nodes[later as usize].seat -= 1;
        }
    }

    /// What the scheduler sees is out of date.
    pub(super) const fn look_again(&mut self) {
        self.seen_by = None;
    }

    /// The view of a node that instances may be placed on.
    fn view(&mut self, node: u32) -> Option<&mut NodeView> {
        let seat = self.nodes[node as usize].seat;
        (seat != NIL).then(|| &mut self.views[seat as usize])
    }

    /// Takes room on a node.
    fn take_room(&mut self, node: u32, room: Resources) {
        let state = &mut self.nodes[node as usize];
        state.requested += room;
        state.non_zero_requested += or_default(room);
        state.pods += 1;
        self.show_room(node);
    }

    /// Gives it back.
    fn give_room(&mut self, node: u32, room: Resources) {
        let state = &mut self.nodes[node as usize];
        state.requested -= room;
        state.non_zero_requested -= or_default(room);
        state.pods -= 1;
        self.show_room(node);
    }

    /// Takes other room than before, if there is as much.
    pub(super) fn change_room(&mut self, spec: &Spec, node: u32, has: Resources, wants: Resources) -> Fit {
        let state = &self.nodes[node as usize];
        let most = allocatable(&spec.pools[state.pool as usize]);
        let others = state.requested - has;
        let parts = [
            (has.cpu_milli, wants.cpu_milli, others.cpu_milli, most.cpu_milli),
            (has.memory, wants.memory, others.memory, most.memory),
        ];
        let grows = || parts.iter().filter(|(has, wants, ..)| wants > has);
        if grows().any(|(_, wants, _, most)| wants > most) {
            return Fit::Never;
        }
        if grows().any(|(_, wants, others, most)| others + wants > *most) {
            return Fit::NotNow;
        }
        self.give_room(node, has);
        self.take_room(node, wants);
        Fit::Done
    }

    fn show_room(&mut self, node: u32) {
        let Node { requested, non_zero_requested, pods, .. } = self.nodes[node as usize];
        if let Some(view) = self.view(node) {
            (view.requested, view.non_zero_requested, view.pods) = (requested, non_zero_requested, pods);
        }
    }
}

/// What a node of a pool offers.
pub(super) fn allocatable(pool: &PoolSpec) -> Resources {
    Resources {
        cpu_milli: (pool.cores * 1000.0).round() as i64,
        memory: i64::try_from(pool.memory).unwrap_or(i64::MAX),
    }
}

/// What counts when nodes are scored.
const fn or_default(room: Resources) -> Resources {
    Resources {
        cpu_milli: if room.cpu_milli == 0 { DEFAULT_REQUEST.cpu_milli } else { room.cpu_milli },
        memory: if room.memory == 0 { DEFAULT_REQUEST.memory } else { room.memory },
    }
}

impl World<'_> {
    /// Finds a node for an instance and takes room there; `None` if no node will do, else whether the image is there
    /// already. Without a node pool an instance needs no node.
    pub(super) fn bind(&mut self, now: Time, index: u32) -> Option<bool> {
        let instance = &self.instances[index as usize];
        let (service, version) = (instance.service, instance.version);
        let spec = &self.spec.services[service as usize];
        let request = spec.request(&instance.more.ask);
        if spec.node_pools.is_empty() {
            self.bind_to(index, NIL, 0, now);
            return Some(false);
        }
        self.look_for(service, version);
        let image = spec.versions[version as usize].image;
        let pod = PodRequest {
            request,
            containers: 1 + spec.sidecars.len() as u32,
            image: i64::try_from(image).unwrap_or(i64::MAX),
            anti_affinity: spec.anti_affinity,
            zone_max_skew: spec.zone_max_skew,
        };
        let cluster = &mut self.cluster;
        let Some(seat) = cluster.scheduler.place(&pod, &cluster.views, &mut cluster.rng) else {
            cluster.pending.insert((service, index));
            return None;
        };
        cluster.pending.remove(&(service, index));
        let node = cluster.roster[seat];
        cluster.take_room(node, pod.request);
        cluster.views[seat].same += 1;
        let state = &mut cluster.nodes[node as usize];
        state.guests.push(index);
        state.changed = now;
        let zone = state.zone;
        // An image whose size nobody knows is there as soon as somebody wants it; see `image` for the others.
        let pulled = if image == 0 {
            let pulled = !state.images.note(service, version);
            cluster.views[seat].has_image = true;
            pulled
        } else {
            state.images.has(service, version)
        };
        self.instances[index as usize].more.room = Some(pod.request);
        self.bind_to(index, node, zone, now);
        Some(pulled)
    }

    /// Fills in what the scheduler sees for a service. Placements keep it up to date, so that many instances of one
    /// service cost no more than a look at each node.
    fn look_for(&mut self, service: u32, version: u8) {
        let cluster = &mut self.cluster;
        if cluster.seen_by.replace((service, version)) == Some((service, version)) {
            return;
        }
        let pools = &self.spec.services[service as usize].node_pools;
        for (view, &node) in cluster.views.iter_mut().zip(&cluster.roster) {
            let node = &cluster.nodes[node as usize];
            view.eligible = node.is_open() && pools.contains(&node.pool);
            view.has_image = node.images.has(service, version);
            view.same = 0;
        }
        for &index in &self.services[service as usize].living {
            let node = self.instances[index as usize].more.node;
            if node != NIL && cluster.nodes[node as usize].seat != NIL {
                cluster.views[cluster.nodes[node as usize].seat as usize].same += 1;
            }
        }
    }

    fn bind_to(&mut self, index: u32, node: u32, zone: u32, now: Time) {
        let instance = &mut self.instances[index as usize];
        instance.more.zone = zone;
        instance.more.node = node;
        instance.more.launched = now;
        let spec = &self.spec.services[instance.service as usize];
        if spec.is_sized() {
            let request = spec.request(&instance.more.ask);
            self.services[instance.service as usize].asked.more(now, request);
        }
        self.join_node(index, node);
        let instance = &self.instances[index as usize];
        let (first, edges) =
            (instance.outbounds as usize, self.spec.services[instance.service as usize].edges.len());
        for outbound in &mut self.outbounds[first..first + edges] {
            outbound.zone = zone;
        }
    }

    /// A dead instance gives its room back.
    pub(super) fn give_back(&mut self, now: Time, index: u32) {
        let more = &mut self.instances[index as usize].more;
        if let Some(room) = more.room.take() {
            let node = more.node;
            self.cluster.give_room(node, room);
            self.cluster.nodes[node as usize].changed = now;
        }
    }

    /// The control plane gives an instance up: it no longer counts as being on its node.
    pub(super) fn strike_guest(&mut self, now: Time, index: u32) {
        self.give_back(now, index);
        let instance = &self.instances[index as usize];
        let (service, node) = (instance.service, instance.more.node);
        if node == NIL {
            return;
        }
        let cluster = &mut self.cluster;
        cluster.nodes[node as usize].guests.retain(|&guest| guest != index);
        if cluster.seen_by.is_some_and(|(seen, _)| seen == service)
            && let Some(view) = cluster.view(node)
        {
            view.same -= 1;
        }
    }

    /// Instances that wait for a node try again.
    pub(super) fn retry_pending(&mut self, now: Time, queue: &mut Queue) {
        let mut from = (0, 0);
        while let Some(&(service, index)) = self.cluster.pending.range(from..).next() {
            self.place_instance(now, queue, index);
            // All of one service ask for the same, as a rule: where one found no room, the next finds none either.
            let alike = !self.spec.services[service as usize].resizes;
            let hopeless = alike && self.instances[index as usize].state == State::Pending;
            from = if hopeless { (service + 1, 0) } else { (service, index + 1) };
        }
    }

    /// A node goes down with all its instances.
    pub(super) fn lose_node(&mut self, now: Time, queue: &mut Queue, node: u32) -> Flow {
        let state = &mut self.cluster.nodes[node as usize];
        state.faults += 1;
        if !std::mem::replace(&mut state.alive, false) {
            return Ok(());
        }
        state.turned = now;
        if state.phase == Phase::Booting {
            self.node_failed(now, node, "lost before it was ready");
            return Ok(());
        }
        if state.phase == Phase::Gone {
            return Ok(());
        }
        self.cluster.look_again();
        self.log_node(now, node, "lost");
        self.note_nodes(now, node);
        self.drop_pulls(now, queue, node);
        let mut guests = self.cluster.nodes[node as usize].guests.clone();
        guests.sort_unstable();
        for index in guests {
            self.kill(now, queue, index, true)?;
        }
        Ok(())
    }

    /// A fault of a node ends. After the last one it is back, empty, with no images.
    pub(super) fn restore_node(&mut self, now: Time, queue: &mut Queue, node: u32) -> Flow {
        let state = &mut self.cluster.nodes[node as usize];
        state.faults -= 1;
        if state.faults > 0 {
            return Ok(());
        }
        state.alive = true;
        state.turned = now;
        if state.phase == Phase::Gone {
            return Ok(());
        }
        state.images = Store::default();
        self.cluster.look_again();
        self.log_node(now, node, "back");
        self.note_nodes(now, node);
        // Its old instances report as dead at once, so they are replaced now.
        let mut gone = self.cluster.nodes[node as usize].guests.clone();
        gone.sort_unstable();
        for &index in &gone {
            self.give_back(now, index);
        }
        for index in gone {
            self.evict(now, queue, index)?;
        }
        self.retry_pending(now, queue);
        Ok(())
    }

    pub(super) fn node_name(&self, node: u32) -> String {
        let state = &self.cluster.nodes[node as usize];
        format!("{}-{}", self.spec.pools[state.pool as usize].name, state.number)
    }

    pub(super) fn log_node(&mut self, now: Time, node: u32, what: &str) {
        let name = self.node_name(node);
        self.telemetry.log(now, "node", name, what.to_owned());
    }

    /// Memory of the nodes that a service can use.
    pub(super) fn memory_available(&self, pools: &[u32]) -> u64 {
        if pools.is_empty() {
            return u64::MAX;
        }
        let nodes = self.cluster.nodes.iter().filter(|node| node.is_up() && pools.contains(&node.pool));
        nodes.map(|node| self.spec.pools[node.pool as usize].memory).sum()
    }
}
