//! Decisions of rollouts: where the traffic goes, and what both versions looked like at that moment.

use std::fmt::Write as _;

use super::Line;
use crate::report::quantity::{clock_seconds, short};

/// The decision in sentences, one per line.
pub(super) fn explained(line: &Line) -> String {
    let Line { subject, reason, before, after, .. } = line;
    let change = if before == after {
        format!("the new version has {} % of the traffic", short(*after))
    } else {
        format!("the new version goes from {} to {} % of the traffic", short(*before), short(*after))
    };
    let mut text = format!("{subject} at {}: {reason}; {change}\n", clock_seconds(line.t_s));
    let _ = writeln!(text, "rollout, strategy {}, replication {}\n", line.strategy, line.replication + 1);
    if let (Some(done), Some(of)) = (line.figure("done"), line.figure("of")) {
        let _ = writeln!(text, "{} of {} are done", short(done), short(of));
    }
    if let Some(found) = line.figure("found") {
        let metric = line.figure("metric").unwrap_or(0.0) + 1.0;
        let _ = writeln!(text, "the judge of metric {} found {}", short(metric), short(found));
    }
    for version in ["new", "old"] {
        let figure = |what: &str| line.figure(&format!("{what}-{version}"));
        if let (Some(requests), Some(errors), Some(mean)) =
            (figure("requests"), figure("errors"), figure("mean-latency"))
        {
            let percent = if requests > 0.0 { 100.0 * errors / requests } else { 0.0 };
            let _ = writeln!(
                text,
                "the {version} version had {} requests, {} of them failed ({} %), and took {} ms on average",
                short(requests),
                short(errors),
                short(percent),
                short(mean * 1e3)
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_version_is_seen() {
        let line: Line = serde_json::from_str(
            r#"{"strategy":"thresholds","replication":0,"t_s":720.0,"kind":"rollout","subject":"errors","before":5.0,
            "after":5.0,"reason":"measured: bad","steps":[["metric",0.0],["found",0.04],["requests-new",200.0],
            ["errors-new",8.0],["mean-latency-new",0.031],["requests-old",5700.0],["errors-old",0.0],["mean-latency-old",0.04]]}"#,
        )
        .unwrap();
        assert_eq!(
            explained(&line),
            "errors at 0:12:00: measured: bad; the new version has 5 % of the traffic\n\
             rollout, strategy thresholds, replication 1\n\n\
             the judge of metric 1 found 0.04\n\
             the new version had 200 requests, 8 of them failed (4 %), and took 31 ms on average\n\
             the old version had 5700 requests, 0 of them failed (0 %), and took 40 ms on average\n"
        );
    }
}
