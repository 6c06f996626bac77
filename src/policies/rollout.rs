//! Rollouts: how a service moves from one version to another.

pub mod container_swap;
mod dynamic;
pub mod history;
pub mod progress;
pub mod quiescence;
pub mod recreate;
pub mod rolling;
pub mod standing;
pub mod state_hand_over;
pub mod stop_the_world;
pub mod tranquillity;
pub mod update_request;
pub mod version_consistency;

use crate::time::{Duration, Time};
use progress::Status;

use standing::{Census, Stance};

/// The instances of one version of the service (a `ReplicaSet`), as the rollout's control loop sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaSet {
    /// Wanted instances of this version.
    pub spec: u32,
    /// Instances that have been ready to serve for at least the minimum ready time.
    pub available: u32,
    /// Instances that are ready to serve, however long.
    pub ready: u32,
    /// Instances that still exist in any state, those being shut down included.
    pub existing: u32,
    /// Whether this is the version being rolled out.
    pub is_new: bool,
}

/// One order to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Resize the replica set at this position of the list to so many wanted instances. The world starts the missing
    /// ones, or shuts down the surplus (not ready ones first, then the youngest).
    Scale {
        /// Position in the list given to `sync`.
        set: usize,
        /// New size.
        to: u32,
    },
    /// The rollout is complete; nothing more will come.
    Done,
}

/// What it takes to hand an old instance's state over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// The old instance writes, after its last request and within its grace period.
    pub write: Duration,
    /// The new version reads.
    pub read: Duration,
}

/// A rollout in progress. The world calls `sync` at every change of the lists, and again after every command, until the
/// answer is `None`.
pub trait Rollout {
    /// The next order, given `replicas` wanted in all and the sets, the one that was created first at the head. The new one
    /// may stand anywhere: the way back leads to an old set.
    fn sync(&mut self, now: Time, replicas: u32, sets: &[ReplicaSet]) -> Option<Command>;

    /// When to ask again even if nothing changes.
    fn next_wakeup(&self) -> Option<Time> {
        None
    }

    /// How long an instance must have been ready without a break before the world counts it as available.
    fn min_ready(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether it wants to know what running requests have to do with the service. It is asked once.
    fn watches(&self) -> bool {
        false
    }

    /// What running requests have to do with the service, before each `sync`; only for those who watch.
    fn on_census(&mut self, _census: &Census) {}

    /// What it asks of calls, after each `sync`; only of those who watch.
    fn stance(&self) -> Stance {
        Stance::Open
    }

    /// Whether the update waits only for the right moment, and whether that has come; only of those who watch.
    fn progress(&self) -> (bool, bool) {
        (false, false)
    }

    /// How old instances hand their state over, if they do.
    fn hand_over(&self) -> Option<HandOver> {
        None
    }

    /// Whether it has not moved for longer than it may. That is only reported.
    fn is_stalled(&self) -> bool {
        false
    }

    /// Former versions that are kept after the rollout, for whoever wants to go back.
    fn revision_history_limit(&self) -> u32 {
        u32::MAX
    }
}

registry! {
    ($)
    /// Settings of a rollout, as written in a scenario: `rolling = { max-surge = "25%" }`.
    RolloutSettings,
    /// Any rollout, held by value.
    AnyRollout: Rollout,
    family "rollout" in "rollout",
    "container-swap" => container_swap::ContainerSwap,
    "quiescence" => quiescence::Quiescence,
    "recreate" => recreate::Recreate,
    "rolling" => rolling::Rolling,
    "state-hand-over" => state_hand_over::StateHandOver,
    "stop-the-world" => stop_the_world::StopTheWorld,
    "tranquillity" => tranquillity::Tranquillity,
    "update-request" => update_request::UpdateRequest,
    "version-consistency" => version_consistency::VersionConsistency,
}

impl Rollout for AnyRollout {
    fn sync(&mut self, now: Time, replicas: u32, sets: &[ReplicaSet]) -> Option<Command> {
        dispatch!(self, policy => policy.sync(now, replicas, sets))
    }

    fn next_wakeup(&self) -> Option<Time> {
        dispatch!(self, policy => policy.next_wakeup())
    }

    fn min_ready(&self) -> Duration {
        dispatch!(self, policy => policy.min_ready())
    }

    fn watches(&self) -> bool {
        dispatch!(self, policy => policy.watches())
    }

    fn on_census(&mut self, census: &Census) {
        dispatch!(self, policy => policy.on_census(census));
    }

    fn stance(&self) -> Stance {
        dispatch!(self, policy => policy.stance())
    }

    fn progress(&self) -> (bool, bool) {
        dispatch!(self, policy => policy.progress())
    }

    fn hand_over(&self) -> Option<HandOver> {
        dispatch!(self, policy => policy.hand_over())
    }

    fn is_stalled(&self) -> bool {
        dispatch!(self, policy => policy.is_stalled())
    }

    fn revision_history_limit(&self) -> u32 {
        dispatch!(self, policy => policy.revision_history_limit())
    }
}

/// Wanted instances over all the sets that `which` selects.
fn spec_sum(sets: &[ReplicaSet], which: impl Fn(&ReplicaSet) -> bool) -> u32 {
    sets.iter().filter(|set| which(set)).map(|set| set.spec).sum()
}

/// Available instances over all sets.
fn available_sum(sets: &[ReplicaSet]) -> u32 {
    sets.iter().map(|set| set.available).sum()
}

/// Whether everything that is wanted is of the new version, and available.
fn is_complete(replicas: u32, sets: &[ReplicaSet]) -> bool {
    Status::of(sets).is_complete(replicas)
}

/// What the API server's validation refuses of a Deployment.
fn check_deadline(min_ready: Duration, progress_deadline: Duration) -> Result<(), &'static str> {
    if progress_deadline <= min_ready {
        return Err("`progress-deadline` must be longer than `min-ready`");
    }
    Ok(())
}
