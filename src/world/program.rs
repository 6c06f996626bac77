//! What an attempt does at its instance, and a request at its client: the steps of a program, one after the other.

use crate::kernel::queue::{Payload, Queue};
use crate::policies::view::Class;
use crate::random::Key;
use crate::random::law::Law;
use crate::time::{Duration, Time};

use super::call::Origin;
use super::control::Control;
use super::frame::{AWAITED, ENDED, EVENT, INSIDE, LEFTOVER, LINKED, NIL, ON_CPU, OWED, QUEUED, STARTED};
use super::hang::Late;
use super::instance::Lane;
use super::replica::Written;
use super::spec::{CpuMode, NO_RING, Op};
use super::topic::Published;
use super::transaction::Locked;
use super::{Flow, STEP, World};

/// Connections of one instance to something slow.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolState {
    pub(super) free: u32,
    pub(super) waiting: Lane,
}

/// Names an attempt that waits for a connection, even after its slot has been reused.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolTicket {
    frame: u32,
    pc: u16,
    started: Time,
}

const ATTEMPT_SALT: u64 = 0x6174_7465_6d70_742d;
const CHOICE_SALT: u64 = 0x6368_6f69_6365_2d73;
const ERROR_SALT: u64 = 0x6572_726f_722d_736c;

impl World<'_> {
    /// Runs the program of `slot` until it has to wait for something.
    pub(super) fn advance(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        let spec = self.spec;
        loop {
            let frame = &mut self.frames[slot];
            let (pc, key) = (frame.pc, frame.key);
            match &spec.ops[pc as usize] {
                Op::Cpu(request, attempt) => {
                    let mut demand = self.draw(slot, key, pc, request, attempt.as_deref());
                    let index = self.frames[slot].instance;
                    if !self.instances[index as usize].plain {
                        demand = self.burden(now, index, pc, demand);
                    }
                    if demand == Duration::ZERO {
                        self.frames[slot].pc += 1;
                        continue;
                    }
                    self.run_on_cpu(now, queue, slot, demand);
                    return Ok(());
                }
                Op::Sidecar { cost, .. } => {
                    // One draw, half of it on the way in and half on the way out.
                    let half = Duration(self.draw(slot, key, pc, cost, None).0 / 2);
                    if half == Duration::ZERO {
                        self.frames[slot].pc += 1;
                        continue;
                    }
                    self.run_on_cpu(now, queue, slot, half);
                    return Ok(());
                }
                Op::Wait(request, attempt) => {
                    let wait = self.draw(slot, key, pc, request, attempt.as_deref());
                    let frame = &mut self.frames[slot];
                    if wait == Duration::ZERO {
                        frame.pc += 1;
                        continue;
                    }
                    frame.flags |= EVENT;
                    queue.push(now + wait, Payload::new(STEP, slot));
                    return Ok(());
                }
                Op::Call(call) => {
                    let probability = spec.calls[*call as usize].probability;
                    if probability < 1.0
                        && Key(key ^ CHOICE_SALT ^ self.op_salts[pc as usize]).draws().unit() >= probability
                    {
                        self.frames[slot].pc += 1;
                        self.left_out(slot);
                        continue;
                    }
                    return self.call_one(now, queue, slot, *call, 0);
                }
                Op::Choose(shares) => {
                    let draw = Key(key ^ CHOICE_SALT ^ self.op_salts[pc as usize]).draws().unit();
                    let Some(&(_, call)) = shares.iter().find(|(upto, _)| draw < *upto) else {
                        self.frames[slot].pc += 1;
                        self.left_out(slot);
                        continue;
                    };
                    return self.call_one(now, queue, slot, call, 0);
                }
                Op::Route { attribute, to, otherwise } => {
                    let request = self.sides[slot as usize].request;
                    let value = self.value_of(request, *attribute);
                    let call = value.map_or(*otherwise, |value| to[value as usize]);
                    return self.call_one(now, queue, slot, call, 0);
                }
                Op::Parallel { calls, need } => {
                    frame.need = *need;
                    frame.slack = calls.len() as u16 - *need;
                    // One more, so that quick answers do not free the frame under our feet.
                    frame.pending += 1;
                    for (position, &call) in calls.iter().enumerate() {
                        let frame = &self.frames[slot];
                        if frame.pc != pc || frame.has(ENDED) {
                            break;
                        }
                        self.make_call(now, queue, slot, call, position as u64 + 1)?;
                    }
                    self.frames[slot].pending -= 1;
                    self.release_if_loose(slot);
                    return Ok(());
                }
                Op::CacheLookup { cache, skip_to } => {
                    let hit = self.cache_lookup(now, slot, *cache);
                    let frame = &mut self.frames[slot];
                    match hit {
                        super::cache::Lookup::Hit => {
                            frame.pc = *skip_to;
                            self.left_out(slot);
                        }
                        super::cache::Lookup::Miss => frame.pc += 1,
                        super::cache::Lookup::Wait => return Ok(()),
                    }
                }
                Op::CacheFill { cache } => {
                    frame.pc += 1;
                    // Held while those who waited go on, which may end its caller.
                    frame.pending += 1;
                    self.cache_fill(now, queue, slot, *cache)?;
                    if self.is_gone(slot) {
                        return Ok(());
                    }
                }
                Op::Acquire { pool } => {
                    if !self.acquire(now, queue, slot, *pool) {
                        return Ok(());
                    }
                    self.frames[slot].pc += 1;
                }
                Op::Release { pool } => {
                    frame.pc += 1;
                    frame.pending += 1;
                    self.release(now, queue, slot, *pool)?;
                    if self.is_gone(slot) {
                        return Ok(());
                    }
                }
                Op::Publish { topic, probability } => {
                    match self.publish(now, queue, slot, *topic, *probability)? {
                        Published::Nothing => self.frames[slot].pc += 1,
                        Published::Failed => {
                            return self.finish_deeper(now, queue, slot, Class::Failure);
                        }
                        Published::Done => {
                            let wait =
                                self.draw(slot, key, pc, &spec.topics[usize::from(*topic)].publish, None);
                            let frame = &mut self.frames[slot];
                            if wait > Duration::ZERO {
                                frame.flags |= EVENT;
                                queue.push(now + wait, Payload::new(STEP, slot));
                                return Ok(());
                            }
                            frame.pc += 1;
                        }
                    }
                }
                Op::Transaction { transaction, .. } => {
                    return self.begin_transaction(now, queue, slot, *transaction);
                }
                Op::Lock { transaction } => match self.lock(now, queue, slot, *transaction) {
                    Locked::Go => self.frames[slot].pc += 1,
                    Locked::Wait => return Ok(()),
                    Locked::End(class) => {
                        return self.finish_deeper(now, queue, slot, class);
                    }
                },
                Op::Member { leader, write } => {
                    if !self.is_right_member(now, slot, *leader, *write) {
                        return self.finish_deeper(now, queue, slot, Class::Failure);
                    }
                    self.frames[slot].pc += 1;
                }
                Op::Replicate => {
                    // Held while others go on, which may end its caller.
                    self.frames[slot].pending += 1;
                    let written = self.replicate(now, queue, slot)?;
                    if self.is_gone(slot) {
                        return Ok(());
                    }
                    match written {
                        Written::Now => self.frames[slot].pc += 1,
                        Written::Later => return Ok(()),
                        Written::Never => {
                            return self.finish_deeper(now, queue, slot, Class::Failure);
                        }
                    }
                }
                Op::End => {
                    return self.finish_deeper(now, queue, slot, Class::Success);
                }
            }
        }
    }

    /// `slot` did not make calls that it might have made.
    #[inline]
    fn left_out(&mut self, slot: u32) {
        if self.watching != 0 {
            self.reckon(slot);
        }
    }

    /// Length of the present step: the request's part, the same for every attempt, times the attempt's own factor.
    fn draw(&self, slot: u32, key: u64, pc: u16, request: &Law, attempt: Option<&Law>) -> Duration {
        let key = Key(key ^ self.op_salts[pc as usize]);
        let Some(attempt) = attempt else {
            return request.sample_duration(&mut key.draws());
        };
        let tag = if self.has_sides { self.sides[slot as usize].tag } else { 0 };
        let factor = attempt.sample(&mut Key(key.0 ^ ATTEMPT_SALT).with(u64::from(tag)).draws());
        Duration::from_ns_f64(request.sample(&mut key.draws()) * factor)
    }

    #[inline(always)]
    fn call_one(&mut self, now: Time, queue: &mut Queue, slot: u32, call: u32, position: u64) -> Flow {
        let frame = &mut self.frames[slot];
        frame.need = 1;
        frame.slack = 0;
        self.make_call(now, queue, slot, call, position)
    }

    #[inline(always)]
    fn make_call(&mut self, now: Time, queue: &mut Queue, slot: u32, call: u32, position: u64) -> Flow {
        let frame = &mut self.frames[slot];
        frame.pending += 1;
        let (pc, key, instance, outbound, priority) =
            (frame.pc, frame.key, frame.instance, frame.outbound, frame.priority);
        let edge = u32::from(self.spec.calls[call as usize].edge);
        let first = if instance == NIL { outbound } else { self.instances[instance as usize].outbounds };
        let mut outbound = first + edge;
        if self.shares_outbounds && instance != NIL {
            let service = self.instances[instance as usize].service;
            outbound = self.services[service as usize].shared_outbound(edge).unwrap_or(outbound);
        }
        let (request, tag) = if self.has_sides {
            let side = &self.sides[slot as usize];
            (side.request, side.tag)
        } else {
            (NIL, 0)
        };
        let origin = Origin { parent: slot, parent_pc: pc, outbound, request, tag, priority };
        let key = Key(key ^ self.op_salts[pc as usize]).with(position).0;
        self.place(now, queue, call, key, &origin)
    }

    /// Work or waiting of `slot` ends.
    #[inline(always)]
    pub(super) fn on_step(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        let frame = &mut self.frames[slot];
        if frame.flags == AWAITED | INSIDE | STARTED | ON_CPU | EVENT
            && matches!(self.spec.ops[frame.pc as usize + 1], Op::End)
            && let instance = &mut self.instances[frame.instance as usize]
            && instance.is_quick()
            && let service = &mut self.services[instance.service as usize]
            && service.ordinary
        {
            // The common case in one piece: the last step of an answer that is awaited ends on a core of its own. What
            // follows below does the same with everything that can be otherwise.
            frame.pc += 1;
            frame.flags = AWAITED | ENDED;
            service.leave(now, frame.arrived);
            let index = frame.instance;
            if instance.queued == 0 {
                instance.set_running(now, instance.running - 1);
                instance.inside -= 1;
            } else if !self.hand_over(now, queue, index) {
                // Held while its instance starts another one, which may end its caller.
                self.frames[slot].pending += 1;
                let instance = &mut self.instances[index as usize];
                instance.set_running(now, instance.running - 1);
                instance.inside -= 1;
                self.dispatch(now, queue, index)?;
                let frame = &mut self.frames[slot];
                frame.pending -= 1;
                if !frame.has(AWAITED) {
                    self.release_if_loose(slot);
                    return Ok(());
                }
            }
            return self.reply(now, queue, slot, Class::Success);
        }
        if frame.has(ENDED) {
            self.step_of_the_dead(slot);
            return Ok(());
        }
        frame.flags &= !EVENT;
        if frame.has(ON_CPU) {
            if frame.has(OWED) {
                self.pay_owed(now, queue, slot);
                return Ok(());
            }
            let index = frame.instance as usize;
            let instance = &mut self.instances[index];
            if instance.hung {
                // What ran when the instance hung still has to run that long when it goes on.
                let left = now - instance.more.hang.since;
                instance.more.hang.held.push((slot, left));
                return Ok(());
            }
            frame.flags &= !ON_CPU;
            self.core_free(now, queue, index as u32);
        } else if self.is_hung(slot) {
            self.frames[slot].pc += 1;
            self.stall(slot, true);
            return Ok(());
        }
        let frame = &mut self.frames[slot];
        frame.pc += 1;
        if matches!(self.spec.ops[frame.pc as usize], Op::End) {
            return self.finish_here(now, queue, slot, Class::Success);
        }
        self.advance(now, queue, slot)
    }

    /// A worker and its core go from an attempt that has ended to the next one that waits, if that is as simple as that.
    #[inline(always)]
    fn hand_over(&mut self, now: Time, queue: &mut Queue, index: u32) -> bool {
        let instance = &mut self.instances[index as usize];
        let next = instance.lane.head;
        let frame = &mut self.frames[next];
        if frame.flags & !AWAITED == INSIDE | QUEUED
            && !self.watches_starts
            && let Op::Cpu(request, None) = &self.spec.ops[frame.pc as usize]
        {
            let salt = self.op_salts[frame.pc as usize];
            let demand = request.sample_duration(&mut Key(frame.key ^ salt).draws());
            if demand > Duration::ZERO {
                instance.lane.head = frame.next;
                if frame.next == NIL {
                    instance.lane.tail = NIL;
                }
                instance.queued -= 1;
                frame.flags ^= QUEUED | STARTED | ON_CPU | EVENT;
                self.services[instance.service as usize].started(now, frame.arrived);
                if self.has_sides {
                    self.sides[next as usize].cpu += demand.0;
                }
                queue.push(now + demand, Payload::new(STEP, next));
                return true;
            }
        }
        false
    }

    /// The event of a step that nobody is interested in any more.
    #[cold]
    fn step_of_the_dead(&mut self, slot: u32) {
        let frame = &mut self.frames[slot];
        // A killed attempt may have an answer under way as well, which is what EVENT stands for then.
        frame.flags &= if frame.has(LEFTOVER) { !LEFTOVER } else { !EVENT };
        self.release_if_loose(slot);
    }

    /// `slot` goes on, unless its instance hangs.
    pub(super) fn go_on(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        if self.is_hung(slot) {
            self.stall(slot, true);
            return Ok(());
        }
        self.advance(now, queue, slot)
    }

    /// The program of `slot` is over (or cannot go on): leave, answer.
    pub(super) fn finish(&mut self, now: Time, queue: &mut Queue, slot: u32, class: Class) -> Flow {
        self.finish_here(now, queue, slot, class)
    }

    /// The same from within the program, which may itself run within another one.
    #[inline(always)]
    fn finish_deeper(&mut self, now: Time, queue: &mut Queue, slot: u32, class: Class) -> Flow {
        self.network.go_deeper();
        self.finish(now, queue, slot, class)?;
        self.network.come_back();
        Ok(())
    }

    #[inline(always)]
    fn finish_here(&mut self, now: Time, queue: &mut Queue, slot: u32, class: Class) -> Flow {
        let frame = &mut self.frames[slot];
        if frame.instance == NIL {
            return self.finish_root(now, queue, slot, class);
        }
        let class = if class == Class::Success {
            self.verdict(now, queue, slot)
        } else {
            self.note_failure(now, queue, slot);
            class
        };
        let frame = &mut self.frames[slot];
        frame.flags |= ENDED;
        if frame.pending > 0 && self.tracks_children {
            self.tell_deadline_below(queue, slot);
        }
        if self.tracks_requests {
            self.note_end(now, slot);
        }
        // Held while its instance starts others, which may end its caller.
        self.frames[slot].pending += 1;
        if self.frames[slot].has(INSIDE) {
            self.leave(now, queue, slot)?;
        }
        let frame = &mut self.frames[slot];
        frame.pending -= 1;
        if frame.has(AWAITED) {
            return self.reply(now, queue, slot, class);
        }
        self.release_if_loose(slot);
        Ok(())
    }

    /// Somebody wants to know that `slot` has ended.
    #[inline(never)]
    fn note_end(&mut self, now: Time, slot: u32) {
        if self.watching != 0 {
            self.reckon(slot);
        }
        if self.tracer.is_some() {
            self.trace_end(now, slot);
        }
    }

    /// A request at its client is over.
    #[inline(never)]
    fn finish_root(&mut self, now: Time, queue: &mut Queue, slot: u32, class: Class) -> Flow {
        let frame = &mut self.frames[slot];
        frame.flags |= ENDED;
        frame.flags &= !AWAITED;
        let (started, source) = (frame.started, frame.next);
        if frame.pending > 0 && self.tracks_children {
            self.tell_deadline_below(queue, slot);
        }
        let request = if self.has_sides { self.sides[slot as usize].request } else { NIL };
        self.frames[slot].pending += 1;
        if self.frames[slot].ring != NO_RING
            && self.spec.sources[source as usize].propagate_deadline
            && class == Class::Timeout
        {
            self.cancel_children(now, queue, slot)?;
        }
        if self.has_sides && class == Class::Success {
            self.telemetry.useful_cpu += u128::from(self.sides[slot as usize].cpu);
        }
        self.root_done(now, queue, source, started, request, class);
        self.frames[slot].pending -= 1;
        self.release_if_loose(slot);
        Ok(())
    }

    /// Whether the work was right: bad versions and error faults turn success into failure.
    #[inline]
    fn verdict(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Class {
        let frame = &self.frames[slot];
        let instance = &self.instances[frame.instance as usize];
        if !self.services[instance.service as usize].judged {
            return Class::Success;
        }
        self.judged(now, queue, slot)
    }

    /// Whoever sent `slot` on an errand has to know that it failed.
    #[cold]
    fn note_failure(&mut self, now: Time, queue: &mut Queue, slot: u32) {
        if self.has_errands {
            self.errand_failed(now, queue, slot);
        }
    }

    #[cold]
    fn judged(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Class {
        if self.is_wire(slot) {
            return Class::Success;
        }
        let frame = &self.frames[slot];
        let instance = &self.instances[frame.instance as usize];
        let version = &self.spec.services[instance.service as usize].versions[instance.version as usize];
        let good =
            instance.more.errors.iter().fold(1.0 - version.error_rate, |good, rate| good * (1.0 - rate));
        let tag = if self.has_sides { self.sides[slot as usize].tag } else { 0 };
        if good < 1.0 && Key(frame.key ^ ERROR_SALT).with(u64::from(tag)).draws().unit() >= good {
            self.note_failure(now, queue, slot);
            return Class::Failure;
        }
        if self.has_errands && !self.errand_done(now, queue, slot) {
            return Class::Failure;
        }
        self.count_bytes(slot, false);
        if self.tracks_requests && self.sides[slot as usize].degraded && self.frames[slot].has(AWAITED) {
            self.note_degraded(slot);
        }
        Class::Success
    }

    /// `demand` with everything that slows the instance down at the start of a step.
    #[cold]
    fn burden(&mut self, now: Time, index: u32, pc: u16, demand: Duration) -> Duration {
        let degraded = self.degraded_at(pc);
        let instance = &mut self.instances[index as usize];
        let spec = &self.spec.services[instance.service as usize];
        let mut factor = spec.versions[instance.version as usize].demand;
        let mut constant = factor == 1.0;
        if spec.cpu != CpuMode::Shared {
            factor *= instance.more.slow.iter().product::<f64>();
            constant &= instance.more.slow.is_empty();
        }
        if let Some(last) = spec.slow_down.len().checked_sub(1) {
            factor *= spec.slow_down[(instance.inside as usize).saturating_sub(1).min(last)];
            constant = false;
        }
        if let Some((lasts, slowdown)) = spec.warm_up {
            let left = instance.more.warm_at - now;
            if left > Duration::ZERO {
                factor *= 1.0 + (slowdown - 1.0) * (left.0 as f64 / lasts.0 as f64);
                constant = false;
            }
        }
        factor *= degraded.map_or(1.0, |degraded| degraded.cost);
        instance.plain = constant && self.degraded.is_empty();
        Duration::from_ns_f64(demand.0 as f64 * factor)
    }

    /// Demand of a `cpu` step whose turn has come.
    pub(super) fn demand_of_turn(&mut self, now: Time, slot: u32) -> Duration {
        let frame = &self.frames[slot];
        let (key, pc, index) = (frame.key, frame.pc, frame.instance);
        let Op::Cpu(request, attempt) = &self.spec.ops[pc as usize] else {
            unreachable!("only cpu steps wait for a core");
        };
        let demand = self.draw(slot, key, pc, request, attempt.as_deref());
        if self.instances[index as usize].plain { demand } else { self.burden(now, index, pc, demand) }
    }

    /// Takes a connection; false if `slot` has to wait for one.
    fn acquire(&mut self, now: Time, queue: &mut Queue, slot: u32, pool: u16) -> bool {
        let index = self.frames[slot].instance as usize;
        let instance = &mut self.instances[index];
        let state = &mut instance.more.pools[pool as usize];
        if state.free > 0 {
            state.free -= 1;
            return true;
        }
        if state.waiting.tail == NIL {
            state.waiting = Lane { head: slot, tail: slot };
        } else {
            let tail = state.waiting.tail;
            state.waiting.tail = slot;
            self.frames[tail].next = slot;
        }
        let frame = &mut self.frames[slot];
        frame.next = NIL;
        frame.flags |= LINKED;
        let spec = &self.spec.services[self.instances[index].service as usize].pools[pool as usize];
        if let Some(wait) = spec.max_wait {
            let ticket = PoolTicket { frame: slot, pc: frame.pc, started: frame.started };
            self.schedule(queue, now + wait, Control::PoolWait(ticket));
        }
        false
    }

    /// An attempt has waited long enough for a connection.
    pub(super) fn on_pool_wait(&mut self, now: Time, queue: &mut Queue, ticket: PoolTicket) -> Flow {
        let frame = &self.frames[ticket.frame];
        let waits = frame.has(LINKED | INSIDE) && frame.pc == ticket.pc && frame.started == ticket.started;
        if waits && !frame.has(ENDED) {
            if self.is_hung(ticket.frame) {
                self.postpone(ticket.frame, Late::Pool(ticket));
                return Ok(());
            }
            self.finish(now, queue, ticket.frame, Class::Failure)
        } else {
            Ok(())
        }
    }

    /// Gives a connection back; the next waiting attempt goes on.
    fn release(&mut self, now: Time, queue: &mut Queue, slot: u32, pool: u16) -> Flow {
        let index = self.frames[slot].instance as usize;
        loop {
            // Without pools the instance has died meanwhile.
            let Some(state) = self.instances[index].more.pools.get_mut(pool as usize) else { return Ok(()) };
            let next = state.waiting.head;
            if next == NIL {
                state.free += 1;
                return Ok(());
            }
            let frame = &mut self.frames[next];
            state.waiting.head = frame.next;
            if state.waiting.head == NIL {
                state.waiting.tail = NIL;
            }
            frame.flags &= !LINKED;
            if frame.has(ENDED) {
                self.release_if_loose(next);
                continue;
            }
            frame.pc += 1;
            return self.go_on(now, queue, next);
        }
    }

    /// Connections that `slot` holds: its program would give them back before it takes them again.
    pub(super) fn connections_held(&self, slot: u32) -> Vec<u16> {
        let rest = &self.spec.ops[self.frames[slot].pc as usize..];
        let (mut held, mut taken) = (Vec::new(), Vec::new());
        for op in rest {
            match op {
                Op::Acquire { pool } => taken.push(*pool),
                Op::Release { pool } => match taken.iter().rposition(|other| other == pool) {
                    Some(at) => drop(taken.remove(at)),
                    None => held.push(*pool),
                },
                Op::End => break,
                _ => {}
            }
        }
        held
    }

    /// `slot` leaves in the middle of its program: connections that it holds are free again.
    pub(super) fn give_connection_back(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        for pool in self.connections_held(slot) {
            self.release(now, queue, slot, pool)?;
        }
        Ok(())
    }
}
