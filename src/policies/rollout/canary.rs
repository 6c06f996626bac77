//! Canary rollout of Argo Rollouts: a growing share of the traffic, step by step, judged on the way.
//!
//! # What it does
//! Goes through `steps`. A weight gives the new version a share of the traffic: with traffic routing exactly that share, and
//! its instances are sized for it beside a stable version of full size; without, both versions are sized so that their
//! numbers come close to it. A step is over when its instances are available, its pause is over, or its analysis is
//! successful. After the last step the new version is sized in full and the old one goes.
//!
//! An analysis that fails, or ends in an error, aborts: all traffic back to the stable version at once, which grows to its
//! full size, and the new version goes (with traffic routing after a delay). One that is inconclusive pauses the rollout
//! until a human decides.
//!
//! # When it helps
//! When a version can be wrong in ways that only production shows: a few percent of the users meet it first, and a judge
//! that looks at them can take it back before the others do.
//!
//! # How it fails
//! * It is as good as its judge: steps without an analysis only make a bad version arrive slower.
//! * A small share shows little: few requests for the judge, no load for the version.
//! * Without traffic routing the share is as coarse as the number of instances: 1 of 3 is 33 %.
//! * Both versions have to live side by side for the length of all steps.
//!
//! # Settings
//! * `steps` (none): a list of `set-weight = 5`, `pause = { duration = "1min" }` (without a duration: until somebody promotes),
//!   `set-canary-scale = { replicas = 1 }` (or `weight = 10`, or `match-traffic-weight = true`), `analysis = { metrics = [..] }`.
//! * `analysis`: `metrics` that are measured in the background of all steps, from `starting-step` (0) on.
//! * `traffic-routing` (false): callers divide their traffic by weight, whatever the number of instances.
//! * `max-weight` (100): the weight that is all traffic.
//! * `max-surge` (`"25%"`), `max-unavailable` (`"25%"`): as in a rolling update; without traffic routing.
//! * `dynamic-stable-scale` (false): with traffic routing, the stable version shrinks as its traffic does.
//! * `min-pods-per-replica-set` (1): with traffic routing, a version that has instances has at least so many.
//! * `scale-down-delay` (`"30s"`): with traffic routing, how long the old version stays after the promotion.
//! * `abort-scale-down-delay` (`"30s"`): with traffic routing, how long the new version stays after an abort; 0: for ever.
//! * `min-ready` (`"0s"`): how long an instance must have been ready to count as available.
//! * `progress-deadline` (`"10min"`), `progress-deadline-abort` (false): without any progress for so long, it aborts.
//!
//! # Origin
//! argoproj/argo-rollouts 9f8d111d: `rollout/canary.go` (`rolloutCanary`, `reconcileCanaryPause`, `completedCurrentCanaryStep`,
//! `syncRolloutStatusCanary`, `scaleDownOldReplicaSetsForCanary`), `rollout/trafficrouting.go` (`reconcileTrafficRouting`),
//! `rollout/sync.go` (`shouldFullPromote`), `utils/replicaset/canary.go`, `utils/defaults/defaults.go`. Those of
//! `rollout/` were read in older revisions; `GetDesiredCanaryWeight` was inferred from the recorded cases.
//!
//! # Deliberate differences
//! * No experiments, header routes, mirror routes or plugins.
//! * The router's weight is in force at once and counts as verified.
//! * While an abort shrinks the canary with `dynamic-stable-scale`, the router's weight follows the available stable
//!   instances, as in v1.8; later revisions go down the list of weights.
//! * A rollout that is interrupted by another one begins anew; there is no `rollbackWindow`. Going back to the stable version
//!   skips all steps, as upstream.

mod counts;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

pub use counts::{Routed, Weights, approximate, basic};

use crate::policies::Algorithm;
use crate::policies::judge::{Evidence, Phase};
use crate::policies::rollout::analysis::{AnalysisSettings, MetricSettings, Run};
use crate::policies::rollout::rolling::{IntOrPercent, Limits, resolve_fenceposts};
use crate::policies::rollout::{
    Act, Command, Measure, Milestone, Reason, ReplicaSet, Rollout, available_sum, check_whole_weight,
    spec_sum,
};
use crate::time::{Duration, Time};

/// Settings of [`Canary`].
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, remote = "Self")]
pub struct CanarySettings {
    /// What happens, one after the other.
    pub steps: Vec<Step>,
    /// Measured in the background of the steps.
    pub analysis: Option<BackgroundSettings>,
    /// Callers divide their traffic by weight.
    pub traffic_routing: bool,
    /// The weight that is all traffic, at least 1.
    pub max_weight: u32,
    /// Instances above the wanted number, without traffic routing.
    pub max_surge: IntOrPercent,
    /// Instances that may be missing, without traffic routing.
    pub max_unavailable: IntOrPercent,
    /// The stable version shrinks as its traffic does.
    pub dynamic_stable_scale: bool,
    /// Instances of a version that has any, with traffic routing.
    pub min_pods_per_replica_set: u32,
    /// How long the old version stays after the promotion, with traffic routing.
    pub scale_down_delay: Duration,
    /// How long the new version stays after an abort, with traffic routing; 0: for ever.
    pub abort_scale_down_delay: Duration,
    /// How long an instance must have been ready to count as available.
    pub min_ready: Duration,
    /// Without progress for so long, the rollout is late.
    pub progress_deadline: Duration,
    /// Whether being late aborts.
    pub progress_deadline_abort: bool,
}

impl Default for CanarySettings {
    fn default() -> Self {
        Self {
            steps: Vec::new(),
            analysis: None,
            traffic_routing: false,
            max_weight: 100,
            max_surge: IntOrPercent::Percent(25),
            max_unavailable: IntOrPercent::Percent(25),
            dynamic_stable_scale: false,
            min_pods_per_replica_set: 1,
            scale_down_delay: Duration::from_secs(30),
            abort_scale_down_delay: Duration::from_secs(30),
            min_ready: Duration::ZERO,
            progress_deadline: Duration::from_secs(600),
            progress_deadline_abort: false,
        }
    }
}

/// One step of a canary.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Share of the traffic for the new version.
    SetWeight(u32),
    /// Nothing happens.
    Pause(Pause),
    /// The size of the new version does not follow from the weight.
    SetCanaryScale(CanaryScale),
    /// The step is over when the analysis is successful.
    Analysis(AnalysisSettings),
}

/// A pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Pause {
    /// How long; without one, until somebody promotes.
    pub duration: Option<Duration>,
}

/// The size of the new version, apart from its weight; exactly one of the three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct CanaryScale {
    /// So many instances.
    pub replicas: Option<u32>,
    /// As for this weight.
    pub weight: Option<u32>,
    /// As for the traffic again.
    pub match_traffic_weight: bool,
}

/// An analysis in the background.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BackgroundSettings {
    /// What is measured.
    pub metrics: Vec<MetricSettings>,
    /// It starts with this step, counted from 0.
    #[serde(default)]
    pub starting_step: u32,
}

impl CanarySettings {
    /// What upstream's validation refuses (`pkg/apis/rollouts/validation`).
    fn check(&self) -> Result<(), String> {
        check_whole_weight("max-weight", self.max_weight)?;
        let value = |field| match field {
            IntOrPercent::Int(value) | IntOrPercent::Percent(value) => value,
        };
        if value(self.max_surge) < 0 || value(self.max_unavailable) < 0 {
            return Err("`max-surge` and `max-unavailable` must not be negative".to_owned());
        }
        if value(self.max_surge) == 0 && value(self.max_unavailable) == 0 {
            return Err("`max-unavailable` must not be 0 when `max-surge` is 0".to_owned());
        }
        if matches!(self.max_unavailable, IntOrPercent::Percent(percent) if percent > 100) {
            return Err("`max-unavailable` must not be more than 100%".to_owned());
        }
        if self.dynamic_stable_scale && !self.traffic_routing {
            return Err("`dynamic-stable-scale` can only be used with `traffic-routing`".to_owned());
        }
        for (number, step) in self.steps.iter().enumerate() {
            self.check_step(step).map_err(|fault| format!("step {number}: {fault}"))?;
        }
        if let Some(analysis) = &self.analysis {
            if analysis.metrics.is_empty() {
                return Err("an analysis needs a metric in `metrics`".to_owned());
            }
            if analysis.starting_step > 0 && analysis.starting_step as usize >= self.steps.len() {
                return Err(format!(
                    "`starting-step` {} is beyond the {} steps, which are counted from 0",
                    analysis.starting_step,
                    self.steps.len()
                ));
            }
        }
        Ok(())
    }

    fn check_step(&self, step: &Step) -> Result<(), String> {
        let weight = |weight: u32| {
            let fault =
                || format!("a weight of {weight} is more than `max-weight`, which is {}", self.max_weight);
            (weight <= self.max_weight).then_some(()).ok_or_else(fault)
        };
        match step {
            Step::SetWeight(set) => weight(*set),
            Step::SetCanaryScale(scale) => {
                if !self.traffic_routing {
                    return Err("`set-canary-scale` needs `traffic-routing`".to_owned());
                }
                let given = [scale.replicas.is_some(), scale.weight.is_some(), scale.match_traffic_weight];
                if given.into_iter().filter(|given| *given).count() != 1 {
                    return Err(
                        "`set-canary-scale` has one of `replicas`, `weight` and `match-traffic-weight`"
                            .to_owned(),
                    );
                }
                scale.weight.map_or(Ok(()), weight)
            }
            Step::Pause(_) | Step::Analysis(_) => Ok(()),
        }
    }

    /// The weight in force at a step: the last one set; before any, 0; after the last step, everything
    /// (`GetCurrentSetWeight`).
    pub fn current_set_weight(&self, index: usize) -> u32 {
        if index >= self.steps.len() {
            return self.max_weight;
        }
        self.set_weights(index + 1).next_back().unwrap_or(0)
    }

    /// Weights of the first `until` steps, in order.
    fn set_weights(&self, until: usize) -> impl DoubleEndedIterator<Item = u32> {
        self.steps[..until.min(self.steps.len())].iter().filter_map(|step| match step {
            Step::SetWeight(weight) => Some(*weight),
            _ => None,
        })
    }

    /// The scale that was written down and is in force at a step (`UseSetCanaryScale`).
    fn canary_scale(&self, index: usize) -> Option<CanaryScale> {
        let steps = self.steps.get(..=index)?;
        let last = steps.iter().rev().find_map(|step| match step {
            Step::SetCanaryScale(scale) => Some(*scale),
            _ => None,
        });
        last.filter(|scale| self.traffic_routing && !scale.match_traffic_weight)
    }

    /// Surge and unavailability, in instances.
    pub fn limits(&self, replicas: u32) -> Limits {
        let (max_surge, max_unavailable) = resolve_fenceposts(self.max_surge, self.max_unavailable, replicas);
        let max_unavailable = max_unavailable.min(i64::from(replicas));
        Limits { max_surge, max_unavailable, min_available: i64::from(replicas) - max_unavailable }
    }
}

impl<'de> Deserialize<'de> for CanarySettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        settings.check().map_err(D::Error::custom)?;
        Ok(settings)
    }
}

/// Where a rollout stands, as far as sizes depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Step, counted from 0.
    pub index: usize,
    /// Given up.
    pub abort: bool,
    /// All steps are skipped.
    pub promote_full: bool,
    /// What the router does at present.
    pub weights: Option<Weights>,
}

impl CanarySettings {
    /// Sizes of canary and stable to end with at the present step.
    pub fn desired_counts(&self, replicas: u32, at: Standing, stable_available: u32) -> (u32, u32) {
        let (fixed, mut weight) = self.replicas_or_weight(at);
        if !self.traffic_routing {
            let surge = self.limits(replicas).max_surge > 0;
            return approximate(replicas, weight, self.max_weight, surge);
        }
        let routed = Routed {
            max_weight: self.max_weight,
            dynamic_stable_scale: self.dynamic_stable_scale,
            min_pods: self.min_pods_per_replica_set,
            fixed,
            abort: at.abort,
        };
        if let Some(weights) = at.weights.filter(|_| at.abort && self.dynamic_stable_scale) {
            let all = self.set_weights(self.steps.len());
            weight = routed.abort_weight(replicas, all, weights.canary, stable_available);
        }
        routed.counts(replicas, weight, at.weights)
    }

    /// A size that was written down, and the weight otherwise (`GetCanaryReplicasOrWeight`).
    fn replicas_or_weight(&self, at: Standing) -> (Option<u32>, u32) {
        if at.promote_full {
            return (None, self.max_weight);
        }
        // After an abort a written size holds only if the canary is to stay.
        let scale = self.canary_scale(at.index);
        let scale = scale.filter(|_| !at.abort || self.abort_scale_down_delay == Duration::ZERO);
        match scale {
            Some(CanaryScale { replicas: Some(replicas), .. }) => (Some(replicas), 0),
            Some(CanaryScale { weight: Some(weight), .. }) => (None, weight),
            _ if at.abort => (None, 0),
            _ => (None, self.current_set_weight(at.index)),
        }
    }
}

/// Which analysis a measurement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Background,
    Step,
}

/// See the module documentation.
pub struct Canary {
    settings: CanarySettings,
    index: usize,
    /// The new version is the stable one: there is nothing to try.
    to_stable: bool,
    promote_full: bool,
    /// Since when it is given up.
    aborted: Option<Time>,
    /// Since when the pause of the present step goes on.
    paused: Option<Time>,
    /// An inconclusive analysis waits for a human.
    inconclusive: bool,
    /// Somebody holds it (`spec.paused`): sizes and steps stay, analyses go on.
    held: bool,
    /// The router's share for the new version.
    weight: Option<u32>,
    background: Option<Run>,
    step_run: Option<Run>,
    /// The measurement that was asked for.
    asked: Option<(Of, usize)>,
    /// Since when the new version is the stable one.
    promoted: Option<Time>,
    /// What was last seen of its progress, and when that changed.
    progress: (usize, u32, u32, Time),
    /// What is still to be told.
    news: Vec<Milestone>,
    /// When the present wait may be over.
    wakeup: Option<Time>,
    done: bool,
}

impl Algorithm for Canary {
    type Settings = CanarySettings;

    fn new(settings: &CanarySettings, now: Time) -> Self {
        Self {
            settings: settings.clone(),
            index: 0,
            to_stable: false,
            promote_full: false,
            aborted: None,
            paused: None,
            inconclusive: false,
            held: false,
            weight: None,
            background: None,
            step_run: None,
            asked: None,
            promoted: None,
            progress: (0, 0, 0, now),
            news: Vec::new(),
            wakeup: None,
            done: false,
        }
    }
}

/// The smallest step of time: deadlines here are over strictly after they are reached.
const TICK: Duration = Duration(1);

impl Canary {
    fn standing(&self) -> Standing {
        let max = self.settings.max_weight;
        let weights = self.weight.map(|canary| Weights { canary, stable: max - canary });
        Standing {
            index: self.index,
            abort: self.aborted.is_some(),
            promote_full: self.promote_full || self.to_stable || self.promoted.is_some(),
            weights: weights.filter(|_| self.settings.traffic_routing),
        }
    }

    fn give_up(&mut self, now: Time, reason: Reason) {
        if self.aborted.is_none() && self.promoted.is_none() {
            self.aborted = Some(now);
            (self.index, self.paused, self.inconclusive) = (0, None, false);
            (self.background, self.step_run, self.asked) = (None, None, None);
            self.news.push(Milestone::Aborting(reason));
        }
    }

    /// What the router shall give the new version (`reconcileTrafficRouting`).
    fn desired_weight(&self, replicas: u32, new: &ReplicaSet, stable: &ReplicaSet) -> u32 {
        let max = self.settings.max_weight;
        let present = self.weight.unwrap_or(0);
        if self.promoted.is_some() || self.to_stable {
            return max;
        }
        if self.aborted.is_some() {
            if !self.settings.dynamic_stable_scale || replicas == 0 {
                return 0;
            }
            return (max - part(max, stable.available, replicas)).min(present);
        }
        if new.available == 0 {
            return 0;
        }
        let full = self.promote_full;
        if full && self.settings.dynamic_stable_scale {
            return part(max, new.available, replicas.max(1));
        }
        if full {
            return if new.available >= replicas { max } else { present };
        }
        if !self.at_desired(replicas, new, stable, &[]) {
            // Not ready for a new weight.
            return self.settings.set_weights(self.index).next_back().unwrap_or(0);
        }
        self.settings.current_set_weight(self.index)
    }

    /// Whether both versions have the sizes of the present step (`AtDesiredReplicaCountsForCanary`).
    fn at_desired(
        &self,
        replicas: u32,
        new: &ReplicaSet,
        stable: &ReplicaSet,
        others: &[ReplicaSet],
    ) -> bool {
        let (canary, stable_size) = self.settings.desired_counts(replicas, self.standing(), stable.available);
        let CanarySettings { traffic_routing, dynamic_stable_scale, .. } = self.settings;
        // A stable version that follows its traffic cannot be where that has not gone yet.
        let follows = traffic_routing && dynamic_stable_scale;
        new.spec == canary
            && new.available == canary
            && (follows || stable.spec == stable_size && stable.existing >= stable_size)
            && (traffic_routing || available_sum(others) == 0)
    }

    /// Runs the analyses; a measurement that is due, if one is.
    fn analyse(&mut self, now: Time) -> Option<Command> {
        if self.aborted.is_some() || self.promoted.is_some() || self.to_stable || self.promote_full {
            return None;
        }
        if let Some(settings) = &self.settings.analysis
            && self.background.is_none()
            && self.index >= settings.starting_step as usize
        {
            self.background = Some(Run::new(&AnalysisSettings { metrics: settings.metrics.clone() }, now));
        }
        if let Some(Step::Analysis(settings)) = self.settings.steps.get(self.index)
            && self.step_run.is_none()
        {
            self.step_run = Some(Run::new(settings, now));
        }
        for of in [Of::Background, Of::Step] {
            let run = match of {
                Of::Background => &self.background,
                Of::Step => &self.step_run,
            };
            let Some(run) = run else { continue };
            match run.phase() {
                Phase::Failed => self.give_up(now, Reason::AnalysisFailed),
                Phase::Error => self.give_up(now, Reason::AnalysisError),
                Phase::Inconclusive => {
                    if !self.inconclusive {
                        self.inconclusive = true;
                        self.news.push(Milestone::Inconclusive);
                    }
                }
                _ => {
                    if let Some((metric, wanted)) = run.due(now) {
                        self.asked = Some((of, metric));
                        return Some(Command::Measure(Measure { wanted, since: run.started() }));
                    }
                }
            }
            if self.aborted.is_some() {
                return None;
            }
        }
        None
    }

    /// The next size to change.
    fn scale(&mut self, now: Time, replicas: u32, sets: &[ReplicaSet]) -> Option<Command> {
        let new_at = sets.len() - 1;
        let (new, stable, others) = (&sets[new_at], &sets[0], &sets[1..new_at]);
        let standing = self.standing();
        let routed = self.settings.traffic_routing;
        let desired = self.settings.desired_counts(replicas, standing, stable.available);
        let (mut canary, mut stable_size) = if routed {
            desired
        } else if self.to_stable {
            let old = spec_sum(&sets[..new_at], |_| true);
            (basic(replicas, (replicas, 0), self.settings.limits(replicas), new, None, old).0, stable.spec)
        } else {
            let older = spec_sum(others, |_| true);
            basic(replicas, desired, self.settings.limits(replicas), new, Some(stable), older)
        };
        if routed && let Some(since) = self.aborted {
            canary = self.after_abort(now, since, new.spec, canary);
        }
        if routed && self.to_stable {
            (canary, stable_size) = (replicas, stable.spec);
        }
        if routed && let Some(since) = self.promoted {
            (canary, stable_size) = (replicas, stable.spec);
            let until = since + self.settings.scale_down_delay;
            if now >= until {
                stable_size = 0;
            } else {
                self.wake_at(until);
            }
        }
        if stable.spec != stable_size {
            return Some(Command::Scale { set: 0, to: stable_size });
        }
        if new.spec != canary {
            return Some(Command::Scale { set: new_at, to: canary });
        }
        self.scale_down_others(replicas, sets)
    }

    /// Size of the new version after an abort, with a traffic router.
    fn after_abort(&mut self, now: Time, since: Time, present: u32, by_weight: u32) -> u32 {
        let delay = self.settings.abort_scale_down_delay;
        if delay == Duration::ZERO {
            return present;
        }
        if now < since + delay {
            self.wake_at(since + delay);
            return present;
        }
        by_weight
    }

    /// Versions that are neither new nor stable go, with those that serve nothing first
    /// (`scaleDownOldReplicaSetsForCanary`, `cleanupUnhealthyReplicas`).
    fn scale_down_others(&self, replicas: u32, sets: &[ReplicaSet]) -> Option<Command> {
        let first = usize::from(!self.to_stable);
        let others = first..sets.len() - 1;
        for set in others.clone() {
            if sets[set].spec > sets[set].available {
                return Some(Command::Scale { set, to: sets[set].available });
            }
        }
        let budget = i64::from(available_sum(sets)) - self.settings.limits(replicas).min_available;
        let set = others.rev().find(|&set| sets[set].spec > 0)?;
        let spec = i64::from(sets[set].spec);
        let to = if self.settings.traffic_routing { 0 } else { (spec - budget.max(0)).max(0) };
        (to != spec).then_some(Command::Scale { set, to: to as u32 })
    }

    fn wake_at(&mut self, at: Time) {
        self.wakeup = Some(self.wakeup.map_or(at, |wakeup| wakeup.min(at)));
    }

    /// Whether the present step is over (`completedCurrentCanaryStep`, `reconcileCanaryPause`).
    fn step_completed(&mut self, now: Time, replicas: u32, sets: &[ReplicaSet]) -> bool {
        let new_at = sets.len() - 1;
        match &self.settings.steps[self.index] {
            Step::SetWeight(_) | Step::SetCanaryScale(_) => {
                self.at_desired(replicas, &sets[new_at], &sets[0], &sets[1..new_at])
            }
            Step::Pause(Pause { duration }) => {
                let duration = *duration;
                if self.paused.is_none() {
                    self.news.push(Milestone::Paused);
                }
                let since = *self.paused.get_or_insert(now);
                let Some(duration) = duration else { return false };
                let over = now > since + duration;
                if !over {
                    self.wake_at(since + duration + TICK);
                }
                over
            }
            Step::Analysis(_) => self.step_run.as_ref().is_some_and(|run| run.phase() == Phase::Successful),
        }
    }

    fn advance(&mut self) {
        self.index += 1;
        (self.paused, self.step_run) = (None, None);
        self.news.push(Milestone::Step { done: self.index as u32, of: self.settings.steps.len() as u32 });
    }

    /// Nothing has changed for too long.
    fn is_late(&mut self, now: Time, sets: &[ReplicaSet]) -> bool {
        let new = &sets[sets.len() - 1];
        let seen = (self.index, new.spec, available_sum(sets));
        let (index, spec, available, since) = self.progress;
        let waits = self.paused.is_some() || self.inconclusive || self.step_run.is_some();
        if seen != (index, spec, available) || waits {
            self.progress = (seen.0, seen.1, seen.2, now);
            return false;
        }
        let deadline = since + self.settings.progress_deadline;
        if now <= deadline {
            self.wake_at(deadline + TICK);
        }
        now > deadline
    }
}

/// So much of a weight as there are instances available for it.
fn part(weight: u32, available: u32, replicas: u32) -> u32 {
    (u64::from(weight) * u64::from(available.min(replicas)) / u64::from(replicas)) as u32
}

impl Rollout for Canary {
    fn judges(&self) -> bool {
        let step = |step: &Step| matches!(step, Step::Analysis(_));
        self.settings.analysis.is_some() || self.settings.steps.iter().any(step)
    }

    fn on_begin(&mut self, now: Time, to_stable: bool) {
        self.to_stable = to_stable;
        self.progress.3 = now;
        if to_stable {
            self.index = self.settings.steps.len();
        }
    }

    fn sync(&mut self, now: Time, replicas: u32, sets: &[ReplicaSet]) -> Option<Command> {
        self.wakeup = None;
        if self.done || sets.len() < 2 {
            return (!std::mem::replace(&mut self.done, true)).then_some(Command::Done);
        }
        loop {
            if !self.news.is_empty() {
                return Some(Command::Tell(self.news.remove(0)));
            }
            let new_at = sets.len() - 1;
            let (new, stable) = (sets[new_at], sets[0]);
            if self.settings.traffic_routing {
                let desired = self.desired_weight(replicas, &new, &stable);
                if self.weight != Some(desired) {
                    self.weight = Some(desired);
                    return Some(Command::Weight { new: desired, of: self.settings.max_weight });
                }
            }
            if let Some(measure) = self.analyse(now) {
                return Some(measure);
            }
            if !self.news.is_empty() {
                continue;
            }
            if self.held {
                return None;
            }
            if let Some(scale) = self.scale(now, replicas, sets) {
                return Some(scale);
            }
            let old_spec = spec_sum(&sets[..new_at], |_| true);
            if self.aborted.is_some() {
                if new.spec == 0 && stable.spec == replicas && self.weight.unwrap_or(0) == 0 {
                    self.done = true;
                    return Some(Command::Aborted);
                }
                return None;
            }
            if self.promoted.is_some() {
                self.done = old_spec == 0;
                return self.done.then_some(Command::Done);
            }
            if self.inconclusive {
                return None;
            }
            let steps = self.settings.steps.len();
            if self.promote_full {
                self.index = steps;
            }
            if self.index >= steps {
                // `shouldFullPromote`, after which the old version has nobody to serve.
                let all_traffic =
                    !self.settings.traffic_routing || self.weight == Some(self.settings.max_weight);
                if new.available >= replicas && all_traffic {
                    if let Some(run) = &mut self.background {
                        run.terminate();
                    }
                    self.promoted = Some(now);
                    self.news.push(Milestone::Promoted);
                    continue;
                }
            } else if self.step_completed(now, replicas, sets) {
                self.advance();
                continue;
            }
            if !self.news.is_empty() {
                continue;
            }
            if self.is_late(now, sets) && self.settings.progress_deadline_abort {
                self.give_up(now, Reason::ProgressDeadline);
                continue;
            }
            return None;
        }
    }

    fn next_wakeup(&self) -> Option<Time> {
        let runs = [&self.background, &self.step_run];
        runs.into_iter().flatten().filter_map(Run::next_wakeup).chain(self.wakeup).min()
    }

    fn min_ready(&self) -> Duration {
        self.settings.min_ready
    }

    fn on_evidence(&mut self, now: Time, evidence: &Evidence) {
        let Some((of, metric)) = self.asked.take() else { return };
        let run = match of {
            Of::Background => &mut self.background,
            Of::Step => &mut self.step_run,
        };
        let Some(run) = run else { return };
        let (phase, value) = run.on_evidence(now, metric, evidence);
        self.news.push(Milestone::Measured { metric: metric as u32, phase, value });
    }

    fn on_act(&mut self, now: Time, act: Act) {
        match act {
            Act::Abort => self.give_up(now, Reason::Operator),
            Act::PromoteFull if self.aborted.is_none() => self.promote_full = true,
            Act::Promote if self.aborted.is_none() => {
                self.held = false;
                if self.inconclusive {
                    // What could not be decided is decided.
                    self.inconclusive = false;
                    let inconclusive = |run: &Run| run.phase() == Phase::Inconclusive;
                    if self.step_run.as_ref().is_some_and(inconclusive) {
                        self.advance();
                    }
                    self.background = self.background.take().filter(|run| !inconclusive(run));
                } else if self.index < self.settings.steps.len() {
                    // Without a pause to end, upstream's client moves the step on.
                    self.advance();
                }
            }
            Act::Pause => self.held = true,
            Act::Resume => {
                self.held = false;
                self.progress.3 = now;
            }
            Act::Retry if self.aborted.is_some() && !self.done => {
                let (weight, held) = (self.weight, self.held);
                *self = Self { held, weight, ..Self::new(&self.settings, now) };
            }
            Act::Promote | Act::PromoteFull | Act::Retry => {}
        }
    }
}

#[cfg(test)]
mod tests;
