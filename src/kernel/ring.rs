//! Timers with one constant delay, which therefore expire in the order in which they were armed.
//!
//! They need no heap: a ring keeps them in arming order and only the oldest stands in the event queue, with the sequence
//! number it was given when it was armed, so ties with other events are broken exactly as if every timer stood there.
//! Most timers are disarmed long before they are due; nobody removes them, the owner skips them when the ring asks.

use std::collections::VecDeque;

use super::queue::{Payload, Queue};
use crate::time::{Duration, Time};

/// All pending timers of one delay.
#[derive(Debug)]
pub struct Ring {
    delay: Duration,
    payload: Payload,
    /// (due, sequence << 24 | owner), oldest first.
    entries: VecDeque<(u64, u64)>,
    armed: bool,
}

impl Ring {
    /// A ring of timers that expire `delay` after they are armed; `payload` is the event that wakes it.
    pub const fn new(delay: Duration, payload: Payload) -> Self {
        Self { delay, payload, entries: VecDeque::new(), armed: false }
    }

    /// The delay.
    #[inline]
    pub const fn delay(&self) -> Duration {
        self.delay
    }

    /// Arms a timer for `owner` (below 2^24).
    #[inline]
    pub fn arm(&mut self, now: Time, owner: u32, queue: &mut Queue) {
        let sequence = queue.next_sequence();
        let due = now + self.delay;
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(self.entries.len() / 8 + 256);
        }
        self.entries.push_back((due.0, sequence << 24 | u64::from(owner)));
        if !self.armed {
            self.armed = true;
            queue.push_as(due, sequence, self.payload);
        }
    }

    /// To be called, until it answers `None`, when the ring's event fires: the next owner whose timer is due now. `live`
    /// tells whether the owner still waits for a timer due at the given instant; others are dropped. Before `None` the
    /// ring is armed again for its oldest live timer.
    #[inline]
    pub fn expire(
        &mut self,
        now: Time,
        queue: &mut Queue,
        mut live: impl FnMut(u32, Time) -> bool,
    ) -> Option<u32> {
        while let Some(&(due, stamp)) = self.entries.front() {
            let owner = (stamp & 0x00ff_ffff) as u32;
            if !live(owner, Time(due)) {
                self.entries.pop_front();
                continue;
            }
            if due > now.0 {
                queue.push_as(Time(due), stamp >> 24, self.payload);
                return None;
            }
            self.entries.pop_front();
            return Some(owner);
        }
        self.armed = false;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expires_in_order_and_skips_the_finished() {
        let (mut queue, payload) = (Queue::new(), Payload::new(5, 0));
        let mut ring = Ring::new(Duration(100), payload);
        for (at, owner) in [(0, 1), (10, 2), (10, 3), (40, 4)] {
            ring.arm(Time(at), owner, &mut queue);
        }
        assert_eq!(queue.len(), 1, "only the oldest stands in the queue");
        let mut fired = Vec::new();
        while let Some((now, event)) = queue.pop() {
            assert_eq!(event, payload);
            while let Some(owner) = ring.expire(now, &mut queue, |owner, _| owner != 2) {
                fired.push((now.0, owner));
            }
        }
        assert_eq!(fired, [(100, 1), (110, 3), (140, 4)]);
    }
}
