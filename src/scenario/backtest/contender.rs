//! Who takes part in a backtest: an autoscaler out of a manifest, or one as a scenario writes it.

use std::path::{Component, Path};

use super::{FIXED, named, quoted};
use crate::scenario::error::{Diagnostic, ScenarioError, shortened};
use crate::scenario::manifest::{
    self, Document, Hpa, ManifestError, Object, PodTemplate, ScaledObject, Source,
};
use crate::scenario::production::{Containers, Found};
use crate::units::quantity::Quantity;

/// One policy that takes part.
#[derive(Clone, Debug)]
pub struct Contender {
    pub(super) name: String,
    pub(super) title: String,
    /// Its line under `[strategy.service.NAME]`.
    pub(super) setting: String,
    /// Bounds of replicas, if it has some.
    pub(super) bounds: Option<(u32, u32)>,
    /// Whether it follows figures that thinning would change.
    pub(super) counts_requests: bool,
    /// Seconds between its looks.
    pub(super) period: f64,
    /// Whether it follows memory.
    pub(super) follows_memory: bool,
    /// A container that it follows.
    pub(super) container: Option<String>,
    /// What it scales, if that stands beside it.
    pub(super) workload: Option<Workload>,
    pub(super) notes: Vec<String>,
}

/// What a manifest says about one instance.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Workload {
    /// Its file as the scenario calls it, and as messages do.
    pub(super) path: String,
    pub(super) file: String,
    pub(super) name: String,
    pub(super) replicas: Option<u32>,
    /// Cores that an instance can use at most.
    pub(super) cores: f64,
    /// Requests that it takes at one moment.
    pub(super) workers: Option<u32>,
}

impl Workload {
    fn of(documents: &[Document], name: &str, folder: &Path) -> Option<Self> {
        let of = |document: &Document, template: &PodTemplate, replicas, workers| {
            let containers = Containers::of(template, name);
            let limit = containers.own("cpu", true).map(|limit| limit.milli() as f64 / 1e3);
            let request = || containers.own("cpu", false).map_or(1, Quantity::rounded_up).max(1) as f64;
            Self {
                path: seen_from(folder, &document.file),
                file: document.file.clone(),
                name: name.to_owned(),
                replicas,
                cores: limit.unwrap_or_else(request),
                workers,
            }
        };
        documents.iter().filter(|document| document.metadata.name == name).find_map(
            |document| match &document.object {
                Object::Deployment(found) => Some(of(document, &found.template, found.replicas, None)),
                Object::Knative(found) => {
                    let workers = found.container_concurrency.filter(|most| *most > 0);
                    Some(of(document, &found.template, None, workers))
                }
                _ => None,
            },
        )
    }
}

/// The policy that a manifest holds for one target, and the name of that target. `service` chooses among several; the
/// scenario will stand in `folder`.
pub fn of_manifest(
    path: &str,
    folder: &Path,
    service: Option<&str>,
    metrics: &[(String, String)],
) -> Result<(String, Contender), ManifestError> {
    let documents = if Path::new(path).is_dir() {
        manifest::read_folder(Path::new(path))?
    } else {
        manifest::read(Path::new(path))?
    };
    let wrong = |error: Diagnostic| Err(ScenarioError::new(vec![error], Vec::new()));
    let scalers: Vec<(&Document, Found<'_>, &str)> = documents
        .iter()
        .filter_map(|document| {
            let found = Found::of(document)?;
            Some((document, found, found.target(document).0))
        })
        .filter(|(.., target)| service.is_none_or(|service| service == *target))
        .collect();
    let stem = Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or("manifest");
    let (document, found, target) = match scalers[..] {
        [one] => one,
        [] => {
            let what = service.map_or_else(String::new, |service| format!(" for `{}`", shortened(service)));
            return wrong(
                Diagnostic::new(format!("`{path}` holds no autoscaler{what}"))
                    .hint("a HorizontalPodAutoscaler, a ScaledObject or a Service of Knative is expected"),
            );
        }
        _ => {
            let targets: Vec<String> =
                scalers.iter().map(|(.., target)| format!("`{}`", shortened(target))).collect();
            return wrong(
                Diagnostic::new(format!("`{path}` scales several things: {}", targets.join(", ")))
                    .hint(format!("say which one, as in --service {}", shortened(scalers[0].2))),
            );
        }
    };
    let mut follows = Follows::new(metrics);
    let (kind, period, bounds) = match found {
        Found::Hpa(hpa) => {
            follows.horizontal(hpa, target).map_err(|error| ScenarioError::new(vec![error], Vec::new()))?;
            ("HPA", 15.0, (hpa.min_replicas, hpa.max_replicas))
        }
        Found::Keda(scaled) => {
            follows.triggers(scaled, target);
            ("ScaledObject", 15.0, (scaled.min_replicas, scaled.max_replicas))
        }
        Found::Kpa(knative) => {
            let scaling = &knative.autoscaling;
            follows.counts_requests = scaling.metric.as_deref() == Some("rps");
            let most = scaling.max_scale.filter(|most| *most > 0).unwrap_or(u32::MAX);
            ("Knative", 2.0, (scaling.min_scale.unwrap_or(0), most))
        }
    };
    let contender = Contender {
        name: named(stem),
        title: format!("{kind} {} of {}", document.metadata.name, document.file),
        setting: format!(
            "autoscaler.{} = {{ manifest = {}, name = {}{} }}",
            found.key(),
            quoted(&seen_from(folder, &document.file)),
            quoted(&document.metadata.name),
            follows.names()
        ),
        bounds: Some((bounds.0.max(1), bounds.1)),
        counts_requests: follows.counts_requests,
        period,
        follows_memory: follows.memory,
        container: follows.container,
        workload: Workload::of(&documents, target, folder),
        notes: follows.notes,
    };
    Ok((named(target), contender))
}

/// What an autoscaler follows, with a guess for every metric that has another name here.
struct Follows<'a> {
    given: &'a [(String, String)],
    names: Vec<String>,
    notes: Vec<String>,
    counts_requests: bool,
    memory: bool,
    container: Option<String>,
}

impl<'a> Follows<'a> {
    fn new(given: &'a [(String, String)]) -> Self {
        let (names, notes) = (Vec::new(), Vec::new());
        Self { given, names, notes, counts_requests: false, memory: false, container: None }
    }

    fn given(&self, name: &str) -> Option<String> {
        self.given.iter().find(|(there, _)| there == name).map(|(_, here)| here.clone())
    }

    fn metric(&mut self, name: &str, guess: String) {
        let here = self.given(name).unwrap_or_else(|| {
            self.notes.push(format!("metric `{}` is taken to be {guess} [--metric {0}=..]", shortened(name)));
            guess
        });
        self.counts_requests |= here.ends_with("per-second");
        self.names.push(format!("{} = {}", quoted(name), quoted(&here)));
    }

    fn horizontal(&mut self, hpa: &Hpa, target: &str) -> Result<(), Diagnostic> {
        for metric in &hpa.metrics {
            match &metric.source {
                Source::Resource { name } => self.memory |= name == "memory",
                Source::ContainerResource { name, container } => {
                    self.memory |= name == "memory";
                    self.container.get_or_insert_with(|| container.clone());
                }
                Source::Pods(series) => {
                    let name = series.name.to_lowercase();
                    let is_rate = ["per_second", "persecond", "rps", "qps", "rate"];
                    if is_rate.iter().any(|word| name.contains(word)) && self.given(&series.name).is_none() {
                        let name = shortened(&series.name);
                        let message = format!(
                            "the HPA of `{}` follows `{name}` of each pod, and rates of single instances are not simulated",
                            shortened(target)
                        );
                        return Err(Diagnostic::new(message).hint(format!(
                            "if requests in flight are near enough, add --metric {name}=concurrency"
                        )));
                    }
                    self.metric(&series.name, "concurrency".to_owned());
                }
                Source::Object { series, .. } | Source::External(series) => {
                    self.metric(&series.name, format!("service.{}.requests-per-second", named(target)));
                }
            }
        }
        Ok(())
    }

    fn triggers(&mut self, scaled: &ScaledObject, target: &str) {
        for trigger in &scaled.triggers {
            self.memory |= trigger.kind == "memory";
            if trigger.is_resource() || trigger.kind == "cron" {
                continue;
            }
            let name = trigger.name.as_ref().or_else(|| trigger.metadata.get("metricName"));
            let what = if trigger.kind == "prometheus" { "requests-per-second" } else { "queue-length" };
            self.metric(name.unwrap_or(&trigger.kind), format!("service.{}.{what}", named(target)));
        }
    }

    fn names(&mut self) -> String {
        self.names.sort();
        self.names.dedup();
        self.notes.sort();
        self.notes.dedup();
        if self.names.is_empty() {
            return String::new();
        }
        format!(", metric-names = {{ {} }}", self.names.join(", "))
    }
}

/// `NAME = { .. }`, an autoscaler as a scenario would have it.
pub fn of_setting(text: &str) -> Contender {
    let name = text.split(['=', '.', ' ']).next().unwrap_or_default();
    Contender {
        name: named(name),
        title: String::new(),
        setting: format!("autoscaler.{}", text.trim()),
        bounds: None,
        counts_requests: true,
        period: 15.0,
        follows_memory: false,
        container: None,
        workload: None,
        notes: Vec::new(),
    }
}

/// `path`, which starts from the working directory, as a file in `folder` calls it.
fn seen_from(folder: &Path, path: &str) -> String {
    let plain = folder.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let up = folder.components().filter(|part| matches!(part, Component::Normal(_))).count();
    if Path::new(path).is_absolute() || plain && up == 0 {
        return path.to_owned();
    }
    if plain {
        return format!("{}{path}", "../".repeat(up));
    }
    Path::new(path)
        .canonicalize()
        .map_or_else(|_| path.to_owned(), |path| path.to_string_lossy().into_owned())
}

/// Two contenders of the same name get numbers.
pub(super) fn distinct(contenders: &mut [Contender]) {
    for at in 0..contenders.len() {
        let base = contenders[at].name.clone();
        let taken = |name: &str| name == FIXED || contenders[..at].iter().any(|other| other.name == name);
        let free = (2..1000).map(|number| format!("{base}-{number}")).find(|name| !taken(name));
        if taken(&base) {
            contenders[at].name = free.unwrap_or(base);
        }
    }
}
