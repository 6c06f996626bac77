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

/// An amount as Kubernetes writes it: `"500m"`, `"0.5"`, `"2k"`, `"512Mi"`, `"1e3"`, or a bare number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    /// Thousandths, at least 1.
    pub milli: i64,
}

impl Quantity {
    /// Fractions of a thousandth are rounded up, as upstream does.
    fn from_milli(milli: f64) -> Result<Self, String> {
        if !(milli > 0.0 && milli <= 9e18) {
            return Err("an amount must be greater than zero, and at most 9P".to_owned());
        }
        // Without the small allowance 0.29 would be 291m, because 0.29 * 1000 is a little more than 290.
        let slack = if milli < 1e9 { 1e-6 } else { 0.0 };
        Ok(Self { milli: (milli - slack).ceil().max(1.0) as i64 })
    }
}

/// Suffixes, longest first.
const SUFFIXES: [(&str, f64); 15] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
];

impl FromStr for Quantity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let suffix = SUFFIXES.iter().find_map(|&(suffix, scale)| Some((text.strip_suffix(suffix)?, scale)));
        let (digits, scale) = suffix.unwrap_or((text, 1.0));
        let is_plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
            Some((mantissa, exponent)) if scale == 1.0 => (mantissa, Some(exponent)),
            _ => (digits, None),
        };
        let number = if is_plain(mantissa) && mantissa.bytes().any(|byte| byte.is_ascii_digit()) {
            match exponent {
                None => mantissa.parse::<f64>().ok(),
                Some(exponent) => exponent
                    .parse::<i32>()
                    .ok()
                    .filter(|exponent| exponent.abs() <= 18)
                    .and_then(|exponent| format!("{mantissa}e{exponent}").parse().ok()),
            }
        } else {
            None
        };
        let number = number.ok_or_else(|| {
            format!("`{text}` is not an amount such as \"500m\", \"0.5\", \"2k\" or \"512Mi\"")
        })?;
        // Scaled once, so that a thousandth of a thousand is one.
        let milli = if scale == 1e-3 { number } else { number * (scale * 1e3) };
        Self::from_milli(milli)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = Quantity;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an amount, such as \"500m\", 0.5, \"2k\" or \"512Mi\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Quantity, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_f64<E: serde::de::Error>(self, amount: f64) -> Result<Quantity, E> {
                Quantity::from_milli(amount * 1000.0).map_err(E::custom)
            }

            fn visit_u64<E: serde::de::Error>(self, amount: u64) -> Result<Quantity, E> {
                self.visit_f64(amount as f64)
            }

            fn visit_i64<E: serde::de::Error>(self, amount: i64) -> Result<Quantity, E> {
                self.visit_f64(amount as f64)
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

impl JsonSchema for Quantity {
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
    pub average_value: Option<Quantity>,
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
    pub average_value: Option<Quantity>,
}

/// A mean over pods.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PodsTarget {
    /// Name of the metric.
    pub metric: String,
    /// For each pod.
    pub average_value: Quantity,
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
    pub value: Option<Quantity>,
    /// For each replica.
    pub average_value: Option<Quantity>,
}

/// The same for something outside.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, remote = "Self")]
pub struct ExternalTarget {
    /// Name of the metric.
    pub metric: String,
    /// Of the whole.
    pub value: Option<Quantity>,
    /// For each replica.
    pub average_value: Option<Quantity>,
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
    pub const fn cpu_average_value(value: Quantity) -> Self {
        Self::Resource(ResourceTarget { name: Resource::Cpu, utilization: None, average_value: Some(value) })
    }

    /// As it is followed.
    pub fn metric(&self) -> Metric {
        let average = |value: &Option<Quantity>| Target::AverageValue(value.map_or(1, |value| value.milli));
        let by_request = |utilization: &Option<NonZeroU32>, value| match utilization {
            Some(percent) => Target::Utilization(percent.get()),
            None => average(value),
        };
        let of_whole = |whole: &Option<Quantity>, value| match whole {
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
            assert_eq!(text.parse::<Quantity>().map(|quantity| quantity.milli), Ok(milli), "{text}");
        }
        for text in ["0", "m", "-1", "1 core", "100x", "1e", "1e400", "", "1_000", "1E", "1e3k"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }
}
