//! A Kubernetes Deployment with `strategy: {type: Recreate}`: all old instances go, then all new ones start.
//!
//! # What it does
//! Shuts every old instance down, waits until none is left, then starts the new version in full size. If nothing moves for
//! `progress-deadline`, the rollout is reported as stalled; nothing else happens.
//!
//! # When it helps
//! When two versions must never run side by side (one writer, an exclusive lock, a schema that only one of them knows), and an
//! outage is acceptable.
//!
//! # How it fails
//! * The service is away for the longest shutdown plus the slowest start.
//! * A new version that does not get ready leaves nothing behind: there is no old instance to fall back on.
//!
//! # Settings
//! * `min-ready` (`"0s"`): how long an instance must have been ready to count as available.
//! * `progress-deadline` (`"600s"`): how long nothing may move before the rollout counts as stalled; 2147483647 s are no
//!   deadline.
//! * `revision-history-limit` (10): former versions that are kept for an `undo`; 2147483647 are no limit.
//!
//! # Origin
//! kubernetes/kubernetes v1.28.0, `pkg/controller/deployment/recreate.go`: `rolloutRecreate`,
//! `scaleDownOldReplicaSetsForRecreate`, `oldPodsRunning`, `scaleUpNewReplicaSetForRecreate`.
//!
//! # Deliberate differences
//! Upstream waits for old pods unless they are Failed or Succeeded, in phase Unknown too; here for every old instance that
//! still exists. One on a machine that is gone exists until it is given up.

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::policies::Algorithm;
use crate::policies::rollout::progress::{Progress, Status};
use crate::policies::rollout::{Act, Command, ReplicaSet, Rollout, check_deadline};
use crate::time::{Duration, Time};

/// Settings of [`Recreate`].
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, remote = "Self")]
pub struct RecreateSettings {
    /// How long an instance must have been ready to count as available.
    pub min_ready: Duration,
    /// How long nothing may move before the rollout counts as stalled.
    pub progress_deadline: Duration,
    /// Former versions that are kept.
    pub revision_history_limit: u32,
}

impl Default for RecreateSettings {
    fn default() -> Self {
        Self {
            min_ready: Duration::ZERO,
            progress_deadline: Duration::from_secs(600),
            revision_history_limit: 10,
        }
    }
}

impl<'de> Deserialize<'de> for RecreateSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        check_deadline(settings.min_ready, settings.progress_deadline).map_err(D::Error::custom)?;
        Ok(settings)
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Recreate {
    min_ready: Duration,
    revision_history_limit: u32,
    progress: Progress,
    /// Somebody holds it (`spec.paused`): only changes of scale are followed.
    held: bool,
    done: bool,
}

impl Algorithm for Recreate {
    type Settings = RecreateSettings;

    fn new(settings: &RecreateSettings, now: Time) -> Self {
        Self {
            min_ready: settings.min_ready,
            revision_history_limit: settings.revision_history_limit,
            progress: Progress::new(settings.progress_deadline, now),
            held: false,
            done: false,
        }
    }
}

impl Rollout for Recreate {
    fn sync(&mut self, now: Time, replicas: u32, sets: &[ReplicaSet]) -> Option<Command> {
        if self.done {
            return None;
        }
        if self.held {
            return while_held(replicas, sets);
        }
        self.progress.sync(now, replicas, sets);
        if let Some(order) = next_order(replicas, sets) {
            return Some(order);
        }
        self.done = Status::of(sets).is_complete(replicas);
        self.done.then_some(Command::Done)
    }

    fn next_wakeup(&self) -> Option<Time> {
        self.progress.next_wakeup().filter(|_| !self.held)
    }

    fn min_ready(&self) -> Duration {
        self.min_ready
    }

    fn is_stalled(&self) -> bool {
        self.progress.is_stalled()
    }

    fn revision_history_limit(&self) -> u32 {
        self.revision_history_limit
    }

    fn on_act(&mut self, now: Time, act: Act) {
        match act {
            Act::Pause => self.held = true,
            Act::Resume => self.held = false,
            _ => return,
        }
        self.progress.restart(now);
    }
}

/// The only version that has instances follows the wanted number (`scale`, as far as it is not of rolling updates).
fn while_held(replicas: u32, sets: &[ReplicaSet]) -> Option<Command> {
    let mut active = (0..sets.len()).filter(|&set| sets[set].spec > 0);
    match (active.next(), active.next()) {
        (Some(set), None) if sets[set].spec != replicas => Some(Command::Scale { set, to: replicas }),
        _ => None,
    }
}

/// All old sets to 0; when no old instance exists any more, the new set to the full size (`rolloutRecreate`).
pub fn next_order(replicas: u32, sets: &[ReplicaSet]) -> Option<Command> {
    if let Some(set) = sets.iter().position(|set| !set.is_new && set.spec > 0) {
        return Some(Command::Scale { set, to: 0 });
    }
    if sets.iter().any(|set| !set.is_new && set.existing > 0) {
        return None;
    }
    let set = sets.iter().position(|set| set.is_new)?;
    (sets[set].spec != replicas).then_some(Command::Scale { set, to: replicas })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(spec: u32, ready: u32, existing: u32, is_new: bool) -> ReplicaSet {
        ReplicaSet { spec, available: ready, ready, existing, is_new }
    }

    #[test]
    fn no_new_instance_while_an_old_one_exists() {
        let mut rollout = Recreate::new(&RecreateSettings::default(), Time::ZERO);
        let mut sync = |sets: &[ReplicaSet]| rollout.sync(Time::ZERO, 3, sets);
        let scale = |set, to| Some(Command::Scale { set, to });
        // Two old versions, as an interrupted rollout leaves them.
        assert_eq!(sync(&[set(2, 2, 2, false), set(1, 1, 1, false), set(0, 0, 0, true)]), scale(0, 0));
        assert_eq!(sync(&[set(0, 0, 2, false), set(1, 1, 1, false), set(0, 0, 0, true)]), scale(1, 0));
        assert_eq!(sync(&[set(0, 0, 0, false), set(0, 0, 1, false), set(0, 0, 0, true)]), None);
        assert_eq!(sync(&[set(0, 0, 0, false), set(0, 0, 0, false), set(0, 0, 0, true)]), scale(2, 3));
        assert_eq!(sync(&[set(0, 0, 0, false), set(0, 0, 0, false), set(3, 2, 3, true)]), None);
        assert_eq!(
            sync(&[set(0, 0, 0, false), set(0, 0, 0, false), set(3, 3, 3, true)]),
            Some(Command::Done)
        );
    }

    #[test]
    fn a_version_that_never_starts_is_reported_and_left_alone() {
        let settings: RecreateSettings = toml::from_str("progress-deadline = '60s'").unwrap();
        let mut rollout = Recreate::new(&settings, Time::ZERO);
        let sets = [set(0, 0, 0, false), set(3, 0, 3, true)];
        assert_eq!(rollout.sync(Time::ZERO, 3, &sets), None);
        assert_eq!(rollout.next_wakeup(), Some(Time::from_secs(61)));
        assert_eq!(rollout.sync(Time::from_secs(61), 3, &sets), None);
        assert!(rollout.is_stalled());
        assert_eq!(rollout.next_wakeup(), None);
    }

    #[test]
    fn the_deadline_is_longer_than_min_ready() {
        let read = toml::from_str::<RecreateSettings>;
        assert!(read("min-ready = '59s'\nprogress-deadline = '60s'").is_ok());
        assert!(read("min-ready = '60s'\nprogress-deadline = '60s'").is_err());
    }
}
