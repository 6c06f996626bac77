//! Revisions of a Deployment: what is kept of former versions, and the way back to one of them.
//!
//! Origin: kubernetes/kubernetes v1.28.0, `pkg/controller/deployment/sync.go` (`cleanupDeployment`), `rollback.go`
//! (`rollback`, `rollbackToTemplate`), `util/deployment_util.go` (`LastRevision`, `MaxRevision`, `HasRevisionHistoryLimit`,
//! `ReplicaSetsByRevision`). `kubectl rollout undo` decides the same in the client
//! (`kubectl/pkg/polymorphichelpers/rollback.go`, from memory).

/// A version that was rolled out, as far as the history is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Its number; the one rolled out last has the highest.
    pub number: u32,
    /// Wanted instances.
    pub spec: u32,
    /// Instances that are not being shut down.
    pub replicas: u32,
    /// The version that is rolled out, or was last.
    pub is_new: bool,
}

/// So many are no limit (`math.MaxInt32`).
const NO_LIMIT: u32 = i32::MAX as u32;

/// Positions of those that are deleted, in order. `revisions` are in the order of their age.
///
/// The oldest revisions beyond the limit are candidates. One that still has instances stays, and no other goes in its place.
pub fn cleanup(limit: u32, revisions: &[Revision]) -> Vec<usize> {
    if limit >= NO_LIMIT {
        return Vec::new();
    }
    let mut old: Vec<usize> = (0..revisions.len()).filter(|&at| !revisions[at].is_new).collect();
    let candidates = old.len().saturating_sub(limit as usize);
    // Stable, so of equal numbers the older set comes first.
    old.sort_by_key(|&at| revisions[at].number);
    old.truncate(candidates);
    old.retain(|&at| revisions[at].spec == 0 && revisions[at].replicas == 0);
    old
}

/// The number of a set that becomes the new one: above all others, or its own if that is higher already.
pub fn next_number(own: u32, others: impl Iterator<Item = u32>) -> u32 {
    own.max(others.max().unwrap_or(0) + 1)
}

/// What becomes of an order to go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undo {
    /// The set at this position becomes the new one.
    To(usize),
    /// It is the new one already.
    Unchanged,
    /// There is no such revision (any more); nothing happens.
    NotFound,
}

/// Looks for a revision to go back to; 0 is the one before the last (`rollback`).
pub fn undo(to: u32, revisions: &[Revision]) -> Undo {
    let to = if to == 0 { last_revision(revisions) } else { to };
    match revisions.iter().position(|revision| revision.number == to && to > 0) {
        Some(at) if revisions[at].is_new => Undo::Unchanged,
        Some(at) => Undo::To(at),
        None => Undo::NotFound,
    }
}

/// The second highest number; 0 if there is none (`LastRevision`).
fn last_revision(revisions: &[Revision]) -> u32 {
    let (mut max, mut second) = (0, 0);
    for revision in revisions {
        if revision.number >= max {
            (max, second) = (revision.number, max);
        } else if revision.number > second {
            second = revision.number;
        }
    }
    second
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(number: u32, spec: u32, is_new: bool) -> Revision {
        Revision { number, spec, replicas: spec, is_new }
    }

    #[test]
    fn back_to_the_one_before_or_to_a_named_one() {
        let history = [revision(1, 0, false), revision(4, 3, true), revision(3, 0, false)];
        assert_eq!(undo(0, &history), Undo::To(2));
        assert_eq!(undo(1, &history), Undo::To(0));
        assert_eq!(undo(4, &history), Undo::Unchanged);
        assert_eq!(undo(2, &history), Undo::NotFound, "it has become revision 4");
        assert_eq!(undo(0, &[revision(1, 3, true)]), Undo::NotFound);
        assert_eq!(next_number(1, [4, 3].into_iter()), 5);
        assert_eq!(next_number(4, [1, 3].into_iter()), 4);
    }

    #[test]
    fn only_the_newest_are_kept() {
        let history =
            [revision(1, 0, false), revision(2, 1, false), revision(3, 0, false), revision(4, 3, true)];
        assert!(cleanup(10, &history).is_empty());
        assert_eq!(cleanup(2, &history), [0]);
        // The second still has an instance, and nothing goes in its place.
        assert_eq!(cleanup(1, &history), [0]);
        assert_eq!(cleanup(0, &history), [0, 2]);
        assert!(cleanup(i32::MAX as u32, &history).is_empty());
    }
}
