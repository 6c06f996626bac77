//! Adapters for the vectors of retries and retry budgets.

use std::num::NonZeroU32;

use serde_json::Value;

use super::{Adapter, Check, SCHEMA_STEPS, close, field, integer, number, same, steps, text, verdict};
use crate::policies::Algorithm;
use crate::policies::retry::budget::tower::{Tower, TowerSettings};
use crate::policies::retry::exponential::{Exponential, ExponentialSettings};
use crate::policies::retry::seed::{Seed, SeedSettings};
use crate::policies::retry::{Budget, Retry, RetryPolicy};
use crate::policies::view::{Class, Outcome};
use crate::random::{Playback, Rng};
use crate::time::{Duration, Time};
use crate::units::Share;

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[
    Adapter {
        schema: SCHEMA_STEPS,
        family: "seed_retry",
        algorithm: "retry.seed",
        run: |file, case| verdict(seed(file, case)),
    },
    Adapter {
        schema: SCHEMA_STEPS,
        family: "retry_jitter_aws",
        algorithm: "retry.exponential",
        run: |file, case| verdict(aws(file, case)),
    },
    Adapter {
        schema: SCHEMA_STEPS,
        family: "retry_budget_tower",
        algorithm: "retry-budget.tower",
        run: |file, case| verdict(tower(file, case)),
    },
];

/// Relative tolerance of the recorded delays.
const TOLERANCE: f64 = 1e-9;

fn seed(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    let policy = Seed::new(
        &SeedSettings {
            attempts: NonZeroU32::MAX,
            delay: millis(field(config, "delay_ms")?)?,
            backoff: number(field(config, "backoff")?)?,
            max_delay: millis(field(config, "max_delay_ms")?)?,
            ..SeedSettings::default()
        },
        Time::ZERO,
    );
    for step in steps(file, case)? {
        let i = step.integer("i")? as u32;
        let rng = || Rng::playback(Playback::default());
        agrees(&policy, i, policy.delay_ns(i, &mut rng()), step.number("delay_ms")?, &mut rng())
            .map_err(|message| step.at(&message))?;
    }
    Ok(Check::Passed)
}

fn aws(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    if text(field(config, "algorithm")?)? != "full_jitter" {
        return Ok(Check::Skipped("of AWS's ways to back off, simlab has full jitter only"));
    }
    // The simulator's unit of time is the millisecond.
    let policy = Exponential::new(
        &ExponentialSettings {
            attempts: NonZeroU32::MAX,
            base: millis(field(config, "base")?)?,
            max_delay: millis(field(config, "cap")?)?,
            ..ExponentialSettings::default()
        },
        Time::ZERO,
    );
    for step in steps(file, case)? {
        let (n, u) = (step.integer("attempt")? as u32, step.number("u")?);
        if n == 0 {
            return Err(step.at("the simulator counts attempts from 1"));
        }
        let rng = || Rng::playback(Playback { units: [u].into(), ..Playback::default() });
        agrees(&policy, n - 1, policy.backoff_ns(n, &mut rng()), step.number("delay")?, &mut rng())
            .map_err(|message| step.at(&message))?;
    }
    Ok(Check::Passed)
}

/// Compares the delay before it is rounded to nanoseconds, and that the policy as such answers with it rounded.
fn agrees(
    policy: &impl RetryPolicy,
    failed_attempt: u32,
    exact_ns: f64,
    expected_ms: f64,
    rng: &mut Rng,
) -> Result<(), String> {
    close("delay in ms", expected_ms, exact_ns / 1e6, TOLERANCE)?;
    let outcome = Outcome::new(Class::Failure, Duration::ZERO);
    let answer = policy.on_failure(Time::ZERO, failed_attempt, Duration::ZERO, &outcome, rng);
    same("answer", &Retry::After(Duration::from_ns_f64(exact_ns)), &answer)
}

fn tower(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    let mut budget = Tower::new(
        &TowerSettings {
            ttl: Duration::from_secs(integer(field(config, "ttl_s")?)?),
            min_per_sec: integer(field(config, "min_per_sec")?)? as u32,
            retry_percent: Share(number(field(config, "retry_percent")?)?),
        },
        Time::ZERO,
    );
    for step in steps(file, case)? {
        let now = Time::from_millis(step.integer("t")?);
        match step.text("op")? {
            "w" => step.expect("allowed", u64::from(budget.withdraw(now)))?,
            "p" => budget.deposit(now),
            op => return Err(step.at(&format!("`{op}` is no known operation"))),
        }
        let balance = step.cell("balance")?;
        let balance = balance.as_i64().ok_or_else(|| step.at(&format!("`{balance}` is no balance")))?;
        same("balance", &balance, &budget.balance()).map_err(|message| step.at(&message))?;
    }
    Ok(Check::Passed)
}

fn millis(value: &Value) -> Result<Duration, String> {
    Ok(Duration::from_ns_f64(number(value)? * 1e6))
}
