//! From two averages to a wanted scale, with the panic mode (upstream: `pkg/autoscaler/scaling/autoscaler.go`).

use crate::policies::autoscaler::Explain;
use crate::policies::autoscaler::kpa::delay::DelayWindow;
use crate::policies::autoscaler::kpa::target::MetricTarget;
use crate::time::{Duration, Time};

/// What a decider goes by (upstream: `DeciderSpec`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeciderSpec {
    /// Wanted and bearable figure per pod.
    pub target: MetricTarget,
    /// One decision multiplies the ready pods by at most this; above 1.
    pub max_scale_up_rate: f64,
    /// One decision divides the ready pods by at most this; above 1.
    pub max_scale_down_rate: f64,
    /// Wanted pods over ready pods from which on there is panic.
    pub panic_threshold: f64,
    /// Panic ends when the threshold was not reached for longer than this.
    pub stable_window: Duration,
    /// Requests that the ready pods shall be able to take at any time on top of what they serve; 0: no activator in the
    /// path while there are pods, -1: always.
    pub target_burst_capacity: f64,
    /// Least scale whenever there is any demand; up to 1 without effect.
    pub activation_scale: u32,
    /// Scaling in waits until it was wanted for so long.
    pub scale_down_delay: Duration,
    /// Time between decisions, the resolution of the delay.
    pub tick_interval: Duration,
}

/// One decision (upstream: `ScaleResult`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaleResult {
    /// Wanted pods, before the bounds.
    pub desired: u32,
    /// Requests that the ready pods could take beyond the wanted burst; below 0 the activator belongs in the path.
    pub excess_burst_capacity: i32,
    /// The last rule that changed the figure.
    pub reason: &'static str,
}

/// Decides on the scale of one revision.
#[derive(Clone, Debug)]
pub struct Decider {
    spec: DeciderSpec,
    /// Whether requests can reach the revision at all; if not, it may shrink at any rate.
    reachable: bool,
    /// When the threshold was last reached, in panic mode.
    panic_time: Option<Time>,
    max_panic_pods: u32,
    delay_window: Option<DelayWindow>,
}

impl Decider {
    /// A decider that finds `ready` pods. With more than one it starts in panic, or it would scale in for want of history.
    pub fn new(spec: DeciderSpec, now: Time, ready: u32) -> Self {
        let delayed = spec.scale_down_delay > Duration::ZERO;
        Self {
            spec,
            reachable: true,
            panic_time: (ready > 1).then_some(now),
            max_panic_pods: ready,
            delay_window: delayed.then(|| DelayWindow::new(spec.scale_down_delay, spec.tick_interval)),
        }
    }

    /// Says whether a route leads to the revision.
    pub fn set_reachable(&mut self, reachable: bool) {
        self.reachable = reachable;
    }

    /// Whether it only scales out at present.
    pub fn is_panicking(&self) -> bool {
        self.panic_time.is_some()
    }

    /// The scale that panic mode holds; without meaning outside of it.
    pub fn max_panic_pods(&self) -> u32 {
        self.max_panic_pods
    }

    /// Decides, given the ready pods and the averages of both windows over all pods (`Scale`).
    pub fn scale(
        &mut self,
        now: Time,
        ready: u32,
        observed_stable_value: f64,
        observed_panic_value: f64,
        explain: &mut dyn Explain,
    ) -> ScaleResult {
        let spec = &self.spec;
        // Without a pod, as with one.
        let ready_pods = f64::from(ready.max(1));
        // Outwards, or small fleets would never move.
        let max_scale_up = (spec.max_scale_up_rate * ready_pods).ceil();
        let max_scale_down =
            if self.reachable { (ready_pods / spec.max_scale_down_rate).floor() } else { 0.0 };
        // Pods that would meet the target (upstream: `dspc` and `dppc`).
        let stable_demand = (observed_stable_value / spec.target.target).ceil();
        let panic_demand = (observed_panic_value / spec.target.target).ceil();
        let within_rates = |pods: f64| pods.max(max_scale_down).min(max_scale_up).min(MAX_PODS) as u32;
        let activated = |demand: f64, pods: u32| {
            if demand > 0.0 && spec.activation_scale > 1 { pods.max(spec.activation_scale) } else { pods }
        };
        let desired_stable_pods = activated(stable_demand, within_rates(stable_demand));
        let desired_panic_pods = activated(panic_demand, within_rates(panic_demand));
        let is_over_panic_threshold = panic_demand / ready_pods >= spec.panic_threshold;
        for (what, value) in [
            ("stable-value", observed_stable_value),
            ("panic-value", observed_panic_value),
            ("target", spec.target.target),
            ("ready-pods", f64::from(ready)),
            ("stable-proposal", stable_demand),
            ("panic-proposal", panic_demand),
            ("max-scale-up", max_scale_up),
            ("max-scale-down", max_scale_down),
            ("stable-pods", f64::from(desired_stable_pods)),
            ("panic-pods", f64::from(desired_panic_pods)),
        ] {
            // An average, and with it a demand, may be minus zero.
            explain.step(what, value + 0.0);
        }

        if is_over_panic_threshold {
            self.panic_time = Some(now);
        } else if self.panic_time.is_some_and(|since| now.since(since) > spec.stable_window) {
            self.panic_time = None;
            self.max_panic_pods = 0;
        }
        explain.step("panicking", f64::from(u8::from(self.panic_time.is_some())));

        let (mut desired, mut reason) = if self.panic_time.is_some() {
            self.max_panic_pods = self.max_panic_pods.max(desired_stable_pods).max(desired_panic_pods);
            (self.max_panic_pods, "Panic")
        } else {
            let proposal = stable_demand.max(0.0);
            let reason = if f64::from(desired_stable_pods) == proposal {
                "Stable"
            } else if within_rates(stable_demand) < desired_stable_pods {
                "ActivationScale"
            } else if f64::from(desired_stable_pods) < proposal {
                "MaxScaleUpRate"
            } else {
                "MaxScaleDownRate"
            };
            (desired_stable_pods, reason)
        };
        if let Some(window) = self.delay_window.as_mut().filter(|_| self.reachable) {
            let delayed = window.record(now, desired);
            explain.step("delayed", f64::from(delayed));
            if delayed != desired {
                (desired, reason) = (delayed, "ScaleDownDelay");
            }
        }

        let excess = self.excess_burst_capacity(ready, observed_panic_value);
        explain.step("desired", f64::from(desired));
        explain.step("excess-burst-capacity", f64::from(excess));
        ScaleResult { desired, excess_burst_capacity: excess, reason }
    }

    /// What is left of the pods' capacity beyond the wanted burst; -1 if the burst is unlimited, 0 if there is to be none.
    fn excess_burst_capacity(&self, ready: u32, observed_panic_value: f64) -> i32 {
        let burst = self.spec.target_burst_capacity;
        if burst == 0.0 {
            0
        } else if burst > 0.0 {
            let capacity = f64::from(ready) * self.spec.target.total;
            (capacity - burst - observed_panic_value).floor() as i32
        } else {
            -1
        }
    }
}

/// Pods are counted in 32 bits with a sign upstream.
const MAX_PODS: f64 = i32::MAX as f64;

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> DeciderSpec {
        DeciderSpec {
            target: MetricTarget { target: 10.0, total: 10.0 },
            max_scale_up_rate: 10.0,
            max_scale_down_rate: 2.0,
            panic_threshold: 2.0,
            stable_window: Duration::from_secs(60),
            target_burst_capacity: 0.0,
            activation_scale: 1,
            scale_down_delay: Duration::ZERO,
            tick_interval: Duration::from_secs(2),
        }
    }

    fn scale(decider: &mut Decider, secs: u64, ready: u32, stable: f64, panic: f64) -> (u32, &'static str) {
        let result = decider.scale(Time::from_secs(secs), ready, stable, panic, &mut ());
        (result.desired, result.reason)
    }

    #[test]
    fn panic_begins_at_the_threshold_and_ends_strictly_after_the_window() {
        let mut decider = Decider::new(spec(), Time::ZERO, 1);
        assert!(!decider.is_panicking());
        assert_eq!(scale(&mut decider, 2, 4, 40.0, 70.0), (4, "Stable"), "7 for 4 is below twice");
        assert_eq!(scale(&mut decider, 4, 4, 40.0, 71.0), (8, "Panic"), "8 for 4 is twice");
        assert_eq!(scale(&mut decider, 64, 8, 10.0, 10.0), (8, "Panic"), "60 s is not after the window");
        assert_eq!(scale(&mut decider, 65, 8, 10.0, 10.0), (4, "MaxScaleDownRate"));
        assert!(!decider.is_panicking());
    }

    #[test]
    fn pods_that_it_finds_stay_for_a_window() {
        let mut decider = Decider::new(spec(), Time::ZERO, 2);
        assert!(decider.is_panicking());
        assert_eq!(scale(&mut decider, 2, 2, 0.0, 0.0), (2, "Panic"));
        assert_eq!(scale(&mut decider, 61, 2, 0.0, 0.0), (1, "MaxScaleDownRate"));
    }

    #[test]
    fn rates_are_cut_outwards() {
        let slow = DeciderSpec { max_scale_up_rate: 1.1, max_scale_down_rate: 1.5, ..spec() };
        let mut decider = Decider::new(slow, Time::ZERO, 0);
        assert_eq!(scale(&mut decider, 2, 3, 100.0, 0.0), (4, "MaxScaleUpRate"), "3.3 becomes 4");
        assert_eq!(scale(&mut decider, 4, 5, 0.0, 0.0), (3, "MaxScaleDownRate"), "3.33 becomes 3");
        assert_eq!(scale(&mut decider, 6, 1, 0.0, 0.0), (0, "Stable"), "0.67 becomes 0");
    }

    #[test]
    fn activation_needs_demand() {
        let five = DeciderSpec { activation_scale: 5, ..spec() };
        let mut decider = Decider::new(five, Time::ZERO, 0);
        assert_eq!(scale(&mut decider, 2, 0, 0.0, 0.0), (0, "Stable"));
        assert_eq!(scale(&mut decider, 4, 0, 1.0, 1.0), (5, "ActivationScale"));
        assert_eq!(scale(&mut decider, 6, 5, 1.0, 1.0), (5, "ActivationScale"), "as long as there is any");
        assert_eq!(scale(&mut decider, 8, 5, 0.0, 0.0), (2, "MaxScaleDownRate"));
    }

    #[test]
    fn nothing_holds_what_nobody_can_reach() {
        let delayed = DeciderSpec { scale_down_delay: Duration::from_secs(30), ..spec() };
        let mut decider = Decider::new(delayed, Time::ZERO, 1);
        assert_eq!(scale(&mut decider, 2, 9, 90.0, 90.0), (9, "Stable"));
        assert_eq!(scale(&mut decider, 4, 9, 0.0, 0.0), (9, "ScaleDownDelay"));
        decider.set_reachable(false);
        assert_eq!(scale(&mut decider, 6, 9, 0.0, 0.0), (0, "Stable"));
    }

    #[test]
    fn the_burst_decides_about_the_activator() {
        for (burst, ready, excess) in
            [(0.0, 3, 0), (-1.0, 3, -1), (20.0, 3, 5), (20.0, 2, -5), (25.5, 3, -1), (1.0, 0, -6)]
        {
            let spec = DeciderSpec { target_burst_capacity: burst, ..spec() };
            let result =
                Decider::new(spec, Time::ZERO, 0).scale(Time::from_secs(2), ready, 0.0, 5.0, &mut ());
            assert_eq!(result.excess_burst_capacity, excess, "burst {burst}, {ready} pods");
        }
    }
}
