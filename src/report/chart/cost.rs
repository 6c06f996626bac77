//! Cost against p99, one point per strategy.

use super::axis::Axis;
use super::picture::{Arrangement, Layer, LegendEntry, Panel, Picture};
use super::{Style, caption, extent, shortened};
use crate::lab::outcome::{Estimate, StrategyOutcome, StudyOutcome};
use crate::report::curves::Focus;
use crate::report::quantity;

pub(super) const READING: &str = "Down and to the left is better. Markers are means with their 95 % intervals, pale dots single replications; a strategy \
     with two clusters of runs has dots only, since its mean would describe no run. Where the scenario has no prices, instance-hours \
     stand in for cost. Latency counts good answers only: compare availability as well.";

pub(super) fn picture(outcome: &StudyOutcome) -> Option<Picture> {
    let focus = Focus::of(outcome);
    let latency = focus.metric("latency_p99_ms");
    let priced = outcome.strategies.iter().any(|strategy| strategy.metrics.contains_key("cost"));
    let cost = if priced { "cost" } else { "instance_hours" };
    let (mut dots, mut points, mut legend) = (Vec::new(), Vec::new(), Vec::new());
    let (mut costs, mut latencies) = (Vec::new(), Vec::new());
    for (position, strategy) in outcome.strategies.iter().enumerate() {
        let style = Style::of(position);
        for run in &strategy.replications {
            let Some(at) = run.metrics.get(cost).copied().zip(run.metrics.get(&latency).copied()) else {
                continue;
            };
            if at.0.is_finite() && at.1.is_finite() {
                costs.push(at.0);
                latencies.push(at.1);
                dots.push(Layer::Dot { at, style });
            }
        }
        legend.push(LegendEntry::Marker(shortened(&strategy.name), style));
        let Some((spent, p99)) = mean(strategy, cost).zip(mean(strategy, &latency)) else { continue };
        costs.extend([Some(spent.mean), spent.lo, spent.hi].into_iter().flatten());
        latencies.extend([Some(p99.mean), p99.lo, p99.hi].into_iter().flatten().filter(|&ms| ms > 0.0));
        points.push(Layer::Point {
            at: (spent.mean, p99.mean),
            x_interval: spent.lo.zip(spent.hi),
            y_interval: p99.lo.zip(p99.hi),
            style,
            label: shortened(&strategy.name),
        });
    }
    if dots.is_empty() && points.is_empty() {
        return None;
    }
    let (lo, hi) = extent(costs.into_iter());
    // Strategies that cost the same should look so, not fill the axis with their rounding.
    let room = ((hi - lo) * 0.08).max(hi.abs() * 0.05);
    let title = if priced { "cost of one run (currency of the prices)" } else { "instance-hours of one run" };
    Some(Picture {
        title: "What does a low p99 cost?".to_owned(),
        subtitle: format!(
            "{} · one point per strategy, down and to the left is better",
            focus.subject(&outcome.manifest.title)
        ),
        caption: caption(outcome, "Markers: means with 95 % intervals; pale dots: single replications."),
        panels: vec![Panel {
            title: String::new(),
            x: Axis::linear(title, ((lo - room).max(0.0), hi + room), 8, quantity::short),
            y: Axis::latency("p99 latency of good answers (log scale)", extent(latencies.into_iter())),
            right: None,
            height: 400,
            layers: dots.into_iter().chain(points).collect(),
        }],
        legend,
        marks: Vec::new(),
        arrangement: Arrangement::Stacked,
    })
}

/// The mean, unless it is infinite or would lie between two clusters.
fn mean(strategy: &StrategyOutcome, metric: &str) -> Option<Estimate> {
    let split = strategy.bistable.iter().any(|found| found.metric == metric);
    strategy.metrics.get(metric).copied().filter(|found| found.mean.is_finite() && !split)
}
