//! Saga: one local transaction after the other, each with another one that undoes it.
//!
//! ## What it does
//! The coordinator has the participants do their parts in turn; each part is committed at once, so that nothing stays locked. If
//! a part fails `attempts` times, the saga goes back: those that have done their part, and the one of which nobody knows whether it has,
//! undo it, the last one first, each as often as it takes. From the `pivot` on there is no way back: parts behind it are tried until
//! they succeed. Each part that was done is logged; a coordinator that comes back after a crash goes back, or on (`recovery`).
//!
//! ## When it helps
//! Where locks over several services are too dear, and what was done can be undone in the sense of the business: money is paid back,
//! goods go back to the shelf.
//!
//! ## How it fails
//! Others see what will be undone: stock that is sold out for a moment, money that comes and goes. A part that cannot be undone because
//! its participant refuses leaves the saga half done (*stuck*).
//!
//! ## Settings
//! * `attempts` (default `1`): tries of a part before the pivot.
//! * `pivot` (default: none): number of the participant, from 1, whose part cannot be undone. While nobody knows whether it was
//!   done it is tried again; the parts behind it are tried until they succeed.
//! * `retry` (default `1s`): pause between tries of a part, and of undoing one.
//! * `compensation-attempts` (default: any number): tries of undoing a part; then it is stuck.
//! * `recovery` (default `backward`): where a saga before its pivot goes after a crash of the coordinator.
//!
//! ## Origin
//! From the literature, not from one upstream's code: H. Garcia-Molina, K. Salem, *Sagas*, SIGMOD (1987) (backward and forward recovery,
//! save-points); the pivot is that of flexible transactions (S. Mehrotra, R. Rastogi, H. Korth, A. Silberschatz, ICDCS 1992). Cited from
//! memory.
//!
//! ## Deliberate differences
//! One sequence, no parallel sagas, and no save-points beside the pivot. A request to undo that comes before the one to do makes the participant
//! refuse the latter when it comes (an empty compensation), and each is done once however often it is asked for: the paper leaves both to
//! the application.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Branch, Command, Decision, Record, Reply, Request, Rules, Transaction};
use crate::policies::Algorithm;
use crate::time::{Duration, Time};

/// Where a saga goes after a crash of its coordinator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Recovery {
    /// Back to the start.
    #[default]
    Backward,
    /// On from where it was.
    Forward,
}

/// Settings of `saga`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct SagaSettings(Written);

/// The settings before they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "SagaSettings")]
struct Written {
    /// Tries of a part before the pivot.
    attempts: u32,
    /// Number of the participant, from 1, with which the saga can no longer go back.
    pivot: Option<u8>,
    /// Pause between tries.
    retry: Duration,
    /// Tries of undoing a part; then it is stuck.
    compensation_attempts: Option<u32>,
    /// Where a saga before its pivot goes after a crash of the coordinator.
    recovery: Recovery,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            attempts: 1,
            pivot: None,
            retry: Duration::from_secs(1),
            compensation_attempts: None,
            recovery: Recovery::Backward,
        }
    }
}

impl TryFrom<Written> for SagaSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if written.attempts == 0 || written.compensation_attempts == Some(0) {
            return Err("`attempts` and `compensation-attempts` must be at least 1".to_owned());
        }
        if written.pivot == Some(0) {
            return Err("`pivot` counts participants from 1".to_owned());
        }
        if written.retry == Duration::ZERO {
            return Err("`retry` must be longer than zero".to_owned());
        }
        Ok(Self(written))
    }
}

/// Where the coordinator stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It knows of nothing.
    Initial,
    /// That there is a saga is being logged.
    Starting,
    /// This part is being done ...
    Doing(u8),
    /// ... is done, which is being logged ...
    Did(u8),
    /// ... or failed and is tried again later.
    Pausing(u8),
    /// The way back is being logged, from this part on.
    Turning(u8),
    /// This part is being undone ...
    Undoing(u8),
    /// ... is undone, which is being logged ...
    Undid(u8),
    /// ... or was not undone, and is asked again later.
    PausingBack(u8),
    /// The end is being logged.
    Ending,
    /// It is over.
    Over(Decision),
}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Saga {
    settings: Written,
    phase: Phase,
    participants: u8,
    tries: u32,
    /// A try of the pivot came to an end that nobody knows: it may have been done, or may yet be.
    uncertain: bool,
    wake: Option<Time>,
}

impl Algorithm for Saga {
    type Settings = SagaSettings;

    fn new(settings: &SagaSettings, _now: Time) -> Self {
        Self {
            settings: settings.0,
            phase: Phase::Initial,
            participants: 0,
            tries: 0,
            uncertain: false,
            wake: None,
        }
    }
}

impl Saga {
    /// Whether a failure of this part cannot turn the saga back any more.
    fn is_behind_pivot(&self, part: u8) -> bool {
        self.settings.pivot.is_some_and(|pivot| part >= pivot) || self.uncertain
    }

    /// Whether this part is the one that cannot be undone.
    fn is_pivot(&self, part: u8) -> bool {
        self.settings.pivot == Some(part + 1)
    }

    fn work(&mut self, part: u8, todo: &mut Vec<Command>) {
        self.phase = Phase::Doing(part);
        self.tries += 1;
        todo.push(Command::Send(part, Request::Prepare));
    }

    fn go_on(&mut self, part: u8, todo: &mut Vec<Command>) {
        self.tries = 0;
        if part == self.participants {
            self.phase = Phase::Ending;
            todo.push(Command::Force(Record::Decided(Decision::Commit)));
        } else {
            self.work(part, todo);
        }
    }

    fn undo(&mut self, part: u8, todo: &mut Vec<Command>) {
        self.phase = Phase::Undoing(part);
        self.tries += 1;
        todo.push(Command::Send(part, Request::Abort));
    }

    /// The part before `part` is undone next.
    fn go_back(&mut self, part: u8, todo: &mut Vec<Command>) {
        self.tries = 0;
        match part.checked_sub(1) {
            Some(before) => self.undo(before, todo),
            None => self.end(Decision::Abort, todo),
        }
    }

    fn turn(&mut self, from: u8, todo: &mut Vec<Command>) {
        self.tries = 0;
        self.phase = Phase::Turning(from);
        todo.push(Command::Force(Record::Decided(Decision::Abort)));
    }

    fn end(&mut self, decision: Decision, todo: &mut Vec<Command>) {
        self.phase = Phase::Over(decision);
        self.wake = None;
        todo.extend([Command::Write(Record::Ended), Command::Forget]);
    }
}

impl Transaction for Saga {
    fn begin(&mut self, _now: Time, participants: u8, todo: &mut Vec<Command>) {
        self.participants = participants;
        self.phase = Phase::Starting;
        todo.push(Command::Force(Record::Began));
    }

    fn on_logged(&mut self, _now: Time, todo: &mut Vec<Command>) {
        match self.phase {
            Phase::Starting => self.go_on(0, todo),
            Phase::Did(part) => self.go_on(part + 1, todo),
            Phase::Turning(from) => {
                todo.push(Command::Tell(Decision::Abort));
                self.undo(from, todo);
            }
            Phase::Undid(part) => self.go_back(part, todo),
            Phase::Ending => {
                todo.push(Command::Tell(Decision::Commit));
                self.end(Decision::Commit, todo);
            }
            _ => {}
        }
    }

    fn on_reply(&mut self, now: Time, from: u8, to: Request, reply: Reply, todo: &mut Vec<Command>) {
        match (self.phase, to) {
            (Phase::Doing(part), Request::Prepare) if part == from => {
                if reply == Reply::Done {
                    self.phase = Phase::Did(part);
                    todo.push(Command::Force(Record::Did(part)));
                    return;
                }
                self.uncertain |= self.is_pivot(part) && reply == Reply::Silent;
                if self.is_behind_pivot(part) || self.tries < self.settings.attempts {
                    self.phase = Phase::Pausing(part);
                    self.wake = Some(now + self.settings.retry);
                } else {
                    self.turn(part, todo);
                }
            }
            (Phase::Undoing(part), Request::Abort) if part == from => {
                if reply == Reply::Done {
                    self.phase = Phase::Undid(part);
                    todo.push(Command::Force(Record::Undid(part)));
                } else if self.settings.compensation_attempts.is_some_and(|most| self.tries >= most) {
                    todo.push(Command::Stuck(part));
                    self.go_back(part, todo);
                } else {
                    self.phase = Phase::PausingBack(part);
                    self.wake = Some(now + self.settings.retry);
                }
            }
            _ => {}
        }
    }

    fn next_wakeup(&self) -> Option<Time> {
        self.wake
    }

    fn on_wakeup(&mut self, now: Time, todo: &mut Vec<Command>) {
        if self.wake.is_none_or(|wake| wake > now) {
            return;
        }
        self.wake = None;
        match self.phase {
            Phase::Pausing(part) => self.work(part, todo),
            Phase::PausingBack(part) => self.undo(part, todo),
            _ => {}
        }
    }

    fn decision(&self) -> Option<Decision> {
        match self.phase {
            Phase::Initial
            | Phase::Turning(_)
            | Phase::Undoing(_)
            | Phase::Undid(_)
            | Phase::PausingBack(_) => Some(Decision::Abort),
            Phase::Starting | Phase::Doing(_) | Phase::Did(_) | Phase::Pausing(_) | Phase::Ending => None,
            Phase::Over(decision) => Some(decision),
        }
    }

    fn recover(&mut self, _now: Time, participants: u8, log: &[Record], todo: &mut Vec<Command>) {
        self.participants = participants;
        let decided = log.iter().find_map(|record| match record {
            Record::Decided(decision) => Some(*decision),
            _ => None,
        });
        let done = log.iter().filter(|record| matches!(record, Record::Did(_))).count() as u8;
        let undone = log.iter().rev().find_map(|record| match record {
            Record::Undid(part) => Some(*part),
            _ => None,
        });
        self.uncertain = decided.is_none() && self.is_pivot(done);
        match (decided, undone) {
            _ if log.contains(&Record::Ended) => {
                self.end(decided.unwrap_or(Decision::Abort), todo);
            }
            (Some(Decision::Commit), _) => {
                todo.push(Command::Tell(Decision::Commit));
                self.end(Decision::Commit, todo);
            }
            (Some(Decision::Abort), Some(part)) => self.go_back(part, todo),
            // The part after the last one that is known to be done may be done, too.
            (Some(Decision::Abort), None) => self.undo(done.min(participants - 1), todo),
            (None, _) if !log.contains(&Record::Began) => {
                todo.push(Command::Tell(Decision::Abort));
                self.end(Decision::Abort, todo);
            }
            (None, _) if done == participants => self.go_on(done, todo),
            (None, _) if self.settings.recovery == Recovery::Forward || self.is_behind_pivot(done) => {
                self.go_on(done, todo);
            }
            (None, _) => self.turn(done, todo),
        }
    }

    fn branch(&self) -> Branch {
        Branch::new(Rules {
            commits_alone: true,
            inquire_after: Duration::MAX,
            cooperative: false,
            guess: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Part, Start};
    use super::*;
    use crate::random::{Key, Rng};

    fn saga(settings: &str) -> Saga {
        let settings: SagaSettings = serde_json::from_str(settings).expect("settings are right");
        Saga::new(&settings, Time::ZERO)
    }

    /// Carries commands out at once, with these answers to the requests, and returns what was sent.
    fn play(
        one: &mut Saga,
        mut answers: impl FnMut(u8, Request) -> Reply,
    ) -> (Vec<(u8, Request)>, Vec<Command>) {
        let (mut todo, mut sent, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        let mut now = Time::ZERO;
        one.begin(now, 3, &mut todo);
        loop {
            while !todo.is_empty() {
                match todo.remove(0) {
                    Command::Send(to, request) => {
                        sent.push((to, request));
                        let reply = answers(to, request);
                        one.on_reply(now, to, request, reply, &mut todo);
                    }
                    Command::Force(_) => one.on_logged(now, &mut todo),
                    other => rest.push(other),
                }
            }
            match one.next_wakeup() {
                Some(at) => {
                    now = at;
                    one.on_wakeup(now, &mut todo);
                }
                None => return (sent, rest),
            }
        }
    }

    #[test]
    fn a_saga_goes_forward_or_back() {
        use Command::{Forget, Tell, Write};
        use Request::{Abort, Prepare};
        let (sent, rest) = play(&mut saga("{}"), |_, _| Reply::Done);
        assert_eq!(sent, [(0, Prepare), (1, Prepare), (2, Prepare)]);
        assert_eq!(rest, [Tell(Decision::Commit), Write(Record::Ended), Forget]);

        let refuses = |to, request| if (to, request) == (1, Prepare) { Reply::Refused } else { Reply::Done };
        let (sent, rest) = play(&mut saga("{}"), refuses);
        assert_eq!(sent, [(0, Prepare), (1, Prepare), (1, Abort), (0, Abort)]);
        assert_eq!(rest, [Tell(Decision::Abort), Write(Record::Ended), Forget]);
    }

    #[test]
    fn behind_the_pivot_there_is_no_way_back() {
        use Request::Prepare;
        let mut failures = 3;
        let answers = |to, _| {
            if to == 2 && failures > 0 {
                failures -= 1;
                Reply::Refused
            } else {
                Reply::Done
            }
        };
        let (sent, rest) = play(&mut saga(r#"{"pivot": 2}"#), answers);
        assert_eq!(
            sent,
            [(0, Prepare), (1, Prepare), (2, Prepare), (2, Prepare), (2, Prepare), (2, Prepare)]
        );
        assert_eq!(rest[0], Command::Tell(Decision::Commit));
    }

    #[test]
    fn who_will_not_undo_is_stuck() {
        let answers = |to, request| match (to, request) {
            (2, Request::Prepare) | (0, Request::Abort) => Reply::Refused,
            _ => Reply::Done,
        };
        let (_, rest) = play(&mut saga(r#"{"compensation-attempts": 2}"#), answers);
        assert!(rest.contains(&Command::Stuck(0)) && rest.ends_with(&[Command::Forget]), "{rest:?}");
    }

    #[test]
    fn settings_are_checked() {
        assert!(serde_json::from_str::<SagaSettings>(r#"{"attempts": 0}"#).is_err());
        assert!(serde_json::from_str::<SagaSettings>(r#"{"pivot": 0}"#).is_err());
    }

    /// Everything goes wrong at random; effects at the participants are counted.
    struct System {
        settings: SagaSettings,
        rng: Rng,
        now: Time,
        coordinator: Option<Saga>,
        known: bool,
        log: Vec<Record>,
        forcing: Option<Record>,
        branches: Vec<Branch>,
        /// How often each part was done and undone.
        done: Vec<u32>,
        undone: Vec<u32>,
        messages: Vec<(u8, Request, Option<Reply>)>,
        told: Option<Decision>,
    }

    impl System {
        fn carry_out(&mut self, todo: Vec<Command>) {
            for command in todo {
                match command {
                    Command::Send(to, request) => self.messages.push((to, request, None)),
                    Command::Force(record) => {
                        assert_eq!(self.forcing.replace(record), None, "one record at a time");
                    }
                    Command::Write(record) => self.log.push(record),
                    Command::Tell(decision) => {
                        assert!(self.told.is_none_or(|told| told == decision), "the answer changed");
                        self.told = Some(decision);
                    }
                    Command::Stuck(_) => panic!("nobody is ever stuck"),
                    Command::Forget => {
                        self.coordinator = None;
                        self.known = false;
                    }
                }
            }
        }

        fn with(&mut self, act: impl FnOnce(&mut Saga, Time, &mut Vec<Command>)) {
            let mut todo = Vec::new();
            if let Some(coordinator) = &mut self.coordinator {
                act(coordinator, self.now, &mut todo);
            }
            self.carry_out(todo);
        }

        fn deliver(&mut self, at: usize, well: bool) {
            let (who, request, reply) = self.messages.swap_remove(at);
            if let Some(reply) = reply {
                self.with(|one, now, todo| one.on_reply(now, who, request, reply, todo));
                return;
            }
            let part = usize::from(who);
            let branch = &mut self.branches[part];
            let reply = if request == Request::Prepare {
                match branch.start() {
                    Start::Known => Reply::Done,
                    Start::Refuse => Reply::Refused,
                    Start::Work if well => {
                        assert!(branch.done(self.now));
                        self.done[part] += 1;
                        Reply::Done
                    }
                    Start::Work => {
                        branch.failed();
                        Reply::Refused
                    }
                }
            } else {
                self.undone[part] += u32::from(branch.part() == Part::Committed);
                branch.decide(Decision::Abort);
                Reply::Done
            };
            self.messages.push((who, request, Some(reply)));
        }

        fn log_it(&mut self) {
            if let Some(record) = self.forcing.take() {
                self.log.push(record);
                self.with(Saga::on_logged);
            }
        }

        fn recover(&mut self) {
            if self.known && self.coordinator.is_none() {
                let mut coordinator = Saga::new(&self.settings, self.now);
                let mut todo = Vec::new();
                coordinator.recover(self.now, self.branches.len() as u8, &self.log, &mut todo);
                self.coordinator = Some(coordinator);
                self.carry_out(todo);
            }
        }

        fn wake(&mut self) {
            if let Some(at) = self.coordinator.as_ref().and_then(Transaction::next_wakeup) {
                self.now = self.now.max(at);
                self.with(Saga::on_wakeup);
            }
        }

        fn something(&mut self) {
            let message =
                (!self.messages.is_empty()).then(|| self.rng.index(self.messages.len() as u32) as usize);
            let well = self.rng.index(6) > 0;
            match (self.rng.index(12), message) {
                (0..=5, Some(at)) => self.deliver(at, well),
                (6, Some(at)) => self.messages[at].2 = Some(Reply::Silent),
                // Not what is asked of the pivot: a copy that nobody knows of would come after the way back was taken.
                (7, Some(at)) if self.settings.0.pivot != Some(self.messages[at].0 + 1) => {
                    self.messages.push(self.messages[at]);
                }
                (8, _) if self.known => {
                    self.coordinator = None;
                    self.forcing = None;
                }
                (9, _) => self.recover(),
                (10, _) => self.wake(),
                _ => self.log_it(),
            }
        }
    }

    const VARIANTS: [&str; 4] = [
        "{}",
        r#"{"attempts": 3, "recovery": "forward"}"#,
        r#"{"pivot": 2}"#,
        r#"{"pivot": 1, "attempts": 2, "recovery": "forward"}"#,
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Each part that was done is part of a saga that was completed, or was undone exactly once.
        #[test]
        fn done_or_undone(seed: u64, participants in 2_u8..5, variant in 0_usize..4, steps in 0_u32..120) {
            let settings: SagaSettings = serde_json::from_str(VARIANTS[variant]).expect("settings are right");
            let mut coordinator = Saga::new(&settings, Time::ZERO);
            let count = usize::from(participants);
            let branches = vec![coordinator.branch(); count];
            let mut todo = Vec::new();
            coordinator.begin(Time::ZERO, participants, &mut todo);
            let mut system = System {
                settings,
                rng: Key::new(seed).rng(),
                now: Time::ZERO,
                coordinator: Some(coordinator),
                known: true,
                log: Vec::new(),
                forcing: None,
                branches,
                done: vec![0; count],
                undone: vec![0; count],
                messages: Vec::new(),
                told: None,
            };
            system.carry_out(todo);
            for _ in 0..steps {
                system.something();
            }
            for _ in 0..200 {
                system.recover();
                system.log_it();
                while !system.messages.is_empty() {
                    system.deliver(0, true);
                    system.log_it();
                }
                system.wake();
            }
            prop_assert!(!system.known, "the saga ends");
            let committed = system.told == Some(Decision::Commit);
            for part in 0..count {
                let (done, undone) = (system.done[part], system.undone[part]);
                prop_assert!(done <= 1 && undone <= 1, "done {done} times, undone {undone} times");
                prop_assert_eq!(undone, if committed { 0 } else { done });
                prop_assert!(!committed || done == 1, "told that it is done, and it is not");
            }
            if let Some(pivot) = settings.0.pivot {
                let pivot = usize::from(pivot) - 1;
                prop_assert!(system.undone[pivot] == 0, "what cannot be undone was undone");
            }
        }
    }
}
