//! What is measured while the world runs: integrals, moments, and one row per window.

use crate::kernel::queue::Queue;
use crate::policies::breaker::BreakerState;
use crate::stats::histogram::Window;
use crate::time::{Duration, Time};

use super::World;
use super::cluster::Phase;
use super::control::Control;
use super::governor::{CpuCounts, CpuShares};
use super::instance::State;
use super::pool::ConnectionCounts;
use super::report::{Decision, LogEntry, Step, WindowSeries};
use super::service::Service;
use super::source::Outcomes;

/// Exact time integral of a count: the area under N(t), in count x ns.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Integral {
    level: u64,
    /// Sum of the times of all steps down less that of all steps up. Summation by parts: the area up to a moment is the
    /// level times that moment, plus this.
    steps: i128,
}

impl Integral {
    /// Raises the level by one.
    #[inline]
    pub(super) fn up(&mut self, now: Time) {
        self.level += 1;
        self.steps -= i128::from(now.0);
    }

    /// Lowers the level by one.
    #[inline]
    pub(super) fn down(&mut self, now: Time) {
        assert!(self.level > 0, "INV-7: nobody leaves who has not come");
        self.level -= 1;
        self.steps += i128::from(now.0);
    }

    /// Changes the level.
    pub(super) fn set(&mut self, now: Time, level: u64) {
        self.steps -= (i128::from(level) - i128::from(self.level)) * i128::from(now.0);
        self.level = level;
    }

    /// Present level.
    #[inline]
    pub(super) const fn level(&self) -> u64 {
        self.level
    }

    /// Area from the start of the run up to `now`, which is no earlier than the last step.
    pub(super) fn area(&self, now: Time) -> u128 {
        let area = i128::from(self.level) * i128::from(now.0) + self.steps;
        u128::try_from(area).expect("INV-7: no level is negative")
    }
}

/// Number and sum of durations; exact.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments {
    pub(super) count: u64,
    pub(super) sum: u128,
}

impl Moments {
    #[inline]
    pub(super) fn add(&mut self, ns: u64) {
        self.count += 1;
        self.sum += u128::from(ns);
    }

    /// Mean in ms.
    pub(super) fn mean_ms(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64 / 1e6)
    }
}

/// Length of one look at the objective (DESIGN section 8: five consecutive 10 s windows).
pub(super) const RECOVERY_WINDOW: Duration = Duration::from_secs(10);

/// Windows in a row that count as recovered.
const RECOVERED_AFTER: u32 = 5;

/// Most lines of each log that a run keeps; what comes later is counted.
const MAX_LINES: usize = 200_000;

/// Most inconsistent requests that a run names.
const MAX_INCONSISTENT: usize = 10_000;

/// Measurements that belong to the whole world.
pub(super) struct Telemetry {
    pub(super) breaker_rejections: u64,
    pub(super) limiter_rejections: u64,
    pub(super) budget_refusals: u64,
    /// Core time of attempts that were of use to a good answer, ns.
    pub(super) useful_cpu: u128,
    /// Keys of counted requests that met two versions, the first so many.
    pub(super) inconsistent: Vec<u64>,
    pub(super) log: Vec<LogEntry>,
    pub(super) decisions: Vec<Decision>,
    /// End of each window, seconds.
    pub(super) t_s: Vec<f64>,
    pub(super) series: Vec<WindowSeries>,
    previous: Option<Mark>,
    pub(super) started: Option<Mark>,
    pub(super) ended: Option<Mark>,
    pub(super) recovery: Recovery,
    /// By pool: time with so many nodes up, ns.
    pub(super) nodes_up: Vec<Vec<u128>>,
    nodes_since: Vec<(usize, Time)>,
}

/// How long the objective is missed after the last fault has ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recovery {
    /// End of the last fault.
    pub(super) fault_end: Option<Time>,
    /// Start of the first of five good windows since then.
    pub(super) recovered_at: Option<Time>,
    run: u32,
    offered: u64,
    good: u64,
    pub(super) slow: u64,
    slow_before: u64,
}

/// All counters at one moment.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) at: Time,
    pub(super) services: Vec<ServiceMark>,
    pub(super) sources: Vec<SourceMark>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ServiceMark {
    pub(super) load: u128,
    pub(super) ready: u128,
    pub(super) cpu: u128,
    /// Thousandths of a core, and bytes, that were asked for, times ns.
    pub(super) asked_cpu: u128,
    pub(super) asked_memory: u128,
    pub(super) refused: u64,
    /// Attempts dropped when their turn came.
    pub(super) shed: u64,
    pub(super) attempts: u64,
    /// Attempts that came to the activator, and those it sent on.
    pub(super) held: u64,
    pub(super) let_out: u64,
    pub(super) calls: u64,
    pub(super) cache_hits: u64,
    pub(super) cache_misses: u64,
    /// Of services whose cores something bounds.
    pub(super) cpu_counts: CpuCounts,
    /// Bytes in and out so far.
    pub(super) network_bytes: u64,
    /// Of services that are reached by connections.
    pub(super) connections: ConnectionMark,
}

/// What has been counted about connections.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionMark {
    pub(super) open: u128,
    pub(super) waiting: u128,
    pub(super) begun: u64,
    pub(super) established: u64,
    pub(super) resumed: u64,
    pub(super) failed: u64,
    pub(super) stale: u64,
    pub(super) refused: u64,
}

impl ConnectionMark {
    fn of(counts: &ConnectionCounts, now: Time) -> Self {
        Self {
            open: counts.open.area(now),
            waiting: counts.waiting.area(now),
            begun: counts.begun,
            established: counts.established,
            resumed: counts.resumed,
            failed: counts.failed,
            stale: counts.stale,
            refused: counts.refused,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct SourceMark {
    pub(super) in_system: u128,
    arrivals: u64,
    outcomes: Outcomes,
}

impl Telemetry {
    pub(super) fn new(pools: &[super::spec::PoolSpec]) -> Self {
        Self {
            breaker_rejections: 0,
            limiter_rejections: 0,
            budget_refusals: 0,
            useful_cpu: 0,
            inconsistent: Vec::new(),
            log: Vec::new(),
            decisions: Vec::new(),
            t_s: Vec::new(),
            series: Vec::new(),
            previous: None,
            started: None,
            ended: None,
            recovery: Recovery::default(),
            nodes_up: pools.iter().map(|pool| vec![0; pool.nodes as usize + 1]).collect(),
            nodes_since: pools.iter().map(|pool| (pool.nodes as usize, Time::ZERO)).collect(),
        }
    }

    /// A counted request met two versions.
    pub(super) fn note_inconsistent(&mut self, key: u64) {
        if self.inconsistent.len() < MAX_INCONSISTENT {
            self.inconsistent.push(key);
        }
    }

    /// Writes one line of `events.csv`.
    pub(super) fn log(&mut self, now: Time, kind: &'static str, subject: String, detail: String) {
        if self.log.len() < MAX_LINES {
            self.log.push(LogEntry { at: now, kind, subject, detail });
        }
    }

    /// Writes one line of `decisions.jsonl`.
    pub(super) fn decide(&mut self, decision: Decision) {
        if self.decisions.len() < MAX_LINES {
            self.decisions.push(decision);
        }
    }

    /// A fault is over; recovery is measured from the last one.
    pub(super) const fn fault_ended(&mut self, now: Time) {
        self.recovery.fault_end = Some(now);
        self.recovery.recovered_at = None;
        self.recovery.run = 0;
    }
}

impl World<'_> {
    /// Schedules the windows and the borders of the counted part.
    pub(super) fn begin_telemetry(&mut self, queue: &mut Queue) {
        self.schedule(queue, self.spec.warm_up, Control::WarmUp);
        self.schedule(queue, self.spec.end, Control::End);
        self.telemetry.previous = Some(self.take_mark(Time::ZERO));
        self.next_window(Time::ZERO, queue);
        self.next_look(Time::ZERO, queue);
    }

    /// The last window ends with the counted part, however long it is.
    pub(super) fn next_window(&mut self, now: Time, queue: &mut Queue) {
        let next = now + self.spec.resolution;
        if next < self.spec.end {
            self.schedule(queue, next, Control::Window);
        }
    }

    /// Looks at the objective, if there is one, end with the counted part too.
    pub(super) fn next_look(&mut self, now: Time, queue: &mut Queue) {
        let next = now + RECOVERY_WINDOW;
        if next < self.spec.end && self.looks_at(next) {
            self.schedule(queue, next, Control::Recovery);
        }
    }

    /// Whether the objective is looked at at `now`.
    pub(super) const fn looks_at(&self, now: Time) -> bool {
        let objective = self.spec.objective;
        (objective.availability.is_some() || objective.latency_p99.is_some())
            && now.0.is_multiple_of(RECOVERY_WINDOW.0)
    }

    /// Notes the counters at a border of the counted part.
    pub(super) fn mark(&mut self, now: Time, end: bool) {
        let mark = self.take_mark(now);
        if end {
            for pool in 0..self.spec.pools.len() {
                self.settle_nodes(now, pool);
            }
            self.telemetry.ended = Some(mark);
        } else {
            self.telemetry.started = Some(mark);
        }
    }

    pub(super) fn take_mark(&self, now: Time) -> Mark {
        let mut services: Vec<ServiceMark> = self
            .services
            .iter()
            .map(|service| {
                let instances = service.slots.iter().map(|&index| &self.instances[index as usize]);
                let mut cpu_counts = service.cpu_counts;
                for &index in &service.living {
                    cpu_counts.add(&self.instances[index as usize].cpu_counts(now));
                }
                let activator = service.activator.as_deref();
                ServiceMark {
                    load: service.load.area(now),
                    ready: service.ready.area(now),
                    cpu: instances.map(|instance| u128::from(instance.cpu_used(now))).sum(),
                    asked_cpu: service.asked.cpu.area(now),
                    asked_memory: service.asked.memory.area(now),
                    refused: service.refused + service.dropped,
                    shed: service.shed,
                    attempts: 0,
                    held: activator.map_or(0, |activator| activator.arrivals + activator.refused),
                    let_out: activator.map_or(0, |activator| activator.sent),
                    calls: 0,
                    cache_hits: service.cache_hits,
                    cache_misses: service.cache_misses,
                    cpu_counts,
                    network_bytes: service.network_bytes,
                    connections: service
                        .connections
                        .as_deref()
                        .map_or_else(ConnectionMark::default, |counts| ConnectionMark::of(counts, now)),
                }
            })
            .collect();
        for outbound in &self.outbounds {
            let service = &mut services[outbound.service as usize];
            service.attempts += outbound.attempts;
            service.calls += if outbound.stateful { outbound.firsts } else { outbound.attempts };
        }
        let sources = self.sources.iter().map(|source| SourceMark {
            in_system: source.in_system.area(now),
            arrivals: source.arrivals,
            outcomes: source.outcomes,
        });
        Mark { at: now, services, sources: sources.collect() }
    }

    /// Closes a timeline window: one value for every curve.
    pub(super) fn close_window(&mut self, now: Time) {
        if cfg!(debug_assertions) {
            self.check_books(now);
        }
        let Some(before) = self.telemetry.previous.take_if(|before| before.at < now) else { return };
        let mark = self.take_mark(now);
        let width = (now - before.at).as_secs_f64();
        let mut row: Vec<(&'static str, String, &'static str, f64)> = Vec::new();
        let mut all = Window::new();
        let mut total = (0, 0, 0, 0);
        for (index, source) in self.sources.iter_mut().enumerate() {
            let (new, old) = (&mark.sources[index], &before.sources[index]);
            let counts = (
                new.arrivals - old.arrivals,
                new.outcomes.good - old.outcomes.good,
                new.outcomes.all() - old.outcomes.all(),
                source.in_system.level(),
            );
            total = (total.0 + counts.0, total.1 + counts.1, total.2 + counts.2, total.3 + counts.3);
            all.merge(&source.window);
            if self.spec.sources.len() > 1 {
                let name = &self.spec.sources[index].name;
                push_requests(&mut row, "source", name, counts, width, &source.window);
            }
            source.window.clear();
        }
        push_requests(&mut row, "run", "", total, width, &all);
        for (index, service) in self.services.iter().enumerate() {
            let (new, old) = (&mark.services[index], &before.services[index]);
            let name = &self.spec.services[index].name;
            let mut push = |metric, value| row.push(("service", name.clone(), metric, value));
            push("attempts_rps", (new.attempts - old.attempts) as f64 / width);
            push("refused_rps", (new.refused - old.refused) as f64 / width);
            push("in_system", (new.load - old.load) as f64 / (width * 1e9));
            let capacity = (new.ready - old.ready) as f64 * f64::from(service.cores);
            push(
                "utilization",
                if capacity > 0.0 { (new.cpu - old.cpu) as f64 / capacity } else { f64::NAN },
            );
            let spec = &self.spec.services[index];
            let cpu = CpuShares::between(&old.cpu_counts, &new.cpu_counts);
            if spec.has_quota {
                push("throttled_ratio", cpu.throttled.unwrap_or(f64::NAN));
            }
            if self.spec.shares_cpu(spec) {
                push("steal_ratio", cpu.stolen.unwrap_or(f64::NAN));
            }
            if spec.burst.is_some() {
                let shared = |&at: &u32| self.instances[at as usize].more.shared.as_ref();
                let left = service.living.iter().filter_map(|at| shared(at)?.credits(now));
                push("burst_credits_s", mean(left) / 4096e9);
            }
            if spec.memory_use.is_some() {
                push(
                    "memory_bytes",
                    mean(service.living.iter().filter_map(|&at| self.memory_in_use(now, at))),
                );
            }
            if spec.disk_use.is_some() {
                push("disk_bytes", mean(service.living.iter().filter_map(|&at| self.disk_in_use(now, at))));
            }
            if !spec.network_use.is_empty() {
                push("network_bytes_per_second", (new.network_bytes - old.network_bytes) as f64 / width);
            }
            if spec.is_sized() {
                self.push_sizes(index as u32, &mut push);
            }
            push("replicas_wanted", f64::from(service.wanted));
            push("replicas_ready", service.ready.level() as f64);
            let queued =
                service.living.iter().map(|&at| u64::from(self.instances[at as usize].queued)).sum::<u64>();
            push("queue_length", (queued + service.held()) as f64);
            if let Some(group) = &service.group {
                push("leaders", f64::from(group.accepting));
                push("replica_lag_writes", Self::replica_lag(group));
            }
            if let Some(counts) = &service.connections {
                let (new, old) = (&new.connections, &old.connections);
                push("connections", counts.open.level() as f64);
                push("connects_rps", (new.begun - old.begun) as f64 / width);
                let errors = (new.failed - old.failed) + (new.stale - old.stale);
                push("connection_errors_rps", errors as f64 / width);
                push("pool_waiting", counts.waiting.level() as f64);
                push("connection_skew", self.connection_skew(service));
            }
            if service.broken_off {
                let outbounds = self.outbounds.iter();
                let outbounds =
                    outbounds.filter(|outbound| outbound.service as usize == index && outbound.alive);
                let stacks = outbounds.flat_map(super::outbound::Outbound::stacks);
                let open = stacks.filter(|stack| stack.breaker_state != BreakerState::Closed);
                push("breakers_open", open.count() as f64);
            }
        }
        if self.spec.pools.iter().any(|pool| pool.scales.is_some()) {
            self.push_nodes(&mut row);
        }
        self.push_errands(now, &mut row);
        self.telemetry.t_s.push(now.as_secs_f64());
        let rows = self.telemetry.t_s.len();
        for (at, (scope, name, metric, value)) in row.into_iter().enumerate() {
            if let Some(series) = self.telemetry.series.get_mut(at) {
                debug_assert!(series.metric == metric && series.values.len() + 1 == rows);
                series.values.push(value);
            } else {
                self.telemetry.series.push(WindowSeries { scope, name, metric, values: vec![value] });
            }
        }
        self.telemetry.previous = Some(mark);
    }

    /// Connections of the ready instance that has most, over their mean.
    fn connection_skew(&self, service: &Service) -> f64 {
        let living = service.living.iter().map(|&at| &self.instances[at as usize]);
        let ready = living.filter(|instance| instance.state == State::Ready);
        let (mut count, mut sum, mut most) = (0, 0, 0);
        for instance in ready {
            count += 1;
            sum += instance.more.connections;
            most = most.max(instance.more.connections);
        }
        if sum == 0 { f64::NAN } else { f64::from(most) * f64::from(count) / f64::from(sum) }
    }

    /// Curves about topics and transactions.
    fn push_errands(&self, now: Time, row: &mut Vec<(&'static str, String, &'static str, f64)>) {
        for (spec, topic) in self.spec.topics.iter().zip(&self.topics) {
            let backlog: u64 = topic.consumers.iter().map(|one| one.backlog.level()).sum();
            row.push(("topic", spec.name.clone(), "backlog", backlog as f64));
            row.push(("topic", spec.name.clone(), "oldest_s", topic.oldest(now).as_secs_f64()));
        }
        for (kind, spec) in (0..).zip(&self.spec.transactions) {
            let [open, in_doubt, waiting] = self.transaction_levels(kind);
            let levels = [("open", open), ("in_doubt", in_doubt), ("waiting_for_rows", waiting)];
            for (metric, level) in levels {
                row.push(("transaction", spec.name.clone(), metric, level as f64));
            }
        }
    }

    /// Curves about node pools whose size may change.
    fn push_nodes(&self, row: &mut Vec<(&'static str, String, &'static str, f64)>) {
        for (index, pool) in self.spec.pools.iter().enumerate() {
            let of_pool = self.cluster.nodes.iter().filter(|node| node.pool as usize == index);
            let (mut ready, mut ordered) = (0, 0);
            for node in of_pool {
                ready += u32::from(node.is_up());
                ordered += u32::from(matches!(node.phase, Phase::Ordered | Phase::Booting));
            }
            // Who may go to several pools counts for the first.
            let first = |service: u32| self.spec.services[service as usize].node_pools.first();
            let pending = self.cluster.pending.iter();
            let pending = pending.filter(|(service, _)| first(*service) == Some(&(index as u32))).count();
            for (metric, value) in [
                ("nodes_ready", f64::from(ready)),
                ("nodes_ordered", f64::from(ordered)),
                ("pending_instances", pending as f64),
            ] {
                row.push(("node-pool", pool.name.clone(), metric, value));
            }
        }
    }

    /// Looks at the last ten seconds and compares them with the objective.
    pub(super) fn look_at_objective(&mut self, now: Time) {
        let offered: u64 = self.sources.iter().map(|source| source.outcomes.all()).sum();
        let good: u64 = self.sources.iter().map(|source| source.outcomes.good).sum();
        let objective = self.spec.objective;
        let recovery = &mut self.telemetry.recovery;
        let (ended, well) = (offered - recovery.offered, good - recovery.good);
        let slow = recovery.slow - recovery.slow_before;
        (recovery.offered, recovery.good, recovery.slow_before) = (offered, good, recovery.slow);
        let available = objective.availability.is_none_or(|wanted| well as f64 >= wanted * ended as f64);
        // p99 meets the objective if at most one good answer in a hundred was slower.
        let quick = objective.latency_p99.is_none() || slow * 100 <= well;
        let met = ended > 0 && available && quick;
        if recovery.recovered_at.is_some() || recovery.fault_end.is_none_or(|end| now - end < RECOVERY_WINDOW)
        {
            return;
        }
        recovery.run = if met { recovery.run + 1 } else { 0 };
        if recovery.run == RECOVERED_AFTER {
            let first = Duration(RECOVERY_WINDOW.0 * u64::from(RECOVERED_AFTER));
            recovery.recovered_at = Some(Time(now.0 - first.0));
        }
    }

    /// The number of nodes up in the pool of `node` has changed.
    pub(super) fn note_nodes(&mut self, now: Time, node: u32) {
        let pool = self.cluster.nodes[node as usize].pool;
        self.settle_nodes(now, pool as usize);
        let up = self.cluster.nodes.iter().filter(|node| node.pool == pool && node.is_up()).count();
        self.telemetry.nodes_since[pool as usize].0 = up;
    }

    fn settle_nodes(&mut self, now: Time, pool: usize) {
        let telemetry = &mut self.telemetry;
        let (up, since) = telemetry.nodes_since[pool];
        // Only the counted part counts.
        let from = since.max(self.spec.warm_up);
        let times = &mut telemetry.nodes_up[pool];
        if times.len() <= up {
            times.resize(up + 1, 0);
        }
        times[up] += u128::from((now.min(self.spec.end) - from).0);
        telemetry.nodes_since[pool].1 = now;
    }

    /// A breaker changed its state.
    #[cold]
    pub(super) fn breaker_changed(
        &mut self,
        now: Time,
        index: u32,
        before: BreakerState,
        after: BreakerState,
    ) {
        let outbound = &self.outbounds[index as usize];
        let to = &self.spec.services[outbound.service as usize].name;
        let from = match self.spec.sources.get(outbound.source as usize) {
            Some(source) => source.name.clone(),
            None => self.owner_of(index),
        };
        self.telemetry.decide(Decision {
            at: now,
            kind: "breaker",
            subject: format!("{from} -> {to}"),
            inputs: vec![Step { metric: None, what: "client", value: f64::from(index) }],
            before: f64::from(before as u8),
            after: f64::from(after as u8),
            reason: match after {
                BreakerState::Closed => "closed",
                BreakerState::Open => "open",
                BreakerState::HalfOpen => "half-open",
            },
        });
    }

    fn owner_of(&self, outbound: u32) -> String {
        let owner = self.instances.iter().find(|instance| {
            let edges = self.spec.services[instance.service as usize].edges.len() as u32;
            (instance.outbounds..instance.outbounds + edges).contains(&outbound)
        });
        owner.map_or_else(String::new, |instance| self.spec.services[instance.service as usize].name.clone())
    }
}

/// Mean of what instances use; nothing without instances.
fn mean(used: impl Iterator<Item = u64>) -> f64 {
    let (count, sum) = used.fold((0u64, 0u128), |(count, sum), used| (count + 1, sum + u128::from(used)));
    if count == 0 { f64::NAN } else { sum as f64 / count as f64 }
}

/// Curves about requests of one source, or of all.
fn push_requests(
    row: &mut Vec<(&'static str, String, &'static str, f64)>,
    scope: &'static str,
    name: &str,
    (offered, good, ended, inside): (u64, u64, u64, u64),
    width: f64,
    window: &Window,
) {
    let mut push = |metric, value| row.push((scope, name.to_owned(), metric, value));
    push("offered_rps", offered as f64 / width);
    push("throughput_rps", ended as f64 / width);
    push("goodput_rps", good as f64 / width);
    push("availability", if ended > 0 { good as f64 / ended as f64 } else { f64::NAN });
    for (metric, q) in [("latency_p50_ms", 0.5), ("latency_p90_ms", 0.9), ("latency_p99_ms", 0.99)] {
        push(metric, window.quantile(q).map_or(f64::NAN, |ns| ns / 1e6));
    }
    push("in_system", inside as f64);
}
