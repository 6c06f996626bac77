//! Adapters for the vectors of version consistency.

use serde_json::Value;

use super::{Adapter, Check, SCHEMA_IN_OUT};
use crate::policies::rollout::standing::{Census, Criterion, Edge, EdgeKind, Strategy, Way, standing};

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[
    Adapter {
        schema: SCHEMA_IN_OUT,
        family: "vc.freeness",
        algorithm: "rollout.version-consistency",
        run: freeness,
    },
    Adapter {
        schema: SCHEMA_IN_OUT,
        family: "vc.published",
        algorithm: "rollout.version-consistency",
        run: |_, _| {
            Check::Skipped(
                "a published target, not a case; its ordering is held by scenarios/paper/version-consistency.toml",
            )
        },
    },
];

/// Names of a case in the order in which they are met.
#[derive(Default)]
struct Names(Vec<String>);

impl Names {
    fn number(&mut self, name: &Value) -> Result<u32, String> {
        let name = name.as_str().ok_or_else(|| format!("{name} is not a name"))?;
        let at = self.0.iter().position(|known| known == name).unwrap_or_else(|| {
            self.0.push(name.to_owned());
            self.0.len() - 1
        });
        Ok(at as u32)
    }
}

fn freeness(_file: &Value, case: &Value) -> Check {
    replay(&case["in"], &case["out"])
        .unwrap_or_else(|unreadable| Check::Failed(format!("case not understood: {unreadable}")))
}

fn list(value: &Value) -> Result<&Vec<Value>, String> {
    value.as_array().ok_or_else(|| format!("{value} is not a list"))
}

fn replay(input: &Value, out: &Value) -> Result<Check, String> {
    let (mut roots, mut components) = (Names::default(), Names::default());
    let mut edges = Vec::new();
    for edge in list(&input["edges"])? {
        let kind = match edge["type"].as_str() {
            Some("future") => EdgeKind::Future,
            Some("past") => EdgeKind::Past,
            _ => return Err(format!("an edge of type {}", edge["type"])),
        };
        let (from, to) = (components.number(&edge["src"])?, components.number(&edge["dst"])?);
        edges.push(Edge { kind, root: roots.number(&edge["root"])?, from, to });
    }
    let mut targets = Vec::new();
    let named = if input["op"] == "example_point" {
        std::slice::from_ref(&input["target"])
    } else {
        list(&input["targets"])?
    };
    for target in named {
        targets.push(components.number(target)?);
    }
    let census = Census::of_edges(&edges, &targets);
    let reached = |criterion: Criterion| Value::from(criterion.reached(&census));
    let those = |wanted: &dyn Fn(u32) -> bool| {
        let mut names: Vec<&str> =
            (0..).zip(&roots.0).filter(|(root, _)| wanted(*root)).map(|(_, name)| name.as_str()).collect();
        names.sort_unstable();
        Value::from(names)
    };
    let past = |root| standing(&edges, &targets, root).past;
    let mut failed = None;
    for (field, expected) in out.as_object().ok_or("out is not a table")? {
        let ours = match field.as_str() {
            // At a free target an update shows every request one version, and only there.
            "free" | "vc_free" | "update_here_is_version_consistent" => reached(Criterion::Free),
            "tranquil" => reached(Criterion::Tranquil),
            "quiescent" => reached(Criterion::Quiescent),
            "blocking_roots" => those(&|root| standing(&edges, &targets, root).blocks()),
            "cv_old_version_roots" => those(&|root| Strategy::ConcurrentVersions.way(past(root)) == Way::Old),
            "bf_admitted_roots" => those(&|root| Strategy::Blocking.way(past(root)) != Way::Hold),
            other => return Err(format!("nothing is known of {other}")),
        };
        if ours != *expected && failed.is_none() {
            failed = Some(format!("{field}: expected {expected}, got {ours}"));
        }
    }
    Ok(failed.map_or(Check::Passed, Check::Failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_cases_pass() {
        super::super::rollout::tests::replay("rollout", &ADAPTERS[..1]);
    }

    #[test]
    fn a_wrong_verdict_fails() {
        let edge = |kind| serde_json::json!({ "type": kind, "root": "T", "src": "A", "dst": "B" });
        let input = serde_json::json!({ "op": "freeness", "targets": ["B"], "edges": [edge("past"), edge("future")] });
        assert_eq!(replay(&input, &serde_json::json!({ "free": false })), Ok(Check::Passed));
        assert!(matches!(replay(&input, &serde_json::json!({ "free": true })), Ok(Check::Failed(_))));
        assert!(replay(&input, &serde_json::json!({ "fee": true })).is_err());
    }
}
