//! Scheduled scaling: so many replicas from such a time on.
//!
//! ## What it does
//! Asks for the replicas of the latest entry whose time has come. Times count from the start of the run, or, with
//! `every`, from the start of each such period (`"24h"` makes them times of day; `start` is the time at which the run begins).
//! Before the first entry the last one of the period before rules; without a period nothing changes until then.
//!
//! ## When it helps
//! Load that follows the clock, or an event that is known in advance: capacity is there before the load is.
//!
//! ## How it fails
//! It knows nothing of the load. An event that comes an hour early meets the replicas of the night, and every quiet
//! holiday is paid for in full.
//!
//! ## Settings
//! * `schedule` (required): `[{ at = "8h", replicas = 12 }, { at = "20h", replicas = 4 }]`, in order of `at`.
//! * `every` (none): length of the period, such as `"24h"`.
//! * `start` (`"0s"`): where in the period the run begins.
//! * `interval` (`"15s"`): time between evaluations, by which a change may be late.
//!
//! ## Origin
//! Ours; the common part of AWS scheduled actions (`ScheduledUpdateGroupAction`, with a desired capacity) and KEDA's cron
//! scaler.
//!
//! ## Deliberate differences
//! * An AWS action sets the capacity once; this one holds it, as KEDA's does, and so overrules an operator.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::policies::Algorithm;
use crate::policies::autoscaler::{Autoscaler, Desired, Explain, Fleet};
use crate::time::{Duration, Time};

/// Settings of [`Scheduled`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, remote = "Self")]
pub struct ScheduledSettings {
    /// Entries in order of their times, at least one.
    pub schedule: Vec<Entry>,
    /// Length of the period after which the schedule begins anew, not zero.
    pub every: Option<Duration>,
    /// Where in the period the run begins, less than `every`.
    #[serde(default)]
    pub start: Duration,
    /// Time between evaluations, not zero.
    #[serde(default = "interval")]
    pub interval: Duration,
}

/// So many replicas from a time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Entry {
    /// Since the start of the run, or of the period.
    pub at: Duration,
    /// Replicas from then on, at least 1.
    pub replicas: NonZeroU32,
}

fn interval() -> Duration {
    Duration::from_secs(15)
}

impl ScheduledSettings {
    fn check(&self) -> Result<(), &'static str> {
        if self.interval == Duration::ZERO {
            return Err("`interval` must be longer than zero");
        }
        let Some(last) = self.schedule.last() else { return Err("`schedule` needs at least one entry") };
        if self.schedule.windows(2).any(|pair| pair[0].at >= pair[1].at) {
            return Err("the entries of `schedule` must be in order of their times");
        }
        match self.every {
            Some(Duration::ZERO) => Err("`every` must be longer than zero"),
            Some(every) if last.at >= every => Err("`at` of an entry must lie within `every`"),
            Some(every) if self.start >= every => Err("`start` must lie within `every`"),
            None if self.start != Duration::ZERO => Err("`start` needs `every`"),
            _ => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for ScheduledSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        settings.check().map_err(D::Error::custom)?;
        Ok(settings)
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Scheduled {
    settings: Box<ScheduledSettings>,
}

impl Algorithm for Scheduled {
    type Settings = ScheduledSettings;

    fn new(settings: &ScheduledSettings, _now: Time) -> Self {
        Self { settings: Box::new(settings.clone()) }
    }
}

impl Autoscaler for Scheduled {
    fn interval(&self) -> Duration {
        self.settings.interval
    }

    fn evaluate(&mut self, now: Time, fleet: &Fleet<'_>, explain: &mut dyn Explain) -> Desired {
        let ScheduledSettings { schedule, every, start, .. } = &*self.settings;
        let clock = Duration(now.0) + *start;
        let clock = every.map_or(clock, |every| Duration(clock.0 % every.0));
        let passed = schedule.partition_point(|entry| entry.at <= clock);
        let entry = match (passed, every) {
            (0, None) => None,
            (0, Some(_)) => schedule.last(),
            (passed, _) => schedule.get(passed - 1),
        };
        let Some(entry) = entry else { return Desired { replicas: fleet.current, reason: "NotYet" } };
        explain.step("scheduled", f64::from(entry.replicas.get()));
        Desired { replicas: entry.replicas.get(), reason: "Schedule" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ScheduledSettings, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    fn at(text: &str, hours: &[u64]) -> Vec<u32> {
        let mut scaler = Scheduled::new(&read(text).unwrap(), Time::ZERO);
        let fleet =
            Fleet { current: 3, pods: &[], instance_cores: 1.0, instance_memory: 0, memory_available: 0 };
        hours
            .iter()
            .map(|&hour| scaler.evaluate(Time::from_secs(hour * 3600), &fleet, &mut ()).replicas)
            .collect()
    }

    const DAY: &str = "schedule = [{ at = '8h', replicas = 12 }, { at = '20h', replicas = 4 }]\n";

    #[test]
    fn once_or_every_day() {
        assert_eq!(at(DAY, &[0, 7, 8, 19, 20, 100]), [3, 3, 12, 12, 4, 4]);
        let daily = format!("{DAY}every = '24h'");
        assert_eq!(at(&daily, &[0, 8, 20, 24, 31, 32, 44]), [4, 12, 4, 4, 4, 12, 4]);
        let noon = format!("{DAY}every = '24h'\nstart = '12h'");
        assert_eq!(at(&noon, &[0, 7, 8, 19, 20]), [12, 12, 4, 4, 12]);
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for (text, part) in [
            ("schedule = []", "at least one"),
            ("schedule = [{ at = '2h', replicas = 1 }, { at = '1h', replicas = 1 }]", "in order"),
            ("schedule = [{ at = '2h', replicas = 0 }]", "nonzero"),
            ("schedule = [{ at = '2h', replicas = 1 }]\nevery = '1h'", "within `every`"),
            ("schedule = [{ at = '2h', replicas = 1 }]\nstart = '1h'", "needs `every`"),
        ] {
            let message = read(text).expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
