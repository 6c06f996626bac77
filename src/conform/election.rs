//! Adapters for the vectors of elections.

use serde_json::{Value, json};

use super::{Adapter, Check, SCHEMA_IN_OUT, field, integer, number, same, text, verdict};
use crate::policies::election::Seat;
use crate::policies::election::lease::{Claim, Identity, LeaseSettings, Record, claim};
use crate::time::Time;

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[Adapter {
    schema: SCHEMA_IN_OUT,
    family: "k8s.lease_election",
    algorithm: "election.lease",
    run: |_, case| verdict(lease(case)),
}];

fn lease(case: &Value) -> Result<Check, String> {
    let (input, out) = (field(case, "in")?, field(case, "out")?);
    match text(field(input, "op")?)? {
        "try_acquire" => {
            let whole = |key: &str| integer(field(input, key)?);
            let me = text(field(input, "me")?)?;
            let holder = text(field(input, "record_holder")?)?;
            let identity = |name: &str| match name {
                "" => Identity::NOBODY,
                name => Identity::new(Seat(u32::from(name != me)), 1),
            };
            let record = Record {
                holder_identity: identity(holder),
                lease_duration_seconds: whole("lease_duration_s")?,
                leader_transitions: 0,
            };
            let (now, observed) =
                (Time::from_secs(whole("now_s")?), Time::from_secs(whole("observed_at_s")?));
            let got = claim(now, identity(me), &record, observed);
            same("acquired", &field(out, "acquired")?.as_bool(), &Some(got != Claim::Respect))?;
            same("transition", &field(out, "transition")?.as_bool(), &Some(got == Claim::Take))?;
        }
        "config_valid" => {
            let seconds = |key: &str| Ok::<_, String>(format!("{}s", number(field(input, key)?)?));
            let settings = json!({
                "lease-duration": seconds("lease_duration_s")?,
                "renew-deadline": seconds("renew_deadline_s")?,
                "retry-period": seconds("retry_period_s")?,
            });
            let got = serde_json::from_value::<LeaseSettings>(settings).is_ok();
            same("valid", &field(out, "valid")?.as_bool(), &Some(got))?;
        }
        op => return Err(format!("`{op}` is no known operation")),
    }
    Ok(Check::Passed)
}
