//! Thresholds: one metric of the new version, compared with numbers that somebody wrote down.
//!
//! # What it does
//! Looks at one metric of the new version over a window. With a success condition alone the version is good if it holds
//! and bad if not; with a failure condition alone the other way round; with both, the failure condition goes first, and if
//! neither holds the measurement is inconclusive. Without any condition every measurement is good.
//!
//! # When it helps
//! When an objective exists ("less than 1 % errors, p99 below 300 ms") and holds at any load. It needs no second version
//! to compare with, and everybody can read it.
//!
//! # How it fails
//! * It does not know how the old version does: a bad hour of the whole system looks like a bad version.
//! * A window with few requests is noise; one error in ten requests is 10 %.
//! * A version that is worse and within the numbers passes.
//!
//! # Settings
//! * `metric` (required): `error-ratio`, `success-ratio`, `mean-latency`, `p50-latency`, `p90-latency`, `p95-latency`,
//!   `p99-latency` (seconds) or `request-rate` (per second).
//! * `window` (`"1min"`): how far back it looks.
//! * `success`, `failure`: conditions, each with any of `below`, `at-most`, `above`, `at-least`; all of them have to hold.
//! * `no-data` (`"error"`): what a window without requests is, `error` (the query comes back empty) or `failed`.
//!
//! # Origin
//! Argo Rollouts, `utils/evaluate/evaluate.go`, function `EvaluateResult`, at 9f8d111d; with `no-data = "failed"` the check
//! of a Flagger metric, `pkg/controller/scheduler_metrics.go` (read in the summary of 15bd6ad5).
//!
//! # Deliberate differences
//! Upstream's condition is an expression over whatever the query returned; here it is a comparison of the one value.

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::policies::Algorithm;
use crate::policies::judge::{Evidence, Judge, Metric, Phase, Wanted};
use crate::time::{Duration, Time};

/// Settings of [`Threshold`].
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, remote = "Self")]
pub struct ThresholdSettings {
    /// What is measured.
    pub metric: Metric,
    /// How far back it looks.
    #[serde(default = "minute")]
    pub window: Duration,
    /// The version is good if this holds.
    #[serde(default)]
    pub success: Option<Condition>,
    /// The version is bad if this holds.
    #[serde(default)]
    pub failure: Option<Condition>,
    /// What a window without requests is.
    #[serde(default)]
    pub no_data: NoData,
}

const fn minute() -> Duration {
    Duration::from_secs(60)
}

/// What a window without requests is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NoData {
    /// An error of the measurement.
    #[default]
    Error,
    /// A bad version.
    Failed,
}

/// Comparisons with a value; all that are given have to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Condition {
    /// Less than this.
    #[serde(default)]
    pub below: Option<f64>,
    /// This or less.
    #[serde(default)]
    pub at_most: Option<f64>,
    /// More than this.
    #[serde(default)]
    pub above: Option<f64>,
    /// This or more.
    #[serde(default)]
    pub at_least: Option<f64>,
}

impl Condition {
    fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Whether all comparisons hold.
    pub fn holds(self, value: f64) -> bool {
        self.below.is_none_or(|bound| value < bound)
            && self.at_most.is_none_or(|bound| value <= bound)
            && self.above.is_none_or(|bound| value > bound)
            && self.at_least.is_none_or(|bound| value >= bound)
    }
}

impl<'de> Deserialize<'de> for ThresholdSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        if settings.window == Duration::ZERO {
            return Err(D::Error::custom("`window` must be longer than nothing"));
        }
        if settings.success.into_iter().chain(settings.failure).any(Condition::is_empty) {
            return Err(D::Error::custom(
                "a condition needs a comparison\nhint: one or more of `below`, `at-most`, `above`, `at-least`",
            ));
        }
        Ok(settings)
    }
}

/// What upstream makes of the two conditions (`EvaluateResult`).
pub fn evaluate(value: f64, success: Option<Condition>, failure: Option<Condition>) -> Phase {
    let success = success.map(|condition| condition.holds(value));
    let failure = failure.map(|condition| condition.holds(value));
    match (success, failure) {
        (_, Some(true)) | (Some(false), None) => Phase::Failed,
        (Some(true) | None, _) => Phase::Successful,
        (Some(false), Some(false)) => Phase::Inconclusive,
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Threshold {
    settings: ThresholdSettings,
    found: f64,
}

impl Algorithm for Threshold {
    type Settings = ThresholdSettings;

    fn new(settings: &ThresholdSettings, _now: Time) -> Self {
        Self { settings: settings.clone(), found: f64::NAN }
    }
}

impl Judge for Threshold {
    fn wants(&self) -> Wanted {
        Wanted { window: Some(self.settings.window), slow: None, steps: false }
    }

    fn judge(&mut self, _now: Time, evidence: &Evidence) -> Phase {
        let ThresholdSettings { metric, success, failure, no_data, .. } = self.settings;
        self.found = evidence.whole.canary.value(metric);
        match no_data {
            _ if !self.found.is_nan() => evaluate(self.found, success, failure),
            NoData::Error => Phase::Error,
            NoData::Failed => Phase::Failed,
        }
    }

    fn found(&self) -> f64 {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::judge::{Pair, Reading};

    fn below(bound: f64) -> Condition {
        Condition { below: Some(bound), ..Condition::default() }
    }

    fn above(bound: f64) -> Condition {
        Condition { above: Some(bound), ..Condition::default() }
    }

    #[test]
    fn conditions_decide_as_upstream() {
        assert_eq!(evaluate(5.0, None, None), Phase::Successful);
        assert_eq!(evaluate(5.0, Some(below(6.0)), None), Phase::Successful);
        assert_eq!(evaluate(5.0, Some(below(5.0)), None), Phase::Failed);
        assert_eq!(evaluate(5.0, None, Some(above(5.0))), Phase::Successful);
        assert_eq!(evaluate(5.0, None, Some(above(4.0))), Phase::Failed);
        assert_eq!(
            evaluate(5.0, Some(below(6.0)), Some(above(4.0))),
            Phase::Failed,
            "the failure condition goes first"
        );
        assert_eq!(evaluate(5.0, Some(below(4.0)), Some(above(6.0))), Phase::Inconclusive);
        assert_eq!(evaluate(3.0, Some(below(4.0)), Some(above(6.0))), Phase::Successful);
    }

    #[test]
    fn an_empty_window_is_what_the_settings_say() {
        let evidence = Evidence::default();
        for (no_data, phase) in [("error", Phase::Error), ("failed", Phase::Failed)] {
            let settings = format!("metric = 'error-ratio'\nsuccess.below = 0.1\nno-data = '{no_data}'");
            let mut judge = Threshold::new(&toml::from_str(&settings).unwrap(), Time::ZERO);
            assert_eq!(judge.judge(Time::ZERO, &evidence), phase);
        }
    }

    #[test]
    fn it_looks_at_the_canary_alone() {
        let settings = toml::from_str("metric = 'error-ratio'\nsuccess.at-most = 0.05").unwrap();
        let mut judge = Threshold::new(&settings, Time::ZERO);
        let mut see = |errors| {
            let canary = Reading { requests: 100, errors, ..Reading::default() };
            let baseline = Reading { requests: 100, errors: 100, ..Reading::default() };
            judge.judge(Time::ZERO, &Evidence { whole: Pair { canary, baseline }, steps: Vec::new() })
        };
        assert_eq!(see(5), Phase::Successful);
        assert_eq!(see(6), Phase::Failed);
    }

    #[test]
    fn refused() {
        let read = toml::from_str::<ThresholdSettings>;
        for wrong in [
            "",
            "metric = 'cpu'",
            "metric = 'error-ratio'\nsuccess = {}",
            "metric = 'error-ratio'\nwindow = '0s'",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
