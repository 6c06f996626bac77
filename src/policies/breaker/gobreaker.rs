//! sony/gobreaker v2: counts in a fixed or rolling window, trips on a rule over the counts, probes a few requests.
//!
//! ## What it does
//! Closed, every request and its ending is counted, and after each failure the rule is asked: by default more than five
//! failures in a row, else `consecutive-failures`, or a share of failures among at least `min-requests`. Tripped, it
//! refuses until strictly more than `timeout` has passed. Half-open, it admits `max-requests` in total; so many successes
//! in a row close it, the first failure opens it again. With `interval` the counts of the closed state are cleared when
//! it is over, or, with `bucket-period`, roll by buckets whose age is counted from the last change of state.
//!
//! ## When it helps
//! A dependency that fails hard. Its generations make it the cleanest of all about late results: what was admitted before
//! the last change of state (or clearing) is ignored.
//!
//! ## How it fails
//! Without `interval` nothing is ever forgotten while closed: a share of failures is over the whole life of the process.
//! Six failures in a row are bad luck once in a while at any error rate, if there is enough traffic. A fixed window
//! forgets everything at its end.
//!
//! ## Settings
//! * `max-requests` (default 1; 0 means 1): requests in half-open, and successes that close.
//! * `interval` (default `0s`: never): window of the closed state.
//! * `bucket-period` (default `0s`: one fixed window): width of a rolling bucket; the interval is rounded up to a multiple.
//! * `timeout` (default `60s`; `0s` means that, too): how long it stays open.
//! * `consecutive-failures` (default 6): failures in a row that trip.
//! * `failure-ratio`, with `min-requests` (default 3): trips by share instead.
//!
//! ## Origin
//! sony/gobreaker v2 at fed8e9eb (`gobreaker.go`, `counter.go`), pinned by `tests/vectors/breaker/gobreaker.json`.
//!
//! ## Deliberate differences
//! * `ReadyToTrip` is a function there; here one of its two usual forms.
//! * An abandoned call is an excluded one (upstream leaves this to `IsExcluded`), so no probe is ever lost.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Breaker, BreakerState};
use crate::policies::Algorithm;
use crate::policies::view::{Admit, Outcome, Permit};
use crate::time::{Duration, Time};
use crate::units::Share;

/// Settings of `breaker.gobreaker`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct GobreakerSettings(Written);

/// The settings before they are checked against each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "GobreakerSettings")]
struct Written {
    /// Requests admitted in half-open, and successes in a row that close; 0 means 1.
    max_requests: u32,
    /// Window of the closed state; zero: counts are never cleared.
    interval: Duration,
    /// Width of a rolling bucket; zero: one fixed window.
    bucket_period: Duration,
    /// How long it stays open; zero means 60 s.
    timeout: Duration,
    /// Failures in a row that trip; 6 unless `failure-ratio` is given.
    consecutive_failures: Option<u32>,
    /// Requests below which no share trips.
    min_requests: Option<u32>,
    /// Share of failures among all requests that trips.
    failure_ratio: Option<Share>,
}

/// Most rolling buckets.
const BUCKETS_MAX: u64 = 3600;

impl TryFrom<Written> for GobreakerSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if written.consecutive_failures.is_some() && written.failure_ratio.is_some() {
            return Err("ReadyToTrip is one rule: give consecutive-failures or failure-ratio".to_owned());
        }
        if written.min_requests.is_some() && written.failure_ratio.is_none() {
            return Err("min-requests belongs to failure-ratio, which is missing".to_owned());
        }
        if written.consecutive_failures == Some(0) {
            return Err("consecutive-failures must be at least 1".to_owned());
        }
        if written.bucket_period != Duration::ZERO
            && written.interval.0.div_ceil(written.bucket_period.0) > BUCKETS_MAX
        {
            return Err(format!("interval has more than {BUCKETS_MAX} buckets of bucket-period"));
        }
        Ok(Self(written))
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Gobreaker(Box<Machine>);

#[derive(Clone, Debug)]
struct Machine {
    max_requests: u32,
    interval: Duration,
    bucket_period: Duration,
    timeout: Duration,
    trip: Trip,
    state: BreakerState,
    generation: u32,
    /// Start of the generation; ages of buckets count from it.
    start: Time,
    /// Open: from then on (strictly) half-open. Closed with a fixed window: its end. [`Time::MAX`]: never.
    expiry: Time,
    counts: Counts,
    age: u64,
    /// Counts by age modulo their number; one for a fixed window.
    buckets: Box<[Counts]>,
}

#[derive(Clone, Copy, Debug)]
enum Trip {
    InARow(u32),
    Share { min_requests: u32, ratio: f64 },
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    requests: u32,
    successes: u32,
    failures: u32,
    exclusions: u32,
    successes_in_a_row: u32,
    failures_in_a_row: u32,
}

#[derive(Clone, Copy)]
enum Ending {
    Good,
    Bad,
    Excluded,
}

impl Counts {
    fn end(&mut self, ending: Ending) {
        match ending {
            Ending::Good => {
                self.successes += 1;
                self.successes_in_a_row += 1;
                self.failures_in_a_row = 0;
            }
            Ending::Bad => {
                self.failures += 1;
                self.failures_in_a_row += 1;
                self.successes_in_a_row = 0;
            }
            Ending::Excluded => self.exclusions += 1,
        }
    }
}

impl Algorithm for Gobreaker {
    type Settings = GobreakerSettings;

    fn new(&GobreakerSettings(settings): &GobreakerSettings, now: Time) -> Self {
        let (mut interval, mut buckets) = (settings.interval, 1);
        if settings.bucket_period != Duration::ZERO && interval != Duration::ZERO {
            buckets = interval.0.div_ceil(settings.bucket_period.0);
            interval = settings.bucket_period * buckets;
        }
        let trip = match settings.failure_ratio {
            Some(Share(ratio)) => Trip::Share { min_requests: settings.min_requests.unwrap_or(3), ratio },
            None => Trip::InARow(settings.consecutive_failures.unwrap_or(6)),
        };
        let timeout = settings.timeout;
        let mut machine = Machine {
            max_requests: settings.max_requests.max(1),
            interval,
            bucket_period: if interval == Duration::ZERO { Duration::ZERO } else { settings.bucket_period },
            timeout: if timeout == Duration::ZERO { Duration::from_secs(60) } else { timeout },
            trip,
            state: BreakerState::Closed,
            generation: 0,
            start: now,
            expiry: Time::MAX,
            counts: Counts::default(),
            age: 0,
            buckets: vec![Counts::default(); buckets as usize].into_boxed_slice(),
        };
        machine.renew(now);
        Self(Box::new(machine))
    }
}

impl Machine {
    /// A new generation: whatever was admitted before is forgotten.
    fn renew(&mut self, now: Time) {
        self.generation = self.generation.wrapping_add(1);
        self.start = now;
        self.clear(0);
        self.expiry = match self.state {
            BreakerState::Closed
                if self.interval == Duration::ZERO || self.bucket_period != Duration::ZERO =>
            {
                Time::MAX
            }
            BreakerState::Closed => now + self.interval,
            BreakerState::Open => now + self.timeout,
            BreakerState::HalfOpen => Time::MAX,
        };
    }

    fn clear(&mut self, age: u64) {
        self.counts = Counts::default();
        self.buckets.fill(Counts::default());
        self.age = age;
    }

    fn enter(&mut self, state: BreakerState, now: Time) {
        self.state = state;
        self.renew(now);
    }

    /// What the clock alone brings about.
    fn settle(&mut self, now: Time) {
        match self.state {
            BreakerState::Closed if self.bucket_period != Duration::ZERO => {
                self.grow((now - self.start).0 / self.bucket_period.0);
            }
            BreakerState::Closed if self.expiry < now => self.renew(now),
            BreakerState::Open if self.expiry < now => self.enter(BreakerState::HalfOpen, now),
            _ => {}
        }
    }

    /// Rolls to bucket `age`.
    fn grow(&mut self, age: u64) {
        if age >= self.age + self.buckets.len() as u64 {
            self.clear(age);
        }
        while self.age < age {
            self.age += 1;
            self.subtract((self.age % self.buckets.len() as u64) as usize);
        }
    }

    /// Takes the oldest bucket out. Whether the run of equal endings began in it is a guess of upstream: it did if the
    /// run is as long as the bucket's own and all such endings since.
    fn subtract(&mut self, oldest: usize) {
        let old = std::mem::take(&mut self.buckets[oldest]);
        let (successes, failures) = self
            .buckets
            .iter()
            .fold((0, 0), |(good, bad), bucket| (good + bucket.successes, bad + bucket.failures));
        let counts = &mut self.counts;
        if counts.successes_in_a_row == old.successes_in_a_row + successes {
            counts.successes_in_a_row -= old.successes_in_a_row;
        }
        if counts.failures_in_a_row == old.failures_in_a_row + failures {
            counts.failures_in_a_row -= old.failures_in_a_row;
        }
        counts.requests = counts.requests.saturating_sub(old.requests);
        counts.successes = counts.successes.saturating_sub(old.successes);
        counts.failures = counts.failures.saturating_sub(old.failures);
        counts.exclusions = counts.exclusions.saturating_sub(old.exclusions);
    }

    fn trips(&self) -> bool {
        let counts = &self.counts;
        match self.trip {
            Trip::InARow(failures) => counts.failures_in_a_row >= failures,
            Trip::Share { min_requests, ratio } => {
                counts.requests >= min_requests
                    && f64::from(counts.failures) / f64::from(counts.requests) >= ratio
            }
        }
    }
}

impl Breaker for Gobreaker {
    #[inline]
    fn try_acquire(&mut self, now: Time) -> Admit {
        let machine = &mut *self.0;
        machine.settle(now);
        match machine.state {
            BreakerState::Open => return Admit::Reject { until: Some(machine.expiry + Duration(1)) },
            BreakerState::HalfOpen
                if machine.counts.requests.saturating_sub(machine.counts.exclusions)
                    >= machine.max_requests =>
            {
                return Admit::Reject { until: None };
            }
            _ => {}
        }
        machine.counts.requests += 1;
        let bucket = (machine.age % machine.buckets.len() as u64) as usize;
        machine.buckets[bucket].requests += 1;
        Admit::Now(Permit { generation: machine.generation, slot: machine.age as u32, start: now })
    }

    #[inline]
    fn on_outcome(&mut self, now: Time, permit: Permit, outcome: &Outcome) {
        let machine = &mut *self.0;
        machine.settle(now);
        if permit.generation != machine.generation {
            return;
        }
        let ending = match (outcome.is_unwanted(), outcome.is_error()) {
            (true, _) => Ending::Excluded,
            (_, true) => Ending::Bad,
            (_, false) => Ending::Good,
        };
        // Dropped if its bucket has rolled away.
        let (buckets, back) =
            (machine.buckets.len() as u64, u64::from((machine.age as u32).wrapping_sub(permit.slot)));
        if back < buckets {
            machine.counts.end(ending);
            machine.buckets[((machine.age - back) % buckets) as usize].end(ending);
        }
        match (machine.state, ending) {
            (BreakerState::Closed, Ending::Bad) if machine.trips() => machine.enter(BreakerState::Open, now),
            (BreakerState::HalfOpen, Ending::Bad) => machine.enter(BreakerState::Open, now),
            (BreakerState::HalfOpen, Ending::Good)
                if machine.counts.successes_in_a_row >= machine.max_requests =>
            {
                machine.enter(BreakerState::Closed, now);
            }
            _ => {}
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
        let counts = &self.0.counts;
        show("requests", f64::from(counts.requests));
        show("successes", f64::from(counts.successes));
        show("failures", f64::from(counts.failures));
        show("exclusions", f64::from(counts.exclusions));
        show("consecutive_successes", f64::from(counts.successes_in_a_row));
        show("consecutive_failures", f64::from(counts.failures_in_a_row));
    }
}
