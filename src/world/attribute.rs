//! What requests carry (path, cookie, session, tenant ...), and who looks at it: balancers that keep sessions together,
//! and steps that route by content.
//!
//! A request's attributes are not stored: each value is a keyed draw of the request, made again whenever somebody asks.
//! So all attempts of all calls below one request agree, and a strategy that looks at an attribute changes nobody's
//! luck.

use crate::policies::balancer::Balancer as _;
use crate::policies::view::{RequestHead, Slot};
use crate::random::xxhash::xxhash64;
use crate::random::{Key, Rng};
use crate::time::Time;

use super::World;
use super::frame::NIL;
use super::outbound::{AFFINITY, COOKIE, LOAD, STALE};
use super::spec::{AttributeSpec, Carried, SourceSpec};

/// Whether those who came back to a service found their instance again.
#[derive(Clone, Debug, Default)]
pub(super) struct Stickiness {
    /// Ordinal (plus 1) of the instance that each value was last sent to, by attribute and value.
    last: Vec<Vec<u32>>,
    /// Attempts in the counted part whose value had been here before ...
    pub(super) returned: u64,
    /// ... and of these, those that were sent to another instance.
    pub(super) broken: u64,
}

impl Stickiness {
    /// A table for each attribute, as long as it has values.
    pub(super) fn new(attributes: &[AttributeSpec], sources: &[SourceSpec]) -> Self {
        let values = |at: usize| sources.iter().map(|source| source.values(at)).max().unwrap_or(0);
        let tables = attributes.iter().enumerate().map(|(at, _)| vec![0; values(at) as usize]);
        Self { last: tables.collect(), returned: 0, broken: 0 }
    }

    /// Where the last attempt with this value went.
    fn last(&self, attribute: u16, value: u32) -> Option<Slot> {
        self.last[attribute as usize][value as usize].checked_sub(1).map(Slot)
    }

    /// An attempt with this value goes to `slot`.
    fn note(&mut self, attribute: u16, value: u32, slot: Slot, counted: bool) {
        let last = &mut self.last[attribute as usize][value as usize];
        let before = std::mem::replace(last, slot.0 + 1);
        if counted && before != 0 {
            self.returned += 1;
            self.broken += u64::from(before != slot.0 + 1);
        }
    }
}

impl World<'_> {
    /// The value that a request has of an attribute, if it has any.
    pub(super) fn value_of(&self, request: u32, attribute: u16) -> Option<u32> {
        if request == NIL {
            return None;
        }
        let record = &self.requests[request];
        let source = &self.spec.sources[record.source as usize];
        let key = Key(record.key ^ self.spec.attributes[attribute as usize].salt);
        match &source.carries[attribute as usize] {
            Carried::Nothing => None,
            Carried::Number(popularity) => Some(popularity.sample(&mut key.draws()) as u32),
            Carried::Named(shares) => {
                let draw = key.draws().unit();
                shares.iter().find(|(upto, _)| draw < *upto).map(|&(_, value)| value)
            }
            Carried::User => Some(record.user - self.sources[record.source as usize].users),
        }
    }

    /// Brings what the balancer of `index` asks for before it picks for a request; the value that is kept together, if
    /// there is one. Only for an outbound that asks for anything.
    #[inline(never)]
    pub(super) fn brief(
        &mut self,
        now: Time,
        index: u32,
        request: u32,
        head: &mut RequestHead,
    ) -> Option<u32> {
        let outbound = &mut self.outbounds[index as usize];
        if outbound.asks & STALE != 0 {
            outbound.asks &= !STALE;
            outbound.balancer.on_update(now, &outbound.view);
            if outbound.split.is_some() {
                self.sort_by_version(now, index);
            }
        }
        let outbound = &mut self.outbounds[index as usize];
        if outbound.asks & LOAD != 0 {
            let slots = &self.services[outbound.service as usize].slots;
            let view = &mut outbound.view;
            view.load.resize(view.weight.len(), 0);
            for slot in &view.eligible {
                let instance = &self.instances[slots[slot.0 as usize] as usize];
                view.load[slot.0 as usize] = instance.inside + instance.queued;
            }
        }
        if outbound.asks & AFFINITY == 0 {
            return None;
        }
        let attribute = outbound.affinity;
        let value = self.value_of(request, attribute)?;
        head.affinity = Some(self.spec.attributes[attribute as usize].hash(value));
        Some(value)
    }

    /// The endpoint for an attempt of a request that `brief` has told of: where its cookie says, or what the balancer picks.
    pub(super) fn pick_for(
        &mut self,
        now: Time,
        index: u32,
        head: &RequestHead,
        value: Option<u32>,
        rng: &mut Rng,
    ) -> Option<Slot> {
        let outbound = &mut self.outbounds[index as usize];
        if outbound.asks & COOKIE != 0
            && let Some(value) = value
            && let Some(stickiness) = &self.services[outbound.service as usize].stickiness
            && let Some(slot) = stickiness.last(outbound.affinity, value)
            && outbound.may_pick(slot)
        {
            return Some(slot);
        }
        outbound.pick(now, head, rng)
    }

    /// An attempt with this value goes out to `slot`.
    pub(super) fn note_affinity(&mut self, now: Time, index: u32, value: u32, slot: Slot) {
        let outbound = &self.outbounds[index as usize];
        let service = &mut self.services[outbound.service as usize];
        if let Some(stickiness) = &mut service.stickiness {
            stickiness.note(outbound.affinity, value, slot, now >= service.counted_from);
        }
    }
}

impl SourceSpec {
    /// How many values of an attribute its requests can have.
    pub fn values(&self, attribute: usize) -> u32 {
        match (&self.carries[attribute], &self.arrivals) {
            (Carried::Number(popularity), _) => popularity.ranks() as u32,
            (Carried::Named(shares), _) => shares.iter().map(|&(_, value)| value + 1).max().unwrap_or(0),
            (Carried::User, super::spec::Arrivals::Users { count, .. }) => *count,
            (Carried::Nothing | Carried::User, _) => 0,
        }
    }
}

impl AttributeSpec {
    /// Hash of a value, as a proxy would take it of a header: xxHash64 of its text.
    pub fn hash(&self, value: u32) -> u64 {
        if let Some(name) = self.values.get(value as usize) {
            return xxhash64(name.as_bytes(), 0);
        }
        // Decimal digits, without an allocation.
        let (mut digits, mut at, mut rest) = ([0; 10], 10, value);
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                return xxhash64(&digits[at..], 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_hashed_as_text() {
        let numbers = AttributeSpec { salt: 0, values: Vec::new() };
        for value in [0, 7, 10, 4711, u32::MAX] {
            assert_eq!(numbers.hash(value), xxhash64(value.to_string().as_bytes(), 0));
        }
        let names = AttributeSpec { salt: 0, values: vec!["/buy".to_owned()] };
        assert_eq!(names.hash(0), xxhash64(b"/buy", 0));
    }

    #[test]
    fn an_affinity_breaks_when_the_instance_changes() {
        let mut stickiness = Stickiness { last: vec![vec![0; 2]], ..Stickiness::default() };
        for (value, slot) in [(0, 3), (1, 3), (0, 3), (1, 4), (1, 4), (0, 1)] {
            stickiness.note(0, value, Slot(slot), true);
        }
        assert_eq!((stickiness.returned, stickiness.broken), (4, 2));
    }
}
