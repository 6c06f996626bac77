//! Cores of an instance: dedicated, first come first served, or shared.
//!
//! Shared cores follow egalitarian processor sharing: n runnable steps on c cores each run at min(1, c/n), times the
//! instance's speed. Work is fixed-point (2^-12 ns), so results never depend on float rounding; one event per instance is
//! armed for the step that ends first, and an event that comes too early just arms the next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::kernel::queue::{Payload, Queue};
use crate::time::{Duration, Time};

use super::fleet::quota_phases;
use super::frame::{ENDED, EVENT, LINKED, NIL, ON_CPU, OWED};
use super::governor::{CORE, CpuCounts, Governor};
use super::instance::{Instance, Lane};
use super::spec::{CpuMode, Op};
use super::{Flow, SHARED, STEP, World};

/// Processor sharing in one container: the instance itself, or a side-car.
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
    /// What bounds it besides, if anything does.
    governor: Option<Box<Governor>>,
}

const FULL_SPEED: u64 = 1 << 32;

impl Shared {
    pub(super) fn new(cores: u32, governor: Option<Box<Governor>>, now: Time) -> Self {
        Self {
            cores,
            speed: FULL_SPEED,
            served: 0,
            since: now,
            armed: Time::MAX,
            steps: BinaryHeap::new(),
            order: 0,
            governor,
        }
    }

    /// Cores that its steps could use, if nothing but their number bounded them; 2^32 is one.
    fn own(&self) -> u64 {
        if self.speed == 0 { 0 } else { u64::from(self.running()) * CORE }
    }

    /// Speed of one step, 2^32 is full.
    fn rate(&self) -> u64 {
        let runnable = self.steps.len() as u64;
        if let Some(governor) = &self.governor {
            let cores = u128::from(governor.for_steps(self.own()));
            (u128::from(self.speed) * cores / (u128::from(runnable.max(1)) << 32)) as u64
        } else if runnable <= u64::from(self.cores) {
            self.speed
        } else {
            (u128::from(self.speed) * u128::from(self.cores) / u128::from(runnable)) as u64
        }
    }

    /// Brings `served` up to `now`.
    fn catch_up(&mut self, now: Time) {
        let passed = now - self.since;
        if self.steps.is_empty() {
            self.served = 0;
        } else {
            self.served += ((u128::from(passed.0) * u128::from(self.rate())) >> 20) as u64;
        }
        let own = self.own();
        if let Some(governor) = &mut self.governor {
            governor.pass(self.since, now, own);
        }
        self.since = now;
    }

    /// When the next step ends, or the speed changes by itself, if nothing else changes.
    fn due(&self) -> Option<Time> {
        let Some(governor) = &self.governor else { return self.step_due() };
        let changes = governor.next(self.since, self.own());
        match (self.step_due(), changes) {
            (Some(step), Some(change)) => Some(step.min(change)),
            (step, change) => step.or(change),
        }
    }

    /// When the next step ends if nothing changes.
    fn step_due(&self) -> Option<Time> {
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

    /// Cores in use, unless something else bounds them.
    fn running(&self) -> u32 {
        (self.steps.len() as u32).min(self.cores)
    }

    /// Adds a step of so much work.
    fn push(&mut self, demand: Duration, slot: u32) {
        let end = self.served.saturating_add(demand.0.saturating_mul(1 << 12));
        self.order += 1;
        self.steps.push(Reverse((end, self.order, slot)));
    }

    /// The program stands still until then.
    pub(super) fn pause(&mut self, now: Time, until: Time) {
        self.catch_up(now);
        if let Some(governor) = &mut self.governor {
            governor.pause(until);
        }
    }

    /// What is counted about its cores, if something bounds them.
    pub(super) fn counts(&self, now: Time) -> CpuCounts {
        let own = self.own();
        let governor = self.governor.as_ref();
        governor.map_or_else(CpuCounts::default, |governor| governor.counts_at(self.since, now, own))
    }

    /// Credits of a burstable machine that are left, 2^-12 core-ns.
    pub(super) fn credits(&self, now: Time) -> Option<u64> {
        let governor = self.governor.as_ref()?;
        let burst = governor.burst.as_ref()?;
        Some(burst.left_after((now - self.since).0, governor.uses(self.own())))
    }

    /// Cores it would use if its node gave them.
    fn wanted(&self) -> u64 {
        let own = self.own();
        self.governor.as_ref().map_or(own, |governor| governor.wants(own))
    }
}

impl Instance {
    /// Containers, the instance's own (number 0) included.
    pub(super) fn containers(&self) -> u8 {
        1 + self.more.sidecars.len() as u8
    }

    /// Core time that its running containers have used, where something bounds them, ns.
    pub(super) fn governed_ns(&self, now: Time) -> u64 {
        let all = self.more.shared.iter().chain(&self.more.sidecars);
        all.map(|shared| (shared.counts(now).used >> 12) as u64).sum()
    }

    /// Cores of a container.
    pub(super) fn shared(&self, container: u8) -> Option<&Shared> {
        match container {
            0 => self.more.shared.as_ref(),
            sidecar => self.more.sidecars.get(usize::from(sidecar) - 1),
        }
    }

    pub(super) fn shared_mut(&mut self, container: u8) -> Option<&mut Shared> {
        match container {
            0 => self.more.shared.as_mut(),
            sidecar => self.more.sidecars.get_mut(usize::from(sidecar) - 1),
        }
    }

    /// Cores that a container has told its node it would use, 2^32 is one.
    pub(super) fn wanted_cores(&self, container: u8) -> u64 {
        let governor = self.shared(container).and_then(|shared| shared.governor.as_ref());
        governor.map_or(0, |governor| governor.wanted)
    }

    /// Core time that a side-car has used so far, ns.
    pub(super) fn sidecar_used(&self, now: Time, at: usize) -> u64 {
        let running = self.more.sidecars.get(at).map_or(0, |shared| shared.counts(now).used >> 12);
        self.more.sidecar_ns.get(at).copied().unwrap_or(0) + running as u64
    }

    /// What is counted about the cores of all containers.
    pub(super) fn cpu_counts(&self, now: Time) -> CpuCounts {
        let mut counts = CpuCounts::default();
        for shared in self.more.shared.iter().chain(&self.more.sidecars) {
            counts.add(&shared.counts(now));
        }
        counts
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
                if self.has_sides && !instance.more.slow.is_empty() {
                    // What it will use of its cores, should they stay as slow.
                    let more = instance.more.slow.iter().product::<f64>() - 1.0;
                    let side = &mut self.sides[slot as usize];
                    side.cpu += Duration::from_ns_f64(demand.0 as f64 * more).0;
                }
                let container = self.container_of(slot);
                let shared = self.instances[index as usize].shared_mut(container);
                let shared = shared.expect("a shared instance has its state");
                shared.catch_up(now);
                shared.push(demand, slot);
                self.settle_shared(now, queue, index, container);
            }
        }
    }

    /// The container that the present step of `slot` runs in.
    fn container_of(&self, slot: u32) -> u8 {
        match self.spec.ops[self.frames[slot].pc as usize] {
            Op::Sidecar { container, .. } => container,
            _ => 0,
        }
    }

    /// The process of `index` does its start-up work before it is ready.
    pub(super) fn boot(&mut self, now: Time, queue: &mut Queue, index: u32, work: Duration) {
        let shared = self.instances[index as usize].more.shared.as_mut();
        let shared = shared.expect("a shared instance has its state");
        shared.catch_up(now);
        shared.push(work, NIL);
        self.settle_shared(now, queue, index, 0);
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

    /// What `container` runs has changed: everybody whom it concerns is told.
    pub(super) fn settle_shared(&mut self, now: Time, queue: &mut Queue, index: u32, container: u8) {
        self.note_running(now, index, container);
        let Some(shared) = self.instances[index as usize].shared_mut(container) else { return };
        let (own, wanted) = (shared.own(), shared.wanted());
        if let Some(governor) = &mut shared.governor {
            governor.note_throttling(own);
            let before = std::mem::replace(&mut governor.wanted, wanted);
            if wanted != before {
                self.tell_node(now, queue, index, wanted, before);
            }
        }
        self.arm_shared(queue, index, container);
    }

    /// Keeps the count of cores in use, where they are whole.
    fn note_running(&mut self, now: Time, index: u32, container: u8) {
        let instance = &mut self.instances[index as usize];
        let hung = instance.hung;
        let Some(shared) = instance.shared_mut(container) else { return };
        if shared.governor.is_none() {
            let running = shared.running();
            instance.set_running(now, if hung { 0 } else { running });
        }
    }

    /// The node gives a container so many cores from now on.
    pub(super) fn grant_cores(
        &mut self,
        now: Time,
        queue: &mut Queue,
        index: u32,
        container: u8,
        granted: u64,
    ) {
        let Some(shared) = self.instances[index as usize].shared_mut(container) else { return };
        if shared.governor.as_ref().is_some_and(|governor| governor.granted != granted) {
            shared.catch_up(now);
            if let Some(governor) = &mut shared.governor {
                governor.granted = granted;
            }
            self.arm_shared(queue, index, container);
        }
    }

    /// The own container of `index` has another quota from now on.
    pub(super) fn set_quota(&mut self, now: Time, queue: &mut Queue, index: u32, limit: Option<f64>) {
        let instance = &mut self.instances[index as usize];
        let name = &self.spec.services[instance.service as usize].name;
        let phase = quota_phases(self.seed, name, instance.ordinal).draws().unit();
        let Some(shared) = &mut instance.more.shared else { return };
        shared.catch_up(now);
        if let Some(governor) = &mut shared.governor {
            governor.set_limit(limit, phase, now);
        }
        self.settle_shared(now, queue, index, 0);
    }

    /// The process of `index` is gone; what was counted about its cores stays.
    pub(super) fn retire_cpu(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let instance = &mut self.instances[index as usize];
        let counts = instance.cpu_counts(now);
        // Container by container, as `cpu_used` and `sidecar_used` round.
        instance.more.sidecar_ns =
            (0..instance.more.sidecars.len()).map(|at| instance.sidecar_used(now, at)).collect();
        instance.cpu_ns += instance.governed_ns(now);
        self.services[instance.service as usize].cpu_counts.add(&counts);
        instance.more.credits = instance.more.shared.as_ref().and_then(|shared| shared.credits(now));
        instance.more.shared = None;
        instance.more.sidecars.clear();
        self.quit_node(now, queue, index);
    }

    fn arm_shared(&mut self, queue: &mut Queue, index: u32, container: u8) {
        let Some(shared) = self.instances[index as usize].shared_mut(container) else { return };
        if let Some(due) = shared.due()
            && due < shared.armed
        {
            shared.armed = due;
            queue.push(due, Payload::new(SHARED, index));
        }
    }

    /// The armed step of a shared instance may have ended.
    pub(super) fn on_shared(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        for container in 0..self.instances[index as usize].containers() {
            self.on_container(now, queue, index, container)?;
        }
        Ok(())
    }

    fn on_container(&mut self, now: Time, queue: &mut Queue, index: u32, container: u8) -> Flow {
        let instance = &mut self.instances[index as usize];
        let hung = instance.hung;
        let Some(shared) = instance.shared_mut(container) else { return Ok(()) };
        if shared.armed != now {
            // A later event than the one that counts.
            return Ok(());
        }
        shared.armed = Time::MAX;
        if hung {
            return Ok(());
        }
        shared.catch_up(now);
        loop {
            let Some(shared) = self.instances[index as usize].shared_mut(container) else { return Ok(()) };
            match shared.steps.peek() {
                Some(&Reverse((end, _, slot))) if end <= shared.served => {
                    shared.steps.pop();
                    self.note_running(now, index, container);
                    if slot == NIL {
                        self.booted(now, queue, index)?;
                        continue;
                    }
                    let frame = &mut self.frames[slot];
                    frame.flags &= !ON_CPU;
                    frame.pc += 1;
                    self.advance(now, queue, slot)?;
                }
                _ => break,
            }
        }
        self.settle_shared(now, queue, index, container);
        Ok(())
    }

    /// `slot` stops using (or waiting for) a core before its step has ended.
    #[cold]
    pub(super) fn give_core_back(&mut self, now: Time, queue: &mut Queue, slot: u32) {
        let index = self.frames[slot].instance;
        let instance = &mut self.instances[index as usize];
        match self.spec.services[instance.service as usize].cpu {
            CpuMode::Shared => {
                let container = self.container_of(slot);
                let shared = self.instances[index as usize].shared_mut(container);
                let shared = shared.expect("a shared instance has its state");
                shared.catch_up(now);
                shared.steps.retain(|Reverse((.., frame))| *frame != slot);
                self.settle_shared(now, queue, index, container);
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
        for container in 0..instance.containers() {
            if let Some(shared) = self.instances[index as usize].shared_mut(container) {
                shared.catch_up(now);
                shared.speed = if hung { 0 } else { (FULL_SPEED as f64 / factor) as u64 };
                self.settle_shared(now, queue, index, container);
            }
        }
    }
}
