//! The kube-scheduler: filters nodes by requests, scores what is left, takes the best.
//!
//! ## What it does
//! A node passes if for CPU, memory and the number of pods the sum of the *requests* there plus the pod's is at most what
//! the node can allocate, and if anti-affinity and a hard zone spread allow it. Usage plays no role. Above 100 nodes only
//! some are looked at, in turn. Each node that passed gets 0 to 100 points from each plugin, times the plugin's weight:
//! resources fit (least or most allocated), balance of CPU and memory, spread over nodes and zones, images that are
//! there already. Of equal nodes one is drawn.
//!
//! ## When it helps
//! `least-allocated` spreads load, which is kind to latency; `most-allocated` packs, so that empty nodes can go.
//!
//! ## How it fails
//! * Requests that are too small put busy instances together: the node is full long before the sum of requests says so.
//! * Spreading keeps every node a little in use, so that a cluster autoscaler finds none to remove.
//! * Images attract: a node that has the image and lacks the neighbours keeps getting the same service.
//! * A placement is never taken back; what was even is not after a zone comes back.
//!
//! ## Settings
//! * `scoring-strategy` (`"least-allocated"`, or `"most-allocated"`) with `cpu-weight` (1) and `memory-weight` (1).
//! * Weights of the plugins: `node-resources-fit-weight` (1), `balanced-allocation-weight` (1),
//!   `pod-topology-spread-weight` (2), `image-locality-weight` (1); 0 switches one off.
//! * `percentage-of-nodes-to-score` (0: 50 % less one point per 125 nodes, at least 5 %; always at least 100 nodes).
//!
//! ## Origin
//! kubernetes/kubernetes v1.28.0, `pkg/scheduler`: `schedule_one.go` (`findNodesThatPassFilters`,
//! `numFeasibleNodesToFind`, `selectHost`), `framework/plugins/noderesources` (`fit.go`, `least_allocated.go`,
//! `most_allocated.go`, `balanced_allocation.go`), `podtopologyspread` (`filtering.go`, `scoring.go`, system default
//! constraints), `imagelocality/image_locality.go`.
//!
//! ## Deliberate differences
//! * Nodes are looked at one after the other; upstream's 16 workers may look at a few more than they need.
//! * Taints, node affinity and preferred (anti-)affinity give every node the same points and are left out; required ones
//!   are the caller's `eligible`.
//! * `requested-to-capacity-ratio`, priorities and preemption are not modelled.

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{NodeView, PodRequest, Scheduler};
use crate::policies::Algorithm;
use crate::policies::view::Resources;
use crate::random::Rng;
use crate::time::Time;

/// The best score of a plugin (`MaxNodeScore`).
pub const MAX_NODE_SCORE: i64 = 100;

/// What a container that asks for nothing counts for when nodes are scored (`DefaultMilliCPURequest`,
/// `DefaultMemoryRequest`).
pub const DEFAULT_REQUEST: Resources = Resources { cpu_milli: 100, memory: 200 * MIB };

/// Up to so many nodes all are looked at (`minFeasibleNodesToFind`).
const MIN_FEASIBLE_NODES_TO_FIND: usize = 100;
/// Least share of the nodes that is looked at, in percent (`minFeasibleNodesPercentageToFind`).
const MIN_FEASIBLE_NODES_PERCENTAGE: usize = 5;
/// `maxSkew` of the system's default constraint over nodes.
const HOST_MAX_SKEW: i32 = 3;
/// `maxSkew` of the system's default constraint over zones.
const ZONE_MAX_SKEW: i32 = 5;
const MIB: i64 = 1 << 20;
/// Images smaller than this give no points (`minThreshold`).
const MIN_IMAGE: i64 = 23 * MIB;
/// Images give no more points than one of this size per container (`maxContainerThreshold`).
const MAX_IMAGE: i64 = 1000 * MIB;

/// Settings of [`Kube`], with the names of the scheduler's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, remote = "Self")]
pub struct KubeSettings {
    /// Whether empty or full nodes are better.
    pub scoring_strategy: ScoringStrategy,
    /// Weight of CPU in the fit score, 1 to 100.
    pub cpu_weight: u32,
    /// Weight of memory in the fit score, 1 to 100.
    pub memory_weight: u32,
    /// Weight of the fit score, up to 100.
    pub node_resources_fit_weight: u32,
    /// Weight of the balance of CPU and memory, up to 100.
    pub balanced_allocation_weight: u32,
    /// Weight of the spread over nodes and zones, up to 100.
    pub pod_topology_spread_weight: u32,
    /// Weight of images that are there already, up to 100.
    pub image_locality_weight: u32,
    /// Share of the nodes that is looked at, in percent; 0 adapts it to their number.
    pub percentage_of_nodes_to_score: u32,
}

/// Whether empty or full nodes are better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ScoringStrategy {
    /// The node of which the smallest share is requested.
    #[default]
    #[serde(alias = "LeastAllocated")]
    LeastAllocated,
    /// The node of which the largest share is requested.
    #[serde(alias = "MostAllocated")]
    MostAllocated,
}

impl Default for KubeSettings {
    fn default() -> Self {
        Self {
            scoring_strategy: ScoringStrategy::LeastAllocated,
            cpu_weight: 1,
            memory_weight: 1,
            node_resources_fit_weight: 1,
            balanced_allocation_weight: 1,
            pod_topology_spread_weight: 2,
            image_locality_weight: 1,
            percentage_of_nodes_to_score: 0,
        }
    }
}

impl KubeSettings {
    fn check(&self) -> Result<(), String> {
        for (name, weight) in [("cpu-weight", self.cpu_weight), ("memory-weight", self.memory_weight)] {
            if !(1..=100).contains(&weight) {
                return Err(format!("`{name}` lies between 1 and 100"));
            }
        }
        for (name, weight) in [
            ("node-resources-fit-weight", self.node_resources_fit_weight),
            ("balanced-allocation-weight", self.balanced_allocation_weight),
            ("pod-topology-spread-weight", self.pod_topology_spread_weight),
            ("image-locality-weight", self.image_locality_weight),
            ("percentage-of-nodes-to-score", self.percentage_of_nodes_to_score),
        ] {
            if weight > 100 {
                return Err(format!("`{name}` is at most 100"));
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for KubeSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        settings.check().map_err(D::Error::custom)?;
        Ok(settings)
    }
}

/// Amounts of one node in the order in which weights are given: CPU, memory.
pub type Amounts = [i64; 2];

/// Free share of a node, each resource truncated, then their weighted mean (`leastResourceScorer`).
pub fn least_allocated(requested: Amounts, allocatable: Amounts, weights: Amounts) -> i64 {
    weighted(requested, allocatable, weights, |requested, capacity| {
        if requested > capacity { 0 } else { (capacity - requested) * MAX_NODE_SCORE / capacity }
    })
}

/// Requested share of a node, each resource truncated, then their weighted mean (`mostResourceScorer`).
pub fn most_allocated(requested: Amounts, allocatable: Amounts, weights: Amounts) -> i64 {
    weighted(requested, allocatable, weights, |requested, capacity| {
        requested.min(capacity) * MAX_NODE_SCORE / capacity
    })
}

/// How near the requested shares of CPU and memory are to each other (`balancedResourceScorer`).
pub fn balanced_allocation(requested: Amounts, allocatable: Amounts) -> i64 {
    let share =
        |at: usize| (allocatable[at] != 0).then(|| (requested[at] as f64 / allocatable[at] as f64).min(1.0));
    // With two resources the standard deviation is half of their distance.
    let deviation = match (share(0), share(1)) {
        (Some(cpu), Some(memory)) => ((cpu - memory) / 2.0).abs(),
        _ => 0.0,
    };
    ((1.0 - deviation) * MAX_NODE_SCORE as f64) as i64
}

fn weighted(
    requested: Amounts,
    allocatable: Amounts,
    weights: Amounts,
    score: impl Fn(i64, i64) -> i64,
) -> i64 {
    let (mut sum, mut weight_sum) = (0, 0);
    for at in 0..2 {
        if allocatable[at] == 0 {
            continue;
        }
        sum += score(requested[at], allocatable[at]) * weights[at];
        weight_sum += weights[at];
    }
    if weight_sum == 0 { 0 } else { sum / weight_sum }
}

/// Whether the requests fit (`fitsRequest`). What is not asked for is not looked at, so a pod without requests also fits
/// on a node that is overcommitted.
pub fn fits_request(request: Resources, node: &NodeView) -> bool {
    let free = node.allocatable - node.requested;
    node.pods < node.max_pods
        && (request.cpu_milli == 0 || request.cpu_milli <= free.cpu_milli)
        && (request.memory == 0 || request.memory <= free.memory)
}

/// How many nodes are enough to choose from (`numFeasibleNodesToFind`).
fn num_feasible_nodes_to_find(nodes: usize, percentage: usize) -> usize {
    if nodes < MIN_FEASIBLE_NODES_TO_FIND {
        return nodes;
    }
    let percentage = match percentage {
        0 => 50_usize.saturating_sub(nodes / 125).max(MIN_FEASIBLE_NODES_PERCENTAGE),
        percentage => percentage,
    };
    (nodes * percentage / 100).max(MIN_FEASIBLE_NODES_TO_FIND)
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Kube {
    settings: KubeSettings,
    /// Where the next search begins (`nextStartNodeIndex`).
    next_start: usize,
    /// Nodes that passed, with their spread score; kept to be filled again.
    feasible: Vec<(u32, i64)>,
    /// Instances of the service by zone, and whether a node there is open to it.
    zones: Vec<Zone>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Zone {
    same: u32,
    eligible: bool,
    feasible: bool,
}

impl Algorithm for Kube {
    type Settings = KubeSettings;

    fn new(settings: &KubeSettings, _now: Time) -> Self {
        Self { settings: settings.clone(), next_start: 0, feasible: Vec::new(), zones: Vec::new() }
    }
}

impl Scheduler for Kube {
    fn place(&mut self, pod: &PodRequest, nodes: &[NodeView], rng: &mut Rng) -> Option<usize> {
        self.count_zones(nodes);
        self.filter(pod, nodes);
        match self.feasible[..] {
            [] => return None,
            [(only, _)] => return Some(only as usize),
            _ => {}
        }
        if self.settings.pod_topology_spread_weight > 0 {
            self.spread(nodes);
        }
        let image = self.image_score(pod, nodes);
        // The first of the best, unless a later one wins the draw against all equal ones before it.
        let (mut best, mut best_score, mut equals) = (0, i64::MIN, 0);
        for &(at, spread) in &self.feasible {
            let node = &nodes[at as usize];
            let score = self.score(pod, node) + spread + if node.has_image { image } else { 0 };
            if score > best_score {
                (best, best_score, equals) = (at, score, 1);
            } else if score == best_score {
                equals += 1;
                if rng.index(equals) == 0 {
                    best = at;
                }
            }
        }
        Some(best as usize)
    }
}

impl Kube {
    fn count_zones(&mut self, nodes: &[NodeView]) {
        self.zones.fill(Zone::default());
        for node in nodes {
            let zone = node.zone as usize;
            if zone >= self.zones.len() {
                self.zones.resize(zone + 1, Zone::default());
            }
            self.zones[zone].same += node.same;
            self.zones[zone].eligible |= node.eligible;
        }
    }

    fn filter(&mut self, pod: &PodRequest, nodes: &[NodeView]) {
        self.feasible.clear();
        let percentage = self.settings.percentage_of_nodes_to_score as usize;
        let enough = num_feasible_nodes_to_find(nodes.len(), percentage);
        let emptiest =
            self.zones.iter().filter(|zone| zone.eligible).map(|zone| zone.same).min().unwrap_or(0);
        let mut looked_at = 0;
        while looked_at < nodes.len() && self.feasible.len() < enough {
            let at = (self.next_start + looked_at) % nodes.len();
            looked_at += 1;
            let node = &nodes[at];
            let zone = &mut self.zones[node.zone as usize];
            let joins = pod.may_join(node, zone.same, emptiest);
            if node.eligible && joins && fits_request(pod.request, node) {
                zone.feasible = true;
                self.feasible.push((at as u32, 0));
            }
        }
        if !nodes.is_empty() {
            self.next_start = (self.next_start + looked_at) % nodes.len();
        }
    }

    /// `PodTopologySpread`: few instances of the service on the node and in its zone are good.
    fn spread(&mut self, nodes: &[NodeView]) {
        let normalizing = |size: usize| libm::log((size + 2) as f64);
        let host = normalizing(self.feasible.len());
        let zone = normalizing(self.zones.iter().filter(|zone| zone.feasible).count());
        let for_count =
            |count: u32, max_skew: i32, weight: f64| f64::from(count) * weight + f64::from(max_skew - 1);
        let (mut min, mut max) = (i64::MAX, 0);
        for (at, score) in &mut self.feasible {
            let node = &nodes[*at as usize];
            let sum = for_count(node.same, HOST_MAX_SKEW, host)
                + for_count(self.zones[node.zone as usize].same, ZONE_MAX_SKEW, zone);
            *score = sum.round() as i64;
            min = min.min(*score);
            max = max.max(*score);
        }
        let weight = i64::from(self.settings.pod_topology_spread_weight);
        for (_, score) in &mut self.feasible {
            // Never divides by 0: the skews alone give at least 6.
            *score = weight * (MAX_NODE_SCORE * (max + min - *score) / max);
        }
    }

    /// `ImageLocality`: points for a node that has the images, more if many nodes have them.
    fn image_score(&self, pod: &PodRequest, nodes: &[NodeView]) -> i64 {
        if pod.image == 0 || self.settings.image_locality_weight == 0 {
            return 0;
        }
        let holders = nodes.iter().filter(|node| node.has_image).count();
        let spread = holders as f64 / nodes.len() as f64;
        let most = MAX_IMAGE * i64::from(pod.containers.max(1));
        let sum = ((pod.image as f64 * spread) as i64).clamp(MIN_IMAGE, most);
        i64::from(self.settings.image_locality_weight)
            * (MAX_NODE_SCORE * (sum - MIN_IMAGE) / (most - MIN_IMAGE))
    }

    /// Points for the fit and for the balance of the node with the pod on it.
    fn score(&self, pod: &PodRequest, node: &NodeView) -> i64 {
        let settings = &self.settings;
        let allocatable = [node.allocatable.cpu_milli, node.allocatable.memory];
        let containers = i64::from(pod.containers.max(1));
        let or = |asked: i64, default: i64| if asked == 0 { default * containers } else { asked };
        let non_zero = [
            node.non_zero_requested.cpu_milli + or(pod.request.cpu_milli, DEFAULT_REQUEST.cpu_milli),
            node.non_zero_requested.memory + or(pod.request.memory, DEFAULT_REQUEST.memory),
        ];
        let weights = [i64::from(settings.cpu_weight), i64::from(settings.memory_weight)];
        let fit = match settings.scoring_strategy {
            ScoringStrategy::LeastAllocated => least_allocated(non_zero, allocatable, weights),
            ScoringStrategy::MostAllocated => most_allocated(non_zero, allocatable, weights),
        };
        let with = node.requested + pod.request;
        let balance = balanced_allocation([with.cpu_milli, with.memory], allocatable);
        i64::from(settings.node_resources_fit_weight) * fit
            + i64::from(settings.balanced_allocation_weight) * balance
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::scheduler::AntiAffinity;
    use crate::random::Key;

    const GIB: i64 = 1 << 30;

    fn node(zone: u32, cpu_used: i64) -> NodeView {
        let requested = Resources { cpu_milli: cpu_used, memory: cpu_used * MIB };
        NodeView {
            eligible: true,
            allocatable: Resources { cpu_milli: 4000, memory: 4 * GIB },
            max_pods: 110,
            requested,
            non_zero_requested: requested,
            pods: 1,
            zone,
            same: 0,
            has_image: false,
        }
    }

    fn pod(cpu_milli: i64) -> PodRequest {
        PodRequest {
            request: Resources { cpu_milli, memory: cpu_milli * MIB },
            containers: 1,
            image: 0,
            anti_affinity: AntiAffinity::None,
            zone_max_skew: None,
        }
    }

    fn kube(text: &str) -> Kube {
        Kube::new(&toml::from_str(text).unwrap(), Time::ZERO)
    }

    #[test]
    fn requests_decide_and_usage_does_not() {
        let mut kube = kube("");
        let mut rng = Key::new(1).rng();
        let mut nodes = [node(0, 3000), node(0, 3500)];
        assert_eq!(kube.place(&pod(1000), &nodes, &mut rng), Some(0), "exactly full is allowed");
        assert_eq!(kube.place(&pod(1001), &nodes, &mut rng), None);
        nodes[0].max_pods = 1;
        assert_eq!(kube.place(&pod(1000), &nodes, &mut rng), None);
        nodes[0].max_pods = 2;
        nodes[0].eligible = false;
        assert_eq!(kube.place(&pod(1000), &nodes, &mut rng), None);
        assert_eq!(kube.place(&pod(1000), &[], &mut rng), None);
        // Without requests even an overcommitted node will do.
        let full = [NodeView { requested: Resources { cpu_milli: 5000, memory: 5 * GIB }, ..node(0, 0) }];
        assert_eq!(kube.place(&pod(0), &full, &mut rng), Some(0));
    }

    #[test]
    fn empty_or_full_nodes_first() {
        let nodes = [node(0, 1000), node(0, 3000), node(0, 2000)];
        let mut rng = Key::new(1).rng();
        assert_eq!(kube("").place(&pod(500), &nodes, &mut rng), Some(0));
        let mut packing = kube("scoring-strategy = 'MostAllocated'");
        assert_eq!(packing.place(&pod(500), &nodes, &mut rng), Some(1));
    }

    #[test]
    fn zones_and_neighbours() {
        let mut nodes = [node(0, 1000), node(0, 1000), node(1, 1500)];
        nodes[0].same = 2;
        let mut rng = Key::new(1).rng();
        // The other node of zone 0 is emptier, but the zone has two already.
        assert_eq!(kube("").place(&pod(500), &nodes, &mut rng), Some(2));
        assert_eq!(kube("pod-topology-spread-weight = 0").place(&pod(500), &nodes[1..], &mut rng), Some(0));
        let apart = |anti_affinity| PodRequest { anti_affinity, ..pod(500) };
        assert_eq!(kube("").place(&apart(AntiAffinity::Node), &nodes[..2], &mut rng), Some(1));
        assert_eq!(kube("").place(&apart(AntiAffinity::Zone), &nodes[..2], &mut rng), None);
        let even = PodRequest { zone_max_skew: Some(1), ..pod(500) };
        assert_eq!(kube("").place(&even, &nodes, &mut rng), Some(2));
        nodes[2].requested.cpu_milli = 4000;
        assert_eq!(
            kube("").place(&even, &nodes, &mut rng),
            None,
            "zone 1 is full, and zone 0 would exceed it by 3"
        );
        nodes[2].eligible = false;
        assert_eq!(
            kube("").place(&even, &nodes, &mut rng),
            Some(1),
            "a zone without any open node does not count"
        );
    }

    #[test]
    fn images_attract() {
        let mut nodes = [node(0, 1000), node(0, 1100)];
        nodes[1].has_image = true;
        let mut rng = Key::new(1).rng();
        let pulled = PodRequest { image: GIB, ..pod(500) };
        assert_eq!(kube("").place(&pulled, &nodes, &mut rng), Some(1));
        assert_eq!(kube("image-locality-weight = 0").place(&pulled, &nodes, &mut rng), Some(0));
        // Too small to matter.
        assert_eq!(kube("").place(&PodRequest { image: MIB, ..pod(500) }, &nodes, &mut rng), Some(0));
    }

    #[test]
    fn equals_are_drawn_alike_and_large_clusters_searched_in_turn() {
        let mut rng = Key::new(1).rng();
        let mut scheduler = kube("");
        let nodes = [node(0, 1000); 4];
        let mut counts = [0; 4];
        for _ in 0..8000 {
            counts[scheduler.place(&pod(500), &nodes, &mut rng).unwrap()] += 1;
        }
        assert!(counts.iter().all(|&count| (1800..2200).contains(&count)), "{counts:?}");
        assert_eq!(num_feasible_nodes_to_find(99, 0), 99);
        assert_eq!(num_feasible_nodes_to_find(500, 0), 230);
        assert_eq!(num_feasible_nodes_to_find(500, 5), 100);
        assert_eq!(num_feasible_nodes_to_find(6000, 0), 300);
        let nodes = vec![node(0, 1000); 500];
        let first = scheduler.place(&pod(500), &nodes, &mut rng).unwrap();
        let second = scheduler.place(&pod(500), &nodes, &mut rng).unwrap();
        assert!(first < 230 && (230..460).contains(&second), "{first} {second}");
    }

    #[test]
    fn refuses_what_the_configuration_refuses() {
        for (text, part) in [
            ("cpu-weight = 0", "between 1 and 100"),
            ("image-locality-weight = 101", "at most 100"),
            ("scoring-strategy = 'least'", "unknown variant"),
        ] {
            let message = toml::from_str::<KubeSettings>(text).unwrap_err().message().to_owned();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
