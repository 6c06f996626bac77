//! Which figure per pod is aimed at (upstream: `pkg/reconciler/autoscaling/resources/target.go`).

use schemars::JsonSchema;
use serde::Deserialize;

use crate::policies::autoscaler::kpa::KpaSettings;

/// What is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ScalingMetric {
    /// Requests in flight, as the mean over each second.
    #[default]
    Concurrency,
    /// Requests per second.
    Rps,
}

/// Figures per pod, in requests in flight or requests per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricTarget {
    /// What scaling aims at.
    pub target: f64,
    /// What a pod is taken to bear, of which the target is the wanted share.
    pub total: f64,
}

/// The least value a target can have.
pub const TARGET_MIN: f64 = 0.01;
/// Share of `total` that is aimed at with [`ScalingMetric::Rps`] if nothing is written.
const RPS_UTILIZATION: f64 = 0.7;

impl MetricTarget {
    /// What the settings come to. The metric's default gives way to a written `target`, which in turn is cut to the hard
    /// limit `container-concurrency`.
    pub fn resolve(settings: &KpaSettings) -> Self {
        let limit = match (settings.metric, settings.container_concurrency) {
            (ScalingMetric::Rps, _) | (_, 0) => None,
            (ScalingMetric::Concurrency, limit) => Some(f64::from(limit)),
        };
        let (default, utilization) = match settings.metric {
            ScalingMetric::Rps => (settings.requests_per_second_target_default, RPS_UTILIZATION),
            ScalingMetric::Concurrency => {
                let percentage = settings.container_concurrency_target_percentage;
                // Upstream still reads up to 1 as a fraction.
                let fraction = if percentage > 1.0 { percentage / 100.0 } else { percentage };
                (limit.unwrap_or(settings.container_concurrency_target_default), fraction)
            }
        };
        let total = match (settings.target, limit) {
            (None, _) => default,
            (Some(target), None) => target,
            (Some(target), Some(limit)) => target.min(limit),
        };
        let utilization =
            settings.target_utilization_percentage.map_or(utilization, |percentage| percentage / 100.0);
        Self { target: (total * utilization).max(TARGET_MIN), total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hard_limit_cuts_a_concurrency_target_only() {
        let settings =
            KpaSettings { target: Some(150.0), container_concurrency: 10, ..KpaSettings::default() };
        assert_eq!(MetricTarget::resolve(&settings), MetricTarget { target: 7.0, total: 10.0 });
        let rps = KpaSettings { metric: ScalingMetric::Rps, ..settings };
        assert_eq!(MetricTarget::resolve(&rps), MetricTarget { target: 105.0, total: 150.0 });
    }

    #[test]
    fn the_default_percentage_may_be_a_fraction() {
        for (percentage, target) in [(50.0, 50.0), (0.5, 50.0), (1.0, 100.0), (100.0, 100.0)] {
            let settings =
                KpaSettings { container_concurrency_target_percentage: percentage, ..KpaSettings::default() };
            assert_eq!(MetricTarget::resolve(&settings).target, target, "{percentage}");
        }
    }
}
