//! Concurrency limit that shrinks as work takes longer than its long-term average (Gradient2).
//!
//! ## What it does
//! It admits work while less than the limit is in flight. Each sample gives a gradient: `rtt-tolerance` times the long-term
//! average of the durations, divided by this one, between 0.5 and 1. The limit moves to limit times gradient plus `queue-size`, by
//! the weight `smoothing`, if at least half of it was in flight. When the average is more than twice the sample, it is cut by 5 %.
//!
//! ## When it helps
//! As `vegas`, and it follows changes of the normal duration: the reference is an average, not a minimum.
//!
//! ## How it fails
//! A long overload becomes the new normal: the average rises and the limit with it. It ignores drops. With the default
//! tolerance it accepts half as much again of delay for ever.
//!
//! ## Settings
//! * `initial-limit` (default 20), `min-limit` (default 20), `max-limit` (default 200; upstream's builder says
//!   `maxConcurrency`).
//! * `smoothing` (default 0.2, above 0 and at most 1): weight of a new value.
//! * `rtt-tolerance` (default 1.5, at least 1): delay that is accepted, in long-term averages.
//! * `long-window` (default 600): samples that the average remembers.
//! * `queue-size` (default 4): queue that is allowed for.
//!
//! ## Origin
//! Netflix/concurrency-limits 78a74b98 (v0.5.4+4), `limit/Gradient2Limit.java`, `limit/measurement/ExpAvgMeasurement.java`
//! (a plain average over the first 10 samples); in flight is counted as `SimpleLimiter` does.
//!
//! ## Deliberate differences
//! Failures that are no losses are ignored. Work of cost n counts n times in flight. No refusal promises an instant.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::bounds;
use super::simple::{Estimator, Simple};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `limiter.gradient2`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Gradient2Settings {
    /// Limit at the start.
    pub initial_limit: NonZeroU32,
    /// Smallest limit.
    pub min_limit: NonZeroU32,
    /// Largest limit.
    pub max_limit: NonZeroU32,
    /// Weight of a new value.
    #[serde(deserialize_with = "bounds::weight")]
    pub smoothing: f64,
    /// Delay that is accepted, in long-term averages.
    #[serde(deserialize_with = "bounds::factor")]
    pub rtt_tolerance: f64,
    /// Samples that the average remembers.
    pub long_window: NonZeroU32,
    /// Queue that is allowed for.
    pub queue_size: u32,
}

checked!(Gradient2Settings);

impl Default for Gradient2Settings {
    fn default() -> Self {
        Self {
            initial_limit: bounds::count(20),
            min_limit: bounds::count(20),
            max_limit: bounds::count(200),
            smoothing: 0.2,
            rtt_tolerance: 1.5,
            long_window: bounds::count(600),
            queue_size: 4,
        }
    }
}

impl Gradient2Settings {
    fn check(&self) -> Result<(), String> {
        bounds::ordered(self.min_limit, self.max_limit)
    }
}

/// See the module documentation.
pub type Gradient2 = Simple<Gradient2Limit>;

/// The estimate alone.
#[derive(Clone, Debug)]
pub struct Gradient2Limit(Box<State>);

#[derive(Clone, Debug)]
struct State {
    estimated: f64,
    min: f64,
    max: f64,
    smoothing: f64,
    tolerance: f64,
    queue: f64,
    /// Long-term average of the durations, ns.
    long: f64,
    /// Weight of a new sample in it.
    factor: f64,
    /// The first samples, of which it is the plain average.
    sum: f64,
    samples: u32,
}

/// Samples of which the average is a plain one.
const WARM_UP: u32 = 10;

impl Algorithm for Gradient2Limit {
    type Settings = Gradient2Settings;

    fn new(settings: &Gradient2Settings, _now: Time) -> Self {
        Self(Box::new(State {
            estimated: settings.initial_limit.get().into(),
            min: settings.min_limit.get().into(),
            max: settings.max_limit.get().into(),
            smoothing: settings.smoothing,
            tolerance: settings.rtt_tolerance,
            queue: settings.queue_size.into(),
            long: 0.0,
            factor: 2.0 / (f64::from(settings.long_window.get()) + 1.0),
            sum: 0.0,
            samples: 0,
        }))
    }
}

impl Estimator for Gradient2Limit {
    fn on_sample(&mut self, _start: Time, rtt: Duration, in_flight: u32, _dropped: bool, _rng: &mut Rng) {
        let state = &mut *self.0;
        let short = rtt.0 as f64;
        if state.samples < WARM_UP {
            state.samples += 1;
            state.sum += short;
            state.long = state.sum / f64::from(state.samples);
        } else {
            state.long = state.long * (1.0 - state.factor) + short * state.factor;
        }
        let long = state.long;
        if long / short > 2.0 {
            state.long *= 0.95;
        }
        if f64::from(in_flight) < state.estimated / 2.0 {
            return;
        }
        let gradient = (state.tolerance * long / short).clamp(0.5, 1.0);
        let proposal = state.estimated * gradient + state.queue;
        let smooth = state.estimated * (1.0 - state.smoothing) + proposal * state.smoothing;
        state.estimated = smooth.min(state.max).max(state.min);
    }

    #[inline]
    fn limit(&self) -> u32 {
        self.0.estimated as u32
    }

    fn estimated(&self) -> f64 {
        self.0.estimated
    }
}
