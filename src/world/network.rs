//! Messages between places: delay, loss, partitions.
//!
//! Transport is TCP-like: a lost message is sent again after 200 ms, 400 ms, 800 ms ... (the usual minimum retransmission
//! time-out with back-off); after ten tries the connection counts as broken. Without delays and network faults a message
//! costs nothing, not even an event.

use crate::kernel::queue::{Payload, Queue};
use crate::policies::view::Class;
use crate::random::{Key, law::Law};
use crate::time::{Duration, Time};

use super::frame::{AWAITED, CLASS_SHIFT, ENDED, EVENT};
use super::spec::{Spec, Trouble};
use super::{Flow, REPLY, TRANSMIT, World};

/// Present state of the network.
pub(super) struct Network {
    /// No message ever takes time or gets lost in this run.
    quiet: bool,
    /// So it is, and what goes on now is not nested too deeply to deliver the next message at once.
    direct: bool,
    /// Programs that have begun or ended while others did, within the present event.
    nesting: u32,
    zones: usize,
    /// Pairs that cannot talk, with multiplicity.
    partitions: Vec<(u32, u32)>,
    losses: Vec<(Option<(u32, u32)>, f64)>,
    added: Vec<(Option<(u32, u32)>, Law)>,
}

impl Network {
    pub(super) fn new(spec: &Spec) -> Self {
        let instant = spec.latency.iter().all(|law| law.constant() == Some(0.0));
        let troubled = spec.faults.iter().any(|fault| {
            matches!(fault.what, Trouble::Partition(..) | Trouble::PacketLoss(..) | Trouble::AddedLatency(..))
        });
        Self {
            quiet: instant && !troubled,
            direct: instant && !troubled,
            nesting: 0,
            zones: spec.zones.len() + 1,
            partitions: Vec::new(),
            losses: Vec::new(),
            added: Vec::new(),
        }
    }

    /// Applies or ends a network fault.
    pub(super) fn set(&mut self, trouble: &Trouble, on: bool) {
        match trouble {
            Trouble::Partition(a, b) => toggle(&mut self.partitions, (*a, *b), on),
            Trouble::PacketLoss(between, rate) => toggle(&mut self.losses, (*between, *rate), on),
            Trouble::AddedLatency(between, law) => toggle(&mut self.added, (*between, law.clone()), on),
            _ => {}
        }
    }

    /// Whether no message ever takes time or gets lost in this run.
    pub(super) const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// A program begins or ends, which may have others begin or end before it is done with.
    #[inline]
    pub(super) const fn go_deeper(&mut self) {
        self.nesting += 1;
        if self.nesting == DEEPEST {
            self.direct = false;
        }
    }

    /// It is done with.
    #[inline]
    pub(super) const fn come_back(&mut self) {
        if self.nesting == DEEPEST {
            self.direct = self.quiet;
        }
        self.nesting -= 1;
    }

    /// Whether what goes on is nested so deeply that what comes next has to wait for an event of its own.
    #[inline]
    pub(super) const fn is_deep(&self) -> bool {
        self.nesting >= DEEPEST
    }

    /// Time from `from` to `to` for one message, or `None` if it cannot get through at present.
    pub(super) fn delay(&self, spec: &Spec, from: u32, to: u32, key: u64) -> Option<Duration> {
        let touches = |pair: (u32, u32)| pair == (from, to) || pair == (to, from);
        if self.partitions.iter().any(|&pair| touches(pair)) {
            return None;
        }
        let mut rng = Key(key).draws();
        let mut delay = spec.latency[from as usize * self.zones + to as usize].sample_duration(&mut rng);
        for (between, law) in &self.added {
            if between.is_none_or(touches) {
                delay = delay + law.sample_duration(&mut rng);
            }
        }
        for &(between, rate) in &self.losses {
            if between.is_none_or(touches) {
                let mut tries = 0;
                while rng.unit() < rate {
                    delay = delay + retransmission(tries);
                    tries += 1;
                    if tries == MAX_TRIES {
                        return None;
                    }
                }
            }
        }
        Some(delay)
    }
}

/// Adds or removes one entry.
fn toggle<T: PartialEq>(list: &mut Vec<T>, entry: T, on: bool) {
    if on {
        list.push(entry);
    } else if let Some(at) = list.iter().position(|existing| *existing == entry) {
        list.remove(at);
    }
}

/// Without delays a chain of calls begins, and ends, within one event, link by link on the stack of the program. Behind so many
/// links a message has an event of its own, at the same instant, so that no scenario can exhaust the stack.
const DEEPEST: u32 = 64;

/// Time before try `tries + 1`.
const fn retransmission(tries: u16) -> Duration {
    Duration::from_millis(200 << if tries < MAX_TRIES { tries } else { MAX_TRIES })
}

pub(super) const MAX_TRIES: u16 = 10;
const REQUEST_SALT: u64 = 0x6e65_742d_7265_7173;
const REPLY_SALT: u64 = 0x6e65_742d_7265_706c;
const WORD_SALT: u64 = 0x6e65_742d_776f_7264;

impl World<'_> {
    /// Sends the request of `slot` to its instance.
    #[inline(always)]
    pub(super) fn transmit(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        if self.network.direct {
            return self.arrive(now, queue, slot);
        }
        self.transmit_far(now, queue, slot)
    }

    #[inline(never)]
    fn transmit_far(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        match self.message_delay(slot, REQUEST_SALT) {
            Some(Duration::ZERO) if !self.network.is_deep() => self.arrive(now, queue, slot),
            delay => {
                self.travel(now, queue, slot, TRANSMIT, delay);
                Ok(())
            }
        }
    }

    /// Sends the answer of `slot` to its caller.
    #[inline(always)]
    pub(super) fn reply(&mut self, now: Time, queue: &mut Queue, slot: u32, class: Class) -> Flow {
        if self.network.direct {
            return self.hear(now, queue, slot, class);
        }
        self.reply_far(now, queue, slot, class)
    }

    #[inline(never)]
    fn reply_far(&mut self, now: Time, queue: &mut Queue, slot: u32, class: Class) -> Flow {
        match self.message_delay(slot, REPLY_SALT) {
            Some(Duration::ZERO) if !self.network.is_deep() => self.hear(now, queue, slot, class),
            delay => {
                let frame = &mut self.frames[slot];
                frame.flags = frame.flags & !(7 << CLASS_SHIFT) | (class as u16) << CLASS_SHIFT;
                frame.need = 0;
                self.travel(now, queue, slot, REPLY, delay);
                Ok(())
            }
        }
    }

    /// One-way delay for the next message of `slot`, `None` while none gets through.
    fn message_delay(&self, slot: u32, salt: u64) -> Option<Duration> {
        let frame = &self.frames[slot];
        let from = u32::from(frame.zone);
        let to = self.instances[frame.instance as usize].more.zone;
        let tag = if self.has_sides { self.sides[slot as usize].tag } else { 0 };
        let key = Key(frame.key ^ salt).with(u64::from(tag) << 16 | u64::from(frame.need)).0;
        if salt == REQUEST_SALT {
            self.network.delay(self.spec, from, to, key)
        } else {
            self.network.delay(self.spec, to, from, key)
        }
    }

    /// One-way delay of a word from an instance to another, `None` while none gets through.
    pub(super) fn word_delay(&self, from: u32, to: u32, key: u64) -> Option<Duration> {
        if self.network.quiet {
            return Some(Duration::ZERO);
        }
        self.network.delay(self.spec, from, to, key ^ WORD_SALT)
    }

    /// Schedules the arrival, or another try. `slack` tells the two apart, `need` counts the tries; a frame in transit
    /// has no other use for them.
    fn travel(&mut self, now: Time, queue: &mut Queue, slot: u32, kind: u8, delay: Option<Duration>) {
        let frame = &mut self.frames[slot];
        frame.flags |= EVENT;
        let delay = if let Some(delay) = delay {
            frame.slack = 0;
            delay
        } else {
            frame.slack = 1;
            frame.need += 1;
            retransmission(frame.need - 1)
        };
        queue.push(now + delay, Payload::new(kind, slot));
    }

    /// Whether the message of `slot` has to be sent again: its delay, or that it is lost for good.
    fn again(&mut self, now: Time, queue: &mut Queue, slot: u32, kind: u8, salt: u64) -> bool {
        let frame = &self.frames[slot];
        if frame.slack == 0 || frame.need > MAX_TRIES {
            return false;
        }
        let delay = self.message_delay(slot, salt);
        self.travel(now, queue, slot, kind, delay);
        true
    }

    /// A request reaches its instance, or has to be sent again.
    pub(super) fn on_transmit(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        self.event_over(slot);
        let frame = &self.frames[slot];
        // A caller that has given up does not go on knocking (its connection was never accepted).
        if frame.has(ENDED) || !frame.has(AWAITED) && frame.flags >> CLASS_SHIFT > 0 {
            self.frames[slot].flags |= ENDED;
            self.release_if_loose(slot);
            return Ok(());
        }
        if self.again(now, queue, slot, TRANSMIT, REQUEST_SALT) {
            return Ok(());
        }
        if self.frames[slot].slack != 0 {
            return self.broken(now, queue, slot);
        }
        self.frames[slot].need = 0;
        self.arrive(now, queue, slot)
    }

    /// An answer reaches its caller, or has to be sent again.
    pub(super) fn on_reply(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        self.event_over(slot);
        if !self.frames[slot].has(AWAITED) {
            self.release_if_loose(slot);
            return Ok(());
        }
        if self.again(now, queue, slot, REPLY, REPLY_SALT) {
            return Ok(());
        }
        let frame = &self.frames[slot];
        if frame.slack != 0 {
            return self.broken(now, queue, slot);
        }
        let class = class_of(frame.flags >> CLASS_SHIFT);
        self.hear(now, queue, slot, class)
    }

    /// The connection of `slot` is broken: its caller gets an error now, if it still waits.
    pub(super) fn broken(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        if let Some(at) = self.ridden(slot) {
            self.connections[at].gone = true;
        }
        if self.has_errands {
            self.cut_off(slot);
        }
        let frame = &mut self.frames[slot];
        frame.flags |= ENDED;
        if frame.has(AWAITED) {
            return self.hear(now, queue, slot, Class::Failure);
        }
        self.release_if_loose(slot);
        Ok(())
    }
}

const fn class_of(bits: u16) -> Class {
    match bits & 7 {
        0 => Class::Success,
        1 => Class::Failure,
        2 => Class::Timeout,
        3 => Class::Rejected,
        _ => Class::Abandoned,
    }
}
