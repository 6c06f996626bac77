//! Queueing theory, reproduced by the scenario engine: a quick pass over the table (`simlab conform
//! tests/queueing_reference.csv` is the thorough one), and whether the scores are distributed as they claim.

use std::fs;
use std::path::Path;

use simlab::conform::queueing::{self, Effort, Reference, Verdict};
use simlab::stats::interval::{normal_quantile, t_two_sided};

/// Rows whose scenario needs tens of millions of requests before anything can be said.
const SLOW: &[&str] = &[
    "Q008", "Q009", "Q019", "Q021", "Q022", "Q024", "Q025", "Q027", "Q042", "Q043", "Q050", "Q052", "Q058",
    "Q086", "Q087", "Q099", "Q104", "Q115", "Q116", "Q119", "Q121", "Q157", "Q158", "Q159",
];

fn table() -> Vec<Reference> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/queueing_reference.csv");
    queueing::read(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn most_rows_can_be_expressed_and_the_others_say_why_not() {
    let rows = table();
    let declined: Vec<_> =
        rows.iter().filter_map(|row| queueing::declined(row).map(|why| (&row.id, why))).collect();
    for (id, why) in &declined {
        assert!(matches!(why, Verdict::Skipped(why) if !why.is_empty()), "{id}: {why:?}");
    }
    let run = rows.len() - declined.len();
    assert!(rows.len() == 101 && run >= 85, "only {run} of {} rows run: {declined:?}", rows.len());
}

/// The criterion of the whole table but for the width of the intervals, which may reach 10 % of the value.
#[test]
fn the_quick_rows_agree_with_theory() {
    let quick = |row: &Reference| !SLOW.contains(&row.id.as_str()) && queueing::declined(row).is_none();
    let rows: Vec<Reference> = table().into_iter().filter(quick).collect();
    assert!(rows.len() >= 60, "{}", rows.len());
    let lines = queueing::replay(&rows, &Effort { coarseness: 10.0, ..Effort::default() });
    let failed: Vec<_> = lines.iter().filter(|line| line.verdict != Verdict::Passed).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Scores of 20 seeds are standard normal once Student's law is taken off. Each of the two checks rejects a right engine
/// with probability 0.1 % (Kolmogorov and Smirnov) and 0.2 % (sum of squares), for each of the two rows: 0.6 % in all.
#[test]
fn scores_are_standard_normal() {
    /// Critical distance for 20 values at 0.1 %.
    const KOLMOGOROV: f64 = 0.424;
    /// 0.1 % and 99.9 % quantiles of chi-square with 20 degrees of freedom.
    const CHI_SQUARE: (f64, f64) = (5.921, 45.315);
    let table = table();
    // A mean, and a quantile.
    for id in ["Q014", "Q002"] {
        let row = table.iter().find(|row| row.id == id).unwrap();
        let mut uniform: Vec<f64> = (1..=20)
            .map(|seed| {
                // So coarse that the first look is the last: every seed has as many replications.
                let lines = queueing::replay(std::slice::from_ref(row), &Effort { coarseness: 100.0, seed });
                let measured = lines[0].measured.unwrap();
                let tail = 0.5 * t_two_sided(measured.z, measured.freedom);
                if measured.z > 0.0 { 1.0 - tail } else { tail }
            })
            .collect();
        uniform.sort_by(f64::total_cmp);
        let distance = uniform
            .iter()
            .enumerate()
            .map(|(rank, u)| (u - rank as f64 / 20.0).max((rank + 1) as f64 / 20.0 - u))
            .fold(0.0, f64::max);
        assert!(distance < KOLMOGOROV, "{id}: {distance} for {uniform:?}");
        let squares: f64 = uniform.iter().map(|u| normal_quantile(*u).powi(2)).sum();
        assert!(CHI_SQUARE.0 < squares && squares < CHI_SQUARE.1, "{id}: {squares} for {uniform:?}");
    }
}
