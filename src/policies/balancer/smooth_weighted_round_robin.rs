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

use schemars::JsonSchema;
use serde::Deserialize;

use super::Balancer;
use crate::policies::Algorithm;
use crate::policies::view::{Class, Endpoints, Outcome, RequestHead, Slot};
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `balancer.smooth-weighted-round-robin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SmoothWeightedRoundRobinSettings {
    /// Outstanding requests of this client at which a peer is passed over; 0 = no limit.
    pub max_conns: u32,
    /// Failures after which a peer rests; 0 = failures do not matter.
    pub max_fails: u32,
    /// How long it rests, in whole seconds.
    pub fail_timeout: Duration,
}

impl Default for SmoothWeightedRoundRobinSettings {
    fn default() -> Self {
        Self { max_conns: 0, max_fails: 1, fail_timeout: Duration::from_secs(10) }
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct SmoothWeightedRoundRobin(Box<State>);

#[derive(Clone, Debug)]
struct State {
    settings: SmoothWeightedRoundRobinSettings,
    /// By slot.
    peers: Vec<Peer>,
    /// Whether the list has one peer only.
    single: bool,
}

/// nginx's `ngx_http_upstream_rr_peer_t`, without its connections (the caller counts those).
#[derive(Clone, Copy, Debug)]
struct Peer {
    current_weight: i64,
    effective_weight: i64,
    weight: i64,
    max_conns: u32,
    fails: u32,
    max_fails: u32,
    /// Whole seconds, as all times below.
    fail_timeout: u64,
    accessed: u64,
    checked: u64,
}

impl Peer {
    fn new(settings: &SmoothWeightedRoundRobinSettings, weight: u32) -> Self {
        Self {
            current_weight: 0,
            effective_weight: i64::from(weight),
            weight: i64::from(weight),
            max_conns: settings.max_conns,
            fails: 0,
            max_fails: settings.max_fails,
            fail_timeout: settings.fail_timeout.0 / 1_000_000_000,
            accessed: 0,
            checked: 0,
        }
    }
}

impl SmoothWeightedRoundRobin {
    /// Gives one peer its own settings, as a `server` line of nginx does. Its history starts over.
    pub fn set_server(&mut self, slot: Slot, settings: &SmoothWeightedRoundRobinSettings) {
        let peer = &mut self.0.peers[slot.0 as usize];
        *peer = Peer::new(settings, peer.weight as u32);
    }
}

impl Algorithm for SmoothWeightedRoundRobin {
    type Settings = SmoothWeightedRoundRobinSettings;

    fn new(settings: &SmoothWeightedRoundRobinSettings, _now: Time) -> Self {
        Self(Box::new(State { settings: *settings, peers: Vec::new(), single: false }))
    }
}

impl Balancer for SmoothWeightedRoundRobin {
    fn on_update(&mut self, _now: Time, endpoints: &Endpoints) {
        let State { settings, peers, single } = &mut *self.0;
        for (peer, &weight) in peers.iter_mut().zip(&endpoints.weight) {
            if peer.weight != i64::from(weight) {
                *peer = Peer::new(settings, weight);
            }
        }
        let known = peers.len();
        peers.extend(endpoints.weight.iter().skip(known).map(|&weight| Peer::new(settings, weight)));
        *single = endpoints.eligible.len() == 1;
    }

    #[inline(never)]
    fn pick(
        &mut self,
        now: Time,
        _request: &RequestHead,
        endpoints: &Endpoints,
        _rng: &mut Rng,
    ) -> Option<Slot> {
        let now = now.as_secs();
        let State { peers, single, .. } = &mut *self.0;
        if *single {
            let slot = *endpoints.eligible.first()?;
            let peer = &peers[slot.0 as usize];
            let full = peer.max_conns > 0 && endpoints.active(slot) >= peer.max_conns;
            return (!full).then_some(slot);
        }
        let mut total = 0;
        let mut best: Option<(Slot, i64)> = None;
        for &slot in &endpoints.eligible {
            let peer = &mut peers[slot.0 as usize];
            if peer.max_fails > 0
                && peer.fails >= peer.max_fails
                && now.saturating_sub(peer.checked) <= peer.fail_timeout
            {
                continue;
            }
            if peer.max_conns > 0 && endpoints.active(slot) >= peer.max_conns {
                continue;
            }
            peer.current_weight += peer.effective_weight;
            total += peer.effective_weight;
            if peer.effective_weight < peer.weight {
                peer.effective_weight += 1;
            }
            if best.is_none_or(|(_, best)| peer.current_weight > best) {
                best = Some((slot, peer.current_weight));
            }
        }
        let (slot, _) = best?;
        let best = &mut peers[slot.0 as usize];
        best.current_weight -= total;
        if now.saturating_sub(best.checked) > best.fail_timeout {
            best.checked = now;
        }
        Some(slot)
    }

    fn on_outcome(&mut self, now: Time, slot: Slot, outcome: &Outcome) {
        if outcome.ignored {
            return;
        }
        let State { peers, single, .. } = &mut *self.0;
        let peer = &mut peers[slot.0 as usize];
        if *single {
            peer.fails = 0;
        } else if matches!(outcome.class, Class::Failure | Class::Timeout) {
            let now = now.as_secs();
            peer.fails = peer.fails.saturating_add(1);
            peer.accessed = now;
            peer.checked = now;
            if peer.max_fails > 0 {
                peer.effective_weight -= peer.weight / i64::from(peer.max_fails);
            }
            peer.effective_weight = peer.effective_weight.max(0);
        } else if peer.accessed < peer.checked {
            // The chance after the rest was taken well.
            peer.fails = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    #[test]
    fn a_single_peer_is_never_disabled() {
        let endpoints = Endpoints::uniform(1);
        let mut policy =
            SmoothWeightedRoundRobin::new(&SmoothWeightedRoundRobinSettings::default(), Time::ZERO);
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
        let mut policy =
            SmoothWeightedRoundRobin::new(&SmoothWeightedRoundRobinSettings::default(), Time::ZERO);
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
