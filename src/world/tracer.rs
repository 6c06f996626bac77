//! The paths of chosen requests: every attempt made for them, where it went, which version it met and how it ended.
//!
//! Only a run that was asked for traces has a tracer. It watches and changes nothing, so a run that is told again with a tracer
//! has the same journal, and who wants to see a request that turned out to be remarkable tells the run again.

use crate::policies::view::Class;
use crate::time::Time;

use super::World;
use super::call::{LET_GO, Origin};
use super::frame::{NIL, WIRE};

/// Spans that one run keeps; what comes later is counted.
pub const MAX_SPANS: usize = 1_000_000;

/// Which requests of a run are traced.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// So many of the counted ones, evenly spread ...
    pub sample: u64,
    /// ... over so many.
    pub of: u64,
    /// Keys of further ones, ascending.
    pub keys: Vec<u64>,
}

/// Traces of one run.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    /// In order of arrival.
    pub requests: Vec<TracedRequest>,
    /// In order of sending.
    pub spans: Vec<Span>,
    /// Attempts that were not kept, for there were too many.
    pub lost: u64,
    /// End of the run.
    pub end: Time,
}

/// A request of the public.
#[derive(Clone, Debug)]
pub struct TracedRequest {
    /// Identity, the same under every strategy.
    pub key: u64,
    /// Position in `Spec::sources`.
    pub source: u32,
    /// When it was to be sent.
    pub began: Time,
    /// When it was over for its user, and how; `None` if the run ended before.
    pub over: Option<(Time, Class)>,
    /// It had met two versions of a service by then.
    pub inconsistent: bool,
}

/// One attempt.
#[derive(Clone, Debug)]
pub struct Span {
    /// Position in `Traces::requests`.
    pub request: u32,
    /// Attempt within which it was made, in `Traces::spans`; `None` = by the client.
    pub parent: Option<u32>,
    /// Called service, in `Spec::services`.
    pub service: u32,
    /// First operation of the called endpoint.
    pub entry: u16,
    /// Attempts of the same call before it.
    pub attempt: u32,
    /// When it was made.
    pub sent: Time,
    /// When its caller learnt how it ended or gave it up, and how.
    pub heard: Option<(Time, Class)>,
    /// Where it was sent: ordinal of the instance, and its version. `None` if it was never sent.
    pub to: Option<(u32, u8)>,
    /// When it came to its instance, and when a worker took it.
    pub started: Option<(Time, Time)>,
    /// When it left its instance.
    pub left: Option<Time>,
}

/// See the module documentation.
pub(super) struct Tracer {
    wanted: Wanted,
    /// Counted requests so far.
    counted: u64,
    /// Position in `Traces::requests` by request record, `NIL` if it is not traced.
    by_request: Vec<u32>,
    /// Position in `Traces::spans` by frame, `NIL` if it has none.
    by_frame: Vec<u32>,
    traces: Traces,
}

impl Tracer {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self { wanted, counted: 0, by_request: Vec::new(), by_frame: Vec::new(), traces: Traces::default() }
    }

    pub(super) fn finish(self, end: Time) -> Traces {
        Traces { end, ..self.traces }
    }

    /// Whether the next request is wanted.
    fn wants(&mut self, key: u64, counted: bool) -> bool {
        let Wanted { sample, of, keys } = &self.wanted;
        let mut chosen = keys.binary_search(&key).is_ok();
        if counted {
            let share = |number: u64| u128::from(number) * u128::from(*sample) / u128::from((*of).max(1));
            chosen |= share(self.counted + 1) > share(self.counted);
            self.counted += 1;
        }
        chosen
    }

    fn span_of(&mut self, frame: u32) -> Option<&mut Span> {
        let at = *self.by_frame.get(frame as usize)?;
        self.traces.spans.get_mut(at as usize)
    }
}

/// Stores `value` at a place that may lie behind the end.
fn put(list: &mut Vec<u32>, at: u32, value: u32) {
    if list.len() <= at as usize {
        list.resize(at as usize + 1, NIL);
    }
    list[at as usize] = value;
}

impl World<'_> {
    /// A request begins.
    #[inline(never)]
    pub(super) fn trace_request(&mut self, now: Time, source: u32, key: u64, request: u32) {
        let counted = now >= self.sources[source as usize].counted_from;
        let Some(tracer) = &mut self.tracer else { return };
        let mut at = NIL;
        if tracer.wants(key, counted) {
            at = tracer.traces.requests.len() as u32;
            let traced = TracedRequest { key, source, began: now, over: None, inconsistent: false };
            tracer.traces.requests.push(traced);
        }
        put(&mut tracer.by_request, request, at);
    }

    /// An errand begins, which nobody traces.
    pub(super) fn trace_nothing(&mut self, request: u32) {
        if let Some(tracer) = &mut self.tracer {
            put(&mut tracer.by_request, request, NIL);
        }
    }

    /// A request is over for its user.
    pub(super) fn trace_over(&mut self, now: Time, request: u32, class: Class) {
        let Some(tracer) = &mut self.tracer else { return };
        let Some(&at) = tracer.by_request.get(request as usize) else { return };
        if let Some(traced) = tracer.traces.requests.get_mut(at as usize) {
            traced.over = Some((now, class));
            traced.inconsistent = self.requests[request].inconsistent;
        }
    }

    /// An attempt goes out, or is to go out.
    #[inline(never)]
    pub(super) fn trace_attempt(&mut self, slot: u32, origin: &Origin, state: u32) {
        let frame = &self.frames[slot];
        let to = (frame.instance != NIL).then(|| {
            let instance = &self.instances[frame.instance as usize];
            (instance.ordinal, instance.version)
        });
        let attempt = if matches!(state, NIL | LET_GO | WIRE) { 0 } else { self.calls[state].attempt };
        let (service, entry, sent) =
            (self.outbounds[frame.outbound as usize].service, frame.pc, frame.started);
        let Some(tracer) = &mut self.tracer else { return };
        let request = tracer.by_request.get(origin.request as usize).copied().unwrap_or(NIL);
        if request == NIL || state == WIRE {
            return;
        }
        if tracer.traces.spans.len() >= MAX_SPANS {
            tracer.traces.lost += 1;
            return;
        }
        let above = tracer.by_frame.get(origin.parent as usize).copied().filter(|span| *span != NIL);
        let at = tracer.traces.spans.len() as u32;
        put(&mut tracer.by_frame, slot, at);
        tracer.traces.spans.push(Span {
            request,
            parent: above,
            service,
            entry,
            attempt,
            sent,
            heard: None,
            to,
            started: None,
            left: None,
        });
    }

    /// An attempt that waited has a place to go to.
    pub(super) fn trace_place(&mut self, slot: u32) {
        let instance = &self.instances[self.frames[slot].instance as usize];
        let to = (instance.ordinal, instance.version);
        if let Some(span) = self.tracer.as_mut().and_then(|tracer| tracer.span_of(slot)) {
            span.to = Some(to);
        }
    }

    /// A worker takes an attempt.
    pub(super) fn trace_start(&mut self, now: Time, slot: u32) {
        self.trace_place(slot);
        let arrived = self.frames[slot].arrived;
        if let Some(span) = self.tracer.as_mut().and_then(|tracer| tracer.span_of(slot)) {
            span.started = Some((arrived, now));
        }
    }

    /// An attempt has left its instance.
    pub(super) fn trace_end(&mut self, now: Time, slot: u32) {
        if let Some(span) = self.tracer.as_mut().and_then(|tracer| tracer.span_of(slot))
            && span.started.is_some()
        {
            span.left.get_or_insert(now);
        }
    }

    /// The caller of an attempt learns how it ended.
    pub(super) fn trace_heard(&mut self, now: Time, slot: u32, class: Class) {
        if let Some(span) = self.tracer.as_mut().and_then(|tracer| tracer.span_of(slot)) {
            span.heard.get_or_insert((now, class));
        }
    }

    /// Nothing refers to a frame any more.
    pub(super) fn trace_gone(&mut self, slot: u32) {
        if let Some(tracer) = &mut self.tracer {
            put(&mut tracer.by_frame, slot, NIL);
        }
    }
}
