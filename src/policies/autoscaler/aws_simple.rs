//! AWS simple scaling: one adjustment per alarm, then wait for it to finish and cool down (documented model).
//!
//! ## What it does
//! When an alarm on the mean CPU of the group is raised, its policy adjusts the capacity once. Then no alarm is answered
//! until all instances of the activity are in service (or gone) and the cooldown after that has passed.
//!
//! ## When it helps
//! As the oldest policy there is, in groups that nobody has touched for years. It cannot overshoot by more than one adjustment.
//!
//! ## How it fails
//! In a flood it adds a fixed amount every start-up time plus five minutes, no matter how much is missing. An instance that
//! never gets ready blocks the group.
//!
//! ## Settings
//! * `min-size` (1), `max-size` (required), `default-cooldown` (`"5min"`).
//! * `policies`, each with `threshold` (percent of CPU), `comparison-operator` (`"greater-than-or-equal-to-threshold"`),
//!   `evaluation-periods` (1), `datapoints-to-alarm` (all), `adjustment-type`, `scaling-adjustment`,
//!   `min-adjustment-magnitude` (for percentages) and `cooldown` (the default one).
//!
//! ## Origin
//! Amazon EC2 Auto Scaling User Guide, *Step and simple scaling policies* (awsdocs at 0987d768,
//! `doc_source/as-scaling-simple-step.md`). The service itself is closed.
//!
//! ## Deliberate differences
//! * Of several raised alarms the one that leaves most instances is answered, as for the other kinds of policies.
//! * An instance is taken for in service when it is ready. CPU is the only metric.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::aws_step::check_adjustments;
use super::cloudwatch::{
    AdjustmentType, Alarm, AlarmState, ComparisonOperator, Group, PERIOD, check_alarm, check_bounds,
};
use crate::policies::Algorithm;
use crate::policies::autoscaler::{Autoscaler, Desired, Explain, Fleet, Query, Resource};
use crate::time::{Duration, Time};

/// Settings of [`AwsSimple`], with the names of the API.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, remote = "Self")]
pub struct AwsSimpleSettings {
    /// Fewest instances.
    #[serde(default = "one")]
    pub min_size: u32,
    /// Most instances.
    pub max_size: NonZeroU32,
    /// Cooldown of policies that have none of their own.
    #[serde(default = "default_cooldown")]
    pub default_cooldown: Duration,
    /// Policies, at least one.
    pub policies: Vec<SimplePolicy>,
}

/// One policy with its alarm.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SimplePolicy {
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
    /// What the adjustment means.
    pub adjustment_type: AdjustmentType,
    /// By how much, or (with `exact-capacity`) to how many.
    pub scaling_adjustment: i64,
    /// Least number of instances that a percentage changes.
    pub min_adjustment_magnitude: Option<u32>,
    /// Wait after the activity.
    pub cooldown: Option<Duration>,
}

fn one() -> u32 {
    1
}

/// Default cooldown of a group.
fn default_cooldown() -> Duration {
    Duration::from_secs(300)
}

impl AwsSimpleSettings {
    fn check(&self) -> Result<(), String> {
        check_bounds(self.min_size, self.max_size.get())?;
        if self.policies.is_empty() {
            return Err("`policies` needs at least one policy".to_owned());
        }
        for policy in &self.policies {
            check_alarm(policy.threshold, policy.evaluation_periods, policy.datapoints_to_alarm)?;
            check_adjustments(
                policy.adjustment_type,
                policy.min_adjustment_magnitude,
                std::iter::once(policy.scaling_adjustment),
            )?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for AwsSimpleSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        settings.check().map_err(D::Error::custom)?;
        Ok(settings)
    }
}

/// What keeps the group from answering alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Nothing.
    None,
    /// An activity, and then this cooldown.
    Activity(Duration),
    /// A cooldown, up to this instant.
    Cooldown(Time),
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct AwsSimple {
    state: Box<State>,
}

#[derive(Clone, Debug)]
struct State {
    settings: AwsSimpleSettings,
    alarms: Vec<Alarm>,
    wait: Wait,
}

impl Algorithm for AwsSimple {
    type Settings = AwsSimpleSettings;

    fn new(settings: &AwsSimpleSettings, _now: Time) -> Self {
        let alarm = |policy: &SimplePolicy| {
            let periods = policy.evaluation_periods;
            let points = policy.datapoints_to_alarm.unwrap_or(periods);
            Alarm::new(policy.comparison_operator, policy.threshold, periods, points)
        };
        let alarms = settings.policies.iter().map(alarm).collect();
        Self { state: Box::new(State { settings: settings.clone(), alarms, wait: Wait::None }) }
    }
}

impl Autoscaler for AwsSimple {
    fn queries(&self) -> &[Query] {
        &[Query::Resource(Resource::Cpu)]
    }

    fn interval(&self) -> Duration {
        PERIOD
    }

    fn evaluate(&mut self, now: Time, fleet: &Fleet<'_>, explain: &mut dyn Explain) -> Desired {
        let State { settings, alarms, wait } = &mut *self.state;
        let group = Group::read(now, Time::ZERO, Duration::ZERO, fleet);
        explain.step("current", group.desired as f64);
        if let Some(cpu) = group.cpu {
            explain.step("cpu", cpu);
        }
        if let Wait::Activity(cooldown) = *wait
            && group.warming == 0
            && group.terminating == 0
        {
            *wait = Wait::Cooldown(now + cooldown);
        }
        if let Wait::Cooldown(until) = *wait
            && now >= until
        {
            *wait = Wait::None;
        }
        // Alarms are evaluated all the time, whether they are answered or not.
        let mut wanted: Option<(i64, Duration)> = None;
        for (policy, alarm) in settings.policies.iter().zip(alarms) {
            if alarm.push(group.cpu) != AlarmState::Alarm {
                continue;
            }
            let delta = policy.adjustment_type.delta(
                group.desired,
                policy.scaling_adjustment,
                policy.min_adjustment_magnitude,
            );
            let proposal = group.desired + delta;
            explain.step("proposal", proposal as f64);
            if wanted.is_none_or(|(wanted, _)| proposal > wanted) {
                wanted = Some((proposal, policy.cooldown.unwrap_or(settings.default_cooldown)));
            }
        }
        let (min, max) = (i64::from(settings.min_size), i64::from(settings.max_size.get()));
        let (reason, proposal, cooldown) = match (*wait, wanted) {
            (Wait::Activity(_), _) => ("ActivityInProgress", group.desired, None),
            (Wait::Cooldown(_), _) => ("Cooldown", group.desired, None),
            (Wait::None, Some((wanted, cooldown))) => ("ScalingAdjustment", wanted, Some(cooldown)),
            (Wait::None, None) if group.cpu.is_none() => ("InsufficientData", group.desired, None),
            (Wait::None, None) => ("NoAlarm", group.desired, None),
        };
        let replicas = proposal.clamp(min, max);
        explain.step("limited", replicas as f64);
        if let Some(cooldown) = cooldown
            && replicas != group.desired
        {
            *wait = Wait::Activity(cooldown);
        }
        let reason = if replicas == proposal { reason } else { "GroupSizeLimit" };
        Desired { replicas: replicas as u32, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::autoscaler::cloudwatch::tests::{evaluate, instance};

    #[test]
    fn waits_for_the_activity_and_the_cooldown() {
        let settings = toml::from_str(
            "max-size = 10\n[[policies]]\nthreshold = 70\nadjustment-type = 'change-in-capacity'\nscaling-adjustment = 2",
        )
        .unwrap();
        let mut scaler = AwsSimple::new(&settings, Time::ZERO);
        let mut at = |minute: u64, current: u32, there: usize, cpu: i64| {
            let pods = vec![instance(cpu, 0); there];
            let got = evaluate(&mut scaler, Time::from_secs(minute * 60), current, &pods);
            (got.replicas, got.reason)
        };
        assert_eq!(at(1, 4, 4, 60), (4, "NoAlarm"));
        assert_eq!(at(2, 4, 4, 90), (6, "ScalingAdjustment"));
        assert_eq!(at(3, 6, 4, 90), (6, "ActivityInProgress"));
        assert_eq!(at(4, 6, 5, 90), (6, "ActivityInProgress"));
        assert_eq!(at(5, 6, 6, 90), (6, "Cooldown"));
        assert_eq!(at(9, 6, 6, 90), (6, "Cooldown"));
        assert_eq!(at(10, 6, 6, 90), (8, "ScalingAdjustment"));
        assert_eq!(at(11, 8, 8, 90), (8, "Cooldown"));
        assert_eq!(at(16, 8, 8, 90), (10, "ScalingAdjustment"));
        assert_eq!(at(17, 10, 10, 90), (10, "Cooldown"));
        assert_eq!(at(22, 10, 10, 90), (10, "GroupSizeLimit"));
    }

    #[test]
    fn refuses_what_the_api_refuses() {
        for (text, part) in [
            ("max-size = 3\npolicies = []", "at least one policy"),
            ("max-size = 0\npolicies = []", "nonzero"),
            (
                "max-size = 3\n[[policies]]\nthreshold = 5\nadjustment-type = 'exact-capacity'\nscaling-adjustment = -1",
                "not negative",
            ),
            (
                "max-size = 3\n[[policies]]\nthreshold = 5\nadjustment-type = 'exact-capacity'\nscaling-adjustment = 1\nevaluation-periods = 0",
                "between 1 and 1440",
            ),
            (
                "max-size = 3\n[[policies]]\nthreshold = 5\nadjustment-type = 'exact-capacity'\nscaling-adjustment = 1\nmin-adjustment-magnitude = 2",
                "percent-change-in-capacity",
            ),
        ] {
            let message = toml::from_str::<AwsSimpleSettings>(text).unwrap_err().message().to_owned();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
