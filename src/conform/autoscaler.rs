//! Adapters for the autoscaler vectors.
//!
//! Ages in the vectors become instants before `NOW`, which lies far enough from the start of model time for all of them.

use serde_json::Value;

use super::{Adapter, Check};
use crate::policies::Algorithm;
use crate::policies::autoscaler::hpa::behavior::{
    self, Behavior, Limited, PolicyType, Recommendation, Rules, ScaleEvent, ScaleEvents, ScalingPolicy,
    ScalingRules, SelectPolicy,
};
use crate::policies::autoscaler::hpa::calculator::{
    Measured, MetricError, ReplicaCalculator, ToleranceForm, Tolerances,
};
use crate::policies::autoscaler::hpa::metric::{ExternalTarget, MetricSettings, ResourceTarget};
use crate::policies::autoscaler::hpa::{Condition, Hpa, HpaSettings};
use crate::policies::autoscaler::{Autoscaler, Fleet, Phase, Pod, PodReading, Reading, Resource, Sample};
use crate::time::{Duration, Time};

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[
    hpa("hpa_replica_calc", replica_calc),
    hpa("hpa_behavior_defaults", behavior_defaults),
    hpa("hpa_behavior_rate", behavior_rate),
    hpa("hpa_convert_nobehavior", convert_nobehavior),
    hpa("hpa_stabilize_nobehavior", stabilize_nobehavior),
    hpa("hpa_stabilize_behavior", stabilize_behavior),
    hpa("hpa_store_event", store_event),
    hpa("hpa_trace", trace),
];

const fn hpa(family: &'static str, run: fn(&Value, &Value) -> Check) -> Adapter {
    Adapter { schema: "simlab-autoscaler-vectors/1", family, algorithm: "autoscaler.hpa", run }
}

/// The present of every case that is given in ages.
const NOW: Time = Time::from_secs(10_000_000);

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

/// The value of `key` in the case, or else among the file's defaults.
fn get<'a>(file: &'a Value, case: &'a Value, key: &str) -> &'a Value {
    case.get(key).unwrap_or_else(|| &file["defaults"][key])
}

fn int(value: &Value) -> Read<i64> {
    value.as_i64().ok_or_else(|| format!("{value} is not an integer"))
}

fn count(value: &Value) -> Read<u32> {
    int(value)?.try_into().map_err(|_| format!("{value} is not a count"))
}

fn float(value: &Value) -> Read<f64> {
    value.as_f64().ok_or_else(|| format!("{value} is not a number"))
}

fn secs(value: &Value) -> Read<Duration> {
    value.as_u64().map(Duration::from_secs).ok_or_else(|| format!("{value} is not a number of seconds"))
}

/// The instant so many seconds before [`NOW`].
fn ago(age: &Value) -> Read<Time> {
    Ok(Time(NOW.0 - secs(age)?.0))
}

fn rows(value: &Value) -> Read<&Vec<Value>> {
    value.as_array().ok_or_else(|| format!("{value} is not a list"))
}

fn text(value: &Value) -> Read<&str> {
    value.as_str().ok_or_else(|| format!("{value} is not a text"))
}

/// `None` for null and for a missing key.
fn present(value: &Value) -> Option<&Value> {
    if value.is_null() { None } else { Some(value) }
}

/// One row of `pod_columns`.
fn pod(row: &Value) -> Read<(Pod, PodReading)> {
    let phase = match text(&row[0])? {
        "R" => Phase::Running,
        "P" => Phase::Pending,
        "F" => Phase::Failed,
        "S" => Phase::Succeeded,
        other => return Err(format!("phase {other}")),
    };
    let ready = match text(&row[1])? {
        "N" => None,
        status => Some((status == "T", ago(&row[3])?)),
    };
    let sample = match present(&row[6]) {
        None => None,
        Some(usage) => Some(Sample { milli: int(usage)?, at: ago(&row[7])?, window: secs(&row[8])? }),
    };
    let pod = Pod {
        phase,
        ready,
        started: present(&row[2]).map(ago).transpose()?,
        deleting: row[4].as_bool().ok_or("deleting is not a truth value")?,
    };
    Ok((pod, PodReading { request_milli: present(&row[5]).map(int).transpose()?, sample }))
}

fn replica_calc(file: &Value, case: &Value) -> Check {
    checked(try_replica_calc(file, case))
}

fn try_replica_calc(file: &Value, case: &Value) -> Read<Check> {
    let kind = text(&case["kind"])?;
    let resource = text(get(file, case, "resource"))?;
    let pods = present(&case["pods"]).map_or(Ok(&[][..]), |pods| rows(pods).map(Vec::as_slice))?;
    let (pods, readings): (Vec<Pod>, Vec<PodReading>) =
        pods.iter().map(pod).collect::<Read<Vec<_>>>()?.into_iter().unzip();
    let list = |value: &Value| rows(value)?.iter().map(int).collect::<Read<Vec<i64>>>();
    let unlisted = present(&case["extra_usage"]).map_or_else(|| Ok(Vec::new()), list)?;
    let series = match present(&case["metric_values"]) {
        Some(values) => list(values)?,
        None => present(&case["metric_value"]).map(int).transpose()?.into_iter().collect(),
    };
    let (current, target) = (count(&case["current"])?, int(&case["target"])?);
    let tolerances = Tolerances {
        up: float(get(file, case, "tol_up"))?,
        down: float(get(file, case, "tol_down"))?,
        form: ToleranceForm::Range,
    };
    let measured = Measured {
        pods: &pods,
        readings: &readings,
        is_cpu: resource == "cpu" && kind.starts_with("resource"),
        unlisted: &unlisted,
    };
    let answer = |form| -> Read<Value> {
        let calculator = ReplicaCalculator {
            cpu_initialization_period: secs(get(file, case, "cpu_init_s"))?,
            initial_readiness_delay: secs(get(file, case, "initial_readiness_delay_s"))?,
            tolerances: Tolerances { form, ..tolerances },
        };
        let result = match kind {
            "resource_utilization" => {
                calculator.resource_replicas(NOW, current, count(&case["target"])?, &measured)
            }
            "resource_average_value" | "pods_average_value" => {
                calculator.plain_replicas(NOW, current, target, &measured)
            }
            "object_value" | "external_value" => calculator.value_replicas(current, target, &series, &pods),
            "object_average_value" | "external_average_value" => {
                Ok(calculator.share_replicas(current, target, &series))
            }
            other => return Err(format!("metric kind {other}")),
        };
        Ok(match result {
            Ok(done) => match done.utilization {
                Some(utilization) => {
                    serde_json::json!({ "raw": done.usage, "replicas": done.replicas, "utilization": utilization })
                }
                None => serde_json::json!({ "replicas": done.replicas, "usage": done.usage }),
            },
            Err(error) => {
                let text = match error {
                    MetricError::NoMetrics if kind == "pods_average_value" => {
                        "unable to get metric m: no metrics returned from custom metrics API".to_owned()
                    }
                    MetricError::NoMetrics => format!(
                        "unable to get metrics for resource {resource}: no metrics returned from resource metrics API"
                    ),
                    MetricError::NoPods if kind.ends_with("_value") && !kind.ends_with("average_value") => {
                        "unable to calculate ready pods: no pods returned by selector while calculating replica count"
                            .to_owned()
                    }
                    MetricError::NoPods => "no pods returned by selector while calculating replica count".to_owned(),
                    MetricError::NoUsableMetrics => {
                        "did not receive metrics for targeted pods (pods might be unready)".to_owned()
                    }
                    MetricError::MissingRequest { pod } => {
                        format!("missing request for {resource} in container c of Pod p{pod}")
                    }
                    MetricError::NoMatchingMetrics => "no metrics returned matched known pods".to_owned(),
                };
                serde_json::json!({ "error": text, "error_kind": error.kind().replace('-', "_") })
            }
        })
    };

    let newer = same("from 1.33 on", &answer(ToleranceForm::Range)?, &case["expected"]);
    // Before 1.33 there was one tolerance for both directions.
    if newer != Check::Passed || tolerances.up.to_bits() != tolerances.down.to_bits() {
        return Ok(newer);
    }
    let expected = case.get("expected_1_32_and_older").unwrap_or_else(|| &case["expected"]);
    Ok(same("up to 1.32", &answer(ToleranceForm::Distance)?, expected))
}

fn policies(written: &Value) -> Read<Vec<ScalingPolicy>> {
    let policy = |policy: &Value| {
        let unit = match text(&policy["type"])? {
            "Pods" => PolicyType::Pods,
            "Percent" => PolicyType::Percent,
            other => return Err(format!("policy type {other}")),
        };
        Ok(ScalingPolicy { unit, value: count(&policy["value"])?, period: secs(&policy["periodSeconds"])? })
    };
    rows(written)?.iter().map(policy).collect()
}

fn scaling_rules(written: &Value) -> Read<Option<ScalingRules>> {
    let Some(written) = present(written) else { return Ok(None) };
    let select_policy = match present(&written["selectPolicy"]).map(text).transpose()? {
        None => None,
        Some("Max") => Some(SelectPolicy::Max),
        Some("Min") => Some(SelectPolicy::Min),
        Some("Disabled") => Some(SelectPolicy::Disabled),
        Some(other) => return Err(format!("select policy {other}")),
    };
    Ok(Some(ScalingRules {
        stabilization_window: present(&written["stabilizationWindowSeconds"]).map(secs).transpose()?,
        select_policy,
        policies: present(&written["policies"]).map(policies).transpose()?,
        tolerance: None,
    }))
}

fn behavior_defaults(_file: &Value, case: &Value) -> Check {
    let run = || {
        let expected = |direction: &str| -> Read<Rules> {
            let rules = scaling_rules(&case["expected"][direction])?.ok_or("no expected rules")?;
            Ok(Rules {
                stabilization_window: rules.stabilization_window,
                select_policy: rules.select_policy.ok_or("no expected select policy")?,
                policies: rules.policies.ok_or("no expected policies")?,
            })
        };
        let ours = [
            behavior::scale_up_rules(scaling_rules(&case["scaleUp"])?.as_ref()),
            behavior::scale_down_rules(scaling_rules(&case["scaleDown"])?.as_ref()),
        ];
        Ok(same("rules", &ours, &[expected("scaleUp")?, expected("scaleDown")?]))
    };
    checked(run())
}

/// Rows of age and change, with the flag where the row has one.
fn events(list: &Value) -> Read<ScaleEvents> {
    let event = |row: &Value| {
        Ok(ScaleEvent {
            at: ago(&row[0])?,
            change: count(&row[1])?,
            outdated: row[2].as_bool().unwrap_or(false),
        })
    };
    rows(list)?.iter().map(event).collect::<Read<_>>().map(ScaleEvents)
}

fn limited(expected: &Value) -> Read<(u32, &str)> {
    Ok((count(&expected["replicas"])?, text(&expected["reason"])?))
}

fn behavior_rate(_file: &Value, case: &Value) -> Check {
    let run = || {
        let up = behavior::scale_up_rules(scaling_rules(&case["scaleUp"])?.as_ref());
        let down = behavior::scale_down_rules(scaling_rules(&case["scaleDown"])?.as_ref());
        let Limited { replicas, reason } = behavior::convert_with_behavior_rate(
            NOW,
            count(&case["current"])?,
            count(&case["desired"])?,
            count(&case["min"])?,
            count(&case["max"])?,
            (&up, &events(&case["up_events"])?),
            (&down, &events(&case["down_events"])?),
        );
        Ok(same("replicas and reason", &(replicas, reason), &limited(&case["expected"])?))
    };
    checked(run())
}

fn convert_nobehavior(file: &Value, case: &Value) -> Check {
    let run = || {
        let Limited { replicas, reason } = behavior::convert_with_rules(
            count(&case["current"])?,
            count(&case["desired"])?,
            count(&case["min"])?,
            count(&case["max"])?,
            float(get(file, case, "scale_up_limit_factor"))?,
        );
        Ok(same("replicas and reason", &(replicas, reason), &limited(&case["expected"])?))
    };
    checked(run())
}

/// Rows of age and recommendation.
fn log(list: &Value) -> Read<Vec<Recommendation>> {
    let entry = |row: &Value| Ok(Recommendation { at: ago(&row[0])?, replicas: count(&row[1])? });
    rows(list)?.iter().map(entry).collect()
}

fn stabilize_nobehavior(_file: &Value, case: &Value) -> Check {
    let run = || {
        let mut ours = log(&case["log"])?;
        let window = secs(&case["window_s"])?;
        let replicas = behavior::stabilize(&mut ours, NOW, window, count(&case["desired"])?);
        let expected = &case["expected"];
        let expected = (count(&expected["replicas"])?, log(&expected["log"])?);
        Ok(same("replicas and log", &(replicas, ours), &expected))
    };
    checked(run())
}

fn stabilize_behavior(_file: &Value, case: &Value) -> Check {
    let run = || {
        let mut ours = log(&case["log"])?;
        let (replicas, reason) = behavior::stabilize_with_behavior(
            &mut ours,
            NOW,
            count(&case["current"])?,
            count(&case["desired"])?,
            secs(&case["up_window_s"])?,
            secs(&case["down_window_s"])?,
        );
        let expected = &case["expected"];
        let expected = (count(&expected["replicas"])?, text(&expected["reason"])?, log(&expected["log"])?);
        Ok(same("replicas, reason and log", &(replicas, reason, ours), &expected))
    };
    checked(run())
}

fn store_event(_file: &Value, case: &Value) -> Check {
    let run = || {
        let rules = |written: &Value| -> Read<Rules> {
            let policies = policies(written)?;
            Ok(Rules { stabilization_window: None, select_policy: SelectPolicy::Max, policies })
        };
        let (up, down) = (rules(&case["up_policies"])?, rules(&case["down_policies"])?);
        let (mut up_events, mut down_events) = (events(&case["up_events"])?, events(&case["down_events"])?);
        let (previous, new) = (count(&case["prev"])?, count(&case["new"])?);
        behavior::store_scale_event(NOW, previous, new, (&up, &mut up_events), (&down, &mut down_events));
        let expected = &case["expected"];
        let expected = (events(&expected["up_events"])?, events(&expected["down_events"])?);
        Ok(same("events up and down", &(up_events, down_events), &expected))
    };
    checked(run())
}

/// The instant `t` seconds after the start of a trace; pods may be an hour older than it.
fn trace_time(t: &Value) -> Read<Time> {
    Ok(Time::from_secs((100_000 + int(t)?).try_into().map_err(|_| format!("{t} lies too far back"))?))
}

/// One entry of an HPA's `metrics`.
fn metric(written: &Value) -> Read<MetricSettings> {
    let of = |kind: &str| -> Read<(Option<std::num::NonZeroU32>, Option<_>)> {
        let target = &written[kind]["target"];
        let percent = present(&target["averageUtilization"])
            .map(|percent| count(percent)?.try_into().map_err(|_| "a target of 0".to_owned()))
            .transpose()?;
        Ok((percent, present(&target["averageValue"]).map(|value| text(value)?.parse()).transpose()?))
    };
    match text(&written["type"])? {
        "Resource" => {
            let name = match text(&written["resource"]["name"])? {
                "cpu" => Resource::Cpu,
                "memory" => Resource::Memory,
                other => return Err(format!("resource {other}")),
            };
            let (utilization, average_value) = of("resource")?;
            Ok(MetricSettings::Resource(ResourceTarget { name, utilization, average_value }))
        }
        "External" => {
            let metric = text(&written["external"]["metric"]["name"])?.to_owned();
            let (_, average_value) = of("external")?;
            Ok(MetricSettings::External(ExternalTarget { metric, value: None, average_value }))
        }
        other => Err(format!("metric type {other}")),
    }
}

fn trace(file: &Value, case: &Value) -> Check {
    checked(try_trace(file, case))
}

fn try_trace(_file: &Value, case: &Value) -> Read<Check> {
    let metrics = rows(&case["metrics"])?.iter().map(metric).collect::<Read<Vec<_>>>()?;
    let behavior = match present(&case["behavior"]) {
        None => None,
        Some(written) => Some(Behavior {
            scale_up: scaling_rules(&written["scaleUp"])?,
            scale_down: scaling_rules(&written["scaleDown"])?,
        }),
    };
    let most = count(&case["max"])?.try_into().map_err(|_| "no replicas".to_owned())?;
    let settings = HpaSettings {
        min_replicas: count(&case["min"])?,
        metrics: Some(metrics),
        sync_period: secs(&case["sync_s"])?,
        tolerance: crate::units::Share(float(&case["tolerance"])?),
        cpu_initialization_period: secs(&case["cpu_initialization_period_s"])?,
        initial_readiness_delay: secs(&case["initial_readiness_delay_s"])?,
        downscale_stabilization: secs(&case["downscale_stabilization_s"])?,
        behavior,
        ..HpaSettings::with_max_replicas(most)
    };
    let (lag, window) = (secs(&case["metric_lag_s"])?, secs(&case["metric_window_s"])?);
    let request_milli = Some(int(&case["request_milli"])?);
    let (ticks, expected) = (rows(&case["ticks"])?, rows(&case["expected"])?);
    if ticks.len() != expected.len() {
        return Err("ticks and expected answers differ in number".to_owned());
    }

    let mut hpa = Hpa::new(&settings, trace_time(&0.into())?);
    let (mut pods, mut readings) = (Vec::new(), Vec::new());
    for (tick, expected) in ticks.iter().zip(expected) {
        let now = trace_time(&tick[0])?;
        let usage = rows(&tick[2])?;
        pods.clear();
        readings.clear();
        for row in rows(&case["pods"])? {
            let (created, started) = (trace_time(&row[1])?, trace_time(&row[2])?);
            let deleted = present(&row[4]).map(trace_time).transpose()?;
            if now < created || deleted.is_some_and(|deleted| now >= deleted) {
                continue;
            }
            let mut ready = (false, created);
            for flip in rows(&row[3])? {
                let at = trace_time(&flip[0])?;
                if at <= now {
                    ready = (flip[1] == 1, at);
                }
            }
            let milli = usage.get(pods.len()).ok_or("a listed pod has no usage column")?;
            let sample = |milli: &Value| -> Read<Sample> {
                Ok(Sample { milli: int(milli)?, at: Time(now.0 - lag.0), window })
            };
            pods.push(Pod {
                phase: if now < started { Phase::Pending } else { Phase::Running },
                ready: Some(ready),
                started: (now >= started).then_some(started),
                deleting: false,
            });
            readings.push(PodReading { request_milli, sample: present(milli).map(sample).transpose()? });
        }
        if pods.len() != usage.len() {
            return Err(format!(
                "{} pods are listed at t={}, and {} usages",
                pods.len(),
                tick[0],
                usage.len()
            ));
        }
        // In the unit of the metric; the pods' metric is the first one, always.
        let depth = present(&tick[3]).map(|depth| int(depth).map(|depth| vec![depth * 1000])).transpose()?;
        let answers = [Reading::Pods(readings.clone()), Reading::Series(depth)];
        let fleet = Fleet {
            current: count(&tick[1])?,
            pods: &pods,
            readings: &answers,
            instance_cores: 1.0,
            instance_memory: 0,
            memory_available: 0,
        };
        let desired = hpa.evaluate(now, &fleet, &mut ());
        let conditions = hpa.conditions();
        let shown = |condition: Option<Condition>| {
            condition
                .map(|Condition { status, reason }| format!("{}:{reason}", if status { "T" } else { "F" }))
        };
        let ours = (
            desired.replicas,
            shown(conditions.able_to_scale),
            shown(conditions.scaling_active),
            shown(conditions.scaling_limited),
        );
        let reason = |column: usize| -> Read<Option<String>> {
            let Some(index) = expected[column].as_u64() else { return Ok(None) };
            text(&case["reasons"][index as usize]).map(|reason| Some(reason.to_owned()))
        };
        let theirs = (count(&expected[0])?, reason(1)?, reason(2)?, reason(3)?);
        if ours != theirs {
            return Ok(Check::Failed(format!("t={}: expected {theirs:?}, got {ours:?}", tick[0])));
        }
    }
    Ok(Check::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_cases_pass() {
        crate::conform::rollout::tests::replay("autoscaler", ADAPTERS);
    }
}
