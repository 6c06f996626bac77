//! What exists: sources, clients, network, services, instances, nodes, faults, control loops, telemetry.
//!
//! [`World`] is the state; [`World::handle`] sends each kind of event to the file that owns it:
//!
//! | event | what happens | file |
//! |---|---|---|
//! | `ARRIVAL`, `USER` | a request begins | `source` |
//! | `TRANSMIT`, `REPLY` | a message arrives | `network` |
//! | `STEP`, `SHARED` | work or waiting ends | `program`, `cpu` |
//! | `RING`, `LEVEL_RING` | timeouts and deadlines | `call` |
//! | `RETRY` | a delayed attempt starts | `call` |
//! | `HEDGE` | another copy of a call may go out | `hedge` |
//! | `PATIENCE` | a queued attempt gives up | `instance`, `waiting` |
//! | `PROBE` | a probe or its answer arrives | `probe` |
//! | `CONTROL` | everything rare: life cycle, control loops, faults, windows | `control`, and whoever is concerned |
//!
//! Whom rare events concern:
//!
//! | what | files |
//! |---|---|
//! | instances come and go | `fleet`, `cluster`, `provisioning`, `image`, `rollout`, `recommend`, `resize` |
//! | what an instance runs on | `cpu`, `governor`, `burst`, `neighbours`, `memory`, `disk`, `traffic` |
//! | what it does besides | `cache`, `hang`, `backoff`, `kubelet` |
//! | who knows whom | `outbound`, `hosts`, `prober`, `discovery`, `dns` |
//! | ways between them | `network`, `pool`, `connection` |
//! | instances that agree on a leader and keep a log together | `group`, `replica` |
//! | waiting outside an instance | `activator`, `backlog` |
//! | what nobody's program waits for | `errand`, `topic`, `transaction` |
//! | who looks on and acts | `metrics`, `alert`, `predict`, `degrade`, `fault`, `telemetry` |
//!
//! The life of one attempt: `call` picks an endpoint and sends it, `network` delivers it, `instance` queues and starts
//! it, `program` runs its steps, `instance` lets it leave, `network` carries the answer, `call` decides what follows.

mod activator;
mod alert;
mod attribute;
mod backlog;
mod backoff;
mod books;
mod burst;
mod cache;
mod call;
mod cluster;
mod config;
mod connection;
mod consistency;
mod control;
mod cpu;
mod degrade;
mod discovery;
mod disk;
mod dns;
mod errand;
mod fault;
mod fleet;
mod frame;
mod governor;
mod group;
mod hang;
mod hedge;
mod hosts;
mod image;
mod instance;
mod kubelet;
mod lru;
mod memory;
mod metrics;
mod neighbours;
mod network;
mod outbound;
mod pool;
mod predict;
mod probe;
mod prober;
mod program;
mod provisioning;
mod recommend;
mod replica;
mod report;
mod resize;
mod rollback;
mod rollout;
mod service;
mod shutdown;
mod source;
pub mod spec;
mod telemetry;
mod topic;
mod tracer;
mod traffic;
mod transaction;
mod versions;
mod waiting;

pub use report::{Decision, LogEntry, NamedHistogram, RunReport, WindowSeries};
pub use tracer::{MAX_SPANS, Span, TracedRequest, Traces, Wanted};
pub use versions::VersionLife;

use std::hint::black_box;
use std::ops::ControlFlow;

use crate::kernel::arena::Arena;
use crate::kernel::journal::Journal;
use crate::kernel::queue::{Payload, Queue};
use crate::kernel::ring::Ring;
use crate::kernel::{self, Handle, Model, Stop};
use crate::random::Key;
use crate::time::Time;

use attribute::Stickiness;
use call::{CallState, RequestRecord};
use cluster::Cluster;
use connection::Connection;
use consistency::{Ahead, Watch};
use control::Control;
use errand::Errand;
use frame::{Frame, Side};
use hedge::HedgeState;
use image::Registry;
use instance::Instance;
use network::Network;
use outbound::Outbound;
use probe::{Probe, ProbeCounts};
use provisioning::Provisioning;
use service::Service;
use source::Source;
use spec::Spec;
use telemetry::Telemetry;
use topic::Topic;
use tracer::Tracer;
use transaction::{Ledger, Running};

/// The state of one run.
pub struct World<'a> {
    spec: &'a Spec,
    seed: u64,
    /// Salt of each op: hash of its owner's name and its position there, so that strategies that change one service do
    /// not shift the draws of another.
    op_salts: Vec<u64>,
    frames: Arena<Frame>,
    /// Parallel to `frames` if `has_sides`, else empty.
    sides: Vec<Side>,
    calls: Arena<CallState>,
    hedges: Arena<HedgeState>,
    requests: Arena<RequestRecord>,
    rings: Vec<Ring>,
    /// Timeouts that outer levels of edges set on their attempts; owned by calls, as `rings` are by frames.
    level_rings: Vec<Ring>,
    outbounds: Vec<Outbound>,
    /// Connections between clients and instances, where they are simulated.
    connections: Arena<Connection>,
    /// Connections so far.
    serial: u64,
    /// DNS outages in force.
    dns_outages: u32,
    /// Calling side of the messages that set connections up; it belongs to nobody.
    wire: u32,
    instances: Vec<Instance>,
    services: Vec<Service>,
    sources: Vec<Source>,
    cluster: Cluster,
    provisioning: Provisioning,
    registry: Registry,
    /// By node: its cores, where its instances share them. Shorter than `nodes` if no later one needs it.
    node_cpus: Vec<neighbours::NodeCpu>,
    network: Network,
    controls: Arena<Option<Control>>,
    /// Version slots that an update watches; 0 is the common case.
    watching: u8,
    /// What it knows, by version slot.
    watches: [Option<Box<Watch>>; 8],
    /// What programs may still call, by operation, if some update wants to know.
    ahead: Vec<Ahead>,
    /// Updates that are to look again after this event.
    looks: Vec<u32>,
    faults: Vec<fault::Progress>,
    alerts: Vec<alert::Watch>,
    probers: Vec<prober::Prober>,
    predictors: Vec<predict::Predictor>,
    /// Who takes changes back.
    watchers: Vec<rollback::Watcher>,
    configs: config::Configs,
    /// Probes under way.
    probes: Arena<Probe>,
    probe_counts: ProbeCounts,
    /// Endpoints that answer cheaper, and calling sides that leave calls out.
    degraded: Vec<degrade::Degraded>,
    throttled: Vec<degrade::Throttled>,
    /// Tickets given to calls that wait for room at their limiter.
    backlog_tickets: u64,
    /// Calls that nobody's program waits for.
    errands: Arena<Errand>,
    topics: Vec<Topic>,
    /// What is kept about each kind of transaction, and those that are going on.
    ledgers: Vec<Ledger>,
    transactions: Arena<Option<Box<Running>>>,
    /// Endpoints (by first op) that a kill switch refuses.
    killed: Vec<u16>,
    telemetry: Telemetry,
    /// Good answers slower than this count against the latency objective, ns.
    slow_above: u64,
    /// Root requests in progress.
    open_roots: u64,
    /// Sources that will still send something.
    live_sources: u32,
    /// No source will send anything, and every request is answered.
    over: bool,
    /// The limit that ends the run, if one does.
    full: Option<Full>,
    /// Whether some attempt may need a [`Side`].
    has_sides: bool,
    /// Whether some service's instances share their calling side.
    shares_outbounds: bool,
    /// Whether frames keep a list of the attempts they wait for.
    tracks_children: bool,
    /// Whether requests keep a record (users, version consistency).
    tracks_requests: bool,
    /// Whether some calls are hedged with copies that call each other off.
    ties: bool,
    /// Whether somebody wants to know when an attempt starts.
    watches_starts: bool,
    /// Whether there are topics or transactions.
    has_errands: bool,
    /// Who writes down the paths of chosen requests, if asked for.
    tracer: Option<Box<Tracer>>,
}

/// Ends a handler early because a limit of the scenario was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    InFlight,
    Instances,
}

/// Result of everything that may need a new slot.
type Flow = Result<(), Full>;

/// Event kinds, see the module documentation.
const ARRIVAL: u8 = 0;
const STEP: u8 = 1;
const SHARED: u8 = 2;
const TRANSMIT: u8 = 3;
const REPLY: u8 = 4;
const RING: u8 = 5;
const RETRY: u8 = 6;
const USER: u8 = 7;
const PATIENCE: u8 = 8;
const CONTROL: u8 = 9;
const PROBE: u8 = 10;
const HEDGE: u8 = 11;
const LEVEL_RING: u8 = 12;

/// Runs one replication of `spec` with `seed` and reports what was seen.
pub fn run(spec: &Spec, seed: u64, handle: &Handle) -> Result<RunReport, Stop> {
    tell(spec, seed, handle, None).map(|(report, _)| report)
}

/// Runs it (again), and keeps the paths of some requests.
pub fn trace(spec: &Spec, seed: u64, handle: &Handle, wanted: Wanted) -> Result<(RunReport, Traces), Stop> {
    tell(spec, seed, handle, Some(Box::new(Tracer::new(wanted))))
}

fn tell(
    spec: &Spec,
    seed: u64,
    handle: &Handle,
    tracer: Option<Box<Tracer>>,
) -> Result<(RunReport, Traces), Stop> {
    let mut queue = Queue::new();
    let mut journal = Journal::default();
    let mut world = World::new(spec, seed, tracer);
    world.begin(&mut queue).map_err(|full| world.stop(full))?;
    let end = kernel::run(&mut world, &mut queue, &mut journal, spec.horizon, spec.limits.events, handle)?;
    let traces = world.tracer.take().map(|tracer| tracer.finish(end)).unwrap_or_default();
    Ok((world.report(end, &journal), traces))
}

impl Model for World<'_> {
    #[inline(always)]
    fn handle(&mut self, now: Time, payload: Payload, queue: &mut Queue) -> ControlFlow<()> {
        let index = payload.index();
        let flow = match payload.kind() {
            STEP => self.on_step(now, queue, index),
            ARRIVAL => self.on_arrival(now, queue, index),
            kind => self.on_other(now, queue, kind, index),
        };
        if let Err(full) = flow {
            self.full = Some(full);
            return ControlFlow::Break(());
        }
        if !self.looks.is_empty() {
            self.schedule_looks(now, queue);
        }
        if self.over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    #[inline(always)]
    fn prepare(&self, payload: Payload) {
        if payload.kind() == STEP {
            // Nobody waits for these reads; with many instances they would be misses later, one after the other.
            let instance = self.frames[payload.index()].instance;
            if let Some(instance) = self.instances.get(instance as usize) {
                black_box(instance.queued);
            }
        }
    }

    fn outcome(&self) -> Result<(), Stop> {
        self.full.map_or(Ok(()), |full| Err(self.stop(full)))
    }

    fn requests(&self) -> u64 {
        self.sources.iter().map(|source| source.arrivals).sum()
    }

    fn excess(&self, pending: usize) -> Option<Stop> {
        let limits = &self.spec.limits;
        if pending as u64 > limits.pending_events {
            let what = "events waiting at one moment";
            return Some(Stop::Limit { name: "pending-events", what, limit: limits.pending_events });
        }
        (self.requests() > limits.requests).then_some(Stop::Limit {
            name: "requests",
            what: "requests",
            limit: limits.requests,
        })
    }
}

impl World<'_> {
    /// Everything but arrivals and ends of steps.
    #[inline(never)]
    fn on_other(&mut self, now: Time, queue: &mut Queue, kind: u8, index: u32) -> Flow {
        match kind {
            SHARED => self.on_shared(now, queue, index),
            TRANSMIT => self.on_transmit(now, queue, index),
            REPLY => self.on_reply(now, queue, index),
            RING => self.on_ring(now, queue, index),
            RETRY => self.on_retry(now, queue, index, now),
            HEDGE => self.on_hedge(now, queue, index, now),
            LEVEL_RING => self.on_level_ring(now, queue, index),
            USER => self.on_user(now, queue, index),
            PATIENCE => self.on_patience(now, queue, index),
            PROBE => self.on_probe(now, queue, index),
            _ => self.on_control(now, queue, index),
        }
    }
}

impl<'a> World<'a> {
    fn new(spec: &'a Spec, seed: u64, tracer: Option<Box<Tracer>>) -> Self {
        let edges = || {
            let of_sources = spec.sources.iter().flat_map(|source| &source.edges);
            of_sources.chain(spec.services.iter().flat_map(|service| &service.edges))
        };
        let nested =
            spec.services.iter().any(|service| !service.edges.is_empty() || service.limiter.is_some());
        let stateful = edges().any(|edge| edge.is_stateful() || edge.cancels());
        let users = spec.sources.iter().any(|source| matches!(source.arrivals, spec::Arrivals::Users { .. }));
        let looks_at_requests = edges().any(|edge| edge.affinity.is_some())
            || spec.ops.iter().any(|op| matches!(op, spec::Op::Route { .. }));
        let probes = edges().any(spec::EdgeSpec::probes);
        let degrades = spec.actions.iter().any(|action| matches!(action.what, spec::Operation::Degrade(..)));
        let has_errands = !spec.topics.is_empty() || !spec.transactions.is_empty();
        let tracks_requests = tracer.is_some()
            || users
            || has_errands
            || looks_at_requests
            || degrades
            || spec.services.iter().any(|service| service.version_slot.is_some());
        let tracks_children = spec.sources.iter().any(|source| source.propagate_deadline)
            || edges().any(spec::EdgeSpec::cancels);
        let ties = edges().any(spec::EdgeSpec::ties);
        let ring = |kind| {
            move |(index, delay): (usize, &crate::time::Duration)| {
                Ring::new(*delay, Payload::new(kind, index as u32))
            }
        };
        let mut world = Self {
            spec,
            seed,
            op_salts: op_salts(spec),
            frames: Arena::new(spec.limits.in_flight),
            sides: Vec::new(),
            calls: Arena::new(spec.limits.in_flight),
            hedges: Arena::new(spec.limits.in_flight),
            requests: Arena::new(spec.limits.in_flight),
            rings: spec.rings.iter().enumerate().map(ring(RING)).collect(),
            level_rings: spec.level_rings.iter().enumerate().map(ring(LEVEL_RING)).collect(),
            outbounds: Vec::new(),
            connections: Arena::new(spec.limits.in_flight),
            serial: 0,
            dns_outages: 0,
            wire: frame::NIL,
            instances: Vec::new(),
            services: Vec::new(),
            sources: Vec::new(),
            cluster: Cluster::new(spec, seed),
            provisioning: Provisioning::new(spec, seed),
            registry: Registry::default(),
            node_cpus: Vec::new(),
            network: Network::new(spec),
            controls: Arena::new(kernel::queue::MAX_INDEX),
            watching: 0,
            watches: [const { None }; 8],
            ahead: consistency::look_ahead(spec),
            looks: Vec::new(),
            faults: Vec::new(),
            alerts: Vec::new(),
            probers: Vec::new(),
            predictors: Vec::new(),
            watchers: Vec::new(),
            configs: config::Configs::default(),
            probes: Arena::new(spec.limits.in_flight),
            probe_counts: ProbeCounts::default(),
            degraded: Vec::new(),
            throttled: Vec::new(),
            backlog_tickets: 0,
            errands: Arena::new(spec.limits.in_flight),
            topics: Vec::new(),
            ledgers: Vec::new(),
            transactions: Arena::new(spec.limits.in_flight),
            killed: Vec::new(),
            telemetry: Telemetry::new(&spec.pools),
            slow_above: spec.objective.latency_p99.map_or(u64::MAX, |limit| limit.0),
            open_roots: 0,
            live_sources: spec.sources.len() as u32,
            over: false,
            full: None,
            has_sides: nested || stateful || tracks_requests || tracks_children || probes,
            shares_outbounds: spec
                .services
                .iter()
                .any(|service| service.edges.iter().any(|edge| edge.shared)),
            tracks_children,
            tracks_requests,
            ties,
            watches_starts: tracks_requests || ties,
            has_errands,
            tracer,
        };
        world.build();
        world
    }

    /// Creates everything that is there from the start, except instances.
    fn build(&mut self) {
        let spec = self.spec;
        let kills = spec.actions.iter().any(|action| matches!(action.what, spec::Operation::KillSwitch(..)));
        for (index, service) in spec.services.iter().enumerate() {
            let strikes = |what: &spec::Trouble| match what {
                spec::Trouble::ErrorRate(target, _) => target.service as usize == index,
                _ => false,
            };
            let outage =
                |what: &spec::Trouble| matches!(what, spec::Trouble::Outage(at) if *at as usize == index);
            let guarded =
                kills || service.limiter.is_some() || spec.faults.iter().any(|fault| outage(&fault.what));
            // Whoever is taken in allocates memory, writes to the disk, and has come in bytes.
            let guarded = guarded || service.memory_use.is_some() || service.disk_use.is_some();
            let guarded = guarded || service.shedding.is_some();
            let measured = !service.network_use.is_empty();
            let ours = |entry: u16| service.endpoints.iter().any(|(_, first)| *first == entry);
            let degrades = |action: &spec::ActionSpec| match action.what {
                spec::Operation::Degrade(entry, _) => ours(entry),
                _ => false,
            };
            let follows = |config: &&spec::ConfigSpec| {
                config.environments.iter().any(|(_, service)| *service as usize == index)
            };
            let configs = spec.configs.iter().filter(follows).flat_map(|config| &config.versions);
            let judged = service.versions.iter().any(|version| version.error_rate > 0.0)
                || configs.into_iter().any(|version| version.error_rate > 0.0)
                || spec.actions.iter().any(degrades)
                || spec.faults.iter().any(|fault| strikes(&fault.what));
            let mut service = Service::new(service, spec.warm_up, guarded || measured, judged || measured);
            // An update or a tracer wants to know of each end.
            service.ordinary &= self.ahead.is_empty() && self.tracer.is_none();
            service.group = spec.services[index].group.as_ref().map(|group| {
                let counted = (spec.warm_up, spec.end);
                let (seats, zones) = (spec.services[index].replicas, spec.zones.len());
                let name = &spec.services[index].name;
                Box::new(group::Group::new(group, name, seats, zones, self.seed, counted))
            });
            self.services.push(service);
        }
        for rollback in &spec.rollbacks {
            self.services[rollback.service as usize].seen = Some(Box::default());
        }
        self.build_configs();
        let sources = spec.sources.iter().flat_map(|source| &source.edges);
        for edge in sources.chain(spec.services.iter().flat_map(|service| &service.edges)) {
            let service = &mut self.services[edge.to as usize];
            service.broken_off |= edge.stacks().any(|stack| stack.breaker.is_some());
            if edge.probes() {
                // Whoever comes and goes is looked at, to be able to answer.
                service.probed = true;
                service.guarded = true;
                service.ordinary = false;
            }
            if edge.affinity.is_some() && service.stickiness.is_none() {
                service.stickiness = Some(Box::new(Stickiness::new(&spec.attributes, &spec.sources)));
            }
            if edge.connections.is_some() {
                service.guarded = true;
                service.connections.get_or_insert_default();
                if self.wire == frame::NIL {
                    let mut nobody = Outbound::new(edge, 0, frame::NIL, Time::ZERO);
                    nobody.bury();
                    self.wire = self.outbounds.len() as u32;
                    self.outbounds.push(nobody);
                }
            }
        }
        let mut users = 0;
        for (index, source) in spec.sources.iter().enumerate() {
            let first = self.outbounds.len() as u32;
            let root = Key::new(self.seed).named("connections").named(&source.name);
            for client in 0..source.clients {
                for edge in &source.edges {
                    self.services[edge.to as usize].callers.push(self.outbounds.len() as u32);
                    let outbound = Outbound::new(edge, source.zone, index as u32, Time::ZERO);
                    let mut outbound = outbound.numbered(client, source.clients);
                    let key = root.with(u64::from(client));
                    outbound.pool = self.new_pool(edge, Time::ZERO, key, frame::NIL);
                    self.outbounds.push(outbound);
                }
            }
            let state = Source::new(source, self.seed, spec.warm_up, first, users);
            users += state.user_count();
            self.sources.push(state);
        }
        for (index, service) in spec.services.iter().enumerate() {
            let shared = service.edges.iter().map(|edge| {
                if !edge.shared {
                    return frame::NIL;
                }
                self.services[edge.to as usize].callers.push(self.outbounds.len() as u32);
                let anywhere = u32::from(outbound::ANYWHERE);
                let mut outbound = Outbound::new(edge, anywhere, frame::NIL, Time::ZERO);
                outbound.owner = Some(index as u32);
                self.outbounds.push(outbound);
                self.outbounds.len() as u32 - 1
            });
            let shared: Vec<u32> = shared.collect();
            if service.edges.iter().any(|edge| edge.shared) {
                self.services[index].share(shared);
            }
        }
        if self.has_errands {
            let consumers = spec.topics.iter().flat_map(|topic| &topic.consumers);
            let participants = spec.transactions.iter().flat_map(|one| &one.participants);
            let served = consumers.map(|one| one.service).chain(participants.map(|one| one.service));
            for service in served {
                // What comes of their work counts when it ends, however it does.
                let service = &mut self.services[service as usize];
                service.judged = true;
                service.lends = true;
                service.ordinary = false;
            }
            self.build_topics();
            self.build_transactions();
        }
    }

    /// Schedules everything that happens by itself.
    fn begin(&mut self, queue: &mut Queue) -> Flow {
        self.begin_fleet(queue)?;
        self.begin_telemetry(queue);
        self.begin_controls(queue);
        self.begin_recommenders(queue);
        self.begin_provisioning(queue);
        self.begin_predictions(queue);
        self.begin_faults(queue);
        self.begin_alerts(queue);
        self.begin_rollbacks(queue);
        for (index, action) in self.spec.actions.iter().enumerate() {
            if let spec::ActionTime::At(at) = action.when {
                self.schedule(queue, at, Control::Act(index as u32));
            }
        }
        for index in 0..self.spec.rollouts.len() {
            self.schedule(queue, self.spec.rollouts[index].at, Control::Rollout(index as u32));
        }
        self.begin_sources(queue);
        Ok(())
    }
}

/// Hash of every op's owner and position there.
fn op_salts(spec: &Spec) -> Vec<u64> {
    let mut salts = vec![0; spec.ops.len()];
    let mut mark = |entry: u16, owner: Key| {
        let mut position = 0;
        for (op, salt) in spec.ops.iter().zip(&mut salts).skip(entry as usize) {
            // Side-cars do not shift the draws of the program.
            if let spec::Op::Sidecar { container, .. } = op {
                *salt = owner.named("side-car").with(u64::from(*container)).0;
                continue;
            }
            *salt = owner.with(position).0;
            position += 1;
            if matches!(op, spec::Op::End) {
                break;
            }
        }
    };
    let root = Key(0).named("op");
    for service in &spec.services {
        for (name, entry) in &service.endpoints {
            mark(*entry, root.named(&service.name).named(name));
        }
    }
    let edges = spec.services.iter().flat_map(|service| &service.edges);
    let edges = edges.chain(spec.sources.iter().flat_map(|source| &source.edges));
    let checks = edges.filter_map(|edge| Some((edge.to, edge.check.as_ref()?.ask.entry?)));
    let probes = spec.services.iter().zip(0..).flat_map(|(service, at)| {
        service.probes.iter().filter_map(move |probe| Some((at, probe.ask.entry?)))
    });
    for (service, entry) in checks.chain(probes) {
        let service = &spec.services[service as usize];
        // Those that ask an endpoint have its draws.
        if service.endpoints.iter().all(|(_, first)| *first != entry) {
            mark(entry, root.named("probe").named(&service.name));
        }
    }
    for source in &spec.sources {
        mark(source.entry, root.named("journey").named(&source.name));
    }
    salts
}

impl World<'_> {
    #[cold]
    fn stop(&self, full: Full) -> Stop {
        let limits = &self.spec.limits;
        match full {
            Full::InFlight => Stop::Limit {
                name: "in-flight",
                what: "requests and calls in flight",
                limit: u64::from(limits.in_flight),
            },
            Full::Instances => Stop::Limit { name: "instances", what: "instances", limit: limits.instances },
        }
    }
}
