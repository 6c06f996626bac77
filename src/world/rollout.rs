//! Version changes: the rollout policy decides, the fleet obeys. Former versions are remembered for whoever wants to go back.

use crate::kernel::queue::Queue;
use crate::policies::rollout::history::{self, Revision, Undo};
use crate::policies::rollout::standing::Stance;
use crate::policies::rollout::{AnyRollout, Command, ReplicaSet, Rollout as _};
use crate::time::{Duration, Time};

use super::control::Control;
use super::{Flow, World};

/// Wanted instances of one version; without any it is history.
#[derive(Clone, Copy, Debug)]
pub(super) struct Set {
    pub(super) version: u8,
    pub(super) spec: u32,
    /// Number of the rollout that brought it last.
    pub(super) revision: u32,
}

/// What a service knows about its rollouts.
#[derive(Default)]
pub(super) struct Rollouts {
    /// The one in progress.
    underway: Option<Box<Underway>>,
    /// The planned rollout that began last; the way back goes as it went.
    plan: Option<u32>,
    /// Completed in the counted part, and how long they took together.
    pub(super) completed: u64,
    pub(super) took: Duration,
    /// Progress deadlines that have run out there.
    pub(super) stalled: u64,
    /// How long all of them took up to now, without the one in progress, and how many began.
    pub(super) taken: Duration,
    pub(super) begun: u64,
    /// How long those took that waited only for the right moment, without the one that does so now ...
    pub(super) awaited: Duration,
    /// ... since then.
    pub(super) awaits: Option<Time>,
    /// Calls that they held, how long these waited, and how many of them never went out.
    pub(super) held: u64,
    pub(super) held_ns: u128,
    pub(super) lost: u64,
    /// Old instances that did not manage to hand their state over.
    pub(super) states_lost: u64,
}

impl Rollouts {
    /// When the one in progress began.
    pub(super) fn since(&self) -> Option<Time> {
        self.underway.as_ref().map(|underway| underway.began)
    }

    /// The right moment has come, or nobody waits for it any more.
    fn stop_waiting(&mut self, now: Time) {
        if let Some(since) = self.awaits.take() {
            self.awaited = self.awaited + (now - since);
        }
    }
}

/// A rollout in progress.
struct Underway {
    policy: AnyRollout,
    began: Time,
    /// Whether it was said that it does not move.
    stalled: bool,
    /// The policy is being asked; nested changes of the fleet wait for it.
    busy: bool,
    /// The right moment has come.
    switched: bool,
    /// When it will be asked even if nothing happens.
    wakes: Time,
}

impl World<'_> {
    /// A planned rollout starts.
    pub(super) fn begin_rollout(&mut self, now: Time, queue: &mut Queue, plan: u32) -> Flow {
        let spec = &self.spec.rollouts[plan as usize];
        self.roll_out(now, queue, spec.service, spec.to, plan)
    }

    /// `service` moves to another version, the way a planned rollout does.
    fn roll_out(&mut self, now: Time, queue: &mut Queue, service: u32, to: u8, plan: u32) -> Flow {
        let spec = &self.spec.services[service as usize];
        let version = &spec.versions[usize::from(to)].name;
        let state = &mut self.services[service as usize];
        // A newer rollout takes over from one that is still in progress.
        if let Some(older) = state.rollouts.underway.take() {
            state.rollouts.taken = state.rollouts.taken + (now - older.began);
            state.rollouts.stop_waiting(now);
            self.telemetry.log(
                now,
                "rollout_end",
                spec.name.clone(),
                format!("superseded by the one to {version}"),
            );
        } else if state.version == to {
            return Ok(());
        }
        self.open_gate(now, queue, service)?;
        let state = &mut self.services[service as usize];
        state.version = to;
        state.inherited = None;
        state.rollouts.begun += 1;
        // The way back to a version that is remembered goes on with its set, which is no younger for that.
        let others = state.sets.iter().filter(|set| set.version != to).map(|set| set.revision);
        if let Some(known) = state.sets.iter().position(|set| set.version == to) {
            state.sets[known].revision = history::next_number(state.sets[known].revision, others);
        } else {
            let revision = history::next_number(0, others);
            state.sets.push(Set { version: to, spec: 0, revision });
        }
        let how = &self.spec.rollouts[plan as usize].how;
        state.rollouts.plan = Some(plan);
        let policy = how.build(now);
        let watches = policy.watches();
        state.rollouts.underway = Some(Box::new(Underway {
            policy,
            began: now,
            stalled: false,
            busy: false,
            switched: false,
            wakes: Time::ZERO,
        }));
        if watches {
            self.begin_watch(service, to);
        }
        self.telemetry.log(now, "rollout", spec.name.clone(), format!("to {version}, {}", how.name()));
        self.sync_rollout(now, queue, service)
    }

    /// An operator wants a former revision back; 0 is the one before the last.
    pub(super) fn undo_rollout(&mut self, now: Time, queue: &mut Queue, service: u32, to: u32) -> Flow {
        let spec = &self.spec.services[service as usize];
        let state = &self.services[service as usize];
        let (found, said) = match history::undo(to, &self.revisions(service)) {
            Undo::To(at) => {
                let set = state.sets[at];
                let version = &spec.versions[usize::from(set.version)].name;
                (Some(set.version), format!("undo: back to {version} (revision {})", set.revision))
            }
            Undo::Unchanged => (None, format!("undo: revision {to} is rolled out already")),
            Undo::NotFound if to == 0 => (None, "undo: there is no former revision".to_owned()),
            Undo::NotFound => (None, format!("undo: there is no revision {to}")),
        };
        self.telemetry.log(now, "action", spec.name.clone(), said);
        match (found, state.rollouts.plan) {
            (Some(version), Some(plan)) => self.roll_out(now, queue, service, version, plan),
            _ => Ok(()),
        }
    }

    /// What is remembered of the versions of a service.
    fn revisions(&self, service: u32) -> Vec<Revision> {
        let state = &self.services[service as usize];
        let revision = |set: &Set| Revision {
            number: set.revision,
            spec: set.spec,
            replicas: self.members(service, set.version).len() as u32,
            is_new: set.version == state.version,
        };
        state.sets.iter().map(revision).collect()
    }

    /// Whether a rollout is in progress on a service.
    pub(super) fn is_updating(&self, service: u32) -> bool {
        self.services[service as usize].rollouts.underway.is_some()
    }

    /// Instances came or went: the rollout in progress wants to know.
    pub(super) fn membership_changed(&mut self, now: Time, queue: &mut Queue, service: u32) -> Flow {
        if self.is_updating(service) { self.sync_rollout(now, queue, service) } else { Ok(()) }
    }

    /// Asks the policy for its next orders until it has none.
    pub(super) fn sync_rollout(&mut self, now: Time, queue: &mut Queue, service: u32) -> Flow {
        let Some(underway) = &mut self.services[service as usize].rollouts.underway else { return Ok(()) };
        if std::mem::replace(&mut underway.busy, true) {
            return Ok(());
        }
        for _ in 0..MAX_ORDERS {
            let Some(underway) = &self.services[service as usize].rollouts.underway else { break };
            let (sets, next_available) = self.replica_sets(now, service, underway.policy.min_ready());
            let wanted = self.services[service as usize].wanted;
            let census = if self.watching == 0 { None } else { self.census(service) };
            let Some(underway) = &mut self.services[service as usize].rollouts.underway else { break };
            if let Some(census) = &census {
                underway.policy.on_census(census);
            }
            let command = underway.policy.sync(now, wanted, &sets);
            let stalled = underway.policy.is_stalled();
            if std::mem::replace(&mut underway.stalled, stalled) != stalled {
                self.report_stall(now, service, stalled);
            }
            if census.is_some() {
                self.note_progress(now, queue, service);
            }
            match command {
                Some(Command::Scale { set, to }) => {
                    self.services[service as usize].sets[set].spec = to;
                    self.reconcile(now, queue, service)?;
                }
                Some(Command::Done) => {
                    self.end_rollout(now, service);
                    return self.open_gate(now, queue, service);
                }
                None => {
                    self.sync_later(now, queue, service, next_available);
                    break;
                }
            }
        }
        if let Some(underway) = &mut self.services[service as usize].rollouts.underway {
            underway.busy = false;
        }
        Ok(())
    }

    /// A policy that watches has decided: what it asks of calls, and whether its moment has come.
    fn note_progress(&mut self, now: Time, queue: &mut Queue, service: u32) {
        let state = &mut self.services[service as usize];
        let Some(underway) = &mut state.rollouts.underway else { return };
        let (stance, (asked, switched)) = (underway.policy.stance(), underway.policy.progress());
        let news = switched && !std::mem::replace(&mut underway.switched, switched);
        if asked && !switched && state.rollouts.awaits.is_none() {
            state.rollouts.awaits = Some(now);
        }
        if news {
            state.rollouts.stop_waiting(now);
            let spec = &self.spec.services[service as usize];
            let to = &spec.versions[usize::from(state.version)].name;
            self.telemetry.log(now, "rollout", spec.name.clone(), format!("the moment for {to} has come"));
        }
        self.take_stance(now, queue, service, stance);
    }

    /// An update that is over holds nobody.
    fn open_gate(&mut self, now: Time, queue: &mut Queue, service: u32) -> Flow {
        self.take_stance(now, queue, service, Stance::Open);
        if let Some(at) = self.spec.services[service as usize].version_slot {
            self.on_ungate(now, queue, u32::from(at))?;
            self.end_watch(at);
        }
        Ok(())
    }

    /// An old instance of a service that is being updated has done its last work, and hands its state over if the rollout
    /// wants that.
    pub(super) fn hand_state_over(&mut self, now: Time, index: u32) {
        let instance = &self.instances[index as usize];
        let (service, version, told_at) = (instance.service, instance.version, instance.more.told_at);
        let state = &mut self.services[service as usize];
        let policy = state.rollouts.underway.as_ref().map(|underway| &underway.policy);
        let Some(hand_over) = policy.and_then(AnyRollout::hand_over) else { return };
        if version == state.version {
            return;
        }
        let written = now + hand_over.write;
        let grace = self.spec.services[service as usize].grace;
        let in_time = told_at == Time::MAX || written <= told_at + grace;
        if !in_time {
            state.rollouts.states_lost += 1;
            self.log_instance(now, index, "state lost");
            return;
        }
        let old = |&at: &u32| self.instances[at as usize].version == version && at != index;
        if !state.living.iter().any(old) && state.rollouts.states_lost == 0 {
            state.inherited = Some(written + hand_over.read);
        }
    }

    /// Asks the policy again when an instance becomes available, and when it wants to be woken.
    fn sync_later(&mut self, now: Time, queue: &mut Queue, service: u32, available: Option<Time>) {
        if let Some(at) = available {
            self.schedule(queue, at, Control::Sync(service));
        }
        let end = self.spec.end;
        let Some(underway) = &mut self.services[service as usize].rollouts.underway else { return };
        let wakes = underway.policy.next_wakeup().filter(|at| *at > now && *at < end);
        // One that is due earlier will look again.
        if let Some(at) = wakes.filter(|at| underway.wakes <= now || *at < underway.wakes) {
            underway.wakes = at;
            self.schedule(queue, at, Control::Sync(service));
        }
    }

    fn report_stall(&mut self, now: Time, service: u32, stalled: bool) {
        let counts = self.counts_at(now);
        self.services[service as usize].rollouts.stalled += u64::from(stalled && counts);
        let name = self.spec.services[service as usize].name.clone();
        if stalled {
            self.telemetry.log(now, "rollout_stalled", name, "progress deadline exceeded".to_owned());
        } else {
            self.telemetry.log(now, "rollout_moves", name, "there is progress again".to_owned());
        }
    }

    fn end_rollout(&mut self, now: Time, service: u32) {
        let counts = self.counts_at(now);
        let revisions = self.revisions(service);
        let state = &mut self.services[service as usize];
        let Some(underway) = state.rollouts.underway.take() else { return };
        state.rollouts.taken = state.rollouts.taken + (now - underway.began);
        state.rollouts.stop_waiting(now);
        if counts {
            state.rollouts.completed += 1;
            state.rollouts.took = state.rollouts.took + (now - underway.began);
        }
        let forgotten = history::cleanup(underway.policy.revision_history_limit(), &revisions);
        let mut at = 0;
        state.sets.retain(|_| {
            at += 1;
            !forgotten.contains(&(at - 1))
        });
        let name = self.spec.services[service as usize].name.clone();
        self.telemetry.log(now, "rollout_end", name, "complete".to_owned());
    }

    /// The sets as the control plane sees them, and when the next ready instance becomes available: once it has been
    /// ready for `min_ready`.
    fn replica_sets(&self, now: Time, service: u32, min_ready: Duration) -> (Vec<ReplicaSet>, Option<Time>) {
        let mut next = None;
        let state = &self.services[service as usize];
        let sets = state.sets.iter().map(|set| {
            let of_version = |index: &&u32| self.instances[**index as usize].version == set.version;
            let (mut existing, mut ready, mut available) = (0, 0, 0);
            for &index in state.living.iter().filter(of_version) {
                existing += 1;
                let Some(since) = self.ready_since(now, index) else { continue };
                ready += 1;
                let at = since + min_ready;
                if at > now {
                    next = Some(next.map_or(at, |next: Time| next.min(at)));
                } else {
                    available += 1;
                }
            }
            ReplicaSet { spec: set.spec, available, ready, existing, is_new: set.version == state.version }
        });
        (sets.collect(), next)
    }
}

/// Orders of one sync; a policy that wants more is broken.
const MAX_ORDERS: u32 = 10_000;
