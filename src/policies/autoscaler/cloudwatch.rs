//! What the AWS policies stand on: the group as its metrics show it, alarms over one-minute points, adjustments.
//!
//! Amazon publishes how these behave, not how they are made; this is a *documented model*. Where the documentation is
//! silent the choice is ours and says so.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Fleet, Phase};
use crate::time::{Duration, Time};

/// The period of detailed monitoring, and of the points of an alarm.
pub const PERIOD: Duration = Duration::from_secs(60);

/// How a point is compared with the threshold of an alarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ComparisonOperator {
    /// `>=`, the usual one for scaling out.
    #[default]
    #[serde(alias = "GreaterThanOrEqualToThreshold")]
    GreaterThanOrEqualToThreshold,
    /// `>`.
    #[serde(alias = "GreaterThanThreshold")]
    GreaterThanThreshold,
    /// `<=`, the usual one for scaling in.
    #[serde(alias = "LessThanOrEqualToThreshold")]
    LessThanOrEqualToThreshold,
    /// `<`.
    #[serde(alias = "LessThanThreshold")]
    LessThanThreshold,
}

impl ComparisonOperator {
    fn breaches(self, point: f64, threshold: f64) -> bool {
        match self {
            Self::GreaterThanOrEqualToThreshold => point >= threshold,
            Self::GreaterThanThreshold => point > threshold,
            Self::LessThanOrEqualToThreshold => point <= threshold,
            Self::LessThanThreshold => point < threshold,
        }
    }
}

/// State of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmState {
    /// Too few points breach the threshold.
    Ok,
    /// Enough of the latest points breach it.
    Alarm,
    /// None of the latest periods has a point.
    InsufficientData,
}

/// *M out of N* over the latest points. A period without a point breaches nothing.
#[derive(Clone, Debug)]
pub struct Alarm {
    comparison: ComparisonOperator,
    threshold: f64,
    wanted: u32,
    /// The latest N periods, oldest first.
    points: VecDeque<Option<f64>>,
}

impl Alarm {
    /// An alarm that wants `datapoints_to_alarm` of the latest `evaluation_periods` points (at least 1).
    pub fn new(
        comparison: ComparisonOperator,
        threshold: f64,
        evaluation_periods: u32,
        datapoints_to_alarm: u32,
    ) -> Self {
        // Before the first point nothing is known.
        let points = std::iter::repeat_n(None, evaluation_periods as usize).collect();
        Self { comparison, threshold, wanted: datapoints_to_alarm, points }
    }

    /// A period ended with this point, or with none. Says how things stand now.
    pub fn push(&mut self, point: Option<f64>) -> AlarmState {
        self.points.pop_front();
        self.points.push_back(point);
        let breaching =
            self.present().filter(|&point| self.comparison.breaches(point, self.threshold)).count();
        if self.present().next().is_none() {
            AlarmState::InsufficientData
        } else if breaching >= self.wanted as usize {
            AlarmState::Alarm
        } else {
            AlarmState::Ok
        }
    }

    /// The highest of the latest points.
    pub fn highest(&self) -> Option<f64> {
        self.present().reduce(f64::max)
    }

    fn present(&self) -> impl Iterator<Item = f64> {
        self.points.iter().copied().flatten()
    }
}

/// An Auto Scaling group at one moment, in instances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// Desired capacity.
    pub desired: i64,
    /// In service, and their warm-up is over.
    pub warm: i64,
    /// Launching or warming up: a scale-out is in progress.
    pub warming: i64,
    /// On their way out.
    pub terminating: i64,
    /// Mean CPU of the warm ones, in percent of their cores (`ASGAverageCPUUtilization`); `None` without a sample.
    pub cpu: Option<f64>,
}

impl Group {
    /// Reads a fleet. Instances that were ready when the policy came to life (`born`) never warm up; others do for
    /// `warm_up` after they turned ready.
    pub fn read(now: Time, born: Time, warm_up: Duration, fleet: &Fleet<'_>) -> Self {
        let (mut alive, mut warm, mut terminating) = (0, 0, 0);
        let (mut used, mut measured) = (0, 0_i64);
        for pod in fleet.pods {
            if matches!(pod.phase, Phase::Failed | Phase::Succeeded) {
                continue;
            }
            if pod.deleting {
                terminating += 1;
                continue;
            }
            alive += 1;
            let Some((true, since)) = pod.ready else { continue };
            if since > born && now < since + warm_up {
                continue;
            }
            warm += 1;
            if let Some(sample) = pod.cpu {
                used += sample.milli;
                measured += 1;
            }
        }
        let capacity = measured as f64 * fleet.instance_cores * 1000.0;
        let desired = i64::from(fleet.current);
        Self {
            desired,
            warm,
            warming: desired.max(alive) - warm,
            terminating,
            cpu: (capacity > 0.0).then(|| used as f64 * 100.0 / capacity),
        }
    }

    /// What an adjustment downwards starts from: instances that are terminating still count.
    pub fn before_scale_in(&self) -> i64 {
        self.desired + self.terminating
    }
}

/// What the figure of an adjustment means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AdjustmentType {
    /// So many instances more or, if negative, less.
    #[serde(alias = "ChangeInCapacity")]
    ChangeInCapacity,
    /// This many instances.
    #[serde(alias = "ExactCapacity")]
    ExactCapacity,
    /// So many percent of the capacity more or less.
    #[serde(alias = "PercentChangeInCapacity")]
    PercentChangeInCapacity,
}

impl AdjustmentType {
    /// By how many instances `adjustment` changes a group of `current`. A percentage that is no whole number of instances
    /// is cut towards zero, but changes at least one, and at least `min_magnitude`.
    pub fn delta(self, current: i64, adjustment: i64, min_magnitude: Option<u32>) -> i64 {
        match self {
            Self::ChangeInCapacity => adjustment,
            Self::ExactCapacity => adjustment - current,
            Self::PercentChangeInCapacity => {
                // Whole percents of whole instances: the division truncates as the documentation rounds.
                let product = current * adjustment;
                let least = i64::from(min_magnitude.unwrap_or(1).max(1));
                product.signum() * (product / 100).abs().max(least)
            }
        }
    }
}

/// The desired capacity after a change by `delta` from `current`. A change in one direction never takes back what is
/// already on its way in the same direction.
pub fn desired_capacity(desired: i64, current: i64, delta: i64) -> i64 {
    match delta {
        0 => desired,
        1.. => desired.max(current + delta),
        _ => desired.min(current + delta),
    }
}

/// What is wrong with bounds of a group.
pub(super) fn check_bounds(min: u32, max: u32) -> Result<(), String> {
    if min > max {
        return Err(format!("`min-size` ({min}) is greater than `max-size` ({max})"));
    }
    if max > i32::MAX as u32 {
        return Err(format!("`max-size` ({max}) is greater than {}", i32::MAX));
    }
    Ok(())
}

/// What is wrong with an alarm.
pub(super) fn check_alarm(
    threshold: f64,
    evaluation_periods: u32,
    datapoints_to_alarm: Option<u32>,
) -> Result<(), String> {
    if !(threshold.is_finite() && threshold >= 0.0) {
        return Err("`threshold` is a percentage of CPU, such as 60".to_owned());
    }
    if !(1..=1440).contains(&evaluation_periods) {
        return Err("`evaluation-periods` lies between 1 and 1440".to_owned());
    }
    if datapoints_to_alarm.is_some_and(|points| points == 0 || points > evaluation_periods) {
        return Err("`datapoints-to-alarm` lies between 1 and `evaluation-periods`".to_owned());
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::policies::autoscaler::{Pod, Sample};

    /// An instance with this CPU in percent of its one core.
    pub(in crate::policies::autoscaler) fn instance(cpu: i64, ready_since: u64) -> Pod {
        Pod {
            phase: Phase::Running,
            ready: Some((true, Time::from_secs(ready_since))),
            started: Some(Time::from_secs(ready_since)),
            deleting: false,
            request_milli: Some(1000),
            cpu: Some(Sample { milli: cpu * 10, at: Time::from_secs(ready_since), window: PERIOD }),
        }
    }

    pub(in crate::policies::autoscaler) fn fleet(current: u32, pods: &[Pod]) -> Fleet<'_> {
        Fleet { current, pods, instance_cores: 1.0, instance_memory: 0, memory_available: 0 }
    }

    #[test]
    fn alarms_want_m_of_n() {
        use AlarmState::{Alarm as Raised, InsufficientData, Ok};
        let mut alarm = Alarm::new(ComparisonOperator::GreaterThanThreshold, 50.0, 3, 2);
        let states: Vec<_> = [None, Some(60.0), Some(50.0), Some(51.0), None, Some(10.0), None, None, None]
            .into_iter()
            .map(|point| alarm.push(point))
            .collect();
        assert_eq!(states, [InsufficientData, Ok, Ok, Raised, Ok, Ok, Ok, Ok, InsufficientData]);
    }

    #[test]
    fn percentages_round_towards_zero_but_never_to_it() {
        use AdjustmentType::{ChangeInCapacity, ExactCapacity, PercentChangeInCapacity};
        for (current, percent, delta) in [
            (100, 13, 13),
            (127, 10, 12),
            (1, 67, 1),
            (1, -58, -1),
            (100, -7, -7),
            (67, -10, -6),
            (10, 0, 0),
            (0, 50, 0),
        ] {
            assert_eq!(
                PercentChangeInCapacity.delta(current, percent, None),
                delta,
                "{percent} % of {current}"
            );
        }
        assert_eq!(PercentChangeInCapacity.delta(4, 25, Some(2)), 2);
        assert_eq!(PercentChangeInCapacity.delta(4, -25, Some(2)), -2);
        assert_eq!(ChangeInCapacity.delta(4, -3, Some(9)), -3);
        assert_eq!(ExactCapacity.delta(4, 3, None), -1);
    }

    #[test]
    fn warming_instances_neither_count_nor_measure() {
        let pods = [
            instance(80, 0),
            instance(20, 500),
            Pod { ready: Some((false, Time::ZERO)), ..instance(5, 0) },
            Pod { deleting: true, ..instance(5, 0) },
            Pod { phase: Phase::Failed, ..instance(5, 0) },
        ];
        let group = Group::read(Time::from_secs(600), Time::ZERO, Duration::from_secs(300), &fleet(4, &pods));
        assert_eq!(group, Group { desired: 4, warm: 1, warming: 3, terminating: 1, cpu: Some(80.0) });
        assert_eq!(group.before_scale_in(), 5);
        let later = Group::read(Time::from_secs(800), Time::ZERO, Duration::from_secs(300), &fleet(4, &pods));
        assert_eq!((later.warm, later.cpu), (2, Some(50.0)));
    }
}
