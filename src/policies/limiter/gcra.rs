//! Generic cell rate algorithm: a token bucket that keeps nothing but one instant.
//!
//! ## What it does
//! It keeps the theoretical arrival time of the next cell. A request of n cells passes if it is not earlier than that time plus
//! (n - 1) cell intervals, less the tolerance of `max-burst` - 1 intervals; then the time moves on by n intervals from itself
//! or from now, whichever is later. A refusal changes nothing.
//!
//! ## When it helps
//! As a token bucket, to hold a client to a rate with bursts; its state is one number, so millions of keys are cheap.
//!
//! ## How it fails
//! As a token bucket: the rate is a guess about capacity, and each client has its own. There is no waiting: a caller that does
//! not honour the refusal's instant polls in vain.
//!
//! ## Settings
//! * `replenish-1-per` (required): time in which one cell is replenished; `"20ms"` makes 50 per second.
//! * `max-burst` (default 1): cells that may pass at once. A request for more is never admitted.
//!
//! ## Origin
//! The crate governor 0.10.4, `src/gcra.rs` (`Gcra::test_and_update`, `test_n_all_and_update`), `src/quota.rs`
//! (`Quota::with_period`, `allow_burst`).
//!
//! ## Deliberate differences
//! It never makes a caller wait (upstream's `until_ready` is a loop of the caller). Time counts from the start of the policy.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Limiter, admitted, bounds};
use crate::policies::Algorithm;
use crate::policies::view::Admit;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `limiter.gcra`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GcraSettings {
    /// Time in which one cell is replenished.
    #[serde(rename = "replenish-1-per", deserialize_with = "bounds::positive")]
    pub replenish_1_per: Duration,
    /// Cells that may pass at once.
    #[serde(default = "one")]
    pub max_burst: NonZeroU32,
}

const fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Gcra {
    interval: u64,
    burst: u32,
    start: Time,
    /// Theoretical arrival time, in nanoseconds since `start`.
    arrival: u64,
}

impl Algorithm for Gcra {
    type Settings = GcraSettings;

    fn new(settings: &GcraSettings, now: Time) -> Self {
        Self { interval: settings.replenish_1_per.0, burst: settings.max_burst.get(), start: now, arrival: 0 }
    }
}

impl Limiter for Gcra {
    #[inline]
    fn try_acquire(&mut self, now: Time, cost: u32, _max_wait: Duration, _rng: &mut Rng) -> Admit {
        if cost > self.burst {
            return Admit::Reject { until: None };
        }
        let since = (now - self.start).0;
        let cells = |n: u32| self.interval.saturating_mul(u64::from(n));
        let ahead = self.arrival.saturating_add(cells(cost.saturating_sub(1)));
        let earliest = ahead.saturating_sub(cells(self.burst - 1));
        if since < earliest {
            return Admit::Reject { until: self.start.0.checked_add(earliest).map(Time) };
        }
        self.arrival = self.arrival.max(since).saturating_add(cells(cost));
        admitted(now, Duration::ZERO)
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        // What is still to be replenished, in cells.
        let debt = self.arrival.saturating_sub((now - self.start).0) as f64 / self.interval as f64;
        show("tokens", (f64::from(self.burst) - debt).max(0.0));
        show("capacity", f64::from(self.burst));
    }
}
