//! Decisions of provisioners, recommenders, breakers and whoever else writes some: what changed, and every figure it stood on.

use std::fmt::Write as _;

use super::{Line, about, name};
use crate::report::quantity::{clock_seconds, short};

/// The decision and its figures, one per line.
pub(super) fn explained(line: &Line) -> String {
    let Line { subject, reason, before, after, .. } = line;
    let (before, after) = (short(*before), short(*after));
    let what = match line.kind.as_str() {
        "provisioner" => Some("machines"),
        "recommender" => Some("cores requested"),
        _ => None,
    };
    let change = match what {
        Some(what) if before == after => format!("{after} {what}"),
        Some(what) => format!("{before} to {after} {what}"),
        None => format!("{before} to {after}"),
    };
    let mut text = format!("{subject} at {}: {change} ({reason})\n", clock_seconds(line.t_s));
    let _ =
        writeln!(text, "{}, strategy {}, replication {}\n", line.kind, line.strategy, line.replication + 1);
    for step in &line.steps {
        if let Some(value) = step.get(1).and_then(serde_json::Value::as_f64) {
            let of = about(step);
            let of = if of.is_empty() { String::new() } else { format!(" of {of}") };
            let _ = writeln!(text, "{}{of}: {}", name(step).replace('-', " "), short(value));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_more_and_why() {
        let line: Line = serde_json::from_str(
            r#"{"strategy":"limit","replication":2,"t_s":1293.27,"kind":"provisioner","subject":"general","before":4.0,
            "after":5.0,"reason":"TriggeredScaleUp","steps":[["pending-instances",7.0],["ready-nodes",3.0]]}"#,
        )
        .unwrap();
        assert_eq!(
            explained(&line),
            "general at 0:21:33: 4 to 5 machines (TriggeredScaleUp)\n\
             provisioner, strategy limit, replication 3\n\n\
             pending instances: 7\n\
             ready nodes: 3\n"
        );
        let line: Line = serde_json::from_str(
            r#"{"strategy":"default","replication":0,"t_s":109.7,"kind":"recommender","subject":"api","before":0.5,
            "after":1.643,"reason":"for new instances","steps":[["target",1.643,"cpu"]]}"#,
        )
        .unwrap();
        assert_eq!(
            explained(&line),
            "api at 0:01:50: 0.5 to 1.643 cores requested (for new instances)\n\
             recommender, strategy default, replication 1\n\n\
             target of cpu: 1.643\n"
        );
    }
}
