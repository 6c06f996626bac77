//! A token for every retry, and a fraction of one for every call, from a bucket that starts full.
//!
//! ## What it does
//! A retry takes one token, if there is more than one. Each call puts `fill` back, up to `size`: when it starts, or (`deposit =
//! "success"`) when an attempt succeeds.
//!
//! ## When it helps
//! The plainest bound: in the long run retries are at most the share `fill` of the calls, and a short burst of failures is retried as
//! if there were no bound. With deposits on success an outage fills nothing, so what is left of retries stops altogether.
//!
//! ## How it fails
//! The full bucket at the start counts per client: a thousand clients may make a thousand times `size` retries before the share
//! holds. With deposits at the start a dead service is still sent `fill` retries per call.
//!
//! ## Settings
//! * `size` (default 5, above 1): tokens at most, and at the start.
//! * `fill` (default 0.1, above 0): tokens for a deposit.
//! * `deposit` (default `start`): `start` or `success`.
//!
//! ## Origin
//! Marc Brooker, *Fixing retries with token buckets and circuit breakers* (2022) and its simulation, `mbrooker/simulator_example` at bbfe394,
//! `retry_sim/retry_strategy.py`, `AdaptiveRetryStrategy` (bucket of 5, 10 %; more than one token is needed, and one is taken). The article
//! says that tokens are deposited on success, the simulation deposits at the start of a call: hence the choice.
//!
//! ## Deliberate differences
//! The simulation has no other bound than the bucket; here the retry policy has its attempts, too.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{Budget, Ended};
use crate::policies::Algorithm;
use crate::policies::view::Class;
use crate::time::Time;

/// Settings of `retry-budget.token-bucket`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TokenBucketSettings {
    /// Tokens at most, and at the start.
    #[serde(deserialize_with = "size")]
    pub size: f64,
    /// Tokens for a deposit.
    #[serde(deserialize_with = "fill")]
    pub fill: f64,
    /// When tokens are deposited.
    pub deposit: Deposit,
}

/// When tokens are deposited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Deposit {
    /// When a call starts.
    #[default]
    Start,
    /// When an attempt succeeds.
    Success,
}

impl Default for TokenBucketSettings {
    fn default() -> Self {
        Self { size: 5.0, fill: 0.1, deposit: Deposit::Start }
    }
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let size = f64::deserialize(deserializer)?;
    if size > 1.0 && size.is_finite() {
        Ok(size)
    } else {
        Err(de::Error::custom(format!(
            "size is {size}, but a retry needs more than one token: write more than 1"
        )))
    }
}

fn fill<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let fill = f64::deserialize(deserializer)?;
    if fill > 0.0 && fill.is_finite() {
        Ok(fill)
    } else {
        Err(de::Error::custom(format!(
            "fill is {fill}, but without deposits the bucket stays empty: write more than 0"
        )))
    }
}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    bucket_size: f64,
    bucket_fill_rate: f64,
    bucket: f64,
    deposit: Deposit,
}

impl TokenBucket {
    #[inline]
    fn fill(&mut self) {
        self.bucket = (self.bucket + self.bucket_fill_rate).min(self.bucket_size);
    }
}

impl Algorithm for TokenBucket {
    type Settings = TokenBucketSettings;

    fn new(settings: &TokenBucketSettings, _now: Time) -> Self {
        let TokenBucketSettings { size, fill, deposit } = *settings;
        Self { bucket_size: size, bucket_fill_rate: fill, bucket: size, deposit }
    }
}

impl Budget for TokenBucket {
    #[inline]
    fn deposit(&mut self, _now: Time) {
        if self.deposit == Deposit::Start {
            self.fill();
        }
    }

    #[inline]
    fn withdraw(&mut self, _now: Time, _after: Option<Class>) -> Option<u32> {
        (self.bucket > 1.0).then(|| {
            self.bucket -= 1.0;
            1
        })
    }

    #[inline]
    fn on_ended(&mut self, _now: Time, ended: &Ended) {
        if self.deposit == Deposit::Success && ended.class == Class::Success {
            self.fill();
        }
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("tokens", self.bucket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_bucket_of_five_gives_four_retries() {
        let mut budget = TokenBucket::new(&TokenBucketSettings::default(), Time::ZERO);
        let mut allowed = 0;
        while budget.withdraw(Time::ZERO, None).is_some() {
            allowed += 1;
        }
        assert_eq!(allowed, 4, "the last token stays");
        // Not one deposit more than it takes to have more than one token.
        budget.deposit(Time::ZERO);
        assert!(budget.withdraw(Time::ZERO, None).is_some());
        assert!(budget.withdraw(Time::ZERO, None).is_none());
    }

    #[test]
    fn settings_are_checked() {
        let parse = serde_json::from_str::<TokenBucketSettings>;
        for json in [r#"{"size": 1}"#, r#"{"fill": 0}"#, r#"{"deposit": "end"}"#] {
            assert!(parse(json).is_err(), "{json}");
        }
    }
}
