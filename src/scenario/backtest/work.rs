//! What a request costs: a law that is given, or CPU that was measured over time.

use std::fmt::Write as _;

use super::{Assumptions, plain};
use crate::random::law::{Dimension, Law, no_files};
use crate::scenario::error::shortened;
use crate::scenario::recording::{Quantity, Recording};
use crate::units::UnitError;

/// What a request costs.
pub(super) enum Work {
    /// The same law all the time; mean in seconds.
    Same { law: String, mean: f64 },
    /// Two kinds, and the mean at each moment of the load.
    Changing { light: f64, heavy: f64, means: Vec<f64> },
}

impl Work {
    pub(super) fn of(
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

    pub(super) fn per_request(&self, at: usize) -> f64 {
        match self {
            Self::Same { mean, .. } => *mean,
            Self::Changing { means, .. } => means[at],
        }
    }

    pub(super) fn largest(&self) -> f64 {
        match self {
            Self::Same { mean, .. } => *mean,
            Self::Changing { heavy, .. } => *heavy,
        }
    }

    /// Endpoints and their laws.
    pub(super) fn kinds(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Same { law, .. } => vec![("request", law.clone())],
            Self::Changing { light, heavy, .. } => {
                vec![("light", lognormal(*light)), ("heavy", lognormal(*heavy))]
            }
        }
    }

    pub(super) fn header(&self) -> String {
        let kinds: Vec<&str> = self.kinds().into_iter().map(|(kind, _)| kind).collect();
        format!("# requests per second\nt_s,{}\n", kinds.join(","))
    }

    pub(super) fn row(&self, csv: &mut String, at: usize, t: f64, rate: f64) {
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
