//! The instance-count formula of the source article, with CPU as a fraction.
//!
//! # What it does
//! The formula of `seed-formula`, but `cpu` and `threshold` are fractions from 0 to 1: 15 points over the threshold
//! multiply the cores by 1.15.
//!
//! # When it helps
//! Beside `seed-formula`, to see what the unit of one variable does; and where a mild answer to overload is enough.
//!
//! # How it fails
//! The answer is at most `cores * (2 - threshold)`, whatever the load is, because CPU cannot pass 100 %: it starts no
//! third instance for a third flood. Like the original it forgets how many instances already share the load.
//!
//! # Settings
//! Those of `seed-formula`: `threshold`, `min-instance`, `scale`, `base-instance`, `cores`, `interval`.
//!
//! # Origin
//! The article on choosing the number of instances (S1), its instance-count function, read as its text means it.
//!
//! # Deliberate differences
//! Those of `seed-formula`, and the unit.

use crate::policies::Algorithm;
use crate::policies::autoscaler::seed_formula::{SeedFormulaSettings, instances, mean_cpu};
use crate::policies::autoscaler::{Autoscaler, Desired, Explain, Fleet, Query, Resource};
use crate::time::{Duration, Time};

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct SeedFormulaRatio {
    settings: SeedFormulaSettings,
}

impl Algorithm for SeedFormulaRatio {
    type Settings = SeedFormulaSettings;

    fn new(settings: &SeedFormulaSettings, _now: Time) -> Self {
        Self { settings: settings.clone() }
    }
}

impl Autoscaler for SeedFormulaRatio {
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
        explain.step("cpu", cpu);
        let over = cpu - self.settings.threshold.0;
        Desired { replicas: instances(&self.settings, fleet, over, explain), reason: "Formula" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::autoscaler::{Phase, Pod, PodReading, Reading, Sample};
    use crate::units::Share;

    #[test]
    fn fifteen_points_multiply_the_cores_by_little() {
        let pods = [Pod {
            phase: Phase::Running,
            ready: Some((true, Time::ZERO)),
            started: Some(Time::ZERO),
            deleting: false,
        }];
        let sample = Sample { milli: 13_000, at: Time::ZERO, window: Duration::from_secs(30) };
        let cpu = Reading::Pods(vec![PodReading { request_milli: None, sample: Some(sample) }]);
        let fleet = Fleet {
            current: 1,
            pods: &pods,
            readings: &[cpu],
            instance_cores: 20.0,
            instance_memory: 0,
            memory_available: 0,
        };
        let settings = SeedFormulaSettings { threshold: Share(0.5), ..SeedFormulaSettings::default() };
        let mut steps = Vec::new();
        let desired = SeedFormulaRatio::new(&settings, Time::ZERO).evaluate(Time::ZERO, &fleet, &mut steps);
        assert_eq!(desired.replicas, 23, "20 cores at 65 % against 50 %");
        assert_eq!(steps[0], ("cpu", 0.65));
    }
}
