//! Sentinel's warm-up: the admitted rate rises to the limit over some time, and falls back when traffic does.
//!
//! ## What it does
//! A bucket of tokens stands for coldness; it starts full. Once a second it gains `count` per second, if it is below the
//! warning line or the last second's traffic was below `count` / `cold-factor`, and loses what passed in the last second. Above
//! the warning line the admitted rate falls with the tokens, down to `count` / `cold-factor`; below, it is `count`.
//!
//! ## When it helps
//! Callees that must warm up (caches, connection pools, just-in-time compilers) after a start or a quiet time.
//!
//! ## How it fails
//! A flood after a quiet night meets the cold rate: what could be served is refused. Traffic just below the cold
//! rate never warms it. It steps once a second.
//!
//! ## Settings
//! * `count` (required): requests per second when warm, as in `"100/s"`.
//! * `warm-up-period` (default `10s`), in whole seconds.
//! * `cold-factor` (default 3, at least 2): the cold rate is `count` divided by it.
//!
//! ## Origin
//! alibaba/Sentinel 1.8.9, `flow/controller/WarmUpController.java` (integer divisions and all: at exactly the warning line
//! nothing is gained). The rates it looks at are those of `StatisticNode`: what passed in the present and the last half second,
//! and in the last whole second.
//!
//! ## Deliberate differences
//! A refusal promises no instant: it depends on what else passes. Settings with so few tokens that the two lines coincide are
//! refused; upstream divides by zero and then admits nothing.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Limiter, admitted, bounds};
use crate::policies::Algorithm;
use crate::policies::view::Admit;
use crate::random::Rng;
use crate::time::{Duration, Time};
use crate::units::Rate;

/// Settings of `limiter.sentinel-warm-up`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "kebab-case")]
pub struct SentinelWarmUpSettings {
    /// Requests per second when warm.
    #[serde(deserialize_with = "bounds::positive")]
    pub count: Rate,
    /// How long warming up takes, in whole seconds.
    #[serde(default = "ten_seconds")]
    pub warm_up_period: Duration,
    /// The cold rate is `count` divided by it.
    #[serde(default = "three")]
    pub cold_factor: NonZeroU32,
}

checked!(SentinelWarmUpSettings);

const fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

const fn three() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(2)
}

impl SentinelWarmUpSettings {
    /// The warning line and the size of the bucket, in tokens.
    fn lines(&self) -> (i64, i64) {
        let (seconds, cold) = ((self.warm_up_period.0 / 1_000_000_000) as f64, self.cold_factor.get());
        let warning = (seconds * self.count.0) as i64 / i64::from(cold - 1);
        let above = (2.0 * seconds * self.count.0 / (1.0 + f64::from(cold))) as i64;
        (warning, warning.saturating_add(above))
    }

    fn check(&self) -> Result<(), String> {
        if self.cold_factor.get() < 2 {
            return Err("cold-factor must be at least 2".to_owned());
        }
        if !self.warm_up_period.0.is_multiple_of(1_000_000_000) {
            return Err(format!("warm-up-period = {} is not in whole seconds", self.warm_up_period));
        }
        let (warning, max) = self.lines();
        if max <= warning {
            return Err("count times warm-up-period is too small: there is no token above the warning line"
                .to_owned());
        }
        Ok(())
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct SentinelWarmUp(Box<WarmUp>);

#[derive(Clone, Debug)]
struct WarmUp {
    count: f64,
    cold_factor: i64,
    warning: i64,
    max: i64,
    slope: f64,
    stored: i64,
    /// Second up to which `stored` is filled.
    filled: i64,
    /// The present half second and what passed in it and in the three before it.
    half: u64,
    passed: [u64; 4],
}

impl Algorithm for SentinelWarmUp {
    type Settings = SentinelWarmUpSettings;

    fn new(settings: &SentinelWarmUpSettings, now: Time) -> Self {
        let (warning, max) = settings.lines();
        let (count, cold) = (settings.count.0, settings.cold_factor.get());
        Self(Box::new(WarmUp {
            count,
            cold_factor: cold.into(),
            warning,
            max,
            slope: (f64::from(cold) - 1.0) / count / (max - warning) as f64,
            stored: 0,
            // Upstream's zero lies at the Unix epoch: the first fill finds half a century gone by.
            filled: -(1 << 40),
            half: now.0 / HALF,
            passed: [0; 4],
        }))
    }
}

/// Nanoseconds in half a second.
const HALF: u64 = 500_000_000;

impl SentinelWarmUp {
    /// Whether `cost` passes, given what passed in the present second so far and in the previous one.
    pub(crate) fn can_pass(&mut self, second: i64, cost: u32, pass_qps: u64, previous_pass_qps: u64) -> bool {
        let state = &mut *self.0;
        if second > state.filled {
            state.fill(second, previous_pass_qps.cast_signed());
        }
        let allowed = if state.stored >= state.warning {
            let above = (state.stored - state.warning) as f64;
            (1.0 / (above * state.slope + 1.0 / state.count)).next_up()
        } else {
            state.count
        };
        (pass_qps + u64::from(cost)) as f64 <= allowed
    }

    /// Tokens in the bucket.
    pub(crate) fn stored(&self) -> u64 {
        self.0.stored as u64
    }
}

impl WarmUp {
    fn fill(&mut self, second: i64, passed: i64) {
        let gained =
            (self.stored as f64 + (second - self.filled) as f64 * 1000.0 * self.count / 1000.0) as i64;
        // A whole-number division, as upstream.
        let quiet = passed < i64::from(self.count as i32) / self.cold_factor;
        if self.stored < self.warning || self.stored > self.warning && quiet {
            self.stored = gained;
        }
        self.stored = (self.stored.min(self.max) - passed).max(0);
        self.filled = second;
    }

    /// Moves the half seconds on to the one of `now`.
    fn turn(&mut self, half: u64) {
        for _ in 0..(half - self.half).min(4) {
            self.passed.rotate_right(1);
            self.passed[0] = 0;
        }
        self.half = half;
    }

    /// What passed in the whole second before the present one.
    fn previous_second(&self) -> u64 {
        // The present second has one half or two so far.
        let since = 1 + (self.half % 2) as usize;
        self.passed[since] + self.passed.get(since + 1).copied().unwrap_or(0)
    }
}

impl Limiter for SentinelWarmUp {
    fn try_acquire(&mut self, now: Time, cost: u32, _max_wait: Duration, _rng: &mut Rng) -> Admit {
        self.0.turn(now.0 / HALF);
        let (so_far, previous) = (self.0.passed[0] + self.0.passed[1], self.0.previous_second());
        if !self.can_pass(now.as_secs().cast_signed(), cost, so_far, previous) {
            return Admit::Reject { until: None };
        }
        self.0.passed[0] += u64::from(cost);
        admitted(now, Duration::ZERO)
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("tokens", self.0.stored as f64);
        show("capacity", self.0.max as f64);
    }
}
