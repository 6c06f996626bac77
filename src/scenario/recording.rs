//! What production has measured: load, CPU and latency over time, as Prometheus answers a range query or as CSV.
//!
//! Read strictly, because a series that is misunderstood gives an answer that looks right: a counter instead of a rate, a
//! column whose unit nobody knows, times that go back and values below zero are errors with their place. Several series of one answer
//! (one per instance) are added up; a series that has no value at some moment, because its instance did not live yet, adds
//! nothing there.
//!
//! **Gaps.** The step of a recording is the median distance of its moments. A distance of more than one and a half steps is a
//! gap, and so is a value that is `NaN` or an empty cell. Up to the longest gap that is allowed, values in between lie on a
//! straight line; a longer one is refused. How many there were, and where, is said.

mod csv_table;
mod prometheus;

#[cfg(test)]
mod tests;

use std::path::Path;

use super::ScenarioError;
use super::error::{Diagnostic, Place};
use super::files::Files;
use crate::time::Duration;

/// More moments than this are refused.
const MOST_POINTS: usize = 1_000_000;

/// A rise over this many moments without a single step down is a counter.
const COUNTER_POINTS: usize = 60;

/// What a column measures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantity {
    /// Requests per second.
    Rate,
    /// Core seconds that one request takes.
    CpuPerRequest,
    /// Cores in use, over all instances.
    CpuCores,
    /// Mean latency in seconds.
    MeanLatency,
    /// Quantile 0..1 of latency, in seconds.
    Latency(f64),
    /// Instances that are ready.
    Replicas,
}

impl Quantity {
    /// For messages.
    pub fn words(self) -> String {
        match self {
            Self::Rate => "requests per second".to_owned(),
            Self::CpuPerRequest => "CPU per request".to_owned(),
            Self::CpuCores => "cores in use".to_owned(),
            Self::MeanLatency => "mean latency".to_owned(),
            Self::Latency(q) => format!("p{} latency", (q * 1e5).round() / 1e3),
            Self::Replicas => "replicas".to_owned(),
        }
    }
}

/// What the bare numbers of a file count, where the file does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateUnit {
    /// Requests per second.
    PerSecond,
    /// Requests per minute.
    PerMinute,
    /// Requests per hour.
    PerHour,
    /// Requests from this moment to the next.
    Count,
}

/// How to read.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// What the values of a query answer are; a CSV file says it in its header.
    pub bare: Quantity,
    /// What the load counts, over what the file says.
    pub unit: Option<RateUnit>,
    /// Longest gap that is bridged.
    pub longest_gap: Duration,
}

/// Measurements on common moments, ascending and without gaps longer than allowed.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Path as given.
    pub path: String,
    /// Moment of the first row: seconds since 1970, or 0 if the file counts from its start.
    pub start: f64,
    /// Median distance of two moments, in seconds.
    pub step: f64,
    /// Moments, in seconds since the first.
    pub t_s: Vec<f64>,
    /// (what, value per moment); NaN only where a column is empty before its first or after its last value.
    pub columns: Vec<(Quantity, Vec<f64>)>,
    /// What was done to it, in words.
    pub notes: Vec<String>,
}

/// A file as it stands there: one row per moment.
struct Raw {
    /// (moment in seconds, place in the text).
    moments: Vec<(f64, Option<Place>)>,
    columns: Vec<RawColumn>,
    notes: Vec<String>,
}

struct RawColumn {
    what: Quantity,
    /// Its name is that of a rate, so a steady rise is no counter.
    known_rate: bool,
    /// Values are counts from one moment to the next.
    counts: bool,
    values: Vec<f64>,
}

impl Recording {
    /// Reads a file (`-` is standard input).
    pub fn read(path: &str, reading: &Reading) -> Result<Self, ScenarioError> {
        let mut files = Files::default();
        Self::read_named(path, reading, &mut files)
            .map_err(|error| ScenarioError::new(vec![error], files.sources))
    }

    fn read_in(path: &str, reading: &Reading, files: &mut Files) -> Result<Self, Diagnostic> {
        let file = files.recording(Path::new(path))?;
        let source = &files.sources[file as usize];
        let json = source.text.trim_start().starts_with(['{', '[']);
        let raw = if json {
            prometheus::read(&source.text, file, reading)?
        } else {
            csv_table::read(&source.text, file, reading)?
        };
        raw.checked(&source.name, reading)
    }

    /// [`read_in`](Self::read_in), with the name of the file where a message has no place in it.
    fn read_named(path: &str, reading: &Reading, files: &mut Files) -> Result<Self, Diagnostic> {
        Self::read_in(path, reading, files).map_err(|error| match error.place {
            None if !error.message.contains(path) => {
                Diagnostic { message: format!("`{path}`: {}", error.message), ..error }
            }
            _ => error,
        })
    }

    /// The column that measures this.
    pub fn column(&self, what: Quantity) -> Option<&[f64]> {
        self.columns.iter().find(|(known, _)| *known == what).map(|(_, values)| values.as_slice())
    }

    /// End of the last interval, in seconds since the first moment; it is as long as the step.
    pub fn length(&self) -> f64 {
        self.t_s.last().copied().unwrap_or(0.0) + self.step
    }

    /// A column of another recording at the moments of this one: each the latest value at or before it, NaN outside of
    /// what the other covers. Both count from 1970, or both from their start.
    pub fn aligned(&self, other: &Self, what: Quantity) -> Option<Vec<f64>> {
        let values = other.column(what)?;
        let shift = self.start - other.start;
        let at = |t: &f64| {
            let t = t + shift;
            let after = other.t_s.partition_point(|known| *known <= t + 1e-9);
            if after == 0 || t >= other.length() { f64::NAN } else { values[after - 1] }
        };
        Some(self.t_s.iter().map(at).collect())
    }
}

impl Raw {
    fn checked(mut self, name: &str, reading: &Reading) -> Result<Recording, Diagnostic> {
        let at = |index: usize, error: Diagnostic| match self.moments[index].1 {
            Some(place) => error.at(place),
            None => error,
        };
        if self.moments.len() < 2 {
            return Err(Diagnostic::new(format!(
                "`{name}` has {} moments in time; at least two are needed",
                self.moments.len()
            )));
        }
        for index in 1..self.moments.len() {
            let (before, now) = (self.moments[index - 1].0, self.moments[index].0);
            if now == before {
                let error = Diagnostic::new(format!("the moment {} stands there twice", shown(now)));
                return Err(at(index, error).hint("every moment has one row; add up what belongs together"));
            }
            if now < before {
                let error =
                    Diagnostic::new(format!("the time goes back from {} to {}", shown(before), shown(now)));
                return Err(at(index, error).hint("sort the rows by time"));
            }
        }
        for column in &self.columns {
            if let Some(index) = column.values.iter().position(|value| *value < 0.0 || value.is_infinite()) {
                let value = column.values[index];
                let message = format!(
                    "{} cannot be {value}, as at {}",
                    column.what.words(),
                    shown(self.moments[index].0)
                );
                let error = Diagnostic::new(message);
                return Err(at(index, error).hint("values are finite and not below zero"));
            }
            let steady = column.values.len() >= COUNTER_POINTS
                && column.values.windows(2).all(|pair| pair[1] >= pair[0])
                && column.values.last() > column.values.first();
            if steady && column.what == Quantity::Rate && !column.known_rate {
                return Err(Diagnostic::new(format!(
                    "`{name}` never falls over {} moments: that is a counter, not a rate",
                    column.values.len()
                ))
                .hint("ask for sum(rate(http_requests_total[1m])) instead; a rate that only rises is believed in CSV, in a column `requests_per_second`"));
            }
        }
        let start = self.moments[0].0;
        let t_s: Vec<f64> = self.moments.iter().map(|(at, _)| at - start).collect();
        let mut distances: Vec<f64> = t_s.windows(2).map(|pair| pair[1] - pair[0]).collect();
        distances.sort_by(f64::total_cmp);
        let step = distances[distances.len() / 2];
        for column in self.columns.iter_mut().filter(|column| column.counts) {
            for (index, value) in column.values.iter_mut().enumerate() {
                // What stands before a gap was counted in one step, not over the gap.
                let width = t_s.get(index + 1).map_or(step, |next| (next - t_s[index]).min(step));
                *value /= width;
            }
        }
        let mut gaps = Gaps { start, step, longest: reading.longest_gap.as_secs_f64(), found: Vec::new() };
        let (t_s, columns) = gaps.bridge(&t_s, self.columns)?;
        self.notes.extend(gaps.words());
        Ok(Recording { path: name.to_owned(), start, step, t_s, columns, notes: self.notes })
    }
}

/// Moments without a value.
struct Gaps {
    start: f64,
    step: f64,
    longest: f64,
    /// (start, length) in seconds.
    found: Vec<(f64, f64)>,
}

impl Gaps {
    /// Adds moments where some are missing, and values on a straight line where they are.
    #[expect(clippy::type_complexity, reason = "moments, and columns as the recording has them")]
    fn bridge(
        &mut self,
        t_s: &[f64],
        columns: Vec<RawColumn>,
    ) -> Result<(Vec<f64>, Vec<(Quantity, Vec<f64>)>), Diagnostic> {
        let mut moments = Vec::with_capacity(t_s.len());
        // Position of each old moment among the new ones.
        let mut places = Vec::with_capacity(t_s.len());
        for (index, &t) in t_s.iter().enumerate() {
            if index > 0 {
                let before = t_s[index - 1];
                let missing = ((t - before) / self.step).round() as usize;
                if t - before > 1.5 * self.step {
                    self.note(before + self.step, t - before - self.step)?;
                    moments.extend((1..missing).map(|k| before + self.step * k as f64).filter(|at| *at < t));
                }
            }
            if moments.len() > MOST_POINTS {
                return Err(Diagnostic::new(format!("more than {MOST_POINTS} moments")));
            }
            places.push(moments.len());
            moments.push(t);
        }
        let mut bridged = Vec::new();
        for column in columns {
            let mut values = vec![f64::NAN; moments.len()];
            for (&place, value) in places.iter().zip(&column.values) {
                values[place] = *value;
            }
            let known: Vec<usize> = places.iter().copied().filter(|&place| !values[place].is_nan()).collect();
            if known.is_empty() {
                return Err(Diagnostic::new(format!("there is not one value of {}", column.what.words())));
            }
            for pair in known.windows(2) {
                let (from, to) = (pair[0], pair[1]);
                if places[places.partition_point(|&place| place <= from)] != to {
                    // Rows without a value; missing rows were noted above.
                    self.note(moments[from] + self.step, moments[to] - moments[from] - self.step)?;
                }
                for at in from + 1..to {
                    let share = (moments[at] - moments[from]) / (moments[to] - moments[from]);
                    values[at] = values[from] + share * (values[to] - values[from]);
                }
            }
            bridged.push((column.what, values));
        }
        Ok((moments, bridged))
    }

    fn note(&mut self, from: f64, length: f64) -> Result<(), Diagnostic> {
        if length > self.longest {
            return Err(Diagnostic::new(format!(
                "there is a gap of {} from {}",
                span(length),
                shown(self.start + from)
            ))
            .hint(format!(
                "gaps of up to {} are bridged by a straight line; allow longer ones with --max-gap {}min",
                span(self.longest),
                ((length + self.step) / 60.0).ceil()
            )));
        }
        self.found.push((from, length));
        Ok(())
    }

    fn words(&self) -> Option<String> {
        let longest = self.found.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let total: f64 = self.found.iter().map(|gap| gap.1).sum();
        let count =
            if self.found.len() == 1 { "1 gap".to_owned() } else { format!("{} gaps", self.found.len()) };
        Some(format!(
            "{count} of together {} bridged by straight lines; the longest, {}, from {}",
            span(total),
            span(longest.1),
            shown(self.start + longest.0)
        ))
    }
}

/// Whole seconds as a duration is written.
fn span(seconds: f64) -> String {
    Duration::from_secs_f64(seconds.max(1.0).round()).to_string()
}

/// A moment: seconds since 1970 as a date, anything small as seconds.
fn shown(seconds: f64) -> String {
    if seconds >= 1e8 { super::storm::moment(seconds) } else { format!("{seconds} s") }
}
