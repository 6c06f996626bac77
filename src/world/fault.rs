//! Troubles: scheduled, or drawn for each target in calendar time.

use std::collections::VecDeque;

use crate::kernel::queue::Queue;
use crate::random::{Key, Stream};
use crate::time::{Duration, Time};

use super::cluster::Phase;
use super::control::Control;
use super::instance::State;
use super::spec::{Target, Trouble, When};
use super::{Flow, World};

/// A fault while the world runs.
pub(super) struct Progress {
    /// Instances or nodes struck at present.
    struck: Vec<u32>,
    /// Drawn faults: one stream per target, so that targets never share luck.
    streams: Vec<Stream>,
    /// What a drawn fault struck, by target.
    victims: Vec<Vec<u32>>,
    /// Strokes so far.
    strokes: u64,
    /// Who was foretold to be struck, by target.
    foretold: Vec<(u32, Vec<u32>)>,
    /// Targets that wait for the repair crew, and those under repair.
    waiting: VecDeque<u32>,
    repairing: u32,
}

impl Progress {
    /// `target` will be these.
    pub(super) fn foretell(&mut self, target: u32, struck: Vec<u32>) {
        self.foretold.retain(|(known, _)| *known != target);
        self.foretold.push((target, struck));
    }

    /// Whom somebody has foretold for `target`.
    fn fulfil(&mut self, target: u32) -> Option<Vec<u32>> {
        let at = self.foretold.iter().position(|(known, _)| *known == target)?;
        Some(self.foretold.swap_remove(at).1)
    }
}

impl World<'_> {
    /// Schedules the first stroke of every fault.
    pub(super) fn begin_faults(&mut self, queue: &mut Queue) {
        for index in 0..self.spec.faults.len() {
            let fault = &self.spec.faults[index];
            let targets = match &fault.when {
                When::Trace(entries) => entries.len() as u32,
                _ => self.target_count(&fault.what),
            };
            let stream = |target: u32| Stream::new(self.seed, "fault", &format!("{}/{target}", fault.name));
            let progress = Progress {
                struck: Vec::new(),
                streams: if matches!(fault.when, When::Drawn { .. }) {
                    (0..targets).map(stream).collect()
                } else {
                    Vec::new()
                },
                victims: vec![Vec::new(); targets as usize],
                strokes: 0,
                foretold: Vec::new(),
                waiting: VecDeque::new(),
                repairing: 0,
            };
            self.faults.push(progress);
            match &fault.when {
                When::At(at, _) => {
                    self.schedule(queue, *at, Control::Strike(index as u32));
                    self.foresee(Time::ZERO, queue, index as u32, 0, *at);
                }
                When::Trace(entries) => {
                    for (entry, (at, ..)) in entries.iter().enumerate() {
                        self.schedule(queue, *at, Control::Fail(index as u32, entry as u32));
                        self.foresee(Time::ZERO, queue, index as u32, entry as u32, *at);
                    }
                }
                When::Drawn { mtbf, .. } => {
                    for target in 0..targets {
                        let up = mtbf.sample_duration(&mut self.faults[index].streams[target as usize]);
                        self.schedule(queue, Time::ZERO + up, Control::Fail(index as u32, target));
                        self.foresee(Time::ZERO, queue, index as u32, target, Time::ZERO + up);
                    }
                }
            }
        }
    }

    /// How many things a drawn fault can strike on their own.
    pub(super) fn target_count(&self, what: &Trouble) -> u32 {
        match what {
            Trouble::Crash(target)
            | Trouble::Slow(target, _)
            | Trouble::ErrorRate(target, _)
            | Trouble::Hang(target)
            | Trouble::MemoryLeak(target, _)
            | Trouble::DiskFull(target) => {
                target.count.unwrap_or(self.spec.services[target.service as usize].replicas)
            }
            Trouble::NodeLoss { count, .. }
            | Trouble::SpotReclaim { count, .. }
            | Trouble::NoisyNeighbour { count, .. } => *count,
            _ => 1,
        }
    }

    /// A scheduled fault strikes.
    pub(super) fn strike(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let fault = &self.spec.faults[index as usize];
        let When::At(_, lasts) = fault.when else { return Ok(()) };
        self.telemetry.log(now, "fault", fault.name.clone(), describe(&fault.what).to_owned());
        let targets = self.faults[index as usize].fulfil(0).unwrap_or_else(|| self.targets(&fault.what));
        let targets = self.spread(index, targets);
        self.faults[index as usize].struck.clone_from(&targets);
        self.apply(now, queue, &fault.what, &targets, true)?;
        if let Some(lasts) = lasts {
            let notice =
                if let Trouble::SpotReclaim { notice, .. } = fault.what { notice } else { Duration::ZERO };
            self.schedule(queue, now + notice + lasts, Control::Relieve(index));
        } else if matches!(fault.what, Trouble::Crash(_) | Trouble::CrashCoordinator(..)) {
            // Over as soon as it has happened.
            self.telemetry.fault_ended(now);
        }
        Ok(())
    }

    /// A scheduled fault ends.
    pub(super) fn relieve(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let fault = &self.spec.faults[index as usize];
        self.telemetry.log(now, "fault_end", fault.name.clone(), describe(&fault.what).to_owned());
        self.telemetry.fault_ended(now);
        let targets = std::mem::take(&mut self.faults[index as usize].struck);
        self.apply(now, queue, &fault.what, &targets, false)
    }

    /// A drawn fault strikes one target.
    pub(super) fn fail(&mut self, now: Time, queue: &mut Queue, index: u32, target: u32) -> Flow {
        let fault = &self.spec.faults[index as usize];
        let nth = match &fault.when {
            When::Trace(entries) => entries[target as usize].1,
            _ => target,
        };
        let foretold = self.faults[index as usize].fulfil(target);
        let struck = self.spread(index, foretold.unwrap_or_else(|| self.victims(&fault.what, nth)));
        self.faults[index as usize].victims[target as usize].clone_from(&struck);
        self.apply(now, queue, &fault.what, &struck, true)?;
        let crew = match &fault.when {
            When::At(..) => return Ok(()),
            When::Drawn { crew, .. } => crew,
            When::Trace(entries) => {
                self.schedule(queue, now + entries[target as usize].2, Control::Repaired(index, target));
                return Ok(());
            }
        };
        let progress = &mut self.faults[index as usize];
        if progress.repairing < *crew {
            progress.repairing += 1;
            self.repair(now, queue, index, target);
        } else {
            progress.waiting.push_back(target);
        }
        Ok(())
    }

    fn repair(&mut self, now: Time, queue: &mut Queue, index: u32, target: u32) {
        let When::Drawn { mttr, .. } = &self.spec.faults[index as usize].when else { return };
        let down = mttr.sample_duration(&mut self.faults[index as usize].streams[target as usize]);
        self.schedule(queue, now + down, Control::Repaired(index, target));
    }

    /// The repair of a target is done; the crew takes the next.
    pub(super) fn repaired(&mut self, now: Time, queue: &mut Queue, index: u32, target: u32) -> Flow {
        let fault = &self.spec.faults[index as usize];
        let struck = std::mem::take(&mut self.faults[index as usize].victims[target as usize]);
        self.apply(now, queue, &fault.what, &struck, false)?;
        let When::Drawn { mtbf, .. } = &fault.when else { return Ok(()) };
        let up = mtbf.sample_duration(&mut self.faults[index as usize].streams[target as usize]);
        if now < self.spec.end {
            self.schedule(queue, now + up, Control::Fail(index, target));
            self.foresee(now, queue, index, target, now + up);
        }
        let progress = &mut self.faults[index as usize];
        if let Some(next) = progress.waiting.pop_front() {
            self.repair(now, queue, index, next);
        } else {
            progress.repairing -= 1;
        }
        Ok(())
    }

    /// What a stroke at `target` would strike at present.
    pub(super) fn foreseen(&self, index: u32, target: u32) -> Vec<u32> {
        let fault = &self.spec.faults[index as usize];
        match &fault.when {
            When::At(..) => self.targets(&fault.what),
            When::Trace(entries) => self.victims(&fault.what, entries[target as usize].1),
            When::Drawn { .. } => self.victims(&fault.what, target),
        }
    }

    /// What a scheduled fault strikes: the oldest ready instances, the first nodes.
    fn targets(&self, what: &Trouble) -> Vec<u32> {
        match what {
            Trouble::Crash(target)
            | Trouble::Slow(target, _)
            | Trouble::ErrorRate(target, _)
            | Trouble::Hang(target)
            | Trouble::MemoryLeak(target, _)
            | Trouble::DiskFull(target) => self.ready_instances(*target),
            Trouble::NodeLoss { pool, count, .. }
            | Trouble::SpotReclaim { pool, count, .. }
            | Trouble::NoisyNeighbour { pool, count, .. } => {
                let alive = |&node: &u32| {
                    let node = &self.cluster.nodes[node as usize];
                    node.pool == *pool && node.is_up() && node.reclaimed == 0
                };
                (0..self.cluster.nodes.len() as u32).filter(alive).take(*count as usize).collect()
            }
            Trouble::ZoneLoss(zone) => {
                let inside = |&node: &u32| {
                    let node = &self.cluster.nodes[node as usize];
                    let there = !matches!(node.phase, Phase::Ordered | Phase::Gone);
                    there && node.zone == *zone && !self.spec.pools[node.pool as usize].zones.is_empty()
                };
                (0..self.cluster.nodes.len() as u32).filter(inside).collect()
            }
            _ => Vec::new(),
        }
    }

    /// A failure takes neighbours along: other nodes of the same pool and zone. Drawn by stroke and node, so that the number
    /// of nodes, which strategies may change, shifts nobody's luck.
    fn spread(&mut self, index: u32, mut struck: Vec<u32>) -> Vec<u32> {
        let fault = &self.spec.faults[index as usize];
        let Trouble::NodeLoss { spreads, .. } = fault.what else { return struck };
        let progress = &mut self.faults[index as usize];
        progress.strokes += 1;
        if spreads <= 0.0 {
            return struck;
        }
        let key = Key::new(self.seed).named("spread").named(&fault.name).with(progress.strokes);
        for first in struck.clone() {
            let (pool, zone) =
                (self.cluster.nodes[first as usize].pool, self.cluster.nodes[first as usize].zone);
            for (at, node) in self.cluster.nodes.iter().enumerate() {
                let at = at as u32;
                let near = node.is_up() && node.pool == pool && node.zone == zone && !struck.contains(&at);
                if near && key.with(u64::from(first)).with(u64::from(node.number)).draws().unit() < spreads {
                    struck.push(at);
                }
            }
        }
        struck
    }

    fn ready_instances(&self, target: Target) -> Vec<u32> {
        let living = self.services[target.service as usize].living.iter().copied();
        let ready = living.filter(|&index| {
            let instance = &self.instances[index as usize];
            instance.state == State::Ready && !instance.more.leaving
        });
        ready.take(target.count.unwrap_or(u32::MAX) as usize).collect()
    }

    /// What target number `target` of a drawn fault is at present.
    pub(super) fn victims(&self, what: &Trouble, target: u32) -> Vec<u32> {
        let one = match what {
            Trouble::Crash(of)
            | Trouble::Slow(of, _)
            | Trouble::ErrorRate(of, _)
            | Trouble::Hang(of)
            | Trouble::MemoryLeak(of, _)
            | Trouble::DiskFull(of) => {
                self.ready_instances(Target { count: None, ..*of }).get(target as usize).copied()
            }
            Trouble::NodeLoss { pool, .. }
            | Trouble::SpotReclaim { pool, .. }
            | Trouble::NoisyNeighbour { pool, .. } => {
                let there = |&node: &u32| {
                    let node = &self.cluster.nodes[node as usize];
                    node.pool == *pool && matches!(node.phase, Phase::Ready | Phase::Deleting(_))
                };
                (0..self.cluster.nodes.len() as u32).filter(there).nth(target as usize)
            }
            // Everything that there is of it.
            _ => return self.targets(what),
        };
        one.into_iter().collect()
    }

    fn apply(&mut self, now: Time, queue: &mut Queue, what: &Trouble, targets: &[u32], on: bool) -> Flow {
        match what {
            Trouble::Crash(_) => {
                for &index in targets.iter().filter(|_| on) {
                    self.kill(now, queue, index, false)?;
                }
            }
            Trouble::Slow(_, factor) => {
                for &index in targets {
                    toggle(&mut self.instances[index as usize].more.slow, *factor, on);
                    self.set_speed(now, queue, index);
                }
            }
            Trouble::ErrorRate(_, rate) => {
                for &index in targets {
                    toggle(&mut self.instances[index as usize].more.errors, *rate, on);
                }
            }
            Trouble::Hang(_) => {
                for &index in targets {
                    self.set_hung(now, queue, index, on)?;
                }
            }
            Trouble::NodeLoss { .. } | Trouble::ZoneLoss(_) => {
                if let Trouble::ZoneLoss(zone) = what {
                    let losses = &mut self.cluster.zone_losses[*zone as usize];
                    *losses = if on { *losses + 1 } else { *losses - 1 };
                }
                for &node in targets {
                    if on { self.lose_node(now, queue, node)? } else { self.restore_node(now, queue, node)? }
                }
            }
            Trouble::SpotReclaim { notice, .. } => {
                for &node in targets {
                    self.reclaim(now, queue, node, *notice, on)?;
                }
            }
            Trouble::ProvisioningOutage(of) => self.set_provisioning_outage(*of, on),
            Trouble::RegistryOutage => self.set_registry_outage(now, queue, on),
            Trouble::DnsOutage => self.set_dns_outage(on),
            Trouble::DiscoveryOutage(service) => self.set_discovery_outage(now, queue, *service, on),
            Trouble::NoisyNeighbour { cores, .. } => {
                for &node in targets {
                    self.steal_cores(now, queue, node, *cores, on);
                }
            }
            Trouble::MemoryLeak(_, per_hour) => {
                for &index in targets {
                    self.set_leak(now, queue, index, *per_hour, on);
                }
            }
            Trouble::DiskFull(_) => {
                for &index in targets {
                    self.set_disk_full(now, queue, index, on)?;
                }
            }
            Trouble::BadConfig(config, version) => self.set_bad_config(now, queue, *config, *version, on)?,
            Trouble::Outage(service) => {
                let outages = &mut self.services[*service as usize].outages;
                *outages = if on { *outages + 1 } else { outages.saturating_sub(1) };
            }
            Trouble::BrokerOutage(topic) => self.set_broker_outage(now, queue, *topic, on),
            Trouble::CrashCoordinator(transaction, decided) => {
                if on {
                    self.arm_crash(*transaction, *decided);
                }
            }
            Trouble::Partition(..) | Trouble::PacketLoss(..) | Trouble::AddedLatency(..) => {
                self.network.set(what, on);
            }
        }
        Ok(())
    }
}

/// Adds an entry, or takes one out that is the same.
pub(super) fn toggle(list: &mut Vec<f64>, entry: f64, on: bool) {
    if on {
        list.push(entry);
    } else if let Some(at) = list.iter().position(|existing| existing.to_bits() == entry.to_bits()) {
        list.swap_remove(at);
    }
}

const fn describe(what: &Trouble) -> &'static str {
    match what {
        Trouble::Crash(_) => "crash",
        Trouble::Slow(..) => "slow",
        Trouble::ErrorRate(..) => "errors",
        Trouble::Hang(_) => "hang",
        Trouble::NodeLoss { .. } => "node loss",
        Trouble::SpotReclaim { .. } => "spot reclaim",
        Trouble::ProvisioningOutage(_) => "provisioning outage",
        Trouble::RegistryOutage => "registry outage",
        Trouble::DnsOutage => "DNS outage",
        Trouble::DiscoveryOutage(_) => "discovery outage",
        Trouble::ZoneLoss(_) => "zone loss",
        Trouble::Partition(..) => "partition",
        Trouble::PacketLoss(..) => "packet loss",
        Trouble::AddedLatency(..) => "added latency",
        Trouble::Outage(_) => "outage",
        Trouble::BrokerOutage(_) => "broker outage",
        Trouble::CrashCoordinator(..) => "crash of a coordinator",
        Trouble::NoisyNeighbour { .. } => "noisy neighbour",
        Trouble::MemoryLeak(..) => "memory leak",
        Trouble::DiskFull(_) => "disk full",
        Trouble::BadConfig(..) => "bad configuration",
    }
}
