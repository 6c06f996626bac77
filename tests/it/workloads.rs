//! Whole workloads out of manifests: what a service takes over, what wins over it, and what is refused.

use std::fs;

use simlab::policies::autoscaler::AutoscalerSettings;
use simlab::policies::disruption::DisruptionBudget;
use simlab::policies::rollout::rolling::IntOrPercent;
use simlab::scenario::Overrides;
use simlab::scenario::import::skeleton;
use simlab::scenario::model::{Service, Study};

const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata: { name: api }
spec:
  replicas: 3
  selector: { matchLabels: { app: api } }
  template:
    metadata: { labels: { app: api } }
    spec:
      terminationGracePeriodSeconds: 45
      serviceAccountName: api
      containers:
      - name: app
        image: registry/api:1
        resources: { requests: { cpu: 1500m, memory: 1Gi }, limits: { cpu: '2' } }
        readinessProbe: { initialDelaySeconds: 7, tcpSocket: { port: 80 } }
      - name: proxy
        image: registry/proxy:1
        resources: { requests: { cpu: 250m, memory: 128Mi }, limits: { cpu: 500m } }
";

const HPA: &str = "apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: { name: api-scaler }
spec:
  scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: api }
  minReplicas: 2
  maxReplicas: 9
  metrics:
  - { type: Resource, resource: { name: cpu, target: { type: Utilization, averageUtilization: 55 } } }
";

const BUDGET: &str = "apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: { name: api }
spec:
  minAvailable: 60%
  selector: { matchLabels: { app: api } }
";

const SCALED: &str = "apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: { name: api-events }
spec:
  scaleTargetRef: { name: api }
  pollingInterval: 15
  idleReplicaCount: 0
  minReplicaCount: 2
  maxReplicaCount: 48
  fallback: { failureThreshold: 3, replicas: 12, behavior: currentReplicasIfHigher }
  advanced:
    horizontalPodAutoscalerConfig:
      behavior: { scaleDown: { stabilizationWindowSeconds: 120 } }
  triggers:
  - type: kafka
    name: lag
    metadata: { topic: orders, lagThreshold: '50', activationLagThreshold: '5' }
  - type: cpu
    metricType: Utilization
    metadata: { value: '70' }
";

const KNATIVE: &str = "apiVersion: serving.knative.dev/v1
kind: Service
metadata: { name: api }
spec:
  template:
    metadata:
      annotations:
        autoscaling.knative.dev/target-utilization-percentage: '80'
        autoscaling.knative.dev/window: 40s
        autoscaling.knative.dev/min-scale: '2'
        autoscaling.knative.dev/max-scale: '50'
        autoscaling.knative.dev/target-burst-capacity: '-1'
    spec:
      containerConcurrency: 16
      containers:
      - image: registry/api:1
        resources: { requests: { cpu: 400m } }
";

/// A scenario whose only service, beside name and endpoint, says `service`, with these manifests in the folder `k8s`.
fn study(manifests: &[&str], service: &str) -> Result<Study, String> {
    let root = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(root.path().join("k8s")).expect("made");
    fs::write(root.path().join("k8s/all.yaml"), manifests.join("---\n")).expect("written");
    let text = format!(
        "[scenario]\nname = \"workload\"\nduration = \"1min\"\n[[service]]\nname = \"api\"\n{service}\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 1ms\"]\n\
         [[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.poisson = {{ rate = \"1/s\" }}\n"
    );
    let path = root.path().join("scenario.toml");
    fs::write(&path, text).expect("written");
    let hidden = format!("{}/", root.path().display());
    Study::load(&path.display().to_string(), &Overrides::default())
        .map_err(|error| error.render(false).replace(&hidden, ""))
}

fn service(manifests: &[&str], text: &str) -> Service {
    let study = study(manifests, text).unwrap_or_else(|error| panic!("{error}"));
    study.strategies.into_iter().next().unwrap().scenario.services.into_iter().next().unwrap()
}

#[test]
fn a_service_is_its_deployment_with_all_that_is_about_it() {
    let found = service(&[DEPLOYMENT, HPA, BUDGET], "manifest = \"k8s/\"");
    let instance = &found.instance;
    // A limit of two whole cores needs no quota.
    assert_eq!((found.replicas, instance.cores, instance.cpu_request), (3, 2, 1.5));
    assert_eq!(instance.cpu_limit, None);
    assert_eq!((instance.memory, instance.grace.as_secs_f64()), (1024 << 20, 45.0));
    let [proxy] = &found.sidecars[..] else { panic!("{:?}", found.sidecars) };
    assert_eq!((proxy.name.as_str(), proxy.cpu_request, proxy.memory), ("proxy", 0.25, 128 << 20));
    // Its first look is seven seconds after the start, which itself takes no time that the manifest would know of.
    let [readiness] = &found.probes[..] else { panic!("{:?}", found.probes) };
    assert_eq!(instance.start.constant(), Some(0.0));
    assert_eq!(readiness.settings.initial_delay().as_secs_f64(), 7.0);
    let Some(AutoscalerSettings::Hpa(hpa)) = &found.autoscaler else { panic!("{:?}", found.autoscaler) };
    assert_eq!((hpa.min_replicas, hpa.max_replicas.get()), (2, 9));
    assert_eq!(found.disruption_budget, Some(DisruptionBudget::MinAvailable(IntOrPercent::Percent(60))));
    assert!(found.activator.is_none());
}

#[test]
fn what_stands_beside_the_manifest_wins() {
    let found = service(
        &[DEPLOYMENT, HPA, BUDGET],
        "manifest = \"k8s/all.yaml\"\nreplicas = 5\ninstance = { cores = 4, start = \"1s\" }\n\
         autoscaler.hpa = { max-replicas = 30 }\ndisruption-budget = { max-unavailable = 1 }",
    );
    assert_eq!((found.replicas, found.instance.cores, found.instance.cpu_request), (5, 4, 1.5));
    let Some(AutoscalerSettings::Hpa(hpa)) = &found.autoscaler else { panic!("{:?}", found.autoscaler) };
    assert_eq!((hpa.min_replicas, hpa.max_replicas.get()), (2, 30));
    assert_eq!(found.disruption_budget, Some(DisruptionBudget::MaxUnavailable(IntOrPercent::Int(1))));
    let found = service(&[DEPLOYMENT, HPA], "manifest = \"k8s/\"\nautoscaler = \"none\"");
    assert!(found.autoscaler.is_none());
    let found = service(&[DEPLOYMENT, HPA], "manifest = \"k8s/\"\nautoscaler.fixed = { replicas = 4 }");
    assert!(matches!(found.autoscaler, Some(AutoscalerSettings::Fixed(_))));
}

#[test]
fn a_scaled_object_is_taken_over() {
    let names = "metric-names = { lag = \"service.api.queue-length\" }";
    let whole = service(&[DEPLOYMENT, SCALED], &format!("manifest = \"k8s/\"\n{names}"));
    let alone = service(&[SCALED], &format!("autoscaler.keda = {{ manifest = \"k8s/\", {names} }}"));
    assert_eq!(whole.autoscaler, alone.autoscaler);
    let Some(AutoscalerSettings::Keda(keda)) = &alone.autoscaler else { panic!("{:?}", alone.autoscaler) };
    assert_eq!((keda.polling_interval.as_secs_f64(), keda.cooldown_period.as_secs_f64()), (15.0, 300.0));
    assert_eq!((keda.idle_replica_count, keda.hpa_bounds()), (Some(0), (2, 48)));
    assert_eq!(keda.fallback.map(|fallback| fallback.replicas), Some(12));
    assert!(keda.behavior.as_ref().is_some_and(|behavior| behavior.scale_down.is_some()));
    let triggers: Vec<_> = keda
        .triggers
        .iter()
        .map(|trigger| (trigger.metric.as_str(), trigger.threshold.milli, trigger.activation_threshold))
        .collect();
    assert_eq!(triggers, [("service.api.queue-length", 50_000, 5.0), ("cpu", 70_000, 0.0)]);
}

#[test]
fn a_service_of_knative_is_taken_over() {
    let found = service(&[KNATIVE], "manifest = \"k8s/\"");
    assert_eq!((found.replicas, found.instance.cores, found.instance.cpu_request), (2, 1, 0.4));
    let Some(AutoscalerSettings::Kpa(kpa)) = &found.autoscaler else { panic!("{:?}", found.autoscaler) };
    assert_eq!((kpa.min_scale, kpa.max_scale, kpa.container_concurrency), (2, 50, 16));
    assert_eq!(kpa.target_utilization_percentage, Some(80.0));
    assert_eq!((kpa.window.as_secs_f64(), kpa.target_burst_capacity), (40.0, -1.0));
    let activator = found.activator.expect("comes with Knative");
    assert_eq!((activator.capacity, activator.per_instance), (10_000, Some(16)));
}

#[test]
fn what_has_no_effect_is_said_once_per_file() {
    let study =
        study(&[DEPLOYMENT, HPA, BUDGET], "manifest = \"k8s/\"").unwrap_or_else(|error| panic!("{error}"));
    let notes: Vec<&String> =
        study.warnings.iter().filter(|warning| warning.contains("without effect")).collect();
    let [note] = notes[..] else { panic!("{:?}", study.warnings) };
    assert!(note.contains("k8s/all.yaml: ") && note.contains("serviceAccountName (line 11)"), "{note}");
}

#[test]
fn what_is_not_there_or_not_possible_is_refused() {
    let other = DEPLOYMENT.replace("metadata: { name: api }", "metadata: { name: shop }");
    let cron = SCALED.replace("type: kafka", "type: cron");
    let hpa_class = KNATIVE.replace(
        "        autoscaling.knative.dev/window: 40s\n",
        "        autoscaling.knative.dev/class: hpa.autoscaling.knative.dev\n",
    );
    let names = "metric-names = { lag = \"service.api.queue-length\" }";
    let cases = [
        study(&[&other], "manifest = \"k8s/\""),
        study(&[&other, HPA], "manifest = \"k8s/\"\nworkload = \"shopp\""),
        study(&[HPA], "manifest = \"k8s/\""),
        study(&[DEPLOYMENT], "manifest = \"k8s/al.yaml\""),
        study(&[DEPLOYMENT, HPA, SCALED], &format!("manifest = \"k8s/\"\n{names}")),
        study(&[DEPLOYMENT, SCALED], "manifest = \"k8s/\""),
        study(&[&cron], &format!("autoscaler.keda = {{ manifest = \"k8s/\", {names} }}")),
        study(&[&hpa_class], "manifest = \"k8s/\""),
        study(&[KNATIVE], "autoscaler.kpa = { manifest = \"k8s/\", min-scal = 1 }"),
        study(&[KNATIVE], "autoscaler.hpa = { manifst = \"k8s/\" }"),
        study(&[KNATIVE], "autoscaler.keda = { triggers = [] }"),
        study(&[KNATIVE], "disruption-budget = { min-available = 1, max-unavailable = 1 }"),
        study(&[KNATIVE], "activator = { capacity = 0, timeout = \"0s\" }"),
        study(&[KNATIVE], "autoscaler.hpa = { min-replicas = 0, max-replicas = 3 }"),
    ];
    let text: Vec<String> = cases.into_iter().map(|case| case.map(|_| ()).expect_err("refused")).collect();
    insta::assert_snapshot!("workloads_refused", text.join("\n"));
}

#[test]
fn imported_workloads_run() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let path = root.path().join("all.yaml");
    let second = KNATIVE.replace("metadata: { name: api }", "metadata: { name: thumbs }");
    fs::write(&path, [DEPLOYMENT, SCALED, &second].join("---\n")).expect("written");
    let text = skeleton(&path).expect("valid");
    let hidden = text.replace(&root.path().display().to_string(), "FOLDER");
    insta::assert_snapshot!("workloads_imported", hidden);
    let study = Study::from_text("imported", &text, &Overrides::default());
    let study = study.unwrap_or_else(|error| panic!("{}", error.render(false)));
    let [api, thumbs] = &study.strategies[0].scenario.services[..] else { panic!("two services") };
    assert!(matches!(api.autoscaler, Some(AutoscalerSettings::Keda(_))));
    assert!(matches!(thumbs.autoscaler, Some(AutoscalerSettings::Kpa(_))));
}
