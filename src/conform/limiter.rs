//! Adapters for the limiter vectors.

use serde_json::Value;

use super::{Adapter, Check, SCHEMA_STEPS, field, integer, number, steps, verdict};
use crate::policies::limiter::seed_token_bucket::SeedTokenBucketSettings;
use crate::policies::limiter::{Limiter, LimiterSettings};
use crate::policies::view::Admit;
use crate::time::{Duration, Time};
use crate::units::Rate;

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[
    Adapter {
        schema: SCHEMA_STEPS,
        family: "seed_token_bucket",
        algorithm: "limiter.seed-token-bucket",
        run: |file, case| verdict(token_bucket(file, case, LimiterSettings::SeedTokenBucket)),
    },
    Adapter {
        schema: SCHEMA_STEPS,
        family: "seed_token_bucket_naive",
        algorithm: "limiter.seed-token-bucket-naive",
        run: |file, case| verdict(token_bucket(file, case, LimiterSettings::SeedTokenBucketNaive)),
    },
];

fn token_bucket(
    file: &Value,
    case: &Value,
    form: fn(SeedTokenBucketSettings) -> LimiterSettings,
) -> Result<Check, String> {
    let config = field(case, "config")?;
    let capacity = integer(field(config, "capacity")?)?;
    if integer(field(config, "initial_tokens")?)? != capacity {
        return Ok(Check::Refused("the definition of the seed bucket starts full"));
    }
    let fill_rate = Rate(number(field(config, "fill_rate_per_s")?)?);
    let mut limiter =
        form(SeedTokenBucketSettings { capacity: capacity as u32, fill_rate }).build(Time::ZERO);
    for step in steps(file, case)? {
        let now = Time::from_millis(step.integer("t")?);
        let admit = match step.text("op")? {
            "a" => limiter.try_acquire(now, step.integer("n")? as u32, Duration::ZERO),
            op => return Err(step.at(&format!("`{op}` is no known operation"))),
        };
        step.expect("granted", u64::from(matches!(admit, Admit::Now(_))))?;
        let mut tokens = None;
        limiter.gauges(now, &mut |name, value| {
            if name == "tokens" {
                tokens = Some(value as u64);
            }
        });
        step.expect("tokens", tokens.ok_or("the limiter shows no tokens")?)?;
    }
    Ok(Check::Passed)
}
