//! Picks uniformly at random, knowing nothing.
//!
//! ## What it does
//! Every pick draws one of the eligible endpoints, each with the same probability, whatever was picked before.
//!
//! ## When it helps
//! Many small clients that share no state, and as the baseline that any cleverer balancer has to beat. It needs no
//! memory and never herds: independent clients stay independent.
//!
//! ## How it fails
//! Random is uneven. With n requests on n instances the fullest holds about ln n / ln ln n of them, so the tail of the
//! latency is worse than under round robin at the same load, and far worse than under `p2c`. It keeps sending to a slow
//! instance its full share.
//!
//! ## Settings
//! None: `balancer.random = {}`.
//!
//! ## Origin
//! The textbook rule; Envoy (`RandomLoadBalancer::peekOrChoose`, `random_lb.cc`) and most client libraries ship it.
//!
//! ## Deliberate differences
//! Envoy reduces a 64-bit draw modulo n; here 32 bits are scaled to n by a multiplication, whose bias is below n / 2^32.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Balancer, Needs};
use crate::policies::Algorithm;
use crate::policies::view::{Endpoints, RequestHead, Slot};
use crate::random::Rng;
use crate::time::Time;

/// `balancer.random` takes no settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RandomSettings {}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Random;

impl Algorithm for Random {
    type Settings = RandomSettings;

    fn new(_settings: &RandomSettings, _now: Time) -> Self {
        Self
    }
}

impl Balancer for Random {
    #[inline]
    fn pick(
        &mut self,
        _now: Time,
        _request: &RequestHead,
        endpoints: &Endpoints,
        rng: &mut Rng,
    ) -> Option<Slot> {
        match endpoints.eligible.len() {
            0 => None,
            n => Some(endpoints.eligible[rng.index(n as u32) as usize]),
        }
    }

    fn needs(&self) -> Needs {
        Needs::NOTHING
    }
}
