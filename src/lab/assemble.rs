//! From what was written to what exists: the only file that knows both the scenario and the world.
//!
//! Nothing is refused here; the scenario's checks have said no to whatever cannot be built.

use crate::policies::delivery::Guarantee;
use crate::policies::detector::Detector as _;
use crate::policies::recommender::Recommender as _;
use crate::policies::recommender::updater::UpdateMode;
use crate::policies::rollout::RolloutSettings;
use crate::policies::rollout::rolling::RollingSettings;
use crate::policies::transaction::TransactionSettings;
use crate::policies::transaction::two_phase_commit::Presumption;
use crate::random::Key;
use crate::random::law::Law;
use crate::random::variate::Zipf;
use crate::scenario::model as written;
use crate::time::{Duration, Time};
use crate::world::spec::{
    ActionSpec, ActionTime, ActivatorSpec, AlertSpec, Arrivals, Ask, AskSpec, AttributeSpec, BackoffSpec,
    BatchSpec, BurstSpec, CacheSpec, CallSpec, Carried, CheckSpec, ConfigSpec, ConfigVersionSpec,
    ConnectionPoolSpec, ConnectionsSpec, ConsumerSpec, CpuMode, Deadline, DiskSpec, DnsSpec, EdgeSpec,
    FaultSpec, Gauge, GcSpec, GroupSpec, Limits, ListenerSpec, MemorySpec, NO_RING, ObjectiveSpec, OnTerm,
    Op, Operation, Order, ParticipantSpec, PoolSpec, PredictionSpec, ProbeSpec, ProvisioningSpec, Publish,
    Rate, RegistrySpec, ReplicationMode, Resize, Resumption, RollbackSpec, RolloutSpec, ServiceSpec,
    SidecarSpec, Signal, SourceSpec, Spec, StackSpec, Standing, Target, Thing, TlsSpec, TopicFull, TopicSpec,
    TransactionSpec, Trouble, VersionSpec, When,
};

/// Builds the world's input for one strategy of a study.
pub fn assemble(study: &written::Study, scenario: &written::Scenario) -> Spec {
    Assembly::new(study, scenario).finish()
}

/// Things under construction that several parts add to.
struct Assembly<'a> {
    study: &'a written::Study,
    scenario: &'a written::Scenario,
    ops: Vec<Op>,
    calls: Vec<CallSpec>,
    rings: Vec<Duration>,
    level_rings: Vec<Duration>,
    /// First op of each endpoint by (service, endpoint); known before any step is compiled.
    entries: Vec<Vec<u16>>,
    /// How clients keep connections: what was written, and where the handshakes lie that belong to it.
    connections: Vec<(written::Connections, ConnectionsSpec)>,
}

impl<'a> Assembly<'a> {
    fn new(study: &'a written::Study, scenario: &'a written::Scenario) -> Self {
        let mut next = 0;
        let mut entries = Vec::new();
        for (index, service) in scenario.services.iter().enumerate() {
            let mut list = Vec::new();
            for (at, endpoint) in service.endpoints.iter().enumerate() {
                list.push(next);
                let part = Part::of(scenario, written::EndpointRef { service: index, endpoint: at });
                next += part.map_or(0, |part| part.length());
                let group = service.group.as_ref();
                next += group.map_or(0, |group| 1 + 2 * u16::from(group.writes[at]));
                // Every attempt passes twice each side-car that does something.
                let busy = service.sidecars.iter().filter(|sidecar| !sidecar.cost.is_zero()).count();
                next += program_length(&endpoint.steps) + 2 * busy as u16;
            }
            entries.push(list);
        }
        Self {
            study,
            scenario,
            ops: Vec::new(),
            calls: Vec::new(),
            rings: Vec::new(),
            level_rings: Vec::new(),
            entries,
            connections: Vec::new(),
        }
    }

    fn finish(mut self) -> Spec {
        let (study, scenario) = (self.study, self.scenario);
        let end = Time::ZERO + study.duration;
        let mut slots = 0;
        let mut services: Vec<ServiceSpec> =
            (0..scenario.services.len()).map(|index| self.service(index, &mut slots)).collect();
        let mut priorities: Vec<u8> = scenario.sources.iter().map(|source| source.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        let mut sources: Vec<SourceSpec> =
            (0..scenario.sources.len()).map(|index| self.source(index, &priorities)).collect();
        // Handshakes, and what probes do, come after all programs, whose places in `ops` are known beforehand.
        for (at, (spec, service)) in services.iter_mut().zip(&scenario.services).enumerate() {
            self.connect(&mut spec.edges, &service.edges);
            spec.probes = service.probes.iter().map(|probe| self.probe(probe, at)).collect();
            self.checks(&mut spec.edges, &service.edges);
        }
        for (spec, source) in sources.iter_mut().zip(&scenario.sources) {
            self.connect(&mut spec.edges, &source.edges);
            self.checks(&mut spec.edges, &source.edges);
        }
        let topics = scenario.topics.iter().map(|topic| self.topic(topic)).collect();
        let limits = study.limits;
        Spec {
            warm_up: Time::ZERO + study.warm_up,
            end,
            horizon: horizon(end, scenario),
            resolution: study.resolution,
            zones: if scenario.zones.is_empty() {
                vec!["everywhere".to_owned()]
            } else {
                scenario.zones.clone()
            },
            latency: latency(scenario),
            pools: (0..scenario.node_pools.len()).map(|at| pool(scenario, at)).collect(),
            scheduler: scenario.scheduler.clone(),
            provisioner: scenario.provisioner.clone(),
            provisioning: ProvisioningSpec {
                concurrency: scenario.provisioning.concurrency,
                takes: scenario.provisioning.takes.clone(),
                queue: scenario.provisioning.queue,
                timeout: scenario.provisioning.timeout,
                failure_rate: scenario.provisioning.failure_rate,
            },
            registry: RegistrySpec {
                bandwidth: scenario.registry.bandwidth,
                node_bandwidth: scenario.registry.node_bandwidth,
            },
            services,
            sources,
            ops: self.ops,
            calls: self.calls,
            rings: self.rings,
            level_rings: self.level_rings,
            faults: scenario.faults.iter().map(fault).collect(),
            alerts: scenario.alerts.iter().map(alert).collect(),
            predictions: scenario.predictions.iter().map(prediction).collect(),
            actions: scenario
                .actions
                .iter()
                .map(|action| ActionSpec {
                    when: action_time(action.when),
                    what: operation(action, &self.entries),
                })
                .collect(),
            rollouts: scenario.rollouts.iter().map(rollout).collect(),
            configs: scenario.configs.iter().map(config).collect(),
            rollbacks: scenario.rollbacks.iter().map(rollback).collect(),
            topics,
            transactions: scenario.transactions.iter().map(transaction).collect(),
            objective: ObjectiveSpec {
                availability: study.objective.availability,
                latency_p99: study.objective.latency_p99,
            },
            limits: Limits {
                pending_events: limits.pending_events,
                in_flight: limits.in_flight as u32,
                instances: limits.instances,
                requests: limits.requests,
                events: limits.events,
            },
            priorities,
            attributes: scenario.attributes.iter().map(attribute).collect(),
            connections: self.connections.into_iter().map(|(_, spec)| spec).collect(),
        }
    }

    /// Gives edges the connections that were written for them; equal ones are kept once.
    fn connect(&mut self, edges: &mut [EdgeSpec], written: &[written::Edge]) {
        for (spec, edge) in edges.iter_mut().zip(written) {
            let Some(wanted) = &edge.connections else { continue };
            let known = self.connections.iter().position(|(known, _)| known == wanted);
            let at = known.unwrap_or_else(|| {
                let compiled = self.connections_spec(wanted);
                self.connections.push((wanted.clone(), compiled));
                self.connections.len() - 1
            });
            spec.connections = Some(at as u32);
        }
    }

    fn connections_spec(&mut self, written: &written::Connections) -> ConnectionsSpec {
        let mut work = |law: &Law| {
            (!law.is_zero()).then(|| {
                self.ops.extend([Op::Cpu(law.clone(), None), Op::End]);
                self.ops.len() as u16 - 2
            })
        };
        let tls = written.tls.as_ref().map(|tls| TlsSpec {
            round_trips: tls.round_trips,
            work: work(&tls.cpu),
            resumption: match tls.resumption {
                written::Resumption::None => Resumption::None,
                written::Resumption::Instance => Resumption::Instance,
                written::Resumption::Service => Resumption::Service,
            },
            resumed_round_trips: tls.resumed_round_trips,
            resumed_work: work(&tls.resumed_cpu),
            ticket_lifetime: tls.ticket_lifetime,
        });
        ConnectionsSpec {
            streams: written.streams.unwrap_or(1),
            multiplexed: written.streams.is_some(),
            per_connection: written.per_connection,
            max: written.max,
            max_pending: written.max_pending,
            max_idle: written.max_idle,
            min: written.min,
            idle_timeout: written.idle_timeout,
            max_age: written.max_age.clone(),
            max_requests: written.max_requests,
            connect_round_trips: written.connect_round_trips,
            connect_timeout: written.connect_timeout,
            tls,
            backoff: written.backoff.map(|backoff| BackoffSpec {
                base: backoff.base,
                multiplier: backoff.multiplier,
                jitter: backoff.jitter,
                max: backoff.max,
                wait_for_ready: backoff.wait_for_ready,
            }),
            dns: written.dns.map(|dns| DnsSpec {
                ttl: dns.ttl,
                answers: dns.answers,
                ignore_ttl: dns.ignore_ttl,
            }),
        }
    }

    fn service(&mut self, index: usize, slots: &mut u8) -> ServiceSpec {
        let service = &self.scenario.services[index];
        let instance = &service.instance;
        let endpoints = service.endpoints.iter().zip(self.entries[index].clone());
        let endpoints: Vec<(String, u16)> =
            endpoints.map(|(endpoint, entry)| (endpoint.name.clone(), entry)).collect();
        for (at, (endpoint, (_, entry))) in service.endpoints.iter().zip(&endpoints).enumerate() {
            assert_eq!(self.ops.len(), usize::from(*entry), "programs lie where their entries say");
            let sidecar = |(at, sidecar): (usize, &written::Sidecar)| Op::Sidecar {
                container: at as u8 + 1,
                cost: sidecar.cost.clone(),
            };
            let busy = service.sidecars.iter().enumerate().filter(|(_, sidecar)| !sidecar.cost.is_zero());
            let sidecars: Vec<Op> = busy.map(sidecar).collect();
            let write = service.group.as_ref().filter(|group| group.writes[at]);
            if let Some(group) = &service.group {
                self.ops.push(Op::Member {
                    leader: write.is_some() || group.leader_reads,
                    write: write.is_some(),
                });
            }
            self.ops.extend(sidecars.iter().cloned());
            let part = Part::of(self.scenario, written::EndpointRef { service: index, endpoint: at });
            self.ops.extend(part.as_ref().and_then(Part::lock));
            self.program(&endpoint.steps);
            self.ops.extend(part.as_ref().and_then(Part::log));
            if let Some(group) = write {
                let others = u64::from(service.replicas.saturating_sub(1));
                self.ops.extend([Op::Cpu(Law::fixed(group.cost * others), None), Op::Replicate]);
            }
            self.ops.extend(sidecars.into_iter().rev());
            self.ops.push(Op::End);
        }
        let governed = is_governed(self.scenario, service);
        let workers = match instance.mode {
            written::Mode::Threads { workers } => workers,
            written::Mode::Async { max_in_flight } => max_in_flight,
        };
        let cpu = match instance.cpu {
            _ if governed => CpuMode::Shared,
            _ if workers <= instance.cores => CpuMode::Dedicated,
            written::CpuSharing::Fifo => CpuMode::Fifo,
            written::CpuSharing::Shared => CpuMode::Shared,
        };
        let planned = self.scenario.rollouts.iter().find(|rollout| rollout.service == index);
        let updated = planned.is_some() || switches(self.scenario, index);
        ServiceSpec {
            name: service.name.clone(),
            replicas: service.replicas,
            node_pools: service.node_pools.iter().map(|&pool| pool as u32).collect(),
            anti_affinity: service.anti_affinity,
            zone_max_skew: service.zone_max_skew,
            cores: instance.cores,
            ask: Ask {
                cpu_request: instance.cpu_request,
                cpu_limit: instance.cpu_limit,
                memory_request: instance.memory,
                memory_limit: instance.memory_limit.unwrap_or(u64::MAX),
            },
            has_quota: instance.cpu_limit.is_some()
                || service.sidecars.iter().any(|sidecar| sidecar.cpu_limit.is_some())
                || gains_quota(self.scenario, service),
            resizes: resizes(self.scenario, service),
            burst: instance.cpu_burst.map(|burst| burst_spec(burst, instance.cores)),
            governed,
            start_cpu: instance.start_cpu.clone(),
            sidecars: service.sidecars.iter().map(sidecar).collect(),
            memory_use: memory(instance),
            disk_use: instance.disk_use.map(disk),
            network_use: network(service),
            workers,
            cpu,
            queue: instance.queue.unwrap_or(u32::MAX),
            drop_when_full: instance.full == written::Full::Drop,
            order: match instance.order {
                written::Order::Fifo => Order::Fifo,
                written::Order::Lifo => Order::Lifo,
                written::Order::AdaptiveLifo(written::Standing::Waiting(least)) => {
                    Order::AdaptiveLifo(Standing::Waiting(least))
                }
                written::Order::AdaptiveLifo(written::Standing::For(time)) => {
                    Order::AdaptiveLifo(Standing::For(time))
                }
                written::Order::Priority => Order::Priority,
            },
            queue_timeout: instance.queue_timeout.clone(),
            shedding: instance.shedding.clone(),
            pull: instance.pull.clone(),
            start: instance.start.clone(),
            warm_up: instance.warm_up.map(|warm_up| (warm_up.lasts, warm_up.slowdown)),
            grace: instance.grace,
            pre_stop: instance.pre_stop,
            on_term: match instance.on_term {
                written::OnTerm::Close { lame_duck } => OnTerm::Close(lame_duck),
                written::OnTerm::Exit => OnTerm::Exit,
                written::OnTerm::Ignore => OnTerm::Ignore,
            },
            slow_down: slow_down(&instance.slow_down),
            endpoints,
            edges: self.edges(written::Thing::Service(index), &service.edges),
            limiter: service.limiter.clone(),
            autoscaler: service.autoscaler.clone(),
            recommender: service.recommender.clone(),
            activator: service.activator.map(activator),
            on_outage: service.on_outage,
            disruption_budget: service.disruption_budget,
            signals: service.signals.iter().map(signal).collect(),
            metrics: (service.metrics.period, service.metrics.window, service.metrics.delay),
            scrape_loss: service.metrics.loss,
            discovery: service.discovery.clone(),
            directory: service.directory.clone(),
            probes: Vec::new(),
            caches: service.caches.iter().map(cache).collect(),
            pools: service.pools.iter().map(connections).collect(),
            versions: service.versions.iter().map(version).collect(),
            update: planned.map_or_else(usual_update, |planned| planned.how.clone()),
            version_slot: updated.then(|| {
                *slots += 1;
                *slots - 1
            }),
            listener: listener(&service.listener),
            price: service.price,
            group: service.group.as_ref().map(|group| group_spec(self.scenario, index, group)),
        }
    }

    fn source(&mut self, index: usize, priorities: &[u8]) -> SourceSpec {
        let source = &self.scenario.sources[index];
        let entry = self.ops.len() as u16;
        self.program(&source.steps);
        self.ops.push(Op::End);
        let direct = match &self.ops[usize::from(entry)..] {
            [Op::Call(call), Op::End]
                if source.deadline.is_none() && self.calls[*call as usize].probability >= 1.0 =>
            {
                Some(*call)
            }
            _ => None,
        };
        SourceSpec {
            name: source.name.clone(),
            entry,
            direct,
            edges: self.edges(written::Thing::Source(index), &source.edges),
            clients: source.clients,
            zone: source.zone.unwrap_or_else(|| self.scenario.zones.len().max(1)) as u32,
            arrivals: arrivals(&source.arrivals),
            requests: source.requests.unwrap_or(u64::MAX),
            deadline: self.ring(source.deadline),
            propagate_deadline: source.propagate_deadline,
            carries: carried(&source.carries, self.scenario.attributes.len()),
            priority: priorities.iter().position(|&priority| priority == source.priority).unwrap_or(0) as u8,
        }
    }

    fn topic(&mut self, topic: &written::Topic) -> TopicSpec {
        // Who forgets a message when it is sent waits for nothing.
        let waits = topic.delivery.guarantee != Guarantee::AtMostOnce;
        TopicSpec {
            name: topic.name.clone(),
            publish: topic.publish.clone(),
            delivery: topic.delivery,
            ack_timeout: topic.ack_timeout,
            ring: self.ring(waits.then_some(topic.ack_timeout)),
            partitions: if topic.ordered { topic.partitions } else { 0 },
            keys: Zipf::new(topic.keys, topic.zipf),
            length: topic.length,
            full: match topic.full {
                written::TopicFull::Reject => TopicFull::Reject,
                written::TopicFull::DropOldest => TopicFull::DropOldest,
                written::TopicFull::DropNewest => TopicFull::DropNewest,
            },
            loss: topic.loss,
            retention: topic.retention,
            consumers: topic
                .consumers
                .iter()
                .map(|consumer| ConsumerSpec {
                    service: consumer.endpoint.service as u32,
                    entry: self.entries[consumer.endpoint.service][consumer.endpoint.endpoint],
                    concurrency: consumer.concurrency,
                })
                .collect(),
        }
    }

    fn probe(&mut self, probe: &written::Probe, service: usize) -> ProbeSpec {
        let ask = self.ask(&probe.work, probe.settings.timeout(), service);
        ProbeSpec { kind: probe.kind, settings: probe.settings, ask }
    }

    fn checks(&mut self, specs: &mut [EdgeSpec], edges: &[written::Edge]) {
        for (spec, edge) in specs.iter_mut().zip(edges) {
            spec.check = edge.health_check.as_ref().map(|check| {
                let timeout = check.detector.build(Time::ZERO).timeout();
                CheckSpec { detector: check.detector.clone(), ask: self.ask(&check.work, timeout, edge.to) }
            });
        }
    }

    fn ask(&mut self, work: &written::ProbeWork, timeout: Duration, service: usize) -> AskSpec {
        let entry = match work {
            written::ProbeWork::OwnPort => None,
            written::ProbeWork::Endpoint(at) => Some(self.entries[service][*at]),
            written::ProbeWork::Cost(cost) => {
                let entry = self.ops.len() as u16;
                if !cost.is_zero() {
                    self.ops.push(Op::Cpu(cost.clone(), None));
                }
                self.ops.push(Op::End);
                Some(entry)
            }
        };
        AskSpec { entry, ring: self.ring(Some(timeout)) }
    }

    /// Compiles the steps of one program.
    fn program(&mut self, steps: &[written::Step]) {
        // `cache` and `pool` wrap the next step, and may wrap each other.
        let mut wrappers: Vec<Wrapper> = Vec::new();
        for step in steps {
            match step {
                written::Step::Cache(cache) => {
                    wrappers.push(Wrapper::Cache { cache: *cache as u16, lookup: self.ops.len() });
                    self.ops.push(Op::CacheLookup { cache: *cache as u16, skip_to: 0 });
                    continue;
                }
                written::Step::Pool(pool) => {
                    wrappers.push(Wrapper::Pool(*pool as u16));
                    self.ops.push(Op::Acquire { pool: *pool as u16 });
                    continue;
                }
                written::Step::Publish { topic, probability } => {
                    self.ops.push(Op::Publish { topic: *topic as u16, probability: *probability });
                }
                written::Step::Transaction { transaction, calls } => {
                    let mut role =
                        |call: &Option<written::Call>| call.as_ref().map_or(u32::MAX, |call| self.call(call));
                    let calls = calls
                        .iter()
                        .map(|[prepare, commit, abort]| [role(prepare), role(commit), role(abort)]);
                    let calls = calls.collect();
                    self.ops.push(Op::Transaction { transaction: *transaction as u16, calls });
                }
                written::Step::Cpu(demand) => {
                    self.ops.push(Op::Cpu(demand.request.clone(), demand.attempt.clone().map(Box::new)));
                }
                written::Step::Wait(demand) => {
                    self.ops.push(Op::Wait(demand.request.clone(), demand.attempt.clone().map(Box::new)));
                }
                written::Step::Call(call) => {
                    let call = self.call(call);
                    self.ops.push(Op::Call(call));
                }
                written::Step::Choose(shares) => {
                    let mut upto = 0.0;
                    let mut list = Vec::new();
                    for (share, call) in shares {
                        upto += share;
                        list.push((upto, self.call(call)));
                    }
                    self.ops.push(Op::Choose(list.into()));
                }
                written::Step::Route { attribute, calls, to, otherwise } => {
                    let calls: Vec<u32> = calls.iter().map(|call| self.call(call)).collect();
                    self.ops.push(Op::Route {
                        attribute: *attribute as u16,
                        to: to.iter().map(|&at| calls[at]).collect(),
                        otherwise: calls[*otherwise],
                    });
                }
                written::Step::Parallel { calls, need } => {
                    let calls = calls.iter().map(|call| self.call(call)).collect();
                    self.ops.push(Op::Parallel { calls, need: *need as u16 });
                }
            }
            for wrapper in wrappers.drain(..).rev() {
                match wrapper {
                    Wrapper::Pool(pool) => self.ops.push(Op::Release { pool }),
                    Wrapper::Cache { cache, lookup } => {
                        self.ops.push(Op::CacheFill { cache });
                        self.ops[lookup] = Op::CacheLookup { cache, skip_to: self.ops.len() as u16 };
                    }
                }
            }
        }
    }

    /// The calling sides of a service or source.
    fn edges(&mut self, of: written::Thing, edges: &[written::Edge]) -> Vec<EdgeSpec> {
        let scenario = self.scenario;
        let throttled = |at: usize| {
            scenario.actions.iter().any(|action| match action.what {
                written::Operation::ThrottleCalls { caller, edge, .. } => caller == of && edge == at,
                _ => false,
            })
        };
        edges.iter().enumerate().map(|(at, written)| self.edge(written, throttled(at))).collect()
    }

    fn call(&mut self, call: &written::Call) -> u32 {
        let ring = self.ring(call.timeout);
        self.calls.push(CallSpec {
            service: call.to.service as u32,
            entry: self.entries[call.to.service][call.to.endpoint],
            edge: call.edge as u16,
            probability: call.probability,
            ring,
        });
        self.calls.len() as u32 - 1
    }

    fn edge(&mut self, edge: &written::Edge, throttled: bool) -> EdgeSpec {
        let callee = &self.scenario.services[edge.to];
        EdgeSpec {
            to: edge.to as u32,
            stack: stack(&edge.policies, NO_RING),
            above: edge
                .levels
                .iter()
                .rev()
                .map(|level| {
                    let ring = ring(&mut self.level_rings, level.timeout);
                    stack(&level.policies, ring)
                })
                .collect(),
            deadline: match edge.propagate_deadline {
                None => Deadline::Pass,
                Some(true) => Deadline::Set,
                Some(false) => Deadline::Stop,
            },
            balancer: edge.balancer.clone(),
            affinity: edge.affinity.map(|at| at as u16),
            cookie: edge.cookie,
            outlier: edge.outlier.clone(),
            check: None,
            host_selection: edge.host_selection.clone(),
            callee: (callee.name.as_str().into(), callee.weights.clone().into()),
            shared: edge.sharing == written::Sharing::Service,
            connections: None,
            throttled,
            leads: callee.group.is_some(),
        }
    }

    /// The ring of a constant delay.
    fn ring(&mut self, delay: Option<Duration>) -> u8 {
        ring(&mut self.rings, delay)
    }
}

/// The ring of a constant delay among `rings`.
fn ring(rings: &mut Vec<Duration>, delay: Option<Duration>) -> u8 {
    let Some(delay) = delay else { return NO_RING };
    let found = rings.iter().position(|ring| *ring == delay);
    let at = found.unwrap_or_else(|| {
        rings.push(delay);
        rings.len() - 1
    });
    at as u8
}

fn stack(policies: &written::EdgePolicies, ring: u8) -> StackSpec {
    StackSpec {
        cancel: policies.cancel,
        ring,
        retry: policies.retry.clone(),
        hedge: policies.hedge.clone(),
        budget: policies.retry_budget.clone(),
        breaker: policies.breaker.clone(),
        limiter: policies.limiter.clone(),
    }
}

/// What an endpoint does for the one transaction that it has a part in, beside its steps.
struct Part {
    transaction: u16,
    prepares: bool,
    /// A forced write at its end.
    log: Option<Law>,
}

impl Part {
    fn of(scenario: &written::Scenario, at: written::EndpointRef) -> Option<Self> {
        let mut parts = (0..).zip(&scenario.transactions).flat_map(|(transaction, one)| {
            one.participants.iter().map(move |participant| (transaction, one, participant))
        });
        let (transaction, one, participant) =
            parts.find(|(_, _, participant)| participant.endpoints().any(|endpoint| endpoint == at))?;
        let presumes_abort = match &one.how {
            TransactionSettings::TwoPhaseCommit(settings) => settings.presumption() == Presumption::Abort,
            TransactionSettings::Saga(_) => false,
        };
        let forces = participant.abort != at || !presumes_abort;
        Some(Self {
            transaction,
            prepares: participant.prepare == at,
            log: Some(&one.log).filter(|log| forces && !log.is_zero()).cloned(),
        })
    }

    fn length(&self) -> u16 {
        u16::from(self.prepares) + u16::from(self.log.is_some())
    }

    fn lock(&self) -> Option<Op> {
        self.prepares.then_some(Op::Lock { transaction: self.transaction })
    }

    fn log(&self) -> Option<Op> {
        Some(Op::Wait(self.log.clone()?, None))
    }
}

fn transaction(transaction: &written::Transaction) -> TransactionSpec {
    TransactionSpec {
        name: transaction.name.clone(),
        how: transaction.how.clone(),
        log: transaction.log.clone(),
        participants: transaction
            .participants
            .iter()
            .map(|one| ParticipantSpec {
                service: one.prepare.service as u32,
                rows: Zipf::new(one.rows, one.zipf),
                lock_timeout: one.lock_timeout,
            })
            .collect(),
    }
}

enum Wrapper {
    Cache { cache: u16, lookup: usize },
    Pool(u16),
}

/// Ops of a program: its steps, a closing op for each `cache` and `pool`, and the end.
fn program_length(steps: &[written::Step]) -> u16 {
    let wraps = steps.iter().filter(|step| matches!(step, written::Step::Cache(_) | written::Step::Pool(_)));
    (steps.len() + wraps.count() + 1) as u16
}

/// With deadlines everywhere nothing is worth waiting for beyond the longest; otherwise the run may drain as long again.
fn horizon(end: Time, scenario: &written::Scenario) -> Time {
    let longest = scenario.sources.iter().map(|source| source.deadline).collect::<Option<Vec<_>>>();
    match longest.and_then(|deadlines| deadlines.into_iter().max()) {
        Some(deadline) => end + deadline,
        None => Time(end.0.saturating_mul(2)) + Duration::from_secs(600),
    }
}

/// One-way delays by (from, to); the last row and column are the outside.
fn latency(scenario: &written::Scenario) -> Vec<Law> {
    let network = &scenario.network;
    let zones = scenario.zones.len().max(1);
    let between = |from: usize, to: usize| {
        let link = network.links.iter().find(|link| link.between == (from, to) || link.between == (to, from));
        match link {
            _ if from == zones || to == zones => &network.outside,
            Some(link) => &link.latency,
            None if from == to => &network.same_zone,
            None => &network.cross_zone,
        }
    };
    (0..=zones)
        .flat_map(|from| (0..=zones).map(move |to| (from, to)))
        .map(|(from, to)| between(from, to).clone())
        .collect()
}

/// Whether the instances on a node of this pool could together use more cores than it has: one of them may use more than it
/// asks for, or something beside them takes cores away. The
/// scenario may say otherwise.
fn shares_cpu(scenario: &written::Scenario, pool: usize) -> bool {
    let bursts = |service: &written::Service| {
        let own = &service.instance;
        let uses_more = |cores: u32, limit: Option<f64>, request: f64| {
            f64::from(cores).min(limit.unwrap_or(f64::INFINITY)) > request
        };
        service.node_pools.contains(&pool)
            && (resizes(scenario, service)
                || uses_more(own.cores, own.cpu_limit, own.cpu_request)
                || service.sidecars.iter().any(|sidecar| {
                    !sidecar.cost.is_zero()
                        && uses_more(sidecar.cores, sidecar.cpu_limit, sidecar.cpu_request)
                }))
    };
    let disturbed = |fault: &written::Fault| match fault.what {
        written::Trouble::NoisyNeighbour { pool: at, .. } => at == pool,
        _ => false,
    };
    let could = || scenario.services.iter().any(bursts) || scenario.faults.iter().any(disturbed);
    scenario.node_pools[pool].share_cpu.unwrap_or_else(could)
}

/// What operators give the instances of a service.
fn resized<'a>(
    scenario: &'a written::Scenario,
    service: &'a written::Service,
) -> impl Iterator<Item = &'a written::Resize> {
    scenario.actions.iter().filter_map(|action| match &action.what {
        written::Operation::Resize { service: at, to } if scenario.services[*at].name == service.name => {
            Some(to)
        }
        _ => None,
    })
}

/// Whether what the instances of a service ask for may change while the run lasts.
fn resizes(scenario: &written::Scenario, service: &written::Service) -> bool {
    let advised = service.recommender.as_ref().is_some_and(|settings| {
        let mode = settings.build(Time::ZERO).updater().mode;
        mode != UpdateMode::Off
    });
    advised || resized(scenario, service).next().is_some()
}

/// Whether a service may come to another version without a plan.
fn switches(scenario: &written::Scenario, service: usize) -> bool {
    let switches = |action: &written::Action| matches!(action.what, written::Operation::Switch { service: of, .. } if of == service);
    scenario.actions.iter().any(switches)
        || scenario.rollbacks.iter().any(|rollback| rollback.service == service)
}

/// How a Deployment moves unless somebody says otherwise.
fn usual_update() -> RolloutSettings {
    RolloutSettings::Rolling(RollingSettings::default())
}

/// Whether an operator gives the instances of a service a quota.
fn gains_quota(scenario: &written::Scenario, service: &written::Service) -> bool {
    resized(scenario, service).any(|to| to.cpu_limit.is_some())
}

/// Whether something bounds the cores of a service's instances besides their number.
fn is_governed(scenario: &written::Scenario, service: &written::Service) -> bool {
    let instance = &service.instance;
    instance.cpu_limit.is_some()
        || gains_quota(scenario, service)
        || instance.cpu_burst.is_some()
        || instance.gc.is_some()
        || instance.start_cpu.is_some()
        || service.sidecars.iter().any(|sidecar| !sidecar.cost.is_zero())
        || service.node_pools.iter().any(|&pool| shares_cpu(scenario, pool))
}

fn sidecar(sidecar: &written::Sidecar) -> SidecarSpec {
    SidecarSpec {
        name: sidecar.name.clone(),
        cores: sidecar.cores,
        cpu_request: sidecar.cpu_request,
        cpu_limit: sidecar.cpu_limit,
        memory: sidecar.memory,
    }
}

fn memory(instance: &written::Instance) -> Option<MemorySpec> {
    let used = match (instance.memory_use, &instance.gc) {
        (None, None) => return None,
        (used, _) => used.unwrap_or_default(),
    };
    let gc = instance.gc.as_ref().map(|gc| GcSpec {
        per_request: gc.per_request,
        young: gc.young,
        pause: gc.pause.clone(),
        per_gib: gc.per_gib,
    });
    Some(MemorySpec {
        base: used.base,
        per_attempt: used.per_attempt,
        leak_per_request: used.leak_per_request,
        leak_per_hour: used.leak_per_hour,
        gc,
    })
}

fn burst_spec(burst: written::CpuBurst, cores: u32) -> BurstSpec {
    BurstSpec {
        // A share of at least 2^-32 of each core.
        baseline: ((burst.baseline * 2f64.powi(32)) as u64).max(1) * u64::from(cores),
        credits: burst.credits,
        max: burst.max,
    }
}

fn disk(disk: written::DiskUse) -> DiskSpec {
    DiskSpec {
        size: disk.size,
        base: disk.base,
        per_request: disk.per_request,
        per_hour: disk.per_hour,
        evict_at: disk.pressure.map(|share| (disk.size as f64 * share) as u64),
    }
}

/// Bytes in and out by endpoint, if any of them says so.
fn network(service: &written::Service) -> Vec<(u64, u64)> {
    let endpoints = service.endpoints.iter();
    let used = endpoints.map(|endpoint| endpoint.network_use);
    if used.clone().all(|used| used.is_none()) {
        return Vec::new();
    }
    used.map(|used| used.map_or((0, 0), |used| (used.bytes_in, used.bytes_out))).collect()
}

fn pool(scenario: &written::Scenario, at: usize) -> PoolSpec {
    let pool = &scenario.node_pools[at];
    PoolSpec {
        name: pool.name.clone(),
        nodes: pool.nodes,
        cores: pool.cores,
        memory: pool.memory,
        zones: pool.zones.iter().map(|&zone| zone as u32).collect(),
        price: pool.price,
        scales: pool.scales,
        boot: pool.boot.clone(),
        max_pods: pool.max_pods,
        rank: pool.rank,
        disk: pool.disk,
        shares_cpu: shares_cpu(scenario, at),
    }
}

fn listener(listener: &written::Listener) -> ListenerSpec {
    ListenerSpec {
        idle_timeout: listener.idle_timeout,
        max_age: listener.max_age.clone(),
        max_requests: listener.max_requests,
        max_connections: listener.max_connections,
    }
}

fn attribute(attribute: &written::Attribute) -> AttributeSpec {
    AttributeSpec {
        salt: Key(0).named("attribute").named(&attribute.name).0,
        values: attribute.values.clone(),
    }
}

/// What the requests of a source carry, for each attribute.
fn carried(carries: &[(usize, written::Carried)], attributes: usize) -> Vec<Carried> {
    let mut all = vec![Carried::Nothing; attributes];
    for (at, how) in carries {
        all[*at] = match how {
            written::Carried::Number { count, zipf } => Carried::Number(Zipf::new(*count, *zipf)),
            written::Carried::Named(shares) => {
                let mut upto = 0.0;
                let cumulate = |&(share, value): &(f64, usize)| {
                    upto += share;
                    (upto, value as u32)
                };
                Carried::Named(shares.iter().map(cumulate).collect())
            }
            written::Carried::User => Carried::User,
        };
    }
    all
}

const fn activator(activator: written::Activator) -> ActivatorSpec {
    let written::Activator { capacity, timeout, per_instance } = activator;
    ActivatorSpec { capacity, timeout, per_instance }
}

fn cache(cache: &written::Cache) -> CacheSpec {
    CacheSpec {
        name: cache.name.clone(),
        keys: cache.keys,
        zipf: cache.zipf,
        capacity: cache.capacity.unwrap_or(u64::MAX),
        ttl: cache.ttl.unwrap_or(Duration::MAX),
        local: cache.local,
        single_flight: cache.single_flight,
    }
}

fn connections(pool: &written::Pool) -> ConnectionPoolSpec {
    ConnectionPoolSpec { name: pool.name.clone(), size: pool.size, max_wait: pool.max_wait }
}

fn version(version: &written::Version) -> VersionSpec {
    VersionSpec {
        name: version.name.clone(),
        demand: version.demand,
        error_rate: version.error_rate,
        image: version.image,
        start: version.start,
        leak_per_hour: version.leak_per_hour,
        crash_loop: version.crash_loop.clone(),
        parent: version.parent.map(|parent| parent as u8),
    }
}

/// Factors by number of attempts inside, far enough that the last one holds for any beyond.
fn slow_down(slow_down: &written::SlowDown) -> Vec<f64> {
    match slow_down {
        written::SlowDown::None => Vec::new(),
        written::SlowDown::Table(table) => table.clone(),
        written::SlowDown::Usl { alpha, beta } => (0..4096)
            .map(|others| {
                let n = f64::from(others);
                1.0 + alpha * n + beta * n * (n + 1.0)
            })
            .collect(),
    }
}

fn arrivals(arrivals: &written::Arrivals) -> Arrivals {
    let rate = |profile: &written::Profile| Rate {
        points: profile.points.clone(),
        linear: profile.linear,
        sine: profile.sinusoid.map(|sine| (sine.amplitude, sine.period, sine.phase)),
    };
    match arrivals {
        written::Arrivals::Poisson(profile) => Arrivals::Poisson(rate(profile)),
        written::Arrivals::Deterministic(profile) => Arrivals::Deterministic(rate(profile)),
        written::Arrivals::Renewal(gap) => Arrivals::Renewal(gap.clone()),
        written::Arrivals::Mmpp(states) => Arrivals::Mmpp(states.clone()),
        written::Arrivals::Trace(times) => Arrivals::Trace(times.clone()),
        written::Arrivals::Users(users) => Arrivals::Users {
            count: users.count,
            think: users.think.clone(),
            leave: users.leave,
            away: users.away.clone(),
        },
    }
}

fn fault(fault: &written::Fault) -> FaultSpec {
    let pair = |pair: &(usize, usize)| (pair.0 as u32, pair.1 as u32);
    let target = |target: &written::Target| Target { service: target.service as u32, count: target.count };
    FaultSpec {
        name: fault.name.clone(),
        when: match &fault.when {
            written::When::At { at, lasts } => When::At(*at, *lasts),
            written::When::Drawn { mtbf, mttr, crew } => {
                When::Drawn { mtbf: mtbf.clone(), mttr: mttr.clone(), crew: crew.unwrap_or(u32::MAX) }
            }
            written::When::Trace(entries) => When::Trace(entries.clone()),
        },
        what: match &fault.what {
            written::Trouble::Crash(at) => Trouble::Crash(target(at)),
            written::Trouble::Slow(at, factor) => Trouble::Slow(target(at), *factor),
            written::Trouble::ErrorRate(at, rate) => Trouble::ErrorRate(target(at), *rate),
            written::Trouble::Hang(at) => Trouble::Hang(target(at)),
            written::Trouble::NodeLoss { pool, count, spreads } => {
                Trouble::NodeLoss { pool: *pool as u32, count: *count, spreads: *spreads }
            }
            written::Trouble::SpotReclaim { pool, count, notice } => {
                Trouble::SpotReclaim { pool: *pool as u32, count: *count, notice: *notice }
            }
            written::Trouble::ProvisioningOutage { pool } => {
                Trouble::ProvisioningOutage(pool.map(|pool| pool as u32))
            }
            written::Trouble::RegistryOutage => Trouble::RegistryOutage,
            written::Trouble::DnsOutage => Trouble::DnsOutage,
            written::Trouble::DiscoveryOutage { service } => Trouble::DiscoveryOutage(*service as u32),
            written::Trouble::ZoneLoss { zone } => Trouble::ZoneLoss(*zone as u32),
            written::Trouble::Partition { between } => {
                let (a, b) = pair(between);
                Trouble::Partition(a, b)
            }
            written::Trouble::PacketLoss { between, rate } => {
                Trouble::PacketLoss(between.as_ref().map(pair), *rate)
            }
            written::Trouble::AddedLatency { between, latency } => {
                Trouble::AddedLatency(between.as_ref().map(pair), latency.clone())
            }
            written::Trouble::NoisyNeighbour { pool, count, cores } => {
                Trouble::NoisyNeighbour { pool: *pool as u32, count: *count, cores: *cores }
            }
            written::Trouble::MemoryLeak(at, per_hour) => Trouble::MemoryLeak(target(at), *per_hour),
            written::Trouble::DiskFull(at) => Trouble::DiskFull(target(at)),
            written::Trouble::BadConfig { config, version } => {
                Trouble::BadConfig(*config as u32, *version as u8)
            }
            written::Trouble::Outage { service } => Trouble::Outage(*service as u32),
            written::Trouble::BrokerOutage { topic } => Trouble::BrokerOutage(*topic as u32),
            written::Trouble::CrashCoordinator { transaction, decided } => {
                Trouble::CrashCoordinator(*transaction as u32, *decided)
            }
        },
    }
}

fn operation(action: &written::Action, entries: &[Vec<u16>]) -> Operation {
    match &action.what {
        written::Operation::Scale { service, replicas } => Operation::Scale(*service as u32, *replicas),
        written::Operation::Throttle { source, share } => Operation::Throttle(*source as u32, *share),
        written::Operation::Resize { service, to } => {
            let written::Resize { cpu_request, cpu_limit, memory, memory_limit } = *to;
            Operation::Resize(*service as u32, Resize { cpu_request, cpu_limit, memory, memory_limit })
        }
        written::Operation::Rollout { service, act } => Operation::Rollout(*service as u32, *act),
        written::Operation::Switch { service, to } => {
            Operation::Switch(*service as u32, to.map(|to| to as u8))
        }
        written::Operation::Publish(publish) => Operation::Publish(Publish {
            config: publish.config as u32,
            version: publish.version as u8,
            environment: publish.environment.map(|at| at as u32),
            share: publish.share,
            soak: publish.soak,
            batch: publish.batch.as_ref().map(|batch| BatchSpec {
                size: batch.size,
                takes: batch.takes.clone(),
                failure_rate: batch.failure_rate,
                retries: batch.retries,
                pause: batch.pause,
                max_failed: batch.max_failed,
            }),
        }),
        written::Operation::Undo { service, revision } => Operation::Undo(*service as u32, *revision),
        written::Operation::Forward { topic, on } => Operation::Forward(*topic as u32, *on),
        written::Operation::Replay { topic, before } => Operation::Replay(*topic as u32, *before),
        written::Operation::PromoteMember { service, seat } => {
            Operation::PromoteMember(*service as u32, *seat)
        }
        written::Operation::Restore { service, backup_age, log_age, takes } => Operation::Restore {
            service: *service as u32,
            backup_age: *backup_age,
            log_age: *log_age,
            takes: *takes,
        },
        written::Operation::Drain { lasts } => Operation::Drain { lasts: *lasts },
        written::Operation::ThrottleCalls { caller, edge, share } => {
            Operation::ThrottleCalls(thing(*caller), *edge as u32, *share)
        }
        written::Operation::Degrade { endpoint, cost } => {
            Operation::Degrade(entries[endpoint.service][endpoint.endpoint], *cost)
        }
        written::Operation::KillSwitch { endpoint, on } => {
            Operation::KillSwitch(entries[endpoint.service][endpoint.endpoint], *on)
        }
    }
}

fn group_spec(scenario: &written::Scenario, service: usize, group: &written::Group) -> GroupSpec {
    let restores = |action: &written::Action| match action.what {
        written::Operation::Restore { service: of, .. } => of == service,
        _ => false,
    };
    GroupSpec {
        election: group.election.clone(),
        lock_zone: group.lock_zone.unwrap_or_else(|| scenario.zones.len().max(1)) as u32,
        mode: match group.mode {
            written::ReplicationMode::Asynchronous => ReplicationMode::Asynchronous,
            written::ReplicationMode::Quorum => ReplicationMode::Quorum,
            written::ReplicationMode::Synchronous => ReplicationMode::Synchronous,
        },
        lag: group.lag.clone(),
        reconnect: group.reconnect.clone(),
        announce: group.announce.clone(),
        must_catch_up: group.must_catch_up,
        sync_rate: group.sync_rate,
        backups: scenario.actions.iter().any(restores),
    }
}

fn rollout(plan: &written::RolloutPlan) -> RolloutSpec {
    RolloutSpec { at: plan.at, service: plan.service as u32, to: plan.to as u8, how: plan.how.clone() }
}

fn config(config: &written::Config) -> ConfigSpec {
    ConfigSpec {
        name: config.name.clone(),
        environments: config.environments.iter().map(|(name, at)| (name.clone(), *at as u32)).collect(),
        delay: config.delay.clone(),
        encryption: config.encryption,
        restart: config.restart,
        versions: config
            .versions
            .iter()
            .map(|version| ConfigVersionSpec {
                name: version.name.clone(),
                error_rate: version.error_rate,
                demand: version.demand,
            })
            .collect(),
    }
}

fn rollback(plan: &written::RollbackPlan) -> RollbackSpec {
    RollbackSpec {
        name: plan.name.clone(),
        service: plan.service as u32,
        every: plan.every,
        window: plan.window,
        least: plan.least,
        settings: plan.settings,
        alert: plan.alert.map(|alert| alert as u32),
        by: plan.by.clone(),
    }
}

/// What answers a query of an autoscaler.
fn signal(signal: &written::Signal) -> Signal {
    match *signal {
        written::Signal::Cpu => Signal::Cpu,
        written::Signal::ContainerCpu(at) => Signal::ContainerCpu(at as u8),
        written::Signal::Memory => Signal::Memory,
        written::Signal::Concurrency => Signal::Concurrency,
        written::Signal::QueueLength => Signal::QueueLength,
        written::Signal::DiskBytes => Signal::DiskBytes,
        written::Signal::DiskUtilization => Signal::DiskUtilization,
        written::Signal::Network => Signal::Network,
        written::Signal::Of(of, what) => Signal::Of(thing(of), gauge(what)),
    }
}

fn thing(thing: written::Thing) -> Thing {
    match thing {
        written::Thing::Service(at) => Thing::Service(at as u32),
        written::Thing::Source(at) => Thing::Source(at as u32),
    }
}

fn gauge(gauge: written::Gauge) -> Gauge {
    match gauge {
        written::Gauge::Rate => Gauge::Rate,
        written::Gauge::Concurrency => Gauge::Concurrency,
        written::Gauge::QueueLength => Gauge::QueueLength,
        written::Gauge::Utilization => Gauge::Utilization,
        written::Gauge::BadRatio => Gauge::BadRatio,
        written::Gauge::MeanTime => Gauge::MeanTime,
        written::Gauge::MemoryUtilization => Gauge::MemoryUtilization,
        written::Gauge::DiskUtilization => Gauge::DiskUtilization,
        written::Gauge::Network => Gauge::Network,
    }
}

fn alert(alert: &written::Alert) -> AlertSpec {
    AlertSpec {
        name: alert.name.clone(),
        on: (thing(alert.on.0), gauge(alert.on.1)),
        rule: alert.rule,
        window: alert.window,
        every: alert.every,
    }
}

fn prediction(prediction: &written::Prediction) -> PredictionSpec {
    PredictionSpec {
        name: prediction.name.clone(),
        fault: prediction.fault as u32,
        lead: prediction.lead.clone(),
        hit_rate: prediction.hit_rate,
        false_alarms: prediction.false_alarms,
    }
}

fn action_time(when: written::ActionTime) -> ActionTime {
    match when {
        written::ActionTime::At(at) => ActionTime::At(at),
        written::ActionTime::OnAlert { alert, after } => ActionTime::OnAlert { alert: alert as u32, after },
        written::ActionTime::OnPrediction { prediction, after } => {
            ActionTime::OnPrediction { prediction: prediction as u32, after }
        }
        written::ActionTime::OnResolved { alert, after } => {
            ActionTime::OnResolved { alert: alert as u32, after }
        }
    }
}
