//! AWS step scaling: the larger the breach of an alarm, the larger the adjustment (documented model).
//!
//! ## What it does
//! Each policy has an alarm on the mean CPU of the group in one-minute points. While the alarm is raised, the latest point
//! picks a step by its distance from the threshold, every minute and without any cooldown. What is added is counted from the
//! instances whose warm-up is over, and desired capacity already on its way is not added again; what is removed is counted
//! with the instances that are still terminating. Nothing is removed while instances launch or warm up. Of several
//! policies the one with the largest capacity wins.
//!
//! ## When it helps
//! Where the size of a breach says how much is missing: small steps for drift, one large step for a flood.
//!
//! ## How it fails
//! * A saturated group shows 100 %, no matter how much is missing: only the topmost step is left.
//! * Percent steps of a small group are one instance each.
//! * The warm-up hides instances that work already, so a long flood adds step after step.
//!
//! ## Settings
//! * `min-size` (1), `max-size` (required), `estimated-instance-warmup` (`"5min"`).
//! * `policies`, each with `threshold` (percent of CPU), `comparison-operator` (`"greater-than-or-equal-to-threshold"`),
//!   `evaluation-periods` (1), `datapoints-to-alarm` (all), `adjustment-type` (`"change-in-capacity"`,
//!   `"exact-capacity"`, `"percent-change-in-capacity"`), `min-adjustment-magnitude` (for percentages) and
//!   `step-adjustments = [{ metric-interval-lower-bound = 0, metric-interval-upper-bound = 10, scaling-adjustment = 1 }]`.
//!   Bounds are relative to the threshold, a missing one is infinite; above the threshold a step includes its lower
//!   bound, below it its upper one.
//!
//! ## Origin
//! Amazon EC2 Auto Scaling User Guide, *Step and simple scaling policies* (awsdocs at 0987d768,
//! `doc_source/as-scaling-simple-step.md`), with its worked example. The service itself is closed.
//!
//! ## Deliberate differences
//! * Missing data are treated as by default, but an alarm looks back no further than its periods.
//! * Instances are taken for launched when they are ready; those that were there at the start are warm.
//! * CPU is the only metric.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::cloudwatch::{
    AdjustmentType, Alarm, AlarmState, ComparisonOperator, Group, PERIOD, check_alarm, check_bounds,
    desired_capacity,
};
use crate::policies::Algorithm;
use crate::policies::autoscaler::{Autoscaler, Desired, Explain, Fleet};
use crate::time::{Duration, Time};

/// Settings of [`AwsStep`], with the names of the API.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, remote = "Self")]
pub struct AwsStepSettings {
    /// Fewest instances.
    #[serde(default = "one")]
    pub min_size: u32,
    /// Most instances.
    pub max_size: NonZeroU32,
    /// How long a new instance neither counts nor is measured.
    #[serde(default = "warm_up")]
    pub estimated_instance_warmup: Duration,
    /// Policies, at least one.
    pub policies: Vec<StepPolicy>,
}

/// One policy with its alarm.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StepPolicy {
    /// Threshold of the alarm, in percent of CPU.
    pub threshold: f64,
    /// How a point is compared with the threshold.
    #[serde(default)]
    pub comparison_operator: ComparisonOperator,
    /// Periods that the alarm looks at, 1 to 1440.
    #[serde(default = "one")]
    pub evaluation_periods: u32,
    /// How many of them must breach; all if it is not written.
    pub datapoints_to_alarm: Option<u32>,
    /// What the adjustments mean.
    pub adjustment_type: AdjustmentType,
    /// Least number of instances that a percentage changes.
    pub min_adjustment_magnitude: Option<u32>,
    /// Steps without gaps and overlaps.
    pub step_adjustments: Vec<StepAdjustment>,
}

/// One step. Bounds are in percent points from the threshold; without one the step has no end there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StepAdjustment {
    /// Lower bound.
    pub metric_interval_lower_bound: Option<f64>,
    /// Upper bound.
    pub metric_interval_upper_bound: Option<f64>,
    /// By how much, or (with `exact-capacity`) to how many.
    pub scaling_adjustment: i64,
}

fn one() -> u32 {
    1
}

/// The default cooldown of a group, which stands in where no warm-up is given.
fn warm_up() -> Duration {
    Duration::from_secs(300)
}

/// No adjustment is larger.
pub(super) const MAX_ADJUSTMENT: i64 = 1_000_000;

impl AwsStepSettings {
    fn check(&self) -> Result<(), String> {
        check_bounds(self.min_size, self.max_size.get())?;
        if self.policies.is_empty() {
            return Err("`policies` needs at least one policy".to_owned());
        }
        self.policies.iter().try_for_each(StepPolicy::check)
    }
}

impl StepPolicy {
    /// What the API refuses.
    fn check(&self) -> Result<(), String> {
        check_alarm(self.threshold, self.evaluation_periods, self.datapoints_to_alarm)?;
        check_adjustments(
            self.adjustment_type,
            self.min_adjustment_magnitude,
            self.step_adjustments.iter().map(|step| step.scaling_adjustment),
        )?;
        let mut steps: Vec<(f64, f64)> = Vec::new();
        for step in &self.step_adjustments {
            let (lower, upper) = step.bounds();
            if lower.is_infinite() && upper.is_infinite() {
                return Err("a step needs at least one bound".to_owned());
            }
            if lower.is_nan() || upper.is_nan() || lower >= upper {
                return Err(
                    "a step's `metric-interval-lower-bound` lies below its `metric-interval-upper-bound`"
                        .to_owned(),
                );
            }
            steps.push((lower, upper));
        }
        steps.sort_by(|a, b| a.0.total_cmp(&b.0));
        for pair in steps.windows(2) {
            if pair[0].1 > pair[1].0 {
                return Err(format!("steps overlap between {} and {}", pair[1].0, pair[0].1));
            }
            if pair[0].1 < pair[1].0 {
                return Err(format!("no step lies between {} and {}", pair[0].1, pair[1].0));
            }
        }
        let Some((&(first, _), &(_, last))) = steps.first().zip(steps.last()) else {
            return Err("`step-adjustments` needs at least one step".to_owned());
        };
        if first < 0.0 && first.is_finite() {
            return Err("with a negative lower bound one step must have no lower bound".to_owned());
        }
        if last > 0.0 && last.is_finite() {
            return Err("with a positive upper bound one step must have no upper bound".to_owned());
        }
        Ok(())
    }

    /// The change that `metric` asks of a group of `current`, or `None` if no step covers it.
    pub fn delta(&self, metric: f64, current: i64) -> Option<i64> {
        let breach = metric - self.threshold;
        let covers = |step: &&StepAdjustment| {
            let (lower, upper) = step.bounds();
            if breach >= 0.0 { lower <= breach && breach < upper } else { lower < breach && breach <= upper }
        };
        let step = self.step_adjustments.iter().find(covers)?;
        Some(self.adjustment_type.delta(current, step.scaling_adjustment, self.min_adjustment_magnitude))
    }
}

impl StepAdjustment {
    fn bounds(&self) -> (f64, f64) {
        (
            self.metric_interval_lower_bound.unwrap_or(f64::NEG_INFINITY),
            self.metric_interval_upper_bound.unwrap_or(f64::INFINITY),
        )
    }
}

/// What is wrong with adjustments.
pub(super) fn check_adjustments(
    kind: AdjustmentType,
    min_magnitude: Option<u32>,
    adjustments: impl Iterator<Item = i64>,
) -> Result<(), String> {
    if min_magnitude.is_some() && kind != AdjustmentType::PercentChangeInCapacity {
        return Err("`min-adjustment-magnitude` goes with `percent-change-in-capacity` only".to_owned());
    }
    for adjustment in adjustments {
        if kind == AdjustmentType::ExactCapacity && adjustment < 0 {
            return Err("with `exact-capacity` a `scaling-adjustment` is not negative".to_owned());
        }
        if adjustment.abs() > MAX_ADJUSTMENT {
            return Err(format!("a `scaling-adjustment` is at most {MAX_ADJUSTMENT}"));
        }
    }
    Ok(())
}

impl<'de> Deserialize<'de> for AwsStepSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        settings.check().map_err(D::Error::custom)?;
        Ok(settings)
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct AwsStep {
    state: Box<State>,
}

#[derive(Clone, Debug)]
struct State {
    settings: AwsStepSettings,
    alarms: Vec<Alarm>,
    born: Time,
}

impl Algorithm for AwsStep {
    type Settings = AwsStepSettings;

    fn new(settings: &AwsStepSettings, now: Time) -> Self {
        let alarm = |policy: &StepPolicy| {
            let periods = policy.evaluation_periods;
            let points = policy.datapoints_to_alarm.unwrap_or(periods);
            Alarm::new(policy.comparison_operator, policy.threshold, periods, points)
        };
        let alarms = settings.policies.iter().map(alarm).collect();
        Self { state: Box::new(State { settings: settings.clone(), alarms, born: now }) }
    }
}

impl Autoscaler for AwsStep {
    fn interval(&self) -> Duration {
        PERIOD
    }

    fn evaluate(&mut self, now: Time, fleet: &Fleet<'_>, explain: &mut dyn Explain) -> Desired {
        let State { settings, alarms, born } = &mut *self.state;
        let group = Group::read(now, *born, settings.estimated_instance_warmup, fleet);
        explain.step("current", group.desired as f64);
        explain.step("warm", group.warm as f64);
        if let Some(cpu) = group.cpu {
            explain.step("cpu", cpu);
        }
        let mut wanted: Option<i64> = None;
        let mut held_back = false;
        for (policy, alarm) in settings.policies.iter().zip(alarms) {
            if alarm.push(group.cpu) != AlarmState::Alarm {
                continue;
            }
            // A point that is missing now cannot say which step it would be.
            let Some(cpu) = group.cpu else { continue };
            let Some(proposal) = adjusted(policy, cpu, &group) else { continue };
            explain.step("proposal", proposal as f64);
            if proposal < group.desired && group.warming > 0 {
                held_back = true;
                continue;
            }
            wanted = Some(wanted.map_or(proposal, |wanted| wanted.max(proposal)));
        }
        let (min, max) = (i64::from(settings.min_size), i64::from(settings.max_size.get()));
        let proposal = wanted.unwrap_or(group.desired);
        let replicas = proposal.clamp(min, max);
        explain.step("limited", replicas as f64);
        let reason = match replicas.cmp(&group.desired) {
            _ if replicas != proposal => "GroupSizeLimit",
            std::cmp::Ordering::Greater => "ScaleOut",
            std::cmp::Ordering::Less => "ScaleIn",
            std::cmp::Ordering::Equal if held_back => "ScaleOutInProgress",
            std::cmp::Ordering::Equal if group.cpu.is_none() => "InsufficientData",
            std::cmp::Ordering::Equal => "NoAlarm",
        };
        Desired { replicas: replicas as u32, reason }
    }
}

/// The desired capacity that a policy whose alarm is raised asks for; `None` if no step covers the point.
fn adjusted(policy: &StepPolicy, cpu: f64, group: &Group) -> Option<i64> {
    let out = policy.delta(cpu, group.warm)?;
    if out > 0 {
        return Some(desired_capacity(group.desired, group.warm, out));
    }
    let before = group.before_scale_in();
    let delta = policy.delta(cpu, before)?;
    Some(desired_capacity(group.desired, before, delta.min(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::autoscaler::cloudwatch::tests::{fleet, instance};
    use crate::policies::autoscaler::{AutoscalerSettings, Pod};

    /// The example of the documentation.
    const EXAMPLE: &str = r#"
        max-size = 100
        [[policies]]
        threshold = 50
        adjustment-type = "PercentChangeInCapacity"
        step-adjustments = [
            { metric-interval-lower-bound = 0, metric-interval-upper-bound = 10, scaling-adjustment = 0 },
            { metric-interval-lower-bound = 10, metric-interval-upper-bound = 20, scaling-adjustment = 10 },
            { metric-interval-lower-bound = 20, scaling-adjustment = 30 },
        ]
        [[policies]]
        threshold = 50
        comparison-operator = "less-than-or-equal-to-threshold"
        adjustment-type = "percent-change-in-capacity"
        step-adjustments = [
            { metric-interval-lower-bound = -10, metric-interval-upper-bound = 0, scaling-adjustment = 0 },
            { metric-interval-lower-bound = -20, metric-interval-upper-bound = -10, scaling-adjustment = -10 },
            { metric-interval-upper-bound = -20, scaling-adjustment = -30 },
        ]
    "#;

    fn read(text: &str) -> Result<AwsStepSettings, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn follows_the_worked_example() {
        let mut scaler = AwsStep::new(&read(EXAMPLE).unwrap(), Time::ZERO);
        let mut at = |minute: u64, current: u32, cpu: i64, old: usize, new: usize, ready: u64| {
            let mut pods: Vec<Pod> = vec![instance(cpu, 0); old];
            pods.extend(vec![instance(cpu, ready); new]);
            scaler.evaluate(Time::from_secs(minute * 60), &fleet(current, &pods), &mut ()).replicas
        };
        assert_eq!(at(1, 10, 55, 10, 0, 0), 10);
        assert_eq!(at(2, 10, 60, 10, 0, 0), 11);
        assert_eq!(at(3, 11, 62, 10, 1, 150), 11, "warming: the one on its way is enough");
        assert_eq!(at(4, 11, 70, 10, 1, 150), 13, "30 % of 10, less the one on its way");
        assert_eq!(at(10, 11, 70, 10, 1, 150), 14, "once it is warm: 30 % of 11");
        assert_eq!(at(30, 14, 40, 14, 0, 0), 13);
        assert_eq!(at(31, 13, 30, 13, 0, 0), 10);
        assert_eq!(at(32, 10, 45, 10, 0, 0), 10);
    }

    #[test]
    fn holds_back_while_a_scale_out_is_in_progress() {
        let mut scaler = AwsStep::new(&read(EXAMPLE).unwrap(), Time::ZERO);
        let pods = vec![instance(20, 0); 10];
        let got = scaler.evaluate(Time::from_secs(60), &fleet(12, &pods), &mut ());
        assert_eq!(got, Desired { replicas: 12, reason: "ScaleOutInProgress" });
        let mut pods = pods;
        pods.extend([Pod { deleting: true, ..instance(20, 0) }; 3]);
        // 30 % of the 13 that are still there are 3, and these are on their way.
        let got = scaler.evaluate(Time::from_secs(120), &fleet(10, &pods), &mut ());
        assert_eq!(got, Desired { replicas: 10, reason: "NoAlarm" });
    }

    #[test]
    fn refuses_gaps_and_overlaps() {
        assert!(matches!(
            toml::from_str(&format!(
                "[aws-step]\n{}",
                EXAMPLE.replace("[[policies]]", "[[aws-step.policies]]")
            )),
            Ok(AutoscalerSettings::AwsStep(_))
        ));
        let with = |steps: &str| {
            read(&format!(
                "max-size = 9\n[[policies]]\nthreshold = 50\nadjustment-type = 'change-in-capacity'\nstep-adjustments = [{steps}]"
            ))
        };
        let (lower, upper) = ("metric-interval-lower-bound", "metric-interval-upper-bound");
        for (steps, part) in [
            (String::new(), "at least one step"),
            ("{ scaling-adjustment = 1 }".to_owned(), "at least one bound"),
            (format!("{{ {lower} = 0, {upper} = 10, scaling-adjustment = 1 }}"), "no upper bound"),
            (format!("{{ {lower} = -5, scaling-adjustment = 1 }}"), "no lower bound"),
            (
                format!(
                    "{{ {lower} = 0, {upper} = 10, scaling-adjustment = 1 }}, {{ {lower} = 12, scaling-adjustment = 2 }}"
                ),
                "no step lies between 10 and 12",
            ),
            (
                format!(
                    "{{ {lower} = 0, {upper} = 10, scaling-adjustment = 1 }}, {{ {lower} = 5, scaling-adjustment = 2 }}"
                ),
                "overlap between 5 and 10",
            ),
            (format!("{{ {lower} = 7, {upper} = 7, scaling-adjustment = 1 }}"), "lies below"),
        ] {
            let message = with(&steps).expect_err(&steps);
            assert!(message.contains(part), "{steps}: {message}");
        }
        assert!(read("max-size = 2\nmin-size = 3\npolicies = []").unwrap_err().contains("greater than"));
    }
}
