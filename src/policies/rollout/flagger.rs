//! Canary of Flagger: one tick per interval, one check per tick, a counter of failed checks.
//!
//! # What it does
//! Starts the new version in full size beside the primary one. From then on every tick runs the checks: if all pass, the
//! weight of the new version goes up a step; if one does not, a counter goes up and the weight stays. One tick after the
//! counter has reached `threshold` all traffic goes back and the new version goes. At the largest weight the primary is
//! updated in a rolling way, then gets its traffic back, and the canary goes.
//!
//! # When it helps
//! One small loop that everybody understands; a single bad minute does not stop a rollout if the threshold is above 1.
//!
//! # How it fails
//! * Failed checks are never forgiven: a threshold of 5 over 50 ticks falls to noise of 10 %.
//! * It goes back one interval later than it could know.
//! * A window without requests fails, so a quiet night is a bad version.
//!
//! # Settings
//! * `interval` (`"1min"`): between ticks.
//! * `threshold` (1): failed checks until it goes back.
//! * `step-weight` (0), `step-weights` (none), `max-weight` (the total): how the weight goes up, by a step or along a list.
//! * `step-weight-promotion` (0): how it goes back to the primary after the promotion; 0: at once.
//! * `total-weight` (100): the weight that is all traffic.
//! * `iterations` (0): with a number, blue/green: so many ticks without traffic, then all of it for one tick.
//! * `mirror` (false): one tick in which the canary gets copies before it gets traffic.
//! * `metrics`: the checks, each `{ judge.NAME = {..} }`; all have to be good.
//! * `progress-deadline` (`"10min"`): it goes back if the new version is not available by then.
//! * `min-ready` (`"0s"`): how long an instance must have been ready to count as available.
//!
//! # Origin
//! fluxcd/flagger 15bd6ad5, `pkg/controller/scheduler.go`: `advanceCanary`, `runCanary`, `runBlueGreen`,
//! `runPromotionTrafficShift`, `nextStepWeight`, `rollback`; `pkg/apis/flagger/v1beta1/canary.go` (defaults). Read in an older
//! revision of the same file; the recorded cases are a port.
//!
//! # Deliberate differences
//! * No webhooks but those that operators pull: `abort` is the rollback webhook, `pause` closes the gates
//!   `confirm-traffic-increase` and `confirm-promotion`, `resume` opens them. No A/B testing by headers. `skipAnalysis` is a rolling update.
//! * Mirrored requests are not sent: the tick passes, and the canary has nothing to show in it.
//! * Primary and canary are told apart by version. While the primary is updated its traffic goes to what it consists of, so the
//!   new version's share is the canary's and the updated part of the primary's.

mod machine;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

pub use machine::{FlaggerPhase, Machine};

use crate::policies::Algorithm;
use crate::policies::judge::{AnyJudge, Evidence, Judge as _, JudgeSettings, Phase};
use crate::policies::rollout::rolling::{RollingSettings, reconcile_new, reconcile_old};
use crate::policies::rollout::{
    Act, Command, Measure, Milestone, Reason, ReplicaSet, Rollout, check_whole_weight,
};
use crate::time::{Duration, Time};

/// Settings of [`Flagger`].
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, remote = "Self")]
pub struct FlaggerSettings {
    /// Between ticks.
    pub interval: Duration,
    /// Failed checks until it goes back.
    pub threshold: u32,
    /// How much the weight goes up.
    pub step_weight: u32,
    /// The weights, one after the other, instead of steps.
    pub step_weights: Vec<u32>,
    /// Largest weight; the total if it is not given.
    pub max_weight: Option<u32>,
    /// How much goes back to the primary per tick after the promotion; 0: all.
    pub step_weight_promotion: u32,
    /// The weight that is all traffic.
    pub total_weight: u32,
    /// Ticks of a blue/green rollout; 0 is a canary.
    pub iterations: u32,
    /// One tick of copies first.
    pub mirror: bool,
    /// The checks.
    pub metrics: Vec<Check>,
    /// It goes back if the new version is not available by then.
    pub progress_deadline: Duration,
    /// How long an instance must have been ready to count as available.
    pub min_ready: Duration,
}

/// One check of a tick.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Check {
    /// Only a failure fails it; what says nothing passes, except an error.
    pub judge: JudgeSettings,
}

impl Default for FlaggerSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            threshold: 1,
            step_weight: 0,
            step_weights: Vec::new(),
            max_weight: None,
            step_weight_promotion: 0,
            total_weight: 100,
            iterations: 0,
            mirror: false,
            metrics: Vec::new(),
            progress_deadline: Duration::from_secs(600),
            min_ready: Duration::ZERO,
        }
    }
}

impl FlaggerSettings {
    fn check(&self) -> Result<(), String> {
        let total = self.total_weight;
        if self.interval == Duration::ZERO {
            return Err("`interval` must be longer than nothing".to_owned());
        }
        check_whole_weight("total-weight", total)?;
        let weights = self.step_weights.iter().chain(&self.max_weight).chain([&self.step_weight]);
        if let Some(weight) = weights.into_iter().find(|&&weight| weight > total) {
            return Err(format!("a weight of {weight} is more than `total-weight`, which is {total}"));
        }
        let pairs = self.step_weights.iter().zip(self.step_weights.iter().skip(1));
        if let Some((before, after)) = pairs.into_iter().find(|(before, after)| before >= after) {
            return Err(format!(
                "`step-weights` go up, but {after} comes after {before}\nhint: upstream would stay at {before} for ever"
            ));
        }
        if self.step_weights.first() == Some(&0) {
            return Err("`step-weights` begin above 0".to_owned());
        }
        if self.iterations == 0 && self.step_weight == 0 && self.step_weights.is_empty() {
            return Err("nothing would ever move\nhint: give `step-weight`, `step-weights` or `iterations`"
                .to_owned());
        }
        if self.step_weight > 0 && !self.step_weights.is_empty() {
            return Err("give `step-weight` or `step-weights`, not both".to_owned());
        }
        Ok(())
    }

    /// Largest weight of the canary before the promotion.
    pub fn max_weight(&self) -> u32 {
        // With a list, upstream reads its last entry.
        let listed = self.step_weights.last().copied();
        listed.or_else(|| self.max_weight.filter(|&max| max > 0)).unwrap_or(self.total_weight)
    }
}

impl<'de> Deserialize<'de> for FlaggerSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        settings.check().map_err(D::Error::custom)?;
        Ok(settings)
    }
}

/// How exactly the new version's share is told during the update of the primary.
const FINE: u32 = 1000;

/// See the module documentation.
pub struct Flagger {
    settings: FlaggerSettings,
    judges: Vec<AnyJudge>,
    machine: Machine,
    /// When the new version was started.
    started: Time,
    /// When the next tick is.
    tick: Time,
    /// Checks of the present tick that are still to be made, and whether all passed so far.
    checking: Option<(usize, bool)>,
    /// Instances of the primary that are wanted in the old version and in the new.
    primary: Option<(u32, u32)>,
    weight: Option<(u32, u32)>,
    abort: bool,
    /// The gates `confirm-traffic-increase` and `confirm-promotion` are closed.
    held: bool,
    to_stable: bool,
    news: Vec<Milestone>,
    done: bool,
}

impl Algorithm for Flagger {
    type Settings = FlaggerSettings;

    fn new(settings: &FlaggerSettings, now: Time) -> Self {
        Self {
            settings: settings.clone(),
            judges: settings.metrics.iter().map(|check| check.judge.build(now)).collect(),
            machine: Machine::new(settings),
            started: now,
            tick: now + settings.interval,
            checking: None,
            primary: None,
            weight: None,
            abort: false,
            held: false,
            to_stable: false,
            news: Vec::new(),
            done: false,
        }
    }
}

impl Flagger {
    /// Sizes of the two versions: primary and canary as deployments of their own.
    fn sizes(&mut self, replicas: u32, old: &ReplicaSet, new: &ReplicaSet) -> (u32, u32) {
        let canary = match self.machine.phase {
            FlaggerPhase::Succeeded | FlaggerPhase::Failed => 0,
            _ => replicas,
        };
        let updating = matches!(
            self.machine.phase,
            FlaggerPhase::Promoting | FlaggerPhase::Finalising | FlaggerPhase::Succeeded
        );
        if !updating {
            return (replicas, canary);
        }
        // The primary is a Deployment with the usual strategy.
        let (mut old_spec, mut new_spec) = self.primary.unwrap_or((replicas, 0));
        let updated = new.available.saturating_sub(if canary > 0 { canary } else { 0 }).min(new_spec);
        let mut sets = [
            ReplicaSet {
                spec: old_spec,
                available: old.available,
                ready: old.available,
                existing: old.existing,
                is_new: false,
            },
            ReplicaSet {
                spec: new_spec,
                available: updated,
                ready: updated,
                existing: new_spec,
                is_new: true,
            },
        ];
        let settings = RollingSettings::default();
        if !reconcile_new(&settings, replicas, &mut sets) {
            reconcile_old(&settings, replicas, &mut sets);
        }
        (old_spec, new_spec) = (sets[0].spec, sets[1].spec);
        self.primary = Some((old_spec, new_spec));
        (old_spec, new_spec + canary)
    }

    /// Share of the new version.
    fn share(&self, old: &ReplicaSet, new: &ReplicaSet, replicas: u32) -> (u32, u32) {
        let total = self.settings.total_weight;
        let Some((_, updated)) = self.primary else { return (self.machine.canary * FINE, total * FINE) };
        let updated = new.available.saturating_sub(replicas).min(updated);
        let serving = old.available + updated;
        let part = (FINE * updated).checked_div(serving).unwrap_or(FINE);
        (self.machine.canary * FINE + self.machine.primary * part, total * FINE)
    }

    /// Whether the primary is whole.
    fn primary_is_ready(&self, replicas: u32, new: &ReplicaSet) -> bool {
        self.primary.is_none_or(|primary| primary == (0, replicas) && new.available >= 2 * replicas)
    }

    fn end_tick(&mut self, now: Time, passed: bool) {
        let failed = self.machine.failed_checks;
        if self.held
            && passed
            && self.machine.phase == FlaggerPhase::Progressing
            && failed < self.settings.threshold
        {
            // A closed gate stops what a good tick would do; bad ones count.
            self.tick = now + self.settings.interval;
            return;
        }
        self.machine.tick(&self.settings, passed);
        self.tick = now + self.settings.interval;
        match self.machine.phase {
            FlaggerPhase::Failed => self.news.push(Milestone::Aborting(Reason::AnalysisFailed)),
            FlaggerPhase::Promoting if self.primary.is_none() => {
                self.primary = Some((u32::MAX, 0));
                self.news.push(Milestone::Promoted);
            }
            FlaggerPhase::Progressing if self.machine.failed_checks == failed => {
                self.news.push(Milestone::Step { done: self.machine.canary, of: self.settings.total_weight });
            }
            _ => {}
        }
    }
}

impl Rollout for Flagger {
    fn judges(&self) -> bool {
        !self.judges.is_empty()
    }

    fn on_begin(&mut self, now: Time, to_stable: bool) {
        self.started = now;
        self.tick = now + self.settings.interval;
        self.to_stable = to_stable;
    }

    fn sync(&mut self, now: Time, replicas: u32, sets: &[ReplicaSet]) -> Option<Command> {
        if self.done || sets.len() < 2 {
            return (!std::mem::replace(&mut self.done, true)).then_some(Command::Done);
        }
        if self.primary == Some((u32::MAX, 0)) {
            self.primary = Some((replicas, 0));
        }
        loop {
            if !self.news.is_empty() {
                return Some(Command::Tell(self.news.remove(0)));
            }
            let new_at = sets.len() - 1;
            let (old, new) = (sets[0], sets[new_at]);
            if self.to_stable {
                // The primary never was anything else.
                self.machine.phase = FlaggerPhase::Succeeded;
                self.machine.canary = self.settings.total_weight;
            }
            let (old_size, new_size) =
                if self.to_stable { (0, replicas) } else { self.sizes(replicas, &old, &new) };
            let weight = if self.to_stable { (1, 1) } else { self.share(&old, &new, replicas) };
            if self.weight != Some(weight) {
                self.weight = Some(weight);
                return Some(Command::Weight { new: weight.0, of: weight.1 });
            }
            if new.spec != new_size {
                return Some(Command::Scale { set: new_at, to: new_size });
            }
            if old.spec != old_size && (!self.to_stable || new.available >= replicas) {
                return Some(Command::Scale { set: 0, to: old_size });
            }
            if let Some(set) = (1..new_at).find(|&set| sets[set].spec > 0) {
                return Some(Command::Scale { set, to: 0 });
            }
            match self.machine.phase {
                FlaggerPhase::Failed => {
                    self.done = true;
                    return Some(Command::Aborted);
                }
                FlaggerPhase::Succeeded => {
                    self.done = old.spec == 0 && new.available >= replicas;
                    return self.done.then_some(Command::Done);
                }
                _ => {}
            }
            if self.abort {
                self.abort = false;
                self.machine.roll_back(&self.settings);
                self.news.push(Milestone::Aborting(Reason::Operator));
                continue;
            }
            if let Some((at, passed)) = self.checking {
                let Some(judge) = self.judges.get(at) else {
                    self.checking = None;
                    self.end_tick(now, passed);
                    continue;
                };
                return Some(Command::Measure(Measure { wanted: judge.wants(), since: self.started }));
            }
            if now < self.tick {
                return None;
            }
            // `IsPrimaryReady` and `IsCanaryReady`: not yet is another tick later, too late is a rollback.
            let canary_ready = new.available >= replicas.min(new.spec);
            if !self.primary_is_ready(replicas, &new) || !canary_ready {
                self.tick = now + self.settings.interval;
                let late = now > self.started + self.settings.progress_deadline;
                if late && self.machine.phase == FlaggerPhase::Progressing {
                    self.machine.roll_back(&self.settings);
                    self.news.push(Milestone::Aborting(Reason::ProgressDeadline));
                    continue;
                }
                return None;
            }
            if self.machine.wants_check(&self.settings) {
                self.checking = Some((0, true));
            } else {
                self.end_tick(now, true);
            }
        }
    }

    fn next_wakeup(&self) -> Option<Time> {
        (!self.done).then_some(self.tick)
    }

    fn min_ready(&self) -> Duration {
        self.settings.min_ready
    }

    fn on_evidence(&mut self, now: Time, evidence: &Evidence) {
        let Some((at, passed)) = self.checking else { return };
        let phase = self.judges[at].judge(now, evidence);
        self.news.push(Milestone::Measured { metric: at as u32, phase, value: self.judges[at].found() });
        let good = !matches!(phase, Phase::Failed | Phase::Error | Phase::Inconclusive);
        // The first check that fails ends the tick.
        self.checking = Some(if good { (at + 1, passed) } else { (usize::MAX, false) });
    }

    fn on_act(&mut self, _now: Time, act: Act) {
        match act {
            Act::Abort => self.abort = true,
            Act::Pause => self.held = true,
            Act::Resume => self.held = false,
            Act::Promote | Act::PromoteFull | Act::Retry => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused() {
        let read = toml::from_str::<FlaggerSettings>;
        for wrong in [
            "",
            "step-weight = 10\nstep-weights = [10]",
            "step-weight = 101",
            "step-weights = [10, 5]",
            "step-weights = [0, 5]",
            "step-weight = 10\ninterval = '0s'",
            "step-weight = 10\nmax-weight = 110",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
