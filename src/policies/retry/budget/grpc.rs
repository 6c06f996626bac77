//! gRPC's retry throttling: retries stop while more than half of a bucket of tokens is gone.
//!
//! ## What it does
//! The bucket starts with `max-tokens`. Each failed attempt that the retry or hedging policy would follow takes one token (never below
//! 0), each success gives `token-ratio` back (never above `max-tokens`). Retries and hedges are allowed while there are more than
//! `max-tokens` / 2. First attempts always go out.
//!
//! ## When it helps
//! It costs nothing while failures are rarer than about `token-ratio` per success, and stops retries after a burst of
//! `max-tokens` / 2 failures, however many calls there are.
//!
//! ## How it fails
//! It is all or nothing: below the threshold not one retry is made, also of a call that would succeed at once, until successes of
//! first attempts have filled the bucket again. In a partial outage with more failures than `token-ratio` per success it stays shut.
//!
//! ## Settings
//! * `max-tokens` (default 10, above 0, at most 1000).
//! * `token-ratio` (default 0.1, above 0): tokens for a success.
//!
//! ## Origin
//! gRPC proposal A6 (grpc/proposal 1fd77201), *Throttling Retry Attempts and Hedged RPCs*; npm @grpc/grpc-js 1.14.7,
//! `src/retrying-call.ts`, `RetryThrottler`, whose floating-point sums are kept. The proposal has no defaults; these are its example.
//!
//! ## Deliberate differences
//! * The proposal counts tokens in thousandths; grpc-js does not, and so neither does this.
//! * As in the proposal, hedges after the first copy are throttled. grpc-js does not ask its throttler for them.
//! * Retries are judged when an attempt fails, as the proposal says; grpc-js asks when the back-off is over.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{Budget, Ended};
use crate::policies::Algorithm;
use crate::policies::view::Class;
use crate::time::Time;

/// Settings of `retry-budget.grpc`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct GrpcSettings {
    /// Tokens at the start, and at most.
    #[schemars(range(max = 1000.0))]
    #[serde(deserialize_with = "max_tokens")]
    pub max_tokens: f64,
    /// Tokens for a success.
    #[serde(deserialize_with = "token_ratio")]
    pub token_ratio: f64,
}

impl Default for GrpcSettings {
    fn default() -> Self {
        Self { max_tokens: 10.0, token_ratio: 0.1 }
    }
}

fn max_tokens<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let tokens = f64::deserialize(deserializer)?;
    if tokens > 0.0 && tokens <= 1000.0 {
        Ok(tokens)
    } else {
        Err(de::Error::custom(format!("max-tokens is {tokens}, but gRPC wants more than 0 and at most 1000")))
    }
}

fn token_ratio<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let ratio = f64::deserialize(deserializer)?;
    if ratio > 0.0 && ratio.is_finite() {
        Ok(ratio)
    } else {
        Err(de::Error::custom(format!("token-ratio is {ratio}, but gRPC wants a number above 0")))
    }
}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Grpc {
    max_tokens: f64,
    token_ratio: f64,
    tokens: f64,
}

impl Grpc {
    /// Tokens left.
    pub const fn tokens(&self) -> f64 {
        self.tokens
    }
}

impl Algorithm for Grpc {
    type Settings = GrpcSettings;

    fn new(settings: &GrpcSettings, _now: Time) -> Self {
        let GrpcSettings { max_tokens, token_ratio } = *settings;
        Self { max_tokens, token_ratio, tokens: max_tokens }
    }
}

impl Budget for Grpc {
    #[inline]
    fn deposit(&mut self, _now: Time) {}

    #[inline]
    fn withdraw(&mut self, _now: Time, _after: Option<Class>) -> Option<u32> {
        (self.tokens > self.max_tokens / 2.0).then_some(0)
    }

    #[inline]
    fn on_ended(&mut self, _now: Time, ended: &Ended) {
        if ended.class == Class::Success {
            self.tokens = (self.tokens + self.token_ratio).min(self.max_tokens);
        } else if ended.retryable {
            self.tokens = (self.tokens - 1.0).max(0.0);
        }
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("tokens", self.tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked() {
        let parse = serde_json::from_str::<GrpcSettings>;
        assert_eq!(parse("{}").unwrap(), GrpcSettings::default());
        for json in [r#"{"max-tokens": 0}"#, r#"{"max-tokens": 1001}"#, r#"{"token-ratio": 0}"#] {
            assert!(parse(json).is_err(), "{json}");
        }
    }
}
