//! What a policy may see and what it is told: borrowed views that a real proxy could fill as well as the simulator.

use std::sync::Arc;

use crate::time::{Duration, Time};

/// How one attempt ended, as its caller sees it. Every admitted attempt reports exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The class that availability, breakers and retries look at.
    pub class: Class,
    /// HTTP-like status where one exists (200, 500, 503 ...), else 0.
    pub code: u16,
    /// From send to answer, or to giving up.
    pub latency: Duration,
    /// Upstream's third ending: gives the permit back and teaches nothing.
    pub ignored: bool,
}

impl Outcome {
    /// An outcome with the usual code of its class.
    #[inline]
    pub const fn new(class: Class, latency: Duration) -> Self {
        Self { class, code: class.code(), latency, ignored: false }
    }

    /// True for everything except [`Class::Success`].
    #[inline]
    pub const fn is_error(&self) -> bool {
        !matches!(self.class, Class::Success)
    }

    /// True if nobody waited for it in the end, or if it shall teach nothing: upstream's third ending.
    #[inline]
    pub const fn is_unwanted(&self) -> bool {
        self.ignored || matches!(self.class, Class::Abandoned)
    }
}

/// The five endings of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The right answer came back.
    Success,
    /// An error came back, or the connection broke.
    Failure,
    /// The caller stopped waiting.
    Timeout,
    /// Refused by a limiter, a breaker or a full queue.
    Rejected,
    /// The caller no longer wants it (cancelled, lost a hedge).
    Abandoned,
}

impl Class {
    /// The status code that usually goes with the class.
    #[inline]
    pub const fn code(self) -> u16 {
        match self {
            Self::Success => 200,
            Self::Failure => 500,
            Self::Timeout => 504,
            Self::Rejected => 503,
            Self::Abandoned => 499,
        }
    }
}

/// Position of an endpoint in its service's list; stable for the life of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// The endpoints of one service as one client knows them, which is late and may be wrong.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    /// Slots that may be picked, in the order in which the client learnt of them (ascending slot numbers).
    pub eligible: Vec<Slot>,
    /// Configured weight by slot (at least 1 for a slot that was ever eligible).
    pub weight: Vec<u32>,
    /// Requests this client has outstanding, by slot.
    pub active: Vec<u32>,
    /// When this client learnt of each (last), by slot.
    pub since: Vec<Time>,
    /// Requests at each instance from whomever, waiting or started, by slot. No client of a real system knows this at the
    /// moment of a pick; it is filled in only for a balancer whose [`Needs`](super::balancer::Needs) say so, else empty.
    pub load: Vec<u32>,
    /// Name of the service; an endpoint is called `service-slot`.
    pub service: Arc<str>,
    /// Which client this is, from 0 ...
    pub client: u32,
    /// ... of how many.
    pub clients: u32,
}

impl Endpoints {
    /// A view of `n` equal endpoints, all eligible.
    pub fn uniform(n: u32) -> Self {
        let mut endpoints = Self { eligible: (0..n).map(Slot).collect(), clients: 1, ..Self::default() };
        endpoints.grow(n as usize);
        endpoints
    }

    /// Makes room for slots below `n`, of weight 1.
    pub fn grow(&mut self, n: usize) {
        self.weight.resize(n, 1);
        self.active.resize(n, 0);
        self.since.resize(n, Time::ZERO);
    }

    /// Requests this client has outstanding at `slot`.
    #[inline]
    pub fn active(&self, slot: Slot) -> u32 {
        self.active[slot.0 as usize]
    }

    /// Weight of `slot`.
    #[inline]
    pub fn weight(&self, slot: Slot) -> u32 {
        self.weight[slot.0 as usize]
    }

    /// Requests at `slot` from whomever, if anybody told.
    #[inline]
    pub fn load(&self, slot: Slot) -> u32 {
        self.load.get(slot.0 as usize).copied().unwrap_or(0)
    }

    /// Since when this client has known `slot`.
    #[inline]
    pub fn since(&self, slot: Slot) -> Time {
        self.since[slot.0 as usize]
    }

    /// Name of `slot`, as hashed by consistent hashing.
    pub fn name(&self, slot: Slot) -> String {
        format!("{}-{}", self.service, slot.0)
    }
}

/// What a balancer may know of the request at hand.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestHead {
    /// Hash of the attribute that keeps requests together (cookie, session, header), if the request has it.
    pub affinity: Option<u64>,
    /// 0 for the first try.
    pub attempt: u32,
}

/// The right to send one attempt, given by a breaker or a limiter and returned with exactly one [`Outcome`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permit {
    /// Generation of the policy's state when the permit was given.
    pub generation: u32,
    /// Bookkeeping of the policy (a bucket, a partition).
    pub slot: u32,
    /// When it was given.
    pub start: Time,
}

/// Answer of a breaker or a limiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// Go ahead.
    Now(Permit),
    /// Go ahead at the given instant, and not before.
    At(Time, Permit),
    /// Refused; if `until` is known, asking again then (and nothing else happening) succeeds.
    Reject {
        /// The exact instant from which the same question is answered with yes.
        until: Option<Time>,
    },
}

/// Amounts of what a node offers and an instance asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// CPU, in thousandths of a core; not negative.
    pub cpu_milli: i64,
    /// Memory, in bytes; not negative.
    pub memory: i64,
}

impl Resources {
    /// Nothing.
    pub const ZERO: Self = Self { cpu_milli: 0, memory: 0 };

    /// Whether both amounts are at most those of `other`.
    #[inline]
    pub const fn fits(self, other: Self) -> bool {
        self.cpu_milli <= other.cpu_milli && self.memory <= other.memory
    }
}

impl std::ops::Add for Resources {
    type Output = Self;
    #[inline]
    fn add(self, other: Self) -> Self {
        Self { cpu_milli: self.cpu_milli + other.cpu_milli, memory: self.memory + other.memory }
    }
}

impl std::ops::AddAssign for Resources {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::ops::Sub for Resources {
    type Output = Self;
    #[inline]
    fn sub(self, other: Self) -> Self {
        Self { cpu_milli: self.cpu_milli - other.cpu_milli, memory: self.memory - other.memory }
    }
}

impl std::ops::SubAssign for Resources {
    #[inline]
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}
