//! Join the shortest queue: the endpoint with the fewest requests inside, of all clients. Nobody can know that; it is
//! the yardstick.
//!
//! ## What it does
//! At each pick it sees how many requests are at each instance at that very moment, waiting or started, whoever sent
//! them, and takes the instance with the fewest; among equals one at random (each with the same probability). Requests
//! on their way there are not seen.
//!
//! ## When it helps
//! As an upper bound: for equal instances and exponential service times no policy that knows only numbers of requests
//! has a lower mean (Winston 1977). What a real policy loses against it is the price of not knowing.
//!
//! ## How it fails
//! It cannot be built: the truth is known to the simulator only. With network delays even the truth is outdated on
//! arrival, and clients that look at the same moment herd. It counts requests, not work, and does not see that an
//! instance is slow before its queue grows; an instance that fails fast is always empty.
//!
//! ## Settings
//! None: `balancer.join-shortest-queue = {}`.
//!
//! ## Origin
//! Haight, *Two Queues in Parallel*, Biometrika 45 (1958); Winston, *Optimality of the Shortest Line Discipline*,
//! Journal of Applied Probability 14 (1977). Ties at random are the usual rule (and that of the reference values it is
//! held against).
//!
//! ## Deliberate differences
//! None. Weights are ignored.

use schemars::JsonSchema;
use serde::Deserialize;

use super::least_request::pick_full_scan;
use super::{Balancer, Needs};
use crate::policies::Algorithm;
use crate::policies::view::{Endpoints, RequestHead, Slot};
use crate::random::Rng;
use crate::time::Time;

/// `balancer.join-shortest-queue` takes no settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct JoinShortestQueueSettings {}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct JoinShortestQueue;

impl Algorithm for JoinShortestQueue {
    type Settings = JoinShortestQueueSettings;

    fn new(_settings: &JoinShortestQueueSettings, _now: Time) -> Self {
        Self
    }
}

impl Balancer for JoinShortestQueue {
    fn needs(&self) -> Needs {
        Needs { load: true, ..Needs::NOTHING }
    }

    fn pick(
        &mut self,
        _now: Time,
        _request: &RequestHead,
        endpoints: &Endpoints,
        rng: &mut Rng,
    ) -> Option<Slot> {
        let eligible = endpoints.eligible.as_slice();
        match eligible.len() {
            0 => None,
            n => Some(eligible[pick_full_scan(n, |i| endpoints.load(eligible[i]), rng)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    #[test]
    fn takes_the_shortest_and_tosses_among_equals() {
        let endpoints = Endpoints { load: vec![3, 1, 7, 1, 1], ..Endpoints::uniform(5) };
        let mut rng = Key::new(1).rng();
        let mut hits = [0_i32; 5];
        for _ in 0..30_000 {
            let request = RequestHead::default();
            let slot = JoinShortestQueue.pick(Time::ZERO, &request, &endpoints, &mut rng).unwrap();
            hits[slot.0 as usize] += 1;
        }
        // Four standard deviations of a binomial around 10 000.
        assert!([1, 3, 4].iter().all(|&slot: &usize| (hits[slot] - 10_000).abs() < 327), "{hits:?}");
        assert_eq!(hits[0] + hits[2], 0);
    }
}
