//! Polling: the control plane knows at once, and each client asks from time to time.
//!
//! ## What it does
//! The list is what the control plane knows: endpoints that are ready. Each client fetches it every `period`, in a rhythm of
//! its own, so it is between nothing and one period late. DNS with a time to live works like this.
//!
//! ## When it helps
//! The load on the registry does not depend on how much changes, and a client that missed a change gets it with the next list.
//!
//! ## How it fails
//! For up to a period clients send to endpoints that are gone, and none to new ones. Halving that doubles the load.
//!
//! ## Settings
//! * `period` (default `30s`).
//!
//! ## Origin
//! simlab's own definition; pinned by its tests.
//!
//! ## Deliberate differences
//! None.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Delivery, Discovery, set_listed};
use crate::policies::Algorithm;
use crate::policies::view::Slot;
use crate::time::{Duration, Time};

/// Settings of `discovery.poll`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct PollSettings(Written);

/// The settings before they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "PollSettings")]
struct Written {
    /// Time between two fetches of a client.
    period: Duration,
}

impl Default for Written {
    fn default() -> Self {
        Self { period: Duration::from_secs(30) }
    }
}

impl TryFrom<Written> for PollSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if written.period == Duration::ZERO {
            return Err("period must be more than zero".to_owned());
        }
        Ok(Self(written))
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Poll {
    period: Duration,
    listed: Vec<Slot>,
}

impl Algorithm for Poll {
    type Settings = PollSettings;

    fn new(settings: &PollSettings, _now: Time) -> Self {
        Self { period: settings.0.period, listed: Vec::new() }
    }
}

impl Discovery for Poll {
    fn on_register(&mut self, _now: Time, slot: Slot) {
        set_listed(&mut self.listed, slot, true);
    }

    fn on_deregister(&mut self, _now: Time, slot: Slot) {
        set_listed(&mut self.listed, slot, false);
    }

    fn on_reported_gone(&mut self, now: Time, slot: Slot) {
        self.on_deregister(now, slot);
    }

    fn heartbeat_interval(&self) -> Option<Duration> {
        None
    }

    fn on_heartbeat(&mut self, _now: Time, _slot: Slot) {}

    fn interval(&self) -> Option<Duration> {
        None
    }

    fn delivery(&self) -> Delivery {
        Delivery::Fetch(self.period)
    }

    fn listed(&self, _now: Time) -> &[Slot] {
        &self.listed
    }
}
