//! How a number is read off runs, and what it is worth: estimate, interval, and distance from a known value.

use crate::stats::histogram::Totals;
use crate::stats::interval::t_quantile;
use crate::stats::moments::Moments;
use crate::world::RunReport;

/// Reads one number of one run; `None` if the run does not have it.
pub(super) type Read<T> = Box<dyn Fn(&RunReport) -> Option<T> + Send + Sync>;

/// A control variate: something measured in the same runs whose mean is known, such as the load. A run that happens to be
/// busier than the mean shows longer queues too; knowing how much busier takes that part of the luck out of the estimate
/// (Lavenberg and Welch 1981). Since a control that is wrong by itself would be corrected for without a word, its own mean
/// is tested as well.
pub(super) struct Control {
    /// For messages.
    pub(super) what: &'static str,
    /// What it was in a run.
    pub(super) read: Read<f64>,
    /// Its mean.
    pub(super) expected: f64,
}

/// What a row of a table asks of the replications of its experiment.
pub(super) enum Reading {
    /// The mean of a number over replications.
    Mean(Read<f64>),
    /// Sum over sum, for what has no fixed number of observations per run.
    Ratio(Read<(f64, f64)>),
    /// The `q`-quantile of all values together; histograms hold ns.
    Quantile {
        /// 0..1.
        q: f64,
        /// ns in one unit of the table.
        unit: f64,
        /// The values of one run.
        values: Read<Totals>,
    },
    /// Nothing is drawn at random: one run tells it, give or take `resolution`.
    Exact {
        /// The number.
        read: Read<f64>,
        /// How far off the reading can be, for instance half a timeline window.
        resolution: f64,
    },
}

/// What a reading took from one run.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    sum: f64,
    count: f64,
    values: Totals,
    controls: Vec<f64>,
}

/// What is known after some replications.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Estimate {
    /// Best guess, in the unit of the table.
    pub(super) value: f64,
    /// Half of the width of the interval at the level that was asked for.
    pub(super) half_width: f64,
    /// Standardized distance from the known value: Student's t if that value is true; NaN where nothing is random.
    pub(super) z: f64,
    /// Its degrees of freedom.
    pub(super) freedom: f64,
    /// Whether the known value is inside the interval.
    pub(super) agrees: bool,
}

impl Reading {
    /// Reads one run. `known` is the value of the table.
    pub(super) fn sample(&self, report: &RunReport, known: f64, controls: &[Control]) -> Option<Sample> {
        let (sum, count, values) = match self {
            Self::Mean(read) | Self::Exact { read, .. } => (read(report)?, 1.0, Totals::new()),
            Self::Ratio(read) => {
                let (sum, count) = read(report)?;
                (sum, count, Totals::new())
            }
            // How many values exceed the known quantile has no bias, however few values a run has.
            Self::Quantile { unit, values, .. } => {
                let values = values(report)?;
                (values.share_above(known * unit)?, 1.0, values)
            }
        };
        let controls = controls.iter().map(|control| (control.read)(report)).collect::<Option<_>>()?;
        Some(Sample { sum, count, values, controls })
    }

    /// Whether more replications would say more.
    pub(super) const fn is_random(&self) -> bool {
        !matches!(self, Self::Exact { .. })
    }

    /// Puts the samples together. `error` is the probability of a wrong interval.
    pub(super) fn estimate(
        &self,
        samples: &[Sample],
        known: f64,
        controls: &[Control],
        error: f64,
    ) -> Estimate {
        let runs = samples.len() as f64;
        let count = samples.iter().map(|sample| sample.count).sum::<f64>() / runs;
        let ratio = samples.iter().map(|sample| sample.sum).sum::<f64>() / runs / count;
        if let Self::Exact { resolution, .. } = self {
            let agrees = samples.iter().all(|sample| (sample.sum - known).abs() <= *resolution);
            return Estimate { value: ratio, half_width: *resolution, z: f64::NAN, freedom: 0.0, agrees };
        }
        // The residuals of a ratio (Fieller); where every count is 1, deviations from the mean.
        let off: Vec<f64> =
            samples.iter().map(|sample| (sample.sum - ratio * sample.count) / count).collect();
        let controls: Vec<Vec<f64>> = controls
            .iter()
            .enumerate()
            .map(|(at, control)| {
                samples.iter().map(|sample| sample.controls[at] - control.expected).collect()
            })
            .collect();
        let fit = regress(&off, &controls);
        let center = ratio + fit.intercept;
        let freedom = runs - 1.0 - controls.len() as f64;
        let critical = t_quantile(1.0 - 0.5 * error, freedom);
        let half = critical * fit.standard_error;
        let expected = if let Self::Quantile { q, .. } = self { 1.0 - q } else { known };
        let distance = center - expected;
        let z = if distance == 0.0 { 0.0 } else { distance / fit.standard_error };
        let agrees = distance.abs() <= half;
        let Self::Quantile { q, unit, .. } = self else {
            return Estimate { value: center, half_width: half, z, freedom, agrees };
        };
        // The interval of the share above becomes one of the quantile (Woodruff 1952): where among all values the share
        // above is as far from what the controls leave of it as the interval reaches.
        let mut pooled = Totals::new();
        for sample in samples {
            pooled.merge(&sample.values);
        }
        let quantile = |q: f64| pooled.quantile(q).map_or(f64::NAN, |ns| ns / unit);
        let q = q + fit.intercept;
        let half_width =
            if q + half < 1.0 { 0.5 * (quantile(q + half) - quantile(q - half)) } else { f64::INFINITY };
        Estimate { value: quantile(q), half_width, z, freedom, agrees }
    }
}

/// The first control whose mean is not what it must be, in words.
pub(super) fn stray(samples: &[Sample], controls: &[Control], error: f64) -> Option<String> {
    if controls.is_empty() || samples.len() < 2 {
        return None;
    }
    let critical = t_quantile(1.0 - 0.5 * error, samples.len() as f64 - 1.0);
    controls.iter().enumerate().find_map(|(at, control)| {
        let values: Vec<f64> = samples.iter().map(|sample| sample.controls[at]).collect();
        let moments = Moments::of(&values);
        let (mean, error) = (moments.mean()?, moments.standard_error()?);
        ((mean - control.expected).abs() > critical * error)
            .then(|| format!("{} is {mean} and not {}", control.what, control.expected))
    })
}

/// A fitted mean.
struct Fit {
    /// Where the controls are zero.
    intercept: f64,
    standard_error: f64,
}

/// The mean of `values` where all `controls` (by control, then by value) are zero, by least squares.
fn regress(values: &[f64], controls: &[Vec<f64>]) -> Fit {
    let n = values.len() as f64;
    let mean = |list: &[f64]| list.iter().sum::<f64>() / n;
    let centred = |list: &[f64]| -> Vec<f64> {
        let mean = mean(list);
        list.iter().map(|value| value - mean).collect()
    };
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let around: Vec<Vec<f64>> = controls.iter().map(|control| centred(control)).collect();
    let means: Vec<f64> = controls.iter().map(|control| mean(control)).collect();
    let off = centred(values);
    let square: Vec<Vec<f64>> =
        around.iter().map(|a| around.iter().map(|b| product(a, b)).collect()).collect();
    let slopes = solve(square.clone(), around.iter().map(|a| product(a, &off)).collect());
    // How far the controls happened to be from zero costs precision, too.
    let reach = solve(square, means.clone());
    let left: Vec<f64> = (0..values.len())
        .map(|at| off[at] - slopes.iter().zip(&around).map(|(slope, list)| slope * list[at]).sum::<f64>())
        .collect();
    let variance = product(&left, &left) / (n - 1.0 - controls.len() as f64);
    Fit {
        intercept: mean(values) - product(&slopes, &means),
        standard_error: (variance * (1.0 / n + product(&reach, &means))).sqrt(),
    }
}

/// Solves a small symmetric positive definite system by elimination; a control that says nothing new gets a zero.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let n = right.len();
    let scale: Vec<f64> = (0..n).map(|at| matrix[at][at]).collect();
    for at in 0..n {
        let pivot = matrix[at][at];
        if pivot <= 1e-12 * scale[at] {
            continue;
        }
        let row = matrix[at].clone();
        for below in at + 1..n {
            let factor = matrix[below][at] / pivot;
            for (cell, above) in matrix[below].iter_mut().zip(&row) {
                *cell -= factor * above;
            }
            right[below] -= factor * right[at];
        }
    }
    let mut solution = vec![0.0; n];
    for at in (0..n).rev() {
        if matrix[at][at] > 1e-12 * scale[at] {
            let known: f64 = (at + 1..n).map(|column| matrix[at][column] * solution[column]).sum();
            solution[at] = (right[at] - known) / matrix[at][at];
        }
    }
    solution
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(sum: f64, count: f64) -> Sample {
        Sample { sum, count, values: Totals::new(), controls: Vec::new() }
    }

    #[test]
    fn a_mean_gets_students_interval() {
        let reading = Reading::Mean(Box::new(|_| None));
        let samples: Vec<Sample> = [1.0, 2.0, 3.0, 4.0, 5.0].map(|value| sample(value, 1.0)).into();
        let estimate = reading.estimate(&samples, 2.0, &[], 0.05);
        assert!((estimate.half_width - 2.776_445_105 * 0.5_f64.sqrt()).abs() < 1e-6);
        assert!((estimate.z - 1.0 / 0.5_f64.sqrt()).abs() < 1e-12);
        assert_eq!((estimate.value, estimate.agrees), (3.0, true));
        assert!(!reading.estimate(&samples, 0.9, &[], 0.05).agrees);
    }

    #[test]
    fn a_ratio_weighs_its_runs() {
        let reading = Reading::Ratio(Box::new(|_| None));
        // Every run has the same ratio, so nothing is uncertain.
        let samples = [sample(2.0, 1.0), sample(8.0, 4.0), sample(1.0, 0.5)];
        let estimate = reading.estimate(&samples, 2.0, &[], 0.01);
        assert_eq!((estimate.value, estimate.half_width, estimate.z), (2.0, 0.0, 0.0));
        assert!(estimate.agrees);
    }

    #[test]
    fn a_quantile_is_that_of_all_values() {
        let reading = Reading::Quantile { q: 0.9, unit: 1.0, values: Box::new(|_| None) };
        let mut runs = Vec::new();
        for run in 0..10_u64 {
            let mut values = Totals::new();
            (0..100_000).for_each(|at| values.record(10 * at + run));
            runs.push(Sample {
                sum: values.share_above(900_000.0).unwrap(),
                count: 1.0,
                values,
                controls: Vec::new(),
            });
        }
        let estimate = reading.estimate(&runs, 900_000.0, &[], 0.01);
        assert!((estimate.value / 900_000.0 - 1.0).abs() < 1e-4, "{estimate:?}");
        assert!(estimate.half_width < 5_000.0 && estimate.half_width >= 0.0, "{estimate:?}");
    }

    #[test]
    fn controls_take_luck_out() {
        // Values that are 3 plus twice a control plus a little of their own; the control's mean is known to be 0.
        let mut rng = crate::random::Key::new(5).rng();
        let mut draw = || rng.unit() + rng.unit() + rng.unit() - 1.5;
        let samples: Vec<Sample> = (0..50)
            .map(|_| {
                let (control, own) = (draw(), 0.01 * draw());
                let sum = 3.0 + 2.0 * control + own;
                Sample { controls: vec![control, control], ..sample(sum, 1.0) }
            })
            .collect();
        let control = || Control { what: "luck", read: Box::new(|_| None), expected: 0.0 };
        let reading = Reading::Mean(Box::new(|_| None));
        let plain = reading.estimate(&samples, 3.0, &[], 0.01);
        let better = reading.estimate(&samples, 3.0, &[control()], 0.01);
        assert!(better.half_width < 0.02 * plain.half_width, "{better:?} after {plain:?}");
        assert!(plain.agrees && better.agrees && (better.value - 3.0).abs() < 0.01);
        // The same control twice does no harm.
        let twice = reading.estimate(&samples, 3.0, &[control(), control()], 0.01);
        assert!((twice.value - better.value).abs() < 1e-12, "{twice:?}");
        // One whose mean is not what it should be is noticed.
        assert_eq!(stray(&samples, &[control()], 0.01), None);
        let wrong = Control { expected: 1.0, ..control() };
        assert!(stray(&samples, &[wrong], 0.01).unwrap().starts_with("luck is "));
    }
}
