//! The Rust crate failsafe: failures in a row or a moving success rate, and waits that grow.
//!
//! ## What it does
//! Closed, a failure opens it if it is the `consecutive-failures`th in a row, or if, a whole `window` after the last
//! revival, the moving success rate is below `required-success-rate` with at least `min-requests` in the window. It
//! refuses until strictly more than the back-off has passed, then admits everyone: the first success closes, the first
//! error opens again with the next back-off, or with the same if neither rule says anything.
//!
//! ## When it helps
//! Few calls and hard failures; the growing wait leaves a dependency in peace that needs long.
//!
//! ## How it fails
//! Half-open lets the whole load in until the first answer. One success is believed. Late successes close, late errors
//! reopen. The moving average takes the time 0 after a revival for "empty", so results of that very millisecond overwrite
//! each other.
//!
//! ## Settings
//! * `policy` (default `either`; `consecutive-failures`, `success-rate-over-time-window`): which rules hold.
//! * `consecutive-failures` (default 5).
//! * `required-success-rate` (default `80%`), `window` (default `30s`, at least 1 s), `min-requests` (default 5).
//! * `backoff-start` (default `10s`), `backoff-max` (default `300s`): doubles from the one to the other; equal: constant.
//!
//! ## Origin
//! Crate failsafe 1.3.0, pinned by `tests/vectors/breaker/failsafe_rs.json`. Its clock has milliseconds where it counts,
//! whole seconds in the back-off.
//!
//! ## Deliberate differences
//! * The default back-off of upstream jitters (`equal_jittered`); here it is its `exponential`: a breaker draws nothing.
//! * An ignored or abandoned call is a dropped future: nothing is counted.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Breaker, BreakerState};
use crate::policies::Algorithm;
use crate::policies::view::{Admit, Outcome, Permit};
use crate::time::{Duration, Time};
use crate::units::Share;

/// Settings of `breaker.failsafe`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct FailsafeSettings(Written);

/// Which rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Rules {
    /// Whichever says so; the longer wait if both do.
    Either,
    /// Only the run of failures.
    ConsecutiveFailures,
    /// Only the moving success rate.
    SuccessRateOverTimeWindow,
}

/// The settings before they are checked against each other.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "FailsafeSettings")]
struct Written {
    /// Which rules hold.
    policy: Rules,
    /// Failures in a row that open.
    consecutive_failures: NonZeroU32,
    /// Success rate below which a failure opens.
    required_success_rate: Share,
    /// Mean lifetime of an observation, and time after a revival in which the rate opens nothing.
    window: Duration,
    /// Requests in the window below which the rate opens nothing.
    min_requests: u32,
    /// First wait.
    backoff_start: Duration,
    /// Longest wait.
    backoff_max: Duration,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            policy: Rules::Either,
            consecutive_failures: NonZeroU32::MIN.saturating_add(4),
            required_success_rate: Share(0.8),
            window: Duration::from_secs(30),
            min_requests: 5,
            backoff_start: Duration::from_secs(10),
            backoff_max: Duration::from_secs(300),
        }
    }
}

impl TryFrom<Written> for FailsafeSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if written.window < Duration::from_secs(1) {
            return Err("window must be at least 1s: upstream counts it in whole seconds".to_owned());
        }
        if written.backoff_start == Duration::ZERO {
            return Err("backoff-start must not be zero".to_owned());
        }
        if written.backoff_max < written.backoff_start {
            return Err("backoff-max is less than backoff-start".to_owned());
        }
        Ok(Self(written))
    }
}

/// Slices of the request counter.
const SLICES: u64 = 5;

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Failsafe(Box<Machine>);

#[derive(Clone, Debug)]
struct Machine {
    settings: Written,
    state: BreakerState,
    /// While open: refuses up to and including then.
    until: Time,
    wait: Duration,
    in_a_row: u32,
    /// Next waits of the two rules.
    waits: [Duration; 2],
    revived: Time,
    /// Moving success rate, and the millisecond since the revival of its last change; 0: there is none.
    rate: f64,
    changed: u64,
    requests: Adder,
}

/// Requests of the last slices; the present one and four before.
#[derive(Clone, Debug)]
struct Adder {
    slice: u64,
    writer: u32,
    slices: [u32; SLICES as usize - 1],
    at: usize,
    since: Time,
}

impl Adder {
    fn expire(&mut self, now: Time) {
        let passed = (now - self.since).as_millis();
        if passed < self.slice {
            return;
        }
        self.slices[self.at] = std::mem::take(&mut self.writer);
        let len = self.slices.len();
        let skipped = (passed / self.slice - 1).min(len as u64) as usize;
        self.at = (self.at + 1) % len;
        for _ in 0..skipped {
            self.slices[self.at] = 0;
            self.at = (self.at + 1) % len;
        }
        // Not the slice's own start: the rest of a slice is dropped.
        self.since = now;
    }

    fn add(&mut self, now: Time) {
        self.expire(now);
        self.writer += 1;
    }

    fn sum(&self) -> u32 {
        self.writer + self.slices.iter().sum::<u32>()
    }
}

impl Algorithm for Failsafe {
    type Settings = FailsafeSettings;

    fn new(&FailsafeSettings(settings): &FailsafeSettings, now: Time) -> Self {
        Self(Box::new(Machine {
            settings,
            state: BreakerState::Closed,
            until: Time::ZERO,
            wait: settings.backoff_start,
            in_a_row: 0,
            waits: [settings.backoff_start; 2],
            revived: now,
            rate: 0.0,
            changed: 0,
            requests: Adder {
                slice: settings.window.as_millis() / SLICES,
                writer: 0,
                slices: [0; SLICES as usize - 1],
                at: 0,
                since: now,
            },
        }))
    }
}

impl Machine {
    fn observe(&mut self, now: Time, value: f64) {
        let elapsed = (now - self.revived).as_millis();
        if self.changed == 0 {
            self.rate = value;
        } else {
            let passed = (elapsed - self.changed) as f64;
            let weight = libm::exp(-passed / self.window_millis() as f64);
            self.rate = value * (1.0 - weight) + self.rate * weight;
        }
        self.changed = elapsed;
        self.requests.add(now);
    }

    /// Upstream takes whole seconds.
    const fn window_millis(&self) -> u64 {
        self.settings.window.0 / 1_000_000_000 * 1000
    }

    fn record_success(&mut self, now: Time) {
        self.in_a_row = 0;
        self.observe(now, 1.0);
    }

    /// Counts a failure; the wait, if a rule wants it open.
    fn record_failure(&mut self, now: Time) -> Option<Duration> {
        self.in_a_row += 1;
        self.observe(now, 0.0);
        let elapsed = (now - self.revived).as_millis();
        let settings = self.settings;
        let says = [
            settings.policy != Rules::SuccessRateOverTimeWindow
                && self.in_a_row >= settings.consecutive_failures.get(),
            settings.policy != Rules::ConsecutiveFailures
                && elapsed >= self.window_millis()
                && self.rate < settings.required_success_rate.0
                && self.requests.sum() >= settings.min_requests,
        ];
        let mut longest = None;
        for (wait, says) in self.waits.iter_mut().zip(says) {
            if says {
                longest = longest.max(Some(*wait));
                *wait = (*wait * 2).min(settings.backoff_max);
            }
        }
        longest
    }

    fn open(&mut self, now: Time, wait: Duration) {
        (self.state, self.wait, self.until) = (BreakerState::Open, wait, now + wait);
    }

    fn close(&mut self, now: Time) {
        self.state = BreakerState::Closed;
        (self.in_a_row, self.revived, self.rate, self.changed) = (0, now, 0.0, 0);
        self.waits = [self.settings.backoff_start; 2];
        (self.requests.writer, self.requests.since) = (0, now);
        self.requests.slices.fill(0);
    }
}

impl Breaker for Failsafe {
    #[inline]
    fn try_acquire(&mut self, now: Time) -> Admit {
        let machine = &mut *self.0;
        if machine.state == BreakerState::Open {
            if now <= machine.until {
                return Admit::Reject { until: Some(machine.until + Duration(1)) };
            }
            machine.state = BreakerState::HalfOpen;
        }
        Admit::Now(Permit { generation: 0, slot: 0, start: now })
    }

    #[inline]
    fn on_outcome(&mut self, now: Time, _permit: Permit, outcome: &Outcome) {
        let machine = &mut *self.0;
        if outcome.is_unwanted() {
            return;
        }
        match (machine.state, outcome.is_error()) {
            (state, false) => {
                if state == BreakerState::HalfOpen {
                    machine.close(now);
                }
                machine.record_success(now);
            }
            (BreakerState::Closed, true) => {
                if let Some(wait) = machine.record_failure(now) {
                    machine.open(now, wait);
                }
            }
            (BreakerState::HalfOpen, true) => {
                let wait = machine.record_failure(now).unwrap_or(machine.wait);
                machine.open(now, wait);
            }
            (BreakerState::Open, true) => {}
        }
    }

    #[inline]
    fn state(&self, _now: Time) -> BreakerState {
        self.0.state
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("consecutive_failures", f64::from(self.0.in_a_row));
        show("success_rate", self.0.rate);
    }
}
