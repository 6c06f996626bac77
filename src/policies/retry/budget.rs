//! Retry budgets: bound the retries (and hedges) of all calls of one client on one edge.

pub mod aws_sdk;
pub mod envoy;
pub mod failure_ratio;
pub mod finagle;
pub mod grpc;
pub mod token_bucket;
pub mod tower;

use crate::policies::view::Class;
use crate::time::Time;

/// Bounds retries over all calls of one client on one edge.
pub trait Budget {
    /// A call begins.
    fn deposit(&mut self, now: Time);

    /// May one more attempt be made of a call? `after` is how the attempt ended that it follows; `None` for a hedge, which
    /// follows none. The answer is what it costs, which comes back with its [`Ended`].
    fn withdraw(&mut self, now: Time, after: Option<Class>) -> Option<u32>;

    /// An attempt goes out.
    #[inline]
    fn on_sent(&mut self, _now: Time) {}

    /// An attempt is over, before anybody asks whether another one may follow.
    #[inline]
    fn on_ended(&mut self, _now: Time, _ended: &Ended) {}

    /// What charts show: named readings at `now` (balance).
    fn gauges(&self, _now: Time, _show: &mut dyn FnMut(&'static str, f64)) {}
}

/// How an attempt ended, for budgets that look at more than calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub class: Class,
    /// It was sent; otherwise a breaker or limiter refused it, or it was given up before its turn came.
    pub sent: bool,
    /// What was withdrawn for it; `None` for the first attempt of a call.
    pub withdrawn: Option<u32>,
    /// The retry (or hedging) policy would go on after an ending like this.
    pub retryable: bool,
}

registry! {
    ($)
    /// A retry budget and its settings, as written in a scenario.
    BudgetSettings,
    /// Any retry budget, by value.
    AnyBudget: Budget,
    family "retry-budget" in "budget",
    "tower" => tower::Tower,
    "finagle" => finagle::Finagle,
    "envoy" => envoy::Envoy,
    "grpc" => grpc::Grpc,
    "token-bucket" => token_bucket::TokenBucket,
    "aws-sdk" => aws_sdk::AwsSdk,
    "failure-ratio" => failure_ratio::FailureRatio,
}

const _: () = assert!(size_of::<AnyBudget>() <= 40);

impl Budget for AnyBudget {
    #[inline]
    fn deposit(&mut self, now: Time) {
        dispatch!(self, policy => policy.deposit(now));
    }

    #[inline]
    fn withdraw(&mut self, now: Time, after: Option<Class>) -> Option<u32> {
        dispatch!(self, policy => policy.withdraw(now, after))
    }

    #[inline]
    fn on_sent(&mut self, now: Time) {
        dispatch!(self, policy => policy.on_sent(now));
    }

    #[inline]
    fn on_ended(&mut self, now: Time, ended: &Ended) {
        dispatch!(self, policy => policy.on_ended(now, ended));
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        dispatch!(self, policy => policy.gauges(now, show));
    }
}
