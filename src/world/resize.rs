//! Instances of another size: what new ones ask for, and what running ones are given on the spot.
//!
//! A running instance is resized as a kubelet does it (KEP-1287): its node takes the new requests into account if it has room
//! for them, then quota, weight and memory limit change under the running process. Otherwise nothing changes.

use crate::kernel::queue::Queue;
use crate::policies::recommender::updater::{UpdateMode, proportional};
use crate::policies::view::Resources;
use crate::time::{Duration, Time};

use super::World;
use super::control::Control;
use super::instance::State;
use super::spec::{Ask, Resize};

/// What became of a resize.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Done, or there was nothing to do.
    Done,
    /// The node has no room at present.
    NotNow,
    /// The node is too small.
    Never,
}

/// A kubelet tries again after this long (`allocation_manager.go`, `retryDelay`).
const RETRY: Duration = Duration::from_secs(180);

/// What is asked for where a recommender says so. Limits keep their proportion to the requests.
fn advised(ask: &Ask, target: Resources, memory: bool) -> Ask {
    let milli = |cores: f64| (cores * 1000.0 - 1e-6).ceil() as i64;
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let cpu_limit = |limit| proportional(milli(limit), milli(ask.cpu_request), target.cpu_milli).max(1);
    let mut advised = Ask {
        cpu_request: target.cpu_milli as f64 / 1000.0,
        cpu_limit: ask.cpu_limit.map(|limit| cpu_limit(limit) as f64 / 1000.0),
        ..*ask
    };
    if memory {
        advised.memory_request = target.memory.unsigned_abs();
        if ask.memory_limit < u64::MAX {
            let limit = proportional(bytes(ask.memory_limit), bytes(ask.memory_request), target.memory);
            advised.memory_limit = limit.unsigned_abs();
        }
    }
    advised
}

impl World<'_> {
    /// What a new instance of a service asks for.
    pub(super) fn ask_of(&self, service: u32) -> Ask {
        let state = &self.services[service as usize];
        let advice = state.advice.as_ref().filter(|advice| advice.updater.mode != UpdateMode::Off);
        let memory = self.spec.services[service as usize].memory_use.is_some();
        match advice.and_then(|advice| advice.last) {
            Some(recommended) => advised(&state.ask, recommended.target, memory),
            None => state.ask,
        }
    }

    /// Gives an instance another size, if its node has room for it.
    pub(super) fn resize(&mut self, now: Time, queue: &mut Queue, index: u32, ask: Ask) -> Fit {
        let instance = &mut self.instances[index as usize];
        if instance.more.ask == ask || matches!(instance.state, State::Draining | State::Dead) {
            instance.more.waits_for_room = None;
            return Fit::Done;
        }
        let spec = &self.spec.services[instance.service as usize];
        let wants = spec.request(&ask);
        if let Some(has) = instance.more.room {
            let fit = self.cluster.change_room(self.spec, instance.more.node, has, wants);
            if fit != Fit::Done {
                return fit;
            }
            instance.more.room = Some(wants);
        }
        if instance.state != State::Pending {
            let has = spec.request(&instance.more.ask);
            let asked = &mut self.services[instance.service as usize].asked;
            asked.less(now, has);
            asked.more(now, wants);
        }
        let quota = instance.more.ask.cpu_limit != ask.cpu_limit;
        instance.more.ask = ask;
        instance.more.waits_for_room = None;
        if quota {
            self.set_quota(now, queue, index, ask.cpu_limit);
        }
        self.weigh_anew(now, queue, index);
        if self.memory_in_use(now, index).is_some_and(|used| used > ask.memory_limit) {
            self.schedule(queue, now, Control::OutOfMemory(index));
        }
        self.watch_memory(now, queue, index);
        self.log_instance(now, index, "resized");
        Fit::Done
    }

    /// An operator changes what the instances of a service ask for, those that run included.
    pub(super) fn resize_service(&mut self, now: Time, queue: &mut Queue, service: u32, to: Resize) {
        let ask = &mut self.services[service as usize].ask;
        ask.cpu_request = to.cpu_request.unwrap_or(ask.cpu_request);
        ask.cpu_limit = to.cpu_limit.or(ask.cpu_limit);
        ask.memory_request = to.memory.unwrap_or(ask.memory_request);
        ask.memory_limit = to.memory_limit.unwrap_or(ask.memory_limit);
        self.fit(now, queue, service);
    }

    /// Gives all instances of a service the size that new ones get. Those without room wait.
    pub(super) fn fit(&mut self, now: Time, queue: &mut Queue, service: u32) {
        let ask = self.ask_of(service);
        let mut waits = false;
        for index in self.services[service as usize].living.clone() {
            if self.resize(now, queue, index, ask) != Fit::Done {
                waits = true;
                self.wait_for_room(now, index);
            }
        }
        if waits && now + RETRY < self.spec.end {
            self.schedule(queue, now + RETRY, Control::Fit(service));
        }
        // Some may be smaller now.
        self.retry_pending(now, queue);
    }

    /// An instance stays as it is until its node has room.
    pub(super) fn wait_for_room(&mut self, now: Time, index: u32) {
        let waits = &mut self.instances[index as usize].more.waits_for_room;
        if waits.is_none() {
            *waits = Some(now);
            self.log_instance(now, index, "waits for room to be resized");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_follow_the_requests() {
        let ask = Ask { cpu_request: 0.5, cpu_limit: Some(2.0), memory_request: 100, memory_limit: 150 };
        let target = Resources { cpu_milli: 301, memory: 1000 };
        let got = advised(&ask, target, true);
        let wanted =
            Ask { cpu_request: 0.301, cpu_limit: Some(1.204), memory_request: 1000, memory_limit: 1500 };
        assert_eq!(got, wanted);
        let got = advised(&Ask { cpu_limit: None, memory_limit: u64::MAX, ..ask }, target, true);
        assert_eq!(got, Ask { cpu_limit: None, memory_limit: u64::MAX, ..wanted });
        let got = advised(&ask, target, false);
        assert_eq!(got, Ask { memory_request: 100, memory_limit: 150, ..wanted });
    }
}
