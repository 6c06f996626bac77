//! Analysis of a rollout, as Argo Rollouts runs it: metrics that are measured again and again, and limits on what they may
//! find. A [`Run`] is one execution of it.
//!
//! Origin: argoproj/argo-rollouts 9f8d111d, `analysis/analysis.go` (`generateMetricTasks`, `runMeasurements`,
//! `asssessRunStatus`, `assessMetricStatus`, `assessMetricFailureInconclusiveOrError`, `calculateNextReconcileTime`) and
//! `pkg/apis/rollouts/v1alpha1/analysis_types.go` (`EffectiveCount`, defaults).

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::policies::judge::{AnyJudge, Evidence, Judge as _, JudgeSettings, Phase, Wanted};
use crate::time::{Duration, Time};

/// After an error, a metric without an interval is measured again after this long (`DefaultErrorRetryInterval`).
const ERROR_RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// What an analysis measures.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, remote = "Self")]
pub struct AnalysisSettings {
    /// All of them have to be successful.
    pub metrics: Vec<MetricSettings>,
}

impl<'de> Deserialize<'de> for AnalysisSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        if settings.metrics.is_empty() {
            return Err(D::Error::custom("an analysis needs a metric in `metrics`"));
        }
        Ok(settings)
    }
}

/// One metric of an analysis.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, remote = "Self")]
pub struct MetricSettings {
    /// Who makes a phase of what is measured.
    pub judge: JudgeSettings,
    /// Time from the end of one measurement to the next; without one there is one measurement.
    #[serde(default)]
    pub interval: Option<Duration>,
    /// Measurements until it is successful; with an interval and without a count it goes on until the analysis is ended.
    #[serde(default)]
    pub count: Option<u32>,
    /// Before the first measurement.
    #[serde(default)]
    pub initial_delay: Duration,
    /// Failed measurements that are forgiven; a negative number forgives all.
    #[serde(default)]
    pub failure_limit: i32,
    /// Inconclusive measurements that are forgiven.
    #[serde(default)]
    pub inconclusive_limit: i32,
    /// Errors in a row that are forgiven.
    #[serde(default = "four")]
    pub consecutive_error_limit: i32,
    /// So many successes in a row are enough; 0 asks for none.
    #[serde(default)]
    pub consecutive_success_limit: i32,
    /// It is measured and logged, and decides nothing.
    #[serde(default)]
    pub dry_run: bool,
}

const fn four() -> i32 {
    4
}

impl<'de> Deserialize<'de> for MetricSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        // `ValidateMetric` of upstream.
        let fault = if settings.count.is_some_and(|count| count > 1) && settings.interval.is_none() {
            "`interval` must be given when `count` is more than 1"
        } else if settings.interval == Some(Duration::ZERO) {
            "`interval` must be longer than nothing"
        } else if settings.inconclusive_limit < 0 || settings.consecutive_error_limit < 0 {
            "`inconclusive-limit` and `consecutive-error-limit` must not be negative"
        } else if settings.consecutive_success_limit < 0 {
            "`consecutive-success-limit` must not be negative"
        } else if settings.count.is_some_and(|count| i64::from(count) <= i64::from(settings.failure_limit)) {
            "`count` must be more than `failure-limit`"
        } else {
            return Ok(settings);
        };
        Err(D::Error::custom(fault))
    }
}

/// The limits of a metric, apart from who measures it and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Measurements that are needed, if a number is.
    pub count: Option<u32>,
    /// See [`MetricSettings`].
    pub failure: i32,
    /// See [`MetricSettings`].
    pub inconclusive: i32,
    /// See [`MetricSettings`].
    pub consecutive_error: i32,
    /// See [`MetricSettings`].
    pub consecutive_success: i32,
}

impl MetricSettings {
    /// Its limits (`EffectiveCount`: without count and interval there is one measurement).
    pub fn limits(&self) -> Limits {
        Limits {
            count: self.count.or_else(|| self.interval.is_none().then_some(1)),
            failure: self.failure_limit,
            inconclusive: self.inconclusive_limit,
            consecutive_error: self.consecutive_error_limit,
            consecutive_success: self.consecutive_success_limit,
        }
    }
}

/// What the measurements of a metric have found so far (`MetricResult`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Measurements that found something; errors do not count.
    pub count: u32,
    /// Failed ones.
    pub failed: i32,
    /// Inconclusive ones.
    pub inconclusive: i32,
    /// Errors since the last one that was none.
    pub consecutive_error: i32,
    /// Successes since the last one that was none.
    pub consecutive_success: i32,
    /// Whether anything was measured.
    pub measured: bool,
}

impl Tally {
    /// One more measurement.
    pub fn add(&mut self, phase: Phase) {
        self.measured = true;
        if phase == Phase::Error {
            self.consecutive_error += 1;
            self.consecutive_success = 0;
            return;
        }
        self.count += 1;
        self.consecutive_error = 0;
        match phase {
            Phase::Successful => self.consecutive_success += 1,
            Phase::Failed => (self.failed, self.consecutive_success) = (self.failed + 1, 0),
            _ => (self.inconclusive, self.consecutive_success) = (self.inconclusive + 1, 0),
        }
    }

    /// Phase of the metric (`assessMetricStatus`).
    pub fn assess(&self, limits: &Limits, terminating: bool) -> Phase {
        if !self.measured {
            return if terminating { Phase::Successful } else { Phase::Pending };
        }
        // Where several limits are passed, the last one is told.
        let mut phase = None;
        if limits.failure >= 0 && self.failed > limits.failure {
            phase = Some(Phase::Failed);
        }
        if self.inconclusive > limits.inconclusive {
            phase = Some(Phase::Inconclusive);
        }
        if self.consecutive_error > limits.consecutive_error {
            phase = Some(Phase::Error);
        }
        if let Some(phase) = phase {
            return phase;
        }
        let wants_successes = limits.consecutive_success > 0;
        if wants_successes && self.consecutive_success >= limits.consecutive_success {
            return Phase::Successful;
        }
        if limits.count.is_some_and(|count| self.count >= count) {
            return match (wants_successes, limits.failure >= 0) {
                (false, _) => Phase::Successful,
                (true, true) => Phase::Inconclusive,
                (true, false) => Phase::Failed,
            };
        }
        if terminating { Phase::Successful } else { Phase::Running }
    }
}

/// One metric of a run.
struct Metric {
    judge: AnyJudge,
    limits: Limits,
    interval: Option<Duration>,
    dry_run: bool,
    tally: Tally,
    phase: Phase,
    /// When it is measured next.
    next: Time,
}

/// An analysis that goes on or is over (`AnalysisRun`).
pub struct Run {
    started: Time,
    metrics: Vec<Metric>,
    phase: Phase,
}

impl Run {
    /// Starts now.
    pub fn new(settings: &AnalysisSettings, now: Time) -> Self {
        let metric = |settings: &MetricSettings| Metric {
            judge: settings.judge.build(now),
            limits: settings.limits(),
            interval: settings.interval,
            dry_run: settings.dry_run,
            tally: Tally::default(),
            phase: Phase::Pending,
            next: now + settings.initial_delay,
        };
        Self { started: now, metrics: settings.metrics.iter().map(metric).collect(), phase: Phase::Running }
    }

    /// Phase of the whole once all metrics are over: that of the worst one, dry ones aside.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Since when it goes on.
    pub const fn started(&self) -> Time {
        self.started
    }

    /// The metric that is to be measured now, and what its judge wants to see.
    pub fn due(&self, now: Time) -> Option<(usize, Wanted)> {
        if self.phase.completed() {
            return None;
        }
        let due = |metric: &Metric| !metric.phase.completed() && metric.next <= now;
        let at = self.metrics.iter().position(due)?;
        Some((at, self.metrics[at].judge.wants()))
    }

    /// When the next measurement is due.
    pub fn next_wakeup(&self) -> Option<Time> {
        if self.phase.completed() {
            return None;
        }
        self.metrics.iter().filter(|metric| !metric.phase.completed()).map(|metric| metric.next).min()
    }

    /// What a measurement saw; the answer is its phase and what the judge found.
    pub fn on_evidence(&mut self, now: Time, at: usize, evidence: &Evidence) -> (Phase, f64) {
        let metric = &mut self.metrics[at];
        let found = metric.judge.judge(now, evidence);
        metric.next = now + metric.interval.unwrap_or(ERROR_RETRY_INTERVAL);
        if found.completed() {
            metric.tally.add(found);
        }
        let told = (found, metric.judge.found());
        self.assess(false);
        told
    }

    /// Nobody needs it any more: what has not failed is successful.
    pub fn terminate(&mut self) {
        self.assess(true);
    }

    fn assess(&mut self, terminating: bool) {
        let mut terminating = terminating;
        // A metric that went wrong ends the others, at this reconciliation or the next one, which is the same instant.
        for _ in 0..2 {
            for metric in self.metrics.iter_mut().filter(|metric| !metric.phase.completed()) {
                metric.phase = metric.tally.assess(&metric.limits, terminating);
            }
            terminating |= self.metrics.iter().any(|metric| {
                let wrong = matches!(metric.phase, Phase::Failed | Phase::Error | Phase::Inconclusive);
                wrong && !metric.dry_run
            });
        }
        if self.metrics.iter().all(|metric| metric.phase.completed()) {
            let deciding = self.metrics.iter().filter(|metric| !metric.dry_run);
            self.phase = deciding.map(|metric| metric.phase).max().unwrap_or(Phase::Successful);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::judge::{Pair, Reading};

    fn run(settings: &str) -> Run {
        Run::new(&toml::from_str(settings).unwrap(), Time::ZERO)
    }

    fn errors(errors: u64) -> Evidence {
        let canary = Reading { requests: 100, errors, ..Reading::default() };
        Evidence { whole: Pair { canary, baseline: canary }, steps: Vec::new() }
    }

    const METRIC: &str = "judge.threshold = { metric = 'error-ratio', success.below = 0.05 }";

    #[test]
    fn measured_at_its_interval_until_the_count_is_reached() {
        let mut run =
            run(&format!("[[metrics]]\n{METRIC}\ninterval = '30s'\ncount = 2\ninitial-delay = '10s'"));
        assert_eq!(run.due(Time::from_secs(9)), None);
        assert_eq!(run.next_wakeup(), Some(Time::from_secs(10)));
        for at in [10, 41] {
            let now = Time::from_secs(at);
            let (metric, _) = run.due(now).unwrap();
            assert_eq!(run.phase(), Phase::Running);
            assert_eq!(run.on_evidence(now, metric, &errors(1)).0, Phase::Successful);
        }
        assert_eq!(run.phase(), Phase::Successful);
        assert_eq!(run.next_wakeup(), None);
    }

    #[test]
    fn the_worst_metric_decides_and_ends_the_others() {
        let text = format!(
            "[[metrics]]\n{METRIC}\ninterval = '30s'\n[[metrics]]\n{METRIC}\ninterval = '30s'\nfailure-limit = 3"
        );
        let mut run = run(&text);
        run.on_evidence(Time::ZERO, 1, &errors(90));
        assert_eq!(run.phase(), Phase::Running, "one of three is forgiven");
        run.on_evidence(Time::ZERO, 0, &errors(90));
        assert_eq!(run.phase(), Phase::Failed);
        assert_eq!(run.due(Time::from_secs(1000)), None);
    }

    #[test]
    fn a_dry_run_decides_nothing() {
        let mut run = run(&format!(
            "[[metrics]]\n{METRIC}\ndry-run = true\n[[metrics]]\n{METRIC}\ninterval = '30s'\ncount = 1"
        ));
        run.on_evidence(Time::ZERO, 0, &errors(90));
        assert_eq!(run.phase(), Phase::Running);
        run.on_evidence(Time::ZERO, 1, &errors(0));
        assert_eq!(run.phase(), Phase::Successful);
    }

    #[test]
    fn refused() {
        let read = |text: &str| toml::from_str::<AnalysisSettings>(text);
        for wrong in [
            "metrics = []".to_owned(),
            format!("[[metrics]]\n{METRIC}\ncount = 2"),
            format!("[[metrics]]\n{METRIC}\ncount = 2\ninterval = '1s'\nfailure-limit = 2"),
            format!("[[metrics]]\n{METRIC}\ninterval = '1s'\ninconclusive-limit = -1"),
        ] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
    }
}
