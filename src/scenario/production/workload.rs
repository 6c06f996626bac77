//! `[[service]] manifest = "k8s/"`: a Deployment or a Service of Knative with all that is about it.

use std::collections::BTreeMap;

use super::rollouts::{self, Way};
use super::scalers::Settings;
use super::{Found, Names, Notes, documents, lay_under, metric_names, number, table, text, text_of};
use crate::policies::rollout::RolloutSettings;
use crate::scenario::error::{Diagnostic, Place, enumerated, shortened};
use crate::scenario::files::Files;
use crate::scenario::manifest::{
    Action, Budget, Container, CountOrPercent, Deployment, Document, Hook, Knative, Object, PodTemplate,
    Probe, Resources, Rollout, Strategy,
};
use crate::scenario::tree::{Key, Node, Table, Value};
use crate::units::quantity::Quantity;

/// What runs.
#[derive(Clone, Copy)]
enum Workload<'a> {
    Deployment(&'a Deployment),
    Rollout(&'a Rollout, &'a PodTemplate),
    Knative(&'a Knative),
}

impl<'a> Workload<'a> {
    fn of(document: &'a Document) -> Option<Self> {
        match &document.object {
            Object::Deployment(deployment) => Some(Self::Deployment(deployment)),
            Object::Rollout(rollout) => Some(Self::Rollout(rollout, rollout.template.as_ref()?)),
            Object::Knative(knative) => Some(Self::Knative(knative)),
            _ => None,
        }
    }

    const fn template(self) -> &'a PodTemplate {
        match self {
            Self::Deployment(deployment) => &deployment.template,
            Self::Rollout(_, template) => template,
            Self::Knative(knative) => &knative.template,
        }
    }
}

/// Replaces `manifest` in the table of a service by what it says.
pub(super) fn fill(
    service: &mut Table,
    name: &str,
    files: &mut Files,
    notes: &mut Notes,
) -> Result<Option<Update>, Vec<Diagnostic>> {
    let one = |error| vec![error];
    let path = text_of(service.remove("manifest"), "manifest").map_err(one)?;
    let wanted = text_of(service.remove("workload"), "workload").map_err(one)?;
    let names = metric_names(service.remove("metric-names")).map_err(one)?;
    let Some((path, place)) = path else { return Ok(None) };
    let documents = documents(&path, place, files)?;
    let (document, workload) = chosen(&documents, wanted, name, place).map_err(one)?;
    notes.add(document);
    let at = document.place;
    // Who says himself what scales the service need not choose among those of the manifest.
    let scaler = match scaler_of(&documents, document) {
        Err(_) if service.get("autoscaler").is_some() => None,
        found => found.map_err(one)?,
    };

    lay_under(
        service,
        vec![("replicas", number(replicas(workload, scaler.map(|(_, found)| found)), at))],
        at,
    );
    let containers = Containers::of(workload.template(), &document.metadata.name);
    let own = service.get("instance").and_then(Node::table).cloned().unwrap_or_default();
    lay_under_table(service, "instance", instance(workload, &containers, &own, at), at);
    if !matches!(workload, Workload::Knative(_)) {
        for (kind, probe) in probes(containers.main, at) {
            lay_under_probe(service, kind, &probe, at);
        }
    }
    for &sidecar in &containers.others {
        for (kind, probe) in [
            ("startupProbe", &sidecar.startup),
            ("livenessProbe", &sidecar.liveness),
            ("readinessProbe", &sidecar.readiness),
        ] {
            if probe.is_some() {
                let what = format!("the {kind} of container {}", shortened(called(sidecar)));
                notes.say(document, files.line(sidecar.place), what);
            }
        }
        lay_under_sidecar(service, sidecar, at);
    }
    let is_idle = |container: &&Container| {
        let is_main = std::ptr::eq(*container, containers.main);
        container.resources.limits.contains_key("memory") && !(is_main && uses_memory(&own))
    };
    for container in containers.all().filter(is_idle) {
        let what = format!("the memory limit of container {}", shortened(called(container)));
        notes.say(document, files.line(container.place), what);
    }
    if let Some((document, bound)) = disruption_budget(&documents, workload) {
        notes.add(document);
        lay_under(service, vec![("disruption-budget", bound)], document.place);
    }
    if let Some((document, found)) = scaler {
        let key = found.scaler().key();
        // What the scenario says wins: another autoscaler, none, or settings of the same one.
        let own = match service.get("autoscaler").map(|node| &node.value) {
            None => Some(Table::default()),
            Some(Value::Table(table)) => {
                table.get(key).and_then(Node::table).cloned().filter(|_| table.entries.len() == 1)
            }
            Some(_) => None,
        };
        if let Some(mut own) = own {
            notes.add(document);
            let at = document.place;
            let settings = found.settings(at, &names, &own).map_err(one)?;
            lay_under(&mut own, settings, at);
            service.remove("autoscaler");
            let own = Node { value: Value::Table(own), place: at };
            service.put(Key { name: "autoscaler".to_owned(), place: at }, table(at, [(key, own)]));
        }
    }
    if let Some(hook) = &containers.main.pre_stop
        && hook.seconds().is_none()
    {
        let what = format!("the preStop hook of container {}", shortened(called(containers.main)));
        notes.say(document, files.line(containers.main.place), what);
    }
    let update = update_of(&documents, &document.metadata.name, &names);
    Ok(update.map(|(document, update)| {
        notes.add(document);
        update
    }))
}

/// The workload whose updates a document describes.
pub(super) fn rolled_out(document: &Document) -> Option<&str> {
    match &document.object {
        Object::Deployment(_) => Some(&document.metadata.name),
        _ => rollouts::target(document),
    }
}

/// How a workload moves to another version: as a Rollout or a Canary says that is about it, or as its Deployment does.
pub(super) fn update_of<'a>(
    documents: &'a [Document],
    target: &str,
    names: &Names,
) -> Option<(&'a Document, Update)> {
    let of_it = || documents.iter().filter(|document| rolled_out(document) == Some(target));
    let way = of_it().find_map(|document| Some((document, rollouts::way(document, documents, names)?)));
    if let Some((document, way)) = way {
        return Some((document, Update { way, place: document.place }));
    }
    of_it().find_map(|document| match &document.object {
        Object::Deployment(deployment) => Some((document, Update::of(deployment, document.place))),
        _ => None,
    })
}

/// How a workload moves to another version.
pub(super) struct Update {
    /// The policy; or why it cannot be followed, which matters only to whoever does.
    way: Result<Way, Diagnostic>,
    place: Place,
}

impl Update {
    fn of(deployment: &Deployment, place: Place) -> Self {
        let seconds = |seconds: u32| text(format!("{seconds}s"), place);
        let amount = |amount: CountOrPercent| match amount {
            CountOrPercent::Count(count) => number(count, place),
            CountOrPercent::Percent(percent) => text(format!("{percent}%"), place),
        };
        let mut settings = vec![
            ("min-ready", seconds(deployment.min_ready)),
            ("progress-deadline", seconds(deployment.progress_deadline)),
            ("revision-history-limit", number(deployment.revision_history_limit, place)),
        ];
        let how = match deployment.strategy {
            Strategy::Recreate => "recreate",
            Strategy::RollingUpdate { max_surge, max_unavailable } => {
                settings.push(("max-surge", amount(max_surge)));
                settings.push(("max-unavailable", amount(max_unavailable)));
                "rolling"
            }
        };
        Self { way: Ok((how, settings)), place }
    }
}

/// Lets a rollout go as the manifest of its service says, unless the scenario has another policy for it; settings of the
/// same one that the scenario has win.
pub(super) fn lay_under_rollout(rollout: &mut Table, update: &Update) -> Result<(), Diagnostic> {
    let own = RolloutSettings::KINDS.iter().map(|kind| kind.name).find(|name| rollout.get(name).is_some());
    let (how, settings) = match (&update.way, own) {
        (Ok((how, _)), Some(own)) if *how != own => return Ok(()),
        (Err(_), Some(_)) => return Ok(()),
        (Err(error), None) => return Err(error.clone()),
        (Ok(way), _) => way,
    };
    lay_under_table(rollout, how, settings.clone(), update.place);
    Ok(())
}

/// Adds what a table inside of the table does not say itself.
fn lay_under_table(service: &mut Table, key: &str, settings: Settings, place: Place) {
    if service.get(key).is_none() {
        let empty = Node { value: Value::Table(Table::default()), place };
        service.put(Key { name: key.to_owned(), place }, empty);
    }
    if let Some(Value::Table(inner)) = service.get_mut(key).map(|node| &mut node.value) {
        lay_under(inner, settings, place);
    }
}

/// Adds a probe, or what the scenario does not say of it.
fn lay_under_probe(service: &mut Table, kind: &'static str, probe: &Node, place: Place) {
    let own = service.get("probe").and_then(Node::table).and_then(|probes| probes.get(kind));
    let says = |key: &str| own.and_then(Node::table).is_some_and(|own| own.get(key).is_some());
    let asks = says("endpoint") || says("cost") || says("own-port");
    let Value::Table(found) = &probe.value else { return };
    // Whoever says what it asks for knows better than the kind of probe.
    let settings: Vec<(String, Node)> = found
        .entries
        .iter()
        .filter(|entry| !(asks && entry.key.name == "own-port"))
        .map(|entry| (entry.key.name.clone(), entry.node.clone()))
        .collect();
    if service.get("probe").is_none() {
        let empty = Node { value: Value::Table(Table::default()), place };
        service.put(Key { name: "probe".to_owned(), place }, empty);
    }
    let Some(Value::Table(probes)) = service.get_mut("probe").map(|node| &mut node.value) else { return };
    if probes.get(kind).is_none() {
        let empty = Node { value: Value::Table(Table::default()), place };
        probes.put(Key { name: kind.to_owned(), place }, empty);
    }
    if let Some(Value::Table(inner)) = probes.get_mut(kind).map(|node| &mut node.value) {
        for (name, node) in settings {
            if inner.get(&name).is_none() {
                inner.put(Key { name, place }, node);
            }
        }
    }
}

/// The workload that is meant: the one of that name, or of the service's own.
fn chosen<'a>(
    documents: &'a [Document],
    wanted: Option<(String, Place)>,
    service: &str,
    place: Place,
) -> Result<(&'a Document, Workload<'a>), Diagnostic> {
    let all: Vec<(&Document, Workload<'_>)> =
        documents.iter().filter_map(|document| Some((document, Workload::of(document)?))).collect();
    if all.is_empty() {
        let message =
            "there is no Deployment, no Rollout with a template and no Service of Knative in this manifest";
        return Err(Diagnostic::new(message).at(place));
    }
    let known: Vec<&str> = all.iter().map(|(document, _)| document.metadata.name.as_str()).collect();
    let named = |name: &str| all.iter().find(|(document, _)| document.metadata.name == name).copied();
    if let Some((wanted, place)) = wanted {
        let unknown = || Diagnostic::unknown("workload", &wanted, known.iter().copied()).at(place);
        return named(&wanted).ok_or_else(unknown);
    }
    named(service).ok_or_else(|| {
        let message = format!("no workload in this manifest is called `{}`", shortened(service));
        let hint = format!(
            "if another one is meant, write workload = \"{}\" beside `manifest`",
            shortened(known[0])
        );
        Diagnostic::new(message).at(place).note(enumerated(&known)).hint(hint)
    })
}

/// Who scales the workload; two would fight over it.
pub(in crate::scenario) fn scaler_of<'a>(
    documents: &'a [Document],
    workload: &'a Document,
) -> Result<Option<(&'a Document, Found<'a>)>, Diagnostic> {
    let mut all = documents.iter().filter_map(|document| Some((document, Found::of(document)?))).filter(
        |(document, found)| {
            let is_itself = std::ptr::eq(*document, workload);
            match found {
                Found::Kpa(_) => is_itself,
                _ => found.target(document).0 == workload.metadata.name,
            }
        },
    );
    let first = all.next();
    match all.next() {
        None => Ok(first),
        Some((second, _)) => {
            let message = format!("two autoscalers scale `{}`", shortened(&workload.metadata.name));
            Err(Diagnostic::new(message).at(second.place).hint("leave one of them out"))
        }
    }
}

/// Instances at the start: what is written, or the fewest that the autoscaler keeps.
fn replicas(workload: Workload<'_>, scaler: Option<Found<'_>>) -> u32 {
    let fewest = match scaler {
        Some(Found::Hpa(hpa)) => hpa.min_replicas.max(1),
        Some(Found::Keda(object)) => object.min_replicas.max(1),
        Some(Found::Kpa(knative)) => {
            let found = &knative.autoscaling;
            found.min_scale.unwrap_or(0).max(found.initial_scale.unwrap_or(1))
        }
        None => 1,
    };
    match workload {
        Workload::Deployment(deployment) => deployment.replicas.unwrap_or(fewest),
        Workload::Rollout(rollout, _) => rollout.replicas.unwrap_or(fewest),
        Workload::Knative(_) => fewest,
    }
}

/// Who is who in a pod.
pub(in crate::scenario) struct Containers<'a> {
    template: &'a PodTemplate,
    /// What does the work: the one that is called like the workload, or the first.
    pub(in crate::scenario) main: &'a Container,
    /// All others that keep running.
    pub(in crate::scenario) others: Vec<&'a Container>,
}

impl<'a> Containers<'a> {
    /// Those of a workload called `name`.
    pub(in crate::scenario) fn of(template: &'a PodTemplate, name: &str) -> Self {
        let list = &template.containers;
        let at = list.iter().position(|container| container.name == name).unwrap_or(0);
        let first = template.init_containers.iter().filter(|container| container.sidecar);
        let others = list.iter().enumerate().filter(|(other, _)| *other != at);
        let others = others.map(|(_, container)| container).chain(first).collect();
        Self { template, main: &list[at], others }
    }

    fn all(&self) -> impl Iterator<Item = &'a Container> {
        std::iter::once(self.main).chain(self.others.iter().copied())
    }

    /// Request or limit of the container that does the work. What the whole pod has goes to it, less what the others ask
    /// for.
    pub(in crate::scenario) fn own(&self, resource: &str, limits: bool) -> Option<Quantity> {
        let of = |resources: &'a Resources| {
            let list = if limits { &resources.limits } else { &resources.requests };
            list.get(resource).copied()
        };
        let shared = || {
            let whole = of(&self.template.resources)?;
            let others = self.others.iter().filter_map(|other| of(&other.resources));
            let left = others.fold(whole.milli(), |left, other| left.saturating_sub(other.milli()));
            (left > 0).then(|| Quantity::from_milli(left))
        };
        of(&self.main.resources).or_else(shared)
    }
}

/// The name of a container; Knative gives one to a single container that has none.
pub(in crate::scenario) fn called(container: &Container) -> &str {
    if container.name.is_empty() { "user-container" } else { &container.name }
}

fn cores(quantity: Quantity, place: Place) -> Node {
    Node { value: Value::Float(quantity.milli() as f64 / 1e3), place }
}

fn bytes(quantity: Quantity, place: Place) -> Node {
    text(format!("{}B", quantity.rounded_up()), place)
}

/// Whether the scenario says how much memory an instance uses; without that a limit would mean nothing.
fn uses_memory(own: &Table) -> bool {
    own.get("memory-use").is_some()
}

/// One pod. `own` is what the scenario says about it.
fn instance(workload: Workload<'_>, containers: &Containers<'_>, own: &Table, place: Place) -> Settings {
    let template = workload.template();
    let mut list = vec![("container", text(called(containers.main), place))];
    let (request, limit) = (containers.own("cpu", false), containers.own("cpu", true));
    // So many whole cores are as good as a quota of them, unless the scenario knows of more.
    let is_whole = |limit: &Quantity| limit.milli() % 1000 == 0 && own.get("cores").is_none();
    let is_fifo = own.get("cpu").and_then(Node::text) == Some("fifo");
    match limit.filter(|limit| !is_whole(limit) && !is_fifo) {
        Some(limit) => list.push(("cpu-limit", cores(limit, place))),
        None => {
            if let Some(whole) = limit.or(request).filter(|_| own.get("cpu-limit").is_none()) {
                let whole = u32::try_from(whole.rounded_up()).unwrap_or(u32::MAX).max(1);
                list.push(("cores", number(whole, place)));
            }
        }
    }
    list.push(("cpu-request", cores(request.unwrap_or_default(), place)));
    list.extend(containers.own("memory", false).map(|memory| ("memory", bytes(memory, place))));
    if uses_memory(own) {
        list.extend(containers.own("memory", true).map(|limit| ("memory-limit", bytes(limit, place))));
    }
    list.push(("grace", text(format!("{}s", template.termination_grace_period), place)));
    if let Some(seconds) = containers.main.pre_stop.as_ref().and_then(Hook::seconds) {
        list.push(("pre-stop", text(format!("{seconds}s"), place)));
    }
    if let Workload::Knative(knative) = workload
        && let Some(most) = knative.container_concurrency.filter(|most| *most > 0)
    {
        list.push(("workers", number(most, place)));
    }
    if let Workload::Knative(_) = workload {
        // Its queue-proxy probes in its own way; only the delay is taken over.
        let delays =
            template.containers.iter().flat_map(|container| [&container.startup, &container.readiness]);
        let delay = delays.flatten().map(|probe| probe.initial_delay).max().unwrap_or(0);
        if delay > 0 {
            list.push(("start", text(format!("{delay}s"), place)));
        }
    }
    list
}

/// What the kubelet asks the container that does the work, and how often. A command and a connection that only has to be
/// accepted need no worker.
fn probes(container: &Container, place: Place) -> Settings {
    let written = [
        ("startup", &container.startup),
        ("liveness", &container.liveness),
        ("readiness", &container.readiness),
    ];
    let one = |probe: &Probe| {
        let seconds = |seconds: u32| text(format!("{seconds}s"), place);
        let mut list = vec![
            ("initial-delay", seconds(probe.initial_delay)),
            ("period", seconds(probe.period)),
            ("timeout", seconds(probe.timeout)),
            ("success-threshold", number(probe.success_threshold, place)),
            ("failure-threshold", number(probe.failure_threshold, place)),
        ];
        if matches!(probe.action, Action::Exec(_) | Action::Tcp) {
            list.push(("own-port", Node { value: Value::Boolean(true), place }));
        }
        table(place, list)
    };
    written.into_iter().filter_map(|(kind, probe)| Some((kind, one(probe.as_ref()?)))).collect()
}

/// Another container, under what the scenario says of the one with its name.
fn lay_under_sidecar(service: &mut Table, container: &Container, place: Place) {
    let of = |list: &BTreeMap<String, Quantity>, resource: &str| list.get(resource).copied();
    let Resources { requests, limits } = &container.resources;
    let mut settings = vec![
        ("cpu-request", cores(of(requests, "cpu").unwrap_or_default(), place)),
        ("memory", bytes(of(requests, "memory").unwrap_or_default(), place)),
    ];
    settings.extend(of(limits, "cpu").map(|limit| ("cpu-limit", cores(limit, place))));
    if service.get("sidecar").is_none() {
        let empty = Node { value: Value::Array(Vec::new()), place };
        service.put(Key { name: "sidecar".to_owned(), place }, empty);
    }
    let Some(Value::Array(sidecars)) = service.get_mut("sidecar").map(|node| &mut node.value) else { return };
    let name = called(container);
    let at = sidecars.iter().position(|sidecar| sidecar.name() == Some(name)).unwrap_or_else(|| {
        sidecars.push(table(place, [("name", text(name, place))]));
        sidecars.len() - 1
    });
    if let Value::Table(own) = &mut sidecars[at].value {
        lay_under(own, settings, place);
    }
}

/// The budget that protects the workload's pods.
fn disruption_budget<'a>(documents: &'a [Document], workload: Workload<'_>) -> Option<(&'a Document, Node)> {
    documents.iter().find_map(|document| {
        let Object::Disruption(found) = &document.object else { return None };
        if !found.selector.as_ref()?.matches(&workload.template().labels) {
            return None;
        }
        let place = document.place;
        let amount = |amount: CountOrPercent| match amount {
            CountOrPercent::Count(count) => number(count, place),
            CountOrPercent::Percent(percent) => text(format!("{percent}%"), place),
        };
        let bound = match found.budget? {
            Budget::MinAvailable(least) => ("min-available", amount(least)),
            Budget::MaxUnavailable(most) => ("max-unavailable", amount(most)),
        };
        Some((document, table(place, [bound])))
    })
}
