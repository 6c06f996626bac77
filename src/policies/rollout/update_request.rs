//! Update request: ask every so often whether the service is in use, and swap its containers only when it is not.
//!
//! # What it does
//! A request for an update looks at the service's in-use flag. If some request has used the service and may come back to it, it
//! sleeps for `poll` and looks again; otherwise the containers are swapped, one by one, as `rollout.container-swap` does.
//!
//! # When it helps
//! Where requests are few and far between and a swap is quick: it finds a gap and is through before the next request.
//!
//! # How it fails
//! It looks before it leaps, and then the leap takes long. Nothing keeps requests from beginning while images are pulled and
//! processes start, so those in progress at the switch meet both versions: what was tested is no longer true when it matters. With many
//! requests the flag is never seen down, and the update never begins.
//!
//! # Settings
//! * `poll` (`"1s"`): sleep between two looks.
//! * `batch`, `minimum-health-capacity`: as for `rollout.container-swap`.
//!
//! # Origin
//! Scheme 1 of seed article S2 (`updateRequest` of the typhoon system).
//!
//! # Deliberate differences
//! The article's flag is set and cleared by the services themselves; here the simulator knows what a request has used and may still
//! use, which is what a flag without mistakes would say.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::policies::Algorithm;
use crate::policies::rollout::container_swap::{ContainerSwap, ContainerSwapSettings};
use crate::policies::rollout::standing::{Census, Criterion};
use crate::policies::rollout::{Command, ReplicaSet, Rollout};
use crate::time::{Duration, Time};
use crate::units::Share;

/// Settings of [`UpdateRequest`].
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct UpdateRequestSettings {
    /// Sleep between two looks at the flag.
    pub poll: Duration,
    /// New instances that may be starting at once, at least 1.
    pub batch: NonZeroU32,
    /// Share of the wanted instances that must be ready at any time.
    pub minimum_health_capacity: Share,
}

impl Default for UpdateRequestSettings {
    fn default() -> Self {
        let ContainerSwapSettings { batch, minimum_health_capacity } = ContainerSwapSettings::default();
        Self { poll: Duration::from_secs(1), batch, minimum_health_capacity }
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct UpdateRequest {
    poll: Duration,
    /// When it looks next; `None` once it has seen the flag down.
    look: Option<Time>,
    in_use: bool,
    swap: ContainerSwap,
}

impl Algorithm for UpdateRequest {
    type Settings = UpdateRequestSettings;

    fn new(settings: &UpdateRequestSettings, now: Time) -> Self {
        let UpdateRequestSettings { poll, batch, minimum_health_capacity } = *settings;
        let swap = ContainerSwap::new(&ContainerSwapSettings { batch, minimum_health_capacity }, now);
        // Without a sleep it would look for ever in one instant.
        Self { poll: poll.max(Duration(1_000_000)), look: Some(now), in_use: false, swap }
    }
}

impl Rollout for UpdateRequest {
    fn sync(&mut self, now: Time, replicas: u32, sets: &[ReplicaSet]) -> Option<Command> {
        if let Some(look) = self.look {
            if look > now {
                return None;
            }
            if self.in_use {
                self.look = Some(now + self.poll);
                return None;
            }
            self.look = None;
        }
        self.swap.sync(now, replicas, sets)
    }

    fn next_wakeup(&self) -> Option<Time> {
        self.look
    }

    fn watches(&self) -> bool {
        true
    }

    fn on_census(&mut self, census: &Census) {
        self.in_use = !Criterion::Free.reached(census);
    }

    fn progress(&self) -> (bool, bool) {
        (true, self.look.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_while_the_flag_is_up() {
        let settings = UpdateRequestSettings { poll: Duration::from_secs(2), ..Default::default() };
        let mut update = UpdateRequest::new(&settings, Time::ZERO);
        let sets = [
            ReplicaSet { spec: 1, available: 1, ready: 1, existing: 1, is_new: false },
            ReplicaSet { spec: 0, available: 0, ready: 0, existing: 0, is_new: true },
        ];
        update.on_census(&Census { blocking: 3, ..Census::default() });
        assert_eq!(update.sync(Time::ZERO, 1, &sets), None);
        assert_eq!(update.next_wakeup(), Some(Time(2_000_000_000)));
        update.on_census(&Census::default());
        assert_eq!(
            update.sync(Time(1_999_999_999), 1, &sets),
            None,
            "it sleeps, and does not see that it is down"
        );
        let begun = update.sync(Time(2_000_000_000), 1, &sets);
        assert_eq!(begun, Some(Command::Scale { set: 1, to: 1 }));
        // It does not look again.
        update.on_census(&Census { blocking: 3, ..Census::default() });
        assert_eq!(update.sync(Time(2_000_000_000), 1, &sets), Some(Command::Scale { set: 1, to: 1 }));
        assert_eq!(update.next_wakeup(), None);
    }
}
