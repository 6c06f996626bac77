//! From a row of the table to a scenario: one adapter per family of models.
//!
//! Each builds the scenario that an engineer would write for the system in the row's definition; where that takes a trick, a
//! comment says why the trick is exact.

use std::fmt::Write as _;

use serde_json::Value;

use super::Reference;
use super::experiment::{Experiment, customers, endpoint, exp, poisson, relaxation, service, source};
use super::reading::Reading;
use crate::stats::histogram::Totals;
use crate::world::RunReport;

/// Why a row is not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decline {
    /// simlab cannot express it (yet), or it is no equality.
    Skip(String),
    /// The row cannot be read.
    Broken(String),
}

impl From<String> for Decline {
    fn from(message: String) -> Self {
        Self::Broken(message)
    }
}

type Answer = Result<Experiment, Decline>;

/// Builds the experiment of one row.
type Model = fn(&Reference) -> Answer;

/// Adapters by `model`.
const MODELS: &[(&str, Model)] = &[
    ("M/M/1", single_server),
    ("M/M/c", servers),
    ("M/G/c/c", loss),
    ("M/M/c/K", bounded),
    ("M/G/1-FCFS", single_server),
    ("M/D/1", single_server),
    ("GI/M/1", single_server),
    ("M/G/1-PS", processor_sharing),
    ("M/M/1-nonpreemptive-2prio", priorities),
    ("M/M/c+M (Erlang A)", impatient),
    ("M/M/1+D (deadline on wait)", impatient),
    ("Jackson 3-node feedback", jackson),
    ("closed network (MVA)", closed_network),
    ("machine repairman", machines),
    ("k-of-n availability", machines),
    ("2-of-3 MTTF with repair", time_to_failure),
    ("fork-join 2 x M/M/1", fork_join),
    ("fan-out no queue exponential", fan_out),
    ("fan-out slow fraction", fan_out),
    ("hedge exponential mean 1 delay 2", hedge),
    ("hedge bimodal", hedge),
    ("duplicate requests lognormal mu=0 sigma=1", duplicates),
    ("JSQ 2 x M/M/1", balanced),
    ("power of d without replacement, finite n", balanced),
    ("independent failure with N retries", retries),
    ("3-tier retry amplification", amplification),
    ("token bucket, Poisson arrivals, continuous refill", token_bucket),
    ("M/M/1 exponential setup, instant off", setup),
    ("M/M/1 deterministic setup, instant off", setup),
    ("M/M/1 with breakdowns while serving (preemptive resume)", breakdowns_while_serving),
    ("M/M/1 with breakdowns at any time", breakdowns),
    ("MMPP(2)/M/1 flood", modulated),
    ("Mt/M/inf sinusoid", sinusoid),
    ("fluid overload D/D/1", drain),
    ("M/M/1 transient from empty", transient),
    ("health check detection, phase uniform, instant failing probe", detection),
];

/// Models that no scenario can express at present.
const INEXPRESSIBLE: &[(&str, &str)] = &[
    ("M/M/1-preemptive-resume-2prio", "a started step is never interrupted by a more important one"),
    ("M/M/1-SRPT", "no instance orders its work by what remains of it"),
    (
        "M/M/c retrial",
        "delays between attempts follow a policy, not any law; here it would have to be exponential",
    ),
    (
        "ring hash 1 point per node",
        "a ring follows from names, so it is the same in all runs; a test of the balancer holds it against rings of other names",
    ),
];

/// The experiment that answers a row.
pub(super) fn experiment(row: &Reference) -> Answer {
    match row.kind.as_str() {
        "closed" | "series" | "root" | "integral" | "ctmc" => {}
        "bound" | "approx" | "limit" => {
            let what = match row.kind.as_str() {
                "bound" => "a bound",
                "approx" => "an approximation",
                _ => "a limit that no finite system attains",
            };
            return Err(Decline::Skip(format!("{what}, not an equality")));
        }
        kind => return Err(Decline::Broken(format!("unknown kind `{kind}`"))),
    }
    if let Some((_, why)) = INEXPRESSIBLE.iter().find(|(model, _)| *model == row.model) {
        return Err(Decline::Skip((*why).to_owned()));
    }
    match MODELS.iter().find(|(model, _)| *model == row.model) {
        Some((_, adapter)) => adapter(row),
        None => Err(Decline::Skip(format!("no adapter for the model `{}`", row.model))),
    }
}

impl Reference {
    fn param(&self, name: &str) -> Result<&Value, Decline> {
        self.params.get(name).ok_or_else(|| Decline::Broken(format!("the row has no parameter `{name}`")))
    }

    fn number(&self, name: &str) -> Result<f64, Decline> {
        let value = self.param(name)?.as_f64();
        value.ok_or_else(|| Decline::Broken(format!("the parameter `{name}` is not a number")))
    }

    fn count(&self, name: &str) -> Result<u32, Decline> {
        let value = self.param(name)?.as_u64().and_then(|count| u32::try_from(count).ok());
        value.ok_or_else(|| Decline::Broken(format!("the parameter `{name}` is not a count")))
    }

    fn text(&self, name: &str) -> Result<&str, Decline> {
        let value = self.param(name)?.as_str();
        value.ok_or_else(|| Decline::Broken(format!("the parameter `{name}` is not a text")))
    }

    fn has(&self, name: &str) -> bool {
        self.params.get(name).is_some()
    }

    fn unknown_metric(&self) -> Decline {
        Decline::Skip(format!("no reading for the metric `{}` of this model", self.metric))
    }
}

// Readings.

fn metric(name: &str) -> Reading {
    affine(name, 1.0, 0.0)
}

/// A metric in ms, read in s.
fn metric_s(name: &str) -> Reading {
    affine(name, 1e-3, 0.0)
}

/// `factor` x metric + `shift`.
fn affine(name: &str, factor: f64, shift: f64) -> Reading {
    let name = name.to_owned();
    Reading::Mean(Box::new(move |report| Some(factor * report.metrics.get(&name)? + shift)))
}

/// A mean over so many observations in a run: the mean over runs weighs each run by them.
fn weighted(
    name: &str,
    factor: f64,
    count: impl Fn(&RunReport) -> Option<f64> + Send + Sync + 'static,
) -> Reading {
    let name = name.to_owned();
    Reading::Ratio(Box::new(move |report| {
        let count = count(report)?;
        Some((factor * report.metrics.get(&name)? * count, count))
    }))
}

fn quantile(
    q: f64,
    unit: f64,
    values: impl Fn(&RunReport) -> Option<&Totals> + Send + Sync + 'static,
) -> Reading {
    Reading::Quantile { q, unit, values: Box::new(move |report| values(report).cloned()) }
}

/// Latencies of good requests.
fn latencies(report: &RunReport) -> Option<&Totals> {
    let (.., histogram) = report.histograms.iter().find(|(scope, ..)| *scope == "run")?;
    Some(histogram)
}

/// Times that attempts spent at the service `server`.
fn sojourns(report: &RunReport) -> Option<&Totals> {
    let wanted = |(scope, name, _): &&(&str, String, Totals)| *scope == "service" && name == "server";
    report.histograms.iter().find(wanted).map(|(.., histogram)| histogram)
}

/// Times that attempts waited at the service `server`.
fn waits(report: &RunReport) -> Option<&Totals> {
    report.waits.iter().find(|(name, _)| name == "server").map(|(_, histogram)| histogram)
}

/// Nanoseconds in a second.
const SECOND: f64 = 1e9;

/// What is asked about a service named `server` in its stationary state.
fn of_server(row: &Reference) -> Result<Reading, Decline> {
    let stays = |report: &RunReport| Some(sojourns(report)?.count() as f64);
    let waited = |report: &RunReport| Some(waits(report)?.count() as f64);
    let requests = |report: &RunReport| report.metrics.get("requests").copied();
    Ok(match row.metric.as_str() {
        "mean_sojourn" | "mean_sojourn_accepted" => weighted("service.server.sojourn_mean_ms", 1e-3, stays),
        "p99_sojourn" => quantile(0.99, SECOND, sojourns),
        "mean_number_in_system" => metric("service.server.in_system_mean"),
        "mean_wait" | "mean_wait_all" => weighted("service.server.wait_mean_ms", 1e-3, waited),
        "p99_wait" => quantile(0.99, SECOND, waits),
        "prob_wait" => weighted("service.server.waited_ratio", 1.0, waited),
        "prob_wait_gt_x" => {
            let x = row.number("x")? * SECOND;
            Reading::Mean(Box::new(move |report| waits(report)?.share_above(x)))
        }
        "prob_block" | "prob_abandon" | "prob_loss" | "prob_reject" => {
            weighted("rejected_ratio", 1.0, requests)
        }
        "throughput" => metric("goodput_rps"),
        _ => return Err(row.unknown_metric()),
    })
}

/// A law as the table describes it: scenario text, mean in s, squared coefficient of variation.
fn law(described: &str, mean_s: f64) -> Result<(String, f64, f64), Decline> {
    let mut words = described.split_whitespace();
    let kind = words.next().unwrap_or_default();
    // The squared coefficient of variation is given as `cv2=4`.
    let named = |name: &str| {
        let value =
            described.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse::<f64>().ok());
        value.ok_or_else(|| Decline::Broken(format!("`{described}` has no `{name}`")))
    };
    let erlang = |kind: &str| kind.strip_prefix("erlang-").and_then(|k| k.parse::<u32>().ok());
    Ok(match kind {
        "exponential" => (exp(mean_s), mean_s, 1.0),
        "deterministic" | "constant" => (format!("{mean_s}s"), mean_s, 0.0),
        "hyperexp-2" => {
            let cv2 = named("cv2=")?;
            (format!("hyperexp({mean_s}s, cv={})", cv2.sqrt()), mean_s, cv2)
        }
        "lognormal" => {
            let cv2 = named("cv2=").unwrap_or(4.0);
            (format!("lognormal({mean_s}s, cv={})", cv2.sqrt()), mean_s, cv2)
        }
        "uniform[0,2]" => (format!("uniform(0s, {}s)", 2.0 * mean_s), mean_s, 1.0 / 3.0),
        "bounded-pareto" => {
            let (alpha, low, high) = (named("alpha=")?, named("k=")?, named("p=")?);
            let moment = |power: f64| {
                let mass = 1.0 - (low / high).powf(alpha);
                alpha * low.powf(alpha) * (high.powf(power - alpha) - low.powf(power - alpha))
                    / ((power - alpha) * mass)
            };
            let mean = moment(1.0);
            let law = format!("bounded-pareto({low}s, {high}s, alpha={alpha})");
            (law, mean, moment(2.0) / (mean * mean) - 1.0)
        }
        _ => match erlang(kind) {
            Some(k) => (format!("erlang({mean_s}s, k={k})"), mean_s, 1.0 / f64::from(k)),
            None => return Err(Decline::Skip(format!("the law `{described}` is not known here"))),
        },
    })
}

// Queues.

/// One server, first come first served: M/M/1, M/G/1, M/D/1, GI/M/1.
fn single_server(row: &Reference) -> Answer {
    let rate = row.number("lam")?;
    let (work, mean, cv2) = if row.has("service") {
        law(row.text("service")?, 1.0)?
    } else if row.has("D") {
        law("deterministic", row.number("D")?)?
    } else {
        law("exponential", 1.0 / row.number("mu")?)?
    };
    let (arrivals, gap_cv2) = if row.has("interarrival") {
        let (gap, _, cv2) = law(row.text("interarrival")?, 1.0 / rate)?;
        (format!("renewal = {{ gap = \"{gap}\" }}"), cv2)
    } else {
        (poisson(rate), 1.0)
    };
    let load = rate * mean;
    let relaxation = relaxation(mean, load, gap_cv2, cv2);
    let source = customers(&arrivals, &["call server.serve"]);
    if cv2 <= HEAVY {
        let body = service("server", "cores = 1, workers = 1", &[&format!("cpu {work}")]) + &source;
        let experiment = Experiment::steady(body, relaxation, rate, of_server(row)?);
        return Ok(experiment.rate(rate).load("server", load));
    }
    // Few customers make most of the wait. With their work in a service of its own its second moment, which the wait is
    // proportional to, can be a control.
    let body = service("server", "cores = 1, workers = 1", &["call work.serve"])
        + &service("work", "workers = \"unlimited\"", &[&format!("wait {work}")])
        + &source;
    let square = |report: &RunReport| {
        let (.., histogram) = report.histograms.iter().find(|(_, name, _)| name == "work")?;
        let (mut sum, mut count) = (0.0, 0.0);
        for (low, width, number) in histogram.bins() {
            let middle = low + 0.5 * width;
            sum += number as f64 * (middle * middle + width * width / 12.0);
            count += number as f64;
        }
        Some(sum / count / (SECOND * SECOND))
    };
    let busy = |report: &RunReport| report.metrics.get("service.work.in_system_mean").copied();
    Ok(Experiment::steady(body, relaxation, rate, of_server(row)?)
        .rate(rate)
        .control("the load", Box::new(busy), load)
        .control("the second moment of service", Box::new(square), (1.0 + cv2) * mean * mean))
}

/// Squared coefficient of variation above which a service law counts as heavy.
const HEAVY: f64 = 6.0;

/// Several servers and one queue.
fn servers(row: &Reference) -> Answer {
    let (rate, mu, c) = (row.number("lam")?, row.number("mu")?, row.count("c")?);
    let slack = (f64::from(c) * mu).sqrt() - rate.sqrt();
    let body =
        service("server", &format!("cores = {c}, workers = {c}"), &[&format!("cpu {}", exp(1.0 / mu))])
            + &customers(&poisson(rate), &["call server.serve"]);
    let experiment = Experiment::steady(body, 1.0 / (slack * slack) + 1.0 / mu, rate, of_server(row)?);
    Ok(experiment.rate(rate).load("server", rate / (mu * f64::from(c))))
}

/// Several servers and no queue.
fn loss(row: &Reference) -> Answer {
    let (rate, c) = (row.number("lam")?, row.count("c")?);
    let (work, mean, cv2) = law(row.text("service")?, row.number("mean_service")?)?;
    let instance = format!("cores = {c}, workers = {c}, queue = 0");
    let body = service("server", &instance, &[&format!("cpu {work}")])
        + &customers(&poisson(rate), &["call server.serve"]);
    Ok(Experiment::steady(body, 2.0 * (1.0 + cv2) * mean, rate, of_server(row)?).rate(rate))
}

/// Room for K, those in service included.
fn bounded(row: &Reference) -> Answer {
    let (rate, mu, c, k) = (row.number("lam")?, row.number("mu")?, row.count("c")?, row.count("K")?);
    let places = k.checked_sub(c).ok_or_else(|| "K is less than c".to_owned())?;
    let instance = format!("cores = {c}, workers = {c}, queue = {places}");
    let body = service("server", &instance, &[&format!("cpu {}", exp(1.0 / mu))])
        + &customers(&poisson(rate), &["call server.serve"]);
    // Diffusion through all the places.
    let relaxation = f64::from(places).powi(2) / (rate + f64::from(c) * mu) + 2.0 / mu;
    Ok(Experiment::steady(body, relaxation, rate, of_server(row)?).rate(rate))
}

/// One core that everybody shares.
fn processor_sharing(row: &Reference) -> Answer {
    let rho = row.number("rho")?;
    let (work, mean, cv2) = law(row.text("service")?, 1.0)?;
    let body =
        service("server", "cores = 1, workers = \"unlimited\", cpu = \"shared\"", &[&format!("cpu {work}")])
            + &customers(&poisson(rho / mean), &["call server.serve"]);
    let experiment = Experiment::steady(body, relaxation(mean, rho, 1.0, cv2), rho / mean, of_server(row)?);
    Ok(experiment.rate(rho / mean).load("server", rho))
}

/// Two classes, and what has started is finished.
fn priorities(row: &Reference) -> Answer {
    let (hi, lo, mu) = (row.number("lam_hi")?, row.number("lam_lo")?, row.number("mu")?);
    let body = service(
        "server",
        "cores = 1, workers = 1, order = \"priority\"",
        &[&format!("cpu {}", exp(1.0 / mu))],
    ) + &source("hi", &poisson(hi), &["call server.serve"])
        + "priority = 1\n"
        + &source("lo", &poisson(lo), &["call server.serve"]);
    // Waits are counted per service; per class there is the sojourn, which exceeds the wait by a service with mean 1 / mu.
    let reading = match row.metric.as_str() {
        "mean_wait_hi" => affine("source.hi.latency_mean_ms", 1e-3, -1.0 / mu),
        "mean_wait_lo" => affine("source.lo.latency_mean_ms", 1e-3, -1.0 / mu),
        "mean_sojourn_hi" => metric_s("source.hi.latency_mean_ms"),
        "mean_sojourn_lo" => metric_s("source.lo.latency_mean_ms"),
        _ => return Err(row.unknown_metric()),
    };
    let load = (hi + lo) / mu;
    Ok(Experiment::steady(body, relaxation(1.0 / mu, load, 1.0, 1.0), hi, reading).load("server", load))
}

/// Customers who leave the queue after an exponential or a constant time.
fn impatient(row: &Reference) -> Answer {
    let (rate, mu) = (row.number("lam")?, row.number("mu")?);
    let c = if row.has("c") { row.count("c")? } else { 1 };
    let (patience, mean) = if row.has("theta") {
        (exp(1.0 / row.number("theta")?), 1.0 / row.number("theta")?)
    } else {
        (format!("{}s", row.number("patience")?), row.number("patience")?)
    };
    let instance = format!("cores = {c}, workers = {c}, queue-timeout = \"{patience}\"");
    let body = service("server", &instance, &[&format!("cpu {}", exp(1.0 / mu))])
        + &customers(&poisson(rate), &["call server.serve"]);
    Ok(Experiment::steady(body, 3.0 * (mean + 1.0 / mu), rate, of_server(row)?).rate(rate))
}

/// Markov-modulated Poisson arrivals.
fn modulated(row: &Reference) -> Answer {
    let (calm, flood, mu) = (row.number("lam_calm")?, row.number("lam_flood")?, row.number("mu")?);
    let (to_flood, to_calm) = (row.number("to_flood")?, row.number("to_calm")?);
    let arrivals = format!(
        "mmpp = {{ states = [{{ rate = \"{calm}/s\", lasts = \"{}s\" }}, {{ rate = \"{flood}/s\", lasts = \"{}s\" }}] }}",
        1.0 / to_flood,
        1.0 / to_calm
    );
    let body = service("server", "cores = 1, workers = 1", &[&format!("cpu {}", exp(1.0 / mu))])
        + &customers(&arrivals, &["call server.serve"]);
    let share = to_flood / (to_flood + to_calm);
    let rate = share * flood + (1.0 - share) * calm;
    // Index of dispersion of the arrivals over a long time.
    let dispersion =
        1.0 + 2.0 * (flood - calm).powi(2) * share * (1.0 - share) / ((to_flood + to_calm) * rate);
    let relaxation = relaxation(1.0 / mu, rate / mu, dispersion, 1.0) + 1.0 / (to_flood + to_calm);
    Ok(Experiment::steady(body, relaxation, rate, of_server(row)?).rate(rate).load("server", rate / mu))
}

/// From empty, without warm-up; the counted part is the last moment before `t`.
fn transient(row: &Reference) -> Answer {
    const MOMENT: f64 = 1e-6;
    let (rate, mu, t) = (row.number("lam")?, row.number("mu")?, row.number("t")?);
    if row.metric != "mean_number_at_t" {
        return Err(row.unknown_metric());
    }
    let body = service("server", "cores = 1, workers = 1", &[&format!("cpu {}", exp(1.0 / mu))])
        + &customers(&poisson(rate), &["call server.serve"]);
    let reading = metric("service.server.in_system_mean");
    Ok(Experiment::fixed(body, t - MOMENT, MOMENT, reading).windows(t))
}

/// Infinitely many servers under a sinusoidal rate: the mean number busy is a sinusoid too, smaller and later.
fn sinusoid(row: &Reference) -> Answer {
    const PERIODS: f64 = 100.0;
    const WINDOWS: f64 = 120.0;
    let (mean, amplitude) = (row.number("a")?, row.number("b")?);
    let (mu, period) = (row.number("mu")?, row.number("period")?);
    let arrivals =
        format!("poisson = {{ profile = \"sine({mean}/s, amplitude={amplitude}/s, period={period}s)\" }}");
    let body = service("server", "workers = \"unlimited\"", &[&format!("wait {}", exp(1.0 / mu))])
        + &customers(&arrivals, &["call server.serve"]);
    let wants_peak = match row.metric.as_str() {
        "peak_mean_busy" => true,
        "lag_of_peak" => false,
        _ => return Err(row.unknown_metric()),
    };
    let width = period / WINDOWS;
    let warm_up = (20.0 / mu / period).ceil() * period;
    let read = move |report: &RunReport| {
        let series = report.series.iter().find(|series| {
            series.scope == "service" && series.name == "server" && series.metric == "in_system"
        })?;
        // First harmonic of the means over windows; an average over a window flattens the wave by a known factor.
        let (mut level, mut sine, mut cosine, mut count) = (0.0, 0.0, 0.0, 0.0);
        for (&end, &busy) in report.t_s.iter().zip(&series.values) {
            if end > warm_up + 0.5 * width {
                let angle = std::f64::consts::TAU * (end - 0.5 * width) / period;
                level += busy;
                sine += busy * libm::sin(angle);
                cosine += busy * libm::cos(angle);
                count += 1.0;
            }
        }
        let half_angle = std::f64::consts::PI / WINDOWS;
        let flattening = libm::sin(half_angle) / half_angle;
        let swing = 2.0 * libm::hypot(sine, cosine) / (count * flattening);
        // The rate follows sin(angle); the number busy follows sin(angle - lag).
        let lag = libm::atan2(-cosine, sine) / std::f64::consts::TAU * period;
        (count > 0.0).then_some(if wants_peak { level / count + swing } else { lag })
    };
    let reading = Reading::Mean(Box::new(read));
    Ok(Experiment::fixed(body, warm_up, PERIODS * period, reading).windows(width))
}

/// A flood without randomness; customers so small that they are nearly a fluid.
fn drain(row: &Reference) -> Answer {
    /// Customers in a unit of fluid.
    const GRAINS: f64 = 100.0;
    const CALM: f64 = 10.0;
    const WINDOW: f64 = 0.1;
    let (base, spike) = (row.number("base")? * GRAINS, row.number("spike")? * GRAINS);
    let (capacity, lasts) = (row.number("capacity")? * GRAINS, row.number("spike_s")?);
    if row.metric != "drain_time_after_spike" {
        return Err(row.unknown_metric());
    }
    let over = CALM + lasts;
    let arrivals = format!(
        "deterministic = {{ profile = \"steps(0s: {base}/s, {CALM}s: {spike}/s, {over}s: {base}/s)\" }}"
    );
    let body = service("server", "cores = 1, workers = 1", &[&format!("cpu {}s", 1.0 / capacity)])
        + &customers(&arrivals, &["call server.serve"]);
    let read = move |report: &RunReport| {
        let series = report.series.iter().find(|series| series.metric == "queue_length")?;
        let mut after = report.t_s.iter().zip(&series.values).filter(|(end, _)| **end > over);
        let (empty, _) = after.find(|(_, queue)| **queue == 0.0)?;
        Some(empty - over - 0.5 * WINDOW)
    };
    let reading = Reading::Exact { read: Box::new(read), resolution: WINDOW };
    Ok(Experiment::fixed(body, 0.0, over + 3.0 * row.value, reading).windows(WINDOW))
}

// Networks.

/// Three nodes; A sends to B or C, B back to A or out.
fn jackson(row: &Reference) -> Answer {
    let rate = row.number("gamma")?;
    let mu = |node: &str| {
        let value = row.param("mu")?.get(node).and_then(Value::as_f64);
        value.ok_or_else(|| Decline::Broken(format!("the node {node} has no rate")))
    };
    if row.text("route")? != "A->B .7, A->C .3, B->A .2 else exit, C exit" {
        return Err(Decline::Skip("another route than the one known here".to_owned()));
    }
    let (a, b, c) = (mu("A")?, mu("B")?, mu("C")?);
    // Nothing is held while a request goes on: the one core of each node serves its `cpu` steps in order of arrival.
    let node = "mode = \"async\", cores = 1, cpu = \"fifo\"";
    let body = service("a", node, &[&format!("cpu {}", exp(1.0 / a)), "choose 70% b.serve, 30% c.serve"])
        + &service("b", node, &[&format!("cpu {}", exp(1.0 / b)), "call a.serve probability=20%"])
        + &service("c", node, &[&format!("cpu {}", exp(1.0 / c))])
        + &customers(&poisson(rate), &["call a.serve"]);
    let reading = match row.metric.as_str() {
        "mean_end_to_end" => metric_s("latency_mean_ms"),
        "rho_A" => metric("service.a.utilization"),
        "rho_B" => metric("service.b.utilization"),
        "rho_C" => metric("service.c.utilization"),
        _ => return Err(row.unknown_metric()),
    };
    let load = rate / (1.0 - 0.7 * 0.2);
    let slowest = [(a, load), (b, 0.7 * load), (c, 0.3 * load)]
        .map(|(mu, rate)| relaxation(1.0 / mu, rate / mu, 1.0, 1.0))
        .into_iter()
        .fold(0.0, f64::max);
    Ok(Experiment::steady(body, 2.0 * slowest, rate, reading))
}

/// Users who think, then visit each station.
fn closed_network(row: &Reference) -> Answer {
    let (users, think) = (row.count("clients")?, row.number("think_exp")?);
    let demands = row.param("demands")?.as_array().ok_or_else(|| "`demands` is not a list".to_owned())?;
    let (mut body, mut journey) = (String::new(), Vec::new());
    let mut total = 0.0;
    for (number, demand) in demands.iter().enumerate() {
        let demand = demand.as_f64().ok_or_else(|| "a demand is not a number".to_owned())?;
        total += demand;
        body += &service(&format!("s{number}"), "cores = 1, workers = 1", &[&format!("cpu {}", exp(demand))]);
        journey.push(format!("call s{number}.serve"));
    }
    let journey: Vec<&str> = journey.iter().map(String::as_str).collect();
    let arrivals = format!("users = {{ count = {users}, think = \"{}\" }}", exp(think));
    body += &customers(&arrivals, &journey);
    let reading = match row.metric.as_str() {
        "throughput" => metric("goodput_rps"),
        "mean_response" => metric_s("latency_mean_ms"),
        _ => return Err(row.unknown_metric()),
    };
    let rate = f64::from(users) / (think + total * f64::from(users));
    Ok(Experiment::steady(body, 3.0 * (think + total), rate, reading))
}

/// Each request is two tasks in two queues.
fn fork_join(row: &Reference) -> Answer {
    let (rate, mu) = (row.number("lam")?, row.number("mu")?);
    if row.metric != "mean_response" {
        return Err(row.unknown_metric());
    }
    let work = format!("cpu {}", exp(1.0 / mu));
    let body = service("a", "cores = 1, workers = 1", &[&work])
        + &service("b", "cores = 1, workers = 1", &[&work])
        + &customers(&poisson(rate), &["parallel a.serve b.serve"]);
    let relaxation = 2.0 * relaxation(1.0 / mu, rate / mu, 1.0, 1.0);
    let experiment = Experiment::steady(body, relaxation, rate, metric_s("latency_mean_ms"));
    Ok(experiment.load("a", rate / mu).load("b", rate / mu))
}

/// One dispatcher that sees every queue: join the shortest of two, or of two drawn.
fn balanced(row: &Reference) -> Answer {
    let (rate, mu, n) = (row.number("lam_total")?, row.number("mu")?, row.count("n")?);
    let balancer = match if row.has("d") { row.count("d")? } else { n } {
        all if all == n => "join-shortest-queue = {}",
        2 => "p2c = {}",
        d => return Err(Decline::Skip(format!("no balancer draws {d} different instances"))),
    };
    let body = service("server", "cores = 1, workers = 1", &[&format!("cpu {}", exp(1.0 / mu))]).replacen(
        "[[service.endpoint]]",
        &format!("replicas = {n}\n[[service.endpoint]]"),
        1,
    ) + &customers(&poisson(rate), &["call server.serve"])
        + &format!("[source.call.server]\nbalancer.{balancer}\n");
    let load = rate / (mu * f64::from(n));
    let experiment = Experiment::steady(body, relaxation(1.0 / mu, load, 1.0, 1.0), rate, of_server(row)?);
    Ok(experiment.rate(rate).load("server", load))
}

// Machines.

/// A node pool whose nodes fail and are repaired, and a source that is only there because every scenario has one.
fn failing_nodes(nodes: u32, up_s: f64, down_s: f64, crew: Option<u32>) -> String {
    let crew = crew.map_or_else(String::new, |crew| format!("crew = {crew}\n"));
    format!(
        "\n[[node-pool]]\nname = \"machines\"\nnodes = {nodes}\ncores = 1\nmemory = \"1GiB\"\n\n[[node-pool]]\nname = \"home\"\nnodes = 1\ncores = 1\nmemory = \"1GiB\"\n"
    ) + &service("server", "", &["wait 1s"]).replacen("instance", "pool = \"home\"\ninstance", 1)
        + &customers("deterministic = { rate = \"1/d\" }", &["call server.serve"])
        + &format!(
            "\n[[fault]]\nname = \"breakdown\"\nnode-loss = {{ pool = \"machines\", count = {nodes} }}\nmtbf = \"{}\"\nmttr = \"{}\"\n{crew}",
            exp(up_s),
            exp(down_s)
        )
}

/// Share of time with so many nodes of the pool up as `wanted` accepts.
fn time_share(wanted: impl Fn(usize) -> bool + Send + Sync + 'static) -> Reading {
    Reading::Mean(Box::new(move |report| {
        let times = report.nodes_up.first()?;
        let chosen: u128 = times.iter().enumerate().filter(|(up, _)| wanted(*up)).map(|(_, time)| time).sum();
        Some(chosen as f64 / times.iter().sum::<u128>() as f64)
    }))
}

/// Machines with few or many repairmen.
fn machines(row: &Reference) -> Answer {
    let (nodes, up, down, crew) = if row.has("machines") {
        let (fail, repair) = (row.number("fail_rate")?, row.number("repair_rate")?);
        (row.count("machines")?, 1.0 / fail, 1.0 / repair, Some(row.count("repairmen")?))
    } else if row.param("independent_repair")?.as_bool() == Some(true) {
        (row.count("n")?, row.number("mttf")?, row.number("mttr")?, None)
    } else {
        return Err(Decline::Skip("another repair than the ones known here".to_owned()));
    };
    let reading = match row.metric.as_str() {
        "mean_down" => affine("node-pool.machines.nodes_up_mean", -1.0, f64::from(nodes)),
        "prob_all_up" => time_share(move |up| up == nodes as usize),
        "unavailability" => {
            let needed = row.count("k")? as usize;
            time_share(move |up| up < needed)
        }
        _ => return Err(row.unknown_metric()),
    };
    let body = failing_nodes(nodes, up, down, crew);
    let failures_per_s = f64::from(nodes) / (up + down);
    Ok(Experiment::steady(body, 3.0 * (up + down), failures_per_s, reading))
}

/// Time from "all up" to the first moment when too few are up. Up times are exponential, so every moment when all are up
/// again is as good as the start.
fn time_to_failure(row: &Reference) -> Answer {
    const NODES: u32 = 3;
    let (up, down, crew) = (row.number("mttf")?, row.number("mttr")?, row.count("repairmen")?);
    if row.metric != "mttf_system" {
        return Err(row.unknown_metric());
    }
    let read = |report: &RunReport| {
        let (mut nodes_up, mut since) = (NODES, Some(0.0));
        let (mut waited, mut failures) = (0.0, 0.0);
        for entry in report.log.iter().filter(|entry| entry.kind == "node") {
            let now = entry.at.as_secs_f64();
            nodes_up = if entry.detail == "lost" { nodes_up - 1 } else { nodes_up + 1 };
            if nodes_up == NODES && since.is_none() {
                since = Some(now);
            } else if nodes_up < 2
                && let Some(start) = since.take()
            {
                waited += now - start;
                failures += 1.0;
            }
        }
        // What has not failed by the end has been waited for all the same.
        waited += since.map_or(0.0, |start| report.end.as_secs_f64() - start);
        Some((waited, failures))
    };
    let body = failing_nodes(NODES, up, down, Some(crew));
    // The log of a run is bounded; this is far below.
    Ok(Experiment::fixed(body, 0.0, 1e4 * up, Reading::Ratio(Box::new(read))))
}

/// The server fails only while it serves. Service and time to failure are exponential: whichever ends first ends a piece of
/// exponential length, and with probability fail / (mu + fail) it is a failure, after which the rest of the service is as
/// long as a new one.
fn breakdowns_while_serving(row: &Reference) -> Answer {
    let (rate, mu) = (row.number("lam")?, row.number("mu")?);
    let (fail, repair) = (row.number("fail")?, row.number("repair")?);
    let percent = 100.0 * fail / (mu + fail);
    let body = service("server", "cores = 1, workers = 1", &["call machine.serve"])
        + &service(
            "machine",
            "workers = \"unlimited\"",
            &[
                &format!("wait {}", exp(1.0 / (mu + fail))),
                &format!("call machine.repair probability={percent}%"),
            ],
        )
        + &endpoint("repair", &[&format!("wait {}", exp(1.0 / repair)), "call machine.serve"])
        + &customers(&poisson(rate), &["call server.serve"]);
    let load = rate / mu * (1.0 + fail / repair);
    let service_cv2 = 1.0 + 2.0 * fail * mu / (repair * repair);
    let relaxation = relaxation(1.0 / mu, load, 1.0, service_cv2);
    Ok(Experiment::steady(body, relaxation, rate, of_server(row)?).rate(rate))
}

/// The server fails whether it serves or not.
fn breakdowns(row: &Reference) -> Answer {
    let (rate, mu) = (row.number("lam")?, row.number("mu")?);
    let (fail, repair) = (row.number("fail")?, row.number("repair")?);
    let body = service("server", "cores = 1, workers = 1", &[&format!("cpu {}", exp(1.0 / mu))])
        + &customers(&poisson(rate), &["call server.serve"])
        + &format!(
            "\n[[fault]]\nname = \"breakdown\"\nhang = {{ service = \"server\", count = 1 }}\nmtbf = \"{}\"\nmttr = \"{}\"\n",
            exp(1.0 / fail),
            exp(1.0 / repair)
        );
    let load = rate / mu * (1.0 + fail / repair);
    let service_cv2 = 1.0 + 2.0 * fail * mu / (repair * repair);
    let relaxation = relaxation(1.0 / mu, load, 1.0, service_cv2) + 1.0 / fail;
    Ok(Experiment::steady(body, relaxation, rate, of_server(row)?).rate(rate).load("server", rate / mu))
}

/// The server switches off when it is empty; the next arrival waits for its setup.
///
/// Work slows down by `SLOW` for an attempt that is alone inside at the start of a step. So the first step, `SLOW` times
/// shorter than the setup, is the setup of whoever finds the system empty and next to nothing for all others, who queue for
/// the same core behind it.
fn setup(row: &Reference) -> Answer {
    const SLOW: f64 = 1e5;
    let (rate, mu) = (row.number("lam")?, row.number("mu")?);
    let (law, mean) = if row.has("setup_mean") {
        (exp(row.number("setup_mean")? / SLOW), row.number("setup_mean")?)
    } else {
        (format!("{}s", row.number("setup")? / SLOW), row.number("setup")?)
    };
    let instance =
        format!("mode = \"async\", cores = 1, cpu = \"fifo\", slow-down = {{ table = [{SLOW}, 1] }}");
    let body = service("server", &instance, &[&format!("cpu {law}"), "call worker.serve"])
        + &service("worker", "cores = 1, workers = 1", &[&format!("cpu {}", exp(1.0 / mu))])
        + &customers(&poisson(rate), &["call server.serve"]);
    let relaxation = relaxation(1.0 / mu, rate / mu, 1.0, 1.0) + 3.0 * mean / (1.0 - rate / mu);
    Ok(Experiment::steady(body, relaxation, rate, of_server(row)?).rate(rate).load("worker", rate / mu))
}

/// A prober that gives up on its target after so many failed probes: a source that calls at fixed times through a breaker.
/// The target dies; a new one comes after `DOWN`. Up times are uniform over one interval (and a constant), so the moment of
/// death is uniform within an interval whatever came before.
fn detection(row: &Reference) -> Answer {
    const DOWN: f64 = 50.0;
    const UP: f64 = 100.0;
    const DEATHS: f64 = 200.0;
    let (interval, threshold) = (row.number("interval")?, row.count("threshold")?);
    let reading = match row.metric.as_str() {
        "p99_detection" => 0.99,
        _ => return Err(row.unknown_metric()),
    };
    let body = service("target", &format!("start = \"{}s\"", DOWN * interval), &["wait 1ms"])
        + &format!(
            "\n[[source]]\nname = \"prober\"\nto = \"target.serve\"\narrivals.deterministic = {{ rate = \"{}/s\" }}\n\
         [source.call.target]\nbreaker.seed = {{ error-threshold = {threshold}, window = \"{}s\", open = \"{}s\" }}\n\
         \n[[fault]]\nname = \"death\"\ncrash = {{ service = \"target\", count = 1 }}\nmtbf = \"uniform({}s, {}s)\"\nmttr = \"{}s\"\n",
            1.0 / interval,
            interval * f64::from(threshold + 1),
            (DOWN + 10.0) * interval,
            UP * interval,
            (UP + 1.0) * interval,
            2.0 * DOWN * interval,
        );
    let values = |report: &RunReport| {
        let mut delays = Totals::new();
        let mut deaths = report.log.iter().filter(|entry| entry.kind == "instance" && entry.detail == "died");
        let opened = |after| report.decisions.iter().find(|at| at.reason == "open" && at.at >= after);
        for death in &mut deaths {
            // The last death may have come too late to be noticed.
            if let Some(decision) = opened(death.at) {
                delays.record((decision.at - death.at).0);
            }
        }
        Some(delays)
    };
    let reading = Reading::Quantile { q: reading, unit: SECOND, values: Box::new(values) };
    let cycle = (UP + 2.0 * DOWN + 1.0) * interval;
    Ok(Experiment::fixed(body, 0.0, DEATHS * cycle, reading))
}

// Calls.

/// Requests per second where they do not meet.
const CALLS: f64 = 10.0;

/// A service in which nobody waits for anybody.
fn uncrowded(name: &str, step: &str) -> String {
    service(name, "workers = \"unlimited\"", &[step])
}

/// One request becomes many.
fn fan_out(row: &Reference) -> Answer {
    let n = row.count("n")?;
    let body = |law: &str| {
        uncrowded("server", &format!("wait {law}"))
            + &customers(&poisson(CALLS), &[&format!("parallel server.serve times={n}")])
    };
    let length = 1e6 / (CALLS * f64::from(n));
    match row.metric.as_str() {
        "mean_max" => {
            let body = body(&exp(row.number("mean")?));
            Ok(Experiment::fixed(body, 0.0, length, metric_s("latency_mean_ms")))
        }
        "prob_any_slow" => {
            // Slow is one second and everything else takes no time at all.
            let slow = row.number("p_slow")?;
            let body = body(&format!("mix({}%: 0s, {}%: 1s)", 100.0 - 100.0 * slow, 100.0 * slow));
            let any = |report: &RunReport| latencies(report)?.share_above(0.5 * SECOND);
            let each = |report: &RunReport| sojourns(report)?.share_above(0.5 * SECOND);
            let experiment = Experiment::fixed(body, 0.0, length, Reading::Mean(Box::new(any)));
            Ok(experiment.control("the share of slow answers", Box::new(each), slow))
        }
        _ => Err(row.unknown_metric()),
    }
}

/// A second request is sent if the first has not been answered in time.
fn hedge(row: &Reference) -> Answer {
    let (law, delay, unit) = if row.has("delay_ms") {
        if row.text("service")? != "98% exp mean 5ms, 2% exp mean 500ms" {
            return Err(Decline::Skip("another law than the one known here".to_owned()));
        }
        ("mix(98%: exp(5ms), 2%: exp(500ms))".to_owned(), row.number("delay_ms")? / 1e3, 1e6)
    } else {
        (exp(row.number("mean")?), row.number("delay")?, SECOND)
    };
    let length = 10_000.0;
    if row.metric == "extra_requests_fraction" {
        // The copy is another attempt after the delay, and the first goes on.
        let body = uncrowded("leaf", &format!("wait 1s * exp({})", row.number("mean")?))
            + &customers(&poisson(CALLS), &["call leaf.serve"])
            + &format!(
                "[source.call.leaf]\ntimeout = \"{delay}s\"\nretry.fixed = {{ attempts = 2, delay = \"0s\", on = [\"timeout\"] }}\n"
            );
        let reading = affine("service.leaf.attempts_per_call", 1.0, -1.0);
        return Ok(Experiment::fixed(body, 0.0, length, reading));
    }
    let reading = match row.metric.as_str() {
        "mean_latency" => metric_s("latency_mean_ms"),
        "mean_hedged" => metric("latency_mean_ms"),
        "p999_hedged" => quantile(0.999, unit, latencies),
        "p99_hedged" => quantile(0.99, unit, latencies),
        _ => return Err(row.unknown_metric()),
    };
    // The earlier of an answer and of another one that starts after the delay; whether the copy was really needed makes no
    // difference to when the first answer comes.
    let body = uncrowded("leaf", &format!("wait {law}"))
        + &uncrowded("copy", &format!("wait {delay}s")).replace("s\"]", "s\", \"call leaf.serve\"]")
        + &customers(&poisson(CALLS), &["parallel any leaf.serve copy.serve"]);
    Ok(Experiment::fixed(body, 0.0, length, reading))
}

/// Several copies at once; the first answer counts.
fn duplicates(row: &Reference) -> Answer {
    let copies = row.count("copies")?;
    let q = match row.metric.as_str() {
        "p999_latency" => 0.999,
        "p99_latency" => 0.99,
        "p50_latency" => 0.5,
        _ => return Err(row.unknown_metric()),
    };
    // The exponential of a standard normal has mean e^(1/2) and squared coefficient of variation e - 1.
    let (mean, cv) = (libm::exp(0.5), (std::f64::consts::E - 1.0).sqrt());
    let body = uncrowded("leaf", &format!("wait lognormal({mean}s, cv={cv})"))
        + &customers(&poisson(CALLS), &[&format!("parallel any leaf.serve times={copies}")]);
    Ok(Experiment::fixed(body, 0.0, 10_000.0, quantile(q, SECOND, latencies)))
}

/// Attempts that fail independently of each other.
fn retries(row: &Reference) -> Answer {
    let (percent, more) = (100.0 * row.number("p_fail")?, row.count("retries")?);
    if row.metric != "attempts_per_call" {
        return Err(row.unknown_metric());
    }
    let body = uncrowded("leaf", "wait 1ms")
        + &format!("[[service.version]]\nname = \"v1\"\nerror-rate = \"{percent}%\"\n")
        + &customers(&poisson(CALLS), &["call leaf.serve"])
        + &format!("[source.call.leaf]\nretry.fixed = {{ attempts = {}, delay = \"0s\" }}\n", more + 1);
    Ok(Experiment::fixed(body, 0.0, 2000.0, metric("service.leaf.attempts_per_call")))
}

/// Tiers that all try again.
fn amplification(row: &Reference) -> Answer {
    let (percent, more, tiers) =
        (100.0 * row.number("p_fail")?, row.count("retries_each")?, row.count("tiers")?);
    if row.metric != "attempts_at_bottom" || percent < 100.0 {
        return Err(row.unknown_metric());
    }
    let mut body = String::new();
    for tier in 0..tiers {
        body += &uncrowded(&format!("t{tier}"), &format!("call t{}.serve", tier + 1));
        let (next, attempts) = (tier + 1, more + 1);
        let _ = writeln!(
            body,
            "[service.call.t{next}]\nretry.fixed = {{ attempts = {attempts}, delay = \"0s\" }}"
        );
    }
    body += &uncrowded(&format!("t{tiers}"), "wait 1ms");
    let _ = writeln!(body, "[[service.version]]\nname = \"v1\"\nerror-rate = \"{percent}%\"");
    // The source stops early enough for everything to be over before the end.
    body += &customers("deterministic = { rate = \"1/s\" }", &["call t0.serve"]);
    body += "requests = 100\n";
    let read = |report: &RunReport| report.metrics.get("amplification").copied();
    let reading = Reading::Exact { read: Box::new(read), resolution: 0.0 };
    Ok(Experiment::fixed(body, 0.0, 1000.0, reading))
}

/// A limiter alone.
fn token_bucket(row: &Reference) -> Answer {
    let (rate, fill, burst) = (row.number("lam")?, row.number("rate")?, row.count("burst")?);
    let body = uncrowded("server", "wait 1ms")
        + &format!(
            "[service.limiter]\nseed-token-bucket = {{ capacity = {burst}, fill-rate = \"{fill}/s\" }}\n"
        )
        + &customers(&poisson(rate), &["call server.serve"]);
    let relaxation = f64::from(burst).powi(2) / (rate + fill) + f64::from(burst) / fill;
    Ok(Experiment::steady(body, relaxation, rate, of_server(row)?).rate(rate))
}
