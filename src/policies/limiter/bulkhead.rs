//! Admits a bounded number of calls at the same time and refuses the rest.
//!
//! ## What it does
//! A counter of calls in flight: a call passes while there is room below `max-concurrent` and gives its place back when it
//! ends, however it ends.
//!
//! ## When it helps
//! At a caller, a slow dependency may hold at most so many of its workers, so that the other endpoints go on working. At
//! a callee, it bounds what is queued and in service, and thus the waiting time.
//!
//! ## How it fails
//! The number is fixed: right for one latency and one number of instances. If the dependency becomes ten times slower,
//! the same limit admits a tenth of the throughput; if it scales out, the limit holds it back. Fast failures pass freely.
//!
//! ## Settings
//! * `max-concurrent` (default 25): calls in flight.
//! * `max-wait` (default `0s`, the only value simlab knows so far): how long a call may wait for a place.
//!
//! ## Origin
//! resilience4j v2.4.0, `resilience4j-bulkhead`, `internal/SemaphoreBulkhead.java` (`tryAcquirePermission`, `onComplete`);
//! defaults of `BulkheadConfig`.
//!
//! ## Deliberate differences
//! * A wait longer than zero is refused when the settings are read: the queue of the fair semaphore is not modelled yet.
//! * A call of cost n takes n places (upstream: one per call). The limit cannot be changed while running.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::Limiter;
use crate::policies::Algorithm;
use crate::policies::view::{Admit, Outcome, Permit};
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `limiter.bulkhead`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BulkheadSettings {
    /// Calls in flight.
    pub max_concurrent: u32,
    /// How long a call may wait for a place; only `"0s"` so far.
    #[serde(deserialize_with = "no_wait")]
    pub max_wait: Duration,
}

impl Default for BulkheadSettings {
    fn default() -> Self {
        Self { max_concurrent: 25, max_wait: Duration::ZERO }
    }
}

fn no_wait<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    match Duration::deserialize(deserializer)? {
        Duration::ZERO => Ok(Duration::ZERO),
        wait => Err(de::Error::custom(format!(
            "max-wait is {wait}, but waiting for a place in a bulkhead is not modelled yet: leave it out or write \"0s\""
        ))),
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Bulkhead {
    max_concurrent: u32,
    in_flight: u32,
}

impl Algorithm for Bulkhead {
    type Settings = BulkheadSettings;

    fn new(settings: &BulkheadSettings, _now: Time) -> Self {
        Self { max_concurrent: settings.max_concurrent, in_flight: 0 }
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
    fn waiting_is_refused_in_words() {
        let parse = serde_json::from_str::<BulkheadSettings>;
        assert_eq!(parse("{}").unwrap(), parse(r#"{"max-concurrent": 25, "max-wait": "0s"}"#).unwrap());
        let error = parse(r#"{"max-wait": "10ms"}"#).unwrap_err().to_string();
        assert!(error.starts_with("max-wait is 10ms, but waiting"), "{error}");
    }
}
