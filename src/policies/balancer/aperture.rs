//! Finagle's aperture: each client uses only a part of the endpoints, and of two at random in it the one with fewer
//! requests.
//!
//! ## What it does
//! `deterministic`: clients and endpoints are laid around the same circle, each side evenly. A client's aperture begins
//! where it stands and is a whole number of client widths long, the least that covers `min-aperture` endpoints; so all
//! clients together cover every endpoint equally often. Two different endpoints are drawn in proportion to how much of
//! them lies inside; the one with fewer outstanding requests of this client, over that part, is taken. `random`: the
//! client shuffles the endpoints, takes the first `min-aperture`, and picks among them as `p2c`.
//!
//! ## When it helps
//! Many clients and many endpoints: connections fall from clients x endpoints to clients x aperture, and each client
//! has enough requests at each endpoint for its counts to mean something.
//!
//! ## How it fails
//! Shares are fixed by place, so clients with different traffic load the endpoints unevenly; with `random` they are
//! uneven even for equal clients (binomial). If a whole aperture is bad, its clients have nobody else. When endpoints
//! come or go nearly every aperture moves a little.
//!
//! ## Settings
//! * `kind` (default `deterministic`): `deterministic` or `random`.
//! * `min-aperture` (default 12, at least 2): endpoints that a client wants at least.
//!
//! ## Origin
//! Twitter Finagle, `finagle-core/.../loadbalancer/aperture/`: `Ring.scala` at 06406cf9 (`index`, `weight`, `pick`,
//! `tryPickSecond`), `DeterministicAperture.scala` at 04d3998c (`dApertureWidth`), `WeightedP2CPick.scala` at 04d3998c,
//! `ProcessCoordinate.scala` at 166f75b9 and `RandomAperture.scala` at 073a22bf.
//!
//! ## Deliberate differences
//! * The random aperture has a fixed size; Finagle can let it follow the load (`LoadBand`). The load is the number of
//!   requests outstanding (`ApertureLeastLoaded`), not a peak EWMA. No statuses, as in `p2c`.
//! * A client's coordinate is its number among the clients of its source, or among all instances that its service was
//!   given so far; Finagle is told by the platform, and `peerOffset` is 0. Without coordinates Finagle falls back to
//!   `random`.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{Balancer, Needs, p2c};
use crate::policies::Algorithm;
use crate::policies::view::{Endpoints, RequestHead, Slot};
use crate::random::{Key, Rng};
use crate::time::Time;

/// Settings of `balancer.aperture`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ApertureSettings {
    /// How the part is chosen.
    pub kind: ApertureKind,
    /// Endpoints that a client wants at least.
    #[serde(deserialize_with = "min_aperture")]
    #[schemars(range(min = 2))]
    pub min_aperture: u32,
}

/// How the part of the endpoints is chosen that a client uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ApertureKind {
    /// By place on a circle that all clients share.
    #[default]
    Deterministic,
    /// By a shuffle of its own.
    Random,
}

impl Default for ApertureSettings {
    fn default() -> Self {
        Self { kind: ApertureKind::Deterministic, min_aperture: 12 }
    }
}

fn min_aperture<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let min = u32::deserialize(deserializer)?;
    if min < 2 {
        return Err(de::Error::custom(format!("min-aperture is {min}, but Finagle wants more than 1")));
    }
    Ok(min)
}

/// Finagle's tolerance in comparing places.
const EPSILON: f64 = 1e-6;

/// Finagle's ring: so many endpoints on a circle of length 1, seen by a client from `offset` over `width`.
#[derive(Clone, Copy, Debug, Default)]
struct Ring {
    size: u32,
    /// Width of an endpoint.
    unit: f64,
    offset: f64,
    width: f64,
}

impl Ring {
    fn new(size: u32, client: u32, clients: u32, logical_aperture: u32) -> Self {
        let (size, clients) = (size.max(1), clients.max(1));
        let unit_width = 1.0 / f64::from(clients);
        let unit_aperture = f64::from(logical_aperture.min(size)) / f64::from(size);
        let n = (unit_aperture / unit_width).ceil();
        let offset = (f64::from(client) * unit_width) % 1.0;
        Self { size, unit: 1.0 / f64::from(size), offset, width: (n * unit_width).min(1.0) }
    }

    fn index(self, offset: f64) -> u32 {
        // Never negative, so cutting off is rounding down.
        (offset * f64::from(self.size)) as u32 % self.size
    }

    /// Where endpoint `a` begins and ends, in turns of the circle from the client's own.
    fn span(self, a: u32) -> (f64, f64) {
        let unit_width = self.unit;
        let begin = f64::from(a) * unit_width;
        let begin = if begin + 1.0 < self.offset + self.width { begin + 1.0 } else { begin };
        (begin, begin + unit_width)
    }

    fn overlap(self, a: u32) -> f64 {
        let (begin, end) = self.span(a);
        (end.min(self.offset + self.width) - begin.max(self.offset)).max(0.0)
    }

    fn weight(self, a: u32) -> f64 {
        self.overlap(a) * f64::from(self.size)
    }

    fn pick(self, rng: &mut Rng) -> u32 {
        self.index(turn(self.offset + rng.unit() * self.width))
    }

    /// A second endpoint, if the aperture has one.
    fn try_pick_second(self, a: u32, rng: &mut Rng) -> u32 {
        let overlap = self.overlap(a);
        let rest = self.width - overlap;
        if rest <= EPSILON {
            return a;
        }
        // Places beyond the first endpoint are shifted past it.
        let (_, end) = self.span(a);
        let place = self.offset + rng.unit() * rest;
        let place = if place >= end - overlap { place + overlap } else { place };
        self.index(turn(place))
    }
}

/// The rest of `place` after whole turns of the circle. It is less than two of them, up to rounding, and below that a
/// subtraction is as exact as the remainder and much cheaper.
fn turn(place: f64) -> f64 {
    match place {
        place if place < 1.0 => place,
        place if place < 2.0 => place - 1.0,
        place => place % 1.0,
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Aperture(Box<State>);

#[derive(Clone, Debug)]
struct State {
    settings: ApertureSettings,
    ring: Ring,
    /// What the shuffle depends on, from the first pick on.
    seed: Option<u64>,
    /// Endpoints in the order of the client's shuffle.
    shuffled: Vec<Slot>,
}

impl Algorithm for Aperture {
    type Settings = ApertureSettings;

    fn new(settings: &ApertureSettings, _now: Time) -> Self {
        Self(Box::new(State { settings: *settings, ring: Ring::default(), seed: None, shuffled: Vec::new() }))
    }
}

impl State {
    fn shuffle(&mut self) {
        let seed = Key(self.seed.unwrap_or(0));
        self.shuffled.sort_unstable_by_key(|slot| seed.with(u64::from(slot.0)).0);
    }
}

impl Balancer for Aperture {
    fn on_update(&mut self, _now: Time, endpoints: &Endpoints) {
        let state = &mut *self.0;
        let size = endpoints.eligible.len() as u32;
        state.ring = Ring::new(size, endpoints.client, endpoints.clients, state.settings.min_aperture);
        state.shuffled.clone_from(&endpoints.eligible);
        state.shuffle();
    }

    fn pick(
        &mut self,
        _now: Time,
        _request: &RequestHead,
        endpoints: &Endpoints,
        rng: &mut Rng,
    ) -> Option<Slot> {
        let state = &mut *self.0;
        if endpoints.eligible.is_empty() {
            return None;
        }
        if state.settings.kind == ApertureKind::Random {
            if state.seed.is_none() {
                state.seed = Some(rng.bits());
                state.shuffle();
            }
            let bound = state.settings.min_aperture.min(state.shuffled.len() as u32);
            let load = |i: u32| endpoints.active(state.shuffled[i as usize]);
            let picked = p2c::pick(bound, rng, |_| p2c::Status::Open, load);
            return Some(state.shuffled[picked as usize]);
        }
        let circle = state.ring;
        let a = circle.pick(rng);
        let b = circle.try_pick_second(a, rng);
        let load = |i: u32| f64::from(endpoints.active(endpoints.eligible[i as usize]));
        let weight = |i: u32| match circle.weight(i) {
            0.0 => 1.0,
            weight => weight,
        };
        let (aw, bw) = (weight(a), weight(b));
        let a_wins = if (aw - bw).abs() < 0.0001 { load(a) <= load(b) } else { load(a) / aw <= load(b) / bw };
        Some(endpoints.eligible[if a_wins { a } else { b } as usize])
    }

    fn needs(&self) -> Needs {
        Needs::NOTHING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 10 clients and 45 endpoints with an aperture of 12, each client covers 0.3 of the circle (3 widths of a tenth; 12 / 45 is
    /// 0.27), so 13.5 endpoints, and together they cover each of the 45 exactly three times.
    #[test]
    fn all_endpoints_are_covered_alike() {
        let mut covered = [0.0_f64; 45];
        for client in 0..10 {
            let ring = Ring::new(45, client, 10, 12);
            assert!((ring.width - 0.3).abs() < 1e-9);
            for (a, covered) in (0..).zip(&mut covered) {
                *covered += ring.weight(a);
            }
        }
        assert!(covered.iter().all(|&times| (times - 3.0).abs() < 1e-6), "{covered:?}");
    }

    #[test]
    fn picks_stay_inside_and_are_even_over_all_clients() {
        for kind in [ApertureKind::Deterministic, ApertureKind::Random] {
            let mut hits = [0_i32; 45];
            for client in 0..10 {
                let settings = ApertureSettings { kind, min_aperture: 12 };
                let mut policy = Aperture::new(&settings, Time::ZERO);
                let endpoints = Endpoints { client, clients: 10, ..Endpoints::uniform(45) };
                policy.on_update(Time::ZERO, &endpoints);
                let mut rng = Key::new(7).with(u64::from(client)).rng();
                let mut mine = [0; 45];
                for _ in 0..9000 {
                    let slot =
                        policy.pick(Time::ZERO, &RequestHead::default(), &endpoints, &mut rng).unwrap();
                    mine[slot.0 as usize] += 1;
                }
                let used = mine.iter().filter(|&&count| count > 0).count();
                assert!(if kind == ApertureKind::Random { used == 12 } else { used <= 15 }, "{used}");
                hits.iter_mut().zip(mine).for_each(|(all, mine)| *all += mine);
            }
            if kind == ApertureKind::Deterministic {
                // 90 000 picks over 45. Idle all, the first drawn wins; its probability goes by the part inside.
                assert!(hits.iter().all(|&hits| (hits - 2000).abs() < 200), "{hits:?}");
            }
        }
    }
}
