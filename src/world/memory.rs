//! Memory of an instance: what it uses, what its collector costs, and what happens when there is too much of it.
//!
//! In use = base + what each attempt inside holds + what has leaked since the process started. More than the limit, and the
//! kernel kills the process; it starts again on the spot, after the kubelet's back-off. The moment of truth is an attempt
//! that is taken in, or the moment at which base and leaks alone are too much.
//!
//! The collector is the generational textbook one (Jones, Hosking and Moss, *The Garbage Collection Handbook*, chapter 9;
//! `HotSpot`'s tuning guide describes its young collections so): attempts allocate in a young generation, whose size is part
//! of `base`. When it is full the program stops while what is alive is found and copied, so a pause has a constant part
//! and one that grows with what lives. The collector works on one core for that long.

use crate::kernel::queue::Queue;
use crate::random::Key;
use crate::time::{Duration, Time};

use super::control::Control;
use super::instance::State;
use super::spec::MemorySpec;
use super::{Flow, World};

/// Memory of one process.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Attempts taken in since the process started.
    taken_in: u64,
    /// Leaked by time, bytes, up to `since`; and how much leaks in an hour.
    leaked: u64,
    since: Time,
    pub(super) per_hour: u64,
    /// Allocated since the last collection, bytes.
    allocated: u64,
    /// Collections so far; keys the draws of their pauses.
    collections: u64,
    /// When base and leaks alone are too much.
    timer: Option<Time>,
    /// The last process was killed soon after its start.
    pub(super) quick_oom: bool,
}

impl Memory {
    pub(super) fn new(spec: &MemorySpec, now: Time) -> Self {
        Self { since: now, per_hour: spec.leak_per_hour, ..Self::default() }
    }

    /// The process is started again at `at`, which may be later; until then it leaks nothing.
    pub(super) fn restart(&mut self, at: Time) {
        (self.taken_in, self.leaked, self.since, self.allocated) = (0, 0, at, 0);
    }

    /// Leaked by time until `now`.
    fn leaked(&self, now: Time) -> u64 {
        let passed = now.0.saturating_sub(self.since.0);
        let grown = u128::from(self.per_hour) * u128::from(passed) / HOUR;
        self.leaked.saturating_add(u64::try_from(grown).unwrap_or(u64::MAX))
    }

    /// What stays when nobody is inside.
    fn resident(&self, spec: &MemorySpec, now: Time) -> u64 {
        let leaked = self.leaked(now).saturating_add(spec.leak_per_request.saturating_mul(self.taken_in));
        spec.base.saturating_add(leaked)
    }

    /// Bytes in use with so many attempts inside.
    pub(super) fn in_use(&self, spec: &MemorySpec, inside: u32, now: Time) -> u64 {
        self.resident(spec, now).saturating_add(spec.per_attempt.saturating_mul(u64::from(inside)))
    }

    /// When base and leaks alone pass the limit.
    fn too_much_at(&self, spec: &MemorySpec, limit: u64, now: Time) -> Option<Time> {
        if self.per_hour == 0 || limit == u64::MAX {
            return None;
        }
        let room = limit.saturating_sub(self.resident(spec, now));
        let ns = (u128::from(room) + 1) * HOUR / u128::from(self.per_hour) + 1;
        u64::try_from(ns).ok().map(|ns| now.max(self.since) + Duration(ns))
    }
}

const HOUR: u128 = 3_600_000_000_000;

impl World<'_> {
    /// An attempt has been taken in at `index`.
    pub(super) fn allocate(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let instance = &mut self.instances[index as usize];
        let Some(spec) = &self.spec.services[instance.service as usize].memory_use else { return };
        let inside = instance.inside + instance.queued;
        let limit = instance.more.ask.memory_limit;
        let Some(memory) = &mut instance.more.memory else { return };
        memory.taken_in += 1;
        if memory.in_use(spec, inside, now) > limit {
            // Not here and now: whoever sent the attempt is still at work.
            self.schedule(queue, now, Control::OutOfMemory(index));
            return;
        }
        if let Some(gc) = &spec.gc {
            memory.allocated += gc.per_request;
            if memory.allocated >= gc.young {
                self.collect(now, queue, index);
            }
        }
    }

    /// The young generation is full: the program stops.
    fn collect(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let instance = &mut self.instances[index as usize];
        let service = &self.spec.services[instance.service as usize];
        let (Some(spec), Some(memory)) = (&service.memory_use, &mut instance.more.memory) else { return };
        let Some(gc) = &spec.gc else { return };
        memory.allocated = 0;
        memory.collections += 1;
        let key = Key::new(self.seed).named("gc").named(&service.name).with(u64::from(instance.ordinal));
        let pause = gc.pause.sample_duration(&mut key.with(memory.collections).draws());
        let alive = memory.in_use(spec, instance.inside + instance.queued, now);
        let marking = (u128::from(alive) * u128::from(gc.per_gib.0)) >> 30;
        let until = now + pause + Duration(u64::try_from(marking).unwrap_or(u64::MAX));
        if let Some(shared) = instance.more.shared.as_mut().filter(|_| until > now) {
            shared.pause(now, until);
            self.settle_shared(now, queue, index, 0);
        }
    }

    /// A process may have more than it is allowed.
    pub(super) fn on_out_of_memory(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let instance = &mut self.instances[index as usize];
        let service = instance.service as usize;
        let Some(spec) = &self.spec.services[service].memory_use else { return Ok(()) };
        if !matches!(instance.state, State::Ready | State::Draining) {
            return Ok(());
        }
        let inside = instance.inside + instance.queued;
        let Some(memory) = &mut instance.more.memory else { return Ok(()) };
        if memory.timer == Some(now) {
            memory.timer = None;
        }
        if memory.in_use(spec, inside, now) <= instance.more.ask.memory_limit {
            self.watch_memory(now, queue, index);
            return Ok(());
        }
        self.services[service].oom_kills += 1;
        if let Some(seen) = &mut self.services[service].seen {
            seen.note_crash();
        }
        self.note_oom(now, index);
        self.log_instance(now, index, "out of memory");
        let instance = &mut self.instances[index as usize];
        if instance.more.leaving {
            return self.kill(now, queue, index, false);
        }
        self.restart(now, queue, index)
    }

    /// Sets the alarm for the moment at which base and leaks alone are too much.
    pub(super) fn watch_memory(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let instance = &mut self.instances[index as usize];
        let Some(spec) = &self.spec.services[instance.service as usize].memory_use else { return };
        let Some(memory) = &mut instance.more.memory else { return };
        let Some(at) = memory.too_much_at(spec, instance.more.ask.memory_limit, now) else { return };
        if memory.timer.is_none_or(|timer| at < timer || timer <= now) && at < self.spec.horizon {
            memory.timer = Some(at);
            self.schedule(queue, at, Control::OutOfMemory(index));
        }
    }

    /// A leak begins or ends; what has leaked stays.
    pub(super) fn set_leak(&mut self, now: Time, queue: &mut Queue, index: u32, per_hour: u64, on: bool) {
        let Some(memory) = &mut self.instances[index as usize].more.memory else { return };
        memory.leaked = memory.leaked(now);
        memory.since = memory.since.max(now);
        memory.per_hour =
            if on { memory.per_hour + per_hour } else { memory.per_hour.saturating_sub(per_hour) };
        self.watch_memory(now, queue, index);
    }

    /// Bytes that an instance uses, if its memory is simulated.
    pub(super) fn memory_in_use(&self, now: Time, index: u32) -> Option<u64> {
        let instance = &self.instances[index as usize];
        let spec = self.spec.services[instance.service as usize].memory_use.as_ref()?;
        let memory = instance.more.memory.as_ref()?;
        Some(memory.in_use(spec, instance.inside + instance.queued, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_meets_the_limit_when_it_should() {
        let spec =
            MemorySpec { base: 400, per_attempt: 10, leak_per_request: 0, leak_per_hour: 3600, gc: None };
        let memory = Memory::new(&spec, Time::ZERO);
        // One byte a second: 1000 is allowed, 1001 is not.
        let at = memory.too_much_at(&spec, 1000, Time::ZERO).unwrap();
        assert_eq!(at, Time(601_000_000_001));
        assert_eq!(memory.in_use(&spec, 2, Time::from_secs(600)), 1020);
        assert!(memory.in_use(&spec, 0, at) > 1000);
    }
}
