//! Tells runs again and writes down the paths of some requests.
//!
//! A run is a function of its scenario and its seed, so what happened to a request need not be kept while it happens: the run is
//! told a second time with a tracer that knows whom to follow. The second telling must have the journal of the first one; anything
//! else is a defect of simlab and is said.

use super::Progress;
use super::outcome::Replication;
use super::replicate;
use crate::kernel::Stop;
use crate::policies::view::Class;
use crate::world::spec::Spec;
use crate::world::{self, Wanted};

/// Traced requests of one strategy, in its first replication.
#[derive(Clone, Debug)]
pub struct StrategyTraces {
    /// Name of the strategy.
    pub strategy: String,
    /// In order of arrival.
    pub requests: Vec<TracedRequest>,
    /// Attempts that were not kept, for there were more than [`world::MAX_SPANS`].
    pub lost: u64,
    /// Requests of the run that met two versions of a service.
    pub inconsistent: usize,
}

/// One request of the public.
#[derive(Clone, Debug)]
pub struct TracedRequest {
    /// Identity, the same under every strategy.
    pub key: u64,
    /// Who sent it.
    pub source: String,
    /// When it was to be sent, ns since the start of the run.
    pub began: u64,
    /// When it was over for its user, or when the run ended.
    pub ended: u64,
    /// How it ended; `None` if the run ended before.
    pub class: Option<Class>,
    /// It had met two versions of a service by then.
    pub inconsistent: bool,
    /// Its attempts, in order of sending.
    pub spans: Vec<Span>,
}

/// One attempt. Moments are in ns since the start of the run.
#[derive(Clone, Debug)]
pub struct Span {
    /// Attempt within which it was made, in the request's `spans`; `None` = by the client.
    pub parent: Option<usize>,
    /// Called service.
    pub service: String,
    /// Called endpoint.
    pub endpoint: String,
    /// Where it was sent: number of the instance, and its version, if the service has versions. `None` if it was never sent.
    pub to: Option<(u32, Option<String>)>,
    /// Attempts of the same call before it.
    pub attempt: u32,
    /// When it was made.
    pub sent: u64,
    /// When its caller learnt how it ended or gave it up, or when the run ended.
    pub heard: u64,
    /// How it ended for its caller; `None` if the run ended before.
    pub class: Option<Class>,
    /// What was done for it.
    pub work: Option<Work>,
}

/// The stay of an attempt at its instance.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// When it came.
    pub arrived: u64,
    /// When a worker took it.
    pub started: u64,
    /// When it was over, for whomever.
    pub ended: u64,
    /// The run ended before.
    pub unfinished: bool,
}

/// Tells a replication again; `None` if it was interrupted. The name of the strategy is left open.
pub(super) fn follow(
    spec: &Spec,
    first: &Replication,
    sample: u64,
    progress: &Progress,
) -> Result<Option<StrategyTraces>, Stop> {
    let mut keys = first.inconsistent.clone();
    keys.sort_unstable();
    let of = first.metrics.get("requests").map_or(0, |requests| *requests as u64);
    let wanted = Wanted { sample: sample.min(of), of, keys };
    let (report, traces) = match world::trace(spec, first.seed, progress, wanted) {
        Ok(told) => told,
        Err(Stop::Cancelled) => return Ok(None),
        Err(stop) => return Err(stop),
    };
    replicate::note_progress(spec, &report, progress);
    assert_eq!(report.digest, first.digest, "a run that is told again is the same");

    let end = traces.end.0;
    let mut requests: Vec<TracedRequest> = traces
        .requests
        .iter()
        .map(|request| TracedRequest {
            key: request.key,
            source: spec.sources[request.source as usize].name.clone(),
            began: request.began.0,
            ended: request.over.map_or(end, |(at, _)| at.0),
            class: request.over.map(|(_, class)| class),
            inconsistent: request.inconsistent,
            spans: Vec::new(),
        })
        .collect();
    // Where a span of the run went within its request.
    let mut places = Vec::with_capacity(traces.spans.len());
    for span in &traces.spans {
        let service = &spec.services[span.service as usize];
        let endpoint = service.endpoints.iter().find(|(_, entry)| *entry == span.entry);
        let version = |at: u8| service.versions.get(usize::from(at)).map(|version| version.name.clone());
        let spans = &mut requests[span.request as usize].spans;
        places.push(spans.len());
        spans.push(Span {
            parent: span.parent.map(|parent| places[parent as usize]),
            service: service.name.clone(),
            endpoint: endpoint.map_or_else(String::new, |(name, _)| name.clone()),
            to: span.to.map(|(instance, at)| (instance, version(at))),
            attempt: span.attempt,
            sent: span.sent.0,
            heard: span.heard.map_or(end, |(at, _)| at.0),
            class: span.heard.map(|(_, class)| class),
            work: span.started.map(|(arrived, started)| Work {
                arrived: arrived.0,
                started: started.0,
                ended: span.left.map_or(end, |at| at.0),
                unfinished: span.left.is_none(),
            }),
        });
    }
    let inconsistent = first.metrics.get("version_inconsistent_requests").map_or(0, |count| *count as usize);
    Ok(Some(StrategyTraces { strategy: String::new(), requests, lost: traces.lost, inconsistent }))
}
