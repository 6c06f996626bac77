//! Dynamic updates: what running requests have to do with a service that is being updated, which version a call goes to, and
//! who is held at the door.
//!
//! Nothing here costs anything until a rollout that asks for it begins. From then on each frame and each call that may be retried
//! *promises* its request what it may still call (read off its program), and calls to the service bind their request to the
//! version they are sent to. The sums of that are the [`Census`] on which `policies::rollout` decides.

use std::collections::VecDeque;
use std::mem::ManuallyDrop;

use crate::kernel::queue::Queue;
use crate::policies::rollout::Rollout as _;
use crate::policies::rollout::standing::{Asking, Census, Stance, Standing, Way};
use crate::policies::view::{Class, RequestHead, Slot};
use crate::random::Key;
use crate::time::Time;

use super::call::{Origin, PICK_SALT};
use super::control::Control;
use super::frame::{ENDED, Frame, GATED, HELD, NIL, STARTED, Side};
use super::spec::{Op, Spec};
use super::{Flow, Full, World};

/// Services with a version slot.
const SLOTS: usize = 8;

/// What a program may still call from one of its operations on: services by version slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ahead {
    /// Directly or through others.
    reach: u8,
    /// By a call of its own.
    direct: u8,
}

/// What a frame has promised its request: services by version slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Promise {
    /// It may still come to them, or is there.
    pub(super) ahead: u8,
    /// It was sent to them and has not ended.
    pub(super) serving: u8,
    /// It has called them itself ...
    pub(super) called: u8,
    /// ... and may do so again.
    pub(super) returning: u8,
}

/// What all frames and calls of a request have promised it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bonds {
    /// How many of them may still come to each service.
    pub(super) ahead: [u16; SLOTS],
    /// Version (plus 1) to which it is bound.
    pub(super) bound: [u8; SLOTS],
    /// Updates that count it among the requests that had begun.
    engaged: u8,
}

/// An update that is being watched.
pub(super) struct Watch {
    service: u32,
    new: u8,
    stance: Stance,
    census: Census,
    /// Services that depend on it, directly or through others, itself included.
    dependants: Vec<bool>,
    /// Attempts that wait at the door, oldest first.
    held: VecDeque<u32>,
    /// The policy is to look at it again at this moment.
    looking: bool,
    /// Those who are held are to go out at this moment.
    releasing: bool,
}

impl Watch {
    fn standing(&self, bonds: &Bonds, at: usize) -> Standing {
        let bound = bonds.bound[at];
        Standing { past: bound != 0 && bound != self.new + 1, future: bonds.ahead[at] > 0 }
    }
}

/// What all programs may still call, by operation; nothing if no rollout wants to know.
pub(super) fn look_ahead(spec: &Spec) -> Vec<Ahead> {
    if !spec.rollouts.iter().any(|plan| plan.how.build(Time::ZERO).watches()) {
        return Vec::new();
    }
    let mut ahead = vec![Ahead::default(); spec.ops.len()];
    // Programs call each other, so until nothing changes any more.
    loop {
        let mut changed = false;
        for pc in (0..spec.ops.len()).rev() {
            let op = &spec.ops[pc];
            let mut here = match op {
                Op::End => Ahead::default(),
                _ => ahead.get(pc + 1).copied().unwrap_or_default(),
            };
            for call in calls_of(op) {
                let call = &spec.calls[call as usize];
                let bit = bit_of(spec, call.service);
                here.direct |= bit;
                here.reach |= bit | ahead[call.entry as usize].reach;
            }
            changed |= std::mem::replace(&mut ahead[pc], here) != here;
        }
        if !changed {
            return ahead;
        }
    }
}

/// Calls that an operation may make.
fn calls_of(op: &Op) -> Vec<u32> {
    match op {
        Op::Call(call) => vec![*call],
        Op::Choose(shares) => shares.iter().map(|(_, call)| *call).collect(),
        Op::Route { to, otherwise, .. } => to.iter().copied().chain([*otherwise]).collect(),
        Op::Parallel { calls, .. } => calls.to_vec(),
        _ => Vec::new(),
    }
}

fn bit_of(spec: &Spec, service: u32) -> u8 {
    spec.services[service as usize].version_slot.map_or(0, |at| 1 << at)
}

/// The version slots of a mask.
fn slots(mask: u8) -> impl Iterator<Item = usize> {
    (0..SLOTS).filter(move |at| mask & 1 << at != 0)
}

impl World<'_> {
    /// A rollout begins that wants to know.
    pub(super) fn begin_watch(&mut self, now: Time, service: u32, new: u8) {
        let Some(at) = self.spec.services[service as usize].version_slot else { return };
        self.end_watch(now, at);
        let (dependants, depth) = dependants(self.spec, service);
        let census = Census { depth, ..Census::default() };
        self.watches[usize::from(at)] = Some(Box::new(Watch {
            service,
            new,
            stance: Stance::Open,
            census,
            dependants,
            held: VecDeque::new(),
            looking: false,
            releasing: false,
        }));
        self.watching |= 1 << at;
        let dependants = self.watch(usize::from(at)).dependants.clone();
        self.tell_dependants(now, &dependants);
        // Requests that have begun.
        for request in 0..self.requests.slots() {
            let record = &self.requests[request];
            if record.refs > 0 && self.may_come(record.source, usize::from(at)) {
                self.requests[request].bonds.engaged |= 1 << at;
                self.watch(usize::from(at)).census.engaged += 1;
            }
            let record = &mut self.requests[request];
            if record.refs > 0 {
                record.bonds.bound[usize::from(at)] = record.versions[usize::from(at)];
            }
        }
        for slot in 0..self.frames.slots() {
            if self.frames[slot].flags != 0 {
                self.recall(slot, 1 << at);
                self.bind_version(slot);
                self.reckon(slot);
            }
        }
        for call in 0..self.calls.slots() {
            if self.calls[call].open {
                self.promise_of_call(call);
            }
        }
    }

    /// The watch over a version slot ends; everything about it is forgotten.
    pub(super) fn end_watch(&mut self, now: Time, at: u8) {
        let Some(watch) = self.watches[usize::from(at)].take() else { return };
        debug_assert!(watch.held.is_empty(), "INV-36: nobody is held by an update that is over");
        let keep = !(1 << at);
        self.watching &= keep;
        for request in 0..self.requests.slots() {
            let bonds = &mut self.requests[request].bonds;
            bonds.ahead[usize::from(at)] = 0;
            bonds.bound[usize::from(at)] = 0;
            bonds.engaged &= keep;
        }
        for side in &mut self.sides {
            let Promise { ahead, serving, called, returning } = &mut side.promise;
            for mask in [ahead, serving, called, returning] {
                *mask &= keep;
            }
        }
        for call in 0..self.calls.slots() {
            self.calls[call].ahead &= keep;
        }
        self.tell_dependants(now, &watch.dependants);
    }

    /// Those who call a service that depends on a target learn what it wants of them.
    fn tell_dependants(&mut self, now: Time, dependants: &[bool]) {
        for service in (0..).zip(dependants).filter(|(_, depends)| **depends).map(|(service, _)| service) {
            self.tell_all_versions(now, service);
        }
    }

    /// Whether an update wants to say where the calls to a service go.
    pub(super) fn is_bound(&self, service: u32) -> bool {
        self.watches.iter().flatten().any(|watch| watch.dependants[service as usize])
    }

    /// The version that a service is updated to while requests are bound to versions.
    pub(super) fn updated_to(&self, service: u32) -> Option<u8> {
        self.watches.iter().flatten().find(|watch| watch.service == service).map(|watch| watch.new)
    }

    /// The watch over a version slot, which is there.
    fn watch(&mut self, at: usize) -> &mut Watch {
        self.watches[at].as_mut().expect("a watched version slot")
    }

    /// Whether requests of a source may have to do with a watched service.
    fn may_come(&self, source: u32, at: usize) -> bool {
        let Some(source) = self.spec.sources.get(source as usize) else { return false };
        let Some(watch) = &self.watches[at] else { return false };
        source.edges.iter().any(|edge| watch.dependants[edge.to as usize])
    }

    /// What a policy is told before it decides.
    pub(super) fn census(&mut self, service: u32) -> Option<Census> {
        let at = usize::from(self.spec.services[service as usize].version_slot?);
        let watch = self.watches[at].as_ref()?;
        let callers = self.services[watch.service as usize].callers.iter();
        let aware = |index: &&u32| {
            let outbound = &self.outbounds[**index as usize];
            !outbound.alive || outbound.view.eligible.iter().any(|slot| self.is_new(watch, *slot))
        };
        let unaware = callers.clone().filter(|index| !aware(index)).count() as u32;
        let lags = |index: &&u32| {
            let outbound = &self.outbounds[**index as usize];
            outbound.alive && outbound.view.eligible.iter().any(|slot| !self.is_new(watch, *slot))
        };
        let lagging = callers.filter(lags).count() as u32;
        let watch = self.watch(at);
        watch.looking = false;
        watch.census.unaware = unaware;
        watch.census.lagging = lagging;
        Some(watch.census)
    }

    fn is_new(&self, watch: &Watch, slot: Slot) -> bool {
        let index = self.services[watch.service as usize].slots[slot.0 as usize];
        self.instances[index as usize].version == watch.new
    }

    /// The policy has decided; those who are held may go on.
    pub(super) fn take_stance(&mut self, now: Time, queue: &mut Queue, service: u32, stance: Stance) {
        let Some(at) = self.spec.services[service as usize].version_slot else { return };
        let Some(watch) = &mut self.watches[usize::from(at)] else { return };
        if watch.stance == stance {
            return;
        }
        watch.stance = stance;
        if !watch.held.is_empty() && !std::mem::replace(&mut watch.releasing, true) {
            self.schedule(queue, now, Control::Ungate(u32::from(at)));
        }
    }

    /// Something that a policy may wait for has come down to nothing.
    fn look_soon(&mut self, at: usize) {
        let watch = self.watch(at);
        if !watch.looking {
            watch.looking = true;
            let service = watch.service;
            self.looks.push(service);
        }
    }

    /// A caller of a service has learnt of an instance, or that one is gone.
    pub(super) fn list_changed(&mut self, service: u32) {
        for at in slots(bit_of(self.spec, service) & self.watching) {
            self.look_soon(at);
        }
    }

    /// Policies that have something to look at do so at this moment, after everything else that happens in this event.
    #[inline]
    pub(super) fn schedule_looks(&mut self, now: Time, queue: &mut Queue) {
        while let Some(service) = self.looks.pop() {
            self.schedule(queue, now, Control::Sync(service));
        }
    }

    // ---- what a request may still do

    /// What a frame may still come to, by its state.
    fn outlook(&self, slot: u32) -> Promise {
        let frame = &self.frames[slot];
        let side = &self.sides[slot as usize];
        let called = side.promise.called;
        if frame.flags == 0 || frame.has(ENDED) || side.request == NIL {
            return Promise { called, ..Promise::default() };
        }
        let mut pc = usize::from(frame.pc);
        let runs = frame.has(STARTED) || !frame.is_attempt();
        // What it waits for has been promised by those whom it called.
        if runs && frame.pending > 0 && !calls_of(&self.spec.ops[pc]).is_empty() {
            pc += 1;
        }
        let Ahead { reach, direct } = self.ahead[pc];
        let mut here = 0;
        if frame.is_attempt() && !self.is_wire(slot) {
            here = bit_of(self.spec, self.outbounds[frame.outbound as usize].service);
        }
        let watching = self.watching;
        let serving = if frame.has(HELD) { 0 } else { here & watching };
        Promise { ahead: (reach | here) & watching, serving, called, returning: direct & called & watching }
    }

    /// A frame has gone on, and may have less before it than it promised.
    #[inline(never)]
    pub(super) fn reckon(&mut self, slot: u32) {
        let before = self.sides[slot as usize].promise;
        let promise = self.outlook(slot);
        if promise == before {
            return;
        }
        let request = self.sides[slot as usize].request;
        self.sides[slot as usize].promise = promise;
        for at in slots((before.serving ^ promise.serving) & self.watching) {
            let comes = promise.serving & 1 << at != 0;
            self.tally(at, |census| &mut census.serving, comes);
        }
        for at in slots((before.returning ^ promise.returning) & self.watching) {
            let comes = promise.returning & 1 << at != 0;
            self.tally(at, |census| &mut census.returning, comes);
        }
        self.promised(request, before.ahead, promise.ahead);
    }

    /// Somebody who had promised its request so much promises it something else now.
    fn promised(&mut self, request: u32, before: u8, after: u8) {
        if request == NIL {
            return;
        }
        for at in slots((before ^ after) & self.watching) {
            let comes = after & 1 << at != 0;
            self.change(request, at, |bonds| {
                let ahead = &mut bonds.ahead[at];
                *ahead = if comes { *ahead + 1 } else { *ahead - 1 };
            });
        }
    }

    /// Changes what is known about a request, and whether it stands in the way.
    fn change(&mut self, request: u32, at: usize, change: impl FnOnce(&mut Bonds)) {
        let Some(watch) = &self.watches[at] else { return };
        let before = watch.standing(&self.requests[request].bonds, at).blocks();
        change(&mut self.requests[request].bonds);
        let after = watch.standing(&self.requests[request].bonds, at).blocks();
        if before != after {
            self.tally(at, |census| &mut census.blocking, after);
        }
    }

    fn tally(&mut self, at: usize, which: fn(&mut Census) -> &mut u32, comes: bool) {
        let count = which(&mut self.watch(at).census);
        if comes {
            *count += 1;
            return;
        }
        *count -= 1;
        // Who asks nothing of calls looks when it wants to.
        if *count == 0 && self.watch(at).stance != Stance::Open {
            self.look_soon(at);
        }
    }

    /// A new frame, or one that goes out: what it may come to, and the version to which its call binds its request.
    #[inline(never)]
    pub(super) fn set_out(&mut self, slot: u32) {
        let frame = &self.frames[slot];
        let here = bit_of(self.spec, self.outbounds[frame.outbound as usize].service);
        let parent = frame.parent;
        if parent != NIL {
            self.sides[parent as usize].promise.called |= here & self.watching;
        }
        self.bind_version(slot);
        self.engage(slot);
        self.reckon(slot);
        if parent != NIL {
            self.reckon(parent);
        }
    }

    /// The request of an attempt that a client has sent to a dependant of the target has begun.
    fn engage(&mut self, slot: u32) {
        let Frame { parent, outbound, .. } = self.frames[slot];
        let request = self.sides[slot as usize].request;
        let from_client = parent == NIL || !self.frames[parent].is_attempt();
        if request == NIL || !from_client || self.frames[slot].has(HELD) {
            return;
        }
        let service = self.outbounds[outbound as usize].service as usize;
        for at in slots(self.watching) {
            let Some(watch) = &mut self.watches[at] else { continue };
            let engaged = &mut self.requests[request].bonds.engaged;
            if watch.dependants[service] && *engaged & 1 << at == 0 {
                *engaged |= 1 << at;
                watch.census.engaged += 1;
            }
        }
    }

    /// The request of an attempt that goes to a watched service is bound to the version there.
    fn bind_version(&mut self, slot: u32) {
        let frame = &self.frames[slot];
        let request = self.sides[slot as usize].request;
        if frame.instance == NIL || request == NIL || frame.has(ENDED) {
            return;
        }
        let instance = &self.instances[frame.instance as usize];
        let version = instance.version + 1;
        for at in slots(bit_of(self.spec, instance.service) & self.watching) {
            if self.requests[request].bonds.bound[at] == 0 {
                self.change(request, at, |bonds| bonds.bound[at] = version);
            }
        }
    }

    /// What a frame has called so far, for a watch that begins in the middle of it.
    fn recall(&mut self, slot: u32, bit: u8) {
        let frame = &self.frames[slot];
        if frame.is_attempt() && !frame.has(STARTED) {
            return;
        }
        let ops = &self.spec.ops;
        let mut pc = usize::from(frame.pc);
        let mut called = 0;
        while pc > 0 && !matches!(ops[pc - 1], Op::End) {
            pc -= 1;
            for call in calls_of(&ops[pc]) {
                called |= bit_of(self.spec, self.spec.calls[call as usize].service);
            }
        }
        self.sides[slot as usize].promise.called |= called & bit;
    }

    /// A call that may go again promises its request to do so until it is over.
    #[inline(never)]
    pub(super) fn promise_of_call(&mut self, slot: u32) {
        let state = &self.calls[slot];
        let outbound = &self.outbounds[state.job.outbound as usize];
        let goes_again = outbound.stacks().any(|stack| stack.retry.is_some() || stack.hedge.is_some());
        let (request, before) = (state.job.request, state.ahead);
        let mut after = 0;
        if state.open && goes_again && request != NIL {
            let call = &self.spec.calls[state.job.call as usize];
            let below = self.ahead[usize::from(call.entry)].reach;
            after = (below | bit_of(self.spec, call.service)) & self.watching;
        }
        self.calls[slot].ahead = after;
        self.promised(request, before, after);
    }

    /// Everything for a request is over.
    #[inline(never)]
    pub(super) fn forget_bonds(&mut self, request: u32) {
        for at in slots(self.requests[request].bonds.engaged & self.watching) {
            self.tally(at, |census| &mut census.engaged, false);
        }
        debug_assert!(
            slots(self.watching).all(|at| self.requests[request].bonds.ahead[at] == 0),
            "INV-36: who is over has nothing before it"
        );
        self.requests[request].bonds = Bonds::default();
    }

    // ---- where a call goes

    /// Where a call goes that is about to be sent.
    #[inline(never)]
    pub(super) fn way(&self, origin: &Origin) -> Way {
        if origin.request == NIL {
            return Way::Any;
        }
        let service = self.outbounds[origin.outbound as usize].service;
        let bonds = &self.requests[origin.request].bonds;
        let mut way = Way::Any;
        for at in slots(self.watching) {
            let Some(watch) = &self.watches[at] else { continue };
            if !watch.dependants[service as usize] {
                continue;
            }
            let from_client = origin.parent == NIL || !self.frames[origin.parent].is_attempt();
            let asking = Asking {
                to_target: service == watch.service,
                past: watch.standing(bonds, at).past,
                begins: from_client && bonds.engaged & 1 << at == 0,
            };
            match watch.stance.way(asking) {
                Way::Hold => return Way::Hold,
                Way::Any => {}
                other => way = other,
            }
        }
        way
    }

    // ---- the door

    /// An attempt waits until an update lets it go on.
    #[cold]
    pub(super) fn wait_at_gate(
        &mut self,
        now: Time,
        queue: &mut Queue,
        call: u32,
        key: u64,
        origin: &Origin,
        state: u32,
    ) -> Result<Option<Class>, Full> {
        let slot = self.unsent(now, queue, call, key, origin, state)?;
        self.sides[slot as usize].connection = GATED;
        let service = self.spec.calls[call as usize].service as usize;
        let holds = |at: &usize| self.watches[*at].as_ref().is_some_and(|watch| watch.dependants[service]);
        let at = slots(self.watching).find(holds).expect("an update that holds it");
        let watch = self.watch(at);
        watch.held.push_back(slot);
        let target = watch.service as usize;
        self.services[target].rollouts.held += 1;
        Ok(None)
    }

    /// Whether an update holds `slot`.
    pub(super) fn waits_at_gate(&self, slot: u32) -> bool {
        self.frames[slot].has(HELD) && self.has_sides && self.sides[slot as usize].connection == GATED
    }

    /// `slot` no longer waits at a door; `lost`, if it never went through.
    pub(super) fn leave_gate(&mut self, now: Time, slot: u32, lost: bool) {
        self.sides[slot as usize].connection = NIL;
        let waited = (now - self.frames[slot].started).0;
        for watch in self.watches.iter_mut().flatten() {
            if let Some(at) = watch.held.iter().position(|held| *held == slot) {
                watch.held.remove(at);
                let rollout = &mut self.services[watch.service as usize].rollouts;
                rollout.held_ns += u128::from(waited);
                rollout.lost += u64::from(lost);
            }
        }
    }

    /// Those who wait at a door go on, as far as they may.
    pub(super) fn on_ungate(&mut self, now: Time, queue: &mut Queue, at: u32) -> Flow {
        let Some(watch) = &mut self.watches[at as usize] else { return Ok(()) };
        watch.releasing = false;
        let waiting: Vec<u32> = watch.held.iter().copied().collect();
        for slot in waiting {
            // Those before it may have ended some of those after it.
            let there = self.watches[at as usize].as_ref().is_some_and(|watch| watch.held.contains(&slot));
            if there {
                self.pass_gate(now, queue, slot)?;
            }
        }
        Ok(())
    }

    fn pass_gate(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        let Frame { key, outbound, parent, parent_pc, pc, priority, .. } = self.frames[slot];
        let Side { tag, call, request, .. } = self.sides[slot as usize];
        let wanted = match call {
            NIL => self.outbounds[outbound as usize].alive && self.caller_waits(parent, parent_pc),
            call => self.is_wanted(&self.calls[call].job),
        };
        if !wanted {
            return self.let_down(now, queue, slot, Class::Abandoned);
        }
        let service = self.outbounds[outbound as usize].service;
        let origin = Origin { parent, parent_pc, outbound, request, tag, priority };
        if self.way(&origin) == Way::Hold {
            return Ok(());
        }
        let attempt = if call == NIL { 0 } else { self.calls[call].attempt };
        let head = RequestHead { affinity: None, attempt };
        let mut rng = ManuallyDrop::new(Key(key ^ PICK_SALT ^ u64::from(tag)).rng());
        let picked = self.pick_with_care(now, queue, pc, key, &origin, head, call, &mut rng)?;
        let Some(endpoint) = picked else { return self.let_down(now, queue, slot, Class::Failure) };
        self.leave_gate(now, slot, false);
        let instance = self.services[service as usize].slots[endpoint.0 as usize];
        let frame = &mut self.frames[slot];
        frame.flags &= !HELD;
        frame.instance = instance;
        self.set_out(slot);
        self.transmit(now, queue, slot)
    }

    /// INV-36: what requests are said to have before them is what their frames and calls have promised them, and nobody has
    /// promised less than it may do.
    pub(super) fn check_bonds(&self) {
        if self.watching == 0 {
            return;
        }
        let mut ahead = vec![[0u16; SLOTS]; self.requests.slots() as usize];
        let mut counted = [Census::default(); SLOTS];
        let mut held = 0;
        for slot in 0..self.frames.slots() {
            let Side { promise, request, .. } = self.sides[slot as usize];
            if self.frames[slot].flags == 0 {
                continue;
            }
            held += usize::from(self.waits_at_gate(slot));
            let least = self.outlook(slot);
            assert_eq!(least.ahead & !promise.ahead, 0, "INV-36: a frame keeps its promise");
            for at in slots(self.watching) {
                let has = |mask: u8| u32::from(mask >> at & 1);
                counted[at].serving += has(promise.serving);
                counted[at].returning += has(promise.returning);
                if request != NIL {
                    ahead[request as usize][at] += has(promise.ahead) as u16;
                }
            }
        }
        for slot in 0..self.calls.slots() {
            let call = &self.calls[slot];
            if call.open && call.job.request != NIL {
                for at in slots(call.ahead & self.watching) {
                    ahead[call.job.request as usize][at] += 1;
                }
            }
        }
        for request in 0..self.requests.slots() {
            let bonds = &self.requests[request].bonds;
            for at in slots(self.watching) {
                let Some(watch) = &self.watches[at] else { continue };
                assert_eq!(
                    bonds.ahead[at], ahead[request as usize][at],
                    "INV-36: what a request has before it"
                );
                counted[at].blocking += u32::from(watch.standing(bonds, at).blocks());
                counted[at].engaged += u32::from(bonds.engaged >> at & 1);
            }
        }
        let mut listed = 0;
        for at in slots(self.watching) {
            let Some(watch) = &self.watches[at] else { continue };
            listed += watch.held.len();
            let census = Census { unaware: 0, lagging: 0, depth: 0, ..watch.census };
            assert_eq!(census, counted[at], "INV-36: what all requests have to do with an update");
        }
        assert_eq!(listed, held, "INV-36: who is held by an update is listed");
    }
}

/// Services that depend on `target`, directly or through others, and how many calls the farthest is away.
fn dependants(spec: &Spec, target: u32) -> (Vec<bool>, u32) {
    let mut found = vec![false; spec.services.len()];
    found[target as usize] = true;
    let mut depth = 0;
    loop {
        let further: Vec<usize> = spec
            .services
            .iter()
            .enumerate()
            .filter(|(at, service)| !found[*at] && service.edges.iter().any(|edge| found[edge.to as usize]))
            .map(|(at, _)| at)
            .collect();
        if further.is_empty() {
            return (found, depth);
        }
        for at in further {
            found[at] = true;
        }
        depth += 1;
    }
}
