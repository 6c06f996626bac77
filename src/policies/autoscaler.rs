//! Autoscalers: how many replicas a service should have.

pub mod fixed;
pub mod hpa;
pub mod keda;
pub mod kpa;
pub mod seed_formula;
pub mod seed_formula_ratio;

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
    /// CPU in thousandths of a core (or thousandths of whatever the metric counts).
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
    /// CPU request in thousandths of a core; `None` if a container has none.
    pub request_milli: Option<i64>,
    /// The latest CPU sample; `None` while the metrics pipeline has none.
    pub cpu: Option<Sample>,
}

/// A service as a control loop sees it.
#[derive(Clone, Copy, Debug)]
pub struct Fleet<'a> {
    /// Wanted replicas (`spec.replicas`).
    pub current: u32,
    /// Every pod of the service that still exists.
    pub pods: &'a [Pod],
    /// CPU cores of one instance.
    pub instance_cores: f64,
    /// Memory of one instance, in bytes.
    pub instance_memory: u64,
    /// Memory the pools of the service have in all, in bytes.
    pub memory_available: u64,
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

/// A control loop over the number of replicas.
pub trait Autoscaler {
    /// Time between evaluations.
    fn interval(&self) -> Duration;

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
    "fixed" => fixed::Fixed,
    "hpa" => hpa::Hpa,
    "seed-formula" => seed_formula::SeedFormula,
    "seed-formula-ratio" => seed_formula_ratio::SeedFormulaRatio,
}

impl Autoscaler for AnyAutoscaler {
    fn interval(&self) -> Duration {
        dispatch!(self, policy => policy.interval())
    }

    fn evaluate(&mut self, now: Time, fleet: &Fleet<'_>, explain: &mut dyn Explain) -> Desired {
        dispatch!(self, policy => policy.evaluate(now, fleet, explain))
    }
}
