//! Envoy's host sets: priority levels with overprovisioning, panic, and zone-aware routing.
//!
//! ## What it does
//! Endpoints stand on priority levels by zone. The health of a level is min(100, factor * healthy / all), in whole percent; a
//! level takes load up to its health, what is left goes to the next, degraded endpoints come after all healthy ones, and the
//! rest of rounding goes to the first level that has any. If all levels together are less than 100 % available, a level with a
//! share of healthy and degraded endpoints below `healthy-panic-threshold` *panics*: its traffic goes to all of its endpoints,
//! healthy or not. If all levels panic, load follows the number of endpoints.
//!
//! On the first level, without panic, *zone-aware* routing keeps traffic in the zone of the client as far as that is fair. If
//! the zone has at least the share of endpoints that it has of callers, all of it stays; otherwise endpoints' share / callers'
//! share of it does, and the rest goes to zones by what they have to spare.
//!
//! ## When it helps
//! Panic: when so much fails its checks that the few left would be overrun next. Priorities: fail over to another zone before
//! the first one is gone. Zone-aware: less traffic between zones without overloading a small one.
//!
//! ## How it fails
//! Panic sends traffic to endpoints that are really down: with half of them dead, half of all attempts fail. Without it, a
//! health check that times out under load takes the service away endpoint by endpoint. The overprovisioning factor hides the
//! loss of 28 % of a level from the next one. Zone-aware routing looks at numbers of endpoints, not at their load.
//!
//! ## Settings
//! * `healthy-panic-threshold` (default `50%`; `0%` switches panic off).
//! * `overprovisioning-factor` (default 140, percent).
//! * `priorities` (default none: one level): zones by level, as `[["a"], ["b", "c"]]`; zones that are not named share the last
//!   level.
//! * `zone-aware` (default none: off): `{ routing-enabled = "100%", min-cluster-size = 6, fail-traffic-on-panic = false }`.
//!
//! ## Origin
//! envoyproxy/envoy 00cf9a05, `source/extensions/load_balancing_policies/common/load_balancer_impl.cc`
//! (`recalculatePerPriorityState`, `recalculatePerPriorityPanic`, `recalculateLoadInTotalPanic`, `choosePriority`,
//! `regenerateLocalityRoutingStructuresNew`, `tryChooseLocalLocalityHosts`, `hostSourceToUse`), pinned by
//! `tests/vectors/balancer/envoy_priority_panic.json` and `envoy_zone_aware.json`.
//!
//! ## Deliberate differences
//! * In Envoy zone-aware routing is on as soon as a local cluster is named; here `zone-aware` says so.
//! * `fail-traffic-on-panic` belongs to the zone-aware settings there, and works without them; here it needs them.
//! * Healthy endpoints of a zone can run out while degraded ones are left; upstream has the same table of localities for both.
//! * Locality weights, excluded hosts and weighted priority health do not exist.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Cluster, Health, HostSelection, LocalHosts, SetIndex};
use crate::policies::Algorithm;
use crate::policies::outlier::envoy::{feature_enabled, whole_percent};
use crate::policies::view::Slot;
use crate::random::Rng;
use crate::time::Time;
use crate::units::Share;

/// Settings of `host-selection.envoy`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct EnvoySettings(Written);

/// The settings before they are checked against each other.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "EnvoyHostSelectionSettings")]
struct Written {
    /// Share of healthy endpoints below which health is ignored; zero: never.
    healthy_panic_threshold: Share,
    /// Percent by which a level may lose endpoints before the next one takes load; at least 100.
    overprovisioning_factor: u32,
    /// Zones by priority level.
    priorities: Vec<Vec<String>>,
    /// Keeps traffic in the zone of the client.
    zone_aware: Option<ZoneAware>,
}

/// Zone-aware routing.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct ZoneAware {
    /// Share of the attempts that are routed by zone.
    routing_enabled: Share,
    /// Healthy endpoints below which nothing is routed by zone.
    min_cluster_size: u64,
    /// Fail instead of ignoring health.
    fail_traffic_on_panic: bool,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            healthy_panic_threshold: Share(0.5),
            overprovisioning_factor: 140,
            priorities: Vec::new(),
            zone_aware: None,
        }
    }
}

impl Default for ZoneAware {
    fn default() -> Self {
        Self { routing_enabled: Share(1.0), min_cluster_size: 6, fail_traffic_on_panic: false }
    }
}

impl TryFrom<Written> for EnvoySettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        whole_percent("healthy-panic-threshold", written.healthy_panic_threshold)?;
        if let Some(zone_aware) = &written.zone_aware {
            whole_percent("routing-enabled", zone_aware.routing_enabled)?;
        }
        if !(100..=100_000).contains(&written.overprovisioning_factor) {
            return Err("overprovisioning-factor is a percentage from 100 to 100000".to_owned());
        }
        let mut seen: Vec<&String> = written.priorities.iter().flatten().collect();
        let named = seen.len();
        seen.sort_unstable();
        seen.dedup();
        if seen.len() < named {
            return Err("a zone stands in priorities twice".to_owned());
        }
        if written.priorities.iter().any(Vec::is_empty) {
            return Err("a level of priorities has no zone".to_owned());
        }
        Ok(Self(written))
    }
}

impl EnvoySettings {
    /// Names of zones that the levels mention.
    pub fn zones(&self) -> impl Iterator<Item = &str> {
        self.0.priorities.iter().flatten().map(String::as_str)
    }
}

/// Loads and panic of the levels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Health of each level, 0..=100.
    pub per_priority_health: Vec<u32>,
    /// Degraded availability of each level, 0..=100.
    pub per_priority_degraded: Vec<u32>,
    /// Percent of the load for healthy (in panic: all) endpoints of each level.
    pub healthy_load: Vec<u32>,
    /// Percent of the load for degraded endpoints of each level.
    pub degraded_load: Vec<u32>,
    /// Levels that ignore health.
    pub per_priority_panic: Vec<bool>,
}

/// Endpoints of a level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Healthy ones.
    pub healthy: u32,
    /// Degraded ones.
    pub degraded: u32,
    /// All.
    pub total: u32,
}

/// `isHostSetInPanic`
fn is_in_panic(counts: Counts, panic_threshold: u32) -> bool {
    let percent = |hosts: u32| {
        if counts.total == 0 { 0.0 } else { 100.0 * f64::from(hosts) / f64::from(counts.total) }
    };
    percent(counts.healthy) + percent(counts.degraded) < f64::from(panic_threshold)
}

impl Levels {
    /// Levels with these endpoints, a panic threshold and an overprovisioning factor in percent.
    pub fn new(levels: &[Counts], panic_threshold: u32, overprovisioning_factor: u32) -> Self {
        let mut of = Self {
            per_priority_health: vec![0; levels.len()],
            per_priority_degraded: vec![0; levels.len()],
            healthy_load: vec![0; levels.len()],
            degraded_load: vec![0; levels.len()],
            per_priority_panic: vec![false; levels.len()],
        };
        of.recalculate(levels, panic_threshold, overprovisioning_factor);
        of
    }

    fn recalculate(&mut self, levels: &[Counts], panic_threshold: u32, overprovisioning_factor: u32) {
        for (at, counts) in levels.iter().enumerate() {
            let available = |hosts: u32| match counts.total {
                0 => 0,
                total => {
                    let scaled = u64::from(overprovisioning_factor) * u64::from(hosts) / u64::from(total);
                    scaled.min(100) as u32
                }
            };
            self.per_priority_health[at] = available(counts.healthy);
            self.per_priority_degraded[at] = available(counts.degraded);
        }
        let availability: u32 = self.per_priority_health.iter().chain(&self.per_priority_degraded).sum();
        let normalized_total_availability = availability.min(100);
        self.distribute_loads(normalized_total_availability);

        // recalculatePerPriorityPanic
        if panic_threshold == 0 && normalized_total_availability == 0 {
            self.healthy_load[0] = 100;
            self.per_priority_panic.fill(false);
            return;
        }
        for (panic, counts) in self.per_priority_panic.iter_mut().zip(levels) {
            *panic = normalized_total_availability < 100 && is_in_panic(*counts, panic_threshold);
        }
        if self.per_priority_panic.iter().all(|panic| *panic) {
            self.recalculate_load_in_total_panic(levels);
        }
    }

    fn distribute_loads(&mut self, normalized_total_availability: u32) {
        self.healthy_load.fill(0);
        self.degraded_load.fill(0);
        if normalized_total_availability == 0 {
            return;
        }
        let distribute = |load: &mut [u32], availability: &[u32], mut total_load: u32| {
            let mut first_available = None;
            for (at, available) in availability.iter().enumerate() {
                if first_available.is_none() && *available > 0 {
                    first_available = Some(at);
                }
                load[at] = total_load.min(available * 100 / normalized_total_availability);
                total_load -= load[at];
            }
            (first_available, total_load)
        };
        let (first_healthy, rest) = distribute(&mut self.healthy_load, &self.per_priority_health, 100);
        let (first_degraded, rest) = distribute(&mut self.degraded_load, &self.per_priority_degraded, rest);
        match (first_healthy, first_degraded) {
            (Some(first), _) => self.healthy_load[first] += rest,
            (None, Some(first)) => self.degraded_load[first] += rest,
            (None, None) => {}
        }
    }

    fn recalculate_load_in_total_panic(&mut self, levels: &[Counts]) {
        let total_hosts: u64 = levels.iter().map(|counts| u64::from(counts.total)).sum();
        if total_hosts == 0 {
            // Upstream writes over the first level only; the others have nothing anyway.
            self.healthy_load[0] = 100;
            return;
        }
        let mut total_load = 100;
        for (at, counts) in levels.iter().enumerate() {
            let load = (100 * u64::from(counts.total) / total_hosts) as u32;
            self.healthy_load[at] = load;
            self.degraded_load[at] = 0;
            total_load -= load;
        }
        let first_nonempty = levels.iter().position(|counts| counts.total > 0).unwrap_or(0);
        self.healthy_load[first_nonempty] += total_load;
    }

    /// Level for a hash, and whether its degraded endpoints are meant.
    fn choose_priority(&self, hash: u64) -> (usize, bool) {
        let hash = (hash % 100 + 1) as u32;
        let mut aggregate = 0;
        for (loads, degraded) in [(&self.healthy_load, false), (&self.degraded_load, true)] {
            for (priority, load) in loads.iter().enumerate() {
                aggregate += load;
                if hash <= aggregate {
                    return (priority, degraded);
                }
            }
        }
        (0, false)
    }
}

/// How the first level is divided over zones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalityRouting {
    /// Not at all.
    None,
    /// All of it stays.
    Direct,
    /// A part of it stays.
    Residual {
        /// So much, in 1/10000.
        local_percent_to_route: u64,
        /// Where the rest goes: the first zone whose number is more than the draw.
        residual_capacity: Vec<u64>,
    },
}

/// The division of traffic from callers to endpoints by zone: `(callers, endpoints)` of each locality, the client's own one
/// first if `has_local`. (`regenerateLocalityRoutingStructuresNew` without its early exits.)
pub fn locality_routing(callers: u64, localities: &[(u64, u64)], has_local: bool) -> LocalityRouting {
    let upstream: u64 = localities.iter().map(|(_, upstream)| upstream).sum();
    let share = |part: u64, all: u64| (10_000 * part).checked_div(all).unwrap_or(0);
    let percentages = |at: usize| {
        let (local, hosts) = localities[at];
        // Nobody knows which zone a locality without endpoints is.
        if hosts == 0 { (0, 0) } else { (share(local, callers), share(hosts, upstream)) }
    };
    let (local_percentage, upstream_percentage) = percentages(0);
    if has_local && upstream_percentage > 0 && upstream_percentage >= local_percentage {
        return LocalityRouting::Direct;
    }
    let local_percent_to_route =
        if has_local && local_percentage > 0 { upstream_percentage * 10_000 / local_percentage } else { 0 };
    let mut last = 0;
    let residual_capacity = (0..localities.len()).map(|at| {
        let (local, upstream) = percentages(at);
        if !(at == 0 && has_local) {
            last += upstream.saturating_sub(local);
        }
        last
    });
    LocalityRouting::Residual { local_percent_to_route, residual_capacity: residual_capacity.collect() }
}

/// Sets of a level: all of its endpoints, the healthy ones, the degraded ones, and these two by locality.
const ALL: usize = 0;
const HEALTHY: usize = 1;
const DEGRADED: usize = 2;
const LOCALITIES: usize = 3;

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Envoy(Box<State>);

#[derive(Clone, Debug)]
struct State {
    panic_threshold: u32,
    overprovisioning_factor: u32,
    priorities: Vec<Vec<String>>,
    /// Level by zone, once the zones are known.
    level_of_zone: Vec<usize>,
    zone_aware: Option<ZoneAware>,
    routing_enabled: u32,
    levels: Levels,
    counts: Vec<Counts>,
    routing: LocalityRouting,
    local_panic: bool,
    /// By level, then as the constants say.
    sets: Vec<Vec<Slot>>,
    /// Zone of each locality; the client's own comes first.
    localities: Vec<u32>,
}

impl Algorithm for Envoy {
    type Settings = EnvoySettings;

    fn new(settings: &EnvoySettings, _now: Time) -> Self {
        let Written { healthy_panic_threshold, overprovisioning_factor, priorities, zone_aware } =
            &settings.0;
        let percent = |share: Share| (share.0 * 100.0).round() as u32;
        // Zones without a level share the last one.
        let levels = priorities.len().max(1);
        Self(Box::new(State {
            panic_threshold: percent(*healthy_panic_threshold),
            overprovisioning_factor: *overprovisioning_factor,
            priorities: priorities.clone(),
            level_of_zone: Vec::new(),
            zone_aware: *zone_aware,
            routing_enabled: zone_aware.map_or(0, |zone_aware| percent(zone_aware.routing_enabled)),
            levels: Levels::new(
                &vec![Counts::default(); levels],
                percent(*healthy_panic_threshold),
                *overprovisioning_factor,
            ),
            counts: vec![Counts::default(); levels],
            routing: LocalityRouting::None,
            local_panic: false,
            sets: vec![Vec::new(); levels * LOCALITIES],
            localities: Vec::new(),
        }))
    }
}

impl State {
    const fn sets_per_level(localities: usize) -> usize {
        LOCALITIES + 2 * localities
    }

    /// Which localities there are: the zones of the endpoints and of the callers, the client's own first.
    fn place(&mut self, cluster: &Cluster<'_>) {
        if self.level_of_zone.len() != cluster.zones.len() {
            let level = |zone: &String| self.priorities.iter().position(|names| names.contains(zone));
            let last = self.counts.len() - 1;
            self.level_of_zone = cluster.zones.iter().map(|zone| level(zone).unwrap_or(last)).collect();
        }
        let zones = if self.zone_aware.is_some() { cluster.local.len() } else { 0 };
        if self.localities.len() != zones {
            let own = cluster.zone.filter(|own| (*own as usize) < zones);
            self.localities =
                own.into_iter().chain((0..zones as u32).filter(|zone| Some(*zone) != own)).collect();
            self.sets = vec![Vec::new(); self.counts.len() * Self::sets_per_level(zones)];
        }
    }

    fn route(&mut self, cluster: &Cluster<'_>) {
        self.routing = LocalityRouting::None;
        let Some(zone_aware) = self.zone_aware else { return };
        let sum =
            |of: fn(&LocalHosts) -> u32| cluster.local.iter().map(|local| u64::from(of(local))).sum::<u64>();
        let (healthy, total) = (sum(|local| local.healthy), sum(|local| local.total));
        let all = Counts { healthy: healthy as u32, degraded: 0, total: total as u32 };
        self.local_panic = is_in_panic(all, self.panic_threshold);
        let upstream = |at: usize| self.sets[LOCALITIES + at].len() as u64;
        let local = |zone: u32| cluster.local[zone as usize];
        // earlyExitNonLocalityRoutingNew. Upstream knows the localities of the endpoints, healthy or not; here those are all
        // zones with endpoints.
        let known = |zone: &&u32| cluster.hosts.iter().any(|host| host.zone == **zone);
        let too_few = self.localities.iter().filter(known).count() < 2;
        let callers = cluster.local.iter().filter(|local| local.total > 0).count();
        let here =
            cluster.zone.is_some_and(|own| cluster.local.get(own as usize).is_some_and(|own| own.total > 0));
        let small = u64::from(self.counts[0].healthy) < zone_aware.min_cluster_size;
        if too_few || callers < 2 || !here || small {
            return;
        }
        let pairs: Vec<(u64, u64)> = self
            .localities
            .iter()
            .enumerate()
            .map(|(at, &zone)| (u64::from(local(zone).healthy), upstream(at)))
            .collect();
        self.routing = locality_routing(healthy, &pairs, true);
    }

    /// Locality of the next attempt.
    fn choose_locality(&self, rng: &mut Rng) -> usize {
        let LocalityRouting::Residual { local_percent_to_route, residual_capacity } = &self.routing else {
            return 0;
        };
        if rng.bits() % 10_000 < *local_percent_to_route {
            return 0;
        }
        let last = residual_capacity.last().copied().unwrap_or(0);
        if last == 0 {
            return (rng.bits() % residual_capacity.len() as u64) as usize;
        }
        let threshold = rng.bits() % last;
        residual_capacity.iter().position(|capacity| threshold < *capacity).unwrap_or(0)
    }
}

impl HostSelection for Envoy {
    fn on_update(&mut self, _now: Time, cluster: &Cluster<'_>) {
        let state = &mut *self.0;
        state.place(cluster);
        for set in &mut state.sets {
            set.clear();
        }
        state.counts.fill(Counts::default());
        let localities = state.localities.len();
        let per_level = State::sets_per_level(localities);
        for host in cluster.hosts {
            let level = state.level_of_zone.get(host.zone as usize).copied().unwrap_or(0);
            let counts = &mut state.counts[level];
            counts.total += 1;
            let base = level * per_level;
            state.sets[base + ALL].push(host.slot);
            let locality = state.localities.iter().position(|zone| *zone == host.zone);
            let (kind, offset) = match host.health {
                Health::Healthy => {
                    counts.healthy += 1;
                    (HEALTHY, 0)
                }
                Health::Degraded => {
                    counts.degraded += 1;
                    (DEGRADED, localities)
                }
                Health::Unhealthy => continue,
            };
            state.sets[base + kind].push(host.slot);
            if let Some(locality) = locality {
                state.sets[base + LOCALITIES + offset + locality].push(host.slot);
            }
        }
        state.levels.recalculate(&state.counts, state.panic_threshold, state.overprovisioning_factor);
        state.route(cluster);
    }

    #[inline]
    fn sets(&self) -> &[Vec<Slot>] {
        &self.0.sets
    }

    /// `hostSourceToUse`
    fn choose(&mut self, rng: &mut Rng) -> Option<SetIndex> {
        let state = &*self.0;
        let (priority, degraded) = state.levels.choose_priority(rng.bits());
        let base = priority * State::sets_per_level(state.localities.len());
        let fail_on_panic = state.zone_aware.is_some_and(|zone_aware| zone_aware.fail_traffic_on_panic);
        if state.levels.per_priority_panic[priority] {
            return (!fail_on_panic).then_some(SetIndex((base + ALL) as u32));
        }
        let whole = SetIndex((base + if degraded { DEGRADED } else { HEALTHY }) as u32);
        if priority > 0 || state.routing == LocalityRouting::None {
            return Some(whole);
        }
        if !feature_enabled(state.routing_enabled, rng) {
            return Some(whole);
        }
        if state.local_panic {
            return (!fail_on_panic).then_some(whole);
        }
        let offset = if degraded { state.localities.len() } else { 0 };
        Some(SetIndex((base + LOCALITIES + offset + state.choose_locality(rng)) as u32))
    }

    fn is_panicking(&self) -> bool {
        self.0.levels.per_priority_panic.contains(&true)
    }
}
