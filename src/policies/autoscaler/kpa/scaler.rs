//! From a wanted scale to replicas: bounds, the way to zero and back, and whether the activator is in the path (upstream:
//! `pkg/reconciler/autoscaling/kpa/scaler.go` and `kpa.go`).

use crate::policies::autoscaler::Explain;
use crate::time::{Duration, Time};

/// What a scaler goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScalerSpec {
    /// Fewest replicas while the revision is reachable.
    pub min_scale: u32,
    /// Most replicas; 0 for no bound.
    pub max_scale: u32,
    /// Replicas to reach once before fewer are allowed.
    pub initial_scale: u32,
    /// Whether 0 replicas are allowed.
    pub enable_scale_to_zero: bool,
    /// A revision is active for at least this long before it becomes inactive.
    pub stable_window: Duration,
    /// The activator is in the path for at least this long before the last pod goes.
    pub scale_to_zero_grace_period: Duration,
    /// The last pod stays for at least this long after the revision became inactive.
    pub scale_to_zero_pod_retention_period: Duration,
    /// A revision that did not become ready in this time is given up.
    pub activation_timeout: Duration,
    /// Whether the activator is always in the path, so that there is no need to make sure.
    pub always_proxied: bool,
}

/// The condition `Active` of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Too few pods are ready yet (upstream: status `Unknown`).
    Activating,
    /// Enough pods are ready.
    Active,
    /// Scaled to zero, or on the way there.
    Inactive,
}

/// What one reconciliation wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaling {
    /// Replicas to set now; `None` leaves them as they are.
    pub replicas: Option<u32>,
    /// The rule that decided, if it was not the decider.
    pub reason: Option<&'static str>,
    /// When the answer may change although nothing else does.
    pub recheck: Option<Time>,
}

/// Keeps the status of one revision and right-sizes it.
#[derive(Clone, Debug)]
pub struct Scaler {
    spec: ScalerSpec,
    activity: Activity,
    /// When `activity` last changed.
    since: Time,
    /// Whether the initial scale was reached once.
    initialized: bool,
    /// Since when the routes lead to the activator; `None` while they lead to the pods.
    proxied_since: Option<Time>,
}

/// Until the routes lead to the activator, this often is checked whether they do by now.
const PROBE_PERIOD: Duration = Duration::from_secs(1);
/// Where the routes lead to the activator already, an inactive revision is looked at again after this time.
const PROXY_RECHECK: Duration = Duration::from_secs(3);

/// A scale and whether it is to be set; `want` is `None` while nobody knows.
struct Wanted {
    want: Option<u32>,
    apply: bool,
    reason: Option<&'static str>,
    recheck: Option<Time>,
}

impl Wanted {
    fn apply(want: u32, reason: Option<&'static str>) -> Self {
        Self { want: Some(want), apply: true, reason, recheck: None }
    }

    fn hold(want: Option<u32>, reason: &'static str, recheck: Time) -> Self {
        Self { want, apply: false, reason: Some(reason), recheck: Some(recheck) }
    }
}

impl Scaler {
    /// The scaler of a revision that is created at `now`.
    pub fn new(spec: ScalerSpec, now: Time) -> Self {
        Self { spec, activity: Activity::Activating, since: now, initialized: false, proxied_since: None }
    }

    /// Finds the revision scaled to zero at `now`.
    pub fn set_inactive(&mut self, now: Time) {
        (self.activity, self.since, self.initialized) = (Activity::Inactive, now, true);
        self.proxied_since = Some(now);
    }

    /// The condition `Active`.
    pub fn activity(&self) -> Activity {
        self.activity
    }

    /// Whether the routes lead to the activator, ready pods or not.
    pub fn is_proxied(&self) -> bool {
        self.proxied_since.is_some()
    }

    /// One reconciliation (`ReconcileKind`): `desired` is the last decision, `None` before the first one; `ready` are the
    /// ready pods.
    pub fn reconcile(
        &mut self,
        now: Time,
        desired: Option<u32>,
        excess_burst_capacity: i32,
        ready: u32,
        reachable: bool,
        explain: &mut dyn Explain,
    ) -> Scaling {
        let min_scale = if reachable { self.spec.min_scale } else { 0 };
        let wanted = self.scale(now, desired, min_scale, reachable, explain);
        let Wanted { want, apply, reason, recheck } = wanted;

        let is_gone = want == Some(0) || want.is_none() && self.activity == Activity::Inactive;
        if is_gone || excess_burst_capacity < 0 {
            self.proxied_since.get_or_insert(now);
        } else {
            self.proxied_since = None;
        }
        explain.step("proxied", f64::from(u8::from(self.is_proxied())));
        self.compute_activity(now, want, ready, min_scale);
        Scaling { replicas: want.filter(|_| apply), reason, recheck }
    }

    /// Bounds, then the way to zero (`scale`).
    fn scale(
        &self,
        now: Time,
        desired: Option<u32>,
        min_scale: u32,
        reachable: bool,
        explain: &mut dyn Explain,
    ) -> Wanted {
        if desired.is_none() && self.activity != Activity::Activating {
            return Wanted { want: None, apply: false, reason: Some("NoMetrics"), recheck: None };
        }
        let spec = &self.spec;
        let starts = reachable && spec.initial_scale > min_scale.max(1) && !self.initialized;
        let min = if starts { spec.initial_scale } else { min_scale };
        // Without a decision yet, the least there can be.
        let desired = desired.unwrap_or(0);
        let (bounded, reason) = if desired < min {
            (min, Some(if starts { "InitialScale" } else { "MinScale" }))
        } else if spec.max_scale != 0 && desired > spec.max_scale {
            (spec.max_scale, Some("MaxScale"))
        } else {
            (desired, None)
        };
        explain.step("bounded", f64::from(bounded));
        if bounded == 0 { self.scale_to_zero(now) } else { Wanted::apply(bounded, reason) }
    }

    /// What stands between a wish for 0 and 0 replicas (`handleScaleToZero`).
    fn scale_to_zero(&self, now: Time) -> Wanted {
        let spec = &self.spec;
        if !spec.enable_scale_to_zero {
            return Wanted::apply(1, Some("ScaleToZeroDisabled"));
        }
        let status_for = now.since(self.since);
        match self.activity {
            Activity::Activating if status_for > spec.activation_timeout => {
                Wanted::apply(0, Some("TimedOut"))
            }
            Activity::Activating => Wanted::hold(None, "Activating", now + spec.activation_timeout),
            // Inactive first, and only then without pods.
            Activity::Active if status_for >= spec.stable_window => {
                let pause = if self.is_proxied() { PROXY_RECHECK } else { PROBE_PERIOD };
                Wanted::hold(Some(0), "NoTraffic", now + pause)
            }
            Activity::Active => Wanted {
                recheck: Some(self.since + spec.stable_window),
                ..Wanted::apply(1, Some("ActiveForLessThanWindow"))
            },
            Activity::Inactive => {
                let proxied_for = self.proxied_since.map(|since| now.since(since));
                if proxied_for.is_none() && !spec.always_proxied {
                    return Wanted::hold(Some(0), "ActivatorNotInPath", now + PROBE_PERIOD);
                }
                let (grace, retention) =
                    (spec.scale_to_zero_grace_period, spec.scale_to_zero_pod_retention_period);
                if status_for >= grace.max(retention) {
                    return Wanted::apply(0, Some("NoTraffic"));
                }
                if status_for < retention {
                    return Wanted::hold(Some(0), "PodRetention", self.since + retention);
                }
                let proxied_for = proxied_for.unwrap_or(Duration::ZERO);
                if proxied_for >= grace {
                    return Wanted::apply(0, Some("NoTraffic"));
                }
                Wanted::hold(Some(0), "GracePeriod", now + (grace - proxied_for))
            }
        }
    }

    /// The condition `Active` after a reconciliation (`computeActiveCondition`).
    fn compute_activity(&mut self, now: Time, want: Option<u32>, ready: u32, min_scale: u32) {
        let min_ready = if self.initialized { 1 } else { self.spec.initial_scale }.max(min_scale);
        self.initialized |= ready >= min_ready;
        let activity =
            if want == Some(0) || min_ready == 0 || want.is_none() && self.activity == Activity::Inactive {
                Activity::Inactive
            } else if ready < min_ready {
                Activity::Activating
            } else {
                Activity::Active
            };
        if activity != self.activity {
            (self.activity, self.since) = (activity, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ScalerSpec {
        ScalerSpec {
            min_scale: 0,
            max_scale: 0,
            initial_scale: 1,
            enable_scale_to_zero: true,
            stable_window: Duration::from_secs(60),
            scale_to_zero_grace_period: Duration::from_secs(30),
            scale_to_zero_pod_retention_period: Duration::ZERO,
            activation_timeout: Duration::from_secs(630),
            always_proxied: false,
        }
    }

    /// Reconciles with capacity for the burst, so that the activator is in the path only on the way to zero.
    fn reconcile(scaler: &mut Scaler, secs: u64, desired: Option<u32>, ready: u32) -> Scaling {
        scaler.reconcile(Time::from_secs(secs), desired, 0, ready, true, &mut ())
    }

    fn active(spec: ScalerSpec) -> Scaler {
        let mut scaler = Scaler::new(spec, Time::ZERO);
        reconcile(&mut scaler, 0, Some(1), spec.initial_scale.max(spec.min_scale));
        assert_eq!(scaler.activity(), Activity::Active);
        scaler
    }

    #[test]
    fn bounds_hold() {
        let bounded = ScalerSpec { min_scale: 2, max_scale: 5, ..spec() };
        for (desired, replicas, reason) in
            [(Some(0), 2, Some("MinScale")), (Some(3), 3, None), (Some(9), 5, Some("MaxScale"))]
        {
            let scaling = reconcile(&mut active(bounded), 2, desired, 2);
            assert_eq!((scaling.replicas, scaling.reason), (Some(replicas), reason));
        }
        let scaling = active(bounded).reconcile(Time::from_secs(60), Some(0), 0, 2, false, &mut ());
        assert_eq!(
            (scaling.replicas, scaling.reason),
            (None, Some("NoTraffic")),
            "unreachable: no least scale"
        );
    }

    #[test]
    fn without_a_decision_nothing_changes() {
        let scaling = reconcile(&mut active(spec()), 2, None, 3);
        assert_eq!(scaling, Scaling { replicas: None, reason: Some("NoMetrics"), recheck: None });
    }

    #[test]
    fn the_initial_scale_is_reached_once() {
        let three = ScalerSpec { initial_scale: 3, ..spec() };
        let mut scaler = Scaler::new(three, Time::ZERO);
        let scaling = reconcile(&mut scaler, 0, None, 0);
        assert_eq!((scaling.replicas, scaling.reason), (Some(3), Some("InitialScale")));
        assert_eq!(reconcile(&mut scaler, 2, Some(1), 2).replicas, Some(3));
        assert_eq!(scaler.activity(), Activity::Activating);
        assert_eq!(reconcile(&mut scaler, 4, Some(1), 3).replicas, Some(3));
        assert_eq!(scaler.activity(), Activity::Active);
        assert_eq!(reconcile(&mut scaler, 6, Some(1), 3).replicas, Some(1));
        // Nobody can reach it: no need to wait for three.
        let mut scaler = Scaler::new(three, Time::ZERO);
        assert_eq!(scaler.reconcile(Time::ZERO, Some(1), 0, 0, false, &mut ()).replicas, Some(1));
    }

    #[test]
    fn an_initial_scale_of_zero_starts_inactive() {
        let mut scaler = Scaler::new(ScalerSpec { initial_scale: 0, ..spec() }, Time::ZERO);
        assert_eq!(reconcile(&mut scaler, 0, None, 0).replicas, None);
        assert_eq!(scaler.activity(), Activity::Inactive);
        assert_eq!(reconcile(&mut scaler, 2, None, 0).reason, Some("NoMetrics"));
        assert!(scaler.is_proxied(), "somebody has to wait for the first request");
        assert_eq!(reconcile(&mut scaler, 4, Some(1), 0).replicas, Some(1));
        assert_eq!(scaler.activity(), Activity::Activating);
    }

    #[test]
    fn activation_is_given_up_strictly_after_its_deadline() {
        let mut scaler = Scaler::new(spec(), Time::ZERO);
        let scaling = reconcile(&mut scaler, 630, Some(0), 0);
        assert_eq!((scaling.replicas, scaling.reason), (None, Some("Activating")));
        let scaling = reconcile(&mut scaler, 631, Some(0), 0);
        assert_eq!((scaling.replicas, scaling.reason), (Some(0), Some("TimedOut")));
        assert_eq!(scaler.activity(), Activity::Inactive);
    }

    #[test]
    fn the_last_pod_goes_in_steps() {
        let mut scaler = active(spec());
        let early = reconcile(&mut scaler, 59, Some(0), 4);
        assert_eq!((early.replicas, early.recheck), (Some(1), Some(Time::from_secs(60))));
        let idle = reconcile(&mut scaler, 60, Some(0), 1);
        assert_eq!((idle.replicas, idle.recheck), (None, Some(Time::from_secs(61))));
        assert_eq!((scaler.activity(), scaler.is_proxied()), (Activity::Inactive, true));
        let waiting = reconcile(&mut scaler, 61, Some(0), 1);
        let expected =
            Scaling { replicas: None, reason: Some("GracePeriod"), recheck: Some(Time::from_secs(90)) };
        assert_eq!(waiting, expected);
        assert_eq!(reconcile(&mut scaler, 90, Some(0), 1).replicas, Some(0), "inactive for 30 s");
        // A request comes: back to the pods once there is one.
        let poked = reconcile(&mut scaler, 100, Some(1), 0);
        assert_eq!((poked.replicas, scaler.activity()), (Some(1), Activity::Activating));
        reconcile(&mut scaler, 105, Some(1), 1);
        assert_eq!(scaler.activity(), Activity::Active);
    }

    #[test]
    fn a_proxied_revision_needs_no_further_grace() {
        let mut scaler = active(spec());
        scaler.reconcile(Time::from_secs(2), Some(1), -111, 1, true, &mut ());
        let idle = scaler.reconcile(Time::from_secs(60), Some(0), -111, 1, true, &mut ());
        assert_eq!((idle.replicas, idle.recheck), (None, Some(Time::from_secs(63))));
        let gone = scaler.reconcile(Time::from_secs(63), Some(0), -111, 1, true, &mut ());
        assert_eq!(gone.replicas, Some(0), "proxied since second 2");
    }

    #[test]
    fn retention_counts_from_inactivity() {
        let mut scaler =
            active(ScalerSpec { scale_to_zero_pod_retention_period: Duration::from_secs(40), ..spec() });
        reconcile(&mut scaler, 60, Some(0), 1);
        let kept = reconcile(&mut scaler, 99, Some(0), 1);
        let expected =
            Scaling { replicas: None, reason: Some("PodRetention"), recheck: Some(Time::from_secs(100)) };
        assert_eq!(kept, expected);
        assert_eq!(reconcile(&mut scaler, 100, Some(0), 1).replicas, Some(0));

        // A retention below the grace period: the latter decides, measured by the activator's time in the path.
        let mut scaler =
            active(ScalerSpec { scale_to_zero_pod_retention_period: Duration::from_secs(10), ..spec() });
        reconcile(&mut scaler, 60, Some(0), 1);
        assert_eq!(reconcile(&mut scaler, 69, Some(0), 1).reason, Some("PodRetention"));
        assert_eq!(reconcile(&mut scaler, 70, Some(0), 1).reason, Some("GracePeriod"));
        assert_eq!(reconcile(&mut scaler, 90, Some(0), 1).replicas, Some(0));
    }

    #[test]
    fn where_zero_is_not_allowed_one_stays() {
        let mut scaler = active(ScalerSpec { enable_scale_to_zero: false, ..spec() });
        assert_eq!(reconcile(&mut scaler, 600, Some(0), 4).replicas, Some(1));
    }

    #[test]
    fn silence_keeps_the_status() {
        let mut scaler = active(spec());
        reconcile(&mut scaler, 60, Some(0), 1);
        assert_eq!(reconcile(&mut scaler, 70, None, 1).reason, Some("NoMetrics"));
        assert_eq!((scaler.activity(), scaler.is_proxied()), (Activity::Inactive, true));
        let mut scaler = active(spec());
        reconcile(&mut scaler, 70, None, 0);
        assert_eq!(scaler.activity(), Activity::Activating, "its pods are gone");
    }
}
