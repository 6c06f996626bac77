//! `Rollout` and `AnalysisTemplate`, `argoproj.io/v1alpha1`.
//!
//! Origin: argoproj/argo-rollouts, `pkg/apis/rollouts/v1alpha1/types.go` and `analysis_types.go` (fields), defaults from
//! `utils/defaults/defaults.go`, bounds from `pkg/apis/rollouts/validation`; the newest fields are from its documentation.

use super::fields::{CountOrPercent, Fields, INT32};
use super::knative::nanoseconds;
use super::pod::PodTemplate;
use super::selector::Selector;
use super::yaml::Node;
use crate::scenario::error::{Diagnostic, Place, shortened};
use crate::time::Duration;

/// A Rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// How many pods (default 1); `None` if it is left to an autoscaler.
    pub replicas: Option<u32>,
    /// Seconds that a pod has to be ready to count as available (default 0).
    pub min_ready: u32,
    /// Seconds without progress after which it is late (default 600).
    pub progress_deadline: u32,
    /// Whether being late aborts (default false).
    pub progress_deadline_abort: bool,
    /// How a new version replaces the old one.
    pub strategy: Release,
    /// What runs; `None` if a Deployment says so.
    pub template: Option<PodTemplate>,
    /// The Deployment that says what runs.
    pub workload: Option<String>,
}

/// How a new version replaces the old one.
#[derive(Clone, Debug, PartialEq)]
pub enum Release {
    /// Step by step.
    Canary(CanaryRelease),
    /// Beside it, then at once.
    BlueGreen(BlueGreenRelease),
}

/// `strategy.canary`.
#[derive(Clone, Debug, PartialEq)]
pub struct CanaryRelease {
    /// One after the other.
    pub steps: Vec<CanaryStep>,
    /// Weight that is all traffic, if a router divides it.
    pub max_weight: Option<u32>,
    /// Pods above the wanted number (default 25 %).
    pub max_surge: CountOrPercent,
    /// Pods that may be missing (default 25 %).
    pub max_unavailable: CountOrPercent,
    /// In the background, from a step on.
    pub analysis: Option<(Analyses, u32)>,
    /// Whether the stable version shrinks with its traffic.
    pub dynamic_stable_scale: bool,
    /// Fewest pods of a version that has any.
    pub min_pods: Option<u32>,
    /// Seconds that the old version stays.
    pub scale_down_delay: Option<u32>,
    /// Seconds that the new version stays after an abort; 0 is for ever.
    pub abort_scale_down_delay: Option<u32>,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum CanaryStep {
    /// `setWeight`.
    SetWeight(u32),
    /// `pause`; without a length until somebody promotes.
    Pause(Option<Duration>),
    /// `setCanaryScale` to so many pods.
    Replicas(u32),
    /// `setCanaryScale` as for a weight.
    Weight(u32),
    /// `setCanaryScale` as for the traffic.
    MatchTraffic,
    /// `analysis`.
    Analysis(Analyses),
}

/// `strategy.blueGreen`.
#[derive(Clone, Debug, PartialEq)]
pub struct BlueGreenRelease {
    /// Pods before the promotion; `None` is all.
    pub preview_replicas: Option<u32>,
    /// Whether it promotes without being asked (default true).
    pub auto_promotion: bool,
    /// Seconds until it does.
    pub auto_promotion_seconds: Option<u32>,
    /// Seconds that the old version stays.
    pub scale_down_delay: Option<u32>,
    /// Seconds that the new version stays after an abort; 0 is for ever.
    pub abort_scale_down_delay: Option<u32>,
    /// Before the promotion.
    pub pre_promotion: Option<Analyses>,
    /// After it.
    pub post_promotion: Option<Analyses>,
}

/// Which templates make an analysis.
#[derive(Clone, Debug, PartialEq)]
pub struct Analyses {
    /// Names of templates, and where they stand.
    pub templates: Vec<(String, Place)>,
    /// What is put into them.
    pub args: Vec<(String, String)>,
    /// Names of metrics that decide nothing; `*` is all.
    pub dry_run: Vec<String>,
}

/// An `AnalysisTemplate`.
#[derive(Clone, Debug, PartialEq)]
pub struct AnalysisTemplate {
    /// At least one.
    pub metrics: Vec<Measured>,
    /// Arguments with their defaults.
    pub args: Vec<(String, String)>,
    /// Names of metrics that decide nothing; `*` is all.
    pub dry_run: Vec<String>,
}

/// One metric of an analysis.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// Where it is written.
    pub place: Place,
    /// Between measurements.
    pub interval: Option<Duration>,
    /// Before the first.
    pub initial_delay: Option<Duration>,
    /// How many.
    pub count: Option<u32>,
    /// It is good if this holds.
    pub success: Option<(String, Place)>,
    /// It is bad if this holds.
    pub failure: Option<(String, Place)>,
    /// Failures that are forgiven (default 0); negative: all.
    pub failure_limit: i64,
    /// Inconclusive measurements that are forgiven (default 0).
    pub inconclusive_limit: i64,
    /// Errors in a row that are forgiven (default 4).
    pub consecutive_error_limit: i64,
    /// Successes in a row that are enough (default 0: not asked for).
    pub consecutive_success_limit: i64,
    /// How far back its query looks: the first range in it, `[5m]`.
    pub range: Option<Duration>,
}

const QUARTER: CountOrPercent = CountOrPercent::Percent(25);

impl Rollout {
    /// The `spec`.
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.need(&["strategy"]);
        let replicas = fields.count("replicas");
        let min_ready = fields.count("minReadySeconds").unwrap_or(0);
        let progress_deadline = fields.count("progressDeadlineSeconds").unwrap_or(600);
        let progress_deadline_abort = fields.boolean("progressDeadlineAbort").unwrap_or(false);
        fields.no_effect(&["analysis", "paused", "restartAt", "revisionHistoryLimit", "rollbackWindow"]);
        let selector = fields.object("selector", Selector::read);
        let template = fields.object("template", PodTemplate::read);
        let workload = fields.object("workloadRef", |fields| {
            fields.need(&["name"]);
            fields.no_effect(&["scaleDown"]);
            fields.silent(&["apiVersion", "kind"]);
            fields.name("name")
        });
        if fields.has("template") == fields.has("workloadRef") {
            let error = Diagnostic::new("a Rollout has either `template` or `workloadRef`").at(fields.place);
            fields.error(error);
        }
        if let (Some(selector), Some(template)) = (&selector, &template)
            && !selector.matches(&template.labels)
        {
            fields.refuse("selector", "`spec.selector` does not match the labels of `spec.template`");
        }
        if progress_deadline <= min_ready {
            let message = format!(
                "`progressDeadlineSeconds` ({progress_deadline}) must be greater than `minReadySeconds` ({min_ready})"
            );
            let which = ["progressDeadlineSeconds", "minReadySeconds"];
            fields.refuse(which.into_iter().find(|name| fields.has(name)).unwrap_or_default(), message);
        }
        let strategy = fields.object("strategy", |fields| {
            if fields.has("canary") == fields.has("blueGreen") {
                let error =
                    Diagnostic::new("the strategy is either `canary` or `blueGreen`").at(fields.place);
                fields.error(error);
            }
            let canary = fields.object("canary", CanaryRelease::read).map(Release::Canary);
            fields.object("blueGreen", BlueGreenRelease::read).map(Release::BlueGreen).or(canary)
        });
        Some(Self {
            replicas,
            min_ready,
            progress_deadline,
            progress_deadline_abort,
            strategy: strategy?,
            template,
            workload,
        })
    }
}

impl CanaryRelease {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let max_weight = fields.object("trafficRouting", |fields| {
            let weight = fields.positive("maxTrafficWeight").unwrap_or(100);
            let routers =
                ["alb", "ambassador", "apisix", "appMesh", "istio", "nginx", "plugins", "smi", "traefik"];
            fields.silent(&routers);
            fields.no_effect(&["managedRoutes"]);
            Some(weight)
        });
        let routed = fields.has("trafficRouting");
        let steps =
            fields.list("steps", |fields| CanaryStep::read(fields, routed, max_weight.unwrap_or(100)));
        let max_surge = fields.count_or_percent("maxSurge", true);
        let max_unavailable = fields.count_or_percent("maxUnavailable", false);
        let zero = |value| matches!(value, CountOrPercent::Count(0) | CountOrPercent::Percent(0));
        let (max_surge, max_unavailable) = (max_surge.unwrap_or(QUARTER), max_unavailable.unwrap_or(QUARTER));
        if zero(max_surge) && zero(max_unavailable) {
            fields.refuse("maxUnavailable", "`maxUnavailable` may not be 0 when `maxSurge` is 0");
        }
        let count = steps.as_ref().map_or(0, Vec::len);
        let analysis = fields.object("analysis", |fields| {
            let starting_step = fields.count("startingStep").unwrap_or(0);
            if starting_step > 0 && starting_step as usize >= count {
                fields.refuse("startingStep", format!("`startingStep` is beyond the {count} steps"));
            }
            Analyses::read(fields).map(|analyses| (analyses, starting_step))
        });
        let dynamic_stable_scale = fields.boolean("dynamicStableScale").unwrap_or(false);
        if dynamic_stable_scale && !routed {
            fields.refuse("dynamicStableScale", "`dynamicStableScale` needs `trafficRouting`");
        }
        fields.silent(&["canaryService", "stableService", "pingPong", "canaryMetadata", "stableMetadata"]);
        fields.no_effect(&["antiAffinity", "scaleDownDelayRevisionLimit"]);
        Some(Self {
            steps: steps.unwrap_or_default(),
            max_weight,
            max_surge,
            max_unavailable,
            analysis,
            dynamic_stable_scale,
            min_pods: fields.positive("minPodsPerReplicaSet"),
            scale_down_delay: fields.count("scaleDownDelaySeconds"),
            abort_scale_down_delay: fields.count("abortScaleDownDelaySeconds"),
        })
    }
}

impl CanaryStep {
    fn read(fields: &mut Fields<'_>, routed: bool, most: u32) -> Option<Self> {
        const STEPS: [&str; 8] = [
            "setWeight",
            "pause",
            "setCanaryScale",
            "analysis",
            "experiment",
            "setHeaderRoute",
            "setMirrorRoute",
            "plugin",
        ];
        let written: Vec<&str> = STEPS.into_iter().filter(|step| fields.has(step)).collect();
        let weight =
            fields.integer("setWeight", 0..=i64::from(most)).map(|weight| Self::SetWeight(weight as u32));
        // `pause: {}` without anything in it is a pause without end.
        let pause = fields.object("pause", |fields| {
            Some(Self::Pause(fields.get("duration", |node, name| {
                let parsed = node.scalar().and_then(pause_length);
                parsed.ok_or_else(|| wrong_duration(node, name))
            })))
        });
        let scale = fields.object("setCanaryScale", |fields| {
            let replicas = fields.count("replicas").map(Self::Replicas);
            let weight =
                fields.integer("weight", 0..=i64::from(most)).map(|weight| Self::Weight(weight as u32));
            let matches = fields.boolean("matchTrafficWeight").filter(|matches| *matches);
            let given = [replicas.clone(), weight, matches.map(|_| Self::MatchTraffic)];
            let mut given = given.into_iter().flatten();
            let first = given.next();
            if first.is_none() || given.next().is_some() {
                let message = "`setCanaryScale` has one of `replicas`, `weight` and `matchTrafficWeight`";
                fields.error(Diagnostic::new(message).at(fields.place));
            }
            first
        });
        if fields.has("setCanaryScale") && !routed {
            fields.refuse("setCanaryScale", "`setCanaryScale` needs `trafficRouting`");
        }
        let analysis = fields.object("analysis", |fields| Analyses::read(fields).map(Self::Analysis));
        for other in ["experiment", "setHeaderRoute", "setMirrorRoute", "plugin"] {
            if fields.has(other) {
                fields.refuse(other, format!("a step `{other}` is not simulated"));
            }
        }
        fields.silent(&["experiment", "setHeaderRoute", "setMirrorRoute", "plugin"]);
        fields.no_effect(&["replicaProgressThreshold"]);
        if written.len() > 1 {
            let error = Diagnostic::new(format!("a step has one of them: {}", written.join(", ")));
            fields.error(error.at(fields.place));
        }
        let step = weight.or(pause).or(scale).or(analysis);
        if step.is_none() && written.is_empty() {
            fields.error(Diagnostic::new("this step does nothing").at(fields.place));
        }
        step
    }
}

impl BlueGreenRelease {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.need(&["activeService"]);
        fields.silent(&["activeService", "previewService", "activeMetadata", "previewMetadata"]);
        fields.no_effect(&["antiAffinity", "maxUnavailable", "scaleDownDelayRevisionLimit"]);
        Some(Self {
            preview_replicas: fields.positive("previewReplicaCount"),
            auto_promotion: fields.boolean("autoPromotionEnabled").unwrap_or(true),
            // 0 is as good as nothing.
            auto_promotion_seconds: fields.count("autoPromotionSeconds").filter(|seconds| *seconds > 0),
            scale_down_delay: fields.count("scaleDownDelaySeconds"),
            abort_scale_down_delay: fields.count("abortScaleDownDelaySeconds"),
            pre_promotion: fields.object("prePromotionAnalysis", Analyses::read),
            post_promotion: fields.object("postPromotionAnalysis", Analyses::read),
        })
    }
}

impl Analyses {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.need(&["templates"]);
        let templates = fields.filled_list("templates", |fields| {
            fields.need(&["templateName"]);
            fields.silent(&["clusterScope"]);
            let place = fields.value_place("templateName").unwrap_or(fields.place);
            Some((fields.name("templateName")?, place))
        });
        let args = args(fields);
        let dry_run = dry_run(fields);
        fields.no_effect(&["analysisRunMetadata", "measurementRetention"]);
        Some(Self { templates: templates?, args, dry_run })
    }
}

/// Arguments that are written down; what is read from elsewhere in the cluster is not known here.
fn args(fields: &mut Fields<'_>) -> Vec<(String, String)> {
    let read = fields.list("args", |fields| {
        fields.need(&["name"]);
        fields.silent(&["valueFrom"]);
        Some((fields.name("name")?, fields.text("value")))
    });
    let given = |(name, value): (String, Option<String>)| value.map(|value| (name, value));
    read.unwrap_or_default().into_iter().filter_map(given).collect()
}

fn dry_run(fields: &mut Fields<'_>) -> Vec<String> {
    let read = fields.list("dryRun", |fields| {
        fields.need(&["metricName"]);
        fields.name("metricName")
    });
    read.unwrap_or_default()
}

impl AnalysisTemplate {
    /// The `spec`.
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.need(&["metrics"]);
        let metrics = fields.filled_list("metrics", Measured::read);
        let (args, dry_run) = (args(fields), dry_run(fields));
        fields.no_effect(&["measurementRetention"]);
        if fields.has("templates") {
            fields.refuse("templates", "a template that is made of others is not read");
        }
        fields.silent(&["templates"]);
        Some(Self { metrics: metrics?, args, dry_run })
    }
}

impl Measured {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.need(&["name", "provider"]);
        let place = fields.value_place("name").unwrap_or(fields.place);
        let name = fields.name("name");
        let (interval, initial_delay) = (duration(fields, "interval"), duration(fields, "initialDelay"));
        let condition = |fields: &mut Fields<'_>, name: &'static str| {
            let place = fields.value_place(name)?;
            // Multi-line expressions end with a line break.
            Some((fields.text(name)?.trim().to_owned(), place)).filter(|(text, _)| !text.is_empty())
        };
        let success = condition(fields, "successCondition");
        let failure = condition(fields, "failureCondition");
        let count = number(fields, "count", 0).filter(|count| *count > 0).map(|count| count as u32);
        let failure_limit = number(fields, "failureLimit", -INT32).unwrap_or(0);
        let inconclusive_limit = number(fields, "inconclusiveLimit", 0).unwrap_or(0);
        let consecutive_error_limit = number(fields, "consecutiveErrorLimit", 0).unwrap_or(4);
        let consecutive_success_limit = number(fields, "consecutiveSuccessLimit", 0).unwrap_or(0);
        let query = fields.object("provider", |fields| {
            let query = fields.peek("prometheus", "query").map(str::to_owned);
            fields.anything();
            Some(query)
        });
        if count.is_some_and(|count| count > 1) && interval.is_none() {
            fields.refuse("count", "`interval` must be given when `count` is more than 1");
        }
        if count.is_some_and(|count| i64::from(count) <= failure_limit) {
            fields.refuse("failureLimit", "`count` must be more than `failureLimit`");
        }
        Some(Self {
            name: name?,
            place,
            interval,
            initial_delay,
            count,
            success,
            failure,
            failure_limit,
            inconclusive_limit,
            consecutive_error_limit,
            consecutive_success_limit,
            range: query.flatten().as_deref().and_then(range),
        })
    }
}

/// A whole number, which may stand in quotes (`intstr.IntOrString`).
fn number(fields: &mut Fields<'_>, name: &'static str, least: i64) -> Option<i64> {
    fields.get(name, |node, name| {
        let parsed = node.scalar().and_then(|text| text.parse::<i64>().ok());
        let found = parsed.filter(|number| (least..=INT32).contains(number));
        found.ok_or_else(|| {
            let text =
                node.scalar().map_or_else(|| node.kind().to_owned(), |text| format!("`{}`", shortened(text)));
            Diagnostic::new(format!("`{name}` is a whole number of at least {least}, not {text}"))
        })
    })
}

/// A duration of Go: `1m30s`.
fn duration(fields: &mut Fields<'_>, name: &'static str) -> Option<Duration> {
    fields.get(name, |node, name| {
        let parsed = node.scalar().and_then(go_duration);
        parsed.filter(|length| *length > Duration::ZERO).ok_or_else(|| wrong_duration(node, name))
    })
}

/// See [`duration`]; for Flagger, too.
pub(super) fn go_duration(text: &str) -> Option<Duration> {
    u64::try_from(nanoseconds(text)?).ok().map(Duration)
}

pub(super) fn wrong_duration(node: &Node, name: &str) -> Diagnostic {
    let text = node.scalar().map_or_else(|| node.kind().to_owned(), |text| format!("`{}`", shortened(text)));
    Diagnostic::new(format!("`{name}` is a duration such as 30s, 5m or 1h30m, not {text}"))
}

/// Seconds, or a duration of Go (`RolloutPause.DurationSeconds`).
fn pause_length(text: &str) -> Option<Duration> {
    match text.parse::<u32>() {
        Ok(seconds) => Some(Duration::from_secs(seconds.into())),
        Err(_) => go_duration(text),
    }
}

/// The first range of a query of Prometheus: `[5m]`.
fn range(query: &str) -> Option<Duration> {
    let inside = |part: &str| part.split([']', ':']).next().and_then(go_duration);
    query.split('[').skip(1).find_map(inside).filter(|length| *length > Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        let seconds = |text| pause_length(text).map(|length| length.0 / 1_000_000_000);
        assert_eq!(
            ["10", "1h", "1m30s", "-1", "soon", "-5s"].map(seconds),
            [Some(10), Some(3600), Some(90), None, None, None]
        );
        let query = "sum(rate(x{a=~\"[a-z]\"}[5m])) / sum(rate(x[1h]))";
        assert_eq!(range(query), Some(Duration::from_secs(300)));
    }
}
