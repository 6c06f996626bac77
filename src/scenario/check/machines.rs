//! Machines: node pools, what orders of them go through, where services run.

use super::{Check, size};
use crate::policies::scheduler::AntiAffinity;
use crate::random::law::Law;
use crate::scenario::error::{Diagnostic, enumerated};
use crate::scenario::model::{Instance, NodePool, Provisioning, Registry, Scenario};
use crate::scenario::schema::{
    ApartWord, NodePoolTable, PoolOrPools, ProvisioningTable, RegistryTable, ServiceTable, SourceTable,
};
use crate::units::Price;

/// Most nodes that a pool may ever have at one moment.
const MOST_NODES: u64 = 1_000_000;

impl Check<'_> {
    pub(super) fn node_pool(&mut self, table: &NodePoolTable) -> NodePool {
        let mut zones = Vec::new();
        for name in &table.zones {
            let at = self.names.zones.iter().position(|known| *known == name.value);
            let at = at.expect("zones were collected from here");
            if zones.contains(&at) {
                self.wrong(format!("the zone `{}` is named twice", name.value), name.place);
            }
            self.well_formed("zone", name, false);
            zones.push(at);
        }
        let nodes = table.nodes.value;
        self.at_least(f64::from(nodes), 1.0, "nodes", table.nodes.place);
        self.at_most(u64::from(nodes), MOST_NODES, "nodes", table.nodes.place);
        self.above_zero(table.cores.value, "cores", table.cores.place);
        let least = table.min.map_or(nodes, |min| min.value);
        let most = table.max.map_or(nodes, |max| max.value);
        if let Some(max) = &table.max {
            self.at_least(f64::from(max.value), f64::from(nodes), "max", max.place);
            self.at_most(u64::from(max.value), MOST_NODES, "max", max.place);
        }
        if let Some(min) = &table.min
            && min.value > nodes
        {
            let message = format!("`min` is {}, and the pool begins with {nodes} nodes", min.value);
            self.wrong(message, min.place);
        }
        NodePool {
            name: table.name.value.clone(),
            nodes,
            cores: table.cores.value,
            memory: table.memory.value.0,
            zones,
            price: table.price.map(|Price(price)| price),
            scales: (table.min.is_some() || table.max.is_some()).then_some((least, most)),
            boot: table.boot.as_ref().map_or(Law::Constant(90e9), |boot| self.law(boot)),
            max_pods: self.one_or_more(table.max_pods.as_ref(), "max-pods", 110),
            rank: table.rank.unwrap_or(0),
            disk: table.disk.map(|disk| disk.value.0),
            spot: table.spot.unwrap_or(false),
        }
    }

    pub(super) fn provisioning(&mut self, table: &ProvisioningTable) -> Provisioning {
        Provisioning {
            concurrency: self.count(table.concurrency.as_ref(), "concurrency", 1).unwrap_or(u32::MAX),
            takes: self.law_or_zero(table.takes.as_ref()),
            queue: self.count(table.queue.as_ref(), "queue", 0).unwrap_or(u32::MAX),
            timeout: table.timeout.map(|timeout| self.some_time(&timeout, "timeout")),
            failure_rate: table.failure_rate.map_or(0.0, |share| share.0),
        }
    }

    /// Node pools that a service may run on.
    pub(super) fn homes(&mut self, table: &ServiceTable, node_pools: &[NodePool]) -> Vec<usize> {
        let known = self.names.pools.clone();
        let named: Vec<(&String, crate::scenario::error::Place)> = match (&table.pool, &table.node_pool) {
            (PoolOrPools::NodePool(_, place), Some(_)) => {
                self.wrong("the node pool is named twice, by `pool` and by `node-pool`", *place);
                return Vec::new();
            }
            (PoolOrPools::NodePool(name, place), None) => vec![(name, *place)],
            (PoolOrPools::Connections(_), Some(names)) => {
                names.0.iter().map(|name| (&name.value, name.place)).collect()
            }
            (PoolOrPools::Connections(_), None) => Vec::new(),
        };
        if named.is_empty() {
            return match node_pools {
                [] => Vec::new(),
                [_] => vec![0],
                _ => {
                    let known: Vec<&str> = node_pools.iter().map(|pool| pool.name.as_str()).collect();
                    let error =
                        Diagnostic::new(format!("on which node pool does `{}` run?", table.name.value));
                    let error = error.at(table.name.place).note(enumerated(&known));
                    self.errors.push(error.hint(format!("write pool = \"{}\"", node_pools[0].name)));
                    Vec::new()
                }
            };
        }
        let mut homes = Vec::new();
        for (name, place) in named {
            let Some(at) = self.lookup("node pool", name, place, &known) else { continue };
            if homes.contains(&at) {
                self.wrong(format!("the node pool `{name}` is named twice"), place);
            }
            homes.push(at);
        }
        homes
    }

    /// A pull is either drawn or computed from the size of the image, which needs a node and a registry.
    pub(super) fn image(&mut self, table: &ServiceTable, homes: &[usize], registry: Registry) {
        let sizes = table.version.iter().filter_map(|version| version.image.as_ref());
        let Some(image) = sizes.chain(&table.instance.image).next() else { return };
        if let Some(pull) = &table.instance.pull {
            let error =
                Diagnostic::new("the time of a pull is said twice, by `pull` and by `image`").at(pull.place);
            self.errors.push(error.hint("leave one of them out"));
        }
        if homes.is_empty() {
            self.wrong("an image is pulled by a node, and there is no [[node-pool]]", image.place);
        }
        if registry == Registry::default() {
            self.warnings.push(format!(
                "the image of `{}` takes no time to pull: write `bandwidth` or `node-bandwidth` in [registry]",
                table.name.value
            ));
        }
    }

    /// An instance that is larger than any node it may go to would wait for ever.
    pub(super) fn fits(
        &mut self,
        table: &ServiceTable,
        instance: &Instance,
        node_pools: &[NodePool],
        homes: &[usize],
    ) {
        let roomy = |at: &&usize| {
            instance.cpu_request <= node_pools[**at].cores && instance.memory <= node_pools[**at].memory
        };
        if homes.iter().any(|at| roomy(&at)) {
            return;
        }
        let Some(&at) = homes.first() else { return };
        let pool = &node_pools[at];
        let request = &table.instance.cpu_request;
        let cpu_place =
            request.map(|cpu| cpu.place).or_else(|| table.instance.cores.map(|cores| cores.place));
        if instance.cpu_request > pool.cores {
            let message = format!(
                "an instance of `{}` asks for {} cores, and a node of `{}` has {}",
                table.name.value, instance.cpu_request, pool.name, pool.cores
            );
            self.wrong(message, cpu_place.unwrap_or(table.name.place));
        }
        if instance.memory > pool.memory {
            let message = format!(
                "an instance of `{}` takes {} of memory, and a node of `{}` has {}",
                table.name.value,
                size(instance.memory),
                pool.name,
                size(pool.memory)
            );
            self.wrong(message, table.instance.memory.map_or(table.name.place, |memory| memory.place));
        }
    }

    /// What only shows when all services are known.
    pub(super) fn machines(&mut self, scenario: &Scenario) {
        /// A provisioner tells kinds of nodes apart by a bit for each.
        const MOST_KINDS: usize = 64;
        if scenario.provisioner.is_some() {
            if scenario.node_pools.len() > MOST_KINDS {
                let message = format!("with a provisioner there may be at most {MOST_KINDS} node pools");
                self.errors.push(Diagnostic::new(message));
            }
            if scenario.node_pools.iter().all(|pool| pool.scales.is_none()) {
                let message = "the provisioner has no node pool whose size it may change";
                self.warnings.push(format!("{message}: write `min` and `max` in [[node-pool]]"));
            }
        }
        for (at, pool) in scenario.node_pools.iter().enumerate() {
            let tenants = || scenario.services.iter().filter(|service| service.node_pools == [at]);
            let cpu: f64 =
                tenants().map(|service| f64::from(service.replicas) * service.instance.cpu_request).sum();
            let memory: f64 =
                tenants().map(|service| f64::from(service.replicas) * service.instance.memory as f64).sum();
            let nodes = f64::from(pool.nodes);
            if cpu > nodes * pool.cores || memory > nodes * pool.memory as f64 {
                self.warnings.push(format!(
                    "node pool `{}` has no room for all instances at the start: some will wait for a node",
                    pool.name
                ));
            }
        }
    }
}

pub(super) fn registry(table: &RegistryTable) -> Registry {
    Registry {
        bandwidth: table.bandwidth.map(|bandwidth| bandwidth.value.0),
        node_bandwidth: table.node_bandwidth.map(|bandwidth| bandwidth.value.0),
    }
}

pub(super) const fn apart(word: Option<ApartWord>) -> AntiAffinity {
    match word {
        None => AntiAffinity::None,
        Some(ApartWord::Node) => AntiAffinity::Node,
        Some(ApartWord::Zone) => AntiAffinity::Zone,
    }
}

/// Zones in order of mention: node pools first, then sources.
pub(super) fn zones(pools: &[NodePoolTable], sources: &[SourceTable]) -> Vec<String> {
    let mut zones: Vec<String> = Vec::new();
    let mentioned = pools
        .iter()
        .flat_map(|pool| &pool.zones)
        .chain(sources.iter().filter_map(|source| source.zone.as_ref()));
    for zone in mentioned {
        if !zones.contains(&zone.value) {
            zones.push(zone.value.clone());
        }
    }
    zones
}
