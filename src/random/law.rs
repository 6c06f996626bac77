//! Laws: probability distributions as they are written in scenarios.
//!
//! ```text
//! 12ms                          always the same
//! exp(mean)                     exponential
//! uniform(low, high)
//! erlang(mean, k=3)             sum of k exponentials
//! gamma(mean, cv=2)
//! lognormal(mean, cv=1.5)
//! weibull(mean, shape=0.7)
//! pareto(min, alpha=1.5)        infinite mean where alpha <= 1
//! bounded-pareto(min, max, alpha=1.5)
//! hyperexp(mean, cv=2)          two exponentials with balanced means, cv >= 1
//! normal(mean, sd=1ms)          cut off below 0 by drawing again
//! file(data/x.csv:column, unit=ms)   one of the values of the column, each as likely
//! buckets(latency.json)         Prometheus histogram, uniform inside each bucket; `top=30s` ends the bucket +Inf
//! mix(80%: exp(5ms), 20%: exp(500ms))
//! ```
//!
//! Any of them may be followed by `+ 2ms` (shift) and `x 1.5` (scale), applied from left to right. `cv` is the coefficient of
//! variation, standard deviation / mean. The parameters of a law are those of the law itself: the mean of `lognormal(5ms,
//! cv=1)` is 5 ms, not the exponential of something.
//!
//! Samples are `f64` in the base unit (ns, bytes, or plain numbers); [`Law::sample_duration`] rounds them to whole nanoseconds.
//! Only `libm`, sums and products decide a sample, so its bits are the same on every machine (see
//! [`variate`]).

mod buckets;
mod parse;

use std::fmt;
use std::sync::Arc;

use rand::Rng;
use rand_distr::Distribution as _;
use rand_distr::weighted::WeightedAliasIndex;

use super::{unit, variate};
use crate::time::Duration;
use crate::units::{self, UnitError};

/// What a law measures, and so which units belong into its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// Lengths of time; samples are nanoseconds.
    Time,
    /// Sizes; samples are bytes.
    Bytes,
    /// Plain numbers without a unit.
    Number,
}

/// A probability distribution of durations (in ns), sizes (in bytes) or plain numbers. Samples are never negative and
/// never NaN. The two laws of most scenarios come first and are drawn inline.
#[derive(Clone, Debug, PartialEq)]
pub enum Law {
    /// Always the same value.
    Constant(f64),
    /// Exponential with this mean.
    Exponential(f64),
    /// Equally likely everywhere from `low` to `high`.
    Uniform {
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
    /// The exponential of a normal.
    Lognormal(Lognormal),
    /// Gamma, of which Erlang's law is a case.
    Gamma(Box<Gamma>),
    /// A power of an exponential.
    Weibull(Weibull),
    /// Power law from `min` upwards.
    Pareto {
        /// Smallest value.
        min: f64,
        /// Exponent of the tail.
        alpha: f64,
    },
    /// Power law between two bounds.
    BoundedPareto(Box<BoundedPareto>),
    /// Either of two exponentials.
    Hyperexponential(Hyperexponential),
    /// Normal without its negative part.
    Normal {
        /// Mean before the cut.
        mean: f64,
        /// Standard deviation before the cut.
        sd: f64,
    },
    /// One of the values of a file.
    Empirical(Arc<Empirical>),
    /// Piecewise uniform.
    Buckets(Arc<Buckets>),
    /// One of several laws.
    Mixture(Arc<Mixture>),
    /// Another law, scaled and then shifted.
    Affine(Box<Affine>),
}

/// Lognormal law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lognormal {
    mean: f64,
    cv: f64,
    /// Standard deviation of the logarithm.
    sigma: f64,
}

/// Gamma law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gamma {
    mean: f64,
    /// As written: k of Erlang's law, or the coefficient of variation.
    spread: Spread,
    scale: f64,
    standard: variate::Gamma,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Spread {
    Stages(f64),
    Cv(f64),
}

/// Weibull law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weibull {
    mean: f64,
    shape: f64,
    scale: f64,
}

/// Bounded Pareto law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoundedPareto {
    min: f64,
    max: f64,
    alpha: f64,
    /// Probability that the unbounded law stays below `max`.
    below_max: f64,
}

/// Two-phase hyperexponential law with balanced means: both phases contribute half of the mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyperexponential {
    mean: f64,
    cv: f64,
    /// Probability of the short phase.
    p: f64,
}

/// Values of a file, drawn with replacement.
#[derive(Clone, Debug, PartialEq)]
pub struct Empirical {
    /// Arguments as they were written.
    written: String,
    values: Box<[f64]>,
}

/// A histogram, uniform within each bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    written: String,
    /// Lower end and width of each bucket that holds anything.
    bins: Box<[(f64, f64)]>,
    choice: Choice,
}

/// A weighted choice between laws.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    laws: Box<[Law]>,
    choice: Choice,
}

/// `law` times `scale`, plus `shift`.
#[derive(Clone, Debug, PartialEq)]
pub struct Affine {
    law: Law,
    scale: f64,
    shift: f64,
}

/// Walker's alias table over some weights.
#[derive(Clone, Debug)]
struct Choice {
    /// Summing to 1.
    weights: Box<[f64]>,
    table: WeightedAliasIndex<f64>,
}

impl PartialEq for Choice {
    fn eq(&self, other: &Self) -> bool {
        self.weights == other.weights
    }
}

impl Choice {
    /// `None` unless the weights are finite, not negative and not all zero.
    fn new(mut weights: Vec<f64>) -> Option<Self> {
        let sum: f64 = weights.iter().sum();
        for weight in &mut weights {
            *weight /= sum;
        }
        let table = WeightedAliasIndex::new(weights.clone()).ok()?;
        Some(Self { weights: weights.into(), table })
    }
}

impl Law {
    /// Always 0.
    pub const ZERO: Self = Self::Constant(0.0);

    /// Always `duration`.
    pub fn fixed(duration: Duration) -> Self {
        Self::Constant(duration.0 as f64)
    }

    /// Exponential with this mean, at least 0.
    pub fn exponential(mean: f64) -> Self {
        if mean == 0.0 { Self::ZERO } else { Self::Exponential(mean) }
    }

    /// Lognormal with this mean and coefficient of variation, both at least 0.
    pub fn lognormal(mean: f64, cv: f64) -> Self {
        if mean == 0.0 || cv == 0.0 {
            return Self::Constant(mean);
        }
        Self::Lognormal(Lognormal { mean, cv, sigma: libm::sqrt(libm::log1p(cv * cv)) })
    }

    /// Gamma with this mean and coefficient of variation, both at least 0.
    pub fn gamma(mean: f64, cv: f64) -> Self {
        if mean == 0.0 || cv == 0.0 {
            return Self::Constant(mean);
        }
        Self::of_shape(mean, 1.0 / (cv * cv), Spread::Cv(cv))
    }

    /// Erlang with this mean (at least 0) and `stages` (at least 1).
    pub fn erlang(mean: f64, stages: u32) -> Self {
        match stages {
            _ if mean == 0.0 => Self::ZERO,
            1 => Self::Exponential(mean),
            k => Self::of_shape(mean, f64::from(k), Spread::Stages(f64::from(k))),
        }
    }

    fn of_shape(mean: f64, shape: f64, spread: Spread) -> Self {
        Self::Gamma(Box::new(Gamma {
            mean,
            spread,
            scale: mean / shape,
            standard: variate::Gamma::new(shape),
        }))
    }

    /// Weibull with this mean (at least 0) and shape (positive).
    pub fn weibull(mean: f64, shape: f64) -> Self {
        if mean == 0.0 {
            return Self::ZERO;
        }
        Self::Weibull(Weibull { mean, shape, scale: mean / libm::tgamma(1.0 + 1.0 / shape) })
    }

    /// Pareto between `min` and `max` (`0 < min < max`) with the tail exponent `alpha`.
    pub fn bounded_pareto(min: f64, max: f64, alpha: f64) -> Self {
        let below_max = -libm::expm1(alpha * libm::log(min / max));
        Self::BoundedPareto(Box::new(BoundedPareto { min, max, alpha, below_max }))
    }

    /// Two exponentials with balanced means; `cv` at least 1.
    pub fn hyperexponential(mean: f64, cv: f64) -> Self {
        if mean == 0.0 {
            return Self::ZERO;
        }
        let square = cv * cv;
        let p = 0.5 * (1.0 + libm::sqrt((square - 1.0) / (square + 1.0)));
        Self::Hyperexponential(Hyperexponential { mean, cv, p })
    }

    /// Times a finite `factor` of at least 0.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        match self {
            Self::Constant(value) => Self::Constant(value * factor),
            Self::Exponential(mean) => Self::exponential(mean * factor),
            _ if factor == 0.0 => Self::ZERO,
            Self::Affine(mut affine) => {
                affine.scale *= factor;
                affine.shift *= factor;
                Self::Affine(affine)
            }
            law if factor == 1.0 => law,
            law => Self::Affine(Box::new(Affine { law, scale: factor, shift: 0.0 })),
        }
    }

    /// Plus a finite `shift` of at least 0.
    #[must_use]
    pub fn shifted(self, shift: f64) -> Self {
        match self {
            Self::Constant(value) => Self::Constant(value + shift),
            law if shift == 0.0 => law,
            Self::Affine(mut affine) => {
                affine.shift += shift;
                Self::Affine(affine)
            }
            law => Self::Affine(Box::new(Affine { law, scale: 1.0, shift })),
        }
    }

    /// One value, in the base unit of the law; never negative, never NaN.
    #[inline]
    pub fn sample(&self, rng: &mut impl Rng) -> f64 {
        match self {
            Self::Constant(value) => *value,
            Self::Exponential(mean) => mean * variate::exp1(rng),
            _ => self.sample_other(rng),
        }
    }

    #[inline(never)]
    fn sample_other(&self, rng: &mut impl Rng) -> f64 {
        match self {
            Self::Constant(value) => *value,
            Self::Exponential(mean) => mean * variate::exp1(rng),
            Self::Uniform { low, high } => low + (high - low) * unit(rng.next_u64()),
            Self::Lognormal(law) => {
                // The mean of exp(sigma Z) is exp(sigma^2 / 2); taking it off leaves the mean where it belongs.
                law.mean * libm::exp(law.sigma * (variate::normal(rng) - 0.5 * law.sigma))
            }
            Self::Gamma(law) => law.scale * law.standard.sample(rng),
            Self::Weibull(law) => law.scale * libm::exp(libm::log(variate::exp1(rng)) / law.shape),
            Self::Pareto { min, alpha } => min * libm::exp(variate::exp1(rng) / alpha),
            Self::BoundedPareto(law) => {
                let value =
                    law.min * libm::exp(-libm::log1p(-law.below_max * unit(rng.next_u64())) / law.alpha);
                value.min(law.max)
            }
            Self::Hyperexponential(law) => {
                let p = if unit(rng.next_u64()) < law.p { law.p } else { 1.0 - law.p };
                law.mean * variate::exp1(rng) / (2.0 * p)
            }
            Self::Normal { mean, sd } => loop {
                let value = mean + sd * variate::normal(rng);
                if value >= 0.0 {
                    break value;
                }
            },
            Self::Empirical(law) => {
                let index = (u128::from(rng.next_u64()) * law.values.len() as u128) >> 64;
                law.values[index as usize]
            }
            Self::Buckets(law) => {
                let (low, width) = law.bins[law.choice.table.sample(rng)];
                low + width * unit(rng.next_u64())
            }
            Self::Mixture(law) => law.laws[law.choice.table.sample(rng)].sample(rng),
            Self::Affine(affine) => affine.law.sample(rng) * affine.scale + affine.shift,
        }
    }

    /// One duration, rounded to whole nanoseconds.
    #[inline]
    pub fn sample_duration(&self, rng: &mut impl Rng) -> Duration {
        Duration::from_ns_f64(self.sample(rng))
    }

    /// The expected value, in the base unit; infinite for a Pareto law with alpha <= 1.
    pub fn mean(&self) -> f64 {
        match self {
            Self::Constant(mean) | Self::Exponential(mean) => *mean,
            Self::Uniform { low, high } => 0.5 * (low + high),
            Self::Lognormal(law) => law.mean,
            Self::Gamma(law) => law.mean,
            Self::Weibull(law) => law.mean,
            Self::Pareto { min, alpha } if *alpha > 1.0 => min * alpha / (alpha - 1.0),
            Self::Pareto { .. } => f64::INFINITY,
            Self::BoundedPareto(law) => law.moment(1.0),
            Self::Hyperexponential(law) => law.mean,
            Self::Normal { mean, sd } => mean + sd * inverse_mills(-mean / sd),
            Self::Empirical(law) => law.values.iter().sum::<f64>() / law.values.len() as f64,
            Self::Buckets(law) => law
                .choice
                .weights
                .iter()
                .zip(&law.bins)
                .map(|(p, (low, width))| p * (low + 0.5 * width))
                .sum(),
            Self::Mixture(law) => {
                law.choice.weights.iter().zip(&law.laws).map(|(p, law)| p * law.mean()).sum()
            }
            Self::Affine(affine) => affine.law.mean() * affine.scale + affine.shift,
        }
    }

    /// Variance, in the square of the base unit; infinite where it does not exist.
    pub fn variance(&self) -> f64 {
        let about = |mean: f64, second_moment: f64| (second_moment - mean * mean).max(0.0);
        match self {
            Self::Constant(_) => 0.0,
            Self::Exponential(mean) => mean * mean,
            Self::Uniform { low, high } => (high - low) * (high - low) / 12.0,
            Self::Lognormal(law) => (law.mean * law.cv) * (law.mean * law.cv),
            Self::Gamma(law) => law.scale * law.scale * law.standard.shape(),
            Self::Weibull(law) => {
                about(law.mean, law.scale * law.scale * libm::tgamma(1.0 + 2.0 / law.shape))
            }
            Self::Pareto { min, alpha } if *alpha > 2.0 => {
                min * min * alpha / ((alpha - 1.0) * (alpha - 1.0) * (alpha - 2.0))
            }
            Self::Pareto { .. } => f64::INFINITY,
            Self::BoundedPareto(law) => about(law.moment(1.0), law.moment(2.0)),
            Self::Hyperexponential(law) => (law.mean * law.cv) * (law.mean * law.cv),
            Self::Normal { mean, sd } => {
                let cut = -mean / sd;
                let mills = inverse_mills(cut);
                sd * sd * (1.0 + cut * mills - mills * mills)
            }
            Self::Empirical(law) => {
                let mean = self.mean();
                law.values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>()
                    / law.values.len() as f64
            }
            Self::Buckets(law) => {
                let mean = self.mean();
                let squares = law.choice.weights.iter().zip(&law.bins).map(|(p, (low, width))| {
                    let centre = low + 0.5 * width - mean;
                    p * (centre * centre + width * width / 12.0)
                });
                squares.sum()
            }
            Self::Mixture(law) => {
                let mean = self.mean();
                let parts = law.choice.weights.iter().zip(&law.laws).map(|(p, law)| {
                    let off = law.mean() - mean;
                    if *p == 0.0 { 0.0 } else { p * (law.variance() + off * off) }
                });
                parts.sum()
            }
            Self::Affine(affine) => affine.law.variance() * affine.scale * affine.scale,
        }
    }

    /// Upper bounds of the buckets, in the base unit, and the share below each; empty for a law that is no histogram.
    pub fn bucket_shares(&self) -> Vec<(f64, f64)> {
        let Self::Buckets(law) = self else { return Vec::new() };
        let mut below = 0.0;
        let shares = law.bins.iter().zip(&law.choice.weights).map(|((low, width), weight)| {
            below += weight;
            (low + width, below)
        });
        shares.collect()
    }

    /// Squared coefficient of variation, variance / mean^2; 0 for a law that is always 0.
    pub fn cv2(&self) -> f64 {
        let mean = self.mean();
        if mean == 0.0 { 0.0 } else { self.variance() / (mean * mean) }
    }

    /// `Some(value)` if every sample is the same.
    #[inline]
    pub fn constant(&self) -> Option<f64> {
        match self {
            Self::Constant(value) => Some(*value),
            _ => None,
        }
    }

    /// Whether every sample is 0.
    #[inline]
    pub fn is_zero(&self) -> bool {
        self.constant() == Some(0.0)
    }

    /// Reads a law. `files` gives the content of a file that the law names (relative to the scenario); its errors are pointed at the
    /// name. Places in errors are bytes of `text`.
    pub fn parse(text: &str, dimension: Dimension, files: Files<'_>) -> Result<Self, UnitError> {
        parse::parse(text, dimension, files)
    }
}

/// Gives the content of a file by the name that a scenario calls it.
pub type Files<'a> = &'a mut dyn FnMut(&str) -> Result<Vec<u8>, UnitError>;

/// For laws that cannot name files: refuses every one.
pub fn no_files(name: &str) -> Result<Vec<u8>, UnitError> {
    Err(UnitError::new(format!("`{name}` cannot be read here")))
}

impl BoundedPareto {
    /// The k-th moment.
    fn moment(&self, k: f64) -> f64 {
        let (gap, log) = (self.alpha - k, libm::log(self.min / self.max));
        // (1 - r^gap) / gap, whose limit at gap = 0 is -log r.
        let ratio = if gap.abs() < 1e-9 { -log } else { -libm::expm1(gap * log) / gap };
        self.alpha * libm::exp(k * libm::log(self.min)) * ratio / self.below_max
    }
}

/// phi(x) / (1 - Phi(x)) of the standard normal: what cutting it off below x adds to its mean.
fn inverse_mills(x: f64) -> f64 {
    let density = libm::exp(-0.5 * x * x) / libm::sqrt(2.0 * std::f64::consts::PI);
    density / (0.5 * libm::erfc(x / std::f64::consts::SQRT_2))
}

impl Law {
    /// The law as it would be written for this dimension; [`Law::parse`] gives the same law back.
    pub fn display(&self, dimension: Dimension) -> impl fmt::Display {
        struct Written<'a>(&'a Law, Dimension);

        impl fmt::Display for Written<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.write(f, self.1)
            }
        }

        Written(self, dimension)
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, dimension: Dimension) -> fmt::Result {
        let q = |value: f64| Quantity(value, dimension);
        match self {
            Self::Constant(value) => write!(f, "{}", q(*value)),
            Self::Exponential(mean) => write!(f, "exp({})", q(*mean)),
            Self::Uniform { low, high } => write!(f, "uniform({}, {})", q(*low), q(*high)),
            Self::Lognormal(law) => write!(f, "lognormal({}, cv={})", q(law.mean), law.cv),
            Self::Gamma(law) => match law.spread {
                Spread::Stages(k) => write!(f, "erlang({}, k={k})", q(law.mean)),
                Spread::Cv(cv) => write!(f, "gamma({}, cv={cv})", q(law.mean)),
            },
            Self::Weibull(law) => write!(f, "weibull({}, shape={})", q(law.mean), law.shape),
            Self::Pareto { min, alpha } => write!(f, "pareto({}, alpha={alpha})", q(*min)),
            Self::BoundedPareto(law) => {
                write!(f, "bounded-pareto({}, {}, alpha={})", q(law.min), q(law.max), law.alpha)
            }
            Self::Hyperexponential(law) => write!(f, "hyperexp({}, cv={})", q(law.mean), law.cv),
            Self::Normal { mean, sd } => write!(f, "normal({}, sd={})", q(*mean), q(*sd)),
            Self::Empirical(law) => write!(f, "file({})", law.written),
            Self::Buckets(law) => write!(f, "buckets({})", law.written),
            Self::Mixture(law) => {
                f.write_str("mix(")?;
                for (index, (weight, law)) in law.choice.weights.iter().zip(&law.laws).enumerate() {
                    // Shares were written as percentages; ten digits bring them back.
                    let percent = (weight * 1e10).round() / 1e8;
                    write!(
                        f,
                        "{}{percent}%: {}",
                        if index == 0 { "" } else { ", " },
                        law.display(dimension)
                    )?;
                }
                f.write_str(")")
            }
            Self::Affine(affine) => {
                write!(f, "{}", affine.law.display(dimension))?;
                if affine.scale != 1.0 {
                    write!(f, " x {}", affine.scale)?;
                }
                if affine.shift != 0.0 {
                    write!(f, " + {}", q(affine.shift))?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Law {
    /// As a law of time, which most are; see [`Law::display`] for the others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, Dimension::Time)
    }
}

/// A value with the largest unit that keeps it at one or more and gives exactly the same value when it is read again.
struct Quantity(f64, Dimension);

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, dimension) = *self;
        let units: &[(&str, u64)] = match dimension {
            Dimension::Time => units::TIMES,
            Dimension::Bytes => {
                &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)]
            }
            Dimension::Number => &[("", 1)],
        };
        let (smallest, _) = units[units.len() - 1];
        if value == 0.0 {
            return write!(f, "0{}", if dimension == Dimension::Time { "s" } else { smallest });
        }
        for (name, worth) in units {
            let worth = *worth as f64;
            let count = value / worth;
            // Hours and days only where they come out whole: nobody reads 1.0166666666666666h.
            let readable = worth < 6e10 || dimension != Dimension::Time || count == libm::floor(count);
            if count >= 1.0 && readable && count * worth == value {
                return write!(f, "{count}{name}");
            }
        }
        write!(f, "{value}{smallest}")
    }
}

#[cfg(test)]
mod tests {
    use rand_distr::Distribution;
    use statrs::distribution::ContinuousCDF;

    use super::*;
    use crate::random::Key;
    use crate::random::variate::tests::{agree, follows, sorted};

    /// One of each, on an odd scale.
    fn all() -> Vec<Law> {
        let texts = [
            "12ms",
            "exp(12ms)",
            "uniform(3ms, 20ms)",
            "erlang(10ms, k=3)",
            "gamma(10ms, cv=2)",
            "lognormal(5ms, cv=1.5)",
            "weibull(10ms, shape=0.7)",
            "pareto(2ms, alpha=5)",
            "bounded-pareto(1ms, 500ms, alpha=1.5)",
            "hyperexp(10ms, cv=2)",
            "normal(2ms, sd=2ms)",
            "file(x.csv:latency_ms)",
            "buckets(x.json, top=200ms)",
            "mix(80%: exp(5ms), 20%: uniform(1ms, 50ms))",
            "lognormal(5ms, cv=1) x 2 + 3ms",
        ];
        texts
            .map(|text| {
                Law::parse(text, Dimension::Time, &mut |name| {
                    Ok(match name {
                        "x.csv" => b"latency_ms\n1\n2.5\n4\n20\n".to_vec(),
                        _ => br#"[{"le": 0.1, "count": 50}, {"le": 0.2, "count": 75}, {"le": "+Inf", "count": 100}]"#.to_vec(),
                    })
                })
                .unwrap()
            })
            .into()
    }

    #[test]
    fn moments_are_what_is_promised() {
        for (seed, law) in all().into_iter().enumerate() {
            let sample = sorted(seed as u64, |rng| law.sample(rng));
            let n = sample.len() as f64;
            let mean = sample.iter().sum::<f64>() / n;
            // 5 standard errors of the mean.
            let error = 5.0 * (law.variance() / n).sqrt();
            assert!(
                (mean - law.mean()).abs() <= error + 1e-9 * law.mean(),
                "{law}: mean {mean}, not {}",
                law.mean()
            );
            // The error of the variance from the sample's own fourth moment; heavy tails hide most of it.
            let centred = |power: i32| sample.iter().map(|x| (x - mean).powi(power)).sum::<f64>() / n;
            let (variance, fourth) = (centred(2), centred(4));
            let error = 6.0 * ((fourth - variance * variance) / n).sqrt();
            assert!(
                (variance - law.variance()).abs() <= error + 1e-9,
                "{law}: variance {variance}, not {}",
                law.variance()
            );
            assert!(sample[0] >= 0.0);
        }
    }

    #[test]
    fn laws_follow_their_distribution_functions() {
        let check = |text: &str, cdf: &dyn Fn(f64) -> f64| {
            let law = Law::parse(text, Dimension::Number, &mut no_files).unwrap();
            follows(text, &sorted(7, |rng| law.sample(rng)), cdf);
        };
        check("exp(3)", &|x| -libm::expm1(-x / 3.0));
        check("uniform(2, 5)", &|x| ((x - 2.0) / 3.0).clamp(0.0, 1.0));
        // The logarithm has variance log(1 + cv^2) and mean log(mean) - variance / 2.
        let variance = 3.25_f64.ln();
        let lognormal =
            statrs::distribution::LogNormal::new(4_f64.ln() - variance / 2.0, variance.sqrt()).unwrap();
        check("lognormal(4, cv=1.5)", &|x| lognormal.cdf(x));
        let gamma = statrs::distribution::Gamma::new(0.25, 0.025).unwrap();
        check("gamma(10, cv=2)", &|x| gamma.cdf(x));
        let erlang = statrs::distribution::Gamma::new(3.0, 0.3).unwrap();
        check("erlang(10, k=3)", &|x| erlang.cdf(x));
        let scale = 10.0 / libm::tgamma(1.0 + 1.0 / 0.7);
        check("weibull(10, shape=0.7)", &|x| -libm::expm1(-libm::pow(x / scale, 0.7)));
        check("pareto(2, alpha=1.5)", &|x| 1.0 - libm::pow(2.0 / x, 1.5));
        check("bounded-pareto(2, 50, alpha=1.2)", &|x| {
            (1.0 - libm::pow(2.0 / x, 1.2)) / (1.0 - libm::pow(2.0 / 50.0, 1.2))
        });
        let p = 0.5 * (1.0 + (3.0_f64 / 5.0).sqrt());
        check("hyperexp(10, cv=2)", &|x| {
            -p * libm::expm1(-2.0 * p * x / 10.0) - (1.0 - p) * libm::expm1(-2.0 * (1.0 - p) * x / 10.0)
        });
        let bell = statrs::distribution::Normal::new(1.0, 2.0).unwrap();
        check("normal(1, sd=2)", &|x| (bell.cdf(x) - bell.cdf(0.0)) / (1.0 - bell.cdf(0.0)));
        check("mix(80%: exp(5), 20%: exp(50))", &|x| {
            -0.8 * libm::expm1(-x / 5.0) - 0.2 * libm::expm1(-x / 50.0)
        });
        check("exp(5) x 2 + 3", &|x| -libm::expm1(-(x - 3.0) / 10.0));
    }

    #[test]
    fn laws_agree_with_rand_distr() {
        let ours = |text: &str| {
            let law = Law::parse(text, Dimension::Number, &mut no_files).unwrap();
            sorted(8, |rng| law.sample(rng))
        };
        let lognormal = rand_distr::LogNormal::from_mean_cv(4.0, 1.5).unwrap();
        agree("lognormal", &ours("lognormal(4, cv=1.5)"), &sorted(9, |rng| lognormal.sample(rng)));
        let weibull = rand_distr::Weibull::new(10.0 / libm::tgamma(1.0 + 1.0 / 0.7), 0.7).unwrap();
        agree("weibull", &ours("weibull(10, shape=0.7)"), &sorted(9, |rng| weibull.sample(rng)));
        let pareto = rand_distr::Pareto::new(2.0, 1.5).unwrap();
        agree("pareto", &ours("pareto(2, alpha=1.5)"), &sorted(9, |rng| pareto.sample(rng)));
    }

    #[test]
    fn empirical_values_and_buckets_come_in_their_shares() {
        let laws = all();
        let sample = sorted(1, |rng| laws[11].sample(rng));
        for value in [1e6, 2.5e6, 4e6, 20e6] {
            let share = sample.iter().filter(|&&x| x == value).count() as f64 / sample.len() as f64;
            assert!((share - 0.25).abs() < 0.004, "{value}: {share}");
        }
        let sample = sorted(1, |rng| laws[12].sample(rng));
        let below = |x: f64| sample.partition_point(|&value| value < x) as f64 / sample.len() as f64;
        for (x, share) in [(50e6, 0.25), (100e6, 0.5), (150e6, 0.625), (200e6, 0.75)] {
            assert!((below(x) - share).abs() < 0.004, "{x}: {}", below(x));
        }
    }

    #[test]
    fn golden_bits() {
        // A change here changes every result of every user.
        let bits = all().into_iter().map(|law| {
            let mut rng = Key::new(1).rng();
            let fold = (0..1000).fold(0, |fold, _| crate::random::mix(fold ^ law.sample(&mut rng).to_bits()));
            format!("{fold:016x} {law}")
        });
        insta::assert_snapshot!(bits.collect::<Vec<_>>().join("\n"), @r"
        ccd52d4e196884d8 12ms
        1a12e6383d922b6d exp(12ms)
        61e8a34582bf0819 uniform(3ms, 20ms)
        5c2ffaa3abe0ff02 erlang(10ms, k=3)
        ed34f3b8c5829f2d gamma(10ms, cv=2)
        f6d5d4e89dce383e lognormal(5ms, cv=1.5)
        aabdff78b12f8a56 weibull(10ms, shape=0.7)
        770c56db1839dada pareto(2ms, alpha=5)
        98a2210137f5cf03 bounded-pareto(1ms, 500ms, alpha=1.5)
        9a3c00788290e3c4 hyperexp(10ms, cv=2)
        aff6c05d7a72aec8 normal(2ms, sd=2ms)
        2b8378f1ab5ff266 file(x.csv:latency_ms)
        0eb88709a9223b95 buckets(x.json, top=200ms)
        f61d8915368d70a6 mix(80%: exp(5ms), 20%: uniform(1ms, 50ms))
        1fca92ccc8eb36ec lognormal(5ms, cv=1) x 2 + 3ms
        ");
    }
}
