//! Metrics that autoscalers and alerts can ask for, and whether the scenario says what they are made of.

use super::Check;
use crate::scenario::error::Diagnostic;
use crate::scenario::model::{Gauge, Signal, Thing};
use crate::scenario::schema::ServiceTable;

/// Metrics of a service.
const OF_SERVICES: &[(&str, Gauge)] = &[
    ("requests-per-second", Gauge::Rate),
    ("concurrency", Gauge::Concurrency),
    ("queue-length", Gauge::QueueLength),
    ("utilization", Gauge::Utilization),
    ("memory-utilization", Gauge::MemoryUtilization),
    ("disk-utilization", Gauge::DiskUtilization),
    ("network-bytes-per-second", Gauge::Network),
    ("sojourn-mean", Gauge::MeanTime),
];

/// Metrics of a source.
const OF_SOURCES: &[(&str, Gauge)] = &[
    ("requests-per-second", Gauge::Rate),
    ("concurrency", Gauge::Concurrency),
    ("bad-ratio", Gauge::BadRatio),
    ("latency-mean", Gauge::MeanTime),
];

/// Metrics of each instance of a service, beside its resources.
const OF_INSTANCES: &[(&str, Signal)] = &[
    ("concurrency", Signal::Concurrency),
    ("queue-length", Signal::QueueLength),
    ("disk-bytes", Signal::DiskBytes),
    ("disk-utilization", Signal::DiskUtilization),
    ("network-bytes-per-second", Signal::Network),
];

/// What can be asked of a thing.
pub(super) const fn gauges(of: Thing) -> &'static [(&'static str, Gauge)] {
    match of {
        Thing::Service(_) => OF_SERVICES,
        Thing::Source(_) => OF_SOURCES,
    }
}

/// Something that is only simulated where the scenario says how.
#[derive(Clone, Copy)]
pub(super) enum Part {
    MemoryLimit,
    Disk,
    Network,
}

/// Which of them a service has.
#[derive(Clone, Copy)]
pub(super) struct Measured {
    memory_limit: bool,
    disk: bool,
    network: bool,
}

impl Measured {
    pub(super) fn of(table: &ServiceTable) -> Self {
        let instance = &table.instance;
        Self {
            memory_limit: instance.memory_use.is_some() && instance.memory_limit.is_some(),
            disk: instance.disk_use.is_some(),
            network: table.endpoint.iter().any(|endpoint| endpoint.network_use.is_some()),
        }
    }

    const fn has(self, part: Part) -> bool {
        match part {
            Part::MemoryLimit => self.memory_limit,
            Part::Disk => self.disk,
            Part::Network => self.network,
        }
    }
}

/// The error where it is missing, still without a place.
pub(super) fn not_simulated(part: Part, service: &str) -> Diagnostic {
    let (message, hint) = match part {
        Part::MemoryLimit => (
            format!("the memory of `{service}` has no limit that it could be a share of"),
            "write instance = { memory-limit = \"1GiB\", memory-use = { base = \"300MiB\" } }",
        ),
        Part::Disk => (
            format!("the disk of `{service}` is not simulated"),
            "say how large it is: instance = { disk-use = { size = \"20GiB\" } }",
        ),
        Part::Network => (
            format!("nothing says how many bytes the requests of `{service}` are"),
            "write network-use = { in = \"1KiB\", out = \"20KiB\" } in its [[service.endpoint]]",
        ),
    };
    Diagnostic::new(message).hint(hint)
}

impl Check<'_> {
    /// What is missing for a metric of a thing.
    pub(super) fn missing(&self, of: Thing, gauge: Gauge) -> Option<Diagnostic> {
        let part = match gauge {
            Gauge::MemoryUtilization => Part::MemoryLimit,
            Gauge::DiskUtilization => Part::Disk,
            Gauge::Network => Part::Network,
            _ => return None,
        };
        let Thing::Service(at) = of else { return None };
        let has = self.names.measured[at].has(part);
        (!has).then(|| not_simulated(part, &self.names.services[at]))
    }

    /// What answers an autoscaler that asks for a metric of its instances.
    pub(super) fn of_instances(&mut self, table: &ServiceTable, metric: &str) -> Option<Signal> {
        let known: Vec<&str> = OF_INSTANCES.iter().map(|(name, _)| *name).collect();
        let Some(at) = known.iter().position(|name| *name == metric) else {
            let shown = crate::scenario::error::shortened(metric);
            return self.unfollowed(table, &format!("instances have no metric `{shown}`"), &known);
        };
        let signal = OF_INSTANCES[at].1;
        let part = match signal {
            Signal::DiskBytes | Signal::DiskUtilization => Some(Part::Disk),
            Signal::Network => Some(Part::Network),
            _ => None,
        };
        let part = part.filter(|part| !Measured::of(table).has(*part));
        if let Some(part) = part {
            self.errors.push(not_simulated(part, &table.name.value).at(table.name.place));
            return None;
        }
        Some(signal)
    }
}
