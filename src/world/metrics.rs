//! The metrics pipeline: what control loops get to see of the world, which is late and averaged.
//!
//! Every scrape reads counters and gauges; a control loop asks for the latest scrape that has already reached it, and
//! for rates over the window before that.

use crate::kernel::queue::Queue;
use crate::policies::autoscaler::{Phase, Pod, PodReading, Reading, Sample};
use crate::random::Key;
use crate::time::{Duration, Time};

use super::World;
use super::cluster::NODE_GRACE;
use super::control::Control;
use super::instance::{Instance, State};
use super::service::Service;
use super::spec::{Gauge, Signal, Thing};

/// Side-cars that an instance may have.
pub(super) const MAX_SIDECARS: usize = 4;

/// An instance at one scrape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scrape {
    pub(super) at: Time,
    /// Core time used so far, ns.
    cpu_ns: u64,
    /// Attempts inside, waiting or started.
    concurrency: u32,
    /// Attempts that wait.
    queued: u32,
    /// Memory in use, bytes.
    memory: u64,
    /// Bytes on the disk.
    disk: u64,
    /// Bytes in and out so far.
    network: u64,
    /// Core time that each side-car has used so far, ns; nothing without side-cars.
    sidecars: [u64; MAX_SIDECARS],
}

/// Scrapes that may be lost in a row before a reader finds nothing, and one.
const STALE: u64 = 2;

/// Something that is no instance of a scaled service, at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observation {
    pub(super) at: Time,
    /// A level; or, for what is a ratio over a window, a counter ...
    sum: u128,
    /// ... and what it is divided by, a counter as well; 0 for a level.
    per: u128,
}

/// What is remembered of it.
pub(super) type History = Vec<Observation>;

impl Gauge {
    /// The present value, given the observations at both ends of a window; `None` if the window holds nothing.
    pub(super) fn value(self, last: Observation, first: Option<Observation>) -> Option<f64> {
        let unit = match self {
            Self::Concurrency | Self::QueueLength => return Some(last.sum as f64),
            // Per second, not per ns.
            Self::Rate | Self::Network => 1e9,
            // A share that is measured, not counted.
            Self::MemoryUtilization | Self::DiskUtilization => {
                return (last.per > 0).then(|| last.sum as f64 / last.per as f64);
            }
            Self::Utilization | Self::BadRatio => 1.0,
            Self::MeanTime => 1e-9,
        };
        let first = first?;
        let per = last.per - first.per;
        (per > 0).then(|| (last.sum - first.sum) as f64 / per as f64 * unit)
    }
}

/// The latest value that has reached a reader, and for a rate the first one in its window.
pub(super) fn latest<T: Copy>(
    scrapes: &[T],
    at: impl Fn(&T) -> Time,
    now: Time,
    delay: Duration,
    window: Duration,
) -> Option<(T, Option<T>)> {
    let last = *scrapes.iter().rev().find(|scrape| at(scrape) + delay <= now)?;
    let to = at(&last);
    let first = scrapes.iter().find(|scrape| at(scrape) < to && to - at(scrape) <= window).copied();
    Some((last, first))
}

impl World<'_> {
    pub(super) fn on_scrape(&mut self, now: Time, queue: &mut Queue, service: u32) {
        let (period, window, delay) = self.spec.services[service as usize].metrics;
        // Keeps what a late reader with this window can still ask for.
        let horizon = window + delay + period * 2;
        for at in 0..self.services[service as usize].living.len() {
            let index = self.services[service as usize].living[at];
            if self.loses_scrape(now, service, self.instances[index as usize].ordinal) {
                continue;
            }
            let memory = self.memory_in_use(now, index).unwrap_or(0);
            let disk = self.disk_in_use(now, index).unwrap_or(0);
            let instance = &mut self.instances[index as usize];
            if matches!(instance.state, State::Ready | State::Draining) {
                let mut sidecars = [0; MAX_SIDECARS];
                for (at, used) in sidecars.iter_mut().enumerate() {
                    *used = instance.sidecar_used(now, at);
                }
                let scrape = Scrape {
                    at: now,
                    cpu_ns: instance.cpu_used(now),
                    concurrency: instance.inside + instance.queued,
                    queued: instance.queued,
                    memory,
                    disk,
                    network: instance.more.network_bytes,
                    sidecars,
                };
                let scrapes = &mut instance.more.scrapes;
                scrapes.retain(|scrape| now - scrape.at <= horizon);
                scrapes.push(scrape);
            }
        }
        let signals = &self.spec.services[service as usize].signals;
        self.services[service as usize].histories.resize(signals.len(), Vec::new());
        for (at, signal) in signals.iter().enumerate() {
            if let Signal::Of(thing, gauge) = *signal
                && !self.loses_scrape(now, service, u32::MAX - at as u32)
            {
                let observed = self.observe(now, thing, gauge);
                let history = &mut self.services[service as usize].histories[at];
                history.retain(|known| now - known.at <= horizon);
                history.push(observed);
            }
        }
        if now < self.spec.end {
            self.schedule(queue, now + period, Control::Scrape(service));
        }
    }

    /// Whether this scrape of an instance (or of something else, counted down from the top) gets lost.
    fn loses_scrape(&self, now: Time, service: u32, target: u32) -> bool {
        let spec = &self.spec.services[service as usize];
        let key =
            || Key::new(self.seed).named("scrape").named(&spec.name).with(u64::from(target)).with(now.0);
        spec.scrape_loss > 0.0 && key().draws().unit() < spec.scrape_loss
    }

    /// Counters or level at this moment.
    pub(super) fn observe(&self, now: Time, of: Thing, gauge: Gauge) -> Observation {
        let (sum, per) = match of {
            Thing::Source(at) => {
                let source = &self.sources[at as usize];
                match gauge {
                    Gauge::Rate => (u128::from(source.arrivals), u128::from(now.0)),
                    Gauge::Concurrency => (u128::from(source.in_system.level()), 0),
                    Gauge::BadRatio => {
                        let all = source.outcomes.all();
                        (u128::from(all - source.outcomes.good), u128::from(all))
                    }
                    Gauge::MeanTime => (source.time_sum, u128::from(source.outcomes.all())),
                    Gauge::QueueLength | Gauge::Utilization => unreachable!("a source has no workers"),
                    Gauge::MemoryUtilization | Gauge::DiskUtilization | Gauge::Network => {
                        unreachable!("a source has no machines")
                    }
                }
            }
            Thing::Service(at) => {
                let (service, spec) = (&self.services[at as usize], &self.spec.services[at as usize]);
                let each = |part: &dyn Fn(&Instance) -> u64, of: &[u32]| -> u128 {
                    of.iter().map(|&index| u128::from(part(&self.instances[index as usize]))).sum()
                };
                match gauge {
                    Gauge::Rate => (u128::from(service.arrivals), u128::from(now.0)),
                    Gauge::Concurrency => (u128::from(service.load.level() + service.held()), 0),
                    Gauge::QueueLength => {
                        let queued = each(&|instance| u64::from(instance.queued), &service.living);
                        (queued + u128::from(service.held()), 0)
                    }
                    Gauge::Utilization => {
                        let used = each(&|instance| instance.cpu_used(now), &service.slots);
                        (used, service.ready.area(now) * u128::from(service.cores))
                    }
                    Gauge::MemoryUtilization => {
                        let limit = |instance: &Instance| match spec.memory_use {
                            Some(_) => instance.more.ask.memory_limit,
                            None => 0,
                        };
                        self.of_ready(service, limit, |index| self.memory_in_use(now, index))
                    }
                    Gauge::DiskUtilization => {
                        let size = spec.disk_use.as_ref().map_or(0, |disk| disk.size);
                        self.of_ready(service, |_| size, |index| self.disk_in_use(now, index))
                    }
                    Gauge::Network => (u128::from(service.network_bytes), u128::from(now.0)),
                    Gauge::MeanTime => (service.left.sum, u128::from(service.left.count)),
                    Gauge::BadRatio => unreachable!("only a source knows what was good"),
                }
            }
        };
        Observation { at: now, sum, per }
    }

    /// What the ready instances of a service use together, and what they have, each of them `most`.
    fn of_ready(
        &self,
        service: &Service,
        most: impl Fn(&Instance) -> u64,
        used: impl Fn(u32) -> Option<u64>,
    ) -> (u128, u128) {
        let ready = service.living.iter().filter(|&&at| self.instances[at as usize].more.available);
        ready.fold((0, 0), |(sum, of), &at| {
            let most = most(&self.instances[at as usize]);
            (sum + u128::from(used(at).unwrap_or(0)), of + u128::from(most))
        })
    }

    /// The answers to the queries of the control loop of `service`.
    pub(super) fn readings(&self, now: Time, service: u32) -> Vec<Reading> {
        let signals = &self.spec.services[service as usize].signals;
        let living = &self.services[service as usize].living;
        let answer = |(at, signal): (usize, &Signal)| match signal {
            Signal::Of(_, gauge) => {
                let history = self.services[service as usize].histories.get(at);
                let value = history.and_then(|history| self.value(now, service, history, *gauge));
                Reading::Series(value.map(|milli| vec![milli]))
            }
            signal => Reading::Pods(living.iter().map(|&pod| self.pod_reading(now, pod, *signal)).collect()),
        };
        signals.iter().enumerate().map(answer).collect()
    }

    /// What a reader finds of such a metric, in thousandths.
    fn value(&self, now: Time, service: u32, history: &History, gauge: Gauge) -> Option<i64> {
        let (period, window, delay) = self.spec.services[service as usize].metrics;
        let (last, first) = latest(history, |known| known.at, now, delay, window)
            .filter(|(last, _)| now <= last.at + delay + period * STALE)?;
        // Saturates; fractions of a thousandth are dropped.
        gauge.value(last, first).map(|value| (value * 1000.0) as i64)
    }

    /// A metric of one instance.
    pub(super) fn pod_reading(&self, now: Time, index: u32, signal: Signal) -> PodReading {
        let instance = &self.instances[index as usize];
        let spec = &self.spec.services[instance.service as usize];
        let (period, window, delay) = spec.metrics;
        let found = latest(&instance.more.scrapes, |scrape| scrape.at, now, delay, window)
            .filter(|(last, _)| now <= last.at + delay + period * STALE);
        // What runs on a lost machine is not scraped any more; the rest of the control plane notices later.
        let lost = instance.state == State::Dead;
        let found = found.filter(|_| !lost || now < instance.more.dead_at + period + delay);
        if let Signal::Cpu | Signal::ContainerCpu(_) | Signal::Network = signal {
            let used = |scrape: &Scrape| match signal {
                // Its own container has used what the others have not.
                Signal::ContainerCpu(0) => scrape.cpu_ns - scrape.sidecars.iter().sum::<u64>(),
                Signal::ContainerCpu(sidecar) => scrape.sidecars[usize::from(sidecar) - 1],
                Signal::Network => scrape.network,
                _ => scrape.cpu_ns,
            };
            let request = match signal {
                Signal::ContainerCpu(0) => instance.more.ask.cpu_request,
                Signal::ContainerCpu(sidecar) => spec.sidecars[usize::from(sidecar) - 1].cpu_request,
                _ => spec.cpu_request(&instance.more.ask),
            };
            let sample = found.and_then(|(last, first)| {
                let first = first?;
                let window = last.at - first.at;
                let used = used(&last) - used(&first);
                // Core time is in ns, bytes are not.
                let unit = if signal == Signal::Network { 1_000_000_000 } else { 1 };
                let milli = u128::from(used) * unit * 1000 / u128::from(window.0);
                Some(Sample { milli: i64::try_from(milli).unwrap_or(i64::MAX), at: last.at, window })
            });
            // One container without a request, and the pod has none; nobody requests bytes.
            let is_known =
                signal != Signal::Network && (signal != Signal::Cpu || spec.has_requests(&instance.more.ask));
            let request = Some((request * 1000.0) as i64).filter(|request| is_known && *request > 0);
            return PodReading { request_milli: request, sample };
        }
        let milli = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX).saturating_mul(1000);
        if signal == Signal::Memory {
            let sample = found.map(|(last, _)| Sample {
                milli: milli(last.memory),
                at: last.at,
                window: Duration::ZERO,
            });
            let request = spec.memory_use.as_ref().map(|_| milli(instance.more.ask.memory_request));
            return PodReading { request_milli: request.filter(|request| *request > 0), sample };
        }
        let sample = found.map(|(last, _)| {
            let milli = match signal {
                Signal::DiskBytes => milli(last.disk),
                Signal::DiskUtilization => {
                    let size = spec.disk_use.as_ref().map_or(1, |disk| disk.size);
                    (u128::from(last.disk) * 1000 / u128::from(size)) as i64
                }
                Signal::QueueLength => i64::from(last.queued) * 1000,
                _ => i64::from(last.concurrency) * 1000,
            };
            Sample { milli, at: last.at, window: Duration::ZERO }
        });
        PodReading { request_milli: None, sample }
    }

    /// An instance as the API server shows it.
    pub(super) fn pod(&self, now: Time, index: u32) -> Pod {
        let instance = &self.instances[index as usize];
        let noticed = instance.more.dead_at + NODE_GRACE;
        let changed = if instance.state == State::Dead && noticed <= now {
            noticed
        } else {
            instance.more.ready_changed.unwrap_or(instance.more.launched)
        };
        Pod {
            phase: match instance.state {
                State::Pending => Phase::Pending,
                // A lost one keeps its phase until it is given up.
                State::Starting | State::Ready | State::Draining | State::Dead => Phase::Running,
            },
            ready: Some((self.ready_since(now, index).is_some(), changed)),
            started: (instance.state != State::Pending).then_some(instance.more.launched),
            deleting: instance.more.leaving,
        }
    }
}
