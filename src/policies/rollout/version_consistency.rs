//! Version consistency: the version travels with the request, so that no request meets two versions of the service.
//!
//! # What it does
//! Starts the new version in full size beside the old one, without traffic. When it is ready and every caller knows it, it works
//! towards a *free* service: one of which no running request has used the old version and may use it again. Then all callers
//! are switched, and the old version is stopped. Until then
//!
//! * with `concurrent-versions` both versions serve. A request that has used the old one stays with it, wherever it calls from;
//!   every other request gets the new one;
//! * with `blocking` calls of requests that have not used the service yet are held until it is free; the others go to the old
//!   version;
//! * with `waiting` everybody goes to the old version, and the service becomes free by chance, or does not.
//!
//! # When it helps
//! Safe as quiescence, and earlier: it waits only for the requests that are between two uses of the service, not for all that
//! might have to do with it. With concurrent versions nobody waits at all.
//!
//! # How it fails
//! It has to know what a request may still call; here that is read off the steps of its services. With concurrent versions two full
//! sets of instances run side by side, and old and new must be able to share whatever lies behind them. With `blocking`, who is
//! held keeps its worker at the caller; if those in the way need one there, both wait until a timeout settles it. With `waiting`
//! and many requests the moment never comes.
//!
//! # Settings
//! * `strategy` (`"concurrent-versions"`): or `"blocking"`, `"waiting"`.
//! * `message` (0 s): one way of a message of the algorithm between two services. While the edges are set up, along the calls to
//!   the farthest dependant and back, calls to the service and to all who depend on it wait.
//!
//! # Origin
//! Ma, Baresi, Ghezzi, Panzica La Manna and Lu, "Version-consistent Dynamic Reconfiguration of Component-based Distributed
//! Systems", ESEC/FSE 2011, sections 3 and 4 (strategies CV, BF, WF; `VersionConsistencyImpl` in brickinwall/conup). The rule of
//! seed article S2 (newest version, unless an earlier call of the request used a former one) is `concurrent-versions`: a service's
//! in-use set holds the requests that have used the old version and may come back.
//!
//! # Deliberate differences
//! The paper's edges are sent from service to service; here the simulator knows them, and `message` stands for the time that takes
//! when the update is asked for (on-demand set-up); while they are kept up to date their messages cost nothing. An edge is
//! as exact as the steps of an endpoint: a `choose` may go anywhere until it has gone, and a call that may be retried may go again
//! until it is over. A request uses a version from the moment its call is sent there.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::policies::Algorithm;
use crate::policies::rollout::dynamic::{Course, Dynamic};
use crate::policies::rollout::standing::{Census, Stance, Strategy};
use crate::policies::rollout::{Command, ReplicaSet, Rollout};
use crate::time::{Duration, Time};

/// Settings of [`VersionConsistency`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct VersionConsistencySettings {
    /// How it comes to a free service.
    pub strategy: Strategy,
    /// One way of a message of the algorithm between two services.
    pub message: Duration,
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct VersionConsistency(Dynamic);

impl Algorithm for VersionConsistency {
    type Settings = VersionConsistencySettings;

    fn new(settings: &VersionConsistencySettings, _now: Time) -> Self {
        Self(Dynamic::new(Course::version_consistency(settings.strategy, settings.message)))
    }
}

impl Rollout for VersionConsistency {
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
