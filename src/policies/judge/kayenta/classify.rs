//! Classification of one metric (`MannWhitneyClassifier.scala`), and what happens to its values before (`Transforms.scala`).

use schemars::JsonSchema;
use serde::Deserialize;

use super::OutlierStrategy;
use super::mann_whitney::{Shift, mann_whitney};
use crate::random::{Key, Rng, variate};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Class {
    /// No shift that matters.
    Pass,
    /// The new version has higher values.
    High,
    /// The new version has lower values.
    Low,
    /// One version has no values.
    Nodata,
    /// One version has no values, and it must have some.
    NodataFailMetric,
    /// The test could not be carried out.
    Error,
}

/// The answer of the classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classified {
    /// What the metric is.
    pub class: Class,
    /// Whether that alone decides the score.
    pub critical: bool,
}

/// Which way is bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Both.
    #[default]
    Either,
    /// Higher values.
    Increase,
    /// Lower values.
    Decrease,
}

/// What becomes of steps without a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NanStrategy {
    /// They go.
    #[default]
    Remove,
    /// They are 0.
    Replace,
}

/// How the size of an effect is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EffectSize {
    /// Mean of the new version over mean of the old one.
    #[default]
    MeanRatio,
    /// Chance that a value of the new version is above one of the old (common language effect size).
    Cles,
}

impl EffectSize {
    /// Its value if there is no effect.
    pub const fn neutral(self) -> f64 {
        match self {
            Self::MeanRatio => 1.0,
            Self::Cles => 0.5,
        }
    }

    fn of(self, control: &[f64], experiment: &[f64]) -> f64 {
        match self {
            Self::MeanRatio => {
                let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
                mean(experiment) / mean(control)
            }
            Self::Cles => {
                let above: f64 = experiment
                    .iter()
                    .flat_map(|x| control.iter().map(move |y| (x, y)))
                    .map(|(x, y)| {
                        if x > y {
                            1.0
                        } else if x == y {
                            0.5
                        } else {
                            0.0
                        }
                    })
                    .sum();
                above / (experiment.len() * control.len()) as f64
            }
        }
    }
}

/// Two bounds of an effect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Lower bound.
    pub decrease: f64,
    /// Upper bound.
    pub increase: f64,
}

/// What the classifier is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Question {
    /// Part of the shift that its interval has to be away from 0.
    pub tolerance: f64,
    /// Of the interval.
    pub confidence: f64,
    /// Which way is bad.
    pub direction: Direction,
    /// What becomes of steps without a value; without any value, `Replace` passes.
    pub nan_strategy: NanStrategy,
    /// The metric is critical.
    pub critical: bool,
    /// Having no values is a failure.
    pub must_have_data: bool,
    /// How effects are measured.
    pub effect_size: EffectSize,
    /// Effects between these are none.
    pub allowed: Limits,
    /// A critical metric decides the score only beyond these.
    pub critical_at: Limits,
}

/// Classifies the values of the new version (`experiment`) against those of the old (`control`).
pub fn classify(control: &[f64], experiment: &[f64], question: &Question) -> Classified {
    const PASS: Classified = Classified { class: Class::Pass, critical: false };
    let Question { tolerance, confidence, direction, critical, allowed, critical_at, .. } = *question;
    if control.is_empty() || experiment.is_empty() {
        return match question.nan_strategy {
            NanStrategy::Replace => PASS,
            // Only a metric that is not critical is told to fail; a critical one does so by itself.
            NanStrategy::Remove if question.must_have_data && !critical => {
                Classified { class: Class::NodataFailMetric, critical }
            }
            NanStrategy::Remove => Classified { class: Class::Nodata, critical },
        };
    }
    let sorted = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted
    };
    if sorted(control) == sorted(experiment) {
        return PASS;
    }
    let constant = |values: &[f64]| values.iter().all(|&value| value == values[0]);
    let (both_constant, same) = (constant(control) && constant(experiment), control[0] == experiment[0]);
    if both_constant && same {
        return PASS;
    }
    let shift = if both_constant {
        let mut rng = Key::new(0).named("kayenta noise").rng();
        mann_whitney(&noisy(experiment, &mut rng), &noisy(control, &mut rng), confidence)
    } else {
        mann_whitney(experiment, control, confidence)
    };
    let Some(Shift { low, high, estimate }) = shift else {
        return Classified { class: Class::Error, critical };
    };
    let bound = tolerance * estimate.abs();
    let effect = question.effect_size.of(control, experiment);
    // A ratio of nothing to nothing says nothing.
    let at_least = |limit: f64| effect.is_nan() || effect >= limit;
    let at_most = |limit: f64| effect.is_nan() || effect <= limit;
    if direction != Direction::Decrease && low > bound && at_least(allowed.increase) {
        return Classified { class: Class::High, critical: critical && at_least(critical_at.increase) };
    }
    if direction != Direction::Increase && high < -bound && at_most(allowed.decrease) {
        return Classified { class: Class::Low, critical: critical && at_most(critical_at.decrease) };
    }
    PASS
}

/// Constant values, a little apart: standard deviation 1e-5 of the value.
fn noisy(values: &[f64], rng: &mut Rng) -> Vec<f64> {
    values.iter().map(|&value| value + 1e-5 * value.abs() * variate::normal(rng)).collect()
}

/// Prepares the values of one version: steps without a value, then outliers (`transformMetric`).
pub(super) fn transform(values: &mut Vec<f64>, nan_strategy: NanStrategy, outliers: OutlierStrategy) {
    match nan_strategy {
        NanStrategy::Remove => values.retain(|value| !value.is_nan()),
        NanStrategy::Replace => {
            for value in values.iter_mut().filter(|value| value.is_nan()) {
                *value = 0.0;
            }
        }
    }
    if outliers == OutlierStrategy::Remove && !values.is_empty() {
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let (q1, q3) = (percentile(&sorted, 25.0), percentile(&sorted, 75.0));
        let fence = 3.0 * (q3 - q1);
        let low = (q1 - fence).min(percentile(&sorted, 1.0));
        let high = (q3 + fence).max(percentile(&sorted, 99.0));
        values.retain(|&value| (low..=high).contains(&value));
    }
}

/// A percentile of sorted values, as Commons Math has it: position p (n + 1) / 100, interpolated.
fn percentile(sorted: &[f64], p: f64) -> f64 {
    let position = p * (sorted.len() + 1) as f64 / 100.0;
    let at = (position.floor() as usize).clamp(1, sorted.len());
    let next = (at + 1).min(sorted.len());
    let part = if position < 1.0 { 0.0 } else { (position - at as f64).min(1.0) };
    sorted[at - 1] + part * (sorted[next - 1] - sorted[at - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        Question {
            tolerance: 0.25,
            confidence: 0.98,
            direction: Direction::Either,
            nan_strategy: NanStrategy::Remove,
            critical: false,
            must_have_data: false,
            effect_size: EffectSize::MeanRatio,
            allowed: Limits { decrease: 1.0, increase: 1.0 },
            critical_at: Limits { decrease: 1.0, increase: 1.0 },
        }
    }

    #[test]
    fn constants_that_differ_are_told_apart_and_always_alike() {
        let ask =
            |control: f64, experiment: f64| classify(&[control; 10], &[experiment; 10], &question()).class;
        assert_eq!(ask(1.0, 2.0), Class::High);
        assert_eq!(ask(2.0, 1.0), Class::Low);
        assert_eq!(ask(2.0, 1.0), ask(2.0, 1.0));
        assert_eq!(ask(1.0, 1.0), Class::Pass);
    }

    #[test]
    fn missing_data() {
        let ask = |question: &Question| classify(&[1.0, 2.0], &[], question);
        assert_eq!(ask(&question()).class, Class::Nodata);
        assert_eq!(ask(&Question { must_have_data: true, ..question() }).class, Class::NodataFailMetric);
        let replace = Question { nan_strategy: NanStrategy::Replace, ..question() };
        assert_eq!(ask(&replace).class, Class::Pass);
    }

    #[test]
    fn outliers_beyond_all_fences_go() {
        let mut values: Vec<f64> = (0..200).map(|at| f64::from(at % 10)).collect();
        values.extend([1e6, f64::NAN]);
        transform(&mut values, NanStrategy::Remove, OutlierStrategy::Remove);
        assert_eq!(values.len(), 200);
        // Among few values the 99 % quantile is the largest one itself, and nothing goes.
        let mut few = vec![1.0, 2.0, 3.0, 1e6];
        transform(&mut few, NanStrategy::Remove, OutlierStrategy::Remove);
        assert_eq!(few.len(), 4);
    }
}
