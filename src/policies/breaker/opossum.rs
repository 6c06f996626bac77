//! Opossum (Node.js): an error percentage over rolling buckets, an own timeout and capacity, and a timed probe.
//!
//! ## What it does
//! Every call fires; the window of `rolling-count-buckets` counts fires, failures and the rest. At each failure, if there
//! were at least `volume-threshold` fires, it opens when failures are strictly more than `error-threshold-percentage` of
//! the fires. A timer makes it half-open `reset-timeout` later; the next call is the probe: a failure opens again, any
//! success closes (and forgets nothing). A call that lasts `timeout` is a failure then, whatever comes later. A call above
//! `capacity` is refused and is a failure.
//!
//! ## When it helps
//! A client without timeouts of its own.
//!
//! ## How it fails
//! Fires include what is refused or still running, so refusals dilute the percentage. A failure of a call older than the
//! window, with no fires in it, is an infinite percentage and opens. Late successes close. A burst above the capacity
//! opens it although the dependency is well.
//!
//! ## Settings
//! * `timeout` (default `10s`; `0s`: none), `reset-timeout` (default `30s`).
//! * `error-threshold-percentage` (default `50%`), `volume-threshold` (default 0).
//! * `rolling-count-timeout` (default `10s`), `rolling-count-buckets` (default 10).
//! * `capacity` (default 0: unlimited): calls at once.
//!
//! ## Origin
//! npm opossum 9.0.0 (`lib/circuit.js`, `lib/status.js`), pinned by `tests/vectors/breaker/opossum.json`.
//!
//! ## Deliberate differences
//! * Timers run at the next call after they are due, as if they had run in time, in the order of upstream: by instant,
//!   then by when they were armed. Times are not cut to milliseconds.
//! * An ignored or abandoned call is one that `errorFilter` lets pass: a success.
//! * The calls it times are kept in a list that grows with the most calls ever in flight within one `timeout`, an exception
//!   to the contract of allocations.
//! * Above its capacity it refuses while closed, an exception to the contract of breakers.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Breaker, BreakerState};
use crate::policies::Algorithm;
use crate::policies::view::{Admit, Outcome, Permit};
use crate::time::{Duration, Time};
use crate::units::Share;

/// Settings of `breaker.opossum`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct OpossumSettings(Written);

/// The settings before they are checked against each other.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "OpossumSettings")]
struct Written {
    /// When the breaker gives up on a call; zero: never.
    timeout: Duration,
    /// How long it stays open.
    reset_timeout: Duration,
    /// Percentage of failures above which it opens.
    error_threshold_percentage: Share,
    /// Fires below which it never opens.
    volume_threshold: u32,
    /// Span of the statistics.
    rolling_count_timeout: Duration,
    /// Buckets in that span.
    rolling_count_buckets: NonZeroU32,
    /// Calls at once; zero: unlimited.
    capacity: u32,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            reset_timeout: Duration::from_secs(30),
            error_threshold_percentage: Share(0.5),
            volume_threshold: 0,
            rolling_count_timeout: Duration::from_secs(10),
            rolling_count_buckets: NonZeroU32::MIN.saturating_add(9),
            capacity: 0,
        }
    }
}

/// Most buckets.
const BUCKETS_MAX: u32 = 3600;

impl TryFrom<Written> for OpossumSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let buckets = written.rolling_count_buckets.get();
        if buckets > BUCKETS_MAX {
            return Err(format!("rolling-count-buckets is at most {BUCKETS_MAX}"));
        }
        if written.rolling_count_timeout < Duration::from_millis(1) * u64::from(buckets) {
            return Err("rolling-count-timeout must be at least 1ms per bucket".to_owned());
        }
        if written.reset_timeout == Duration::ZERO {
            return Err("reset-timeout must not be zero".to_owned());
        }
        Ok(Self(written))
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Opossum(Box<Machine>);

#[derive(Clone, Debug)]
struct Machine {
    settings: Written,
    state: BreakerState,
    /// Half-open and the probe is not out yet.
    probe_free: bool,
    /// Calls now at the dependency, as the semaphore sees them.
    in_flight: u32,
    width: Duration,
    rotate: Timer,
    reset: Timer,
    /// Timers armed so far; the order of ties.
    armed: u64,
    /// Calls being timed, in order; the first has the number `first`.
    timed: VecDeque<Timed>,
    first: u32,
    sum: Counts,
    buckets: Box<[Counts]>,
    at: usize,
}

/// A timer: when it is due, and its place in the order of arming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    due: Time,
    armed: u64,
}

impl Timer {
    const NEVER: Self = Self { due: Time::MAX, armed: u64::MAX };
}

#[derive(Clone, Copy, Debug)]
struct Timed {
    timer: Timer,
    ended: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    fires: u32,
    successes: u32,
    failures: u32,
    timeouts: u32,
    rejects: u32,
}

impl Counts {
    const fn subtract(&mut self, other: Self) {
        self.fires -= other.fires;
        self.successes -= other.successes;
        self.failures -= other.failures;
        self.timeouts -= other.timeouts;
        self.rejects -= other.rejects;
    }
}

impl Algorithm for Opossum {
    type Settings = OpossumSettings;

    fn new(&OpossumSettings(settings): &OpossumSettings, now: Time) -> Self {
        let buckets = settings.rolling_count_buckets.get();
        let width = Duration(settings.rolling_count_timeout.0 / u64::from(buckets));
        Self(Box::new(Machine {
            settings,
            state: BreakerState::Closed,
            probe_free: false,
            in_flight: 0,
            width,
            rotate: Timer { due: now + width, armed: 0 },
            reset: Timer::NEVER,
            armed: 1,
            timed: VecDeque::with_capacity(if settings.timeout == Duration::ZERO { 0 } else { 64 }),
            first: 0,
            sum: Counts::default(),
            buckets: vec![Counts::default(); buckets as usize].into_boxed_slice(),
            at: 0,
        }))
    }
}

impl Machine {
    const fn arm(&mut self, due: Time) -> Timer {
        self.armed += 1;
        Timer { due, armed: self.armed }
    }

    fn count(&mut self, what: fn(&mut Counts) -> &mut u32) {
        *what(&mut self.sum) += 1;
        *what(&mut self.buckets[self.at]) += 1;
    }

    /// Runs the timers that are due, in upstream's order.
    fn settle(&mut self, now: Time) {
        loop {
            while self.timed.front().is_some_and(|call| call.ended) {
                self.timed.pop_front();
                self.first = self.first.wrapping_add(1);
            }
            let timeout = self.timed.front().map_or(Timer::NEVER, |call| call.timer);
            let next = timeout.min(self.reset).min(self.rotate);
            if next.due > now || next == Timer::NEVER {
                return;
            }
            if next == timeout {
                self.timed[0].ended = true;
                self.in_flight -= 1;
                self.count(|counts| &mut counts.timeouts);
                self.fail(next.due);
            } else if next == self.reset {
                self.reset = Timer::NEVER;
                (self.state, self.probe_free) = (BreakerState::HalfOpen, true);
            } else {
                self.rotate(now.min(timeout.due).min(self.reset.due));
            }
        }
    }

    /// Begins the next bucket, or with nothing counted as many as are over by `until`.
    fn rotate(&mut self, until: Time) {
        self.at = (self.at + 1) % self.buckets.len();
        let old = std::mem::take(&mut self.buckets[self.at]);
        self.sum.subtract(old);
        let empty = self.sum.fires == 0 && self.sum.failures == 0 && self.sum.successes == 0;
        // The last of them one by one, so that it takes its place among the timers.
        let more = if empty { ((until - self.rotate.due).0 / self.width.0).saturating_sub(1) } else { 0 };
        self.rotate = self.arm(self.rotate.due + self.width * (more + 1));
    }

    /// A failure, and whether it opens.
    fn fail(&mut self, now: Time) {
        self.count(|counts| &mut counts.failures);
        let half_open = self.state == BreakerState::HalfOpen;
        if self.sum.fires < self.settings.volume_threshold && !half_open {
            return;
        }
        // No fires at all: infinitely many percent.
        let percent = f64::from(self.sum.failures) / f64::from(self.sum.fires) * 100.0;
        if (half_open || percent > self.settings.error_threshold_percentage.0 * 100.0)
            && self.state != BreakerState::Open
        {
            (self.state, self.probe_free) = (BreakerState::Open, false);
            self.reset = self.arm(now + self.settings.reset_timeout);
        }
    }
}

impl Breaker for Opossum {
    #[inline]
    fn try_acquire(&mut self, now: Time) -> Admit {
        let machine = &mut *self.0;
        machine.settle(now);
        machine.count(|counts| &mut counts.fires);
        if machine.state != BreakerState::Closed && !machine.probe_free {
            machine.count(|counts| &mut counts.rejects);
            // With a capacity it may be full then.
            let known = machine.reset != Timer::NEVER && machine.settings.capacity == 0;
            let until = known.then_some(machine.reset.due);
            return Admit::Reject { until };
        }
        machine.probe_free = false;
        let Written { capacity, timeout, .. } = machine.settings;
        if capacity != 0 && machine.in_flight >= capacity {
            machine.fail(now);
            return Admit::Reject { until: None };
        }
        machine.in_flight += 1;
        let mut slot = 0;
        if timeout != Duration::ZERO {
            slot = machine.first.wrapping_add(machine.timed.len() as u32);
            let timer = machine.arm(now + timeout);
            machine.timed.push_back(Timed { timer, ended: false });
        }
        Admit::Now(Permit { generation: 0, slot, start: now })
    }

    #[inline]
    fn on_outcome(&mut self, now: Time, permit: Permit, outcome: &Outcome) {
        let machine = &mut *self.0;
        machine.settle(now);
        if machine.settings.timeout != Duration::ZERO {
            let place = permit.slot.wrapping_sub(machine.first) as usize;
            match machine.timed.get_mut(place) {
                Some(call) if !call.ended => call.ended = true,
                // Timed out before.
                _ => return,
            }
        }
        machine.in_flight -= 1;
        if outcome.is_error() && !outcome.is_unwanted() {
            machine.fail(now);
            return;
        }
        machine.count(|counts| &mut counts.successes);
        if machine.state == BreakerState::HalfOpen {
            (machine.state, machine.probe_free) = (BreakerState::Closed, false);
        }
    }

    fn poll(&mut self, now: Time) {
        self.0.settle(now);
    }

    #[inline]
    fn state(&self, _now: Time) -> BreakerState {
        self.0.state
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        let sum = &self.0.sum;
        show("fires", f64::from(sum.fires));
        show("successes", f64::from(sum.successes));
        show("failures", f64::from(sum.failures));
        show("timeouts", f64::from(sum.timeouts));
        show("rejects", f64::from(sum.rejects));
    }
}
