//! Argo Rollouts: sizes of a canary, and the phase of a metric.

use serde_json::Value;

use super::{Read, checked, count, int, rows, same, written};
use crate::conform::Check;
use crate::policies::judge::Phase;
use crate::policies::rollout::ReplicaSet;
use crate::policies::rollout::analysis::{Limits, Tally};
use crate::policies::rollout::canary::{self, CanaryScale, CanarySettings, Standing, Step, Weights};
use crate::policies::rollout::rolling::IntOrPercent;
use crate::time::Duration;

/// A key that may be missing.
fn or<T>(value: &Value, otherwise: T, read: impl Fn(&Value) -> Read<T>) -> Read<T> {
    if value.is_null() { Ok(otherwise) } else { read(value) }
}

fn truth(value: &Value) -> Read<bool> {
    value.as_bool().ok_or_else(|| format!("{value} is not a truth value"))
}

fn steps(list: &Value) -> Read<Vec<Step>> {
    let mut steps = Vec::new();
    for step in rows(list)? {
        steps.push(Step::SetWeight(count(&step["set_weight"])?));
        let scale = &step["set_canary_scale"];
        if !scale.is_null() {
            steps.push(Step::SetCanaryScale(CanaryScale {
                replicas: or(&scale["replicas"], None, |value| count(value).map(Some))?,
                weight: or(&scale["weight"], None, |value| count(value).map(Some))?,
                match_traffic_weight: or(&scale["match_traffic_weight"], false, truth)?,
            }));
        }
    }
    Ok(steps)
}

fn settings(input: &Value) -> Read<CanarySettings> {
    Ok(CanarySettings {
        steps: steps(&input["steps"])?,
        traffic_routing: or(&input["traffic_routing"], false, truth)?,
        max_surge: or(&input["max_surge"], IntOrPercent::Percent(25), |value| written(value)?)?,
        max_unavailable: or(&input["max_unavailable"], IntOrPercent::Percent(25), |value| written(value)?)?,
        dynamic_stable_scale: or(&input["dynamic_stable_scale"], false, truth)?,
        min_pods_per_replica_set: or(&input["min_pods_per_rs"], 1, count)?,
        abort_scale_down_delay: Duration::from_secs(30),
        ..CanarySettings::default()
    })
}

fn standing(input: &Value) -> Read<Standing> {
    let weight = |value: &Value| or(value, None, |value| count(value).map(Some));
    let weights = weight(&input["actual_canary_weight"])?.zip(weight(&input["actual_stable_weight"])?);
    Ok(Standing {
        index: or(&input["step_index"], 0, count)? as usize,
        abort: or(&input["abort"], false, truth)?,
        promote_full: or(&input["promote_full"], false, truth)?,
        weights: weights.map(|(canary, stable)| Weights { canary, stable }),
    })
}

fn replica_set(value: &Value, is_new: bool) -> Read<ReplicaSet> {
    let (spec, available) = (count(&value["spec_replicas"])?, count(&value["available"])?);
    Ok(ReplicaSet { spec, available, ready: available, existing: spec, is_new })
}

fn sizes(out: &Value) -> Read<(u32, u32)> {
    Ok((count(&out["canary"])?, count(&out["stable"])?))
}

pub(super) fn approximate_weight(_file: &Value, case: &Value) -> Check {
    let run = || {
        let input = &case["in"];
        let number = |key: &str| count(&input[key]);
        let ours = canary::approximate(
            number("replicas")?,
            number("weight")?,
            number("max_weight")?,
            number("surge")? > 0,
        );
        Ok(same("canary and stable", &ours, &sizes(&case["out"])?))
    };
    checked(run())
}

pub(super) fn basic_counts(_file: &Value, case: &Value) -> Check {
    let run = || {
        let input = &case["in"];
        let settings = settings(input)?;
        let replicas = count(&input["replicas"])?;
        let stable = or(&input["stable"], None, |value| replica_set(value, false).map(Some))?;
        let canary_set = or(
            &input["canary"],
            ReplicaSet { spec: 0, available: 0, ready: 0, existing: 0, is_new: true },
            |value| replica_set(value, true),
        )?;
        let older = or(&input["older"], 0, |value| count(&value["spec_replicas"]))?;
        let available = stable.map_or(0, |stable| stable.available);
        let desired = match stable {
            Some(_) => settings.desired_counts(replicas, standing(input)?, available),
            None => (replicas, 0),
        };
        let limits = settings.limits(replicas);
        let ours = canary::basic(replicas, desired, limits, &canary_set, stable.as_ref(), older);
        Ok(same("canary and stable", &ours, &sizes(&case["out"])?))
    };
    checked(run())
}

pub(super) fn traffic_routed_counts(_file: &Value, case: &Value) -> Check {
    let run = || {
        let input = &case["in"];
        let replicas = count(&input["replicas"])?;
        let available = or(&input["stable"], 0, |value| count(&value["available"]))?;
        let ours = settings(input)?.desired_counts(replicas, standing(input)?, available);
        Ok(same("canary and stable", &ours, &sizes(&case["out"])?))
    };
    checked(run())
}

fn phase(value: &Value) -> Read<Phase> {
    serde_json::from_value(value.clone()).map_err(|_| format!("{value} is not a phase"))
}

pub(super) fn assess_metric(_file: &Value, case: &Value) -> Check {
    let run = || {
        let (input, out) = (&case["in"], &case["out"]);
        let limit = |key: &str, default: i64| or(&input[key], default, int).map(|limit| limit as i32);
        let given = or(&input["count"], None, |value| count(value).map(Some))?;
        let limits = Limits {
            count: given.or_else(|| input["interval"].is_null().then_some(1)),
            failure: limit("failure_limit", 0)?,
            inconclusive: limit("inconclusive_limit", 0)?,
            consecutive_error: limit("consecutive_error_limit", 4)?,
            consecutive_success: limit("consecutive_success_limit", 0)?,
        };
        let mut tally = Tally::default();
        let (mut ours, mut last) = (Vec::new(), Phase::Pending);
        for measurement in rows(&input["measurements"])? {
            tally.add(phase(measurement)?);
            last = tally.assess(&limits, false);
            ours.push(last);
            if last.completed() {
                break;
            }
        }
        let expected: Vec<Phase> = rows(&out["phases"])?.iter().map(phase).collect::<Read<_>>()?;
        if ours != expected {
            return Ok(same("phases", &ours, &expected));
        }
        if out["after_terminate"].is_null() || last.completed() {
            return Ok(Check::Passed);
        }
        Ok(same("phase after the end", &tally.assess(&limits, true), &phase(&out["after_terminate"])?))
    };
    checked(run())
}
