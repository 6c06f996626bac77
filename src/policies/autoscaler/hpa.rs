//! The `HorizontalPodAutoscaler` of Kubernetes (`autoscaling/v2`).
//!
//! # What it does
//! Every `sync-period` it compares each metric with its target and proposes `ceil(ratio * pods)` replicas, unless the ratio
//! lies within the tolerance; the largest proposal counts. If some metrics fail, the others may scale out but not in. Pods that are deleted or failed are ignored; pods that are pending, not ready or
//! freshly started count as idle when scaling up; pods without a sample count as fully busy when scaling down and as
//! idle when scaling up. The proposal is held back by the stabilization windows, then limited by the rate policies and by
//! `min-replicas` and `max-replicas`.
//!
//! # When it helps
//! When load follows CPU, grows over minutes rather than seconds, and new pods are ready well within the time that the
//! spare capacity below the target buys.
//!
//! # How it fails
//! * Metrics are late (window, scrape, sync), pods start late: a flood faster than that is served by the old replicas.
//! * Saturated pods report at most their limit, so the ratio cannot exceed limit / target per sync.
//! * Pods that wait on a dependency use little CPU: it scales in while latency rises.
//! * No metrics, or none usable: nothing changes, in either direction.
//! * Without `behavior`, one sync at most doubles the replicas (or reaches 4); scaling in waits five minutes.
//!
//! # Settings
//! * `min-replicas` (1; 0 as with the gate `HPAScaleToZero`, with an `object` or `external` metric), `max-replicas` (required).
//! * `target-cpu-utilization` (80): percent of the pods' CPU requests; or `target-cpu-average-value`: CPU per pod, such as
//!   `"500m"`. Not both; short for one entry of `metrics`.
//! * `metrics`: a list of `{ resource = { name = "cpu" | "memory", utilization | average-value } }`,
//!   `{ container-resource = { container, name, .. } }`, `{ pods = { metric, average-value } }`,
//!   `{ object = { of, metric, value | average-value } }` and `{ external = { metric, value | average-value } }`.
//! * `sync-period` (`"15s"`), `tolerance` (`"10%"`), `cpu-initialization-period` (`"5min"`), `initial-readiness-delay`
//!   (`"30s"`), `downscale-stabilization` (`"5min"`): flags of the controller manager.
//! * `behavior = { scale-up = { .. }, scale-down = { .. } }`, each with `stabilization-window`, `select-policy` (`max`,
//!   `min`, `disabled`), `policies = [{ type = "pods", value = 4, period = "15s" }]` and `tolerance`. Defaults once `behavior`
//!   is there: up 4 pods or 100 % per 15 s at once; down 100 % per 15 s after `downscale-stabilization`. A written list
//!   of policies replaces the default list. `behavior = {}` is not the same as no `behavior`.
//! * `k8s-version` (`"1.33"`): before 1.33 the tolerance test is `|1 - ratio| <= tolerance`, which a ratio of exactly 1.1
//!   fails in floating point; from 1.33 on it is `1 - tolerance <= ratio <= 1 + tolerance`, which it passes, and each
//!   direction may have its own.
//!
//! # Origin
//! kubernetes/kubernetes v1.28.0, `pkg/controller/podautoscaler/horizontal.go` (`reconcileAutoscaler`,
//! `normalizeDesiredReplicas`, `normalizeDesiredReplicasWithBehaviors`), `replica_calculator.go`
//! (`GetResourceReplicas`, `GetRawResourceReplicas`, `GetMetricReplicas`, `GetObjectMetricReplicas`,
//! `GetExternalPerPodMetricReplicas`, `groupPods`), `pkg/apis/autoscaling/v2/defaults.go`; the tolerance form
//! and the tolerances per direction from 1.33.
//!
//! # Deliberate differences
//! * `min-replicas = 0` takes the gate `HPAScaleToZero` for on, which by default it is not. The rules are those of the present
//!   main branch, whatever `k8s-version` says: at zero the metrics are read only if this HPA scaled to zero itself, which a
//!   run that begins at zero takes for granted. They were read there and not recorded.
//! * A fleet that somebody else set to zero replicas stays there (`ScalingDisabled`), as upstream. So an answer outside of the
//!   bounds is possible, and only there.
//! * The log of recommendations lives as long as the run; upstream loses it when the controller restarts.
//! * Pods that ended in success count as missing, as in every release up to 1.36; upstream has since changed that.

pub mod behavior;
pub mod calculator;
pub mod metric;

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::policies::Algorithm;
use crate::policies::autoscaler::{Autoscaler, Desired, Explain, Fleet, Query};
use crate::time::{Duration, Time};
use crate::units::Share;
use behavior::{Behavior, Limited, Recommendation, Rules, ScaleEvents};
use calculator::{ReplicaCalculator, ToleranceForm, Tolerances};
use metric::{Amount, Metric, MetricSettings};

/// Settings of [`Hpa`], with the names of the API fields and of the controller's flags.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, remote = "Self")]
pub struct HpaSettings {
    /// Fewest replicas; 0 only with an `object` or `external` metric.
    #[serde(default = "one")]
    pub min_replicas: u32,
    /// Most replicas, at least `min-replicas`.
    pub max_replicas: NonZeroU32,
    /// CPU of the pods in percent of their requests; 80 if no target is written.
    pub target_cpu_utilization: Option<NonZeroU32>,
    /// CPU per pod, such as `"500m"` or `"0.5"`.
    pub target_cpu_average_value: Option<Amount>,
    /// Everything it follows; the largest proposal counts.
    pub metrics: Option<Vec<MetricSettings>>,
    /// Time between two syncs, not zero.
    #[serde(default = "sync_period")]
    pub sync_period: Duration,
    /// How far the ratio of usage to target may lie from 1 without any effect.
    #[serde(default = "tolerance")]
    pub tolerance: Share,
    /// After its start, the time in which a pod's samples count only if it was ready for a whole metric window.
    #[serde(default = "cpu_initialization_period")]
    pub cpu_initialization_period: Duration,
    /// A pod that turned not ready within this time after its start is taken as never ready.
    #[serde(default = "initial_readiness_delay")]
    pub initial_readiness_delay: Duration,
    /// Scaling in follows the highest recommendation of this window.
    #[serde(default = "downscale_stabilization")]
    pub downscale_stabilization: Duration,
    /// Rates and windows per direction.
    pub behavior: Option<Behavior>,
    /// Release whose rules apply.
    #[serde(default)]
    pub k8s_version: K8sVersion,
}

/// `minReplicas` where nothing is written.
fn one() -> u32 {
    1
}

/// `--horizontal-pod-autoscaler-sync-period`.
fn sync_period() -> Duration {
    Duration::from_secs(15)
}

/// `--horizontal-pod-autoscaler-tolerance`.
fn tolerance() -> Share {
    Share(0.1)
}

/// `--horizontal-pod-autoscaler-cpu-initialization-period`.
fn cpu_initialization_period() -> Duration {
    Duration::from_secs(300)
}

/// `--horizontal-pod-autoscaler-initial-readiness-delay`.
fn initial_readiness_delay() -> Duration {
    Duration::from_secs(30)
}

/// `--horizontal-pod-autoscaler-downscale-stabilization`.
fn downscale_stabilization() -> Duration {
    Duration::from_secs(300)
}

/// `averageUtilization` of the metric that the API server adds where none is written, in percent.
const DEFAULT_UTILIZATION: NonZeroU32 = NonZeroU32::new(80).unwrap();

impl HpaSettings {
    /// Upstream's defaults around the one value that has none.
    pub fn with_max_replicas(max_replicas: NonZeroU32) -> Self {
        Self {
            min_replicas: one(),
            max_replicas,
            target_cpu_utilization: None,
            target_cpu_average_value: None,
            metrics: None,
            sync_period: sync_period(),
            tolerance: tolerance(),
            cpu_initialization_period: cpu_initialization_period(),
            initial_readiness_delay: initial_readiness_delay(),
            downscale_stabilization: downscale_stabilization(),
            behavior: None,
            k8s_version: K8sVersion::default(),
        }
    }

    /// What it follows: CPU, if nothing is written.
    fn followed(&self) -> Vec<MetricSettings> {
        match (&self.metrics, self.target_cpu_average_value, self.target_cpu_utilization) {
            (Some(metrics), ..) => metrics.clone(),
            (None, Some(value), _) => vec![MetricSettings::cpu_average_value(value)],
            (None, None, Some(percent)) => vec![MetricSettings::cpu_utilization(percent)],
            (None, None, None) => vec![MetricSettings::cpu_utilization(DEFAULT_UTILIZATION)],
        }
    }

    /// What the API server's validation and the controller's flags refuse.
    fn check(&self) -> Result<(), String> {
        let (min, max) = (self.min_replicas, self.max_replicas);
        if min > max.get() {
            return Err(format!("`min-replicas` ({min}) is greater than `max-replicas` ({max})"));
        }
        if max.get() > i32::MAX as u32 {
            return Err(format!("`max-replicas` ({max}) is greater than {}", i32::MAX));
        }
        let targets = [
            self.target_cpu_utilization.is_some(),
            self.target_cpu_average_value.is_some(),
            self.metrics.is_some(),
        ];
        if targets.into_iter().filter(|is_there| *is_there).count() > 1 {
            return Err(
                "`target-cpu-utilization`, `target-cpu-average-value` and `metrics` exclude each other"
                    .to_owned(),
            );
        }
        if self.metrics.as_ref().is_some_and(Vec::is_empty) {
            return Err("`metrics` needs at least one entry".to_owned());
        }
        if min == 0 && !self.followed().iter().any(MetricSettings::is_seen_from_zero) {
            return Err("`min-replicas = 0` needs an `object` or `external` metric: instances that are not there report nothing".to_owned());
        }
        if self
            .followed()
            .iter()
            .filter_map(MetricSettings::utilization)
            .any(|target| target.get() > i32::MAX as u32)
        {
            return Err(format!("a utilization is greater than {}", i32::MAX));
        }
        if self.sync_period == Duration::ZERO {
            return Err("`sync-period` must be longer than zero".to_owned());
        }
        let Some(behavior) = &self.behavior else { return Ok(()) };
        behavior.check()?;
        if behavior.has_tolerance() && self.k8s_version < K8sVersion::TOLERANCE_RANGE {
            return Err(format!(
                "a `tolerance` in `behavior` exists from Kubernetes {} on, and `k8s-version` is {}",
                K8sVersion::TOLERANCE_RANGE,
                self.k8s_version
            ));
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for HpaSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        settings.check().map_err(D::Error::custom)?;
        Ok(settings)
    }
}

/// A Kubernetes release, such as 1.33.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct K8sVersion {
    /// Major version.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
}

impl K8sVersion {
    /// From here on the tolerance test is a range, and may differ by direction.
    pub const TOLERANCE_RANGE: Self = Self { major: 1, minor: 33 };
    /// The first release with `behavior`, and the oldest whose rules are known here.
    pub const OLDEST: Self = Self { major: 1, minor: 18 };
}

impl Default for K8sVersion {
    fn default() -> Self {
        Self::TOLERANCE_RANGE
    }
}

impl fmt::Display for K8sVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for K8sVersion {
    type Err = String;

    /// Reads `1.33`, `v1.33` or `1.33.2`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.strip_prefix('v').unwrap_or(text).splitn(3, '.').map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor)), None | Some(Ok(_))) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(format!("`{text}` is not a Kubernetes version such as \"1.33\""));
        };
        let version = Self { major, minor };
        if version < Self::OLDEST {
            return Err(format!(
                "Kubernetes {version} is older than {}, the oldest known here",
                Self::OLDEST
            ));
        }
        Ok(version)
    }
}

impl<'de> Deserialize<'de> for K8sVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not a number: 1.30 would become 1.3.
        Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for K8sVersion {
    fn schema_name() -> Cow<'static, str> {
        "K8sVersion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^v?\d+\.\d+(\.\d+)?$|^\$.+$", "examples": ["1.33"] })
    }
}

/// One condition of an HPA's status: whether it holds, and the upstream's reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `True` or `False`.
    pub status: bool,
    /// Reason, a word such as `ScaleUpLimit`.
    pub reason: &'static str,
}

/// The conditions as `kubectl describe` would show them after the last sync; each keeps its value until it is set again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Whether the scale can be read and written, and whether a window holds it back.
    pub able_to_scale: Option<Condition>,
    /// Whether there is a metric to follow.
    pub scaling_active: Option<Condition>,
    /// Whether a bound or a rate cut the recommendation.
    pub scaling_limited: Option<Condition>,
}

/// Rules for both directions once `behavior` is there.
#[derive(Clone, Debug)]
struct Rates {
    up: Rules,
    down: Rules,
    up_events: ScaleEvents,
    down_events: ScaleEvents,
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Hpa {
    state: Box<State>,
}

#[derive(Clone, Debug)]
struct State {
    min_replicas: u32,
    max_replicas: u32,
    /// The condition `ScaledToZero`: it was this HPA that brought the replicas to zero.
    scaled_to_zero: bool,
    /// Some metric has a value while there is no pod.
    sees_from_zero: bool,
    /// Parallel to `queries`.
    metrics: Vec<Metric>,
    queries: Vec<Query>,
    calculator: ReplicaCalculator,
    sync_period: Duration,
    downscale_stabilization: Duration,
    rates: Option<Rates>,
    recommendations: Vec<Recommendation>,
    conditions: Conditions,
}

impl Hpa {
    /// The conditions after the last sync.
    pub fn conditions(&self) -> &Conditions {
        &self.state.conditions
    }
}

impl Algorithm for Hpa {
    type Settings = HpaSettings;

    fn new(settings: &HpaSettings, _now: Time) -> Self {
        let metrics: Vec<Metric> = settings.followed().iter().map(MetricSettings::metric).collect();
        let direction = |rules: Option<&behavior::ScalingRules>| {
            rules.and_then(|rules| rules.tolerance).unwrap_or(settings.tolerance).0
        };
        let behavior = settings.behavior.as_ref();
        let tolerances = Tolerances {
            up: direction(behavior.and_then(|behavior| behavior.scale_up.as_ref())),
            down: direction(behavior.and_then(|behavior| behavior.scale_down.as_ref())),
            form: if settings.k8s_version < K8sVersion::TOLERANCE_RANGE {
                ToleranceForm::Distance
            } else {
                ToleranceForm::Range
            },
        };
        let rates = behavior.map(|behavior| Rates {
            up: behavior::scale_up_rules(behavior.scale_up.as_ref()),
            down: behavior::scale_down_rules(behavior.scale_down.as_ref()),
            up_events: ScaleEvents::default(),
            down_events: ScaleEvents::default(),
        });
        let state = State {
            min_replicas: settings.min_replicas,
            // An HPA that is older than the run has brought its service to zero itself.
            scaled_to_zero: settings.min_replicas == 0,
            sees_from_zero: settings.followed().iter().any(MetricSettings::is_seen_from_zero),
            max_replicas: settings.max_replicas.get(),
            queries: metrics.iter().map(|metric| metric.query.clone()).collect(),
            metrics,
            calculator: ReplicaCalculator {
                cpu_initialization_period: settings.cpu_initialization_period,
                initial_readiness_delay: settings.initial_readiness_delay,
                tolerances,
            },
            sync_period: settings.sync_period,
            downscale_stabilization: settings.downscale_stabilization,
            rates,
            recommendations: Vec::new(),
            conditions: Conditions::default(),
        };
        Self { state: Box::new(state) }
    }
}

impl Autoscaler for Hpa {
    fn interval(&self) -> Duration {
        self.state.sync_period
    }

    fn queries(&self) -> &[Query] {
        &self.state.queries
    }

    fn evaluate(&mut self, now: Time, fleet: &Fleet<'_>, explain: &mut dyn Explain) -> Desired {
        self.state.reconcile(now, fleet, explain)
    }
}

impl State {
    /// One sync (`reconcileAutoscaler`).
    fn reconcile(&mut self, now: Time, fleet: &Fleet<'_>, explain: &mut dyn Explain) -> Desired {
        let current = fleet.current;
        explain.step("current", f64::from(current));
        self.conditions.able_to_scale = Some(Condition::holds("SucceededGetScale"));
        if self.recommendations.is_empty() {
            self.recommendations.push(Recommendation { at: now, replicas: current });
        }

        self.scaled_to_zero &= current == 0;
        let desired =
            if current == 0 && !(self.scaled_to_zero && (self.sees_from_zero || self.min_replicas > 0)) {
                self.conditions.scaling_active = Some(Condition::fails("ScalingDisabled"));
                return Desired { replicas: 0, reason: "ScalingDisabled" };
            } else if current > self.max_replicas {
                explain.step("max-replicas", f64::from(self.max_replicas));
                Desired { replicas: self.max_replicas, reason: "CurrentAboveMaxReplicas" }
            } else if current < self.min_replicas {
                explain.step("min-replicas", f64::from(self.min_replicas));
                Desired { replicas: self.min_replicas, reason: "CurrentBelowMinReplicas" }
            } else {
                let proposal = match self.compute_replicas(now, fleet, explain) {
                    Ok(proposal) => proposal,
                    Err(reason) => {
                        self.conditions.scaling_active = Some(Condition::fails(reason));
                        return Desired { replicas: current, reason };
                    }
                };
                self.conditions.scaling_active = Some(Condition::holds("ValidMetricFound"));
                self.normalize(now, current, proposal, explain)
            };

        self.scaled_to_zero |= desired.replicas == 0;
        if desired.replicas != current {
            self.conditions.able_to_scale = Some(Condition::holds("SucceededRescale"));
            if let Some(Rates { up, down, up_events, down_events }) = &mut self.rates {
                let (up, down) = ((&*up, up_events), (&*down, down_events));
                behavior::store_scale_event(now, current, desired.replicas, up, down);
            }
        }
        desired
    }

    /// The largest proposal (`computeReplicasForMetrics`), or why there is none: the reason of the first metric that
    /// failed, if all did, or if the others would scale in.
    fn compute_replicas(
        &self,
        now: Time,
        fleet: &Fleet<'_>,
        explain: &mut dyn Explain,
    ) -> Result<u32, &'static str> {
        let several = self.metrics.len() > 1;
        let (mut replicas, mut failed, mut failure) = (0, 0, None);
        for (metric, reading) in self.metrics.iter().zip(fleet.readings) {
            explain.about(if several { &metric.name } else { "" });
            match metric.propose(&self.calculator, now, fleet, reading, explain) {
                Ok(calculation) => {
                    calculation.explain(explain);
                    replicas = replicas.max(calculation.replicas);
                }
                Err(error) => {
                    explain.step(error.kind(), 1.0);
                    failed += 1;
                    failure = failure.or_else(|| Some(metric.failure()));
                }
            }
        }
        explain.about("");
        match failure {
            Some(reason) if failed == self.metrics.len() || replicas < fleet.current => Err(reason),
            _ => Ok(replicas),
        }
    }

    /// Stabilizes and limits a proposal (`normalizeDesiredReplicas` and its sibling with behaviors).
    fn normalize(&mut self, now: Time, current: u32, proposal: u32, explain: &mut dyn Explain) -> Desired {
        let log = &mut self.recommendations;
        let (stabilized, held_back, limited) = match &self.rates {
            None => {
                let stabilized = behavior::stabilize(log, now, self.downscale_stabilization, proposal);
                let limit = |replicas| {
                    let (min, max) = (self.min_replicas, self.max_replicas);
                    behavior::convert_with_rules(current, replicas, min, max, behavior::SCALE_UP_LIMIT_FACTOR)
                };
                explain_stabilization(explain, now, log, proposal, stabilized, limit);
                (stabilized, "ScaleDownStabilized", limit(stabilized))
            }
            Some(rates) => {
                let up_window = rates.up.stabilization_window.unwrap_or(Duration::ZERO);
                let down_window = rates.down.stabilization_window.unwrap_or(self.downscale_stabilization);
                let (stabilized, reason) =
                    behavior::stabilize_with_behavior(log, now, current, proposal, up_window, down_window);
                let limit = |replicas| {
                    behavior::convert_with_behavior_rate(
                        now,
                        current,
                        replicas,
                        self.min_replicas,
                        self.max_replicas,
                        (&rates.up, &rates.up_events),
                        (&rates.down, &rates.down_events),
                    )
                };
                explain_stabilization(explain, now, log, proposal, stabilized, limit);
                (stabilized, reason, limit(stabilized))
            }
        };
        let Limited { replicas, reason } = limited;
        explain.step("limited", f64::from(replicas));
        let stabilized_by = (stabilized != proposal).then_some(held_back);
        self.conditions.able_to_scale = Some(Condition::holds(stabilized_by.unwrap_or("ReadyForNewScale")));
        self.conditions.scaling_limited = Some(Condition { status: replicas != stabilized, reason });
        // For charts, the last rule that changed the figure speaks.
        let reason = if replicas == stabilized { stabilized_by.unwrap_or(reason) } else { reason };
        Desired { replicas, reason }
    }
}

/// What a window made of a proposal: the recommendation that won and its age, and what would be without the window.
fn explain_stabilization(
    explain: &mut dyn Explain,
    now: Time,
    log: &[Recommendation],
    proposal: u32,
    stabilized: u32,
    limit: impl Fn(u32) -> Limited,
) {
    explain.step("stabilized", f64::from(stabilized));
    if stabilized != proposal {
        let won = log.iter().filter(|entry| entry.replicas == stabilized).map(|entry| entry.at).max();
        if let Some(at) = won {
            explain.step("stabilized-by-age-s", now.since(at).as_secs_f64());
        }
        explain.step("without-stabilization", f64::from(limit(proposal).replicas));
    }
}

impl Condition {
    const fn holds(reason: &'static str) -> Self {
        Self { status: true, reason }
    }

    const fn fails(reason: &'static str) -> Self {
        Self { status: false, reason }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policies::autoscaler::{AutoscalerSettings, Phase, Pod, PodReading, Reading, Sample};

    fn read(text: &str) -> Result<HpaSettings, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    const POD: Pod = Pod {
        phase: Phase::Running,
        ready: Some((true, Time::ZERO)),
        started: Some(Time::ZERO),
        deleting: false,
    };

    fn pod(milli: i64) -> (Pod, PodReading) {
        let sample = Sample { milli, at: Time::from_secs(3590), window: Duration::from_secs(30) };
        (POD, PodReading { request_milli: Some(1000), sample: Some(sample) })
    }

    /// A pod whose metrics nobody has.
    fn silent() -> (Pod, PodReading) {
        (POD, PodReading { request_milli: Some(1000), sample: None })
    }

    /// One sync with the CPU of these pods, and perhaps a second metric.
    fn sync(
        hpa: &mut Hpa,
        now: Time,
        current: u32,
        pods: &[(Pod, PodReading)],
        other: Option<Reading>,
        explain: &mut dyn Explain,
    ) -> Desired {
        let (pods, cpu): (Vec<Pod>, Vec<PodReading>) = pods.iter().copied().unzip();
        let readings: Vec<Reading> = std::iter::once(Reading::Pods(cpu)).chain(other).collect();
        let fleet = Fleet {
            current,
            pods: &pods,
            readings: &readings,
            instance_cores: 1.0,
            instance_memory: 0,
            memory_available: 0,
        };
        hpa.evaluate(now, &fleet, explain)
    }

    const HOUR: Time = Time::from_secs(3600);

    #[test]
    fn reads_what_a_scenario_says() {
        let text = r#"
            [hpa]
            min-replicas = 2
            max-replicas = 20
            target-cpu-average-value = "500m"
            tolerance = "5%"
            k8s-version = "1.34"
            [hpa.behavior.scale-up]
            stabilization-window = "1min"
            policies = [{ type = "percent", value = 50, period = "30s" }, { type = "Pods", value = 2, period = "1min" }]
            select-policy = "Min"
            tolerance = "20%"
        "#;
        let AutoscalerSettings::Hpa(settings) = toml::from_str(text).unwrap() else { panic!("not an hpa") };
        assert_eq!((settings.min_replicas, settings.max_replicas.get()), (2, 20));
        assert_eq!(settings.target_cpu_average_value, Some(Amount { milli: 500 }));
        assert_eq!(settings.k8s_version, K8sVersion { major: 1, minor: 34 });
        let hpa = Hpa::new(&settings, Time::ZERO);
        let tolerances = hpa.state.calculator.tolerances;
        assert_eq!((tolerances.up, tolerances.down), (0.2, 0.05));
        let rates = hpa.state.rates.unwrap();
        assert_eq!((rates.up.policies.len(), rates.down.policies.len()), (2, 1));
        assert_eq!(rates.up.select_policy, behavior::SelectPolicy::Min);
        let defaults = HpaSettings::with_max_replicas(NonZeroU32::new(9).unwrap());
        assert_eq!(read("max-replicas = 9").unwrap(), defaults);
    }

    #[test]
    fn refuses_what_the_api_server_refuses() {
        for (text, part) in [
            ("min-replicas = 1", "max-replicas"),
            ("max-replicas = 2\nmin-replicas = 3", "greater than"),
            ("max-replicas = 2\nmin-replicas = 0", "needs an `object` or `external` metric"),
            ("max-replicas = 2\ntarget-cpu-utilization = 5\ntarget-cpu-average-value = 1", "exclude"),
            ("max-replicas = 2\nsync-period = '0s'", "longer than zero"),
            ("max-replicas = 2\nk8s-version = '1.3'", "older than"),
            ("max-replicas = 2\nk8s-version = 1.33", "string"),
            (
                "max-replicas = 2\nk8s-version = '1.32'\nbehavior.scale-up.tolerance = '5%'",
                "from Kubernetes 1.33",
            ),
            ("max-replicas = 2\nbehavior.scale-up.policies = []", "at least one"),
            (
                "max-replicas = 2\nbehavior.scale-up.policies = [{ type = 'pods', value = 0, period = '1s' }]",
                "value",
            ),
            (
                "max-replicas = 2\nbehavior.scale-up.policies = [{ type = 'pods', value = 1, period = '1h' }]",
                "period",
            ),
            ("max-replicas = 2\nbehavior.scale-down.stabilization-window = '2h'", "longer than 1h"),
            ("max-replicas = 2\nbehaviour = {}", "behavior"),
            ("max-replicas = 2\ntarget-cpu-average-value = '500x'", "is not a quantity"),
            ("max-replicas = 2\nmetrics = []", "at least one"),
            ("max-replicas = 2\nmetrics = [{ resource = { name = 'cpu' } }]", "exactly one of"),
            ("max-replicas = 2\nmetrics = [{ pods = { metric = 'm', value = 3 } }]", "average-value"),
        ] {
            let message = read(text).expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn the_version_decides_at_the_edge_of_the_tolerance() {
        let pods = [pod(880); 5];
        for (version, replicas) in [("1.33", 5), ("1.32", 6)] {
            let settings = read(&format!("max-replicas = 9\nk8s-version = '{version}'")).unwrap();
            let mut hpa = Hpa::new(&settings, Time::ZERO);
            let desired = sync(&mut hpa, HOUR, 5, &pods, None, &mut ());
            assert_eq!(desired.replicas, replicas, "88 % against 80 % in {version}");
        }
    }

    #[test]
    fn explains_every_step() {
        let mut hpa = Hpa::new(&read("max-replicas = 9\ntarget-cpu-utilization = 30").unwrap(), Time::ZERO);
        let pending = (Pod { phase: Phase::Pending, ..POD }, pod(0).1);
        let pods = [pod(900), silent(), pending];
        let mut steps = Vec::new();
        let desired = sync(&mut hpa, HOUR, 3, &pods, None, &mut steps);
        assert_eq!(desired, Desired { replicas: 3, reason: "DesiredWithinRange" });
        let expected = [
            ("current", 3.0),
            ("target-utilization", 30.0),
            ("ready-pods", 1.0),
            ("unready-pods", 1.0),
            ("missing-pods", 1.0),
            ("ignored-pods", 0.0),
            ("utilization", 90.0),
            ("usage-milli", 900.0),
            ("ratio", 3.0),
            ("adjusted-ratio", 1.0),
            ("within-tolerance", 1.0),
            ("proposal", 3.0),
            ("stabilized", 3.0),
            ("limited", 3.0),
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn without_metrics_nothing_changes() {
        let mut hpa = Hpa::new(&read("max-replicas = 9").unwrap(), Time::ZERO);
        let mut steps = Vec::new();
        let desired = sync(&mut hpa, HOUR, 4, &[silent(); 4], None, &mut steps);
        assert_eq!(desired, Desired { replicas: 4, reason: "FailedGetResourceMetric" });
        assert_eq!(steps.last(), Some(&("no-metrics", 1.0)));
    }

    #[test]
    fn the_largest_proposal_counts_and_failures_only_block_scaling_in() {
        let text = "max-replicas = 9\nmetrics = [{ resource = { name = 'cpu', utilization = 50 } }, \
                    { external = { metric = 'queue', average-value = 10 } }]";
        let hpa = || Hpa::new(&read(text).unwrap(), Time::ZERO);
        let queue = |depth: Option<i64>| Some(Reading::Series(depth.map(|depth| vec![depth * 1000])));
        let ask = |pods: &[(Pod, PodReading)], other| {
            sync(&mut hpa(), HOUR, pods.len() as u32, pods, other, &mut ())
        };
        let same = |replicas, reason| Desired { replicas, reason };
        // 2 by CPU, 7 by the queue.
        assert_eq!(ask(&[pod(500); 2], queue(Some(70))).replicas, 4, "at most twice as many per sync");
        // The queue is silent: CPU may scale out ...
        assert_eq!(ask(&[pod(900); 2], queue(None)).replicas, 4);
        // ... but not in.
        assert_eq!(ask(&[pod(100); 2], queue(None)), same(2, "FailedGetExternalMetric"));
        // Both fail: the first one is named.
        assert_eq!(ask(&[silent(); 2], queue(None)), same(2, "FailedGetResourceMetric"));
    }

    fn any_pod() -> impl Strategy<Value = (Pod, PodReading)> {
        let phase = prop_oneof![
            8 => Just(Phase::Running),
            1 => Just(Phase::Pending),
            1 => Just(Phase::Failed),
            1 => Just(Phase::Succeeded)
        ];
        let ready = prop::option::weighted(0.9, (any::<bool>(), 0_u64..4000));
        let cpu = prop::option::weighted(0.8, (0_i64..3000, 0_u64..60));
        (phase, ready, 0_u64..4000, prop::bool::weighted(0.1), 1_i64..3000, cpu).prop_map(
            |(phase, ready, started, deleting, request, cpu)| {
                let pod = Pod {
                    phase,
                    ready: ready.map(|(ready, at)| (ready, Time::from_secs(at))),
                    started: Some(Time::from_secs(started)),
                    deleting,
                };
                let sample = cpu.map(|(milli, age)| Sample {
                    milli,
                    at: Time::from_secs(4000 - age),
                    window: Duration::from_secs(30),
                });
                (pod, PodReading { request_milli: Some(request), sample })
            },
        )
    }

    fn any_settings() -> impl Strategy<Value = HpaSettings> {
        let policy = (any::<bool>(), 1_u32..200, 1_u64..600).prop_map(|(pods, value, period)| {
            let unit = if pods { behavior::PolicyType::Pods } else { behavior::PolicyType::Percent };
            behavior::ScalingPolicy { unit, value, period: Duration::from_secs(period) }
        });
        let select = prop_oneof![
            Just(behavior::SelectPolicy::Max),
            Just(behavior::SelectPolicy::Min),
            Just(behavior::SelectPolicy::Disabled)
        ];
        let window = (0_u64..900).prop_map(Duration::from_secs);
        let rules =
            (
                prop::option::of(window),
                prop::option::of(select),
                prop::option::of(prop::collection::vec(policy, 1..4)),
            )
                .prop_map(|(stabilization_window, select_policy, policies)| {
                    behavior::ScalingRules { stabilization_window, select_policy, policies, tolerance: None }
                });
        let rules = prop::option::of(rules);
        let behavior = prop::option::of(
            (rules.clone(), rules).prop_map(|(scale_up, scale_down)| Behavior { scale_up, scale_down }),
        );
        (1_u32..10, 0_u32..40, 1_u32..150, behavior).prop_map(|(min, extra, target, behavior)| HpaSettings {
            min_replicas: min,
            target_cpu_utilization: NonZeroU32::new(target),
            behavior,
            ..HpaSettings::with_max_replicas(NonZeroU32::new(min + extra).unwrap())
        })
    }

    proptest! {
        /// Within the bounds at every sync, but for a fleet at zero; and the same questions get the same answers.
        #[test]
        fn stays_within_its_bounds_and_replays(
            settings in any_settings(),
            start in 0_u32..60,
            ticks in prop::collection::vec(prop::collection::vec(any_pod(), 0..12), 1..40),
        ) {
            prop_assert!(settings.check().is_ok());
            let play = || {
                let mut hpa = Hpa::new(&settings, Time::ZERO);
                let (mut current, mut answers) = (start, Vec::new());
                for (tick, pods) in ticks.iter().enumerate() {
                    let now = Time::from_secs(4000 + 15 * tick as u64);
                    let mut steps = Vec::new();
                    let desired = sync(&mut hpa, now, current, pods, None, &mut steps);
                    current = desired.replicas;
                    answers.push((desired, steps));
                }
                answers
            };
            let answers = play();
            for (desired, _) in &answers {
                let bounds = settings.min_replicas..=settings.max_replicas.get();
                let kept = if start == 0 { desired.replicas == 0 } else { bounds.contains(&desired.replicas) };
                prop_assert!(kept);
            }
            prop_assert_eq!(answers, play());
        }
    }

    #[test]
    fn its_log_does_not_grow_beyond_its_window() {
        let mut hpa = Hpa::new(&read("max-replicas = 9\nbehavior = {}").unwrap(), Time::ZERO);
        for tick in 0..1000_u32 {
            let pods = [pod(if tick % 40 < 20 { 200 } else { 1000 }); 3];
            sync(&mut hpa, Time::from_secs(3600 + 15 * u64::from(tick)), 3, &pods, None, &mut ());
        }
        assert!(hpa.state.recommendations.len() <= 22, "{}", hpa.state.recommendations.len());
        let rates = hpa.state.rates.unwrap();
        assert!(rates.up_events.0.len() <= 3, "{}", rates.up_events.0.len());
    }
}
