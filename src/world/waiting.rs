//! Queues that are more than first come, first served: other orders, limited patience, shedding.

use std::collections::VecDeque;

use crate::kernel::queue::{Payload, Queue};
use crate::policies::shedding::{AnyShedding, Newcomer, Shedding as _, Turn};
use crate::policies::view::Class;
use crate::random::{Key, Rng};
use crate::time::{Duration, Time};

use super::frame::{LINKED, PATIENCE, QUEUED};
use super::spec::{NO_RING, Order, ServiceSpec, Standing};
use super::{Full, PATIENCE as PATIENCE_EVENT, World};

/// Who waits at an instance, where that is no simple list.
#[derive(Default)]
pub(super) struct Line {
    /// By priority where that counts, else one; the oldest first. Who left while waiting is marked, skipped and released
    /// later.
    lanes: Vec<VecDeque<u32>>,
    /// Marked ones.
    left: u32,
    /// Since when somebody has been waiting.
    since: Time,
    shedding: Option<AnyShedding>,
}

/// Marked ones that may stay although nobody else waits.
const FEW: u32 = 64;

const PATIENCE_SALT: u64 = 0x7061_7469_656e_6365;
const SHEDDING_SALT: u64 = 0x7368_6564_6469_6e67;

impl Line {
    /// An empty one.
    pub(super) fn new(spec: &ServiceSpec, priorities: usize, now: Time) -> Self {
        let lanes = if spec.order == Order::Priority { priorities.max(1) } else { 1 };
        Self {
            lanes: vec![VecDeque::new(); lanes],
            left: 0,
            since: now,
            shedding: spec.shedding.as_ref().map(|settings| settings.build(now)),
        }
    }

    /// Everybody who is listed, the marked ones included.
    pub(super) fn listed(&self) -> impl Iterator<Item = u32> + '_ {
        self.lanes.iter().flatten().copied()
    }

    /// Marked ones.
    pub(super) const fn marked(&self) -> u32 {
        self.left
    }

    /// Whether somebody decides over who comes and whose turn has come.
    pub(super) const fn sheds(&self) -> bool {
        self.shedding.is_some()
    }

    /// Nobody waits any more.
    pub(super) fn clear(&mut self) {
        self.lanes.iter_mut().for_each(VecDeque::clear);
        self.left = 0;
    }
}

impl World<'_> {
    /// `slot` waits for a worker.
    #[inline(never)]
    pub(super) fn enter_line(&mut self, now: Time, queue: &mut Queue, slot: u32) {
        let frame = &self.frames[slot];
        let (index, priority, key) = (frame.instance as usize, frame.priority, frame.key);
        let instance = &mut self.instances[index];
        let service = &self.spec.services[instance.service as usize];
        let line = &mut instance.more.line;
        if instance.queued == 1 {
            line.since = now;
        }
        let lane = usize::from(priority).min(line.lanes.len() - 1);
        line.lanes[lane].push_back(slot);
        if let Some(law) = &service.queue_timeout {
            let patience =
                law.sample_duration(&mut Key(key ^ PATIENCE_SALT).with(u64::from(self.tag_of(slot))).draws());
            self.frames[slot].flags |= PATIENCE;
            queue.push(now + patience, Payload::new(PATIENCE_EVENT, slot));
        }
    }

    fn tag_of(&self, slot: u32) -> u32 {
        if self.has_sides { self.sides[slot as usize].tag } else { 0 }
    }

    /// The next waiting attempt that is worked on; those before it that are shed get their answer.
    #[inline(never)]
    pub(super) fn next_in_line(
        &mut self,
        now: Time,
        queue: &mut Queue,
        index: u32,
    ) -> Result<Option<u32>, Full> {
        loop {
            let instance = &mut self.instances[index as usize];
            if instance.queued == 0 {
                return Ok(None);
            }
            let line = &mut instance.more.line;
            let newest = match self.spec.services[instance.service as usize].order {
                Order::Fifo | Order::Priority => false,
                Order::Lifo => true,
                // As many must wait beside the one that is taken.
                Order::AdaptiveLifo(Standing::Waiting(least)) => instance.queued > least,
                Order::AdaptiveLifo(Standing::For(time)) => now - line.since > time,
            };
            let lane = line.lanes.iter_mut().rev().find(|lane| !lane.is_empty());
            let lane = lane.expect("whoever is counted is listed");
            let slot = if newest { lane.pop_back() } else { lane.pop_front() }.expect("it is not empty");
            let frame = &mut self.frames[slot];
            if frame.has(LINKED) {
                line.left -= 1;
                frame.flags &= !LINKED;
                self.release_if_loose(slot);
                continue;
            }
            frame.flags &= !QUEUED;
            instance.queued -= 1;
            if !self.is_shed(now, slot) {
                return Ok(Some(slot));
            }
            let arrived = self.frames[slot].arrived;
            let service = self.instances[index as usize].service as usize;
            self.services[service].gave_up(now, arrived);
            self.services[service].shed += 1;
            self.give_permit_back(now, slot, Class::Rejected);
            self.finish(now, queue, slot, Class::Rejected)?;
        }
    }

    /// `slot` left while it was waiting. It stays listed, until there are too many of its kind.
    pub(super) fn leave_line(&mut self, index: u32) {
        let instance = &mut self.instances[index as usize];
        instance.more.line.left += 1;
        if instance.more.line.left <= instance.queued + FEW {
            return;
        }
        instance.more.line.left = 0;
        let mut lanes = std::mem::take(&mut instance.more.line.lanes);
        for lane in &mut lanes {
            lane.retain(|&slot| {
                let marked = self.frames[slot].has(LINKED);
                if marked {
                    self.frames[slot].flags &= !LINKED;
                    self.release_if_loose(slot);
                }
                !marked
            });
        }
        self.instances[index as usize].more.line.lanes = lanes;
    }

    /// The draws of `slot` for whoever sheds.
    fn shedding_draws(&self, slot: u32) -> Rng {
        Key(self.frames[slot].key ^ SHEDDING_SALT ^ u64::from(self.tag_of(slot))).rng()
    }

    /// Whether `slot`, which would have to wait, is turned away.
    pub(super) fn is_turned_away(&mut self, now: Time, slot: u32) -> bool {
        let mut rng = self.shedding_draws(slot);
        let frame = &self.frames[slot];
        let instance = &mut self.instances[frame.instance as usize];
        let newcomer = Newcomer {
            priority: self.spec.priorities[usize::from(frame.priority)],
            waiting: instance.queued,
            workers: self.services[instance.service as usize].workers,
        };
        let shedding = &mut instance.more.line.shedding;
        shedding.as_mut().is_some_and(|shedding| shedding.turns_away(now, &newcomer, &mut rng))
    }

    /// Whether `slot`, whose turn has come, is dropped. While an instance hangs nobody decides anything.
    pub(super) fn is_shed(&mut self, now: Time, slot: u32) -> bool {
        let frame = &self.frames[slot];
        let instance = &self.instances[frame.instance as usize];
        if !instance.more.line.sheds() || instance.hung {
            return false;
        }
        let turn = Turn {
            priority: self.spec.priorities[usize::from(frame.priority)],
            waiting: instance.queued,
            waited: now - frame.arrived,
            left: self.time_left(now, slot),
        };
        let (mut rng, index) = (self.shedding_draws(slot), frame.instance as usize);
        let shedding = &mut self.instances[index].more.line.shedding;
        shedding.as_mut().is_some_and(|shedding| shedding.drops(now, &turn, &mut rng))
    }

    /// How much longer the caller of `slot` waits, as far as the request says.
    fn time_left(&self, now: Time, slot: u32) -> Option<Duration> {
        let frame = &self.frames[slot];
        let timeout =
            (frame.ring != NO_RING).then(|| frame.started + self.rings[usize::from(frame.ring)].delay());
        let passed_on = if self.has_sides { self.sides[slot as usize].deadline } else { Time::MAX };
        let until = timeout.unwrap_or(Time::MAX).min(passed_on);
        (until < Time::MAX).then(|| until - now)
    }
}
