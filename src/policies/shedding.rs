//! Shedding: turn work away at a queue, or drop it when its turn comes.

pub mod codel;
pub mod deadline;
pub mod failsafe_go_priority;

use crate::random::Rng;
use crate::time::{Duration, Time};

/// Work that would have to wait, and the queue that it would wait in.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer {
    /// Priority of the work; larger is more important.
    pub priority: u8,
    /// How many wait already.
    pub waiting: u32,
    /// How many can be worked on at a time.
    pub workers: u32,
}

/// Work whose turn has come.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Priority of the work; larger is more important.
    pub priority: u8,
    /// How many still wait.
    pub waiting: u32,
    /// For how long it has waited; nothing, if a worker was free when it came.
    pub waited: Duration,
    /// How much longer its caller waits; `None` if nothing says so, zero if no longer.
    pub left: Option<Duration>,
}

/// Decides over each piece of work that enters or leaves a queue.
pub trait Shedding {
    /// Is work turned away that comes while every worker is busy? `rng` is the same as in [`Shedding::drops`] for the same
    /// work.
    fn turns_away(&mut self, _now: Time, _newcomer: &Newcomer, _rng: &mut Rng) -> bool {
        false
    }

    /// Is the work whose turn has come dropped?
    fn drops(&mut self, now: Time, turn: &Turn, rng: &mut Rng) -> bool;

    /// What charts show: named readings at `now`.
    fn gauges(&self, _now: Time, _show: &mut dyn FnMut(&'static str, f64)) {}
}

registry! {
    ($)
    /// A way of shedding and its settings, as written in a scenario.
    SheddingSettings,
    /// Any way of shedding, by value.
    AnyShedding: Shedding,
    family "shedding" in "shedding",
    "codel" => codel::Codel,
    "deadline" => deadline::Deadline,
    "failsafe-go-priority" => failsafe_go_priority::FailsafeGoPriority,
}

impl Shedding for AnyShedding {
    #[inline]
    fn turns_away(&mut self, now: Time, newcomer: &Newcomer, rng: &mut Rng) -> bool {
        dispatch!(self, policy => policy.turns_away(now, newcomer, rng))
    }

    #[inline]
    fn drops(&mut self, now: Time, turn: &Turn, rng: &mut Rng) -> bool {
        dispatch!(self, policy => policy.drops(now, turn, rng))
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        dispatch!(self, policy => policy.gauges(now, show));
    }
}
