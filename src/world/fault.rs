//! Troubles: scheduled, or drawn for each target in calendar time.

use std::collections::VecDeque;

use crate::kernel::queue::Queue;
use crate::random::Stream;
use crate::time::Time;

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
    /// Which instance a drawn fault struck, by target.
    victims: Vec<Option<u32>>,
    /// Targets that wait for the repair crew, and those under repair.
    waiting: VecDeque<u32>,
    repairing: u32,
}

impl World<'_> {
    /// Schedules the first stroke of every fault.
    pub(super) fn begin_faults(&mut self, queue: &mut Queue) {
        for index in 0..self.spec.faults.len() {
            let fault = &self.spec.faults[index];
            let targets = self.target_count(&fault.what);
            let stream = |target: u32| Stream::new(self.seed, "fault", &format!("{}/{target}", fault.name));
            let progress = Progress {
                struck: Vec::new(),
                streams: (0..targets).map(stream).collect(),
                victims: vec![None; targets as usize],
                waiting: VecDeque::new(),
                repairing: 0,
            };
            self.faults.push(progress);
            match &fault.when {
                When::At(at, _) => self.schedule(queue, *at, Control::Strike(index as u32)),
                When::Drawn { mtbf, .. } => {
                    for target in 0..targets {
                        let up = mtbf.sample_duration(&mut self.faults[index].streams[target as usize]);
                        self.schedule(queue, Time::ZERO + up, Control::Fail(index as u32, target));
                    }
                }
            }
        }
    }

    /// How many things a drawn fault can strike on their own.
    fn target_count(&self, what: &Trouble) -> u32 {
        match what {
            Trouble::Crash(target)
            | Trouble::Slow(target, _)
            | Trouble::ErrorRate(target, _)
            | Trouble::Hang(target)
            | Trouble::MemoryLeak(target, _) => {
                target.count.unwrap_or(self.spec.services[target.service as usize].replicas)
            }
            Trouble::NodeLoss { count, .. } | Trouble::NoisyNeighbour { count, .. } => *count,
            _ => 1,
        }
    }

    /// A scheduled fault strikes.
    pub(super) fn strike(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let fault = &self.spec.faults[index as usize];
        let When::At(_, lasts) = fault.when else { return Ok(()) };
        self.telemetry.log(now, "fault", fault.name.clone(), describe(&fault.what).to_owned());
        let targets = self.targets(&fault.what);
        self.faults[index as usize].struck.clone_from(&targets);
        self.apply(now, queue, &fault.what, &targets, true)?;
        if let Some(lasts) = lasts {
            self.schedule(queue, now + lasts, Control::Relieve(index));
        } else if matches!(fault.what, Trouble::Crash(_)) {
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
        let When::Drawn { crew, .. } = &fault.when else { return Ok(()) };
        let victim = self.victim(&fault.what, target);
        self.faults[index as usize].victims[target as usize] = victim;
        let struck: Vec<u32> = victim.into_iter().collect();
        self.apply(now, queue, &fault.what, &struck, true)?;
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
        let When::Drawn { mtbf, .. } = &fault.when else { return Ok(()) };
        let struck: Vec<u32> =
            self.faults[index as usize].victims[target as usize].take().into_iter().collect();
        self.apply(now, queue, &fault.what, &struck, false)?;
        let up = mtbf.sample_duration(&mut self.faults[index as usize].streams[target as usize]);
        if now < self.spec.end {
            self.schedule(queue, now + up, Control::Fail(index, target));
        }
        let progress = &mut self.faults[index as usize];
        if let Some(next) = progress.waiting.pop_front() {
            self.repair(now, queue, index, next);
        } else {
            progress.repairing -= 1;
        }
        Ok(())
    }

    /// What a scheduled fault strikes: the oldest ready instances, the first nodes.
    fn targets(&self, what: &Trouble) -> Vec<u32> {
        match what {
            Trouble::Crash(target)
            | Trouble::Slow(target, _)
            | Trouble::ErrorRate(target, _)
            | Trouble::Hang(target)
            | Trouble::MemoryLeak(target, _) => self.ready_instances(*target),
            Trouble::NodeLoss { pool, count } | Trouble::NoisyNeighbour { pool, count, .. } => {
                let alive = |&node: &u32| {
                    let node = &self.nodes[node as usize];
                    node.pool == *pool && node.alive
                };
                (0..self.nodes.len() as u32).filter(alive).take(*count as usize).collect()
            }
            Trouble::ZoneLoss(zone) => {
                let inside = |&node: &u32| {
                    let node = &self.nodes[node as usize];
                    node.zone == *zone && !self.spec.pools[node.pool as usize].zones.is_empty()
                };
                (0..self.nodes.len() as u32).filter(inside).collect()
            }
            _ => Vec::new(),
        }
    }

    fn ready_instances(&self, target: Target) -> Vec<u32> {
        let living = self.services[target.service as usize].living.iter().copied();
        let ready = living.filter(|&index| self.instances[index as usize].state == State::Ready);
        ready.take(target.count.unwrap_or(u32::MAX) as usize).collect()
    }

    /// What target number `target` of a drawn fault is at present.
    fn victim(&self, what: &Trouble, target: u32) -> Option<u32> {
        match what {
            Trouble::Crash(of)
            | Trouble::Slow(of, _)
            | Trouble::ErrorRate(of, _)
            | Trouble::Hang(of)
            | Trouble::MemoryLeak(of, _) => {
                self.ready_instances(Target { count: None, ..*of }).get(target as usize).copied()
            }
            Trouble::NodeLoss { pool, .. } | Trouble::NoisyNeighbour { pool, .. } => {
                let mut nodes =
                    (0..self.nodes.len() as u32).filter(|&node| self.nodes[node as usize].pool == *pool);
                nodes.nth(target as usize)
            }
            _ => Some(0),
        }
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
                for &node in targets {
                    if on { self.lose_node(now, queue, node)? } else { self.restore_node(now, queue, node)? }
                }
            }
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
            Trouble::Outage(service) => {
                let outages = &mut self.services[*service as usize].outages;
                *outages = if on { *outages + 1 } else { outages.saturating_sub(1) };
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
        Trouble::ZoneLoss(_) => "zone loss",
        Trouble::Partition(..) => "partition",
        Trouble::PacketLoss(..) => "packet loss",
        Trouble::AddedLatency(..) => "added latency",
        Trouble::Outage(_) => "outage",
        Trouble::NoisyNeighbour { .. } => "noisy neighbour",
        Trouble::MemoryLeak(..) => "memory leak",
    }
}
