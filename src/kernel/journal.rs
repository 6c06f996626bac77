//! The fingerprint of a run: a word-wise fold over every event handled.

use super::queue::Payload;
use crate::time::Time;

/// Folds (time, payload) of every event into 64 bits. Two runs with equal digests handled the same events in the same
/// order (up to hash collisions); floats never enter.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    digest: u64,
    events: u64,
}

impl Journal {
    /// Adds one event.
    #[inline]
    pub const fn record(&mut self, time: Time, payload: Payload) {
        let word = time.0 ^ ((payload.0 as u64) << 36);
        self.digest = (self.digest.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.events += 1;
    }

    /// Adds a word of the model's own, e.g. the counters at the end.
    pub const fn fold(&mut self, word: u64) {
        self.digest = (self.digest.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// The fingerprint so far.
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// Events so far.
    #[inline]
    pub const fn events(&self) -> u64 {
        self.events
    }
}
