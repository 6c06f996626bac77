//! Concurrency limit that shrinks as work takes longer than it did at its fastest (Gradient, the first form).
//!
//! ## What it does
//! It admits work while less than the limit is in flight. Each sample gives a gradient: `rtt-tolerance` times the shortest
//! duration since the last probe, divided by this one, between 0.5 and 1. The limit moves to limit times gradient plus the queue
//! size, downwards only by the weight `smoothing`; a drop multiplies it by `backoff-ratio`. Every `probe-interval` to twice that
//! many samples it falls to its minimum and measures the shortest duration anew.
//!
//! ## When it helps
//! As `vegas`; it reacts to drops as well. Upstream prefers `gradient2`.
//!
//! ## How it fails
//! Each probe throws most of the concurrency away for a moment, and refuses what then comes. In between it clings to a minimum
//! that may be out of date.
//!
//! ## Settings
//! * `initial-limit` (default 50), `min-limit` (default 1), `max-limit` (default 1000; upstream's builder says
//!   `maxConcurrency`).
//! * `smoothing` (default 0.2, above 0 and at most 1): weight of a lower value.
//! * `rtt-tolerance` (default 2.0, at least 1): delay that is accepted, in shortest durations.
//! * `backoff-ratio` (default 0.9, at least 0.5 and below 1): what a drop multiplies the limit by.
//! * `probe-interval` (default 1000): samples between probes, at least; 0 is never (upstream's -1).
//! * `queue-size` (default: the square root of the limit, at least 4): queue that is allowed for.
//!
//! ## Origin
//! Netflix/concurrency-limits 78a74b98 (v0.5.4+4), `limit/GradientLimit.java`, `limit/measurement/MinimumMeasurement.java`;
//! in flight is counted as `SimpleLimiter` does.
//!
//! ## Deliberate differences
//! The first probe's distance is drawn at the first sample, upstream's in the constructor. Failures that are no losses are
//! ignored. Work of cost n counts n times in flight. No refusal promises an instant.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::bounds;
use super::simple::{Estimator, Simple};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `limiter.gradient`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct GradientSettings {
    /// Limit at the start.
    pub initial_limit: NonZeroU32,
    /// Smallest limit.
    pub min_limit: NonZeroU32,
    /// Largest limit.
    pub max_limit: NonZeroU32,
    /// Weight of a lower value.
    #[serde(deserialize_with = "bounds::weight")]
    pub smoothing: f64,
    /// Delay that is accepted, in shortest durations.
    #[serde(deserialize_with = "bounds::factor")]
    pub rtt_tolerance: f64,
    /// What a drop multiplies the limit by.
    #[serde(deserialize_with = "bounds::backoff")]
    pub backoff_ratio: f64,
    /// Samples between probes, at least; 0 is never.
    #[schemars(range(max = 1_000_000_000))]
    pub probe_interval: u32,
    /// Queue that is allowed for; the square root of the limit (at least 4) if it is left out.
    pub queue_size: Option<NonZeroU32>,
}

checked!(GradientSettings);

impl Default for GradientSettings {
    fn default() -> Self {
        Self {
            initial_limit: bounds::count(50),
            min_limit: bounds::count(1),
            max_limit: bounds::count(1000),
            smoothing: 0.2,
            rtt_tolerance: 2.0,
            backoff_ratio: 0.9,
            probe_interval: 1000,
            queue_size: None,
        }
    }
}

impl GradientSettings {
    fn check(&self) -> Result<(), String> {
        if self.probe_interval > 1_000_000_000 {
            return Err("probe-interval must be at most 1000000000".to_owned());
        }
        bounds::ordered(self.min_limit, self.max_limit)
    }
}

/// See the module documentation.
pub type Gradient = Simple<GradientLimit>;

/// The estimate alone.
#[derive(Clone, Debug)]
pub struct GradientLimit(Box<State>);

#[derive(Clone, Debug)]
struct State {
    settings: GradientSettings,
    estimated: f64,
    /// Shortest duration since the last probe.
    no_load: Option<Duration>,
    /// Samples before the next probe; `None` before the first draw.
    countdown: Option<u32>,
}

impl Algorithm for GradientLimit {
    type Settings = GradientSettings;

    fn new(settings: &GradientSettings, _now: Time) -> Self {
        let estimated = settings.initial_limit.get().into();
        Self(Box::new(State { settings: *settings, estimated, no_load: None, countdown: None }))
    }
}

impl State {
    /// Whether this sample is a probe.
    fn probes(&mut self, rng: &mut Rng) -> bool {
        let interval = self.settings.probe_interval;
        if interval == 0 {
            return false;
        }
        let draw = |rng: &mut Rng| interval + rng.index(interval);
        let countdown = match self.countdown {
            Some(countdown) => countdown,
            None => draw(rng),
        };
        self.countdown = Some(if countdown == 0 { draw(rng) } else { countdown - 1 });
        countdown == 0
    }
}

impl Estimator for GradientLimit {
    fn on_sample(&mut self, _start: Time, rtt: Duration, in_flight: u32, dropped: bool, rng: &mut Rng) {
        let state = &mut *self.0;
        let GradientSettings { smoothing, rtt_tolerance, backoff_ratio, .. } = state.settings;
        let (min, max) =
            (f64::from(state.settings.min_limit.get()), f64::from(state.settings.max_limit.get()));
        let estimated = state.estimated;
        let queue = match state.settings.queue_size {
            Some(size) => f64::from(size.get()),
            None => f64::from(4.max((estimated as u32).isqrt())),
        };
        if state.probes(rng) {
            state.estimated = min.max(queue);
            state.no_load = None;
            return;
        }
        let no_load = state.no_load.map_or(rtt, |no_load| no_load.min(rtt));
        state.no_load = Some(no_load);
        let proposal = if dropped {
            estimated * backoff_ratio
        } else if f64::from(in_flight) < estimated / 2.0 {
            return;
        } else {
            let gradient = (rtt_tolerance * no_load.0 as f64 / rtt.0 as f64).clamp(0.5, 1.0);
            estimated * gradient + queue
        };
        let smooth = if proposal < estimated {
            min.max(estimated * (1.0 - smoothing) + smoothing * proposal)
        } else {
            proposal
        };
        state.estimated = smooth.min(max).max(queue);
    }

    #[inline]
    fn limit(&self) -> u32 {
        self.0.estimated as u32
    }

    fn estimated(&self) -> f64 {
        self.0.estimated
    }
}
