//! Peak EWMA as in Finagle: the latency average that jumps to every peak, x (outstanding + 1), and a fine for the
//! unknown.
//!
//! ## What it does
//! Like `peak-ewma`, with two differences. The average starts from the first observation (a look counts as one, of 0),
//! and a peak restarts it. And an endpoint that has no history but a request outstanding is fined so heavily that
//! nobody sends it a second one before the first answer is back.
//!
//! ## When it helps
//! As `peak-ewma`. The fine keeps a new or recovered instance from being flooded before anything is known about it.
//!
//! ## How it fails
//! As `peak-ewma`. An endpoint without history costs nothing, so every client tries a new instance at once.
//!
//! ## Settings
//! * `decay-time` (default `10s`): time in which an average falls to 1/e.
//!
//! ## Origin
//! Twitter Finagle at 4feb34cb, `finagle-core/.../loadbalancer/PeakEwma.scala` (`Metric.observe`, `Metric.get`) and
//! `finagle-core/.../util/Ema.scala`, over `P2CPick`.
//!
//! ## Deliberate differences
//! * As in `p2c`: the status of nodes does not decide, and both numbers come from one draw.
//! * Finagle stamps with the nanosecond clock of the machine; equal stamps are possible here, and a wait of 0 changes
//!   nothing.

use schemars::JsonSchema;
use serde::Deserialize;

use super::peak_ewma::decay;
use super::{Balancer, p2c};
use crate::policies::Algorithm;
use crate::policies::view::{Endpoints, Outcome, RequestHead, Slot};
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `balancer.finagle-peak-ewma`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct FinaglePeakEwmaSettings {
    /// Time in which an average falls to 1/e.
    #[serde(deserialize_with = "decay")]
    pub decay_time: Duration,
}

impl Default for FinaglePeakEwmaSettings {
    fn default() -> Self {
        Self { decay_time: Duration::from_secs(10) }
    }
}

/// Finagle's `Long.MaxValue >> 16`.
const PENALTY: f64 = (i64::MAX >> 16) as f64;

/// Finagle's `Metric` of one endpoint, without its count of outstanding requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Metric {
    /// Time of the last observation of the average, if there was one since its last restart.
    time: Option<Time>,
    ema: f64,
}

impl Metric {
    /// A round trip of `rtt` ended.
    #[inline]
    pub fn observe(&mut self, now: Time, rtt: Duration, tau: f64) {
        let rtt = rtt.0 as f64;
        if rtt > self.ema {
            *self = Self::default();
        }
        self.ema = match self.time {
            None => rtt,
            Some(time) => {
                let w = libm::exp(-(now.since(time).0 as f64) / tau);
                rtt * (1.0 - w) + self.ema * w
            }
        };
        self.time = Some(now);
    }

    /// The load with `pending` outstanding, ns. Looking lets the average decay.
    #[inline]
    pub fn load(&mut self, now: Time, pending: u32, tau: f64) -> f64 {
        self.observe(now, Duration::ZERO, tau);
        if self.ema == 0.0 && pending != 0 {
            PENALTY + f64::from(pending)
        } else {
            self.ema * (f64::from(pending) + 1.0)
        }
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct FinaglePeakEwma(Box<State>);

#[derive(Clone, Debug)]
struct State {
    tau: f64,
    /// By slot.
    metrics: Vec<Metric>,
}

impl Algorithm for FinaglePeakEwma {
    type Settings = FinaglePeakEwmaSettings;

    fn new(settings: &FinaglePeakEwmaSettings, _now: Time) -> Self {
        Self(Box::new(State { tau: settings.decay_time.0 as f64, metrics: Vec::new() }))
    }
}

impl Balancer for FinaglePeakEwma {
    fn on_update(&mut self, _now: Time, endpoints: &Endpoints) {
        let slots = self.0.metrics.len().max(endpoints.weight.len());
        self.0.metrics.resize(slots, Metric::default());
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
        let State { tau, metrics } = &mut *self.0;
        let load = |i: u32| {
            let slot = eligible[i as usize];
            metrics[slot.0 as usize].load(now, endpoints.active(slot), *tau)
        };
        match eligible.len() {
            0 => None,
            n => Some(eligible[p2c::pick(n as u32, rng, |_| p2c::Status::Open, load) as usize]),
        }
    }

    fn on_outcome(&mut self, now: Time, slot: Slot, outcome: &Outcome) {
        let State { tau, metrics } = &mut *self.0;
        metrics[slot.0 as usize].observe(now, outcome.latency, *tau);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    #[test]
    fn the_unknown_gets_one_request_and_no_second_one() {
        let mut endpoints = Endpoints::uniform(2);
        let mut policy = FinaglePeakEwma::new(&FinaglePeakEwmaSettings::default(), Time::ZERO);
        policy.on_update(Time::ZERO, &endpoints);
        let known = Outcome::new(crate::policies::view::Class::Success, Duration::from_millis(20));
        policy.on_outcome(Time::from_secs(1), Slot(0), &known);
        endpoints.active = vec![30, 0];
        let picked = |policy: &mut FinaglePeakEwma, endpoints: &Endpoints| {
            let mut rng = Key::new(1).rng();
            policy.pick(Time::from_secs(1), &RequestHead::default(), endpoints, &mut rng)
        };
        assert_eq!(picked(&mut policy, &endpoints), Some(Slot(1)));
        endpoints.active[1] = 1;
        assert_eq!(picked(&mut policy, &endpoints), Some(Slot(0)));
    }
}
