//! Envoy's active health checks: each client asks each endpoint, and leaves out those that do not answer well.
//!
//! ## What it does
//! `interval` after the end of a check comes the next. A new endpoint is left out until its first check; if that passes, it is
//! in at once, whatever `healthy-threshold` says. Later an answer that is an error leaves the endpoint out at once, while no
//! answer in time, or no connection, does so after `unhealthy-threshold` in a row. After `healthy-threshold` passes in a row it
//! is back. After a check that contradicts the state and is not enough to change it, the edge interval of its result holds;
//! after a failure otherwise `unhealthy-interval`.
//!
//! ## When it helps
//! A client finds out about a dead endpoint before its requests do, and does not have to wait for anybody to tell it.
//!
//! ## How it fails
//! Every client asks every endpoint: 200 clients with an interval of 5 s are 40 requests a second at each endpoint, which
//! share its queue. Under load all of them time out together, and the endpoints leave one after the other (see panic).
//!
//! ## Settings
//! Names as in Envoy's `HealthCheck`; the first four are required there.
//! * `timeout`, `interval`, `unhealthy-threshold`, `healthy-threshold`.
//! * `interval-jitter` (`0s`), `unhealthy-interval` (as `interval`), `unhealthy-edge-interval` (as `unhealthy-interval`),
//!   `healthy-edge-interval` (as `interval`).
//!
//! ## Origin
//! envoyproxy/envoy, `source/extensions/health_checkers/common/health_checker_base_impl.cc` (`interval`,
//! `intervalWithJitter`, `handleSuccess`, `setUnhealthy`), a revision of 2025 or later (it has `clearPendingFlag`). There are no
//! recorded cases; the tests are worked out from that source.
//!
//! ## Deliberate differences
//! * `no-traffic-interval` (60 s until a cluster has been used) does not exist.
//! * No initial jitter: the owner gives each check its own phase.
//! * Checks that answer "degraded" do not exist.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Detector, Probe, Verdict};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `detector.envoy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct EnvoySettings(Written);

/// The settings before they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", rename = "EnvoyHealthCheckSettings")]
struct Written {
    /// How long an answer is waited for.
    timeout: Duration,
    /// From the end of a check to the next.
    interval: Duration,
    /// Checks without an answer, in a row, that leave the endpoint out.
    unhealthy_threshold: u32,
    /// Passes in a row that let it in again.
    healthy_threshold: u32,
    /// Most that is added to an interval at random.
    #[serde(default)]
    interval_jitter: Duration,
    /// Interval while it is out.
    unhealthy_interval: Option<Duration>,
    /// Interval after it was left out.
    unhealthy_edge_interval: Option<Duration>,
    /// Interval after it came back.
    healthy_edge_interval: Option<Duration>,
}

impl TryFrom<Written> for EnvoySettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let zero = |name: &str| Err(format!("{name} must be more than zero"));
        let lengths = [
            ("timeout", Some(written.timeout)),
            ("interval", Some(written.interval)),
            ("unhealthy-interval", written.unhealthy_interval),
            ("unhealthy-edge-interval", written.unhealthy_edge_interval),
            ("healthy-edge-interval", written.healthy_edge_interval),
        ];
        for (name, length) in lengths {
            if length == Some(Duration::ZERO) {
                return zero(name);
            }
        }
        if written.unhealthy_threshold == 0 {
            return zero("unhealthy-threshold");
        }
        if written.healthy_threshold == 0 {
            return zero("healthy-threshold");
        }
        Ok(Self(written))
    }
}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Envoy {
    spec: Written,
    /// `FAILED_ACTIVE_HC` is not set.
    healthy: bool,
    first_check: bool,
    num_healthy: u32,
    num_unhealthy: u32,
    /// Result of the last check, and whether it contradicts the state without changing it.
    passed: bool,
    pending: bool,
}

impl Algorithm for Envoy {
    type Settings = EnvoySettings;

    fn new(settings: &EnvoySettings, _now: Time) -> Self {
        let spec = settings.0;
        Self {
            spec,
            healthy: false,
            first_check: true,
            num_healthy: 0,
            num_unhealthy: 0,
            passed: false,
            pending: false,
        }
    }
}

impl Detector for Envoy {
    fn interval(&self) -> Duration {
        self.spec.interval
    }

    fn timeout(&self) -> Duration {
        self.spec.timeout
    }

    fn next_probe(&self, _began: Time, now: Time, rng: &mut Rng) -> Time {
        let Written { interval, unhealthy_interval, unhealthy_edge_interval, healthy_edge_interval, .. } =
            self.spec;
        let unhealthy = unhealthy_interval.unwrap_or(interval);
        let base = match (self.passed, self.pending) {
            (true, true) => healthy_edge_interval.unwrap_or(interval),
            (true, false) => interval,
            (false, true) => unhealthy_edge_interval.unwrap_or(unhealthy),
            (false, false) => unhealthy,
        };
        let jitter = match self.spec.interval_jitter {
            Duration::ZERO => Duration::ZERO,
            most => Duration(rng.bits() % most.0),
        };
        now + base + jitter
    }

    fn on_result(&mut self, _now: Time, result: Probe) {
        self.passed = result == Probe::Passed;
        self.pending = false;
        if self.passed {
            self.num_unhealthy = 0;
            if !self.healthy {
                self.num_healthy += u32::from(!self.first_check);
                self.healthy = self.first_check || self.num_healthy == self.spec.healthy_threshold;
                self.pending = !self.healthy;
            }
        } else {
            self.num_healthy = 0;
            if self.healthy {
                self.num_unhealthy += u32::from(result == Probe::Lost);
                self.healthy = result == Probe::Lost && self.num_unhealthy != self.spec.unhealthy_threshold;
                self.pending = self.healthy;
            }
        }
        self.first_check = false;
    }

    fn verdict(&self, _now: Time) -> Verdict {
        match (self.healthy, self.first_check) {
            (true, _) => Verdict::Healthy,
            (false, true) => Verdict::Unknown,
            (false, false) => Verdict::Unhealthy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    fn check(results: &[Probe]) -> Vec<bool> {
        let text = r#"{"timeout": "1s", "interval": "5s", "unhealthy-threshold": 3, "healthy-threshold": 2}"#;
        let mut envoy = Envoy::new(&serde_json::from_str(text).unwrap(), Time::ZERO);
        let mut told = |result: &Probe| {
            envoy.on_result(Time::ZERO, *result);
            envoy.verdict(Time::ZERO) == Verdict::Healthy
        };
        results.iter().map(&mut told).collect()
    }

    use Probe::{Failed, Lost, Passed};

    #[test]
    fn the_first_pass_is_enough_later_ones_have_to_be_two() {
        assert_eq!(check(&[Passed, Failed, Passed, Passed]), [true, false, false, true]);
        assert_eq!(
            check(&[Lost, Passed, Passed]),
            [false, false, true],
            "the first check was not the first pass"
        );
    }

    #[test]
    fn an_error_counts_at_once_silence_only_in_a_row() {
        assert_eq!(
            check(&[Passed, Lost, Lost, Passed, Lost, Lost, Lost]),
            [true, true, true, true, true, true, false]
        );
        assert_eq!(check(&[Passed, Failed]), [true, false]);
    }

    #[test]
    fn checks_that_are_not_enough_have_intervals_of_their_own() {
        let text = r#"{"timeout": "1s", "interval": "5s", "unhealthy-threshold": 2, "healthy-threshold": 3,
                       "unhealthy-interval": "2s", "healthy-edge-interval": "3s", "unhealthy-edge-interval": "1s"}"#;
        let mut envoy = Envoy::new(&serde_json::from_str(text).unwrap(), Time::ZERO);
        let mut next = |result| {
            envoy.on_result(Time::ZERO, result);
            envoy.next_probe(Time::ZERO, Time::ZERO, &mut Key(0).rng()).as_secs()
        };
        // The example of the upstream's comment, after a first pass and two losses.
        assert_eq!([next(Passed), next(Lost), next(Lost), next(Lost)], [5, 1, 2, 2]);
        assert_eq!([next(Passed), next(Passed), next(Passed), next(Passed)], [3, 3, 5, 5]);
    }
}
