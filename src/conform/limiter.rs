//! Adapters for the limiter vectors.

use std::num::NonZeroU32;

use serde_json::Value;

use super::{Adapter, Check, SCHEMA_STEPS, Step, close, field, integer, number, same, steps, text, verdict};
use crate::policies::Algorithm;
use crate::policies::limiter::aimd::{AimdLimit, AimdSettings};
use crate::policies::limiter::envoy_adaptive_concurrency::{
    EnvoyAdaptiveConcurrency, EnvoyAdaptiveConcurrencySettings,
};
use crate::policies::limiter::envoy_admission_control::EnvoyAdmissionControlSettings;
use crate::policies::limiter::envoy_local_rate_limit::EnvoyLocalRateLimitSettings;
use crate::policies::limiter::fixed_window::WindowSettings;
use crate::policies::limiter::gcra::GcraSettings;
use crate::policies::limiter::gradient::{GradientLimit, GradientSettings};
use crate::policies::limiter::gradient2::{Gradient2Limit, Gradient2Settings};
use crate::policies::limiter::resilience4j_rate_limiter::Resilience4jRateLimiterSettings;
use crate::policies::limiter::seed_token_bucket::SeedTokenBucketSettings;
use crate::policies::limiter::sentinel_throttling::SentinelThrottlingSettings;
use crate::policies::limiter::sentinel_warm_up::{SentinelWarmUp, SentinelWarmUpSettings};
use crate::policies::limiter::simple::Estimator;
use crate::policies::limiter::sliding_window_log::SlidingWindowLogSettings;
use crate::policies::limiter::smooth_bursty::{SmoothBursty, SmoothBurstySettings};
use crate::policies::limiter::smooth_warming_up::{SmoothWarmingUp, SmoothWarmingUpSettings};
use crate::policies::limiter::sre_adaptive_throttle::SreAdaptiveThrottleSettings;
use crate::policies::limiter::token_bucket::TokenBucketSettings;
use crate::policies::limiter::vegas::{VegasLimit, VegasSettings};
use crate::policies::limiter::windowed::{DelegateSettings, WindowedLimit, WindowedSettings};
use crate::policies::limiter::{Limiter, LimiterSettings};
use crate::policies::view::{Admit, Class, Outcome, Permit};
use crate::random::{Playback, Rng};
use crate::time::{Duration, Time};
use crate::units::{Rate, Share};

/// An adapter for `$family` that checks `limiter.$name`.
macro_rules! adapter {
    ($family:literal, $name:literal, $run:expr) => {
        Adapter {
            schema: SCHEMA_STEPS,
            family: $family,
            algorithm: concat!("limiter.", $name),
            run: |file, case| verdict($run(file, case)),
        }
    };
}

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[
    adapter!("seed_token_bucket", "seed-token-bucket", |file, case| {
        seed_bucket(file, case, LimiterSettings::SeedTokenBucket)
    }),
    adapter!("seed_token_bucket_naive", "seed-token-bucket-naive", |file, case| {
        seed_bucket(file, case, LimiterSettings::SeedTokenBucketNaive)
    }),
    adapter!("token_bucket_go_xtime", "token-bucket", token_bucket),
    adapter!("gcra_governor", "gcra", gcra),
    adapter!("fixed_window", "fixed-window", |file, case| window(file, case, |limit, window| {
        LimiterSettings::FixedWindow(WindowSettings { limit, window })
    })),
    adapter!("sliding_window_log", "sliding-window-log", |file, case| window(file, case, |limit, window| {
        LimiterSettings::SlidingWindowLog(SlidingWindowLogSettings { limit: limit.get(), window })
    })),
    adapter!("sliding_window_counter", "sliding-window-counter", |file, case| window(
        file,
        case,
        |limit, window| { LimiterSettings::SlidingWindowCounter(WindowSettings { limit, window }) }
    )),
    adapter!("guava_ratelimiter", "smooth-bursty", guava),
    adapter!("sentinel_throttling", "sentinel-throttling", sentinel_throttling),
    adapter!("sentinel_warmup", "sentinel-warm-up", sentinel_warm_up),
    adapter!("resilience4j_ratelimiter", "resilience4j-rate-limiter", resilience4j),
    adapter!("envoy_local_ratelimit", "envoy-local-rate-limit", envoy_local),
    adapter!("aimd", "aimd", |file, case| estimator::<AimdLimit>(file, case, &aimd(field(case, "config")?)?)),
    adapter!("vegas", "vegas", vegas),
    adapter!("gradient1", "gradient", gradient),
    adapter!("gradient2", "gradient2", |file, case| {
        estimator::<Gradient2Limit>(file, case, &gradient2(field(case, "config")?)?)
    }),
    adapter!("windowed_gradient2", "windowed", windowed),
    adapter!("simple_limiter_aimd", "aimd", simple_limiter),
    adapter!("envoy_gradient", "envoy-adaptive-concurrency", envoy_gradient),
    adapter!("sre_adaptive_throttle", "sre-adaptive-throttle", sre_throttle),
    adapter!("envoy_admission_control", "envoy-admission-control", admission_control),
];

/// Relative tolerance of recorded floating-point numbers.
const TOLERANCE: f64 = 1e-9;

/// For policies that draw nothing: a draw would panic.
fn no_draws() -> Rng {
    Rng::playback(Playback::default())
}

/// A reading of the limiter.
fn gauge(limiter: &impl Limiter, now: Time, wanted: &str) -> Result<f64, String> {
    let mut found = None;
    limiter.gauges(now, &mut |name, value| {
        if name == wanted {
            found = Some(value);
        }
    });
    found.ok_or_else(|| format!("the limiter shows no `{wanted}`"))
}

/// A count of the configuration.
fn count(config: &Value, key: &str) -> Result<u32, String> {
    u32::try_from(integer(field(config, key)?)?).map_err(|_| format!("`{key}` is too large"))
}

/// A count of the configuration that must not be zero.
fn some(config: &Value, key: &str) -> Result<NonZeroU32, String> {
    NonZeroU32::new(count(config, key)?).ok_or_else(|| format!("`{key}` is zero"))
}

/// Milliseconds of the configuration.
fn millis(config: &Value, key: &str) -> Result<Duration, String> {
    Ok(Duration::from_millis(integer(field(config, key)?)?))
}

/// Nanoseconds of the configuration.
fn nanos(config: &Value, key: &str) -> Result<Duration, String> {
    Ok(Duration(integer(field(config, key)?)?))
}

impl Step<'_> {
    /// Compares a whole number that may be negative.
    fn expect_signed(self, name: &str, got: i64) -> Result<(), String> {
        let cell = self.cell(name)?;
        let expected = cell.as_i64().ok_or_else(|| self.at(&format!("`{cell}` is not a whole number")))?;
        same(name, &expected, &got).map_err(|message| self.at(&message))
    }

    /// Compares a floating-point number.
    fn expect_close(self, name: &str, got: f64) -> Result<(), String> {
        close(name, self.number(name)?, got, TOLERANCE).map_err(|message| self.at(&message))
    }

    /// Compares an answer with the columns `granted` and `wait`, the latter in `unit` nanoseconds and -1 for a refusal.
    fn expect_answer(self, now: Time, admit: Admit, wait: &str, unit: u64) -> Result<(), String> {
        let waited = match admit {
            Admit::Now(_) => 0,
            Admit::At(at, _) => ((at - now).0 / unit).cast_signed(),
            Admit::Reject { .. } => -1,
        };
        self.expect("granted", u64::from(waited >= 0))?;
        self.expect_signed(wait, waited)
    }
}

fn seed_bucket(
    file: &Value,
    case: &Value,
    form: fn(SeedTokenBucketSettings) -> LimiterSettings,
) -> Result<Check, String> {
    let config = field(case, "config")?;
    let capacity = count(config, "capacity")?;
    if count(config, "initial_tokens")? != capacity {
        return Ok(Check::Refused("the definition of the seed bucket starts full"));
    }
    let fill_rate = Rate(number(field(config, "fill_rate_per_s")?)?);
    take_at_once(file, case, &form(SeedTokenBucketSettings { capacity, fill_rate }), "tokens")
}

/// Replays requests that do not wait; `left` is the column of the tokens that are left.
fn take_at_once(file: &Value, case: &Value, settings: &LimiterSettings, left: &str) -> Result<Check, String> {
    let mut limiter = settings.build(Time::ZERO);
    for step in steps(file, case)? {
        let now = Time::from_millis(step.integer("t")?);
        let admit = match step.text("op")? {
            "a" => limiter.try_acquire(now, step.integer("n")? as u32, Duration::ZERO, &mut no_draws()),
            op => return Err(step.at(&format!("`{op}` is no known operation"))),
        };
        step.expect("granted", u64::from(matches!(admit, Admit::Now(_))))?;
        step.expect(left, gauge(&limiter, now, "tokens")? as u64)?;
    }
    Ok(Check::Passed)
}

fn window(
    file: &Value,
    case: &Value,
    form: fn(NonZeroU32, Duration) -> LimiterSettings,
) -> Result<Check, String> {
    let config = field(case, "config")?;
    let window = millis(config, "window_ms")?;
    if !integer(field(config, "epoch_ms")?)?.is_multiple_of(window.as_millis()) {
        return Ok(Check::Refused("windows are aligned to the start of the run, not to the Unix epoch"));
    }
    take_at_once(file, case, &form(some(config, "limit")?, window), "remaining")
}

fn envoy_local(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    let settings = LimiterSettings::EnvoyLocalRateLimit(EnvoyLocalRateLimitSettings {
        max_tokens: some(config, "max_tokens")?,
        tokens_per_fill: some(config, "tokens_per_fill")?,
        fill_interval: millis(config, "fill_interval_ms")?,
    });
    take_at_once(file, case, &settings, "tokens")
}

fn token_bucket(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    let settings = LimiterSettings::TokenBucket(TokenBucketSettings {
        rate: Rate(number(field(config, "rate_per_s")?)?),
        burst: some(config, "burst")?,
        max_wait: Duration::MAX,
    });
    let mut limiter = settings.build(Time::ZERO);
    for step in steps(file, case)? {
        let now = Time(step.integer("t")?);
        let patience = match step.text("op")? {
            "y" => Duration::ZERO,
            "r" => Duration::MAX,
            op => return Err(step.at(&format!("`{op}` is no known operation"))),
        };
        let admit = limiter.try_acquire(now, step.integer("n")? as u32, patience, &mut no_draws());
        step.expect_answer(now, admit, "wait_ns", 1)?;
        let (expected, got) =
            (step.number("tokens")?, gauge(&limiter, now, "tokens")? - gauge(&limiter, now, "debt")?);
        if (expected - got).abs() > 1e-6 {
            return Err(step.at(&format!("tokens: expected {expected}, got {got}")));
        }
    }
    Ok(Check::Passed)
}

fn gcra(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    let burst = some(config, "burst")?;
    let settings = LimiterSettings::Gcra(GcraSettings {
        replenish_1_per: nanos(config, "replenish_interval_ns")?,
        max_burst: burst,
    });
    let mut limiter = settings.build(Time::ZERO);
    for step in steps(file, case)? {
        let (now, n) = (Time(step.integer("t")?), step.integer("n")? as u32);
        let (result, wait) = match limiter.try_acquire(now, n, Duration::ZERO, &mut no_draws()) {
            Admit::Now(_) => (1, 0),
            Admit::Reject { until: Some(until) } => (0, (until - now).0.cast_signed()),
            Admit::Reject { until: None } if n > burst.get() => (2, -1),
            other => return Err(step.at(&format!("the answer is {other:?}"))),
        };
        step.expect("result", result)?;
        step.expect_signed("wait_ns", wait)?;
    }
    Ok(Check::Passed)
}

fn guava(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    let permits_per_second = Rate(number(field(config, "permits_per_second")?)?);
    match text(field(config, "kind")?)? {
        "bursty" => {
            let max_burst = Duration::from_secs(integer(field(config, "max_burst_seconds")?)?);
            let settings = SmoothBurstySettings { permits_per_second, max_burst, timeout: Duration::MAX };
            guava_steps(file, case, SmoothBursty::new(&settings, Time::ZERO), SmoothBursty::stored)
        }
        "warming_up" => {
            let settings = SmoothWarmingUpSettings {
                permits_per_second,
                warmup_period: millis(config, "warmup_ms")?,
                cold_factor: number(field(config, "cold_factor")?)?,
                timeout: Duration::MAX,
            };
            guava_steps(file, case, SmoothWarmingUp::new(&settings, Time::ZERO), SmoothWarmingUp::stored)
        }
        kind => Err(format!("`{kind}` is no known kind")),
    }
}

fn guava_steps<L: Limiter>(
    file: &Value,
    case: &Value,
    mut limiter: L,
    stored: fn(&L) -> f64,
) -> Result<Check, String> {
    for step in steps(file, case)? {
        let now = Time(step.integer("t")? * 1000);
        let patience = match step.text("op")? {
            "a" => Duration::MAX,
            "y" => Duration(step.integer("timeout_us")? * 1000),
            op => return Err(step.at(&format!("`{op}` is no known operation"))),
        };
        let admit = limiter.try_acquire(now, step.integer("permits")? as u32, patience, &mut no_draws());
        step.expect_answer(now, admit, "wait_us", 1000)?;
        step.expect_close("stored_permits", stored(&limiter))?;
    }
    Ok(Check::Passed)
}

fn sentinel_throttling(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    let settings = LimiterSettings::SentinelThrottling(SentinelThrottlingSettings {
        count: number(field(config, "count")?)?,
        stat_duration: millis(config, "stat_duration_ms")?,
        max_queueing_time: millis(config, "max_queueing_ms")?,
    });
    let mut limiter = settings.build(Time::ZERO);
    for step in steps(file, case)? {
        let now = Time(step.integer("t")?);
        let admit = limiter.try_acquire(now, step.integer("n")? as u32, Duration::MAX, &mut no_draws());
        step.expect_answer(now, admit, "wait_ns", 1)?;
    }
    Ok(Check::Passed)
}

fn sentinel_warm_up(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    let settings = SentinelWarmUpSettings {
        count: Rate(number(field(config, "count")?)?),
        warm_up_period: Duration::from_secs(integer(field(config, "warm_up_s")?)?),
        cold_factor: some(config, "cold_factor")?,
    };
    let mut limiter = SentinelWarmUp::new(&settings, Time::ZERO);
    same("max_token", &f64::from(count(config, "max_token")?), &gauge(&limiter, Time::ZERO, "capacity")?)?;
    for step in steps(file, case)? {
        let second = (step.integer("t")? / 1000).cast_signed();
        // The recorded rates stand for those that the policy counts itself.
        let passes = limiter.can_pass(
            second,
            step.integer("n")? as u32,
            step.integer("pass_qps")?,
            step.integer("previous_pass_qps")?,
        );
        step.expect("granted", u64::from(passes))?;
        step.expect("stored_tokens", limiter.stored())?;
    }
    Ok(Check::Passed)
}

fn resilience4j(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    let settings = LimiterSettings::Resilience4jRateLimiter(Resilience4jRateLimiterSettings {
        limit_for_period: some(config, "limit_for_period")?,
        limit_refresh_period: nanos(config, "refresh_period_ns")?,
        timeout_duration: nanos(config, "timeout_ns")?,
    });
    let mut limiter = settings.build(Time::ZERO);
    for step in steps(file, case)? {
        let now = Time(step.integer("t")?);
        let admit = limiter.try_acquire(now, step.integer("permits")? as u32, Duration::MAX, &mut no_draws());
        step.expect_answer(now, admit, "wait_ns", 1)?;
        step.expect_signed("available", gauge(&limiter, now, "available_permissions")? as i64)?;
    }
    Ok(Check::Passed)
}

/// A percentage of the configuration.
fn percent(config: &Value, key: &str) -> Result<Share, String> {
    Ok(Share(number(field(config, key)?)? / 100.0))
}

fn aimd(config: &Value) -> Result<AimdSettings, String> {
    Ok(AimdSettings {
        initial_limit: some(config, "initial_limit")?,
        min_limit: some(config, "min_limit")?,
        max_limit: some(config, "max_limit")?,
        backoff_ratio: number(field(config, "backoff_ratio")?)?,
        timeout: nanos(config, "timeout_ns")?,
    })
}

fn gradient2(config: &Value) -> Result<Gradient2Settings, String> {
    same("warmup_window", &10, &count(config, "warmup_window")?)?;
    Ok(Gradient2Settings {
        initial_limit: some(config, "initial_limit")?,
        min_limit: some(config, "min_limit")?,
        max_limit: some(config, "max_limit")?,
        smoothing: number(field(config, "smoothing")?)?,
        rtt_tolerance: number(field(config, "rtt_tolerance")?)?,
        long_window: some(config, "long_window")?,
        queue_size: count(config, "queue_size")?,
    })
}

fn vegas(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    let settings = VegasSettings {
        initial_limit: some(config, "initial_limit")?,
        max_limit: some(config, "max_limit")?,
        smoothing: number(field(config, "smoothing")?)?,
        probe_multiplier: some(config, "probe_multiplier")?,
    };
    estimator::<VegasLimit>(file, case, &settings)
}

fn gradient(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    if field(config, "probe_interval")?.as_i64() != Some(-1) {
        return Ok(Check::Skipped("the draws of a probing gradient are not recorded"));
    }
    let settings = GradientSettings {
        initial_limit: some(config, "initial_limit")?,
        min_limit: some(config, "min_limit")?,
        max_limit: some(config, "max_limit")?,
        smoothing: number(field(config, "smoothing")?)?,
        rtt_tolerance: number(field(config, "rtt_tolerance")?)?,
        backoff_ratio: number(field(config, "backoff_ratio")?)?,
        probe_interval: 0,
        queue_size: Some(some(config, "queue_size")?),
    };
    estimator::<GradientLimit>(file, case, &settings)
}

fn windowed(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    if (text(field(config, "window")?)?, text(field(config, "delegate")?)?) != ("average", "gradient2") {
        return Ok(Check::Skipped("simlab has windows of averages only"));
    }
    let settings = WindowedSettings {
        delegate: DelegateSettings::Gradient2(gradient2(config)?),
        min_window_time: nanos(config, "min_window_ns")?,
        max_window_time: nanos(config, "max_window_ns")?,
        window_size: some(config, "min_window_samples")?,
        min_rtt_threshold: nanos(config, "min_rtt_threshold_ns")?,
    };
    estimator::<WindowedLimit>(file, case, &settings)
}

/// Replays samples. A recorded draw is Vegas's jitter in 0.5..1, which it makes of a draw in 0..1.
fn estimator<E: Estimator>(file: &Value, case: &Value, settings: &E::Settings) -> Result<Check, String> {
    let mut estimator = E::new(settings, Time::ZERO);
    let mut drawn = case.pointer("/config/initial_probe_jitter").and_then(Value::as_f64);
    for step in steps(file, case)? {
        let units = drawn.take().into_iter().chain(step.cell("draw")?.as_f64());
        let units = units.map(|jitter| (jitter - 0.5) * 2.0).collect();
        let dropped = step.integer("dropped")? != 0;
        estimator.on_sample(
            Time(step.integer("t")?),
            Duration(step.integer("rtt_ns")?),
            step.integer("inflight")? as u32,
            dropped,
            &mut Rng::playback(Playback { units, ..Playback::default() }),
        );
        step.expect("limit", estimator.limit().into())?;
        step.expect_close("estimated", estimator.estimated())?;
    }
    Ok(Check::Passed)
}

/// The permit that call number `call` of a case got.
fn permit_of(permits: &[Option<Permit>], step: Step<'_>) -> Result<Permit, String> {
    let call = step.integer("call")? as usize;
    permits.get(call).copied().flatten().ok_or_else(|| step.at(&format!("call {call} holds no permit")))
}

/// Asks for call number `call` and keeps its permit.
fn ask(
    limiter: &mut impl Limiter,
    permits: &mut Vec<Option<Permit>>,
    now: Time,
    step: Step<'_>,
) -> Result<(), String> {
    let permit = match limiter.try_acquire(now, 1, Duration::ZERO, &mut no_draws()) {
        Admit::Now(permit) => Some(permit),
        _ => None,
    };
    let call = step.integer("call")? as usize;
    if call != permits.len() {
        return Err(step.at("calls are numbered in order"));
    }
    permits.push(permit);
    step.expect("permit", permit.is_some().into())
}

fn simple_limiter(file: &Value, case: &Value) -> Result<Check, String> {
    let mut limiter = LimiterSettings::Aimd(aimd(field(case, "config")?)?).build(Time::ZERO);
    let mut permits = Vec::new();
    for step in steps(file, case)? {
        let now = Time(step.integer("t")?);
        let (class, ignored) = match step.text("op")? {
            "a" => {
                ask(&mut limiter, &mut permits, now, step)?;
                (None, false)
            }
            "s" => (Some(Class::Success), false),
            "i" => (Some(Class::Success), true),
            "d" => (Some(Class::Timeout), false),
            op => return Err(step.at(&format!("`{op}` is no known operation"))),
        };
        if let Some(class) = class {
            let outcome = Outcome { ignored, ..Outcome::new(class, Duration::ZERO) };
            limiter.on_outcome(now, permit_of(&permits, step)?, &outcome, &mut no_draws());
        }
        step.expect("limit", gauge(&limiter, now, "limit")? as u64)?;
        step.expect("inflight", gauge(&limiter, now, "in_flight")? as u64)?;
    }
    Ok(Check::Passed)
}

fn envoy_gradient(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    let settings = EnvoyAdaptiveConcurrencySettings {
        concurrency_update_interval: millis(config, "update_interval_ms")?,
        min_rtt_interval: millis(config, "min_rtt_interval_ms")?,
        sample_aggregate_percentile: percent(config, "sample_percentile")?,
        max_concurrency_limit: some(config, "max_concurrency")?,
        min_concurrency: some(config, "min_concurrency")?,
        request_count: some(config, "min_rtt_request_count")?,
        jitter: percent(config, "jitter_pct")?,
        buffer: percent(config, "buffer_pct")?,
    };
    let mut limiter = EnvoyAdaptiveConcurrency::new(&settings, Time::ZERO);
    let mut permits = Vec::new();
    for step in steps(file, case)? {
        let now = Time(step.integer("t")?);
        let class = match step.text("op")? {
            "a" => {
                ask(&mut limiter, &mut permits, now, step)?;
                None
            }
            "c" => Some(Class::Success),
            "x" => Some(Class::Abandoned),
            op => return Err(step.at(&format!("`{op}` is no known operation"))),
        };
        if let Some(class) = class {
            let integers = step.cell("jitter_draw_ms")?.as_u64().into_iter().collect();
            let mut rng = Rng::playback(Playback { integers, ..Playback::default() });
            let outcome = Outcome::new(class, Duration::ZERO);
            limiter.on_outcome(now, permit_of(&permits, step)?, &outcome, &mut rng);
        }
        let (measuring, min_rtt) = limiter.measurement();
        step.expect("limit", gauge(&limiter, now, "limit")? as u64)?;
        step.expect("outstanding", gauge(&limiter, now, "in_flight")? as u64)?;
        step.expect("in_min_rtt_window", measuring.into())?;
        step.expect("min_rtt_us", min_rtt)?;
    }
    Ok(Check::Passed)
}

fn sre_throttle(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    // Portions as fine as the recorded clock forget each request by itself.
    let settings = LimiterSettings::SreAdaptiveThrottle(SreAdaptiveThrottleSettings {
        k: number(field(config, "k")?)?,
        window: millis(config, "window_ms")?,
        resolution: Duration::from_millis(1),
    });
    throttle(file, case, &settings, "accepted", |step| {
        Ok(Playback { units: [step.number("u")?].into(), ..Playback::default() })
    })
}

fn admission_control(file: &Value, case: &Value) -> Result<Check, String> {
    let config = field(case, "config")?;
    let aggression = number(field(config, "aggression")?)?;
    let settings = LimiterSettings::EnvoyAdmissionControl(EnvoyAdmissionControlSettings {
        sampling_window: Duration::from_secs(integer(field(config, "sampling_window_s")?)?),
        // Upstream raises what is smaller.
        aggression: aggression.max(1.0),
        sr_threshold: percent(config, "sr_threshold_pct")?,
        rps_threshold: count(config, "rps_threshold")?,
        max_rejection_probability: percent(config, "max_rejection_pct")?,
    });
    same("granularity_ms", &1000, &count(config, "granularity_ms")?)?;
    throttle(file, case, &settings, "success", |step| {
        Ok(Playback { integers: [step.integer("draw_mod_10000")?].into(), ..Playback::default() })
    })
}

/// Replays requests that end at once; column `good` says how.
fn throttle(
    file: &Value,
    case: &Value,
    settings: &LimiterSettings,
    good: &str,
    draws: fn(Step<'_>) -> Result<Playback, String>,
) -> Result<Check, String> {
    let mut limiter = settings.build(Time::ZERO);
    for step in steps(file, case)? {
        let now = Time::from_millis(step.integer("t")?);
        step.expect_close("p_reject", gauge(&limiter, now, "reject_probability")?)?;
        let admit = limiter.try_acquire(now, 1, Duration::ZERO, &mut Rng::playback(draws(step)?));
        step.expect("permit", u64::from(matches!(admit, Admit::Now(_))))?;
        if let Admit::Now(permit) = admit {
            let class = if step.integer(good)? == 1 { Class::Success } else { Class::Rejected };
            limiter.on_outcome(now, permit, &Outcome::new(class, Duration::ZERO), &mut no_draws());
        }
    }
    Ok(Check::Passed)
}
