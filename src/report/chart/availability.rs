//! Availability over time, with what happened to the system.

use super::axis::Axis;
use super::picture::{Arrangement, Panel, Picture, Weight};
use super::{CurveLayers, Style, band_words, caption, extent, marks, strategy_legend, window};
use crate::lab::outcome::StudyOutcome;
use crate::report::curves::{Bands, Focus};

pub(super) const READING: &str = "Share of the requests of each window that got a correct answer within the client's deadline. Shaded spans are faults \
     and rollouts; a strategy that holds is flat through them, one that recovers comes back soon after their end.";

pub(super) fn picture(outcome: &StudyOutcome) -> Option<Picture> {
    let focus = Focus::of(outcome);
    let (scope, name) = focus.scope();
    let mut layers = CurveLayers::new(outcome);
    let mut seen = Vec::new();
    for (position, strategy) in outcome.strategies.iter().enumerate() {
        let Some(bands) = Bands::of(strategy, scope, name, "availability") else { continue };
        seen.extend(bands.windows.iter().map(|band| band.low));
        layers.push(&bands, strategy.replications.len(), Style::of(position), Weight::Heavy);
    }
    if layers.is_empty() {
        return None;
    }
    let (lowest, _) = extent(seen.into_iter());
    let from = if lowest.is_finite() { lowest } else { 0.0 };
    Some(Picture {
        title: "Which share of the requests got a good answer, and when?".to_owned(),
        subtitle: format!(
            "{} · availability per window of {}",
            focus.subject(&outcome.manifest.title),
            window(outcome)
        ),
        caption: caption(outcome, band_words(outcome)),
        panels: vec![Panel {
            title: String::new(),
            x: Axis::time(outcome.manifest.duration_s),
            y: Axis::share("availability (good answers / requests offered)", from),
            right: None,
            height: 400,
            layers: layers.stacked(),
        }],
        legend: strategy_legend(outcome),
        marks: marks::marks(outcome),
        arrangement: Arrangement::Stacked,
    })
}
