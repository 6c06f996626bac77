//! Services without instances: what the activator holds, for how long, and who wakes the service, worked out by hand.

use crate::story::{Told, tell};

/// Requests at 1 s, 2 s, 3 s ..., at a service of which the first instance is ready at 7.5 s.
fn cold(settings: &str, source: &str, duration: &str) -> Told {
    let text = format!(
        "[[service]]\nname = \"api\"\nreplicas = 0\ninstance = {{ cores = 16, workers = 16, start = \"2500ms\" }}\n{settings}\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 100ms\"]\n\
         [[source]]\nname = \"web\"\nto = \"api.get\"\n{source}\narrivals.deterministic = {{ rate = \"1/s\" }}\n\
         [[action]]\nat = \"5s\"\nscale = {{ service = \"api\", replicas = 1 }}\n"
    );
    tell(duration, &text)
}

#[test]
fn without_an_activator_requests_fail_at_once() {
    let told = cold("", "", "10500ms");
    told.is("failed_ratio", 0.7);
    told.is("latency_mean_ms", 100.0);
    assert!(!told.metrics().contains_key("service.api.held_ratio"), "there is no activator");
}

#[test]
fn held_requests_go_out_when_an_instance_is_ready() {
    let told = cold("activator = {}", "", "10500ms");
    told.is("availability", 1.0);
    // Held from 1 s, 2 s ... 7 s until 7.5 s.
    told.is("service.api.held_ratio", 0.7);
    told.is("service.api.held_mean_ms", 3500.0);
    told.is("latency_mean_ms", 0.7 * 3500.0 + 100.0);
    // The wait at the activator is not one at the instance.
    told.is("service.api.sojourn_mean_ms", 100.0);
    let queue = told.curve("api", "queue_length");
    assert_eq!((queue[6], queue[7]), (6.0, 0.0), "what is held waits: {queue:?}");
}

#[test]
fn the_activator_has_so_many_places() {
    let told = cold("activator = { capacity = 2 }", "", "10500ms");
    told.is("rejected_ratio", 0.5);
    told.is("service.api.held_mean_ms", 6000.0);
}

#[test]
fn patience_at_the_activator_ends() {
    let told = cold("activator = { timeout = \"1600ms\" }", "", "10500ms");
    // Those of 1 s to 5 s fail after 1.6 s; those of 6 s and 7 s live to see the instance.
    told.is("failed_ratio", 0.5);
    told.is("service.api.held_mean_ms", 1000.0);
}

#[test]
fn deadlines_and_timeouts_run_on_while_a_request_is_held() {
    for waits in ["deadline = \"1700ms\"", "call.api.timeout = \"1700ms\""] {
        let told = cold("activator = {}", waits, "10500ms");
        told.is("timeout_ratio", 0.5);
        told.is("latency_mean_ms", (1600.0 + 600.0 + 3.0 * 100.0) / 5.0);
        // Nobody works for those who have gone.
        told.is("service.api.cpu_of_request", 5.0 * 0.1 / (3.0 * 16.0));
    }
}

#[test]
fn an_instance_gets_so_many_of_the_held_at_a_time() {
    let told = cold("activator = { per-instance = 1 }", "requests = 3", "10500ms");
    // Out at 7.5 s, 7.6 s and 7.7 s.
    told.is("service.api.held_mean_ms", (6.5 + 5.6 + 4.7) / 3.0 * 1000.0);
    told.is("latency_mean_ms", (6.6 + 5.7 + 4.8) / 3.0 * 1000.0);
}

/// One request at 100 s for a service that is at zero and starts in three seconds.
fn lone(autoscaler: &str) -> Told {
    let text = format!(
        "[[service]]\nname = \"api\"\nreplicas = 0\ninstance = {{ start = \"3s\" }}\nactivator = {{}}\n{autoscaler}\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 100ms\"]\n\
         [[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.deterministic = {{ profile = \"steps(0s: 0.01/s, 150s: 0/s)\" }}\n"
    );
    tell("600s", &text)
}

/// When the replicas changed, and from what to what.
fn changes(told: &Told) -> Vec<(f64, f64, f64)> {
    let decisions = told.decisions("autoscaler");
    let changes = decisions.into_iter().filter(|(_, before, after, _)| before != after);
    changes.map(|(at, before, after, _)| (at, before, after)).collect()
}

#[test]
fn the_first_request_wakes_knative_at_once() {
    let told = lone("autoscaler.kpa = {}");
    told.is("availability", 1.0);
    told.is("latency_mean_ms", 3100.0);
    let [(up, 0.0, 1.0), (down, 1.0, 0.0)] = changes(&told)[..] else { panic!("{:?}", changes(&told)) };
    assert_eq!(up, 100.0);
    // Ready at 103 s, done at 103.1 s, told at 104 s. 60 s without a request later the window is empty; that is noticed at
    // a tick, and at the next one the replica goes: the activator has been in the path for long.
    assert!((164.0..169.0).contains(&down), "{down}");
}

#[test]
fn knative_keeps_its_least_scale() {
    let told = lone("autoscaler.kpa = { min-scale = 1 }");
    told.is("latency_mean_ms", 100.0);
    let [(up, 0.0, 1.0)] = changes(&told)[..] else { panic!("{:?}", changes(&told)) };
    assert!(up < 2.0, "at the first tick");
}

#[test]
fn keda_looks_at_its_polls_and_cools_down() {
    let told = lone(
        "autoscaler.keda = { cooldown-period = \"2min\", triggers = [{ metric = \"service.api.queue-length\", threshold = 5 }] }",
    );
    told.is("availability", 1.0);
    let [(up, 0.0, 1.0), (down, 1.0, 0.0)] = changes(&told)[..] else { panic!("{:?}", changes(&told)) };
    assert!((100.0..145.0).contains(&up), "a scrape, then a poll: {up}");
    // Last seen active at the poll that woke it; two minutes are over strictly before the fifth poll after it.
    assert!((down - up - 150.0).abs() < 1e-6 || (down - up - 180.0).abs() < 1e-6, "{up} {down}");
}

#[test]
fn an_hpa_may_scale_to_zero_and_back() {
    let told = lone(
        "autoscaler.hpa = { min-replicas = 0, max-replicas = 3, metrics = [{ external = { metric = \"service.api.concurrency\", average-value = 5 } }] }",
    );
    told.is("availability", 1.0);
    let [(up, 0.0, 1.0), (down, 1.0, 0.0)] = changes(&told)[..] else { panic!("{:?}", changes(&told)) };
    assert!((100.0..130.0).contains(&up), "{up}");
    assert!((300.0..=330.0).contains(&(down - up)), "five minutes of stabilization: {up} {down}");
}

#[test]
fn an_hpa_leaves_a_service_alone_that_somebody_else_has_stopped() {
    let told = lone(
        "autoscaler.hpa = { max-replicas = 3, metrics = [{ external = { metric = \"service.api.concurrency\", average-value = 5 } }] }",
    );
    assert_eq!(changes(&told), []);
    told.is("availability", 0.0);
}
