//! The emptiest node of the zone with the fewest instances of the service: what a person would do.
//!
//! ## What it does
//! A node passes by the filters of the kube-scheduler: room for the requests, number of instances, anti-affinity, zone
//! skew. Of those it takes the ones whose zone has the fewest instances of the service, of those the one with the most free
//! CPU, of those the first.
//!
//! ## When it helps
//! It draws nothing and weighs nothing, so a placement can be worked out on paper. It is the default.
//!
//! ## How it fails
//! * Zones come before room: a zone with few nodes is filled to the last core while others are empty.
//! * It does not look at how many instances of the service are on the node, at memory or at images.
//! * Like all spreading it leaves no node empty for a cluster autoscaler to remove.
//!
//! ## Settings
//! None.
//!
//! ## Origin
//! simlab's own; the order of its rules is that of a spread constraint over zones before least-allocated scoring.
//!
//! ## Deliberate differences
//! None.

use schemars::JsonSchema;
use serde::Deserialize;

use super::kube::fits_request;
use super::{NodeView, PodRequest, Scheduler};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::Time;

/// Settings of [`Spread`]: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SpreadSettings {}

/// See the module documentation.
#[derive(Clone, Debug, Default)]
pub struct Spread {
    /// By zone: instances of the service, and whether a node there is open to it.
    zones: Vec<(u32, bool)>,
}

impl Algorithm for Spread {
    type Settings = SpreadSettings;

    fn new(_settings: &SpreadSettings, _now: Time) -> Self {
        Self::default()
    }
}

impl Scheduler for Spread {
    fn place(&mut self, pod: &PodRequest, nodes: &[NodeView], _rng: &mut Rng) -> Option<usize> {
        self.zones.fill((0, false));
        for node in nodes {
            let zone = node.zone as usize;
            if zone >= self.zones.len() {
                self.zones.resize(zone + 1, (0, false));
            }
            self.zones[zone].0 += node.same;
            self.zones[zone].1 |= node.eligible;
        }
        let open = self.zones.iter().filter(|(_, open)| *open);
        let emptiest = open.map(|(same, _)| *same).min().unwrap_or(0);
        let mut best: Option<(usize, u32, i64)> = None;
        for (at, node) in nodes.iter().enumerate() {
            let in_zone = self.zones[node.zone as usize].0;
            let free = node.allocatable.cpu_milli - node.requested.cpu_milli;
            if best.is_some_and(|(_, least, most)| in_zone > least || in_zone == least && free <= most) {
                continue;
            }
            if node.eligible && pod.may_join(node, in_zone, emptiest) && fits_request(pod.request, node) {
                best = Some((at, in_zone, free));
            }
        }
        best.map(|(at, ..)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::scheduler::AntiAffinity;
    use crate::policies::view::Resources;
    use crate::random::Key;

    fn node(zone: u32, free_milli: i64, same: u32) -> NodeView {
        let allocatable = Resources { cpu_milli: 4000, memory: 1 << 30 };
        let requested = Resources { cpu_milli: 4000 - free_milli, memory: 0 };
        NodeView {
            eligible: true,
            allocatable,
            max_pods: 110,
            requested,
            non_zero_requested: requested,
            pods: same,
            zone,
            same,
            has_image: false,
        }
    }

    fn place(pod: &PodRequest, nodes: &[NodeView]) -> Option<usize> {
        let mut rng = Key::new(1).rng();
        Spread::default().place(pod, nodes, &mut rng)
    }

    #[test]
    fn zones_come_first_then_free_cpu_then_order() {
        let pod = PodRequest {
            request: Resources { cpu_milli: 1000, memory: 0 },
            containers: 1,
            image: 0,
            anti_affinity: AntiAffinity::None,
            zone_max_skew: None,
        };
        let nodes = [node(0, 4000, 1), node(1, 2000, 0), node(1, 3000, 0), node(1, 3000, 0)];
        assert_eq!(place(&pod, &nodes), Some(2));
        // Without room in the emptier zone the other one has to do, unless the skew forbids it.
        let nodes = [node(0, 4000, 1), node(1, 500, 0)];
        assert_eq!(place(&pod, &nodes), Some(0));
        assert_eq!(place(&PodRequest { zone_max_skew: Some(1), ..pod }, &nodes), None);
        let apart = PodRequest { anti_affinity: AntiAffinity::Zone, ..pod };
        assert_eq!(place(&apart, &[node(0, 4000, 0), node(0, 3000, 1), node(1, 1000, 0)]), Some(2));
        let apart = PodRequest { anti_affinity: AntiAffinity::Node, ..pod };
        assert_eq!(place(&apart, &[node(0, 4000, 1), node(0, 1000, 0)]), Some(1));
    }
}
