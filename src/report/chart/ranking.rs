//! Who comes first: the strategies in order of the primary metric, with p99 and what it costs beside it.

use super::axis::Axis;
use super::palette::Shape;
use super::picture::{Arrangement, Layer, LegendEntry, Panel, Picture, Rgb, Weight};
use super::{Style, caption, extent, shortened};
use crate::lab::metric::{Direction, direction};
use crate::lab::outcome::{Estimate, Finding, StrategyOutcome, StudyOutcome};
use crate::report::curves::Focus;
use crate::report::quantity::{self, Unit};
use crate::stats::paired::paired;

pub(super) const READING: &str = "The best is on top. Markers are means over the replications, bars their 95 % intervals, pale dots single replications. A marker that points \
     up is shown to be better than the baseline, one that points down worse; a grey circle is not shown to differ, wherever it \
     stands. Rows on the tinted ground are not shown to be worse than the first: their order may be luck. Both are paired \
     comparisons on the same random numbers, which may tell strategies apart whose bars overlap; the first is corrected for the number \
     of strategies (Holm), the second is not.";

/// With fewer strategies the other charts say it as well.
const FEWEST: usize = 5;

const BETTER: Rgb = (0, 114, 178);
const WORSE: Rgb = (213, 94, 0);
const ALIKE: Rgb = (150, 150, 150);
const BASELINE: Rgb = (60, 60, 60);
const TINT: Rgb = (0, 158, 115);

/// A strategy and where it stands.
struct Row<'a> {
    strategy: &'a StrategyOutcome,
    found: Option<Estimate>,
    style: Style,
    /// Not shown to be worse than the first.
    leads: bool,
}

pub(super) fn picture(outcome: &StudyOutcome) -> Option<Picture> {
    let primary = outcome.manifest.primary.as_str();
    let rows = ranked(outcome, primary);
    if rows.len() < FEWEST || rows.iter().all(|row| row.found.is_none()) {
        return None;
    }
    let labels: Vec<String> = rows.iter().enumerate().map(|(at, row)| label(at, row, primary)).collect();
    let blank: Vec<String> = vec![String::new(); rows.len()];
    let mut panels = vec![panel(outcome, &rows, primary, Axis::rows(&labels))];
    let focus = Focus::of(outcome);
    let others = [Some(focus.metric("latency_p99_ms")), costs(outcome).map(str::to_owned)];
    for metric in others.into_iter().flatten().filter(|metric| *metric != primary) {
        if rows.iter().any(|row| row.strategy.metrics.contains_key(&metric)) {
            panels.push(panel(outcome, &rows, &metric, Axis::rows(&blank)));
        }
    }
    let tied = rows.iter().filter(|row| row.leads).count();
    let mut legend = vec![
        LegendEntry::Marker(format!("baseline: {}", shortened(&outcome.manifest.baseline)), look(None)),
        LegendEntry::Marker("better than it".to_owned(), look(Some(Finding::Better))),
        LegendEntry::Marker("worse than it".to_owned(), look(Some(Finding::Worse))),
        LegendEntry::Marker("not shown to differ".to_owned(), look(Some(Finding::NotShown))),
    ];
    if tied > 1 {
        legend.push(LegendEntry::Patch("not worse than the first".to_owned(), TINT, 0.13));
    }
    Some(Picture {
        title: format!("Which comes first in {}?", Unit::words(primary)),
        subtitle: format!(
            "{} · {} strategies, the best on top",
            focus.subject(&outcome.manifest.title),
            rows.len()
        ),
        caption: caption(outcome, "Markers: means with 95 % intervals; pale dots: single replications."),
        panels,
        legend,
        marks: Vec::new(),
        arrangement: Arrangement::Beside,
    })
}

/// The strategies, the best first; those without the metric last.
fn ranked<'a>(outcome: &'a StudyOutcome, primary: &str) -> Vec<Row<'a>> {
    let finding = |strategy: &StrategyOutcome| {
        let compared = outcome.comparisons.iter().find(|found| found.strategy == strategy.name);
        compared.map(|found| found.finding)
    };
    let row = |strategy: &'a StrategyOutcome| Row {
        strategy,
        found: strategy.metrics.get(primary).copied().filter(|found| found.mean.is_finite()),
        style: look(finding(strategy)),
        leads: false,
    };
    let mut rows: Vec<Row<'a>> = outcome.strategies.iter().map(row).collect();
    let up = direction(primary) == Direction::Up;
    let worth = |row: &Row<'_>| {
        let mean = row.found.map_or(f64::NAN, |found| found.mean);
        if up { -mean } else { mean }
    };
    // NaN comes last; equal ones stay in the order of the file.
    rows.sort_by(|one, two| worth(one).total_cmp(&worth(two)));
    if let Some(first) = rows.first().map(|row| row.strategy) {
        for row in &mut rows {
            row.leads = row.found.is_some() && !is_worse(row.strategy, first, primary, up);
        }
    }
    rows
}

/// Whether the paired interval of the difference lies on the bad side of zero.
fn is_worse(strategy: &StrategyOutcome, first: &StrategyOutcome, metric: &str, up: bool) -> bool {
    let difference = |(one, two): (&crate::lab::outcome::Replication, &crate::lab::outcome::Replication)| {
        Some(one.metrics.get(metric)? - two.metrics.get(metric)?)
    };
    let pairs = strategy.replications.iter().zip(&first.replications);
    let differences: Vec<f64> = pairs.filter_map(difference).collect();
    let Some((lo, hi)) = paired(&differences).and_then(|found| found.interval) else { return false };
    if up { hi < 0.0 } else { lo > 0.0 }
}

/// The marker of a finding; `None` is the baseline.
const fn look(finding: Option<Finding>) -> Style {
    match finding {
        None => Style { rgb: BASELINE, shape: Shape::Diamond },
        Some(Finding::Better) => Style { rgb: BETTER, shape: Shape::Up },
        Some(Finding::Worse) => Style { rgb: WORSE, shape: Shape::Down },
        Some(Finding::NotShown) => Style { rgb: ALIKE, shape: Shape::Circle },
    }
}

/// `3. gobreaker: 98.12 ± 0.10 %`.
fn label(at: usize, row: &Row<'_>, metric: &str) -> String {
    let name = super::picture::cut(&row.strategy.name, 26);
    let Some(found) = row.found else { return format!("{name}: –") };
    let sign = Unit::of(metric).sign();
    let gap = if sign.is_empty() { "" } else { " " };
    format!("{}. {name}: {}{gap}{sign}", at + 1, quantity::estimate(metric, &found))
}

/// What is paid: money, else work for nothing, else machines.
fn costs(outcome: &StudyOutcome) -> Option<&'static str> {
    let candidates = ["cost", "wasted_work_ratio", "instance_hours"];
    candidates.into_iter().find(|metric| {
        let means = outcome.strategies.iter().filter_map(|strategy| strategy.metrics.get(*metric));
        let (lo, hi) = extent(means.map(|found| found.mean));
        hi > lo
    })
}

/// One metric of all strategies.
fn panel(outcome: &StudyOutcome, rows: &[Row<'_>], metric: &str, y: Axis) -> Panel {
    let last = rows.len() as f64;
    let height = |at: usize| last - at as f64;
    let (mut layers, mut values) = (Vec::new(), Vec::new());
    let (mut dots, mut points) = (Vec::new(), Vec::new());
    // Beyond every axis; whatever lies outside is moved to its edge.
    let everywhere = (-f64::MAX, f64::MAX);
    let tied = rows.iter().filter(|row| row.leads).count();
    for (at, row) in rows.iter().enumerate() {
        if row.leads && tied > 1 {
            let (low, high) = (height(at) - 0.5, height(at) + 0.5);
            let points = vec![(everywhere.0, low, high), (everywhere.1, low, high)];
            layers.push(Layer::Band { points, colour: TINT, opacity: 0.13 });
        }
        for run in &row.strategy.replications {
            if let Some(value) = run.metrics.get(metric).copied().filter(|value| value.is_finite()) {
                values.push(value);
                dots.push(Layer::Dot { at: (value, height(at)), style: row.style });
            }
        }
        // A mean between two clusters of runs would describe no run.
        let split = row.strategy.bistable.iter().any(|found| found.metric == metric);
        let found = row.strategy.metrics.get(metric).filter(|found| found.mean.is_finite() && !split);
        if let Some(found) = found {
            values.extend([Some(found.mean), found.lo, found.hi].into_iter().flatten());
            points.push(Layer::Point {
                at: (found.mean, height(at)),
                x_interval: found.lo.zip(found.hi),
                y_interval: None,
                style: row.style,
                label: String::new(),
            });
        }
    }
    let base = outcome.strategies.iter().find(|strategy| strategy.name == outcome.manifest.baseline);
    if let Some(base) = base.and_then(|base| base.metrics.get(metric)).filter(|base| base.mean.is_finite()) {
        let points = vec![(base.mean, 0.5), (base.mean, last + 0.5)];
        layers.push(Layer::Line { points, style: Style::neutral(), weight: Weight::Light });
    }
    layers.extend(dots.into_iter().chain(points));
    Panel {
        title: String::new(),
        x: axis(metric, extent(values.into_iter())),
        y,
        right: None,
        height: rows.iter().map(|_| 30).sum::<i32>() + 16,
        layers,
    }
}

/// The axis that suits a metric.
fn axis(metric: &str, (lo, hi): (f64, f64)) -> Axis {
    let title = Unit::words(metric);
    match Unit::of(metric) {
        Unit::Millis if lo > 0.0 && hi / lo > 4.0 => Axis::sparse_latency(&title, (lo, hi)),
        Unit::Millis => Axis::linear(&title, (lo, hi), 3, quantity::millis).padded(),
        Unit::Percent => {
            let percent = |share: f64| format!("{} %", quantity::share_digits((share * 1e8).round() / 1e6));
            Axis::linear(&title, (lo.max(0.0), hi.min(1.0)), 4, percent).padded()
        }
        _ => Axis::linear(&title, (lo, hi), 3, quantity::short).padded(),
    }
}
