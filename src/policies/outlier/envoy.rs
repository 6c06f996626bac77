//! Envoy outlier detection: leaves out endpoints after consecutive errors, or with a success rate far below the others'.
//!
//! ## What it does
//! Each endpoint has two counters: consecutive 5xx, and consecutive gateway errors (502, 503, 504). A 5xx that is no gateway
//! error resets the second one, any other answer resets both. A counter that *reaches* its threshold ejects the endpoint, and
//! is set to zero whether or not the ejection was allowed. Every `interval` there is a sweep: (1) endpoints whose time is over
//! come back, with both counters at zero, and the counts of the interval are closed; (2) among endpoints that are in and had
//! at least `success-rate-request-volume` answers, those are ejected whose success rate lies below
//! mean - factor / 1000 * standard deviation; (3) the same with a share of failures of at least
//! `failure-percentage-threshold`; (4) for endpoints that are in and came back at least an interval ago, the multiplier of
//! the ejection time goes down by one. The n-th ejection in a row lasts min(n * `base-ejection-time`, `max-ejection-time`)
//! plus a random jitter, rounded up to the next sweep.
//!
//! An ejection is refused when more than `max-ejection-percent` of the endpoints would be out. The `enforcing-*` percentages
//! are drawn after that.
//!
//! ## When it helps
//! One of many endpoints is broken in a way that no health check sees: it answers fast, and with errors.
//!
//! ## How it fails
//! It sees one client only: with many clients each needs its own errors. When the dependency behind all endpoints fails, the
//! first ones to reach the threshold are ejected up to the limit, and the rest has to carry their load. With the default of
//! 10 % nothing is ever ejected among fewer than ten endpoints, unless `always-eject-one-host` is set. An endpoint that is out
//! and fails again never reaches the threshold by equality until it is back.
//!
//! ## Settings
//! Names and defaults as in Envoy's `OutlierDetection`; percentages are whole.
//! * `consecutive-5xx` (5), `consecutive-gateway-failure` (5), `interval` (`10s`), `base-ejection-time` (`30s`),
//!   `max-ejection-time` (`300s`, or `base-ejection-time` if that is longer), `max-ejection-time-jitter` (`0s`),
//!   `max-ejection-percent` (`10%`), `always-eject-one-host` (false).
//! * `success-rate-minimum-hosts` (5), `success-rate-request-volume` (100), `success-rate-stdev-factor` (1900).
//! * `failure-percentage-threshold` (`85%`), `failure-percentage-minimum-hosts` (5), `failure-percentage-request-volume` (50).
//! * `enforcing-consecutive-5xx` (`100%`), `enforcing-consecutive-gateway-failure` (`0%`), `enforcing-success-rate` (`100%`),
//!   `enforcing-failure-percentage` (`0%`).
//! * `successful-active-health-check-uneject-host` (true): an active check that passes lets the endpoint in.
//!
//! ## Origin
//! envoyproxy/envoy 00c7146d, `source/common/upstream/outlier_detection_impl.cc` (`putHttpResponseCode`, `ejectHost`,
//! `onIntervalTimer`, `processSuccessRateEjections`), pinned by `tests/vectors/breaker/envoy_outlier.json`.
//!
//! ## Deliberate differences
//! * An endpoint that both (2) and (3) would eject in the same sweep is ejected once; upstream asserts, or counts it twice.
//! * Ejections happen at once; upstream posts them to its main thread.
//! * Endpoints are swept in the order of their slots; upstream's order is that of a hash map.
//! * `split-external-local-origin-errors` and its counters do not exist: all errors are status codes, a timeout is a 504, a
//!   refusal a 503, any other failure a 500. Upstream reports a broken connection as 503.
//! * Attempts that their caller abandoned are not reported, as upstream does for requests that the downstream resets.
//! * Times are not cut to milliseconds.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Change, Outlier};
use crate::policies::Algorithm;
use crate::policies::view::{Outcome, Slot};
use crate::random::Rng;
use crate::time::{Duration, Time};
use crate::units::Share;

/// Settings of `outlier.envoy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct EnvoySettings(Written);

/// The settings before they are checked against each other.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "EnvoyOutlierSettings")]
struct Written {
    /// Consecutive 5xx that eject an endpoint.
    #[serde(rename = "consecutive-5xx")]
    consecutive_5xx: u32,
    /// Consecutive gateway errors (502, 503, 504) that eject it.
    consecutive_gateway_failure: u32,
    /// Time between sweeps.
    interval: Duration,
    /// Length of the first ejection; the n-th in a row is n times as long.
    base_ejection_time: Duration,
    /// Longest ejection.
    max_ejection_time: Option<Duration>,
    /// Most that is added at random.
    max_ejection_time_jitter: Duration,
    /// Most endpoints that may be out.
    max_ejection_percent: Share,
    /// One may be out even if that is more than `max-ejection-percent`.
    always_eject_one_host: bool,
    /// Endpoints with enough answers below which success rates are not compared.
    success_rate_minimum_hosts: u32,
    /// Answers in an interval that are enough.
    success_rate_request_volume: u32,
    /// Standard deviations below the mean, in thousandths.
    success_rate_stdev_factor: u32,
    /// Share of failures that ejects.
    failure_percentage_threshold: Share,
    /// Endpoints with enough answers below which that rule does not hold.
    failure_percentage_minimum_hosts: u32,
    /// Answers in an interval that are enough for it.
    failure_percentage_request_volume: u32,
    /// Share of the ejections by consecutive 5xx that happen.
    #[serde(rename = "enforcing-consecutive-5xx")]
    enforcing_consecutive_5xx: Share,
    /// Share of the ejections by gateway errors that happen.
    enforcing_consecutive_gateway_failure: Share,
    /// Share of the ejections by success rate that happen.
    enforcing_success_rate: Share,
    /// Share of the ejections by failure percentage that happen.
    enforcing_failure_percentage: Share,
    /// An active check that passes lets the endpoint in again.
    successful_active_health_check_uneject_host: bool,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway_failure: 5,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: None,
            max_ejection_time_jitter: Duration::ZERO,
            max_ejection_percent: Share(0.1),
            always_eject_one_host: false,
            success_rate_minimum_hosts: 5,
            success_rate_request_volume: 100,
            success_rate_stdev_factor: 1900,
            failure_percentage_threshold: Share(0.85),
            failure_percentage_minimum_hosts: 5,
            failure_percentage_request_volume: 50,
            enforcing_consecutive_5xx: Share(1.0),
            enforcing_consecutive_gateway_failure: Share(0.0),
            enforcing_success_rate: Share(1.0),
            enforcing_failure_percentage: Share(0.0),
            successful_active_health_check_uneject_host: true,
        }
    }
}

/// Default of `max-ejection-time`.
const DEFAULT_MAX_EJECTION_TIME: Duration = Duration::from_secs(300);

/// A whole percentage, as upstream's unsigned integers are.
pub(in crate::policies) fn whole_percent(name: &str, share: Share) -> Result<u32, String> {
    let percent = share.0 * 100.0;
    if (percent - percent.round()).abs() > 1e-9 {
        return Err(format!("{name} is {percent}%, but Envoy knows whole percentages only"));
    }
    Ok(percent.round() as u32)
}

impl TryFrom<Written> for EnvoySettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let zero = |name: &str| Err(format!("{name} must be more than zero (Envoy: `gt: {{}}`)"));
        if written.interval == Duration::ZERO {
            return zero("interval");
        }
        if written.base_ejection_time == Duration::ZERO {
            return zero("base-ejection-time");
        }
        if let Some(max) = written.max_ejection_time
            && max == Duration::ZERO
        {
            return zero("max-ejection-time");
        }
        if let Some(max) = written.max_ejection_time
            && max < written.base_ejection_time
        {
            return Err(
                "max-ejection-time is less than base-ejection-time (Envoy refuses that, too)".to_owned()
            );
        }
        let percentages = [
            ("max-ejection-percent", written.max_ejection_percent),
            ("failure-percentage-threshold", written.failure_percentage_threshold),
            ("enforcing-consecutive-5xx", written.enforcing_consecutive_5xx),
            ("enforcing-consecutive-gateway-failure", written.enforcing_consecutive_gateway_failure),
            ("enforcing-success-rate", written.enforcing_success_rate),
            ("enforcing-failure-percentage", written.enforcing_failure_percentage),
        ];
        for (name, share) in percentages {
            whole_percent(name, share)?;
        }
        Ok(Self(written))
    }
}

/// The settings as upstream holds them.
#[derive(Clone, Copy, Debug)]
struct Config {
    consecutive_5xx: u32,
    consecutive_gateway_failure: u32,
    interval: Duration,
    base_ejection_time: u64,
    max_ejection_time: u64,
    max_ejection_time_jitter: u64,
    max_ejection_percent: u32,
    always_eject_one_host: bool,
    success_rate_minimum_hosts: usize,
    success_rate_request_volume: u32,
    success_rate_stdev_factor: f64,
    failure_percentage_threshold: u32,
    failure_percentage_minimum_hosts: usize,
    failure_percentage_request_volume: u32,
    enforcing_consecutive_5xx: u32,
    enforcing_consecutive_gateway_failure: u32,
    enforcing_success_rate: u32,
    enforcing_failure_percentage: u32,
    uneject_by_check: bool,
}

impl Config {
    fn new(written: &Written) -> Self {
        let percent = |share: Share| (share.0 * 100.0).round() as u32;
        let max = written.max_ejection_time;
        let max = max.unwrap_or_else(|| DEFAULT_MAX_EJECTION_TIME.max(written.base_ejection_time));
        Self {
            consecutive_5xx: written.consecutive_5xx,
            consecutive_gateway_failure: written.consecutive_gateway_failure,
            interval: written.interval,
            base_ejection_time: written.base_ejection_time.0,
            max_ejection_time: max.0,
            max_ejection_time_jitter: written.max_ejection_time_jitter.0,
            max_ejection_percent: percent(written.max_ejection_percent),
            always_eject_one_host: written.always_eject_one_host,
            success_rate_minimum_hosts: written.success_rate_minimum_hosts as usize,
            success_rate_request_volume: written.success_rate_request_volume,
            success_rate_stdev_factor: f64::from(written.success_rate_stdev_factor) / 1000.0,
            failure_percentage_threshold: percent(written.failure_percentage_threshold),
            failure_percentage_minimum_hosts: written.failure_percentage_minimum_hosts as usize,
            failure_percentage_request_volume: written.failure_percentage_request_volume,
            enforcing_consecutive_5xx: percent(written.enforcing_consecutive_5xx),
            enforcing_consecutive_gateway_failure: percent(written.enforcing_consecutive_gateway_failure),
            enforcing_success_rate: percent(written.enforcing_success_rate),
            enforcing_failure_percentage: percent(written.enforcing_failure_percentage),
            uneject_by_check: written.successful_active_health_check_uneject_host,
        }
    }
}

/// Why an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EjectionType {
    Consecutive5xx,
    ConsecutiveGatewayFailure,
    SuccessRate,
    FailurePercentage,
}

/// What is known about one endpoint.
#[derive(Clone, Copy, Debug, Default)]
struct HostMonitor {
    /// On the client's list.
    known: bool,
    ejected: bool,
    consecutive_5xx: u32,
    consecutive_gateway_failure: u32,
    last_ejection_time: Time,
    last_unejection_time: Option<Time>,
    eject_time_backoff: u64,
    jitter: u64,
    /// Answers, and good ones, of the interval that runs, and of the one before.
    current: (u32, u32),
    backup: (u32, u32),
}

impl HostMonitor {
    /// Success rate in percent and answers of the last whole interval.
    fn success_rate_and_volume(&self) -> Option<(f64, u32)> {
        let (total, success) = self.backup;
        (total > 0).then(|| (f64::from(success) * 100.0 / f64::from(total), total))
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Envoy(Box<Detector>);

#[derive(Clone, Debug)]
struct Detector {
    config: Config,
    /// By slot.
    host_monitors: Vec<HostMonitor>,
    /// Endpoints on the client's list.
    hosts: usize,
    ejections_active: u32,
    ejections_overflow: u64,
    /// Mean and threshold of the success rates at the last sweep; -1 where there was nothing to compare.
    success_rate: (f64, f64),
    changes: VecDeque<Change>,
}

impl Algorithm for Envoy {
    type Settings = EnvoySettings;

    fn new(settings: &EnvoySettings, _now: Time) -> Self {
        Self(Box::new(Detector {
            config: Config::new(&settings.0),
            host_monitors: Vec::new(),
            hosts: 0,
            ejections_active: 0,
            ejections_overflow: 0,
            success_rate: (-1.0, -1.0),
            changes: VecDeque::new(),
        }))
    }
}

impl Detector {
    fn eject_host(&mut self, now: Time, slot: usize, kind: EjectionType, rng: &mut Rng) {
        let config = self.config;
        let ejected_percent = 100.0 * f64::from(self.ejections_active + 1) / self.hosts as f64;
        let mut should_eject = ejected_percent <= f64::from(config.max_ejection_percent);
        if config.always_eject_one_host {
            should_eject = self.ejections_active == 0 || should_eject;
        }
        if !should_eject {
            self.ejections_overflow += 1;
            return;
        }
        if !self.enforce_ejection(kind, rng) {
            return;
        }
        self.ejections_active += 1;
        let monitor = &mut self.host_monitors[slot];
        monitor.ejected = true;
        monitor.last_ejection_time = now;
        monitor.jitter = match config.max_ejection_time_jitter {
            0 => 0,
            most => rng.bits() % (most + 1),
        };
        let lasts = monitor.eject_time_backoff.saturating_mul(config.base_ejection_time);
        if lasts < config.max_ejection_time.saturating_add(config.base_ejection_time) {
            monitor.eject_time_backoff += 1;
        }
        let reason = match kind {
            EjectionType::Consecutive5xx => "consecutive 5xx",
            EjectionType::ConsecutiveGatewayFailure => "consecutive gateway failures",
            EjectionType::SuccessRate => "success rate",
            EjectionType::FailurePercentage => "failure percentage",
        };
        self.changes.push_back(Change { slot: Slot(slot as u32), ejected: true, reason });
    }

    fn enforce_ejection(&self, kind: EjectionType, rng: &mut Rng) -> bool {
        let percent = match kind {
            EjectionType::Consecutive5xx => self.config.enforcing_consecutive_5xx,
            EjectionType::ConsecutiveGatewayFailure => self.config.enforcing_consecutive_gateway_failure,
            EjectionType::SuccessRate => self.config.enforcing_success_rate,
            EjectionType::FailurePercentage => self.config.enforcing_failure_percentage,
        };
        feature_enabled(percent, rng)
    }

    fn uneject_host(&mut self, now: Time, slot: usize, reason: &'static str) {
        self.ejections_active -= 1;
        let monitor = &mut self.host_monitors[slot];
        monitor.ejected = false;
        monitor.consecutive_5xx = 0;
        monitor.consecutive_gateway_failure = 0;
        monitor.last_unejection_time = Some(now);
        self.changes.push_back(Change { slot: Slot(slot as u32), ejected: false, reason });
    }

    fn check_host_for_uneject(&mut self, now: Time, slot: usize) {
        let monitor = &self.host_monitors[slot];
        if !monitor.ejected {
            return;
        }
        let Config { base_ejection_time, max_ejection_time, .. } = self.config;
        let lasts = base_ejection_time.saturating_mul(monitor.eject_time_backoff).min(max_ejection_time);
        if lasts.saturating_add(monitor.jitter) <= (now - monitor.last_ejection_time).0 {
            self.uneject_host(now, slot, "time served");
        }
    }

    fn on_consecutive_error(&mut self, now: Time, slot: usize, kind: EjectionType, rng: &mut Rng) {
        if self.host_monitors[slot].ejected {
            return;
        }
        self.eject_host(now, slot, kind, rng);
        let monitor = &mut self.host_monitors[slot];
        match kind {
            EjectionType::ConsecutiveGatewayFailure => monitor.consecutive_gateway_failure = 0,
            _ => monitor.consecutive_5xx = 0,
        }
    }

    /// Endpoints that are in and had at least `volume` answers, with their success rates.
    fn valid_hosts(&self, volume: u32) -> impl Iterator<Item = (usize, f64)> {
        let monitors = self.host_monitors.iter().enumerate();
        monitors.filter(|(_, monitor)| monitor.known && !monitor.ejected).filter_map(
            move |(slot, monitor)| {
                let (rate, total) = monitor.success_rate_and_volume()?;
                (total >= volume).then_some((slot, rate))
            },
        )
    }

    fn process_success_rate_ejections(&mut self, now: Time, rng: &mut Rng) {
        let config = self.config;
        self.success_rate = (-1.0, -1.0);
        if self.hosts < config.success_rate_minimum_hosts
            && self.hosts < config.failure_percentage_minimum_hosts
        {
            return;
        }
        // Both lists are made before anybody is ejected.
        let failure_volume = config.failure_percentage_request_volume;
        let valid_for_failures = self.valid_hosts(failure_volume).count();
        let (mut valid, mut sum) = (0_u32, 0.0);
        for (_, rate) in self.valid_hosts(config.success_rate_request_volume) {
            valid += 1;
            sum += rate;
        }
        if valid > 0 && valid as usize >= config.success_rate_minimum_hosts {
            let mean = sum / f64::from(valid);
            let mut variance = 0.0;
            for (_, rate) in self.valid_hosts(config.success_rate_request_volume) {
                variance += (rate - mean) * (rate - mean);
            }
            let stdev = (variance / f64::from(valid)).sqrt();
            let threshold = mean - config.success_rate_stdev_factor * stdev;
            self.success_rate = (mean, threshold);
            self.eject_where(
                now,
                EjectionType::SuccessRate,
                config.success_rate_request_volume,
                rng,
                |rate| rate < threshold,
            );
        }
        if valid_for_failures > 0 && valid_for_failures >= config.failure_percentage_minimum_hosts {
            let threshold = f64::from(config.failure_percentage_threshold);
            self.eject_where(now, EjectionType::FailurePercentage, failure_volume, rng, |rate| {
                100.0 - rate >= threshold
            });
        }
    }

    fn eject_where(
        &mut self,
        now: Time,
        kind: EjectionType,
        volume: u32,
        rng: &mut Rng,
        is_bad: impl Fn(f64) -> bool,
    ) {
        for slot in 0..self.host_monitors.len() {
            let monitor = &self.host_monitors[slot];
            if !monitor.known || monitor.ejected {
                continue;
            }
            if let Some((rate, total)) = monitor.success_rate_and_volume()
                && total >= volume
                && is_bad(rate)
            {
                self.eject_host(now, slot, kind, rng);
            }
        }
    }
}

/// Envoy's `featureEnabled` of a whole percentage; certain answers draw nothing.
pub(in crate::policies) fn feature_enabled(percent: u32, rng: &mut Rng) -> bool {
    match percent {
        0 => false,
        1..100 => rng.bits() % 100 < u64::from(percent),
        _ => true,
    }
}

impl Outlier for Envoy {
    fn on_update(&mut self, _now: Time, hosts: &[Slot]) {
        let detector = &mut *self.0;
        let needed = hosts.last().map_or(0, |slot| slot.0 as usize + 1);
        if detector.host_monitors.len() < needed {
            detector.host_monitors.resize(needed, HostMonitor::default());
        }
        let mut listed = hosts.iter().map(|slot| slot.0 as usize).peekable();
        for (slot, monitor) in detector.host_monitors.iter_mut().enumerate() {
            let known = listed.next_if_eq(&slot).is_some();
            if known != monitor.known {
                if monitor.ejected {
                    detector.ejections_active -= 1;
                }
                *monitor = HostMonitor { known, ..HostMonitor::default() };
            }
        }
        detector.hosts = hosts.len();
        // A sweep lets in and ejects each of them at most once.
        let most = 2 * hosts.len() + 1;
        detector.changes.reserve(most.saturating_sub(detector.changes.len()));
    }

    #[inline]
    fn on_outcome(&mut self, now: Time, slot: Slot, outcome: &Outcome, rng: &mut Rng) {
        let detector = &mut *self.0;
        let at = slot.0 as usize;
        let Some(monitor) = detector.host_monitors.get_mut(at).filter(|monitor| monitor.known) else {
            return;
        };
        if outcome.is_unwanted() {
            return;
        }
        monitor.current.0 += 1;
        if !matches!(outcome.code, 500..600) {
            monitor.current.1 += 1;
            monitor.consecutive_5xx = 0;
            monitor.consecutive_gateway_failure = 0;
            return;
        }
        if matches!(outcome.code, 502..=504) {
            monitor.consecutive_gateway_failure += 1;
            if monitor.consecutive_gateway_failure == detector.config.consecutive_gateway_failure {
                detector.on_consecutive_error(now, at, EjectionType::ConsecutiveGatewayFailure, rng);
            }
        } else {
            monitor.consecutive_gateway_failure = 0;
        }
        let monitor = &mut detector.host_monitors[at];
        monitor.consecutive_5xx += 1;
        if monitor.consecutive_5xx == detector.config.consecutive_5xx {
            detector.on_consecutive_error(now, at, EjectionType::Consecutive5xx, rng);
        }
    }

    fn on_check_passed(&mut self, now: Time, slot: Slot) {
        if self.0.config.uneject_by_check && self.is_ejected(slot) {
            self.0.uneject_host(now, slot.0 as usize, "active check");
        }
    }

    fn interval(&self) -> Duration {
        self.0.config.interval
    }

    fn on_interval(&mut self, now: Time, rng: &mut Rng) {
        let detector = &mut *self.0;
        for slot in 0..detector.host_monitors.len() {
            if !detector.host_monitors[slot].known {
                continue;
            }
            detector.check_host_for_uneject(now, slot);
            let monitor = &mut detector.host_monitors[slot];
            monitor.backup = std::mem::take(&mut monitor.current);
        }
        detector.process_success_rate_ejections(now, rng);
        let interval = detector.config.interval;
        for monitor in &mut detector.host_monitors {
            if monitor.known
                && !monitor.ejected
                && monitor.last_unejection_time.is_some_and(|last| now - last >= interval)
            {
                monitor.eject_time_backoff = monitor.eject_time_backoff.saturating_sub(1);
            }
        }
    }

    fn is_ejected(&self, slot: Slot) -> bool {
        self.0.host_monitors.get(slot.0 as usize).is_some_and(|monitor| monitor.ejected)
    }

    #[inline]
    fn take_change(&mut self) -> Option<Change> {
        self.0.changes.pop_front()
    }

    fn gauges(&self, show: &mut dyn FnMut(&'static str, f64)) {
        show("ejected", f64::from(self.0.ejections_active));
        show("overflow", self.0.ejections_overflow as f64);
        show("success_rate_mean", self.0.success_rate.0);
        show("success_rate_threshold", self.0.success_rate.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::view::Class;
    use crate::random::Key;

    fn detector(settings: &str, hosts: u32) -> Envoy {
        let settings: EnvoySettings = serde_json::from_str(settings).unwrap();
        let mut envoy = Envoy::new(&settings, Time::ZERO);
        envoy.on_update(Time::ZERO, &(0..hosts).map(Slot).collect::<Vec<_>>());
        envoy
    }

    fn tell(envoy: &mut Envoy, slot: u32, class: Class, times: u32) {
        for _ in 0..times {
            envoy.on_outcome(Time::ZERO, Slot(slot), &Outcome::new(class, Duration::ZERO), &mut Key(0).rng());
        }
    }

    #[test]
    fn five_errors_of_one_of_ten_eject_it_for_thirty_seconds_then_for_sixty() {
        let mut envoy = detector("{}", 10);
        tell(&mut envoy, 3, Class::Failure, 4);
        assert!(!envoy.is_ejected(Slot(3)));
        tell(&mut envoy, 3, Class::Failure, 1);
        assert_eq!(
            envoy.take_change(),
            Some(Change { slot: Slot(3), ejected: true, reason: "consecutive 5xx" })
        );
        // Sweeps at 10 s and 20 s leave it out; the one at 30 s lets it in.
        for (at, out) in [(10, true), (20, true), (30, false)] {
            envoy.on_interval(Time::from_secs(at), &mut Key(0).rng());
            assert_eq!(envoy.is_ejected(Slot(3)), out, "{at} s");
        }
        // The second time: told at 30 s, out until 90 s.
        for _ in 0..5 {
            let outcome = Outcome::new(Class::Failure, Duration::ZERO);
            envoy.on_outcome(Time::from_secs(30), Slot(3), &outcome, &mut Key(0).rng());
        }
        for at in [40, 50, 60, 70, 80] {
            envoy.on_interval(Time::from_secs(at), &mut Key(0).rng());
            assert!(envoy.is_ejected(Slot(3)), "{at} s");
        }
        envoy.on_interval(Time::from_secs(90), &mut Key(0).rng());
        assert!(!envoy.is_ejected(Slot(3)));
    }

    #[test]
    fn ten_percent_of_nine_is_nobody_unless_one_always_may() {
        let mut envoy = detector("{}", 9);
        tell(&mut envoy, 0, Class::Failure, 5);
        assert!(!envoy.is_ejected(Slot(0)));
        let mut envoy = detector(r#"{"always-eject-one-host": true}"#, 9);
        tell(&mut envoy, 0, Class::Failure, 5);
        assert!(envoy.is_ejected(Slot(0)));
    }

    #[test]
    fn who_leaves_the_list_is_forgotten() {
        let mut envoy = detector(r#"{"max-ejection-percent": "50%"}"#, 2);
        tell(&mut envoy, 0, Class::Failure, 5);
        tell(&mut envoy, 1, Class::Failure, 5);
        assert!(envoy.is_ejected(Slot(0)) && !envoy.is_ejected(Slot(1)), "only one of two may be out");
        envoy.on_update(Time::ZERO, &[Slot(1), Slot(2)]);
        assert!(!envoy.is_ejected(Slot(0)));
        tell(&mut envoy, 1, Class::Failure, 5);
        assert!(envoy.is_ejected(Slot(1)));
    }

    #[test]
    fn the_rule_is_named() {
        let error = |text: &str| serde_json::from_str::<EnvoySettings>(text).unwrap_err().to_string();
        assert!(error(r#"{"interval": "0s"}"#).contains("interval must be more than zero"));
        assert!(error(r#"{"max-ejection-percent": "12.5%"}"#).contains("whole percentages only"));
        assert!(
            error(r#"{"base-ejection-time": "1min", "max-ejection-time": "30s"}"#).contains("less than base")
        );
    }
}
