//! A constant number of replicas.
//!
//! # What it does
//! Asks for the same number at every tick, whatever the fleet looks like. An operator who scales the service by hand is
//! overruled at the next tick.
//!
//! # When it helps
//! As the reference every other autoscaler is compared with, and to price peak provisioning.
//!
//! # How it fails
//! Sized for the average it drowns in the flood; sized for the flood it pays for idle instances.
//!
//! # Settings
//! * `replicas`: the number of replicas, at least 1.
//!
//! # Origin
//! None; the simplest possible answer.
//!
//! # Deliberate differences
//! None.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::policies::Algorithm;
use crate::policies::autoscaler::{Autoscaler, Desired, Explain, Fleet};
use crate::time::{Duration, Time};

/// How often the number is restated. It never changes, so this only bounds how long a manual change lasts.
const INTERVAL: Duration = Duration::from_secs(15);

/// Settings of [`Fixed`].
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FixedSettings {
    /// Number of replicas, at least 1.
    pub replicas: std::num::NonZeroU32,
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Fixed {
    replicas: u32,
}

impl Algorithm for Fixed {
    type Settings = FixedSettings;

    fn new(settings: &FixedSettings, _now: Time) -> Self {
        Self { replicas: settings.replicas.get() }
    }
}

impl Autoscaler for Fixed {
    fn interval(&self) -> Duration {
        INTERVAL
    }

    fn evaluate(&mut self, _now: Time, _fleet: &Fleet<'_>, _explain: &mut dyn Explain) -> Desired {
        Desired { replicas: self.replicas, reason: "Fixed" }
    }
}
