//! Production files as policy settings: `autoscaler.hpa = { manifest = "k8s/hpa.yaml" }`.
//!
//! The table that names a manifest is filled with what the manifest says, on the tree and before typing, so that
//! everything after it is as if somebody had typed it off. What stands beside `manifest` wins over it; that is how the
//! flags of the controller, which no manifest holds, are set, and how a variant is tried.
//!
//! A manifest names metrics as the cluster does. `metric-names = { http_requests = "source.public.requests-per-second" }`
//! says what they are here.

use std::collections::BTreeMap;

use super::error::{Diagnostic, Place, shortened};
use super::files::Files;
use super::manifest::{
    self, Behavior, Document, Goal, Hpa, Metric, Object, RatePolicy, RateUnit, Rules, SelectPolicy, Source,
};
use super::tree::{Entry, Key, Node, Table, Value};

/// Fills every table that names a manifest. The answer lists what has no effect, once per file.
pub(super) fn adopt(tree: &mut Node, files: &mut Files) -> Result<Vec<String>, Vec<Diagnostic>> {
    let mut without_effect = Vec::new();
    let Value::Table(root) = &mut tree.value else { return Ok(without_effect) };
    let Some(services) = root.get_mut("service") else { return Ok(without_effect) };
    let Value::Array(services) = &mut services.value else { return Ok(without_effect) };
    for service in services {
        let Value::Table(service) = &mut service.value else { continue };
        let name = service.get("name").and_then(Node::text).unwrap_or_default().to_owned();
        let Some(autoscaler) = service.get_mut("autoscaler") else { continue };
        let Value::Table(autoscaler) = &mut autoscaler.value else { continue };
        let Some(hpa) = autoscaler.get_mut("hpa") else { continue };
        if let Value::Table(table) = &mut hpa.value
            && table.get("manifest").is_some()
        {
            fill(table, &name, files, &mut without_effect)?;
        }
    }
    Ok(without_effect)
}

/// Replaces `manifest` by what it says.
fn fill(
    table: &mut Table,
    service: &str,
    files: &mut Files,
    notes: &mut Vec<String>,
) -> Result<(), Vec<Diagnostic>> {
    let one = |error| vec![error];
    let text_of = |entry: Option<Entry>, what: &str| {
        let Some(Entry { node, .. }) = entry else { return Ok(None) };
        let wrong = || Diagnostic::new(format!("`{what}` is a text, not {}", node.kind())).at(node.place);
        node.text().map(|text| Some((text.to_owned(), node.place))).ok_or_else(wrong)
    };
    let path = text_of(table.remove("manifest"), "manifest").map_err(one)?;
    let name = text_of(table.remove("name"), "name").map_err(one)?;
    let names = metric_names(table.remove("metric-names")).map_err(one)?;
    let Some((path, place)) = path else { return Ok(()) };
    let path = files.resolve(place.file, &path);
    let documents = manifest::load(&path, files).map_err(|mut errors| {
        // A file that is not there has no place of its own.
        for error in errors.iter_mut().filter(|error| error.place.is_none()) {
            error.place = Some(place);
        }
        errors
    })?;
    let (document, hpa) = chosen(&documents, name, service, place).map_err(one)?;
    if !document.no_effect.is_empty() {
        let fields: Vec<String> =
            document.no_effect.iter().map(|field| format!("{} (line {})", field.path, field.line)).collect();
        notes.push(format!("{}: without effect here: {}", document.file, fields.join(", ")));
    }
    for (key, node) in settings(hpa, document.place, &names).map_err(one)? {
        if table.get(key).is_none() {
            table.put(Key { name: key.to_owned(), place: document.place }, node);
        }
    }
    Ok(())
}

/// What the metrics of the cluster are here.
fn metric_names(entry: Option<Entry>) -> Result<BTreeMap<String, String>, Diagnostic> {
    let Some(Entry { node, .. }) = entry else { return Ok(BTreeMap::new()) };
    let wrong = |node: &Node| {
        let message = format!("`metric-names` is a table of texts, not {}", node.kind());
        Diagnostic::new(message).at(node.place)
    };
    let Some(table) = node.table() else { return Err(wrong(&node)) };
    let pair = |entry: &Entry| {
        let here = entry.node.text().ok_or_else(|| wrong(&entry.node))?;
        Ok((entry.key.name.clone(), here.to_owned()))
    };
    table.entries.iter().map(pair).collect()
}

/// The autoscaler that is meant: the one of that name, or the one that scales this service.
fn chosen<'a>(
    documents: &'a [Document],
    name: Option<(String, Place)>,
    service: &str,
    place: Place,
) -> Result<(&'a Document, &'a Hpa), Diagnostic> {
    let all: Vec<(&Document, &Hpa)> = documents
        .iter()
        .filter_map(|document| match &document.object {
            Object::Autoscaler(hpa) => Some((document, hpa)),
            _ => None,
        })
        .collect();
    if all.is_empty() {
        return Err(Diagnostic::new("there is no HorizontalPodAutoscaler in this manifest").at(place));
    }
    if let Some((name, place)) = name {
        let found = all.iter().find(|(document, _)| document.metadata.name == name).copied();
        let known = all.iter().map(|(document, _)| document.metadata.name.as_str());
        return found.ok_or_else(|| Diagnostic::unknown("HorizontalPodAutoscaler", &name, known).at(place));
    }
    if let Some(found) = all.iter().find(|(_, hpa)| hpa.target.name == service) {
        return Ok(*found);
    }
    let (document, hpa) = all[0];
    let message = format!(
        "this manifest scales `{}`, and the service here is called `{}`",
        shortened(&hpa.target.name),
        shortened(service)
    );
    let hint = format!("if that is meant, write name = \"{}\" beside `manifest`", document.metadata.name);
    Err(Diagnostic::new(message).at(hpa.target.place).hint(hint))
}

/// The settings that a manifest holds, as a scenario would have them.
fn settings(
    hpa: &Hpa,
    place: Place,
    names: &BTreeMap<String, String>,
) -> Result<Vec<(&'static str, Node)>, Diagnostic> {
    let number = |value: u32| Node { value: Value::Integer(value.into()), place };
    let mut list = Vec::new();
    if hpa.min_replicas == 0 {
        let error =
            Diagnostic::new("`minReplicas: 0` needs the gate HPAScaleToZero, which is off by default");
        return Err(error.at(place).hint("KEDA or Knative scale to zero"));
    }
    list.push(("min-replicas", number(hpa.min_replicas)));
    list.push(("max-replicas", number(hpa.max_replicas)));
    let metrics = hpa.metrics.iter().map(|found| metric(found, place, names)).collect::<Result<_, _>>()?;
    list.push(("metrics", Node { value: Value::Array(metrics), place }));
    if let Some(Behavior { scale_up, scale_down }) = &hpa.behavior {
        let both = [("scale-up", scale_up), ("scale-down", scale_down)];
        let written = both.into_iter().filter_map(|(key, found)| Some((key, rules(found.as_ref()?, place))));
        list.push(("behavior", table(place, written)));
    }
    Ok(list)
}

fn table(place: Place, entries: impl IntoIterator<Item = (&'static str, Node)>) -> Node {
    let entry = |(name, node): (&str, Node)| Entry { key: Key { name: name.to_owned(), place }, node };
    Node { value: Value::Table(Table { entries: entries.into_iter().map(entry).collect() }), place }
}

fn text(text: impl Into<String>, place: Place) -> Node {
    Node { value: Value::Text(text.into()), place }
}

/// One metric as `{ resource = { name = "cpu", utilization = 60 } }`.
fn metric(found: &Metric, place: Place, names: &BTreeMap<String, String>) -> Result<Node, Diagnostic> {
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
    let seconds = |seconds: u32| text(format!("{seconds}s"), place);
    let mut entries = Vec::new();
    if let Some(window) = found.stabilization_window {
        entries.push(("stabilization-window", seconds(window)));
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
            table(place, [("type", text(unit, place)), ("value", value), ("period", seconds(*period))])
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
