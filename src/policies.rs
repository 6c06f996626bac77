//! Sans-IO algorithms, usable in production code as they are.
//!
//! An algorithm here never owns a clock, a random source, a queue, a log or a thread. It is **asked** (`pick`,
//! `try_acquire`, `evaluate`, `poll`), it is **told** (`on_*`, past events), it is **woken** (`next_wakeup`, then asked
//! again) and it is **seen** (`gauges`, for charts). Every call takes `now` first; equal `now` is legal, an earlier one
//! is not. Randomness is `&mut Rng` wherever the upstream draws.
//!
//! One folder per family; the file beside it holds the family's trait and its registry. Adding an algorithm is one new
//! file, its `mod` line and one registry line.

#[macro_use]
mod registry;

pub mod alert;
pub mod autoscaler;
pub mod balancer;
pub mod breaker;
pub mod delivery;
pub mod detector;
pub mod discovery;
pub mod disruption;
pub mod election;
pub mod hedge;
pub mod host_selection;
pub mod judge;
pub mod limiter;
pub mod outlier;
pub mod provisioner;
pub mod recommender;
pub mod replacement;
pub mod retry;
pub mod rollback;
pub mod rollout;
pub mod scheduler;
pub mod shedding;
pub mod transaction;
pub mod view;

pub use registry::{Algorithm, Kind, least};

/// The registries of all families.
pub const FAMILIES: &[&[Kind]] = &[
    autoscaler::AutoscalerSettings::KINDS,
    balancer::BalancerSettings::KINDS,
    breaker::BreakerSettings::KINDS,
    detector::DetectorSettings::KINDS,
    discovery::DiscoverySettings::KINDS,
    election::ElectionSettings::KINDS,
    hedge::HedgeSettings::KINDS,
    host_selection::HostSelectionSettings::KINDS,
    judge::JudgeSettings::KINDS,
    limiter::LimiterSettings::KINDS,
    outlier::OutlierSettings::KINDS,
    provisioner::ProvisionerSettings::KINDS,
    recommender::RecommenderSettings::KINDS,
    retry::RetrySettings::KINDS,
    retry::BudgetSettings::KINDS,
    rollout::RolloutSettings::KINDS,
    scheduler::SchedulerSettings::KINDS,
    shedding::SheddingSettings::KINDS,
    transaction::TransactionSettings::KINDS,
];

/// Every registered algorithm, family by family.
pub fn kinds() -> impl Iterator<Item = &'static Kind> {
    FAMILIES.iter().flat_map(|family| family.iter())
}
