//! Calls that go round in no time at all: a run would never get past that instant.
//!
//! An endpoint's *immediate* calls are those made before any of its steps can have taken time. If the expected number of
//! immediate calls round a cycle is one or more (the spectral radius of the matrix of expected calls), the cycle feeds
//! itself for ever at one instant. Below one it dies out and is legal.

use super::model::{EndpointRef, Scenario, Step};

/// Endpoints of a cycle without time, in calling order; `None` if there is none.
pub(super) fn timeless_cycle(scenario: &Scenario) -> Option<Vec<EndpointRef>> {
    if messages_take_time(scenario) {
        return None;
    }
    let endpoints: Vec<EndpointRef> = scenario
        .services
        .iter()
        .enumerate()
        .flat_map(|(service, spec)| {
            (0..spec.endpoints.len()).map(move |endpoint| EndpointRef { service, endpoint })
        })
        .collect();
    let position =
        |to: EndpointRef| endpoints.binary_search(&to).expect("every call goes to an endpoint that exists");
    let steps = |at: usize| &scenario.services[endpoints[at].service].endpoints[endpoints[at].endpoint].steps;
    let timed = takes_time(scenario, endpoints.len(), &steps, &position);
    let calls: Vec<Vec<(usize, f64)>> =
        (0..endpoints.len()).map(|at| immediate_calls(scenario, steps(at), &timed, &position).0).collect();
    let groups = strongly_connected(&calls);
    let cycle = groups.iter().find(|group| growth(group, &calls) >= 1.0 - 1e-9)?;
    Some(round(cycle, &calls).into_iter().map(|at| endpoints[at]).collect())
}

/// Whether a journey from a source always takes some time; if not, users without think time never let a run advance.
pub(super) fn journey_takes_time(scenario: &Scenario, journey: &[Step]) -> bool {
    let mut open = Vec::new();
    messages_take_time(scenario)
        || scenario.network.outside.mean() > 0.0
            && journey.iter().any(|step| !targets(scenario, step).is_empty())
        || journey.iter().any(|step| step_takes_time(scenario, step, &mut open))
}

fn step_takes_time(scenario: &Scenario, step: &Step, open: &mut Vec<EndpointRef>) -> bool {
    own_time(step)
        || targets(scenario, step).into_iter().any(|(to, weight)| {
            if weight <= 0.0 || open.contains(&to) {
                return false;
            }
            open.push(to);
            let steps = &scenario.services[to.service].endpoints[to.endpoint].steps;
            steps.iter().any(|step| step_takes_time(scenario, step, open))
        })
}

/// Whether every message between instances is delayed.
fn messages_take_time(scenario: &Scenario) -> bool {
    let network = &scenario.network;
    network.same_zone.mean() > 0.0 && (scenario.zones.len() < 2 || network.cross_zone.mean() > 0.0)
}

fn own_time(step: &Step) -> bool {
    match step {
        Step::Cpu(demand) | Step::Wait(demand) => {
            demand.request.mean() > 0.0 && demand.attempt.as_ref().is_none_or(|attempt| attempt.mean() > 0.0)
        }
        _ => false,
    }
}

/// Called endpoints with the expected number of calls.
fn targets(scenario: &Scenario, step: &Step) -> Vec<(EndpointRef, f64)> {
    match step {
        Step::Call(call) => vec![(call.to, call.probability)],
        Step::Choose(branches) => branches.iter().map(|(share, call)| (call.to, *share)).collect(),
        // What a request carries never changes, so each rule may be the one that always holds.
        Step::Route { calls, .. } | Step::Parallel { calls, .. } => {
            calls.iter().map(|call| (call.to, 1.0)).collect()
        }
        Step::Transaction { calls, .. } => {
            calls.iter().filter_map(|roles| roles[0].as_ref()).map(|call| (call.to, 1.0)).collect()
        }
        // Whoever publishes does not wait, but what it sets off begins at the same instant.
        Step::Publish { topic, probability } => scenario.topics[*topic]
            .consumers
            .iter()
            .map(|consumer| (consumer.endpoint, *probability))
            .collect(),
        _ => Vec::new(),
    }
}

/// Endpoints that can take time, by themselves or by what they call: a least fixed point.
fn takes_time<'a>(
    scenario: &Scenario,
    count: usize,
    steps: &impl Fn(usize) -> &'a Vec<Step>,
    position: &impl Fn(EndpointRef) -> usize,
) -> Vec<bool> {
    let mut timed = vec![false; count];
    loop {
        let before = timed.clone();
        for (at, timed) in timed.iter_mut().enumerate() {
            *timed |= immediate_calls(scenario, steps(at), &before, position).1;
        }
        if timed == before {
            return timed;
        }
    }
}

/// Calls made before time can have passed, and whether time can pass in the end.
fn immediate_calls(
    scenario: &Scenario,
    steps: &[Step],
    timed: &[bool],
    position: &impl Fn(EndpointRef) -> usize,
) -> (Vec<(usize, f64)>, bool) {
    let mut calls: Vec<(usize, f64)> = Vec::new();
    for step in steps {
        let mut passes = own_time(step);
        for (to, weight) in targets(scenario, step).into_iter().filter(|(_, weight)| *weight > 0.0) {
            let at = position(to);
            match calls.iter_mut().find(|(known, _)| *known == at) {
                Some((_, sum)) => *sum += weight,
                None => calls.push((at, weight)),
            }
            passes |= timed[at];
        }
        if passes {
            return (calls, true);
        }
    }
    (calls, false)
}

/// Groups of endpoints that can all reach one another, each with a cycle in it. Depth-first over the graph and then over
/// its reverse (Kosaraju), without recursion.
fn strongly_connected(calls: &[Vec<(usize, f64)>]) -> Vec<Vec<usize>> {
    let forward: Vec<Vec<usize>> = calls.iter().map(|out| out.iter().map(|(to, _)| *to).collect()).collect();
    let mut backward = vec![Vec::new(); calls.len()];
    for (from, out) in forward.iter().enumerate() {
        for to in out {
            backward[*to].push(from);
        }
    }
    let mut seen = vec![false; calls.len()];
    let mut finished = Vec::new();
    for start in 0..calls.len() {
        finished.extend(postorder(start, &forward, &mut seen));
    }
    seen.fill(false);
    let mut groups = Vec::new();
    for start in finished.into_iter().rev() {
        let group = postorder(start, &backward, &mut seen);
        let cyclic = group.len() > 1 || group.iter().any(|at| forward[*at].contains(at));
        if cyclic {
            groups.push(group);
        }
    }
    groups.sort_by_key(|group| group.iter().min().copied());
    groups
}

fn postorder(start: usize, graph: &[Vec<usize>], seen: &mut [bool]) -> Vec<usize> {
    let mut order = Vec::new();
    if seen[start] {
        return order;
    }
    seen[start] = true;
    let mut stack = vec![(start, 0)];
    while let Some((at, next)) = stack.pop() {
        match graph[at].get(next) {
            Some(&to) => {
                stack.push((at, next + 1));
                if !seen[to] {
                    seen[to] = true;
                    stack.push((to, 0));
                }
            }
            None => order.push(at),
        }
    }
    order
}

/// Spectral radius of the group's matrix of expected calls: power iteration on I + M, which has no periods, until the
/// Collatz-Wielandt bounds meet.
fn growth(group: &[usize], calls: &[Vec<(usize, f64)>]) -> f64 {
    let index = |at: usize| group.iter().position(|member| *member == at);
    let rows: Vec<Vec<(usize, f64)>> = group
        .iter()
        .map(|at| calls[*at].iter().filter_map(|(to, weight)| Some((index(*to)?, *weight))).collect())
        .collect();
    let mut vector = vec![1.0; group.len()];
    let mut upper = f64::INFINITY;
    for _ in 0..10_000 {
        let next: Vec<f64> = rows
            .iter()
            .zip(&vector)
            .map(|(row, own)| own + row.iter().map(|(to, weight)| weight * vector[*to]).sum::<f64>())
            .collect();
        let ratios = next.iter().zip(&vector).map(|(new, old)| new / old);
        let (low, high) =
            ratios.fold((f64::INFINITY, 0.0_f64), |(low, high), ratio| (low.min(ratio), high.max(ratio)));
        upper = high;
        if low >= 2.0 || high < 2.0 - 1e-9 || high - low < 1e-12 {
            break;
        }
        let largest = next.iter().copied().fold(0.0, f64::max);
        vector = next.into_iter().map(|value| value / largest).collect();
    }
    upper - 1.0
}

/// One way round the group, beginning with its first endpoint.
fn round(group: &[usize], calls: &[Vec<(usize, f64)>]) -> Vec<usize> {
    let start = group.iter().min().copied().unwrap_or_default();
    // Breadth first from the start until a call leads back to it.
    let mut from = vec![None; calls.len()];
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for (to, _) in calls[at].iter().filter(|(to, _)| group.contains(to)) {
            if *to == start {
                let mut path = vec![at];
                while let Some(before) = from[path[path.len() - 1]] {
                    path.push(before);
                }
                path.reverse();
                return path;
            }
            if from[*to].is_none() && *to != start {
                from[*to] = Some(at);
                queue.push_back(*to);
            }
        }
    }
    vec![start]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grows(calls: &[Vec<(usize, f64)>]) -> bool {
        strongly_connected(calls).iter().any(|group| growth(group, calls) >= 1.0 - 1e-9)
    }

    #[test]
    fn finds_cycles_that_feed_themselves() {
        assert!(grows(&[vec![(0, 1.0)]]));
        assert!(!grows(&[vec![(0, 0.9)]]));
        assert!(!grows(&[vec![(1, 5.0)], vec![]]));
        assert!(grows(&[vec![(1, 1.0)], vec![(2, 1.0)], vec![(0, 1.0)]]));
        // Half of the time, but ten calls each time.
        assert!(grows(&[vec![(1, 0.5)], vec![(0, 10.0)]]));
        assert!(!grows(&[vec![(1, 0.5)], vec![(0, 1.9)]]));
        // Two cycles through one endpoint, 0.5 each: exactly one.
        assert!(grows(&[vec![(1, 0.5), (2, 0.5)], vec![(0, 1.0)], vec![(0, 1.0)]]));
        assert!(!grows(&[vec![(1, 0.4), (2, 0.5)], vec![(0, 1.0)], vec![(0, 1.0)]]));
    }

    #[test]
    fn names_the_way_round() {
        let calls = [vec![(1, 1.0)], vec![(2, 1.0)], vec![(1, 1.0), (3, 1.0)], vec![]];
        let groups = strongly_connected(&calls);
        assert_eq!(groups.len(), 1);
        assert_eq!(round(&groups[0], &calls), [1, 2]);
    }
}
