//! Registries: who tells clients which endpoints a service has, if the control plane of the cluster does not do it.
//!
//! An instance registers when traffic may come, sends heartbeats while its process runs and does not hang, and says goodbye
//! when it is shut down. One that dies says nothing. Clients are told of changes, or fetch the list; while nobody reaches the
//! registry they keep what they have. When it can be reached again, each of those that are told subscribes anew.

use crate::kernel::queue::Queue;
use crate::policies::discovery::{AnyDiscovery, Delivery, Discovery as _, DiscoverySettings};
use crate::policies::view::Slot;
use crate::random::Key;
use crate::time::{Duration, Time};

use super::World;
use super::control::Control;
use super::instance::State;

/// What happens to an endpoint, as far as clients care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Traffic may come.
    Came,
    /// Its readiness probe fails.
    Unready,
    /// It is shut down, and says so.
    Goodbye,
    /// It died, and the control plane knows so much later.
    Died(Duration),
}

/// The registry of one service.
pub(super) struct Directory {
    policy: AnyDiscovery,
    /// Outages in force.
    outages: u32,
    /// The list that clients were told last.
    told: Vec<Slot>,
}

impl Directory {
    pub(super) fn new(settings: &DiscoverySettings) -> Self {
        Self { policy: settings.build(Time::ZERO), outages: 0, told: Vec::new() }
    }
}

impl World<'_> {
    /// Whether clients of a service ask a registry.
    #[inline]
    pub(super) fn has_directory(&self, service: u32) -> bool {
        self.services[service as usize].directory.is_some()
    }

    /// Endpoints that a new client of a service gets to know.
    pub(super) fn known(&self, now: Time, service: u32) -> Vec<Slot> {
        let state = &self.services[service as usize];
        match &state.directory {
            Some(directory) if directory.outages > 0 => Vec::new(),
            Some(directory) => directory.policy.listed(now).to_vec(),
            None => {
                let living = state.living.iter().map(|&index| &self.instances[index as usize]);
                living.filter(|one| one.more.available).map(|one| Slot(one.ordinal)).collect()
            }
        }
    }

    /// The registries begin their work, with everybody who is there in their lists.
    pub(super) fn begin_discovery(&mut self, queue: &mut Queue) {
        for service in 0..self.services.len() as u32 {
            let Some(mut directory) = self.services[service as usize].directory.take() else { continue };
            for at in 0..self.services[service as usize].living.len() {
                let index = self.services[service as usize].living[at];
                if self.instances[index as usize].more.available {
                    let slot = Slot(self.instances[index as usize].ordinal);
                    directory.policy.on_register(Time::ZERO, slot);
                    self.begin_beats(Time::ZERO, queue, index, directory.policy.heartbeat_interval());
                }
            }
            let interval = directory.policy.interval();
            self.services[service as usize].directory = Some(directory);
            if let Some(interval) = interval {
                self.count(Time::ZERO, service);
                let first = self.phase(Time::ZERO, "registry", service, interval);
                self.schedule(queue, first, Control::Census(service));
            }
            if let Some(directory) = &mut self.services[service as usize].directory {
                directory.told = directory.policy.listed(Time::ZERO).to_vec();
            }
        }
    }

    /// A client that fetches lists begins to.
    pub(super) fn begin_fetching(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let outbound = &self.outbounds[index as usize];
        let Some(directory) = &self.services[outbound.service as usize].directory else { return };
        if let Delivery::Fetch(period) = directory.policy.delivery()
            && outbound.alive
        {
            let first = self.phase(now, "fetch", index, period);
            self.schedule(queue, first, Control::Fetch(index));
        }
    }

    /// A client fetches the list.
    pub(super) fn on_fetch(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let outbound = &self.outbounds[index as usize];
        let service = outbound.service;
        let Some(directory) = &self.services[service as usize].directory else { return };
        if !outbound.alive {
            return;
        }
        if let Delivery::Fetch(period) = directory.policy.delivery()
            && now + period < self.spec.end
        {
            self.schedule(queue, now + period, Control::Fetch(index));
        }
        let Some(directory) = &self.services[service as usize].directory else { return };
        if directory.outages > 0 {
            return;
        }
        let listed = directory.policy.listed(now).to_vec();
        let known = self.outbounds[index as usize].view.eligible.clone();
        for slot in known.iter().filter(|slot| listed.binary_search(slot).is_err()) {
            self.forget(now, queue, index, *slot);
        }
        for slot in listed.iter().filter(|slot| known.binary_search(slot).is_err()) {
            self.learn(now, queue, index, *slot);
        }
    }

    /// The registry of a service hears of one of its endpoints, if there is anybody to tell it.
    pub(super) fn tell_directory(
        &mut self,
        now: Time,
        queue: &mut Queue,
        service: u32,
        slot: Slot,
        news: News,
    ) {
        let Some(directory) = &mut self.services[service as usize].directory else { return };
        let reached = directory.outages == 0;
        match news {
            News::Came => {
                if reached {
                    directory.policy.on_register(now, slot);
                }
                // Without an answer the next heartbeat tries again.
                let interval = directory.policy.heartbeat_interval();
                let index = self.services[service as usize].slots[slot.0 as usize];
                self.begin_beats(now, queue, index, interval);
            }
            News::Goodbye if reached => directory.policy.on_deregister(now, slot),
            News::Goodbye => {}
            News::Unready | News::Died(Duration::ZERO) => directory.policy.on_reported_gone(now, slot),
            News::Died(after) => {
                self.schedule(queue, now + after, Control::Report(service, slot));
                return;
            }
        }
        self.spread_news(now, queue, service);
    }

    /// The control plane has noticed that an endpoint is gone.
    pub(super) fn on_report(&mut self, now: Time, queue: &mut Queue, service: u32, slot: Slot) {
        let Some(directory) = &mut self.services[service as usize].directory else { return };
        directory.policy.on_reported_gone(now, slot);
        self.spread_news(now, queue, service);
    }

    fn begin_beats(&mut self, now: Time, queue: &mut Queue, index: u32, interval: Option<Duration>) {
        let Some(interval) = interval else { return };
        if !std::mem::replace(&mut self.instances[index as usize].more.beats, true) {
            let first = self.phase(now, "heartbeat", index, interval);
            self.schedule(queue, first, Control::Beat(index));
        }
    }

    /// An instance sends a heartbeat, if it can.
    pub(super) fn on_beat(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let instance = &mut self.instances[index as usize];
        let service = instance.service;
        let Some(directory) = &mut self.services[service as usize].directory else { return };
        let Some(interval) = directory.policy.heartbeat_interval() else { return };
        if instance.state == State::Dead || instance.more.leaving {
            instance.more.beats = false;
            return;
        }
        // What waits for its readiness probe has not registered yet.
        let beats = matches!(instance.state, State::Ready | State::Draining) && !instance.hung;
        let due = beats && (instance.more.available || instance.more.ready_changed.is_some());
        if due && directory.outages == 0 {
            directory.policy.on_heartbeat(now, Slot(instance.ordinal));
        }
        if now + interval < self.spec.end {
            self.schedule(queue, now + interval, Control::Beat(index));
        }
        self.spread_news(now, queue, service);
    }

    /// A registry does its own work.
    pub(super) fn on_census(&mut self, now: Time, queue: &mut Queue, service: u32) {
        self.count(now, service);
        let Some(directory) = &self.services[service as usize].directory else { return };
        if let Some(interval) = directory.policy.interval()
            && now + interval < self.spec.end
        {
            self.schedule(queue, now + interval, Control::Census(service));
        }
        self.spread_news(now, queue, service);
    }

    fn count(&mut self, now: Time, service: u32) {
        let Some(mut directory) = self.services[service as usize].directory.take() else { return };
        let key = Key::new(self.seed).named("registry").named(&self.spec.services[service as usize].name);
        let slots = &self.services[service as usize].slots;
        let mut answers = |slot: Slot| {
            let instance = &self.instances[slots[slot.0 as usize] as usize];
            matches!(instance.state, State::Ready | State::Draining) && !instance.hung
        };
        directory.policy.on_interval(now, &mut answers, &mut key.with(now.0).rng());
        self.services[service as usize].directory = Some(directory);
    }

    /// Clients that are told of changes hear of those since the last time, each after its own delay.
    fn spread_news(&mut self, now: Time, queue: &mut Queue, service: u32) {
        let Some(directory) = &mut self.services[service as usize].directory else { return };
        let listed = directory.policy.listed(now);
        let Delivery::Push(least, most) = directory.policy.delivery() else { return };
        if directory.outages > 0 || directory.told == listed {
            return;
        }
        let listed = listed.to_vec();
        let told = std::mem::replace(&mut directory.told, listed.clone());
        let gone = told.iter().filter(|slot| listed.binary_search(slot).is_err()).map(|slot| (*slot, false));
        let came = listed.iter().filter(|slot| told.binary_search(slot).is_err()).map(|slot| (*slot, true));
        let changes: Vec<(Slot, bool)> = gone.chain(came).collect();
        let callers = self.callers(service);
        for (slot, came) in changes {
            for &index in &callers {
                let at = now + self.push_delay(now, service, index, least, most);
                let control = if came { Control::Learn(index, slot) } else { Control::Forget(index, slot) };
                self.schedule(queue, at, control);
            }
        }
    }

    /// Clients of a service that live.
    fn callers(&mut self, service: u32) -> Vec<u32> {
        let mut callers = std::mem::take(&mut self.services[service as usize].callers);
        callers.retain(|&index| self.outbounds[index as usize].alive);
        self.services[service as usize].callers.clone_from(&callers);
        callers
    }

    fn push_delay(&self, now: Time, service: u32, client: u32, least: Duration, most: Duration) -> Duration {
        let key =
            Key::new(self.seed).named("push").with(u64::from(service)).with(u64::from(client)).with(now.0);
        let spread = (most - least).0 as f64;
        least + Duration::from_ns_f64(spread * key.draws().unit())
    }

    /// Nobody reaches the registry of a service, or (at the end) everybody does again.
    pub(super) fn set_discovery_outage(&mut self, now: Time, queue: &mut Queue, service: u32, on: bool) {
        let Some(directory) = &mut self.services[service as usize].directory else { return };
        directory.outages = if on { directory.outages + 1 } else { directory.outages.saturating_sub(1) };
        if directory.outages > 0 {
            return;
        }
        directory.told = directory.policy.listed(now).to_vec();
        if let Delivery::Push(least, most) = directory.policy.delivery() {
            // Subscribing anew brings the whole list.
            for index in self.callers(service) {
                let at = now + self.push_delay(now, service, index, least, most);
                self.schedule(queue, at, Control::Fetch(index));
            }
        }
    }
}
