//! Machines, ready and on their way, above the instances that wait for one; two panels per node pool.

use super::axis::Axis;
use super::picture::{Arrangement, Layer, LegendEntry, Panel, Picture, Weight};
use super::{CurveLayers, Style, caption, extent, marks, strategy_legend, window};
use crate::lab::outcome::{StrategyOutcome, StudyOutcome};
use crate::report::curves::Bands;
use crate::report::quantity;

pub(super) const READING: &str = "The strong line counts the machines that are ready, the thin one those that have been ordered as well; the room between \
     them is the time at the cloud and the boot. The panel below counts the instances that have no machine yet.";

/// Pools beyond this many are left to timeline.csv.
const MOST_POOLS: usize = 3;

pub(super) fn picture(outcome: &StudyOutcome) -> Option<Picture> {
    let pools = pools(outcome);
    if pools.is_empty() {
        return None;
    }
    let panels = pools.iter().take(MOST_POOLS).flat_map(|pool| {
        let machines: [Curve; 2] = [
            (Weight::Light, |strategy, pool| sum(strategy, pool, &["nodes_ready", "nodes_ordered"])),
            (Weight::Heavy, |strategy, pool| sum(strategy, pool, &["nodes_ready"])),
        ];
        let waiting: [Curve; 1] =
            [(Weight::Heavy, |strategy, pool| sum(strategy, pool, &["pending_instances"]))];
        [
            panel(outcome, pool, pool.clone(), "machines", 190, &machines),
            panel(outcome, pool, "instances without a machine".to_owned(), "instances", 130, &waiting),
        ]
    });
    let mut legend = strategy_legend(outcome);
    legend.push(LegendEntry::Text(String::new()));
    legend.push(LegendEntry::Line("ready".to_owned(), Style::neutral(), Weight::Heavy));
    legend.push(LegendEntry::Line("and ordered".to_owned(), Style::neutral(), Weight::Light));
    let words = match pools.len().saturating_sub(MOST_POOLS) {
        0 => "Lines: median of the replications.".to_owned(),
        n => format!("Lines: median of the replications. {n} more pools are in timeline.csv."),
    };
    Some(Picture {
        title: "Were there machines when they were needed?".to_owned(),
        subtitle: format!(
            "{} · machines per node pool, windows of {}",
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

/// How a curve is drawn, and its points.
type Curve = (Weight, fn(&StrategyOutcome, &str) -> Vec<(f64, f64)>);

/// The sum of the medians of some curves of a pool.
fn sum(strategy: &StrategyOutcome, pool: &str, metrics: &[&str]) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for metric in metrics {
        let Some(bands) = Bands::of(strategy, "node-pool", pool, metric) else { continue };
        for (at, (t, band)) in bands.points().enumerate() {
            match points.get_mut(at) {
                Some((_, value)) => *value += band.median,
                None => points.push((t, band.median)),
            }
        }
    }
    points
}

fn panel(
    outcome: &StudyOutcome,
    pool: &str,
    title: String,
    what: &'static str,
    height: i32,
    curves: &[Curve],
) -> Panel {
    let mut layers = CurveLayers::new(outcome);
    let mut most = 0.0_f64;
    for (weight, points) in curves {
        for (position, strategy) in outcome.strategies.iter().enumerate() {
            let points = points(strategy, pool);
            most = extent(points.iter().map(|&(_, count)| count).chain([most])).1;
            layers.lines.push(Layer::Line { points, style: Style::of(position), weight: *weight });
        }
    }
    Panel {
        title,
        x: Axis::time(outcome.manifest.duration_s),
        y: Axis::linear(what, (0.0, (most * 1.1).max(4.0)), 5, quantity::si),
        right: None,
        height,
        layers: layers.stacked(),
    }
}

/// Pools with curves, in file order.
fn pools(outcome: &StudyOutcome) -> Vec<String> {
    let first = outcome.strategies.first().and_then(|strategy| strategy.replications.first());
    let series = first.into_iter().flat_map(|run| &run.timeline.series);
    let of_pools = series.filter(|series| series.scope == "node-pool" && series.metric == "nodes_ready");
    of_pools.map(|series| series.name.clone()).collect()
}
