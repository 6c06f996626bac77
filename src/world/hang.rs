//! Hanging instances: nothing moves inside, connections stay open, and all of it goes on later where it stood.
//!
//! Steps on a core pause, and go on for exactly as long as they had left. A wait that ends, an answer that arrives, an
//! attempt that is taken in: each is acted upon when the instance goes on. So are the ends of patience and the retries of
//! its own calls; only their timeouts are noticed in time, by whoever measures them.

use crate::kernel::queue::{Payload, Queue};
use crate::policies::view::Class;
use crate::time::{Duration, Time};

use super::backlog::BacklogTicket;
use super::frame::{EVENT, LINKED, NIL, ON_CPU, OWED, PATIENCE};
use super::instance::State;
use super::program::PoolTicket;
use super::transaction::WaitTicket;
use super::{Flow, STEP, World};

/// What waits for the end of a hang.
#[derive(Debug, Default)]
pub(super) struct Hang {
    /// Hang faults in force.
    faults: u32,
    pub(super) since: Time,
    /// Cores in use when it began, and since.
    pub(super) running: u32,
    /// Steps that ran when it began, or were about to: frame and what is left.
    pub(super) held: Vec<(u32, Duration)>,
    /// Steps that have to go on for longer than their event says, because the instance hung meanwhile.
    pub(super) owed: Vec<(u32, Duration)>,
    /// Attempts that could go on, or (false) have to give up.
    pub(super) stalled: Vec<(u32, bool)>,
    late: Vec<Late>,
}

/// Something that was due during a hang.
#[derive(Clone, Copy, Debug)]
pub(super) enum Late {
    /// The patience of a queued attempt.
    Patience(u32),
    /// The wait for a connection.
    Pool(PoolTicket),
    /// The wait for a row.
    Row(WaitTicket),
    /// The wait for room at a limiter.
    Unblock(BacklogTicket),
    /// Another attempt of a call, and when it was due.
    Retry(u32, Time),
    /// Another copy of a hedged call, and when it was due.
    Hedge(u32, Time),
}

impl Hang {
    /// The instance dies; what was late is told to whom it concerns.
    pub(super) fn lose(&mut self) -> Vec<Late> {
        self.running = 0;
        self.held.clear();
        self.owed.clear();
        self.stalled.clear();
        std::mem::take(&mut self.late)
    }

    /// The step of `slot` is over early.
    pub(super) fn forget(&mut self, slot: u32) {
        self.held.retain(|(frame, _)| *frame != slot);
        self.owed.retain(|(frame, _)| *frame != slot);
    }
}

impl World<'_> {
    /// Whether `slot` is at an instance that hangs.
    #[inline]
    pub(super) fn is_hung(&self, slot: u32) -> bool {
        let instance = self.frames[slot].instance;
        instance != NIL && self.instances[instance as usize].hung
    }

    /// `slot` goes on (or gives up) when its instance does. The list skips and releases it should it leave before.
    #[cold]
    pub(super) fn stall(&mut self, slot: u32, goes_on: bool) {
        let frame = &mut self.frames[slot];
        frame.flags |= LINKED;
        self.instances[frame.instance as usize].more.hang.stalled.push((slot, goes_on));
    }

    /// Something about an attempt at the hanging instance of `slot` is late.
    pub(super) fn postpone(&mut self, slot: u32, late: Late) {
        self.instances[self.frames[slot].instance as usize].more.hang.late.push(late);
    }

    /// A hang begins or ends. Several may overlap.
    pub(super) fn set_hung(&mut self, now: Time, queue: &mut Queue, index: u32, on: bool) -> Flow {
        let instance = &mut self.instances[index as usize];
        let faults = &mut instance.more.hang.faults;
        *faults = if on { *faults + 1 } else { faults.saturating_sub(1) };
        let hung = *faults > 0;
        if instance.hung == hung || instance.state == State::Dead {
            return Ok(());
        }
        let shared = instance.more.shared.is_some();
        if hung {
            instance.more.hang.since = now;
            if !shared {
                instance.more.hang.running = instance.running;
                instance.set_running(now, 0);
            }
            instance.hung = true;
            let service = instance.service;
            self.recount_leaders(now, service);
            self.set_speed(now, queue, index);
            return Ok(());
        }
        instance.hung = false;
        let service = instance.service;
        self.recount_leaders(now, service);
        let instance = &mut self.instances[index as usize];
        if !shared {
            let running = std::mem::take(&mut instance.more.hang.running);
            instance.set_running(now, running);
        }
        self.set_speed(now, queue, index);
        self.resume(now, queue, index)
    }

    /// Everything goes on where it stood.
    fn resume(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let hang = &mut self.instances[index as usize].more.hang;
        let lost = now - hang.since;
        let (held, stalled) = (std::mem::take(&mut hang.held), std::mem::take(&mut hang.stalled));
        let late = std::mem::take(&mut hang.late);
        // Steps whose event has not come yet owe the time that was lost.
        for slot in 0..self.frames.slots() {
            let frame = &mut self.frames[slot];
            if frame.instance == index && frame.has(ON_CPU | EVENT) {
                frame.flags |= OWED;
                self.instances[index as usize].more.hang.owed.push((slot, lost));
            }
        }
        for (slot, left) in held {
            self.frames[slot].flags |= EVENT;
            queue.push(now + left, Payload::new(STEP, slot));
        }
        for &(slot, _) in &stalled {
            self.frames[slot].pending += 1;
        }
        for (slot, goes_on) in stalled {
            self.frames[slot].flags &= !LINKED;
            if self.is_gone(slot) {
                continue;
            }
            if goes_on {
                self.go_on(now, queue, slot)?;
            } else {
                self.finish(now, queue, slot, Class::Failure)?;
            }
        }
        for late in late {
            self.catch_up_late(now, queue, late)?;
        }
        self.resume_pools(now, queue, index)
    }

    /// What was due during a hang happens now that it is over, or its instance dead.
    pub(super) fn catch_up_late(&mut self, now: Time, queue: &mut Queue, late: Late) -> Flow {
        match late {
            Late::Patience(slot) => {
                debug_assert!(self.frames[slot].has(PATIENCE));
                self.on_patience(now, queue, slot)
            }
            Late::Pool(ticket) => self.on_pool_wait(now, queue, ticket),
            Late::Row(ticket) => self.on_lock_overdue(now, queue, ticket),
            Late::Unblock(ticket) => self.on_unblock(now, queue, ticket),
            Late::Retry(call, due) => self.on_retry(now, queue, call, due),
            Late::Hedge(hedge, due) => self.on_hedge(now, queue, hedge, due),
        }
    }

    /// The event of `slot`'s step has come, but the instance hung while it ran: it goes on.
    #[cold]
    pub(super) fn pay_owed(&mut self, now: Time, queue: &mut Queue, slot: u32) {
        let frame = &mut self.frames[slot];
        frame.flags &= !OWED;
        let instance = &mut self.instances[frame.instance as usize];
        let hang = &mut instance.more.hang;
        let owed = hang.owed.iter().filter(|(owner, _)| *owner == slot);
        let owed = owed.fold(Duration::ZERO, |sum, (_, lost)| sum + *lost);
        hang.owed.retain(|(owner, _)| *owner != slot);
        if instance.hung {
            hang.held.push((slot, now - hang.since + owed));
        } else {
            frame.flags |= EVENT;
            queue.push(now + owed, Payload::new(STEP, slot));
        }
    }
}
