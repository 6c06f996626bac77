//! nginx's `least_conn`: the peer with the fewest outstanding requests for its weight; ties take turns.
//!
//! ## What it does
//! Among the usable peers the one with the smallest outstanding / weight is found (compared by cross-multiplication, so
//! without rounding). If several are tied, those take turns by the rule of `smooth-weighted-round-robin`, scanned from
//! the first of them. Failures rest a peer as there.
//!
//! ## When it helps
//! Requests of different cost, instances of different speed: what is slow keeps its requests longer and gets fewer.
//! With one proxy before all instances the counts are the truth, and it is join-the-shortest-queue.
//!
//! ## How it fails
//! With many clients each sees its own few requests only. An instance that fails fast looks idle and attracts traffic
//! (`max-fails` is the only protection). A new instance has no requests and gets all of them until it has caught up. A
//! pick costs time proportional to the number of endpoints.
//!
//! ## Settings
//! * `max-conns` (default 0 = no limit): a peer with so many outstanding requests of this client is passed over.
//! * `max-fails` (default 1; 0 = never count): failures after which a peer rests.
//! * `fail-timeout` (default `10s`; cut to whole seconds): how long it rests.
//!
//! ## Origin
//! nginx at 3f6f7824, `src/http/modules/ngx_http_upstream_least_conn_module.c`,
//! `ngx_http_upstream_get_least_conn_peer`.
//!
//! ## Deliberate differences
//! * `pick` answers `None` while every eligible peer rests or is full, as upstream answers 502; this is upstream's
//!   exception to the contract of balancers. The same settings hold for all peers of an edge (nginx sets them per
//!   server).
//! * What counts as a failure, and what is left out (tried peers, backups), is as in `smooth-weighted-round-robin`.

use super::Balancer;
use super::nginx_peers::{Peers, ServerSettings};
use crate::policies::Algorithm;
use crate::policies::view::{Endpoints, Outcome, RequestHead, Slot};
use crate::random::Rng;
use crate::time::Time;

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct LeastConn(Box<Peers>);

impl LeastConn {
    /// Gives one peer its own settings, as a `server` line of nginx does. Its history starts over.
    pub fn set_server(&mut self, slot: Slot, settings: &ServerSettings) {
        self.0.set_server(slot, settings);
    }
}

impl Algorithm for LeastConn {
    type Settings = ServerSettings;

    fn new(settings: &ServerSettings, _now: Time) -> Self {
        Self(Box::new(Peers::new(settings)))
    }
}

impl Balancer for LeastConn {
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
        // Outstanding requests of a, times the weight of b: the fractions of both over a common denominator.
        let cross = |peers: &[super::nginx_peers::Peer], a: Slot, b: Slot| {
            i64::from(endpoints.active(a)) * peers[b.0 as usize].weight
        };
        let mut best: Option<(usize, Slot)> = None;
        let mut many = false;
        for (i, &slot) in endpoints.eligible.iter().enumerate() {
            if !peers[slot.0 as usize].is_usable(now, endpoints.active(slot)) {
                continue;
            }
            let Some((_, known)) = best else {
                best = Some((i, slot));
                continue;
            };
            let (mine, its) = (cross(peers, slot, known), cross(peers, known, slot));
            if mine < its {
                best = Some((i, slot));
                many = false;
            } else if mine == its {
                many = true;
            }
        }
        let (first, mut best) = best?;
        let mut total = 0;
        if many {
            for &slot in &endpoints.eligible[first..] {
                if !peers[slot.0 as usize].is_usable(now, endpoints.active(slot))
                    || cross(peers, slot, best) != cross(peers, best, slot)
                {
                    continue;
                }
                total += peers[slot.0 as usize].advance();
                if peers[slot.0 as usize].current_weight > peers[best.0 as usize].current_weight {
                    best = slot;
                }
            }
        }
        peers[best.0 as usize].pay(now, total);
        Some(best)
    }

    fn on_outcome(&mut self, now: Time, slot: Slot, outcome: &Outcome) {
        self.0.on_outcome(now, slot, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    #[test]
    fn a_bigger_peer_may_hold_more_and_ties_take_turns() {
        let mut endpoints = Endpoints::uniform(3);
        endpoints.weight = vec![4, 1, 1];
        let mut policy = LeastConn::new(&ServerSettings::default(), Time::ZERO);
        policy.on_update(Time::ZERO, &endpoints);
        let mut picks = Vec::new();
        for _ in 0..12 {
            let mut rng = Key::new(1).rng();
            let slot = policy.pick(Time::ZERO, &RequestHead::default(), &endpoints, &mut rng).unwrap();
            endpoints.active[slot.0 as usize] += 1;
            picks.push(slot.0);
        }
        // Nothing ever ends: the counts grow in proportion to the weights, whatever the order.
        assert_eq!(endpoints.active, [8, 2, 2], "{picks:?}");
    }
}
