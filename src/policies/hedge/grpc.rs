//! gRPC hedging: further copies at a fixed distance, until one of them is answered.
//!
//! ## What it does
//! The first copy goes out at once, the next `hedging-delay` after the one before, up to `max-attempts` in all. A copy that ends in one of
//! the `non-fatal` endings brings the next one forward to that moment. The first other ending, good or bad, is the answer, and the copies
//! that are left are no longer wanted. The last non-fatal one is the answer if no copy is left.
//!
//! ## When it helps
//! Reads whose time varies from instance to instance: with a delay near the 95th percentile one call in twenty is sent twice, and the
//! slowest one in a hundred becomes as fast as the second fastest of two.
//!
//! ## How it fails
//! With a short delay, or when everything is slow, every call is sent `max-attempts` times: hedges are load, and under overload they are
//! what keeps it up. Put a retry budget (`retry-budget.grpc`) beside it; it bounds hedges as well. Calls that must not happen twice cannot be
//! hedged.
//!
//! ## Settings
//! * `max-attempts` (required, 2 to 5; upstream takes more for 5).
//! * `hedging-delay` (default `0s`: all copies at once).
//! * `non-fatal` (default none): endings after which the next copy goes out at once (`failure`, `timeout`, `rejected`); upstream lists status
//!   codes.
//!
//! ## Origin
//! gRPC proposal A6 (grpc/proposal 1fd77201), *Hedging Policy*; npm @grpc/grpc-js 1.14.7, `src/retrying-call.ts`
//! (`maybeStartHedgingAttempt`, `maybeStartHedgingTimer`, `handleProcessedStatus`).
//!
//! ## Deliberate differences
//! * More than five attempts are refused instead of cut.
//! * Server pushback is not modelled: no service here sends any.
//! * Upstream cancels the copies that are left. Here the edge's `cancel` says whether their instances hear of it.
//! * gRPC does not look where the other copies went. Here a copy avoids their instances, as long as the client knows another one.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{HedgePolicy, Verdict};
use crate::policies::Algorithm;
use crate::policies::retry::RetryOnSet;
use crate::policies::view::{Class, Outcome};
use crate::time::{Duration, Time};

/// Settings of `hedge.grpc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GrpcSettings {
    /// Copies in all, the first included.
    #[schemars(range(min = 2, max = 5))]
    #[serde(deserialize_with = "attempts")]
    pub max_attempts: u32,
    /// From one copy to the next.
    #[serde(default)]
    pub hedging_delay: Duration,
    /// Endings after which the next copy goes out at once.
    #[serde(default = "none")]
    pub non_fatal: RetryOnSet,
}

const fn none() -> RetryOnSet {
    RetryOnSet::NONE
}

fn attempts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let attempts = u32::deserialize(deserializer)?;
    if (2..=MAX_ATTEMPTS).contains(&attempts) {
        Ok(attempts)
    } else {
        Err(de::Error::custom(format!("max-attempts is {attempts}, but gRPC hedges with 2 to 5 attempts")))
    }
}

/// More are never made.
const MAX_ATTEMPTS: u32 = 5;

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Grpc(GrpcSettings);

impl Algorithm for Grpc {
    type Settings = GrpcSettings;

    fn new(settings: &GrpcSettings, _now: Time) -> Self {
        Self(GrpcSettings { max_attempts: settings.max_attempts.min(MAX_ATTEMPTS), ..*settings })
    }
}

impl HedgePolicy for Grpc {
    #[inline]
    fn most(&self) -> u32 {
        self.0.max_attempts
    }

    #[inline]
    fn delay(&mut self, _now: Time, _sent: u32) -> Option<Duration> {
        Some(self.0.hedging_delay)
    }

    #[inline]
    fn on_outcome(&mut self, _now: Time, outcome: &Outcome) -> Verdict {
        if self.goes_on_after(outcome.class) { Verdict::Next } else { Verdict::Final }
    }

    #[inline]
    fn goes_on_after(&self, class: Class) -> bool {
        self.0.non_fatal.covers(class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked() {
        let parse = serde_json::from_str::<GrpcSettings>;
        assert_eq!(parse(r#"{"max-attempts": 2}"#).unwrap().hedging_delay, Duration::ZERO);
        for json in [
            "{}",
            r#"{"max-attempts": 1}"#,
            r#"{"max-attempts": 6}"#,
            r#"{"max-attempts": 2, "hedging-delay": 50}"#,
            r#"{"max-attempts": 2, "non-fatal": ["success"]}"#,
        ] {
            assert!(parse(json).is_err(), "{json}");
        }
    }
}
