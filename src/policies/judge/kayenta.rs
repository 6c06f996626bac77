//! Kayenta's automated canary analysis: Mann-Whitney per metric, then a score.
//!
//! # What it does
//! Compares the values that a metric had in the steps of the analysis, new version against old. The confidence interval of
//! their shift (Mann-Whitney, Hodges-Lehmann) says whether the metric is High, Low or Pass; each group of metrics gets the
//! share of its metrics that pass, and the weighted sum of the groups is the score. At least `pass` is a good version, at
//! least `marginal` nobody knows, less is a bad one.
//!
//! # When it helps
//! When there is no number to compare with: the old version, at the same hour and under the same load, is the measure. It
//! does not care how the values are distributed, and single outliers do not move it.
//!
//! # How it fails
//! * It needs a dozen steps or more to find a shift at 98 % confidence; a short canary passes with anything.
//! * It compares values of steps, not requests: a step with ten requests weighs as much as one with ten thousand.
//! * A canary that gets 5 % of the traffic does not show what only happens under load.
//!
//! # Settings
//! * `metrics` (required): what is compared, each with `metric`, `direction` (`either`; `increase` means that only higher
//!   values are bad, `decrease` that only lower ones are), `critical` (false), `must-have-data` (false), `nan-strategy`
//!   (`remove`, or `replace` by 0), `groups` (its own name), `effect-size` (`mean-ratio` or `cles`), `allowed-increase` and
//!   `allowed-decrease` (1 for the mean ratio, 0.5 for cles), `critical-increase` and `critical-decrease` (1, or 0.5),
//!   `outlier-strategy` (`keep`, or `remove`).
//! * `group-weights`: weights of groups, in percent; groups without one share what is left.
//! * `pass` (95), `marginal` (75): the scores.
//! * `lookback`: only the values of so much time count, instead of all since the analysis began.
//! * `tolerance` (0.25): the part of the shift that its confidence interval has to be away from 0.
//! * `confidence` (0.98): of the interval.
//!
//! # Origin
//! spinnaker/kayenta a69573be: `NetflixACAJudge.scala` (`NetflixACAJudge-v1.0`), `MannWhitneyClassifier.scala`,
//! `MannWhitney.scala`, `KayentaBrentSolver.java` (R's `zeroin`), `EffectSizes.scala`, `WeightedSumScorer.scala`,
//! `ThresholdScoreClassifier.scala`, `IQRDetector.scala`. The last function of each and the outlier detector were read in
//! summary and older revisions; the recorded cases are those of upstream's own suites.
//!
//! # Deliberate differences
//! * If both versions are constant and differ, upstream adds Gaussian noise from the clock's seed; here it comes from one fixed
//!   stream, so that the verdict repeats.
//! * A metric whose test cannot be carried out is upstream's class Error; it counts like one without data.

mod classify;
mod mann_whitney;
mod score;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

pub use classify::{Class, Classified, Direction, EffectSize, Limits, NanStrategy, Question, classify};
pub use mann_whitney::{Shift, mann_whitney};
pub use score::{Scored, score};

use crate::policies::Algorithm;
use crate::policies::judge::{Evidence, Judge, Metric, Phase, Wanted};
use crate::time::{Duration, Time};

/// Settings of [`Kayenta`].
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, remote = "Self")]
pub struct KayentaSettings {
    /// What is compared.
    pub metrics: Vec<MetricSettings>,
    /// Weights of groups, in percent.
    #[serde(default)]
    pub group_weights: BTreeMap<String, f64>,
    /// A score of this or more is a good version.
    #[serde(default = "pass")]
    pub pass: f64,
    /// A score of this or more, but less than `pass`, is inconclusive.
    #[serde(default = "marginal")]
    pub marginal: f64,
    /// Only so much time counts.
    #[serde(default)]
    pub lookback: Option<Duration>,
    /// Part of the shift that its interval has to be away from 0.
    #[serde(default = "tolerance")]
    pub tolerance: f64,
    /// Of the interval.
    #[serde(default = "confidence")]
    pub confidence: f64,
}

const fn pass() -> f64 {
    95.0
}

const fn marginal() -> f64 {
    75.0
}

const fn tolerance() -> f64 {
    0.25
}

const fn confidence() -> f64 {
    0.98
}

/// One metric of a canary configuration.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MetricSettings {
    /// What is compared.
    pub metric: Metric,
    /// Which way is bad.
    #[serde(default)]
    pub direction: Direction,
    /// If it does not pass, the score is 0.
    #[serde(default)]
    pub critical: bool,
    /// Having no values is a failure.
    #[serde(default)]
    pub must_have_data: bool,
    /// What becomes of steps without a value.
    #[serde(default)]
    pub nan_strategy: NanStrategy,
    /// Groups it belongs to; none is a group of its own.
    #[serde(default)]
    pub groups: Vec<String>,
    /// How the size of an effect is measured.
    #[serde(default)]
    pub effect_size: EffectSize,
    /// Effects below this are none; 1 for the mean ratio, 0.5 for cles.
    #[serde(default)]
    pub allowed_increase: Option<f64>,
    /// Effects above this are none.
    #[serde(default)]
    pub allowed_decrease: Option<f64>,
    /// An effect of this or more is critical, if the metric is.
    #[serde(default)]
    pub critical_increase: Option<f64>,
    /// An effect of this or less is critical, if the metric is.
    #[serde(default)]
    pub critical_decrease: Option<f64>,
    /// What becomes of outliers.
    #[serde(default)]
    pub outlier_strategy: OutlierStrategy,
}

/// What becomes of values far from the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OutlierStrategy {
    /// They stay.
    #[default]
    Keep,
    /// They go, if they are beyond both the fences of the quartiles (factor 3) and the 1 and 99 % quantiles.
    Remove,
}

impl MetricSettings {
    /// As the classifier is asked.
    fn question(&self, settings: &KayentaSettings) -> Question {
        let usual = self.effect_size.neutral();
        let or_usual = |value: Option<f64>| value.unwrap_or(usual);
        Question {
            tolerance: settings.tolerance,
            confidence: settings.confidence,
            direction: self.direction,
            nan_strategy: self.nan_strategy,
            critical: self.critical,
            must_have_data: self.must_have_data,
            effect_size: self.effect_size,
            allowed: Limits {
                decrease: or_usual(self.allowed_decrease),
                increase: or_usual(self.allowed_increase),
            },
            critical_at: Limits {
                decrease: or_usual(self.critical_decrease),
                increase: or_usual(self.critical_increase),
            },
        }
    }
}

impl<'de> Deserialize<'de> for KayentaSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        let fault = if settings.metrics.is_empty() {
            "`metrics` must name a metric"
        } else if !(0.0 <= settings.marginal && settings.marginal <= settings.pass && settings.pass <= 100.0)
        {
            "scores are from 0 to 100, and `marginal` is at most `pass`"
        } else if !(0.0 < settings.confidence && settings.confidence < 1.0) {
            "`confidence` is between 0 and 1"
        } else if !(0.0..1.0).contains(&settings.tolerance) {
            "`tolerance` is a share from 0, below 1"
        } else if settings.group_weights.values().any(|weight| !(0.0..=100.0).contains(weight))
            || settings.group_weights.values().sum::<f64>() > 100.0
        {
            "`group-weights` are percentages of together at most 100"
        } else {
            return Ok(settings);
        };
        Err(D::Error::custom(fault))
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Kayenta {
    settings: KayentaSettings,
    score: f64,
}

impl Algorithm for Kayenta {
    type Settings = KayentaSettings;

    fn new(settings: &KayentaSettings, _now: Time) -> Self {
        Self { settings: settings.clone(), score: f64::NAN }
    }
}

impl Judge for Kayenta {
    fn wants(&self) -> Wanted {
        Wanted { window: self.settings.lookback, slow: None, steps: true }
    }

    fn judge(&mut self, _now: Time, evidence: &Evidence) -> Phase {
        let settings = &self.settings;
        let mut results = Vec::with_capacity(settings.metrics.len());
        for metric in &settings.metrics {
            let mut experiment: Vec<f64> =
                evidence.steps.iter().map(|step| step.canary.value(metric.metric)).collect();
            let mut control: Vec<f64> =
                evidence.steps.iter().map(|step| step.baseline.value(metric.metric)).collect();
            for values in [&mut experiment, &mut control] {
                classify::transform(values, metric.nan_strategy, metric.outlier_strategy);
            }
            let Classified { class, critical } = classify(&control, &experiment, &metric.question(settings));
            let own = [metric.metric.name()];
            let groups = if metric.groups.is_empty() {
                own.iter().map(|&name| name.to_owned()).collect()
            } else {
                metric.groups.clone()
            };
            results.push(Scored { class, critical, groups });
        }
        self.score = score(&results, &settings.group_weights);
        if self.score >= settings.pass {
            Phase::Successful
        } else if self.score >= settings.marginal {
            Phase::Inconclusive
        } else {
            Phase::Failed
        }
    }

    fn found(&self) -> f64 {
        self.score
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::judge::{Pair, Reading};

    #[test]
    fn a_version_with_more_errors_scores_less() {
        let settings: KayentaSettings = toml::from_str(
            "metrics = [{ metric = 'error-ratio', direction = 'increase' }, { metric = 'mean-latency' }]",
        )
        .unwrap();
        let step = |canary_errors, baseline_errors| {
            let reading = |errors| Reading { requests: 1000, errors, mean: 0.1, ..Reading::default() };
            Pair { canary: reading(canary_errors), baseline: reading(baseline_errors) }
        };
        let bad =
            Evidence { steps: (0..12).map(|at| step(50 + at, 10 + at % 5)).collect(), ..Evidence::default() };
        let good = Evidence {
            steps: (0..12).map(|at| step(10 + at % 4, 10 + at % 5)).collect(),
            ..Evidence::default()
        };
        let mut judge = Kayenta::new(&settings, Time::ZERO);
        assert_eq!(judge.judge(Time::ZERO, &bad), Phase::Failed);
        assert_eq!(judge.found(), 50.0, "one of two groups passes");
        assert_eq!(judge.judge(Time::ZERO, &good), Phase::Successful);
        assert_eq!(
            judge.judge(Time::ZERO, &Evidence::default()),
            Phase::Failed,
            "no data at all is a score of 0"
        );
    }

    #[test]
    fn refused() {
        let read = toml::from_str::<KayentaSettings>;
        for wrong in [
            "metrics = []",
            "metrics = [{ metric = 'error-ratio' }]\npass = 101",
            "metrics = [{ metric = 'error-ratio' }]\nmarginal = 96",
            "metrics = [{ metric = 'error-ratio' }]\nconfidence = 1",
            "metrics = [{ metric = 'error-ratio' }]\ngroup-weights = { a = 60, b = 50 }",
            "metrics = [{ metric = 'errors' }]",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
