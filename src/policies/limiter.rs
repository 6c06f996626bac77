//! Limiters: refuse or delay work so that what is admitted can be served.

mod bounds;

/// Lets `check` have the last word on settings that serde has read (they derive `Deserialize` with `remote = "Self"`).
macro_rules! checked {
    ($Settings:ident) => {
        impl<'de> serde::Deserialize<'de> for $Settings {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let settings = Self::deserialize(deserializer)?;
                settings.check().map_err(serde::de::Error::custom)?;
                Ok(settings)
            }
        }
    };
}

pub mod aimd;
pub mod bulkhead;
pub mod envoy_adaptive_concurrency;
pub mod envoy_admission_control;
pub mod envoy_circuit_breakers;
pub mod envoy_local_rate_limit;
pub mod fixed_window;
pub mod gcra;
pub mod gradient;
pub mod gradient2;
mod history;
pub mod lifo_blocking;
pub mod partitioned;
pub mod resilience4j_rate_limiter;
pub mod seed_token_bucket;
pub mod seed_token_bucket_naive;
pub mod sentinel_throttling;
pub mod sentinel_warm_up;
pub mod simple;
pub mod sliding_window_counter;
pub mod sliding_window_log;
pub mod smooth_bursty;
pub mod smooth_warming_up;
pub mod sre_adaptive_throttle;
pub mod token_bucket;
pub mod vegas;
pub mod windowed;

use super::view::{Admit, Outcome, Permit};
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Admits work by rate or by concurrency, at the caller or at the callee.
pub trait Limiter {
    /// May work of `cost` units start now, or within `max_wait`? How long work waits is a setting of the policy;
    /// `max_wait` is the longest that the asker allows.
    fn try_acquire(&mut self, now: Time, cost: u32, max_wait: Duration, rng: &mut Rng) -> Admit;

    /// The work admitted with `permit` ended.
    fn on_outcome(&mut self, _now: Time, _permit: Permit, _outcome: &Outcome, _rng: &mut Rng) {}

    /// The same for work of this priority (larger is more important), by a policy that tells them apart.
    fn try_acquire_of(
        &mut self,
        now: Time,
        _priority: u8,
        cost: u32,
        max_wait: Duration,
        rng: &mut Rng,
    ) -> Admit {
        self.try_acquire(now, cost, max_wait, rng)
    }

    /// Where work may wait that is refused without an instant, if it may. Each time other work ends, the one whose turn
    /// it is asks again.
    fn waiting_room(&self) -> Option<WaitingRoom> {
        None
    }

    /// What charts show: named readings at `now` (tokens left, in flight, limit).
    fn gauges(&self, _now: Time, _show: &mut dyn FnMut(&'static str, f64)) {}
}

/// How work waits until a limiter has room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingRoom {
    /// So many may wait at a time.
    pub places: u32,
    /// Longest wait; then the work is refused.
    pub max_wait: Duration,
    /// The newest asks first, not the oldest.
    pub newest_first: bool,
}

/// Admitted after `wait`, by a policy that keeps nothing of it.
#[inline]
const fn admitted(now: Time, wait: Duration) -> Admit {
    let start = Time(now.0.saturating_add(wait.0));
    let permit = Permit { generation: 0, slot: 0, start };
    if wait.0 == 0 { Admit::Now(permit) } else { Admit::At(start, permit) }
}

/// Admitted at once, by a policy that wants to know the cost when the work ends.
#[inline]
const fn admitted_with(now: Time, cost: u32) -> Admit {
    Admit::Now(Permit { generation: 0, slot: cost, start: now })
}

/// The first instant after `now` from which `passes` is true, if it is false until then and true for ever after; `guess` is
/// near it. For policies that count in floating point, where the formula may be a few nanoseconds off.
fn first_instant(now: Time, guess: Time, passes: impl Fn(Time) -> bool) -> Option<Time> {
    let (mut before, mut after) = (now.0, guess.0.max(now.0.checked_add(1)?));
    let mut step = 1;
    if passes(Time(after)) {
        while after - before > step && passes(Time(after - step)) {
            after -= step;
            step *= 2;
        }
        before = before.max(after.saturating_sub(step));
    } else {
        loop {
            before = after;
            after = after.checked_add(step)?;
            step = step.saturating_mul(2);
            if passes(Time(after)) {
                break;
            }
        }
    }
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if passes(Time(middle)) { after = middle } else { before = middle }
    }
    Some(Time(after))
}

registry! {
    ($)
    /// A limiter and its settings, as written in a scenario.
    LimiterSettings,
    /// Any limiter, by value.
    AnyLimiter: Limiter,
    family "limiter" in "limiter",
    "seed-token-bucket" => seed_token_bucket::SeedTokenBucket,
    "seed-token-bucket-naive" => seed_token_bucket_naive::SeedTokenBucketNaive,
    "token-bucket" => token_bucket::TokenBucket,
    "gcra" => gcra::Gcra,
    "fixed-window" => fixed_window::FixedWindow,
    "sliding-window-log" => sliding_window_log::SlidingWindowLog,
    "sliding-window-counter" => sliding_window_counter::SlidingWindowCounter,
    "smooth-bursty" => smooth_bursty::SmoothBursty,
    "smooth-warming-up" => smooth_warming_up::SmoothWarmingUp,
    "sentinel-throttling" => sentinel_throttling::SentinelThrottling,
    "sentinel-warm-up" => sentinel_warm_up::SentinelWarmUp,
    "resilience4j-rate-limiter" => resilience4j_rate_limiter::Resilience4jRateLimiter,
    "envoy-local-rate-limit" => envoy_local_rate_limit::EnvoyLocalRateLimit,
    "bulkhead" => bulkhead::Bulkhead,
    "aimd" => aimd::Aimd,
    "vegas" => vegas::Vegas,
    "gradient" => gradient::Gradient,
    "gradient2" => gradient2::Gradient2,
    "windowed" => windowed::Windowed,
    "partitioned" => partitioned::Partitioned,
    "lifo-blocking" => lifo_blocking::LifoBlocking,
    "envoy-adaptive-concurrency" => envoy_adaptive_concurrency::EnvoyAdaptiveConcurrency,
    "sre-adaptive-throttle" => sre_adaptive_throttle::SreAdaptiveThrottle,
    "envoy-admission-control" => envoy_admission_control::EnvoyAdmissionControl,
    "envoy-circuit-breakers" => envoy_circuit_breakers::EnvoyCircuitBreakers,
}

// One cache line: every client of every limited edge, and every limited instance, holds one.
const _: () = assert!(size_of::<AnyLimiter>() <= 64);

impl Limiter for AnyLimiter {
    #[inline]
    fn try_acquire(&mut self, now: Time, cost: u32, max_wait: Duration, rng: &mut Rng) -> Admit {
        dispatch!(self, policy => policy.try_acquire(now, cost, max_wait, rng))
    }

    #[inline]
    fn on_outcome(&mut self, now: Time, permit: Permit, outcome: &Outcome, rng: &mut Rng) {
        dispatch!(self, policy => policy.on_outcome(now, permit, outcome, rng));
    }

    #[inline]
    fn try_acquire_of(
        &mut self,
        now: Time,
        priority: u8,
        cost: u32,
        max_wait: Duration,
        rng: &mut Rng,
    ) -> Admit {
        dispatch!(self, policy => policy.try_acquire_of(now, priority, cost, max_wait, rng))
    }

    fn waiting_room(&self) -> Option<WaitingRoom> {
        dispatch!(self, policy => policy.waiting_room())
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        dispatch!(self, policy => policy.gauges(now, show));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    fn limiter(settings: &str) -> AnyLimiter {
        serde_json::from_str::<LimiterSettings>(settings).unwrap().build(Time::ZERO)
    }

    fn passes(limiter: &mut AnyLimiter, now: Time) -> bool {
        matches!(limiter.try_acquire(now, 1, Duration::ZERO, &mut Key::new(0).rng()), Admit::Now(_))
    }

    /// Arrivals of a Poisson process with `rate` per second.
    fn arrivals(rate: f64) -> impl Iterator<Item = Time> {
        let mut rng = Key::new(1).rng();
        let mut now = Time::ZERO;
        std::iter::from_fn(move || {
            now += Duration::from_secs_f64(-libm::log(1.0 - rng.unit()) / rate);
            Some(now)
        })
    }

    #[test]
    fn without_bursts_poisson_traffic_meets_a_dead_time() {
        // Each request that passes shuts the door for T = 10 ms: of traffic r, r T / (1 + r T) is refused.
        let settings = [
            r#"{"gcra": {"replenish-1-per": "10ms"}}"#,
            r#"{"token-bucket": {"rate": "100/s", "burst": 1}}"#,
            r#"{"sentinel-throttling": {"count": 100, "max-queueing-time": "0s"}}"#,
        ];
        for (settings, rate) in
            settings.into_iter().flat_map(|text| [30.0, 100.0, 400.0].map(|rate| (text, rate)))
        {
            let mut limiter = limiter(settings);
            let n = 200_000;
            let refused = arrivals(rate).take(n).filter(|&now| !passes(&mut limiter, now)).count();
            let (expected, got) = (rate * 0.01 / (1.0 + rate * 0.01), refused as f64 / n as f64);
            // Four standard errors of independent draws; renewals scatter less. Sentinel rounds to milliseconds: half of one.
            let rounding = if settings.contains("sentinel") { 0.05 * expected } else { 0.0 };
            assert!(
                (got - expected).abs() < 4.0 * (0.25 / n as f64).sqrt() + rounding,
                "{settings}: {got}, {expected}"
            );
        }
    }

    #[test]
    fn a_bucket_and_the_cell_rate_algorithm_are_the_same() {
        // 1/128 s is exact in binary, so that both count exactly.
        let mut bucket = limiter(r#"{"token-bucket": {"rate": "128/s", "burst": 7}}"#);
        let mut cells = limiter(r#"{"gcra": {"replenish-1-per": "7812500ns", "max-burst": 7}}"#);
        let mut refused = 0;
        for now in arrivals(150.0).take(50_000) {
            let answer = passes(&mut bucket, now);
            assert_eq!(answer, passes(&mut cells, now), "at {now:?}");
            refused += u32::from(!answer);
        }
        assert!(refused > 5000, "{refused}");
    }

    #[test]
    fn contradictions_are_refused_by_rule() {
        let refusals = [
            r#"{"aimd": {"min-limit": 30, "max-limit": 20}}"#,
            r#"{"aimd": {"backoff-ratio": 1}}"#,
            r#"{"aimd": {"min-limit": 0}}"#,
            r#"{"vegas": {"smoothing": 0}}"#,
            r#"{"gradient": {"rtt-tolerance": 0.9}}"#,
            r#"{"gradient2": {"min-limit": 300}}"#,
            r#"{"windowed": {"min-window-time": "2s"}}"#,
            r#"{"windowed": {"delegate": {"bulkhead": {}}}}"#,
            r#"{"token-bucket": {"rate": "0/s", "burst": 1}}"#,
            r#"{"sliding-window-log": {"limit": 2000000, "window": "1s"}}"#,
            r#"{"fixed-window": {"limit": 2, "window": "0s"}}"#,
            r#"{"sentinel-throttling": {"count": 0}}"#,
            r#"{"sentinel-throttling": {"count": 5, "stat-duration": "1500us"}}"#,
            r#"{"sentinel-warm-up": {"count": "5/s", "cold-factor": 1}}"#,
            r#"{"sentinel-warm-up": {"count": "1/s", "warm-up-period": "1s"}}"#,
            r#"{"envoy-local-rate-limit": {"max-tokens": 5, "fill-interval": "10ms"}}"#,
            r#"{"envoy-admission-control": {"sampling-window": "1500ms"}}"#,
            r#"{"envoy-admission-control": {"sr-threshold": "0%"}}"#,
            r#"{"sre-adaptive-throttle": {"resolution": "1ms"}}"#,
            r#"{"bulkhead": {"max-concurrent": 0, "max-wait": "10ms"}}"#,
            r#"{"partitioned": {"partitions": []}}"#,
            r#"{"partitioned": {"partitions": [{"priority": 1, "percent": "60%"}, {"priority": 0, "percent": "50%"}]}}"#,
            r#"{"partitioned": {"partitions": [{"priority": 1, "percent": "60%"}, {"priority": 1, "percent": "20%"}]}}"#,
            r#"{"lifo-blocking": {"delegate": {"token-bucket": {"rate": "5/s", "burst": 1}}}}"#,
            r#"{"lifo-blocking": {"delegate": {"bulkhead": {"max-wait": "1s"}}}}"#,
            r#"{"lifo-blocking": {"backlog-timeout": "0s"}}"#,
            r#"{"envoy-circuit-breakers": {"max-connections": 5}}"#,
            r#"{"envoy-circuit-breakers": {"max-pending-requests": 5}}"#,
            r#"{"envoy-circuit-breakers": {"max-retries": 5}}"#,
        ];
        let message = |text| serde_json::from_str::<LimiterSettings>(text).unwrap_err().to_string();
        insta::assert_snapshot!(refusals.map(message).join("\n"));
    }
}
