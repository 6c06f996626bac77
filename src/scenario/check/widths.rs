//! What the world numbers with few bits. Nobody should ever meet these bounds; whoever does is told, not truncated.

use std::collections::BTreeSet;

use super::Check;
use crate::policies::detector::Detector as _;
use crate::scenario::error::Diagnostic;
use crate::scenario::model::{Arrivals, Call, Edge, Scenario, Step};
use crate::time::{Duration, Time};

/// Steps of all programs together, with what `cache`, `pool` and handshakes add.
const MOST_STEPS: usize = 65_000;
/// Calls in the `parallel` steps of one program.
const MOST_CALLS: usize = 60_000;
/// Different timeouts and deadlines.
const MOST_TIMEOUTS: usize = 250;
/// Services that rollouts update.
const MOST_UPDATED: usize = 8;
/// Versions of one service.
const MOST_VERSIONS: usize = 250;
/// Side-cars of one service.
const MOST_SIDECARS: usize = 4;
/// Zones.
const MOST_ZONES: usize = 60_000;
/// Users of all closed loops together.
const MOST_USERS: usize = 1 << 24;

impl Check<'_> {
    pub(super) fn widths(&mut self, scenario: &Scenario) {
        let of_services = scenario
            .services
            .iter()
            .flat_map(|service| service.endpoints.iter().map(|endpoint| endpoint.steps.as_slice()));
        let of_sources = scenario.sources.iter().map(|source| source.steps.as_slice());
        let programs: Vec<&[Step]> = of_services.chain(of_sources).collect();
        let wraps = |step: &&Step| matches!(step, Step::Cache(_) | Step::Pool(_));
        let steps: usize =
            programs.iter().map(|steps| steps.len() + steps.iter().filter(wraps).count() + 1).sum();
        let sidecars =
            scenario.services.iter().map(|service| service.endpoints.len() * service.sidecars.len() * 2);
        let edges = || {
            let of_services = scenario.services.iter().flat_map(|service| &service.edges);
            of_services.chain(scenario.sources.iter().flat_map(|source| &source.edges))
        };
        // Two handshakes of two steps each.
        let encrypted = |edge: &&Edge| edge.connections.as_ref().is_some_and(|kept| kept.tls.is_some());
        let handshakes = 4 * edges().filter(encrypted).count();
        // A probe or a check has at most a step and an end of its own.
        let probes: usize = scenario.services.iter().map(|service| service.probes.len()).sum();
        let probes = 2 * (probes + edges().count());
        // Locks and logs.
        let participants: usize = scenario.transactions.iter().map(|one| 4 * one.participants.len()).sum();
        let probes = probes + participants;
        self.no_more(steps + sidecars.sum::<usize>() + handshakes + probes, MOST_STEPS, "steps");
        let sidecars = scenario.services.iter().map(|service| service.sidecars.len()).max();
        self.no_more(sidecars.unwrap_or(0), MOST_SIDECARS, "side-cars of one service");
        let widest = programs.iter().map(|steps| steps.iter().map(width).sum()).max();
        self.no_more(widest.unwrap_or(0), MOST_CALLS, "parallel calls of one endpoint");
        let mut timeouts: BTreeSet<Duration> = programs
            .iter()
            .flat_map(|steps| steps.iter())
            .flat_map(calls)
            .filter_map(|call| call.timeout)
            .collect();
        timeouts.extend(scenario.sources.iter().filter_map(|source| source.deadline));
        timeouts.extend(scenario.topics.iter().map(|topic| topic.ack_timeout));
        let probes = scenario.services.iter().flat_map(|service| &service.probes);
        timeouts.extend(probes.map(|probe| probe.settings.timeout()));
        let edges = scenario.services.iter().flat_map(|service| &service.edges);
        let edges = edges.chain(scenario.sources.iter().flat_map(|source| &source.edges));
        let checks = edges.filter_map(|edge| edge.health_check.as_ref());
        timeouts.extend(checks.map(|check| check.detector.build(Time::ZERO).timeout()));
        self.no_more(timeouts.len(), MOST_TIMEOUTS, "different timeouts and deadlines");
        let of_services = scenario.services.iter().flat_map(|service| &service.edges);
        let edges = of_services.chain(scenario.sources.iter().flat_map(|source| &source.edges));
        let of_levels: BTreeSet<Duration> =
            edges.flat_map(|edge| &edge.levels).filter_map(|level| level.timeout).collect();
        self.no_more(of_levels.len(), MOST_TIMEOUTS, "different timeouts of levels");
        let updated: BTreeSet<usize> = scenario.rollouts.iter().map(|rollout| rollout.service).collect();
        self.no_more(updated.len(), MOST_UPDATED, "services with rollouts");
        let versions = scenario.services.iter().map(|service| service.versions.len()).max();
        self.no_more(versions.unwrap_or(0), MOST_VERSIONS, "versions of one service");
        self.no_more(scenario.zones.len(), MOST_ZONES, "zones");
        let users = scenario.sources.iter().map(|source| match &source.arrivals {
            Arrivals::Users(users) => users.count as usize,
            _ => 0,
        });
        self.no_more(users.sum(), MOST_USERS, "users of closed loops");
    }

    fn no_more(&mut self, number: usize, most: usize, what: &str) {
        if number > most {
            self.errors.push(Diagnostic::new(format!(
                "{number} {what} are more than the {most} that a scenario may have"
            )));
        }
    }
}

/// Calls that a step makes at once, if it is `parallel`.
fn width(step: &Step) -> usize {
    if let Step::Parallel { calls, .. } = step { calls.len() } else { 0 }
}

fn calls(step: &Step) -> Vec<&Call> {
    match step {
        Step::Call(call) => vec![call],
        Step::Choose(shares) => shares.iter().map(|(_, call)| call).collect(),
        Step::Route { calls, .. } | Step::Parallel { calls, .. } => calls.iter().collect(),
        Step::Transaction { calls, .. } => calls.iter().flatten().flatten().collect(),
        Step::Cpu(_) | Step::Wait(_) | Step::Cache(_) | Step::Pool(_) | Step::Publish { .. } => Vec::new(),
    }
}
