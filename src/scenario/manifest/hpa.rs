//! `HorizontalPodAutoscaler`, `autoscaling/v1` and `autoscaling/v2`.
//!
//! Origin: `k8s.io/api/autoscaling`, bounds from `pkg/apis/autoscaling/validation`. Where `target.type` and the value that
//! is set disagree, upstream goes by the value (except for Object metrics, which then fail at every sync and are refused
//! here); such a `type` is listed as having no effect.

use super::fields::{Fields, INT32};
use super::selector::Selector;
use crate::scenario::error::{Diagnostic, Place};
use crate::units::quantity::Quantity;

/// A horizontal pod autoscaler.
#[derive(Clone, Debug, PartialEq)]
pub struct Hpa {
    /// What it scales.
    pub target: Target,
    /// Fewest replicas (default 1); 0 only together with an Object or External metric.
    pub min_replicas: u32,
    /// Most replicas, at least 1 and at least `min_replicas`.
    pub max_replicas: u32,
    /// Never empty: without any, upstream takes CPU at 80 % of the requests.
    pub metrics: Vec<Metric>,
    /// Rates and windows; `None` is not the same as [`Behavior::default`].
    pub behavior: Option<Behavior>,
}

/// A reference to another object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Such as `apps/v1`.
    pub api_version: Option<String>,
    /// Such as `Deployment`.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// Where the reference is written.
    pub place: Place,
}

/// One metric and what it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// What is measured.
    pub source: Source,
    /// What it should be.
    pub goal: Goal,
    /// Where it is written; all zero for the metric that upstream adds.
    pub place: Place,
}

/// What is measured.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A resource of the pods.
    Resource {
        /// `cpu`, `memory` ...
        name: String,
    },
    /// A resource of one container of each pod.
    ContainerResource {
        /// `cpu`, `memory` ...
        name: String,
        /// Name of the container.
        container: String,
    },
    /// A metric that each pod has.
    Pods(Series),
    /// A metric of one other object.
    Object {
        /// The object.
        object: Target,
        /// Its metric.
        series: Series,
    },
    /// A metric of something outside of the cluster.
    External(Series),
}

/// A metric by name and labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Name of the metric.
    pub name: String,
    /// Labels that narrow it down.
    pub selector: Option<Selector>,
}

/// What a metric should be; all above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Percent of the requests, as an average over pods.
    Utilization(u32),
    /// Per pod.
    AverageValue(Quantity),
    /// In total.
    Value(Quantity),
}

/// Rates and windows for both directions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Behavior {
    /// When scaling up.
    pub scale_up: Option<Rules>,
    /// When scaling down.
    pub scale_down: Option<Rules>,
}

/// Rates and windows for one direction. `None` means upstream's default for this direction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Seconds, 0 ..= 3600.
    pub stabilization_window: Option<u32>,
    /// Which of several policies counts; upstream's default is `Max`.
    pub select_policy: Option<SelectPolicy>,
    /// At least one; replaces the default policies.
    pub policies: Option<Vec<RatePolicy>>,
    /// How far the ratio may lie from 1 in this direction, a share such as 0.05.
    pub tolerance: Option<Quantity>,
}

/// Which of several policies counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectPolicy {
    /// The one that changes most.
    Max,
    /// The one that changes least.
    Min,
    /// No change in this direction.
    Disabled,
}

/// So much change per period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RatePolicy {
    /// In what `value` counts.
    pub unit: RateUnit,
    /// Above 0.
    pub value: u32,
    /// Seconds, 1 ..= 1800.
    pub period: u32,
}

/// What a rate counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateUnit {
    /// Pods.
    Pods,
    /// Percent of the pods at the beginning of the period.
    Percent,
}

/// `averageUtilization` of the metric that upstream adds where none is written, in percent.
const DEFAULT_UTILIZATION: u32 = 80;

impl Metric {
    fn cpu(utilization: u32, place: Place) -> Self {
        let source = Source::Resource { name: "cpu".to_owned() };
        Self { source, goal: Goal::Utilization(utilization), place }
    }
}

impl Hpa {
    /// The `spec` of `autoscaling/v1`.
    pub(super) fn read_v1(fields: &mut Fields<'_>) -> Option<Self> {
        let utilization = fields.positive("targetCPUUtilizationPercentage");
        let place = fields.value_place("targetCPUUtilizationPercentage").unwrap_or_default();
        Self::read(fields, |_| Some(vec![Metric::cpu(utilization.unwrap_or(DEFAULT_UTILIZATION), place)]))
    }

    /// The `spec` of `autoscaling/v2`.
    pub(super) fn read_v2(fields: &mut Fields<'_>) -> Option<Self> {
        Self::read(fields, |fields| fields.list("metrics", Metric::read))
    }

    fn read(
        fields: &mut Fields<'_>,
        metrics: impl FnOnce(&mut Fields<'_>) -> Option<Vec<Metric>>,
    ) -> Option<Self> {
        fields.need(&["scaleTargetRef", "maxReplicas"]);
        let target = fields.object("scaleTargetRef", Target::read);
        let min_replicas = fields.count("minReplicas");
        let max_replicas = fields.positive("maxReplicas");
        let mut metrics = metrics(fields).unwrap_or_default();
        if metrics.is_empty() {
            metrics.push(Metric::cpu(DEFAULT_UTILIZATION, Place::default()));
        }
        let behavior = fields.object("behavior", Behavior::read);

        let min = min_replicas.unwrap_or(1);
        let from_zero =
            |metric: &Metric| matches!(metric.source, Source::Object { .. } | Source::External(_));
        if min == 0 && !metrics.iter().any(from_zero) {
            let place = fields.value_place("minReplicas").unwrap_or(fields.place);
            let error = Diagnostic::new("`minReplicas` is 0, but must be at least 1").at(place);
            fields.error(error.note("only an Object or External metric says when to leave 0 again"));
        }
        if let Some(max) = max_replicas
            && min > max
        {
            let which = if fields.has("minReplicas") { "minReplicas" } else { "maxReplicas" };
            fields.refuse(which, format!("`minReplicas` ({min}) is greater than `maxReplicas` ({max})"));
        }
        Some(Self { target: target?, min_replicas: min, max_replicas: max_replicas?, metrics, behavior })
    }
}

impl Target {
    /// A `CrossVersionObjectReference`.
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.need(&["kind", "name"]);
        let api_version = fields.text("apiVersion");
        let kind = fields.name("kind");
        let name = fields.name("name");
        let place = fields.value_place("name").unwrap_or(fields.place);
        Some(Self { api_version, kind: kind?, name: name?, place })
    }
}

/// Which value of a target a source takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    UtilizationOrAverage,
    Average,
    ValueOrAverage,
    /// The same, and `type` decides.
    ByType,
}

/// `target.type`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Utilization,
    AverageValue,
    Value,
}

/// `metrics[].type`, the field that belongs to it, and the others.
const SOURCES: [(&str, &str); 5] = [
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
    ("Pods", "pods"),
    ("Object", "object"),
    ("External", "external"),
];

impl Metric {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.need(&["type"]);
        let place = fields.place;
        let choices = SOURCES.map(|(name, field)| (name, (name, field)));
        let chosen = fields.choice("type", &choices);
        if let Some((name, field)) = chosen {
            fields.need(&[field]);
            for (_, other) in SOURCES {
                if other != field && fields.has(other) {
                    fields.refuse(other, format!("a metric of type {name} has `{field}`, not `{other}`"));
                }
            }
        }
        let resource = fields.object("resource", |fields| {
            fields.need(&["name"]);
            let name = fields.name("name");
            let goal = Goal::of(fields, Takes::UtilizationOrAverage);
            Some((Source::Resource { name: name? }, goal?))
        });
        let container_resource = fields.object("containerResource", |fields| {
            fields.need(&["name", "container"]);
            let (name, container) = (fields.name("name"), fields.name("container"));
            let goal = Goal::of(fields, Takes::UtilizationOrAverage);
            Some((Source::ContainerResource { name: name?, container: container? }, goal?))
        });
        let pods = fields.object("pods", |fields| {
            let series = Series::of(fields);
            let goal = Goal::of(fields, Takes::Average);
            Some((Source::Pods(series?), goal?))
        });
        let object = fields.object("object", |fields| {
            fields.need(&["describedObject"]);
            let object = fields.object("describedObject", Target::read);
            let series = Series::of(fields);
            let goal = Goal::of(fields, Takes::ByType);
            Some((Source::Object { object: object?, series: series? }, goal?))
        });
        let external = fields.object("external", |fields| {
            let series = Series::of(fields);
            let goal = Goal::of(fields, Takes::ValueOrAverage);
            Some((Source::External(series?), goal?))
        });
        chosen?;
        let (source, goal) = resource.or(container_resource).or(pods).or(object).or(external)?;
        Some(Self { source, goal, place })
    }
}

impl Series {
    fn of(fields: &mut Fields<'_>) -> Option<Self> {
        fields.need(&["metric"]);
        fields.object("metric", |fields| {
            fields.need(&["name"]);
            let name = fields.name("name");
            let selector = fields.object("selector", Selector::read);
            Some(Self { name: name?, selector })
        })
    }
}

impl Goal {
    fn of(fields: &mut Fields<'_>, takes: Takes) -> Option<Self> {
        fields.need(&["target"]);
        fields.object("target", |fields| Self::read(fields, takes))
    }

    fn read(fields: &mut Fields<'_>, takes: Takes) -> Option<Self> {
        fields.need(&["type"]);
        let choices = [
            ("Utilization", Type::Utilization),
            ("AverageValue", Type::AverageValue),
            ("Value", Type::Value),
        ];
        let kind = fields.choice("type", &choices);
        let utilization = fields.positive("averageUtilization").map(Self::Utilization);
        let average = fields.positive_quantity("averageValue").map(Self::AverageValue);
        let value = fields.positive_quantity("value").map(Self::Value);

        // Values are set if they are written, even if they were wrong and have been refused.
        let has = |name: &str| fields.has(name);
        let (first, first_name) = match takes {
            Takes::UtilizationOrAverage => (utilization, "averageUtilization"),
            Takes::Average => (average, "averageValue"),
            Takes::ValueOrAverage | Takes::ByType => (value, "value"),
        };
        let (both, none) = (has(first_name) && has("averageValue"), !has(first_name) && !has("averageValue"));
        if takes == Takes::ByType {
            let (goal, name) = match kind? {
                Type::Value => (value, "value"),
                Type::AverageValue => (average, "averageValue"),
                Type::Utilization => {
                    fields.refuse(
                        "type",
                        "an Object metric has no utilization: its type is Value or AverageValue",
                    );
                    return None;
                }
            };
            fields.need(&[name]);
            for other in ["averageUtilization", "averageValue", "value"] {
                if other != name {
                    fields.no_effect(&[other]);
                }
            }
            return goal;
        }
        if none {
            let names = match takes {
                Takes::Average => "`averageValue`".to_owned(),
                _ => format!("`{first_name}` or `averageValue`"),
            };
            fields.error(Diagnostic::new(format!("this target needs {names}")).at(fields.place));
            return None;
        }
        if both && first_name != "averageValue" {
            fields.refuse(
                "averageValue",
                format!("a target has either `{first_name}` or `averageValue`, not both"),
            );
            return None;
        }
        for other in ["averageUtilization", "value"] {
            if other != first_name {
                fields.no_effect(&[other]);
            }
        }
        let goal = first.or(average)?;
        let agrees = matches!(
            (kind?, goal),
            (Type::Utilization, Self::Utilization(_))
                | (Type::AverageValue, Self::AverageValue(_))
                | (Type::Value, Self::Value(_))
        );
        if !agrees {
            fields.no_effect(&["type"]);
        }
        Some(goal)
    }
}

impl Behavior {
    /// `behavior`, also that of KEDA.
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let scale_up = fields.object("scaleUp", Rules::read);
        let scale_down = fields.object("scaleDown", Rules::read);
        Some(Self { scale_up, scale_down })
    }
}

impl Rules {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        const LONGEST_WINDOW: i64 = 3_600;
        let window = fields.integer("stabilizationWindowSeconds", 0..=LONGEST_WINDOW);
        let choices =
            [("Max", SelectPolicy::Max), ("Min", SelectPolicy::Min), ("Disabled", SelectPolicy::Disabled)];
        let select_policy = fields.choice("selectPolicy", &choices);
        let policies = fields.filled_list("policies", RatePolicy::read);
        let tolerance = fields.quantity("tolerance");
        Some(Self {
            stabilization_window: window.map(|seconds| seconds as u32),
            select_policy,
            policies,
            tolerance,
        })
    }
}

impl RatePolicy {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        const LONGEST_PERIOD: i64 = 1_800;
        fields.need(&["type", "value", "periodSeconds"]);
        let unit = fields.choice("type", &[("Pods", RateUnit::Pods), ("Percent", RateUnit::Percent)]);
        let value = fields.integer("value", 1..=INT32);
        let period = fields.integer("periodSeconds", 1..=LONGEST_PERIOD);
        Some(Self { unit: unit?, value: value? as u32, period: period? as u32 })
    }
}
