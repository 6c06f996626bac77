//! How instances end, in stories that can be followed on paper.

use crate::story::tell;

/// Asked once a second; the last instance is asked to stop at 10.5 s, and clients hear of that two seconds later.
fn stopped(instance: &str, steps: &str) -> String {
    format!(
        "[[service]]\nname = \"api\"\ninstance = {{ workers = 9, {instance} }}\ndiscovery = \"2s\"\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"{steps}\"]\n\
         [[source]]\nname = \"web\"\nto = \"api.get\"\ndeadline = \"30s\"\n\
         arrivals.deterministic = {{ rate = \"1/s\" }}\n\
         [[action]]\nat = \"10500ms\"\nscale = {{ service = \"api\", replicas = 0 }}\n"
    )
}

#[test]
fn a_door_that_closes_before_the_news_is_there() {
    let told = tell("21s", &stopped("cores = 1", "cpu 100ms"));
    // Those of 11 and 12 s come to an instance that is gone; later ones know of none.
    assert_eq!(told.times("api-0", "draining"), [10.5]);
    assert_eq!(told.times("api-0", "stopped"), [10.5]);
    told.is("service.api.shutdown_refused", 2.0);
    told.is("service.api.shutdown_cut_off", 0.0);
    told.is("availability", 0.5);
}

#[test]
fn a_hook_keeps_the_door_open_until_everybody_knows() {
    for wait in ["pre-stop = \"3s\"", "lame-duck = \"3s\""] {
        let told = tell("21s", &stopped(wait, "cpu 100ms"));
        assert_eq!(told.times("api-0", "draining"), [10.5]);
        assert_eq!(told.times("api-0", "stopped"), [13.5], "{wait}");
        told.is("service.api.shutdown_refused", 0.0);
        told.is("availability", 0.6);
    }
    // Too short by half a second: the one of 12 s is lost.
    let told = tell("21s", &stopped("pre-stop = \"1s\"", "cpu 100ms"));
    told.is("service.api.shutdown_refused", 1.0);
}

#[test]
fn the_hook_takes_its_time_from_the_grace_period() {
    let end = |instance: &str| {
        let told = tell("60s", &stopped(instance, "wait 25s"));
        (told.times("api-0", "stopped"), told.metric("service.api.shutdown_cut_off"))
    };
    // 3.5 s count as 3: SIGTERM at 14, and 7 s later the end. The ten of the first ten seconds are inside, and those of 11 and
    // 12 s, who had not heard.
    assert_eq!(end("pre-stop = \"3500ms\", grace = \"10s\""), (vec![21.0], 12.0));
    // Two seconds are left in any case.
    assert_eq!(end("pre-stop = \"3500ms\", grace = \"4s\""), (vec![16.0], 12.0));
    // Nobody waits for a hook longer than the whole period ...
    assert_eq!(end("pre-stop = \"20s\", grace = \"4s\""), (vec![16.5], 12.0));
    // ... and without one it does not run.
    assert_eq!(end("pre-stop = \"20s\", grace = \"0s\""), (vec![10.5], 10.0));
}

#[test]
fn who_does_not_handle_the_signal() {
    // Gone at once, with the two that are inside.
    let told = tell("21s", &stopped("on-term = \"exit\"", "wait 2s"));
    assert_eq!(told.times("api-0", "stopped"), [10.5]);
    told.is("service.api.shutdown_cut_off", 2.0);
    // Never told: it serves on, for nobody in the end, until it is killed.
    let told = tell("21s", &stopped("on-term = \"ignore\", grace = \"4s\"", "wait 1s"));
    assert_eq!(told.times("api-0", "stopped"), [14.5]);
    told.is("service.api.shutdown_refused", 0.0);
    told.is("service.api.shutdown_cut_off", 0.0);
    told.is("availability", 0.6);
}

#[test]
fn a_second_order_to_stop_changes_nothing() {
    let again = "[[action]]\nat = \"12s\"\nscale = { service = \"api\", replicas = 1 }\n\
                 [[action]]\nat = \"13s\"\nscale = { service = \"api\", replicas = 0 }\n";
    let told =
        tell("21s", &format!("{}{again}", stopped("pre-stop = \"4s\", start = \"500ms\"", "cpu 100ms")));
    assert_eq!(told.times("api-0", "stopped"), [14.5]);
    assert_eq!(
        told.times("api-1", "stopped"),
        [17.0],
        "one that is leaving does not come back; another one is started"
    );
}
