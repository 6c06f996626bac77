//! Admits a bounded number of calls at the same time and refuses the rest.
//!
//! ## What it does
//! A counter of calls in flight: a call passes while there is room below `max-concurrent` and gives its place back when it
//! ends, however it ends. With a `max-wait`, a call that finds no room waits for it behind those that came before; it is
//! refused when its wait is over.
//!
//! ## When it helps
//! At a caller, a slow dependency may hold at most so many of its workers, so that the other endpoints go on working. At
//! a callee, it bounds what is queued and in service, and thus the waiting time.
//!
//! ## How it fails
//! The number is fixed: right for one latency and one number of instances. If the dependency becomes ten times slower,
//! the same limit admits a tenth of the throughput; if it scales out, the limit holds it back. Fast failures pass freely.
//! Whoever waits holds its caller's worker all the while: a long `max-wait` moves the queue to where it hurts more.
//!
//! ## Settings
//! * `max-concurrent` (default 25): calls in flight.
//! * `max-wait` (default `0s`): how long a call may wait for a place. Only on the calling side; an instance has its queue.
//!
//! ## Origin
//! resilience4j v2.4.0, `resilience4j-bulkhead`, `internal/SemaphoreBulkhead.java` (`tryAcquirePermission`, `onComplete`);
//! defaults of `BulkheadConfig`.
//!
//! ## Deliberate differences
//! * A call of cost n takes n places (upstream: one per call). The limit cannot be changed while running.
//! * A call whose caller has stopped waiting for it keeps its place in the line, as a blocked thread does, and gives the
//!   permit back unused when its turn comes.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Limiter, WaitingRoom};
use crate::policies::Algorithm;
use crate::policies::view::{Admit, Outcome, Permit};
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `limiter.bulkhead`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BulkheadSettings {
    /// Calls in flight.
    pub max_concurrent: u32,
    /// How long a call may wait for a place.
    pub max_wait: Duration,
}

checked!(BulkheadSettings);

impl BulkheadSettings {
    fn check(&self) -> Result<(), String> {
        if self.max_concurrent == 0 && self.max_wait > Duration::ZERO {
            return Err(format!(
                "with max-concurrent = 0 no place is ever free to wait {} for",
                self.max_wait
            ));
        }
        Ok(())
    }
}

impl Default for BulkheadSettings {
    fn default() -> Self {
        Self { max_concurrent: 25, max_wait: Duration::ZERO }
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Bulkhead {
    max_concurrent: u32,
    max_wait: Duration,
    in_flight: u32,
}

impl Algorithm for Bulkhead {
    type Settings = BulkheadSettings;

    fn new(settings: &BulkheadSettings, _now: Time) -> Self {
        Self { max_concurrent: settings.max_concurrent, max_wait: settings.max_wait, in_flight: 0 }
    }
}

impl Limiter for Bulkhead {
    #[inline]
    fn try_acquire(&mut self, now: Time, cost: u32, _max_wait: Duration, _rng: &mut Rng) -> Admit {
        if cost > self.max_concurrent - self.in_flight {
            // When a call ends is not ours to know.
            return Admit::Reject { until: None };
        }
        self.in_flight += cost;
        Admit::Now(Permit { generation: 0, slot: cost, start: now })
    }

    #[inline]
    fn on_outcome(&mut self, _now: Time, permit: Permit, _outcome: &Outcome, _rng: &mut Rng) {
        debug_assert!(permit.slot <= self.in_flight, "a permit came back twice");
        self.in_flight -= permit.slot;
    }

    fn waiting_room(&self) -> Option<WaitingRoom> {
        // Upstream's fair semaphore keeps a line of any length.
        let room = WaitingRoom { places: u32::MAX, max_wait: self.max_wait, newest_first: false };
        (self.max_wait > Duration::ZERO).then_some(room)
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("in_flight", f64::from(self.in_flight));
        show("limit", f64::from(self.max_concurrent));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::view::Class;
    use crate::random::Key;

    fn rng() -> Rng {
        Key::new(0).rng()
    }

    #[test]
    fn every_ending_gives_the_place_back() {
        let settings = BulkheadSettings { max_concurrent: 2, ..Default::default() };
        let mut bulkhead = Bulkhead::new(&settings, Time::ZERO);
        for class in [Class::Success, Class::Failure, Class::Timeout, Class::Rejected, Class::Abandoned] {
            let Admit::Now(permit) = bulkhead.try_acquire(Time::ZERO, 2, Duration::ZERO, &mut rng()) else {
                panic!()
            };
            assert_eq!(
                bulkhead.try_acquire(Time::ZERO, 1, Duration::MAX, &mut rng()),
                Admit::Reject { until: None }
            );
            bulkhead.on_outcome(
                Time::ZERO,
                permit,
                &Outcome { ignored: true, ..Outcome::new(class, Duration::ZERO) },
                &mut rng(),
            );
        }
    }

    #[test]
    fn by_default_nobody_waits() {
        let parse = |text| serde_json::from_str::<BulkheadSettings>(text).unwrap();
        let room = |text| Bulkhead::new(&parse(text), Time::ZERO).waiting_room();
        assert_eq!(parse("{}"), parse(r#"{"max-concurrent": 25, "max-wait": "0s"}"#));
        assert_eq!(room("{}"), None);
        let max_wait = Duration::from_millis(10);
        assert_eq!(
            room(r#"{"max-wait": "10ms"}"#),
            Some(WaitingRoom { places: u32::MAX, max_wait, newest_first: false })
        );
    }
}
