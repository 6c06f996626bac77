//! The `KnativePodAutoscaler` (KPA) of Knative Serving: requests in flight, a panic mode, and scaling to zero.
//!
//! # What it does
//! Each second the requests in flight (or served) per pod are scraped into a stable window of 60 s and a panic window of 6 s.
//! Every 2 s it wants `ceil(average / target)` pods of the stable window, between half of and a thousand times the ready
//! ones. Once the panic window asks for twice the ready pods it panics: the larger window counts and nothing scales in
//! until that was not so for a whole stable window. Without requests it scales to zero in steps: inactive after a stable
//! window, then with the activator (a proxy that holds requests back) in the path, then without pods. The first request
//! to the activator brings a pod back at once. The activator is also in the path while the ready pods could not take
//! `target-burst-capacity` more requests.
//!
//! # When it helps
//! When load comes in bursts of seconds, pods start fast, and work is proportional to requests in flight; for many
//! services that mostly idle.
//!
//! # How it fails
//! * Slow answers raise the requests in flight, so trouble downstream scales out, and the new pods press on it harder.
//! * Right after a start it has no history: whatever it finds stays for a stable window, in panic.
//! * A panic holds its highest scale for a stable window after every spike: spiky load keeps the fleet at the peak.
//! * A cold start holds the first requests for as long as a pod takes to start; all of them wait at the activator.
//! * The default `max-scale-down-rate` halves the fleet every 2 s once the stable window agrees.
//! * No reports for a stable window: no decision, in either direction.
//!
//! # Settings
//! * `metric` (`"concurrency"`, or `"rps"`), `target` (per pod; 100 requests in flight or 200/s), of which
//!   `target-utilization-percentage` (70) is aimed at; `container-concurrency` (0, unlimited): hard limit per pod, to which
//!   the target is cut.
//! * `window` (`"1min"`, 6 s to 1 h), `panic-window-percentage` (10), `panic-threshold-percentage` (200),
//!   `metric-aggregation-algorithm` (`"linear"`, or `"weighted-exponential"`).
//! * `min-scale` (0), `max-scale` (0, unlimited), `initial-scale` (1), `activation-scale` (1), `scale-down-delay` (`"0s"`),
//!   `max-scale-up-rate` (1000), `max-scale-down-rate` (2).
//! * `target-burst-capacity` (211; 0 keeps the activator out of the path while there are pods, -1 in it always),
//!   `activator-capacity` (100).
//! * `enable-scale-to-zero` (true), `scale-to-zero-grace-period` (`"30s"`), `scale-to-zero-pod-retention-period` (`"0s"`),
//!   `allow-zero-initial-scale` (false), `progress-deadline` (`"10min"`): 30 s after it a revision that never became
//!   ready is given up.
//! * `container-concurrency-target-default` (100), `container-concurrency-target-percentage` (70),
//!   `requests-per-second-target-default` (200): what rules where the names above are not written.
//! * `tick-interval` (`"2s"`).
//!
//! # Origin
//! knative/serving 98e5ef90 (2026-08-21), `pkg/autoscaler/scaling/autoscaler.go` (`Scale`),
//! `pkg/autoscaler/aggregation/bucketing.go`, `pkg/autoscaler/aggregation/max`,
//! `pkg/reconciler/autoscaling/resources/target.go`: these agree with recorded cases of the original. Read, not recorded:
//! `pkg/autoscaler/config`, `pkg/apis/autoscaling` (ranges), `pkg/reconciler/autoscaling/kpa/scaler.go` and `kpa.go` (bounds
//! and the way to zero).
//!
//! # Deliberate differences
//! * Upstream reconciles when a decision, an endpoint or a timer changes; here it happens at each decision and whenever
//!   [`Kpa::reconcile`] is called, for which [`Decision::recheck`] names the instant. In between nothing can differ but by
//!   the time a change goes unnoticed, at most one `tick-interval`.
//! * Routes lead to the activator, or away from it, in the instant in which that is decided; upstream the change takes
//!   until the network is programmed, and a probe makes sure. So the grace period is all there is to cover it.
//! * All pods are counted, exactly and over the whole second; upstream scrapes a sample of them where there are more than
//!   three ([`window::sample_size`]) and takes its mean for all. What waits at the activator counts as well, and the first
//!   request after silence is told at once, as upstream.
//! * Only a service without a ready pod has its requests pass the activator, which then hands each pod at most
//!   `container-concurrency` of those it held. Upstream leads all requests through it while the excess burst capacity is
//!   negative; that is computed, explained, and counts for the way to zero, but changes no request.
//! * A run finds a service that has been there for long: with ready pods as after a restart of the autoscaler (more than
//!   one: in panic), with none as one that is scaled to zero.
//! * The tick interval and the progress deadline can be set; upstream the former is a constant, the latter belongs to the
//!   deployment.
//! * Status times keep nanoseconds; upstream's are cut to seconds when they are stored.
//! * `max-scale-limit` is not there: it bounds what users may write, and here nobody else writes.

pub mod decider;
pub mod delay;
pub mod scaler;
pub mod target;
pub mod window;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::policies::Algorithm;
use crate::policies::autoscaler::{Autoscaler, Desired, Explain, Fleet, Load, Pod};
use crate::time::{Duration, Time};
use decider::{Decider, DeciderSpec};
use scaler::{Activity, Scaler, ScalerSpec};
use target::{MetricTarget, ScalingMetric, TARGET_MIN};
use window::{Aggregation, Window};

/// Settings of [`Kpa`], with the names of the annotations (`autoscaling.knative.dev/..`) and of `config-autoscaler`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, remote = "Self")]
pub struct KpaSettings {
    /// What is measured.
    pub metric: ScalingMetric,
    /// Requests in flight, or per second, that a pod is taken to bear; at least 0.01.
    pub target: Option<f64>,
    /// Percent of the target that is aimed at, 1 to 100.
    pub target_utilization_percentage: Option<f64>,
    /// Most requests in flight per pod, up to 1000; 0 for no limit.
    pub container_concurrency: u32,
    /// Window of the stable mode: 6 s to 1 h, whole seconds.
    #[serde(alias = "stable-window")]
    pub window: Duration,
    /// Window of the panic mode in percent of `window`, 1 to 100; rounded to whole seconds, at least one.
    pub panic_window_percentage: f64,
    /// Wanted pods in percent of the ready ones from which on there is panic, 110 to 1000.
    pub panic_threshold_percentage: f64,
    /// How the seconds of a window become one figure.
    pub metric_aggregation_algorithm: Aggregation,
    /// Fewest replicas.
    pub min_scale: u32,
    /// Most replicas; 0 for no bound.
    pub max_scale: u32,
    /// Replicas to reach once before fewer are allowed; 0 only with `allow-zero-initial-scale`.
    pub initial_scale: u32,
    /// Least scale whenever there is any demand, at least 1.
    pub activation_scale: u32,
    /// Scaling in waits until it was wanted for so long: up to 1 h, whole seconds.
    pub scale_down_delay: Duration,
    /// Requests that the ready pods shall be able to take at any time on top of what they serve, without the activator.
    pub target_burst_capacity: f64,
    /// Requests in flight that one activator bears, at least 1.
    pub activator_capacity: f64,
    /// Time that the last pod stays after the revision became inactive, up to 1 h.
    pub scale_to_zero_pod_retention_period: Duration,
    /// Time that the activator is in the path before the last pod goes; not zero.
    pub scale_to_zero_grace_period: Duration,
    /// Whether 0 replicas are allowed.
    pub enable_scale_to_zero: bool,
    /// Whether a revision may begin with 0 replicas.
    pub allow_zero_initial_scale: bool,
    /// Time in which a revision should become ready; 30 s later it is given up.
    pub progress_deadline: Duration,
    /// One decision multiplies the ready pods by at most this; above 1.
    pub max_scale_up_rate: f64,
    /// One decision divides the ready pods by at most this; above 1.
    pub max_scale_down_rate: f64,
    /// Time between decisions: whole seconds, not zero.
    pub tick_interval: Duration,
    /// Requests in flight per pod if neither `target` nor `container-concurrency` is written.
    pub container_concurrency_target_default: f64,
    /// Percent of the requests in flight per pod that is aimed at; up to 1 it is taken as a fraction.
    pub container_concurrency_target_percentage: f64,
    /// Requests per second and pod if no `target` is written; at least 0.01.
    pub requests_per_second_target_default: f64,
}

impl Default for KpaSettings {
    fn default() -> Self {
        Self {
            metric: ScalingMetric::Concurrency,
            target: None,
            target_utilization_percentage: None,
            container_concurrency: 0,
            window: Duration::from_secs(60),
            panic_window_percentage: 10.0,
            panic_threshold_percentage: 200.0,
            metric_aggregation_algorithm: Aggregation::Linear,
            min_scale: 0,
            max_scale: 0,
            initial_scale: 1,
            activation_scale: 1,
            scale_down_delay: Duration::ZERO,
            target_burst_capacity: 211.0,
            activator_capacity: 100.0,
            scale_to_zero_pod_retention_period: Duration::ZERO,
            scale_to_zero_grace_period: Duration::from_secs(30),
            enable_scale_to_zero: true,
            allow_zero_initial_scale: false,
            progress_deadline: Duration::from_secs(600),
            max_scale_up_rate: 1000.0,
            max_scale_down_rate: 2.0,
            tick_interval: Duration::from_secs(2),
            container_concurrency_target_default: 100.0,
            container_concurrency_target_percentage: 70.0,
            requests_per_second_target_default: 200.0,
        }
    }
}

/// The shortest stable window.
const WINDOW_MIN: Duration = Duration::from_secs(6);
/// The longest window, delay and retention.
const WINDOW_MAX: Duration = Duration::from_secs(3600);
/// The highest hard limit per pod (`container-concurrency-max-limit`).
const MAX_CONTAINER_CONCURRENCY: u32 = 1000;
/// A revision is given up so long after its progress deadline, so that the deployment can say first what is wrong.
const ACTIVATION_TIMEOUT_BUFFER: Duration = Duration::from_secs(30);
/// Time between two scrapes of the pods, and the width of a bucket.
const SCRAPE_PERIOD: Duration = Duration::from_secs(1);
/// Activators that stand behind a revision at least.
const MIN_ACTIVATORS: u32 = 2;

impl KpaSettings {
    /// What the validation of annotations and of `config-autoscaler` refuses.
    fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: f64, min: f64, max: f64| {
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                Err(format!("`{name}` ({value}) lies outside of {min} to {max}"))
            }
        };
        let at_least = |name: &str, value: f64, min: f64| {
            if value >= min && value.is_finite() {
                Ok(())
            } else {
                Err(format!("`{name}` ({value}) must be a number of at least {min}"))
            }
        };
        let rate = |name: &str, value: f64| {
            if value > 1.0 && value.is_finite() {
                Ok(())
            } else {
                Err(format!("`{name}` ({value}) must be a number greater than 1"))
            }
        };
        let whole_seconds = |name: &str, value: Duration| {
            if value.0.is_multiple_of(Duration::from_secs(1).0) {
                Ok(())
            } else {
                Err(format!("`{name}` ({value}) must be whole seconds"))
            }
        };
        let at_most = |name: &str, value: Duration| {
            if value <= WINDOW_MAX {
                Ok(())
            } else {
                Err(format!("`{name}` ({value}) is longer than {WINDOW_MAX}"))
            }
        };
        let positive = |name: &str, value: Duration| {
            if value > Duration::ZERO { Ok(()) } else { Err(format!("`{name}` must be longer than zero")) }
        };

        if let Some(target) = self.target {
            at_least("target", target, TARGET_MIN)?;
        }
        if let Some(percentage) = self.target_utilization_percentage {
            within("target-utilization-percentage", percentage, 1.0, 100.0)?;
        }
        if self.container_concurrency > MAX_CONTAINER_CONCURRENCY {
            return Err(format!(
                "`container-concurrency` ({}) is greater than {MAX_CONTAINER_CONCURRENCY}",
                self.container_concurrency
            ));
        }
        if self.window < WINDOW_MIN || self.window > WINDOW_MAX {
            return Err(format!("`window` ({}) lies outside of {WINDOW_MIN} to {WINDOW_MAX}", self.window));
        }
        whole_seconds("window", self.window)?;
        within("panic-window-percentage", self.panic_window_percentage, 1.0, 100.0)?;
        within("panic-threshold-percentage", self.panic_threshold_percentage, 110.0, 1000.0)?;
        for (name, scale) in [
            ("min-scale", self.min_scale),
            ("max-scale", self.max_scale),
            ("initial-scale", self.initial_scale),
            ("activation-scale", self.activation_scale),
        ] {
            if scale > i32::MAX as u32 {
                return Err(format!("`{name}` ({scale}) is greater than {}", i32::MAX));
            }
        }
        if self.max_scale != 0 && self.max_scale < self.min_scale {
            return Err(format!(
                "`min-scale` ({}) is greater than `max-scale` ({})",
                self.min_scale, self.max_scale
            ));
        }
        if self.initial_scale == 0 && !self.allow_zero_initial_scale {
            return Err("`initial-scale` may be 0 only with `allow-zero-initial-scale = true`".to_owned());
        }
        if self.activation_scale == 0 {
            return Err("`activation-scale` must be at least 1".to_owned());
        }
        whole_seconds("scale-down-delay", self.scale_down_delay)?;
        at_most("scale-down-delay", self.scale_down_delay)?;
        if self.target_burst_capacity != -1.0 && at_least("", self.target_burst_capacity, 0.0).is_err() {
            return Err(format!(
                "`target-burst-capacity` ({}) must be at least 0, or -1 for unlimited",
                self.target_burst_capacity
            ));
        }
        at_least("activator-capacity", self.activator_capacity, 1.0)?;
        at_most("scale-to-zero-pod-retention-period", self.scale_to_zero_pod_retention_period)?;
        positive("scale-to-zero-grace-period", self.scale_to_zero_grace_period)?;
        positive("progress-deadline", self.progress_deadline)?;
        rate("max-scale-up-rate", self.max_scale_up_rate)?;
        rate("max-scale-down-rate", self.max_scale_down_rate)?;
        positive("tick-interval", self.tick_interval)?;
        whole_seconds("tick-interval", self.tick_interval)?;
        let percentage = self.container_concurrency_target_percentage;
        if !(percentage > 0.0 && percentage <= 100.0) {
            return Err(format!(
                "`container-concurrency-target-percentage` ({percentage}) must be greater than 0 and at most 100"
            ));
        }
        at_least(
            "container-concurrency-target-default",
            self.container_concurrency_target_default,
            TARGET_MIN,
        )?;
        let fraction = if percentage > 1.0 { percentage / 100.0 } else { percentage };
        if fraction * self.container_concurrency_target_default < TARGET_MIN {
            return Err(format!(
                "`container-concurrency-target-default` and `container-concurrency-target-percentage` come to less than {TARGET_MIN}"
            ));
        }
        at_least("requests-per-second-target-default", self.requests_per_second_target_default, TARGET_MIN)
    }

    /// Length of the panic window: whole seconds, at least one.
    pub fn panic_window(&self) -> Duration {
        let exact = self.window.as_secs_f64() * self.panic_window_percentage / 100.0;
        Duration::from_secs(exact.round().max(1.0) as u64)
    }
}

impl<'de> Deserialize<'de> for KpaSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        settings.check().map_err(D::Error::custom)?;
        Ok(settings)
    }
}

/// What is to be done after a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Replicas to set; those there are if nothing is to change.
    pub replicas: u32,
    /// The last rule that changed the figure.
    pub reason: &'static str,
    /// Whether requests pass the activator, which holds them back while no pod is ready.
    pub proxied: bool,
    /// Activators among which the revision's requests are spread.
    pub activators: u32,
    /// Whether it only scales out at present.
    pub panicking: bool,
    /// When [`Kpa::reconcile`] may say something else although nothing else changed.
    pub recheck: Option<Time>,
}

/// See the module documentation.
///
/// Told the metric once per second ([`Self::record`]) and asked for a decision every [`Self::tick_interval`]
/// ([`Self::decide`]). [`Self::reconcile`] may be asked in between: when pods become ready, and at [`Decision::recheck`].
#[derive(Clone, Debug)]
pub struct Kpa {
    state: Box<State>,
    /// What [`Autoscaler::evaluate`] has not looked at yet: how to begin with what it finds there.
    unseen: Option<Box<KpaSettings>>,
}

#[derive(Clone, Debug)]
struct State {
    metric: ScalingMetric,
    stable_window: Window,
    panic_window: Window,
    decider: Decider,
    scaler: Scaler,
    target: MetricTarget,
    target_burst_capacity: f64,
    activator_capacity: f64,
    tick_interval: Duration,
    reachable: bool,
    /// The last decision; `None` before the first one.
    desired: Option<u32>,
    reason: &'static str,
    excess_burst_capacity: i32,
}

impl Kpa {
    /// An autoscaler that starts at `now` and finds `ready` pods, as after a restart of its own. With more than one it
    /// starts in panic and keeps them for a stable window.
    pub fn with_ready(settings: &KpaSettings, now: Time, ready: u32) -> Self {
        let target = MetricTarget::resolve(settings);
        let burst = settings.target_burst_capacity;
        let decider = DeciderSpec {
            target,
            max_scale_up_rate: settings.max_scale_up_rate,
            max_scale_down_rate: settings.max_scale_down_rate,
            panic_threshold: settings.panic_threshold_percentage / 100.0,
            stable_window: settings.window,
            target_burst_capacity: burst,
            activation_scale: settings.activation_scale,
            scale_down_delay: settings.scale_down_delay,
            tick_interval: settings.tick_interval,
        };
        let scaler = ScalerSpec {
            min_scale: settings.min_scale,
            max_scale: settings.max_scale,
            initial_scale: settings.initial_scale,
            enable_scale_to_zero: settings.enable_scale_to_zero,
            stable_window: settings.window,
            scale_to_zero_grace_period: settings.scale_to_zero_grace_period,
            scale_to_zero_pod_retention_period: settings.scale_to_zero_pod_retention_period,
            activation_timeout: settings.progress_deadline + ACTIVATION_TIMEOUT_BUFFER,
            always_proxied: burst == -1.0,
        };
        let aggregation = settings.metric_aggregation_algorithm;
        let state = State {
            metric: settings.metric,
            stable_window: Window::new(settings.window, aggregation),
            panic_window: Window::new(settings.panic_window(), aggregation),
            decider: Decider::new(decider, now, ready),
            scaler: Scaler::new(scaler, now),
            target,
            target_burst_capacity: burst,
            activator_capacity: settings.activator_capacity,
            tick_interval: settings.tick_interval,
            reachable: true,
            desired: None,
            reason: "NoMetrics",
            // Before the first decision, what a single pod could take.
            excess_burst_capacity: if burst == 0.0 || burst == -1.0 {
                burst as i32
            } else {
                (target.total - burst) as i32
            },
        };
        Self { state: Box::new(state), unseen: None }
    }

    /// Takes over a service that runs since long before `now`, with what was recorded so far.
    fn take_over(&mut self, settings: &KpaSettings, now: Time, current: u32, ready: u32) {
        let Self { state: fresh, .. } = Self::with_ready(settings, now, ready);
        let state = &mut *self.state;
        (state.decider, state.scaler) = (fresh.decider, fresh.scaler);
        if current == 0 {
            state.scaler.set_inactive(now);
            state.desired = Some(0);
        }
    }

    /// What is to be recorded.
    pub fn metric(&self) -> ScalingMetric {
        self.state.metric
    }

    /// Time between decisions.
    pub fn tick_interval(&self) -> Duration {
        self.state.tick_interval
    }

    /// The condition `Active` of the revision.
    pub fn activity(&self) -> Activity {
        self.state.scaler.activity()
    }

    /// Says whether a route leads to the revision. One that is out of reach keeps no least scale and shrinks at any rate.
    pub fn set_reachable(&mut self, reachable: bool) {
        self.state.reachable = reachable;
        self.state.decider.set_reachable(reachable);
    }

    /// One report of one reporter: the metric over the last second, as the sum over all pods (the mean of those that were
    /// scraped, times all that are ready), or what waits at the activator or passed it. Requests that pass the activator
    /// are its to report, not the pods'. Without pods and without requests at the activator there is nothing to report.
    ///
    /// True asks for [`Self::decide`] at once: there is demand for a revision that is to have no pods.
    pub fn record(&mut self, now: Time, value: f64) -> bool {
        self.state.stable_window.record(now, value);
        self.state.panic_window.record(now, value);
        self.state.desired == Some(0) && value != 0.0
    }

    /// One tick: decides on a scale and reconciles. `current` are the wanted replicas, `ready` the ready pods.
    pub fn decide(&mut self, now: Time, current: u32, ready: u32, explain: &mut dyn Explain) -> Decision {
        let state = &mut *self.state;
        // Who hears of every request from the activator knows silence from missing reports.
        let is_scraping = state.target_burst_capacity != -1.0;
        if is_scraping && state.stable_window.is_empty(now) {
            explain.step("no-data", 1.0);
        } else {
            let (stable, panic) = (state.stable_window.average(now), state.panic_window.average(now));
            let result = state.decider.scale(now, ready, stable, panic, explain);
            state.desired = Some(result.desired);
            state.reason = result.reason;
            state.excess_burst_capacity = result.excess_burst_capacity;
        }
        self.reconcile(now, current, ready, explain)
    }

    /// Applies the last decision to what is there now; changes nothing but the status of the revision.
    pub fn reconcile(&mut self, now: Time, current: u32, ready: u32, explain: &mut dyn Explain) -> Decision {
        let state = &mut *self.state;
        let scaling = state.scaler.reconcile(
            now,
            state.desired,
            state.excess_burst_capacity,
            ready,
            state.reachable,
            explain,
        );
        let replicas = scaling.replicas.unwrap_or(current);
        explain.step("replicas", f64::from(replicas));
        Decision {
            replicas,
            reason: scaling.reason.unwrap_or(state.reason),
            // Routes to pods lead to the activator as long as none of them is ready.
            proxied: state.scaler.is_proxied() || ready == 0,
            activators: state.activators(ready),
            panicking: state.decider.is_panicking(),
            recheck: scaling.recheck,
        }
    }
}

impl State {
    /// As many as bear what all ready pods do and the burst (`computeNumActivators`).
    fn activators(&self, ready: u32) -> u32 {
        if self.target_burst_capacity == 0.0 {
            return MIN_ACTIVATORS;
        }
        let capacity = f64::from(ready) * self.target.total + self.target_burst_capacity.max(0.0);
        MIN_ACTIVATORS.max((capacity / self.activator_capacity).ceil() as u32)
    }
}

impl Algorithm for Kpa {
    type Settings = KpaSettings;

    /// An autoscaler for a revision that is being created, so without pods.
    fn new(settings: &KpaSettings, now: Time) -> Self {
        Self { unseen: Some(Box::new(settings.clone())), ..Self::with_ready(settings, now, 0) }
    }
}

impl Autoscaler for Kpa {
    fn interval(&self) -> Duration {
        self.state.tick_interval
    }

    fn sampling(&self) -> Option<Duration> {
        Some(SCRAPE_PERIOD)
    }

    fn on_sample(&mut self, now: Time, load: &Load) -> bool {
        let value = match self.state.metric {
            ScalingMetric::Concurrency => load.concurrency,
            ScalingMetric::Rps => load.requests_per_second,
        };
        self.record(now, value)
    }

    fn evaluate(&mut self, now: Time, fleet: &Fleet<'_>, explain: &mut dyn Explain) -> Desired {
        let is_ready = |pod: &&Pod| !pod.deleting && pod.ready.is_some_and(|(ready, _)| ready);
        let ready = fleet.pods.iter().filter(is_ready).count() as u32;
        if let Some(settings) = self.unseen.take() {
            self.take_over(&settings, now, fleet.current, ready);
        }
        let Decision { replicas, reason, .. } = self.decide(now, fleet.current, ready, explain);
        Desired { replicas, reason }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<KpaSettings, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn reads_what_a_scenario_says() {
        let settings = read(
            r#"
            metric = "rps"
            target = 50
            window = "2min"
            panic-window-percentage = 5.0
            max-scale = 30
            scale-down-delay = "15min"
            target-burst-capacity = -1
            metric-aggregation-algorithm = "weighted-exponential"
        "#,
        )
        .unwrap();
        assert_eq!(settings.panic_window(), Duration::from_secs(6));
        assert_eq!(MetricTarget::resolve(&settings).target, 35.0);
        assert_eq!(read("").unwrap(), KpaSettings::default());
        assert_eq!(read("stable-window = '30s'").unwrap().window, Duration::from_secs(30));
    }

    #[test]
    fn the_panic_window_is_whole_seconds() {
        for (window, percentage, secs) in
            [(60, 10.0, 6), (6, 1.0, 1), (25, 10.0, 3), (14, 10.0, 1), (6, 100.0, 6)]
        {
            let settings = KpaSettings {
                window: Duration::from_secs(window),
                panic_window_percentage: percentage,
                ..KpaSettings::default()
            };
            assert_eq!(settings.panic_window(), Duration::from_secs(secs), "{percentage} % of {window} s");
        }
    }

    #[test]
    fn refuses_what_upstream_refuses() {
        for (text, part) in [
            ("target = 0", "`target` (0) must be a number of at least 0.01"),
            ("target = nan", "at least 0.01"),
            ("target-utilization-percentage = 0.7", "outside of 1 to 100"),
            ("container-concurrency = 1001", "greater than 1000"),
            ("window = '5s'", "`window` (5s) lies outside of 6s to 1h"),
            ("window = '61min'", "outside of 6s to 1h"),
            ("window = '6500ms'", "whole seconds"),
            ("panic-window-percentage = 0.5", "outside of 1 to 100"),
            ("panic-threshold-percentage = 100", "outside of 110 to 1000"),
            ("min-scale = 3\nmax-scale = 2", "`min-scale` (3) is greater than `max-scale` (2)"),
            ("max-scale = 3000000000", "greater than 2147483647"),
            ("initial-scale = 0", "allow-zero-initial-scale"),
            ("activation-scale = 0", "at least 1"),
            ("scale-down-delay = '2h'", "longer than 1h"),
            ("scale-down-delay = '1500ms'", "whole seconds"),
            ("target-burst-capacity = -2", "or -1 for unlimited"),
            ("target-burst-capacity = inf", "or -1 for unlimited"),
            ("activator-capacity = 0.5", "at least 1"),
            ("scale-to-zero-pod-retention-period = '61min'", "longer than 1h"),
            ("scale-to-zero-grace-period = '0s'", "longer than zero"),
            ("max-scale-up-rate = 1", "greater than 1"),
            ("max-scale-down-rate = 1.0", "greater than 1"),
            ("tick-interval = '0s'", "longer than zero"),
            ("container-concurrency-target-percentage = 101", "at most 100"),
            ("container-concurrency-target-default = 0.01", "come to less than 0.01"),
            ("minScale = 1", "unknown field"),
        ] {
            let message = read(text).expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
        assert!(read("initial-scale = 0\nallow-zero-initial-scale = true").is_ok());
    }

    /// A service with one pod per replica, ready after two seconds; one line per decision that changes something.
    fn play(kpa: &mut Kpa, load: impl Fn(u64) -> f64, secs: u64) -> Vec<String> {
        let (mut current, mut pods, mut story) = (1_u32, vec![0_u64], Vec::new());
        let mut told = String::new();
        let mut decision = None::<Decision>;
        for second in 1..=secs {
            let now = Time::from_secs(second);
            let ready = |pods: &[u64]| pods.iter().filter(|since| second >= **since + 2).count() as u32;
            let demand = load(second);
            let is_reported = ready(&pods) > 0 || demand > 0.0;
            let poked = is_reported && kpa.record(now, demand);
            let is_due = decision.and_then(|decision| decision.recheck).is_some_and(|at| at <= now);
            if second.is_multiple_of(2) || poked {
                decision = Some(kpa.decide(now, current, ready(&pods), &mut ()));
            } else if is_due {
                decision = Some(kpa.reconcile(now, current, ready(&pods), &mut ()));
            }
            let Some(decision) = decision else { continue };
            current = decision.replicas;
            pods.resize(current as usize, second);
            let path = if decision.proxied { "activator" } else { "pods" };
            let text = format!("{current} {} {path}", decision.reason);
            if text != told {
                story.push(format!("{second}: {text}"));
                told = text;
            }
        }
        story
    }

    #[test]
    fn a_burst_then_silence_then_a_request() {
        let settings = read("target-burst-capacity = 0").unwrap();
        let load = |second| match second {
            1..=9 => 35.0,
            10..=39 => 700.0,
            300 => 1.0,
            _ => 0.0,
        };
        let story = play(&mut Kpa::new(&settings, Time::ZERO), load, 320);
        let expected = [
            "2: 1 Stable pods",
            "10: 3 Panic pods",
            "12: 6 Panic pods",
            "14: 9 Panic pods",
            "16: 10 Panic pods",
            "74: 5 Stable pods",
            "76: 4 Stable pods",
            "82: 3 Stable pods",
            "88: 2 Stable pods",
            "94: 1 Stable pods",
            "100: 1 NoTraffic activator",
            "101: 1 GracePeriod activator",
            "130: 0 NoTraffic activator",
            "300: 1 Stable activator",
            "302: 1 Stable pods",
        ];
        assert_eq!(story, expected);
    }

    #[test]
    fn silence_is_no_decision_unless_every_request_is_seen() {
        let mut kpa = Kpa::new(&KpaSettings::default(), Time::ZERO);
        let decision = kpa.decide(Time::from_secs(2), 3, 3, &mut ());
        assert_eq!((decision.replicas, decision.reason), (3, "Activating"));
        let decision = kpa.decide(Time::from_secs(4), 3, 3, &mut ());
        assert_eq!((decision.replicas, decision.reason), (3, "NoMetrics"));
        let always = KpaSettings { target_burst_capacity: -1.0, ..KpaSettings::default() };
        let mut kpa = Kpa::new(&always, Time::ZERO);
        let decision = kpa.decide(Time::from_secs(2), 3, 3, &mut ());
        assert_eq!((decision.replicas, decision.reason), (1, "MaxScaleDownRate"));
        let decision = kpa.decide(Time::from_secs(4), 1, 1, &mut ());
        assert_eq!((decision.replicas, decision.reason), (1, "ActiveForLessThanWindow"));
    }

    #[test]
    fn activators_bear_pods_and_burst() {
        for (burst, ready, activators) in [(0.0, 50, 2), (-1.0, 50, 50), (211.0, 0, 3), (211.0, 10, 13)] {
            let settings = KpaSettings { target_burst_capacity: burst, ..KpaSettings::default() };
            let mut kpa = Kpa::new(&settings, Time::ZERO);
            assert_eq!(kpa.decide(Time::ZERO, 1, ready, &mut ()).activators, activators, "burst {burst}");
        }
    }

    #[test]
    fn explains_every_step() {
        let mut kpa = Kpa::new(&KpaSettings::default(), Time::ZERO);
        kpa.record(Time::from_secs(1), 90.0);
        kpa.record(Time::from_secs(2), 120.0);
        let mut steps = Vec::new();
        kpa.decide(Time::from_secs(2), 1, 1, &mut steps);
        let expected = [
            ("stable-value", 105.0),
            ("panic-value", 105.0),
            ("target", 70.0),
            ("ready-pods", 1.0),
            ("stable-proposal", 2.0),
            ("panic-proposal", 2.0),
            ("max-scale-up", 1000.0),
            ("max-scale-down", 0.0),
            ("stable-pods", 2.0),
            ("panic-pods", 2.0),
            ("panicking", 1.0),
            ("desired", 2.0),
            ("excess-burst-capacity", -216.0),
            ("bounded", 2.0),
            ("proxied", 1.0),
            ("replicas", 2.0),
        ];
        assert_eq!(steps, expected);
    }

    proptest! {
        /// Between the bounds whenever it sets anything, zero only where that is allowed, and replayed to the bit.
        #[test]
        fn stays_within_its_bounds_and_replays(
            min_scale in 0_u32..4,
            extra in 0_u32..40,
            enable_scale_to_zero: bool,
            burst in prop_oneof![Just(-1.0), Just(0.0), Just(211.0)],
            delay in 0_u64..60,
            weighted: bool,
            load in prop::collection::vec(0_u32..3000, 1..300),
        ) {
            let settings = KpaSettings {
                min_scale,
                max_scale: min_scale + extra,
                enable_scale_to_zero,
                target_burst_capacity: burst,
                scale_down_delay: Duration::from_secs(delay),
                metric_aggregation_algorithm:
                    if weighted { Aggregation::WeightedExponential } else { Aggregation::Linear },
                ..KpaSettings::default()
            };
            prop_assert!(settings.check().is_ok());
            let replay = || {
                let mut kpa = Kpa::new(&settings, Time::ZERO);
                let (mut current, mut answers) = (1, Vec::new());
                for (second, demand) in load.iter().enumerate() {
                    let now = Time::from_secs(1 + second as u64);
                    if kpa.record(now, f64::from(*demand / 1000) * 100.0) || second % 2 == 1 {
                        let decision = kpa.decide(now, current, current, &mut ());
                        current = decision.replicas;
                        answers.push(decision);
                    }
                }
                answers
            };
            let answers = replay();
            for decision in &answers {
                let least = min_scale.max(u32::from(!enable_scale_to_zero));
                let most = if settings.max_scale == 0 { u32::MAX } else { settings.max_scale.max(1) };
                prop_assert!((least..=most).contains(&decision.replicas), "{decision:?}");
            }
            prop_assert_eq!(answers, replay());
        }
    }
}
