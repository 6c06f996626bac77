//! Version changes: the rollout policy decides, the fleet obeys.

use crate::kernel::queue::Queue;
use crate::policies::rollout::standing::Stance;
use crate::policies::rollout::{AnyRollout, Command, ReplicaSet, Rollout as _};
use crate::time::{Duration, Time};

use super::control::Control;
use super::{Flow, World};

/// Wanted instances of one version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Set {
    pub(super) version: u8,
    pub(super) spec: u32,
}

/// One planned version change.
pub(super) struct Progress {
    service: u32,
    policy: Option<AnyRollout>,
    /// The policy is being asked; nested changes of the fleet wait for it.
    busy: bool,
    /// When it began, when only the right moment was missing, when that came, and when it was over.
    pub(super) began: Option<Time>,
    pub(super) asked: Option<Time>,
    pub(super) switched: Option<Time>,
    pub(super) ended: Option<Time>,
    /// Calls that it held, how long they waited, and how many of them never went out.
    pub(super) held: u64,
    pub(super) held_ns: u128,
    pub(super) lost: u64,
    /// Old instances that did not manage to hand their state over.
    pub(super) states_lost: u64,
}

impl Progress {
    pub(super) const fn new(service: u32) -> Self {
        Self {
            service,
            policy: None,
            busy: false,
            began: None,
            asked: None,
            switched: None,
            ended: None,
            held: 0,
            held_ns: 0,
            lost: 0,
            states_lost: 0,
        }
    }
}

impl World<'_> {
    /// A rollout starts.
    pub(super) fn begin_rollout(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let spec = &self.spec.rollouts[index as usize];
        let service = &self.spec.services[spec.service as usize];
        let to = &service.versions[spec.to as usize].name;
        // A newer rollout takes over from one that is still in progress.
        if let Some(older) = self.rollout_of(spec.service) {
            self.rollouts[older as usize].policy = None;
            self.open_gate(now, queue, older)?;
            self.telemetry.log(
                now,
                "rollout_end",
                service.name.clone(),
                format!("superseded by the one to {to}"),
            );
        }
        let sets = &mut self.services[spec.service as usize].sets;
        if sets.len() == 1 && sets[0].version == spec.to {
            return Ok(());
        }
        // The way back to a version of which there still are instances goes on with them.
        let known = sets.iter().position(|set| set.version == spec.to).map(|at| sets.remove(at));
        sets.push(known.unwrap_or(Set { version: spec.to, spec: 0 }));
        self.telemetry.log(now, "rollout", service.name.clone(), format!("to {to}, {}", spec.how.name()));
        let policy = spec.how.build(now);
        if policy.watches() {
            self.begin_watch(index);
        }
        let progress = &mut self.rollouts[index as usize];
        progress.policy = Some(policy);
        progress.began = Some(now);
        self.services[spec.service as usize].inherited = None;
        self.sync_rollout(now, queue, index)
    }

    /// The rollout in progress on a service.
    pub(super) fn rollout_of(&self, service: u32) -> Option<u32> {
        let found =
            self.rollouts.iter().position(|rollout| rollout.service == service && rollout.policy.is_some());
        found.map(|at| at as u32)
    }

    /// Instances came or went: the rollout in progress wants to know.
    pub(super) fn membership_changed(&mut self, now: Time, queue: &mut Queue, service: u32) -> Flow {
        if let Some(rollout) = self.rollout_of(service) {
            return self.sync_rollout(now, queue, rollout);
        }
        Ok(())
    }

    /// Asks the policy for its next orders until it has none.
    pub(super) fn sync_rollout(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let service = self.rollouts[index as usize].service;
        if std::mem::replace(&mut self.rollouts[index as usize].busy, true) {
            return Ok(());
        }
        for _ in 0..MAX_ORDERS {
            let min_ready = self.rollouts[index as usize].policy.as_ref().map(AnyRollout::min_ready);
            let Some(min_ready) = min_ready else { break };
            let (sets, next_available) = self.replica_sets(now, service, min_ready);
            let wanted = self.services[service as usize].wanted;
            let census = if self.watching == 0 { None } else { self.census(index) };
            let progress = &mut self.rollouts[index as usize];
            let Some(policy) = &mut progress.policy else { break };
            if let Some(census) = &census {
                policy.on_census(census);
            }
            let command = policy.sync(now, wanted, &sets);
            if census.is_some() {
                let (stance, (asked, switched)) = (policy.stance(), policy.progress());
                let next = policy.next_wakeup();
                if asked && progress.asked.is_none() {
                    progress.asked = Some(now);
                }
                let news = switched && progress.switched.is_none();
                if news {
                    progress.switched = Some(now);
                }
                self.note_stance(now, queue, index, stance, news);
                if let Some(at) = next.filter(|at| *at > now && command.is_some()) {
                    self.schedule(queue, at, Control::Sync(index));
                }
            }
            let Some(policy) = &mut self.rollouts[index as usize].policy else { break };
            match command {
                Some(Command::Scale { set, to }) => {
                    self.services[service as usize].sets[set].spec = to;
                    self.reconcile(now, queue, service)?;
                }
                Some(Command::Done) => {
                    self.end_rollout(now, queue, index)?;
                    break;
                }
                None => {
                    for at in policy.next_wakeup().into_iter().chain(next_available).filter(|at| *at > now) {
                        self.schedule(queue, at, Control::Sync(index));
                    }
                    break;
                }
            }
        }
        self.rollouts[index as usize].busy = false;
        Ok(())
    }

    /// What the policy asks of calls from now on; `switched`, if callers go to the new version from this moment on.
    fn note_stance(&mut self, now: Time, queue: &mut Queue, index: u32, stance: Stance, switched: bool) {
        self.take_stance(now, queue, index, stance);
        if switched {
            let spec = &self.spec.rollouts[index as usize];
            let service = &self.spec.services[spec.service as usize];
            let to = &service.versions[spec.to as usize].name;
            self.telemetry.log(now, "rollout", service.name.clone(), format!("the moment for {to} has come"));
        }
    }

    /// An update that is over holds nobody.
    fn open_gate(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let service = self.spec.rollouts[index as usize].service;
        self.take_stance(now, queue, index, Stance::Open);
        if let Some(at) = self.spec.services[service as usize].version_slot {
            self.on_ungate(now, queue, u32::from(at))?;
            self.end_watch(at);
        }
        Ok(())
    }

    fn end_rollout(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let spec = &self.spec.rollouts[index as usize];
        let name = self.spec.services[spec.service as usize].name.clone();
        let service = &mut self.services[spec.service as usize];
        service.version = spec.to;
        service.sets.retain(|set| set.version == spec.to);
        self.rollouts[index as usize].policy = None;
        self.rollouts[index as usize].ended = Some(now);
        self.telemetry.log(now, "rollout_end", name, "complete".to_owned());
        self.open_gate(now, queue, index)
    }

    /// An old instance of a service that is being updated has done its last work, and hands its state over if the rollout
    /// wants that.
    pub(super) fn hand_state_over(&mut self, now: Time, index: u32) {
        let instance = &self.instances[index as usize];
        let (service, version, told_at) = (instance.service, instance.version, instance.more.told_at);
        let Some(rollout) = self.rollout_of(service) else { return };
        let progress = &mut self.rollouts[rollout as usize];
        let Some(hand_over) = progress.policy.as_ref().and_then(AnyRollout::hand_over) else { return };
        if version == self.spec.rollouts[rollout as usize].to {
            return;
        }
        let written = now + hand_over.write;
        let grace = self.spec.services[service as usize].grace;
        let in_time = told_at == Time::MAX || written <= told_at + grace;
        if !in_time {
            progress.states_lost += 1;
            self.log_instance(now, index, "state lost");
            return;
        }
        let old = |&at: &u32| self.instances[at as usize].version == version && at != index;
        let last = !self.services[service as usize].living.iter().any(old);
        if last && self.rollouts[rollout as usize].states_lost == 0 {
            self.services[service as usize].inherited = Some(written + hand_over.read);
        }
    }

    /// The sets as the control plane sees them, and when the next ready instance becomes available: once it has been
    /// ready for `min_ready`.
    fn replica_sets(&self, now: Time, service: u32, min_ready: Duration) -> (Vec<ReplicaSet>, Option<Time>) {
        let mut next = None;
        let state = &self.services[service as usize];
        let sets = state.sets.iter().enumerate().map(|(at, set)| {
            let of_version = |index: &&u32| self.instances[**index as usize].version == set.version;
            let existing: Vec<&u32> = state.living.iter().filter(of_version).collect();
            let mut available = 0;
            for &&index in &existing {
                match self.ready_since(now, index).map(|since| since + min_ready) {
                    Some(at) if at > now => next = Some(next.map_or(at, |next: Time| next.min(at))),
                    Some(_) => available += 1,
                    None => {}
                }
            }
            ReplicaSet {
                spec: set.spec,
                available,
                existing: existing.len() as u32,
                is_new: at + 1 == state.sets.len(),
            }
        });
        (sets.collect(), next)
    }
}

/// Orders of one sync; a policy that wants more is broken.
const MAX_ORDERS: u32 = 10_000;
