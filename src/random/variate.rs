//! Building blocks of the laws.

use rand::Rng;

/// Exponential with mean 1.
#[inline]
pub fn exp1(rng: &mut impl Rng) -> f64 {
    -libm::log(1.0 - super::unit(rng.next_u64()))
}
