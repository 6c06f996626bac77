//! The kubelet's probes of an instance, and what follows from their verdicts: traffic or none, and a container that is killed
//! and started again.
//!
//! A worker per probe, from the moment at which the instance has a node. It looks every period; while there is no running
//! container, before the initial delay is over, or (liveness and readiness) before the startup probe has passed, it does
//! nothing. A readiness probe is also sent at once when the container runs, and when the startup probe has passed
//! (`UpdatePodStatus` triggers it).

use crate::kernel::queue::Queue;
use crate::policies::detector::kubelet::{Kubelet, ProbeKind};
use crate::policies::detector::{Detector as _, Probe, Verdict};
use crate::random::Key;
use crate::time::{Duration, Time};

use super::control::Control;
use super::instance::State;
use super::prober::Owner;
use super::{Flow, World};

/// Probes of one instance.
#[derive(Clone, Debug)]
pub(super) struct Probes {
    workers: Vec<Worker>,
    /// When its container started.
    running_since: Time,
    /// Its startup probe has passed, or there is none.
    started: bool,
}

/// A probe of the kubelet.
#[derive(Clone, Debug)]
#[expect(clippy::struct_field_names, reason = "the kubelet's word")]
struct Worker {
    kind: ProbeKind,
    worker: Kubelet,
    initial_delay: Duration,
    prober: u32,
}

impl Probes {
    fn worker(&mut self, kind: ProbeKind) -> Option<&mut Worker> {
        self.workers.iter_mut().find(|worker| worker.kind == kind)
    }

    fn has(&self, kind: ProbeKind) -> bool {
        self.workers.iter().any(|worker| worker.kind == kind)
    }
}

impl World<'_> {
    /// An instance has a node: its probes begin. One that has been running before the run began has passed them all.
    pub(super) fn begin_probes(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let service = self.instances[index as usize].service;
        let specs = &self.spec.services[service as usize].probes;
        if specs.is_empty() || self.instances[index as usize].more.probes.is_some() {
            return;
        }
        let runs = self.instances[index as usize].state == State::Ready;
        let mut workers = Vec::new();
        for spec in specs {
            let mut worker = Kubelet::of_kind(&spec.settings, spec.kind);
            let prober =
                self.new_prober(now, index, Owner::Kubelet(spec.kind), &spec.ask, spec.settings.timeout());
            let mut first = now;
            if runs {
                worker.has_passed();
                first = self.phase(now, spec.kind.name(), prober, spec.settings.period());
            }
            self.probe_at(queue, prober, first);
            let initial_delay = if runs { Duration::ZERO } else { spec.settings.initial_delay() };
            workers.push(Worker { kind: spec.kind, worker, initial_delay, prober });
        }
        let probes = Probes { workers, running_since: now, started: runs };
        self.instances[index as usize].more.probes = Some(Box::new(probes));
    }

    /// The container of an instance runs. Whether traffic has to wait for a probe.
    pub(super) fn container_started(&mut self, now: Time, queue: &mut Queue, index: u32) -> bool {
        let Some(probes) = &mut self.instances[index as usize].more.probes else { return false };
        for worker in &mut probes.workers {
            worker.worker.on_new_container();
        }
        probes.running_since = now;
        probes.started = !probes.has(ProbeKind::Startup);
        let (started, waits) = (probes.started, probes.has(ProbeKind::Readiness));
        if started && waits {
            self.trigger_readiness(now, queue, index);
        }
        !started || waits
    }

    /// A readiness probe is sent out of turn.
    fn trigger_readiness(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let Some(probes) = &mut self.instances[index as usize].more.probes else { return };
        let since = probes.running_since;
        let Some(Worker { prober, initial_delay, .. }) = probes.worker(ProbeKind::Readiness) else { return };
        let (prober, at) = (*prober, since + *initial_delay);
        if self.probers[prober as usize].is_idle() {
            self.probe_at(queue, prober, at.max(now));
        }
    }

    /// Whether a probe is to be sent now; `None`: never again.
    pub(super) fn is_probe_due(&mut self, now: Time, index: u32, kind: ProbeKind) -> Option<bool> {
        let instance = &mut self.instances[index as usize];
        let gone = instance.state == State::Dead || instance.more.leaving && kind != ProbeKind::Readiness;
        if gone {
            return None;
        }
        let runs = matches!(instance.state, State::Ready | State::Draining);
        let probes = instance.more.probes.as_mut()?;
        let (since, started) = (probes.running_since, probes.started);
        let worker = probes.worker(kind)?;
        let due = runs
            && now >= since + worker.initial_delay
            && !worker.worker.is_on_hold()
            && started == (kind != ProbeKind::Startup);
        Some(due)
    }

    /// When a probe looks next after a look at `began` that was over by `now`.
    pub(super) fn next_turn(&mut self, index: u32, kind: ProbeKind, began: Time, now: Time) -> Time {
        let probes = self.instances[index as usize].more.probes.as_mut();
        let worker = probes.and_then(|probes| probes.worker(kind));
        // Nothing is drawn.
        worker.map_or(Time::MAX, |worker| worker.worker.next_probe(began, now, &mut Key(0).rng()))
    }

    /// A probe of the kubelet has ended.
    pub(super) fn on_kubelet_probed(
        &mut self,
        now: Time,
        queue: &mut Queue,
        index: u32,
        kind: ProbeKind,
        result: Probe,
    ) -> Flow {
        let instance = &mut self.instances[index as usize];
        if !matches!(instance.state, State::Ready | State::Draining) {
            return Ok(());
        }
        let (ready, leaving) = (instance.state == State::Ready, instance.more.leaving);
        let Some(probes) = &mut instance.more.probes else { return Ok(()) };
        let has_readiness = probes.has(ProbeKind::Readiness);
        let Some(worker) = probes.worker(kind) else { return Ok(()) };
        let before = worker.worker.result();
        worker.worker.on_result(now, result);
        let after = worker.worker.result();
        if leaving || before == after && after != Verdict::Unhealthy {
            return Ok(());
        }
        match (kind, after) {
            (ProbeKind::Readiness, Verdict::Healthy) if ready => self.set_available(now, queue, index, true),
            (ProbeKind::Readiness, Verdict::Unhealthy) if instance.more.available => {
                let service = instance.service;
                if self.counts_at(now) {
                    self.services[service as usize].health.readiness_lost += 1;
                }
                self.set_available(now, queue, index, false)
            }
            (ProbeKind::Startup, Verdict::Healthy) => {
                probes.started = true;
                if has_readiness {
                    self.trigger_readiness(now, queue, index);
                    return Ok(());
                }
                self.set_available(now, queue, index, true)
            }
            (ProbeKind::Liveness | ProbeKind::Startup, Verdict::Unhealthy) if ready => {
                self.kill_container(now, queue, index, kind)
            }
            _ => Ok(()),
        }
    }

    /// The container is told to stop, and started again when it has, or when it has taken too long. Its clients go on until they
    /// hear that it is gone; from now on it takes nothing.
    fn kill_container(&mut self, now: Time, queue: &mut Queue, index: u32, kind: ProbeKind) -> Flow {
        let counts = self.counts_at(now);
        let instance = &mut self.instances[index as usize];
        instance.state = State::Draining;
        instance.more.told_at = now;
        let idle = instance.inside == 0 && instance.queued == 0;
        let service = instance.service;
        self.services[service as usize].health.probe_restarts += u64::from(counts);
        self.log_instance(
            now,
            index,
            match kind {
                ProbeKind::Startup => "startup probe failed",
                _ => "liveness probe failed",
            },
        );
        if idle && !self.coordinates(index) {
            return self.drained(now, queue, index);
        }
        let grace = self.spec.services[service as usize].grace;
        self.schedule(queue, now + grace, Control::Kill(index, now));
        Ok(())
    }
}
