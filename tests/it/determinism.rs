//! The same input gives the same numbers: whatever the threads, the names and the order of strategies, and what they do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use simlab::lab::outcome::{Replication, StudyOutcome};
use simlab::scenario::Overrides;
use simlab::scenario::model::Study;

use crate::story::{load, run};

/// A small system with something of everything that draws.
const SYSTEM: &str = r#"
[[node-pool]]
name = "metal"
nodes = 3
cores = 4
memory = "16GiB"
zones = ["a", "b"]

[network]
cross-zone = "exp(1ms)"
outside = "lognormal(5ms, cv=1)"

[[service]]
name = "front"
replicas = 2
discovery = "exp(1s)"
instance = { cores = 1, workers = 8, queue = 20, start = "exp(3s)" }
[[service.endpoint]]
name = "get"
steps = ["cpu exp(5ms) * exp(1)", "choose 50% back.read, 40% back.write"]
[service.callers]
timeout = "400ms"

[[service]]
name = "back"
replicas = 2
discovery = "exp(1s)"
instance = { cores = 1, workers = 8, queue = 20, start = "exp(3s)" }
[[service.endpoint]]
name = "read"
steps = ["cpu exp(4ms)", "cache pages", "wait exp(10ms)"]
[[service.endpoint]]
name = "write"
steps = ["cpu lognormal(12ms, cv=1)"]
[[service.cache]]
name = "pages"
keys = 500
zipf = 1
[[service.version]]
name = "v1"
error-rate = "1%"
[[service.version]]
name = "v2"

[[source]]
name = "web"
to = "front.get"
clients = 5
deadline = "800ms"
arrivals.poisson = { profile = "steps(0s: 40/s, 20s: 150/s, 40s: 40/s)" }

[[source]]
name = "people"
to = "front.get"
arrivals.users = { count = 10, think = "exp(1s)", leave = "30%", away = "exp(5s)" }

[[fault]]
mtbf = "exp(20s)"
mttr = "exp(3s)"
slow = { service = "back", count = 2, factor = 5 }

[[rollout]]
name = "update"
at = "30s"
service = "back"
to = "v2"
rolling = {}
"#;

const HEAD: &str =
    "[scenario]\nname = \"any\"\nduration = \"1min\"\nwarm-up = \"5s\"\nseed = 7\nreplications = 3\n";

const PLAIN: &str = "[[strategy]]\nname = \"plain\"\n";
const RETRIES: &str = "[[strategy]]\nname = \"retries\"\n[strategy.service.back.callers]\n\
                       retry.exponential = { attempts = 3, base = \"10ms\", max-delay = \"1s\" }\nbreaker.seed = {}\n";
const SCALED: &str =
    "[[strategy]]\nname = \"scaled\"\n[strategy.service.back]\nreplicas = 4\nlimiter.bulkhead = {}\n";

/// Everything that a study found, as text. Floats are written so that different ones never look the same.
fn all(outcome: &StudyOutcome) -> String {
    format!("{outcome:?}")
}

fn replications(outcome: &StudyOutcome) -> BTreeMap<String, String> {
    let of = |runs: &[Replication]| format!("{runs:?}");
    outcome.strategies.iter().map(|strategy| (strategy.name.clone(), of(&strategy.replications))).collect()
}

#[test]
fn threads_are_invisible() {
    let study = load(&format!("{HEAD}{SYSTEM}{PLAIN}{RETRIES}{SCALED}"));
    let one = all(&run(&study, 1));
    assert_eq!(one, all(&run(&study, 1)), "INV-20: the same seed twice");
    assert_eq!(one, all(&run(&study, 2)), "INV-20: one thread and two");
    assert_eq!(one, all(&run(&study, 7)), "INV-20: more threads than cores");
    let other = load(&format!("{HEAD}{SYSTEM}{PLAIN}{RETRIES}{SCALED}").replace("seed = 7", "seed = 8"));
    assert_ne!(one, all(&run(&other, 2)), "another seed is another story");
}

#[test]
fn strategies_are_nameless() {
    let first = replications(&run(&load(&format!("{HEAD}{SYSTEM}{PLAIN}{RETRIES}{SCALED}")), 2));
    let second = replications(&run(&load(&format!("{HEAD}{SYSTEM}{SCALED}{PLAIN}{RETRIES}")), 2));
    assert_eq!(first, second, "INV-18: order does not matter");
    let renamed = SCALED.replace("scaled", "zebra");
    let third = replications(&run(&load(&format!("{HEAD}{SYSTEM}{renamed}")), 2));
    assert_eq!(first["scaled"], third["zebra"], "INV-18: neither do names, nor the company of others");
}

/// Arrivals by millisecond.
fn arrivals(replication: &Replication, source: &str) -> Vec<f64> {
    let series = replication.timeline.series.iter();
    let offered = series.into_iter().find(|series| series.name == source && series.metric == "offered_rps");
    offered.expect("a curve of arrivals").values.clone()
}

#[test]
fn strategies_share_arrivals() {
    let head = HEAD.replace("replications = 3", "replications = 1\nresolution = \"1ms\"");
    let outcome = run(&load(&format!("{head}{SYSTEM}{PLAIN}{RETRIES}{SCALED}")), 2);
    let first = &outcome.strategies[0].replications[0];
    for strategy in &outcome.strategies[1..] {
        let other = &strategy.replications[0];
        assert_ne!(first.digest, other.digest, "the strategies do differ");
        assert_eq!(arrivals(first, "web"), arrivals(other, "web"), "INV-17: arrivals to the millisecond");
    }
}

#[test]
fn strategies_share_demands() {
    // Nothing ever waits, so an answer takes exactly as long as its work, and every nanosecond of it shows in the sum.
    let system = r#"
[[service]]
name = "front"
instance = { cores = 64, workers = 64 }
[[service.endpoint]]
name = "get"
steps = ["cpu exp(5ms) * exp(1)", "call back.get probability=70%", "wait gamma(3ms, cv=2)"]
[[service]]
name = "back"
instance = { cores = 64, workers = 64 }
[[service.endpoint]]
name = "get"
steps = ["cpu lognormal(4ms, cv=2)"]
[[source]]
name = "web"
to = "front.get"
arrivals.poisson = { rate = "50/s" }
"#;
    let guarded = "[[strategy]]\nname = \"guarded\"\n[strategy.service.back.callers]\ntimeout = \"60s\"\nretry.exponential = {}\n\
                   breaker.seed = {}\nlimiter.bulkhead = { max-concurrent = 1000 }\nbalancer.p2c = {}\n\
                   [strategy.service.front.callers]\ntimeout = \"60s\"\nretry.fixed = {}\n";
    let larger = "[[strategy]]\nname = \"larger\"\n[strategy.service.back]\nreplicas = 5\n\
                  autoscaler.hpa = { min-replicas = 5, max-replicas = 9, target-cpu-utilization = 50 }\n\
                  [strategy.service.front]\nreplicas = 3\n";
    let outcome = run(&load(&format!("{HEAD}{system}{PLAIN}{guarded}{larger}")), 2);
    let of = |at: usize, metric: &str| -> Vec<u64> {
        outcome.strategies[at].replications.iter().map(|run| run.metrics[metric].to_bits()).collect()
    };
    for metric in
        ["requests", "latency_mean_ms", "latency_p99_ms", "service.back.sojourn_mean_ms", "in_system_mean"]
    {
        assert_eq!(of(0, metric), of(1, metric), "INV-17: {metric}");
        assert_eq!(of(0, metric), of(2, metric), "INV-17: {metric}");
    }
}

#[test]
fn attempts_share_the_part_of_the_request() {
    // Each attempt times out at the callee, where its work goes on: with a part of the request only, every attempt takes
    // as long as the first.
    let system = |factor: &str| {
        format!(
            "[[service]]\nname = \"api\"\ninstance = {{ cores = 64, workers = 64 }}\n[[service.endpoint]]\nname = \"get\"\n\
             steps = [\"cpu exp(5s){factor}\"]\n[[source]]\nname = \"web\"\nto = \"api.get\"\nrequests = 1\n\
             arrivals.deterministic = {{ rate = \"1/s\" }}\n[source.call.api]\ntimeout = \"1ms\"\n\
             retry.fixed = {{ attempts = 4, delay = \"0s\" }}\n[[source]]\nname = \"clock\"\nsteps = [\"wait 1s\"]\n\
             arrivals.deterministic = {{ rate = \"1/h\" }}\n"
        )
    };
    let sojourns = |factor: &str| {
        let head = "[scenario]\nname = \"any\"\nduration = \"100s\"\nreplications = 5\n";
        let outcome = run(&load(&format!("{head}{}", system(factor))), 2);
        let runs = &outcome.strategies[0].replications;
        let of = |run: &Replication| {
            let metrics = &run.metrics;
            (
                metrics["service.api.sojourn_mean_ms"],
                metrics["service.api.utilization"] * 64.0 * 100.0 / 4.0 * 1000.0,
            )
        };
        runs.iter().map(of).collect::<Vec<_>>()
    };
    for (mean, used) in sojourns("") {
        assert!((mean - used).abs() < 1e-6 * mean, "four times the same work: {mean} {used}");
    }
    assert_ne!(sojourns(""), sojourns(" * exp(1)"));
}

#[test]
fn closed_loops_share_the_draws_of_a_user_and_a_cycle() {
    // One strategy doubles all work. The users then come later, but their work is the same, twice.
    let system = "[[service]]\nname = \"api\"\ninstance = { cores = 64, workers = 64 }\n[[service.endpoint]]\nname = \"get\"\n\
                  steps = [\"cpu exp(50ms)\"]\n[[service.version]]\nname = \"v1\"\n[[source]]\nname = \"people\"\nto = \"api.get\"\n\
                  requests = 1\narrivals.users = { count = 1, think = \"exp(1s)\" }\n";
    let twice =
        "[[strategy]]\nname = \"twice\"\n[[strategy.service.api.version]]\nname = \"v1\"\ndemand = 2\n";
    for requests in [1, 2, 20] {
        let system = system.replace("requests = 1", &format!("requests = {requests}"));
        let outcome =
            run(&load(&format!("{HEAD}{system}{PLAIN}{twice}").replace("warm-up = \"5s\"\n", "")), 2);
        let mean = |at: usize| outcome.strategies[at].replications[0].metrics["latency_mean_ms"];
        assert!((mean(1) / mean(0) - 2.0).abs() < 1e-6, "INV-17: {} and {}", mean(0), mean(1));
    }
}

// ---- shipped scenarios

/// How each shipped scenario is shortened; by default to a tenth of its length, and never to less than twice its warm-up.
const SHORTENED: [(&str, &[&str]); 15] = [
    // The restart comes at 20 s.
    ("scenarios/balancers/cold-start.toml", &["scenario.duration=40s"]),
    ("scenarios/breaker-shootout.toml", &["scenario.duration=95s"]),
    // The rollout is over.
    ("scenarios/graceful-shutdown.toml", &["scenario.duration=170s"]),
    ("scenarios/limiter-shootout.toml", &["scenario.duration=40s"]),
    ("scenarios/long-lived-connections.toml", &["scenario.duration=210s"]),
    ("scenarios/machine-failures.toml", &["scenario.duration=27h"]),
    ("scenarios/node-loss.toml", &["scenario.duration=8min"]),
    ("scenarios/node-pool-exhausted.toml", &["scenario.duration=32min"]),
    // An alert has stopped the queue, and it is replayed.
    ("scenarios/order.toml", &["scenario.duration=10min"]),
    ("scenarios/paper/version-consistency.toml", &["scenario.duration=6s"]),
    ("scenarios/portal.toml", &["scenario.duration=7min"]),
    ("scenarios/reconnect-herd.toml", &["scenario.duration=135s"]),
    ("scenarios/retry-storm.toml", &["scenario.duration=150s"]),
    ("scenarios/typhoon-update.toml", &["scenario.duration=6min"]),
    ("scenarios/typhoon.toml", &["scenario.duration=16min", "scenario.warm-up=1min"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All scenario files, by path from the root of the repository.
fn shipped() -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from("scenarios")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "toml") {
                files.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

/// The settings with which a scenario is run here, and by `.ci/golden.py`.
fn settings(path: &str) -> Vec<String> {
    if let Some((_, settings)) = SHORTENED.iter().find(|(known, _)| *known == path) {
        return settings.iter().map(|text| (*text).to_owned()).collect();
    }
    let study = Study::load(root().join(path).to_str().unwrap(), &Overrides::default())
        .unwrap_or_else(|error| panic!("{error}"));
    let ms = (study.duration.as_millis() / 10).max(study.warm_up.as_millis() * 2);
    vec![format!("scenario.duration={ms}ms")]
}

fn overrides(path: &str) -> Overrides {
    Overrides { settings: settings(path), replications: Some(1), ..Overrides::default() }
}

/// One line for each strategy of each shipped scenario.
fn digests() -> String {
    let mut text = String::from(
        "# Digests of the shipped scenarios, shortened: path, settings, strategy, digest, requests, hops, events.\n\
         # A change needs a \"Results change:\" line in CHANGELOG.md; then write this file anew with\n\
         # SIMLAB_BLESS=1 cargo test --test it golden\n",
    );
    for path in shipped() {
        let study = Study::load(root().join(&path).to_str().unwrap(), &overrides(&path))
            .unwrap_or_else(|error| panic!("{error}"));
        let outcome = run(&study, 2);
        for strategy in &outcome.strategies {
            let run = &strategy.replications[0];
            assert!(run.requests > 0, "{path} does something");
            writeln!(
                text,
                "{path} {} {} {:016x} {} {} {}",
                settings(&path).join(","),
                strategy.name,
                run.digest,
                run.requests,
                run.hops,
                run.events
            )
            .unwrap();
        }
    }
    text
}

#[test]
fn shipped_scenarios_match_their_golden_digests() {
    let file = root().join("tests/golden/digests.txt");
    let found = digests();
    if std::env::var_os("SIMLAB_BLESS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &found).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&file).expect("tests/golden/digests.txt");
    assert!(golden == found, "INV-21: results have changed\n--- golden\n{golden}\n--- found\n{found}");
}
