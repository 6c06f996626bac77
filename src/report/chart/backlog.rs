//! Messages that somebody has not done with, and participants in doubt with those who wait for their rows; a panel for each topic and
//! transaction.

use super::axis::Axis;
use super::picture::{Arrangement, Layer, LegendEntry, Panel, Picture, Weight};
use super::{CurveLayers, Style, caption, extent, marks, strategy_legend, window};
use crate::lab::outcome::StudyOutcome;
use crate::report::curves::Bands;
use crate::report::quantity;

pub(super) const READING: &str = "A line that stays up is work that nobody does: messages that wait for their consumers, or are held back. In the panel of a \
     transaction the strong line counts participants that have said yes and do not know how it ends, the thin one those who wait for \
     what they have locked.";

/// Topics and transactions beyond this many are left to timeline.csv.
const MOST_PANELS: usize = 4;

/// How strong a curve is drawn, and its metric.
type Curve = (Weight, &'static str);

const OF_TOPICS: &[Curve] = &[(Weight::Heavy, "backlog")];
const OF_TRANSACTIONS: &[Curve] = &[(Weight::Light, "waiting_for_rows"), (Weight::Heavy, "in_doubt")];

pub(super) fn picture(outcome: &StudyOutcome) -> Option<Picture> {
    let topics = named(outcome, "topic", "backlog");
    let transactions = named(outcome, "transaction", "in_doubt");
    if topics.is_empty() && transactions.is_empty() {
        return None;
    }
    let of_topics = topics.iter().map(|name| panel(outcome, "topic", name, "messages", OF_TOPICS));
    let of_transactions =
        transactions.iter().map(|name| panel(outcome, "transaction", name, "participants", OF_TRANSACTIONS));
    let panels: Vec<Panel> = of_topics.chain(of_transactions).take(MOST_PANELS).collect();
    let mut legend = strategy_legend(outcome);
    if !transactions.is_empty() {
        legend.push(LegendEntry::Text(String::new()));
        legend.push(LegendEntry::Line("in doubt".to_owned(), Style::neutral(), Weight::Heavy));
        legend.push(LegendEntry::Line("waiting for rows".to_owned(), Style::neutral(), Weight::Light));
    }
    let words = match (topics.len() + transactions.len()).saturating_sub(MOST_PANELS) {
        0 => "Lines: median of the replications.".to_owned(),
        n => format!("Lines: median of the replications. {n} more are in timeline.csv."),
    };
    Some(Picture {
        title: "What had to wait?".to_owned(),
        subtitle: format!("{} · at the end of windows of {}", outcome.manifest.title, window(outcome)),
        caption: caption(outcome, &words),
        panels,
        legend,
        marks: marks::marks(outcome),
        arrangement: Arrangement::Stacked,
    })
}

fn panel(outcome: &StudyOutcome, scope: &str, name: &str, what: &'static str, curves: &[Curve]) -> Panel {
    let mut layers = CurveLayers::new(outcome);
    let mut most = 0.0_f64;
    for (weight, metric) in curves {
        for (position, strategy) in outcome.strategies.iter().enumerate() {
            let Some(bands) = Bands::of(strategy, scope, name, metric) else { continue };
            let points: Vec<(f64, f64)> = bands.points().map(|(t, band)| (t, band.median)).collect();
            most = extent(points.iter().map(|&(_, count)| count).chain([most])).1;
            layers.lines.push(Layer::Line { points, style: Style::of(position), weight: *weight });
        }
    }
    Panel {
        title: format!("{scope} {name}"),
        x: Axis::time(outcome.manifest.duration_s),
        y: Axis::linear(what, (0.0, (most * 1.1).max(4.0)), 5, quantity::si),
        right: None,
        height: 170,
        layers: layers.stacked(),
    }
}

/// Names within a scope that have a curve of this metric, in file order.
fn named(outcome: &StudyOutcome, scope: &str, metric: &str) -> Vec<String> {
    let first = outcome.strategies.first().and_then(|strategy| strategy.replications.first());
    let series = first.into_iter().flat_map(|run| &run.timeline.series);
    let wanted = series.filter(|series| series.scope == scope && series.metric == metric);
    wanted.map(|series| series.name.clone()).collect()
}
