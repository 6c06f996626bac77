//! Rollouts: how a service moves from one version to another.

use crate::time::Time;

/// The instances of one version of the service (a ReplicaSet), as the rollout's control loop sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaSet {
    /// Wanted instances of this version.
    pub spec: u32,
    /// Instances that are ready to serve (for at least the minimum ready time).
    pub available: u32,
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

/// A rollout in progress. The world calls `sync` at every change of the lists, and again after every command, until the
/// answer is `None`.
pub trait Rollout {
    /// The next order, given `replicas` wanted in all and the sets, oldest version first and the new one last.
    fn sync(&mut self, now: Time, replicas: u32, sets: &[ReplicaSet]) -> Option<Command>;

    /// When to ask again even if nothing changes.
    fn next_wakeup(&self) -> Option<Time> {
        None
    }
}

/// Placeholder until the registry stands.
#[derive(Clone, Debug, PartialEq)]
pub enum RolloutSettings {}
/// Placeholder.
pub enum AnyRollout {}
impl Rollout for AnyRollout {
    fn sync(&mut self, _now: Time, _replicas: u32, _sets: &[ReplicaSet]) -> Option<Command> { match *self {} }
}
impl RolloutSettings { /// x
    pub fn build(&self, _now: Time) -> AnyRollout { match *self {} }
    /// x
    pub fn name(&self) -> &'static str { match *self {} } }
