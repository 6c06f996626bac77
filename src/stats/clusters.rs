//! Does a metric fall into two clusters, so that its mean describes no run at all?
//!
//! Metastable systems either shrug a fault off or collapse: 99.9 % availability in three runs and 40 % in two. "75 % on
//! average" happens in none of them. Such outcomes are reported as the probability of the bad cluster.
//!
//! The split is the one with the smallest spread inside the two parts (exact in one dimension). It counts as two clusters
//! under either of two rules, both meant to err on the side of one:
//!
//! 1. *The figures show it*: the split explains more of the variance than `critical` allows, both parts hold at least two values,
//!    and the gap is wide enough for anybody to notice.
//!    Critical values are such that samples from a normal, a uniform or an exponential law pass in about 1 of 1000 cases or fewer
//!    (found by simulation). With 5 values that takes 99.9 %, with 20 still 94 %.
//! 2. *The matter shows it*: for metrics where a jump of a known size is an event by itself (30 percentage points of
//!    availability), a gap of that size which is also wider than either part makes two clusters, from three values on. One run in
//!    five that collapses is not an outlier to be averaged away.

/// Two clusters, by increasing value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clusters {
    /// Values in the lower cluster, and in the upper one.
    pub counts: (u32, u32),
    /// Their means.
    pub centres: (f64, f64),
    /// Middle of the gap: values below belong to the lower cluster.
    pub split: f64,
}

/// The two clusters of `values`, if there are two. `noticeable` is the smallest gap that rule 1 looks at; `material` is the
/// size of a jump that is an event by itself, for rule 2. Values that are not finite make one cluster.
pub fn two_clusters(values: &[f64], noticeable: f64, material: Option<f64>) -> Option<Clusters> {
    if values.len() < 3 || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let deviation = |part: &[f64]| {
        let mean = part.iter().sum::<f64>() / part.len() as f64;
        part.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>()
    };
    let total = deviation(&sorted);
    if total == 0.0 {
        return None;
    }
    let inside = |k: usize| deviation(&sorted[..k]) + deviation(&sorted[k..]);
    let k = (1..n).min_by(|&a, &b| inside(a).total_cmp(&inside(b)))?;
    let (lower, upper) = sorted.split_at(k);
    let gap = upper[0] - lower[k - 1];
    let widest = (lower[k - 1] - lower[0]).max(upper[n - k - 1] - upper[0]);
    let by_figures = k >= 2 && n - k >= 2 && gap >= noticeable && 1.0 - inside(k) / total > critical(n);
    let by_matter = material.is_some_and(|jump| gap >= jump && gap > widest);
    (by_figures || by_matter).then(|| Clusters {
        counts: (k as u32, (n - k) as u32),
        centres: (lower.iter().sum::<f64>() / k as f64, upper.iter().sum::<f64>() / (n - k) as f64),
        split: lower[k - 1] + 0.5 * gap,
    })
}

/// Share of the variance that the best split of `n` values must explain.
fn critical(n: usize) -> f64 {
    const TABLE: &[(usize, f64)] =
        &[(5, 0.999), (8, 0.99), (10, 0.985), (15, 0.965), (20, 0.94), (30, 0.905), (60, 0.87)];
    let after = TABLE.partition_point(|(size, _)| *size <= n);
    match (after.checked_sub(1).map(|before| TABLE[before]), TABLE.get(after)) {
        // Four values or fewer never show it by themselves.
        (None, _) => f64::INFINITY,
        (Some((_, last)), None) => last,
        (Some((size, share)), Some((next_size, next_share))) => {
            share + (next_share - share) * (n - size) as f64 / (next_size - size) as f64
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::Xoshiro256PlusPlus;
    use rand_distr::Distribution;

    use super::*;

    #[test]
    fn collapses_are_seen() {
        let found = two_clusters(&[0.999, 0.41, 0.998, 0.52, 0.999], 0.0, Some(0.3)).unwrap();
        assert_eq!(found.counts, (2, 3));
        assert!((found.centres.0 - 0.465).abs() < 1e-12 && (found.split - 0.759).abs() < 1e-12);
        // One of five, by the matter alone.
        assert_eq!(two_clusters(&[0.999, 0.997, 0.998, 0.2, 0.999], 0.0, Some(0.3)).unwrap().counts, (1, 4));
        assert_eq!(two_clusters(&[0.999, 0.997, 0.998, 0.2, 0.999], 0.0, None), None);
        // By the figures alone.
        let tight = [10.0, 10.1, 9.9, 50.0, 50.2, 49.9];
        assert_eq!(two_clusters(&tight, 0.0, None).unwrap().counts, (3, 3));
        assert_eq!(two_clusters(&tight, 50.0, None), None);
    }

    #[test]
    fn one_cluster_stays_one() {
        assert_eq!(two_clusters(&[0.1, 0.9], 0.0, Some(0.3)), None);
        assert_eq!(two_clusters(&[0.5; 8], 0.0, Some(0.3)), None);
        assert_eq!(two_clusters(&[0.99, 0.97, 0.985, 0.96, 0.9], 0.0, Some(0.3)), None);
        assert_eq!(two_clusters(&[0.2, 0.5, 0.9, 0.6, 0.3], 0.0, Some(0.3)), None);
        assert_eq!(two_clusters(&[1.0, f64::NAN, 2.0], 0.0, Some(0.3)), None);
    }

    #[test]
    fn false_alarms_are_rare() {
        type Draw = fn(&mut Xoshiro256PlusPlus) -> f64;
        let laws: [(&str, Draw); 3] = [
            ("normal", |rng| rand_distr::StandardNormal.sample(rng)),
            ("uniform", |rng| rand_distr::StandardUniform.sample(rng)),
            ("exponential", |rng| rand_distr::Exp1.sample(rng)),
        ];
        for (name, law) in laws {
            for n in [4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 45, 60, 100] {
                let mut rng = Xoshiro256PlusPlus::seed_from_u64(n);
                let trials = 4000;
                let alarms = (0..trials)
                    .filter(|_| {
                        two_clusters(&(0..n).map(|_| law(&mut rng)).collect::<Vec<f64>>(), 0.0, None)
                            .is_some()
                    })
                    .count();
                // Up to 0.1 %, and what chance adds to 4 of 4000 (mean + 3.5 standard deviations).
                assert!(alarms <= 11, "{alarms} false alarms in {trials} samples of {n} from a {name} law");
            }
        }
    }
}
