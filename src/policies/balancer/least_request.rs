//! Envoy's least request: the least busy of a few endpoints picked at random, or weights that shrink with load.
//!
//! ## What it does
//! While all weights are equal, `choice-count` endpoints are drawn uniformly *with* replacement and the first one with the
//! fewest outstanding requests of this client is taken; with `selection-method = "full-scan"` all are looked at, and ties
//! are broken by reservoir sampling. Once weights differ, an earliest-deadline-first schedule takes over: an endpoint
//! comes up again after 1 / weight, where weight = configured weight / (outstanding requests + 1)^`active-request-bias`.
//!
//! ## When it helps
//! Requests of very different cost, instances of different speed or size: load is balanced by what is outstanding, not
//! by what was sent.
//!
//! ## How it fails
//! A client sees only its own outstanding requests (see `p2c`). An instance that fails fast looks idle and attracts
//! traffic. With `full-scan` many clients whose views are stale chase the same idle instance. In the weighted form an
//! endpoint is weighed when it is put back into the schedule: one that has become busy since then is still picked once.
//!
//! ## Settings
//! * `choice-count` (default 2, at least 1): endpoints drawn per pick while the weights are equal.
//! * `active-request-bias` (default 1): exponent of the load once they differ; 0 gives weighted round robin.
//! * `selection-method` (default `n-choices`): `n-choices` or `full-scan`.
//! * `slow-start` (default none): `{ window, aggression = 1, min-weight-percent = "10%" }`. A host that came less than
//!   `window` ago weighs weight * max((max(age, 1 ms) / window)^(1 / aggression), min-weight-percent), and the schedule rules
//!   from such a change of the list until the next.
//!
//! ## Origin
//! Envoy, `source/extensions/load_balancing_policies/least_request/least_request_lb.cc` at 0a31a547 (`hostWeight`,
//! `unweightedHostPickNChoices`, `unweightedHostPickFullScan`); schedule: `EdfLoadBalancerBase::refresh` in
//! `load_balancer_impl.cc` at 00cf9a05 and `EdfScheduler` in `edf_scheduler.h` (`createWithPicks`, `pickAndAdd`).
//!
//! ## Deliberate differences
//! * The random start of the schedule is drawn at the first weighted pick, not when the balancer is made.
//! * No pending requests in the load, no panic mode, no localities: the client's list is what it is.
//! * A host is as old as this client's knowledge of it; Envoy counts from the last health check that passed.
//! * Envoy refuses a `choice-count` of 1; it is `random` and harmless.

use std::cmp::Ordering;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::edf::EdfScheduler;
use super::slow_start::{SlowStart, hosts_weigh_the_same};
use super::{Balancer, Needs};
use crate::policies::Algorithm;
use crate::policies::view::{Endpoints, RequestHead, Slot};
use crate::random::Rng;
use crate::time::Time;

/// Settings of `balancer.least-request`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LeastRequestSettings {
    /// Endpoints drawn per pick while all weights are equal.
    pub choice_count: NonZeroU32,
    /// Exponent of the load in the weight of an endpoint, 0 or more.
    #[serde(deserialize_with = "bias")]
    #[schemars(range(min = 0.0))]
    pub active_request_bias: f64,
    /// How the least busy endpoint is found while all weights are equal.
    pub selection_method: SelectionMethod,
    /// Less for those that have just come.
    pub slow_start: Option<SlowStart>,
}

/// How the least busy endpoint is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SelectionMethod {
    /// Among `choice-count` endpoints drawn with replacement.
    #[default]
    NChoices,
    /// Among all.
    FullScan,
}

impl Default for LeastRequestSettings {
    fn default() -> Self {
        Self {
            choice_count: NonZeroU32::MIN.saturating_add(1),
            active_request_bias: 1.0,
            selection_method: SelectionMethod::NChoices,
            slow_start: None,
        }
    }
}

fn bias<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let bias = f64::deserialize(deserializer)?;
    if bias >= 0.0 && bias.is_finite() {
        Ok(bias)
    } else {
        Err(de::Error::custom(format!("active-request-bias is {bias}, but it must be 0 or more")))
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct LeastRequest(Box<State>);

#[derive(Clone, Debug)]
struct State {
    settings: LeastRequestSettings,
    /// Envoy's `seed_`: where in the schedule this client starts.
    seed: Option<u32>,
    /// Whether the weights differ, and thus the schedule rules.
    weighted: bool,
    schedule: EdfScheduler,
}

impl Algorithm for LeastRequest {
    type Settings = LeastRequestSettings;

    fn new(settings: &LeastRequestSettings, _now: Time) -> Self {
        let schedule = EdfScheduler::default();
        Self(Box::new(State { settings: *settings, seed: None, weighted: false, schedule }))
    }
}

impl Balancer for LeastRequest {
    fn on_update(&mut self, now: Time, endpoints: &Endpoints) {
        let state = &mut *self.0;
        state.weighted = !hosts_weigh_the_same(now, endpoints, state.settings.slow_start.as_ref());
        if state.weighted {
            state.restart_schedule(now, endpoints);
        }
    }

    #[inline(never)]
    fn pick(
        &mut self,
        now: Time,
        _request: &RequestHead,
        endpoints: &Endpoints,
        rng: &mut Rng,
    ) -> Option<Slot> {
        let eligible = endpoints.eligible.as_slice();
        if eligible.is_empty() {
            return None;
        }
        let state = &mut *self.0;
        if state.weighted {
            if state.seed.is_none() {
                state.seed = Some(rng.bits() as u32);
                state.restart_schedule(now, endpoints);
            }
            let State { settings, schedule, .. } = state;
            return schedule.pick_and_add(|slot| settings.weight(now, endpoints, slot));
        }
        let active = |i: usize| endpoints.active(eligible[i]);
        let picked = match state.settings.selection_method {
            SelectionMethod::NChoices => {
                pick_n_choices(eligible.len(), state.settings.choice_count.get(), active, rng)
            }
            SelectionMethod::FullScan => pick_full_scan(eligible.len(), active, rng),
        };
        Some(eligible[picked])
    }

    fn needs(&self) -> Needs {
        Needs::NOTHING
    }
}

impl State {
    /// Builds the schedule anew, at the place where this client starts.
    fn restart_schedule(&mut self, now: Time, endpoints: &Endpoints) {
        let weight = |slot| self.settings.weight(now, endpoints, slot);
        self.schedule.restart_with_picks(&endpoints.eligible, weight, self.seed.unwrap_or(0));
    }
}

impl LeastRequestSettings {
    fn weight(&self, now: Time, endpoints: &Endpoints, slot: Slot) -> f64 {
        let active = u64::from(endpoints.active(slot));
        let weight = host_weight(endpoints.weight(slot), active, self.active_request_bias);
        self.slow_start.map_or(weight, |slow| slow.weigh(now, endpoints, slot, weight))
    }
}

/// Envoy's `hostWeight`: weight / (active + 1)^bias.
#[inline]
#[expect(clippy::float_cmp, reason = "upstream compares the setting with exactly these two values")]
pub fn host_weight(weight: u32, active: u64, active_request_bias: f64) -> f64 {
    // One more, so that an idle host has its whole weight; never divides by zero.
    let active_request_value = active.saturating_add(1) as f64;
    // The two usual exponents need no power function.
    if active_request_bias == 1.0 {
        f64::from(weight) / active_request_value
    } else if active_request_bias == 0.0 {
        f64::from(weight)
    } else {
        f64::from(weight) / libm::pow(active_request_value, active_request_bias)
    }
}

/// Envoy's `unweightedHostPickNChoices`. `n` and `choice_count` must not be 0.
#[inline]
pub fn pick_n_choices(n: usize, choice_count: u32, active: impl Fn(usize) -> u32, rng: &mut Rng) -> usize {
    let mut draw = || (rng.bits() % n as u64) as usize;
    let mut candidate = draw();
    for _ in 1..choice_count {
        let sampled = draw();
        if active(sampled) < active(candidate) {
            candidate = sampled;
        }
    }
    candidate
}

/// Envoy's `unweightedHostPickFullScan`. `n` must not be 0.
#[inline]
pub fn pick_full_scan(n: usize, active: impl Fn(usize) -> u32, rng: &mut Rng) -> usize {
    let mut candidate = 0;
    let mut known_tied_for_least = 1;
    for sampled in 1..n {
        match active(sampled).cmp(&active(candidate)) {
            Ordering::Less => {
                known_tied_for_least = 1;
                candidate = sampled;
            }
            Ordering::Equal => {
                // Reservoir sampling: the k-th tied host replaces the candidate with probability 1 / k.
                known_tied_for_least += 1;
                if rng.bits().is_multiple_of(known_tied_for_least) {
                    candidate = sampled;
                }
            }
            Ordering::Greater => {}
        }
    }
    candidate
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    fn picks(endpoints: &Endpoints, settings: LeastRequestSettings, n: usize) -> Vec<u32> {
        let mut policy = LeastRequest::new(&settings, Time::ZERO);
        let mut rng = Key::new(5).rng();
        policy.on_update(Time::ZERO, endpoints);
        let request = RequestHead::default();
        (0..n).map(|_| policy.pick(Time::ZERO, &request, endpoints, &mut rng).unwrap().0).collect()
    }

    #[test]
    fn the_schedule_keeps_to_the_weights() {
        let mut endpoints = Endpoints::uniform(3);
        endpoints.weight = vec![5, 1, 2];
        let settings = LeastRequestSettings { active_request_bias: 0.0, ..Default::default() };
        for window in picks(&endpoints, settings, 80).chunks(8) {
            let count = |slot| window.iter().filter(|&&picked| picked == slot).count();
            assert_eq!([count(0), count(1), count(2)], [5, 1, 2], "{window:?}");
        }
    }

    #[test]
    fn the_schedule_shuns_the_busy() {
        let mut endpoints = Endpoints::uniform(2);
        endpoints.weight = vec![1, 2];
        endpoints.active = vec![0, 9];
        // 1 / 1 against 2 / 10.
        let picks = picks(&endpoints, LeastRequestSettings::default(), 600);
        assert_eq!(picks.iter().filter(|&&slot| slot == 1).count(), 100);
    }

    #[test]
    fn settings_are_checked() {
        let parse = serde_json::from_str::<LeastRequestSettings>;
        assert_eq!(parse("{}").unwrap(), LeastRequestSettings::default());
        assert!(parse(r#"{"choice-count": 0}"#).is_err());
        assert!(parse(r#"{"active-request-bias": -1}"#).is_err());
        assert!(parse(r#"{"selection": "full-scan"}"#).is_err());
    }
}
