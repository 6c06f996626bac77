//! The event queue: a 4-ary implicit heap over 128-bit keys with deferred pop.
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
#[derive(Debug)]
pub struct Queue {
    /// Implicit 4-ary min-heap; while `hole` is set, the root is already handed out. The last group of four children is
    /// filled up with [`NEVER`], so that every group that is looked at is whole.
    heap: Vec<u128>,
    /// Keys in `heap`, the root's hole included.
    keys: usize,
    hole: bool,
    sequence: u64,
}

/// Comes after every event.
const NEVER: u128 = u128::MAX;

/// Children of a node.
const CHILDREN: usize = 4;

impl Default for Queue {
    fn default() -> Self {
        Self::new()
    }
}

impl Queue {
    /// An empty queue.
    pub fn new() -> Self {
        let mut heap = Vec::with_capacity(1024);
        heap.push(NEVER);
        Self { heap, keys: 0, hole: false, sequence: 0 }
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
            let at = self.keys;
            if at == self.heap.len() {
                self.add_group();
            }
            self.keys += 1;
            self.sift_up(at, key);
        }
    }

    /// The next event.
    #[inline]
    pub fn pop(&mut self) -> Option<(Time, Payload)> {
        if self.hole {
            self.hole = false;
            self.keys -= 1;
            let last = std::mem::replace(&mut self.heap[self.keys], NEVER);
            if self.keys > 0 {
                self.sift_down(last);
            }
        }
        if self.keys == 0 {
            return None;
        }
        let key = self.heap[0];
        self.hole = true;
        Some((Time((key >> 64) as u64), Payload(key as u32 & 0x0fff_ffff)))
    }

    #[cold]
    fn add_group(&mut self) {
        let length = self.heap.len();
        if length + CHILDREN > self.heap.capacity() {
            // Small steps instead of doubling: with many events pending, memory matters more than copies.
            self.heap.reserve_exact(length / 8 + 1024);
        }
        self.heap.resize(length + CHILDREN, NEVER);
    }

    #[inline]
    fn sift_up(&mut self, mut at: usize, key: u128) {
        let heap = self.heap.as_mut_slice();
        while at > 0 {
            let parent = (at - 1) / CHILDREN;
            if heap[parent] <= key {
                break;
            }
            heap[at] = heap[parent];
            at = parent;
        }
        heap[at] = key;
    }

    /// Puts `key` at the root and lets it sink.
    #[inline]
    fn sift_down(&mut self, key: u128) {
        let heap = self.heap.as_mut_slice();
        let mut at = 0;
        while let Some(&[a, b, c, d]) = heap.get(at * CHILDREN + 1..at * CHILDREN + 1 + CHILDREN) {
            let first = at * CHILDREN + 1;
            // A tournament in two independent halves: the comparisons become conditional moves.
            let (left, l) = if b < a { (first + 1, b) } else { (first, a) };
            let (right, r) = if d < c { (first + 3, d) } else { (first + 2, c) };
            let (smallest, least) = if r < l { (right, r) } else { (left, l) };
            if key <= least {
                break;
            }
            heap[at] = least;
            at = smallest;
        }
        heap[at] = key;
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
