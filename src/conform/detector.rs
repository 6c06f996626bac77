//! Adapters for the vectors of failure detectors.

use serde_json::{Value, json};

use super::{Adapter, Check, SCHEMA_IN_OUT, close, field, integer, list, number, same, text, verdict};
use crate::policies::Algorithm;
use crate::policies::detector::kubelet::{Kubelet, KubeletSettings, ProbeKind};
use crate::policies::detector::phi_accrual::{PhiAccrual, PhiAccrualSettings, phi};
use crate::policies::detector::{Detector, Probe, Verdict};
use crate::time::{Duration, Time};

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[
    Adapter {
        schema: SCHEMA_IN_OUT,
        family: "k8s.probe_worker",
        algorithm: "detector.kubelet",
        run: |_, case| verdict(kubelet(case)),
    },
    Adapter {
        schema: SCHEMA_IN_OUT,
        family: "phi_accrual",
        algorithm: "detector.phi-accrual",
        run: |file, case| verdict(phi_accrual(file, case)),
    },
];

fn kubelet(case: &Value) -> Result<Check, String> {
    let (input, out) = (field(case, "in")?, field(case, "out")?);
    let settings = json!({
        "failure-threshold": field(input, "failure_threshold")?,
        "success-threshold": field(input, "success_threshold")?,
    });
    let settings: KubeletSettings =
        serde_json::from_value(settings).map_err(|error| format!("settings: {error}"))?;
    let kind = match text(field(input, "kind")?)? {
        "readiness" => ProbeKind::Readiness,
        "liveness" => ProbeKind::Liveness,
        "startup" => ProbeKind::Startup,
        kind => return Err(format!("`{kind}` is no known kind")),
    };
    let word = |verdict| match verdict {
        Verdict::Unknown => "unknown",
        Verdict::Healthy => "success",
        Verdict::Unhealthy => "failure",
    };
    let mut worker = Kubelet::of_kind(&settings, kind);
    same("initial", &text(field(out, "initial")?)?, &word(worker.result()))?;
    let expected = list(field(out, "after_each")?)?;
    let results = list(field(input, "results")?)?;
    same("results", &expected.len(), &results.len())?;
    for (number, (result, expected)) in results.iter().zip(expected).enumerate() {
        let result = match text(result)? {
            "success" => Probe::Passed,
            "failure" => Probe::Failed,
            result => return Err(format!("`{result}` is no known result")),
        };
        worker.on_result(Time::ZERO, result);
        same(&format!("after result {number}"), &text(expected)?, &word(worker.result()))?;
    }
    same("on hold", &field(out, "on_hold")?.as_bool(), &Some(worker.is_on_hold()))?;
    Ok(Check::Passed)
}

/// Infinite and very large suspicions are written as one number.
const LARGE: f64 = 1e6;

fn phi_accrual(file: &Value, case: &Value) -> Result<Check, String> {
    let (input, out) = (field(case, "in")?, field(case, "out")?);
    let tolerance = file.pointer("/tolerance/rel").and_then(Value::as_f64).unwrap_or(0.0);
    let compare = |expected: &Value, got: f64| close("phi", number(expected)?, got.min(LARGE), tolerance);
    match text(field(input, "op")?)? {
        "phi" => {
            let (mean, std) = (number(field(input, "mean_ms")?)?, number(field(input, "std_ms")?)?);
            compare(field(out, "phi")?, phi(integer(field(input, "time_diff_ms")?)?, mean, std))?;
        }
        "trace" => {
            let millis = |key: &str| Ok::<_, String>(format!("{}ms", integer(field(input, key)?)?));
            let settings = json!({
                "threshold": field(input, "threshold")?,
                "max-sample-size": field(input, "max_sample_size")?,
                "min-std-deviation": millis("min_std_ms")?,
                "acceptable-heartbeat-pause": millis("acceptable_pause_ms")?,
                "heartbeat-interval": millis("first_estimate_ms")?,
            });
            let settings: PhiAccrualSettings =
                serde_json::from_value(settings).map_err(|error| format!("settings: {error}"))?;
            let mut detector = PhiAccrual::new(&settings, Time::ZERO);
            let mut now = Time::ZERO;
            let mut expected = list(field(out, "checks")?)?.iter();
            for event in list(field(input, "events")?)? {
                now += Duration::from_millis(integer(field(event, "after_ms")?)?);
                match text(field(event, "op")?)? {
                    "hb" => detector.on_result(now, Probe::Passed),
                    "check" => {
                        let check = expected.next().ok_or("there are more checks than expected ones")?;
                        compare(field(check, "phi")?, detector.phi(now))?;
                        let available = detector.is_available(now);
                        same("available", &field(check, "available")?.as_bool(), &Some(available))?;
                    }
                    op => return Err(format!("`{op}` is no known event")),
                }
            }
        }
        op => return Err(format!("`{op}` is no known operation")),
    }
    Ok(Check::Passed)
}
