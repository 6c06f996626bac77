//! What a Rollout of Argo or a Canary of Flagger says, as the settings of a rollout.
//!
//! Their metrics are queries to systems that are not here. `metric-names = { errors = "error-percent" }` says what a metric
//! of that name is: one that a judge knows, with `-percent` or `-ms` behind it if the cluster counts so. The window is that of
//! the query (`[5m]`), else the interval between measurements, else a minute.

use super::scalers::Settings;
use super::{Names, number, table, text};
use crate::policies::judge::Metric;
use crate::scenario::error::{Diagnostic, Place, enumerated, shortened};
use crate::scenario::manifest::{
    Analyses, AnalysisTemplate, BlueGreenRelease, CanaryRelease, CanaryStep, CountOrPercent, Document,
    FlaggerCanary, Measured, Object, Release, Rollout,
};
use crate::scenario::tree::{Node, Value};
use crate::time::Duration;

/// Name of the policy, and its settings.
pub(super) type Way = (&'static str, Settings);

/// What a document says about rolling out, if it does.
pub(super) fn way(
    document: &Document,
    documents: &[Document],
    names: &Names,
) -> Option<Result<Way, Diagnostic>> {
    let place = document.place;
    let reader = Reader { documents, names, place };
    match &document.object {
        Object::Rollout(rollout) => Some(reader.rollout(rollout)),
        Object::Canary(canary) => Some(reader.flagger(canary)),
        _ => None,
    }
}

/// The workload that a document rolls out.
pub(super) fn target(document: &Document) -> Option<&str> {
    match &document.object {
        Object::Rollout(rollout) => Some(rollout.workload.as_deref().unwrap_or(&document.metadata.name)),
        Object::Canary(canary) => Some(&canary.target),
        _ => None,
    }
}

struct Reader<'a> {
    documents: &'a [Document],
    names: &'a Names,
    place: Place,
}

impl Reader<'_> {
    fn span(&self, length: Duration) -> Node {
        text(format!("{}ns", length.0), self.place)
    }

    fn seconds(&self, seconds: u32) -> Node {
        text(format!("{seconds}s"), self.place)
    }

    fn flag(&self, flag: bool) -> Node {
        Node { value: Value::Boolean(flag), place: self.place }
    }

    fn list(&self, items: Vec<Node>) -> Node {
        Node { value: Value::Array(items), place: self.place }
    }

    fn amount(&self, amount: CountOrPercent) -> Node {
        match amount {
            CountOrPercent::Count(count) => number(count, self.place),
            CountOrPercent::Percent(percent) => text(format!("{percent}%"), self.place),
        }
    }

    fn rollout(&self, rollout: &Rollout) -> Result<Way, Diagnostic> {
        let mut settings = vec![
            ("min-ready", self.seconds(rollout.min_ready)),
            ("progress-deadline", self.seconds(rollout.progress_deadline)),
            ("progress-deadline-abort", self.flag(rollout.progress_deadline_abort)),
        ];
        Ok(match &rollout.strategy {
            Release::Canary(canary) => {
                settings.extend(self.canary(canary)?);
                ("canary", settings)
            }
            Release::BlueGreen(release) => {
                settings.extend(self.blue_green(release)?);
                ("blue-green", settings)
            }
        })
    }

    fn canary(&self, canary: &CanaryRelease) -> Result<Settings, Diagnostic> {
        let steps = canary.steps.iter().map(|step| self.step(step)).collect::<Result<_, _>>()?;
        let mut settings = vec![
            ("steps", self.list(steps)),
            ("traffic-routing", self.flag(canary.max_weight.is_some())),
            ("max-surge", self.amount(canary.max_surge)),
            ("max-unavailable", self.amount(canary.max_unavailable)),
            ("dynamic-stable-scale", self.flag(canary.dynamic_stable_scale)),
        ];
        settings.extend(canary.max_weight.map(|weight| ("max-weight", number(weight, self.place))));
        settings.extend(canary.min_pods.map(|pods| ("min-pods-per-replica-set", number(pods, self.place))));
        settings.extend(canary.scale_down_delay.map(|delay| ("scale-down-delay", self.seconds(delay))));
        let delay = canary.abort_scale_down_delay;
        settings.extend(delay.map(|delay| ("abort-scale-down-delay", self.seconds(delay))));
        if let Some((analyses, starting_step)) = &canary.analysis {
            let metrics = self.analysis(analyses)?;
            let entries = [("metrics", metrics), ("starting-step", number(*starting_step, self.place))];
            settings.push(("analysis", table(self.place, entries)));
        }
        Ok(settings)
    }

    fn step(&self, step: &CanaryStep) -> Result<Node, Diagnostic> {
        let one = |entry| table(self.place, [entry]);
        Ok(one(match step {
            CanaryStep::SetWeight(weight) => ("set-weight", number(*weight, self.place)),
            CanaryStep::Pause(length) => {
                let length = length.map(|length| ("duration", self.span(length)));
                ("pause", table(self.place, length))
            }
            CanaryStep::Replicas(replicas) => {
                ("set-canary-scale", one(("replicas", number(*replicas, self.place))))
            }
            CanaryStep::Weight(weight) => ("set-canary-scale", one(("weight", number(*weight, self.place)))),
            CanaryStep::MatchTraffic => ("set-canary-scale", one(("match-traffic-weight", self.flag(true)))),
            CanaryStep::Analysis(analyses) => ("analysis", one(("metrics", self.analysis(analyses)?))),
        }))
    }

    fn blue_green(&self, release: &BlueGreenRelease) -> Result<Settings, Diagnostic> {
        let mut settings = vec![("auto-promotion-enabled", self.flag(release.auto_promotion))];
        let preview = release.preview_replicas;
        settings.extend(preview.map(|count| ("preview-replica-count", number(count, self.place))));
        // Upstream ignores the time if it does not promote by itself.
        let after = release.auto_promotion_seconds.filter(|_| release.auto_promotion);
        settings.extend(after.map(|after| ("auto-promotion", self.seconds(after))));
        settings.extend(release.scale_down_delay.map(|delay| ("scale-down-delay", self.seconds(delay))));
        let delay = release.abort_scale_down_delay;
        settings.extend(delay.map(|delay| ("abort-scale-down-delay", self.seconds(delay))));
        for (key, analyses) in [
            ("pre-promotion-analysis", &release.pre_promotion),
            ("post-promotion-analysis", &release.post_promotion),
        ] {
            if let Some(analyses) = analyses {
                settings.push((key, table(self.place, [("metrics", self.analysis(analyses)?)])));
            }
        }
        Ok(settings)
    }

    /// The metrics of all templates of an analysis.
    fn analysis(&self, analyses: &Analyses) -> Result<Node, Diagnostic> {
        let templates: Vec<(&str, &AnalysisTemplate)> = self
            .documents
            .iter()
            .filter_map(|document| match &document.object {
                Object::Analysis(template) => Some((document.metadata.name.as_str(), template)),
                _ => None,
            })
            .collect();
        let mut metrics = Vec::new();
        for (name, place) in &analyses.templates {
            let Some((_, template)) = templates.iter().find(|(known, _)| known == name) else {
                let known = templates.iter().map(|(name, _)| *name);
                return Err(Diagnostic::unknown("AnalysisTemplate", name, known).at(*place));
            };
            for metric in &template.metrics {
                let dry = analyses.dry_run.iter().chain(&template.dry_run);
                let dry = dry.into_iter().any(|name| name == "*" || *name == metric.name);
                // What is given wins over the defaults.
                let args: Vec<_> = analyses.args.iter().chain(&template.args).collect();
                metrics.push(self.metric(metric, &args, dry)?);
            }
        }
        Ok(self.list(metrics))
    }

    fn metric(&self, metric: &Measured, args: &[&(String, String)], dry: bool) -> Result<Node, Diagnostic> {
        let (measured, factor) = self.measured(&metric.name, metric.place)?;
        let window = metric.range.or(metric.interval).unwrap_or(Duration::from_secs(60));
        let mut judge = vec![("metric", text(measured, self.place)), ("window", self.span(window))];
        for (key, condition) in [("success", &metric.success), ("failure", &metric.failure)] {
            if let Some((written, place)) = condition {
                judge.push((key, self.condition(written, *place, args, factor)?));
            }
        }
        let limit = |limit: i64| Node { value: Value::Integer(limit.into()), place: self.place };
        let mut entries = vec![
            ("judge", table(self.place, [("threshold", table(self.place, judge))])),
            ("failure-limit", limit(metric.failure_limit)),
            ("inconclusive-limit", limit(metric.inconclusive_limit)),
            ("consecutive-error-limit", limit(metric.consecutive_error_limit)),
            ("consecutive-success-limit", limit(metric.consecutive_success_limit)),
            ("dry-run", self.flag(dry)),
        ];
        entries.extend(metric.interval.map(|interval| ("interval", self.span(interval))));
        entries.extend(metric.initial_delay.map(|delay| ("initial-delay", self.span(delay))));
        entries.extend(metric.count.map(|count| ("count", number(count, self.place))));
        Ok(table(self.place, entries))
    }

    /// What a metric of the cluster is here, and how much one of its units is.
    fn measured(&self, name: &str, place: Place) -> Result<(&'static str, f64), Diagnostic> {
        const ALL: [Metric; 8] = [
            Metric::ErrorRatio,
            Metric::SuccessRatio,
            Metric::MeanLatency,
            Metric::P50Latency,
            Metric::P90Latency,
            Metric::P95Latency,
            Metric::P99Latency,
            Metric::RequestRate,
        ];
        let here = self.names.get(name).map_or(name, String::as_str);
        let (bare, factor) = match here {
            "error-percent" => ("error-ratio", 0.01),
            "success-percent" => ("success-ratio", 0.01),
            _ => here.strip_suffix("-ms").map_or((here, 1.0), |bare| (bare, 0.001)),
        };
        let found = ALL.map(Metric::name).into_iter().find(|known| *known == bare);
        let is_time = found.is_some_and(|found| found.ends_with("-latency"));
        found.filter(|_| is_time || !here.ends_with("-ms")).map(|found| (found, factor)).ok_or_else(|| {
            let message = format!("nothing here is what the metric `{}` measures", shortened(name));
            let known = enumerated(&ALL.map(Metric::name));
            let hint =
                format!("say what it is here: metric-names = {{ {} = \"error-percent\" }}", shortened(name));
            Diagnostic::new(message).at(place).note(known).hint(hint)
        })
    }

    /// `result[0] >= 0.95 && result[0] < 2`, as far as it is comparisons with numbers.
    fn condition(
        &self,
        written: &str,
        place: Place,
        args: &[&(String, String)],
        factor: f64,
    ) -> Result<Node, Diagnostic> {
        let mut filled = written.to_owned();
        for (name, value) in args {
            for spelt in [format!("{{{{args.{name}}}}}"), format!("{{{{ args.{name} }}}}")] {
                filled = filled.replace(&spelt, value);
            }
        }
        let mut entries: Vec<(&'static str, Node)> = Vec::new();
        for part in filled.split("&&") {
            let Some((key, value)) = comparison(part) else {
                let message =
                    format!("the condition `{}` is more than comparisons with numbers", shortened(written));
                let hint = "`result[0] >= 0.95` can be read, and several of them with && between them";
                return Err(Diagnostic::new(message).at(place).hint(hint));
            };
            if entries.iter().any(|(known, _)| *known == key) {
                let message =
                    format!("the condition `{}` compares twice in the same way", shortened(written));
                return Err(Diagnostic::new(message).at(place));
            }
            entries.push((key, Node { value: Value::Float(value * factor), place: self.place }));
        }
        Ok(table(self.place, entries))
    }

    fn flagger(&self, canary: &FlaggerCanary) -> Result<Way, Diagnostic> {
        let place = self.place;
        let mut checks = Vec::new();
        for metric in &canary.metrics {
            let builtin = match metric.name.as_str() {
                "request-success-rate" => Some(("success-ratio", 0.01)),
                "request-duration" => Some(("p99-latency", 0.001)),
                _ => None,
            };
            let (measured, factor) = match builtin {
                Some(found) => found,
                None => self.measured(&metric.name, metric.place)?,
            };
            let float = |value: f64| Node { value: Value::Float(value * factor), place };
            let bounds = metric.min.map(|min| ("at-least", float(min)));
            let bounds = bounds.into_iter().chain(metric.max.map(|max| ("at-most", float(max))));
            let judge = [
                ("metric", text(measured, place)),
                ("window", self.span(metric.interval)),
                ("no-data", text("failed", place)),
                ("success", table(place, bounds)),
            ];
            checks.push(table(place, [("judge", table(place, [("threshold", table(place, judge))]))]));
        }
        let weights = canary.step_weights.iter().map(|weight| number(*weight, place)).collect();
        let mut settings = vec![
            ("interval", self.span(canary.interval)),
            ("threshold", number(canary.threshold, place)),
            ("step-weight", number(canary.step_weight, place)),
            ("step-weights", self.list(weights)),
            ("step-weight-promotion", number(canary.step_weight_promotion, place)),
            ("iterations", number(canary.iterations, place)),
            ("mirror", self.flag(canary.mirror)),
            ("progress-deadline", self.seconds(canary.progress_deadline)),
            ("metrics", self.list(checks)),
        ];
        if canary.max_weight > 0 {
            settings.push(("max-weight", number(canary.max_weight, place)));
        }
        Ok(("flagger", settings))
    }
}

/// One comparison of the result with a number.
fn comparison(part: &str) -> Option<(&'static str, f64)> {
    let part = part.trim();
    let part = part.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap_or(part).trim();
    let rest = part.strip_prefix("result")?.trim_start();
    let rest = rest.strip_prefix("[0]").unwrap_or(rest).trim_start();
    let signs = [("<=", "at-most"), (">=", "at-least"), ("<", "below"), (">", "above")];
    let (sign, key) = signs.into_iter().find(|(sign, _)| rest.starts_with(sign))?;
    let value: f64 = rest[sign.len()..].trim().parse().ok()?;
    value.is_finite().then_some((key, value))
}

#[cfg(test)]
mod tests {
    use super::comparison;

    #[test]
    fn comparisons_with_numbers_can_be_read() {
        assert_eq!(comparison(" result[0] >= 0.95 "), Some(("at-least", 0.95)));
        assert_eq!(comparison("(result<5)"), Some(("below", 5.0)));
        for other in
            ["result == 1", "len(result) == 0", "result[1] > 2", "0.95 < result", "result > x", "result"]
        {
            assert_eq!(comparison(other), None, "{other}");
        }
    }
}
