//! What an HPA follows (upstream: `MetricSpec` of `autoscaling/v2`, `computeReplicasForMetric`).

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer};

use super::calculator::{Calculation, Measured, MetricError, ReplicaCalculator};
use crate::policies::autoscaler::{Explain, Fleet, Query, Reading, Resource};
use crate::time::Time;
use crate::units::quantity::Quantity;

/// An amount as Kubernetes writes it: `"500m"`, `"0.5"`, `"2k"`, `"512Mi"`, `"1e3"`, or a bare number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount {
    /// Thousandths, at least 1.
    pub milli: i64,
}

impl FromStr for Amount {
    /// The message, and the hint on a line of its own.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Quantity::parse(text).map_err(|error| error.to_string())?.milli() {
            milli @ 1.. => Ok(Self { milli }),
            _ => Err("an amount must be greater than zero".to_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = Amount;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an amount, such as \"500m\", 0.5, \"2k\" or \"512Mi\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Amount, E> {
                text.parse().map_err(E::custom)
            }

            // The shortest text that means a number is what was written.
            fn visit_f64<E: serde::de::Error>(self, amount: f64) -> Result<Amount, E> {
                self.visit_str(&amount.to_string())
            }

            fn visit_u64<E: serde::de::Error>(self, amount: u64) -> Result<Amount, E> {
                self.visit_str(&amount.to_string())
            }

            fn visit_i64<E: serde::de::Error>(self, amount: i64) -> Result<Amount, E> {
                self.visit_str(&amount.to_string())
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "an amount, such as \"500m\", 0.5, \"2k\" or \"512Mi\"",
            "oneOf": [
                { "type": "number", "exclusiveMinimum": 0 },
                { "type": "string", "pattern": r"^([0-9.]+([eE][+-]?\d+)?|[0-9.]+([numkMGTPE]|[KMGTPE]i))$|^\$.+$" }
            ],
        })
    }
}

/// One metric, as written in a scenario: `{ resource = { name = "cpu", utilization = 60 } }`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum MetricSettings {
    /// A resource of the pods, all containers together.
    Resource(ResourceTarget),
    /// A resource of one container of the pods.
    ContainerResource(ContainerTarget),
    /// Any other metric of the pods.
    Pods(PodsTarget),
    /// A metric of one other thing, such as the rate at a source.
    Object(ObjectTarget),
    /// A metric from outside of the cluster.
    External(ExternalTarget),
}

/// `utilization`, in percent of the requests, or `average-value` for each pod.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, remote = "Self")]
pub struct ResourceTarget {
    /// Which resource.
    pub name: Resource,
    /// Percent of the requests.
    pub utilization: Option<NonZeroU32>,
    /// For each pod.
    pub average_value: Option<Amount>,
}

/// The same for one container.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, remote = "Self")]
pub struct ContainerTarget {
    /// Its name.
    pub container: String,
    /// Which resource.
    pub name: Resource,
    /// Percent of the container's requests.
    pub utilization: Option<NonZeroU32>,
    /// For each pod's container.
    pub average_value: Option<Amount>,
}

/// A mean over pods.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PodsTarget {
    /// Name of the metric.
    pub metric: String,
    /// For each pod.
    pub average_value: Amount,
}

/// A whole, or a share of it for each replica.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, remote = "Self")]
pub struct ObjectTarget {
    /// The thing: `source.NAME` or `service.NAME`.
    pub of: String,
    /// Name of the metric.
    pub metric: String,
    /// Of the whole.
    pub value: Option<Amount>,
    /// For each replica.
    pub average_value: Option<Amount>,
}

/// The same for something outside.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, remote = "Self")]
pub struct ExternalTarget {
    /// Name of the metric.
    pub metric: String,
    /// Of the whole.
    pub value: Option<Amount>,
    /// For each replica.
    pub average_value: Option<Amount>,
}

/// Reads a target that has one of two forms.
macro_rules! either {
    ($Target:ident, $one:ident, $one_name:literal) => {
        impl<'de> Deserialize<'de> for $Target {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let target = Self::deserialize(deserializer)?;
                if target.$one.is_some() == target.average_value.is_some() {
                    return Err(D::Error::custom(concat!(
                        "exactly one of `",
                        $one_name,
                        "` and `average-value` is needed"
                    )));
                }
                Ok(target)
            }
        }
    };
}

either!(ResourceTarget, utilization, "utilization");
either!(ContainerTarget, utilization, "utilization");
either!(ObjectTarget, value, "value");
either!(ExternalTarget, value, "value");

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// Percent of the requests.
    Utilization(u32),
    /// For each pod, in thousandths.
    AverageValue(i64),
    /// Of the whole, in thousandths.
    Value(i64),
}

/// A metric that an HPA follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// What is read.
    pub query: Query,
    /// For people: `cpu`, `memory of app`, `queue-length`.
    pub name: String,
    target: Target,
}

impl MetricSettings {
    /// CPU of the pods in percent of their requests.
    pub const fn cpu_utilization(percent: NonZeroU32) -> Self {
        Self::Resource(ResourceTarget {
            name: Resource::Cpu,
            utilization: Some(percent),
            average_value: None,
        })
    }

    /// CPU for each pod.
    pub const fn cpu_average_value(value: Amount) -> Self {
        Self::Resource(ResourceTarget { name: Resource::Cpu, utilization: None, average_value: Some(value) })
    }

    /// As it is followed.
    pub fn metric(&self) -> Metric {
        let average = |value: &Option<Amount>| Target::AverageValue(value.map_or(1, |value| value.milli));
        let by_request = |utilization: &Option<NonZeroU32>, value| match utilization {
            Some(percent) => Target::Utilization(percent.get()),
            None => average(value),
        };
        let of_whole = |whole: &Option<Amount>, value| match whole {
            Some(whole) => Target::Value(whole.milli),
            None => average(value),
        };
        match self {
            Self::Resource(ResourceTarget { name, utilization, average_value }) => Metric {
                query: Query::Resource(*name),
                name: name.name().to_owned(),
                target: by_request(utilization, average_value),
            },
            Self::ContainerResource(ContainerTarget { container, name, utilization, average_value }) => {
                Metric {
                    query: Query::ContainerResource { container: container.clone(), resource: *name },
                    name: format!("{} of {container}", name.name()),
                    target: by_request(utilization, average_value),
                }
            }
            Self::Pods(PodsTarget { metric, average_value }) => Metric {
                query: Query::Pods(metric.clone()),
                name: metric.clone(),
                target: Target::AverageValue(average_value.milli),
            },
            Self::Object(ObjectTarget { of, metric, value, average_value }) => Metric {
                query: Query::Object { object: of.clone(), metric: metric.clone() },
                name: format!("{metric} of {of}"),
                target: of_whole(value, average_value),
            },
            Self::External(ExternalTarget { metric, value, average_value }) => Metric {
                query: Query::External(metric.clone()),
                name: metric.clone(),
                target: of_whole(value, average_value),
            },
        }
    }

    /// Whether it has a value while there is no pod.
    pub(super) const fn is_seen_from_zero(&self) -> bool {
        matches!(self, Self::Object(_) | Self::External(_))
    }

    /// Whether it counts requests of some kind against percent, more than `i32::MAX` of which upstream cannot hold.
    pub(super) fn utilization(&self) -> Option<NonZeroU32> {
        match self {
            Self::Resource(target) => target.utilization,
            Self::ContainerResource(target) => target.utilization,
            _ => None,
        }
    }
}

impl Resource {
    /// As Kubernetes writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }
}

impl Metric {
    /// Reason of `ScalingActive=False` when this metric fails.
    pub const fn failure(&self) -> &'static str {
        match self.query {
            Query::Resource(_) => "FailedGetResourceMetric",
            Query::ContainerResource { .. } => "FailedGetContainerResourceMetric",
            Query::Pods(_) => "FailedGetPodsMetric",
            Query::Object { .. } => "FailedGetObjectMetric",
            Query::External(_) => "FailedGetExternalMetric",
        }
    }

    /// The proposal of this metric alone.
    pub fn propose(
        &self,
        calculator: &ReplicaCalculator,
        now: Time,
        fleet: &Fleet<'_>,
        reading: &Reading,
        explain: &mut dyn Explain,
    ) -> Result<Calculation, MetricError> {
        let measured = Measured {
            pods: fleet.pods,
            readings: reading.pods(),
            is_cpu: matches!(
                self.query,
                Query::Resource(Resource::Cpu) | Query::ContainerResource { resource: Resource::Cpu, .. }
            ),
            unlisted: &[],
        };
        let series = || reading.series().ok_or(MetricError::NoMetrics);
        match (self.target, &self.query) {
            (Target::Utilization(target), _) => {
                explain.step("target-utilization", f64::from(target));
                calculator.resource_replicas(now, fleet.current, target, &measured)
            }
            (Target::Value(target), _) => {
                explain.step("target-value", target as f64 / 1e3);
                calculator.value_replicas(fleet.current, target, series()?, fleet.pods)
            }
            (Target::AverageValue(target), Query::Object { .. } | Query::External(_)) => {
                explain.step("target-average-value", target as f64 / 1e3);
                Ok(calculator.share_replicas(fleet.existing(), target, series()?))
            }
            (Target::AverageValue(target), _) => {
                explain.step("target-average-value", target as f64 / 1e3);
                calculator.plain_replicas(now, fleet.current, target, &measured)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_amounts() {
        for (text, milli) in [
            ("500m", 500),
            ("0.5", 500),
            ("0.29", 290),
            ("2", 2000),
            ("0.0001", 1),
            ("2k", 2_000_000),
            ("512Mi", 536_870_912_000),
            ("1e3", 1_000_000),
            ("1P", 1_000_000_000_000_000_000),
            ("100u", 1),
        ] {
            assert_eq!(text.parse::<Amount>().map(|quantity| quantity.milli), Ok(milli), "{text}");
        }
        for text in ["0", "m", "-1", "1 core", "100x", "1e", "1e400", "", "1_000", "1e3k"] {
            assert!(text.parse::<Amount>().is_err(), "{text}");
        }
        let read =
            |text: &str| toml::from_str::<ObjectTarget>(&format!("of = 'x'\nmetric = 'y'\nvalue = {text}"));
        for (text, milli) in [("0.29", 290), ("1e-3", 1), ("7", 7000), ("'7'", 7000)] {
            assert_eq!(read(text).unwrap().value, Some(Amount { milli }), "{text}");
        }
        for text in ["0", "-0.5", "nan", "inf"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
