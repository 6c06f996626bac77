//! Adapters for the vectors of retries and retry budgets.

use std::num::NonZeroU32;

use serde_json::Value;

use super::{Adapter, Check, SCHEMA_STEPS, close, field, integer, number, same, steps, text, verdict};
use crate::policies::Algorithm;
use crate::policies::retry::budget::tower::{Tower, TowerSettings};
use crate::policies::retry::budget::{self, Ended};
use crate::policies::retry::cockatiel::{Cockatiel, CockatielSettings, Generator};
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
        family: "retry_jitter_cockatiel",
        algorithm: "retry.cockatiel",
        run: |file, case| verdict(cockatiel(file, case)),
    },
    Adapter {
        schema: SCHEMA_STEPS,
        family: "retry_throttle_grpc",
        algorithm: "retry-budget.grpc",
        run: |file, case| verdict(grpc_throttle(file, case)),
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
        agrees(&policy, i, &mut 0.0, policy.delay_ns(i, &mut rng()), step.number("delay_ms")?, &mut rng())
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
    let (mut sleep, mut carry) = (0.0, 0.0);
    for step in steps(file, case)? {
        let n = step.integer("attempt")? as u32;
        if n == 0 {
            return Err(step.at("the simulator counts attempts from 1"));
        }
        let units = step.cell("u")?.as_f64().into_iter().collect();
        let expected = step.number("delay")?;
        let mut check = |policy: &dyn RetryPolicy, exact: f64, rng: &mut Rng| {
            agrees(policy, n - 1, &mut carry, exact, expected, rng).map_err(|message| step.at(&message))
        };
        let mut draws = Rng::playback(Playback { units, ..Playback::default() });
        let mut again = draws.clone();
        match algorithm {
            "full_jitter" => {
                let policy = Exponential::new(&settings, Time::ZERO);
                let exact = policy.backoff_ns(n, &mut draws);
                check(&policy, exact, &mut again)
            }
            "equal_jitter" => {
                let policy = EqualJitter::new(&settings, Time::ZERO);
                let exact = policy.backoff_ns(n, &mut draws);
                check(&policy, exact, &mut again)
            }
            "exponential" => {
                let policy = NoJitter::new(&settings, Time::ZERO);
                let exact = policy.backoff_ns(n);
                check(&policy, exact, &mut again)
            }
            "decorrelated" => {
                let policy = Decorrelated::new(&settings, Time::ZERO);
                let exact = policy.backoff_ns(&mut sleep, &mut draws);
                check(&policy, exact, &mut again)
            }
            "none" => {
                let at_once = FixedSettings {
                    attempts: NonZeroU32::MAX,
                    delay: Duration::ZERO,
                    ..FixedSettings::default()
                };
                check(&Fixed::new(&at_once, Time::ZERO), 0.0, &mut again)
            }
            other => Err(step.at(&format!("`{other}` is no known algorithm"))),
        }?;
    }
    Ok(Check::Passed)
}

fn cockatiel(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    let generator = match text(field(config, "generator")?)? {
        "noJitter" => Generator::NoJitter,
        "fullJitter" => Generator::FullJitter,
        "halfJitter" => Generator::HalfJitter,
        "decorrelatedJitter" => Generator::DecorrelatedJitter,
        other => return Err(format!("`{other}` is no known generator")),
    };
    let policy = Cockatiel::new(
        &CockatielSettings {
            max_attempts: NonZeroU32::MAX,
            generator,
            initial_delay: millis(field(config, "initial_delay_ms")?)?,
            max_delay: millis(field(config, "max_delay_ms")?)?,
            exponent: number(field(config, "exponent")?)?,
            on: RetryOnSet::ALL,
        },
        Time::ZERO,
    );
    let (mut state, mut carry) = (0.0, 0.0);
    for step in steps(file, case)? {
        let attempt = step.integer("attempt")? as u32;
        let units = step.cell("u")?.as_f64().into_iter().collect();
        let mut draws = Rng::playback(Playback { units, ..Playback::default() });
        let mut again = draws.clone();
        let exact = policy.next_ms(attempt, &mut state, &mut draws) * 1e6;
        agrees(&policy, attempt, &mut carry, exact, step.number("delay")?, &mut again)
            .map_err(|message| step.at(&message))?;
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
        agrees(&policy, n - 1, &mut 0.0, exact, step.number("delay_ms")?, &mut again)
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
    let mut carry = 0.0;
    for step in steps(file, case)? {
        let n = step.integer("attempt")? as u32;
        let mut rng = Rng::playback(Playback::default());
        let Retry::After(delay) = policy.on_failure(Time::ZERO, n - 1, &mut carry, &outcome, &mut rng) else {
            return Err(step.at("it gives up"));
        };
        step.expect("interval_ms", delay.as_millis())?;
    }
    Ok(Check::Passed)
}

/// Compares the delay before it is rounded to nanoseconds, and that the policy as such answers with it rounded.
fn agrees(
    policy: &dyn RetryPolicy,
    failed_attempt: u32,
    carry: &mut f64,
    exact_ns: f64,
    expected_ms: f64,
    rng: &mut Rng,
) -> Result<(), String> {
    close("delay in ms", expected_ms, exact_ns / 1e6, TOLERANCE)?;
    let outcome = Outcome::new(Class::Failure, Duration::ZERO);
    let answer = policy.on_failure(Time::ZERO, failed_attempt, carry, &outcome, rng);
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
            "w" => step.expect("allowed", u64::from(budget.withdraw(now, Some(Class::Failure)).is_some()))?,
            "p" => budget.deposit(now),
            op => return Err(step.at(&format!("`{op}` is no known operation"))),
        }
        let balance = step.cell("balance")?;
        let balance = balance.as_i64().ok_or_else(|| step.at(&format!("`{balance}` is no balance")))?;
        same("balance", &balance, &budget.balance()).map_err(|message| step.at(&message))?;
    }
    Ok(Check::Passed)
}

fn grpc_throttle(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    let mut budget = budget::grpc::Grpc::new(
        &budget::grpc::GrpcSettings {
            max_tokens: number(field(config, "max_tokens")?)?,
            token_ratio: number(field(config, "token_ratio")?)?,
        },
        Time::ZERO,
    );
    for step in steps(file, case)? {
        let class = match step.text("op")? {
            "s" => Class::Success,
            "f" => Class::Failure,
            op => return Err(step.at(&format!("`{op}` is no known operation"))),
        };
        let retryable = class == Class::Failure;
        budget.on_ended(Time::ZERO, &Ended { class, sent: true, withdrawn: None, retryable });
        close("tokens", step.number("tokens")?, budget.tokens(), TOLERANCE)
            .map_err(|message| step.at(&message))?;
        let allowed = budget.withdraw(Time::ZERO, Some(class)).is_some();
        step.expect("can_retry", u64::from(allowed))?;
    }
    Ok(Check::Passed)
}

fn millis(value: &Value) -> Result<Duration, String> {
    Ok(Duration::from_ns_f64(number(value)? * 1e6))
}
