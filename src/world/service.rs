//! A service: its list of instances, and what is counted about all of them together.

use crate::policies::autoscaler::AnyAutoscaler;
use crate::random::variate::Zipf;
use crate::stats::histogram::Totals;
use crate::time::Time;

use super::activator::{Activator, Sampled};
use super::attribute::Stickiness;
use super::cache::CacheState;
use super::discovery::Directory;
use super::governor::CpuCounts;
use super::group::Group;
use super::hosts::HealthCounts;
use super::metrics::History;
use super::pool::ConnectionCounts;
use super::recommend::{Advice, Asked};
use super::rollback::Seen;
use super::rollout::{Rollouts, Set};
use super::shutdown::ShutdownCounts;
use super::spec::{Ask, CpuMode, Order, ServiceSpec};
use super::telemetry::{Integral, Moments};
use super::versions::{Life, Shares, Watch};

/// A service while the world runs.
pub(super) struct Service {
    /// Hot settings.
    pub(super) workers: u32,
    pub(super) queue: u32,
    pub(super) cores: u32,
    pub(super) cpu: CpuMode,
    pub(super) drop_when_full: bool,
    /// Attempts may hold a connection, fetch something that others wait for, or take room that others wait for at the
    /// activator.
    pub(super) lends: bool,
    /// None of the above, and the queue is simple: an attempt ends without further questions.
    pub(super) ordinary: bool,
    /// First come, first served, with endless patience, and nobody is shed.
    pub(super) simple_queue: bool,
    /// Arrivals have to ask a limiter, an outage or a kill switch.
    pub(super) guarded: bool,
    /// Callers probe its instances.
    pub(super) probed: bool,
    /// Whether those who come back find their instance again, if some caller cares.
    pub(super) stickiness: Option<Box<Stickiness>>,
    /// Probes sent in the counted part.
    pub(super) probes: u64,
    /// Some caller has a breaker before it.
    pub(super) broken_off: bool,
    /// Answers are looked at: work can come out wrong, or its bytes are counted.
    pub(super) judged: bool,
    /// Instances by ordinal, dead ones included.
    pub(super) slots: Vec<u32>,
    /// Instances that are not dead, oldest first.
    pub(super) living: Vec<u32>,
    /// Outbounds through which it is called, ascending; dead ones may be among them.
    pub(super) callers: Vec<u32>,
    /// Outbounds that all instances share, by edge (`NIL` where each has its own).
    shared: Vec<u32>,
    /// What new instances ask for, unless a recommender knows better.
    pub(super) ask: Ask,
    /// Wanted replicas.
    pub(super) wanted: u32,
    /// From when on its new version knows what the old one knew.
    pub(super) inherited: Option<Time>,
    /// Version that is rolled out, or was last.
    pub(super) version: u8,
    /// Wanted instances by version, the one that came first at the head; several want some while a rollout is in progress.
    pub(super) sets: Vec<Set>,
    pub(super) rollouts: Rollouts,
    pub(super) shutdowns: ShutdownCounts,
    /// How callers divide their traffic between versions, while a rollout says so.
    pub(super) shares: Option<Shares>,
    /// How both versions do, while a rollout may ask.
    pub(super) watch: Option<Box<Watch>>,
    pub(super) autoscaler: Option<AnyAutoscaler>,
    /// Who knows what an instance should ask for.
    pub(super) advice: Option<Box<Advice>>,
    /// What all instances ask for, if that may change.
    pub(super) asked: Asked,
    /// Who holds attempts back while there is no instance.
    pub(super) activator: Option<Box<Activator>>,
    /// What its autoscaler saw last, if it samples for itself.
    pub(super) sampled: Sampled,
    /// Where the last decision of its autoscaler stands.
    pub(super) last_decision: Option<usize>,
    /// What its metrics pipeline remembers beyond the instances, by query.
    pub(super) histories: Vec<History>,
    /// Popularity of the keys of each cache.
    pub(super) popularity: Vec<Zipf>,
    /// Caches that all instances share.
    pub(super) caches: Vec<CacheState>,
    pub(super) cache_hits: u64,
    pub(super) cache_misses: u64,
    /// Dependency outages in force.
    pub(super) outages: u32,
    /// Who knows its endpoints, if clients are not told by the control plane.
    pub(super) directory: Option<Box<Directory>>,
    /// What is counted about the health of its endpoints.
    pub(super) health: HealthCounts,

    pub(super) counted_from: Time,
    /// Attempts inside (waiting or started).
    pub(super) load: Integral,
    pub(super) arrivals: u64,
    /// Sojourn times of all that have left ...
    pub(super) left: Moments,
    /// ... of which these arrived before anything counts.
    left_early: Moments,
    pub(super) refused: u64,
    pub(super) dropped: u64,
    /// Attempts that were dropped when their turn came.
    pub(super) shed: u64,
    /// Attempts that found no free worker.
    pub(super) waited: u64,
    pub(super) wait: Moments,
    /// Waits longer than nothing.
    wait_histogram: Totals,
    pub(super) sojourn_histogram: Totals,
    /// Ready instances over time.
    pub(super) ready: Integral,
    /// What was counted about the cores of processes that are gone.
    pub(super) cpu_counts: CpuCounts,
    /// Instances killed for lack of memory.
    pub(super) oom_kills: u64,
    /// What its callers saw, if somebody would take a change back.
    pub(super) seen: Option<Box<Seen>>,
    /// When its versions were alive, by position; empty if it never changes.
    pub(super) lives: Vec<Life>,
    /// Configurations that its instances follow, by position in `Configs::feeds`.
    pub(super) feeds: Vec<u32>,
    /// Instances that attempts without an answer have started, in the counted part.
    pub(super) outage_starts: u64,
    /// Processes of a version that crashes which have ended by themselves, in the counted part.
    pub(super) crash_restarts: u64,
    /// Instances evicted for their disk in the counted part of the run.
    pub(super) disk_evictions: u64,
    /// Bytes in and out of all instances.
    pub(super) network_bytes: u64,
    /// Handshakes taken in like attempts.
    pub(super) handshakes: u64,
    /// What is counted about connections to it, if some caller needs them.
    pub(super) connections: Option<Box<ConnectionCounts>>,
    /// Its instances agree on a leader.
    pub(super) group: Option<Box<Group>>,
}

impl Service {
    pub(super) fn new(spec: &ServiceSpec, warm_up: Time, guarded: bool, judged: bool) -> Self {
        let lends = !spec.pools.is_empty()
            || spec.caches.iter().any(|cache| cache.single_flight)
            || spec.activator.as_ref().is_some_and(Activator::is_metered);
        let simple_queue =
            spec.order == Order::Fifo && spec.queue_timeout.is_none() && spec.shedding.is_none();
        Self {
            workers: spec.workers,
            queue: spec.queue,
            cores: spec.cores,
            cpu: spec.cpu,
            drop_when_full: spec.drop_when_full,
            lends,
            ordinary: !lends && !judged && simple_queue,
            simple_queue,
            guarded,
            probed: false,
            stickiness: None,
            probes: 0,
            broken_off: false,
            judged,
            slots: Vec::new(),
            living: Vec::new(),
            callers: Vec::new(),
            shared: Vec::new(),
            ask: spec.ask,
            wanted: spec.replicas,
            inherited: None,
            version: 0,
            sets: vec![Set { version: 0, spec: spec.replicas, revision: 1 }],
            rollouts: Rollouts::default(),
            shutdowns: ShutdownCounts::default(),
            shares: None,
            watch: None,
            autoscaler: None,
            advice: None,
            asked: Asked::default(),
            activator: spec.activator.map(|spec| Box::new(Activator::new(spec, warm_up))),
            sampled: Sampled::default(),
            last_decision: None,
            histories: Vec::new(),
            popularity: spec.caches.iter().map(|cache| Zipf::new(cache.keys, cache.zipf)).collect(),
            caches: spec.caches.iter().map(|_| CacheState::default()).collect(),
            cache_hits: 0,
            cache_misses: 0,
            outages: 0,
            directory: spec.directory.as_ref().map(|settings| Box::new(Directory::new(settings))),
            health: HealthCounts::default(),
            counted_from: warm_up,
            load: Integral::default(),
            arrivals: 0,
            left: Moments::default(),
            left_early: Moments::default(),
            refused: 0,
            dropped: 0,
            shed: 0,
            waited: 0,
            wait: Moments::default(),
            wait_histogram: Totals::new(),
            sojourn_histogram: Totals::new(),
            ready: Integral::default(),
            cpu_counts: CpuCounts::default(),
            oom_kills: 0,
            seen: None,
            lives: Vec::new(),
            feeds: Vec::new(),
            outage_starts: 0,
            crash_restarts: 0,
            disk_evictions: 0,
            network_bytes: 0,
            handshakes: 0,
            connections: None,
            group: None,
        }
    }

    /// Attempts that wait at the activator.
    pub(super) fn held(&self) -> u64 {
        self.activator.as_ref().map_or(0, |activator| activator.load.level())
    }

    /// Where the shared outbounds are.
    pub(super) fn share(&mut self, outbounds: Vec<u32>) {
        self.shared = outbounds;
    }

    /// The outbound that all instances share for this edge.
    #[inline]
    pub(super) fn shared_outbound(&self, edge: u32) -> Option<u32> {
        let shared = *self.shared.get(edge as usize)?;
        (shared != super::frame::NIL).then_some(shared)
    }

    /// An attempt is taken in.
    #[inline]
    pub(super) fn enter(&mut self, now: Time) {
        self.arrivals += 1;
        self.load.up(now);
    }

    /// A worker takes an attempt that arrived at `arrived`.
    #[inline]
    pub(super) fn started(&mut self, now: Time, arrived: Time) {
        if arrived >= self.counted_from {
            self.wait.count += 1;
            let wait = (now - arrived).0;
            if wait > 0 {
                self.waited += 1;
                self.wait.sum += u128::from(wait);
                self.wait_histogram.record(wait);
            }
        }
    }

    /// An attempt gave up waiting: its wait counts, though it never started.
    pub(super) fn gave_up(&mut self, now: Time, arrived: Time) {
        if arrived >= self.counted_from {
            let wait = (now - arrived).0;
            self.waited += 1;
            self.wait.add(wait);
            self.wait_histogram.record(wait);
        }
    }

    /// An attempt that arrived at `arrived` is gone.
    #[inline]
    pub(super) fn leave(&mut self, now: Time, arrived: Time) {
        self.load.down(now);
        let sojourn = (now - arrived).0;
        self.left.add(sojourn);
        if arrived >= self.counted_from {
            self.sojourn_histogram.record(sojourn);
        } else {
            self.left_early.add(sojourn);
        }
    }

    /// Sojourn times that count.
    pub(super) fn sojourn(&self) -> Moments {
        Moments { count: self.left.count - self.left_early.count, sum: self.left.sum - self.left_early.sum }
    }

    /// All waits that count, those that were none included.
    pub(super) fn take_waits(&mut self) -> Totals {
        self.wait_histogram.record_many(0, self.wait.count - self.waited);
        std::mem::take(&mut self.wait_histogram)
    }
}
