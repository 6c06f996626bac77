//! Production files as parts of a scenario: `autoscaler.hpa = { manifest = "k8s/hpa.yaml" }`, `[[service]] manifest = "k8s/"`,
//! `[service.a.call.b] envoy = { manifest = "envoy.yaml", cluster = "b" }`.
//!
//! The table that names a manifest is filled with what the manifest says, on the tree and before typing, so that
//! everything after it is as if somebody had typed it off. What stands beside `manifest` wins over it; that is how the
//! flags of the controller, which no manifest holds, are set, and how a variant is tried.
//!
//! A manifest names metrics as the cluster does. `metric-names = { http_requests = "source.public.requests-per-second" }`
//! says what they are here.

mod calls;
mod rollouts;
mod scalers;
mod workload;

use std::collections::{BTreeMap, BTreeSet};

use schemars::{JsonSchema, SchemaGenerator};

use super::error::{Diagnostic, Place, shortened};
use super::files::Files;
use super::manifest::{self, Document, Hpa, Knative, Object, ScaledObject};
use super::tree::{Entry, Key, Node, Table, Value};
use crate::policies::autoscaler::hpa::HpaSettings;
use crate::policies::autoscaler::keda::KedaSettings;
use crate::policies::autoscaler::kpa::KpaSettings;
use scalers::Settings;

pub(super) use workload::{Containers, called, scaler_of};

/// What may stand beside the settings of an autoscaler that can be read from a manifest.
pub(super) const BESIDE: &[&str] = &["manifest", "name", "metric-names"];

/// The autoscalers that can be read from a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scaler {
    Hpa,
    Keda,
    Kpa,
}

impl Scaler {
    const ALL: [Self; 3] = [Self::Hpa, Self::Keda, Self::Kpa];

    /// Its name in a scenario.
    const fn key(self) -> &'static str {
        match self {
            Self::Hpa => "hpa",
            Self::Keda => "keda",
            Self::Kpa => "kpa",
        }
    }

    /// The kind of its manifest.
    const fn kind(self) -> &'static str {
        match self {
            Self::Hpa => "HorizontalPodAutoscaler",
            Self::Keda => "ScaledObject",
            Self::Kpa => "Service of Knative",
        }
    }

    /// Every key that its table may have.
    fn keys(self) -> Vec<String> {
        let mut keys = match self {
            Self::Hpa => keys_of::<HpaSettings>(),
            Self::Keda => keys_of::<KedaSettings>(),
            Self::Kpa => keys_of::<KpaSettings>(),
        };
        if self == Self::Kpa {
            keys.push("stable-window".to_owned());
        }
        keys.extend(BESIDE.iter().map(|&key| key.to_owned()));
        keys
    }
}

fn keys_of<T: JsonSchema>() -> Vec<String> {
    let schema = SchemaGenerator::default().into_root_schema_for::<T>().to_value();
    let names = schema["properties"].as_object().map(|properties| properties.keys().cloned().collect());
    names.unwrap_or_default()
}

/// What one document says about scaling, and of which workload.
#[derive(Clone, Copy)]
pub(super) enum Found<'a> {
    /// The HPA of Kubernetes.
    Hpa(&'a Hpa),
    /// KEDA.
    Keda(&'a ScaledObject),
    /// Knative.
    Kpa(&'a Knative),
}

impl<'a> Found<'a> {
    /// What a document says, if it is about scaling.
    pub(super) fn of(document: &'a Document) -> Option<Self> {
        match &document.object {
            Object::Autoscaler(hpa) => Some(Self::Hpa(hpa)),
            Object::ScaledObject(scaled) => Some(Self::Keda(scaled)),
            Object::Knative(knative) => Some(Self::Kpa(knative)),
            _ => None,
        }
    }

    const fn scaler(self) -> Scaler {
        match self {
            Self::Hpa(_) => Scaler::Hpa,
            Self::Keda(_) => Scaler::Keda,
            Self::Kpa(_) => Scaler::Kpa,
        }
    }

    /// Name of the autoscaler in a scenario.
    pub(super) const fn key(self) -> &'static str {
        self.scaler().key()
    }

    /// What it scales, and where that is written.
    pub(super) fn target(self, document: &'a Document) -> (&'a str, Place) {
        match self {
            Self::Hpa(hpa) => (&hpa.target.name, hpa.target.place),
            Self::Keda(scaled) => (&scaled.target.name, scaled.target.place),
            Self::Kpa(_) => (&document.metadata.name, document.place),
        }
    }

    /// Why it cannot run here with these names, if it cannot.
    pub(super) fn refusal(self, document: &Document, names: &Names) -> Option<String> {
        self.settings(document.place, names, &Table::default()).err().map(|error| error.message)
    }

    fn settings(self, place: Place, names: &Names, own: &Table) -> Result<Settings, Diagnostic> {
        match self {
            Self::Hpa(hpa) => scalers::hpa(hpa, place, names),
            Self::Keda(scaled) => scalers::keda(scaled, place, names, own.get("triggers").is_some()),
            Self::Kpa(knative) => scalers::kpa(knative, place),
        }
    }
}

/// What the metrics of the cluster are here.
pub(super) type Names = BTreeMap<String, String>;

/// What has no effect, by file.
#[derive(Default)]
struct Notes(BTreeMap<String, BTreeSet<(usize, String)>>);

impl Notes {
    fn add(&mut self, document: &Document) {
        let fields = document.no_effect.iter().map(|field| (field.line, field.path.clone()));
        self.0.entry(document.file.clone()).or_default().extend(fields);
    }

    /// Something that a document says at a line.
    fn say(&mut self, document: &Document, line: usize, what: String) {
        self.note(&document.file, line, what);
    }

    /// Something that a file says at a line.
    fn note(&mut self, file: &str, line: usize, what: String) {
        self.0.entry(file.to_owned()).or_default().insert((line, what));
    }

    /// One line for each file.
    fn lines(self) -> Vec<String> {
        let line = |(file, fields): (String, BTreeSet<(usize, String)>)| {
            let fields: Vec<String> =
                fields.into_iter().map(|(line, path)| format!("{path} (line {line})")).collect();
            (!fields.is_empty()).then(|| format!("{file}: without effect here: {}", fields.join(", ")))
        };
        self.0.into_iter().filter_map(line).collect()
    }
}

/// Fills every table that names a manifest. The answer lists what has no effect, once per file.
pub(super) fn adopt(tree: &mut Node, files: &mut Files) -> Result<Vec<String>, Vec<Diagnostic>> {
    let mut notes = Notes::default();
    let mut updates = Vec::new();
    for service in tables_of(tree, "service") {
        let name = service.get("name").and_then(Node::text).unwrap_or_default().to_owned();
        if let Some(Value::Table(autoscaler)) = service.get_mut("autoscaler").map(|node| &mut node.value) {
            for scaler in Scaler::ALL {
                let Some(node) = autoscaler.get_mut(scaler.key()) else { continue };
                let Value::Table(table) = &mut node.value else { continue };
                only_known(table, scaler).map_err(|error| vec![error])?;
                if table.get("manifest").is_some() {
                    fill(table, scaler, &name, files, &mut notes)?;
                }
            }
        }
        if service.get("manifest").is_some() {
            updates.extend(workload::fill(service, &name, files, &mut notes)?.map(|update| (name, update)));
        }
        calls::policies(service, files, &mut notes)?;
        edges(service, files, &mut notes)?;
    }
    for source in tables_of(tree, "source") {
        edges(source, files, &mut notes)?;
    }
    for rollout in tables_of(tree, "rollout") {
        if rollout.get("manifest").is_some() {
            fill_rollout(rollout, files, &mut notes)?;
            continue;
        }
        let service = rollout.get("service").and_then(Node::text);
        let of = updates.iter().find(|(name, _)| service == Some(name));
        if let Some((_, update)) = of {
            workload::lay_under_rollout(rollout, update).map_err(|error| vec![error])?;
        }
    }
    Ok(notes.lines())
}

/// The tables of a list at the root, such as `[[service]]`.
fn tables_of<'a>(tree: &'a mut Node, list: &str) -> impl Iterator<Item = &'a mut Table> {
    let Value::Table(root) = &mut tree.value else { return None.into_iter().flatten() };
    let Some(Value::Array(items)) = root.get_mut(list).map(|node| &mut node.value) else {
        return None.into_iter().flatten();
    };
    let table = |node: &'a mut Node| match &mut node.value {
        Value::Table(table) => Some(table),
        _ => None,
    };
    Some(items.iter_mut().filter_map(table)).into_iter().flatten()
}

/// Fills the calling sides: `call.*` and, of a service, `callers`.
fn edges(owner: &mut Table, files: &mut Files, notes: &mut Notes) -> Result<(), Vec<Diagnostic>> {
    if let Some(Value::Table(callers)) = owner.get_mut("callers").map(|node| &mut node.value) {
        calls::edge(callers, files, notes)?;
    }
    if let Some(Value::Table(named)) = owner.get_mut("call").map(|node| &mut node.value) {
        for entry in &mut named.entries {
            if let Value::Table(edge) = &mut entry.node.value {
                calls::edge(edge, files, notes)?;
            }
        }
    }
    Ok(())
}

/// A key that is neither a setting nor goes with a manifest.
fn only_known(table: &Table, scaler: Scaler) -> Result<(), Diagnostic> {
    let keys = scaler.keys();
    let stranger = table.entries.iter().find(|entry| !keys.contains(&entry.key.name));
    stranger.map_or(Ok(()), |stranger| {
        let known = keys.iter().map(String::as_str);
        Err(Diagnostic::unknown("key", &stranger.key.name, known).at(stranger.key.place))
    })
}

/// A text that stands under `what`, and its place.
fn text_of(entry: Option<Entry>, what: &str) -> Result<Option<(String, Place)>, Diagnostic> {
    let Some(Entry { node, .. }) = entry else { return Ok(None) };
    let wrong = || Diagnostic::new(format!("`{what}` is a text, not {}", node.kind())).at(node.place);
    node.text().map(|text| Some((text.to_owned(), node.place))).ok_or_else(wrong)
}

/// The documents of the file or folder that is named at `place`.
fn documents(path: &str, place: Place, files: &mut Files) -> Result<Vec<Document>, Vec<Diagnostic>> {
    let path = files.resolve(place.file, path);
    manifest::load(&path, files).map_err(|mut errors| {
        // A file that is not there has no place of its own.
        for error in errors.iter_mut().filter(|error| error.place.is_none()) {
            error.place = Some(place);
        }
        errors
    })
}

/// Replaces `manifest` in the table of an autoscaler by what it says.
fn fill(
    table: &mut Table,
    scaler: Scaler,
    service: &str,
    files: &mut Files,
    notes: &mut Notes,
) -> Result<(), Vec<Diagnostic>> {
    let one = |error| vec![error];
    let path = text_of(table.remove("manifest"), "manifest").map_err(one)?;
    let name = text_of(table.remove("name"), "name").map_err(one)?;
    let names = metric_names(table.remove("metric-names")).map_err(one)?;
    let Some((path, place)) = path else { return Ok(()) };
    let documents = documents(&path, place, files)?;
    let (document, found) = chosen(&documents, scaler, name, service, place).map_err(one)?;
    notes.add(document);
    let settings = found.settings(document.place, &names, table).map_err(one)?;
    lay_under(table, settings, document.place);
    Ok(())
}

/// Replaces `manifest` in a rollout by what it says about its service.
fn fill_rollout(table: &mut Table, files: &mut Files, notes: &mut Notes) -> Result<(), Vec<Diagnostic>> {
    let one = |error| vec![error];
    let path = text_of(table.remove("manifest"), "manifest").map_err(one)?;
    let wanted = text_of(table.remove("workload"), "workload").map_err(one)?;
    let names = metric_names(table.remove("metric-names")).map_err(one)?;
    let Some((path, place)) = path else { return Ok(()) };
    let service = table.get("service").and_then(Node::text).unwrap_or_default();
    let (target, at) = wanted.unwrap_or_else(|| (service.to_owned(), place));
    let documents = documents(&path, place, files)?;
    let found = workload::update_of(&documents, &target, &names);
    let Some((document, update)) = found else {
        let known: Vec<&str> = documents.iter().filter_map(workload::rolled_out).collect();
        let message = format!("nothing in this manifest says how `{}` is rolled out", shortened(&target));
        let error = Diagnostic::new(message).at(at);
        return Err(vec![match known.first() {
            None => error.note("a Deployment, a Rollout or a Canary of Flagger would"),
            Some(first) => error.note(super::error::enumerated(&known)).hint(format!(
                "if another one is meant, write workload = \"{}\" beside `manifest`",
                shortened(first)
            )),
        }]);
    };
    notes.add(document);
    workload::lay_under_rollout(table, &update).map_err(one)
}

/// Adds what the table does not say itself.
fn lay_under(table: &mut Table, settings: Settings, place: Place) {
    for (key, node) in settings {
        if table.get(key).is_none() {
            table.put(Key { name: key.to_owned(), place }, node);
        }
    }
}

/// What the metrics of the cluster are here.
fn metric_names(entry: Option<Entry>) -> Result<Names, Diagnostic> {
    let Some(Entry { node, .. }) = entry else { return Ok(Names::new()) };
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
    scaler: Scaler,
    name: Option<(String, Place)>,
    service: &str,
    place: Place,
) -> Result<(&'a Document, Found<'a>), Diagnostic> {
    let all: Vec<(&Document, Found<'_>)> = documents
        .iter()
        .filter_map(|document| Some((document, Found::of(document)?)))
        .filter(|(_, found)| found.scaler() == scaler)
        .collect();
    let kind = scaler.kind();
    let Some((document, first)) = all.first().copied() else {
        return Err(Diagnostic::new(format!("there is no {kind} in this manifest")).at(place));
    };
    if let Some((name, place)) = name {
        let found = all.iter().find(|(document, _)| document.metadata.name == name).copied();
        let known = all.iter().map(|(document, _)| document.metadata.name.as_str());
        return found.ok_or_else(|| Diagnostic::unknown(kind, &name, known).at(place));
    }
    if let Some(found) = all.iter().find(|(document, found)| found.target(document).0 == service) {
        return Ok(*found);
    }
    let (target, at) = first.target(document);
    let message = format!(
        "this manifest scales `{}`, and the service here is called `{}`",
        shortened(target),
        shortened(service)
    );
    let hint = format!("if that is meant, write name = \"{}\" beside `manifest`", document.metadata.name);
    Err(Diagnostic::new(message).at(at).hint(hint))
}

fn number(value: u32, place: Place) -> Node {
    Node { value: Value::Integer(value.into()), place }
}

fn table(place: Place, entries: impl IntoIterator<Item = (&'static str, Node)>) -> Node {
    let entry = |(name, node): (&str, Node)| Entry { key: Key { name: name.to_owned(), place }, node };
    Node { value: Value::Table(Table { entries: entries.into_iter().map(entry).collect() }), place }
}

fn text(text: impl Into<String>, place: Place) -> Node {
    Node { value: Value::Text(text.into()), place }
}
