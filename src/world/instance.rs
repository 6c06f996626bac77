//! Callee side: an attempt arrives at an instance, waits, starts, leaves.

use std::mem::ManuallyDrop;

use crate::kernel::queue::{Payload, Queue};
use crate::policies::balancer::prequal::Reporter;
use crate::policies::limiter::{AnyLimiter, Limiter as _};
use crate::policies::view::{Admit, Class, Outcome, Resources};
use crate::random::Key;
use crate::time::{Duration, Time};

use super::backoff::Backoff;
use super::call::{LIMITER_SALT, SAMPLE_SALT};
use super::cpu::Shared;
use super::disk::Disk;
use super::frame::{
    AWAITED, CLASS_SHIFT, ENDED, EVENT, INSIDE, LINKED, NIL, ON_CPU, PATIENCE, PERMIT, QUEUED, STARTED, Side,
    WIRE,
};
use super::hang::{Hang, Late};
use super::kubelet::Probes;
use super::memory::Memory;
use super::network::MAX_TRIES;
use super::program::PoolState;
use super::spec::{Ask, Op};
use super::waiting::Line;
use super::{Flow, STEP, TRANSMIT, World};

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No node has room for it.
    Pending,
    /// The image is pulled, then the process starts.
    Starting,
    /// Serves.
    Ready,
    /// Was asked to stop and takes nothing new; finishes what it has. Before that it may serve for a while, *leaving*.
    Draining,
    /// Gone.
    Dead,
}

/// One running copy of a service; one cache line.
#[repr(align(64))]
pub(super) struct Instance {
    /// Oldest and newest waiting attempt, where the queue is a simple one; elsewhere they are in `line`.
    pub(super) lane: Lane,
    pub(super) queued: u32,
    /// Attempts that have started and not left.
    pub(super) inside: u32,
    /// Cores in use.
    pub(super) running: u32,
    pub(super) cpu_since: Time,
    /// Integral of `running`, up to `cpu_since`.
    pub(super) cpu_ns: u64,
    pub(super) service: u32,
    /// Position in `Service::slots`.
    pub(super) ordinal: u32,
    /// First outbound; there is one for each edge of the service.
    pub(super) outbounds: u32,
    pub(super) state: State,
    /// Version of the code.
    pub(super) version: u8,
    /// Nothing moves inside.
    pub(super) hung: bool,
    /// Died without a word: the caller gets no reset.
    pub(super) silent: bool,
    /// Demand is not multiplied by anything at present.
    pub(super) plain: bool,
    /// There are never more runnable steps than cores.
    pub(super) dedicated: bool,
    /// The queue is being worked on; nested departures leave it alone.
    dispatching: bool,
    pub(super) more: Box<More>,
}

/// What is rarely looked at.
pub(super) struct More {
    pub(super) node: u32,
    /// What its own container asks for and may have.
    pub(super) ask: Ask,
    /// Since when its node has had no room for its new size.
    pub(super) waits_for_room: Option<Time>,
    /// What it takes there, until it is gone.
    pub(super) room: Option<Resources>,
    /// Pulls of its image that failed.
    pub(super) failed_pulls: u32,
    pub(super) zone: u32,
    pub(super) launched: Time,
    /// Since when it is (or was) ready.
    pub(super) ready_at: Time,
    /// When it has warmed up.
    pub(super) warm_at: Time,
    /// Traffic may come: its process runs, and its readiness probe, if it has one, has passed.
    pub(super) available: bool,
    /// It was asked to stop.
    pub(super) leaving: bool,
    /// When it was told to stop last, for good or to be started anew.
    pub(super) told_at: Time,
    /// Probes of the kubelet, if it has any.
    pub(super) probes: Option<Box<Probes>>,
    /// How long the kubelet waits before it starts the process again.
    pub(super) backoff: Backoff,
    /// It sends heartbeats to a registry.
    pub(super) beats: bool,
    pub(super) dead_at: Time,
    /// Whether the Ready condition was ever true, and when it last changed.
    pub(super) ready_changed: Option<Time>,
    /// What waits for the end of a hang.
    pub(super) hang: Hang,
    /// Factors of the slow faults in force.
    pub(super) slow: Vec<f64>,
    /// Probabilities of the error faults in force.
    pub(super) errors: Vec<f64>,
    pub(super) limiter: Option<AnyLimiter>,
    pub(super) shared: Option<Shared>,
    /// Cores of its side-cars.
    pub(super) sidecars: Vec<Shared>,
    /// Core time that earlier processes of the side-cars have used, ns.
    pub(super) sidecar_ns: Vec<u64>,
    /// What is known about its memory, if that is simulated.
    pub(super) memory: Option<Box<Memory>>,
    /// What is on its disk, if that is simulated.
    pub(super) disk: Option<Box<Disk>>,
    /// CPU credits that its last process has left, 2^-12 core-ns.
    pub(super) credits: Option<u64>,
    /// Bytes in and out so far.
    pub(super) network_bytes: u64,
    /// Its start-up work is done (or was never any).
    pub(super) booted: bool,
    /// How often the process was restarted on the spot.
    pub(super) restarts: u32,
    /// Connections that it has accepted.
    pub(super) connections: u32,
    /// Steps that wait for a core.
    pub(super) cpu_lane: Lane,
    /// Waiting attempts, where the queue is no simple one.
    pub(super) line: Line,
    pub(super) pools: Vec<PoolState>,
    pub(super) caches: Vec<super::cache::CacheState>,
    /// What it answers to probes, if callers send any.
    pub(super) reporter: Option<Box<Reporter>>,
    /// Versions of the configurations that its service follows: in force, and arrived.
    pub(super) configs: Vec<(u8, u8)>,
    /// What the metrics pipeline still remembers.
    pub(super) scrapes: Vec<super::metrics::Scrape>,
}

/// A singly linked list of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) head: u32,
    pub(super) tail: u32,
}

impl Lane {
    pub(super) const EMPTY: Self = Self { head: NIL, tail: NIL };
}

impl Instance {
    /// An instance that does not run yet.
    pub(super) fn new(service: u32, ordinal: u32, version: u8, outbounds: u32, ask: Ask, now: Time) -> Self {
        Self {
            lane: Lane::EMPTY,
            queued: 0,
            inside: 0,
            running: 0,
            cpu_since: now,
            cpu_ns: 0,
            service,
            ordinal,
            outbounds,
            state: State::Pending,
            version,
            hung: false,
            silent: false,
            plain: false,
            dedicated: false,
            dispatching: false,
            more: Box::new(More {
                node: NIL,
                ask,
                waits_for_room: None,
                room: None,
                failed_pulls: 0,
                zone: 0,
                launched: now,
                ready_at: Time::MAX,
                warm_at: Time::ZERO,
                available: false,
                leaving: false,
                told_at: Time::MAX,
                probes: None,
                backoff: Backoff::default(),
                beats: false,
                dead_at: Time::MAX,
                ready_changed: None,
                hang: Hang::default(),
                slow: Vec::new(),
                errors: Vec::new(),
                limiter: None,
                shared: None,
                sidecars: Vec::new(),
                sidecar_ns: Vec::new(),
                memory: None,
                disk: None,
                credits: None,
                network_bytes: 0,
                booted: false,
                restarts: 0,
                connections: 0,
                cpu_lane: Lane::EMPTY,
                line: Line::default(),
                pools: Vec::new(),
                caches: Vec::new(),
                reporter: None,
                configs: Vec::new(),
                scrapes: Vec::new(),
            }),
        }
    }

    /// Changes the number of cores in use.
    #[inline]
    pub(super) fn set_running(&mut self, now: Time, running: u32) {
        self.cpu_ns += u64::from(self.running) * (now.0 - self.cpu_since.0);
        self.cpu_since = now;
        self.running = running;
    }

    /// Core time used so far.
    pub(super) fn cpu_used(&self, now: Time) -> u64 {
        self.cpu_ns + u64::from(self.running) * (now - self.cpu_since).0 + self.governed_ns(now)
    }

    /// Whether work runs here at once, undisturbed, on a core of its own.
    #[inline]
    pub(super) const fn is_quick(&self) -> bool {
        self.plain && self.dedicated && !self.hung && matches!(self.state, State::Ready)
    }

    /// Whether it still has to do with an order to stop that it got then, for good or to be started anew.
    pub(super) fn is_stopping(&self, told_at: Time) -> bool {
        let may_stop = self.state == State::Draining || self.state == State::Ready && self.more.leaving;
        may_stop && self.more.told_at == told_at
    }

    /// Whether an attempt that arrives now is taken at all.
    #[inline]
    const fn accepts(&self) -> bool {
        matches!(self.state, State::Ready)
    }
}

/// How an arriving attempt is turned away.
enum Refusal {
    /// Not at all.
    None,
    /// Without a word.
    Silent,
    /// With an error.
    Answer(Class),
}

const _: () = assert!(size_of::<Instance>() == 64);

impl World<'_> {
    /// The request of `slot` reaches its instance.
    #[inline(always)]
    pub(super) fn arrive(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        let frame = &mut self.frames[slot];
        frame.arrived = now;
        let instance = &mut self.instances[frame.instance as usize];
        let service = &mut self.services[instance.service as usize];
        if !instance.accepts() || service.guarded {
            return self.arrive_guarded(now, queue, slot);
        }
        if instance.inside < service.workers && instance.queued == 0 {
            service.enter(now);
            if instance.is_quick()
                && !self.watches_starts
                && let Op::Cpu(request, None) = &self.spec.ops[frame.pc as usize]
            {
                // The common case in one piece: work begins at once on a core of its own.
                let salt = self.op_salts[frame.pc as usize];
                let demand = request.sample_duration(&mut Key(frame.key ^ salt).draws());
                if demand > Duration::ZERO {
                    frame.flags |= INSIDE | STARTED | ON_CPU | EVENT;
                    service.started(now, now);
                    instance.inside += 1;
                    instance.set_running(now, instance.running + 1);
                    if self.has_sides {
                        self.sides[slot as usize].cpu += demand.0;
                    }
                    queue.push(now + demand, Payload::new(STEP, slot));
                    return Ok(());
                }
            }
            return self.start(now, queue, slot);
        }
        if instance.queued < service.queue {
            service.enter(now);
            self.enqueue(now, queue, slot);
            return Ok(());
        }
        self.arrive_full(now, queue, slot)
    }

    /// The same where somebody may turn the attempt away.
    #[inline(never)]
    fn arrive_guarded(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        if self.has_sides && self.meet(now, queue, slot)? {
            return Ok(());
        }
        match self.refusal(now, slot, self.frames[slot].pc) {
            Refusal::None => {}
            Refusal::Silent => {
                self.drop_silently(now, queue, slot);
                return Ok(());
            }
            Refusal::Answer(class) => return self.refuse(now, queue, slot, class),
        }
        let index = self.frames[slot].instance;
        let instance = &self.instances[index as usize];
        let service = &self.services[instance.service as usize];
        let free = instance.inside < service.workers && instance.queued == 0;
        if !free && instance.queued >= service.queue {
            return self.arrive_full(now, queue, slot);
        }
        if instance.more.line.sheds() {
            let shed = if free { self.is_shed(now, slot) } else { self.is_turned_away(now, slot) };
            if shed {
                return self.refuse(now, queue, slot, Class::Rejected);
            }
        }
        let instance = &self.instances[index as usize];
        self.services[instance.service as usize].enter(now);
        if instance.more.reporter.is_some() {
            self.sides[slot as usize].found = instance.inside + instance.queued;
        }
        if self.has_sides && self.sides[slot as usize].call == WIRE {
            self.services[instance.service as usize].handshakes += 1;
        }
        let (allocates, writes) = (instance.more.memory.is_some(), instance.more.disk.is_some());
        self.count_bytes(slot, true);
        if free {
            self.start(now, queue, slot)?;
        } else {
            self.enqueue(now, queue, slot);
        }
        if allocates {
            self.allocate(now, queue, index);
        }
        if writes {
            self.write_to_disk(now, queue, index);
        }
        Ok(())
    }

    /// No worker is free and no place to wait.
    #[inline(never)]
    fn arrive_full(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        let service = self.instances[self.frames[slot].instance as usize].service;
        if self.services[service as usize].drop_when_full {
            self.drop_silently(now, queue, slot);
            Ok(())
        } else {
            self.refuse(now, queue, slot, Class::Rejected)
        }
    }

    /// Whether and how the attempt is turned away.
    #[cold]
    fn refusal(&mut self, now: Time, slot: u32, entry: u16) -> Refusal {
        let index = self.frames[slot].instance as usize;
        let instance = &mut self.instances[index];
        if !instance.accepts() {
            let silent = instance.silent;
            self.note_too_late(now, index as u32);
            return if silent { Refusal::Silent } else { Refusal::Answer(Class::Failure) };
        }
        if self.services[instance.service as usize].outages > 0 || self.killed.contains(&entry) {
            return Refusal::Answer(Class::Rejected);
        }
        if self.disk_fails(now, index as u32) {
            return Refusal::Answer(Class::Failure);
        }
        if self.is_wire(slot) {
            return Refusal::None;
        }
        // Probes have a way around the limiter, as health endpoints should.
        let frame = &self.frames[slot];
        let asks = frame.parent != NIL
            || self.outbounds[frame.outbound as usize].source == NIL
            || (self.outbounds[frame.outbound as usize].source as usize) < self.sources.len();
        let instance = &mut self.instances[index];
        if let Some(limiter) = instance.more.limiter.as_mut().filter(|_| asks) {
            // A callee answers at once: it keeps nobody waiting outside its queue.
            let mut rng = ManuallyDrop::new(
                Key(self.frames[slot].key ^ LIMITER_SALT ^ u64::from(self.sides[slot as usize].tag)).rng(),
            );
            let priority = self.spec.priorities[usize::from(self.frames[slot].priority)];
            match limiter.try_acquire_of(now, priority, 1, Duration::ZERO, &mut rng) {
                Admit::Now(permit) | Admit::At(_, permit) => {
                    self.frames[slot].flags |= PERMIT;
                    self.sides[slot as usize].permit = permit;
                }
                Admit::Reject { .. } => {
                    self.telemetry.limiter_rejections += 1;
                    return Refusal::Answer(Class::Rejected);
                }
            }
        }
        Refusal::None
    }

    /// Answers with an error at once.
    pub(super) fn refuse(&mut self, now: Time, queue: &mut Queue, slot: u32, class: Class) -> Flow {
        self.give_permit_back(now, slot, class);
        let counts = !self.is_wire(slot);
        let frame = &mut self.frames[slot];
        let service = self.instances[frame.instance as usize].service;
        // What a full queue dropped before has been counted then.
        self.services[service as usize].refused += u64::from(counts && frame.flags >> CLASS_SHIFT == 0);
        frame.flags |= ENDED;
        if frame.has(AWAITED) {
            return self.reply(now, queue, slot, class);
        }
        self.release_if_loose(slot);
        Ok(())
    }

    /// Nobody answers (the queue is full, or the machine is gone): the caller's transport tries again after 1, 2, 4 ... s, six times.
    pub(super) fn drop_silently(&mut self, now: Time, queue: &mut Queue, slot: u32) {
        self.give_permit_back(now, slot, Class::Rejected);
        let (wire, rides) = (self.is_wire(slot), self.ridden(slot).is_some());
        let frame = &mut self.frames[slot];
        let service = self.instances[frame.instance as usize].service;
        let tries = frame.flags >> CLASS_SHIFT;
        // Counted once, however often the transport knocks.
        self.services[service as usize].dropped += u64::from(tries == 0 && !wire);
        if !frame.has(AWAITED) {
            frame.flags |= ENDED;
            self.release_if_loose(slot);
            return;
        }
        if rides && self.instances[frame.instance as usize].silent {
            // The connection stands, as far as its client knows, so the request is sent again and again.
            frame.slack = 1;
            frame.need = MAX_TRIES + 1;
            frame.flags |= EVENT;
            queue.push(now + CONNECTION_GIVES_UP, Payload::new(TRANSMIT, slot));
            return;
        }
        // Tries are counted where the class of the answer will stand later. After the last one the transport waits once
        // more and gives up.
        if tries < SYN_RETRIES {
            frame.flags += 1 << CLASS_SHIFT;
            frame.slack = 0;
        } else {
            frame.slack = 1;
            frame.need = MAX_TRIES + 1;
        }
        frame.flags |= EVENT;
        queue.push(now + Duration::from_secs(1 << tries), Payload::new(TRANSMIT, slot));
    }

    /// `slot` waits for a worker.
    #[inline(always)]
    fn enqueue(&mut self, now: Time, queue: &mut Queue, slot: u32) {
        let frame = &mut self.frames[slot];
        frame.flags |= INSIDE | QUEUED;
        frame.next = NIL;
        let instance = &mut self.instances[frame.instance as usize];
        instance.queued += 1;
        if !self.services[instance.service as usize].simple_queue {
            return self.enter_line(now, queue, slot);
        }
        let tail = std::mem::replace(&mut instance.lane.tail, slot);
        if tail == NIL {
            instance.lane.head = slot;
        } else {
            self.frames[tail].next = slot;
        }
    }

    /// The next waiting attempt that still wants to be served, of a simple queue.
    #[inline(always)]
    fn dequeue(&mut self, index: u32) -> Option<u32> {
        loop {
            let instance = &mut self.instances[index as usize];
            if instance.queued == 0 {
                return None;
            }
            let lane = &mut instance.lane;
            let slot = lane.head;
            let frame = &mut self.frames[slot];
            lane.head = frame.next;
            if lane.head == NIL {
                lane.tail = NIL;
            }
            if frame.has(LINKED) {
                // It left while it was waiting; `queued` no longer counts it.
                frame.flags &= !LINKED;
                self.release_if_loose(slot);
                continue;
            }
            frame.flags &= !QUEUED;
            instance.queued -= 1;
            return Some(slot);
        }
    }

    /// Starts waiting attempts while there are free workers.
    #[inline(always)]
    pub(super) fn dispatch(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let instance = &mut self.instances[index as usize];
        if instance.dispatching {
            return Ok(());
        }
        let service = &self.services[instance.service as usize];
        let (workers, simple_queue) = (service.workers, service.simple_queue);
        if instance.queued == 0 || instance.inside >= workers {
            return Ok(());
        }
        instance.dispatching = true;
        while self.instances[index as usize].inside < workers {
            let next = if simple_queue { self.dequeue(index) } else { self.next_in_line(now, queue, index)? };
            let Some(slot) = next else { break };
            self.start(now, queue, slot)?;
        }
        self.instances[index as usize].dispatching = false;
        Ok(())
    }

    /// A worker takes `slot`.
    #[inline(always)]
    fn start(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        let frame = &mut self.frames[slot];
        frame.flags |= INSIDE | STARTED;
        let instance = &mut self.instances[frame.instance as usize];
        instance.inside += 1;
        let service = &mut self.services[instance.service as usize];
        service.started(now, frame.arrived);
        let hung = instance.hung;
        if self.watches_starts {
            self.note_start(now, queue, slot);
        }
        if hung {
            self.stall(slot, true);
            return Ok(());
        }
        self.network.go_deeper();
        self.advance(now, queue, slot)?;
        self.network.come_back();
        Ok(())
    }

    /// Somebody wants to know that `slot` has started.
    #[inline(never)]
    fn note_start(&mut self, now: Time, queue: &mut Queue, slot: u32) {
        if self.tracks_requests {
            self.note_version(now, slot);
            if self.tracer.is_some() {
                self.trace_start(now, slot);
            }
            self.sides[slot as usize].degraded = self.degraded_at(self.frames[slot].pc).is_some();
        }
        if self.has_errands {
            self.errand_started(slot);
        }
        if self.ties {
            self.tied_start(now, queue, slot);
        }
    }

    /// The request of `slot` meets the version of its instance.
    fn note_version(&mut self, now: Time, slot: u32) {
        let instance = &self.instances[self.frames[slot].instance as usize];
        let Some(at) = self.spec.services[instance.service as usize].version_slot else { return };
        let request = self.sides[slot as usize].request;
        if request == NIL {
            return;
        }
        let record = &mut self.requests[request];
        let seen = &mut record.versions[at as usize];
        if *seen == 0 {
            *seen = instance.version + 1;
        } else if *seen != instance.version + 1 {
            let inherited = self.services[instance.service as usize].inherited;
            let knows = instance.version == self.services[instance.service as usize].version;
            if knows && inherited.is_some_and(|since| since <= now) {
                *seen = instance.version + 1;
            } else {
                record.inconsistent = true;
            }
        }
    }

    /// `slot` leaves its instance, whatever it was doing there: its worker, core, connections and place in the queue are
    /// free again.
    #[inline(always)]
    pub(super) fn leave(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        let frame = &mut self.frames[slot];
        let (index, flags) = (frame.instance, frame.flags);
        frame.flags &= !(INSIDE | STARTED | QUEUED | ON_CPU);
        let arrived = frame.arrived;
        let instance = &mut self.instances[index as usize];
        let service = instance.service;
        self.services[service as usize].leave(now, arrived);
        if flags & PERMIT != 0 {
            self.give_permit_back(now, slot, Class::Success);
        }
        let instance = &mut self.instances[index as usize];
        if flags & STARTED != 0 {
            if let Some(reporter) = &mut instance.more.reporter {
                reporter.on_answer(self.sides[slot as usize].found, now - arrived);
            }
            if flags & ON_CPU != 0 {
                self.give_core_back(now, queue, slot);
            }
            if self.services[service as usize].lends {
                self.look_at_held(now, queue, service);
                if self.has_errands {
                    self.errand_left(now, queue, slot);
                }
                self.abandon_fetches(now, queue, slot)?;
                self.give_connection_back(now, queue, slot)?;
            }
            // Not before: a draining instance ends with the last one inside, and what that one held ends with it.
            self.instances[index as usize].inside -= 1;
        } else if flags & QUEUED != 0 {
            instance.queued -= 1;
            self.frames[slot].flags |= LINKED;
            if !self.services[service as usize].simple_queue {
                self.leave_line(index);
            }
        }
        let instance = &self.instances[index as usize];
        if instance.state == State::Draining && instance.inside == 0 && instance.queued == 0 {
            return self.emptied(now, queue, index);
        }
        if instance.queued > 0 { self.dispatch(now, queue, index) } else { Ok(()) }
    }

    pub(super) fn give_permit_back(&mut self, now: Time, slot: u32, class: Class) {
        let frame = &mut self.frames[slot];
        if frame.has(PERMIT) {
            frame.flags &= !PERMIT;
            let outcome = Outcome::new(class, now - frame.arrived);
            let Side { permit, tag, .. } = self.sides[slot as usize];
            if let Some(limiter) = &mut self.instances[frame.instance as usize].more.limiter {
                let mut rng = ManuallyDrop::new(Key(frame.key ^ SAMPLE_SALT ^ u64::from(tag)).rng());
                limiter.on_outcome(now, permit, &outcome, &mut rng);
            }
        }
    }

    /// A queued attempt's patience ends.
    pub(super) fn on_patience(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        let frame = &mut self.frames[slot];
        if frame.has(QUEUED) && self.is_hung(slot) {
            self.postpone(slot, Late::Patience(slot));
            return Ok(());
        }
        let frame = &mut self.frames[slot];
        frame.flags &= !PATIENCE;
        if !frame.has(QUEUED) {
            self.release_if_loose(slot);
            return Ok(());
        }
        let arrived = frame.arrived;
        let service = self.instances[frame.instance as usize].service;
        self.services[service as usize].gave_up(now, arrived);
        self.finish(now, queue, slot, Class::Rejected)
    }
}

/// What was sent on a connection is repeated for so long: after 0.2, 0.4 ... s, from the tenth time on every 120 s (Linux,
/// `tcp_retries2` = 15).
const CONNECTION_GIVES_UP: Duration = Duration::from_millis(924_600);

/// After 1, 3, 7, 15, 31 and 63 s; 64 s later the connection attempt fails (Linux, `tcp_syn_retries` = 6).
const SYN_RETRIES: u16 = 6;
