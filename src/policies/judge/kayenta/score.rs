//! The score of a canary (`WeightedSumScorer.scala`).

use std::collections::BTreeMap;

use super::classify::Class;

/// One classified metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// What it is.
    pub class: Class,
    /// Whether it alone decides the score.
    pub critical: bool,
    /// Groups it belongs to.
    pub groups: Vec<String>,
}

/// 0 to 100, with two decimals: 0 if a critical metric does not pass or at least half of the metrics have no data, else the
/// weighted sum over the groups of the percentage of metrics that pass.
pub fn score(results: &[Scored], group_weights: &BTreeMap<String, f64>) -> f64 {
    let no_data = |result: &&Scored| matches!(result.class, Class::Nodata | Class::Error);
    let missing = results.iter().filter(no_data).count();
    if results.iter().any(|result| result.critical && result.class != Class::Pass)
        || 2 * missing >= results.len()
    {
        return 0.0;
    }
    let mut groups: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for result in results {
        for group in &result.groups {
            let (pass, total) = groups.entry(group).or_default();
            match result.class {
                Class::Pass => (*pass, *total) = (*pass + 1, *total + 1),
                Class::High | Class::Low | Class::NodataFailMetric => *total += 1,
                Class::Nodata | Class::Error => {}
            }
        }
    }
    let given: f64 = group_weights.values().sum();
    let without = groups.keys().filter(|&&group| !group_weights.contains_key(group)).count();
    let calculated = if without > 0 { (100.0 - given) / without as f64 } else { 0.0 };
    let mut sum = 0.0;
    for (&group, &(pass, total)) in &groups {
        // A group without data does not hold anything against the version.
        let score = if total == 0 { 100.0 } else { f64::from(pass) / f64::from(total) * 100.0 };
        sum += score * (group_weights.get(group).copied().unwrap_or(calculated) / 100.0);
    }
    (sum * 100.0).round() / 100.0
}
