//! Recommenders: how much CPU and memory an instance should ask for, and how it gets it.

pub mod updater;
pub mod vpa;

use updater::Updater;

use super::view::Resources;
use crate::time::{Duration, Time};

/// What one instance used, as the metrics pipeline tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The instance, by a number that is not used twice.
    pub instance: u32,
    /// Start of the interval that was measured.
    pub at: Time,
    /// CPU used (mean over the interval) and memory in use.
    pub used: Resources,
}

/// Requests that would fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recommendation {
    /// What to ask for.
    pub target: Resources,
    /// An instance that asks for less should be restarted with the target.
    pub lower_bound: Resources,
    /// An instance that asks for more wastes it.
    pub upper_bound: Resources,
}

/// Learns from the usage of the instances of one service (of one of their containers).
pub trait Recommender {
    /// Time between samples, and between recommendations.
    fn interval(&self) -> Duration;

    /// An instance was measured.
    fn on_usage(&mut self, now: Time, usage: &Usage);

    /// An instance that had asked for `request` bytes of memory was killed for lack of it.
    fn on_oom(&mut self, now: Time, instance: u32, request: i64);

    /// An instance is gone; what it used stays known.
    fn on_gone(&mut self, _now: Time, _instance: u32) {}

    /// How instances get the size that is recommended.
    fn updater(&self) -> Updater;

    /// What one container of an instance that has `containers` of them should ask for; `None` before the first sample.
    fn recommend(&mut self, now: Time, containers: u32) -> Option<Recommendation>;
}

registry! {
    ($)
    /// Settings of a recommender, as written in a scenario.
    RecommenderSettings,
    /// Any recommender, held by value.
    AnyRecommender: Recommender,
    family "recommender" in "recommender",
    "vpa" => vpa::Vpa,
}

impl Recommender for AnyRecommender {
    fn interval(&self) -> Duration {
        dispatch!(self, policy => policy.interval())
    }

    fn on_usage(&mut self, now: Time, usage: &Usage) {
        dispatch!(self, policy => policy.on_usage(now, usage));
    }

    fn on_oom(&mut self, now: Time, instance: u32, request: i64) {
        dispatch!(self, policy => policy.on_oom(now, instance, request));
    }

    fn on_gone(&mut self, now: Time, instance: u32) {
        dispatch!(self, policy => policy.on_gone(now, instance));
    }

    fn updater(&self) -> Updater {
        dispatch!(self, policy => policy.updater())
    }

    fn recommend(&mut self, now: Time, containers: u32) -> Option<Recommendation> {
        dispatch!(self, policy => policy.recommend(now, containers))
    }
}
