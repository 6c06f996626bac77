//! Adapter for the outlier detection vectors.

use serde_json::{Value, json};

use super::{Adapter, Check, SCHEMA_STEPS, Step, close, field, integer, list, same, steps, verdict};
use crate::policies::outlier::{AnyOutlier, Outlier, OutlierSettings};
use crate::policies::view::{Class, Outcome, Slot};
use crate::random::{Playback, Rng};
use crate::time::{Duration, Time};

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[Adapter {
    schema: SCHEMA_STEPS,
    family: "envoy_outlier",
    algorithm: "outlier.envoy",
    run: |file, case| verdict(envoy(file, case)),
}];

/// The configuration of a case as settings of a scenario.
fn settings(config: &Value) -> Result<OutlierSettings, String> {
    let count = |key: &str| integer(field(config, key)?);
    let millis = |key: &str| Ok::<_, String>(format!("{}ms", count(key)?));
    let percent = |key: &str| Ok::<_, String>(format!("{}%", count(key)?));
    let written = json!({ "envoy": {
        "interval": millis("interval_ms")?,
        "base-ejection-time": millis("base_ejection_ms")?,
        "max-ejection-time": millis("max_ejection_ms")?,
        "max-ejection-time-jitter": millis("max_ejection_time_jitter_ms")?,
        "consecutive-5xx": count("consecutive_5xx")?,
        "consecutive-gateway-failure": count("consecutive_gateway_failure")?,
        "max-ejection-percent": percent("max_ejection_percent")?,
        "always-eject-one-host": field(config, "always_eject_one_host")?,
        "success-rate-minimum-hosts": count("success_rate_minimum_hosts")?,
        "success-rate-request-volume": count("success_rate_request_volume")?,
        "success-rate-stdev-factor": count("success_rate_stdev_factor")?,
        "failure-percentage-threshold": percent("failure_percentage_threshold")?,
        "failure-percentage-minimum-hosts": count("failure_percentage_minimum_hosts")?,
        "failure-percentage-request-volume": count("failure_percentage_request_volume")?,
        "enforcing-consecutive-5xx": percent("enforcing_consecutive_5xx")?,
        "enforcing-consecutive-gateway-failure": percent("enforcing_consecutive_gateway_failure")?,
        "enforcing-success-rate": percent("enforcing_success_rate")?,
        "enforcing-failure-percentage": percent("enforcing_failure_percentage")?,
    } });
    serde_json::from_value(written).map_err(|error| format!("settings: {error}"))
}

fn envoy(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    let hosts: Vec<Slot> = (0..integer(field(config, "hosts")?)? as u32).map(Slot).collect();
    let mut policy = settings(config)?.build(Time::ZERO);
    policy.on_update(Time::ZERO, &hosts);
    // All that is enforced is enforced for certain, without jitter: nothing is drawn.
    let mut rng = Rng::playback(Playback::default());
    let mut tick = Time::ZERO + policy.interval();
    for step in steps(file, case)? {
        let now = Time::from_millis(step.integer("t")?);
        while tick <= now {
            policy.on_interval(tick, &mut rng);
            tick += policy.interval();
        }
        same("op", &"R", &step.text("op")?).map_err(|message| step.at(&message))?;
        let slot = Slot(step.integer("host")? as u32);
        let good = Outcome::new(Class::Success, Duration::ZERO);
        let bad = Outcome {
            code: step.integer("err_code")? as u16,
            ..Outcome::new(Class::Failure, Duration::ZERO)
        };
        for _ in 0..step.integer("ok")? {
            policy.on_outcome(now, slot, &good, &mut rng);
        }
        for _ in 0..step.integer("err")? {
            policy.on_outcome(now, slot, &bad, &mut rng);
        }
        compare(step, &policy, &hosts)?;
    }
    Ok(Check::Passed)
}

fn compare(step: Step<'_>, policy: &AnyOutlier, hosts: &[Slot]) -> Result<(), String> {
    let expected = list(step.cell("ejected_hosts")?)?.iter().map(integer).collect::<Result<Vec<_>, _>>()?;
    let ejected = hosts.iter().filter(|slot| policy.is_ejected(**slot)).map(|slot| u64::from(slot.0));
    same("ejected hosts", &expected, &ejected.collect()).map_err(|message| step.at(&message))?;
    let mut gauges = Vec::new();
    policy.gauges(&mut |name, value| gauges.push((name, value)));
    let columns = [
        ("overflow", "overflow"),
        ("sr_mean", "success_rate_mean"),
        ("sr_threshold", "success_rate_threshold"),
    ];
    for (column, gauge) in columns {
        let found = gauges.iter().find(|(name, _)| *name == gauge);
        let (_, got) = found.ok_or_else(|| format!("there is no gauge {gauge}"))?;
        close(column, step.number(column)?, *got, 1e-9).map_err(|message| step.at(&message))?;
    }
    Ok(())
}
