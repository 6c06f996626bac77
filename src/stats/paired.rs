//! Paired differences: the same replications under two strategies.
//!
//! With common random numbers both runs of a pair see the same arrivals and the same luck, so most of the noise is in
//! both and leaves with the difference. The test and the interval are Student's on the differences.

use super::interval::{self, t_two_sided};
use super::moments::Moments;

/// Mean of some differences and what can be said about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Paired {
    /// Pairs.
    pub n: u32,
    /// Mean difference.
    pub mean: f64,
    /// Its interval at [`interval::LEVEL`]; `None` with fewer than two pairs.
    pub interval: Option<(f64, f64)>,
    /// Two-sided p value of "the mean difference is 0"; `None` with fewer than two pairs. Differences that are all 0 give 1,
    /// differences that are all the same give 0.
    pub p: Option<f64>,
}

/// `None` without differences, or where one is not finite.
pub fn paired(differences: &[f64]) -> Option<Paired> {
    let moments = Moments::of(differences);
    let mean = moments.mean().filter(|mean| mean.is_finite())?;
    let p = moments.standard_error().map(|error| {
        if mean == 0.0 { 1.0 } else { t_two_sided(mean / error, (differences.len() - 1) as f64) }
    });
    Some(Paired {
        n: differences.len() as u32,
        mean,
        interval: interval::of_mean(differences, interval::LEVEL),
        p,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // Student's sleep data (1908): t = 4.0621, df = 9, p = 0.002833, 95 % interval 0.7001142 to 2.4598858.
        let sleep = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4];
        let found = paired(&sleep).unwrap();
        assert!((found.mean - 1.58).abs() < 1e-12);
        assert!((found.p.unwrap() - 0.002_833).abs() < 1e-6);
        let (lo, hi) = found.interval.unwrap();
        assert!((lo - 0.700_114_2).abs() < 1e-6 && (hi - 2.459_885_8).abs() < 1e-6);
    }

    #[test]
    fn edge_cases() {
        assert_eq!(paired(&[]), None);
        assert_eq!(paired(&[f64::NAN, 1.0]), None);
        assert_eq!(paired(&[3.0]), Some(Paired { n: 1, mean: 3.0, interval: None, p: None }));
        assert_eq!(paired(&[0.0, 0.0]).unwrap().p, Some(1.0));
        assert_eq!(paired(&[2.0, 2.0, 2.0]).unwrap().p, Some(0.0));
    }
}
