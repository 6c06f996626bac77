//! Concurrency limit of which each priority is promised a share, and may use the rest while it is free.
//!
//! ## What it does
//! While less than the limit is in flight everything passes. From there on, work passes only as long as its own priority has fewer
//! in flight than its share of the limit, rounded up and at least 1. So the shares are not bounds: they are what is left to a
//! priority when others have taken everything. Work of a priority that has no partition passes only below the limit.
//!
//! ## When it helps
//! One service for users and for batches: with 90 % for the users, a flood of batches cannot keep them out (Netflix uses it in this
//! way for playback and prefetching).
//!
//! ## How it fails
//! All together may be in flight up to twice the limit, for the shares are granted on top of what has been taken. The limit learns
//! from all work together. Shares of work that never comes are not given away: above the limit they are idle.
//!
//! ## Settings
//! * `delegate` (default `{ gradient2 = {} }`): what estimates the limit, as in `windowed`, or `fixed = 20`.
//! * `partitions`: `[{ priority = 1, percent = "90%" }, ..]`; the percentages sum to at most 100 %. Priorities are those of sources.
//!
//! ## Origin
//! Netflix/concurrency-limits 78a74b98 (v0.5.4+4), `limiter/AbstractPartitionedLimiter.java` (`acquire`, `Partition`), read, not
//! run; `limit/FixedLimit.java` for `fixed`.
//!
//! ## Deliberate differences
//! * Partitions go by priority; upstream resolves them from headers or whatever else the program knows.
//! * The delay before a refusal (`partitionRejectDelay`) is not offered.
//! * Upstream's partition of the unknown has a share of nothing, which here means a limit of 0: `unknownPartition` never gets
//!   the limits of the others.
//! * Work of cost n counts n times. No refusal promises an instant.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Limiter;
use super::aimd::{AimdLimit, AimdSettings};
use super::gradient::{GradientLimit, GradientSettings};
use super::gradient2::{Gradient2Limit, Gradient2Settings};
use super::simple::Estimator;
use super::vegas::{VegasLimit, VegasSettings};
use super::windowed::{WindowedLimit, WindowedSettings};
use crate::policies::Algorithm;
use crate::policies::view::{Admit, Class, Outcome, Permit};
use crate::random::Rng;
use crate::time::{Duration, Time};
use crate::units::Share;

/// Settings of `limiter.partitioned`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "kebab-case")]
pub struct PartitionedSettings {
    /// What estimates the limit.
    #[serde(default)]
    pub delegate: DelegateSettings,
    /// Shares of it.
    pub partitions: Vec<PartitionSettings>,
}

checked!(PartitionedSettings);

/// The share of one priority.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PartitionSettings {
    /// Whose share.
    pub priority: u8,
    /// How much of the limit.
    pub percent: Share,
}

impl PartitionedSettings {
    fn check(&self) -> Result<(), String> {
        if self.partitions.is_empty() {
            return Err("upstream wants at least one partition".to_owned());
        }
        for (at, partition) in self.partitions.iter().enumerate() {
            if self.partitions[..at].iter().any(|other| other.priority == partition.priority) {
                return Err(format!("priority {} has two partitions", partition.priority));
            }
        }
        let sum: f64 = self.partitions.iter().map(|partition| partition.percent.0).sum();
        if sum > 1.0 + 1e-9 {
            return Err(format!(
                "the percentages sum to {} %, and upstream wants at most 100 %",
                (sum * 1e6).round() / 1e4
            ));
        }
        Ok(())
    }
}

/// What estimates the limit, as written in a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DelegateSettings {
    /// A limit that does not move.
    Fixed(NonZeroU32),
    /// Settings of `aimd`.
    Aimd(AimdSettings),
    /// Settings of `vegas`.
    Vegas(VegasSettings),
    /// Settings of `gradient`.
    Gradient(GradientSettings),
    /// Settings of `gradient2`.
    Gradient2(Gradient2Settings),
    /// Settings of `windowed`.
    Windowed(WindowedSettings),
}

impl Default for DelegateSettings {
    fn default() -> Self {
        Self::Gradient2(Gradient2Settings::default())
    }
}

#[derive(Clone, Debug)]
enum Delegate {
    Fixed(u32),
    Aimd(AimdLimit),
    Vegas(VegasLimit),
    Gradient(GradientLimit),
    Gradient2(Gradient2Limit),
    Windowed(WindowedLimit),
}

impl Delegate {
    fn new(settings: &DelegateSettings, now: Time) -> Self {
        match settings {
            DelegateSettings::Fixed(limit) => Self::Fixed(limit.get()),
            DelegateSettings::Aimd(settings) => Self::Aimd(AimdLimit::new(settings, now)),
            DelegateSettings::Vegas(settings) => Self::Vegas(VegasLimit::new(settings, now)),
            DelegateSettings::Gradient(settings) => Self::Gradient(GradientLimit::new(settings, now)),
            DelegateSettings::Gradient2(settings) => Self::Gradient2(Gradient2Limit::new(settings, now)),
            DelegateSettings::Windowed(settings) => Self::Windowed(WindowedLimit::new(settings, now)),
        }
    }

    fn on_sample(&mut self, start: Time, rtt: Duration, in_flight: u32, dropped: bool, rng: &mut Rng) {
        match self {
            Self::Fixed(_) => {}
            Self::Aimd(limit) => limit.on_sample(start, rtt, in_flight, dropped, rng),
            Self::Vegas(limit) => limit.on_sample(start, rtt, in_flight, dropped, rng),
            Self::Gradient(limit) => limit.on_sample(start, rtt, in_flight, dropped, rng),
            Self::Gradient2(limit) => limit.on_sample(start, rtt, in_flight, dropped, rng),
            Self::Windowed(limit) => limit.on_sample(start, rtt, in_flight, dropped, rng),
        }
    }

    fn limit(&self) -> u32 {
        match self {
            Self::Fixed(limit) => *limit,
            Self::Aimd(limit) => limit.limit(),
            Self::Vegas(limit) => limit.limit(),
            Self::Gradient(limit) => limit.limit(),
            Self::Gradient2(limit) => limit.limit(),
            Self::Windowed(limit) => limit.limit(),
        }
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Partitioned(Box<State>);

#[derive(Clone, Debug)]
struct State {
    delegate: Delegate,
    in_flight: u32,
    partitions: Vec<Partition>,
}

#[derive(Clone, Copy, Debug)]
struct Partition {
    /// `None`: of all that have none of their own.
    priority: Option<u8>,
    share: f64,
    busy: u32,
}

impl Partition {
    fn limit(&self, total: u32) -> u32 {
        // As upstream rounds, in floating point.
        if self.priority.is_none() { 0 } else { ((f64::from(total) * self.share).ceil() as u32).max(1) }
    }
}

/// Where the partition stands in a permit's slot, above the cost.
const PARTITION_SHIFT: u32 = 23;

impl Algorithm for Partitioned {
    type Settings = PartitionedSettings;

    fn new(settings: &PartitionedSettings, now: Time) -> Self {
        let written = settings.partitions.iter();
        let unknown = Partition { priority: None, share: 0.0, busy: 0 };
        let of = |partition: &PartitionSettings| Partition {
            priority: Some(partition.priority),
            share: partition.percent.0,
            busy: 0,
        };
        let partitions = written.map(of).chain([unknown]).collect();
        Self(Box::new(State { delegate: Delegate::new(&settings.delegate, now), in_flight: 0, partitions }))
    }
}

impl Limiter for Partitioned {
    fn try_acquire(&mut self, now: Time, cost: u32, max_wait: Duration, rng: &mut Rng) -> Admit {
        self.try_acquire_of(now, 0, cost, max_wait, rng)
    }

    fn try_acquire_of(
        &mut self,
        now: Time,
        priority: u8,
        cost: u32,
        _max_wait: Duration,
        _rng: &mut Rng,
    ) -> Admit {
        let state = &mut *self.0;
        let known = state.partitions.iter().position(|partition| partition.priority == Some(priority));
        let at = known.unwrap_or(state.partitions.len() - 1);
        let limit = state.delegate.limit();
        let partition = &mut state.partitions[at];
        let room = if state.in_flight >= limit {
            partition.limit(limit) - partition.busy.min(partition.limit(limit))
        } else {
            cost
        };
        if cost > room || cost >= 1 << PARTITION_SHIFT {
            return Admit::Reject { until: None };
        }
        partition.busy += cost;
        state.in_flight += cost;
        let slot = (at as u32) << PARTITION_SHIFT | cost;
        Admit::Now(Permit { generation: state.in_flight, slot, start: now })
    }

    fn on_outcome(&mut self, now: Time, permit: Permit, outcome: &Outcome, rng: &mut Rng) {
        let state = &mut *self.0;
        let (at, cost) = (permit.slot >> PARTITION_SHIFT, permit.slot & ((1 << PARTITION_SHIFT) - 1));
        state.in_flight -= cost;
        state.partitions[at as usize].busy -= cost;
        let dropped = match outcome.class {
            Class::Success => false,
            Class::Timeout | Class::Rejected => true,
            Class::Failure | Class::Abandoned => return,
        };
        if !outcome.ignored {
            // Upstream throws at a duration of zero, which no real clock shows.
            let rtt = (now - permit.start).max(Duration(1));
            state.delegate.on_sample(permit.start, rtt, permit.generation, dropped, rng);
        }
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        let limit = self.0.delegate.limit();
        // What all may have in flight at most, shares included; they are granted on top.
        let shares: u32 = self.0.partitions.iter().map(|partition| partition.limit(limit)).sum();
        show("in_flight", f64::from(self.0.in_flight));
        show("limit", f64::from(limit.saturating_add(shares)));
        show("estimated_limit", f64::from(limit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    fn limiter(text: &str) -> Partitioned {
        Partitioned::new(&serde_json::from_str(text).unwrap(), Time::ZERO)
    }

    fn ask(limiter: &mut Partitioned, priority: u8) -> Option<Permit> {
        let mut rng = Key::new(0).rng();
        match limiter.try_acquire_of(Time::ZERO, priority, 1, Duration::ZERO, &mut rng) {
            Admit::Now(permit) => Some(permit),
            _ => None,
        }
    }

    fn back(limiter: &mut Partitioned, permit: Permit) {
        let outcome = Outcome::new(Class::Success, Duration::ZERO);
        limiter.on_outcome(Time::from_secs(1), permit, &outcome, &mut Key::new(0).rng());
    }

    const TWO: &str = r#"{"delegate": {"fixed": 10}, "partitions": [{"priority": 1, "percent": "30%"}, {"priority": 0, "percent": "70%"}]}"#;

    #[test]
    fn the_limit_is_soft() {
        // As in upstream's test: batches take everything while it is free.
        let mut limiter = limiter(TWO);
        let batch: Vec<_> = (0..10).filter_map(|_| ask(&mut limiter, 0)).collect();
        assert_eq!(batch.len(), 10);
        assert!(ask(&mut limiter, 0).is_none(), "10 of batch is more than its 7");
        // Live has its 3 all the same, and no more.
        let live: Vec<_> = (0..5).filter_map(|_| ask(&mut limiter, 1)).collect();
        assert_eq!(live.len(), 3);
        // 13 are in flight. One batch less leaves 9 of batch, still over its share.
        batch.into_iter().take(3).for_each(|permit| back(&mut limiter, permit));
        assert!(ask(&mut limiter, 0).is_none() && ask(&mut limiter, 1).is_none());
        back(&mut limiter, live[0]);
        assert!(ask(&mut limiter, 0).is_some(), "9 in flight are less than 10");
    }

    #[test]
    fn who_has_no_share_passes_below_the_limit_only() {
        let mut limiter = limiter(TWO);
        let taken: Vec<_> = (0..12).filter_map(|_| ask(&mut limiter, 9)).collect();
        assert_eq!(taken.len(), 10);
    }

    #[test]
    fn shares_are_rounded_up_and_at_least_one() {
        let text = r#"{"delegate": {"fixed": 10}, "partitions": [{"priority": 1, "percent": "1%"}, {"priority": 2, "percent": "41%"}]}"#;
        let mut limiter = limiter(text);
        while ask(&mut limiter, 0).is_some() {}
        let count =
            |limiter: &mut Partitioned, priority| (0..20).filter_map(|_| ask(limiter, priority)).count();
        assert_eq!((count(&mut limiter, 1), count(&mut limiter, 2)), (1, 5));
    }
}
