//! What autoscalers that scale to zero say: Knative's, and KEDA's polls.

use std::fmt::Write as _;

use super::{Line, counted};
use crate::report::quantity::{short, span};

/// Steps that are told here.
pub(super) const KNOWN: &[&str] = &[
    "no-data",
    "stable-value",
    "panic-value",
    "target",
    "stable-proposal",
    "panic-proposal",
    "max-scale-up",
    "max-scale-down",
    "stable-pods",
    "panic-pods",
    "panicking",
    "delayed",
    "desired",
    "excess-burst-capacity",
    "bounded",
    "proxied",
    "replicas",
    "trigger-value",
    "activation-threshold",
    "active",
    "error",
    "last-active-ago",
    "fallback-replicas",
];

/// A tick of Knative's autoscaler: two windows, the rates, panic, the bounds, and who takes the requests.
pub(super) fn describe_knative(text: &mut String, line: &Line) {
    let of = |what| line.figure(what);
    if of("no-data").is_some() {
        text.push_str("Nothing was reported for a whole stable window, so nothing new is decided.\n");
    }
    let windows = [("stable-value", "stable-proposal", "stable"), ("panic-value", "panic-proposal", "panic")];
    for (value, proposal, window) in windows {
        if let (Some(value), Some(target), Some(proposal)) = (of(value), of("target"), of(proposal)) {
            let _ = writeln!(
                text,
                "The {window} window: {} in all, the target is {} for each; rounded up, {}.",
                short(value),
                short(target),
                counted(proposal, "replica")
            );
        }
    }
    if let (Some(ready), Some(least), Some(most)) =
        (of("ready-pods"), of("max-scale-down"), of("max-scale-up"))
    {
        let _ = writeln!(
            text,
            "With {} ready, one decision may go from {least} to {most}.",
            counted(ready, "instance")
        );
        for (proposal, limited, window) in
            [("stable-proposal", "stable-pods", "stable"), ("panic-proposal", "panic-pods", "panic")]
        {
            if let (Some(proposal), Some(limited)) = (of(proposal), of(limited))
                && proposal != limited
            {
                let _ = writeln!(text, "So the {window} window asks for {limited} instead of {proposal}.");
            }
        }
    }
    if of("panicking") == Some(1.0) {
        text.push_str("Panic: the larger window counts, and nothing scales in until it is over.\n");
    }
    if let Some(delayed) = of("delayed")
        && line.reason == "ScaleDownDelay"
    {
        let _ =
            writeln!(text, "A higher figure of the last while still counts (scale-down-delay): {delayed}.");
    }
    if let (Some(desired), Some(bounded)) = (of("desired"), of("bounded"))
        && desired != bounded
    {
        let _ = writeln!(text, "Bounds: {bounded} instead of {desired}.");
    }
    if let Some(excess) = of("excess-burst-capacity") {
        let _ = if excess < 0.0 {
            writeln!(
                text,
                "The ready instances could not take the wanted burst: {} too many.",
                counted(-excess, "request")
            )
        } else {
            writeln!(
                text,
                "Beyond the wanted burst the ready instances could take {}.",
                counted(excess, "request")
            )
        };
    }
}

/// A poll of KEDA.
pub(super) fn describe_poll(text: &mut String, line: &Line) {
    for metric in line.metrics() {
        let Some(threshold) = line.of(metric, "activation-threshold") else { continue };
        let Some(value) = line.of(metric, "trigger-value") else {
            let _ = writeln!(text, "{metric}: had no value, so the trigger failed.");
            continue;
        };
        let is = if value > threshold { "active" } else { "not active" };
        let _ = writeln!(
            text,
            "{metric}: {} against an activation threshold of {}: {is}.",
            short(value),
            short(threshold)
        );
    }
    if let Some(ago) = line.figure("last-active-ago") {
        let when = if ago == 0.0 { "now".to_owned() } else { format!("{} ago", span(ago)) };
        let _ = writeln!(text, "A trigger was last seen active {when}.");
    }
    for metric in line.metrics() {
        if let Some(replicas) = line.of(metric, "fallback-replicas") {
            let _ = writeln!(
                text,
                "{metric}: failed for too long, so the HPA sees what {} would need (fallback).",
                counted(replicas, "replica")
            );
        }
    }
}

/// What the reasons of both mean.
pub(super) fn meaning(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "Stable" => "what the stable window asks for",
        "Panic" => "the highest figure since panic began",
        "ActivationScale" => "activation-scale",
        "MaxScaleUpRate" => "max-scale-up-rate",
        "MaxScaleDownRate" => "max-scale-down-rate",
        "ScaleDownDelay" => "scaling in waits until it was wanted for long enough",
        "InitialScale" => "initial-scale, until it was reached once",
        "MinScale" => "min-scale",
        "MaxScale" => "max-scale",
        "ScaleToZeroDisabled" => "the last replica stays: scaling to zero is off",
        "NoMetrics" => "there was nothing to decide upon",
        "NoTraffic" => "no request for a stable window",
        "Activating" => "too few instances are ready yet",
        "TimedOut" => "it never became ready",
        "ActiveForLessThanWindow" => "the last replica stays for a stable window after it became ready",
        "ActivatorNotInPath" => "the last replica stays until the activator takes the requests",
        "PodRetention" => "the last replica stays for the retention period",
        "GracePeriod" => "the last replica stays while routes are changed",
        "KEDAScaleTargetActivated" => "a trigger became active",
        "ScalerActive" => "a trigger is active, the HPA does the rest",
        "PartialTriggerError" => "one trigger is active, another one failed",
        "WaitsForFallback" => "triggers failed, the HPA is to reach the fallback",
        "TriggerError" => "triggers failed, so nothing is switched off",
        "ScalerCooldown" => "no trigger is active, but not for long enough",
        "KEDAScaleTargetDeactivated" => "no trigger was active for the cooldown period",
        "RaisedToMinReplicaCount" => "min-replica-count",
        "ScalerNotActive" => "no trigger is active",
        _ => return None,
    })
}
