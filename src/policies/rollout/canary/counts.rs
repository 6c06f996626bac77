//! Sizes of the two versions at a weight (`utils/replicaset/canary.go`).

use crate::policies::rollout::ReplicaSet;
use crate::policies::rollout::rolling::Limits;

/// The closest sizes of canary and stable for a weight out of `max_weight`; with a surge their sum may be one more than
/// `replicas` (`approximateWeightedCanaryStableReplicaCounts`).
pub fn approximate(replicas: u32, weight: u32, max_weight: u32, surge: bool) -> (u32, u32) {
    if replicas == 0 {
        return (0, 0);
    }
    let exact = f64::from(replicas) * f64::from(weight) / f64::from(max_weight);
    let (up, down) = (exact.ceil() as u32, exact.floor() as u32);
    // Both sides get somebody, unless the weight or the size says otherwise.
    let zero_allowed = weight == max_weight || weight == 0 || (replicas == 1 && !surge);
    let tied = |total: u32| (f64::from(total) * (f64::from(weight) / f64::from(max_weight))).fract() == 0.5;
    let mut options = [None; 4];
    if up < replicas || zero_allowed {
        options[0] = Some((up, replicas));
    }
    if !tied(replicas) && (down != 0 || zero_allowed) {
        options[1] = Some((down, replicas));
    }
    if surge {
        options[2] = Some((up, replicas + 1));
        if !tied(replicas + 1) && (down != 0 || zero_allowed) {
            options[3] = Some((down, replicas + 1));
        }
    }
    let delta = |(canary, total): (u32, u32)| {
        (f64::from(canary * max_weight) / f64::from(total) - f64::from(weight)).abs()
    };
    let mut best = None;
    for option in options.into_iter().flatten() {
        // The first of several equally close ones stays.
        if best.is_none_or(|best| delta(option) < delta(best)) {
            best = Some(option);
        }
    }
    best.map_or((0, replicas), |(canary, total)| (canary, total - canary))
}

/// Sizes of canary and stable in the next pass, without traffic routing: towards the approximation, within surge and
/// unavailability (`CalculateReplicaCountsForBasicCanary`). `desired` are the sizes to end with; without a stable version
/// that is not the canary itself, `stable` is `None`. `older` is the size of all other versions.
pub fn basic(
    replicas: u32,
    desired: (u32, u32),
    limits: Limits,
    canary: &ReplicaSet,
    stable: Option<&ReplicaSet>,
    older: u32,
) -> (u32, u32) {
    let (desired_canary, desired_stable) = (i64::from(desired.0), i64::from(desired.1));
    let (canary_spec, stable_spec) =
        (i64::from(canary.spec), stable.map_or(0, |stable| i64::from(stable.spec)));
    let (mut new_count, mut stable_count) = (canary_spec, stable_spec);
    let max_allowed = i64::from(replicas) + limits.max_surge;
    let mut scale_up = max_allowed - (canary_spec + stable_spec + i64::from(older));
    if stable_spec < desired_stable && scale_up > 0 {
        stable_count = desired_stable.min(stable_spec + scale_up);
        scale_up -= stable_count - stable_spec;
    }
    if canary_spec < desired_canary && scale_up > 0 {
        new_count = desired_canary.min(canary_spec + scale_up);
    }
    let sizes = |new: i64, stable: i64| (new.max(0) as u32, stable.max(0) as u32);
    // Older versions go first.
    if older > 0 {
        return sizes(new_count, stable_count);
    }
    let is_increasing = desired_canary >= canary_spec;
    let to_scale_down = for_scale_down(canary, !is_increasing)
        + stable.map_or(0, |stable| for_scale_down(stable, is_increasing));
    let min_available = limits.min_available;
    if to_scale_down <= min_available {
        return sizes(new_count, stable_count);
    }
    let budget = to_scale_down - min_available;
    let within = Within { max_allowed, min_available };
    if !is_increasing {
        new_count = desired_canary.max(canary_spec - budget);
        let adjusted = stable.map(|stable| (stable, stable_count));
        let (drained, adjusted) = within.adjust((canary, new_count), adjusted);
        return sizes(drained, adjusted.unwrap_or(stable_count));
    }
    if let Some(stable) = stable {
        if stable_spec > desired_stable {
            stable_count = desired_stable.max(stable_spec - budget);
        }
        let (drained, adjusted) = within.adjust((stable, stable_count), Some((canary, new_count)));
        return sizes(adjusted.unwrap_or(new_count), drained);
    }
    sizes(new_count, stable_count)
}

/// Instances of a version that count when something is to be removed (`GetReplicasForScaleDown`).
fn for_scale_down(set: &ReplicaSet, ignore_availability: bool) -> i64 {
    // Those above the wanted size are going already.
    i64::from(if ignore_availability || set.spec < set.available { set.spec } else { set.available })
}

/// The bounds of both versions together.
struct Within {
    max_allowed: i64,
    min_available: i64,
}

impl Within {
    /// Trades the surge against the unavailability (`adjustReplicaWithinLimits`): the version being drained and its new
    /// size, the other one and its size; new sizes of both.
    fn adjust(&self, drain: (&ReplicaSet, i64), adjust: Option<(&ReplicaSet, i64)>) -> (i64, Option<i64>) {
        let (drain_set, drain_count) = drain;
        let Some((adjust_set, mut count)) = adjust else { return (drain_count, None) };
        let over = |count: i64| (count + drain_count - self.max_allowed).max(0);
        let available = i64::from(adjust_set.available);
        count -= over(count);
        let total_available = i64::from(drain_set.available).min(drain_count) + available.min(count);
        let extra = (available - count).max(0);
        let missing = (self.min_available - total_available).max(0);
        count += extra.min(missing);
        (drain_count - over(count), Some(count))
    }
}

/// Shares of the traffic that a router gives at present, out of the largest weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// To the canary.
    pub canary: u32,
    /// To the stable version.
    pub stable: u32,
}

/// What the sizes of a canary with traffic routing follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routed {
    /// Largest weight.
    pub max_weight: u32,
    /// The stable version shrinks as its traffic does.
    pub dynamic_stable_scale: bool,
    /// A version that has instances at all has so many.
    pub min_pods: u32,
    /// A size that was written down instead of following from the weight.
    pub fixed: Option<u32>,
    /// The rollout is given up.
    pub abort: bool,
}

impl Routed {
    /// Instances for a weight, rounded up (`trafficWeightToReplicas`).
    fn replicas(&self, replicas: u32, weight: u32) -> u32 {
        (f64::from(weight * replicas) / f64::from(self.max_weight)).ceil() as u32
    }

    /// `CheckMinPodsPerReplicaSet`.
    fn at_least(&self, replicas: u32, count: u32) -> u32 {
        if count == 0 { 0 } else { count.max(self.min_pods.min(replicas)) }
    }

    /// Sizes of canary and stable with a traffic router, for the desired weight and the present ones
    /// (`CalculateReplicaCountsForTrafficRoutedCanary`).
    pub fn counts(&self, replicas: u32, desired: u32, weights: Option<Weights>) -> (u32, u32) {
        let mut canary =
            self.fixed.unwrap_or_else(|| self.at_least(replicas, self.replicas(replicas, desired)));
        if !self.dynamic_stable_scale {
            return (canary, replicas);
        }
        let mut stable = self.replicas(replicas, self.max_weight - desired);
        if let Some(weights) = weights {
            stable = stable.max(self.replicas(replicas, weights.stable));
            if self.abort {
                // Not before its traffic is gone.
                canary = canary.max(self.replicas(replicas, weights.canary));
            }
        }
        (self.at_least(replicas, canary), self.at_least(replicas, stable))
    }

    /// Weight to size for while an abort goes on with a stable version that grows again: the next one down the list of
    /// `set_weights`, and at last 0, for which there are not yet enough stable instances; the present one if there are
    /// (`GetDesiredCanaryWeight`).
    pub fn abort_weight(
        &self,
        replicas: u32,
        set_weights: impl DoubleEndedIterator<Item = u32>,
        present: u32,
        stable_available: u32,
    ) -> u32 {
        let lower = set_weights.rev().chain([0]).filter(|&weight| weight < present);
        let missing = |&weight: &u32| stable_available < self.replicas(replicas, self.max_weight - weight);
        let mut lower = lower.filter(missing);
        lower.next().unwrap_or(present)
    }
}
