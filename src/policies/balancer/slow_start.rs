//! Envoy's slow start: a host that has just come gets less than its share for a while.
//!
//! Envoy, `EdfLoadBalancerBase` in `source/extensions/load_balancing_policies/common/load_balancer_impl.cc` at 00cf9a05
//! (`applySlowStartFactor`, `noHostsAreInSlowStart`, and `refresh` for when the schedule takes over). Envoy counts from
//! the last health check that passed; here a host is as old as the client's knowledge of it.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use crate::policies::view::{Endpoints, Slot};
use crate::time::{Duration, Time};
use crate::units::Share;

/// `slow-start = { window = "30s" }`
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SlowStart {
    /// How long a new host is favoured less.
    #[serde(deserialize_with = "window")]
    pub window: Duration,
    /// Bends the way up, above 0: 1 is a straight line, more rises faster at first (default 1).
    #[serde(default = "straight", deserialize_with = "aggression")]
    #[schemars(range(min = 0.0))]
    pub aggression: f64,
    /// Least share of its weight that a host gets (default 10%).
    #[serde(default = "tenth")]
    pub min_weight_percent: Share,
}

const fn straight() -> f64 {
    1.0
}

const fn tenth() -> Share {
    Share(0.1)
}

fn window<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let window = Duration::deserialize(deserializer)?;
    if window < Duration::from_millis(1) {
        return Err(de::Error::custom("the window of a slow start is at least 1ms, Envoy's unit of it"));
    }
    Ok(window)
}

fn aggression<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let aggression = f64::deserialize(deserializer)?;
    if aggression > 0.0 && aggression.is_finite() {
        Ok(aggression)
    } else {
        Err(de::Error::custom(format!("aggression is {aggression}, but Envoy wants more than 0")))
    }
}

impl SlowStart {
    /// `weight` of a host that came `ago`.
    #[inline]
    pub fn apply(&self, weight: f64, ago: Duration) -> f64 {
        // Envoy's clock here counts whole milliseconds.
        let (ago, window) = (ago.0 / 1_000_000, self.window.0 / 1_000_000);
        if ago >= window {
            return weight;
        }
        let time_factor = ago.max(1) as f64 / window as f64;
        let factor = if (self.aggression - 1.0).abs() < f64::EPSILON {
            time_factor
        } else {
            libm::pow(time_factor, 1.0 / self.aggression)
        };
        weight * factor.max(self.min_weight_percent.0)
    }

    /// `weight` of `slot` at `now`.
    #[inline]
    pub fn weigh(&self, now: Time, endpoints: &Endpoints, slot: Slot, weight: f64) -> f64 {
        self.apply(weight, now.since(endpoints.since(slot)))
    }
}

/// Whether the schedule can be done without: all weights are equal, and nobody is in its slow start.
pub fn hosts_weigh_the_same(now: Time, endpoints: &Endpoints, slow_start: Option<&SlowStart>) -> bool {
    let mut weights = endpoints.eligible.iter().map(|&slot| endpoints.weight(slot));
    let first = weights.next();
    let young =
        |window: Duration| endpoints.eligible.iter().any(|&slot| now.since(endpoints.since(slot)) <= window);
    weights.all(|weight| Some(weight) == first) && !slow_start.is_some_and(|slow| young(slow.window))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_way_up() {
        let slow =
            SlowStart { window: Duration::from_secs(10), aggression: 1.0, min_weight_percent: Share(0.1) };
        for (ms, share) in [(0, 10.0), (999, 10.0), (2500, 25.0), (9999, 99.99), (10_000, 100.0)] {
            let weight = slow.apply(100.0, Duration::from_millis(ms));
            assert!((weight - share).abs() < 1e-9, "{ms} ms: {weight}");
        }
    }

    #[test]
    fn settings_are_checked() {
        let parse = serde_json::from_str::<SlowStart>;
        assert!(parse(r#"{"window": "30s"}"#).is_ok());
        assert!(parse("{}").is_err());
        let error = parse(r#"{"window": "0s"}"#).unwrap_err().to_string();
        assert!(error.contains("at least 1ms"), "{error}");
        let error = parse(r#"{"window": "1s", "aggression": 0}"#).unwrap_err().to_string();
        assert!(error.contains("Envoy wants more than 0"), "{error}");
    }
}
