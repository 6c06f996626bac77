//! Picks at random in proportion to configured weights.
//!
//! ## What it does
//! An endpoint of weight w is picked with probability w / (sum of the weights of all eligible endpoints), whatever was
//! picked before. One random number is drawn below the integer sum and looked up among the cumulative weights.
//!
//! ## When it helps
//! Instances of different size, a canary that should get 5 %, gradual moves of traffic between pools.
//!
//! ## How it fails
//! Like `random`: it knows nothing of the load, so short bursts pile up by chance, and a weight that no longer fits the
//! instance overloads it for as long as the weight stays. Over few requests the shares are visibly off; where exact
//! shares matter over tens of requests, take `smooth-weighted-round-robin`.
//!
//! ## Settings
//! None: `balancer.weighted-random = {}`; the weights belong to the endpoints.
//!
//! ## Origin
//! The textbook rule (inversion over cumulative weights), as in most client libraries. The draw below an arbitrary bound
//! is Lemire's: *Fast Random Integer Generation in an Interval*, ACM TOMACS 29(1), 2019, algorithm 5.
//!
//! ## Deliberate differences
//! Weights are integers and the draw is exactly uniform below their sum: no floating point and no modulo bias. A draw is
//! repeated with probability (sum of weights) / 2^64 at most, which is never in practice.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Balancer, Needs};
use crate::policies::Algorithm;
use crate::policies::view::{Endpoints, RequestHead, Slot};
use crate::random::Rng;
use crate::time::Time;

/// `balancer.weighted-random` takes no settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WeightedRandomSettings {}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct WeightedRandom {
    /// Sum of the weights up to and including each eligible endpoint, in the order of the list.
    cumulative: Vec<u64>,
}

impl Algorithm for WeightedRandom {
    type Settings = WeightedRandomSettings;

    fn new(_settings: &WeightedRandomSettings, _now: Time) -> Self {
        Self { cumulative: Vec::new() }
    }
}

impl Balancer for WeightedRandom {
    fn on_update(&mut self, _now: Time, endpoints: &Endpoints) {
        let mut sum = 0;
        self.cumulative.clear();
        self.cumulative.extend(endpoints.eligible.iter().map(|&slot| {
            sum += u64::from(endpoints.weight(slot));
            sum
        }));
    }

    #[inline]
    fn pick(
        &mut self,
        _now: Time,
        _request: &RequestHead,
        endpoints: &Endpoints,
        rng: &mut Rng,
    ) -> Option<Slot> {
        debug_assert_eq!(self.cumulative.len(), endpoints.eligible.len(), "on_update comes before pick");
        let total = *self.cumulative.last()?;
        let draw = below_exactly(rng, total);
        Some(endpoints.eligible[self.cumulative.partition_point(|&sum| sum <= draw)])
    }

    fn needs(&self) -> Needs {
        Needs::NOTHING
    }
}

/// Uniform in `0..n` without any bias. `n` must not be 0.
#[inline]
fn below_exactly(rng: &mut Rng, n: u64) -> u64 {
    let mut product = u128::from(rng.bits()) * u128::from(n);
    if (product as u64) < n {
        // 2^64 mod n values of the low half are one too many; they are drawn again.
        let surplus = n.wrapping_neg() % n;
        while (product as u64) < surplus {
            product = u128::from(rng.bits()) * u128::from(n);
        }
    }
    (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Key, Playback};

    #[test]
    fn shares_follow_the_weights() {
        let mut endpoints = Endpoints::uniform(4);
        endpoints.weight = vec![1, 2, 7, 90];
        endpoints.eligible = vec![Slot(0), Slot(1), Slot(3)];
        let mut policy = WeightedRandom::new(&WeightedRandomSettings {}, Time::ZERO);
        policy.on_update(Time::ZERO, &endpoints);
        let mut rng = Key::new(7).rng();
        let mut hits = [0_u32; 4];
        for _ in 0..93_000 {
            let slot = policy.pick(Time::ZERO, &RequestHead::default(), &endpoints, &mut rng).unwrap();
            hits[slot.0 as usize] += 1;
        }
        assert_eq!(hits[2], 0);
        // Three standard deviations of a binomial.
        for (slot, expected) in [(0, 1000.0_f64), (1, 2000.0), (3, 90_000.0)] {
            assert!((f64::from(hits[slot]) - expected).abs() < 3.0 * expected.sqrt(), "{hits:?}");
        }
    }

    #[test]
    fn draws_again_what_would_be_one_too_many() {
        // Below 3, 2^64 mod 3 = 1 low half is surplus: the one of the draw 0.
        let integers = [0, 0, u64::MAX].into();
        let mut rng = Rng::playback(Playback { integers, ..Playback::default() });
        assert_eq!(below_exactly(&mut rng, 3), 2);
    }
}
