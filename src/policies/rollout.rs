//! Rollouts: how a service moves from one version to another.

pub mod analysis;
pub mod blue_green;
pub mod canary;
pub mod container_swap;
mod dynamic;
pub mod flagger;
pub mod history;
pub mod progress;
pub mod quiescence;
pub mod recreate;
pub mod rolling;
pub mod standing;
pub mod state_hand_over;
pub mod stop_the_world;
pub mod tranquillity;
pub mod update_request;
pub mod version_consistency;

use crate::policies::judge::{Evidence, Phase, Wanted};
use crate::time::{Duration, Time};
use progress::Status;

use standing::{Census, Stance};

/// The instances of one version of the service (a `ReplicaSet`), as the rollout's control loop sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaSet {
    /// Wanted instances of this version.
    pub spec: u32,
    /// Instances that have been ready to serve for at least the minimum ready time.
    pub available: u32,
    /// Instances that are ready to serve, however long.
    pub ready: u32,
    /// Instances that still exist in any state, those being shut down included.
    pub existing: u32,
    /// Whether this is the version being rolled out.
    pub is_new: bool,
}

/// One order to the world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Command {
    /// Resize the replica set at this position of the list to so many wanted instances. The world starts the missing
    /// ones, or shuts down the surplus (not ready ones first, then the youngest).
    Scale {
        /// Position in the list given to `sync`.
        set: usize,
        /// New size.
        to: u32,
    },
    /// The rollout is complete; nothing more will come.
    Done,
    /// So much of the traffic goes to the new version, and the rest to the others, whatever their sizes. Without this order
    /// callers see all instances alike.
    Weight {
        /// Part of the new version ...
        new: u32,
        /// ... out of so much; not 0.
        of: u32,
    },
    /// Look at both versions, and answer with [`Rollout::on_evidence`].
    Measure(Measure),
    /// Something for the log.
    Tell(Milestone),
    /// The rollout is given up and nothing is left of the new version; nothing more will come.
    Aborted,
}

/// What is to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// What the judge wants.
    pub wanted: Wanted,
    /// When the analysis began; nothing before that counts.
    pub since: Time,
}

/// What a rollout has to tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Milestone {
    /// So many steps of so many are done.
    Step {
        /// Done.
        done: u32,
        /// In all.
        of: u32,
    },
    /// It waits, for a time or for somebody.
    Paused,
    /// A metric was measured.
    Measured {
        /// Its position in the analysis.
        metric: u32,
        /// What the judge said ...
        phase: Phase,
        /// ... and found.
        value: f64,
    },
    /// An analysis could not decide; somebody has to.
    Inconclusive,
    /// The new version is the one that counts now; the old one stays for a while.
    Promoted,
    /// It goes back.
    Aborting(Reason),
}

/// Why a rollout goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An analysis found the version bad.
    AnalysisFailed,
    /// An analysis could not be carried out.
    AnalysisError,
    /// Nothing moved for too long.
    ProgressDeadline,
    /// Somebody said so.
    Operator,
}

impl Reason {
    /// As in logs.
    pub const fn words(self) -> &'static str {
        match self {
            Self::AnalysisFailed => "the analysis failed",
            Self::AnalysisError => "the analysis could not be carried out",
            Self::ProgressDeadline => "the progress deadline passed",
            Self::Operator => "an operator aborted it",
        }
    }
}

/// What a human does to a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// On with it: ends a pause, or skips the present step.
    Promote,
    /// Skips everything that is left.
    PromoteFull,
    /// Takes it back.
    Abort,
    /// Holds it where it is.
    Pause,
    /// Lets it go on.
    Resume,
    /// Begins anew what was taken back.
    Retry,
}

impl Act {
    /// As it is written.
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::PromoteFull => "promote in full",
            Self::Abort => "abort",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Retry => "retry",
        }
    }
}

/// What it takes to hand an old instance's state over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// The old instance writes, after its last request and within its grace period.
    pub write: Duration,
    /// The new version reads.
    pub read: Duration,
}

/// A rollout in progress. The world calls `sync` at every change of the lists, and again after every command, until the
/// answer is `None`.
pub trait Rollout {
    /// The next order, given `replicas` wanted in all and the sets, the one that was created first at the head. The new one
    /// may stand anywhere: the way back leads to an old set.
    fn sync(&mut self, now: Time, replicas: u32, sets: &[ReplicaSet]) -> Option<Command>;

    /// When to ask again even if nothing changes.
    fn next_wakeup(&self) -> Option<Time> {
        None
    }

    /// How long an instance must have been ready without a break before the world counts it as available.
    fn min_ready(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether it wants to know what running requests have to do with the service. It is asked once.
    fn watches(&self) -> bool {
        false
    }

    /// What running requests have to do with the service, before each `sync`; only for those who watch.
    fn on_census(&mut self, _census: &Census) {}

    /// What it asks of calls, after each `sync`; only of those who watch.
    fn stance(&self) -> Stance {
        Stance::Open
    }

    /// Whether the update waits only for the right moment, and whether that has come; only of those who watch.
    fn progress(&self) -> (bool, bool) {
        (false, false)
    }

    /// How old instances hand their state over, if they do.
    fn hand_over(&self) -> Option<HandOver> {
        None
    }

    /// Whether it has not moved for longer than it may. That is only reported.
    fn is_stalled(&self) -> bool {
        false
    }

    /// Former versions that are kept after the rollout, for whoever wants to go back.
    fn revision_history_limit(&self) -> u32 {
        u32::MAX
    }

    /// Whether it looks at how the versions do; the world then keeps the figures.
    fn judges(&self) -> bool {
        false
    }

    /// It begins. `to_stable` says that the new version is the one that was last rolled out in full, so there is nothing to
    /// try.
    fn on_begin(&mut self, _now: Time, _to_stable: bool) {}

    /// The answer to [`Command::Measure`].
    fn on_evidence(&mut self, _now: Time, _evidence: &Evidence) {}

    /// Somebody does something.
    fn on_act(&mut self, _now: Time, _act: Act) {}
}

registry! {
    ($)
    /// Settings of a rollout, as written in a scenario: `rolling = { max-surge = "25%" }`.
    RolloutSettings,
    /// Any rollout, held by value.
    AnyRollout: Rollout,
    family "rollout" in "rollout",
    "blue-green" => blue_green::BlueGreen,
    "canary" => canary::Canary,
    "container-swap" => container_swap::ContainerSwap,
    "flagger" => flagger::Flagger,
    "quiescence" => quiescence::Quiescence,
    "recreate" => recreate::Recreate,
    "rolling" => rolling::Rolling,
    "state-hand-over" => state_hand_over::StateHandOver,
    "stop-the-world" => stop_the_world::StopTheWorld,
    "tranquillity" => tranquillity::Tranquillity,
    "update-request" => update_request::UpdateRequest,
    "version-consistency" => version_consistency::VersionConsistency,
}

impl RolloutSettings {
    /// Whether it may take a version back by itself.
    pub const fn goes_back(&self) -> bool {
        matches!(self, Self::BlueGreen(_) | Self::Canary(_) | Self::Flagger(_))
    }

    /// Whether upstream knows this act: `kubectl rollout pause` and `resume` of a Deployment, `kubectl argo rollouts` of its
    /// own objects; of Flagger the rollback webhook, and its gates, which can be closed and opened.
    pub const fn takes(&self, act: Act) -> bool {
        match self {
            Self::BlueGreen(_) | Self::Canary(_) => true,
            Self::Flagger(_) => matches!(act, Act::Abort | Act::Pause | Act::Resume),
            Self::Recreate(_) | Self::Rolling(_) => matches!(act, Act::Pause | Act::Resume),
            Self::ContainerSwap(_)
            | Self::Quiescence(_)
            | Self::StateHandOver(_)
            | Self::StopTheWorld(_)
            | Self::Tranquillity(_)
            | Self::UpdateRequest(_)
            | Self::VersionConsistency(_) => false,
        }
    }

    /// Whether it divides the traffic of callers by weight.
    pub const fn weighs(&self) -> bool {
        match self {
            Self::Canary(canary) => canary.traffic_routing,
            other => other.goes_back(),
        }
    }
}

impl Rollout for AnyRollout {
    fn sync(&mut self, now: Time, replicas: u32, sets: &[ReplicaSet]) -> Option<Command> {
        dispatch!(self, policy => policy.sync(now, replicas, sets))
    }

    fn next_wakeup(&self) -> Option<Time> {
        dispatch!(self, policy => policy.next_wakeup())
    }

    fn min_ready(&self) -> Duration {
        dispatch!(self, policy => policy.min_ready())
    }

    fn watches(&self) -> bool {
        dispatch!(self, policy => policy.watches())
    }

    fn on_census(&mut self, census: &Census) {
        dispatch!(self, policy => policy.on_census(census));
    }

    fn stance(&self) -> Stance {
        dispatch!(self, policy => policy.stance())
    }

    fn progress(&self) -> (bool, bool) {
        dispatch!(self, policy => policy.progress())
    }

    fn hand_over(&self) -> Option<HandOver> {
        dispatch!(self, policy => policy.hand_over())
    }

    fn is_stalled(&self) -> bool {
        dispatch!(self, policy => policy.is_stalled())
    }

    fn revision_history_limit(&self) -> u32 {
        dispatch!(self, policy => policy.revision_history_limit())
    }

    fn judges(&self) -> bool {
        dispatch!(self, policy => policy.judges())
    }

    fn on_begin(&mut self, now: Time, to_stable: bool) {
        dispatch!(self, policy => policy.on_begin(now, to_stable));
    }

    fn on_evidence(&mut self, now: Time, evidence: &Evidence) {
        dispatch!(self, policy => policy.on_evidence(now, evidence));
    }

    fn on_act(&mut self, now: Time, act: Act) {
        dispatch!(self, policy => policy.on_act(now, act));
    }
}

/// Wanted instances over all the sets that `which` selects.
fn spec_sum(sets: &[ReplicaSet], which: impl Fn(&ReplicaSet) -> bool) -> u32 {
    sets.iter().filter(|set| which(set)).map(|set| set.spec).sum()
}

/// Available instances over all sets.
fn available_sum(sets: &[ReplicaSet]) -> u32 {
    sets.iter().map(|set| set.available).sum()
}

/// Whether everything that is wanted is of the new version, and available.
fn is_complete(replicas: u32, sets: &[ReplicaSet]) -> bool {
    Status::of(sets).is_complete(replicas)
}

/// Weights are out of so much; the upper bound is simlab's own, far above what routers take.
fn check_whole_weight(name: &str, weight: u32) -> Result<(), String> {
    match weight {
        0 => Err(format!("`{name}` must be at least 1")),
        1..=1_000_000 => Ok(()),
        _ => Err(format!("`{name}` is {weight}, but must be at most 1000000")),
    }
}

/// What the API server's validation refuses of a Deployment.
fn check_deadline(min_ready: Duration, progress_deadline: Duration) -> Result<(), &'static str> {
    if progress_deadline <= min_ready {
        return Err("`progress-deadline` must be longer than `min-ready`");
    }
    Ok(())
}
