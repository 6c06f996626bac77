//! The instance-count formula of the source article, with CPU in percent points.
//!
//! # What it does
//! At every tick
//!
//! `int(min(max(cores * (1 + max(0, cpu - threshold)), min-instance), memory available / memory of one) * scale + base-instance)`
//!
//! where `cpu` and `threshold` are percentages as numbers from 0 to 100. `int` drops the fraction.
//!
//! # When it helps
//! It is what a hand-written sizing script does: one core per instance while the fleet is calm, many instances at once
//! when it is not. It answers in one tick, without waiting for any window.
//!
//! # How it fails
//! Percent points make it explode: 15 points over the threshold multiply the cores by 16, and one tick later, with the
//! load spread, the formula is back at its floor. The count has no upper bound but memory, does not depend on how many
//! instances already share the load, and swings with every sample. `seed-formula-ratio` is the sane form.
//!
//! # Settings
//! * `threshold` (`"80%"`): CPU above which the count grows.
//! * `min-instance` (1): floor before memory, scale and base are applied.
//! * `scale` (1): factor on the bounded count.
//! * `base-instance` (0): added last, beyond every bound.
//! * `cores`: CPU cores in the formula; default: the cores of one instance.
//! * `interval` (`"1min"`): time between evaluations.
//!
//! # Origin
//! The article on choosing the number of instances (S1), its instance-count function. The thresholds and the interval
//! are not given there; the defaults are ours.
//!
//! # Deliberate differences
//! * `cpu` is the mean over the pods that have a sample and are not being deleted: CPU used, divided by the cores of
//!   those instances (not by their request). The article reads one machine's percentage.
//! * Without any sample nothing changes; the article's script has no such case.
//! * Instances without a memory figure are not bounded by memory.

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::policies::Algorithm;
use crate::policies::autoscaler::{Autoscaler, Desired, Explain, Fleet, Query, Reading, Resource};
use crate::time::{Duration, Time};
use crate::units::Share;

/// Settings of [`SeedFormula`] and of its ratio form.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, remote = "Self")]
pub struct SeedFormulaSettings {
    /// CPU above which the count grows.
    pub threshold: Share,
    /// Floor before memory, scale and base are applied.
    pub min_instance: u32,
    /// Factor on the bounded count; finite, not negative.
    pub scale: f64,
    /// Added last, beyond every bound.
    pub base_instance: u32,
    /// CPU cores in the formula; `None` takes the cores of one instance.
    pub cores: Option<f64>,
    /// Time between evaluations, not zero.
    pub interval: Duration,
}

impl Default for SeedFormulaSettings {
    fn default() -> Self {
        Self {
            threshold: Share(0.8),
            min_instance: 1,
            scale: 1.0,
            base_instance: 0,
            cores: None,
            interval: Duration::from_secs(60),
        }
    }
}

impl SeedFormulaSettings {
    fn check(&self) -> Result<(), &'static str> {
        let bad = |number: f64| !number.is_finite() || number < 0.0;
        if bad(self.scale) {
            return Err("`scale` must be a finite number, not negative");
        }
        if self.cores.is_some_and(bad) {
            return Err("`cores` must be a finite number, not negative");
        }
        if self.interval == Duration::ZERO {
            return Err("`interval` must be longer than zero");
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for SeedFormulaSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        settings.check().map_err(D::Error::custom)?;
        Ok(settings)
    }
}

/// CPU in use over the CPU of the instances it was measured on, as a fraction; `None` without a sample.
pub(super) fn mean_cpu(fleet: &Fleet<'_>) -> Option<f64> {
    let readings = fleet.readings.first().map_or(&[][..], Reading::pods);
    let living = fleet.pods.iter().zip(readings).filter(|(pod, _)| !pod.deleting);
    let samples = living.filter_map(|(_, reading)| reading.sample);
    let (used, count) = samples.fold((0, 0_u32), |(used, count), sample| (used + sample.milli, count + 1));
    let capacity = f64::from(count) * fleet.instance_cores * 1000.0;
    (capacity > 0.0).then(|| used as f64 / capacity)
}

/// The formula itself; `over` is how far CPU lies above its threshold, in the unit of the caller, negative below it.
pub fn instances(
    settings: &SeedFormulaSettings,
    fleet: &Fleet<'_>,
    over: f64,
    explain: &mut dyn Explain,
) -> u32 {
    let cores = settings.cores.unwrap_or(fleet.instance_cores);
    let wanted = (cores * (1.0 + over.max(0.0))).max(f64::from(settings.min_instance));
    explain.step("wanted", wanted);
    let fitting = match fleet.instance_memory {
        0 => f64::INFINITY,
        memory => fleet.memory_available as f64 / memory as f64,
    };
    explain.step("memory-limit", fitting);
    let count = wanted.min(fitting) * settings.scale + f64::from(settings.base_instance);
    explain.step("proposal", count);
    // Truncates, and saturates where the source would run away.
    count as u32
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct SeedFormula {
    settings: SeedFormulaSettings,
}

impl Algorithm for SeedFormula {
    type Settings = SeedFormulaSettings;

    fn new(settings: &SeedFormulaSettings, _now: Time) -> Self {
        Self { settings: settings.clone() }
    }
}

impl Autoscaler for SeedFormula {
    fn interval(&self) -> Duration {
        self.settings.interval
    }

    fn queries(&self) -> &[Query] {
        &[Query::Resource(Resource::Cpu)]
    }

    fn evaluate(&mut self, _now: Time, fleet: &Fleet<'_>, explain: &mut dyn Explain) -> Desired {
        let Some(cpu) = mean_cpu(fleet) else {
            return Desired { replicas: fleet.current, reason: "NoMetrics" };
        };
        explain.step("cpu-percent", cpu * 100.0);
        let over = cpu * 100.0 - self.settings.threshold.0 * 100.0;
        Desired { replicas: instances(&self.settings, fleet, over, explain), reason: "Formula" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::autoscaler::{Phase, Pod, PodReading, Sample};

    const POD: Pod = Pod {
        phase: Phase::Running,
        ready: Some((true, Time::ZERO)),
        started: Some(Time::ZERO),
        deleting: false,
    };

    /// CPU of as many pods.
    fn cpu(milli: &[Option<i64>]) -> [Reading; 1] {
        let sample = |milli| Sample { milli, at: Time::ZERO, window: Duration::from_secs(30) };
        let reading =
            |milli: &Option<i64>| PodReading { request_milli: Some(1000), sample: milli.map(sample) };
        [Reading::Pods(milli.iter().map(reading).collect())]
    }

    fn fleet(readings: &[Reading]) -> Fleet<'_> {
        Fleet {
            current: 2,
            pods: &[POD; 2][..readings[0].pods().len()],
            readings,
            instance_cores: 2.0,
            instance_memory: 1 << 30,
            memory_available: 100 << 30,
        }
    }

    fn ask(settings: &SeedFormulaSettings, fleet: &Fleet<'_>) -> u32 {
        SeedFormula::new(settings, Time::ZERO).evaluate(Time::ZERO, fleet, &mut ()).replicas
    }

    #[test]
    fn fifteen_points_multiply_the_cores_by_sixteen() {
        let settings = SeedFormulaSettings { threshold: Share(0.5), ..SeedFormulaSettings::default() };
        assert_eq!(ask(&settings, &fleet(&cpu(&[Some(1300), Some(1300)]))), 32);
        assert_eq!(ask(&settings, &fleet(&cpu(&[Some(900), Some(1100)]))), 2, "at the threshold: the cores");
        assert_eq!(ask(&settings, &fleet(&cpu(&[None]))), 2, "no sample: as it is");
    }

    #[test]
    fn the_bounds_apply_in_the_order_of_the_source() {
        let settings = SeedFormulaSettings {
            min_instance: 6,
            scale: 1.5,
            base_instance: 3,
            ..SeedFormulaSettings::default()
        };
        let pods = cpu(&[Some(200)]);
        assert_eq!(ask(&settings, &fleet(&pods)), 12, "max(2, 6) * 1.5 + 3");
        let tight = Fleet { memory_available: 5 << 29, ..fleet(&pods) };
        assert_eq!(ask(&settings, &tight), 6, "memory for 2.5 beats the floor of 6: int(2.5 * 1.5 + 3)");
    }

    #[test]
    fn written_as_in_a_scenario() {
        let settings: SeedFormulaSettings = toml::from_str("threshold = '60%'\nmin-instance = 2").unwrap();
        assert_eq!((settings.threshold, settings.min_instance), (Share(0.6), 2));
        assert!(toml::from_str::<SeedFormulaSettings>("scale = -1").is_err());
        assert!(toml::from_str::<SeedFormulaSettings>("interval = '0s'").is_err());
        assert!(toml::from_str::<SeedFormulaSettings>("treshold = '60%'").is_err());
    }
}
