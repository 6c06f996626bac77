//! Turns the least important work away while the queue is long, so that the important work gets through (failsafe-go).
//!
//! ## What it does
//! Five priorities, 0 to 4, have a hundred levels each; work gets one of the levels of its priority at random. At each
//! `calibration-interval` the length of the queue says at which rate to refuse: none below `initial-rejection-factor` times the
//! workers, all at `max-rejection-factor` times, in between in proportion. The level below which work is refused is that
//! quantile of the levels of the last `level-window` pieces of work that were begun. While a worker is free everything passes;
//! at the maximum length everything is refused.
//!
//! ## When it helps
//! Where part of the traffic can be done without: what is prefetched, batches, crawlers. Overload then costs these first, and a
//! level cuts a priority in two where a whole one would be too much.
//!
//! ## How it fails
//! The threshold moves once per interval. A queue that fills and drains faster than that swings between letting everything
//! in and refusing everything, and the important work pays as well. The quantile is taken of what was let in: a threshold that has refused the low levels
//! for a while no longer sees them, and rises on. If all work is of one priority, it is a queue that refuses at random.
//!
//! ## Settings
//! * `initial-rejection-factor` (default 2, at least 1): times the workers, from where on work is refused.
//! * `max-rejection-factor` (default 3, at least the initial one): times the workers, where all is refused.
//! * `calibration-interval` (default `1s`): how often the threshold moves.
//! * `level-window` (default 1000, at most 1 million): how many levels are remembered.
//!
//! ## Origin
//! failsafe-go (about v0.9, `adaptivelimiter/prioritylimiter.go`, `queueinglimiter.go` at 0a219068; `priority/prioritizer.go` at 06622f2d,
//! `priority/priority.go` at 0a219068), read, not run. Upstream has no default factors; 2, 3 and one second are those of its
//! documentation, 1000 that of its tests.
//!
//! ## Deliberate differences
//! * The limit is the number of workers, which does not adapt. There is one limiter per prioritizer, so its shortcuts apply.
//! * No levels by the usage of single users.
//! * Calibration looks at the length of the queue as of the last arrival or departure; who gives up waiting is noticed at the
//!   next of these.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{Newcomer, Shedding, Turn};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Priorities there are.
pub const PRIORITIES: u8 = 5;

/// Levels of one priority.
const LEVELS: u32 = 100;

/// Settings of `shedding.failsafe-go-priority`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct FailsafeGoPrioritySettings {
    /// Times the workers: from where on work is refused.
    pub initial_rejection_factor: f64,
    /// Times the workers: where all is refused.
    pub max_rejection_factor: f64,
    /// How often the threshold moves.
    pub calibration_interval: Duration,
    /// How many levels are remembered.
    pub level_window: u32,
}

impl<'de> Deserialize<'de> for FailsafeGoPrioritySettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        let Self { initial_rejection_factor: initial, max_rejection_factor: max, .. } = settings;
        if !(initial >= 1.0 && initial <= max && max.is_finite()) {
            let rule = "upstream wants both at least 1, and the initial one no larger than the maximum";
            let found = format!("initial-rejection-factor = {initial} and max-rejection-factor = {max}");
            return Err(de::Error::custom(format!("{found}, but {rule}")));
        }
        if settings.calibration_interval == Duration::ZERO {
            return Err(de::Error::custom("calibration-interval must be more than zero"));
        }
        if !(1..=1_000_000).contains(&settings.level_window) {
            return Err(de::Error::custom("level-window must be 1 to 1000000"));
        }
        Ok(settings)
    }
}

impl Default for FailsafeGoPrioritySettings {
    fn default() -> Self {
        Self {
            initial_rejection_factor: 2.0,
            max_rejection_factor: 3.0,
            calibration_interval: Duration::from_secs(1),
            level_window: 1000,
        }
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct FailsafeGoPriority(Box<State>);

#[derive(Clone, Debug)]
struct State {
    initial: f64,
    max: f64,
    interval: Duration,
    /// When the threshold moves next.
    due: Time,
    threshold: u32,
    /// How many waited when the queue was last seen, at how many workers.
    waiting: u32,
    workers: u32,
    levels: LevelTracker,
}

/// The last levels.
#[derive(Clone, Debug)]
struct LevelTracker {
    window: Box<[u16]>,
    counts: Box<[u32]>,
    head: usize,
    filled: bool,
}

impl LevelTracker {
    fn record(&mut self, level: u32) {
        if self.filled {
            self.counts[usize::from(self.window[self.head])] -= 1;
        }
        self.window[self.head] = level as u16;
        self.counts[level as usize] += 1;
        self.head += 1;
        if self.head == self.window.len() {
            self.head = 0;
            self.filled = true;
        }
    }

    fn level(&self, quantile: f64) -> u32 {
        let size = if self.filled { self.window.len() } else { self.head };
        let target = ((size as f64 * quantile).ceil() as u64).max(1);
        let mut counted = 0;
        let reached = self.counts.iter().position(|count| {
            counted += u64::from(*count);
            counted >= target
        });
        reached.unwrap_or(0) as u32
    }
}

impl State {
    const fn max_queue(&self, workers: u32) -> u32 {
        (workers as f64 * self.max) as u32
    }

    fn rejection_rate(&self) -> f64 {
        let (first, most) = ((f64::from(self.workers) * self.initial) as u32, self.max_queue(self.workers));
        if self.waiting < first {
            0.0
        } else if self.waiting >= most {
            1.0
        } else {
            f64::from(self.waiting - first) / f64::from(most - first)
        }
    }

    /// Moves the threshold if it is time.
    fn calibrate(&mut self, now: Time) {
        if now < self.due {
            return;
        }
        let missed = (now - self.due).0 / self.interval.0;
        self.due = Time(self.due.0.saturating_add((missed + 1).saturating_mul(self.interval.0)));
        let rate = self.rejection_rate();
        self.threshold = if rate > 0.0 { self.levels.level(rate) } else { 0 };
    }
}

/// The level of work with this priority.
fn level(priority: u8, rng: &mut Rng) -> u32 {
    u32::from(priority.min(PRIORITIES - 1)) * LEVELS + rng.index(LEVELS)
}

impl Algorithm for FailsafeGoPriority {
    type Settings = FailsafeGoPrioritySettings;

    fn new(settings: &FailsafeGoPrioritySettings, now: Time) -> Self {
        Self(Box::new(State {
            initial: settings.initial_rejection_factor,
            max: settings.max_rejection_factor,
            interval: settings.calibration_interval,
            due: Time(now.0.saturating_add(settings.calibration_interval.0)),
            threshold: 0,
            waiting: 0,
            workers: 0,
            levels: LevelTracker {
                window: vec![0; settings.level_window as usize].into(),
                counts: vec![0; (u32::from(PRIORITIES) * LEVELS) as usize].into(),
                head: 0,
                filled: false,
            },
        }))
    }
}

impl Shedding for FailsafeGoPriority {
    fn turns_away(&mut self, now: Time, newcomer: &Newcomer, rng: &mut Rng) -> bool {
        let state = &mut *self.0;
        state.workers = newcomer.workers;
        state.calibrate(now);
        state.waiting = newcomer.waiting;
        let refused = newcomer.waiting >= state.max_queue(newcomer.workers)
            || level(newcomer.priority, rng) < state.threshold;
        state.waiting += u32::from(!refused);
        refused
    }

    fn drops(&mut self, now: Time, turn: &Turn, rng: &mut Rng) -> bool {
        let state = &mut *self.0;
        state.calibrate(now);
        state.waiting = turn.waiting;
        state.levels.record(level(turn.priority, rng));
        false
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("rejection_rate", self.0.rejection_rate());
        show("rejection_threshold", f64::from(self.0.threshold));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Key, Playback};

    const WORKERS: u32 = 10;

    fn policy() -> FailsafeGoPriority {
        FailsafeGoPriority::new(&FailsafeGoPrioritySettings::default(), Time::ZERO)
    }

    fn newcomer(priority: u8, waiting: u32) -> Newcomer {
        Newcomer { priority, waiting, workers: WORKERS }
    }

    #[test]
    fn the_rate_of_refusals_is_upstreams() {
        // Upstream's table: 50 of 60..100, 60, 80, 100.
        let mut policy = FailsafeGoPriority::new(
            &FailsafeGoPrioritySettings {
                initial_rejection_factor: 6.0,
                max_rejection_factor: 10.0,
                ..Default::default()
            },
            Time::ZERO,
        );
        policy.0.workers = 10;
        for (waiting, rate) in [(50, 0.0), (60, 0.0), (80, 0.5), (100, 1.0)] {
            policy.0.waiting = waiting;
            assert_eq!(policy.0.rejection_rate(), rate, "{waiting}");
        }
    }

    #[test]
    fn the_least_important_half_is_refused() {
        let mut policy = policy();
        let mut rng = Key::new(1).rng();
        // Begun so far: as much of priority 0 as of priority 3.
        for round in 0..1000 {
            let turn = Turn {
                priority: if round % 2 == 0 { 0 } else { 3 },
                waiting: 0,
                waited: Duration::ZERO,
                left: None,
            };
            assert!(!policy.drops(Time::ZERO, &turn, &mut rng));
        }
        // 25 wait for 10 workers: half of the way from 20 to 30.
        assert!(!policy.turns_away(Time::ZERO, &newcomer(0, 24), &mut rng));
        let due = Time::from_secs(1);
        let mut refused = [0, 0];
        for _ in 0..100 {
            refused[0] += u32::from(policy.turns_away(due, &newcomer(0, 25), &mut rng));
            refused[1] += u32::from(policy.turns_away(due, &newcomer(3, 25), &mut rng));
        }
        // The median of the levels is the largest of priority 0, which alone is not below it.
        assert!(refused[0] >= 95 && refused[1] == 0, "{refused:?}");
        assert!(policy.turns_away(due, &newcomer(4, 30), &mut rng), "the queue is at its maximum");
    }

    #[test]
    fn quantiles_count_as_upstream_does() {
        let mut policy = policy();
        for level in [250_u64, 50, 150] {
            let mut rng = Rng::playback(Playback { integers: [level % 100].into(), ..Playback::default() });
            let turn = Turn { priority: (level / 100) as u8, waiting: 0, waited: Duration::ZERO, left: None };
            policy.drops(Time::ZERO, &turn, &mut rng);
        }
        let levels = &policy.0.levels;
        assert_eq!([0.0, 0.33, 0.34, 0.67, 1.0].map(|q| levels.level(q)), [50, 50, 150, 250, 250]);
    }
}
