//! `Canary` of Flagger, `flagger.app/v1beta1`.
//!
//! Origin: fluxcd/flagger, `pkg/apis/flagger/v1beta1/canary.go` (fields, defaults, `GetAnalysisInterval`); the newest fields
//! are from its documentation.

use super::argo::{go_duration, wrong_duration};
use super::fields::Fields;
use crate::scenario::error::{Diagnostic, Place};
use crate::time::Duration;

/// A Canary.
#[derive(Clone, Debug, PartialEq)]
pub struct FlaggerCanary {
    /// The workload that it watches.
    pub target: String,
    /// Seconds (default 600).
    pub progress_deadline: u32,
    /// Between ticks (default 60 s, at least 10 s).
    pub interval: Duration,
    /// Failed checks until it goes back (default 1).
    pub threshold: u32,
    /// How much the weight goes up.
    pub step_weight: u32,
    /// The weights, one after the other.
    pub step_weights: Vec<u32>,
    /// Largest weight; 0 is the total.
    pub max_weight: u32,
    /// How much goes back per tick after the promotion; 0: all.
    pub step_weight_promotion: u32,
    /// Ticks of a blue/green rollout; 0 is a canary.
    pub iterations: u32,
    /// One tick of copies first.
    pub mirror: bool,
    /// The checks.
    pub metrics: Vec<FlaggerMetric>,
}

/// One check.
#[derive(Clone, Debug, PartialEq)]
pub struct FlaggerMetric {
    /// `request-success-rate`, `request-duration`, or of a template.
    pub name: String,
    /// Where it is written.
    pub place: Place,
    /// Its window (default 1 min).
    pub interval: Duration,
    /// Not less than this.
    pub min: Option<f64>,
    /// Not more than this.
    pub max: Option<f64>,
}

impl FlaggerCanary {
    /// The `spec`.
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.need(&["targetRef", "service"]);
        let target = fields.object("targetRef", |fields| {
            fields.need(&["name"]);
            fields.silent(&["apiVersion", "kind", "namespace"]);
            fields.name("name")
        });
        let progress_deadline = fields.count("progressDeadlineSeconds").unwrap_or(600);
        fields.no_effect(&[
            "autoscalerRef",
            "ingressRef",
            "metricsServer",
            "provider",
            "revertOnDeletion",
            "routeRef",
            "service",
            "suspend",
            "upstreamRef",
        ]);
        if fields.boolean("skipAnalysis") == Some(true) {
            fields.refuse("skipAnalysis", "a canary without analysis is a rolling update of its target");
        }
        // The older name is still read.
        let name = if fields.has("canaryAnalysis") { "canaryAnalysis" } else { "analysis" };
        fields.need(&[name]);
        let read = |fields: &mut Fields<'_>| Self::analysis(fields);
        let mut canary = fields.object(name, read)?;
        fields.silent(&["analysis", "canaryAnalysis"]);
        (canary.target, canary.progress_deadline) = (target?, progress_deadline);
        Some(canary)
    }

    fn analysis(fields: &mut Fields<'_>) -> Option<Self> {
        /// As upstream, which does not tick more often.
        const LEAST: Duration = Duration::from_secs(10);
        let interval = duration(fields, "interval").map_or(Duration::from_secs(60), |it| it.max(LEAST));
        let threshold = fields.count("threshold").unwrap_or(1).max(1);
        let percent = |fields: &mut Fields<'_>, name: &'static str| {
            fields.integer(name, 0..=100).map_or(0, |weight| weight as u32)
        };
        let (step_weight, max_weight) = (percent(fields, "stepWeight"), percent(fields, "maxWeight"));
        let step_weight_promotion = percent(fields, "stepWeightPromotion");
        let step_weights = fields.get("stepWeights", |node, name| {
            let wrong =
                || Diagnostic::new(format!("`{name}` is a list of weights that go up, from 1 to 100"));
            let super::yaml::Value::Sequence(items) = &node.value else { return Err(wrong()) };
            let weight = |item: &super::yaml::Node| item.scalar().and_then(|text| text.parse::<u32>().ok());
            let weights: Option<Vec<u32>> = items.iter().map(weight).collect();
            let weights = weights.ok_or_else(wrong)?;
            let up = weights.is_sorted_by(|one, next| one < next);
            let inside = weights.iter().all(|weight| (1..=100).contains(weight));
            if up && inside && !weights.is_empty() { Ok(weights) } else { Err(wrong()) }
        });
        let iterations = fields.count("iterations").unwrap_or(0);
        let mirror = fields.boolean("mirror").unwrap_or(false);
        if fields.has("match") {
            let error = Diagnostic::new("A/B testing by what requests carry is not simulated");
            fields.error(error.at(fields.value_place("match").unwrap_or(fields.place)));
        }
        fields.silent(&["match"]);
        fields.no_effect(&[
            "alerts",
            "canaryReadyThreshold",
            "mirrorWeight",
            "primaryReadyThreshold",
            "sessionAffinity",
            "webhooks",
        ]);
        let metrics = fields.list("metrics", FlaggerMetric::read).unwrap_or_default();
        let step_weights = step_weights.unwrap_or_default();
        if iterations == 0 && step_weight == 0 && step_weights.is_empty() {
            let error = Diagnostic::new(
                "nothing would ever move: there is no `stepWeight`, `stepWeights` or `iterations`",
            );
            fields.error(error.at(fields.place));
        }
        if step_weight > 0 && !step_weights.is_empty() {
            fields.refuse("stepWeights", "there is `stepWeight` as well");
        }
        Some(Self {
            target: String::new(),
            progress_deadline: 0,
            interval,
            threshold,
            step_weight,
            step_weights,
            max_weight,
            step_weight_promotion,
            iterations,
            mirror,
            metrics,
        })
    }
}

impl FlaggerMetric {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.need(&["name"]);
        let place = fields.value_place("name").unwrap_or(fields.place);
        let name = fields.name("name");
        let interval = duration(fields, "interval").unwrap_or(Duration::from_secs(60));
        let range = fields.object("thresholdRange", |fields| {
            let (min, max) = (float(fields, "min"), float(fields, "max"));
            if !fields.has("min") && !fields.has("max") {
                fields
                    .error(Diagnostic::new("`thresholdRange` has `min` or `max`, or both").at(fields.place));
            }
            Some((min, max))
        });
        let threshold = float(fields, "threshold");
        fields.silent(&["query", "templateRef", "templateVariables"]);
        let name = name?;
        if !fields.has("thresholdRange") && !fields.has("threshold") {
            let error = Diagnostic::new("without `thresholdRange` this metric decides nothing").at(place);
            fields.error(error);
        }
        // The older single number is a least success rate, and a most of anything else.
        let old = if name == "request-success-rate" { (threshold, None) } else { (None, threshold) };
        let (min, max) = range.unwrap_or(old);
        Some(Self { name, place, interval, min, max })
    }
}

fn float(fields: &mut Fields<'_>, name: &'static str) -> Option<f64> {
    fields.get(name, |node, name| {
        let parsed =
            node.scalar().and_then(|text| text.parse::<f64>().ok()).filter(|value| value.is_finite());
        parsed.ok_or_else(|| Diagnostic::new(format!("`{name}` is not a number")))
    })
}

fn duration(fields: &mut Fields<'_>, name: &'static str) -> Option<Duration> {
    fields.get(name, |node, name| {
        let parsed = node.scalar().and_then(go_duration).filter(|length| *length > Duration::ZERO);
        parsed.ok_or_else(|| wrong_duration(node, name))
    })
}
