//! What an instance asks for, what bounds it, and what it uses: cores, memory, side-cars.

use super::{Check, size};
use crate::policies::autoscaler::Resource;
use crate::scenario::de::Spanned;
use crate::scenario::error::{Diagnostic, enumerated};
use crate::scenario::model::{CpuBurst, DiskUse, Gc, MemoryUse, NetworkUse, Service, Sidecar, Signal};
use crate::scenario::schema::{
    CpuBurstTable, CpuWord, DiskUseTable, FullDiskWord, GcTable, InstanceTable, MemoryUseTable,
    NetworkUseTable, ServiceTable, SidecarTable,
};
use crate::time::Duration;

/// Istio's defaults for its proxy: requests of 100m and 128 MiB, at most two cores.
const SIDECAR_CORES: u32 = 2;
const SIDECAR_REQUEST: f64 = 0.1;
const SIDECAR_MEMORY: u64 = 128 << 20;

/// A T instance saves no more than it earns in 24 hours.
const DAY: Duration = Duration::from_secs(86_400);

/// More core time than anybody saves, and still a number of 64 bits in the unit of the simulation.
const MOST_CREDITS: Duration = Duration::from_secs(1_000 * 3_600);

/// The kubelet evicts with less than 10 % of the disk available (`nodefs.available<10%`).
const PRESSURE: f64 = 0.9;

/// Name of an instance's own container.
const OWN_CONTAINER: &str = "app";

/// Cores of a container: how many, request, limit.
pub(super) struct Cores {
    pub(super) count: u32,
    pub(super) request: f64,
    pub(super) limit: Option<f64>,
}

impl Check<'_> {
    /// A container without `cores` may use as many as its limit is worth; one without a request asks for its limit, as in
    /// Kubernetes. A request of 0 is none.
    pub(super) fn cores(
        &mut self,
        cores: Option<&Spanned<u32>>,
        request: Option<&Spanned<f64>>,
        limit: Option<&Spanned<f64>>,
        default_cores: u32,
        default_request: Option<f64>,
    ) -> Cores {
        let limit_cores = limit.map(|limit| self.above_zero(limit.value, "cpu-limit", limit.place));
        let most = limit_cores.map_or(default_cores, |limit| limit.ceil().clamp(1.0, 1e6) as u32);
        let cores = self.one_or_more(cores, "cores", most);
        let asked = request.map(|request| self.at_least(request.value, 0.0, "cpu-request", request.place));
        let fallback = default_request.unwrap_or_else(|| limit_cores.unwrap_or_else(|| f64::from(cores)));
        let request_cores = asked.unwrap_or_else(|| limit_cores.map_or(fallback, |most| most.min(fallback)));
        if let (Some(request), Some(most)) = (request, limit_cores)
            && request.value > most
        {
            let message = format!("a request of {} cores is more than the limit of {most}", request.value);
            self.wrong(message, request.place);
        }
        Cores { count: cores, request: request_cores, limit: limit_cores }
    }

    /// CPU credits of so many cores.
    pub(super) fn cpu_burst(&mut self, table: &CpuBurstTable, cores: u32) -> CpuBurst {
        let baseline = table.baseline.value.0;
        if !(baseline > 0.0 && baseline < 1.0) {
            let message = "`baseline` must be above 0% and below 100%";
            self.wrong(message, table.baseline.place);
        }
        let credits = table.credits.as_ref().map_or(Duration::ZERO, |credits| credits.value);
        let earned = DAY.0 as f64 * baseline * f64::from(cores);
        let max = table
            .max
            .as_ref()
            .map_or_else(|| Duration::from_ns_f64(earned).max(credits), |max| self.some_time(max, "max"));
        if let Some(written) = table.credits.as_ref().filter(|_| credits > max) {
            self.wrong(format!("{credits} of credits are more than the most of {max}"), written.place);
        }
        if let Some(written) =
            [&table.credits, &table.max].into_iter().flatten().find(|it| it.value > MOST_CREDITS)
        {
            self.wrong(format!("at most {MOST_CREDITS} of credits can be counted"), written.place);
        }
        CpuBurst { baseline, credits, max: max.min(MOST_CREDITS) }
    }

    /// Memory request and limit.
    pub(super) fn memory(&mut self, table: &InstanceTable) -> (u64, Option<u64>) {
        let limit = table.memory_limit.map(|limit| limit.value.0);
        let request = table.memory.map(|memory| memory.value.0).or(limit).unwrap_or(0);
        if let (Some(written), Some(limit)) = (&table.memory, limit)
            && request > limit
        {
            let message = format!("a request of {} is more than the limit of {}", size(request), size(limit));
            self.wrong(message, written.place);
        }
        if let (Some(limit), None) = (&table.memory_limit, &table.memory_use) {
            let error = Diagnostic::new("nothing says how much memory is used, so the limit means nothing");
            self.errors
                .push(error.at(limit.place).hint("write memory-use = { base = \"300MiB\" } beside it"));
        }
        (request, limit)
    }

    pub(super) fn memory_use(&mut self, table: &MemoryUseTable, limit: Option<u64>) -> MemoryUse {
        let base = table.base.value.0;
        if let Some(limit) = limit
            && base > limit
        {
            let message = format!(
                "an idle instance uses {}, more than its limit of {}: it would never live",
                size(base),
                size(limit)
            );
            self.wrong(message, table.base.place);
        }
        MemoryUse {
            base,
            per_attempt: table.per_attempt.map_or(0, |bytes| bytes.0),
            leak_per_request: table.leak_per_request.map_or(0, |bytes| bytes.0),
            leak_per_hour: table.leak_per_hour.map_or(0, |bytes| bytes.0),
        }
    }

    pub(super) fn disk_use(&mut self, table: &DiskUseTable) -> DiskUse {
        let whole = table.size.value.0;
        if whole == 0 {
            self.wrong("`size` must be above zero", table.size.place);
        }
        let fails = matches!(table.full, Some(FullDiskWord::Fail));
        if let (Some(pressure), true) = (&table.pressure, fails) {
            let message = "nobody is evicted with full = \"fail\", so `pressure` means nothing";
            self.wrong(message, pressure.place);
        }
        let pressure = table.pressure.as_ref().map_or(PRESSURE, |share| share.value.0);
        if let Some(written) = &table.pressure {
            self.above_zero(written.value.0, "pressure", written.place);
        }
        let most = if fails { whole } else { (whole as f64 * pressure) as u64 };
        let base = table.base.as_ref().map_or(0, |base| base.value.0);
        if let Some(written) = &table.base
            && base >= most
        {
            let message = format!(
                "a fresh disk has {} on it, of {}: it would be full from the start",
                size(base),
                size(whole)
            );
            self.wrong(message, written.place);
        }
        DiskUse {
            size: whole,
            base,
            per_request: table.per_request.map_or(0, |bytes| bytes.0),
            per_hour: table.per_hour.map_or(0, |bytes| bytes.0),
            pressure: (!fails).then_some(pressure),
        }
    }

    pub(super) fn gc(&mut self, table: &GcTable) -> Gc {
        for (bytes, name) in [(&table.per_request, "per-request"), (&table.young, "young")] {
            if bytes.value.0 == 0 {
                self.wrong(format!("`{name}` must be above zero"), bytes.place);
            }
        }
        Gc {
            per_request: table.per_request.value.0,
            young: table.young.value.0,
            pause: self.law(&table.pause),
            per_gib: table.per_gib.unwrap_or(Duration::ZERO),
        }
    }

    /// What divides the cores of an instance finely leaves no room for "first come, first served, to the end".
    pub(super) fn not_fifo(&mut self, table: &ServiceTable) {
        let instance = &table.instance;
        let bound = [
            (instance.cpu_limit.is_some(), "cpu-limit"),
            (instance.cpu_burst.is_some(), "cpu-burst"),
            (instance.gc.is_some(), "gc"),
            (instance.start_cpu.is_some(), "start-cpu"),
            (table.sidecar.iter().any(|sidecar| sidecar.cost.is_some()), "sidecar"),
        ];
        if let (Some(CpuWord::Fifo), Some((_, what))) =
            (instance.cpu, bound.iter().find(|(written, _)| *written))
        {
            let message = format!("`cpu = \"fifo\"` and `{what}` do not go together");
            let error = Diagnostic::new(message).at(table.name.place);
            self.errors.push(error.hint("leave `cpu` out: a scheduler that interrupts shares the cores"));
        }
    }

    pub(super) fn sidecars(&mut self, tables: &[SidecarTable], own: &str) -> Vec<Sidecar> {
        self.unique_names("side-car", tables.iter().map(|table| &table.name));
        let mut sidecars = Vec::new();
        for table in tables {
            if table.name.value == own {
                let message = format!("`{own}` is the name of the instance's own container");
                self.wrong(message, table.name.place);
            }
            let Cores { count: cores, request, limit } = self.cores(
                table.cores.as_ref(),
                table.cpu_request.as_ref(),
                table.cpu_limit.as_ref(),
                SIDECAR_CORES,
                Some(SIDECAR_REQUEST),
            );
            sidecars.push(Sidecar {
                name: table.name.value.clone(),
                cost: self.law_or_zero(table.cost.as_ref()),
                cores,
                cpu_request: request,
                cpu_limit: limit,
                memory: table.memory.map_or(SIDECAR_MEMORY, |memory| memory.value.0),
            });
        }
        sidecars
    }

    /// Name of the instance's own container.
    pub(super) fn own_container(&mut self, table: &InstanceTable) -> String {
        let Some(name) = &table.container else { return OWN_CONTAINER.to_owned() };
        self.well_formed("container", name, false);
        name.value.clone()
    }

    /// What answers an autoscaler that follows a resource of whole instances, or of one container.
    pub(super) fn resource(
        &mut self,
        table: &ServiceTable,
        resource: Resource,
        container: Option<&str>,
    ) -> Option<Signal> {
        let own = table.instance.container.as_ref().map_or(OWN_CONTAINER, |name| name.value.as_str());
        let names: Vec<&str> = std::iter::once(own)
            .chain(table.sidecar.iter().map(|sidecar| sidecar.name.value.as_str()))
            .collect();
        let at = container.map(|container| names.iter().position(|name| *name == container));
        match (resource, at) {
            (_, Some(None)) => {
                let container = container.unwrap_or_default();
                let message = format!("instances have no container `{container}`");
                let known = enumerated(&names);
                let message = format!("the autoscaler of `{}` follows nothing: {message}", table.name.value);
                let error = Diagnostic::new(message).at(table.name.place).note(known);
                self.errors.push(error.hint(format!(
                    "if that is its own: instance = {{ container = \"{container}\" }}; else write a [[service.sidecar]]"
                )));
                None
            }
            (Resource::Cpu, None) => Some(Signal::Cpu),
            (Resource::Cpu, Some(Some(at))) => Some(Signal::ContainerCpu(at)),
            (Resource::Memory, None | Some(Some(0))) if table.instance.memory_use.is_some() => {
                Some(Signal::Memory)
            }
            (Resource::Memory, _) => {
                let message = format!(
                    "the autoscaler of `{}` follows nothing: the memory of its instances is not simulated",
                    table.name.value
                );
                let error = Diagnostic::new(message).at(table.name.place);
                self.errors.push(
                    error.hint("say how much they use: instance = { memory-use = { base = \"300MiB\" } }"),
                );
                None
            }
        }
    }
}

/// Bytes of an endpoint.
pub(super) fn network_use(table: &NetworkUseTable) -> NetworkUse {
    NetworkUse {
        bytes_in: table.bytes_in.map_or(0, |bytes| bytes.0),
        bytes_out: table.bytes_out.map_or(0, |bytes| bytes.0),
    }
}

/// CPU and memory that all containers of an instance ask for.
pub(super) fn requests(service: &Service) -> (f64, u64) {
    let Service { instance, sidecars, .. } = service;
    let cpu = sidecars.iter().map(|sidecar| sidecar.cpu_request).sum::<f64>();
    let memory = sidecars.iter().map(|sidecar| sidecar.memory).sum::<u64>();
    (instance.cpu_request + cpu, instance.memory.saturating_add(memory))
}
