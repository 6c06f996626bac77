//! The summary of a backtest on stdout: what was assumed, a row per policy, the verdict as the last line.

use super::quantity::Unit;
use super::terminal::{Paint, aligned, bistable, cell, comparisons, head, line, verdict};
use crate::lab::outcome::StudyOutcome;

/// Metrics of the table with their heads.
const COLUMNS: &[(&str, &str)] = &[
    ("instance_hours", "replica-hours"),
    ("cost", "cost"),
    ("under_provisioned_ratio", "too few"),
    ("saturated_ratio", "saturated"),
    ("availability", "good"),
    ("latency_p99_ms", "p99"),
    ("bad_requests", "bad requests"),
    ("error_budget_burned", "budget burned"),
    ("scaling_actions", "actions"),
];

/// The whole text. `assumptions` are sentences without a period.
pub fn summary(outcome: &StudyOutcome, assumptions: &[String], colour: bool) -> String {
    let paint = Paint { colour };
    let mut text = String::new();
    head(&mut text, outcome, paint);
    line(&mut text, &paint.bold("assumed"));
    for assumption in assumptions {
        line(&mut text, &format!("  {assumption}"));
    }
    line(&mut text, "");
    let columns: Vec<_> = COLUMNS
        .iter()
        .filter(|(metric, _)| {
            outcome.strategies.iter().any(|strategy| strategy.metrics.contains_key(*metric))
        })
        .collect();
    let titled = |(metric, head): &&(&str, &str)| match Unit::of(metric).sign() {
        "" | "h" => (*head).to_owned(),
        sign => format!("{head}, {sign}"),
    };
    let mut rows = vec![std::iter::once("policy".to_owned()).chain(columns.iter().map(titled)).collect()];
    for strategy in &outcome.strategies {
        let cells = columns.iter().map(|(metric, _)| cell(strategy, metric));
        rows.push(std::iter::once(strategy.name.clone()).chain(cells).collect::<Vec<_>>());
    }
    for (number, row) in aligned(&rows).into_iter().enumerate() {
        line(&mut text, &if number == 0 { paint.bold(&row) } else { row });
    }
    let legend = [
        "too few: share of the time in which the load needs more cores than the ready instances have",
        "saturated: share of the time in which more than 90 % of the ready cores are busy",
        "bad requests: no good answer within the deadline; budget burned: share of what the objective allows",
    ];
    for words in legend {
        line(&mut text, &paint.dim(words));
    }
    bistable(&mut text, outcome);
    comparisons(&mut text, outcome, paint);
    text.push('\n');
    text.push_str(&verdict(outcome, colour));
    text
}
