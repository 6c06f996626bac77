//! Offered load against goodput over time.

use super::axis::Axis;
use super::picture::{Arrangement, Layer, LegendEntry, Panel, Picture, Weight};
use super::{CurveLayers, Style, band_words, caption, extent, marks, strategy_legend, window};
use crate::lab::outcome::StudyOutcome;
use crate::report::curves::{Bands, Focus};
use crate::report::quantity;

pub(super) const READING: &str = "Grey is what arrives, the lines are what gets a good answer. The room between them is what users lost. With open-loop \
     sources every strategy sees the same arrivals. Where users react to the system, offered load differs: by less than 5 % of its peak, that of the \
     first strategy stands for all; by more, each has its own thin line.";

pub(super) fn picture(outcome: &StudyOutcome) -> Option<Picture> {
    let focus = Focus::of(outcome);
    let (scope, name) = focus.scope();
    let mut layers = CurveLayers::new(outcome);
    let mut seen = vec![0.0];
    let offered: Vec<Option<Bands>> =
        outcome.strategies.iter().map(|strategy| Bands::of(strategy, scope, name, "offered_rps")).collect();
    let first = offered.first().and_then(Option::as_ref);
    let furthest = offered.iter().map(|bands| apart(bands.as_ref(), first)).fold(0.0, f64::max);
    let shared = furthest < NEARLY;
    for (position, strategy) in outcome.strategies.iter().enumerate() {
        let replications = strategy.replications.len();
        if let Some(bands) = &offered[position] {
            seen.extend(bands.windows.iter().map(|band| band.high));
            if !shared {
                layers.push(bands, replications, Style::of(position), Weight::Light);
            }
        }
        let Some(goodput) = Bands::of(strategy, scope, name, "goodput_rps") else { continue };
        seen.extend(goodput.windows.iter().map(|band| band.high));
        layers.push(&goodput, replications, Style::of(position), Weight::Heavy);
    }
    if layers.is_empty() {
        return None;
    }
    let mut legend = strategy_legend(outcome);
    legend.push(LegendEntry::Text(String::new()));
    let mut stacked = Vec::new();
    if let Some(bands) = first.filter(|_| shared) {
        let points = bands.points().map(|(t, band)| (t, band.median)).collect();
        stacked.push(Layer::Backdrop { points, colour: LOAD, opacity: LOAD_OPACITY });
        let exact = furthest < 1e-9;
        let label = if exact { "offered load" } else { "offered load (≈)" };
        legend.push(LegendEntry::Patch(label.to_owned(), LOAD, LOAD_OPACITY));
        legend.push(LegendEntry::Line("goodput".to_owned(), Style::neutral(), Weight::Heavy));
    } else {
        legend.push(LegendEntry::Line("goodput".to_owned(), Style::neutral(), Weight::Heavy));
        legend.push(LegendEntry::Line("offered load".to_owned(), Style::neutral(), Weight::Light));
    }
    stacked.extend(layers.stacked());
    Some(Picture {
        title: "How much of the offered load was served well?".to_owned(),
        subtitle: format!(
            "{} · mean rates per window of {}",
            focus.subject(&outcome.manifest.title),
            window(outcome)
        ),
        caption: caption(outcome, band_words(outcome)),
        panels: vec![Panel {
            title: String::new(),
            x: Axis::time(outcome.manifest.duration_s),
            y: Axis::linear("requests per second", extent(seen.into_iter()), 7, quantity::per_second)
                .padded(),
            right: None,
            height: 400,
            layers: stacked,
        }],
        legend,
        marks: marks::marks(outcome),
        arrangement: Arrangement::Stacked,
    })
}

/// How far apart the medians of two curves are at most, relative to the highest.
fn apart(a: Option<&Bands>, b: Option<&Bands>) -> f64 {
    let Some((a, b)) = a.zip(b).filter(|(a, b)| a.windows.len() == b.windows.len()) else {
        return f64::INFINITY;
    };
    let highest = extent(a.windows.iter().chain(&b.windows).map(|band| band.median)).1;
    let gaps = a.windows.iter().zip(&b.windows).map(|(a, b)| (a.median - b.median).abs());
    extent(gaps).1.max(0.0) / highest.max(f64::MIN_POSITIVE)
}

/// Users who react to the system shift its load a little; below this it is drawn once.
const NEARLY: f64 = 0.05;

/// Tint of offered load, here and behind the replicas.
pub(super) const LOAD: super::picture::Rgb = (120, 120, 120);
pub(super) const LOAD_OPACITY: f64 = 0.22;
