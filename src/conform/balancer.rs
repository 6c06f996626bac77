//! Adapters for the balancer vectors.

use serde_json::Value;

use super::{Adapter, Check, SCHEMA_IN_OUT, close, field, integer, list, number, same, text, verdict};
use crate::policies::Algorithm;
use crate::policies::balancer::least_request::{host_weight, pick_full_scan, pick_n_choices};
use crate::policies::balancer::p2c::{self, Status};
use crate::policies::balancer::smooth_weighted_round_robin::{
    SmoothWeightedRoundRobin, SmoothWeightedRoundRobinSettings,
};
use crate::policies::balancer::{AnyBalancer, Balancer};
use crate::policies::view::{Class, Endpoints, Outcome, RequestHead, Slot};
use crate::random::{Playback, Rng};
use crate::time::{Duration, Time};

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[
    Adapter {
        schema: SCHEMA_IN_OUT,
        family: "nginx.smooth_weighted_round_robin",
        algorithm: "balancer.smooth-weighted-round-robin",
        run: |_, case| verdict(nginx(case)),
    },
    Adapter {
        schema: SCHEMA_IN_OUT,
        family: "envoy.least_request",
        algorithm: "balancer.least-request",
        run: |file, case| verdict(envoy(file, case)),
    },
    Adapter {
        schema: SCHEMA_IN_OUT,
        family: "finagle.p2c_pick",
        algorithm: "balancer.p2c",
        run: |_, case| verdict(finagle(case)),
    },
];

fn nginx(case: &Value) -> Result<Check, String> {
    let (input, out) = (field(case, "in")?, field(case, "out")?);
    // The recorded clock starts at 1000 s.
    let mut now = Time::from_secs(1000);
    let mut endpoints = Endpoints::default();
    let mut servers = Vec::new();
    for (i, peer) in (0..).zip(list(field(input, "peers")?)?) {
        endpoints.weight.push(integer(field(peer, "weight")?)? as u32);
        endpoints.active.push(0);
        if field(peer, "down")? != true {
            endpoints.eligible.push(Slot(i));
        }
        servers.push(SmoothWeightedRoundRobinSettings {
            max_conns: integer(field(peer, "max_conns")?)? as u32,
            max_fails: integer(field(peer, "max_fails")?)? as u32,
            fail_timeout: Duration::from_secs(integer(field(peer, "fail_timeout_s")?)?),
        });
    }
    let mut policy = SmoothWeightedRoundRobin::new(&SmoothWeightedRoundRobinSettings::default(), now);
    policy.on_update(now, &endpoints);
    for (i, server) in (0..).zip(&servers) {
        policy.set_server(Slot(i), server);
    }

    // nginx draws nothing.
    let mut rng = Rng::playback(Playback::default());
    let mut expected = list(field(out, "picks")?)?.iter();
    for (number, event) in list(field(input, "events")?)?.iter().enumerate() {
        let event = list(event)?;
        let (Some(op), argument) = (event.first(), event.get(1)) else {
            return Err(format!("event {number} is empty"));
        };
        let argument = || integer(argument.ok_or_else(|| format!("event {number} lacks its argument"))?);
        match text(op)? {
            "pick" => {
                let expected = match expected.next() {
                    Some(Value::Null) => None,
                    Some(peer) => Some(integer(peer)?),
                    None => return Err("there are more picks than expected ones".to_owned()),
                };
                let picked = policy.pick(now, &RequestHead::default(), &endpoints, &mut rng);
                same(&format!("event {number}"), &expected, &picked.map(|slot| u64::from(slot.0)))?;
                if let Some(slot) = picked {
                    endpoints.active[slot.0 as usize] += 1;
                }
            }
            op @ ("ok" | "fail") => {
                let slot = Slot(argument()? as u32);
                let active = endpoints
                    .active
                    .get_mut(slot.0 as usize)
                    .filter(|active| **active > 0)
                    .ok_or_else(|| format!("event {number} ends a request that was never sent"))?;
                *active -= 1;
                let class = if op == "ok" { Class::Success } else { Class::Failure };
                policy.on_outcome(now, slot, &Outcome::new(class, Duration::ZERO));
            }
            "advance_s" => now += Duration::from_secs(argument()?),
            op => return Err(format!("event {number} is the unknown `{op}`")),
        }
    }
    Ok(Check::Passed)
}

fn envoy(file: &Value, case: &Value) -> Result<Check, String> {
    let (input, out) = (field(case, "in")?, field(case, "out")?);
    let op = text(field(input, "op")?)?;
    if op == "weight" {
        let tolerance = file.pointer("/tolerance/rel").and_then(Value::as_f64).unwrap_or(0.0);
        let weight = host_weight(
            integer(field(input, "weight")?)? as u32,
            integer(field(input, "active")?)?,
            number(field(input, "active_request_bias")?)?,
        );
        close("effective weight", number(field(out, "effective_weight")?)?, weight, tolerance)?;
        return Ok(Check::Passed);
    }
    let active = integers(field(input, "active")?)?;
    let draws = integers(field(input, "draws")?)?;
    if active.is_empty() {
        return Err("there are no hosts".to_owned());
    }
    let recorded = draws.len();
    let mut rng = Rng::playback(Playback { integers: draws.into(), ..Playback::default() });
    let load = |i: usize| active[i] as u32;
    let host = match op {
        "n_choices" => {
            let choice_count = integer(field(input, "choice_count")?)? as u32;
            if recorded < choice_count as usize {
                return Err(format!("{recorded} draws are recorded for {choice_count} choices"));
            }
            pick_n_choices(active.len(), choice_count, load, &mut rng)
        }
        "full_scan" => {
            if recorded + 1 < active.len() {
                return Err(format!("{recorded} draws are recorded for {} hosts", active.len()));
            }
            pick_full_scan(active.len(), load, &mut rng)
        }
        op => return Err(format!("`{op}` is no known operation")),
    };
    same("host", &integer(field(out, "host")?)?, &(host as u64))?;
    Ok(Check::Passed)
}

fn finagle(case: &Value) -> Result<Check, String> {
    let (input, out) = (field(case, "in")?, field(case, "out")?);
    let statuses = list(field(input, "status")?)?
        .iter()
        .map(|status| match text(status)? {
            "open" => Ok(Status::Open),
            "busy" => Ok(Status::Busy),
            "closed" => Ok(Status::Closed),
            status => Err(format!("`{status}` is no known status")),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let loads = list(field(input, "load")?)?.iter().map(number).collect::<Result<Vec<_>, _>>()?;
    let n = statuses.len() as u32;
    if n == 0 || loads.len() != statuses.len() {
        return Err("every node needs a status and a load".to_owned());
    }
    let mut playback = Playback::default();
    if n > 1 {
        let (a, b) = (integer(field(input, "a")?)?, integer(field(input, "b")?)?);
        if a >= u64::from(n) || b >= u64::from(n) - 1 {
            return Err("a draw is out of range".to_owned());
        }
        playback.integers.extend([a, b]);
    }
    let expected = integer(field(out, "node")?)?;
    let mut rng = Rng::playback(playback.clone());
    let node = p2c::pick(n, &mut rng, |i| statuses[i as usize], |i| loads[i as usize]);
    same("node", &expected, &u64::from(node))?;

    // Where all nodes are open and the loads are counts, the balancer itself must say the same.
    let counts =
        loads.iter().map(|&load| (load.fract() == 0.0).then_some(load as u32)).collect::<Option<Vec<_>>>();
    if let Some(active) = counts.filter(|_| statuses.iter().all(|&status| status == Status::Open)) {
        let endpoints = Endpoints { active, ..Endpoints::uniform(n) };
        let mut policy = AnyBalancer::P2c(p2c::P2c);
        let picked =
            policy.pick(Time::ZERO, &RequestHead::default(), &endpoints, &mut Rng::playback(playback));
        same("slot", &Some(expected), &picked.map(|slot| u64::from(slot.0)))?;
    }
    Ok(Check::Passed)
}

fn integers(value: &Value) -> Result<Vec<u64>, String> {
    list(value)?.iter().map(integer).collect()
}
