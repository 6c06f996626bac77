//! Quiescence: nothing new begins that might need the service, and when all that runs is over, the versions are switched.
//!
//! # What it does
//! Starts the new version in full size beside the old one, without traffic. When it is ready and every caller knows it, the
//! service and everybody who depends on it, directly or through others, become *passive*: requests that have begun go on,
//! all calls they make are served, but clients' new requests are held at the door. When the last request that had begun is
//! over, all callers are switched at once, those who wait go on, and the old version is stopped.
//!
//! # When it helps
//! Always safe, whatever the services do: no request can meet two versions, because none is under way at the switch. It
//! needs to know who may call whom, and nothing about what a request will do next.
//!
//! # How it fails
//! The door is shut for as long as the longest request still takes, for everybody who *might* come to the service, also those
//! who would not have. One slow request holds up all. Those who wait may give up (their deadline runs), and when the door
//! opens they come all at once.
//!
//! # Settings
//! * `message` (0 s): one way of a message of the algorithm between two services. Passivation travels along the calls to the
//!   farthest dependant and back before the door shuts.
//!
//! # Origin
//! Kramer and Magee, "The Evolving Philosophers Problem: Dynamic Change Management", IEEE TSE 16(11), 1990, as summarised in
//! Ma, Baresi, Ghezzi, Panzica La Manna and Lu, ESEC/FSE 2011, section 2; also the "static" baseline of seed article S2.
//!
//! # Deliberate differences
//! The clients outside are not asked to be passive (nobody can ask the public); their calls are held instead at the first
//! service of the passive set that they come to. Who depends on whom is a matter of services, not of endpoints, as in the paper.
//! Requests count as under way until everything done for them is over, also what nobody waits for any more.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::policies::Algorithm;
use crate::policies::rollout::dynamic::{Course, Dynamic};
use crate::policies::rollout::standing::{Census, Stance};
use crate::policies::rollout::{Command, ReplicaSet, Rollout};
use crate::time::{Duration, Time};

/// Settings of [`Quiescence`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct QuiescenceSettings {
    /// One way of a message of the algorithm between two services.
    pub message: Duration,
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Quiescence(Dynamic);

impl Algorithm for Quiescence {
    type Settings = QuiescenceSettings;

    fn new(settings: &QuiescenceSettings, _now: Time) -> Self {
        Self(Dynamic::new(Course::quiescence(settings.message)))
    }
}

impl Rollout for Quiescence {
    fn sync(&mut self, now: Time, replicas: u32, sets: &[ReplicaSet]) -> Option<Command> {
        self.0.sync(now, replicas, sets)
    }

    fn next_wakeup(&self) -> Option<Time> {
        self.0.next_wakeup()
    }

    fn watches(&self) -> bool {
        true
    }

    fn on_census(&mut self, census: &Census) {
        self.0.on_census(census);
    }

    fn stance(&self) -> Stance {
        self.0.stance()
    }

    fn progress(&self) -> (bool, bool) {
        (self.0.is_asked(), self.0.is_switched())
    }
}
