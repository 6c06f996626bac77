//! Two-phase commit: everybody is asked to prepare; if all say yes everything is made to last, else nothing is.
//!
//! ## What it does
//! The coordinator asks all participants to prepare. A participant does its work, locks what it touched, forces that to its log
//! and says yes; or it says no and undoes its work alone. With a yes from everybody the coordinator forces a commit record,
//! which is the decision, tells whoever waits, and tells the participants until each has acknowledged. With a no, or without an answer
//! within `vote-timeout`, it decides to abort. From its yes to the decision a participant is *in doubt* and keeps its locks;
//! after `inquire-after` it asks the coordinator. A coordinator that comes back after a crash reads its log and goes on; a transaction
//! of which nothing is known has aborted.
//!
//! ## When it helps
//! Where all participants must agree at one moment, and it is worth that everybody waits for the slowest and for two rounds of
//! messages and forced writes.
//!
//! ## How it fails
//! While the coordinator is down, those in doubt can do nothing but wait, and so does everybody who wants what they have
//! locked: one crash blocks others that have nothing to do with it. `cooperative` helps if one participant knows more than the others, which it does not
//! in the worst case, when all have said yes. `heuristic` ends the wait at the price of contradictions.
//!
//! ## Settings
//! * `presumption` (default `abort`): what goes without saying. `abort`: only commits are forced to the coordinator's log, and an abort is
//!   told once and forgotten. `nothing`: the beginning and either decision are forced, and acknowledged.
//! * `vote-timeout` (default `10s`): from the requests to prepare to the decision to abort.
//! * `retry` (default `1s`): a participant that did not acknowledge the decision is told again after so long.
//! * `inquire-after` (default `5s`): a participant in doubt for so long asks, and again after each such time.
//! * `cooperative` (default `false`): it asks the other participants, too (cooperative termination).
//! * `heuristic-after` (default: never): in doubt for so long, a participant decides alone ...
//! * `heuristic` (default `abort`): ... this.
//!
//! ## Origin
//! From the literature, not from one upstream's code: J. Gray, *Notes on Data Base Operating Systems* (1978); P. Bernstein, V. Hadzilacos,
//! N. Goodman, *Concurrency Control and Recovery in Database Systems* (1987), section 7.4 (protocol, cooperative termination; presuming nothing,
//! with the start record forced); C. Mohan, B. Lindsay, R. Obermarck, *Transaction Management in the R\* Distributed Database
//! Management System*, TODS 11(4) (1986) (presumed abort; also the presumption of X/Open XA, 1991). Cited from memory.
//!
//! ## Deliberate differences
//! No read-only votes, no tree of coordinators, no transfer of coordination. Requests to prepare go out all at once. A participant that
//! is asked to prepare again after it said yes says yes again.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Branch, Command, Decision, Record, Reply, Request, Rules, Those, Transaction};
use crate::policies::Algorithm;
use crate::time::{Duration, Time};

/// What goes without saying.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Presumption {
    /// A transaction of which nothing is known has aborted.
    #[default]
    Abort,
    /// Nothing: everything is logged.
    Nothing,
}

/// What a participant guesses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Guess {
    /// It undoes its part.
    #[default]
    Abort,
    /// It makes its part last.
    Commit,
}

/// Settings of `two-phase-commit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct TwoPhaseCommitSettings(Written);

/// The settings before they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "TwoPhaseCommitSettings")]
struct Written {
    /// What goes without saying.
    presumption: Presumption,
    /// From the requests to prepare to the decision to abort.
    vote_timeout: Duration,
    /// A participant that did not acknowledge the decision is told again after so long.
    retry: Duration,
    /// A participant in doubt for so long asks, and again after each such time.
    inquire_after: Duration,
    /// It asks the other participants, too.
    cooperative: bool,
    /// In doubt for so long, a participant decides alone ...
    heuristic_after: Option<Duration>,
    /// ... this.
    heuristic: Guess,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            presumption: Presumption::Abort,
            vote_timeout: Duration::from_secs(10),
            retry: Duration::from_secs(1),
            inquire_after: Duration::from_secs(5),
            cooperative: false,
            heuristic_after: None,
            heuristic: Guess::Abort,
        }
    }
}

impl TwoPhaseCommitSettings {
    /// What goes without saying.
    pub const fn presumption(&self) -> Presumption {
        self.0.presumption
    }
}

impl TryFrom<Written> for TwoPhaseCommitSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let times = [
            ("vote-timeout", written.vote_timeout),
            ("retry", written.retry),
            ("inquire-after", written.inquire_after),
        ];
        for (name, time) in times {
            if time == Duration::ZERO {
                return Err(format!("`{name}` must be longer than zero"));
            }
        }
        Ok(Self(written))
    }
}

/// Where the coordinator stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It knows of nothing.
    Initial,
    /// That there is a transaction is being logged.
    Starting,
    /// Votes come in.
    Voting,
    /// The decision is being logged.
    Deciding(Decision),
    /// It is decided, and participants are told.
    Decided(Decision),
    /// It is over.
    Forgotten(Decision),
}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct TwoPhaseCommit {
    settings: Written,
    phase: Phase,
    all: Those,
    yes: Those,
    no: Those,
    /// Have acknowledged the decision, or need not be told.
    told: Those,
    /// A message about the decision is under way.
    under_way: Those,
    wake: Option<Time>,
}

impl Algorithm for TwoPhaseCommit {
    type Settings = TwoPhaseCommitSettings;

    fn new(settings: &TwoPhaseCommitSettings, _now: Time) -> Self {
        Self {
            settings: settings.0,
            phase: Phase::Initial,
            all: Those::default(),
            yes: Those::default(),
            no: Those::default(),
            told: Those::default(),
            under_way: Those::default(),
            wake: None,
        }
    }
}

impl TwoPhaseCommit {
    fn presumes_abort(&self) -> bool {
        self.settings.presumption == Presumption::Abort
    }

    fn ask_for_votes(&mut self, now: Time, todo: &mut Vec<Command>) {
        self.phase = Phase::Voting;
        self.wake = Some(now + self.settings.vote_timeout);
        todo.extend(self.all.each().map(|one| Command::Send(one, Request::Prepare)));
    }

    /// The decision is made; it counts once it is logged.
    fn decide(&mut self, now: Time, decision: Decision, todo: &mut Vec<Command>) {
        self.wake = None;
        if decision == Decision::Abort && self.presumes_abort() {
            self.tell_all(now, decision, todo);
        } else {
            self.phase = Phase::Deciding(decision);
            todo.push(Command::Force(Record::Decided(decision)));
        }
    }

    fn tell_all(&mut self, now: Time, decision: Decision, todo: &mut Vec<Command>) {
        self.phase = Phase::Decided(decision);
        todo.push(Command::Tell(decision));
        // Who said no has aborted already.
        self.told = if decision == Decision::Abort { self.no } else { Those::default() };
        self.tell_again(now, decision, todo);
        if decision == Decision::Abort && self.presumes_abort() {
            self.forget(decision, todo);
        } else {
            self.end_if_told(todo);
        }
    }

    /// Tells those who have not acknowledged the decision and are not being told.
    fn tell_again(&mut self, now: Time, decision: Decision, todo: &mut Vec<Command>) {
        let request = match decision {
            Decision::Commit => Request::Commit,
            Decision::Abort => Request::Abort,
        };
        for one in self.all.without(self.told).without(self.under_way).each() {
            self.under_way.add(one);
            todo.push(Command::Send(one, request));
        }
        self.wake = Some(now + self.settings.retry);
    }

    fn end_if_told(&mut self, todo: &mut Vec<Command>) {
        if let Phase::Decided(decision) = self.phase
            && self.all.without(self.told).is_empty()
        {
            todo.push(Command::Write(Record::Ended));
            self.forget(decision, todo);
        }
    }

    fn forget(&mut self, decision: Decision, todo: &mut Vec<Command>) {
        self.phase = Phase::Forgotten(decision);
        self.wake = None;
        todo.push(Command::Forget);
    }
}

impl Transaction for TwoPhaseCommit {
    fn begin(&mut self, now: Time, participants: u8, todo: &mut Vec<Command>) {
        self.all = Those::first(participants);
        if self.presumes_abort() {
            self.ask_for_votes(now, todo);
        } else {
            self.phase = Phase::Starting;
            todo.push(Command::Force(Record::Began));
        }
    }

    fn on_logged(&mut self, now: Time, todo: &mut Vec<Command>) {
        match self.phase {
            Phase::Starting => self.ask_for_votes(now, todo),
            Phase::Deciding(decision) => self.tell_all(now, decision, todo),
            _ => {}
        }
    }

    fn on_reply(&mut self, now: Time, from: u8, to: Request, reply: Reply, todo: &mut Vec<Command>) {
        match (self.phase, to) {
            (Phase::Voting, Request::Prepare) => match reply {
                Reply::Done => {
                    self.yes.add(from);
                    if self.all.without(self.yes).is_empty() {
                        self.decide(now, Decision::Commit, todo);
                    }
                }
                Reply::Refused => {
                    self.no.add(from);
                    self.decide(now, Decision::Abort, todo);
                }
                Reply::Silent => self.decide(now, Decision::Abort, todo),
            },
            (Phase::Decided(_), Request::Commit | Request::Abort) => {
                self.under_way.remove(from);
                if reply == Reply::Done {
                    self.told.add(from);
                    self.end_if_told(todo);
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
            Phase::Voting => self.decide(now, Decision::Abort, todo),
            Phase::Decided(decision) => self.tell_again(now, decision, todo),
            _ => {}
        }
    }

    fn decision(&self) -> Option<Decision> {
        match self.phase {
            Phase::Initial => Some(Decision::Abort),
            Phase::Starting | Phase::Voting | Phase::Deciding(_) => None,
            Phase::Decided(decision) | Phase::Forgotten(decision) => Some(decision),
        }
    }

    fn recover(&mut self, now: Time, participants: u8, log: &[Record], todo: &mut Vec<Command>) {
        self.all = Those::first(participants);
        let decided = log.iter().find_map(|record| match record {
            Record::Decided(decision) => Some(*decision),
            _ => None,
        });
        match decided {
            _ if log.contains(&Record::Ended) => {
                self.forget(decided.unwrap_or(Decision::Abort), todo);
            }
            Some(decision) => self.tell_all(now, decision, todo),
            None if log.contains(&Record::Began) => self.decide(now, Decision::Abort, todo),
            // Nothing is known: whoever asks is told that it aborted.
            None => {
                todo.push(Command::Tell(Decision::Abort));
                self.forget(Decision::Abort, todo);
            }
        }
    }

    fn branch(&self) -> Branch {
        let guess = match self.settings.heuristic {
            Guess::Abort => Decision::Abort,
            Guess::Commit => Decision::Commit,
        };
        Branch::new(Rules {
            commits_alone: false,
            inquire_after: self.settings.inquire_after,
            cooperative: self.settings.cooperative,
            guess: self.settings.heuristic_after.map(|after| (after, guess)),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{AnyTransaction, Part, Start, Transaction as _, TransactionSettings};
    use super::*;
    use crate::random::{Key, Rng};

    const S: Duration = Duration::from_secs(1);

    fn coordinator(settings: &str) -> TwoPhaseCommit {
        let settings: TwoPhaseCommitSettings = serde_json::from_str(settings).expect("settings are right");
        TwoPhaseCommit::new(&settings, Time::ZERO)
    }

    fn told(act: impl FnOnce(&mut Vec<Command>)) -> Vec<Command> {
        let mut todo = Vec::new();
        act(&mut todo);
        todo
    }

    #[test]
    fn two_participants_commit() {
        use Command::{Force, Forget, Send, Tell, Write};
        let mut one = coordinator("{}");
        let now = Time::ZERO;
        let prepare = [Send(0, Request::Prepare), Send(1, Request::Prepare)];
        assert_eq!(told(|todo| one.begin(now, 2, todo)), prepare);
        assert_eq!(told(|todo| one.on_reply(now, 1, Request::Prepare, Reply::Done, todo)), []);
        let decided = Record::Decided(Decision::Commit);
        assert_eq!(told(|todo| one.on_reply(now, 0, Request::Prepare, Reply::Done, todo)), [Force(decided)]);
        assert_eq!(one.decision(), None, "what is not logged is not decided");
        let tell = [Tell(Decision::Commit), Send(0, Request::Commit), Send(1, Request::Commit)];
        assert_eq!(told(|todo| one.on_logged(now, todo)), tell);
        assert_eq!(told(|todo| one.on_reply(now, 0, Request::Commit, Reply::Done, todo)), []);
        assert_eq!(told(|todo| one.on_reply(now, 1, Request::Commit, Reply::Silent, todo)), []);
        assert_eq!(one.next_wakeup(), Some(now + S));
        assert_eq!(told(|todo| one.on_wakeup(now + S, todo)), [Send(1, Request::Commit)]);
        let end = [Write(Record::Ended), Forget];
        assert_eq!(told(|todo| one.on_reply(now + S, 1, Request::Commit, Reply::Done, todo)), end);
    }

    /// What each presumption forces and tells when one of two says no.
    #[test]
    fn what_goes_without_saying_is_not_said() {
        use Command::{Force, Forget, Send, Tell};
        let now = Time::ZERO;
        let mut one = coordinator("{}");
        told(|todo| one.begin(now, 2, todo));
        let all = [Tell(Decision::Abort), Send(0, Request::Abort), Forget];
        assert_eq!(told(|todo| one.on_reply(now, 1, Request::Prepare, Reply::Refused, todo)), all);

        let mut one = coordinator(r#"{"presumption": "nothing"}"#);
        assert_eq!(told(|todo| one.begin(now, 2, todo)), [Force(Record::Began)]);
        told(|todo| one.on_logged(now, todo));
        let decided = Record::Decided(Decision::Abort);
        assert_eq!(
            told(|todo| one.on_reply(now, 1, Request::Prepare, Reply::Refused, todo)),
            [Force(decided)]
        );
        assert_eq!(told(|todo| one.on_logged(now, todo)), [Tell(Decision::Abort), Send(0, Request::Abort)]);
    }

    #[test]
    fn votes_are_not_waited_for_for_ever() {
        let mut one = coordinator(r#"{"vote-timeout": "3s"}"#);
        told(|todo| one.begin(Time::ZERO, 2, todo));
        assert_eq!(one.next_wakeup(), Some(Time::from_secs(3)));
        let todo = told(|todo| one.on_wakeup(Time::from_secs(3), todo));
        assert_eq!(todo.first(), Some(&Command::Tell(Decision::Abort)));
    }

    #[test]
    fn settings_are_checked() {
        assert!(serde_json::from_str::<TwoPhaseCommitSettings>(r#"{"retry": "0s"}"#).is_err());
    }

    /// A whole system in which everything goes wrong at random: messages are lost, doubled and overtake each other, the
    /// coordinator and the participants crash at any moment and lose whatever was not forced.
    struct System {
        settings: TransactionSettings,
        rng: Rng,
        now: Time,
        coordinator: Option<AnyTransaction>,
        known: bool,
        log: Vec<Record>,
        forcing: Option<Record>,
        branches: Vec<Branch>,
        /// Whether the work of each goes on.
        working: Vec<bool>,
        asked: Vec<Time>,
        messages: Vec<Message>,
        told: Option<Decision>,
    }

    #[derive(Clone, Copy)]
    enum Message {
        Ask(u8, Request),
        Answer(u8, Request, Reply),
    }

    impl System {
        fn new(settings: TransactionSettings, participants: u8, seed: u64) -> Self {
            let mut coordinator = settings.build(Time::ZERO);
            let branches = vec![coordinator.branch(); participants.into()];
            let mut todo = Vec::new();
            coordinator.begin(Time::ZERO, participants, &mut todo);
            let count = usize::from(participants);
            let mut system = Self {
                settings,
                rng: Key::new(seed).rng(),
                now: Time::ZERO,
                coordinator: Some(coordinator),
                known: true,
                log: Vec::new(),
                forcing: None,
                branches,
                working: vec![false; count],
                asked: vec![Time::ZERO; count],
                messages: Vec::new(),
                told: None,
            };
            system.carry_out(todo);
            system
        }

        fn carry_out(&mut self, todo: Vec<Command>) {
            for command in todo {
                match command {
                    Command::Send(to, request) => self.messages.push(Message::Ask(to, request)),
                    Command::Force(record) => {
                        assert_eq!(self.forcing.replace(record), None, "one record at a time");
                    }
                    Command::Write(record) => {
                        if self.rng.index(2) == 0 {
                            self.log.push(record);
                        }
                    }
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

        fn with_coordinator(&mut self, act: impl FnOnce(&mut AnyTransaction, Time, &mut Vec<Command>)) {
            let mut todo = Vec::new();
            if let Some(coordinator) = &mut self.coordinator {
                act(coordinator, self.now, &mut todo);
            }
            self.carry_out(todo);
        }

        fn deliver(&mut self, at: usize) {
            match self.messages.swap_remove(at) {
                Message::Ask(to, Request::Prepare) => match self.branches[usize::from(to)].start() {
                    Start::Work => self.working[usize::from(to)] = true,
                    Start::Known => self.messages.push(Message::Answer(to, Request::Prepare, Reply::Done)),
                    Start::Refuse => {
                        self.messages.push(Message::Answer(to, Request::Prepare, Reply::Refused));
                    }
                },
                Message::Ask(to, request) => {
                    let decision =
                        if request == Request::Commit { Decision::Commit } else { Decision::Abort };
                    self.branches[usize::from(to)].decide(decision);
                    self.messages.push(Message::Answer(to, request, Reply::Done));
                }
                Message::Answer(from, to, reply) => {
                    self.with_coordinator(|one, now, todo| one.on_reply(now, from, to, reply, todo));
                }
            }
        }

        fn work_ends(&mut self, at: usize, well: bool) {
            if std::mem::replace(&mut self.working[at], false) {
                let yes = well && self.branches[at].done(self.now);
                if !yes {
                    self.branches[at].failed();
                }
                let reply = if yes { Reply::Done } else { Reply::Refused };
                self.messages.push(Message::Answer(at as u8, Request::Prepare, reply));
            }
        }

        fn log_it(&mut self) {
            if let Some(record) = self.forcing.take() {
                self.log.push(record);
                self.with_coordinator(AnyTransaction::on_logged);
            }
        }

        fn inquire(&mut self, at: usize) {
            self.asked[at] = self.now;
            let known = match &self.coordinator {
                Some(coordinator) => coordinator.decision(),
                // Whoever has forgotten it says so; whoever is down says nothing.
                None if !self.known => Some(Decision::Abort),
                None => None,
            };
            let others = (0..self.branches.len()).filter(|&other| other != at);
            let cooperative = self.branches[at].is_cooperative();
            let heard = known.or_else(|| {
                let mut answers = others.map(|other| self.branches[other].answer());
                if cooperative { answers.find_map(|answer| answer) } else { None }
            });
            if let Some(decision) = heard {
                self.branches[at].decide(decision);
            }
        }

        fn crash(&mut self) {
            if self.known {
                self.coordinator = None;
                self.forcing = None;
            }
        }

        fn recover(&mut self) {
            if self.known && self.coordinator.is_none() {
                let mut coordinator = self.settings.build(self.now);
                let mut todo = Vec::new();
                coordinator.recover(self.now, self.branches.len() as u8, &self.log, &mut todo);
                self.coordinator = Some(coordinator);
                self.carry_out(todo);
            }
        }

        fn wake(&mut self) {
            if let Some(at) = self.coordinator.as_ref().and_then(Transaction::next_wakeup) {
                self.now = self.now.max(at);
                self.with_coordinator(AnyTransaction::on_wakeup);
            }
            for at in 0..self.branches.len() {
                let Some((due, guess)) = self.branches[at].next_wakeup(self.asked[at]) else { continue };
                self.now = self.now.max(due);
                match guess {
                    Some(guess) => self.branches[at].guess(guess),
                    None => self.inquire(at),
                }
            }
        }

        fn something(&mut self) {
            let one = self.rng.index(self.branches.len() as u32) as usize;
            let message =
                (!self.messages.is_empty()).then(|| self.rng.index(self.messages.len() as u32) as usize);
            self.now += Duration::from_millis(self.rng.index(700).into());
            match (self.rng.index(16), message) {
                (0..=5, Some(at)) => self.deliver(at),
                (6, Some(at)) => {
                    // Lost; whoever sent a request learns that there is no answer.
                    let lost = self.messages.swap_remove(at);
                    let (Message::Ask(to, request) | Message::Answer(to, request, _)) = lost;
                    self.messages.push(Message::Answer(to, request, Reply::Silent));
                }
                (7, Some(at)) => self.messages.push(self.messages[at]),
                (8, _) => self.crash(),
                (9, _) => self.recover(),
                (10, _) => {
                    self.working[one] = false;
                    self.branches[one].lost();
                }
                (11, _) => self.wake(),
                (12, _) => self.log_it(),
                (13, _) => self.inquire_if_due(one),
                (_, _) => {
                    let well = self.rng.index(8) > 0;
                    self.work_ends(one, well);
                }
            }
        }

        fn inquire_if_due(&mut self, at: usize) {
            if matches!(self.branches[at].part(), Part::InDoubt { .. }) {
                self.inquire(at);
            }
        }

        /// Everybody is well again; whatever is under way comes to its end.
        fn heal(&mut self) {
            for _ in 0..200 {
                self.recover();
                self.log_it();
                for at in 0..self.branches.len() {
                    self.work_ends(at, true);
                }
                while !self.messages.is_empty() {
                    self.deliver(0);
                    self.log_it();
                }
                self.wake();
            }
        }
    }

    fn settings(variant: u32) -> TransactionSettings {
        let text = match variant {
            0 => "{}",
            1 => r#"{"presumption": "nothing"}"#,
            2 => r#"{"cooperative": true}"#,
            3 => r#"{"presumption": "nothing", "cooperative": true, "vote-timeout": "2s"}"#,
            _ => r#"{"heuristic-after": "3s", "heuristic": "commit"}"#,
        };
        serde_json::from_str(&format!(r#"{{"two-phase-commit": {text}}}"#)).expect("settings are right")
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Never does one commit and another abort, except where somebody guessed, and that is noticed; what was decided stays so; and
        /// in the end nobody holds a lock.
        #[test]
        fn all_or_nothing(seed: u64, participants in 1_u8..5, variant in 0_u32..5, steps in 0_u32..120) {
            let mut system = System::new(settings(variant), participants, seed);
            for _ in 0..steps {
                system.something();
                let parts = || system.branches.iter().map(Branch::part);
                let committed = parts().any(|part| part == Part::Committed);
                prop_assert!(!(committed && parts().any(|part| part == Part::Aborted)), "half of it");
                if committed {
                    prop_assert!(system.log.contains(&Record::Decided(Decision::Commit)), "nobody decided that");
                }
                if system.told == Some(Decision::Commit) {
                    prop_assert!(parts().all(|part| !matches!(part, Part::Aborted | Part::Idle)));
                }
            }
            system.heal();
            let ends: Vec<Part> = system.branches.iter().map(Branch::part).collect();
            prop_assert!(!system.known, "the coordinator is done: {ends:?}");
            for (branch, part) in system.branches.iter().zip(&ends) {
                prop_assert!(!branch.holds_locks(), "a lock is held for ever: {ends:?}");
                let guessed = matches!(part, Part::Guessed(_));
                prop_assert!(!guessed || variant == 4);
                let end = if system.told == Some(Decision::Commit) { Part::Committed } else { Part::Aborted };
                let idle = end == Part::Aborted && *part == Part::Idle;
                prop_assert!(guessed || idle || *part == end, "told {:?}: {ends:?}", system.told);
                if let Part::Guessed(guess) = part {
                    let wrong = Some(*guess) != system.told;
                    prop_assert!(branch.is_damaged() == wrong || system.told == Some(Decision::Abort));
                }
            }
        }
    }
}
