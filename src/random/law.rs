//! Laws: probability distributions as they are written in scenarios.

use rand::Rng;

use crate::time::Duration;

/// A probability distribution of durations (in ns), sizes (in bytes) or plain numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Law {
    /// Always the same value.
    Constant(f64),
    /// Exponential with this mean.
    Exponential(f64),
}

impl Law {
    /// One value, in the base unit of the law; never negative, never NaN.
    #[inline]
    pub fn sample(&self, rng: &mut impl Rng) -> f64 {
        match self {
            Self::Constant(value) => *value,
            Self::Exponential(mean) => mean * super::variate::exp1(rng),
        }
    }

    /// One duration, rounded to whole nanoseconds.
    #[inline]
    pub fn sample_duration(&self, rng: &mut impl Rng) -> Duration {
        Duration::from_ns_f64(self.sample(rng))
    }

    /// The expected value, in the base unit.
    pub fn mean(&self) -> f64 {
        match self {
            Self::Constant(mean) | Self::Exponential(mean) => *mean,
        }
    }

    /// `Some(value)` if every sample is the same.
    pub fn constant(&self) -> Option<f64> {
        match self {
            Self::Constant(value) => Some(*value),
            Self::Exponential(_) => None,
        }
    }
}
