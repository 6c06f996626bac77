//! Paths of requests in the two formats that tools read: Zipkin v2 (also Jaeger, Tempo) and trace events (Perfetto, the tracing
//! page of Chrome).
//!
//! Simulated time has no date. In Zipkin's format, which needs one, a run starts on 2000-01-01 at 00:00 UTC.

mod trace_event;
mod zipkin;

use serde::Serialize;

use super::ResultFile;
use crate::lab::trace::{Span, StrategyTraces, TracedRequest};
use crate::policies::view::Class;

/// Where Zipkin's spans go.
const ZIPKIN: &str = "traces.zipkin.json";
/// Where trace events go.
const TRACE_EVENT: &str = "traces.events.json";

/// Paths of the files that [`files`] makes.
pub(super) const PATHS: [&str; 2] = [ZIPKIN, TRACE_EVENT];

/// The traces of all strategies in both formats.
pub fn files(traces: &[StrategyTraces]) -> [ResultFile; 2] {
    [
        ResultFile { path: ZIPKIN.to_owned(), bytes: zipkin::render(traces) },
        ResultFile { path: TRACE_EVENT.to_owned(), bytes: trace_event::render(traces) },
    ]
}

/// How something ended, in a word.
const fn word(class: Option<Class>) -> &'static str {
    match class {
        None => "unfinished",
        Some(Class::Success) => "success",
        Some(Class::Failure) => "failure",
        Some(Class::Timeout) => "timeout",
        Some(Class::Rejected) => "rejected",
        Some(Class::Abandoned) => "abandoned",
    }
}

/// Who made an attempt: a service, or the source of the request.
fn caller<'a>(request: &'a TracedRequest, span: &Span) -> &'a str {
    span.parent.map_or(request.source.as_str(), |parent| request.spans[parent].service.as_str())
}

/// Name of the instance that an attempt was sent to.
fn instance(span: &Span) -> Option<String> {
    span.to.as_ref().map(|(number, _)| format!("{}-{number}", span.service))
}

/// Version of the instance that an attempt was sent to.
fn version(span: &Span) -> Option<&str> {
    span.to.as_ref().and_then(|(_, version)| version.as_deref())
}

/// A JSON array with one element on each line.
struct Lines {
    bytes: Vec<u8>,
    empty: bool,
}

impl Lines {
    fn new(before: &str) -> Self {
        Self { bytes: format!("{before}[").into_bytes(), empty: true }
    }

    fn push(&mut self, element: &impl Serialize) {
        self.bytes.extend_from_slice(if self.empty { b"\n" } else { b",\n" });
        self.empty = false;
        serde_json::to_writer(&mut self.bytes, element).expect("plain data into memory");
    }

    fn finish(mut self, after: &str) -> Vec<u8> {
        self.bytes.extend_from_slice(format!("\n]{after}\n").as_bytes());
        self.bytes
    }
}
