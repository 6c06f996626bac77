//! Calls that wait until a limiter of their caller has room for them.

use std::collections::VecDeque;
use std::mem::ManuallyDrop;

use crate::kernel::queue::{Payload, Queue};
use crate::policies::breaker::Breaker as _;
use crate::policies::limiter::{Limiter as _, WaitingRoom};
use crate::policies::view::{Admit, Class, Outcome};
use crate::time::{Duration, Time};

use super::call::{Job, LIMITER_SALT};
use super::control::Control;
use super::frame::NIL;
use super::hang::Late;
use super::{Flow, RETRY, World};

/// Who waits for a limiter.
pub(super) struct Backlog {
    room: WaitingRoom,
    /// The oldest first.
    calls: VecDeque<u32>,
}

/// A call that waits; stale once the call has another number.
#[derive(Clone, Copy, Debug)]
pub(super) struct BacklogTicket {
    call: u32,
    number: u64,
}

impl Backlog {
    pub(super) const fn new(room: WaitingRoom) -> Self {
        Self { room, calls: VecDeque::new() }
    }

    /// Everybody who waits.
    pub(super) fn calls(&self) -> impl Iterator<Item = u32> + '_ {
        self.calls.iter().copied()
    }
}

impl World<'_> {
    /// `slot`, which its limiter has refused, waits for room if it may.
    pub(super) fn wait_for_limiter(&mut self, now: Time, queue: &mut Queue, slot: u32) -> bool {
        let Job { outbound, level, .. } = self.calls[slot].job;
        let stack = self.outbounds[outbound as usize].stack_mut(level);
        let Some(backlog) = &mut stack.backlog else { return false };
        if backlog.calls.len() >= backlog.room.places as usize {
            return false;
        }
        backlog.calls.push_back(slot);
        let max_wait = backlog.room.max_wait;
        self.backlog_tickets += 1;
        let number = self.backlog_tickets;
        self.calls[slot].waits = number;
        if max_wait < Duration::MAX {
            self.schedule(queue, now + max_wait, Control::Unblock(BacklogTicket { call: slot, number }));
        }
        true
    }

    /// Somebody has given a permit of a limiter back: whose turn it is asks again.
    pub(super) fn ask_again(&mut self, now: Time, queue: &mut Queue, outbound: u32, level: u8) {
        let stack = self.outbounds[outbound as usize].stack_mut(level);
        let (Some(backlog), Some(limiter)) = (&mut stack.backlog, &mut stack.limiter) else { return };
        let newest = backlog.room.newest_first;
        let next = if newest { backlog.calls.back() } else { backlog.calls.front() };
        let Some(&slot) = next else { return };
        let state = &mut self.calls[slot];
        let priority = self.spec.priorities[usize::from(state.job.priority)];
        let mut rng = ManuallyDrop::new(state.draws(LIMITER_SALT));
        let answer = limiter.try_acquire_of(now, priority, 1, Duration::ZERO, &mut rng);
        if let Admit::Now(permit) | Admit::At(_, permit) = answer {
            if newest {
                backlog.calls.pop_back();
            } else {
                backlog.calls.pop_front();
            }
            state.limiter = permit;
            state.admitted = true;
            state.waits = 0;
            state.wake = Some(now);
            queue.push(now, Payload::new(RETRY, slot));
        }
    }

    /// A call may have waited long enough.
    pub(super) fn on_unblock(&mut self, now: Time, queue: &mut Queue, ticket: BacklogTicket) -> Flow {
        let BacklogTicket { call: slot, number } = ticket;
        let state = self.calls[slot];
        if !state.open || state.waits != number {
            return Ok(());
        }
        let Job { outbound, parent, .. } = state.job;
        if self.outbounds[outbound as usize].alive && parent != NIL && self.is_hung(parent) {
            self.postpone(parent, Late::Unblock(ticket));
            return Ok(());
        }
        self.leave_backlog(slot);
        self.refused_by_limiter(now, queue, slot)
    }

    /// A call waits no longer.
    pub(super) fn leave_backlog(&mut self, slot: u32) {
        let state = &mut self.calls[slot];
        state.waits = 0;
        let Job { outbound, level, .. } = state.job;
        let backlog = self.outbounds[outbound as usize].stack_mut(level).backlog.as_mut();
        backlog.expect("it waits somewhere").calls.retain(|call| *call != slot);
    }

    /// The limiter does not let `slot` through.
    pub(super) fn refused_by_limiter(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        self.telemetry.limiter_rejections += 1;
        self.give_back_breaker(now, slot, Class::Rejected);
        self.tell_budget(now, slot, Class::Rejected, false);
        self.attempt_failed(now, queue, slot, Outcome::new(Class::Rejected, Duration::ZERO))
    }

    /// The breaker let `slot` through but nothing was sent: it gets its permit back unused.
    pub(super) fn give_back_breaker(&mut self, now: Time, slot: u32, class: Class) {
        let state = &self.calls[slot];
        let outbound = &mut self.outbounds[state.job.outbound as usize];
        if outbound.alive
            && let Some(breaker) = &mut outbound.stack_mut(state.job.level).breaker
        {
            let unused = Outcome { ignored: true, ..Outcome::new(class, Duration::ZERO) };
            breaker.on_outcome(now, state.breaker, &unused);
        }
    }

    /// The owner of an outbound has died: those who wait there notice at once.
    pub(super) fn clear_backlog(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let outbound = &mut self.outbounds[index as usize];
        let levels = std::iter::once(&mut outbound.stack).chain(&mut outbound.above);
        for slot in levels.filter_map(|stack| stack.backlog.take()).flat_map(|backlog| backlog.calls) {
            let state = &mut self.calls[slot];
            state.waits = 0;
            state.wake = Some(now);
            queue.push(now, Payload::new(RETRY, slot));
        }
    }
}
