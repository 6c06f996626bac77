//! From the pods' samples to a proposal (upstream: `replica_calculator.go`, `metrics/utilization.go`).
//!
//! Upstream works on maps from pod names to samples; here one pass over the pods keeps the sums and counts that those
//! maps are reduced to, in the same integers, so that nothing is allocated.

use crate::policies::autoscaler::{Explain, Phase, Pod, PodReading};
use crate::time::{Duration, Time};

/// How far from 1 a ratio may lie without any effect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerances {
    /// Above 1, as a fraction.
    pub up: f64,
    /// Below 1, as a fraction.
    pub down: f64,
    /// Which floating-point form the test has.
    pub form: ToleranceForm,
}

/// The two forms differ only where a ratio lies exactly on the bound, which integers divided by integers often do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToleranceForm {
    /// `1 - down <= ratio <= 1 + up`, from 1.33 on.
    Range,
    /// `|1 - ratio| <= tolerance`, with one tolerance for both directions (`up` and `down` are equal).
    Distance,
}

impl Tolerances {
    fn is_within(self, usage_ratio: f64) -> bool {
        match self.form {
            ToleranceForm::Range => (1.0 - self.down) <= usage_ratio && usage_ratio <= (1.0 + self.up),
            ToleranceForm::Distance => (1.0 - usage_ratio).abs() <= self.up,
        }
    }
}

/// Why there is no proposal, in the order in which the reasons are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricError {
    /// The metrics API knows no sample of any pod.
    NoMetrics,
    /// The selector matches no pod.
    NoPods,
    /// Every sample belongs to a pod that is ignored or not ready.
    NoUsableMetrics,
    /// The pod at this position has no request for the resource.
    MissingRequest {
        /// Position in the list of pods.
        pod: usize,
    },
    /// No sample belongs to a pod with a request, or all requests are zero.
    NoMatchingMetrics,
}

impl MetricError {
    /// A short name for charts and logs.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::NoMetrics => "no-metrics",
            Self::NoPods => "no-pods",
            Self::NoUsableMetrics => "no-usable-metrics",
            Self::MissingRequest { .. } => "missing-request",
            Self::NoMatchingMetrics => "no-matching-metrics",
        }
    }
}

/// A proposal and how it came about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calculation {
    /// Proposed replicas.
    pub replicas: u32,
    /// Usage in percent of the requests, truncated; only for a utilization target.
    pub utilization: Option<i64>,
    /// What the status shows, in thousandths: the mean over the pods that have a usable sample, truncated; the value of
    /// an object or of all series; or that value for each replica, rounded up.
    pub usage: i64,
    /// Usage over target, from the usable samples alone.
    pub ratio: f64,
    /// The same with missing and unready pods filled in, where there are any that matter.
    pub adjusted_ratio: Option<f64>,
    /// The ratio that decides lies within the tolerance, so nothing is to change.
    pub tolerated: bool,
    /// Pods by group: ready, unready, missing, ignored; `None` where pods are not measured.
    pub groups: Option<[u32; 4]>,
}

impl Calculation {
    /// Reports every figure.
    pub fn explain(&self, explain: &mut dyn Explain) {
        let names = ["ready-pods", "unready-pods", "missing-pods", "ignored-pods"];
        for (name, pods) in names.into_iter().zip(self.groups.into_iter().flatten()) {
            explain.step(name, f64::from(pods));
        }
        if let Some(utilization) = self.utilization {
            explain.step("utilization", utilization as f64);
        }
        explain.step("usage-milli", self.usage as f64);
        // Upstream divides by the number of pods even if there is none; the proposal stands all the same.
        if self.ratio.is_finite() {
            explain.step("ratio", self.ratio);
        }
        if let Some(ratio) = self.adjusted_ratio {
            explain.step("adjusted-ratio", ratio);
        }
        if self.tolerated {
            explain.step("within-tolerance", 1.0);
        }
        explain.step("proposal", f64::from(self.replicas));
    }
}

/// Some pods, reduced to what the ratios need.
#[derive(Clone, Copy, Debug, Default)]
struct Pods {
    count: u32,
    usage_milli: i64,
    request_milli: i64,
}

impl Pods {
    fn add(&mut self, usage_milli: i64, request_milli: i64) {
        self.count += 1;
        self.usage_milli += usage_milli;
        self.request_milli += request_milli;
    }

    /// These and `others`, who use `usage_milli` in all.
    fn joined(self, others: Self, usage_milli: i64) -> Self {
        Self {
            count: self.count + others.count,
            usage_milli: self.usage_milli + usage_milli,
            request_milli: self.request_milli + others.request_milli,
        }
    }
}

/// The pods of the selector, grouped (upstream: `groupPods`).
#[derive(Clone, Copy, Debug, Default)]
struct Groups {
    ready: Pods,
    unready: Pods,
    missing: Pods,
    ignored: u32,
}

/// What was measured of the pods: one metric.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    /// The pods of the selector.
    pub pods: &'a [Pod],
    /// The metric of each.
    pub readings: &'a [PodReading],
    /// It is CPU, whose samples say little about a pod that is starting.
    pub is_cpu: bool,
    /// Samples, in thousandths, that the metrics API has of pods that are not in the list.
    pub unlisted: &'a [i64],
}

impl Measured<'_> {
    fn each(&self) -> impl Iterator<Item = (&Pod, &PodReading)> {
        self.pods.iter().zip(self.readings)
    }
}

/// Turns samples into a number of replicas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReplicaCalculator {
    /// After its start, the time in which a pod's samples are taken with care.
    pub cpu_initialization_period: Duration,
    /// A pod that turned not ready within this time after its start was never ready.
    pub initial_readiness_delay: Duration,
    /// When to leave things as they are.
    pub tolerances: Tolerances,
}

/// One set of samples against the target, with the figures that go into the status.
struct Comparison {
    usage_ratio: f64,
    utilization: Option<i64>,
    usage: i64,
}

impl ReplicaCalculator {
    /// The proposal for a utilization target, in percent of the requests (upstream: `GetResourceReplicas`). Samples of
    /// unlisted pods count as entries, but neither their usage nor a request enters the ratio.
    pub fn resource_replicas(
        &self,
        now: Time,
        current: u32,
        target_utilization: u32,
        measured: &Measured<'_>,
    ) -> Result<Calculation, MetricError> {
        // On a scale-down a missing pod uses all of its request, or the target where that is more.
        let fallback = i64::from(target_utilization.max(100));
        let groups = self.usable(now, measured)?;
        if let Some(pod) = measured.readings.iter().position(|reading| reading.request_milli.is_none()) {
            return Err(MetricError::MissingRequest { pod });
        }
        // Upstream truncates pod by pod.
        let missing = measured
            .each()
            .filter(|(pod, reading)| self.group(now, pod, reading, measured.is_cpu) == Group::Missing);
        let missing_usage =
            missing.map(|(_, reading)| reading.request_milli.unwrap_or(0) * fallback / 100).sum();

        let compare = |set: Pods| {
            if set.request_milli == 0 {
                return Err(MetricError::NoMatchingMetrics);
            }
            let utilization = set.usage_milli * 100 / set.request_milli;
            let usage_ratio = utilization as f64 / f64::from(target_utilization);
            let usage = set.usage_milli / i64::from(set.count);
            Ok(Comparison { usage_ratio, utilization: Some(utilization), usage })
        };
        self.decide(current, &groups, measured.unlisted.len() as u32, missing_usage, compare)
    }

    /// The proposal for a target for each pod, in thousandths (upstream: `GetRawResourceReplicas`, `GetMetricReplicas`
    /// and `calcPlainMetricReplicas`). Samples of unlisted pods count like any other.
    pub fn plain_replicas(
        &self,
        now: Time,
        current: u32,
        target_milli: i64,
        measured: &Measured<'_>,
    ) -> Result<Calculation, MetricError> {
        let groups = self.usable(now, measured)?;
        // On a scale-down a missing pod uses exactly the target.
        let missing_usage = target_milli * i64::from(groups.missing.count);
        let unlisted = measured.unlisted;
        let (unlisted_usage, unlisted_count) = (unlisted.iter().sum::<i64>(), unlisted.len() as u32);
        let compare = |set: Pods| {
            let usage = (set.usage_milli + unlisted_usage) / i64::from(set.count + unlisted_count);
            Ok(Comparison { usage_ratio: usage as f64 / target_milli as f64, utilization: None, usage })
        };
        self.decide(current, &groups, unlisted_count, missing_usage, compare)
    }

    /// The proposal for a target of a whole, such as the rate at an ingress (upstream: `GetObjectMetricReplicas`,
    /// `GetExternalMetricReplicas`, `getUsageRatioReplicaCount`). Several series add up.
    pub fn value_replicas(
        &self,
        current: u32,
        target_milli: i64,
        series: &[i64],
        pods: &[Pod],
    ) -> Result<Calculation, MetricError> {
        let usage = total(series);
        let ratio = usage as f64 / target_milli as f64;
        let replicas = if current == 0 {
            ceil(ratio)
        } else if self.tolerances.is_within(ratio) {
            current
        } else if pods.is_empty() {
            return Err(MetricError::NoPods);
        } else {
            let ready = pods
                .iter()
                .filter(|pod| pod.phase == Phase::Running && pod.ready.is_some_and(|(ready, _)| ready));
            ceil(ratio * ready.count() as f64)
        };
        let tolerated = current != 0 && self.tolerances.is_within(ratio);
        Ok(Calculation {
            replicas,
            utilization: None,
            usage,
            ratio,
            adjusted_ratio: None,
            tolerated,
            groups: None,
        })
    }

    /// The proposal for a target of a whole that each replica is to have its share of (upstream:
    /// `GetObjectPerPodMetricReplicas`, `GetExternalPerPodMetricReplicas`). `existing` is `status.replicas`.
    pub fn share_replicas(&self, existing: u32, target_milli: i64, series: &[i64]) -> Calculation {
        let usage = total(series);
        let ratio = usage as f64 / (target_milli as f64 * f64::from(existing));
        let tolerated = self.tolerances.is_within(ratio);
        let replicas = if tolerated { existing } else { ceil(usage as f64 / target_milli as f64) };
        // Upstream divides by zero replicas, too; what its status then shows helps nobody.
        let usage = (usage as f64 / f64::from(existing.max(1))).ceil() as i64;
        Calculation {
            replicas,
            utilization: None,
            usage,
            ratio,
            adjusted_ratio: None,
            tolerated,
            groups: None,
        }
    }

    /// Groups the pods, if at least one sample is usable.
    fn usable(&self, now: Time, measured: &Measured<'_>) -> Result<Groups, MetricError> {
        let Measured { pods, readings, unlisted, .. } = measured;
        if unlisted.is_empty() && readings.iter().all(|reading| reading.sample.is_none()) {
            return Err(MetricError::NoMetrics);
        }
        if pods.is_empty() {
            return Err(MetricError::NoPods);
        }
        let groups = self.group_pods(now, measured);
        if groups.ready.count == 0 && unlisted.is_empty() {
            return Err(MetricError::NoUsableMetrics);
        }
        Ok(groups)
    }

    fn group_pods(&self, now: Time, measured: &Measured<'_>) -> Groups {
        let mut groups = Groups::default();
        for (pod, reading) in measured.each() {
            let request_milli = reading.request_milli.unwrap_or(0);
            match self.group(now, pod, reading, measured.is_cpu) {
                Group::Ignored => groups.ignored += 1,
                Group::Unready => groups.unready.add(0, request_milli),
                Group::Missing => groups.missing.add(0, request_milli),
                Group::Ready { milli } => groups.ready.add(milli, request_milli),
            }
        }
        groups
    }

    /// The group of one pod; the first match wins.
    fn group(&self, now: Time, pod: &Pod, reading: &PodReading, is_cpu: bool) -> Group {
        if pod.deleting || pod.phase == Phase::Failed {
            return Group::Ignored;
        }
        if pod.phase == Phase::Pending {
            return Group::Unready;
        }
        let Some(sample) = reading.sample else { return Group::Missing };
        if !is_cpu {
            return Group::Ready { milli: sample.milli };
        }
        let (Some((ready, transition)), Some(started)) = (pod.ready, pod.started) else {
            return Group::Unready;
        };
        let unready = if started + self.cpu_initialization_period > now {
            // May still be starting up: not ready, or the sample's window reaches back to before it was ready.
            !ready || sample.at < transition + sample.window
        } else {
            // Not ready, and it never was.
            !ready && started + self.initial_readiness_delay > transition
        };
        if unready { Group::Unready } else { Group::Ready { milli: sample.milli } }
    }

    /// What both kinds of target share: the ratio, then the ratio with the pods that could not be measured filled in
    /// so that they dampen the change.
    fn decide(
        &self,
        current: u32,
        groups: &Groups,
        unlisted: u32,
        missing_usage: i64,
        compare: impl Fn(Pods) -> Result<Comparison, MetricError>,
    ) -> Result<Calculation, MetricError> {
        let Groups { ready, unready, missing, ignored } = *groups;
        let Comparison { usage_ratio, utilization, usage } = compare(ready)?;
        let calculation = |replicas, adjusted_ratio| Calculation {
            replicas,
            utilization,
            usage,
            ratio: usage_ratio,
            adjusted_ratio,
            tolerated: self.tolerances.is_within(adjusted_ratio.unwrap_or(usage_ratio)),
            groups: Some([ready.count, unready.count, missing.count, ignored]),
        };

        let scale_up_with_unready = unready.count > 0 && usage_ratio > 1.0;
        if !scale_up_with_unready && missing.count == 0 {
            if self.tolerances.is_within(usage_ratio) {
                return Ok(calculation(current, None));
            }
            // By the pods that were measured, not by `current`.
            return Ok(calculation(ceil(usage_ratio * f64::from(ready.count)), None));
        }

        let mut metrics = ready;
        if usage_ratio < 1.0 {
            metrics = metrics.joined(missing, missing_usage);
        } else if usage_ratio > 1.0 {
            metrics = metrics.joined(missing, 0);
        }
        if scale_up_with_unready {
            metrics = metrics.joined(unready, 0);
        }
        let new_usage_ratio = compare(metrics)?.usage_ratio;
        let calculation = |replicas| calculation(replicas, Some(new_usage_ratio));
        if self.tolerances.is_within(new_usage_ratio)
            || (usage_ratio < 1.0 && new_usage_ratio > 1.0)
            || (usage_ratio > 1.0 && new_usage_ratio < 1.0)
        {
            return Ok(calculation(current));
        }
        let new_replicas = ceil(new_usage_ratio * f64::from(metrics.count + unlisted));
        if (new_usage_ratio < 1.0 && new_replicas > current)
            || (new_usage_ratio > 1.0 && new_replicas < current)
        {
            return Ok(calculation(current));
        }
        Ok(calculation(new_replicas))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    /// Never counts.
    Ignored,
    /// Counts as idle on a scale-up.
    Unready,
    /// Counts as busy on a scale-down, as idle on a scale-up.
    Missing,
    /// Counts with its sample.
    Ready { milli: i64 },
}

/// Series add up; more than 64 bits stay at the bound.
fn total(series: &[i64]) -> i64 {
    series.iter().fold(0, |sum: i64, value| sum.saturating_add(*value))
}

/// Rounded up, and bounded by the 32-bit integers upstream counts replicas in.
fn ceil(replicas: f64) -> u32 {
    replicas.ceil().clamp(0.0, f64::from(i32::MAX)) as u32
}
