//! The deterministic kernel: it keeps time and nothing else.
//!
//! A model is a state and a `handle`; the kernel hands it events in the order of (time, sequence) until the queue is
//! empty, the horizon is reached or somebody cancels. Constant delays live in [`ring::Ring`]s, of which only the oldest
//! entry stands in the queue. Every event enters the [`journal::Journal`]; two runs with the same digest did the same.

pub mod arena;
pub mod journal;
pub mod queue;
pub mod ring;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::time::Time;
use journal::Journal;
use queue::{MAX_EVENTS, Payload, Queue};

/// What the kernel runs.
pub trait Model {
    /// Handles one event; schedules more. `Break` ends the run at once, see [`Model::outcome`].
    fn handle(&mut self, now: Time, payload: Payload, queue: &mut Queue) -> ControlFlow<()>;

    /// Told, where much is pending, which event probably comes after the one about to be handled, so that the memory it
    /// needs can be on its way.
    fn prepare(&self, payload: Payload);

    /// Why `handle` ended the run: nothing is left to do, or something is wrong.
    fn outcome(&self) -> Result<(), Stop>;

    /// Root requests so far, for progress.
    fn requests(&self) -> u64;

    /// Asked every few thousand events: whether a limit is exceeded, given the number of pending events.
    fn excess(&self, pending: usize) -> Option<Stop>;
}

/// Why a run ended before its horizon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// A limit of the scenario was reached.
    #[error("the run needs more than {limit} {what} (limit `{name}`)")]
    Limit {
        /// Key in `[limits]`.
        name: &'static str,
        /// What is counted, in words.
        what: &'static str,
        /// Its value.
        limit: u64,
    },
    /// Events follow each other without end and no time passes.
    #[error("the scenario is stuck at {at}: events follow each other without end and no time passes")]
    Stuck {
        /// When.
        at: Time,
    },
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Cancelled,
}

/// A handle on runs in progress, shared between threads.
#[derive(Debug, Default)]
pub struct Handle {
    /// Set to stop all runs.
    pub cancelled: AtomicBool,
    /// Simulated nanoseconds finished, over all runs.
    pub done_ns: AtomicU64,
    /// Simulated nanoseconds to do, over all runs.
    pub total_ns: AtomicU64,
    /// Root requests simulated, over all runs.
    pub requests: AtomicU64,
}

/// Runs `model` until the queue is empty, `horizon` is passed, or the model has finished. Returns the time of the last
/// event handled.
pub fn run<M: Model>(
    model: &mut M,
    queue: &mut Queue,
    journal: &mut Journal,
    horizon: Time,
    max_events: u64,
    handle: &Handle,
) -> Result<Time, Stop> {
    let mut now = Time::ZERO;
    let mut reported = Time::ZERO;
    let mut requests = 0;
    let mut idle_checks = 0;
    loop {
        let mut over = false;
        for _ in 0..CHECK_EVERY {
            let Some((time, payload)) = queue.pop().filter(|(time, _)| *time <= horizon) else {
                over = true;
                break;
            };
            assert!(time >= now, "INV-1: time never goes back");
            now = time;
            journal.record(time, payload);
            if let Some(upcoming) = queue.upcoming() {
                model.prepare(upcoming);
            }
            if model.handle(time, payload, queue).is_break() {
                model.outcome()?;
                over = true;
                break;
            }
        }
        idle_checks = if now == reported { idle_checks + 1 } else { 0 };
        if idle_checks > MAX_IDLE_CHECKS {
            return Err(Stop::Stuck { at: now });
        }
        handle.done_ns.fetch_add((now - reported).0, Ordering::Relaxed);
        handle.requests.fetch_add(model.requests() - requests, Ordering::Relaxed);
        reported = now;
        requests = model.requests();
        if over {
            return Ok(now);
        }
        if handle.cancelled.load(Ordering::Relaxed) {
            return Err(Stop::Cancelled);
        }
        if let Some(stop) = model.excess(queue.len()) {
            return Err(stop);
        }
        // Timers in rings take numbers in the order of events too, and the numbers end.
        if journal.events() > max_events || queue.scheduled() > MAX_EVENTS - (1 << 32) {
            return Err(Stop::Limit { name: "events", what: "events in one replication", limit: max_events });
        }
    }
}

/// Events between two looks at the handle: rare enough to cost nothing, often enough to stop within milliseconds.
const CHECK_EVERY: u32 = 4096;

/// So many checks without progress in time (40 million events in one nanosecond) mean that there will never be any.
const MAX_IDLE_CHECKS: u32 = 10_000;
