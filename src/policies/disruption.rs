//! How many instances may be taken away on purpose: the arithmetic of a `PodDisruptionBudget`.
//!
//! Origin: kubernetes/kubernetes, `pkg/controller/disruption/disruption.go` (`getExpectedPodCount`, `updatePdbStatus`).

use schemars::JsonSchema;
use serde::Deserialize;

use crate::policies::rollout::rolling::IntOrPercent;

/// The bound that is kept, as written in a scenario: `disruption-budget = { min-available = "50%" }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DisruptionBudget {
    /// So many stay ready; a percentage of the wanted replicas is rounded up.
    MinAvailable(IntOrPercent),
    /// So many may be missing; a percentage of the wanted replicas is rounded up.
    MaxUnavailable(IntOrPercent),
}

impl DisruptionBudget {
    /// Instances that may go now, of `wanted` replicas of which `ready` are ready.
    pub fn allowed(self, wanted: u32, ready: u32) -> u32 {
        let wanted_ready = match self {
            Self::MinAvailable(least) => least.scaled(wanted, true),
            Self::MaxUnavailable(most) => (i64::from(wanted) - most.scaled(wanted, true)).max(0),
        };
        if wanted == 0 { 0 } else { u32::try_from(i64::from(ready) - wanted_ready).unwrap_or(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_rounded_up() {
        use IntOrPercent::{Int, Percent};

        for (budget, wanted, ready, allowed) in [
            (DisruptionBudget::MinAvailable(Int(2)), 3, 3, 1),
            (DisruptionBudget::MinAvailable(Int(2)), 3, 1, 0),
            // Half of seven is four.
            (DisruptionBudget::MinAvailable(Percent(50)), 7, 7, 3),
            // Three tenths of seven are three.
            (DisruptionBudget::MaxUnavailable(Percent(30)), 7, 7, 3),
            (DisruptionBudget::MaxUnavailable(Int(1)), 5, 4, 0),
            (DisruptionBudget::MaxUnavailable(Int(9)), 5, 4, 4),
            (DisruptionBudget::MaxUnavailable(Int(1)), 0, 0, 0),
        ] {
            assert_eq!(budget.allowed(wanted, ready), allowed, "{budget:?} of {wanted}, {ready} ready");
        }
    }
}
