//! Automatic rollback: what the watcher of a service gets to see, and what becomes of its orders.

use crate::kernel::queue::Queue;
use crate::policies::rollback::{Order, Rollback, Signals};
use crate::policies::view::Class;
use crate::random::Key;
use crate::time::{Duration, Time};

use super::control::Control;
use super::instance::State;
use super::report::Decision;
use super::spec::{Gauge, RollbackSpec, Thing, VersionSpec};
use super::{Flow, World};

/// What callers saw of a service so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    at: Time,
    requests: u64,
    errors: u64,
    /// Sum of the latencies, ns.
    sum: u128,
    crashes: u64,
}

impl Seen {
    pub(super) fn note(&mut self, class: Class, latency: Duration) {
        if class != Class::Abandoned {
            self.requests += 1;
            self.errors += u64::from(class != Class::Success);
            self.sum += u128::from(latency.0);
        }
    }

    pub(super) const fn note_crash(&mut self) {
        self.crashes += 1;
    }
}

/// The last change of what a service runs.
#[derive(Clone, Copy, Debug)]
struct Change {
    at: Time,
    what: What,
}

/// What was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Release,
    /// Of this feed.
    Config(u32),
}

/// A watcher while the world runs.
pub(super) struct Watcher {
    policy: Rollback,
    history: Vec<Seen>,
    change: Option<Change>,
    /// When it went back last, until that has helped.
    ordered: Option<Time>,
    pub(super) rollbacks: u64,
    pub(super) wrong: u64,
    pub(super) calls: u64,
    detect: Vec<Duration>,
    recover: Vec<Duration>,
}

impl Watcher {
    pub(super) fn new(spec: &RollbackSpec) -> Self {
        Self {
            policy: Rollback::new(spec.settings),
            history: Vec::new(),
            change: None,
            ordered: None,
            rollbacks: 0,
            wrong: 0,
            calls: 0,
            detect: Vec::new(),
            recover: Vec::new(),
        }
    }

    /// Mean time from a change to the order to take it back, and from there to a test that passed.
    pub(super) fn times(&self) -> [Option<f64>; 2] {
        let mean = |times: &[Duration]| {
            let sum: f64 = times.iter().map(|time| time.as_secs_f64()).sum();
            (!times.is_empty()).then(|| sum / times.len() as f64)
        };
        [mean(&self.detect), mean(&self.recover)]
    }
}

/// Whether users are worse off with a version than with another, by what was written about both.
pub(super) fn is_worse(one: &VersionSpec, other: &VersionSpec) -> bool {
    one.error_rate > other.error_rate
        || one.demand > other.demand
        || one.leak_per_hour > other.leak_per_hour
        || one.crash_loop.is_some() && other.crash_loop.is_none()
}

impl World<'_> {
    /// The first look of every watcher; each has its own phase. Callers begin to tell what they see.
    pub(super) fn begin_rollbacks(&mut self, queue: &mut Queue) {
        for service in 0..self.services.len() {
            if self.services[service].seen.is_some() || self.spec.services[service].on_outage.is_some() {
                self.tell_all_versions(Time::ZERO, service as u32);
            }
        }
        for (index, spec) in self.spec.rollbacks.iter().enumerate() {
            self.watchers.push(Watcher::new(spec));
            let phase = Key::new(self.seed).named("phase").named("rollback").named(&spec.name);
            let first = Duration::from_ns_f64(spec.every.0 as f64 * phase.draws().unit());
            self.schedule(queue, Time::ZERO + first, Control::Watch(index as u32));
        }
    }

    /// A service was given another version, or (with a feed) another configuration.
    pub(super) fn note_change(&mut self, now: Time, service: u32, feed: Option<u32>) {
        for (spec, watcher) in self.spec.rollbacks.iter().zip(&mut self.watchers) {
            if spec.service == service {
                let what = feed.map_or(What::Release, What::Config);
                watcher.change = Some(Change { at: now, what });
            }
        }
    }

    /// A watcher looks.
    pub(super) fn on_watch(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let spec = &self.spec.rollbacks[index as usize];
        if now + spec.every < self.spec.end {
            self.schedule(queue, now + spec.every, Control::Watch(index));
        }
        let signals = self.signals_of(now, index);
        let back = self.way_back(index);
        let order = self.watchers[index as usize].policy.look(now, &signals, back.is_some());
        let Some(order) = order else { return Ok(()) };
        let counts = self.counts_at(now);
        let watcher = &mut self.watchers[index as usize];
        match order {
            Order::Recovered => {
                if let Some(since) = watcher.ordered.take().filter(|_| counts) {
                    watcher.recover.push(now - since);
                }
                self.telemetry.log(now, "rollback", spec.name.clone(), "tested: it is good again".to_owned());
                Ok(())
            }
            Order::CallPeople(why) => {
                watcher.calls += u64::from(counts);
                watcher.ordered = None;
                self.telemetry.log(
                    now,
                    "rollback",
                    spec.name.clone(),
                    format!("gives up, people are called: {why}"),
                );
                Ok(())
            }
            Order::Back(why) => {
                let Some((what, to)) = back else { return Ok(()) };
                let first = watcher.ordered.is_none();
                watcher.ordered.get_or_insert(now);
                watcher.rollbacks += u64::from(counts);
                if first && counts {
                    watcher.detect.extend(watcher.change.map(|change| now - change.at));
                }
                self.go_back(now, queue, index, why, what, to)?;
                // The next step goes further back, not forth again.
                if let Some(change) = &mut self.watchers[index as usize].change {
                    change.what = What::Release;
                }
                Ok(())
            }
        }
    }

    /// The last change is taken back.
    fn go_back(
        &mut self,
        now: Time,
        queue: &mut Queue,
        index: u32,
        why: &'static str,
        what: What,
        to: u8,
    ) -> Flow {
        let spec = self.spec;
        let RollbackSpec { name, service, by, .. } = &spec.rollbacks[index as usize];
        let versions = &spec.services[*service as usize].versions;
        let (before, bad, said) = match what {
            What::Release => {
                let from = self.services[*service as usize].version;
                let (old, new) = (&versions[usize::from(from)], &versions[usize::from(to)]);
                (from, is_worse(old, new), format!("back to {}: {why}", new.name))
            }
            What::Config(feed) => {
                let (from, bad, name) = self.compare_config(feed, to);
                (from, bad, format!("publishes {name} again: {why}"))
            }
        };
        if self.counts_at(now) && !bad {
            self.watchers[index as usize].wrong += 1;
        }
        self.telemetry.log(now, "rollback", name.clone(), said);
        let decision = Decision {
            at: now,
            kind: "rollback",
            subject: name.clone(),
            inputs: Vec::new(),
            before: f64::from(before),
            after: f64::from(to),
            reason: why,
        };
        self.telemetry.decide(decision);
        match what {
            What::Release => self.roll_out(now, queue, *service, to, by),
            What::Config(feed) => self.publish_again(now, queue, feed, to),
        }
    }

    /// What the last change was made from.
    fn way_back(&self, index: u32) -> Option<(What, u8)> {
        let spec = &self.spec.rollbacks[index as usize];
        let change = self.watchers[index as usize].change?;
        let release = || {
            let service = &self.spec.services[spec.service as usize];
            let version = self.services[spec.service as usize].version;
            Some((What::Release, service.versions[usize::from(version)].parent?))
        };
        match change.what {
            What::Release => release(),
            // With no older configuration, the release is next.
            What::Config(feed) => {
                let older = self.older_config(feed).map(|version| (What::Config(feed), version));
                older.or_else(release)
            }
        }
    }

    fn signals_of(&mut self, now: Time, index: u32) -> Signals {
        let spec = &self.spec.rollbacks[index as usize];
        let seen = self.services[spec.service as usize].seen.as_deref().copied().unwrap_or_default();
        let seen = Seen { at: now, ..seen };
        let history = &mut self.watchers[index as usize].history;
        history.push(seen);
        // The newest one that is as old as the window stays.
        let old = history.iter().rposition(|known| now - known.at >= spec.window).unwrap_or(0);
        history.drain(..old);
        let first = history[0];
        let requests = seen.requests - first.requests;
        let share = |sum: f64| (requests >= spec.least).then(|| sum / requests as f64);
        let disk = spec.settings.disk.and_then(|_| {
            let observed = self.observe(now, Thing::Service(spec.service), Gauge::DiskUtilization);
            Gauge::DiskUtilization.value(observed, None)
        });
        Signals {
            error_ratio: share((seen.errors - first.errors) as f64),
            mean_latency: share((seen.sum - first.sum) as f64 * 1e-9),
            crashes: seen.crashes - first.crashes,
            disk,
            alert: spec.alert.is_some_and(|alert| self.alerts[alert as usize].is_firing()),
        }
    }

    /// Bad versions and configurations in force at the end.
    pub(super) fn missed(&self, index: usize) -> u64 {
        let spec = &self.spec.rollbacks[index];
        let service = &self.spec.services[spec.service as usize];
        let version = &service.versions[usize::from(self.services[spec.service as usize].version)];
        let parent = version.parent.map(|parent| &service.versions[usize::from(parent)]);
        let release = parent.is_some_and(|parent| is_worse(version, parent));
        let runs = self.services[spec.service as usize].living.iter().any(|&instance| {
            let instance = &self.instances[instance as usize];
            instance.state != State::Dead && instance.version == self.services[spec.service as usize].version
        });
        u64::from(release && runs) + self.bad_configs(spec.service)
    }
}
