//! Drops work that has waited long, once even the luckiest of an interval has waited too long (controlled delay).
//!
//! ## What it does
//! Over each `interval` it keeps the shortest wait. If that is above `target-delay`, the queue never ran empty: the next interval
//! counts as overloaded, and in it everything that has waited more than twice the target is dropped. The first work after the
//! end of an interval is never dropped.
//!
//! ## When it helps
//! Servers with a queue: a burst that drains may wait, a queue that stands is cut back to what can still be served in time.
//!
//! ## How it fails
//! It acts when the turn comes, so dropped work has held a place in the queue for its whole wait. With a target below what one
//! request takes, a busy server is always overloaded. It learns nothing while nothing comes.
//!
//! ## Settings
//! * `interval` (default `100ms`): how long the shortest wait is kept.
//! * `target-delay` (default `5ms`): shortest wait that is still fine.
//!
//! ## Origin
//! facebook/folly, `folly/executors/Codel.cpp` at 1ad98e21 (`overloaded`, `getLoad`): the form for servers, without the
//! square-root law of the packet queue.
//!
//! ## Deliberate differences
//! None in the decisions. With `order = "adaptive-lifo"` it is what Facebook describes as `CoDel` with adaptive LIFO.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{Shedding, Turn};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `shedding.codel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CodelSettings {
    /// How long the shortest wait is kept.
    #[serde(deserialize_with = "positive")]
    pub interval: Duration,
    /// Shortest wait that is still fine.
    #[serde(deserialize_with = "positive")]
    pub target_delay: Duration,
}

impl Default for CodelSettings {
    fn default() -> Self {
        Self { interval: Duration::from_millis(100), target_delay: Duration::from_millis(5) }
    }
}

fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let time = Duration::deserialize(deserializer)?;
    if time > Duration::ZERO { Ok(time) } else { Err(de::Error::custom("it must be more than zero")) }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Codel {
    interval: Duration,
    target: Duration,
    /// When the present interval ends.
    end: Time,
    /// Shortest wait of the present interval.
    shortest: Duration,
    /// The next wait is the first of its interval.
    fresh: bool,
    overloaded: bool,
}

impl Algorithm for Codel {
    type Settings = CodelSettings;

    fn new(settings: &CodelSettings, now: Time) -> Self {
        Self {
            interval: settings.interval,
            target: settings.target_delay,
            end: now,
            shortest: Duration::ZERO,
            fresh: true,
            overloaded: false,
        }
    }
}

impl Codel {
    /// Waits longer than this are dropped in overload.
    #[inline]
    const fn slough(&self) -> Duration {
        Duration(self.target.0.saturating_mul(2))
    }

    /// Whether the present interval counts as overloaded.
    pub(crate) const fn overloaded(&self) -> bool {
        self.overloaded
    }

    /// Shortest wait of the present interval.
    pub(crate) const fn shortest(&self) -> Duration {
        self.shortest
    }

    /// The shortest wait in percent of what is dropped, at most 100.
    pub(crate) fn load(&self) -> u64 {
        (self.shortest.0.saturating_mul(100) / self.slough().0).min(100)
    }
}

impl Shedding for Codel {
    #[inline]
    fn drops(&mut self, now: Time, turn: &Turn, _rng: &mut Rng) -> bool {
        let delay = turn.waited;
        if now > self.end && !self.fresh {
            self.fresh = true;
            self.end = Time(now.0.saturating_add(self.interval.0));
            self.overloaded = self.shortest > self.target;
        }
        if self.fresh {
            self.fresh = false;
            self.shortest = delay;
            return false;
        }
        self.shortest = self.shortest.min(delay);
        self.overloaded && delay > self.slough()
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("overloaded", f64::from(u8::from(self.overloaded)));
        show("load", self.load() as f64);
    }
}
