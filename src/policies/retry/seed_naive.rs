//! The retry of the source article as its code is printed: the delays shrink from try to try.
//!
//! ## What it does
//! A loop counts i down from `attempts` to 1. Each round tries once, and after a failure waits min(`max-delay`,
//! `delay` · `backoff`^i). When the loop is through, one more try stands behind it. So there are `attempts` + 1 tries, the first
//! wait is the longest, and each later one is shorter by the factor `backoff`.
//!
//! ## When it helps
//! To see what the small slip costs. Beside `retry.seed`, which is what the article's text describes, it shows why the order of the
//! delays matters.
//!
//! ## How it fails
//! It waits long after the first failure, which may have been a lost packet, and comes back fast when everything points to an
//! outage. With every call the rate of retries grows towards the end, and callers that failed together stay together.
//!
//! ## Settings
//! Those of `retry.seed`, with the same defaults; `attempts` are the rounds of the loop.
//!
//! ## Origin
//! The code of the retry in the third of the articles that simlab grew from: i counts down from `attempts`, and the last try stands
//! outside the loop. That much is recorded; that the loop ends at 1 is simlab's reading.
//!
//! ## Deliberate differences
//! At most 100 rounds are made whatever is written, as the article's text says. Delays are rounded to whole nanoseconds.

use super::seed::{ATTEMPTS_MAX, Seed, SeedSettings};
use super::{RetryOnSet, RetryPolicy};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct SeedNaive {
    seed: Seed,
    attempts: u32,
    on: RetryOnSet,
}

impl Algorithm for SeedNaive {
    type Settings = SeedSettings;

    fn new(settings: &SeedSettings, now: Time) -> Self {
        let attempts = settings.attempts.get().min(ATTEMPTS_MAX);
        Self { seed: Seed::new(settings, now), attempts, on: settings.on }
    }
}

impl RetryPolicy for SeedNaive {
    #[inline]
    fn bounds(&self) -> (u32, RetryOnSet) {
        (self.attempts + 1, self.on)
    }

    #[inline]
    fn delay(&self, attempt: u32, _carry: &mut f64, rng: &mut Rng) -> Duration {
        let i = self.attempts - attempt.min(self.attempts);
        Duration::from_ns_f64(self.seed.delay_ns(i, rng))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::retry::Retry;
    use crate::policies::view::{Class, Outcome};
    use crate::random::Key;

    #[test]
    fn delays_shrink() {
        let settings = SeedSettings { max_delay: Duration::from_millis(300), ..SeedSettings::default() };
        let policy = SeedNaive::new(&settings, Time::ZERO);
        let outcome = Outcome::new(Class::Failure, Duration::ZERO);
        let mut rng = Key::new(1).rng();
        let mut ask = |attempt| policy.on_failure(Time::ZERO, attempt, &mut 0.0, &outcome, &mut rng);
        // 50 ms · 2^3, 2^2, 2^1, the first of them cut.
        assert_eq!(ask(0), Retry::After(Duration::from_millis(300)));
        assert_eq!(ask(1), Retry::After(Duration::from_millis(200)));
        assert_eq!(ask(2), Retry::After(Duration::from_millis(100)));
        assert_eq!(ask(3), Retry::GiveUp);
    }
}
