//! Disk of an instance: what fills it, and what happens when it is (nearly) full.
//!
//! In use = base + what each attempt leaves + what time leaves, never more than there is. From a threshold on the instance is
//! evicted, as the kubelet evicts pods under disk pressure: killed without grace, and replaced by a fresh one with an empty
//! disk. Or nobody looks, and a full disk turns every attempt away.

use crate::kernel::queue::Queue;
use crate::time::{Duration, Time};

use super::control::Control;
use super::instance::State;
use super::spec::DiskSpec;
use super::{Flow, World};

const HOUR: u128 = 3_600_000_000_000;

/// Disk of one instance; it outlives the process.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// Attempts taken in.
    taken_in: u64,
    /// Since when time fills it: the first process has become ready.
    since: Option<Time>,
    /// Faults in force that fill it up.
    full: u32,
    /// When time alone fills it to the threshold.
    timer: Option<Time>,
}

impl Disk {
    /// Bytes in use.
    fn in_use(&self, spec: &DiskSpec, now: Time) -> u64 {
        if self.full > 0 {
            return spec.size;
        }
        let passed = self.since.map_or(0, |since| (now - since).0);
        let grown = u128::from(spec.per_hour) * u128::from(passed) / HOUR;
        let left = spec.per_request.saturating_mul(self.taken_in);
        let grown = u64::try_from(grown).unwrap_or(u64::MAX);
        spec.base.saturating_add(left).saturating_add(grown).min(spec.size)
    }

    /// When time alone fills it to the threshold.
    fn pressure_at(&self, spec: &DiskSpec, now: Time) -> Option<Time> {
        if spec.per_hour == 0 || self.since.is_none() {
            return None;
        }
        let room = spec.evict_at?.saturating_sub(self.in_use(spec, now));
        let ns = (u128::from(room) * HOUR).div_ceil(u128::from(spec.per_hour));
        u64::try_from(ns).ok().map(|ns| now + Duration(ns))
    }
}

impl World<'_> {
    /// An attempt has been taken in at `index`, and leaves something.
    pub(super) fn write_to_disk(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let instance = &mut self.instances[index as usize];
        let Some(spec) = &self.spec.services[instance.service as usize].disk_use else { return };
        let Some(disk) = &mut instance.more.disk else { return };
        disk.taken_in += 1;
        if spec.evict_at.is_some_and(|most| disk.in_use(spec, now) >= most) {
            // Not here and now: whoever sent the attempt is still at work.
            self.schedule(queue, now, Control::DiskPressure(index));
        }
    }

    /// Whether the disk of `index` is full where nobody evicts for that.
    pub(super) fn disk_fails(&self, now: Time, index: u32) -> bool {
        let instance = &self.instances[index as usize];
        let spec = self.spec.services[instance.service as usize].disk_use.as_ref();
        spec.filter(|spec| spec.evict_at.is_none())
            .zip(instance.more.disk.as_ref())
            .is_some_and(|(spec, disk)| disk.in_use(spec, now) >= spec.size)
    }

    /// An instance may use too much of its disk.
    pub(super) fn on_disk_pressure(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let instance = &mut self.instances[index as usize];
        let service = instance.service as usize;
        let Some(spec) = &self.spec.services[service].disk_use else { return Ok(()) };
        let Some(most) = spec.evict_at else { return Ok(()) };
        if instance.state == State::Dead {
            return Ok(());
        }
        let Some(disk) = &mut instance.more.disk else { return Ok(()) };
        if disk.timer == Some(now) {
            disk.timer = None;
        }
        if disk.in_use(spec, now) < most {
            self.watch_disk(now, queue, index);
            return Ok(());
        }
        self.services[service].disk_evictions += u64::from(now >= self.spec.warm_up && now < self.spec.end);
        self.log_instance(now, index, "evicted: disk pressure");
        self.kill(now, queue, index, false)
    }

    /// An instance has become ready: time fills its disk from the first time on.
    pub(super) fn begin_disk(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let Some(disk) = &mut self.instances[index as usize].more.disk else { return };
        if disk.since.is_none() {
            disk.since = Some(now);
            self.watch_disk(now, queue, index);
        }
    }

    /// Sets the alarm for the moment at which time alone has filled the disk to the threshold.
    fn watch_disk(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let instance = &mut self.instances[index as usize];
        let Some(spec) = &self.spec.services[instance.service as usize].disk_use else { return };
        let Some(disk) = &mut instance.more.disk else { return };
        let Some(at) = disk.pressure_at(spec, now) else { return };
        if disk.timer.is_none_or(|timer| at < timer) && at < self.spec.horizon {
            disk.timer = Some(at);
            self.schedule(queue, at, Control::DiskPressure(index));
        }
    }

    /// Something else fills the disk up, or has been cleared away.
    pub(super) fn set_disk_full(&mut self, now: Time, queue: &mut Queue, index: u32, on: bool) -> Flow {
        let Some(disk) = &mut self.instances[index as usize].more.disk else { return Ok(()) };
        disk.full = if on { disk.full + 1 } else { disk.full.saturating_sub(1) };
        self.on_disk_pressure(now, queue, index)
    }

    /// Bytes on the disk of an instance, if that is simulated.
    pub(super) fn disk_in_use(&self, now: Time, index: u32) -> Option<u64> {
        let instance = &self.instances[index as usize];
        let spec = self.spec.services[instance.service as usize].disk_use.as_ref()?;
        Some(instance.more.disk.as_ref()?.in_use(spec, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_attempts_fill_it_up_to_its_size() {
        let spec = DiskSpec { size: 1000, base: 100, per_request: 10, per_hour: 3600, evict_at: Some(900) };
        let mut disk = Disk { since: Some(Time::from_secs(50)), ..Disk::default() };
        let now = Time::from_secs(150);
        assert_eq!(disk.in_use(&spec, now), 200);
        // One byte a second: 700 more.
        assert_eq!(disk.pressure_at(&spec, now), Some(Time::from_secs(850)));
        disk.taken_in = 30;
        assert_eq!(disk.pressure_at(&spec, now), Some(Time::from_secs(550)));
        assert_eq!(disk.in_use(&spec, Time::from_secs(5000)), 1000);
        disk = Disk { full: 1, ..Disk::default() };
        assert_eq!(disk.in_use(&spec, now), 1000);
    }
}
