//! Mean and variance in one pass (Welford 1962; merging after Chan, Golub and `LeVeque` 1983).

/// Count, mean and sum of squared deviations of what was pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    n: u64,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// Of all values of a slice.
    pub fn of(values: &[f64]) -> Self {
        let mut moments = Self::default();
        for &value in values {
            moments.push(value);
        }
        moments
    }

    /// Adds one value.
    #[inline]
    pub fn push(&mut self, value: f64) {
        self.n += 1;
        let off = value - self.mean;
        self.mean += off / self.n as f64;
        self.squares += off * (value - self.mean);
    }

    /// As if all values of `other` had been pushed here.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        if self.n == 0 || other.n == 0 {
            return if self.n == 0 { other } else { self };
        }
        let (n, off) = (self.n + other.n, other.mean - self.mean);
        let share = other.n as f64 / n as f64;
        Self {
            n,
            mean: self.mean + off * share,
            squares: self.squares + other.squares + off * off * self.n as f64 * share,
        }
    }

    /// Values pushed.
    pub fn count(&self) -> u64 {
        self.n
    }

    /// Their mean; `None` without values.
    pub fn mean(&self) -> Option<f64> {
        (self.n > 0).then_some(self.mean)
    }

    /// Unbiased sample variance; `None` with fewer than two values.
    pub fn variance(&self) -> Option<f64> {
        (self.n > 1).then(|| self.squares / (self.n - 1) as f64)
    }

    /// Standard error of the mean; `None` with fewer than two values.
    pub fn standard_error(&self) -> Option<f64> {
        Some((self.variance()? / self.n as f64).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_values() {
        let moments = Moments::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!((moments.count(), moments.mean(), moments.variance()), (8, Some(5.0), Some(32.0 / 7.0)));
        assert_eq!(Moments::default().mean(), None);
        assert_eq!(Moments::of(&[3.0]).variance(), None);
        // The textbook formula loses everything here.
        assert_eq!(Moments::of(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]).variance(), Some(30.0));
    }

    proptest! {
        #[test]
        fn merging_is_pushing(a in prop::collection::vec(-1e3..1e3_f64, 0..20), b in prop::collection::vec(-1e3..1e3_f64, 2..20)) {
            let merged = Moments::of(&a).merged(Moments::of(&b));
            let all = Moments::of(&[a, b].concat());
            prop_assert_eq!(merged.count(), all.count());
            prop_assert!((merged.mean().unwrap() - all.mean().unwrap()).abs() < 1e-9);
            prop_assert!((merged.variance().unwrap() - all.variance().unwrap()).abs() < 1e-6);
        }
    }
}
