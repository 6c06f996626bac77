//! Monitoring fires when it should, and people act on it as late as they do.

use simlab::lab::outcome::LogEvent;

use crate::story::{Told, tell};

const SYSTEM: &str = r#"
[[service]]
name = "api"
instance = { workers = 1 }
[[service.endpoint]]
name = "get"
steps = ["cpu 20ms"]

[[source]]
name = "users"
to = "api.get"
arrivals.deterministic = { profile = "steps(0s: 10/s, 60s: 30/s, 200s: 10/s)" }
"#;

/// The moments at which something of this kind was logged.
fn times(told: &Told, kind: &str) -> Vec<f64> {
    told.0.events_log.iter().filter(|event: &&LogEvent| event.kind == kind).map(|event| event.t_s).collect()
}

/// Of a window of ten seconds more than half lies after the change, from five seconds after it on; looks are ten seconds
/// apart, and the rate must have been high for thirty.
#[test]
fn a_high_rate_fires_and_an_operator_scales() {
    let told = tell(
        "5min",
        &format!(
            "{SYSTEM}
[[alert]]
name = \"crowd\"
on = \"source.users.requests-per-second\"
above = \"20/s\"
for = \"30s\"
window = \"10s\"
every = \"10s\"

[[action]]
on-alert = \"crowd\"
after = \"20s\"
scale = {{ service = \"api\", replicas = 3 }}
"
        ),
    );
    let (fires, ends, acts) = (times(&told, "alert"), times(&told, "alert_end"), times(&told, "action"));
    let (&[fires], &[ends], &[acts]) = (&fires[..], &ends[..], &acts[..]) else {
        panic!("once each: {fires:?} {ends:?} {acts:?}")
    };
    assert!((95.0..=105.1).contains(&fires), "{fires}");
    assert!((205.0..=215.1).contains(&ends), "{ends}");
    assert!((acts - fires - 20.0).abs() < 1e-6, "{acts}");
    told.is("alert.crowd.fired", 1.0);
    told.is("alert.crowd.firing_s", ends - fires);
}

/// Thirty requests of 20 ms a second keep one core busy for 60 % of the time, ten for 20 %.
#[test]
fn utilization_is_core_time_over_ready_cores() {
    let alert = |above: &str| {
        let text = format!(
            "{SYSTEM}\n[[alert]]\nname = \"busy\"\non = \"service.api.utilization\"\nabove = \"{above}\"\n"
        );
        tell("5min", &text).metric("alert.busy.fired")
    };
    assert_eq!((alert("59%"), alert("61%")), (1.0, 0.0));
    let idle =
        format!("{SYSTEM}\n[[alert]]\nname = \"idle\"\non = \"service.api.utilization\"\nbelow = \"21%\"\n");
    assert_eq!(tell("5min", &idle).metric("alert.idle.fired"), 2.0, "before and after the crowd");
}

/// A queue without places refuses what comes while the worker is busy; 50 of 100 requests a second find it so.
#[test]
fn a_share_of_bad_answers() {
    let flood = SYSTEM
        .replace("workers = 1", "workers = 1, queue = 0")
        .replace("steps(0s: 10/s, 60s: 30/s, 200s: 10/s)", "steps(0s: 10/s, 60s: 100/s, 200s: 10/s)");
    let fired = |above: &str| {
        let alert =
            format!("[[alert]]\nname = \"bad\"\non = \"source.users.bad-ratio\"\nabove = \"{above}\"\n");
        tell("5min", &format!("{flood}{alert}")).metric("alert.bad.fired")
    };
    assert_eq!((fired("45%"), fired("55%")), (1.0, 0.0));
}
