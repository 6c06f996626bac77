//! The calling side as production configures it: resilience4j's properties and Envoy's clusters and routes.
//!
//! ```toml
//! [service.shop.call.payments]
//! resilience4j = { manifest = "config/application.yml", instance = "payments" }   # all that the file says of it
//! breaker.resilience4j = { manifest = "config/application.yml", instance = "payments" }   # or one policy
//! envoy = { manifest = "envoy.yaml", cluster = "payments", route = "pay" }        # or a side-car's view of it
//! ```

use super::{Notes, lay_under, table, text, text_of};
use crate::scenario::error::{Diagnostic, Place, shortened};
use crate::scenario::files::Files;
use crate::scenario::manifest::envoy::{
    self, At, Cluster, Envoy, HealthCheck, LbPolicy, OutlierDetection, Retry, RingHash, Route, SlowStart,
    Thresholds,
};
use crate::scenario::manifest::resilience4j::{self, Module, Properties};
use crate::scenario::tree::{Entry, Key, Node, Table, Value};

/// A module of resilience4j, and the family and the policy that it is here.
const POLICIES: [(Module, &str, &str); 4] = [
    (Module::CircuitBreaker, "breaker", "resilience4j"),
    (Module::RateLimiter, "limiter", "resilience4j-rate-limiter"),
    (Module::Bulkhead, "limiter", "bulkhead"),
    (Module::Retry, "retry", "resilience4j"),
];

/// Fills the policies that name a manifest, of an edge or of a service with a limiter of its own.
pub(super) fn policies(
    owner: &mut Table,
    files: &mut Files,
    notes: &mut Notes,
) -> Result<(), Vec<Diagnostic>> {
    for (module, family, policy) in POLICIES {
        let Some(Value::Table(choice)) = owner.get_mut(family).map(|node| &mut node.value) else { continue };
        let Some(Value::Table(settings)) = choice.get_mut(policy).map(|node| &mut node.value) else {
            continue;
        };
        if settings.get("manifest").is_some() {
            let named = Named::take(settings, "instance", &["profile"])?;
            let found = Instance::read(&named, files, |other| other == module)?;
            found.lay_policy(module, settings, notes)?;
        }
    }
    Ok(())
}

/// Fills the table of an edge and those of the levels around it.
pub(super) fn edge(edge: &mut Table, files: &mut Files, notes: &mut Notes) -> Result<(), Vec<Diagnostic>> {
    if let Some(Value::Array(levels)) = edge.get_mut("level").map(|node| &mut node.value) {
        for level in levels {
            if let Value::Table(level) = &mut level.value {
                client(level, files, notes)?;
            }
        }
    }
    client(edge, files, notes)?;
    if let Some(entry) = edge.remove("envoy") {
        let mut settings = table_of(entry, "envoy", "cluster")?;
        let named = Named::take(&mut settings, "cluster", &["route"])?;
        nothing_else(&settings, &["manifest", "cluster", "route"])?;
        whole_cluster(edge, &named, files, notes)?;
    }
    Ok(())
}

/// What is read from resilience4j's properties.
fn client(table: &mut Table, files: &mut Files, notes: &mut Notes) -> Result<(), Vec<Diagnostic>> {
    policies(table, files, notes)?;
    if let Some(entry) = table.remove("resilience4j") {
        let mut settings = table_of(entry, "resilience4j", "instance")?;
        let named = Named::take(&mut settings, "instance", &["profile"])?;
        nothing_else(&settings, &["manifest", "instance", "profile"])?;
        whole_instance(table, &Instance::read(&named, files, |_| true)?, notes)?;
    }
    Ok(())
}

fn one(error: Diagnostic) -> Vec<Diagnostic> {
    vec![error]
}

/// The table behind `resilience4j` or `envoy`.
fn table_of(entry: Entry, what: &str, name: &str) -> Result<Table, Vec<Diagnostic>> {
    let Entry { node, .. } = entry;
    if let Value::Table(table) = node.value {
        Ok(table)
    } else {
        let error = Diagnostic::new(format!("`{what}` is a table, not {}", node.kind())).at(node.place);
        Err(vec![error.hint(format!("write {what} = {{ manifest = \"FILE\", {name} = \"NAME\" }}"))])
    }
}

fn nothing_else(table: &Table, known: &[&str]) -> Result<(), Vec<Diagnostic>> {
    let stranger = table.entries.first();
    stranger.map_or(Ok(()), |stranger| {
        Err(vec![
            Diagnostic::unknown("key", &stranger.key.name, known.iter().copied()).at(stranger.key.place),
        ])
    })
}

/// What is named of which file: `manifest`, a name in it, and something more.
struct Named {
    manifest: (String, Place),
    name: (String, Place),
    more: Option<(String, Place)>,
}

impl Named {
    fn take(table: &mut Table, name: &str, more: &[&str]) -> Result<Self, Vec<Diagnostic>> {
        let place = table.entries.first().map_or_else(Place::default, |entry| entry.key.place);
        let missing = |what: &str| one(Diagnostic::new(format!("`{what}` is missing here")).at(place));
        let manifest = text_of(table.remove("manifest"), "manifest").map_err(one)?;
        let of_name = text_of(table.remove(name), name).map_err(one)?;
        let mut found = None;
        for what in more {
            found = found.or(text_of(table.remove(what), what).map_err(one)?);
        }
        Ok(Self {
            manifest: manifest.ok_or_else(|| missing("manifest"))?,
            name: of_name.ok_or_else(|| missing(name))?,
            more: found,
        })
    }
}

/// An instance of resilience4j.
struct Instance<'a> {
    named: &'a Named,
    properties: Properties,
}

impl<'a> Instance<'a> {
    /// Reads the file; one of the modules for which `of` is true must name the instance.
    fn read(
        named: &'a Named,
        files: &mut Files,
        of: impl Fn(Module) -> bool,
    ) -> Result<Self, Vec<Diagnostic>> {
        let (path, place) = &named.manifest;
        let path = files.resolve(place.file, path);
        let profile = named.more.as_ref().map(|(profile, place)| (profile.as_str(), *place));
        let properties =
            resilience4j::read(&path, profile, files).map_err(|errors| placed(errors, *place))?;
        let (name, at) = &named.name;
        let known = properties.instances(of);
        if !known.contains(&name.as_str()) {
            return Err(vec![Diagnostic::unknown("instance", name, known).at(*at)]);
        }
        Ok(Self { named, properties })
    }

    /// Lays what a module says under the settings of its policy.
    fn lay_policy(
        &self,
        module: Module,
        settings: &mut Table,
        notes: &mut Notes,
    ) -> Result<(), Vec<Diagnostic>> {
        let (found, no_effect) = self.properties.settings(module, &self.named.name.0).map_err(one)?;
        let place = found.first().map_or(self.named.name.1, |(_, node)| node.place);
        for (line, what) in no_effect {
            notes.note(&self.properties.file, line, what);
        }
        for (line, profile) in &self.properties.left_out {
            notes.note(&self.properties.file, *line, format!("the document for profile {profile}"));
        }
        lay_under(settings, found, place);
        Ok(())
    }
}

/// All that a file says of an instance, on one edge.
fn whole_instance(
    edge: &mut Table,
    instance: &Instance<'_>,
    notes: &mut Notes,
) -> Result<(), Vec<Diagnostic>> {
    let (name, place) = &instance.named.name;
    let modules = instance.properties.modules_of(name);
    let has_limiter = edge.get("limiter").is_some();
    if !has_limiter && modules.contains(&Module::RateLimiter) && modules.contains(&Module::Bulkhead) {
        let message =
            format!("`{}` has a rate limiter and a bulkhead, and an edge has one limiter", shortened(name));
        let hint = "choose one: limiter.bulkhead = { manifest = \"..\", instance = \"..\" }";
        return Err(vec![Diagnostic::new(message).at(*place).hint(hint)]);
    }
    for (module, family, policy) in POLICIES {
        if !modules.contains(&module) {
            continue;
        }
        // What the scenario says wins: another policy, none, or settings of the same one.
        let mut settings = match edge.get(family).map(|node| &node.value) {
            None => Table::default(),
            Some(Value::Table(own)) if own.entries.len() == 1 && own.get(policy).is_some() => {
                own.get(policy).and_then(Node::table).cloned().unwrap_or_default()
            }
            Some(_) => continue,
        };
        instance.lay_policy(module, &mut settings, notes)?;
        set_policy(edge, family, policy, settings, *place);
    }
    if modules.contains(&Module::TimeLimiter) {
        instance.lay_policy(Module::TimeLimiter, edge, notes)?;
    }
    Ok(())
}

fn set_policy(edge: &mut Table, family: &str, policy: &'static str, settings: Table, place: Place) {
    let settings = Node { value: Value::Table(settings), place };
    edge.put(Key { name: family.to_owned(), place }, table(place, [(policy, settings)]));
}

/// Gives errors without a place that of the file's name.
fn placed(mut errors: Vec<Diagnostic>, place: Place) -> Vec<Diagnostic> {
    for error in errors.iter_mut().filter(|error| error.place.is_none()) {
        error.place = Some(place);
    }
    errors
}

/// What Envoy's file says of a cluster and of the route to it, on one edge.
fn whole_cluster(
    edge: &mut Table,
    named: &Named,
    files: &mut Files,
    notes: &mut Notes,
) -> Result<(), Vec<Diagnostic>> {
    let (path, place) = &named.manifest;
    let path = files.resolve(place.file, path);
    let envoy = envoy::read(&path, files).map_err(|errors| placed(errors, *place))?;
    let (name, at) = &named.name;
    let known = envoy.clusters.iter().map(|cluster| cluster.name.value.as_str());
    let unknown = || one(Diagnostic::unknown("cluster", name, known.clone()).at(*at));
    let cluster = envoy.clusters.iter().find(|cluster| cluster.name.value == *name).ok_or_else(unknown)?;
    let route = route_to(&envoy, cluster, named)?;
    for (line, what) in envoy.no_effect(cluster, route) {
        notes.note(&envoy.file, line, what);
    }
    let mut side = Side { edge, file: &envoy.file, files, notes };
    side.cluster(cluster);
    if let Some(route) = route {
        side.route(route, cluster);
    }
    Ok(())
}

/// The route that is meant: the one of that name, or the one that leads to the cluster.
fn route_to<'a>(
    envoy: &'a Envoy,
    cluster: &Cluster,
    named: &Named,
) -> Result<Option<&'a Route>, Vec<Diagnostic>> {
    let routes: Vec<&Route> =
        envoy.routes.iter().filter(|route| route.cluster == cluster.name.value).collect();
    if let Some((wanted, place)) = &named.more {
        let found = routes.iter().find(|route| route.name.as_ref() == Some(wanted));
        let known = routes.iter().filter_map(|route| route.name.as_deref());
        let unknown = || one(Diagnostic::unknown("route to this cluster", wanted, known).at(*place));
        return found.map(|route| Some(*route)).ok_or_else(unknown);
    }
    let Some((first, others)) = routes.split_first() else { return Ok(None) };
    let behaviour = |route: &Route| {
        let retry = route.retry.as_ref();
        (
            route.timeout.map(|timeout| timeout.value),
            retry.map(|retry| {
                (retry.retry_on.as_ref().map(|on| on.value.clone()), retry.num_retries.map(|n| n.value))
            }),
            retry.and_then(|retry| retry.per_try_timeout.map(|timeout| timeout.value)),
        )
    };
    if let Some(other) = others.iter().find(|other| behaviour(other) != behaviour(first)) {
        let message =
            format!("routes to `{}` differ in their timeouts or retries", shortened(&cluster.name.value));
        let hint = "say which one is meant: route = \"NAME\"";
        return Err(vec![Diagnostic::new(message).at(other.place).hint(hint)]);
    }
    Ok(Some(first))
}

/// Fields of `outlier_detection`, and what they are called here.
const OUTLIER: &[(&str, &str)] = &[
    ("consecutive_5xx", "consecutive-5xx"),
    ("consecutive_gateway_failure", "consecutive-gateway-failure"),
    ("enforcing_consecutive_5xx", "enforcing-consecutive-5xx"),
    ("enforcing_consecutive_gateway_failure", "enforcing-consecutive-gateway-failure"),
    ("enforcing_failure_percentage", "enforcing-failure-percentage"),
    ("enforcing_success_rate", "enforcing-success-rate"),
    ("failure_percentage_minimum_hosts", "failure-percentage-minimum-hosts"),
    ("failure_percentage_request_volume", "failure-percentage-request-volume"),
    ("failure_percentage_threshold", "failure-percentage-threshold"),
    ("max_ejection_percent", "max-ejection-percent"),
    ("success_rate_minimum_hosts", "success-rate-minimum-hosts"),
    ("success_rate_request_volume", "success-rate-request-volume"),
    ("success_rate_stdev_factor", "success-rate-stdev-factor"),
    ("interval", "interval"),
    ("base_ejection_time", "base-ejection-time"),
    ("max_ejection_time", "max-ejection-time"),
    ("max_ejection_time_jitter", "max-ejection-time-jitter"),
    ("successful_active_health_check_uneject_host", "successful-active-health-check-uneject-host"),
    ("always_eject_one_host", "always-eject-one-host"),
];

/// Fields of `health_checks`, and what they are called here.
const HEALTH_CHECK: &[(&str, &str)] = &[
    ("timeout", "timeout"),
    ("interval", "interval"),
    ("interval_jitter", "interval-jitter"),
    ("unhealthy_interval", "unhealthy-interval"),
    ("unhealthy_edge_interval", "unhealthy-edge-interval"),
    ("healthy_edge_interval", "healthy-edge-interval"),
    ("unhealthy_threshold", "unhealthy-threshold"),
    ("healthy_threshold", "healthy-threshold"),
];

/// An edge being filled from Envoy's file.
struct Side<'a> {
    edge: &'a mut Table,
    file: &'a str,
    files: &'a Files,
    notes: &'a mut Notes,
}

impl Side<'_> {
    /// Sets a policy unless the scenario has one of its family, or none on purpose.
    fn policy(
        &mut self,
        family: &str,
        policy: &'static str,
        settings: impl IntoIterator<Item = (&'static str, Node)>,
        place: Place,
    ) {
        if self.edge.get(family).is_none() {
            let mut own = Table::default();
            lay_under(&mut own, settings.into_iter().collect(), place);
            set_policy(self.edge, family, policy, own, place);
        }
    }

    fn without_effect(&mut self, place: Place, what: impl Into<String>) {
        self.notes.note(self.file, self.files.line(place), what.into());
    }

    fn cluster(&mut self, cluster: &Cluster) {
        let policy = cluster.lb_policy.map_or(LbPolicy::RoundRobin, |policy| policy.value);
        let place = cluster.lb_policy.map_or(cluster.name.place, |policy| policy.place);
        match policy {
            LbPolicy::RoundRobin => match cluster.slow_start {
                None => self.policy("balancer", "round-robin", [], place),
                Some(slow) => {
                    self.policy("balancer", "weighted-round-robin", [slow_start(&slow)], place);
                }
            },
            LbPolicy::Random => self.policy("balancer", "random", [], place),
            LbPolicy::LeastRequest => {
                let read = &cluster.least_request;
                let mut settings = Vec::new();
                settings.extend(read.choice_count.map(|count| ("choice-count", whole(count))));
                settings.extend(read.active_request_bias.map(|bias| ("active-request-bias", float(bias))));
                settings.extend(
                    read.full_scan
                        .filter(|scan| scan.value)
                        .map(|scan| ("selection-method", text("full-scan", scan.place))),
                );
                settings.extend(cluster.slow_start.as_ref().map(slow_start));
                self.policy("balancer", "least-request", settings, place);
            }
            LbPolicy::RingHash => {
                let RingHash { minimum_ring_size, maximum_ring_size, hash_function } = &cluster.ring_hash;
                let mut settings = Vec::new();
                settings.extend(minimum_ring_size.map(|size| ("minimum-ring-size", whole(size))));
                settings.extend(maximum_ring_size.map(|size| ("maximum-ring-size", whole(size))));
                self.policy("balancer", "ring-hash", settings, place);
                if let Some(function) = hash_function.as_ref().filter(|function| function.value != "XX_HASH")
                {
                    self.without_effect(function.place, "ring_hash_lb_config.hash_function");
                }
            }
            LbPolicy::Maglev => {
                let size = cluster.maglev_table_size.map(|size| ("table-size", whole(size)));
                self.policy("balancer", "maglev", size, place);
            }
            LbPolicy::Elsewhere => self.without_effect(place, "this lb_policy"),
        }
        if let Some(detection) = &cluster.outlier_detection {
            self.outlier(detection);
        }
        if let Some(check) = &cluster.health_check {
            self.health_check(check);
        }
        if let Some(threshold) = cluster.healthy_panic_threshold {
            if self.edge.get("outlier").is_some() || self.edge.get("health-check").is_some() {
                // Envoy rounds it.
                let percent = text(format!("{}%", threshold.value.round()), threshold.place);
                let settings = [("healthy-panic-threshold", percent)];
                self.policy("host-selection", "envoy", settings, threshold.place);
            } else {
                self.without_effect(threshold.place, "common_lb_config.healthy_panic_threshold");
            }
        }
        let thresholds = cluster.thresholds.as_ref();
        let most = thresholds.and_then(|thresholds| thresholds.max_requests);
        if let Some(most) = most.filter(|_| self.edge.get("limiter").is_some()) {
            self.without_effect(
                most.place,
                "circuit_breakers.thresholds.max_requests, as the edge has a limiter",
            );
        }
        // Envoy has this one whether it is written or not.
        let settings = most.map(|most| ("max-requests", whole(most)));
        self.policy(
            "limiter",
            "envoy-circuit-breakers",
            settings,
            most.map_or(cluster.name.place, |most| most.place),
        );
        let limit = cluster.connect_timeout;
        self.of_connections(
            "connect-timeout",
            "connect_timeout",
            limit.map(|limit| (limit.place, nanos(limit))),
        );
        let most = thresholds.and_then(|thresholds| thresholds.max_connections);
        let name = "circuit_breakers.thresholds.max_connections";
        self.of_connections("max", name, most.map(|most| (most.place, whole(most))));
        let most = thresholds.and_then(|thresholds| thresholds.max_pending_requests);
        let name = "circuit_breakers.thresholds.max_pending_requests";
        self.of_connections("max-pending", name, most.map(|most| (most.place, whole(most))));
    }

    /// What is said of connections holds where the scenario has an edge with connections: here, the name of the file's
    /// field, and what it says.
    fn of_connections(&mut self, here: &'static str, name: &str, found: Option<(Place, Node)>) {
        let Some((place, node)) = found else { return };
        if let Some(Value::Table(table)) = self.edge.get_mut("connections").map(|node| &mut node.value) {
            lay_under(table, vec![(here, node)], place);
        } else {
            self.without_effect(place, format!("{name}, as the edge has no connections"));
        }
    }

    /// What is asked for is said by the scenario, else an answer costs nothing but a worker.
    fn health_check(&mut self, check: &HealthCheck) {
        let counts = check.counts.iter().map(|(name, count)| (*name, whole(*count)));
        let lengths = check.durations.iter().map(|(name, length)| (*name, nanos(*length)));
        let here =
            |name: &str| HEALTH_CHECK.iter().find(|(upstream, _)| *upstream == name).map(|(_, here)| *here);
        let settings = counts.chain(lengths).filter_map(|(name, node)| Some((here(name)?, node))).collect();
        let mut detector = Table::default();
        lay_under(&mut detector, settings, check.place);
        let detector = Node { value: Value::Table(detector), place: check.place };
        let detector = table(check.place, [("envoy", detector)]);
        if self.edge.get("health-check").is_none() {
            let key = Key { name: "health-check".to_owned(), place: check.place };
            self.edge.put(key, table(check.place, [("detector", detector)]));
        } else if let Some(Value::Table(own)) = self.edge.get_mut("health-check").map(|node| &mut node.value)
        {
            lay_under(own, vec![("detector", detector)], check.place);
        }
    }

    fn outlier(&mut self, detection: &OutlierDetection) {
        let known =
            |name: &str| OUTLIER.iter().find(|(upstream, _)| *upstream == name).map(|(_, here)| *here);
        let mut settings = Vec::new();
        for (name, count) in &detection.counts {
            let Some(here) = known(name) else {
                self.without_effect(count.place, format!("outlier_detection.{name}"));
                continue;
            };
            let is_percent = name.starts_with("enforcing")
                || matches!(*name, "max_ejection_percent" | "failure_percentage_threshold");
            let percent = || text(format!("{}%", count.value), count.place);
            settings.push((here, if is_percent { percent() } else { whole(*count) }));
        }
        for (name, length) in &detection.durations {
            if let Some(here) = known(name) {
                settings.push((here, nanos(*length)));
            }
        }
        for (name, flag) in &detection.flags {
            match known(name) {
                Some(here) => {
                    settings.push((here, Node { value: Value::Boolean(flag.value), place: flag.place }));
                }
                None if flag.value => self.without_effect(flag.place, format!("outlier_detection.{name}")),
                None => {}
            }
        }
        self.policy("outlier", "envoy", settings, detection.place);
    }

    fn route(&mut self, route: &Route, cluster: &Cluster) {
        let retry = route.retry.as_ref();
        let per_try = retry.and_then(|retry| retry.per_try_timeout).filter(|timeout| timeout.value > 0);
        // The route's limit is for all tries together.
        let whole_call = route.timeout.unwrap_or(At { value: 15_000_000_000, place: route.place });
        let whole_call = Some(whole_call).filter(|limit| limit.value > 0);
        let tries_again =
            retry.is_some_and(|retry| retry.num_retries.is_none_or(|retries| retries.value > 0));
        let each_try = if tries_again { per_try } else { per_try.or(whole_call) };
        if let Some(limit) = each_try
            && self.edge.get("timeout").is_none()
        {
            lay_under(self.edge, vec![("timeout", nanos(limit))], limit.place);
        }
        if let Some(limit) = whole_call
            && tries_again
        {
            self.whole_call(limit, route);
        }
        // What Envoy gives up on, it resets.
        if self.edge.get("cancel").is_none() {
            let node = Node { value: Value::Boolean(true), place: route.place };
            lay_under(self.edge, vec![("cancel", node)], route.place);
        }
        if let Some(hedge) = &route.hedge
            && let Some(flag) = hedge.hedge_on_per_try_timeout.filter(|flag| flag.value)
        {
            self.without_effect(flag.place, "hedge_policy");
        }
        if let Some(retry) = retry {
            self.retry(retry, per_try.is_some());
            if self.edge.get("retry").is_some() {
                self.retry_budget(cluster.thresholds.as_ref(), retry.place);
            }
        }
    }

    /// A limit for all tries of a call together is a level around them.
    fn whole_call(&mut self, limit: At<u64>, route: &Route) {
        if self.edge.get("level").is_some() {
            if let Some(timeout) = route.timeout {
                self.without_effect(timeout.place, "route.timeout over all tries, as the edge has levels");
            }
            return;
        }
        let place = limit.place;
        let level = table(
            place,
            [
                ("name", text("route", place)),
                ("timeout", nanos(limit)),
                ("cancel", Node { value: Value::Boolean(true), place }),
            ],
        );
        lay_under(self.edge, vec![("level", Node { value: Value::Array(vec![level]), place })], place);
    }

    /// So many retries at one moment, three if nothing is written; or a share of what is active.
    fn retry_budget(&mut self, thresholds: Option<&Thresholds>, place: Place) {
        let written = thresholds.and_then(|thresholds| thresholds.retry_budget.as_ref());
        let settings = if let Some(budget) = written {
            let percent = budget.budget_percent.unwrap_or(At { value: 20.0, place });
            let least = budget.min_retry_concurrency.unwrap_or(At { value: 3, place });
            (percent, least)
        } else {
            let most = thresholds.and_then(|thresholds| thresholds.max_retries);
            (At { value: 0.0, place }, most.unwrap_or(At { value: 3, place }))
        };
        let (percent, least) = settings;
        let settings = [
            ("budget-percent", text(format!("{}%", percent.value), percent.place)),
            ("min-retry-concurrency", whole(least)),
        ];
        self.policy("retry-budget", "envoy", settings, place);
    }

    fn retry(&mut self, retry: &Retry, each_try_is_limited: bool) {
        let Some(on) = &retry.retry_on else { return };
        let mut endings: Vec<&'static str> = Vec::new();
        let mut strange = Vec::new();
        for word in on.value.split(',').map(str::trim) {
            let covered: &[&'static str] = match word {
                "5xx" => &["failure", "timeout", "rejected"],
                "gateway-error" => &["timeout", "rejected"],
                "unavailable" | "resource-exhausted" => &["rejected"],
                "deadline-exceeded" => &["timeout"],
                "internal" => &["failure"],
                other => {
                    strange.push(other);
                    &[]
                }
            };
            endings.extend(covered);
        }
        if !strange.is_empty() {
            self.without_effect(on.place, format!("retry_on {}", strange.join(", ")));
        }
        // When the limit of the whole route is over, nothing is tried any more.
        endings.retain(|ending| each_try_is_limited || *ending != "timeout");
        endings.sort_unstable();
        endings.dedup();
        let retries = retry.num_retries.map_or(1, |retries| retries.value);
        if endings.is_empty() || retries == 0 {
            return;
        }
        let base = retry.base_interval.unwrap_or(At { value: 25_000_000, place: retry.place });
        let most = retry
            .max_interval
            .unwrap_or_else(|| At { value: base.value.saturating_mul(10), place: base.place });
        // The n-th wait is uniform below base 2^(n - 1), which `exponential` calls half of that.
        let half = At { value: base.value / 2, place: base.place };
        let attempts = Node {
            value: Value::Integer(i128::from(retries) + 1),
            place: retry.num_retries.map_or(retry.place, |retries| retries.place),
        };
        let list = endings.iter().map(|ending| text(*ending, on.place)).collect();
        let settings = [
            ("attempts", attempts),
            ("base", nanos(half)),
            ("max-delay", nanos(most)),
            ("on", Node { value: Value::Array(list), place: on.place }),
        ];
        self.policy("retry", "exponential", settings, retry.place);
    }
}

fn slow_start(slow: &SlowStart) -> (&'static str, Node) {
    let mut settings = vec![("window", nanos(slow.window))];
    settings.extend(slow.aggression.map(|aggression| ("aggression", float(aggression))));
    let least = slow.min_weight_percent;
    settings
        .extend(least.map(|least| ("min-weight-percent", text(format!("{}%", least.value), least.place))));
    ("slow-start", table(slow.place, settings))
}

fn whole(number: At<u64>) -> Node {
    Node { value: Value::Integer(number.value.into()), place: number.place }
}

fn float(number: At<f64>) -> Node {
    Node { value: Value::Float(number.value), place: number.place }
}

fn nanos(duration: At<u64>) -> Node {
    text(format!("{}ns", duration.value), duration.place)
}
