//! Rollouts by weight: shares, what a judge gets to see and when, and the way back.

use simlab::stats::interval::of_probability;

use crate::story::{Told, tell};

/// Ten instances of `api`, a hundred requests per second, and a v2.
fn system(v2: &str, how: &str) -> String {
    format!(
        "[[service]]\nname = \"api\"\nreplicas = 10\ninstance = {{ cores = 1, workers = 8 }}\n\
         metrics = {{ period = \"10s\", delay = \"20s\" }}\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 10ms\"]\n\
         [[service.version]]\nname = \"v1\"\n[[service.version]]\nname = \"v2\"\n{v2}\n\
         [[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.poisson = {{ rate = \"100/s\" }}\n\
         [[rollout]]\nat = \"10s\"\nservice = \"api\"\nto = \"v2\"\n{how}\n"
    )
}

/// It measures every ten seconds over all the time, and decides nothing.
const LOOK: &str = "analysis = { metrics = [{ judge.msprt = {}, interval = \"10s\", dry-run = true }] }";

/// What the last measurement saw of new and old.
fn last_seen(told: &Told) -> [u64; 2] {
    let mut measured =
        told.0.decisions.iter().filter(|line| line["reason"].as_str().unwrap().starts_with("measured"));
    let steps = measured.next_back().expect("something was measured")["steps"].as_array().unwrap().clone();
    ["requests-new", "requests-old"].map(|what| {
        let step = steps.iter().find(|step| step[0] == what).expect("it is among the figures");
        step[1].as_f64().unwrap() as u64
    })
}

/// The share of the new version, with a confidence of 99.9 %.
fn share(told: &Told) -> (f64, f64) {
    let [new, old] = last_seen(told);
    assert!(new + old > 20_000, "{new} + {old}");
    of_probability(new as u32, (new + old) as u32, 0.999)
}

#[test]
fn routed_shares_are_exact_whatever_the_sizes() {
    let steps = "steps = [{ set-canary-scale = { replicas = 1 } }, { set-weight = 30 }, { pause = {} }]";
    let told = tell("300s", &system("", &format!("canary = {{ traffic-routing = true, {steps}, {LOOK} }}")));
    let (low, high) = share(&told);
    assert!((low..=high).contains(&0.3), "{low} to {high}");
    told.is("availability", 1.0);
    told.is("service.api.rollouts_aborted", 0.0);
}

#[test]
fn without_a_router_the_share_is_that_of_the_instances() {
    let steps = "steps = [{ set-weight = 20 }, { pause = {} }]";
    let told = tell("300s", &system("", &format!("canary = {{ {steps}, {LOOK} }}")));
    let (low, high) = share(&told);
    assert!((low..=high).contains(&0.2), "{low} to {high}");
}

#[test]
fn a_judge_sees_no_more_than_the_pipeline_brings() {
    let judge = "judge.threshold = { metric = \"error-ratio\", window = \"10s\", success.below = 0.5 }";
    let metric = format!("{{ {judge}, interval = \"1s\", consecutive-error-limit = 1000 }}");
    let steps = "steps = [{ set-weight = 20 }, { pause = {} }]";
    let how = format!("canary = {{ {steps}, analysis = {{ metrics = [{metric}] }} }}");
    let told = tell("100s", &system("", &how));
    let measured = |reason: &str| {
        told.decisions("rollout").into_iter().find(|decision| decision.3 == reason).map(|decision| decision.0)
    };
    assert_eq!(measured("measured: nothing to go by"), Some(10.0));
    // The step from 10 to 20 s has arrived at 40 s.
    assert_eq!(measured("measured: good"), Some(40.0));
}

#[test]
fn a_stable_version_that_shrinks_with_its_traffic_gives_all_of_it_away() {
    let steps = "steps = [{ set-weight = 20 }, { pause = { duration = \"20s\" } }, { set-weight = 60 }, { pause = { duration = \"20s\" } }]";
    let how = format!("canary = {{ traffic-routing = true, dynamic-stable-scale = true, {steps} }}");
    let told = tell("300s", &system("", &how));
    told.is("service.api.rollouts_completed", 1.0);
    told.is("service.api.rollouts_aborted", 0.0);
    told.is("availability", 1.0);
}

#[test]
fn a_version_with_errors_is_taken_back() {
    let judge = "judge.threshold = { metric = \"error-ratio\", window = \"20s\", success.below = 0.1 }";
    let metric = format!("{{ {judge}, interval = \"10s\", initial-delay = \"60s\" }}");
    let steps = "traffic-routing = true, steps = [{ set-weight = 10 }, { pause = { duration = \"5min\" } }]";
    let how = format!("canary = {{ {steps}, analysis = {{ metrics = [{metric}] }} }}");
    let told = tell("200s", &system("error-rate = \"50%\"", &how));
    assert_eq!(told.times("api", "abort:"), [70.0]);
    assert_eq!(told.times("api", "aborted:"), [100.0], "the canary stays for half a minute without traffic");
    told.is("service.api.rollouts_aborted", 1.0);
    told.is("service.api.rollout_abort_s", 60.0);
    // Half of a tenth for 60 of 200 seconds: 300 of 20000, and not one more.
    let failed = told.metric("failed_ratio");
    let (low, high) = of_probability((failed * 20_000.0) as u32, 20_000, 0.999);
    assert!((low..=high).contains(&0.015), "{failed}");
}

#[test]
fn blue_and_green_never_mix() {
    let told =
        tell("120s", &system("", "blue-green = { auto-promotion = \"20s\", scale-down-delay = \"30s\" }"));
    assert_eq!(told.times("api", "paused"), [10.0]);
    let switched = told.times("api", "100.0%");
    assert!(switched.len() == 1 && (30.0..30.001).contains(&switched[0]), "{switched:?}");
    assert_eq!(told.times("api", "complete").len(), 1);
    told.is("availability", 1.0);
    told.is("version_inconsistent_requests", 0.0);
}

#[test]
fn flagger_ticks() {
    let told =
        tell("400s", &system("", "flagger = { interval = \"20s\", step-weight = 25, max-weight = 50 }"));
    let weights = |share: &str| told.times("api", share);
    assert_eq!(weights("25.0%"), [30.0]);
    assert_eq!(weights("50.0%"), [50.0]);
    assert_eq!(told.times("api", "promote"), [70.0]);
    assert_eq!(told.times("api", "complete").len(), 1, "{:?}", told.0.events_log);
    told.is("availability", 1.0);
}
