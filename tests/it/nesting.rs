//! Calls within calls, within one instant: however deep a story goes, it ends, or a limit ends it, and never the stack.

use simlab::lab::{self, Progress, RunOptions};

use crate::story::{load, tell};

/// A request each second to a service that calls itself nearly for ever.
fn chain(cpu: &str, more: &str) -> String {
    format!(
        r#"
[[service]]
name = "leaf"
instance = {{ cores = 100, mode = "async", max-in-flight = 1_000_000, queue = 1_000_000 }}
[[service.endpoint]]
name = "get"
steps = ["cpu {cpu}", "call leaf.get probability=99.99%"]
[[source]]
name = "web"
to = "leaf.get"
arrivals.deterministic = {{ rate = "1/s" }}
{more}
"#
    )
}

fn error_of(story: &str) -> String {
    let text = format!(
        "[scenario]\nname = \"deep\"\nduration = \"20s\"\nreplications = 1\n[limits]\nin-flight = 3000\n{story}"
    );
    let outcome = lab::run(&load(&text), &RunOptions { threads: Some(1) }, &Progress::default());
    outcome.map_or_else(|error| error.to_string(), |_| "no error".to_owned())
}

#[test]
fn a_deep_chain_begins_and_ends_within_an_instant() {
    let told = tell("20s", &chain("0us", ""));
    told.is("availability", 1.0);
    // A geometric number of links with a mean of 10^4: twenty of them sum to fewer than 10^5 once in 200.
    assert!(told.metric("service.leaf.attempts_per_call") > 0.0);
    assert!(told.metric("service.leaf.attempts_rps") > 5000.0, "{:#?}", told.metrics());
    told.is("latency_p50_ms", 0.0);
}

#[test]
fn a_deep_chain_grows_and_unwinds() {
    let told = tell("20s", &chain("1us", ""));
    assert!(told.metric("service.leaf.attempts_rps") > 5000.0, "{:#?}", told.metrics());
    assert!(error_of(&chain("1us", "")).contains("limit `in-flight`"));
}

#[test]
fn a_deep_chain_is_cancelled() {
    let told = tell("20s", &chain("10us", "deadline = \"60ms\"\npropagate-deadline = true\n"));
    assert!(told.metric("service.leaf.attempts_rps") > 2000.0, "{:#?}", told.metrics());
    assert!(told.metric("availability") < 0.9, "some reach their deadline, 6000 links deep");
}

#[test]
fn copies_of_copies_of_refused_calls_do_not_exhaust_the_stack() {
    let hedged = "[service.call.leaf]\nhedge.grpc = { max-attempts = 5, non-fatal = [\"failure\", \"rejected\"] }\nlimiter.bulkhead = { max-concurrent = 400 }\n";
    let story = chain("0us", "").replace("[[source]]", &format!("{hedged}[[source]]"));
    // Five copies of five copies of ..: it may end for want of requests that are refused, but not for want of stack.
    let error = error_of(&story);
    assert!(
        ["no error", "limit `in-flight`", "no time passes"].iter().any(|end| error.contains(end)),
        "{error}"
    );
}
