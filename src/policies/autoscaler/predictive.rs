//! Predictive scaling: forecasts a rate by exponential smoothing and has the capacity up before it is needed.
//!
//! # What it does
//! At every tick it takes the value of `metric` as the next point of a series and smooths it with level, damped trend
//! and, with `season`, what came at the same time of earlier seasons. It looks at each tick up to `horizon` ahead, adds
//! `deviations` standard deviations of the forecast's error, and asks for as many replicas as the highest of these values
//! needs at `per-instance` each; never for fewer than the present value needs.
//!
//! # When it helps
//! Load that grows for longer than an instance takes to start, and load that comes back every day: the replicas are
//! ready when it arrives. It follows the demand, not the CPU, so a saturated fleet does not hide from it what is missing.
//!
//! # How it fails
//! * What has no precedent (a push message, a failover) is not in the series; it reacts to it as late as any other, and
//!   then takes the leap for a trend and overshoots.
//! * Noise that looks like growth is paid for: the more `deviations`, the more replicas idle.
//! * A season needs one whole season before it is known, and a holiday breaks it.
//! * `per-instance` is a promise of the operator; if an instance does less, nothing corrects it.
//!
//! # Settings
//! * `metric` (required): what to forecast, such as `"source.public.requests-per-second"`.
//! * `per-instance` (required): what one replica is to bear of it, above 0.
//! * `horizon` (`"2min"`): how far ahead; the time from order to readiness, and a tick.
//! * `deviations` (1): standard errors above the forecast.
//! * `alpha` (0.5), `beta` (0.1, at most `alpha`), `damping` (0.9): smoothing of level and trend, and what is left of a
//!   trend after each tick.
//! * `season` (none), `gamma` (0.1, at most 1 - `alpha`): length of a season, such as `"24h"`, and its smoothing.
//! * `min-replicas` (1), `max-replicas` (required), `interval` (`"30s"`).
//!
//! # Origin
//! Exponential smoothing with a damped trend: Gardner and `McKenzie`, *Forecasting trends in time series* (1985); as a state
//! space model with its error variances: Hyndman, Koehler, Ord and Snyder, *Forecasting with Exponential Smoothing* (2008),
//! models ETS(A, Ad, N) and ETS(A, Ad, A). Scaling to an upper bound of the forecast, never below what is needed now,
//! is the common core of published predictive scalers and of AWS predictive scaling as it is documented (maximum of
//! forecast and dynamic capacity, launched `SchedulingBufferTime` ahead).
//!
//! # Deliberate differences
//! * The weights are settings; they are not fitted to the series.
//! * A tick without a value is left out; the season moves on all the same only with values.
//! * Replicas come down as soon as forecast and present need do, without a window of their own: the forecast is smooth.

pub mod smoothing;

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::policies::Algorithm;
use crate::policies::autoscaler::{Autoscaler, Desired, Explain, Fleet, Query, Reading};
use crate::time::{Duration, Time};

use smoothing::{Smoothing, Weights};

/// Settings of [`Predictive`].
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, remote = "Self")]
pub struct PredictiveSettings {
    /// What is forecast: a metric of a source or service.
    pub metric: String,
    /// What one replica is to bear of it, in the unit of the metric; above 0.
    pub per_instance: f64,
    /// How far ahead the replicas are provided for.
    #[serde(default = "two_minutes")]
    pub horizon: Duration,
    /// Standard deviations of the error that are added to the forecast; not negative.
    #[serde(default = "one")]
    pub deviations: f64,
    /// Weight of a new point in the level, above 0, at most 1.
    #[serde(default = "half")]
    pub alpha: f64,
    /// Weight of a new point in the trend, 0..=alpha.
    #[serde(default = "tenth")]
    pub beta: f64,
    /// What is left of the trend after each point, 0..=1.
    #[serde(default = "nine_tenths")]
    pub damping: f64,
    /// Length of a season; at least two intervals.
    pub season: Option<Duration>,
    /// Weight of a new point in the seasons, 0..=1 - alpha.
    #[serde(default = "tenth")]
    pub gamma: f64,
    /// Fewest replicas.
    #[serde(default = "one_replica")]
    pub min_replicas: NonZeroU32,
    /// Most replicas.
    pub max_replicas: NonZeroU32,
    /// Time between evaluations, not zero.
    #[serde(default = "half_a_minute")]
    pub interval: Duration,
}

fn two_minutes() -> Duration {
    Duration::from_secs(120)
}

fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

fn one() -> f64 {
    1.0
}

fn half() -> f64 {
    0.5
}

fn tenth() -> f64 {
    0.1
}

fn nine_tenths() -> f64 {
    0.9
}

fn one_replica() -> NonZeroU32 {
    NonZeroU32::MIN
}

/// Ticks that a forecast may look ahead, and points of a season.
const MOST_POINTS: u64 = 100_000;

impl PredictiveSettings {
    fn check(&self) -> Result<(), String> {
        let within = |value: f64, from: f64, to: f64| (from..=to).contains(&value);
        if !(self.per_instance.is_finite() && self.per_instance > 0.0) {
            return Err("`per-instance` must be a finite number above 0".to_owned());
        }
        if !(self.deviations.is_finite() && self.deviations >= 0.0) {
            return Err("`deviations` must be a finite number, not negative".to_owned());
        }
        if !within(self.alpha, f64::MIN_POSITIVE, 1.0) {
            return Err("`alpha` must be above 0 and at most 1".to_owned());
        }
        if !within(self.beta, 0.0, self.alpha) {
            return Err(format!("`beta` must be from 0 to `alpha` ({})", self.alpha));
        }
        if !within(self.damping, 0.0, 1.0) {
            return Err("`damping` must be from 0 to 1".to_owned());
        }
        if self.season.is_some() && !within(self.gamma, 0.0, 1.0 - self.alpha) {
            return Err(format!("`gamma` must be from 0 to 1 - `alpha` ({})", 1.0 - self.alpha));
        }
        if self.interval == Duration::ZERO {
            return Err("`interval` must be longer than zero".to_owned());
        }
        if self.season.is_some_and(|season| season.0 < 2 * self.interval.0) {
            return Err("`season` must be at least two intervals long".to_owned());
        }
        if self.season.unwrap_or_default().max(self.horizon).0 / self.interval.0 > MOST_POINTS {
            return Err(format!("`horizon` and `season` may be at most {MOST_POINTS} intervals long"));
        }
        if self.min_replicas > self.max_replicas {
            return Err(format!(
                "`min-replicas` ({}) is greater than `max-replicas` ({})",
                self.min_replicas, self.max_replicas
            ));
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for PredictiveSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        settings.check().map_err(D::Error::custom)?;
        Ok(settings)
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Predictive {
    state: Box<State>,
}

#[derive(Clone, Debug)]
struct State {
    settings: PredictiveSettings,
    queries: [Query; 1],
    model: Smoothing,
}

impl Algorithm for Predictive {
    type Settings = PredictiveSettings;

    fn new(settings: &PredictiveSettings, _now: Time) -> Self {
        let PredictiveSettings { alpha, beta, gamma, damping, .. } = *settings;
        let points =
            settings.season.map_or(0, |season| (season.0 + settings.interval.0 / 2) / settings.interval.0);
        let model = Smoothing::new(Weights { alpha, beta, gamma, phi: damping }, points as usize);
        let queries = [Query::External(settings.metric.clone())];
        Self { state: Box::new(State { settings: settings.clone(), queries, model }) }
    }
}

impl Autoscaler for Predictive {
    fn interval(&self) -> Duration {
        self.state.settings.interval
    }

    fn queries(&self) -> &[Query] {
        &self.state.queries
    }

    fn evaluate(&mut self, _now: Time, fleet: &Fleet<'_>, explain: &mut dyn Explain) -> Desired {
        let State { settings, model, .. } = &mut *self.state;
        let series = fleet.readings.first().and_then(Reading::series);
        let Some(milli) = series.map(|series| series.iter().map(|&value| i128::from(value)).sum::<i128>())
        else {
            return Desired { replicas: fleet.current, reason: "NoMetric" };
        };
        let present = milli as f64 / 1000.0;
        explain.about(&settings.metric);
        explain.step("measured", present);
        model.observe(present);
        let steps = (settings.horizon.0.div_ceil(settings.interval.0)).max(1) as u32;
        let ahead = (1..=steps).filter_map(|step| model.forecast(step));
        let bound = |mean: f64, deviation: f64| (mean + settings.deviations * deviation).max(0.0);
        let highest = ahead.map(|forecast| bound(forecast.mean, forecast.deviation)).fold(present, f64::max);
        if let Some(last) = model.forecast(steps) {
            explain.step("horizon-s", Duration(u64::from(steps) * settings.interval.0).as_secs_f64());
            explain.step("forecast", last.mean.max(0.0));
            explain.step("forecast-high", bound(last.mean, last.deviation));
        }
        explain.step("highest-ahead", highest);
        explain.about("");
        let wanted = (highest / settings.per_instance).ceil();
        explain.step("proposal", wanted);
        let (min, max) = (settings.min_replicas.get(), settings.max_replicas.get());
        // Saturates where the quotient leaves the integers.
        let replicas = (wanted as u32).clamp(min, max);
        let reason = match wanted as u32 {
            wanted if wanted < min => "MinReplicas",
            wanted if wanted > max => "MaxReplicas",
            _ if highest > present => "Forecast",
            _ => "PresentNeed",
        };
        Desired { replicas, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<PredictiveSettings, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    const BASIC: &str = "metric = 'source.a.requests-per-second'\nper-instance = 10\nmax-replicas = 50\n";

    fn ticks(text: &str, values: &[Option<i64>]) -> Vec<(u32, &'static str)> {
        let mut scaler = Predictive::new(&read(text).unwrap(), Time::ZERO);
        let mut tick = |value: &Option<i64>| {
            let readings = [Reading::Series(value.map(|value| vec![value * 1000]))];
            let fleet = Fleet {
                current: 7,
                pods: &[],
                readings: &readings,
                instance_cores: 1.0,
                instance_memory: 0,
                memory_available: 0,
            };
            let desired = scaler.evaluate(Time::ZERO, &fleet, &mut ());
            (desired.replicas, desired.reason)
        };
        values.iter().map(&mut tick).collect()
    }

    #[test]
    fn growth_is_carried_forward_and_decline_is_not_trusted_below_the_present() {
        let plain = format!("{BASIC}deviations = 0\nalpha = 1\nbeta = 1\ndamping = 1\nhorizon = '60s'\n");
        // Two ticks ahead on a line of slope 30: 100 + 2 * 30.
        assert_eq!(ticks(&plain, &[Some(70), Some(100)]), [(7, "PresentNeed"), (16, "Forecast")]);
        assert_eq!(ticks(&plain, &[Some(100), Some(70)])[1], (7, "PresentNeed"));
    }

    #[test]
    fn bounds_and_silence() {
        let bounded = format!("{BASIC}deviations = 0\nmin-replicas = 3\n");
        assert_eq!(
            ticks(&bounded, &[None, Some(0), Some(100_000)]),
            [(7, "NoMetric"), (3, "MinReplicas"), (50, "MaxReplicas")]
        );
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for (text, part) in [
            ("per-instance = 0", "above 0"),
            ("per-instance = nan", "above 0"),
            ("per-instance = 1\ndeviations = -1", "not negative"),
            ("per-instance = 1\nalpha = 0", "`alpha`"),
            ("per-instance = 1\nalpha = 0.2\nbeta = 0.3", "`beta`"),
            ("per-instance = 1\nseason = '1h'\ngamma = 0.6", "`gamma`"),
            ("per-instance = 1\nseason = '50s'", "two intervals"),
            ("per-instance = 1\ninterval = '1ms'", "at most 100000 intervals"),
            ("per-instance = 1\nmin-replicas = 9", "greater"),
        ] {
            let text = format!("metric = 'a'\nmax-replicas = 8\n{text}");
            let message = read(&text).expect_err(&text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
