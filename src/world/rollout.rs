//! Version changes: the rollout policy decides, the fleet obeys. Former versions are remembered for whoever wants to go back.

use crate::kernel::queue::Queue;
use crate::policies::judge::{Pair, Phase};
use crate::policies::rollout::history::{self, Revision, Undo};
use crate::policies::rollout::standing::Stance;
use crate::policies::rollout::{
    Act, AnyRollout, Command, Milestone, Reason, ReplicaSet, Rollout as _, RolloutSettings,
};
use crate::time::{Duration, Time};

use super::control::Control;
use super::report::{Decision, Step};
use super::rollback::is_worse;
use super::spec::RolloutSpec;
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
    /// Whoever rolls out next is held until somebody lets it go on.
    paused: bool,
    /// The version of the last rollout, if it was taken back.
    taken_back: Option<u8>,
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
    /// The version that was promoted last, to which a rollout that goes back does.
    stable: u8,
    /// Of each rollout that can go back by itself: after how long it did, if it did.
    pub(super) ways_back: Vec<Option<Duration>>,
    /// What became of their verdicts.
    pub(super) verdicts: Verdicts,
}

/// How right those rollouts were that can go back by themselves.
#[derive(Default)]
pub(super) struct Verdicts {
    /// Versions taken back that were no worse than the one before.
    pub(super) wrong: u64,
    /// Versions kept that were.
    pub(super) missed: u64,
    /// From the beginning to the way back, for each that was taken back rightly.
    pub(super) detect: Vec<Duration>,
    /// Attempts at a version on trial that did not succeed, in the eyes of their callers.
    pub(super) hurt: u64,
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
    /// Share of the traffic for the new version, in percent, if it says so.
    percent: f64,
    /// What was measured last.
    seen: Pair,
    /// Why it goes back.
    why: Option<Reason>,
    /// If it can go back by itself: whether the new version is worse than the one before.
    on_trial: Option<bool>,
}

impl<'a> World<'a> {
    /// A planned rollout starts.
    pub(super) fn begin_rollout(&mut self, now: Time, queue: &mut Queue, plan: u32) -> Flow {
        let spec = self.spec;
        let RolloutSpec { service, to, how, .. } = &spec.rollouts[plan as usize];
        self.services[*service as usize].rollouts.plan = Some(plan);
        self.roll_out(now, queue, *service, *to, how)
    }

    /// How a service moves when nobody says: as in its last planned rollout, or its first, or in the usual way.
    fn way_of(&self, service: u32) -> &'a RolloutSettings {
        let spec = self.spec;
        match self.services[service as usize].rollouts.plan {
            Some(plan) => &spec.rollouts[plan as usize].how,
            None => &spec.services[service as usize].update,
        }
    }

    /// `service` moves to another version.
    pub(super) fn roll_out(
        &mut self,
        now: Time,
        queue: &mut Queue,
        service: u32,
        to: u8,
        how: &RolloutSettings,
    ) -> Flow {
        let spec = &self.spec.services[service as usize];
        let version = &spec.versions[usize::from(to)].name;
        let state = &mut self.services[service as usize];
        // A newer rollout takes over from one that is still in progress.
        if let Some(older) = state.rollouts.underway.take() {
            state.rollouts.taken = state.rollouts.taken + (now - older.began);
            state.rollouts.stop_waiting(now);
            self.forget_versions(now, service);
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
        self.note_change(now, service, None);
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
        let mut policy = how.build(now);
        policy.on_begin(now, state.rollouts.stable == to);
        if state.rollouts.paused {
            policy.on_act(now, Act::Pause);
        }
        let judges = policy.judges();
        let watches = policy.watches();
        let versions = [to, state.rollouts.stable].map(|at| &spec.versions[usize::from(at)]);
        let worse = is_worse(versions[0], versions[1]);
        state.rollouts.taken_back = None;
        if how.goes_back() {
            state.rollouts.ways_back.push(None);
        }
        state.rollouts.underway = Some(Box::new(Underway {
            policy,
            began: now,
            stalled: false,
            busy: false,
            switched: false,
            wakes: Time::ZERO,
            percent: 0.0,
            seen: Pair::NOTHING,
            why: None,
            on_trial: how.goes_back().then_some(worse),
        }));
        if watches {
            self.begin_watch(now, service, to);
        }
        if judges {
            self.watch_versions(now, service, to);
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
        let way = self.way_of(service);
        found.map_or(Ok(()), |version| self.roll_out(now, queue, service, version, way))
    }

    /// An operator wants another version: any that there is, or (`None`) the one from which the present one was made.
    pub(super) fn switch_version(
        &mut self,
        now: Time,
        queue: &mut Queue,
        service: u32,
        to: Option<u8>,
    ) -> Flow {
        let spec = &self.spec.services[service as usize];
        let present = self.services[service as usize].version;
        let name = |version: u8| &spec.versions[usize::from(version)].name;
        let to = to.or_else(|| spec.versions[usize::from(present)].parent);
        let said = match to {
            None => format!("switch: {} was made from nothing", name(present)),
            Some(to) if to == present => format!("switch: {} is the version in place", name(to)),
            Some(to) => format!("switch: to {}", name(to)),
        };
        self.telemetry.log(now, "action", spec.name.clone(), said);
        let way = self.way_of(service);
        to.map_or(Ok(()), |to| self.roll_out(now, queue, service, to, way))
    }

    /// An operator does something about the rollout of a service.
    pub(super) fn act_on_rollout(&mut self, now: Time, queue: &mut Queue, service: u32, act: Act) -> Flow {
        let name = self.spec.services[service as usize].name.clone();
        let way = self.way_of(service);
        let rollouts = &mut self.services[service as usize].rollouts;
        match act {
            Act::Pause => rollouts.paused = true,
            Act::Resume | Act::Promote => rollouts.paused = false,
            _ => {}
        }
        let again = rollouts.taken_back.filter(|_| act == Act::Retry);
        let said = if rollouts.underway.is_some() || again.is_some() {
            act.verb().to_owned()
        } else if act == Act::Pause {
            "pause: the next rollout will wait".to_owned()
        } else {
            format!("{}: there is nothing to act on", act.verb())
        };
        self.telemetry.log(now, "action", name, said);
        let rollouts = &mut self.services[service as usize].rollouts;
        let Some(underway) = &mut rollouts.underway else {
            return again.map_or(Ok(()), |to| self.roll_out(now, queue, service, to, way));
        };
        underway.policy.on_act(now, act);
        if act == Act::Retry && underway.why.take().is_some() {
            // It may be taken back once more.
            rollouts.ways_back.push(None);
        }
        self.sync_rollout(now, queue, service)
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
        for order_number in 0..=MAX_ORDERS {
            debug_assert!(order_number < MAX_ORDERS, "a rollout that always has another order");
            let Some(underway) = &self.services[service as usize].rollouts.underway else { break };
            // One that can go back wants to see the stable version first, then others, and the new one last.
            let stable_first = underway.on_trial.is_some();
            let (mut sets, next_available) = self.replica_sets(now, service, underway.policy.min_ready());
            let order =
                if stable_first { self.stable_first(service, &sets) } else { (0..sets.len()).collect() };
            if stable_first {
                sets = order.iter().map(|&at| sets[at]).collect();
            }
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
                    self.services[service as usize].sets[order[set]].spec = to;
                    self.reconcile(now, queue, service)?;
                }
                Some(Command::Done) => {
                    self.end_rollout(now, service);
                    return self.open_gate(now, queue, service);
                }
                Some(Command::Weight { new, of }) => self.set_weight(now, service, new, of),
                Some(Command::Measure(measure)) => {
                    let state = &mut self.services[service as usize];
                    let watch = state.watch.as_ref();
                    let evidence = watch.map(|watch| watch.evidence(now, &measure)).unwrap_or_default();
                    if let Some(underway) = &mut state.rollouts.underway {
                        underway.policy.on_evidence(now, &evidence);
                        underway.seen = evidence.whole;
                    }
                }
                Some(Command::Tell(news)) => self.tell_milestone(now, service, news),
                Some(Command::Aborted) => {
                    self.abort_rollout(now, service);
                    return Ok(());
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
            self.end_watch(now, at);
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

    /// Positions of the sets with the stable version first and the new one last; others only if they still have instances.
    fn stable_first(&self, service: u32, sets: &[ReplicaSet]) -> Vec<usize> {
        let state = &self.services[service as usize];
        let rank = |at: usize| match state.sets[at].version {
            version if version == state.version => 2,
            version if version == state.rollouts.stable => 0,
            _ => 1,
        };
        let counts = |at: &usize| rank(*at) != 1 || sets[*at].spec > 0 || sets[*at].existing > 0;
        let mut order: Vec<usize> = (0..sets.len()).filter(counts).collect();
        order.sort_by_key(|at| rank(*at));
        order
    }

    /// So much of the traffic is for the new version from now on.
    fn set_weight(&mut self, now: Time, service: u32, new: u32, of: u32) {
        self.divide(now, service, self.services[service as usize].version, new, of);
        let percent = 100.0 * f64::from(new) / f64::from(of);
        let Some(underway) = &mut self.services[service as usize].rollouts.underway else { return };
        let before = std::mem::replace(&mut underway.percent, percent);
        self.decide_rollout(now, service, before, percent, "the traffic is divided anew", Vec::new());
        let name = self.spec.services[service as usize].name.clone();
        self.telemetry.log(
            now,
            "rollout_step",
            name,
            format!("{percent:.1}% of the traffic to the new version"),
        );
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

    /// A rollout has something to tell.
    fn tell_milestone(&mut self, now: Time, service: u32, news: Milestone) {
        let Some(underway) = &mut self.services[service as usize].rollouts.underway else { return };
        let (percent, seen, began) = (underway.percent, underway.seen, underway.began);
        let mut inputs = Vec::new();
        let mut input = |what, value| inputs.push(Step { metric: None, what, value });
        let (reason, detail) = match news {
            Milestone::Step { done, of } => {
                input("done", f64::from(done));
                input("of", f64::from(of));
                ("a step is done", Some(format!("{done} of {of} done")))
            }
            Milestone::Paused => ("a pause begins", Some("paused".to_owned())),
            Milestone::Inconclusive => {
                ("an analysis could not decide", Some("inconclusive: waits for somebody".to_owned()))
            }
            Milestone::Promoted => ("the new version is promoted", Some("promote".to_owned())),
            Milestone::Aborting(reason) => (reason.words(), Some(format!("abort: {}", reason.words()))),
            Milestone::Measured { metric, phase, value } => {
                let Pair { canary, baseline } = seen;
                input("metric", f64::from(metric));
                input("found", value);
                for (what, value) in [
                    ("requests-new", canary.requests as f64),
                    ("errors-new", canary.errors as f64),
                    ("mean-latency-new", canary.mean),
                    ("requests-old", baseline.requests as f64),
                    ("errors-old", baseline.errors as f64),
                    ("mean-latency-old", baseline.mean),
                ] {
                    input(what, value);
                }
                (measured(phase), None)
            }
        };
        self.decide_rollout(now, service, percent, percent, reason, inputs);
        if let Some(detail) = detail {
            let name = self.spec.services[service as usize].name.clone();
            self.telemetry.log(now, "rollout_step", name, detail);
        }
        let state = &mut self.services[service as usize];
        let rollouts = &mut state.rollouts;
        match news {
            Milestone::Aborting(reason) => {
                if let Some(underway) = &mut rollouts.underway {
                    underway.why = Some(reason);
                    match underway.on_trial {
                        Some(true) => rollouts.verdicts.detect.push(now - began),
                        Some(false) => rollouts.verdicts.wrong += 1,
                        None => {}
                    }
                }
                if let Some(last) = rollouts.ways_back.last_mut() {
                    *last = Some(now - began);
                }
            }
            // From here on it is the way back for whoever comes next.
            Milestone::Promoted => rollouts.stable = state.version,
            _ => {}
        }
    }

    fn decide_rollout(
        &mut self,
        now: Time,
        service: u32,
        before: f64,
        after: f64,
        reason: &'static str,
        inputs: Vec<Step>,
    ) {
        let subject = self.spec.services[service as usize].name.clone();
        self.telemetry.decide(Decision { at: now, kind: "rollout", subject, inputs, before, after, reason });
    }

    /// The old version stays, and the one that was tried is history.
    fn abort_rollout(&mut self, now: Time, service: u32) {
        let state = &mut self.services[service as usize];
        let Some(underway) = state.rollouts.underway.take() else { return };
        state.rollouts.taken = state.rollouts.taken + (now - underway.began);
        state.rollouts.taken_back = Some(state.version);
        state.version = state.rollouts.stable;
        let name = self.spec.services[service as usize].name.clone();
        let why = underway.why.map_or("", Reason::words);
        self.telemetry.log(now, "rollout_end", name, format!("aborted: {why}"));
        self.forget_versions(now, service);
    }

    fn end_rollout(&mut self, now: Time, service: u32) {
        let counts = self.counts_at(now);
        let revisions = self.revisions(service);
        let state = &mut self.services[service as usize];
        let Some(underway) = state.rollouts.underway.take() else { return };
        state.rollouts.taken = state.rollouts.taken + (now - underway.began);
        state.rollouts.stop_waiting(now);
        state.rollouts.stable = state.version;
        state.rollouts.verdicts.missed +=
            u64::from(underway.on_trial == Some(true) && underway.why.is_none());
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
        self.forget_versions(now, service);
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

/// How the log tells a measurement.
const fn measured(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending | Phase::Running => "measured: not enough is known yet",
        Phase::Successful => "measured: good",
        Phase::Inconclusive => "measured: inconclusive",
        Phase::Error => "measured: nothing to go by",
        Phase::Failed => "measured: bad",
    }
}

/// Orders of one sync; a policy that wants more is broken.
const MAX_ORDERS: u32 = 10_000;
