//! What every registered algorithm promises, tested over the registries: an algorithm added later is tested as it is.
//!
//! The drivers play random histories of at least [`STEPS`] steps against each algorithm and each of its settings in
//! [`VARIANTS`], twice: the second run must give the same answers. The hot calls of the traffic families are made through
//! [`hot`], which counts what they allocate.

mod control;
mod elections;
mod health;
mod judges;
mod transactions;
mod worst;

use std::cell::Cell;

use serde::de::DeserializeOwned;
use serde_json::json;
use simlab::policies::balancer::{AnyBalancer, Balancer, BalancerSettings, Reading};
use simlab::policies::breaker::{Breaker, BreakerSettings, BreakerState};
use simlab::policies::hedge::{Act, AnyHedge, Copies, HedgePolicy, HedgeSettings};
use simlab::policies::limiter::{Limiter, LimiterSettings};
use simlab::policies::retry::{Budget, BudgetSettings, Ended, Retry, RetryPolicy, RetrySettings};
use simlab::policies::shedding::{Newcomer, Shedding, SheddingSettings, Turn};
use simlab::policies::view::{Admit, Class, Endpoints, Outcome, Permit, RequestHead, Slot};
use simlab::policies::{self, Kind};
use simlab::random::{Key, Rng, mix};
use simlab::time::{Duration, Time};

/// Steps of one run.
const STEPS: u32 = 100_000;

/// Settings to test beside the defaults. An algorithm with a required setting and nothing here runs with [`least`].
const VARIANTS: &[(&str, &str, &str)] = &[
    (
        "autoscaler",
        "aws-simple",
        r#"{"min-size": 2, "max-size": 12, "policies": [{"threshold": 70, "adjustment-type": "change-in-capacity", "scaling-adjustment": 3}, {"threshold": 30, "comparison-operator": "less-than-threshold", "adjustment-type": "percent-change-in-capacity", "scaling-adjustment": -30}]}"#,
    ),
    (
        "autoscaler",
        "aws-step",
        r#"{"min-size": 2, "max-size": 12, "policies": [{"threshold": 60, "adjustment-type": "percent-change-in-capacity", "step-adjustments": [{"metric-interval-lower-bound": 0, "metric-interval-upper-bound": 20, "scaling-adjustment": 10}, {"metric-interval-lower-bound": 20, "scaling-adjustment": 300}]}, {"threshold": 30, "comparison-operator": "less-than-threshold", "adjustment-type": "change-in-capacity", "step-adjustments": [{"metric-interval-upper-bound": 0, "scaling-adjustment": -2}]}]}"#,
    ),
    ("autoscaler", "aws-target-tracking", r#"{"min-size": 2, "max-size": 12, "target-value": 50}"#),
    ("autoscaler", "fixed", r#"{"replicas": 7}"#),
    ("autoscaler", "hpa", r#"{"min-replicas": 2, "max-replicas": 12}"#),
    (
        "autoscaler",
        "hpa",
        r#"{"max-replicas": 30, "metrics": [{"resource": {"name": "memory", "average-value": "300Mi"}}, {"pods": {"metric": "concurrency", "average-value": "4"}}, {"external": {"metric": "source.a.requests-per-second", "value": "100"}}]}"#,
    ),
    (
        "autoscaler",
        "keda",
        r#"{"min-replica-count": 2, "max-replica-count": 9, "idle-replica-count": 0, "triggers": [{"metric": "service.a.queue-length", "threshold": 5, "activation-threshold": 3}, {"metric": "cpu", "threshold": 60}], "fallback": {"failure-threshold": 3, "replicas": 6}}"#,
    ),
    ("autoscaler", "kpa", r#"{"min-scale": 2, "max-scale": 12, "target": 5}"#),
    ("autoscaler", "kpa", r#"{"metric": "rps", "max-scale": 40, "scale-down-delay": "1min"}"#),
    (
        "autoscaler",
        "predictive",
        r#"{"metric": "service.a.requests-per-second", "per-instance": 10, "max-replicas": 40}"#,
    ),
    (
        "autoscaler",
        "predictive",
        r#"{"metric": "service.a.requests-per-second", "per-instance": 0.5, "min-replicas": 3, "max-replicas": 40, "season": "1h"}"#,
    ),
    (
        "autoscaler",
        "scheduled",
        r#"{"schedule": [{"at": "0s", "replicas": 3}, {"at": "5h", "replicas": 9}], "every": "24h"}"#,
    ),
    (
        "detector",
        "envoy",
        r#"{"timeout": "1s", "interval": "5s", "unhealthy-threshold": 3, "healthy-threshold": 2}"#,
    ),
    (
        "detector",
        "envoy",
        r#"{"timeout": "1s", "interval": "5s", "unhealthy-threshold": 1, "healthy-threshold": 1, "interval-jitter": "2s", "unhealthy-interval": "1s"}"#,
    ),
    ("detector", "kubelet", r#"{"success-threshold": 3, "failure-threshold": 1, "period": "300ms"}"#),
    (
        "detector",
        "phi-accrual",
        r#"{"threshold": 1, "max-sample-size": 3, "acceptable-heartbeat-pause": "0s"}"#,
    ),
    (
        "judge",
        "kayenta",
        r#"{"metrics": [{"metric": "error-ratio", "direction": "increase", "critical": true}, {"metric": "mean-latency", "effect-size": "cles", "outlier-strategy": "remove"}]}"#,
    ),
    ("judge", "sprt", r#"{"good": 0.01, "bad": 0.05, "most-requests": 100000}"#),
    ("judge", "msprt", r#"{"slow": "100ms", "least-requests": 1}"#),
    (
        "judge",
        "threshold",
        r#"{"metric": "p99-latency", "success": {"below": 0.3}, "failure": {"at-least": 0.6}, "no-data": "failed"}"#,
    ),
    ("discovery", "heartbeats", r#"{"detector": {"phi-accrual": {}}, "fetch": "7s"}"#),
    ("discovery", "eureka", r#"{"enable-self-preservation": false, "lease-expiration-duration": "40s"}"#),
    ("discovery", "consul", r#"{"ttl": "4s", "deregister-critical-service-after": "1min"}"#),
    (
        "election",
        "lease",
        r#"{"lease-duration": "3s", "renew-deadline": "2s", "retry-period": "1s", "release-on-cancel": true}"#,
    ),
    ("election", "raft", r#"{"pre-vote": false, "check-quorum": false}"#),
    ("host-selection", "envoy", r#"{"healthy-panic-threshold": "0%", "priorities": [["b"], ["a"]]}"#),
    ("host-selection", "envoy", r#"{"zone-aware": {"min-cluster-size": 1}}"#),
    (
        "host-selection",
        "envoy",
        r#"{"priorities": [["c", "a"], ["b"]], "zone-aware": {"routing-enabled": "60%", "fail-traffic-on-panic": true}}"#,
    ),
    (
        "outlier",
        "envoy",
        r#"{"max-ejection-percent": "100%", "enforcing-consecutive-gateway-failure": "40%", "consecutive-gateway-failure": 2, "max-ejection-time-jitter": "7s"}"#,
    ),
    (
        "outlier",
        "envoy",
        r#"{"success-rate-minimum-hosts": 2, "success-rate-request-volume": 2, "success-rate-stdev-factor": 300, "failure-percentage-minimum-hosts": 1, "failure-percentage-request-volume": 3, "enforcing-failure-percentage": "100%", "always-eject-one-host": true, "consecutive-5xx": 100}"#,
    ),
    ("balancer", "smooth-weighted-round-robin", r#"{"max-fails": 0}"#),
    ("balancer", "smooth-weighted-round-robin", r#"{"max-fails": 3, "fail-timeout": "2s", "max-conns": 4}"#),
    ("balancer", "least-request", r#"{"selection-method": "full-scan", "active-request-bias": 0.5}"#),
    ("balancer", "least-request", r#"{"choice-count": 5, "active-request-bias": 0}"#),
    ("balancer", "least-request", r#"{"slow-start": {"window": "3s", "aggression": 2}}"#),
    ("balancer", "weighted-round-robin", r#"{"slow-start": {"window": "3s", "min-weight-percent": "1%"}}"#),
    ("balancer", "least-conn", r#"{"max-fails": 0}"#),
    ("balancer", "least-conn", r#"{"max-fails": 3, "fail-timeout": "2s", "max-conns": 4}"#),
    ("balancer", "peak-ewma", r#"{"default-rtt": "1s", "decay": "1ns"}"#),
    (
        "balancer",
        "ring-hash",
        r#"{"minimum-ring-size": 1, "maximum-ring-size": 3, "retry-other-host": true}"#,
    ),
    ("balancer", "maglev", r#"{"table-size": 7, "retry-other-host": true}"#),
    (
        "balancer",
        "prequal",
        r#"{"probes-per-query": 2.7, "removals-per-query": 0.3, "pool-size": 2, "rif-quantile": "0%"}"#,
    ),
    ("balancer", "prequal", r#"{"probes-per-query": 0, "rif-quantile": "100%", "probe-age": "0s"}"#),
    ("balancer", "least-rate", r#"{"metric": "tps", "window": "1ms"}"#),
    ("balancer", "aperture", r#"{"kind": "random", "min-aperture": 3}"#),
    ("balancer", "aperture", r#"{"min-aperture": 2}"#),
    ("breaker", "seed", r#"{"error-threshold": 1, "open": "10s"}"#),
    ("breaker", "seed", r#"{"error-threshold": 3, "window": "900ms", "count-unit": "100ms", "open": "0s"}"#),
    (
        "breaker",
        "resilience4j",
        r#"{"sliding-window-type": "time-based", "sliding-window-size": 7, "minimum-number-of-calls": 3, "max-wait-duration-in-half-open-state": "3s", "automatic-transition-from-open-to-half-open-enabled": true, "wait-duration-in-open-state": "2s"}"#,
    ),
    (
        "breaker",
        "resilience4j",
        r#"{"sliding-window-size": 5, "slow-call-duration-threshold": "800ms", "slow-call-rate-threshold": "60%", "exponential-backoff-multiplier": 1.5, "max-wait-duration-in-half-open-state": "1s", "transition-to-state-after-wait-duration": "closed"}"#,
    ),
    (
        "breaker",
        "resilience4j",
        r#"{"sliding-window-size": 1, "permitted-number-of-calls-in-half-open-state": 1, "exponential-backoff-multiplier": 3, "exponential-max-wait-duration-in-open-state": "5min"}"#,
    ),
    (
        "breaker",
        "hystrix",
        r#"{"request-volume-threshold": 1, "sleep-window": "0s", "rolling-window": "3s"}"#,
    ),
    ("breaker", "sentinel", r#"{"max-rt": "600ms", "ratio-threshold": "50%", "time-window": "2s"}"#),
    ("breaker", "sentinel", r#"{"grade": "error-ratio", "ratio-threshold": "40%", "time-window": "20s"}"#),
    (
        "breaker",
        "sentinel",
        r#"{"grade": "error-count", "count": 3, "time-window": "1s", "stat-interval": "5s"}"#,
    ),
    (
        "breaker",
        "gobreaker",
        r#"{"max-requests": 3, "interval": "5s", "timeout": "3s", "consecutive-failures": 2}"#,
    ),
    (
        "breaker",
        "gobreaker",
        r#"{"interval": "5s", "bucket-period": "700ms", "failure-ratio": "50%", "min-requests": 4}"#,
    ),
    ("breaker", "polly", r#"{"minimum-throughput": 5, "failure-ratio": "50%", "sampling-duration": "3s"}"#),
    (
        "breaker",
        "polly",
        r#"{"minimum-throughput": 2, "failure-ratio": "100%", "sampling-duration": "100ms"}"#,
    ),
    (
        "breaker",
        "recloser",
        r#"{"closed-len": 5, "half-open-len": 1, "doubling-cap": "2min", "open-wait": "1s"}"#,
    ),
    (
        "breaker",
        "failsafe",
        r#"{"policy": "success-rate-over-time-window", "window": "5s", "backoff-start": "1s"}"#,
    ),
    ("limiter", "seed-token-bucket", r#"{"capacity": 5, "fill-rate": "3/s"}"#),
    ("limiter", "seed-token-bucket", r#"{"capacity": 9, "fill-rate": "12.3456789/s"}"#),
    ("limiter", "seed-token-bucket", r#"{"capacity": 3, "fill-rate": "100/min"}"#),
    ("limiter", "seed-token-bucket-naive", r#"{"capacity": 5, "fill-rate": "3/s"}"#),
    ("limiter", "seed-token-bucket-naive", r#"{"capacity": 9, "fill-rate": "12.3456789/s"}"#),
    ("limiter", "token-bucket", r#"{"rate": "3/s", "burst": 5}"#),
    ("limiter", "token-bucket", r#"{"rate": "12.3456789/s", "burst": 2, "max-wait": "1s"}"#),
    ("limiter", "gcra", r#"{"replenish-1-per": "333333333ns", "max-burst": 4}"#),
    ("limiter", "fixed-window", r#"{"limit": 4, "window": "700ms"}"#),
    ("limiter", "sliding-window-log", r#"{"limit": 4, "window": "700ms"}"#),
    ("limiter", "sliding-window-counter", r#"{"limit": 4, "window": "700ms"}"#),
    ("limiter", "smooth-bursty", r#"{"permits-per-second": "3/s"}"#),
    ("limiter", "smooth-bursty", r#"{"permits-per-second": "7.7/s", "max-burst": "2s", "timeout": "30ms"}"#),
    (
        "limiter",
        "smooth-warming-up",
        r#"{"permits-per-second": "7/s", "warmup-period": "3s", "timeout": "1s"}"#,
    ),
    ("limiter", "sentinel-throttling", r#"{"count": 7}"#),
    ("limiter", "sentinel-throttling", r#"{"count": 10, "max-queueing-time": "30ms"}"#),
    ("limiter", "sentinel-warm-up", r#"{"count": "4/s"}"#),
    ("limiter", "resilience4j-rate-limiter", r#"{"limit-for-period": 2, "limit-refresh-period": "300ms"}"#),
    (
        "limiter",
        "resilience4j-rate-limiter",
        r#"{"limit-for-period": 1, "limit-refresh-period": "20ms", "timeout-duration": "30ms"}"#,
    ),
    ("limiter", "envoy-local-rate-limit", r#"{"max-tokens": 4, "fill-interval": "250ms"}"#),
    ("limiter", "bulkhead", r#"{"max-concurrent": 4}"#),
    ("limiter", "bulkhead", r#"{"max-concurrent": 3, "max-wait": "1s"}"#),
    ("limiter", "lifo-blocking", r#"{"delegate": {"aimd": {"min-limit": 1, "max-limit": 12}}}"#),
    (
        "limiter",
        "partitioned",
        r#"{"delegate": {"fixed": 6}, "partitions": [{"priority": 0, "percent": "20%"}, {"priority": 1, "percent": "80%"}]}"#,
    ),
    ("limiter", "envoy-circuit-breakers", r#"{"max-requests": 5}"#),
    (
        "provisioner",
        "cluster-autoscaler",
        r#"{"scale-down-unneeded-time": "20s", "scale-down-delay-after-add": "0s", "max-nodes-total": 9, "expander": "random"}"#,
    ),
    ("provisioner", "karpenter", r#"{"budget": "100%", "consolidate-after": "30s"}"#),
    ("recommender", "vpa", r#"{"min-allowed": {"cpu": "100m"}, "max-allowed": {"cpu": "2"}}"#),
    ("limiter", "aimd", r#"{"min-limit": 1, "max-limit": 12, "backoff-ratio": 0.5}"#),
    ("limiter", "vegas", r#"{"max-limit": 9, "probe-multiplier": 2, "smoothing": 0.5}"#),
    ("limiter", "gradient", r#"{"max-limit": 9, "probe-interval": 50}"#),
    ("limiter", "gradient2", r#"{"min-limit": 1, "max-limit": 9, "queue-size": 1}"#),
    ("limiter", "windowed", r#"{"delegate": {"vegas": {"max-limit": 9}}, "window-size": 3}"#),
    (
        "limiter",
        "windowed",
        r#"{"delegate": {"aimd": {"min-limit": 1, "max-limit": 9}}, "max-window-time": "2s"}"#,
    ),
    (
        "limiter",
        "envoy-adaptive-concurrency",
        r#"{"concurrency-update-interval": "100ms", "min-rtt-interval": "5s", "max-concurrency-limit": 12}"#,
    ),
    ("limiter", "sre-adaptive-throttle", r#"{"k": 1.1, "window": "30s"}"#),
    (
        "limiter",
        "envoy-admission-control",
        r#"{"sampling-window": "60s", "aggression": 2.5, "rps-threshold": 1}"#,
    ),
    ("shedding", "codel", r#"{"interval": "20ms", "target-delay": "40ms"}"#),
    ("shedding", "deadline", r#"{"needs": "20ms"}"#),
    ("shedding", "failsafe-go-priority", r#"{"calibration-interval": "30ms", "level-window": 50}"#),
    ("retry", "seed", r#"{"attempts": 7, "backoff": 3, "increase": "50%"}"#),
    ("retry", "fixed", r#"{"attempts": 1}"#),
    ("retry", "exponential", r#"{"attempts": 40, "base": "1s", "max-delay": "1min"}"#),
    ("retry", "equal-jitter", r#"{"attempts": 40, "base": "1s", "max-delay": "1min"}"#),
    ("retry", "decorrelated", r#"{"attempts": 40, "base": "1s", "max-delay": "1min"}"#),
    ("retry", "no-jitter", r#"{"attempts": 40, "base": "1s", "max-delay": "1min"}"#),
    (
        "retry",
        "grpc",
        r#"{"max-attempts": 5, "initial-backoff": "1s", "max-backoff": "9s", "backoff-multiplier": 2.5}"#,
    ),
    ("retry", "resilience4j", r#"{"max-attempts": 40, "exponential-backoff-multiplier": 3}"#),
    ("retry", "cockatiel", r#"{"max-attempts": 40}"#),
    ("retry", "cockatiel", r#"{"max-attempts": 12, "generator": "half-jitter", "max-delay": "1min"}"#),
    (
        "retry",
        "polly",
        r#"{"max-retry-attempts": 40, "backoff-type": "exponential", "use-jitter": true, "max-delay": "1min"}"#,
    ),
    ("retry", "seed-naive", r#"{"attempts": 9, "max-delay": "1min"}"#),
    ("retry-budget", "tower", r#"{"ttl": "1s", "min-per-sec": 0, "retry-percent": "50%"}"#),
    ("retry-budget", "tower", r#"{"ttl": "60s", "min-per-sec": 2, "retry-percent": "0%"}"#),
    ("retry-budget", "finagle", r#"{"ttl": "1s", "min-retries-per-sec": 0, "percent-can-retry": "30%"}"#),
    ("retry-budget", "envoy", r#"{"budget-percent": "50%", "min-retry-concurrency": 1}"#),
    ("retry-budget", "grpc", r#"{"max-tokens": 1000, "token-ratio": 2.5}"#),
    ("retry-budget", "token-bucket", r#"{"size": 12.5, "fill": 0.25, "deposit": "success"}"#),
    ("retry-budget", "aws-sdk", r#"{"initial-capacity": 20}"#),
    ("retry-budget", "failure-ratio", r#"{"max-ratio": "80%"}"#),
    (
        "hedge",
        "grpc",
        r#"{"max-attempts": 5, "hedging-delay": "10ms", "non-fatal": ["rejected", "failure"]}"#,
    ),
    ("hedge", "grpc", r#"{"max-attempts": 2, "hedging-delay": "0s"}"#),
    ("hedge", "percentile", r#"{"latency-percentile": "50%", "min-data-points": 1, "period": "1s"}"#),
];

/// All settings of one algorithm to test, with a name for messages.
fn variants<S: DeserializeOwned>(kind: &Kind) -> Vec<(String, S)> {
    let Kind { family, name, .. } = kind;
    let mut found: Vec<(String, S)> = Vec::new();
    if let Ok(defaults) = serde_json::from_value(json!({ *name: {} })) {
        found.push((format!("{family}.{name} = {{}}"), defaults));
    }
    for (_, _, text) in VARIANTS.iter().filter(|(f, n, _)| f == family && n == name) {
        let settings = serde_json::from_str(&format!("{{\"{name}\": {text}}}"))
            .unwrap_or_else(|error| panic!("{family}.{name} = {text}: {error}"));
        found.push((format!("{family}.{name} = {text}"), settings));
    }
    if found.is_empty() {
        found.push(least(kind));
    }
    found
}

/// The fewest settings with which an algorithm can be built.
fn least<S: DeserializeOwned>(kind: &Kind) -> (String, S) {
    let values = [json!(5), json!("1s"), json!("5/s"), json!("50%"), json!(0.5), json!("1MiB"), json!(true)];
    let found = policies::least(kind.name, &values);
    let (given, settings) = found.unwrap_or_else(|| panic!("{}: add settings to VARIANTS", kind.written()));
    (format!("least {} = {given}", kind.written()), settings)
}

thread_local! {
    /// Allocations in hot calls so far.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Makes a call that must not allocate, and counts if it does.
fn hot<T>(call: impl FnOnce() -> T) -> T {
    let mut answer = None;
    let heap = allocation_counter::measure(|| answer = Some(call()));
    ALLOCATIONS.set(ALLOCATIONS.get() + heap.count_total);
    answer.unwrap()
}

#[test]
fn allocations_are_counted() {
    ALLOCATIONS.set(0);
    assert_eq!(hot(|| 1 + 1), 2);
    assert_eq!(ALLOCATIONS.get(), 0);
    assert_eq!(*hot(|| Box::new(1)), 1);
    assert_eq!(ALLOCATIONS.get(), 1);
}

/// Whether the doc of an algorithm has the words with which it declares an exception to one of the contracts.
fn declares(kind: &Kind, exception: &str) -> bool {
    let doc = kind.doc().split_whitespace().collect::<Vec<_>>().join(" ");
    doc.contains(&format!("exception to the contract of {exception}"))
}

/// Families whose drivers stand here, in [`control`] and in [`health`]. A family that is new needs one.
const DRIVEN: &[&str] = &[
    "autoscaler",
    "balancer",
    "breaker",
    "detector",
    "discovery",
    "election",
    "hedge",
    "host-selection",
    "judge",
    "limiter",
    "outlier",
    "provisioner",
    "recommender",
    "retry",
    "retry-budget",
    "rollout",
    "scheduler",
    "shedding",
    "transaction",
];

#[test]
fn every_family_has_a_driver() {
    for kind in policies::kinds() {
        assert!(DRIVEN.contains(&kind.family), "{} is held to no contract", kind.family);
    }
}

/// Runs `driver` twice for each algorithm and setting and compares the digests of its answers.
fn for_each<S: DeserializeOwned>(kinds: &[Kind], driver: impl Fn(&Kind, &str, &S) -> u64) {
    for kind in kinds {
        for (text, settings) in variants::<S>(kind) {
            ALLOCATIONS.set(0);
            let first = driver(kind, &text, &settings);
            // What grows by doubling takes memory a few times at most.
            let most = if declares(kind, "allocations") { 20 } else { 0 };
            let taken = ALLOCATIONS.get();
            assert!(taken <= most, "{text}: hot calls took memory {taken} times");
            assert_eq!(first, driver(kind, &text, &settings), "{text}: a replay answers otherwise");
        }
    }
}

/// Folds an answer into a digest.
fn fold(digest: &mut u64, answer: u64) {
    *digest = mix(digest.wrapping_mul(31) ^ answer);
}

/// How far time moves between two steps: often not at all, seldom very far.
fn pause(rng: &mut Rng) -> Duration {
    match rng.index(100) {
        0..40 => Duration::ZERO,
        40..80 => Duration(u64::from(rng.index(10_000_000))),
        80..99 => Duration(u64::from(rng.index(1_000_000_000))),
        _ => Duration(u64::from(rng.index(60_000)) * 1_000_000),
    }
}

/// A random ending; mostly good in good times.
fn ending(rng: &mut Rng, good_times: bool) -> Outcome {
    let bad = [Class::Failure, Class::Timeout, Class::Rejected, Class::Abandoned];
    let class = if rng.index(10) < if good_times { 9 } else { 3 } {
        Class::Success
    } else {
        bad[rng.index(4) as usize]
    };
    let latency = Duration(u64::from(rng.index(1_000_000_000)));
    Outcome { ignored: rng.index(20) == 0, ..Outcome::new(class, latency) }
}

/// The instant at which to check a promise: exactly at `until`, or somewhere before it, where it must not hold yet.
fn check_at(rng: &mut Rng, now: Time, until: Time, text: &str) -> (Time, bool) {
    assert!(until > now, "{text}: refused at {now:?}, but promised for {until:?}");
    let ahead = (until - now).0;
    match rng.index(2) {
        0 => (until, true),
        _ if ahead == 1 => (now, false),
        // Just before, or anywhere before.
        _ if rng.index(2) == 0 => (now + Duration(ahead - 1), false),
        _ => (now + Duration(rng.bits() % ahead), false),
    }
}

#[test]
fn breakers() {
    for_each(BreakerSettings::KINDS, |kind, text, settings: &BreakerSettings| {
        let may_refuse_closed = declares(kind, "breakers") && text.contains("\"capacity\"");
        let mut breaker = settings.build(Time::ZERO);
        let mut rng = Key::new(11).rng();
        let (mut now, mut digest) = (Time::ZERO, 0);
        let mut out: Vec<Permit> = Vec::new();
        let mut seen = [0_u32; 3];
        for step in 0..STEPS {
            // Busy times fill windows that want many calls.
            let busy = step % 5000 < 2500;
            now += if busy { Duration(pause(&mut rng).0 / 64) } else { pause(&mut rng) };
            if out.len() < 64 && rng.index(2) == 0 {
                let mut admit = hot(|| breaker.try_acquire(now));
                if let Admit::Reject { until } = admit {
                    let closed = breaker.state(now) == BreakerState::Closed;
                    assert!(!closed || may_refuse_closed, "{text}: closed, but refuses");
                    if let Some(until) = until {
                        let due;
                        (now, due) = check_at(&mut rng, now, until, text);
                        admit = hot(|| breaker.try_acquire(now));
                        assert_eq!(matches!(admit, Admit::Now(_)), due, "{text}: {until:?} at {now:?}");
                    }
                }
                match admit {
                    Admit::Now(permit) => {
                        assert_eq!(permit.start, now);
                        out.push(permit);
                    }
                    Admit::Reject { .. } => {}
                    Admit::At(..) => panic!("{text}: a breaker makes nobody wait"),
                }
                fold(&mut digest, u64::from(matches!(admit, Admit::Now(_))));
            } else if !out.is_empty() {
                let permit = out.swap_remove(rng.index(out.len() as u32) as usize);
                let outcome = ending(&mut rng, step % 2000 < 1000);
                hot(|| breaker.on_outcome(now, permit, &outcome));
            }
            let state = hot(|| breaker.state(now));
            assert_eq!(state, breaker.state(now), "{text}: looking moves it");
            seen[state as usize] += 1;
            fold(&mut digest, state as u64);
        }
        assert!(seen.iter().all(|&n| n > 0), "{text}: the history never left {seen:?}");
        // Whatever was lost on the way, every permit has come back: after a long time a call passes, and closes it.
        for permit in out {
            breaker.on_outcome(now, permit, &Outcome::new(Class::Success, Duration::ZERO));
        }
        for round in 0..1000 {
            // Rare calls, then frequent ones: half-open may last too long for rare ones to close it.
            now += if round < 500 { Duration::from_secs(3600) } else { Duration::from_millis(100) };
            let mut admit = hot(|| breaker.try_acquire(now));
            // A breaker that goes to and fro by itself may be open just now, but says until when.
            if let Admit::Reject { until: Some(until) } = admit {
                now = until;
                admit = hot(|| breaker.try_acquire(now));
            }
            let Admit::Now(permit) = admit else { panic!("{text}: a permit was lost") };
            breaker.on_outcome(now, permit, &Outcome::new(Class::Success, Duration::ZERO));
        }
        assert_eq!(breaker.state(now), BreakerState::Closed, "{text}");
        digest
    });
}

/// Named readings of a limiter.
fn gauge(limiter: &impl Limiter, now: Time, wanted: &str) -> Option<f64> {
    let mut found = None;
    limiter.gauges(now, &mut |name, value| {
        if name == wanted {
            found = Some(value);
        }
    });
    found
}

#[test]
fn limiters() {
    for_each(LimiterSettings::KINDS, |_, text, settings: &LimiterSettings| {
        let mut limiter = settings.build(Time::ZERO);
        let mut rng = Key::new(12).rng();
        let (mut now, mut digest) = (Time::ZERO, 0);
        let mut out: Vec<(Permit, u32)> = Vec::new();
        let mut answers = [0_u32; 2];
        for step in 0..STEPS {
            now += pause(&mut rng);
            if out.len() < 64 && rng.index(5) < 3 {
                let (cost, max_wait) = (1 + rng.index(3), Duration(u64::from(rng.index(2)) * 50_000_000));
                let mut admit = hot(|| limiter.try_acquire(now, cost, max_wait, &mut rng));
                if let Admit::Reject { until: Some(until) } = admit {
                    let due;
                    (now, due) = check_at(&mut rng, now, until, text);
                    admit = hot(|| limiter.try_acquire(now, cost, max_wait, &mut rng));
                    assert_eq!(!matches!(admit, Admit::Reject { .. }), due, "{text}: {until:?} at {now:?}");
                }
                match admit {
                    Admit::Now(permit) => {
                        assert_eq!(permit.start, now);
                        out.push((permit, cost));
                    }
                    Admit::At(at, permit) => {
                        assert!(at > now && at - now <= max_wait, "{text}: admitted for {at:?} at {now:?}");
                        assert_eq!(permit.start, at);
                        out.push((permit, cost));
                    }
                    Admit::Reject { .. } => {}
                }
                let refused = matches!(admit, Admit::Reject { .. });
                if !refused && let Some(in_flight) = gauge(&limiter, now, "in_flight") {
                    // What is in flight already may be above a limit that has shrunk since.
                    assert!(in_flight <= gauge(&limiter, now, "limit").unwrap(), "{text}: over its limit");
                }
                answers[usize::from(refused)] += 1;
                fold(&mut digest, u64::from(refused));
            } else if !out.is_empty() {
                let (permit, _) = out.swap_remove(rng.index(out.len() as u32) as usize);
                let outcome = ending(&mut rng, step % 2000 < 1000);
                hot(|| limiter.on_outcome(now, permit, &outcome, &mut rng));
            }
            if let Some(in_flight) = gauge(&limiter, now, "in_flight") {
                assert_eq!(
                    in_flight as u64,
                    out.iter().map(|(_, cost)| u64::from(*cost)).sum::<u64>(),
                    "{text}"
                );
            }
            if let Some(tokens) = gauge(&limiter, now, "tokens") {
                assert!(
                    (0.0..=gauge(&limiter, now, "capacity").unwrap()).contains(&tokens),
                    "{text}: {tokens}"
                );
                assert_eq!(gauge(&limiter, now, "tokens"), Some(tokens), "{text}: looking moves it");
                fold(&mut digest, tokens.to_bits());
            }
        }
        // Upstream's defaults may be too generous for this traffic; the variants are chosen to matter.
        let chosen = !text.ends_with(" = {}") && !text.starts_with("least ");
        let contrast = answers.iter().all(|&n| n > 1000) || !chosen;
        assert!(contrast, "{text}: a history without contrast, {answers:?}");
        for (permit, _) in out {
            limiter.on_outcome(now, permit, &Outcome::new(Class::Success, Duration::ZERO), &mut rng);
        }
        if let Some(in_flight) = gauge(&limiter, now, "in_flight") {
            assert!(in_flight == 0.0, "{text}: {in_flight} still in flight");
        }
        now += Duration::from_secs(86_400);
        assert!(
            matches!(limiter.try_acquire(now, 1, Duration::ZERO, &mut rng), Admit::Now(_)),
            "{text}: still shut"
        );
        digest
    });
}

#[test]
fn balancers() {
    for_each(BalancerSettings::KINDS, |kind, text, settings: &BalancerSettings| {
        // Whether upstream may answer with none although there are some, and these settings let it.
        let may_refuse = declares(kind, "balancers") && !text.contains("\"max-fails\": 0}");
        let mut policy = settings.build(Time::ZERO);
        let mut rng = Key::new(13).rng();
        let (mut now, mut digest) = (Time::ZERO, 0);
        let mut endpoints = Endpoints::default();
        let mut out: Vec<Slot> = Vec::new();
        let mut probes: Vec<Slot> = Vec::new();
        let mut refused = 0;
        for step in 0..STEPS {
            now += pause(&mut rng);
            if rng.index(50) == 0 {
                change(now, &mut endpoints, &mut rng);
                policy.on_update(now, &endpoints);
            }
            if !probes.is_empty() && rng.index(2) == 0 {
                let slot = probes.swap_remove(rng.index(probes.len() as u32) as usize);
                let latency = Duration(u64::from(rng.index(1_000_000_000)));
                let reading = Reading { rif: rng.index(100), latency };
                hot(|| policy.on_probe(now, slot, reading));
            }
            if out.len() < 64 && rng.index(2) == 0 {
                let request =
                    RequestHead { affinity: (rng.index(4) > 0).then(|| rng.bits()), attempt: rng.index(3) };
                if policy.needs().load {
                    endpoints.load = endpoints.active.clone();
                }
                let mut draws = Key::new(u64::from(step)).rng();
                let picked = hot(|| policy.pick(now, &request, &endpoints, &mut draws));
                // Answers to probes come later, or never.
                while let Some(slot) = hot(|| policy.next_probe(now, &endpoints, &mut draws)) {
                    assert!(policy.needs().probes, "{text}: probes without having said so");
                    assert!(
                        endpoints.eligible.contains(&slot),
                        "{text}: probes {slot:?}, which is not eligible"
                    );
                    if rng.index(4) > 0 {
                        probes.push(slot);
                    }
                }
                match picked {
                    Some(slot) => {
                        assert!(endpoints.eligible.contains(&slot), "{text}: {slot:?} is not eligible");
                        endpoints.active[slot.0 as usize] += 1;
                        out.push(slot);
                    }
                    None if endpoints.eligible.is_empty() => {}
                    None => {
                        assert!(may_refuse, "{text}: none picked out of {:?}", endpoints.eligible);
                        refused += 1;
                    }
                }
                fold(&mut digest, picked.map_or(u64::MAX, |slot| u64::from(slot.0)));
            } else if !out.is_empty() {
                let slot = out.swap_remove(rng.index(out.len() as u32) as usize);
                endpoints.active[slot.0 as usize] -= 1;
                let outcome = ending(&mut rng, step % 2000 < 1500);
                hot(|| policy.on_outcome(now, slot, &outcome));
            }
        }
        assert!(refused < STEPS / 4, "{text}: refused {refused} times");
        digest
    });
}

/// A new list of eligible endpoints (sometimes none), sometimes new endpoints, sometimes new weights.
fn change(now: Time, endpoints: &mut Endpoints, rng: &mut Rng) {
    if endpoints.weight.len() < 12 && rng.index(4) == 0 {
        endpoints.grow(endpoints.weight.len() + 1);
    }
    match rng.index(4) {
        0 => endpoints.weight.iter_mut().for_each(|weight| *weight = 1),
        1 => endpoints.weight.iter_mut().for_each(|weight| *weight = 1 + rng.index(10)),
        _ => {}
    }
    let slots = (0..endpoints.weight.len() as u32).map(Slot);
    let most = rng.index(10);
    let known = std::mem::take(&mut endpoints.eligible);
    endpoints.eligible = slots.filter(|_| rng.index(10) < most).collect();
    for slot in endpoints.eligible.iter().filter(|slot| !known.contains(slot)) {
        endpoints.since[slot.0 as usize] = now;
    }
}

#[test]
fn retries() {
    for_each(RetrySettings::KINDS, |_, text, settings: &RetrySettings| {
        let policy = settings.build(Time::ZERO);
        let (attempts, _) = policy.bounds();
        let mut rng = Key::new(14).rng();
        let mut digest = 0;
        for call in 0..STEPS {
            let (mut made, mut carry) = (1, 0.0);
            let class = [Class::Failure, Class::Timeout, Class::Rejected][call as usize % 3];
            let outcome = Outcome::new(class, Duration::ZERO);
            while let Retry::After(delay) =
                hot(|| policy.on_failure(Time::ZERO, made - 1, &mut carry, &outcome, &mut rng))
            {
                assert!(delay <= Duration::from_secs(60), "{text}: {delay} before try {made}");
                fold(&mut digest, delay.0);
                made += 1;
                assert!(made <= attempts, "{text}: too many attempts");
            }
            assert_eq!(made, attempts, "{text}");
        }
        // Nobody wants the answer of an abandoned attempt, and an ignored one teaches nothing.
        let mut ask = |outcome| policy.on_failure(Time::ZERO, 0, &mut 0.0, &outcome, &mut rng);
        assert_eq!(ask(Outcome::new(Class::Abandoned, Duration::ZERO)), Retry::GiveUp, "{text}");
        let ignored = Outcome { ignored: true, ..Outcome::new(Class::Failure, Duration::ZERO) };
        assert_eq!(ask(ignored), Retry::GiveUp, "{text}");
        digest
    });
}

#[test]
fn retry_budgets() {
    for_each(BudgetSettings::KINDS, |_, text, settings: &BudgetSettings| {
        let mut budget = settings.build(Time::ZERO);
        let mut rng = Key::new(15).rng();
        let (mut now, mut digest) = (Time::ZERO, 0);
        let mut answers = [0_u32; 2];
        // Attempts under way: what was withdrawn for each.
        let mut attempts: Vec<Option<u32>> = Vec::new();
        let mut good_times = true;
        for step in 0..STEPS {
            now += Duration(pause(&mut rng).0 / 16);
            if step % 1000 == 0 {
                good_times = rng.index(2) == 0;
            }
            if attempts.is_empty() || rng.index(2) == 0 {
                hot(|| budget.deposit(now));
                hot(|| budget.on_sent(now));
                attempts.push(None);
                continue;
            }
            let withdrawn = attempts.swap_remove(rng.index(attempts.len() as u32) as usize);
            let class = ending(&mut rng, good_times).class;
            let failed = !matches!(class, Class::Success | Class::Abandoned);
            let ended = Ended { class, sent: true, withdrawn, retryable: failed };
            hot(|| budget.on_ended(now, &ended));
            if !failed {
                continue;
            }
            let allowed = hot(|| budget.withdraw(now, Some(class)));
            answers[usize::from(allowed.is_some())] += 1;
            fold(&mut digest, allowed.map_or(0, |cost| u64::from(cost) + 1));
            if allowed.is_some() && rng.index(8) == 0 {
                // Nobody wanted it any more before its back-off was over.
                let class = Class::Abandoned;
                let ended = Ended { class, sent: false, withdrawn: allowed, retryable: false };
                hot(|| budget.on_ended(now, &ended));
            } else if allowed.is_some() {
                hot(|| budget.on_sent(now));
                attempts.push(allowed);
            }
        }
        assert!(answers[1] > 0, "{text}: never allows anything, {answers:?}");
        for withdrawn in attempts {
            budget.on_ended(now, &Ended { class: Class::Failure, sent: true, withdrawn, retryable: true });
        }
        budget.gauges(now, &mut |name, value| {
            let counts = matches!(name, "active" | "retries");
            assert!(!counts || value == 0.0, "{text}: {value} {name} although nothing is under way");
        });
        // At one instant, with nothing but failures, it runs dry, and stays dry.
        let mut dry = (0..10_000_000_u32).filter(|_| {
            let withdrawn = budget.withdraw(now, Some(Class::Failure));
            budget.on_sent(now);
            let ended = Ended { class: Class::Failure, sent: true, withdrawn: None, retryable: true };
            budget.on_ended(now, &ended);
            withdrawn.is_none()
        });
        assert!(dry.next().is_some_and(|tries| tries < 100_000), "{text}: no end of retries at one instant");
        drop(dry);
        assert!(budget.withdraw(now, Some(Class::Failure)).is_none(), "{text}");
        digest
    });
}

#[test]
fn hedges() {
    for_each(HedgeSettings::KINDS, |_, text, settings: &HedgeSettings| {
        let mut policy: AnyHedge = settings.build(Time::ZERO);
        let most = policy.most();
        let mut rng = Key::new(16).rng();
        let (mut now, mut digest) = (Time::ZERO, 0);
        let mut hedged = 0;
        for _ in 0..STEPS {
            now += Duration(pause(&mut rng).0 / 16);
            let mut copies = Copies::default();
            hot(|| copies.sent(now, &mut policy));
            let mut ends = 0;
            let end = loop {
                fold(&mut digest, copies.due.map_or(0, |due| due.0));
                assert!(copies.sent <= most && copies.open <= copies.sent, "{text}: {copies:?}");
                assert!(copies.due.is_none_or(|due| due >= now), "{text}: due in the past, {copies:?}");
                assert!(
                    copies.sent < most || copies.due.is_none(),
                    "{text}: due beyond the last, {copies:?}"
                );
                let act = if copies.open == 0 || copies.due.is_some() && rng.index(2) == 0 {
                    now = copies.due.expect("a call without copies is over");
                    if rng.index(10) == 0 { copies.held_back() } else { Act::Send }
                } else {
                    ends += 1;
                    let outcome = ending(&mut rng, true);
                    hot(|| copies.ended(now, &mut policy, &outcome))
                };
                match act {
                    Act::Send => hot(|| copies.sent(now, &mut policy)),
                    Act::Wait => assert!(copies.open > 0, "{text}: waits for nothing"),
                    Act::End => break ends,
                }
            };
            hedged += copies.sent - 1;
            assert!(end <= most, "{text}: more ends than copies");
        }
        assert!(hedged > 0, "{text}: never hedges");
        digest
    });
}

#[test]
fn shedding() {
    for_each(SheddingSettings::KINDS, |_, text, settings: &SheddingSettings| {
        let mut policy = settings.build(Time::ZERO);
        let mut rng = Key::new(16).rng();
        let (mut now, mut digest) = (Time::ZERO, 0);
        let (mut lost, mut bad_until) = (0, Time::ZERO);
        for step in 0..STEPS {
            now += Duration(pause(&mut rng).0 / 16);
            // In good times nobody waits and everybody has time, in bad times few do.
            let good_times = step % 2000 < 1000;
            if !good_times {
                bad_until = now;
            }
            let most = if good_times { 1_000_000 } else { 100_000_000 };
            let waiting = if good_times { 0 } else { rng.index(15) };
            let priority = rng.index(4) as u8;
            let waited = Duration(most / 4 + u64::from(rng.index(most as u32)));
            let left = Duration(110_000_000).0.checked_sub(waited.0).map_or(Duration::ZERO, Duration);
            let newcomer = Newcomer { priority, waiting, workers: 4 };
            let turned_away = hot(|| policy.turns_away(now, &newcomer, &mut rng));
            let turn = Turn { priority, waiting, waited, left: Some(left) };
            let drops = !turned_away && hot(|| policy.drops(now, &turn, &mut rng));
            // Nobody looks further back than this, or at longer intervals.
            let calm = step % 2000 > 50 && now - bad_until > Duration::from_secs(2);
            assert!(!(drops || turned_away) || !calm, "{text}: sheds what hardly waits");
            lost += u32::from(drops || turned_away);
            fold(&mut digest, u64::from(drops) + 2 * u64::from(turned_away));
        }
        assert!((1000..STEPS * 6 / 10).contains(&lost), "{text}: lost {lost}");
        digest
    });
}

#[test]
fn algorithms_explain_themselves_under_fixed_headings() {
    for kind in policies::kinds() {
        let (doc, name) = (kind.doc(), kind.name);
        let headings: Vec<&str> = doc
            .lines()
            .filter(|line| line.starts_with('#'))
            .map(|line| line.trim_start_matches('#').trim())
            .collect();
        let fixed =
            ["What it does", "When it helps", "How it fails", "Settings", "Origin", "Deliberate differences"];
        assert_eq!(headings, fixed, "{name}");
        let summary = kind.summary();
        assert!(summary.ends_with('.') && summary.len() < 160, "{name}: {summary}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{name}");
    }
}

#[test]
fn settings_have_a_schema_and_name_what_is_known() {
    let schema = serde_json::to_string(&schemars::schema_for!(BalancerSettings)).unwrap();
    for kind in BalancerSettings::KINDS {
        assert!(schema.contains(&format!("\"{}\"", kind.name)), "{schema}");
    }
    let error = serde_json::from_str::<LimiterSettings>(r#"{"bulkheat": {}}"#).unwrap_err().to_string();
    assert!(error.contains("unknown variant `bulkheat`, expected one of `seed-token-bucket`"), "{error}");
    let error =
        serde_json::from_str::<LimiterSettings>(r#"{"bulkhead": {"max": 3}}"#).unwrap_err().to_string();
    assert!(error.contains("unknown field `max`, expected `max-concurrent` or `max-wait`"), "{error}");
    assert_eq!(BalancerSettings::default().name(), "round-robin");
}

#[test]
fn foreign_policies_are_welcome() {
    struct Last;

    impl Balancer for Last {
        fn pick(&mut self, _: Time, _: &RequestHead, endpoints: &Endpoints, _: &mut Rng) -> Option<Slot> {
            endpoints.eligible.last().copied()
        }
    }

    let mut policy = AnyBalancer::Custom(Box::new(Last));
    let picked =
        policy.pick(Time::ZERO, &RequestHead::default(), &Endpoints::uniform(4), &mut Key::new(1).rng());
    assert_eq!(picked, Some(Slot(3)));
}
