//! Adapters for the breaker vectors.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde_json::Value;

use super::{Adapter, Check, SCHEMA_STEPS, field, integer, same, steps, verdict};
use crate::policies::breaker::seed::SeedSettings;
use crate::policies::breaker::{Breaker, BreakerSettings, BreakerState};
use crate::policies::view::{Admit, Class, Outcome, Permit};
use crate::time::{Duration, Time};

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[Adapter {
    schema: SCHEMA_STEPS,
    family: "seed",
    algorithm: "breaker.seed",
    run: |file, case| verdict(seed(file, case)),
}];

fn seed(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    let millis = |key: &str| Ok::<_, String>(Duration::from_millis(integer(field(config, key)?)?));
    if integer(field(config, "half_open_probes")?)? != 1 {
        return Ok(Check::Refused("the definition of the seed breaker has one probe"));
    }
    let settings = BreakerSettings::Seed(SeedSettings {
        error_threshold: NonZeroU32::new(integer(field(config, "error_threshold")?)? as u32)
            .ok_or("error_threshold is 0")?,
        window: millis("window_ms")?,
        count_unit: millis("count_unit_ms")?,
        open: millis("open_ms")?,
    });
    let mut breaker = settings.build(Time::ZERO);
    let mut permits: BTreeMap<u64, Permit> = BTreeMap::new();
    for step in steps(file, case)? {
        let now = Time::from_millis(step.integer("t")?);
        let class = match step.text("op")? {
            "a" => {
                let admit = breaker.try_acquire(now);
                step.expect("permit", u64::from(matches!(admit, Admit::Now(_))))?;
                if let Admit::Now(permit) = admit {
                    permits.insert(step.integer("call")?, permit);
                }
                None
            }
            "s" => Some(Class::Success),
            "e" => Some(Class::Failure),
            op => return Err(step.at(&format!("`{op}` is no known operation"))),
        };
        if let Some(class) = class {
            let permit = permits.remove(&step.integer("call")?);
            let permit = permit.ok_or_else(|| step.at("the call was never admitted"))?;
            breaker.on_outcome(now, permit, &Outcome::new(class, now - permit.start));
        }
        let state = match breaker.state(now) {
            BreakerState::Closed => "C",
            BreakerState::Open => "O",
            BreakerState::HalfOpen => "H",
        };
        same("state", &step.text("state")?, &state).map_err(|message| step.at(&message))?;
        let mut errors = None;
        breaker.gauges(now, &mut |name, value| {
            if name == "errors" {
                errors = Some(value as u64);
            }
        });
        step.expect("errors_in_window", errors.ok_or("the breaker shows no errors")?)?;
    }
    Ok(Check::Passed)
}
