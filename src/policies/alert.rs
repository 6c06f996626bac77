//! Alerts: a value beyond its threshold for long enough.
//!
//! The states of an alerting rule of Prometheus (`rules/alerting.go`, `AlertingRule.Eval`): a value beyond the threshold makes
//! the alert *pending*; it *fires* at the first look at which that has lasted for `hold`, the same look if `hold` is zero. A look
//! that finds the value back, or finds none, ends a pending alert at once and a firing one after `keep_firing`.

use crate::time::{Duration, Time};

/// Which side of the threshold is bad.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// Values greater than this.
    Above(f64),
    /// Values less than this.
    Below(f64),
}

impl Threshold {
    /// Whether `value` lies on the bad side; the threshold itself does not.
    pub fn is_crossed(self, value: f64) -> bool {
        match self {
            Self::Above(limit) => value > limit,
            Self::Below(limit) => value < limit,
        }
    }
}

/// When an alert fires.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// What is bad.
    pub threshold: Threshold,
    /// For how long it must have been bad (`for`).
    pub hold: Duration,
    /// How long it goes on firing after it was last bad (`keep_firing_for`).
    pub keep_firing: Duration,
}

/// What a look at an alert changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It fires from now on.
    Fires,
    /// It no longer fires.
    Resolved,
}

/// One alert.
#[derive(Clone, Copy, Debug)]
pub struct Alert {
    rule: Rule,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Inactive,
    Pending {
        since: Time,
    },
    Firing,
    /// Fires although the value is back, since then.
    Lingering {
        since: Time,
    },
}

impl Alert {
    /// An alert that does not fire.
    pub const fn new(rule: Rule) -> Self {
        Self { rule, state: State::Inactive }
    }

    /// Whether it fires.
    pub const fn is_firing(&self) -> bool {
        matches!(self.state, State::Firing | State::Lingering { .. })
    }

    /// A look; `value` is `None` while there is nothing to see.
    pub fn evaluate(&mut self, now: Time, value: Option<f64>) -> Option<Change> {
        let was_firing = self.is_firing();
        let bad = value.is_some_and(|value| self.rule.threshold.is_crossed(value));
        self.state = match (self.state, bad) {
            (State::Inactive, true) => self.risen(now, now),
            (State::Pending { since }, true) => self.risen(now, since),
            (State::Firing | State::Lingering { .. }, true) => State::Firing,
            (State::Inactive | State::Pending { .. }, false) => State::Inactive,
            (State::Firing, false) => self.fallen(now, now),
            (State::Lingering { since }, false) => self.fallen(now, since),
        };
        match (was_firing, self.is_firing()) {
            (false, true) => Some(Change::Fires),
            (true, false) => Some(Change::Resolved),
            _ => None,
        }
    }

    fn risen(&self, now: Time, since: Time) -> State {
        if now - since >= self.rule.hold { State::Firing } else { State::Pending { since } }
    }

    fn fallen(&self, now: Time, since: Time) -> State {
        if now - since < self.rule.keep_firing { State::Lingering { since } } else { State::Inactive }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes at looks ten seconds apart.
    fn looks(hold: u64, keep: u64, values: &[Option<f64>]) -> Vec<Option<Change>> {
        let mut alert = Alert::new(Rule {
            threshold: Threshold::Above(0.8),
            hold: Duration::from_secs(hold),
            keep_firing: Duration::from_secs(keep),
        });
        let at = |(number, value): (usize, &Option<f64>)| {
            alert.evaluate(Time::from_secs(10 * number as u64), *value)
        };
        values.iter().enumerate().map(at).collect()
    }

    const BAD: Option<f64> = Some(0.9);
    const GOOD: Option<f64> = Some(0.8);

    #[test]
    fn fires_once_it_was_bad_for_long_enough() {
        assert_eq!(looks(0, 0, &[GOOD, BAD, GOOD]), [None, Some(Change::Fires), Some(Change::Resolved)]);
        assert_eq!(looks(20, 0, &[BAD, BAD, BAD, BAD]), [None, None, Some(Change::Fires), None]);
        assert_eq!(looks(20, 0, &[BAD, BAD, GOOD, BAD, BAD]), [None; 5], "a good look begins anew");
        assert_eq!(looks(20, 0, &[BAD, BAD, None, BAD, BAD]), [None; 5], "so does a look that finds nothing");
    }

    #[test]
    fn lingers() {
        let found = looks(0, 20, &[BAD, GOOD, GOOD, BAD, GOOD, None, GOOD]);
        assert_eq!(found, [Some(Change::Fires), None, None, None, None, None, Some(Change::Resolved)]);
    }

    #[test]
    fn below_is_the_other_side() {
        assert!(Threshold::Below(5.0).is_crossed(4.9) && !Threshold::Below(5.0).is_crossed(5.0));
    }
}
