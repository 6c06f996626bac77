//! A recorded load and the manifests of a cluster as one scenario: what `simlab backtest` runs.
//!
//! It is an ordinary scenario, written as text, so charts, decisions, `simlab why` and everything else work on it, and it can be
//! kept and gone on with. What a recording does not say (how long a request takes, how fast an instance starts) is
//! assumed, and each assumption is listed.
//!
//! **CPU per request that changes over time** is two kinds of requests, a light one and a heavy one, whose shares follow the
//! recording: at every moment the load and its mean CPU per request are those that were measured.
//!
//! **Thinning.** With `thin = n` one simulated request stands for n: n times fewer come, and each takes n times as long, deadline
//! included. That is the same queue on a clock that runs n times slower: utilization, the number inside each instance and the
//! share of good answers stay what they were; latencies are n times too long, and so is the time in which a queue
//! builds up. It is right as long as n requests' work is short against the autoscaler's period, and wrong for metrics that
//! count requests, for which it is refused.

mod contender;
mod instance;
mod work;

use std::fmt::Write as _;
use std::path::Path;

pub use contender::{Contender, of_manifest, of_setting};

use super::recording::{Quantity, Recording};
use crate::time::Duration;
use crate::units::UnitError;
use contender::distinct;
use instance::Instance;
use work::Work;

/// Name of the strategy with a fixed number of replicas, and the baseline of all comparisons.
pub const FIXED: &str = "fixed-peak";

/// How busy the fixed fleet is at the peak of the load.
const FIXED_UTILIZATION: f64 = 0.8;

/// How busy the first instances are, unless their number is given.
const FIRST_UTILIZATION: f64 = 0.6;

/// More requests than these per replication are thinned.
const REQUESTS: f64 = 20e6;

/// The longest that a thinned request may work on average, as a share of the time between two looks of an autoscaler.
const LONGEST_WORK: f64 = 0.1;

/// What the recording does not say.
#[derive(Clone, Debug)]
pub struct Assumptions {
    /// The load times this.
    pub scale: f64,
    /// Law of the CPU time of one request, or a plain duration; `None` if a recording says it.
    pub cpu_per_request: Option<String>,
    /// Cores of an instance; `None` is what a manifest says, or one.
    pub cores: Option<u32>,
    /// CPU request in cores, which utilization is measured against; `None` is what a manifest says, or `cores`.
    pub cpu_request: Option<f64>,
    /// Memory in use: when idle, or `IDLE+EACH` with what each request inside adds.
    pub memory_use: Option<String>,
    /// Requests that an instance works on at one moment; `None` is what a manifest says, or 16 per core.
    pub workers: Option<u32>,
    /// Requests that may wait at an instance.
    pub max_queue: u32,
    /// Law of the time from the decision for a new instance until it is ready.
    pub start: String,
    /// When an answer comes too late.
    pub deadline: Duration,
    /// Instances at the start; `None` is what a manifest says, or what the first value needs.
    pub replicas: Option<u32>,
    /// Price of an instance, as in scenarios.
    pub price: Option<String>,
    /// Wanted availability, as in scenarios.
    pub objective: String,
    /// Simulated requests stand for so many; `None` decides by the length of the load.
    pub thin: Option<u32>,
    /// Runs per policy.
    pub replications: u64,
}

/// A scenario that was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its text.
    pub text: String,
    /// Its load: name of the file as the text calls it, content.
    pub data: (String, String),
    /// What was assumed, one sentence each.
    pub assumptions: Vec<String>,
    /// Name of the service.
    pub service: String,
    /// Cores that the load needs: (second, cores) of each piece of the load, on the clock of the scenario.
    pub demand: Vec<(f64, f64)>,
    /// Cores that an instance can use.
    pub cores: f64,
    /// Requests that one simulated request stands for.
    pub thin: u32,
    /// Wanted availability, 0..1.
    pub objective: f64,
}

/// The scenario.
pub fn write(
    load: &Recording,
    cpu: Option<&Recording>,
    service: &str,
    mut contenders: Vec<Contender>,
    given: &Assumptions,
) -> Result<Written, UnitError> {
    let service = named(service);
    let mut assumptions: Vec<String> =
        contenders.iter().flat_map(|contender| contender.notes.clone()).collect();
    assumptions.dedup();
    distinct(&mut contenders);
    let (moments, mut rates) = load_of(load)?;
    let work = Work::of(load, cpu, &moments, given, &mut assumptions)?;
    if given.scale != 1.0 {
        for rate in &mut rates {
            *rate *= given.scale;
        }
        assumptions.push(format!("the load times {} [--scale]", given.scale));
    }
    let demand: Vec<(f64, f64)> =
        (0..moments.len()).map(|at| (moments[at], rates[at] * work.per_request(at))).collect();
    let length = moments[moments.len() - 1] + load.step;
    let peak = demand.iter().map(|(_, cores)| *cores).fold(0.0, f64::max);
    if peak <= 0.0 {
        return Err(UnitError::new(format!("`{}` is never above zero", load.path)));
    }
    let requests: f64 = (0..moments.len())
        .map(|at| rates[at] * (moments.get(at + 1).copied().unwrap_or(length) - moments[at]))
        .sum();
    let thin = thin(requests, &work, &contenders, given, &mut assumptions)?;
    let instance = Instance::of(&contenders, given, &mut assumptions)?;
    let replicas_for =
        |cores: f64, utilization: f64| (cores / (instance.cores * utilization)).ceil().max(1.0) as u32;
    let first = instance.replicas.unwrap_or_else(|| replicas_for(demand[0].1, FIRST_UTILIZATION));
    let most = replicas_for(peak, FIXED_UTILIZATION);

    let mut text = String::new();
    let name = named(Path::new(&load.path).file_stem().and_then(|stem| stem.to_str()).unwrap_or("load"));
    let data = format!("{name}-load.csv");
    let _ = write!(
        text,
        "# Written by `simlab backtest`: a recorded load, replayed against several policies. Everything below that no\n\
         # recording says is an assumption; change it to what you know.\n\n\
         [scenario]\nname = \"backtest-{name}\"\ntitle = {}\n",
        quoted(&format!("{service} under the load of {}", load.path))
    );
    if thin > 1 {
        let _ =
            writeln!(text, "note = \"each request stands for {thin}: latencies are {thin} times too long\"");
    }
    let warm_up = (length / 10.0).min(600.0).floor();
    let _ = write!(
        text,
        "duration = \"{}s\"\nwarm-up = \"{}s\"\nreplications = {}\nresolution = \"{}s\"\nbaseline = \"{FIXED}\"\n\n\
         [objective]\navailability = {}\n",
        plain(length),
        plain(warm_up),
        given.replications,
        resolution(length),
        quoted(&given.objective),
    );
    let simulated = requests / f64::from(thin);
    if simulated > 4e8 {
        let _ =
            write!(text, "\n[limits]\nrequests = {}\nevents = 60_000_000_000\n", (simulated * 2.0) as u64);
    }
    let _ = writeln!(text, "\n[[service]]\nname = {}\nreplicas = {first}", quoted(&service));
    if let Some(price) = &given.price {
        let _ = writeln!(text, "price = {}", quoted(price));
    }
    text.push_str(&instance.text);
    let times = if thin > 1 { format!(" x {thin}") } else { String::new() };
    let deadline = Duration(given.deadline.0.saturating_mul(thin.into()));
    for (kind, law) in work.kinds() {
        let _ = write!(
            text,
            "[[service.endpoint]]\nname = \"{kind}\"\nsteps = [{}]\n",
            quoted(&format!("cpu {law}{times}"))
        );
    }
    for (kind, _) in work.kinds() {
        let _ = write!(
            text,
            "\n[[source]]\nname = \"load{}\"\nto = {}\ndeadline = \"{}s\"\narrivals.poisson = {{ profile = \"file({data}:{kind})\" }}\n",
            if kind == "request" { String::new() } else { format!("-{kind}") },
            quoted(&format!("{service}.{kind}")),
            plain(deadline.as_secs_f64())
        );
    }
    let _ = write!(
        text,
        "\n[[strategy]]\nname = \"{FIXED}\"\ntitle = \"{most} instances, {:.0} % busy at the peak\"\n[strategy.service.{}]\nreplicas = {most}\n",
        FIXED_UTILIZATION * 100.0,
        quoted(&service)
    );
    for contender in &contenders {
        let _ = write!(text, "\n[[strategy]]\nname = {}\n", quoted(&contender.name));
        if !contender.title.is_empty() {
            let _ = writeln!(text, "title = {}", quoted(&contender.title));
        }
        let _ = writeln!(text, "[strategy.service.{}]", quoted(&service));
        if let Some((fewest, most)) = contender.bounds
            && !(fewest..=most).contains(&first)
        {
            let _ = writeln!(text, "replicas = {}", first.clamp(fewest, most));
        }
        let _ = writeln!(text, "{}", contender.setting);
    }

    let mut csv = work.header();
    for at in 0..moments.len() {
        work.row(&mut csv, at, moments[at], rates[at] / f64::from(thin));
    }
    assumptions.push(format!("a new instance is ready after {} [--start]", given.start));
    assumptions.push(format!("an answer is good within {} [--deadline]", given.deadline));
    if instance.replicas.is_none() {
        assumptions.push(format!(
            "{first} at the start, {:.0} % busy, within the bounds of each policy [--replicas]",
            FIRST_UTILIZATION * 100.0
        ));
    }
    assumptions.push(
        "requests arrive at random (Poisson) around the recorded rate; a value holds until the next"
            .to_owned(),
    );
    let objective = crate::units::parse_share(&given.objective)?;
    Ok(Written {
        text,
        data: (data, csv),
        assumptions,
        service,
        demand,
        cores: instance.cores,
        thin,
        objective,
    })
}

/// Moments and rates between the first and the last value.
fn load_of(load: &Recording) -> Result<(Vec<f64>, Vec<f64>), UnitError> {
    let missing = || {
        UnitError::new(format!("`{}` does not say how many requests came", load.path))
            .hint("a column `requests_per_second`, `requests_per_minute` or `count` is needed")
    };
    let rates = load.column(Quantity::Rate).ok_or_else(missing)?;
    let known = |value: &f64| !value.is_nan();
    let (Some(first), Some(last)) = (rates.iter().position(known), rates.iter().rposition(known)) else {
        return Err(missing());
    };
    let moments = load.t_s[first..=last].iter().map(|t| t - load.t_s[first]).collect();
    Ok((moments, rates[first..=last].to_vec()))
}

/// How many requests one stands for.
fn thin(
    requests: f64,
    work: &Work,
    contenders: &[Contender],
    given: &Assumptions,
    assumptions: &mut Vec<String>,
) -> Result<u32, UnitError> {
    let counting = contenders.iter().find(|contender| contender.counts_requests);
    if let Some(thin) = given.thin {
        return match counting {
            Some(contender) if thin > 1 => Err(UnitError::new(format!(
                "`{}` counts requests, and thinning would make them {thin} times fewer",
                contender.name
            ))
            .hint("leave --thin out")),
            _ => Ok(thin),
        };
    }
    let wanted = (requests / REQUESTS).ceil().max(1.0);
    let period = contenders.iter().map(|contender| contender.period).fold(15.0, f64::min);
    let most = (LONGEST_WORK * period / work.largest()).floor().max(1.0);
    let thin = if counting.is_some() { 1 } else { wanted.min(most) as u32 };
    if thin > 1 {
        assumptions.push(format!(
            "each simulated request stands for {thin} of the {:.0} million: latencies are {thin} times too long, shares and replicas are not [--thin 1]",
            requests / 1e6
        ));
    }
    Ok(thin)
}

/// Width of a timeline window in seconds: a round one, with no more than 2,880 of them.
fn resolution(length: f64) -> u64 {
    const WIDTHS: &[u64] = &[15, 30, 60, 120, 300, 600, 900, 1800, 3600];
    WIDTHS
        .iter()
        .copied()
        .find(|width| length / *width as f64 <= 2880.0)
        .unwrap_or_else(|| (length / 2880.0).ceil() as u64)
}

/// A name as scenarios have them.
fn named(text: &str) -> String {
    let name: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '-' }).collect();
    if name.is_empty() { "service".to_owned() } else { name }
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Six decimals at most, no trailing zeros.
fn plain(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
