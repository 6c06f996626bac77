//! Container swap: instance by instance, start the new one, and when it is ready, stop an old one.
//!
//! # What it does
//! Keeps at most `batch` new instances starting. Each time one becomes ready, traffic has a new instance to go to and one
//! old instance is told to stop. The next one starts when the old one is gone, so the machines carry at most `batch`
//! instances more than before. With a `minimum-health-capacity` below 100 % old instances may be stopped before their
//! successors are ready, at most one batch ahead.
//!
//! # When it helps
//! As the naive online update: capacity stays level, each step is small, and a version that never gets ready stops the
//! rollout by itself after one batch.
//!
//! # How it fails
//! It looks at one service and one instance at a time. Requests in progress, and chains that come back to the service, see
//! both versions; their number is what the scenario counts. Nothing is rolled back.
//!
//! # Settings
//! * `batch` (1): new instances that may be starting at once.
//! * `minimum-health-capacity` (`"100%"`): share of the wanted instances that must be ready at any time, old and new
//!   together.
//!
//! # Origin
//! The container swap of the source articles (S2, systems A1 and A2: pull the image, start, health-check, switch, SIGTERM
//! the old), as a Marathon deployment does it with its `upgradeStrategy`.
//!
//! # Deliberate differences
//! Marathon bounds the surplus by `maximumOverCapacity`, a share of the instances; the articles' swap goes one by one,
//! so here it is the number `batch`. While it runs, replicas added by an autoscaler are started in the new version.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::policies::Algorithm;
use crate::policies::rollout::{Command, ReplicaSet, Rollout, is_complete, spec_sum};
use crate::time::Time;
use crate::units::Share;

/// Settings of [`ContainerSwap`].
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ContainerSwapSettings {
    /// New instances that may be starting at once, at least 1.
    pub batch: NonZeroU32,
    /// Share of the wanted instances that must be ready at any time.
    pub minimum_health_capacity: Share,
}

impl Default for ContainerSwapSettings {
    fn default() -> Self {
        Self { batch: NonZeroU32::MIN, minimum_health_capacity: Share(1.0) }
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct ContainerSwap {
    batch: u32,
    minimum_health_capacity: f64,
    done: bool,
}

impl Algorithm for ContainerSwap {
    type Settings = ContainerSwapSettings;

    fn new(settings: &ContainerSwapSettings, _now: Time) -> Self {
        Self {
            batch: settings.batch.get(),
            minimum_health_capacity: settings.minimum_health_capacity.0,
            done: false,
        }
    }
}

impl Rollout for ContainerSwap {
    fn sync(&mut self, _now: Time, replicas: u32, sets: &[ReplicaSet]) -> Option<Command> {
        if self.done {
            return None;
        }
        let new = sets.iter().position(|set| set.is_new)?;
        let ready = sets[new].available.min(sets[new].spec);
        let old_spec = spec_sum(sets, |set| !set.is_new);

        // Switch: stop the old instances that are no longer needed for the health capacity, one batch ahead at most.
        // The allowance keeps a product such as 0.7 * 10 from being rounded up by its last bit.
        let healthy = (self.minimum_health_capacity * f64::from(replicas) - 1e-9).ceil() as u32;
        let ahead = replicas.saturating_sub(ready.saturating_add(self.batch));
        let keep = healthy.saturating_sub(ready).max(ahead);
        if old_spec > keep {
            let set = sets.iter().position(|set| !set.is_new && set.spec > 0)?;
            return Some(Command::Scale { set, to: sets[set].spec.saturating_sub(old_spec - keep) });
        }

        // Start: the next batch, and what is missing in all, where the machines have room.
        let old_existing: u32 = sets.iter().filter(|set| !set.is_new).map(|set| set.existing).sum();
        let room = replicas.saturating_add(self.batch).saturating_sub(old_existing);
        let wanted = ready.saturating_add(self.batch).max(replicas.saturating_sub(old_spec)).min(replicas);
        let to = wanted.min(room);
        if to > sets[new].spec || sets[new].spec > replicas {
            return Some(Command::Scale { set: new, to: to.max(sets[new].spec).min(replicas) });
        }
        self.done = is_complete(replicas, sets);
        self.done.then_some(Command::Done)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policies::rollout::rolling::tests::Plant;

    fn set(spec: u32, available: u32, existing: u32, is_new: bool) -> ReplicaSet {
        ReplicaSet { spec, available, ready: available, existing, is_new }
    }

    #[test]
    fn one_by_one() {
        let mut rollout = ContainerSwap::new(&ContainerSwapSettings::default(), Time::ZERO);
        let mut sync = |sets: &[ReplicaSet]| rollout.sync(Time::ZERO, 2, sets);
        let scale = |set, to| Some(Command::Scale { set, to });
        assert_eq!(sync(&[set(2, 2, 2, false), set(0, 0, 0, true)]), scale(1, 1), "start the first");
        assert_eq!(sync(&[set(2, 2, 2, false), set(1, 0, 1, true)]), None, "pull, start, health-check");
        assert_eq!(sync(&[set(2, 2, 2, false), set(1, 1, 1, true)]), scale(0, 1), "switch");
        assert_eq!(sync(&[set(1, 1, 2, false), set(1, 1, 1, true)]), None, "the old one drains");
        assert_eq!(sync(&[set(1, 1, 1, false), set(1, 1, 1, true)]), scale(1, 2));
        assert_eq!(sync(&[set(1, 1, 1, false), set(2, 2, 2, true)]), scale(0, 0));
        assert_eq!(sync(&[set(0, 0, 1, false), set(2, 2, 2, true)]), Some(Command::Done));
        assert_eq!(sync(&[set(0, 0, 0, false), set(2, 2, 2, true)]), None);
    }

    #[test]
    fn a_lower_health_capacity_stops_old_instances_first() {
        let half =
            ContainerSwapSettings { minimum_health_capacity: Share(0.5), ..ContainerSwapSettings::default() };
        let mut rollout = ContainerSwap::new(&half, Time::ZERO);
        let sets = [set(4, 4, 4, false), set(0, 0, 0, true)];
        assert_eq!(rollout.sync(Time::ZERO, 4, &sets), Some(Command::Scale { set: 0, to: 3 }));
    }

    proptest! {
        /// Available instances never fall below the health capacity, existing ones never exceed one batch more than
        /// wanted, and a rollout whose instances all become ready ends.
        #[test]
        fn keeps_its_promises(
            replicas in 1_u32..20,
            batch in 1_u32..5,
            percent in 0_u32..=100,
            readiness in prop::collection::vec(any::<u8>(), 1..64),
        ) {
            let settings = ContainerSwapSettings {
                batch: NonZeroU32::new(batch).unwrap(),
                minimum_health_capacity: Share(f64::from(percent) / 100.0),
            };
            let mut plant = Plant::new(replicas);
            let mut rollout = ContainerSwap::new(&settings, Time::ZERO);
            let healthy = (replicas * percent).div_ceil(100);
            let finished = plant.drive(&mut rollout, replicas, &readiness, |sets| {
                let existing: u32 = sets.iter().map(|set| set.existing).sum();
                let available: u32 = sets.iter().map(|set| set.available).sum();
                assert!(existing <= replicas + batch, "{sets:?}");
                assert!(available >= healthy, "{sets:?}");
            });
            prop_assert!(finished);
        }
    }
}
