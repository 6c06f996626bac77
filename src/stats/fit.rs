//! Small fits: a line, the minimum of a function of one variable, and how much a queue stretches service.

use super::interval::normal_quantile;
use super::moments::Moments;

/// A straight line through points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Change of y with x.
    pub slope: f64,
    /// y at x = 0.
    pub intercept: f64,
    /// Share of the variance of y that it explains, 0..1.
    pub r2: f64,
}

/// Ordinary least squares; `None` for fewer than two different x. The intercept is not below 0: where the best line would
/// start there, it is the best line through the origin.
pub fn line(x: &[f64], y: &[f64]) -> Option<Line> {
    let n = x.len() as f64;
    let (mean_x, mean_y) = (Moments::of(x).mean()?, Moments::of(y).mean()?);
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 { x.iter().zip(y).map(|(x, y)| f(*x, *y)).sum() };
    let spread = sum(&|x, _| (x - mean_x) * (x - mean_x));
    if n < 2.0 || spread <= 0.0 {
        return None;
    }
    let mut slope = sum(&|x, y| (x - mean_x) * (y - mean_y)) / spread;
    let mut intercept = mean_y - slope * mean_x;
    if intercept < 0.0 {
        (slope, intercept) = (sum(&|x, y| x * y) / sum(&|x, _| x * x), 0.0);
    }
    let left = sum(&|x, y| (y - intercept - slope * x) * (y - intercept - slope * x));
    let total = sum(&|_, y| (y - mean_y) * (y - mean_y));
    let r2 = if total > 0.0 { (1.0 - left / total).max(0.0) } else { 1.0 };
    Some(Line { slope, intercept, r2 })
}

/// Where a function with one minimum between `low` and `high` is smallest (golden-section search, Kiefer 1953), to a
/// millionth of the interval.
pub fn minimum(mut low: f64, mut high: f64, f: impl Fn(f64) -> f64) -> f64 {
    const RATIO: f64 = 0.618_033_988_749_894_8;
    let (mut a, mut b) = (high - RATIO * (high - low), low + RATIO * (high - low));
    let (mut at_a, mut at_b) = (f(a), f(b));
    for _ in 0..30 {
        if at_a <= at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - RATIO * (high - low);
            at_a = f(a);
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + RATIO * (high - low);
            at_b = f(b);
        }
    }
    0.5 * (low + high)
}

/// Mean time in M/M/c over mean service, at a utilization below 1 of `cores` cores: 1 + C(c, a) / (c (1 - rho)) with
/// Erlang's C formula. With processor sharing it holds for every law of service (Kelly 1979: insensitivity). At and above 0.999 it
/// stays what it is there.
pub fn stretch(cores: u32, utilization: f64) -> f64 {
    let rho = utilization.clamp(0.0, 0.999);
    let load = rho * f64::from(cores);
    // Erlang's B by its recursion, then C from B.
    let blocked = (1..=cores).fold(1.0, |b, k| load * b / (f64::from(k) + load * b));
    let waits = blocked / (1.0 - rho * (1.0 - blocked));
    1.0 + waits / (f64::from(cores) * (1.0 - rho))
}

/// Shapes of a service law with a mean and a coefficient of variation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Exponential; its coefficient of variation is 1.
    Exponential,
    /// Lognormal.
    Lognormal,
    /// Gamma.
    Gamma,
}

impl Shape {
    /// All of them, the simplest first.
    pub const ALL: [Self; 3] = [Self::Exponential, Self::Lognormal, Self::Gamma];

    /// Quantile 0..1 of the law of this shape with mean 1.
    pub fn quantile(self, q: f64, cv: f64) -> f64 {
        use statrs::distribution::{ContinuousCDF, Gamma};
        match self {
            Self::Exponential => -libm::log1p(-q),
            Self::Lognormal => {
                let sigma = libm::sqrt(libm::log1p(cv * cv));
                libm::exp(sigma * (normal_quantile(q) - 0.5 * sigma))
            }
            Self::Gamma => {
                let shape = 1.0 / (cv * cv);
                Gamma::new(shape, shape).map_or(f64::NAN, |law| law.inverse_cdf(q))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_and_never_starts_below_zero() {
        let x = [0.0, 1.0, 2.0, 3.0];
        let found = line(&x, &[1.0, 3.0, 5.0, 7.0]).unwrap();
        assert!(
            (found.slope - 2.0).abs() < 1e-12
                && (found.intercept - 1.0).abs() < 1e-12
                && found.r2 > 0.999_999
        );
        let found = line(&x, &[-1.0, 1.0, 3.0, 5.0]).unwrap();
        assert_eq!(found.intercept, 0.0);
        assert!((found.slope - 22.0 / 14.0).abs() < 1e-12);
        assert_eq!(line(&[1.0, 1.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn the_minimum_of_a_parabola() {
        assert!((minimum(-3.0, 10.0, |x| (x - 2.5) * (x - 2.5)) - 2.5).abs() < 1e-4);
    }

    #[test]
    fn queues_stretch_as_theory_says() {
        // M/M/1: 1 / (1 - rho); M/M/2: 1 / (1 - rho^2).
        assert!((stretch(1, 0.8) - 5.0).abs() < 1e-12);
        assert!((stretch(2, 0.8) - 1.0 / (1.0 - 0.64)).abs() < 1e-12);
        assert_eq!(stretch(4, 0.0), 1.0);
        assert!(stretch(4, 2.0).is_finite());
    }

    #[test]
    fn quantiles_agree_where_the_shapes_meet() {
        for q in [0.1, 0.5, 0.99] {
            let exponential = Shape::Exponential.quantile(q, 1.0);
            assert!((Shape::Gamma.quantile(q, 1.0) / exponential - 1.0).abs() < 1e-6);
        }
        // The median of a lognormal with mean 1 and cv 1 is 1 / sqrt(2).
        assert!((Shape::Lognormal.quantile(0.5, 1.0) - 0.5_f64.sqrt()).abs() < 1e-12);
    }
}
