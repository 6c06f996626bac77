//! State hand-over: a container swap in which an old instance, told to stop, writes down what it knows, and the new ones read it.
//!
//! # What it does
//! Swaps containers one by one, as `rollout.container-swap` does. An old instance that has been told to stop finishes its work, then
//! takes `write` to write its state to a file; the new version takes `read` to take it over. Once that is done for every
//! old instance, a request that has met the old version is in good hands at the new one, and is not counted as inconsistent.
//!
//! # When it helps
//! Where what ties a request to a version is state the service keeps (a position, a session), the file's layout does not depend on
//! the version, and there is one instance, so that the hand-over is over soon after the switch.
//!
//! # How it fails
//! Between the switch and the end of the hand-over the new version answers without the state: requests that come back in that gap
//! meet two versions after all. Several instances are swapped one after the other, and the gap is as long as that takes. An
//! instance that is killed before it has written everything (its grace is over) hands nothing over, and that is counted.
//!
//! # Settings
//! * `write` (`"1s"`): time to write the state, after the last request is done; it counts against the grace period.
//! * `read` (`"1s"`): time to read it.
//! * `batch`, `minimum-health-capacity`: as for `rollout.container-swap`.
//!
//! # Origin
//! Scheme 2 of seed article S2 (SIGTERM handler of the typhoon system).
//!
//! # Deliberate differences
//! The article has one instance and says nothing about several. While it writes, an instance no longer takes part in anything, and its
//! place on its machine is given up at once.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::policies::Algorithm;
use crate::policies::rollout::container_swap::{ContainerSwap, ContainerSwapSettings};
use crate::policies::rollout::{Command, HandOver, ReplicaSet, Rollout};
use crate::time::{Duration, Time};
use crate::units::Share;

/// Settings of [`StateHandOver`].
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StateHandOverSettings {
    /// Time to write the state.
    pub write: Duration,
    /// Time to read it.
    pub read: Duration,
    /// New instances that may be starting at once, at least 1.
    pub batch: NonZeroU32,
    /// Share of the wanted instances that must be ready at any time.
    pub minimum_health_capacity: Share,
}

impl Default for StateHandOverSettings {
    fn default() -> Self {
        let ContainerSwapSettings { batch, minimum_health_capacity } = ContainerSwapSettings::default();
        let second = Duration::from_secs(1);
        Self { write: second, read: second, batch, minimum_health_capacity }
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct StateHandOver {
    swap: ContainerSwap,
    hand_over: HandOver,
}

impl Algorithm for StateHandOver {
    type Settings = StateHandOverSettings;

    fn new(settings: &StateHandOverSettings, now: Time) -> Self {
        let StateHandOverSettings { write, read, batch, minimum_health_capacity } = *settings;
        let swap = ContainerSwap::new(&ContainerSwapSettings { batch, minimum_health_capacity }, now);
        Self { swap, hand_over: HandOver { write, read } }
    }
}

impl Rollout for StateHandOver {
    fn sync(&mut self, now: Time, replicas: u32, sets: &[ReplicaSet]) -> Option<Command> {
        self.swap.sync(now, replicas, sets)
    }

    fn hand_over(&self) -> Option<HandOver> {
        Some(self.hand_over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_swaps_and_says_how_long_the_state_takes() {
        let mut update = StateHandOver::new(&StateHandOverSettings::default(), Time::ZERO);
        let sets = [
            ReplicaSet { spec: 1, available: 1, ready: 1, existing: 1, is_new: false },
            ReplicaSet { spec: 1, available: 1, ready: 1, existing: 1, is_new: true },
        ];
        assert_eq!(update.sync(Time::ZERO, 1, &sets), Some(Command::Scale { set: 0, to: 0 }));
        let second = Duration::from_secs(1);
        assert_eq!(update.hand_over(), Some(HandOver { write: second, read: second }));
    }
}
