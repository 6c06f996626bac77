//! Adapters for the vectors of AWS scaling policies, which come from documentation: the services are closed.

use serde_json::Value;

use super::{Adapter, Check, SCHEMA_AUTOSCALER, field, integer, list, number, same, text, verdict};
use crate::policies::autoscaler::aws_step::{StepAdjustment, StepPolicy};
use crate::policies::autoscaler::cloudwatch::{AdjustmentType, ComparisonOperator, desired_capacity};

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[Adapter {
    schema: SCHEMA_AUTOSCALER,
    family: "aws_step_scaling",
    algorithm: "autoscaler.aws-step",
    run: |file, case| verdict(step_scaling(file, case)),
}];

/// A number, or `None` for null.
fn bound(value: &Value) -> Result<Option<f64>, String> {
    if value.is_null() { Ok(None) } else { number(value).map(Some) }
}

fn signed(value: &Value) -> Result<i64, String> {
    value.as_i64().ok_or_else(|| format!("`{value}` is not a whole number"))
}

fn step(row: &Value) -> Result<StepAdjustment, String> {
    let [lower, upper, adjustment] = list(row)? else { return Err(format!("`{row}` is not a step")) };
    Ok(StepAdjustment {
        metric_interval_lower_bound: bound(lower)?,
        metric_interval_upper_bound: bound(upper)?,
        scaling_adjustment: signed(adjustment)?,
    })
}

fn step_scaling(file: &Value, case: &Value) -> Result<Check, String> {
    let adjustment_type = match text(field(case, "adjustment")?)? {
        "ChangeInCapacity" => AdjustmentType::ChangeInCapacity,
        "ExactCapacity" => AdjustmentType::ExactCapacity,
        "PercentChangeInCapacity" => AdjustmentType::PercentChangeInCapacity,
        other => return Err(format!("`{other}` is not a type of adjustment")),
    };
    let min_adjustment_magnitude = case.get("min_adjustment_magnitude").map(integer).transpose()?;
    let policy = StepPolicy {
        threshold: number(field(case, "threshold")?)?,
        comparison_operator: ComparisonOperator::default(),
        evaluation_periods: 1,
        datapoints_to_alarm: None,
        adjustment_type,
        min_adjustment_magnitude: min_adjustment_magnitude.map(|least| least as u32),
        step_adjustments: list(field(case, "steps")?)?.iter().map(step).collect::<Result<_, _>>()?,
    };
    let (current, desired) = (signed(field(case, "current")?)?, signed(field(case, "desired")?)?);
    let limit = |key: &str| signed(case.get(key).unwrap_or_else(|| &file["defaults"][key]));
    let delta = policy.delta(number(field(case, "metric")?)?, current);
    let expected = field(case, "expected")?;
    if let Some(expected) = expected.get("delta") {
        same("delta", &signed(expected)?, &delta.unwrap_or(0))?;
    }
    let ours = desired_capacity(desired, current, delta.unwrap_or(0)).clamp(limit("min")?, limit("max")?);
    same("desired", &signed(field(expected, "desired")?)?, &ours)?;
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
