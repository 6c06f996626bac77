//! Autoscalers: how many replicas a service should have.

pub mod aws_simple;
pub mod aws_step;
pub mod aws_target_tracking;
pub mod cloudwatch;
pub mod fixed;
pub mod hpa;
pub mod keda;
pub mod kpa;
pub mod predictive;
pub mod scheduled;
pub mod seed_formula;
pub mod seed_formula_ratio;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::time::{Duration, Time};

/// Phase of a pod as the API server reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not all containers run yet.
    Pending,
    /// Containers run.
    Running,
    /// All containers ended, at least one in failure.
    Failed,
    /// All containers ended well.
    Succeeded,
}

/// One measured value of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Thousandths of whatever the metric counts: cores, bytes, requests per second.
    pub milli: i64,
    /// End of the window the value was averaged over.
    pub at: Time,
    /// Length of that window.
    pub window: Duration,
}

/// One instance as a control loop sees it: late, through an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Phase.
    pub phase: Phase,
    /// The Ready condition and when it last changed; `None` if there is no such condition yet.
    pub ready: Option<(bool, Time)>,
    /// When the kubelet acknowledged the pod.
    pub started: Option<Time>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// What a pod's containers ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    /// Cores.
    Cpu,
    /// Bytes.
    Memory,
}

/// A metric that a control loop follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// A resource of every pod, all containers together.
    Resource(Resource),
    /// A resource of one container of every pod.
    ContainerResource {
        /// Name of the container.
        container: String,
        /// Its resource.
        resource: Resource,
    },
    /// A metric of every pod.
    Pods(String),
    /// A metric of one other thing.
    Object {
        /// The thing.
        object: String,
        /// The metric.
        metric: String,
    },
    /// A metric from outside of the cluster, perhaps in several series.
    External(String),
}

/// What the metrics pipeline answers to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// One entry for each pod of the fleet, in its order.
    Pods(Vec<PodReading>),
    /// Values of all series, in thousandths; `None` while the pipeline has none.
    Series(Option<Vec<i64>>),
}

/// A metric of one pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodReading {
    /// What the pod asks for, in thousandths; `None` if a container has no request, or where there are no requests.
    pub request_milli: Option<i64>,
    /// The latest sample; `None` while the metrics pipeline has none.
    pub sample: Option<Sample>,
}

impl Reading {
    /// By pod; empty if it is not that kind of metric.
    pub fn pods(&self) -> &[PodReading] {
        if let Self::Pods(pods) = self { pods } else { &[] }
    }

    /// By series; `None` while the pipeline has nothing, or if it is not that kind of metric.
    pub fn series(&self) -> Option<&[i64]> {
        if let Self::Series(series) = self { series.as_deref() } else { None }
    }
}

/// A service as a control loop sees it.
#[derive(Clone, Copy, Debug)]
pub struct Fleet<'a> {
    /// Wanted replicas (`spec.replicas`).
    pub current: u32,
    /// Every pod of the service that still exists.
    pub pods: &'a [Pod],
    /// Answers to [`Autoscaler::queries`], in that order.
    pub readings: &'a [Reading],
    /// CPU cores of one instance.
    pub instance_cores: f64,
    /// Memory of one instance, in bytes.
    pub instance_memory: u64,
    /// Memory the pools of the service have in all, in bytes.
    pub memory_available: u64,
}

impl Fleet<'_> {
    /// Replicas that exist (`status.replicas`): pods that are not on their way out.
    pub fn existing(&self) -> u32 {
        self.pods.iter().filter(|pod| !pod.deleting).count() as u32
    }
}

/// Result of one evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Replicas wanted from now on.
    pub replicas: u32,
    /// Why, in the upstream's words where it has some (`ScaleUpLimit`, `DesiredWithinRange` ...).
    pub reason: &'static str,
}

/// Receives each raw value, proposal and clamp of one evaluation, in the order in which they apply.
pub trait Explain {
    /// The steps that follow, up to the next call, belong to the metric of this name; an empty name ends that.
    fn about(&mut self, _metric: &str) {}

    /// One step: `what` is a short name (`utilization`, `proposal`, `stabilized`, `limit`), `value` its result.
    fn step(&mut self, what: &'static str, value: f64);
}

/// For callers that do not want to know.
impl Explain for () {
    fn step(&mut self, _what: &'static str, _value: f64) {}
}

impl Explain for Vec<(&'static str, f64)> {
    fn step(&mut self, what: &'static str, value: f64) {
        self.push((what, value));
    }
}

/// What went on at a service since the last sample: in its instances and, if it has one, at its activator.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Requests in flight, mean over the time.
    pub concurrency: f64,
    /// Requests that came, per second.
    pub requests_per_second: f64,
}

/// A control loop over the number of replicas.
pub trait Autoscaler {
    /// From an evaluation to the next one; asked anew after each.
    fn interval(&self) -> Duration;

    /// The metrics it follows; the answers come in [`Fleet::readings`].
    fn queries(&self) -> &[Query] {
        &[]
    }

    /// Time between samples, for one that looks at its service by itself instead of asking for metrics; `None` for all
    /// others.
    fn sampling(&self) -> Option<Duration> {
        None
    }

    /// One sample. True asks for [`Self::evaluate`] at once.
    fn on_sample(&mut self, _now: Time, _load: &Load) -> bool {
        false
    }

    /// One tick. The caller applies `replicas` at once if it differs from `fleet.current`.
    fn evaluate(&mut self, now: Time, fleet: &Fleet<'_>, explain: &mut dyn Explain) -> Desired;
}

registry! {
    ($)
    /// Settings of an autoscaler, as written in a scenario: `autoscaler.hpa = { max-replicas = 20 }`.
    AutoscalerSettings,
    /// Any autoscaler, held by value.
    AnyAutoscaler: Autoscaler,
    family "autoscaler" in "autoscaler",
    "aws-simple" => aws_simple::AwsSimple,
    "aws-step" => aws_step::AwsStep,
    "aws-target-tracking" => aws_target_tracking::AwsTargetTracking,
    "fixed" => fixed::Fixed,
    "hpa" => hpa::Hpa,
    "keda" => keda::Keda,
    "kpa" => kpa::Kpa,
    "predictive" => predictive::Predictive,
    "scheduled" => scheduled::Scheduled,
    "seed-formula" => seed_formula::SeedFormula,
    "seed-formula-ratio" => seed_formula_ratio::SeedFormulaRatio,
}

impl Autoscaler for AnyAutoscaler {
    fn interval(&self) -> Duration {
        dispatch!(self, policy => policy.interval())
    }

    fn queries(&self) -> &[Query] {
        dispatch!(self, policy => policy.queries())
    }

    fn sampling(&self) -> Option<Duration> {
        dispatch!(self, policy => policy.sampling())
    }

    fn on_sample(&mut self, now: Time, load: &Load) -> bool {
        dispatch!(self, policy => policy.on_sample(now, load))
    }

    fn evaluate(&mut self, now: Time, fleet: &Fleet<'_>, explain: &mut dyn Explain) -> Desired {
        dispatch!(self, policy => policy.evaluate(now, fleet, explain))
    }
}
