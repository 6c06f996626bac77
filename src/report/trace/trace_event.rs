//! Trace events (the JSON format of Chrome's tracing page, which Perfetto reads, too): complete events (`ph: "X"`) with names
//! for what stands beside them (`ph: "M"`).
//!
//! Each request is a *process*, so it can be folded up, and its attempts stand below each other as they call each other. What goes on
//! beside that (parallel calls, hedges, work that nobody waits for any more) stands in *threads* of its own, for events of one thread
//! have to lie within each other.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Lines, instance, version, word};
use crate::lab::trace::{StrategyTraces, TracedRequest};

#[derive(Serialize)]
struct Event<'a> {
    ph: &'static str,
    pid: u64,
    tid: u64,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cat: Option<&'static str>,
    /// Microseconds since the start of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<f64>,
    /// Microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    args: Map<String, Value>,
}

/// All requests of all strategies.
pub(super) fn render(traces: &[StrategyTraces]) -> Vec<u8> {
    let mut lines = Lines::new("{\"displayTimeUnit\":\"ms\",\"traceEvents\":");
    let mut pid = 0;
    for strategy in traces {
        for request in &strategy.requests {
            pid += 1;
            let mark = if request.inconsistent { ", met two versions" } else { "" };
            let name = format!("{}: {} {:016x}{mark}", strategy.strategy, request.source, request.key);
            lines.push(&label("process_name", pid, 0, &name));
            let (bars, threads) = arrange(request);
            for tid in 0..threads {
                let name = if tid == 0 { "in line".to_owned() } else { format!("beside it {tid}") };
                lines.push(&label("thread_name", pid, tid, &name));
            }
            for bar in bars {
                lines.push(&Event {
                    ph: "X",
                    pid,
                    tid: bar.thread,
                    name: &bar.name,
                    cat: Some(bar.kind),
                    ts: Some(bar.from as f64 / 1e3),
                    dur: Some((bar.to - bar.from) as f64 / 1e3),
                    args: bar.facts,
                });
            }
        }
    }
    lines.finish("}")
}

fn label(name: &'static str, pid: u64, tid: u64, text: &str) -> Event<'static> {
    let args = Map::from_iter([("name".to_owned(), json!(text))]);
    Event { ph: "M", pid, tid, name, cat: None, ts: None, dur: None, args }
}

/// Something that lasts.
struct Bar {
    kind: &'static str,
    name: String,
    from: u64,
    to: u64,
    /// Within which it happens, by position.
    within: Option<usize>,
    thread: u64,
    facts: Map<String, Value>,
}

/// The bars of a request in order of time, and on how many threads they stand.
fn arrange(request: &TracedRequest) -> (Vec<Bar>, u64) {
    let mut bars = bars(request);
    let mut order: Vec<usize> = (0..bars.len()).collect();
    // Whoever makes a call comes before it, even at the same moment.
    order.sort_by_key(|&at| bars[at].from);
    // What is under way on each thread: position and end, the outermost first.
    let mut threads: Vec<Vec<(usize, u64)>> = Vec::new();
    for &at in &order {
        let Bar { from, to, within, .. } = bars[at];
        for open in &mut threads {
            while open.last().is_some_and(|(_, end)| *end <= from) {
                open.pop();
            }
        }
        let fits = |open: &Vec<(usize, u64)>| match open.last() {
            None => true,
            Some((above, end)) => within == Some(*above) && to <= *end,
        };
        let home = within.map(|within| bars[within].thread as usize).filter(|&home| fits(&threads[home]));
        let thread = home.or_else(|| threads.iter().position(fits)).unwrap_or_else(|| {
            threads.push(Vec::new());
            threads.len() - 1
        });
        threads[thread].push((at, to));
        bars[at].thread = thread as u64;
    }
    let mut in_order: Vec<(usize, Bar)> = bars.into_iter().enumerate().collect();
    in_order.sort_by_key(|(_, bar)| bar.from);
    (in_order.into_iter().map(|(_, bar)| bar).collect(), threads.len() as u64)
}

/// The request itself, each of its attempts, and the work for each.
fn bars(request: &TracedRequest) -> Vec<Bar> {
    let mut bars = vec![Bar {
        kind: "request",
        name: request.source.clone(),
        from: request.began,
        to: request.ended,
        within: None,
        thread: 0,
        facts: Map::from_iter([("outcome".to_owned(), json!(word(request.class)))]),
    }];
    // Where calls of an attempt belong: to its work, once there is some.
    let mut homes = Vec::with_capacity(request.spans.len());
    for span in &request.spans {
        let mut facts = Map::new();
        let mut fact = |name: &str, value: Value| facts.insert(name.to_owned(), value);
        fact("attempt", json!(span.attempt + 1));
        fact("outcome", json!(word(span.class)));
        if let Some(instance) = instance(span) {
            fact("instance", json!(instance));
        }
        if let Some(version) = version(span) {
            fact("version", json!(version));
        }
        let place = format!("{}.{}", span.service, span.endpoint);
        bars.push(Bar {
            kind: "attempt",
            name: place,
            from: span.sent,
            to: span.heard,
            within: Some(span.parent.map_or(0, |parent| homes[parent])),
            thread: 0,
            facts,
        });
        let attempt = bars.len() - 1;
        if let Some(work) = &span.work {
            let who = instance(span).unwrap_or_default();
            let waited = (work.started - work.arrived) as f64 / 1e6;
            let mut facts = Map::from_iter([("waited_ms".to_owned(), json!(waited))]);
            if work.unfinished {
                facts.insert("outcome".to_owned(), json!("unfinished"));
            }
            bars.push(Bar {
                kind: "work",
                name: match version(span) {
                    Some(version) => format!("{who} ({version})"),
                    None => who,
                },
                from: work.arrived,
                to: work.ended,
                within: Some(attempt),
                thread: 0,
                facts,
            });
        }
        homes.push(bars.len() - 1);
    }
    bars
}
