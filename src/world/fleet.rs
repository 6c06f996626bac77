//! Life of instances: start, discovery, shutdown, death, replacement. Where they go is the business of `cluster`.

use crate::kernel::queue::{Payload, Queue};
use crate::policies::balancer::prequal::Reporter;
use crate::policies::replacement::starts_another;
use crate::policies::view::Slot;
use crate::random::Key;
use crate::time::{Duration, Time};

use super::burst::Burst;
use super::cluster::{EVICTION, NODE_GRACE};
use super::control::Control;
use super::cpu::Shared;
use super::discovery::News;
use super::frame::{
    AWAITED, CLASS_SHIFT, ENDED, EVENT, INSIDE, LEFTOVER, LINKED, NIL, ON_CPU, OWED, QUEUED, STARTED,
};
use super::governor::Governor;
use super::instance::{Instance, Lane, State};
use super::memory::Memory;
use super::outbound::Outbound;
use super::program::PoolState;
use super::spec::{CpuMode, NO_RING};
use super::waiting::Line;
use super::{Flow, Full, REPLY, World};
use crate::policies::view::Class;

/// A connection attempt to a machine that is gone ends after this long: SYN retries at 1, 3, 7 ... 63 s, then 64 s more.
const TRANSPORT_GIVES_UP: Duration = Duration::from_secs(127);

impl World<'_> {
    /// Brings a service to the wanted number of replicas.
    pub(super) fn scale(&mut self, now: Time, queue: &mut Queue, service: u32, replicas: u32) -> Flow {
        self.services[service as usize].wanted = replicas;
        if self.is_updating(service) {
            return self.sync_rollout(now, queue, service);
        }
        let state = &mut self.services[service as usize];
        let newest = state.sets.iter_mut().find(|set| set.version == state.version);
        newest.expect("the version in place has a set").spec = replicas;
        self.reconcile(now, queue, service)
    }

    /// An attempt found no answer: that may start another instance.
    pub(super) fn start_another(&mut self, now: Time, queue: &mut Queue, service: u32) -> Flow {
        let Some(settings) = &self.spec.services[service as usize].on_outage else { return Ok(()) };
        let wanted = self.services[service as usize].wanted;
        let living = self.services[service as usize].living.iter();
        let starting = living
            .filter(|&&index| {
                let instance = &self.instances[index as usize];
                matches!(instance.state, State::Pending | State::Starting) && !instance.more.leaving
            })
            .count() as u32;
        if now >= self.spec.end || !starts_another(settings, wanted, starting) {
            return Ok(());
        }
        self.services[service as usize].outage_starts += u64::from(self.counts_at(now));
        let name = self.spec.services[service as usize].name.clone();
        self.telemetry.log(
            now,
            "action",
            name,
            format!("a request that failed wants instance {}", wanted + 1),
        );
        self.scale(now, queue, service, wanted + 1)
    }

    /// Starts what is missing and stops what is too much, for each version.
    pub(super) fn reconcile(&mut self, now: Time, queue: &mut Queue, service: u32) -> Flow {
        for at in 0..self.services[service as usize].sets.len() {
            let set = self.services[service as usize].sets[at];
            let mut members: Vec<u32> = self.members(service, set.version);
            if members.len() == set.spec as usize {
                continue;
            }
            for _ in members.len() as u32..set.spec {
                self.launch(now, queue, service, set.version)?;
            }
            let surplus = members.len().saturating_sub(set.spec as usize);
            // Not ready ones first, then the youngest.
            members.sort_by_key(|&index| {
                let instance = &self.instances[index as usize];
                (instance.more.available, std::cmp::Reverse((instance.more.launched, instance.ordinal)))
            });
            for &index in &members[..surplus] {
                self.shut_down(now, queue, index)?;
            }
        }
        Ok(())
    }

    /// Since when the control plane takes an instance for ready; it is late to notice that a machine is gone.
    pub(super) fn ready_since(&self, now: Time, index: u32) -> Option<Time> {
        let instance = &self.instances[index as usize];
        let seen = match instance.state {
            State::Dead => !instance.more.leaving && now < instance.more.dead_at + NODE_GRACE,
            _ => instance.more.available,
        };
        (seen && instance.more.ready_at < Time::MAX).then_some(instance.more.ready_at)
    }

    /// Instances of one version that are not on their way out.
    pub(super) fn members(&self, service: u32, version: u8) -> Vec<u32> {
        let living = self.services[service as usize].living.iter().copied();
        let wanted = |index: &u32| {
            let instance = &self.instances[*index as usize];
            instance.version == version && !instance.more.leaving
        };
        living.filter(wanted).collect()
    }

    /// Creates an instance; it starts as soon as a node has room.
    fn launch(&mut self, now: Time, queue: &mut Queue, service: u32, version: u8) -> Flow {
        let index = self.create(now, service, version)?;
        self.fetch_configs(now, queue, index);
        self.configs_changed(now, service);
        self.open_eyes(now, queue, index);
        self.place_instance(now, queue, index);
        Ok(())
    }

    fn create(&mut self, now: Time, service: u32, version: u8) -> Result<u32, Full> {
        let index = self.instances.len() as u32;
        if u64::from(index) >= self.spec.limits.instances {
            return Err(Full::Instances);
        }
        let ask = self.ask_of(service);
        let spec = &self.spec.services[service as usize];
        let state = &mut self.services[service as usize];
        let ordinal = state.slots.len() as u32;
        state.slots.push(index);
        state.living.push(index);
        let mut instance = Instance::new(service, ordinal, version, NIL, ask, now);
        instance.dedicated = spec.cpu == CpuMode::Dedicated;
        instance.more.disk = spec.disk_use.as_ref().map(|_| Box::default());
        instance.more.memory = spec.memory_use.as_ref().map(|memory| Box::new(Memory::new(memory, now)));
        let leak = spec.versions[instance.version as usize].leak_per_hour;
        if let Some(memory) = &mut instance.more.memory {
            memory.per_hour += leak;
        }
        self.instances.push(instance);
        self.furnish(now, index);
        Ok(index)
    }

    /// Gives an instance everything that lives and dies with its process.
    fn furnish(&mut self, now: Time, index: u32) {
        let instance = &mut self.instances[index as usize];
        let owner = instance.service;
        let spec = &self.spec.services[owner as usize];
        instance.more.limiter = spec.limiter.as_ref().map(|settings| settings.build(now));
        let mut phase = quota_phases(self.seed, &spec.name, instance.ordinal).draws();
        let mut govern = |limit| Some(Box::new(Governor::new(limit, phase.unit(), now)));
        let mut governor = if spec.governed { govern(instance.more.ask.cpu_limit) } else { None };
        if let (Some(governor), Some(burst)) = (&mut governor, &spec.burst) {
            governor.burst = Some(Burst::new(burst, instance.more.credits));
        }
        instance.more.shared = (spec.cpu == CpuMode::Shared).then(|| Shared::new(spec.cores, governor, now));
        let sidecars = spec.sidecars.iter();
        instance.more.sidecars =
            sidecars.map(|sidecar| Shared::new(sidecar.cores, govern(sidecar.cpu_limit), now)).collect();
        instance.more.line = Line::new(spec, self.spec.priorities.len(), now);
        instance.more.pools =
            spec.pools.iter().map(|pool| PoolState { free: pool.size, waiting: Lane::EMPTY }).collect();
        instance.more.reporter =
            self.services[instance.service as usize].probed.then(|| Box::new(Reporter::default()));
        instance.more.caches = spec.caches.iter().map(|_| super::cache::CacheState::default()).collect();
        instance.outbounds = self.outbounds.len() as u32;
        let root = Key::new(self.seed).named("connections").named(&spec.name);
        let key = root.with(u64::from(instance.ordinal)).with(u64::from(instance.more.restarts));
        let (client, clients) = (instance.ordinal, spec.replicas.max(instance.ordinal + 1));
        for edge in &spec.edges {
            let mut outbound = Outbound::new(edge, 0, NIL, now).numbered(client, clients);
            outbound.pool = self.new_pool(edge, now, key, index);
            outbound.owner = Some(owner);
            if !edge.shared {
                self.introduce(now, &mut outbound);
            }
            self.services[edge.to as usize].callers.push(self.outbounds.len() as u32);
            self.outbounds.push(outbound);
            self.tell_versions(now, self.outbounds.len() as u32 - 1);
        }
        self.throttle_new(index);
    }

    /// Finds a node and starts the process there; without a node it stays pending.
    pub(super) fn place_instance(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let Some(pulled) = self.bind(now, index) else { return };
        self.begin_probes(now, queue, index);
        let instance = &mut self.instances[index as usize];
        instance.state = State::Starting;
        let sized =
            self.spec.services[instance.service as usize].versions[instance.version as usize].image > 0;
        if sized && instance.more.node != NIL {
            return self.want_image(now, queue, index);
        }
        self.pull(now, queue, index, pulled);
    }

    /// Fetches an image that takes its time, whatever else is going on, and starts the process.
    fn pull(&mut self, now: Time, queue: &mut Queue, index: u32, pulled: bool) {
        let instance = &self.instances[index as usize];
        let spec = &self.spec.services[instance.service as usize];
        if !pulled && self.registry_is_out() && !spec.pull.is_zero() {
            return self.back_off(now, queue, index);
        }
        let mut rng =
            Key::new(self.seed).named("start").named(&spec.name).with(u64::from(instance.ordinal)).draws();
        let pull = spec.pull.sample_duration(&mut rng);
        let factor = spec.versions[instance.version as usize].start;
        let start = spec.start.sample_duration(&mut rng);
        let start = if factor == 1.0 { start } else { Duration::from_secs_f64(start.as_secs_f64() * factor) };
        let begins = if pulled { now } else { now + pull };
        self.begin_container(queue, index, begins, start);
    }

    /// The process of an instance starts at `begins` and is ready `start` later, unless it ends before.
    fn begin_container(&mut self, queue: &mut Queue, index: u32, begins: Time, start: Duration) {
        let ends = self.begin_crash_loop(queue, index, begins);
        if ends.is_none_or(|ends| begins + start <= ends) {
            self.schedule(queue, begins + start, Control::Ready(index));
        }
    }

    /// When the process that starts at `begins` will end, if its version always comes to that.
    fn begin_crash_loop(&mut self, queue: &mut Queue, index: u32, begins: Time) -> Option<Time> {
        let instance = &self.instances[index as usize];
        let spec = &self.spec.services[instance.service as usize];
        let law = spec.versions[usize::from(instance.version)].crash_loop.as_ref()?;
        let restarts = instance.more.restarts;
        let key = Key::new(self.seed).named("crash-loop").named(&spec.name);
        let key = key.with(u64::from(instance.ordinal)).with(u64::from(restarts));
        let ends = begins + law.sample_duration(&mut key.draws());
        if ends < self.spec.horizon {
            self.schedule(queue, ends, Control::CrashLoop(index, restarts));
        }
        Some(ends)
    }

    /// The process of an instance ends by itself, if it still is the one that began then.
    pub(super) fn on_crash_loop(&mut self, now: Time, queue: &mut Queue, index: u32, restarts: u32) -> Flow {
        let instance = &self.instances[index as usize];
        let runs = matches!(instance.state, State::Starting | State::Ready | State::Draining);
        if !runs || instance.more.restarts != restarts {
            return Ok(());
        }
        let (service, leaving) = (instance.service as usize, instance.more.leaving);
        self.services[service].crash_restarts += u64::from(self.counts_at(now));
        if let Some(seen) = &mut self.services[service].seen {
            seen.note_crash();
        }
        self.log_instance(now, index, "crashed");
        if leaving { self.kill(now, queue, index, false) } else { self.restart(now, queue, index) }
    }

    /// The image is there: the process starts.
    pub(super) fn begin_process(&mut self, now: Time, queue: &mut Queue, index: u32) {
        self.pull(now, queue, index, true);
    }

    /// After a pull that failed, the next.
    pub(super) fn pull_again(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let instance = &self.instances[index as usize];
        if instance.state != State::Starting {
            return;
        }
        let sized =
            self.spec.services[instance.service as usize].versions[instance.version as usize].image > 0;
        if sized && instance.more.node != NIL {
            self.want_image(now, queue, index);
        } else {
            self.pull(now, queue, index, false);
        }
    }

    /// Instances that were there before the run began: ready, and known to everybody.
    pub(super) fn begin_fleet(&mut self, queue: &mut Queue) -> Flow {
        for service in 0..self.spec.services.len() as u32 {
            for _ in 0..self.spec.services[service as usize].replicas {
                let index = self.create(Time::ZERO, service, 0)?;
                self.fetch_configs(Time::ZERO, queue, index);
                if self.bind(Time::ZERO, index).is_some() {
                    let instance = &mut self.instances[index as usize];
                    instance.state = State::Ready;
                    // They have been running for long and do not warm up.
                    instance.more.ready_at = Time::ZERO;
                    instance.more.booted = true;
                    instance.more.available = true;
                    let state = &mut self.services[service as usize];
                    state.ready.up(Time::ZERO);
                    self.note_life(Time::ZERO, index, true);
                    self.begin_probes(Time::ZERO, queue, index);
                    self.watch_memory(Time::ZERO, queue, index);
                    self.begin_disk(Time::ZERO, queue, index);
                    self.begin_crash_loop(queue, index, Time::ZERO);
                }
            }
        }
        self.begin_discovery(queue);
        for outbound in 0..self.outbounds.len() {
            // Clients of a prober know whom they probe.
            if self.outbounds[outbound].alive {
                let service = self.outbounds[outbound].service;
                let known = self.known(Time::ZERO, service);
                for slot in known {
                    self.outbounds[outbound].learn(Time::ZERO, slot);
                }
            }
            self.open_eye(Time::ZERO, queue, outbound as u32);
        }
        if self.wire != NIL {
            for from in 0..self.outbounds.len() as u32 {
                self.open_minimum(Time::ZERO, queue, from, true)?;
            }
        }
        self.begin_groups(queue)
    }

    /// A new client gets its first list.
    fn introduce(&self, now: Time, outbound: &mut Outbound) {
        for slot in self.known(now, outbound.service) {
            outbound.learn(now, slot);
        }
    }

    /// An instance becomes ready.
    pub(super) fn on_ready(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let instance = &mut self.instances[index as usize];
        if instance.state != State::Starting {
            return Ok(());
        }
        let service = &self.spec.services[instance.service as usize];
        if let Some(law) = &service.start_cpu
            && !std::mem::replace(&mut instance.more.booted, true)
        {
            let key = Key::new(self.seed).named("start-cpu").named(&service.name);
            let key = key.with(u64::from(instance.ordinal)).with(u64::from(instance.more.restarts));
            let work = law.sample_duration(&mut key.draws());
            self.boot(now, queue, index, work);
            return Ok(());
        }
        instance.state = State::Ready;
        if let Some((lasts, _)) = self.spec.services[instance.service as usize].warm_up {
            instance.more.warm_at = now + lasts;
        }
        let is_probed = self.container_started(now, queue, index);
        let is_behind = self.take_seat(now, queue, index)?;
        let waits = is_probed || is_behind;
        if waits {
            self.log_instance(now, index, "started");
        } else {
            self.note_available(now, index);
        }
        self.watch_memory(now, queue, index);
        self.begin_disk(now, queue, index);
        if self.wire != NIL {
            let instance = &self.instances[index as usize];
            let (first, service) = (instance.outbounds, instance.service);
            for from in first..first + self.spec.services[service as usize].edges.len() as u32 {
                self.open_minimum(now, queue, from, false)?;
            }
        }
        if waits { Ok(()) } else { self.announce_available(now, queue, index) }
    }

    fn note_available(&mut self, now: Time, index: u32) {
        let instance = &mut self.instances[index as usize];
        instance.more.available = true;
        instance.more.ready_at = now;
        instance.more.ready_changed = Some(now);
        self.services[instance.service as usize].ready.up(now);
        self.note_life(now, index, true);
        self.log_instance(now, index, "ready");
    }

    fn announce_available(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let instance = &self.instances[index as usize];
        let (service, ordinal) = (instance.service, instance.ordinal);
        self.tell_clients(now, queue, service, Slot(ordinal), News::Came);
        self.local_changed(now, queue, service);
        if self.has_errands {
            self.errands_resume(now, queue, index)?;
        }
        self.membership_changed(now, queue, service)
    }

    /// The readiness probe of a running instance has passed, or failed.
    pub(super) fn set_available(
        &mut self,
        now: Time,
        queue: &mut Queue,
        index: u32,
        available: bool,
    ) -> Flow {
        if self.instances[index as usize].more.available == available {
            return Ok(());
        }
        if available {
            self.note_available(now, index);
            return self.announce_available(now, queue, index);
        }
        self.log_instance(now, index, "not ready");
        let service = self.instances[index as usize].service;
        self.withdraw(now, queue, index, News::Unready);
        self.membership_changed(now, queue, service)
    }

    /// Traffic may no longer come to an instance to which it could.
    pub(super) fn withdraw(&mut self, now: Time, queue: &mut Queue, index: u32, news: News) {
        let instance = &mut self.instances[index as usize];
        if !std::mem::replace(&mut instance.more.available, false) {
            return;
        }
        instance.more.ready_changed = Some(now);
        if news == News::Unready {
            instance.more.ready_at = Time::MAX;
        }
        let (service, ordinal) = (instance.service, instance.ordinal);
        self.services[service as usize].ready.down(now);
        self.note_life(now, index, false);
        self.tell_clients(now, queue, service, Slot(ordinal), news);
        self.local_changed(now, queue, service);
    }

    /// The start-up work of an instance is done.
    pub(super) fn booted(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        self.on_ready(now, queue, index)
    }

    /// The process of an instance has died; after the kubelet's back-off it starts again on the spot.
    pub(super) fn restart(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let instance = &mut self.instances[index as usize];
        let wait = instance.more.backoff.wait(now);
        instance.state = State::Starting;
        instance.more.ready_at = Time::MAX;
        instance.more.ready_changed = Some(now);
        instance.more.booted = false;
        instance.more.restarts += 1;
        let (service, ordinal, restarts) = (instance.service, instance.ordinal, instance.more.restarts);
        self.withdraw(now, queue, index, News::Died(Duration::ZERO));
        self.lose_connections(now, queue, index, false);
        self.lose_work(now, queue, index, false)?;
        self.leave_seat(now, queue, index)?;
        let spec = &self.spec.services[service as usize];
        let calling = self.instances[index as usize].outbounds;
        self.close_pools(now, queue, calling, spec.edges.len() as u32)?;
        let instance = &mut self.instances[index as usize];
        instance.set_running(now, 0);
        let (first, node, zone) = (instance.outbounds as usize, instance.more.node, instance.more.zone);
        for at in first..first + spec.edges.len() {
            self.outbounds[at].bury();
            self.clear_backlog(now, queue, at as u32);
        }
        self.furnish(now, index);
        self.join_node(index, node);
        let first = self.instances[index as usize].outbounds as usize;
        for outbound in &mut self.outbounds[first..first + spec.edges.len()] {
            outbound.zone = zone;
        }
        self.open_eyes(now, queue, index);
        // What a fault does to the machine goes on.
        self.set_speed(now, queue, index);
        self.take_configs(now, queue, index);
        let key = Key::new(self.seed).named("restart").named(&spec.name).with(u64::from(ordinal));
        let start = spec.start.sample_duration(&mut key.with(u64::from(restarts)).draws());
        self.begin_container(queue, index, now + wait, start);
        self.membership_changed(now, queue, service)?;
        if let Some(memory) = &mut self.instances[index as usize].more.memory {
            memory.restart(now + wait);
            self.watch_memory(now, queue, index);
        }
        Ok(())
    }

    /// A client learns of an endpoint, if both are still there.
    pub(super) fn learn(&mut self, now: Time, queue: &mut Queue, outbound: u32, slot: Slot) {
        let service = self.outbounds[outbound as usize].service;
        let instance = self.services[service as usize].slots[slot.0 as usize];
        // A registry may say so of one that is gone.
        let there = self.instances[instance as usize].more.available || self.has_directory(service);
        let client = &mut self.outbounds[outbound as usize];
        if client.alive && there {
            client.learn(now, slot);
            self.refresh_hosts(now, queue, outbound);
            self.look_at_pool(now, queue, outbound);
            self.look_at_held(now, queue, service);
            if self.watching != 0 {
                self.list_changed(service);
            }
        }
    }

    /// A client learns that an endpoint is gone.
    pub(super) fn forget(&mut self, now: Time, queue: &mut Queue, outbound: u32, slot: Slot) {
        let service = self.outbounds[outbound as usize].service;
        let instance = self.services[service as usize].slots[slot.0 as usize];
        let flickers = self.services[service as usize].group.is_some() && !self.has_directory(service);
        if flickers && self.instances[instance as usize].more.available {
            // A member has caught up so quickly that word of it has overtaken this one.
            return;
        }
        self.outbounds[outbound as usize].forget(slot);
        self.refresh_hosts(now, queue, outbound);
        if self.watching != 0 {
            self.list_changed(self.outbounds[outbound as usize].service);
        }
    }

    /// Tells every client of `service` that an endpoint came or went, each after its own propagation delay; or whoever knows
    /// its endpoints instead.
    fn tell_clients(&mut self, now: Time, queue: &mut Queue, service: u32, slot: Slot, news: News) {
        if self.has_directory(service) {
            return self.tell_directory(now, queue, service, slot, news);
        }
        let (came, after) = match news {
            News::Came => (true, Duration::ZERO),
            News::Unready | News::Goodbye => (false, Duration::ZERO),
            News::Died(after) => (false, after),
        };
        let law = &self.spec.services[service as usize].discovery;
        let instant = law.constant() == Some(0.0) && after == Duration::ZERO;
        let key = Key::new(self.seed)
            .named("discovery")
            .with(u64::from(service))
            .with(u64::from(slot.0) << 1 | u64::from(came));
        let mut callers = std::mem::take(&mut self.services[service as usize].callers);
        callers.retain(|&index| self.outbounds[index as usize].alive);
        for &index in &callers {
            let outbound = &mut self.outbounds[index as usize];
            if instant {
                if came {
                    outbound.learn(now, slot);
                } else {
                    outbound.forget(slot);
                }
                self.refresh_hosts(now, queue, index);
            } else {
                let delay = law.sample_duration(&mut key.with(u64::from(index)).draws()) + after;
                let control = if came { Control::Learn(index, slot) } else { Control::Forget(index, slot) };
                self.schedule(queue, now + delay, control);
            }
        }
        if instant && came {
            for &index in &callers {
                self.look_at_pool(now, queue, index);
            }
            self.look_at_held(now, queue, service);
        }
        self.services[service as usize].callers = callers;
    }

    /// Nothing is inside a draining instance any more: it ends, or stays for its transactions, at most for its grace period.
    pub(super) fn emptied(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        if self.coordinates(index) { Ok(()) } else { self.drained(now, queue, index) }
    }

    /// A draining instance has nothing left to do.
    pub(super) fn drained(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        if self.instances[index as usize].more.leaving {
            self.hand_state_over(now, index);
            self.kill(now, queue, index, false)
        } else {
            self.restart(now, queue, index)
        }
    }

    /// An instance dies with everything inside. With `silent` its machine went with it: nobody is told anything.
    pub(super) fn kill(&mut self, now: Time, queue: &mut Queue, index: u32, silent: bool) -> Flow {
        let instance = &mut self.instances[index as usize];
        if instance.state == State::Dead {
            return Ok(());
        }
        let was = std::mem::replace(&mut instance.state, State::Dead);
        let asked = was == State::Draining || instance.more.leaving;
        instance.silent = silent;
        instance.more.dead_at = now;
        let service = instance.service;
        if was == State::Pending {
            self.cluster.pending.remove(&(service, index));
        }
        let spec = &self.spec.services[service as usize];
        if was != State::Pending && spec.is_sized() {
            let request = spec.request(&self.instances[index as usize].more.ask);
            self.services[service as usize].asked.less(now, request);
        }
        let late = if silent { NODE_GRACE } else { Duration::ZERO };
        self.withdraw(now, queue, index, News::Died(late));
        self.log_instance(now, index, if asked { "stopped" } else { "died" });
        self.lose_connections(now, queue, index, silent);
        self.lose_work(now, queue, index, silent)?;
        self.leave_seat(now, queue, index)?;
        self.look_at_held(now, queue, service);
        self.instances[index as usize].set_running(now, 0);
        let first = self.instances[index as usize].outbounds as usize;
        self.close_pools(now, queue, first as u32, spec.edges.len() as u32)?;
        for at in first..first + self.spec.services[service as usize].edges.len() {
            self.outbounds[at].bury();
            self.clear_backlog(now, queue, at as u32);
        }
        if silent {
            // The control plane notices late, and waits before it gives the instance up.
            self.schedule(queue, now + NODE_GRACE + EVICTION, Control::Evict(index));
            if self.is_updating(service) {
                self.schedule(queue, now + NODE_GRACE, Control::Sync(service));
            }
            return Ok(());
        }
        self.evict(now, queue, index)
    }

    /// The control plane gives a dead instance up: it is replaced if it is still wanted.
    pub(super) fn evict(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let service = self.instances[index as usize].service;
        let living = &mut self.services[service as usize].living;
        // Oldest first, so ascending.
        let Ok(at) = living.binary_search(&index) else { return Ok(()) };
        living.remove(at);
        self.forget_usage(now, index);
        self.configs_changed(now, service);
        let node = self.instances[index as usize].more.node;
        self.strike_guest(now, index);
        self.reconcile(now, queue, service)?;
        self.retry_pending(now, queue);
        if node != NIL {
            self.delete_if_empty(now, queue, node);
        }
        self.membership_changed(now, queue, service)
    }

    /// Everything inside an instance is lost.
    fn lose_work(&mut self, now: Time, queue: &mut Queue, index: u32, silent: bool) -> Flow {
        // Besides what is inside, what left early and still stands in some list there.
        let here: Vec<u32> = (0..self.frames.slots())
            .filter(|&slot| {
                let frame = &self.frames[slot];
                frame.instance == index && (frame.has(INSIDE) || frame.has(LINKED))
            })
            .collect();
        let orphans = self.lose_fetches(&here);
        self.hold_all(&orphans);
        if self.has_errands {
            self.lose_errands(now, queue, index, &here);
        }
        self.retire_cpu(now, queue, index);
        let instance = &mut self.instances[index as usize];
        instance.inside = 0;
        instance.queued = 0;
        instance.lane = Lane::EMPTY;
        instance.more.line.clear();
        instance.more.cpu_lane = Lane::EMPTY;
        let late = instance.more.hang.lose();
        instance.hung = false;
        instance.more.pools.clear();
        instance.more.caches.clear();
        let service = instance.service as usize;
        let cut_off = instance.more.leaving && !silent;
        // All of it ends before anybody hears of it: callers may sit in the same instance.
        let mut victims = Vec::new();
        for slot in here {
            let frame = &mut self.frames[slot];
            if frame.has(INSIDE) {
                let arrived = frame.arrived;
                self.services[service].leave(now, arrived);
                if frame.has(AWAITED) {
                    frame.pending += 1;
                    victims.push(slot);
                }
            }
            let frame = &mut self.frames[slot];
            frame.flags = frame.flags & !(INSIDE | STARTED | QUEUED | ON_CPU | LINKED | OWED) | ENDED;
            if frame.has(EVENT) {
                frame.flags ^= EVENT | LEFTOVER;
            }
            if self.tracer.is_some() {
                self.trace_end(now, slot);
            }
            let frame = &mut self.frames[slot];
            if frame.pending > 0 && self.tracks_children {
                self.tell_deadline_below(queue, slot);
            }
            self.release_if_loose(slot);
        }
        if cut_off && self.counts_at(now) {
            self.services[service].shutdowns.cut_off += victims.len() as u64;
        }
        for slot in victims {
            let frame = &mut self.frames[slot];
            frame.pending -= 1;
            if !frame.has(AWAITED) {
                self.release_if_loose(slot);
                continue;
            }
            if !silent {
                self.reply(now, queue, slot, Class::Failure)?;
            } else if frame.ring == NO_RING {
                // With a timeout the caller helps itself; otherwise its transport does.
                frame.flags =
                    frame.flags & !(7 << CLASS_SHIFT) | EVENT | (Class::Failure as u16) << CLASS_SHIFT;
                frame.slack = 0;
                queue.push(now + TRANSPORT_GIVES_UP, Payload::new(REPLY, slot));
            }
        }
        for late in late {
            self.catch_up_late(now, queue, late)?;
        }
        self.wake_held(now, queue, orphans)
    }

    pub(super) fn log_instance(&mut self, now: Time, index: u32, what: &str) {
        let instance = &self.instances[index as usize];
        let spec = &self.spec.services[instance.service as usize];
        let version = &spec.versions[instance.version as usize].name;
        let detail = if spec.versions.len() > 1 { format!("{what} ({version})") } else { what.to_owned() };
        let subject = format!("{}-{}", spec.name, instance.ordinal);
        self.telemetry.log(now, "instance", subject, detail);
    }
}

/// Where the periods of the quotas of an instance start, its own container first.
pub(super) fn quota_phases(seed: u64, service: &str, ordinal: u32) -> Key {
    Key::new(seed).named("quota").named(service).with(u64::from(ordinal))
}
