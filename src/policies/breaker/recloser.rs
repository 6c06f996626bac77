//! The crate recloser: a ring of the last outcomes, an error rate, and a half-open state that lets everyone in.
//!
//! ## What it does
//! Closed, it keeps the last `closed-len` outcomes; once the ring was full before an outcome came, the error rate is
//! compared after each outcome, good ones too: at `error-rate-closed` or more it opens. It refuses until strictly more
//! than `open-wait` has passed, then is half-open with an empty ring of `half-open-len`: when that was full, a success at
//! a rate of at most `error-rate-half-open` closes, an error at that rate or more opens again.
//!
//! ## When it helps
//! High traffic, where one probe says little.
//!
//! ## How it fails
//! Half-open has no limit: the whole load hits the dependency that was down until the ring is full. The ring knows no
//! time: yesterday's errors count as this second's do. A burst of late errors fills the half-open ring.
//!
//! ## Settings
//! * `error-rate-closed`, `error-rate-half-open` (default `50%`).
//! * `closed-len` (default 100), `half-open-len` (default 10): outcomes kept.
//! * `open-wait` (default `30s`).
//! * `doubling-cap` (default none: the wait is constant): each reopening doubles the wait, ten times at most, up to this.
//!
//! ## Origin
//! Crate recloser 1.4.0, pinned by `tests/vectors/breaker/recloser.json`.
//!
//! ## Deliberate differences
//! * `open-wait-strategy` is a function there; here constant or doubling.
//! * An ignored or abandoned call is a dropped future: nothing is counted.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Breaker, BreakerState};
use crate::policies::Algorithm;
use crate::policies::view::{Admit, Outcome, Permit};
use crate::time::{Duration, Time};
use crate::units::Share;

/// Settings of `breaker.recloser`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct RecloserSettings(Written);

/// The settings before they are checked against each other.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "RecloserSettings")]
struct Written {
    /// Error rate that opens.
    error_rate_closed: Share,
    /// Error rate up to which a success closes and from which an error opens again.
    error_rate_half_open: Share,
    /// Outcomes kept while closed.
    closed_len: NonZeroU32,
    /// Outcomes kept while half-open.
    half_open_len: NonZeroU32,
    /// How long it stays open.
    open_wait: Duration,
    /// Reopening doubles the wait up to this; absent: it is constant.
    doubling_cap: Option<Duration>,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            error_rate_closed: Share(0.5),
            error_rate_half_open: Share(0.5),
            closed_len: NonZeroU32::MIN.saturating_add(99),
            half_open_len: NonZeroU32::MIN.saturating_add(9),
            open_wait: Duration::from_secs(30),
            doubling_cap: None,
        }
    }
}

/// Longest ring.
const LEN_MAX: u32 = 1_000_000;

impl TryFrom<Written> for RecloserSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if written.closed_len.get().max(written.half_open_len.get()) > LEN_MAX {
            return Err(format!("closed-len and half-open-len are at most {LEN_MAX}"));
        }
        if written.doubling_cap.is_some_and(|cap| cap < written.open_wait) {
            return Err("doubling-cap is less than open-wait".to_owned());
        }
        Ok(Self(written))
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Recloser(Box<Machine>);

#[derive(Clone, Debug)]
struct Machine {
    settings: Written,
    state: BreakerState,
    /// Times opened in a row.
    flaps: u32,
    /// While open: refuses up to and including then.
    until: Time,
    /// Outcomes kept; the first so many of `ring` are in use.
    len: u32,
    seen: u32,
    at: u32,
    errors: u32,
    ring: Box<[bool]>,
}

impl Algorithm for Recloser {
    type Settings = RecloserSettings;

    fn new(&RecloserSettings(settings): &RecloserSettings, _now: Time) -> Self {
        let most = settings.closed_len.max(settings.half_open_len).get();
        Self(Box::new(Machine {
            settings,
            state: BreakerState::Closed,
            flaps: 0,
            until: Time::ZERO,
            len: settings.closed_len.get(),
            seen: 0,
            at: 0,
            errors: 0,
            ring: vec![false; most as usize].into_boxed_slice(),
        }))
    }
}

impl Machine {
    fn restart(&mut self, state: BreakerState, len: NonZeroU32) {
        (self.state, self.len) = (state, len.get());
        (self.seen, self.at, self.errors) = (0, 0, 0);
        self.ring.fill(false);
    }

    /// Keeps an outcome; the error rate, if the ring was full before.
    fn keep(&mut self, error: bool) -> Option<f32> {
        let old = std::mem::replace(&mut self.ring[self.at as usize], error);
        self.at = (self.at + 1) % self.len;
        self.errors = self.errors + u32::from(error) - u32::from(old);
        if self.seen < self.len {
            self.seen += 1;
            return None;
        }
        Some(self.errors as f32 / self.len as f32)
    }

    fn open(&mut self, now: Time, wait: Duration, flaps: u32) {
        (self.state, self.flaps, self.until) = (BreakerState::Open, flaps, now + wait);
    }
}

impl Breaker for Recloser {
    #[inline]
    fn try_acquire(&mut self, now: Time) -> Admit {
        let machine = &mut *self.0;
        if machine.state == BreakerState::Open {
            if now <= machine.until {
                return Admit::Reject { until: Some(machine.until + Duration(1)) };
            }
            machine.restart(BreakerState::HalfOpen, machine.settings.half_open_len);
        }
        Admit::Now(Permit { generation: 0, slot: 0, start: now })
    }

    #[inline]
    fn on_outcome(&mut self, now: Time, _permit: Permit, outcome: &Outcome) {
        let machine = &mut *self.0;
        if outcome.is_unwanted() || machine.state == BreakerState::Open {
            return;
        }
        let (settings, error) = (machine.settings, outcome.is_error());
        let Some(rate) = machine.keep(error) else { return };
        match machine.state {
            BreakerState::Closed if rate >= settings.error_rate_closed.0 as f32 => {
                machine.open(now, settings.open_wait, 1);
            }
            BreakerState::HalfOpen if error && rate >= settings.error_rate_half_open.0 as f32 => {
                let wait = match settings.doubling_cap {
                    Some(cap) => (settings.open_wait * (1 << machine.flaps.min(10))).min(cap),
                    None => settings.open_wait,
                };
                machine.open(now, wait, machine.flaps.saturating_add(1));
            }
            BreakerState::HalfOpen if !error && rate <= settings.error_rate_half_open.0 as f32 => {
                machine.restart(BreakerState::Closed, settings.closed_len);
            }
            _ => {}
        }
    }

    #[inline]
    fn state(&self, _now: Time) -> BreakerState {
        self.0.state
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("calls", f64::from(self.0.seen));
        show("errors", f64::from(self.0.errors));
    }
}
