//! Confidence intervals of means and of probabilities.
//!
//! Means over replications get Student's interval. There is no bootstrap: below 20 replications it covers less than it
//! says, and above that the two agree. Probabilities get the exact interval of Clopper and Pearson, which never covers less than it says.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};
use statrs::function::beta::beta_reg;

use super::moments::Moments;

/// The level of every interval that simlab prints.
pub const LEVEL: f64 = 0.95;

/// Runs without a single collapse that it takes to say, with 95 % confidence, "it collapses in fewer than 5 % of runs":
/// the smallest n with 0.95^n below 5 %.
pub const RUNS_FOR_RARE: u32 = 59;

/// Student's interval of the mean; `None` with fewer than two values or with values that are not finite.
pub fn of_mean(values: &[f64], level: f64) -> Option<(f64, f64)> {
    let moments = Moments::of(values);
    let error = moments.standard_error()?;
    let mean = moments.mean()?;
    if !(mean.is_finite() && error.is_finite()) {
        return None;
    }
    let half = t_quantile(0.5 + 0.5 * level, (values.len() - 1) as f64) * error;
    Some((mean - half, mean + half))
}

/// Clopper-Pearson interval of the probability behind `k` successes in `n` trials.
pub fn of_probability(k: u32, n: u32, level: f64) -> (f64, f64) {
    assert!(k <= n, "{k} successes in {n} trials");
    let (alpha, successes, trials) = (0.5 * (1.0 - level), f64::from(k), f64::from(n));
    // P(X >= k | p) grows with p from 0 to 1; the lower end is where it reaches alpha. The upper end is the mirror image.
    let lower = |successes: f64| bisect(|p| beta_reg(successes, trials - successes + 1.0, p) < alpha);
    let low = if k == 0 { 0.0 } else { lower(successes) };
    let high = if k == n { 1.0 } else { 1.0 - lower(trials - successes) };
    (low, high)
}

/// Where a predicate on 0..=1 changes from true to false, to the last bit or two.
fn bisect(below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if below(middle) { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// The p-quantile of Student's t with `freedom` degrees of freedom.
pub fn t_quantile(p: f64, freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).expect("degrees of freedom are positive").inverse_cdf(p)
}

/// Probability that |t| is at least this large if the mean is 0.
pub fn t_two_sided(t: f64, freedom: f64) -> f64 {
    if t.is_infinite() {
        return 0.0;
    }
    beta_reg(0.5 * freedom, 0.5, freedom / (freedom + t * t))
}

/// The p-quantile of the standard normal.
pub fn normal_quantile(p: f64) -> f64 {
    Normal::standard().inverse_cdf(p)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(found: f64, known: f64) {
        assert!((found - known).abs() < 1e-6 * known.abs().max(1e-3), "{found} is not {known}");
    }

    #[test]
    fn quantiles_from_the_tables() {
        close(t_quantile(0.975, 1.0), 12.706_204_736);
        close(t_quantile(0.975, 4.0), 2.776_445_105);
        close(t_quantile(0.975, 29.0), 2.045_229_642);
        close(t_quantile(0.025, 9.0), -2.262_157_163);
        close(normal_quantile(0.975), 1.959_963_985);
        close(normal_quantile(0.999_95), 3.890_591_886);
        close(t_two_sided(2.776_445_105, 4.0), 0.05);
        close(t_two_sided(-12.706_204_736, 1.0), 0.05);
        assert_eq!(t_two_sided(f64::INFINITY, 4.0), 0.0);
        close(t_two_sided(0.0, 4.0), 1.0);
    }

    #[test]
    fn intervals_of_means() {
        // Mean 3, standard error sqrt(2.5 / 5).
        let (lo, hi) = of_mean(&[1.0, 2.0, 3.0, 4.0, 5.0], LEVEL).unwrap();
        close(lo, 3.0 - 2.776_445_105 * 0.5_f64.sqrt());
        close(hi, 3.0 + 2.776_445_105 * 0.5_f64.sqrt());
        assert_eq!(of_mean(&[1.0], LEVEL), None);
        assert_eq!(of_mean(&[1.0, f64::INFINITY], LEVEL), None);
        assert_eq!(of_mean(&[2.0, 2.0, 2.0], LEVEL), Some((2.0, 2.0)));
    }

    #[test]
    fn intervals_of_probabilities() {
        let check = |k, n, known: (f64, f64)| {
            let (lo, hi) = of_probability(k, n, LEVEL);
            close(lo, known.0);
            close(hi, known.1);
        };
        check(0, 10, (0.0, 0.308_497_1));
        check(10, 10, (0.691_502_9, 1.0));
        check(2, 5, (0.052_744_95, 0.853_367_2));
        check(1, 20, (0.001_265_089, 0.248_732_8));
        check(50, 100, (0.398_321_1, 0.601_678_9));
        assert!(0.95_f64.powi(59) < 0.05 && 0.95_f64.powi(58) > 0.05);
    }

    proptest! {
        #[test]
        fn clopper_pearson_covers_at_least_what_it_says(p in 0.01..0.99_f64, n in 1_u32..40) {
            // Probability of all outcomes whose interval holds p.
            let mut covered = 0.0;
            let mut chance = (1.0 - p).powf(f64::from(n));
            for k in 0..=n {
                let (lo, hi) = of_probability(k, n, LEVEL);
                if lo <= p && p <= hi {
                    covered += chance;
                }
                chance *= p / (1.0 - p) * f64::from(n - k) / f64::from(k + 1);
            }
            prop_assert!(covered > 0.95 - 1e-9, "{} at p = {}, n = {}", covered, p, n);
        }
    }
}
