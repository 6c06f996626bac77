//! Peak EWMA as in tower and linkerd: of two endpoints at random, the one with the lower (latency average that jumps to
//! every peak) x (outstanding + 1).
//!
//! ## What it does
//! For each endpoint this client keeps an estimate of its round-trip time. A longer time replaces it at once; a shorter
//! one moves it by the exponentially weighted share of the time passed, exp(-elapsed / `decay`). Looking at it counts
//! as a time of 0, so an estimate that nobody refreshes decays towards 0. The cost of an endpoint is estimate x
//! (outstanding + 1); of two different endpoints drawn at random the cheaper one is taken.
//!
//! ## When it helps
//! Instances that become slow (noisy neighbours, garbage collection, cold caches): one slow answer is enough to shun an
//! instance, and the decay gives it another chance by itself. It works with few requests outstanding, where counts say
//! nothing.
//!
//! ## How it fails
//! An instance that fails fast has the lowest latency of all and attracts traffic (a breaker or outlier detection has
//! to take it out). Requests of very different cost look like slow instances. With few requests per client and endpoint
//! the estimate is mostly decay: each look lowers it, so whoever was not used for a while looks cheap.
//!
//! ## Settings
//! * `default-rtt` (default `30ms`): estimate of an endpoint never used.
//! * `decay` (default `10s`): time in which an estimate falls to 1/e.
//!
//! ## Origin
//! tower at 8358ee71, `tower/src/load/peak_ewma.rs` (`RttEstimate::update`, `PeakEwma::load`), over
//! `tower/src/balance/p2c`; defaults of linkerd2-proxy at 29637b64 (30 ms, 10 s).
//!
//! ## Deliberate differences
//! * Round trips are measured to the end of the answer, however it ended; tower stops at the end of its response future
//!   or of the body, as configured. Its requests outstanding are those of this client.
//! * tower draws with its own generator; both numbers come from the halves of one draw here, as in `p2c`.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{Balancer, p2c};
use crate::policies::Algorithm;
use crate::policies::view::{Endpoints, Outcome, RequestHead, Slot};
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `balancer.peak-ewma`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PeakEwmaSettings {
    /// Estimate of an endpoint never used.
    pub default_rtt: Duration,
    /// Time in which an estimate falls to 1/e.
    #[serde(deserialize_with = "decay")]
    pub decay: Duration,
}

impl Default for PeakEwmaSettings {
    fn default() -> Self {
        Self { default_rtt: Duration::from_millis(30), decay: Duration::from_secs(10) }
    }
}

/// tower asserts it: "`decay_ns` must be positive".
pub(super) fn decay<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let decay = Duration::deserialize(deserializer)?;
    if decay == Duration::ZERO {
        Err(de::Error::custom("the decay must be longer than 0"))
    } else {
        Ok(decay)
    }
}

/// tower's estimate of the round-trip time to one endpoint.
#[derive(Clone, Copy, Debug)]
pub struct RttEstimate {
    update_at: Time,
    rtt_ns: f64,
}

impl RttEstimate {
    /// Of an endpoint never used.
    pub const fn new(default_rtt: Duration, now: Time) -> Self {
        Self { update_at: now, rtt_ns: default_rtt.0 as f64 }
    }

    /// A round trip of `rtt` ended.
    #[inline]
    pub fn update(&mut self, now: Time, rtt: Duration, decay_ns: f64) -> f64 {
        let rtt = rtt.0 as f64;
        if self.rtt_ns < rtt {
            self.rtt_ns = rtt;
        } else {
            let elapsed = now.since(self.update_at).0 as f64;
            let decay = libm::exp(-elapsed / decay_ns);
            let recency = 1.0 - decay;
            self.rtt_ns = self.rtt_ns * decay + rtt * recency;
        }
        self.update_at = now;
        self.rtt_ns
    }

    /// The load with `pending` outstanding, ns. Looking lets the estimate decay.
    #[inline]
    pub fn load(&mut self, now: Time, pending: u32, decay_ns: f64) -> f64 {
        self.update(now, Duration::ZERO, decay_ns) * (f64::from(pending) + 1.0)
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct PeakEwma(Box<State>);

#[derive(Clone, Debug)]
struct State {
    default_rtt: Duration,
    decay_ns: f64,
    /// By slot.
    estimates: Vec<RttEstimate>,
}

impl Algorithm for PeakEwma {
    type Settings = PeakEwmaSettings;

    fn new(settings: &PeakEwmaSettings, _now: Time) -> Self {
        let PeakEwmaSettings { default_rtt, decay } = *settings;
        Self(Box::new(State { default_rtt, decay_ns: decay.0 as f64, estimates: Vec::new() }))
    }
}

impl Balancer for PeakEwma {
    fn on_update(&mut self, _now: Time, endpoints: &Endpoints) {
        let State { default_rtt, estimates, .. } = &mut *self.0;
        let known = estimates.len();
        let new = endpoints.since.iter().skip(known);
        estimates.extend(new.map(|&since| RttEstimate::new(*default_rtt, since)));
    }

    #[inline]
    fn pick(
        &mut self,
        now: Time,
        _request: &RequestHead,
        endpoints: &Endpoints,
        rng: &mut Rng,
    ) -> Option<Slot> {
        let eligible = endpoints.eligible.as_slice();
        let State { decay_ns, estimates, .. } = &mut *self.0;
        let load = |i: u32| {
            let slot = eligible[i as usize];
            estimates[slot.0 as usize].load(now, endpoints.active(slot), *decay_ns)
        };
        match eligible.len() {
            0 => None,
            n => Some(eligible[p2c::pick(n as u32, rng, |_| p2c::Status::Open, load) as usize]),
        }
    }

    fn on_outcome(&mut self, now: Time, slot: Slot, outcome: &Outcome) {
        let State { decay_ns, estimates, .. } = &mut *self.0;
        estimates[slot.0 as usize].update(now, outcome.latency, *decay_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::view::Class;
    use crate::random::Key;

    #[test]
    fn one_slow_answer_is_enough_and_time_forgives() {
        let endpoints = Endpoints::uniform(2);
        let mut policy = PeakEwma::new(&PeakEwmaSettings::default(), Time::ZERO);
        policy.on_update(Time::ZERO, &endpoints);
        let slow = Outcome::new(Class::Success, Duration::from_secs(1));
        policy.on_outcome(Time::from_secs(1), Slot(0), &slow);
        let mut picked = |at: u64| {
            let mut rng = Key::new(at).rng();
            policy.pick(Time::from_secs(at), &RequestHead::default(), &endpoints, &mut rng).unwrap()
        };
        // 1 s against 30 ms; both decay alike, so it stays that way until the other one is as slow.
        assert!((1..40).all(|at| picked(at) == Slot(1)));
        let slower = Outcome::new(Class::Success, Duration::from_millis(100));
        policy.on_outcome(Time::from_secs(40), Slot(1), &slower);
        // 1 s x exp(-3.9) is 20 ms.
        let mut rng = Key::new(1).rng();
        let at = Time::from_secs(40);
        assert_eq!(policy.pick(at, &RequestHead::default(), &endpoints, &mut rng), Some(Slot(0)));
    }
}
