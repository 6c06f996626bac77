//! Tries again after a delay that grows by a factor from try to try, up to a maximum.
//!
//! ## What it does
//! Before retry i (i = 0 for the first) it waits min(`max-delay`, `delay` · `backoff`^i), until `attempts` have been made in
//! all. With `increase`, each delay is lengthened by a random share of itself, uniform between 0 and `increase`, before the
//! maximum is applied.
//!
//! ## When it helps
//! Slow or unreliable links: three attempts with a growing delay; on reliable ones two attempts one second apart.
//!
//! ## How it fails
//! Without `increase` callers that failed together come back together, in waves that get rarer but not smaller. Like every
//! retry without a budget it multiplies the load of an overloaded service.
//!
//! ## Settings
//! * `attempts` (default 3, the first included; at least 1, and no more than 100 are made whatever is written).
//! * `delay` (default `50ms`): delay before the first retry.
//! * `backoff` (default 2, at least 1): factor from one delay to the next.
//! * `max-delay` (default `1s`): no delay is longer.
//! * `increase` (default `0%`): largest random lengthening of a delay.
//! * `on` (default `["failure", "timeout", "rejected"]`): endings that are retried.
//!
//! ## Origin
//! The retry described in the third of the articles that simlab grew from; simlab's own definition, pinned by
//! `tests/vectors/limiter/seed_retry.json`. The article gives the start (50 ms) and the cap of 100 attempts, not the
//! maximum delay.
//!
//! ## Deliberate differences
//! * The code printed with the article counts i downwards, so its delays shrink; this is what its text describes.
//! * The cap comes after the random lengthening, so `max-delay` holds. Delays are rounded to whole nanoseconds.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{RetryOnSet, RetryPolicy};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};
use crate::units::Share;

/// No more attempts than this are made.
pub(super) const ATTEMPTS_MAX: u32 = 100;

/// Settings of `retry.seed`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SeedSettings {
    /// Attempts in all, the first included.
    pub attempts: NonZeroU32,
    /// Delay before the first retry.
    pub delay: Duration,
    /// Factor from one delay to the next, at least 1.
    #[serde(deserialize_with = "factor")]
    #[schemars(range(min = 1.0))]
    pub backoff: f64,
    /// No delay is longer.
    pub max_delay: Duration,
    /// Largest random lengthening of a delay, as a share of it.
    pub increase: Share,
    /// Endings that are retried.
    pub on: RetryOnSet,
}

impl Default for SeedSettings {
    fn default() -> Self {
        Self {
            attempts: NonZeroU32::MIN.saturating_add(2),
            delay: Duration::from_millis(50),
            backoff: 2.0,
            max_delay: Duration::from_secs(1),
            increase: Share(0.0),
            on: RetryOnSet::ALL,
        }
    }
}

fn factor<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let factor = f64::deserialize(deserializer)?;
    if factor >= 1.0 && factor.is_finite() {
        Ok(factor)
    } else {
        Err(de::Error::custom(format!(
            "backoff is {factor}, but the delays must not shrink: write 1 or more"
        )))
    }
}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Seed(SeedSettings);

impl Seed {
    /// Delay before retry `i` (0 for the first) in nanoseconds, not yet rounded.
    #[inline]
    pub fn delay_ns(&self, i: u32, rng: &mut Rng) -> f64 {
        let SeedSettings { delay, backoff, max_delay, increase, .. } = self.0;
        let mut grown = delay.0 as f64 * libm::pow(backoff, f64::from(i));
        if increase.0 > 0.0 {
            grown *= 1.0 + increase.0 * rng.unit();
        }
        grown.min(max_delay.0 as f64)
    }
}

impl Algorithm for Seed {
    type Settings = SeedSettings;

    fn new(settings: &SeedSettings, _now: Time) -> Self {
        let attempts = settings.attempts.min(NonZeroU32::MIN.saturating_add(ATTEMPTS_MAX - 1));
        Self(SeedSettings { attempts, ..*settings })
    }
}

impl RetryPolicy for Seed {
    #[inline]
    fn bounds(&self) -> (u32, RetryOnSet) {
        (self.0.attempts.get(), self.0.on)
    }

    #[inline]
    fn delay(&self, attempt: u32, _carry: &mut f64, rng: &mut Rng) -> Duration {
        Duration::from_ns_f64(self.delay_ns(attempt, rng))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::retry::Retry;
    use crate::policies::view::{Class, Outcome};
    use crate::random::Key;

    #[test]
    fn attempts_are_capped_and_delays_bounded() {
        let settings = SeedSettings {
            attempts: NonZeroU32::MAX,
            backoff: 1e300,
            increase: Share(1.0),
            ..SeedSettings::default()
        };
        let seed = Seed::new(&settings, Time::ZERO);
        let outcome = Outcome::new(Class::Failure, Duration::ZERO);
        let mut rng = Key::new(1).rng();
        let mut ask = |attempt| seed.on_failure(Time::ZERO, attempt, &mut 0.0, &outcome, &mut rng);
        let Retry::After(first) = ask(0) else { panic!() };
        assert!((50..=100).contains(&first.as_millis()), "{first}");
        for attempt in 1..99 {
            assert_eq!(ask(attempt), Retry::After(Duration::from_secs(1)));
        }
        assert_eq!(ask(99), Retry::GiveUp);
    }

    #[test]
    fn settings_are_checked() {
        let parse = serde_json::from_str::<SeedSettings>;
        assert_eq!(parse("{}").unwrap(), SeedSettings::default());
        for json in [r#"{"attempts": 0}"#, r#"{"backoff": 0.5}"#, r#"{"delay": 50}"#, r#"{"wait": "1s"}"#] {
            assert!(parse(json).is_err(), "{json}");
        }
    }
}
