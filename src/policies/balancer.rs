//! Balancers: which endpoint gets the attempt.

pub mod least_request;
pub mod p2c;
pub mod random;
pub mod round_robin;
pub mod smooth_weighted_round_robin;
pub mod weighted_random;

use super::view::{Endpoints, Outcome, RequestHead, Slot};
use crate::random::Rng;
use crate::time::Time;

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
}
