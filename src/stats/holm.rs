//! Holm's step-down correction (1979): when several strategies are each compared with the baseline, one of them looks
//! better by luck sooner or later. Corrected p values keep the chance of *any* false claim below the level, without assumptions about how
//! the comparisons depend on each other.

/// Corrected p values in the order of the given ones: compare each with the level.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut corrected = vec![0.0; p_values.len()];
    let mut so_far = 0.0_f64;
    for (rank, &index) in order.iter().enumerate() {
        so_far = so_far.max(p_values[index] * (p_values.len() - rank) as f64).min(1.0);
        corrected[index] = so_far;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(holm(&[0.25, 0.0625, 0.125]), [0.25, 0.1875, 0.25]);
        assert_eq!(holm(&[0.01, 0.6, 0.7]), [0.03, 1.0, 1.0]);
        assert_eq!(holm(&[0.03]), [0.03]);
        assert!(holm(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn never_bolder_than_alone_nor_shyer_than_bonferroni(p in prop::collection::vec(0.0..=1.0_f64, 1..10)) {
            for (single, corrected) in p.iter().zip(holm(&p)) {
                prop_assert!(corrected >= *single && corrected <= (single * p.len() as f64).min(1.0).max(*single) + 1e-12);
            }
        }
    }
}
