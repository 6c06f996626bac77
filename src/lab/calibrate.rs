//! Nobody knows their service laws: a first guess of them from what production measures.
//!
//! **Work.** The utilization law (Denning and Buzen 1978): cores in use = idle + rate × CPU per request, a straight line by
//! least squares. Without CPU figures the work is what makes the latencies bend most plausibly under load.
//!
//! **Capacity.** Every instance is taken for a processor-sharing queue with c cores that gets its share of a Poisson stream,
//! so its mean time is wait + work × (1 + C(c, a) / (c (1 - utilization))) whatever the law of service (insensitivity). Each latency
//! column y follows wait + m × that stretch; c is the one among 1..32 (or the one that is given) with the least sum of squared
//! relative errors, m and wait follow by linear least squares.
//!
//! **Shape.** The m of the quantiles are those of an idle service. Exponential, lognormal and gamma laws with the mean work are
//! compared with them (or with the bounds of a histogram); the least root mean square of the logarithms wins, and a
//! second parameter must pay for itself.
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

/// A second parameter must improve the error by this factor.
const WORTH_IT: f64 = 0.8;

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
    /// Every shape with its best coefficient of variation and error (root mean square of logarithms).
    pub shapes: Vec<(Shape, f64, f64)>,
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

/// A latency column: wait + level × stretch.
struct Fit {
    work: f64,
    wait: f64,
    cores: u32,
    levels: Vec<f64>,
    /// Mean squared relative error over all columns.
    error: f64,
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
        warnings.push("the cores in use do not grow with the load, so they do not say what a request costs".to_owned());
    }
    let fit = match law {
        Some(law) => with_work(measured, training, law.slope),
        None if measured.latency.is_empty() => {
            return Err(TooLittle("CPU or latency over time is needed to know what a request costs".to_owned()));
        }
        None => without_work(measured, training),
    };
    let busiest = rows.iter().map(|&at| measured.utilization(at, fit.work, fit.cores)).fold(0.0, f64::max);
    doubts(measured, &fit, law, busiest, &mut warnings);
    let (shapes, distance) = shapes(measured, &fit);
    let (shape, cv) = chosen(&shapes).unwrap_or((Shape::Lognormal, 1.0));
    if shapes.is_empty() {
        warnings.push("no quantile or histogram of latency: the shape of the work is a guess (lognormal, cv 1)".to_owned());
    }
    let distance = distance.map(|distance| distance(shape, cv));
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
    for ((what, values), level) in measured.latency.iter().zip(&fit.levels) {
        let error = |rows: &[usize]| {
            median(rows.iter().map(|&at| {
                let stretch = stretch(fit.cores, measured.utilization(at, fit.work, fit.cores));
                relative(fit.wait + level * stretch, values[at])
            }))
        };
        errors.push((what.words(), error(training), error(held_out)));
    }
    let (work, wait, cores) = (fit.work, fit.wait, fit.cores);
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

/// Wait and levels by least squares of relative errors.
fn at_cores(measured: &Measured, rows: &[usize], work: f64, cores: u32) -> Fit {
    let stretches: Vec<f64> =
        rows.iter().map(|&at| stretch(cores, measured.utilization(at, work, cores))).collect();
    let over = || measured.latency.iter().map(|(what, values)| (*what, values));
    let level = |what: Quantity, values: &[f64], wait: f64| -> f64 {
        if what == Quantity::MeanLatency {
            return work;
        }
        let (mut up, mut down) = (0.0, 0.0);
        for (&at, stretch) in rows.iter().zip(&stretches) {
            let y = values[at];
            up += stretch * (y - wait) / (y * y);
            down += stretch * stretch / (y * y);
        }
        (up / down).max(1e-9)
    };
    let error = |wait: f64| -> f64 {
        let mut sum = 0.0;
        for (what, values) in over() {
            let level = level(what, values, wait);
            sum += rows
                .iter()
                .zip(&stretches)
                .map(|(&at, stretch)| relative(wait + level * stretch, values[at]))
                .map(|error| error * error)
                .sum::<f64>();
        }
        sum / (rows.len() * measured.latency.len().max(1)) as f64
    };
    let lowest = over()
        .flat_map(|(_, values)| rows.iter().map(|&at| values[at]))
        .fold(f64::INFINITY, f64::min);
    let mut wait = if lowest.is_finite() { minimum(0.0, lowest, error) } else { 0.0 };
    // A wait that explains nothing is none.
    if error(0.0) <= 1.02 * error(wait) {
        wait = 0.0;
    }
    let levels = over().map(|(what, values)| level(what, values, wait)).collect();
    Fit { work, wait, cores, levels, error: error(wait) }
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
        warnings.push("without CPU figures, work and cores are told apart by the bend of the latency alone".to_owned());
    }
    if law.is_some_and(|law| law.r2 < 0.8) {
        warnings.push("the load explains less than 80 % of the CPU: other work on the same cores?".to_owned());
    }
    if fit.error > 0.04 {
        warnings.push(format!(
            "latencies are missed by {} on average: something else than these cores makes them wait",
            percent(libm::sqrt(fit.error))
        ));
    }
}

type Distance<'a> = Box<dyn Fn(Shape, f64) -> f64 + 'a>;

/// Every shape with its best coefficient of variation, and the distance to the histogram.
fn shapes<'a>(measured: &'a Measured, fit: &'a Fit) -> (Vec<(Shape, f64, f64)>, Option<Distance<'a>>) {
    // (quantile, service time over mean work at it)
    let mut points: Vec<(f64, f64)> = measured
        .latency
        .iter()
        .zip(&fit.levels)
        .filter_map(|((what, _), level)| match what {
            Quantity::Latency(q) => Some((*q, level / fit.work)),
            _ => None,
        })
        .collect();
    let inner: Vec<(f64, f64)> = measured
        .buckets
        .iter()
        .filter(|(bound, share)| (0.001..=0.999).contains(share) && *bound > fit.wait)
        .copied()
        .collect();
    let distance: Option<Distance<'a>> = if inner.is_empty() {
        None
    } else {
        let inner = inner.clone();
        Some(Box::new(move |shape, cv| {
            inner.iter().fold(0.0, |most, (bound, share)| {
                let below = share_below(shape, cv, (bound - fit.wait) / fit.work);
                f64::max(most, (below - share).abs())
            })
        }))
    };
    if points.is_empty() {
        points = inner.iter().map(|(bound, share)| (*share, (bound - fit.wait) / fit.work)).collect();
    }
    if points.is_empty() {
        return (Vec::new(), distance);
    }
    let error = |shape: Shape, cv: f64| {
        let sum: f64 = points
            .iter()
            .map(|(q, found)| {
                let off = libm::log(shape.quantile(*q, cv).max(1e-12) / found);
                off * off
            })
            .sum();
        libm::sqrt(sum / points.len() as f64)
    };
    let fitted = Shape::ALL.map(|shape| {
        // The logarithm of cv, between 0.05 and 10.
        let cv = match shape {
            Shape::Exponential => 1.0,
            _ => libm::exp(minimum(-3.0, 2.3, |x| error(shape, libm::exp(x)))),
        };
        (shape, cv, error(shape, cv))
    });
    (fitted.into(), distance)
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

/// The best shape; the exponential unless another is clearly better.
fn chosen(shapes: &[(Shape, f64, f64)]) -> Option<(Shape, f64)> {
    let simplest = shapes.first()?;
    let best = shapes.iter().min_by(|a, b| a.2.total_cmp(&b.2))?;
    let found = if best.2 < WORTH_IT * simplest.2 { best } else { simplest };
    Some((found.0, found.1))
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
