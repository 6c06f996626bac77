//! The template of a pod: what a Deployment and a Knative Service have in common.
//!
//! Origin: `k8s.io/api/core/v1`, defaults from `pkg/apis/core/v1/defaults.go`. A request that is not written is the limit, as
//! upstream defaults it. The contents of fields without effect (volumes, security contexts ...) are not examined.

use std::collections::BTreeMap;

use super::fields::{Fields, INT32};
use super::selector::{NODES, Requirement, Selector};
use crate::scenario::error::{Diagnostic, Place, shortened};
use crate::units::quantity::Quantity;

/// `spec.template`.
#[derive(Clone, Debug, PartialEq)]
pub struct PodTemplate {
    /// Labels of the pods.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pods.
    pub annotations: BTreeMap<String, String>,
    /// At least one.
    pub containers: Vec<Container>,
    /// Run one after the other before the containers; those that are [`Container::sidecar`] keep running.
    pub init_containers: Vec<Container>,
    /// Seconds between the request to stop and the kill (default 30).
    pub termination_grace_period: u32,
    /// Labels that a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Which nodes and neighbours the pods want.
    pub affinity: Affinity,
    /// How the pods are spread.
    pub topology_spread: Vec<TopologySpread>,
    /// Taints that the pods stand.
    pub tolerations: Vec<Toleration>,
    /// Resources of the whole pod, if it has any of its own.
    pub resources: Resources,
}

/// One container.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Its name; Knative names a single container itself, so there it may be empty.
    pub name: String,
    /// Its image.
    pub image: Option<String>,
    /// When the image is pulled; upstream's default depends on the tag.
    pub pull: Option<Pull>,
    /// What it asks for and how much it may have.
    pub resources: Resources,
    /// What it listens on.
    pub ports: Vec<Port>,
    /// Environment variables: name, and value if it stands in the manifest.
    pub environment: Vec<(String, Option<String>)>,
    /// Must succeed once before the other probes begin.
    pub startup: Option<Probe>,
    /// Decides whether it gets traffic.
    pub readiness: Option<Probe>,
    /// Decides whether it is restarted.
    pub liveness: Option<Probe>,
    /// Runs before it is told to stop.
    pub pre_stop: Option<Hook>,
    /// Runs right after its start.
    pub post_start: Option<Hook>,
    /// Whether an init container keeps running beside the containers (`restartPolicy: Always`).
    pub sidecar: bool,
    /// Where it is written.
    pub place: Place,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// At every start.
    Always,
    /// Only if the node does not have it.
    IfNotPresent,
    /// Not at all.
    Never,
}

/// Requests and limits by the name of the resource; CPU in cores, memory in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// What is set aside on the node.
    pub requests: BTreeMap<String, Quantity>,
    /// The most that can be used.
    pub limits: BTreeMap<String, Quantity>,
}

/// Something a container listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// 1 ..= 65535.
    pub number: u16,
}

/// A periodic check.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// What is done.
    pub action: Action,
    /// Seconds from the start to the first check (default 0).
    pub initial_delay: u32,
    /// Seconds between checks (default 10).
    pub period: u32,
    /// Seconds after which a check has failed (default 1).
    pub timeout: u32,
    /// Successes in a row that count (default 1).
    pub success_threshold: u32,
    /// Failures in a row that count (default 3).
    pub failure_threshold: u32,
}

/// What a probe or a hook does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Runs a command in the container.
    Exec(Vec<String>),
    /// Sends a GET request to a path.
    Http(String),
    /// Opens a connection.
    Tcp,
    /// Asks the health service of gRPC.
    Grpc,
    /// Waits so many seconds (hooks only).
    Sleep(u32),
}

/// What runs at the beginning or the end of a container's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// What is done.
    pub action: Action,
}

impl Hook {
    /// Seconds that it waits, if that is all it does: `sleep: {seconds: 15}`, `["sleep", "15"]` or a shell that is given
    /// `sleep 15` alone.
    pub fn seconds(&self) -> Option<u32> {
        match &self.action {
            Action::Sleep(seconds) => Some(*seconds),
            Action::Exec(command) => {
                let words: Vec<&str> = command.iter().map(String::as_str).collect();
                let words: Vec<&str> = match words.as_slice() {
                    [shell, "-c", script] if shell.ends_with("sh") => {
                        script.trim_end_matches([';', ' ', '\n']).split_whitespace().collect()
                    }
                    _ => words,
                };
                match words.as_slice() {
                    [sleep, seconds] if sleep.rsplit('/').next() == Some("sleep") => {
                        seconds.strip_suffix('s').unwrap_or(seconds).parse().ok()
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// Which nodes and neighbours a pod wants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Affinity {
    /// A node must match one of these, if there are any.
    pub nodes: Vec<NodeTerm>,
    /// Nodes that match are preferred by a weight of 1 ..= 100.
    pub nodes_preferred: Vec<(u32, NodeTerm)>,
    /// Pods that it wants to be near.
    pub near: Neighbours,
    /// Pods that it wants to be far from.
    pub apart: Neighbours,
}

/// Conditions on one node, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeTerm {
    /// On its labels.
    pub labels: Vec<Requirement>,
    /// On its fields (`metadata.name`).
    pub fields: Vec<Requirement>,
}

/// Neighbours to be near to, or to be apart from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Neighbours {
    /// All of these must hold.
    pub required: Vec<PodTerm>,
    /// These count with a weight of 1 ..= 100.
    pub preferred: Vec<(u32, PodTerm)>,
}

/// Some pods, and how near is near.
#[derive(Clone, Debug, PartialEq)]
pub struct PodTerm {
    /// Label of nodes whose value makes one place: `kubernetes.io/hostname`, `topology.kubernetes.io/zone`.
    pub topology_key: String,
    /// Which pods; `None` is no pod.
    pub selector: Option<Selector>,
    /// In which namespaces; empty is the pod's own.
    pub namespaces: Vec<String>,
}

/// How evenly pods are spread.
#[derive(Clone, Debug, PartialEq)]
pub struct TopologySpread {
    /// Most that two places may differ in pods, at least 1.
    pub max_skew: u32,
    /// Label of nodes whose value makes one place.
    pub topology_key: String,
    /// Whether it only counts as a preference (`ScheduleAnyway`).
    pub soft: bool,
    /// Which pods are counted; `None` is no pod.
    pub selector: Option<Selector>,
    /// Places that must exist, else the smallest count is taken as 0.
    pub min_domains: Option<u32>,
}

/// A taint that a pod stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toleration {
    /// Key of the taint; `None` is any.
    pub key: Option<String>,
    /// Value of the taint; `None` is any (`operator: Exists`).
    pub value: Option<String>,
    /// Effect of the taint; `None` is any.
    pub effect: Option<Effect>,
    /// Seconds until it is evicted after all, with `NoExecute`.
    pub seconds: Option<i64>,
}

/// What a taint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// No new pods.
    NoSchedule,
    /// Rather no new pods.
    PreferNoSchedule,
    /// No pods at all.
    NoExecute,
}

/// Seconds; see [`PodTemplate::termination_grace_period`].
const DEFAULT_GRACE: u32 = 30;

impl PodTemplate {
    /// `spec.template` of a Deployment.
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (labels, annotations) = Self::metadata(fields).unwrap_or_default();
        fields.need(&["spec"]);
        let template = fields.object("spec", |fields| Self::spec(fields, true))?;
        Some(Self { labels, annotations, ..template })
    }

    fn metadata(fields: &mut Fields<'_>) -> Option<(BTreeMap<String, String>, BTreeMap<String, String>)> {
        fields.object("metadata", |fields| {
            fields.silent(&["name", "namespace", "generateName", "creationTimestamp"]);
            fields.no_effect(&["finalizers"]);
            Some((fields.map("labels"), fields.map("annotations")))
        })
    }

    /// `spec.template.spec`, still without labels.
    pub(super) fn spec(fields: &mut Fields<'_>, named: bool) -> Option<Self> {
        fields.need(&["containers"]);
        let containers = fields.filled_list("containers", |fields| Container::read(fields, named));
        let init_containers =
            fields.list("initContainers", |fields| Container::read(fields, named)).unwrap_or_default();
        let grace = fields.count("terminationGracePeriodSeconds").unwrap_or(DEFAULT_GRACE);
        let node_selector = fields.map("nodeSelector");
        let affinity = fields.object("affinity", Affinity::read).unwrap_or_default();
        let topology_spread =
            fields.list("topologySpreadConstraints", TopologySpread::read).unwrap_or_default();
        let tolerations = fields.list("tolerations", Toleration::read).unwrap_or_default();
        let resources = fields.object("resources", Resources::read).unwrap_or_default();
        // Pods of a Deployment are always restarted.
        fields.choice("restartPolicy", &[("Always", ())]);
        fields.no_effect(&[
            "activeDeadlineSeconds",
            "automountServiceAccountToken",
            "dnsConfig",
            "dnsPolicy",
            "enableServiceLinks",
            "hostAliases",
            "hostIPC",
            "hostNetwork",
            "hostPID",
            "hostUsers",
            "hostname",
            "imagePullSecrets",
            "nodeName",
            "os",
            "overhead",
            "preemptionPolicy",
            "priority",
            "priorityClassName",
            "readinessGates",
            "resourceClaims",
            "runtimeClassName",
            "schedulerName",
            "schedulingGates",
            "securityContext",
            "serviceAccount",
            "serviceAccountName",
            "setHostnameAsFQDN",
            "shareProcessNamespace",
            "subdomain",
            "volumes",
        ]);
        let containers = containers?;
        let all = || containers.iter().chain(&init_containers).filter(|container| !container.name.is_empty());
        for (at, container) in all().enumerate() {
            if all().take(at).any(|earlier| earlier.name == container.name) {
                let message = format!("there are two containers named `{}`", shortened(&container.name));
                fields.error(Diagnostic::new(message).at(container.place));
            }
        }
        Some(Self {
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            containers,
            init_containers,
            termination_grace_period: grace,
            node_selector,
            affinity,
            topology_spread,
            tolerations,
            resources,
        })
    }
}

impl Container {
    fn read(fields: &mut Fields<'_>, named: bool) -> Option<Self> {
        if named {
            fields.need(&["name"]);
        }
        let name = fields.name("name");
        let place = fields.value_place("name").unwrap_or(fields.place);
        let image = fields.text("image");
        let choices =
            [("Always", Pull::Always), ("IfNotPresent", Pull::IfNotPresent), ("Never", Pull::Never)];
        let pull = fields.choice("imagePullPolicy", &choices);
        let resources = fields.object("resources", Resources::read).unwrap_or_default();
        let ports = fields.list("ports", Port::read).unwrap_or_default();
        let environment = fields.list("env", |fields| {
            fields.need(&["name"]);
            let name = fields.name("name");
            // Where a value comes from elsewhere, it is not known here.
            fields.silent(&["valueFrom"]);
            Some((name?, fields.text("value")))
        });
        let startup = fields.object("startupProbe", |fields| Probe::read(fields, false));
        let readiness = fields.object("readinessProbe", |fields| Probe::read(fields, true));
        let liveness = fields.object("livenessProbe", |fields| Probe::read(fields, false));
        let hooks = fields.object("lifecycle", |fields| {
            fields.no_effect(&["stopSignal"]);
            Some((fields.object("preStop", Hook::read), fields.object("postStart", Hook::read)))
        });
        let (pre_stop, post_start) = hooks.unwrap_or_default();
        let sidecar = fields.choice("restartPolicy", &[("Always", ())]).is_some();
        fields.no_effect(&[
            "args",
            "command",
            "envFrom",
            "resizePolicy",
            "restartPolicyRules",
            "securityContext",
            "stdin",
            "stdinOnce",
            "terminationMessagePath",
            "terminationMessagePolicy",
            "tty",
            "volumeDevices",
            "volumeMounts",
            "workingDir",
        ]);
        let name = if named { name? } else { name.unwrap_or_default() };
        let environment = environment.unwrap_or_default();
        Some(Self {
            name,
            image,
            pull,
            resources,
            ports,
            environment,
            startup,
            readiness,
            liveness,
            pre_stop,
            post_start,
            sidecar,
            place,
        })
    }
}

impl Resources {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let mut requests = fields.quantities("requests", resource_name);
        let limits = fields.quantities("limits", resource_name);
        fields.no_effect(&["claims"]);
        for (name, limit) in &limits {
            let request = *requests.entry(name.clone()).or_insert(*limit);
            if request > *limit {
                let message = format!("the request of {name} ({request}) is above its limit ({limit})");
                fields.refuse("requests", message);
            }
        }
        Some(Self { requests, limits })
    }
}

/// Resources are known names or have a domain (`nvidia.com/gpu`).
fn resource_name(name: &str) -> Result<(), Diagnostic> {
    const KNOWN: &[&str] = &["cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "hugepages-1Gi"];
    if KNOWN.contains(&name) || name.starts_with("hugepages-") || name.contains('/') {
        return Ok(());
    }
    Err(Diagnostic::unknown("resource", name, KNOWN.iter().copied()))
}

impl Port {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.need(&["containerPort"]);
        let number = fields.integer("containerPort", 1..=65_535);
        let name = fields.text("name");
        fields.choice("protocol", &[("TCP", ()), ("UDP", ()), ("SCTP", ())]);
        fields.no_effect(&["hostIP", "hostPort"]);
        Some(Self { name, number: number? as u16 })
    }
}

impl Probe {
    fn read(fields: &mut Fields<'_>, may_need_several: bool) -> Option<Self> {
        let action = Action::read(fields, &["exec", "httpGet", "tcpSocket", "grpc"]);
        let initial_delay = fields.count("initialDelaySeconds").unwrap_or(0);
        let period = fields.positive("periodSeconds").unwrap_or(10);
        let timeout = fields.positive("timeoutSeconds").unwrap_or(1);
        let successes = fields.integer("successThreshold", 1..=if may_need_several { INT32 } else { 1 });
        let failure_threshold = fields.positive("failureThreshold").unwrap_or(3);
        fields.no_effect(&["terminationGracePeriodSeconds"]);
        let success_threshold = successes.unwrap_or(1) as u32;
        Some(Self { action: action?, initial_delay, period, timeout, success_threshold, failure_threshold })
    }
}

impl Hook {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let action = Action::read(fields, &["exec", "httpGet", "tcpSocket", "sleep"])?;
        Some(Self { action })
    }
}

impl Action {
    fn read(fields: &mut Fields<'_>, allowed: &[&'static str]) -> Option<Self> {
        let written: Vec<&str> = allowed.iter().copied().filter(|name| fields.has(name)).collect();
        let exec = fields.object("exec", |fields| Some(Self::Exec(fields.texts("command"))));
        let http = fields.object("httpGet", |fields| {
            fields.need(&["port"]);
            fields.silent(&["port", "scheme", "host", "httpHeaders"]);
            Some(Self::Http(fields.text("path").unwrap_or_else(|| "/".to_owned())))
        });
        let tcp = fields.object("tcpSocket", |fields| {
            fields.need(&["port"]);
            fields.silent(&["port", "host"]);
            Some(Self::Tcp)
        });
        let mut last = None;
        if allowed.contains(&"grpc") {
            last = fields.object("grpc", |fields| {
                fields.need(&["port"]);
                fields.silent(&["port", "service"]);
                Some(Self::Grpc)
            });
        }
        if allowed.contains(&"sleep") {
            last = fields.object("sleep", |fields| {
                fields.need(&["seconds"]);
                fields.count("seconds").map(Self::Sleep)
            });
        }
        match written.as_slice() {
            [_] => exec.or(http).or(tcp).or(last),
            [] => {
                let error = Diagnostic::new("there is no action here").at(fields.place);
                fields.error(error.note(format!("one of {}", allowed.join(", "))));
                None
            }
            [first, second, ..] => {
                fields.refuse(second, format!("there is one action, not both `{first}` and `{second}`"));
                None
            }
        }
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

impl Affinity {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let nodes = fields.object("nodeAffinity", |fields| {
            let required = fields.object(REQUIRED, |fields| {
                fields.need(&["nodeSelectorTerms"]);
                fields.filled_list("nodeSelectorTerms", NodeTerm::read)
            });
            let preferred = fields.list(PREFERRED, |fields| weighted(fields, "preference", NodeTerm::read));
            Some((required.unwrap_or_default(), preferred.unwrap_or_default()))
        });
        let near = fields.object("podAffinity", Neighbours::read).unwrap_or_default();
        let apart = fields.object("podAntiAffinity", Neighbours::read).unwrap_or_default();
        let (nodes, nodes_preferred) = nodes.unwrap_or_default();
        Some(Self { nodes, nodes_preferred, near, apart })
    }
}

/// A preference with its weight.
fn weighted<T>(
    fields: &mut Fields<'_>,
    name: &'static str,
    read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
) -> Option<(u32, T)> {
    fields.need(&["weight", name]);
    let weight = fields.integer("weight", 1..=100);
    let term = fields.object(name, read);
    Some((weight? as u32, term?))
}

impl NodeTerm {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let node = |fields: &mut Fields<'_>| Requirement::read(fields, NODES);
        let labels = fields.list("matchExpressions", node).unwrap_or_default();
        let named = fields.list("matchFields", node).unwrap_or_default();
        Some(Self { labels, fields: named })
    }
}

impl Neighbours {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let required = fields.list(REQUIRED, PodTerm::read).unwrap_or_default();
        let preferred = fields.list(PREFERRED, |fields| weighted(fields, "podAffinityTerm", PodTerm::read));
        Some(Self { required, preferred: preferred.unwrap_or_default() })
    }
}

impl PodTerm {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.need(&["topologyKey"]);
        let topology_key = fields.name("topologyKey");
        let selector = fields.object("labelSelector", Selector::read);
        let namespaces = fields.texts("namespaces");
        fields.no_effect(&["namespaceSelector", "matchLabelKeys", "mismatchLabelKeys"]);
        Some(Self { topology_key: topology_key?, selector, namespaces })
    }
}

impl TopologySpread {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.need(&["maxSkew", "topologyKey", "whenUnsatisfiable"]);
        let max_skew = fields.positive("maxSkew");
        let topology_key = fields.name("topologyKey");
        let soft = fields.choice("whenUnsatisfiable", &[("DoNotSchedule", false), ("ScheduleAnyway", true)]);
        let selector = fields.object("labelSelector", Selector::read);
        let min_domains = fields.positive("minDomains");
        fields.no_effect(&["matchLabelKeys", "nodeAffinityPolicy", "nodeTaintsPolicy"]);
        Some(Self { max_skew: max_skew?, topology_key: topology_key?, soft: soft?, selector, min_domains })
    }
}

impl Toleration {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let key = fields.text("key").filter(|key| !key.is_empty());
        let exists = fields.choice("operator", &[("Exists", true), ("Equal", false)]).unwrap_or(false);
        let value = fields.text("value");
        let choices = [
            ("NoSchedule", Effect::NoSchedule),
            ("PreferNoSchedule", Effect::PreferNoSchedule),
            ("NoExecute", Effect::NoExecute),
        ];
        let effect = fields.choice("effect", &choices);
        let seconds = fields.integer("tolerationSeconds", i64::MIN..=i64::MAX);
        if key.is_none() && !exists {
            fields.error(
                Diagnostic::new("without a key the operator of a toleration is Exists").at(fields.place),
            );
        }
        if exists && value.as_ref().is_some_and(|value| !value.is_empty()) {
            fields.refuse("value", "the operator Exists takes no value");
        }
        if seconds.is_some() && effect != Some(Effect::NoExecute) {
            fields.refuse("tolerationSeconds", "`tolerationSeconds` goes with the effect NoExecute");
        }
        let value = if exists { None } else { Some(value.unwrap_or_default()) };
        Some(Self { key, value, effect, seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_that_only_wait_say_how_long() {
        let exec = |words: &[&str]| {
            let command = words.iter().map(|&word| word.to_owned()).collect();
            Hook { action: Action::Exec(command) }.seconds()
        };
        assert_eq!(exec(&["sleep", "15"]), Some(15));
        assert_eq!(exec(&["/bin/sleep", "15s"]), Some(15));
        assert_eq!(exec(&["/bin/sh", "-c", "sleep 20"]), Some(20));
        assert_eq!(exec(&["bash", "-c", "sleep 20;\n"]), Some(20));
        assert_eq!(exec(&["sh", "-c", "sleep 5 && nginx -s quit"]), None);
        assert_eq!(exec(&["nginx", "-s", "quit"]), None);
        assert_eq!(Hook { action: Action::Sleep(7) }.seconds(), Some(7));
    }
}
