//! The activator: a proxy that holds attempts back while their caller knows no instance to send them to.
//!
//! A held attempt is a frame without an instance ([`HELD`]). It waits from the moment in which it was sent, so its wait is
//! part of its latency, and its timeout and the deadline above it run on. It goes out when its caller has learnt of an
//! instance, oldest first; it ends with an error when it waited for too long, and is let go when nobody waits for it any
//! more. Nothing of this touches an attempt whose caller knows an instance.

use std::collections::VecDeque;
use std::mem::ManuallyDrop;

use crate::kernel::queue::Queue;
use crate::policies::autoscaler::{Autoscaler, Load};
use crate::policies::rollout::standing::Way;
use crate::policies::view::{Class, Outcome, RequestHead};
use crate::random::Key;
use crate::time::{Duration, Time};

use super::call::{Origin, PICK_SALT};
use super::control::Control;
use super::frame::{AWAITED, ENDED, Frame, HELD, NIL, Side};
use super::outbound::BOUND;
use super::spec::ActivatorSpec;
use super::telemetry::{Integral, Moments};
use super::{Flow, Full, World};

/// What waits before one service.
#[derive(Clone, Debug)]
pub(super) struct Activator {
    spec: ActivatorSpec,
    counted_from: Time,
    /// Oldest first.
    pub(super) held: VecDeque<u32>,
    /// A look at the oldest one's timeout is scheduled ...
    watched: bool,
    /// ... and so is a look at who can go out.
    releasing: bool,
    /// Attempts held.
    pub(super) load: Integral,
    pub(super) arrivals: u64,
    /// How long those waited that are gone, one way or the other.
    pub(super) left: Moments,
    /// Of these, how many went out ...
    pub(super) sent: u64,
    /// ... and how long they waited, if they came in the counted part.
    pub(super) waits: Moments,
    /// Attempts that found no place.
    pub(super) refused: u64,
    /// The autoscaler was told of a first attempt at once, so the next sample leaves it out.
    told: Told,
}

/// What an autoscaler that samples knows of the activator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    First,
    All,
}

/// What an autoscaler that samples saw last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sampled {
    at: Time,
    inside: u128,
    held: u128,
    arrivals: u64,
}

impl Activator {
    pub(super) fn new(spec: ActivatorSpec, counted_from: Time) -> Self {
        Self {
            spec,
            counted_from,
            held: VecDeque::new(),
            watched: false,
            releasing: false,
            load: Integral::default(),
            arrivals: 0,
            left: Moments::default(),
            sent: 0,
            waits: Moments::default(),
            refused: 0,
            told: Told::Nothing,
        }
    }

    /// Whether instances get only so many attempts at a time.
    pub(super) const fn is_metered(spec: &ActivatorSpec) -> bool {
        spec.per_instance.is_some()
    }

    /// Takes `slot`, held since `since`, off the list.
    fn remove(&mut self, now: Time, slot: u32, since: Time) {
        let at = self.held.iter().position(|&held| held == slot).expect("INV-29: who is held is listed");
        self.held.remove(at);
        self.load.down(now);
        self.left.add((now - since).0);
    }
}

impl World<'_> {
    /// An attempt whose caller knows no instance, or may not call one yet: held, or how it fails.
    #[cold]
    pub(super) fn hold(
        &mut self,
        now: Time,
        queue: &mut Queue,
        call: u32,
        key: u64,
        origin: &Origin,
        state: u32,
    ) -> Result<Option<Class>, Full> {
        if self.outbounds[origin.outbound as usize].asks & BOUND != 0 && self.way(origin) == Way::Hold {
            return self.wait_at_gate(now, queue, call, key, origin, state);
        }
        let (service, entry) = (self.spec.calls[call as usize].service, self.spec.calls[call as usize].entry);
        if self.services[service as usize].activator.is_none() {
            self.note_unled(now, service, entry, false);
            return Ok(Some(Class::Failure));
        }
        let named = |world: &Self| {
            (state != NIL).then(|| world.calls[state]).map(|call| (call.open, call.job.key, call.job.tag))
        };
        let before = named(self);
        self.forget_unwanted(now, queue, service)?;
        if named(self) != before {
            // What that led to has ended this very call.
            return Ok(None);
        }
        let Some(activator) = &mut self.services[service as usize].activator else { return Ok(None) };
        if activator.held.len() as u64 >= u64::from(activator.spec.capacity) {
            activator.refused += 1;
            self.note_unled(now, service, entry, false);
            return Ok(Some(Class::Rejected));
        }
        self.note_unled(now, service, entry, true);
        let slot = self.unsent(now, queue, call, key, origin, state)?;
        let Some(activator) = &mut self.services[service as usize].activator else { return Ok(None) };
        activator.held.push_back(slot);
        activator.load.up(now);
        activator.arrivals += 1;
        if !std::mem::replace(&mut activator.watched, true) {
            let timeout = activator.spec.timeout;
            self.schedule(queue, now + timeout, Control::Overdue(service));
        }
        self.tell_of_first(now, queue, service);
        Ok(None)
    }

    /// The oldest held attempts may have waited for too long.
    pub(super) fn on_overdue(&mut self, now: Time, queue: &mut Queue, service: u32) -> Flow {
        loop {
            let Some(activator) = &mut self.services[service as usize].activator else { return Ok(()) };
            let Some(&oldest) = activator.held.front() else {
                activator.watched = false;
                return Ok(());
            };
            let since = self.frames[oldest].started;
            let due = since + activator.spec.timeout;
            if due > now {
                self.schedule(queue, due, Control::Overdue(service));
                return Ok(());
            }
            self.note_unled(now, service, self.frames[oldest].pc, false);
            self.let_down(now, queue, oldest, Class::Failure)?;
        }
    }

    /// Some caller has learnt of an instance, or an instance has room again.
    #[inline]
    pub(super) fn look_at_held(&mut self, now: Time, queue: &mut Queue, service: u32) {
        let Some(activator) = &mut self.services[service as usize].activator else { return };
        if !activator.held.is_empty() && !std::mem::replace(&mut activator.releasing, true) {
            self.schedule(queue, now, Control::Release(service));
        }
    }

    /// Held attempts go out, as far as their callers know where to.
    pub(super) fn on_release(&mut self, now: Time, queue: &mut Queue, service: u32) -> Flow {
        self.forget_unwanted(now, queue, service)?;
        let Some(activator) = &mut self.services[service as usize].activator else { return Ok(()) };
        activator.releasing = false;
        let waiting: Vec<u32> = activator.held.iter().copied().collect();
        let most = activator.spec.per_instance.map(u64::from);
        for slot in waiting {
            let state = &self.services[service as usize];
            if most.is_some_and(|most| state.load.level() >= most * state.ready.level()) {
                return Ok(());
            }
            // Those before it may have ended some of those after it.
            if self.is_held(slot, service) {
                self.let_out(now, queue, service, slot)?;
            }
        }
        Ok(())
    }

    /// Sends one held attempt, if its caller knows an instance.
    fn let_out(&mut self, now: Time, queue: &mut Queue, service: u32, slot: u32) -> Flow {
        let Frame { key, outbound, started, parent, parent_pc, priority, pc, .. } = self.frames[slot];
        let Side { tag, call, request, .. } =
            if self.has_sides { self.sides[slot as usize] } else { Side::EMPTY };
        let attempt = if call == NIL { 0 } else { self.calls[call].attempt };
        let origin = Origin { parent, parent_pc, outbound, request, tag, priority };
        let pooled = self.outbounds[outbound as usize].pool.is_some();
        let at = if pooled {
            self.choose_place(now, queue, key, attempt, &origin, call)?
        } else {
            let head = RequestHead { affinity: None, attempt };
            let mut rng = ManuallyDrop::new(Key(key ^ PICK_SALT ^ u64::from(tag)).rng());
            let picked = self.pick_with_care(now, queue, pc, key, &origin, head, call, &mut rng)?;
            picked.map(|slot| slot.0)
        };
        let Some(at) = at else { return Ok(()) };
        let state = &mut self.services[service as usize];
        let instance = if pooled { NIL } else { state.slots[at as usize] };
        if let Some(activator) = &mut state.activator {
            activator.remove(now, slot, started);
            activator.sent += 1;
            if started >= activator.counted_from {
                activator.waits.add((now - started).0);
            }
        }
        if pooled {
            return self.board(now, queue, slot, at);
        }
        let frame = &mut self.frames[slot];
        frame.flags &= !HELD;
        frame.instance = instance;
        if self.watching != 0 {
            self.set_out(slot);
        }
        self.transmit(now, queue, slot)
    }

    /// Whether `slot` is held by the activator of `service`.
    fn is_held(&self, slot: u32, service: u32) -> bool {
        let frame = &self.frames[slot];
        frame.has(HELD)
            && !self.waits_for_connection(slot)
            && !self.waits_at_gate(slot)
            && self.outbounds[frame.outbound as usize].service == service
    }

    /// Lets go of those whose callers have gone: a closed connection takes its request along.
    fn forget_unwanted(&mut self, now: Time, queue: &mut Queue, service: u32) -> Flow {
        let Some(activator) = &self.services[service as usize].activator else { return Ok(()) };
        let unwanted = |&&slot: &&u32| {
            let frame = &self.frames[slot];
            let call = if self.has_sides { self.sides[slot as usize].call } else { NIL };
            if call != NIL {
                // A call may go on although its caller has gone.
                return !self.is_wanted(&self.calls[call].job);
            }
            !self.outbounds[frame.outbound as usize].alive
                || !self.caller_waits(frame.parent, frame.parent_pc)
        };
        let gone: Vec<u32> = activator.held.iter().filter(unwanted).copied().collect();
        for slot in gone {
            if self.is_held(slot, service) {
                self.let_down(now, queue, slot, Class::Abandoned)?;
            }
        }
        Ok(())
    }

    /// A held attempt ends without ever having been sent; its caller hears of it.
    pub(super) fn let_down(&mut self, now: Time, queue: &mut Queue, slot: u32, class: Class) -> Flow {
        let pooled = self.waits_for_connection(slot);
        if pooled {
            self.quit_pool(now, slot);
        }
        let gated = self.waits_at_gate(slot);
        if gated {
            self.leave_gate(now, slot, true);
        }
        let frame = &mut self.frames[slot];
        let (started, service) = (frame.started, self.outbounds[frame.outbound as usize].service);
        frame.flags = frame.flags & !(AWAITED | HELD) | ENDED;
        if !pooled
            && !gated
            && let Some(activator) = &mut self.services[service as usize].activator
        {
            activator.remove(now, slot, started);
        }
        let outcome = Outcome::new(class, now - started);
        if self.has_sides {
            return self.hear_beside(now, queue, slot, outcome);
        }
        let caller = self.frames[slot].caller();
        self.release_if_loose(slot);
        self.settle(now, queue, caller, started, class)
    }

    // ---- what an autoscaler hears that samples for itself

    /// The first attempt for a long time is told at once.
    fn tell_of_first(&mut self, now: Time, queue: &mut Queue, service: u32) {
        let state = &mut self.services[service as usize];
        let (Some(activator), Some(scaler)) = (&mut state.activator, &mut state.autoscaler) else { return };
        if scaler.sampling().is_none() || activator.told != Told::Nothing {
            return;
        }
        activator.told = Told::First;
        let load = Load { concurrency: 1.0, requests_per_second: 1.0 };
        if scaler.on_sample(now, &load) {
            self.schedule(queue, now, Control::Poke(service));
        }
    }

    /// An autoscaler samples what goes on inside and before the instances of its service.
    pub(super) fn on_sample(&mut self, now: Time, queue: &mut Queue, service: u32) {
        let state = &mut self.services[service as usize];
        let Some(scaler) = &mut state.autoscaler else { return };
        let Some(period) = scaler.sampling() else { return };
        let last = state.sampled;
        let (mut arrivals, mut held) = (state.arrivals, 0);
        if let Some(activator) = &state.activator {
            // What it has sent is counted where it came in.
            arrivals = arrivals + activator.arrivals - activator.sent;
            held = activator.load.area(now);
        }
        state.sampled = Sampled { at: now, inside: state.load.area(now), held, arrivals };
        let width = (now - last.at).0 as f64;
        let inside = (state.sampled.inside - last.inside) as f64 / width;
        let mut waiting = (held - last.held) as f64 / width;
        let mut requests = state.sampled.arrivals.saturating_sub(last.arrivals) as f64;
        if let Some(activator) = &mut state.activator {
            let silent = waiting == 0.0 && activator.held.is_empty();
            if activator.told == Told::First {
                waiting = (waiting - 1.0).max(0.0);
                requests = (requests - 1.0).max(0.0);
            }
            activator.told = match activator.told {
                _ if silent => Told::Nothing,
                Told::Nothing => Told::Nothing,
                Told::First | Told::All => Told::All,
            };
        }
        let load = Load { concurrency: inside + waiting, requests_per_second: requests / (width / 1e9) };
        let nobody = state.ready.level() == 0 && load.concurrency == 0.0 && requests == 0.0;
        if !nobody && scaler.on_sample(now, &load) {
            self.schedule(queue, now, Control::Poke(service));
        }
        if now + period < self.spec.end {
            self.schedule(queue, now + period, Control::Sample(service));
        }
    }

    /// The first sample.
    pub(super) fn begin_sampling(&mut self, queue: &mut Queue, service: u32) {
        let scaler = self.services[service as usize].autoscaler.as_ref();
        let period: Option<Duration> = scaler.and_then(Autoscaler::sampling);
        if let Some(period) = period {
            self.schedule(queue, Time::ZERO + period, Control::Sample(service));
        }
    }
}
