//! What happened to the system, as spans and instants on an axis of time.

use super::picture::{Rgb, cut};
use crate::lab::outcome::{LogEvent, Replication, StudyOutcome};

/// A span (or, without an end, an instant) with its label.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mark {
    /// Start, in seconds.
    pub from: f64,
    /// End, if it has one.
    pub to: Option<f64>,
    /// Short words.
    pub label: String,
    /// What it is.
    pub kind: MarkKind,
}

/// Kinds of marks, each with its tint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MarkKind {
    WarmUp,
    Fault,
    Rollout,
    Action,
}

impl MarkKind {
    /// Tint of the span.
    pub(super) const fn shade(self) -> (Rgb, f64) {
        match self {
            Self::WarmUp => ((120, 120, 120), 0.10),
            Self::Fault => ((190, 40, 40), 0.10),
            Self::Rollout => ((40, 90, 200), 0.08),
            Self::Action => ((120, 60, 140), 0.10),
        }
    }

    /// Colour of the label.
    pub(super) const fn ink(self) -> Rgb {
        match self {
            Self::WarmUp => (110, 110, 110),
            Self::Fault => (160, 20, 20),
            Self::Rollout => (20, 70, 170),
            Self::Action => (100, 40, 120),
        }
    }
}

/// The warm-up, then what the log of the first replication of the first strategy tells, in order of time.
///
/// Scheduled faults are the same in every run; a rollout may take longer under another strategy, so its span ends with
/// the slowest one. Faults drawn at random differ between replications, and the caption says whose they are.
pub(super) fn marks(outcome: &StudyOutcome) -> Vec<Mark> {
    let mut marks = Vec::new();
    if outcome.manifest.warm_up_s > 0.0 {
        let label = "warm-up, not counted".to_owned();
        marks.push(Mark { from: 0.0, to: Some(outcome.manifest.warm_up_s), label, kind: MarkKind::WarmUp });
    }
    for (position, strategy) in outcome.strategies.iter().enumerate() {
        let Some(first) = strategy.replications.first() else { continue };
        for mark in spans(&first.events_log) {
            let same = |known: &&mut Mark| {
                known.kind == mark.kind
                    && known.label == mark.label
                    && known.from.total_cmp(&mark.from).is_eq()
            };
            match marks.iter_mut().find(same) {
                Some(known) => known.to = known.to.zip(mark.to).map(|(a, b)| a.max(b)),
                None if position == 0 => marks.push(mark),
                None => {}
            }
        }
    }
    marks.sort_by(|a, b| a.from.total_cmp(&b.from));
    marks
}

/// Whether faults strike at different times in different replications, so that the marks are those of one run only.
pub(super) fn drawn_at_random(outcome: &StudyOutcome) -> bool {
    let times = |run: &Replication| -> Vec<u64> {
        run.events_log.iter().filter(|event| event.kind == "fault").map(|event| event.t_s.to_bits()).collect()
    };
    let runs = outcome.strategies.first().map_or(&[][..], |strategy| &strategy.replications);
    runs.iter().skip(1).any(|run| times(run) != times(&runs[0]))
}

/// Pairs each start with the next end of the same subject; what has no end (a crash, an action) is an instant.
fn spans(log: &[LogEvent]) -> Vec<Mark> {
    let mut marks = Vec::new();
    for (position, event) in log.iter().enumerate() {
        let (kind, end_kind) = match event.kind {
            "fault" => (MarkKind::Fault, "fault_end"),
            "rollout" => (MarkKind::Rollout, "rollout_end"),
            "rollout_stalled" => (MarkKind::Rollout, ""),
            "action" => (MarkKind::Action, ""),
            _ => continue,
        };
        let end =
            log[position..].iter().find(|later| later.kind == end_kind && later.subject == event.subject);
        let to = end.map(|end| end.t_s);
        let label = match kind {
            MarkKind::Rollout if event.kind == "rollout_stalled" => format!("{} stalls", event.subject),
            MarkKind::Rollout => format!("rollout of {}", event.subject),
            MarkKind::Action => format!("{} {}", event.subject, event.detail),
            _ => event.subject.clone(),
        };
        marks.push(Mark { from: event.t_s, to, label: cut(&label, 48), kind });
    }
    marks
}
