//! The configuration centre: versions of a configuration, published to the instances of a service, and what mixes meanwhile.
//!
//! A *feed* is a configuration in one environment, which is a service. Publishing is asked for by operators, or by whoever
//! goes back. Every publication has a number; going back publishes an old version under a new number. It reaches each
//! instance after a delay of its own (and what decryption takes), or in batches, by a tool that works on so many at a time,
//! fails now and then, and tries again. An instance takes it at once, or with a restart. One that starts fetches what was
//! published in full last.

use crate::kernel::queue::Queue;
use crate::random::Key;
use crate::time::{Duration, Time};

use super::control::Control;
use super::fault::toggle;
use super::instance::State;
use super::spec::{BatchSpec, ConfigVersionSpec, Publish};
use super::{Flow, World};

/// A configuration in one environment.
pub(super) struct Feed {
    config: u32,
    environment: u32,
    service: u32,
    /// Position in `Service::feeds`.
    slot: u32,
    /// Published in full last: what a new instance fetches.
    current: u8,
    /// Everything that was published, the oldest first.
    history: Vec<u8>,
    /// Number of the last publication; what an older one still has under way is dropped.
    serial: u32,
    /// Since when the instances have different versions.
    mixed_since: Option<Time>,
    pub(super) mixed: Duration,
    pub(super) publishes: u64,
    pub(super) failed_items: u64,
    pub(super) retried_items: u64,
    pub(super) stopped_runs: u64,
    pub(super) restarts: u64,
}

/// A publication that is under way.
#[derive(Clone, Debug)]
pub(super) struct Run {
    feed: u32,
    serial: u32,
    version: u8,
    /// Instances that are still to come, the next one last.
    waiting: Vec<u32>,
    /// Of the present batch: not done yet, and failed for good.
    open: u32,
    failed: u32,
    size: u32,
    batch: BatchSpec,
}

/// What is known of configurations.
#[derive(Default)]
pub(super) struct Configs {
    pub(super) feeds: Vec<Feed>,
    runs: Vec<Run>,
}

/// What the events of a publication say.
#[derive(Clone, Debug)]
pub(super) enum Delivery {
    /// The first share has had it for long enough: now the others.
    Rest { feed: u32, serial: u32, version: u8, had: Vec<u32>, batch: Option<BatchSpec> },
    /// It has reached an instance.
    Arrived { feed: u32, serial: u32, version: u8, instance: u32 },
    /// A tool is done with an instance, at the so many tries.
    Item { run: u32, instance: u32, tries: u32 },
    /// A tool takes its next batch.
    Batch { run: u32 },
}

/// Whether users are worse off with one than with the other.
fn is_worse(one: &ConfigVersionSpec, other: &ConfigVersionSpec) -> bool {
    one.error_rate > other.error_rate || one.demand > other.demand
}

impl World<'_> {
    /// Every service learns which configurations it follows.
    pub(super) fn build_configs(&mut self) {
        for (config, spec) in self.spec.configs.iter().enumerate() {
            for (environment, (_, service)) in spec.environments.iter().enumerate() {
                let feeds = &mut self.services[*service as usize].feeds;
                let slot = feeds.len() as u32;
                feeds.push(self.configs.feeds.len() as u32);
                self.configs.feeds.push(Feed {
                    config: config as u32,
                    environment: environment as u32,
                    service: *service,
                    slot,
                    current: 0,
                    history: vec![0],
                    serial: 0,
                    mixed_since: None,
                    mixed: Duration::ZERO,
                    publishes: 0,
                    failed_items: 0,
                    retried_items: 0,
                    stopped_runs: 0,
                    restarts: 0,
                });
            }
        }
    }

    /// A new instance fetches its configurations.
    pub(super) fn fetch_configs(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let service = self.instances[index as usize].service;
        for at in 0..self.services[service as usize].feeds.len() {
            let feed = self.services[service as usize].feeds[at];
            let version = self.configs.feeds[feed as usize].current;
            self.instances[index as usize].more.configs.push((version, version));
            self.set_effects(now, queue, index, feed, version, true);
        }
    }

    pub(super) fn config_version(&self, feed: u32, version: u8) -> &ConfigVersionSpec {
        let config = self.configs.feeds[feed as usize].config;
        &self.spec.configs[config as usize].versions[usize::from(version)]
    }

    fn set_effects(&mut self, now: Time, queue: &mut Queue, index: u32, feed: u32, version: u8, on: bool) {
        let ConfigVersionSpec { error_rate, demand, .. } = *self.config_version(feed, version);
        let more = &mut self.instances[index as usize].more;
        if error_rate > 0.0 {
            toggle(&mut more.errors, error_rate, on);
        }
        if demand != 1.0 {
            toggle(&mut more.slow, demand, on);
            self.set_speed(now, queue, index);
        }
    }

    /// An operator publishes a version, in one environment or in all of them.
    pub(super) fn publish_config(&mut self, now: Time, queue: &mut Queue, publish: &Publish) -> Flow {
        for feed in 0..self.configs.feeds.len() as u32 {
            let Feed { config, environment, .. } = self.configs.feeds[feed as usize];
            let meant = publish.environment.is_none_or(|wanted| wanted == environment);
            if config == publish.config && meant {
                self.publish_to(now, queue, feed, publish.version, publish)?;
            }
        }
        Ok(())
    }

    /// A bad version is published everywhere, or the one before it where it still is in force.
    pub(super) fn set_bad_config(
        &mut self,
        now: Time,
        queue: &mut Queue,
        config: u32,
        version: u8,
        on: bool,
    ) -> Flow {
        for feed in self.feeds_of(config as usize) {
            let history = &self.configs.feeds[feed as usize].history;
            let to = match on {
                true => Some(version),
                false if history.last() == Some(&version) => self.older_config(feed),
                false => None,
            };
            if let Some(to) = to {
                self.publish_again(now, queue, feed, to)?;
            }
        }
        Ok(())
    }

    /// Whoever goes back publishes an old version to everybody at once.
    pub(super) fn publish_again(&mut self, now: Time, queue: &mut Queue, feed: u32, version: u8) -> Flow {
        let config = self.configs.feeds[feed as usize].config;
        let all =
            Publish { config, version, environment: None, share: 1.0, soak: Duration::ZERO, batch: None };
        self.publish_to(now, queue, feed, version, &all)
    }

    fn publish_to(
        &mut self,
        now: Time,
        queue: &mut Queue,
        feed: u32,
        version: u8,
        publish: &Publish,
    ) -> Flow {
        let counts = self.counts_at(now);
        let state = &mut self.configs.feeds[feed as usize];
        state.serial += 1;
        state.publishes += u64::from(counts);
        state.history.push(version);
        let (serial, service) = (state.serial, state.service);
        let before = state.history[state.history.len() - 2];
        let change = self.describe_change(feed, before, version);
        let (subject, environment) = self.feed_name(feed);
        let name = &self.config_version(feed, version).name;
        let first = if publish.share < 1.0 {
            format!(" for {:.0} % first", publish.share * 100.0)
        } else {
            String::new()
        };
        let detail = format!("{environment}: number {serial} is {name}{first} ({change})");
        self.telemetry.log(now, "config", subject, detail);
        self.note_change(now, service, Some(feed));
        let targets: Vec<u32> = self.services[service as usize].living.clone();
        let count = (targets.len() as f64 * publish.share).ceil() as usize;
        let (now_ones, later) = targets.split_at(count.min(targets.len()));
        if later.is_empty() {
            self.configs.feeds[feed as usize].current = version;
        } else {
            let (had, batch) = (now_ones.to_vec(), publish.batch.clone());
            let rest = Delivery::Rest { feed, serial, version, had, batch };
            self.schedule(queue, now + publish.soak, Control::Config(rest));
        }
        match &publish.batch {
            Some(batch) => {
                self.begin_run(now, queue, feed, version, now_ones.to_vec(), batch);
                Ok(())
            }
            None => self.bring(now, queue, feed, version, now_ones),
        }
    }

    /// Sends a version to instances, each after its own delay.
    fn bring(&mut self, now: Time, queue: &mut Queue, feed: u32, version: u8, targets: &[u32]) -> Flow {
        let state = &self.configs.feeds[feed as usize];
        let serial = state.serial;
        let spec = &self.spec.configs[state.config as usize];
        let key = Key::new(self.seed).named("config").named(&spec.name).with(u64::from(state.environment));
        let key = key.with(u64::from(serial));
        let instant = spec.delay.constant() == Some(0.0) && spec.encryption == Duration::ZERO;
        for &instance in targets {
            if instant {
                self.on_arrived(now, queue, feed, serial, version, instance)?;
                continue;
            }
            let ordinal = self.instances[instance as usize].ordinal;
            let delay = spec.delay.sample_duration(&mut key.with(u64::from(ordinal)).draws());
            let arrived = Delivery::Arrived { feed, serial, version, instance };
            self.schedule(queue, now + delay + spec.encryption, Control::Config(arrived));
        }
        Ok(())
    }

    /// Something about a publication happens.
    pub(super) fn on_config(&mut self, now: Time, queue: &mut Queue, delivery: Delivery) -> Flow {
        match delivery {
            Delivery::Rest { feed, serial, version, had, batch } => {
                let state = &mut self.configs.feeds[feed as usize];
                if state.serial != serial {
                    return Ok(());
                }
                state.current = version;
                let service = state.service;
                let (subject, environment) = self.feed_name(feed);
                self.telemetry.log(now, "config", subject, format!("{environment}: number {serial} for all"));
                let living = self.services[service as usize].living.iter().copied();
                let others: Vec<u32> = living.filter(|instance| !had.contains(instance)).collect();
                match &batch {
                    Some(batch) => {
                        self.begin_run(now, queue, feed, version, others, batch);
                        Ok(())
                    }
                    None => self.bring(now, queue, feed, version, &others),
                }
            }
            Delivery::Arrived { feed, serial, version, instance } => {
                self.on_arrived(now, queue, feed, serial, version, instance)
            }
            Delivery::Item { run, instance, tries } => self.on_item(now, queue, run, instance, tries),
            Delivery::Batch { run } => {
                self.next_batch(now, queue, run);
                Ok(())
            }
        }
    }

    fn on_arrived(
        &mut self,
        now: Time,
        queue: &mut Queue,
        feed: u32,
        serial: u32,
        version: u8,
        index: u32,
    ) -> Flow {
        let Feed { config, slot, serial: newest, .. } = self.configs.feeds[feed as usize];
        let state = self.instances[index as usize].state;
        if serial != newest || state == State::Dead {
            return Ok(());
        }
        let known = &mut self.instances[index as usize].more.configs[slot as usize];
        if known.1 == version {
            return Ok(());
        }
        known.1 = version;
        if !self.spec.configs[config as usize].restart || state != State::Ready {
            // What does not run yet will start with it.
            self.take_config(now, queue, index, feed);
            return Ok(());
        }
        let counts = self.counts_at(now);
        self.configs.feeds[feed as usize].restarts += u64::from(counts);
        self.restart_for_config(now, queue, index)
    }

    /// The process is told to stop, and starts with what has arrived.
    fn restart_for_config(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let instance = &mut self.instances[index as usize];
        if instance.more.leaving {
            return Ok(());
        }
        instance.state = State::Draining;
        instance.more.told_at = now;
        let idle = instance.inside == 0 && instance.queued == 0;
        let service = instance.service;
        self.log_instance(now, index, "restarts for its configuration");
        if idle {
            return self.drained(now, queue, index);
        }
        let grace = self.spec.services[service as usize].grace;
        self.schedule(queue, now + grace, Control::Kill(index, now));
        Ok(())
    }

    /// A process starts anew: it reads what has arrived.
    pub(super) fn take_configs(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let service = self.instances[index as usize].service;
        for at in 0..self.services[service as usize].feeds.len() {
            let feed = self.services[service as usize].feeds[at];
            self.take_config(now, queue, index, feed);
        }
    }

    fn take_config(&mut self, now: Time, queue: &mut Queue, index: u32, feed: u32) {
        let slot = self.configs.feeds[feed as usize].slot;
        let (old, new) = self.instances[index as usize].more.configs[slot as usize];
        if old != new {
            self.set_effects(now, queue, index, feed, old, false);
            self.set_effects(now, queue, index, feed, new, true);
            self.instances[index as usize].more.configs[slot as usize].0 = new;
            self.look_for_mixture(now, feed);
        }
    }

    /// Whether instances that live have different versions from now on.
    fn look_for_mixture(&mut self, now: Time, feed: u32) {
        let Feed { service, slot, .. } = self.configs.feeds[feed as usize];
        let living = self.services[service as usize].living.iter();
        let mut versions = living
            .filter(|&&index| self.instances[index as usize].state != State::Dead)
            .map(|&index| self.instances[index as usize].more.configs[slot as usize].0);
        let first = versions.next();
        let mixed = versions.any(|version| Some(version) != first);
        let from = self.spec.warm_up;
        let state = &mut self.configs.feeds[feed as usize];
        match (state.mixed_since, mixed) {
            (None, true) => state.mixed_since = Some(now),
            (Some(since), false) => {
                state.mixed = state.mixed + (now.max(from) - since.max(from));
                state.mixed_since = None;
            }
            _ => {}
        }
    }

    /// Instances came or went.
    pub(super) fn configs_changed(&mut self, now: Time, service: u32) {
        for at in 0..self.services[service as usize].feeds.len() {
            self.look_for_mixture(now, self.services[service as usize].feeds[at]);
        }
    }

    /// A tool begins to work through a list of instances.
    fn begin_run(
        &mut self,
        now: Time,
        queue: &mut Queue,
        feed: u32,
        version: u8,
        mut targets: Vec<u32>,
        batch: &BatchSpec,
    ) {
        targets.reverse();
        let serial = self.configs.feeds[feed as usize].serial;
        let run = Run {
            feed,
            serial,
            version,
            waiting: targets,
            open: 0,
            failed: 0,
            size: 0,
            batch: batch.clone(),
        };
        self.configs.runs.push(run);
        self.next_batch(now, queue, self.configs.runs.len() as u32 - 1);
    }

    fn next_batch(&mut self, now: Time, queue: &mut Queue, at: u32) {
        let run = &mut self.configs.runs[at as usize];
        if run.serial != self.configs.feeds[run.feed as usize].serial {
            return;
        }
        let left = run.waiting.len().saturating_sub(run.batch.size as usize);
        let batch = run.waiting.split_off(left);
        (run.open, run.size, run.failed) = (batch.len() as u32, batch.len() as u32, 0);
        for instance in batch.into_iter().rev() {
            self.begin_item(now, queue, at, instance, 0);
        }
    }

    fn item_key(&self, at: u32, instance: u32, tries: u32) -> Key {
        let run = &self.configs.runs[at as usize];
        let name = &self.spec.configs[self.configs.feeds[run.feed as usize].config as usize].name;
        let key = Key::new(self.seed).named("config run").named(name).with(u64::from(run.serial));
        key.with(u64::from(self.instances[instance as usize].ordinal)).with(u64::from(tries))
    }

    fn begin_item(&mut self, now: Time, queue: &mut Queue, at: u32, instance: u32, tries: u32) {
        let takes = &self.configs.runs[at as usize].batch.takes;
        let takes = takes.sample_duration(&mut self.item_key(at, instance, tries).named("takes").draws());
        self.schedule(queue, now + takes, Control::Config(Delivery::Item { run: at, instance, tries }));
    }

    /// A tool is done with an instance, or has failed there.
    fn on_item(&mut self, now: Time, queue: &mut Queue, at: u32, instance: u32, tries: u32) -> Flow {
        let counts = self.counts_at(now);
        let unit = self.item_key(at, instance, tries).named("fails").draws().unit();
        let run = &mut self.configs.runs[at as usize];
        let (feed, serial, version) = (run.feed, run.serial, run.version);
        let state = &mut self.configs.feeds[feed as usize];
        if state.serial != serial {
            return Ok(());
        }
        let gone = self.instances[instance as usize].state == State::Dead;
        let fails = !gone && unit < run.batch.failure_rate;
        if fails && tries < run.batch.retries {
            state.retried_items += u64::from(counts);
            self.begin_item(now, queue, at, instance, tries + 1);
            return Ok(());
        }
        run.open -= 1;
        if fails {
            run.failed += 1;
            state.failed_items += u64::from(counts);
        } else {
            self.on_arrived(now, queue, feed, serial, version, instance)?;
        }
        let run = &self.configs.runs[at as usize];
        if run.open > 0 || run.waiting.is_empty() {
            return Ok(());
        }
        // As Ansible's `max_fail_percentage`: more than that, and the run stops.
        if f64::from(run.failed) > run.batch.max_failed * f64::from(run.size) {
            self.configs.feeds[feed as usize].stopped_runs += u64::from(counts);
            let (subject, environment) = self.feed_name(feed);
            self.telemetry.log(
                now,
                "config",
                subject,
                format!("{environment}: the run of number {serial} stops"),
            );
            return Ok(());
        }
        let pause = run.batch.pause;
        self.schedule(queue, now + pause, Control::Config(Delivery::Batch { run: at }));
        Ok(())
    }

    /// Name of the configuration, and of the environment.
    pub(super) fn feed_name(&self, feed: u32) -> (String, String) {
        let Feed { config, environment, .. } = self.configs.feeds[feed as usize];
        let spec = &self.spec.configs[config as usize];
        (spec.name.clone(), spec.environments[environment as usize].0.clone())
    }

    /// What differs between two versions, in words.
    fn describe_change(&self, feed: u32, old: u8, new: u8) -> String {
        let (old, new) = (self.config_version(feed, old), self.config_version(feed, new));
        let mut changes = Vec::new();
        if old.error_rate != new.error_rate {
            let percent = |rate: f64| format!("{} %", (rate * 1e4).round() / 100.0);
            changes.push(format!("error-rate {} -> {}", percent(old.error_rate), percent(new.error_rate)));
        }
        if old.demand != new.demand {
            changes.push(format!("demand {} -> {}", old.demand, new.demand));
        }
        if changes.is_empty() { "nothing changes".to_owned() } else { changes.join(", ") }
    }

    /// The version that was in force before the present one.
    pub(super) fn older_config(&self, feed: u32) -> Option<u8> {
        let history = &self.configs.feeds[feed as usize].history;
        let (last, before) = history.split_last()?;
        before.iter().rev().copied().find(|version| version != last)
    }

    /// The present version, whether users are worse off with it than with another, and the name of that.
    pub(super) fn compare_config(&self, feed: u32, to: u8) -> (u8, bool, String) {
        let history = &self.configs.feeds[feed as usize].history;
        let from = history.last().copied().unwrap_or(0);
        let (old, new) = (self.config_version(feed, from), self.config_version(feed, to));
        (from, is_worse(old, new), new.name.clone())
    }

    /// Configurations of a service that are worse than those before, at the end.
    pub(super) fn bad_configs(&self, service: u32) -> u64 {
        let feeds = &self.services[service as usize].feeds;
        let bad =
            |feed: &&u32| self.older_config(**feed).is_some_and(|older| self.compare_config(**feed, older).1);
        feeds.iter().filter(bad).count() as u64
    }

    /// How long instances had different versions, up to the end of the counted part.
    pub(super) fn mixed_until(&self, feed: u32, end: Time) -> Duration {
        let state = &self.configs.feeds[feed as usize];
        let from = self.spec.warm_up;
        let open = state
            .mixed_since
            .map_or(Duration::ZERO, |since| end.max(from) - since.max(from).min(end.max(from)));
        state.mixed + open
    }

    /// Feeds of a configuration.
    pub(super) fn feeds_of(&self, config: usize) -> Vec<u32> {
        let feeds = self.configs.feeds.iter().enumerate();
        feeds.filter(|(_, feed)| feed.config as usize == config).map(|(at, _)| at as u32).collect()
    }
}
