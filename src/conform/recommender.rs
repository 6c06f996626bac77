//! Adapters for the recommender vectors.

use serde_json::Value;

use super::{Adapter, Check, SCHEMA_AUTOSCALER, close, field, integer, list, number, text, verdict};
use crate::policies::recommender::vpa::histogram::{DecayingHistogram, Options};
use crate::time::{Duration, Time};

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[Adapter {
    schema: SCHEMA_AUTOSCALER,
    family: "vpa_histogram",
    algorithm: "recommender.vpa",
    run: |_file, case| verdict(vpa_histogram(case)),
}];

/// How far two bucket ends may differ: the vectors' own rule, for the last digits of logarithms and powers.
const SAME_BUCKET: f64 = 1e-6;

fn vpa_histogram(case: &Value) -> Result<Check, String> {
    let options = match text(field(case, "resource")?)? {
        "cpu" => Options::CPU,
        "memory" => Options::MEMORY,
        other => return Err(format!("`{other}` is not a resource of the histogram")),
    };
    let half_life = Duration::from_secs(integer(field(case, "half_life_s")?)?);
    let base = integer(field(case, "base_unix_s")?)?;
    let mut histogram = DecayingHistogram::new(options, half_life);
    for sample in list(field(case, "samples")?)? {
        let [t, value, weight] = list(sample)? else { return Err(format!("`{sample}` is not a sample")) };
        histogram.add_sample(number(value)?, number(weight)?, Time::from_secs(base + integer(t)?));
    }
    let expected = field(case, "expected_percentiles")?.as_object().ok_or("no percentiles")?;
    if expected.is_empty() {
        return Err("no percentiles".to_owned());
    }
    for (name, expected) in expected {
        let percentile = name.parse().map_err(|_| format!("`{name}` is not a percentile"))?;
        let what = format!("percentile {name}");
        close(&what, number(expected)?, histogram.percentile(percentile), SAME_BUCKET)?;
    }
    Ok(Check::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_cases_pass() {
        crate::conform::rollout::tests::replay("autoscaler", ADAPTERS);
    }
}
