//! Netflix Hystrix: an error percentage over rolling buckets, looked at twice a second, and one probe after a sleep.
//!
//! ## What it does
//! Endings are counted in buckets of `health-snapshot-interval`. Only at the end of a bucket are the last ones (the whole
//! `rolling-window`) summed up; if it is closed, the sum has at least `request-volume-threshold` endings and the error
//! percentage, cut to a whole number, reaches `error-threshold-percentage`, it opens at that instant. Strictly more than
//! `sleep-window` later one call is let through. Its success closes and starts the buckets anew, its failure opens for
//! another sleep window.
//!
//! ## When it helps
//! Many calls per second; a decision twice a second costs nothing per call.
//!
//! ## How it fails
//! Detection lags by up to a snapshot. Results of calls from before the opening that come while it is half-open decide
//! like the probe: a slow success closes it too early, a slow failure restarts the sleep. A lost probe blocks it for ever.
//!
//! ## Settings
//! * `request-volume-threshold` (default 20), `error-threshold-percentage` (default `50%`, a whole percentage).
//! * `sleep-window` (default `5s`): constant, however often it opens.
//! * `rolling-window` (default `10s`): a whole multiple of the snapshot interval.
//! * `health-snapshot-interval` (default `500ms`): width of a bucket, and how often it decides.
//!
//! ## Origin
//! Netflix/Hystrix core 1.5.13+40 (`HystrixCircuitBreakerImpl`, `HealthCountsStream`), pinned by
//! `tests/vectors/breaker/hystrix.json`. Its clock has milliseconds.
//!
//! ## Deliberate differences
//! * Bucket ends run at the next call after they are due, as if they had run in time.
//! * A call that was ignored or abandoned marks a non-success, as `AbstractCommand` does on unsubscription and for bad
//!   requests: it is not counted, but in half-open it opens again, so that no probe is lost.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Breaker, BreakerState};
use crate::policies::Algorithm;
use crate::policies::view::{Admit, Outcome, Permit};
use crate::time::{Duration, Time};
use crate::units::Share;

/// Settings of `breaker.hystrix`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct HystrixSettings(Written);

/// The settings before they are checked against each other.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "HystrixSettings")]
struct Written {
    /// Endings in the window below which it never opens.
    request_volume_threshold: NonZeroU32,
    /// Error percentage that opens; a whole number.
    error_threshold_percentage: Share,
    /// How long it stays open before a call may probe.
    sleep_window: Duration,
    /// Span of the statistics; a whole multiple of the snapshot interval.
    rolling_window: Duration,
    /// Width of a bucket, and how often it decides.
    health_snapshot_interval: Duration,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            request_volume_threshold: NonZeroU32::MIN.saturating_add(19),
            error_threshold_percentage: Share(0.5),
            sleep_window: Duration::from_secs(5),
            rolling_window: Duration::from_secs(10),
            health_snapshot_interval: Duration::from_millis(500),
        }
    }
}

/// Most buckets in the window.
const BUCKETS_MAX: u64 = 3600;

impl TryFrom<Written> for HystrixSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { rolling_window: window, health_snapshot_interval: snapshot, .. } = written;
        if snapshot == Duration::ZERO {
            return Err("health-snapshot-interval must not be zero".to_owned());
        }
        if window == Duration::ZERO || !window.0.is_multiple_of(snapshot.0) {
            return Err(format!(
                "rolling-window = {window} is not a whole multiple of health-snapshot-interval = {snapshot}"
            ));
        }
        if window.0 / snapshot.0 > BUCKETS_MAX {
            return Err(format!(
                "rolling-window = {window} has more than {BUCKETS_MAX} buckets of {snapshot}"
            ));
        }
        let percent = written.error_threshold_percentage.0 * 100.0;
        if (percent - percent.round()).abs() > 1e-9 {
            return Err("error-threshold-percentage is a whole percentage".to_owned());
        }
        Ok(Self(written))
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Hystrix(Box<Machine>);

#[derive(Clone, Debug)]
struct Machine {
    volume: u32,
    percent: u32,
    snapshot: Duration,
    /// Milliseconds.
    sleep: u64,
    state: BreakerState,
    /// Millisecond from which on (strictly after the sleep) a call may probe; while not closed.
    probe_from: u64,
    /// End of the present bucket.
    bucket_end: Time,
    present: Bucket,
    /// The last whole buckets, by number modulo their count, and their sum: the health counts.
    buckets: Box<[Bucket]>,
    oldest: usize,
    health: Bucket,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    total: u32,
    errors: u32,
}

impl Bucket {
    /// Cut to a whole number.
    const fn percent(self) -> u32 {
        if self.total == 0 { 0 } else { (self.errors as f64 / self.total as f64 * 100.0) as u32 }
    }
}

impl Algorithm for Hystrix {
    type Settings = HystrixSettings;

    fn new(&HystrixSettings(settings): &HystrixSettings, now: Time) -> Self {
        let buckets = settings.rolling_window.0 / settings.health_snapshot_interval.0;
        Self(Box::new(Machine {
            volume: settings.request_volume_threshold.get(),
            percent: (settings.error_threshold_percentage.0 * 100.0).round() as u32,
            snapshot: settings.health_snapshot_interval,
            sleep: settings.sleep_window.as_millis(),
            state: BreakerState::Closed,
            probe_from: 0,
            bucket_end: now,
            present: Bucket::default(),
            buckets: vec![Bucket::default(); buckets as usize].into_boxed_slice(),
            oldest: 0,
            health: Bucket::default(),
        }))
    }
}

impl Machine {
    /// Ends the buckets that are over.
    fn settle(&mut self, now: Time) {
        while self.bucket_end <= now {
            let ended = std::mem::take(&mut self.present);
            let gone = std::mem::replace(&mut self.buckets[self.oldest], ended);
            self.oldest = (self.oldest + 1) % self.buckets.len();
            self.health.total = self.health.total - gone.total + ended.total;
            self.health.errors = self.health.errors - gone.errors + ended.errors;
            let end = self.bucket_end;
            self.bucket_end = end + self.snapshot;
            if self.health.total == 0 {
                // Nothing is left: further ends change nothing.
                self.bucket_end = end + self.snapshot * ((now - end).0 / self.snapshot.0 + 1);
            } else if self.state == BreakerState::Closed
                && self.health.total >= self.volume
                && self.health.percent() >= self.percent
            {
                self.open(end);
            }
            if end == Time::MAX {
                return;
            }
        }
    }

    fn open(&mut self, at: Time) {
        self.state = BreakerState::Open;
        self.probe_from = at.as_millis().saturating_add(self.sleep).saturating_add(1);
    }

    fn close(&mut self, now: Time) {
        self.state = BreakerState::Closed;
        self.present = Bucket::default();
        self.health = Bucket::default();
        self.buckets.fill(Bucket::default());
        // The new stream ends its first bucket at once, with the probe in it.
        self.bucket_end = now;
    }
}

impl Breaker for Hystrix {
    #[inline]
    fn try_acquire(&mut self, now: Time) -> Admit {
        let machine = &mut *self.0;
        machine.settle(now);
        match machine.state {
            BreakerState::Closed => {}
            BreakerState::Open if now.as_millis() >= machine.probe_from => {
                machine.state = BreakerState::HalfOpen;
            }
            BreakerState::Open => {
                return Admit::Reject { until: Some(Time(machine.probe_from.saturating_mul(1_000_000))) };
            }
            BreakerState::HalfOpen => return Admit::Reject { until: None },
        }
        Admit::Now(Permit { generation: 0, slot: 0, start: now })
    }

    #[inline]
    fn on_outcome(&mut self, now: Time, _permit: Permit, outcome: &Outcome) {
        let machine = &mut *self.0;
        machine.settle(now);
        let (unwanted, error) = (outcome.is_unwanted(), outcome.is_error());
        if machine.state == BreakerState::HalfOpen {
            if unwanted || error {
                machine.open(now);
            } else {
                machine.close(now);
            }
        }
        if !unwanted {
            machine.present.total += 1;
            machine.present.errors += u32::from(error);
        }
    }

    fn poll(&mut self, now: Time) {
        self.0.settle(now);
    }

    #[inline]
    fn state(&self, _now: Time) -> BreakerState {
        self.0.state
    }

    fn gauges(&self, _now: Time, show: &mut dyn FnMut(&'static str, f64)) {
        show("calls", f64::from(self.0.health.total));
        show("errors", f64::from(self.0.health.errors));
        show("error_percentage", f64::from(self.0.health.percent()));
    }
}
