//! What a client knows about the health of the endpoints it calls: outlier detection, active checks, and the host sets that
//! its balancers pick from. Only edges that ask for any of it have this.
//!
//! An endpoint is unhealthy for a client that has ejected it, or whose check of it fails. The client's view goes on listing
//! all endpoints that it knows of; which of them are picked from is the business of the host selection.

use crate::policies::balancer::{AnyBalancer, Balancer as _, BalancerSettings};
use crate::policies::detector::{AnyDetector, Detector as _, Probe, Verdict};
use crate::policies::host_selection::{
    AnyHostSelection, Cluster, Health, Host, HostSelection as _, LocalHosts, SetIndex,
};
use crate::policies::outlier::{AnyOutlier, Outlier as _};
use crate::policies::view::{Endpoints, Outcome, RequestHead, Slot};
use crate::random::{Key, Rng};
use crate::time::{Duration, Time};

use super::World;
use super::control::Control;
use super::prober::Owner;
use super::report::{Decision, Step};
use super::spec::{CheckSpec, EdgeSpec};
use crate::kernel::queue::Queue;

const OUTLIER_SALT: u64 = 0x6f75_746c_6965_722d;

/// What is counted about the health of a service's endpoints, in the counted part of the run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HealthCounts {
    /// Ejections by outlier detection, of all clients together.
    pub(super) ejections: u64,
    /// Endpoints that a client's active check has left out.
    pub(super) checked_out: u64,
    /// Readiness lost while running.
    pub(super) readiness_lost: u64,
    /// Processes started anew because a probe failed.
    pub(super) probe_restarts: u64,
    /// Probes and checks sent, and those that failed.
    pub(super) probes: u64,
    pub(super) probes_failed: u64,
}

/// See the module documentation.
pub(super) struct Hosts {
    outlier: Option<AnyOutlier>,
    check: Option<CheckSpec>,
    /// By slot.
    checks: Vec<Option<Watched>>,
    selection: AnyHostSelection,
    balancer: BalancerSettings,
    sets: Vec<HostSet>,
    list: Vec<Host>,
    /// Somebody watches its outlier detection's clock.
    sweeps: bool,
}

/// An endpoint that is actively checked.
struct Watched {
    detector: AnyDetector,
    prober: u32,
}

/// Endpoints that a balancer of their own picks from.
struct HostSet {
    members: Vec<Slot>,
    balancer: AnyBalancer,
}

impl Hosts {
    pub(super) fn new(edge: &EdgeSpec, now: Time) -> Self {
        Self {
            outlier: edge.outlier.as_ref().map(|settings| settings.build(now)),
            check: edge.check.clone(),
            checks: Vec::new(),
            selection: edge.host_selection.clone().unwrap_or_default().build(now),
            balancer: edge.balancer.clone(),
            sets: Vec::new(),
            list: Vec::new(),
            sweeps: false,
        }
    }

    /// An endpoint of the set whose turn it is.
    #[inline(never)]
    pub(super) fn pick(
        &mut self,
        now: Time,
        head: &RequestHead,
        view: &mut Endpoints,
        rng: &mut Rng,
    ) -> Option<Slot> {
        let SetIndex(at) = self.selection.choose(rng)?;
        let set = self.sets.get_mut(at as usize)?;
        // The set lends its list to the view for as long as its balancer looks.
        std::mem::swap(&mut view.eligible, &mut set.members);
        let picked = set.balancer.pick(now, head, view, rng);
        std::mem::swap(&mut view.eligible, &mut set.members);
        picked
    }

    /// Whether some set has `slot`.
    pub(super) fn may_pick(&self, slot: Slot) -> bool {
        self.sets.iter().any(|set| set.members.binary_search(&slot).is_ok())
    }

    /// Whether health is ignored at present.
    pub(super) fn is_panicking(&self) -> bool {
        self.selection.is_panicking()
    }

    /// Whether what it keeps agrees with the endpoints that its client knows.
    pub(super) fn agrees_with(&self, view: &Endpoints) -> bool {
        let known = |slot: &Slot| view.eligible.binary_search(slot).is_ok();
        let of_checks = self.checks.iter().zip(0..).filter(|(watched, _)| watched.is_some());
        self.sets.iter().all(|set| set.members.iter().all(known))
            && of_checks.map(|(_, at)| Slot(at)).all(|slot| known(&slot))
            && (self.check.is_none()
                || view
                    .eligible
                    .iter()
                    .all(|slot| self.checks.get(slot.0 as usize).is_some_and(Option::is_some)))
    }

    fn health(&self, now: Time, slot: Slot) -> Health {
        let ejected = self.outlier.as_ref().is_some_and(|outlier| outlier.is_ejected(slot));
        let failed = match self.checks.get(slot.0 as usize) {
            Some(Some(watched)) => watched.detector.verdict(now) != Verdict::Healthy,
            _ => false,
        };
        if ejected || failed { Health::Unhealthy } else { Health::Healthy }
    }

    /// Balancers of sets that have changed hear of it.
    fn sync_sets(&mut self, now: Time, view: &mut Endpoints) {
        let sets = self.selection.sets();
        if self.sets.len() != sets.len() {
            let fresh = |_| HostSet { members: Vec::new(), balancer: self.balancer.build(now) };
            self.sets = (0..sets.len()).map(fresh).collect();
        }
        for (set, members) in self.sets.iter_mut().zip(sets) {
            if set.members != *members {
                set.members.clone_from(members);
                std::mem::swap(&mut view.eligible, &mut set.members);
                set.balancer.on_update(now, view);
                std::mem::swap(&mut view.eligible, &mut set.members);
            }
        }
    }
}

impl World<'_> {
    /// The calling sides of a new process begin to look at what they call.
    pub(super) fn open_eyes(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let instance = &self.instances[index as usize];
        let edges = self.spec.services[instance.service as usize].edges.len() as u32;
        let first = instance.outbounds;
        for outbound in first..first + edges {
            self.open_eye(now, queue, outbound);
        }
    }

    /// A calling side begins to look at what it calls.
    pub(super) fn open_eye(&mut self, now: Time, queue: &mut Queue, index: u32) {
        self.begin_fetching(now, queue, index);
        let Some(hosts) = &mut self.outbounds[index as usize].hosts else { return };
        if let Some(outlier) = &hosts.outlier
            && !std::mem::replace(&mut hosts.sweeps, true)
        {
            let interval = outlier.interval();
            let first = self.phase(now, "outlier", index, interval);
            self.schedule(queue, first, Control::Sweep(index));
        }
        self.refresh_hosts(now, queue, index);
    }

    /// When something first happens that then happens every `interval`: those that were there before the run began have been at
    /// it for long, in a rhythm of their own.
    pub(super) fn phase(&self, now: Time, purpose: &str, entity: u32, interval: Duration) -> Time {
        if now > Time::ZERO {
            return now + interval;
        }
        let phase = Key::new(self.seed).named("phase").named(purpose).with(u64::from(entity)).draws().unit();
        now + Duration::from_ns_f64(interval.0 as f64 * phase)
    }

    /// What a client knows has changed: its list, or the health of somebody on it.
    #[inline]
    pub(super) fn refresh_hosts(&mut self, now: Time, queue: &mut Queue, index: u32) {
        if self.outbounds[index as usize].hosts.is_some() {
            self.refresh(now, queue, index);
        }
    }

    #[cold]
    fn refresh(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let outbound = &mut self.outbounds[index as usize];
        let Some(mut hosts) = outbound.hosts.take() else { return };
        let service = outbound.service;
        if let Some(outlier) = &mut hosts.outlier {
            outlier.on_update(now, &outbound.view.eligible);
        }
        self.keep_checks(now, queue, index, &mut hosts);
        let outbound = &self.outbounds[index as usize];
        hosts.list.clear();
        for &slot in &outbound.view.eligible {
            let instance = self.services[service as usize].slots[slot.0 as usize];
            let zone = self.instances[instance as usize].more.zone;
            let health = hosts.health(now, slot);
            hosts.list.push(Host { slot, zone, health });
        }
        let local = self.local_hosts(index);
        let zone = (outbound.zone as usize) < self.spec.zones.len();
        let cluster = Cluster {
            hosts: &hosts.list,
            local: &local,
            zone: zone.then_some(outbound.zone),
            zones: &self.spec.zones,
        };
        hosts.selection.on_update(now, &cluster);
        let outbound = &mut self.outbounds[index as usize];
        hosts.sync_sets(now, &mut outbound.view);
        outbound.hosts = Some(hosts);
        self.look_at_held(now, queue, service);
    }

    /// Every endpoint that the client knows is checked, and no other.
    fn keep_checks(&mut self, now: Time, queue: &mut Queue, index: u32, hosts: &mut Hosts) {
        let Some(check) = &hosts.check else { return };
        let outbound = &self.outbounds[index as usize];
        let (service, eligible) = (outbound.service, outbound.view.eligible.clone());
        let needed = eligible.last().map_or(0, |slot| slot.0 as usize + 1);
        if hosts.checks.len() < needed {
            hosts.checks.resize_with(needed, || None);
        }
        for (at, watched) in hosts.checks.iter_mut().enumerate() {
            let slot = Slot(at as u32);
            let known = eligible.binary_search(&slot).is_ok();
            match watched {
                Some(old) if !known => {
                    self.probers[old.prober as usize].stop();
                    *watched = None;
                }
                None if known => {
                    let mut detector = check.detector.build(now);
                    let instance = self.services[service as usize].slots[at];
                    let prober = self.new_prober(
                        now,
                        instance,
                        Owner::Client(index, slot),
                        &check.ask,
                        detector.timeout(),
                    );
                    let mut first = now;
                    if now == Time::ZERO {
                        // It has been well for long.
                        detector.on_result(now, Probe::Passed);
                        first = self.phase(now, "check", prober, detector.interval());
                    }
                    self.probe_at(queue, prober, first);
                    *watched = Some(Watched { detector, prober });
                }
                _ => {}
            }
        }
    }

    /// The callers of the service that a client belongs to, by zone: whoever is in the same boat.
    fn local_hosts(&self, index: u32) -> Vec<LocalHosts> {
        let mut local = vec![LocalHosts::default(); self.spec.zones.len()];
        let outbound = &self.outbounds[index as usize];
        if let Some(source) = self.spec.sources.get(outbound.source as usize) {
            if let Some(here) = local.get_mut(source.zone as usize) {
                *here = LocalHosts { healthy: source.clients, total: source.clients };
            }
            return local;
        }
        let Some(service) = outbound.owner else { return local };
        for &at in &self.services[service as usize].living {
            let instance = &self.instances[at as usize];
            let here = &mut local[instance.more.zone as usize];
            here.total += 1;
            here.healthy += u32::from(instance.more.available);
        }
        local
    }

    /// Instances of a service came or went; those that share traffic with them by zone look anew.
    pub(super) fn local_changed(&mut self, now: Time, queue: &mut Queue, service: u32) {
        let edges = &self.spec.services[service as usize].edges;
        if edges.iter().all(|edge| edge.host_selection.is_none()) {
            return;
        }
        for at in 0..self.services[service as usize].living.len() {
            let instance = self.services[service as usize].living[at];
            let first = self.instances[instance as usize].outbounds;
            for (edge, spec) in (first..).zip(edges) {
                let shared = self.services[service as usize].shared_outbound(edge - first);
                if spec.host_selection.is_some() {
                    self.refresh_hosts(now, queue, shared.unwrap_or(edge));
                }
            }
        }
    }

    /// An attempt of a client that cares about health has ended.
    #[cold]
    pub(super) fn tell_hosts(
        &mut self,
        now: Time,
        queue: &mut Queue,
        index: u32,
        slot: Slot,
        outcome: &Outcome,
        key: Key,
    ) {
        let Some(hosts) = &mut self.outbounds[index as usize].hosts else { return };
        for set in &mut hosts.sets {
            if set.members.binary_search(&slot).is_ok() {
                set.balancer.on_outcome(now, slot, outcome);
            }
        }
        let Some(outlier) = &mut hosts.outlier else { return };
        outlier.on_outcome(now, slot, outcome, &mut Key(key.0 ^ OUTLIER_SALT).rng());
        self.note_ejections(now, queue, index);
    }

    /// A sweep of a client's outlier detection.
    pub(super) fn on_sweep(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let Some(hosts) = &mut self.outbounds[index as usize].hosts else { return };
        let Some(outlier) = &mut hosts.outlier else { return };
        let key = Key::new(self.seed).named("outlier").with(u64::from(index)).with(now.0);
        outlier.on_interval(now, &mut key.rng());
        let next = now + outlier.interval();
        if next < self.spec.end {
            self.schedule(queue, next, Control::Sweep(index));
        }
        self.note_ejections(now, queue, index);
    }

    /// Writes down who was ejected or let in, and acts on it.
    fn note_ejections(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let mut changed = false;
        loop {
            let Some(hosts) = &mut self.outbounds[index as usize].hosts else { return };
            let Some(change) = hosts.outlier.as_mut().and_then(AnyOutlier::take_change) else { break };
            changed = true;
            let mut inputs = vec![Step { metric: None, what: "client", value: f64::from(index) }];
            if let Some(outlier) = &hosts.outlier {
                outlier.gauges(&mut |what, value| inputs.push(Step { metric: None, what, value }));
            }
            let service = self.outbounds[index as usize].service;
            self.services[service as usize].health.ejections +=
                u64::from(change.ejected && self.counts_at(now));
            self.health_decision(now, "outlier", index, change.slot, inputs, change.ejected, change.reason);
        }
        if changed {
            self.refresh_hosts(now, queue, index);
        }
    }

    /// Whether what happens at `now` belongs to the counted part of the run.
    pub(super) fn counts_at(&self, now: Time) -> bool {
        now >= self.spec.warm_up && now < self.spec.end
    }

    #[expect(clippy::too_many_arguments, reason = "one line of the log, column by column")]
    fn health_decision(
        &mut self,
        now: Time,
        kind: &'static str,
        index: u32,
        slot: Slot,
        inputs: Vec<Step>,
        out: bool,
        reason: &'static str,
    ) {
        let outbound = &self.outbounds[index as usize];
        let to = &self.spec.services[outbound.service as usize].name;
        let from = match self.spec.sources.get(outbound.source as usize) {
            Some(source) => source.name.clone(),
            None => outbound
                .owner
                .map_or_else(String::new, |service| self.spec.services[service as usize].name.clone()),
        };
        let subject = format!("{from} -> {to}-{}", slot.0);
        let (before, after) = (f64::from(u8::from(!out)), f64::from(u8::from(out)));
        self.telemetry.decide(Decision { at: now, kind, subject, inputs, before, after, reason });
    }

    /// An active check of a client has ended. When the next one is due.
    pub(super) fn on_checked(
        &mut self,
        now: Time,
        queue: &mut Queue,
        index: u32,
        slot: Slot,
        result: Probe,
        began: Time,
    ) -> Option<Time> {
        let key =
            Key::new(self.seed).named("check").with(u64::from(index)).with(u64::from(slot.0)).with(now.0);
        let outbound = &mut self.outbounds[index as usize];
        let service = outbound.service;
        let hosts = outbound.hosts.as_mut()?;
        let watched = hosts.checks.get_mut(slot.0 as usize)?.as_mut()?;
        let before = watched.detector.verdict(now);
        watched.detector.on_result(now, result);
        let after = watched.detector.verdict(now);
        let next = watched.detector.next_probe(began, now, &mut key.rng());
        if result == Probe::Passed
            && after == Verdict::Healthy
            && let Some(outlier) = &mut hosts.outlier
        {
            outlier.on_check_passed(now, slot);
        }
        let changed = (before == Verdict::Healthy) != (after == Verdict::Healthy);
        if changed {
            let out = after != Verdict::Healthy;
            self.services[service as usize].health.checked_out += u64::from(out && self.counts_at(now));
            let inputs = vec![Step { metric: None, what: "client", value: f64::from(index) }];
            let reason = match result {
                Probe::Passed => "passed",
                Probe::Failed => "an error",
                Probe::Lost => "no answer",
            };
            self.health_decision(now, "check", index, slot, inputs, out, reason);
            self.refresh_hosts(now, queue, index);
        }
        self.note_ejections(now, queue, index);
        Some(next)
    }
}
