//! CPU credits of burstable machines.
//!
//! Origin: the token model that AWS documents for its T instances ("Key concepts for burstable performance instances", EC2
//! user guide). Each core has a baseline share. Credits are earned at the baseline rate all the time and spent by using cores,
//! so the balance changes by (baseline - use) x time, between nothing and a maximum; with none left, use is held to the
//! baseline. AWS books by the minute and lowers the speed gradually as credits run out; here both are continuous and at once.

use super::governor::{core_time, lasts};
use super::spec::BurstSpec;
use crate::time::{Duration, Time};

/// Credits of one instance; the unit is 2^-12 core-ns.
#[derive(Clone, Debug)]
pub(super) struct Burst {
    /// Cores, 2^32 is one.
    baseline: u64,
    left: u64,
    max: u64,
}

impl Burst {
    /// With what a new machine has, or what an earlier process on it has left.
    pub(super) fn new(spec: &BurstSpec, left: Option<u64>) -> Self {
        let work = |time: Duration| time.0.saturating_mul(1 << 12);
        let max = work(spec.max);
        Self { baseline: spec.baseline, left: left.unwrap_or_else(|| work(spec.credits)).min(max), max }
    }

    /// Cores that it may use now.
    pub(super) const fn most(&self) -> u64 {
        if self.left == 0 { self.baseline } else { u64::MAX }
    }

    /// So long it has used so many cores.
    pub(super) fn pass(&mut self, ns: u64, uses: u64) {
        self.left = if uses > self.baseline {
            self.left.saturating_sub(core_time(ns, uses - self.baseline))
        } else {
            self.left.saturating_add(core_time(ns, self.baseline - uses)).min(self.max)
        };
    }

    /// When they run out.
    pub(super) fn next(&self, since: Time, uses: u64) -> Option<Time> {
        (uses > self.baseline && self.left > 0).then(|| since + lasts(self.left, uses - self.baseline))
    }

    /// What is left after it has used so many cores for so long.
    pub(super) fn left_after(&self, ns: u64, uses: u64) -> u64 {
        let mut then = self.clone();
        then.pass(ns, uses);
        then.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::governor::{CORE, Governor};

    fn governor(credits: u64) -> Governor {
        let spec = BurstSpec {
            baseline: CORE / 4,
            credits: Duration::from_secs(credits),
            max: Duration::from_secs(60),
        };
        let mut governor = Governor::new(None, 0.0, Time::ZERO);
        governor.burst = Some(Burst::new(&spec, None));
        governor
    }

    #[test]
    fn a_full_core_lasts_as_long_as_the_credits_over_what_is_not_earned() {
        let mut governor = governor(30);
        // 30 core-seconds, spent at 1 - 1/4.
        assert_eq!(governor.next(Time::ZERO, CORE), Some(Time::from_secs(40)));
        governor.pass(Time::ZERO, Time::from_secs(40), CORE);
        assert_eq!((governor.uses(CORE), governor.next(Time::from_secs(40), CORE)), (CORE / 4, None));
        // Held to what it earns, it has nothing to save.
        governor.pass(Time::from_secs(40), Time::from_secs(50), CORE);
        assert_eq!(governor.uses(CORE), CORE / 4);
        assert_eq!(governor.counts.used >> 12, 42_500_000_000);
        // Ten idle seconds earn 2.5 core-seconds; half a core costs a quarter.
        governor.pass(Time::from_secs(50), Time::from_secs(60), 0);
        assert_eq!(governor.next(Time::from_secs(60), CORE / 2), Some(Time::from_secs(70)));
    }

    #[test]
    fn there_is_a_most_that_can_be_saved() {
        let mut governor = governor(30);
        governor.pass(Time::ZERO, Time::from_secs(3600), 0);
        assert_eq!(governor.next(Time::from_secs(3600), CORE), Some(Time::from_secs(3680)));
        assert_eq!(governor.next(Time::from_secs(3600), CORE / 4), None);
    }
}
