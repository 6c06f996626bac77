//! Adapters for the balancer vectors.

use serde_json::Value;

use super::{Adapter, Check, SCHEMA_IN_OUT, close, field, integer, list, number, same, text, verdict};
use crate::policies::Algorithm;
use crate::policies::balancer::finagle_peak_ewma::Metric;
use crate::policies::balancer::least_conn::LeastConn;
use crate::policies::balancer::least_request::{host_weight, pick_full_scan, pick_n_choices};
use crate::policies::balancer::nginx_peers::ServerSettings;
use crate::policies::balancer::p2c::{self, Status};
use crate::policies::balancer::peak_ewma::RttEstimate;
use crate::policies::balancer::slow_start::SlowStart;
use crate::policies::balancer::smooth_weighted_round_robin::SmoothWeightedRoundRobin;
use crate::policies::balancer::{AnyBalancer, Balancer, Reading, maglev, prequal, ring_hash};
use crate::policies::view::{Class, Endpoints, Outcome, RequestHead, Slot};
use crate::random::{Playback, Rng};
use crate::time::{Duration, Time};
use crate::units::Share;

/// See the module documentation.
pub const ADAPTERS: &[Adapter] = &[
    Adapter {
        schema: SCHEMA_IN_OUT,
        family: "nginx.smooth_weighted_round_robin",
        algorithm: "balancer.smooth-weighted-round-robin",
        run: |_, case| {
            verdict(nginx(case, SmoothWeightedRoundRobin::new, SmoothWeightedRoundRobin::set_server))
        },
    },
    Adapter {
        schema: SCHEMA_IN_OUT,
        family: "nginx.least_conn",
        algorithm: "balancer.least-conn",
        run: |_, case| verdict(nginx(case, LeastConn::new, LeastConn::set_server)),
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
    Adapter {
        schema: SCHEMA_IN_OUT,
        family: "peak_ewma",
        algorithm: "balancer.peak-ewma",
        run: |file, case| verdict(peak_ewma(file, case)),
    },
    Adapter {
        schema: SCHEMA_IN_OUT,
        family: "envoy.ring_hash",
        algorithm: "balancer.ring-hash",
        run: |_, case| verdict(ring_hash(case)),
    },
    Adapter {
        schema: SCHEMA_IN_OUT,
        family: "envoy.maglev",
        algorithm: "balancer.maglev",
        run: |_, case| verdict(maglev(case)),
    },
    Adapter {
        schema: SCHEMA_IN_OUT,
        family: "envoy.maglev.choose_host",
        algorithm: "balancer.maglev",
        run: |_, case| verdict(maglev_retry(case)),
    },
    Adapter {
        schema: SCHEMA_IN_OUT,
        family: "envoy.slow_start",
        algorithm: "balancer.weighted-round-robin",
        run: |file, case| verdict(slow_start(file, case)),
    },
    Adapter {
        schema: SCHEMA_IN_OUT,
        family: "prequal.hcl",
        algorithm: "balancer.prequal",
        run: |file, case| verdict(hot_cold(file, case)),
    },
];

/// Both methods of an `upstream` block have the same peers.
fn nginx<P: Balancer>(
    case: &Value,
    new: impl Fn(&ServerSettings, Time) -> P,
    set_server: impl Fn(&mut P, Slot, &ServerSettings),
) -> Result<Check, String> {
    let (input, out) = (field(case, "in")?, field(case, "out")?);
    // The recorded clock starts at 1000 s.
    let mut now = Time::from_secs(1000);
    let mut endpoints = Endpoints::default();
    let mut servers = Vec::new();
    for (i, peer) in (0..).zip(list(field(input, "peers")?)?) {
        endpoints.grow(i as usize + 1);
        endpoints.weight[i as usize] = integer(field(peer, "weight")?)? as u32;
        if field(peer, "down")? != true {
            endpoints.eligible.push(Slot(i));
        }
        servers.push(ServerSettings {
            max_conns: integer(field(peer, "max_conns")?)? as u32,
            max_fails: peer.get("max_fails").map_or(Ok(1), integer)? as u32,
            fail_timeout: Duration::from_secs(peer.get("fail_timeout_s").map_or(Ok(10), integer)?),
        });
    }
    let mut policy = new(&ServerSettings::default(), now);
    policy.on_update(now, &endpoints);
    for (i, server) in (0..).zip(&servers) {
        set_server(&mut policy, Slot(i), server);
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

fn peak_ewma(file: &Value, case: &Value) -> Result<Check, String> {
    let (input, out) = (field(case, "in")?, field(case, "out")?);
    let tolerance = relative_tolerance(file);
    let decay_ns = number(field(input, "decay_ns")?)?;
    let mut tower = None;
    let mut finagle = None;
    match text(field(input, "impl")?)? {
        "tower" => {
            let default_rtt = Duration(integer(field(input, "default_rtt_ns")?)?);
            tower = Some(RttEstimate::new(default_rtt, Time::ZERO));
        }
        "finagle" => finagle = Some(Metric::default()),
        other => return Err(format!("`{other}` is no known form")),
    }
    let mut expected = list(field(out, "loads")?)?.iter();
    let mut started = std::collections::BTreeMap::new();
    for event in list(field(input, "events")?)? {
        let now = Time(integer(field(event, "t_ns")?)?);
        let op = text(field(event, "op")?)?;
        if op == "load" {
            let pending = started.len() as u32;
            let load = match (&mut tower, &mut finagle) {
                (Some(estimate), _) => estimate.load(now, pending, decay_ns),
                (None, Some(metric)) => metric.load(now, pending, decay_ns),
                (None, None) => unreachable!("one of both is there"),
            };
            let expected = expected.next().ok_or("there are more loads than expected ones")?;
            close("load", number(expected)?, load, tolerance)?;
            continue;
        }
        let id = integer(field(event, "id")?)?;
        if op == "start" {
            started.insert(id, now);
            continue;
        }
        let since = started.remove(&id).ok_or_else(|| format!("request {id} ends, but never began"))?;
        match (&mut tower, &mut finagle) {
            (Some(estimate), _) => {
                estimate.update(now, now - since, decay_ns);
            }
            (None, Some(metric)) => metric.observe(now, now - since, decay_ns),
            (None, None) => unreachable!("one of both is there"),
        }
    }
    Ok(Check::Passed)
}

/// Keys and weights.
fn hosts(input: &Value) -> Result<Vec<(String, u32)>, String> {
    let read = |host: &Value| match host {
        Value::String(key) => Ok((key.clone(), 1)),
        _ => Ok((text(field(host, "key")?)?.to_owned(), integer(field(host, "weight")?)? as u32)),
    };
    list(field(input, "hosts")?)?.iter().map(read).collect()
}

/// A 64-bit number in decimal digits.
fn hash(value: &Value) -> Result<u64, String> {
    let digits = text(value)?;
    digits.parse().map_err(|_| format!("`{digits}` is no 64-bit number"))
}

fn ring_hash(case: &Value) -> Result<Check, String> {
    let (input, out) = (field(case, "in")?, field(case, "out")?);
    let hosts = hosts(input)?;
    let (min, max) =
        (integer(field(input, "minimum_ring_size")?)?, integer(field(input, "maximum_ring_size")?)?);
    let ring = ring_hash::Ring::new(&hosts, min, max);
    same("entries", &integer(field(out, "entries")?)?, &(ring.places().len() as u64))?;
    let counts = counts(hosts.len(), ring.places().iter().map(|&(_, host)| host));
    same("min_hashes", &integer(field(out, "min_hashes")?)?, &counts.0)?;
    same("max_hashes", &integer(field(out, "max_hashes")?)?, &counts.1)?;
    if let Some(expected) = out.get("ring") {
        let read = |place: &Value| Ok((hash(field(place, "hash")?)?, integer(field(place, "host")?)? as u32));
        let expected = list(expected)?.iter().map(read).collect::<Result<Vec<_>, String>>()?;
        same("ring", &expected.as_slice(), &ring.places())?;
    }
    for pick in list(field(out, "picks")?)? {
        let (hash, attempt) = (hash(field(pick, "hash")?)?, integer(field(pick, "attempt")?)? as u32);
        let host = ring.choose_host(hash, attempt).map(u64::from);
        same(&format!("host of {hash}, attempt {attempt}"), &Some(integer(field(pick, "host")?)?), &host)?;
    }
    Ok(Check::Passed)
}

fn maglev(case: &Value) -> Result<Check, String> {
    let (input, out) = (field(case, "in")?, field(case, "out")?);
    let hosts = hosts(input)?;
    let table = maglev::Table::new(&hosts, integer(field(input, "table_size")?)? as u32);
    let entries: Vec<u64> = table.entries().iter().map(|&host| u64::from(host)).collect();
    same("table", &integers(field(out, "table")?)?, &entries)?;
    let counts = counts(hosts.len(), table.entries().iter().copied());
    same("min_entries", &integer(field(out, "min_entries")?)?, &counts.0)?;
    same("max_entries", &integer(field(out, "max_entries")?)?, &counts.1)?;
    Ok(Check::Passed)
}

fn maglev_retry(case: &Value) -> Result<Check, String> {
    let (input, out) = (field(case, "in")?, field(case, "out")?);
    let table = maglev::Table::new(&hosts(input)?, integer(field(input, "table_size")?)? as u32);
    let host = table.choose_host(hash(field(input, "hash")?)?, integer(field(input, "attempt")?)? as u32);
    same("host", &Some(integer(field(out, "host")?)?), &host.map(u64::from))?;
    Ok(Check::Passed)
}

/// Fewest and most entries of a host.
fn counts(hosts: usize, entries: impl Iterator<Item = u32>) -> (u64, u64) {
    let mut counts = vec![0; hosts];
    entries.for_each(|host| counts[host as usize] += 1);
    (counts.iter().copied().min().unwrap_or(0), counts.iter().copied().max().unwrap_or(0))
}

fn slow_start(file: &Value, case: &Value) -> Result<Check, String> {
    let (input, out) = (field(case, "in")?, field(case, "out")?);
    let slow = SlowStart {
        window: Duration::from_millis(integer(field(input, "slow_start_window_ms")?)?),
        aggression: number(field(input, "aggression")?)?,
        min_weight_percent: Share(number(field(input, "min_weight_percent")?)? / 100.0),
    };
    let ago = Duration::from_millis(integer(field(input, "time_since_healthy_ms")?)?);
    let weight = slow.apply(number(field(input, "weight")?)?, ago);
    close("weight", number(field(out, "weight")?)?, weight, relative_tolerance(file))?;
    Ok(Check::Passed)
}

fn hot_cold(file: &Value, case: &Value) -> Result<Check, String> {
    let (input, out) = (field(case, "in")?, field(case, "out")?);
    let optional = |value: &Value| if value.is_null() { Ok(None) } else { number(value).map(Some) };
    if input.get("op").is_some_and(|op| op == "reuse") {
        let given = |name: &str| number(field(input, name)?);
        let budget = prequal::reuse_budget(
            given("delta")?,
            given("pool_size")?,
            given("replicas")?,
            given("probes_per_query")?,
            given("removals_per_query")?,
        );
        match (optional(field(out, "b_reuse")?)?, budget) {
            (Some(expected), Some(budget)) => close("b_reuse", expected, budget, relative_tolerance(file))?,
            (expected, budget) => same("b_reuse", &expected, &budget)?,
        }
        return Ok(Check::Passed);
    }
    let read = |probe: &Value| {
        let latency = Duration::from_ns_f64(number(field(probe, "latency_ms")?)? * 1e6);
        Ok(Reading { rif: integer(field(probe, "rif")?)? as u32, latency })
    };
    let pool = list(field(input, "pool")?)?.iter().map(read).collect::<Result<Vec<_>, String>>()?;
    let threshold = integer(field(input, "rif_threshold")?)? as u32;
    let position = |value: &Value| if value.is_null() { Ok(None) } else { integer(value).map(Some) };
    let selected = prequal::select(pool.iter().copied(), threshold).map(|at| at as u64);
    same("select", &position(field(out, "select")?)?, &selected)?;
    let worst = prequal::worst(pool.iter().copied(), threshold).map(|at| at as u64);
    same("worst_to_remove", &position(field(out, "worst_to_remove")?)?, &worst)?;
    Ok(Check::Passed)
}

fn relative_tolerance(file: &Value) -> f64 {
    file.pointer("/tolerance/rel").and_then(Value::as_f64).unwrap_or(0.0)
}

fn integers(value: &Value) -> Result<Vec<u64>, String> {
    list(value)?.iter().map(integer).collect()
}
