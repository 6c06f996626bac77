//! Rare events: everything that is not a request. Control loops see the world late, through scrapes.

use std::sync::Arc;

use crate::kernel::queue::{Payload, Queue};
use crate::policies::autoscaler::{Autoscaler, Explain, Fleet, Pod};
use crate::policies::detector::Probe;
use crate::policies::view::{Class, Slot};
use crate::random::Key;
use crate::time::{Duration, Time};

use super::backlog::BacklogTicket;
use super::call::Expiry;
use super::config::Delivery;
use super::connection::{Tie, Word};
use super::group::Affair;
use super::hedge::TieTicket;
use super::predict::Forecast;
use super::program::PoolTicket;
use super::provisioning::Drain;
use super::report::{Decision, Step};
use super::spec::{Operation, Thing};
use super::topic::TopicEvent;
use super::transaction::TransactionEvent;
use super::{CONTROL, Flow, World};

/// What a rare event says.
#[derive(Clone, Debug)]
pub(super) enum Control {
    /// An instance's process runs and answers its readiness probe.
    Ready(u32),
    /// The hook of an instance that was told then to stop is over: SIGTERM, and so long after it the end ...
    Terminate {
        /// Which.
        instance: u32,
        /// When.
        told_at: Time,
        /// What is left of its grace period.
        left: Duration,
    },
    /// ... it takes nothing new any more ...
    Close(u32, Time),
    /// ... and its grace period is over.
    Kill(u32, Time),
    /// The memory of an instance may be too much.
    OutOfMemory(u32),
    /// The process of an instance that has been restarted so often ends by itself.
    CrashLoop(u32, u32),
    /// The disk of an instance may be (nearly) full.
    DiskPressure(u32),
    /// A client learns of an endpoint ...
    Learn(u32, Slot),
    /// ... or that it is gone.
    Forget(u32, Slot),
    /// A client sweeps its endpoints for outliers.
    Sweep(u32),
    /// A probe is due ...
    Probe(u32),
    /// ... and its answer has come, or none in time.
    Probed(u32, Probe),
    /// An instance sends a heartbeat to the registry.
    Beat(u32),
    /// The registry of a service does its own work.
    Census(u32),
    /// A client fetches the list of a registry.
    Fetch(u32),
    /// The control plane tells the registry of a service that an endpoint is gone.
    Report(u32, Slot),
    /// Instances of a lost node are given up.
    Evict(u32),
    /// What a disruption budget refused is tried again.
    Drain(Drain),
    /// A service's control loop ticks.
    Autoscale(u32),
    /// A service's control loop is woken before its time.
    Poke(u32),
    /// A service's control loop samples for itself.
    Sample(u32),
    /// Attempts that wait at an activator may go out ...
    Release(u32),
    /// ... or have waited for too long.
    Overdue(u32),
    /// A service's recommender ticks ...
    Recommend(u32),
    /// ... and its updater.
    Update(u32),
    /// Instances of a service that waited for room get their new size.
    Fit(u32),
    /// The provisioner looks at the cluster.
    Provision,
    /// The provisioning service is done with a node ...
    Provisioned(u32),
    /// ... which has taken too long ...
    OrderTimeout(u32),
    /// ... or has booted.
    NodeReady(u32),
    /// The owner of a node takes it back.
    TakeBack(u32),
    /// An instance tries to pull its image again.
    Pull(u32),
    /// The pull that ends next has ended, unless others have come or gone since this was announced.
    Pulled(u32),
    /// The metrics of a service are read.
    Scrape(u32),
    /// A timeline window ends.
    Window,
    /// A ten-second look at the objective.
    Recovery,
    /// The counted part begins.
    WarmUp,
    /// The counted part ends.
    End,
    /// A scheduled fault strikes.
    Strike(u32),
    /// A fault ends for its targets.
    Relieve(u32),
    /// A drawn fault strikes one of its targets ...
    Fail(u32, u32),
    /// ... and its repair is done.
    Repaired(u32, u32),
    /// Monitoring looks at an alert.
    Look(u32),
    /// An operator acts.
    Act(u32),
    /// A failure is predicted ...
    Foresee(Forecast),
    /// ... and an operator moves everything away from the nodes or instances, ...
    Evacuate {
        /// Nodes, or instances.
        nodes: bool,
        /// Which.
        targets: Vec<u32>,
        /// How long nodes take nothing new.
        until: Time,
    },
    /// ... until the node may take something again.
    Uncordon(u32),
    /// An attempt found no answer at a service.
    StartAnother(u32),
    /// Something about a publication.
    Config(Delivery),
    /// Whoever takes changes back looks.
    Watch(u32),
    /// A planned rollout starts.
    Rollout(u32),
    /// The rollout of a service wants to be asked again.
    Sync(u32),
    /// Those whom the update of a version slot has held may go on.
    Ungate(u32),
    /// An attempt has waited long enough for a connection ...
    PoolWait(PoolTicket),
    /// Something may have to be done about a connection between services.
    Connection(Tie),
    /// Its client hears from the other end.
    Word(Tie, Word),
    /// A client may set up connections to a place again.
    Fill(u32, u32),
    /// ... or a call for room at its limiter.
    Unblock(BacklogTicket),
    /// Word of a tied call's copy that has started reaches the others.
    CallOff(TieTicket),
    /// Whoever sent an errand hears how it ended.
    Errand(u32, Class),
    /// Something is due at a topic ...
    Topic(TopicEvent),
    /// ... or in a transaction.
    Transaction(TransactionEvent),
    /// The deadline of what goes on for nobody.
    Expire(Expiry),
    /// Something happens in the group of a service.
    Group(u32, Affair),
}

/// Writes down what a control loop explains.
#[derive(Default)]
struct Steps(Vec<Step>, Option<Arc<str>>);

impl Explain for Steps {
    fn about(&mut self, metric: &str) {
        self.1 = (!metric.is_empty()).then(|| metric.into());
    }

    fn step(&mut self, what: &'static str, value: f64) {
        self.0.push(Step { metric: self.1.clone(), what, value });
    }
}

impl World<'_> {
    /// Schedules a rare event.
    pub(super) fn schedule(&mut self, queue: &mut Queue, at: Time, control: Control) {
        let slot =
            self.controls.insert(Some(control)).expect("2^24 rare events are never pending at one moment");
        queue.push(at, Payload::new(CONTROL, slot));
    }

    /// A rare event happens.
    pub(super) fn on_control(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Flow {
        let control = self.controls[slot].take().expect("a rare event happens once");
        self.controls.remove(slot);
        match control {
            Control::Ready(instance) => self.on_ready(now, queue, instance),
            Control::Terminate { instance, told_at, left } => {
                self.terminate(now, queue, instance, told_at, left)
            }
            Control::Close(instance, told_at) => self.close_door(now, queue, instance, told_at),
            Control::Kill(instance, told_at) => self.grace_over(now, queue, instance, told_at),
            Control::OutOfMemory(instance) => self.on_out_of_memory(now, queue, instance),
            Control::CrashLoop(instance, restarts) => self.on_crash_loop(now, queue, instance, restarts),
            Control::DiskPressure(instance) => self.on_disk_pressure(now, queue, instance),
            Control::Learn(outbound, slot) => {
                self.learn(now, queue, outbound, slot);
                Ok(())
            }
            Control::Forget(outbound, slot) => {
                self.forget(now, queue, outbound, slot);
                Ok(())
            }
            Control::Sweep(outbound) => {
                self.on_sweep(now, queue, outbound);
                Ok(())
            }
            Control::Probe(prober) => self.on_probe_due(now, queue, prober),
            Control::Probed(prober, result) => self.on_probed(now, queue, prober, result),
            Control::Beat(instance) => {
                self.on_beat(now, queue, instance);
                Ok(())
            }
            Control::Census(service) => {
                self.on_census(now, queue, service);
                Ok(())
            }
            Control::Fetch(outbound) => {
                self.on_fetch(now, queue, outbound);
                Ok(())
            }
            Control::Report(service, slot) => {
                self.on_report(now, queue, service, slot);
                Ok(())
            }
            Control::Evict(instance) => self.evict(now, queue, instance),
            Control::Drain(drain) => self.drain_again(now, queue, drain),
            Control::Autoscale(service) => self.on_autoscale(now, queue, service),
            Control::Poke(service) => self.on_poke(now, queue, service),
            Control::Sample(service) => {
                self.on_sample(now, queue, service);
                Ok(())
            }
            Control::Release(service) => self.on_release(now, queue, service),
            Control::Overdue(service) => self.on_overdue(now, queue, service),
            Control::Recommend(service) => {
                self.on_recommend(now, queue, service);
                Ok(())
            }
            Control::Update(service) => self.on_update(now, queue, service),
            Control::Fit(service) => {
                self.fit(now, queue, service);
                Ok(())
            }
            Control::Provision => self.on_provision(now, queue),
            Control::Provisioned(node) => {
                self.on_provisioned(now, queue, node);
                Ok(())
            }
            Control::OrderTimeout(node) => {
                self.on_order_timeout(now, node);
                Ok(())
            }
            Control::NodeReady(node) => {
                self.on_node_ready(now, queue, node);
                Ok(())
            }
            Control::TakeBack(node) => self.take_back(now, queue, node),
            Control::Pull(instance) => {
                self.pull_again(now, queue, instance);
                Ok(())
            }
            Control::Pulled(epoch) => {
                self.on_pulled(now, queue, epoch);
                Ok(())
            }
            Control::Scrape(service) => {
                self.on_scrape(now, queue, service);
                Ok(())
            }
            Control::Window => {
                self.close_window(now);
                self.next_window(now, queue);
                Ok(())
            }
            Control::Recovery => {
                self.look_at_objective(now);
                self.next_look(now, queue);
                Ok(())
            }
            Control::WarmUp => {
                self.mark(now, false);
                Ok(())
            }
            Control::End => {
                self.mark(now, true);
                self.close_window(now);
                if self.looks_at(now) {
                    self.look_at_objective(now);
                }
                self.retire_all();
                Ok(())
            }
            Control::Strike(fault) => self.strike(now, queue, fault),
            Control::Relieve(fault) => self.relieve(now, queue, fault),
            Control::Fail(fault, target) => self.fail(now, queue, fault, target),
            Control::Repaired(fault, target) => self.repaired(now, queue, fault, target),
            Control::Look(alert) => {
                self.on_look(now, queue, alert);
                Ok(())
            }
            Control::Act(action) => self.act(now, queue, action),
            Control::Foresee(forecast) => {
                self.on_foresee(now, queue, &forecast);
                Ok(())
            }
            Control::Evacuate { nodes, targets, until } => self.evacuate(now, queue, nodes, &targets, until),
            Control::Uncordon(node) => {
                self.uncordon(now, queue, node);
                Ok(())
            }
            Control::StartAnother(service) => self.start_another(now, queue, service),
            Control::Config(delivery) => self.on_config(now, queue, delivery),
            Control::Watch(watcher) => self.on_watch(now, queue, watcher),
            Control::Rollout(rollout) => self.begin_rollout(now, queue, rollout),
            Control::Sync(service) => self.sync_rollout(now, queue, service),
            Control::Ungate(at) => self.on_ungate(now, queue, at),
            Control::PoolWait(ticket) => self.on_pool_wait(now, queue, ticket),
            Control::Connection(tie) => self.on_connection_due(now, queue, tie),
            Control::Word(tie, word) => self.on_word(now, queue, tie, word),
            Control::Fill(from, host) => self.fill(now, queue, from, host),
            Control::Unblock(ticket) => self.on_unblock(now, queue, ticket),
            Control::Errand(errand, class) => self.on_errand(now, queue, errand, class),
            Control::Topic(event) => self.on_topic(now, queue, event),
            Control::Transaction(event) => self.on_transaction(now, queue, event),
            Control::Expire(expiry) => self.on_expire(now, queue, expiry),
            Control::CallOff(ticket) => self.on_call_off(now, queue, ticket),
            Control::Group(service, affair) => self.on_affair(now, queue, service, affair),
        }
    }

    /// Starts the control loops. Each has its own phase, as controllers do that were created at different moments.
    pub(super) fn begin_controls(&mut self, queue: &mut Queue) {
        for index in 0..self.spec.services.len() {
            let service = &self.spec.services[index];
            if let Some(settings) = &service.autoscaler {
                let scaler = settings.build(Time::ZERO);
                let interval = scaler.interval();
                self.services[index].autoscaler = Some(scaler);
                let phase = Key::new(self.seed).named("phase").named(&service.name).draws().unit();
                let first = Time::ZERO + Duration::from_ns_f64(interval.0 as f64 * phase);
                self.schedule(queue, first, Control::Autoscale(index as u32));
                self.schedule(queue, Time::ZERO, Control::Scrape(index as u32));
                self.begin_sampling(queue, index as u32);
            }
        }
    }

    /// A control loop ticks.
    fn on_autoscale(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let Some(replicas) = self.evaluate(now, index) else { return Ok(()) };
        let interval = self.services[index as usize].autoscaler.as_ref().map(Autoscaler::interval);
        if let Some(next) = interval.map(|interval| now + interval).filter(|next| *next < self.spec.end) {
            self.schedule(queue, next, Control::Autoscale(index));
        }
        self.follow(now, queue, index, replicas)
    }

    /// A control loop is asked before its time.
    fn on_poke(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let Some(replicas) = self.evaluate(now, index) else { return Ok(()) };
        self.follow(now, queue, index, replicas)
    }

    /// What a control loop decided is done.
    fn follow(&mut self, now: Time, queue: &mut Queue, index: u32, replicas: u32) -> Flow {
        let current = self.services[index as usize].wanted;
        if replicas == current { Ok(()) } else { self.scale(now, queue, index, replicas) }
    }

    /// A control loop looks at its service and decides on its replicas.
    fn evaluate(&mut self, now: Time, index: u32) -> Option<u32> {
        let spec = &self.spec.services[index as usize];
        let pods: Vec<Pod> =
            self.services[index as usize].living.iter().map(|&instance| self.pod(now, instance)).collect();
        let current = self.services[index as usize].wanted;
        let mut scaler = self.services[index as usize].autoscaler.take()?;
        let readings = self.readings(now, index);
        let fleet = Fleet {
            current,
            pods: &pods,
            readings: &readings,
            instance_cores: f64::from(spec.cores.min(1 << 20)),
            instance_memory: spec.memory_request(&self.services[index as usize].ask),
            memory_available: self.memory_available(&spec.node_pools),
        };
        let mut steps = Steps::default();
        let desired = scaler.evaluate(now, &fleet, &mut steps);
        self.services[index as usize].autoscaler = Some(scaler);
        let decision = Decision {
            at: now,
            kind: "autoscaler",
            subject: spec.name.clone(),
            inputs: steps.0,
            before: f64::from(current),
            after: f64::from(desired.replicas),
            reason: desired.reason,
        };
        // A service that stays at zero would say the same all night.
        let last = self.services[index as usize].last_decision.map(|at| &self.telemetry.decisions[at]);
        if decision.after > 0.0 || last.is_none_or(|last| !last.repeats(&decision)) {
            let at = self.telemetry.decisions.len();
            self.telemetry.decide(decision);
            self.services[index as usize].last_decision = (at < self.telemetry.decisions.len()).then_some(at);
        }
        Some(desired.replicas)
    }

    /// An operator acts.
    fn act(&mut self, now: Time, queue: &mut Queue, action: u32) -> Flow {
        match self.spec.actions[action as usize].what {
            Operation::Scale(service, replicas) => {
                let name = self.spec.services[service as usize].name.clone();
                self.telemetry.log(now, "action", name, format!("scaled to {replicas} replicas"));
                self.scale(now, queue, service, replicas)
            }
            Operation::Throttle(source, share) => {
                self.sources[source as usize].share = share;
                let name = self.spec.sources[source as usize].name.clone();
                self.telemetry.log(
                    now,
                    "action",
                    name,
                    format!("lets {:.0} % of the requests in", share * 100.0),
                );
                Ok(())
            }
            Operation::ThrottleCalls(caller, edge, share) => {
                self.throttle_calls(caller, edge, share);
                let (name, edges) = match caller {
                    Thing::Service(at) => {
                        let spec = &self.spec.services[at as usize];
                        (&spec.name, &spec.edges)
                    }
                    Thing::Source(at) => {
                        let spec = &self.spec.sources[at as usize];
                        (&spec.name, &spec.edges)
                    }
                };
                let callee = &self.spec.services[edges[edge as usize].to as usize].name;
                let detail = format!("makes {:.0} % of its calls to {callee}", share * 100.0);
                self.telemetry.log(now, "action", name.clone(), detail);
                Ok(())
            }
            Operation::Degrade(entry, cost) => {
                self.set_degraded(entry, cost);
                self.log_degraded(now, entry, cost);
                Ok(())
            }
            Operation::Resize(service, to) => {
                let name = self.spec.services[service as usize].name.clone();
                self.telemetry.log(now, "action", name, "resized".to_owned());
                self.resize_service(now, queue, service, to);
                Ok(())
            }
            Operation::Rollout(service, act) => self.act_on_rollout(now, queue, service, act),
            Operation::Switch(service, to) => self.switch_version(now, queue, service, to),
            Operation::Publish(ref publish) => self.publish_config(now, queue, publish),
            Operation::Undo(service, revision) => self.undo_rollout(now, queue, service, revision),
            Operation::Forward(topic, on) => {
                self.forward(now, queue, topic, on);
                Ok(())
            }
            Operation::Replay(topic, before) => {
                self.replay(now, queue, topic, before);
                Ok(())
            }
            Operation::PromoteMember(service, seat) => self.promote(now, queue, service, seat),
            Operation::Restore { service, backup_age, log_age, takes } => {
                self.restore(now, queue, service, (backup_age, log_age), takes)
            }
            // What to drain is said by whoever predicts.
            Operation::Drain { .. } => Ok(()),
            Operation::KillSwitch(entry, on) => {
                self.killed.retain(|killed| *killed != entry);
                if on {
                    self.killed.push(entry);
                }
                let name = self.endpoint_name(entry);
                self.telemetry.log(
                    now,
                    "action",
                    name,
                    if on { "switched off" } else { "switched on" }.to_owned(),
                );
                Ok(())
            }
        }
    }

    pub(super) fn endpoint_name(&self, entry: u16) -> String {
        let found = self.spec.services.iter().find_map(|service| {
            let (name, _) = service.endpoints.iter().find(|(_, first)| *first == entry)?;
            Some(format!("{}.{name}", service.name))
        });
        found.unwrap_or_default()
    }
}
