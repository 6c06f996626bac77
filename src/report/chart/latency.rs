//! Latency percentiles over time, all strategies on one axis.

use super::axis::Axis;
use super::picture::{Arrangement, LegendEntry, Panel, Picture, Weight};
use super::{CurveLayers, Style, band_words, caption, extent, marks, strategy_legend, window};
use crate::lab::outcome::StudyOutcome;
use crate::report::curves::{Bands, Focus};

pub(super) const READING: &str = "Each strategy has one colour and dash: the strong line is the p99, the thin one the p50 of the good answers of each \
     window, measured from the moment the request was meant to be sent. The axis is logarithmic: equal steps are equal factors. \
     A gap is a window without a good answer.";

pub(super) fn picture(outcome: &StudyOutcome) -> Option<Picture> {
    let focus = Focus::of(outcome);
    let (scope, name) = focus.scope();
    let mut layers = CurveLayers::new(outcome);
    let mut seen = Vec::new();
    for (metric, weight) in [("latency_p50_ms", Weight::Light), ("latency_p99_ms", Weight::Heavy)] {
        for (position, strategy) in outcome.strategies.iter().enumerate() {
            let Some(bands) = Bands::of(strategy, scope, name, metric) else { continue };
            seen.extend(bands.windows.iter().flat_map(|band| [band.low, band.high]).filter(|&ms| ms > 0.0));
            layers.push(&bands, strategy.replications.len(), Style::of(position), weight);
        }
    }
    if layers.is_empty() {
        return None;
    }
    let mut legend = strategy_legend(outcome);
    let grey = Style::neutral();
    legend.push(LegendEntry::Text(String::new()));
    legend.push(LegendEntry::Line("p99".to_owned(), grey, Weight::Heavy));
    legend.push(LegendEntry::Line("p50".to_owned(), grey, Weight::Light));
    Some(Picture {
        title: "How long did good answers take, and when?".to_owned(),
        subtitle: format!(
            "{} · p99 and p50 per window of {}",
            focus.subject(&outcome.manifest.title),
            window(outcome)
        ),
        caption: caption(outcome, band_words(outcome)),
        panels: vec![Panel {
            title: String::new(),
            x: Axis::time(outcome.manifest.duration_s),
            y: Axis::latency("latency of good answers (log scale)", extent(seen.into_iter())),
            right: None,
            height: 430,
            layers: layers.stacked(),
        }],
        legend,
        marks: marks::marks(outcome),
        arrangement: Arrangement::Stacked,
    })
}
