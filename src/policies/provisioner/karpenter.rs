//! A provisioner after Karpenter: the cheapest node that fits, and steady consolidation (documented model).
//!
//! ## What it does
//! Pods that fit nowhere are collected until none came for `batch-idle-duration` or the batch lasts for
//! `batch-max-duration`, then packed, large ones first, onto as few new nodes as fit, each of the cheapest type that takes
//! all its pods. Every ten seconds it looks for nodes that can go: empty ones; several that are replaced by one that costs
//! less than they do together; one whose pods fit elsewhere, or with one cheaper node besides. What it found must still hold
//! after 15 s. A replacement must be ready before anything is drained.
//!
//! ## When it helps
//! Where instances differ in size and load varies: no groups to plan, little waste, fast reaction (seconds, not a scan).
//!
//! ## How it fails
//! * Consolidation moves instances all day; with slow starts or thin disruption budgets that is what users notice.
//! * The cheapest type for a burst of small pods is many small nodes, the cheapest for one batch is one large node: the
//!   blast radius follows the batch.
//! * A type without capacity is left out for three minutes, then tried again, batch after batch.
//!
//! ## Settings
//! * `batch-idle-duration` (`"1s"`), `batch-max-duration` (`"10s"`).
//! * `consolidation-policy` (`"when-empty-or-underutilized"`; `"when-empty"`, `"never"`), `consolidate-after` (`"0s"`):
//!   no instance came or went on the node for so long.
//! * `budget` (`"10%"`): share of the nodes that may be leaving at once, rounded up.
//! * `registration-timeout` (`"15min"`), `termination-grace` (`"10min"`).
//!
//! ## Origin
//! Karpenter's documentation (`karpenter.sh`, *Scheduling*, *Disruption*, *Settings*) and what is known of
//! `sigs.k8s.io/karpenter`: `provisioning/scheduling`, `disruption` (emptiness, multi- and single-node consolidation). Not
//! replayed against it.
//!
//! ## Deliberate differences
//! * The cheapest type is taken; upstream lets the provider choose among sixty.
//! * The disruption cost of a node is the number of its pods. Expiry, drift, spot interruption and spot-to-spot rules are not
//!   modelled; prices do not change.
//! * A pod that no type can take keeps the batch open at its maximum, so later pods are served without delay.

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::simulation::{Guests, Simulation};
use super::{Cluster, Decision, Failure, Group, NodeState, Provisioner};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};
use crate::units::Share;

/// How often the cluster is looked at for pods.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often nodes are looked at.
const DISRUPTION_PERIOD: Duration = Duration::from_secs(10);
/// What was found must still hold after this time.
const VALIDATION: Duration = Duration::from_secs(15);
/// A type without capacity is left out for so long.
const UNAVAILABLE: Duration = Duration::from_secs(180);
/// At most so many nodes are replaced by one.
const MOST_AT_ONCE: usize = 100;

/// Settings of [`Karpenter`].
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, remote = "Self")]
pub struct KarpenterSettings {
    /// A batch ends when no pod came for so long ...
    pub batch_idle_duration: Duration,
    /// ... or when it has lasted for so long.
    pub batch_max_duration: Duration,
    /// Which nodes may be removed.
    pub consolidation_policy: ConsolidationPolicy,
    /// Nodes on which an instance came or went more recently are left alone.
    pub consolidate_after: Duration,
    /// Share of the nodes that may be leaving at once, rounded up.
    pub budget: Share,
    /// A node that takes longer is given up, not zero.
    pub registration_timeout: Duration,
    /// The longest that an evicted instance may take to end.
    pub termination_grace: Duration,
}

/// Which nodes may be removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConsolidationPolicy {
    /// All that can be had cheaper.
    #[default]
    #[serde(alias = "WhenEmptyOrUnderutilized")]
    WhenEmptyOrUnderutilized,
    /// Empty ones.
    #[serde(alias = "WhenEmpty")]
    WhenEmpty,
    /// None.
    #[serde(alias = "Never")]
    Never,
}

impl Default for KarpenterSettings {
    fn default() -> Self {
        Self {
            batch_idle_duration: Duration::from_secs(1),
            batch_max_duration: Duration::from_secs(10),
            consolidation_policy: ConsolidationPolicy::WhenEmptyOrUnderutilized,
            consolidate_after: Duration::ZERO,
            budget: Share(0.1),
            registration_timeout: Duration::from_secs(900),
            termination_grace: Duration::from_secs(600),
        }
    }
}

impl KarpenterSettings {
    fn check(&self) -> Result<(), &'static str> {
        if self.batch_idle_duration > self.batch_max_duration {
            return Err("`batch-idle-duration` is longer than `batch-max-duration`");
        }
        if self.registration_timeout == Duration::ZERO {
            return Err("`registration-timeout` must be longer than zero");
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for KarpenterSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        settings.check().map_err(D::Error::custom)?;
        Ok(settings)
    }
}

/// Nodes that should go, and the type of the one that takes their place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Command {
    /// Names of the nodes.
    victims: Vec<u32>,
    replacement: Option<u32>,
    reason: &'static str,
}

/// What is left when nodes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// Their pods fit elsewhere.
    Suffices,
    /// They do with one new node of this group, which costs less than those that go.
    WithNew(u32),
}

impl Rest {
    const fn replacement(self) -> Option<u32> {
        match self {
            Self::Suffices => None,
            Self::WithNew(group) => Some(group),
        }
    }
}

/// How far a command is.
#[derive(Clone, Debug)]
enum Disruption {
    Idle,
    /// Found at this instant; holds from [`VALIDATION`] later on.
    Validating(Time, Command),
    /// The replacement was ordered; the nodes that were there before have these names.
    Replacing(Command, Vec<u32>),
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Karpenter {
    state: Box<State>,
}

#[derive(Clone, Debug)]
struct State {
    settings: KarpenterSettings,
    /// Types without capacity, and until when.
    unavailable: Vec<(u32, Time)>,
    next_disruption: Time,
    disruption: Disruption,
}

impl Algorithm for Karpenter {
    type Settings = KarpenterSettings;

    fn new(settings: &KarpenterSettings, now: Time) -> Self {
        Self {
            state: Box::new(State {
                settings: settings.clone(),
                unavailable: Vec::new(),
                next_disruption: now,
                disruption: Disruption::Idle,
            }),
        }
    }
}

impl Provisioner for Karpenter {
    fn interval(&self) -> Duration {
        INTERVAL
    }

    fn evaluate(&mut self, now: Time, cluster: &Cluster<'_>, _rng: &mut Rng, decisions: &mut Vec<Decision>) {
        let state = &mut *self.state;
        state.unavailable.retain(|&(_, until)| until > now);
        let late: Vec<bool> = cluster
            .nodes
            .iter()
            .map(|node| {
                node.state == NodeState::Upcoming && node.since + state.settings.registration_timeout < now
            })
            .collect();
        for (node, late) in cluster.nodes.iter().zip(&late) {
            if *late {
                decisions.push(Decision::GiveUp { node: node.id });
            }
        }
        let waiting = state.provision(now, cluster, &late, decisions);
        if now >= state.next_disruption {
            state.next_disruption = now + DISRUPTION_PERIOD;
            // While pods wait for nodes, none are taken away.
            if waiting {
                if matches!(state.disruption, Disruption::Validating(..)) {
                    state.disruption = Disruption::Idle;
                }
            } else {
                state.disrupt(now, cluster, decisions);
            }
        }
    }

    fn on_failure(&mut self, now: Time, failure: Failure) {
        match failure {
            Failure::Grow { group } => {
                self.state.unavailable.push((group, now + UNAVAILABLE));
                if let Disruption::Replacing(command, _) = &self.state.disruption
                    && command.replacement == Some(group)
                {
                    self.state.disruption = Disruption::Idle;
                }
            }
            // It stays where it is and is looked at again.
            Failure::Remove { .. } => {}
        }
    }
}

/// A node that is about to be ordered.
struct Claim {
    /// Its place in the simulation.
    slot: usize,
    pods: Vec<usize>,
    /// Types that take all of them, cheapest first.
    types: Vec<u32>,
}

impl State {
    /// Types that can be had, cheapest first.
    fn types(&self, cluster: &Cluster<'_>, ordered: &[u32]) -> Vec<u32> {
        let mut types: Vec<u32> = (0..cluster.groups.len() as u32)
            .filter(|&at| {
                let group = &cluster.groups[at as usize];
                group.target + ordered[at as usize] < group.max
                    && !self.unavailable.iter().any(|&(other, _)| other == at)
            })
            .collect();
        types.sort_by(|&a, &b| {
            let price = |at: u32| cluster.groups[at as usize].price;
            price(a).total_cmp(&price(b))
        });
        types
    }

    /// Orders nodes for pods that fit nowhere. Says whether some are waiting.
    fn provision(
        &self,
        now: Time,
        cluster: &Cluster<'_>,
        late: &[bool],
        decisions: &mut Vec<Decision>,
    ) -> bool {
        if cluster.pods.iter().all(|pod| pod.node.is_some()) {
            return false;
        }
        let mut simulation = Simulation::new(cluster, |at| late[at]);
        let there = 0..simulation.slots.len();
        let mut waiting: Vec<usize> = Vec::new();
        for (index, pod) in cluster.pods.iter().enumerate() {
            if pod.node.is_none() && simulation.place(there.clone(), pod).is_none() {
                waiting.push(index);
            }
        }
        let created = |index: &usize| cluster.pods[*index].created;
        let (Some(oldest), Some(youngest)) =
            (waiting.iter().map(created).min(), waiting.iter().map(created).max())
        else {
            return false;
        };
        if youngest + self.settings.batch_idle_duration > now
            && oldest + self.settings.batch_max_duration > now
        {
            return true;
        }
        waiting.sort_by_key(|&index| {
            let request = cluster.pods[index].request;
            std::cmp::Reverse((request.cpu_milli, request.memory))
        });
        let mut claims: Vec<Claim> = Vec::new();
        for index in waiting {
            self.pack(cluster, &mut simulation, &mut claims, index);
        }
        let mut ordered = vec![0; cluster.groups.len()];
        for claim in &claims {
            // The cheapest that is left; another claim may have taken the last one of a type meanwhile.
            let left = |&&group: &&u32| {
                let Group { target, max, .. } = cluster.groups[group as usize];
                target + ordered[group as usize] < max
            };
            if let Some(&group) = claim.types.iter().find(left) {
                ordered[group as usize] += 1;
            }
        }
        for (group, &nodes) in ordered.iter().enumerate() {
            if nodes > 0 {
                decisions.push(Decision::Grow { group: group as u32, nodes, reason: "Provisioned" });
            }
        }
        true
    }

    /// Puts a pod on the claim with the fewest pods that takes it, or makes a new one.
    fn pack(
        &self,
        cluster: &Cluster<'_>,
        simulation: &mut Simulation,
        claims: &mut Vec<Claim>,
        index: usize,
    ) {
        let pod = &cluster.pods[index];
        let mut order: Vec<usize> = (0..claims.len()).collect();
        order.sort_by_key(|&at| claims[at].pods.len());
        for at in order {
            let slot = claims[at].slot;
            if !simulation.fits(slot, pod) {
                continue;
            }
            let left: Vec<u32> = claims[at]
                .types
                .iter()
                .copied()
                .filter(|&group| takes(cluster, group, &claims[at].pods, Some(index)))
                .collect();
            if left.is_empty() {
                continue;
            }
            simulation.add(slot, pod);
            claims[at].types = left;
            claims[at].pods.push(index);
            return;
        }
        // Counts what the claims so far would take at most, so that no type passes its maximum.
        let mut taken = vec![0; cluster.groups.len()];
        for claim in claims.iter() {
            taken[claim.types[0] as usize] += 1;
        }
        let types: Vec<u32> = self
            .types(cluster, &taken)
            .into_iter()
            .filter(|&group| takes(cluster, group, &[], Some(index)))
            .collect();
        let Some(&largest) = types.iter().max_by_key(|&&group| {
            let group = &cluster.groups[group as usize];
            (group.allocatable.cpu_milli, group.allocatable.memory)
        }) else {
            return;
        };
        // The slot stands for the largest type; the types that are left say what really fits.
        let slot = simulation.open_new(&cluster.groups[largest as usize]);
        simulation.slots[slot].kinds =
            types.iter().fold(0, |kinds, &group| kinds | 1 << cluster.groups[group as usize].kind);
        if !simulation.fits(slot, pod) {
            simulation.slots.pop();
            return;
        }
        simulation.add(slot, pod);
        claims.push(Claim { slot, pods: vec![index], types });
    }

    /// One look at the nodes.
    fn disrupt(&mut self, now: Time, cluster: &Cluster<'_>, decisions: &mut Vec<Decision>) {
        match std::mem::replace(&mut self.disruption, Disruption::Idle) {
            Disruption::Idle => {
                if let Some(command) = self.find(now, cluster) {
                    self.disruption = Disruption::Validating(now, command);
                }
            }
            Disruption::Validating(since, command) => {
                if now < since + VALIDATION {
                    self.disruption = Disruption::Validating(since, command);
                } else if self.still_holds(now, cluster, &command) {
                    self.execute(cluster, command, decisions);
                }
            }
            Disruption::Replacing(command, known) => {
                let new = cluster
                    .nodes
                    .iter()
                    .find(|node| node.group == command.replacement && !known.contains(&node.id));
                match new.map(|node| node.state) {
                    Some(NodeState::Ready) => self.remove(cluster, &command, decisions),
                    // Not there yet. If it was given up it is gone from the list, and so is the plan.
                    Some(NodeState::Upcoming) => self.disruption = Disruption::Replacing(command, known),
                    Some(NodeState::NotReady | NodeState::Deleting { .. }) | None => {}
                }
            }
        }
    }

    fn execute(&mut self, cluster: &Cluster<'_>, command: Command, decisions: &mut Vec<Decision>) {
        match command.replacement {
            None => self.remove(cluster, &command, decisions),
            Some(group) => {
                decisions.push(Decision::Grow { group, nodes: 1, reason: command.reason });
                let known = cluster.nodes.iter().map(|node| node.id).collect();
                self.disruption = Disruption::Replacing(command, known);
            }
        }
    }

    fn remove(&self, cluster: &Cluster<'_>, command: &Command, decisions: &mut Vec<Decision>) {
        let guests = Guests::new(cluster);
        for (at, node) in cluster.nodes.iter().enumerate() {
            if command.victims.contains(&node.id) && node.state == NodeState::Ready {
                let drain = guests.of(at).iter().any(|&index| !cluster.pods[index].daemon);
                decisions.push(Decision::Remove {
                    node: node.id,
                    drain,
                    grace: self.settings.termination_grace,
                    reason: command.reason,
                });
            }
        }
    }

    /// Nodes that may go, those with the fewest pods first, and how many of them at once.
    fn candidates(&self, now: Time, cluster: &Cluster<'_>, guests: &Guests) -> (Vec<usize>, usize) {
        let registered = cluster.nodes.iter().filter(|node| node.state != NodeState::Upcoming);
        let leaving = registered
            .clone()
            .filter(|node| matches!(node.state, NodeState::Deleting { .. } | NodeState::NotReady))
            .count();
        let allowed = (registered.count() as f64 * self.settings.budget.0 - 1e-9).ceil() as usize;
        let mut left: Vec<u32> =
            cluster.groups.iter().map(|group| group.target.saturating_sub(group.min)).collect();
        let occupants = |at: usize| guests.of(at).iter().filter(|&&index| !cluster.pods[index].daemon);
        let mut found: Vec<usize> = (0..cluster.nodes.len())
            .filter(|&at| {
                let node = &cluster.nodes[at];
                node.group.is_some()
                    && node.state == NodeState::Ready
                    && node.changed + self.settings.consolidate_after <= now
                    && occupants(at).all(|&index| cluster.pods[index].movable)
            })
            .collect();
        found.sort_by_key(|&at| occupants(at).count());
        found.retain(|&at| {
            let left = &mut left[cluster.nodes[at].group.expect("checked above") as usize];
            let may = *left > 0;
            *left = left.saturating_sub(1);
            may
        });
        (found, allowed.saturating_sub(leaving))
    }

    /// The first thing that pays.
    fn find(&self, now: Time, cluster: &Cluster<'_>) -> Option<Command> {
        if self.settings.consolidation_policy == ConsolidationPolicy::Never {
            return None;
        }
        let guests = Guests::new(cluster);
        let (candidates, allowed) = self.candidates(now, cluster, &guests);
        if allowed == 0 {
            return None;
        }
        let names = |nodes: &[usize]| nodes.iter().map(|&at| cluster.nodes[at].id).collect();
        let is_empty = |at: usize| guests.of(at).iter().all(|&index| cluster.pods[index].daemon);
        let empty: Vec<usize> = candidates.iter().copied().filter(|&at| is_empty(at)).take(allowed).collect();
        if !empty.is_empty() {
            return Some(Command { victims: names(&empty), replacement: None, reason: "Empty" });
        }
        if self.settings.consolidation_policy == ConsolidationPolicy::WhenEmpty {
            return None;
        }
        // Several at once: the longest list that works, by bisection as upstream does.
        let (mut low, mut high) = (2, candidates.len().min(allowed).min(MOST_AT_ONCE));
        let mut best = None;
        while low <= high {
            let middle = usize::midpoint(low, high);
            if let Some(rest) = self.without(cluster, &guests, &candidates[..middle]) {
                best = Some((middle, rest));
                low = middle + 1;
            } else {
                high = middle - 1;
            }
        }
        if let Some((many, rest)) = best {
            let victims = names(&candidates[..many]);
            return Some(Command { victims, replacement: rest.replacement(), reason: "Underutilized" });
        }
        candidates.iter().find_map(|&at| {
            let replacement = self.without(cluster, &guests, &[at])?.replacement();
            Some(Command { victims: names(&[at]), replacement, reason: "Underutilized" })
        })
    }

    /// What it takes to do without these nodes; `None` if that cannot be done or does not pay.
    fn without(&self, cluster: &Cluster<'_>, guests: &Guests, nodes: &[usize]) -> Option<Rest> {
        let mut simulation = Simulation::new(cluster, |at| cluster.nodes[at].state != NodeState::Ready);
        let there = cluster.nodes.len();
        if simulation.vacate(nodes, 0..there, cluster, &mut guests.clone()) {
            return Some(Rest::Suffices);
        }
        let price_of = |group: u32| cluster.groups[group as usize].price;
        let saved: f64 = nodes.iter().filter_map(|&at| cluster.nodes[at].group).map(price_of).sum();
        let none = vec![0; cluster.groups.len()];
        let cheaper = self.types(cluster, &none).into_iter().filter(|&group| price_of(group) < saved);
        for group in cheaper {
            let new = simulation.open_new(&cluster.groups[group as usize]);
            let fits = simulation.vacate(nodes, 0..new + 1, cluster, &mut guests.clone());
            if fits {
                return Some(Rest::WithNew(group));
            }
            simulation.slots.pop();
        }
        None
    }

    /// Whether a command is still right.
    fn still_holds(&self, now: Time, cluster: &Cluster<'_>, command: &Command) -> bool {
        let guests = Guests::new(cluster);
        let (candidates, allowed) = self.candidates(now, cluster, &guests);
        let nodes: Vec<usize> =
            candidates.into_iter().filter(|&at| command.victims.contains(&cluster.nodes[at].id)).collect();
        if nodes.len() < command.victims.len() || nodes.len() > allowed {
            return false;
        }
        match self.without(cluster, &guests, &nodes) {
            Some(Rest::Suffices) => true,
            Some(Rest::WithNew(group)) => command.replacement == Some(group),
            None => false,
        }
    }
}

/// Whether a node of the group takes these pods and one more.
fn takes(cluster: &Cluster<'_>, group: u32, pods: &[usize], more: Option<usize>) -> bool {
    let group = &cluster.groups[group as usize];
    let mut free = group.allocatable;
    let mut count = 0;
    let mut allowed = true;
    for &index in pods.iter().chain(&more) {
        free -= cluster.pods[index].request;
        allowed &= cluster.pods[index].kinds >> group.kind & 1 == 1;
        count += 1;
    }
    allowed && free.cpu_milli >= 0 && free.memory >= 0 && count <= group.max_pods
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::provisioner::simulation::tests::{group, node, pod};
    use crate::policies::provisioner::{Node, Pod};
    use crate::random::Key;

    fn karpenter(text: &str) -> Karpenter {
        Karpenter::new(&toml::from_str(text).unwrap(), Time::ZERO)
    }

    fn ask(
        karpenter: &mut Karpenter,
        secs: u64,
        groups: &[Group],
        nodes: &[Node],
        pods: &[Pod],
    ) -> Vec<Decision> {
        let mut decisions = Vec::new();
        let cluster = Cluster { groups, nodes, pods };
        karpenter.evaluate(Time::from_secs(secs), &cluster, &mut Key::new(1).rng(), &mut decisions);
        decisions
    }

    fn grow(group: u32, nodes: u32, reason: &'static str) -> Decision {
        Decision::Grow { group, nodes, reason }
    }

    fn remove(node: u32, drain: bool, reason: &'static str) -> Decision {
        Decision::Remove { node, drain, grace: Duration::from_secs(600), reason }
    }

    #[test]
    fn batches_and_buys_the_cheapest_that_fits() {
        let groups = [group(16_000, 0, 0.8), group(4000, 0, 0.2), group(2000, 0, 0.11)];
        let mut pods = vec![Pod { created: Time::from_secs(10), ..pod(1500, None) }];
        let mut scaler = karpenter("");
        assert_eq!(ask(&mut scaler, 10, &groups, &[], &pods), []);
        assert_eq!(ask(&mut scaler, 11, &groups, &[], &pods), [grow(2, 1, "Provisioned")]);
        // A pod every half second keeps the batch open, up to ten seconds.
        pods.clear();
        for second in 20..30 {
            pods.push(Pod { created: Time::from_millis(second * 1000 + 500), ..pod(1000, None) });
            assert_eq!(ask(&mut scaler, second + 1, &groups, &[], &pods), [], "{second}");
        }
        // Three nodes of 4 cores would cost less (0.6 against 0.8), but packing fills one node while some type takes it.
        pods.push(Pod { created: Time::from_millis(30_300), ..pod(1000, None) });
        assert_eq!(ask(&mut scaler, 31, &groups, &[], &pods), [grow(0, 1, "Provisioned")]);
    }

    #[test]
    fn leaves_out_what_cannot_be_had() {
        let groups = [group(2000, 0, 0.1), Group { max: 1, ..group(2000, 0, 0.2) }, group(4000, 0, 0.4)];
        let pods = [pod(2000, None), pod(2000, None)];
        let mut scaler = karpenter("");
        scaler.on_failure(Time::from_secs(20), Failure::Grow { group: 0 });
        assert_eq!(ask(&mut scaler, 30, &groups, &[], &pods[..1]), [grow(1, 1, "Provisioned")]);
        assert_eq!(ask(&mut scaler, 199, &groups[..2], &[], &pods), [grow(1, 1, "Provisioned")]);
        assert_eq!(ask(&mut scaler, 200, &groups[..2], &[], &pods), [grow(0, 2, "Provisioned")]);
        let late = [Node { state: NodeState::Upcoming, ..node(7, 0, 2000) }];
        assert_eq!(
            ask(&mut scaler, 901, &groups[..1], &late, &pods[..1]),
            [Decision::GiveUp { node: 7 }, grow(0, 1, "Provisioned")]
        );
    }

    #[test]
    fn removes_empty_nodes_within_its_budget() {
        let groups = [group(4000, 11, 0.2)];
        let nodes: Vec<Node> = (1..=11).map(|id| node(id, 0, 4000)).collect();
        let pods: Vec<Pod> = (0..8).map(|at| pod(4000, Some(at))).collect();
        let mut scaler = karpenter("");
        assert_eq!(ask(&mut scaler, 0, &groups, &nodes, &pods), []);
        assert_eq!(ask(&mut scaler, 10, &groups, &nodes, &pods), []);
        // 10 % of 11 nodes are 2.
        let got = ask(&mut scaler, 20, &groups, &nodes, &pods);
        assert_eq!(got, [remove(9, false, "Empty"), remove(10, false, "Empty")]);
        let mut fresh = nodes.clone();
        for node in &mut fresh {
            node.changed = Time::from_secs(5);
        }
        let mut scaler = karpenter("consolidate-after = '1min'");
        for second in (0..65).step_by(10) {
            assert_eq!(ask(&mut scaler, second, &groups, &fresh, &pods), []);
        }
        let mut scaler = karpenter("consolidation-policy = 'never'");
        for second in (0..300).step_by(10) {
            assert_eq!(ask(&mut scaler, second, &groups, &nodes, &pods), []);
        }
    }

    #[test]
    fn moves_pods_to_where_there_is_room() {
        let groups = [group(4000, 2, 0.2)];
        let nodes = [node(1, 0, 4000), node(2, 0, 4000)];
        let pods = [pod(1000, Some(0)), pod(1000, Some(0)), pod(1500, Some(1))];
        let mut scaler = karpenter("");
        ask(&mut scaler, 0, &groups, &nodes, &pods);
        ask(&mut scaler, 10, &groups, &nodes, &pods);
        assert_eq!(ask(&mut scaler, 20, &groups, &nodes, &pods), [remove(2, true, "Underutilized")]);
        // What changed while it was validated is left alone.
        let mut scaler = karpenter("");
        ask(&mut scaler, 0, &groups, &nodes, &pods);
        let full = [pods[0], pods[1], pod(3000, Some(1))];
        assert_eq!(ask(&mut scaler, 20, &groups, &nodes, &full), []);
        // What may not move stays.
        let fixed = [pods[0], Pod { movable: false, ..pods[1] }, Pod { movable: false, ..pods[2] }];
        let mut scaler = karpenter("");
        for second in (0..100).step_by(10) {
            assert_eq!(ask(&mut scaler, second, &groups, &nodes, &fixed), []);
        }
    }

    #[test]
    fn replaces_a_large_node_by_a_cheaper_one_that_is_ready_first() {
        let groups = [group(16_000, 1, 0.8), group(4000, 0, 0.2), group(2000, 0, 0.11)];
        let nodes = [node(1, 0, 16_000)];
        let pods = [pod(1500, Some(0)), pod(1500, Some(0))];
        let mut scaler = karpenter("");
        ask(&mut scaler, 0, &groups, &nodes, &pods);
        assert_eq!(ask(&mut scaler, 20, &groups, &nodes, &pods), [grow(1, 1, "Underutilized")]);
        let upcoming = Node { state: NodeState::Upcoming, since: Time::from_secs(20), ..node(2, 1, 4000) };
        let both = [nodes[0], upcoming];
        assert_eq!(ask(&mut scaler, 30, &groups, &both, &pods), []);
        let both = [nodes[0], node(2, 1, 4000)];
        assert_eq!(ask(&mut scaler, 60, &groups, &both, &pods), [remove(1, true, "Underutilized")]);
        // The provider has none: the plan is dropped, and made again with the next cheapest.
        let mut scaler = karpenter("");
        ask(&mut scaler, 0, &groups, &nodes, &pods);
        ask(&mut scaler, 20, &groups, &nodes, &pods);
        scaler.on_failure(Time::from_secs(20), Failure::Grow { group: 1 });
        for second in (30..190).step_by(10) {
            assert_eq!(
                ask(&mut scaler, second, &groups, &nodes, &pods),
                [],
                "{second}: 2 cores are not enough"
            );
        }
    }

    #[test]
    fn reads_its_settings() {
        for (text, part) in [
            ("batch-idle-duration = '1min'", "longer than `batch-max-duration`"),
            ("registration-timeout = '0s'", "longer than zero"),
            ("consolidation-policy = 'always'", "unknown variant"),
        ] {
            let message = toml::from_str::<KarpenterSettings>(text).unwrap_err().message().to_owned();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
