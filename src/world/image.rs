//! Images: what is on a node already, and how the rest gets there.
//!
//! A node pulls one image at a time, as the kubelet does by default (`serializeImagePulls`). All pulls share the bandwidth
//! of the registry fairly, none gets more than a node takes. They all go at the same speed, so one counter says how far
//! each of them is: it counts the bytes that a pull would have got that began with the run, and a pull ends when the
//! counter has grown by its size. All of it is integer arithmetic.
//!
//! During a registry outage pulls fail. An instance tries again after 10 s, then 20 s, up to 5 minutes: the kubelet's
//! `ImagePullBackOff`.

use std::collections::{BTreeSet, VecDeque};

use crate::kernel::queue::Queue;
use crate::time::{Duration, Time};

use super::World;
use super::control::Control;
use super::instance::State;
use super::spec::RegistrySpec;

/// First delay before another pull (`backOffPeriod` of the kubelet) ...
const BACK_OFF: Duration = Duration::from_secs(10);

/// ... and the longest (`MaxContainerBackOff`).
const MAX_BACK_OFF: Duration = Duration::from_secs(300);

/// Bytes are counted in billionths, so that a rate per second times nanoseconds is exact.
const BYTE: u128 = 1_000_000_000;

/// Images on one node, and who waits for one.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    /// (service, version, bytes), the one that was wanted last at the end.
    images: Vec<(u32, u8, u64)>,
    /// Instances that wait for their image; the first one's is being pulled.
    waiting: VecDeque<u32>,
}

impl Store {
    /// Whether an image is there.
    pub(super) fn has(&self, service: u32, version: u8) -> bool {
        self.images.iter().any(|&(of, number, _)| (of, number) == (service, version))
    }

    /// An image without a size is there from now on. Says whether it is new.
    pub(super) fn note(&mut self, service: u32, version: u8) -> bool {
        let new = !self.has(service, version);
        if new {
            self.images.push((service, version, 0));
        }
        new
    }

    /// Somebody wants an image: it becomes the last to be thrown away. Says whether it is there.
    fn want(&mut self, service: u32, version: u8) -> bool {
        let found = self.images.iter().position(|&(of, number, _)| (of, number) == (service, version));
        if let Some(at) = found {
            self.images[at..].rotate_left(1);
        }
        found.is_some()
    }

    /// An image has arrived. With a limited disk those go that nobody has wanted for longest, unless they are in use.
    fn add(&mut self, image: (u32, u8, u64), disk: Option<u64>, in_use: impl Fn(u32, u8) -> bool) {
        self.images.push(image);
        let Some(disk) = disk else { return };
        let mut total: u64 = self.images.iter().map(|image| image.2).sum();
        let mut at = 0;
        while total > disk && at + 1 < self.images.len() {
            let (service, version, size) = self.images[at];
            if size == 0 || in_use(service, version) {
                at += 1;
            } else {
                self.images.remove(at);
                total -= size;
            }
        }
    }
}

/// The registry, and all pulls in progress.
#[derive(Debug, Default)]
pub(super) struct Registry {
    /// (counter at which it ends, node).
    active: BTreeSet<(u128, u32)>,
    /// The counter of the module documentation, up to `since`.
    counter: u128,
    since: Time,
    /// Only the newest announcement of the next end counts.
    epoch: u32,
    /// Outages in force.
    outages: u32,
}

impl Registry {
    /// Bytes per second for each pull in progress; `None` is no limit.
    fn rate(&self, spec: &RegistrySpec) -> Option<u64> {
        let pulls = (self.active.len() as u64).max(1);
        let share = spec.bandwidth.map(|all| (all / pulls).max(1));
        match (share, spec.node_bandwidth) {
            (Some(share), Some(node)) => Some(share.min(node)),
            (share, node) => share.or(node),
        }
    }

    fn advance(&mut self, now: Time, spec: &RegistrySpec) {
        let passed = u128::from((now - self.since).0);
        self.since = now;
        if let Some(rate) = self.rate(spec) {
            self.counter += u128::from(rate) * passed;
        }
    }
}

impl World<'_> {
    /// An instance has a node and wants its image there.
    pub(super) fn want_image(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let instance = &self.instances[index as usize];
        if instance.state != State::Starting {
            return;
        }
        let node = instance.more.node;
        let images = &mut self.cluster.nodes[node as usize].images;
        images.waiting.push_back(index);
        if images.waiting.len() == 1 {
            self.next_pull(now, queue, node);
        }
    }

    /// The next one in the line of a node gets its image.
    fn next_pull(&mut self, now: Time, queue: &mut Queue, node: u32) {
        while let Some(&index) = self.cluster.nodes[node as usize].images.waiting.front() {
            let instance = &self.instances[index as usize];
            let (service, version) = (instance.service, instance.version);
            let wanted = instance.state == State::Starting;
            let images = &mut self.cluster.nodes[node as usize].images;
            if wanted && !images.want(service, version) {
                if self.registry.outages > 0 {
                    images.waiting.pop_front();
                    self.back_off(now, queue, index);
                    continue;
                }
                let size = self.spec.services[service as usize].versions[version as usize].image;
                self.registry.advance(now, &self.spec.registry);
                let end = self.registry.counter + u128::from(size) * BYTE;
                self.registry.active.insert((end, node));
                self.announce(now, queue);
                return;
            }
            images.waiting.pop_front();
            if wanted {
                self.begin_process(now, queue, index);
            }
        }
    }

    /// Schedules the end of the pull that ends next.
    fn announce(&mut self, now: Time, queue: &mut Queue) {
        self.registry.epoch += 1;
        let Some(&(end, _)) = self.registry.active.first() else { return };
        let left = end.saturating_sub(self.registry.counter);
        let wait = self.registry.rate(&self.spec.registry).map_or(0, |rate| left.div_ceil(u128::from(rate)));
        let at = now + Duration(u64::try_from(wait).unwrap_or(u64::MAX / 4));
        self.schedule(queue, at, Control::Pulled(self.registry.epoch));
    }

    /// Pulls that are done by now.
    pub(super) fn on_pulled(&mut self, now: Time, queue: &mut Queue, epoch: u32) {
        if epoch != self.registry.epoch {
            return;
        }
        self.registry.advance(now, &self.spec.registry);
        let unlimited = self.registry.rate(&self.spec.registry).is_none();
        let mut done = Vec::new();
        while let Some(&(end, node)) = self.registry.active.first() {
            if end > self.registry.counter && !unlimited {
                break;
            }
            self.registry.active.remove(&(end, node));
            done.push(node);
        }
        for node in done {
            self.keep_image(node);
            self.next_pull(now, queue, node);
        }
        self.announce(now, queue);
    }

    /// The image that a node has pulled is there.
    fn keep_image(&mut self, node: u32) {
        let Some(&index) = self.cluster.nodes[node as usize].images.waiting.front() else { return };
        let instance = &self.instances[index as usize];
        let (service, version) = (instance.service, instance.version);
        let size = self.spec.services[service as usize].versions[version as usize].image;
        let guests: Vec<(u32, u8)> = self.cluster.nodes[node as usize]
            .guests
            .iter()
            .map(|&guest| (self.instances[guest as usize].service, self.instances[guest as usize].version))
            .collect();
        let disk = self.spec.pools[self.cluster.nodes[node as usize].pool as usize].disk;
        self.cluster.look_again();
        let images = &mut self.cluster.nodes[node as usize].images;
        images.add((service, version, size), disk, |service, version| guests.contains(&(service, version)));
    }

    /// A node is lost, and with it what it pulls.
    pub(super) fn drop_pulls(&mut self, now: Time, queue: &mut Queue, node: u32) {
        self.cluster.nodes[node as usize].images.waiting.clear();
        let found = self.registry.active.iter().find(|(_, at)| *at == node).copied();
        if let Some(key) = found {
            self.registry.advance(now, &self.spec.registry);
            self.registry.active.remove(&key);
            self.announce(now, queue);
        }
    }

    /// A pull has failed; the instance tries again later.
    pub(super) fn back_off(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let tries = &mut self.instances[index as usize].more.failed_pulls;
        let delay = Duration(BACK_OFF.0 << (*tries).min(5)).min(MAX_BACK_OFF);
        *tries += 1;
        self.log_instance(now, index, "image pull failed");
        self.schedule(queue, now + delay, Control::Pull(index));
    }

    /// Whether images can be pulled.
    pub(super) const fn registry_is_out(&self) -> bool {
        self.registry.outages > 0
    }

    /// A registry outage begins, and breaks what is being pulled, or ends.
    pub(super) fn set_registry_outage(&mut self, now: Time, queue: &mut Queue, on: bool) {
        if !on {
            self.registry.outages -= 1;
            return;
        }
        self.registry.outages += 1;
        self.registry.advance(now, &self.spec.registry);
        let broken = std::mem::take(&mut self.registry.active);
        self.registry.epoch += 1;
        for (_, node) in broken {
            self.next_pull(now, queue, node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_wanted_image_goes_unless_it_is_in_use() {
        let mut store = Store::default();
        for service in 0..3 {
            store.add((service, 0, 40), Some(120), |_, _| false);
        }
        assert!(store.want(0, 0) && !store.want(7, 0));
        // 1 is the oldest, but somebody runs it; then it is the turn of 2.
        store.add((3, 0, 40), Some(120), |service, _| service == 1);
        let left: Vec<u32> = store.images.iter().map(|image| image.0).collect();
        assert_eq!(left, [1, 0, 3]);
    }

    #[test]
    fn pulls_share_fairly_up_to_what_a_node_takes() {
        let spec = RegistrySpec { bandwidth: Some(100), node_bandwidth: Some(40) };
        let mut registry = Registry::default();
        registry.active.insert((1, 0));
        assert_eq!(registry.rate(&spec), Some(40));
        for node in 1..4 {
            registry.active.insert((1, node));
        }
        assert_eq!(registry.rate(&spec), Some(25));
        assert_eq!(registry.rate(&RegistrySpec { bandwidth: None, ..spec }), Some(40));
        assert_eq!(registry.rate(&RegistrySpec { bandwidth: None, node_bandwidth: None }), None);
    }
}
