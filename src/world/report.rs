//! What a run reports at its end: metrics, curves, logs, and the proof that nothing got lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kernel::journal::Journal;
use crate::policies::rollout::Rollout as _;
use crate::stats::histogram::Totals;
use crate::time::{Duration, Time};

use super::World;
use super::frame::NIL;
use super::governor::CpuShares;
use super::instance::Instance;
use super::spec::{Operation, RolloutSpec};
use super::telemetry::{Mark, Moments};
use super::versions::VersionLife;

/// Everything one run has to say.
#[derive(Clone, Debug)]
pub struct RunReport {
    /// Time of the last event.
    pub end: Time,
    /// Digest of the event journal and the final counters.
    pub digest: u64,
    /// Root requests.
    pub requests: u64,
    /// Attempts that reached a service.
    pub hops: u64,
    /// Events handled.
    pub events: u64,
    /// Metrics of DESIGN section 8, by name.
    pub metrics: BTreeMap<String, f64>,
    /// End of each timeline window, seconds.
    pub t_s: Vec<f64>,
    /// Curves on these windows.
    pub series: Vec<WindowSeries>,
    /// (scope, name, histogram of latencies in ns).
    pub histograms: Vec<NamedHistogram>,
    /// (service, histogram of waiting times in ns): every counted attempt, those that gave up included.
    pub waits: Vec<(String, Totals)>,
    /// Versions of the services that are updated.
    pub lives: Vec<VersionLife>,
    /// Lines of `events.csv`.
    pub log: Vec<LogEntry>,
    /// Lines of `decisions.jsonl`.
    pub decisions: Vec<Decision>,
    /// Keys of the first counted requests that met two versions of a service.
    pub inconsistent: Vec<u64>,
    /// By node pool: time with so many nodes up within the counted part, ns.
    pub nodes_up: Vec<Vec<u128>>,
}

/// Scope, name and latencies in ns.
pub type NamedHistogram = (&'static str, String, Totals);

/// One curve.
#[derive(Clone, Debug)]
pub struct WindowSeries {
    /// `run`, `source`, `service`, `node-pool`, `topic` or `transaction`.
    pub scope: &'static str,
    /// Name within the scope.
    pub name: String,
    /// What it shows, unit last.
    pub metric: &'static str,
    /// One value per window, NaN where there is none.
    pub values: Vec<f64>,
}

/// One line of `events.csv`.
#[derive(Clone, Debug)]
pub struct LogEntry {
    /// When.
    pub at: Time,
    /// Kind of line.
    pub kind: &'static str,
    /// What it is about.
    pub subject: String,
    /// What happened.
    pub detail: String,
}

/// One figure on the way to a decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The metric it belongs to, where a control loop follows several.
    pub metric: Option<Arc<str>>,
    /// Short name.
    pub what: &'static str,
    /// Its value.
    pub value: f64,
}

/// One line of `decisions.jsonl`.
#[derive(Clone, Debug)]
pub struct Decision {
    /// When.
    pub at: Time,
    /// Who decides: `autoscaler`, `recommender`, `provisioner`, `breaker`.
    pub kind: &'static str,
    /// About what.
    pub subject: String,
    /// Inputs, proposals and clamps in the order in which they applied.
    pub inputs: Vec<Step>,
    /// State before and after: replicas, cores that a new instance asks for, nodes of a group, or 0 closed, 1 open, 2 half-open.
    pub before: f64,
    /// See `before`.
    pub after: f64,
    /// Why.
    pub reason: &'static str,
}

impl Decision {
    /// Whether nothing but the time differs.
    pub(super) fn repeats(&self, other: &Self) -> bool {
        (self.kind, self.before, self.after, self.reason)
            == (other.kind, other.before, other.after, other.reason)
            && self.inputs == other.inputs
    }
}

impl World<'_> {
    /// Checks the books and writes the report.
    pub(super) fn report(mut self, end: Time, journal: &Journal) -> RunReport {
        self.check_books(end);
        if self.telemetry.ended.is_none() {
            self.mark(end, true);
            self.close_window(end);
        }
        let started = self.telemetry.started.take().unwrap_or_else(|| self.take_mark(end));
        let ended = self.telemetry.ended.take().expect("marked above");
        let mut metrics = BTreeMap::new();
        self.request_metrics(&mut metrics, &started, &ended);
        self.service_metrics(&mut metrics, &started, &ended);
        self.rollout_metrics(&mut metrics, end);
        self.fleet_metrics(&mut metrics, &started, &ended);
        self.group_metrics(end, &mut metrics);
        for (alert, watch) in self.spec.alerts.iter().zip(&self.alerts) {
            metrics.insert(format!("alert.{}.fired", alert.name), watch.fired as f64);
            let firing = watch.firing_until(ended.at).as_secs_f64();
            metrics.insert(format!("alert.{}.firing_s", alert.name), firing);
        }
        for (prediction, predictor) in self.spec.predictions.iter().zip(&self.predictors) {
            let mut put = |name: &str, value: u64| {
                metrics.insert(format!("prediction.{}.{name}", prediction.name), value as f64);
            };
            put("raised", predictor.raised);
            put("false_alarms", predictor.false_alarms);
            put("missed", predictor.missed);
        }
        self.change_metrics(&mut metrics, ended.at);
        self.topic_metrics(&mut metrics, end);
        self.transaction_metrics(&mut metrics);
        let mut journal = journal.clone();
        for source in &self.sources {
            for word in [source.arrivals, source.outcomes.good, source.time_sum as u64] {
                journal.fold(word);
            }
        }
        let hops = self.outbounds.iter().map(|outbound| outbound.attempts).sum();
        let (histograms, waits) = self.histograms();
        let lives = self.lives(ended.at);
        RunReport {
            lives,
            end,
            digest: journal.digest(),
            requests: self.sources.iter().map(|source| source.arrivals).sum(),
            hops,
            events: journal.events(),
            metrics,
            t_s: self.telemetry.t_s,
            series: self.telemetry.series,
            histograms,
            waits,
            inconsistent: self.telemetry.inconsistent,
            log: self.telemetry.log,
            decisions: self.telemetry.decisions,
            nodes_up: self.telemetry.nodes_up,
        }
    }

    fn request_metrics(&self, metrics: &mut BTreeMap<String, f64>, started: &Mark, ended: &Mark) {
        let degrades = self.spec.actions.iter().any(|action| matches!(action.what, Operation::Degrade(..)));
        let mut all = Tally::default();
        for (index, source) in self.sources.iter().enumerate() {
            let tally = Tally {
                offered: source.counted_arrivals,
                outcomes: source.counted,
                latency: source.latency,
                histogram: source.histogram.clone(),
                in_system: ended.sources[index].in_system - started.sources[index].in_system,
                inconsistent: source.inconsistent,
                degraded: degrades.then_some(source.degraded),
            };
            if self.sources.len() > 1 {
                tally.write(
                    metrics,
                    &format!("source.{}.", self.spec.sources[index].name),
                    started.at,
                    ended.at,
                );
            }
            all.add(&tally);
        }
        all.write(metrics, "", started.at, ended.at);
        let availability = metrics.get("availability").copied();
        if let (Some(wanted), Some(availability)) = (self.spec.objective.availability, availability)
            && wanted < 1.0
        {
            metrics.insert("error_budget_burned".into(), (1.0 - availability) / (1.0 - wanted));
        }
        if self.spec.services.iter().any(|service| service.version_slot.is_some()) {
            metrics.insert("version_inconsistent_requests".into(), all.inconsistent as f64);
        }
        let recovery = &self.telemetry.recovery;
        if let Some(fault_end) = recovery.fault_end {
            let objective = self.spec.objective;
            if objective.availability.is_some() || objective.latency_p99.is_some() {
                let recovered = recovery.recovered_at.map(|at| (at - fault_end).as_secs_f64());
                metrics.insert("recovery_unrecovered".into(), f64::from(u8::from(recovered.is_none())));
                if let Some(recovered) = recovered {
                    metrics.insert("recovery_time_s".into(), recovered);
                }
            }
        }
    }

    /// How long the version changes of each service took together, and what they cost those who were held. One that is not
    /// over counts up to the end.
    fn rollout_metrics(&self, metrics: &mut BTreeMap<String, f64>, end: Time) {
        for (state, spec) in self.services.iter().zip(&self.spec.services) {
            let rollouts = &state.rollouts;
            if rollouts.begun == 0 {
                continue;
            }
            let mut put = |what: &str, value: f64| {
                metrics.insert(format!("rollout.{}.{what}", spec.name), value);
            };
            let so_far = |since: Option<Time>| since.map_or(Duration::ZERO, |since| end - since);
            put("update_s", (rollouts.taken + so_far(rollouts.since())).as_secs_f64());
            put("unfinished", f64::from(u8::from(rollouts.since().is_some())));
            let how = || {
                let plans = self.spec.rollouts.iter();
                let of_this =
                    |plan: &&RolloutSpec| self.spec.services[plan.service as usize].name == spec.name;
                plans.filter(of_this).map(|plan| plan.how.build(Time::ZERO))
            };
            if how().any(|policy| policy.watches()) {
                put("timeliness_s", (rollouts.awaited + so_far(rollouts.awaits)).as_secs_f64());
                put("held", rollouts.held as f64);
                put("held_s", rollouts.held_ns as f64 / 1e9);
                put("held_lost", rollouts.lost as f64);
            }
            if how().any(|policy| policy.hand_over().is_some()) {
                put("states_lost", rollouts.states_lost as f64);
            }
            let verdicts = &rollouts.verdicts;
            if !rollouts.ways_back.is_empty() {
                put("wrong_rollbacks", verdicts.wrong as f64);
                put("missed", verdicts.missed as f64);
                put("hurt", verdicts.hurt as f64);
            }
            if !verdicts.detect.is_empty() {
                let sum: f64 = verdicts.detect.iter().map(|time| time.as_secs_f64()).sum();
                put("detect_s", sum / verdicts.detect.len() as f64);
            }
        }
    }

    fn service_metrics(&self, metrics: &mut BTreeMap<String, f64>, started: &Mark, ended: &Mark) {
        let width = (ended.at - started.at).0 as f64;
        let (mut bottom, mut cpu) = (0, 0);
        for (index, service) in self.services.iter().enumerate() {
            let spec = &self.spec.services[index];
            let (new, old) = (&ended.services[index], &started.services[index]);
            let mut put = |name: &str, value: f64| {
                metrics.insert(format!("service.{}.{name}", spec.name), value);
            };
            cpu += new.cpu - old.cpu;
            let attempts = new.attempts - old.attempts;
            if spec.edges.is_empty() {
                bottom += attempts;
            }
            if width > 0.0 {
                put("in_system_mean", (new.load - old.load) as f64 / width);
                put("attempts_rps", attempts as f64 / width * 1e9);
                put("replicas_mean", (new.ready - old.ready) as f64 / width);
            }
            let ready = (new.ready - old.ready) as f64;
            if ready > 0.0 && spec.cores < u32::MAX {
                put("utilization", (new.cpu - old.cpu) as f64 / (ready * f64::from(spec.cores)));
                let asked = if spec.resizes {
                    (new.asked_cpu - old.asked_cpu) as f64 / 1000.0
                } else {
                    ready * spec.cpu_request(&spec.ask)
                };
                put("cpu_of_request", (new.cpu - old.cpu) as f64 / asked);
            }
            if spec.is_sized() && width > 0.0 {
                put("cpu_requested_mean", (new.asked_cpu - old.asked_cpu) as f64 / width / 1000.0);
                put("memory_requested_mean_bytes", (new.asked_memory - old.asked_memory) as f64 / width);
            }
            let shares = CpuShares::between(&old.cpu_counts, &new.cpu_counts);
            if spec.has_quota
                && let Some(throttled) = shares.throttled
            {
                put("throttled_ratio", throttled);
                if ready > 0.0 {
                    let throttled_ns = new.cpu_counts.throttled_ns - old.cpu_counts.throttled_ns;
                    put("throttled_per_instance_s", throttled_ns as f64 / 1e9 / (ready / width));
                }
            }
            if self.spec.shares_cpu(spec)
                && let Some(stolen) = shares.stolen
            {
                put("steal_ratio", stolen);
            }
            if let Some(memory) = &spec.memory_use {
                if spec.ask.memory_limit < u64::MAX {
                    put("oom_kills", service.oom_kills as f64);
                }
                if memory.gc.is_some() && ready > 0.0 {
                    let paused = new.cpu_counts.paused_ns - old.cpu_counts.paused_ns;
                    put("gc_pause_ratio", paused as f64 / ready);
                    let count = new.cpu_counts.pauses - old.cpu_counts.pauses;
                    if count > 0 {
                        put("gc_pause_mean_ms", paused as f64 / 1e6 / count as f64);
                    }
                }
            }
            if spec.versions.iter().any(|version| version.crash_loop.is_some()) {
                put("crash_restarts", service.crash_restarts as f64);
            }
            if spec.on_outage.is_some() {
                put("outage_starts", service.outage_starts as f64);
            }
            if spec.version_slot.is_some() {
                let rollouts = &service.rollouts;
                put("rollouts_completed", rollouts.completed as f64);
                put("rollouts_stalled", rollouts.stalled as f64);
                if rollouts.completed > 0 {
                    put("rollout_time_s", rollouts.took.as_secs_f64() / rollouts.completed as f64);
                }
            }
            if service.shutdowns.asked > 0 {
                put("shutdown_refused", service.shutdowns.refused as f64);
                put("shutdown_cut_off", service.shutdowns.cut_off as f64);
            }
            let health = service.health;
            if !spec.probes.is_empty() {
                put("readiness_lost", health.readiness_lost as f64);
                put("probe_restarts", health.probe_restarts as f64);
            }
            if health.probes > 0 {
                put("probes_failed_ratio", health.probes_failed as f64 / health.probes as f64);
            }
            let caring = self.outbounds.iter().filter(|outbound| outbound.service as usize == index);
            let edges = self.spec.sources.iter().flat_map(|source| &source.edges);
            let edges = edges.chain(self.spec.services.iter().flat_map(|service| &service.edges));
            let edges: Vec<_> = edges.filter(|edge| edge.to as usize == index).collect();
            if edges.iter().any(|edge| edge.outlier.is_some()) {
                put("ejections", health.ejections as f64);
            }
            if edges.iter().any(|edge| edge.check.is_some()) {
                put("checked_out", health.checked_out as f64);
            }
            if edges.iter().any(|edge| edge.knows_health()) {
                let (picks, panic) = caring.fold((0, 0), |(picks, panic), outbound| {
                    (picks + outbound.attempts, panic + outbound.panic_picks)
                });
                if picks > 0 {
                    put("panic_ratio", panic as f64 / picks as f64);
                }
            }
            let ways_back = &service.rollouts.ways_back;
            if !ways_back.is_empty() {
                put("rollouts_aborted", ways_back.iter().flatten().count() as f64);
                if let Some(first) = ways_back.iter().flatten().min() {
                    put("rollout_abort_s", first.as_secs_f64());
                }
            }
            if spec.disk_use.as_ref().is_some_and(|disk| disk.evict_at.is_some()) {
                put("disk_evictions", service.disk_evictions as f64);
            }
            if !spec.network_use.is_empty() && width > 0.0 {
                let bytes = new.network_bytes - old.network_bytes;
                put("network_bytes_per_second", bytes as f64 / width * 1e9);
            }
            if attempts > 0 {
                put("refused_ratio", (new.refused - old.refused) as f64 / attempts as f64);
                if spec.shedding.is_some() {
                    put("shed_ratio", (new.shed - old.shed) as f64 / attempts as f64);
                }
                put("attempts_per_call", attempts as f64 / (new.calls - old.calls).max(1) as f64);
            }
            if let Some(mean) = service.wait.mean_ms() {
                put("wait_mean_ms", mean);
                put("waited_ratio", service.waited as f64 / service.wait.count as f64);
            }
            if let Some(activator) = &service.activator {
                let held = new.held - old.held;
                // All attempts that wanted to go there: what went out of the activator was counted when it came in.
                let wanted = held + attempts - (new.let_out - old.let_out).min(attempts);
                if wanted > 0 {
                    put("held_ratio", held as f64 / wanted as f64);
                }
                if let Some(mean) = activator.waits.mean_ms() {
                    put("held_mean_ms", mean);
                }
            }
            if let Some(counts) = &service.connections {
                let (new, old) = (&new.connections, &old.connections);
                let begun = new.begun - old.begun;
                if width > 0.0 {
                    put("connections_mean", (new.open - old.open) as f64 / width);
                    put("connects_rps", begun as f64 / width * 1e9);
                    put("pool_waiting_mean", (new.waiting - old.waiting) as f64 / width);
                }
                if begun > 0 {
                    put("connect_failed_ratio", (new.failed - old.failed) as f64 / begun as f64);
                }
                if let Some(mean) = counts.set_up.mean_ms() {
                    put("connect_mean_ms", mean);
                }
                let established = new.established - old.established;
                if established > 0 {
                    put("connect_resumed_share", (new.resumed - old.resumed) as f64 / established as f64);
                }
                if let Some(mean) = counts.waits.mean_ms() {
                    put("pool_wait_mean_ms", mean);
                    put("pool_waited_ratio", counts.waited as f64 / counts.waits.count as f64);
                }
                let refused = new.refused - old.refused;
                if attempts + refused > 0 {
                    put("pool_refused_ratio", refused as f64 / (attempts + refused) as f64);
                }
                put("stale_requests", (new.stale - old.stale) as f64);
            }
            if let Some(mean) = service.sojourn().mean_ms() {
                put("sojourn_mean_ms", mean);
            }
            if let Some(p99) = service.sojourn_histogram.quantile(0.99) {
                put("sojourn_p99_ms", p99 / 1e6);
            }
            if service.probed && width > 0.0 {
                put("probes_rps", service.probes as f64 / width * 1e9);
            }
            if let Some(stickiness) = &service.stickiness
                && stickiness.returned > 0
            {
                put("affinity_broken_ratio", stickiness.broken as f64 / stickiness.returned as f64);
            }
            let looked = (new.cache_hits - old.cache_hits) + (new.cache_misses - old.cache_misses);
            if looked > 0 {
                put("cache_hit_ratio", (new.cache_hits - old.cache_hits) as f64 / looked as f64);
            }
        }
        let requests: u64 = self.sources.iter().map(|source| source.counted_arrivals).sum();
        if requests > 0 {
            metrics.insert("amplification".into(), bottom as f64 / requests as f64);
        }
        let used = |instance: &Instance| u128::from(instance.cpu_ns + instance.governed_ns(ended.at));
        let total: u128 = self.instances.iter().map(used).sum();
        if self.has_sides && total > 0 {
            // Warm-up included on both sides: useful work is credited when its request ends.
            let useful = self.telemetry.useful_cpu as f64 / total as f64;
            metrics.insert("wasted_work_ratio".into(), (1.0 - useful).max(0.0));
        }
        let _ = cpu;
    }

    /// What was changed by itself, and what was mixed meanwhile.
    fn change_metrics(&self, metrics: &mut BTreeMap<String, f64>, end: Time) {
        for (at, (spec, watcher)) in self.spec.rollbacks.iter().zip(&self.watchers).enumerate() {
            let mut put = |name: &str, value: f64| {
                metrics.insert(format!("rollback.{}.{name}", spec.name), value);
            };
            put("rollbacks", watcher.rollbacks as f64);
            put("wrong_rollbacks", watcher.wrong as f64);
            put("people_called", watcher.calls as f64);
            put("missed", self.missed(at) as f64);
            for (name, time) in ["detect_s", "recover_s"].into_iter().zip(watcher.times()) {
                if let Some(time) = time {
                    put(name, time);
                }
            }
        }
        for (at, spec) in self.spec.configs.iter().enumerate() {
            let feeds = self.feeds_of(at);
            let sum = |part: &dyn Fn(&super::config::Feed) -> u64| {
                feeds.iter().map(|feed| part(&self.configs.feeds[*feed as usize])).sum::<u64>() as f64
            };
            let mixed: f64 = feeds.iter().map(|feed| self.mixed_until(*feed, end).as_secs_f64()).sum();
            for (name, value) in [
                ("publishes", sum(&|feed| feed.publishes)),
                ("mixed_s", mixed),
                ("failed_items", sum(&|feed| feed.failed_items)),
                ("retried_items", sum(&|feed| feed.retried_items)),
                ("stopped_runs", sum(&|feed| feed.stopped_runs)),
                ("restarts", sum(&|feed| feed.restarts)),
            ] {
                metrics.insert(format!("config.{}.{name}", spec.name), value);
            }
        }
    }

    fn fleet_metrics(&self, metrics: &mut BTreeMap<String, f64>, started: &Mark, ended: &Mark) {
        let hours = |from: Time, to: Time| (to.min(ended.at) - from.max(started.at)).as_secs_f64() / 3600.0;
        let (mut instance_hours, mut cost, mut priced) = (0.0, 0.0, false);
        for instance in &self.instances {
            let unplaced = instance.more.node == NIL
                && !self.spec.services[instance.service as usize].node_pools.is_empty();
            let lived = if unplaced || instance.more.dead_at < started.at {
                0.0
            } else {
                hours(instance.more.launched, instance.more.dead_at)
            };
            instance_hours += lived;
            if let Some(price) = self.spec.services[instance.service as usize].price {
                cost += lived * price;
                priced = true;
            }
        }
        metrics.insert("instance_hours".into(), instance_hours);
        let mut node_hours = 0.0;
        for (index, pool) in self.spec.pools.iter().enumerate() {
            let of_pool = self.cluster.nodes.iter().filter(|node| node.pool as usize == index);
            let paid = of_pool.map(|node| {
                let (from, to) = (node.launched.max(started.at), node.gone_at.min(ended.at));
                if from < to { u128::from((to - from).0) } else { 0 }
            });
            let pool_hours = paid.sum::<u128>() as f64 / 3.6e12;
            node_hours += pool_hours;
            if let Some(price) = pool.price {
                cost += pool_hours * price;
                priced = true;
            }
            let times = &self.telemetry.nodes_up[index];
            let total: u128 = times.iter().sum();
            if total > 0 {
                let up: f64 = times.iter().enumerate().map(|(up, time)| up as f64 * *time as f64).sum();
                metrics.insert(format!("node-pool.{}.nodes_up_mean", pool.name), up / total as f64);
            }
        }
        if !self.spec.pools.is_empty() {
            metrics.insert("node_hours".into(), node_hours);
        }
        if priced {
            metrics.insert("cost".into(), cost);
        }
    }

    fn histograms(&mut self) -> (Vec<NamedHistogram>, Vec<(String, Totals)>) {
        let mut all = Totals::new();
        let mut list = Vec::new();
        for (index, source) in self.sources.iter().enumerate() {
            all.merge(&source.histogram);
            if self.sources.len() > 1 {
                list.push(("source", self.spec.sources[index].name.clone(), source.histogram.clone()));
            }
        }
        list.insert(0, ("run", String::new(), all));
        let mut waits = Vec::new();
        for (index, service) in self.services.iter_mut().enumerate() {
            let name = self.spec.services[index].name.clone();
            list.push(("service", name.clone(), std::mem::take(&mut service.sojourn_histogram)));
            waits.push((name, service.take_waits()));
        }
        (list, waits)
    }
}

/// Counts of one source, or of all.
#[derive(Default)]
struct Tally {
    offered: u64,
    outcomes: super::source::Outcomes,
    latency: Moments,
    histogram: Totals,
    in_system: u128,
    inconsistent: u64,
    /// Good answers of lower quality, where there can be any.
    degraded: Option<u64>,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.outcomes.merge(other.outcomes);
        self.latency.count += other.latency.count;
        self.latency.sum += other.latency.sum;
        self.histogram.merge(&other.histogram);
        self.in_system += other.in_system;
        self.inconsistent += other.inconsistent;
        self.degraded = self.degraded.into_iter().chain(other.degraded).reduce(|one, two| one + two);
    }

    fn write(&self, metrics: &mut BTreeMap<String, f64>, prefix: &str, from: Time, to: Time) {
        let mut put = |name: &str, value: f64| {
            metrics.insert(format!("{prefix}{name}"), value);
        };
        put("requests", self.offered as f64);
        let width = (to - from).as_secs_f64();
        let ended = self.outcomes.all();
        if width > 0.0 {
            put("offered_rps", self.offered as f64 / width);
            put("throughput_rps", ended as f64 / width);
            put("goodput_rps", self.outcomes.good as f64 / width);
            put("in_system_mean", self.in_system as f64 / (width * 1e9));
        }
        if self.offered > 0 {
            let share = |count: u64| count as f64 / self.offered as f64;
            put("availability", share(self.outcomes.good));
            put("failed_ratio", share(self.outcomes.failed));
            put("timeout_ratio", share(self.outcomes.timed_out));
            put("rejected_ratio", share(self.outcomes.rejected + self.outcomes.abandoned));
            put("unfinished_ratio", share(self.offered - ended));
            if let Some(degraded) = self.degraded {
                put("degraded_ratio", share(degraded));
            }
        }
        if let Some(mean) = self.latency.mean_ms() {
            put("latency_mean_ms", mean);
        }
        let percentiles = [
            ("latency_p50_ms", 0.5),
            ("latency_p90_ms", 0.9),
            ("latency_p99_ms", 0.99),
            ("latency_p999_ms", 0.999),
        ];
        for (name, q) in percentiles {
            if let Some(ns) = self.histogram.quantile(q) {
                put(name, ns / 1e6);
            }
        }
        // Bad requests count as infinitely slow; without enough good ones the percentile is not a number.
        let wanted = 0.99 * self.offered as f64 / self.outcomes.good.max(1) as f64;
        if wanted <= 1.0
            && let Some(ns) = self.histogram.quantile(wanted)
        {
            put("latency_offered_p99_ms", ns / 1e6);
        }
    }
}
