//! Balancers: which endpoint gets the attempt.

use super::view::{Endpoints, Outcome, RequestHead, Slot};
use crate::random::Rng;
use crate::time::Time;

/// Picks an endpoint among those its client knows.
///
/// The caller keeps the counts in [`Endpoints::active`]; the algorithm reads them.
pub trait Balancer {
    /// The client's list or its weights changed; rebuild tables here, never in `pick`.
    fn on_update(&mut self, _now: Time, _endpoints: &Endpoints) {}

    /// An eligible slot, or `None` if and only if there is none.
    fn pick(&mut self, now: Time, request: &RequestHead, endpoints: &Endpoints, rng: &mut Rng) -> Option<Slot>;

    /// An attempt sent to `slot` ended.
    fn on_outcome(&mut self, _now: Time, _slot: Slot, _outcome: &Outcome) {}
}

/// Placeholder until the registry stands.
#[derive(Clone, Debug, PartialEq)]
pub enum BalancerSettings {}
