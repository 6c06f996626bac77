//! The progress deadline of a Deployment: it says that a rollout is stuck, and nothing else happens.
//!
//! Origin: kubernetes/kubernetes v1.28.0, `pkg/controller/deployment/progress.go` (`syncRolloutStatus`,
//! `requeueStuckDeployment`) and `util/deployment_util.go` (`DeploymentComplete`, `DeploymentProgressing`,
//! `DeploymentTimedOut`, `HasProgressDeadline`).
//!
//! Deliberate differences: upstream keeps the time of the last progress in whole seconds, so its deadline may fall up to a
//! second earlier; a deadline that would be looked at in less than a second is looked at one second after it, not again
//! and again before.

use crate::policies::rollout::ReplicaSet;
use crate::time::{Duration, Time};

/// Counts that a Deployment keeps of itself (`DeploymentStatus`). Instances that are being shut down do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Instances of all versions.
    pub replicas: u32,
    /// Of the version that is rolled out.
    pub updated: u32,
    /// Ready.
    pub ready: u32,
    /// Ready for long enough.
    pub available: u32,
}

impl Status {
    /// That of these sets (`calculateStatus`). The world starts and stops instances in the instant of the order, so there
    /// are as many as are wanted.
    pub fn of(sets: &[ReplicaSet]) -> Self {
        let mut status = Self::default();
        for set in sets {
            status.replicas += set.spec;
            status.updated += if set.is_new { set.spec } else { 0 };
            status.ready += set.ready;
            status.available += set.available;
        }
        status
    }

    /// Whether all that is wanted is there, of the new version and available (`DeploymentComplete`).
    pub const fn is_complete(&self, replicas: u32) -> bool {
        self.updated == replicas && self.replicas == replicas && self.available == replicas
    }

    /// Whether there is progress since `before`: more new instances, fewer old ones, more that are ready or available
    /// (`DeploymentProgressing`).
    pub fn is_progress_since(&self, before: &Self) -> bool {
        let old = |status: &Self| i64::from(status.replicas) - i64::from(status.updated);
        self.updated > before.updated
            || old(self) < old(before)
            || self.ready > before.ready
            || self.available > before.available
    }
}

/// So many seconds are no deadline (`math.MaxInt32`).
const OFF: Duration = Duration::from_secs(i32::MAX as u64);

/// Watches a rollout for progress.
#[derive(Clone, Debug)]
pub struct Progress {
    /// `None` is off.
    deadline: Option<Duration>,
    /// When a set was created or progress was seen last.
    updated_at: Time,
    /// As it was then.
    status: Option<Status>,
    timed_out: bool,
}

impl Progress {
    /// The clock begins when the rollout does.
    pub fn new(deadline: Duration, now: Time) -> Self {
        Self {
            deadline: (deadline < OFF).then_some(deadline),
            updated_at: now,
            status: None,
            timed_out: false,
        }
    }

    /// Looks at the sets as they are now (`syncRolloutStatus`).
    pub fn sync(&mut self, now: Time, replicas: u32, sets: &[ReplicaSet]) {
        let Some(deadline) = self.deadline else { return };
        let status = Status::of(sets);
        let before = self.status.replace(status).unwrap_or(status);
        if status.is_complete(replicas) {
            self.timed_out = false;
        } else if status.is_progress_since(&before) {
            self.timed_out = false;
            self.updated_at = now;
        } else if self.updated_at + deadline < now {
            self.timed_out = true;
        }
    }

    /// Nothing has moved for longer than the deadline.
    pub const fn is_stalled(&self) -> bool {
        self.timed_out
    }

    /// It was paused or goes on: the clock begins anew, for `Progressing` was unknown in between (`checkPausedConditions`).
    pub const fn restart(&mut self, now: Time) {
        self.updated_at = now;
        self.timed_out = false;
    }

    /// When the deadline is looked at next: a second after it (`requeueStuckDeployment`).
    pub fn next_wakeup(&self) -> Option<Time> {
        let deadline = self.deadline.filter(|_| !self.timed_out)?;
        Some(self.updated_at + deadline + Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(old: u32, new: u32, ready: u32) -> [ReplicaSet; 2] {
        let set = |spec, ready, is_new| ReplicaSet { spec, available: ready, ready, existing: spec, is_new };
        [set(old, old, false), set(new, ready, true)]
    }

    #[test]
    fn the_deadline_counts_from_the_last_progress() {
        let at = Time::from_secs;
        let mut progress = Progress::new(Duration::from_secs(600), at(100));
        progress.sync(at(100), 4, &sets(4, 0, 0));
        progress.sync(at(100), 4, &sets(4, 1, 0));
        progress.sync(at(200), 4, &sets(4, 1, 1));
        assert_eq!(progress.next_wakeup(), Some(at(801)));
        // An instance that is lost is no progress, and one that comes back is some.
        progress.sync(at(300), 4, &sets(4, 1, 0));
        assert_eq!(progress.next_wakeup(), Some(at(801)));
        // The comparison is strict.
        progress.sync(at(800), 4, &sets(4, 1, 0));
        assert!(!progress.is_stalled());
        progress.sync(at(801), 4, &sets(4, 1, 0));
        assert!(progress.is_stalled());
        assert_eq!(progress.next_wakeup(), None);
        progress.sync(at(900), 4, &sets(4, 1, 1));
        assert!(!progress.is_stalled());
        assert_eq!(progress.next_wakeup(), Some(at(1501)));
    }

    #[test]
    fn two_thousand_million_seconds_are_no_deadline() {
        let mut progress = Progress::new(Duration::from_secs(i32::MAX as u64), Time::ZERO);
        progress.sync(Time::ZERO, 4, &sets(4, 1, 0));
        assert_eq!(progress.next_wakeup(), None);
        progress.sync(Time::ZERO + Duration::from_secs(i32::MAX as u64 * 2), 4, &sets(4, 1, 0));
        assert!(!progress.is_stalled());
    }
}
