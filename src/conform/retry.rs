//! Adapters for the vectors of retries and retry budgets.

use std::num::NonZeroU32;

use serde_json::Value;

use super::{Adapter, Check, SCHEMA_STEPS, close, field, integer, number, same, steps, text, verdict};
use crate::policies::Algorithm;
use crate::policies::retry::budget::tower::{Tower, TowerSettings};
use crate::policies::retry::decorrelated::Decorrelated;
use crate::policies::retry::equal_jitter::EqualJitter;
use crate::policies::retry::exponential::{Exponential, ExponentialSettings};
use crate::policies::retry::fixed::{Fixed, FixedSettings};
use crate::policies::retry::grpc::{Grpc, GrpcSettings};
use crate::policies::retry::no_jitter::NoJitter;
use crate::policies::retry::resilience4j::{Resilience4j, Resilience4jSettings};
use crate::policies::retry::seed::{Seed, SeedSettings};
use crate::policies::retry::{Budget, Retry, RetryOnSet, RetryPolicy};
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
        family: "retry_backoff_grpc",
        algorithm: "retry.grpc",
        run: |file, case| verdict(grpc(file, case)),
    },
    Adapter {
        schema: SCHEMA_STEPS,
        family: "retry_interval_resilience4j",
        algorithm: "retry.resilience4j",
        run: |file, case| verdict(resilience4j(file, case)),
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
        agrees(
            &policy,
            i,
            Duration::ZERO,
            policy.delay_ns(i, &mut rng()),
            step.number("delay_ms")?,
            &mut rng(),
        )
        .map_err(|message| step.at(&message))?;
    }
    Ok(Check::Passed)
}

fn aws(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    // The simulator's unit of time is the millisecond.
    let settings = ExponentialSettings {
        attempts: NonZeroU32::MAX,
        base: millis(field(config, "base")?)?,
        max_delay: millis(field(config, "cap")?)?,
        ..ExponentialSettings::default()
    };
    let algorithm = text(field(config, "algorithm")?)?;
    let mut previous = 0.0;
    for step in steps(file, case)? {
        let n = step.integer("attempt")? as u32;
        if n == 0 {
            return Err(step.at("the simulator counts attempts from 1"));
        }
        let units = step.cell("u")?.as_f64().into_iter().collect();
        let expected = step.number("delay")?;
        let check = |policy: &dyn RetryPolicy, exact: f64, rng: &mut Rng| {
            agrees(policy, n - 1, Duration::from_ns_f64(previous), exact, expected, rng)
                .map_err(|message| step.at(&message))
        };
        let mut draws = Rng::playback(Playback { units, ..Playback::default() });
        let mut again = draws.clone();
        let exact = match algorithm {
            "full_jitter" => {
                let policy = Exponential::new(&settings, Time::ZERO);
                let exact = policy.backoff_ns(n, &mut draws);
                check(&policy, exact, &mut again).map(|()| exact)
            }
            "equal_jitter" => {
                let policy = EqualJitter::new(&settings, Time::ZERO);
                let exact = policy.backoff_ns(n, &mut draws);
                check(&policy, exact, &mut again).map(|()| exact)
            }
            "exponential" => {
                let policy = NoJitter::new(&settings, Time::ZERO);
                let exact = policy.backoff_ns(n);
                check(&policy, exact, &mut again).map(|()| exact)
            }
            "decorrelated" => {
                let exact = Decorrelated::new(&settings, Time::ZERO).backoff_ns(previous, &mut draws);
                close("delay in ms", expected, exact / 1e6, TOLERANCE)
                    .map_err(|message| step.at(&message))
                    .map(|()| exact)
            }
            "none" => {
                let at_once = FixedSettings {
                    attempts: NonZeroU32::MAX,
                    delay: Duration::ZERO,
                    ..FixedSettings::default()
                };
                check(&Fixed::new(&at_once, Time::ZERO), 0.0, &mut again).map(|()| 0.0)
            }
            other => Err(step.at(&format!("`{other}` is no known algorithm"))),
        }?;
        previous = exact;
    }
    Ok(Check::Passed)
}

fn grpc(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    let policy = Grpc::new(
        &GrpcSettings {
            max_attempts: u32::MAX,
            initial_backoff: millis(field(config, "initial_ms")?)?,
            max_backoff: millis(field(config, "max_ms")?)?,
            backoff_multiplier: number(field(config, "multiplier")?)?,
            on: RetryOnSet::ALL,
        },
        Time::ZERO,
    );
    for step in steps(file, case)? {
        let n = step.integer("attempt")? as u32;
        let mut draws = Rng::playback(Playback { units: [step.number("u")?].into(), ..Playback::default() });
        let mut again = draws.clone();
        let exact = policy.backoff_ns(n, &mut draws);
        agrees(&policy, n - 1, Duration::ZERO, exact, step.number("delay_ms")?, &mut again)
            .map_err(|message| step.at(&message))?;
    }
    Ok(Check::Passed)
}

fn resilience4j(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    let policy = Resilience4j::new(
        &Resilience4jSettings {
            max_attempts: NonZeroU32::MAX,
            wait_duration: millis(field(config, "initial_ms")?)?,
            exponential_backoff_multiplier: number(field(config, "multiplier")?)?,
            exponential_max_wait_duration: millis(field(config, "max_ms")?)?,
            on: RetryOnSet::ALL,
        },
        Time::ZERO,
    );
    let outcome = Outcome::new(Class::Failure, Duration::ZERO);
    let mut previous = Duration::ZERO;
    for step in steps(file, case)? {
        let n = step.integer("attempt")? as u32;
        let mut rng = Rng::playback(Playback::default());
        let Retry::After(delay) = policy.on_failure(Time::ZERO, n - 1, previous, &outcome, &mut rng) else {
            return Err(step.at("it gives up"));
        };
        step.expect("interval_ms", delay.as_millis())?;
        previous = delay;
    }
    Ok(Check::Passed)
}

/// Compares the delay before it is rounded to nanoseconds, and that the policy as such answers with it rounded.
fn agrees(
    policy: &dyn RetryPolicy,
    failed_attempt: u32,
    previous: Duration,
    exact_ns: f64,
    expected_ms: f64,
    rng: &mut Rng,
) -> Result<(), String> {
    close("delay in ms", expected_ms, exact_ns / 1e6, TOLERANCE)?;
    let outcome = Outcome::new(Class::Failure, Duration::ZERO);
    let answer = policy.on_failure(Time::ZERO, failed_attempt, previous, &outcome, rng);
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
