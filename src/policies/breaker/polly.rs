//! Polly v8: a failure ratio over a rolling window of ten parts, and one probe.
//!
//! ## What it does
//! Every ending is counted in parts of a tenth of `sampling-duration`; a part begins with the first event after the last
//! one is over and is dropped when its start is a sampling duration ago. A failure in the closed state opens it if at
//! least `minimum-throughput` endings are counted and `failure-ratio` of them are failures. From `break-duration` later
//! one call may probe: its success closes and forgets everything, its failure opens again.
//!
//! ## When it helps
//! Steady traffic of which a part fails.
//!
//! ## How it fails
//! The defaults want 100 calls in 30 s: below 3.3 calls a second it never opens. Late results decide the half-open state
//! as the probe's own does. Late successes are counted while it is open.
//!
//! ## Settings
//! * `failure-ratio` (default `10%`), `minimum-throughput` (default 100, at least 2).
//! * `sampling-duration` (default `30s`; below 200 ms it has a single part).
//! * `break-duration` (default `5s`).
//!
//! ## Origin
//! App-vNext/Polly 8.7.0+91 (`CircuitStateController`, `RollingHealthMetrics`), pinned by
//! `tests/vectors/breaker/polly_v8.json` (a transliteration; upstream itself did not run).
//!
//! ## Deliberate differences
//! * No `BreakDurationGenerator`: the break is constant.
//! * An ignored or abandoned call is an unhandled outcome there (`OperationCanceledException`): it counts as a success,
//!   and in half-open it closes.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Breaker, BreakerState};
use crate::policies::Algorithm;
use crate::policies::view::{Admit, Outcome, Permit};
use crate::time::{Duration, Time};
use crate::units::Share;

/// Settings of `breaker.polly`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct PollySettings(Written);

/// The settings before they are checked against each other.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "PollySettings")]
struct Written {
    /// Share of failures that opens.
    failure_ratio: Share,
    /// Endings below which it never opens; at least 2.
    minimum_throughput: u32,
    /// Span of the statistics.
    sampling_duration: Duration,
    /// How long it stays open before a call may probe.
    break_duration: Duration,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            failure_ratio: Share(0.1),
            minimum_throughput: 100,
            sampling_duration: Duration::from_secs(30),
            break_duration: Duration::from_secs(5),
        }
    }
}

impl TryFrom<Written> for PollySettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if written.minimum_throughput < 2 {
            return Err("minimum-throughput must be at least 2, as upstream demands".to_owned());
        }
        if written.sampling_duration < Duration::from_millis(1) {
            return Err("sampling-duration must be at least 1ms".to_owned());
        }
        if written.break_duration == Duration::ZERO {
            return Err("break-duration must not be zero".to_owned());
        }
        Ok(Self(written))
    }
}

/// Below this sampling duration there is one part only.
const ROLLING_FROM: Duration = Duration::from_millis(200);
/// Parts of the window.
const PARTS: usize = 10;

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Polly(Box<Machine>);

#[derive(Clone, Debug)]
struct Machine {
    settings: Written,
    state: BreakerState,
    blocked_until: Time,
    successes: u32,
    failures: u32,
    /// The parts in use, oldest first, in a ring: ten whole ones fit, the present one, and one more for rounding.
    parts: [Part; PARTS + 2],
    oldest: usize,
    used: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    start: Time,
    successes: u32,
    failures: u32,
}

impl Algorithm for Polly {
    type Settings = PollySettings;

    fn new(&PollySettings(settings): &PollySettings, now: Time) -> Self {
        let mut machine = Machine {
            settings,
            state: BreakerState::Closed,
            blocked_until: Time::ZERO,
            successes: 0,
            failures: 0,
            parts: [Part::default(); PARTS + 2],
            oldest: 0,
            used: 0,
        };
        machine.reset(now);
        Self(Box::new(machine))
    }
}

impl Machine {
    const fn is_single(&self) -> bool {
        self.settings.sampling_duration.0 < ROLLING_FROM.0
    }

    fn reset(&mut self, now: Time) {
        (self.successes, self.failures, self.used) = (0, 0, 0);
        if self.is_single() {
            // A single part is aligned to the last reset, not to the first event.
            self.begin(now);
        }
    }

    fn begin(&mut self, now: Time) {
        self.parts[(self.oldest + self.used) % self.parts.len()] = Part { start: now, ..Part::default() };
        self.used += 1;
    }

    /// The part of `now`, after dropping what is too old.
    fn present(&mut self, now: Time) -> &mut Part {
        let width = if self.is_single() {
            self.settings.sampling_duration
        } else {
            // In ticks of 100 ns.
            Duration(self.settings.sampling_duration.0 / 100 / PARTS as u64 * 100)
        };
        let len = self.parts.len();
        let newest = self.parts[(self.oldest + self.used.max(1) - 1) % len];
        while self.used > 0 && now - self.parts[self.oldest].start >= self.settings.sampling_duration {
            let part = self.parts[self.oldest];
            self.successes -= part.successes;
            self.failures -= part.failures;
            self.oldest = (self.oldest + 1) % len;
            self.used -= 1;
        }
        if self.used == 0 || now - newest.start >= width {
            self.begin(now);
        }
        &mut self.parts[(self.oldest + self.used - 1) % len]
    }

    fn open(&mut self, now: Time) {
        self.state = BreakerState::Open;
        self.blocked_until = now + self.settings.break_duration;
    }

    fn count_failure(&mut self, now: Time) {
        self.present(now).failures += 1;
        self.failures += 1;
    }
}

impl Breaker for Polly {
    #[inline]
    fn try_acquire(&mut self, now: Time) -> Admit {
        let machine = &mut *self.0;
        match machine.state {
            BreakerState::Closed => {}
            BreakerState::Open if now >= machine.blocked_until => machine.state = BreakerState::HalfOpen,
            BreakerState::Open => return Admit::Reject { until: Some(machine.blocked_until) },
            BreakerState::HalfOpen => return Admit::Reject { until: None },
        }
        Admit::Now(Permit { generation: 0, slot: 0, start: now })
    }

    #[inline]
    fn on_outcome(&mut self, now: Time, _permit: Permit, outcome: &Outcome) {
        let machine = &mut *self.0;
        if outcome.is_unwanted() || !outcome.is_error() {
            machine.present(now).successes += 1;
            machine.successes += 1;
            if machine.state == BreakerState::HalfOpen {
                machine.state = BreakerState::Closed;
                machine.reset(now);
            }
            return;
        }
        match machine.state {
            BreakerState::Closed => {
                machine.count_failure(now);
                let Written { failure_ratio, minimum_throughput, .. } = machine.settings;
                let total = machine.successes + machine.failures;
                if total >= minimum_throughput
                    && f64::from(machine.failures) / f64::from(total) >= failure_ratio.0
                {
                    machine.open(now);
                }
            }
            BreakerState::Open => machine.count_failure(now),
            BreakerState::HalfOpen => machine.open(now),
        }
    }

    #[inline]
    fn state(&self, _now: Time) -> BreakerState {
        self.0.state
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("successes", f64::from(self.0.successes));
        show("failures", f64::from(self.0.failures));
    }
}
