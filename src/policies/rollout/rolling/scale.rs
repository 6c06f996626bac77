//! A change of the wanted number while a rollout is under way (upstream: `sync.go`, `isScalingEvent` and `scale`).

use super::RollingSettings;
use crate::policies::rollout::{ReplicaSet, spec_sum};

/// What the controller wrote on a set when it last scaled it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// Wanted replicas at that time.
    pub desired: Option<u32>,
    /// Wanted replicas plus surge at that time.
    pub max: Option<u32>,
}

/// Whether the wanted number has changed since a set that has instances was scaled (`isScalingEvent`).
pub fn is_scaling_event(replicas: u32, sets: &[ReplicaSet], annotations: &[Annotations]) -> bool {
    let active = sets.iter().zip(annotations).filter(|(set, _)| set.spec > 0);
    active.filter_map(|(_, noted)| noted.desired).any(|desired| desired != replicas)
}

/// Spreads the change over the sets that have instances, in proportion to their size, so that the mix of versions stays.
///
/// `sets` are in the order of their age; `annotations` are theirs, and are written anew on those that were looked at one by
/// one, whether or not their size changes; `status_replicas` stands in where a set has none.
pub fn proportional_scale(
    settings: &RollingSettings,
    replicas: u32,
    sets: &mut [ReplicaSet],
    annotations: &mut [Annotations],
    status_replicas: u32,
) {
    let active: Vec<usize> = (0..sets.len()).filter(|&set| sets[set].spec > 0).collect();
    let new = sets.iter().position(|set| set.is_new);
    // One version alone takes the whole change; without any instance the new version does, or else the latest.
    match active[..] {
        [] => {
            if let Some(set) = new.or_else(|| sets.len().checked_sub(1)) {
                sets[set].spec = replicas;
            }
            return;
        }
        [set] => {
            sets[set].spec = replicas;
            return;
        }
        _ => {}
    }
    // The new version is complete: what is left of the old ones can go.
    if new.is_some_and(|new| {
        sets[new].spec == replicas
            && annotations[new].desired == Some(replicas)
            && sets[new].available == replicas
    }) {
        for old in sets.iter_mut().filter(|set| !set.is_new) {
            old.spec = 0;
        }
        return;
    }

    let surge = settings.limits(replicas).max_surge;
    let allowed = if replicas > 0 { i64::from(replicas) + surge } else { 0 };
    let to_add = allowed - i64::from(spec_sum(sets, |_| true));
    if to_add != 0 {
        spread(replicas, surge, to_add, sets, &active, annotations, status_replicas);
    }
    let max = (i64::from(replicas) + surge).try_into().ok();
    for set in active {
        annotations[set] = Annotations { desired: Some(replicas), max };
    }
}

/// Deals `to_add` (or takes that many away) over the active sets.
fn spread(
    replicas: u32,
    surge: i64,
    to_add: i64,
    sets: &mut [ReplicaSet],
    active: &[usize],
    annotations: &[Annotations],
    status_replicas: u32,
) {
    // The largest first; of equals the newer when growing, the older when shrinking.
    let mut order = active.to_vec();
    order.sort_by(|&a, &b| {
        let by_age = if to_add > 0 { b.cmp(&a) } else { a.cmp(&b) };
        sets[b].spec.cmp(&sets[a].spec).then(by_age)
    });
    let mut sizes = Vec::with_capacity(order.len());
    let mut added = 0;
    for &set in &order {
        let spec = i64::from(sets[set].spec);
        let fraction = if replicas == 0 {
            -spec
        } else {
            let annotated = annotations[set].max.unwrap_or(status_replicas);
            let size = (spec * (i64::from(replicas) + surge)) as f64 / f64::from(annotated);
            // Rounds halves away from zero.
            size.round() as i64 - spec
        };
        let left = to_add - added;
        let proportion = if to_add > 0 { fraction.min(left) } else { fraction.max(left) };
        added += proportion;
        sizes.push(spec + proportion);
    }
    // What rounding left over goes to the largest.
    sizes[0] = (sizes[0] + to_add - added).max(0);
    for (&set, &size) in order.iter().zip(&sizes) {
        sets[set].spec = size.max(0) as u32;
    }
}
