//! Hedged calls: several copies of one call in flight, of which the first good answer counts.
//!
//! A [`HedgeState`] stands above its copies as the call of an outer level stands above that of the level below. Each copy is a
//! call of one attempt and passes breaker and limiter by itself. When the call is over, the copies that are left are let go:
//! they stop at once if the edge cancels, and else their work is done for nobody.

use crate::kernel::queue::{Payload, Queue};
use crate::policies::hedge::{Act, Copies};
use crate::policies::retry::Budget as _;
use crate::policies::view::{Class, Outcome, RequestHead, Slot};
use crate::random::Rng;
use crate::time::{Duration, Time};

use super::call::{Job, Over, Under, attempt_tag};
use super::control::Control;
use super::frame::{ENDED, HELD, NIL, STARTED};
use super::hang::Late;
use super::{Flow, Full, HEDGE, World};

/// Most copies whose instances are remembered.
const TRIED: usize = 5;

/// A call with several copies.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HedgeState {
    pub(super) job: Job,
    pub(super) started: Time,
    pub(super) copies: Copies,
    /// The copy that went out last; the others follow.
    pub(super) first: u32,
    /// Where copies went, as far as they came; `NIL` for none.
    tried: [u32; TRIED],
    /// The call is not over yet.
    pub(super) open: bool,
}

/// Names a hedged call and the copy that has started, even after their slots have been reused.
#[derive(Clone, Copy, Debug)]
pub(super) struct TieTicket {
    hedge: u32,
    started: Time,
    copy: u32,
}

impl World<'_> {
    /// A hedged call begins: its first copy goes out.
    pub(super) fn open_hedge(&mut self, now: Time, queue: &mut Queue, job: &Job) -> Flow {
        let state = HedgeState {
            job: *job,
            started: now,
            copies: Copies::default(),
            first: NIL,
            tried: [NIL; TRIED],
            open: true,
        };
        let hedge = self.hedges.insert(state).ok_or(Full::InFlight)?;
        if job.request != NIL {
            self.requests[job.request].refs += 1;
        }
        if let Over::Call(outer) = job.over {
            self.calls[outer].under = Under::Hedge(hedge);
        }
        self.send_copy(now, queue, hedge, None)
    }

    /// Another copy goes out, paid for with `withdrawn`.
    fn send_copy(&mut self, now: Time, queue: &mut Queue, hedge: u32, withdrawn: Option<u32>) -> Flow {
        let state = &mut self.hedges[hedge];
        let job = state.job;
        let number = state.copies.sent;
        if let Some(policy) = &mut self.outbounds[job.outbound as usize].stack_mut(job.level).hedge {
            state.copies.sent(now, policy);
        }
        if let Some(due) = state.copies.due {
            queue.push(due, Payload::new(HEDGE, hedge));
        }
        let copy = Job { tag: attempt_tag(job.tag, number), over: Over::Hedge(hedge), ..job };
        let slot = self.open_call(now, &copy, withdrawn)?;
        self.calls[slot].sibling = std::mem::replace(&mut self.hedges[hedge].first, slot);
        self.attempt(now, queue, slot)
    }

    /// The next copy is due, unless the call is over or has sent it already.
    pub(super) fn on_hedge(&mut self, now: Time, queue: &mut Queue, hedge: u32, due: Time) -> Flow {
        let state = &self.hedges[hedge];
        if !state.open || state.copies.due != Some(due) {
            return Ok(());
        }
        let job = state.job;
        let parent = job.parent;
        if self.outbounds[job.outbound as usize].alive && parent != NIL && self.is_hung(parent) {
            self.postpone(parent, Late::Hedge(hedge, due));
            return Ok(());
        }
        if self.is_wanted(&job) {
            self.send_or_hold_back(now, queue, hedge, None)
        } else {
            self.hedges[hedge].copies.due = None;
            Ok(())
        }
    }

    /// Another copy, if the budget allows it. `after` is what ended in favour of it.
    fn send_or_hold_back(&mut self, now: Time, queue: &mut Queue, hedge: u32, after: Option<Class>) -> Flow {
        let Job { outbound, level, .. } = self.hedges[hedge].job;
        let budget = &mut self.outbounds[outbound as usize].stack_mut(level).budget;
        let withdrawn = budget.as_mut().map(|budget| budget.withdraw(now, after));
        if withdrawn != Some(None) {
            return self.send_copy(now, queue, hedge, withdrawn.flatten());
        }
        self.telemetry.budget_refusals += 1;
        match self.hedges[hedge].copies.held_back() {
            Act::End => self.close_hedge(now, queue, hedge, after.unwrap_or(Class::Abandoned)),
            Act::Send | Act::Wait => Ok(()),
        }
    }

    /// A copy has ended and is off the list.
    pub(super) fn copy_over(&mut self, now: Time, queue: &mut Queue, hedge: u32, outcome: Outcome) -> Flow {
        let HedgeState { job, open, .. } = self.hedges[hedge];
        if !open {
            // It is being closed, and letting go of one copy has ended this one.
            return Ok(());
        }
        let wanted = self.is_wanted(&job);
        let policy = &mut self.outbounds[job.outbound as usize].stack_mut(job.level).hedge;
        let act = match policy {
            Some(policy) if wanted => self.hedges[hedge].copies.ended(now, policy, &outcome),
            _ => Act::End,
        };
        match act {
            Act::Send => self.send_or_hold_back(now, queue, hedge, Some(outcome.class)),
            Act::Wait => Ok(()),
            Act::End => self.close_hedge(now, queue, hedge, outcome.class),
        }
    }

    fn close_hedge(&mut self, now: Time, queue: &mut Queue, hedge: u32, class: Class) -> Flow {
        let Job { outbound, level, .. } = self.hedges[hedge].job;
        let cancel = self.outbounds[outbound as usize].stack(level).cancel;
        let HedgeState { job, started, .. } = self.end_copies(now, queue, hedge, cancel)?;
        self.report_up(now, queue, &job, started, class)?;
        self.let_go(job.request);
        Ok(())
    }

    /// Whoever made a hedged call wants its answer no more.
    pub(super) fn abandon_hedge(&mut self, now: Time, queue: &mut Queue, hedge: u32, cancel: bool) -> Flow {
        let state = &mut self.hedges[hedge];
        if !state.open {
            // Letting go of a copy has ended the caller: whoever lets go will find nobody to report to.
            state.job.over = Over::Nobody;
            let parent = state.job.parent;
            self.hold_parent(parent);
            return Ok(());
        }
        let HedgeState { job, .. } = self.end_copies(now, queue, hedge, cancel)?;
        self.leave_adrift(&job);
        self.let_go(job.request);
        Ok(())
    }

    /// The copies that are left go, and the record with them; as it was in the end.
    fn end_copies(
        &mut self,
        now: Time,
        queue: &mut Queue,
        hedge: u32,
        cancel: bool,
    ) -> Result<HedgeState, Full> {
        self.hedges[hedge].open = false;
        self.hedges[hedge].copies.due = None;
        while self.hedges[hedge].first != NIL {
            // Abandoning takes it off the list.
            self.abandon(now, queue, self.hedges[hedge].first, cancel)?;
        }
        self.hedges.remove(hedge);
        Ok(self.hedges[hedge])
    }

    /// Takes a copy off the list of its call.
    pub(super) fn unlink_copy(&mut self, hedge: u32, copy: u32) {
        let after = self.calls[copy].sibling;
        let mut at = self.hedges[hedge].first;
        if at == copy {
            self.hedges[hedge].first = after;
            return;
        }
        while at != NIL {
            let next = self.calls[at].sibling;
            if next == copy {
                self.calls[at].sibling = after;
                return;
            }
            at = next;
        }
    }

    /// The hedged call above an attempt of call record `call`, at whatever level, or `NIL`; and which of its copies that is.
    fn hedge_above(&self, call: u32) -> (u32, u32) {
        let (mut at, mut over) = (call, Over::Nobody);
        if call != NIL {
            over = self.calls[call].job.over;
        }
        loop {
            match over {
                Over::Hedge(hedge) => return (hedge, at),
                Over::Call(outer) => (at, over) = (outer, self.calls[outer].job.over),
                Over::Parent | Over::Nobody => return (NIL, NIL),
            }
        }
    }

    /// Where a copy goes whose client has `picked` an endpoint: not to where another copy went, if there is a choice. Asks
    /// the balancer again a few times, then takes the next endpoint in order.
    #[inline(never)]
    pub(super) fn elsewhere(
        &mut self,
        now: Time,
        outbound: u32,
        call: u32,
        head: &RequestHead,
        picked: Slot,
        rng: &mut Rng,
    ) -> Slot {
        let (hedge, _) = self.hedge_above(call);
        if hedge == NIL {
            return picked;
        }
        let state = &mut self.hedges[hedge];
        let outbound = &mut self.outbounds[outbound as usize];
        let went = |slot: Slot| state.tried.contains(&slot.0);
        let mut slot = picked;
        for _ in 0..REPICKS {
            if !went(slot) {
                break;
            }
            slot = outbound.pick(now, head, rng).unwrap_or(slot);
        }
        if went(slot) {
            let eligible = &outbound.view.eligible;
            let at = eligible.partition_point(|other| *other <= slot);
            let mut others = eligible[at..].iter().chain(&eligible[..at]);
            slot = others.find(|other| !went(**other)).copied().unwrap_or(slot);
        }
        if let Some(free) = state.tried.iter_mut().find(|tried| **tried == NIL) {
            *free = slot.0;
        }
        slot
    }

    /// An attempt has started; if it is a copy of a tied call, its instance sends word to where the others wait.
    pub(super) fn tied_start(&mut self, now: Time, queue: &mut Queue, slot: u32) {
        let (hedge, copy) = self.hedge_above(match self.sides[slot as usize].call {
            super::call::LET_GO | super::frame::WIRE => NIL,
            call => call,
        });
        if hedge == NIL {
            return;
        }
        let HedgeState { job, started, first, .. } = self.hedges[hedge];
        let policy = &self.outbounds[job.outbound as usize].stack(job.level).hedge;
        if !policy.as_ref().is_some_and(super::super::policies::hedge::HedgePolicy::is_tied) {
            return;
        }
        let ticket = TieTicket { hedge, started, copy };
        let here = self.instances[self.frames[slot].instance as usize].more.zone;
        let (mut other, mut delay) = (first, Some(Duration::ZERO));
        while other != NIL {
            if other != copy
                && let Under::Frame(frame) = self.calls[other].under
                && !self.frames[frame].has(HELD)
            {
                let there = self.instances[self.frames[frame].instance as usize].more.zone;
                delay = self.word_delay(here, there, job.key ^ u64::from(job.tag));
            }
            other = self.calls[other].sibling;
        }
        // If no other copy is out yet, word is there before it; in a partition it never comes.
        if let Some(delay) = delay {
            self.schedule(queue, now + delay, Control::CallOff(ticket));
        }
    }

    /// Word reaches the instances of the other copies of a tied call: those that have not started are called off.
    pub(super) fn on_call_off(&mut self, now: Time, queue: &mut Queue, ticket: TieTicket) -> Flow {
        let TieTicket { hedge, started, copy } = ticket;
        let state = &mut self.hedges[hedge];
        if !state.open || state.started != started {
            return Ok(());
        }
        state.copies.due = None;
        // Two copies at most are tied, so there is one other.
        let mut other = state.first;
        while other == copy {
            other = self.calls[other].sibling;
        }
        if other != NIL
            && let Under::Frame(frame) = self.calls[other].under
            && self.frames[frame].flags & (STARTED | ENDED) == 0
        {
            return self.end_attempt(now, queue, frame, Class::Abandoned, true);
        }
        Ok(())
    }
}

/// Picks that are made anew for the sake of another endpoint.
const REPICKS: u32 = 3;
