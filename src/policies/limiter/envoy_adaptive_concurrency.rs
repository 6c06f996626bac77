//! Envoy's adaptive concurrency: compares latency with the one measured while hardly anything is let in (gradient controller).
//!
//! ## What it does
//! From time to time it lowers the limit to `min-concurrency` until `request-count` answers have come, and takes a percentile of their
//! latencies as the minimal one. In between, each `concurrency-update-interval` with answers multiplies the limit by (minimal
//! latency plus `buffer`) / (latency now), between 0.5 and 2, and adds the square root. Work is refused while the limit is in
//! flight. Five updates in a row that leave it at the minimum start a new measurement.
//!
//! ## When it helps
//! At the callee's proxy: holds the queue short without knowledge of the capacity, and re-learns what is normal.
//!
//! ## How it fails
//! Each measurement refuses most of the traffic for some round trips: with a long service time or few requests, for long. A
//! measurement during an incident takes the slow latency for normal.
//!
//! ## Settings
//! * `concurrency-update-interval` (required), `min-rtt-interval` (required, between measurements); whole milliseconds.
//! * `sample-aggregate-percentile` (default `50%`): of the latencies, for both measures.
//! * `max-concurrency-limit` (default 1000), `min-concurrency` (default 3).
//! * `request-count` (default 50): answers that a measurement needs.
//! * `jitter` (default `15%`): random part added to `min-rtt-interval`.
//! * `buffer` (default `25%`): slack on the minimal latency.
//!
//! ## Origin
//! Envoy, `source/extensions/filters/http/adaptive_concurrency/controller/gradient_controller.cc` at c35f67fb; percentiles as
//! `hist_approx_quantile` of openhistogram/libcircllhist 3f403208 (two digits, samples spread evenly within a bin). An abandoned request
//! frees its place without a sample; all other endings are answers.
//!
//! ## Deliberate differences
//! Timers that came due run at the next look, at their own time. A jitter of less than a millisecond is none (upstream divides by
//! zero). Work of cost n takes n places. No refusal promises an instant.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Limiter, bounds};
use crate::policies::Algorithm;
use crate::policies::view::{Admit, Class, Outcome, Permit};
use crate::random::Rng;
use crate::time::{Duration, Time};
use crate::units::Share;

/// Settings of `limiter.envoy-adaptive-concurrency`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "kebab-case")]
pub struct EnvoyAdaptiveConcurrencySettings {
    /// Time between updates of the limit.
    #[serde(deserialize_with = "bounds::some_millis")]
    pub concurrency_update_interval: Duration,
    /// Time between measurements of the minimal latency.
    #[serde(deserialize_with = "bounds::some_millis")]
    pub min_rtt_interval: Duration,
    /// Percentile of the latencies.
    #[serde(default = "half")]
    pub sample_aggregate_percentile: Share,
    /// Largest limit.
    #[serde(default = "thousand")]
    pub max_concurrency_limit: NonZeroU32,
    /// Smallest limit, and the one while measuring.
    #[serde(default = "three")]
    pub min_concurrency: NonZeroU32,
    /// Answers that a measurement needs.
    #[serde(default = "fifty")]
    pub request_count: NonZeroU32,
    /// Random part added to `min-rtt-interval`.
    #[serde(default = "fifteen_percent")]
    pub jitter: Share,
    /// Slack on the minimal latency.
    #[serde(default = "quarter")]
    pub buffer: Share,
}

checked!(EnvoyAdaptiveConcurrencySettings);

const fn half() -> Share {
    Share(0.5)
}

const fn thousand() -> NonZeroU32 {
    bounds::count(1000)
}

const fn three() -> NonZeroU32 {
    bounds::count(3)
}

const fn fifty() -> NonZeroU32 {
    bounds::count(50)
}

const fn fifteen_percent() -> Share {
    Share(0.15)
}

const fn quarter() -> Share {
    Share(0.25)
}

impl EnvoyAdaptiveConcurrencySettings {
    fn check(&self) -> Result<(), String> {
        let (min, max) = (self.min_concurrency, self.max_concurrency_limit);
        if min <= max {
            Ok(())
        } else {
            Err(format!("min-concurrency = {min} is above max-concurrency-limit = {max}"))
        }
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct EnvoyAdaptiveConcurrency(Box<Controller>);

#[derive(Clone, Debug)]
struct Controller {
    settings: EnvoyAdaptiveConcurrencySettings,
    limit: u32,
    in_flight: u32,
    /// The limit to return to after the measurement; 0 while there is none.
    deferred: u32,
    /// Updates in a row that left the limit at its minimum.
    at_minimum: u32,
    /// Microseconds; 0 before the first measurement.
    min_rtt: u64,
    /// When the present or last measurement began; older requests are no samples.
    epoch: Time,
    measure_at: Option<Time>,
    update_at: Option<Time>,
    latencies: Histogram,
}

impl Algorithm for EnvoyAdaptiveConcurrency {
    type Settings = EnvoyAdaptiveConcurrencySettings;

    fn new(settings: &EnvoyAdaptiveConcurrencySettings, now: Time) -> Self {
        let mut controller = Controller {
            settings: *settings,
            limit: settings.min_concurrency.get(),
            in_flight: 0,
            deferred: 0,
            at_minimum: 0,
            min_rtt: 0,
            epoch: now,
            measure_at: None,
            update_at: now.0.checked_add(settings.concurrency_update_interval.0).map(Time),
            latencies: Histogram::new(),
        };
        controller.measure(now);
        Self(Box::new(controller))
    }
}

impl Controller {
    const fn measuring(&self) -> bool {
        self.deferred > 0
    }

    /// Runs the timers that are due by `now`; of two due at the same time the measurement was armed first.
    #[inline]
    fn run_timers(&mut self, now: Time) {
        let due = |timer: Option<Time>| timer.is_some_and(|at| at <= now);
        while due(self.update_at) || due(self.measure_at) {
            match (self.measure_at, self.update_at) {
                (Some(measure), update) if update.is_none_or(|update| measure <= update) => {
                    self.measure_at = None;
                    self.measure(measure);
                }
                // While measuring it is not armed again; the end of the measurement does that.
                (_, Some(_)) if self.measuring() => self.update_at = None,
                (measure, Some(update)) => {
                    let interval = self.settings.concurrency_update_interval.0;
                    let mut ahead = interval;
                    if self.latencies.count == 0 {
                        // Updates without samples change nothing: the rest of a quiet time is passed at once.
                        let to = measure.map_or(now, |measure| measure.min(now));
                        ahead = interval.saturating_mul((to - update).0.div_ceil(interval).max(1));
                    } else {
                        self.update(update);
                    }
                    self.update_at = update.0.checked_add(ahead).map(Time);
                }
                (_, None) => unreachable!("one of them is due"),
            }
        }
    }

    /// Begins a measurement.
    fn measure(&mut self, now: Time) {
        if self.measuring() {
            return;
        }
        self.deferred = self.limit;
        self.set_limit(now, self.settings.min_concurrency.get());
        self.latencies.clear();
        self.epoch = now;
    }

    /// The latencies gathered, as one number; forgets them.
    fn aggregate(&mut self) -> u64 {
        let latency = self.latencies.quantile(self.settings.sample_aggregate_percentile.0);
        self.latencies.clear();
        latency as u64
    }

    /// An update is due.
    fn update(&mut self, now: Time) {
        if self.latencies.count == 0 {
            return;
        }
        let sample = self.aggregate() as f64;
        let minimal = self.min_rtt as f64 + self.min_rtt as f64 * self.settings.buffer.0;
        // Zero by zero counts as fast, as in C++'s order of arguments.
        let gradient = if sample == 0.0 { 2.0 } else { (minimal / sample).clamp(0.5, 2.0) };
        let limit = f64::from(self.limit) * gradient;
        let limit = (limit + limit.sqrt()) as u32;
        let (min, max) = (self.settings.min_concurrency.get(), self.settings.max_concurrency_limit.get());
        self.set_limit(now, limit.min(max).max(min));
    }

    fn set_limit(&mut self, now: Time, limit: u32) {
        let min = self.settings.min_concurrency.get();
        let stays_low = !self.measuring() && self.limit == min && limit == min;
        self.at_minimum = if stays_low { self.at_minimum + 1 } else { 0 };
        self.limit = limit;
        if self.at_minimum >= 5 {
            self.measure_at = Some(now);
        }
    }

    /// An answer came.
    fn sample(&mut self, now: Time, start: Time, rng: &mut Rng) {
        if start < self.epoch {
            return;
        }
        self.latencies.insert((now - start).0 / 1000);
        if !self.measuring() || self.latencies.count < u64::from(self.settings.request_count.get()) {
            return;
        }
        self.min_rtt = self.aggregate();
        self.set_limit(now, self.deferred);
        self.deferred = 0;
        let mut interval = self.settings.min_rtt_interval.0;
        let jitter = ((interval / MS) as f64 * self.settings.jitter.0) as u32;
        if jitter > 0 {
            interval = interval.saturating_add(u64::from(rng.index(jitter)) * MS);
        }
        self.measure_at = now.0.checked_add(interval).map(Time);
        self.update_at = now.0.checked_add(self.settings.concurrency_update_interval.0).map(Time);
    }
}

/// Nanoseconds in a millisecond.
const MS: u64 = 1_000_000;

impl EnvoyAdaptiveConcurrency {
    /// Whether it measures at present, and the minimal latency in microseconds.
    pub(crate) const fn measurement(&self) -> (bool, u64) {
        (self.0.measuring(), self.0.min_rtt)
    }
}

impl Limiter for EnvoyAdaptiveConcurrency {
    fn try_acquire(&mut self, now: Time, cost: u32, _max_wait: Duration, _rng: &mut Rng) -> Admit {
        let controller = &mut *self.0;
        controller.run_timers(now);
        match controller.in_flight.checked_add(cost) {
            Some(in_flight) if in_flight <= controller.limit => {
                controller.in_flight = in_flight;
                Admit::Now(Permit { generation: 0, slot: cost, start: now })
            }
            _ => Admit::Reject { until: None },
        }
    }

    fn on_outcome(&mut self, now: Time, permit: Permit, outcome: &Outcome, rng: &mut Rng) {
        let controller = &mut *self.0;
        controller.run_timers(now);
        debug_assert!(permit.slot <= controller.in_flight, "a permit came back twice");
        controller.in_flight -= permit.slot;
        if outcome.class != Class::Abandoned && !outcome.ignored {
            controller.sample(now, permit.start, rng);
        }
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("in_flight", f64::from(self.0.in_flight));
        show("limit", f64::from(self.0.limit));
    }
}

/// Log-linear histogram of whole microseconds: 90 bins per power of ten, and one for zero.
#[derive(Clone, Debug)]
struct Histogram {
    bins: Box<[u32]>,
    count: u64,
    /// First and last bin in use.
    low: usize,
    high: usize,
}

impl Histogram {
    /// Powers of ten that microseconds of 64-bit nanoseconds span.
    const POWERS: usize = 17;

    fn new() -> Self {
        Self { bins: vec![0; 1 + 90 * Self::POWERS].into(), count: 0, low: usize::MAX, high: 0 }
    }

    fn clear(&mut self) {
        if self.count > 0 {
            self.bins[self.low..=self.high].fill(0);
            (self.count, self.low, self.high) = (0, usize::MAX, 0);
        }
    }

    fn insert(&mut self, micros: u64) {
        let bin = match micros.checked_ilog10() {
            None => 0,
            Some(0) => 1 + (micros as usize - 1) * 10,
            // The two leading digits, 10 to 99.
            Some(power) => 1 + 90 * power as usize + (micros / 10_u64.pow(power - 1)) as usize - 10,
        };
        self.bins[bin] += 1;
        self.count += 1;
        self.low = self.low.min(bin);
        self.high = self.high.max(bin);
    }

    /// Left edge and width of a bin.
    fn edges(bin: usize) -> (f64, f64) {
        let Some(bin) = bin.checked_sub(1) else { return (0.0, 0.0) };
        let power = 10_u64.pow((bin / 90) as u32) as f64;
        ((bin % 90 + 10) as f64 / 10.0 * power, power / 10.0)
    }

    /// The `q`-quantile; there must be samples. Those of a bin are taken to lie evenly between its edges.
    fn quantile(&self, q: f64) -> f64 {
        let rank = ((self.count as f64 * q).ceil() as u64).max(1);
        let (mut below, mut bin) = (0, self.low);
        while bin < self.high && below + u64::from(self.bins[bin]) < rank {
            below += u64::from(self.bins[bin]);
            bin += 1;
        }
        let (left, width) = Self::edges(bin);
        left + width * (rank - below) as f64 / f64::from(self.bins[bin] + 1)
    }
}
