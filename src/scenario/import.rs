//! `simlab import`: a scenario that runs, from the manifests of a cluster.
//!
//! Manifests say what runs and how it is scaled. They do not say how long a request takes, who calls whom and how many
//! people come; the skeleton says where to write that, and its guesses are marked as such.

use std::fmt::Write as _;
use std::path::Path;

use super::manifest::{self, Deployment, Document, Hpa, ManifestError, Object, Quantity, Source};

/// The scenario for the manifests of a file or folder.
pub fn skeleton(path: &Path) -> Result<String, ManifestError> {
    let documents = if path.is_dir() { manifest::read_folder(path)? } else { manifest::read(path)? };
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or("imported");
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let mut text = header(&name, path, &documents);
    let mut services = 0;
    for document in &documents {
        if let Object::Deployment(deployment) = &document.object {
            let scaler = documents.iter().find_map(|other| match &other.object {
                Object::Autoscaler(hpa) if hpa.target.name == document.metadata.name => Some((other, hpa)),
                _ => None,
            });
            service(&mut text, document, deployment, scaler);
            services += 1;
        }
    }
    if services == 0 {
        text.push_str(
            "\n# There is no Deployment among these manifests, so there is nothing that could run yet:\n",
        );
        text.push_str("#\n# [[service]]\n# name = \"...\"\n");
    }
    Ok(text)
}

/// What was read, and what was left out.
fn header(name: &str, path: &Path, documents: &[Document]) -> String {
    let mut text = format!(
        "# Written by `simlab import {}`. Every line with a `guess` waits for your figures; the rest is what the\n\
         # manifests say. Try: simlab run THIS-FILE\n",
        path.display()
    );
    for document in documents {
        let what = match &document.object {
            Object::Deployment(_) | Object::Autoscaler(_) => continue,
            Object::Ignored { kind, .. } => format!("{kind} `{}` has no effect here", document.metadata.name),
            Object::Disruption(_) => {
                format!("PodDisruptionBudget `{}` is not taken over yet", document.metadata.name)
            }
            Object::ScaledObject(_) => {
                format!("ScaledObject `{}` is not taken over yet", document.metadata.name)
            }
            Object::Knative(_) => {
                format!("Knative Service `{}` is not taken over yet", document.metadata.name)
            }
        };
        let _ = writeln!(text, "# {}:{}: {what}", document.file, document.line);
    }
    let _ = write!(
        text,
        "\n[scenario]\nname = \"{name}\"\nduration = \"30min\"\nwarm-up = \"10min\"                    # longer than the autoscalers remember\nreplications = 5\n"
    );
    text
}

/// One Deployment with whoever scales it.
fn service(
    text: &mut String,
    document: &Document,
    deployment: &Deployment,
    scaler: Option<(&Document, &Hpa)>,
) {
    let name = &document.metadata.name;
    let template = &deployment.template;
    let sum = |resource: &str, limits: bool| {
        let of = |container: &manifest::Container| {
            let resources = &container.resources;
            let list = if limits { &resources.limits } else { &resources.requests };
            list.get(resource).map(|quantity| quantity.milli())
        };
        let amounts: Option<Vec<i64>> = template.containers.iter().map(of).collect();
        amounts.map(|amounts| amounts.into_iter().sum::<i64>())
    };
    let (request, limit) = (sum("cpu", false), sum("cpu", true));
    let cores = limit.or(request).map_or(1, |milli| (milli + 999) / 1000).max(1);
    let fewest = scaler.map_or(1, |(_, hpa)| hpa.min_replicas);
    let replicas = deployment.replicas.unwrap_or(fewest).max(fewest);
    let _ = writeln!(text, "\n# {}:{}", document.file, document.line);
    if template.containers.len() > 1 {
        let names: Vec<&str> = template.containers.iter().map(|container| container.name.as_str()).collect();
        let _ = writeln!(text, "# One instance stands for all its containers: {}.", names.join(", "));
    }
    let _ = writeln!(text, "[[service]]\nname = \"{name}\"\nreplicas = {replicas}");
    let mut instance = format!("cores = {cores}, workers = 32, start = \"20s\"");
    if let Some(request) = request {
        let _ = write!(instance, ", cpu-request = {}", request as f64 / 1e3);
    }
    if let Some(limit) = limit.filter(|limit| *limit > 0) {
        let _ = write!(instance, ", cpu-limit = {}", limit as f64 / 1e3);
    }
    if let Some(memory) = sum("memory", false) {
        let mebibytes = Quantity::from_milli(memory).rounded_up() / (1 << 20);
        let _ = write!(instance, ", memory = \"{}MiB\"", mebibytes.max(1));
    }
    let _ = write!(instance, ", grace = \"{}s\"", template.termination_grace_period);
    let _ = writeln!(text, "instance = {{ {instance} }}   # guess: workers, start");
    if let Some((other, hpa)) = scaler {
        autoscaler(text, name, other, hpa);
    }
    let _ = write!(
        text,
        "[[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu lognormal(20ms, cv=1)\"]   # guess: what a request costs, and whom it calls (\"call other.get timeout=1s\")\n\
         \n[[source]]\nname = \"{name}-users\"\nto = \"{name}.get\"\ndeadline = \"2s\"                      # guess: how long they wait\n\
         arrivals.poisson = {{ rate = \"{}/s\" }}   # guess: how many come; a file: {{ profile = \"file(load.csv:per-minute)\" }}\n",
        20 * replicas.max(1)
    );
}

/// `autoscaler.hpa`, with a guess for every metric that has another name here.
fn autoscaler(text: &mut String, service: &str, document: &Document, hpa: &Hpa) {
    let mut names = Vec::new();
    let mut missing = None;
    for metric in &hpa.metrics {
        match &metric.source {
            Source::Resource { name } if name == "cpu" => {}
            Source::Resource { name } => missing = Some(name.clone()),
            Source::ContainerResource { container, .. } => missing = Some(format!("container {container}")),
            Source::Pods(series) => names.push(format!("{} = \"concurrency\"", key(&series.name))),
            Source::Object { series, .. } | Source::External(series) => {
                let here = format!("source.{service}-users.requests-per-second");
                names.push(format!("{} = \"{here}\"", key(&series.name)));
            }
        }
    }
    names.sort();
    names.dedup();
    let mut line = format!(
        "autoscaler.hpa = {{ manifest = \"{}\", name = \"{}\"",
        document.file, document.metadata.name
    );
    if !names.is_empty() {
        let _ = write!(line, ", metric-names = {{ {} }}", names.join(", "));
    }
    line.push_str(" }");
    match missing {
        Some(what) => {
            let _ = writeln!(text, "# {line}   # it follows {what}, which is not simulated");
        }
        None if names.is_empty() => {
            let _ = writeln!(text, "{line}");
        }
        None => {
            let _ = writeln!(text, "{line}   # guess: metric-names");
        }
    }
}

/// A name as a key of TOML.
fn key(name: &str) -> String {
    let bare =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if bare { name.to_owned() } else { format!("{name:?}") }
}
