//! KEDA: event sources switch a service on and off, and in between the HPA that KEDA creates scales it.
//!
//! # What it does
//! Every `polling-interval` it asks the triggers whether they are active: whether their value is above their activation
//! threshold. With an active trigger, a service at zero (or idle) gets `min-replica-count` replicas, at least one. Without,
//! and after `cooldown-period` since a trigger was last active, it goes to `idle-replica-count`, or to zero if
//! `min-replica-count` is zero. Between one and `max-replica-count` it changes nothing: that is left to an HPA (the one of
//! `simlab explain hpa`, every 15 s) which follows the same triggers and leaves a service at zero alone. A trigger that fails keeps the service from being switched off; after some failures the HPA is given
//! `fallback` instead of the trigger's value.
//!
//! # When it helps
//! When work waits in a queue while nobody works, so that demand shows without any replica; for batch-like consumers that
//! idle for hours.
//!
//! # How it fails
//! * From zero, the first event waits for up to a polling interval, and then for a pod to start.
//! * Zero is decided upon at polls only, so it comes up to a polling interval after the cooldown; and the cooldown does not
//!   hold back the HPA on its way from many replicas to few.
//! * Activation and scaling have thresholds of their own: an activation threshold above the target switches off a service
//!   that the HPA would keep.
//! * A failing trigger beside an active one freezes the time of the last activity: once both fall silent, the cooldown may
//!   have passed already.
//! * With `idle-replica-count` above 0, the HPA raises the idle replicas to its own minimum; upstream says to use 0 only.
//!
//! # Settings
//! * `triggers` (at least one): `{ metric = "source.jobs.concurrency", threshold = 5, activation-threshold = 0 }`. `metric` is
//!   `source.NAME.METRIC` or `service.NAME.METRIC`; `threshold` is meant per replica, or with `metric-type = "value"` in all; at zero
//!   the trigger is active above `activation-threshold` (0). `metric = "cpu"` goes to the HPA alone, with `metric-type =
//!   "utilization"` (its default) or `"average-value"`, and needs `min-replica-count` of 1 or another trigger.
//! * `behavior`: rates and windows of the HPA, as in `autoscaler.hpa`.
//! * `polling-interval` (`"30s"`), `cooldown-period` (`"5min"`), `initial-cooldown-period` (`"0s"`): where no trigger was ever
//!   active, the first switching off waits for this time after the start.
//! * `min-replica-count` (0), `max-replica-count` (100), `idle-replica-count` (none; below `min-replica-count`).
//! * `fallback = { failure-threshold = 3, replicas = 6, behavior = "static" }`: after more failures in a row than the threshold,
//!   the HPA sees what `replicas` would need; `behavior` may be `"currentReplicas"`, `"currentReplicasIfHigher"` or
//!   `"currentReplicasIfLower"`.
//!
//! # Origin
//! kedacore/keda 8b4f083c (2026-08-20), `pkg/scaling/executor/scale_scaledobjects.go` (`RequestScale`, `scaleToZeroOrIdle`,
//! `scaleFromZeroOrIdle`), `pkg/fallback/fallback.go`, `apis/keda/v1alpha1/scaledobject_types.go`. The decisions agree with a
//! table that was derived by reading the source; it was not executed. The HPA is the one in this folder.
//!
//! # Deliberate differences
//! * Pausing and forced activation, which upstream reads from annotations, are not there.
//! * `ScaledObject`s are as old as the run; upstream cuts their creation to whole seconds, so that its first poll already
//!   lies strictly after it. Here the poll in that very instant leaves a service without any activity as it is.
//! * Scaling modifiers (formulas over triggers) are not there.
//! * The HPA is created with the `ScaledObject`, syncs for the first time one sync period later, and sees in a common instant
//!   what the poll has just done. Upstream's clocks run apart.
//! * Triggers are read through the metrics pipeline of the service (`metrics = { .. }`), late like any other metric;
//!   upstream asks event sources directly, and a trigger can only fail here while the pipeline has nothing yet.

pub mod trigger;

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::policies::Algorithm;
use crate::policies::autoscaler::hpa::behavior::Behavior;
use crate::policies::autoscaler::hpa::{Hpa, HpaSettings};
use crate::policies::autoscaler::{Autoscaler, Desired, Explain, Fleet, Query, Reading};
use crate::time::{Duration, Time};
use trigger::{Activity, MetricType, Trigger};

/// Settings of [`Keda`], with the names of the fields of a `ScaledObject`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, remote = "Self")]
pub struct KedaSettings {
    /// What switches the service on and scales it; at least one.
    pub triggers: Vec<Trigger>,
    /// Rates and windows of the HPA.
    pub behavior: Option<Behavior>,
    /// Time between two polls of the triggers, not zero.
    pub polling_interval: Duration,
    /// Time after the last activity before the service is switched off.
    pub cooldown_period: Duration,
    /// Time after the start before a service without any activity is switched off.
    pub initial_cooldown_period: Duration,
    /// Replicas while no trigger is active, below `min-replica-count`; upstream supports only 0.
    pub idle_replica_count: Option<u32>,
    /// Fewest replicas while a trigger is active.
    pub min_replica_count: u32,
    /// Most replicas, at least 1.
    pub max_replica_count: u32,
    /// What the HPA sees of triggers that fail.
    pub fallback: Option<Fallback>,
}

/// What the HPA sees of a trigger that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fallback {
    /// Failures in a row that are borne.
    pub failure_threshold: u32,
    /// Replicas that the trigger's value is taken to need from then on.
    pub replicas: u32,
    /// Whether the present replicas have a say.
    #[serde(default)]
    pub behavior: FallbackBehavior,
}

/// Which replicas a failing trigger asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FallbackBehavior {
    /// Those of the fallback.
    #[default]
    Static,
    /// Those there are.
    CurrentReplicas,
    /// The larger of both.
    CurrentReplicasIfHigher,
    /// The smaller of both.
    CurrentReplicasIfLower,
}

impl Default for KedaSettings {
    fn default() -> Self {
        Self {
            triggers: Vec::new(),
            behavior: None,
            polling_interval: Duration::from_secs(30),
            cooldown_period: Duration::from_secs(300),
            initial_cooldown_period: Duration::ZERO,
            idle_replica_count: None,
            min_replica_count: 0,
            max_replica_count: 100,
            fallback: None,
        }
    }
}

impl KedaSettings {
    /// What the admission webhook refuses.
    fn check(&self) -> Result<(), String> {
        if self.triggers.is_empty() {
            return Err("`triggers` needs at least one entry".to_owned());
        }
        self.triggers.iter().try_for_each(Trigger::check)?;
        if self.min_replica_count == 0 && self.triggers.iter().all(|trigger| trigger.resource().is_some()) {
            return Err("with only cpu and memory triggers `min-replica-count` must be at least 1".to_owned());
        }
        if let Some(behavior) = &self.behavior {
            behavior.check()?;
        }
        let average = |trigger: &Trigger| {
            trigger.resource().is_none()
                && trigger.metric_type.is_none_or(|kind| kind == MetricType::AverageValue)
        };
        if self.fallback.is_some() && !self.triggers.iter().any(average) {
            return Err(
                "`fallback` needs a trigger of the metric type average-value that is neither cpu nor memory"
                    .to_owned(),
            );
        }
        if self.polling_interval == Duration::ZERO {
            return Err("`polling-interval` must be longer than zero".to_owned());
        }
        let (min, max) = (self.min_replica_count, self.max_replica_count);
        if max == 0 {
            return Err("`max-replica-count` must be at least 1".to_owned());
        }
        if max > i32::MAX as u32 {
            return Err(format!("`max-replica-count` ({max}) is greater than {}", i32::MAX));
        }
        if min > max {
            return Err(format!("`min-replica-count` ({min}) is greater than `max-replica-count` ({max})"));
        }
        // A least scale of 0 is 1 for the HPA.
        if let Some(idle) = self.idle_replica_count.filter(|&idle| idle >= min.max(1)) {
            return Err(format!(
                "`idle-replica-count` ({idle}) must be less than `min-replica-count` ({min})"
            ));
        }
        if let Some(fallback) = self.fallback.filter(|fallback| fallback.replicas > i32::MAX as u32) {
            return Err(format!("`fallback.replicas` ({}) is greater than {}", fallback.replicas, i32::MAX));
        }
        Ok(())
    }

    /// Fewest and most replicas of the HPA that scales the service while it is switched on.
    pub fn hpa_bounds(&self) -> (u32, u32) {
        (self.min_replica_count.max(1), self.max_replica_count)
    }
}

impl<'de> Deserialize<'de> for KedaSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        settings.check().map_err(D::Error::custom)?;
        Ok(settings)
    }
}

/// Why a poll ended as it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// From zero or idle to the least scale.
    Activated,
    /// Active, and on already.
    StaysActive,
    /// One trigger is active, another one failed: nothing changes, and the cooldown goes on.
    PartialTriggerError,
    /// Triggers failed and none is active: the HPA is to reach the fallback.
    WaitsForFallback,
    /// Triggers failed and none is active: nothing changes.
    TriggerError,
    /// Inactive, but not for long enough.
    CoolingDown,
    /// Inactive for long enough: to idle or zero.
    Deactivated,
    /// Inactive, below the least scale.
    RaisedToMin,
    /// Inactive, and nothing to do.
    Unchanged,
}

impl Outcome {
    /// The upstream's reason or event where it has one, for charts and logs.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Activated => "KEDAScaleTargetActivated",
            Self::StaysActive => "ScalerActive",
            Self::PartialTriggerError => "PartialTriggerError",
            Self::WaitsForFallback => "WaitsForFallback",
            Self::TriggerError => "TriggerError",
            Self::CoolingDown => "ScalerCooldown",
            Self::Deactivated => "KEDAScaleTargetDeactivated",
            Self::RaisedToMin => "RaisedToMinReplicaCount",
            Self::Unchanged => "ScalerNotActive",
        }
    }
}

/// What a poll leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    /// Replicas to set; those there are if nothing is to change.
    pub replicas: u32,
    /// Why.
    pub outcome: Outcome,
}

/// See the module documentation.
///
/// Polls every [`Self::polling_interval`], beginning at once ([`Self::poll`]). The HPA is evaluated on its own clock, within
/// [`KedaSettings::hpa_bounds`]; it leaves a service at zero alone.
#[derive(Clone, Debug)]
pub struct Keda {
    settings: Box<KedaSettings>,
    created: Time,
    /// When a trigger was last seen active.
    last_active: Option<Time>,
    hpa: Hpa,
    /// By trigger.
    health: Vec<Health>,
    /// When it polls next ...
    next_poll: Time,
    /// ... and when the HPA syncs next; `None` until the first poll creates it.
    next_sync: Option<Time>,
    /// From the last evaluation to the next one.
    pause: Duration,
}

impl Keda {
    /// Time between two polls.
    pub fn polling_interval(&self) -> Duration {
        self.settings.polling_interval
    }

    /// Its settings.
    pub fn settings(&self) -> &KedaSettings {
        &self.settings
    }

    /// When a trigger was last seen active.
    pub fn last_active(&self) -> Option<Time> {
        self.last_active
    }

    /// Takes over when a trigger was last seen active, which upstream keeps in the status of the `ScaledObject`.
    #[must_use]
    pub fn with_last_active(self, last_active: Option<Time>) -> Self {
        Self { last_active, ..self }
    }

    /// One poll: what each trigger says, and the wanted replicas there are.
    pub fn poll(
        &mut self,
        now: Time,
        current: u32,
        triggers: &[Activity],
        explain: &mut dyn Explain,
    ) -> Poll {
        let says = |activity| triggers.contains(&activity);
        let poll = self.request_scale(now, current, says(Activity::Active), says(Activity::Failed));
        explain.step("current", f64::from(current));
        explain.step("active", f64::from(u8::from(says(Activity::Active))));
        explain.step("error", f64::from(u8::from(says(Activity::Failed))));
        if let Some(at) = self.last_active {
            explain.step("last-active-ago", now.since(at).as_secs_f64());
        }
        explain.step("replicas", f64::from(poll.replicas));
        poll
    }

    /// The decision (`RequestScale`).
    pub fn request_scale(&mut self, now: Time, current: u32, is_active: bool, is_error: bool) -> Poll {
        let settings = &self.settings;
        let (min, idle) = (settings.min_replica_count, settings.idle_replica_count);
        let unchanged = |outcome| Poll { replicas: current, outcome };
        if is_active {
            if current == 0 || idle.is_some() && current < min {
                self.last_active = Some(now);
                return Poll { replicas: min.max(1), outcome: Outcome::Activated };
            }
            if is_error {
                return unchanged(Outcome::PartialTriggerError);
            }
            self.last_active = Some(now);
            return unchanged(Outcome::StaysActive);
        }
        match settings.fallback {
            // Zero replicas would keep the HPA from ever reaching the fallback.
            Some(fallback) if is_error && fallback.replicas != 0 => {
                return unchanged(Outcome::WaitsForFallback);
            }
            None if is_error => return unchanged(Outcome::TriggerError),
            // A fallback to zero replicas is an inactive trigger.
            _ => {}
        }
        if idle.is_some_and(|idle| current > idle) || current > 0 && min == 0 {
            return if self.has_cooled_down(now) {
                Poll { replicas: idle.unwrap_or(min), outcome: Outcome::Deactivated }
            } else {
                unchanged(Outcome::CoolingDown)
            };
        }
        if idle.is_none() && current < min {
            return Poll { replicas: min, outcome: Outcome::RaisedToMin };
        }
        unchanged(Outcome::Unchanged)
    }

    /// Strictly later than the cooldown after the last activity, or after the start if there was none.
    fn has_cooled_down(&self, now: Time) -> bool {
        match self.last_active {
            Some(at) => now.since(at) > self.settings.cooldown_period,
            None => now.since(self.created) > self.settings.initial_cooldown_period,
        }
    }
}

impl Algorithm for Keda {
    type Settings = KedaSettings;

    fn new(settings: &KedaSettings, now: Time) -> Self {
        let (min, max) = settings.hpa_bounds();
        let most = NonZeroU32::new(max).unwrap_or(NonZeroU32::MIN);
        let hpa = HpaSettings {
            min_replicas: min,
            metrics: Some(settings.triggers.iter().map(Trigger::followed).collect()),
            behavior: settings.behavior.clone(),
            ..HpaSettings::with_max_replicas(most)
        };
        Self {
            created: now,
            last_active: None,
            hpa: Hpa::new(&hpa, now),
            health: vec![Health::default(); settings.triggers.len()],
            next_poll: now,
            next_sync: None,
            pause: settings.polling_interval,
            settings: Box::new(settings.clone()),
        }
    }
}

/// Reason of an evaluation before its time.
const NOTHING_DUE: &str = "NothingDue";

impl Autoscaler for Keda {
    fn interval(&self) -> Duration {
        self.pause
    }

    fn queries(&self) -> &[Query] {
        self.hpa.queries()
    }

    fn evaluate(&mut self, now: Time, fleet: &Fleet<'_>, explain: &mut dyn Explain) -> Desired {
        let mut desired = Desired { replicas: fleet.current, reason: NOTHING_DUE };
        if now >= self.next_poll {
            self.next_poll = now + self.settings.polling_interval;
            let activities = self.activities(fleet.readings, explain);
            let Poll { replicas, outcome } = self.poll(now, fleet.current, &activities, explain);
            desired = Desired { replicas, reason: outcome.reason() };
        }
        let next_sync = *self.next_sync.get_or_insert_with(|| now + self.hpa.interval());
        if now >= next_sync {
            self.next_sync = Some(now + self.hpa.interval());
            // At zero there is nothing for it to say.
            if desired.replicas > 0 || desired.reason == NOTHING_DUE {
                let readings = self.readings(desired.replicas, fleet.readings, explain);
                let fleet = Fleet { current: desired.replicas, readings: &readings, ..*fleet };
                let answer = self.hpa.evaluate(now, &fleet, explain);
                if answer.replicas != fleet.current || desired.replicas == fleet.current {
                    desired = answer;
                }
            }
        }
        let next = self.next_sync.map_or(self.next_poll, |sync| sync.min(self.next_poll));
        self.pause = next - now;
        desired
    }
}

impl Keda {
    /// What each polled trigger says; `cpu` and `memory` are not polled.
    fn activities(&self, readings: &[Reading], explain: &mut dyn Explain) -> Vec<Activity> {
        let polled = self.settings.triggers.iter().zip(readings);
        let polled = polled.filter(|(trigger, _)| trigger.resource().is_none());
        let activities = polled.map(|(trigger, reading)| {
            let value = reading.series().map(|series| series.iter().sum::<i64>() as f64 / 1e3);
            explain.about(&trigger.metric);
            if let Some(value) = value {
                explain.step("trigger-value", value);
            }
            explain.step("activation-threshold", trigger.activation_threshold);
            Activity::of(value, trigger.activation_threshold)
        });
        let activities = activities.collect();
        explain.about("");
        activities
    }

    /// What the HPA gets to see: the fallback in place of triggers that failed for too long.
    fn readings(&mut self, current: u32, found: &[Reading], explain: &mut dyn Explain) -> Vec<Reading> {
        let mut readings = found.to_vec();
        for ((trigger, health), reading) in
            self.settings.triggers.iter().zip(&mut self.health).zip(&mut readings)
        {
            if trigger.resource().is_some() {
                continue;
            }
            health.on_read(reading.series().is_none());
            let is_average = trigger.metric_type != Some(MetricType::Value);
            let fallback = health.fallback(self.settings.fallback.as_ref(), current).filter(|_| is_average);
            if let (None, Some(replicas)) = (reading.series(), fallback) {
                explain.about(&trigger.metric);
                explain.step("fallback-replicas", f64::from(replicas));
                *reading = Reading::Series(Some(vec![trigger.threshold.milli * i64::from(replicas)]));
            }
        }
        explain.about("");
        readings
    }
}

/// How often one trigger failed the HPA in a row (upstream: the health in the status of the `ScaledObject`). It counts the
/// requests of the HPA, not the polls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    failures: u32,
}

impl Health {
    /// The HPA asked for the trigger's value and got it, or not.
    pub fn on_read(&mut self, failed: bool) {
        self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
    }

    /// The replicas for which the HPA shall take the trigger to ask, in place of a value that could not be read; `None`
    /// lets the metric fail. The metric then reads these replicas times its target per replica.
    pub fn fallback(self, fallback: Option<&Fallback>, current: u32) -> Option<u32> {
        let fallback = fallback.filter(|fallback| self.failures > fallback.failure_threshold)?;
        Some(match fallback.behavior {
            FallbackBehavior::Static => fallback.replicas,
            FallbackBehavior::CurrentReplicas => current,
            FallbackBehavior::CurrentReplicasIfHigher => current.max(fallback.replicas),
            FallbackBehavior::CurrentReplicasIfLower => current.min(fallback.replicas),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRIGGER: &str = "triggers = [{ metric = 'service.worker.queue-length', threshold = 5 }]\n";

    fn read(text: &str) -> Result<KedaSettings, String> {
        read_as_it_is(&format!("{TRIGGER}{text}"))
    }

    fn read_as_it_is(text: &str) -> Result<KedaSettings, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    fn keda(text: &str) -> Keda {
        Keda::new(&read(text).unwrap(), Time::ZERO)
    }

    fn poll(keda: &mut Keda, secs: u64, current: u32, triggers: &[Activity]) -> (u32, Outcome) {
        let Poll { replicas, outcome } = keda.poll(Time::from_secs(secs), current, triggers, &mut ());
        (replicas, outcome)
    }

    #[test]
    fn reads_what_a_scenario_says() {
        let settings = read(
            r#"
            min-replica-count = 2
            idle-replica-count = 0
            [fallback]
            failure-threshold = 3
            replicas = 6
            behavior = "currentReplicasIfHigher"
        "#,
        )
        .unwrap();
        let behavior = FallbackBehavior::CurrentReplicasIfHigher;
        assert_eq!(settings.fallback, Some(Fallback { failure_threshold: 3, replicas: 6, behavior }));
        assert_eq!(settings.hpa_bounds(), (2, 100));
        let KedaSettings { triggers, .. } = read("").unwrap();
        assert_eq!(read("").unwrap(), KedaSettings { triggers, ..KedaSettings::default() });
        assert_eq!(KedaSettings::default().hpa_bounds(), (1, 100));
        assert!(read("idle-replica-count = 0").is_ok(), "less than the one replica of the HPA");
    }

    #[test]
    fn refuses_what_the_webhook_refuses() {
        for (text, part) in [
            ("polling-interval = '0s'", "longer than zero"),
            ("max-replica-count = 0", "at least 1"),
            (
                "min-replica-count = 5\nmax-replica-count = 4",
                "`min-replica-count` (5) is greater than `max-replica-count` (4)",
            ),
            ("idle-replica-count = 2\nmin-replica-count = 2", "must be less than `min-replica-count` (2)"),
            ("fallback = { replicas = 2 }", "failure-threshold"),
            ("fallback = { failure-threshold = 1, replicas = 2, behavior = 'dynamic' }", "currentReplicas"),
            ("pollingInterval = '1s'", "unknown field"),
        ] {
            let message = read(text).expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn a_trigger_is_active_above_its_threshold() {
        use Activity::{Active, Failed, Inactive};

        let of =
            [Some(0.0), Some(5.0), Some(5.1), Some(f64::NAN), None].map(|value| Activity::of(value, 5.0));
        assert_eq!(of, [Inactive, Inactive, Active, Inactive, Failed]);
        assert_eq!(Activity::of(Some(0.0), 0.0), Inactive);
    }

    #[test]
    fn a_day_of_a_consumer() {
        let mut keda = keda("");
        assert_eq!(poll(&mut keda, 30, 0, &[Activity::Inactive]), (0, Outcome::Unchanged));
        assert_eq!(poll(&mut keda, 60, 0, &[Activity::Inactive, Activity::Active]), (1, Outcome::Activated));
        assert_eq!(poll(&mut keda, 90, 7, &[Activity::Active]), (7, Outcome::StaysActive));
        assert_eq!(
            poll(&mut keda, 120, 7, &[Activity::Active, Activity::Failed]),
            (7, Outcome::PartialTriggerError)
        );
        assert_eq!(keda.last_active(), Some(Time::from_secs(90)), "the failure is not an activity");
        assert_eq!(poll(&mut keda, 150, 7, &[Activity::Failed]), (7, Outcome::TriggerError));
        assert_eq!(poll(&mut keda, 390, 3, &[Activity::Inactive]), (3, Outcome::CoolingDown));
        assert_eq!(poll(&mut keda, 420, 3, &[Activity::Inactive]), (0, Outcome::Deactivated));
        assert_eq!(poll(&mut keda, 450, 0, &[Activity::Failed]), (0, Outcome::TriggerError));
    }

    #[test]
    fn the_initial_cooldown_counts_only_before_any_activity() {
        let mut never_active = keda("initial-cooldown-period = '2min'");
        assert_eq!(poll(&mut never_active, 120, 4, &[Activity::Inactive]), (4, Outcome::CoolingDown));
        assert_eq!(poll(&mut never_active, 121, 4, &[Activity::Inactive]), (0, Outcome::Deactivated));
        let mut once_active = keda("initial-cooldown-period = '1h'").with_last_active(Some(Time::ZERO));
        assert_eq!(poll(&mut once_active, 301, 4, &[Activity::Inactive]), (0, Outcome::Deactivated));
        // The very first poll is not strictly after the start.
        assert_eq!(poll(&mut keda(""), 0, 4, &[Activity::Inactive]), (4, Outcome::CoolingDown));
    }

    #[test]
    fn without_triggers_there_is_no_activity() {
        assert_eq!(poll(&mut keda(""), 30, 1, &[]), (0, Outcome::Deactivated));
    }

    #[test]
    fn idle_replicas_stand_in_for_zero() {
        let mut keda = keda("idle-replica-count = 1\nmin-replica-count = 3");
        assert_eq!(poll(&mut keda, 30, 5, &[Activity::Inactive]), (1, Outcome::Deactivated));
        assert_eq!(poll(&mut keda, 60, 1, &[Activity::Inactive]), (1, Outcome::Unchanged));
        assert_eq!(poll(&mut keda, 90, 0, &[Activity::Inactive]), (0, Outcome::Unchanged), "not raised");
        assert_eq!(poll(&mut keda, 120, 2, &[Activity::Active, Activity::Failed]), (3, Outcome::Activated));
    }

    #[test]
    fn a_fallback_to_nothing_is_inactivity() {
        let mut keda = keda("fallback = { failure-threshold = 3, replicas = 0 }");
        assert_eq!(poll(&mut keda, 30, 5, &[Activity::Failed]), (0, Outcome::Deactivated));
    }

    #[test]
    fn the_fallback_begins_after_more_failures_than_the_threshold() {
        let mut settings = read("fallback = { failure-threshold = 2, replicas = 6 }").unwrap();
        let mut health = Health::default();
        for (failed, replicas) in
            [(true, None), (true, None), (true, Some(6)), (true, Some(6)), (false, None), (true, None)]
        {
            health.on_read(failed);
            assert_eq!(health.fallback(settings.fallback.as_ref(), 9), replicas);
        }
        assert_eq!(health.fallback(None, 9), None);
        let fallback = settings.fallback.as_mut().unwrap();
        health = Health { failures: 3 };
        for (behavior, at_nine, at_two) in [
            (FallbackBehavior::Static, 6, 6),
            (FallbackBehavior::CurrentReplicas, 9, 2),
            (FallbackBehavior::CurrentReplicasIfHigher, 9, 6),
            (FallbackBehavior::CurrentReplicasIfLower, 6, 2),
        ] {
            fallback.behavior = behavior;
            let asked = [9, 2].map(|current| health.fallback(Some(fallback), current));
            assert_eq!(asked, [Some(at_nine), Some(at_two)], "{behavior:?}");
        }
    }

    proptest! {
        /// A poll moves between off and the least scale, and touches nothing else.
        #[test]
        fn moves_between_off_and_the_least_scale(
            min in 0_u32..5,
            idle in prop::option::of(0_u32..5),
            current in 0_u32..9,
            polls in prop::collection::vec((any::<bool>(), any::<bool>(), 0_u64..400), 1..30),
        ) {
            let settings = KedaSettings { min_replica_count: min, idle_replica_count: idle, ..KedaSettings::default() };
            prop_assume!(KedaSettings { triggers: read("").unwrap().triggers, ..settings.clone() }.check().is_ok());
            let mut keda = Keda::new(&settings, Time::ZERO);
            let (mut now, mut current) = (Time::ZERO, current);
            for (is_active, is_error, pause) in polls {
                now += Duration::from_secs(pause);
                let Poll { replicas, outcome } = keda.request_scale(now, current, is_active, is_error);
                match outcome {
                    Outcome::Activated => prop_assert_eq!(replicas, min.max(1)),
                    Outcome::Deactivated => prop_assert_eq!(replicas, idle.unwrap_or(0)),
                    Outcome::RaisedToMin => prop_assert_eq!(replicas, min),
                    _ => prop_assert_eq!(replicas, current),
                }
                if is_error {
                    prop_assert!(replicas >= current, "a failing trigger switches nothing off");
                }
                current = replicas;
            }
        }
    }
}
