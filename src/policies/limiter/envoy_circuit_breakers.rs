//! Bounds on what a proxy has open towards a cluster: Envoy's circuit breaking thresholds.
//!
//! ## What it does
//! A counter of requests: a request is refused when `max-requests` are active. No time, no state: despite the name nothing opens
//! or closes.
//!
//! ## When it helps
//! As a last bound that keeps a proxy and what lies behind it from being buried by a callee that has become slow. It fails fast
//! and costs nothing.
//!
//! ## How it fails
//! It is no breaker: a callee that fails fast is called on and on. The default of 1024 is far above what most services
//! can work on, so without tuning it trips when everything is long lost, if at all. The counters are those of one
//! proxy: a hundred side-cars together let a hundred times as much through.
//!
//! ## Settings
//! * `max-requests` (default 1024).
//! * `max-connections`, `max-pending-requests`: refused here; they bound `connections` of the edge.
//! * `max-retries`, `retry-budget`: refused here; they bound retries, not requests.
//!
//! ## Origin
//! Envoy, `CircuitBreakers.Thresholds` of `api/envoy/config/cluster/v3/circuit_breaker.proto`, `source/common/upstream/resource_manager_impl.h`
//! (`canCreate`: active below the maximum), from documentation and memory; there are no recorded cases.
//!
//! ## Deliberate differences
//! * Connections and what waits for one are counted where connections are kept: `connections.max`, `connections.max-pending`.
//! * One set of thresholds for all priorities; Envoy has one for each of its two routing priorities.
//! * Envoy's workers may exceed a threshold a little when they race; this does not.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::Limiter;
use crate::policies::Algorithm;
use crate::policies::view::{Admit, Outcome, Permit};
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `limiter.envoy-circuit-breakers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct EnvoyCircuitBreakersSettings {
    /// Active requests.
    pub max_requests: u32,
    /// Not known here.
    #[serde(deserialize_with = "connections")]
    max_connections: (),
    /// Not known here.
    #[serde(deserialize_with = "connections")]
    max_pending_requests: (),
    /// Not known here.
    #[serde(deserialize_with = "retries")]
    max_retries: (),
    /// Not known here.
    #[serde(deserialize_with = "retries")]
    retry_budget: (),
}

impl EnvoyCircuitBreakersSettings {
    /// With so many requests.
    pub const fn new(max_requests: u32) -> Self {
        Self {
            max_requests,
            max_connections: (),
            max_pending_requests: (),
            max_retries: (),
            retry_budget: (),
        }
    }
}

impl Default for EnvoyCircuitBreakersSettings {
    fn default() -> Self {
        Self::new(1024)
    }
}

fn connections<'de, D: Deserializer<'de>>(_: D) -> Result<(), D::Error> {
    Err(de::Error::custom(
        "requests are counted here; the edge bounds its connections: connections.max and connections.max-pending",
    ))
}

fn retries<'de, D: Deserializer<'de>>(_: D) -> Result<(), D::Error> {
    Err(de::Error::custom("retries are bounded beside `retry`, by `retry-budget` of the same edge"))
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct EnvoyCircuitBreakers {
    max_requests: u32,
    requests: u32,
}

impl Algorithm for EnvoyCircuitBreakers {
    type Settings = EnvoyCircuitBreakersSettings;

    fn new(settings: &EnvoyCircuitBreakersSettings, _now: Time) -> Self {
        Self { max_requests: settings.max_requests, requests: 0 }
    }
}

impl Limiter for EnvoyCircuitBreakers {
    #[inline]
    fn try_acquire(&mut self, now: Time, cost: u32, _max_wait: Duration, _rng: &mut Rng) -> Admit {
        if cost > self.max_requests.saturating_sub(self.requests) {
            return Admit::Reject { until: None };
        }
        self.requests += cost;
        super::admitted_with(now, cost)
    }

    #[inline]
    fn on_outcome(&mut self, _now: Time, permit: Permit, _outcome: &Outcome, _rng: &mut Rng) {
        self.requests -= permit.slot;
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("in_flight", f64::from(self.requests));
        show("limit", f64::from(self.max_requests));
    }
}
