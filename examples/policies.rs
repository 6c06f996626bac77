//! What each policy of the calling side costs.
//!
//! `cargo run --release --example policies -- list` prints every registered policy that has a hot call.
//! `.. -- calls NAME N` makes the hot call of one of them N times, for instruction counts (`.ci/icount`).
//! `.. -- costs [REQUESTS]` runs the reference model (d) with each of them switched on and prints what a request costs more.

#![expect(clippy::needless_pass_by_value, reason = "each driver owns what it drives")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

use std::process::ExitCode;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use simlab::kernel::Handle;
use simlab::lab::assemble::assemble;
use simlab::policies::balancer::{Balancer, BalancerSettings};
use simlab::policies::breaker::{Breaker, BreakerSettings};
use simlab::policies::hedge::{Copies, HedgeSettings};
use simlab::policies::limiter::{Limiter, LimiterSettings};
use simlab::policies::retry::{Budget, BudgetSettings, Ended, Retry, RetryPolicy, RetrySettings};
use simlab::policies::shedding::{Newcomer, Shedding, SheddingSettings, Turn};
use simlab::policies::view::{Admit, Class, Endpoints, Outcome, RequestHead, Slot};
use simlab::policies::{self, Kind};
use simlab::random::{Key, Rng, mix};
use simlab::scenario::Overrides;
use simlab::scenario::model::Study;
use simlab::time::{Duration, Time};
use simlab::world;

/// Settings where the least that a policy needs would not do: with the defaults most calls would be turned away, or one
/// setting asks for another.
const CHOSEN: &[(&str, &str)] = &[
    ("breaker.sentinel", r#"{"grade": "error-ratio", "ratio-threshold": "50%", "time-window": "10s"}"#),
    ("breaker.seed", r#"{"error-threshold": 1000000}"#),
    ("hedge.grpc", r#"{"max-attempts": 2, "hedging-delay": "50ms"}"#),
    ("retry.cockatiel", r#"{"max-attempts": 1}"#),
    ("retry.exponential", r#"{"attempts": 2}"#),
    ("retry.equal-jitter", r#"{"attempts": 2}"#),
    ("retry.decorrelated", r#"{"attempts": 2}"#),
    ("retry.no-jitter", r#"{"attempts": 2}"#),
    (
        "retry.grpc",
        r#"{"max-attempts": 3, "initial-backoff": "10ms", "max-backoff": "100ms", "backoff-multiplier": 2}"#,
    ),
    ("limiter.gcra", r#"{"replenish-1-per": "1us", "max-burst": 1000}"#),
    (
        "limiter.partitioned",
        r#"{"delegate": {"fixed": 1000}, "partitions": [{"priority": 1, "percent": "90%"}, {"priority": 0, "percent": "10%"}]}"#,
    ),
    ("limiter.bulkhead", r#"{"max-concurrent": 1000000}"#),
    ("limiter.aimd", r#"{"min-limit": 1000, "initial-limit": 1000, "max-limit": 1000}"#),
    ("limiter.vegas", r#"{"initial-limit": 1000, "max-limit": 1000}"#),
    ("limiter.gradient", r#"{"min-limit": 1000, "initial-limit": 1000, "max-limit": 1000}"#),
    ("limiter.gradient2", r#"{"min-limit": 1000, "initial-limit": 1000, "max-limit": 1000}"#),
    ("limiter.resilience4j-rate-limiter", r#"{"limit-for-period": 1000000, "limit-refresh-period": "1s"}"#),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["list"] => {
            hot().for_each(|kind| println!("{}", kind.written()));
            Ok(())
        }
        ["calls", name, n] => calls(name, n),
        ["costs"] => costs(200_000),
        ["costs", n] => n.parse().map_err(|_| format!("`{n}` is no number")).and_then(costs),
        _ => Err("usage: policies list | calls NAME N | costs [REQUESTS]".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Every policy whose call is made here.
fn hot() -> impl Iterator<Item = &'static Kind> {
    let families = ["balancer", "breaker", "hedge", "limiter", "retry", "retry-budget", "shedding"];
    policies::kinds().filter(move |kind| families.contains(&kind.family))
}

/// Makes the hot call of a policy `n` times; what it answers is printed, so that it cannot be left out.
fn calls(name: &str, n: &str) -> Result<(), String> {
    let n: u64 = n.parse().map_err(|_| format!("`{n}` is no number"))?;
    let kind =
        hot().find(|kind| kind.written() == name).ok_or_else(|| format!("no hot policy is `{name}`"))?;
    let answers = match kind.family {
        "balancer" => balancer(settings(kind)?.1, n),
        "breaker" => breaker(settings(kind)?.1, n),
        "hedge" => hedge(settings(kind)?.1, n),
        "limiter" => limiter(settings(kind)?.1, n),
        "retry" => retry(settings(kind)?.1, n),
        "retry-budget" => retry_budget(settings(kind)?.1, n),
        "shedding" => shedding(settings(kind)?.1, n),
        family => return Err(format!("the family {family} has no call here")),
    };
    println!("{name}: {answers}");
    Ok(())
}

/// Settings under which most calls pass.
fn settings<S: DeserializeOwned>(kind: &Kind) -> Result<(Value, S), String> {
    let wrong = || {
        format!("{}: it has settings that are required, and none of the usual values fits", kind.written())
    };
    if let Some((_, chosen)) = CHOSEN.iter().find(|(name, _)| *name == kind.written()) {
        let given: Value = serde_json::from_str(chosen).map_err(|error| error.to_string())?;
        let read = serde_json::from_value(json!({ kind.name: given })).map_err(|error| error.to_string())?;
        return Ok((given, read));
    }
    let values = [
        json!(100_000),
        json!("100000/s"),
        json!("1s"),
        json!("50%"),
        json!(0.5),
        json!("1MiB"),
        json!(true),
    ];
    policies::least(kind.name, &values).ok_or_else(wrong)
}

/// A call every 100 us that takes 10 ms; one in twenty fails.
fn outcome(call: u64) -> Outcome {
    let class = if call % 20 == 19 { Class::Failure } else { Class::Success };
    Outcome::new(class, Duration::from_millis(10))
}

fn at(call: u64) -> Time {
    Time(call * 100_000)
}

fn rng() -> Rng {
    Key::new(1).rng()
}

fn balancer(settings: BalancerSettings, n: u64) -> u64 {
    let mut endpoints = Endpoints::uniform(100);
    let (mut policy, mut rng) = (settings.build(Time::ZERO), rng());
    policy.on_update(Time::ZERO, &endpoints);
    let mut out = [Slot(0); 64];
    let mut picked = 0;
    for call in 0..n {
        // Of what a balancer wants, only the ask for probes is made here; answers come over the network.
        if policy.needs().load {
            endpoints.load.clone_from(&endpoints.active);
        }
        let request = RequestHead { affinity: Some(mix(call)), attempt: 0 };
        let Some(slot) = policy.pick(at(call), &request, &endpoints, &mut rng) else { continue };
        while policy.next_probe(at(call), &endpoints, &mut rng).is_some() {}
        endpoints.active[slot.0 as usize] += 1;
        picked += u64::from(slot.0);
        let ended = std::mem::replace(&mut out[call as usize % 64], slot);
        if call >= 64 {
            endpoints.active[ended.0 as usize] -= 1;
            policy.on_outcome(at(call), ended, &outcome(call));
        }
    }
    picked
}

fn breaker(settings: BreakerSettings, n: u64) -> u64 {
    let mut policy = settings.build(Time::ZERO);
    let mut passed = 0;
    for call in 0..n {
        if let Admit::Now(permit) = policy.try_acquire(at(call)) {
            passed += 1;
            policy.on_outcome(at(call), permit, &outcome(call));
        }
    }
    passed
}

fn limiter(settings: LimiterSettings, n: u64) -> u64 {
    let (mut policy, mut rng) = (settings.build(Time::ZERO), rng());
    let mut passed = 0;
    for call in 0..n {
        if let Admit::Now(permit) | Admit::At(_, permit) =
            policy.try_acquire(at(call), 1, Duration::ZERO, &mut rng)
        {
            passed += 1;
            policy.on_outcome(at(call), permit, &outcome(call), &mut rng);
        }
    }
    passed
}

fn hedge(settings: HedgeSettings, n: u64) -> u64 {
    let mut policy = settings.build(Time::ZERO);
    let mut waited = 0_u64;
    for call in 0..n {
        let mut copies = Copies::default();
        copies.sent(at(call), &mut policy);
        waited = waited.wrapping_add(copies.due.map_or(0, |due| due.0));
        copies.ended(at(call), &mut policy, &outcome(call));
    }
    waited
}

fn retry(settings: RetrySettings, n: u64) -> u64 {
    let (policy, mut rng) = (settings.build(Time::ZERO), rng());
    let failure = Outcome::new(Class::Failure, Duration::from_millis(10));
    let mut waited = 0_u64;
    for call in 0..n {
        if let Retry::After(delay) = policy.on_failure(at(call), 0, &mut 0.0, &failure, &mut rng) {
            waited = waited.wrapping_add(delay.0);
        }
    }
    waited
}

fn retry_budget(settings: BudgetSettings, n: u64) -> u64 {
    let mut policy = settings.build(Time::ZERO);
    let mut allowed = 0;
    for call in 0..n {
        policy.deposit(at(call));
        policy.on_sent(at(call));
        let ending = |withdrawn| Ended { class: Class::Failure, sent: true, withdrawn, retryable: true };
        policy.on_ended(at(call), &ending(None));
        let withdrawn = policy.withdraw(at(call), Some(Class::Failure));
        if withdrawn.is_some() {
            allowed += 1;
            policy.on_sent(at(call));
            policy.on_ended(at(call), &ending(withdrawn));
        }
    }
    allowed
}

fn shedding(settings: SheddingSettings, n: u64) -> u64 {
    let (mut policy, mut rng) = (settings.build(Time::ZERO), rng());
    let mut lost = 0;
    for call in 0..n {
        let waiting = (call % 8) as u32;
        let newcomer = Newcomer { priority: 1, waiting, workers: 4 };
        let (waited, left) = (Duration::from_millis(call % 8), Some(Duration::from_millis(100)));
        lost += u64::from(policy.turns_away(at(call), &newcomer, &mut rng));
        lost += u64::from(policy.drops(at(call), &Turn { priority: 1, waiting, waited, left }, &mut rng));
    }
    lost
}

/// Runs of each variant; the fastest counts, for what else the machine does only ever adds.
const RUNS: usize = 5;

/// Model (d) with more settings, and what is compared with what.
struct Variant {
    name: String,
    set: Vec<String>,
    /// Position of the variant without the policy.
    base: usize,
    /// CPU ns and events per request, and the share of requests that were refused.
    best: (f64, f64, f64),
}

/// What an edge has on already when another policy is switched on: with the first one, calls have a record that outlives
/// their attempts, which the others find.
const FIRST: [&str; 2] = ["breaker.failsafe={}", "limiter.envoy-circuit-breakers={ max-requests = 1000000 }"];

/// Prints what each policy adds to a request of model (d).
fn costs(requests: u64) -> Result<(), String> {
    let edge = |policy: &str| format!("source.clients.call.mesh.{policy}");
    let variant = |name: &str, set: Vec<String>, base| Variant {
        name: name.to_owned(),
        set,
        base,
        best: (f64::INFINITY, 0.0, 0.0),
    };
    let mut variants = vec![variant("nothing (power of two choices)", Vec::new(), 0)];
    for first in FIRST {
        variants.push(variant(first.split_once('=').unwrap_or_default().0, vec![edge(first)], 0));
    }
    for kind in hot().filter(|kind| kind.family != "shedding") {
        let given = match kind.family {
            "balancer" => settings::<BalancerSettings>(kind)?.0,
            "breaker" => settings::<BreakerSettings>(kind)?.0,
            "hedge" => settings::<HedgeSettings>(kind)?.0,
            "limiter" => settings::<LimiterSettings>(kind)?.0,
            "retry" => settings::<RetrySettings>(kind)?.0,
            _ => settings::<BudgetSettings>(kind)?.0,
        };
        let base = match kind.family {
            "balancer" => 0,
            "limiter" => 1,
            _ => 2,
        };
        let mut set = variants[base].set.clone();
        set.push(edge(&format!("{}={}", kind.written(), toml(&given))));
        if kind.family == "retry-budget" {
            set.push(edge("retry.fixed={}"));
        }
        variants.push(variant(&kind.written(), set, base));
    }
    // In turn, so that a slow spell of the machine meets all of them.
    for _ in 0..RUNS {
        for Variant { set, best, .. } in &mut variants {
            let (ns, events, refused) =
                model_d(requests, set).map_err(|error| format!("with {set:?}: {error}"))?;
            *best = (best.0.min(ns), events, refused);
        }
    }
    println!(
        "{:<40}{:>12}{:>10}{:>14}{:>10}{:>10}",
        "policy", "ns/request", "more ns", "more events", "net ns", "refused"
    );
    for Variant { name, base, best: (ns, events, refused), .. } in &variants {
        let (base_ns, base_events, _) = variants[*base].best;
        let (more_ns, more_events) = (ns - base_ns, events - base_events);
        // An event costs what the others cost.
        let net = more_ns - more_events * base_ns / base_events;
        println!(
            "{name:<40}{ns:>12.1}{more_ns:>10.1}{more_events:>14.4}{net:>10.1}{:>9.2}%",
            100.0 * refused
        );
    }
    Ok(())
}

/// The inline table of TOML that says the same.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(key, value)| format!("{key} = {}", toml(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// CPU ns and events per request of model (d), and the share of requests that were refused.
fn model_d(requests: u64, set: &[String]) -> Result<(f64, f64, f64), String> {
    let mut settings = vec![
        format!("source.clients.requests={requests}"),
        "scenario.duration=100000h".to_owned(),
        "scenario.warm-up=0s".to_owned(),
        "scenario.resolution=100h".to_owned(),
    ];
    settings.extend(set.iter().cloned());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/bench/d.toml");
    let study = Study::load(path, &Overrides { settings, ..Overrides::default() });
    let study = study.map_err(|error| error.render(false))?;
    let spec = assemble(&study, &study.strategies[0].scenario);
    let before = cpu_ns();
    let report = world::run(&spec, 1, &Handle::default()).map_err(|stop| stop.to_string())?;
    let ns = cpu_ns() - before;
    let refused = report.metrics.get("rejected_ratio").copied().unwrap_or(0.0);
    let per_request = |count: u64| count as f64 / requests as f64;
    Ok((per_request(ns), per_request(report.events), refused))
}

/// CPU time of this (single-threaded) process, in ns: the first figure of `/proc/self/schedstat`.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}
