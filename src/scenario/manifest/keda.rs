//! KEDA's `ScaledObject`, `keda.sh/v1alpha1`.
//!
//! Origin: `kedacore/keda`, `apis/keda/v1alpha1/scaledobject_types.go` (types, defaults) and `scaledobject_webhook.go` (what
//! its admission refuses).

use std::collections::BTreeMap;

use super::fields::Fields;
use super::hpa::{Behavior, Target};
use crate::scenario::error::{Diagnostic, Place, shortened};
use crate::units::quantity::Quantity;

/// A scaled object.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaledObject {
    /// What it scales; the kind is `Deployment` where none is written.
    pub target: Target,
    /// Seconds between two looks at the triggers (default 30).
    pub polling_interval: u32,
    /// Seconds after the last activity until it goes to zero or idle (default 300).
    pub cooldown_period: u32,
    /// Seconds after its creation in which it does not go to zero (default 0).
    pub initial_cooldown_period: u32,
    /// Replicas while no trigger is active, below `min_replicas`; 0 where that is 0.
    pub idle_replicas: Option<u32>,
    /// Fewest replicas (default 0); the HPA that KEDA makes has at least 1.
    pub min_replicas: u32,
    /// Most replicas (default 100).
    pub max_replicas: u32,
    /// What happens while triggers fail.
    pub fallback: Option<Fallback>,
    /// Rates and windows of the HPA.
    pub behavior: Option<Behavior>,
    /// One formula over all triggers.
    pub modifiers: Option<Modifiers>,
    /// Whether the replicas are set back to the original number when the object is deleted.
    pub restore_original: bool,
    /// At least one.
    pub triggers: Vec<Trigger>,
    /// Held by an annotation.
    pub paused: Option<Pause>,
}

/// How it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// At the present number of replicas.
    Here,
    /// At this number.
    At(u32),
}

/// What happens while triggers fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Failures in a row.
    pub failure_threshold: u32,
    /// Replicas meanwhile.
    pub replicas: u32,
    /// How `replicas` is taken.
    pub behavior: FallbackBehavior,
}

/// How the replicas of a fallback are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackBehavior {
    /// As they are written.
    Static,
    /// The present number.
    CurrentReplicas,
    /// The present number if it is higher.
    CurrentReplicasIfHigher,
    /// The present number if it is lower.
    CurrentReplicasIfLower,
}

/// One formula over all triggers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modifiers {
    /// An expression over the names of triggers.
    pub formula: String,
    /// What its value should be, above 0.
    pub target: Quantity,
    /// Value above which it is active.
    pub activation_target: Option<Quantity>,
    /// Whether the target is per pod or in total.
    pub metric_type: MetricType,
}

/// A source of load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// `cpu`, `prometheus`, `kafka`, `cron` ...
    pub kind: String,
    /// Its name in a formula.
    pub name: Option<String>,
    /// `None` where nothing is written: `AverageValue`, but for `cpu` and `memory`, whose `metadata.type` may say it.
    pub metric_type: Option<MetricType>,
    /// Whether values are kept from one poll to the next.
    pub cached: bool,
    /// What the kind wants to know, such as `threshold` and `activationThreshold`.
    pub metadata: BTreeMap<String, String>,
    /// Where it is written.
    pub place: Place,
}

/// How a target is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricType {
    /// Per pod.
    AverageValue,
    /// In total.
    Value,
    /// Percent of requests (`cpu` and `memory` only).
    Utilization,
}

const METRIC_TYPES: &[(&str, MetricType)] = &[
    ("AverageValue", MetricType::AverageValue),
    ("Value", MetricType::Value),
    ("Utilization", MetricType::Utilization),
];

const DEFAULT_POLLING: u32 = 30;
const DEFAULT_COOLDOWN: u32 = 300;
const DEFAULT_MAX_REPLICAS: u32 = 100;

impl ScaledObject {
    /// The `spec`.
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.need(&["scaleTargetRef", "triggers"]);
        let target = fields.object("scaleTargetRef", |fields| {
            fields.need(&["name"]);
            let api_version = fields.text("apiVersion");
            let kind = fields.name("kind").unwrap_or_else(|| "Deployment".to_owned());
            let name = fields.name("name");
            fields.no_effect(&["envSourceContainerName"]);
            let place = fields.value_place("name").unwrap_or(fields.place);
            Some(Target { api_version, kind, name: name?, place })
        });
        let polling_interval = fields.positive("pollingInterval").unwrap_or(DEFAULT_POLLING);
        let cooldown_period = fields.count("cooldownPeriod").unwrap_or(DEFAULT_COOLDOWN);
        let initial_cooldown_period = fields.count("initialCooldownPeriod").unwrap_or(0);
        let idle_replicas = fields.count("idleReplicaCount");
        let min_replicas = fields.count("minReplicaCount").unwrap_or(0);
        let max_replicas = fields.positive("maxReplicaCount").unwrap_or(DEFAULT_MAX_REPLICAS);
        let fallback = fields.object("fallback", Fallback::read);
        let advanced = fields.object("advanced", |fields| {
            let behavior = fields.object("horizontalPodAutoscalerConfig", |fields| {
                fields.no_effect(&["name"]);
                fields.object("behavior", Behavior::read)
            });
            let modifiers = fields.object("scalingModifiers", Modifiers::read);
            Some((behavior, modifiers, fields.boolean("restoreToOriginalReplicaCount").unwrap_or(false)))
        });
        let (behavior, modifiers, restore_original) = advanced.unwrap_or_default();
        let triggers = fields.filled_list("triggers", Trigger::read);

        if min_replicas.max(1) > max_replicas {
            let which = if fields.has("minReplicaCount") { "minReplicaCount" } else { "maxReplicaCount" };
            let message = format!(
                "`minReplicaCount` ({min_replicas}) is greater than `maxReplicaCount` ({max_replicas})"
            );
            fields.refuse(which, message);
        }
        // A written 0 counts as the 1 that the HPA has.
        let least_active = if fields.has("minReplicaCount") { min_replicas.max(1) } else { 0 };
        if let Some(idle) = idle_replicas
            && idle >= least_active
        {
            let message =
                format!("`idleReplicaCount` ({idle}) must be less than `minReplicaCount` ({least_active})");
            fields.refuse("idleReplicaCount", message);
        }
        let triggers = triggers?;
        check_triggers(fields, &triggers, min_replicas, fallback.is_some(), modifiers.as_ref());
        Some(Self {
            target: target?,
            polling_interval,
            cooldown_period,
            initial_cooldown_period,
            idle_replicas,
            min_replicas,
            max_replicas,
            fallback,
            behavior,
            modifiers,
            restore_original,
            triggers,
            paused: None,
        })
    }
}

/// What KEDA's admission refuses about all triggers together.
fn check_triggers(
    fields: &mut Fields<'_>,
    triggers: &[Trigger],
    min_replicas: u32,
    fallback: bool,
    modifiers: Option<&Modifiers>,
) {
    for (at, trigger) in triggers.iter().enumerate() {
        let Some(name) = &trigger.name else { continue };
        if triggers[..at].iter().any(|earlier| earlier.name.as_ref() == Some(name)) {
            let message = format!("there are two triggers named `{}`", shortened(name));
            fields.error(Diagnostic::new(message).at(trigger.place));
        }
    }
    if !triggers.is_empty() && triggers.iter().all(Trigger::is_resource) && min_replicas == 0 {
        let place = ["minReplicaCount", "triggers"].iter().find_map(|name| fields.value_place(name));
        let error = Diagnostic::new("with only cpu and memory triggers `minReplicaCount` must be at least 1");
        let error = error.at(place.unwrap_or(fields.place));
        fields.error(error.note("pods at zero use no CPU, so nothing would bring them back"));
    }
    let average = |trigger: &Trigger| {
        !trigger.is_resource() && matches!(trigger.metric_type, None | Some(MetricType::AverageValue))
    };
    let possible = match modifiers {
        Some(modifiers) => modifiers.metric_type == MetricType::AverageValue,
        None => triggers.iter().any(average),
    };
    if fallback && !possible {
        let message = "`fallback` needs a metric of type AverageValue that is neither cpu nor memory";
        fields.refuse("fallback", message);
    }
}

impl Fallback {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.need(&["failureThreshold", "replicas"]);
        let failure_threshold = fields.count("failureThreshold");
        let replicas = fields.count("replicas");
        let choices = [
            ("static", FallbackBehavior::Static),
            ("currentReplicas", FallbackBehavior::CurrentReplicas),
            ("currentReplicasIfHigher", FallbackBehavior::CurrentReplicasIfHigher),
            ("currentReplicasIfLower", FallbackBehavior::CurrentReplicasIfLower),
        ];
        let behavior = fields.choice("behavior", &choices).unwrap_or(FallbackBehavior::Static);
        Some(Self { failure_threshold: failure_threshold?, replicas: replicas?, behavior })
    }
}

impl Modifiers {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.need(&["formula", "target"]);
        let formula = fields.name("formula");
        let number = |fields: &mut Fields<'_>, name: &'static str| {
            // The number stands in quotes.
            let text = fields.text(name)?;
            let read =
                Quantity::parse(&text).ok().filter(|_| text.bytes().all(|byte| !byte.is_ascii_alphabetic()));
            if read.is_none() {
                fields.refuse(name, format!("`{}` is not a number", shortened(&text)));
            }
            read
        };
        let target = number(fields, "target");
        let activation_target = number(fields, "activationTarget");
        let metric_type = fields.choice("metricType", &METRIC_TYPES[..2]).unwrap_or(MetricType::AverageValue);
        let target = target?;
        if target.milli() <= 0 {
            fields.refuse("target", format!("`target` is {target}, but must be above 0"));
        }
        Some(Self { formula: formula?, target, activation_target, metric_type })
    }
}

impl Trigger {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.need(&["type", "metadata"]);
        let place = fields.place;
        let kind = fields.name("type");
        let name = fields.name("name");
        let metric_type = fields.choice("metricType", METRIC_TYPES);
        let cached = fields.boolean("useCachedMetrics").unwrap_or(false);
        let metadata = fields.map("metadata");
        fields.no_effect(&["authenticationRef"]);
        let trigger = Self { kind: kind?, name, metric_type, cached, metadata, place };
        let complaint = match metric_type {
            Some(MetricType::Value) if trigger.is_resource() => "Utilization or AverageValue",
            Some(MetricType::Utilization) if !trigger.is_resource() => "AverageValue or Value",
            _ => "",
        };
        if !complaint.is_empty() {
            let message = format!("the metric type of a {} trigger is {complaint}", shortened(&trigger.kind));
            fields.refuse("metricType", message);
        }
        if cached && (trigger.is_resource() || trigger.kind == "cron") {
            fields
                .refuse("useCachedMetrics", format!("a {} trigger cannot use cached metrics", trigger.kind));
        }
        Some(trigger)
    }

    /// Whether the HPA gets it as a resource metric and KEDA does not poll it.
    pub fn is_resource(&self) -> bool {
        matches!(self.kind.as_str(), "cpu" | "memory")
    }
}
