//! `report.html`: one self-contained file that opens offline. Its policy forbids every load from anywhere; what it needs
//! is inside.

use std::collections::BTreeSet;

use minijinja::{Environment, Value, context};

use super::chart::{self, Chart};
use super::quantity::{self, Unit};
use super::summary::{finding_word, hex, verdict_word};
use super::terminal;
use crate::lab::outcome::{Replication, StrategyOutcome, StudyOutcome};

/// Rows of an events table in the report; `events.csv` has them all.
const MOST_EVENTS: usize = 200;

/// The report, with these charts inside.
pub fn report_html(outcome: &StudyOutcome, charts: &[Chart]) -> Vec<u8> {
    let mut environment = Environment::new();
    environment.add_template("report.html", include_str!("template.html")).expect(TEMPLATE);
    let template = environment.get_template("report.html").expect(TEMPLATE);
    let manifest = &outcome.manifest;
    let mut html = template
        .render(context! {
            scenario => manifest.scenario.as_str(),
            title => manifest.title.as_str(),
            note => manifest.note.as_deref(),
            basis => terminal::basis(outcome),
            partial => terminal::partial_note(outcome),
            verdict => outcome.verdict.replace(BACKTICK, ""),
            baseline => manifest.baseline.as_str(),
            failed => outcome.thresholds.iter().filter(|threshold| threshold.failed).count(),
            summary => summary_table(outcome),
            comparisons => comparisons(outcome),
            thresholds => thresholds(outcome),
            bistable => bistable(outcome),
            warnings => list(outcome.warnings.iter().map(|warning| Value::from(warning.replace(BACKTICK, "")))),
            charts => list(charts.iter().map(|chart| context! {
                slug => chart.slug, title => chart.title.as_str(), reading => chart.reading, svg => chart.svg.as_str(),
            })),
            events => events(outcome),
            metrics => metrics_table(outcome),
            text => manifest.text.as_str(),
            manifest => facts(outcome),
        })
        .expect(TEMPLATE);
    if !html.ends_with('\n') {
        html.push('\n');
    }
    html.into_bytes()
}

/// Strategies by the metrics that matter.
fn summary_table(outcome: &StudyOutcome) -> Value {
    let columns = terminal::columns(outcome);
    let rows = outcome.strategies.iter().enumerate().map(|(position, strategy)| {
        let cells = columns.iter().map(|(metric, _)| {
            context! { text => terminal::cell(strategy, metric), sort => sort_key(strategy, metric) }
        });
        context! {
            name => strategy.name.as_str(),
            title => strategy.title.as_str(),
            colour => chart::colour_of(position),
            cells => list(cells),
        }
    });
    context! { heads => list(columns.iter().map(|(_, head)| Value::from(head.as_str()))), rows => list(rows) }
}

/// Every metric of every strategy, metrics as rows.
fn metrics_table(outcome: &StudyOutcome) -> Value {
    let names: BTreeSet<&String> =
        outcome.strategies.iter().flat_map(|strategy| strategy.metrics.keys()).collect();
    // Metrics of the whole run stand before those of single services.
    let (of_parts, of_run): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.contains('.'));
    let rows = of_run.into_iter().chain(of_parts).map(|metric| {
        let cells = outcome.strategies.iter().map(|strategy| Value::from(terminal::cell(strategy, metric)));
        context! { metric => metric.as_str(), unit => Unit::of(metric).sign(), cells => list(cells) }
    });
    context! {
        heads => list(outcome.strategies.iter().map(|strategy| Value::from(strategy.name.as_str()))),
        rows => list(rows),
    }
}

fn comparisons(outcome: &StudyOutcome) -> Value {
    list(outcome.comparisons.iter().map(|comparison| {
        let difference = comparison.differences.get(&comparison.primary).map(|found| {
            format!(
                "{} {}",
                quantity::difference(&comparison.primary, found),
                Unit::of(&comparison.primary).difference_sign()
            )
        });
        context! {
            strategy => comparison.strategy.as_str(),
            finding => finding_word(comparison.finding),
            primary => comparison.primary.as_str(),
            difference => difference,
            p => comparison.p_holm.map(p_value),
            words => comparison.words.replace(BACKTICK, ""),
        }
    }))
}

fn thresholds(outcome: &StudyOutcome) -> Value {
    list(outcome.thresholds.iter().map(|threshold| {
        context! {
            text => threshold.text.as_str(),
            strategy => threshold.strategy.as_str(),
            found => terminal::found(threshold),
            verdict => verdict_word(threshold.verdict),
            failed => threshold.failed,
        }
    }))
}

fn bistable(outcome: &StudyOutcome) -> Value {
    list(outcome.strategies.iter().flat_map(|strategy| {
        strategy.bistable.iter().map(|found| Value::from(terminal::bistable_sentence(&strategy.name, found)))
    }))
}

/// The first replication's log of every strategy.
fn events(outcome: &StudyOutcome) -> Value {
    list(
        outcome
            .strategies
            .iter()
            .filter_map(|strategy| Some((strategy, strategy.replications.first()?)))
            .map(|(strategy, run): (&StrategyOutcome, &Replication)| {
                let rows = run.events_log.iter().take(MOST_EVENTS).map(|event| {
                    context! {
                        at => quantity::clock_seconds(event.t_s),
                        kind => event.kind.replace('_', " "),
                        subject => event.subject.as_str(),
                        detail => event.detail.as_str(),
                    }
                });
                context! {
                    strategy => strategy.name.as_str(),
                    replication => run.index,
                    rows => list(rows),
                    left_out => run.events_log.len().saturating_sub(MOST_EVENTS),
                }
            }),
    )
}

/// The manifest as label and value.
fn facts(outcome: &StudyOutcome) -> Value {
    let manifest = &outcome.manifest;
    let runs = || outcome.strategies.iter().flat_map(|strategy| &strategy.replications);
    let total = |count: fn(&Replication) -> u64| quantity::grouped(runs().map(count).sum());
    let facts = [
        ("simlab", manifest.simlab.clone()),
        ("scenario file", manifest.path.clone()),
        ("hash of everything read", hex(manifest.hash)),
        ("seed", manifest.seed.to_string()),
        ("replications", manifest.replications.to_string()),
        ("warm-up", quantity::span(manifest.warm_up_s)),
        ("duration", quantity::span(manifest.duration_s)),
        ("primary metric", manifest.primary.clone()),
        ("baseline", manifest.baseline.clone()),
        ("requests simulated", total(|run| run.requests)),
        ("attempts delivered", total(|run| run.hops)),
        ("events handled", total(|run| run.events)),
    ];
    list(facts.into_iter().map(|(label, value)| context! { label => label, value => value }))
}

/// What the table sorts by; absent metrics go last.
fn sort_key(strategy: &StrategyOutcome, metric: &str) -> String {
    strategy.metrics.get(metric).map_or_else(|| "none".to_owned(), |found| found.mean.to_string())
}

/// p values below a thousandth are only known to be small.
fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

fn list(items: impl Iterator<Item = Value>) -> Value {
    items.collect::<Vec<_>>().into()
}

const TEMPLATE: &str = "the template is part of the program and rendered by a test";

/// Sets names off from words on a terminal; on a page it only looks odd.
const BACKTICK: char = '`';
