//! Transactions over several services: all of them do their part, or none does.
//!
//! A transaction has one *coordinator* and some *participants*, each with its *branch*: its part of the work. Both are state
//! machines without clock, log or network. Whoever runs them carries out the [`Command`]s of the coordinator, hands it the answers, forces
//! its [`Record`]s to a log, and after a crash gives it that log back; branches keep theirs by the rules of [`Branch`].

pub mod saga;
pub mod two_phase_commit;

use crate::time::{Duration, Time};

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Everything is done.
    Commit,
    /// Nothing is.
    Abort,
}

/// What a coordinator asks of a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Do your part. In two-phase commit: so that you can still go either way.
    Prepare,
    /// Make it last.
    Commit,
    /// Undo it, or never do it.
    Abort,
}

/// How a participant answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It did what it was asked for.
    Done,
    /// It will not. It has done nothing, and nothing is left of what it began.
    Refused,
    /// Nobody knows: no answer came, or an error that says nothing.
    Silent,
}

/// An entry of the coordinator's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// There is such a transaction.
    Began,
    /// The participant at this position has done its part.
    Did(u8),
    /// How it ends.
    Decided(Decision),
    /// The participant at this position has undone its part.
    Undid(u8),
    /// Nobody has to be told anything any more.
    Ended,
}

/// What a coordinator wants done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send a request to the participant at this position; answer with [`Transaction::on_reply`].
    Send(u8, Request),
    /// Write this to the log, and answer with [`Transaction::on_logged`] when it would survive a crash. There is never more than
    /// one under way.
    Force(Record),
    /// Write this to the log some time.
    Write(Record),
    /// Tell whoever wanted the transaction how it ends.
    Tell(Decision),
    /// A participant would not be told, however often it was asked; somebody has to see to it by hand.
    Stuck(u8),
    /// Forget the transaction: nobody will ask for it, or whoever does is told that it aborted.
    Forget,
}

/// A coordinator: asked by nobody, told of answers, woken.
pub trait Transaction {
    /// Begins, with so many participants (1 to [`MOST_PARTICIPANTS`]).
    fn begin(&mut self, now: Time, participants: u8, todo: &mut Vec<Command>);

    /// What was to be forced is in the log.
    fn on_logged(&mut self, now: Time, todo: &mut Vec<Command>);

    /// The participant at `from` answered `to` that request.
    fn on_reply(&mut self, now: Time, from: u8, to: Request, reply: Reply, todo: &mut Vec<Command>);

    /// When it wants to be woken.
    fn next_wakeup(&self) -> Option<Time>;

    /// It is as late as it wanted to be woken, or later.
    fn on_wakeup(&mut self, now: Time, todo: &mut Vec<Command>);

    /// What a participant in doubt is told; `None` while nothing is decided. A transaction that the coordinator has forgotten, or
    /// never knew, has aborted.
    fn decision(&self) -> Option<Decision>;

    /// A fresh coordinator learns after a crash what the log holds.
    fn recover(&mut self, now: Time, participants: u8, log: &[Record], todo: &mut Vec<Command>);

    /// The part of a participant that has not been asked for anything.
    fn branch(&self) -> Branch;
}

/// Most participants of one transaction: they are kept in the bits of a word.
pub const MOST_PARTICIPANTS: u8 = 32;

/// Set of participants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Those(u32);

impl Those {
    pub(crate) const fn first(count: u8) -> Self {
        Self(if count >= 32 { u32::MAX } else { (1 << count) - 1 })
    }

    pub(crate) const fn has(self, one: u8) -> bool {
        self.0 & 1 << one != 0
    }

    pub(crate) const fn add(&mut self, one: u8) {
        self.0 |= 1 << one;
    }

    pub(crate) const fn remove(&mut self, one: u8) {
        self.0 &= !(1 << one);
    }

    pub(crate) const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn each(self) -> impl Iterator<Item = u8> {
        (0..32).filter(move |&one| self.has(one))
    }
}

/// Where the part of one participant stands. Everything but `Working` survives a crash of the participant: it has been forced
/// to its log before anybody heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Nothing has been done.
    Idle,
    /// The work goes on.
    Working,
    /// Done so that it can go either way, and locked until somebody says which.
    InDoubt {
        /// Since when.
        since: Time,
    },
    /// Done for good, unless it is undone by another piece of work.
    Committed,
    /// Not done, or undone; whatever comes later finds nothing to do.
    Aborted,
    /// Nobody said which way, so somebody at the participant chose one.
    Guessed(Decision),
}

/// What becomes of a request to do the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Do it.
    Work,
    /// It has been done; say yes again.
    Known,
    /// Say no.
    Refuse,
}

/// The part of one participant in one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    part: Part,
    rules: Rules,
    /// The decision contradicted what somebody had guessed.
    damaged: bool,
}

/// How a branch behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What is done is committed at once; undoing it is another piece of work.
    pub commits_alone: bool,
    /// In doubt for so long, it asks the coordinator, and again after each such time.
    pub inquire_after: Duration,
    /// It asks the other participants, too.
    pub cooperative: bool,
    /// In doubt for so long, it guesses this.
    pub guess: Option<(Duration, Decision)>,
}

impl Branch {
    /// Nothing has been asked for yet.
    pub const fn new(rules: Rules) -> Self {
        Self { part: Part::Idle, rules, damaged: false }
    }

    /// Where it stands.
    pub const fn part(&self) -> Part {
        self.part
    }

    /// Whether the decision contradicted what somebody had guessed here.
    pub const fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// Whether it may not let go of what it has locked.
    pub const fn holds_locks(&self) -> bool {
        matches!(self.part, Part::Working | Part::InDoubt { .. })
    }

    /// A request to do the work has come, perhaps not the first one.
    pub const fn start(&mut self) -> Start {
        match self.part {
            Part::Idle | Part::Working => {
                self.part = Part::Working;
                Start::Work
            }
            Part::InDoubt { .. } | Part::Committed | Part::Guessed(Decision::Commit) => Start::Known,
            Part::Aborted | Part::Guessed(Decision::Abort) => Start::Refuse,
        }
    }

    /// The work is done and logged. Whether the answer is yes.
    pub const fn done(&mut self, now: Time) -> bool {
        match self.part {
            Part::Working => {
                self.part =
                    if self.rules.commits_alone { Part::Committed } else { Part::InDoubt { since: now } };
                true
            }
            Part::InDoubt { .. } | Part::Committed | Part::Guessed(Decision::Commit) => true,
            Part::Idle | Part::Aborted | Part::Guessed(Decision::Abort) => false,
        }
    }

    /// The work failed, which the participant says. In two-phase commit that is a no for good.
    pub const fn failed(&mut self) {
        if matches!(self.part, Part::Working) {
            self.part = if self.rules.commits_alone { Part::Idle } else { Part::Aborted };
        }
    }

    /// The participant crashed in the middle of the work, or it was cancelled: nothing is left of it.
    pub const fn lost(&mut self) {
        if matches!(self.part, Part::Working) {
            self.part = Part::Idle;
        }
    }

    /// The coordinator, or somebody who knows, says how it ends. Whether that changed something.
    pub fn decide(&mut self, decision: Decision) -> bool {
        let before = self.part;
        self.part = match (before, decision) {
            (Part::InDoubt { .. }, Decision::Commit) => Part::Committed,
            (Part::Guessed(guess), _) => {
                self.damaged |= guess != decision;
                before
            }
            (Part::Committed, Decision::Commit) => before,
            (Part::Committed, Decision::Abort) => {
                assert!(self.rules.commits_alone, "a branch that committed is told to abort");
                Part::Aborted
            }
            (Part::Idle | Part::Working | Part::InDoubt { .. } | Part::Aborted, Decision::Abort) => {
                Part::Aborted
            }
            (Part::Idle | Part::Working | Part::Aborted, Decision::Commit) => {
                unreachable!("a branch that never said yes is told to commit")
            }
        };
        self.part != before
    }

    /// What it tells another participant that is in doubt. One that has not said yes will now never do so.
    pub const fn answer(&mut self) -> Option<Decision> {
        match self.part {
            Part::InDoubt { .. } => None,
            Part::Committed | Part::Guessed(Decision::Commit) => Some(Decision::Commit),
            Part::Aborted | Part::Guessed(Decision::Abort) => Some(Decision::Abort),
            Part::Idle | Part::Working => {
                self.part = Part::Aborted;
                Some(Decision::Abort)
            }
        }
    }

    /// When it next does something about its doubt, the last time having been `asked`; whether it asks, or guesses.
    pub fn next_wakeup(&self, asked: Time) -> Option<(Time, Option<Decision>)> {
        let Part::InDoubt { since } = self.part else { return None };
        let ask = asked.max(since) + self.rules.inquire_after;
        match self.rules.guess {
            Some((after, guess)) if since + after <= ask => Some((since + after, Some(guess))),
            _ => Some((ask, None)),
        }
    }

    /// Whether it asks the other participants, too.
    pub const fn is_cooperative(&self) -> bool {
        self.rules.cooperative
    }

    /// Somebody at the participant decides without knowing.
    pub const fn guess(&mut self, guess: Decision) {
        if matches!(self.part, Part::InDoubt { .. }) {
            self.part = Part::Guessed(guess);
        }
    }
}

registry! {
    ($)
    /// A protocol of transactions and its settings, as written in a scenario.
    TransactionSettings,
    /// Any coordinator, by value.
    AnyTransaction: Transaction,
    family "transaction" in "transaction",
    "two-phase-commit" => two_phase_commit::TwoPhaseCommit,
    "saga" => saga::Saga,
}

impl Transaction for AnyTransaction {
    fn begin(&mut self, now: Time, participants: u8, todo: &mut Vec<Command>) {
        dispatch!(self, policy => policy.begin(now, participants, todo));
    }

    fn on_logged(&mut self, now: Time, todo: &mut Vec<Command>) {
        dispatch!(self, policy => policy.on_logged(now, todo));
    }

    fn on_reply(&mut self, now: Time, from: u8, to: Request, reply: Reply, todo: &mut Vec<Command>) {
        dispatch!(self, policy => policy.on_reply(now, from, to, reply, todo));
    }

    fn next_wakeup(&self) -> Option<Time> {
        dispatch!(self, policy => policy.next_wakeup())
    }

    fn on_wakeup(&mut self, now: Time, todo: &mut Vec<Command>) {
        dispatch!(self, policy => policy.on_wakeup(now, todo));
    }

    fn decision(&self) -> Option<Decision> {
        dispatch!(self, policy => policy.decision())
    }

    fn recover(&mut self, now: Time, participants: u8, log: &[Record], todo: &mut Vec<Command>) {
        dispatch!(self, policy => policy.recover(now, participants, log, todo));
    }

    fn branch(&self) -> Branch {
        dispatch!(self, policy => policy.branch())
    }
}
