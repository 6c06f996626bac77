//! The four reference models, run through the ordinary scenario and world code.
//!
//! `cargo run --release --example reference_models -- MODEL N [SEED] [INSTANCES] [PATH=VALUE ..]` loads `scenarios/bench/MODEL.toml`, stops
//! the arrivals after N requests, lets the system drain and prints one `RESULT` line: CPU seconds of the run (loading
//! left out), mean latency of the successes in units of the mean service time, share of timeouts, p99.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

use std::process::ExitCode;

use simlab::kernel::Handle;
use simlab::lab::assemble::assemble;
use simlab::scenario::Overrides;
use simlab::scenario::model::Study;
use simlab::world;

/// Mean service time of all four models.
const SERVICE_MS: f64 = 10.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String]) -> Result<String, String> {
    let (settings, arguments): (Vec<String>, Vec<String>) =
        arguments.iter().cloned().partition(|argument| argument.contains('='));
    let [model, requests, rest @ ..] = arguments.as_slice() else {
        return Err("usage: reference_models MODEL N [SEED] [INSTANCES] [PATH=VALUE ..]".to_owned());
    };
    let requests: u64 = requests.parse().map_err(|_| format!("`{requests}` is not a number of requests"))?;
    let seed = rest.first().map_or(Ok(1), |seed| seed.parse()).map_err(|_| "the seed is a whole number")?;
    let mut set = vec![
        format!("source.clients.requests={requests}"),
        "scenario.duration=100000h".to_owned(),
        "scenario.warm-up=0s".to_owned(),
        "scenario.resolution=100h".to_owned(),
    ];
    if let Some(instances) = rest.get(1) {
        let instances: u64 =
            instances.parse().map_err(|_| format!("`{instances}` is not a number of instances"))?;
        set.push(format!("vars.instances={instances}"));
        set.push(format!("vars.rate={}/s", 90 * instances));
        set.push(format!("limits.instances={}", instances.max(100_000)));
    }
    set.extend(settings);
    let path = format!("{}/scenarios/bench/{model}.toml", env!("CARGO_MANIFEST_DIR"));
    let study = Study::load(&path, &Overrides { settings: set, ..Overrides::default() })
        .map_err(|error| error.render(false))?;
    let spec = assemble(&study, &study.strategies[0].scenario);
    let before = cpu_ns();
    let report = world::run(&spec, seed, &Handle::default()).map_err(|stop| stop.to_string())?;
    let seconds = (cpu_ns() - before) as f64 / 1e9;
    let metric = |name: &str| report.metrics.get(name).copied().unwrap_or(f64::NAN);
    Ok(format!(
        "RESULT model={model} impl=simlab n={requests} secs={seconds:.6} mean={:.5} timeouts={:.6} p99ms={:.3} \
         events={} rss_kib={} chk={:x}",
        metric("latency_mean_ms") / SERVICE_MS,
        metric("timeout_ratio"),
        metric("latency_p99_ms"),
        report.events,
        status_kib("VmHWM:"),
        report.digest,
    ))
}

/// CPU time of this (single-threaded) process, in ns: the first figure of `/proc/self/schedstat`.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

/// A figure of `/proc/self/status`.
fn status_kib(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("0");
    line.trim().trim_end_matches(" kB").trim().parse().unwrap_or(0)
}
