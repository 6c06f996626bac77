//! The summary on stdout: strategies as rows, the metrics that matter as columns, thresholds, and the verdict as the
//! last line. The same outcome gives the same bytes; colour is the caller's choice.

use std::fmt::Write as _;

use super::quantity::{self, Unit};
use crate::lab::outcome::{Bistable, Finding, StrategyOutcome, StudyOutcome, ThresholdOutcome, Verdict};

/// Metrics of the summary table, in order, with their heads; the primary metric comes first whatever it is.
const COLUMNS: &[(&str, &str)] = &[
    ("availability", "availability"),
    ("latency_p50_ms", "p50"),
    ("latency_p99_ms", "p99"),
    ("goodput_rps", "goodput"),
    ("rejected_ratio", "rejected"),
    ("amplification", "amplification"),
    ("recovery_time_s", "recovery"),
    ("version_inconsistent_requests", "inconsistent"),
    ("cost", "cost"),
    ("instance_hours", "instances"),
];

/// The whole text, ending with the verdict and a line end.
pub fn summary(outcome: &StudyOutcome, colour: bool) -> String {
    let paint = Paint { colour };
    let mut text = String::new();
    head(&mut text, outcome, paint);
    table(&mut text, outcome, paint);
    bistable(&mut text, outcome);
    comparisons(&mut text, outcome, paint);
    thresholds(&mut text, outcome, paint);
    text.push('\n');
    text.push_str(&verdict(outcome, colour));
    text
}

/// The verdict alone, one line.
pub fn verdict(outcome: &StudyOutcome, colour: bool) -> String {
    format!("{}\n", Paint { colour }.bold(&outcome.verdict))
}

/// Names of the metrics shown in the summary table: those that some strategy has and that are not zero everywhere.
pub(super) fn columns(outcome: &StudyOutcome) -> Vec<(String, String)> {
    let primary = outcome.manifest.primary.as_str();
    let words = Unit::words(primary);
    let primary_head =
        COLUMNS.iter().find(|(metric, _)| *metric == primary).map_or(words.as_str(), |(_, head)| head);
    let has_cost = outcome.strategies.iter().any(|strategy| strategy.metrics.contains_key("cost"));
    std::iter::once((primary, primary_head))
        .chain(COLUMNS.iter().copied().filter(|(metric, _)| *metric != primary))
        .filter(|&(metric, _)| !(metric == "instance_hours" && has_cost))
        .filter(|&(metric, _)| {
            outcome.strategies.iter().any(|strategy| {
                strategy.metrics.get(metric).is_some_and(|found| metric == primary || found.mean != 0.0)
                    || two_states(strategy, metric).is_some()
            })
        })
        .map(|(metric, head)| {
            let sign = Unit::of(metric).sign();
            let head = if sign.is_empty() { head.to_owned() } else { format!("{head}, {sign}") };
            (metric.to_owned(), head)
        })
        .collect()
}

/// The cell of one metric: an estimate, `two states` where a mean would describe no run at all, or `-`.
pub(super) fn cell(strategy: &StrategyOutcome, metric: &str) -> String {
    if let Some(found) = two_states(strategy, metric) {
        return format!("{} of {} bad", found.bad.0, found.bad.1);
    }
    strategy.metrics.get(metric).map_or_else(|| "-".to_owned(), |found| quantity::estimate(metric, found))
}

/// A bistable metric in one sentence.
pub(super) fn bistable_sentence(strategy: &str, found: &Bistable) -> String {
    let Bistable { metric, bad, interval, centres } = found;
    let sign = Unit::of(metric).sign();
    let centre = |value: f64| format!("{} {sign}", quantity::value(metric, value)).trim_end().to_owned();
    format!(
        "{strategy}: {metric} has two states; {} of {} runs end near {}, the others near {} (probability of the bad state {} to {} %, 95 % interval)",
        bad.0,
        bad.1,
        centre(centres.1),
        centre(centres.0),
        quantity::short(interval.0 * 100.0),
        quantity::short(interval.1 * 100.0),
    )
}

/// What a threshold found, in words: `found 812 ± 41 ms`.
pub(super) fn found(threshold: &ThresholdOutcome) -> String {
    let Some(found) = &threshold.estimate else { return "the metric does not apply".to_owned() };
    let metric = metric_of(&threshold.text);
    let unit = Unit::of(&metric);
    format!("found {} {}", quantity::estimate(&metric, found), unit.sign()).trim_end().to_owned()
}

/// Result files are marked so that nobody takes an interrupted study for a whole one.
pub(super) fn partial_note(outcome: &StudyOutcome) -> Option<String> {
    let finished: usize = outcome.strategies.iter().map(|strategy| strategy.replications.len()).sum();
    let asked = outcome.strategies.len() * outcome.manifest.replications as usize;
    outcome.manifest.partial.then(|| format!("PARTIAL: interrupted; {finished} of {asked} runs finished"))
}

/// What the figures stand on: replications, seed, counted part.
pub(super) fn basis(outcome: &StudyOutcome) -> String {
    let manifest = &outcome.manifest;
    let replications = match manifest.replications {
        1 => "1 replication (no intervals)".to_owned(),
        n => format!("{n} replications"),
    };
    let (from, to) = (quantity::span(manifest.warm_up_s), quantity::span(manifest.duration_s));
    format!("{replications}, seed {}, counted from {from} to {to}", manifest.seed)
}

pub(super) fn head(text: &mut String, outcome: &StudyOutcome, paint: Paint) {
    let manifest = &outcome.manifest;
    let title = if manifest.title == manifest.scenario {
        manifest.scenario.clone()
    } else {
        format!("{}: {}", manifest.scenario, manifest.title)
    };
    line(text, &paint.bold(&title));
    line(text, &basis(outcome));
    if let Some(note) = &manifest.note {
        line(text, note);
    }
    if let Some(note) = partial_note(outcome) {
        line(text, &paint.red(&note));
    }
    text.push('\n');
}

fn table(text: &mut String, outcome: &StudyOutcome, paint: Paint) {
    let columns = columns(outcome);
    let mut rows =
        vec![std::iter::once("strategy".to_owned()).chain(columns.iter().map(|c| c.1.clone())).collect()];
    for strategy in &outcome.strategies {
        let cells = columns.iter().map(|(metric, _)| cell(strategy, metric));
        rows.push(std::iter::once(strategy.name.clone()).chain(cells).collect::<Vec<_>>());
    }
    for (number, row) in aligned(&rows).into_iter().enumerate() {
        line(text, &if number == 0 { paint.bold(&row) } else { row });
    }
    if outcome.manifest.replications > 1 {
        line(text, &paint.dim("mean over replications ± half of the 95 % interval"));
    }
}

pub(super) fn bistable(text: &mut String, outcome: &StudyOutcome) {
    let mut sentences = outcome
        .strategies
        .iter()
        .flat_map(|strategy| strategy.bistable.iter().map(|found| bistable_sentence(&strategy.name, found)))
        .peekable();
    if sentences.peek().is_some() {
        text.push('\n');
        sentences.for_each(|sentence| line(text, &sentence));
    }
}

pub(super) fn comparisons(text: &mut String, outcome: &StudyOutcome, paint: Paint) {
    if outcome.comparisons.is_empty() {
        return;
    }
    line(text, "");
    line(
        text,
        &paint.bold(&format!("against {} (paired, on the same random numbers)", outcome.manifest.baseline)),
    );
    let width = outcome.comparisons.iter().map(|c| c.strategy.chars().count()).max().unwrap_or(0);
    for comparison in &outcome.comparisons {
        let words = match comparison.finding {
            Finding::Better => paint.green(&comparison.words),
            Finding::Worse => paint.red(&comparison.words),
            Finding::NotShown => comparison.words.clone(),
        };
        line(text, &format!("  {:<width$}  {words}", comparison.strategy));
    }
}

fn thresholds(text: &mut String, outcome: &StudyOutcome, paint: Paint) {
    if outcome.thresholds.is_empty() {
        return;
    }
    line(text, "");
    line(text, &paint.bold("thresholds"));
    for threshold in &outcome.thresholds {
        let mark = match threshold.verdict {
            Verdict::Pass => paint.green("✓"),
            Verdict::Fail => paint.red("✗"),
            Verdict::Inconclusive if threshold.failed => paint.red("?"),
            Verdict::Inconclusive => paint.dim("?"),
        };
        let doubt = match (threshold.verdict, threshold.failed) {
            (Verdict::Inconclusive, true) => "; inconclusive, which fails here",
            (Verdict::Inconclusive, false) => "; inconclusive, which is allowed here",
            _ => "",
        };
        line(
            text,
            &format!("  {mark} {}  {}: {}{doubt}", threshold.text, threshold.strategy, found(threshold)),
        );
    }
}

/// The bistable finding on `metric`, if its replications fall into two clusters.
fn two_states<'a>(strategy: &'a StrategyOutcome, metric: &str) -> Option<&'a Bistable> {
    strategy.bistable.iter().find(|found| found.metric == metric)
}

/// A threshold's text is `metric[{..}]: condition`; latencies are in ms whatever the statistic.
fn metric_of(text: &str) -> String {
    let name = text.split([':', '{']).next().unwrap_or(text).trim();
    match name.rsplit('.').next() {
        Some("latency" | "sojourn" | "wait") => format!("{name}_ms"),
        _ => name.to_owned(),
    }
}

/// First column to the left, the others to the right, two spaces between, nothing behind the last.
pub(super) fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let count = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    rows.iter()
        .map(|row| {
            let mut text = format!("{:<width$}", row[0], width = widths[0]);
            for (cell, width) in row.iter().zip(&widths).skip(1) {
                write!(text, "  {cell:>width$}").expect("writing into a string");
            }
            text
        })
        .collect()
}

pub(super) fn line(text: &mut String, content: &str) {
    text.push_str(content.trim_end());
    text.push('\n');
}

/// ANSI colours, or none.
#[derive(Clone, Copy)]
pub(super) struct Paint {
    pub(super) colour: bool,
}

impl Paint {
    pub(super) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
