//! One decision of a control loop in plain words, from its line in `decisions.jsonl`.

mod plain;
mod rollout;
mod zero;

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

use super::quantity::{clock_seconds, short, span};

/// A line of `decisions.jsonl`.
#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    /// Strategy.
    pub strategy: String,
    /// Replication, from 0.
    pub replication: u32,
    /// When, in simulated seconds.
    pub t_s: f64,
    /// `autoscaler`, `breaker` ...
    pub kind: String,
    /// Name of the service.
    pub subject: String,
    /// Replicas before ...
    pub before: f64,
    /// ... and after.
    pub after: f64,
    /// Last rule that changed the figure, or why nothing was done.
    pub reason: String,
    /// `[what, value]` or `[what, value, metric]`, in the order in which they applied.
    pub steps: Vec<Vec<Value>>,
}

impl Line {
    /// A figure that belongs to the whole decision.
    fn figure(&self, what: &str) -> Option<f64> {
        self.of("", what)
    }

    /// A figure of one metric.
    fn of(&self, metric: &str, what: &str) -> Option<f64> {
        let step = self.steps.iter().find(|step| name(step) == what && about(step) == metric)?;
        step.get(1)?.as_f64()
    }

    /// Metrics in their order; one without a name if there is only one.
    fn metrics(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.steps.iter().map(|step| about(step)).filter(|name| !name.is_empty()).collect();
        names.dedup();
        if names.is_empty() { vec![""] } else { names }
    }
}

fn name(step: &[Value]) -> &str {
    step.first().and_then(Value::as_str).unwrap_or("")
}

fn about(step: &[Value]) -> &str {
    step.get(2).and_then(Value::as_str).unwrap_or("")
}

/// `1 replica`, `2 replicas`.
fn counted(number: f64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1.0 { "" } else { "s" })
}

/// The decision as a few sentences, one per line.
pub fn explained(line: &Line) -> String {
    match line.kind.as_str() {
        "autoscaler" => autoscaler(line),
        "rollout" => rollout::explained(line),
        _ => plain::explained(line),
    }
}

fn autoscaler(line: &Line) -> String {
    let mut text = String::new();
    let change = match line.after - line.before {
        0.0 => format!("stays at {}", counted(line.before, "replica")),
        _ => format!("goes from {} to {}", line.before, counted(line.after, "replica")),
    };
    let _ = writeln!(
        text,
        "{} at {}: {change} ({})",
        line.subject,
        clock_seconds(line.t_s),
        in_words(&line.reason)
    );
    let _ = writeln!(text, "strategy {}, replication {}\n", line.strategy, line.replication + 1);
    zero::describe_poll(&mut text, line);
    for metric in line.metrics() {
        let mut said = String::new();
        describe_metric(&mut said, line, metric);
        for line in said.lines() {
            let _ = writeln!(text, "{}", capitalized(line));
        }
    }
    if line.metrics().len() > 1 {
        let proposals = line.metrics().into_iter().filter_map(|metric| line.of(metric, "proposal"));
        if let Some(most) = proposals.reduce(f64::max) {
            let _ = writeln!(text, "The largest proposal counts: {most}.");
        }
    }
    zero::describe_knative(&mut text, line);
    describe_clamps(&mut text, line);
    let known = [
        "current",
        "target-utilization",
        "target-average-value",
        "target-value",
        "ready-pods",
        "unready-pods",
        "missing-pods",
        "ignored-pods",
        "utilization",
        "usage-milli",
        "ratio",
        "adjusted-ratio",
        "within-tolerance",
        "proposal",
        "stabilized",
        "stabilized-by-age-s",
        "without-stabilization",
        "limited",
        "max-replicas",
        "min-replicas",
        "no-metrics",
        "no-pods",
        "no-usable-metrics",
        "missing-request",
        "no-matching-metrics",
    ];
    let told = |step: &[Value]| known.contains(&name(step)) || zero::KNOWN.contains(&name(step));
    for step in line.steps.iter().filter(|step| !told(step)) {
        if let Some(value) = step.get(1).and_then(Value::as_f64) {
            let _ = writeln!(text, "{}: {}.", name(step), short(value));
        }
    }
    text
}

/// A sentence begins with a capital, unless it begins with the name of a metric.
fn capitalized(line: &str) -> String {
    let is_name = line.split_once(' ').is_some_and(|(word, _)| word.ends_with(':'));
    match line.chars().next() {
        Some(first) if !is_name => first.to_uppercase().chain(line.chars().skip(1)).collect(),
        _ => line.to_owned(),
    }
}

/// What one metric said.
fn describe_metric(text: &mut String, line: &Line, metric: &str) {
    let of = |what| line.of(metric, what);
    let title = if metric.is_empty() { String::new() } else { format!("{metric}: ") };
    for (what, words) in [
        ("no-metrics", "the metrics pipeline had no sample"),
        ("no-pods", "there was no instance"),
        ("no-usable-metrics", "no sample belonged to an instance that counts"),
        ("missing-request", "an instance has no request to compare with"),
        ("no-matching-metrics", "no sample belonged to an instance with a request"),
    ] {
        if of(what).is_some() {
            let _ = writeln!(text, "{title}{words}, so this metric proposed nothing.");
            return;
        }
    }
    let Some(ratio) = of("ratio") else {
        if let (Some(usage), Some(proposal)) = (of("usage-milli"), of("proposal")) {
            let (usage, proposal) = (short(usage / 1e3), counted(proposal, "replica"));
            let _ =
                writeln!(text, "{title}{usage} in all, without an instance yet; that proposes {proposal}.");
        }
        return;
    };
    if let Some(ready) = of("ready-pods") {
        let left_out = [
            ("unready-pods", "not ready yet"),
            ("missing-pods", "without a sample"),
            ("ignored-pods", "on their way out"),
        ];
        let left_out: Vec<String> = left_out
            .into_iter()
            .filter_map(|(what, words)| {
                of(what).filter(|pods| *pods > 0.0).map(|pods| format!("{pods} {words}"))
            })
            .collect();
        let left_out =
            if left_out.is_empty() { String::new() } else { format!(" ({})", left_out.join(", ")) };
        let _ = writeln!(text, "{title}measured {}{left_out}.", counted(ready, "instance"));
    }
    let usage = of("usage-milli").unwrap_or(0.0) / 1e3;
    match (of("utilization"), of("target-utilization"), of("target-average-value"), of("target-value")) {
        (Some(found), Some(target), ..) => {
            let _ = writeln!(
                text,
                "{title}{found} % of the requests in use ({} each on average), the target is {target} %: ratio {}.",
                short(usage),
                short(ratio)
            );
        }
        (_, _, Some(target), _) => {
            let _ = writeln!(
                text,
                "{title}{} for each, the target is {}: ratio {}.",
                short(usage),
                short(target),
                short(ratio)
            );
        }
        (.., Some(target)) => {
            let _ = writeln!(
                text,
                "{title}{} in all, the target is {}: ratio {}.",
                short(usage),
                short(target),
                short(ratio)
            );
        }
        _ => {}
    }
    if let Some(adjusted) = of("adjusted-ratio") {
        let as_what = if ratio > 1.0 { "counted as idle" } else { "counted as busy" };
        let _ = writeln!(
            text,
            "{title}with those that could not be measured {as_what}: ratio {}.",
            short(adjusted)
        );
    }
    if of("within-tolerance").is_some() {
        let _ = writeln!(text, "{title}that is within the tolerance, so nothing is to change.");
    } else if let Some(proposal) = of("proposal") {
        let _ = writeln!(text, "{title}rounded up, that proposes {}.", counted(proposal, "replica"));
    }
}

/// What became of the proposal.
fn describe_clamps(text: &mut String, line: &Line) {
    if let Some(stabilized) = line.figure("stabilized") {
        if let Some(without) = line.figure("without-stabilization") {
            let age = line
                .figure("stabilized-by-age-s")
                .map_or_else(String::new, |age| format!(" of {} ago", span(age)));
            let _ = writeln!(
                text,
                "Stabilization: the recommendation{age} holds it at {stabilized}. Without stabilization: {without}."
            );
        } else {
            let _ = writeln!(text, "Stabilization changed nothing.");
        }
    }
    if let (Some(limited), Some(stabilized)) = (line.figure("limited"), line.figure("stabilized")) {
        if limited == stabilized {
            let _ = writeln!(text, "No limit applied.");
        } else {
            let _ = writeln!(text, "Limit: {limited} instead of {stabilized} ({}).", in_words(&line.reason));
        }
    }
    for (what, words) in [("max-replicas", "above the most"), ("min-replicas", "below the fewest")] {
        if let Some(bound) = line.figure(what) {
            let _ = writeln!(text, "The replicas were {words} allowed, {bound}; no metric was asked.");
        }
    }
}

/// Upstream's reason with what it means.
fn in_words(reason: &str) -> String {
    let meaning = match reason {
        "DesiredWithinRange" => "within all limits",
        "ScaleUpLimit" => "a rate limits scaling out",
        "ScaleDownLimit" => "a rate limits scaling in",
        "TooFewReplicas" => "min-replicas",
        "TooManyReplicas" => "max-replicas",
        "ScaleDownStabilized" => "an earlier, higher recommendation still counts",
        "ScaleUpStabilized" => "an earlier, lower recommendation still counts",
        "ScalingDisabled" => "the replicas were set to 0",
        "FailedGetResourceMetric"
        | "FailedGetPodsMetric"
        | "FailedGetObjectMetric"
        | "FailedGetExternalMetric"
        | "FailedGetContainerResourceMetric" => "a metric could not be had",
        _ => match zero::meaning(reason) {
            Some(meaning) => meaning,
            None => return reason.to_owned(),
        },
    };
    format!("{reason}: {meaning}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn tells_the_whole_story() {
        let line = line(
            r#"{"strategy":"hpa","replication":0,"t_s":2991.4,"kind":"autoscaler","subject":"typhoon","before":4.0,
            "after":4.0,"reason":"TooFewReplicas","steps":[["current",4.0],["target-utilization",60.0],
            ["ready-pods",4.0],["unready-pods",1.0],["missing-pods",0.0],["ignored-pods",0.0],["utilization",13.0],
            ["usage-milli",130.0],["ratio",0.2166666],["proposal",1.0],["stabilized",2.0],
            ["stabilized-by-age-s",75.0],["without-stabilization",4.0],["limited",4.0]]}"#,
        );
        assert_eq!(
            explained(&line),
            "typhoon at 0:49:51: stays at 4 replicas (TooFewReplicas: min-replicas)\n\
             strategy hpa, replication 1\n\n\
             Measured 4 instances (1 not ready yet).\n\
             13 % of the requests in use (0.13 each on average), the target is 60 %: ratio 0.2167.\n\
             Rounded up, that proposes 1 replica.\n\
             Stabilization: the recommendation of 1m15s ago holds it at 2. Without stabilization: 4.\n\
             Limit: 4 instead of 2 (TooFewReplicas: min-replicas).\n"
        );
    }

    #[test]
    fn tells_of_knative() {
        let line = line(
            r#"{"strategy":"kpa","replication":0,"t_s":130,"kind":"autoscaler","subject":"api","before":6,"after":10,
            "reason":"MaxScale","steps":[["stable-value",60.06],["panic-value",69.9],["target",5.6],["ready-pods",1],
            ["stable-proposal",11],["panic-proposal",13],["max-scale-up",10],["max-scale-down",0],["stable-pods",10],
            ["panic-pods",10],["panicking",1],["desired",12],["excess-burst-capacity",-273],["bounded",10],
            ["proxied",1],["replicas",10]]}"#,
        );
        assert_eq!(
            explained(&line),
            "api at 0:02:10: goes from 6 to 10 replicas (MaxScale: max-scale)\n\
             strategy kpa, replication 1\n\n\
             The stable window: 60.06 in all, the target is 5.6 for each; rounded up, 11 replicas.\n\
             The panic window: 69.9 in all, the target is 5.6 for each; rounded up, 13 replicas.\n\
             With 1 instance ready, one decision may go from 0 to 10.\n\
             So the stable window asks for 10 instead of 11.\n\
             So the panic window asks for 10 instead of 13.\n\
             Panic: the larger window counts, and nothing scales in until it is over.\n\
             Bounds: 10 instead of 12.\n\
             The ready instances could not take the wanted burst: 273 requests too many.\n"
        );
    }

    #[test]
    fn tells_of_keda() {
        let line = line(
            r#"{"strategy":"keda","replication":0,"t_s":150,"kind":"autoscaler","subject":"api","before":0,"after":1,
            "reason":"KEDAScaleTargetActivated","steps":[["trigger-value",3,"service.api.queue-length"],
            ["activation-threshold",0,"service.api.queue-length"],["current",0],["active",1],["error",0],
            ["last-active-ago",0],["replicas",1]]}"#,
        );
        assert_eq!(
            explained(&line),
            "api at 0:02:30: goes from 0 to 1 replica (KEDAScaleTargetActivated: a trigger became active)\n\
             strategy keda, replication 1\n\n\
             service.api.queue-length: 3 against an activation threshold of 0: active.\n\
             A trigger was last seen active now.\n"
        );
    }

    #[test]
    fn names_each_of_several_metrics() {
        let line = line(
            r#"{"strategy":"hpa","replication":0,"t_s":60,"kind":"autoscaler","subject":"api","before":2,"after":4,
            "reason":"ScaleUpLimit","steps":[["current",2],["target-utilization",50,"cpu"],["no-metrics",1,"cpu"],
            ["target-average-value",10,"queue"],["usage-milli",35000,"queue"],["ratio",3.5,"queue"],
            ["proposal",7,"queue"],["stabilized",7],["limited",4]]}"#,
        );
        assert_eq!(
            explained(&line),
            "api at 0:01:00: goes from 2 to 4 replicas (ScaleUpLimit: a rate limits scaling out)\n\
             strategy hpa, replication 1\n\n\
             cpu: the metrics pipeline had no sample, so this metric proposed nothing.\n\
             queue: 35 for each, the target is 10: ratio 3.5.\n\
             queue: rounded up, that proposes 7 replicas.\n\
             The largest proposal counts: 7.\n\
             Stabilization changed nothing.\n\
             Limit: 4 instead of 7 (ScaleUpLimit: a rate limits scaling out).\n"
        );
    }
}
