//! Who takes part in a backtest: an autoscaler out of a manifest, or one as a scenario writes it.

use std::path::{Component, Path};

use super::{FIXED, named, quoted};
use crate::scenario::error::{Diagnostic, ScenarioError, shortened};
use crate::scenario::manifest::{self, Hpa, ManifestError, Object, Source};

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
    pub(super) notes: Vec<String>,
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
    let scalers: Vec<(&manifest::Document, &str)> = documents
        .iter()
        .filter_map(|document| Some((document, target(&document.object)?)))
        .filter(|(_, target)| service.is_none_or(|service| service == *target))
        .collect();
    let stem = Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or("manifest");
    let (document, target) = match scalers[..] {
        [one] => one,
        [] => {
            let what = service.map_or_else(String::new, |service| format!(" for `{}`", shortened(service)));
            return wrong(
                Diagnostic::new(format!("`{path}` holds no autoscaler{what}"))
                    .hint("a HorizontalPodAutoscaler is expected"),
            );
        }
        _ => {
            let targets: Vec<String> =
                scalers.iter().map(|(_, target)| format!("`{}`", shortened(target))).collect();
            return wrong(
                Diagnostic::new(format!("`{path}` scales several things: {}", targets.join(", ")))
                    .hint(format!("say which one, as in --service {}", shortened(scalers[0].1))),
            );
        }
    };
    let mut contender = match &document.object {
        Object::Autoscaler(hpa) => {
            horizontal(&seen_from(folder, &document.file), document, hpa, target, metrics)
        }
        _ => {
            return wrong(
                Diagnostic::new(format!(
                    "{}:{}: the autoscaler of `{}` cannot take part yet",
                    document.file,
                    document.line,
                    shortened(target)
                ))
                .hint("HorizontalPodAutoscaler can"),
            );
        }
    };
    contender.name = named(stem);
    Ok((named(target), contender))
}

/// What an object scales.
fn target(object: &Object) -> Option<&str> {
    match object {
        Object::Autoscaler(hpa) => Some(&hpa.target.name),
        Object::ScaledObject(scaled) => Some(&scaled.target.name),
        _ => None,
    }
}

/// An HPA, with a guess for every metric that has another name here.
fn horizontal(
    path: &str,
    document: &manifest::Document,
    hpa: &Hpa,
    target: &str,
    metrics: &[(String, String)],
) -> Contender {
    let (mut names, mut notes, mut counts_requests) = (Vec::new(), Vec::new(), false);
    for metric in &hpa.metrics {
        let (name, guess) = match &metric.source {
            Source::Resource { .. } | Source::ContainerResource { .. } => continue,
            Source::Pods(series) => (&series.name, "concurrency".to_owned()),
            Source::Object { series, .. } | Source::External(series) => {
                (&series.name, format!("service.{}.requests-per-second", named(target)))
            }
        };
        let given = metrics.iter().find(|(there, _)| there == name).map(|(_, here)| here.clone());
        if given.is_none() {
            notes.push(format!("metric `{}` is taken to be {guess} [--metric {0}=..]", shortened(name)));
        }
        let here = given.unwrap_or(guess);
        counts_requests |= here.ends_with("per-second");
        names.push(format!("{} = {}", quoted(name), quoted(&here)));
    }
    names.sort();
    names.dedup();
    notes.sort();
    notes.dedup();
    let names =
        if names.is_empty() { String::new() } else { format!(", metric-names = {{ {} }}", names.join(", ")) };
    Contender {
        name: String::new(),
        title: format!("HPA {} of {}", document.metadata.name, document.file),
        setting: format!(
            "autoscaler.hpa = {{ manifest = {}, name = {}{names} }}",
            quoted(path),
            quoted(&document.metadata.name)
        ),
        bounds: Some((hpa.min_replicas.max(1), hpa.max_replicas)),
        counts_requests,
        notes,
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
