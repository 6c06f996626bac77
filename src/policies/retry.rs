//! Retries: whether a failed attempt is made again, and when; and budgets that bound how many.

pub mod budget;
pub mod cockatiel;
pub mod decorrelated;
pub mod equal_jitter;
pub mod exponential;
pub mod fixed;
pub mod grpc;
pub mod no_jitter;
pub mod polly;
pub mod resilience4j;
pub mod seed;
pub mod seed_naive;

pub use budget::{AnyBudget, Budget, BudgetSettings, Ended};

use schemars::JsonSchema;
use serde::Deserialize;

use super::view::{Class, Outcome};
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Answer of a retry policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Try again after this delay (zero: at once).
    After(Duration),
    /// Report the last outcome to the caller.
    GiveUp,
}

/// Decides what follows a failed attempt of one call. Stateless between calls; state over calls is a [`Budget`].
pub trait RetryPolicy {
    /// Most attempts, the first included, and the endings that are retried.
    fn bounds(&self) -> (u32, RetryOnSet);

    /// Delay after attempt number `attempt` (0 for the first). `carry` is what the policy keeps from one delay of a call to
    /// the next (zero at first), for those whose next delay grows from the one before.
    fn delay(&self, attempt: u32, carry: &mut f64, rng: &mut Rng) -> Duration;

    /// Attempt number `attempt` (0 for the first) ended with `outcome`, which is not a success.
    #[inline]
    fn on_failure(
        &self,
        _now: Time,
        attempt: u32,
        carry: &mut f64,
        outcome: &Outcome,
        rng: &mut Rng,
    ) -> Retry {
        let (attempts, on) = self.bounds();
        if attempt + 1 < attempts && !outcome.ignored && on.covers(outcome.class) {
            Retry::After(self.delay(attempt, carry, rng))
        } else {
            Retry::GiveUp
        }
    }
}

/// Which endings of an attempt are worth another one. An abandoned attempt never is: nobody wants its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<RetryOn>")]
#[schemars(with = "Vec<RetryOn>")]
pub struct RetryOnSet {
    failure: bool,
    timeout: bool,
    rejected: bool,
}

/// One ending that may be retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RetryOn {
    /// An error came back, or the connection broke.
    Failure,
    /// The caller stopped waiting.
    Timeout,
    /// Refused by a limiter, a breaker or a full queue.
    Rejected,
}

impl RetryOnSet {
    /// All three.
    pub const ALL: Self = Self { failure: true, timeout: true, rejected: true };
    /// None of them.
    pub const NONE: Self = Self { failure: false, timeout: false, rejected: false };

    /// Whether an attempt that ended in `class` may be followed by another one.
    #[inline]
    pub const fn covers(self, class: Class) -> bool {
        match class {
            Class::Failure => self.failure,
            Class::Timeout => self.timeout,
            Class::Rejected => self.rejected,
            Class::Success | Class::Abandoned => false,
        }
    }
}

impl Default for RetryOnSet {
    fn default() -> Self {
        Self::ALL
    }
}

impl TryFrom<Vec<RetryOn>> for RetryOnSet {
    type Error = &'static str;

    fn try_from(endings: Vec<RetryOn>) -> Result<Self, Self::Error> {
        if endings.is_empty() {
            return Err(
                "`on` names no ending, so nothing would ever be retried: write retry = \"none\" for that",
            );
        }
        let has = |ending| endings.contains(&ending);
        let (failure, timeout) = (has(RetryOn::Failure), has(RetryOn::Timeout));
        Ok(Self { failure, timeout, rejected: has(RetryOn::Rejected) })
    }
}

registry! {
    ($)
    /// A retry policy and its settings, as written in a scenario.
    RetrySettings,
    /// Any retry policy, by value.
    AnyRetry: RetryPolicy,
    family "retry" in "retry",
    "seed" => seed::Seed,
    "seed-naive" => seed_naive::SeedNaive,
    "fixed" => fixed::Fixed,
    "exponential" => exponential::Exponential,
    "equal-jitter" => equal_jitter::EqualJitter,
    "decorrelated" => decorrelated::Decorrelated,
    "no-jitter" => no_jitter::NoJitter,
    "grpc" => grpc::Grpc,
    "resilience4j" => resilience4j::Resilience4j,
    "cockatiel" => cockatiel::Cockatiel,
    "polly" => polly::Polly,
}

const _: () = assert!(size_of::<AnyRetry>() <= 64);

impl RetryPolicy for AnyRetry {
    #[inline]
    fn bounds(&self) -> (u32, RetryOnSet) {
        dispatch!(self, policy => policy.bounds())
    }

    #[inline]
    fn delay(&self, attempt: u32, carry: &mut f64, rng: &mut Rng) -> Duration {
        dispatch!(self, policy => policy.delay(attempt, carry, rng))
    }

    #[inline]
    fn on_failure(
        &self,
        now: Time,
        attempt: u32,
        carry: &mut f64,
        outcome: &Outcome,
        rng: &mut Rng,
    ) -> Retry {
        dispatch!(self, policy => policy.on_failure(now, attempt, carry, outcome, rng))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_chosen_by_name() {
        let parse = serde_json::from_str::<RetryOnSet>;
        assert_eq!(parse(r#"["rejected", "timeout", "failure"]"#).unwrap(), RetryOnSet::ALL);
        let only = parse(r#"["timeout"]"#).unwrap();
        assert!(only.covers(Class::Timeout) && !only.covers(Class::Failure) && !only.covers(Class::Rejected));
        assert!(parse("[]").unwrap_err().to_string().contains("nothing would ever be retried"));
        assert!(parse(r#"["success"]"#).unwrap_err().to_string().contains("unknown variant"));
    }
}
