//! Balancers: which endpoint gets the attempt.

pub mod aperture;
mod edf;
pub mod finagle_peak_ewma;
pub mod join_shortest_queue;
pub mod least_conn;
pub mod least_rate;
pub mod least_request;
pub mod least_response_time;
pub mod maglev;
pub mod nginx_peers;
pub mod p2c;
pub mod peak_ewma;
pub mod prequal;
pub mod random;
pub mod ring_hash;
pub mod round_robin;
pub mod slow_start;
pub mod smooth_weighted_round_robin;
pub mod weighted_random;
pub mod weighted_round_robin;

use super::view::{Endpoints, Outcome, RequestHead, Slot};
use crate::random::Rng;
use crate::time::{Duration, Time};

/// What a balancer wants beyond the counts of its own client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// [`Endpoints::load`] before each pick.
    pub load: bool,
    /// Answers to probes.
    pub probes: bool,
    /// To hear how attempts end: all that do not say otherwise.
    pub outcomes: bool,
}

impl Default for Needs {
    fn default() -> Self {
        Self { load: false, probes: false, outcomes: true }
    }
}

impl Needs {
    /// Nothing at all: picks follow from list, weights and active requests.
    pub const NOTHING: Self = Self { load: false, probes: false, outcomes: false };
}

/// What an instance answers to a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Requests in flight there, waiting or started.
    pub rif: u32,
    /// Latency that a request would see there, by its own estimate.
    pub latency: Duration,
}

/// Picks an endpoint among those its client knows.
///
/// The caller keeps the counts in [`Endpoints::active`]; the algorithm reads them.
pub trait Balancer {
    /// The client's list or its weights changed, or it has just got its first list. Called before the first `pick` on
    /// the new list; tables are rebuilt here, never in `pick`.
    fn on_update(&mut self, _now: Time, _endpoints: &Endpoints) {}

    /// An eligible slot, or `None` if and only if there is none (or the algorithm's *Deliberate differences* say when
    /// its upstream answers with none although there are some).
    fn pick(
        &mut self,
        now: Time,
        request: &RequestHead,
        endpoints: &Endpoints,
        rng: &mut Rng,
    ) -> Option<Slot>;

    /// An attempt sent to `slot` ended. Called before the caller takes the attempt out of [`Endpoints::active`] or after
    /// it: no algorithm looks at the counts here.
    fn on_outcome(&mut self, _now: Time, _slot: Slot, _outcome: &Outcome) {}

    /// What the caller has to bring beside its own counts.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// An endpoint to probe now; asked after each pick until the answer is `None`. A probe travels and is answered like a
    /// small request, but needs no worker.
    fn next_probe(&mut self, _now: Time, _endpoints: &Endpoints, _rng: &mut Rng) -> Option<Slot> {
        None
    }

    /// The answer to a probe of `slot` has arrived.
    fn on_probe(&mut self, _now: Time, _slot: Slot, _reading: Reading) {}
}

registry! {
    ($)
    /// A balancer and its settings, as written in a scenario.
    BalancerSettings,
    /// Any balancer, by value.
    AnyBalancer: Balancer,
    family "balancer" in "balancer",
    "random" => random::Random,
    "weighted-random" => weighted_random::WeightedRandom,
    "round-robin" => round_robin::RoundRobin,
    "smooth-weighted-round-robin" => smooth_weighted_round_robin::SmoothWeightedRoundRobin,
    "least-request" => least_request::LeastRequest,
    "p2c" => p2c::P2c,
    "weighted-round-robin" => weighted_round_robin::WeightedRoundRobin,
    "least-conn" => least_conn::LeastConn,
    "peak-ewma" => peak_ewma::PeakEwma,
    "finagle-peak-ewma" => finagle_peak_ewma::FinaglePeakEwma,
    "ring-hash" => ring_hash::RingHash,
    "maglev" => maglev::Maglev,
    "join-shortest-queue" => join_shortest_queue::JoinShortestQueue,
    "prequal" => prequal::Prequal,
    "least-rate" => least_rate::LeastRate,
    "least-response-time" => least_response_time::LeastResponseTime,
    "aperture" => aperture::Aperture,
}

// Every client of every edge holds one.
const _: () = assert!(size_of::<AnyBalancer>() <= 24);

impl Default for BalancerSettings {
    fn default() -> Self {
        Self::RoundRobin(round_robin::RoundRobinSettings::default())
    }
}

impl Balancer for AnyBalancer {
    #[inline]
    fn on_update(&mut self, now: Time, endpoints: &Endpoints) {
        dispatch!(self, policy => policy.on_update(now, endpoints));
    }

    #[inline(always)]
    fn pick(
        &mut self,
        now: Time,
        request: &RequestHead,
        endpoints: &Endpoints,
        rng: &mut Rng,
    ) -> Option<Slot> {
        dispatch!(self, policy => policy.pick(now, request, endpoints, rng))
    }

    #[inline]
    fn on_outcome(&mut self, now: Time, slot: Slot, outcome: &Outcome) {
        dispatch!(self, policy => policy.on_outcome(now, slot, outcome));
    }

    #[inline]
    fn needs(&self) -> Needs {
        dispatch!(self, policy => policy.needs())
    }

    #[inline]
    fn next_probe(&mut self, now: Time, endpoints: &Endpoints, rng: &mut Rng) -> Option<Slot> {
        dispatch!(self, policy => policy.next_probe(now, endpoints, rng))
    }

    #[inline]
    fn on_probe(&mut self, now: Time, slot: Slot, reading: Reading) {
        dispatch!(self, policy => policy.on_probe(now, slot, reading));
    }
}
