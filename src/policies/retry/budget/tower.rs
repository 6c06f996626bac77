//! Allows retries for a share of the calls of the last seconds, plus a small reserve.
//!
//! ## What it does
//! Every call deposits, every retry withdraws; deposits and withdrawals count for `ttl`, in ten slots of ttl / 10. With
//! `retry-percent = "20%"` a deposit is worth 1 and a withdrawal 5, so one retry is allowed per five calls. On top there is a
//! reserve worth `min-per-sec` · `ttl` retries, of which those of the last `ttl` are used up.
//!
//! ## When it helps
//! Beside any retry policy: as long as failures are rare every one of them is retried, and in an outage the extra load
//! stays below the share, whatever the number of attempts. This is what stops a retry storm.
//!
//! ## How it fails
//! Clients of few calls live on the reserve: with many of them the reserves add up (200 clients at `min-per-sec = 10` may
//! send 2000 retries per second in all). It does not tell a call that is worth a retry from one that is not.
//!
//! ## Settings
//! * `ttl` (default `10s`, between 1 s and 60 s): how long a deposit counts.
//! * `min-per-sec` (default 10): retries per second of `ttl` that are allowed without deposits.
//! * `retry-percent` (default `20%`, at most 100000 %): retries allowed per call, on top of that.
//!
//! ## Origin
//! tower 0.5.3, `tower/src/retry/budget/tps_budget.rs` (`TpsBudget`, `TpsBucket`), itself after Finagle's `RetryBudget`.
//! Its rounding is kept: a withdrawal costs the whole part of 1 / `retry-percent` in single precision (30 % allows a third), the
//! reserve counts whole seconds of `ttl`, and slots drift because an expiry takes the current time as the new start.
//!
//! ## Deliberate differences
//! The policy is told when to deposit: simlab deposits once per call, at its first attempt (as Finagle does), where
//! tower's examples deposit at every response that is not retried.

use schemars::JsonSchema;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

use super::Budget;
use crate::policies::Algorithm;
use crate::policies::view::Class;
use crate::time::{Duration, Time};
use crate::units::{Share, parse_percent};

/// Settings of `retry-budget.tower`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TowerSettings {
    /// How long a deposit counts, between 1 s and 60 s.
    #[serde(deserialize_with = "ttl")]
    pub ttl: Duration,
    /// Retries per second that are allowed without deposits.
    #[schemars(range(max = 2_147_483_646))]
    #[serde(deserialize_with = "min_per_sec")]
    pub min_per_sec: u32,
    /// Retries allowed per call; may be more than 100 %.
    #[serde(deserialize_with = "retry_percent")]
    pub retry_percent: Share,
}

impl Default for TowerSettings {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(10), min_per_sec: 10, retry_percent: Share(0.2) }
    }
}

fn ttl<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let ttl = Duration::deserialize(deserializer)?;
    if (Duration::from_secs(1)..=Duration::from_secs(60)).contains(&ttl) {
        Ok(ttl)
    } else {
        Err(de::Error::custom(format!("ttl is {ttl}, but tower allows 1s to 60s")))
    }
}

fn min_per_sec<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let min_per_sec = u32::deserialize(deserializer)?;
    if min_per_sec < i32::MAX as u32 {
        Ok(min_per_sec)
    } else {
        Err(de::Error::custom(format!("min-per-sec is {min_per_sec}, but tower allows at most 2147483646")))
    }
}

/// A share that may be more than 1, up to a thousand.
pub(super) fn retry_percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Share, D::Error> {
    /// As a [`Share`], but up to 100000 %.
    struct Reader;

    impl Visitor<'_> for Reader {
        type Value = Share;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a share, such as \"20%\"")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Share, E> {
            let share = parse_percent(text).map_err(E::custom)?;
            if share > 1000.0 {
                return Err(E::custom(format!(
                    "retry-percent is {text}, but tower and Finagle allow at most 100000%"
                )));
            }
            Ok(Share(share))
        }
    }

    deserializer.deserialize_str(Reader)
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Tower(Box<TpsBudget>);

/// Slots into which the time to live is divided.
const SLOTS: usize = 10;

#[derive(Clone, Debug)]
struct TpsBudget {
    deposit_amount: i64,
    withdraw_amount: i64,
    reserve: i64,
    /// What has been committed in each slot.
    slots: [i64; SLOTS],
    /// Time that one slot stands for.
    window: Duration,
    /// What is to be committed when the current slot expires.
    writer: i64,
    /// The current slot.
    index: usize,
    /// When it began.
    time: Time,
}

impl Algorithm for Tower {
    type Settings = TowerSettings;

    fn new(settings: &TowerSettings, now: Time) -> Self {
        let retry_percent = settings.retry_percent.0 as f32;
        let (deposit_amount, withdraw_amount) = if retry_percent == 0.0 {
            // Deposits are worth nothing; only the reserve is there to be withdrawn.
            (0, 1)
        } else if retry_percent <= 1.0 {
            (1, (1.0 / retry_percent) as i64)
        } else {
            (1000, (1000.0 / retry_percent) as i64)
        };
        let ttl_secs = (settings.ttl.0 / 1_000_000_000).cast_signed();
        let reserve =
            i64::from(settings.min_per_sec).saturating_mul(ttl_secs).saturating_mul(withdraw_amount);
        Self(Box::new(TpsBudget {
            deposit_amount,
            withdraw_amount,
            reserve,
            slots: [0; SLOTS],
            window: Duration(settings.ttl.0 / SLOTS as u64),
            writer: 0,
            index: 0,
            time: now,
        }))
    }
}

impl Tower {
    /// What may be withdrawn, without expiring anything.
    pub fn balance(&self) -> i64 {
        self.0.balance()
    }
}

impl TpsBudget {
    #[inline]
    fn expire(&mut self, now: Time) {
        let mut diff = now - self.time;
        if diff >= self.window {
            self.slots[self.index] = std::mem::take(&mut self.writer);
            let mut index = (self.index + 1) % SLOTS;
            // After as many rounds as there are slots all of them are empty, and it no longer matters which is current.
            let mut passed = 0;
            while diff > self.window && passed < SLOTS {
                self.slots[index] = 0;
                diff = diff - self.window;
                index = (index + 1) % SLOTS;
                passed += 1;
            }
            self.index = index;
            self.time = now;
        }
    }

    #[inline]
    fn balance(&self) -> i64 {
        let windowed_sum = self.slots.iter().fold(0_i64, |sum, &slot| sum.saturating_add(slot));
        self.writer.saturating_add(windowed_sum).saturating_add(self.reserve)
    }
}

impl Budget for Tower {
    #[inline]
    fn deposit(&mut self, now: Time) {
        self.0.expire(now);
        self.0.writer += self.0.deposit_amount;
    }

    #[inline]
    fn withdraw(&mut self, now: Time, _after: Option<Class>) -> Option<u32> {
        self.0.expire(now);
        let enough = self.0.balance() >= self.0.withdraw_amount;
        enough.then(|| {
            self.0.writer -= self.0.withdraw_amount;
            1
        })
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        // Upstream expires only when it is used; so does the reading.
        show("balance", self.balance() as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_is_allowed_on_top_of_the_reserve() {
        let settings = TowerSettings { min_per_sec: 1, ..Default::default() };
        let mut budget = Tower::new(&settings, Time::ZERO);
        (0..100).for_each(|_| budget.deposit(Time::ZERO));
        let allowed = (0..100).filter(|_| budget.withdraw(Time::ZERO, None).is_some()).count();
        assert_eq!(allowed, 10 + 20);
        // All of it has expired eleven seconds later.
        let later = Time::from_secs(11);
        assert_eq!((0..100).filter(|_| budget.withdraw(later, None).is_some()).count(), 10);
    }

    #[test]
    fn a_very_long_pause_costs_no_time() {
        let mut budget = Tower::new(&TowerSettings::default(), Time::ZERO);
        budget.deposit(Time::ZERO);
        budget.deposit(Time::MAX);
        assert_eq!(budget.balance(), 501);
    }

    #[test]
    fn settings_are_checked() {
        let parse = serde_json::from_str::<TowerSettings>;
        assert_eq!(parse("{}").unwrap(), TowerSettings::default());
        assert_eq!(parse(r#"{"retry-percent": "250%"}"#).unwrap().retry_percent, Share(2.5));
        for json in [
            r#"{"ttl": "61s"}"#,
            r#"{"ttl": "900ms"}"#,
            r#"{"retry-percent": 0.2}"#,
            r#"{"retry-percent": "100001%"}"#,
        ] {
            assert!(parse(json).is_err(), "{json}");
        }
    }
}
