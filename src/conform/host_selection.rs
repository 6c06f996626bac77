//! Adapters for the vectors of host selection by health.

use serde_json::Value;

use super::{Adapter, Check, SCHEMA_IN_OUT, field, integer, list, same, text, verdict};
use crate::policies::host_selection::envoy::{Counts, Levels, LocalityRouting, locality_routing};

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[
    Adapter {
        schema: SCHEMA_IN_OUT,
        family: "envoy.priority_load_and_panic",
        algorithm: "host-selection.envoy",
        run: |_, case| verdict(priorities(case)),
    },
    Adapter {
        schema: SCHEMA_IN_OUT,
        family: "envoy.zone_aware",
        algorithm: "host-selection.envoy",
        run: |_, case| verdict(zone_aware(case)),
    },
];

fn count(object: &Value, key: &str) -> Result<u32, String> {
    u32::try_from(integer(field(object, key)?)?).map_err(|_| format!("`{key}` is too large"))
}

fn counts(object: &Value, key: &str) -> Result<Vec<u32>, String> {
    list(field(object, key)?)?.iter().map(|value| integer(value).map(|value| value as u32)).collect()
}

fn priorities(case: &Value) -> Result<Check, String> {
    let (input, out) = (field(case, "in")?, field(case, "out")?);
    let level = |level: &Value| {
        let (healthy, degraded) = (count(level, "healthy")?, count(level, "degraded")?);
        Ok(Counts { healthy, degraded, total: count(level, "total")? })
    };
    let levels = list(field(input, "levels")?)?.iter().map(level).collect::<Result<Vec<_>, String>>()?;
    if levels.is_empty() {
        return Err("there are no levels".to_owned());
    }
    let (threshold, factor) =
        (count(input, "panic_threshold_percent")?, count(input, "overprovisioning_percent")?);
    let got = Levels::new(&levels, threshold, factor);
    same("health", &counts(out, "health")?, &got.per_priority_health)?;
    same("degraded", &counts(out, "degraded")?, &got.per_priority_degraded)?;
    same("healthy load", &counts(out, "healthy_load")?, &got.healthy_load)?;
    same("degraded load", &counts(out, "degraded_load")?, &got.degraded_load)?;
    let panic: Vec<bool> = list(field(out, "panic")?)?.iter().map(|panic| panic == true).collect();
    same("panic", &panic, &got.per_priority_panic)?;
    Ok(Check::Passed)
}

fn zone_aware(case: &Value) -> Result<Check, String> {
    let (input, out) = (field(case, "in")?, field(case, "out")?);
    let local = field(input, "local_hosts")?.as_object().ok_or("`local_hosts` is not a table")?;
    let callers = local.values().map(integer).sum::<Result<u64, String>>()?;
    let mut localities = Vec::new();
    for upstream in list(field(input, "upstream_healthy")?)? {
        let zone = text(field(upstream, "zone")?)?;
        let here = local.get(zone).map_or(Ok(0), integer)?;
        localities.push((here, integer(field(upstream, "hosts")?)?));
    }
    if localities.is_empty() {
        return Err("there are no endpoints".to_owned());
    }
    let state = text(field(out, "state")?)?;
    match locality_routing(callers, &localities, true) {
        LocalityRouting::None => same("state", &state, &"none")?,
        LocalityRouting::Direct => same("state", &state, &"direct")?,
        LocalityRouting::Residual { local_percent_to_route, residual_capacity } => {
            same("state", &state, &"residual")?;
            let percent = integer(field(out, "local_percent_to_route")?)?;
            same("local percent", &percent, &local_percent_to_route)?;
            let residual = list(field(out, "residual_capacity")?)?.iter().map(integer);
            same("residual capacity", &residual.collect::<Result<Vec<_>, _>>()?, &residual_capacity)?;
        }
    }
    Ok(Check::Passed)
}
