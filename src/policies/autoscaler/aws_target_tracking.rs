//! AWS target tracking: keeps mean CPU near a target with two alarms of its own (documented model).
//!
//! ## What it does
//! Three one-minute points in a row above the target raise the alarm for scaling out, fifteen below nine tenths of it the
//! one for scaling in. A raised alarm proposes `ceil(capacity * metric / target)`. Scaling out counts from the instances
//! whose warm-up is over (their CPU alone is measured) and never below what is desired already. Scaling in counts with
//! the instances that are still terminating, uses the highest of the fifteen points, and waits while instances
//! launch or warm up. With cooldowns (Application Auto Scaling: ECS and others) there is no warm-up: within the
//! cooldown after a scale-out only what a larger proposal exceeds it by is added; the one after a scale-in blocks further
//! scaling in, and a scale-out ends it.
//!
//! ## When it helps
//! Load that follows CPU and grows over minutes. One figure to set.
//!
//! ## How it fails
//! * Three minutes pass before the first reaction, and the instances still have to start.
//! * A saturated group shows 100 %: one reaction adds at most 100 / target times the capacity.
//! * Load that swings within fifteen minutes never scales in.
//!
//! ## Settings
//! * `min-size` (1), `max-size` (required), `target-value` (required, percent of CPU), `disable-scale-in` (false).
//! * EC2: `estimated-instance-warmup` (`"5min"`). Application Auto Scaling: `scale-out-cooldown`, `scale-in-cooldown`
//!   (each `"5min"` once the other is written). Not both kinds.
//!
//! ## Origin
//! Amazon EC2 Auto Scaling User Guide, *Target tracking scaling policies* (awsdocs at 0987d768,
//! `doc_source/as-scaling-target-tracking.md`), Application Auto Scaling User Guide and API. The service itself is closed;
//! the shape of the alarms is what users see in their accounts, the formula is inferred.
//!
//! ## Deliberate differences
//! * *Scales in more gradually* is all that is published; the highest of the fifteen points is our reading of it.
//! * Missing data are treated as by default, but an alarm looks back no further than its periods.
//! * Instances are taken for launched when they are ready; those that were there at the start are warm.
//! * CPU is the only metric, so rules for several policies do not arise.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::cloudwatch::{Alarm, AlarmState, ComparisonOperator, Group, PERIOD, check_bounds};
use crate::policies::Algorithm;
use crate::policies::autoscaler::{Autoscaler, Desired, Explain, Fleet};
use crate::time::{Duration, Time};

/// Points in a row above the target.
const OUT_PERIODS: u32 = 3;
/// Points in a row below the lower threshold.
const IN_PERIODS: u32 = 15;
/// The lower threshold as a part of the target.
const IN_THRESHOLD: f64 = 0.9;
/// Warm-up and cooldowns where none are written.
const DEFAULT_WAIT: Duration = Duration::from_secs(300);

/// Settings of [`AwsTargetTracking`], with the names of the API.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, remote = "Self")]
pub struct AwsTargetTrackingSettings {
    /// Fewest instances.
    #[serde(default = "one")]
    pub min_size: u32,
    /// Most instances.
    pub max_size: NonZeroU32,
    /// Mean CPU to keep, in percent of the cores of the instances; greater than 0.
    pub target_value: f64,
    /// Whether another policy scales in.
    #[serde(default)]
    pub disable_scale_in: bool,
    /// EC2: how long a new instance neither counts nor is measured.
    pub estimated_instance_warmup: Option<Duration>,
    /// Application Auto Scaling: how long what was added counts towards the next scale-out.
    pub scale_out_cooldown: Option<Duration>,
    /// Application Auto Scaling: how long nothing more is removed.
    pub scale_in_cooldown: Option<Duration>,
}

fn one() -> u32 {
    1
}

impl AwsTargetTrackingSettings {
    fn check(&self) -> Result<(), String> {
        check_bounds(self.min_size, self.max_size.get())?;
        if !(self.target_value.is_finite() && self.target_value > 0.0) {
            return Err("`target-value` is a percentage of CPU greater than 0, such as 50".to_owned());
        }
        if self.estimated_instance_warmup.is_some() && self.has_cooldown() {
            return Err(
                "`estimated-instance-warmup` (EC2) and cooldowns (Application Auto Scaling) exclude each other"
                    .to_owned(),
            );
        }
        Ok(())
    }

    const fn has_cooldown(&self) -> bool {
        self.scale_out_cooldown.is_some() || self.scale_in_cooldown.is_some()
    }
}

impl<'de> Deserialize<'de> for AwsTargetTrackingSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        settings.check().map_err(D::Error::custom)?;
        Ok(settings)
    }
}

/// How the policy keeps from reacting twice to the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damping {
    /// EC2.
    WarmUp(Duration),
    /// Application Auto Scaling.
    Cooldowns { out: Duration, r#in: Duration },
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct AwsTargetTracking {
    state: Box<State>,
}

#[derive(Clone, Debug)]
struct State {
    settings: AwsTargetTrackingSettings,
    damping: Damping,
    out_alarm: Alarm,
    in_alarm: Alarm,
    born: Time,
    /// End of the cooldown after a scale-out, and the capacity before it.
    out_cooldown: Option<(Time, i64)>,
    /// End of the cooldown after a scale-in.
    in_cooldown: Option<Time>,
}

impl Algorithm for AwsTargetTracking {
    type Settings = AwsTargetTrackingSettings;

    fn new(settings: &AwsTargetTrackingSettings, now: Time) -> Self {
        let damping = if settings.has_cooldown() {
            Damping::Cooldowns {
                out: settings.scale_out_cooldown.unwrap_or(DEFAULT_WAIT),
                r#in: settings.scale_in_cooldown.unwrap_or(DEFAULT_WAIT),
            }
        } else {
            Damping::WarmUp(settings.estimated_instance_warmup.unwrap_or(DEFAULT_WAIT))
        };
        let target = settings.target_value;
        Self {
            state: Box::new(State {
                settings: settings.clone(),
                damping,
                out_alarm: Alarm::new(
                    ComparisonOperator::GreaterThanThreshold,
                    target,
                    OUT_PERIODS,
                    OUT_PERIODS,
                ),
                in_alarm: Alarm::new(
                    ComparisonOperator::LessThanThreshold,
                    target * IN_THRESHOLD,
                    IN_PERIODS,
                    IN_PERIODS,
                ),
                born: now,
                out_cooldown: None,
                in_cooldown: None,
            }),
        }
    }
}

impl Autoscaler for AwsTargetTracking {
    fn interval(&self) -> Duration {
        PERIOD
    }

    fn evaluate(&mut self, now: Time, fleet: &Fleet<'_>, explain: &mut dyn Explain) -> Desired {
        let state = &mut *self.state;
        let warm_up = match state.damping {
            Damping::WarmUp(warm_up) => warm_up,
            Damping::Cooldowns { .. } => Duration::ZERO,
        };
        let group = Group::read(now, state.born, warm_up, fleet);
        explain.step("current", group.desired as f64);
        explain.step("warm", group.warm as f64);
        if let Some(cpu) = group.cpu {
            explain.step("cpu", cpu);
        }
        let out = state.out_alarm.push(group.cpu);
        let r#in = state.in_alarm.push(group.cpu);
        let (proposal, reason) = match group.cpu {
            Some(cpu) if out == AlarmState::Alarm => state.scale_out(now, &group, cpu),
            _ if r#in == AlarmState::Alarm && !state.settings.disable_scale_in => state.scale_in(now, &group),
            None => (group.desired, "InsufficientData"),
            Some(_) => (group.desired, "NoAlarm"),
        };
        explain.step("proposal", proposal as f64);
        let (min, max) = (i64::from(state.settings.min_size), i64::from(state.settings.max_size.get()));
        let replicas = proposal.clamp(min, max);
        explain.step("limited", replicas as f64);
        state.note(now, group.desired, replicas);
        let reason = if replicas == proposal { reason } else { "GroupSizeLimit" };
        Desired { replicas: replicas as u32, reason }
    }
}

impl State {
    /// `ceil(capacity * metric / target)`; adding rounds up and removing rounds down, which is the same thing here.
    fn needed(&self, capacity: i64, cpu: f64) -> i64 {
        // The allowance keeps a ratio that is a whole number in decimal from being a little more in binary.
        (capacity as f64 * cpu / self.settings.target_value - 1e-9).ceil() as i64
    }

    fn scale_out(&self, now: Time, group: &Group, cpu: f64) -> (i64, &'static str) {
        let capacity = match (self.damping, self.out_cooldown) {
            (Damping::WarmUp(_), _) => group.warm,
            (Damping::Cooldowns { .. }, Some((until, before))) if now < until => before,
            (Damping::Cooldowns { .. }, _) => group.desired,
        };
        let needed = self.needed(capacity, cpu);
        if needed > group.desired {
            return (needed, "ScaleOut");
        }
        (group.desired, if group.warming > 0 { "ScaleOutInProgress" } else { "Cooldown" })
    }

    fn scale_in(&self, now: Time, group: &Group) -> (i64, &'static str) {
        let blocked = match self.damping {
            Damping::WarmUp(_) => (group.warming > 0).then_some("ScaleOutInProgress"),
            Damping::Cooldowns { .. } => {
                self.in_cooldown.is_some_and(|until| now < until).then_some("Cooldown")
            }
        };
        if let Some(reason) = blocked {
            return (group.desired, reason);
        }
        let highest = self.in_alarm.highest().unwrap_or(self.settings.target_value);
        let needed = self.needed(group.before_scale_in(), highest);
        if needed < group.desired { (needed, "ScaleIn") } else { (group.desired, "TargetMet") }
    }

    /// Starts and ends cooldowns.
    fn note(&mut self, now: Time, before: i64, after: i64) {
        let Damping::Cooldowns { out, r#in } = self.damping else { return };
        if after > before {
            // What an earlier scale-out within its cooldown added still counts towards the next.
            let base = match self.out_cooldown {
                Some((until, base)) if now < until => base,
                _ => before,
            };
            self.out_cooldown = Some((now + out, base));
            self.in_cooldown = None;
        } else if after < before {
            self.in_cooldown = Some(now + r#in);
            self.out_cooldown = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::autoscaler::Pod;
    use crate::policies::autoscaler::cloudwatch::tests::{fleet, instance};

    fn read(text: &str) -> Result<AwsTargetTrackingSettings, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    fn scaler(text: &str) -> AwsTargetTracking {
        AwsTargetTracking::new(&read(text).unwrap(), Time::ZERO)
    }

    fn ask(scaler: &mut AwsTargetTracking, minute: u64, current: u32, pods: &[Pod]) -> (u32, &'static str) {
        let got = scaler.evaluate(Time::from_secs(minute * 60), &fleet(current, pods), &mut ());
        (got.replicas, got.reason)
    }

    #[test]
    fn three_points_out_and_fifteen_in() {
        let mut scaler = scaler("max-size = 50\ntarget-value = 50");
        let busy = vec![instance(65, 0); 10];
        assert_eq!(ask(&mut scaler, 1, 10, &busy), (10, "NoAlarm"));
        assert_eq!(ask(&mut scaler, 2, 10, &busy), (10, "NoAlarm"));
        assert_eq!(ask(&mut scaler, 3, 10, &busy), (13, "ScaleOut"));
        // The new ones are on their way: not added again, and nothing is removed.
        assert_eq!(ask(&mut scaler, 4, 13, &busy), (13, "ScaleOutInProgress"));
        let calm = vec![instance(10, 0); 13];
        for minute in 5..19 {
            assert_eq!(ask(&mut scaler, minute, 13, &calm), (13, "NoAlarm"), "{minute}");
        }
        assert_eq!(ask(&mut scaler, 19, 13, &calm), (3, "ScaleIn"));
        // Those that leave are still counted.
        let mut leaving = calm;
        for pod in &mut leaving[3..] {
            pod.deleting = true;
        }
        assert_eq!(ask(&mut scaler, 20, 3, &leaving), (3, "TargetMet"));
    }

    #[test]
    fn between_nine_tenths_and_the_target_nothing_happens() {
        let mut scaler = scaler("max-size = 50\ntarget-value = 50");
        for minute in 1..60 {
            let cpu = [45, 50][minute as usize % 2];
            assert_eq!(ask(&mut scaler, minute, 4, &vec![instance(cpu, 0); 4]), (4, "NoAlarm"));
        }
    }

    #[test]
    fn without_data_nothing_is_removed() {
        let mut scaler = scaler("max-size = 50\ntarget-value = 50");
        let silent = vec![Pod { cpu: None, ..instance(0, 0) }; 4];
        for minute in 1..40 {
            assert_eq!(ask(&mut scaler, minute, 4, &silent), (4, "InsufficientData"));
        }
    }

    #[test]
    fn cooldowns_add_only_the_difference() {
        let mut scaler = scaler("max-size = 50\ntarget-value = 50\nscale-out-cooldown = '5min'");
        for minute in 1..3 {
            ask(&mut scaler, minute, 10, &vec![instance(60, 0); 10]);
        }
        assert_eq!(ask(&mut scaler, 3, 10, &vec![instance(60, 0); 10]), (12, "ScaleOut"));
        assert_eq!(ask(&mut scaler, 4, 12, &vec![instance(60, 0); 12]), (12, "Cooldown"));
        assert_eq!(ask(&mut scaler, 5, 12, &vec![instance(75, 0); 12]), (15, "ScaleOut"));
        // After the cooldown it counts from what is there.
        assert_eq!(ask(&mut scaler, 10, 15, &vec![instance(75, 0); 15]), (23, "ScaleOut"));
        for minute in 11..26 {
            ask(&mut scaler, minute, 23, &vec![instance(20, 0); 23]);
        }
        let (after, reason) = ask(&mut scaler, 26, 10, &vec![instance(20, 0); 10]);
        assert_eq!((after, reason), (10, "Cooldown"));
    }

    #[test]
    fn reads_its_settings() {
        for (text, part) in [
            ("max-size = 5", "target-value"),
            ("max-size = 5\ntarget-value = 0", "greater than 0"),
            ("max-size = 5\nmin-size = 6\ntarget-value = 50", "greater than `max-size`"),
            (
                "max-size = 5\ntarget-value = 50\nestimated-instance-warmup = '1min'\nscale-in-cooldown = '1min'",
                "exclude",
            ),
        ] {
            let message = read(text).expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
        let mut scaler = scaler("max-size = 9\ntarget-value = 50\ndisable-scale-in = true");
        for minute in 1..40 {
            assert_eq!(ask(&mut scaler, minute, 4, &[instance(5, 0); 4]), (4, "NoAlarm"));
        }
    }
}
