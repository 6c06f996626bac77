//! Adapters for the breaker vectors.
//!
//! An adapter writes the neutral configuration of a case as settings of a scenario, so their reading is tested, too, and
//! names the gauges that the columns of the file are compared with.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Adapter, Check, SCHEMA_STEPS, Step, close, field, integer, number, same, steps, text, verdict};
use crate::policies::breaker::{AnyBreaker, Breaker, BreakerSettings, BreakerState};
use crate::policies::view::{Admit, Class, Outcome, Permit};
use crate::time::{Duration, Time};

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[
    Adapter {
        schema: SCHEMA_STEPS,
        family: "seed",
        algorithm: "breaker.seed",
        run: |file, case| verdict(replay(file, case, seed, SEED)),
    },
    Adapter {
        schema: SCHEMA_STEPS,
        family: "resilience4j",
        algorithm: "breaker.resilience4j",
        run: |file, case| verdict(replay(file, case, resilience4j, RESILIENCE4J)),
    },
    Adapter {
        schema: SCHEMA_STEPS,
        family: "hystrix",
        algorithm: "breaker.hystrix",
        run: |file, case| verdict(replay(file, case, hystrix, HYSTRIX)),
    },
    Adapter {
        schema: SCHEMA_STEPS,
        family: "sentinel",
        algorithm: "breaker.sentinel",
        run: |file, case| verdict(replay(file, case, sentinel, SENTINEL)),
    },
    Adapter {
        schema: SCHEMA_STEPS,
        family: "gobreaker",
        algorithm: "breaker.gobreaker",
        run: |file, case| verdict(replay(file, case, gobreaker, GOBREAKER)),
    },
    Adapter {
        schema: SCHEMA_STEPS,
        family: "polly_v8",
        algorithm: "breaker.polly",
        run: |file, case| verdict(replay(file, case, polly, PLAIN)),
    },
    Adapter {
        schema: SCHEMA_STEPS,
        family: "opossum",
        algorithm: "breaker.opossum",
        run: |file, case| verdict(replay(file, case, opossum, OPOSSUM)),
    },
    Adapter {
        schema: SCHEMA_STEPS,
        family: "cockatiel",
        algorithm: "breaker.cockatiel",
        run: |file, case| verdict(replay(file, case, cockatiel, PLAIN)),
    },
    Adapter {
        schema: SCHEMA_STEPS,
        family: "recloser",
        algorithm: "breaker.recloser",
        run: |file, case| verdict(replay(file, case, recloser, PLAIN)),
    },
    Adapter {
        schema: SCHEMA_STEPS,
        family: "failsafe_rs",
        algorithm: "breaker.failsafe",
        run: |file, case| verdict(replay(file, case, failsafe, PLAIN)),
    },
];

/// How the columns of a file are read.
#[derive(Clone, Copy)]
struct Columns {
    /// Column of the latency in milliseconds; else it is the time since the admission.
    latency: Option<&'static str>,
    /// Columns and the gauges they are compared with.
    gauges: &'static [(&'static str, &'static str)],
    /// Absolute tolerance of the gauges, in words of the vectors' README: only of single-precision rates.
    tolerance: f64,
    /// Instant of `t` = 0, in milliseconds.
    origin: u64,
}

const PLAIN: Columns = Columns { latency: None, gauges: &[], tolerance: 0.0, origin: 0 };

const SEED: Columns = Columns { gauges: &[("errors_in_window", "errors")], ..PLAIN };

const RESILIENCE4J: Columns = Columns {
    latency: Some("duration_ms"),
    gauges: &[
        ("buffered", "calls"),
        ("failed", "failed"),
        ("slow", "slow"),
        ("not_permitted", "not_permitted"),
        ("failure_rate_pct", "failure_rate"),
        ("slow_rate_pct", "slow_call_rate"),
    ],
    tolerance: 1e-3,
    ..PLAIN
};

const HYSTRIX: Columns = Columns {
    gauges: &[
        ("health_total", "calls"),
        ("health_errors", "errors"),
        ("health_error_pct", "error_percentage"),
    ],
    ..PLAIN
};

const SENTINEL: Columns = Columns { latency: Some("rt_ms"), origin: 1_700_000_000_000, ..PLAIN };

const GOBREAKER: Columns = Columns {
    gauges: &[
        ("requests", "requests"),
        ("total_successes", "successes"),
        ("total_failures", "failures"),
        ("total_exclusions", "exclusions"),
        ("consecutive_successes", "consecutive_successes"),
        ("consecutive_failures", "consecutive_failures"),
    ],
    ..PLAIN
};

/// `timed_out_calls` is not compared: a breaker does not name calls. That their later results are dropped shows in the
/// counts.
const OPOSSUM: Columns = Columns {
    gauges: &[
        ("fires", "fires"),
        ("successes", "successes"),
        ("failures", "failures"),
        ("timeouts", "timeouts"),
        ("rejects", "rejects"),
    ],
    ..PLAIN
};

/// The configuration of a case.
#[derive(Clone, Copy)]
struct Config<'a>(&'a Value);

impl<'a> Config<'a> {
    fn integer(self, key: &str) -> Result<u64, String> {
        integer(field(self.0, key)?)
    }

    fn text(self, key: &str) -> Result<&'a str, String> {
        text(field(self.0, key)?)
    }

    /// A length of time as it is written in a scenario.
    fn millis(self, key: &str) -> Result<String, String> {
        Ok(format!("{}ms", self.integer(key)?))
    }

    /// A share as it is written in a scenario; in the case it is a percentage or a fraction.
    fn share(self, key: &str) -> Result<String, String> {
        let value = number(field(self.0, key)?)?;
        Ok(if key.ends_with("_pct") { format!("{value}%") } else { format!("{}%", round(value * 100.0)) })
    }
}

/// Rid of the last bits that the change to a percentage brings.
fn round(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

/// Settings from the configuration of a case.
type Read = fn(Config<'_>) -> Result<Value, String>;

fn seed(config: Config<'_>) -> Result<Value, String> {
    if config.integer("half_open_probes")? != 1 {
        return Err("the definition of the seed breaker has one probe".to_owned());
    }
    Ok(json!({ "seed": {
        "error-threshold": config.integer("error_threshold")?,
        "window": config.millis("window_ms")?,
        "count-unit": config.millis("count_unit_ms")?,
        "open": config.millis("open_ms")?,
    } }))
}

fn resilience4j(config: Config<'_>) -> Result<Value, String> {
    Ok(json!({ "resilience4j": {
        "sliding-window-type": format!("{}-based", config.text("window_type")?),
        "sliding-window-size": config.integer("window_size")?,
        "minimum-number-of-calls": config.integer("minimum_calls")?,
        "failure-rate-threshold": config.share("failure_rate_threshold_pct")?,
        "slow-call-rate-threshold": config.share("slow_call_rate_threshold_pct")?,
        "slow-call-duration-threshold": config.millis("slow_call_duration_ms")?,
        "wait-duration-in-open-state": config.millis("open_wait_ms")?,
        "exponential-backoff-multiplier": number(field(config.0, "open_wait_multiplier")?)?,
        "exponential-max-wait-duration-in-open-state": config.millis("open_wait_max_ms")?,
        "permitted-number-of-calls-in-half-open-state": config.integer("half_open_permitted_calls")?,
        "max-wait-duration-in-half-open-state": config.millis("half_open_max_wait_ms")?,
        "transition-to-state-after-wait-duration": config.text("half_open_max_wait_target")?,
        "automatic-transition-from-open-to-half-open-enabled": field(config.0, "auto_half_open")?,
    } }))
}

fn hystrix(config: Config<'_>) -> Result<Value, String> {
    Ok(json!({ "hystrix": {
        "request-volume-threshold": config.integer("request_volume_threshold")?,
        "error-threshold-percentage": config.share("error_threshold_pct")?,
        "sleep-window": config.millis("sleep_window_ms")?,
        "rolling-window": config.millis("rolling_window_ms")?,
        "health-snapshot-interval": config.millis("health_snapshot_ms")?,
    } }))
}

fn sentinel(config: Config<'_>) -> Result<Value, String> {
    let mut settings = json!({
        "time-window": config.millis("open_wait_ms")?,
        "min-request-amount": config.integer("min_requests")?,
        "stat-interval": config.millis("stat_interval_ms")?,
    });
    match config.text("strategy")? {
        "slow_ratio" => {
            settings["max-rt"] = config.millis("max_rt_ms")?.into();
            settings["ratio-threshold"] = config.share("threshold")?.into();
        }
        "error_ratio" => {
            settings["grade"] = "error-ratio".into();
            settings["ratio-threshold"] = config.share("threshold")?.into();
        }
        "error_count" => {
            settings["grade"] = "error-count".into();
            settings["count"] = (number(field(config.0, "threshold")?)? as u32).into();
        }
        other => return Err(format!("`{other}` is no known strategy")),
    }
    Ok(json!({ "sentinel": settings }))
}

fn gobreaker(config: Config<'_>) -> Result<Value, String> {
    let mut settings = json!({
        "max-requests": config.integer("max_requests")?,
        "interval": config.millis("interval_ms")?,
        "bucket-period": config.millis("bucket_period_ms")?,
        "timeout": config.millis("timeout_ms")?,
    });
    match config.text("trip")? {
        "default" => {}
        "consecutive" => settings["consecutive-failures"] = config.integer("consecutive_failures")?.into(),
        "ratio" => {
            settings["min-requests"] = config.integer("min_requests")?.into();
            settings["failure-ratio"] = config.share("failure_ratio")?.into();
        }
        other => return Err(format!("`{other}` is no known rule")),
    }
    Ok(json!({ "gobreaker": settings }))
}

fn polly(config: Config<'_>) -> Result<Value, String> {
    Ok(json!({ "polly": {
        "failure-ratio": config.share("failure_ratio")?,
        "minimum-throughput": config.integer("minimum_throughput")?,
        "sampling-duration": config.millis("sampling_duration_ms")?,
        "break-duration": config.millis("break_duration_ms")?,
    } }))
}

fn opossum(config: Config<'_>) -> Result<Value, String> {
    Ok(json!({ "opossum": {
        "timeout": config.millis("timeout_ms")?,
        "reset-timeout": config.millis("reset_timeout_ms")?,
        "error-threshold-percentage": config.share("error_threshold_pct")?,
        "volume-threshold": config.integer("volume_threshold")?,
        "rolling-count-timeout": config.millis("rolling_window_ms")?,
        "rolling-count-buckets": config.integer("buckets")?,
        "capacity": config.integer("capacity")?,
    } }))
}

fn cockatiel(config: Config<'_>) -> Result<Value, String> {
    let mut settings = json!({ "half-open-after": config.millis("half_open_after_ms")? });
    if config.integer("half_open_multiplier")? != 1 {
        settings["half-open-max"] = config.millis("half_open_max_ms")?.into();
    }
    match config.text("breaker")? {
        "consecutive" => settings["consecutive-failures"] = config.integer("threshold")?.into(),
        "count" => {
            settings["threshold"] = config.share("threshold")?.into();
            settings["size"] = config.integer("size")?.into();
            settings["minimum-number-of-calls"] = config.integer("minimum_calls")?.into();
        }
        "sampling" => {
            settings["threshold"] = config.share("threshold")?.into();
            settings["duration"] = config.millis("duration_ms")?.into();
            settings["minimum-rps"] = config.integer("minimum_rps")?.into();
        }
        other => return Err(format!("`{other}` is no known breaker")),
    }
    Ok(json!({ "cockatiel": settings }))
}

fn recloser(config: Config<'_>) -> Result<Value, String> {
    let mut settings = json!({
        "closed-len": config.integer("closed_len")?,
        "half-open-len": config.integer("half_open_len")?,
        "error-rate-closed": config.share("error_rate_closed")?,
        "error-rate-half-open": config.share("error_rate_half_open")?,
        "open-wait": config.millis("open_wait_ms")?,
    });
    if config.text("wait_strategy")? == "doubling" {
        settings["doubling-cap"] = config.millis("wait_cap_ms")?.into();
    }
    Ok(json!({ "recloser": settings }))
}

fn failsafe(config: Config<'_>) -> Result<Value, String> {
    let seconds = |key: &str| Ok::<_, String>(format!("{}s", config.integer(key)?));
    let start = seconds("backoff_start_s")?;
    let mut settings = json!({
        "policy": config.text("policy")?.replace('_', "-"),
        "backoff-start": start,
        "backoff-max": if config.text("backoff")? == "constant" { start.clone() } else { seconds("backoff_max_s")? },
    });
    // The keys of the rule that is not in use hold anything.
    if config.text("policy")? == "consecutive" {
        settings["policy"] = "consecutive-failures".into();
        settings["consecutive-failures"] = config.integer("num_failures")?.into();
    } else {
        settings["required-success-rate"] = config.share("required_success_rate")?.into();
        settings["min-requests"] = config.integer("min_requests")?.into();
        settings["window"] = seconds("window_s")?.into();
    }
    Ok(json!({ "failsafe": settings }))
}

fn replay(file: &Value, case: &Value, read: Read, columns: Columns) -> Result<Check, String> {
    let config = Config(field(case, "config")?);
    let settings: BreakerSettings =
        serde_json::from_value(read(config)?).map_err(|error| format!("settings: {error}"))?;
    let start = config.0.get("start_ms").map_or(Ok(0), integer)?;
    let mut breaker = settings.build(Time::from_millis(columns.origin + start));
    let mut permits: BTreeMap<u64, Permit> = BTreeMap::new();
    for step in steps(file, case)? {
        let now = Time::from_millis(columns.origin + step.integer("t")?);
        breaker.poll(now);
        let class = match step.text("op")? {
            "a" => {
                let admit = breaker.try_acquire(now);
                // 2 is a refusal for want of capacity; the gauges tell the two apart.
                let granted = step.integer("permit")? == 1;
                same("permit", &granted, &matches!(admit, Admit::Now(_)))
                    .map_err(|message| step.at(&message))?;
                if let Admit::Now(permit) = admit {
                    permits.insert(step.integer("call")?, permit);
                }
                None
            }
            "s" => Some(Class::Success),
            "e" => Some(Class::Failure),
            "o" => Some(Class::Timeout),
            "i" => Some(Class::Abandoned),
            "t" => None,
            op => return Err(step.at(&format!("`{op}` is no known operation"))),
        };
        if let Some(class) = class {
            let permit = permits.remove(&step.integer("call")?);
            let permit = permit.ok_or_else(|| step.at("the call was never admitted"))?;
            let latency = match columns.latency {
                Some(column) => Duration::from_millis(step.integer(column)?),
                None => now - permit.start,
            };
            breaker.on_outcome(now, permit, &Outcome::new(class, latency));
        }
        compare(step, &breaker, now, columns)?;
    }
    Ok(Check::Passed)
}

/// Compares the state and the gauges after a step.
fn compare(step: Step<'_>, breaker: &AnyBreaker, now: Time, columns: Columns) -> Result<(), String> {
    let state = match breaker.state(now) {
        BreakerState::Closed => "C",
        BreakerState::Open => "O",
        BreakerState::HalfOpen => "H",
    };
    same("state", &step.text("state")?, &state).map_err(|message| step.at(&message))?;
    for (column, gauge) in columns.gauges {
        let mut found = None;
        breaker.gauges(now, &mut |name, value| {
            if name == *gauge {
                found = Some(value);
            }
        });
        let (expected, got) =
            (step.number(column)?, found.ok_or_else(|| format!("there is no gauge {gauge}"))?);
        if (expected - got).abs() > columns.tolerance {
            close(column, expected, got, 0.0).map_err(|message| step.at(&message))?;
        }
    }
    Ok(())
}
