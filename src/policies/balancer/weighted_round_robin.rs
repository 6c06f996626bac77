//! Envoy's round robin where weights differ: an earliest-deadline-first schedule, with slow start if wanted.
//!
//! ## What it does
//! While all weights are equal and nobody is in its slow start, endpoints are taken one after the other. Otherwise an
//! earliest-deadline-first schedule rules: an endpoint comes up again 1 / weight later. With `slow-start` an endpoint
//! that has just come weighs less, and its weight grows up to the whole over the window.
//!
//! ## When it helps
//! Instances of different size with known weights. Slow start helps where new instances are cold: caches, just-in-time
//! compilers, connection pools.
//!
//! ## How it fails
//! It counts requests, not work, as every round robin: weights that no longer fit overload the weaker instance for as
//! long as they stay. Slow start puts the load of the new onto the old ones, so it makes a scale-up under overload
//! slower; where *all* hosts are new (after a deployment that replaces them at once) all weigh the same and nothing is
//! spared.
//!
//! ## Settings
//! * `slow-start` (default none): `{ window, aggression = 1, min-weight-percent = "10%" }`; see `least-request`.
//!
//! ## Origin
//! Envoy, `RoundRobinLoadBalancer` in `source/extensions/load_balancing_policies/round_robin/round_robin_lb.h` and
//! `EdfLoadBalancerBase` in `load_balancer_impl.cc` at 00cf9a05 (`refresh`, `chooseHostOnce`, `applySlowStartFactor`).
//!
//! ## Deliberate differences
//! * The random start is drawn at the first pick, not when the balancer is made, and serves the schedule and the
//!   counter.
//! * A host is as old as this client's knowledge of it; Envoy counts from the last health check that passed.
//! * The unweighted `round-robin` stands for itself; this one is for scenarios with weights or slow start.

use schemars::JsonSchema;
use serde::Deserialize;

use super::edf::EdfScheduler;
use super::slow_start::{SlowStart, hosts_weigh_the_same};
use super::{Balancer, Needs};
use crate::policies::Algorithm;
use crate::policies::view::{Endpoints, RequestHead, Slot};
use crate::random::Rng;
use crate::time::Time;

/// Settings of `balancer.weighted-round-robin`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct WeightedRoundRobinSettings {
    /// Less for those that have just come.
    pub slow_start: Option<SlowStart>,
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct WeightedRoundRobin(Box<State>);

#[derive(Clone, Debug)]
struct State {
    settings: WeightedRoundRobinSettings,
    /// Envoy's `seed_`: where this client starts.
    seed: Option<u32>,
    /// Picks from the equal, the start included: Envoy's `rr_indexes_`.
    index: u64,
    weighted: bool,
    schedule: EdfScheduler,
}

impl Algorithm for WeightedRoundRobin {
    type Settings = WeightedRoundRobinSettings;

    fn new(settings: &WeightedRoundRobinSettings, _now: Time) -> Self {
        let schedule = EdfScheduler::default();
        Self(Box::new(State { settings: *settings, seed: None, index: 0, weighted: false, schedule }))
    }
}

impl Balancer for WeightedRoundRobin {
    fn on_update(&mut self, now: Time, endpoints: &Endpoints) {
        let state = &mut *self.0;
        state.weighted = !hosts_weigh_the_same(now, endpoints, state.settings.slow_start.as_ref());
        if state.weighted {
            state.restart_schedule(now, endpoints);
        }
    }

    fn pick(
        &mut self,
        now: Time,
        _request: &RequestHead,
        endpoints: &Endpoints,
        rng: &mut Rng,
    ) -> Option<Slot> {
        let n = endpoints.eligible.len() as u64;
        if n == 0 {
            return None;
        }
        let state = &mut *self.0;
        if state.seed.is_none() {
            let seed = rng.bits() as u32;
            state.seed = Some(seed);
            state.index = u64::from(seed);
            if state.weighted {
                state.restart_schedule(now, endpoints);
            }
        }
        if state.weighted {
            let State { settings, schedule, .. } = state;
            return schedule.pick_and_add(|slot| settings.weight(now, endpoints, slot));
        }
        let slot = endpoints.eligible[(state.index % n) as usize];
        state.index += 1;
        Some(slot)
    }

    fn needs(&self) -> Needs {
        Needs::NOTHING
    }
}

impl State {
    fn restart_schedule(&mut self, now: Time, endpoints: &Endpoints) {
        let weight = |slot| self.settings.weight(now, endpoints, slot);
        self.schedule.restart_with_picks(&endpoints.eligible, weight, self.seed.unwrap_or(0));
    }
}

impl WeightedRoundRobinSettings {
    fn weight(&self, now: Time, endpoints: &Endpoints, slot: Slot) -> f64 {
        let weight = f64::from(endpoints.weight(slot));
        self.slow_start.map_or(weight, |slow| slow.weigh(now, endpoints, slot, weight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;
    use crate::time::Duration;
    use crate::units::Share;

    #[test]
    fn a_newcomer_gets_less_until_the_window_is_over() {
        let slow =
            SlowStart { window: Duration::from_secs(10), aggression: 1.0, min_weight_percent: Share(0.1) };
        let settings = WeightedRoundRobinSettings { slow_start: Some(slow) };
        let mut policy = WeightedRoundRobin::new(&settings, Time::ZERO);
        let mut endpoints = Endpoints::uniform(2);
        endpoints.since[1] = Time::from_secs(100);
        policy.on_update(Time::from_secs(100), &endpoints);
        let mut rng = Key::new(1).rng();
        let mut share = |from: u64, ms: u64| {
            let at = Time::from_secs(from) + Duration::from_millis(ms);
            let pick = |_| policy.pick(at, &RequestHead::default(), &endpoints, &mut rng).unwrap().0;
            (0..1100).map(pick).sum::<u32>()
        };
        // 0.1 against 1: one in eleven; at the half of the window one in three; then every second.
        assert!((95..=105).contains(&share(100, 500)), "at the start");
        let half = share(105, 0);
        assert!((355..=375).contains(&half), "half way: {half}");
        assert!((545..=555).contains(&share(110, 0)), "afterwards");
    }
}
