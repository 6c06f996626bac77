//! Two versions of a service side by side, while a rollout cares: who gets which share of the traffic, and how each of them
//! does in the eyes of their callers.

use crate::kernel::queue::Queue;
use crate::policies::balancer::{AnyBalancer, Balancer as _};
use crate::policies::judge::{Evidence, Pair, Reading};
use crate::policies::rollout::Measure;
use crate::policies::rollout::standing::Way;
use crate::policies::view::{Class, Endpoints, Outcome, RequestHead, Slot};
use crate::random::{Key, Rng};
use crate::stats::histogram::Window;
use crate::time::{Duration, Time};

use super::World;
use super::control::Control;
use super::outbound::{BOUND, Outbound, SPLIT, STALE};
use super::spec::EdgeSpec;

/// Keeps the choice of a version apart from all other draws of a call.
const SPLIT_SALT: u64 = 0x7370_6c69_742d_736c;

/// In place of a side: a call may go to any version, by the caller's own balancer.
const EITHER: usize = 2;

/// How callers divide their traffic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    /// The new version ...
    version: u8,
    /// ... gets so much ...
    new: u32,
    /// ... out of so much.
    of: u32,
}

/// One caller's view of the two versions: a list and a balancer for each, as a mesh has a cluster for each subset.
pub(super) struct Split {
    /// Endpoints of the old versions, and of the new one.
    lists: [Vec<Slot>; 2],
    balancers: [AnyBalancer; 2],
    /// Which version is the new one ...
    version: u8,
    /// ... and whether an endpoint is of it, by slot.
    is_new: Vec<bool>,
    /// For whom the present call is: the old versions, the new one, or [`EITHER`].
    side: usize,
    /// Slots that the balancers have been told of: those below.
    known: usize,
}

impl Split {
    fn new(version: u8, edge: &EdgeSpec, now: Time) -> Self {
        Self {
            lists: [Vec::new(), Vec::new()],
            balancers: [edge.balancer.build(now), edge.balancer.build(now)],
            version,
            is_new: Vec::new(),
            side: EITHER,
            known: 0,
        }
    }

    /// Whether the present call is for one of the versions.
    #[inline]
    pub(super) const fn is_for_one(&self) -> bool {
        self.side != EITHER
    }

    /// An endpoint of the chosen version.
    pub(super) fn pick(
        &mut self,
        now: Time,
        head: &RequestHead,
        view: &mut Endpoints,
        rng: &mut Rng,
    ) -> Option<Slot> {
        std::mem::swap(&mut view.eligible, &mut self.lists[self.side]);
        let picked = self.balancers[self.side].pick(now, head, view, rng);
        std::mem::swap(&mut view.eligible, &mut self.lists[self.side]);
        picked
    }

    /// How an attempt ended. One that was sent before the traffic was divided may be to an endpoint that these balancers have
    /// not been told of yet.
    pub(super) fn on_outcome(&mut self, now: Time, slot: Slot, outcome: &Outcome) {
        if slot.0 as usize >= self.known {
            return;
        }
        let side = usize::from(self.is_new.get(slot.0 as usize).is_some_and(|new| *new));
        self.balancers[side].on_outcome(now, slot, outcome);
    }
}

/// What happened to one version in one step of the metrics pipeline.
#[derive(Clone, Default)]
struct Cell {
    requests: u64,
    errors: u64,
    /// Sum of the latencies, ns.
    sum: u128,
    /// Latencies of all, and of those that succeeded.
    all: Window,
    fine: Window,
}

impl Cell {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.sum += other.sum;
        self.all.merge(&other.all);
        self.fine.merge(&other.fine);
    }

    fn reading(&self, over: Duration, slow: Option<Duration>) -> Reading {
        let quantile = |q| self.all.quantile(q).unwrap_or(0.0) * 1e-9;
        let too_slow = slow.map_or(0.0, |slow| {
            let share = self.fine.share_above(slow.0 as f64).unwrap_or(0.0);
            (share * (self.requests - self.errors) as f64).round()
        });
        Reading {
            over,
            requests: self.requests,
            errors: self.errors,
            bad: self.errors + too_slow as u64,
            mean: if self.requests == 0 { 0.0 } else { self.sum as f64 * 1e-9 / self.requests as f64 },
            quantiles: [quantile(0.5), quantile(0.9), quantile(0.95), quantile(0.99)],
        }
    }
}

/// What the metrics pipeline knows of both versions since a rollout began: old and new, step by step.
pub(super) struct Watch {
    version: u8,
    began: Time,
    period: Duration,
    delay: Duration,
    steps: Vec<[Cell; 2]>,
}

impl Watch {
    fn note(&mut self, now: Time, version: u8, class: Class, latency: Duration) {
        if class == Class::Abandoned {
            return;
        }
        let step = ((now - self.began).0 / self.period.0) as usize;
        if step >= self.steps.len() {
            self.steps.resize_with(step + 1, Default::default);
        }
        let cell = &mut self.steps[step][usize::from(version == self.version)];
        cell.requests += 1;
        cell.sum += u128::from(latency.0);
        cell.all.record(latency.0);
        if class == Class::Success {
            cell.fine.record(latency.0);
        } else {
            cell.errors += 1;
        }
    }

    /// What is known at `now`: steps that are over and have arrived.
    pub(super) fn evidence(&self, now: Time, measure: &Measure) -> Evidence {
        let known = (now - self.began).0.saturating_sub(self.delay.0) / self.period.0;
        // A step counts if it began after the analysis did.
        let mut first = (measure.since - self.began).0.div_ceil(self.period.0);
        if let Some(window) = measure.wanted.window {
            first = first.max(known.saturating_sub(window.0.div_ceil(self.period.0)));
        }
        let nothing: [Cell; 2] = Default::default();
        let steps = || (first..known).map(|step| self.steps.get(step as usize).unwrap_or(&nothing));
        let slow = measure.wanted.slow;
        let pair = |[old, new]: &[Cell; 2], over| Pair {
            canary: new.reading(over, slow),
            baseline: old.reading(over, slow),
        };
        let mut whole: [Cell; 2] = Default::default();
        for step in steps() {
            for (sum, cell) in whole.iter_mut().zip(step) {
                sum.add(cell);
            }
        }
        let over = self.period * known.saturating_sub(first).max(1);
        Evidence {
            whole: pair(&whole, over),
            steps: if measure.wanted.steps {
                steps().map(|step| pair(step, self.period)).collect()
            } else {
                Vec::new()
            },
        }
    }
}

/// When a version had instances that could serve.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionLife {
    /// Name of the service.
    pub service: String,
    /// Name of the version.
    pub version: String,
    /// Name of the version from which it was made.
    pub parent: Option<String>,
    /// From and to, seconds.
    pub spans: Vec<(f64, f64)>,
}

/// Instances of one version that can serve, and since when there are some.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    ready: u32,
    since: Time,
    spans: Vec<(Time, Time)>,
}

impl World<'_> {
    /// Callers divide their traffic from now on: so much of it is for the new version.
    pub(super) fn divide(&mut self, now: Time, service: u32, version: u8, new: u32, of: u32) {
        self.services[service as usize].shares = Some(Shares { version, new, of });
        self.tell_all_versions(now, service);
    }

    /// From now on both versions are looked at.
    pub(super) fn watch_versions(&mut self, now: Time, service: u32, version: u8) {
        let (period, _, delay) = self.spec.services[service as usize].metrics;
        let watch = Watch { version, began: now, period, delay, steps: Vec::new() };
        self.services[service as usize].watch = Some(Box::new(watch));
        self.tell_all_versions(now, service);
    }

    /// An instance of a version can serve from now on, or no longer.
    pub(super) fn note_life(&mut self, now: Time, index: u32, up: bool) {
        let instance = &self.instances[index as usize];
        let spec = &self.spec.services[instance.service as usize];
        if spec.version_slot.is_none() {
            return;
        }
        let lives = &mut self.services[instance.service as usize].lives;
        lives.resize_with(spec.versions.len(), Life::default);
        let life = &mut lives[usize::from(instance.version)];
        if up {
            if life.ready == 0 {
                life.since = now;
            }
            life.ready += 1;
        } else {
            life.ready -= 1;
            if life.ready == 0 && now > life.since {
                life.spans.push((life.since, now));
            }
        }
    }

    /// The versions of all services that are updated, and when each was alive until `end`.
    pub(super) fn lives(&self, end: Time) -> Vec<VersionLife> {
        let mut all = Vec::new();
        for (spec, service) in self.spec.services.iter().zip(&self.services) {
            for (at, version) in spec.versions.iter().enumerate().filter(|_| spec.version_slot.is_some()) {
                let life = service.lives.get(at).cloned().unwrap_or_default();
                let open = (life.ready > 0 && end > life.since).then_some((life.since, end));
                let cut = |(from, to): (Time, Time)| {
                    (from < end).then(|| (from.as_secs_f64(), to.min(end).as_secs_f64()))
                };
                all.push(VersionLife {
                    service: spec.name.clone(),
                    version: version.name.clone(),
                    parent: version.parent.map(|parent| spec.versions[usize::from(parent)].name.clone()),
                    spans: life.spans.into_iter().chain(open).filter_map(cut).collect(),
                });
            }
        }
        all
    }

    /// A version is a version again.
    pub(super) fn forget_versions(&mut self, now: Time, service: u32) {
        let service_state = &mut self.services[service as usize];
        (service_state.shares, service_state.watch) = (None, None);
        self.tell_all_versions(now, service);
    }

    pub(super) fn tell_all_versions(&mut self, now: Time, service: u32) {
        for at in 0..self.services[service as usize].callers.len() {
            let index = self.services[service as usize].callers[at];
            if self.outbounds[index as usize].alive {
                self.tell_versions(now, index);
            }
        }
    }

    /// A caller learns what it has to do about versions at present.
    pub(super) fn tell_versions(&mut self, now: Time, index: u32) {
        let of = self.outbounds[index as usize].service;
        let service = &self.services[of as usize];
        let looked_at = service.watch.is_some()
            || service.seen.is_some()
            || self.spec.services[of as usize].on_outage.is_some();
        let weighed = service.shares.map(|shares| shares.version);
        let version = weighed.or_else(|| self.updated_to(of));
        let mut asks = if weighed.is_some() { SPLIT } else { 0 };
        asks |= if self.is_bound(of) { BOUND } else { 0 };
        let outbound = &self.outbounds[index as usize];
        let split = match (version, self.edge_of(outbound)) {
            (Some(version), Some(edge)) => {
                let fresh = outbound.split.as_ref().is_none_or(|split| split.version != version);
                fresh.then(|| Box::new(Split::new(version, edge, now)))
            }
            // Probes go to all alike.
            (Some(_), None) => return,
            (None, _) => None,
        };
        let outbound = &mut self.outbounds[index as usize];
        // Once it has begun to tell it goes on: that costs little, and nobody has to remember why it did before.
        outbound.hears |= looked_at;
        outbound.asks = outbound.asks & !(SPLIT | BOUND) | asks;
        if version.is_none() {
            outbound.split = None;
        } else if split.is_some() {
            outbound.split = split;
            outbound.asks |= STALE;
        }
    }

    /// Where the policies of a calling side are written.
    fn edge_of(&self, outbound: &Outbound) -> Option<&EdgeSpec> {
        let edges = match outbound.owner {
            Some(service) => &self.spec.services[service as usize].edges,
            None => &self.spec.sources.get(outbound.source as usize)?.edges,
        };
        edges.iter().find(|edge| edge.to == outbound.service)
    }

    /// The list of a caller has changed: its endpoints are sorted by version again.
    pub(super) fn sort_by_version(&mut self, now: Time, index: u32) {
        let outbound = &mut self.outbounds[index as usize];
        let service = &self.services[outbound.service as usize];
        let Some(split) = &mut outbound.split else { return };
        split.known = outbound.view.weight.len();
        split.is_new.clear();
        split.is_new.extend(
            service.slots.iter().map(|&instance| self.instances[instance as usize].version == split.version),
        );
        for (side, is_new) in [false, true].into_iter().enumerate() {
            let list = &mut split.lists[side];
            list.clear();
            list.extend(outbound.view.eligible.iter().filter(|slot| split.is_new[slot.0 as usize] == is_new));
            std::mem::swap(&mut outbound.view.eligible, &mut split.lists[side]);
            split.balancers[side].on_update(now, &outbound.view);
            std::mem::swap(&mut outbound.view.eligible, &mut split.lists[side]);
        }
    }

    /// Which version a call is for: all attempts of one call are for the same.
    pub(super) fn choose_version(&mut self, index: u32, key: u64) {
        let outbound = &mut self.outbounds[index as usize];
        let Some(shares) = self.services[outbound.service as usize].shares else { return };
        if let Some(split) = &mut outbound.split {
            let drawn = Key(key ^ SPLIT_SALT).draws().unit();
            split.side = usize::from(drawn * f64::from(shares.of) < f64::from(shares.new));
        }
    }

    /// Where an update wants the present call of a caller to go.
    pub(super) fn take_way(&mut self, index: u32, way: Way) {
        if let Some(split) = &mut self.outbounds[index as usize].split {
            split.side = match way {
                Way::Old => 0,
                Way::New => 1,
                Way::Any | Way::Hold => EITHER,
            };
        }
    }

    /// A caller found no endpoint of the version it had chosen.
    pub(super) fn note_no_endpoint(&mut self, now: Time, index: u32) {
        let outbound = &self.outbounds[index as usize];
        let side = outbound.split.as_ref().map_or(0, |split| split.side);
        let service = &mut self.services[outbound.service as usize];
        if let Some(seen) = &mut service.seen {
            seen.note(Class::Failure, Duration::ZERO);
        }
        if let Some(watch) = &mut service.watch {
            let version = if side == 1 { watch.version } else { watch.version.wrapping_add(1) };
            watch.note(now, version, Class::Failure, Duration::ZERO);
            service.rollouts.verdicts.hurt += u64::from(side == 1);
        }
    }

    /// An attempt at an instance has ended, in the eyes of its caller.
    #[inline(never)]
    pub(super) fn note_outcome(&mut self, now: Time, queue: &mut Queue, instance: u32, outcome: &Outcome) {
        let service = self.instances[instance as usize].service;
        let failed = matches!(outcome.class, Class::Failure | Class::Timeout);
        if failed && self.spec.services[service as usize].on_outage.is_some() {
            // Not here and now: whoever failed is still being dealt with.
            self.schedule(queue, now, Control::StartAnother(service));
        }
        let instance = &self.instances[instance as usize];
        let service = &mut self.services[instance.service as usize];
        if let Some(watch) = &mut service.watch {
            watch.note(now, instance.version, outcome.class, outcome.latency);
            let hurt = !matches!(outcome.class, Class::Success | Class::Abandoned);
            service.rollouts.verdicts.hurt += u64::from(hurt && instance.version == watch.version);
        }
        if let Some(seen) = &mut service.seen {
            seen.note(outcome.class, outcome.latency);
        }
    }
}
