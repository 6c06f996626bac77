//! Adapters for the vectors of registries and membership.

use serde_json::Value;

use super::{Adapter, Check, SCHEMA_IN_OUT, field, integer, number, same, text, verdict};
use crate::policies::discovery::eureka::{
    Lease, evict_count, is_lease_expiration_enabled, renews_per_min_threshold,
};
use crate::policies::discovery::swim::{
    push_pull_scale, remaining_suspicion_time, retransmit_limit, suspicion_timeout,
};
use crate::time::Duration;

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[
    Adapter {
        schema: SCHEMA_IN_OUT,
        family: "eureka.lease",
        algorithm: "discovery.eureka",
        run: |_, case| verdict(eureka(case)),
    },
    Adapter {
        schema: SCHEMA_IN_OUT,
        family: "swim.memberlist_timers",
        algorithm: "discovery.swim",
        run: |_, case| verdict(swim(case)),
    },
];

fn eureka(case: &Value) -> Result<Check, String> {
    let (input, out) = (field(case, "in")?, field(case, "out")?);
    let whole = |key: &str| integer(field(input, key)?);
    match text(field(input, "op")?)? {
        "renews_per_min_threshold" => {
            let interval = number(field(input, "renewal_interval_s")?)?;
            let percent = number(field(input, "percent")?)?;
            let got = renews_per_min_threshold(whole("expected_clients")?, interval, percent);
            same("threshold", &integer(field(out, "threshold")?)?, &got)?;
        }
        "evict_count" => {
            let percent = number(field(input, "percent")?)?;
            let got = evict_count(whole("registry_size")?, whole("expired")?, percent);
            same("evicted", &integer(field(out, "evicted")?)?, &got)?;
        }
        "lease_expiration_enabled" => {
            let self_preservation = field(input, "self_preservation")? == true;
            let got = is_lease_expiration_enabled(
                whole("threshold")?,
                whole("renews_last_min")?,
                self_preservation,
            );
            same("enabled", &field(out, "enabled")?.as_bool(), &Some(got))?;
        }
        "lease_expired" => {
            let mut lease = Lease::new(0, whole("duration_ms")?);
            lease.renew(0);
            let got = lease.is_expired(whole("ms_since_renew")?, whole("additional_ms")?);
            same("expired", &field(out, "expired")?.as_bool(), &Some(got))?;
        }
        op => return Err(format!("`{op}` is no known operation")),
    }
    Ok(Check::Passed)
}

fn swim(case: &Value) -> Result<Check, String> {
    let (input, out) = (field(case, "in")?, field(case, "out")?);
    let whole = |key: &str| integer(field(input, key)?);
    let count = |key: &str| whole(key).map(|value| value as u32);
    match text(field(input, "op")?)? {
        "remaining_suspicion" => {
            let millis = |key: &str| whole(key).map(u64::cast_signed);
            let got = remaining_suspicion_time(
                count("confirmations")?,
                count("k")?,
                millis("elapsed_ms")?,
                millis("min_ms")?,
                millis("max_ms")?,
            );
            same("remaining", &field(out, "remaining_ms")?.as_i64(), &Some(got))?;
        }
        "suspicion_timeout" => {
            let interval = Duration::from_millis(whole("interval_ms")?);
            let got = suspicion_timeout(count("mult")?, count("nodes")?, interval);
            same("timeout", &number(field(out, "timeout_ms")?)?, &got.as_millis_f64())?;
        }
        "retransmit_limit" => {
            let got = retransmit_limit(count("mult")?, count("nodes")?);
            same("limit", &integer(field(out, "limit")?)?, &u64::from(got))?;
        }
        "push_pull_scale" => {
            let got = push_pull_scale(Duration::from_millis(whole("interval_ms")?), count("nodes")?);
            same("interval", &number(field(out, "interval_ms")?)?, &got.as_millis_f64())?;
        }
        op => return Err(format!("`{op}` is no known operation")),
    }
    Ok(Check::Passed)
}
