//! A Kubernetes Deployment with `strategy: {type: RollingUpdate}`.
//!
//! # What it does
//! Each pass does one of three things: follow a changed number of replicas, in proportion over the versions; or grow
//! the new version as far as `max-surge` allows; or shrink the old versions, first those of their instances that are not
//! available, then as many as `max-unavailable` leaves. The next pass sees what became of it. If nothing moves for
//! `progress-deadline`, the rollout is reported as stalled; nothing else happens.
//!
//! # When it helps
//! The everyday update of a stateless service: capacity stays within known bounds, and a version that does not get ready
//! stops the rollout before it does much harm.
//!
//! # How it fails
//! * Readiness is its only judge: a version that is ready and wrong is rolled out in full. Nothing is ever rolled back.
//! * A version that crashes in a loop leaves the service frozen at `replicas + max-surge` instances, some of them useless.
//! * Two versions serve side by side for the length of the rollout.
//!
//! # Settings
//! * `max-surge` (`"25%"`): instances above the wanted number, as a number or a percentage (rounded up).
//! * `max-unavailable` (`"25%"`): instances that may be missing, as a number or a percentage (rounded down). If both come
//!   out as 0, this is 1.
//! * `min-ready` (`"0s"`): how long an instance must have been ready to count as available.
//! * `progress-deadline` (`"600s"`): how long nothing may move before the rollout counts as stalled; 2147483647 s are no
//!   deadline.
//! * `revision-history-limit` (10): former versions that are kept for an `undo`; 2147483647 are no limit.
//!
//! # Origin
//! kubernetes/kubernetes v1.28.0: `pkg/controller/deployment/deployment_controller.go` (`syncDeployment`), `rolling.go`
//! (`rolloutRolling`, `reconcileNewReplicaSet`, `reconcileOldReplicaSets`, `cleanupUnhealthyReplicas`,
//! `scaleDownOldReplicaSetsForRollingUpdate`), `sync.go` (`isScalingEvent`, `scale`), `progress.go`,
//! `util/deployment_util.go` (`ResolveFenceposts`, `NewRSNewReplicas`, `GetProportion`), and
//! `apimachinery/pkg/util/intstr/intstr.go` (`GetScaledValueFromIntOrPercent`).
//!
//! # Deliberate differences
//! * A rollout cannot be paused.
//! * A pass over several versions is handed out as one order per version, at the same instant.
//! * The controller here sees the effect of its orders at once; upstream waits for its watch.
//! * What upstream notes on a set when it scales it is forgotten between rollouts: at the start every set counts as scaled for
//!   the present number of replicas and the present surge.

mod scale;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer};

use crate::policies::Algorithm;
use crate::policies::rollout::progress::Progress;
use crate::policies::rollout::{
    Act, Command, ReplicaSet, Rollout, available_sum, check_deadline, is_complete, spec_sum,
};
use crate::time::{Duration, Time};
pub use scale::{Annotations, is_scaling_event, proportional_scale};

/// A number of instances, or a percentage of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntOrPercent {
    /// So many.
    Int(i32),
    /// So many percent of the wanted number.
    Percent(i32),
}

impl IntOrPercent {
    /// The number, for `total` instances; a percentage is rounded up or down (`GetScaledValueFromIntOrPercent`).
    pub fn scaled(self, total: u32, round_up: bool) -> i64 {
        match self {
            Self::Int(value) => i64::from(value),
            Self::Percent(percent) => {
                let share = f64::from(percent) * f64::from(total) / 100.0;
                (if round_up { share.ceil() } else { share.floor() }) as i64
            }
        }
    }
}

impl FromStr for IntOrPercent {
    type Err = String;

    /// Reads a percentage; a number is not written as text.
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_suffix('%').ok_or_else(|| {
            format!("`{text}` is neither a number nor a percentage; write a percentage as in \"25%\"")
        })?;
        let percent = digits.parse().map_err(|_| format!("`{text}` is not a whole percentage"))?;
        Ok(Self::Percent(percent))
    }
}

impl<'de> Deserialize<'de> for IntOrPercent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = IntOrPercent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of instances or a percentage such as \"25%\"")
            }

            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<IntOrPercent, E> {
                value
                    .try_into()
                    .map(IntOrPercent::Int)
                    .map_err(|_| E::custom(format!("{value} is too large")))
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<IntOrPercent, E> {
                value
                    .try_into()
                    .map(IntOrPercent::Int)
                    .map_err(|_| E::custom(format!("{value} is too large")))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<IntOrPercent, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

impl JsonSchema for IntOrPercent {
    fn schema_name() -> Cow<'static, str> {
        "IntOrPercent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "a number of instances or a percentage such as \"25%\"",
            "oneOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": r"^[0-9]+%$|^\$.+$" }
            ],
        })
    }
}

/// Settings of [`Rolling`].
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, remote = "Self")]
pub struct RollingSettings {
    /// Instances above the wanted number; a percentage is rounded up.
    pub max_surge: IntOrPercent,
    /// Instances that may be missing; a percentage is rounded down.
    pub max_unavailable: IntOrPercent,
    /// How long an instance must have been ready to count as available.
    pub min_ready: Duration,
    /// How long nothing may move before the rollout counts as stalled.
    pub progress_deadline: Duration,
    /// Former versions that are kept.
    pub revision_history_limit: u32,
}

impl Default for RollingSettings {
    fn default() -> Self {
        Self {
            max_surge: IntOrPercent::Percent(25),
            max_unavailable: IntOrPercent::Percent(25),
            min_ready: Duration::ZERO,
            progress_deadline: Duration::from_secs(600),
            revision_history_limit: 10,
        }
    }
}

impl RollingSettings {
    /// What the API server's validation refuses.
    fn check(&self) -> Result<(), &'static str> {
        let value = |field| match field {
            IntOrPercent::Int(value) | IntOrPercent::Percent(value) => value,
        };
        if value(self.max_surge) < 0 || value(self.max_unavailable) < 0 {
            return Err("`max-surge` and `max-unavailable` must not be negative");
        }
        if value(self.max_surge) == 0 && value(self.max_unavailable) == 0 {
            return Err("`max-unavailable` must not be 0 when `max-surge` is 0");
        }
        if matches!(self.max_unavailable, IntOrPercent::Percent(percent) if percent > 100) {
            return Err("`max-unavailable` must not be more than 100%");
        }
        check_deadline(self.min_ready, self.progress_deadline)
    }

    /// The bounds for so many wanted replicas (`MaxSurge`, `MaxUnavailable`, `MinAvailable`).
    pub fn limits(&self, replicas: u32) -> Limits {
        let (max_surge, max_unavailable) = resolve_fenceposts(self.max_surge, self.max_unavailable, replicas);
        // Without replicas nothing can be unavailable, whatever the fenceposts say.
        let max_unavailable = max_unavailable.min(i64::from(replicas));
        Limits { max_surge, max_unavailable, min_available: i64::from(replicas) - max_unavailable }
    }
}

impl<'de> Deserialize<'de> for RollingSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        settings.check().map_err(D::Error::custom)?;
        Ok(settings)
    }
}

/// Both values for `desired` instances: surge rounded up, unavailability rounded down, and not both zero, or nothing could
/// ever move (`ResolveFenceposts`).
pub fn resolve_fenceposts(
    max_surge: IntOrPercent,
    max_unavailable: IntOrPercent,
    desired: u32,
) -> (i64, i64) {
    match (max_surge.scaled(desired, true), max_unavailable.scaled(desired, false)) {
        (0, 0) => (0, 1),
        resolved => resolved,
    }
}

/// The bounds of a rolling update, in instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Above the wanted number.
    pub max_surge: i64,
    /// Missing.
    pub max_unavailable: i64,
    /// Available at any time.
    pub min_available: i64,
}

impl Limits {
    /// Those of a Deployment that is not updated in a rolling way: nothing is promised.
    pub const RECREATE: Self = Self { max_surge: 0, max_unavailable: 0, min_available: 0 };
}

/// Sizes the new set, within the surge; true if that changes it (`reconcileNewReplicaSet`, `NewRSNewReplicas`).
pub fn reconcile_new(settings: &RollingSettings, replicas: u32, sets: &mut [ReplicaSet]) -> bool {
    let all = i64::from(spec_sum(sets, |_| true));
    let Some(new) = sets.iter_mut().find(|set| set.is_new) else { return false };
    if new.spec > replicas {
        new.spec = replicas;
        return true;
    }
    // The surge alone, without the fencepost rule.
    let max_total = i64::from(replicas) + settings.max_surge.scaled(replicas, true);
    let grow = (max_total - all).clamp(0, i64::from(replicas - new.spec));
    new.spec += grow as u32;
    grow > 0
}

/// Shrinks the old sets, within the unavailability; true if that changes any (`reconcileOldReplicaSets`).
///
/// The sets are in the order of their age. `available` is not refreshed between the two steps, so one pass may remove
/// unavailable instances and, for the same budget, available ones.
pub fn reconcile_old(settings: &RollingSettings, replicas: u32, sets: &mut [ReplicaSet]) -> bool {
    if spec_sum(sets, |set| !set.is_new) == 0 {
        return false;
    }
    let new_unavailable: i64 =
        sets.iter().filter(|set| set.is_new).map(|new| i64::from(new.spec) - i64::from(new.available)).sum();
    let min_available = settings.limits(replicas).min_available;
    let max_scaled_down = i64::from(spec_sum(sets, |_| true)) - min_available - new_unavailable;
    if max_scaled_down <= 0 {
        return false;
    }
    let cleaned_up = cleanup_unhealthy(sets, max_scaled_down);
    let scaled_down = scale_down_old(settings, replicas, sets);
    cleaned_up + scaled_down > 0
}

/// Removes at most `max_cleanup` instances that are not available from the old sets, oldest set first
/// (`cleanupUnhealthyReplicas`). Returns how many.
pub fn cleanup_unhealthy(sets: &mut [ReplicaSet], max_cleanup: i64) -> i64 {
    let mut total = 0;
    for set in sets.iter_mut().filter(|set| !set.is_new) {
        if total >= max_cleanup {
            break;
        }
        // More available than wanted is a late report; there is nothing unhealthy to remove.
        let unhealthy = i64::from(set.spec.saturating_sub(set.available));
        let scaled_down = unhealthy.min(max_cleanup - total);
        set.spec -= scaled_down as u32;
        total += scaled_down;
    }
    total
}

/// Removes instances from the old sets, oldest set first, while more than enough are available
/// (`scaleDownOldReplicaSetsForRollingUpdate`). Returns how many.
pub fn scale_down_old(settings: &RollingSettings, replicas: u32, sets: &mut [ReplicaSet]) -> i64 {
    let budget = i64::from(available_sum(sets)) - settings.limits(replicas).min_available;
    let mut total = 0;
    for set in sets.iter_mut().filter(|set| !set.is_new) {
        if total >= budget {
            break;
        }
        let scaled_down = i64::from(set.spec).min(budget - total);
        set.spec -= scaled_down as u32;
        total += scaled_down;
    }
    total
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Rolling {
    settings: RollingSettings,
    progress: Progress,
    /// What upstream notes on every set it scales, by position.
    annotations: Vec<Annotations>,
    /// Orders of the present pass that are still to be given (position, size), the next one last; and the wanted number
    /// they were made for.
    orders: Vec<(usize, u32)>,
    planned_for: u32,
    /// Somebody holds it (`spec.paused`): only changes of scale are followed.
    held: bool,
    done: bool,
}

impl Algorithm for Rolling {
    type Settings = RollingSettings;

    fn new(settings: &RollingSettings, now: Time) -> Self {
        Self {
            progress: Progress::new(settings.progress_deadline, now),
            settings: settings.clone(),
            annotations: Vec::new(),
            orders: Vec::new(),
            planned_for: 0,
            held: false,
            done: false,
        }
    }
}

impl Rollout for Rolling {
    fn sync(&mut self, now: Time, replicas: u32, sets: &[ReplicaSet]) -> Option<Command> {
        if self.done {
            return None;
        }
        if !self.held {
            self.progress.sync(now, replicas, sets);
        }
        if self.planned_for != replicas {
            self.orders.clear();
        }
        if let Some(command) = self.next_order(sets) {
            return Some(command);
        }
        self.pass(replicas, sets);
        if let Some(command) = self.next_order(sets) {
            return Some(command);
        }
        self.done = !self.held && is_complete(replicas, sets);
        self.done.then_some(Command::Done)
    }

    fn next_wakeup(&self) -> Option<Time> {
        self.progress.next_wakeup().filter(|_| !self.held)
    }

    fn min_ready(&self) -> Duration {
        self.settings.min_ready
    }

    fn is_stalled(&self) -> bool {
        self.progress.is_stalled()
    }

    fn revision_history_limit(&self) -> u32 {
        self.settings.revision_history_limit
    }

    fn on_act(&mut self, now: Time, act: Act) {
        match act {
            Act::Pause => {
                self.held = true;
                self.progress.restart(now);
                // What the last pass had left is not done any more.
                self.orders.clear();
            }
            Act::Resume => {
                self.held = false;
                self.progress.restart(now);
            }
            _ => {}
        }
    }
}

impl Rolling {
    /// Whether the last order left others of the same pass to be given.
    pub fn in_pass(&self) -> bool {
        !self.orders.is_empty()
    }

    /// One pass of the controller: it follows a change of scale, or sizes the new set, or shrinks the old ones; the first
    /// that changes anything ends it (`syncDeployment`, `rolloutRolling`).
    fn pass(&mut self, replicas: u32, sets: &[ReplicaSet]) {
        let settings = &self.settings;
        let max = i64::from(replicas) + settings.limits(replicas).max_surge;
        let noted = Annotations { desired: Some(replicas), max: max.try_into().ok() };
        self.annotations.resize(sets.len(), noted);
        let annotations = &mut self.annotations;
        let mut plan = sets.to_vec();
        if is_scaling_event(replicas, sets, annotations) {
            proportional_scale(settings, replicas, &mut plan, annotations, 0);
            // Whoever is resized is noted below; without a change upstream goes on only when all know the new number.
        }
        let scaled = plan != sets || is_scaling_event(replicas, sets, annotations);
        if !scaled && !self.held && !reconcile_new(settings, replicas, &mut plan) {
            reconcile_old(settings, replicas, &mut plan);
        }
        let sizes = plan.iter().map(|set| set.spec).enumerate().rev();
        self.orders = sizes.filter(|&(set, to)| sets[set].spec != to).collect();
        for &(set, _) in &self.orders {
            self.annotations[set] = noted;
        }
        self.planned_for = replicas;
    }

    /// The next order that is not yet carried out.
    fn next_order(&mut self, sets: &[ReplicaSet]) -> Option<Command> {
        while let Some((set, to)) = self.orders.pop() {
            if sets.get(set).is_some_and(|set| set.spec != to) {
                return Some(Command::Scale { set, to });
            }
        }
        None
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A world small enough for a property test: one old version that serves, one new version whose instances become
    /// ready in an order drawn from outside, and shutdowns that take a while.
    pub(in crate::policies::rollout) struct Plant {
        sets: Vec<ReplicaSet>,
        draining: [u32; 2],
    }

    impl Plant {
        pub(in crate::policies::rollout) fn new(replicas: u32) -> Self {
            let set =
                |spec, is_new| ReplicaSet { spec, available: spec, ready: spec, existing: spec, is_new };
            let (old, new) = (set(replicas, false), set(0, true));
            Self { sets: vec![old, new], draining: [0, 0] }
        }

        fn apply(&mut self, set: usize, to: u32) {
            let target = &mut self.sets[set];
            if to < target.spec {
                // Those that are not ready die first, and nothing dying is available.
                target.available = target.available.min(to);
                target.ready = target.available;
                self.draining[set] += target.spec - to;
            }
            target.spec = to;
            target.existing = to + self.draining[set];
        }

        /// Plays the rollout until it is done; false if it is not after far more steps than it needs.
        pub(in crate::policies::rollout) fn drive(
            &mut self,
            rollout: &mut impl Rollout,
            replicas: u32,
            readiness: &[u8],
            mut check: impl FnMut(&[ReplicaSet]),
        ) -> bool {
            for step in 0..2000 {
                for _ in 0..1000 {
                    match rollout.sync(Time::from_secs(step), replicas, &self.sets) {
                        None => break,
                        Some(Command::Done) => return true,
                        Some(
                            other @ (Command::Weight { .. }
                            | Command::Measure(_)
                            | Command::Tell(_)
                            | Command::Aborted),
                        ) => panic!("{other:?} is not for a plant"),
                        Some(Command::Scale { set, to }) => {
                            assert_ne!(self.sets[set].spec, to, "an order that changes nothing");
                            self.apply(set, to);
                            check(&self.sets);
                        }
                    }
                }
                // For a while readiness and shutdowns go as drawn, then everything that is started gets ready.
                let late = step > 100;
                let chance = if late { u8::MAX } else { readiness[step as usize % readiness.len()] };
                let new = &mut self.sets[1];
                new.available = (new.available + u32::from(chance % 8)).min(new.spec);
                new.ready = new.available;
                if chance >= 64 {
                    for (set, draining) in self.sets.iter_mut().zip(&mut self.draining) {
                        *draining /= 2;
                        set.existing = set.spec + *draining;
                    }
                }
                check(&self.sets);
            }
            false
        }
    }

    fn int_or_percent() -> impl Strategy<Value = IntOrPercent> {
        prop_oneof![(0..8).prop_map(IntOrPercent::Int), (0..=100).prop_map(IntOrPercent::Percent)]
    }

    proptest! {
        /// Available instances never fall below the wanted number less `max-unavailable`, the sizes never exceed it
        /// plus `max-surge`, and a rollout whose instances all become ready ends.
        #[test]
        fn keeps_its_promises(
            replicas in 1_u32..40,
            max_surge in int_or_percent(),
            max_unavailable in int_or_percent(),
            readiness in prop::collection::vec(any::<u8>(), 1..64),
        ) {
            let settings = RollingSettings { max_surge, max_unavailable, ..RollingSettings::default() };
            prop_assume!(settings.check().is_ok());
            let limits = settings.limits(replicas);
            let finished = Plant::new(replicas).drive(
                &mut Rolling::new(&settings, Time::ZERO),
                replicas,
                &readiness,
                |sets| {
                    let total = i64::from(spec_sum(sets, |_| true));
                    assert!(total <= i64::from(replicas) + limits.max_surge, "{sets:?}");
                    assert!(i64::from(available_sum(sets)) >= limits.min_available, "{sets:?}");
                },
            );
            prop_assert!(finished);
        }

        /// The same questions get the same answers.
        #[test]
        fn replays(replicas in 1_u32..20, readiness in prop::collection::vec(any::<u8>(), 1..32)) {
            let play = || {
                let mut seen = Vec::new();
                let mut rollout = Rolling::new(&RollingSettings::default(), Time::ZERO);
                Plant::new(replicas).drive(&mut rollout, replicas, &readiness, |sets| seen.extend_from_slice(sets));
                seen
            };
            prop_assert_eq!(play(), play());
        }
    }

    fn set(spec: u32, available: u32, is_new: bool) -> ReplicaSet {
        ReplicaSet { spec, available, ready: available, existing: spec, is_new }
    }

    #[test]
    fn a_pass_over_two_old_versions_is_ordered_one_by_one() {
        let mut sets = vec![set(4, 4, false), set(6, 3, false), set(3, 3, true)];
        let settings = RollingSettings {
            max_surge: IntOrPercent::Int(3),
            max_unavailable: IntOrPercent::Int(2),
            ..RollingSettings::default()
        };
        let mut rollout = Rolling::new(&settings, Time::ZERO);
        // At most 13 - 8 = 5 may go: 3 unhealthy ones of the second version, and 10 - 8 = 2 of the first.
        assert_eq!(rollout.sync(Time::ZERO, 10, &sets), Some(Command::Scale { set: 0, to: 2 }));
        sets[0] = set(2, 2, false);
        assert_eq!(rollout.sync(Time::ZERO, 10, &sets), Some(Command::Scale { set: 1, to: 3 }));
        sets[1] = set(3, 3, false);
        assert_eq!(rollout.sync(Time::ZERO, 10, &sets), Some(Command::Scale { set: 2, to: 8 }));
    }

    #[test]
    fn a_change_of_scale_keeps_the_mix_of_versions() {
        let mut rollout = Rolling::new(&RollingSettings::default(), Time::ZERO);
        let sets = [set(8, 8, false), set(5, 0, true)];
        assert_eq!(rollout.sync(Time::ZERO, 10, &sets), None);
        // 20 + 5 over 13: the old ones get round(8 * 25 / 13) = 15, the new ones 10.
        assert_eq!(rollout.sync(Time::ZERO, 20, &sets), Some(Command::Scale { set: 0, to: 15 }));
        let sets = [set(15, 8, false), set(5, 0, true)];
        assert_eq!(rollout.sync(Time::ZERO, 20, &sets), Some(Command::Scale { set: 1, to: 10 }));
    }

    /// A version that crashes in a loop, in numbers that upstream's own code gave (`k8s_rolling_trace`): frozen at 13
    /// instances, of which 8 serve; going back removes all five in one pass.
    #[test]
    fn a_crash_loop_freezes_the_rollout_and_undo_thaws_it() {
        let settings = RollingSettings::default();
        let mut rollout = Rolling::new(&settings, Time::ZERO);
        let scale = |set, to| Some(Command::Scale { set, to });
        let mut sync = |seconds, sets: &[ReplicaSet]| {
            (rollout.sync(Time::from_secs(seconds), 10, sets), rollout.is_stalled())
        };
        assert_eq!(sync(0, &[set(10, 10, false), set(0, 0, true)]), (scale(1, 3), false));
        assert_eq!(sync(0, &[set(10, 10, false), set(3, 0, true)]), (scale(0, 8), false));
        assert_eq!(sync(0, &[set(8, 8, false), set(3, 0, true)]), (scale(1, 5), false));
        assert_eq!(sync(0, &[set(8, 8, false), set(5, 0, true)]), (None, false));
        assert_eq!(sync(601, &[set(8, 8, false), set(5, 0, true)]), (None, true));
        let mut undo = Rolling::new(&settings, Time::from_secs(700));
        let mut sync = |sets: &[ReplicaSet]| undo.sync(Time::from_secs(700), 10, sets);
        // First the new set, which is the older one now, as far as the surge lets it; there is no room.
        assert_eq!(sync(&[set(8, 8, true), set(5, 0, false)]), scale(1, 0));
        assert_eq!(sync(&[set(8, 8, true), set(0, 0, false)]), scale(0, 10));
        assert_eq!(sync(&[set(10, 10, true), set(0, 0, false)]), Some(Command::Done));
    }

    #[test]
    fn written_as_in_a_scenario() {
        let read = toml::from_str::<RollingSettings>;
        let settings = read(
            "max-surge = '50%'
max-unavailable = 2
min-ready = '10s'",
        )
        .unwrap();
        assert_eq!(settings.max_surge, IntOrPercent::Percent(50));
        assert_eq!(settings.max_unavailable, IntOrPercent::Int(2));
        assert_eq!(settings.min_ready, Duration::from_secs(10));
        assert_eq!(read("").unwrap(), RollingSettings::default());
        for wrong in [
            "max-surge = '25'",
            "max-surge = -1",
            "max-surge = 0
max-unavailable = '0%'",
            "max-unavailable = '101%'",
            "max-surge = 0.5",
            "surge = 1",
            "min-ready = '10min'",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
