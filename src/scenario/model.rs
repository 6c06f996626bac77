//! What a checked scenario says: every name resolved to an index, every quantity in base units, nothing left to refuse.
//!
//! One [`Scenario`] is one strategy of a [`Study`] with all overrides applied. Indices point into the lists of the same
//! scenario (`Study` guarantees that sources, services and faults keep their positions across strategies).

use crate::policies::alert::Rule;
use crate::policies::autoscaler::AutoscalerSettings;
use crate::policies::balancer::BalancerSettings;
use crate::policies::breaker::BreakerSettings;
use crate::policies::delivery::Delivery;
use crate::policies::detector::DetectorSettings;
use crate::policies::detector::kubelet::{KubeletSettings, ProbeKind};
use crate::policies::discovery::DiscoverySettings;
use crate::policies::disruption::DisruptionBudget;
use crate::policies::election::ElectionSettings;
use crate::policies::hedge::HedgeSettings;
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
use crate::random::law::Law;
use crate::time::{Duration, Time};

/// A scenario file with its strategies, ready to run.
#[derive(Clone, Debug)]
pub struct Study {
    /// `scenario.name`, also the name of the results folder: letters, digits, `-`, `_`, `.`; never `.` or `..`.
    pub name: String,
    /// `scenario.title`: one line for charts; defaults to the name.
    pub title: String,
    /// Text shown on every chart, e.g. that storm time runs 12 times faster (`scenario.note`).
    pub note: Option<String>,
    /// Root seed.
    pub seed: u64,
    /// Replications per strategy, at least 1.
    pub replications: u32,
    /// Start of the counted part of a run.
    pub warm_up: Duration,
    /// End of the counted part; sources stop here.
    pub duration: Duration,
    /// Width of one timeline window.
    pub resolution: Duration,
    /// Metric that decides between strategies (default `availability`).
    pub primary: String,
    /// Position of the strategy that the others are compared with (default 0).
    pub baseline: usize,
    /// Name of the source whose requests the charts show; `None` = all requests.
    pub focus: Option<String>,
    /// Service level objective, if one is stated.
    pub objective: Objective,
    /// Strategies in file order; a file without any has one named `default`.
    pub strategies: Vec<Strategy>,
    /// `[thresholds]`.
    pub thresholds: Vec<Threshold>,
    /// The limits in force.
    pub limits: Limits,
    /// The text of the scenario file as it was read (includes excluded), for the report.
    pub text: String,
    /// Hash of everything that was read (file, includes, traces), for `run.json`.
    pub hash: u64,
    /// Path as given on the command line, `-` for standard input.
    pub path: String,
    /// Things that are legal but worth a line on stderr and in `run.json`.
    pub warnings: Vec<String>,
}

/// One strategy: its name and the scenario with its overrides applied.
#[derive(Clone, Debug)]
pub struct Strategy {
    /// Unique within the study.
    pub name: String,
    /// One line on what it adds (`strategy.title`), may be empty.
    pub title: String,
    /// The merged scenario.
    pub scenario: Scenario,
}

/// `[objective]`: what counts as recovered, and the promise the error budget is measured against.
#[derive(Clone, Debug, Default)]
pub struct Objective {
    /// Wanted availability, 0..1.
    pub availability: Option<f64>,
    /// Wanted p99 latency.
    pub latency_p99: Option<Duration>,
}

/// `[limits]`: how much a scenario may ask for. Every one is named in the error that it causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events waiting at one moment (default 4 million; at most 2^24).
    pub pending_events: u64,
    /// Requests and calls in flight at one moment (default 4 million; at most 2^24).
    pub in_flight: u64,
    /// Instances over the life of a run (default 100 000).
    pub instances: u64,
    /// Requests of one replication (default 1 000 million).
    pub requests: u64,
    /// Events of one replication (default 20 000 million; at most 2^36).
    pub events: u64,
    /// Replications (default 10 000).
    pub replications: u64,
    /// Size of a file that a scenario names, in bytes (default 256 MiB).
    pub file_size: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pending_events: 4_000_000,
            in_flight: 4_000_000,
            instances: 100_000,
            requests: 1_000_000_000,
            events: 20_000_000_000,
            replications: 10_000,
            file_size: 256 << 20,
        }
    }
}

/// One threshold: `"latency{strategy:hpa}" = ["p(99) < 800ms"]`, or `"service.api.utilization" = ["mean < 80%"]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// As it was written, for messages: `latency{strategy:hpa}: p(99) < 800ms`.
    pub text: String,
    /// Full name of the metric in `summary.json` (`latency_p99_ms`, `availability`).
    pub metric: String,
    /// Position of the strategy, or `None` for all.
    pub strategy: Option<usize>,
    /// Which way.
    pub comparison: Comparison,
    /// Right-hand side, in the unit of the metric.
    pub value: f64,
    /// Whether *inconclusive* passes (`allow-inconclusive = true` in `[thresholds]`).
    pub allow_inconclusive: bool,
}

/// Operators of a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
}

/// Everything that exists in one run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What requests can carry.
    pub attributes: Vec<Attribute>,
    /// Failure domains.
    pub zones: Vec<String>,
    /// `[network]`.
    pub network: Network,
    /// Machines.
    pub node_pools: Vec<NodePool>,
    /// Which machine an instance gets. Default `spread`.
    pub scheduler: SchedulerSettings,
    /// How many machines there are; `None` leaves all pools as they are.
    pub provisioner: Option<ProvisionerSettings>,
    /// `[provisioning]`.
    pub provisioning: Provisioning,
    /// `[registry]`.
    pub registry: Registry,
    /// Services.
    pub services: Vec<Service>,
    /// Where requests come from.
    pub sources: Vec<Source>,
    /// Troubles, scheduled or drawn.
    pub faults: Vec<Fault>,
    /// What monitoring watches.
    pub alerts: Vec<Alert>,
    /// Who foresees failures.
    pub predictions: Vec<Prediction>,
    /// What operators do at given times, or when an alert fires.
    pub actions: Vec<Action>,
    /// Version changes.
    pub rollouts: Vec<RolloutPlan>,
    /// Configurations.
    pub configs: Vec<Config>,
    /// Who takes changes back.
    pub rollbacks: Vec<RollbackPlan>,
    /// Message queues.
    pub topics: Vec<Topic>,
    /// What several services do together or not at all.
    pub transactions: Vec<Transaction>,
}

/// `[[topic]]`: a message queue.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Unique name.
    pub name: String,
    /// From publishing to the broker's acknowledgement. Default 0.
    pub publish: Law,
    /// What is promised, and when a message comes again.
    pub delivery: Delivery,
    /// How long the broker waits for the acknowledgement of a delivery. Default 30 s.
    pub ack_timeout: Duration,
    /// `order = "key"`: messages of one partition are delivered one after the other.
    pub ordered: bool,
    /// Partitions, where they matter. Default 16.
    pub partitions: u32,
    /// Number of different keys. Default 1000.
    pub keys: u64,
    /// Zipf exponent of their popularity. Default 0.
    pub zipf: f64,
    /// Messages that may wait for one consumer; `u64::MAX` is any number.
    pub length: u64,
    /// What happens to the next one.
    pub full: TopicFull,
    /// Share of deliveries, and of acknowledgements, that get lost.
    pub loss: f64,
    /// How long messages are kept for a replay. Default 10 min.
    pub retention: Duration,
    /// Who gets each message.
    pub consumers: Vec<Consumer>,
}

/// `full` of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicFull {
    /// Publishing fails.
    Reject,
    /// The oldest message that waits is dropped.
    DropOldest,
    /// The new message is dropped, and its publisher does not know.
    DropNewest,
}

/// `[[topic.consumer]]`.
#[derive(Clone, Copy, Debug)]
pub struct Consumer {
    /// What works on a message.
    pub endpoint: EndpointRef,
    /// Messages that one instance works on at a time.
    pub concurrency: u32,
}

/// `[[transaction]]`.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Unique name.
    pub name: String,
    /// Protocol.
    pub how: TransactionSettings,
    /// Time of a forced write to a log.
    pub log: Law,
    /// Who takes part, in order.
    pub participants: Vec<Participant>,
}

/// `[[transaction.participant]]`.
#[derive(Clone, Debug)]
pub struct Participant {
    /// Does the work.
    pub prepare: EndpointRef,
    /// Makes it last; a saga has none.
    pub commit: Option<EndpointRef>,
    /// Undoes it.
    pub abort: EndpointRef,
    /// Rows that the work may lock.
    pub rows: u64,
    /// Zipf exponent of their popularity.
    pub zipf: f64,
    /// Longest wait for a row. `None` = for ever.
    pub lock_timeout: Option<Duration>,
}

impl Participant {
    /// Its endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = EndpointRef> {
        [Some(self.prepare), self.commit, Some(self.abort)].into_iter().flatten()
    }
}

/// One-way delays. A law that is constant and zero costs nothing.
#[derive(Clone, Debug)]
pub struct Network {
    /// Between two instances in the same zone (also without zones). Default 0.
    pub same_zone: Law,
    /// Between zones without a link of their own. Default 1 ms where the scenario has two or more zones.
    pub cross_zone: Law,
    /// Between a source outside (one without a zone) and any instance. Default 0.
    pub outside: Law,
    /// `[[network.link]] between = ["a", "b"], latency = ".."`, both directions.
    pub links: Vec<Link>,
}

/// Delay between two particular zones.
#[derive(Clone, Debug)]
pub struct Link {
    /// Zone indices.
    pub between: (usize, usize),
    /// One-way delay.
    pub latency: Law,
}

/// `[[node-pool]]`.
#[derive(Clone, Debug)]
pub struct NodePool {
    /// Unique name.
    pub name: String,
    /// Number of nodes, dealt over the zones in turn.
    pub nodes: u32,
    /// Cores of one node; may be fractional (`"500m"` is not accepted, `0.5` is).
    pub cores: f64,
    /// Memory of one node, bytes.
    pub memory: u64,
    /// Zones the nodes are dealt over; empty means no zone.
    pub zones: Vec<usize>,
    /// Whether instances share the cores of their node; `None`: if they could want more than it has.
    pub share_cpu: Option<bool>,
    /// Price of one node for one hour, if given (`price = "0.19/h"`).
    pub price: Option<f64>,
    /// Fewest and most nodes that a provisioner may leave; `None` if `min` and `max` are not written.
    pub scales: Option<(u32, u32)>,
    /// From the machine's birth until it takes instances. Default 90 s.
    pub boot: Law,
    /// Most instances on a node. Default 110, as of the kubelet.
    pub max_pods: u32,
    /// Rank for an expander that goes by priority. Default 0.
    pub rank: i32,
    /// Room for images on a node, bytes; `None` is no limit.
    pub disk: Option<u64>,
    /// Whether its owner may want the machines back.
    pub spot: bool,
}

/// `[provisioning]`: the service that orders of machines go through.
#[derive(Clone, Debug)]
pub struct Provisioning {
    /// Orders worked on at a time. Default unlimited (`u32::MAX`).
    pub concurrency: u32,
    /// How long the work on one order takes. Default 0.
    pub takes: Law,
    /// Orders that may wait; more are refused. Default unlimited (`u32::MAX`).
    pub queue: u32,
    /// An order that is not done after so long has failed. `None` = never.
    pub timeout: Option<Duration>,
    /// Share of orders that fail at the end of their work. Default 0.
    pub failure_rate: f64,
}

/// `[registry]`: where images come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    /// Bytes per second for all nodes together; `None` is no limit.
    pub bandwidth: Option<u64>,
    /// Bytes per second for one node; `None` is no limit.
    pub node_bandwidth: Option<u64>,
}

/// `[[service]]`.
#[derive(Clone, Debug)]
pub struct Service {
    /// Unique name.
    pub name: String,
    /// Instances at the start.
    pub replicas: u32,
    /// Node pools its instances may be placed on; none when the scenario has no pools (then they need no node).
    pub node_pools: Vec<usize>,
    /// Where no other instance of the service may be. Default `None`.
    pub anti_affinity: AntiAffinity,
    /// By how many a zone may be ahead of the emptiest one; `None` = any number.
    pub zone_max_skew: Option<u32>,
    /// One running copy.
    pub instance: Instance,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// Calling side of each called service, in order of first mention in the steps.
    pub edges: Vec<Edge>,
    /// The service's own limiter, in front of its queue, one per instance.
    pub limiter: Option<LimiterSettings>,
    /// Control loop over the number of replicas.
    pub autoscaler: Option<AutoscalerSettings>,
    /// Learns what an instance should ask for, and may give it that.
    pub recommender: Option<RecommenderSettings>,
    /// Holds attempts back while their callers know no instance; `autoscaler.kpa` implies one.
    pub activator: Option<Activator>,
    /// What a request that finds no answer there sets off.
    pub on_outage: Option<ReplacementSettings>,
    /// Instances that stay when others are taken away on purpose.
    pub disruption_budget: Option<DisruptionBudget>,
    /// What answers its queries, in their order.
    pub signals: Vec<Signal>,
    /// How the autoscaler's metrics reach it.
    pub metrics: MetricsPipeline,
    /// Time until a client learns that an instance came or went, drawn per client and change.
    pub discovery: Law,
    /// The registry that clients ask instead.
    pub directory: Option<DiscoverySettings>,
    /// Probes of the kubelet, at most one of each kind.
    pub probes: Vec<Probe>,
    /// `[[service.cache]]`.
    pub caches: Vec<Cache>,
    /// `[[service.pool]]`: connections each instance holds to something slow.
    pub pools: Vec<Pool>,
    /// `[[service.sidecar]]`: other containers of each instance.
    pub sidecars: Vec<Sidecar>,
    /// `[[service.version]]`; the first is what runs at the start (one named `v1` if none is written).
    pub versions: Vec<Version>,
    /// What its instances do with the connections of their clients.
    pub listener: Listener,
    /// Price of one instance for one hour, if given.
    pub price: Option<f64>,
    /// Weights of its instances, over and over again in the order of their creation; empty: all 1.
    pub weights: Vec<u32>,
    /// Its instances agree on a leader and keep a log together.
    pub group: Option<Group>,
}

/// `[service.group]`: a seat for each of the replicas at the start.
#[derive(Clone, Debug)]
pub struct Group {
    /// How its members agree on a leader.
    pub election: ElectionSettings,
    /// Zone of the lock outside the group; `None` is outside all zones.
    pub lock_zone: Option<usize>,
    /// By endpoint: whether it writes.
    pub writes: Vec<bool>,
    /// The leader serves the other endpoints, too.
    pub leader_reads: bool,
    /// Who must have a write before it is acknowledged.
    pub mode: ReplicationMode,
    /// Time until a member has a write, besides the network.
    pub lag: Law,
    /// Core time of the leader for each write and each other member.
    pub cost: Duration,
    /// How long what is for the leader is held while none is known; `None` = not at all.
    pub blocking_window: Option<Duration>,
    /// Time until a member turns to a new leader.
    pub reconnect: Law,
    /// Time until the callers in a zone know a new leader, besides the network.
    pub announce: Law,
    /// A member that lacks something may not lead, and takes no requests once it knows.
    pub must_catch_up: bool,
    /// Writes per second that a member gets of what it has missed.
    pub sync_rate: f64,
}

/// Who must have a write before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicationMode {
    /// The leader alone.
    Asynchronous,
    /// More than half of the members.
    Quorum,
    /// Every member that is connected with the leader.
    Synchronous,
}

/// `probe.readiness = { .. }`
#[derive(Clone, Debug)]
pub struct Probe {
    /// What it is for.
    pub kind: ProbeKind,
    /// When, how often, and what counts.
    pub settings: KubeletSettings,
    /// What it asks for.
    pub work: ProbeWork,
}

/// What a probe or a health check has the instance do.
#[derive(Clone, Debug)]
pub enum ProbeWork {
    /// Serve this endpoint, by position.
    Endpoint(usize),
    /// So much core time, on a worker like any other attempt.
    Cost(Law),
    /// Nothing: it has a port of its own.
    OwnPort,
}

/// `health-check = { .. }` of an edge.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    /// How often, and what the answers mean.
    pub detector: DetectorSettings,
    /// What it asks for.
    pub work: ProbeWork,
}

/// `activator = { capacity = 10_000, timeout = "5min" }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activator {
    /// Attempts that it can hold at one moment; the next one is refused. Default 10,000, Knative's queue per revision.
    pub capacity: u32,
    /// Longest wait; then the attempt fails. Default 5 min, Knative's `revision-timeout-seconds`.
    pub timeout: Duration,
    /// Held attempts go out while there are fewer than so many inside for each ready instance; `None` = at once.
    pub per_instance: Option<u32>,
}

/// What answers one query of an autoscaler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Core time of each instance.
    Cpu,
    /// Core time of one container of each instance, 0 being its own.
    ContainerCpu(usize),
    /// Memory in use of each instance.
    Memory,
    /// Attempts inside each instance, waiting or started.
    Concurrency,
    /// Attempts that wait for a worker of each instance.
    QueueLength,
    /// Bytes on the disk of each instance.
    DiskBytes,
    /// Share of the disk of each instance that is in use, 0..1.
    DiskUtilization,
    /// Bytes in and out of each instance, per second.
    Network,
    /// Something that is no instance of the scaled service.
    Of(Thing, Gauge),
}

/// What an autoscaler can look at beside its own instances, by position in the scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A service.
    Service(usize),
    /// A source.
    Source(usize),
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
    /// Core time used over that of ready instances, 0..1; only of a service.
    Utilization,
    /// Share of the requests that ended otherwise than well, 0..1; only of a source.
    BadRatio,
    /// Mean time from coming to going of requests (attempts, for a service) that are gone, seconds.
    MeanTime,
    /// Memory in use over the limit, of ready instances, 0..1; only of a service.
    MemoryUtilization,
    /// Disk in use over its size, of ready instances, 0..1; only of a service.
    DiskUtilization,
    /// Bytes in and out, per second; only of a service.
    Network,
}

/// `instance = { .. }`.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Cores it may use at full speed. Default 1.
    pub cores: u32,
    /// CPU request in cores, as the autoscaler and the placement see it. Default: the limit, else `cores`.
    pub cpu_request: f64,
    /// CFS quota in cores: core time in each 100 ms. `None` is no limit.
    pub cpu_limit: Option<f64>,
    /// CPU credits, as of burstable machines.
    pub cpu_burst: Option<CpuBurst>,
    /// Memory request, bytes. Default: the limit, else 0 (takes no room).
    pub memory: u64,
    /// More than that in use, and the process is killed. `None` is no limit.
    pub memory_limit: Option<u64>,
    /// What it uses, if that is simulated.
    pub memory_use: Option<MemoryUse>,
    /// How it fills its disk, if that is simulated.
    pub disk_use: Option<DiskUse>,
    /// Garbage collection.
    pub gc: Option<Gc>,
    /// Name of its own container, for autoscalers that follow one. Default `app`.
    pub container: String,
    /// Core time that the process needs after `start`, before it is ready; on one core.
    pub start_cpu: Option<Law>,
    /// How work is executed.
    pub mode: Mode,
    /// How runnable `cpu` steps share the cores. Default `Shared` for threads, `Fifo` for async.
    pub cpu: CpuSharing,
    /// Waiting places; `None` is unbounded (the default).
    pub queue: Option<u32>,
    /// What happens to an attempt that finds the queue full. Default `Reject`.
    pub full: Full,
    /// Which waiting attempt starts next. Default `Fifo`.
    pub order: Order,
    /// Longest wait in the queue, drawn per attempt; then the attempt is rejected. `None` = for ever.
    pub queue_timeout: Option<Law>,
    /// Who turns attempts away at the queue, or drops them when their turn comes. `None`: nobody.
    pub shedding: Option<SheddingSettings>,
    /// Time to fetch the image on a node that does not have it. Default 0.
    pub pull: Law,
    /// From the end of the pull to readiness. Default 0.
    pub start: Law,
    /// Slow first minutes.
    pub warm_up: Option<WarmUp>,
    /// Longest time an instance may finish its work after it was asked to stop. Default 30 s.
    pub grace: Duration,
    /// How long it serves on before SIGTERM, as part of `grace` (a `preStop` hook that sleeps). Default 0.
    pub pre_stop: Duration,
    /// What it does at SIGTERM. Default: closes its door at once.
    pub on_term: OnTerm,
    /// How speed falls with the number of attempts inside.
    pub slow_down: SlowDown,
}

/// `memory-use = { base = "300MiB", per-attempt = "2MiB", .. }`, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// When idle.
    pub base: u64,
    /// For each attempt inside, waiting or started. Default 0.
    pub per_attempt: u64,
    /// Never given back, for each attempt. Default 0.
    pub leak_per_request: u64,
    /// Never given back, in an hour. Default 0.
    pub leak_per_hour: u64,
}

/// `cpu-burst = { baseline = "20%", credits = "30min" }`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuBurst {
    /// Share of each core that it may always use, above 0 and below 1.
    pub baseline: f64,
    /// Core time that a new instance has saved. Default 0.
    pub credits: Duration,
    /// Most core time that can be saved. Default: what 24 h earn.
    pub max: Duration,
}

/// `disk-use = { size = "20GiB", base = "1GiB", per-request = "2KiB", per-hour = "1GiB" }`, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DiskUse {
    /// All there is.
    pub size: u64,
    /// On a fresh one. Default 0.
    pub base: u64,
    /// Each attempt leaves so much. Default 0.
    pub per_request: u64,
    /// What each hour leaves. Default 0.
    pub per_hour: u64,
    /// With this share in use the instance is evicted, default 0.9, as the kubelet does with `nodefs.available<10%`;
    /// `None` (`full = "fail"`): it is kept, and a full disk fails every attempt.
    pub pressure: Option<f64>,
}

/// `network-use = { in = "1KiB", out = "20KiB" }` of an endpoint, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkUse {
    /// Of each request that is taken in. Default 0.
    pub bytes_in: u64,
    /// Of each answer that is no error. Default 0.
    pub bytes_out: u64,
}

/// `gc = { per-request = "200KiB", young = "64MiB", pause = "2ms", per-gib = "20ms" }`: when attempts have allocated a young
/// generation, the program stops while it is collected.
#[derive(Clone, Debug)]
pub struct Gc {
    /// Bytes that each attempt allocates.
    pub per_request: u64,
    /// Size of the young generation, bytes.
    pub young: u64,
    /// Length of a pause when nothing is alive.
    pub pause: Law,
    /// What each GiB in use adds to it. Default 0.
    pub per_gib: Duration,
}

/// `[[service.sidecar]]`: another container of each instance, through which every attempt passes on its way in and out.
#[derive(Clone, Debug)]
pub struct Sidecar {
    /// Unique within the service.
    pub name: String,
    /// Core time for one attempt, half of it on each way. Default 0.
    pub cost: Law,
    /// Cores it may use. Default 2.
    pub cores: u32,
    /// CPU request in cores. Default: 0.1.
    pub cpu_request: f64,
    /// CFS quota in cores. `None` is no limit.
    pub cpu_limit: Option<f64>,
    /// Memory request, bytes. Default 128 MiB.
    pub memory: u64,
}

/// `mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A worker is held through `wait` and `call`.
    Threads {
        /// Number of workers (default: `cores`); `u32::MAX` for `workers = "unlimited"`.
        workers: u32,
    },
    /// Nothing is held while waiting.
    Async {
        /// Attempts inside at one moment (default unlimited, `u32::MAX`).
        max_in_flight: u32,
    },
}

/// `cpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuSharing {
    /// Egalitarian processor sharing: n runnable steps on c cores each run at min(1, c/n).
    Shared,
    /// First come, first served, each step to its end on one core.
    Fifo,
}

/// What a process does at SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTerm {
    /// Takes nothing new, and ends when it has done what it has.
    Close {
        /// It serves on for so long before that.
        lame_duck: Duration,
    },
    /// Ends at once, with everything inside: nobody handles the signal.
    Exit,
    /// Serves on until it is killed: the signal does not reach it.
    Ignore,
}

/// `full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Answer at once with an error.
    Reject,
    /// Say nothing: the caller notices by its timeout, or by SYN retries after 1, 3, 7 s ...
    Drop,
}

/// `order`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Fifo,
    /// Newest first.
    Lifo,
    /// Newest first while there is a standing queue, oldest first otherwise.
    AdaptiveLifo(Standing),
    /// Highest priority of the source first (`source.priority`), oldest first among equals.
    Priority,
}

/// When a queue is a standing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// While so many wait beside the one that is taken (`lifo-threshold`).
    Waiting(u32),
    /// When it has not been empty for longer than this (`lifo-after`).
    For(Duration),
}

/// `warm-up = { for = "60s", slowdown = 4 }`: demand is multiplied by `slowdown` at readiness, falling linearly to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WarmUp {
    /// How long.
    pub lasts: Duration,
    /// Factor at the start, at least 1.
    pub slowdown: f64,
}

/// How much longer each `cpu` step takes with n attempts inside the instance.
#[derive(Clone, Debug, PartialEq)]
pub enum SlowDown {
    /// Not at all.
    None,
    /// Universal scalability law: 1 + alpha (n - 1) + beta n (n - 1).
    Usl {
        /// Contention.
        alpha: f64,
        /// Coherency.
        beta: f64,
    },
    /// `slow-down = { table = [1, 1.1, 1.3] }`: factor at n = 1, 2, 3 ...; the last holds beyond.
    Table(Vec<f64>),
}

/// `[[service.endpoint]]`.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Unique within the service.
    pub name: String,
    /// What serving it takes, in order.
    pub steps: Vec<Step>,
    /// Bytes that pass, if that is simulated.
    pub network_use: Option<NetworkUse>,
}

/// A service's endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointRef {
    /// Position in `Scenario::services`.
    pub service: usize,
    /// Position in `Service::endpoints`.
    pub endpoint: usize,
}

/// One step of an endpoint, or of a source's journey.
#[derive(Clone, Debug)]
pub enum Step {
    /// `cpu LAW [* LAW]`: the request's part times the attempt's part (a plain number).
    Cpu(Demand),
    /// `wait LAW [* LAW]`: time that needs no core (disk, a third party).
    Wait(Demand),
    /// `call SERVICE.ENDPOINT [timeout=..] [probability=..]`.
    Call(Call),
    /// `choose 70% a.x, 30% b.y` (shares may sum to less than 1; the rest calls nothing).
    Choose(Vec<(f64, Call)>),
    /// `route path /search a.x, /buy* b.y, * c.z`: one call, by what the request carries.
    Route {
        /// Position in `Scenario::attributes`.
        attribute: usize,
        /// One for each rule.
        calls: Vec<Call>,
        /// Position in `calls` for each named value.
        to: Vec<usize>,
        /// The same for requests that carry none.
        otherwise: usize,
    },
    /// `parallel [any|quorum=N] a.x b.y [times=N] [timeout=..]`.
    Parallel {
        /// All calls leave at the same moment (`times` is already multiplied out).
        calls: Vec<Call>,
        /// How many successes let the step go on (`all` = number of calls, `any` = 1).
        need: u32,
    },
    /// `cache NAME`: on a hit the next step is skipped.
    Cache(usize),
    /// `pool NAME`: the next step runs holding one of the pool's connections.
    Pool(usize),
    /// `publish TOPIC [probability=..]`.
    Publish {
        /// Position in `Scenario::topics`.
        topic: usize,
        /// Share of requests that publish, 0..1.
        probability: f64,
    },
    /// `transaction NAME`: goes on when it has committed, fails when it has aborted.
    Transaction {
        /// Position in `Scenario::transactions`.
        transaction: usize,
        /// Calls that prepare, commit and abort, by participant.
        calls: Vec<[Option<Call>; 3]>,
    },
}

/// Work or waiting of a step.
#[derive(Clone, Debug)]
pub struct Demand {
    /// The same for every attempt and instance.
    pub request: Law,
    /// Multiplies it, drawn anew for each attempt.
    pub attempt: Option<Law>,
}

/// A call to another service.
#[derive(Clone, Debug)]
pub struct Call {
    /// Where to.
    pub to: EndpointRef,
    /// Position in the caller's `edges`.
    pub edge: usize,
    /// Time limit of one attempt: the step's own `timeout=`, else the edge's.
    pub timeout: Option<Duration>,
    /// Share of requests that make the call, 0..1.
    pub probability: f64,
}

/// The calling side between one caller and one called service: `service.X.call.Y`, `source.S.call.Y`, merged over the
/// called service's `callers`.
#[derive(Clone, Debug)]
pub struct Edge {
    /// Called service.
    pub to: usize,
    /// Policies of the innermost level, which picks the instance.
    pub policies: EdgePolicies,
    /// Levels around it, outermost first.
    pub levels: Vec<EdgeLevel>,
    /// `propagate-deadline`: `None` passes on what the caller has been told, `true` makes the timeout of an attempt a deadline
    /// as well, `false` passes nothing on.
    pub propagate_deadline: Option<bool>,
    /// Balancer (default `round-robin`).
    pub balancer: BalancerSettings,
    /// Attribute whose values are kept together (by a balancer that hashes), and whose breaks are counted; position in
    /// `Scenario::attributes`.
    pub affinity: Option<usize>,
    /// A cookie with that value names the instance that answered last; the balancer picks for those who have none.
    pub cookie: bool,
    /// Leaves endpoints out that answer badly.
    pub outlier: Option<OutlierSettings>,
    /// Leaves endpoints out that fail checks.
    pub health_check: Option<HealthCheck>,
    /// From which set of endpoints the balancer picks.
    pub host_selection: Option<HostSelectionSettings>,
    /// Who owns the policies' state.
    pub sharing: Sharing,
    /// How connections are kept; `None`: an attempt needs none.
    pub connections: Option<Connections>,
}

impl Edge {
    /// The policies of all its levels, outermost first.
    pub fn all_policies(&self) -> impl Iterator<Item = &EdgePolicies> {
        self.levels.iter().map(|level| &level.policies).chain([&self.policies])
    }
}

/// The policies of one level of an edge.
#[derive(Clone, Debug)]
pub struct EdgePolicies {
    /// Whether an attempt that timed out or lost to another copy is cancelled at the callee; otherwise its work goes on (the
    /// default).
    pub cancel: bool,
    /// Retries; not together with hedging.
    pub retry: Option<RetrySettings>,
    /// Hedging.
    pub hedge: Option<HedgeSettings>,
    /// Bound on retries or hedges.
    pub retry_budget: Option<BudgetSettings>,
    /// Circuit breaker.
    pub breaker: Option<BreakerSettings>,
    /// Limiter on the calling side.
    pub limiter: Option<LimiterSettings>,
}

/// `[[service.X.call.Y.level]]`: a stack of policies around that of the edge, as of a side-car or a gateway.
#[derive(Clone, Debug)]
pub struct EdgeLevel {
    /// Unique within the edge.
    pub name: String,
    /// Time limit of one of its attempts, which is a whole call of the level below.
    pub timeout: Option<Duration>,
    /// Its policies.
    pub policies: EdgePolicies,
}

/// `sharing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Each calling instance (each client of a source) has its own; it dies with the instance.
    Instance,
    /// One for all instances of the calling service.
    Service,
}

/// `connections = { .. }` of an edge: how one client keeps its connections to one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Connections {
    /// Attempts that share a connection (`http2`); `None` is `http1`, one at a time.
    pub streams: Option<u32>,
    /// The balancer picks an endpoint for each connection, not for each attempt.
    pub per_connection: bool,
    /// Most connections of one client.
    pub max: u32,
    /// Attempts of one client that may wait for one; the next is refused.
    pub max_pending: u32,
    /// Idle connections that an endpoint may keep (`http1`).
    pub max_idle: u32,
    /// Connections that are set up without being asked for.
    pub min: u32,
    /// Idle for so long, and the client closes it; `None` = never.
    pub idle_timeout: Option<Duration>,
    /// Age at which the client closes it, drawn for each; `None` = any.
    pub max_age: Option<Law>,
    /// Attempts after which the client closes it; `u32::MAX` = any number.
    pub max_requests: u32,
    /// Round trips until the transport stands; TCP needs one.
    pub connect_round_trips: u8,
    /// Longest set-up, TLS included.
    pub connect_timeout: Duration,
    /// Encryption.
    pub tls: Option<Tls>,
    /// Pause after a set-up that failed.
    pub backoff: Option<Backoff>,
    /// The client finds endpoints by name; `None`: it is told of them (`discovery`).
    pub dns: Option<Dns>,
}

/// `dns = { .. }`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dns {
    /// How long a client may believe an answer.
    pub ttl: Duration,
    /// Most addresses in an answer; `u32::MAX` = all.
    pub answers: u32,
    /// Share of clients that believe their first answer for ever.
    pub ignore_ttl: f64,
}

/// `tls = { .. }`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// Round trips of a full handshake: 1 with TLS 1.3, 2 with TLS 1.2.
    pub round_trips: u8,
    /// Core time of a full handshake at the instance.
    pub cpu: Law,
    /// Where a session ticket is good.
    pub resumption: Resumption,
    /// Round trips of a resumed handshake.
    pub resumed_round_trips: u8,
    /// Core time of a resumed handshake at the instance.
    pub resumed_cpu: Law,
    /// How long a ticket is good.
    pub ticket_lifetime: Duration,
}

/// `resumption`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// Nowhere.
    None,
    /// At the process that gave it.
    Instance,
    /// At all instances of the service.
    Service,
}

/// `backoff = { .. }`: gRPC's connection back-off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// From the start of the first set-up that failed to the next.
    pub base: Duration,
    /// Growth from one pause to the next.
    pub multiplier: f64,
    /// Share by which pauses vary to both sides; the first does not.
    pub jitter: f64,
    /// Longest pause before jitter.
    pub max: Duration,
    /// Attempts wait for the next set-up instead of failing at once.
    pub wait_for_ready: bool,
}

/// `listener = { .. }` of a service: what its instances do with the connections of their clients.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Idle for so long, and the instance closes it; `None` = never.
    pub idle_timeout: Option<Duration>,
    /// Age at which the instance asks the client to leave, drawn for each; `None` = never.
    pub max_age: Option<Law>,
    /// Attempts after which the instance closes it; `u32::MAX` = any number.
    pub max_requests: u32,
    /// Connections of one instance; more are refused. `u32::MAX` = any number.
    pub max_connections: u32,
}

/// `[[service.cache]]`.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Unique within the service.
    pub name: String,
    /// Number of different keys.
    pub keys: u64,
    /// Zipf exponent of their popularity (0 = uniform).
    pub zipf: f64,
    /// Entries it can hold (least recently used goes first); `None` = all keys.
    pub capacity: Option<u64>,
    /// Life of an entry; `None` = for ever.
    pub ttl: Option<Duration>,
    /// `true`: one cache per instance, cold after a restart. `false`: one for the service.
    pub local: bool,
    /// Concurrent misses of one key wait for the first one's answer.
    pub single_flight: bool,
}

/// `[[service.pool]]`: a connection pool of each instance.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Unique within the service.
    pub name: String,
    /// Connections.
    pub size: u32,
    /// Longest wait for one; then the attempt fails. `None` = for ever.
    pub max_wait: Option<Duration>,
}

/// `[[service.version]]`.
#[derive(Clone, Debug)]
pub struct Version {
    /// Unique within the service.
    pub name: String,
    /// Multiplies every `cpu` step (default 1).
    pub demand: f64,
    /// Share of attempts that fail after their work (default 0).
    pub error_rate: f64,
    /// Size of its image, bytes; 0 if the instance's `pull` says how long it takes (or nothing does).
    pub image: u64,
    /// Multiplies the time to start (default 1).
    pub start: f64,
    /// Bytes that every instance loses per hour, beside what the service does (default 0).
    pub leak_per_hour: u64,
    /// From the start of a process to its end, if it always comes to that.
    pub crash_loop: Option<Law>,
    /// Position of the version from which it was made (default: the one before).
    pub parent: Option<usize>,
}

/// `metrics = { period = "15s", window = "30s", delay = "0s" }`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricsPipeline {
    /// Time between scrapes (default 15 s).
    pub period: Duration,
    /// Length of the averaging window (default 30 s).
    pub window: Duration,
    /// From the end of a window until control loops can read the sample (default 0).
    pub delay: Duration,
    /// Share of scrapes that get lost, 0..1 (default 0).
    pub loss: f64,
}

/// `[[source]]`.
#[derive(Clone, Debug)]
pub struct Source {
    /// Unique name.
    pub name: String,
    /// The journey: what one request does, in order. `to = "api.get"` is one `Call`.
    pub steps: Vec<Step>,
    /// Calling side of each called service.
    pub edges: Vec<Edge>,
    /// Clients, each with its own policies and its own late view. Default 1.
    pub clients: u32,
    /// Zone it sits in; `None` is outside.
    pub zone: Option<usize>,
    /// When requests come.
    pub arrivals: Arrivals,
    /// At most so many requests, then the source stops (`requests = 1_000_000`); `None` = until the end of the run.
    pub requests: Option<u64>,
    /// Time after which the user is gone; a later answer is not good.
    pub deadline: Option<Duration>,
    /// Priority of its requests, inherited by every call below; larger is more important. Default 0.
    pub priority: u8,
    /// Whether the deadline travels down the call tree and cancels what is left there.
    pub propagate_deadline: bool,
    /// What its requests carry: position in `Scenario::attributes`, and how they come to their value.
    pub carries: Vec<(usize, Carried)>,
}

/// Something that requests carry: a path, a header, a cookie, a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Unique name.
    pub name: String,
    /// Values that have names, in the order in which they are written; none: values are numbers.
    pub values: Vec<String>,
}

/// How requests come to their value of an attribute; the same for all calls and attempts below one request.
#[derive(Clone, Debug, PartialEq)]
pub enum Carried {
    /// `uniform(N)`, `zipf(N, EXPONENT)`: a number below `count`, by popularity.
    Number {
        /// How many values.
        count: u64,
        /// Exponent of Zipf's law; 0 is uniform.
        zipf: f64,
    },
    /// `70% /search, 30% /buy`: share and position in `Attribute::values`; the rest has no value.
    Named(Vec<(f64, usize)>),
    /// `user`: the number of the user of a closed loop.
    User,
}

/// `arrivals.*`.
#[derive(Clone, Debug)]
pub enum Arrivals {
    /// `arrivals.poisson = { rate = "90/s" }` or `{ profile = .. , scale = 2 }`: a Poisson process with varying rate.
    Poisson(Profile),
    /// `arrivals.deterministic = { rate = "90/s" }`: equal gaps of the current rate.
    Deterministic(Profile),
    /// `arrivals.renewal = { gap = "gamma(10ms, cv=2)" }`: independent gaps with any law.
    Renewal(Law),
    /// `arrivals.mmpp = { states = [{ rate = "5/s", lasts = "100s" }, ..] }`: cycles through the states, each lasting an
    /// exponential time with the given mean.
    Mmpp(Vec<(f64, Duration)>),
    /// `arrivals.trace = { file = "x.csv", column = "t" }`: one request per row, at these instants.
    Trace(Vec<Time>),
    /// `arrivals.users = { count = 100, think = "exp(5s)", .. }`: closed loop.
    Users(Users),
}

/// Closed loop.
#[derive(Clone, Debug)]
pub struct Users {
    /// How many.
    pub count: u32,
    /// Time between an answer and the next request.
    pub think: Law,
    /// Share of users who stay away for `away` after a bad answer.
    pub leave: f64,
    /// How long they stay away.
    pub away: Law,
}

/// Rate over time, in requests per second; piecewise linear or piecewise constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// (start, rate at start), ascending, first at 0. After the last point the last rate holds.
    pub points: Vec<(Time, f64)>,
    /// Whether the rate moves linearly from point to point, or holds until the next.
    pub linear: bool,
    /// Adds `amplitude * sin(2 pi t / period)` to a constant first rate, if set (`diurnal`, exact sinusoid).
    pub sinusoid: Option<Sinusoid>,
}

/// The moving part of a sinusoidal profile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sinusoid {
    /// Requests per second, at most the base rate.
    pub amplitude: f64,
    /// Length of one wave.
    pub period: Duration,
    /// Where in the wave the run starts, 0..1.
    pub phase: f64,
}

/// `[[fault]]`.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Label on charts; defaults to what it does.
    pub name: String,
    /// When.
    pub when: When,
    /// What.
    pub what: Trouble,
}

/// When a fault strikes.
#[derive(Clone, Debug)]
pub enum When {
    /// `at = "1h40m"`, with `for = ".."` inside the fault (`None`: for ever, or by its nature instantaneous).
    At {
        /// Start.
        at: Time,
        /// Length.
        lasts: Option<Duration>,
    },
    /// `mtbf = "exp(30d)"`, `mttr = "lognormal(3h, cv=2)"`: drawn for each target on its own, in calendar time.
    Drawn {
        /// Up time.
        mtbf: Law,
        /// Down time.
        mttr: Law,
        /// How many targets can be under repair at one moment (`crew = 1`); the others wait in order. `None` = all.
        crew: Option<u32>,
    },
    /// `trace = ".."` in `node-loss`: (when, which node of the pool, for how long), ascending.
    Trace(Vec<(Time, u32, Duration)>),
}

/// Which instances of a service are struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Service.
    pub service: usize,
    /// How many instances, the oldest ready ones first; `None` = all.
    pub count: Option<u32>,
}

/// What a fault does.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// Instances die; their work is lost; each is replaced after its normal start-up.
    Crash(Target),
    /// CPU work takes `factor` times as long.
    Slow(Target, f64),
    /// Attempts fail with this probability after their work.
    ErrorRate(Target, f64),
    /// Nothing moves inside, connections stay open.
    Hang(Target),
    /// Nodes die with everything on them.
    NodeLoss {
        /// Pool.
        pool: usize,
        /// How many, in node order.
        count: u32,
        /// Probability that each other node of the same pool and zone goes with each of them.
        spreads: f64,
    },
    /// Machines are taken back by their owner, after a notice.
    SpotReclaim {
        /// Pool.
        pool: usize,
        /// How many, in node order.
        count: u32,
        /// From the notice to the end.
        notice: Duration,
    },
    /// Orders of machines fail.
    ProvisioningOutage {
        /// Pool; `None` = all.
        pool: Option<usize>,
    },
    /// No image can be pulled.
    RegistryOutage,
    /// `dns-outage = { for = "5min" }`: no name is resolved; clients go on with what they know while it is good.
    DnsOutage,
    /// Nobody reaches the registry of a service's endpoints.
    DiscoveryOutage {
        /// Service.
        service: usize,
    },
    /// Every node of the zone dies.
    ZoneLoss {
        /// Zone.
        zone: usize,
    },
    /// No message passes between two zones.
    Partition {
        /// Zones.
        between: (usize, usize),
    },
    /// Each message is lost with this probability; between two zones, or everywhere.
    PacketLoss {
        /// Zones; `None` = everywhere.
        between: Option<(usize, usize)>,
        /// Probability, 0..1.
        rate: f64,
    },
    /// Each message takes this much longer; between two zones, or everywhere.
    AddedLatency {
        /// Zones; `None` = everywhere.
        between: Option<(usize, usize)>,
        /// One-way addition.
        latency: Law,
    },
    /// Nodes have fewer cores for their instances.
    NoisyNeighbour {
        /// Pool.
        pool: usize,
        /// How many nodes, in node order.
        count: u32,
        /// Cores gone from each.
        cores: f64,
    },
    /// Memory in use grows by so many bytes an hour; what has leaked stays until the process ends.
    MemoryLeak(Target, u64),
    /// Disks are full, until the fault ends.
    DiskFull(Target),
    /// A version of a configuration is published in every environment, and the one before it when the fault ends.
    BadConfig {
        /// Position in `Scenario::configs`.
        config: usize,
        /// Position in its versions.
        version: usize,
    },
    /// Every attempt at the service is refused at once.
    Outage {
        /// Service.
        service: usize,
    },
    /// Nothing can be published, delivered or acknowledged.
    BrokerOutage {
        /// Topic.
        topic: usize,
    },
    /// The next coordinator of a transaction that reaches a point of the protocol dies there, with its instance.
    CrashCoordinator {
        /// Transaction.
        transaction: usize,
        /// Where; else before that.
        decided: bool,
    },
}

/// `[[action]]`: what an operator does.
#[derive(Clone, Debug)]
pub struct Action {
    /// When.
    pub when: ActionTime,
    /// What.
    pub what: Operation,
}

/// `resize = { service = "api", cpu-request = 2, .. }`: what is not written stays.
#[derive(Clone, Copy, Debug, PartialEq)]
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

/// When an operator acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionTime {
    /// Once.
    At(Time),
    /// Each time an alert begins to fire.
    OnAlert {
        /// Position in `Scenario::alerts`.
        alert: usize,
        /// How long people take to act.
        after: Duration,
    },
    /// Each time an alert no longer fires.
    OnResolved {
        /// Position in `Scenario::alerts`.
        alert: usize,
        /// How long people take to act.
        after: Duration,
    },
    /// Each time a prediction is raised.
    OnPrediction {
        /// Position in `Scenario::predictions`.
        prediction: usize,
        /// How long people take to act.
        after: Duration,
    },
}

/// `[[prediction]]`: somebody foresees the strokes of a fault.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// Unique name.
    pub name: String,
    /// Position in `Scenario::faults`.
    pub fault: usize,
    /// How long before.
    pub lead: Law,
    /// Share of the strokes that are foreseen, 0..1.
    pub hit_rate: f64,
    /// False alarms per second.
    pub false_alarms: f64,
}

/// `[[alert]]`
#[derive(Clone, Debug)]
pub struct Alert {
    /// Unique name.
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

/// Operator actions.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Set the wanted replicas of a service.
    Scale {
        /// Service.
        service: usize,
        /// Wanted replicas.
        replicas: u32,
    },
    /// Let only this share of a source's requests in (0 pauses it, 1 resumes).
    Throttle {
        /// Source.
        source: usize,
        /// Share, 0..1.
        share: f64,
    },
    /// Give the instances of a service other requests and limits.
    Resize {
        /// Service.
        service: usize,
        /// Which.
        to: Resize,
    },
    /// Do something about the rollout of a service.
    Rollout {
        /// Service.
        service: usize,
        /// What.
        act: Act,
    },
    /// Move a service to another version.
    Switch {
        /// Service.
        service: usize,
        /// Position in its `versions`; `None` is the version from which the present one was made.
        to: Option<usize>,
    },
    /// Publish a version of a configuration.
    Publish(Publish),
    /// Roll a service back.
    Undo {
        /// Service.
        service: usize,
        /// To which revision; 0 is the one before the last.
        revision: u32,
    },
    /// Make a member of a group its leader.
    PromoteMember {
        /// Service.
        service: usize,
        /// Which seat; `None` = the one with the longest log.
        seat: Option<u32>,
    },
    /// Rebuild a group from a backup and the log that was saved since.
    Restore {
        /// Service.
        service: usize,
        /// How old the backup is.
        backup_age: Duration,
        /// How long ago the saved log ends.
        log_age: Duration,
        /// How long it takes, besides writing the log again.
        takes: Duration,
    },
    /// Move everything away from what is predicted to fail.
    Drain {
        /// How long nodes take nothing new.
        lasts: Duration,
    },
    /// Make only this share of the calls that one caller makes to one service (0 none, 1 all); the others fail at once.
    ThrottleCalls {
        /// Who calls.
        caller: Thing,
        /// Position in its `edges`.
        edge: usize,
        /// Share, 0..1.
        share: f64,
    },
    /// Answer cheaper and worse at one endpoint, or in full again.
    Degrade {
        /// Endpoint.
        endpoint: EndpointRef,
        /// Factor on its `cpu` steps, 0..1; 1 is in full.
        cost: f64,
    },
    /// Deliver nothing of a topic, or go on.
    Forward {
        /// Topic.
        topic: usize,
        /// `false` stops.
        on: bool,
    },
    /// Deliver again what was published since so long before the topic was stopped, or before now, and go on.
    Replay {
        /// Topic.
        topic: usize,
        /// How long before.
        before: Duration,
    },
    /// Refuse every attempt at one endpoint, or allow it again.
    KillSwitch {
        /// Endpoint.
        endpoint: EndpointRef,
        /// `true` refuses.
        on: bool,
    },
}

/// `[[rollout]]`: at `at`, `service` starts moving to version `to`.
#[derive(Clone, Debug)]
pub struct RolloutPlan {
    /// Start.
    pub at: Time,
    /// Service.
    pub service: usize,
    /// Position in `Service::versions`.
    pub to: usize,
    /// How.
    pub how: RolloutSettings,
}

/// `[[config]]`: what instances are told to do differently, version by version.
#[derive(Clone, Debug)]
pub struct Config {
    /// Unique name.
    pub name: String,
    /// Environments: name, and the service that it is.
    pub environments: Vec<(String, usize)>,
    /// From a publication to an instance, drawn for each. Default 0.
    pub delay: Law,
    /// What decryption adds to that. Default 0.
    pub encryption: Duration,
    /// Whether an instance takes it with a restart. Default `false`.
    pub restart: bool,
    /// At least one; the first is in force at the start.
    pub versions: Vec<ConfigVersion>,
}

/// `[[config.version]]`
#[derive(Clone, Debug)]
pub struct ConfigVersion {
    /// Unique within the configuration.
    pub name: String,
    /// Share of attempts that fail after their work (default 0).
    pub error_rate: f64,
    /// Multiplies every `cpu` step (default 1).
    pub demand: f64,
}

/// `publish = { config = "limits", version = "c2", share = "10%", soak = "5min" }`
#[derive(Clone, Debug)]
pub struct Publish {
    /// Position in `Scenario::configs`.
    pub config: usize,
    /// Position in its versions.
    pub version: usize,
    /// Position in its environments; `None` is all of them.
    pub environment: Option<usize>,
    /// Share of the instances that get it first, 0..1. Default 1.
    pub share: f64,
    /// How long only they have it. Default 0.
    pub soak: Duration,
    /// A tool brings it to them, instead of the centre.
    pub batch: Option<Batch>,
}

/// `batch = { size = 5, takes = "20s", failure-rate = "5%", retries = 1 }`
#[derive(Clone, Debug)]
pub struct Batch {
    /// Instances at a time, at least 1. Default 1.
    pub size: u32,
    /// How long one takes. Default 0.
    pub takes: Law,
    /// Share of tries that fail, 0..1. Default 0.
    pub failure_rate: f64,
    /// Tries after one that failed. Default 0.
    pub retries: u32,
    /// Between batches. Default 0.
    pub pause: Duration,
    /// A batch with a larger share of instances that failed for good stops the run, 0..1. Default 0.
    pub max_failed: f64,
}

/// `[[rollback]]`: who takes the changes of a service back.
#[derive(Clone, Debug)]
pub struct RollbackPlan {
    /// Unique name.
    pub name: String,
    /// Service.
    pub service: usize,
    /// Time between looks. Default 15 s.
    pub every: Duration,
    /// How far back a look goes. Default 1 min.
    pub window: Duration,
    /// Attempts within the window without which their errors and latencies mean nothing. Default 20.
    pub least: u64,
    /// When it is bad, and what then.
    pub settings: RollbackSettings,
    /// An alert that counts as bad while it fires.
    pub alert: Option<usize>,
    /// How a release goes back. Default `rolling`.
    pub by: RolloutSettings,
}
