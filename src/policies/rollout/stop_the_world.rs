//! Static update: all old instances go, then all new ones start.
//!
//! # What it does
//! Shuts every old instance down, waits until the last one is gone, then starts the new version in full size.
//!
//! # When it helps
//! When two versions must never run side by side, and an outage at a chosen hour is acceptable. No request chain can see
//! two versions.
//!
//! # How it fails
//! The service is away for the longest shutdown plus the slowest start. Callers retry into the void, and the new
//! instances come up cold, all at once, into the backlog.
//!
//! # Settings
//! None.
//!
//! # Origin
//! Static update of the source articles (S2); the same order as `recreate`, which is Kubernetes' own.
//!
//! # Deliberate differences
//! None: the articles say no more than this. It has no deadline and forgets no version.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::policies::Algorithm;
use crate::policies::rollout::{Command, ReplicaSet, Rollout, is_complete, recreate};
use crate::time::Time;

/// Settings of [`StopTheWorld`]: there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopTheWorldSettings {}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct StopTheWorld {
    done: bool,
}

impl Algorithm for StopTheWorld {
    type Settings = StopTheWorldSettings;

    fn new(_settings: &StopTheWorldSettings, _now: Time) -> Self {
        Self { done: false }
    }
}

impl Rollout for StopTheWorld {
    fn sync(&mut self, _now: Time, replicas: u32, sets: &[ReplicaSet]) -> Option<Command> {
        if self.done {
            return None;
        }
        if let Some(order) = recreate::next_order(replicas, sets) {
            return Some(order);
        }
        self.done = is_complete(replicas, sets);
        self.done.then_some(Command::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(spec: u32, available: u32, existing: u32, is_new: bool) -> ReplicaSet {
        ReplicaSet { spec, available, ready: available, existing, is_new }
    }

    #[test]
    fn no_new_instance_while_an_old_one_exists() {
        let mut rollout = StopTheWorld::new(&StopTheWorldSettings {}, Time::ZERO);
        let mut sync = |sets: &[ReplicaSet]| rollout.sync(Time::ZERO, 3, sets);
        assert_eq!(sync(&[set(3, 3, 3, false), set(0, 0, 0, true)]), Some(Command::Scale { set: 0, to: 0 }));
        assert_eq!(sync(&[set(0, 0, 1, false), set(0, 0, 0, true)]), None, "one is still draining");
        assert_eq!(sync(&[set(0, 0, 0, false), set(0, 0, 0, true)]), Some(Command::Scale { set: 1, to: 3 }));
        assert_eq!(sync(&[set(0, 0, 0, false), set(3, 2, 3, true)]), None, "one is still starting");
        assert_eq!(sync(&[set(0, 0, 0, false), set(3, 3, 3, true)]), Some(Command::Done));
        assert_eq!(sync(&[set(0, 0, 0, false), set(3, 3, 3, true)]), None);
    }
}
