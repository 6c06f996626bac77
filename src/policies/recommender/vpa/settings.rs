//! What may be written about a VPA: flags of its recommender and updater, and fields of its object.

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::DAY;
use crate::policies::autoscaler::hpa::metric::Amount;
use crate::policies::recommender::updater::UpdateMode;
use crate::time::Duration;
use crate::units::{Bytes, Share};

/// Settings of [`super::Vpa`], with the names of the recommender's flags.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, remote = "Self")]
pub struct VpaSettings {
    /// Time between samples, and between recommendations; not zero.
    pub recommender_interval: Duration,
    /// Percentile of CPU that becomes the target.
    pub target_cpu_percentile: Share,
    /// Percentile of memory that becomes the target.
    pub target_memory_percentile: Share,
    /// Percentile of CPU that becomes the lower bound.
    pub recommendation_lower_bound_cpu_percentile: Share,
    /// Percentile of memory that becomes the lower bound.
    pub recommendation_lower_bound_memory_percentile: Share,
    /// Percentile of CPU that becomes the upper bound.
    pub recommendation_upper_bound_cpu_percentile: Share,
    /// Percentile of memory that becomes the upper bound.
    pub recommendation_upper_bound_memory_percentile: Share,
    /// Added to each percentile.
    pub recommendation_margin_fraction: Share,
    /// Least CPU of a pod, in thousandths of a core.
    pub pod_recommendation_min_cpu_millicores: u32,
    /// Least memory of a pod, in MiB.
    pub pod_recommendation_min_memory_mb: u32,
    /// CPU samples lose half of their weight in this time, not zero.
    pub cpu_histogram_decay_half_life: Duration,
    /// Peaks of memory lose half of their weight in this time, not zero.
    pub memory_histogram_decay_half_life: Duration,
    /// Each instance adds one peak of memory per interval, not zero.
    pub memory_aggregation_interval: Duration,
    /// A kill for lack of memory counts as this multiple of what was in use, at least 1.
    pub oom_bump_up_ratio: f64,
    /// ... or as this much more, if that is more.
    pub oom_min_bump_up_bytes: Bytes,
    /// Least recommendation for the container.
    pub min_allowed: Allowed,
    /// Largest recommendation for the container.
    pub max_allowed: Allowed,
    /// What is done with a recommendation.
    pub update_mode: UpdateMode,
    /// A service with fewer living instances is left alone.
    pub min_replicas: u32,
    /// Share of the wanted instances that may be missing.
    pub eviction_tolerance: Share,
    /// Time between the looks of the updater, not zero.
    pub updater_interval: Duration,
    /// Within the recommended range only changes of at least this much count, CPU and memory added up ...
    pub pod_update_threshold: Share,
    /// ... and only for instances of this age.
    pub in_recommendation_bounds_eviction_lifetime_threshold: Duration,
    /// An instance that is killed for lack of memory within this time of its start is resized at the next look.
    pub evict_after_oom_threshold: Duration,
    /// Resizing on the spot needs no other instances to carry on.
    pub in_place_skip_disruption_budget: bool,
}

/// A bound of a container policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Allowed {
    /// CPU, such as `"250m"`.
    pub cpu: Option<Amount>,
    /// Memory, such as `"256MiB"`.
    pub memory: Option<Bytes>,
}

impl Default for VpaSettings {
    fn default() -> Self {
        Self {
            recommender_interval: Duration::from_secs(60),
            target_cpu_percentile: Share(0.9),
            target_memory_percentile: Share(0.9),
            recommendation_lower_bound_cpu_percentile: Share(0.5),
            recommendation_lower_bound_memory_percentile: Share(0.5),
            recommendation_upper_bound_cpu_percentile: Share(0.95),
            recommendation_upper_bound_memory_percentile: Share(0.95),
            recommendation_margin_fraction: Share(0.15),
            pod_recommendation_min_cpu_millicores: 25,
            pod_recommendation_min_memory_mb: 250,
            cpu_histogram_decay_half_life: DAY,
            memory_histogram_decay_half_life: DAY,
            memory_aggregation_interval: DAY,
            oom_bump_up_ratio: 1.2,
            oom_min_bump_up_bytes: Bytes(100 << 20),
            min_allowed: Allowed::default(),
            max_allowed: Allowed::default(),
            update_mode: UpdateMode::Recreate,
            min_replicas: 2,
            eviction_tolerance: Share(0.5),
            updater_interval: Duration::from_secs(60),
            pod_update_threshold: Share(0.1),
            in_recommendation_bounds_eviction_lifetime_threshold: Duration::from_secs(43_200),
            evict_after_oom_threshold: Duration::from_secs(600),
            in_place_skip_disruption_budget: false,
        }
    }
}

impl VpaSettings {
    fn check(&self) -> Result<(), String> {
        for (name, length) in [
            ("recommender-interval", self.recommender_interval),
            ("cpu-histogram-decay-half-life", self.cpu_histogram_decay_half_life),
            ("memory-histogram-decay-half-life", self.memory_histogram_decay_half_life),
            ("memory-aggregation-interval", self.memory_aggregation_interval),
            ("updater-interval", self.updater_interval),
        ] {
            if length == Duration::ZERO {
                return Err(format!("`{name}` must be longer than zero"));
            }
        }
        if !(self.oom_bump_up_ratio >= 1.0 && self.oom_bump_up_ratio <= 1e6) {
            return Err("`oom-bump-up-ratio` must be at least 1".to_owned());
        }
        let (min, max) = (self.min_allowed, self.max_allowed);
        if min.cpu.zip(max.cpu).is_some_and(|(min, max)| min > max)
            || min.memory.zip(max.memory).is_some_and(|(min, max)| min > max)
        {
            return Err("`min-allowed` is greater than `max-allowed`".to_owned());
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for VpaSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        settings.check().map_err(D::Error::custom)?;
        Ok(settings)
    }
}
