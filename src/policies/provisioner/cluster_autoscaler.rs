//! The Kubernetes cluster autoscaler: adds nodes for pods that fit nowhere, removes nodes that are not needed.
//!
//! ## What it does
//! Every `scan-interval` it takes the pods that the scheduler could not place, leaves out those that fit on existing or
//! upcoming nodes, packs the rest onto nodes of each group (first fit, large ones first) and lets the expander choose one
//! group to grow. If nothing had to grow it looks for nodes whose *requests* are at most
//! `scale-down-utilization-threshold` of what they offer (CPU or memory, whichever is more) and whose pods all fit
//! elsewhere. What stays like this for longer than `scale-down-unneeded-time` is removed: empty nodes in bulk, others one by
//! one. After growing, removing waits for `scale-down-delay-after-add`, while the clocks go on. A node that does not come within
//! `max-node-provision-time` is given up, and its group left alone for 5 to 30 minutes.
//!
//! ## When it helps
//! In any cluster whose load has a night. Requests must be right: it sees nothing else.
//!
//! ## How it fails
//! * A flood meets the whole chain: HPA, scheduler, scan, node (minutes), image, start.
//! * One pod that may not move, or a disruption budget without slack, keeps a node.
//! * Spread services leave all nodes a little above the threshold, and no node is ever removed.
//! * A provider without capacity stops the growth of one group for minutes at a time; with one group that is all growth.
//! * More than 45 % of the nodes not ready stops everything, as a protection, in exactly the outage in which nodes are short.
//!
//! ## Settings
//! Flags of the same names: `scan-interval` (`"10s"`), `expander` (`"least-waste"`; `"random"`, `"most-pods"`,
//! `"least-nodes"`, `"price"`, `"priority"`), `max-node-provision-time` (`"15min"`), `max-nodes-total` (0: no limit),
//! `max-nodes-per-scaleup` (1000), `balance-similar-node-groups` (false), `new-pod-scale-up-delay` (`"0s"`),
//! `scale-down-enabled` (true), `scale-down-utilization-threshold` (`"50%"`), `scale-down-unneeded-time` (`"10min"`),
//! `scale-down-unready-time` (`"20min"`), `scale-down-delay-after-add` (`"10min"`), `scale-down-delay-after-delete`
//! (`"0s"`), `scale-down-delay-after-failure` (`"3min"`), `unremovable-node-recheck-timeout` (`"5min"`),
//! `max-scale-down-parallelism` (10), `max-drain-parallelism` (1), `max-graceful-termination` (`"10min"`),
//! `initial-node-group-backoff-duration` (`"5min"`), `max-node-group-backoff-duration` (`"30min"`),
//! `node-group-backoff-reset-timeout` (`"3h"`), `ok-total-unready-count` (3), `max-total-unready-percentage` (`"45%"`),
//! `ignore-daemonsets-utilization` (false).
//!
//! ## Origin
//! kubernetes/autoscaler, tag cluster-autoscaler-1.36.0, `cluster-autoscaler`: `core/static_autoscaler.go` (`RunOnce`),
//! `core/scaleup/orchestrator`, `estimator/binpacking_estimator.go`, `expander/*`, `core/scaledown` (`planner`,
//! `eligibility`, `unneeded`, `budgets`), `clusterstate/clusterstate.go`, `utils/backoff/exponential_backoff.go`.
//!
//! ## Deliberate differences
//! * Simulated pods go to the first node that fits; upstream begins its search where the last one ended.
//! * The pool of scale-down candidates is not limited; pods are not grouped by owner (equal ones are packed alike anyway).
//! * The priority expander reads the rank of the group instead of a config map of regular expressions; `price` is the
//!   price of the new nodes, without upstream's preferred node size.
//! * GPUs, node groups that are created on the fly, atomic groups and limits on total cores are not modelled.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::simulation::{Guests, Simulation, size_for};
use super::{Cluster, Decision, Failure, NodeState, Pod, Provisioner};
use crate::policies::Algorithm;
use crate::policies::view::Resources;
use crate::random::Rng;
use crate::time::{Duration, Time};
use crate::units::Share;

/// If even the oldest pod is younger than this, more are likely on their way (`unschedulablePodTimeBuffer`).
const TIME_BUFFER: Duration = Duration::from_secs(2);

/// Settings of [`ClusterAutoscaler`], with the names of its flags.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, remote = "Self")]
pub struct ClusterAutoscalerSettings {
    /// Time between looks, not zero.
    pub scan_interval: Duration,
    /// How one of several groups is chosen.
    pub expander: Expander,
    /// A node that takes longer is given up.
    pub max_node_provision_time: Duration,
    /// Most nodes in all, 0 for no limit.
    pub max_nodes_total: u32,
    /// Most nodes added at once, at least 1.
    pub max_nodes_per_scaleup: u32,
    /// Whether groups with equal nodes are kept at equal sizes.
    pub balance_similar_node_groups: bool,
    /// Younger pods are left alone.
    pub new_pod_scale_up_delay: Duration,
    /// Whether nodes are removed.
    pub scale_down_enabled: bool,
    /// A node may go if at most this share of it is requested.
    pub scale_down_utilization_threshold: Share,
    /// It goes after so long.
    pub scale_down_unneeded_time: Duration,
    /// The same for a node that is not ready.
    pub scale_down_unready_time: Duration,
    /// No removal so long after nodes were added ...
    pub scale_down_delay_after_add: Duration,
    /// ... removed ...
    pub scale_down_delay_after_delete: Duration,
    /// ... or could not be removed.
    pub scale_down_delay_after_failure: Duration,
    /// A node whose pods fit nowhere else is not tried again for so long.
    pub unremovable_node_recheck_timeout: Duration,
    /// Most nodes being removed at once.
    pub max_scale_down_parallelism: u32,
    /// Most nodes with pods being removed at once.
    pub max_drain_parallelism: u32,
    /// The longest that an evicted pod may take to end.
    pub max_graceful_termination: Duration,
    /// A group that failed is left alone for so long ...
    pub initial_node_group_backoff_duration: Duration,
    /// ... doubled with each further failure, up to this ...
    pub max_node_group_backoff_duration: Duration,
    /// ... and forgotten after this time without any.
    pub node_group_backoff_reset_timeout: Duration,
    /// So many nodes may be not ready in any case.
    pub ok_total_unready_count: u32,
    /// With more nodes not ready than this share nothing is done at all.
    pub max_total_unready_percentage: Share,
    /// Whether pods of daemon sets do not count for the utilization of a node.
    pub ignore_daemonsets_utilization: bool,
}

/// How one of several groups is chosen; among equals at random.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Expander {
    /// Least CPU and memory left over on the new nodes.
    #[default]
    LeastWaste,
    /// Any.
    Random,
    /// The one that helps most pods.
    MostPods,
    /// The one that needs fewest nodes.
    LeastNodes,
    /// The cheapest.
    Price,
    /// The one with the highest rank.
    Priority,
}

impl Default for ClusterAutoscalerSettings {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        Self {
            scan_interval: Duration::from_secs(10),
            expander: Expander::LeastWaste,
            max_node_provision_time: minutes(15),
            max_nodes_total: 0,
            max_nodes_per_scaleup: 1000,
            balance_similar_node_groups: false,
            new_pod_scale_up_delay: Duration::ZERO,
            scale_down_enabled: true,
            scale_down_utilization_threshold: Share(0.5),
            scale_down_unneeded_time: minutes(10),
            scale_down_unready_time: minutes(20),
            scale_down_delay_after_add: minutes(10),
            scale_down_delay_after_delete: Duration::ZERO,
            scale_down_delay_after_failure: minutes(3),
            unremovable_node_recheck_timeout: minutes(5),
            max_scale_down_parallelism: 10,
            max_drain_parallelism: 1,
            max_graceful_termination: minutes(10),
            initial_node_group_backoff_duration: minutes(5),
            max_node_group_backoff_duration: minutes(30),
            node_group_backoff_reset_timeout: minutes(180),
            ok_total_unready_count: 3,
            max_total_unready_percentage: Share(0.45),
            ignore_daemonsets_utilization: false,
        }
    }
}

impl ClusterAutoscalerSettings {
    fn check(&self) -> Result<(), String> {
        for (name, length) in
            [("scan-interval", self.scan_interval), ("max-node-provision-time", self.max_node_provision_time)]
        {
            if length == Duration::ZERO {
                return Err(format!("`{name}` must be longer than zero"));
            }
        }
        for (name, count) in [
            ("max-nodes-per-scaleup", self.max_nodes_per_scaleup),
            ("max-scale-down-parallelism", self.max_scale_down_parallelism),
            ("max-drain-parallelism", self.max_drain_parallelism),
        ] {
            if count == 0 {
                return Err(format!("`{name}` must be at least 1"));
            }
        }
        if self.initial_node_group_backoff_duration > self.max_node_group_backoff_duration {
            return Err(
                "`initial-node-group-backoff-duration` is longer than `max-node-group-backoff-duration`"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for ClusterAutoscalerSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        settings.check().map_err(D::Error::custom)?;
        Ok(settings)
    }
}

/// Why a group is left alone, and for how long.
#[derive(Clone, Copy, Debug)]
struct Backoff {
    duration: Duration,
    until: Time,
    last_failed: Time,
}

/// One way to help pods.
#[derive(Clone, Debug)]
struct Choice {
    group: u32,
    nodes: u32,
    /// Indices of the pods it helps.
    pods: Vec<usize>,
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct ClusterAutoscaler {
    state: Box<State>,
}

#[derive(Clone, Debug)]
struct State {
    settings: ClusterAutoscalerSettings,
    backoffs: BTreeMap<u32, Backoff>,
    /// By group: when its latest order should have come.
    scale_up_requests: BTreeMap<u32, Time>,
    /// By node: since when it has not been needed.
    unneeded: BTreeMap<u32, Time>,
    /// By node: up to when it is not tried again.
    unremovable: BTreeMap<u32, Time>,
    last_scale_up: Option<Time>,
    last_scale_down_delete: Option<Time>,
    last_scale_down_fail: Option<Time>,
}

impl Algorithm for ClusterAutoscaler {
    type Settings = ClusterAutoscalerSettings;

    fn new(settings: &ClusterAutoscalerSettings, _now: Time) -> Self {
        Self {
            state: Box::new(State {
                settings: settings.clone(),
                backoffs: BTreeMap::new(),
                scale_up_requests: BTreeMap::new(),
                unneeded: BTreeMap::new(),
                unremovable: BTreeMap::new(),
                last_scale_up: None,
                last_scale_down_delete: None,
                last_scale_down_fail: None,
            }),
        }
    }
}

impl Provisioner for ClusterAutoscaler {
    fn interval(&self) -> Duration {
        self.state.settings.scan_interval
    }

    fn evaluate(&mut self, now: Time, cluster: &Cluster<'_>, rng: &mut Rng, decisions: &mut Vec<Decision>) {
        self.state.run_once(now, cluster, rng, decisions);
    }

    fn on_failure(&mut self, now: Time, failure: Failure) {
        match failure {
            Failure::Grow { group } => {
                self.state.scale_up_requests.remove(&group);
                self.state.back_off(now, group);
            }
            Failure::Remove { node } => {
                self.state.unneeded.remove(&node);
                self.state.last_scale_down_fail = Some(now);
            }
        }
    }
}

impl State {
    /// `RunOnce`.
    fn run_once(&mut self, now: Time, cluster: &Cluster<'_>, rng: &mut Rng, decisions: &mut Vec<Decision>) {
        self.update_scale_requests(now, cluster);
        let late: Vec<bool> = cluster
            .nodes
            .iter()
            .map(|node| {
                node.state == NodeState::Upcoming && node.since + self.settings.max_node_provision_time < now
            })
            .collect();
        give_up(cluster, &late, decisions);
        if !self.is_cluster_healthy(cluster) {
            self.unneeded.clear();
            return;
        }

        let mut simulation = Simulation::new(cluster, |at| late[at]);
        let mut guests = Guests::new(cluster);
        let to_help = self.filter_out_schedulable(now, cluster, &mut simulation, &mut guests);
        let ready = cluster.nodes.iter().filter(|node| node.state == NodeState::Ready).count();
        let full = self.settings.max_nodes_total > 0 && ready >= self.settings.max_nodes_total as usize;
        let oldest = to_help.iter().map(|&index| cluster.pods[index].created).min();
        let mut scale_down_forbidden = false;
        if let Some(oldest) = oldest
            && !full
        {
            if oldest + TIME_BUFFER > now {
                scale_down_forbidden = true;
            } else if self.scale_up(now, cluster, &late, &to_help, rng, decisions) {
                self.last_scale_up = Some(now);
                return;
            }
        }

        if self.settings.scale_down_enabled {
            let unneeded = self.update_unneeded(now, cluster, &mut simulation, &mut guests);
            if !scale_down_forbidden && !self.is_scale_down_in_cooldown(now) {
                self.scale_down(now, cluster, &unneeded, decisions);
            }
        }
    }

    /// An order is done when nothing of its group is upcoming, and has failed when it takes too long.
    fn update_scale_requests(&mut self, now: Time, cluster: &Cluster<'_>) {
        let reset = self.settings.node_group_backoff_reset_timeout;
        self.backoffs.retain(|_, backoff| backoff.last_failed + reset >= now);
        let requests = std::mem::take(&mut self.scale_up_requests);
        for (group, expected) in requests {
            let upcoming = cluster
                .nodes
                .iter()
                .any(|node| node.group == Some(group) && node.state == NodeState::Upcoming);
            if !upcoming {
                self.backoffs.remove(&group);
            } else if expected < now {
                self.back_off(now, group);
            } else {
                self.scale_up_requests.insert(group, expected);
            }
        }
    }

    fn back_off(&mut self, now: Time, group: u32) {
        let settings = &self.settings;
        let mut duration = settings.initial_node_group_backoff_duration;
        // Several failures of one attempt count once.
        if let Some(backoff) = self.backoffs.get(&group)
            && backoff.until < now
        {
            duration = (backoff.duration * 2).min(settings.max_node_group_backoff_duration);
        }
        self.backoffs.insert(group, Backoff { duration, until: now + duration, last_failed: now });
    }

    fn is_backed_off(&self, now: Time, group: u32) -> bool {
        self.backoffs.get(&group).is_some_and(|backoff| backoff.until > now)
    }

    fn is_cluster_healthy(&self, cluster: &Cluster<'_>) -> bool {
        let unready = cluster.nodes.iter().filter(|node| node.state == NodeState::NotReady).count();
        let registered = cluster.nodes.iter().filter(|node| node.state != NodeState::Upcoming).count();
        unready <= self.settings.ok_total_unready_count as usize
            || unready as f64 <= registered as f64 * self.settings.max_total_unready_percentage.0
    }

    /// Waiting pods that fit on no existing or upcoming node; those that do are put there.
    fn filter_out_schedulable(
        &self,
        now: Time,
        cluster: &Cluster<'_>,
        simulation: &mut Simulation,
        guests: &mut Guests,
    ) -> Vec<usize> {
        let mut to_help = Vec::new();
        for (index, pod) in cluster.pods.iter().enumerate() {
            if pod.node.is_some() {
                continue;
            }
            if let Some(at) = simulation.place(0..simulation.slots.len(), pod) {
                guests.arrive(index, at);
            } else if pod.created + self.settings.new_pod_scale_up_delay <= now {
                to_help.push(index);
            }
        }
        to_help
    }

    /// Grows one group (or several equal ones) for the pods. Says whether it did.
    fn scale_up(
        &mut self,
        now: Time,
        cluster: &Cluster<'_>,
        late: &[bool],
        to_help: &[usize],
        rng: &mut Rng,
        decisions: &mut Vec<Decision>,
    ) -> bool {
        let there = cluster.nodes.iter().zip(late).filter(|(_, late)| !**late).count() as u32;
        let total_left = match self.settings.max_nodes_total {
            0 => u32::MAX,
            most => most.saturating_sub(there),
        };
        let limit = self.settings.max_nodes_per_scaleup.min(total_left);
        let mut choices = Vec::new();
        for group in 0..cluster.groups.len() as u32 {
            let room = self.room(now, cluster, group);
            if room == 0 {
                continue;
            }
            let room = if self.settings.balance_similar_node_groups {
                similar(cluster, group).map(|other| self.room(now, cluster, other)).sum()
            } else {
                room
            };
            let choice = estimate(cluster, group, to_help, limit.min(room));
            if choice.nodes > 0 {
                choices.push(choice);
            }
        }
        let Some(best) = best_option(self.settings.expander, cluster, &choices, rng) else { return false };
        let expected = now + self.settings.max_node_provision_time;
        for (group, nodes) in self.split(now, cluster, best) {
            self.scale_up_requests.insert(group, expected);
            decisions.push(Decision::Grow { group, nodes, reason: "TriggeredScaleUp" });
        }
        true
    }

    /// How many nodes a group may get now.
    fn room(&self, now: Time, cluster: &Cluster<'_>, group: u32) -> u32 {
        if self.is_backed_off(now, group) {
            return 0;
        }
        let group = &cluster.groups[group as usize];
        group.max.saturating_sub(group.target)
    }

    /// How many nodes each group gets.
    fn split(&self, now: Time, cluster: &Cluster<'_>, choice: &Choice) -> Vec<(u32, u32)> {
        if !self.settings.balance_similar_node_groups {
            return vec![(choice.group, choice.nodes)];
        }
        let mut shares: Vec<(u32, u32, u32)> = similar(cluster, choice.group)
            .map(|group| (group, 0, self.room(now, cluster, group)))
            .filter(|&(_, _, room)| room > 0)
            .collect();
        // One by one to the smallest group that has room.
        for _ in 0..choice.nodes {
            let smallest = shares
                .iter_mut()
                .filter(|(_, added, room)| added < room)
                .min_by_key(|(group, added, _)| cluster.groups[*group as usize].target + *added);
            let Some((_, added, _)) = smallest else { break };
            *added += 1;
        }
        shares
            .into_iter()
            .filter(|&(_, added, _)| added > 0)
            .map(|(group, added, _)| (group, added))
            .collect()
    }

    /// Which nodes are not needed, in the order in which they would go, and whether they must be drained; starts and
    /// erases their clocks.
    fn update_unneeded(
        &mut self,
        now: Time,
        cluster: &Cluster<'_>,
        simulation: &mut Simulation,
        guests: &mut Guests,
    ) -> Vec<(usize, bool)> {
        // Upcoming nodes are counted on for waiting pods, but nothing is moved to them.
        for (slot, node) in simulation.slots.iter_mut().zip(cluster.nodes) {
            slot.open &= node.state == NodeState::Ready;
        }
        let range = 0..cluster.nodes.len();
        // What is being evicted needs a place too.
        for (at, node) in cluster.nodes.iter().enumerate() {
            if node.state == (NodeState::Deleting { drained: true }) {
                for index in guests.of(at).to_vec() {
                    let pod = &cluster.pods[index];
                    if !pod.daemon
                        && let Some(to) = simulation.place(range.clone(), pod)
                    {
                        guests.arrive(index, to);
                    }
                }
            }
        }
        self.unremovable.retain(|_, until| *until > now);
        let mut candidates: Vec<(bool, bool, usize)> = range
            .clone()
            .filter(|&at| self.is_eligible(cluster, guests, at))
            .map(|at| {
                let before = self.unneeded.contains_key(&cluster.nodes[at].id);
                (is_occupied(cluster, guests, at), !before, at)
            })
            .collect();
        // Empty ones first, then those that were candidates before.
        candidates.sort_unstable();
        let recheck = now + self.settings.unremovable_node_recheck_timeout;
        let mut unneeded = Vec::new();
        let mut since = BTreeMap::new();
        for (_, _, at) in candidates {
            let id = cluster.nodes[at].id;
            // Others may have been moved here meanwhile.
            let drain = is_occupied(cluster, guests, at);
            if simulation.vacate(&[at], range.clone(), cluster, guests) {
                since.insert(id, self.unneeded.get(&id).copied().unwrap_or(now));
                unneeded.push((at, drain));
            } else {
                // A node that is not ready was closed before and stays so.
                simulation.slots[at].open = cluster.nodes[at].state == NodeState::Ready;
                self.unremovable.insert(id, recheck);
            }
        }
        self.unneeded = since;
        unneeded
    }

    fn is_eligible(&self, cluster: &Cluster<'_>, guests: &Guests, at: usize) -> bool {
        let node = &cluster.nodes[at];
        if node.group.is_none()
            || !matches!(node.state, NodeState::Ready | NodeState::NotReady)
            || self.unremovable.contains_key(&node.id)
        {
            return false;
        }
        let mut requested = Resources::ZERO;
        for &index in guests.of(at) {
            let pod = &cluster.pods[index];
            if !(pod.daemon && self.settings.ignore_daemonsets_utilization) {
                requested += pod.request;
            }
        }
        let share = |part: i64, whole: i64| if whole > 0 { part as f64 / whole as f64 } else { 0.0 };
        let utilization = share(requested.cpu_milli, node.allocatable.cpu_milli)
            .max(share(requested.memory, node.allocatable.memory));
        utilization <= self.settings.scale_down_utilization_threshold.0
    }

    fn is_scale_down_in_cooldown(&self, now: Time) -> bool {
        let settings = &self.settings;
        [
            (self.last_scale_up, settings.scale_down_delay_after_add),
            (self.last_scale_down_delete, settings.scale_down_delay_after_delete),
            (self.last_scale_down_fail, settings.scale_down_delay_after_failure),
        ]
        .into_iter()
        .any(|(last, delay)| last.is_some_and(|last| last + delay > now))
    }

    /// Removes what has not been needed for long enough.
    fn scale_down(
        &mut self,
        now: Time,
        cluster: &Cluster<'_>,
        unneeded: &[(usize, bool)],
        decisions: &mut Vec<Decision>,
    ) {
        let settings = &self.settings;
        let deleting = |wanted: bool| {
            let is =
                |state: NodeState| matches!(state, NodeState::Deleting { drained } if drained || !wanted);
            cluster.nodes.iter().filter(|node| is(node.state)).count() as u32
        };
        let mut parallelism = settings.max_scale_down_parallelism.saturating_sub(deleting(false));
        let mut drains = settings.max_drain_parallelism.saturating_sub(deleting(true));
        let mut sizes: Vec<u32> = cluster.groups.iter().map(|group| group.target).collect();
        let mut any = false;
        for drain in [false, true] {
            for &(at, _) in unneeded.iter().filter(|(_, drained)| *drained == drain) {
                let node = &cluster.nodes[at];
                let long = match node.state {
                    NodeState::Ready => settings.scale_down_unneeded_time,
                    _ => settings.scale_down_unready_time,
                };
                let group = node.group.expect("only nodes of groups are candidates") as usize;
                if self.unneeded[&node.id] + long >= now || sizes[group] <= cluster.groups[group].min {
                    continue;
                }
                // Counted down even where the budget then ends, as upstream does.
                sizes[group] -= 1;
                if parallelism == 0 || (drain && drains == 0) {
                    continue;
                }
                parallelism -= 1;
                drains -= u32::from(drain);
                any = true;
                decisions.push(Decision::Remove {
                    node: node.id,
                    drain,
                    grace: settings.max_graceful_termination,
                    reason: if drain { "ScaleDown" } else { "ScaleDownEmpty" },
                });
            }
        }
        if any {
            self.last_scale_down_delete = Some(now);
        }
    }
}

/// Cancels nodes that do not come (`removeOldUnregisteredNodes`).
fn give_up(cluster: &Cluster<'_>, late: &[bool], decisions: &mut Vec<Decision>) {
    let mut left: Vec<u32> = cluster.groups.iter().map(|group| group.target).collect();
    for (node, _) in cluster.nodes.iter().zip(late).filter(|(_, late)| **late) {
        let Some(group) = node.group else { continue };
        let group = group as usize;
        if left[group] > cluster.groups[group].min {
            left[group] -= 1;
            decisions.push(Decision::GiveUp { node: node.id });
        }
    }
}

/// Whether anything on the node would have to be moved.
fn is_occupied(cluster: &Cluster<'_>, guests: &Guests, at: usize) -> bool {
    guests.of(at).iter().any(|&index| !cluster.pods[index].daemon)
}

/// The groups with nodes equal to those of `group`, itself included.
fn similar<'a>(cluster: &Cluster<'a>, group: u32) -> impl Iterator<Item = u32> + use<'a> {
    let groups = cluster.groups;
    let like = &groups[group as usize];
    (0..groups.len() as u32).filter(move |&other| {
        let other = &groups[other as usize];
        other.allocatable == like.allocatable && other.max_pods == like.max_pods
    })
}

/// How many nodes of a group the pods need, and which of them that helps: first fit, large ones first (`Estimate`).
fn estimate(cluster: &Cluster<'_>, group: u32, to_help: &[usize], limit: u32) -> Choice {
    let template = &cluster.groups[group as usize];
    let mut order: Vec<(f64, usize)> = to_help
        .iter()
        .map(|&index| (size_for(cluster.pods[index].request, template.allocatable), index))
        .collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    // Only new nodes are packed; the pods did not fit on the others. Neighbours in the zone still repel.
    let mut simulation = Simulation::new(cluster, |_| false);
    let first = simulation.slots.len();
    for slot in &mut simulation.slots {
        slot.open = false;
    }
    let mut pods = Vec::new();
    for (_, index) in order {
        let pod = &cluster.pods[index];
        let end = simulation.slots.len();
        if simulation.place(first..end, pod).is_some() {
            pods.push(index);
            continue;
        }
        if (end - first) as u32 >= limit {
            continue;
        }
        let at = simulation.open_new(template);
        if simulation.fits(at, pod) {
            simulation.add(at, pod);
            pods.push(index);
        } else {
            simulation.slots.pop();
        }
    }
    Choice { group, nodes: (simulation.slots.len() - first) as u32, pods }
}

/// The choice of the expander; one of the best at random.
fn best_option<'a>(
    expander: Expander,
    cluster: &Cluster<'_>,
    choices: &'a [Choice],
    rng: &mut Rng,
) -> Option<&'a Choice> {
    // Less is better.
    let badness = |choice: &Choice| -> f64 {
        let group = &cluster.groups[choice.group as usize];
        let nodes = f64::from(choice.nodes);
        match expander {
            Expander::Random => 0.0,
            Expander::MostPods => -(choice.pods.len() as f64),
            Expander::LeastNodes => nodes,
            Expander::Price => nodes * group.price,
            Expander::Priority => -f64::from(group.priority),
            Expander::LeastWaste => {
                let wasted = |all: i64, used: i64| {
                    let all = all * i64::from(choice.nodes);
                    (all - used) as f64 / all as f64
                };
                let requests = |part: fn(&Pod) -> i64| -> i64 {
                    choice.pods.iter().map(|&index| part(&cluster.pods[index])).sum()
                };
                wasted(group.allocatable.cpu_milli, requests(|pod| pod.request.cpu_milli))
                    + wasted(group.allocatable.memory, requests(|pod| pod.request.memory))
            }
        }
    };
    let mut best: Vec<&Choice> = Vec::new();
    let mut least = f64::INFINITY;
    for choice in choices {
        let badness = badness(choice);
        if badness < least {
            best.clear();
            least = badness;
        }
        if badness <= least {
            best.push(choice);
        }
    }
    match best[..] {
        [] => None,
        [only] => Some(only),
        _ => Some(best[rng.index(best.len() as u32) as usize]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::provisioner::simulation::tests::{group, node, pod};
    use crate::policies::provisioner::{Group, Node};
    use crate::random::Key;

    fn autoscaler(text: &str) -> ClusterAutoscaler {
        ClusterAutoscaler::new(&toml::from_str(text).unwrap(), Time::ZERO)
    }

    fn ask(
        autoscaler: &mut ClusterAutoscaler,
        secs: u64,
        groups: &[Group],
        nodes: &[Node],
        pods: &[Pod],
    ) -> Vec<Decision> {
        let mut decisions = Vec::new();
        let cluster = Cluster { groups, nodes, pods };
        autoscaler.evaluate(Time::from_secs(secs), &cluster, &mut Key::new(1).rng(), &mut decisions);
        decisions
    }

    fn grow(group: u32, nodes: u32) -> Decision {
        Decision::Grow { group, nodes, reason: "TriggeredScaleUp" }
    }

    fn remove(node: u32, drain: bool) -> Decision {
        let reason = if drain { "ScaleDown" } else { "ScaleDownEmpty" };
        Decision::Remove { node, drain, grace: Duration::from_secs(600), reason }
    }

    #[test]
    fn grows_for_what_fits_nowhere() {
        let groups = [group(4000, 1, 1.0)];
        let nodes = [node(1, 0, 4000)];
        let mut pods = vec![pod(3000, Some(0)), pod(1000, None)];
        let mut scaler = autoscaler("");
        assert_eq!(ask(&mut scaler, 10, &groups, &nodes, &pods), [], "it fits, the scheduler is only late");
        pods.extend([pod(3000, None), pod(1500, None), pod(1500, None), pod(5000, None)]);
        // Large ones first: 3000, then 1500 + 1500; 5000 fits on no node.
        assert_eq!(ask(&mut scaler, 20, &groups, &nodes, &pods), [grow(0, 2)]);
        // Upcoming nodes count.
        let upcoming = Node { state: NodeState::Upcoming, since: Time::from_secs(20), ..node(2, 0, 4000) };
        let nodes = [nodes[0], upcoming, Node { id: 3, ..upcoming }];
        assert_eq!(ask(&mut scaler, 30, &[Group { target: 3, ..groups[0] }], &nodes, &pods), []);
    }

    #[test]
    fn waits_for_young_pods_and_keeps_to_its_limits() {
        let groups = [Group { max: 3, ..group(4000, 1, 1.0) }];
        let young = vec![Pod { created: Time::from_secs(9), ..pod(3000, None) }; 5];
        let mut scaler = autoscaler("");
        assert_eq!(ask(&mut scaler, 10, &groups, &[], &young), []);
        assert_eq!(ask(&mut scaler, 20, &groups, &[], &young), [grow(0, 2)], "at most 3");
        assert_eq!(ask(&mut scaler, 30, &[Group { target: 3, ..groups[0] }], &[], &young), []);
        let mut scaler = autoscaler("max-nodes-total = 2\nnew-pod-scale-up-delay = '1min'");
        let nodes = [node(1, 0, 1000)];
        assert_eq!(ask(&mut scaler, 20, &groups, &nodes, &young), []);
        assert_eq!(ask(&mut scaler, 70, &groups, &nodes, &young), [grow(0, 1)]);
    }

    #[test]
    fn expanders_choose() {
        let groups = [
            Group { priority: 1, ..group(4000, 0, 1.0) },
            Group { priority: 5, ..group(16_000, 0, 5.0) },
            group(2000, 0, 0.4),
        ];
        let pods: Vec<Pod> = [2000, 2000, 3000].into_iter().map(|cpu| pod(cpu, None)).collect();
        let answer = |expander: &str| {
            ask(&mut autoscaler(&format!("expander = '{expander}'")), 10, &groups, &[], &pods)
        };
        // 2 nodes of 2 cores for the small pods waste nothing, but leave the large one alone.
        assert_eq!(answer("least-waste"), [grow(2, 2)]);
        assert_eq!(answer("most-pods").len(), 1);
        assert_ne!(answer("most-pods"), [grow(2, 2)]);
        assert_eq!(answer("least-nodes"), [grow(1, 1)]);
        assert_eq!(answer("priority"), [grow(1, 1)]);
        assert_eq!(answer("price"), [grow(2, 2)]);
        let balanced = [Group { target: 3, ..group(4000, 3, 1.0) }, Group { zone: 1, ..group(4000, 1, 1.0) }];
        let pods = vec![pod(4000, None); 4];
        let mut scaler = autoscaler("balance-similar-node-groups = true");
        assert_eq!(ask(&mut scaler, 10, &balanced, &[], &pods), [grow(0, 1), grow(1, 3)]);
    }

    #[test]
    fn removes_empty_nodes_in_bulk_and_others_one_by_one() {
        let groups = [Group { min: 1, ..group(4000, 6, 1.0) }];
        let nodes: Vec<Node> = (1..=6).map(|id| node(id, 0, 4000)).collect();
        // Nodes 4 to 6 are empty; 2 and 3 are half full and fit onto 1.
        let pods = [pod(1000, Some(0)), pod(2000, Some(0)), pod(500, Some(1)), pod(500, Some(2))];
        let mut scaler = autoscaler("");
        for tick in 0..=60 {
            assert_eq!(
                ask(&mut scaler, tick * 10, &groups, &nodes, &pods),
                [],
                "{tick}: strictly after 10 min"
            );
        }
        assert_eq!(
            ask(&mut scaler, 610, &groups, &nodes, &pods),
            [remove(4, false), remove(5, false), remove(6, false), remove(2, true)]
        );
        // While one is drained no other is.
        let mut later = nodes[..3].to_vec();
        later[1].state = NodeState::Deleting { drained: true };
        assert_eq!(ask(&mut scaler, 620, &[Group { target: 2, ..groups[0] }], &later, &pods), []);
        let later = [nodes[0], nodes[2]];
        let pods = [pod(3500, Some(0)), pod(500, Some(1))];
        assert_eq!(
            ask(&mut scaler, 630, &[Group { target: 2, ..groups[0] }], &later, &pods),
            [remove(3, true)]
        );
    }

    #[test]
    fn clocks_are_erased_and_go_on_in_cooldown() {
        let groups = [group(4000, 2, 1.0)];
        let nodes = [node(1, 0, 4000), node(2, 0, 4000)];
        let busy = [pod(3000, Some(0)), pod(3000, Some(1))];
        let calm = [pod(3000, Some(0)), pod(1000, Some(1))];
        let mut scaler = autoscaler("unremovable-node-recheck-timeout = '0s'");
        for tick in 0..50 {
            ask(&mut scaler, tick * 10, &groups, &nodes, &calm);
        }
        ask(&mut scaler, 500, &groups, &nodes, &busy);
        for tick in 51..=111 {
            assert_eq!(ask(&mut scaler, tick * 10, &groups, &nodes, &calm), [], "{tick}");
        }
        assert_eq!(ask(&mut scaler, 1120, &groups, &nodes, &calm), [remove(2, true)]);

        // A scale-up at 300 s forbids removals up to 900 s; the clock since 0 s goes on meanwhile.
        let mut scaler = autoscaler("");
        let mut with_new = calm.to_vec();
        with_new.push(pod(4000, None));
        for tick in 0..=120 {
            let now = tick * 10;
            let pods = if now == 300 { &with_new[..] } else { &calm[..] };
            let got = ask(&mut scaler, now, &groups, &nodes, pods);
            match now {
                300 => assert_eq!(got, [grow(0, 1)]),
                0..900 => assert_eq!(got, [], "{now}"),
                900 => assert_eq!(got, [remove(2, true)]),
                _ => {}
            }
        }
    }

    #[test]
    fn what_may_not_move_keeps_its_node() {
        let groups = [group(4000, 2, 1.0)];
        let nodes = [node(1, 0, 4000), node(2, 0, 4000)];
        let fixed = [pod(3000, Some(0)), Pod { movable: false, ..pod(100, Some(1)) }];
        let mut scaler = autoscaler("");
        for tick in 0..200 {
            assert_eq!(ask(&mut scaler, tick * 10, &groups, &nodes, &fixed), []);
        }
        // A daemon goes with its node.
        let daemon = [pod(3000, Some(0)), Pod { daemon: true, movable: false, ..pod(100, Some(1)) }];
        let mut scaler = autoscaler("");
        for tick in 0..=60 {
            assert_eq!(ask(&mut scaler, tick * 10, &groups, &nodes, &daemon), []);
        }
        assert_eq!(ask(&mut scaler, 610, &groups, &nodes, &daemon), [remove(2, false)]);
    }

    #[test]
    fn nodes_that_do_not_come_are_given_up_and_their_group_backs_off() {
        let groups = [Group { max: 5, ..group(4000, 0, 1.0) }];
        let pods = [pod(3000, None)];
        let mut scaler = autoscaler("");
        assert_eq!(ask(&mut scaler, 10, &groups, &[], &pods), [grow(0, 1)]);
        let groups_then = [Group { target: 1, ..groups[0] }];
        let upcoming = [Node { state: NodeState::Upcoming, since: Time::from_secs(10), ..node(1, 0, 4000) }];
        assert_eq!(ask(&mut scaler, 910, &groups_then, &upcoming, &pods), []);
        assert_eq!(ask(&mut scaler, 920, &groups_then, &upcoming, &pods), [Decision::GiveUp { node: 1 }]);
        assert_eq!(ask(&mut scaler, 930, &groups, &[], &pods), [], "backs off for 5 min");
        assert_eq!(ask(&mut scaler, 1220, &groups, &[], &pods), [grow(0, 1)]);
        // The provider says at once that there is none: twice as long.
        scaler.on_failure(Time::from_secs(1225), Failure::Grow { group: 0 });
        assert_eq!(ask(&mut scaler, 1820, &groups, &[], &pods), []);
        assert_eq!(ask(&mut scaler, 1830, &groups, &[], &pods), [grow(0, 1)]);
    }

    #[test]
    fn does_nothing_in_a_broken_cluster() {
        let groups = [group(4000, 8, 1.0)];
        let mut nodes: Vec<Node> = (1..=8).map(|id| node(id, 0, 4000)).collect();
        for node in &mut nodes[..4] {
            node.state = NodeState::NotReady;
        }
        let pods = vec![pod(4000, None); 9];
        assert_eq!(ask(&mut autoscaler(""), 10, &groups, &nodes, &pods), []);
        nodes[3].state = NodeState::Ready;
        assert_eq!(ask(&mut autoscaler(""), 10, &groups, &nodes, &pods), [grow(0, 4)]);
        // Those that are not ready go after 20 min.
        let mut scaler = autoscaler("");
        let full: Vec<Pod> = (3..8).map(|at| pod(4000, Some(at))).collect();
        for tick in 0..=120 {
            assert_eq!(ask(&mut scaler, tick * 10, &groups, &nodes, &full), []);
        }
        let gone = ask(&mut scaler, 1210, &groups, &nodes, &full);
        assert_eq!(gone, [remove(1, false), remove(2, false), remove(3, false)]);
    }

    #[test]
    fn reads_its_flags() {
        for (text, part) in [
            ("scan-interval = '0s'", "longer than zero"),
            ("max-drain-parallelism = 0", "at least 1"),
            ("expander = 'cheapest'", "unknown variant"),
            ("initial-node-group-backoff-duration = '1h'", "longer than"),
            ("scale-down-unneded-time = '1h'", "unknown field"),
        ] {
            let message = toml::from_str::<ClusterAutoscalerSettings>(text).unwrap_err().message().to_owned();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
