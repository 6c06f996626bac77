//! The CSV files and `decisions.jsonl`: long tables, one fact per row, ready for pandas or polars.

use std::io::Write;

use super::curves::{Bands, percentiles};
use crate::lab::outcome::{Estimate, StrategyOutcome, StudyOutcome};

/// Above this number of rows `timeline.csv` keeps the first replication and the bands over replications only.
pub(super) const MOST_TIMELINE_ROWS: usize = 1_000_000;

/// `summary.csv`: strategy, metric, mean, lo, hi, n.
pub(super) fn summary_csv(outcome: &StudyOutcome) -> Vec<u8> {
    let mut table = Csv::new(&["strategy", "metric", "mean", "lo", "hi", "n"]);
    for strategy in &outcome.strategies {
        for (metric, &Estimate { mean, lo, hi, n }) in &strategy.metrics {
            let end = |end: Option<f64>| end.map_or_else(String::new, exact);
            table.row([&strategy.name, metric, &exact(mean), &end(lo), &end(hi), &n.to_string()]);
        }
    }
    table.finish()
}

/// `replications.csv`: strategy, replication, seed, metric, value.
pub(super) fn replications_csv(outcome: &StudyOutcome) -> Vec<u8> {
    let mut table = Csv::new(&["strategy", "replication", "seed", "metric", "value"]);
    for strategy in &outcome.strategies {
        for run in &strategy.replications {
            let (index, seed) = (run.index.to_string(), run.seed.to_string());
            for (metric, &value) in &run.metrics {
                table.row([&strategy.name, &index, &seed, metric, &exact(value)]);
            }
        }
    }
    table.finish()
}

/// `timeline.csv`: strategy, replication, `t_s`, scope, name, metric, value.
///
/// Windows with nothing to say have no row. Values keep seven significant digits. Above [`MOST_TIMELINE_ROWS`] rows
/// only the first replication is kept, and the bands over all of them stand under the replications `min`, `median`
/// and `max`.
pub(super) fn timeline_csv(outcome: &StudyOutcome) -> Vec<u8> {
    timeline_csv_within(outcome, MOST_TIMELINE_ROWS)
}

/// `timeline_csv` with another number of rows above which it is thinned.
pub fn timeline_csv_within(outcome: &StudyOutcome, most_rows: usize) -> Vec<u8> {
    let rows: usize = outcome
        .strategies
        .iter()
        .flat_map(|strategy| &strategy.replications)
        .flat_map(|run| &run.timeline.series)
        .map(|series| series.values.iter().filter(|value| !value.is_nan()).count())
        .sum();
    let all = rows <= most_rows;
    let mut table = Csv::new(&["strategy", "replication", "t_s", "scope", "name", "metric", "value"]);
    for strategy in &outcome.strategies {
        for run in strategy.replications.iter().take(if all { usize::MAX } else { 1 }) {
            let index = run.index.to_string();
            let instants: Vec<String> = run.timeline.t_s.iter().map(|&t| seven(t)).collect();
            for series in &run.timeline.series {
                for (t, &value) in instants.iter().zip(&series.values).filter(|(_, value)| !value.is_nan()) {
                    table.row([
                        &strategy.name,
                        &index,
                        t,
                        series.scope,
                        &series.name,
                        series.metric,
                        &seven(value),
                    ]);
                }
            }
        }
        if !all {
            band_rows(&mut table, strategy);
        }
    }
    table.finish()
}

fn band_rows(table: &mut Csv, strategy: &StrategyOutcome) {
    let Some(first) = strategy.replications.first() else { return };
    for series in &first.timeline.series {
        let Some(bands) = Bands::of(strategy, series.scope, &series.name, series.metric) else { continue };
        for (t, band) in bands.t_s.iter().zip(&bands.windows).filter(|(_, band)| !band.median.is_nan()) {
            for (label, value) in [("min", band.min), ("median", band.median), ("max", band.max)] {
                table.row([
                    &strategy.name,
                    label,
                    &seven(*t),
                    series.scope,
                    &series.name,
                    series.metric,
                    &seven(value),
                ]);
            }
        }
    }
}

/// `latency.csv`: strategy, scope, percentile, `latency_ms` (median over replications), then the lowest and the highest
/// replication and their number. The scope is `run`, `source.<name>` or `service.<name>`; a percentile that some
/// replication lacks (fewer than 10 exceedances) is left out.
pub(super) fn latency_csv(outcome: &StudyOutcome) -> Vec<u8> {
    let mut table = Csv::new(&["strategy", "scope", "percentile", "latency_ms", "min_ms", "max_ms", "n"]);
    for strategy in &outcome.strategies {
        let Some(first) = strategy.replications.first() else { continue };
        let n = strategy.replications.len().to_string();
        for curve in &first.percentiles {
            let scope = match curve.name.as_str() {
                "" => curve.scope.to_owned(),
                name => format!("{}.{name}", curve.scope),
            };
            for (percentile, band) in percentiles(strategy, curve.scope, &curve.name) {
                table.row([
                    &strategy.name,
                    &scope,
                    &exact(percentile),
                    &exact(band.median),
                    &exact(band.min),
                    &exact(band.max),
                    &n,
                ]);
            }
        }
    }
    table.finish()
}

/// `events.csv`: strategy, replication, `t_s`, kind, subject, detail.
pub(super) fn events_csv(outcome: &StudyOutcome) -> Vec<u8> {
    let mut table = Csv::new(&["strategy", "replication", "t_s", "kind", "subject", "detail"]);
    for strategy in &outcome.strategies {
        for run in &strategy.replications {
            let index = run.index.to_string();
            for event in &run.events_log {
                table.row([
                    &strategy.name,
                    &index,
                    &exact(event.t_s),
                    event.kind,
                    &event.subject,
                    &event.detail,
                ]);
            }
        }
    }
    table.finish()
}

/// `decisions.jsonl`: each decision as one object, `strategy` and `replication` first.
pub(super) fn decisions_jsonl(outcome: &StudyOutcome) -> Vec<u8> {
    let mut bytes = Vec::new();
    for strategy in &outcome.strategies {
        let name = serde_json::Value::from(strategy.name.as_str());
        for run in &strategy.replications {
            for decision in &run.decisions {
                let body = decision.to_string();
                // The decision is already text; its head is put in front rather than copying the object.
                let body = body
                    .strip_prefix('{')
                    .filter(|rest| rest.len() > 1)
                    .map_or_else(|| "}".to_owned(), |rest| format!(",{rest}"));
                writeln!(bytes, "{{\"strategy\":{name},\"replication\":{}{body}", run.index)
                    .expect(IN_MEMORY);
            }
        }
    }
    bytes
}

/// A table under construction.
struct Csv(csv::Writer<Vec<u8>>);

impl Csv {
    fn new(head: &[&str]) -> Self {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(head).expect(IN_MEMORY);
        Self(writer)
    }

    fn row<const N: usize>(&mut self, fields: [&str; N]) {
        self.0.write_record(fields).expect(IN_MEMORY);
    }

    fn finish(self) -> Vec<u8> {
        self.0.into_inner().expect(IN_MEMORY)
    }
}

const IN_MEMORY: &str = "writing rows of equal length into memory cannot fail";

/// The shortest text that reads back as the same number.
fn exact(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude != 0.0 && !(1e-5..1e16).contains(&magnitude) && number.is_finite() {
        format!("{number:e}")
    } else {
        number.to_string()
    }
}

/// Seven significant digits, without trailing zeros.
fn seven(number: f64) -> String {
    exact(format!("{number:.6e}").parse().expect("a formatted number reads back"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back() {
        assert_eq!(exact(0.1), "0.1");
        assert_eq!(exact(1e-9), "1e-9");
        assert_eq!(exact(f64::INFINITY), "inf");
        assert_eq!(seven(1.0 / 3.0), "0.3333333");
        assert_eq!(seven(36.0), "36");
        assert_eq!(seven(0.0), "0");
    }
}
