//! Small scenarios as text, run through the ordinary loader and the ordinary lab.

use std::collections::BTreeMap;

use simlab::lab::outcome::{LogEvent, Replication, StudyOutcome};
use simlab::lab::{self, Progress, RunOptions};
use simlab::scenario::Overrides;
use simlab::scenario::model::Study;

/// Loads a text; an error is the author's of the test.
pub(crate) fn load(text: &str) -> Study {
    Study::from_text("story", text, &Overrides::default()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Runs a study on so many threads.
pub(crate) fn run(study: &Study, threads: usize) -> StudyOutcome {
    lab::run(study, &RunOptions { threads: Some(threads) }, &Progress::default())
        .unwrap_or_else(|error| panic!("{error}"))
}

/// What one run of one strategy tells.
pub(crate) struct Told(pub(crate) Replication);

/// A story: `head` gives duration and the like, one replication is told.
pub(crate) fn tell(duration: &str, rest: &str) -> Told {
    tell_from("0s", duration, rest)
}

/// The same, counted from `warm_up` on.
pub(crate) fn tell_from(warm_up: &str, duration: &str, rest: &str) -> Told {
    let text = format!(
        "[scenario]\nname = \"story\"\nduration = \"{duration}\"\nwarm-up = \"{warm_up}\"\nreplications = 1\n\
         resolution = \"1s\"\n{rest}"
    );
    let outcome = run(&load(&text), 1);
    Told(outcome.strategies.into_iter().next().unwrap().replications.into_iter().next().unwrap())
}

impl Told {
    pub(crate) fn metrics(&self) -> &BTreeMap<String, f64> {
        &self.0.metrics
    }

    /// A metric, which must be there.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> f64 {
        *self.0.metrics.get(name).unwrap_or_else(|| panic!("no {name} in {:#?}", self.0.metrics))
    }

    /// A metric is what was computed by hand, but for the last bits of a float.
    #[track_caller]
    pub(crate) fn is(&self, name: &str, expected: f64) {
        let found = self.metric(name);
        assert!(
            (found - expected).abs() <= 1e-9 * expected.abs().max(1.0),
            "{name} is {found}, not {expected}"
        );
    }

    /// A percentile is what was computed by hand, within the buckets of its histogram.
    #[track_caller]
    pub(crate) fn is_about(&self, name: &str, expected: f64) {
        let found = self.metric(name);
        assert!((found / expected - 1.0).abs() < 0.02, "{name} is {found}, not {expected}");
    }

    /// When lines of the log were written whose subject and detail are these.
    pub(crate) fn times(&self, subject: &str, detail: &str) -> Vec<f64> {
        let wanted = |event: &&LogEvent| event.subject == subject && event.detail.starts_with(detail);
        self.0.events_log.iter().filter(wanted).map(|event| event.t_s).collect()
    }

    /// A curve.
    #[track_caller]
    pub(crate) fn curve(&self, name: &str, metric: &str) -> &[f64] {
        let series = self.0.timeline.series.iter();
        let found = series.into_iter().find(|series| series.name == name && series.metric == metric);
        &found.unwrap_or_else(|| panic!("no curve {name} {metric}")).values
    }

    /// (time, reason) of what a breaker or autoscaler decided.
    pub(crate) fn decisions(&self, kind: &str) -> Vec<(f64, f64, f64, String)> {
        let of_kind = self.0.decisions.iter().filter(|line| line["kind"] == kind);
        let line = |line: &serde_json::Value| {
            let number = |key: &str| line[key].as_f64().unwrap();
            (number("t_s"), number("before"), number("after"), line["reason"].as_str().unwrap().to_owned())
        };
        of_kind.map(line).collect()
    }
}
