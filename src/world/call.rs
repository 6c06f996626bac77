//! Caller side of a call: attempts, timeouts, retries, breaker, limiter.
//!
//! Order of a call (DESIGN section 3): deadline, retry, breaker, limiter, pick, network. A call over an edge without
//! retry, breaker and limiter is just its one attempt; otherwise a [`CallState`] holds what outlives an attempt.

use std::mem::ManuallyDrop;

use crate::kernel::queue::{Payload, Queue};
use crate::policies::balancer::Balancer as _;
use crate::policies::breaker::Breaker as _;
use crate::policies::limiter::Limiter as _;
use crate::policies::retry::{Budget as _, Retry, RetryPolicy as _};
use crate::policies::view::{Admit, Class, Outcome, Permit, RequestHead, Slot};
use crate::random::{Key, Rng};
use crate::time::{Duration, Time};

use super::frame::{AWAITED, ENDED, EVENT, Frame, HELD, INSIDE, NIL, Side};
use super::hang::Late;
use super::outbound::ANYWHERE;
use super::spec::NO_RING;
use super::{Flow, Full, RETRY, World};

/// A call that may take more than one attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CallState {
    pub(super) parent: u32,
    pub(super) parent_pc: u16,
    /// Position in `Spec::calls`.
    pub(super) call: u32,
    pub(super) outbound: u32,
    pub(super) request: u32,
    pub(super) key: u64,
    /// Tag of the caller's own attempts.
    pub(super) tag: u32,
    pub(super) priority: u8,
    pub(super) started: Time,
    pub(super) attempt: u32,
    /// Delay before the present attempt.
    pub(super) delay: Duration,
    pub(super) breaker: Permit,
    pub(super) limiter: Permit,
    /// When the present attempt was sent.
    pub(super) sent: Time,
    /// A limiter has already let the next attempt in, at this event's time.
    pub(super) admitted: bool,
    /// The call is not over yet.
    pub(super) open: bool,
}

/// What a root request carries beyond its frame.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RequestRecord {
    /// Frames and calls that refer to it.
    pub(super) refs: u32,
    /// Closed loop: the user, else `NIL`.
    pub(super) user: u32,
    /// Version (plus 1) of each updating service that the request has seen first.
    pub(super) versions: [u8; 8],
    /// It has seen two versions of one service.
    pub(super) inconsistent: bool,
}

/// Where a call comes from.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) parent: u32,
    pub(super) parent_pc: u16,
    pub(super) outbound: u32,
    pub(super) request: u32,
    pub(super) tag: u32,
    pub(super) priority: u8,
}

/// Who waits for the answer to a call.
#[derive(Clone, Copy)]
pub(super) struct Caller {
    parent: u32,
    parent_pc: u16,
    outbound: u32,
    request: u32,
}

impl Frame {
    /// Who waits for this attempt, where attempts have no side.
    pub(super) const fn caller(&self) -> Caller {
        Caller { parent: self.parent, parent_pc: self.parent_pc, outbound: self.outbound, request: NIL }
    }
}

impl Origin {
    const fn caller(&self) -> Caller {
        Caller {
            parent: self.parent,
            parent_pc: self.parent_pc,
            outbound: self.outbound,
            request: self.request,
        }
    }
}

impl CallState {
    /// The draws of the present attempt for one purpose.
    #[inline]
    const fn draws(&self, salt: u64) -> Rng {
        Key(self.key ^ salt ^ attempt_tag(self.tag, self.attempt) as u64).rng()
    }
}

pub(super) const PICK_SALT: u64 = 0x7069_636b_2d73_6c74;
const RETRY_SALT: u64 = 0x7265_7472_792d_736c;
pub(super) const LIMITER_SALT: u64 = 0x6c69_6d69_742d_736c;
pub(super) const SAMPLE_SALT: u64 = 0x7361_6d70_6c65_736c;

impl World<'_> {
    /// Makes call number `call` with the draws under `key`.
    #[inline(always)]
    pub(super) fn place(
        &mut self,
        now: Time,
        queue: &mut Queue,
        call: u32,
        key: u64,
        origin: &Origin,
    ) -> Flow {
        if self.outbounds[origin.outbound as usize].stateful {
            return self.open_call(now, queue, call, key, origin);
        }
        match self.send(now, queue, call, key, 0, origin, NIL)? {
            None => Ok(()),
            Some(failure) => self.settle(now, queue, origin.caller(), now, failure),
        }
    }

    #[inline(never)]
    fn open_call(&mut self, now: Time, queue: &mut Queue, call: u32, key: u64, origin: &Origin) -> Flow {
        let outbound = &mut self.outbounds[origin.outbound as usize];
        outbound.firsts += 1;
        if let Some(budget) = &mut outbound.budget {
            budget.deposit(now);
        }
        let state = CallState {
            parent: origin.parent,
            parent_pc: origin.parent_pc,
            call,
            outbound: origin.outbound,
            request: origin.request,
            key,
            tag: origin.tag,
            priority: origin.priority,
            started: now,
            attempt: 0,
            delay: Duration::ZERO,
            breaker: Permit::default(),
            limiter: Permit::default(),
            sent: now,
            admitted: false,
            open: true,
        };
        let slot = self.calls.insert(state).ok_or(Full::InFlight)?;
        if origin.request != NIL {
            self.requests[origin.request].refs += 1;
        }
        self.attempt(now, queue, slot)
    }

    /// One attempt of a stateful call: breaker, limiter, then the wire.
    fn attempt(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        let state = self.calls[slot];
        let outbound = &mut self.outbounds[state.outbound as usize];
        if !state.admitted {
            if let Some(breaker) = &mut outbound.breaker {
                let answer = breaker.try_acquire(now);
                self.note_breaker(now, state.outbound);
                match answer {
                    Admit::Now(permit) | Admit::At(_, permit) => self.calls[slot].breaker = permit,
                    Admit::Reject { .. } => {
                        self.telemetry.breaker_rejections += 1;
                        return self.attempt_failed(
                            now,
                            queue,
                            slot,
                            Outcome::new(Class::Rejected, Duration::ZERO),
                        );
                    }
                }
            }
            let outbound = &mut self.outbounds[state.outbound as usize];
            if let Some(limiter) = &mut outbound.limiter {
                // Without recorded draws there is nothing to drop. How long a call may wait is the limiter's own setting.
                let mut rng = ManuallyDrop::new(state.draws(LIMITER_SALT));
                match limiter.try_acquire(now, 1, Duration::MAX, &mut rng) {
                    Admit::Now(permit) => self.calls[slot].limiter = permit,
                    Admit::At(at, permit) => {
                        let state = &mut self.calls[slot];
                        state.limiter = permit;
                        state.admitted = true;
                        queue.push(at, Payload::new(RETRY, slot));
                        return Ok(());
                    }
                    Admit::Reject { .. } => {
                        self.telemetry.limiter_rejections += 1;
                        let outcome = Outcome::new(Class::Rejected, Duration::ZERO);
                        if let Some(breaker) = &mut outbound.breaker {
                            // The breaker let it through but nothing was sent: the permit goes back unused.
                            let unused = Outcome { ignored: true, ..outcome };
                            breaker.on_outcome(now, self.calls[slot].breaker, &unused);
                        }
                        return self.attempt_failed(now, queue, slot, outcome);
                    }
                }
            }
        }
        let state = &mut self.calls[slot];
        state.admitted = false;
        state.sent = now;
        let state = *state;
        let origin = Origin {
            parent: state.parent,
            parent_pc: state.parent_pc,
            outbound: state.outbound,
            request: state.request,
            tag: attempt_tag(state.tag, state.attempt),
            priority: state.priority,
        };
        match self.send(now, queue, state.call, state.key, state.attempt, &origin, slot)? {
            None => Ok(()),
            Some(failure) => {
                let outcome = Outcome::new(failure, Duration::ZERO);
                self.teach(now, slot, &outcome);
                self.attempt_failed(now, queue, slot, outcome)
            }
        }
    }

    /// Picks an endpoint and sends one attempt; how it fails if the client knows no endpoint and nobody holds it back.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "the hot path hands registers on, not a struct")]
    fn send(
        &mut self,
        now: Time,
        queue: &mut Queue,
        call: u32,
        key: u64,
        attempt: u32,
        origin: &Origin,
        state: u32,
    ) -> Result<Option<Class>, Full> {
        let spec = self.spec;
        let target = &spec.calls[call as usize];
        let outbound = &mut self.outbounds[origin.outbound as usize];
        let head = RequestHead { affinity: 0, attempt };
        // Without recorded draws there is nothing to drop.
        let mut rng = ManuallyDrop::new(Key(key ^ PICK_SALT ^ u64::from(origin.tag)).rng());
        let Some(slot) = outbound.pick(now, &head, &mut rng) else {
            return self.hold(now, queue, call, key, origin, state);
        };
        outbound.view.active[slot.0 as usize] += 1;
        outbound.attempts += 1;
        let instance = self.services[target.service as usize].slots[slot.0 as usize];
        let frame = Frame {
            started: now,
            arrived: now,
            key,
            next: NIL,
            parent: origin.parent,
            instance,
            outbound: origin.outbound,
            pc: target.entry,
            parent_pc: origin.parent_pc,
            pending: 0,
            need: 0,
            slack: 0,
            flags: AWAITED,
            ring: target.ring,
            priority: origin.priority,
            zone: outbound.zone as u16,
        };
        let frame = self.frames.insert(frame).ok_or(Full::InFlight)?;
        if self.has_sides {
            self.note_side(frame, origin, state);
        }
        if target.ring != NO_RING {
            self.rings[target.ring as usize].arm(now, frame, queue);
        }
        self.transmit(now, queue, frame)?;
        Ok(None)
    }

    #[inline(never)]
    pub(super) fn note_side(&mut self, frame: u32, origin: &Origin, state: u32) {
        if self.frames[frame].zone == ANYWHERE {
            let caller = self.frames[origin.parent].instance;
            self.frames[frame].zone = self.instances[caller as usize].more.zone as u16;
        }
        let mut side = Side { call: state, request: origin.request, tag: origin.tag, ..Side::EMPTY };
        if self.tracks_children && origin.parent != NIL {
            let parent = &mut self.sides[origin.parent as usize];
            side.sibling = parent.child;
            parent.child = frame;
        }
        if origin.request != NIL {
            self.requests[origin.request].refs += 1;
        }
        self.put_side(frame, side);
    }

    /// Stores the side of a new frame.
    pub(super) fn put_side(&mut self, frame: u32, side: Side) {
        let at = frame as usize;
        if at == self.sides.len() {
            self.sides.push(side);
        } else {
            self.sides[at] = side;
        }
    }

    /// The caller of `frame` learns how it ended (answer, timeout); what follows is its business.
    #[inline(always)]
    pub(super) fn hear(&mut self, now: Time, queue: &mut Queue, slot: u32, class: Class) -> Flow {
        let frame = &mut self.frames[slot];
        frame.flags &= !AWAITED;
        let Frame { parent, parent_pc, outbound: from, started, instance, key, .. } = *frame;
        let alone = !self.has_sides;
        if alone && frame.is_loose() {
            frame.flags = 0;
            self.frames.remove(slot);
        }
        let outbound = &mut self.outbounds[from as usize];
        let outcome = Outcome::new(class, now - started);
        if outbound.alive {
            let ordinal = self.instances[instance as usize].ordinal;
            outbound.view.active[ordinal as usize] -= 1;
            if outbound.hosts.is_some() {
                let tag = if alone { 0 } else { self.sides[slot as usize].tag };
                self.tell_hosts(now, queue, from, Slot(ordinal), &outcome, Key(key ^ u64::from(tag)));
            } else {
                outbound.balancer.on_outcome(now, Slot(ordinal), &outcome);
            }
        }
        if !alone {
            return self.hear_beside(now, queue, slot, outcome);
        }
        self.settle(now, queue, Caller { parent, parent_pc, outbound: from, request: NIL }, started, class)
    }

    /// The rest of hearing where attempts have a side.
    #[inline(never)]
    pub(super) fn hear_beside(&mut self, now: Time, queue: &mut Queue, slot: u32, outcome: Outcome) -> Flow {
        let Frame { parent, parent_pc, outbound, started, .. } = self.frames[slot];
        let Side { call, request, cpu, .. } = self.sides[slot as usize];
        let class = outcome.class;
        if self.tracks_children && parent != NIL {
            self.unlink_child(parent, slot);
        }
        if class == Class::Success {
            self.credit(parent, parent_pc, cpu);
        }
        self.release_if_loose(slot);
        if call == NIL {
            return self.settle(now, queue, Caller { parent, parent_pc, outbound, request }, started, class);
        }
        self.teach(now, call, &outcome);
        if class == Class::Success {
            return self.close_call(now, queue, call, Class::Success);
        }
        self.attempt_failed(now, queue, call, outcome)
    }

    /// The work of a successful attempt was of use to its caller.
    fn credit(&mut self, parent: u32, parent_pc: u16, cpu: u64) {
        if parent == NIL {
            self.telemetry.useful_cpu += u128::from(cpu);
        } else if self.caller_waits(parent, parent_pc) {
            self.sides[parent as usize].cpu += cpu;
        }
    }

    /// Breaker and limiter learn how the present attempt of a call ended.
    fn teach(&mut self, now: Time, call: u32, outcome: &Outcome) {
        let state = &self.calls[call];
        let outbound = &mut self.outbounds[state.outbound as usize];
        if !outbound.alive {
            return;
        }
        if let Some(breaker) = &mut outbound.breaker {
            breaker.on_outcome(now, state.breaker, outcome);
        }
        if let Some(limiter) = &mut outbound.limiter {
            let mut rng = ManuallyDrop::new(state.draws(SAMPLE_SALT));
            limiter.on_outcome(now, state.limiter, outcome, &mut rng);
        }
        let outbound = state.outbound;
        self.note_breaker(now, outbound);
    }

    /// Writes down a change of a breaker's state.
    fn note_breaker(&mut self, now: Time, index: u32) {
        let outbound = &mut self.outbounds[index as usize];
        let Some(breaker) = &outbound.breaker else { return };
        let state = breaker.state(now);
        if state != outbound.breaker_state {
            let before = std::mem::replace(&mut outbound.breaker_state, state);
            self.breaker_changed(now, index, before, state);
        }
    }

    /// The present attempt of a call failed: again, or give up.
    fn attempt_failed(&mut self, now: Time, queue: &mut Queue, slot: u32, outcome: Outcome) -> Flow {
        let state = self.calls[slot];
        let outbound = &mut self.outbounds[state.outbound as usize];
        let wanted = outbound.alive && self.caller_waits(state.parent, state.parent_pc);
        if wanted && let Some(retry) = &self.outbounds[state.outbound as usize].retry {
            let mut rng = state.draws(RETRY_SALT);
            if let Retry::After(delay) = retry.on_failure(now, state.attempt, state.delay, &outcome, &mut rng)
            {
                let budget = &mut self.outbounds[state.outbound as usize].budget;
                if budget.as_mut().is_none_or(|budget| budget.withdraw(now)) {
                    let state = &mut self.calls[slot];
                    state.attempt += 1;
                    state.delay = delay;
                    queue.push(now + delay, Payload::new(RETRY, slot));
                    return Ok(());
                }
                self.telemetry.budget_refusals += 1;
            }
        }
        self.close_call(now, queue, slot, outcome.class)
    }

    /// A delayed attempt is due.
    pub(super) fn on_retry(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        let state = self.calls[slot];
        let alive = self.outbounds[state.outbound as usize].alive;
        if alive && state.parent != NIL && self.is_hung(state.parent) {
            self.postpone(state.parent, Late::Retry(slot));
            return Ok(());
        }
        if alive && self.caller_waits(state.parent, state.parent_pc) {
            self.attempt(now, queue, slot)
        } else {
            if state.admitted {
                // Breaker and limiter had let it in, but nobody wants it any more.
                let unused = Outcome { ignored: true, ..Outcome::new(Class::Abandoned, Duration::ZERO) };
                self.teach(now, slot, &unused);
            }
            self.close_call(now, queue, slot, Class::Abandoned)
        }
    }

    fn close_call(&mut self, now: Time, queue: &mut Queue, slot: u32, class: Class) -> Flow {
        let state = self.calls[slot];
        self.calls[slot].open = false;
        self.calls.remove(slot);
        let CallState { parent, parent_pc, outbound, request, .. } = state;
        self.settle(now, queue, Caller { parent, parent_pc, outbound, request }, state.started, class)?;
        self.let_go(state.request);
        Ok(())
    }

    /// Whether the caller still waits for the answer to the call it made at `parent_pc`.
    pub(super) fn caller_waits(&self, parent: u32, parent_pc: u16) -> bool {
        parent == NIL || {
            let frame = &self.frames[parent];
            frame.flags & ENDED == 0 && frame.pc == parent_pc
        }
    }

    /// A call has come back to its caller with `class`: the parent goes on, or the request is over.
    #[inline(always)]
    pub(super) fn settle(
        &mut self,
        now: Time,
        queue: &mut Queue,
        caller: Caller,
        started: Time,
        class: Class,
    ) -> Flow {
        let Caller { parent, parent_pc, outbound, request } = caller;
        if parent == NIL {
            let source = self.outbounds[outbound as usize].source;
            self.root_done(now, queue, source, started, request, class);
            return Ok(());
        }
        let frame = &mut self.frames[parent];
        frame.pending -= 1;
        if frame.flags & ENDED != 0 {
            self.release_if_loose(parent);
            return Ok(());
        }
        if frame.pc != parent_pc {
            return Ok(());
        }
        if class == Class::Success {
            frame.need -= 1;
            if frame.need > 0 {
                return Ok(());
            }
            frame.pc += 1;
            return self.go_on(now, queue, parent);
        }
        if frame.slack > 0 {
            frame.slack -= 1;
            return Ok(());
        }
        if self.is_hung(parent) {
            // Past the call, so that nothing else can be heard of it.
            self.frames[parent].pc += 1;
            self.stall(parent, false);
            return Ok(());
        }
        let frame = &self.frames[parent];
        // A journey ends the way its call ended; a service answers with an error of its own.
        let class = if frame.instance == NIL { class } else { Class::Failure };
        self.finish(now, queue, parent, class)
    }

    /// Timeouts and deadlines of one constant delay.
    pub(super) fn on_ring(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        loop {
            let ring = &mut self.rings[index as usize];
            let (delay, frames) = (ring.delay(), &self.frames);
            let live = |owner: u32, due: Time| {
                let frame = &frames[owner];
                frame.flags & AWAITED != 0 && u32::from(frame.ring) == index && frame.started + delay == due
            };
            let Some(slot) = ring.expire(now, queue, live) else {
                return Ok(());
            };
            if self.frames[slot].instance == NIL {
                if self.frames[slot].has(HELD) {
                    self.let_down(now, queue, slot, Class::Timeout)?;
                } else {
                    self.finish(now, queue, slot, Class::Timeout)?;
                }
                continue;
            }
            let cancel = self.outbounds[self.frames[slot].outbound as usize].cancel;
            if cancel {
                self.cancel(now, queue, slot)?;
            }
            self.hear(now, queue, slot, Class::Timeout)?;
        }
    }

    /// Stops the work of `slot` and everything below it at once, without an answer.
    pub(super) fn cancel(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        let frame = &mut self.frames[slot];
        if frame.flags & ENDED != 0 {
            return Ok(());
        }
        frame.flags |= ENDED;
        // Held while its instance lets go of it, which may start others.
        frame.pending += 1;
        if frame.has(INSIDE) {
            self.leave(now, queue, slot)?;
        }
        self.cancel_children(now, queue, slot)?;
        self.frames[slot].pending -= 1;
        self.release_if_loose(slot);
        Ok(())
    }

    /// Cancels every attempt that `slot` waits for.
    pub(super) fn cancel_children(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        if !self.tracks_children {
            return Ok(());
        }
        loop {
            let child = self.sides[slot as usize].child;
            if child == NIL {
                return Ok(());
            }
            if self.frames[child].has(HELD) {
                self.let_down(now, queue, child, Class::Abandoned)?;
                continue;
            }
            self.cancel(now, queue, child)?;
            // Hearing takes it off the list.
            self.hear(now, queue, child, Class::Abandoned)?;
        }
    }

    /// Takes `child` off the list of attempts that `parent` waits for.
    fn unlink_child(&mut self, parent: u32, child: u32) {
        let after = self.sides[child as usize].sibling;
        let mut at = self.sides[parent as usize].child;
        if at == child {
            self.sides[parent as usize].child = after;
            return;
        }
        while at != NIL {
            let next = self.sides[at as usize].sibling;
            if next == child {
                self.sides[at as usize].sibling = after;
                return;
            }
            at = next;
        }
    }

    /// Frees a frame that nothing refers to any more.
    #[inline(always)]
    pub(super) fn release_if_loose(&mut self, slot: u32) {
        if self.frames[slot].is_loose() {
            if self.has_sides {
                let request = self.sides[slot as usize].request;
                self.let_go(request);
            }
            // Only stale ring entries can still name it, and they look at these flags.
            self.frames[slot].flags = 0;
            self.frames.remove(slot);
        }
    }

    /// One reference less to a request's record.
    pub(super) fn let_go(&mut self, request: u32) {
        if request != NIL {
            let record = &mut self.requests[request];
            record.refs -= 1;
            if record.refs == 0 {
                self.requests.remove(request);
            }
        }
    }

    /// Frees a frame whose pending event was its last tie.
    #[inline]
    pub(super) fn event_over(&mut self, slot: u32) {
        self.frames[slot].flags &= !EVENT;
    }
}

/// Tag of an attempt below attempts tagged `tag`; first attempts of first attempts are 0.
#[inline]
const fn attempt_tag(tag: u32, attempt: u32) -> u32 {
    if tag == 0 && attempt == 0 { 0 } else { (Key(tag as u64).with(attempt as u64 + 1).0 >> 32) as u32 | 1 }
}
