//! What clients are configured with in production is read as it is, and strictly: `tests/config` has real shapes of
//! resilience4j's properties (`.yml`) and Envoy's configuration (`.yaml`), `tests/config/broken` files with one mistake each
//! (the first line says which).

use std::fs;
use std::path::{Path, PathBuf};

use simlab::scenario::Overrides;
use simlab::scenario::model::{Edge, Study};

const FOLDER: &str = "tests/config";

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is part of the repository");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yml" || ending == "yaml"));
    files.sort();
    files
}

/// Loads the scenario of its kind with this file, which is named relative to [`FOLDER`], and with more settings.
fn load(file: &str, more: &[&str]) -> Result<Study, String> {
    let is_springs = Path::new(file).extension().is_some_and(|extension| extension == "yml");
    let what = if is_springs { "resilience4j" } else { "envoy" };
    let mut settings = vec![format!("source.shop.call.payments.{what}.manifest={file}")];
    settings.extend(more.iter().map(|&setting| setting.to_owned()));
    Study::load(&format!("{FOLDER}/{what}.toml"), &Overrides { settings, ..Overrides::default() })
        .map_err(|error| error.render(false))
}

fn edge(study: &Study) -> &Edge {
    &study.strategies[0].scenario.sources[0].edges[0]
}

/// What came of it: the policies of the edge, the limits of its call, and what has no effect.
fn shown(study: &Study) -> String {
    let edge = edge(study);
    let simlab::scenario::model::Step::Call(call) = &study.strategies[0].scenario.sources[0].steps[0] else {
        panic!("it calls")
    };
    format!(
        "timeout {:?}, cancel {}\nretry {:#?}\nbudget {:#?}\nbreaker {:#?}\nlimiter {:#?}\nbalancer {:#?}\noutlier {:#?}\nhealth check {:#?}\nhost selection {:#?}\nconnections {:#?}\nlevels {:#?}\n{}\n",
        call.timeout,
        edge.policies.cancel,
        edge.policies.retry,
        edge.policies.retry_budget,
        edge.policies.breaker,
        edge.policies.limiter,
        edge.balancer,
        edge.outlier,
        edge.health_check,
        edge.host_selection,
        edge.connections,
        edge.levels,
        study.warnings.join("\n"),
    )
}

macro_rules! snapshot {
    ($name:expr, $text:expr) => {
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "snapshots/config" }, {
            insta::assert_snapshot!($name, $text);
        });
    };
}

#[test]
fn real_shapes_become_the_policies_of_an_edge() {
    let files = files(FOLDER);
    assert!(files.len() >= 6);
    for file in files {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let study = load(&name, &[]).unwrap_or_else(|error| panic!("{error}"));
        snapshot!(name.replace('.', "-"), shown(&study));
    }
}

#[test]
fn broken_files_are_refused_with_their_place() {
    let files = files("tests/config/broken");
    assert!(files.len() >= 24);
    for file in files {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let message =
            load(&format!("broken/{name}"), &[]).map_or_else(|error| error, |_| "no error".to_owned());
        assert!(message.starts_with("error: "), "{name}: {message}");
        snapshot!(format!("broken-{}", name.replace('.', "-")), message);
    }
}

#[test]
fn a_profile_is_read_when_it_is_asked_for() {
    let with = |profile: &str| {
        load("dotted.yml", &[&format!("source.shop.call.payments.resilience4j.profile={profile}")])
    };
    let breaker = |study: &Study| format!("{:?}", edge(study).policies.breaker);
    let plain = load("dotted.yml", &[]).unwrap();
    assert!(
        plain.warnings.iter().any(|line| line.contains("the document for profile prod")),
        "{:?}",
        plain.warnings
    );
    assert!(breaker(&plain).contains("sliding_window_size: 30"), "{}", breaker(&plain));
    let prod = with("prod").unwrap();
    assert!(breaker(&prod).contains("sliding_window_size: 60"), "{}", breaker(&prod));
    assert!(with("prd").unwrap_err().contains("did you mean `prod`?"));
}

#[test]
fn what_the_scenario_says_wins() {
    let own = "source.shop.call.payments.breaker.resilience4j.failure-rate-threshold=77%";
    let study = load("plain.yml", &[own, "source.shop.call.payments.retry=none"]).unwrap();
    let breaker = format!("{:?}", edge(&study).policies.breaker);
    assert!(breaker.contains("0.77") && breaker.contains("sliding_window_size: 20"), "{breaker}");
    assert!(edge(&study).policies.retry.is_none());
}

#[test]
fn limits_on_connections_hold_where_there_are_connections() {
    let with = "source.shop.call.payments.connections.max-pending=3";
    let study = load("sidecar.yaml", &[with]).unwrap();
    let connections = edge(&study).connections.as_ref().expect("it has some");
    assert_eq!(connections.connect_timeout, simlab::time::Duration::from_millis(200));
    assert_eq!((connections.max, connections.max_pending), (20, 3), "what the scenario says wins");
    assert!(!study.warnings.iter().any(|line| line.contains("connect_timeout")), "{:?}", study.warnings);
}

#[test]
fn one_policy_can_be_read_alone() {
    let policy = |policy: &str, instance: &str| {
        let path = format!("source.shop.call.payments.{policy}");
        let settings = [format!("{path}.manifest=plain.yml"), format!("{path}.instance={instance}")];
        let settings =
            settings.into_iter().chain(["source.shop.call.payments.envoy.cluster=audit".to_owned()]);
        let overrides = Overrides { settings: settings.collect(), ..Overrides::default() };
        Study::load("tests/config/envoy.toml", &overrides).map_err(|error| error.render(false))
    };
    let study = policy("limiter.resilience4j-rate-limiter", "search").unwrap();
    let limiter = format!("{:?}", edge(&study).policies.limiter);
    assert!(limiter.contains("limit_for_period: 10") && edge(&study).policies.breaker.is_none(), "{limiter}");
    let error = policy("limiter.resilience4j-rate-limiter", "payments").unwrap_err();
    assert!(error.contains("unknown instance `payments`"), "{error}");
    assert!(policy("retry.resilience4j", "payments").is_ok());
}
