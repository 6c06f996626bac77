//! `simlab import`: a scenario that runs, from the manifests of a cluster.
//!
//! Manifests say what runs and how it is scaled. They do not say how long a request takes, who calls whom and how many
//! people come; the skeleton says where to write that, and its guesses are marked as such.

use std::fmt::Write as _;
use std::path::Path;

use super::error::Diagnostic;
use super::manifest::{self, Document, ManifestError, Object, PodTemplate, Source};
use super::production::{Containers, Found, Names, called, scaler_of};
use crate::units::quantity::Quantity;

/// The scenario for the manifests of a file or folder.
pub fn skeleton(path: &Path) -> Result<String, ManifestError> {
    let documents = if path.is_dir() { manifest::read_folder(path)? } else { manifest::read(path)? };
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or("imported");
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let mut text = header(&name, path, &documents);
    let mut services: Vec<&str> = Vec::new();
    for document in &documents {
        let Some(template) = template_of(document) else { continue };
        let name = document.metadata.name.as_str();
        if services.contains(&name) {
            let _ = writeln!(
                text,
                "\n# {}:{}: another workload called `{name}`, which would need a name of its own",
                document.file, document.line
            );
            continue;
        }
        service(&mut text, path, &documents, document, template);
        services.push(name);
    }
    for document in &documents {
        let Some(scaler) = Found::of(document) else { continue };
        let name = scaler.target(document).0;
        if !services.contains(&name) {
            scaled(&mut text, path, document, scaler, name);
            services.push(name);
        }
    }
    if services.is_empty() {
        text.push_str(
            "\n# There is no Deployment and no autoscaler among these manifests, so there is nothing that could run yet:\n",
        );
        text.push_str("#\n# [[service]]\n# name = \"...\"\n");
    }
    Ok(text)
}

/// What a workload runs.
const fn template_of(document: &Document) -> Option<&PodTemplate> {
    match &document.object {
        Object::Deployment(deployment) => Some(&deployment.template),
        Object::Rollout(rollout) => rollout.template.as_ref(),
        Object::Knative(knative) => Some(&knative.template),
        _ => None,
    }
}

/// What was read, and what was left out.
fn header(name: &str, path: &Path, documents: &[Document]) -> String {
    let mut text = format!(
        "# Written by `simlab import {}`. Every line with a `guess` waits for your figures; the rest is what the\n\
         # manifests say. Try: simlab run THIS-FILE\n",
        path.display()
    );
    for document in documents {
        if let Object::Ignored { kind, .. } = &document.object {
            let name = &document.metadata.name;
            let _ =
                writeln!(text, "# {}:{}: {kind} `{name}` has no effect here", document.file, document.line);
        }
    }
    let _ = write!(
        text,
        "\n[scenario]\nname = \"{name}\"\nduration = \"30min\"\nwarm-up = \"10min\"                    # longer than the autoscalers remember\nreplications = 5\n"
    );
    text
}

/// A workload of which nothing is known but what scales it.
fn scaled(text: &mut String, path: &Path, document: &Document, scaler: Found<'_>, name: &str) {
    let _ = writeln!(
        text,
        "\n# {}:{}, without the workload that it scales\n[[service]]\nname = \"{name}\"",
        document.file, document.line
    );
    let (names, missing) = guesses(scaler, None, name);
    let problem = missing.map(|what| format!("it follows {what}, which is not simulated"));
    if let Some(problem) = problem.or_else(|| scaler.refusal(document, &names)) {
        let _ = writeln!(text, "autoscaler = \"none\"   # {problem}");
    } else {
        let list = match listed(&names) {
            list if list.is_empty() => String::new(),
            list => format!(", metric-names = {{ {list} }}"),
        };
        let guess = if names.is_empty() { "" } else { "   # guess: metric-names" };
        let manifest = path.display().to_string();
        let _ = writeln!(text, "autoscaler.{} = {{ manifest = {manifest:?}{list} }}{guess}", scaler.key());
        waiting_room(text, scaler);
    }
    let mut instance = vec![("cores", "1".to_owned())];
    if let Found::Hpa(hpa) = scaler
        && let Some(container) = hpa.metrics.iter().find_map(|metric| match &metric.source {
            Source::ContainerResource { container, .. } => Some(container),
            _ => None,
        })
    {
        instance.push(("container", format!("{container:?}")));
    }
    instance.push(("workers", "32".to_owned()));
    instance.push(("start", "\"20s\"".to_owned()));
    if follows_memory(scaler) {
        instance.push(("memory", "\"512MiB\"".to_owned()));
        instance.push(("memory-use", memory_use(512 << 20)));
    }
    guessed_instance(text, &instance);
    traffic(text, name);
}

/// Where those wait who come while KEDA keeps no instance: a queue in production, which is no part of the manifest.
fn waiting_room(text: &mut String, scaler: Found<'_>) {
    if let Found::Keda(object) = scaler
        && object.min_replicas == 0
    {
        text.push_str("activator = {}   # guess: requests wait while there is no instance\n");
    }
}

/// Settings of an instance that no manifest holds.
fn guessed_instance(text: &mut String, guesses: &[(&str, String)]) {
    if !guesses.is_empty() {
        let list: Vec<String> = guesses.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        let keys: Vec<&str> = guesses.iter().map(|(key, _)| *key).collect();
        let _ = writeln!(text, "instance = {{ {} }}   # guess: {}", list.join(", "), keys.join(", "));
    }
}

/// A guess for an instance of so many bytes.
fn memory_use(size: i64) -> String {
    format!("{{ base = \"{}MiB\", per-attempt = \"1MiB\" }}", (size / 2) >> 20)
}

/// What it does, and for whom.
fn traffic(text: &mut String, name: &str) {
    let _ = write!(
        text,
        "[[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu lognormal(20ms, cv=1)\"]   # guess: what a request costs, and whom it calls (\"call other.get timeout=1s\")\n\
         \n[[source]]\nname = \"{name}-users\"\nto = \"{name}.get\"\ndeadline = \"2s\"                      # guess: how long they wait\n\
         arrivals.poisson = {{ rate = \"20/s\" }}   # guess: how many come; a file: {{ profile = \"file(load.csv:per-minute)\" }}\n"
    );
}

/// One workload.
fn service(
    text: &mut String,
    path: &Path,
    documents: &[Document],
    document: &Document,
    template: &PodTemplate,
) {
    let name = &document.metadata.name;
    let _ = writeln!(text, "\n# {}:{}", document.file, document.line);
    let _ = writeln!(
        text,
        "[[service]]\nname = \"{name}\"\nmanifest = {:?}   # replicas, requests, limits, grace period, autoscaler, budget",
        path.display().to_string()
    );
    let concurrency = match &document.object {
        Object::Knative(knative) => knative.container_concurrency.filter(|most| *most > 0),
        _ => None,
    };
    let probes = template.containers.iter().flat_map(|container| [&container.startup, &container.readiness]);
    let is_delayed = matches!(document.object, Object::Knative(_))
        && probes.flatten().any(|probe| probe.initial_delay > 0);
    let containers = Containers::of(template, name);
    let mut guesses = Vec::new();
    if containers.own("cpu", true).is_none() {
        let request = containers.own("cpu", false).map_or(1, Quantity::rounded_up);
        guesses.push(("cores", request.max(1).to_string()));
    }
    if concurrency.is_none() {
        guesses.push(("workers", "32".to_owned()));
    }
    if !is_delayed {
        guesses.push(("start", "\"20s\"".to_owned()));
    }
    let scaler = scaler_of(documents, document);
    if let Ok(Some((_, scaler))) = scaler
        && follows_memory(scaler)
    {
        let size = containers.own("memory", false).map_or(512 << 20, Quantity::rounded_up);
        guesses.push(("memory-use", memory_use(size)));
    }
    guessed_instance(text, &guesses);
    autoscaler(text, scaler, &containers, name);
    for sidecar in &containers.others {
        let _ = writeln!(
            text,
            "[[service.sidecar]]\nname = \"{}\"\ncost = \"0ms\"   # guess: core time that a request takes there",
            called(sidecar)
        );
    }
    traffic(text, name);
}

/// Whether it needs to know how much memory instances use.
fn follows_memory(scaler: Found<'_>) -> bool {
    match scaler {
        Found::Hpa(hpa) => hpa.metrics.iter().any(|metric| match &metric.source {
            Source::Resource { name } | Source::ContainerResource { name, .. } => name == "memory",
            _ => false,
        }),
        Found::Keda(object) => object.triggers.iter().any(|trigger| trigger.kind == "memory"),
        Found::Kpa(_) => false,
    }
}

/// A guess for every metric that has another name here; `autoscaler = "none"` where the manifest's cannot run.
fn autoscaler(
    text: &mut String,
    found: Result<Option<(&Document, Found<'_>)>, Diagnostic>,
    containers: &Containers<'_>,
    workload: &str,
) {
    let found = match found {
        Ok(None) => return,
        Ok(Some(found)) => found,
        Err(error) => {
            let _ = writeln!(text, "autoscaler = \"none\"   # {}", error.message);
            return;
        }
    };
    let (document, scaler) = found;
    let (names, missing) = guesses(scaler, Some(containers), workload);
    let problem = missing.map(|what| format!("it follows {what}, which is not simulated"));
    let problem = problem.or_else(|| scaler.refusal(document, &names));
    if let Some(problem) = problem {
        let _ = writeln!(
            text,
            "autoscaler = \"none\"   # not that of {}:{}: {problem}",
            document.file, document.line
        );
        return;
    }
    if !names.is_empty() {
        let _ = writeln!(text, "metric-names = {{ {} }}   # guess", listed(&names));
    }
    waiting_room(text, scaler);
}

/// Names of metrics as the entries of a table.
fn listed(names: &Names) -> String {
    let list: Vec<String> = names.iter().map(|(name, here)| format!("{} = \"{here}\"", key(name))).collect();
    list.join(", ")
}

/// Names for the metrics of an autoscaler, and one that there is nothing for.
fn guesses(scaler: Found<'_>, containers: Option<&Containers<'_>>, service: &str) -> (Names, Option<String>) {
    let (mut names, mut missing) = (Names::new(), None);
    let users = format!("source.{service}-users.requests-per-second");
    match scaler {
        Found::Hpa(hpa) => {
            for metric in &hpa.metrics {
                match &metric.source {
                    Source::Resource { .. } => {}
                    Source::ContainerResource { container, name } => {
                        let is_known = containers.is_none_or(|containers| {
                            let is_main = called(containers.main) == container;
                            let is_other = containers.others.iter().any(|other| called(other) == container);
                            is_main || is_other && name == "cpu"
                        });
                        if !is_known {
                            missing = Some(format!("the {name} of container {container}"));
                        }
                    }
                    Source::Pods(series) => {
                        names.insert(series.name.clone(), "concurrency".to_owned());
                    }
                    Source::Object { series, .. } | Source::External(series) => {
                        names.insert(series.name.clone(), users.clone());
                    }
                }
            }
        }
        Found::Keda(object) => {
            for trigger in object.triggers.iter().filter(|trigger| !trigger.is_resource()) {
                let name = trigger.name.as_ref().or_else(|| trigger.metadata.get("metricName"));
                names.insert(name.unwrap_or(&trigger.kind).clone(), format!("service.{service}.concurrency"));
            }
        }
        Found::Kpa(_) => {}
    }
    (names, missing)
}

/// A name as a key of TOML.
fn key(name: &str) -> String {
    let bare =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if bare { name.to_owned() } else { format!("{name:?}") }
}
