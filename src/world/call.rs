//! Caller side of a call: attempts, timeouts, retries, breaker, limiter.
//!
//! Order of a call (DESIGN section 3): deadline, retry or hedge, breaker, limiter, pick, connection, network. A call over an edge
//! without any of these policies and without connections is just its one attempt; otherwise a [`CallState`] holds what outlives
//! an attempt.
//!
//! An edge may have levels: the attempt of an outer level is a call of the level below it, and so on down to the innermost
//! one, whose attempts are frames. A hedged call (`hedge`) likewise stands above its copies, each of which is a call of one
//! attempt. So a record never has more than one attempt of its own under way, and who hears how it ends is in [`Over`].

use std::mem::ManuallyDrop;

use crate::kernel::queue::{Payload, Queue};
use crate::policies::balancer::Balancer as _;
use crate::policies::breaker::Breaker as _;
use crate::policies::limiter::Limiter as _;
use crate::policies::retry::{Budget as _, Ended, Retry, RetryPolicy as _};
use crate::policies::rollout::standing::Way;
use crate::policies::view::{Admit, Class, Outcome, Permit, RequestHead, Slot};
use crate::random::{Key, Rng};
use crate::time::{Duration, Time};

use super::consistency::Bonds;
use super::control::Control;
use super::frame::{AWAITED, ENDED, EVENT, Frame, HELD, INSIDE, NIL, Side, WIRE};
use super::hang::Late;
use super::outbound::{AFFINITY, ANYWHERE, BOUND, HEDGES, LEADS, PROBES, SPLIT};
use super::spec::{Deadline, NO_RING};
use super::{Flow, Full, RETRY, World};

/// What a call is about, at whatever level.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Job {
    pub(super) parent: u32,
    pub(super) parent_pc: u16,
    /// Level of the edge; 0 is the innermost.
    pub(super) level: u8,
    pub(super) priority: u8,
    /// Position in `Spec::calls`.
    pub(super) call: u32,
    pub(super) outbound: u32,
    pub(super) request: u32,
    pub(super) key: u64,
    /// Tag of the caller's own attempts.
    pub(super) tag: u32,
    pub(super) over: Over,
}

/// Who hears how a call ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Over {
    /// The frame that made it, or the source.
    #[default]
    Parent,
    /// The call of the level above, whose attempt it is.
    Call(u32),
    /// The hedged call of which it is a copy.
    Hedge(u32),
    /// Nobody: who had made it gave up and did not say so. It goes on by itself.
    Nobody,
}

/// The attempt that a call has under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Under {
    /// None.
    #[default]
    Nothing,
    /// An attempt at an instance, or held at an activator.
    Frame(u32),
    /// A call of the level below.
    Call(u32),
    /// A hedged call of the level below.
    Hedge(u32),
}

/// Something that goes on for nobody, up to a deadline that it knows; also after its slot has been reused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expiry {
    of: Under,
    started: Time,
}

/// A call that may take more than one attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CallState {
    pub(super) job: Job,
    pub(super) started: Time,
    pub(super) attempt: u32,
    /// What its retry policy keeps from one delay to the next.
    pub(super) carry: f64,
    /// What its budget gave for the present attempt.
    pub(super) withdrawn: Option<u32>,
    pub(super) breaker: Permit,
    pub(super) limiter: Permit,
    /// When the present attempt was sent.
    pub(super) sent: Time,
    pub(super) under: Under,
    /// When its next attempt is due, if it waits for that.
    pub(super) wake: Option<Time>,
    /// Next copy of the same hedged call.
    pub(super) sibling: u32,
    /// A limiter has already let the next attempt in, at this event's time.
    pub(super) admitted: bool,
    /// Number of its ticket while it waits for room at its limiter, else 0.
    pub(super) waits: u64,
    /// What it has promised its request, as long as it may go again: services by version slot.
    pub(super) ahead: u8,
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
    /// Where it comes from ...
    pub(super) source: u32,
    /// ... and its key, for what it carries.
    pub(super) key: u64,
    /// Version (plus 1) of each updating service that the request has seen first.
    pub(super) versions: [u8; 8],
    /// What ties it to services that are being updated.
    pub(super) bonds: Bonds,
    /// It has seen two versions of one service.
    pub(super) inconsistent: bool,
    /// Some part of its answer is of lower quality.
    pub(super) degraded: bool,
    /// The errand that it is; `NIL` if a source made it.
    pub(super) errand: u32,
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
    pub(super) const fn draws(&self, salt: u64) -> Rng {
        let level = (self.job.level as u64) << 48;
        Key(self.job.key ^ salt ^ level ^ attempt_tag(self.job.tag, self.attempt) as u64).rng()
    }
}

/// Stands where the call of an attempt stands (`Side::call`) when that call has let go of it.
pub(super) const LET_GO: u32 = NIL - 1;

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
            return self.place_stateful(now, queue, call, key, origin);
        }
        match self.send(now, queue, call, key, 0, origin, NIL)? {
            None => Ok(()),
            Some(failure) => self.settle(now, queue, origin.caller(), now, failure),
        }
    }

    #[inline(never)]
    fn place_stateful(&mut self, now: Time, queue: &mut Queue, call: u32, key: u64, origin: &Origin) -> Flow {
        if self.is_left_out(origin.outbound, key) {
            return self.settle(now, queue, origin.caller(), now, Class::Rejected);
        }
        let outbound = &mut self.outbounds[origin.outbound as usize];
        outbound.firsts += 1;
        let job = Job {
            parent: origin.parent,
            parent_pc: origin.parent_pc,
            level: outbound.above.len() as u8,
            priority: origin.priority,
            call,
            outbound: origin.outbound,
            request: origin.request,
            key,
            tag: origin.tag,
            over: Over::Parent,
        };
        self.open(now, queue, &job)
    }

    /// A call of one level begins.
    fn open(&mut self, now: Time, queue: &mut Queue, job: &Job) -> Flow {
        let stack = self.outbounds[job.outbound as usize].stack_mut(job.level);
        if let Some(budget) = &mut stack.budget {
            budget.deposit(now);
        }
        if stack.hedge.is_some() {
            return self.open_hedge(now, queue, job);
        }
        let slot = self.open_call(now, job, None)?;
        if let Over::Call(outer) = job.over {
            self.calls[outer].under = Under::Call(slot);
        }
        self.attempt(now, queue, slot)
    }

    /// The record of a call, before its first attempt.
    pub(super) fn open_call(&mut self, now: Time, job: &Job, withdrawn: Option<u32>) -> Result<u32, Full> {
        let state = CallState {
            job: *job,
            started: now,
            attempt: 0,
            carry: 0.0,
            withdrawn,
            breaker: Permit::default(),
            limiter: Permit::default(),
            sent: now,
            under: Under::Nothing,
            wake: None,
            sibling: NIL,
            admitted: false,
            waits: 0,
            ahead: 0,
            open: true,
        };
        let slot = self.calls.insert(state).ok_or(Full::InFlight)?;
        if job.request != NIL {
            self.requests[job.request].refs += 1;
        }
        if self.watching != 0 {
            self.promise_of_call(slot);
        }
        Ok(slot)
    }

    /// One attempt of a stateful call: breaker, limiter, then the level below or the wire.
    pub(super) fn attempt(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        let CallState { job, admitted, .. } = self.calls[slot];
        let Job { outbound: from, level, .. } = job;
        let stack = self.outbounds[from as usize].stack_mut(level);
        if !admitted {
            if let Some(breaker) = &mut stack.breaker {
                let answer = breaker.try_acquire(now);
                self.note_breaker(now, from, level);
                match answer {
                    Admit::Now(permit) | Admit::At(_, permit) => self.calls[slot].breaker = permit,
                    Admit::Reject { .. } => {
                        self.telemetry.breaker_rejections += 1;
                        self.tell_budget(now, slot, Class::Rejected, false);
                        return self.attempt_failed(
                            now,
                            queue,
                            slot,
                            Outcome::new(Class::Rejected, Duration::ZERO),
                        );
                    }
                }
            }
            let stack = self.outbounds[from as usize].stack_mut(level);
            if let Some(limiter) = &mut stack.limiter {
                // Without recorded draws there is nothing to drop. How long a call may wait is the limiter's own setting.
                let mut rng = ManuallyDrop::new(self.calls[slot].draws(LIMITER_SALT));
                let priority = self.spec.priorities[usize::from(job.priority)];
                match limiter.try_acquire_of(now, priority, 1, Duration::MAX, &mut rng) {
                    Admit::Now(permit) => self.calls[slot].limiter = permit,
                    Admit::At(at, permit) => {
                        let state = &mut self.calls[slot];
                        state.limiter = permit;
                        state.admitted = true;
                        state.wake = Some(at);
                        queue.push(at, Payload::new(RETRY, slot));
                        return Ok(());
                    }
                    Admit::Reject { .. } => {
                        if self.wait_for_limiter(now, queue, slot) {
                            return Ok(());
                        }
                        return self.refused_by_limiter(now, queue, slot);
                    }
                }
            }
        }
        let stack = self.outbounds[from as usize].stack_mut(level);
        if let Some(budget) = &mut stack.budget {
            budget.on_sent(now);
        }
        let ring = stack.ring;
        let state = &mut self.calls[slot];
        state.admitted = false;
        state.sent = now;
        let attempt = state.attempt;
        let tag = attempt_tag(job.tag, attempt);
        if level > 0 {
            if ring != NO_RING {
                self.level_rings[ring as usize].arm(now, slot, queue);
            }
            return self.open(now, queue, &Job { level: level - 1, tag, over: Over::Call(slot), ..job });
        }
        let Job { parent, parent_pc, call, outbound, request, key, priority, .. } = job;
        let origin = Origin { parent, parent_pc, outbound, request, tag, priority };
        let refused = if self.outbounds[outbound as usize].pool.is_some() {
            self.send_pooled(now, queue, call, key, attempt, &origin, slot)?
        } else {
            self.send(now, queue, call, key, attempt, &origin, slot)?
        };
        match refused {
            None => Ok(()),
            Some(failure) => self.attempt_over(now, queue, slot, Outcome::new(failure, Duration::ZERO)),
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
        let head = RequestHead { affinity: None, attempt };
        let outbound = &mut self.outbounds[origin.outbound as usize];
        let zone = outbound.zone as u16;
        // Without recorded draws there is nothing to drop.
        let mut rng = ManuallyDrop::new(Key(key ^ PICK_SALT ^ u64::from(origin.tag)).rng());
        let picked = if outbound.asks == 0 {
            let picked = outbound.pick(now, &head, &mut rng);
            if let Some(slot) = picked {
                outbound.view.active[slot.0 as usize] += 1;
                outbound.attempts += 1;
            }
            picked
        } else {
            self.pick_with_care(now, queue, target.entry, key, origin, head, state, &mut rng)?
        };
        let Some(slot) = picked else {
            return self.hold(now, queue, call, key, origin, state);
        };
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
            zone,
        };
        let frame = self.frames.insert(frame).ok_or(Full::InFlight)?;
        if self.has_sides {
            self.note_side(frame, origin, state);
            if self.watching != 0 {
                self.set_out(frame);
            }
        }
        if target.ring != NO_RING {
            self.rings[target.ring as usize].arm(now, frame, queue);
        }
        self.transmit(now, queue, frame)?;
        Ok(None)
    }

    /// The same pick where something has to be seen to before it or after it.
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "the hot path hands registers on, not a struct")]
    pub(super) fn pick_with_care(
        &mut self,
        now: Time,
        queue: &mut Queue,
        entry: u16,
        key: u64,
        origin: &Origin,
        mut head: RequestHead,
        state: u32,
        rng: &mut Rng,
    ) -> Result<Option<Slot>, Full> {
        let from = origin.outbound;
        let asks = self.outbounds[from as usize].asks;
        let value = self.brief(now, from, origin.request, &mut head);
        if asks & LEADS != 0 && self.is_for_leader(entry) {
            let leader = self.known_leader(origin);
            if let Some(slot) = leader {
                let outbound = &mut self.outbounds[from as usize];
                outbound.view.active[slot.0 as usize] += 1;
                outbound.attempts += 1;
            }
            return Ok(leader);
        }
        if asks & SPLIT != 0 {
            self.choose_version(from, key);
        }
        if asks & BOUND != 0 {
            let way = self.way(origin);
            if way == Way::Hold {
                return Ok(None);
            }
            self.take_way(from, way);
        }
        let Some(slot) = self.pick_for(now, from, &head, value, rng) else {
            if asks & SPLIT != 0 {
                self.note_no_endpoint(now, from);
            }
            return Ok(None);
        };
        let slot = if asks & HEDGES == 0 { slot } else { self.elsewhere(now, from, state, &head, slot, rng) };
        let outbound = &mut self.outbounds[from as usize];
        outbound.view.active[slot.0 as usize] += 1;
        outbound.attempts += 1;
        if asks & (PROBES | AFFINITY) != 0 {
            self.picked(now, queue, origin, value, slot, rng)?;
        }
        Ok(Some(slot))
    }

    /// A new attempt that has not been sent yet: it has no instance, but its time runs.
    pub(super) fn unsent(
        &mut self,
        now: Time,
        queue: &mut Queue,
        call: u32,
        key: u64,
        origin: &Origin,
        state: u32,
    ) -> Result<u32, Full> {
        let target = &self.spec.calls[call as usize];
        let frame = Frame {
            started: now,
            arrived: now,
            key,
            next: NIL,
            parent: origin.parent,
            instance: NIL,
            outbound: origin.outbound,
            pc: target.entry,
            parent_pc: origin.parent_pc,
            pending: 0,
            need: 0,
            slack: 0,
            flags: AWAITED | HELD,
            ring: target.ring,
            priority: origin.priority,
            zone: self.outbounds[origin.outbound as usize].zone as u16,
        };
        let slot = self.frames.insert(frame).ok_or(Full::InFlight)?;
        if self.has_sides {
            self.note_side(slot, origin, state);
            if self.watching != 0 {
                self.set_out(slot);
            }
        }
        if target.ring != NO_RING {
            self.rings[target.ring as usize].arm(now, slot, queue);
        }
        Ok(slot)
    }

    /// What else happens when an attempt goes out to `slot`, where the balancer looks at more than its own counts.
    #[inline(never)]
    pub(super) fn picked(
        &mut self,
        now: Time,
        queue: &mut Queue,
        origin: &Origin,
        value: Option<u32>,
        slot: Slot,
        rng: &mut Rng,
    ) -> Flow {
        if let Some(value) = value {
            self.note_affinity(now, origin.outbound, value, slot);
        }
        if self.outbounds[origin.outbound as usize].asks & PROBES != 0 {
            self.send_probes(now, queue, origin, rng)?;
        }
        Ok(())
    }

    #[inline(never)]
    pub(super) fn note_side(&mut self, frame: u32, origin: &Origin, state: u32) {
        if self.frames[frame].zone == ANYWHERE {
            let caller = self.caller_of(origin);
            self.frames[frame].zone = self.instances[caller as usize].more.zone as u16;
        }
        if state != NIL {
            self.calls[state].under = Under::Frame(frame);
        }
        if self.tracer.is_some() {
            self.trace_attempt(frame, origin, state);
        }
        let mut side = Side { call: state, request: origin.request, tag: origin.tag, ..Side::EMPTY };
        if self.tracks_children {
            let outbound = &self.outbounds[origin.outbound as usize];
            let Frame { ring, started, .. } = self.frames[frame];
            if outbound.deadline == Deadline::Set && ring != NO_RING {
                side.deadline = started + self.rings[ring as usize].delay();
            }
            if origin.parent != NIL {
                let parent = &mut self.sides[origin.parent as usize];
                side.sibling = parent.child;
                parent.child = frame;
                if outbound.deadline != Deadline::Stop {
                    side.deadline = side.deadline.min(parent.deadline);
                }
            }
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
        let Frame { parent, parent_pc, outbound: from, started, instance, .. } = *frame;
        let alone = !self.has_sides;
        if alone && frame.is_loose() {
            frame.flags = 0;
            self.frames.remove(slot);
        }
        let outbound = &mut self.outbounds[from as usize];
        if outbound.alive {
            let ordinal = self.instances[instance as usize].ordinal;
            outbound.view.active[ordinal as usize] -= 1;
            if outbound.hears {
                self.tell_caller(now, queue, slot, class);
            }
        }
        if !alone {
            return self.hear_beside(now, queue, slot, Outcome::new(class, now - started));
        }
        self.settle(now, queue, Caller { parent, parent_pc, outbound: from, request: NIL }, started, class)
    }

    /// The balancer of a caller, or who watches its endpoints, learns how `slot` ended, which may have been freed.
    #[inline(never)]
    fn tell_caller(&mut self, now: Time, queue: &mut Queue, slot: u32, class: Class) {
        let Frame { outbound: from, started, instance, key, .. } = self.frames[slot];
        let at = Slot(self.instances[instance as usize].ordinal);
        let outcome = Outcome::new(class, now - started);
        let outbound = &mut self.outbounds[from as usize];
        if outbound.hosts.is_some() {
            let tag = if self.has_sides { self.sides[slot as usize].tag } else { 0 };
            self.tell_hosts(now, queue, from, at, &outcome, Key(key ^ u64::from(tag)));
        } else {
            outbound.balancer.on_outcome(now, at, &outcome);
            if let Some(split) = &mut outbound.split {
                split.on_outcome(now, at, &outcome);
            }
        }
        self.note_outcome(now, queue, instance, &outcome);
    }

    /// The rest of hearing where attempts have a side.
    #[inline(never)]
    pub(super) fn hear_beside(&mut self, now: Time, queue: &mut Queue, slot: u32, outcome: Outcome) -> Flow {
        let Frame { parent, parent_pc, outbound, started, .. } = self.frames[slot];
        let Side { call, request, connection, cpu, .. } = self.sides[slot as usize];
        let class = outcome.class;
        if self.tracer.is_some() {
            self.trace_heard(now, slot, class);
        }
        if self.tracks_children && parent != NIL {
            self.unlink_child(parent, slot);
        }
        if self.tracks_children {
            self.note_deadline(queue, slot);
        }
        let of_use = match call {
            NIL | WIRE => true,
            LET_GO => false,
            call => self.has_owner(self.calls[call].job.over),
        };
        if class == Class::Success && of_use {
            self.credit(parent, parent_pc, cpu);
        }
        self.release_if_loose(slot);
        match call {
            NIL => self.settle(now, queue, Caller { parent, parent_pc, outbound, request }, started, class),
            WIRE => self.on_wire(now, queue, connection, class),
            call if connection != NIL => {
                // Its connection is free for whatever its caller does next; others who wait for it come after that.
                let host = self.stream_over(now, queue, connection, class);
                if call != LET_GO {
                    self.calls[call].under = Under::Nothing;
                    self.attempt_over(now, queue, call, outcome)?;
                }
                self.pump(now, queue, outbound, host)
            }
            LET_GO => Ok(()),
            call => {
                self.calls[call].under = Under::Nothing;
                self.attempt_over(now, queue, call, outcome)
            }
        }
    }

    /// The work of a successful attempt was of use to its caller.
    fn credit(&mut self, parent: u32, parent_pc: u16, cpu: u64) {
        if parent == NIL {
            self.telemetry.useful_cpu += u128::from(cpu);
        } else if self.caller_waits(parent, parent_pc) {
            self.sides[parent as usize].cpu += cpu;
        }
    }

    /// The present attempt of a call has ended, at an instance or as a call of the level below.
    fn attempt_over(&mut self, now: Time, queue: &mut Queue, call: u32, outcome: Outcome) -> Flow {
        self.teach(now, queue, call, &outcome);
        self.tell_budget(now, call, outcome.class, true);
        if outcome.class == Class::Success {
            return self.close_call(now, queue, call, Class::Success);
        }
        self.attempt_failed(now, queue, call, outcome)
    }

    /// Breaker and limiter learn how the present attempt of a call ended.
    fn teach(&mut self, now: Time, queue: &mut Queue, call: u32, outcome: &Outcome) {
        let state = &self.calls[call];
        let outbound = &mut self.outbounds[state.job.outbound as usize];
        if !outbound.alive {
            return;
        }
        let stack = outbound.stack_mut(state.job.level);
        if let Some(breaker) = &mut stack.breaker {
            breaker.on_outcome(now, state.breaker, outcome);
        }
        if let Some(limiter) = &mut stack.limiter {
            let mut rng = ManuallyDrop::new(state.draws(SAMPLE_SALT));
            limiter.on_outcome(now, state.limiter, outcome, &mut rng);
        }
        let Job { outbound, level, .. } = state.job;
        let queues = stack.backlog.is_some();
        self.note_breaker(now, outbound, level);
        if queues {
            self.ask_again(now, queue, outbound, level);
        }
    }

    /// So does its budget; `sent`, if it went out at all.
    pub(super) fn tell_budget(&mut self, now: Time, call: u32, class: Class, sent: bool) {
        let state = &mut self.calls[call];
        let stack = self.outbounds[state.job.outbound as usize].stack_mut(state.job.level);
        if stack.budget.is_none() {
            return;
        }
        let retryable = stack.goes_on_after(class);
        if let Some(budget) = &mut stack.budget {
            budget.on_ended(now, &Ended { class, sent, withdrawn: state.withdrawn.take(), retryable });
        }
    }

    /// Writes down a change of a breaker's state.
    fn note_breaker(&mut self, now: Time, index: u32, level: u8) {
        let stack = self.outbounds[index as usize].stack_mut(level);
        let Some(breaker) = &stack.breaker else { return };
        let state = breaker.state(now);
        if state != stack.breaker_state {
            let before = std::mem::replace(&mut stack.breaker_state, state);
            self.breaker_changed(now, index, before, state);
        }
    }

    /// The present attempt of a call failed: again, or give up.
    pub(super) fn attempt_failed(
        &mut self,
        now: Time,
        queue: &mut Queue,
        slot: u32,
        outcome: Outcome,
    ) -> Flow {
        let state = self.calls[slot];
        if self.is_wanted(&state.job) {
            let mut rng = state.draws(RETRY_SALT);
            let mut carry = state.carry;
            let stack = self.outbounds[state.job.outbound as usize].stack_mut(state.job.level);
            if let Some(retry) = &stack.retry
                && let Retry::After(delay) =
                    retry.on_failure(now, state.attempt, &mut carry, &outcome, &mut rng)
            {
                let withdrawn = stack.budget.as_mut().map(|budget| budget.withdraw(now, Some(outcome.class)));
                if withdrawn != Some(None) {
                    let state = &mut self.calls[slot];
                    state.attempt += 1;
                    state.carry = carry;
                    state.withdrawn = withdrawn.flatten();
                    state.wake = Some(now + delay);
                    queue.push(now + delay, Payload::new(RETRY, slot));
                    return Ok(());
                }
                self.telemetry.budget_refusals += 1;
            }
        }
        self.close_call(now, queue, slot, outcome.class)
    }

    /// Whether somebody is there who would make another attempt of a call.
    pub(super) fn is_wanted(&self, job: &Job) -> bool {
        self.outbounds[job.outbound as usize].alive
            && (self.caller_waits(job.parent, job.parent_pc) || !self.has_owner(job.over))
    }

    /// Whether the answer to a call goes to whoever made it in the first place.
    fn has_owner(&self, mut over: Over) -> bool {
        loop {
            over = match over {
                Over::Parent => return true,
                Over::Nobody => return false,
                Over::Call(outer) => self.calls[outer].job.over,
                Over::Hedge(hedge) => self.hedges[hedge].job.over,
            };
        }
    }

    /// A delayed attempt is due, unless its call is over.
    pub(super) fn on_retry(&mut self, now: Time, queue: &mut Queue, slot: u32, due: Time) -> Flow {
        let state = self.calls[slot];
        if !state.open || state.wake != Some(due) {
            return Ok(());
        }
        let Job { outbound, parent, .. } = state.job;
        let alive = self.outbounds[outbound as usize].alive;
        if alive && parent != NIL && self.is_hung(parent) {
            self.postpone(parent, Late::Retry(slot, due));
            return Ok(());
        }
        self.calls[slot].wake = None;
        if self.is_wanted(&state.job) {
            self.attempt(now, queue, slot)
        } else {
            self.give_up_waiting(now, queue, slot);
            self.close_call(now, queue, slot, Class::Abandoned)
        }
    }

    /// The next attempt of a call will not be made.
    fn give_up_waiting(&mut self, now: Time, queue: &mut Queue, slot: u32) {
        if self.calls[slot].admitted {
            // Breaker and limiter had let it in, but nobody wants it any more.
            let unused = Outcome { ignored: true, ..Outcome::new(Class::Abandoned, Duration::ZERO) };
            self.teach(now, queue, slot, &unused);
        } else if self.calls[slot].waits > 0 {
            self.leave_backlog(slot);
            self.give_back_breaker(now, slot, Class::Abandoned);
        }
        self.tell_budget(now, slot, Class::Abandoned, false);
    }

    fn close_call(&mut self, now: Time, queue: &mut Queue, slot: u32, class: Class) -> Flow {
        let CallState { job, started, .. } = self.calls[slot];
        self.calls[slot].open = false;
        if self.watching != 0 {
            self.promise_of_call(slot);
        }
        if let Over::Hedge(hedge) = job.over {
            self.unlink_copy(hedge, slot);
        }
        self.calls.remove(slot);
        self.report_up(now, queue, &job, started, class)?;
        self.let_go(job.request);
        Ok(())
    }

    /// A call of some level has ended; whoever made it hears of it.
    pub(super) fn report_up(
        &mut self,
        now: Time,
        queue: &mut Queue,
        job: &Job,
        started: Time,
        class: Class,
    ) -> Flow {
        let Job { parent, parent_pc, outbound, request, .. } = *job;
        match job.over {
            Over::Parent => {
                self.settle(now, queue, Caller { parent, parent_pc, outbound, request }, started, class)
            }
            Over::Call(outer) => {
                self.calls[outer].under = Under::Nothing;
                let latency = now - self.calls[outer].sent;
                self.attempt_over(now, queue, outer, Outcome::new(class, latency))
            }
            Over::Hedge(hedge) => self.copy_over(now, queue, hedge, Outcome::new(class, now - started)),
            Over::Nobody => {
                self.leave_adrift(job);
                Ok(())
            }
        }
    }

    /// Whoever made a call wants its answer no more. With `cancel` everything below it stops.
    pub(super) fn abandon(&mut self, now: Time, queue: &mut Queue, slot: u32, cancel: bool) -> Flow {
        let CallState { job, under, sent, .. } = self.calls[slot];
        if under == Under::Nothing {
            self.give_up_waiting(now, queue, slot);
        } else {
            self.teach(now, queue, slot, &Outcome::new(Class::Abandoned, now - sent));
            self.tell_budget(now, slot, Class::Abandoned, true);
        }
        self.calls[slot].open = false;
        if self.watching != 0 {
            self.promise_of_call(slot);
        }
        if let Over::Hedge(hedge) = job.over {
            self.unlink_copy(hedge, slot);
        }
        self.calls.remove(slot);
        self.let_go_of(now, queue, under, cancel)?;
        self.leave_adrift(&job);
        self.let_go(job.request);
        Ok(())
    }

    /// A call is over; if nobody waited for it, one less names the frame it came from.
    pub(super) fn leave_adrift(&mut self, job: &Job) {
        if job.over == Over::Nobody && job.parent != NIL {
            self.frames[job.parent].pending -= 1;
            self.release_if_loose(job.parent);
        }
    }

    /// A call lets go of its present attempt. Without `cancel` nobody below hears of it: an instance works on, and the level
    /// below goes on trying.
    fn let_go_of(&mut self, now: Time, queue: &mut Queue, under: Under, cancel: bool) -> Flow {
        match under {
            Under::Nothing => Ok(()),
            Under::Frame(frame) => {
                self.sides[frame as usize].call = LET_GO;
                self.end_attempt(now, queue, frame, Class::Abandoned, cancel)
            }
            Under::Call(inner) if cancel => self.abandon(now, queue, inner, true),
            Under::Hedge(inner) if cancel => self.abandon_hedge(now, queue, inner, true),
            Under::Call(inner) => {
                self.calls[inner].job.over = Over::Nobody;
                let CallState { job, started, .. } = self.calls[inner];
                self.set_adrift(now, queue, &job, Expiry { of: under, started });
                Ok(())
            }
            Under::Hedge(inner) => {
                self.hedges[inner].job.over = Over::Nobody;
                let (job, started) = (self.hedges[inner].job, self.hedges[inner].started);
                self.set_adrift(now, queue, &job, Expiry { of: under, started });
                Ok(())
            }
        }
    }

    /// A call that nobody waits for still names the frame it came from, and knows its deadline.
    fn set_adrift(&mut self, now: Time, queue: &mut Queue, job: &Job, expiry: Expiry) {
        self.hold_parent(job.parent);
        if job.parent != NIL {
            let deadline = self.sides[job.parent as usize].deadline;
            if deadline < Time::MAX && self.outbounds[job.outbound as usize].deadline != Deadline::Stop {
                // It may have passed while a level above waited for its limiter.
                self.schedule(queue, deadline.max(now), Control::Expire(expiry));
            }
        }
    }

    /// One more names the frame `parent`.
    pub(super) fn hold_parent(&mut self, parent: u32) {
        if parent != NIL {
            self.frames[parent].pending += 1;
        }
    }

    /// An attempt that nobody waits for any more goes on, but only to its deadline.
    fn note_deadline(&mut self, queue: &mut Queue, slot: u32) {
        let frame = &self.frames[slot];
        let deadline = self.sides[slot as usize].deadline;
        if deadline < Time::MAX && !frame.has(ENDED) {
            let expiry = Expiry { of: Under::Frame(slot), started: frame.started };
            self.schedule(queue, deadline, Control::Expire(expiry));
        }
    }

    /// What `slot` has started below goes on after its end, but only to the deadline that it passed on.
    #[cold]
    pub(super) fn tell_deadline_below(&mut self, queue: &mut Queue, slot: u32) {
        let mut child = self.sides[slot as usize].child;
        while child != NIL {
            let Side { deadline, sibling, .. } = self.sides[child as usize];
            if deadline < Time::MAX {
                let started = self.frames[child].started;
                self.schedule(queue, deadline, Control::Expire(Expiry { of: Under::Frame(child), started }));
            }
            child = sibling;
        }
    }

    /// The deadline of something that goes on for nobody, if it still does.
    pub(super) fn on_expire(&mut self, now: Time, queue: &mut Queue, expiry: Expiry) -> Flow {
        let Expiry { of, started } = expiry;
        match of {
            Under::Nothing => Ok(()),
            Under::Frame(slot) => {
                let frame = &self.frames[slot];
                let goes_on = frame.flags != 0 && !frame.has(ENDED) && frame.started == started;
                if goes_on { self.end_attempt(now, queue, slot, Class::Abandoned, true) } else { Ok(()) }
            }
            Under::Call(slot) => {
                let call = &self.calls[slot];
                let goes_on = call.open && call.job.over == Over::Nobody && call.started == started;
                if goes_on { self.abandon(now, queue, slot, true) } else { Ok(()) }
            }
            Under::Hedge(slot) => {
                let call = &self.hedges[slot];
                let goes_on = call.open && call.job.over == Over::Nobody && call.started == started;
                if goes_on { self.abandon_hedge(now, queue, slot, true) } else { Ok(()) }
            }
        }
    }

    /// Timeouts that an outer level sets on its attempts.
    pub(super) fn on_level_ring(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        loop {
            let ring = &mut self.level_rings[index as usize];
            let (delay, calls, outbounds) = (ring.delay(), &self.calls, &self.outbounds);
            let live = |owner: u32, due: Time| {
                let call = &calls[owner];
                call.open
                    && call.under != Under::Nothing
                    && call.sent + delay == due
                    && u32::from(outbounds[call.job.outbound as usize].stack(call.job.level).ring) == index
            };
            let Some(slot) = ring.expire(now, queue, live) else {
                return Ok(());
            };
            let CallState { job, under, .. } = self.calls[slot];
            let cancel = self.outbounds[job.outbound as usize].stack(job.level).cancel;
            self.calls[slot].under = Under::Nothing;
            self.let_go_of(now, queue, under, cancel)?;
            // Letting go may have ended its caller, and the slot may be another call's by now, which has sent nothing so early.
            let state = &self.calls[slot];
            if state.open && state.sent + delay == now && state.under == Under::Nothing {
                self.attempt_over(now, queue, slot, Outcome::new(Class::Timeout, delay))?;
            }
        }
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
        self.network.go_deeper();
        self.finish(now, queue, parent, class)?;
        self.network.come_back();
        Ok(())
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
            if !self.frames[slot].is_attempt() {
                self.finish(now, queue, slot, Class::Timeout)?;
                continue;
            }
            let outbound = &self.outbounds[self.frames[slot].outbound as usize];
            let cancel = outbound.stack.cancel || outbound.deadline == Deadline::Set;
            self.end_attempt(now, queue, slot, Class::Timeout, cancel)?;
        }
    }

    /// The caller of `slot`, if there is one, stops waiting for it and notes `class`. With `cancel` its work stops, too.
    pub(super) fn end_attempt(
        &mut self,
        now: Time,
        queue: &mut Queue,
        slot: u32,
        class: Class,
        cancel: bool,
    ) -> Flow {
        if self.frames[slot].has(HELD) {
            return self.let_down(now, queue, slot, class);
        }
        if cancel && self.network.is_deep() {
            let expiry = Expiry { of: Under::Frame(slot), started: self.frames[slot].started };
            self.schedule(queue, now, Control::Expire(expiry));
        } else if cancel {
            // Held while its instance lets go of it, which may start others and end its caller.
            self.frames[slot].pending += 1;
            self.network.go_deeper();
            self.cancel(now, queue, slot)?;
            self.network.come_back();
            self.frames[slot].pending -= 1;
        }
        if self.frames[slot].has(AWAITED) {
            return self.hear(now, queue, slot, class);
        }
        self.release_if_loose(slot);
        Ok(())
    }

    /// Stops the work of `slot` and everything below it at once, without an answer.
    pub(super) fn cancel(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        let frame = &mut self.frames[slot];
        if frame.flags & ENDED != 0 {
            return Ok(());
        }
        frame.flags |= ENDED;
        if self.tracer.is_some() {
            self.trace_end(now, slot);
        }
        let frame = &mut self.frames[slot];
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

    /// Cancels every attempt that `slot` waits for, as far as its edges pass that on.
    pub(super) fn cancel_children(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        if !self.tracks_children {
            return Ok(());
        }
        loop {
            let child = self.sides[slot as usize].child;
            if child == NIL {
                return Ok(());
            }
            let stops = self.outbounds[self.frames[child].outbound as usize].deadline != Deadline::Stop;
            // That takes it off the list.
            self.end_attempt(now, queue, child, Class::Abandoned, stops)?;
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

    /// Keeps the frames of a list from being freed while one after the other is looked at, which may end some of those that
    /// come later, and their callers. Each is let loose by [`is_gone`](Self::is_gone).
    pub(super) fn hold_all(&mut self, slots: &[u32]) {
        for &slot in slots {
            self.frames[slot].pending += 1;
        }
    }

    /// A frame that was held is so no longer. Whether it has ended meanwhile; then it may have been freed, too.
    pub(super) fn is_gone(&mut self, slot: u32) -> bool {
        let frame = &mut self.frames[slot];
        frame.pending -= 1;
        let ended = frame.has(ENDED);
        if ended {
            self.release_if_loose(slot);
        }
        ended
    }

    /// Frees a frame that nothing refers to any more.
    #[inline(always)]
    pub(super) fn release_if_loose(&mut self, slot: u32) {
        if self.frames[slot].is_loose() {
            if self.has_sides {
                if self.watching != 0 {
                    self.reckon(slot);
                }
                if self.tracer.is_some() {
                    self.trace_gone(slot);
                }
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
                let errand = record.errand;
                if self.watching != 0 {
                    self.forget_bonds(request);
                }
                self.requests.remove(request);
                if errand != NIL {
                    self.errand_gone(errand);
                }
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
pub(super) const fn attempt_tag(tag: u32, attempt: u32) -> u32 {
    if tag == 0 && attempt == 0 { 0 } else { (Key(tag as u64).with(attempt as u64 + 1).0 >> 32) as u32 | 1 }
}
