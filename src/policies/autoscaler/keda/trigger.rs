//! Triggers: where KEDA looks, and what its HPA aims at.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::policies::autoscaler::Resource;
use crate::policies::autoscaler::hpa::metric::{Amount, ExternalTarget, MetricSettings, ResourceTarget};

/// An event source, with the names of upstream's `metadata` where most of its scalers agree.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Trigger {
    /// `source.NAME.METRIC`, `service.NAME.METRIC`, or `cpu` of the instances.
    pub metric: String,
    /// What the HPA aims at.
    pub threshold: Amount,
    /// The trigger is active above this value.
    #[serde(default)]
    pub activation_threshold: f64,
    /// How `threshold` is meant: per replica where nothing is written, for `cpu` in percent of the requests.
    pub metric_type: Option<MetricType>,
}

/// How a threshold is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MetricType {
    /// Per replica.
    AverageValue,
    /// In all.
    Value,
    /// Percent of the requests (`cpu` and `memory` only).
    Utilization,
}

impl Trigger {
    /// The resource, for one that only the HPA follows.
    pub(super) fn resource(&self) -> Option<Resource> {
        match self.metric.as_str() {
            "cpu" => Some(Resource::Cpu),
            "memory" => Some(Resource::Memory),
            _ => None,
        }
    }

    /// What the admission webhook and the scalers refuse.
    pub(super) fn check(&self) -> Result<(), String> {
        let name = &self.metric;
        if !self.activation_threshold.is_finite() {
            return Err(format!("`activation-threshold` of `{name}` is not a number"));
        }
        match (self.resource(), self.metric_type) {
            (Some(_), Some(MetricType::Value)) => {
                Err(format!("the metric type of `{name}` is utilization or average-value"))
            }
            (None, Some(MetricType::Utilization)) => {
                Err(format!("the metric type of `{name}` is average-value or value"))
            }
            (Some(_), None | Some(MetricType::Utilization)) if self.percent().is_none() => {
                Err(format!("the `threshold` of `{name}` is a whole number of percent"))
            }
            _ => Ok(()),
        }
    }

    /// The threshold in percent.
    fn percent(&self) -> Option<NonZeroU32> {
        let whole = self.threshold.milli % 1000 == 0;
        NonZeroU32::new(u32::try_from(self.threshold.milli / 1000).ok()?).filter(|_| whole)
    }

    /// What the HPA follows.
    pub(super) fn followed(&self) -> MetricSettings {
        let per_replica = Some(self.threshold);
        match (self.resource(), self.metric_type) {
            (Some(name), Some(MetricType::AverageValue)) => MetricSettings::Resource(ResourceTarget {
                name,
                utilization: None,
                average_value: per_replica,
            }),
            (Some(name), _) => MetricSettings::Resource(ResourceTarget {
                name,
                utilization: self.percent(),
                average_value: None,
            }),
            (None, Some(MetricType::Value)) => MetricSettings::External(ExternalTarget {
                metric: self.metric.clone(),
                value: Some(self.threshold),
                average_value: None,
            }),
            (None, _) => MetricSettings::External(ExternalTarget {
                metric: self.metric.clone(),
                value: None,
                average_value: per_replica,
            }),
        }
    }
}

/// What a trigger says at a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// There is something to do.
    Active,
    /// There is nothing to do.
    Inactive,
    /// It could not be asked.
    Failed,
}

impl Activity {
    /// Of a trigger that reads `value`, or cannot be read.
    pub fn of(value: Option<f64>, activation_threshold: f64) -> Self {
        match value {
            None => Self::Failed,
            Some(value) if value > activation_threshold => Self::Active,
            Some(_) => Self::Inactive,
        }
    }
}
