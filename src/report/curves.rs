//! One curve per strategy out of its replications: the median, with the band that most of them lie in.
//!
//! The median rather than the mean: where replications end in two different states, a mean shows a state that no run
//! was ever in.

use crate::lab::outcome::{Replication, Series, StrategyOutcome, StudyOutcome};

/// A metric over time, over the replications of one strategy.
#[derive(Clone, Debug)]
pub(super) struct Bands {
    /// End of each window, in seconds.
    pub t_s: Vec<f64>,
    /// Spread over replications per window; NaN where no replication has anything to say.
    pub windows: Vec<Band>,
}

/// Whose requests charts show.
#[derive(Clone, Copy, Debug)]
pub(super) struct Focus<'a>(Option<&'a str>);

impl<'a> Focus<'a> {
    pub(super) fn of(outcome: &'a StudyOutcome) -> Self {
        Self(outcome.manifest.focus.as_deref())
    }

    /// Scope and name of its curves.
    pub(super) const fn scope(self) -> (&'static str, &'a str) {
        match self.0 {
            Some(source) => ("source", source),
            None => ("run", ""),
        }
    }

    /// The name of a metric of its requests.
    pub(super) fn metric(self, stem: &str) -> String {
        self.0.map_or_else(|| stem.to_owned(), |source| format!("source.{source}.{stem}"))
    }

    /// What a chart is about, in words.
    pub(super) fn subject(self, title: &str) -> String {
        self.0.map_or_else(|| title.to_owned(), |source| format!("{title} · requests of {source}"))
    }
}

/// How the replications spread in one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Band {
    pub min: f64,
    /// Lower end of what charts shade: the lowest of few replications, the 10th percentile of [`MANY`] or more, where
    /// the extremes would only show how many there are.
    pub low: f64,
    pub median: f64,
    /// Upper end of what charts shade.
    pub high: f64,
    pub max: f64,
}

/// From so many replications on, charts shade the middle 80 % of them.
pub(super) const MANY: usize = 10;

impl Bands {
    /// The curve of `metric`, or `None` if no replication has it.
    pub(super) fn of(strategy: &StrategyOutcome, scope: &str, name: &str, metric: &str) -> Option<Self> {
        let longest =
            strategy.replications.iter().max_by_key(|replication| replication.timeline.t_s.len())?;
        let curves: Vec<&Series> = strategy
            .replications
            .iter()
            .filter_map(|replication| series(replication, scope, name, metric))
            .collect();
        if curves.is_empty() {
            return None;
        }
        let mut column = Vec::with_capacity(curves.len());
        let windows = (0..longest.timeline.t_s.len())
            .map(|window| {
                column.clear();
                column.extend(
                    curves.iter().filter_map(|curve| curve.values.get(window)).filter(|v| !v.is_nan()),
                );
                Band::over(&mut column)
            })
            .collect();
        Some(Self { t_s: longest.timeline.t_s.clone(), windows })
    }

    /// (middle of the window, band), in order of time.
    pub(super) fn points(&self) -> impl Iterator<Item = (f64, Band)> + '_ {
        let width = self.t_s.first().copied().unwrap_or(0.0);
        self.t_s.iter().zip(&self.windows).map(move |(&end, &band)| (end - width / 2.0, band))
    }
}

impl Band {
    /// Sorts `values` (none of them NaN) and takes what stands at its ends, near them and in its middle.
    pub(super) fn over(values: &mut [f64]) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let Some(last) = values.len().checked_sub(1) else {
            return Self { min: f64::NAN, low: f64::NAN, median: f64::NAN, high: f64::NAN, max: f64::NAN };
        };
        let cut = if values.len() >= MANY { last / 10 } else { 0 };
        Self {
            min: values[0],
            low: values[cut],
            median: f64::midpoint(values[last / 2], values[last.div_ceil(2)]),
            high: values[last - cut],
            max: values[last],
        }
    }
}

/// One curve of one replication.
pub(super) fn series<'a>(run: &'a Replication, scope: &str, name: &str, metric: &str) -> Option<&'a Series> {
    run.timeline
        .series
        .iter()
        .find(|series| series.scope == scope && series.name == name && series.metric == metric)
}

/// Percentile curve of `scope`/`name` over replications: (percentile, band), the percentiles that every replication has.
pub(super) fn percentiles(strategy: &StrategyOutcome, scope: &str, name: &str) -> Vec<(f64, Band)> {
    let curves: Vec<_> = strategy
        .replications
        .iter()
        .filter_map(|run| run.percentiles.iter().find(|curve| curve.scope == scope && curve.name == name))
        .collect();
    let Some(first) = curves.first() else { return Vec::new() };
    let at = |percentile: f64| -> Option<Vec<f64>> {
        curves
            .iter()
            .map(|curve| {
                curve.points.iter().find(|(p, _)| p.total_cmp(&percentile).is_eq()).map(|&(_, ms)| ms)
            })
            .collect()
    };
    first.points.iter().filter_map(|&(p, _)| Some((p, Band::over(&mut at(p)?)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_take_the_middle_and_the_ends() {
        let three = Band::over(&mut [3.0, 1.0, 2.0]);
        assert_eq!(three, Band { min: 1.0, low: 1.0, median: 2.0, high: 3.0, max: 3.0 });
        assert_eq!(Band::over(&mut [4.0, 1.0]).median, 2.5);
        let mut many: Vec<f64> = (0..=20).map(f64::from).collect();
        assert_eq!(Band::over(&mut many), Band { min: 0.0, low: 2.0, median: 10.0, high: 18.0, max: 20.0 });
        assert!(Band::over(&mut []).median.is_nan());
    }
}
