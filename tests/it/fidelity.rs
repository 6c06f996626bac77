//! Every shipped conformance vector agrees with the policies.

use std::path::Path;

use simlab::conform::queueing::Effort;
use simlab::conform::{self, Report};
use simlab::policies;

fn replay(path: &str) -> Report {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(path);
    conform::run_path(&path, false, &Effort::default()).unwrap()
}

/// All cases of the file pass, except so many that are refused or skipped for the reasons that the report gives.
#[track_caller]
fn all_pass(path: &str, left_out: u64) {
    let report = replay(path);
    let totals = report.totals();
    assert!(totals.failed == 0 && totals.passed > 0, "{}", report.table());
    assert_eq!(totals.refused + totals.skipped, left_out, "{}", report.table());
}

#[test]
fn autoscalers() {
    for family in [
        "hpa_replica_calc",
        "hpa_behavior_defaults",
        "hpa_behavior_rate",
        "hpa_convert_nobehavior",
        "hpa_stabilize_nobehavior",
        "hpa_stabilize_behavior",
        "hpa_store_event",
        "hpa_trace",
        "knative_scale",
        "knative_trace",
        "knative_window_average",
        "knative_delay_window",
        "knative_metric_target",
        "keda_executor",
        "aws_step_scaling",
        "vpa_histogram",
        "scheduler_score",
    ] {
        all_pass(&format!("autoscaler/{family}.json"), 0);
    }
}

#[test]
fn balancers() {
    all_pass("balancer/nginx_swrr.json", 0);
    all_pass("balancer/envoy_least_request.json", 0);
    all_pass("balancer/finagle_p2c_pick.json", 0);
}

#[test]
fn breakers() {
    for family in [
        "seed",
        "resilience4j",
        "hystrix",
        "sentinel",
        "gobreaker",
        "polly_v8",
        "opossum",
        "cockatiel",
        "recloser",
        "failsafe_rs",
    ] {
        all_pass(&format!("breaker/{family}.json"), 0);
    }
}

#[test]
fn limiters() {
    for family in [
        "aimd",
        "envoy_admission_control",
        "envoy_gradient",
        "envoy_local_ratelimit",
        "fixed_window",
        "gcra_governor",
        "gradient1",
        "gradient2",
        "guava_ratelimiter",
        "resilience4j_ratelimiter",
        "seed_token_bucket",
        "seed_token_bucket_naive",
        "sentinel_throttling",
        "sentinel_warmup",
        "simple_limiter_aimd",
        "sliding_window_counter",
        "sliding_window_log",
        "sre_adaptive_throttle",
        "token_bucket_go_xtime",
        "vegas",
        "windowed_gradient2",
    ] {
        all_pass(&format!("limiter/{family}.json"), 0);
    }
}

#[test]
fn shedding() {
    all_pass("limiter/codel_folly.json", 0);
}

#[test]
fn retries() {
    all_pass("limiter/seed_retry.json", 0);
    all_pass("limiter/retry_jitter_aws.json", 0);
    all_pass("limiter/retry_backoff_grpc.json", 0);
    all_pass("limiter/retry_interval_resilience4j.json", 0);
    all_pass("limiter/retry_budget_tower.json", 0);
}

#[test]
fn recommenders() {
    all_pass("autoscaler/vpa_histogram.json", 0);
}

#[test]
fn schedulers() {
    all_pass("autoscaler/scheduler_score.json", 0);
}

#[test]
fn nothing_fails_anywhere() {
    let report = replay("");
    let totals = report.totals();
    assert_eq!(totals.failed, 0, "{}", report.table());
    assert!(report.is_ok());
    let names: Vec<&str> = report.rows.iter().map(|row| row.family.as_str()).collect();
    assert!(names.contains(&"hpa_replica_calc") && names.contains(&"vc.freeness"), "{names:?}");
    assert!(report.table().ends_with(&format!("\n{}\n", report.summary())));
    assert_eq!(report.json()["totals"]["passed"], totals.passed);
}

#[test]
fn detection_and_discovery() {
    all_pass("breaker/envoy_outlier.json", 0);
    all_pass("balancer/envoy_priority_panic.json", 0);
    all_pass("balancer/envoy_zone_aware.json", 0);
    all_pass("balancer/eureka_lease.json", 0);
    all_pass("balancer/k8s_lease_election.json", 0);
    all_pass("balancer/k8s_probe.json", 0);
    all_pass("balancer/phi_accrual.json", 0);
    all_pass("balancer/swim_memberlist.json", 0);
}

#[test]
fn the_cards_are_fresh_and_fit_a_terminal() {
    let cards = replay("").cards();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/FIDELITY.md");
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == cards,
        "docs/FIDELITY.md is stale: cargo run --release -- conform tests/vectors --markdown > docs/FIDELITY.md"
    );
    for kind in policies::kinds() {
        assert!(cards.contains(&format!("\n### {}\n", kind.written())), "{} has no card", kind.written());
    }
    let table = replay("").table();
    let wide = table.lines().filter(|line| !line.starts_with("left out")).chain(cards.lines());
    let wide: Vec<&str> = wide.filter(|line| line.chars().count() > 120).collect();
    assert!(wide.is_empty(), "too wide: {wide:#?}");
}

#[test]
fn adapters_are_named_once_and_belong_to_an_algorithm() {
    let kinds: Vec<_> = policies::kinds().collect();
    let mut seen = Vec::new();
    for adapter in conform::ADAPTERS.iter().flat_map(|family| family.iter()) {
        assert!(!seen.contains(&(adapter.schema, adapter.family)), "{} twice", adapter.family);
        seen.push((adapter.schema, adapter.family));
        let (family, name) = adapter.algorithm.split_once('.').unwrap();
        if kinds.iter().any(|kind| kind.family == family) {
            assert!(
                kinds.iter().any(|kind| kind.family == family && kind.name == name),
                "{}",
                adapter.algorithm
            );
        }
    }
}
