//! Latency by percentile, the tail stretched.

use super::axis::Axis;
use super::picture::{Arrangement, Layer, Panel, Picture, Weight};
use super::{CurveLayers, Style, band_words, caption, extent, strategy_legend};
use crate::lab::outcome::StudyOutcome;
use crate::report::curves::{Focus, percentiles};

pub(super) const READING: &str = "Read from the bottom up: at 99 % stands the latency that 99 of 100 good answers kept. Each further nine takes equal \
     room, so the slowest answers are not squeezed into the edge. A curve ends where fewer than ten answers lie beyond.";

pub(super) fn picture(outcome: &StudyOutcome) -> Option<Picture> {
    let focus = Focus::of(outcome);
    let (scope, name) = focus.scope();
    let mut layers = CurveLayers::new(outcome);
    let (mut seen, mut last) = (Vec::new(), 0.0f64);
    for (position, strategy) in outcome.strategies.iter().enumerate() {
        let curve = percentiles(strategy, scope, name);
        if curve.is_empty() {
            continue;
        }
        let style = Style::of(position);
        let share = |percentile: f64| percentile / 100.0;
        seen.extend(curve.iter().flat_map(|(_, band)| [band.low, band.high]).filter(|&ms| ms > 0.0));
        last = curve.iter().map(|&(p, _)| share(p)).fold(last, f64::max);
        if strategy.replications.len() > 1 {
            let points = curve.iter().map(|&(p, band)| (share(p), band.low, band.high)).collect();
            layers.band(points, style, Weight::Heavy);
        }
        let points = curve.iter().map(|&(p, band)| (share(p), band.median)).collect();
        layers.lines.push(Layer::Line { points, style, weight: Weight::Heavy });
    }
    if layers.is_empty() {
        return None;
    }
    Some(Picture {
        title: "How slow are the slowest answers?".to_owned(),
        subtitle: format!(
            "{} · latency of good answers by percentile, whole counted part",
            focus.subject(&outcome.manifest.title)
        ),
        caption: caption(outcome, band_words(outcome)),
        panels: vec![Panel {
            title: String::new(),
            x: Axis::tail(
                "share of good answers that are at least as fast (each nine takes equal room)",
                last.min(0.99999),
            ),
            y: Axis::latency("latency of good answers (log scale)", extent(seen.into_iter())),
            right: None,
            height: 430,
            layers: layers.stacked(),
        }],
        legend: strategy_legend(outcome),
        marks: Vec::new(),
        arrangement: Arrangement::Stacked,
    })
}
