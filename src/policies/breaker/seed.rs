//! Opens after so many errors within a few seconds, then lets a single call probe.
//!
//! ## What it does
//! Errors are counted in units of `count-unit`. The error that brings the count of the last `window` (whole units, the
//! current one included) to `error-threshold` opens the breaker and clears the counts. Open, it refuses everything; the
//! first call at or after `open` becomes the one probe of the half-open state, and everything else is refused until the
//! probe ends: a success closes the breaker with empty counts, an error opens it for another `open`. Outcomes of calls
//! that were admitted before the last change of state are ignored.
//!
//! ## When it helps
//! A dependency that is down: callers fail at once instead of holding workers until the timeout, and the dependency is
//! not hit while it restarts.
//!
//! ## How it fails
//! It counts errors, not their share: at 1000 calls per second five errors in five seconds open it at an error rate of
//! 0.1 %, so a healthy but busy dependency is cut off for 30 s at a time. At a few calls per minute it never opens. Many
//! clients with a breaker each probe at the same moment.
//!
//! ## Settings
//! * `error-threshold` (default 5, at least 1): errors that open it.
//! * `window` (default `5s`; a whole multiple of `count-unit`): span in which they are counted.
//! * `count-unit` (default `1s`): granularity of the count.
//! * `open` (default `30s`): how long it stays open before a call may probe.
//!
//! ## Origin
//! The breaker described in the third of the articles that simlab grew from (N = 5 errors in W = 5 s counted in units of
//! 1 s, open for T = 30 s, one probe); simlab's own definition, pinned by `tests/vectors/breaker/seed.json`.
//!
//! ## Deliberate differences
//! * The code printed with the article never leaves half-open; this is the machine that its text describes.
//! * An outcome that is ignored or abandoned counts as neither success nor error. If it was the probe's, the next call
//!   becomes the probe.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Breaker, BreakerState};
use crate::policies::Algorithm;
use crate::policies::view::{Admit, Outcome, Permit};
use crate::time::{Duration, Time};

/// Settings of `breaker.seed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct SeedSettings {
    /// Errors within the window that open the breaker.
    pub error_threshold: NonZeroU32,
    /// Span in which errors are counted; a whole multiple of the unit.
    pub window: Duration,
    /// Granularity of the count.
    pub count_unit: Duration,
    /// How long the breaker stays open before a call may probe.
    pub open: Duration,
}

/// The settings before they are checked against each other.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "SeedSettings")]
struct Written {
    /// Errors within the window that open the breaker.
    error_threshold: NonZeroU32,
    /// Span in which errors are counted; a whole multiple of the unit.
    window: Duration,
    /// Granularity of the count.
    count_unit: Duration,
    /// How long the breaker stays open before a call may probe.
    open: Duration,
}

/// Most units a window may have; the counts of all are kept.
const UNITS_MAX: u64 = 3600;

impl Default for Written {
    fn default() -> Self {
        Self {
            error_threshold: NonZeroU32::MIN.saturating_add(4),
            window: Duration::from_secs(5),
            count_unit: Duration::from_secs(1),
            open: Duration::from_secs(30),
        }
    }
}

impl Default for SeedSettings {
    fn default() -> Self {
        Self::try_from(Written::default()).expect("the defaults agree")
    }
}

impl TryFrom<Written> for SeedSettings {
    type Error = String;

    fn try_from(Written { error_threshold, window, count_unit, open }: Written) -> Result<Self, String> {
        if count_unit == Duration::ZERO {
            return Err("count-unit must not be zero".to_owned());
        }
        if window == Duration::ZERO || !window.0.is_multiple_of(count_unit.0) {
            return Err(format!("window = {window} is not a whole multiple of count-unit = {count_unit}"));
        }
        if window.0 / count_unit.0 > UNITS_MAX {
            return Err(format!("window = {window} has more than {UNITS_MAX} units of {count_unit}"));
        }
        Ok(Self { error_threshold, window, count_unit, open })
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Seed {
    state: State,
    /// Whether the probe is out; only in half-open.
    probing: bool,
    /// Counts the changes of state; a permit carries the count of its admission.
    generation: u32,
    /// Errors that open.
    error_threshold: u32,
    count_unit: Duration,
    /// How long to stay open (`open` of the settings).
    open_for: Duration,
    /// While open: from when a call may probe. While closed: the newest unit counted in `errors`.
    mark: u64,
    /// Errors by unit, modulo the number of units in the window.
    errors: Box<[u32]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open,
    HalfOpen,
}

impl Algorithm for Seed {
    type Settings = SeedSettings;

    fn new(settings: &SeedSettings, now: Time) -> Self {
        let units = (settings.window.0 / settings.count_unit.0) as usize;
        Self {
            state: State::Closed,
            probing: false,
            generation: 0,
            error_threshold: settings.error_threshold.get(),
            count_unit: settings.count_unit,
            open_for: settings.open,
            mark: now.0 / settings.count_unit.0,
            errors: vec![0; units].into_boxed_slice(),
        }
    }
}

impl Seed {
    /// Errors in the window that ends with the unit of `now`.
    pub fn errors_in_window(&self, now: Time) -> u32 {
        if self.state != State::Closed {
            return 0;
        }
        let (units, unit) = (self.errors.len() as u64, now.0 / self.count_unit.0);
        let oldest = (unit + 1).saturating_sub(units);
        (oldest..=self.mark).map(|unit| self.errors[(unit % units) as usize]).sum()
    }

    /// Counts one error; true if it is the one that opens.
    fn count_error(&mut self, now: Time) -> bool {
        let (units, unit) = (self.errors.len() as u64, now.0 / self.count_unit.0);
        // Units that nobody counted in since the last error hold counts from one window before.
        for stale in (self.mark + 1).max((unit + 1).saturating_sub(units))..=unit {
            self.errors[(stale % units) as usize] = 0;
        }
        self.mark = unit;
        self.errors[(unit % units) as usize] += 1;
        self.errors.iter().sum::<u32>() >= self.error_threshold
    }

    fn open(&mut self, now: Time) {
        self.state = State::Open;
        self.generation = self.generation.wrapping_add(1);
        self.mark = (now + self.open_for).0;
    }
}

impl Breaker for Seed {
    #[inline]
    fn try_acquire(&mut self, now: Time) -> Admit {
        match self.state {
            State::Closed => {}
            State::Open if now.0 < self.mark => return Admit::Reject { until: Some(Time(self.mark)) },
            State::Open => {
                self.state = State::HalfOpen;
                self.generation = self.generation.wrapping_add(1);
                self.probing = true;
            }
            // When the probe ends is not ours to know.
            State::HalfOpen if self.probing => return Admit::Reject { until: None },
            State::HalfOpen => self.probing = true,
        }
        Admit::Now(Permit { generation: self.generation, slot: 0, start: now })
    }

    #[inline]
    fn on_outcome(&mut self, now: Time, permit: Permit, outcome: &Outcome) {
        if permit.generation != self.generation {
            return;
        }
        let ignored = outcome.is_unwanted();
        match self.state {
            State::Closed => {
                if !ignored && outcome.is_error() && self.count_error(now) {
                    self.open(now);
                }
            }
            State::HalfOpen if ignored => self.probing = false,
            State::HalfOpen if outcome.is_error() => self.open(now),
            State::HalfOpen => {
                self.state = State::Closed;
                self.generation = self.generation.wrapping_add(1);
                self.mark = now.0 / self.count_unit.0;
                self.errors.fill(0);
            }
            // Nobody holds a permit of this generation: none is given while open.
            State::Open => {}
        }
    }

    #[inline]
    fn state(&self, _now: Time) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open => BreakerState::Open,
            State::HalfOpen => BreakerState::HalfOpen,
        }
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("errors", f64::from(self.errors_in_window(now)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::view::Class;

    fn end(breaker: &mut Seed, at: u64, admit: Admit, class: Class) {
        let Admit::Now(permit) = admit else { panic!("{admit:?}") };
        breaker.on_outcome(Time::from_millis(at), permit, &Outcome::new(class, Duration::ZERO));
    }

    fn fail(breaker: &mut Seed, at: u64) {
        let admit = breaker.try_acquire(Time::from_millis(at));
        end(breaker, at, admit, Class::Failure);
    }

    #[test]
    fn a_lost_probe_is_replaced() {
        let mut breaker = Seed::new(&SeedSettings::default(), Time::ZERO);
        (0..5).for_each(|i| fail(&mut breaker, i));
        let until = Some(Time::from_millis(30_004));
        assert_eq!(breaker.try_acquire(Time::from_millis(30_003)), Admit::Reject { until });
        let probe = breaker.try_acquire(Time::from_millis(30_004));
        assert_eq!(breaker.try_acquire(Time::from_millis(30_005)), Admit::Reject { until: None });
        end(&mut breaker, 30_006, probe, Class::Abandoned);
        assert_eq!(breaker.state(Time::from_millis(30_006)), BreakerState::HalfOpen);
        let probe = breaker.try_acquire(Time::from_millis(30_007));
        end(&mut breaker, 30_008, probe, Class::Success);
        assert_eq!(breaker.state(Time::from_millis(30_008)), BreakerState::Closed);
        assert_eq!(breaker.errors_in_window(Time::from_millis(30_008)), 0);
    }

    #[test]
    fn old_units_are_evicted_while_idle() {
        let mut breaker = Seed::new(&SeedSettings::default(), Time::ZERO);
        (0..4).for_each(|i| fail(&mut breaker, i));
        assert_eq!(breaker.errors_in_window(Time::from_millis(4_999)), 4);
        assert_eq!(breaker.errors_in_window(Time::from_millis(5_000)), 0);
        fail(&mut breaker, 5_000);
        assert_eq!(breaker.errors_in_window(Time::from_millis(5_000)), 1);
        // Far later, and back to the same place of the ring.
        fail(&mut breaker, 1_000_000);
        assert_eq!(breaker.errors_in_window(Time::from_millis(1_000_000)), 1);
    }

    #[test]
    fn settings_are_checked_against_each_other() {
        let parse = serde_json::from_str::<SeedSettings>;
        assert_eq!(parse("{}").unwrap(), SeedSettings::default());
        for (json, message) in [
            (r#"{"window": "2500ms"}"#, "not a whole multiple"),
            (r#"{"count-unit": "0s"}"#, "must not be zero"),
            (r#"{"count-unit": "1ms", "window": "1h"}"#, "more than 3600 units"),
            (r#"{"error-threshold": 0}"#, "nonzero"),
            (r#"{"treshold": 4}"#, "unknown field"),
        ] {
            let error = parse(json).unwrap_err().to_string();
            assert!(error.contains(message), "{json}: {error}");
        }
    }
}
