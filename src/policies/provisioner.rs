//! Provisioners: how many nodes of which kind there should be.

pub mod cluster_autoscaler;
pub mod karpenter;
pub mod simulation;

use super::scheduler::AntiAffinity;
use super::view::Resources;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Nodes of one kind that can be had (a node group, an auto-scaling group, an instance type in a zone).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// What a node of it offers to instances.
    pub allocatable: Resources,
    /// Most instances that a node of it takes.
    pub max_pods: u32,
    /// Zone of its nodes.
    pub zone: u32,
    /// Kind of its nodes, below 64, as in [`Pod::kinds`].
    pub kind: u32,
    /// Fewest nodes.
    pub min: u32,
    /// Most nodes.
    pub max: u32,
    /// Nodes that are there or ordered, without those being deleted.
    pub target: u32,
    /// Price of a node per hour, not negative.
    pub price: f64,
    /// Rank for the expander that goes by priority; the highest wins.
    pub priority: i32,
}

/// How far a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Ordered, and not yet ready for the first time.
    Upcoming,
    /// Ready.
    Ready,
    /// No longer ready.
    NotReady,
    /// Being deleted; whether its instances had to leave first.
    Deleting {
        /// It had instances.
        drained: bool,
    },
}

/// A node of the cluster, or one that was ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name, a number that is not used twice.
    pub id: u32,
    /// Index of its group; `None` if nobody scales it.
    pub group: Option<u32>,
    /// How far it is in its life ...
    pub state: NodeState,
    /// ... and since when.
    pub since: Time,
    /// When an instance last came or went.
    pub changed: Time,
    /// What it offers to instances.
    pub allocatable: Resources,
    /// Most instances it takes.
    pub max_pods: u32,
    /// Its zone.
    pub zone: u32,
    /// Its kind, below 64, as in [`Pod::kinds`].
    pub kind: u32,
}

/// An instance as a provisioner sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its service.
    pub owner: u32,
    /// What it asks for.
    pub request: Resources,
    /// Kinds of nodes that it may be on, a bit for each (node selector).
    pub kinds: u64,
    /// Index of its node among the nodes; `None` while the scheduler found none.
    pub node: Option<u32>,
    /// When it was created.
    pub created: Time,
    /// Instances of its service that it must not meet.
    pub anti_affinity: AntiAffinity,
    /// Whether it may be evicted now (disruption budget, annotations).
    pub movable: bool,
    /// Whether it belongs to its node and goes with it.
    pub daemon: bool,
}

/// All that a provisioner sees.
#[derive(Clone, Copy, Debug)]
pub struct Cluster<'a> {
    /// Kinds of nodes that can be had.
    pub groups: &'a [Group],
    /// Nodes, ordered ones included.
    pub nodes: &'a [Node],
    /// Instances, waiting ones included.
    pub pods: &'a [Pod],
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Order nodes.
    Grow {
        /// Index of the group.
        group: u32,
        /// How many, at least 1.
        nodes: u32,
        /// Why, in the upstream's words where it has some.
        reason: &'static str,
    },
    /// Close a node to new instances, evict those that are there, delete it.
    Remove {
        /// Its name ([`Node::id`]).
        node: u32,
        /// Whether there are instances to evict.
        drain: bool,
        /// The longest that an evicted instance may take to end.
        grace: Duration,
        /// Why.
        reason: &'static str,
    },
    /// Cancel a node that does not come.
    GiveUp {
        /// Its name ([`Node::id`]).
        node: u32,
    },
}

/// What did not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The provider has no node of this group for us.
    Grow {
        /// Index of the group.
        group: u32,
    },
    /// A node could not be drained or deleted.
    Remove {
        /// Its name ([`Node::id`]).
        node: u32,
    },
}

/// Orders and removes nodes.
pub trait Provisioner {
    /// Time between looks at the cluster.
    fn interval(&self) -> Duration;

    /// One look. Appends what to do to `decisions`; the caller shows the results in the next view.
    fn evaluate(&mut self, now: Time, cluster: &Cluster<'_>, rng: &mut Rng, decisions: &mut Vec<Decision>);

    /// An earlier decision did not work.
    fn on_failure(&mut self, now: Time, failure: Failure);
}

registry! {
    ($)
    /// Settings of a provisioner, as written in a scenario.
    ProvisionerSettings,
    /// Any provisioner, held by value.
    AnyProvisioner: Provisioner,
    family "provisioner" in "provisioner",
    "cluster-autoscaler" => cluster_autoscaler::ClusterAutoscaler,
    "karpenter" => karpenter::Karpenter,
}

impl Provisioner for AnyProvisioner {
    fn interval(&self) -> Duration {
        dispatch!(self, policy => policy.interval())
    }

    fn evaluate(&mut self, now: Time, cluster: &Cluster<'_>, rng: &mut Rng, decisions: &mut Vec<Decision>) {
        dispatch!(self, policy => policy.evaluate(now, cluster, rng, decisions));
    }

    fn on_failure(&mut self, now: Time, failure: Failure) {
        dispatch!(self, policy => policy.on_failure(now, failure));
    }
}
