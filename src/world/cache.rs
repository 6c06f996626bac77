//! Caches: keys by popularity, least recently used out first, time to live, single flight.

use std::collections::BTreeMap;

use crate::kernel::queue::Queue;
use crate::random::{Key, variate::Zipf};
use crate::time::Time;

use super::frame::{LINKED, STARTED};
use super::lru::Lru;
use super::service::Service;
use super::spec::{CacheSpec, Op};
use super::{Flow, World};

/// Contents of one cache.
#[derive(Debug, Default)]
pub(super) struct CacheState {
    keys: Lru,
    /// Keys being fetched, with those who wait for them (single flight).
    pub(super) fetching: BTreeMap<u64, Vec<u32>>,
}

/// Answer of a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    Hit,
    Miss,
    /// Somebody else is fetching it; the frame goes on when that one is done.
    Wait,
}

const KEY_SALT: u64 = 0x6361_6368_652d_6b65;

impl World<'_> {
    /// The key that `slot` asks cache number `cache` for; the same whenever it is asked.
    fn cache_key(&self, slot: u32, cache: u16) -> u64 {
        let frame = &self.frames[slot];
        let service = self.instances[frame.instance as usize].service as usize;
        let zipf: &Zipf = &self.services[service].popularity[cache as usize];
        zipf.sample(&mut Key(frame.key ^ KEY_SALT).with(u64::from(cache)).draws())
    }

    fn cache_of(&mut self, slot: u32, cache: u16) -> (&mut CacheState, &CacheSpec) {
        let instance = &mut self.instances[self.frames[slot].instance as usize];
        let service = instance.service as usize;
        let spec = &self.spec.services[service].caches[cache as usize];
        let state = if spec.local {
            &mut instance.more.caches[cache as usize]
        } else {
            &mut self.services[service].caches[cache as usize]
        };
        (state, spec)
    }

    /// Looks the frame's key up.
    pub(super) fn cache_lookup(&mut self, now: Time, slot: u32, cache: u16) -> Lookup {
        let key = self.cache_key(slot, cache);
        let (state, spec) = self.cache_of(slot, cache);
        if state.keys.touch(now, key) {
            self.service_of(slot).cache_hits += 1;
            return Lookup::Hit;
        }
        if spec.single_flight {
            if let Some(waiting) = state.fetching.get_mut(&key) {
                waiting.push(slot);
                self.frames[slot].flags |= LINKED;
                return Lookup::Wait;
            }
            state.fetching.insert(key, Vec::new());
        }
        self.service_of(slot).cache_misses += 1;
        Lookup::Miss
    }

    fn service_of(&mut self, slot: u32) -> &mut Service {
        &mut self.services[self.instances[self.frames[slot].instance as usize].service as usize]
    }

    /// Stores the frame's key; whoever waited for it looks again (and hits).
    pub(super) fn cache_fill(&mut self, now: Time, queue: &mut Queue, slot: u32, cache: u16) -> Flow {
        let key = self.cache_key(slot, cache);
        let (state, spec) = self.cache_of(slot, cache);
        state.keys.store(key, now + spec.ttl, spec.capacity);
        let waiting = state.fetching.remove(&key).unwrap_or_default();
        self.wake(now, queue, waiting)
    }

    /// Caches whose key `slot` is fetching: each fill that lies ahead of it without its look-up.
    fn fetches(&self, slot: u32) -> Vec<u16> {
        let frame = &self.frames[slot];
        let service = self.instances[frame.instance as usize].service as usize;
        let (mut fetched, mut looked_up) = (Vec::new(), Vec::new());
        for op in &self.spec.ops[frame.pc as usize..] {
            match op {
                Op::CacheLookup { cache, .. } => looked_up.push(*cache),
                Op::CacheFill { cache } => match looked_up.iter().rposition(|other| other == cache) {
                    Some(at) => drop(looked_up.remove(at)),
                    None if self.spec.services[service].caches[*cache as usize].single_flight => {
                        fetched.push(*cache);
                    }
                    None => {}
                },
                Op::End => break,
                _ => {}
            }
        }
        fetched
    }

    /// `slot` leaves without having fetched what it had begun to: those who wait for it look again, and the first of
    /// them fetches.
    pub(super) fn abandon_fetches(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        for cache in self.fetches(slot) {
            let key = self.cache_key(slot, cache);
            let waiting = self.cache_of(slot, cache).0.fetching.remove(&key).unwrap_or_default();
            self.wake(now, queue, waiting)?;
        }
        Ok(())
    }

    /// The frames `lost` die with their instance: they wait for nobody any more, and nobody may wait for them. Returns
    /// those of other instances that waited for them at a cache of the whole service.
    pub(super) fn lose_fetches(&mut self, lost: &[u32]) -> Vec<u32> {
        let mut orphans = Vec::new();
        for &slot in lost {
            let frame = &self.frames[slot];
            if frame.has(LINKED)
                && let Op::CacheLookup { cache, .. } = self.spec.ops[frame.pc as usize]
            {
                let key = self.cache_key(slot, cache);
                if let Some(waiting) = self.cache_of(slot, cache).0.fetching.get_mut(&key) {
                    waiting.retain(|other| *other != slot);
                }
            }
        }
        for &slot in lost.iter().filter(|&&slot| self.frames[slot].has(STARTED)).collect::<Vec<_>>() {
            for cache in self.fetches(slot) {
                let key = self.cache_key(slot, cache);
                orphans.extend(self.cache_of(slot, cache).0.fetching.remove(&key).unwrap_or_default());
            }
        }
        orphans
    }

    /// Those who waited look again.
    pub(super) fn wake(&mut self, now: Time, queue: &mut Queue, waiting: Vec<u32>) -> Flow {
        self.hold_all(&waiting);
        self.wake_held(now, queue, waiting)
    }

    /// The same of a list whose frames are held.
    pub(super) fn wake_held(&mut self, now: Time, queue: &mut Queue, waiting: Vec<u32>) -> Flow {
        for slot in waiting {
            self.frames[slot].flags &= !LINKED;
            if !self.is_gone(slot) {
                self.go_on(now, queue, slot)?;
            }
        }
        Ok(())
    }
}
