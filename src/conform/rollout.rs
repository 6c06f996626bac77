//! Adapters for the rollout vectors.

mod argo;
mod flagger;

use serde_json::Value;

use super::{Adapter, Check};
use crate::policies::Algorithm;
use crate::policies::rollout::history::{self, Revision};
use crate::policies::rollout::progress::Status;
use crate::policies::rollout::rolling::{
    self, Annotations, IntOrPercent, Limits, Rolling, RollingSettings, proportional_scale,
};
use crate::policies::rollout::{Command, ReplicaSet, Rollout};
use crate::time::Time;

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[
    rolling("k8s.int_or_percent", int_or_percent),
    rolling("k8s.deployment.resolve_fenceposts", resolve_fenceposts),
    rolling("k8s.deployment.limits", limits),
    rolling("k8s.deployment.reconcile_new_replica_set", reconcile_new),
    rolling("k8s.deployment.reconcile_old_replica_sets", reconcile_old),
    rolling("k8s.deployment.old_substeps", old_substeps),
    rolling("k8s.deployment.rolling_trace", rolling_trace),
    rolling("k8s.deployment.scale", scale),
    rolling("k8s.deployment.progress", progress),
    rolling("k8s.deployment.cleanup", cleanup),
    canary("argo.canary.approximate_weight", argo::approximate_weight),
    canary("argo.canary.basic_counts", argo::basic_counts),
    canary("argo.canary.traffic_routed_counts", argo::traffic_routed_counts),
    canary("argo.analysis.assess_metric", argo::assess_metric),
    Adapter {
        schema: "simlab.vectors/1",
        family: "flagger.canary",
        algorithm: "rollout.flagger",
        run: flagger::canary,
    },
];

const fn rolling(family: &'static str, run: fn(&Value, &Value) -> Check) -> Adapter {
    Adapter { schema: "simlab.vectors/1", family, algorithm: "rollout.rolling", run }
}

const fn canary(family: &'static str, run: fn(&Value, &Value) -> Check) -> Adapter {
    Adapter { schema: "simlab.vectors/1", family, algorithm: "rollout.canary", run }
}

/// Why a case could not be read; reported as a failure, never as a pass.
type Read<T> = Result<T, String>;

fn checked(outcome: Read<Check>) -> Check {
    outcome.unwrap_or_else(|unreadable| Check::Failed(format!("case not understood: {unreadable}")))
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, ours: &T, expected: &T) -> Check {
    if ours == expected {
        Check::Passed
    } else {
        Check::Failed(format!("{what}: expected {expected:?}, got {ours:?}"))
    }
}

fn int(value: &Value) -> Read<i64> {
    value.as_i64().ok_or_else(|| format!("{value} is not an integer"))
}

fn count(value: &Value) -> Read<u32> {
    int(value)?.try_into().map_err(|_| format!("{value} is not a count"))
}

fn rows(value: &Value) -> Read<&Vec<Value>> {
    value.as_array().ok_or_else(|| format!("{value} is not a list"))
}

fn text(value: &Value) -> Read<&str> {
    value.as_str().ok_or_else(|| format!("{value} is not a text"))
}

/// An integer, a percentage, or null for 0. The inner error is upstream's refusal of the text.
fn written(value: &Value) -> Read<Result<IntOrPercent, String>> {
    match value {
        Value::Null => Ok(Ok(IntOrPercent::Int(0))),
        Value::String(text) => Ok(text.parse()),
        number => {
            let number = int(number)?.try_into().map_err(|_| format!("{number} is out of range"))?;
            Ok(Ok(IntOrPercent::Int(number)))
        }
    }
}

fn settings(input: &Value) -> Read<RollingSettings> {
    Ok(RollingSettings {
        max_surge: written(&input["max_surge"])??,
        max_unavailable: written(&input["max_unavailable"])??,
        ..RollingSettings::default()
    })
}

/// The sets in the order of their age, with their names.
fn replica_sets(list: &Value) -> Read<(Vec<String>, Vec<ReplicaSet>)> {
    let mut sets = Vec::new();
    for set in by_age(list)? {
        let (spec, available) = (count(&set["spec_replicas"])?, count(&set["available"])?);
        let is_new = set["is_new"].as_bool().ok_or("is_new is not a truth value")?;
        let name = text(&set["name"])?.to_owned();
        sets.push((name, ReplicaSet { spec, available, ready: available, existing: spec, is_new }));
    }
    Ok(sets.into_iter().unzip())
}

/// Rows of a list of sets by creation, then name.
fn by_age(list: &Value) -> Read<Vec<&Value>> {
    let mut sets: Vec<&Value> = rows(list)?.iter().collect();
    sets.sort_by_key(|set| (set["created_s"].as_i64(), set["name"].as_str().unwrap_or_default()));
    Ok(sets)
}

/// Names and sizes, by name.
fn sizes(names: &[String], sets: &[ReplicaSet]) -> Vec<(String, u32)> {
    let mut sizes: Vec<(String, u32)> = names.iter().cloned().zip(sets.iter().map(|set| set.spec)).collect();
    sizes.sort();
    sizes
}

fn expected_sizes(out: &Value) -> Read<Vec<(String, u32)>> {
    let size = |set: &Value| Ok((text(&set["name"])?.to_owned(), count(&set["spec_replicas"])?));
    let mut sizes: Vec<(String, u32)> = rows(&out["replica_sets"])?.iter().map(size).collect::<Read<_>>()?;
    sizes.sort();
    Ok(sizes)
}

fn int_or_percent(_file: &Value, case: &Value) -> Check {
    let run = || {
        let input = &case["in"];
        let round_up = input["round_up"].as_bool().ok_or("round_up is not a truth value")?;
        let total = count(&input["total"])?;
        let ours = written(&input["value"])?.ok().map(|value| value.scaled(total, round_up));
        let expected = if case["out"]["error"] == true { None } else { Some(int(&case["out"]["value"])?) };
        Ok(same("value", &ours, &expected))
    };
    checked(run())
}

fn resolve_fenceposts(_file: &Value, case: &Value) -> Check {
    let run = || {
        let (input, out) = (&case["in"], &case["out"]);
        let RollingSettings { max_surge, max_unavailable, .. } = settings(input)?;
        let ours = rolling::resolve_fenceposts(max_surge, max_unavailable, count(&input["replicas"])?);
        Ok(same("surge and unavailable", &ours, &(int(&out["max_surge"])?, int(&out["max_unavailable"])?)))
    };
    checked(run())
}

fn limits(_file: &Value, case: &Value) -> Check {
    let run = || {
        let (input, out) = (&case["in"], &case["out"]);
        let ours = if input["strategy"] == "Recreate" {
            Limits::RECREATE
        } else {
            settings(input)?.limits(count(&input["replicas"])?)
        };
        let expected = Limits {
            max_surge: int(&out["max_surge"])?,
            max_unavailable: int(&out["max_unavailable"])?,
            min_available: int(&out["min_available"])?,
        };
        Ok(same("limits", &ours, &expected))
    };
    checked(run())
}

type Step = fn(&RollingSettings, u32, &mut [ReplicaSet]) -> bool;

fn one_step(case: &Value, step: Step) -> Read<Check> {
    let (input, out) = (&case["in"], &case["out"]);
    let (names, mut sets) = replica_sets(&input["replica_sets"])?;
    let scaled = step(&settings(input)?, count(&input["replicas"])?, &mut sets);
    let expected = (out["scaled"].as_bool().unwrap_or(scaled), expected_sizes(out)?);
    Ok(same("scaled and sizes", &(scaled, sizes(&names, &sets)), &expected))
}

fn reconcile_new(_file: &Value, case: &Value) -> Check {
    checked(one_step(case, rolling::reconcile_new))
}

fn reconcile_old(_file: &Value, case: &Value) -> Check {
    checked(one_step(case, rolling::reconcile_old))
}

fn old_substeps(_file: &Value, case: &Value) -> Check {
    let run = || {
        let (input, out) = (&case["in"], &case["out"]);
        let (names, mut sets) = replica_sets(&input["replica_sets"])?;
        let (ours, expected) = match text(&input["op"])? {
            "cleanup_unhealthy" => {
                (rolling::cleanup_unhealthy(&mut sets, int(&input["max_cleanup"])?), int(&out["cleaned_up"])?)
            }
            "scale_down_old" => {
                let replicas = count(&input["replicas"])?;
                (rolling::scale_down_old(&settings(input)?, replicas, &mut sets), int(&out["scaled_down"])?)
            }
            other => return Err(format!("op {other}")),
        };
        Ok(same("number and sizes", &(ours, sizes(&names, &sets)), &(expected, expected_sizes(out)?)))
    };
    checked(run())
}

/// Every step is given to a rollout of its own, whose orders are carried out until the pass is through. Orders of the
/// following pass show in that its first order belongs to another kind of action.
fn rolling_trace(_file: &Value, case: &Value) -> Check {
    let run = || {
        let settings = settings(&case["in"])?;
        let replicas = count(&case["in"]["replicas"])?;
        for (number, step) in rows(&case["out"]["steps"])?.iter().enumerate() {
            let (names, before) = replica_sets(&step["replica_sets"])?;
            let mut rollout = Rolling::new(&settings, Time::ZERO);
            let mut sets = before.clone();
            let mut action = "none";
            while let Some(Command::Scale { set, to }) = rollout.sync(Time::ZERO, replicas, &sets) {
                action = if sets[set].is_new { "scale_new" } else { "scale_down_old" };
                sets[set].spec = to;
                if !rollout.in_pass() {
                    break;
                }
            }
            let mut expected = Vec::new();
            for name in &names {
                expected.push((name.clone(), count(&step["after"][name])?));
            }
            expected.sort();
            let (ours, expected) = ((action, sizes(&names, &sets)), (text(&step["action"])?, expected));
            if ours != expected {
                return Ok(Check::Failed(format!("step {number}: expected {expected:?}, got {ours:?}")));
            }
        }
        Ok(Check::Passed)
    };
    checked(run())
}

fn scale(_file: &Value, case: &Value) -> Check {
    let run = || {
        let input = &case["in"];
        let (names, mut sets) = replica_sets(&input["replica_sets"])?;
        let annotation = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        let mut annotations: Vec<Annotations> = by_age(&input["replica_sets"])?
            .into_iter()
            .map(|set| Annotations {
                desired: annotation(&set["desired_annotation"]),
                max: annotation(&set["max_annotation"]),
            })
            .collect();
        let status = count(&input["deployment_status_replicas"])?;
        proportional_scale(
            &settings(input)?,
            count(&input["replicas"])?,
            &mut sets,
            &mut annotations,
            status,
        );
        Ok(same("sizes", &sizes(&names, &sets), &expected_sizes(&case["out"])?))
    };
    checked(run())
}

fn progress(_file: &Value, case: &Value) -> Check {
    let run = || {
        let (input, out) = (&case["in"], &case["out"]);
        let status = |fields: &Value| -> Read<Status> {
            Ok(Status {
                replicas: count(&fields["Replicas"])?,
                updated: count(&fields["UpdatedReplicas"])?,
                ready: count(&fields["ReadyReplicas"])?,
                available: count(&fields["AvailableReplicas"])?,
            })
        };
        let now = status(&input["new_status"])?;
        match text(&input["op"])? {
            "complete" => {
                let ours = now.is_complete(count(&input["replicas"])?);
                Ok(same("complete", &Some(ours), &out["complete"].as_bool()))
            }
            "progressing" => {
                let ours = now.is_progress_since(&status(&input["old_status"])?);
                Ok(same("progressing", &Some(ours), &out["progressing"].as_bool()))
            }
            other => Err(format!("op {other}")),
        }
    };
    checked(run())
}

fn cleanup(_file: &Value, case: &Value) -> Check {
    let run = || {
        let input = &case["in"];
        let sets = by_age(&input["replica_sets"])?;
        let revision = |set: &&Value| -> Read<Revision> {
            let number = text(&set["revision"])?.parse().map_err(|_| "revision is not a number")?;
            Ok(Revision {
                number,
                spec: count(&set["spec_replicas"])?,
                replicas: count(&set["status_replicas"])?,
                is_new: set["is_new"].as_bool().ok_or("is_new is not a truth value")?,
            })
        };
        let revisions: Vec<Revision> = sets.iter().map(revision).collect::<Read<_>>()?;
        let deleted = history::cleanup(count(&input["revision_history_limit"])?, &revisions);
        let ours: Vec<&str> = deleted.into_iter().map(|at| text(&sets[at]["name"])).collect::<Read<_>>()?;
        let expected: Vec<&str> = rows(&case["out"]["deleted"])?.iter().map(text).collect::<Read<_>>()?;
        Ok(same("deleted", &ours, &expected))
    };
    checked(run())
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Replays every case in `tests/vectors/<folder>` that one of `adapters` knows; none may fail, each must be met.
    pub(in crate::conform) fn replay(folder: &str, adapters: &[Adapter]) {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(folder);
        let mut counts: BTreeMap<&str, [usize; 3]> =
            adapters.iter().map(|adapter| (adapter.family, [0; 3])).collect();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let mut file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let known = adapters
                .iter()
                .find(|adapter| file["family"] == adapter.family && file["schema"] == adapter.schema);
            let Some(adapter) = known else { continue };
            let cases = file["cases"].take();
            for case in cases.as_array().unwrap() {
                let slot = match (adapter.run)(&file, case) {
                    Check::Passed => 0,
                    Check::Skipped(_) => 1,
                    Check::Refused(_) => 2,
                    Check::Failed(why) => panic!("{} {}: {why}", adapter.family, case["id"]),
                };
                counts.get_mut(adapter.family).unwrap()[slot] += 1;
            }
        }
        for (family, [passed, skipped, refused]) in counts {
            assert!(passed + skipped > 0, "{family}: no case found");
            assert_eq!(refused, 0, "{family}");
            assert!(passed > 0, "{family}: all {skipped} skipped");
        }
    }

    #[test]
    fn recorded_cases_pass() {
        replay("rollout", ADAPTERS);
    }
}
