//! nginx's weighted round robin: exact shares, spread out as evenly as possible, with passive failure counting.
//!
//! ## What it does
//! At every pick each usable peer's *current weight* grows by its *effective weight*; the peer with the largest current
//! weight is picked (the first of equals) and pays back the sum of all effective weights. Weights 5, 1, 1 give
//! `a a b a c a a` and not `a a a a a b c`. A failure lowers the peer's effective weight by weight / `max-fails`; it climbs
//! back by one per pick. A peer with `max-fails` failures rests until `fail-timeout` whole seconds have passed since its
//! last failure, and is then given one chance: a success clears its count.
//!
//! ## When it helps
//! Instances of different size whose shares should hold over a handful of requests already, and simple protection from
//! instances that fail outright without any health checker.
//!
//! ## How it fails
//! It counts requests, not work, as every round robin. With the default `max-fails = 1` a single error takes a peer
//! out for ten seconds, so an error that hits all peers empties the list and every request is refused, although most would
//! have succeeded. A pick costs time proportional to the number of endpoints.
//!
//! ## Settings
//! * `max-conns` (default 0 = no limit): a peer with so many outstanding requests of this client is passed over.
//! * `max-fails` (default 1; 0 = never count): failures after which a peer rests.
//! * `fail-timeout` (default `10s`; cut to whole seconds): how long it rests.
//!
//! ## Origin
//! nginx at 3f6f7824, `src/http/ngx_http_upstream_round_robin.c`, `ngx_http_upstream_get_peer`,
//! `ngx_http_upstream_get_round_robin_peer` (the case of a single peer, which is never disabled) and
//! `ngx_http_upstream_free_round_robin_peer`.
//!
//! ## Deliberate differences
//! * `pick` answers `None` while every eligible peer rests or is full, as upstream answers 502; this is upstream's exception
//!   to the contract of balancers. The same settings hold for all peers of an edge (nginx sets them per server).
//! * A failure is an outcome of class failure or timeout. nginx counts connection errors and timeouts, and HTTP errors only
//!   where `proxy_next_upstream` lists them; a rejection (503) is therefore no failure here.
//! * No memory of which peers one request has tried already: retries are separate calls with their own pick. No backup
//!   servers, sticky sessions or `slow_start` (commercial). A peer whose weight changes starts over with its new weight.

use super::Balancer;
use super::nginx_peers::{Peers, ServerSettings};
use crate::policies::Algorithm;
use crate::policies::view::{Endpoints, Outcome, RequestHead, Slot};
use crate::random::Rng;
use crate::time::Time;

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct SmoothWeightedRoundRobin(Box<Peers>);

impl SmoothWeightedRoundRobin {
    /// Gives one peer its own settings, as a `server` line of nginx does. Its history starts over.
    pub fn set_server(&mut self, slot: Slot, settings: &ServerSettings) {
        self.0.set_server(slot, settings);
    }
}

impl Algorithm for SmoothWeightedRoundRobin {
    type Settings = ServerSettings;

    fn new(settings: &ServerSettings, _now: Time) -> Self {
        Self(Box::new(Peers::new(settings)))
    }
}

impl Balancer for SmoothWeightedRoundRobin {
    fn on_update(&mut self, _now: Time, endpoints: &Endpoints) {
        self.0.on_update(endpoints);
    }

    #[inline(never)]
    fn pick(
        &mut self,
        now: Time,
        _request: &RequestHead,
        endpoints: &Endpoints,
        _rng: &mut Rng,
    ) -> Option<Slot> {
        if self.0.single {
            return self.0.pick_single(endpoints);
        }
        let (now, peers) = (now.as_secs(), &mut self.0.by_slot);
        let mut total = 0;
        let mut best: Option<(Slot, i64)> = None;
        for &slot in &endpoints.eligible {
            let peer = &mut peers[slot.0 as usize];
            if !peer.is_usable(now, endpoints.active(slot)) {
                continue;
            }
            total += peer.advance();
            if best.is_none_or(|(_, best)| peer.current_weight > best) {
                best = Some((slot, peer.current_weight));
            }
        }
        let (slot, _) = best?;
        peers[slot.0 as usize].pay(now, total);
        Some(slot)
    }

    fn on_outcome(&mut self, now: Time, slot: Slot, outcome: &Outcome) {
        self.0.on_outcome(now, slot, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::view::Class;
    use crate::random::Key;
    use crate::time::Duration;

    #[test]
    fn a_single_peer_is_never_disabled() {
        let endpoints = Endpoints::uniform(1);
        let mut policy = SmoothWeightedRoundRobin::new(&ServerSettings::default(), Time::ZERO);
        policy.on_update(Time::ZERO, &endpoints);
        for _ in 0..5 {
            let slot =
                policy.pick(Time::ZERO, &RequestHead::default(), &endpoints, &mut Key::new(1).rng()).unwrap();
            policy.on_outcome(Time::ZERO, slot, &Outcome::new(Class::Failure, Duration::ZERO));
        }
    }

    #[test]
    fn a_failing_peer_rests_and_gets_one_chance() {
        let endpoints = Endpoints::uniform(2);
        let mut policy = SmoothWeightedRoundRobin::new(&ServerSettings::default(), Time::ZERO);
        policy.on_update(Time::ZERO, &endpoints);
        let pick = |policy: &mut SmoothWeightedRoundRobin, at: u64| {
            policy.pick(Time::from_secs(at), &RequestHead::default(), &endpoints, &mut Key::new(1).rng())
        };
        assert_eq!(pick(&mut policy, 1), Some(Slot(0)));
        policy.on_outcome(Time::from_secs(1), Slot(0), &Outcome::new(Class::Timeout, Duration::ZERO));
        for at in 1..=11 {
            assert_eq!(pick(&mut policy, at), Some(Slot(1)), "at {at} s");
        }
        let picks: Vec<_> = (0..4).map(|_| pick(&mut policy, 12)).collect();
        assert_eq!(picks.iter().filter(|&&slot| slot == Some(Slot(0))).count(), 1, "{picks:?}");
    }
}
