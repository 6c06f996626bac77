//! Files that configure production, read verbatim and strictly: manifests of Kubernetes, resilience4j, Envoy.
//!
//! ```text
//! yaml      text -> tree of nodes that know their places; duplicate keys, bombs and tags are refused
//! fields    tree -> values, asked for by name; what nobody asked for is an error with the known names
//! hpa, deployment (pod, selector), disruption, keda, knative, argo, flagger: one reader per kind
//! resilience4j, envoy: what clients and side-cars are configured with, which is not of Kubernetes
//! ```
//!
//! Generated types of Kubernetes accept any misspelt field and quietly use its default; here `minReplicaz` is an error.
//! Fields that Kubernetes knows and simlab has no use for are accepted and listed in [`Document::no_effect`]; their contents
//! are not examined. Documents of kinds that do not matter here are listed as [`Object::Ignored`].

#![expect(
    clippy::unnecessary_wraps,
    reason = "all readers have one shape, in which `None` is a mistake that was said"
)]

mod argo;
mod deployment;
mod disruption;
pub(super) mod envoy;
mod fields;
mod flagger;
mod hpa;
mod keda;
mod knative;
mod pod;
pub(super) mod resilience4j;
mod selector;
mod yaml;

pub use crate::units::quantity::Quantity;
pub use argo::{
    Analyses, AnalysisTemplate, BlueGreenRelease, CanaryRelease, CanaryStep, Measured, Release, Rollout,
};
pub use deployment::{Deployment, Strategy};
pub use disruption::{Budget, Disruption};
pub use fields::CountOrPercent;
pub use flagger::{FlaggerCanary, FlaggerMetric};
pub use hpa::{
    Behavior, Goal, Hpa, Metric, RatePolicy, RateUnit, Rules, SelectPolicy, Series, Source, Target,
};
pub use keda::{Fallback, FallbackBehavior, MetricType, Modifiers, Pause, ScaledObject, Trigger};
pub use knative::{Aggregation, Autoscaling, Class, Knative};
pub use pod::{
    Action, Affinity, Container, Effect, Hook, Neighbours, NodeTerm, PodTemplate, PodTerm, Port, Probe, Pull,
    Resources, Toleration, TopologySpread,
};
pub use selector::{Operator, Requirement, Selector};

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::error::{Diagnostic, Place, ScenarioError, shortened};
use super::files::Files;
use super::model::Limits;
use fields::{Fields, Findings, Pair};
use yaml::{Node, Value};

/// Why a manifest was refused; says it like an error in a scenario.
pub type ManifestError = ScenarioError;

/// One object of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its name and labels.
    pub metadata: Metadata,
    /// What it says.
    pub object: Object,
    /// Fields without effect in simlab, in the order of the file.
    pub no_effect: Vec<NoEffect>,
    /// Where it begins: the value of `kind`.
    pub place: Place,
    /// Path of its file.
    pub file: String,
    /// Line of `place`, counted from 1.
    pub line: usize,
}

/// Name and labels of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Its name; empty for an ignored object without one.
    pub name: String,
    /// Its namespace; `None` is the one it is applied to.
    pub namespace: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What an object says, by its kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// `HorizontalPodAutoscaler`.
    Autoscaler(Hpa),
    /// `Deployment`.
    Deployment(Deployment),
    /// `PodDisruptionBudget`.
    Disruption(Disruption),
    /// `ScaledObject` of KEDA.
    ScaledObject(ScaledObject),
    /// `Service` of Knative.
    Knative(Knative),
    /// `Rollout` of Argo Rollouts.
    Rollout(Box<Rollout>),
    /// `AnalysisTemplate` of Argo Rollouts, of one namespace or of the cluster.
    Analysis(AnalysisTemplate),
    /// `Canary` of Flagger.
    Canary(FlaggerCanary),
    /// A known kind that has no effect in simlab.
    Ignored {
        /// Such as `v1`.
        api_version: String,
        /// Such as `ConfigMap`.
        kind: String,
    },
}

/// A field that Kubernetes knows and simlab does not use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoEffect {
    /// Path of its file.
    pub file: String,
    /// Its line, counted from 1.
    pub line: usize,
    /// From the root of its document: `spec.template.spec.volumes`.
    pub path: String,
    /// Where it is written.
    pub place: Place,
}

/// The documents of one file, in its order.
pub fn read(path: &Path) -> Result<Vec<Document>, ManifestError> {
    let mut files = Files::new(Limits::default().file_size);
    load_file(path, &mut files).map_err(|errors| ScenarioError::new(errors, files.sources))
}

/// The documents of all `.yaml`, `.yml` and `.json` files of a folder, sorted by the names of the files; folders inside are
/// left out, as `kubectl apply -f` leaves them out.
pub fn read_folder(path: &Path) -> Result<Vec<Document>, ManifestError> {
    let mut files = Files::new(Limits::default().file_size);
    load_folder(path, &mut files).map_err(|errors| ScenarioError::new(errors, files.sources))
}

/// The documents of a file or a folder; its files join those that messages can point into.
pub(super) fn load(path: &Path, files: &mut Files) -> Result<Vec<Document>, Vec<Diagnostic>> {
    if path.is_dir() { load_folder(path, files) } else { load_file(path, files) }
}

fn load_folder(path: &Path, files: &mut Files) -> Result<Vec<Document>, Vec<Diagnostic>> {
    let paths = manifests_in(path).map_err(|error| vec![error])?;
    let (mut documents, mut errors) = (Vec::new(), Vec::new());
    for path in paths {
        match documents_of(&path, files) {
            Ok(found) => documents.extend(found),
            Err(found) => errors.extend(found),
        }
    }
    distinct(&documents, &mut errors);
    if errors.is_empty() { Ok(documents) } else { Err(errors) }
}

fn load_file(path: &Path, files: &mut Files) -> Result<Vec<Document>, Vec<Diagnostic>> {
    let documents = documents_of(path, files)?;
    let mut errors = Vec::new();
    distinct(&documents, &mut errors);
    if errors.is_empty() { Ok(documents) } else { Err(errors) }
}

/// The manifests of a folder, sorted.
fn manifests_in(folder: &Path) -> Result<Vec<PathBuf>, Diagnostic> {
    let shown = folder.display();
    let listed = std::fs::read_dir(folder).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()
    });
    let mut paths = listed.map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such folder".to_owned(),
            _ => error.to_string(),
        };
        Diagnostic::new(format!("cannot read `{shown}`: {reason}"))
    })?;
    let is_manifest = |path: &Path| {
        path.extension().is_some_and(|name| name == "yaml" || name == "yml" || name == "json")
            && !path.is_dir()
    };
    paths.retain(|path| is_manifest(path));
    paths.sort();
    if paths.is_empty() {
        return Err(Diagnostic::new(format!("there is no .yaml, .yml or .json file in `{shown}`")));
    }
    Ok(paths)
}

/// Two objects of one kind, namespace and name cannot both be meant.
fn distinct(documents: &[Document], errors: &mut Vec<Diagnostic>) {
    let mut seen = BTreeMap::new();
    for document in documents {
        let Some(kind) = document.object.kind() else { continue };
        let metadata = &document.metadata;
        if let Some(other) = seen.insert((kind, &metadata.namespace, &metadata.name), document) {
            let message = format!("there are two {kind}s named `{}`", shortened(&metadata.name));
            let note = format!("the other is in {}, line {}", other.file, other.line);
            errors.push(Diagnostic::new(message).at(document.place).note(note));
        }
    }
}

impl Object {
    /// The kind, unless it is ignored.
    fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Autoscaler(_) => Some("HorizontalPodAutoscaler"),
            Self::Deployment(_) => Some("Deployment"),
            Self::Disruption(_) => Some("PodDisruptionBudget"),
            Self::ScaledObject(_) => Some("ScaledObject"),
            Self::Knative(_) => Some("Service"),
            Self::Rollout(_) => Some("Rollout"),
            Self::Analysis(_) => Some("AnalysisTemplate"),
            Self::Canary(_) => Some("Canary"),
            Self::Ignored { .. } => None,
        }
    }
}

/// The documents of one file; all that is wrong with it.
fn documents_of(path: &Path, files: &mut Files) -> Result<Vec<Document>, Vec<Diagnostic>> {
    let number = files.manifest(path).map_err(|error| vec![error])?;
    let source = &files.sources[number as usize];
    let nodes = yaml::documents(&source.text, number).map_err(|error| vec![error])?;
    if nodes.is_empty() {
        let error = Diagnostic::new(format!("`{}` has no documents, only comments", source.name));
        return Err(vec![error.at(Place::new(number, 0..0))]);
    }
    let lines: Vec<u32> = source.text.match_indices('\n').map(|(at, _)| at as u32).collect();
    let line = |place: Place| lines.partition_point(|newline| *newline < place.start) + 1;
    let (mut documents, mut errors) = (Vec::new(), Vec::new());
    for node in nodes.iter().flat_map(items) {
        let mut findings = Findings::default();
        let read = Fields::document(node, &mut findings, document);
        if !matches!(node.value, Value::Mapping(_)) {
            let error =
                Diagnostic::new(format!("a document is a mapping, not {}", node.kind())).at(node.place);
            findings.errors.push(error.hint("a manifest begins with apiVersion and kind"));
        }
        match read {
            Some((place, metadata, object)) if findings.errors.is_empty() => {
                findings.no_effect.sort();
                let no_effect = findings.no_effect.into_iter().map(|(place, path)| NoEffect {
                    file: source.name.clone(),
                    line: line(place),
                    path,
                    place,
                });
                documents.push(Document {
                    metadata,
                    object,
                    no_effect: no_effect.collect(),
                    place,
                    file: source.name.clone(),
                    line: line(place),
                });
            }
            _ => {
                assert!(!findings.errors.is_empty(), "what cannot be read has been said");
                errors.append(&mut findings.errors);
            }
        }
    }
    if errors.is_empty() { Ok(documents) } else { Err(errors) }
}

/// The objects of a `List`, as `kubectl get -o yaml` writes them, or the one object.
fn items(node: &Node) -> Vec<&Node> {
    let is_list = node.get("kind").and_then(Node::scalar) == Some("List");
    match node.get("items").map(|items| &items.value) {
        Some(Value::Sequence(items)) if is_list => items.iter().collect(),
        _ => vec![node],
    }
}

/// Reads one kind: its `spec` into an object.
type Reader = fn(&mut Fields<'_>) -> Option<Object>;

/// What is understood: apiVersion, kind, reader.
const KINDS: &[(&str, &str, Reader)] = &[
    ("autoscaling/v1", "HorizontalPodAutoscaler", |spec| Hpa::read_v1(spec).map(Object::Autoscaler)),
    ("autoscaling/v2", "HorizontalPodAutoscaler", |spec| Hpa::read_v2(spec).map(Object::Autoscaler)),
    ("apps/v1", "Deployment", |spec| Deployment::read(spec).map(Object::Deployment)),
    ("policy/v1", "PodDisruptionBudget", |spec| Disruption::read(spec).map(Object::Disruption)),
    ("keda.sh/v1alpha1", "ScaledObject", |spec| ScaledObject::read(spec).map(Object::ScaledObject)),
    ("serving.knative.dev/v1", "Service", |spec| Knative::read(spec).map(Object::Knative)),
    ("argoproj.io/v1alpha1", "Rollout", |spec| {
        Rollout::read(spec).map(|rollout| Object::Rollout(Box::new(rollout)))
    }),
    ("argoproj.io/v1alpha1", "AnalysisTemplate", |spec| AnalysisTemplate::read(spec).map(Object::Analysis)),
    ("argoproj.io/v1alpha1", "ClusterAnalysisTemplate", |spec| {
        AnalysisTemplate::read(spec).map(Object::Analysis)
    }),
    ("flagger.app/v1beta1", "Canary", |spec| FlaggerCanary::read(spec).map(Object::Canary)),
];

/// What is left alone: the group of its apiVersion (any version) and the kind.
const IGNORED: &[(&str, &str)] = &[
    ("", "ConfigMap"),
    ("", "Endpoints"),
    ("", "LimitRange"),
    ("", "Namespace"),
    ("", "PersistentVolume"),
    ("", "PersistentVolumeClaim"),
    ("", "Pod"),
    ("", "ReplicationController"),
    ("", "ResourceQuota"),
    ("", "Secret"),
    ("", "Service"),
    ("", "ServiceAccount"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("apps", "DaemonSet"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("autoscaling.k8s.io", "VerticalPodAutoscaler"),
    ("batch", "CronJob"),
    ("batch", "Job"),
    ("cert-manager.io", "Certificate"),
    ("cert-manager.io", "ClusterIssuer"),
    ("cert-manager.io", "Issuer"),
    ("discovery.k8s.io", "EndpointSlice"),
    ("argoproj.io", "AnalysisRun"),
    ("argoproj.io", "Application"),
    ("argoproj.io", "Experiment"),
    ("external-secrets.io", "ExternalSecret"),
    ("external-secrets.io", "SecretStore"),
    ("flagger.app", "AlertProvider"),
    ("flagger.app", "MetricTemplate"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "HTTPRoute"),
    ("keda.sh", "ClusterTriggerAuthentication"),
    ("keda.sh", "ScaledJob"),
    ("keda.sh", "TriggerAuthentication"),
    ("monitoring.coreos.com", "PodMonitor"),
    ("monitoring.coreos.com", "PrometheusRule"),
    ("monitoring.coreos.com", "ServiceMonitor"),
    ("networking.istio.io", "DestinationRule"),
    ("networking.istio.io", "Gateway"),
    ("networking.istio.io", "VirtualService"),
    ("networking.k8s.io", "Ingress"),
    ("networking.k8s.io", "IngressClass"),
    ("networking.k8s.io", "NetworkPolicy"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io", "Role"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
    ("scheduling.k8s.io", "PriorityClass"),
    ("storage.k8s.io", "StorageClass"),
];

/// One document: its place, its name, what it says.
fn document(fields: &mut Fields<'_>) -> Option<(Place, Metadata, Object)> {
    fields.need(&["apiVersion", "kind"]);
    let api_version = fields.name("apiVersion");
    let kind = fields.name("kind");
    let place = fields.value_place("kind").unwrap_or(fields.place);
    let (Some(api_version), Some(kind)) = (api_version, kind) else {
        fields.anything();
        return None;
    };
    let known = KINDS.iter().find(|(version, name, _)| *version == api_version && *name == kind);
    let Some((.., read)) = known else {
        let metadata = fields.peek("metadata", "name").map(str::to_owned).unwrap_or_default();
        fields.anything();
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        if IGNORED.contains(&(group, kind.as_str())) {
            let metadata = Metadata { name: metadata, ..Metadata::default() };
            return Some((place, metadata, Object::Ignored { api_version, kind }));
        }
        let error = unknown_kind(&api_version, &kind);
        let version_is_wrong = KINDS.iter().any(|(_, name, _)| *name == kind);
        let at = fields.value_place(if version_is_wrong { "apiVersion" } else { "kind" });
        fields.error(error.at(at.unwrap_or(place)));
        return None;
    };
    fields.need(&["metadata", "spec"]);
    let metadata = fields.object("metadata", |fields| metadata(fields, &api_version, &kind));
    fields.silent(&["status"]);
    let object = fields.object("spec", read);
    let (metadata, annotations) = metadata?;
    let mut object = object?;
    if let Object::ScaledObject(scaled) = &mut object {
        scaled.paused = paused(fields, &annotations);
    }
    Some((place, metadata, object))
}

fn metadata(fields: &mut Fields<'_>, api_version: &str, kind: &str) -> Option<(Metadata, Vec<Pair>)> {
    fields.need(&["name"]);
    let name = fields.name("name");
    let namespace = fields.name("namespace");
    let labels = fields.map("labels");
    let annotations = fields.pairs("annotations");
    // Written by the API server or for other tools; none of it is behaviour.
    fields.silent(&[
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    ]);
    if kind == "Service" {
        knative::check_annotations(fields, &annotations);
    }
    if api_version == "autoscaling/v1" {
        // The API server hides what v1 has no fields for in annotations.
        for pair in &annotations {
            if let "autoscaling.alpha.kubernetes.io/metrics" | "autoscaling.alpha.kubernetes.io/behavior" =
                pair.key.as_str()
            {
                let error = Diagnostic::new(format!("`{}` says what autoscaling/v1 cannot say", pair.key));
                let hint = "use autoscaling/v2: `kubectl get hpa.v2.autoscaling NAME -o yaml` writes it";
                fields.error(error.at(pair.key_place).hint(hint));
            }
        }
    }
    let pairs = annotations.clone();
    let annotations = annotations.into_iter().map(|pair| (pair.key, pair.value)).collect();
    Some((Metadata { name: name?, namespace, labels, annotations }, pairs))
}

/// Whether annotations hold a `ScaledObject`.
fn paused(fields: &mut Fields<'_>, annotations: &[Pair]) -> Option<Pause> {
    let find = |name: &str| {
        annotations.iter().find(|pair| pair.key.strip_prefix("autoscaling.keda.sh/") == Some(name))
    };
    if let Some(pair) = find("paused-replicas") {
        let replicas = pair.value.parse::<i32>().ok().and_then(|replicas| u32::try_from(replicas).ok());
        if replicas.is_none() {
            let message = format!("`paused-replicas` is a whole number, not `{}`", shortened(&pair.value));
            fields.error(Diagnostic::new(message).at(pair.place));
        }
        return replicas.map(Pause::At);
    }
    // KEDA takes whatever is no boolean for true.
    let held = find("paused")
        .is_some_and(|pair| !matches!(pair.value.as_str(), "0" | "f" | "F" | "false" | "False" | "FALSE"));
    held.then_some(Pause::Here)
}

fn unknown_kind(api_version: &str, kind: &str) -> Diagnostic {
    let versions: Vec<&str> =
        KINDS.iter().filter(|(_, name, _)| *name == kind).map(|(version, ..)| *version).collect();
    if !versions.is_empty() {
        let error = Diagnostic::new(format!("unknown apiVersion `{}` of a {kind}", shortened(api_version)));
        let error = error.among(api_version, versions.iter().copied());
        return match removed(api_version, kind) {
            Some((release, hint)) => error.note(format!("Kubernetes {release} removed it")).hint(hint),
            None => error,
        };
    }
    let error = Diagnostic::new(format!(
        "unknown kind `{}` (apiVersion `{}`)",
        shortened(kind),
        shortened(api_version)
    ));
    if kind == "Kustomization" {
        let error =
            error.note("what it changes is not in the other files, so these cannot be read as they are");
        return error.hint("render it first: `kubectl kustomize FOLDER > all.yaml`");
    }
    // Those that are read come first, for a long list is cut.
    let mut known: Vec<&str> = KINDS.iter().map(|(_, name, _)| *name).collect();
    known.extend(IGNORED.iter().map(|(_, name)| *name));
    let mut seen = BTreeSet::new();
    known.retain(|name| seen.insert(*name));
    error.among(kind, known)
}

/// Versions that old files still have: the release that removed them, and what to do.
fn removed(api_version: &str, kind: &str) -> Option<(&'static str, &'static str)> {
    match (api_version, kind) {
        ("autoscaling/v2beta1", _) => {
            Some(("1.25", "write autoscaling/v2, whose metrics have a `target` mapping"))
        }
        ("autoscaling/v2beta2", _) => Some(("1.26", "write autoscaling/v2, whose fields are the same")),
        ("policy/v1beta1", _) => Some(("1.25", "write policy/v1, whose fields are the same")),
        ("extensions/v1beta1" | "apps/v1beta1" | "apps/v1beta2", "Deployment") => {
            Some(("1.16", "write apps/v1, which requires `spec.selector`"))
        }
        _ => None,
    }
}
