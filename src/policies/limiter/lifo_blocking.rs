//! Makes calls wait for a concurrency limiter, the newest first, instead of refusing them at once.
//!
//! ## What it does
//! The `delegate` decides. A call that it refuses joins the backlog, unless `backlog-size` wait already, and is refused after
//! `backlog-timeout`. Each time a call ends, the newest one of the backlog asks the delegate again. A call that comes
//! meanwhile asks the delegate first, and may overtake all that wait.
//!
//! ## When it helps
//! Callers that can wait a little: a short burst passes late instead of failing. Newest first, those that are served have waited
//! hardly at all while the others run into their timeout, so most answers stay quick in overload.
//!
//! ## How it fails
//! It favours availability over latency, and holds a worker of the caller for each call that waits. In lasting overload the oldest
//! wait for the whole timeout only to be refused. A limit that grows lets in only one for each call that ends.
//!
//! ## Settings
//! * `delegate` (default `{ gradient2 = {} }`): `bulkhead`, `aimd`, `vegas`, `gradient`, `gradient2`, `windowed` or `partitioned` with its
//!   settings.
//! * `backlog-size` (default 100): how many may wait.
//! * `backlog-timeout` (default `1s`): how long.
//!
//! ## Origin
//! Netflix/concurrency-limits 78a74b98 (v0.5.4+4), `limiter/LifoBlockingLimiter.java` (`tryAcquire`, `unblock`), read, not run.
//! Upstream has no default delegate.
//!
//! ## Deliberate differences
//! Only on the calling side; an instance has its queue.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{AnyLimiter, Limiter, LimiterSettings, WaitingRoom, bounds};
use crate::policies::Algorithm;
use crate::policies::view::{Admit, Outcome, Permit};
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `limiter.lifo-blocking`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LifoBlockingSettings {
    /// Who decides.
    pub delegate: Box<LimiterSettings>,
    /// How many may wait.
    pub backlog_size: NonZeroU32,
    /// How long a call may wait.
    #[serde(deserialize_with = "bounds::positive")]
    pub backlog_timeout: Duration,
}

checked!(LifoBlockingSettings);

impl Default for LifoBlockingSettings {
    fn default() -> Self {
        Self {
            delegate: Box::new(LimiterSettings::Gradient2(super::gradient2::Gradient2Settings::default())),
            backlog_size: bounds::count(100),
            backlog_timeout: Duration::from_secs(1),
        }
    }
}

impl LifoBlockingSettings {
    fn check(&self) -> Result<(), String> {
        match &*self.delegate {
            LimiterSettings::Bulkhead(bulkhead) if bulkhead.max_wait > Duration::ZERO => {
                Err("the waiting is done here: leave max-wait of the bulkhead out".to_owned())
            }
            LimiterSettings::Bulkhead(_)
            | LimiterSettings::Aimd(_)
            | LimiterSettings::Vegas(_)
            | LimiterSettings::Gradient(_)
            | LimiterSettings::Gradient2(_)
            | LimiterSettings::Windowed(_)
            | LimiterSettings::Partitioned(_) => Ok(()),
            other => Err(format!(
                "a delegate limits what is in flight (bulkhead, aimd, vegas, gradient, gradient2, windowed or partitioned), which \
                 `{}` does not",
                other.name()
            )),
        }
    }
}

/// See the module documentation.
pub struct LifoBlocking {
    delegate: Box<AnyLimiter>,
    room: WaitingRoom,
}

impl Algorithm for LifoBlocking {
    type Settings = LifoBlockingSettings;

    fn new(settings: &LifoBlockingSettings, now: Time) -> Self {
        let room = WaitingRoom {
            places: settings.backlog_size.get(),
            max_wait: settings.backlog_timeout,
            newest_first: true,
        };
        Self { delegate: Box::new(settings.delegate.build(now)), room }
    }
}

impl Limiter for LifoBlocking {
    fn try_acquire(&mut self, now: Time, cost: u32, max_wait: Duration, rng: &mut Rng) -> Admit {
        self.delegate.try_acquire(now, cost, max_wait, rng)
    }

    fn try_acquire_of(
        &mut self,
        now: Time,
        priority: u8,
        cost: u32,
        max_wait: Duration,
        rng: &mut Rng,
    ) -> Admit {
        self.delegate.try_acquire_of(now, priority, cost, max_wait, rng)
    }

    fn on_outcome(&mut self, now: Time, permit: Permit, outcome: &Outcome, rng: &mut Rng) {
        self.delegate.on_outcome(now, permit, outcome, rng);
    }

    fn waiting_room(&self) -> Option<WaitingRoom> {
        Some(self.room)
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        self.delegate.gauges(now, show);
    }
}
