//! The course of a dynamic update, whatever its criterion: bring the new version up beside the old one, come to the state in
//! which the switch is safe, switch all callers at once, stop the old version.

use crate::time::{Duration, Time};

use super::standing::{Census, Criterion, Stance, Strategy};
use super::{Command, ReplicaSet, is_complete};

/// What makes one dynamic update differ from another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    /// When the switch is safe.
    pub(super) criterion: Criterion,
    /// What is asked of calls until then.
    pub(super) until: Stance,
    /// What is asked of them while messages of the algorithm travel.
    pub(super) meanwhile: Stance,
    /// One way of such a message.
    pub(super) message: Duration,
}

impl Course {
    pub(super) const fn quiescence(message: Duration) -> Self {
        Self { criterion: Criterion::Quiescent, until: Stance::Passive, meanwhile: Stance::Old, message }
    }

    pub(super) const fn tranquillity() -> Self {
        Self {
            criterion: Criterion::Tranquil,
            until: Stance::Old,
            meanwhile: Stance::Old,
            message: Duration::ZERO,
        }
    }

    pub(super) const fn version_consistency(strategy: Strategy, message: Duration) -> Self {
        let until = Stance::Until(strategy);
        Self { criterion: Criterion::Free, until, meanwhile: Stance::SetUp, message }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The new version starts.
    Prepare,
    /// Messages of the algorithm travel until then.
    SetUp(Time),
    /// The switch waits for the safe state.
    Reach,
    /// The old version goes.
    Switch,
    Over,
}

/// A dynamic update in progress.
#[derive(Clone, Debug)]
pub(super) struct Dynamic {
    course: Course,
    phase: Phase,
    census: Census,
}

impl Dynamic {
    pub(super) fn new(course: Course) -> Self {
        Self { course, phase: Phase::Prepare, census: Census::default() }
    }

    pub(super) fn on_census(&mut self, census: &Census) {
        self.census = *census;
    }

    pub(super) const fn stance(&self) -> Stance {
        match self.phase {
            Phase::Prepare => Stance::Old,
            Phase::SetUp(_) => self.course.meanwhile,
            Phase::Reach => self.course.until,
            Phase::Switch => Stance::New,
            Phase::Over => Stance::Open,
        }
    }

    /// Whether the update has been asked for: the new version stands ready.
    pub(super) fn is_asked(&self) -> bool {
        self.phase != Phase::Prepare
    }

    /// Whether callers go to the new version.
    pub(super) const fn is_switched(&self) -> bool {
        matches!(self.phase, Phase::Switch | Phase::Over)
    }

    pub(super) fn sync(&mut self, now: Time, replicas: u32, sets: &[ReplicaSet]) -> Option<Command> {
        let new = sets.iter().position(|set| set.is_new)?;
        if self.phase != Phase::Over && sets[new].spec != replicas {
            return Some(Command::Scale { set: new, to: replicas });
        }
        if self.phase == Phase::Prepare && sets[new].available >= replicas && self.census.unaware == 0 {
            // There and back, for every call between the target and those who depend on it.
            let travels = Duration(self.course.message.0 * 2 * u64::from(self.census.depth));
            self.phase = Phase::SetUp(now + travels);
        }
        if matches!(self.phase, Phase::SetUp(until) if until <= now) {
            self.phase = Phase::Reach;
        }
        if self.phase == Phase::Reach && self.course.criterion.reached(&self.census) {
            self.phase = Phase::Switch;
        }
        if self.phase == Phase::Switch {
            if let Some(set) = sets.iter().position(|set| !set.is_new && set.spec > 0) {
                return Some(Command::Scale { set, to: 0 });
            }
            // Until the last caller has heard of it, callers must not go by their lists alone.
            if is_complete(replicas, sets) && self.census.lagging == 0 {
                self.phase = Phase::Over;
                return Some(Command::Done);
            }
        }
        None
    }

    pub(super) const fn next_wakeup(&self) -> Option<Time> {
        match self.phase {
            Phase::SetUp(until) => Some(until),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(spec: u32, available: u32, is_new: bool) -> ReplicaSet {
        ReplicaSet { spec, available, ready: available, existing: spec, is_new }
    }

    #[test]
    fn switches_only_in_the_safe_state() {
        let course = Course::version_consistency(Strategy::Blocking, Duration::from_millis(5));
        let mut update = Dynamic::new(course);
        let busy = Census { blocking: 1, depth: 2, ..Census::default() };
        let at = Time;
        update.on_census(&Census { unaware: 1, ..busy });
        let scale = |set, to| Some(Command::Scale { set, to });
        assert_eq!(update.sync(at(0), 2, &[set(2, 2, false), set(0, 0, true)]), scale(1, 2));
        let both = [set(2, 2, false), set(2, 2, true)];
        assert_eq!(update.sync(at(0), 2, &[set(2, 2, false), set(2, 1, true)]), None, "one is starting");
        assert_eq!(update.sync(at(0), 2, &both), None, "not everybody knows it");
        assert_eq!((update.stance(), update.is_asked()), (Stance::Old, false));
        update.on_census(&busy);
        assert_eq!(update.sync(at(7), 2, &both), None);
        // Two calls deep, there and back, 5 ms each.
        assert_eq!((update.stance(), update.next_wakeup()), (Stance::SetUp, Some(at(20_000_007))));
        assert_eq!(update.sync(at(20_000_007), 2, &both), None, "somebody stands in the way");
        assert_eq!(update.stance(), Stance::Until(Strategy::Blocking));
        update.on_census(&Census { blocking: 0, ..busy });
        assert_eq!(update.sync(at(30_000_000), 2, &both), scale(0, 0));
        assert_eq!((update.stance(), update.is_switched()), (Stance::New, true));
        let new = [set(0, 0, false), set(2, 2, true)];
        update.on_census(&Census { lagging: 1, ..Census::default() });
        assert_eq!(update.sync(at(30_000_000), 2, &new), None, "somebody still knows the old ones");
        update.on_census(&Census::default());
        assert_eq!(update.sync(at(30_000_000), 2, &new), Some(Command::Done));
        assert_eq!(update.stance(), Stance::Open);
    }
}
