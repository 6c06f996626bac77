//! Balancing on QPS or TPS: the endpoint that has lately been sent (or has completed) the fewest requests per second.
//!
//! ## What it does
//! This client keeps two rates for each endpoint, divided by its weight: requests sent per second (`qps`) and requests
//! answered successfully per second (`tps`). Each rate is an exponentially decaying count: an event adds 1 / `window`,
//! and the whole decays with exp(-elapsed / `window`), so in a steady state it is the rate. The endpoint with the
//! lowest rate is taken, the first of equals.
//!
//! ## When it helps
//! `qps` evens out what was sent over a time longer than a turn of round robin: after an endpoint was away it catches
//! up, within the window. It is what systems do that scale and balance on the queries per second their instances
//! report.
//!
//! ## How it fails
//! Both count requests, not work. After a pause an endpoint gets *all* requests until its rate has caught up. `tps` is
//! worse than it sounds: an instance that is slow or fails completes little, looks idle, and gets everything; it is
//! here because it is done.
//!
//! ## Settings
//! * `metric` (default `qps`): `qps` (sent) or `tps` (completed with success).
//! * `window` (default `10s`): time constant of the rates.
//!
//! ## Origin
//! The load metrics of the seed system S0, which names balancing on load, QPS, TPS and response time without giving the
//! rule; the decaying count is the usual estimator of a rate.
//!
//! ## Deliberate differences
//! No upstream: the definition stands above.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Balancer;
use super::peak_ewma::decay;
use crate::policies::Algorithm;
use crate::policies::view::{Class, Endpoints, Outcome, RequestHead, Slot};
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `balancer.least-rate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LeastRateSettings {
    /// What is counted.
    pub metric: RateMetric,
    /// Time constant.
    #[serde(deserialize_with = "decay")]
    pub window: Duration,
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RateMetric {
    /// Requests sent.
    #[default]
    Qps,
    /// Requests answered successfully.
    Tps,
}

impl Default for LeastRateSettings {
    fn default() -> Self {
        Self { metric: RateMetric::Qps, window: Duration::from_secs(10) }
    }
}

/// A decaying count.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    at: Time,
    /// In units of 1 / window.
    count: f64,
}

impl Rate {
    fn read(&mut self, now: Time, window: f64) -> f64 {
        if now != self.at {
            self.count *= libm::exp(-(now.since(self.at).0 as f64) / window);
            self.at = now;
        }
        self.count
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct LeastRate(Box<State>);

#[derive(Clone, Debug)]
struct State {
    metric: RateMetric,
    /// ns
    window: f64,
    /// By slot.
    rates: Vec<Rate>,
}

impl Algorithm for LeastRate {
    type Settings = LeastRateSettings;

    fn new(settings: &LeastRateSettings, _now: Time) -> Self {
        let LeastRateSettings { metric, window } = *settings;
        Self(Box::new(State { metric, window: window.0 as f64, rates: Vec::new() }))
    }
}

impl Balancer for LeastRate {
    fn on_update(&mut self, _now: Time, endpoints: &Endpoints) {
        let slots = self.0.rates.len().max(endpoints.weight.len());
        self.0.rates.resize(slots, Rate::default());
    }

    fn pick(
        &mut self,
        now: Time,
        _request: &RequestHead,
        endpoints: &Endpoints,
        _rng: &mut Rng,
    ) -> Option<Slot> {
        let State { metric, window, rates } = &mut *self.0;
        let mut best: Option<(f64, Slot)> = None;
        for &slot in &endpoints.eligible {
            let rate = rates[slot.0 as usize].read(now, *window) / f64::from(endpoints.weight(slot));
            if best.is_none_or(|(least, _)| rate < least) {
                best = Some((rate, slot));
            }
        }
        let (_, slot) = best?;
        if *metric == RateMetric::Qps {
            rates[slot.0 as usize].count += 1.0;
        }
        Some(slot)
    }

    fn on_outcome(&mut self, now: Time, slot: Slot, outcome: &Outcome) {
        let State { metric, window, rates } = &mut *self.0;
        if *metric == RateMetric::Tps && outcome.class == Class::Success && !outcome.ignored {
            let rate = &mut rates[slot.0 as usize];
            rate.read(now, *window);
            rate.count += 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    fn pick(policy: &mut LeastRate, at: Time, endpoints: &Endpoints) -> Slot {
        policy.pick(at, &RequestHead::default(), endpoints, &mut Key::new(1).rng()).unwrap()
    }

    #[test]
    fn who_was_away_catches_up() {
        let mut endpoints = Endpoints::uniform(2);
        endpoints.eligible = vec![Slot(0)];
        let mut policy = LeastRate::new(&LeastRateSettings::default(), Time::ZERO);
        policy.on_update(Time::ZERO, &endpoints);
        for second in 0..5 {
            pick(&mut policy, Time::from_secs(second), &endpoints);
        }
        endpoints.eligible = vec![Slot(0), Slot(1)];
        policy.on_update(Time::from_secs(5), &endpoints);
        // exp(-0.1) + .. + exp(-0.5) = 3.74, so the fifth request is the first to go to the other one again.
        let at = Time::from_secs(5);
        let picks: Vec<u32> = (0..6).map(|_| pick(&mut policy, at, &endpoints).0).collect();
        assert_eq!(picks, [1, 1, 1, 1, 0, 1]);
    }

    #[test]
    fn completions_lead_to_those_who_complete_nothing() {
        let endpoints = Endpoints::uniform(2);
        let settings = LeastRateSettings { metric: RateMetric::Tps, ..LeastRateSettings::default() };
        let mut policy = LeastRate::new(&settings, Time::ZERO);
        policy.on_update(Time::ZERO, &endpoints);
        policy.on_outcome(Time::ZERO, Slot(0), &Outcome::new(Class::Success, Duration::ZERO));
        policy.on_outcome(Time::ZERO, Slot(1), &Outcome::new(Class::Failure, Duration::ZERO));
        assert_eq!(pick(&mut policy, Time::from_secs(60), &endpoints), Slot(1));
    }
}
