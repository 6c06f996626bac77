//! Zipkin's JSON format, version 2: a list of spans (openzipkin/zipkin-api, `zipkin2-api.yaml`).
//!
//! A request is a trace. Its first span is what the user sees; each attempt is a span of its caller (`CLIENT`), and one of the
//! called service (`SERVER`) below it once a worker took it. The same request has the same last 16 digits of its trace under every
//! strategy.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Lines, caller, instance, version, word};
use crate::lab::trace::{Span, StrategyTraces, TracedRequest, Work};
use crate::random::Key;

/// 2000-01-01 00:00 UTC, in microseconds since 1970.
const EPOCH_US: u64 = 946_684_800_000_000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ZipkinSpan<'a> {
    trace_id: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    name: &'a str,
    /// Microseconds since 1970.
    timestamp: u64,
    /// Microseconds, at least 1 (0 means unknown there).
    duration: u64,
    local_endpoint: Endpoint<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_endpoint: Option<Endpoint<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<Annotation>,
    tags: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint<'a> {
    service_name: &'a str,
}

#[derive(Serialize)]
struct Annotation {
    timestamp: u64,
    value: &'static str,
}

/// All spans of all strategies.
pub(super) fn render(traces: &[StrategyTraces]) -> Vec<u8> {
    let mut lines = Lines::new("");
    for (number, strategy) in (1_u64..).zip(traces) {
        for request in &strategy.requests {
            let trace = Trace { number, strategy: &strategy.strategy, request };
            lines.push(&trace.root());
            for at in 0..request.spans.len() {
                lines.push(&trace.client(at));
                if let Some(work) = &request.spans[at].work {
                    lines.push(&trace.server(at, work));
                }
            }
        }
    }
    lines.finish("")
}

struct Trace<'a> {
    /// Of the strategy, from 1.
    number: u64,
    strategy: &'a str,
    request: &'a TracedRequest,
}

/// Which span of a trace.
#[derive(Clone, Copy)]
enum Which {
    Root,
    Client(usize),
    Server(usize),
}

impl<'a> Trace<'a> {
    fn root(&self) -> ZipkinSpan<'a> {
        let request = self.request;
        let mut tags = BTreeMap::from([
            ("outcome", word(request.class).to_owned()),
            ("strategy", self.strategy.to_owned()),
        ]);
        if request.inconsistent {
            tags.insert("version-inconsistent", "true".to_owned());
        }
        self.span(Which::Root, None, &request.source, &request.source, (request.began, request.ended), tags)
    }

    fn client(&self, at: usize) -> ZipkinSpan<'a> {
        let span = &self.request.spans[at];
        let mut tags = self.tags(span);
        tags.insert("attempt", (span.attempt + 1).to_string());
        tags.insert("outcome", word(span.class).to_owned());
        let parent = match span.parent {
            None => Which::Root,
            Some(parent) if self.request.spans[parent].work.is_some() => Which::Server(parent),
            Some(parent) => Which::Client(parent),
        };
        let who = caller(self.request, span);
        ZipkinSpan {
            kind: Some("CLIENT"),
            remote_endpoint: Some(Endpoint { service_name: &span.service }),
            ..self.span(Which::Client(at), Some(parent), &span.endpoint, who, (span.sent, span.heard), tags)
        }
    }

    fn server(&self, at: usize, work: &Work) -> ZipkinSpan<'a> {
        let span = &self.request.spans[at];
        let mut tags = self.tags(span);
        if work.unfinished {
            tags.insert("outcome", "unfinished".to_owned());
        }
        let waited = work.started > work.arrived;
        let annotation =
            Annotation { timestamp: EPOCH_US + work.started / 1000, value: "taken from the queue" };
        let parent = Some(Which::Client(at));
        ZipkinSpan {
            kind: Some("SERVER"),
            annotations: waited.then_some(annotation).into_iter().collect(),
            ..self.span(
                Which::Server(at),
                parent,
                &span.endpoint,
                &span.service,
                (work.arrived, work.ended),
                tags,
            )
        }
    }

    fn tags(&self, span: &Span) -> BTreeMap<&'static str, String> {
        let instance = instance(span).map(|instance| ("instance", instance));
        let version = version(span).map(|version| ("version", version.to_owned()));
        instance.into_iter().chain(version).chain([("strategy", self.strategy.to_owned())]).collect()
    }

    fn span(
        &self,
        which: Which,
        parent: Option<Which>,
        name: &'a str,
        who: &'a str,
        (from, to): (u64, u64),
        tags: BTreeMap<&'static str, String>,
    ) -> ZipkinSpan<'a> {
        ZipkinSpan {
            trace_id: format!("{:016x}{:016x}", self.number, self.request.key),
            id: self.id(which),
            parent_id: parent.map(|parent| self.id(parent)),
            kind: None,
            name,
            timestamp: EPOCH_US + from / 1000,
            duration: (to / 1000 - from / 1000).max(1),
            local_endpoint: Endpoint { service_name: who },
            remote_endpoint: None,
            annotations: Vec::new(),
            tags,
        }
    }

    fn id(&self, which: Which) -> String {
        let key = Key(self.request.key);
        let id = match which {
            Which::Root => key.with(0),
            Which::Client(at) => key.with(2 * at as u64 + 1),
            Which::Server(at) => key.with(2 * at as u64 + 2),
        };
        format!("{:016x}", id.0.max(1))
    }
}
