//! Manifests are read as they are in production, and strictly: `tests/manifests` has real shapes, `tests/manifests/broken`
//! files with one mistake each (the first line says which); each message is a snapshot.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use simlab::policies::rollout::RolloutSettings;
use simlab::policies::rollout::recreate::RecreateSettings;
use simlab::policies::rollout::rolling::{IntOrPercent, RollingSettings};
use simlab::scenario::Overrides;
use simlab::scenario::import::skeleton;
use simlab::scenario::manifest::{
    self, Budget, Class, CountOrPercent, Deployment, Document, Goal, Hpa, Object, Pause, Quantity, RateUnit,
    ScaledObject, SelectPolicy, Source, Strategy,
};
use simlab::scenario::model::Study;
use simlab::time::Duration;

const FOLDER: &str = "tests/manifests";

fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is part of the repository");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    files
}

fn read(name: &str) -> Vec<Document> {
    let path = Path::new(FOLDER).join(name);
    manifest::read(&path).unwrap_or_else(|error| panic!("{}", error.render(false)))
}

fn hpa(documents: &[Document]) -> &Hpa {
    documents
        .iter()
        .find_map(|document| match &document.object {
            Object::Autoscaler(hpa) => Some(hpa),
            _ => None,
        })
        .expect("there is an autoscaler")
}

fn deployment(documents: &[Document]) -> &Deployment {
    documents
        .iter()
        .find_map(|document| match &document.object {
            Object::Deployment(deployment) => Some(deployment),
            _ => None,
        })
        .expect("there is a deployment")
}

fn scaled(documents: &[Document]) -> &ScaledObject {
    documents
        .iter()
        .find_map(|document| match &document.object {
            Object::ScaledObject(scaled) => Some(scaled),
            _ => None,
        })
        .expect("there is a scaled object")
}

fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).expect("a quantity")
}

#[test]
fn every_broken_manifest_is_refused_with_its_place() {
    let files = yaml_files("tests/manifests/broken");
    assert!(files.len() >= 60);
    for file in files {
        let message = match manifest::read(&file) {
            Ok(_) => "no error".to_owned(),
            Err(error) => error.render(false),
        };
        assert!(message.starts_with("error: "), "{}: {message}", file.display());
        let name = file.file_stem().expect("has a name").to_string_lossy().into_owned();
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "snapshots/manifests" }, {
            insta::assert_snapshot!(name, message);
        });
    }
}

#[test]
fn every_real_shape_is_accepted_and_says_what_it_ignores() {
    let files = yaml_files(FOLDER);
    assert!(files.len() >= 11);
    let mut lines = Vec::new();
    for file in &files {
        let documents = manifest::read(file).unwrap_or_else(|error| panic!("{}", error.render(false)));
        for document in documents {
            let Document { file, line, metadata, object, no_effect, .. } = document;
            let name = metadata.name;
            if let Object::Ignored { api_version, kind } = object {
                lines.push(format!("{file}:{line}: {api_version} {kind} {name} is ignored"));
            }
            lines.extend(
                no_effect.iter().map(|field| format!("{}:{}: {}", field.file, field.line, field.path)),
            );
        }
    }
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "snapshots/manifests" }, {
        insta::assert_snapshot!("no-effect", lines.join("\n"));
    });
    let together =
        manifest::read_folder(Path::new(FOLDER)).unwrap_or_else(|error| panic!("{}", error.render(false)));
    assert!(together.len() > files.len());
}

#[test]
fn a_deployment_says_what_runs_and_how_it_is_replaced() {
    let documents = read("checkout.yaml");
    assert_eq!(documents.len(), 5);
    let deployment = deployment(&documents);
    assert_eq!((deployment.replicas, deployment.min_ready, deployment.progress_deadline), (None, 10, 900));
    let rolling = Strategy::RollingUpdate {
        max_surge: CountOrPercent::Percent(25),
        max_unavailable: CountOrPercent::Count(0),
    };
    assert_eq!(deployment.strategy, rolling);
    let pod = &deployment.template;
    assert_eq!(pod.labels["team"], "payments", "labels behind an alias");
    assert_eq!((pod.termination_grace_period, pod.init_containers.len()), (45, 1));
    let app = &pod.containers[0];
    assert_eq!(app.resources.requests["cpu"], quantity("500m"));
    assert_eq!(app.resources.limits["memory"].rounded_up(), 1 << 30);
    assert_eq!(app.pre_stop.as_ref().and_then(manifest::Hook::seconds), Some(15));
    let readiness = app.readiness.as_ref().expect("written");
    assert_eq!((readiness.period, readiness.timeout, readiness.failure_threshold), (5, 2, 3));
    assert_eq!(app.startup.as_ref().map(|probe| (probe.period, probe.failure_threshold)), Some((5, 30)));
    assert_eq!(app.environment[1], ("WORKERS".to_owned(), Some("32".to_owned())));
    assert_eq!(app.environment[3], ("DB_PASSWORD".to_owned(), None));
    assert!(pod.topology_spread[0].soft);
    let (weight, apart) = &pod.affinity.apart.preferred[0];
    assert_eq!((*weight, apart.topology_key.as_str()), (100, "kubernetes.io/hostname"));
    assert!(apart.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels)));
    let Object::Disruption(disruption) = &documents[4].object else { panic!("the last is the budget") };
    assert_eq!(disruption.budget, Some(Budget::MaxUnavailable(CountOrPercent::Percent(20))));
    assert!(disruption.evict_unready);
    assert!(disruption.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels)));
}

#[test]
fn defaults_are_those_of_upstream() {
    let documents = read("defaults-only.yml");
    let hpa = hpa(&documents);
    assert_eq!((hpa.min_replicas, hpa.max_replicas), (1, 3));
    assert_eq!(hpa.metrics.len(), 1);
    assert_eq!(hpa.metrics[0].source, Source::Resource { name: "cpu".to_owned() });
    assert_eq!(hpa.metrics[0].goal, Goal::Utilization(80));
    assert_eq!(hpa.behavior, None);
    let deployment = deployment(&documents);
    let quarter = CountOrPercent::Percent(25);
    assert_eq!(deployment.strategy, Strategy::RollingUpdate { max_surge: quarter, max_unavailable: quarter });
    assert_eq!(
        (deployment.min_ready, deployment.progress_deadline, deployment.revision_history_limit),
        (0, 600, 10)
    );
    assert_eq!(deployment.template.termination_grace_period, 30);
    let requests = &deployment.template.containers[0].resources.requests;
    assert_eq!(requests["cpu"], quantity("1"), "a request that is not written is the limit");
    assert_eq!(requests["memory"], quantity("512Mi"));
}

#[test]
fn every_kind_of_metric_is_understood() {
    let documents = read("custom-metrics.yaml");
    let autoscaler = hpa(&documents);
    let goals: Vec<Goal> = autoscaler.metrics.iter().map(|metric| metric.goal).collect();
    assert_eq!(
        goals,
        [
            Goal::AverageValue(quantity("1000")),
            Goal::Value(quantity("10000")),
            Goal::AverageValue(quantity("1.5")),
            Goal::AverageValue(quantity("30")),
        ]
    );
    let behavior = autoscaler.behavior.as_ref().expect("written");
    assert_eq!(
        behavior.scale_down.as_ref().and_then(|rules| rules.select_policy),
        Some(SelectPolicy::Disabled)
    );
    let up = behavior.scale_up.as_ref().expect("written");
    assert_eq!(up.tolerance.map(Quantity::milli), Some(50));
    let policy = up.policies.as_ref().expect("written")[0];
    assert_eq!((policy.unit, policy.value, policy.period), (RateUnit::Pods, 4, 15));

    let documents = read("kubectl-get.yaml");
    let container = Source::ContainerResource { name: "cpu".to_owned(), container: "search".to_owned() };
    assert_eq!(hpa(&documents).metrics[0].source, container);

    let documents = read("legacy-hpa-v1.yaml");
    assert_eq!(hpa(&documents).metrics[0].goal, Goal::Utilization(70));

    let documents = read("worker.json");
    let from_zero = hpa(&documents);
    assert_eq!(from_zero.min_replicas, 0);
    assert_eq!(
        from_zero.metrics[0].goal,
        Goal::AverageValue(quantity("20")),
        "the value decides, not the type"
    );
    assert_eq!(
        from_zero.behavior,
        Some(manifest::Behavior::default()),
        "`behavior: {{}}` is not the same as none"
    );
}

#[test]
fn sidecars_nodes_and_neighbours_are_understood() {
    let documents = read("sidecar.yaml");
    let pod = &deployment(&documents).template;
    assert!(pod.init_containers[0].sidecar);
    let shipper = &pod.containers[1].resources;
    assert_eq!(shipper.requests["cpu"], quantity("50m"), "an own field overrides a merged one");
    assert_eq!(shipper.limits["cpu"], quantity("1"), "and the other is merged");

    let documents = read("batch-worker.yaml");
    let deployment = deployment(&documents);
    assert_eq!((deployment.replicas, deployment.strategy), (Some(12), Strategy::Recreate));
    let pod = &deployment.template;
    assert_eq!(pod.tolerations[1].seconds, Some(30));
    let gpus = |count: &str| [("node.example.org/gpus".to_owned(), count.to_owned())].into();
    let condition = &pod.affinity.nodes[0].labels[0];
    assert!(condition.matches(&gpus("2")) && !condition.matches(&gpus("0")));
    assert_eq!(pod.containers[0].resources.limits["ephemeral-storage"].rounded_up(), 20 << 30);
    assert_eq!(pod.containers[0].pre_stop.as_ref().and_then(manifest::Hook::seconds), Some(20));
}

#[test]
fn keda_and_knative_are_understood() {
    let documents = read("keda-kafka.yaml");
    let kafka = scaled(&documents);
    assert_eq!((kafka.polling_interval, kafka.cooldown_period, kafka.initial_cooldown_period), (15, 180, 60));
    assert_eq!((kafka.idle_replicas, kafka.min_replicas, kafka.max_replicas), (Some(0), 2, 48));
    assert_eq!(kafka.target.kind, "Deployment");
    assert_eq!(kafka.triggers[0].metadata["activationLagThreshold"], "5");
    assert!(kafka.triggers[1].is_resource());
    assert_eq!(kafka.fallback.map(|fallback| fallback.replicas), Some(12));

    let documents = read("keda-cron-prometheus.yaml");
    let storefront = scaled(&documents);
    assert_eq!(storefront.paused, Some(Pause::At(6)));
    assert_eq!((storefront.polling_interval, storefront.cooldown_period), (30, 300));
    assert_eq!(storefront.modifiers.as_ref().map(|modifiers| modifiers.target), Some(quantity("1.5")));

    let documents = read("knative.yaml");
    let Object::Knative(knative) = &documents[0].object else { panic!("a Knative service") };
    let scaling = &knative.autoscaling;
    assert_eq!((knative.container_concurrency, scaling.class), (Some(16), Some(Class::Kpa)));
    assert_eq!((scaling.min_scale, scaling.max_scale, scaling.initial_scale), (Some(0), Some(50), Some(2)));
    assert_eq!(
        (scaling.window, scaling.scale_down_delay, scaling.pod_retention),
        (Some(40), Some(120), Some(65))
    );
    assert_eq!(scaling.target_burst_capacity, Some(Quantity::from_milli(-1_000)));
    assert_eq!(scaling.panic_window, Some(quantity("20")));
    assert_eq!(scaling.activation_scale, Some(3));
}

#[test]
fn folders_are_read_in_order_and_must_have_manifests() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let message = |path: &Path| {
        let error = manifest::read_folder(path).expect_err("nothing to read");
        error.render(false).replace(&folder.path().display().to_string(), "FOLDER")
    };
    assert_eq!(message(folder.path()), "error: there is no .yaml, .yml or .json file in `FOLDER`");
    assert_eq!(message(&folder.path().join("x")), "error: cannot read `FOLDER/x`: there is no such folder");
    for (from, to) in [("legacy-hpa-v1.yaml", "20-hpa.yml"), ("batch-worker.yaml", "10-app.yaml")] {
        fs::copy(Path::new(FOLDER).join(from), folder.path().join(to)).expect("copied");
    }
    fs::write(folder.path().join("README.md"), "not a manifest").expect("written");
    let documents = manifest::read_folder(folder.path()).expect("valid");
    let names: Vec<&str> = documents.iter().map(|document| document.metadata.name.as_str()).collect();
    assert_eq!(names, ["transcoder", "transcoder", "reports"]);
    fs::copy(Path::new(FOLDER).join("legacy-hpa-v1.yaml"), folder.path().join("30-again.yaml"))
        .expect("copied");
    let message = message(folder.path());
    assert!(message.contains("there are two HorizontalPodAutoscalers named `reports`"), "{message}");
    assert!(message.contains("30-again.yaml:2:7"), "{message}");
}

const PRINTABLE: &[u8] = b"0-\"=.[]{}(),%$ aeh9\n:&*!|>'#?~<\t";

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens to the bytes of a manifest, the answer is documents or a message, never a panic.
    #[test]
    fn damaged_manifests_never_panic(
        file in any::<prop::sample::Index>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6),
    ) {
        let files = yaml_files(FOLDER);
        let mut bytes = fs::read(file.get(&files)).expect("readable");
        for (at, byte, kind) in damage {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => bytes[at] = PRINTABLE[usize::from(byte) % PRINTABLE.len()],
                _ => {
                    let end = (at + 1 + usize::from(byte) % 40).min(bytes.len());
                    bytes.drain(at..end);
                }
            }
            if bytes.is_empty() {
                bytes.push(b' ');
            }
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("damaged.yaml");
        fs::write(&path, &bytes).expect("written");
        if let Err(error) = manifest::read(&path) {
            prop_assert!(error.render(true).contains("error"));
            prop_assert!(!error.diagnostics().is_empty());
        }
    }
}

/// A scenario that takes an autoscaler from a manifest.
fn scaled_by(manifest: &str, more: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("hpa.yaml"), manifest).expect("written");
    let text = format!(
        "[scenario]\nname = \"x\"\nduration = \"1min\"\n[[service]]\nname = \"api\"\n\
         autoscaler.hpa = {{ manifest = \"hpa.yaml\"{more} }}\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 1ms\"]\n\
         [[source]]\nname = \"users\"\nto = \"api.get\"\narrivals.poisson = {{ rate = \"1/s\" }}\n"
    );
    let path = folder.path().join("s.toml");
    fs::write(&path, text).expect("written");
    let hidden = |text: String| text.replace(&folder.path().display().to_string(), "FOLDER");
    match Study::load(&path.to_string_lossy(), &Overrides::default()) {
        Ok(study) => {
            let service = &study.strategies[0].scenario.services[0];
            Ok(format!("{:#?}\n{:?}\n{:?}", service.autoscaler, service.signals, study.warnings))
        }
        Err(error) => Err(hidden(error.render(false))),
    }
}

const FRONT: &str = "apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: { name: api-scaler }
spec:
  scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: api }
  minReplicas: 2
  maxReplicas: 9
  metrics:
  - { type: Resource, resource: { name: cpu, target: { type: Utilization, averageUtilization: 60 } } }
  - { type: Pods, pods: { metric: { name: waiting }, target: { type: AverageValue, averageValue: 1500m } } }
  - type: Object
    object:
      describedObject: { apiVersion: networking.k8s.io/v1, kind: Ingress, name: front }
      metric: { name: hits }
      target: { type: Value, value: 2k }
  behavior:
    scaleDown: { stabilizationWindowSeconds: 60, tolerance: '0.05', policies: [{ type: Percent, value: 10, periodSeconds: 30 }] }
";

const NAMES: &str =
    ", metric-names = { waiting = \"queue-length\", hits = \"source.users.requests-per-second\" }";

#[test]
fn a_scenario_takes_over_a_manifest() {
    insta::assert_snapshot!("taken_over", scaled_by(FRONT, NAMES).unwrap());
    // What stands beside it wins, and the flags of the controller are nowhere else.
    let more = format!("{NAMES}, max-replicas = 50, sync-period = \"45s\"");
    let text = scaled_by(FRONT, &more).unwrap();
    assert!(text.contains("max_replicas: 50") && text.contains("45000000000"), "{text}");
}

#[test]
fn what_cannot_be_taken_over_is_said() {
    let other = FRONT.replace("kind: Deployment, name: api", "kind: Deployment, name: web");
    let none = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: c }\n";
    let memory = FRONT.replace("name: cpu", "name: memory");
    let cases = [
        scaled_by(FRONT, ""),
        scaled_by(&other, NAMES),
        scaled_by(&other, &format!("{NAMES}, name = \"api-scalar\"")),
        scaled_by(none, NAMES),
        scaled_by(&memory, NAMES),
        scaled_by(&FRONT.replace("maxReplicas", "maxReplicaz"), NAMES),
        scaled_by(FRONT, ", metric-names = { hits = 3 }"),
        scaled_by(FRONT, ", metric-names = { hits = \"users\" }"),
        scaled_by(FRONT, ", metrik-names = {}"),
    ];
    let text: Vec<String> = cases.into_iter().map(|case| case.expect_err("refused")).collect();
    insta::assert_snapshot!("not_taken_over", text.join("\n"));
}

#[test]
fn a_deployment_says_how_it_is_updated_and_stopped() {
    let load = |strategy: &str, hook: &str, how: &str| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let deployment = format!(
            "apiVersion: apps/v1
kind: Deployment
metadata: {{ name: api }}
spec:
  minReadySeconds: 3
  progressDeadlineSeconds: 90
  revisionHistoryLimit: 2
  strategy: {strategy}
  selector: {{ matchLabels: {{ app: api }} }}
  template:
    metadata: {{ labels: {{ app: api }} }}
    spec:
      terminationGracePeriodSeconds: 45
      containers:
      - {{ name: app, image: 'registry/api:1', resources: {{ requests: {{ cpu: 1 }} }}, lifecycle: {{ preStop: {hook} }} }}
"
        );
        fs::write(folder.path().join("api.yaml"), deployment).expect("written");
        let text = format!(
            "[scenario]\nname = \"x\"\nduration = \"1min\"\n[[service]]\nname = \"api\"\nmanifest = \"api.yaml\"\n\
             [[service.version]]\nname = \"v1\"\n[[service.version]]\nname = \"v2\"\n\
             [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 1ms\"]\n\
             [[source]]\nname = \"users\"\nto = \"api.get\"\narrivals.poisson = {{ rate = \"1/s\" }}\n\
             [[rollout]]\nat = \"10s\"\nservice = \"api\"\nto = \"v2\"\n{how}\n"
        );
        let path = folder.path().join("s.toml");
        fs::write(&path, text).expect("written");
        let study = Study::load(&path.to_string_lossy(), &Overrides::default());
        let study = study.unwrap_or_else(|error| panic!("{}", error.render(false)));
        let scenario = &study.strategies[0].scenario;
        let instance = &scenario.services[0].instance;
        let ends = (instance.grace.as_secs_f64(), instance.pre_stop.as_secs_f64());
        (scenario.rollouts[0].how.clone(), ends, study.warnings)
    };
    let secs = Duration::from_secs;
    let rolling = RollingSettings {
        max_surge: IntOrPercent::Int(1),
        max_unavailable: IntOrPercent::Percent(10),
        min_ready: secs(3),
        progress_deadline: secs(90),
        revision_history_limit: 2,
    };
    let strategy = "{ type: RollingUpdate, rollingUpdate: { maxSurge: 1, maxUnavailable: 10% } }";
    let sleeps = "{ exec: { command: [sh, -c, sleep 7] } }";
    let (how, ends, warnings) = load(strategy, sleeps, "");
    assert_eq!(how, RolloutSettings::Rolling(rolling.clone()));
    assert_eq!((ends, warnings.len()), ((45.0, 7.0), 0));
    // What the scenario says wins: a setting, or another policy.
    let (how, ..) = load(strategy, sleeps, "rolling = { max-surge = 4 }");
    assert_eq!(how, RolloutSettings::Rolling(RollingSettings { max_surge: IntOrPercent::Int(4), ..rolling }));
    assert_eq!(load(strategy, sleeps, "stop-the-world = {}").0.name(), "stop-the-world");
    // A hook that does anything else than sleep is left out, and that is said.
    let (how, ends, warnings) = load("{ type: Recreate }", "{ httpGet: { path: /bye, port: 80 } }", "");
    let recreate =
        RecreateSettings { min_ready: secs(3), progress_deadline: secs(90), revision_history_limit: 2 };
    assert_eq!((how, ends), (RolloutSettings::Recreate(recreate), (45.0, 0.0)));
    assert!(warnings.iter().any(|line| line.contains("the preStop hook of container app")), "{warnings:?}");
}

#[test]
fn an_imported_scenario_runs() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let folder = root.path().join("shop");
    fs::create_dir(&folder).expect("made");
    let deployment = "apiVersion: apps/v1
kind: Deployment
metadata: { name: api }
spec:
  selector: { matchLabels: { app: api } }
  template:
    metadata: { labels: { app: api } }
    spec:
      containers:
      - { name: app, image: 'registry/api:1', resources: { requests: { cpu: 750m, memory: 1Gi }, limits: { cpu: '2' } } }
      - { name: proxy, image: 'registry/proxy:1', resources: { requests: { cpu: 250m, memory: 128Mi }, limits: { cpu: 500m } } }
";
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: settings }\n";
    fs::write(folder.join("app.yaml"), format!("{config}---\n{deployment}---\n{FRONT}")).expect("written");
    let text = skeleton(&folder).expect("valid");
    let hidden = text.replace(&root.path().display().to_string(), "FOLDER");
    insta::assert_snapshot!("imported", hidden);
    let study = Study::from_text("imported", &text, &Overrides::default());
    let study = study.unwrap_or_else(|error| panic!("{}", error.render(false)));
    let service = &study.strategies[0].scenario.services[0];
    assert_eq!((service.replicas, service.instance.cores, service.signals.len()), (2, 2, 3));
    assert_eq!((service.instance.container.as_str(), service.instance.cpu_request), ("app", 0.75));
    let proxy = &service.sidecars[0];
    assert_eq!((proxy.name.as_str(), proxy.cpu_request, proxy.cpu_limit), ("proxy", 0.25, Some(0.5)));
    assert_eq!((proxy.memory, proxy.cost.is_zero()), (128 << 20, true));

    fs::write(folder.join("app.yaml"), deployment.replace("containers:", "container:")).expect("written");
    let message = skeleton(&folder).expect_err("misspelt").render(false);
    assert!(message.contains("unknown field `container`") && message.contains("app.yaml:9:7"), "{message}");
}

#[test]
fn whatever_can_be_read_can_be_imported_and_tried() {
    let mut tried = 0;
    for path in yaml_files("tests/manifests").into_iter().chain([PathBuf::from("scenarios/k8s")]) {
        let text =
            skeleton(&path).unwrap_or_else(|error| panic!("{}: {}", path.display(), error.render(false)));
        let study = Study::from_text("imported", &text, &Overrides::default());
        let study =
            study.unwrap_or_else(|error| panic!("{}\n{}\n{text}", path.display(), error.render(false)));
        assert!(!study.strategies[0].scenario.services.is_empty(), "{}", path.display());
        tried += 1;
    }
    assert!(tried > 10);

    // An autoscaler alone, and workloads that share a name.
    let alone = skeleton(&PathBuf::from("scenarios/k8s/invoices-keda.yaml")).expect("valid");
    assert!(alone.contains("autoscaler.keda = { manifest = \"scenarios/k8s/invoices-keda.yaml\""), "{alone}");
    assert!(alone.contains("activator = {}"), "{alone}");
    let all = skeleton(&PathBuf::from("scenarios/k8s")).expect("valid");
    assert_eq!(all.matches("name = \"invoices\"\n").count(), 1, "{all}");
    assert!(all.contains("another workload called `invoices`"), "{all}");
}

/// A pod whose worker is the second of its containers, scaled by the memory of the worker and the CPU of the proxy.
const MESHED: &str = "apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      containers:
      - { name: proxy, image: 'e:1', resources: { requests: { cpu: 100m }, limits: { cpu: 500m, memory: 128Mi } } }
      - { name: web, image: 'w:1', resources: { requests: { cpu: 500m, memory: 400Mi }, limits: { cpu: 1500m, memory: 600Mi } } }
      - { name: shipper, image: 's:1' }
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: { name: web }
spec:
  scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: web }
  maxReplicas: 10
  metrics:
  - { type: ContainerResource, containerResource: { name: cpu, container: proxy, target: { type: Utilization, averageUtilization: 60 } } }
  - { type: ContainerResource, containerResource: { name: memory, container: web, target: { type: AverageValue, averageValue: 300Mi } } }
";

#[test]
fn containers_keep_their_limits_and_their_names() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("web.yaml");
    fs::write(&path, MESHED).expect("written");
    let load = |text: &str| {
        let study = Study::from_text("meshed", text, &Overrides::default());
        study.unwrap_or_else(|error| panic!("{}", error.render(false)))
    };
    // What `import` writes runs; it guesses the memory that the autoscaler follows.
    let text = skeleton(&path).expect("valid");
    assert!(text.contains("memory-use = { base = \"200MiB\", per-attempt = \"1MiB\" }"), "{text}");
    let study = load(&text);
    let service = &study.strategies[0].scenario.services[0];
    let instance = &service.instance;
    assert_eq!((instance.container.as_str(), instance.cores, instance.cpu_limit), ("web", 2, Some(1.5)));
    assert_eq!((instance.memory, instance.memory_limit), (400 << 20, Some(600 << 20)));
    let names: Vec<(&str, f64)> =
        service.sidecars.iter().map(|sidecar| (sidecar.name.as_str(), sidecar.cpu_request)).collect();
    assert_eq!(names, [("proxy", 0.1), ("shipper", 0.0)], "who asks for nothing gets nothing");
    assert_eq!(service.signals.len(), 2);
    let warned = study.warnings.join("\n");
    assert!(warned.contains("the memory limit of container proxy (line 10)"), "{warned}");
    assert!(!warned.contains("container web"), "{warned}");

    // The scenario knows better.
    let text =
        text.replace("name = \"proxy\"\ncost = \"0ms\"", "name = \"proxy\"\ncost = \"2ms\"\ncpu-limit = 0.7");
    let study = load(&text);
    let proxy = &study.strategies[0].scenario.services[0].sidecars[0];
    assert_eq!((proxy.cpu_request, proxy.cpu_limit, proxy.cost.is_zero()), (0.1, Some(0.7), false));
}

/// A scenario whose rollout goes as a manifest says.
fn rolled_out(manifest: &str, workload: &str, names: &str) -> RolloutSettings {
    let text = format!(
        "[scenario]\nname = \"story\"\nduration = \"1h\"\n[[service]]\nname = \"api\"\n\
         [[service.version]]\nname = \"v1\"\n[[service.version]]\nname = \"v2\"\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 5ms\"]\n\
         [[source]]\nname = \"users\"\nto = \"api.get\"\narrivals.poisson = {{ rate = \"10/s\" }}\n\
         [[rollout]]\nat = \"1min\"\nservice = \"api\"\nto = \"v2\"\nmanifest = \"{FOLDER}/{manifest}\"\nworkload = \"{workload}\"\n{names}\n"
    );
    let study = Study::from_text("story", &text, &Overrides::default());
    let study = study.unwrap_or_else(|error| panic!("{}", error.render(false)));
    study.strategies[0].scenario.rollouts[0].how.clone()
}

#[test]
fn a_rollout_of_argo_is_what_somebody_would_have_typed() {
    let names = "metric-names = { success-rate = \"success-ratio\", p99 = \"p99-latency-ms\", mean = \"mean-latency-ms\" }";
    let found = rolled_out("argo-canary.yaml", "guestbook", names);
    let typed = "canary = { min-ready = '5s', progress-deadline = '5min', progress-deadline-abort = true, traffic-routing = true, \
         max-surge = 1, max-unavailable = 0, abort-scale-down-delay = '1min', \
         analysis = { starting-step = 1, metrics = [{ judge.threshold = { metric = 'success-ratio', window = '5min', success.at-least = 0.97 }, \
         interval = '1min', initial-delay = '1min', failure-limit = 3 }] }, \
         steps = [{ set-weight = 5 }, { pause = { duration = '10min' } }, { set-canary-scale = { weight = 25 } }, { set-weight = 20 }, \
         { pause = { duration = '40s' } }, { analysis = { metrics = [ \
         { judge.threshold = { metric = 'p99-latency', window = '30s', success = { above = 0.0, below = 0.25 }, failure.at-least = 0.5 }, \
         interval = '30s', count = 5, failure-limit = 1, inconclusive-limit = 2 }, \
         { judge.threshold = { metric = 'mean-latency', success.below = 0.1 }, dry-run = true }] } }, { pause = {} }] }";
    let typed: RolloutSettings = toml::from_str(typed).unwrap();
    assert_eq!(found, typed);

    let found = rolled_out("argo-blue-green.yaml", "shop", "");
    let typed = "blue-green = { preview-replica-count = 1, auto-promotion = '2min', scale-down-delay = '10min', pre-promotion-analysis = \
         { metrics = [{ judge.threshold = { metric = 'error-ratio', failure.above = 0.01 }, count = 1 }] } }";
    assert_eq!(found, toml::from_str::<RolloutSettings>(typed).unwrap());
}

#[test]
fn a_canary_of_flagger_is_what_somebody_would_have_typed() {
    let names = "metric-names = { not-found-percentage = \"error-percent\" }";
    let found = rolled_out("flagger.yaml", "podinfo", names);
    let typed = "flagger = { interval = '1min', threshold = 10, max-weight = 50, step-weight = 5, progress-deadline = '1min', metrics = [ \
         { judge.threshold = { metric = 'success-ratio', success.at-least = 0.99, no-data = 'failed' } }, \
         { judge.threshold = { metric = 'p99-latency', window = '30s', success.at-most = 0.5, no-data = 'failed' } }, \
         { judge.threshold = { metric = 'error-ratio', success.at-most = 0.05, no-data = 'failed' } }] }";
    assert_eq!(found, toml::from_str::<RolloutSettings>(typed).unwrap());
}

#[test]
fn a_service_takes_its_rollout_from_its_manifest() {
    let load = |manifest: &str, name: &str, more: &str| {
        let text = format!(
            "[scenario]\nname = \"story\"\nduration = \"1h\"\n[[service]]\nname = \"{name}\"\nmanifest = \"{FOLDER}/{manifest}\"\n{more}\
             instance = {{ cores = 1, workers = 8, start = \"5s\" }}\n\
             [[service.version]]\nname = \"v1\"\n[[service.version]]\nname = \"v2\"\n\
             [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 5ms\"]\n\
             [[source]]\nname = \"users\"\nto = \"{name}.get\"\narrivals.poisson = {{ rate = \"10/s\" }}\n\
             [[rollout]]\nat = \"1min\"\nservice = \"{name}\"\nto = \"v2\"\n"
        );
        let study = Study::from_text("story", &text, &Overrides::default());
        let study = study.unwrap_or_else(|error| panic!("{}", error.render(false)));
        let scenario = &study.strategies[0].scenario;
        (scenario.services[0].replicas, scenario.rollouts[0].how.name(), study.warnings.join("\n"))
    };
    let names = "metric-names = { success-rate = \"success-ratio\", p99 = \"p99-latency-ms\", mean = \"mean-latency-ms\" }\n";
    let (replicas, how, warnings) = load("argo-canary.yaml", "guestbook", names);
    assert_eq!((replicas, how), (10, "canary"));
    assert!(warnings.contains("spec.revisionHistoryLimit (line 8)"), "{warnings}");
    // The Deployment runs, and the Rollout that refers to it says how.
    let (replicas, how, _) = load("argo-blue-green.yaml", "shop", "");
    assert_eq!((replicas, how), (4, "blue-green"));
    let (replicas, how, warnings) =
        load("flagger.yaml", "podinfo", "metric-names = { not-found-percentage = \"error-percent\" }\n");
    assert_eq!((replicas, how), (2, "flagger"));
    assert!(warnings.contains("spec.analysis.webhooks"), "{warnings}");
}
