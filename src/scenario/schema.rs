//! What may be written in a scenario file: names, shapes and nothing else. `check` gives it a meaning.
//!
//! The doc comments here become the descriptions in `simlab schema`.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

use super::de::{Named, Policy, Spanned};
use crate::policies::autoscaler::AutoscalerSettings;
use crate::policies::balancer::BalancerSettings;
use crate::policies::breaker::BreakerSettings;
use crate::policies::delivery::Guarantee;
use crate::policies::detector::DetectorSettings;
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
use crate::policies::rollout::RolloutSettings;
use crate::policies::scheduler::SchedulerSettings;
use crate::policies::shedding::SheddingSettings;
use crate::policies::transaction::TransactionSettings;
use crate::time::Duration;
use crate::units::{Bandwidth, Bytes, Price, Rate, Share};

/// A simlab scenario.
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ScenarioFile {
    /// Another scenario file, relative to this one, that this one is laid over.
    #[serde(rename = "extends")]
    pub(super) _extends: Option<String>,
    /// Values that stand wherever `"$name"` is written.
    #[serde(rename = "vars")]
    pub(super) _vars: Option<Named<Anything>>,
    /// Name, length, seed and replications.
    pub(super) scenario: Header,
    /// The service level objective.
    #[serde(default)]
    pub(super) objective: ObjectiveTable,
    /// How much the scenario may ask for.
    #[serde(default)]
    pub(super) limits: LimitsTable,
    /// One-way delays.
    #[serde(default)]
    pub(super) network: NetworkTable,
    /// Machines.
    #[serde(default)]
    pub(super) node_pool: Vec<NodePoolTable>,
    /// Which machine an instance gets (default spread).
    #[serde(default)]
    pub(super) scheduler: Policy<SchedulerSettings>,
    /// How many machines there are (default: pools keep their size).
    #[serde(default)]
    pub(super) provisioner: Policy<ProvisionerSettings>,
    /// The service that orders of machines go through.
    #[serde(default)]
    pub(super) provisioning: ProvisioningTable,
    /// Where images come from.
    #[serde(default)]
    pub(super) registry: RegistryTable,
    /// Services.
    #[serde(default)]
    pub(super) service: Vec<ServiceTable>,
    /// Where requests come from.
    #[serde(default)]
    pub(super) source: Vec<SourceTable>,
    /// Troubles, scheduled or drawn.
    #[serde(default)]
    pub(super) fault: Vec<FaultTable>,
    /// What monitoring watches.
    #[serde(default)]
    pub(super) alert: Vec<AlertTable>,
    /// Who foresees failures.
    #[serde(default)]
    pub(super) prediction: Vec<PredictionTable>,
    /// What operators do.
    #[serde(default)]
    pub(super) action: Vec<ActionTable>,
    /// Version changes.
    #[serde(default)]
    pub(super) rollout: Vec<RolloutTable>,
    /// Configurations.
    #[serde(default)]
    pub(super) config: Vec<ConfigTable>,
    /// Who takes changes back by itself.
    #[serde(default)]
    pub(super) rollback: Vec<RollbackTable>,
    /// Message queues.
    #[serde(default)]
    pub(super) topic: Vec<TopicTable>,
    /// What several services do together or not at all.
    #[serde(default)]
    pub(super) transaction: Vec<TransactionTable>,
    /// What is compared; each lays its overrides on the scenario.
    #[serde(rename = "strategy", default)]
    pub(super) _strategy: Vec<StrategyTable>,
    /// What must hold, per metric.
    #[serde(default)]
    pub(super) thresholds: Thresholds,
}

/// `[scenario]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Header {
    /// Names the results folder: letters, digits, `-`, `_`, `.`.
    pub(super) name: Spanned<String>,
    /// One line for charts; the name if left out.
    pub(super) title: Option<String>,
    /// Text shown on every chart.
    pub(super) note: Option<String>,
    /// When sources stop; the counted part ends here.
    pub(super) duration: Spanned<Duration>,
    /// Start of the counted part (default 0s).
    pub(super) warm_up: Option<Spanned<Duration>>,
    /// Root of all randomness (default 1).
    pub(super) seed: Option<u64>,
    /// Runs per strategy with different seeds (default 5).
    pub(super) replications: Option<Spanned<u64>>,
    /// Width of one timeline window (default: about 300 windows).
    pub(super) resolution: Option<Spanned<Duration>>,
    /// The metric that decides between strategies (default `availability`).
    pub(super) primary: Option<Spanned<String>>,
    /// The strategy the others are compared with (default: the first).
    pub(super) baseline: Option<Spanned<String>>,
    /// The source whose requests the charts show (default: all requests).
    pub(super) focus: Option<Spanned<String>>,
}

/// `[objective]`
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ObjectiveTable {
    /// Wanted share of good requests.
    pub(super) availability: Option<Spanned<Share>>,
    /// Wanted 99th percentile of latency.
    pub(super) latency_p99: Option<Spanned<Duration>>,
}

/// `[limits]`
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct LimitsTable {
    /// Events waiting at one moment.
    pub(super) pending_events: Option<Spanned<u64>>,
    /// Requests and calls in flight at one moment.
    pub(super) in_flight: Option<Spanned<u64>>,
    /// Instances over the life of a run.
    pub(super) instances: Option<Spanned<u64>>,
    /// Requests of one replication.
    pub(super) requests: Option<Spanned<u64>>,
    /// Events of one replication.
    pub(super) events: Option<Spanned<u64>>,
    /// Replications.
    pub(super) replications: Option<Spanned<u64>>,
    /// Size of a file that the scenario names.
    pub(super) file_size: Option<Spanned<Bytes>>,
}

/// `[network]`
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct NetworkTable {
    /// Inside a zone (default 0s).
    pub(super) same_zone: Option<Spanned<LawText>>,
    /// Between zones (default 1ms).
    pub(super) cross_zone: Option<Spanned<LawText>>,
    /// Between a source outside and any instance (default 0s).
    pub(super) outside: Option<Spanned<LawText>>,
    /// Delays between two particular zones.
    #[serde(default)]
    pub(super) link: Vec<LinkTable>,
}

/// `[[network.link]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct LinkTable {
    /// The two zones.
    pub(super) between: Spanned<[Spanned<String>; 2]>,
    /// One-way delay.
    pub(super) latency: Spanned<LawText>,
}

/// `[[node-pool]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct NodePoolTable {
    /// Unique name.
    pub(super) name: Spanned<String>,
    /// Number of nodes, dealt over the zones in turn.
    pub(super) nodes: Spanned<u32>,
    /// Cores of one node.
    pub(super) cores: Spanned<f64>,
    /// Memory of one node.
    pub(super) memory: Spanned<Bytes>,
    /// Zones the nodes are dealt over.
    #[serde(default)]
    pub(super) zones: Vec<Spanned<String>>,
    /// Whether instances share the cores of their node (default: if they could want more than it has).
    pub(super) share_cpu: Option<bool>,
    /// Price of one node.
    pub(super) price: Option<Price>,
    /// Fewest nodes that a provisioner may leave (default: nodes, if max is written).
    pub(super) min: Option<Spanned<u32>>,
    /// Most nodes that a provisioner may order (default: nodes, if min is written).
    pub(super) max: Option<Spanned<u32>>,
    /// From the birth of a machine until it takes instances (default 90s).
    pub(super) boot: Option<Spanned<LawText>>,
    /// Most instances on a node (default 110).
    pub(super) max_pods: Option<Spanned<u32>>,
    /// Rank for an expander that goes by priority; the highest wins (default 0).
    pub(super) rank: Option<i32>,
    /// Room for images on a node (default unlimited).
    pub(super) disk: Option<Spanned<Bytes>>,
    /// Whether the owner of the machines may want them back.
    pub(super) spot: Option<bool>,
}

/// `[provisioning]`
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ProvisioningTable {
    /// Orders worked on at a time (default unlimited).
    pub(super) concurrency: Option<Spanned<Count>>,
    /// How long the work on one order takes (default 0s).
    pub(super) takes: Option<Spanned<LawText>>,
    /// Orders that may wait; more are refused (default unlimited).
    pub(super) queue: Option<Spanned<Count>>,
    /// An order that is not done after so long has failed (default never).
    pub(super) timeout: Option<Spanned<Duration>>,
    /// Share of orders that fail at the end of their work (default 0%).
    pub(super) failure_rate: Option<Share>,
}

/// `[registry]`
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RegistryTable {
    /// For all nodes together, shared fairly (default unlimited).
    pub(super) bandwidth: Option<Spanned<Bandwidth>>,
    /// For one node (default unlimited).
    pub(super) node_bandwidth: Option<Spanned<Bandwidth>>,
}

/// `[[service]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ServiceTable {
    /// Unique name.
    pub(super) name: Spanned<String>,
    /// Deployment or Service of Knative that it is, in a file or folder of manifests: replicas, instance, autoscaler and
    /// disruption budget. What is written beside it wins.
    #[serde(rename = "manifest")]
    pub(super) _manifest: Option<String>,
    /// Name of that workload, if it is not the service's.
    #[serde(rename = "workload")]
    pub(super) _workload: Option<String>,
    /// What the metrics that its manifest names are called here.
    #[serde(rename = "metric-names")]
    pub(super) _metric_names: Option<BTreeMap<String, String>>,
    /// Instances at the start (default 1).
    pub(super) replicas: Option<Spanned<u32>>,
    /// `pool = "general"`: the node pool it runs on. `[[service.pool]]`: connection pools.
    #[serde(default)]
    pub(super) pool: PoolOrPools,
    /// The node pool it runs on, or several that it may run on.
    pub(super) node_pool: Option<NamedPools>,
    /// Where no other instance of it may be.
    pub(super) anti_affinity: Option<ApartWord>,
    /// By how many instances a zone may be ahead of the emptiest one, at least 1 (default any number).
    pub(super) zone_max_skew: Option<Spanned<u32>>,
    /// Price of one instance.
    pub(super) price: Option<Price>,
    /// Time until a client learns from the control plane that an instance came or went (default 0s), or the registry that
    /// clients ask instead.
    pub(super) discovery: Option<DiscoveryChoice>,
    /// Probes of the kubelet.
    #[serde(default)]
    pub(super) probe: ProbesTable,
    /// Weights of its instances for balancers, over and over again in the order of their creation (default all 1).
    pub(super) weights: Option<Spanned<Vec<Spanned<u32>>>>,
    /// How the autoscaler's metrics reach it.
    #[serde(default)]
    pub(super) metrics: MetricsTable,
    /// One running copy.
    #[serde(default)]
    pub(super) instance: InstanceTable,
    /// The service's own limiter, in front of its queue.
    #[serde(default)]
    pub(super) limiter: Policy<Spanned<LimiterSettings>>,
    /// Control loop over the number of replicas.
    #[serde(default)]
    pub(super) autoscaler: Policy<AutoscalerSettings>,
    /// Learns what an instance should ask for, and may give it that.
    #[serde(default)]
    pub(super) recommender: Policy<RecommenderSettings>,
    /// Holds requests back while their callers know no instance.
    pub(super) activator: Option<ActivatorTable>,
    /// What a request that finds no answer there sets off: `{ way = "seed", most = 100 }` starts another instance each time,
    /// `one-at-a-time` only while none is starting (default: nothing).
    pub(super) on_outage: Option<Spanned<ReplacementSettings>>,
    /// Instances that stay when others are taken away on purpose.
    pub(super) disruption_budget: Option<DisruptionBudget>,
    /// Its instances agree on a leader and keep a log together.
    pub(super) group: Option<Spanned<GroupTable>>,
    /// What it serves.
    #[serde(default)]
    pub(super) endpoint: Vec<EndpointTable>,
    /// Other containers of each instance, through which every attempt passes.
    #[serde(default)]
    pub(super) sidecar: Vec<SidecarTable>,
    /// Caches that its steps look into.
    #[serde(default)]
    pub(super) cache: Vec<CacheTable>,
    /// Versions; the first runs at the start.
    #[serde(default)]
    pub(super) version: Vec<VersionTable>,
    /// What its instances do with the connections of their clients.
    #[serde(default)]
    pub(super) listener: ListenerTable,
    /// Defaults for every edge into this service.
    #[serde(default)]
    pub(super) callers: EdgeTable,
    /// Edges from this service to others, by name.
    #[serde(default)]
    pub(super) call: Named<EdgeTable>,
}

/// `probe.readiness = { .. }`
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ProbesTable {
    /// Must pass once before the other two begin; if it fails, the container is killed and started anew.
    pub(super) startup: Option<ProbeTable>,
    /// If it fails, the container is killed and started anew.
    pub(super) liveness: Option<ProbeTable>,
    /// While it fails, clients are told to send nothing.
    pub(super) readiness: Option<ProbeTable>,
}

/// `{ period = "10s", timeout = "1s", cost = "1ms" }`
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ProbeTable {
    /// From the start of the container to the first probe (default 0s).
    pub(super) initial_delay: Option<Spanned<Duration>>,
    /// Time between probes (default 10s).
    pub(super) period: Option<Spanned<Duration>>,
    /// How long an answer is waited for (default 1s).
    pub(super) timeout: Option<Spanned<Duration>>,
    /// Good answers in a row that make it pass (default 1).
    pub(super) success_threshold: Option<Spanned<u32>>,
    /// Bad ones in a row that make it fail (default 3).
    pub(super) failure_threshold: Option<Spanned<u32>>,
    /// The endpoint that it asks (default: none, only `cost`).
    pub(super) endpoint: Option<Spanned<String>>,
    /// Core time of an answer, on a worker like any other attempt (default 0ms).
    pub(super) cost: Option<Spanned<LawText>>,
    /// Whether it has a port of its own, where neither worker nor queue nor core is needed (default false).
    pub(super) own_port: Option<Spanned<bool>>,
}

/// `health-check = { detector.envoy = { .. }, cost = "1ms" }`: what each client asks each endpoint that it knows.
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct HealthCheckTable {
    /// How often, and what the answers mean.
    pub(super) detector: DetectorSettings,
    /// The endpoint that it asks (default: none, only `cost`).
    pub(super) endpoint: Option<Spanned<String>>,
    /// Core time of an answer, on a worker like any other attempt (default 0ms).
    pub(super) cost: Option<Spanned<LawText>>,
    /// Whether it has a port of its own, where neither worker nor queue nor core is needed (default false).
    pub(super) own_port: Option<Spanned<bool>>,
}

/// `activator = { .. }`
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ActivatorTable {
    /// Requests that it can hold at one moment (default 10000).
    pub(super) capacity: Option<Spanned<Count>>,
    /// Longest wait (default 5min).
    pub(super) timeout: Option<Spanned<Duration>>,
    /// Held requests go out while each ready instance has fewer than so many (default unlimited; with `autoscaler.kpa` its
    /// `container-concurrency`).
    pub(super) per_instance: Option<Spanned<Count>>,
}

/// `[service.group]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct GroupTable {
    /// How its members agree on a leader.
    pub(super) election: Spanned<ElectionSettings>,
    /// Zone of the lock outside the group, with `election.lease` (default outside all zones).
    pub(super) lock_zone: Option<Spanned<String>>,
    /// How writes reach the other members.
    #[serde(default)]
    pub(super) replication: ReplicationTable,
    /// Endpoints that write: only the leader serves them.
    pub(super) writes: Spanned<Vec<Spanned<String>>>,
    /// Who serves the others (default leader).
    #[serde(default)]
    pub(super) reads: ReadsWord,
    /// While no leader is known, what is for the leader is held for so long before it fails (default 0s).
    pub(super) blocking_window: Option<Duration>,
    /// Time until a member turns to a new leader (default 1s).
    pub(super) reconnect: Option<Spanned<LawText>>,
    /// Time until the callers in a zone know a new leader, besides the network (default 0s).
    pub(super) announce: Option<Spanned<LawText>>,
    /// A member that lacks something may not lead, and takes no requests once it knows (default true).
    pub(super) must_catch_up: Option<bool>,
    /// How fast a member gets the writes that it has missed (default 1k/s).
    pub(super) sync_rate: Option<Spanned<Rate>>,
}

/// `replication = { mode = "asynchronous", lag = "exp(50ms)", cost = "0.2ms" }`
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ReplicationTable {
    /// Who must have a write before it is acknowledged (default quorum).
    pub(super) mode: Option<ReplicationWord>,
    /// Time until a member has a write, besides the network (default 0s).
    pub(super) lag: Option<Spanned<LawText>>,
    /// Core time of the leader for each write and each other member (default 0ms).
    pub(super) cost: Option<Spanned<Duration>>,
}

/// `mode` of a replication
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ReplicationWord {
    /// The leader alone.
    Asynchronous,
    /// More than half of the members.
    Quorum,
    /// Every member that is connected with the leader.
    Synchronous,
}

/// `reads`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ReadsWord {
    /// Only the leader.
    #[default]
    Leader,
    /// Any member, as the balancer picks.
    Any,
}

/// `metrics = { .. }`
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct MetricsTable {
    /// Time between scrapes (default 15s).
    pub(super) period: Option<Spanned<Duration>>,
    /// Length of the averaging window (default 30s).
    pub(super) window: Option<Spanned<Duration>>,
    /// From the end of a window until control loops can read it (default 0s).
    pub(super) delay: Option<Spanned<Duration>>,
    /// Share of scrapes that get lost, each instance on its own (default 0%).
    pub(super) loss: Option<Share>,
}

/// `instance = { .. }`
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct InstanceTable {
    /// Cores it may use (default 1).
    pub(super) cores: Option<Spanned<u32>>,
    /// CPU request in cores; 0 is none (default: the limit, else cores).
    pub(super) cpu_request: Option<Spanned<f64>>,
    /// CFS quota in cores: so much core time in each 100 ms, then nothing until the next (default none).
    pub(super) cpu_limit: Option<Spanned<f64>>,
    /// CPU credits, as of burstable machines (default none: cores may always be used).
    pub(super) cpu_burst: Option<CpuBurstTable>,
    /// Memory request (default: the limit, else 0B).
    pub(super) memory: Option<Spanned<Bytes>>,
    /// More than that in use, and the process is killed and restarted (default none).
    pub(super) memory_limit: Option<Spanned<Bytes>>,
    /// How much memory it uses.
    pub(super) memory_use: Option<MemoryUseTable>,
    /// How it fills its disk.
    pub(super) disk_use: Option<DiskUseTable>,
    /// Garbage collection that stops the program.
    pub(super) gc: Option<GcTable>,
    /// Name of its own container, for autoscalers that follow one (default app).
    pub(super) container: Option<Spanned<String>>,
    /// Whether waiting holds a worker (default threads).
    pub(super) mode: Option<Spanned<ModeWord>>,
    /// Workers of a threaded instance (default: cores).
    pub(super) workers: Option<Spanned<Count>>,
    /// Attempts inside an async instance at one moment (default unlimited).
    pub(super) max_in_flight: Option<Spanned<Count>>,
    /// Waiting places (default unlimited).
    pub(super) queue: Option<Spanned<Count>>,
    /// What happens at a full queue (default reject).
    pub(super) full: Option<FullWord>,
    /// Who starts next (default fifo).
    pub(super) order: Option<Spanned<OrderWord>>,
    /// With order = "adaptive-lifo": the newest starts next while so many others wait.
    pub(super) lifo_threshold: Option<Spanned<u32>>,
    /// With order = "adaptive-lifo": the newest starts next when the queue has not been empty for so long.
    pub(super) lifo_after: Option<Spanned<Duration>>,
    /// Who is turned away or dropped (default nobody).
    #[serde(default)]
    pub(super) shedding: Policy<SheddingSettings>,
    /// Longest wait in the queue.
    pub(super) queue_timeout: Option<Spanned<LawText>>,
    /// How cpu steps share the cores (default shared for threads, fifo for async).
    pub(super) cpu: Option<CpuWord>,
    /// Time to fetch the image on a node without it (default 0s).
    pub(super) pull: Option<Spanned<LawText>>,
    /// Size of the image, for a pull whose time depends on the registry.
    pub(super) image: Option<Spanned<Bytes>>,
    /// From the end of the pull to readiness (default 0s).
    pub(super) start: Option<Spanned<LawText>>,
    /// Core time that the process needs after that, before it is ready, on one core (default 0s).
    pub(super) start_cpu: Option<Spanned<LawText>>,
    /// Slow first minutes.
    pub(super) warm_up: Option<WarmUpTable>,
    /// Longest time to finish work after being asked to stop (default 30s).
    pub(super) grace: Option<Duration>,
    /// How long it serves on before SIGTERM, as part of `grace`: a preStop hook that sleeps (default 0s).
    pub(super) pre_stop: Option<Duration>,
    /// What it does at SIGTERM (default close).
    pub(super) on_term: Option<Spanned<OnTermWord>>,
    /// With on-term = "close": it serves on for so long before that (default 0s).
    pub(super) lame_duck: Option<Spanned<Duration>>,
    /// How speed falls with the number of attempts inside.
    #[serde(default)]
    pub(super) slow_down: Policy<SlowDownChoice>,
}

/// `memory-use = { .. }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct MemoryUseTable {
    /// When idle.
    pub(super) base: Spanned<Bytes>,
    /// For each attempt inside (default 0B).
    pub(super) per_attempt: Option<Bytes>,
    /// Never given back, for each attempt (default 0B).
    pub(super) leak_per_request: Option<Bytes>,
    /// Never given back, in an hour (default 0B).
    pub(super) leak_per_hour: Option<Bytes>,
}

/// `cpu-burst = { .. }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct CpuBurstTable {
    /// Share of each core that it may always use; credits are earned at this rate.
    pub(super) baseline: Spanned<Share>,
    /// Core time that a new instance may use above that (default 0s).
    pub(super) credits: Option<Spanned<Duration>>,
    /// Most core time that can be saved (default: what 24 h earn).
    pub(super) max: Option<Spanned<Duration>>,
}

/// `disk-use = { .. }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct DiskUseTable {
    /// All there is.
    pub(super) size: Spanned<Bytes>,
    /// On a fresh one (default 0B).
    pub(super) base: Option<Spanned<Bytes>>,
    /// What each attempt leaves (default 0B).
    pub(super) per_request: Option<Bytes>,
    /// What each hour leaves (default 0B).
    pub(super) per_hour: Option<Bytes>,
    /// With so much of it in use the instance is evicted and replaced (default 90%).
    pub(super) pressure: Option<Spanned<Share>>,
    /// What becomes of an instance whose disk is full (default evict).
    pub(super) full: Option<FullDiskWord>,
}

/// `full` of a disk
#[derive(Clone, Copy, Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FullDiskWord {
    /// It is evicted under pressure and replaced by a fresh one.
    Evict,
    /// It is kept, and fails every attempt while its disk is full.
    Fail,
}

/// `gc = { .. }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct GcTable {
    /// What each attempt allocates.
    pub(super) per_request: Spanned<Bytes>,
    /// Size of the young generation: when so much is allocated, the program stops.
    pub(super) young: Spanned<Bytes>,
    /// Length of a pause when nothing is alive.
    pub(super) pause: Spanned<LawText>,
    /// What each GiB in use adds to a pause (default 0s).
    pub(super) per_gib: Option<Duration>,
}

/// `[[service.sidecar]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct SidecarTable {
    /// Unique within the service.
    pub(super) name: Spanned<String>,
    /// Core time for one attempt, half of it on the way in and half on the way out (default 0s).
    pub(super) cost: Option<Spanned<LawText>>,
    /// Cores it may use (default 2).
    pub(super) cores: Option<Spanned<u32>>,
    /// CPU request in cores; 0 is none (default 0.1).
    pub(super) cpu_request: Option<Spanned<f64>>,
    /// CFS quota in cores (default none).
    pub(super) cpu_limit: Option<Spanned<f64>>,
    /// Memory request (default 128MiB).
    pub(super) memory: Option<Spanned<Bytes>>,
}

/// `anti-affinity`
#[derive(Clone, Copy, Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ApartWord {
    /// Not on the same node.
    Node,
    /// Not in the same zone.
    Zone,
}

/// `mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ModeWord {
    /// A worker is held through `wait` and `call`.
    Threads,
    /// Nothing is held while waiting.
    Async,
}

/// `full`
#[derive(Clone, Copy, Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FullWord {
    /// Answer at once with an error.
    Reject,
    /// Say nothing.
    Drop,
}

/// `on-term`
#[derive(Clone, Copy, Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OnTermWord {
    /// Takes nothing new, and ends when it has done what it has.
    Close,
    /// Ends at once, with everything inside.
    Exit,
    /// Serves on until it is killed.
    Ignore,
}

/// `order`
#[derive(Clone, Copy, Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OrderWord {
    /// Oldest first.
    Fifo,
    /// Newest first.
    Lifo,
    /// Newest first while there is a standing queue, oldest first otherwise.
    AdaptiveLifo,
    /// Highest priority first.
    Priority,
}

/// `cpu`
#[derive(Clone, Copy, Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum CpuWord {
    /// Processor sharing.
    Shared,
    /// Each step to its end on one core.
    Fifo,
}

/// `affinity-by`
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum AffinityWord {
    /// A balancer that hashes the value.
    Hash,
    /// A cookie that names the instance, as long as the client may pick that.
    Cookie,
}

/// `sharing`
#[derive(Clone, Copy, Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SharingWord {
    /// Each calling instance has its own state.
    Instance,
    /// One state for the calling service.
    Service,
}

/// `scope`
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ScopeWord {
    /// One cache per instance.
    Instance,
    /// One cache for the service.
    Service,
}

/// `warm-up = { for = "60s", slowdown = 4 }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct WarmUpTable {
    /// How long.
    #[serde(rename = "for")]
    pub(super) lasts: Duration,
    /// Factor at readiness, falling linearly to 1.
    pub(super) slowdown: Spanned<f64>,
}

/// `slow-down = { .. }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SlowDownChoice {
    /// Universal scalability law.
    Usl(UslTable),
    /// Factor at 1, 2, 3 ... attempts inside; the last holds beyond.
    Table(Spanned<Vec<Spanned<f64>>>),
}

/// `slow-down = { usl = { alpha = 0.02, beta = 0.0005 } }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct UslTable {
    /// Contention.
    pub(super) alpha: Spanned<f64>,
    /// Coherency.
    pub(super) beta: Spanned<f64>,
}

/// `[[service.endpoint]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct EndpointTable {
    /// Unique within the service.
    pub(super) name: Spanned<String>,
    /// What serving it takes: `cpu`, `wait`, `call`, `choose`, `route`, `parallel`, `cache`, `pool`, `publish`,
    /// `transaction`.
    pub(super) steps: Vec<Spanned<String>>,
    /// Bytes that pass with each attempt, for metrics (default: not measured).
    pub(super) network_use: Option<NetworkUseTable>,
}

/// `network-use = { in = "1KiB", out = "20KiB" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct NetworkUseTable {
    /// Of each request that is taken in (default 0B).
    #[serde(rename = "in")]
    pub(super) bytes_in: Option<Bytes>,
    /// Of each answer that is no error (default 0B).
    #[serde(rename = "out")]
    pub(super) bytes_out: Option<Bytes>,
}

/// `[[service.cache]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct CacheTable {
    /// Unique within the service.
    pub(super) name: Spanned<String>,
    /// Number of different keys.
    pub(super) keys: Spanned<u64>,
    /// Zipf exponent of their popularity (default 0, all alike).
    pub(super) zipf: Option<Spanned<f64>>,
    /// Entries it can hold (default: all keys).
    pub(super) capacity: Option<Spanned<Count>>,
    /// Life of an entry (default for ever).
    pub(super) ttl: Option<Spanned<Duration>>,
    /// Whose it is (default instance).
    pub(super) scope: Option<ScopeWord>,
    /// Concurrent misses of one key wait for the first one's answer (default false).
    pub(super) single_flight: Option<bool>,
}

/// `[[service.pool]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct PoolTable {
    /// Unique within the service.
    pub(super) name: Spanned<String>,
    /// Connections of each instance.
    pub(super) size: Spanned<u32>,
    /// Longest wait for one (default for ever).
    pub(super) max_wait: Option<Duration>,
}

/// `[[service.version]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct VersionTable {
    /// Unique within the service.
    pub(super) name: Spanned<String>,
    /// Multiplies every cpu step (default 1).
    pub(super) demand: Option<Spanned<f64>>,
    /// Share of attempts that fail after their work (default 0%).
    pub(super) error_rate: Option<Share>,
    /// Size of its image (default: that of the instance).
    pub(super) image: Option<Spanned<Bytes>>,
    /// Multiplies the time to start (default 1).
    pub(super) start: Option<Spanned<f64>>,
    /// Memory that every instance loses per hour, beside what the service does; needs `memory-use` (default 0).
    pub(super) leak_per_hour: Option<Spanned<Bytes>>,
    /// From the start of every process of it to its end: it crashes, again and again (default never).
    pub(super) crash_loop: Option<Spanned<LawText>>,
    /// The version from which it was made, one that stands before it (default: the one right before it).
    pub(super) parent: Option<Spanned<String>>,
}

/// `[service.call.X]`, `[source.call.X]`, `[service.callers]`
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct EdgeTable {
    /// Time limit of one attempt.
    pub(super) timeout: Option<Spanned<Duration>>,
    /// Whether an attempt that timed out or lost to another copy is cancelled at the callee (default false).
    pub(super) cancel: Option<bool>,
    /// Whether the timeout of an attempt is a deadline for all that is done for it. With false, no deadline and no
    /// cancellation from above passes this edge either (default: those from above pass).
    pub(super) propagate_deadline: Option<bool>,
    /// Retries; not together with `hedge`.
    #[serde(default)]
    pub(super) retry: Policy<RetrySettings>,
    /// Hedging: more copies of a call, the first answer counts.
    #[serde(default)]
    pub(super) hedge: Policy<HedgeSettings>,
    /// Bound on retries or hedges.
    #[serde(default)]
    pub(super) retry_budget: Policy<BudgetSettings>,
    /// Circuit breaker.
    #[serde(default)]
    pub(super) breaker: Policy<BreakerSettings>,
    /// Limiter on the calling side.
    #[serde(default)]
    pub(super) limiter: Policy<LimiterSettings>,
    /// Balancer (default round-robin).
    #[serde(default)]
    pub(super) balancer: Policy<BalancerSettings>,
    /// Leaves endpoints out that answer this client badly.
    #[serde(default)]
    pub(super) outlier: Policy<OutlierSettings>,
    /// Leaves endpoints out that fail this client's checks.
    pub(super) health_check: Option<HealthCheckTable>,
    /// From which set of endpoints the balancer picks (default envoy, where there is an outlier detection or a health check).
    #[serde(default)]
    pub(super) host_selection: Policy<HostSelectionSettings>,
    /// Attribute of requests that a hashing balancer keeps together, and whose breaks are counted (default none).
    pub(super) affinity: Option<Spanned<String>>,
    /// What keeps it together (default hash).
    pub(super) affinity_by: Option<Spanned<AffinityWord>>,
    /// Who owns the policies' state (default instance).
    pub(super) sharing: Option<SharingWord>,
    /// How connections are kept; without it attempts need none.
    #[serde(default)]
    pub(super) connections: Policy<Spanned<ConnectionsTable>>,
    /// What resilience4j's properties say of an instance: `{ manifest = "application.yml", instance = "payments" }`, also
    /// `profile`. Replaced by the policies that it stands for before anything else is read.
    #[serde(rename = "resilience4j")]
    pub(super) _resilience4j: Option<BTreeMap<String, String>>,
    /// What Envoy's configuration says of a cluster: `{ manifest = "envoy.yaml", cluster = "payments" }`, also `route`.
    /// Replaced by the policies that it stands for before anything else is read.
    #[serde(rename = "envoy")]
    pub(super) _envoy: Option<BTreeMap<String, String>>,
    /// Levels around these policies, outermost first (default none).
    pub(super) level: Option<Vec<LevelTable>>,
}

/// `[[service.call.X.level]]`
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct LevelTable {
    /// Unique within the edge.
    pub(super) name: Spanned<String>,
    /// Time limit of one of its attempts, which is a whole call of the level below.
    pub(super) timeout: Option<Spanned<Duration>>,
    /// Whether the level below hears of a timeout and stops (default false).
    pub(super) cancel: Option<bool>,
    /// Retries; not together with `hedge`.
    #[serde(default)]
    pub(super) retry: Policy<RetrySettings>,
    /// Hedging.
    #[serde(default)]
    pub(super) hedge: Policy<HedgeSettings>,
    /// Bound on retries or hedges.
    #[serde(default)]
    pub(super) retry_budget: Policy<BudgetSettings>,
    /// Circuit breaker.
    #[serde(default)]
    pub(super) breaker: Policy<BreakerSettings>,
    /// Limiter.
    #[serde(default)]
    pub(super) limiter: Policy<LimiterSettings>,
    /// What resilience4j's properties say of an instance, as at an edge.
    #[serde(rename = "resilience4j")]
    pub(super) _resilience4j: Option<BTreeMap<String, String>>,
}

/// `connections = { .. }`; defaults are those of an Envoy cluster
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ConnectionsTable {
    /// One attempt at a time, or streams (default http1).
    pub(super) protocol: Option<ProtocolWord>,
    /// What the balancer picks an endpoint for (default per-request).
    pub(super) balancing: Option<BalancingWord>,
    /// Streams that a connection of http2 carries at a time (default 100).
    pub(super) streams: Option<Spanned<u32>>,
    /// Most connections of one client (default 1024).
    pub(super) max: Option<Spanned<Count>>,
    /// Attempts of one client that may wait for a connection (default 1024).
    pub(super) max_pending: Option<Spanned<Count>>,
    /// Idle connections to one endpoint that are kept, http1 only (default unlimited).
    pub(super) max_idle: Option<Spanned<Count>>,
    /// Connections that are set up without being asked for, per-connection only (default 0).
    pub(super) min: Option<Spanned<u32>>,
    /// Idle for so long, and the client closes it (default 1h; 0s is never).
    pub(super) idle_timeout: Option<Duration>,
    /// Age at which the client closes it, drawn for each (default any).
    pub(super) max_age: Option<Spanned<LawText>>,
    /// Attempts after which the client closes it (default unlimited).
    pub(super) max_requests: Option<Spanned<Count>>,
    /// Round trips until the transport stands, 1 to 10 (default 1, as TCP).
    pub(super) connect_round_trips: Option<Spanned<u32>>,
    /// Longest set-up, TLS included (default 5s).
    pub(super) connect_timeout: Option<Spanned<Duration>>,
    /// Encryption.
    pub(super) tls: Option<TlsTable>,
    /// Pause after a set-up that failed (default none).
    pub(super) backoff: Option<Spanned<BackoffTable>>,
    /// Endpoints are found by name (default: the client is told of them).
    pub(super) dns: Option<DnsTable>,
}

/// `dns = { .. }`
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct DnsTable {
    /// How long a client may believe an answer (default 30s).
    pub(super) ttl: Option<Spanned<Duration>>,
    /// Most addresses in an answer; each answer begins with the next one (default unlimited).
    pub(super) answers: Option<Spanned<Count>>,
    /// Share of clients that believe their first answer for ever (default 0%).
    pub(super) ignore_ttl: Option<Share>,
}

/// `tls = { .. }`
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct TlsTable {
    /// Of a full handshake: 1 with TLS 1.3 (default), 2 with TLS 1.2; at most 10.
    pub(super) round_trips: Option<Spanned<u32>>,
    /// Core time of a full handshake at the instance (default 0s).
    pub(super) cpu: Option<Spanned<LawText>>,
    /// Where a session ticket is good (default none).
    pub(super) resumption: Option<ResumptionWord>,
    /// Of a resumed handshake (default 1; 0 is early data).
    pub(super) resumed_round_trips: Option<Spanned<u32>>,
    /// Core time of a resumed handshake at the instance (default 0s).
    pub(super) resumed_cpu: Option<Spanned<LawText>>,
    /// How long a ticket is good (default 2h).
    pub(super) ticket_lifetime: Option<Spanned<Duration>>,
}

/// `backoff = { .. }`; defaults are gRPC's
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct BackoffTable {
    /// From the start of a set-up that failed to the next (default 1s).
    pub(super) base: Option<Spanned<Duration>>,
    /// Growth from one pause to the next, at least 1 (default 1.6).
    pub(super) multiplier: Option<Spanned<f64>>,
    /// Share by which pauses after the first vary to both sides (default 20%).
    pub(super) jitter: Option<Share>,
    /// Longest pause before jitter (default 120s).
    pub(super) max: Option<Spanned<Duration>>,
    /// Attempts wait for the next set-up instead of failing at once (default false).
    pub(super) wait_for_ready: Option<bool>,
}

/// `listener = { .. }`
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ListenerTable {
    /// Idle for so long, and the instance closes it (default never).
    pub(super) idle_timeout: Option<Spanned<Duration>>,
    /// Age at which the instance asks the client to leave, drawn for each (default any).
    pub(super) max_age: Option<Spanned<LawText>>,
    /// Attempts after which the instance closes it (default unlimited).
    pub(super) max_requests: Option<Spanned<Count>>,
    /// Connections of one instance; more are refused (default unlimited).
    pub(super) max_connections: Option<Spanned<Count>>,
}

/// `protocol`
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ProtocolWord {
    /// HTTP/1.1 with keep-alive: one attempt at a time.
    Http1,
    /// HTTP/2: several streams on one connection.
    Http2,
}

/// `balancing`
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum BalancingWord {
    /// Layer 7: for each attempt, which then takes a connection to that endpoint.
    PerRequest,
    /// Layer 4, a virtual address: for each new connection.
    PerConnection,
}

/// `resumption`
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ResumptionWord {
    /// Nowhere.
    None,
    /// At the process that gave it.
    Instance,
    /// At all instances: they share their ticket keys.
    Service,
}

/// `[[source]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct SourceTable {
    /// Unique name.
    pub(super) name: Spanned<String>,
    /// The endpoint a request goes to.
    pub(super) to: Option<Spanned<String>>,
    /// Or a journey: `call`, `choose`, `route`, `parallel` and `wait` steps.
    pub(super) steps: Option<Spanned<Vec<Spanned<String>>>>,
    /// Clients, each with its own policies (default 1).
    pub(super) clients: Option<Spanned<u32>>,
    /// Zone it sits in; without one it is outside.
    pub(super) zone: Option<Spanned<String>>,
    /// Time after which the user is gone.
    pub(super) deadline: Option<Spanned<Duration>>,
    /// Whether the deadline travels down the call tree (default false).
    pub(super) propagate_deadline: Option<Spanned<bool>>,
    /// Larger is more important (default 0).
    pub(super) priority: Option<Spanned<u8>>,
    /// When requests come.
    pub(super) arrivals: Spanned<ArrivalsChoice>,
    /// At most so many requests, then the source stops.
    pub(super) requests: Option<u64>,
    /// What requests carry, by name: `zipf(10_000, 0.9)`, `uniform(10_000)`, `user`, or `70% /search, 30% /buy`.
    #[serde(default)]
    pub(super) attributes: Named<Spanned<String>>,
    /// Edges from this source to services, by name.
    #[serde(default)]
    pub(super) call: Named<EdgeTable>,
}

/// `arrivals.*`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ArrivalsChoice {
    /// A Poisson process.
    Poisson(RateTable),
    /// Equal gaps of the current rate.
    Deterministic(RateTable),
    /// Independent gaps with any law.
    Renewal(RenewalTable),
    /// Cycles through states of different rates.
    Mmpp(MmppTable),
    /// One request per row of a file.
    Trace(TraceTable),
    /// Closed loop.
    Users(UsersTable),
}

/// `{ rate = ".." }`, `{ profile = "..", scale = 1.0 }` or `{ storm = { .. } }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RateTable {
    /// A constant rate.
    pub(super) rate: Option<Spanned<Rate>>,
    /// `constant(..)`, `ramp(..)`, `steps(..)`, `sine(..)` or `file(path:column)`.
    pub(super) profile: Option<Spanned<String>>,
    /// A rate that follows a storm's distance.
    pub(super) storm: Option<Spanned<StormTable>>,
    /// Multiplies the rate (default 1).
    pub(super) scale: Option<Spanned<f64>>,
}

/// `storm = { .. }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct StormTable {
    /// CSV with the columns `time_utc`, `lat_deg_n`, `lon_deg_e`.
    pub(super) track: Spanned<String>,
    /// Latitude north and longitude east of those who ask, in degrees.
    pub(super) place: Spanned<[f64; 2]>,
    /// How many times faster than the clock the storm moves (default 1).
    pub(super) speed_up: Option<Spanned<f64>>,
    /// Moment of the storm at which the run starts.
    pub(super) start: Spanned<String>,
    /// Rate far from the storm.
    pub(super) calm: Spanned<Rate>,
    /// Rate under the storm.
    pub(super) peak: Spanned<Rate>,
    /// Distance at which the excess has fallen to 1/e, such as "600km".
    pub(super) reach: Spanned<String>,
    /// Minute-to-minute shape, as `file(path:column)`; its values are divided by their mean.
    pub(super) shape: Option<Spanned<String>>,
    /// Divide the shape by its moving average over this long instead of by its mean.
    pub(super) detrend: Option<Spanned<Duration>>,
    /// Length of one piece of the profile (default 10s).
    pub(super) every: Option<Spanned<Duration>>,
}

/// `arrivals.renewal = { gap = ".." }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RenewalTable {
    /// Law of the gaps.
    pub(super) gap: Spanned<LawText>,
}

/// `arrivals.mmpp = { states = [..] }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct MmppTable {
    /// Visited in turn.
    pub(super) states: Spanned<Vec<MmppState>>,
}

/// `{ rate = "5/s", lasts = "100s" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct MmppState {
    /// Rate of the state.
    pub(super) rate: Rate,
    /// Mean of its exponential length.
    pub(super) lasts: Spanned<Duration>,
}

/// `arrivals.trace = { file = "x.csv", column = "t_s" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct TraceTable {
    /// CSV with a header.
    pub(super) file: Spanned<String>,
    /// Column of the arrival times: seconds, unless its name ends in `_ms`, `_us`, `_ns` or `_min`.
    pub(super) column: Spanned<String>,
}

/// `arrivals.users = { .. }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct UsersTable {
    /// How many.
    pub(super) count: Spanned<u32>,
    /// Time between an answer and the next request.
    pub(super) think: Spanned<LawText>,
    /// Share of users who leave after a bad answer (default 0%).
    pub(super) leave: Option<Share>,
    /// How long they stay away (default 0s).
    pub(super) away: Option<Spanned<LawText>>,
}

/// `[[fault]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct FaultTable {
    /// Label on charts.
    pub(super) name: Option<Spanned<String>>,
    /// When it strikes.
    pub(super) at: Option<Spanned<Duration>>,
    /// Law of the up time, for faults that are drawn.
    pub(super) mtbf: Option<Spanned<LawText>>,
    /// Law of the down time.
    pub(super) mttr: Option<Spanned<LawText>>,
    /// How many can be under repair at one moment.
    pub(super) crew: Option<Spanned<u32>>,
    #[serde(rename = "$fault")]
    #[schemars(flatten)]
    pub(super) what: Spanned<FaultChoice>,
}

/// What a fault does.
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FaultChoice {
    /// Instances die and are replaced.
    Crash(CrashTable),
    /// CPU work takes longer.
    Slow(SlowTable),
    /// Attempts fail after their work.
    ErrorRate(ErrorRateTable),
    /// Nothing moves inside.
    Hang(HangTable),
    /// Nodes die.
    NodeLoss(NodeLossTable),
    /// Machines are taken back by their owner, after a notice.
    SpotReclaim(SpotReclaimTable),
    /// Orders of machines fail.
    ProvisioningOutage(ProvisioningOutageTable),
    /// No image can be pulled.
    RegistryOutage(RegistryOutageTable),
    /// No name is resolved.
    DnsOutage(DnsOutageTable),
    /// Nobody reaches the registry of a service's endpoints; clients keep the list that they have.
    DiscoveryOutage(DiscoveryOutageTable),
    /// Every node of a zone dies.
    ZoneLoss(ZoneLossTable),
    /// No message passes between two zones.
    Partition(PartitionTable),
    /// Messages are lost.
    PacketLoss(PacketLossTable),
    /// Messages take longer.
    AddedLatency(AddedLatencyTable),
    /// Every attempt is refused.
    Outage(OutageTable),
    /// Nodes have fewer cores for their instances.
    NoisyNeighbour(NoisyNeighbourTable),
    /// Memory in use grows.
    MemoryLeak(MemoryLeakTable),
    /// Disks are full.
    DiskFull(DiskFullTable),
    /// A version of a configuration is published to everybody, and the one before it when the fault ends.
    BadConfig(BadConfigTable),
    /// Nothing can be published, delivered or acknowledged.
    BrokerOutage(BrokerOutageTable),
    /// The next coordinator of a transaction that reaches a point of the protocol dies there, with its instance.
    CrashCoordinator(CrashCoordinatorTable),
}

/// `bad-config = { config = "limits", version = "c2", for = "10min" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct BadConfigTable {
    /// Which configuration.
    pub(super) config: Spanned<String>,
    /// Which version.
    pub(super) version: Spanned<String>,
    /// Until the one before is published again (default for ever).
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<Duration>>,
}

/// `broker-outage = { topic = "payments", for = "1min" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct BrokerOutageTable {
    /// Which topic.
    pub(super) topic: Spanned<String>,
    /// How long.
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<Duration>>,
}

/// `crash-coordinator = { transaction = "checkout", point = "voted" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct CrashCoordinatorTable {
    /// Which transaction.
    pub(super) transaction: Spanned<String>,
    /// Where.
    pub(super) point: CrashPoint,
}

/// A point of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum CrashPoint {
    /// Everybody has done his part, and the decision to commit is not in the log.
    Voted,
    /// It is in the log, and nobody has been told.
    Decided,
}

/// `crash = { service = "x", count = 1 }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct CrashTable {
    /// Whose instances.
    pub(super) service: Spanned<String>,
    /// How many (default all).
    pub(super) count: Option<Spanned<u32>>,
}

/// `slow = { service = "x", count = 1, factor = 5, for = "5min" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct SlowTable {
    /// Whose instances.
    pub(super) service: Spanned<String>,
    /// How many (default all).
    pub(super) count: Option<Spanned<u32>>,
    /// How many times as long.
    pub(super) factor: Spanned<f64>,
    /// How long (default for ever).
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<Duration>>,
}

/// `error-rate = { service = "x", rate = "20%", for = "5min" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ErrorRateTable {
    /// Whose instances.
    pub(super) service: Spanned<String>,
    /// How many (default all).
    pub(super) count: Option<Spanned<u32>>,
    /// Share of attempts.
    pub(super) rate: Share,
    /// How long (default for ever).
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<Duration>>,
}

/// `hang = { service = "x", count = 1, for = "5min" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct HangTable {
    /// Whose instances.
    pub(super) service: Spanned<String>,
    /// How many (default all).
    pub(super) count: Option<Spanned<u32>>,
    /// How long (default for ever).
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<Duration>>,
}

/// `node-loss = { pool = "general", count = 1, for = "20min" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct NodeLossTable {
    /// Which pool.
    pub(super) pool: Spanned<String>,
    /// How many nodes, in node order (default 1).
    pub(super) count: Option<Spanned<u32>>,
    /// How long (default for ever).
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<Duration>>,
    /// Probability that each other node of the same pool and zone goes with each of them (default 0%).
    pub(super) spreads: Option<Share>,
    /// File of recorded failures: columns `at_s`, `node` (0 is the first) and `down_s`.
    pub(super) trace: Option<Spanned<String>>,
    /// How many times faster the recording runs (default 1).
    pub(super) speed_up: Option<Spanned<f64>>,
}

/// `spot-reclaim = { pool = "spot", count = 2, notice = "2min", for = "1h" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct SpotReclaimTable {
    /// Which pool.
    pub(super) pool: Spanned<String>,
    /// How many nodes, in node order (default 1).
    pub(super) count: Option<Spanned<u32>>,
    /// From the notice, at which instances are moved, to the end of the machine (default 2min).
    pub(super) notice: Option<Spanned<Duration>>,
    /// After which time a pool that nobody scales has a machine again (default never).
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<Duration>>,
}

/// `provisioning-outage = { pool = "spot", for = "20min" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ProvisioningOutageTable {
    /// Which pool (default all).
    pub(super) pool: Option<Spanned<String>>,
    /// How long (default for ever).
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<Duration>>,
}

/// `dns-outage = { for = "5min" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct DnsOutageTable {
    /// How long it lasts.
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<Duration>>,
}

/// `registry-outage = { for = "20min" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RegistryOutageTable {
    /// How long (default for ever).
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<Duration>>,
}

/// `discovery-outage = { service = "x", for = "20min" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct DiscoveryOutageTable {
    /// Whose registry.
    pub(super) service: Spanned<String>,
    /// How long (default for ever).
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<Duration>>,
}

/// `zone-loss = { zone = "a", for = "20min" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ZoneLossTable {
    /// Which zone.
    pub(super) zone: Spanned<String>,
    /// How long (default for ever).
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<Duration>>,
}

/// `partition = { between = ["a", "b"], for = "20min" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct PartitionTable {
    /// The two zones.
    pub(super) between: Spanned<[Spanned<String>; 2]>,
    /// How long (default for ever).
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<Duration>>,
}

/// `packet-loss = { between = ["a", "b"], rate = "5%", for = "20min" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct PacketLossTable {
    /// The two zones (default everywhere).
    pub(super) between: Option<Spanned<[Spanned<String>; 2]>>,
    /// Share of messages.
    pub(super) rate: Share,
    /// How long (default for ever).
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<Duration>>,
}

/// `added-latency = { between = ["a", "b"], latency = "50ms", for = "20min" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct AddedLatencyTable {
    /// The two zones (default everywhere).
    pub(super) between: Option<Spanned<[Spanned<String>; 2]>>,
    /// One-way addition.
    pub(super) latency: Spanned<LawText>,
    /// How long (default for ever).
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<Duration>>,
}

/// `outage = { service = "x", for = "20min" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct OutageTable {
    /// Which service.
    pub(super) service: Spanned<String>,
    /// How long (default for ever).
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<Duration>>,
}

/// `noisy-neighbour = { pool = "general", count = 1, cores = 6, for = "10min" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct NoisyNeighbourTable {
    /// Which pool.
    pub(super) pool: Spanned<String>,
    /// How many nodes, in node order (default 1).
    pub(super) count: Option<Spanned<u32>>,
    /// Cores gone from each.
    pub(super) cores: Spanned<f64>,
    /// How long (default for ever).
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<Duration>>,
}

/// `memory-leak = { service = "x", count = 1, per-hour = "600MiB", for = "20min" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct MemoryLeakTable {
    /// Whose instances; they need `memory-use`.
    pub(super) service: Spanned<String>,
    /// How many (default all).
    pub(super) count: Option<Spanned<u32>>,
    /// How fast.
    pub(super) per_hour: Spanned<Bytes>,
    /// How long (default for ever).
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<Duration>>,
}

/// `disk-full = { service = "x", count = 1, for = "20min" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct DiskFullTable {
    /// Whose instances; they need `disk-use`.
    pub(super) service: Spanned<String>,
    /// How many (default all).
    pub(super) count: Option<Spanned<u32>>,
    /// How long (default for ever).
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<Duration>>,
}

/// `[[alert]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct AlertTable {
    /// Names it in the log, on charts and for actions.
    pub(super) name: Spanned<String>,
    /// A metric: `"service.NAME.utilization"`, `"source.NAME.bad-ratio"` ...
    pub(super) on: Spanned<String>,
    /// It fires above this ...
    pub(super) above: Option<Spanned<Level>>,
    /// ... or below this.
    pub(super) below: Option<Spanned<Level>>,
    /// For how long that must have been so (default 0s).
    #[serde(rename = "for")]
    pub(super) lasts: Option<Duration>,
    /// How long it goes on firing afterwards (default 0s).
    pub(super) keep_firing: Option<Duration>,
    /// Window of rates and ratios (default 1min).
    pub(super) window: Option<Spanned<Duration>>,
    /// Time between looks (default 15s).
    pub(super) every: Option<Spanned<Duration>>,
}

/// A threshold, whose unit depends on what it is for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Level {
    /// `"80%"`, `"500/s"`.
    Text(String),
    /// `100`.
    Number(f64),
}

/// `[[prediction]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct PredictionTable {
    /// Unique name.
    pub(super) name: Spanned<String>,
    /// Name of the fault whose strokes it foresees.
    pub(super) fault: Spanned<String>,
    /// How long before (default 5min).
    pub(super) lead: Option<Spanned<LawText>>,
    /// Share of the strokes that it foresees (default 100%).
    pub(super) hit_rate: Option<Share>,
    /// How often it is wrong (default never).
    pub(super) false_alarms: Option<Rate>,
}

/// `[[action]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ActionTable {
    /// For strategies that change it.
    #[serde(rename = "name")]
    pub(super) _name: Option<String>,
    /// When.
    pub(super) at: Option<Spanned<Duration>>,
    /// Each time this alert begins to fire, instead.
    pub(super) on_alert: Option<Spanned<String>>,
    /// Each time this prediction is raised, instead.
    pub(super) on_prediction: Option<Spanned<String>>,
    /// Each time this alert no longer fires, instead.
    pub(super) on_resolved: Option<Spanned<String>>,
    /// How long people take after the alert or the prediction (default 0s).
    pub(super) after: Option<Spanned<Duration>>,
    #[serde(rename = "$action")]
    #[schemars(flatten)]
    pub(super) what: Spanned<ActionChoice>,
}

/// What an operator does.
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ActionChoice {
    /// Sets the wanted replicas of a service.
    Scale(ScaleTable),
    /// Gives the instances of a service other requests and limits, in place.
    Resize(ResizeTable),
    /// Lets only a share of a source's requests in, or of a caller's calls out.
    Throttle(ThrottleTable),
    /// Ends a pause of a rollout, or skips its present step, or all that is left.
    Promote(PromoteTable),
    /// Takes a rollout back.
    Abort(OfServiceTable),
    /// Holds a rollout where it is.
    Pause(OfServiceTable),
    /// Lets a rollout go on.
    Resume(OfServiceTable),
    /// Begins a rollout anew that was taken back.
    Retry(OfServiceTable),
    /// Moves a service to another version of its tree.
    Switch(SwitchTable),
    /// Publishes a version of a configuration.
    Publish(PublishTable),
    /// Rolls a service back to a former revision.
    Undo(UndoTable),
    /// Makes a member of a group its leader, by hand.
    PromoteMember(PromoteMemberTable),
    /// Rebuilds a group from a backup and the log that was saved since.
    Restore(RestoreTable),
    /// Moves everything away from what is predicted to fail; only with `on-prediction`.
    Drain(DrainTable),
    /// Has an endpoint answer cheaper and worse, or in full again.
    Degrade(DegradeTable),
    /// Delivers nothing of a topic until it is resumed or replayed.
    StopTopic(TopicNameTable),
    /// Delivers again.
    ResumeTopic(TopicNameTable),
    /// Delivers again what was published lately, and goes on.
    Replay(ReplayTable),
    /// Refuses every attempt at an endpoint, or allows it again.
    KillSwitch(KillSwitchTable),
}

/// `scale = { service = "x", replicas = 10 }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ScaleTable {
    /// Which service.
    pub(super) service: Spanned<String>,
    /// Wanted replicas.
    pub(super) replicas: Spanned<u32>,
}

/// `promote = { service = "x", full = true }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct PromoteTable {
    /// Which service.
    pub(super) service: Spanned<String>,
    /// Whether all steps, pauses and analyses that are left are skipped (default false).
    pub(super) full: Option<bool>,
}

/// `switch = { service = "x", version = "v1" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct SwitchTable {
    /// Which service.
    pub(super) service: Spanned<String>,
    /// Which version; `"parent"` is the one from which the version in place was made.
    pub(super) version: Spanned<String>,
}

/// `abort = { service = "x" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct OfServiceTable {
    /// Which service.
    pub(super) service: Spanned<String>,
}

/// `undo = { service = "x", to-revision = 2 }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct UndoTable {
    /// Which service.
    pub(super) service: Spanned<String>,
    /// Which revision: 1 is what the service begins with, each rollout has the next number (default 0: the one before).
    pub(super) to_revision: Option<u32>,
}

/// `promote-member = { service = "x", seat = 2 }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct PromoteMemberTable {
    /// Which service.
    pub(super) service: Spanned<String>,
    /// Which seat, from 0 (default: of those that have caught up the one with the longest log).
    pub(super) seat: Option<Spanned<u32>>,
}

/// `restore = { service = "x", backup-age = "1h", log-age = "1min", takes = "5min" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RestoreTable {
    /// Which service.
    pub(super) service: Spanned<String>,
    /// How old the backup is.
    pub(super) backup_age: Spanned<Duration>,
    /// How long ago the log ends that was saved since; what came later is lost (default `backup-age`: there is none).
    pub(super) log_age: Option<Spanned<Duration>>,
    /// How long it takes, besides writing the saved log again at `sync-rate`.
    pub(super) takes: Spanned<Duration>,
}

/// `resize = { service = "x", cpu-request = 2, cpu-limit = 4, memory = "2GiB" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ResizeTable {
    /// Which service.
    pub(super) service: Spanned<String>,
    /// CPU request in cores (default: as it is).
    pub(super) cpu_request: Option<Spanned<f64>>,
    /// CFS quota in cores (default: as it is).
    pub(super) cpu_limit: Option<Spanned<f64>>,
    /// Memory request (default: as it is).
    pub(super) memory: Option<Spanned<Bytes>>,
    /// Memory limit (default: as it is).
    pub(super) memory_limit: Option<Spanned<Bytes>>,
}

/// `drain = { for = "30min" }`
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct DrainTable {
    /// How long a node takes nothing new (default 30min).
    #[serde(rename = "for")]
    pub(super) lasts: Option<Spanned<Duration>>,
}

/// `throttle = { source = "public", share = "50%" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ThrottleTable {
    /// Which source.
    pub(super) source: Option<Spanned<String>>,
    /// Or which service, together with callee.
    pub(super) service: Option<Spanned<String>>,
    /// Only its calls to this service; those left out fail at once (default: the source's requests).
    pub(super) callee: Option<Spanned<String>>,
    /// Share that passes.
    pub(super) share: Share,
}

/// `degrade = { endpoint = "a.x", cost = "30%" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct DegradeTable {
    /// `service.endpoint`
    pub(super) endpoint: Spanned<String>,
    /// Share of its core time that an answer takes; 100% is an answer in full.
    pub(super) cost: Share,
}

/// `stop-topic = { topic = "payments" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct TopicNameTable {
    /// Which topic.
    pub(super) topic: Spanned<String>,
}

/// `replay = { topic = "payments", before = "2min" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ReplayTable {
    /// Which topic.
    pub(super) topic: Spanned<String>,
    /// From so long before the topic was stopped last, or before now if it never was.
    pub(super) before: Spanned<Duration>,
}

/// `kill-switch = { endpoint = "a.x", on = true }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct KillSwitchTable {
    /// `service.endpoint`
    pub(super) endpoint: Spanned<String>,
    /// Refuse (true, the default) or allow again.
    pub(super) on: Option<bool>,
}

/// `[[rollout]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RolloutTable {
    /// For strategies that change it (default: the service).
    #[serde(rename = "name")]
    pub(super) _name: Option<String>,
    /// When.
    pub(super) at: Spanned<Duration>,
    /// Which service.
    pub(super) service: Spanned<String>,
    /// The new version.
    pub(super) to: Spanned<String>,
    /// A Rollout of Argo, a Canary of Flagger or a Deployment that says how, in a file or folder of manifests.
    #[serde(rename = "manifest")]
    pub(super) _manifest: Option<String>,
    /// Name of the workload there, if it is not that of the service.
    #[serde(rename = "workload")]
    pub(super) _workload: Option<String>,
    /// What the metrics that its manifest names are here: `{ errors = "error-percent" }`.
    #[serde(rename = "metric-names")]
    pub(super) _metric_names: Option<BTreeMap<String, String>>,
    #[serde(rename = "$rollout")]
    #[schemars(flatten)]
    pub(super) how: Spanned<RolloutSettings>,
}

/// `[[config]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ConfigTable {
    /// Unique name.
    pub(super) name: Spanned<String>,
    /// The service whose instances follow it, short for `environment = { production = ".." }`.
    pub(super) service: Option<Spanned<String>>,
    /// Services by environment: `{ staging = "api-staging", production = "api" }`.
    #[serde(default)]
    pub(super) environment: Named<Spanned<String>>,
    /// From a publication to an instance, drawn for each (default 0s).
    pub(super) delay: Option<Spanned<LawText>>,
    /// What decryption adds to that (default 0s).
    pub(super) encryption: Option<Duration>,
    /// Whether an instance takes it with a restart (default false).
    pub(super) restart: Option<bool>,
    /// Versions; the first is in force at the start.
    #[serde(default)]
    pub(super) version: Vec<ConfigVersionTable>,
}

/// `[[config.version]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ConfigVersionTable {
    /// Unique within the configuration.
    pub(super) name: Spanned<String>,
    /// Share of attempts that fail after their work (default 0%).
    pub(super) error_rate: Option<Share>,
    /// Multiplies every cpu step (default 1).
    pub(super) demand: Option<Spanned<f64>>,
}

/// `publish = { config = "limits", version = "c2" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct PublishTable {
    /// Which configuration.
    pub(super) config: Spanned<String>,
    /// Which version; an old one is published anew.
    pub(super) version: Spanned<String>,
    /// Where (default: in every environment).
    pub(super) environment: Option<Spanned<String>>,
    /// Share of the instances that get it first (default 100%).
    pub(super) share: Option<Spanned<Share>>,
    /// How long only they have it (default 0s).
    pub(super) soak: Option<Duration>,
    /// A tool brings it to them in batches, instead of the centre.
    pub(super) batch: Option<BatchTable>,
}

/// `batch = { size = 5, takes = "20s" }`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct BatchTable {
    /// Instances at a time (default 1).
    pub(super) size: Option<Spanned<u32>>,
    /// How long one takes (default 0s).
    pub(super) takes: Option<Spanned<LawText>>,
    /// Share of tries that fail (default 0%).
    pub(super) failure_rate: Option<Share>,
    /// Tries after one that failed (default 0).
    pub(super) retries: Option<u32>,
    /// Between batches (default 0s).
    pub(super) pause: Option<Duration>,
    /// A batch with a larger share of instances that failed for good stops the run (default 0%).
    pub(super) max_failed: Option<Share>,
}

/// `[[rollback]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RollbackTable {
    /// Unique name.
    pub(super) name: Spanned<String>,
    /// Whose last change is taken back: a release, or a configuration.
    pub(super) service: Spanned<String>,
    /// More failed attempts than this share, as callers see it.
    pub(super) error_ratio: Option<Share>,
    /// A longer mean latency than this, as callers see it.
    pub(super) mean_latency: Option<Spanned<Duration>>,
    /// So many processes that ended by themselves within the window.
    pub(super) crashes: Option<Spanned<u32>>,
    /// More of the disks in use than this share.
    pub(super) disk: Option<Spanned<Share>>,
    /// This alert fires.
    pub(super) alert: Option<Spanned<String>>,
    /// For how long it must have been bad (default 0s).
    #[serde(rename = "for")]
    pub(super) lasts: Option<Duration>,
    /// From a rollback to its test (default 2min).
    pub(super) settle: Option<Spanned<Duration>>,
    /// Rollbacks in a row before people are called (default 2).
    pub(super) max_steps: Option<u32>,
    /// Time between looks (default 15s).
    pub(super) every: Option<Spanned<Duration>>,
    /// How far back a look goes (default 1min).
    pub(super) window: Option<Spanned<Duration>>,
    /// Attempts within the window without which their errors and latencies mean nothing (default 20).
    pub(super) least: Option<Spanned<u32>>,
    /// How a release goes back (default rolling).
    #[serde(default)]
    pub(super) by: Policy<RolloutSettings>,
}

/// `[[topic]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct TopicTable {
    /// Unique name.
    pub(super) name: Spanned<String>,
    /// From publishing to the acknowledgement of the broker (default 0s).
    pub(super) publish: Option<Spanned<LawText>>,
    /// What is promised (default at-least-once).
    #[serde(default)]
    pub(super) delivery: Guarantee,
    /// How long the broker waits for the acknowledgement of a delivery (default 30s).
    pub(super) ack_timeout: Option<Spanned<Duration>>,
    /// Pauses before a message that was refused is delivered again.
    #[serde(default)]
    pub(super) redelivery: RedeliveryTable,
    /// After so many deliveries without success a message goes to the dead-letter queue (default unlimited).
    pub(super) max_deliveries: Option<Spanned<Count>>,
    /// Whether messages of a partition are delivered one after the other (default none).
    #[serde(default)]
    pub(super) order: TopicOrderWord,
    /// Partitions (default 16).
    pub(super) partitions: Option<Spanned<u32>>,
    /// Number of different keys (default 1000).
    pub(super) keys: Option<Spanned<u64>>,
    /// Zipf exponent of their popularity (default 0).
    pub(super) zipf: Option<Spanned<f64>>,
    /// Messages that may wait for one consumer (default unlimited).
    pub(super) length: Option<Spanned<Count>>,
    /// What happens to the next one (default reject).
    #[serde(default)]
    pub(super) full: TopicFullWord,
    /// Share of deliveries, and of acknowledgements, that get lost (default 0%).
    pub(super) loss: Option<Share>,
    /// How long messages are kept for a replay (default 10min).
    pub(super) retention: Option<Spanned<Duration>>,
    /// Who gets each message.
    #[serde(default)]
    pub(super) consumer: Vec<ConsumerTable>,
}

/// `redelivery = { delay = "1s", multiplier = 2, max = "1min" }`
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RedeliveryTable {
    /// After the first delivery (default 1s).
    pub(super) delay: Option<Duration>,
    /// Growth from one to the next (default 2).
    pub(super) multiplier: Option<Spanned<f64>>,
    /// Longest (default 1min).
    pub(super) max: Option<Duration>,
}

/// `order` of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TopicOrderWord {
    /// As they come.
    #[default]
    None,
    /// One after the other within a partition, which the key decides on.
    Key,
}

/// `full` of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TopicFullWord {
    /// Publishing fails.
    #[default]
    Reject,
    /// The oldest message that waits is dropped.
    DropOldest,
    /// The new message is dropped, and its publisher does not know.
    DropNewest,
}

/// `[[topic.consumer]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ConsumerTable {
    /// What works on a message: `service.endpoint`.
    pub(super) endpoint: Spanned<String>,
    /// Messages that one instance works on at a time (default 1).
    pub(super) concurrency: Option<Spanned<u32>>,
}

/// `[[transaction]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct TransactionTable {
    /// Unique name.
    pub(super) name: Spanned<String>,
    /// Time of a forced write to a log (default 0s).
    pub(super) log: Option<Spanned<LawText>>,
    /// Who takes part, in order.
    pub(super) participant: Spanned<Vec<ParticipantTable>>,
    #[serde(rename = "$transaction")]
    #[schemars(flatten)]
    pub(super) how: Spanned<TransactionSettings>,
}

/// `[[transaction.participant]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ParticipantTable {
    /// Does the work: `service.endpoint`.
    pub(super) prepare: Spanned<String>,
    /// Makes it last; not used by a saga.
    pub(super) commit: Option<Spanned<String>>,
    /// Undoes it.
    pub(super) abort: Spanned<String>,
    /// Rows of which the work locks one (default 1000).
    pub(super) rows: Option<Spanned<u64>>,
    /// Zipf exponent of their popularity (default 0).
    pub(super) zipf: Option<Spanned<f64>>,
    /// Longest wait for a row; then the work fails (default for ever).
    pub(super) lock_timeout: Option<Spanned<Duration>>,
}

/// `[[strategy]]`
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct StrategyTable {
    /// Unique name.
    pub(super) name: Spanned<String>,
    /// One line on what it adds.
    pub(super) title: Option<String>,
    /// An earlier strategy whose overrides this one starts from.
    pub(super) extends: Option<Spanned<String>>,
    /// Overrides of the network.
    #[serde(rename = "network")]
    pub(super) _network: Option<Anything>,
    /// Another scheduler.
    #[serde(rename = "scheduler")]
    pub(super) _scheduler: Option<Anything>,
    /// Another provisioner.
    #[serde(rename = "provisioner")]
    pub(super) _provisioner: Option<Anything>,
    /// Overrides of the provisioning service.
    #[serde(rename = "provisioning")]
    pub(super) _provisioning: Option<Anything>,
    /// Overrides of the registry.
    #[serde(rename = "registry")]
    pub(super) _registry: Option<Anything>,
    /// Overrides by node pool name.
    #[serde(rename = "node-pool")]
    pub(super) _node_pool: Option<Anything>,
    /// Overrides by service name.
    #[serde(rename = "service")]
    pub(super) _service: Option<Anything>,
    /// Overrides by source name.
    #[serde(rename = "source")]
    pub(super) _source: Option<Anything>,
    /// Overrides by fault name, or faults of its own.
    #[serde(rename = "fault")]
    pub(super) _fault: Option<Anything>,
    /// Overrides by alert name, or alerts of its own.
    #[serde(rename = "alert")]
    pub(super) _alert: Option<Anything>,
    /// Overrides by prediction name, or predictions of its own.
    #[serde(rename = "prediction")]
    pub(super) _prediction: Option<Anything>,
    /// Overrides by action name, or actions of its own.
    #[serde(rename = "action")]
    pub(super) _action: Option<Anything>,
    /// Overrides by rollout name or service, or rollouts of its own.
    #[serde(rename = "rollout")]
    pub(super) _rollout: Option<Anything>,
    /// Overrides by name of a configuration, or configurations of its own.
    #[serde(rename = "config")]
    pub(super) _config: Option<Anything>,
    /// Overrides by name of a rollback, or rollbacks of its own.
    #[serde(rename = "rollback")]
    pub(super) _rollback: Option<Anything>,
    /// Overrides by topic name.
    #[serde(rename = "topic")]
    pub(super) _topic: Option<Anything>,
    /// Overrides by transaction name.
    #[serde(rename = "transaction")]
    pub(super) _transaction: Option<Anything>,
}

/// `[thresholds]`
#[derive(Debug, Default)]
pub(super) struct Thresholds {
    /// Whether an inconclusive threshold passes.
    pub(super) allow_inconclusive: bool,
    /// Conditions by metric.
    pub(super) conditions: Vec<(Spanned<String>, Vec<Spanned<String>>)>,
}

/// A law as text; which dimension it has, the place tells.
#[derive(Clone, Debug)]
pub(super) struct LawText(pub(super) String);

/// A count or `"unlimited"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// That many.
    Of(u64),
    /// As many as come.
    Unlimited,
}

/// The two meanings of `pool` in a service: a string names a node pool, a list holds connection pools.
#[derive(Debug)]
pub(super) enum PoolOrPools {
    /// `pool = "general"`
    NodePool(String, super::error::Place),
    /// `[[service.pool]]`
    Connections(Vec<PoolTable>),
}

/// The two meanings of `discovery`: a delay of the control plane, or a registry.
#[derive(Debug)]
pub(super) enum DiscoveryChoice {
    /// `discovery = "uniform(1s, 5s)"`
    Delay(Spanned<LawText>),
    /// `discovery.eureka = {}`
    Registry(DiscoverySettings),
}

/// One node pool, or several: `node-pool = "general"`, `node-pool = ["on-demand", "spot"]`.
#[derive(Debug)]
pub(super) struct NamedPools(pub(super) Vec<Spanned<String>>);

impl Default for PoolOrPools {
    fn default() -> Self {
        Self::Connections(Vec::new())
    }
}

/// Whatever is written; what becomes of it is read elsewhere.
#[derive(Debug)]
pub(super) struct Anything;

/// The JSON Schema of a scenario file, draft 2020-12.
pub fn json_schema() -> serde_json::Value {
    let mut schema = schemars::generate::SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<ScenarioFile>()
        .to_value();
    allow_manifests(&mut schema);
    allow_variables(&mut schema);
    schema
}

/// Autoscalers can be read from a manifest; then nothing else is required.
fn allow_manifests(schema: &mut serde_json::Value) {
    // Whoever names a manifest need not name a policy.
    for list in ["oneOf", "anyOf"] {
        let path = format!("/$defs/RolloutTable/{list}");
        if let Some(ways) = schema.pointer_mut(&path).and_then(serde_json::Value::as_array_mut) {
            ways.push(serde_json::json!({ "required": ["manifest"] }));
        }
    }
    for name in ["HpaSettings", "KedaSettings", "KpaSettings"] {
        let Some(settings) = schema.pointer_mut(&format!("/$defs/{name}")) else { continue };
        settings["properties"]["manifest"] = serde_json::json!({
            "type": "string", "description": "A manifest, or a folder of them, that holds the settings.",
        });
        settings["properties"]["name"] = serde_json::json!({
            "type": "string", "description": "Name of the object there, if it is not for this service.",
        });
        settings["properties"]["metric-names"] = serde_json::json!({
            "type": "object",
            "additionalProperties": { "type": "string" },
            "description": "What the metrics that the manifest names are called here.",
        });
        if let Some(required) = settings.as_object_mut().and_then(|settings| settings.remove("required")) {
            settings["anyOf"] = serde_json::json!([{ "required": required }, { "required": ["manifest"] }]);
        }
    }
}

/// A number or a boolean may be a `"$variable"` instead.
fn allow_variables(schema: &mut serde_json::Value) {
    match schema {
        serde_json::Value::Object(object) => {
            let kind = object.get("type").and_then(serde_json::Value::as_str).unwrap_or_default();
            if matches!(kind, "integer" | "number" | "boolean") {
                object.insert("type".to_owned(), serde_json::json!([kind, "string"]));
                object.insert("pattern".to_owned(), serde_json::json!("^\\$"));
            }
            object.values_mut().for_each(allow_variables);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(allow_variables),
        _ => {}
    }
}

impl<'de> Deserialize<'de> for Thresholds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        enum Entry {
            Flag(bool),
            Conditions(Vec<Spanned<String>>),
        }

        struct EntryVisitor;

        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of conditions, such as [\"p(99) < 800ms\"]")
            }

            fn visit_bool<E>(self, flag: bool) -> Result<Entry, E> {
                Ok(Entry::Flag(flag))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Entry, A::Error> {
                let mut conditions = Vec::new();
                while let Some(condition) = items.next_element()? {
                    conditions.push(condition);
                }
                Ok(Entry::Conditions(conditions))
            }
        }

        impl<'de> Deserialize<'de> for Entry {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(EntryVisitor)
            }
        }

        let entries: Named<Entry> = Named::deserialize(deserializer)?;
        let mut this = Self::default();
        for (key, entry) in entries.0 {
            match (key.value.as_str(), entry) {
                ("allow-inconclusive", Entry::Flag(flag)) => this.allow_inconclusive = flag,
                (name, Entry::Flag(_)) => {
                    let message =
                        format!("`{name}` takes a list of conditions\nhint: write [\"mean > 99%\"]");
                    return Err(de::Error::custom(message));
                }
                (_, Entry::Conditions(conditions)) => this.conditions.push((key, conditions)),
            }
        }
        Ok(this)
    }
}

impl<'de> Deserialize<'de> for LawText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl TextVisitor {
            fn bare<E: de::Error>(number: impl fmt::Display) -> E {
                E::custom(format!(
                    "{number} has no unit\nhint: write \"{number}ms\", or a law such as \"exp({number}ms)\""
                ))
            }
        }

        impl Visitor<'_> for TextVisitor {
            type Value = LawText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time or a law, such as \"12ms\" or \"exp(12ms)\"")
            }

            fn visit_str<E>(self, text: &str) -> Result<LawText, E> {
                Ok(LawText(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<LawText, E> {
                Err(Self::bare(number))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<LawText, E> {
                Err(E::custom(format!("{number} has no unit, and a time is never negative")))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<LawText, E> {
                Err(Self::bare(number))
            }
        }

        deserializer.deserialize_any(TextVisitor)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountVisitor;

        impl Visitor<'_> for CountVisitor {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or \"unlimited\"")
            }

            fn visit_u64<E>(self, count: u64) -> Result<Count, E> {
                Ok(Count::Of(count))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Count, E> {
                match text {
                    "unlimited" => Ok(Count::Unlimited),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(CountVisitor)
    }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LevelVisitor;

        impl Visitor<'_> for LevelVisitor {
            type Value = Level;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a threshold such as \"80%\", \"500/s\" or 100")
            }

            fn visit_str<E>(self, text: &str) -> Result<Level, E> {
                Ok(Level::Text(text.to_owned()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Level, E> {
                Ok(Level::Number(number as f64))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Level, E> {
                Ok(Level::Number(number as f64))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Level, E> {
                Ok(Level::Number(number))
            }
        }

        deserializer.deserialize_any(LevelVisitor)
    }
}

impl<'de> Deserialize<'de> for PoolOrPools {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        enum Either {
            Name(String),
            List(Vec<PoolTable>),
        }

        struct PoolVisitor;

        impl<'de> Visitor<'de> for PoolVisitor {
            type Value = Either;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a node pool, or connection pools written as [[service.pool]]")
            }

            fn visit_str<E>(self, name: &str) -> Result<Either, E> {
                Ok(Either::Name(name.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Either, A::Error> {
                let mut pools = Vec::new();
                while let Some(pool) = items.next_element()? {
                    pools.push(pool);
                }
                Ok(Either::List(pools))
            }
        }

        impl<'de> Deserialize<'de> for Either {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(PoolVisitor)
            }
        }

        let either: Spanned<Either> = Spanned::deserialize(deserializer)?;
        Ok(match either.value {
            Either::Name(name) => Self::NodePool(name, either.place),
            Either::List(pools) => Self::Connections(pools),
        })
    }
}

impl<'de> Deserialize<'de> for DiscoveryChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        enum Either {
            Text(String),
            Registry(DiscoverySettings),
        }

        struct ChoiceVisitor;

        impl<'de> Visitor<'de> for ChoiceVisitor {
            type Value = Either;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a delay like \"uniform(1s, 5s)\", or a registry like discovery.eureka = {}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Either, E> {
                // `discovery = "eureka"` is short for `discovery.eureka = {}`, as for other policies.
                if DiscoverySettings::KINDS.iter().any(|kind| kind.name == text) {
                    let settings = serde_json::json!({ text: {} });
                    return DiscoverySettings::deserialize(settings).map(Either::Registry).map_err(E::custom);
                }
                Ok(Either::Text(text.to_owned()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, entries: A) -> Result<Either, A::Error> {
                let settings = de::value::MapAccessDeserializer::new(entries);
                DiscoverySettings::deserialize(settings).map(Either::Registry)
            }
        }

        impl<'de> Deserialize<'de> for Either {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(ChoiceVisitor)
            }
        }

        let either: Spanned<Either> = Spanned::deserialize(deserializer)?;
        Ok(match either.value {
            Either::Text(text) => Self::Delay(Spanned { value: LawText(text), place: either.place }),
            Either::Registry(settings) => Self::Registry(settings),
        })
    }
}

impl<'de> Deserialize<'de> for NamedPools {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        enum Either {
            One(String),
            Several(Vec<Spanned<String>>),
        }

        struct NamesVisitor;

        impl<'de> Visitor<'de> for NamesVisitor {
            type Value = Either;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a node pool, or a list of names")
            }

            fn visit_str<E>(self, name: &str) -> Result<Either, E> {
                Ok(Either::One(name.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Either, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = items.next_element()? {
                    names.push(name);
                }
                Ok(Either::Several(names))
            }
        }

        impl<'de> Deserialize<'de> for Either {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(NamesVisitor)
            }
        }

        let either: Spanned<Either> = Spanned::deserialize(deserializer)?;
        Ok(Self(match either.value {
            Either::One(value) => vec![Spanned { value, place: either.place }],
            Either::Several(names) => names,
        }))
    }
}

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl JsonSchema for Thresholds {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Thresholds".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": { "allow-inconclusive": { "type": "boolean" } },
            "additionalProperties": {
                "type": "array",
                "items": { "type": "string", "description": "`p(99) < 800ms`, `mean > 99.5%`" },
            },
        })
    }
}

impl JsonSchema for LawText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Law".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A quantity or a law",
            "examples": ["12ms", "exp(12ms)", "lognormal(5ms, cv=1.5)", "file(data/x.csv:ms)"],
        })
    }
}

impl JsonSchema for Count {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Count".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "integer", "minimum": 0 }, { "const": "unlimited" }] })
    }
}

impl JsonSchema for NamedPools {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NodePools".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
    }
}

impl JsonSchema for Level {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Level".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "number", "minimum": 0 }] })
    }
}

impl JsonSchema for DiscoveryChoice {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Discovery".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (law, registry) =
            (generator.subschema_for::<LawText>(), generator.subschema_for::<DiscoverySettings>());
        json_schema!({ "anyOf": [law, registry] })
    }
}

impl JsonSchema for PoolOrPools {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ServicePool".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let pool = generator.subschema_for::<PoolTable>();
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": pool }] })
    }
}

impl JsonSchema for Anything {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Anything".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!(true)
    }
}
