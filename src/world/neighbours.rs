//! Noisy neighbours: what runs on one node shares its cores.
//!
//! Only nodes whose instances could together use more than there is keep a state here (`PoolSpec::shares_cpu`). While all
//! of them together want no more than the node has, everybody gets it. Otherwise the cores are dealt by weight, as the
//! fair scheduler does between cgroups: max-min fair with the CPU requests as weights, and what one cannot use goes to the
//! others. Who uses no more than its request is therefore never disturbed by a neighbour. Cores that a fault steals (a
//! neighbour beyond the hypervisor, a daemon outside the cgroups) are gone for all.

use crate::kernel::queue::Queue;
use crate::time::Time;

use super::World;
use super::frame::NIL;
use super::governor::CORE;

/// The cores of one node.
#[derive(Debug, Default)]
pub(super) struct NodeCpu {
    cores: u64,
    /// Stolen cores, one entry for each fault in force.
    thieves: Vec<f64>,
    /// (instance, container) that run here.
    members: Vec<(u32, u8)>,
    /// Cores that all of them want together.
    wanted: u64,
    /// They want more than there is, so their grants bind.
    short: bool,
}

/// A member of a node that is short of cores.
#[derive(Clone, Copy, Debug)]
struct Claim {
    weight: u64,
    wants: u64,
}

/// Something is always left for the rest: a hundredth of a core.
const LEAST: u64 = CORE / 100;

impl NodeCpu {
    fn capacity(&self) -> u64 {
        let stolen = (self.thieves.iter().sum::<f64>() * CORE as f64) as u64;
        self.cores.saturating_sub(stolen).max(LEAST)
    }
}

/// Max-min fair shares by weight: nobody gets more than it wants, and all of `capacity` is used.
fn shares(capacity: u64, claims: &[Claim]) -> Vec<u64> {
    let mut order: Vec<usize> = (0..claims.len()).filter(|&at| claims[at].wants > 0).collect();
    // Who wants least for its weight is satisfied first.
    order.sort_by(|&a, &b| {
        let (a, b) = (claims[a], claims[b]);
        (u128::from(a.wants) * u128::from(b.weight)).cmp(&(u128::from(b.wants) * u128::from(a.weight)))
    });
    let mut left = capacity;
    let mut weights: u64 = order.iter().map(|&at| claims[at].weight).sum();
    let mut granted = vec![0; claims.len()];
    for at in order {
        let Claim { weight, wants } = claims[at];
        let fair = (u128::from(left) * u128::from(weight) / u128::from(weights)) as u64;
        granted[at] = wants.min(fair);
        left -= granted[at];
        weights -= weight;
    }
    granted
}

impl World<'_> {
    /// Containers of `index` share the cores of `node` from now on, if anybody does there.
    pub(super) fn join_node(&mut self, index: u32, node: u32) {
        if node == NIL {
            return;
        }
        let pool = &self.spec.pools[self.cluster.nodes[node as usize].pool as usize];
        if !pool.shares_cpu {
            return;
        }
        let cores = (pool.cores * CORE as f64) as u64;
        if self.node_cpus.len() <= node as usize {
            self.node_cpus.resize_with(node as usize + 1, NodeCpu::default);
        }
        let containers = self.instances[index as usize].containers();
        let cpu = &mut self.node_cpus[node as usize];
        cpu.cores = cores;
        cpu.members.extend((0..containers).map(|container| (index, container)));
    }

    /// And no more.
    pub(super) fn quit_node(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let node = self.instances[index as usize].more.node;
        let Some(cpu) = self.node_cpus.get_mut(node as usize) else { return };
        cpu.members.retain(|(member, _)| *member != index);
        self.deal_cores(now, queue, node);
    }

    /// A container wants another number of cores than before.
    pub(super) fn tell_node(&mut self, now: Time, queue: &mut Queue, index: u32, wanted: u64, before: u64) {
        let node = self.instances[index as usize].more.node;
        let Some(cpu) = self.node_cpus.get_mut(node as usize) else { return };
        if cpu.members.is_empty() {
            // Nobody shares anything here.
            return;
        }
        cpu.wanted = cpu.wanted - before + wanted;
        if cpu.short || cpu.wanted > cpu.capacity() {
            self.deal_cores(now, queue, node);
        }
    }

    /// An instance asks for more or less than before.
    pub(super) fn weigh_anew(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let node = self.instances[index as usize].more.node;
        if self.node_cpus.get(node as usize).is_some_and(|cpu| cpu.short) {
            self.deal_cores(now, queue, node);
        }
    }

    /// A fault takes cores from a node, or gives them back.
    pub(super) fn steal_cores(&mut self, now: Time, queue: &mut Queue, node: u32, cores: f64, on: bool) {
        if self.node_cpus.len() <= node as usize {
            self.node_cpus.resize_with(node as usize + 1, NodeCpu::default);
        }
        super::fault::toggle(&mut self.node_cpus[node as usize].thieves, cores, on);
        self.deal_cores(now, queue, node);
    }

    /// Deals the cores of a node anew.
    fn deal_cores(&mut self, now: Time, queue: &mut Queue, node: u32) {
        let cpu = &mut self.node_cpus[node as usize];
        let members = std::mem::take(&mut cpu.members);
        let mut claims = Vec::with_capacity(members.len());
        for &(index, container) in &members {
            let instance = &self.instances[index as usize];
            let weight = self.spec.services[instance.service as usize].weight(container, &instance.more.ask);
            claims.push(Claim { weight, wants: instance.wanted_cores(container) });
        }
        let wanted = claims.iter().map(|claim| claim.wants).sum();
        let cpu = &mut self.node_cpus[node as usize];
        // Whoever has left wants nothing any more.
        cpu.wanted = wanted;
        let capacity = cpu.capacity();
        let was_short = std::mem::replace(&mut cpu.short, wanted > capacity);
        let granted = if cpu.short { shares(capacity, &claims) } else { vec![u64::MAX; members.len()] };
        if cpu.short || was_short {
            for (&(index, container), granted) in members.iter().zip(granted) {
                self.grant_cores(now, queue, index, container, granted);
            }
        }
        self.node_cpus[node as usize].members = members;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deal(capacity: u64, claims: &[(u64, u64)]) -> Vec<u64> {
        let claims: Vec<Claim> = claims.iter().map(|&(weight, wants)| Claim { weight, wants }).collect();
        shares(capacity, &claims)
    }

    #[test]
    fn cores_go_by_weight_and_what_one_cannot_use_goes_to_the_others() {
        assert_eq!(deal(400, &[(1, 1000), (1, 1000)]), [200, 200]);
        assert_eq!(deal(400, &[(3, 1000), (1, 1000)]), [300, 100]);
        assert_eq!(deal(400, &[(1, 50), (1, 1000), (2, 1000)]), [50, 117, 233]);
        assert_eq!(deal(400, &[(1, 0), (1, 1000)]), [0, 400]);
        assert_eq!(deal(400, &[(5, 100), (1, 1000)]), [100, 300], "a heavy one that wants little");
    }

    #[test]
    fn shares_are_fair() {
        // Nobody gets more than it wants; nothing is left over while somebody wants; whoever is not satisfied has at
        // least as much for its weight as anybody else.
        let mut rng = crate::random::Key::new(7).draws();
        for _ in 0..2000 {
            let count = 1 + (rng.unit() * 6.0) as usize;
            let claims: Vec<(u64, u64)> = (0..count)
                .map(|_| (2 + (rng.unit() * 4000.0) as u64, (rng.unit() * 8.0 * CORE as f64) as u64))
                .collect();
            let capacity = 1 + (rng.unit() * 16.0 * CORE as f64) as u64;
            let granted = deal(capacity, &claims);
            let wanted: u64 = claims.iter().map(|(_, wants)| wants).sum();
            assert_eq!(granted.iter().sum::<u64>(), wanted.min(capacity));
            for (&(weight, wants), &got) in claims.iter().zip(&granted) {
                assert!(got <= wants);
                if got < wants {
                    for (&(other, _), &has) in claims.iter().zip(&granted) {
                        let (mine, theirs) = (got as f64 / weight as f64, has as f64 / other as f64);
                        assert!(mine >= theirs * (1.0 - 1e-6) - 1.0, "{claims:?} {granted:?}");
                    }
                }
            }
        }
    }
}
