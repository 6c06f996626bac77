//! The event queue: a 4-ary implicit heap over 128-bit keys with deferred pop, each four siblings in one cache line.
//!
//! A key is (time, sequence, payload) packed so that one integer comparison orders events by time and breaks ties in the
//! order of scheduling. Popping leaves the root as a hole: the first push of the handler usually replaces it with a
//! single sift-down, which saves a third of the work (measured in `benches/queue.rs`).

use crate::time::Time;

/// What an event says: a kind and an index, packed into 28 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload(pub u32);

impl Payload {
    /// Packs `kind` (below 16) and `index` (below 2^24).
    #[inline]
    pub const fn new(kind: u8, index: u32) -> Self {
        debug_assert!(kind < 16 && index <= MAX_INDEX);
        Self((kind as u32) << 24 | index)
    }

    /// The kind.
    #[inline]
    pub const fn kind(self) -> u8 {
        (self.0 >> 24) as u8
    }

    /// The index.
    #[inline]
    pub const fn index(self) -> u32 {
        self.0 & MAX_INDEX
    }
}

/// Largest index that fits a payload.
pub const MAX_INDEX: u32 = (1 << 24) - 1;

/// Number of events a run can schedule before sequence numbers run out.
pub const MAX_EVENTS: u64 = 1 << 36;

/// Pending events in the order of (time, sequence).
#[derive(Debug, Default)]
pub struct Queue {
    /// The next event; while `hole` is set, it is already handed out.
    root: u128,
    /// The rest of the heap. The children of the root are family 0; member `m` of family `f` has number `4 f + m`, and its
    /// children are the family after that number. The last family is filled up with [`NEVER`].
    families: Vec<Family>,
    /// Keys in the heap, the root's hole included.
    keys: usize,
    hole: bool,
    sequence: u64,
}

/// Four siblings: one cache line, so that a level costs one miss.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Family([u128; 4]);

/// Families from which on [`Queue::upcoming`] looks ahead: 2048 events.
const CROWDED: usize = 512;

/// Comes after every event.
const NEVER: u128 = u128::MAX;

impl Family {
    /// Position and key of the least member.
    #[inline(always)]
    #[expect(
        clippy::many_single_char_names,
        reason = "taken apart into registers; indexed, it stays in memory"
    )]
    const fn least(&self) -> (usize, u128) {
        let [a, b, c, d] = self.0;
        // A tournament in two independent halves: the comparisons become conditional moves.
        let (left, l) = if b < a { (1, b) } else { (0, a) };
        let (right, r) = if d < c { (3, d) } else { (2, c) };
        if r < l { (right, r) } else { (left, l) }
    }
}

impl Queue {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of pending events.
    pub fn len(&self) -> usize {
        self.keys - usize::from(self.hole)
    }

    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Places in the order of events given away so far.
    pub const fn scheduled(&self) -> u64 {
        self.sequence
    }

    /// Reserves a place in the order of events without scheduling anything yet.
    #[inline]
    pub const fn next_sequence(&mut self) -> u64 {
        let sequence = self.sequence;
        self.sequence += 1;
        sequence
    }

    /// Schedules `payload` at `at`, behind everything scheduled for the same instant so far.
    #[inline]
    pub fn push(&mut self, at: Time, payload: Payload) {
        let sequence = self.next_sequence();
        self.push_as(at, sequence, payload);
    }

    /// Schedules `payload` at `at` with a sequence number reserved earlier.
    #[inline]
    pub fn push_as(&mut self, at: Time, sequence: u64, payload: Payload) {
        debug_assert!(sequence < MAX_EVENTS);
        let key = u128::from(at.0) << 64 | u128::from(sequence << 28 | u64::from(payload.0));
        if self.hole {
            self.hole = false;
            self.sift_down(key);
        } else {
            self.sift_up(key);
        }
    }

    /// The next event.
    #[inline]
    pub fn pop(&mut self) -> Option<(Time, Payload)> {
        if self.hole {
            self.hole = false;
            self.fill_hole();
        }
        if self.keys == 0 {
            return None;
        }
        let key = self.root;
        self.hole = true;
        Some((Time((key >> 64) as u64), Payload(key as u32 & 0x0fff_ffff)))
    }

    /// What comes after the event handed out last, unless its handler pushes something earlier. Only told where so much
    /// is pending that the working set of the model is unlikely to be in the cache.
    #[inline]
    pub fn upcoming(&self) -> Option<Payload> {
        if self.families.len() < CROWDED {
            return None;
        }
        Some(Payload(self.families[0].least().1 as u32 & 0x0fff_ffff))
    }

    /// Nothing was pushed since the last pop: the last key takes the place of the root.
    fn fill_hole(&mut self) {
        self.keys -= 1;
        if self.keys > 0 {
            let number = self.keys - 1;
            let last = std::mem::replace(&mut self.families[number / 4].0[number % 4], NEVER);
            self.sift_down(last);
        }
    }

    /// Puts `key` behind all others and lets it rise.
    fn sift_up(&mut self, key: u128) {
        self.keys += 1;
        let Some(mut at) = self.keys.checked_sub(2) else {
            self.root = key;
            return;
        };
        if at / 4 == self.families.len() {
            self.add_family();
        }
        while let Some(parent) = (at / 4).checked_sub(1) {
            let above = self.families[parent / 4].0[parent % 4];
            if above <= key {
                self.families[at / 4].0[at % 4] = key;
                return;
            }
            self.families[at / 4].0[at % 4] = above;
            at = parent;
        }
        self.families[0].0[at] = self.root.max(key);
        self.root = self.root.min(key);
    }

    #[cold]
    fn add_family(&mut self) {
        let length = self.families.len();
        if length == self.families.capacity() {
            // Small steps instead of doubling: with many events pending, memory matters more than copies.
            self.families.reserve_exact(length / 8 + 256);
        }
        self.families.push(Family([NEVER; 4]));
    }

    /// Puts `key` into the hole and lets it sink.
    #[inline]
    fn sift_down(&mut self, key: u128) {
        let families = self.families.as_mut_slice();
        let (mut at, least) = families.first().map_or((0, NEVER), Family::least);
        if key <= least {
            self.root = key;
            return;
        }
        self.root = least;
        while let Some(family) = families.get(at + 1) {
            let (member, least) = family.least();
            if key <= least {
                break;
            }
            families[at / 4].0[at % 4] = least;
            at = 4 * (at + 1) + member;
        }
        families[at / 4].0[at % 4] = key;
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The queue is invisible to results: it agrees with a sorted list under any mix of pushes and pops.
        #[test]
        fn agrees_with_the_standard_heap(ops in prop::collection::vec((0u64..50, 0u8..3), 1..400)) {
            let mut queue = Queue::new();
            let mut oracle = BinaryHeap::new();
            let mut sequence = 0u32;
            for (at, op) in ops {
                if op < 2 {
                    queue.push(Time(at), Payload::new(1, sequence));
                    oracle.push(Reverse((at, sequence)));
                    sequence += 1;
                } else {
                    let expected = oracle.pop().map(|Reverse((at, index))| (Time(at), Payload::new(1, index)));
                    prop_assert_eq!(queue.pop(), expected);
                }
                prop_assert_eq!(queue.len(), oracle.len());
            }
            while let Some(Reverse((at, index))) = oracle.pop() {
                prop_assert_eq!(queue.pop(), Some((Time(at), Payload::new(1, index))));
            }
            prop_assert_eq!(queue.pop(), None);
        }
    }
}
