//! Schedulers: which node gets an instance.

pub mod kube;
pub mod spread;

use super::view::Resources;
use crate::random::Rng;

/// What an instance asks of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodRequest {
    /// Sum of the requests of its containers; 0 where none is written.
    pub request: Resources,
    /// Number of its containers, at least 1.
    pub containers: u32,
    /// Size of its images in bytes, 0 if they do not matter.
    pub image: i64,
    /// Instances of the same service that it must not meet.
    pub anti_affinity: AntiAffinity,
    /// By how many the instances of the service in its zone may exceed those in the emptiest zone; `None` for no bound.
    pub zone_max_skew: Option<u32>,
}

/// Where no other instance of the same service may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AntiAffinity {
    /// It may be anywhere.
    #[default]
    None,
    /// Not on the same node.
    Node,
    /// Not in the same zone.
    Zone,
}

/// A node as the scheduler sees it when it places one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Whether it is ready and its labels, taints and cordons let this instance in.
    pub eligible: bool,
    /// What it offers to instances.
    pub allocatable: Resources,
    /// Most instances it takes.
    pub max_pods: u32,
    /// Sum of the requests of the instances there.
    pub requested: Resources,
    /// The same with [`kube::DEFAULT_REQUEST`] for each container that asks for nothing.
    pub non_zero_requested: Resources,
    /// Number of instances there.
    pub pods: u32,
    /// Its zone.
    pub zone: u32,
    /// Number of instances of the same service there.
    pub same: u32,
    /// Whether the images of the instance are there already.
    pub has_image: bool,
}

impl PodRequest {
    /// Whether those of the same service that are there already let it in: `in_zone` of them are in the zone of the node,
    /// and `emptiest` in the zone with the fewest.
    fn may_join(&self, node: &NodeView, in_zone: u32, emptiest: u32) -> bool {
        let apart = match self.anti_affinity {
            AntiAffinity::None => true,
            AntiAffinity::Node => node.same == 0,
            AntiAffinity::Zone => in_zone == 0,
        };
        apart && self.zone_max_skew.is_none_or(|skew| in_zone + 1 - emptiest.min(in_zone + 1) <= skew)
    }
}

/// Places instances.
pub trait Scheduler {
    /// Index of the node for the instance, or `None` if there is none. The caller puts the instance into the view of
    /// that node before it asks again.
    fn place(&mut self, pod: &PodRequest, nodes: &[NodeView], rng: &mut Rng) -> Option<usize>;
}

registry! {
    ($)
    /// Settings of a scheduler, as written in a scenario.
    SchedulerSettings,
    /// Any scheduler, held by value.
    AnyScheduler: Scheduler,
    family "scheduler" in "scheduler",
    "kube" => kube::Kube,
    "spread" => spread::Spread,
}

impl Default for SchedulerSettings {
    fn default() -> Self {
        Self::Spread(spread::SpreadSettings::default())
    }
}

impl Scheduler for AnyScheduler {
    fn place(&mut self, pod: &PodRequest, nodes: &[NodeView], rng: &mut Rng) -> Option<usize> {
        dispatch!(self, policy => policy.place(pod, nodes, rng))
    }
}
