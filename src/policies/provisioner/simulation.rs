//! Where instances would go: a copy of the cluster in which provisioners try things out, by the filters of the scheduler.

use super::{Cluster, Group, NodeState, Pod};
use crate::policies::scheduler::AntiAffinity;
use crate::policies::view::Resources;

/// A node in the copy.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// Whether instances may be put there.
    pub(super) open: bool,
    /// What it is, or may become, a bit for each kind.
    pub(super) kinds: u64,
    zone: u32,
    free: Resources,
    pods_left: u32,
    /// Services of the instances there, one entry for each.
    owners: Vec<u32>,
}

/// The copy: first the nodes of the cluster, in their order, then new ones that are only thought of.
#[derive(Clone, Debug, Default)]
pub(super) struct Simulation {
    pub(super) slots: Vec<Slot>,
}

impl Simulation {
    /// The cluster as it is. Ready nodes are open, upcoming ones are too unless `gone` says that they will not come.
    pub(super) fn new(cluster: &Cluster<'_>, gone: impl Fn(usize) -> bool) -> Self {
        let mut slots: Vec<Slot> = cluster
            .nodes
            .iter()
            .enumerate()
            .map(|(at, node)| Slot {
                open: matches!(node.state, NodeState::Ready | NodeState::Upcoming) && !gone(at),
                kinds: 1 << node.kind,
                zone: node.zone,
                free: node.allocatable,
                pods_left: node.max_pods,
                owners: Vec::new(),
            })
            .collect();
        for pod in cluster.pods {
            if let Some(node) = pod.node {
                slots[node as usize].add(pod);
            }
        }
        Self { slots }
    }

    /// Adds an empty node of a group and gives its index.
    pub(super) fn open_new(&mut self, group: &Group) -> usize {
        self.slots.push(Slot {
            open: true,
            kinds: 1 << group.kind,
            zone: group.zone,
            free: group.allocatable,
            pods_left: group.max_pods,
            owners: Vec::new(),
        });
        self.slots.len() - 1
    }

    /// Whether the instance could go there.
    pub(super) fn fits(&self, at: usize, pod: &Pod) -> bool {
        let slot = &self.slots[at];
        slot.open
            && slot.kinds & pod.kinds != 0
            && slot.pods_left > 0
            && pod.request.fits(slot.free)
            && match pod.anti_affinity {
                AntiAffinity::None => true,
                AntiAffinity::Node => !slot.owners.contains(&pod.owner),
                AntiAffinity::Zone => {
                    let mut same_zone = self.slots.iter().filter(|other| other.zone == slot.zone);
                    !same_zone.any(|other| other.owners.contains(&pod.owner))
                }
            }
    }

    /// Puts the instance on the first node among `range` that takes it.
    pub(super) fn place(&mut self, range: std::ops::Range<usize>, pod: &Pod) -> Option<usize> {
        let at = range.into_iter().find(|&at| self.fits(at, pod))?;
        self.slots[at].add(pod);
        Some(at)
    }

    /// Puts the instance there, whether it fits or not.
    pub(super) fn add(&mut self, at: usize, pod: &Pod) {
        self.slots[at].add(pod);
    }

    /// Closes nodes and moves their instances elsewhere among `range`. On success the moves stay; otherwise nothing has
    /// changed and the answer is false. Instances of the daemon kind go with their node.
    pub(super) fn vacate(
        &mut self,
        nodes: &[usize],
        range: std::ops::Range<usize>,
        cluster: &Cluster<'_>,
        guests: &mut Guests,
    ) -> bool {
        for &at in nodes {
            self.slots[at].open = false;
        }
        let mut moves: Vec<(usize, usize, usize)> = Vec::new();
        let mut ok = true;
        'nodes: for &from in nodes {
            for &index in guests.of(from) {
                let pod = &cluster.pods[index];
                if pod.daemon {
                    continue;
                }
                // It leaves before it is looked for a place, so that it does not repel itself.
                self.slots[from].remove(pod);
                let to = if pod.movable { self.place(range.clone(), pod) } else { None };
                let Some(to) = to else {
                    self.slots[from].add(pod);
                    ok = false;
                    break 'nodes;
                };
                moves.push((index, from, to));
            }
        }
        if ok {
            for (index, from, to) in moves {
                guests.note(index, from, to);
            }
        } else {
            for (index, from, to) in moves.into_iter().rev() {
                self.slots[to].remove(&cluster.pods[index]);
                self.slots[from].add(&cluster.pods[index]);
            }
            for &at in nodes {
                self.slots[at].open = true;
            }
        }
        ok
    }
}

impl Slot {
    fn add(&mut self, pod: &Pod) {
        self.free -= pod.request;
        self.pods_left = self.pods_left.saturating_sub(1);
        self.owners.push(pod.owner);
    }

    fn remove(&mut self, pod: &Pod) {
        self.free += pod.request;
        self.pods_left += 1;
        let at = self.owners.iter().rposition(|&owner| owner == pod.owner);
        self.owners.swap_remove(at.expect("what is removed was added before"));
    }
}

/// Which instances are where in a simulation, by index.
#[derive(Clone, Debug)]
pub(super) struct Guests {
    by_slot: Vec<Vec<usize>>,
}

impl Guests {
    /// As things are.
    pub(super) fn new(cluster: &Cluster<'_>) -> Self {
        let mut by_slot = vec![Vec::new(); cluster.nodes.len()];
        for (index, pod) in cluster.pods.iter().enumerate() {
            if let Some(node) = pod.node {
                by_slot[node as usize].push(index);
            }
        }
        Self { by_slot }
    }

    /// The instances on a node.
    pub(super) fn of(&self, at: usize) -> &[usize] {
        self.by_slot.get(at).map_or(&[], Vec::as_slice)
    }

    /// An instance that was nowhere is on a node now.
    pub(super) fn arrive(&mut self, index: usize, at: usize) {
        if at >= self.by_slot.len() {
            self.by_slot.resize(at + 1, Vec::new());
        }
        self.by_slot[at].push(index);
    }

    fn note(&mut self, index: usize, from: usize, to: usize) {
        self.by_slot[from].retain(|&other| other != index);
        self.arrive(index, to);
    }
}

/// How large an instance is for a node: the sum of its shares of CPU and memory. Large ones are packed first.
pub(super) fn size_for(request: Resources, allocatable: Resources) -> f64 {
    let share = |part: i64, whole: i64| if whole > 0 { part as f64 / whole as f64 } else { 0.0 };
    share(request.cpu_milli, allocatable.cpu_milli) + share(request.memory, allocatable.memory)
}

/// What builds clusters for tests of provisioners.
#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::policies::provisioner::Node;
    use crate::time::Time;

    pub(in crate::policies::provisioner) const GIB: i64 = 1 << 30;

    pub(in crate::policies::provisioner) fn resources(cpu_milli: i64) -> Resources {
        Resources { cpu_milli, memory: cpu_milli * (GIB / 1000) }
    }

    pub(in crate::policies::provisioner) fn group(cpu_milli: i64, target: u32, price: f64) -> Group {
        Group {
            allocatable: resources(cpu_milli),
            max_pods: 110,
            zone: 0,
            kind: 0,
            min: 0,
            max: 100,
            target,
            price,
            priority: 0,
        }
    }

    pub(in crate::policies::provisioner) fn node(id: u32, group: u32, cpu_milli: i64) -> Node {
        Node {
            id,
            group: Some(group),
            state: NodeState::Ready,
            since: Time::ZERO,
            changed: Time::ZERO,
            allocatable: resources(cpu_milli),
            max_pods: 110,
            zone: 0,
            kind: 0,
        }
    }

    pub(in crate::policies::provisioner) fn pod(cpu_milli: i64, node: Option<u32>) -> Pod {
        Pod {
            owner: 0,
            request: resources(cpu_milli),
            kinds: 1,
            node,
            created: Time::ZERO,
            anti_affinity: AntiAffinity::None,
            movable: true,
            daemon: false,
        }
    }

    #[test]
    fn moves_are_all_or_nothing() {
        let nodes = [node(1, 0, 4000), node(2, 0, 4000)];
        let pods = [pod(1000, Some(0)), pod(1500, Some(0)), pod(2000, Some(1))];
        let cluster = Cluster { groups: &[], nodes: &nodes, pods: &pods };
        let mut simulation = Simulation::new(&cluster, |_| false);
        let mut guests = Guests::new(&cluster);
        let free = |simulation: &Simulation| {
            simulation.slots.iter().map(|slot| slot.free.cpu_milli).collect::<Vec<_>>()
        };
        assert_eq!(free(&simulation), [1500, 2000]);
        assert!(!simulation.vacate(&[0], 0..2, &cluster, &mut guests));
        assert_eq!((free(&simulation), guests.of(0)), (vec![1500, 2000], &[0, 1][..]));
        assert!(!simulation.vacate(&[1], 0..2, &cluster, &mut guests));
        let daemon = [Pod { daemon: true, ..pods[0] }, pods[1], pods[2]];
        let cluster = Cluster { pods: &daemon, ..cluster };
        assert!(simulation.vacate(&[0], 0..2, &cluster, &mut guests));
        assert_eq!((guests.of(0), guests.of(1)), (&[0][..], &[2, 1][..]));
    }

    #[test]
    fn anti_affinity_holds_in_simulations() {
        let nodes = [node(1, 0, 4000), Node { zone: 1, ..node(2, 0, 4000) }];
        let pods = [pod(1000, Some(0))];
        let cluster = Cluster { groups: &[], nodes: &nodes, pods: &pods };
        let mut simulation = Simulation::new(&cluster, |_| false);
        let apart = Pod { anti_affinity: AntiAffinity::Zone, ..pod(1000, None) };
        assert_eq!(simulation.place(0..2, &apart), Some(1));
        assert_eq!(simulation.place(0..2, &apart), None);
        assert_eq!(simulation.place(0..2, &Pod { owner: 7, ..apart }), Some(0));
        assert_eq!(simulation.place(0..2, &Pod { owner: 8, kinds: 2, ..apart }), None);
    }
}
