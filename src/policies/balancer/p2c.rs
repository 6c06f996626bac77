//! Power of two choices: of two endpoints picked at random, the one with fewer requests outstanding.
//!
//! ## What it does
//! Draws two different eligible endpoints uniformly and takes the one with fewer outstanding requests *of this client*;
//! the first drawn wins a tie. With a single endpoint there is nothing to draw.
//!
//! ## When it helps
//! Nearly always as a default. Two choices bring the fullest of n queues from about ln n / ln ln n down to about ln ln n
//! (Mitzenmacher, *The Power of Two Choices in Randomized Load Balancing*, IEEE TPDS 12(10), 2001), a slow instance gets less by itself,
//! and no client ever chases the single least loaded instance, so clients with stale views do not herd.
//!
//! ## How it fails
//! A client sees only its own outstanding requests: with many clients that have at most one request in flight, all
//! counts are 0 and the rule degenerates to `random`. An instance that fails fast looks idle and attracts traffic.
//!
//! ## Settings
//! None: `balancer.p2c = {}`. (`least-request` has the variant with a configurable number of choices.)
//!
//! ## Origin
//! Twitter Finagle at 4feb34cb, `finagle-core/.../loadbalancer/p2c/P2CPick.scala`, `pick` (two distinct nodes, the better
//! status first, then the load with `<=` in favour of the first); tower's `balance::p2c` draws the same way.
//!
//! ## Deliberate differences
//! * Finagle draws among all nodes and lets the status decide; here the client's list holds only nodes that it takes for
//!   open, so the status never decides in a run (it does in the replayed cases, which call the same function).
//! * Both numbers come from the halves of one 64-bit draw (bias below n / 2^32).

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Balancer, Needs};
use crate::policies::Algorithm;
use crate::policies::view::{Endpoints, RequestHead, Slot};
use crate::random::Rng;
use crate::time::Time;

/// `balancer.p2c` takes no settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct P2cSettings {}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct P2c;

/// How usable a node looks to its client, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Gone for good.
    Closed,
    /// Not taking requests at the moment.
    Busy,
    /// Takes requests.
    Open,
}

impl Algorithm for P2c {
    type Settings = P2cSettings;

    fn new(_settings: &P2cSettings, _now: Time) -> Self {
        Self
    }
}

impl Balancer for P2c {
    #[inline]
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
            n => {
                let load = |i: u32| endpoints.active(eligible[i as usize]);
                Some(eligible[pick(n as u32, rng, |_| Status::Open, load) as usize])
            }
        }
    }

    fn needs(&self) -> Needs {
        Needs::NOTHING
    }
}

/// The better of two distinct nodes out of `0..n`, drawn from `rng`. `n` must not be 0.
#[inline]
pub fn pick<L: PartialOrd>(
    n: u32,
    rng: &mut Rng,
    status: impl Fn(u32) -> Status,
    mut load: impl FnMut(u32) -> L,
) -> u32 {
    if n == 1 {
        return 0;
    }
    let (a, b) = rng.pair(n, n - 1);
    let b = b + u32::from(b >= a);
    let (a_status, b_status) = (status(a), status(b));
    let a_wins = if a_status == b_status { load(a) <= load(b) } else { a_status > b_status };
    // Which one wins is close to a coin toss: a branch would be mispredicted half of the time.
    std::hint::select_unpredictable(a_wins, a, b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    #[test]
    fn draws_all_ordered_pairs_alike() {
        let mut rng = Key::new(3).rng();
        let mut pairs = [[0_i32; 5]; 5];
        for _ in 0..200_000 {
            let seen = std::cell::Cell::new(None);
            // `load` is asked for the first node first; the higher number wins, so both are known afterwards.
            let won = pick(
                5,
                &mut rng,
                |_| Status::Open,
                |i| {
                    if seen.get().is_none() {
                        seen.set(Some(i));
                    }
                    5 - i
                },
            );
            let first = seen.get().unwrap();
            pairs[first as usize][won as usize] += 1;
        }
        // The first node is uniform.
        for row in pairs {
            assert!((row.iter().sum::<i32>() - 40_000).abs() < 600, "{pairs:?}");
        }
        // The largest of two distinct ones out of five is 4 in 2/5 of the cases, 0 never.
        assert!((pairs.iter().map(|row| row[4]).sum::<i32>() - 80_000).abs() < 700);
        assert_eq!(pairs.iter().map(|row| row[0]).sum::<i32>(), 0);
    }
}
