//! Balancing on response time: the endpoint with the lowest (average response time) x (outstanding requests + 1).
//!
//! ## What it does
//! For each endpoint this client keeps a moving average of the response times of all its endings, in which an
//! observation counts for exp(-age / `window`). The endpoint with the smallest average x (outstanding + 1) / weight is
//! taken, the first of equals. One that never answered has an average of 0 and comes first, for one request at a time:
//! among such the fewer outstanding decide.
//!
//! ## When it helps
//! Few clients with much traffic each, instances of different speed. It sees slowness that counts alone show late.
//!
//! ## How it fails
//! All clients look at all instances, so all chase the same best one: it swings where `peak-ewma` (two at random) does
//! not. The average changes only with answers: an instance that was slow once gets no requests, so nobody learns that
//! it has recovered (`peak-ewma` decays). An instance that fails fast attracts traffic.
//!
//! ## Settings
//! * `window` (default `10s`): time constant of the average.
//!
//! ## Origin
//! The load metric of the seed system S0 (response time). The product of time and outstanding requests is the *least
//! response time method* of `NetScaler`, and nginx Plus describes its `least_time` alike (both from their
//! documentation; the sources are closed).
//!
//! ## Deliberate differences
//! No open upstream: the definition stands above.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Balancer;
use super::peak_ewma::decay;
use crate::policies::Algorithm;
use crate::policies::view::{Endpoints, Outcome, RequestHead, Slot};
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `balancer.least-response-time`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LeastResponseTimeSettings {
    /// Time constant of the average.
    #[serde(deserialize_with = "decay")]
    pub window: Duration,
}

impl Default for LeastResponseTimeSettings {
    fn default() -> Self {
        Self { window: Duration::from_secs(10) }
    }
}

/// A decaying average.
#[derive(Clone, Copy, Debug, Default)]
struct Average {
    at: Time,
    weight: f64,
    /// Weighted sum, ns.
    sum: f64,
}

impl Average {
    fn add(&mut self, now: Time, latency: Duration, window: f64) {
        let kept = libm::exp(-(now.since(self.at).0 as f64) / window);
        self.at = now;
        self.weight = self.weight * kept + 1.0;
        self.sum = self.sum * kept + latency.0 as f64;
    }

    fn value(&self) -> f64 {
        if self.weight > 0.0 { self.sum / self.weight } else { 0.0 }
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct LeastResponseTime(Box<State>);

#[derive(Clone, Debug)]
struct State {
    /// ns
    window: f64,
    /// By slot.
    averages: Vec<Average>,
}

impl Algorithm for LeastResponseTime {
    type Settings = LeastResponseTimeSettings;

    fn new(settings: &LeastResponseTimeSettings, _now: Time) -> Self {
        Self(Box::new(State { window: settings.window.0 as f64, averages: Vec::new() }))
    }
}

impl Balancer for LeastResponseTime {
    fn on_update(&mut self, _now: Time, endpoints: &Endpoints) {
        let slots = self.0.averages.len().max(endpoints.weight.len());
        self.0.averages.resize(slots, Average::default());
    }

    fn pick(
        &mut self,
        _now: Time,
        _request: &RequestHead,
        endpoints: &Endpoints,
        _rng: &mut Rng,
    ) -> Option<Slot> {
        let mut best: Option<(f64, f64, Slot)> = None;
        for &slot in &endpoints.eligible {
            let next = (f64::from(endpoints.active(slot)) + 1.0) / f64::from(endpoints.weight(slot));
            let cost = self.0.averages[slot.0 as usize].value() * next;
            if best.is_none_or(|(least, fewest, _)| (cost, next) < (least, fewest)) {
                best = Some((cost, next, slot));
            }
        }
        best.map(|(.., slot)| slot)
    }

    fn on_outcome(&mut self, now: Time, slot: Slot, outcome: &Outcome) {
        if !outcome.is_unwanted() {
            self.0.averages[slot.0 as usize].add(now, outcome.latency, self.0.window);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::view::Class;
    use crate::random::Key;

    #[test]
    fn time_times_outstanding() {
        let mut endpoints = Endpoints::uniform(3);
        let mut policy = LeastResponseTime::new(&LeastResponseTimeSettings::default(), Time::ZERO);
        policy.on_update(Time::ZERO, &endpoints);
        let answer = |policy: &mut LeastResponseTime, slot, ms| {
            policy.on_outcome(
                Time::ZERO,
                Slot(slot),
                &Outcome::new(Class::Success, Duration::from_millis(ms)),
            );
        };
        answer(&mut policy, 0, 10);
        answer(&mut policy, 1, 25);
        let pick = |policy: &mut LeastResponseTime, endpoints: &Endpoints| {
            policy.pick(Time::ZERO, &RequestHead::default(), endpoints, &mut Key::new(1).rng()).unwrap().0
        };
        assert_eq!(pick(&mut policy, &endpoints), 2, "the unknown first");
        answer(&mut policy, 2, 40);
        // 10 x 2 against 25 x 1, then 10 x 3.
        endpoints.active = vec![1, 0, 0];
        assert_eq!(pick(&mut policy, &endpoints), 0);
        endpoints.active = vec![2, 0, 0];
        assert_eq!(pick(&mut policy, &endpoints), 1);
    }
}
