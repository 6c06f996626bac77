//! Traces: what the files say, and that following a request changes nothing.

use std::collections::BTreeMap;

use serde::Deserialize;
use simlab::lab::trace::StrategyTraces;
use simlab::lab::{Progress, RunOptions, trace};
use simlab::policies::view::Class;
use simlab::report::trace::files;

use crate::story::{load, run};

/// Follows `sample` requests of a scenario's first replication. (That the run told again is the same one is asserted there.)
fn followed(text: &str, sample: u64) -> Vec<StrategyTraces> {
    let study = load(text);
    let options = RunOptions { threads: Some(2) };
    trace(&study, &run(&study, 2), sample, &options, &Progress::default()).unwrap()
}

/// One caller, one callee that answers after 10 ms, messages of 1 ms.
fn simple(callers: &str, steps: &str, more: &str) -> String {
    format!(
        "[scenario]\nname = \"story\"\nduration = \"10s\"\nwarm-up = \"2s\"\nreplications = 1\n\
         [network]\nsame-zone = \"1ms\"\n\
         [[service]]\nname = \"front\"\ninstance = {{ workers = 64 }}\n[[service.endpoint]]\nname = \"get\"\n\
         steps = [\"wait 5ms\", {steps}]\n\
         [[service]]\nname = \"back\"\nreplicas = 2\ninstance = {{ workers = 64 }}\n{callers}\n[[service.endpoint]]\nname = \"work\"\n\
         steps = [\"wait 10ms\"]\n\
         [[source]]\nname = \"users\"\nto = \"front.get\"\nzone = \"z\"\narrivals.deterministic = {{ rate = \"10/s\" }}\n{more}"
    )
}

#[test]
fn a_request_is_told_hop_by_hop() {
    let told = followed(&simple("", "\"call back.work\"", ""), 4);
    let requests = &told[0].requests;
    assert_eq!(requests.len(), 4);
    // Evenly spread over 8 s of counted requests, one every 100 ms.
    let gaps: Vec<u64> = requests.windows(2).map(|pair| pair[1].began - pair[0].began).collect();
    assert_eq!(gaps, [2_000_000_000; 3]);
    for request in requests {
        let began = request.began;
        assert!(began >= 2_000_000_000);
        let at = |ns: u64| (ns - began) / 1_000_000;
        // 1 ms there, 5 ms, 1 ms there, 10 ms, 1 ms back, 1 ms back.
        assert_eq!((at(request.ended), request.class), (19, Some(Class::Success)));
        let [front, back] = &request.spans[..] else { panic!("{request:?}") };
        assert_eq!((front.parent, back.parent), (None, Some(0)));
        assert_eq!((front.service.as_str(), front.endpoint.as_str()), ("front", "get"));
        assert_eq!((at(front.sent), at(front.heard)), (0, 19));
        assert_eq!((at(back.sent), at(back.heard)), (6, 18));
        let work = back.work.unwrap();
        assert_eq!((at(work.arrived), at(work.started), at(work.ended)), (7, 7, 17));
        assert!(!work.unfinished);
    }
}

#[test]
fn work_for_nobody_goes_on_after_its_caller_has_given_up() {
    let callers = "[service.callers]\ntimeout = \"8ms\"\nretry.fixed = { attempts = 2, delay = \"3ms\" }";
    let told = followed(&simple(callers, "\"call back.work\"", ""), 1);
    let request = &told[0].requests[0];
    let at = |ns: u64| (ns - request.began) / 1_000_000;
    let [_, first, second] = &request.spans[..] else { panic!("{request:?}") };
    assert_eq!((first.attempt, second.attempt), (0, 1));
    assert_eq!(
        (first.class, second.class, request.class),
        (Some(Class::Timeout), Some(Class::Timeout), Some(Class::Failure))
    );
    assert_eq!((at(first.sent), at(first.heard), at(second.sent), at(second.heard)), (6, 14, 17, 25));
    let ended = |span: &trace::Span| at(span.work.unwrap().ended);
    assert_eq!((ended(first), ended(second)), (17, 28));
}

/// Everything at once: retries, copies of calls, parallel calls, timeouts, deaths, two versions.
fn wild() -> String {
    let callers = "[[service.version]]\nname = \"v1\"\n[[service.version]]\nname = \"v2\"\n\
                   [service.callers]\ntimeout = \"15ms\"\n\
                   hedge.grpc = { max-attempts = 2, hedging-delay = \"8ms\" }";
    let retries =
        "[service.callers]\ntimeout = \"60ms\"\nretry.exponential = { attempts = 3, base = \"2ms\" }\n";
    let more = "[[fault]]\nat = \"4s\"\ncrash = { service = \"back\", count = 1 }\n\
                [[fault]]\nat = \"6s\"\nslow = { service = \"back\", factor = 3, for = \"2s\" }\n\
                [[rollout]]\nat = \"5s\"\nservice = \"back\"\nto = \"v2\"\ncontainer-swap = {}\n";
    simple(callers, "\"call back.work\", \"parallel back.work back.work\", \"cpu exp(2ms)\"", more)
        .replace("10/s", "80/s")
        .replace("[[service]]\nname = \"back\"", &format!("{retries}[[service]]\nname = \"back\""))
        .replace("\"wait 10ms\"", "\"wait exp(10ms)\", \"cpu exp(1ms)\"")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Zipkin {
    trace_id: String,
    id: String,
    parent_id: Option<String>,
    kind: Option<String>,
    name: String,
    timestamp: u64,
    duration: u64,
    local_endpoint: BTreeMap<String, String>,
    remote_endpoint: Option<BTreeMap<String, String>>,
    #[serde(default)]
    annotations: Vec<Annotation>,
    tags: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Annotation {
    timestamp: u64,
    value: String,
}

/// The rules of zipkin2-api.yaml, and that children stand below their parents.
#[test]
fn zipkin_would_take_them() {
    let told = followed(&wild(), 40);
    let met_two = told[0].requests.iter().filter(|request| request.inconsistent).count();
    assert!(met_two > 0);
    assert_eq!(met_two, told[0].inconsistent, "every inconsistent request is there");
    let spans: Vec<Zipkin> = serde_json::from_slice(&files(&told)[0].bytes).unwrap();
    let hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let by_id: BTreeMap<(&str, &str), &Zipkin> =
        spans.iter().map(|span| ((span.trace_id.as_str(), span.id.as_str()), span)).collect();
    assert_eq!(by_id.len(), spans.len(), "ids are unique within a trace");
    let (mut servers, mut copies) = (0, 0);
    for span in &spans {
        assert!(hex(&span.trace_id, 32) && hex(&span.id, 16));
        assert!(span.duration >= 1 && !span.name.is_empty());
        assert!(
            span.local_endpoint
                .keys()
                .chain(span.remote_endpoint.iter().flatten().map(|(key, _)| key))
                .all(|key| key == "serviceName")
        );
        match (span.kind.as_deref(), &span.parent_id) {
            (None, None) => assert!(span.tags.contains_key("outcome")),
            (Some("CLIENT"), Some(parent)) => {
                let parent = by_id[&(span.trace_id.as_str(), parent.as_str())];
                assert!(span.timestamp >= parent.timestamp);
                assert_eq!(span.local_endpoint, parent.local_endpoint, "who makes a call is who was called");
                copies += usize::from(span.tags["attempt"] != "1");
            }
            (Some("SERVER"), Some(parent)) => {
                let parent = by_id[&(span.trace_id.as_str(), parent.as_str())];
                assert_eq!(parent.kind.as_deref(), Some("CLIENT"));
                assert_eq!(Some(&span.local_endpoint), parent.remote_endpoint.as_ref());
                assert!(span.timestamp > parent.timestamp, "the message takes its time");
                servers += 1;
            }
            other => panic!("{other:?}"),
        }
        for annotation in &span.annotations {
            assert!(annotation.timestamp >= span.timestamp && !annotation.value.is_empty());
        }
    }
    assert!(servers > 100 && copies > 0, "{servers} {copies}");
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TraceEvents {
    display_time_unit: String,
    trace_events: Vec<Event>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    ph: String,
    pid: u64,
    tid: u64,
    name: String,
    cat: Option<String>,
    ts: Option<f64>,
    dur: Option<f64>,
    args: BTreeMap<String, serde_json::Value>,
}

/// Complete events of one thread lie within each other or beside each other, or the viewer draws nonsense.
#[test]
fn perfetto_would_draw_them() {
    let told = followed(&wild(), 40);
    let TraceEvents { display_time_unit, trace_events } =
        serde_json::from_slice(&files(&told)[1].bytes).unwrap();
    assert_eq!(display_time_unit, "ms");
    let mut open: BTreeMap<(u64, u64), Vec<u64>> = BTreeMap::new();
    let mut named = BTreeMap::new();
    let mut bars = 0;
    for event in &trace_events {
        match event.ph.as_str() {
            "M" => {
                assert!(["process_name", "thread_name"].contains(&event.name.as_str()));
                assert!(event.args["name"].is_string() && event.cat.is_none());
                if event.name == "thread_name" {
                    named.insert((event.pid, event.tid), 0);
                }
            }
            "X" => {
                let thread = (event.pid, event.tid);
                *named.get_mut(&thread).expect("a thread with a name") += 1;
                // Whole nanoseconds again.
                let [from, long] =
                    [event.ts.unwrap(), event.dur.unwrap()].map(|us| (us * 1e3).round() as u64);
                let above = open.entry(thread).or_default();
                while above.last().is_some_and(|end| *end <= from) {
                    above.pop();
                }
                assert!(above.last().is_none_or(|end| from + long <= *end), "{} crosses another", event.name);
                above.push(from + long);
                assert!(["request", "attempt", "work"].contains(&event.cat.as_deref().unwrap()));
                bars += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert!(bars > 300 && named.values().all(|count| *count > 0), "{bars}");
}
