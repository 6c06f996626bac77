//! Picks one endpoint after the other, each client for itself.
//!
//! ## What it does
//! Every client counts its own picks and takes the endpoint at (count mod n) of its list.
//!
//! ## When it helps
//! Equal instances and requests of similar cost: every instance gets exactly the same number, so short bursts spread as
//! evenly as they can. The default of nginx, Envoy and of Kubernetes' ingress controllers.
//!
//! ## How it fails
//! It counts requests, not work: a slow instance gets as many as a fast one and its queue grows without bound. Clients
//! count separately, so many clients of few requests each add up to `random` rather than to an even spread; and clients
//! that start at the same position hit the same instance at the same moment.
//!
//! ## Settings
//! None: `balancer.round-robin = {}`.
//!
//! ## Origin
//! Envoy, `round_robin_lb.h`, `RoundRobinLoadBalancer::unweightedHostPick` (a counter taken modulo the number of hosts; the
//! counter survives a change of the list).
//!
//! ## Deliberate differences
//! * The counter starts at 0; Envoy starts each worker at a random position.
//! * Weights are ignored; Envoy changes over to its EDF schedule when they differ. Take `smooth-weighted-round-robin` or
//!   `least-request` for that.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Balancer, Needs};
use crate::policies::Algorithm;
use crate::policies::view::{Endpoints, RequestHead, Slot};
use crate::random::Rng;
use crate::time::Time;

/// `balancer.round-robin` takes no settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RoundRobinSettings {}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct RoundRobin {
    /// Picks so far.
    count: u64,
    /// `count` modulo the length of the list, kept so that a pick needs no division.
    position: u32,
}

impl Algorithm for RoundRobin {
    type Settings = RoundRobinSettings;

    fn new(_settings: &RoundRobinSettings, _now: Time) -> Self {
        Self { count: 0, position: 0 }
    }
}

impl Balancer for RoundRobin {
    fn on_update(&mut self, _now: Time, endpoints: &Endpoints) {
        let n = endpoints.eligible.len() as u64;
        self.position = self.count.checked_rem(n).unwrap_or(0) as u32;
    }

    #[inline]
    fn pick(
        &mut self,
        _now: Time,
        _request: &RequestHead,
        endpoints: &Endpoints,
        _rng: &mut Rng,
    ) -> Option<Slot> {
        let slot = *endpoints.eligible.get(self.position as usize)?;
        self.count += 1;
        self.position += 1;
        if self.position as usize == endpoints.eligible.len() {
            self.position = 0;
        }
        Some(slot)
    }

    fn needs(&self) -> Needs {
        Needs::NOTHING
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    #[test]
    fn the_counter_survives_a_change_of_the_list() {
        let mut policy = RoundRobin::new(&RoundRobinSettings {}, Time::ZERO);
        let mut picks = |endpoints: &Endpoints, n: usize| -> Vec<u32> {
            policy.on_update(Time::ZERO, endpoints);
            let mut rng = Key::new(1).rng();
            (0..n)
                .map(|_| policy.pick(Time::ZERO, &RequestHead::default(), endpoints, &mut rng).unwrap().0)
                .collect()
        };
        assert_eq!(picks(&Endpoints::uniform(3), 4), [0, 1, 2, 0]);
        // Four picks so far, and 4 mod 5 = 4.
        assert_eq!(picks(&Endpoints::uniform(5), 3), [4, 0, 1]);
        assert_eq!(picks(&Endpoints::uniform(2), 2), [1, 0]);
    }
}
