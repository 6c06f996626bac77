//! Allows retries for a share of the calls of the last seconds, plus a small reserve, as Finagle counts them.
//!
//! ## What it does
//! Every call deposits 1000, every retry withdraws the whole part of 1000 / `percent-can-retry`; both count for `ttl`, in ten slices
//! of whole milliseconds. On top there is a reserve worth `min-retries-per-sec` · `ttl` retries, of which those of the last `ttl` are
//! used up.
//!
//! ## When it helps
//! As `retry-budget.tower`, which was written after it: failures that are rare are all retried, and in an outage the extra load stays
//! below the share.
//!
//! ## How it fails
//! As tower's: clients of few calls live on the reserve, and the reserves of many clients add up.
//!
//! ## Settings
//! * `ttl` (default `10s`, between 1 s and 60 s): how long a deposit counts.
//! * `min-retries-per-sec` (default 10): retries per second of `ttl` that are allowed without deposits.
//! * `percent-can-retry` (default `20%`, at most 100000 %): retries allowed per call, on top of that.
//!
//! ## Origin
//! Finagle, `finagle-core/src/main/scala/com/twitter/finagle/service/RetryBudget.scala` (`RetryBudget.apply`, `TokenRetryBudget`) over
//! `com.twitter.util.TokenBucket.newLeakyBucket` and `WindowedAdder` (twitter/util): nine past slices and the one being written. The scale of 1000
//! makes 30 % allow 1000 / 3333 and not tower's third.
//!
//! ## Deliberate differences
//! Deposits are made once per call, at its first attempt; Finagle deposits at each request that passes its filter. Without reserve and
//! share upstream returns a budget that is always empty; so is this one.

use schemars::JsonSchema;
use serde::de;
use serde::{Deserialize, Deserializer};

use super::Budget;
use super::tower::retry_percent;
use crate::policies::Algorithm;
use crate::policies::view::Class;
use crate::time::{Duration, Time};
use crate::units::Share;

/// Settings of `retry-budget.finagle`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct FinagleSettings {
    /// How long a deposit counts, between 1 s and 60 s.
    #[serde(deserialize_with = "ttl")]
    pub ttl: Duration,
    /// Retries per second that are allowed without deposits.
    pub min_retries_per_sec: u32,
    /// Retries allowed per call; may be more than 100 %.
    #[serde(deserialize_with = "retry_percent")]
    pub percent_can_retry: Share,
}

impl Default for FinagleSettings {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(10), min_retries_per_sec: 10, percent_can_retry: Share(0.2) }
    }
}

fn ttl<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let ttl = Duration::deserialize(deserializer)?;
    if (Duration::from_secs(1)..=Duration::from_secs(60)).contains(&ttl) {
        Ok(ttl)
    } else {
        Err(de::Error::custom(format!("ttl is {ttl}, but Finagle allows 1s to 60s")))
    }
}

const SCALE_FACTOR: f64 = 1000.0;
/// Slices of the window that are over; the tenth is being written.
const N: usize = 9;

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Finagle(Box<TokenRetryBudget>);

#[derive(Clone, Debug)]
struct TokenRetryBudget {
    deposit_amount: i64,
    withdrawal_amount: i64,
    reserve: i64,
    /// Length of a slice, ms.
    window: u64,
    writer: i64,
    buf: [i64; N],
    i: usize,
    /// When the slice being written began, ms.
    old: u64,
}

impl Algorithm for Finagle {
    type Settings = FinagleSettings;

    fn new(settings: &FinagleSettings, now: Time) -> Self {
        let percent = settings.percent_can_retry.0;
        let (deposit_amount, withdrawal_amount) =
            if percent == 0.0 { (0, 1) } else { (SCALE_FACTOR as i64, (SCALE_FACTOR / percent) as i64) };
        let secs = (settings.ttl.as_millis() / 1000).cast_signed();
        let reserve = i64::from(settings.min_retries_per_sec) * secs;
        Self(Box::new(TokenRetryBudget {
            deposit_amount,
            withdrawal_amount,
            reserve: reserve.saturating_mul(withdrawal_amount),
            window: settings.ttl.as_millis() / (N as u64 + 1),
            writer: 0,
            buf: [0; N],
            i: 0,
            old: now.as_millis(),
        }))
    }
}

impl TokenRetryBudget {
    /// Closes the slice being written, if its time is over.
    #[inline]
    fn expire(&mut self, now: u64) {
        let passed = now - self.old;
        if passed < self.window {
            return;
        }
        self.buf[self.i] = std::mem::take(&mut self.writer);
        self.i = (self.i + 1) % N;
        let skipped = ((passed / self.window - 1).min(N as u64)) as usize;
        for _ in 0..skipped {
            self.buf[self.i] = 0;
            self.i = (self.i + 1) % N;
        }
        self.old = now;
    }

    #[inline]
    fn count(&self) -> i64 {
        self.buf
            .iter()
            .fold(self.writer, |sum, slice| sum.saturating_add(*slice))
            .saturating_add(self.reserve)
    }
}

impl Budget for Finagle {
    #[inline]
    fn deposit(&mut self, now: Time) {
        self.0.expire(now.as_millis());
        self.0.writer += self.0.deposit_amount;
    }

    #[inline]
    fn withdraw(&mut self, now: Time, _after: Option<Class>) -> Option<u32> {
        self.0.expire(now.as_millis());
        let enough = self.0.count() >= self.0.withdrawal_amount;
        enough.then(|| {
            self.0.writer -= self.0.withdrawal_amount;
            1
        })
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("balance", (self.0.count() / self.0.withdrawal_amount) as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_is_allowed_on_top_of_the_reserve_and_expires() {
        let settings = FinagleSettings { min_retries_per_sec: 1, ..Default::default() };
        let mut budget = Finagle::new(&settings, Time::ZERO);
        (0..100).for_each(|_| budget.deposit(Time::ZERO));
        let mut allowed = |at| (0..100).take_while(|_| budget.withdraw(at, None).is_some()).count();
        assert_eq!(allowed(Time::ZERO), 10 + 20);
        // A slice lasts one second, and ten of them count.
        assert_eq!(allowed(Time::from_millis(9_999)), 0);
        assert_eq!(allowed(Time::from_secs(20)), 10);
    }

    #[test]
    fn the_scale_keeps_what_tower_cuts() {
        let settings =
            FinagleSettings { min_retries_per_sec: 0, percent_can_retry: Share(0.3), ..Default::default() };
        let mut budget = Finagle::new(&settings, Time::ZERO);
        (0..10_000).for_each(|_| budget.deposit(Time::ZERO));
        let allowed = (0..10_000).take_while(|_| budget.withdraw(Time::ZERO, None).is_some()).count();
        assert_eq!(allowed, 10_000_000 / 3333);
        assert!(serde_json::from_str::<FinagleSettings>(r#"{"ttl": "61s"}"#).is_err());
    }
}
