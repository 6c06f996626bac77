//! The numbered vote of the project that simlab grew from: a bigger number wins votes, more than half of them make a master.
//!
//! ## What it does
//! At the start there is no master. A member that has heard none for a `period` raises its own number by one, votes for itself
//! and broadcasts the number. Whoever has seen no number as big as that takes it over and gives its vote. With votes from more
//! than half of all seats it is the master and sends a heartbeat every `heartbeat`. Who does not get them within
//! `vote-timeout` waits once or twice that long, drawn anew, and raises its number again.
//!
//! ## When it helps
//! Short to write and to explain, and nobody outside the group is needed.
//!
//! ## How it fails
//! The master does not count who still hears it: cut off with a minority it goes on, and both sides accept writes until they
//! meet again. The vote does not look at logs, so a member that has missed writes may win; and one whose number ran ahead while
//! it was cut off turns a healthy master out.
//!
//! ## Settings
//! * `heartbeat` (default `1s`), `period` (default `3s`, more than a heartbeat), `vote-timeout` (default `1s`).
//!
//! ## Origin
//! simlab's own definition, after the master election in the articles that simlab grew from; pinned by its tests.
//!
//! ## Deliberate differences
//! None.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Election, Envelope, From, Place, Seat, Standing, To};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `election.majority-vote`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct MajorityVoteSettings(Written);

/// The settings before they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "MajorityVoteSettings")]
struct Written {
    /// Time between two heartbeats of the master.
    heartbeat: Duration,
    /// Silence after which the master counts as lost.
    period: Duration,
    /// How long a candidate waits for votes.
    vote_timeout: Duration,
}

impl Default for Written {
    fn default() -> Self {
        let second = Duration::from_secs(1);
        Self { heartbeat: second, period: second * 3, vote_timeout: second }
    }
}

impl TryFrom<Written> for MajorityVoteSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if written.heartbeat == Duration::ZERO || written.vote_timeout == Duration::ZERO {
            return Err("heartbeat and vote-timeout must be more than zero".to_owned());
        }
        if written.period <= written.heartbeat {
            return Err("period must be more than heartbeat, or every master is lost at once".to_owned());
        }
        Ok(Self(written))
    }
}

/// What members say to each other, each with the number that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// I want to be master under this number.
    Raise(u64),
    /// You have my vote for it.
    Vote(u64),
    /// I am the master under this number.
    Heartbeat(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Off,
    /// It watches the master, or waits before it raises its number (again).
    Slave,
    /// It counts votes.
    Candidate,
    Master,
}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct MajorityVote {
    settings: Written,
    place: Place,
    /// The biggest number it has seen; its vote for that is given.
    number: u64,
    role: Role,
    /// By seat: who voted for it.
    votes: u64,
    /// When it acts next.
    next: Time,
}

impl Algorithm for MajorityVote {
    type Settings = MajorityVoteSettings;

    fn new(settings: &MajorityVoteSettings, now: Time) -> Self {
        let place = Place { me: Seat(0), seats: 1 };
        Self { settings: settings.0, place, number: 0, role: Role::Off, votes: 0, next: now }
    }
}

impl MajorityVote {
    #[expect(clippy::unused_self, reason = "reads like the other steps")]
    fn send(&self, to: To, message: Message, out: &mut Vec<Envelope>) {
        out.push(Envelope { to, message: super::Message::Vote(message) });
    }

    fn count(&mut self, now: Time, out: &mut Vec<Envelope>) {
        if self.votes.count_ones() >= self.place.majority() {
            self.role = Role::Master;
            self.next = now + self.settings.heartbeat;
            self.send(To::Others, Message::Heartbeat(self.number), out);
        }
    }

    /// Somebody else has a number that is bigger, or leads under one as big.
    fn follow(&mut self, now: Time, number: u64) {
        self.number = number;
        self.role = Role::Slave;
        self.next = now + self.settings.period;
    }

    fn wait(&mut self, now: Time, rng: &mut Rng) {
        let patience = self.settings.vote_timeout;
        self.role = Role::Slave;
        self.next = now + patience + Duration::from_ns_f64(rng.unit() * patience.0 as f64);
    }
}

impl Election for MajorityVote {
    fn on_start(
        &mut self,
        now: Time,
        place: Place,
        _standing: Standing,
        _rng: &mut Rng,
        _out: &mut Vec<Envelope>,
    ) {
        self.place = place;
        self.follow(now, self.number);
    }

    fn on_message(
        &mut self,
        now: Time,
        from: From,
        message: &super::Message,
        _standing: Standing,
        _rng: &mut Rng,
        out: &mut Vec<Envelope>,
    ) {
        let (super::Message::Vote(message), From::Member(from)) = (*message, from) else { return };
        if self.role == Role::Off {
            return;
        }
        match message {
            Message::Raise(number) if number > self.number => {
                self.follow(now, number);
                self.send(To::Member(from), Message::Vote(number), out);
            }
            Message::Vote(number) if number == self.number && self.role == Role::Candidate => {
                self.votes |= 1 << from.0;
                self.count(now, out);
            }
            Message::Heartbeat(number) if number >= self.number => self.follow(now, number),
            _ => {}
        }
    }

    fn on_wakeup(&mut self, now: Time, standing: Standing, rng: &mut Rng, out: &mut Vec<Envelope>) {
        if now < self.next {
            return;
        }
        match self.role {
            Role::Off => {}
            Role::Master => {
                self.next = now + self.settings.heartbeat;
                self.send(To::Others, Message::Heartbeat(self.number), out);
            }
            Role::Candidate => self.wait(now, rng),
            Role::Slave if !standing.eligible => self.wait(now, rng),
            Role::Slave => {
                self.number += 1;
                self.role = Role::Candidate;
                self.votes = 1 << self.place.me.0;
                self.next = now + self.settings.vote_timeout;
                self.send(To::Others, Message::Raise(self.number), out);
                self.count(now, out);
            }
        }
    }

    fn on_shutdown(&mut self, _now: Time, _out: &mut Vec<Envelope>) {
        self.role = Role::Off;
    }

    fn next_wakeup(&self) -> Option<Time> {
        (self.role != Role::Off).then_some(self.next)
    }

    fn is_leader(&self) -> bool {
        self.role == Role::Master
    }

    fn term(&self) -> u64 {
        self.number
    }
}
