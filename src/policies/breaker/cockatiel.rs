//! Cockatiel: failures in a row, a share of the last calls, or a share of the last seconds; one probe.
//!
//! ## What it does
//! The state in which a call began decides how its ending is treated. A failure of a call from the closed state opens it
//! by the breaker's rule: `consecutive-failures` in a row; or failures strictly above `threshold` of the last `size` calls
//! (of which there are `minimum-number-of-calls`); or of the calls in the last `duration`, if there are `minimum-rps`
//! of them per second. From `half-open-after` later one call is the probe: its success closes and clears, its failure
//! opens again with the next wait.
//!
//! ## When it helps
//! Any dependency of one client; the rule can be chosen.
//!
//! ## How it fails
//! A late failure of a call from before the opening can open it again while the probe is out; what the probe finds is then
//! dropped. The sampling rule moves by one window at most per ending: after an hour without calls, nearly all of what
//! happened before still counts.
//!
//! ## Settings
//! * One rule: `consecutive-failures` (5 if nothing is given); or `threshold` with `size` (`minimum-number-of-calls`
//!   default: the size); or `threshold` with `duration` (`minimum-rps` default: five failures a second).
//! * `half-open-after` (default `10s`; upstream has no default), `half-open-max` (default none: the wait is constant):
//!   each reopening doubles the wait up to this.
//!
//! ## Origin
//! npm cockatiel 3.2.1 (`CircuitBreakerPolicy`, `ConsecutiveBreaker`, `CountBreaker`, `SamplingBreaker`), pinned by
//! `tests/vectors/breaker/cockatiel.json`. Its clock has milliseconds. Its `noJitterGenerator` always doubles.
//!
//! ## Deliberate differences
//! * Calls that come while the probe is out wait for it upstream; here they are refused: a breaker makes nobody wait.
//! * An ignored or abandoned call is an error that the policy does not handle: it counts as nothing, but closes if it was
//!   the probe's, as upstream does.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Breaker, BreakerState};
use crate::policies::Algorithm;
use crate::policies::view::{Admit, Outcome, Permit};
use crate::time::{Duration, Time};
use crate::units::Share;

/// Settings of `breaker.cockatiel`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct CockatielSettings(Written);

/// The settings before they are checked against each other.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "CockatielSettings")]
struct Written {
    /// Failures in a row that open.
    consecutive_failures: Option<NonZeroU32>,
    /// Share of failures above which it opens; between 0 % and 100 %, both excluded.
    threshold: Option<Share>,
    /// Calls of which the share is taken.
    size: Option<NonZeroU32>,
    /// Calls below which the share opens nothing.
    minimum_number_of_calls: Option<NonZeroU32>,
    /// Span of which the share is taken.
    duration: Option<Duration>,
    /// Calls per second below which the share opens nothing.
    minimum_rps: Option<NonZeroU32>,
    /// How long it stays open before a call may probe.
    half_open_after: Duration,
    /// Reopening doubles the wait up to this; absent: it is constant.
    half_open_max: Option<Duration>,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            consecutive_failures: None,
            threshold: None,
            size: None,
            minimum_number_of_calls: None,
            duration: None,
            minimum_rps: None,
            half_open_after: Duration::from_secs(10),
            half_open_max: None,
        }
    }
}

/// Most calls kept, and most windows.
const SIZE_MAX: u32 = 1_000_000;
/// Most windows of a duration; each is a second at most.
const WINDOWS_MAX: u64 = 3600;

impl TryFrom<Written> for CockatielSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { consecutive_failures, threshold, size, duration, .. } = written;
        if threshold.is_some_and(|Share(share)| share <= 0.0 || share >= 1.0) {
            return Err("threshold lies between 0% and 100%, both excluded, as upstream demands".to_owned());
        }
        match (consecutive_failures, threshold, size, duration) {
            (_, None, None, None) | (None, Some(_), Some(_), None) | (None, Some(_), None, Some(_)) => {}
            _ => {
                return Err(
                    "give one rule: consecutive-failures, threshold with size, or threshold with duration"
                        .to_owned(),
                );
            }
        }
        if let Some(minimum) = written.minimum_number_of_calls
            && size.is_none_or(|size| minimum > size)
        {
            return Err("minimum-number-of-calls needs size, and is at most that".to_owned());
        }
        if written.minimum_rps.is_some() && duration.is_none() {
            return Err("minimum-rps needs duration".to_owned());
        }
        if size.is_some_and(|size| size.get() > SIZE_MAX) {
            return Err(format!("size is at most {SIZE_MAX}"));
        }
        if duration.is_some_and(|duration| {
            duration < Duration::from_millis(5) || duration > Duration::from_secs(WINDOWS_MAX)
        }) {
            return Err("duration must lie between 5ms and 1h".to_owned());
        }
        if written.half_open_max.is_some_and(|most| most < written.half_open_after) {
            return Err("half-open-max is less than half-open-after".to_owned());
        }
        Ok(Self(written))
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Cockatiel(Box<Machine>);

#[derive(Clone, Debug)]
struct Machine {
    state: BreakerState,
    first_wait: Duration,
    longest: Duration,
    /// Milliseconds: the present or last wait, and since when.
    wait: Duration,
    opened: u64,
    failures: u32,
    total: u32,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    InARow {
        limit: u32,
    },
    Count {
        threshold: f64,
        minimum: u32,
        /// Whether each of the last calls failed.
        samples: Box<[Option<bool>]>,
        at: usize,
    },
    Sampling {
        threshold: f64,
        /// Calls below which nothing opens.
        minimum: f64,
        /// Width of a window, in milliseconds.
        width: u64,
        windows: Box<[Window]>,
        at: usize,
    },
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    start: u64,
    total: u32,
    failures: u32,
}

impl Rule {
    fn new(settings: &Written) -> Self {
        let threshold = settings.threshold.map_or(0.0, |share| share.0);
        if let Some(size) = settings.size {
            return Self::Count {
                threshold,
                minimum: settings.minimum_number_of_calls.unwrap_or(size).get(),
                samples: vec![None; size.get() as usize].into_boxed_slice(),
                at: 0,
            };
        }
        let Some(duration) = settings.duration else {
            return Self::InARow { limit: settings.consecutive_failures.map_or(5, NonZeroU32::get) };
        };
        // At least five, each of a second at most.
        let windows = duration.0.div_ceil(1_000_000_000).max(5);
        let width = (duration.as_millis_f64() / windows as f64).round() as u64;
        let rate =
            settings.minimum_rps.map_or(5.0 / (threshold * 1000.0), |rps| f64::from(rps.get()) / 1000.0);
        Self::Sampling {
            threshold,
            minimum: (width * windows) as f64 * rate,
            width,
            windows: vec![Window::default(); windows as usize].into_boxed_slice(),
            at: 0,
        }
    }
}

impl Algorithm for Cockatiel {
    type Settings = CockatielSettings;

    fn new(CockatielSettings(settings): &CockatielSettings, _now: Time) -> Self {
        Self(Box::new(Machine {
            state: BreakerState::Closed,
            first_wait: settings.half_open_after,
            longest: settings.half_open_max.unwrap_or(settings.half_open_after),
            wait: Duration::ZERO,
            opened: 0,
            failures: 0,
            total: 0,
            rule: Rule::new(settings),
        }))
    }
}

impl Machine {
    /// Counts an ending; the sums follow.
    fn count(&mut self, now: u64, failed: bool) {
        let error = u32::from(failed);
        match &mut self.rule {
            Rule::InARow { .. } => {
                self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
                return;
            }
            Rule::Count { samples, at, .. } => {
                let old = samples[*at].replace(failed);
                *at = (*at + 1) % samples.len();
                self.total -= u32::from(old.is_some());
                self.failures -= u32::from(old == Some(true));
            }
            Rule::Sampling { width, windows, at, .. } => {
                if now - windows[*at].start >= *width {
                    // One step only, however long ago.
                    *at = (*at + 1) % windows.len();
                    let old =
                        std::mem::replace(&mut windows[*at], Window { start: now, ..Window::default() });
                    self.total -= old.total;
                    self.failures -= old.failures;
                }
                windows[*at].total += 1;
                windows[*at].failures += error;
            }
        }
        self.total += 1;
        self.failures += error;
    }

    fn clear(&mut self) {
        (self.total, self.failures) = (0, 0);
        match &mut self.rule {
            Rule::InARow { .. } => {}
            Rule::Count { samples, .. } => samples.fill(None),
            Rule::Sampling { windows, .. } => windows.fill(Window::default()),
        }
    }

    fn trips(&self) -> bool {
        let (failures, total) = (f64::from(self.failures), f64::from(self.total));
        match self.rule {
            Rule::InARow { limit } => self.failures >= limit,
            Rule::Count { threshold, minimum, .. } => self.total >= minimum && failures > threshold * total,
            Rule::Sampling { threshold, minimum, .. } => total >= minimum && failures > threshold * total,
        }
    }

    /// Opens, unless it is open.
    fn open(&mut self, now: u64) {
        self.wait = match self.state {
            BreakerState::Open => return,
            BreakerState::Closed => self.first_wait,
            BreakerState::HalfOpen => (self.wait * 2).min(self.longest),
        };
        (self.state, self.opened) = (BreakerState::Open, now);
    }
}

/// Slot of the permit of a probe.
const PROBE: u32 = 1;

impl Breaker for Cockatiel {
    #[inline]
    fn try_acquire(&mut self, now: Time) -> Admit {
        let machine = &mut *self.0;
        let mut slot = 0;
        match machine.state {
            BreakerState::Closed => {}
            BreakerState::Open => {
                let from =
                    Time::from_millis(machine.opened) + Duration(machine.wait.0.next_multiple_of(1_000_000));
                if now < from {
                    return Admit::Reject { until: Some(from) };
                }
                machine.state = BreakerState::HalfOpen;
                slot = PROBE;
            }
            BreakerState::HalfOpen => return Admit::Reject { until: None },
        }
        Admit::Now(Permit { generation: 0, slot, start: now })
    }

    #[inline]
    fn on_outcome(&mut self, now: Time, permit: Permit, outcome: &Outcome) {
        let (machine, now, probe) = (&mut *self.0, now.as_millis(), permit.slot == PROBE);
        let unwanted = outcome.is_unwanted();
        if !unwanted && outcome.is_error() {
            machine.count(now, true);
            if probe || machine.trips() {
                machine.open(now);
            }
            return;
        }
        if !unwanted {
            if probe {
                machine.clear();
            }
            machine.count(now, false);
        }
        if probe && machine.state == BreakerState::HalfOpen {
            machine.state = BreakerState::Closed;
        }
    }

    #[inline]
    fn state(&self, _now: Time) -> BreakerState {
        self.0.state
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("failures", f64::from(self.0.failures));
        show("calls", f64::from(self.0.total));
    }
}
