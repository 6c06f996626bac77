//! What makes a limiter of an estimator of the limit: it counts what is in flight (upstream's `SimpleLimiter`).
//!
//! Netflix/concurrency-limits 78a74b98, `limiter/SimpleLimiter.java` and `AbstractLimiter.java`: work passes as long as less than
//! the limit is in flight. When work ends well its duration becomes a sample, together with what was in flight when it
//! began (itself included). Dropped work (a timeout, a refusal by the callee) is a sample marked as such. What else went
//! wrong is ignored, as upstream's gRPC interceptor does: it says nothing of the duration. A limit that shrinks takes
//! nothing back.

use super::Limiter;
use crate::policies::Algorithm;
use crate::policies::view::{Admit, Class, Outcome, Permit};
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Estimates from samples how much work may be in flight.
pub trait Estimator: Algorithm {
    /// Work begun at `start` took `rtt` (more than zero); `in_flight` was in flight when it began, itself included. Starts may
    /// come in any order.
    fn on_sample(&mut self, start: Time, rtt: Duration, in_flight: u32, dropped: bool, rng: &mut Rng);

    /// The limit at present, at least 1.
    fn limit(&self) -> u32;

    /// The limit before it is cut to a whole number.
    fn estimated(&self) -> f64 {
        f64::from(self.limit())
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Simple<E> {
    estimator: E,
    in_flight: u32,
}

impl<E: Estimator> Algorithm for Simple<E> {
    type Settings = E::Settings;

    fn new(settings: &E::Settings, now: Time) -> Self {
        Self { estimator: E::new(settings, now), in_flight: 0 }
    }
}

impl<E: Estimator> Limiter for Simple<E> {
    #[inline]
    fn try_acquire(&mut self, now: Time, cost: u32, _max_wait: Duration, _rng: &mut Rng) -> Admit {
        match self.in_flight.checked_add(cost) {
            Some(in_flight) if in_flight <= self.estimator.limit() => {
                self.in_flight = in_flight;
                Admit::Now(Permit { generation: in_flight, slot: cost, start: now })
            }
            _ => Admit::Reject { until: None },
        }
    }

    #[inline]
    fn on_outcome(&mut self, now: Time, permit: Permit, outcome: &Outcome, rng: &mut Rng) {
        debug_assert!(permit.slot <= self.in_flight, "a permit came back twice");
        self.in_flight -= permit.slot;
        let dropped = match outcome.class {
            Class::Success => false,
            Class::Timeout | Class::Rejected => true,
            Class::Failure | Class::Abandoned => return,
        };
        if !outcome.ignored {
            // Upstream throws at a duration of zero, which no real clock shows.
            let rtt = (now - permit.start).max(Duration(1));
            self.estimator.on_sample(permit.start, rtt, permit.generation, dropped, rng);
        }
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("in_flight", f64::from(self.in_flight));
        show("limit", f64::from(self.estimator.limit()));
    }
}
