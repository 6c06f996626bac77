//! Version changes: the rollout policy decides, the fleet obeys.

use crate::kernel::queue::Queue;
use crate::policies::judge::{Pair, Phase};
use crate::policies::rollout::{AnyRollout, Command, Milestone, Reason, ReplicaSet, Rollout as _};
use crate::time::{Duration, Time};

use super::control::Control;
use super::report::{Decision, Step};
use super::spec::RolloutSpec;
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
    /// Share of the traffic for the new version, in percent, if the rollout says so.
    percent: f64,
    /// What was measured last.
    seen: Pair,
    /// Why it goes back, and since when.
    why: Option<(Reason, Time)>,
    /// The policy is being asked; nested changes of the fleet wait for it.
    busy: bool,
}

impl Progress {
    pub(super) const fn new(service: u32) -> Self {
        Self { service, policy: None, percent: 0.0, seen: Pair::NOTHING, why: None, busy: false }
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
            self.forget_versions(now, spec.service);
            self.telemetry.log(
                now,
                "rollout_end",
                service.name.clone(),
                format!("superseded by the one to {to}"),
            );
        }
        let stable = self.services[spec.service as usize].version;
        let sets = &mut self.services[spec.service as usize].sets;
        if sets.len() == 1 && sets[0].version == spec.to {
            return Ok(());
        }
        // The way back to a version of which there still are instances goes on with them.
        let known = sets.iter().position(|set| set.version == spec.to).map(|at| sets.remove(at));
        // The version that was promoted last is the stable one, and comes first.
        sets.sort_by_key(|set| set.version != stable);
        sets.push(known.unwrap_or(Set { version: spec.to, spec: 0 }));
        self.telemetry.log(now, "rollout", service.name.clone(), format!("to {to}, {}", spec.how.name()));
        let mut policy = spec.how.build(now);
        policy.on_begin(now, stable == spec.to);
        if policy.judges() {
            self.watch_versions(now, spec.service, spec.to);
        }
        self.rollouts[index as usize].policy = Some(policy);
        self.sync_rollout(now, queue, index)
    }

    /// How long each rollout of a service that can go back took to do so; `None` for one that did not.
    pub(super) fn ways_back(&self, service: u32) -> Vec<Option<Duration>> {
        let rollouts = self.rollouts.iter().zip(&self.spec.rollouts);
        let of_service = rollouts.filter(|(_, spec)| spec.service == service && spec.how.goes_back());
        of_service.map(|(progress, spec)| progress.why.map(|(_, at)| at - spec.at)).collect()
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
            let Some(policy) = &mut self.rollouts[index as usize].policy else { break };
            match policy.sync(now, wanted, &sets) {
                Some(Command::Scale { set, to }) => {
                    self.services[service as usize].sets[set].spec = to;
                    self.reconcile(now, queue, service)?;
                }
                Some(Command::Done) => {
                    self.end_rollout(now, index);
                    break;
                }
                Some(Command::Weight { new, of }) => self.set_weight(now, index, new, of),
                Some(Command::Measure(measure)) => {
                    let watch = self.services[service as usize].watch.as_ref();
                    let evidence = watch.map(|watch| watch.evidence(now, &measure)).unwrap_or_default();
                    policy.on_evidence(now, &evidence);
                    self.rollouts[index as usize].seen = evidence.whole;
                }
                Some(Command::Tell(news)) => self.tell_milestone(now, index, news),
                Some(Command::Aborted) => {
                    self.abort_rollout(now, index);
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

    /// So much of the traffic is for the new version from now on.
    fn set_weight(&mut self, now: Time, index: u32, new: u32, of: u32) {
        let RolloutSpec { service, to, .. } = self.spec.rollouts[index as usize];
        self.divide(now, service, to, new, of);
        let percent = 100.0 * f64::from(new) / f64::from(of);
        let before = std::mem::replace(&mut self.rollouts[index as usize].percent, percent);
        self.decide_rollout(now, index, before, percent, "the traffic is divided anew", Vec::new());
        let name = self.spec.services[service as usize].name.clone();
        self.telemetry.log(
            now,
            "rollout_step",
            name,
            format!("{percent:.1}% of the traffic to the new version"),
        );
    }

    /// A rollout has something to tell.
    fn tell_milestone(&mut self, now: Time, index: u32, news: Milestone) {
        let percent = self.rollouts[index as usize].percent;
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
                let Pair { canary, baseline } = self.rollouts[index as usize].seen;
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
        self.decide_rollout(now, index, percent, percent, reason, inputs);
        if let Some(detail) = detail {
            let service = self.rollouts[index as usize].service;
            let name = self.spec.services[service as usize].name.clone();
            self.telemetry.log(now, "rollout_step", name, detail);
        }
        match news {
            Milestone::Aborting(reason) => self.rollouts[index as usize].why = Some((reason, now)),
            // From here on it is the way back for whoever comes next.
            Milestone::Promoted => {
                let RolloutSpec { service, to, .. } = self.spec.rollouts[index as usize];
                self.services[service as usize].version = to;
            }
            _ => {}
        }
    }

    fn decide_rollout(
        &mut self,
        now: Time,
        index: u32,
        before: f64,
        after: f64,
        reason: &'static str,
        inputs: Vec<Step>,
    ) {
        let service = self.rollouts[index as usize].service;
        let subject = self.spec.services[service as usize].name.clone();
        self.telemetry.decide(Decision { at: now, kind: "rollout", subject, inputs, before, after, reason });
    }

    /// The old version stays.
    fn abort_rollout(&mut self, now: Time, index: u32) {
        let spec = &self.spec.rollouts[index as usize];
        let name = self.spec.services[spec.service as usize].name.clone();
        let service = &mut self.services[spec.service as usize];
        service.sets.retain(|set| set.version != spec.to);
        if service.sets.len() > 1 {
            service.sets.retain(|set| set.spec > 0);
        }
        self.rollouts[index as usize].policy = None;
        let why = self.rollouts[index as usize].why.map_or("", |(reason, _)| reason.words());
        self.telemetry.log(now, "rollout_end", name, format!("aborted: {why}"));
        self.forget_versions(now, spec.service);
    }

    fn end_rollout(&mut self, now: Time, index: u32) {
        let spec = &self.spec.rollouts[index as usize];
        let name = self.spec.services[spec.service as usize].name.clone();
        let service = &mut self.services[spec.service as usize];
        service.version = spec.to;
        service.sets.retain(|set| set.version == spec.to);
        self.rollouts[index as usize].policy = None;
        self.telemetry.log(now, "rollout_end", name, "complete".to_owned());
        self.forget_versions(now, spec.service);
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
