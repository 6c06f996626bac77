//! `Deployment`, `apps/v1`.
//!
//! Origin: `k8s.io/api/apps/v1`, defaults from `pkg/apis/apps/v1/defaults.go`, bounds from `pkg/apis/apps/validation`.

use super::fields::{CountOrPercent, Fields};
use super::pod::PodTemplate;
use super::selector::Selector;
use crate::scenario::error::Diagnostic;

/// A deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// How many pods (default 1); `None` if it is left to an autoscaler.
    pub replicas: Option<u32>,
    /// Which pods are its own; matches the labels of the template.
    pub selector: Selector,
    /// How a new version replaces the old one.
    pub strategy: Strategy,
    /// Seconds that a pod has to be ready to count as available (default 0).
    pub min_ready: u32,
    /// Seconds without progress after which a rollout has failed (default 600), above `min_ready`.
    pub progress_deadline: u32,
    /// Old versions that are kept (default 10).
    pub revision_history_limit: u32,
    /// Whether rollouts are held.
    pub paused: bool,
    /// What runs.
    pub template: PodTemplate,
}

/// How a new version replaces the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// All old pods first go, then new ones come.
    Recreate,
    /// Step by step; not both are zero.
    RollingUpdate {
        /// Pods above the wanted number, rounded up (default 25 %).
        max_surge: CountOrPercent,
        /// Pods below the wanted number, rounded down (default 25 %).
        max_unavailable: CountOrPercent,
    },
}

const QUARTER: CountOrPercent = CountOrPercent::Percent(25);
const DEFAULT_PROGRESS_DEADLINE: u32 = 600;
const DEFAULT_REVISION_HISTORY: u32 = 10;

impl Deployment {
    /// The `spec`.
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.need(&["selector", "template"]);
        let replicas = fields.count("replicas");
        let selector = fields.object("selector", Selector::read);
        let rolling = Strategy::RollingUpdate { max_surge: QUARTER, max_unavailable: QUARTER };
        let strategy = fields.object("strategy", Strategy::read);
        let min_ready = fields.count("minReadySeconds").unwrap_or(0);
        let progress_deadline = fields.count("progressDeadlineSeconds").unwrap_or(DEFAULT_PROGRESS_DEADLINE);
        let revision_history_limit = fields.count("revisionHistoryLimit").unwrap_or(DEFAULT_REVISION_HISTORY);
        let paused = fields.boolean("paused").unwrap_or(false);
        let template = fields.object("template", PodTemplate::read);
        if progress_deadline <= min_ready {
            let which =
                ["progressDeadlineSeconds", "minReadySeconds"].into_iter().find(|name| fields.has(name));
            let message = format!(
                "`progressDeadlineSeconds` ({progress_deadline}) must be greater than `minReadySeconds` ({min_ready})"
            );
            fields.refuse(which.unwrap_or_default(), message);
        }
        let (selector, template) = (selector?, template?);
        if selector == Selector::default() {
            fields.refuse("selector", "an empty selector is not allowed here");
        } else if !selector.matches(&template.labels) {
            let place = fields.value_place("selector").unwrap_or(fields.place);
            let error =
                Diagnostic::new("`spec.selector` does not match the labels of `spec.template`").at(place);
            fields.error(error.hint("give `spec.template.metadata.labels` the labels of the selector"));
        }
        Some(Self {
            replicas,
            selector,
            strategy: strategy.unwrap_or(rolling),
            min_ready,
            progress_deadline,
            revision_history_limit,
            paused,
            template,
        })
    }
}

impl Strategy {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let recreate =
            fields.choice("type", &[("RollingUpdate", false), ("Recreate", true)]).unwrap_or(false);
        let rolling = fields.object("rollingUpdate", |fields| {
            let max_surge = fields.count_or_percent("maxSurge", true).unwrap_or(QUARTER);
            let max_unavailable = fields.count_or_percent("maxUnavailable", false).unwrap_or(QUARTER);
            let zero = |value| matches!(value, CountOrPercent::Count(0) | CountOrPercent::Percent(0));
            if zero(max_surge) && zero(max_unavailable) {
                let message = "`maxUnavailable` may not be 0 when `maxSurge` is 0: nothing could move";
                fields.refuse("maxUnavailable", message);
            }
            Some(Self::RollingUpdate { max_surge, max_unavailable })
        });
        if recreate && fields.has("rollingUpdate") {
            fields.refuse("rollingUpdate", "the strategy Recreate has no `rollingUpdate`");
        }
        if recreate {
            return Some(Self::Recreate);
        }
        Some(rolling.unwrap_or(Self::RollingUpdate { max_surge: QUARTER, max_unavailable: QUARTER }))
    }
}
