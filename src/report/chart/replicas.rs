//! Replicas, wanted and ready, in front of the load; one panel per service.

use super::axis::Axis;
use super::load::{LOAD, LOAD_OPACITY};
use super::picture::{Arrangement, Layer, LegendEntry, Panel, Picture, Weight};
use super::{CurveLayers, Style, caption, extent, marks, strategy_legend, window};
use crate::lab::outcome::StudyOutcome;
use crate::report::curves::Bands;
use crate::report::quantity;

pub(super) const READING: &str = "The strong line counts the instances that are ready, the thin one those that the control loop wants; the room between \
     them is start-up time or lack of nodes. Grey is the offered load, on the right-hand axis. Services whose replicas move most come first.";

/// Panels beyond this many would only repeat flat lines.
const MOST_PANELS: usize = 4;

pub(super) fn picture(outcome: &StudyOutcome) -> Option<Picture> {
    let services = services(outcome);
    if services.is_empty() {
        return None;
    }
    let load = outcome.strategies.first().and_then(|strategy| Bands::of(strategy, "run", "", "offered_rps"));
    let panels = services.iter().take(MOST_PANELS).map(|(service, _)| panel(outcome, service, load.as_ref()));
    let mut legend = strategy_legend(outcome);
    legend.push(LegendEntry::Text(String::new()));
    legend.push(LegendEntry::Line("ready".to_owned(), Style::neutral(), Weight::Heavy));
    legend.push(LegendEntry::Line("wanted".to_owned(), Style::neutral(), Weight::Light));
    if load.is_some() {
        legend.push(LegendEntry::Patch("offered load".to_owned(), LOAD, LOAD_OPACITY));
    }
    let left_out = services.len().saturating_sub(MOST_PANELS);
    let words = match left_out {
        0 => "Lines: median of the replications.".to_owned(),
        n => format!(
            "Lines: median of the replications. {n} more services, which move less, are in timeline.csv."
        ),
    };
    Some(Picture {
        title: "Did capacity follow the load?".to_owned(),
        subtitle: format!(
            "{} · replicas per service, windows of {}",
            outcome.manifest.title,
            window(outcome)
        ),
        caption: caption(outcome, &words),
        panels: panels.collect(),
        legend,
        marks: marks::marks(outcome),
        arrangement: Arrangement::Stacked,
    })
}

fn panel(outcome: &StudyOutcome, service: &str, load: Option<&Bands>) -> Panel {
    let mut layers = CurveLayers::new(outcome);
    let mut seen = vec![0.0];
    for (metric, weight) in [("replicas_wanted", Weight::Light), ("replicas_ready", Weight::Heavy)] {
        for (position, strategy) in outcome.strategies.iter().enumerate() {
            let Some(bands) = Bands::of(strategy, "service", service, metric) else { continue };
            let points: Vec<_> = bands.points().map(|(t, band)| (t, band.median)).collect();
            seen.extend(points.iter().map(|&(_, replicas)| replicas));
            layers.lines.push(Layer::Line { points, style: Style::of(position), weight });
        }
    }
    let mut stacked = Vec::new();
    let right = load.map(|load| {
        let points: Vec<_> = load.points().map(|(t, band)| (t, band.median)).collect();
        let highest = extent(points.iter().map(|&(_, rate)| rate).chain([0.0]));
        stacked.push(Layer::Backdrop { points, colour: LOAD, opacity: LOAD_OPACITY });
        Axis::linear("offered", highest, 4, quantity::per_second)
    });
    stacked.extend(layers.stacked());
    let (_, most) = extent(seen.into_iter());
    Panel {
        title: service.to_owned(),
        x: Axis::time(outcome.manifest.duration_s),
        // A little room above, so that a line at the maximum is not the frame; never a fraction of a replica.
        y: Axis::linear("replicas", (0.0, (most * 1.1).max(4.0)), 5, quantity::si),
        right,
        height: 190,
        layers: stacked,
    }
}

/// Services with curves of replicas and how much these move, the liveliest first, ties in file order.
fn services(outcome: &StudyOutcome) -> Vec<(String, f64)> {
    let mut services: Vec<(String, f64)> = Vec::new();
    for series in
        outcome.strategies.iter().filter_map(|s| s.replications.first()).flat_map(|run| &run.timeline.series)
    {
        if series.scope != "service" || series.metric != "replicas_ready" {
            continue;
        }
        let (lo, hi) = extent(series.values.iter().copied());
        match services.iter_mut().find(|(name, _)| *name == series.name) {
            Some((_, spread)) => *spread = spread.max(hi - lo),
            None => services.push((series.name.clone(), hi - lo)),
        }
    }
    services.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let moving = services.iter().filter(|(_, spread)| *spread > 0.0).count();
    services.truncate(moving.max(1));
    services
}
