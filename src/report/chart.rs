//! Charts: each file under `chart/` answers one question with one picture.
//!
//! Curves are medians over replications with a band that shows how they spread behind them; colours,
//! dashes and markers mean the same strategy on every chart.

mod availability;
mod axis;
mod backlog;
mod cost;
mod forecast;
mod latency;
mod load;
mod marks;
mod nodes;
mod palette;
mod percentiles;
mod picture;
mod ranking;
mod replicas;
mod versions;

use super::{quantity, terminal};
use crate::lab::outcome::StudyOutcome;
use crate::report::curves::{Bands, MANY};
use palette::Style;
use picture::{Layer, LegendEntry, Picture, Weight};

/// One drawn chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Name of the file without folder and ending.
    pub slug: &'static str,
    /// The question it answers.
    pub title: String,
    /// How to read it, for the report.
    pub reading: &'static str,
    /// The document.
    pub svg: String,
}

impl Chart {
    /// Path within the results folder.
    pub fn path(&self) -> String {
        path(self.slug)
    }
}

/// A chart that can be made.
pub struct Entry {
    /// Name of the file without folder and ending.
    pub slug: &'static str,
    /// How to read it, for the report.
    pub reading: &'static str,
    /// The picture, or `None` where the outcome has nothing for it.
    picture: fn(&StudyOutcome) -> Option<Picture>,
}

/// Every chart, in the order of the report.
pub const CHARTS: &[Entry] = &[
    Entry { slug: "latency", reading: latency::READING, picture: latency::picture },
    Entry { slug: "percentiles", reading: percentiles::READING, picture: percentiles::picture },
    Entry { slug: "availability", reading: availability::READING, picture: availability::picture },
    Entry { slug: "load", reading: load::READING, picture: load::picture },
    Entry { slug: "replicas", reading: replicas::READING, picture: replicas::picture },
    Entry { slug: "nodes", reading: nodes::READING, picture: nodes::picture },
    Entry { slug: "versions", reading: versions::READING, picture: versions::picture },
    Entry { slug: "backlog", reading: backlog::READING, picture: backlog::picture },
    Entry { slug: "forecast", reading: forecast::READING, picture: forecast::picture },
    Entry { slug: "cost", reading: cost::READING, picture: cost::picture },
    Entry { slug: "ranking", reading: ranking::READING, picture: ranking::picture },
];

/// Path of a chart within the results folder.
pub fn path(slug: &str) -> String {
    format!("charts/{slug}.svg")
}

/// All charts for which the outcome has something to show.
pub fn draw_all(outcome: &StudyOutcome) -> Vec<Chart> {
    let drawn = |entry: &Entry| {
        let picture = (entry.picture)(outcome)?;
        Some(Chart {
            slug: entry.slug,
            title: picture.title.clone(),
            reading: entry.reading,
            svg: picture.draw(),
        })
    };
    CHARTS.iter().filter_map(drawn).collect()
}

/// The colour of the strategy at this position, for other parts of the report.
pub(super) fn colour_of(position: usize) -> String {
    format!("#{}", Style::of(position).hex())
}

/// The small print of every chart: what it stands on, and the scenario's note.
fn caption(outcome: &StudyOutcome, reading: &str) -> String {
    let manifest = &outcome.manifest;
    let mut lines = vec![
        format!("{} · {} · simlab {}.", manifest.scenario, terminal::basis(outcome), manifest.simlab),
        reading.to_owned(),
    ];
    if marks::drawn_at_random(outcome) {
        lines.push("Faults are drawn at random; shown are those of the first replication.".to_owned());
    }
    lines.extend(terminal::partial_note(outcome).into_iter().chain(manifest.note.clone()));
    lines.join("\n")
}

/// How curves over replications are drawn, in words.
fn band_words(outcome: &StudyOutcome) -> &'static str {
    match outcome.strategies.iter().map(|strategy| strategy.replications.len()).max() {
        Some(0 | 1) | None => {
            "Lines: the only replication, so nothing here says how much another seed would change."
        }
        Some(n) if n < MANY => {
            "Lines: median of the replications; bands: from the lowest to the highest replication."
        }
        Some(_) => "Lines: median of the replications; bands: the middle 80 % of the replications.",
    }
}

/// Length of one window, for subtitles.
fn window(outcome: &StudyOutcome) -> String {
    let first = outcome.strategies.iter().flat_map(|strategy| &strategy.replications).next();
    quantity::span(first.and_then(|run| run.timeline.t_s.first().copied()).unwrap_or(0.0))
}

/// One legend line per strategy.
fn strategy_legend(outcome: &StudyOutcome) -> Vec<LegendEntry> {
    let line = |(position, name): (usize, &String)| {
        LegendEntry::Line(shortened(name), Style::of(position), Weight::Heavy)
    };
    outcome.strategies.iter().map(|strategy| &strategy.name).enumerate().map(line).collect()
}

/// A name that fits the legend.
fn shortened(name: &str) -> String {
    picture::cut(name, 32)
}

/// Bands lie under all lines.
struct CurveLayers {
    bands: Vec<Layer>,
    lines: Vec<Layer>,
    opacity: f64,
}

impl CurveLayers {
    /// Many bands on one another would become mud, so each is the paler the more strategies there are.
    fn new(outcome: &StudyOutcome) -> Self {
        let opacity = (0.26 / (outcome.strategies.len().max(1) as f64).sqrt()).max(0.05);
        Self { bands: Vec::new(), lines: Vec::new(), opacity }
    }

    /// Band (if there is more than one replication) and median line of one curve.
    fn push(&mut self, bands: &Bands, replications: usize, style: Style, weight: Weight) {
        let points = || bands.points();
        if replications > 1 {
            self.band(points().map(|(t, band)| (t, band.low, band.high)).collect(), style, weight);
        }
        self.lines.push(Layer::Line {
            points: points().map(|(t, band)| (t, band.median)).collect(),
            style,
            weight,
        });
    }

    fn band(&mut self, points: Vec<(f64, f64, f64)>, style: Style, weight: Weight) {
        let opacity = if weight == Weight::Heavy { self.opacity } else { self.opacity / 2.0 };
        self.bands.push(Layer::Band { points, colour: style.rgb, opacity });
    }

    fn stacked(self) -> Vec<Layer> {
        self.bands.into_iter().chain(self.lines).collect()
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// Lowest and highest of the numbers that are there.
fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values
        .filter(|v| v.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)))
}
