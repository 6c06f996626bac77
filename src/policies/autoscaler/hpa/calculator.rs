//! From the pods' samples to a proposal (upstream: `replica_calculator.go`, `metrics/utilization.go`).
//!
//! Upstream works on maps from pod names to samples; here one pass over the pods keeps the sums and counts that those
//! maps are reduced to, in the same integers, so that nothing is allocated.

use crate::policies::autoscaler::{Explain, Phase, Pod};
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
    /// The pod at this position has no CPU request.
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
    /// CPU in percent of the requests, truncated; only for a utilization target.
    pub utilization: Option<i64>,
    /// Mean CPU of the pods that have a usable sample, in thousandths of a core, truncated.
    pub usage: i64,
    /// Usage over target, from the usable samples alone.
    pub ratio: f64,
    /// The same with missing and unready pods filled in, where there are any that matter.
    pub adjusted_ratio: Option<f64>,
    /// Pods by group: ready, unready, missing, ignored.
    pub groups: [u32; 4],
}

impl Calculation {
    /// Reports every figure.
    pub fn explain(&self, explain: &mut dyn Explain) {
        let names = ["ready-pods", "unready-pods", "missing-pods", "ignored-pods"];
        for (name, pods) in names.into_iter().zip(self.groups) {
            explain.step(name, f64::from(pods));
        }
        if let Some(utilization) = self.utilization {
            explain.step("utilization", utilization as f64);
        }
        explain.step("usage-milli", self.usage as f64);
        explain.step("ratio", self.ratio);
        if let Some(ratio) = self.adjusted_ratio {
            explain.step("adjusted-ratio", ratio);
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
    /// The proposal for a CPU utilization target, in percent of the requests (upstream: `GetResourceReplicas`).
    ///
    /// `unlisted` are samples, in thousandths of a core, that the metrics API has of pods that are not in the list; they
    /// count as entries, but neither their usage nor a request enters the ratio.
    pub fn resource_replicas(
        &self,
        now: Time,
        current: u32,
        target_utilization: u32,
        pods: &[Pod],
        unlisted: &[i64],
    ) -> Result<Calculation, MetricError> {
        // On a scale-down a missing pod uses all of its request, or the target where that is more.
        let fallback = i64::from(target_utilization.max(100));
        let groups = self.usable(now, pods, unlisted)?;
        if let Some(pod) = pods.iter().position(|pod| pod.request_milli.is_none()) {
            return Err(MetricError::MissingRequest { pod });
        }
        // Upstream truncates pod by pod.
        let missing = pods.iter().filter(|pod| self.group(now, pod) == Group::Missing);
        let missing_usage = missing.map(|pod| pod.request_milli.unwrap_or(0) * fallback / 100).sum();

        let compare = |set: Pods| {
            if set.request_milli == 0 {
                return Err(MetricError::NoMatchingMetrics);
            }
            let utilization = set.usage_milli * 100 / set.request_milli;
            let usage_ratio = utilization as f64 / f64::from(target_utilization);
            let usage = set.usage_milli / i64::from(set.count);
            Ok(Comparison { usage_ratio, utilization: Some(utilization), usage })
        };
        self.decide(current, &groups, unlisted.len() as u32, missing_usage, compare)
    }

    /// The proposal for a target of CPU per pod, in thousandths of a core (upstream: `GetRawResourceReplicas` and
    /// `calcPlainMetricReplicas`). `unlisted` counts like any other sample.
    pub fn raw_resource_replicas(
        &self,
        now: Time,
        current: u32,
        target_milli: i64,
        pods: &[Pod],
        unlisted: &[i64],
    ) -> Result<Calculation, MetricError> {
        let groups = self.usable(now, pods, unlisted)?;
        // On a scale-down a missing pod uses exactly the target.
        let missing_usage = target_milli * i64::from(groups.missing.count);
        let (unlisted_usage, unlisted_count) = (unlisted.iter().sum::<i64>(), unlisted.len() as u32);
        let compare = |set: Pods| {
            let usage = (set.usage_milli + unlisted_usage) / i64::from(set.count + unlisted_count);
            Ok(Comparison { usage_ratio: usage as f64 / target_milli as f64, utilization: None, usage })
        };
        self.decide(current, &groups, unlisted_count, missing_usage, compare)
    }

    /// Groups the pods, if at least one sample is usable.
    fn usable(&self, now: Time, pods: &[Pod], unlisted: &[i64]) -> Result<Groups, MetricError> {
        if unlisted.is_empty() && pods.iter().all(|pod| pod.cpu.is_none()) {
            return Err(MetricError::NoMetrics);
        }
        if pods.is_empty() {
            return Err(MetricError::NoPods);
        }
        let groups = self.group_pods(now, pods);
        if groups.ready.count == 0 && unlisted.is_empty() {
            return Err(MetricError::NoUsableMetrics);
        }
        Ok(groups)
    }

    fn group_pods(&self, now: Time, pods: &[Pod]) -> Groups {
        let mut groups = Groups::default();
        for pod in pods {
            let request_milli = pod.request_milli.unwrap_or(0);
            match self.group(now, pod) {
                Group::Ignored => groups.ignored += 1,
                Group::Unready => groups.unready.add(0, request_milli),
                Group::Missing => groups.missing.add(0, request_milli),
                Group::Ready { milli } => groups.ready.add(milli, request_milli),
            }
        }
        groups
    }

    /// The group of one pod; the first match wins.
    fn group(&self, now: Time, pod: &Pod) -> Group {
        if pod.deleting || pod.phase == Phase::Failed {
            return Group::Ignored;
        }
        if pod.phase == Phase::Pending {
            return Group::Unready;
        }
        let Some(sample) = pod.cpu else { return Group::Missing };
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
            groups: [ready.count, unready.count, missing.count, ignored],
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

/// Rounded up, and bounded by the 32-bit integers upstream counts replicas in.
fn ceil(replicas: f64) -> u32 {
    replicas.ceil().clamp(0.0, f64::from(i32::MAX)) as u32
}
