//! What predictive scalers expected, in front of what came.

use serde_json::Value;

use super::axis::Axis;
use super::load::{LOAD, LOAD_OPACITY};
use super::picture::{Arrangement, Layer, LegendEntry, Panel, Picture, Weight};
use super::{Style, caption, extent, marks, shortened};
use crate::lab::outcome::StudyOutcome;
use crate::report::quantity;

pub(super) const READING: &str = "Grey is what the scaler measured, as late as it measured it; the line is what it had expected for that moment, the band \
     reaches up to what it provided for. Where the line lags behind grey, the forecast was no better than looking at the present: each panel says how \
     far both were off.";

/// Panels beyond this many would be too much to compare.
const MOST_PANELS: usize = 4;

pub(super) fn picture(outcome: &StudyOutcome) -> Option<Picture> {
    let mut panels = Vec::new();
    let mut legend = Vec::new();
    for (position, strategy) in outcome.strategies.iter().enumerate() {
        let Some(first) = strategy.replications.first() else { continue };
        for history in histories(&first.decisions) {
            let name = format!("{} · {}", strategy.name, history.subject);
            panels.push(panel(outcome, &name, &history, Style::of(position)));
        }
        if panels.len() > legend.len() {
            legend.push(LegendEntry::Line(shortened(&strategy.name), Style::of(position), Weight::Heavy));
        }
    }
    if panels.is_empty() {
        return None;
    }
    let left_out = panels.len().saturating_sub(MOST_PANELS);
    panels.truncate(MOST_PANELS);
    legend.push(LegendEntry::Text(String::new()));
    legend.push(LegendEntry::Patch("measured".to_owned(), LOAD, LOAD_OPACITY));
    legend.push(LegendEntry::Line("forecast".to_owned(), Style::neutral(), Weight::Heavy));
    let words = match left_out {
        0 => "Lines: the first replication.".to_owned(),
        n => format!("Lines: the first replication. Forecasts not shown, in decisions.jsonl: {n}."),
    };
    Some(Picture {
        title: "Did the forecast come true?".to_owned(),
        subtitle: format!("{} · forecasts at the moment they were made for", outcome.manifest.title),
        caption: caption(outcome, &words),
        panels,
        legend,
        marks: marks::marks(outcome),
        arrangement: Arrangement::Stacked,
    })
}

/// What one scaler measured and expected.
struct History {
    subject: String,
    metric: String,
    horizon_s: f64,
    /// (when, value).
    measured: Vec<(f64, f64)>,
    /// (for when, expected, provided for).
    expected: Vec<(f64, f64, f64)>,
}

fn histories(decisions: &[Value]) -> Vec<History> {
    let mut found: Vec<History> = Vec::new();
    for decision in decisions {
        let step = |what: &str| decision["steps"].as_array()?.iter().find(|step| step[0] == what);
        let figure = |what: &str| step(what)?[1].as_f64();
        let figures = (|| {
            Some((figure("measured")?, figure("horizon-s")?, figure("forecast")?, figure("forecast-high")?))
        })();
        let Some((measured, horizon_s, mean, high)) = figures else { continue };
        let metric = step("measured").and_then(|step| step[2].as_str()).unwrap_or("metric");
        let (Some(subject), Some(t_s)) = (decision["subject"].as_str(), decision["t_s"].as_f64()) else {
            continue;
        };
        if !found.iter().any(|history| history.subject == subject) {
            let (subject, metric) = (subject.to_owned(), metric.to_owned());
            found.push(History { subject, metric, horizon_s, measured: Vec::new(), expected: Vec::new() });
        }
        let history = found.iter_mut().find(|history| history.subject == subject);
        if let Some(history) = history {
            history.measured.push((t_s, measured));
            history.expected.push((t_s + horizon_s, mean, high));
        }
    }
    found
}

/// Mean absolute error of the forecasts, and of taking the value they were made from, over the mean of the values.
fn errors(history: &History) -> Option<(f64, f64)> {
    let (mut of_forecast, mut of_present, mut sum, mut count) = (0.0, 0.0, 0.0, 0_u32);
    for ((_, present), &(at, mean, _)) in history.measured.iter().zip(&history.expected) {
        let later = history.measured.iter().find(|(t_s, _)| (t_s - at).abs() < 1e-6);
        if let Some((_, value)) = later {
            of_forecast += (mean - value).abs();
            of_present += (present - value).abs();
            sum += value;
            count += 1;
        }
    }
    (count > 0 && sum > 0.0).then(|| (of_forecast / sum, of_present / sum))
}

fn panel(outcome: &StudyOutcome, name: &str, history: &History, style: Style) -> Panel {
    let end = outcome.manifest.duration_s;
    let expected = || history.expected.iter().filter(|(t_s, ..)| *t_s <= end);
    let backdrop: Vec<_> = history.measured.clone();
    let seen = backdrop.iter().map(|&(_, value)| value).chain(expected().map(|&(_, _, high)| high));
    let highest = extent(seen.chain([0.0]));
    let off = errors(history).map_or_else(String::new, |(forecast, present)| {
        format!(", off by {:.1} % (the present value: {:.1} %)", forecast * 100.0, present * 100.0)
    });
    Panel {
        title: format!("{}, {} ahead{off}", shortened(name), quantity::span(history.horizon_s)),
        x: Axis::time(end),
        y: Axis::linear(&history.metric, highest, 5, quantity::si).padded(),
        right: Some(Axis::linear("", highest, 5, quantity::si).padded()),
        height: 190,
        layers: vec![
            Layer::Backdrop { points: backdrop, colour: LOAD, opacity: LOAD_OPACITY },
            Layer::Band { points: expected().copied().collect(), colour: style.rgb, opacity: 0.25 },
            Layer::Line {
                points: expected().map(|&(t_s, mean, _)| (t_s, mean)).collect(),
                style,
                weight: Weight::Heavy,
            },
        ],
    }
}
