//! Failure detectors: whether one target is well, judged by the answers to probes or by heartbeats.
//!
//! Whoever owns a detector sends the probes (or hears the heartbeats) and reports each result; the detector says when to ask
//! next, how long to wait, and what it thinks.

pub mod envoy;
pub mod heartbeat;
pub mod kubelet;
pub mod phi_accrual;

use crate::random::Rng;
use crate::time::{Duration, Time};

/// How a probe ended, or that a heartbeat came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A good answer, or a heartbeat.
    Passed,
    /// The target answered with an error.
    Failed,
    /// No answer in time, or no connection.
    Lost,
}

/// What a detector thinks of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Unknown,
    /// Well.
    Healthy,
    /// Not well.
    Unhealthy,
}

/// Watches one target.
pub trait Detector {
    /// Time between probes, or between heartbeats.
    fn interval(&self) -> Duration;

    /// How long the answer to a probe is waited for.
    fn timeout(&self) -> Duration;

    /// When the next probe is sent after one that was sent at `began` and has ended at `now`.
    fn next_probe(&self, began: Time, now: Time, rng: &mut Rng) -> Time;

    /// A probe ended.
    fn on_result(&mut self, now: Time, result: Probe);

    /// What it thinks at `now`.
    fn verdict(&self, now: Time) -> Verdict;
}

registry! {
    ($)
    /// A failure detector and its settings, as written in a scenario.
    DetectorSettings,
    /// Any failure detector, by value.
    AnyDetector: Detector,
    family "detector" in "detector",
    "kubelet" => kubelet::Kubelet,
    "envoy" => envoy::Envoy,
    "heartbeat" => heartbeat::Heartbeat,
    "phi-accrual" => phi_accrual::PhiAccrual,
}

impl Detector for AnyDetector {
    fn interval(&self) -> Duration {
        dispatch!(self, policy => policy.interval())
    }

    fn timeout(&self) -> Duration {
        dispatch!(self, policy => policy.timeout())
    }

    fn next_probe(&self, began: Time, now: Time, rng: &mut Rng) -> Time {
        dispatch!(self, policy => policy.next_probe(began, now, rng))
    }

    fn on_result(&mut self, now: Time, result: Probe) {
        dispatch!(self, policy => policy.on_result(now, result));
    }

    fn verdict(&self, now: Time) -> Verdict {
        dispatch!(self, policy => policy.verdict(now))
    }
}

/// The first instant of the raster `began + n * period`, n > 0, that is not before `now`.
fn next_tick(began: Time, now: Time, period: Duration) -> Time {
    let passed = (now - began).0;
    let ticks = passed.div_ceil(period.0).max(1);
    Time(began.0.saturating_add(ticks.saturating_mul(period.0)))
}
