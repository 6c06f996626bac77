//! Adapters for the scheduler vectors.

use serde_json::Value;

use super::{Adapter, Check, SCHEMA_AUTOSCALER, field, integer, list, same, verdict};
use crate::policies::scheduler::kube::{Amounts, balanced_allocation, least_allocated, most_allocated};

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[Adapter {
    schema: SCHEMA_AUTOSCALER,
    family: "scheduler_score",
    algorithm: "scheduler.kube",
    run: |_file, case| verdict(scheduler_score(case)),
}];

fn amount(value: &Value) -> Result<i64, String> {
    integer(value)?.try_into().map_err(|_| format!("`{value}` is too large"))
}

/// CPU and memory, or their weights.
fn amounts(case: &Value, key: &str) -> Result<Amounts, String> {
    match list(field(case, key)?)? {
        [cpu, memory] => Ok([amount(cpu)?, amount(memory)?]),
        _ => Err(format!("`{key}` is not a pair")),
    }
}

fn scheduler_score(case: &Value) -> Result<Check, String> {
    let (requested, allocatable) = (amounts(case, "requested")?, amounts(case, "allocatable")?);
    let weights = amounts(case, "weights")?;
    let expected = field(case, "expected")?;
    for (name, score) in [
        ("least_allocated", least_allocated(requested, allocatable, weights)),
        ("most_allocated", most_allocated(requested, allocatable, weights)),
        ("balanced", balanced_allocation(requested, allocatable)),
    ] {
        same(name, &amount(field(expected, name)?)?, &score)?;
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
