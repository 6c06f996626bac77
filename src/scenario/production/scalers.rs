//! What autoscalers' manifests say, as the settings of a scenario.

use super::{Names, number, table, text};
use crate::scenario::error::{Diagnostic, Place, shortened};
use crate::scenario::manifest::{
    Aggregation, Behavior, Class, FallbackBehavior, Goal, Hpa, Knative, Metric, MetricType, RatePolicy,
    RateUnit, Rules, ScaledObject, SelectPolicy, Source, Trigger,
};
use crate::scenario::tree::{Node, Value};
use crate::units::quantity::Quantity;

/// Keys and values of a settings table.
pub(super) type Settings = Vec<(&'static str, Node)>;

/// The settings of `autoscaler.hpa`.
pub(super) fn hpa(hpa: &Hpa, place: Place, names: &Names) -> Result<Settings, Diagnostic> {
    let mut list = vec![
        ("min-replicas", number(hpa.min_replicas, place)),
        ("max-replicas", number(hpa.max_replicas, place)),
    ];
    let metrics = hpa.metrics.iter().map(|found| metric(found, place, names)).collect::<Result<_, _>>()?;
    list.push(("metrics", Node { value: Value::Array(metrics), place }));
    list.extend(hpa.behavior.as_ref().map(|found| ("behavior", behavior(found, place))));
    Ok(list)
}

/// The settings of `autoscaler.keda`. Triggers are left out if the scenario has its own.
pub(super) fn keda(
    scaled: &ScaledObject,
    place: Place,
    names: &Names,
    own_triggers: bool,
) -> Result<Settings, Diagnostic> {
    let mut list = vec![
        ("polling-interval", seconds(scaled.polling_interval, place)),
        ("cooldown-period", seconds(scaled.cooldown_period, place)),
        ("initial-cooldown-period", seconds(scaled.initial_cooldown_period, place)),
        ("min-replica-count", number(scaled.min_replicas, place)),
        ("max-replica-count", number(scaled.max_replicas, place)),
    ];
    list.extend(scaled.idle_replicas.map(|idle| ("idle-replica-count", number(idle, place))));
    if let Some(fallback) = &scaled.fallback {
        let behavior = match fallback.behavior {
            FallbackBehavior::Static => "static",
            FallbackBehavior::CurrentReplicas => "currentReplicas",
            FallbackBehavior::CurrentReplicasIfHigher => "currentReplicasIfHigher",
            FallbackBehavior::CurrentReplicasIfLower => "currentReplicasIfLower",
        };
        let entries = [
            ("failure-threshold", number(fallback.failure_threshold, place)),
            ("replicas", number(fallback.replicas, place)),
            ("behavior", text(behavior, place)),
        ];
        list.push(("fallback", table(place, entries)));
    }
    list.extend(scaled.behavior.as_ref().map(|found| ("behavior", behavior(found, place))));
    if own_triggers {
        return Ok(list);
    }
    if scaled.modifiers.is_some() {
        let error =
            Diagnostic::new("scaling modifiers (a formula over triggers) are not simulated").at(place);
        return Err(error.hint("write `triggers` of your own beside `manifest`"));
    }
    let triggers = scaled.triggers.iter().map(|found| trigger(found, names)).collect::<Result<_, _>>()?;
    list.push(("triggers", Node { value: Value::Array(triggers), place }));
    Ok(list)
}

/// Under which names the scalers of KEDA keep their target and the value above which they are active.
const THRESHOLDS: &[(&[&str], &str, &str)] = &[
    (&["apache-kafka", "kafka"], "lagThreshold", "activationLagThreshold"),
    (&["aws-sqs-queue", "azure-queue"], "queueLength", "activationQueueLength"),
    (&["azure-servicebus"], "messageCount", "activationMessageCount"),
    (&["artemis-queue"], "queueLength", "activationQueueLength"),
    (&["mongodb"], "queryValue", "activationQueryValue"),
    (&["mssql"], "targetValue", "activationTargetValue"),
    (&["mysql"], "queryValue", "activationQueryValue"),
    (&["nats-jetstream", "stan"], "lagThreshold", "activationLagThreshold"),
    (&["postgresql"], "targetQueryValue", "activationTargetQueryValue"),
    (&["pulsar"], "msgBacklogThreshold", "activationMsgBacklogThreshold"),
    (&["redis", "redis-cluster", "redis-sentinel"], "listLength", "activationListLength"),
    (&["redis-streams", "redis-cluster-streams"], "pendingEntriesCount", "activationLagCount"),
    (&["cpu", "gcp-pubsub", "memory", "rabbitmq"], "value", "activationValue"),
    (&["metrics-api"], "targetValue", "activationTargetValue"),
];

/// One trigger as `{ metric = "service.jobs.queue-length", threshold = 5 }`.
fn trigger(found: &Trigger, names: &Names) -> Result<Node, Diagnostic> {
    let place = found.place;
    let kind = shortened(&found.kind);
    let hint = "write `triggers` of your own beside `manifest`";
    if found.kind == "cron" {
        return Err(Diagnostic::new("a cron trigger is not simulated").at(place).hint(hint));
    }
    let scaler = THRESHOLDS.iter().find(|(kinds, ..)| kinds.contains(&found.kind.as_str()));
    let (target, activation) =
        scaler.map_or(("threshold", "activationThreshold"), |(_, target, activation)| (target, activation));
    let quantity = |key: &str| {
        let Some(written) = found.metadata.get(key) else { return Ok(None) };
        let wrong =
            || Diagnostic::new(format!("`{key}` is not a number: `{}`", shortened(written))).at(place);
        Quantity::parse(written.trim()).map(Some).map_err(|_| wrong())
    };
    let Some(threshold) = quantity(target)? else {
        let error =
            Diagnostic::new(format!("the {kind} trigger has no `{target}` in its metadata")).at(place);
        return Err(error.hint(hint));
    };
    let activation = quantity(activation)?;
    let mut entries = Vec::new();
    if found.is_resource() {
        entries.push(("metric", text(&found.kind, place)));
    } else {
        let called = [found.name.as_ref(), found.metadata.get("metricName"), Some(&found.kind)];
        let Some(here) = called.iter().flatten().find_map(|name| names.get(*name)) else {
            let name = called.iter().flatten().next().map_or("", |name| name.as_str());
            let error = Diagnostic::new(format!("nothing here is what the {kind} trigger follows")).at(place);
            return Err(error.hint(format!(
                "say what it is here: metric-names = {{ {name} = \"service.NAME.queue-length\" }}"
            )));
        };
        entries.push(("metric", text(here, place)));
    }
    entries.push(("threshold", text(format!("{}m", threshold.milli()), place)));
    if let Some(activation) = activation {
        let value = Value::Float(activation.milli() as f64 / 1e3);
        entries.push(("activation-threshold", Node { value, place }));
    }
    // Older manifests say it in the metadata of cpu and memory.
    let old = found.metadata.get("type").map(String::as_str).filter(|_| found.is_resource());
    let metric_type = match (found.metric_type, old) {
        (Some(MetricType::AverageValue), _) | (None, Some("AverageValue")) => Some("average-value"),
        (Some(MetricType::Value), _) => Some("value"),
        (Some(MetricType::Utilization), _) | (None, Some("Utilization")) => Some("utilization"),
        (None, _) => None,
    };
    entries.extend(metric_type.map(|word| ("metric-type", text(word, place))));
    Ok(table(place, entries))
}

/// The settings of `autoscaler.kpa`.
pub(super) fn kpa(knative: &Knative, place: Place) -> Result<Settings, Diagnostic> {
    let found = &knative.autoscaling;
    if found.class == Some(Class::Hpa) {
        let error = Diagnostic::new("this Service is of the class hpa.autoscaling.knative.dev").at(place);
        return Err(error.hint("write the HPA that Knative makes of it as `autoscaler.hpa`"));
    }
    let quantity = |quantity: Quantity| Node { value: Value::Float(quantity.milli() as f64 / 1e3), place };
    let count = |count: u32| number(count, place);
    let time = |time: u32| seconds(time, place);
    let list = [
        ("metric", found.metric.as_ref().map(|metric| text(metric, place))),
        (
            "metric-aggregation-algorithm",
            found.aggregation.map(|found| {
                let word = match found {
                    Aggregation::Linear => "linear",
                    Aggregation::WeightedExponential => "weighted-exponential",
                };
                text(word, place)
            }),
        ),
        ("container-concurrency", knative.container_concurrency.map(count)),
        ("target", found.target.map(quantity)),
        ("target-utilization-percentage", found.target_utilization.map(quantity)),
        ("target-burst-capacity", found.target_burst_capacity.map(quantity)),
        ("window", found.window.map(time)),
        ("panic-window-percentage", found.panic_window.map(quantity)),
        ("panic-threshold-percentage", found.panic_threshold.map(quantity)),
        ("min-scale", found.min_scale.map(count)),
        ("max-scale", found.max_scale.map(count)),
        ("initial-scale", found.initial_scale.map(count)),
        ("activation-scale", found.activation_scale.map(count)),
        ("scale-down-delay", found.scale_down_delay.map(time)),
        ("scale-to-zero-pod-retention-period", found.pod_retention.map(time)),
    ];
    Ok(list.into_iter().filter_map(|(key, node)| Some((key, node?))).collect())
}

/// Rates and windows of an HPA.
fn behavior(found: &Behavior, place: Place) -> Node {
    let both = [("scale-up", &found.scale_up), ("scale-down", &found.scale_down)];
    let written = both.into_iter().filter_map(|(key, found)| Some((key, rules(found.as_ref()?, place))));
    table(place, written)
}

fn seconds(seconds: u32, place: Place) -> Node {
    text(format!("{seconds}s"), place)
}

/// One metric as `{ resource = { name = "cpu", utilization = 60 } }`.
fn metric(found: &Metric, place: Place, names: &Names) -> Result<Node, Diagnostic> {
    let place = if found.place == Place::default() { place } else { found.place };
    let goal = match found.goal {
        Goal::Utilization(percent) => ("utilization", Node { value: Value::Integer(percent.into()), place }),
        Goal::AverageValue(quantity) => ("average-value", text(format!("{}m", quantity.milli()), place)),
        Goal::Value(quantity) => ("value", text(format!("{}m", quantity.milli()), place)),
    };
    let here = |name: &str| names.get(name).map_or(name, String::as_str).to_owned();
    let (kind, entries) = match &found.source {
        Source::Resource { name } => ("resource", vec![("name", text(name, place)), goal]),
        Source::ContainerResource { name, container } => {
            let container = ("container", text(container, place));
            ("container-resource", vec![container, ("name", text(name, place)), goal])
        }
        Source::Pods(series) => ("pods", vec![("metric", text(here(&series.name), place)), goal]),
        Source::External(series) => ("external", vec![("metric", text(here(&series.name), place)), goal]),
        Source::Object { object, series } => {
            let (of, metric) = match names.get(&series.name).map(|here| here.rsplit_once('.')) {
                Some(Some((of, metric))) => (of.to_owned(), metric.to_owned()),
                Some(None) => {
                    let message =
                        format!("`{}` is called something without a point", shortened(&series.name));
                    let hint = "write source.NAME.METRIC or service.NAME.METRIC under `metric-names`";
                    return Err(Diagnostic::new(message).at(place).hint(hint));
                }
                None => (format!("service.{}", object.name), series.name.clone()),
            };
            ("object", vec![("of", text(of, place)), ("metric", text(metric, place)), goal])
        }
    };
    Ok(table(place, [(kind, table(place, entries))]))
}

/// Rates and windows of one direction.
fn rules(found: &Rules, place: Place) -> Node {
    let mut entries = Vec::new();
    if let Some(window) = found.stabilization_window {
        entries.push(("stabilization-window", seconds(window, place)));
    }
    if let Some(select) = found.select_policy {
        let word = match select {
            SelectPolicy::Max => "max",
            SelectPolicy::Min => "min",
            SelectPolicy::Disabled => "disabled",
        };
        entries.push(("select-policy", text(word, place)));
    }
    if let Some(policies) = &found.policies {
        let policy = |RatePolicy { unit, value, period }: &RatePolicy| {
            let unit = match unit {
                RateUnit::Pods => "pods",
                RateUnit::Percent => "percent",
            };
            let value = Node { value: Value::Integer((*value).into()), place };
            table(place, [("type", text(unit, place)), ("value", value), ("period", seconds(*period, place))])
        };
        entries
            .push(("policies", Node { value: Value::Array(policies.iter().map(policy).collect()), place }));
    }
    if let Some(tolerance) = found.tolerance {
        let milli = tolerance.milli();
        entries.push(("tolerance", text(format!("{}.{}%", milli / 10, milli % 10), place)));
    }
    table(place, entries)
}
