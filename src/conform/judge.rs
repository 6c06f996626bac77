//! Adapters for the vectors of judges.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Adapter, Check};
use crate::policies::judge::kayenta::{
    Class, Classified, Limits, Question, Scored, classify, mann_whitney, score,
};

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[
    kayenta("kayenta.mann_whitney", confidence_interval),
    kayenta("kayenta.classify_metric", classify_metric),
    kayenta("kayenta.weighted_sum_score", weighted_sum_score),
];

const fn kayenta(family: &'static str, run: fn(&Value, &Value) -> Check) -> Adapter {
    Adapter { schema: "simlab.vectors/1", family, algorithm: "judge.kayenta", run }
}

/// Why a case could not be read; reported as a failure, never as a pass.
type Read<T> = Result<T, String>;

fn checked(outcome: Read<Check>) -> Check {
    outcome.unwrap_or_else(|unreadable| Check::Failed(format!("case not understood: {unreadable}")))
}

fn read<T: DeserializeOwned>(value: &Value) -> Read<T> {
    serde_json::from_value(value.clone()).map_err(|error| format!("{value}: {error}"))
}

/// A name of upstream in our spelling: `meanRatio` is `mean-ratio`.
fn kebab<T: DeserializeOwned>(value: &Value) -> Read<T> {
    let mut name = String::new();
    for letter in value.as_str().ok_or_else(|| format!("{value} is not a name"))?.chars() {
        if letter.is_ascii_uppercase() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    read(&Value::String(name))
}

fn confidence_interval(file: &Value, case: &Value) -> Check {
    let run = || {
        let (input, out) = (&case["in"], &case["out"]);
        let tolerance: f64 = read(&file["tolerance"]["abs"])?;
        let (experiment, control): (Vec<f64>, Vec<f64>) =
            (read(&input["experiment"])?, read(&input["control"])?);
        let Some(shift) = mann_whitney(&experiment, &control, read(&input["confidence"])?) else {
            return Ok(Check::Failed("all observations are tied".to_owned()));
        };
        for (what, ours) in [("ci_low", shift.low), ("ci_high", shift.high), ("estimate", shift.estimate)] {
            let expected: f64 = read(&out[what])?;
            if (ours - expected).abs() > tolerance {
                return Ok(Check::Failed(format!("{what}: expected {expected}, got {ours}")));
            }
        }
        Ok(Check::Passed)
    };
    checked(run())
}

fn classify_metric(_file: &Value, case: &Value) -> Check {
    let run = || {
        let (input, out) = (&case["in"], &case["out"]);
        let limits = |value: &Value| {
            let [decrease, increase]: [f64; 2] = read(value)?;
            Read::Ok(Limits { decrease, increase })
        };
        let question = Question {
            tolerance: read(&input["tolerance"])?,
            confidence: read(&input["confidence"])?,
            direction: kebab(&input["direction"])?,
            nan_strategy: kebab(&input["nan_strategy"])?,
            critical: read(&input["critical"])?,
            must_have_data: false,
            effect_size: kebab(&input["effect_size_measure"])?,
            allowed: limits(&input["effect_size_thresholds"])?,
            critical_at: limits(&input["critical_thresholds"])?,
        };
        let (control, experiment): (Vec<f64>, Vec<f64>) =
            (read(&input["control"])?, read(&input["experiment"])?);
        let ours = classify(&control, &experiment, &question);
        let class: Class = read(&out["classification"])?;
        let expected = Classified { class, critical: read(&out["critical"])? };
        if ours == expected {
            return Ok(Check::Passed);
        }
        Ok(Check::Failed(format!("expected {expected:?}, got {ours:?}")))
    };
    checked(run())
}

fn weighted_sum_score(_file: &Value, case: &Value) -> Check {
    let run = || {
        let input = &case["in"];
        let weights: BTreeMap<String, f64> = read(&input["group_weights"])?;
        let mut results = Vec::new();
        for metric in input["metrics"].as_array().ok_or("metrics is not a list")? {
            results.push(Scored {
                class: read(&metric["classification"])?,
                critical: read(&metric["critical"])?,
                groups: read(&metric["groups"])?,
            });
        }
        let (ours, expected): (f64, f64) = (score(&results, &weights), read(&case["out"]["summary_score"])?);
        if ours == expected {
            return Ok(Check::Passed);
        }
        Ok(Check::Failed(format!("score: expected {expected}, got {ours}")))
    };
    checked(run())
}

#[cfg(test)]
mod tests {
    #[test]
    fn recorded_cases_pass() {
        crate::conform::rollout::tests::replay("rollout", super::ADAPTERS);
    }
}
