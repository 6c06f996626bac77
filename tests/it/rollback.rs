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
    let acts: Vec<String> =
        acts.iter().map(|(at, what)| format!("[[action]]\nat = \"{at}s\"\n{what}\n")).collect();
    acts.concat()
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

/// Ten instances, 100 requests per second, three versions in a line, and somebody who looks every 10 s.
fn guarded(v2: &str, v3: &str, guard: &str, more: &str) -> Told {
    let text = format!(
        "[[service]]\nname = \"api\"\nreplicas = 10\ninstance = {{ cores = 1, workers = 8 }}\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 10ms\"]\n\
         [[service.version]]\nname = \"v1\"\n[[service.version]]\nname = \"v2\"\n{v2}\n[[service.version]]\nname = \"v3\"\n{v3}\n\
         [[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.deterministic = {{ rate = \"100/s\" }}\n\
         [[rollback]]\nname = \"guard\"\nservice = \"api\"\nevery = \"10s\"\nwindow = \"10s\"\nsettle = \"30s\"\n{guard}\n{more}"
    );
    tell("300s", &text)
}

fn to(version: &str, at: u32) -> String {
    format!("[[action]]\nat = \"{at}s\"\nswitch = {{ service = \"api\", version = \"{version}\" }}\n")
}

#[test]
fn a_bad_release_is_taken_back_tested_and_taken_back_further() {
    // Both of them fail always, so that there is nothing to draw.
    let told =
        guarded("error-rate = \"100%\"", "error-rate = \"100%\"", "error-ratio = \"50%\"", &to("v3", 100));
    let back = told.times("guard", "back to v2");
    let further = told.times("guard", "back to v1");
    let good = told.times("guard", "tested");
    assert_eq!((back.len(), further.len(), good.len()), (1, 1, 1), "{:?}", told.0.events_log);
    // A window of ten seconds, half of which is bad, ends at the first or the second look after the change.
    assert!((105.0..=120.0).contains(&back[0]), "{back:?}");
    assert!((further[0] - back[0] - 30.0).abs() < 1e-6);
    assert!((good[0] - further[0] - 30.0).abs() < 1e-6);
    told.is("rollback.guard.rollbacks", 2.0);
    told.is("rollback.guard.detect_s", back[0] - 100.0);
    told.is("rollback.guard.recover_s", 60.0);
    // v2 is no worse than v3: going there did not help, but it was no good version that was taken back either.
    told.is("rollback.guard.missed", 0.0);
    let failed = told.metric("failed_ratio");
    assert!((failed * 300.0 - (further[0] - 100.0)).abs() < 0.1, "{failed}");
}

#[test]
fn a_good_release_that_is_taken_back_is_a_mistake() {
    // The network is slow from 105 s on.
    let slow = "[[fault]]\nat = \"105s\"\nadded-latency = { latency = \"500ms\", for = \"60s\" }\n";
    let told = guarded("", "", "mean-latency = \"100ms\"", &(to("v2", 100) + slow));
    told.is("rollback.guard.wrong_rollbacks", 1.0);
    // It does not help, and v1 was made from nothing.
    told.is("rollback.guard.people_called", 1.0);
    told.is("rollback.guard.rollbacks", 1.0);
}

#[test]
fn what_nobody_minds_is_missed() {
    let told = guarded("demand = 2", "", "error-ratio = \"50%\"", &to("v2", 100));
    told.is("rollback.guard.rollbacks", 0.0);
    told.is("rollback.guard.missed", 1.0);
}

#[test]
fn crashes_are_counted() {
    let told = guarded("crash-loop = \"5s\"", "", "crashes = 10", &to("v2", 100));
    assert_eq!(told.times("guard", "back to v1").len(), 1);
    told.is("rollback.guard.wrong_rollbacks", 0.0);
}

/// Two configurations, the second of which fails always.
const KNOBS: &str = "[[config]]\nname = \"knobs\"\nservice = \"api\"\n[[config.version]]\nname = \"c1\"\n[[config.version]]\nname = \"c2\"\nerror-rate = \"100%\"\n";

fn publish(version: &str, at: u32, how: &str) -> String {
    format!("[[action]]\nat = \"{at}s\"\npublish = {{ config = \"knobs\", version = \"{version}\"{how} }}\n")
}

#[test]
fn a_bad_configuration_is_published_away() {
    let told = guarded("", "", "error-ratio = \"50%\"", &(KNOBS.to_owned() + &publish("c2", 100, "")));
    let back = told.times("guard", "publishes c1 again");
    assert_eq!(back.len(), 1, "{:?}", told.0.events_log);
    told.is("config.knobs.publishes", 2.0);
    assert_eq!(told.times("knobs", "production: number 1 is c2 (error-rate 0 % -> 100 %)"), [100.0]);
    assert_eq!(told.times("knobs", "production: number 2 is c1 (error-rate 100 % -> 0 %)"), back);
    told.is("config.knobs.mixed_s", 0.0);
    told.is("rollback.guard.missed", 0.0);
}

#[test]
fn a_bad_configuration_can_be_a_fault() {
    let fault =
        "[[fault]]\nat = \"100s\"\nbad-config = { config = \"knobs\", version = \"c2\", for = \"50s\" }\n";
    let told =
        tell("300s", &(system("", "", "rolling = {}").replace("poisson", "deterministic") + KNOBS + fault));
    assert!((told.metric("failed_ratio") * 300.0 - 50.0).abs() < 0.1);
    told.is("config.knobs.publishes", 2.0);
    // Somebody else took it back in time; the end of the fault changes nothing.
    let mended = system("", "", "rolling = {}").replace("poisson", "deterministic") + KNOBS + fault;
    let told = tell("300s", &(mended + &publish("c1", 120, "")));
    assert!((told.metric("failed_ratio") * 300.0 - 20.0).abs() < 0.1);
    told.is("config.knobs.publishes", 2.0);
}

#[test]
fn a_stage_keeps_instances_apart() {
    let stage = publish("c2", 100, ", share = \"20%\", soak = \"60s\"");
    let told = tell(
        "300s",
        &(system("", "", "rolling = {}").replace("poisson", "deterministic")
            + KNOBS
            + &stage
            + &publish("c1", 200, "")),
    );
    // Two of ten for a minute, then all of them until it is taken back.
    told.is("config.knobs.mixed_s", 60.0);
    let failed = told.metric("failed_ratio") * 300.0;
    assert!((failed - (0.2 * 60.0 + 40.0)).abs() < 0.5, "{failed}");
}

#[test]
fn a_tool_works_in_batches_and_stops_when_too_many_fail() {
    let batch = |rest: &str| {
        publish("c2", 100, &format!(", batch = {{ size = 5, takes = \"10s\", pause = \"5s\"{rest} }}"))
    };
    let text = |rest: &str| system("", "", "rolling = {}") + KNOBS + &batch(rest);
    // Five at 110 s, five at 125 s.
    let told = tell("300s", &text(""));
    told.is("config.knobs.mixed_s", 15.0);
    told.is("config.knobs.failed_items", 0.0);
    let told = tell("300s", &text(", failure-rate = \"100%\", retries = 2"));
    told.is("config.knobs.retried_items", 10.0);
    told.is("config.knobs.failed_items", 5.0);
    told.is("config.knobs.stopped_runs", 1.0);
    told.is("availability", 1.0);
}

#[test]
fn a_restart_brings_it_and_environments_are_apart() {
    let both = system("", "", "rolling = {}")
        + "[[service]]\nname = \"staging\"\n[[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 1ms\"]\n\
           [[config]]\nname = \"knobs\"\nenvironment = { staging = \"staging\", production = \"api\" }\nrestart = true\ndelay = \"2s\"\nencryption = \"500ms\"\n\
           [[config.version]]\nname = \"c1\"\n[[config.version]]\nname = \"c2\"\nerror-rate = \"100%\"\n";
    let told = tell("300s", &(both.clone() + &publish("c2", 100, ", environment = \"staging\"")));
    told.is("availability", 1.0);
    told.is("config.knobs.restarts", 1.0);
    assert_eq!(told.times("staging-0", "restarts for its configuration"), [102.5]);
    let told = tell("300s", &(both + &publish("c2", 100, "")));
    told.is("config.knobs.restarts", 11.0);
    assert!((told.metric("failed_ratio") * 300.0 - 197.5).abs() < 3.0);
}

#[test]
fn a_herd_starts_a_herd() {
    let herd = |way: &str| {
        let text = format!(
            "[[service]]\nname = \"api\"\nreplicas = 1\non-outage = {{ way = \"{way}\", most = 1000 }}\ninstance = {{ cores = 1, workers = 64, start = \"10s\" }}\n\
             [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 1ms\"]\n[service.callers]\ntimeout = \"1s\"\n\
             [[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.deterministic = {{ rate = \"10/s\" }}\n\
             [[fault]]\nat = \"100s\"\nhang = {{ service = \"api\", count = 1, for = \"100s\" }}\n"
        );
        tell("300s", &text)
    };
    // The first one fails at 101 s; the instance it started is ready at 111 s. Ten requests a second fail until then, and
    // those that are still sent to the first instance go on to fail.
    let seed = herd("seed").metric("service.api.outage_starts");
    assert!(seed > 100.0, "{seed}");
    let sane = herd("one-at-a-time").metric("service.api.outage_starts");
    assert!((2.0..=12.0).contains(&sane), "{sane}");
}

#[test]
fn the_lives_of_versions_are_remembered() {
    let told = tree(&[(100, "switch = { service = \"api\", version = \"v2-fix\" }")]);
    let spans: Vec<_> = told
        .0
        .lives
        .iter()
        .map(|life| {
            // Some request may still be inside at the switch.
            let spans = life.spans.iter().map(|(from, to)| (from.round(), to.round()));
            (life.version.as_str(), life.parent.as_deref(), spans.collect())
        })
        .collect();
    assert_eq!(
        spans,
        [
            ("v1", None, vec![(0.0, 10.0)]),
            ("v2", Some("v1"), vec![(10.0, 100.0)]),
            ("v3", Some("v2"), vec![]),
            ("v2-fix", Some("v1"), vec![(100.0, 300.0)]),
        ]
    );
}
