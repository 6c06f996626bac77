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

use std::fmt::Write as _;
use std::path::{Component, Path};

use super::error::{Diagnostic, ScenarioError, shortened};
use super::manifest::{self, Hpa, ManifestError, Object, Source};
use super::recording::{Quantity, Recording};
use crate::random::law::{Dimension, Law, no_files};
use crate::time::Duration;
use crate::units::UnitError;

/// Name of the strategy with a fixed number of replicas, and the baseline of all comparisons.
pub const FIXED: &str = "fixed-peak";

/// How busy the fixed fleet is at the peak of the load.
const FIXED_UTILIZATION: f64 = 0.8;

/// How busy the first instances are, unless their number is given.
const FIRST_UTILIZATION: f64 = 0.6;

/// More requests than these per replication are thinned.
const REQUESTS: f64 = 20e6;

/// The longest that a thinned request may work on average: a tenth of the period of an HPA.
const LONGEST_WORK: f64 = 1.5;

/// What the recording does not say.
#[derive(Clone, Debug)]
pub struct Assumptions {
    /// The load times this.
    pub scale: f64,
    /// Law of the CPU time of one request, or a plain duration; `None` if a recording says it.
    pub cpu_per_request: Option<String>,
    /// Cores of an instance.
    pub cores: u32,
    /// CPU request in cores, which utilization is measured against; `None` is `cores`.
    pub cpu_request: Option<f64>,
    /// Requests that an instance works on at one moment; `None` is 16 per core.
    pub workers: Option<u32>,
    /// Requests that may wait at an instance.
    pub max_queue: u32,
    /// Law of the time from the decision for a new instance until it is ready.
    pub start: String,
    /// When an answer comes too late.
    pub deadline: Duration,
    /// Instances at the start.
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

/// One policy that takes part.
#[derive(Clone, Debug)]
pub struct Contender {
    name: String,
    title: String,
    /// Its line under `[strategy.service.NAME]`.
    setting: String,
    /// Bounds of replicas, if it has some.
    bounds: Option<(u32, u32)>,
    /// Whether it follows figures that thinning would change.
    counts_requests: bool,
    notes: Vec<String>,
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
    /// Cores of an instance.
    pub cores: u32,
    /// Requests that one simulated request stands for.
    pub thin: u32,
    /// Wanted availability, 0..1.
    pub objective: f64,
}

/// The policy that a manifest holds for one target, and the name of that target. `service` chooses among several; the
/// scenario will stand in `folder`.
pub fn of_manifest(
    path: &str,
    folder: &Path,
    service: Option<&str>,
    metrics: &[(String, String)],
) -> Result<(String, Contender), ManifestError> {
    let documents = if Path::new(path).is_dir() {
        manifest::read_folder(Path::new(path))?
    } else {
        manifest::read(Path::new(path))?
    };
    let wrong = |error: Diagnostic| Err(ScenarioError::new(vec![error], Vec::new()));
    let scalers: Vec<(&manifest::Document, &str)> = documents
        .iter()
        .filter_map(|document| Some((document, target(&document.object)?)))
        .filter(|(_, target)| service.is_none_or(|service| service == *target))
        .collect();
    let stem = Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or("manifest");
    let (document, target) = match scalers[..] {
        [one] => one,
        [] => {
            let what = service.map_or_else(String::new, |service| format!(" for `{}`", shortened(service)));
            return wrong(
                Diagnostic::new(format!("`{path}` holds no autoscaler{what}"))
                    .hint("a HorizontalPodAutoscaler is expected"),
            );
        }
        _ => {
            let targets: Vec<String> =
                scalers.iter().map(|(_, target)| format!("`{}`", shortened(target))).collect();
            return wrong(
                Diagnostic::new(format!("`{path}` scales several things: {}", targets.join(", ")))
                    .hint(format!("say which one, as in --service {}", shortened(scalers[0].1))),
            );
        }
    };
    let mut contender = match &document.object {
        Object::Autoscaler(hpa) => {
            horizontal(&seen_from(folder, &document.file), document, hpa, target, metrics)
        }
        _ => {
            return wrong(
                Diagnostic::new(format!(
                    "{}:{}: the autoscaler of `{}` cannot take part yet",
                    document.file,
                    document.line,
                    shortened(target)
                ))
                .hint("HorizontalPodAutoscaler can"),
            );
        }
    };
    contender.name = named(stem);
    Ok((named(target), contender))
}

/// What an object scales.
fn target(object: &Object) -> Option<&str> {
    match object {
        Object::Autoscaler(hpa) => Some(&hpa.target.name),
        Object::ScaledObject(scaled) => Some(&scaled.target.name),
        _ => None,
    }
}

/// An HPA, with a guess for every metric that has another name here.
fn horizontal(
    path: &str,
    document: &manifest::Document,
    hpa: &Hpa,
    target: &str,
    metrics: &[(String, String)],
) -> Contender {
    let (mut names, mut notes, mut counts_requests) = (Vec::new(), Vec::new(), false);
    for metric in &hpa.metrics {
        let (name, guess) = match &metric.source {
            Source::Resource { .. } | Source::ContainerResource { .. } => continue,
            Source::Pods(series) => (&series.name, "concurrency".to_owned()),
            Source::Object { series, .. } | Source::External(series) => {
                (&series.name, format!("service.{}.requests-per-second", named(target)))
            }
        };
        let given = metrics.iter().find(|(there, _)| there == name).map(|(_, here)| here.clone());
        if given.is_none() {
            notes.push(format!("metric `{}` is taken to be {guess} [--metric {0}=..]", shortened(name)));
        }
        let here = given.unwrap_or(guess);
        counts_requests |= here.ends_with("per-second");
        names.push(format!("{} = {}", quoted(name), quoted(&here)));
    }
    names.sort();
    names.dedup();
    notes.sort();
    notes.dedup();
    let names =
        if names.is_empty() { String::new() } else { format!(", metric-names = {{ {} }}", names.join(", ")) };
    Contender {
        name: String::new(),
        title: format!("HPA {} of {}", document.metadata.name, document.file),
        setting: format!(
            "autoscaler.hpa = {{ manifest = {}, name = {}{names} }}",
            quoted(path),
            quoted(&document.metadata.name)
        ),
        bounds: Some((hpa.min_replicas.max(1), hpa.max_replicas)),
        counts_requests,
        notes,
    }
}

/// `NAME = { .. }`, an autoscaler as a scenario would have it.
pub fn of_setting(text: &str) -> Contender {
    let name = text.split(['=', '.', ' ']).next().unwrap_or_default();
    Contender {
        name: named(name),
        title: String::new(),
        setting: format!("autoscaler.{}", text.trim()),
        bounds: None,
        counts_requests: true,
        notes: Vec::new(),
    }
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
        rates.iter_mut().for_each(|rate| *rate *= given.scale);
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
    let replicas_for = |cores: f64, utilization: f64| {
        (cores / (f64::from(given.cores) * utilization)).ceil().max(1.0) as u32
    };
    let first = given.replicas.unwrap_or_else(|| replicas_for(demand[0].1, FIRST_UTILIZATION));
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
    let workers = given.workers.unwrap_or(16 * given.cores);
    let request = given.cpu_request.map_or_else(String::new, |cores| format!("cpu-request = {cores:?}, "));
    let _ = writeln!(
        text,
        "instance = {{ cores = {}, {request}workers = {workers}, queue = {}, full = \"reject\", start = {} }}",
        given.cores,
        given.max_queue,
        quoted(&given.start)
    );
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
    assumptions.push(format!(
        "instances with {}, {workers} workers and {} waiting places [--cores, --workers, --max-queue]",
        if given.cores == 1 { "1 core".to_owned() } else { format!("{} cores", given.cores) },
        given.max_queue
    ));
    assumptions.push(format!("a new instance is ready after {} [--start]", given.start));
    assumptions.push(format!("an answer is good within {} [--deadline]", given.deadline));
    if given.replicas.is_none() {
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
    Ok(Written { text, data: (data, csv), assumptions, service, demand, cores: given.cores, thin, objective })
}

/// `path`, which starts from the working directory, as a file in `folder` calls it.
fn seen_from(folder: &Path, path: &str) -> String {
    let plain = folder.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let up = folder.components().filter(|part| matches!(part, Component::Normal(_))).count();
    if Path::new(path).is_absolute() || plain && up == 0 {
        return path.to_owned();
    }
    if plain {
        return format!("{}{path}", "../".repeat(up));
    }
    Path::new(path)
        .canonicalize()
        .map_or_else(|_| path.to_owned(), |path| path.to_string_lossy().into_owned())
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

/// What a request costs.
enum Work {
    /// The same law all the time; mean in seconds.
    Same { law: String, mean: f64 },
    /// Two kinds, and the mean at each moment of the load.
    Changing { light: f64, heavy: f64, means: Vec<f64> },
}

impl Work {
    fn of(
        load: &Recording,
        cpu: Option<&Recording>,
        moments: &[f64],
        given: &Assumptions,
        assumptions: &mut Vec<String>,
    ) -> Result<Self, UnitError> {
        if let Some(means) = measured(load, cpu, moments)? {
            let (light, heavy) = means
                .iter()
                .fold((f64::INFINITY, 0.0_f64), |(low, high), mean| (low.min(*mean), high.max(*mean)));
            assumptions.push(
                "requests scatter around the measured CPU per request like lognormal(.., cv=1)".to_owned(),
            );
            if heavy <= 1.05 * light {
                return Ok(Self::Same { law: lognormal(means[0]), mean: means[0] });
            }
            return Ok(Self::Changing { light, heavy, means });
        }
        let Some(written) = &given.cpu_per_request else {
            return Err(UnitError::new("nothing says how much CPU a request takes").hint(
                "add --cpu-per-request 60ms (cores in use / requests per second), or a recording of the cores in use with --cpu",
            ));
        };
        let law = Law::parse(written, Dimension::Time, &mut no_files)?;
        let mean = law.mean() / 1e9;
        if !(mean.is_finite() && mean > 0.0) {
            return Err(UnitError::new(format!(
                "the mean of `{}` must be finite and above zero",
                shortened(written)
            )));
        }
        if law.constant().is_some() {
            assumptions.push(format!(
                "a request takes {written} of a core on average, lognormal with cv 1 [--cpu-per-request]"
            ));
            return Ok(Self::Same { law: lognormal(mean), mean });
        }
        assumptions.push(format!("a request takes {written} of a core"));
        Ok(Self::Same { law: written.clone(), mean })
    }

    fn per_request(&self, at: usize) -> f64 {
        match self {
            Self::Same { mean, .. } => *mean,
            Self::Changing { means, .. } => means[at],
        }
    }

    fn largest(&self) -> f64 {
        match self {
            Self::Same { mean, .. } => *mean,
            Self::Changing { heavy, .. } => *heavy,
        }
    }

    /// Endpoints and their laws.
    fn kinds(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Same { law, .. } => vec![("request", law.clone())],
            Self::Changing { light, heavy, .. } => {
                vec![("light", lognormal(*light)), ("heavy", lognormal(*heavy))]
            }
        }
    }

    fn header(&self) -> String {
        let kinds: Vec<&str> = self.kinds().into_iter().map(|(kind, _)| kind).collect();
        format!("# requests per second\nt_s,{}\n", kinds.join(","))
    }

    fn row(&self, csv: &mut String, at: usize, t: f64, rate: f64) {
        let _ = match self {
            Self::Same { .. } => writeln!(csv, "{},{}", plain(t), plain(rate)),
            Self::Changing { light, heavy, means } => {
                let share = (means[at] - light) / (heavy - light);
                writeln!(csv, "{},{},{}", plain(t), plain(rate * (1.0 - share)), plain(rate * share))
            }
        };
    }
}

/// CPU seconds per request at each moment of the load, if something measures them. Where nobody came, the next known value
/// stands in, as it does before the first and after the last.
fn measured(
    load: &Recording,
    cpu: Option<&Recording>,
    moments: &[f64],
) -> Result<Option<Vec<f64>>, UnitError> {
    let rates = load.column(Quantity::Rate).unwrap_or_default();
    let per_request = |column: Vec<f64>, total: bool| -> Vec<f64> {
        column
            .iter()
            .zip(rates)
            .map(|(cpu, rate)| match total {
                true if *rate > 0.0 => cpu / rate,
                true => f64::NAN,
                false => *cpu,
            })
            .collect()
    };
    let found = match cpu {
        None => match (load.column(Quantity::CpuPerRequest), load.column(Quantity::CpuCores)) {
            (Some(column), _) => per_request(column.to_vec(), false),
            (None, Some(column)) => per_request(column.to_vec(), true),
            (None, None) => return Ok(None),
        },
        Some(cpu) => {
            match (load.aligned(cpu, Quantity::CpuPerRequest), load.aligned(cpu, Quantity::CpuCores)) {
                (Some(column), _) => per_request(column, false),
                (None, Some(column)) => per_request(column, true),
                (None, None) => {
                    return Err(UnitError::new(format!("`{}` does not say how much CPU was used", cpu.path))
                    .hint("a column `cpu_cores` (in use, over all instances) or `cpu_per_request` (seconds) is needed"));
                }
            }
        }
    };
    let skipped = rates.iter().position(|rate| !rate.is_nan()).unwrap_or(0);
    let mut found: Vec<f64> = found.into_iter().skip(skipped).take(moments.len()).collect();
    if found.iter().all(|value| value.is_nan() || *value <= 0.0) {
        return Err(UnitError::new("the recordings of load and CPU have no moment in common")
            .hint("both must cover the same time, on the same clock"));
    }
    for at in (0..found.len() - 1).rev() {
        if found[at].is_nan() || found[at] <= 0.0 {
            found[at] = found[at + 1];
        }
    }
    for at in 0..found.len() {
        if (found[at].is_nan() || found[at] <= 0.0) && at > 0 {
            found[at] = found[at - 1];
        }
    }
    Ok(Some(found))
}

fn lognormal(mean: f64) -> String {
    format!("lognormal({}ms, cv=1)", plain(mean * 1e3))
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
    let most = (LONGEST_WORK / work.largest()).floor().max(1.0);
    let thin = if counting.is_some() { 1 } else { wanted.min(most) as u32 };
    if thin > 1 {
        assumptions.push(format!(
            "each simulated request stands for {thin} of the {:.0} million: latencies are {thin} times too long, shares and replicas are not [--thin 1]",
            requests / 1e6
        ));
    }
    Ok(thin)
}

/// Two contenders of the same name get numbers.
fn distinct(contenders: &mut [Contender]) {
    for at in 0..contenders.len() {
        let base = contenders[at].name.clone();
        let taken = |name: &str| name == FIXED || contenders[..at].iter().any(|other| other.name == name);
        let free = (2..).map(|number| format!("{base}-{number}")).find(|name| !taken(name));
        if taken(&base) {
            contenders[at].name = free.unwrap_or(base);
        }
    }
}

/// Width of a timeline window in seconds: a round one, with no more than 2,880 of them.
fn resolution(length: f64) -> u64 {
    const WIDTHS: &[u64] = &[15, 30, 60, 120, 300, 600, 900, 1800, 3600];
    WIDTHS
        .iter()
        .copied()
        .find(|width| length / *width as f64 <= 2880.0)
        .unwrap_or((length / 2880.0).ceil() as u64)
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
