//! Token bucket with whole tokens, whose refill loses nothing to rounding.
//!
//! ## What it does
//! The bucket starts full with `capacity` tokens and gains `fill-rate`. At every request the tokens of the time since the
//! last one are added (whole tokens; the fraction is carried exactly), the bucket is cut at its capacity, and the request
//! passes if it finds as many tokens as it costs. A full bucket carries no fraction.
//!
//! ## When it helps
//! To hold a client or an endpoint to a rate while allowing bursts of up to `capacity`: fair use, protection of a
//! dependency with a known capacity.
//!
//! ## How it fails
//! The rate is a guess about capacity: when the service slows down or loses instances, the bucket goes on admitting the old
//! rate. Every client (or instance) has a bucket of its own, so the total grows with their number. After a quiet time a
//! burst of `capacity` passes at once.
//!
//! ## Settings
//! * `capacity` (required): tokens in a full bucket. A request that costs more is never admitted.
//! * `fill-rate` (required): tokens gained, as in `"50/s"` or `"90/min"`.
//!
//! ## Origin
//! The token bucket described in the third of the articles that simlab grew from (capacity, fill rate, integer refill),
//! with the remainder carried; simlab's own definition, pinned by `tests/vectors/limiter/seed_token_bucket.json`.
//!
//! ## Deliberate differences
//! * The code printed with the article drops the fraction at every look: see `seed-token-bucket-naive`.
//! * It never makes a caller wait, whatever it offers to wait; a refusal says exactly when the same request would pass.
//! * The rate is kept as an exact fraction where it is a whole number per second, minute, hour or day (or of thousandths
//!   per second), else rounded to a millionth token per second.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Limiter;
use crate::policies::Algorithm;
use crate::policies::view::{Admit, Permit};
use crate::random::Rng;
use crate::time::{Duration, Time};
use crate::units::Rate;

/// Settings of `limiter.seed-token-bucket` and `limiter.seed-token-bucket-naive`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SeedTokenBucketSettings {
    /// Tokens in a full bucket.
    pub capacity: u32,
    /// Tokens gained.
    pub fill_rate: Rate,
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct SeedTokenBucket {
    tokens: u64,
    capacity: u64,
    /// What the time up to `last` has brought beyond whole tokens.
    carry: u64,
    /// Up to when the refill is accounted for.
    last: Time,
    fill: FillRate,
}

impl Algorithm for SeedTokenBucket {
    type Settings = SeedTokenBucketSettings;

    fn new(settings: &SeedTokenBucketSettings, now: Time) -> Self {
        let capacity = u64::from(settings.capacity);
        Self { tokens: capacity, capacity, carry: 0, last: now, fill: FillRate::new(settings.fill_rate) }
    }
}

impl SeedTokenBucket {
    /// Tokens and carry as they are at `now`.
    #[inline]
    fn refilled(&self, now: Time) -> (u64, u64) {
        let (gained, carry) = self.fill.gain(now - self.last, self.carry);
        let tokens = self.tokens.saturating_add(gained);
        if tokens >= self.capacity { (self.capacity, 0) } else { (tokens, carry) }
    }
}

impl Limiter for SeedTokenBucket {
    #[inline]
    fn try_acquire(&mut self, now: Time, cost: u32, _max_wait: Duration, _rng: &mut Rng) -> Admit {
        if now > self.last {
            (self.tokens, self.carry) = self.refilled(now);
            self.last = now;
        }
        let cost = u64::from(cost);
        if cost <= self.tokens {
            self.tokens -= cost;
            Admit::Now(Permit { generation: 0, slot: 0, start: now })
        } else if cost <= self.capacity {
            let wait = self.fill.time_for(cost - self.tokens, self.carry);
            Admit::Reject { until: wait.map(|wait| now + wait) }
        } else {
            Admit::Reject { until: None }
        }
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("tokens", self.refilled(now).0 as f64);
        show("capacity", self.capacity as f64);
    }
}

/// Tokens per nanosecond, as the fraction `num / den` in lowest terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FillRate {
    num: u64,
    den: u64,
}

impl FillRate {
    pub(super) fn new(rate: Rate) -> Self {
        // The spans of time for which people write rates, and decimal fractions; the first that makes the rate whole.
        const SPANS: [u64; 8] = [1, 60, 3600, 86_400, 10, 100, 1000, 1_000_000];
        let exact = |span: &&u64| {
            let count = rate.0 * **span as f64;
            count >= 1.0 && (count - count.round()).abs() <= 1e-12 * count
        };
        let span = *SPANS.iter().find(exact).unwrap_or(&SPANS[7]);
        let (num, den) = ((rate.0 * span as f64).round() as u64, 1_000_000_000 * span);
        let divisor = gcd(num, den);
        Self { num: num / divisor, den: den / divisor }
    }

    /// Whole tokens gained over `elapsed` on top of `carry` (counted in `1 / den` tokens), and the new carry.
    #[inline]
    pub(super) fn gain(self, elapsed: Duration, carry: u64) -> (u64, u64) {
        let gained = u128::from(elapsed.0) * u128::from(self.num) + u128::from(carry);
        if let Ok(gained) = u64::try_from(gained) {
            return (gained / self.den, gained % self.den);
        }
        // Only after a very long idle time; 128-bit divisions are slow.
        let den = u128::from(self.den);
        (u64::try_from(gained / den).unwrap_or(u64::MAX), (gained % den) as u64)
    }

    /// The shortest time in which `missing` (at least 1) tokens are gained on top of `carry`; `None` if they never are.
    #[inline]
    pub(super) fn time_for(self, missing: u64, carry: u64) -> Option<Duration> {
        if self.num == 0 {
            return None;
        }
        let due = u128::from(missing) * u128::from(self.den) - u128::from(carry);
        match u64::try_from(due) {
            Ok(due) => Some(Duration(due.div_ceil(self.num))),
            Err(_) => u64::try_from(due.div_ceil(u128::from(self.num))).ok().map(Duration),
        }
    }
}

/// Greatest common divisor; `b` must not be 0.
fn gcd(mut a: u64, mut b: u64) -> u64 {
    while a != 0 {
        (a, b) = (b % a, a);
    }
    b
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    fn bucket(capacity: u32, rate: f64) -> SeedTokenBucket {
        SeedTokenBucket::new(&SeedTokenBucketSettings { capacity, fill_rate: Rate(rate) }, Time::ZERO)
    }

    fn rng() -> Rng {
        Key::new(0).rng()
    }

    #[test]
    fn rates_are_exact_fractions() {
        let fraction = |rate: f64| {
            let FillRate { num, den } = FillRate::new(Rate(rate));
            (num, den)
        };
        assert_eq!(fraction(50.0), (1, 20_000_000));
        assert_eq!(fraction(1.5), (3, 2_000_000_000));
        assert_eq!(fraction(7.0 / 86_400.0), (7, 86_400_000_000_000));
        assert_eq!(fraction(10.0 / 3600.0), (1, 360_000_000_000));
        assert_eq!(fraction(0.125), (1, 8_000_000_000));
        assert_eq!(fraction(0.0), (0, 1));
    }

    #[test]
    fn no_fraction_is_ever_lost() {
        // Polled every 7 ns for a long time, three per second are three per second.
        let mut bucket = bucket(10, 3.0);
        let (mut granted, mut now) = (0, Time::ZERO);
        while now < Time::from_millis(100) {
            granted +=
                u32::from(matches!(bucket.try_acquire(now, 1, Duration::ZERO, &mut rng()), Admit::Now(_)));
            now += Duration(7);
        }
        assert_eq!(granted, 10);
        // 0.3 tokens were carried since 100 ms; the next whole one comes at 1/3 s.
        let Admit::Reject { until } = bucket.try_acquire(now, 1, Duration::ZERO, &mut rng()) else {
            panic!()
        };
        assert_eq!(until, Some(Time(333_333_334)));
    }

    #[test]
    fn what_costs_more_than_the_bucket_holds_never_passes() {
        assert_eq!(
            bucket(5, 1.0).try_acquire(Time::ZERO, 6, Duration::MAX, &mut rng()),
            Admit::Reject { until: None }
        );
        let mut dry = bucket(1, 0.0);
        assert!(matches!(dry.try_acquire(Time::ZERO, 1, Duration::ZERO, &mut rng()), Admit::Now(_)));
        assert_eq!(dry.try_acquire(Time::MAX, 1, Duration::ZERO, &mut rng()), Admit::Reject { until: None });
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut bucket = bucket(u32::MAX, 1e9);
        assert!(matches!(
            bucket.try_acquire(Time::ZERO, u32::MAX, Duration::ZERO, &mut rng()),
            Admit::Now(_)
        ));
        assert!(matches!(bucket.try_acquire(Time::MAX, u32::MAX, Duration::ZERO, &mut rng()), Admit::Now(_)));
        assert!(matches!(bucket.try_acquire(Time::MAX, 1, Duration::ZERO, &mut rng()), Admit::Reject { .. }));
    }
}
