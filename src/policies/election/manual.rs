//! Master and slaves by hand: the first seat is the master until an operator promotes another.
//!
//! ## What it does
//! Nothing by itself. Each promotion gets the next number; the master repeats its number every `announce`, and who hears a
//! bigger one than its own is a slave from then on. A master that is started anew is the master again, unless it has heard of
//! another.
//!
//! ## When it helps
//! Where a wrong failover costs more than a long outage, and somebody is on call.
//!
//! ## How it fails
//! The outage lasts until a human has noticed, decided and acted. An old master that comes back before it has heard of the new
//! one accepts writes that nobody will keep.
//!
//! ## Settings
//! * `announce` (default `1s`): how often the master says that it is the master.
//!
//! ## Origin
//! simlab's own definition, after the master/slave switch in the articles that simlab grew from; pinned by its tests.
//!
//! ## Deliberate differences
//! None.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Election, Envelope, From, Place, Seat, Standing, To};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `election.manual`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct ManualSettings(Written);

/// The settings before they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "ManualSettings")]
struct Written {
    /// How often the master says that it is the master.
    announce: Duration,
}

impl Default for Written {
    fn default() -> Self {
        Self { announce: Duration::from_secs(1) }
    }
}

impl TryFrom<Written> for ManualSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if written.announce == Duration::ZERO {
            return Err("announce must be more than zero".to_owned());
        }
        Ok(Self(written))
    }
}

/// I am the master since the promotion of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message(u64);

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Manual {
    announce: Duration,
    /// Number of the last promotion that it knows of; 0 is how it began.
    number: u64,
    /// It is that master, by what its disk says.
    master: bool,
    /// Its process runs.
    on: bool,
    next: Time,
}

impl Algorithm for Manual {
    type Settings = ManualSettings;

    fn new(settings: &ManualSettings, now: Time) -> Self {
        Self { announce: settings.0.announce, number: 0, master: false, on: false, next: now }
    }
}

impl Manual {
    fn claim(&mut self, now: Time, out: &mut Vec<Envelope>) {
        self.next = now + self.announce;
        out.push(Envelope { to: To::Others, message: super::Message::Manual(Message(self.number)) });
    }
}

impl Election for Manual {
    fn on_start(
        &mut self,
        now: Time,
        place: Place,
        _standing: Standing,
        _rng: &mut Rng,
        out: &mut Vec<Envelope>,
    ) {
        self.on = true;
        if self.number == 0 {
            self.master = place.me == Seat(0);
        }
        if self.master {
            self.claim(now, out);
        }
    }

    fn on_message(
        &mut self,
        _now: Time,
        _from: From,
        message: &super::Message,
        _standing: Standing,
        _rng: &mut Rng,
        _out: &mut Vec<Envelope>,
    ) {
        if let super::Message::Manual(Message(number)) = *message
            && number > self.number
        {
            self.number = number;
            self.master = false;
        }
    }

    fn on_wakeup(&mut self, now: Time, _standing: Standing, _rng: &mut Rng, out: &mut Vec<Envelope>) {
        if self.is_leader() && now >= self.next {
            self.claim(now, out);
        }
    }

    fn on_shutdown(&mut self, _now: Time, _out: &mut Vec<Envelope>) {
        self.on = false;
    }

    fn on_promote(&mut self, now: Time, out: &mut Vec<Envelope>) -> bool {
        self.number += 1;
        self.master = true;
        self.claim(now, out);
        true
    }

    fn next_wakeup(&self) -> Option<Time> {
        self.is_leader().then_some(self.next)
    }

    fn is_leader(&self) -> bool {
        self.on && self.master
    }

    fn term(&self) -> u64 {
        self.number
    }
}
