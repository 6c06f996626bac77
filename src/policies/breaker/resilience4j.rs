//! Resilience4j's breaker: failure rate and slow-call rate over the last calls or seconds, and a few permits to try again.
//!
//! ## What it does
//! Closed, every outcome enters the window: the last `sliding-window-size` calls, or so many whole seconds of the clock,
//! the current one included. With at least `minimum-number-of-calls` in it, it opens when the share of failures or of slow
//! calls reaches its threshold; successes are checked as well. It refuses until strictly more than the wait has passed
//! (exactly then, if the transition is automatic), then gives out `permitted-number-of-calls-in-half-open-state` permits
//! and decides by an own window of that size. A reopening waits longer if a multiplier is set.
//!
//! ## When it helps
//! Dependencies that become slow before they fail; the slow-call rate trips without any timeout.
//!
//! ## How it fails
//! Outcomes carry no generation: late results of calls from before the opening count as half-open results and close or
//! reopen it. The permits of half-open come back only as outcomes: while a slow dependency holds them all, everything else
//! is refused, for ever if `max-wait-duration-in-half-open-state` is not set. A window of N seconds covers between N - 1
//! and N.
//!
//! ## Settings
//! * `sliding-window-type` (default `count-based`; `time-based`), `sliding-window-size` (default 100 calls or seconds).
//! * `minimum-number-of-calls` (default 100): for count windows cut to the size, and in half-open to the permits.
//! * `failure-rate-threshold` (default `50%`), `slow-call-rate-threshold` (default `100%`),
//!   `slow-call-duration-threshold` (default `60s`; slow is longer).
//! * `wait-duration-in-open-state` (default `60s`), `exponential-backoff-multiplier` (default 1: constant),
//!   `exponential-max-wait-duration-in-open-state` (default none). The waits are whole milliseconds, cut at each step.
//! * `permitted-number-of-calls-in-half-open-state` (default 10).
//! * `max-wait-duration-in-half-open-state` (default `0s`: for ever), then to
//!   `transition-to-state-after-wait-duration` (default `open`; `closed`).
//! * `automatic-transition-from-open-to-half-open-enabled` (default false).
//!
//! ## Origin
//! resilience4j-circuitbreaker 2.4.0 (`CircuitBreakerStateMachine`, `CircuitBreakerMetrics`), synchronized windows, pinned
//! by `tests/vectors/breaker/resilience4j.json`. Rates are single-precision percentages there and here.
//!
//! ## Deliberate differences
//! * Timers run at the next call after they are due, as if they had run in time.
//! * An abandoned call gives its permit back, as `releasePermission` does.
//! * Its lock-free time window reads the system clock whatever clock it is given; here it is the synchronized one. Its
//!   lock-free window of one call throws; here it works.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Breaker, BreakerState};
use crate::policies::Algorithm;
use crate::policies::view::{Admit, Outcome, Permit};
use crate::time::{Duration, Time};
use crate::units::Share;

/// Settings of `breaker.resilience4j`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct Resilience4jSettings(Written);

/// What the window holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum WindowType {
    /// The last calls.
    CountBased,
    /// The calls of the last seconds.
    TimeBased,
}

/// Where to after too long in half-open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Target {
    /// Open again, with the next wait.
    Open,
    /// Closed, with an empty window.
    Closed,
}

/// The settings before they are checked against each other.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "Resilience4jSettings")]
struct Written {
    /// What the window holds.
    sliding_window_type: WindowType,
    /// Calls or seconds in the window.
    sliding_window_size: NonZeroU32,
    /// Calls below which there is no rate.
    minimum_number_of_calls: NonZeroU32,
    /// Share of failures that opens.
    failure_rate_threshold: Share,
    /// Share of slow calls that opens.
    slow_call_rate_threshold: Share,
    /// A call that took longer is slow.
    slow_call_duration_threshold: Duration,
    /// How long it stays open at first.
    wait_duration_in_open_state: Duration,
    /// Each reopening multiplies the wait by this.
    exponential_backoff_multiplier: f64,
    /// The longest wait.
    exponential_max_wait_duration_in_open_state: Option<Duration>,
    /// Permits of half-open.
    permitted_number_of_calls_in_half_open_state: NonZeroU32,
    /// Longest stay in half-open; zero: for ever.
    max_wait_duration_in_half_open_state: Duration,
    /// Where to after that.
    transition_to_state_after_wait_duration: Target,
    /// Whether half-open begins by itself.
    automatic_transition_from_open_to_half_open_enabled: bool,
}

impl Default for Written {
    fn default() -> Self {
        let hundred = NonZeroU32::MIN.saturating_add(99);
        Self {
            sliding_window_type: WindowType::CountBased,
            sliding_window_size: hundred,
            minimum_number_of_calls: hundred,
            failure_rate_threshold: Share(0.5),
            slow_call_rate_threshold: Share(1.0),
            slow_call_duration_threshold: Duration::from_secs(60),
            wait_duration_in_open_state: Duration::from_secs(60),
            exponential_backoff_multiplier: 1.0,
            exponential_max_wait_duration_in_open_state: None,
            permitted_number_of_calls_in_half_open_state: NonZeroU32::MIN.saturating_add(9),
            max_wait_duration_in_half_open_state: Duration::ZERO,
            transition_to_state_after_wait_duration: Target::Open,
            automatic_transition_from_open_to_half_open_enabled: false,
        }
    }
}

/// Largest window and most permits.
const SIZE_MAX: u32 = 1_000_000;

impl TryFrom<Written> for Resilience4jSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let millisecond = Duration::from_millis(1);
        if written.failure_rate_threshold.0 == 0.0 {
            return Err("failure-rate-threshold must be greater than 0%".to_owned());
        }
        if written.slow_call_rate_threshold.0 == 0.0 {
            return Err("slow-call-rate-threshold must be greater than 0%".to_owned());
        }
        if written.slow_call_duration_threshold == Duration::ZERO {
            return Err("slow-call-duration-threshold must be greater than zero".to_owned());
        }
        if written.wait_duration_in_open_state < millisecond {
            return Err("wait-duration-in-open-state must be at least 1ms".to_owned());
        }
        // Not `<`: a NaN is refused, too.
        if !(1.0..=1e6).contains(&written.exponential_backoff_multiplier) {
            return Err("exponential-backoff-multiplier must lie between 1 and 1e6".to_owned());
        }
        if written.exponential_max_wait_duration_in_open_state.is_some_and(|most| most < millisecond) {
            return Err("exponential-max-wait-duration-in-open-state must be at least 1ms".to_owned());
        }
        let (size, permits) =
            (written.sliding_window_size, written.permitted_number_of_calls_in_half_open_state);
        if size.max(permits).get() > SIZE_MAX {
            return Err(format!(
                "sliding-window-size and permitted-number-of-calls-in-half-open-state are at most {SIZE_MAX}"
            ));
        }
        Ok(Self(written))
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Resilience4j(Box<Machine>);

#[derive(Clone, Debug)]
struct Machine {
    settings: Written,
    state: BreakerState,
    /// The present or last wait in the open state, in whole milliseconds; `None` before the first.
    wait: Option<Duration>,
    /// Open: until when it refuses. Half-open: when it has lasted too long ([`Time::MAX`]: never).
    until: Time,
    /// Left in half-open.
    permits: u32,
    /// Refused since the window is in use.
    refused: u64,
    window: Window,
}

/// Outcomes of the last calls or seconds. The one that led to opening stays in use until half-open.
#[derive(Clone, Debug)]
struct Window {
    /// Whether it holds seconds (and not calls).
    timed: bool,
    /// Calls or seconds held; the first so many of `calls` are in use.
    size: u32,
    minimum: u32,
    sum: Bucket,
    /// Calls: where the next one goes. Seconds: the newest.
    at: u64,
    calls: Box<[Call]>,
    seconds: Box<[Bucket]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Call {
    failed: bool,
    slow: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    calls: u32,
    failed: u32,
    slow: u32,
}

impl Bucket {
    fn add(&mut self, Call { failed, slow }: Call) {
        self.calls += 1;
        self.failed += u32::from(failed);
        self.slow += u32::from(slow);
    }

    fn subtract(&mut self, other: Self) {
        self.calls -= other.calls;
        self.failed -= other.failed;
        self.slow -= other.slow;
    }

    /// Percentages of failures and slow calls.
    fn rates(self) -> (f32, f32) {
        let share = |part: u32| if self.calls == 0 { 0.0 } else { part as f32 * 100.0 / self.calls as f32 };
        (share(self.failed), share(self.slow))
    }
}

impl Window {
    fn restart(&mut self, timed: bool, size: u32, minimum: u32, now: Time) {
        (self.timed, self.size, self.minimum) = (timed, size, minimum);
        self.sum = Bucket::default();
        if timed {
            self.at = now.as_secs();
            self.seconds.fill(Bucket::default());
        } else {
            self.at = 0;
        }
    }

    /// The sum without the seconds that have left the window by `now`.
    fn sum_at(&self, now: Time) -> Bucket {
        let mut sum = self.sum;
        if self.timed {
            let size = u64::from(self.size);
            for gone in 1..=(now.as_secs() - self.at).min(size) {
                sum.subtract(self.seconds[((self.at + gone) % size) as usize]);
            }
        }
        sum
    }

    fn record(&mut self, now: Time, call: Call) {
        if self.timed {
            let (size, second) = (u64::from(self.size), now.as_secs());
            for gone in 1..=(second - self.at).min(size) {
                let left = std::mem::take(&mut self.seconds[((self.at + gone) % size) as usize]);
                self.sum.subtract(left);
            }
            self.at = second;
            self.seconds[(second % size) as usize].add(call);
        } else {
            let Self { at, size, .. } = *self;
            let old = std::mem::replace(&mut self.calls[at as usize], call);
            if self.sum.calls == size {
                self.sum.subtract(Bucket { calls: 1, failed: old.failed.into(), slow: old.slow.into() });
            }
            self.at = (at + 1) % u64::from(size);
        }
        self.sum.add(call);
    }
}

impl Algorithm for Resilience4j {
    type Settings = Resilience4jSettings;

    fn new(&Resilience4jSettings(settings): &Resilience4jSettings, now: Time) -> Self {
        let (size, permits) =
            (settings.sliding_window_size.get(), settings.permitted_number_of_calls_in_half_open_state.get());
        let (calls, seconds) = match settings.sliding_window_type {
            WindowType::CountBased => (size.max(permits), 0),
            WindowType::TimeBased => (permits, size),
        };
        let mut machine = Machine {
            settings,
            state: BreakerState::Closed,
            wait: None,
            until: Time::MAX,
            permits: 0,
            refused: 0,
            window: Window {
                timed: false,
                size,
                minimum: 0,
                sum: Bucket::default(),
                at: 0,
                calls: vec![Call::default(); calls as usize].into_boxed_slice(),
                seconds: vec![Bucket::default(); seconds as usize].into_boxed_slice(),
            },
        };
        machine.close(now);
        Self(Box::new(machine))
    }
}

impl Machine {
    /// Calls below which there is no rate while closed.
    fn minimum(&self) -> u32 {
        let minimum = self.settings.minimum_number_of_calls.get();
        match self.settings.sliding_window_type {
            WindowType::CountBased => minimum.min(self.settings.sliding_window_size.get()),
            WindowType::TimeBased => minimum,
        }
    }

    fn close(&mut self, now: Time) {
        (self.state, self.wait, self.until, self.refused) = (BreakerState::Closed, None, Time::MAX, 0);
        let timed = self.settings.sliding_window_type == WindowType::TimeBased;
        let minimum = self.minimum();
        self.window.restart(timed, self.settings.sliding_window_size.get(), minimum, now);
    }

    fn next_wait(&self) -> Duration {
        let most = self.settings.exponential_max_wait_duration_in_open_state.unwrap_or(Duration::MAX);
        let wait = match self.wait {
            None => self.settings.wait_duration_in_open_state.as_millis(),
            Some(wait) => (wait.as_millis() as f64 * self.settings.exponential_backoff_multiplier) as u64,
        };
        Duration(wait.saturating_mul(1_000_000)).min(Duration::from_millis(most.as_millis()))
    }

    fn open(&mut self, now: Time) {
        let wait = self.next_wait();
        (self.state, self.wait, self.until) = (BreakerState::Open, Some(wait), now + wait);
    }

    fn half_open(&mut self, now: Time) {
        let (most, permits) = (
            self.settings.max_wait_duration_in_half_open_state,
            self.settings.permitted_number_of_calls_in_half_open_state.get(),
        );
        (self.state, self.permits, self.refused) = (BreakerState::HalfOpen, permits, 0);
        self.until = if most == Duration::ZERO { Time::MAX } else { now + most };
        let minimum = self.minimum().min(permits);
        self.window.restart(false, permits, minimum, now);
    }

    /// Runs the timers that are due.
    fn settle(&mut self, now: Time) {
        while self.until <= now {
            let due = self.until;
            match self.state {
                BreakerState::Open if self.settings.automatic_transition_from_open_to_half_open_enabled => {
                    let stay = self.settings.max_wait_duration_in_half_open_state;
                    if stay != Duration::ZERO && Some(self.next_wait()) == self.wait {
                        // It goes to and fro while nobody calls: whole rounds change nothing.
                        let round = self.next_wait() + stay;
                        let rounds = (now - due).0 / round.0;
                        if self.settings.transition_to_state_after_wait_duration == Target::Open && rounds > 1
                        {
                            self.until = due + round * (rounds - 1);
                            self.half_open(self.until);
                            continue;
                        }
                    }
                    self.half_open(due);
                }
                BreakerState::HalfOpen => match self.settings.transition_to_state_after_wait_duration {
                    Target::Open => self.open(due),
                    Target::Closed => self.close(due),
                },
                BreakerState::Open | BreakerState::Closed => return,
            }
        }
    }

    /// From when it would admit again if nothing else happens.
    fn admits_from(&self) -> Option<Time> {
        let opened = |until: Time| {
            let strictly = !self.settings.automatic_transition_from_open_to_half_open_enabled;
            Some(until + Duration(u64::from(strictly)))
        };
        match (self.state, self.settings.transition_to_state_after_wait_duration) {
            (BreakerState::Open, _) => opened(self.until),
            (BreakerState::HalfOpen, _) if self.until == Time::MAX => None,
            (BreakerState::HalfOpen, Target::Open) => opened(self.until + self.next_wait()),
            (BreakerState::HalfOpen, Target::Closed) => Some(self.until),
            (BreakerState::Closed, _) => None,
        }
    }
}

impl Breaker for Resilience4j {
    #[inline]
    fn try_acquire(&mut self, now: Time) -> Admit {
        let machine = &mut *self.0;
        machine.settle(now);
        if machine.state == BreakerState::Open && now > machine.until {
            machine.half_open(now);
        }
        match machine.state {
            BreakerState::Closed => {}
            BreakerState::HalfOpen if machine.permits > 0 => machine.permits -= 1,
            BreakerState::Open | BreakerState::HalfOpen => {
                machine.refused += 1;
                return Admit::Reject { until: machine.admits_from() };
            }
        }
        Admit::Now(Permit { generation: 0, slot: 0, start: now })
    }

    #[inline]
    fn on_outcome(&mut self, now: Time, _permit: Permit, outcome: &Outcome) {
        let machine = &mut *self.0;
        machine.settle(now);
        if outcome.is_unwanted() {
            // Whoever held the permit: a late one raises the number above the limit.
            machine.permits += u32::from(machine.state == BreakerState::HalfOpen);
            return;
        }
        let slow = outcome.latency > machine.settings.slow_call_duration_threshold;
        machine.window.record(now, Call { failed: outcome.is_error(), slow });
        let sum = machine.window.sum;
        if machine.state == BreakerState::Open || sum.calls < machine.window.minimum {
            return;
        }
        let (failed, slow) = sum.rates();
        let percent = |share: Share| (share.0 * 100.0) as f32;
        if failed >= percent(machine.settings.failure_rate_threshold)
            || slow >= percent(machine.settings.slow_call_rate_threshold)
        {
            machine.open(now);
        } else if machine.state == BreakerState::HalfOpen {
            machine.close(now);
        }
    }

    fn poll(&mut self, now: Time) {
        self.0.settle(now);
    }

    #[inline]
    fn state(&self, _now: Time) -> BreakerState {
        self.0.state
    }

    fn gauges(&self, now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        let sum = self.0.window.sum_at(now);
        show("calls", f64::from(sum.calls));
        show("failed", f64::from(sum.failed));
        show("slow", f64::from(sum.slow));
        show("not_permitted", self.0.refused as f64);
        let rates =
            if sum.calls == 0 || sum.calls < self.0.window.minimum { (-1.0, -1.0) } else { sum.rates() };
        show("failure_rate", f64::from(rates.0));
        show("slow_call_rate", f64::from(rates.1));
    }
}
