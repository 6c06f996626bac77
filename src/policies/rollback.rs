//! Automatic rollback: detect, execute, test, decide again.
//!
//! A watcher looks at a service from time to time. While anything that it was told to mind is bad for long enough, it orders
//! the last change back; then it lets the system settle and looks again. If that did not help it goes back further, and when
//! there is nothing left to go back to, or it has gone far enough, it gives up and calls people.
//!
//! It knows no cause: a bad hour of something else looks like a bad release, and it takes a good one back.
//!
//! Origin: ours, after the article on rollback, failover and breakers among this project's sources ("detect, execute, test";
//! conditions: error rate, crashes, disk, configuration). Argo Rollouts, Flagger and Spinnaker do the same while a rollout is in
//! progress (see `policies/rollout`); this one watches afterwards, too, and configurations as well as releases.

use crate::time::{Duration, Time};

/// When something is bad, and what is done about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RollbackSettings {
    /// More failed attempts than this share, as callers see it.
    pub error_ratio: Option<f64>,
    /// A mean latency longer than this, as callers see it, in seconds.
    pub mean_latency: Option<f64>,
    /// So many processes or more that ended by themselves within the window.
    pub crashes: Option<u64>,
    /// More of the disks in use than this share.
    pub disk: Option<f64>,
    /// For how long it must have been bad.
    pub hold: Duration,
    /// From a rollback until it is tested.
    pub settle: Duration,
    /// So many times in a row, then people are called.
    pub max_steps: u32,
}

/// What is seen of a service; `None` where there is nothing to see.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Signals {
    /// Share of failed attempts within the window.
    pub error_ratio: Option<f64>,
    /// Mean latency of the attempts within the window, in seconds.
    pub mean_latency: Option<f64>,
    /// Processes that ended by themselves within the window.
    pub crashes: u64,
    /// Share of the disks in use.
    pub disk: Option<f64>,
    /// The alert that it follows fires.
    pub alert: bool,
}

impl RollbackSettings {
    /// What is bad, in words; the first of several.
    pub fn complaint(&self, seen: &Signals) -> Option<&'static str> {
        let beyond = |limit: Option<f64>, value: Option<f64>| {
            limit.zip(value).is_some_and(|(limit, value)| value > limit)
        };
        if beyond(self.error_ratio, seen.error_ratio) {
            Some("too many errors")
        } else if self.crashes.is_some_and(|limit| seen.crashes >= limit) {
            Some("too many crashes")
        } else if beyond(self.mean_latency, seen.mean_latency) {
            Some("too slow")
        } else if beyond(self.disk, seen.disk) {
            Some("disks are full")
        } else if seen.alert {
            Some("an alert fires")
        } else {
            None
        }
    }
}

/// What a look makes it do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Take the last change back.
    Back(&'static str),
    /// It is good again after a rollback.
    Recovered,
    /// It is still bad, and nothing more is tried.
    CallPeople(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has been done; bad since then, if it is.
    Watching(Option<Time>),
    /// It went back so many times; the test is due then.
    Settling { steps: u32, test: Time },
    /// People have been called.
    GivenUp,
}

/// One watcher.
#[derive(Clone, Copy, Debug)]
pub struct Rollback {
    settings: RollbackSettings,
    state: State,
}

impl Rollback {
    /// A watcher that has seen nothing.
    pub const fn new(settings: RollbackSettings) -> Self {
        Self { settings, state: State::Watching(None) }
    }

    /// One look. `can` says whether there is anything to go back to.
    pub fn look(&mut self, now: Time, seen: &Signals, can: bool) -> Option<Order> {
        let complaint = self.settings.complaint(seen);
        match (self.state, complaint) {
            (State::Watching(_) | State::GivenUp, None) => {
                self.state = State::Watching(None);
                None
            }
            (State::Watching(since), Some(why)) => {
                let since = since.unwrap_or(now);
                self.state = State::Watching(Some(since));
                (now >= since + self.settings.hold).then(|| self.back(now, 0, why, can))
            }
            (State::Settling { test, .. }, _) if now < test => None,
            (State::Settling { .. }, None) => {
                self.state = State::Watching(None);
                Some(Order::Recovered)
            }
            (State::Settling { steps, .. }, Some(why)) => Some(self.back(now, steps, why, can)),
            (State::GivenUp, Some(_)) => None,
        }
    }

    fn back(&mut self, now: Time, steps: u32, why: &'static str, can: bool) -> Order {
        if !can || steps >= self.settings.max_steps {
            self.state = State::GivenUp;
            return Order::CallPeople(why);
        }
        self.state = State::Settling { steps: steps + 1, test: now + self.settings.settle };
        Order::Back(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watcher(max_steps: u32) -> Rollback {
        Rollback::new(RollbackSettings {
            error_ratio: Some(0.05),
            mean_latency: None,
            crashes: Some(3),
            disk: None,
            hold: Duration::from_secs(30),
            settle: Duration::from_secs(120),
            max_steps,
        })
    }

    fn errors(share: f64) -> Signals {
        Signals { error_ratio: Some(share), ..Signals::default() }
    }

    #[test]
    fn it_detects_executes_tests_and_decides_again() {
        let at = Time::from_secs;
        let mut watcher = watcher(2);
        let bad = errors(0.2);
        // The limit itself is not beyond it, and a moment of trouble is none.
        assert_eq!(watcher.look(at(0), &errors(0.05), true), None);
        assert_eq!(watcher.look(at(15), &bad, true), None);
        assert_eq!(watcher.look(at(30), &errors(0.0), true), None);
        assert_eq!(watcher.look(at(45), &bad, true), None);
        assert_eq!(watcher.look(at(60), &bad, true), None);
        assert_eq!(watcher.look(at(75), &bad, true), Some(Order::Back("too many errors")));
        // It settles, whatever it looks like meanwhile.
        assert_eq!(watcher.look(at(180), &bad, true), None);
        assert_eq!(watcher.look(at(195), &bad, true), Some(Order::Back("too many errors")));
        assert_eq!(watcher.look(at(315), &bad, true), Some(Order::CallPeople("too many errors")));
        assert_eq!(watcher.look(at(330), &bad, true), None);
        // Whatever people did, it watches again.
        assert_eq!(watcher.look(at(345), &errors(0.0), true), None);
        assert_eq!(watcher.look(at(360), &bad, true), None);
        assert_eq!(watcher.look(at(390), &bad, true), Some(Order::Back("too many errors")));
        assert_eq!(watcher.look(at(510), &errors(0.01), true), Some(Order::Recovered));
    }

    #[test]
    fn with_nothing_to_go_back_to_people_are_called() {
        let crashes = Signals { crashes: 3, ..Signals::default() };
        let mut watcher = watcher(2);
        assert_eq!(watcher.look(Time::ZERO, &crashes, false), None);
        let called = Some(Order::CallPeople("too many crashes"));
        assert_eq!(watcher.look(Time::from_secs(30), &crashes, false), called);
    }
}
