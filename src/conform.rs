//! Conformance: replays recorded cases through the very functions the policies call.
//!
//! One adapter per vector family, in the file of its policy family; [`ADAPTERS`] lists them all.

pub mod autoscaler;
pub mod balancer;
pub mod breaker;
pub mod limiter;
pub mod retry;
pub mod rollout;

use serde_json::Value;

/// Result of one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Every expected column agrees.
    Passed,
    /// The first disagreement, in words.
    Failed(String),
    /// A predicate on the case's configuration says that this policy declines it; cites upstream.
    Refused(&'static str),
    /// simlab has no such policy or form yet.
    Skipped(&'static str),
}

/// Replays the cases of one vector family.
#[derive(Clone, Copy)]
pub struct Adapter {
    /// Schema id of the file (`simlab-conformance/1`, `simlab.vectors/1`, `simlab-autoscaler-vectors/1`).
    pub schema: &'static str,
    /// `family` of the file, or its `policy` where the schema has one.
    pub family: &'static str,
    /// The simlab algorithm it checks, as in a scenario: `limiter.seed-token-bucket`.
    pub algorithm: &'static str,
    /// Runs one case; `file` is the whole file without its cases.
    pub run: fn(file: &Value, case: &Value) -> Check,
}

/// Every adapter, by family of policies.
pub const ADAPTERS: &[&[Adapter]] = &[
    autoscaler::ADAPTERS,
    balancer::ADAPTERS,
    breaker::ADAPTERS,
    limiter::ADAPTERS,
    retry::ADAPTERS,
    rollout::ADAPTERS,
];
