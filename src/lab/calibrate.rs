//! Nobody knows their service laws: a first guess of them from what production measures.
//!
//! **Work.** The utilization law (Denning and Buzen 1978): cores in use = idle + rate × CPU per request, a straight line by
//! least squares. Without CPU figures the work is what makes the latencies bend most plausibly under load.
//!
//! **Capacity.** Every instance is taken for a processor-sharing queue with c cores that gets its share of a Poisson stream,
//! so its mean time is wait + work × (1 + C(c, a) / (c (1 - utilization))) whatever the law of service (insensitivity). A
//! latency column is its level when idle (median of the quietest moments) times that stretch to some power: 1 for a mean, a fitted
//! one for a quantile, because a median grows more slowly than the mean and no formula for it is simple. c is the one
//! among 1..32 (or the one that is given) with the least sum of squared logarithms of the errors.
//!
//! **Shape.** Idle levels are quantiles of the service itself. Exponential, lognormal and gamma laws with the mean work,
//! with and without a constant wait, are compared with them (or with the bounds of a histogram). The simplest that is within 5 % is
//! taken, else the one with the least root mean square of the logarithms.
//!
//! **Arrivals.** Index of dispersion of the counts per row (Cox and Lewis 1966), on second differences so that a trend does
//! not count as burstiness: 1 for Poisson.
//!
//! **Held out.** All of this looks at the first three quarters of the time. The last quarter is predicted and compared.

use crate::scenario::recording::{Quantity, Recording};
use crate::stats::fit::{Line, Shape, line, minimum, stretch};

/// Share of the time that is looked at.
const TRAINING: f64 = 0.75;

/// Fewer moments than this say nothing.
const FEWEST: usize = 24;

/// A law that is this near to all quantiles is good enough.
const NEAR_ENOUGH: f64 = 0.05;

/// A moment with less stretch than this is quiet.
const QUIET: f64 = 1.1;

/// Fewer quiet moments than this are filled up with the next ones.
const FEWEST_QUIET: usize = 12;

/// What was measured, on the moments of the load.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Requests per second.
    pub rate: Vec<f64>,
    /// Seconds from one moment to the next.
    pub step: f64,
    /// Cores in use.
    pub cpu: Option<Vec<f64>>,
    /// Instances; constant if nothing else is known.
    pub replicas: Vec<f64>,
    /// Latencies in seconds.
    pub latency: Vec<(Quantity, Vec<f64>)>,
    /// Bounds of a latency histogram in seconds and the share below each.
    pub buckets: Vec<(f64, f64)>,
    /// Cores of an instance, if known.
    pub cores: Option<u32>,
}

/// What follows.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// Core seconds per request.
    pub work: f64,
    /// The line of the utilization law, if CPU was measured; its intercept is what an idle service uses.
    pub utilization_law: Option<Line>,
    /// Time that is no CPU, in seconds.
    pub wait: f64,
    /// Cores of an instance.
    pub cores: u32,
    /// Highest utilization that was seen.
    pub busiest: f64,
    /// Shape of the work, and its coefficient of variation.
    pub shape: Shape,
    /// See `shape`.
    pub cv: f64,
    /// Every shape with its best coefficient of variation, wait in seconds and error (root mean square of logarithms).
    pub shapes: Vec<(Shape, f64, f64, f64)>,
    /// Largest distance between the histogram and the law, if there is a histogram.
    pub distance: Option<f64>,
    /// Index of dispersion with its 95 % interval, if the rows can tell.
    pub dispersion: Option<(f64, f64, f64)>,
    /// (what, median relative error on the training part, on the held-out part).
    pub errors: Vec<(String, f64, f64)>,
    /// What cannot be known from this, and other doubts.
    pub warnings: Vec<String>,
}

/// Why nothing follows, and what helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TooLittle(pub String);

impl Measured {
    /// From recordings on the moments of `load`; other columns may stand in the same file.
    pub fn of(
        load: &Recording,
        cpu: Option<&Recording>,
        latency: Option<&Recording>,
        replicas: u32,
    ) -> Result<Self, TooLittle> {
        let find = |what: Quantity| -> Option<Vec<f64>> {
            [Some(load), cpu, latency].into_iter().flatten().find_map(|other| load.aligned(other, what))
        };
        let rate = load
            .column(Quantity::Rate)
            .ok_or_else(|| TooLittle(format!("`{}` does not say how many requests came", load.path)))?
            .to_vec();
        let per_request = find(Quantity::CpuPerRequest)
            .map(|column| column.iter().zip(&rate).map(|(cpu, rate)| cpu * rate).collect());
        let source = latency.unwrap_or(load);
        let latency = source
            .columns
            .iter()
            .filter(|(what, _)| matches!(what, Quantity::MeanLatency | Quantity::Latency(_)))
            .filter_map(|(what, _)| Some((*what, load.aligned(source, *what)?)))
            .collect();
        Ok(Self {
            step: load.step,
            cpu: find(Quantity::CpuCores).or(per_request),
            replicas: find(Quantity::Replicas).unwrap_or_else(|| vec![f64::from(replicas); rate.len()]),
            latency,
            buckets: Vec::new(),
            cores: None,
            rate,
        })
    }

    /// Rows with everything, in order.
    fn complete(&self) -> Vec<usize> {
        (0..self.rate.len())
            .filter(|&at| {
                self.rate[at] > 0.0
                    && self.replicas[at] > 0.0
                    && self.cpu.as_ref().is_none_or(|cpu| cpu[at].is_finite())
                    && self.latency.iter().all(|(_, values)| values[at] > 0.0)
            })
            .collect()
    }

    fn utilization(&self, at: usize, work: f64, cores: u32) -> f64 {
        self.rate[at] * work / (self.replicas[at] * f64::from(cores))
    }
}

/// Every latency column as wait + level × stretch^power.
struct Fit {
    work: f64,
    wait: f64,
    cores: u32,
    /// Per column: level of an idle service without the wait, and power.
    columns: Vec<(f64, f64)>,
    /// Mean squared logarithm of found over predicted, over all columns.
    error: f64,
}

impl Fit {
    fn predicted(&self, column: usize, stretch: f64) -> f64 {
        let (level, power) = self.columns[column];
        self.wait + level * libm::pow(stretch, power)
    }
}

/// Fits everything.
pub fn calibrate(measured: &Measured) -> Result<Calibration, TooLittle> {
    let rows = measured.complete();
    if rows.len() < FEWEST {
        return Err(TooLittle(format!(
            "load, latency and CPU have {} moments in common, and {FEWEST} are needed",
            rows.len()
        )));
    }
    let split = (rows.len() as f64 * TRAINING) as usize;
    let (training, held_out) = rows.split_at(split);
    let mut warnings = Vec::new();
    let law = measured.cpu.as_ref().and_then(|cpu| {
        let x: Vec<f64> = training.iter().map(|&at| measured.rate[at]).collect();
        let y: Vec<f64> = training.iter().map(|&at| cpu[at]).collect();
        line(&x, &y).filter(|line| line.slope > 0.0)
    });
    if law.is_none() && measured.cpu.is_some() {
        warnings.push(
            "the cores in use do not grow with the load, so they do not say what a request costs".to_owned(),
        );
    }
    let fit = match law {
        Some(law) => with_work(measured, training, law.slope),
        None if measured.latency.is_empty() => {
            return Err(TooLittle(
                "CPU or latency over time is needed to know what a request costs".to_owned(),
            ));
        }
        None => without_work(measured, training),
    };
    let busiest = rows.iter().map(|&at| measured.utilization(at, fit.work, fit.cores)).fold(0.0, f64::max);
    doubts(measured, &fit, law, busiest, &mut warnings);
    let candidates = candidates(measured, &fit);
    let guess = Candidate { shape: Shape::Lognormal, cv: 1.0, wait: fit.wait, error: f64::NAN };
    let law_found = chosen(&candidates).unwrap_or(guess);
    let Candidate { shape, cv, wait, .. } = law_found;
    if candidates.is_empty() {
        warnings.push(
            "no quantile or histogram of latency: the shape of the work is a guess (lognormal, cv 1)"
                .to_owned(),
        );
    }
    if law_found.error > 2.0 * NEAR_ENOUGH {
        warnings.push(format!(
            "no law fits the quantiles of the quiet moments: the best is {:.0} % off; `buckets(..)` or `file(..)` take them as they are",
            law_found.error * 100.0
        ));
    }
    let distance = inner(&measured.buckets)
        .iter()
        .map(|(share, bound)| (share_below(shape, cv, (bound - wait) / fit.work) - share).abs())
        .reduce(f64::max);
    if !measured.buckets.is_empty() && busiest > 0.5 {
        warnings.push(
            "the histogram is taken for that of a quiet time; under load it holds waiting as well".to_owned(),
        );
    }
    let dispersion = dispersion(measured, training);
    if dispersion.is_some_and(|(_, _, hi)| hi < 0.8) {
        warnings.push("the load is smoother than Poisson arrivals could be: rate() over a window longer than the step? Burstiness cannot be seen then".to_owned());
    }
    let mut errors = Vec::new();
    if let (Some(cpu), Some(law)) = (&measured.cpu, law) {
        let error = |rows: &[usize]| {
            median(rows.iter().map(|&at| relative(law.intercept + law.slope * measured.rate[at], cpu[at])))
        };
        errors.push((Quantity::CpuCores.words(), error(training), error(held_out)));
    }
    for (column, (what, values)) in measured.latency.iter().enumerate() {
        let error = |rows: &[usize]| {
            median(rows.iter().map(|&at| {
                let stretch = stretch(fit.cores, measured.utilization(at, fit.work, fit.cores));
                relative(fit.predicted(column, stretch), values[at])
            }))
        };
        errors.push((what.words(), error(training), error(held_out)));
    }
    let (work, cores) = (fit.work, fit.cores);
    let shapes = candidates.iter().map(|one| (one.shape, one.cv, one.wait, one.error)).collect();
    Ok(Calibration {
        work,
        utilization_law: law,
        wait,
        cores,
        busiest,
        shape,
        cv,
        shapes,
        distance,
        dispersion,
        errors,
        warnings,
    })
}

/// The number of cores under which the latencies are explained best, the work of a request being known.
fn with_work(measured: &Measured, rows: &[usize], work: f64) -> Fit {
    let candidates = measured.cores.map_or(1..=32, |cores| cores..=cores);
    let fits = candidates.map(|cores| at_cores(measured, rows, work, cores));
    // A core more must pay for itself, so that an idle service is not given 32.
    let best = fits.reduce(|best, next| if next.error < 0.999 * best.error { next } else { best });
    best.expect("there is at least one candidate")
}

/// As [`with_work`], the work found by golden section.
fn without_work(measured: &Measured, rows: &[usize]) -> Fit {
    let lowest = measured
        .latency
        .iter()
        .flat_map(|(_, values)| rows.iter().map(|&at| values[at]))
        .fold(f64::INFINITY, f64::min);
    let candidates = measured.cores.map_or(1..=32, |cores| cores..=cores);
    let fits = candidates.map(|cores| {
        // Nobody can be busier than 100 %.
        let most = rows
            .iter()
            .map(|&at| measured.replicas[at] * f64::from(cores) / measured.rate[at])
            .fold(f64::INFINITY, f64::min);
        let high = most.min(10.0 * lowest);
        let work = minimum(1e-3 * high, high, |work| at_cores(measured, rows, work, cores).error);
        at_cores(measured, rows, work, cores)
    });
    let best = fits.reduce(|best, next| if next.error < 0.999 * best.error { next } else { best });
    best.expect("there is at least one candidate")
}

/// Wait, levels and powers for so much work on so many cores.
fn at_cores(measured: &Measured, rows: &[usize], work: f64, cores: u32) -> Fit {
    let mut stretches: Vec<(f64, usize)> =
        rows.iter().map(|&at| (stretch(cores, measured.utilization(at, work, cores)), at)).collect();
    stretches.sort_by(|a, b| a.0.total_cmp(&b.0));
    let quiet = stretches.partition_point(|(stretch, _)| *stretch < QUIET);
    let quiet = &stretches[..quiet.max(FEWEST_QUIET).min(stretches.len())];
    let mean = measured.latency.iter().find(|(what, _)| *what == Quantity::MeanLatency);
    let mut wait = 0.0;
    if let Some((_, values)) = mean {
        let rest = median(quiet.iter().map(|&(stretch, at)| values[at] - work * stretch));
        // A wait of a few percent is noise.
        if rest > 0.05 * median(quiet.iter().map(|&(_, at)| values[at])) {
            wait = rest;
        }
    }
    let mut fit = Fit { work, wait, cores, columns: Vec::new(), error: 0.0 };
    for (what, values) in &measured.latency {
        let error = |level: f64, power: f64| -> f64 {
            let off = |&(stretch, at): &(f64, usize)| {
                let off = libm::log(values[at] / (wait + level * libm::pow(stretch, power)));
                off * off
            };
            stretches.iter().map(off).sum()
        };
        let (level, power) = if *what == Quantity::MeanLatency {
            (work, 1.0)
        } else {
            let level = median(quiet.iter().map(|&(stretch, at)| (values[at] - wait).max(1e-9) / stretch));
            (level, minimum(0.3, 1.5, |power| error(level, power)))
        };
        fit.error += error(level, power);
        fit.columns.push((level, power));
    }
    fit.error /= (rows.len() * measured.latency.len().max(1)) as f64;
    fit
}

fn doubts(measured: &Measured, fit: &Fit, law: Option<Line>, busiest: f64, warnings: &mut Vec<String>) {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    if measured.latency.is_empty() {
        warnings.push("no latency over time: cores are not checked against anything".to_owned());
    }
    if measured.cores.is_none() && busiest < 0.5 {
        warnings.push(format!(
            "never busier than {}: how many cores there are, and what happens when they are full, cannot be seen; say it with --cores",
            percent(busiest)
        ));
    } else if busiest < 0.5 {
        warnings.push(format!(
            "never busier than {}: how it behaves when full is theory here, not measured",
            percent(busiest)
        ));
    }
    if busiest > 1.0 {
        warnings.push(format!(
            "at its busiest {} of the cores would be needed: more cores or instances than said, or requests that were refused",
            percent(busiest)
        ));
    }
    if law.is_none() {
        warnings.push(
            "without CPU figures, work and cores are told apart by the bend of the latency alone".to_owned(),
        );
    }
    if law.is_some_and(|law| law.r2 < 0.8) {
        warnings
            .push("the load explains less than 80 % of the CPU: other work on the same cores?".to_owned());
    }
    if fit.error > 0.04 {
        warnings.push(format!(
            "latencies are missed by {} on average: something else than these cores makes them wait",
            percent(libm::sqrt(fit.error))
        ));
    }
}

/// A law with its wait and its error.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    shape: Shape,
    cv: f64,
    wait: f64,
    error: f64,
}

/// (quantile, time) of an idle service, from the latency columns or else from the histogram.
fn idle_quantiles(measured: &Measured, fit: &Fit) -> Vec<(f64, f64)> {
    let of_columns: Vec<(f64, f64)> = measured
        .latency
        .iter()
        .zip(&fit.columns)
        .filter_map(|((what, _), (level, _))| match what {
            Quantity::Latency(q) => Some((*q, fit.wait + level)),
            _ => None,
        })
        .collect();
    if of_columns.is_empty() { inner(&measured.buckets) } else { of_columns }
}

/// Bounds that say something: neither nothing nor everything lies below them.
fn inner(buckets: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let inner = buckets.iter().filter(|(_, share)| (0.005..=0.995).contains(share));
    inner.map(|(bound, share)| (*share, *bound)).collect()
}

/// Every shape with and without a wait, the simplest first; empty if there is nothing to compare with.
fn candidates(measured: &Measured, fit: &Fit) -> Vec<Candidate> {
    let points = idle_quantiles(measured, fit);
    if points.is_empty() {
        return Vec::new();
    }
    let lowest = points.iter().map(|(_, time)| *time).fold(f64::INFINITY, f64::min);
    let error = |shape: Shape, cv: f64, wait: f64| {
        let off = |(q, time): &(f64, f64)| {
            let off = libm::log((wait + fit.work * shape.quantile(*q, cv)).max(1e-12) / time);
            off * off
        };
        libm::sqrt(points.iter().map(off).sum::<f64>() / points.len() as f64)
    };
    let best = |shape: Shape, wait: f64| {
        // The logarithm of cv, from 0.05 to 10.
        let cv = match shape {
            Shape::Exponential => 1.0,
            _ => libm::exp(minimum(-3.0, 2.3, |x| error(shape, libm::exp(x), wait))),
        };
        Candidate { shape, cv, wait, error: error(shape, cv, wait) }
    };
    let mut list: Vec<Candidate> = Shape::ALL.iter().map(|&shape| best(shape, fit.wait)).collect();
    // A mean over time has told the wait already; otherwise the quantiles may.
    if fit.wait == 0.0
        && points.len() > 2
        && !measured.latency.iter().any(|(what, _)| *what == Quantity::MeanLatency)
    {
        for shape in Shape::ALL {
            let wait = minimum(0.0, lowest, |wait| best(shape, wait).error);
            // Next to none is the law without a wait once more.
            if wait > 1e-3 * fit.work {
                list.push(best(shape, wait));
            }
        }
    }
    list
}

/// Share of a law of mean 1 below x, from its quantiles.
fn share_below(shape: Shape, cv: f64, x: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        if shape.quantile(middle, cv) < x { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// The simplest that is near enough, or the nearest.
fn chosen(candidates: &[Candidate]) -> Option<Candidate> {
    let near = candidates.iter().find(|candidate| candidate.error < NEAR_ENOUGH);
    near.or_else(|| candidates.iter().min_by(|a, b| a.error.total_cmp(&b.error))).copied()
}

/// Index of dispersion of the counts per row. Second differences leave out the level and the trend: for Poisson counts
/// their variance is n(-1) + 4 n(0) + n(1).
fn dispersion(measured: &Measured, rows: &[usize]) -> Option<(f64, f64, f64)> {
    let counts: Vec<f64> = rows.iter().map(|&at| measured.rate[at] * measured.step).collect();
    // Every third, so that no count is used twice.
    let ratios: Vec<f64> = counts
        .chunks_exact(3)
        .filter(|three| three.iter().sum::<f64>() >= 15.0)
        .map(|three| {
            let off = three[0] - 2.0 * three[1] + three[2];
            off * off / (three[0] + 4.0 * three[1] + three[2])
        })
        .collect();
    if ratios.len() < 10 {
        return None;
    }
    let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
    let (lo, hi) = crate::stats::interval::of_mean(&ratios, crate::stats::interval::LEVEL)?;
    Some((mean, lo.max(0.0), hi))
}

fn relative(predicted: f64, found: f64) -> f64 {
    (predicted / found - 1.0).abs()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
