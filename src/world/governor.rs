//! What bounds the cores of a container beside their number: a CFS quota, burst credits, what its neighbours on the node
//! leave it, and pauses.
//!
//! Cores are fixed-point (2^-32 of one), work is in 2^-12 core-ns as in `cpu`, so results never depend on float rounding.
//! Nothing here has timers of its own: [`Governor::next`] says when the present speed changes by itself, which is only while
//! a quota or credits can run out, a quota is used up, or a pause lasts.

use super::burst::Burst;
use crate::time::{Duration, Time};

/// One core.
pub(super) const CORE: u64 = 1 << 32;

/// Length of a quota's period: `cpu.cfs_period_us`, which Kubernetes sets to 100 ms.
const PERIOD: Duration = Duration::from_millis(100);

/// What is counted about the cores of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CpuCounts {
    /// Core time used, 2^-12 ns.
    pub(super) used: u128,
    /// Core time that it wanted and its node gave to others, 2^-12 ns.
    pub(super) stolen: u128,
    /// Periods in which it ran or wanted to (`nr_periods`).
    pub(super) periods: u64,
    /// Periods in which its quota ran out (`nr_throttled`).
    pub(super) throttled_periods: u64,
    /// Time for which it stood still for lack of quota.
    pub(super) throttled_ns: u64,
    /// Time for which the program stood still for its garbage collector, and how often.
    pub(super) paused_ns: u64,
    pub(super) pauses: u64,
}

impl CpuCounts {
    pub(super) fn add(&mut self, other: &Self) {
        self.used += other.used;
        self.stolen += other.stolen;
        self.periods += other.periods;
        self.throttled_periods += other.throttled_periods;
        self.throttled_ns += other.throttled_ns;
        self.paused_ns += other.paused_ns;
        self.pauses += other.pauses;
    }
}

/// Shares of time between two counts; `None` where there was nothing to share.
#[derive(Clone, Copy, Debug)]
pub(super) struct CpuShares {
    /// Of the periods in which it ran, those in which its quota ran out.
    pub(super) throttled: Option<f64>,
    /// Of the core time that it wanted, what its node gave to others.
    pub(super) stolen: Option<f64>,
}

impl CpuShares {
    pub(super) fn between(old: &CpuCounts, new: &CpuCounts) -> Self {
        let (used, stolen) = (new.used - old.used, new.stolen - old.stolen);
        let periods = new.periods - old.periods;
        let throttled = (new.throttled_periods - old.throttled_periods) as f64 / periods as f64;
        Self {
            throttled: (periods > 0).then_some(throttled),
            stolen: (used + stolen > 0).then(|| stolen as f64 / (used + stolen) as f64),
        }
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub(super) struct Governor {
    quota: Option<Quota>,
    /// Credits of a burstable machine.
    pub(super) burst: Option<Burst>,
    /// Cores that its node gives it at most.
    pub(super) granted: u64,
    /// Cores that it has told its node it would use.
    pub(super) wanted: u64,
    /// End of the pause; `ZERO` if there is none.
    pause_ends: Time,
    pub(super) counts: CpuCounts,
}

/// CFS bandwidth control: so much core time in each period, then nothing until the next.
#[derive(Clone, Debug)]
struct Quota {
    /// Core time of a period, 2^-12 ns.
    per_period: u64,
    /// Number of the present period. Periods start at multiples of their length, less `offset`.
    period: u64,
    offset: u64,
    /// What is left of the present period.
    left: u64,
    /// First period that is not counted yet, and not counted as throttled yet.
    uncounted: u64,
    unthrottled: u64,
}

impl Governor {
    /// Without bounds, or with a quota of so many cores. `phase` in 0..1 is where its periods start.
    pub(super) fn new(limit: Option<f64>, phase: f64, now: Time) -> Self {
        let quota = limit.map(|limit| Quota::new(limit, phase, now));
        Self {
            quota,
            burst: None,
            granted: u64::MAX,
            wanted: 0,
            pause_ends: Time::ZERO,
            counts: CpuCounts::default(),
        }
    }

    /// Another quota from now on, all of which is there (the kernel refills it, `tg_set_cfs_bandwidth`).
    pub(super) fn set_limit(&mut self, limit: Option<f64>, phase: f64, now: Time) {
        let counted = self.quota.as_ref().map(|quota| (quota.uncounted, quota.unthrottled));
        self.quota = limit.map(|limit| Quota::new(limit, phase, now));
        if let (Some(quota), Some(counted)) = (&mut self.quota, counted) {
            (quota.uncounted, quota.unthrottled) = counted;
        }
    }

    fn is_paused(&self) -> bool {
        self.pause_ends > Time::ZERO
    }

    fn is_throttled(&self) -> bool {
        self.quota.as_ref().is_some_and(|quota| quota.left == 0)
    }

    /// Cores it would use if its node gave them, where the program could use `own`.
    pub(super) fn wants(&self, own: u64) -> u64 {
        let wants = if self.is_paused() {
            // The collector works on one core.
            CORE
        } else if self.is_throttled() {
            0
        } else {
            own
        };
        self.burst.as_ref().map_or(wants, |burst| wants.min(burst.most()))
    }

    /// Cores it uses.
    pub(super) fn uses(&self, own: u64) -> u64 {
        self.wants(own).min(self.granted)
    }

    /// Cores that the steps of the program have.
    pub(super) fn for_steps(&self, own: u64) -> u64 {
        if self.is_paused() { 0 } else { self.uses(own) }
    }

    /// Time has passed in which the program could use `own` cores, 0 if it had nothing to do or hung. No longer than until
    /// [`Governor::next`].
    pub(super) fn pass(&mut self, since: Time, now: Time, own: u64) {
        if self.is_paused() && since < self.pause_ends && self.pause_ends < now {
            // An instance that hung has slept through the end.
            let woke = self.pause_ends;
            self.pass(since, woke, own);
            return self.pass(woke, now, own);
        }
        let passed = (now - since).0;
        if passed == 0 {
            return;
        }
        let (uses, wants) = (self.uses(own), self.wants(own));
        let work = core_time(passed, uses);
        self.counts.used += u128::from(work);
        self.counts.stolen += u128::from(core_time(passed, wants - uses));
        if self.is_paused() {
            self.counts.paused_ns += passed;
            if now >= self.pause_ends {
                self.pause_ends = Time::ZERO;
            }
        }
        if let Some(burst) = &mut self.burst {
            burst.pass(passed, uses);
        }
        if let Some(quota) = &mut self.quota {
            if own > 0 || uses > 0 {
                quota.count(since, now, &mut self.counts.periods);
                self.counts.throttled_ns += if quota.left == 0 { passed } else { 0 };
            }
            quota.pass(now, uses, work);
        }
    }

    /// The quota is used up while there is something to do: once a period that counts.
    pub(super) fn note_throttling(&mut self, own: u64) {
        if let Some(quota) = &mut self.quota
            && own > 0
            && quota.left == 0
            && quota.unthrottled <= quota.period
        {
            quota.unthrottled = quota.period + 1;
            self.counts.throttled_periods += 1;
        }
    }

    /// The program stands still until then.
    pub(super) fn pause(&mut self, until: Time) {
        self.pause_ends = self.pause_ends.max(until);
        self.counts.pauses += 1;
    }

    /// When the speed changes by itself, if nothing else changes.
    pub(super) fn next(&self, since: Time, own: u64) -> Option<Time> {
        let runs_out = self.quota.as_ref().and_then(|quota| quota.next(since, self.uses(own), own > 0));
        let credits = self.burst.as_ref().and_then(|burst| burst.next(since, self.uses(own)));
        let ends = self.is_paused().then_some(self.pause_ends);
        [runs_out, credits, ends].into_iter().flatten().min()
    }

    /// The counts as they are at `now`.
    pub(super) fn counts_at(&self, since: Time, now: Time, own: u64) -> CpuCounts {
        let mut then = self.clone();
        then.pass(since, now, own);
        then.counts
    }
}

impl Quota {
    fn new(limit: f64, phase: f64, now: Time) -> Self {
        let offset = ((PERIOD.0 as f64 * phase) as u64).min(PERIOD.0 - 1);
        let per_period = Self::amount(limit);
        let period = (now.0 + offset) / PERIOD.0;
        Self { per_period, period, offset, left: per_period, uncounted: period, unthrottled: period }
    }

    fn amount(limit: f64) -> u64 {
        ((limit * PERIOD.0 as f64 * f64::from(1 << 12)) as u64).max(1)
    }

    const fn end_of_period(&self) -> Time {
        Time((self.period + 1) * PERIOD.0 - self.offset)
    }

    fn pass(&mut self, now: Time, uses: u64, work: u64) {
        let period = (now.0 + self.offset) / PERIOD.0;
        if period == self.period {
            self.left = self.left.saturating_sub(work);
        } else {
            // It did not run out in between, or there would have been an event.
            let into = (now.0 + self.offset) % PERIOD.0;
            self.period = period;
            self.left = self.per_period.saturating_sub(core_time(into, uses));
        }
    }

    fn count(&mut self, since: Time, now: Time, periods: &mut u64) {
        let first = ((since.0 + self.offset) / PERIOD.0).max(self.uncounted);
        let last = (now.0 - 1 + self.offset) / PERIOD.0;
        if last >= first {
            *periods += last - first + 1;
            self.uncounted = last + 1;
        }
    }

    fn next(&self, since: Time, uses: u64, busy: bool) -> Option<Time> {
        let end = self.end_of_period();
        if self.left == 0 {
            return busy.then_some(end);
        }
        if uses == 0 {
            return None;
        }
        let out = since + lasts(self.left, uses);
        if out < end {
            return Some(out);
        }
        // The next periods start with all of it.
        (core_time(PERIOD.0, uses) > self.per_period).then(|| end + lasts(self.per_period, uses))
    }
}

/// So long lasts this work on so many cores.
pub(super) fn lasts(work: u64, cores: u64) -> Duration {
    let ns = (u128::from(work) << 20).div_ceil(u128::from(cores));
    Duration(u64::try_from(ns).unwrap_or(u64::MAX))
}

/// So many cores for so long, in 2^-12 core-ns.
pub(super) fn core_time(ns: u64, cores: u64) -> u64 {
    u64::try_from((u128::from(ns) * u128::from(cores)) >> 20).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn four_threads_on_a_limit_of_one_run_25_ms_and_stand_still_for_75() {
        let mut governor = Governor::new(Some(1.0), 0.0, Time::ZERO);
        assert_eq!(governor.next(Time::ZERO, 4 * CORE), Some(ms(25)));
        governor.pass(Time::ZERO, ms(25), 4 * CORE);
        governor.note_throttling(4 * CORE);
        assert_eq!(governor.uses(4 * CORE), 0);
        assert_eq!(governor.next(ms(25), 4 * CORE), Some(ms(100)));
        governor.pass(ms(25), ms(100), 4 * CORE);
        assert_eq!(governor.uses(4 * CORE), 4 * CORE);
        let counts = governor.counts;
        assert_eq!((counts.periods, counts.throttled_periods, counts.throttled_ns), (1, 1, 75_000_000));
        assert_eq!(counts.used, 100_000_000 << 12);
    }

    #[test]
    fn a_limit_that_cannot_bind_needs_no_event() {
        let governor = Governor::new(Some(1.5), 0.3, Time::ZERO);
        assert_eq!(governor.next(Time::ZERO, CORE), None);
        // Two threads use 200 ms of the 150: out after 75 ms of a full period. The first one ends at 70 ms, so early.
        assert_eq!(governor.next(Time::ZERO, 2 * CORE), Some(ms(145)));
    }

    #[test]
    fn what_was_used_early_in_a_period_is_missing_later() {
        let mut governor = Governor::new(Some(1.0), 0.0, Time::ZERO);
        governor.pass(Time::ZERO, ms(20), 4 * CORE);
        // 80 of 100 ms are used; one thread alone would need no more than is left of the time, but for the quota.
        assert_eq!(governor.next(ms(20), CORE), Some(ms(40)));
        governor.pass(ms(20), ms(40), CORE);
        assert_eq!(governor.next(ms(40), CORE), Some(ms(100)));
        governor.pass(ms(40), ms(100), CORE);
        assert_eq!(governor.next(ms(100), CORE), None, "one thread alone never uses it up again");
        governor.pass(ms(100), ms(350), CORE);
        assert_eq!(governor.counts.periods, 4);
    }

    #[test]
    fn a_pause_takes_one_core_from_the_quota_and_all_from_the_program() {
        let mut governor = Governor::new(Some(1.0), 0.0, Time::ZERO);
        governor.pause(ms(30));
        assert_eq!(governor.for_steps(2 * CORE), 0);
        assert_eq!(governor.next(Time::ZERO, 2 * CORE), Some(ms(30)));
        governor.pass(Time::ZERO, ms(30), 2 * CORE);
        assert_eq!(governor.next(ms(30), 2 * CORE), Some(ms(65)), "70 ms are left for two threads");
        assert_eq!(governor.counts.paused_ns, 30_000_000);
    }

    #[test]
    fn what_the_node_does_not_give_is_counted() {
        let mut governor = Governor::new(None, 0.0, Time::ZERO);
        governor.granted = CORE / 2;
        governor.pass(Time::ZERO, ms(10), 2 * CORE);
        assert_eq!(governor.counts.used >> 12, 5_000_000);
        assert_eq!(governor.counts.stolen >> 12, 15_000_000);
    }
}
