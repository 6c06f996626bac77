//! Adapter for the decision table of KEDA's executor.

use serde_json::Value;

use super::{Adapter, Check, SCHEMA_AUTOSCALER, field, integer, same, text, verdict};
use crate::policies::Algorithm;
use crate::policies::autoscaler::keda::{Fallback, FallbackBehavior, Keda, KedaSettings, Outcome};
use crate::time::{Duration, Time};

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[Adapter {
    schema: SCHEMA_AUTOSCALER,
    family: "keda_executor",
    algorithm: "autoscaler.keda",
    run: |file, case| verdict(executor(file, case)),
}];

/// The present of every case.
const NOW: Time = Time::from_secs(10_000_000);

fn executor(file: &Value, case: &Value) -> Result<Check, String> {
    let get = |key: &str| match case.get(key) {
        Some(value) => Ok(value),
        None => field(field(file, "defaults")?, key),
    };
    let secs = |key: &str| integer(get(key)?).map(Duration::from_secs);
    let ago = |age: Duration| Time((NOW - Time::ZERO - age).0);
    let count = |value: &Value| u32::try_from(integer(value)?).map_err(|_| format!("`{value}` is too large"));
    let optional = |key: &str| match get(key)? {
        Value::Null => Ok(None),
        value => count(value).map(Some),
    };
    let flag = |key: &str| {
        let value = get(key)?;
        value.as_bool().ok_or_else(|| format!("`{value}` is not a truth value"))
    };
    let settings = KedaSettings {
        cooldown_period: secs("cooldown_s")?,
        initial_cooldown_period: secs("initial_cooldown_s")?,
        idle_replica_count: optional("idle")?,
        min_replica_count: count(get("min")?)?,
        fallback: optional("fallback_replicas")?.map(|replicas| Fallback {
            failure_threshold: 0,
            replicas,
            behavior: FallbackBehavior::Static,
        }),
        ..KedaSettings::default()
    };
    let last_active = match get("last_active_age_s")? {
        Value::Null => None,
        age => Some(ago(Duration::from_secs(integer(age)?))),
    };
    let created = ago(secs("scaled_object_age_s")?);
    let mut keda = Keda::new(&settings, created).with_last_active(last_active);
    let poll = keda.request_scale(NOW, count(get("current")?)?, flag("is_active")?, flag("is_error")?);

    let expected = field(case, "expected")?;
    let why = match poll.outcome {
        Outcome::Activated => "activate",
        Outcome::StaysActive => "stay_active",
        Outcome::PartialTriggerError => "partial_error_no_change",
        Outcome::WaitsForFallback => "fallback_wait",
        Outcome::TriggerError => "trigger_error_no_change",
        Outcome::CoolingDown => "cooling_down",
        Outcome::Deactivated => "deactivate",
        Outcome::RaisedToMin => "raise_to_min",
        Outcome::Unchanged => "no_change",
    };
    same("reason", &text(field(expected, "why")?)?, &why)?;
    same("replicas", &count(field(expected, "replicas")?)?, &poll.replicas)?;
    let is_updated = field(expected, "last_active_updated")?.as_bool();
    let theirs = if is_updated == Some(true) { Some(NOW) } else { last_active };
    same("last activity", &theirs, &keda.last_active())?;
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
