//! Token bucket that forgets fractions of a token: a documented bug, kept under its own name.
//!
//! ## What it does
//! As `seed-token-bucket`, but every request resets the clock of the refill and throws away what the elapsed time had
//! brought beyond whole tokens.
//!
//! ## When it helps
//! Only to see what the bug does to a system that has it, beside the sound form on the same load.
//!
//! ## How it fails
//! Asked more often than once per token time, it never refills: at `fill-rate = "50/s"`, requests less than 20 ms apart
//! starve for ever once the first `capacity` of them have passed. The busier the client, the stricter the limit.
//!
//! ## Settings
//! * `capacity` (required): tokens in a full bucket.
//! * `fill-rate` (required): tokens gained, as in `"50/s"`.
//!
//! ## Origin
//! The token bucket as printed in the third of the articles that simlab grew from (floor of elapsed time times rate, then
//! the timestamp is set to now); pinned by `tests/vectors/limiter/seed_token_bucket_naive.json`.
//!
//! ## Deliberate differences
//! It never makes a caller wait. The instant that a refusal promises holds only if nobody asks in between: asking resets
//! the clock.

use super::Limiter;
use super::seed_token_bucket::{FillRate, SeedTokenBucketSettings};
use crate::policies::Algorithm;
use crate::policies::view::{Admit, Permit};
use crate::random::Rng;
use crate::time::{Duration, Time};

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct SeedTokenBucketNaive {
    tokens: u64,
    capacity: u64,
    /// When somebody asked last.
    last: Time,
    fill: FillRate,
}

impl Algorithm for SeedTokenBucketNaive {
    type Settings = SeedTokenBucketSettings;

    fn new(settings: &SeedTokenBucketSettings, now: Time) -> Self {
        let capacity = u64::from(settings.capacity);
        Self { tokens: capacity, capacity, last: now, fill: FillRate::new(settings.fill_rate) }
    }
}

impl SeedTokenBucketNaive {
    #[inline]
    fn refilled(&self, now: Time) -> u64 {
        let (gained, _forgotten) = self.fill.gain(now - self.last, 0);
        self.tokens.saturating_add(gained).min(self.capacity)
    }
}

impl Limiter for SeedTokenBucketNaive {
    #[inline]
    fn try_acquire(&mut self, now: Time, cost: u32, _max_wait: Duration, _rng: &mut Rng) -> Admit {
        self.tokens = self.refilled(now);
        self.last = now;
        let cost = u64::from(cost);
        if cost <= self.tokens {
            self.tokens -= cost;
            Admit::Now(Permit { generation: 0, slot: 0, start: now })
        } else if cost <= self.capacity {
            let wait = self.fill.time_for(cost - self.tokens, 0);
            Admit::Reject { until: wait.map(|wait| now + wait) }
        } else {
            Admit::Reject { until: None }
        }
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("tokens", self.refilled(now) as f64);
        show("capacity", self.capacity as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;
    use crate::units::Rate;

    fn rng() -> Rng {
        Key::new(0).rng()
    }

    #[test]
    fn polling_starves_it() {
        let settings = SeedTokenBucketSettings { capacity: 3, fill_rate: Rate(50.0) };
        let mut bucket = SeedTokenBucketNaive::new(&settings, Time::ZERO);
        let granted = (0..1000)
            .filter(|i| {
                matches!(
                    bucket.try_acquire(Time::from_millis(i * 19), 1, Duration::ZERO, &mut rng()),
                    Admit::Now(_)
                )
            })
            .count();
        assert_eq!(granted, 3);
    }
}
