//! Requests and successes of the last window, in portions.

use crate::time::{Duration, Time};

/// Counts of one portion.
#[derive(Clone, Copy, Debug, Default)]
struct Portion {
    start: Time,
    requests: u64,
    successes: u64,
}

/// A ring of portions: a portion takes what comes within `granularity` of its start, and counts until it is as old as the window.
#[derive(Clone, Debug)]
pub(super) struct History {
    ring: Box<[Portion]>,
    window: Duration,
    granularity: Duration,
    oldest: usize,
    len: usize,
    requests: u64,
    successes: u64,
}

impl History {
    /// An empty history; `granularity` must not be zero.
    pub(super) fn new(window: Duration, granularity: Duration) -> Self {
        // Starts are a granularity apart, and all are younger than the window.
        let portions = window.0.div_ceil(granularity.0) as usize + 1;
        let ring = vec![Portion::default(); portions].into();
        Self { ring, window, granularity, oldest: 0, len: 0, requests: 0, successes: 0 }
    }

    fn position(&self, n: usize) -> usize {
        (self.oldest + n) % self.ring.len()
    }

    fn expired(&self, portion: &Portion, now: Time) -> bool {
        now - portion.start >= self.window
    }

    /// Forgets what is too old and opens a new portion if it is time.
    pub(super) fn turn(&mut self, now: Time) {
        while self.len > 0 && self.expired(&self.ring[self.oldest], now) {
            self.requests -= self.ring[self.oldest].requests;
            self.successes -= self.ring[self.oldest].successes;
            self.oldest = self.position(1);
            self.len -= 1;
        }
        let newest = self.position(self.len.saturating_sub(1));
        if self.len == 0 || now - self.ring[newest].start >= self.granularity {
            let next = self.position(self.len);
            self.ring[next] = Portion { start: now, ..Portion::default() };
            self.len += 1;
        }
    }

    /// Adds to the newest portion.
    pub(super) fn record(&mut self, now: Time, requests: u64, successes: u64) {
        self.turn(now);
        let newest = self.position(self.len - 1);
        self.ring[newest].requests += requests;
        self.ring[newest].successes += successes;
        self.requests += requests;
        self.successes += successes;
    }

    /// Requests and successes as of the last turn.
    pub(super) const fn totals(&self) -> (u64, u64) {
        (self.requests, self.successes)
    }

    /// Requests and successes as a turn at `now` would leave them.
    pub(super) fn totals_at(&self, now: Time) -> (u64, u64) {
        let portions = (0..self.len).map(|n| &self.ring[self.position(n)]);
        let (mut requests, mut successes) = (self.requests, self.successes);
        for portion in portions.take_while(|portion| self.expired(portion, now)) {
            requests -= portion.requests;
            successes -= portion.successes;
        }
        (requests, successes)
    }

    /// Age of the oldest portion.
    pub(super) fn age(&self, now: Time) -> Duration {
        if self.len == 0 { Duration::ZERO } else { now - self.ring[self.oldest].start }
    }
}
