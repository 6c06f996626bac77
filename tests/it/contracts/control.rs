//! The promises of what controls a cluster: autoscalers, recommenders, schedulers, provisioners.

use std::collections::BTreeMap;

use simlab::policies::autoscaler::{
    Autoscaler, AutoscalerSettings, Fleet, Load, Phase, Pod, PodReading, Query, Reading, Sample,
};
use simlab::policies::provisioner::{
    self, Cluster, Decision, Failure, Group, Node, NodeState, Provisioner, ProvisionerSettings,
};
use simlab::policies::recommender::{Recommender, RecommenderSettings, Usage};
use simlab::policies::scheduler::{AntiAffinity, NodeView, PodRequest, Scheduler, SchedulerSettings};
use simlab::policies::view::Resources;
use simlab::random::{Key, Rng};
use simlab::time::{Duration, Time};

use super::{fold, for_each};

/// Steps of one run: a tick costs more than a call.
const TICKS: u32 = 10_000;

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// From one look to the next: mostly as asked for, sometimes at once, a few times after years.
fn wait(rng: &mut Rng, interval: Duration) -> Duration {
    match rng.index(1000) {
        0..50 => Duration::ZERO,
        50 => YEAR,
        51..100 => Duration(interval.0 * u64::from(rng.index(100))),
        _ => interval,
    }
}

/// An amount in thousandths: nothing, usual, or absurd.
fn amount(rng: &mut Rng) -> i64 {
    match rng.index(20) {
        0..3 => 0,
        3 => 1_000_000_000_000_000,
        4 => 1,
        _ => i64::from(rng.index(2_000)),
    }
}

fn pod(rng: &mut Rng, now: Time) -> Pod {
    let before = |rng: &mut Rng| Time(now.0.saturating_sub(u64::from(rng.index(600)) * 1_000_000_000));
    let phases =
        [Phase::Pending, Phase::Running, Phase::Running, Phase::Running, Phase::Failed, Phase::Succeeded];
    Pod {
        phase: phases[rng.index(6) as usize],
        ready: (rng.index(8) > 0).then(|| (rng.index(4) > 0, before(rng))),
        started: (rng.index(8) > 0).then(|| before(rng)),
        deleting: rng.index(10) == 0,
    }
}

fn reading(rng: &mut Rng, now: Time, query: &Query, pods: usize) -> Reading {
    if let Query::Object { .. } | Query::External(_) = query {
        return Reading::Series((rng.index(5) > 0).then(|| (0..rng.index(4)).map(|_| amount(rng)).collect()));
    }
    let has_samples = rng.index(10) > 0;
    let one = |rng: &mut Rng| PodReading {
        request_milli: (rng.index(50) > 0).then_some(1000),
        sample: (has_samples && rng.index(5) > 0).then(|| Sample {
            milli: amount(rng),
            at: Time(now.0.saturating_sub(u64::from(rng.index(60)) * 1_000_000_000)),
            window: Duration::from_secs(u64::from(rng.index(2)) * 30),
        }),
    };
    Reading::Pods((0..pods).map(|_| one(rng)).collect())
}

/// A bound out of the settings, under any of the names that it has.
fn bound(text: &str, names: &[&str]) -> Option<u32> {
    let settings: serde_json::Value = serde_json::from_str(text.split_once(" = ")?.1).expect("JSON");
    names.iter().find_map(|name| settings.get(name)?.as_u64()).map(|bound| bound as u32)
}

#[test]
fn autoscalers() {
    for_each(AutoscalerSettings::KINDS, |kind, text, settings: &AutoscalerSettings| {
        let fewest = bound(text, &["min-size", "min-replicas", "min-replica-count", "min-scale"]);
        let most = bound(text, &["max-size", "max-replicas", "max-replica-count", "max-scale"]);
        let may_sleep = kind.name == "keda";
        let mut policy = settings.build(Time::ZERO);
        let mut rng = Key::new(21).rng();
        let (mut now, mut digest, mut current) = (Time::ZERO, 0, fewest.unwrap_or(1).max(1));
        let mut changes = 0;
        for _ in 0..TICKS {
            let interval = policy.interval();
            assert!(interval > Duration::ZERO, "{text}: never ends");
            now += wait(&mut rng, interval);
            if policy.sampling().is_some() {
                let level = amount(&mut rng) as f64 / 1e3;
                let load = Load { concurrency: level, requests_per_second: 10.0 * level };
                fold(&mut digest, u64::from(policy.on_sample(now, &load)));
            }
            // Mostly those that are wanted, sometimes none, sometimes as many as before a restart.
            let there = match rng.index(20) {
                0 => 0,
                1 => rng.index(60),
                _ => current,
            };
            let pods: Vec<Pod> = (0..there).map(|_| pod(&mut rng, now)).collect();
            let queries = policy.queries().to_vec();
            let readings: Vec<Reading> =
                queries.iter().map(|query| reading(&mut rng, now, query, pods.len())).collect();
            let fleet = Fleet {
                current,
                pods: &pods,
                readings: &readings,
                instance_cores: 2.0,
                instance_memory: 1 << 30,
                memory_available: 64 << 30,
            };
            let mut steps: Vec<(&'static str, f64)> = Vec::new();
            let desired = policy.evaluate(now, &fleet, &mut steps);
            assert!(!desired.reason.is_empty(), "{text}: gives no reason");
            assert!(steps.iter().all(|(_, value)| value.is_finite()), "{text}: {steps:?}");
            if let Some(most) = most.filter(|most| *most > 0) {
                assert!(desired.replicas <= most, "{text}: {} replicas, {steps:?}", desired.replicas);
            }
            if let Some(fewest) = fewest {
                let enough = desired.replicas >= fewest || may_sleep && desired.replicas == 0;
                assert!(enough, "{text}: {} replicas, {steps:?}", desired.replicas);
            }
            changes += u32::from(desired.replicas != current);
            fold(&mut digest, desired.replicas.into());
            // Nobody runs a million instances; the policy need not know.
            current = desired.replicas.min(200);
        }
        assert!(changes > 0, "{text}: a history without contrast");
        digest
    });
}

#[test]
fn recommenders() {
    for_each(RecommenderSettings::KINDS, |_, text, settings: &RecommenderSettings| {
        let mut policy = settings.build(Time::ZERO);
        let mut rng = Key::new(22).rng();
        let (mut now, mut digest) = (Time::ZERO, 0);
        assert_eq!(policy.recommend(now, 1), None, "{text}: knows without having seen");
        for _ in 0..TICKS {
            assert!(policy.interval() > Duration::ZERO, "{text}: never ends");
            now += wait(&mut rng, policy.interval());
            let instance = rng.index(20);
            match rng.index(40) {
                0 => policy.on_oom(now, instance, i64::from(rng.index(1 << 30))),
                1 => policy.on_gone(now, instance),
                2 => {}
                _ => {
                    let used = Resources { cpu_milli: amount(&mut rng), memory: amount(&mut rng) << 20 };
                    policy.on_usage(now, &Usage { instance, at: now, used });
                }
            }
            let Some(found) = policy.recommend(now, 1 + rng.index(4)) else { continue };
            assert!(Resources::ZERO.fits(found.lower_bound), "{text}: {found:?}");
            assert!(found.lower_bound.fits(found.target), "{text}: {found:?}");
            assert!(found.target.fits(found.upper_bound), "{text}: {found:?}");
            fold(&mut digest, found.target.cpu_milli as u64);
            fold(&mut digest, found.upper_bound.memory as u64);
        }
        digest
    });
}

/// Whether a node may take the pod, as the filters of the kube-scheduler have it.
fn may_take(pod: &PodRequest, nodes: &[NodeView], at: usize) -> bool {
    let node = &nodes[at];
    let free = node.allocatable - node.requested;
    let there =
        |zone: u32| -> u32 { nodes.iter().filter(|node| node.zone == zone).map(|node| node.same).sum() };
    let open = nodes.iter().filter(|node| node.eligible).map(|node| node.zone);
    let emptiest = open.map(there).min().unwrap_or(0);
    node.eligible
        && node.pods < node.max_pods
        && (pod.request.cpu_milli == 0 || pod.request.cpu_milli <= free.cpu_milli)
        && (pod.request.memory == 0 || pod.request.memory <= free.memory)
        && match pod.anti_affinity {
            AntiAffinity::None => true,
            AntiAffinity::Node => node.same == 0,
            AntiAffinity::Zone => there(node.zone) == 0,
        }
        && pod.zone_max_skew.is_none_or(|skew| there(node.zone) < emptiest + skew)
}

#[test]
fn schedulers() {
    for_each(SchedulerSettings::KINDS, |_, text, settings: &SchedulerSettings| {
        let mut policy = settings.build(Time::ZERO);
        let mut rng = Key::new(23).rng();
        let (mut digest, mut placed, mut refused) = (0, 0, 0);
        for step in 0..TICKS {
            let resources = |rng: &mut Rng| Resources {
                cpu_milli: i64::from(rng.index(9)) * 500,
                memory: i64::from(rng.index(9)) << 29,
            };
            let mut nodes: Vec<NodeView> = (0..rng.index(if step % 100 == 0 { 300 } else { 12 }))
                .map(|_| {
                    let (allocatable, pods) = (resources(&mut rng), rng.index(5));
                    let requested =
                        Resources { cpu_milli: allocatable.cpu_milli / 2, memory: allocatable.memory / 2 };
                    NodeView {
                        eligible: rng.index(4) > 0,
                        allocatable,
                        max_pods: rng.index(6),
                        requested,
                        non_zero_requested: requested,
                        pods,
                        zone: rng.index(4),
                        same: rng.index(pods + 1) / 2,
                        has_image: rng.index(2) == 0,
                    }
                })
                .collect();
            let apart = [AntiAffinity::None, AntiAffinity::None, AntiAffinity::Node, AntiAffinity::Zone];
            let pod = PodRequest {
                request: resources(&mut rng),
                containers: 1 + rng.index(3),
                image: i64::from(rng.index(3)) << 28,
                anti_affinity: apart[rng.index(4) as usize],
                zone_max_skew: (rng.index(3) == 0).then(|| 1 + rng.index(2)),
            };
            // Until nothing fits any more, or for a few.
            for _ in 0..4 {
                let found = policy.place(&pod, &nodes, &mut rng);
                fold(&mut digest, found.map_or(u64::MAX, |at| at as u64));
                let Some(at) = found else {
                    let missed = (0..nodes.len()).find(|at| may_take(&pod, &nodes, *at));
                    assert_eq!(missed, None, "{text}: {pod:?} nowhere among {nodes:?}");
                    refused += 1;
                    break;
                };
                assert!(may_take(&pod, &nodes, at), "{text}: {pod:?} on {:?}", nodes[at]);
                placed += 1;
                let node = &mut nodes[at];
                node.requested += pod.request;
                node.non_zero_requested += pod.request;
                (node.pods, node.same) = (node.pods + 1, node.same + 1);
            }
        }
        assert!(placed > 1000 && refused > 1000, "{text}: {placed} placed, {refused} refused");
        digest
    });
}

/// A cluster that does what it is told, sooner or later, or fails to.
struct World {
    groups: Vec<Group>,
    nodes: Vec<Node>,
    pods: Vec<provisioner::Pod>,
    next: u32,
}

impl World {
    fn new() -> Self {
        let group = |at: u32| Group {
            allocatable: Resources { cpu_milli: 4000 << (at % 2), memory: 8 << 30 },
            max_pods: 20,
            zone: at % 2,
            kind: at,
            min: at % 2,
            max: 3 + at,
            target: 0,
            price: 0.1 * f64::from(1 + at),
            priority: at.cast_signed(),
        };
        Self { groups: (0..3).map(group).collect(), nodes: Vec::new(), pods: Vec::new(), next: 0 }
    }

    fn of_group(&self, group: u32) -> u32 {
        let counts =
            |node: &&Node| node.group == Some(group) && !matches!(node.state, NodeState::Deleting { .. });
        self.nodes.iter().filter(counts).count() as u32
    }

    fn order(&mut self, now: Time, group: u32) {
        let Group { allocatable, max_pods, zone, kind, .. } = self.groups[group as usize];
        let state = NodeState::Upcoming;
        let (id, group) = (self.next, Some(group));
        self.next += 1;
        self.nodes.push(Node {
            id,
            group,
            state,
            since: now,
            changed: now,
            allocatable,
            max_pods,
            zone,
            kind,
        });
    }

    /// A node is gone; what was there waits again.
    fn drop_node(&mut self, at: usize) {
        self.nodes.swap_remove(at);
        let last = self.nodes.len() as u32;
        for pod in &mut self.pods {
            if pod.node == Some(at as u32) {
                pod.node = None;
            } else if pod.node == Some(last) {
                pod.node = Some(at as u32);
            }
        }
    }

    /// Pods come, go and find places; nodes become ready, fail and vanish.
    fn live(&mut self, now: Time, rng: &mut Rng, busy: bool) {
        while busy && self.pods.len() < 60 && rng.index(3) == 0 {
            self.pods.push(provisioner::Pod {
                owner: rng.index(4),
                request: Resources {
                    cpu_milli: i64::from(rng.index(10)) * 500,
                    memory: i64::from(rng.index(3)) << 30,
                },
                kinds: if rng.index(4) == 0 { 1 << rng.index(3) } else { u64::MAX },
                node: None,
                created: now,
                anti_affinity: if rng.index(8) == 0 { AntiAffinity::Node } else { AntiAffinity::None },
                movable: rng.index(10) > 0,
                daemon: false,
            });
        }
        // In quiet times all but a few go, and then nothing happens.
        if self.pods.len() > 4 && rng.index(4) == 0 {
            let pod = self.pods.swap_remove(rng.index(self.pods.len() as u32) as usize);
            if let Some(node) = pod.node {
                self.nodes[node as usize].changed = now;
            }
        }
        for at in (0..self.nodes.len()).rev() {
            let node = &mut self.nodes[at];
            let next = match (node.state, rng.index(40)) {
                (NodeState::Upcoming, 0..4) | (NodeState::NotReady, 0) => NodeState::Ready,
                (NodeState::Ready, 0) if rng.index(10) == 0 => NodeState::NotReady,
                (NodeState::Deleting { .. }, 0..10) => {
                    self.drop_node(at);
                    continue;
                }
                (state, _) => state,
            };
            if next != node.state {
                (node.state, node.since) = (next, now);
            }
        }
        for pod in &mut self.pods {
            let left = pod.node.is_some_and(|at| self.nodes[at as usize].state != NodeState::Ready);
            if left && rng.index(4) == 0 {
                pod.node = None;
            }
        }
        let mut free: BTreeMap<u32, (Resources, u32)> = BTreeMap::new();
        for (at, node) in self.nodes.iter().enumerate() {
            let there = || self.pods.iter().filter(|pod| pod.node == Some(at as u32));
            let used = there().fold(Resources::ZERO, |sum, pod| sum + pod.request);
            if node.state == NodeState::Ready {
                free.insert(at as u32, (node.allocatable - used, node.max_pods - there().count() as u32));
            }
        }
        for pod in self.pods.iter_mut().filter(|pod| pod.node.is_none()) {
            let fits = |(at, (room, places)): &(&u32, &mut (Resources, u32))| {
                pod.kinds & (1 << self.nodes[**at as usize].kind) != 0
                    && pod.request.fits(*room)
                    && *places > 0
            };
            if let Some((at, (room, places))) = free.iter_mut().find(|entry| fits(entry)) {
                pod.node = Some(*at);
                self.nodes[*at as usize].changed = now;
                *room -= pod.request;
                *places -= 1;
            }
        }
        for group in 0..self.groups.len() {
            self.groups[group].target = self.of_group(group as u32);
        }
    }

    fn find(&self, id: u32, text: &str) -> usize {
        let found = self.nodes.iter().position(|node| node.id == id);
        found.unwrap_or_else(|| panic!("{text}: there is no node {id}"))
    }
}

#[test]
fn provisioners() {
    for_each(ProvisionerSettings::KINDS, |_, text, settings: &ProvisionerSettings| {
        let most = bound(text, &["max-nodes-total"]).unwrap_or(u32::MAX) as usize;
        let mut policy = settings.build(Time::ZERO);
        let mut rng = Key::new(24).rng();
        let (mut now, mut digest) = (Time::ZERO, 0);
        let mut world = World::new();
        for group in 0..3 {
            world.order(now, group);
        }
        let (mut grown, mut removed) = (0, 0);
        for step in 0..TICKS {
            assert!(policy.interval() > Duration::ZERO, "{text}: never ends");
            now += wait(&mut rng, policy.interval());
            world.live(now, &mut rng, step % 800 < 300);
            let cluster = Cluster { groups: &world.groups, nodes: &world.nodes, pods: &world.pods };
            let mut decisions = Vec::new();
            policy.evaluate(now, &cluster, &mut rng, &mut decisions);
            for decision in decisions {
                match decision {
                    Decision::Grow { group, nodes, reason } => {
                        fold(&mut digest, u64::from(group) << 32 | u64::from(nodes));
                        assert!(nodes >= 1 && !reason.is_empty(), "{text}: {decision:?}");
                        let Group { max, .. } = world.groups[group as usize];
                        assert!(world.of_group(group) + nodes <= max, "{text}: {decision:?} above {max}");
                        assert!(world.nodes.len() + nodes as usize <= most, "{text}: {decision:?}");
                        for _ in 0..nodes {
                            if rng.index(10) == 0 {
                                policy.on_failure(now, Failure::Grow { group });
                            } else {
                                world.order(now, group);
                            }
                        }
                        grown += 1;
                    }
                    Decision::Remove { node, drain, reason, .. } => {
                        fold(&mut digest, node.into());
                        assert!(!reason.is_empty());
                        let at = world.find(node, text);
                        let state = world.nodes[at].state;
                        let group = world.nodes[at].group.expect("all are of a group");
                        assert!(
                            !matches!(state, NodeState::Deleting { .. }),
                            "{text}: {node} is being deleted"
                        );
                        assert!(
                            world.of_group(group) > world.groups[group as usize].min,
                            "{text}: below min"
                        );
                        let here = world.pods.iter().filter(|pod| pod.node == Some(at as u32)).count();
                        assert!(
                            drain || here == 0,
                            "{text}: {here} instances on a node that counts as empty"
                        );
                        if rng.index(10) == 0 {
                            policy.on_failure(now, Failure::Remove { node });
                        } else {
                            let node = &mut world.nodes[at];
                            (node.state, node.since) = (NodeState::Deleting { drained: drain }, now);
                        }
                        removed += 1;
                    }
                    Decision::GiveUp { node } => {
                        fold(&mut digest, u64::MAX - u64::from(node));
                        let at = world.find(node, text);
                        assert!(
                            world.nodes[at].state != NodeState::Ready,
                            "{text}: gave up a node that is ready"
                        );
                        world.drop_node(at);
                    }
                }
            }
        }
        assert!(grown > 20 && removed > 20, "{text}: {grown} grown, {removed} removed");
        digest
    });
}
