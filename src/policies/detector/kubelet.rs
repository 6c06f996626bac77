//! Kubernetes probes: a target is well or not after so many equal results in a row.
//!
//! ## What it does
//! A probe every `period`, on a fixed raster; one that runs into the next tick is followed by the next free one. So many
//! results of the same kind in a row, `failure-threshold` or `success-threshold`, set the verdict. A *readiness* probe begins
//! with "not ready", a *liveness* probe with "alive", a *startup* probe with nothing; the other two are not sent before it has
//! passed. After a liveness or startup failure the container is killed, and nothing counts until there is a new one.
//!
//! ## When it helps
//! Readiness: an instance that cannot serve gets no traffic. Liveness: a process that hangs for ever is started anew.
//! Startup: a slow start is not taken for a hang.
//!
//! ## How it fails
//! A probe that waits in the same queue as everybody else times out under load. Readiness then takes the instance away, and
//! its share goes to the others, which fail next; liveness kills it with all of its work, and it comes back cold.
//!
//! ## Settings
//! * `period` (default `10s`), `timeout` (default `1s`), `initial-delay` (default `0s`): counted from the start of the container.
//! * `failure-threshold` (default 3), `success-threshold` (default 1; must be 1 for liveness and startup).
//!
//! ## Origin
//! Kubernetes 1.28, `pkg/kubelet/prober/worker.go` (`newWorker`, `doProbe`), pinned by `tests/vectors/balancer/k8s_probe.json`.
//!
//! ## Deliberate differences
//! * A probe that could not be carried out (`err != nil`, which is thrown away upstream) does not exist here: no answer is a
//!   failure, as of an HTTP probe.
//! * The delay is not cut to whole seconds.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Detector, Probe, Verdict, next_tick};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of a probe, and of `detector.kubelet`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct KubeletSettings(Written);

/// The settings before they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "KubeletProbeSettings")]
struct Written {
    /// From the start of the container to the first probe.
    initial_delay: Duration,
    /// Time between probes.
    period: Duration,
    /// How long an answer is waited for.
    timeout: Duration,
    /// Good results in a row that make it well.
    success_threshold: u32,
    /// Bad results in a row that make it unwell.
    failure_threshold: u32,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            success_threshold: 1,
            failure_threshold: 3,
        }
    }
}

impl TryFrom<Written> for KubeletSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let zero = |name: &str| Err(format!("{name} must be more than zero"));
        if written.period == Duration::ZERO {
            return zero("period");
        }
        if written.timeout == Duration::ZERO {
            return zero("timeout");
        }
        if written.success_threshold == 0 {
            return zero("success-threshold");
        }
        if written.failure_threshold == 0 {
            return zero("failure-threshold");
        }
        Ok(Self(written))
    }
}

impl KubeletSettings {
    /// Settings as a manifest has them, in its order: initial delay, period, timeout, thresholds of success and failure.
    pub fn of_manifest(
        initial_delay: Duration,
        period: Duration,
        timeout: Duration,
        success_threshold: u32,
        failure_threshold: u32,
    ) -> Result<Self, String> {
        Written { initial_delay, period, timeout, success_threshold, failure_threshold }.try_into()
    }

    /// From the start of the container to the first probe.
    pub const fn initial_delay(&self) -> Duration {
        self.0.initial_delay
    }

    /// Time between probes.
    pub const fn period(&self) -> Duration {
        self.0.period
    }

    /// How long an answer is waited for.
    pub const fn timeout(&self) -> Duration {
        self.0.timeout
    }

    /// Good results in a row that make it well.
    pub const fn success_threshold(&self) -> u32 {
        self.0.success_threshold
    }
}

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Whether the container has started; the other two wait for it.
    Startup,
    /// Whether it shall be killed.
    Liveness,
    /// Whether it gets traffic.
    Readiness,
}

impl ProbeKind {
    /// As in a scenario.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        }
    }

    const fn initial(self) -> Verdict {
        match self {
            Self::Startup => Verdict::Unknown,
            Self::Liveness => Verdict::Healthy,
            Self::Readiness => Verdict::Unhealthy,
        }
    }
}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Kubelet {
    spec: Written,
    kind: ProbeKind,
    last_result: Option<bool>,
    result_run: u32,
    on_hold: bool,
    result: Verdict,
}

impl Algorithm for Kubelet {
    type Settings = KubeletSettings;

    /// The worker of a readiness probe.
    fn new(settings: &KubeletSettings, _now: Time) -> Self {
        Self::of_kind(settings, ProbeKind::Readiness)
    }
}

impl Kubelet {
    /// The worker of a probe.
    pub const fn of_kind(settings: &KubeletSettings, kind: ProbeKind) -> Self {
        Self {
            spec: settings.0,
            kind,
            last_result: None,
            result_run: 0,
            on_hold: false,
            result: kind.initial(),
        }
    }

    /// There is a new container.
    pub const fn on_new_container(&mut self) {
        self.result = self.kind.initial();
        self.on_hold = false;
    }

    /// The container was well for long before anybody looked here.
    pub const fn has_passed(&mut self) {
        self.result = Verdict::Healthy;
        self.last_result = Some(true);
        self.result_run = self.spec.success_threshold;
    }

    /// Whether it waits for a new container.
    pub const fn is_on_hold(&self) -> bool {
        self.on_hold
    }

    /// The verdict.
    pub const fn result(&self) -> Verdict {
        self.result
    }
}

impl Detector for Kubelet {
    fn interval(&self) -> Duration {
        self.spec.period
    }

    fn timeout(&self) -> Duration {
        self.spec.timeout
    }

    fn next_probe(&self, began: Time, now: Time, _rng: &mut Rng) -> Time {
        next_tick(began, now, self.spec.period)
    }

    fn on_result(&mut self, _now: Time, result: Probe) {
        if self.on_hold {
            return;
        }
        let result = result == Probe::Passed;
        if self.last_result == Some(result) {
            self.result_run += 1;
        } else {
            self.last_result = Some(result);
            self.result_run = 1;
        }
        let threshold = if result { self.spec.success_threshold } else { self.spec.failure_threshold };
        if self.result_run < threshold {
            return;
        }
        self.result = if result { Verdict::Healthy } else { Verdict::Unhealthy };
        if self.kind != ProbeKind::Readiness && !result {
            self.on_hold = true;
            self.result_run = 0;
        }
    }

    fn verdict(&self, _now: Time) -> Verdict {
        self.result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    #[test]
    fn a_late_answer_skips_ticks() {
        let kubelet = Kubelet::new(&KubeletSettings::default(), Time::ZERO);
        let next = |now| kubelet.next_probe(Time::from_secs(5), Time::from_secs(now), &mut Key(0).rng());
        assert_eq!(next(5), Time::from_secs(15));
        assert_eq!(next(14), Time::from_secs(15));
        assert_eq!(next(16), Time::from_secs(25));
    }

    #[test]
    fn zero_thresholds_are_refused() {
        let error = serde_json::from_str::<KubeletSettings>(r#"{"failure-threshold": 0}"#).unwrap_err();
        assert!(error.to_string().contains("failure-threshold must be more than zero"), "{error}");
    }
}
