//! Two counters per key: this window's, and the last one's by the share of it that still counts.
//!
//! ## What it does
//! Windows are aligned to the clock. The estimate is the count of this window plus the count of the last, weighed by the
//! share of it that lies within one window of now, rounded down. A request passes if the estimate plus its cost stays within
//! `limit`; refused requests are not counted.
//!
//! ## When it helps
//! Nearly a sliding window at the price of two numbers: the usual choice at the edge, where there are millions of keys.
//!
//! ## How it fails
//! It supposes that the last window's requests came evenly: after a burst late in a window it refuses too little, after an
//! early one too much.
//!
//! ## Settings
//! * `limit` (required): cost admitted per window. A request that costs more is never admitted.
//! * `window` (required): length of a window.
//!
//! ## Origin
//! The Python package limits 5.8.0, `SlidingWindowCounterRateLimiter` over `MemoryStorage`
//! (`acquire_sliding_window_entry`).
//!
//! ## Deliberate differences
//! Whole nanoseconds and exact fractions instead of floating-point seconds; windows are aligned to the start of the run,
//! upstream's to the Unix epoch.

use super::fixed_window::WindowSettings;
use super::{Limiter, admitted};
use crate::policies::Algorithm;
use crate::policies::view::Admit;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct SlidingWindowCounter {
    limit: u32,
    window: u64,
    /// Number of the window that `current` counts.
    number: u64,
    previous: u32,
    current: u32,
}

impl Algorithm for SlidingWindowCounter {
    type Settings = WindowSettings;

    fn new(settings: &WindowSettings, now: Time) -> Self {
        let window = settings.window.0;
        Self { limit: settings.limit.get(), window, number: now.0 / window, previous: 0, current: 0 }
    }
}

impl SlidingWindowCounter {
    /// Counts of the last and the present window, as seen from window `number`.
    #[inline]
    const fn counts(&self, number: u64) -> (u32, u32) {
        match number - self.number {
            0 => (self.previous, self.current),
            1 => (self.current, 0),
            _ => (0, 0),
        }
    }

    /// The estimate after `elapsed` of a window.
    #[inline]
    fn estimate(&self, (previous, current): (u32, u32), elapsed: u64) -> u32 {
        let share = u128::from(previous) * u128::from(self.window - elapsed) / u128::from(self.window);
        share as u32 + current
    }

    /// Time of its window after which at most `room` of the last window counts; the window's length if none of it does.
    fn faded(&self, previous: u32, room: u32) -> u64 {
        if previous <= room {
            return 0;
        }
        // The largest rest of the window with previous * rest < (room + 1) * window.
        let rest = (u128::from(room + 1) * u128::from(self.window) - 1) / u128::from(previous);
        self.window - rest as u64
    }
}

impl Limiter for SlidingWindowCounter {
    #[inline]
    fn try_acquire(&mut self, now: Time, cost: u32, _max_wait: Duration, _rng: &mut Rng) -> Admit {
        let (number, elapsed) = (now.0 / self.window, now.0 % self.window);
        if number != self.number {
            (self.previous, self.current) = self.counts(number);
            self.number = number;
        }
        if cost > self.limit {
            return Admit::Reject { until: None };
        }
        let room = self.limit - cost;
        if self.estimate((self.previous, self.current), elapsed) <= room {
            self.current += cost;
            return admitted(now, Duration::ZERO);
        }
        // In this window, or in one of the next two, of which the second finds nothing left.
        let start = now.0 - elapsed;
        let until = if self.current <= room {
            let faded = self.faded(self.previous, room - self.current);
            start.checked_add(faded)
        } else {
            start.checked_add(self.window).and_then(|next| next.checked_add(self.faded(self.current, room)))
        };
        Admit::Reject { until: until.map(Time) }
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        let estimate = self.estimate(self.counts(now.0 / self.window), now.0 % self.window);
        show("tokens", f64::from(self.limit.saturating_sub(estimate)));
        show("capacity", f64::from(self.limit));
    }
}
