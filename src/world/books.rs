//! The books: everything that is counted while the run goes on is counted again from scratch, and must agree.
//!
//! At the end of every run in every build; in debug builds also whenever a timeline window closes.

use std::collections::BTreeMap;

use crate::policies::limiter::{AnyLimiter, Limiter as _};
use crate::policies::view::Resources;
use crate::time::Time;

use super::World;
use super::call::{Job, Over, Under};
use super::cluster::{self, allocatable};
use super::connection::Phase;
use super::frame::{AWAITED, ENDED, HELD, INSIDE, LINKED, NIL, ON_CPU, PERMIT, QUEUED, STARTED};
use super::instance::State;
use super::spec::{CpuMode, Trouble};

/// What the frames say about one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Inside {
    queued: u32,
    started: u32,
    on_cpu: u32,
    waits_for_core: u32,
    permits: u32,
    /// Connections in use, by pool.
    held: Vec<u32>,
}

impl World<'_> {
    /// Counts everything again. No handler may be at work.
    pub(super) fn check_books(&self, now: Time) {
        self.check_requests(now);
        self.check_configs();
        self.check_frames();
        self.check_clients(now);
        self.check_deadlines(now);
        self.check_activators(now);
        self.check_groups();
        self.check_connections(now);
        self.check_instances(now);
        self.check_bytes();
        self.check_lists();
        self.check_nodes();
        self.check_sizes();
        self.check_probes();
        self.check_topics();
        self.check_transactions();
        self.check_bonds();
    }

    /// INV-5, INV-6 and INV-7: nothing is lost, and Little's law holds exactly, in integers.
    fn check_requests(&self, now: Time) {
        let mut open = vec![(0u64, 0u128); self.sources.len()];
        let mut inside = vec![(0u64, 0u128); self.services.len()];
        for slot in 0..self.frames.slots() {
            let frame = &self.frames[slot];
            if frame.has(INSIDE) {
                let service = self.instances[frame.instance as usize].service as usize;
                inside[service].0 += 1;
                inside[service].1 += u128::from((now - frame.arrived).0);
            }
            let is_root = !frame.is_attempt() && frame.flags & (AWAITED | ENDED) == AWAITED;
            let is_direct =
                frame.is_attempt() && frame.parent == NIL && frame.has(AWAITED) && self.call_of(slot) == NIL;
            if is_root || is_direct {
                let source =
                    if is_root { frame.next } else { self.outbounds[frame.outbound as usize].source };
                // Nobody waits for probes.
                let Some(source) = open.get_mut(source as usize) else { continue };
                source.0 += 1;
                source.1 += u128::from((now - frame.started).0);
            }
        }
        for (job, started) in
            self.open_calls().filter(|(job, _)| job.over == Over::Parent && job.parent == NIL)
        {
            // Errands have no source.
            let source = self.outbounds[job.outbound as usize].source;
            let Some(source) = open.get_mut(source as usize) else { continue };
            source.0 += 1;
            source.1 += u128::from((now - started).0);
        }
        assert_eq!(
            self.open_roots,
            open.iter().map(|(open, _)| open).sum::<u64>(),
            "INV-5: every open request is somewhere"
        );
        for (source, (open, waiting)) in self.sources.iter().zip(open) {
            assert_eq!(
                source.arrivals,
                source.outcomes.all() + open,
                "INV-5: every request is accounted for"
            );
            assert_eq!(
                source.in_system.area(now),
                source.time_sum + waiting,
                "INV-7: Little's law, requests"
            );
        }
        for (service, (inside, staying)) in self.services.iter().zip(inside) {
            assert_eq!(
                service.arrivals,
                service.left.count + inside,
                "INV-6: every attempt is accounted for"
            );
            assert_eq!(service.load.area(now), service.left.sum + staying, "INV-7: Little's law, attempts");
        }
    }

    /// What configurations do to an instance is what the versions say that its process has.
    fn check_configs(&self) {
        for instance in &self.instances {
            let feeds = &self.services[instance.service as usize].feeds;
            assert_eq!(instance.more.configs.len(), feeds.len(), "INV-35: a version for every configuration");
            let brought = feeds.iter().zip(&instance.more.configs).map(|(&feed, &(version, _))| {
                let version = self.config_version(feed, version);
                (version.error_rate, version.demand)
            });
            for (error_rate, demand) in brought {
                let has =
                    |list: &[f64], entry: f64| list.iter().any(|known| known.to_bits() == entry.to_bits());
                assert!(error_rate == 0.0 || has(&instance.more.errors, error_rate), "INV-35: its errors");
                assert!(demand == 1.0 || has(&instance.more.slow, demand), "INV-35: its demand");
            }
            let service = instance.service;
            let struck = |what: &Trouble| match what {
                Trouble::ErrorRate(target, _) | Trouble::Slow(target, _) => target.service == service,
                _ => false,
            };
            if !self.spec.faults.iter().any(|fault| struck(&fault.what)) {
                let bound = feeds.len();
                let none_more = instance.more.errors.len() <= bound && instance.more.slow.len() <= bound;
                assert!(none_more, "INV-35: each of them once");
            }
        }
    }

    /// Every call that is not over, hedged or not, at every level, and when it began.
    fn open_calls(&self) -> impl Iterator<Item = (&Job, Time)> {
        let calls = (0..self.calls.slots()).map(|slot| &self.calls[slot]).filter(|call| call.open);
        let hedges = (0..self.hedges.slots()).map(|slot| &self.hedges[slot]).filter(|hedge| hedge.open);
        calls.map(|call| (&call.job, call.started)).chain(hedges.map(|hedge| (&hedge.job, hedge.started)))
    }

    /// Call record of an attempt.
    fn call_of(&self, slot: u32) -> u32 {
        if self.has_sides { self.sides[slot as usize].call } else { NIL }
    }

    /// Every slot in use is in use for a reason, and knows how many answers it waits for.
    fn check_frames(&self) {
        let mut pending = vec![0u32; self.frames.slots() as usize];
        let mut refs = vec![0u32; self.requests.slots() as usize];
        let (mut frames, mut calls) = (0, 0);
        for slot in 0..self.frames.slots() {
            let frame = &self.frames[slot];
            if frame.flags == 0 {
                continue;
            }
            frames += 1;
            assert!(!frame.is_loose(), "INV-28: a frame that nothing refers to is free");
            if frame.has(AWAITED) && frame.is_attempt() && frame.parent != NIL && self.call_of(slot) == NIL {
                pending[frame.parent as usize] += 1;
            }
            if self.has_sides && self.sides[slot as usize].request != NIL {
                refs[self.sides[slot as usize].request as usize] += 1;
            }
        }
        for (job, _) in self.open_calls() {
            calls += 1;
            if job.parent != NIL && matches!(job.over, Over::Parent | Over::Nobody) {
                pending[job.parent as usize] += 1;
            }
            if job.request != NIL {
                refs[job.request as usize] += 1;
            }
        }
        for errand in (0..self.errands.slots()).map(|slot| &self.errands[slot]).filter(|errand| errand.open) {
            refs[errand.request as usize] += 1;
        }
        assert_eq!(self.frames.len(), frames, "INV-28: no frame is lost");
        assert_eq!(self.calls.len() + self.hedges.len(), calls, "INV-28: no call is lost");
        let used = refs.iter().filter(|refs| **refs > 0).count();
        assert_eq!(self.requests.len(), used, "INV-28: no request record is lost");
        for (slot, refs) in (0..).zip(refs).filter(|(_, refs)| *refs > 0) {
            assert_eq!(self.requests[slot].refs, refs, "INV-28: a request record knows who needs it");
        }
        for slot in 0..self.frames.slots() {
            let frame = &self.frames[slot];
            let expected = if frame.flags == 0 { 0 } else { u32::from(frame.pending) };
            assert_eq!(pending[slot as usize], expected, "INV-28: a frame waits for its calls: {frame:?}");
        }
    }

    /// INV-6: bytes come in with attempts that are taken in, and go out with some of those that left.
    fn check_bytes(&self) {
        for (service, spec) in self.services.iter().zip(&self.spec.services) {
            let of_instances = service.slots.iter().map(|&at| self.instances[at as usize].more.network_bytes);
            assert_eq!(service.network_bytes, of_instances.sum::<u64>(), "INV-6: bytes of a service");
            if let [(bytes_in, bytes_out)] = spec.network_use[..] {
                let least = bytes_in.saturating_mul(service.arrivals - service.handshakes);
                let most = least.saturating_add(bytes_out.saturating_mul(service.left.count));
                assert!((least..=most).contains(&service.network_bytes), "INV-6: bytes of attempts");
            }
        }
    }

    /// INV-10: what clients believe to have outstanding is outstanding, at every level.
    fn check_clients(&self, now: Time) {
        let mut active: Vec<Vec<u32>> =
            self.outbounds.iter().map(|outbound| vec![0; outbound.view.active.len()]).collect();
        let mut permits: Vec<Vec<u32>> =
            self.outbounds.iter().map(|outbound| vec![0; outbound.above.len() + 1]).collect();
        for slot in 0..self.frames.slots() {
            let frame = &self.frames[slot];
            let from = frame.outbound as usize;
            let waits = frame.has(AWAITED) && frame.is_attempt();
            if waits && self.outbounds[from].alive && !frame.has(HELD) {
                active[from][self.instances[frame.instance as usize].ordinal as usize] += 1;
            }
            if waits && self.call_of(slot) != NIL && !self.is_wire(slot) {
                let call = &self.calls[self.call_of(slot)];
                assert!(call.open && call.under == Under::Frame(slot), "INV-10: a call knows its attempt");
            }
        }
        for slot in 0..self.calls.slots() {
            let call = &self.calls[slot];
            if call.open {
                let busy = call.under != Under::Nothing || call.admitted;
                assert!(
                    busy || call.wake.is_some() || call.waits > 0,
                    "INV-28: an open call waits for something"
                );
                permits[call.job.outbound as usize][usize::from(call.job.level)] += u32::from(busy);
                let above = match call.under {
                    Under::Nothing => Over::Call(slot),
                    Under::Frame(frame) => {
                        assert!(self.frames[frame].has(AWAITED), "INV-10: an attempt under way is awaited");
                        Over::Call(slot)
                    }
                    Under::Call(inner) => self.calls[inner].job.over,
                    Under::Hedge(inner) => self.hedges[inner].job.over,
                };
                assert_eq!(above, Over::Call(slot), "INV-10: levels know each other");
            }
        }
        for slot in 0..self.hedges.slots() {
            let hedge = &self.hedges[slot];
            if hedge.open {
                let (mut at, mut copies) = (hedge.first, 0);
                while at != NIL {
                    let copy = &self.calls[at];
                    assert!(copy.open && copy.job.over == Over::Hedge(slot), "INV-10: a copy knows its call");
                    (at, copies) = (copy.sibling, copies + 1);
                }
                assert_eq!(hedge.copies.open, copies, "INV-10: copies of a hedged call");
                assert!(copies > 0, "INV-28: a hedged call waits for a copy");
            }
        }
        let mut listed = Vec::new();
        for (index, outbound) in (0..).zip(&self.outbounds) {
            for (level, stack) in (0..).zip(outbound.stacks()) {
                for call in stack.backlog.iter().flat_map(|backlog| backlog.calls()) {
                    let state = &self.calls[call];
                    let waits = state.open && state.waits > 0 && !state.admitted;
                    let here = (state.job.outbound, state.job.level) == (index, level);
                    assert!(waits && here, "INV-10: whoever is listed at a limiter waits there");
                    listed.push(call);
                }
            }
        }
        listed.sort_unstable();
        let waits = |slot: &u32| self.calls[*slot].open && self.calls[*slot].waits > 0;
        let waiting: Vec<u32> = (0..self.calls.slots()).filter(waits).collect();
        assert_eq!(listed, waiting, "INV-10: whoever waits for a limiter is listed, once");
        for (index, outbound) in self.outbounds.iter().enumerate() {
            if let Some(hosts) = &outbound.hosts {
                assert!(hosts.agrees_with(&outbound.view), "INV-33: health of those who are known");
            }
            if outbound.alive {
                assert_eq!(outbound.view.active, active[index], "INV-10: attempts of a client");
                for (level, stack) in outbound.stacks().enumerate() {
                    let busy = permits[index][level];
                    if let Some(held) = in_flight(now, stack.limiter.as_ref()) {
                        assert_eq!(held, busy, "INV-10: permits of a client's limiter");
                    }
                }
            }
        }
    }

    /// INV-30: no work goes on behind a deadline that it was told of.
    fn check_deadlines(&self, now: Time) {
        for (slot, side) in self.sides.iter().enumerate() {
            let frame = &self.frames[slot as u32];
            if frame.flags != 0 && !frame.has(ENDED) {
                assert!(side.deadline >= now, "INV-30: work behind its deadline: {frame:?}");
            }
        }
    }

    /// INV-29: whoever is held is listed at the activator of the service it was sent to, in the order of coming; what
    /// came there is there, went out or was let down; and Little's law holds.
    fn check_activators(&self, now: Time) {
        let held = |slot: &u32| {
            self.frames[*slot].has(HELD) && !self.waits_for_connection(*slot) && !self.waits_at_gate(*slot)
        };
        let held = (0..self.frames.slots()).filter(held).count();
        let mut listed = 0;
        for (index, service) in self.services.iter().enumerate() {
            let Some(activator) = &service.activator else { continue };
            listed += activator.held.len();
            let (mut staying, mut last) = (0, Time::ZERO);
            for &slot in &activator.held {
                let frame = &self.frames[slot];
                assert!(frame.has(HELD | AWAITED), "INV-29: who is listed is held");
                let to = self.outbounds[frame.outbound as usize].service as usize;
                assert!(to == index && frame.started >= last, "INV-29: the oldest comes first");
                staying += u128::from((now - frame.started).0);
                last = frame.started;
            }
            assert_eq!(
                activator.arrivals,
                activator.left.count + activator.held.len() as u64,
                "INV-29: every held attempt is accounted for"
            );
            assert_eq!(
                activator.load.area(now),
                activator.left.sum + staying,
                "INV-7: Little's law, held attempts"
            );
        }
        assert_eq!(listed, held, "INV-29: who is held is listed");
    }

    /// INV-32: a connection carries the attempts that ride on it, and stands where its client, its instance and its service
    /// count it; who waits for one is listed once; and Little's law holds for the waits.
    fn check_connections(&self, now: Time) {
        let mut riders = vec![0u32; self.connections.slots() as usize];
        let mut trips = riders.clone();
        for slot in 0..self.frames.slots() {
            if self.frames[slot].has(AWAITED) && self.is_wire(slot) {
                trips[self.sides[slot as usize].connection as usize] += 1;
            } else if let Some(at) = self.ridden(slot) {
                riders[at as usize] += 1;
            }
        }
        let mut open = vec![0u64; self.services.len()];
        let mut accepted = vec![0; self.instances.len()];
        // By calling side and place: connections, those being set up, those that take more.
        let mut places: BTreeMap<(u32, u32), [u32; 3]> = BTreeMap::new();
        let mut used = 0;
        for at in 0..self.connections.slots() {
            let connection = &self.connections[at];
            let (riders, trips) = (riders[at as usize], trips[at as usize]);
            used += usize::from(connection.phase != Phase::Free);
            assert_eq!(connection.streams, riders, "INV-32: attempts on a connection: {connection:?}");
            assert_eq!(u32::from(connection.frame != NIL), trips, "INV-32: messages that set it up");
            assert_eq!(connection.listed, connection.takes_more(), "INV-32: who takes more is listed");
            let opening = connection.phase == Phase::Opening;
            match connection.phase {
                Phase::Free => assert_eq!(riders + trips, 0, "INV-32: nobody is on what is free"),
                Phase::Closed => assert_ne!(riders + trips, 0, "INV-32: what nobody uses is free"),
                Phase::Opening | Phase::Open => {
                    assert_eq!(u32::from(opening), trips, "INV-32: a set-up is under way");
                    let place = places.entry((connection.outbound, connection.host)).or_default();
                    place[0] += 1;
                    place[1] += u32::from(opening);
                    place[2] += u32::from(connection.listed);
                    let service = self.outbounds[connection.outbound as usize].service as usize;
                    open[service] += u64::from(!opening);
                    accepted[connection.instance as usize] += u32::from(connection.is_accepted());
                }
            }
        }
        assert_eq!(self.connections.len(), used, "INV-32: no connection is lost");
        let mut waits = vec![(0u64, 0u128); self.services.len()];
        let mut listed = 0;
        for (from, outbound) in self.outbounds.iter().enumerate() {
            let Some(pool) = &outbound.pool else { continue };
            let (mut connections, mut pending) = (0, 0);
            for (host, place) in pool.places.iter().enumerate() {
                let key = (from as u32, host as u32);
                let counted = [place.connections, place.opening, place.ready.len() as u32];
                let found = places.remove(&key).unwrap_or_default();
                assert_eq!(counted, found, "INV-32: connections of a client to a place");
                connections += place.connections;
                pending += place.waiting.len() as u32;
                for &slot in &place.waiting {
                    let frame = &self.frames[slot];
                    assert!(self.waits_for_connection(slot), "INV-32: who is listed waits");
                    assert_eq!((frame.outbound, frame.next), key, "INV-32: who waits knows where");
                    let (count, staying) = &mut waits[outbound.service as usize];
                    *count += 1;
                    *staying += u128::from((now - frame.arrived).0);
                }
            }
            assert_eq!(
                (pool.connections, pool.pending),
                (connections, pending),
                "INV-32: a pool's own count"
            );
            let front = pool.front.as_ref().map(|front| front.view.active.iter().sum::<u32>());
            assert_eq!(front.unwrap_or(connections), connections, "INV-32: what a balancer counts");
            listed += pending;
        }
        assert!(places.is_empty(), "INV-32: every connection has a client");
        let waiting = (0..self.frames.slots()).filter(|&slot| self.waits_for_connection(slot)).count();
        assert_eq!(listed as usize, waiting, "INV-32: who waits is listed");
        for (instance, accepted) in self.instances.iter().zip(accepted) {
            assert_eq!(instance.more.connections, accepted, "INV-32: connections of an instance");
        }
        for (index, service) in self.services.iter().enumerate() {
            let Some(counts) = &service.connections else { continue };
            let (waiting, staying) = waits[index];
            assert_eq!(counts.open.level(), open[index], "INV-32: established connections");
            assert_eq!(counts.waiting.level(), waiting, "INV-32: attempts that wait for a connection");
            assert_eq!(
                counts.waiting.area(now),
                counts.left.sum + staying,
                "INV-7: Little's law, waits for a connection"
            );
        }
    }

    fn check_instances(&self, now: Time) {
        let mut inside = vec![Inside::default(); self.instances.len()];
        for (index, instance) in self.instances.iter().enumerate() {
            inside[index].held = vec![0; self.spec.services[instance.service as usize].pools.len()];
        }
        for slot in 0..self.frames.slots() {
            let frame = &self.frames[slot];
            if frame.instance == NIL || !frame.has(INSIDE) {
                continue;
            }
            let here = &mut inside[frame.instance as usize];
            here.queued += u32::from(frame.has(QUEUED));
            here.started += u32::from(frame.has(STARTED));
            here.permits += u32::from(frame.has(PERMIT));
            here.on_cpu += u32::from(frame.has(ON_CPU));
            here.waits_for_core += u32::from(frame.has(ON_CPU | LINKED));
            if frame.has(STARTED) {
                for pool in self.connections_held(slot) {
                    here.held[pool as usize] += 1;
                }
            }
        }
        for (instance, here) in self.instances.iter().zip(inside) {
            let service = &self.spec.services[instance.service as usize];
            assert_eq!(
                (instance.queued, instance.inside),
                (here.queued, here.started),
                "INV-6: attempts at an instance"
            );
            if instance.state == State::Dead {
                assert_eq!(here.queued + here.started + instance.running, 0, "INV-6: the dead do nothing");
                continue;
            }
            let running = match (&instance.more.shared, service.cpu) {
                (Some(shared), _) => {
                    let sidecars = instance.more.sidecars.iter().map(super::cpu::Shared::runnable);
                    // An instance that starts has at most its start-up work to do.
                    let boots = u32::from(instance.state == State::Starting).min(shared.runnable());
                    let steps = shared.runnable() - boots + sidecars.sum::<u32>();
                    assert_eq!(steps, here.on_cpu, "INV-8: steps on shared cores");
                    // Fractions of cores are counted elsewhere.
                    if service.governed { 0 } else { here.on_cpu.min(service.cores) }
                }
                (None, CpuMode::Fifo) => {
                    let running = here.on_cpu - here.waits_for_core;
                    assert!(
                        here.waits_for_core == 0 || running == service.cores,
                        "INV-8: nobody waits for a free core"
                    );
                    running
                }
                (None, _) => here.on_cpu,
            };
            let busy = if instance.hung { 0 } else { running };
            if instance.hung && instance.more.shared.is_none() {
                assert_eq!(instance.more.hang.running, running, "INV-8: cores that a hang has stopped");
            }
            assert_eq!(instance.running, busy, "INV-8: cores in use");
            for (pool, (state, held)) in instance.more.pools.iter().zip(&here.held).enumerate() {
                assert_eq!(state.free + held, service.pools[pool].size, "INV-10: connections of a pool");
            }
            if let Some(held) = in_flight(now, instance.more.limiter.as_ref()) {
                assert_eq!(held, here.permits, "INV-10: permits of an instance's limiter");
            }
        }
        for (index, service) in self.services.iter().enumerate() {
            let of = || self.instances.iter().filter(|instance| instance.service as usize == index);
            let alive = |state: fn(State) -> bool| of().filter(|instance| state(instance.state)).count();
            let available = of().filter(|instance| instance.more.available).count();
            assert_eq!(service.ready.level() as usize, available, "INV-6: ready instances");
            let idle = |instance: &&super::instance::Instance| {
                instance.more.available && !matches!(instance.state, State::Ready | State::Draining)
            };
            assert_eq!(of().filter(idle).count(), 0, "INV-33: who is ready runs");
            let living = service.living.iter();
            let living = living.filter(|&&at| self.instances[at as usize].state != State::Dead).count();
            assert_eq!(living, alive(|state| state != State::Dead), "INV-6: living instances");
            for set in &service.sets {
                let members = self.members(index as u32, set.version);
                let dead = |at: &&u32| self.instances[**at as usize].state == State::Dead;
                // Whoever died unnoticed may stand for one that is not wanted any more.
                let alive = members.len() - members.iter().filter(dead).count();
                let wanted = set.spec as usize;
                assert!(alive <= wanted && wanted <= members.len(), "INV-34: instances of a version");
                let old = set.version != service.version;
                assert!(
                    !old || set.spec == 0 || self.is_updating(index as u32),
                    "INV-34: an old version is gone"
                );
            }
        }
    }

    /// INV-28: whoever stands in a list knows it, and whoever thinks so does.
    fn check_lists(&self) {
        let mut listed = vec![0u32; self.frames.slots() as usize];
        let mut walk = |lane: super::instance::Lane| {
            let (mut at, mut last) = (lane.head, NIL);
            while at != NIL {
                listed[at as usize] += 1;
                (at, last) = (self.frames[at].next, at);
            }
            assert_eq!(lane.tail, last, "INV-28: a list ends where it says");
        };
        for instance in &self.instances {
            walk(instance.lane);
            walk(instance.more.cpu_lane);
            instance.more.pools.iter().for_each(|pool| walk(pool.waiting));
        }
        for line in self.instances.iter().map(|instance| &instance.more.line) {
            let mut marked = 0;
            for slot in line.listed() {
                listed[slot as usize] += 1;
                marked += u32::from(self.frames[slot].has(LINKED));
            }
            assert_eq!(line.marked(), marked, "INV-28: a line knows who has left it");
        }
        let stalled = self.instances.iter().flat_map(|instance| &instance.more.hang.stalled);
        for (slot, _) in stalled {
            listed[*slot as usize] += 1;
        }
        let local = self.instances.iter().flat_map(|instance| &instance.more.caches);
        let shared = self.services.iter().flat_map(|service| &service.caches);
        for waiting in local.chain(shared).flat_map(|cache| cache.fetching.values()).flatten() {
            listed[*waiting as usize] += 1;
        }
        for slot in 0..self.frames.slots() {
            let thinks = self.frames[slot].flags & (QUEUED | LINKED) != 0;
            assert_eq!(listed[slot as usize], u32::from(thinks), "INV-28: lists hold those who wait");
        }
    }

    fn check_sizes(&self) {
        for (service, spec) in self.services.iter().zip(&self.spec.services) {
            let placed = service.slots.iter().map(|&index| &self.instances[index as usize]);
            let mut asked = Resources::ZERO;
            for instance in placed.filter(|one| !matches!(one.state, State::Pending | State::Dead)) {
                let request = spec.request(&instance.more.ask);
                asked += request;
                let room = instance.more.room;
                assert!(room.is_none_or(|room| room == request), "INV-6: an instance takes what it asks for");
            }
            let followed = (service.asked.cpu.level(), service.asked.memory.level());
            let wanted = (asked.cpu_milli.unsigned_abs(), asked.memory.unsigned_abs());
            assert!(!spec.is_sized() || followed == wanted, "INV-6: what instances ask for");
        }
    }

    fn check_nodes(&self) {
        let mut taken = vec![Resources::ZERO; self.cluster.nodes.len()];
        let mut guests = vec![0; self.cluster.nodes.len()];
        for (index, instance) in self.instances.iter().enumerate() {
            let more = &instance.more;
            if let Some(room) = more.room {
                taken[more.node as usize] += room;
            }
            let living = &self.services[instance.service as usize].living;
            let counts = more.node != NIL && living.binary_search(&(index as u32)).is_ok();
            if counts {
                guests[more.node as usize] += 1;
            }
            let waits = instance.state == State::Pending
                && !self.spec.services[instance.service as usize].node_pools.is_empty();
            let listed = self.cluster.pending.contains(&(instance.service, index as u32));
            assert_eq!(waits, listed, "INV-6: instances that wait for a node");
        }
        for (index, node) in self.cluster.nodes.iter().enumerate() {
            let pool = &self.spec.pools[node.pool as usize];
            assert_eq!(node.requested(), taken[index], "INV-6: room on a node");
            assert!(taken[index].fits(allocatable(pool)), "INV-6: no node holds more than it has");
            assert_eq!(node.guests.len(), guests[index], "INV-6: instances on a node");
            assert!(
                node.phase != cluster::Phase::Gone || guests[index] == 0,
                "INV-6: nothing is on a node that is gone"
            );
        }
    }
}

/// Calls in flight as a limiter sees them, if it counts them.
fn in_flight(now: Time, limiter: Option<&AnyLimiter>) -> Option<u32> {
    let mut found = None;
    limiter?.gauges(now, &mut |name, value| {
        if name == "in_flight" {
            found = Some(value as u32);
        }
    });
    found
}
