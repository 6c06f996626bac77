//! A first look at reality: a real nginx in front of two small back-ends with a known law, at three loads and with two
//! balancers, beside what simlab predicts for the same thing (`scenarios/bench/nginx.toml`).
//!
//! `cargo run --release --example nginx [SECONDS]` starts everything on the loopback, measures each load for that long
//! (default 30 s after 3 s that do not count), stops everything, and prints a table. It needs `nginx` on the path. Exit code
//! 1 if a measured percentile lies outside of where 95 % of predicted runs of that length lie, by more than a quarter. That only
//! says that the set-up works; how good the predictions are is what the table is for.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]
#![expect(clippy::disallowed_methods, reason = "this program measures the real world and needs its clock")]

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use simlab::lab::outcome::{Replication, StrategyOutcome};
use simlab::lab::{self, Progress, RunOptions};
use simlab::random::law::{Dimension, Law, no_files};
use simlab::random::{Stream, variate};
use simlab::scenario::Overrides;
use simlab::scenario::model::Study;

/// As in the scenario: law of a request's work, workers of a back-end, back-ends, loads in requests/s.
const LAW: &str = "lognormal(10ms, cv=1)";
const WORKERS: usize = 2;
const BACKENDS: usize = 2;
const LOADS: [f64; 3] = [200.0, 280.0, 360.0];

/// nginx's balancers by the line that selects them, in the order of the scenario's strategies.
const BALANCERS: [(&str, &str); 2] = [("in turn", ""), ("fewest in progress", "least_conn;")];

/// Not counted at the beginning of each measurement.
const WARM_UP: Duration = Duration::from_secs(3);

/// Connections of the clients: more than ever wait at once.
const CONNECTIONS: usize = 300;

/// Sleeping overshoots by less than this; the rest is waited for awake.
const AWAKE: Duration = Duration::from_micros(150);

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let seconds = std::env::args().nth(1).map_or(Ok(30), |text| text.parse::<u64>());
    let Ok(seconds @ 5..=600) = seconds else {
        eprintln!("usage: nginx [SECONDS], from 5 to 600");
        return ExitCode::from(2);
    };
    match compare(seconds) {
        Ok((table, true)) => {
            println!("{table}");
            ExitCode::SUCCESS
        }
        Ok((table, false)) => {
            println!("{table}");
            eprintln!("error: a prediction is far off");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// The table, and whether every prediction is roughly right.
fn compare(seconds: u64) -> Fallible<(String, bool)> {
    let predicted = predict(seconds)?;
    let law = Law::parse(LAW, Dimension::Time, &mut no_files)?;
    let ports: Vec<u16> = (0..BACKENDS).map(|number| backend(&law, number)).collect::<io::Result<_>>()?;
    let mut table = String::from(
        "| nginx hands out | load | answers/s | predicted | p50, ms | predicted (95 % of runs) | p99, ms | predicted (95 % of runs) |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let mut right = true;
    let mut strategies = predicted.iter();
    for (words, directive) in BALANCERS {
        let proxy = Nginx::start(&ports, directive)?;
        for load in LOADS {
            let expected = strategies.next().ok_or("the scenario has too few strategies")?;
            let measured = measure(proxy.port, load, Duration::from_secs(seconds))?;
            let (p50, p99) = (measured.quantile(0.5), measured.quantile(0.99));
            let (middle, tail) =
                (Spread::of(expected, "latency_p50_ms")?, Spread::of(expected, "latency_p99_ms")?);
            let rate = Spread::of(expected, "throughput_rps")?;
            let share = load / (100.0 * (WORKERS * BACKENDS) as f64);
            writeln!(
                table,
                "| {words} | {:.0} % | {:.1} | {rate} | {p50:.2} | {middle} | {p99:.1} | {tail} |",
                share * 100.0,
                measured.rate,
            )?;
            right &= middle.nearly_holds(p50) && tail.nearly_holds(p99) && rate.nearly_holds(measured.rate);
        }
    }
    Ok((table, right))
}

/// Median and central 95 % over replications.
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

impl Spread {
    fn of(strategy: &StrategyOutcome, metric: &str) -> Fallible<Self> {
        let value = |run: &Replication| run.metrics.get(metric).copied();
        let mut values: Vec<f64> = strategy.replications.iter().filter_map(value).collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values.get((share * values.len() as f64) as usize).copied();
        let found = (at(0.025), at(0.5), at(0.975));
        let (Some(low), Some(median), Some(high)) = found else { return Err(format!("no {metric}").into()) };
        Ok(Self { low, median, high })
    }

    /// Whether a value lies inside, or outside by at most a quarter, which is left to what the model leaves out.
    fn nearly_holds(&self, value: f64) -> bool {
        value > self.low / 1.25 && value < self.high * 1.25
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { low, median, high } = self;
        if *median < 50.0 {
            write!(f, "{median:.2} ({low:.2} to {high:.2})")
        } else {
            write!(f, "{median:.1} ({low:.1} to {high:.1})")
        }
    }
}

fn predict(seconds: u64) -> Fallible<Vec<StrategyOutcome>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/bench/nginx.toml");
    let settings = vec![format!("scenario.duration={}s", seconds + WARM_UP.as_secs())];
    let study = Study::load(path, &Overrides { settings, ..Overrides::default() })
        .map_err(|error| error.render(false))?;
    let outcome = lab::run(&study, &RunOptions::default(), &Progress::default())?;
    Ok(outcome.strategies)
}

/// Starts a back-end: a thread for each connection reads requests, the workers serve them in the order of their coming.
fn backend(law: &Law, number: usize) -> io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let (jobs, waiting) = channel::<Sender<()>>();
    let waiting = Arc::new(Mutex::new(waiting));
    for worker in 0..WORKERS {
        let (waiting, law) = (Arc::clone(&waiting), law.clone());
        let mut draws = Stream::new(1, "nginx", &format!("back-end {number} worker {worker}"));
        thread::spawn(move || {
            while let Some(done) = next(&waiting) {
                let work = law.sample_duration(&mut draws);
                until(Instant::now() + Duration::from_nanos(work.0));
                // Nobody listens if the connection broke meanwhile.
                let _ = done.send(());
            }
        });
    }
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let jobs = jobs.clone();
            thread::spawn(move || serve(connection, &jobs));
        }
    });
    Ok(port)
}

fn next(waiting: &Mutex<Receiver<Sender<()>>>) -> Option<Sender<()>> {
    waiting.lock().ok()?.recv().ok()
}

fn serve(mut connection: TcpStream, jobs: &Sender<Sender<()>>) -> io::Result<()> {
    connection.set_nodelay(true)?;
    while read_head(&mut connection)? {
        let (done, answer) = channel();
        let _ = jobs.send(done);
        if answer.recv().is_err() {
            return Ok(());
        }
        connection
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok")?;
    }
    Ok(())
}

/// Reads up to the empty line; false if the other side has closed.
fn read_head(connection: &mut TcpStream) -> io::Result<bool> {
    let (mut head, mut part) = (Vec::new(), [0; 1024]);
    loop {
        match connection.read(&mut part)? {
            0 => return Ok(false),
            read => head.extend_from_slice(&part[..read]),
        }
        if head.windows(4).any(|end| end == b"\r\n\r\n") {
            return Ok(true);
        }
    }
}

/// Waits until `then`, the last moment awake.
fn until(then: Instant) {
    let left = then.saturating_duration_since(Instant::now());
    if let Some(asleep) = left.checked_sub(AWAKE) {
        thread::sleep(asleep);
    }
    while Instant::now() < then {
        std::hint::spin_loop();
    }
}

/// A running nginx; ends with its value.
struct Nginx {
    process: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Nginx {
    fn start(backends: &[u16], directive: &str) -> Fallible<Self> {
        let folder = tempfile::tempdir()?;
        // Free a moment ago, and hardly taken since.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let configuration = folder.path().join("nginx.conf");
        fs::write(&configuration, configured(folder.path(), port, backends, directive))?;
        let process = Command::new("nginx")
            .arg("-c")
            .arg(&configuration)
            .arg("-e")
            .arg(folder.path().join("error.log"))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start nginx (is it installed?): {error}"))?;
        let nginx = Self { process, folder, port };
        for _ in 0..100 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(nginx);
            }
            thread::sleep(Duration::from_millis(50));
        }
        let log = fs::read_to_string(nginx.folder.path().join("error.log")).unwrap_or_default();
        Err(format!("nginx does not answer: {log}").into())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM lets the master end its workers, which a kill would leave behind.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

fn configured(folder: &Path, port: u16, backends: &[u16], directive: &str) -> String {
    let folder = folder.display();
    let servers: Vec<String> = backends.iter().map(|port| format!("server 127.0.0.1:{port};\n")).collect();
    let servers = servers.concat();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {folder}/{name};\n"))
        .concat();
    format!(
        "daemon off;\nworker_processes 1;\npid {folder}/pid;\nevents {{ worker_connections 4096; }}\n\
         http {{\naccess_log off;\n{temporary}keepalive_requests 1000000;\n\
         upstream backends {{\n{directive}\n{servers}keepalive 512;\nkeepalive_requests 1000000;\n}}\n\
         server {{\nlisten 127.0.0.1:{port};\nlocation / {{\nproxy_pass http://backends;\nproxy_http_version 1.1;\n\
         proxy_set_header Connection \"\";\n}}\n}}\n}}\n"
    )
}

/// What the clients saw.
struct Measured {
    /// Ascending, in ms.
    latencies: Vec<f64>,
    /// Answers per second.
    rate: f64,
}

impl Measured {
    fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.latencies.len() as f64).ceil() as usize;
        self.latencies.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }
}

/// Sends requests at random times, whether or not earlier ones have been answered. Latency counts from the intended time.
fn measure(port: u16, load: f64, lasts: Duration) -> Fallible<Measured> {
    let mut stream = Stream::new(1, "nginx", &format!("arrivals at {load}/s"));
    let end = WARM_UP + lasts;
    let mut at = Duration::ZERO;
    let mut schedule = VecDeque::new();
    loop {
        at += Duration::from_secs_f64(variate::exp1(&mut stream) / load);
        if at >= end {
            break;
        }
        schedule.push_back(at);
    }
    let schedule = Arc::new(Mutex::new(schedule));
    let start = Instant::now() + Duration::from_millis(200);
    let client = |_| {
        let schedule = Arc::clone(&schedule);
        thread::spawn(move || -> io::Result<Vec<(Duration, Duration)>> {
            let mut connection = TcpStream::connect(("127.0.0.1", port))?;
            connection.set_nodelay(true)?;
            let mut seen = Vec::new();
            let next = || schedule.lock().ok()?.pop_front();
            while let Some(intended) = next() {
                until(start + intended);
                connection.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
                read_answer(&mut connection)?;
                seen.push((intended, (start + intended).elapsed()));
            }
            Ok(seen)
        })
    };
    let clients: Vec<_> = (0..CONNECTIONS).map(client).collect();
    let mut latencies = Vec::new();
    for client in clients {
        let seen = client.join().map_err(|_| "a client failed")??;
        let counted = seen.into_iter().filter(|(intended, _)| *intended >= WARM_UP);
        latencies.extend(counted.map(|(_, latency)| latency.as_secs_f64() * 1e3));
    }
    latencies.sort_by(f64::total_cmp);
    let rate = latencies.len() as f64 / lasts.as_secs_f64();
    Ok(Measured { latencies, rate })
}

/// Head and body of an answer of two bytes.
fn read_answer(connection: &mut TcpStream) -> io::Result<()> {
    let (mut answer, mut part) = (Vec::new(), [0; 1024]);
    while !answer.ends_with(b"\r\n\r\nok") {
        match connection.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => answer.extend_from_slice(&part[..read]),
        }
    }
    if answer.starts_with(b"HTTP/1.1 200") { Ok(()) } else { Err(io::Error::other("not a good answer")) }
}
