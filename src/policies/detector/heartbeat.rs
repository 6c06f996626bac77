//! Plain heartbeats: who has not been heard for so many periods is gone.
//!
//! ## What it does
//! The target sends a heartbeat every `period`. If none came for more than `misses` periods, it counts as gone; with the next
//! one it is back.
//!
//! ## When it helps
//! Where it is enough to know within a few periods, and nothing has to be tuned.
//!
//! ## How it fails
//! A pause longer than `misses` periods (a full garbage collection, a partition) is a death; a death is noticed after
//! `misses` to `misses` + 1 periods.
//!
//! ## Settings
//! * `period` (default `5s`), `misses` (default 3).
//!
//! ## Origin
//! simlab's own definition, after the providers' heartbeats of the projects that simlab grew from; pinned by its tests.
//!
//! ## Deliberate differences
//! None.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Detector, Probe, Verdict, next_tick};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `detector.heartbeat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
#[derive(Default)]
pub struct HeartbeatSettings(Written);

/// The settings before they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "HeartbeatSettings")]
struct Written {
    /// Time between heartbeats.
    period: Duration,
    /// Periods without one after which the target is gone.
    misses: NonZeroU32,
}

impl Default for Written {
    fn default() -> Self {
        Self { period: Duration::from_secs(5), misses: NonZeroU32::MIN.saturating_add(2) }
    }
}

impl TryFrom<Written> for HeartbeatSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if written.period == Duration::ZERO {
            return Err("period must be more than zero".to_owned());
        }
        Ok(Self(written))
    }
}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    period: Duration,
    patience: Duration,
    last: Option<Time>,
}

impl Algorithm for Heartbeat {
    type Settings = HeartbeatSettings;

    fn new(settings: &HeartbeatSettings, _now: Time) -> Self {
        let Written { period, misses } = settings.0;
        Self { period, patience: Duration(period.0.saturating_mul(u64::from(misses.get()))), last: None }
    }
}

impl Detector for Heartbeat {
    fn interval(&self) -> Duration {
        self.period
    }

    fn timeout(&self) -> Duration {
        self.period
    }

    fn next_probe(&self, began: Time, now: Time, _rng: &mut Rng) -> Time {
        next_tick(began, now, self.period)
    }

    fn on_result(&mut self, now: Time, result: Probe) {
        if result == Probe::Passed {
            self.last = Some(now);
        }
    }

    fn verdict(&self, now: Time) -> Verdict {
        match self.last {
            None => Verdict::Unknown,
            Some(last) if now - last > self.patience => Verdict::Unhealthy,
            Some(_) => Verdict::Healthy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_misses_of_five_seconds_are_more_than_fifteen() {
        let mut heartbeat = Heartbeat::new(&HeartbeatSettings::default(), Time::ZERO);
        assert_eq!(heartbeat.verdict(Time::from_secs(60)), Verdict::Unknown);
        heartbeat.on_result(Time::from_secs(10), Probe::Passed);
        assert_eq!(heartbeat.verdict(Time::from_secs(25)), Verdict::Healthy);
        assert_eq!(heartbeat.verdict(Time::from_millis(25_001)), Verdict::Unhealthy);
        heartbeat.on_result(Time::from_secs(40), Probe::Passed);
        assert_eq!(heartbeat.verdict(Time::from_secs(40)), Verdict::Healthy);
    }
}
