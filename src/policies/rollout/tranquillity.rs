//! Tranquillity: the versions are switched in a moment in which the service is idle and no caller of it is between two calls to it.
//!
//! # What it does
//! Starts the new version in full size beside the old one, without traffic. When it is ready and every caller knows it, it
//! waits for a moment in which the service serves nobody and none of its direct callers is in the middle of a request for
//! which it has called the service already and may call it again. Then all callers are switched at once and the old version is
//! stopped. Nobody is held back.
//!
//! # When it helps
//! Nearly free: no request waits. Where each service is done with another one before it calls a third, it is safe, too.
//!
//! # How it fails
//! It looks one call far. If A calls the service, and then calls B, which calls the service again, A is done with it and B has
//! not begun: the moment between them is tranquil, and yet the request meets both versions. And the moment has to come by itself:
//! a busy service is never idle, so the update never happens.
//!
//! # Settings
//! None.
//!
//! # Origin
//! Vandewoude, Ebraert, Berbers and D'Hondt, "Tranquility: A Low Disruptive Alternative to Quiescence", IEEE TSE 33(12), 2007;
//! its hole as shown in Ma, Baresi, Ghezzi, Panzica La Manna and Lu, ESEC/FSE 2011, figure 3, point C.
//!
//! # Deliberate differences
//! The original falls back on making the service passive when the moment does not come; that is what `rollout.quiescence` is for.
//! An attempt that is on its way to the service counts as served.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::policies::Algorithm;
use crate::policies::rollout::dynamic::{Course, Dynamic};
use crate::policies::rollout::standing::{Census, Stance};
use crate::policies::rollout::{Command, ReplicaSet, Rollout};
use crate::time::Time;

/// Settings of [`Tranquillity`]: there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TranquillitySettings {}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Tranquillity(Dynamic);

impl Algorithm for Tranquillity {
    type Settings = TranquillitySettings;

    fn new(_settings: &TranquillitySettings, _now: Time) -> Self {
        Self(Dynamic::new(Course::tranquillity()))
    }
}

impl Rollout for Tranquillity {
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
