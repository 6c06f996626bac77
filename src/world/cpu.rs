//! Cores of an instance: dedicated, first come first served, or shared.
//!
//! Shared cores follow egalitarian processor sharing: n runnable steps on c cores each run at min(1, c/n), times the
//! instance's speed. Work is fixed-point (2^-12 ns), so results never depend on float rounding; one event per instance is
//! armed for the step that ends first, and an event that comes too early just arms the next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::kernel::queue::{Payload, Queue};
use crate::time::{Duration, Time};

use super::frame::{ENDED, EVENT, LINKED, NIL, ON_CPU, OWED};
use super::instance::Lane;
use super::spec::CpuMode;
use super::{Flow, SHARED, STEP, World};

/// Processor sharing on one instance.
#[derive(Debug)]
pub(super) struct Shared {
    cores: u32,
    /// Speed, 2^32 is full.
    speed: u64,
    /// Work that each runnable step has received since the instance was last idle, in 2^-12 ns.
    served: u64,
    since: Time,
    /// Earliest event in the queue for this instance.
    armed: Time,
    /// (work at which it ends, order of arrival, frame).
    steps: BinaryHeap<Reverse<(u64, u64, u32)>>,
    order: u64,
}

const FULL_SPEED: u64 = 1 << 32;

impl Shared {
    pub(super) fn new(cores: u32, now: Time) -> Self {
        Self {
            cores,
            speed: FULL_SPEED,
            served: 0,
            since: now,
            armed: Time::MAX,
            steps: BinaryHeap::new(),
            order: 0,
        }
    }

    /// Speed of one step, 2^32 is full.
    fn rate(&self) -> u64 {
        let runnable = self.steps.len() as u64;
        if runnable <= u64::from(self.cores) {
            self.speed
        } else {
            (u128::from(self.speed) * u128::from(self.cores) / u128::from(runnable)) as u64
        }
    }

    /// Brings `served` up to `now`.
    fn catch_up(&mut self, now: Time) {
        let passed = now - self.since;
        self.since = now;
        if self.steps.is_empty() {
            self.served = 0;
        } else {
            self.served += ((u128::from(passed.0) * u128::from(self.rate())) >> 20) as u64;
        }
    }

    /// When the next step ends if nothing changes.
    fn due(&self) -> Option<Time> {
        let Reverse((end, ..)) = self.steps.peek()?;
        let (left, rate) = (end.saturating_sub(self.served), self.rate());
        if rate == 0 {
            return None;
        }
        let ns = (u128::from(left) << 20).div_ceil(u128::from(rate));
        Some(self.since + Duration(u64::try_from(ns).unwrap_or(u64::MAX)))
    }

    /// Runnable steps.
    pub(super) fn runnable(&self) -> u32 {
        self.steps.len() as u32
    }

    /// Cores in use.
    fn running(&self) -> u32 {
        (self.steps.len() as u32).min(self.cores)
    }
}

impl World<'_> {
    /// `slot` needs a core for `demand`.
    #[inline(always)]
    pub(super) fn run_on_cpu(&mut self, now: Time, queue: &mut Queue, slot: u32, demand: Duration) {
        if self.has_sides {
            self.sides[slot as usize].cpu += demand.0;
        }
        let frame = &mut self.frames[slot];
        frame.flags |= ON_CPU;
        let instance = &mut self.instances[frame.instance as usize];
        if !instance.dedicated || instance.hung {
            return self.run_on_cpu_shared(now, queue, slot, demand);
        }
        instance.set_running(now, instance.running + 1);
        frame.flags |= EVENT;
        queue.push(now + demand, Payload::new(STEP, slot));
    }

    /// The same where cores are not always free.
    #[inline(never)]
    fn run_on_cpu_shared(&mut self, now: Time, queue: &mut Queue, slot: u32, demand: Duration) {
        let frame = &mut self.frames[slot];
        let index = frame.instance;
        let instance = &mut self.instances[index as usize];
        let service = &self.services[instance.service as usize];
        match service.cpu {
            CpuMode::Dedicated | CpuMode::Fifo => {
                let running = if instance.hung { instance.more.hang.running } else { instance.running };
                if service.cpu == CpuMode::Dedicated || running < service.cores {
                    if instance.hung {
                        instance.more.hang.running += 1;
                        instance.more.hang.held.push((slot, demand));
                        return;
                    }
                    instance.set_running(now, running + 1);
                    frame.flags |= EVENT;
                    queue.push(now + demand, Payload::new(STEP, slot));
                    return;
                }
                // Its demand is drawn again, from the same key, when its turn comes.
                frame.flags |= LINKED;
                frame.next = NIL;
                let lane = &mut instance.more.cpu_lane;
                if lane.tail == NIL {
                    *lane = Lane { head: slot, tail: slot };
                } else {
                    let tail = lane.tail;
                    lane.tail = slot;
                    self.frames[tail].next = slot;
                }
            }
            CpuMode::Shared => {
                let hung = instance.hung;
                if self.has_sides && !instance.more.slow.is_empty() {
                    // What it will use of its cores, should they stay as slow.
                    let more = instance.more.slow.iter().product::<f64>() - 1.0;
                    let side = &mut self.sides[slot as usize];
                    side.cpu += Duration::from_ns_f64(demand.0 as f64 * more).0;
                }
                let shared = instance.more.shared.as_mut().expect("a shared instance has its state");
                shared.catch_up(now);
                let end = shared.served.saturating_add(demand.0.saturating_mul(1 << 12));
                shared.order += 1;
                shared.steps.push(Reverse((end, shared.order, slot)));
                let running = shared.running();
                instance.set_running(now, if hung { 0 } else { running });
                self.arm_shared(queue, index);
            }
        }
    }

    /// A core of `index` is free again (dedicated and first come, first served).
    #[inline(always)]
    pub(super) fn core_free(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let instance = &mut self.instances[index as usize];
        instance.set_running(now, instance.running - 1);
        if !instance.dedicated {
            self.next_on_core(now, queue, index);
        }
    }

    #[inline(never)]
    fn next_on_core(&mut self, now: Time, queue: &mut Queue, index: u32) {
        loop {
            let lane = &mut self.instances[index as usize].more.cpu_lane;
            let slot = lane.head;
            if slot == NIL {
                return;
            }
            let frame = &mut self.frames[slot];
            lane.head = frame.next;
            if lane.head == NIL {
                lane.tail = NIL;
            }
            frame.flags &= !LINKED;
            if frame.has(ENDED) {
                self.release_if_loose(slot);
                continue;
            }
            let demand = self.demand_of_turn(now, slot);
            self.run_on_cpu(now, queue, slot, demand);
            return;
        }
    }

    fn arm_shared(&mut self, queue: &mut Queue, index: u32) {
        let shared =
            self.instances[index as usize].more.shared.as_mut().expect("a shared instance has its state");
        if let Some(due) = shared.due()
            && due < shared.armed
        {
            shared.armed = due;
            queue.push(due, Payload::new(SHARED, index));
        }
    }

    /// The armed step of a shared instance may have ended.
    pub(super) fn on_shared(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let instance = &mut self.instances[index as usize];
        let Some(shared) = instance.more.shared.as_mut() else { return Ok(()) };
        if shared.armed != now {
            // A later event than the one that counts.
            return Ok(());
        }
        shared.armed = Time::MAX;
        if instance.hung {
            return Ok(());
        }
        shared.catch_up(now);
        loop {
            let instance = &mut self.instances[index as usize];
            let Some(shared) = instance.more.shared.as_mut() else { return Ok(()) };
            match shared.steps.peek() {
                Some(&Reverse((end, _, slot))) if end <= shared.served => {
                    shared.steps.pop();
                    let running = shared.running();
                    let hung = instance.hung;
                    instance.set_running(now, if hung { 0 } else { running });
                    let frame = &mut self.frames[slot];
                    frame.flags &= !ON_CPU;
                    frame.pc += 1;
                    self.advance(now, queue, slot)?;
                }
                _ => break,
            }
        }
        self.arm_shared(queue, index);
        Ok(())
    }

    /// `slot` stops using (or waiting for) a core before its step has ended.
    #[cold]
    pub(super) fn give_core_back(&mut self, now: Time, queue: &mut Queue, slot: u32) {
        let index = self.frames[slot].instance;
        let instance = &mut self.instances[index as usize];
        match self.spec.services[instance.service as usize].cpu {
            CpuMode::Shared => {
                let hung = instance.hung;
                let shared = instance.more.shared.as_mut().expect("a shared instance has its state");
                shared.catch_up(now);
                shared.steps.retain(|Reverse((.., frame))| *frame != slot);
                let running = shared.running();
                instance.set_running(now, if hung { 0 } else { running });
                self.arm_shared(queue, index);
            }
            CpuMode::Dedicated | CpuMode::Fifo => {
                if self.frames[slot].has(LINKED) {
                    // It only waited for a core; the lane will skip it.
                    return;
                }
                instance.more.hang.forget(slot);
                self.frames[slot].flags &= !OWED;
                if instance.hung {
                    instance.more.hang.running -= 1;
                    self.next_on_core(now, queue, index);
                } else {
                    self.core_free(now, queue, index);
                }
            }
        }
    }

    /// Recomputes the speed of a shared instance from the faults in force.
    pub(super) fn set_speed(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let instance = &mut self.instances[index as usize];
        instance.plain = false;
        let factor = instance.more.slow.iter().product::<f64>();
        let hung = instance.hung;
        if let Some(shared) = instance.more.shared.as_mut() {
            shared.catch_up(now);
            shared.speed = if hung { 0 } else { (FULL_SPEED as f64 / factor) as u64 };
            let running = shared.running();
            instance.set_running(now, if hung { 0 } else { running });
            self.arm_shared(queue, index);
        }
    }
}
