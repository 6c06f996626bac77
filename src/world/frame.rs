//! Frames: one attempt at one instance, or one request at its client.
//!
//! A frame is freed when nothing refers to it any more: its caller has its answer (or stopped waiting), it has left its
//! instance, it has no event of its own pending, and every call it made has come back.

use crate::policies::view::Permit;
use crate::time::Time;

use super::consistency::Promise;

/// "None" for links between slots.
pub(super) const NIL: u32 = u32::MAX;

/// What every attempt carries, the only thing the common case touches. 56 bytes and not a whole cache line: with a million
/// in flight the memory matters more than the twentieth that alignment buys.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frame {
    /// When its caller sent it. Together with `ring` it tells live timers from stale ones.
    pub(super) started: Time,
    /// When it reached its instance.
    pub(super) arrived: Time,
    /// Key of all draws of this call: request number and call path, without attempts.
    pub(super) key: u64,
    /// Link in the queue, for a core, or for a connection to something slow. While it waits for a connection to an instance:
    /// the place in its caller's pool. For a request at its client: its source.
    pub(super) next: u32,
    /// Frame that made the call; `NIL` if it came straight from a source.
    pub(super) parent: u32,
    /// Where it runs; `NIL` for a request at its client.
    pub(super) instance: u32,
    /// Calling side that sent it. For a request at its client: the first outbound of that client.
    pub(super) outbound: u32,
    /// Next operation.
    pub(super) pc: u16,
    /// Operation of the parent that waits for it; another one there means that the answer comes too late.
    pub(super) parent_pc: u16,
    /// Calls that have not come back.
    pub(super) pending: u16,
    /// Successes its present operation still needs.
    pub(super) need: u16,
    /// Failures its present operation can still bear.
    pub(super) slack: u16,
    /// See the constants.
    pub(super) flags: u16,
    /// Ring of the timeout that its caller set, or of its deadline.
    pub(super) ring: u8,
    /// Position in `Spec::priorities`.
    pub(super) priority: u8,
    /// Where the caller sits.
    pub(super) zone: u16,
}

const _: () = assert!(size_of::<Frame>() == 56);

/// What only some attempts need; kept beside the frames when the scenario has retries, breakers, limiters, connections,
/// rollouts, closed loops or cancellation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    /// Call record, if the edge is stateful; [`LET_GO`](super::call::LET_GO) once that has let go of it.
    pub(super) call: u32,
    /// Request record.
    pub(super) request: u32,
    /// Hash of the attempt numbers on the path; 0 while all are first attempts.
    pub(super) tag: u32,
    /// First of the attempts this frame waits for (only kept for cancellation).
    pub(super) child: u32,
    /// Next attempt of the same parent.
    pub(super) sibling: u32,
    /// Attempts that it found inside, where probes ask for that.
    pub(super) found: u32,
    /// Ticket of the callee's limiter.
    pub(super) permit: Permit,
    /// Connection it rides on, [`WAITING`] while it waits for one.
    pub(super) connection: u32,
    /// Core time of this attempt and of the useful attempts below it, ns.
    pub(super) cpu: u64,
    /// Its answer is of lower quality.
    pub(super) degraded: bool,
    /// What it does at its instance for a message or a transaction.
    pub(super) task: Task,
    /// What it has promised its request, while an update watches.
    pub(super) promise: Promise,
    /// When everybody above that has told it so stops waiting.
    pub(super) deadline: Time,
}

/// What an attempt does for a message or a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Task {
    /// Nothing, or nothing any more.
    #[default]
    None,
    /// It works, and what it does counts.
    Works,
    /// It waits for a row that somebody else has locked.
    WaitsForRow,
}

/// In place of a connection: an update holds the attempt.
pub(super) const GATED: u32 = NIL - 1;
/// In place of a connection: the attempt waits for one.
pub(super) const WAITING: u32 = NIL - 2;
/// In place of a call record (beside `call::LET_GO`): the frame is a round trip of the set-up of a connection.
pub(super) const WIRE: u32 = NIL - 2;

impl Side {
    /// Nothing.
    pub(super) const EMPTY: Self = Self {
        call: NIL,
        request: NIL,
        tag: 0,
        child: NIL,
        sibling: NIL,
        found: 0,
        permit: Permit { generation: 0, slot: 0, start: Time::ZERO },
        connection: NIL,
        cpu: 0,
        degraded: false,
        task: Task::None,
        promise: Promise { ahead: 0, serving: 0, called: 0, returning: 0 },
        deadline: Time::MAX,
    };
}

/// Its caller still waits for it.
pub(super) const AWAITED: u16 = 1;
/// An event of its own stands in the queue.
pub(super) const EVENT: u16 = 1 << 1;
/// It is at an instance (queued or started).
pub(super) const INSIDE: u16 = 1 << 2;
/// It holds a worker.
pub(super) const STARTED: u16 = 1 << 3;
/// It stands in the instance's queue.
pub(super) const QUEUED: u16 = 1 << 4;
/// It runs on (or waits for) a core.
pub(super) const ON_CPU: u16 = 1 << 5;
/// It has ended: answered, failed, cancelled or died.
pub(super) const ENDED: u16 = 1 << 6;
/// A patience event stands in the queue.
pub(super) const PATIENCE: u16 = 1 << 7;
/// It is still linked in some list, which will skip and release it.
pub(super) const LINKED: u16 = 1 << 8;
/// It holds a permit of the callee's limiter.
pub(super) const PERMIT: u16 = 1 << 9;
/// Its step has to go on for longer, because its instance hung meanwhile.
pub(super) const OWED: u16 = 1 << 10;
/// The event of a step that it did not live to see still stands in the queue, beside the one that [`EVENT`] tells of.
pub(super) const LEFTOVER: u16 = 1 << 11;
/// Where the class of its answer is kept while the answer travels (3 bits).
pub(super) const CLASS_SHIFT: u16 = 12;
/// It has not been sent yet and has no instance: it waits at the activator of the service it is for, or for a connection.
pub(super) const HELD: u16 = 1 << 15;

impl Frame {
    /// Whether all of `flags` are set.
    #[inline]
    pub(super) const fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }

    /// Whether it is an attempt, not a request at its client.
    #[inline]
    pub(super) const fn is_attempt(&self) -> bool {
        self.instance != NIL || self.has(HELD)
    }

    /// Whether nothing refers to the frame any more.
    #[inline]
    pub(super) const fn is_loose(&self) -> bool {
        self.flags & (AWAITED | EVENT | INSIDE | PATIENCE | LINKED | LEFTOVER) == 0
            && self.pending == 0
            && self.flags & ENDED != 0
    }
}
