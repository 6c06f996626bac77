//! Gathers samples over a window and hands their average to another concurrency limit.
//!
//! ## What it does
//! Samples are gathered until one ends after the window's end. Then a new window begins, whose length is twice the shortest duration of
//! the old one, between `min-window-time` and `max-window-time`. If the old one has at least `window-size` samples, the
//! delegate gets one sample of it: the average duration, the most that was in flight, and whether anything was dropped. Samples
//! shorter than `min-rtt-threshold` are ignored.
//!
//! ## When it helps
//! Around `vegas`, `gradient` or `gradient2` when single durations scatter widely: it reacts to the level, not to the noise.
//!
//! ## How it fails
//! It reacts late, by a second with the defaults. Below `window-size` samples per window it never reacts at all.
//!
//! ## Settings
//! * `delegate` (default `{ gradient2 = {} }`): `aimd`, `vegas`, `gradient` or `gradient2` with its settings.
//! * `min-window-time` (default `1s`), `max-window-time` (default `1s`), in whole milliseconds.
//! * `window-size` (default 10): samples that a window needs.
//! * `min-rtt-threshold` (default `100us`).
//!
//! ## Origin
//! Netflix/concurrency-limits 78a74b98 (v0.5.4+4), `limit/WindowedLimit.java`, `limit/window/ImmutableAverageSampleWindow.java`;
//! in flight is counted as `SimpleLimiter` does.
//!
//! ## Deliberate differences
//! The window of percentiles is not offered. Failures that are no losses are ignored. Work of cost n counts n times in
//! flight. No refusal promises an instant.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::aimd::{AimdLimit, AimdSettings};
use super::bounds;
use super::gradient::{GradientLimit, GradientSettings};
use super::gradient2::{Gradient2Limit, Gradient2Settings};
use super::simple::{Estimator, Simple};
use super::vegas::{VegasLimit, VegasSettings};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `limiter.windowed`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct WindowedSettings {
    /// What gets the windows.
    pub delegate: DelegateSettings,
    /// Shortest window.
    #[serde(deserialize_with = "bounds::some_millis")]
    pub min_window_time: Duration,
    /// Longest window.
    #[serde(deserialize_with = "bounds::some_millis")]
    pub max_window_time: Duration,
    /// Samples that a window needs.
    pub window_size: NonZeroU32,
    /// Shorter samples are ignored.
    pub min_rtt_threshold: Duration,
}

checked!(WindowedSettings);

impl Default for WindowedSettings {
    fn default() -> Self {
        Self {
            delegate: DelegateSettings::Gradient2(Gradient2Settings::default()),
            min_window_time: Duration::from_secs(1),
            max_window_time: Duration::from_secs(1),
            window_size: bounds::count(10),
            min_rtt_threshold: Duration(100_000),
        }
    }
}

impl WindowedSettings {
    fn check(&self) -> Result<(), String> {
        let (min, max) = (self.min_window_time, self.max_window_time);
        if min <= max {
            Ok(())
        } else {
            Err(format!("min-window-time = {min} is above max-window-time = {max}"))
        }
    }
}

/// A concurrency limit behind a window, as written in a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DelegateSettings {
    /// Settings of `aimd`.
    Aimd(AimdSettings),
    /// Settings of `vegas`.
    Vegas(VegasSettings),
    /// Settings of `gradient`.
    Gradient(GradientSettings),
    /// Settings of `gradient2`.
    Gradient2(Gradient2Settings),
}

#[derive(Clone, Debug)]
enum Delegate {
    Aimd(AimdLimit),
    Vegas(VegasLimit),
    Gradient(GradientLimit),
    Gradient2(Gradient2Limit),
}

/// Calls the same method on whichever limit is inside.
macro_rules! delegate {
    ($any:expr, $limit:ident => $call:expr) => {
        match $any {
            Delegate::Aimd($limit) => $call,
            Delegate::Vegas($limit) => $call,
            Delegate::Gradient($limit) => $call,
            Delegate::Gradient2($limit) => $call,
        }
    };
}

/// See the module documentation.
pub type Windowed = Simple<WindowedLimit>;

/// The estimate alone.
#[derive(Clone, Debug)]
pub struct WindowedLimit(Box<State>);

#[derive(Clone, Debug)]
struct State {
    delegate: Delegate,
    min: u64,
    max: u64,
    window_size: u32,
    threshold: Duration,
    next_update: u64,
    window: Window,
}

/// The samples of a window.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// Shortest duration; 0 if there is none.
    shortest: u64,
    sum: u64,
    in_flight: u32,
    samples: u32,
    dropped: bool,
}

impl Algorithm for WindowedLimit {
    type Settings = WindowedSettings;

    fn new(settings: &WindowedSettings, now: Time) -> Self {
        let delegate = match &settings.delegate {
            DelegateSettings::Aimd(settings) => Delegate::Aimd(AimdLimit::new(settings, now)),
            DelegateSettings::Vegas(settings) => Delegate::Vegas(VegasLimit::new(settings, now)),
            DelegateSettings::Gradient(settings) => Delegate::Gradient(GradientLimit::new(settings, now)),
            DelegateSettings::Gradient2(settings) => Delegate::Gradient2(Gradient2Limit::new(settings, now)),
        };
        Self(Box::new(State {
            delegate,
            min: settings.min_window_time.0,
            max: settings.max_window_time.0,
            window_size: settings.window_size.get(),
            threshold: settings.min_rtt_threshold,
            next_update: 0,
            window: Window::default(),
        }))
    }
}

impl Estimator for WindowedLimit {
    fn on_sample(&mut self, start: Time, rtt: Duration, in_flight: u32, dropped: bool, rng: &mut Rng) {
        let state = &mut *self.0;
        if rtt < state.threshold {
            return;
        }
        let window = &mut state.window;
        window.shortest = if window.samples == 0 { rtt.0 } else { window.shortest.min(rtt.0) };
        window.sum = window.sum.saturating_add(rtt.0);
        window.in_flight = window.in_flight.max(in_flight);
        window.samples = window.samples.saturating_add(1);
        window.dropped |= dropped;
        let end = start.0.saturating_add(rtt.0);
        if end <= state.next_update {
            return;
        }
        let window = std::mem::take(window);
        let length = window.shortest.saturating_mul(2).max(state.min).min(state.max);
        state.next_update = end.saturating_add(length);
        if window.samples >= state.window_size {
            let average = Duration(window.sum / u64::from(window.samples));
            delegate!(&mut state.delegate, limit => {
                limit.on_sample(start, average, window.in_flight, window.dropped, rng);
            });
        }
    }

    #[inline]
    fn limit(&self) -> u32 {
        delegate!(&self.0.delegate, limit => limit.limit())
    }

    fn estimated(&self) -> f64 {
        delegate!(&self.0.delegate, limit => limit.estimated())
    }
}
