//! Connections of one client to one service, as the client keeps them: which attempt rides on which, who waits for one, and
//! when another is set up. What happens to a connection itself stands in `connection`.
//!
//! An attempt that waits is a frame without an instance ([`HELD`]), as at the activator, so timeouts, deadlines,
//! cancellation and the end of its caller find it in the same way. Nothing here touches an edge without `connections`.
//!
//! Rules of the pool are Envoy's (`source/common/conn_pool/conn_pool_base.cc`, `ConnPoolImplBase`): the connection used last
//! is taken first; a set-up begins while more attempts wait than the set-ups under way will carry; an endpoint without any
//! connection gets one although the client is at its limit; a set-up that fails fails all who wait for that endpoint.
//! Behind a virtual address (`per-connection`) it fails the oldest only, as in Go's `net/http`, where each waiting request
//! dials for itself.

use std::collections::VecDeque;
use std::mem::ManuallyDrop;

use crate::kernel::queue::Queue;
use crate::policies::balancer::{AnyBalancer, Balancer as _};
use crate::policies::view::{Class, Endpoints, RequestHead, Slot};
use crate::random::Key;
use crate::time::{Duration, Time};

use super::call::{Origin, PICK_SALT};
use super::control::Control;
use super::dns::Name;
use super::frame::{HELD, NIL, WAITING};
use super::instance::State;
use super::outbound::{AFFINITY, HEDGES, PROBES, add, remove};
use super::spec::{BackoffSpec, EdgeSpec};
use super::telemetry::{Integral, Moments};
use super::{Flow, Full, World};

/// All connections of one client to one service.
pub(super) struct Pool {
    /// Position in `Spec::connections`.
    pub(super) settings: u32,
    /// Instance that owns it; `NIL` for a client of a source.
    owner: u32,
    /// Root of the draws of its connections.
    key: Key,
    /// By endpoint; only one where the balancer stands behind a virtual address.
    pub(super) places: Vec<Place>,
    /// Set-ups ever begun.
    begun: u64,
    /// Connections, set-ups under way included.
    pub(super) connections: u32,
    /// Attempts that wait for one.
    pub(super) pending: u32,
    /// What picks the endpoint of a new connection behind a virtual address.
    pub(super) front: Option<Front>,
    /// What it knows of the name of the service, if it goes by that.
    pub(super) name: Option<Name>,
    /// Session tickets: instance, its process, good until.
    tickets: Vec<(u32, u32, Time)>,
}

/// A balancer behind a virtual address: it sees connections, not attempts.
pub(super) struct Front {
    balancer: AnyBalancer,
    /// Active are connections of this client.
    pub(super) view: Endpoints,
    /// The list has changed since the balancer was last told.
    pub(super) stale: bool,
}

impl Front {
    /// The endpoint of a new connection.
    fn pick(&mut self, now: Time, key: Key) -> Option<Slot> {
        if std::mem::take(&mut self.stale) {
            self.balancer.on_update(now, &self.view);
        }
        let mut rng = ManuallyDrop::new(Key(key.0 ^ PICK_SALT).rng());
        self.balancer.pick(now, &RequestHead::default(), &self.view, &mut rng)
    }
}

/// Where connections lead.
#[derive(Default)]
pub(super) struct Place {
    /// Connections that take another attempt, the one used last at the end.
    pub(super) ready: Vec<u32>,
    /// Attempts that wait for one, the oldest first.
    pub(super) waiting: VecDeque<u32>,
    /// Set-ups under way.
    pub(super) opening: u32,
    /// Connections, set-ups under way included.
    pub(super) connections: u32,
    /// Set-ups in a row that failed.
    failures: u32,
    /// No set-up begins earlier.
    not_before: Time,
    /// A look is scheduled for then.
    woken: Time,
    /// Waiting attempts are being served; nested calls leave that to the outermost.
    serving: bool,
    filling: bool,
}

/// What is counted about the connections to one service.
#[derive(Clone, Debug, Default)]
pub(super) struct ConnectionCounts {
    /// Established connections.
    pub(super) open: Integral,
    /// Set-ups begun, those that succeeded, and those that failed; the others are under way or were given up.
    pub(super) begun: u64,
    pub(super) established: u64,
    pub(super) failed: u64,
    /// Handshakes that were resumed.
    pub(super) resumed: u64,
    /// Answers of the name server.
    pub(super) lookups: u64,
    /// Attempts that met a connection which their callee had closed.
    pub(super) stale: u64,
    /// Attempts that found no place to wait.
    pub(super) refused: u64,
    /// Attempts that wait for a connection.
    pub(super) waiting: Integral,
    /// How long those waited that no longer do.
    pub(super) left: Moments,
    /// Attempts sent on a connection in the counted part, or that gave up: their waits.
    pub(super) waits: Moments,
    /// Of these, how many did wait.
    pub(super) waited: u64,
    /// How long set-ups took that succeeded in the counted part.
    pub(super) set_up: Moments,
}

impl Pool {
    fn place(&mut self, host: u32) -> &mut Place {
        let at = host as usize;
        if at >= self.places.len() {
            self.places.resize_with(at + 1, Place::default);
        }
        &mut self.places[at]
    }

    /// Key of the next connection.
    pub(super) fn next_key(&mut self) -> Key {
        self.begun += 1;
        self.key.with(self.begun)
    }

    /// Whether a ticket is good at this process of an instance.
    pub(super) fn has_ticket(&self, now: Time, instance: u32, process: u32) -> bool {
        self.tickets.iter().any(|&(at, of, until)| (at, of) == (instance, process) && now < until)
    }

    /// The client was given a ticket.
    pub(super) fn keep_ticket(&mut self, now: Time, instance: u32, process: u32, until: Time) {
        self.tickets.retain(|&(at, _, until)| at != instance && now < until);
        self.tickets.push((instance, process, until));
    }

    pub(super) fn learn(&mut self, now: Time, slot: Slot, weights: &[u32]) {
        if let Some(front) = &mut self.front {
            front.stale |= add(&mut front.view, now, slot, weights);
        }
    }

    pub(super) fn forget(&mut self, slot: Slot) {
        if let Some(front) = &mut self.front {
            front.stale |= remove(&mut front.view, slot);
        }
    }

    /// A set-up has succeeded.
    pub(super) fn succeeded(&mut self, host: u32) {
        let place = self.place(host);
        place.failures = 0;
        place.not_before = Time::ZERO;
    }

    /// A set-up that began at `started` has failed.
    pub(super) fn failed(&mut self, host: u32, started: Time, backoff: Option<&BackoffSpec>, unit: f64) {
        let place = self.place(host);
        if let Some(backoff) = backoff {
            place.not_before = place.not_before.max(started + pause(backoff, place.failures, unit));
            place.failures += 1;
        }
    }
}

/// From the start of a set-up that failed to the next (gRPC, `doc/connection-backoff.md`): the first pause is exact, later
/// ones grow and vary.
fn pause(backoff: &BackoffSpec, retries: u32, unit: f64) -> Duration {
    if retries == 0 {
        return backoff.base;
    }
    let (mut current, max) = (backoff.base.0 as f64, backoff.max.0 as f64);
    let mut left = retries;
    while current < max && left > 0 {
        current *= backoff.multiplier;
        left -= 1;
    }
    Duration::from_ns_f64(current.min(max) * (1.0 + backoff.jitter * (unit * 2.0 - 1.0)))
}

impl World<'_> {
    /// The pool of a calling side, if its edge has connections.
    pub(super) fn new_pool(&self, edge: &EdgeSpec, now: Time, key: Key, owner: u32) -> Option<Box<Pool>> {
        let settings = edge.connections?;
        let per_connection = self.spec.connections[settings as usize].per_connection;
        let front = per_connection.then(|| Front {
            balancer: edge.balancer.build(now),
            view: Endpoints { service: edge.callee.0.clone(), clients: 1, ..Endpoints::default() },
            stale: false,
        });
        let places = if per_connection { vec![Place::default()] } else { Vec::new() };
        let key = key.with(u64::from(edge.to));
        let dns = self.spec.connections[settings as usize].dns.as_ref();
        Some(Box::new(Pool {
            settings,
            owner,
            key,
            places,
            begun: 0,
            connections: 0,
            pending: 0,
            front,
            name: dns.map(|dns| Name::new(dns, key)),
            tickets: Vec::new(),
        }))
    }

    pub(super) fn pool(&mut self, from: u32) -> Option<&mut Pool> {
        self.outbounds[from as usize].pool.as_deref_mut()
    }

    /// What is counted about connections to the service that `from` calls.
    pub(super) fn counts_of(&mut self, from: u32) -> &mut ConnectionCounts {
        let service = self.outbounds[from as usize].service;
        let counts = self.services[service as usize].connections.as_deref_mut();
        counts.expect("a service that is reached by connections counts them")
    }

    /// Nothing is sent from an instance that hangs, is not ready yet, or dies at this moment.
    fn owner_stands_still(&self, from: u32) -> bool {
        let pool = self.outbounds[from as usize].pool.as_deref();
        let owner = pool.map_or(NIL, |pool| pool.owner);
        owner != NIL && {
            let instance = &self.instances[owner as usize];
            instance.hung || !matches!(instance.state, State::Ready | State::Draining)
        }
    }

    /// Sends one attempt over a connection, or lets it wait for one; how it fails if neither is possible.
    #[expect(clippy::too_many_arguments, reason = "the same as for an attempt that needs no connection")]
    pub(super) fn send_pooled(
        &mut self,
        now: Time,
        queue: &mut Queue,
        call: u32,
        key: u64,
        attempt: u32,
        origin: &Origin,
        state: u32,
    ) -> Result<Option<Class>, Full> {
        let from = origin.outbound;
        let Some(host) = self.choose_place(now, queue, key, attempt, origin, state)? else {
            return self.hold(now, queue, call, key, origin, state);
        };
        let spec = self.spec;
        let Some(pool) = self.pool(from) else { return Ok(Some(Class::Failure)) };
        let settings = &spec.connections[pool.settings as usize];
        let full = pool.pending >= settings.max_pending;
        let place = pool.place(host);
        if place.ready.is_empty() || !place.waiting.is_empty() {
            if full {
                self.counts_of(from).refused += 1;
                return Ok(Some(Class::Rejected));
            }
            let fails_fast = settings.backoff.is_some_and(|backoff| !backoff.wait_for_ready);
            if fails_fast && place.connections == 0 && now < place.not_before {
                return Ok(Some(Class::Failure));
            }
        }
        let slot = self.unsent(now, queue, call, key, origin, state)?;
        self.board(now, queue, slot, host)?;
        Ok(None)
    }

    /// The endpoint that the balancer picks for an attempt, or the one address of a service behind a virtual one.
    pub(super) fn choose_place(
        &mut self,
        now: Time,
        queue: &mut Queue,
        key: u64,
        attempt: u32,
        origin: &Origin,
        state: u32,
    ) -> Result<Option<u32>, Full> {
        let from = origin.outbound;
        self.look_up(now, queue, from);
        let outbound = &mut self.outbounds[from as usize];
        if let Some(Pool { front: Some(front), places, settings, .. }) = outbound.pool.as_deref() {
            let backoff = self.spec.connections[*settings as usize].backoff;
            let waits = backoff.is_some_and(|backoff| backoff.wait_for_ready);
            let somebody = places[0].connections > 0 || !front.view.eligible.is_empty();
            return Ok((somebody || waits).then_some(0));
        }
        let asks = outbound.asks;
        let mut head = RequestHead { affinity: None, attempt };
        let value = if asks != 0 { self.brief(now, from, origin.request, &mut head) } else { None };
        let mut rng = ManuallyDrop::new(Key(key ^ PICK_SALT ^ u64::from(origin.tag)).rng());
        let Some(slot) = self.pick_for(now, from, &head, value, &mut rng) else { return Ok(None) };
        let slot =
            if asks & HEDGES != 0 { self.elsewhere(now, from, state, &head, slot, &mut rng) } else { slot };
        if asks & (PROBES | AFFINITY) != 0 {
            self.picked(now, queue, origin, value, slot, &mut rng)?;
        }
        Ok(Some(slot.0))
    }

    /// An attempt that has not been sent yet takes a connection, or waits for one.
    pub(super) fn board(&mut self, now: Time, queue: &mut Queue, slot: u32, host: u32) -> Flow {
        let from = self.frames[slot].outbound;
        let still = self.owner_stands_still(from);
        self.frames[slot].arrived = now;
        let Some(pool) = self.pool(from) else { return Ok(()) };
        let place = pool.place(host);
        if place.waiting.is_empty()
            && !still
            && let Some(&at) = place.ready.last()
        {
            self.note_wait(now, slot);
            return self.ride(now, queue, slot, at);
        }
        place.waiting.push_back(slot);
        pool.pending += 1;
        self.frames[slot].next = host;
        self.sides[slot as usize].connection = WAITING;
        self.counts_of(from).waiting.up(now);
        self.fill(now, queue, from, host)
    }

    /// The wait of `slot` for a connection is over.
    fn note_wait(&mut self, now: Time, slot: u32) {
        let (from, since) = (self.frames[slot].outbound, self.frames[slot].arrived);
        let counted_from = self.spec.warm_up;
        let counts = self.counts_of(from);
        if since >= counted_from {
            counts.waits.add((now - since).0);
            counts.waited += u64::from(now > since);
        }
    }

    /// `slot` no longer waits for a connection.
    fn stop_waiting(&mut self, now: Time, slot: u32) {
        let (from, since) = (self.frames[slot].outbound, self.frames[slot].arrived);
        self.sides[slot as usize].connection = NIL;
        if let Some(pool) = self.pool(from) {
            pool.pending -= 1;
        }
        let counts = self.counts_of(from);
        counts.waiting.down(now);
        counts.left.add((now - since).0);
        self.note_wait(now, slot);
    }

    /// `slot` gives up waiting for a connection.
    pub(super) fn quit_pool(&mut self, now: Time, slot: u32) {
        let (from, host) = (self.frames[slot].outbound, self.frames[slot].next);
        if let Some(pool) = self.pool(from) {
            let waiting = &mut pool.place(host).waiting;
            let at = waiting.iter().position(|&other| other == slot);
            waiting.remove(at.expect("INV-32: who waits for a connection is listed"));
        }
        self.stop_waiting(now, slot);
    }

    /// `slot` goes out on a connection.
    fn ride(&mut self, now: Time, queue: &mut Queue, slot: u32, at: u32) -> Flow {
        let connection = &mut self.connections[at];
        let instance = connection.take();
        let ordinal = self.instances[instance as usize].ordinal;
        let frame = &mut self.frames[slot];
        frame.flags &= !HELD;
        frame.instance = instance;
        frame.next = NIL;
        let outbound = &mut self.outbounds[frame.outbound as usize];
        outbound.view.active[ordinal as usize] += 1;
        outbound.attempts += 1;
        self.sides[slot as usize].connection = at;
        self.list(at);
        self.transmit(now, queue, slot)
    }

    /// Waiting attempts go out while there are connections for them.
    pub(super) fn pump(&mut self, now: Time, queue: &mut Queue, from: u32, host: u32) -> Flow {
        let Some(pool) = self.pool(from) else { return Ok(()) };
        if std::mem::replace(&mut pool.place(host).serving, true) {
            return Ok(());
        }
        loop {
            let still = self.owner_stands_still(from);
            let Some(pool) = self.pool(from) else { return Ok(()) };
            let place = pool.place(host);
            match place.ready.last() {
                Some(&at) if !still && !place.waiting.is_empty() => {
                    let Some(slot) = place.waiting.pop_front() else { break };
                    self.stop_waiting(now, slot);
                    self.ride(now, queue, slot, at)?;
                }
                _ => break,
            }
        }
        if let Some(pool) = self.pool(from) {
            pool.place(host).serving = false;
        }
        self.fill(now, queue, from, host)
    }

    /// Sets connections up while more attempts wait than those under way will carry, or too few are open.
    pub(super) fn fill(&mut self, now: Time, queue: &mut Queue, from: u32, host: u32) -> Flow {
        let Some(pool) = self.pool(from) else { return Ok(()) };
        let place = pool.place(host);
        if place.serving || std::mem::replace(&mut place.filling, true) {
            return Ok(());
        }
        while self.wants_connection(now, queue, from, host) {
            self.look_up(now, queue, from);
            let Some(pool) = self.pool(from) else { return Ok(()) };
            let key = pool.next_key();
            let slot = match &mut pool.front {
                None => Some(Slot(host)),
                Some(front) => front.pick(now, key),
            };
            let Some(slot) = slot else {
                self.find_nobody(now, queue, from, host, key)?;
                continue;
            };
            self.open_connection(now, queue, from, host, slot, key)?;
        }
        if let Some(pool) = self.pool(from) {
            pool.place(host).filling = false;
        }
        Ok(())
    }

    /// There is nobody behind the address: a set-up that fails at once.
    fn find_nobody(&mut self, now: Time, queue: &mut Queue, from: u32, host: u32, key: Key) -> Flow {
        let spec = self.spec;
        let counts = self.counts_of(from);
        counts.begun += 1;
        counts.failed += 1;
        let Some(pool) = self.pool(from) else { return Ok(()) };
        let backoff = spec.connections[pool.settings as usize].backoff;
        pool.failed(host, now, backoff.as_ref(), key.draws().unit());
        if backoff.is_some_and(|backoff| backoff.wait_for_ready) {
            return Ok(());
        }
        self.let_down_waiting(now, queue, from, host, usize::MAX)
    }

    fn wants_connection(&mut self, now: Time, queue: &mut Queue, from: u32, host: u32) -> bool {
        let spec = self.spec;
        let still = self.owner_stands_still(from);
        let Some(pool) = self.pool(from) else { return false };
        let settings = &spec.connections[pool.settings as usize];
        let connections = pool.connections;
        let place = pool.place(host);
        let coming = u64::from(place.opening) * u64::from(settings.streams);
        let wanted =
            place.waiting.len() as u64 > coming || settings.per_connection && connections < settings.min;
        if !wanted || still || connections >= settings.max && place.connections > 0 {
            return false;
        }
        let due = place.not_before;
        if due <= now {
            return true;
        }
        if std::mem::replace(&mut place.woken, due) != due {
            self.schedule(queue, due, Control::Fill(from, host));
        }
        false
    }

    /// The oldest attempts that wait there fail.
    pub(super) fn let_down_waiting(
        &mut self,
        now: Time,
        queue: &mut Queue,
        from: u32,
        host: u32,
        most: usize,
    ) -> Flow {
        let Some(pool) = self.pool(from) else { return Ok(()) };
        let waiting: Vec<u32> = pool.place(host).waiting.iter().copied().take(most).collect();
        for slot in waiting {
            // One that ended may have ended others.
            if self.waits_for_connection(slot) && self.frames[slot].outbound == from {
                self.let_down(now, queue, slot, Class::Failure)?;
            }
        }
        Ok(())
    }

    /// Whether `slot` waits for a connection.
    pub(super) fn waits_for_connection(&self, slot: u32) -> bool {
        self.frames[slot].has(HELD) && self.has_sides && self.sides[slot as usize].connection == WAITING
    }

    /// The connections that `from` shall have at any time: set up from now on, or already there (`aged`) when the run begins.
    pub(super) fn open_minimum(&mut self, now: Time, queue: &mut Queue, from: u32, aged: bool) -> Flow {
        let spec = self.spec;
        let Some(pool) = self.pool(from) else { return Ok(()) };
        let min = spec.connections[pool.settings as usize].min;
        if min == 0 {
            return Ok(());
        }
        if !aged {
            self.schedule(queue, now, Control::Fill(from, 0));
            return Ok(());
        }
        self.look_up(now, queue, from);
        for _ in 0..min {
            let Some(pool) = self.pool(from) else { return Ok(()) };
            let key = pool.next_key();
            let slot = pool.front.as_mut().and_then(|front| front.pick(now, key));
            let Some(slot) = slot else { return Ok(()) };
            self.adopt_connection(now, queue, from, slot, key)?;
        }
        Ok(())
    }

    /// A client has learnt of an endpoint: connections that it shall have at any time can be set up.
    pub(super) fn look_at_pool(&mut self, now: Time, queue: &mut Queue, from: u32) {
        let spec = self.spec;
        if let Some(pool) = self.pool(from)
            && spec.connections[pool.settings as usize].min > pool.connections
        {
            self.schedule(queue, now, Control::Fill(from, 0));
        }
    }

    /// The owner of these calling sides dies: who waits is let go, and its connections are closed.
    pub(super) fn close_pools(&mut self, now: Time, queue: &mut Queue, first: u32, count: u32) -> Flow {
        for from in first..first + count {
            let Some(pool) = self.pool(from) else { continue };
            let waiting: Vec<u32> = pool.places.iter().flat_map(|place| &place.waiting).copied().collect();
            for slot in waiting {
                if self.waits_for_connection(slot) && self.frames[slot].outbound == from {
                    self.let_down(now, queue, slot, Class::Abandoned)?;
                }
            }
            self.close_all_of(now, queue, from)?;
        }
        Ok(())
    }

    /// An instance goes on after a hang: what waited at its pools goes out.
    pub(super) fn resume_pools(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let instance = &self.instances[index as usize];
        let (first, service) = (instance.outbounds, instance.service as usize);
        for from in first..first + self.spec.services[service].edges.len() as u32 {
            let places = self.pool(from).map_or(0, |pool| pool.places.len() as u32);
            for host in 0..places {
                self.pump(now, queue, from, host)?;
            }
        }
        Ok(())
    }
}
