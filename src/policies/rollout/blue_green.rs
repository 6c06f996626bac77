//! Blue/green rollout of Argo Rollouts: the new version beside the old one, then all traffic at once.
//!
//! # What it does
//! Starts the new version (all of it, or `preview-replica-count` instances) without traffic. When it is available and the
//! analysis before the promotion is successful it waits, if told to, is sized in full, and gets all traffic in one step.
//! An analysis after that may still flip everything back. The old version stays for `scale-down-delay`, as the way back.
//!
//! # When it helps
//! No request chain lives through days of two versions, and the way back is one switch as long as the old version stands.
//!
//! # How it fails
//! * Twice the instances for the length of it; where the machines do not have them it never gets ready.
//! * The version that nobody used gets all users at once: cold caches, and what only shows under load shows for everybody.
//! * Without traffic the analysis before the promotion has nothing to look at.
//!
//! # Settings
//! * `preview-replica-count`: instances of the new version before the promotion; all without it.
//! * `auto-promotion-enabled` (true): promotes without being asked.
//! * `auto-promotion`: promotes after so long, upstream's `autoPromotionSeconds`.
//! * `scale-down-delay` (`"30s"`): how long the old version stays after the promotion. With an analysis after it and without
//!   this setting, until that is successful.
//! * `abort-scale-down-delay` (`"30s"`): how long the new version stays after an abort; 0: for ever.
//! * `pre-promotion-analysis`, `post-promotion-analysis`: `{ metrics = [..] }`.
//! * `min-ready` (`"0s"`): how long an instance must have been ready to count as available.
//! * `progress-deadline` (`"10min"`), `progress-deadline-abort` (false): without any progress for so long, it aborts.
//!
//! # Origin
//! argoproj/argo-rollouts 4dc0a4e4: `rollout/bluegreen.go` (`rolloutBlueGreen`, `reconcileBlueGreenPause`,
//! `scaleDownOldReplicaSetsForBlueGreen`, `calculateScaleUpPreviewCheckPoint`), `utils/replicaset/replicaset.go`
//! (`NewRSNewReplicas`), `utils/defaults/defaults.go`. There are no recorded cases of it.
//!
//! # Deliberate differences
//! * The preview service has no traffic of its own, so `previewService` has nothing to show.
//! * There is one old version to keep, so no `scaleDownDelayRevisionLimit`.
//! * A way back within the delay is a rollout to the version that still stands; it skips pause and analysis as upstream.

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::policies::Algorithm;
use crate::policies::judge::{Evidence, Phase};
use crate::policies::rollout::analysis::{AnalysisSettings, Run};
use crate::policies::rollout::{
    Act, Command, Measure, Milestone, Reason, ReplicaSet, Rollout, available_sum, spec_sum,
};
use crate::time::{Duration, Time};

/// Settings of [`BlueGreen`].
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, remote = "Self")]
pub struct BlueGreenSettings {
    /// Instances of the new version before the promotion.
    pub preview_replica_count: Option<u32>,
    /// Promotes without being asked.
    pub auto_promotion_enabled: bool,
    /// Promotes after so long.
    pub auto_promotion: Option<Duration>,
    /// How long the old version stays after the promotion.
    pub scale_down_delay: Option<Duration>,
    /// How long the new version stays after an abort; 0: for ever.
    pub abort_scale_down_delay: Duration,
    /// Has to be successful before the promotion.
    pub pre_promotion_analysis: Option<AnalysisSettings>,
    /// Flips everything back if it fails.
    pub post_promotion_analysis: Option<AnalysisSettings>,
    /// How long an instance must have been ready to count as available.
    pub min_ready: Duration,
    /// Without progress for so long, the rollout is late.
    pub progress_deadline: Duration,
    /// Whether being late aborts.
    pub progress_deadline_abort: bool,
}

impl Default for BlueGreenSettings {
    fn default() -> Self {
        Self {
            preview_replica_count: None,
            auto_promotion_enabled: true,
            auto_promotion: None,
            scale_down_delay: None,
            abort_scale_down_delay: Duration::from_secs(30),
            pre_promotion_analysis: None,
            post_promotion_analysis: None,
            min_ready: Duration::ZERO,
            progress_deadline: Duration::from_secs(600),
            progress_deadline_abort: false,
        }
    }
}

impl<'de> Deserialize<'de> for BlueGreenSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        if settings.preview_replica_count == Some(0) {
            return Err(D::Error::custom("`preview-replica-count` must be at least 1"));
        }
        Ok(settings)
    }
}

/// Default of upstream's `scaleDownDelaySeconds`.
const SCALE_DOWN_DELAY: Duration = Duration::from_secs(30);

/// The smallest step of time: deadlines here are over strictly after they are reached.
const TICK: Duration = Duration(1);

/// See the module documentation.
pub struct BlueGreen {
    settings: BlueGreenSettings,
    /// Since when the new version has the traffic.
    active: Option<Time>,
    /// What callers were told.
    told: Option<bool>,
    /// The new version stands already.
    fast: bool,
    /// Preview is over; the new version gets its full size.
    checkpoint: bool,
    promote_full: bool,
    resumed: bool,
    paused: Option<Time>,
    aborted: Option<Time>,
    inconclusive: bool,
    /// Somebody holds it (`spec.paused`): traffic stays where it is, sizes and analyses go on.
    held: bool,
    promoted: bool,
    pre: Option<Run>,
    post: Option<Run>,
    /// A measurement was asked for: of the analysis after the promotion?
    asked: Option<(bool, usize)>,
    progress: (u32, u32, Time),
    news: Vec<Milestone>,
    wakeup: Option<Time>,
    done: bool,
}

impl Algorithm for BlueGreen {
    type Settings = BlueGreenSettings;

    fn new(settings: &BlueGreenSettings, now: Time) -> Self {
        Self {
            settings: settings.clone(),
            active: None,
            told: None,
            fast: false,
            checkpoint: settings.preview_replica_count.is_none(),
            promote_full: false,
            resumed: false,
            paused: None,
            aborted: None,
            inconclusive: false,
            held: false,
            promoted: false,
            pre: None,
            post: None,
            asked: None,
            progress: (0, 0, now),
            news: Vec::new(),
            wakeup: None,
            done: false,
        }
    }
}

impl BlueGreen {
    fn give_up(&mut self, now: Time, reason: Reason) {
        if self.aborted.is_none() && !self.promoted {
            self.aborted = Some(now);
            (self.active, self.paused, self.inconclusive) = (None, None, false);
            (self.pre, self.post, self.asked) = (None, None, None);
            self.news.push(Milestone::Aborting(reason));
        }
    }

    fn wake_at(&mut self, at: Time) {
        self.wakeup = Some(self.wakeup.map_or(at, |wakeup| wakeup.min(at)));
    }

    /// Size of the new version (`NewRSNewReplicas`).
    fn new_size(&mut self, now: Time, replicas: u32, present: u32) -> u32 {
        if let Some(since) = self.aborted {
            let delay = self.settings.abort_scale_down_delay;
            if delay == Duration::ZERO {
                return present;
            }
            if now >= since + delay {
                return 0;
            }
            self.wake_at(since + delay);
            return present;
        }
        match self.settings.preview_replica_count {
            Some(count) if !self.checkpoint => count,
            _ => replicas,
        }
    }

    /// Looks at a run; a measurement that is due, or nothing.
    fn look(&mut self, now: Time, after: bool) -> Option<Command> {
        let run = if after { &self.post } else { &self.pre };
        let run = run.as_ref()?;
        match run.phase() {
            Phase::Failed => self.give_up(now, Reason::AnalysisFailed),
            Phase::Error => self.give_up(now, Reason::AnalysisError),
            Phase::Inconclusive if !self.inconclusive => {
                self.inconclusive = true;
                self.news.push(Milestone::Inconclusive);
            }
            _ => {
                let (metric, wanted) = run.due(now)?;
                self.asked = Some((after, metric));
                return Some(Command::Measure(Measure { wanted, since: run.started() }));
            }
        }
        None
    }

    /// Whether an analysis is over and successful; without settings there is none. Starts it if need be.
    fn successful(run: &mut Option<Run>, settings: Option<&AnalysisSettings>, now: Time) -> bool {
        settings.is_none_or(|settings| {
            run.get_or_insert_with(|| Run::new(settings, now)).phase() == Phase::Successful
        })
    }

    /// Whether nothing waits for a human or for a time any more (`reconcileBlueGreenPause`, `CompletedBlueGreenPause`).
    fn pause_completed(&mut self, now: Time) -> bool {
        let needs_pause = !self.settings.auto_promotion_enabled || self.settings.auto_promotion.is_some();
        if !needs_pause || self.resumed {
            return true;
        }
        if self.paused.is_none() {
            self.news.push(Milestone::Paused);
        }
        let since = *self.paused.get_or_insert(now);
        let Some(after) = self.settings.auto_promotion else { return false };
        let over = now > since + after;
        if !over {
            self.wake_at(since + after + TICK);
        }
        over
    }

    /// What comes before the switch; true once traffic may flow.
    fn may_switch(&mut self, now: Time, replicas: u32, new: &ReplicaSet) -> bool {
        let saturated = new.spec == replicas && new.available >= replicas;
        if self.fast || self.promote_full {
            self.checkpoint = true;
            return saturated;
        }
        if !self.checkpoint || !self.is_open() {
            // `ReadyForPause`.
            let wanted = if self.checkpoint {
                replicas
            } else {
                self.settings.preview_replica_count.unwrap_or(replicas)
            };
            if new.spec != wanted || new.available < wanted {
                return false;
            }
            let settings = self.settings.pre_promotion_analysis.clone();
            if !Self::successful(&mut self.pre, settings.as_ref(), now) || !self.pause_completed(now) {
                return false;
            }
            self.checkpoint = true;
            self.resumed = true;
        }
        saturated
    }

    /// Analysis and pause are behind it.
    const fn is_open(&self) -> bool {
        self.resumed
    }

    /// Whether the old version may go.
    fn may_scale_down(&mut self, now: Time, since: Time) -> bool {
        let delay = match (self.settings.scale_down_delay, &self.settings.post_promotion_analysis) {
            (Some(delay), _) => delay,
            // Its success is what is waited for.
            (None, Some(_)) => Duration::ZERO,
            (None, None) => SCALE_DOWN_DELAY,
        };
        let over = now >= since + delay;
        if !over {
            self.wake_at(since + delay);
        }
        over
    }

    fn is_late(&mut self, now: Time, sets: &[ReplicaSet]) -> bool {
        let seen = (sets[sets.len() - 1].spec, available_sum(sets));
        let (spec, available, since) = self.progress;
        let waits = self.paused.is_some()
            || self.inconclusive
            || self.held
            || self.pre.is_some()
            || self.active.is_some();
        if seen != (spec, available) || waits {
            self.progress = (seen.0, seen.1, now);
            return false;
        }
        let deadline = since + self.settings.progress_deadline;
        if now <= deadline {
            self.wake_at(deadline + TICK);
        }
        now > deadline
    }
}

impl Rollout for BlueGreen {
    fn judges(&self) -> bool {
        self.settings.pre_promotion_analysis.is_some() || self.settings.post_promotion_analysis.is_some()
    }

    fn on_begin(&mut self, now: Time, to_stable: bool) {
        self.fast = to_stable;
        self.progress.2 = now;
        if to_stable {
            self.active = Some(now);
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
            let new = sets[new_at];
            // The version in the middle of an interrupted rollout has no traffic and goes.
            if self.told != Some(self.active.is_some()) {
                self.told = Some(self.active.is_some());
                return Some(Command::Weight { new: u32::from(self.active.is_some()), of: 1 });
            }
            let size = self.new_size(now, replicas, new.spec);
            let active = self.active;
            let stable_size = match active {
                None => replicas,
                Some(since) if self.promoted && self.may_scale_down(now, since) => 0,
                Some(_) => sets[0].spec,
            };
            if sets[0].spec != stable_size {
                return Some(Command::Scale { set: 0, to: stable_size });
            }
            if new.spec != size {
                return Some(Command::Scale { set: new_at, to: size });
            }
            if let Some(set) = (1..new_at).find(|&set| sets[set].spec > 0) {
                return Some(Command::Scale { set, to: 0 });
            }
            if self.aborted.is_some() {
                self.done = new.spec == 0;
                return self.done.then_some(Command::Aborted);
            }
            if self.promoted {
                self.done = spec_sum(&sets[..new_at], |_| true) == 0;
                return self.done.then_some(Command::Done);
            }
            if self.active.is_some() {
                let settings = self.settings.post_promotion_analysis.clone().filter(|_| !self.fast);
                let fine = Self::successful(&mut self.post, settings.as_ref(), now);
                if let Some(measure) = self.look(now, true) {
                    return Some(measure);
                }
                if fine {
                    self.promoted = true;
                    self.news.push(Milestone::Promoted);
                }
            } else if !self.held && self.may_switch(now, replicas, &new) {
                self.active = Some(now);
                continue;
            } else if let Some(measure) = self.look(now, false) {
                return Some(measure);
            }
            if !self.news.is_empty() || self.promoted {
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
        let runs = [&self.pre, &self.post];
        runs.into_iter().flatten().filter_map(Run::next_wakeup).chain(self.wakeup).min()
    }

    fn min_ready(&self) -> Duration {
        self.settings.min_ready
    }

    fn on_evidence(&mut self, now: Time, evidence: &Evidence) {
        let Some((after, metric)) = self.asked.take() else { return };
        let run = if after { &mut self.post } else { &mut self.pre };
        let Some(run) = run else { return };
        let (phase, value) = run.on_evidence(now, metric, evidence);
        self.news.push(Milestone::Measured { metric: metric as u32, phase, value });
    }

    fn on_act(&mut self, now: Time, act: Act) {
        match act {
            Act::Abort => self.give_up(now, Reason::Operator),
            Act::PromoteFull => self.promote_full |= self.aborted.is_none(),
            Act::Promote if self.aborted.is_none() => {
                self.held = false;
                if std::mem::take(&mut self.inconclusive) {
                    self.promoted |= self.active.is_some();
                    self.resumed = true;
                } else if self.paused.is_some() {
                    self.resumed = true;
                }
            }
            Act::Pause => self.held = true,
            Act::Resume => {
                self.held = false;
                self.progress.2 = now;
            }
            Act::Retry if self.aborted.is_some() && !self.done => {
                let (told, held) = (self.told, self.held);
                *self = Self { told, held, ..Self::new(&self.settings, now) };
            }
            Act::Promote | Act::Retry => {}
        }
    }
}
