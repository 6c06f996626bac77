//! From what was written to what is meant: the only place that can say no to a name, a number or a combination.
//!
//! Every method reports what is wrong and goes on with a stand-in, so that one look shows all mistakes. Nothing of the
//! result is used once there was an error.

mod alerts;
mod attributes;
mod calls;
mod configs;
mod connections;
mod events;
mod groups;
mod health;
mod machines;
mod measures;
mod messages;
mod queues;
mod resources;
mod traffic;
mod versions;
mod widths;

use std::ops::Range;

use super::de::{Policy, Spanned};
use super::error::{Diagnostic, Place, enumerated, shortened};
use super::files::Files;
use super::loops;
use super::model::{
    Activator, Arrivals, Attribute, Cache, CpuSharing, Edge, Endpoint, EndpointRef, Full, Instance, Limits,
    Link, MetricsPipeline, Mode, Network, NodePool, OnTerm, Pool, Registry, Scenario, Service, Signal,
    SlowDown, Thing, Transaction, WarmUp,
};
use super::schema::{
    ActivatorTable, CacheTable, Count, CpuWord, EdgeTable, FullWord, InstanceTable, LawText, LimitsTable,
    MetricsTable, ModeWord, NetworkTable, OnTermWord, PoolOrPools, PoolTable, ScenarioFile, ScopeWord,
    ServiceTable, SlowDownChoice, SourceTable,
};
use crate::policies::autoscaler::{Autoscaler as _, AutoscalerSettings, Query};
use crate::random::law::{Dimension, Law};
use crate::time::{Duration, Time};
use crate::units::{Price, UnitError};

use machines::{apart, registry, zones};
use measures::Measured;

/// A check in progress.
pub(super) struct Check<'a> {
    pub(super) files: &'a mut Files,
    pub(super) errors: Vec<Diagnostic>,
    pub(super) warnings: Vec<String>,
    pub(super) limits: Limits,
    /// End of the run, for what is computed ahead.
    pub(super) duration: Duration,
    /// What the source at hand sends at most.
    most_requests: Option<u64>,
    /// Names by which things are referred to.
    names: Names,
}

/// Everything that can be referred to.
#[derive(Default)]
struct Names {
    zones: Vec<String>,
    pools: Vec<String>,
    services: Vec<String>,
    endpoints: Vec<Vec<Spanned<String>>>,
    sources: Vec<String>,
    /// What is simulated of each service, for those who watch it.
    measured: Vec<Measured>,
    alerts: Vec<String>,
    predictions: Vec<String>,
    topics: Vec<String>,
    transactions: Vec<String>,
    /// Endpoints that have a part in a transaction.
    parts: Vec<EndpointRef>,
    /// Endpoints that prepare, commit and abort, by transaction and participant.
    participants: Vec<Vec<[Option<EndpointRef>; 3]>>,
    attributes: Vec<Attribute>,
    /// `callers` of each service, for the edges into it.
    callers: Vec<EdgeTable>,
}

impl<'a> Check<'a> {
    pub(super) fn new(files: &'a mut Files, limits: Limits, duration: Duration) -> Self {
        Self {
            files,
            errors: Vec::new(),
            warnings: Vec::new(),
            limits,
            duration,
            most_requests: None,
            names: Names::default(),
        }
    }

    /// The scenario of one strategy.
    pub(super) fn scenario(&mut self, file: ScenarioFile) -> Scenario {
        let ScenarioFile {
            network,
            node_pool,
            service,
            source,
            fault,
            alert,
            prediction,
            action,
            rollout,
            config,
            rollback,
            topic,
            transaction,
            ..
        } = file;
        let (scheduler, provisioner) = (calls::set(&file.scheduler), calls::set(&file.provisioner));
        let registry = registry(&file.registry);
        self.names.zones = zones(&node_pool, &source);
        self.names.pools = self.unique_names("node pool", node_pool.iter().map(|pool| &pool.name));
        self.names.services = self.unique_names("service", service.iter().map(|service| &service.name));
        self.names.sources = self.unique_names("source", source.iter().map(|source| &source.name));
        self.names.alerts = self.unique_names("alert", alert.iter().map(|alert| &alert.name));
        self.names.predictions =
            self.unique_names("prediction", prediction.iter().map(|prediction| &prediction.name));
        self.unique_names("configuration", config.iter().map(|config| &config.name));
        self.unique_names("rollback", rollback.iter().map(|rollback| &rollback.name));
        self.names.topics = self.unique_names("topic", topic.iter().map(|topic| &topic.name));
        self.names.transactions =
            self.unique_names("transaction", transaction.iter().map(|transaction| &transaction.name));
        self.names.endpoints = service
            .iter()
            .map(|service| service.endpoint.iter().map(|endpoint| endpoint.name.clone()).collect())
            .collect();
        self.names.attributes = self.attributes(&source);
        self.names.measured = service.iter().map(Measured::of).collect();
        self.names.callers = service.iter().map(|service| service.callers.clone()).collect();

        let topics = topic.iter().map(|topic| self.topic(topic)).collect();
        let transactions: Vec<Transaction> =
            transaction.iter().map(|transaction| self.transaction(transaction)).collect();
        self.names.participants = transactions.iter().map(messages::roles).collect();

        let node_pools: Vec<NodePool> = node_pool.iter().map(|pool| self.node_pool(pool)).collect();
        let network = self.network(&network);
        let mut services: Vec<Service> = Vec::new();
        for table in &service {
            let read = self.service(table, &node_pools, registry);
            services.push(read);
        }
        let sources = source.iter().map(|source| self.source(source)).collect();
        let mut scenario = Scenario {
            attributes: self.names.attributes.clone(),
            zones: self.names.zones.clone(),
            network,
            node_pools,
            scheduler: scheduler.unwrap_or_default(),
            provisioner,
            provisioning: self.provisioning(&file.provisioning),
            registry,
            services,
            sources,
            faults: Vec::new(),
            alerts: Vec::new(),
            predictions: Vec::new(),
            actions: Vec::new(),
            rollouts: Vec::new(),
            configs: Vec::new(),
            rollbacks: Vec::new(),
            topics,
            transactions,
        };
        scenario.configs = config.iter().filter_map(|config| self.config(config)).collect();
        scenario.faults = fault.iter().filter_map(|fault| self.fault(fault, &scenario)).collect();
        scenario.alerts = alert.iter().filter_map(|alert| self.alert(alert)).collect();
        scenario.predictions =
            prediction.iter().filter_map(|prediction| self.prediction(prediction, &scenario)).collect();
        scenario.rollouts =
            rollout.into_iter().filter_map(|rollout| self.rollout(rollout, &scenario)).collect();
        scenario.rollbacks =
            rollback.iter().filter_map(|rollback| self.rollback(rollback, &scenario)).collect();
        scenario.actions = action.iter().filter_map(|action| self.action(action, &scenario)).collect();
        if scenario.sources.is_empty() {
            self.errors.push(
                Diagnostic::new("there is no [[source]], so nothing would happen")
                    .hint("write [[source]] with a name, `to` and `arrivals`"),
            );
        }
        if self.errors.is_empty() {
            self.whole(&scenario, &service, &source);
        }
        scenario
    }

    /// What only shows when everything is read.
    fn whole(&mut self, scenario: &Scenario, services: &[ServiceTable], sources: &[SourceTable]) {
        if let Some(cycle) = loops::timeless_cycle(scenario) {
            let name = |at: &EndpointRef| {
                let service = &scenario.services[at.service];
                format!("{}.{}", service.name, service.endpoints[at.endpoint].name)
            };
            let mut way: Vec<String> = cycle.iter().map(name).collect();
            way.push(name(&cycle[0]));
            let place = services[cycle[0].service].endpoint[cycle[0].endpoint].name.place;
            self.errors.push(
                Diagnostic::new("these calls go round for ever without taking any time")
                    .at(place)
                    .note(format!("{} calls {}", way[0], way[1..].join(", which calls ")))
                    .hint("give one of them a `cpu` or `wait` step before its call, or a `probability` below 100%"),
            );
        }
        for (source, table) in scenario.sources.iter().zip(sources) {
            if let Arrivals::Users(users) = &source.arrivals
                && users.think.mean() <= 0.0
                && !loops::journey_takes_time(scenario, &source.steps)
            {
                self.errors.push(
                    Diagnostic::new(
                        "users without think time ask for something that takes no time, for ever",
                    )
                    .at(table.arrivals.place)
                    .hint("give them a `think` time"),
                );
            }
        }
        self.group_connections(scenario, services);
        self.priorities(sources, scenario);
        self.widths(scenario);
        let instances: u64 = scenario.services.iter().map(|service| u64::from(service.replicas)).sum();
        self.within_limit(instances, "instances at the start", self.limits.instances, "instances", None);
        self.machines(scenario);
    }

    /// `number` of something may not exceed a limit that is named in the error.
    pub(super) fn within_limit(
        &mut self,
        number: u64,
        what: &str,
        limit: u64,
        key: &str,
        place: Option<Place>,
    ) {
        if number > limit {
            let error = Diagnostic::new(format!("{number} {what} are more than the limit of {limit}"))
                .hint(format!("if that is meant, raise `{key}` under [limits]"));
            self.errors.push(Diagnostic { place, ..error });
        }
    }

    // ---- names

    /// Names that are used in messages, paths and references: well formed and each given once.
    fn unique_names<'n>(
        &mut self,
        what: &str,
        names: impl IntoIterator<Item = &'n Spanned<String>>,
    ) -> Vec<String> {
        let mut seen: Vec<String> = Vec::new();
        for name in names {
            self.well_formed(what, name, false);
            if seen.contains(&name.value) {
                let error = Diagnostic::new(format!("there are two {what}s named `{}`", name.value));
                self.errors.push(error.at(name.place).hint("every name must be its own"));
            }
            seen.push(name.value.clone());
        }
        seen
    }

    /// Letters, digits, `-`, `_`, and where it cannot be mistaken, `.`.
    pub(super) fn well_formed(&mut self, what: &str, name: &Spanned<String>, dots: bool) {
        const LONGEST: usize = 100;
        let text = &name.value;
        let extra: &[char] = match what {
            "strategy" => &['.', '+'],
            _ if dots => &['.'],
            _ => &[],
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || extra.contains(&c);
        let shown = shortened(text);
        let message = if text.is_empty() {
            format!("the name of a {what} is empty")
        } else if text.len() > LONGEST {
            format!("`{shown}` is longer than the {LONGEST} characters that a name may have")
        } else if text == "." || text == ".." {
            format!("`{shown}` cannot name a {what}: it would leave the results folder")
        } else if !text.chars().all(legal) {
            format!("`{shown}` cannot name a {what}")
        } else {
            return;
        };
        let signs = match extra {
            [] => "letters, digits, `-` and `_`",
            [_] => "letters, digits, `-`, `_` and `.`",
            _ => "letters, digits, `-`, `_`, `.` and `+`",
        };
        self.errors.push(Diagnostic::new(message).at(name.place).hint(format!("names are made of {signs}")));
    }

    /// Position of a name, or an error with the known ones.
    fn lookup<S: AsRef<str>>(&mut self, what: &str, name: &str, place: Place, known: &[S]) -> Option<usize> {
        let at = known.iter().position(|known| known.as_ref() == name);
        if at.is_none() {
            self.errors.push(Diagnostic::unknown(what, name, known.iter().map(AsRef::as_ref)).at(place));
        }
        at
    }

    /// Position of a part's name in what it belongs to: `api` has no endpoint `gte`.
    fn lookup_in(
        &mut self,
        owner: &str,
        what: &str,
        name: &str,
        place: Place,
        known: &[&str],
    ) -> Option<usize> {
        let at = known.iter().position(|known| *known == name);
        if at.is_none() {
            let error = Diagnostic::new(format!("`{owner}` has no {what} `{}`", shortened(name)));
            self.errors.push(error.at(place).among(name, known.iter().copied()));
        }
        at
    }

    fn service_named(&mut self, name: &Spanned<String>) -> Option<usize> {
        let known = self.names.services.clone();
        self.lookup("service", &name.value, name.place, &known)
    }

    fn zone_named(&mut self, name: &Spanned<String>) -> Option<usize> {
        let known = self.names.zones.clone();
        let at = self.lookup("zone", &name.value, name.place, &known);
        if at.is_none() && known.is_empty() {
            let hint = "zones exist by being named in `zones` of a node pool or `zone` of a source";
            if let Some(error) = self.errors.last_mut() {
                error.hint = Some(hint.to_owned());
            }
        }
        at
    }

    // ---- numbers and laws

    fn wrong(&mut self, message: impl Into<String>, place: Place) {
        self.errors.push(Diagnostic::new(message).at(place));
    }

    fn at_least(&mut self, value: f64, least: f64, name: &str, place: Place) -> f64 {
        if value < least {
            self.wrong(format!("`{name}` must be at least {least}, and is {value}"), place);
        }
        value
    }

    fn above_zero(&mut self, value: f64, name: &str, place: Place) -> f64 {
        if value <= 0.0 {
            self.wrong(format!("`{name}` must be above zero, and is {value}"), place);
        }
        value
    }

    fn at_most(&mut self, value: u64, most: u64, name: &str, place: Place) -> u64 {
        if value > most {
            self.wrong(format!("`{name}` may be at most {most}, and is {value}"), place);
        }
        value
    }

    fn some_time(&mut self, value: &Spanned<Duration>, name: &str) -> Duration {
        if value.value == Duration::ZERO {
            self.wrong(format!("`{name}` must be longer than zero"), value.place);
        }
        value.value
    }

    /// A number at least one, with a default.
    fn one_or_more(&mut self, value: Option<&Spanned<u32>>, name: &str, default: u32) -> u32 {
        let Some(value) = value else { return default };
        self.at_least(f64::from(value.value), 1.0, name, value.place);
        value.value
    }

    /// An error of the units layer, at the piece of the string that it is about.
    pub(super) fn unit_error(&mut self, error: UnitError, place: Place, text: &str, offset: usize) {
        let UnitError { message, hint, at } = error;
        let place = match at {
            Some(at) => self.files.inside(place, text, at.start + offset..at.end + offset),
            None => place,
        };
        self.errors.push(Diagnostic { hint, ..Diagnostic::new(message).at(place) });
    }

    /// A law out of the piece `piece` of the string `text` at `place`.
    fn law_in(&mut self, piece: Range<usize>, text: &str, place: Place, dimension: Dimension) -> Law {
        let whole = self.files.inside(place, text, piece.clone());
        let files = &mut *self.files;
        let mut read = |path: &str| match files.data(place.file, path) {
            Ok(text) => Ok(text.as_bytes().to_vec()),
            Err(reason) => Err(UnitError::new(reason)),
        };
        match Law::parse(&text[piece.clone()], dimension, &mut read) {
            Ok(law) => law,
            Err(UnitError { at: None, message, hint }) => {
                self.errors.push(Diagnostic { hint, ..Diagnostic::new(message).at(whole) });
                Law::Constant(1.0)
            }
            Err(error) => {
                self.unit_error(error, place, text, piece.start);
                Law::Constant(1.0)
            }
        }
    }

    /// A law of durations.
    fn law(&mut self, text: &Spanned<LawText>) -> Law {
        let LawText(law) = &text.value;
        self.law_in(0..law.len(), law, text.place, Dimension::Time)
    }

    fn law_or_zero(&mut self, text: Option<&Spanned<LawText>>) -> Law {
        text.map_or(Law::Constant(0.0), |text| self.law(text))
    }

    // ---- tables

    fn network(&mut self, table: &NetworkTable) -> Network {
        let default_cross = if self.names.zones.len() > 1 { 1e6 } else { 0.0 };
        let mut links: Vec<Link> = Vec::new();
        for link in &table.link {
            let latency = self.law(&link.latency);
            let Some(between) = self.two_zones(&link.between) else { continue };
            let same = |known: &Link| known.between == between || known.between == (between.1, between.0);
            if links.iter().any(same) {
                self.wrong("these two zones already have a link", link.between.place);
            }
            links.push(Link { between, latency });
        }
        Network {
            same_zone: self.law_or_zero(table.same_zone.as_ref()),
            cross_zone: table.cross_zone.as_ref().map_or(Law::Constant(default_cross), |law| self.law(law)),
            outside: self.law_or_zero(table.outside.as_ref()),
            links,
        }
    }

    fn two_zones(&mut self, between: &Spanned<[Spanned<String>; 2]>) -> Option<(usize, usize)> {
        let [a, b] = &between.value;
        let (first, second) = (self.zone_named(a), self.zone_named(b));
        if first.is_some() && first == second {
            self.wrong("`between` names the same zone twice", between.place);
        }
        Some((first?, second?))
    }

    fn service(&mut self, table: &ServiceTable, node_pools: &[NodePool], registry: Registry) -> Service {
        let homes = self.homes(table, node_pools);
        let instance = self.instance(&table.instance);
        let sidecars = self.sidecars(&table.sidecar, &instance.container);
        self.not_fifo(table);
        self.image(table, &homes, registry);
        let connections: &[PoolTable] = match &table.pool {
            PoolOrPools::Connections(pools) => pools,
            PoolOrPools::NodePool(..) => &[],
        };
        self.unique_names("connection pool", connections.iter().map(|pool| &pool.name));
        let pools: Vec<Pool> = connections
            .iter()
            .map(|pool| Pool {
                name: pool.name.value.clone(),
                size: self.one_or_more(Some(&pool.size), "size", 1),
                max_wait: pool.max_wait,
            })
            .collect();
        self.unique_names("cache", table.cache.iter().map(|cache| &cache.name));
        let caches: Vec<Cache> = table.cache.iter().map(|cache| self.cache(cache)).collect();
        self.unique_names("endpoint", table.endpoint.iter().map(|endpoint| &endpoint.name));
        if table.endpoint.is_empty() {
            let error = Diagnostic::new(format!("the service `{}` has no endpoint", table.name.value));
            self.errors
                .push(error.at(table.name.place).hint("write [[service.endpoint]] with a name and steps"));
        }
        let mut edges: Vec<Edge> = Vec::new();
        let owner = calls::Owner::Service { caches: &caches, pools: &pools };
        let endpoints: Vec<Endpoint> = table
            .endpoint
            .iter()
            .map(|endpoint| Endpoint {
                name: endpoint.name.value.clone(),
                steps: self.steps(owner, &endpoint.steps, &table.call, &mut edges),
                network_use: endpoint.network_use.as_ref().map(resources::network_use),
            })
            .collect();
        self.unused_edges("service", &table.name.value, &table.call, &edges);
        let (discovery, directory) = self.discovery(table.discovery.as_ref());
        let group = self.group(table, &endpoints);
        let probes = self.probes(table);
        let service = Service {
            name: table.name.value.clone(),
            replicas: table.replicas.map_or(1, |replicas| replicas.value),
            node_pools: homes,
            anti_affinity: apart(table.anti_affinity),
            zone_max_skew: table.zone_max_skew.map(|skew| self.one_or_more(Some(&skew), "zone-max-skew", 1)),
            instance,
            endpoints,
            edges,
            limiter: self.own_limiter(table),
            activator: self.activator(table).or_else(|| groups::waiting_room(group.as_ref())),
            on_outage: table.on_outage.as_ref().map(|written| {
                let most = u64::from(written.value.most);
                self.within_limit(most, "instances", self.limits.instances, "instances", Some(written.place));
                written.value
            }),
            disruption_budget: table.disruption_budget,
            signals: self.signals(table),
            autoscaler: calls::set(&table.autoscaler),
            recommender: calls::set(&table.recommender),
            metrics: self.metrics(&table.metrics),
            discovery,
            directory,
            probes,
            caches,
            pools,
            versions: self.versions(table),
            sidecars,
            listener: self.listener(&table.listener),
            price: table.price.map(|Price(price)| price),
            weights: self.weights(table),
            group,
        };
        self.fits(table, &service, node_pools);
        service
    }

    /// Weights of instances: at least 1, as in every proxy (0 would be an instance that is not there).
    fn weights(&mut self, table: &ServiceTable) -> Vec<u32> {
        let Some(weights) = &table.weights else { return Vec::new() };
        if weights.value.is_empty() {
            self.wrong("`weights` needs at least one weight", weights.place);
        }
        for weight in &weights.value {
            if !(1..=65_535).contains(&weight.value) {
                self.wrong("a weight is a whole number from 1 to 65535", weight.place);
            }
        }
        weights.value.iter().map(|weight| weight.value).collect()
    }

    /// Who holds attempts back: what is written, or what comes with Knative's autoscaler.
    fn activator(&mut self, table: &ServiceTable) -> Option<Activator> {
        const CAPACITY: u32 = 10_000;
        const TIMEOUT: Duration = Duration::from_secs(300);
        let of_kpa = match &table.autoscaler {
            Policy::Set(AutoscalerSettings::Kpa(settings)) => Some(settings.container_concurrency),
            _ => None,
        };
        let none = ActivatorTable::default();
        let written = table.activator.as_ref().or_else(|| of_kpa.map(|_| &none))?;
        let unlimited = |count: &u32| *count < u32::MAX;
        Some(Activator {
            capacity: self.count(written.capacity.as_ref(), "capacity", 1).unwrap_or(CAPACITY),
            timeout: written.timeout.as_ref().map_or(TIMEOUT, |timeout| self.some_time(timeout, "timeout")),
            per_instance: match &written.per_instance {
                Some(most) => self.count(Some(most), "per-instance", 1).filter(unlimited),
                None => of_kpa.filter(|most| *most > 0),
            },
        })
    }

    /// What answers the queries of the service's autoscaler.
    fn signals(&mut self, table: &ServiceTable) -> Vec<Signal> {
        let Some(settings) = calls::set(&table.autoscaler) else { return Vec::new() };
        let scaler = settings.build(Time::ZERO);
        let signals = scaler.queries().iter().map(|query| match query {
            Query::Resource(resource) => self.resource(table, *resource, None),
            Query::ContainerResource { container, resource } => {
                self.resource(table, *resource, Some(container))
            }
            Query::Pods(metric) => self.of_instances(table, metric),
            Query::Object { object, metric } => self.thing(table, object, metric),
            Query::External(metric) => {
                if let Some((object, metric)) = metric.rsplit_once('.') {
                    self.thing(table, object, metric)
                } else {
                    let message = format!("nothing here is called `{}`", shortened(metric));
                    self.unfollowed(table, &message, &["source.NAME.METRIC", "service.NAME.METRIC"])
                }
            }
        });
        signals.collect::<Vec<_>>().into_iter().flatten().collect()
    }

    /// A metric of a service or source.
    fn thing(&mut self, table: &ServiceTable, object: &str, metric: &str) -> Option<Signal> {
        let (kind, name) = object.split_once('.').unwrap_or(("", object));
        let (services, sources) = (self.names.services.clone(), self.names.sources.clone());
        let of = match kind {
            "service" => self.lookup("service", name, table.name.place, &services).map(Thing::Service),
            "source" => self.lookup("source", name, table.name.place, &sources).map(Thing::Source),
            _ => {
                let message = format!("nothing here is called `{}`", shortened(object));
                return self.unfollowed(table, &message, &["source.NAME", "service.NAME"]);
            }
        }?;
        if let Some((_, gauge)) = measures::gauges(of).iter().find(|(name, _)| *name == metric) {
            if let Some(error) = self.missing(of, *gauge) {
                self.errors.push(error.at(table.name.place));
                return None;
            }
            return Some(Signal::Of(of, *gauge));
        }
        let message = format!("`{}` has no metric `{}`", shortened(object), shortened(metric));
        let known: Vec<&str> = measures::gauges(of).iter().map(|(name, _)| *name).collect();
        self.unfollowed(table, &message, &known)
    }

    /// The autoscaler of a service follows something that cannot be had.
    fn unfollowed(&mut self, table: &ServiceTable, why: &str, known: &[&str]) -> Option<Signal> {
        let message = format!("the autoscaler of `{}` follows nothing: {why}", table.name.value);
        let error = Diagnostic::new(message).at(table.name.place);
        let hint = "a metric of a manifest gets its name here by metric-names = { its-name = \"...\" }";
        self.errors.push(if known.is_empty() { error } else { error.note(enumerated(known)).hint(hint) });
        None
    }

    fn instance(&mut self, table: &InstanceTable) -> Instance {
        let resources::Cores { count: cores, request, limit } =
            self.cores(table.cores.as_ref(), table.cpu_request.as_ref(), table.cpu_limit.as_ref(), 1, None);
        let (memory, memory_limit) = self.memory(table);
        let mode_word = table.mode.map_or(ModeWord::Threads, |mode| mode.value);
        let mode = match mode_word {
            ModeWord::Threads => {
                if let Some(odd) = &table.max_in_flight {
                    let error = Diagnostic::new("`max-in-flight` belongs to mode = \"async\"").at(odd.place);
                    self.errors.push(error.hint("an instance of threads is bounded by `workers`"));
                }
                Mode::Threads { workers: self.count(table.workers.as_ref(), "workers", 1).unwrap_or(cores) }
            }
            ModeWord::Async => {
                if let Some(odd) = &table.workers {
                    let error = Diagnostic::new("`workers` belongs to mode = \"threads\"").at(odd.place);
                    self.errors.push(error.hint("an async instance is bounded by `max-in-flight`"));
                }
                let most = self.count(table.max_in_flight.as_ref(), "max-in-flight", 1);
                Mode::Async { max_in_flight: most.unwrap_or(u32::MAX) }
            }
        };
        let cpu = match (table.cpu, mode_word) {
            (Some(CpuWord::Shared), _) | (None, ModeWord::Threads) => CpuSharing::Shared,
            (Some(CpuWord::Fifo), _) | (None, ModeWord::Async) => CpuSharing::Fifo,
        };
        Instance {
            cores,
            cpu_request: request,
            cpu_limit: limit,
            cpu_burst: table.cpu_burst.as_ref().map(|burst| self.cpu_burst(burst, cores)),
            memory,
            memory_limit,
            memory_use: table.memory_use.as_ref().map(|used| self.memory_use(used, memory_limit)),
            disk_use: table.disk_use.as_ref().map(|used| self.disk_use(used)),
            gc: table.gc.as_ref().map(|gc| self.gc(gc)),
            container: self.own_container(table),
            start_cpu: table.start_cpu.as_ref().map(|law| self.law(law)),
            mode,
            cpu,
            queue: self.count(table.queue.as_ref(), "queue", 0).filter(|places| *places < u32::MAX),
            full: match table.full {
                Some(FullWord::Drop) => Full::Drop,
                Some(FullWord::Reject) | None => Full::Reject,
            },
            order: self.order(table),
            shedding: self.shedding(table),
            queue_timeout: table.queue_timeout.as_ref().map(|law| self.law(law)),
            pull: self.law_or_zero(table.pull.as_ref()),
            start: self.law_or_zero(table.start.as_ref()),
            warm_up: table.warm_up.as_ref().map(|warm_up| WarmUp {
                lasts: warm_up.lasts,
                slowdown: self.at_least(warm_up.slowdown.value, 1.0, "slowdown", warm_up.slowdown.place),
            }),
            grace: table.grace.unwrap_or(Duration::from_secs(30)),
            pre_stop: table.pre_stop.unwrap_or_default(),
            on_term: self.on_term(table),
            slow_down: self.slow_down(&table.slow_down),
        }
    }

    fn on_term(&mut self, table: &InstanceTable) -> OnTerm {
        let word = table.on_term.map_or(OnTermWord::Close, |word| word.value);
        if let Some(lame_duck) = table.lame_duck.filter(|_| !matches!(word, OnTermWord::Close)) {
            let error = Diagnostic::new("`lame-duck` belongs to on-term = \"close\"").at(lame_duck.place);
            self.errors.push(error.note(match word {
                OnTermWord::Exit => "what exits at once serves nobody any more",
                _ => "what ignores SIGTERM serves on until it is killed",
            }));
        }
        match word {
            OnTermWord::Close => {
                OnTerm::Close { lame_duck: table.lame_duck.map_or(Duration::ZERO, |time| time.value) }
            }
            OnTermWord::Exit => OnTerm::Exit,
            OnTermWord::Ignore => OnTerm::Ignore,
        }
    }

    /// A count in 32 bits; unlimited is the largest one.
    fn count(&mut self, count: Option<&Spanned<Count>>, name: &str, least: u32) -> Option<u32> {
        let count = count?;
        match count.value {
            Count::Unlimited => Some(u32::MAX),
            Count::Of(value) => {
                self.at_least(value as f64, f64::from(least), name, count.place);
                let most = u64::from(u32::MAX) - 1;
                Some(self.at_most(value, most, name, count.place).min(most) as u32)
            }
        }
    }

    fn slow_down(&mut self, choice: &Policy<SlowDownChoice>) -> SlowDown {
        match choice {
            Policy::Inherited | Policy::Removed => SlowDown::None,
            Policy::Set(SlowDownChoice::Usl(usl)) => SlowDown::Usl {
                alpha: self.at_least(usl.alpha.value, 0.0, "alpha", usl.alpha.place),
                beta: self.at_least(usl.beta.value, 0.0, "beta", usl.beta.place),
            },
            Policy::Set(SlowDownChoice::Table(table)) => {
                if table.value.is_empty() {
                    self.wrong("`table` needs at least one factor", table.place);
                }
                let factors = table.value.iter();
                SlowDown::Table(
                    factors.map(|factor| self.above_zero(factor.value, "factor", factor.place)).collect(),
                )
            }
        }
    }

    fn metrics(&mut self, table: &MetricsTable) -> MetricsPipeline {
        let secs = Duration::from_secs;
        MetricsPipeline {
            period: table.period.map_or_else(|| secs(15), |period| self.some_time(&period, "period")),
            window: table.window.map_or_else(|| secs(30), |window| self.some_time(&window, "window")),
            delay: table.delay.map_or(Duration::ZERO, |delay| delay.value),
            loss: table.loss.map_or(0.0, |loss| loss.0),
        }
    }

    fn cache(&mut self, table: &CacheTable) -> Cache {
        const MOST_KEYS: u64 = 1_000_000_000;
        let keys = table.keys;
        self.at_least(keys.value as f64, 1.0, "keys", keys.place);
        let capacity = match table.capacity {
            Some(Spanned { value: Count::Of(capacity), place }) => {
                self.at_least(capacity as f64, 1.0, "capacity", place);
                Some(capacity).filter(|capacity| *capacity < keys.value)
            }
            Some(Spanned { value: Count::Unlimited, .. }) | None => None,
        };
        Cache {
            name: table.name.value.clone(),
            keys: self.at_most(keys.value, MOST_KEYS, "keys", keys.place),
            zipf: table.zipf.map_or(0.0, |zipf| self.at_least(zipf.value, 0.0, "zipf", zipf.place)),
            capacity,
            ttl: table.ttl.as_ref().map(|ttl| self.some_time(ttl, "ttl")),
            local: table.scope != Some(ScopeWord::Service),
            single_flight: table.single_flight.unwrap_or(false),
        }
    }

    /// `[limits]`, laid over the defaults.
    pub(super) fn limits(&mut self, table: &LimitsTable) -> Limits {
        let mut limits = Limits::default();
        let mut set = |limit: &mut u64, written: Option<Spanned<u64>>, name: &str, most: u64| {
            let Some(written) = written else { return };
            self.at_least(written.value as f64, 1.0, name, written.place);
            *limit = self.at_most(written.value, most, name, written.place);
        };
        set(&mut limits.pending_events, table.pending_events, "pending-events", 1 << 24);
        set(&mut limits.in_flight, table.in_flight, "in-flight", 1 << 24);
        set(&mut limits.instances, table.instances, "instances", 1 << 24);
        set(&mut limits.requests, table.requests, "requests", u64::from(u32::MAX));
        set(&mut limits.events, table.events, "events", 1 << 36);
        set(&mut limits.replications, table.replications, "replications", u64::from(u32::MAX));
        if let Some(size) = table.file_size {
            limits.file_size = size.value.0;
        }
        limits
    }
}

/// Bytes in the largest unit that keeps them whole.
fn size(bytes: u64) -> String {
    let units = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}
