//! Judges: whether a new version is good enough, from what the metrics pipeline knows of it and of the old one.
//!
//! A judge is *asked* with the [`Evidence`] it [wants](Judge::wants): both versions over one window, or over the whole
//! analysis step by step. Its answer is a [`Phase`], in the words of an Argo Rollouts measurement. What a rollout makes of
//! the answers (limits, abort, promotion) is its own business.

pub mod kayenta;
pub mod msprt;
pub mod sprt;
pub mod threshold;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::time::{Duration, Time};

/// What one measurement found, or a metric of an analysis, or the whole analysis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub enum Phase {
    /// Not begun.
    Pending,
    /// Going on; for a judge: not enough is known yet, ask again.
    Running,
    /// The version is good.
    Successful,
    /// Nobody can say; a human has to.
    Inconclusive,
    /// There is nothing to measure, or the measurement went wrong.
    Error,
    /// The version is bad.
    Failed,
}

impl Phase {
    /// Whether it is over.
    pub const fn completed(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// As in logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Successful => "successful",
            Self::Inconclusive => "inconclusive",
            Self::Error => "error",
            Self::Failed => "failed",
        }
    }
}

/// What can be measured of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Share of the attempts that did not succeed, 0 to 1.
    ErrorRatio,
    /// Share of the attempts that succeeded, 0 to 1.
    SuccessRatio,
    /// Mean latency of attempts, in seconds.
    MeanLatency,
    /// Median latency, in seconds.
    P50Latency,
    /// 90 % of the attempts are faster, in seconds.
    P90Latency,
    /// 95 % of the attempts are faster, in seconds.
    P95Latency,
    /// 99 % of the attempts are faster, in seconds.
    P99Latency,
    /// Attempts per second.
    RequestRate,
}

impl Metric {
    /// As in a scenario.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ErrorRatio => "error-ratio",
            Self::SuccessRatio => "success-ratio",
            Self::MeanLatency => "mean-latency",
            Self::P50Latency => "p50-latency",
            Self::P90Latency => "p90-latency",
            Self::P95Latency => "p95-latency",
            Self::P99Latency => "p99-latency",
            Self::RequestRate => "request-rate",
        }
    }
}

/// One version over some time, as its callers saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// How long was looked at.
    pub over: Duration,
    /// Attempts that ended.
    pub requests: u64,
    /// Of these, attempts that did not succeed.
    pub errors: u64,
    /// Attempts that failed or took longer than the judge's [`Wanted::slow`]; without one, those that failed.
    pub bad: u64,
    /// Mean latency, in seconds; 0 if nothing ended.
    pub mean: f64,
    /// The 50, 90, 95 and 99 % quantiles of the latency, in seconds; 0 if nothing ended.
    pub quantiles: [f64; 4],
}

impl Reading {
    /// Nothing was seen.
    pub const NOTHING: Self =
        Self { over: Duration::ZERO, requests: 0, errors: 0, bad: 0, mean: 0.0, quantiles: [0.0; 4] };

    /// The metric, or NaN where there is nothing to measure it from.
    pub fn value(&self, metric: Metric) -> f64 {
        if metric == Metric::RequestRate {
            return self.requests as f64 / self.over.as_secs_f64();
        }
        if self.requests == 0 {
            return f64::NAN;
        }
        let [p50, p90, p95, p99] = self.quantiles;
        match metric {
            Metric::ErrorRatio => self.errors as f64 / self.requests as f64,
            Metric::SuccessRatio => (self.requests - self.errors) as f64 / self.requests as f64,
            Metric::MeanLatency => self.mean,
            Metric::P50Latency => p50,
            Metric::P90Latency => p90,
            Metric::P95Latency => p95,
            Metric::P99Latency => p99,
            Metric::RequestRate => unreachable!("answered above"),
        }
    }
}

/// The new version and the old one over the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pair {
    /// The new version.
    pub canary: Reading,
    /// The old version.
    pub baseline: Reading,
}

impl Pair {
    /// Nothing was seen of either.
    pub const NOTHING: Self = Self { canary: Reading::NOTHING, baseline: Reading::NOTHING };
}

/// What a judge wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// How far back; `None` for all that is known since the analysis began.
    pub window: Option<Duration>,
    /// Attempts slower than this are bad, even if they succeed.
    pub slow: Option<Duration>,
    /// Whether the time is wanted step by step, too.
    pub steps: bool,
}

/// What the metrics pipeline answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Over the whole window.
    pub whole: Pair,
    /// One by one, oldest first, if that is wanted.
    pub steps: Vec<Pair>,
}

/// Says what it thinks of a new version.
pub trait Judge {
    /// What it wants to see.
    fn wants(&self) -> Wanted;

    /// Its opinion. [`Phase::Running`] means that it wants to see more before it says anything.
    fn judge(&mut self, now: Time, evidence: &Evidence) -> Phase;

    /// What it found last, for the log: a value or a score, in its own unit.
    fn found(&self) -> f64;
}

registry! {
    ($)
    /// A judge and its settings, as written in a scenario: `judge.threshold = { .. }`.
    JudgeSettings,
    /// Any judge, held by value.
    AnyJudge: Judge,
    family "judge" in "judge",
    "kayenta" => kayenta::Kayenta,
    "msprt" => msprt::Msprt,
    "sprt" => sprt::Sprt,
    "threshold" => threshold::Threshold,
}

impl Judge for AnyJudge {
    fn wants(&self) -> Wanted {
        dispatch!(self, policy => policy.wants())
    }

    fn judge(&mut self, now: Time, evidence: &Evidence) -> Phase {
        dispatch!(self, policy => policy.judge(now, evidence))
    }

    fn found(&self) -> f64 {
        dispatch!(self, policy => policy.found())
    }
}
