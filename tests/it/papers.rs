//! Published experiments whose set-up is known completely, against re-runs of the originals (`tests/reference/`).
//!
//! Every table is judged as a whole: an error level of 1 % is shared by all its figures, so a correct simlab fails one table in a
//! hundred, and with the fixed seeds used here it either does or does not.

use std::collections::BTreeMap;
use std::fs;

use simlab::kernel::queue::{Payload, Queue};
use simlab::lab::outcome::Replication;
use simlab::policies::retry::{AnyRetry, Retry, RetryPolicy, RetrySettings};
use simlab::policies::view::{Class, Outcome};
use simlab::random::{Key, variate};
use simlab::scenario::Overrides;
use simlab::scenario::model::Study;
use simlab::time::{Duration, Time};

use crate::story::run;

/// The rows of a table: column by name.
fn table(file: &str) -> Vec<BTreeMap<String, String>> {
    let text = fs::read_to_string(format!("tests/reference/{file}")).expect("the table is there");
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let mut head = lines.next().expect("a head");
    // A second column of the same name is the error of the column before it.
    for at in 1..head.len() {
        if head[at] == "se" {
            head[at] = format!("se {}", head[at - 1]);
        }
    }
    lines.map(|line| head.iter().cloned().zip(line).collect()).collect()
}

fn number(row: &BTreeMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column} of {row:?}"))
}

/// Mean and its standard error.
fn mean(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, (variance / n).sqrt())
}

mod aws {
    use super::*;

    /// The message on its way: a read or a write that arrives at the server, or the answer to a write that arrives at its client.
    const READ: u8 = 0;
    const WRITE: u8 = 1;

    #[derive(Clone, Copy, Default)]
    struct Client {
        version: u64,
        attempt: u32,
        carry: f64,
    }

    /// One run of the simulator: clients that read a row and write it back if it has not changed meanwhile, else back off and
    /// begin anew. Writes made, and the time at which the last client is done, ms.
    fn contend(policy: &AnyRetry, clients: u32, key: Key) -> (f64, f64) {
        let mut draws = key.draws();
        let mut net = || Duration::from_ns_f64((10.0 + 2.0 * variate::normal(&mut draws)).abs() * 1e6);
        let mut rng = key.with(1).rng();
        let (mut queue, mut version, mut calls, mut last) = (Queue::new(), 0, 0, Time::ZERO);
        let mut states = vec![Client::default(); clients as usize];
        for client in 0..clients {
            queue.push(Time::ZERO + net(), Payload::new(READ, client));
        }
        while let Some((now, event)) = queue.pop() {
            let client = &mut states[event.index() as usize];
            if event.kind() == READ {
                client.version = version;
                queue.push(now + net() + net(), Payload::new(WRITE, event.index()));
                continue;
            }
            calls += 1;
            let heard = now + net();
            last = last.max(heard);
            if client.version == version {
                version += 1;
                continue;
            }
            let outcome = Outcome::new(Class::Failure, Duration::ZERO);
            let answer = policy.on_failure(heard, client.attempt, &mut client.carry, &outcome, &mut rng);
            let Retry::After(delay) = answer else { panic!("it tries until it succeeds") };
            client.attempt += 1;
            queue.push(heard + net() + delay, Payload::new(READ, event.index()));
        }
        assert_eq!(version, u64::from(clients), "every client gets its turn, once");
        (f64::from(calls), last.as_secs_f64() * 1e3)
    }

    fn policy(algorithm: &str) -> AnyRetry {
        let of = |name: &str| {
            format!(r#"{{"{name}": {{"attempts": 4294967295, "base": "5ms", "max-delay": "2s"}}}}"#)
        };
        let settings = match algorithm {
            "None" => r#"{"fixed": {"attempts": 4294967295, "delay": "0s"}}"#.to_owned(),
            "Exponential" => of("no-jitter"),
            "EqualJitter" => of("equal-jitter"),
            "FullJitter" => of("exponential"),
            "Decorr" => of("decorrelated"),
            other => panic!("{other}"),
        };
        let settings: RetrySettings = serde_json::from_str(&settings).unwrap();
        settings.build(Time::ZERO)
    }

    /// All five ways to back off at 10 to 190 clients: 25 rows of two figures each, so |z| < 4 for all of them is a level of less
    /// than 1 %.
    #[test]
    fn the_back_off_table_is_reproduced() {
        let mut found = BTreeMap::new();
        for row in table("aws_backoff_rerun.csv") {
            let (clients, algorithm) = (number(&row, "clients") as u32, row["algorithm"].clone());
            let policy = policy(&algorithm);
            let runs = if clients < 100 { 200 } else { 40 };
            let key = Key::new(2015).named(&algorithm).with(u64::from(clients));
            let (calls, times): (Vec<f64>, Vec<f64>) =
                (0..runs).map(|run| contend(&policy, clients, key.with(run))).unzip();
            for (values, what, se) in
                [(&calls, "mean_calls", "se_calls"), (&times, "mean_time_ms", "se_time")]
            {
                let (ours, error) = mean(values);
                let z = (ours - number(&row, what)) / error.hypot(number(&row, se));
                assert!(
                    z.abs() < 4.0,
                    "{clients} {algorithm}: {what} {ours}, {} there, z = {z:.2}",
                    row[what]
                );
            }
            found.insert((clients, algorithm), (mean(&calls), mean(&times)));
        }
        // What surprises, each by many standard errors.
        let calls = |clients, algorithm: &str| found[&(clients, algorithm.to_owned())].0;
        let times = |clients, algorithm: &str| found[&(clients, algorithm.to_owned())].1.0;
        let (equal, full) = (calls(190, "EqualJitter"), calls(190, "FullJitter"));
        assert!(full.0 - equal.0 > 3.0 * equal.1.hypot(full.1), "equal jitter needs fewer writes at 190");
        assert!(calls(50, "EqualJitter").0 > calls(50, "FullJitter").0, "but more at 50");
        assert!(times(100, "Exponential") > 25.0 * times(100, "None"), "back-off without jitter is slowest");
        for clients in [50, 100, 190] {
            assert!(calls(clients, "Decorr").0 > 1.1 * calls(clients, "FullJitter").0, "{clients}");
        }
    }
}

mod brooker {
    use super::*;

    /// The replications of each strategy of a scenario of `scenarios/paper`, with these variables.
    fn replications(file: &str, settings: &[String], count: u64) -> BTreeMap<String, Vec<Replication>> {
        let overrides =
            Overrides { settings: settings.to_vec(), replications: Some(count), ..Overrides::default() };
        let study = Study::load(&format!("scenarios/paper/{file}"), &overrides)
            .unwrap_or_else(|error| panic!("{}", error.render(false)));
        let outcome = run(&study, 2);
        outcome.strategies.into_iter().map(|strategy| (strategy.name, strategy.replications)).collect()
    }

    /// Success and attempts per call for every rule, failure rate and number of clients: 84 figures from 12 runs each, there and
    /// here. At about 22 degrees of freedom 4.7 standard errors for each of them are a level of 1 % for all.
    #[test]
    fn retries_budgets_and_breakers_do_what_they_did_there() {
        let name = |strategy: &str| match strategy {
            "no_retries" => "none",
            "three_retries" => "three",
            "adaptive_10pct_b5" => "adaptive",
            "breaker_10pct" => "breaker",
            other => panic!("{other}"),
        };
        let mut runs = BTreeMap::new();
        let mut judged = 0;
        for row in table("brooker_retry_rerun.csv") {
            let set_up = (
                format!("vars.failure-rate={}%", number(&row, "failure_rate") * 100.0),
                format!("vars.clients={}", row["n_clients"]),
                format!("vars.rate={}/s", number(&row, "n_clients") * number(&row, "rate_per_client")),
            );
            let found = runs
                .entry(set_up.clone())
                .or_insert_with(|| replications("brooker-retries.toml", &[set_up.0, set_up.1, set_up.2], 12));
            let found = &found[name(&row["strategy"])];
            for (ours, theirs) in
                [("availability", "success_rate"), ("service.server.attempts_per_call", "attempts_per_call")]
            {
                let values: Vec<f64> = found.iter().map(|one| one.metrics[ours]).collect();
                let (ours, error) = mean(&values);
                // The table is cut after five digits.
                let error = error.hypot(number(&row, &format!("se {theirs}"))).max(2e-5);
                let z = (ours - number(&row, theirs)) / error;
                assert!(z.abs() < 4.7, "{row:?}: {theirs} {ours}, z = {z:.2}");
                judged += 1;
            }
        }
        assert_eq!(judged, 84);
    }

    /// Runs that are still down at the end: fewer good answers in the last ten seconds than a tenth of the requests.
    fn collapsed(load: &str, count: u64) -> BTreeMap<String, f64> {
        let found = replications("brooker-collapse.toml", &[format!("vars.load={load}")], count);
        let is_down = |one: &&Replication| {
            let curve = |metric: &str| {
                let series = one.timeline.series.iter();
                let series =
                    series.into_iter().find(|series| series.scope == "run" && series.metric == metric);
                series.expect("a curve of the run").values.clone()
            };
            let (good, offered) = (curve("goodput_rps"), curve("offered_rps"));
            let last = |values: &[f64]| values[70..80].iter().sum::<f64>();
            last(&good) < 0.1 * last(&offered)
        };
        let share = |runs: &[Replication]| runs.iter().filter(is_down).count() as f64 / runs.len() as f64;
        found.into_iter().map(|(name, runs)| (name, share(&runs))).collect()
    }

    /// The probability of collapse by width of the spike: six proportions of 100 runs there and of 60 here. Proportions that differ
    /// by less than 3.2 standard errors of the difference are a level of 1 % for all; where there is no spread, one run in fifteen
    /// may differ.
    #[test]
    fn collapse_is_as_likely_as_there() {
        let mut runs = BTreeMap::new();
        for row in table("brooker_collapse_probability.csv") {
            let width = number(&row, "spike_width_s");
            let load = format!("steps(0s: 40/s, 20s: 80/s, {}s: 40/s)", 20.0 + width);
            let found = runs.entry(load.clone()).or_insert_with(|| collapsed(&load, 60));
            let name = if row["scenario"] == "spike_no_backoff" { "at-once" } else { "backoff" };
            let (ours, theirs) = (found[name], number(&row, "fraction_collapsed_at_t70_79"));
            let spread = (theirs * (1.0 - theirs) * (1.0 / 60.0 + 1.0 / 100.0)).sqrt();
            assert!((ours - theirs).abs() < (3.2 * spread).max(1.0 / 15.0), "{row:?}: {ours}");
        }
        // A ramp up to 80/s and down again is slow enough for every retry to come back in time to do harm.
        let ramp = collapsed("ramp(0s: 40/s, 25s: 80/s, 75s: 1/s)", 20);
        assert!(ramp.values().all(|share| *share == 1.0), "{ramp:?}");
    }
}
