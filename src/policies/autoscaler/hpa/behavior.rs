//! Windows, rates and bounds (upstream: `horizontal.go` and `pkg/apis/autoscaling/v2/defaults.go`).
//!
//! Upstream compares timestamps with `now - window`; here ages are compared with the window, which is the same and
//! also holds in the first minutes of a run. *Outside* of a window means strictly older without `behavior`, and at least
//! as old with it.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::time::{Duration, Time};
use crate::units::Share;

/// `behavior` as it is written.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Behavior {
    /// Rules for adding replicas.
    pub scale_up: Option<ScalingRules>,
    /// Rules for removing replicas.
    pub scale_down: Option<ScalingRules>,
}

/// Rules of one direction as they are written; what is left out takes the direction's default.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ScalingRules {
    /// How long the most cautious recommendation counts; 0 to 1 h.
    pub stabilization_window: Option<Duration>,
    /// Which policy rules where there are several.
    pub select_policy: Option<SelectPolicy>,
    /// Rates; a written list replaces the default one.
    pub policies: Option<Vec<ScalingPolicy>>,
    /// Overrides the tolerance in this direction (from 1.33 on).
    pub tolerance: Option<Share>,
}

/// Which of several policies rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SelectPolicy {
    /// The one that allows the greatest change.
    #[serde(alias = "Max")]
    Max,
    /// The one that allows the smallest change.
    #[serde(alias = "Min")]
    Min,
    /// None: this direction is switched off.
    #[serde(alias = "Disabled")]
    Disabled,
}

/// One rate: at most so much change per period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ScalingPolicy {
    /// Unit of `value`.
    #[serde(rename = "type")]
    pub unit: PolicyType,
    /// Pods, or percent of the replicas at the start of the period; greater than 0.
    pub value: u32,
    /// Length of the period, 1 s to 30 min.
    pub period: Duration,
}

/// Unit of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyType {
    /// A number of pods.
    #[serde(alias = "Pods")]
    Pods,
    /// Percent of the replicas at the start of the period.
    #[serde(alias = "Percent")]
    Percent,
}

/// The longest period of a policy.
const MAX_PERIOD: Duration = Duration::from_secs(1800);
/// The longest stabilization window.
const MAX_WINDOW: Duration = Duration::from_secs(3600);

impl Behavior {
    /// What the API server's validation refuses.
    pub(in crate::policies::autoscaler) fn check(&self) -> Result<(), String> {
        for (name, rules) in [("scale-up", &self.scale_up), ("scale-down", &self.scale_down)] {
            let Some(rules) = rules else { continue };
            if rules.stabilization_window.is_some_and(|window| window > MAX_WINDOW) {
                return Err(format!("`{name}`: `stabilization-window` is longer than {MAX_WINDOW}"));
            }
            let Some(policies) = &rules.policies else { continue };
            if policies.is_empty() {
                return Err(format!("`{name}`: `policies` needs at least one policy"));
            }
            for policy in policies {
                if policy.value == 0 || policy.value > i32::MAX as u32 {
                    return Err(format!("`{name}`: the `value` of a policy lies between 1 and {}", i32::MAX));
                }
                if policy.period < Duration::from_secs(1) || policy.period > MAX_PERIOD {
                    return Err(format!(
                        "`{name}`: the `period` of a policy lies between 1s and {MAX_PERIOD}"
                    ));
                }
            }
        }
        Ok(())
    }

    pub(super) fn has_tolerance(&self) -> bool {
        [&self.scale_up, &self.scale_down].into_iter().flatten().any(|rules| rules.tolerance.is_some())
    }
}

/// Rules of one direction with the defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `None` only for scaling in, where the controller's flag then rules.
    pub stabilization_window: Option<Duration>,
    /// Which policy rules.
    pub select_policy: SelectPolicy,
    /// Rates.
    pub policies: Vec<ScalingPolicy>,
}

impl Rules {
    fn overridden_by(self, written: Option<&ScalingRules>) -> Self {
        let Some(written) = written else { return self };
        Self {
            stabilization_window: written.stabilization_window.or(self.stabilization_window),
            select_policy: written.select_policy.unwrap_or(self.select_policy),
            policies: written.policies.clone().unwrap_or(self.policies),
        }
    }

    /// Events older than this no longer limit anything (`getLongestPolicyPeriod`).
    fn longest_period(&self) -> Duration {
        self.policies.iter().map(|policy| policy.period).max().unwrap_or(Duration::ZERO)
    }
}

/// Rules for scaling out: at once, 4 pods or 100 % per 15 s, whatever is more (`GenerateHPAScaleUpRules`).
pub fn scale_up_rules(written: Option<&ScalingRules>) -> Rules {
    let period = Duration::from_secs(15);
    Rules {
        stabilization_window: Some(Duration::ZERO),
        select_policy: SelectPolicy::Max,
        policies: vec![
            ScalingPolicy { unit: PolicyType::Pods, value: 4, period },
            ScalingPolicy { unit: PolicyType::Percent, value: 100, period },
        ],
    }
    .overridden_by(written)
}

/// Rules for scaling in: 100 % per 15 s, after the window of the controller's flag (`GenerateHPAScaleDownRules`).
pub fn scale_down_rules(written: Option<&ScalingRules>) -> Rules {
    let period = Duration::from_secs(15);
    Rules {
        stabilization_window: None,
        select_policy: SelectPolicy::Max,
        policies: vec![ScalingPolicy { unit: PolicyType::Percent, value: 100, period }],
    }
    .overridden_by(written)
}

/// One entry of the log of recommendations: what the metric asked for, before any window or limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recommendation {
    /// When.
    pub at: Time,
    /// How many.
    pub replicas: u32,
}

/// Writes over the last entry that is known to be out of date, so that the log stays as long as its window.
fn record(log: &mut Vec<Recommendation>, reusable: Option<usize>, entry: Recommendation) {
    match reusable {
        Some(slot) => log[slot] = entry,
        None => log.push(entry),
    }
}

/// Without `behavior`: the highest recommendation not older than `window` (`stabilizeRecommendation`).
pub fn stabilize(log: &mut Vec<Recommendation>, now: Time, window: Duration, desired: u32) -> u32 {
    let mut max_recommendation = desired;
    let mut old_sample = None;
    for (slot, entry) in log.iter().enumerate() {
        if now.since(entry.at) > window {
            old_sample = Some(slot);
        } else {
            max_recommendation = max_recommendation.max(entry.replicas);
        }
    }
    record(log, old_sample, Recommendation { at: now, replicas: desired });
    max_recommendation
}

/// With `behavior`: not above what every recommendation of the up window asked for, not below what any of the down window
/// did (`stabilizeRecommendationWithBehaviors`). The reason applies if the answer differs from `desired`.
pub fn stabilize_with_behavior(
    log: &mut Vec<Recommendation>,
    now: Time,
    current: u32,
    desired: u32,
    up_window: Duration,
    down_window: Duration,
) -> (u32, &'static str) {
    let (mut up_recommendation, mut down_recommendation) = (desired, desired);
    let mut old_sample = None;
    for (slot, entry) in log.iter().enumerate() {
        let age = now.since(entry.at);
        if age < up_window {
            up_recommendation = up_recommendation.min(entry.replicas);
        }
        if age < down_window {
            down_recommendation = down_recommendation.max(entry.replicas);
        }
        if age > up_window && age > down_window {
            old_sample = Some(slot);
        }
    }
    // As far from `current` as both windows allow; in this order, because they may contradict each other.
    let mut recommendation = current;
    if recommendation < up_recommendation {
        recommendation = up_recommendation;
    }
    if recommendation > down_recommendation {
        recommendation = down_recommendation;
    }
    record(log, old_sample, Recommendation { at: now, replicas: desired });
    (recommendation, if desired >= current { "ScaleUpStabilized" } else { "ScaleDownStabilized" })
}

/// A figure after the bounds, and which bound was the nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// Replicas.
    pub replicas: u32,
    /// Reason of the condition `ScalingLimited`.
    pub reason: &'static str,
}

/// Without `behavior`, one sync multiplies the replicas by at most this.
pub const SCALE_UP_LIMIT_FACTOR: f64 = 2.0;
/// Without `behavior`, one sync may always reach this many replicas.
const SCALE_UP_LIMIT_MINIMUM: f64 = 4.0;

/// Without `behavior`: bounds, and at most `factor` times the replicas (`convertDesiredReplicasWithRules`).
pub fn convert_with_rules(current: u32, desired: u32, min: u32, max: u32, factor: f64) -> Limited {
    let scale_up_limit = (factor * f64::from(current)).max(SCALE_UP_LIMIT_MINIMUM) as u32;
    let (maximum_allowed, reason) =
        if max > scale_up_limit { (scale_up_limit, "ScaleUpLimit") } else { (max, "TooManyReplicas") };
    if desired < min {
        Limited { replicas: min, reason: "TooFewReplicas" }
    } else if desired > maximum_allowed {
        Limited { replicas: maximum_allowed, reason }
    } else {
        Limited { replicas: desired, reason: "DesiredWithinRange" }
    }
}

/// With `behavior`: bounds, and the rates of the direction (`convertDesiredReplicasWithBehaviorRate`). Events of both
/// directions enter both.
pub fn convert_with_behavior_rate(
    now: Time,
    current: u32,
    desired: u32,
    min: u32,
    max: u32,
    (up, up_events): (&Rules, &ScaleEvents),
    (down, down_events): (&Rules, &ScaleEvents),
) -> Limited {
    // Replicas at the start of a policy's period; negative where the figures contradict each other.
    let period_start = |policy: &ScalingPolicy| {
        i64::from(current) - up_events.change(now, policy.period) + down_events.change(now, policy.period)
    };
    if desired > current {
        let scale_up_limit = scale_up_limit(current, up, period_start).max(i64::from(current));
        let (maximum_allowed, reason) = if i64::from(max) > scale_up_limit {
            (scale_up_limit as u32, "ScaleUpLimit")
        } else {
            (max, "TooManyReplicas")
        };
        if desired > maximum_allowed {
            return Limited { replicas: maximum_allowed, reason };
        }
    } else if desired < current {
        let scale_down_limit = scale_down_limit(current, down, period_start).min(i64::from(current));
        let (minimum_allowed, reason) = if i64::from(min) < scale_down_limit {
            (scale_down_limit as u32, "ScaleDownLimit")
        } else {
            (min, "TooFewReplicas")
        };
        if desired < minimum_allowed {
            return Limited { replicas: minimum_allowed, reason };
        }
    }
    Limited { replicas: desired, reason: "DesiredWithinRange" }
}

/// Most replicas that the rates allow (`calculateScaleUpLimitWithScalingRules`). Percentages are rounded up, or they
/// would never start a small fleet.
fn scale_up_limit(current: u32, rules: &Rules, period_start: impl Fn(&ScalingPolicy) -> i64) -> i64 {
    let proposals = rules.policies.iter().map(|policy| match policy.unit {
        PolicyType::Pods => period_start(policy) + i64::from(policy.value),
        PolicyType::Percent => {
            (period_start(policy) as f64 * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i64
        }
    });
    match rules.select_policy {
        SelectPolicy::Disabled => i64::from(current),
        SelectPolicy::Max => proposals.max().unwrap_or(i64::MIN),
        SelectPolicy::Min => proposals.min().unwrap_or(i64::MAX),
    }
}

/// Fewest replicas that the rates allow (`calculateScaleDownLimitWithBehaviors`). Percentages are truncated, so a small
/// fleet loses whole pods.
fn scale_down_limit(current: u32, rules: &Rules, period_start: impl Fn(&ScalingPolicy) -> i64) -> i64 {
    let proposals = rules.policies.iter().map(|policy| match policy.unit {
        PolicyType::Pods => period_start(policy) - i64::from(policy.value),
        PolicyType::Percent => (period_start(policy) as f64 * (1.0 - f64::from(policy.value) / 100.0)) as i64,
    });
    match rules.select_policy {
        SelectPolicy::Disabled => i64::from(current),
        SelectPolicy::Max => proposals.min().unwrap_or(i64::MAX),
        SelectPolicy::Min => proposals.max().unwrap_or(i64::MIN),
    }
}

/// One past change in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaleEvent {
    /// When.
    pub at: Time,
    /// By how many replicas, as a positive number.
    pub change: u32,
    /// Its slot may be written over. It still counts while it is young enough for some policy.
    pub outdated: bool,
}

/// The past changes in one direction, in no order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScaleEvents(pub Vec<ScaleEvent>);

impl ScaleEvents {
    /// Replicas added (or removed) within `period` (`getReplicasChangePerPeriod`).
    fn change(&self, now: Time, period: Duration) -> i64 {
        self.0.iter().filter(|event| now.since(event.at) < period).map(|event| i64::from(event.change)).sum()
    }

    /// Adds an event, over one that no policy of `rules` can look back to any more.
    fn store(&mut self, now: Time, change: u32, rules: &Rules) {
        let longest_period = rules.longest_period();
        let mut old_sample = None;
        for (slot, event) in self.0.iter_mut().enumerate() {
            event.outdated |= now.since(event.at) > longest_period;
            if event.outdated {
                old_sample = Some(slot);
            }
        }
        let event = ScaleEvent { at: now, change, outdated: false };
        match old_sample {
            Some(slot) => self.0[slot] = event,
            None => self.0.push(event),
        }
    }
}

/// Remembers a change from `previous` to `replicas`, which differ, in the events of its direction (`storeScaleEvent`).
pub fn store_scale_event(
    now: Time,
    previous: u32,
    replicas: u32,
    (up, up_events): (&Rules, &mut ScaleEvents),
    (down, down_events): (&Rules, &mut ScaleEvents),
) {
    if replicas > previous {
        up_events.store(now, replicas - previous, up);
    } else {
        down_events.store(now, previous - replicas, down);
    }
}
