//! What operators do about rollouts and versions, versions that crash, and ways back that nobody has to order.

use crate::story::{Told, tell};

/// Ten instances of `api`, a hundred requests per second, and a v2.
fn system(instance: &str, v2: &str, how: &str) -> String {
    format!(
        "[[service]]\nname = \"api\"\nreplicas = 10\ninstance = {{ cores = 1, workers = 8{instance} }}\n\
         metrics = {{ period = \"10s\", delay = \"0s\" }}\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 10ms\"]\n\
         [[service.version]]\nname = \"v1\"\n[[service.version]]\nname = \"v2\"\n{v2}\n\
         [[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.poisson = {{ rate = \"100/s\" }}\n\
         [[rollout]]\nat = \"10s\"\nservice = \"api\"\nto = \"v2\"\n{how}\n"
    )
}

/// Two steps, the second of which waits for somebody.
const WAITS: &str = "canary = { traffic-routing = true, steps = [{ set-weight = 20 }, { pause = {} }] }";

fn acts(acts: &[(u32, &str)]) -> String {
    acts.iter().map(|(at, what)| format!("[[action]]\nat = \"{at}s\"\n{what}\n")).collect()
}

fn of(verb: &str) -> String {
    format!("{verb} = {{ service = \"api\" }}")
}

fn story(instance: &str, v2: &str, how: &str, orders: &[(u32, &str)]) -> Told {
    tell("300s", &(system(instance, v2, how) + &acts(orders)))
}

#[test]
fn a_canary_that_waits_is_promoted() {
    let told = story("", "", WAITS, &[(100, &of("promote"))]);
    assert_eq!(told.times("api", "paused"), [10.0]);
    assert_eq!(told.times("api", "100.0%"), [100.0]);
    // The old version stays for half a minute.
    assert_eq!(told.times("api", "complete"), [130.0]);
    told.is("service.api.rollouts_completed", 1.0);
    told.is("availability", 1.0);
}

#[test]
fn promotion_in_full_skips_what_is_left() {
    let steps = "canary = { traffic-routing = true, steps = [{ set-weight = 20 }, { pause = { duration = \"1min\" } }, { set-weight = 40 }, { pause = {} }] }";
    let told = story("", "", steps, &[(30, "promote = { service = \"api\", full = true }")]);
    assert_eq!(told.times("api", "40.0%"), Vec::<f64>::new());
    assert_eq!(told.times("api", "complete"), [60.0]);
}

#[test]
fn what_was_aborted_can_be_tried_again_before_it_is_gone_and_after() {
    let told = story(
        "",
        "",
        WAITS,
        &[(50, &of("abort")), (60, &of("retry")), (90, &of("abort")), (200, &of("retry"))],
    );
    assert_eq!(told.times("api", "abort: an operator"), [50.0, 90.0]);
    // The second one ends when the canary is taken away, half a minute later; the retry begins a rollout of its own.
    assert_eq!(told.times("api", "aborted"), [120.0]);
    assert_eq!(told.times("api", "to v2"), [10.0, 200.0]);
    assert_eq!(told.times("api", "paused"), [10.0, 60.0, 200.0]);
    told.is("service.api.rollouts_aborted", 2.0);
    told.is("availability", 1.0);
}

#[test]
fn a_canary_that_is_held_keeps_its_weight_until_it_may_go_on() {
    let steps = "canary = { traffic-routing = true, steps = [{ set-weight = 20 }, { pause = { duration = \"1min\" } }, { set-weight = 40 }, { pause = {} }] }";
    let told = story("", "", steps, &[(30, &of("pause")), (150, &of("resume"))]);
    assert_eq!(told.times("api", "20.0%"), [10.0]);
    assert_eq!(told.times("api", "40.0%"), [150.0]);
}

#[test]
fn a_deployment_that_is_held_does_not_begin() {
    let told = story("", "", "rolling = {}", &[(5, &of("pause")), (40, &of("resume"))]);
    assert_eq!(told.times("api", "pause: the next rollout will wait"), [5.0]);
    assert_eq!(told.times("api", "complete"), [40.0]);
    let held = story(
        "",
        "",
        "rolling = {}",
        &[(5, &of("pause")), (40, "scale = { service = \"api\", replicas = 12 }")],
    );
    // The present version follows the scale, the next one waits.
    held.is("service.api.rollouts_completed", 0.0);
    held.is("service.api.replicas_mean", (10.0 * 40.0 + 12.0 * 260.0) / 300.0);
}

#[test]
fn gates_of_flagger_stop_good_ticks_only() {
    let flagger = "flagger = { interval = \"20s\", step-weight = 25, max-weight = 50 }";
    let told = story("", "", flagger, &[(40, &of("pause")), (100, &of("resume"))]);
    assert_eq!(told.times("api", "25.0%"), [30.0]);
    // Ticks at 50, 70 and 90 s change nothing.
    assert_eq!(told.times("api", "50.0%"), [110.0]);
    let told = story("", "", flagger, &[(40, &of("abort"))]);
    assert_eq!(told.times("api", "abort: an operator"), [40.0]);
    told.is("service.api.rollouts_aborted", 1.0);
}

#[test]
fn nothing_in_progress_is_nothing_to_act_on() {
    let told = story("", "", WAITS, &[(5, &of("abort")), (6, &of("retry")), (7, &of("promote"))]);
    for verb in ["abort", "retry", "promote"] {
        assert_eq!(told.times("api", &format!("{verb}: there is nothing to act on")).len(), 1, "{verb}");
    }
    assert_eq!(told.times("api", "paused"), [10.0]);
}

#[test]
fn a_process_that_crashes_is_started_later_each_time() {
    let crashing = "[[service]]\nname = \"api\"\nreplicas = 1\ninstance = { cores = 1, workers = 8, start = \"5s\" }\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 1ms\"]\n\
         [[service.version]]\nname = \"v1\"\ncrash-loop = \"20s\"\n\
         [[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.poisson = { rate = \"1/s\" }\n";
    let told = tell("300s", crashing);
    // It runs for 20 s, 5 of which it needs to start; the kubelet waits 0, 10, 20, 40, 80 s.
    assert_eq!(told.times("api-0", "crashed"), [20.0, 40.0, 70.0, 110.0, 170.0, 270.0]);
    assert_eq!(told.times("api-0", "ready"), [25.0, 55.0, 95.0, 155.0, 255.0]);
    told.is("service.api.crash_restarts", 6.0);
    told.is("service.api.replicas_mean", (20.0 + 5.0 * 15.0) / 300.0);
}

#[test]
fn a_version_that_never_gets_ready_meets_the_progress_deadline() {
    let crashes = "crash-loop = \"2s\"";
    let start = ", start = \"5s\"";
    let told = story(start, crashes, "rolling = { progress-deadline = \"60s\" }", &[]);
    // 3 new ones and 2 old ones less; then nothing moves.
    assert_eq!(told.times("api", "progress deadline exceeded"), [71.0]);
    told.is("availability", 1.0);
    told.is("service.api.rollouts_stalled", 1.0);
    // A pause stops the clock, and it begins anew.
    let held = story(
        start,
        crashes,
        "rolling = { progress-deadline = \"60s\" }",
        &[(30, &of("pause")), (100, &of("resume"))],
    );
    assert_eq!(held.times("api", "progress deadline exceeded"), [161.0]);
    let canary = "canary = { traffic-routing = true, progress-deadline = \"60s\", progress-deadline-abort = true, steps = [{ set-weight = 20 }, { pause = {} }] }";
    let told = story(start, crashes, canary, &[]);
    assert_eq!(
        told.times("api", "abort: the progress deadline").iter().map(|t| t.round()).collect::<Vec<_>>(),
        [70.0]
    );
    told.is("service.api.rollouts_aborted", 1.0);
    told.is("availability", 1.0);
}

/// Four versions: `v2` and `v2-fix` both come from `v1`, `v3` from `v2`.
fn tree(orders: &[(u32, &str)]) -> Told {
    let more =
        "[[service.version]]\nname = \"v3\"\n[[service.version]]\nname = \"v2-fix\"\nparent = \"v1\"\n";
    story("", more, "stop-the-world = {}", orders)
}

#[test]
fn any_node_of_the_tree_can_be_switched_to() {
    let to = |version: &str| format!("switch = {{ service = \"api\", version = \"{version}\" }}");
    let told = tree(&[
        (50, &to("v3")),
        (100, &to("parent")),
        (150, &to("v2-fix")),
        (200, &to("parent")),
        (250, &to("parent")),
        (260, &to("v1")),
    ]);
    assert_eq!(told.times("api", "to v3"), [50.0]);
    assert_eq!(told.times("api", "to v2,"), [10.0, 100.0]);
    assert_eq!(told.times("api", "to v2-fix"), [150.0]);
    // Its parent is v1, not the version that was there before.
    assert_eq!(told.times("api", "to v1"), [200.0]);
    assert_eq!(told.times("api", "switch: v1 was made from nothing"), [250.0]);
    assert_eq!(told.times("api", "switch: v1 is the version in place"), [260.0]);
    told.is("service.api.rollouts_completed", 5.0);
}
