//! Envoy's clusters and routes, as in a static bootstrap, in answers of its discovery services, or as fragments of these.
//!
//! Origin: Envoy's v3 API: `config/cluster/v3/cluster.proto`, `circuit_breaker.proto` and `outlier_detection.proto`,
//! `config/route/v3/route.proto` and `route_components.proto` (names of fields, defaults), `config/bootstrap/v3/bootstrap.proto`.
//! Field names may be in snake case or, as JSON allows, in camel case. Lists of fields without effect are from the
//! documentation of the API; what is not in them is an error, as it is for Envoy.

use std::path::Path;

use super::fields::{Fields, Findings};
use super::yaml::{self, Entry, Node, Value};
use crate::scenario::error::{Diagnostic, Place, shortened};
use crate::scenario::files::Files;

/// A value and where it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::scenario) struct At<T> {
    pub(in crate::scenario) value: T,
    pub(in crate::scenario) place: Place,
}

/// What one file says.
#[derive(Debug)]
pub(in crate::scenario) struct Envoy {
    /// Path of the file.
    pub(in crate::scenario) file: String,
    pub(in crate::scenario) clusters: Vec<Cluster>,
    pub(in crate::scenario) routes: Vec<Route>,
    /// What has no effect: line and path.
    no_effect: Vec<(usize, String)>,
}

/// One cluster.
#[derive(Debug)]
pub(in crate::scenario) struct Cluster {
    pub(in crate::scenario) name: At<String>,
    /// Path in the file, with a dot at its end.
    path: String,
    pub(in crate::scenario) connect_timeout: Option<At<u64>>,
    pub(in crate::scenario) lb_policy: Option<At<LbPolicy>>,
    pub(in crate::scenario) least_request: LeastRequest,
    pub(in crate::scenario) ring_hash: RingHash,
    pub(in crate::scenario) maglev_table_size: Option<At<u64>>,
    /// Percent.
    pub(in crate::scenario) healthy_panic_threshold: Option<At<f64>>,
    /// Those of the default priority.
    pub(in crate::scenario) thresholds: Option<Thresholds>,
    /// Fields of `outlier_detection` in the order of the file.
    pub(in crate::scenario) outlier_detection: Option<OutlierDetection>,
    /// The first of them; Envoy makes them all.
    pub(in crate::scenario) health_check: Option<HealthCheck>,
    /// That of the round robin or of least request, whichever is the policy.
    pub(in crate::scenario) slow_start: Option<SlowStart>,
}

/// `lb_policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scenario) enum LbPolicy {
    RoundRobin,
    LeastRequest,
    Random,
    RingHash,
    Maglev,
    /// Chosen by something that is not read here.
    Elsewhere,
}

/// `least_request_lb_config`.
#[derive(Debug, Default)]
pub(in crate::scenario) struct LeastRequest {
    pub(in crate::scenario) choice_count: Option<At<u64>>,
    pub(in crate::scenario) active_request_bias: Option<At<f64>>,
    pub(in crate::scenario) full_scan: Option<At<bool>>,
    slow_start: Option<SlowStart>,
}

/// `ring_hash_lb_config`.
#[derive(Debug, Default)]
pub(in crate::scenario) struct RingHash {
    pub(in crate::scenario) minimum_ring_size: Option<At<u64>>,
    pub(in crate::scenario) maximum_ring_size: Option<At<u64>>,
    pub(in crate::scenario) hash_function: Option<At<String>>,
}

/// `circuit_breakers.thresholds`.
#[derive(Debug, Default)]
pub(in crate::scenario) struct Thresholds {
    pub(in crate::scenario) max_connections: Option<At<u64>>,
    pub(in crate::scenario) max_pending_requests: Option<At<u64>>,
    pub(in crate::scenario) max_requests: Option<At<u64>>,
    pub(in crate::scenario) max_retries: Option<At<u64>>,
    pub(in crate::scenario) retry_budget: Option<RetryBudget>,
}

/// `retry_budget`.
#[derive(Debug, Default)]
pub(in crate::scenario) struct RetryBudget {
    /// Percent.
    pub(in crate::scenario) budget_percent: Option<At<f64>>,
    pub(in crate::scenario) min_retry_concurrency: Option<At<u64>>,
}

/// One of `health_checks`.
#[derive(Debug)]
pub(in crate::scenario) struct HealthCheck {
    pub(in crate::scenario) place: Place,
    pub(in crate::scenario) counts: Vec<(&'static str, At<u64>)>,
    /// Nanoseconds.
    pub(in crate::scenario) durations: Vec<(&'static str, At<u64>)>,
}

/// `slow_start_config`.
#[derive(Clone, Copy, Debug)]
pub(in crate::scenario) struct SlowStart {
    pub(in crate::scenario) place: Place,
    /// Nanoseconds.
    pub(in crate::scenario) window: At<u64>,
    pub(in crate::scenario) aggression: Option<At<f64>>,
    pub(in crate::scenario) min_weight_percent: Option<At<f64>>,
}

/// `outlier_detection`, by the names of its fields.
#[derive(Debug, Default)]
pub(in crate::scenario) struct OutlierDetection {
    pub(in crate::scenario) place: Place,
    pub(in crate::scenario) counts: Vec<(&'static str, At<u64>)>,
    /// Nanoseconds.
    pub(in crate::scenario) durations: Vec<(&'static str, At<u64>)>,
    pub(in crate::scenario) flags: Vec<(&'static str, At<bool>)>,
}

/// A route to one cluster.
#[derive(Clone, Debug)]
pub(in crate::scenario) struct Route {
    pub(in crate::scenario) name: Option<String>,
    pub(in crate::scenario) cluster: String,
    pub(in crate::scenario) place: Place,
    path: String,
    /// Nanoseconds, 0 being no limit; `None` is the default of 15 s.
    pub(in crate::scenario) timeout: Option<At<u64>>,
    /// Its own, else that of its virtual host, else that of the table.
    pub(in crate::scenario) retry: Option<Retry>,
    pub(in crate::scenario) hedge: Option<Hedge>,
}

/// `retry_policy`.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_field_names, reason = "Envoy's names")]
pub(in crate::scenario) struct Retry {
    pub(in crate::scenario) place: Place,
    path: String,
    pub(in crate::scenario) retry_on: Option<At<String>>,
    pub(in crate::scenario) num_retries: Option<At<u64>>,
    pub(in crate::scenario) per_try_timeout: Option<At<u64>>,
    pub(in crate::scenario) base_interval: Option<At<u64>>,
    pub(in crate::scenario) max_interval: Option<At<u64>>,
}

/// `hedge_policy`.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::scenario) struct Hedge {
    pub(in crate::scenario) place: Place,
    pub(in crate::scenario) hedge_on_per_try_timeout: Option<At<bool>>,
}

/// Reads the file.
pub(in crate::scenario) fn read(path: &Path, files: &mut Files) -> Result<Envoy, Vec<Diagnostic>> {
    let one = |error| vec![error];
    let number = files.manifest(path).map_err(one)?;
    let name = files.sources[number as usize].name.clone();
    let documents = yaml::documents(&files.sources[number as usize].text, number).map_err(one)?;
    let mut findings = Findings::default();
    let (mut clusters, mut routes) = (Vec::new(), Vec::new());
    for document in &documents {
        let document = in_snake_case(document);
        if !matches!(document.value, Value::Mapping(_)) {
            let message = format!("Envoy's configuration is a mapping, not {}", document.kind());
            findings.errors.push(Diagnostic::new(message).at(document.place));
        }
        let found = Fields::document(&document, &mut findings, root);
        if let Some(found) = found {
            clusters.extend(found.clusters);
            routes.extend(found.routes);
        }
    }
    for (at, cluster) in clusters.iter().enumerate() {
        let name = &cluster.name;
        if clusters[..at].iter().any(|earlier| earlier.name.value == name.value) {
            let message = format!("there are two clusters named `{}`", shortened(&name.value));
            findings.errors.push(Diagnostic::new(message).at(name.place));
        }
    }
    if !findings.errors.is_empty() {
        return Err(findings.errors);
    }
    let no_effect =
        findings.no_effect.iter().map(|(place, path)| (files.line(*place), path.clone())).collect();
    Ok(Envoy { file: name, clusters, routes, no_effect })
}

impl Envoy {
    /// What is written for the cluster and the route and has no effect: line and path.
    pub(in crate::scenario) fn no_effect(
        &self,
        cluster: &Cluster,
        route: Option<&Route>,
    ) -> Vec<(usize, String)> {
        let retry = route.and_then(|route| route.retry.as_ref()).map(|retry| retry.path.as_str());
        let used = [Some(cluster.path.as_str()), route.map(|route| route.path.as_str()), retry];
        let is_used = |path: &str| used.into_iter().flatten().any(|used| path.starts_with(used));
        self.no_effect.iter().filter(|(_, path)| is_used(path)).cloned().collect()
    }
}

/// Keys in snake case; names of types stay.
fn in_snake_case(node: &Node) -> Node {
    let value = match &node.value {
        Value::Mapping(entries) => {
            let entry = |entry: &Entry| Entry {
                key: snake(&entry.key),
                place: entry.place,
                node: in_snake_case(&entry.node),
            };
            Value::Mapping(entries.iter().map(entry).collect())
        }
        Value::Sequence(items) => Value::Sequence(items.iter().map(in_snake_case).collect()),
        other => other.clone(),
    };
    Node { value, place: node.place }
}

fn snake(key: &str) -> String {
    if !key.starts_with(|c: char| c.is_ascii_lowercase()) || key.contains(['_', '.', '-', '/']) {
        return key.to_owned();
    }
    let mut name = String::new();
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name.replace("consecutive5xx", "consecutive_5xx")
}

#[derive(Default)]
struct Found {
    clusters: Vec<Cluster>,
    routes: Vec<Route>,
}

impl Found {
    fn add(&mut self, other: Option<Self>) {
        let Some(other) = other else { return };
        self.clusters.extend(other.clusters);
        self.routes.extend(other.routes);
    }
}

/// A bootstrap, an answer of a discovery service, or one of its resources.
fn root(fields: &mut Fields<'_>) -> Option<Found> {
    let mut found = Found::default();
    if fields.has("lb_policy") || fields.has("load_assignment") || fields.has("connect_timeout") {
        found.clusters.extend(cluster(fields));
        return Some(found);
    }
    if fields.has("virtual_hosts") {
        fields.silent(&["@type"]);
        found.routes.extend(route_table(fields).unwrap_or_default());
        return Some(found);
    }
    found.add(fields.object("static_resources", |fields| {
        fields.no_effect(&["secrets"]);
        Some(resources(fields))
    }));
    found.add(Some(resources(fields)));
    for list in ["resources", "configs"] {
        for inner in fields.list(list, root).unwrap_or_default() {
            found.add(Some(inner));
        }
    }
    let named = fields.object("route_config", route_table);
    found.routes.extend(named.unwrap_or_default());
    fields.no_effect(&[
        "admin",
        "application_log_config",
        "bootstrap_extensions",
        "cluster_manager",
        "config_source_specifier",
        "default_regex_engine",
        "default_socket_interface",
        "dynamic_resources",
        "enable_dispatcher_stats",
        "flags_path",
        "hds_config",
        "layered_runtime",
        "node",
        "overload_manager",
        "stats_config",
        "stats_flush_interval",
        "stats_sinks",
        "tracing",
        "watchdog",
        "watchdogs",
    ]);
    fields.silent(&["@type", "type_url", "version_info", "nonce"]);
    Some(found)
}

/// `clusters` and `listeners`.
fn resources(fields: &mut Fields<'_>) -> Found {
    let clusters = fields.list("clusters", cluster).unwrap_or_default();
    let listeners = fields.list("listeners", listener).unwrap_or_default();
    Found { clusters, routes: listeners.into_iter().flatten().collect() }
}

/// Of listeners only the routes are read.
fn listener(fields: &mut Fields<'_>) -> Option<Vec<Route>> {
    let chains = fields.list("filter_chains", |fields| {
        let filters = fields.list("filters", |fields| {
            let routes = fields.object("typed_config", |fields| {
                let routes = fields.object("route_config", route_table);
                fields.anything();
                routes
            });
            fields.anything();
            Some(routes.unwrap_or_default())
        });
        fields.anything();
        Some(filters.unwrap_or_default().into_iter().flatten().collect::<Vec<_>>())
    });
    fields.anything();
    Some(chains.unwrap_or_default().into_iter().flatten().collect())
}

fn cluster(fields: &mut Fields<'_>) -> Option<Cluster> {
    fields.silent(&["@type"]);
    fields.need(&["name"]);
    let name = placed(fields, "name", |node, name| text(node, name).map(str::to_owned));
    let connect_timeout = duration(fields, "connect_timeout");
    let policies = [
        ("ROUND_ROBIN", LbPolicy::RoundRobin),
        ("LEAST_REQUEST", LbPolicy::LeastRequest),
        ("RANDOM", LbPolicy::Random),
        ("RING_HASH", LbPolicy::RingHash),
        ("MAGLEV", LbPolicy::Maglev),
        ("CLUSTER_PROVIDED", LbPolicy::Elsewhere),
        ("LOAD_BALANCING_POLICY_CONFIG", LbPolicy::Elsewhere),
    ];
    let lb_policy = fields.choice("lb_policy", &policies);
    let lb_policy = lb_policy.map(|value| At { value, place: place(fields, "lb_policy") });
    let least_request = fields.object("least_request_lb_config", least_request).unwrap_or_default();
    let round_robin = fields.object("round_robin_lb_config", |fields| {
        fields.no_effect(&["locality_lb_config"]);
        Some(fields.object("slow_start_config", slow_start))
    });
    let ring_hash = fields.object("ring_hash_lb_config", ring_hash).unwrap_or_default();
    let maglev = fields.object("maglev_lb_config", |fields| {
        fields.no_effect(&["consistent_hashing_lb_config", "locality_weighted_lb_config"]);
        Some(whole(fields, "table_size"))
    });
    let common = fields.object("common_lb_config", |fields| {
        let threshold = percent(fields, "healthy_panic_threshold");
        fields.no_effect(&[
            "close_connections_on_host_set_change",
            "consistent_hashing_lb_config",
            "ignore_new_hosts_until_first_hc",
            "locality_weighted_lb_config",
            "override_host_status",
            "update_merge_window",
            "zone_aware_lb_config",
        ]);
        Some(threshold)
    });
    let thresholds = fields.object("circuit_breakers", circuit_breakers).flatten();
    let outlier_detection = fields.object("outlier_detection", outlier_detection);
    let health_checks = fields.list("health_checks", health_check).unwrap_or_default();
    fields.no_effect(&[
        "alt_stat_name",
        "cleanup_interval",
        "close_connections_on_host_health_failure",
        "cluster_type",
        "common_http_protocol_options",
        "connection_pool_per_downstream_connection",
        "dns_failure_refresh_rate",
        "dns_jitter",
        "dns_lookup_family",
        "dns_refresh_rate",
        "dns_resolution_config",
        "dns_resolvers",
        "eds_cluster_config",
        "filters",
        "http2_protocol_options",
        "http_protocol_options",
        "ignore_health_on_host_removal",
        "lb_subset_config",
        "load_assignment",
        "load_balancing_policy",
        "lrs_report_endpoint_metrics",
        "lrs_server",
        "max_requests_per_connection",
        "original_dst_lb_config",
        "per_connection_buffer_limit_bytes",
        "preconnect_policy",
        "protocol_selection",
        "respect_dns_ttl",
        "track_cluster_stats",
        "track_timeout_budgets",
        "transport_socket",
        "transport_socket_matches",
        "typed_dns_resolver_config",
        "typed_extension_protocol_options",
        "upstream_bind_config",
        "upstream_config",
        "upstream_connection_options",
        "upstream_http_protocol_options",
        "use_tcp_for_dns_lookups",
        "wait_for_warm_on_init",
    ]);
    fields.silent(&["metadata", "type"]);
    let slow_start = match lb_policy.map(|policy| policy.value) {
        None | Some(LbPolicy::RoundRobin) => round_robin.flatten(),
        Some(LbPolicy::LeastRequest) => least_request.slow_start,
        Some(_) => None,
    };
    Some(Cluster {
        name: name?,
        path: format!("{}.", fields.path()),
        connect_timeout,
        lb_policy,
        least_request,
        ring_hash,
        maglev_table_size: maglev.flatten(),
        healthy_panic_threshold: common.flatten(),
        thresholds,
        outlier_detection,
        health_check: health_checks.into_iter().next(),
        slow_start,
    })
}

fn least_request(fields: &mut Fields<'_>) -> Option<LeastRequest> {
    let choice_count = whole(fields, "choice_count");
    if let Some(At { value: 0 | 1, .. }) = choice_count {
        fields.refuse("choice_count", "`choice_count` is less than 2, which Envoy refuses");
    }
    let bias = fields.object("active_request_bias", |fields| {
        fields.silent(&["runtime_key"]);
        Some(number(fields, "default_value"))
    });
    let methods = [("N_CHOICES", false), ("FULL_SCAN", true)];
    let method = fields.choice("selection_method", &methods);
    let method = method.map(|value| At { value, place: place(fields, "selection_method") });
    let full_scan = flag(fields, "enable_full_scan");
    fields.no_effect(&["locality_lb_config"]);
    Some(LeastRequest {
        choice_count,
        active_request_bias: bias.flatten(),
        full_scan: method.or(full_scan),
        slow_start: fields.object("slow_start_config", slow_start),
    })
}

/// Without a window it is off.
fn slow_start(fields: &mut Fields<'_>) -> Option<SlowStart> {
    let window = duration(fields, "slow_start_window");
    let aggression = fields.object("aggression", |fields| {
        fields.silent(&["runtime_key"]);
        Some(number(fields, "default_value"))
    });
    Some(SlowStart {
        place: fields.place,
        aggression: aggression.flatten(),
        min_weight_percent: percent(fields, "min_weight_percent"),
        window: window.filter(|window| window.value > 0)?,
    })
}

fn health_check(fields: &mut Fields<'_>) -> Option<HealthCheck> {
    fields.need(&["timeout", "interval", "unhealthy_threshold", "healthy_threshold"]);
    let mut read = HealthCheck { place: fields.place, counts: Vec::new(), durations: Vec::new() };
    for name in ["unhealthy_threshold", "healthy_threshold"] {
        read.counts.extend(whole(fields, name).map(|count| (name, count)));
    }
    for name in [
        "timeout",
        "interval",
        "interval_jitter",
        "unhealthy_interval",
        "unhealthy_edge_interval",
        "healthy_edge_interval",
    ] {
        read.durations.extend(duration(fields, name).map(|length| (name, length)));
    }
    for name in
        ["timeout", "interval", "unhealthy_interval", "unhealthy_edge_interval", "healthy_edge_interval"]
    {
        if read.durations.iter().any(|(other, length)| *other == name && length.value == 0) {
            fields.refuse(name, format!("`{name}` must be longer than zero"));
        }
    }
    for (name, count) in &read.counts {
        if count.value == 0 {
            fields.refuse(name, format!("`{name}` must be at least 1"));
        }
    }
    // How it asks and what it makes of the words of the answer is not behaviour here.
    for kind in ["http_health_check", "grpc_health_check", "tcp_health_check", "custom_health_check"] {
        fields.silent(&[kind]);
    }
    fields.silent(&[
        "event_log_path",
        "event_logger",
        "tls_options",
        "transport_socket_match_criteria",
        "alt_port",
    ]);
    fields.silent(&["always_log_health_check_failures", "always_log_health_check_success"]);
    fields.no_effect(&[
        "initial_jitter",
        "interval_jitter_percent",
        "no_traffic_interval",
        "no_traffic_healthy_interval",
    ]);
    fields.no_effect(&["reuse_connection"]);
    Some(read)
}

fn ring_hash(fields: &mut Fields<'_>) -> Option<RingHash> {
    fields.no_effect(&["consistent_hashing_lb_config", "locality_weighted_lb_config"]);
    let read = RingHash {
        minimum_ring_size: whole(fields, "minimum_ring_size"),
        maximum_ring_size: whole(fields, "maximum_ring_size"),
        hash_function: placed(fields, "hash_function", |node, name| match text(node, name)? {
            word @ ("XX_HASH" | "MURMUR_HASH_2") => Ok(word.to_owned()),
            word => Err(Diagnostic::new(format!("unknown hash_function `{}`", shortened(word)))
                .among(word, ["XX_HASH", "MURMUR_HASH_2"])),
        }),
    };
    if let (Some(least), Some(most)) = (read.minimum_ring_size, read.maximum_ring_size)
        && least.value > most.value
    {
        let message = format!(
            "`minimum_ring_size` ({}) is more than `maximum_ring_size` ({})",
            least.value, most.value
        );
        fields.refuse("minimum_ring_size", message);
    }
    Some(read)
}

/// `None` if it was refused, `None` inside if it bounds nothing here.
#[expect(clippy::option_option, reason = "two different ways of having none")]
fn circuit_breakers(fields: &mut Fields<'_>) -> Option<Option<Thresholds>> {
    fields.no_effect(&["per_host_thresholds"]);
    let thresholds = fields.list("thresholds", |fields| {
        let is_high = fields.choice("priority", &[("DEFAULT", false), ("HIGH", true)]).unwrap_or(false);
        fields.no_effect(&["max_connection_pools", "track_remaining"]);
        let read = Thresholds {
            max_connections: whole(fields, "max_connections"),
            max_pending_requests: whole(fields, "max_pending_requests"),
            max_requests: whole(fields, "max_requests"),
            max_retries: whole(fields, "max_retries"),
            retry_budget: fields.object("retry_budget", |fields| {
                Some(RetryBudget {
                    budget_percent: percent(fields, "budget_percent"),
                    min_retry_concurrency: whole(fields, "min_retry_concurrency"),
                })
            }),
        };
        Some((is_high, read))
    });
    Some(thresholds.unwrap_or_default().into_iter().find(|(is_high, _)| !is_high).map(|(_, read)| read))
}

fn outlier_detection(fields: &mut Fields<'_>) -> Option<OutlierDetection> {
    let mut read = OutlierDetection { place: fields.place, ..OutlierDetection::default() };
    for name in [
        "consecutive_5xx",
        "consecutive_gateway_failure",
        "consecutive_local_origin_failure",
        "enforcing_consecutive_5xx",
        "enforcing_consecutive_gateway_failure",
        "enforcing_consecutive_local_origin_failure",
        "enforcing_failure_percentage",
        "enforcing_failure_percentage_local_origin",
        "enforcing_local_origin_success_rate",
        "enforcing_success_rate",
        "failure_percentage_minimum_hosts",
        "failure_percentage_request_volume",
        "failure_percentage_threshold",
        "max_ejection_percent",
        "success_rate_minimum_hosts",
        "success_rate_request_volume",
        "success_rate_stdev_factor",
    ] {
        let count = whole(fields, name);
        let is_percent =
            name.starts_with("enforcing") || name.ends_with("percent") || name.ends_with("threshold");
        if let Some(At { value, .. }) = count.filter(|count| is_percent && count.value > 100) {
            fields.refuse(name, format!("`{name}` is {value}, but must be at most 100 (percent)"));
        }
        read.counts.extend(count.map(|count| (name, count)));
    }
    for name in ["interval", "base_ejection_time", "max_ejection_time", "max_ejection_time_jitter"] {
        read.durations.extend(duration(fields, name).map(|duration| (name, duration)));
    }
    for name in [
        "split_external_local_origin_errors",
        "successful_active_health_check_uneject_host",
        "always_eject_one_host",
    ] {
        read.flags.extend(flag(fields, name).map(|flag| (name, flag)));
    }
    fields.no_effect(&["monitors", "detect_degraded_hosts"]);
    Some(read)
}

/// The routes of a table, each with what it inherits.
fn route_table(fields: &mut Fields<'_>) -> Option<Vec<Route>> {
    let hosts = fields.list("virtual_hosts", |fields| {
        let routes = fields.list("routes", route).unwrap_or_default();
        let retry = fields.object("retry_policy", retry);
        let hedge = fields.object("hedge_policy", hedge);
        fields.anything();
        let routes = routes.into_iter().flatten().map(|route| Route {
            retry: route.retry.or_else(|| retry.clone()),
            hedge: route.hedge.or_else(|| hedge.clone()),
            ..route
        });
        Some(routes.collect::<Vec<_>>())
    });
    fields.anything();
    Some(hosts.unwrap_or_default().into_iter().flatten().collect())
}

/// One route; `None` inside if it leads to no cluster of that name.
#[expect(clippy::option_option, reason = "two different ways of having none")]
fn route(fields: &mut Fields<'_>) -> Option<Option<Route>> {
    let name = fields.text("name");
    let place = fields.place;
    let action = fields.object("route", |fields| {
        let read = Route {
            name: None,
            cluster: fields.text("cluster").unwrap_or_default(),
            place,
            path: format!("{}.", fields.path()),
            timeout: duration(fields, "timeout"),
            retry: fields.object("retry_policy", retry),
            hedge: fields.object("hedge_policy", hedge),
        };
        fields.no_effect(&[
            "hash_policy",
            "idle_timeout",
            "max_stream_duration",
            "rate_limits",
            "weighted_clusters",
        ]);
        fields.no_effect(&["request_mirror_policies", "priority"]);
        // Which request goes where, and what is rewritten, is not behaviour here.
        fields.silent(&[
            "append_x_forwarded_host",
            "auto_host_rewrite",
            "cluster_header",
            "cluster_not_found_response_code",
            "cluster_specifier_plugin",
            "cors",
            "early_data_policy",
            "host_rewrite",
            "host_rewrite_header",
            "host_rewrite_literal",
            "host_rewrite_path_regex",
            "include_vh_rate_limits",
            "inline_cluster_specifier_plugin",
            "internal_redirect_policy",
            "max_grpc_timeout",
            "metadata_match",
            "path_rewrite_policy",
            "prefix_rewrite",
            "regex_rewrite",
            "retry_policy_typed_config",
            "upgrade_configs",
        ]);
        Some(read)
    });
    fields.anything();
    Some(action.filter(|route| !route.cluster.is_empty()).map(|route| Route { name, ..route }))
}

fn retry(fields: &mut Fields<'_>) -> Option<Retry> {
    let mut read = Retry {
        place: fields.place,
        path: format!("{}.", fields.path()),
        retry_on: placed(fields, "retry_on", |node, name| text(node, name).map(str::to_owned)),
        num_retries: whole(fields, "num_retries"),
        per_try_timeout: duration(fields, "per_try_timeout"),
        base_interval: None,
        max_interval: None,
    };
    let intervals = fields.object("retry_back_off", |fields| {
        fields.need(&["base_interval"]);
        let (base, most) = (duration(fields, "base_interval"), duration(fields, "max_interval"));
        if let Some(At { value: 0, .. }) = base {
            fields.refuse("base_interval", "`base_interval` must be longer than zero");
        }
        if let (Some(base), Some(most)) = (base, most)
            && most.value < base.value
        {
            fields.refuse("max_interval", "`max_interval` is shorter than `base_interval`");
        }
        Some((base, most))
    });
    (read.base_interval, read.max_interval) = intervals.unwrap_or_default();
    fields.no_effect(&[
        "host_selection_retry_max_attempts",
        "per_try_idle_timeout",
        "rate_limited_retry_back_off",
        "retriable_headers",
        "retriable_request_headers",
        "retriable_status_codes",
        "retry_host_predicate",
        "retry_options_predicates",
        "retry_priority",
    ]);
    Some(read)
}

fn hedge(fields: &mut Fields<'_>) -> Option<Hedge> {
    fields.no_effect(&["initial_requests", "additional_request_chance"]);
    Some(Hedge { place: fields.place, hedge_on_per_try_timeout: flag(fields, "hedge_on_per_try_timeout") })
}

fn place(fields: &Fields<'_>, name: &str) -> Place {
    fields.value_place(name).unwrap_or(fields.place)
}

fn placed<T>(
    fields: &mut Fields<'_>,
    name: &'static str,
    read: impl FnOnce(&Node, &str) -> Result<T, Diagnostic>,
) -> Option<At<T>> {
    let value = fields.get(name, read)?;
    Some(At { value, place: place(fields, name) })
}

fn text<'n>(node: &'n Node, name: &str) -> Result<&'n str, Diagnostic> {
    let wrong = || Diagnostic::new(format!("`{name}` is a string, not {}", node.kind()));
    node.scalar().filter(|text| !text.is_empty()).ok_or_else(wrong)
}

/// A whole number, also in quotes, as JSON allows for Envoy.
fn whole(fields: &mut Fields<'_>, name: &'static str) -> Option<At<u64>> {
    placed(fields, name, |node, name| {
        let number = node.scalar().and_then(|text| text.parse::<u64>().ok());
        let wrong = || {
            let what =
                node.scalar().map_or_else(|| node.kind().to_owned(), |text| format!("`{}`", shortened(text)));
            Diagnostic::new(format!("`{name}` is a whole number from 0 up, not {what}"))
        };
        number.ok_or_else(wrong)
    })
}

fn number(fields: &mut Fields<'_>, name: &'static str) -> Option<At<f64>> {
    placed(fields, name, |node, name| {
        let number =
            node.scalar().and_then(|text| text.parse::<f64>().ok()).filter(|number| number.is_finite());
        number.ok_or_else(|| Diagnostic::new(format!("`{name}` is a number")))
    })
}

fn flag(fields: &mut Fields<'_>, name: &'static str) -> Option<At<bool>> {
    placed(fields, name, |node, name| match node.scalar() {
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        _ => Err(Diagnostic::new(format!("`{name}` is true or false, not {}", node.kind()))),
    })
}

/// `{ value: 50 }`, from 0 to 100.
fn percent(fields: &mut Fields<'_>, name: &'static str) -> Option<At<f64>> {
    let read = fields.object(name, |fields| {
        let read = number(fields, "value");
        if let Some(At { value, .. }) = read
            && !(0.0..=100.0).contains(&value)
        {
            fields.refuse("value", format!("`{name}` is {value}, but must be from 0 to 100 (percent)"));
        }
        Some(read)
    });
    read.flatten()
}

/// Nanoseconds of a duration in the notation of protocol buffers.
fn duration(fields: &mut Fields<'_>, name: &'static str) -> Option<At<u64>> {
    placed(fields, name, |node, name| {
        let Some(text) = node.scalar() else {
            return Err(Diagnostic::new(format!(
                "`{name}` is a duration such as 0.25s, not {}",
                node.kind()
            )));
        };
        let error = || {
            let error =
                Diagnostic::new(format!("`{name}` is a duration in seconds, not `{}`", shortened(text)));
            error.hint("Envoy takes seconds only, with their unit: 0.25s, 30s")
        };
        proto_duration(text).ok_or_else(error)
    })
}

fn proto_duration(text: &str) -> Option<u64> {
    let (whole, fraction) =
        text.strip_suffix('s').map(|seconds| seconds.split_once('.').unwrap_or((seconds, "")))?;
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos = format!("{fraction:0<9}").parse::<u64>().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_protocol_buffers() {
        assert_eq!(proto_duration("0.25s"), Some(250_000_000));
        assert_eq!(proto_duration("15s"), Some(15_000_000_000));
        assert_eq!(proto_duration("0s"), Some(0));
        for text in ["", "s", "250ms", "1", "1.0000000001s", "-1s", "1.5 s"] {
            assert_eq!(proto_duration(text), None, "{text}");
        }
    }

    #[test]
    fn keys_may_be_in_camel_case() {
        assert_eq!(snake("lbPolicy"), "lb_policy");
        assert_eq!(snake("lb_policy"), "lb_policy");
        assert_eq!(snake("enforcingConsecutive5xx"), "enforcing_consecutive_5xx");
        assert_eq!(snake("http2ProtocolOptions"), "http2_protocol_options");
        assert_eq!(snake("@type"), "@type");
        assert_eq!(snake("envoy.filters.http.Router"), "envoy.filters.http.Router");
    }
}
