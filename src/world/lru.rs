//! Keys in the order of their last use, with an expiry each: what a cache remembers.
//!
//! Entries are linked by position, so a hit moves one without allocating; the index is a tree because its order of
//! iteration would be the same everywhere, should anybody ever iterate.

use std::collections::BTreeMap;

use crate::time::Time;

use super::frame::NIL;

/// A bounded set of keys; the least recently used goes first.
#[derive(Debug)]
pub(super) struct Lru {
    index: BTreeMap<u64, u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    newest: u32,
    oldest: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: u64,
    expires: Time,
    newer: u32,
    older: u32,
}

impl Default for Lru {
    fn default() -> Self {
        Self { index: BTreeMap::new(), entries: Vec::new(), free: Vec::new(), newest: NIL, oldest: NIL }
    }
}

impl Lru {
    /// Whether `key` is there and not expired; if so, it has just been used.
    pub(super) fn touch(&mut self, now: Time, key: u64) -> bool {
        let Some(&at) = self.index.get(&key) else { return false };
        if self.entries[at as usize].expires <= now {
            self.remove(at);
            return false;
        }
        self.unlink(at);
        self.link_newest(at);
        true
    }

    /// Puts `key` in until `expires`; at most `capacity` keys stay.
    pub(super) fn store(&mut self, key: u64, expires: Time, capacity: u64) {
        if let Some(&at) = self.index.get(&key) {
            self.entries[at as usize].expires = expires;
            self.unlink(at);
            self.link_newest(at);
            return;
        }
        let entry = Entry { key, expires, newer: NIL, older: NIL };
        let at = if let Some(at) = self.free.pop() {
            self.entries[at as usize] = entry;
            at
        } else {
            self.entries.push(entry);
            self.entries.len() as u32 - 1
        };
        self.index.insert(key, at);
        self.link_newest(at);
        while self.index.len() as u64 > capacity {
            self.remove(self.oldest);
        }
    }

    fn remove(&mut self, at: u32) {
        self.unlink(at);
        self.index.remove(&self.entries[at as usize].key);
        self.free.push(at);
    }

    fn link_newest(&mut self, at: u32) {
        let before = std::mem::replace(&mut self.newest, at);
        let entry = &mut self.entries[at as usize];
        entry.newer = NIL;
        entry.older = before;
        if before == NIL {
            self.oldest = at;
        } else {
            self.entries[before as usize].newer = at;
        }
    }

    fn unlink(&mut self, at: u32) {
        let Entry { newer, older, .. } = self.entries[at as usize];
        if newer == NIL {
            self.newest = older;
        } else {
            self.entries[newer as usize].older = older;
        }
        if older == NIL {
            self.oldest = newer;
        } else {
            self.entries[older as usize].newer = newer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_the_least_recently_used_and_the_expired() {
        let mut lru = Lru::default();
        for key in 1..=3 {
            lru.store(key, Time(100), 3);
        }
        assert!(lru.touch(Time(0), 1), "1 has just been used, so 2 is the oldest");
        lru.store(4, Time(50), 3);
        assert!(!lru.touch(Time(0), 2));
        assert!(lru.touch(Time(49), 4));
        assert!(!lru.touch(Time(50), 4), "an entry is gone at the instant it expires");
        lru.store(5, Time(100), 3);
        assert!(lru.touch(Time(60), 1) && lru.touch(Time(60), 3) && lru.touch(Time(60), 5));
        lru.store(6, Time(100), 0);
        assert!(!lru.touch(Time(60), 6) && !lru.touch(Time(60), 5), "nothing fits into no room");
    }
}
