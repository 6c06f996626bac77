//! What a world is built from: names resolved to positions, steps compiled to a flat list of operations.
//!
//! The lab assembles a [`Spec`] from a scenario; the world only reads it.

use std::sync::Arc;

use crate::policies::alert::Rule;
use crate::policies::autoscaler::AutoscalerSettings;
use crate::policies::balancer::{Balancer as _, BalancerSettings};
use crate::policies::breaker::BreakerSettings;
use crate::policies::delivery::Delivery;
use crate::policies::detector::DetectorSettings;
use crate::policies::detector::kubelet::{KubeletSettings, ProbeKind};
use crate::policies::discovery::DiscoverySettings;
use crate::policies::disruption::DisruptionBudget;
use crate::policies::election::ElectionSettings;
use crate::policies::hedge::{HedgePolicy as _, HedgeSettings};
use crate::policies::host_selection::HostSelectionSettings;
use crate::policies::limiter::LimiterSettings;
use crate::policies::outlier::OutlierSettings;
use crate::policies::provisioner::ProvisionerSettings;
use crate::policies::recommender::RecommenderSettings;
use crate::policies::replacement::ReplacementSettings;
use crate::policies::retry::{BudgetSettings, RetrySettings};
use crate::policies::rollback::RollbackSettings;
use crate::policies::rollout::{Act, RolloutSettings};
use crate::policies::scheduler::{AntiAffinity, SchedulerSettings};
use crate::policies::shedding::SheddingSettings;
use crate::policies::transaction::TransactionSettings;
use crate::policies::view::Resources;
use crate::random::law::Law;
use crate::random::variate::Zipf;
use crate::time::{Duration, Time};

/// Everything that exists in one run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Counted part of the run: from here ...
    pub warm_up: Time,
    /// ... to here, where the sources stop.
    pub end: Time,
    /// The run drains until here at the latest.
    pub horizon: Time,
    /// Width of a timeline window.
    pub resolution: Duration,
    /// Names of the zones.
    pub zones: Vec<String>,
    /// One-way delays by (from, to), `zones + 1` squared; the last row and column are the outside.
    pub latency: Vec<Law>,
    /// Machines.
    pub pools: Vec<PoolSpec>,
    /// Which machine an instance gets.
    pub scheduler: SchedulerSettings,
    /// How many machines there are; without it pools keep their size.
    pub provisioner: Option<ProvisionerSettings>,
    /// What an order of machines goes through.
    pub provisioning: ProvisioningSpec,
    /// Where images come from.
    pub registry: RegistrySpec,
    /// Services.
    pub services: Vec<ServiceSpec>,
    /// Sources.
    pub sources: Vec<SourceSpec>,
    /// All steps of all endpoints and journeys, each program ended by [`Op::End`].
    pub ops: Vec<Op>,
    /// All calls that ops refer to.
    pub calls: Vec<CallSpec>,
    /// Distinct constant delays of attempt timeouts and deadlines; a ring each.
    pub rings: Vec<Duration>,
    /// Distinct timeouts of outer levels of edges; a ring each.
    pub level_rings: Vec<Duration>,
    /// Troubles.
    pub faults: Vec<FaultSpec>,
    /// What monitoring watches.
    pub alerts: Vec<AlertSpec>,
    /// Who foresees failures.
    pub predictions: Vec<PredictionSpec>,
    /// Operator actions.
    pub actions: Vec<ActionSpec>,
    /// Version changes.
    pub rollouts: Vec<RolloutSpec>,
    /// Configurations.
    pub configs: Vec<ConfigSpec>,
    /// Who takes changes back.
    pub rollbacks: Vec<RollbackSpec>,
    /// Message queues.
    pub topics: Vec<TopicSpec>,
    /// What several services do together or not at all.
    pub transactions: Vec<TransactionSpec>,
    /// Objective for recovery and the error budget.
    pub objective: ObjectiveSpec,
    /// Limits.
    pub limits: Limits,
    /// Distinct priorities of the sources, ascending; a request carries its position here.
    pub priorities: Vec<u8>,
    /// How clients keep connections, where that is simulated; edges refer to it.
    pub connections: Vec<ConnectionsSpec>,
    /// What requests can carry.
    pub attributes: Vec<AttributeSpec>,
}

/// A message queue.
#[derive(Clone, Debug)]
pub struct TopicSpec {
    /// Name.
    pub name: String,
    /// From publishing to the broker's acknowledgement.
    pub publish: Law,
    /// What is promised, and when a message comes again.
    pub delivery: Delivery,
    /// How long the broker waits for the acknowledgement of a delivery ...
    pub ack_timeout: Duration,
    /// ... and the ring of that; `NO_RING` if it does not.
    pub ring: u8,
    /// Partitions whose messages are delivered one after the other; 0 if there is no order.
    pub partitions: u32,
    /// Keys, by popularity.
    pub keys: Zipf,
    /// Messages that may wait for one consumer.
    pub length: u64,
    /// What happens to the next one.
    pub full: TopicFull,
    /// Share of deliveries, and of acknowledgements, that get lost.
    pub loss: f64,
    /// How long messages are kept for a replay.
    pub retention: Duration,
    /// Who gets each message.
    pub consumers: Vec<ConsumerSpec>,
}

/// What happens to a message that finds its topic full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicFull {
    /// Publishing it fails.
    Reject,
    /// The oldest one that waits is dropped.
    DropOldest,
    /// It is dropped.
    DropNewest,
}

/// Who gets the messages of a topic.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerSpec {
    /// Service.
    pub service: u32,
    /// First op of what works on a message.
    pub entry: u16,
    /// Messages that one instance works on at a time.
    pub concurrency: u32,
}

/// What several services do together or not at all.
#[derive(Clone, Debug)]
pub struct TransactionSpec {
    /// Name.
    pub name: String,
    /// Protocol.
    pub how: TransactionSettings,
    /// Time of a forced write to the log.
    pub log: Law,
    /// Who takes part, in order.
    pub participants: Vec<ParticipantSpec>,
}

/// Who takes part in a transaction.
#[derive(Clone, Debug)]
pub struct ParticipantSpec {
    /// Service.
    pub service: u32,
    /// Rows of which the work locks one, by popularity.
    pub rows: Zipf,
    /// Longest wait for a row.
    pub lock_timeout: Option<Duration>,
}

/// Something that requests carry: a path, a header, a cookie, a session.
#[derive(Clone, Debug)]
pub struct AttributeSpec {
    /// Keeps the draws of different attributes apart: a hash of its name.
    pub salt: u64,
    /// Values that have names; without any, values are numbers.
    pub values: Vec<String>,
}

/// How the requests of a source come to their value of an attribute.
#[derive(Clone, Debug)]
pub enum Carried {
    /// They have none.
    Nothing,
    /// A number, by popularity.
    Number(Zipf),
    /// (cumulative share, position in [`AttributeSpec::values`]); the rest has none.
    Named(Box<[(f64, u32)]>),
    /// The number of the user who makes it.
    User,
}

/// Numbers that a run must not exceed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Events waiting at one moment.
    pub pending_events: u64,
    /// Requests and calls in flight at one moment.
    pub in_flight: u32,
    /// Instances over the life of the run.
    pub instances: u64,
    /// Root requests.
    pub requests: u64,
    /// Events.
    pub events: u64,
}

/// See `[objective]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ObjectiveSpec {
    /// Wanted availability.
    pub availability: Option<f64>,
    /// Wanted p99 latency.
    pub latency_p99: Option<Duration>,
}

/// A node pool.
#[derive(Clone, Debug)]
pub struct PoolSpec {
    /// Name.
    pub name: String,
    /// Number of nodes, dealt over `zones` in turn.
    pub nodes: u32,
    /// Cores of a node.
    pub cores: f64,
    /// Memory of a node, bytes.
    pub memory: u64,
    /// Zones, or empty.
    pub zones: Vec<u32>,
    /// Price of a node for an hour.
    pub price: Option<f64>,
    /// Fewest and most nodes that a provisioner may leave, if it may change their number.
    pub scales: Option<(u32, u32)>,
    /// From the machine's birth until it takes instances.
    pub boot: Law,
    /// Most instances on a node.
    pub max_pods: u32,
    /// Rank for an expander that goes by priority.
    pub rank: i32,
    /// Room for images on a node, bytes; `None` is no limit.
    pub disk: Option<u64>,
    /// Its instances could together use more cores than a node has.
    pub shares_cpu: bool,
}

/// The service that orders of machines go through, one for all pools.
#[derive(Clone, Debug)]
pub struct ProvisioningSpec {
    /// Orders worked on at a time.
    pub concurrency: u32,
    /// How long the work on one order takes.
    pub takes: Law,
    /// Orders that may wait; more are refused.
    pub queue: u32,
    /// An order that is not done after so long has failed.
    pub timeout: Option<Duration>,
    /// Share of orders that fail at the end of their work.
    pub failure_rate: f64,
}

/// Where images come from.
#[derive(Clone, Copy, Debug)]
pub struct RegistrySpec {
    /// Bytes per second for all nodes together; `None` is no limit.
    pub bandwidth: Option<u64>,
    /// Bytes per second for one node; `None` is no limit.
    pub node_bandwidth: Option<u64>,
}

/// What answers one query of an autoscaler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Core time of each instance.
    Cpu,
    /// Core time of one container of each instance, 0 being its own.
    ContainerCpu(u8),
    /// Memory in use of each instance.
    Memory,
    /// Attempts inside each instance, waiting or started.
    Concurrency,
    /// Attempts that wait for a worker of each instance.
    QueueLength,
    /// Bytes on the disk of each instance.
    DiskBytes,
    /// Share of the disk of each instance that is in use.
    DiskUtilization,
    /// Bytes in and out of each instance, per second.
    Network,
    /// Something that is no instance of the scaled service.
    Of(Thing, Gauge),
}

/// What an autoscaler can look at beside its own instances, by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A service.
    Service(u32),
    /// A source.
    Source(u32),
}

/// A metric of a [`Thing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauge {
    /// Requests (attempts, for a service) that arrive, per second.
    Rate,
    /// Requests or attempts inside.
    Concurrency,
    /// Attempts that wait for a worker.
    QueueLength,
    /// Core time used over that of ready instances; only of a service.
    Utilization,
    /// Share of the requests that ended otherwise than well; only of a source.
    BadRatio,
    /// Mean time from coming to going, of requests or attempts that are gone; seconds.
    MeanTime,
    /// Memory in use over the limit, of ready instances; only of a service.
    MemoryUtilization,
    /// Disk in use over its size, of ready instances; only of a service.
    DiskUtilization,
    /// Bytes in and out, per second; only of a service.
    Network,
}

/// A service.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    /// Name.
    pub name: String,
    /// Instances at the start.
    pub replicas: u32,
    /// Node pools that its instances may be on; none: they need no node.
    pub node_pools: Vec<u32>,
    /// Where no other instance of it may be.
    pub anti_affinity: AntiAffinity,
    /// By how many a zone may be ahead of the emptiest one.
    pub zone_max_skew: Option<u32>,
    /// Cores an instance may use; `u32::MAX` is no limit.
    pub cores: u32,
    /// What the own container of an instance asks for at the start of the run.
    pub ask: Ask,
    /// Some container has a quota, now or later.
    pub has_quota: bool,
    /// What instances ask for may change while the run lasts.
    pub resizes: bool,
    /// CPU credits, if it runs on a burstable machine.
    pub burst: Option<BurstSpec>,
    /// Something bounds the cores besides their number.
    pub governed: bool,
    /// Core time that the process needs before it is ready.
    pub start_cpu: Option<Law>,
    /// Other containers of each instance.
    pub sidecars: Vec<SidecarSpec>,
    /// How much memory an instance uses, if that is simulated.
    pub memory_use: Option<MemorySpec>,
    /// How an instance fills its disk, if that is simulated.
    pub disk_use: Option<DiskSpec>,
    /// Bytes in and out of each attempt, by endpoint; empty if that is not simulated.
    pub network_use: Vec<(u64, u64)>,
    /// Attempts that may be inside and started: workers, or the maximum in flight of an async instance.
    pub workers: u32,
    /// How runnable `cpu` steps get their core.
    pub cpu: CpuMode,
    /// Waiting places; `u32::MAX` is no limit.
    pub queue: u32,
    /// A full queue stays silent instead of answering with an error.
    pub drop_when_full: bool,
    /// Which waiting attempt starts next.
    pub order: Order,
    /// Patience in the queue.
    pub queue_timeout: Option<Law>,
    /// Who decides over those who come and those whose turn has come.
    pub shedding: Option<SheddingSettings>,
    /// Image pull, on a node that does not have it.
    pub pull: Law,
    /// From the end of the pull to readiness.
    pub start: Law,
    /// Demand factor at readiness and how long it takes to fall to 1.
    pub warm_up: Option<(Duration, f64)>,
    /// Longest shutdown.
    pub grace: Duration,
    /// How long it serves on before SIGTERM, as part of `grace`.
    pub pre_stop: Duration,
    /// What it does at SIGTERM.
    pub on_term: OnTerm,
    /// Demand factor by number of attempts inside (index 0 is one attempt); the last holds beyond. Empty: always 1.
    pub slow_down: Vec<f64>,
    /// First op of each endpoint, with its name.
    pub endpoints: Vec<(String, u16)>,
    /// Calling side.
    pub edges: Vec<EdgeSpec>,
    /// The service's own limiter, per instance.
    pub limiter: Option<LimiterSettings>,
    /// Control loop.
    pub autoscaler: Option<AutoscalerSettings>,
    /// Who knows what an instance should ask for.
    pub recommender: Option<RecommenderSettings>,
    /// Who holds attempts back while their callers know no instance.
    pub activator: Option<ActivatorSpec>,
    /// What an attempt that finds no answer here sets off.
    pub on_outage: Option<ReplacementSettings>,
    /// Instances that stay when others are taken away on purpose.
    pub disruption_budget: Option<DisruptionBudget>,
    /// What answers its queries, in their order.
    pub signals: Vec<Signal>,
    /// Scrape period, window and delay of its metrics.
    pub metrics: (Duration, Duration, Duration),
    /// Share of scrapes that get lost.
    pub scrape_loss: f64,
    /// Propagation delay of membership changes, per client, where the control plane tells clients.
    pub discovery: Law,
    /// Who tells them instead.
    pub directory: Option<DiscoverySettings>,
    /// Probes of the kubelet.
    pub probes: Vec<ProbeSpec>,
    /// Caches.
    pub caches: Vec<CacheSpec>,
    /// Connection pools of each instance.
    pub pools: Vec<ConnectionPoolSpec>,
    /// Versions; the first runs at the start.
    pub versions: Vec<VersionSpec>,
    /// How it moves to another version when no plan says it.
    pub update: RolloutSettings,
    /// Slot in a request's version record, if this service is ever updated.
    pub version_slot: Option<u8>,
    /// What its instances do with the connections of their clients.
    pub listener: ListenerSpec,
    /// Price of an instance for an hour.
    pub price: Option<f64>,
    /// Its instances agree on a leader and keep a log together.
    pub group: Option<GroupSpec>,
}

/// Instances that agree on a leader and keep a log together; there is a seat for each replica.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    /// How they agree.
    pub election: ElectionSettings,
    /// Zone of the lock outside the group, if the election has one; the number of zones is the outside.
    pub lock_zone: u32,
    /// Who must have a write before it is acknowledged.
    pub mode: ReplicationMode,
    /// Time until a member has a write, besides the network.
    pub lag: Law,
    /// Time until a member turns to a new leader.
    pub reconnect: Law,
    /// Time until callers know of a new leader, by zone, besides the network.
    pub announce: Law,
    /// A member that lacks something may not lead, and takes no requests when it knows so.
    pub must_catch_up: bool,
    /// Writes per second that a member gets of what it has missed.
    pub sync_rate: f64,
    /// Somebody may restore it.
    pub backups: bool,
}

/// Who must have a write before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicationMode {
    /// The leader.
    Asynchronous,
    /// More than half of the seats.
    Quorum,
    /// Every member that is connected with the leader.
    Synchronous,
}

impl Spec {
    /// Whether instances of a service may have to share the cores of their node.
    pub fn shares_cpu(&self, service: &ServiceSpec) -> bool {
        service.node_pools.iter().any(|&pool| self.pools[pool as usize].shares_cpu)
    }
}

impl ServiceSpec {
    /// Whether what its instances ask for is followed over time.
    pub const fn is_sized(&self) -> bool {
        self.resizes || self.recommender.is_some()
    }

    /// CPU request of all containers together, cores, where its own asks for `ask`.
    pub fn cpu_request(&self, ask: &Ask) -> f64 {
        ask.cpu_request + self.sidecars.iter().map(|sidecar| sidecar.cpu_request).sum::<f64>()
    }

    /// Memory request of all containers together, bytes.
    pub fn memory_request(&self, ask: &Ask) -> u64 {
        ask.memory_request + self.sidecars.iter().map(|sidecar| sidecar.memory).sum::<u64>()
    }

    /// What an instance asks its node for.
    pub fn request(&self, ask: &Ask) -> Resources {
        Resources {
            // Rounded up as Kubernetes does, but not for the sake of a rounding error.
            cpu_milli: (self.cpu_request(ask) * 1000.0 - 1e-6).ceil() as i64,
            memory: i64::try_from(self.memory_request(ask)).unwrap_or(i64::MAX),
        }
    }

    /// Whether every container asks for CPU.
    pub fn has_requests(&self, ask: &Ask) -> bool {
        ask.cpu_request > 0.0 && self.sidecars.iter().all(|sidecar| sidecar.cpu_request > 0.0)
    }

    /// Weight of a container among its neighbours: `cpu.shares` as the kubelet sets them, 1024 for a core requested and at
    /// least 2.
    pub fn weight(&self, container: u8, ask: &Ask) -> u64 {
        let request = match container {
            0 => ask.cpu_request,
            sidecar => self.sidecars[usize::from(sidecar) - 1].cpu_request,
        };
        ((request * 1024.0) as u64).max(2)
    }
}

/// Requests and limits of the own container of an instance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ask {
    /// CPU request, cores.
    pub cpu_request: f64,
    /// CFS quota, cores.
    pub cpu_limit: Option<f64>,
    /// Memory request, bytes.
    pub memory_request: u64,
    /// More than that in use, and the process is killed; `u64::MAX` is no limit.
    pub memory_limit: u64,
}

/// Another container of each instance, through which every attempt passes.
#[derive(Clone, Debug)]
pub struct SidecarSpec {
    /// Name.
    pub name: String,
    /// Cores it may use.
    pub cores: u32,
    /// CPU request, cores.
    pub cpu_request: f64,
    /// CFS quota, cores.
    pub cpu_limit: Option<f64>,
    /// Memory request, bytes.
    pub memory: u64,
}

/// CPU credits of an instance.
#[derive(Clone, Copy, Debug)]
pub struct BurstSpec {
    /// Cores that it may always use, 2^32 is one.
    pub baseline: u64,
    /// Core time that a new instance has saved.
    pub credits: Duration,
    /// Most core time that can be saved.
    pub max: Duration,
}

/// Memory of an instance, bytes.
#[derive(Clone, Debug)]
pub struct MemorySpec {
    /// What it uses when idle.
    pub base: u64,
    /// For each attempt inside.
    pub per_attempt: u64,
    /// Never given back, for each attempt.
    pub leak_per_request: u64,
    /// Never given back, in an hour.
    pub leak_per_hour: u64,
    /// Garbage collection.
    pub gc: Option<GcSpec>,
}

/// Disk of an instance, bytes.
#[derive(Clone, Debug)]
pub struct DiskSpec {
    /// All there is.
    pub size: u64,
    /// On a fresh one.
    pub base: u64,
    /// Each attempt leaves so much.
    pub per_request: u64,
    /// What each hour leaves.
    pub per_hour: u64,
    /// With so much in use the instance is evicted; `None`: it is kept, and a full disk fails every attempt.
    pub evict_at: Option<u64>,
}

/// A stop-the-world collector of a young generation.
#[derive(Clone, Debug)]
pub struct GcSpec {
    /// Bytes that each attempt allocates.
    pub per_request: u64,
    /// Size of the young generation, bytes: when it is full, it is collected.
    pub young: u64,
    /// Length of a pause without anything alive ...
    pub pause: Law,
    /// ... and what each GiB alive adds.
    pub per_gib: Duration,
}

/// A proxy that holds attempts back while their callers know no instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActivatorSpec {
    /// Attempts that it can hold at one moment; the next one is refused.
    pub capacity: u32,
    /// Longest wait; then the attempt fails.
    pub timeout: Duration,
    /// Held attempts go out while there are fewer than so many inside for each ready instance.
    pub per_instance: Option<u32>,
}

/// How runnable `cpu` steps get their core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuMode {
    /// There are never more of them than cores.
    Dedicated,
    /// First come, first served.
    Fifo,
    /// Egalitarian processor sharing.
    Shared,
}

/// Which waiting attempt starts next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Oldest.
    Fifo,
    /// Newest.
    Lifo,
    /// Newest while there is a standing queue, oldest otherwise.
    AdaptiveLifo(Standing),
    /// Highest priority, then oldest.
    Priority,
}

/// When a queue is a standing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// While so many wait beside the one that is taken.
    Waiting(u32),
    /// When it has not been empty for longer than this.
    For(Duration),
}

/// A cache.
#[derive(Clone, Debug)]
pub struct CacheSpec {
    /// Name.
    pub name: String,
    /// Number of keys.
    pub keys: u64,
    /// Zipf exponent.
    pub zipf: f64,
    /// Entries it holds; `u64::MAX` is no limit.
    pub capacity: u64,
    /// Life of an entry; `Duration::MAX` is for ever.
    pub ttl: Duration,
    /// One per instance instead of one for the service.
    pub local: bool,
    /// Concurrent misses of a key wait for the first.
    pub single_flight: bool,
}

/// A connection pool.
#[derive(Clone, Debug)]
pub struct ConnectionPoolSpec {
    /// Name.
    pub name: String,
    /// Connections.
    pub size: u32,
    /// Longest wait for one, if it is bounded.
    pub max_wait: Option<Duration>,
}

/// A version.
#[derive(Clone, Debug)]
pub struct VersionSpec {
    /// Name.
    pub name: String,
    /// Factor on every `cpu` step.
    pub demand: f64,
    /// Share of attempts that fail after their work.
    pub error_rate: f64,
    /// Size of the image, bytes; 0 if the service's `pull` says how long it takes.
    pub image: u64,
    /// Factor on the time to start.
    pub start: f64,
    /// Bytes that every instance loses per hour, beside what the service does.
    pub leak_per_hour: u64,
    /// From the start of a process to its end, if it always comes to that.
    pub crash_loop: Option<Law>,
    /// Position of the version from which it was made.
    pub parent: Option<u8>,
}

/// The calling side between one caller and one called service.
#[derive(Clone, Debug)]
pub struct EdgeSpec {
    /// Called service.
    pub to: u32,
    /// Position in `Spec::connections`; without one an attempt needs no connection.
    pub connections: Option<u32>,
    /// Policies of the innermost level.
    pub stack: StackSpec,
    /// Policies of the levels around it, from the inside out.
    pub above: Vec<StackSpec>,
    /// What it does with deadlines.
    pub deadline: Deadline,
    /// Balancer.
    pub balancer: BalancerSettings,
    /// Attribute that the balancer keeps together, by position in [`Spec::attributes`].
    pub affinity: Option<u16>,
    /// A cookie that comes with it names the instance.
    pub cookie: bool,
    /// Name of the called service, and the weights of its instances by ordinal, over and over again (empty: all 1).
    pub callee: (Arc<str>, Arc<[u32]>),
    /// Leaves endpoints out that answer badly.
    pub outlier: Option<OutlierSettings>,
    /// Leaves endpoints out that fail checks.
    pub check: Option<CheckSpec>,
    /// Which set of endpoints the balancer picks from.
    pub host_selection: Option<HostSelectionSettings>,
    /// One state for all callers of the calling service.
    pub shared: bool,
    /// Operators may have calls left out.
    pub throttled: bool,
    /// The called service has a leader for some of its endpoints.
    pub leads: bool,
}

/// The policies of one level of an edge.
#[derive(Clone, Debug)]
pub struct StackSpec {
    /// Cancel attempts that timed out or lost to another copy, at whoever they went to.
    pub cancel: bool,
    /// Position in [`Spec::level_rings`], [`NO_RING`] without a timeout. The innermost level has [`CallSpec::ring`] instead.
    pub ring: u8,
    /// Retries.
    pub retry: Option<RetrySettings>,
    /// Hedging.
    pub hedge: Option<HedgeSettings>,
    /// Bound on retries and hedges.
    pub budget: Option<BudgetSettings>,
    /// Breaker.
    pub breaker: Option<BreakerSettings>,
    /// Limiter.
    pub limiter: Option<LimiterSettings>,
}

/// What an edge does with deadlines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deadline {
    /// Passes on what its caller has been told.
    #[default]
    Pass,
    /// That, and the timeout of the attempt is one, too.
    Set,
    /// Passes nothing on, nor cancellations from above.
    Stop,
}

impl StackSpec {
    const fn is_empty(&self) -> bool {
        self.retry.is_none() && self.hedge.is_none() && self.breaker.is_none() && self.limiter.is_none()
    }
}

impl EdgeSpec {
    /// Whether its balancer sends probes.
    pub fn probes(&self) -> bool {
        self.balancer.build(Time::ZERO).needs().probes
    }

    /// All levels, from the inside out.
    pub fn stacks(&self) -> impl Iterator<Item = &StackSpec> {
        std::iter::once(&self.stack).chain(&self.above)
    }

    /// Whether a call over this edge needs a record of its own beside its attempts.
    pub const fn is_stateful(&self) -> bool {
        !self.stack.is_empty() || !self.above.is_empty() || self.throttled || self.connections.is_some()
    }

    /// Whether its attempts may be cancelled.
    pub fn cancels(&self) -> bool {
        self.deadline == Deadline::Set || self.stacks().any(|stack| stack.cancel)
    }

    /// Whether copies of its calls may call each other off.
    pub fn ties(&self) -> bool {
        let hedges = self.stacks().filter_map(|stack| stack.hedge.as_ref());
        hedges.into_iter().any(|hedge| hedge.build(Time::ZERO).is_tied())
    }

    /// Whether the client knows more about endpoints than that they are there.
    pub const fn knows_health(&self) -> bool {
        self.outlier.is_some() || self.check.is_some() || self.host_selection.is_some()
    }
}

/// What a probe asks for.
#[derive(Clone, Debug)]
pub struct AskSpec {
    /// First op of what it has the instance do; `None` if it has a port of its own, where no worker is needed.
    pub entry: Option<u16>,
    /// Ring of its timeout.
    pub ring: u8,
}

/// A probe of the kubelet.
#[derive(Clone, Debug)]
pub struct ProbeSpec {
    /// What it is for.
    pub kind: ProbeKind,
    /// When, and how often.
    pub settings: KubeletSettings,
    /// What it asks for.
    pub ask: AskSpec,
}

/// Active checks by clients.
#[derive(Clone, Debug)]
pub struct CheckSpec {
    /// Judges the answers.
    pub detector: DetectorSettings,
    /// What it asks for.
    pub ask: AskSpec,
}

/// How one client keeps its connections to one service.
#[derive(Clone, Debug)]
pub struct ConnectionsSpec {
    /// Attempts that a connection carries at a time: 1 with HTTP/1.1.
    pub streams: u32,
    /// Attempts share a connection (HTTP/2).
    pub multiplexed: bool,
    /// The balancer picks an endpoint for each connection, not for each attempt.
    pub per_connection: bool,
    /// Connections of one client; an endpoint without any may still get one.
    pub max: u32,
    /// Attempts of one client that may wait for a connection.
    pub max_pending: u32,
    /// Idle connections that an endpoint may keep.
    pub max_idle: u32,
    /// Connections that are opened without being asked for.
    pub min: u32,
    /// Idle for so long, and the client closes it.
    pub idle_timeout: Option<Duration>,
    /// As old as that, and the client closes it.
    pub max_age: Option<Law>,
    /// After so many attempts the client closes it.
    pub max_requests: u32,
    /// Round trips until the transport stands.
    pub connect_round_trips: u8,
    /// Longest set-up, TLS included.
    pub connect_timeout: Duration,
    /// Encryption.
    pub tls: Option<TlsSpec>,
    /// Pause after a set-up that failed.
    pub backoff: Option<BackoffSpec>,
    /// Endpoints are found by name.
    pub dns: Option<DnsSpec>,
}

/// A name of a service.
#[derive(Clone, Copy, Debug)]
pub struct DnsSpec {
    /// How long a client may believe an answer.
    pub ttl: Duration,
    /// Most addresses in an answer.
    pub answers: u32,
    /// Share of clients that believe their first answer for ever.
    pub ignore_ttl: f64,
}

/// What encryption costs when a connection is set up.
#[derive(Clone, Copy, Debug)]
pub struct TlsSpec {
    /// Round trips of a full handshake ...
    pub round_trips: u8,
    /// ... and the op that is its work at the instance.
    pub work: Option<u16>,
    /// Whose tickets are good where.
    pub resumption: Resumption,
    /// Round trips of a resumed handshake ...
    pub resumed_round_trips: u8,
    /// ... and its work.
    pub resumed_work: Option<u16>,
    /// How long a ticket is good.
    pub ticket_lifetime: Duration,
}

/// Where a session ticket is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// Nowhere: every handshake is a full one.
    None,
    /// At the process that gave it.
    Instance,
    /// At every instance: they share their ticket keys.
    Service,
}

/// Back-off between set-ups (gRPC's).
#[derive(Clone, Copy, Debug)]
pub struct BackoffSpec {
    /// From the start of the first failure to the next attempt.
    pub base: Duration,
    /// Growth.
    pub multiplier: f64,
    /// Share by which pauses vary to both sides, the first one excepted.
    pub jitter: f64,
    /// Longest pause before jitter.
    pub max: Duration,
    /// Attempts wait for the next set-up instead of failing at once.
    pub wait_for_ready: bool,
}

/// What an instance does with the connections of its clients.
#[derive(Clone, Debug)]
pub struct ListenerSpec {
    /// Idle for so long, and the instance closes it.
    pub idle_timeout: Option<Duration>,
    /// As old as that, and the instance asks the client to leave.
    pub max_age: Option<Law>,
    /// After so many attempts the instance closes it.
    pub max_requests: u32,
    /// More are refused.
    pub max_connections: u32,
}

/// One step, compiled.
#[derive(Clone, Debug)]
pub enum Op {
    /// Work: the request's part and the attempt's factor.
    Cpu(Law, Option<Box<Law>>),
    /// Work of another container of the instance: half of the cost, on the way in or out.
    Sidecar {
        /// 1 is the first side-car.
        container: u8,
        /// The whole cost.
        cost: Law,
    },
    /// Waiting that needs no core.
    Wait(Law, Option<Box<Law>>),
    /// One call.
    Call(u32),
    /// One of several calls by cumulative share, or none.
    Choose(Box<[(f64, u32)]>),
    /// One call, by what the request carries.
    Route {
        /// Position in [`Spec::attributes`].
        attribute: u16,
        /// Call for each named value.
        to: Box<[u32]>,
        /// Call for requests that carry none.
        otherwise: u32,
    },
    /// Several calls at once.
    Parallel {
        /// Positions in `Spec::calls`.
        calls: Box<[u32]>,
        /// Successes that let the program go on.
        need: u16,
    },
    /// Looks a key up; on a hit, continues at `skip_to`.
    CacheLookup {
        /// Cache of the service.
        cache: u16,
        /// Where to go on after a hit.
        skip_to: u16,
    },
    /// Stores the key looked up last in this cache.
    CacheFill {
        /// Cache of the service.
        cache: u16,
    },
    /// Takes a connection, waiting for one if need be.
    Acquire {
        /// Connection pool of the service.
        pool: u16,
    },
    /// Gives it back.
    Release {
        /// Connection pool of the service.
        pool: u16,
    },
    /// Publishes a message to a topic, for so many requests, and waits until the broker has it.
    Publish {
        /// Position in [`Spec::topics`].
        topic: u16,
        /// Share of requests.
        probability: f64,
    },
    /// Carries a transaction out.
    Transaction {
        /// Position in [`Spec::transactions`].
        transaction: u16,
        /// Calls that prepare, commit and abort, by participant; `u32::MAX` where there is none.
        calls: Box<[[u32; 3]]>,
    },
    /// Locks a row for the transaction that the attempt works for, if it does.
    Lock {
        /// Position in [`Spec::transactions`].
        transaction: u16,
    },
    /// Begins an endpoint of a service whose instances have a leader.
    Member {
        /// Only the leader may go on.
        leader: bool,
        /// It writes.
        write: bool,
    },
    /// Writes into the log of the group, and waits until that may be acknowledged.
    Replicate,
    /// The answer goes back.
    End,
}

/// A call of a program.
#[derive(Clone, Debug)]
pub struct CallSpec {
    /// Called service.
    pub service: u32,
    /// First op of the called endpoint.
    pub entry: u16,
    /// Edge of the calling service or source.
    pub edge: u16,
    /// Share of requests that make it.
    pub probability: f64,
    /// Ring of the attempt timeout, `NO_RING` for none.
    pub ring: u8,
}

/// "No timeout".
pub const NO_RING: u8 = u8::MAX;

/// Where requests come from.
#[derive(Clone, Debug)]
pub struct SourceSpec {
    /// Name.
    pub name: String,
    /// First op of the journey.
    pub entry: u16,
    /// If the journey is a single unconditional call and there is no deadline, that call: it needs no frame of its own.
    pub direct: Option<u32>,
    /// Calling side.
    pub edges: Vec<EdgeSpec>,
    /// Clients with a state of their own.
    pub clients: u32,
    /// Zone, `Spec::zones.len()` for outside.
    pub zone: u32,
    /// When.
    pub arrivals: Arrivals,
    /// At most so many requests, then the source stops.
    pub requests: u64,
    /// Ring of the deadline, `NO_RING` for none.
    pub deadline: u8,
    /// The deadline cancels what is left below.
    pub propagate_deadline: bool,
    /// Position in `Spec::priorities`.
    pub priority: u8,
    /// What its requests carry, for each of [`Spec::attributes`].
    pub carries: Vec<Carried>,
}

/// When requests come.
#[derive(Clone, Debug)]
pub enum Arrivals {
    /// Poisson with varying rate.
    Poisson(Rate),
    /// Equal gaps of the current rate.
    Deterministic(Rate),
    /// Independent gaps.
    Renewal(Law),
    /// (rate per s, mean length) of each state, in a cycle.
    Mmpp(Vec<(f64, Duration)>),
    /// At these instants.
    Trace(Vec<Time>),
    /// Closed loop.
    Users {
        /// How many.
        count: u32,
        /// Between an answer and the next request.
        think: Law,
        /// Share who stay away after a bad answer ...
        leave: f64,
        /// ... for so long.
        away: Law,
    },
}

/// Rate over time, requests per second.
#[derive(Clone, Debug)]
pub struct Rate {
    /// (start, rate), ascending, the first at 0; the last holds on.
    pub points: Vec<(Time, f64)>,
    /// Linear between points instead of constant.
    pub linear: bool,
    /// (amplitude, period, phase 0..1) of a sine around the first rate.
    pub sine: Option<(f64, Duration, f64)>,
}

/// A trouble.
#[derive(Clone, Debug)]
pub struct FaultSpec {
    /// Label.
    pub name: String,
    /// When.
    pub when: When,
    /// What.
    pub what: Trouble,
}

/// When a fault strikes.
#[derive(Clone, Debug)]
pub enum When {
    /// Once, for so long (`None`: for ever, or instantaneous by nature).
    At(Time, Option<Duration>),
    /// Drawn for each target on its own; at most `crew` repairs at a time.
    Drawn {
        /// Up time.
        mtbf: Law,
        /// Down time.
        mttr: Law,
        /// Repairs at a time.
        crew: u32,
    },
    /// Recorded: when, which target, for how long.
    Trace(Vec<(Time, u32, Duration)>),
}

/// What a fault does.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// Instances die.
    Crash(Target),
    /// CPU work takes so many times as long.
    Slow(Target, f64),
    /// Attempts fail with this probability.
    ErrorRate(Target, f64),
    /// Nothing moves inside.
    Hang(Target),
    /// Nodes die.
    NodeLoss {
        /// Pool.
        pool: u32,
        /// How many.
        count: u32,
        /// Each takes each other node of its pool and zone along with this probability.
        spreads: f64,
    },
    /// Machines are taken back by their owner, after a notice.
    SpotReclaim {
        /// Pool.
        pool: u32,
        /// How many.
        count: u32,
        /// From the notice to the end.
        notice: Duration,
    },
    /// Orders of machines fail, for one pool or all.
    ProvisioningOutage(Option<u32>),
    /// No image can be pulled.
    RegistryOutage,
    /// No name is resolved.
    DnsOutage,
    /// Nobody reaches the registry of a service's endpoints.
    DiscoveryOutage(u32),
    /// All nodes of a zone die.
    ZoneLoss(u32),
    /// No message passes between two zones.
    Partition(u32, u32),
    /// Messages get lost.
    PacketLoss(Option<(u32, u32)>, f64),
    /// Messages take longer.
    AddedLatency(Option<(u32, u32)>, Law),
    /// Attempts are refused.
    Outage(u32),
    /// Nothing of a topic can be published, delivered or acknowledged.
    BrokerOutage(u32),
    /// The next coordinator of a transaction that has decided (`true`), or is about to, dies with its instance.
    CrashCoordinator(u32, bool),
    /// Nodes have fewer cores for their instances.
    NoisyNeighbour {
        /// Pool.
        pool: u32,
        /// How many nodes.
        count: u32,
        /// Cores gone from each.
        cores: f64,
    },
    /// Memory in use grows by so many bytes an hour.
    MemoryLeak(Target, u64),
    /// Disks are full.
    DiskFull(Target),
    /// A version of a configuration is published, and the one before it at the end.
    BadConfig(u32, u8),
}

/// Which instances.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Service.
    pub service: u32,
    /// How many, oldest first; `None` = all.
    pub count: Option<u32>,
}

/// Something that monitoring watches.
#[derive(Clone, Debug)]
pub struct AlertSpec {
    /// Name.
    pub name: String,
    /// What is looked at.
    pub on: (Thing, Gauge),
    /// When it fires.
    pub rule: Rule,
    /// Window of rates and ratios.
    pub window: Duration,
    /// Time between looks.
    pub every: Duration,
}

/// Somebody who foresees the strokes of one fault.
#[derive(Clone, Debug)]
pub struct PredictionSpec {
    /// Name.
    pub name: String,
    /// Position in `Spec::faults`.
    pub fault: u32,
    /// How long before.
    pub lead: Law,
    /// Share of the strokes that are foreseen.
    pub hit_rate: f64,
    /// Per second.
    pub false_alarms: f64,
}

/// Something that an operator does.
#[derive(Clone, Debug)]
pub struct ActionSpec {
    /// When.
    pub when: ActionTime,
    /// What.
    pub what: Operation,
}

/// When an operator acts.
#[derive(Clone, Copy, Debug)]
pub enum ActionTime {
    /// Once.
    At(Time),
    /// Each time an alert begins to fire.
    OnAlert {
        /// Position in `Spec::alerts`.
        alert: u32,
        /// How long people take.
        after: Duration,
    },
    /// Each time a prediction is raised.
    OnPrediction {
        /// Position in `Spec::predictions`.
        prediction: u32,
        /// How long people take.
        after: Duration,
    },
    /// Each time an alert no longer fires.
    OnResolved {
        /// Position in `Spec::alerts`.
        alert: u32,
        /// How long people take.
        after: Duration,
    },
}

/// Operator actions.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Wanted replicas.
    Scale(u32, u32),
    /// Share of a source's requests that is let in.
    Throttle(u32, f64),
    /// Share of the calls over an edge of a caller that is made.
    ThrottleCalls(Thing, u32, f64),
    /// Factor on the cost of the endpoint that starts at this op.
    Degrade(u16, f64),
    /// Refuse (or allow) the endpoint that starts at this op.
    KillSwitch(u16, bool),
    /// Other requests and limits for the instances of a service.
    Resize(u32, Resize),
    /// Something about the rollout of a service.
    Rollout(u32, Act),
    /// To a version of a service, or the one from which the present one was made.
    Switch(u32, Option<u8>),
    /// A version of a configuration for its instances.
    Publish(Publish),
    /// Back to a revision of a service; 0 is the one before the last.
    Undo(u32, u32),
    /// Deliver the messages of a topic, or stop.
    Forward(u32, bool),
    /// Deliver again what was published since so long before the topic was stopped, and go on.
    Replay(u32, Duration),
    /// Make a member of a service's group its leader: the one on this seat, or the one with the longest log.
    PromoteMember(u32, Option<u32>),
    /// Rebuild the group of a service from a backup and the log that was saved since.
    Restore {
        /// Which service.
        service: u32,
        /// How old the backup is.
        backup_age: Duration,
        /// How long ago the saved log ends.
        log_age: Duration,
        /// How long it takes, besides writing the log again.
        takes: Duration,
    },
    /// Move everything away from what is predicted to fail; nodes take nothing new for so long.
    Drain {
        /// How long.
        lasts: Duration,
    },
}

/// What a process does at SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTerm {
    /// Serves on for so long, then takes nothing new and ends when it has done what it has.
    Close(Duration),
    /// Ends at once, with everything inside.
    Exit,
    /// Serves on until it is killed.
    Ignore,
}

/// New requests and limits of the own container; what is not given stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resize {
    /// CPU request, cores.
    pub cpu_request: Option<f64>,
    /// CFS quota, cores.
    pub cpu_limit: Option<f64>,
    /// Memory request, bytes.
    pub memory: Option<u64>,
    /// Memory limit, bytes.
    pub memory_limit: Option<u64>,
}

/// A version change.
#[derive(Clone, Debug)]
pub struct RolloutSpec {
    /// Start.
    pub at: Time,
    /// Service.
    pub service: u32,
    /// Position of the new version.
    pub to: u8,
    /// How.
    pub how: RolloutSettings,
}

/// A configuration.
#[derive(Clone, Debug)]
pub struct ConfigSpec {
    /// Name.
    pub name: String,
    /// Environments: name, and the service that it is.
    pub environments: Vec<(String, u32)>,
    /// From a publication to an instance, for each.
    pub delay: Law,
    /// What decryption adds.
    pub encryption: Duration,
    /// An instance takes it with a restart.
    pub restart: bool,
    /// Versions; the first is in force at the start.
    pub versions: Vec<ConfigVersionSpec>,
}

/// A version of a configuration.
#[derive(Clone, Debug)]
pub struct ConfigVersionSpec {
    /// Name.
    pub name: String,
    /// Share of attempts that fail after their work.
    pub error_rate: f64,
    /// Factor on every `cpu` step.
    pub demand: f64,
}

/// Somebody publishes a version of a configuration.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Position in [`Spec::configs`].
    pub config: u32,
    /// Position in its versions.
    pub version: u8,
    /// Position in its environments; `None` is all of them.
    pub environment: Option<u32>,
    /// Share of the instances that get it first.
    pub share: f64,
    /// How long only they have it.
    pub soak: Duration,
    /// A tool brings it to them, instead of the centre.
    pub batch: Option<BatchSpec>,
}

/// How a tool works through a list of instances.
#[derive(Clone, Debug)]
pub struct BatchSpec {
    /// So many at a time.
    pub size: u32,
    /// How long one takes.
    pub takes: Law,
    /// Share of tries that fail.
    pub failure_rate: f64,
    /// Tries after one that failed.
    pub retries: u32,
    /// Between batches.
    pub pause: Duration,
    /// A batch with a larger share of instances that failed for good stops the run.
    pub max_failed: f64,
}

/// Who takes the changes of a service back.
#[derive(Clone, Debug)]
pub struct RollbackSpec {
    /// Name.
    pub name: String,
    /// Service.
    pub service: u32,
    /// Time between looks.
    pub every: Duration,
    /// How far back a look goes.
    pub window: Duration,
    /// Attempts within the window without which their errors and latencies mean nothing.
    pub least: u64,
    /// When it is bad, and what then.
    pub settings: RollbackSettings,
    /// An alert that counts as bad while it fires.
    pub alert: Option<u32>,
    /// How a release goes back.
    pub by: RolloutSettings,
}
