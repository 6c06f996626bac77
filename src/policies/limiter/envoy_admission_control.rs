//! Envoy's admission control: refuses a share of the requests once the success rate falls below a threshold.
//!
//! ## What it does
//! It counts the requests it let through over the last `sampling-window` and how many of them succeeded. A new one is refused with
//! probability ((n - successes / `sr-threshold`) / (n + 1)) ^ (1 / `aggression`), at most `max-rejection-probability`, by a draw
//! with four digits. What it refuses is not counted. Below `rps-threshold` everything passes, and is counted.
//!
//! ## When it helps
//! In a side-car, to take pressure off a backend that fails, before a breaker would shut it off altogether.
//!
//! ## How it fails
//! Errors that have nothing to do with load cost good requests too. Since refusals are not counted it never refuses more than
//! the failures explain: it takes load off more slowly than `sre-adaptive-throttle`.
//!
//! ## Settings
//! * `sampling-window` (default `30s`, at most `1h`), in whole seconds.
//! * `aggression` (default 1.0, at least 1): above 1 it refuses more at the same success rate.
//! * `sr-threshold` (default `95%`), `max-rejection-probability` (default `80%`).
//! * `rps-threshold` (default 0): requests per second, on average over the window.
//!
//! ## Origin
//! Envoy, `source/extensions/filters/http/admission_control/admission_control.cc` (`shouldRejectRequest`) and
//! `thread_local_controller.cc` at 169cac73: portions of a second, forgotten when as old as the window.
//!
//! ## Deliberate differences
//! Upstream raises a smaller aggression to 1 in silence; here it is refused. Each client (or instance) has one, upstream each
//! worker thread. An ignored ending is not counted, an abandoned request is a failure, as upstream's. A refusal promises no
//! instant.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::history::History;
use super::{Limiter, admitted_with, bounds};
use crate::policies::Algorithm;
use crate::policies::view::{Admit, Outcome, Permit};
use crate::random::Rng;
use crate::time::{Duration, Time};
use crate::units::Share;

/// Settings of `limiter.envoy-admission-control`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct EnvoyAdmissionControlSettings {
    /// How long a request counts.
    #[serde(deserialize_with = "window")]
    pub sampling_window: Duration,
    /// Above 1 it refuses more at the same success rate.
    #[serde(deserialize_with = "bounds::factor")]
    pub aggression: f64,
    /// Success rate below which it refuses.
    #[serde(deserialize_with = "bounds::positive")]
    pub sr_threshold: Share,
    /// Requests per second below which everything passes.
    pub rps_threshold: u32,
    /// Most it refuses.
    pub max_rejection_probability: Share,
}

impl Default for EnvoyAdmissionControlSettings {
    fn default() -> Self {
        Self {
            sampling_window: Duration::from_secs(30),
            aggression: 1.0,
            sr_threshold: Share(0.95),
            rps_threshold: 0,
            max_rejection_probability: Share(0.8),
        }
    }
}

fn window<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let window = Duration::deserialize(deserializer)?;
    let whole = window.0.is_multiple_of(PORTION.0);
    if whole && (PORTION..=Duration::from_secs(3600)).contains(&window) {
        Ok(window)
    } else {
        Err(de::Error::custom(format!(
            "sampling-window is {window}, but it must be 1s to 1h in whole seconds"
        )))
    }
}

/// Granularity of the history.
const PORTION: Duration = Duration::from_secs(1);

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct EnvoyAdmissionControl {
    threshold: f64,
    aggression: f64,
    max_rejection: f64,
    window: Duration,
    rps_threshold: u32,
    history: Box<History>,
}

impl Algorithm for EnvoyAdmissionControl {
    type Settings = EnvoyAdmissionControlSettings;

    fn new(settings: &EnvoyAdmissionControlSettings, _now: Time) -> Self {
        Self {
            threshold: settings.sr_threshold.0,
            aggression: settings.aggression,
            max_rejection: settings.max_rejection_probability.0,
            window: settings.sampling_window,
            rps_threshold: settings.rps_threshold,
            history: Box::new(History::new(settings.sampling_window, PORTION)),
        }
    }
}

impl EnvoyAdmissionControl {
    #[inline]
    fn probability(&self, (requests, successes): (u64, u64)) -> f64 {
        let requests = requests as f64;
        let share = (requests - successes as f64 / self.threshold) / (requests + 1.0);
        if share <= 0.0 {
            // Upstream's power of a negative number is no number, which admits as well.
            return 0.0;
        }
        let share = if self.aggression == 1.0 { share } else { libm::pow(share, 1.0 / self.aggression) };
        share.min(self.max_rejection)
    }
}

impl Limiter for EnvoyAdmissionControl {
    fn try_acquire(&mut self, now: Time, cost: u32, _max_wait: Duration, rng: &mut Rng) -> Admit {
        if self.rps_threshold > 0 {
            let seconds = self.window.max(self.history.age(now)).0 / PORTION.0;
            if self.history.totals().0 / seconds < u64::from(self.rps_threshold) {
                return admitted_with(now, cost);
            }
        }
        self.history.turn(now);
        let probability = self.probability(self.history.totals());
        if probability > 0.0 && 1e4 * probability > f64::from(rng.index(10_000)) {
            return Admit::Reject { until: None };
        }
        admitted_with(now, cost)
    }

    fn on_outcome(&mut self, now: Time, permit: Permit, outcome: &Outcome, _rng: &mut Rng) {
        if !outcome.ignored {
            let requests = u64::from(permit.slot);
            self.history.record(now, requests, if outcome.is_error() { 0 } else { requests });
        }
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("reject_probability", self.probability(self.history.totals_at(now)));
    }
}
