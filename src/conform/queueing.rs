//! Queueing tables: values known from theory, reproduced by the scenario engine.
//!
//! A table (`*.csv` with the columns `id, model, params, metric, value, unit, kind, source, definition`) holds closed
//! formulas, roots, integrals and solved Markov chains. For each row an adapter writes a scenario as a person would, the
//! ordinary loader reads it, and independent replications run it. A row passes if
//!
//! * its known value lies inside the interval of the estimate, at a level such that with everything right *all* rows pass
//!   with probability 99 % (Sidak over all that is tested), and
//! * that interval reaches at most 1 % of the value to either side (5 % for tails beyond p99 and probabilities below 10^-3).
//!
//! The length of a run is fixed by the row's relaxation time; only the number of replications depends on what is seen, and
//! on nothing but the width of the interval: the first `FIRST` replications show the variance, which says how many are
//! needed, and so on until the interval is narrow enough (Chow and Robbins 1965). Where the estimate lies never decides.
//! Rows of the same scenario share its replications. Where the rate of arrivals and the load are known, they serve as
//! control variates, and are tested too.

mod experiment;
mod models;
mod reading;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rayon::prelude::*;
use serde_json::{Value, json};

use crate::kernel::Handle;
use crate::lab::assemble::assemble;
use crate::lab::replicate::seed_of;
use crate::random::Key;
use crate::scenario::Overrides;
use crate::scenario::model::Study;
use crate::world;

use experiment::Experiment;
use models::Decline;
use reading::{Estimate, Sample, stray};

/// One row of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// Name of the row.
    pub id: String,
    /// Family of models.
    pub model: String,
    /// Its parameters, a JSON object.
    pub params: Value,
    /// What is known.
    pub metric: String,
    /// Its value ...
    pub value: f64,
    /// ... and unit.
    pub unit: String,
    /// `closed`, `series`, `root`, `integral`, `ctmc`; `bound`, `approx` and `limit` are no equalities.
    pub kind: String,
}

/// How exact a replay has to be.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Multiplies the widest interval that passes: 1 is the criterion of the table.
    pub coarseness: f64,
    /// Root seed of all scenarios.
    pub seed: u64,
}

impl Default for Effort {
    fn default() -> Self {
        Self { coarseness: 1.0, seed: 2 }
    }
}

/// How a row ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The known value is inside a narrow interval.
    Passed,
    /// It is outside, or the row or its scenario cannot be run.
    Failed(String),
    /// Not run: no equality, or nothing that a scenario can express; says which.
    Skipped(String),
}

/// The replay of one row.
#[derive(Clone, Debug)]
pub struct Line {
    /// The row.
    pub row: Reference,
    /// Result.
    pub verdict: Verdict,
    /// What was measured, if it was run.
    pub measured: Option<Measured>,
}

/// What a row's replications say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Estimate, in the unit of the row.
    pub estimate: f64,
    /// Half of its interval at the level of the table.
    pub half_width: f64,
    /// Distance from the known value in standard errors: Student's t with `freedom` degrees of freedom if the engine is
    /// right; NaN where nothing is random.
    pub z: f64,
    /// Replications, less one for the mean and one for each control variate.
    pub freedom: f64,
    /// Replications.
    pub replications: u32,
    /// Attempts at services in all of them.
    pub hops: u64,
}

/// Probability that a table fails although everything is right.
const FAMILY_ERROR: f64 = 0.01;

/// Share of it that is spent on the controls.
const CONTROL_SHARE: f64 = 0.1;

/// Widest half of an interval as a share of the value.
const HALF_WIDTH: f64 = 0.01;

/// The same for tails beyond p99 and probabilities below [`RARE`].
const HALF_WIDTH_OF_TAILS: f64 = 0.05;

/// See [`HALF_WIDTH_OF_TAILS`].
const RARE: f64 = 1e-3;

/// Replications before the variance is looked at. Many, so that a low variance by luck, which goes with low values where
/// these are skewed, rarely ends a row too early.
const FIRST: u32 = 64;

/// Most times that the number of replications is multiplied between two looks: the variance of few replications is itself
/// uncertain, and too many cost more than one more look.
const GROWTH: f64 = 4.0;

/// Most looks at the variance.
const LOOKS: u32 = 16;

/// Most events that the replications of one scenario may need (about 20 minutes of one core); beyond that it is skipped.
const MOST_EVENTS: f64 = 1e10;

/// Columns of a table.
const COLUMNS: [&str; 9] =
    ["id", "model", "params", "metric", "value", "unit", "kind", "source", "definition"];

/// Reads a table.
pub fn read(text: &[u8]) -> Result<Vec<Reference>, String> {
    let mut reader = csv::Reader::from_reader(text);
    let header = reader.headers().map_err(|error| error.to_string())?;
    if header.iter().ne(COLUMNS) {
        return Err(format!("the columns are not {}", COLUMNS.join(", ")));
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| error.to_string())?;
        let cell = |at: usize| record[at].trim().to_owned();
        let id = cell(0);
        let value = cell(4).parse::<f64>().ok().filter(|value| value.is_finite());
        let value = value.ok_or_else(|| format!("row {id}: `{}` is not a number", &record[4]))?;
        let params: Value =
            serde_json::from_str(&record[2]).map_err(|error| format!("row {id}: params: {error}"))?;
        let (model, metric, unit, kind) = (cell(1), cell(3), cell(5), cell(6));
        rows.push(Reference { id, model, params, metric, value, unit, kind });
    }
    if rows.is_empty() { Err("there are no rows".to_owned()) } else { Ok(rows) }
}

/// Why a row is not run: [`Verdict::Skipped`] or [`Verdict::Failed`]; `None` if it is.
pub fn declined(row: &Reference) -> Option<Verdict> {
    match models::experiment(row) {
        Ok(_) => None,
        Err(Decline::Skip(why)) => Some(Verdict::Skipped(why)),
        Err(Decline::Broken(why)) => Some(Verdict::Failed(why)),
    }
}

/// Replays rows; the answers stand in the same order.
pub fn replay(rows: &[Reference], effort: &Effort) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    // Rows that can run, by scenario.
    let mut groups: BTreeMap<String, Vec<(usize, Experiment)>> = BTreeMap::new();
    let (mut run, mut controls) = (0, 0);
    for (at, row) in rows.iter().enumerate() {
        let verdict = match models::experiment(row) {
            Ok(experiment) => {
                run += 1;
                controls += experiment.controls.len();
                groups.entry(experiment.text()).or_default().push((at, experiment));
                Verdict::Failed("was not run".to_owned())
            }
            Err(Decline::Skip(why)) => Verdict::Skipped(why),
            Err(Decline::Broken(why)) => Verdict::Failed(why),
        };
        lines.push(Line { row: row.clone(), verdict, measured: None });
    }
    // The rows share nearly all of the error, the controls the rest: they are known so well that they can afford it.
    let error = Errors {
        row: error_of_one(FAMILY_ERROR * (1.0 - CONTROL_SHARE), run),
        control: error_of_one(FAMILY_ERROR * CONTROL_SHARE, controls),
    };
    for (text, group) in groups {
        let rows: Vec<&Reference> = group.iter().map(|(at, _)| &rows[*at]).collect();
        let experiments: Vec<&Experiment> = group.iter().map(|(_, experiment)| experiment).collect();
        match measure(&text, &rows, &experiments, error, effort) {
            Ok(answers) => {
                for ((at, _), (verdict, measured)) in group.iter().zip(answers) {
                    lines[*at].verdict = verdict;
                    lines[*at].measured = Some(measured);
                }
            }
            Err(message) => {
                for (at, _) in &group {
                    lines[*at].verdict = Verdict::Failed(message.clone());
                }
            }
        }
    }
    lines
}

/// Probability of a wrong interval for one of `number` independent ones if that for all together is `family` (Sidak).
fn error_of_one(family: f64, number: usize) -> f64 {
    1.0 - libm::pow(1.0 - family, 1.0 / number.max(1) as f64)
}

/// Probabilities of single wrong intervals.
#[derive(Clone, Copy)]
struct Errors {
    row: f64,
    control: f64,
}

/// Widest half of the interval that passes.
fn widest(row: &Reference, effort: &Effort) -> f64 {
    let beyond_p99 = row.metric.starts_with("p99") && !row.metric.starts_with("p99_");
    let rare = row.unit == "1" && row.value < RARE;
    let share = if beyond_p99 || rare { HALF_WIDTH_OF_TAILS } else { HALF_WIDTH };
    share * row.value * effort.coarseness
}

/// Runs one scenario until every row has a narrow interval.
fn measure(
    text: &str,
    rows: &[&Reference],
    experiments: &[&Experiment],
    error: Errors,
    effort: &Effort,
) -> Result<Vec<(Verdict, Measured)>, String> {
    // Its own seed for each scenario, so that rows do not share their luck.
    let seed = Key::new(effort.seed).named(text).0;
    let overrides = Overrides { seed: Some(seed), ..Overrides::default() };
    let study = Study::from_text("queueing", text, &overrides)
        .map_err(|error| format!("the scenario is refused: {}", error.render(false)))?;
    let spec = assemble(&study, &study.strategies[0].scenario);
    let handle = Handle::default();
    let replicate = |index: u32| -> Result<(Vec<Sample>, u64, u64), String> {
        let report =
            world::run(&spec, seed_of(study.seed, index), &handle).map_err(|stop| stop.to_string())?;
        let read = |(experiment, row): (&&Experiment, &&Reference)| {
            let sample = experiment.reading.sample(&report, row.value, &experiment.controls);
            sample.ok_or_else(|| format!("a run does not show `{}`", row.metric))
        };
        let samples = experiments.iter().zip(rows).map(read).collect::<Result<_, _>>()?;
        Ok((samples, report.hops, report.events))
    };

    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); rows.len()];
    let (mut hops, mut events) = (0, 0);
    let mut done = 0;
    let is_random = experiments.iter().any(|experiment| experiment.reading.is_random());
    let mut wanted = if is_random { FIRST } else { 1 };
    for look in 1.. {
        let new: Vec<_> = (done..wanted).into_par_iter().map(replicate).collect::<Result<_, _>>()?;
        for (list, more, handled) in new {
            hops += more;
            events += handled;
            for (samples, sample) in samples.iter_mut().zip(list) {
                samples.push(sample);
            }
        }
        done = wanted;
        let estimates: Vec<Estimate> = experiments
            .iter()
            .zip(&samples)
            .zip(rows)
            .map(|((experiment, samples), row)| {
                experiment.reading.estimate(samples, row.value, &experiment.controls, error.row)
            })
            .collect();
        // How many times too wide the worst interval is.
        let excess = estimates
            .iter()
            .zip(rows)
            .map(|(estimate, row)| estimate.half_width / widest(row, effort))
            .fold(0.0, f64::max);
        // The width falls with the root of the number of replications; the quantile of t falls, too.
        let needed = f64::from(done) * (excess * excess * 1.02).min(GROWTH);
        let too_long = needed * events as f64 / f64::from(done) > MOST_EVENTS;
        if !is_random || excess <= 1.0 || look == LOOKS || too_long {
            let stray = experiments
                .iter()
                .zip(&samples)
                .find_map(|(experiment, samples)| stray(samples, &experiment.controls, error.control));
            let answers = estimates.into_iter().zip(rows).map(|(estimate, row)| {
                let verdict = match &stray {
                    Some(why) => Verdict::Failed(why.clone()),
                    None => judge(row, &estimate, widest(row, effort), (too_long, needed, hops, done)),
                };
                let Estimate { value, half_width, z, freedom, .. } = estimate;
                (verdict, Measured { estimate: value, half_width, z, freedom, replications: done, hops })
            });
            return Ok(answers.collect());
        }
        wanted = (needed.ceil() as u32).max(done + 1);
    }
    unreachable!("the last look returns")
}

fn judge(row: &Reference, estimate: &Estimate, widest: f64, cost: (bool, f64, u64, u32)) -> Verdict {
    let (too_long, needed, hops, done) = cost;
    if !estimate.agrees {
        return Verdict::Failed(format!("{} is outside the interval", row.value));
    }
    if estimate.half_width <= widest {
        return Verdict::Passed;
    }
    if too_long {
        let requests = needed * hops as f64 / f64::from(done);
        return Verdict::Skipped(format!("an interval this narrow would take {requests:.1e} requests"));
    }
    Verdict::Failed("the interval is too wide".to_owned())
}

/// A table for people: one line per row.
pub(super) fn table(lines: &[Line]) -> String {
    let mut cells = vec![
        ["row", "model", "metric", "value", "estimate", "half-width", "%", "z", "runs", "verdict"]
            .map(str::to_owned),
    ];
    for Line { row, verdict, measured } in lines {
        let (verdict, why) = match verdict {
            Verdict::Passed => ("passed", ""),
            Verdict::Failed(why) => ("FAILED: ", why.as_str()),
            Verdict::Skipped(why) => ("skipped: ", why.as_str()),
        };
        let shown = |show: &dyn Fn(&Measured) -> String| measured.as_ref().map_or_else(String::new, show);
        cells.push([
            row.id.clone(),
            row.model.chars().take(28).collect(),
            row.metric.clone(),
            figures(row.value, 6),
            shown(&|measured| figures(measured.estimate, 6)),
            shown(&|measured| figures(measured.half_width, 2)),
            shown(&|measured| format!("{:.2}", 100.0 * measured.half_width / row.value)),
            shown(&|measured| {
                if measured.z.is_nan() { "-".to_owned() } else { format!("{:+.2}", measured.z) }
            }),
            shown(&|measured| measured.replications.to_string()),
            format!("{verdict}{why}"),
        ]);
    }
    let widths: Vec<usize> = (0..cells[0].len())
        .map(|column| cells.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in &cells {
        let mut shown = String::new();
        for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            // Words to the left, numbers to the right.
            let _ = match column {
                0..3 => write!(shown, "{cell:<width$}  "),
                9 => write!(shown, "{cell}"),
                _ => write!(shown, "{cell:>width$}  "),
            };
        }
        text.push_str(shown.trim_end());
        text.push('\n');
    }
    let run = lines.iter().filter(|line| !matches!(line.verdict, Verdict::Skipped(_))).count();
    let error = error_of_one(FAMILY_ERROR * (1.0 - CONTROL_SHARE), run);
    let _ = writeln!(
        text,
        "intervals at {:.4} % each, so that all {run} are right with probability {:.0} %; half-width at most {:.0} % of the value ({:.0} % for tails)",
        100.0 * (1.0 - error),
        100.0 * (1.0 - FAMILY_ERROR),
        100.0 * HALF_WIDTH,
        100.0 * HALF_WIDTH_OF_TAILS,
    );
    text
}

/// The same for machines.
pub(super) fn json(lines: &[Line]) -> Value {
    let list = lines.iter().map(|Line { row, verdict, measured }| {
        let (word, reason) = match verdict {
            Verdict::Passed => ("passed", None),
            Verdict::Failed(why) => ("failed", Some(why)),
            Verdict::Skipped(why) => ("skipped", Some(why)),
        };
        let mut line = json!({
            "id": row.id, "model": row.model, "metric": row.metric, "unit": row.unit, "value": row.value,
            "verdict": word, "reason": reason,
        });
        if let Some(measured) = measured {
            line["estimate"] = json!(measured.estimate);
            line["half_width"] = json!(measured.half_width);
            line["z"] = if measured.z.is_nan() { Value::Null } else { json!(measured.z) };
            line["replications"] = json!(measured.replications);
            line["hops"] = json!(measured.hops);
        }
        line
    });
    Value::Array(list.collect())
}

/// A number with so many significant digits.
fn figures(value: f64, digits: i32) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let magnitude = libm::floor(libm::log10(value.abs())) as i32;
    if (-4..9).contains(&magnitude) {
        format!("{value:.*}", (digits - 1 - magnitude).max(0) as usize)
    } else {
        format!("{value:.*e}", (digits - 1).max(0) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(model: &str, params: &Value, metric: &str, value: f64) -> Reference {
        Reference {
            id: "T1".to_owned(),
            model: model.to_owned(),
            params: params.clone(),
            metric: metric.to_owned(),
            value,
            unit: "s".to_owned(),
            kind: "closed".to_owned(),
        }
    }

    #[test]
    fn the_error_is_shared_among_the_rows() {
        assert!((error_of_one(0.01, 1) - 0.01).abs() < 1e-12);
        assert!((libm::pow(1.0 - error_of_one(0.01, 90), 90.0) - 0.99).abs() < 1e-12);
        let z = crate::stats::interval::normal_quantile(1.0 - 0.5 * error_of_one(0.01, 90));
        assert!((z - 3.86).abs() < 0.01, "{z}");
    }

    #[test]
    fn tails_may_be_wider() {
        let params = json!({});
        let effort = Effort::default();
        let widest = |metric: &str, value: f64, unit: &str| {
            let row = Reference { unit: unit.to_owned(), ..row("M", &params, metric, value) };
            widest(&row, &effort) / value
        };
        assert_eq!(widest("p99_wait", 2.0, "s"), 0.01);
        assert_eq!(widest("p999_hedged", 2.0, "ms"), 0.05);
        assert_eq!(widest("mean_wait", 1e-5, "s"), 0.01);
        assert_eq!(widest("unavailability", 1e-5, "1"), 0.05);
        assert_eq!(widest("prob_block", 0.5, "1"), 0.01);
    }

    #[test]
    fn a_wrong_value_fails_and_a_strange_row_is_skipped_or_broken() {
        let effort = Effort { coarseness: 10.0, ..Effort::default() };
        let params = json!({ "lam": 0.5, "mu": 1.0 });
        let rows = [
            row("M/M/1", &params, "mean_sojourn", 2.0),
            row("M/M/1", &params, "mean_sojourn", 3.0),
            row("M/M/1", &params, "colour", 1.0),
            row("M/M/7", &params, "mean_sojourn", 1.0),
            row("M/M/1", &json!({ "mu": 1.0 }), "mean_sojourn", 1.0),
            Reference { kind: "limit".to_owned(), ..row("M/M/1", &params, "mean_sojourn", 1.0) },
        ];
        let lines = replay(&rows, &effort);
        assert_eq!(lines[0].verdict, Verdict::Passed);
        assert!(matches!(&lines[1].verdict, Verdict::Failed(why) if why.contains("outside")));
        assert!(matches!(&lines[2].verdict, Verdict::Skipped(why) if why.contains("colour")));
        assert!(matches!(&lines[3].verdict, Verdict::Skipped(why) if why.contains("M/M/7")));
        assert!(matches!(&lines[4].verdict, Verdict::Failed(why) if why.contains("`lam`")));
        assert!(matches!(&lines[5].verdict, Verdict::Skipped(why) if why.contains("limit")));
        let text = table(&lines);
        assert!(text.contains("passed") && text.contains("FAILED: 3 is outside"), "{text}");
    }

    #[test]
    fn tables_that_are_none() {
        assert!(read(b"").unwrap_err().contains("the columns are not id, model"));
        assert!(read(b"t_s,rate\n0,1\n").unwrap_err().contains("the columns are not id, model"));
        let header = COLUMNS.join(",");
        assert!(read(header.as_bytes()).unwrap_err().contains("no rows"));
        let broken = |row: &str| read(format!("{header}\n{row}\n").as_bytes()).unwrap_err();
        assert!(broken("Q1,m,{},x,two,s,closed,,").contains("row Q1: `two` is not a number"));
        assert!(broken("Q1,m,{,x,2,s,closed,,").contains("row Q1: params"));
        assert!(broken("Q1,m").contains("record"));
    }

    #[test]
    fn numbers_with_so_many_digits() {
        assert_eq!(figures(9.210_340_37, 6), "9.21034");
        assert_eq!(figures(9.56e-6, 3), "9.56e-6");
        assert_eq!(figures(17_500.0, 3), "17500");
        assert_eq!(figures(0.0, 3), "0");
    }
}
