//! Drops work that nobody will wait for: its caller has given up, or will have before the answer can be there.
//!
//! ## What it does
//! When the turn of a piece of work comes, it looks at the time that its caller still waits, which the request carries. If that
//! is used up, or is less than `needs`, the work is dropped; otherwise it is begun.
//!
//! ## When it helps
//! Where a queue grows beyond what callers wait for. Without it a server in overload answers requests whose callers have
//! long gone, and those that wait behind become too late in turn: it is busy and of no use to anybody.
//!
//! ## How it fails
//! It knows only what callers tell: work without a time limit is always begun. Work that is begun just in time ends
//! too late all the same unless `needs` says what it takes; with `needs` too large, work is dropped that could have been done.
//! First come, first served, it serves the one that has the least time left, so that each answer comes at the last moment.
//!
//! ## Settings
//! * `needs` (default `0s`): time that an answer takes from here; work with less time left is dropped.
//!
//! ## Origin
//! From documentation, not from one upstream's code: the deadlines of gRPC (grpc.io, guide "Deadlines": a server cancels a call whose
//! deadline has passed) and "Addressing Cascading Failures" in Google's *Site Reliability Engineering* (2016), which advises
//! servers to check the deadline that is left before each stage of work.
//!
//! ## Deliberate differences
//! Servers that look at the deadline before each stage of work are not modelled, only the look before the first one.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Shedding, Turn};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `shedding.deadline`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeadlineSettings {
    /// Time that an answer takes from here.
    pub needs: Duration,
}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    needs: Duration,
}

impl Algorithm for Deadline {
    type Settings = DeadlineSettings;

    fn new(settings: &DeadlineSettings, _now: Time) -> Self {
        Self { needs: settings.needs }
    }
}

impl Shedding for Deadline {
    #[inline]
    fn drops(&mut self, _now: Time, turn: &Turn, _rng: &mut Rng) -> bool {
        turn.left.is_some_and(|left| left == Duration::ZERO || left < self.needs)
    }
}
