//! `PodDisruptionBudget`, `policy/v1`.
//!
//! Origin: `k8s.io/api/policy/v1`, bounds from `pkg/apis/policy/validation`.

use super::fields::{CountOrPercent, Fields};
use super::selector::Selector;

/// How many pods may be missing on purpose.
#[derive(Clone, Debug, PartialEq)]
pub struct Disruption {
    /// Which pods it protects; `None` is no pod, an empty one all of the namespace.
    pub selector: Option<Selector>,
    /// `None` protects nothing.
    pub budget: Option<Budget>,
    /// Whether pods that are running but not ready can always be evicted (`AlwaysAllow`).
    pub evict_unready: bool,
}

/// The bound that is kept; percentages are rounded up to whole pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// So many stay.
    MinAvailable(CountOrPercent),
    /// So many may be missing.
    MaxUnavailable(CountOrPercent),
}

impl Disruption {
    /// The `spec`.
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let min = fields.count_or_percent("minAvailable", false).map(Budget::MinAvailable);
        let max = fields.count_or_percent("maxUnavailable", false).map(Budget::MaxUnavailable);
        if fields.has("minAvailable") && fields.has("maxUnavailable") {
            fields.refuse("maxUnavailable", "a budget has `minAvailable` or `maxUnavailable`, not both");
        }
        let selector = fields.object("selector", Selector::read);
        let choices = [("IfHealthyBudget", false), ("AlwaysAllow", true)];
        let evict_unready = fields.choice("unhealthyPodEvictionPolicy", &choices).unwrap_or(false);
        Some(Self { selector, budget: min.or(max), evict_unready })
    }
}
