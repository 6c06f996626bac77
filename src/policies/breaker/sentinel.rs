//! Alibaba Sentinel's circuit breaking: a share of slow calls, a share of errors or a number of errors in one interval.
//!
//! ## What it does
//! Calls are counted when they complete, in one bucket of `stat-interval` aligned to the clock: at its end everything is
//! forgotten. After each completion, if at least `min-request-amount` were counted and the value is strictly above the
//! threshold, it opens for `time-window`. The first call at or after its end is the one probe; the next completion of
//! any call decides: bad opens again, good closes and clears the bucket.
//!
//! ## When it helps
//! Slow dependencies: `slow-ratio` trips before timeouts are reached.
//!
//! ## How it fails
//! The bucket is forgotten at once, so failures that straddle a boundary do not add up. Late completions decide the
//! half-open state as well as the probe. "Greater than" makes an error share of 100 % unreachable and an error count of N
//! trip at N + 1. By slow ratio a fast error is a good call.
//!
//! ## Settings
//! * `grade` (default `slow-ratio`; `error-ratio`, `error-count`): what is measured.
//! * `max-rt` (required for `slow-ratio`): a call that took longer is slow.
//! * `ratio-threshold` (default `100%`): for the two shares.
//! * `count` (required for `error-count`): errors that may happen.
//! * `time-window` (required): how long it stays open.
//! * `min-request-amount` (default 5), `stat-interval` (default `1s`).
//!
//! ## Origin
//! alibaba/Sentinel 1.8.9 (`AbstractCircuitBreaker`, `ResponseTimeCircuitBreaker`, `ExceptionCircuitBreaker`), pinned by
//! `tests/vectors/breaker/sentinel.json`. Its clock has milliseconds.
//!
//! ## Deliberate differences
//! * Upstream's `count` means three things by grade; here it has a name and a unit each.
//! * A probe that never left (refused by another rule, cancelled) brings it back to open without a new wait, as upstream
//!   does for calls that another rule blocks.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Breaker, BreakerState};
use crate::policies::Algorithm;
use crate::policies::view::{Admit, Outcome, Permit};
use crate::time::{Duration, Time};
use crate::units::Share;

/// Settings of `breaker.sentinel`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct SentinelSettings(Written);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Grade {
    /// Share of calls that took longer than `max-rt`.
    SlowRatio,
    /// Share of errors.
    ErrorRatio,
    /// Number of errors.
    ErrorCount,
}

/// The settings before they are checked against each other.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", rename = "SentinelSettings")]
struct Written {
    /// What is measured.
    #[serde(default = "slow_ratio")]
    grade: Grade,
    /// A call that took longer is slow.
    max_rt: Option<Duration>,
    /// Share above which it trips.
    ratio_threshold: Option<Share>,
    /// Errors above which it trips.
    count: Option<u32>,
    /// How long it stays open.
    time_window: Duration,
    /// Completions below which it never trips.
    #[serde(default = "five")]
    min_request_amount: u32,
    /// Interval after which all counts are forgotten.
    #[serde(default = "one_second")]
    stat_interval: Duration,
}

const fn slow_ratio() -> Grade {
    Grade::SlowRatio
}

const fn five() -> u32 {
    5
}

const fn one_second() -> Duration {
    Duration::from_secs(1)
}

impl TryFrom<Written> for SentinelSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { grade, max_rt, ratio_threshold, count, .. } = written;
        let unused = |key: &str, grade: &str| Err(format!("{key} does not belong to grade = \"{grade}\""));
        match grade {
            Grade::SlowRatio if max_rt.is_none() => {
                return Err("grade = \"slow-ratio\" needs max-rt".to_owned());
            }
            Grade::ErrorCount if count.is_none() => {
                return Err("grade = \"error-count\" needs count".to_owned());
            }
            Grade::SlowRatio if count.is_some() => return unused("count", "slow-ratio"),
            Grade::ErrorRatio if count.is_some() => return unused("count", "error-ratio"),
            Grade::ErrorRatio if max_rt.is_some() => return unused("max-rt", "error-ratio"),
            Grade::ErrorCount if max_rt.is_some() => return unused("max-rt", "error-count"),
            Grade::ErrorCount if ratio_threshold.is_some() => {
                return unused("ratio-threshold", "error-count");
            }
            _ => {}
        }
        if written.time_window < Duration::from_millis(1) {
            return Err("time-window must be at least 1ms; upstream refuses a rule without one".to_owned());
        }
        if written.min_request_amount == 0 {
            return Err("min-request-amount must be at least 1".to_owned());
        }
        if written.stat_interval < Duration::from_millis(1) {
            return Err("stat-interval must be at least 1ms".to_owned());
        }
        Ok(Self(written))
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Sentinel {
    grade: Grade,
    state: BreakerState,
    min_requests: u32,
    threshold: f64,
    /// Milliseconds, as everything below.
    max_rt: u64,
    interval: u32,
    time_window: u32,
    bucket: u64,
    next_retry: u64,
    total: u32,
    bad: u32,
}

impl Algorithm for Sentinel {
    type Settings = SentinelSettings;

    fn new(&SentinelSettings(settings): &SentinelSettings, now: Time) -> Self {
        let ratio = settings.ratio_threshold.unwrap_or(Share(1.0)).0;
        let mut policy = Self {
            grade: settings.grade,
            state: BreakerState::Closed,
            min_requests: settings.min_request_amount,
            threshold: settings.count.map_or(ratio, f64::from),
            max_rt: settings.max_rt.unwrap_or(Duration::MAX).as_millis(),
            interval: u32::try_from(settings.stat_interval.as_millis()).unwrap_or(u32::MAX),
            time_window: u32::try_from(settings.time_window.as_millis()).unwrap_or(u32::MAX),
            bucket: 0,
            next_retry: 0,
            total: 0,
            bad: 0,
        };
        policy.settle(now.as_millis());
        policy
    }
}

/// Slot of the permit of a probe.
const PROBE: u32 = 1;

impl Sentinel {
    fn settle(&mut self, now: u64) {
        let bucket = now / u64::from(self.interval);
        if bucket != self.bucket {
            (self.bucket, self.total, self.bad) = (bucket, 0, 0);
        }
    }

    fn open(&mut self, now: u64) {
        self.state = BreakerState::Open;
        self.next_retry = now + u64::from(self.time_window);
    }

    fn trips(&self) -> bool {
        let value = match self.grade {
            Grade::ErrorCount => f64::from(self.bad),
            Grade::SlowRatio | Grade::ErrorRatio => f64::from(self.bad) / f64::from(self.total),
        };
        // The slow ratio alone also trips when all are slow and all is the threshold.
        value > self.threshold || self.grade == Grade::SlowRatio && value == 1.0 && self.threshold == 1.0
    }
}

impl Breaker for Sentinel {
    #[inline]
    fn try_acquire(&mut self, now: Time) -> Admit {
        let mut slot = 0;
        match self.state {
            BreakerState::Closed => {}
            BreakerState::Open if now.as_millis() >= self.next_retry => {
                self.state = BreakerState::HalfOpen;
                slot = PROBE;
            }
            BreakerState::Open => return Admit::Reject { until: Some(Time::from_millis(self.next_retry)) },
            BreakerState::HalfOpen => return Admit::Reject { until: None },
        }
        Admit::Now(Permit { generation: 0, slot, start: now })
    }

    #[inline]
    fn on_outcome(&mut self, now: Time, permit: Permit, outcome: &Outcome) {
        if outcome.is_unwanted() {
            if permit.slot == PROBE && self.state == BreakerState::HalfOpen {
                self.state = BreakerState::Open;
            }
            return;
        }
        let bad = match self.grade {
            Grade::SlowRatio => outcome.latency.as_millis() > self.max_rt,
            Grade::ErrorRatio | Grade::ErrorCount => outcome.is_error(),
        };
        let now = now.as_millis();
        self.settle(now);
        self.total += 1;
        self.bad += u32::from(bad);
        match self.state {
            BreakerState::Open => {}
            BreakerState::HalfOpen if bad => self.open(now),
            BreakerState::HalfOpen => {
                self.state = BreakerState::Closed;
                (self.total, self.bad) = (0, 0);
            }
            BreakerState::Closed => {
                if self.total >= self.min_requests && self.trips() {
                    self.open(now);
                }
            }
        }
    }

    #[inline]
    fn state(&self, _now: Time) -> BreakerState {
        self.state
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        let current = now.as_millis() / u64::from(self.interval) == self.bucket;
        show("calls", if current { f64::from(self.total) } else { 0.0 });
        show("bad", if current { f64::from(self.bad) } else { 0.0 });
    }
}
