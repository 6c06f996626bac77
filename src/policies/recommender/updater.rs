//! When running instances get the size that was recommended: the updater of the Kubernetes Vertical Pod Autoscaler.
//!
//! Origin: kubernetes/autoscaler, `vertical-pod-autoscaler/pkg/updater`: `priority/update_priority_calculator.go`,
//! `priority/priority_processor.go`, `restriction/pods_restriction_factory.go` (`isPodDisruptable`),
//! `restriction/pods_inplace_restriction.go`; `vertical-pod-autoscaler/pkg/utils/vpa/limit_and_request_scaling.go`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Recommendation;
use crate::policies::view::Resources;
use crate::time::{Duration, Time};

/// What is done with a recommendation (`updatePolicy.updateMode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateMode {
    /// It is only shown.
    Off,
    /// New instances get it.
    Initial,
    /// Running ones are evicted, so that their successors get it.
    Recreate,
    /// Running ones are resized on the spot; those that their node has no room for wait.
    InPlace,
    /// The same, but whoever has waited for too long is evicted.
    InPlaceOrRecreate,
}

/// An instance as the updater sees it.
#[derive(Clone, Copy, Debug)]
pub struct Pod {
    /// Since when it has had a node.
    pub started: Time,
    /// What its container asks for; 0 is no request.
    pub request: Resources,
    /// The container's last process was killed for lack of memory soon after its start.
    pub quick_oom: bool,
}

/// See the module documentation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Updater {
    /// What is done with a recommendation.
    pub mode: UpdateMode,
    /// Time between two looks.
    pub interval: Duration,
    /// A service with fewer living instances is left alone.
    pub min_replicas: u32,
    /// Share of the wanted instances that may be missing.
    pub eviction_tolerance: f64,
    /// Within the recommended range only changes of at least this much count ...
    pub update_threshold: f64,
    /// ... and only for instances of this age.
    pub lifetime_threshold: Duration,
    /// A process that was killed for lack of memory within this time is resized at once.
    pub evict_after_oom: Duration,
    /// Resizing on the spot needs no other instances to carry on.
    pub skip_disruption_budget: bool,
}

/// A resize that waits for room on its node for longer than this has failed (`DeferredResizeUpdateTimeout`).
pub const DEFERRED: Duration = Duration::from_secs(300);

impl Updater {
    /// Positions of the instances that should have the recommended size, most urgent first: who needs more before who needs
    /// less, then the greatest change. `memory` is whether memory is followed at all.
    pub fn due(&self, now: Time, pods: &[Pod], recommended: &Recommendation, memory: bool) -> Vec<usize> {
        let mut due: Vec<(bool, f64, usize)> = Vec::new();
        for (at, pod) in pods.iter().enumerate() {
            let Recommendation { target, lower_bound, upper_bound } = recommended;
            let mut parts =
                vec![[pod.request.cpu_milli, target.cpu_milli, lower_bound.cpu_milli, upper_bound.cpu_milli]];
            if memory {
                parts.push([pod.request.memory, target.memory, lower_bound.memory, upper_bound.memory]);
            }
            let (mut outside, mut grows, mut change) = (false, false, 0.0);
            for [request, target, lower, upper] in parts {
                grows |= target > request;
                outside |= request == 0 || request < lower || request > upper;
                change += (request.max(1) - target).abs() as f64 / request.max(1) as f64;
            }
            let settled = now - pod.started >= self.lifetime_threshold && change >= self.update_threshold;
            if (outside || pod.quick_oom || settled) && !(pod.quick_oom && change == 0.0) {
                due.push((grows, change, at));
            }
        }
        due.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)));
        due.into_iter().map(|(.., at)| at).collect()
    }

    /// The instances of a service, `wanted` by its controller and `running` in fact.
    pub fn group(&self, wanted: u32, running: u32) -> Group {
        Group {
            wanted,
            running,
            tolerance: (f64::from(wanted) * self.eviction_tolerance) as u32,
            disturbed: 0,
            alone: running < self.min_replicas,
        }
    }
}

/// Counts how many instances of a service are disturbed in one look.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    wanted: u32,
    running: u32,
    tolerance: u32,
    disturbed: u32,
    alone: bool,
}

impl Group {
    /// Whether one more may be disturbed.
    pub const fn may_disturb(&self) -> bool {
        let least = self.wanted - self.tolerance;
        !self.alone
            && (self.running.saturating_sub(self.disturbed) > least
                || self.running == self.wanted && self.tolerance == 0 && self.disturbed == 0)
    }

    /// One more was.
    pub const fn disturbed(&mut self) {
        self.disturbed += 1;
    }
}

/// A limit that keeps its proportion to the request (`GetProportionalLimit`). Without a request it is what is recommended.
pub fn proportional(limit: i64, request: i64, recommended: i64) -> i64 {
    if request <= 0 || limit == request {
        return recommended;
    }
    let scaled = i128::from(limit) * i128::from(recommended) / i128::from(request);
    i64::try_from(scaled).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn of(cpu_milli: i64, memory: i64) -> Resources {
        Resources { cpu_milli, memory }
    }

    const UPDATER: Updater = Updater {
        mode: UpdateMode::Recreate,
        interval: Duration::from_secs(60),
        min_replicas: 2,
        eviction_tolerance: 0.5,
        update_threshold: 0.1,
        lifetime_threshold: Duration::from_secs(43_200),
        evict_after_oom: Duration::from_secs(600),
        skip_disruption_budget: false,
    };

    #[test]
    fn whoever_is_outside_the_range_is_due_and_the_most_urgent_comes_first() {
        let recommended =
            Recommendation { target: of(500, 1000), lower_bound: of(400, 800), upper_bound: of(800, 1600) };
        let pod = |cpu, memory| Pod { started: Time::ZERO, request: of(cpu, memory), quick_oom: false };
        let pods = [
            pod(500, 1000),
            pod(2000, 1000), // 75 % too much
            pod(300, 1000),  // 67 % too little
            pod(800, 800),   // at the bounds
            pod(100, 1000),  // 400 % too little
            pod(500, 0),     // asks for no memory: infinitely little
        ];
        let hour = Time::from_secs(3600);
        assert_eq!(UPDATER.due(hour, &pods, &recommended, true), [5, 4, 2, 1]);
        assert_eq!(UPDATER.due(hour, &pods, &recommended, false), [4, 2, 1]);
        // After twelve hours ten percent are enough: 3 is 37.5 % + 25 % off and has to grow in memory.
        let day = Time::from_secs(43_200);
        assert_eq!(UPDATER.due(day, &pods, &recommended, true), [5, 4, 2, 3, 1]);
        // A quick kill needs no range, but a change.
        let mut killed = [pods[3], pods[0]];
        for pod in &mut killed {
            pod.quick_oom = true;
        }
        assert_eq!(UPDATER.due(hour, &killed, &recommended, true), [0]);
    }

    #[test]
    fn half_may_be_missing_and_the_last_one_never() {
        let disturbed = |wanted, running, tolerance| {
            let mut group = Updater { eviction_tolerance: tolerance, ..UPDATER }.group(wanted, running);
            while group.may_disturb() {
                group.disturbed();
            }
            group.disturbed
        };
        assert_eq!(disturbed(4, 4, 0.5), 2);
        assert_eq!(disturbed(5, 5, 0.5), 2, "rounded down");
        assert_eq!(disturbed(4, 3, 0.5), 1, "one is missing already");
        assert_eq!(disturbed(4, 2, 0.5), 0);
        assert_eq!(disturbed(2, 2, 0.5), 1);
        assert_eq!(disturbed(3, 3, 0.2), 1, "too few for any tolerance: one, if all are there");
        assert_eq!(disturbed(3, 2, 0.2), 0);
        assert_eq!(disturbed(1, 1, 0.5), 0, "fewer than min-replicas");
    }

    #[test]
    fn limits_keep_their_proportion() {
        assert_eq!(proportional(2000, 500, 800), 3200);
        assert_eq!(proportional(500, 500, 333), 333);
        assert_eq!(proportional(1000, 300, 100), 333);
        assert_eq!(proportional(1000, 0, 100), 100);
        assert_eq!(proportional(i64::MAX - 1, 1, 100), i64::MAX);
    }
}
