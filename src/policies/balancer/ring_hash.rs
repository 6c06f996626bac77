//! Envoy's ring hash: requests with the same key go to the same endpoint, by a ring of hashes.
//!
//! ## What it does
//! Each endpoint stands on a ring of 64-bit numbers as often as its weight says: at the xxHash64 of `name_0`, `name_1`
//! and so on. A request goes to the first endpoint at or after the hash of its key. The number of places is such that
//! the lightest endpoint gets a whole number of them and the ring has at least `minimum-ring-size` places, at most
//! `maximum-ring-size`. A request without a key goes to a random place.
//!
//! ## When it helps
//! Sessions or caches that live in the instance. An endpoint that comes or goes moves only the keys that it gets or had
//! (about 1/n of them), each to another random endpoint.
//!
//! ## How it fails
//! It does not look at load. The shares are as uneven as the arcs: with k places an endpoint's share has a coefficient
//! of variation of about 1 / sqrt(k), so 1024 places for 100 endpoints leave about 30 %. A popular key is one
//! instance's alone, whatever it costs. The range of a dead instance is spread over the others, and comes back cold
//! when it returns.
//!
//! ## Settings
//! * `minimum-ring-size` (default 1024, 1 to 8388608): least number of places.
//! * `maximum-ring-size` (default 8388608, 1 to 8388608): most places; not below the minimum.
//! * `retry-other-host` (default false): retries look one place further for each attempt; see below.
//!
//! The edge says which attribute of the request is hashed: `affinity = "session"`.
//!
//! ## Origin
//! Envoy, `source/extensions/load_balancing_policies/ring_hash/ring_hash_lb.cc` at 0d2acde2 (`Ring::Ring`,
//! `Ring::chooseHost`; the search is that of libketama), and `ThreadAwareLoadBalancerBase` for what happens without a
//! hash.
//!
//! ## Deliberate differences
//! * An endpoint's key is `service-number` (Envoy: its address), so a replaced instance is a new one, as a pod with a
//!   new address.
//! * With a retry host predicate Envoy asks again, up to `host_selection_retry_max_attempts` times, with a growing
//!   count of attempts, until it finds a host not tried before. With `retry-other-host` the n-th retry asks once with
//!   n, which may fall on the same host again.
//! * No `MurmurHash2`, no bounded loads. Each client builds its own ring (Envoy's workers share one): many clients with
//!   big rings take memory, 16 bytes a place.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Balancer, Needs};
use crate::policies::Algorithm;
use crate::policies::view::{Endpoints, RequestHead, Slot};
use crate::random::Rng;
use crate::random::xxhash::xxhash64;
use crate::time::Time;

/// Settings of `balancer.ring-hash`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
pub struct RingHashSettings(Written);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    /// Least number of places on the ring.
    #[schemars(range(min = 1, max = 8_388_608))]
    minimum_ring_size: u64,
    /// Most places.
    #[schemars(range(min = 1, max = 8_388_608))]
    maximum_ring_size: u64,
    /// Retries look further along the ring.
    retry_other_host: bool,
}

/// Envoy's bound on both sizes.
const LARGEST: u64 = 8_388_608;

impl Default for Written {
    fn default() -> Self {
        Self { minimum_ring_size: 1024, maximum_ring_size: LARGEST, retry_other_host: false }
    }
}

impl TryFrom<Written> for RingHashSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { minimum_ring_size: min, maximum_ring_size: max, .. } = written;
        for (name, size) in [("minimum-ring-size", min), ("maximum-ring-size", max)] {
            if !(1..=LARGEST).contains(&size) {
                return Err(format!("{name} is {size}, but Envoy takes 1 to {LARGEST}"));
            }
        }
        if min > max {
            return Err(format!("ring hash: minimum-ring-size ({min}) > maximum-ring-size ({max})"));
        }
        Ok(Self(written))
    }
}

/// Envoy's ring.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    /// (hash, host), ascending.
    places: Vec<(u64, u32)>,
    /// The first place at or after the beginning of each sector; all sectors are alike, and there are about as many as places.
    sectors: Vec<u32>,
    /// Bits of a hash that say where it is within its sector.
    within: u32,
}

impl Ring {
    /// Of hosts with keys and weights, in the order of the list: it decides who gets the fractions of places.
    pub fn new(hosts: &[(String, u32)], minimum_ring_size: u64, maximum_ring_size: u64) -> Self {
        let sum: u64 = hosts.iter().map(|&(_, weight)| u64::from(weight)).sum();
        let Some(lightest) = hosts.iter().map(|&(_, weight)| weight).min() else { return Self::default() };
        let normalized = |weight: u32| f64::from(weight) / sum as f64;
        let min_normalized_weight = normalized(lightest);
        let scale = ((min_normalized_weight * minimum_ring_size as f64).ceil() / min_normalized_weight)
            .min(maximum_ring_size as f64);
        let mut places = Vec::with_capacity(scale.ceil() as usize);
        // Fractions of places are carried on from host to host.
        let (mut current_hashes, mut target_hashes) = (0.0, 0.0);
        let mut key = Vec::new();
        for (host, (name, weight)) in (0..).zip(hosts) {
            key.clear();
            key.extend_from_slice(name.as_bytes());
            key.push(b'_');
            let stem = key.len();
            target_hashes += scale * normalized(*weight);
            let mut i = 0_u64;
            while current_hashes < target_hashes {
                key.truncate(stem);
                key.extend_from_slice(i.to_string().as_bytes());
                places.push((xxhash64(&key, 0), host));
                i += 1;
                current_hashes += 1.0;
            }
        }
        places.sort_by_key(|&(hash, _)| hash);
        // At least two sectors, so that `within` is less than all bits.
        let bits = places.len().max(2).next_power_of_two().trailing_zeros();
        let within = u64::BITS - bits;
        let mut at = 0;
        let sectors = (0..1_u64 << bits).map(|sector| {
            while places.get(at).is_some_and(|&(hash, _)| hash < sector << within) {
                at += 1;
            }
            at as u32
        });
        Self { sectors: sectors.collect(), within, places }
    }

    /// Places, ascending: (hash, position in the list of hosts).
    pub fn places(&self) -> &[(u64, u32)] {
        &self.places
    }

    /// Position of the host for hash `h`; `attempt` looks so many places further.
    #[inline]
    pub fn choose_host(&self, h: u64, attempt: u32) -> Option<u32> {
        let n = self.places.len();
        if n == 0 {
            return None;
        }
        // The first place at or after `h`, the first of all beyond the last. libketama's search wants h above the hash before,
        // taken as 0 before the first place, so it never finds a place for 0 and falls back to the first: the same one.
        // Equal hashes are at the mercy of the order of sorting in any case.
        // Hashes lie evenly, so the place is a step or two from where its sector begins.
        let mut at = self.sectors[(h >> self.within) as usize] as usize;
        while at < n && self.places[at].0 < h {
            at += 1;
        }
        if at == n {
            at = 0;
        }
        if attempt > 0 {
            at = (at + attempt as usize) % n;
        }
        Some(self.places[at].1)
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct RingHash(Box<State>);

#[derive(Clone, Debug)]
struct State {
    settings: Written,
    ring: Ring,
}

impl Algorithm for RingHash {
    type Settings = RingHashSettings;

    fn new(settings: &RingHashSettings, _now: Time) -> Self {
        Self(Box::new(State { settings: settings.0, ring: Ring::default() }))
    }
}

impl Balancer for RingHash {
    fn on_update(&mut self, _now: Time, endpoints: &Endpoints) {
        let hosts = hosts(endpoints);
        let Written { minimum_ring_size, maximum_ring_size, .. } = self.0.settings;
        self.0.ring = Ring::new(&hosts, minimum_ring_size, maximum_ring_size);
    }

    #[inline]
    fn pick(
        &mut self,
        _now: Time,
        request: &RequestHead,
        endpoints: &Endpoints,
        rng: &mut Rng,
    ) -> Option<Slot> {
        let State { settings, ring } = &*self.0;
        let hash = request.affinity.unwrap_or_else(|| rng.bits());
        let attempt = if settings.retry_other_host { request.attempt } else { 0 };
        let host = ring.choose_host(hash, attempt)?;
        Some(endpoints.eligible[host as usize])
    }

    fn needs(&self) -> Needs {
        Needs::NOTHING
    }
}

/// Names and weights of the eligible endpoints.
pub(super) fn hosts(endpoints: &Endpoints) -> Vec<(String, u32)> {
    endpoints.eligible.iter().map(|&slot| (endpoints.name(slot), endpoints.weight(slot))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    fn ring_of(n: u32, size: u64) -> Ring {
        let hosts: Vec<_> = (0..n).map(|host| (format!("api-{host}"), 1)).collect();
        Ring::new(&hosts, size, LARGEST)
    }

    /// Share of the hashes that each host gets.
    fn shares(ring: &Ring, n: usize) -> Vec<f64> {
        let places = ring.places();
        let mut shares = vec![0.0; n];
        for (at, &(hash, host)) in places.iter().enumerate() {
            let before = places[(at + places.len() - 1) % places.len()].0;
            shares[host as usize] += hash.wrapping_sub(before) as f64 / 2f64.powi(64);
        }
        shares
    }

    #[test]
    fn sectors_find_what_a_search_finds() {
        for (n, size) in [(1, 1), (1, 2), (2, 2), (3, 5), (7, 64), (100, 1024)] {
            let ring = ring_of(n, size);
            let places = ring.places();
            let ends =
                places.iter().flat_map(|&(hash, _)| [hash.wrapping_sub(1), hash, hash.wrapping_add(1)]);
            let drawn = (0..10_000).map(|number| Key(5).with(number).0);
            for h in ends.chain(drawn).chain([0, 1, u64::MAX]) {
                let at = places.partition_point(|&(hash, _)| hash < h) % places.len();
                assert_eq!(ring.choose_host(h, 0), Some(places[at].1), "{n} hosts, {h}");
            }
        }
    }

    /// With k places for each of n hosts, all at random, the share of a host is Beta(k, k (n - 1)) distributed: the sum of k of
    /// the nk arcs into which nk uniform points cut a circle. The mean of its square over the hosts therefore tells whether
    /// the places are independent and uniform.
    #[test]
    fn shares_are_beta_distributed() {
        let (n, k) = (100, 11);
        let (hosts, places) = (f64::from(n), f64::from(k));
        let mut squares = Vec::new();
        for fleet in 0..60 {
            let names: Vec<_> = (0..n).map(|host| (format!("fleet-{fleet}-{host}"), 1)).collect();
            let ring = Ring::new(&names, 1024, LARGEST);
            assert_eq!(ring.places().len(), 1100);
            let shares = shares(&ring, n as usize);
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            squares.push(shares.iter().map(|share| (share * hosts - 1.0).powi(2)).sum::<f64>() / hosts);
        }
        // Variance of n x Beta(a, b) with a = k, b = k (n - 1).
        let expected = (hosts - 1.0) / (places * hosts + 1.0);
        let mean = squares.iter().sum::<f64>() / 60.0;
        let spread = squares.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 59.0;
        // Student's t with 59 degrees of freedom, two-sided 0.1 %: 3.46.
        let t = (mean - expected) / (spread / 60.0).sqrt();
        assert!(t.abs() < 3.46, "variance of shares {mean}, expected {expected}, t {t}");
    }

    /// Row Q165 of the table of reference values: with one place for each of n hosts, the largest share is H(n) / n on average.
    #[test]
    fn the_largest_of_twenty_arcs() {
        let largest: Vec<f64> = (0..4000)
            .map(|fleet| {
                let names: Vec<_> = (0..20).map(|host| (format!("fleet-{fleet}-{host}"), 1)).collect();
                let ring = Ring::new(&names, 20, LARGEST);
                assert_eq!(ring.places().len(), 20);
                shares(&ring, 20).into_iter().fold(0.0, f64::max)
            })
            .collect();
        let mean = largest.iter().sum::<f64>() / 4000.0;
        let spread = largest.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 3999.0;
        // Normal, two-sided 0.1 %: 3.29.
        let z = (mean - 0.179_886_982_857_184_1) / (spread / 4000.0).sqrt();
        assert!(z.abs() < 3.29, "{mean}, {z} standard errors off");
    }

    #[test]
    fn a_host_that_leaves_moves_only_its_own_keys() {
        let (all, fewer) = (ring_of(20, 2000), ring_of(19, 1900));
        assert_eq!((all.places().len(), fewer.places().len()), (2000, 1900));
        for i in 0..10_000 {
            let hash = Key::new(3).with(i).0;
            let before = all.choose_host(hash, 0).unwrap();
            if before != 19 {
                assert_eq!(fewer.choose_host(hash, 0), Some(before));
            }
        }
    }

    #[test]
    fn settings_are_checked() {
        let parse = serde_json::from_str::<RingHashSettings>;
        assert!(parse("{}").is_ok());
        let error = parse(r#"{"minimum-ring-size": 20, "maximum-ring-size": 10}"#).unwrap_err().to_string();
        assert!(error.contains("minimum-ring-size (20) > maximum-ring-size (10)"), "{error}");
        let error = parse(r#"{"minimum-ring-size": 0}"#).unwrap_err().to_string();
        assert!(error.contains("Envoy takes 1 to 8388608"), "{error}");
    }
}
