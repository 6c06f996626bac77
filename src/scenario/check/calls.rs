//! Steps, and the calling side of every call.

use serde::Deserialize as _;

use super::Check;
use crate::policies::balancer::{Balancer as _, BalancerSettings, Needs};
use crate::random::law::{Dimension, Law};
use crate::scenario::de::{Named, Policy, Spanned};
use crate::scenario::error::{Diagnostic, Place, shortened};
use crate::scenario::model::{
    Cache, Call, Connections, Demand, Edge, EdgeLevel, EdgePolicies, EndpointRef, Pool, Sharing, Step,
};
use crate::scenario::schema::{AffinityWord, EdgeTable, LevelTable, SharingWord};
use crate::scenario::step::{self, Form, Need, Part, StepError};
use crate::time::{Duration, Time};
use crate::units::{parse_duration, parse_share};

/// Whose steps are read.
#[derive(Clone, Copy)]
pub(super) enum Owner<'a> {
    /// An endpoint of a service with these caches and pools.
    Service { caches: &'a [Cache], pools: &'a [Pool] },
    /// A journey, which has neither a processor nor memory.
    Source,
}

/// One step's text, for messages about its parts.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) text: &'a str,
    pub(super) place: Place,
}

/// More levels than this around an edge are a slip of the keyboard.
const MOST_LEVELS: usize = 8;

/// More calls than this in one `parallel` are a slip of the keyboard.
const WIDEST: u64 = 60_000;

impl Check<'_> {
    /// Reads steps; calls to a service for the first time open an edge.
    pub(super) fn steps(
        &mut self,
        owner: Owner<'_>,
        lines: &[Spanned<String>],
        own: &Named<EdgeTable>,
        edges: &mut Vec<Edge>,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        for written in lines {
            let line = Line { text: &written.value, place: written.place };
            match step::parse(line.text) {
                Ok(form) => steps.extend(self.step(owner, form, line, own, edges)),
                Err(error) => self.step_error(error, line),
            }
        }
        self.order_of(&steps, lines);
        steps
    }

    /// `cache` and `pool` say something about the step after them (each other included), so they cannot come last.
    fn order_of(&mut self, steps: &[Step], lines: &[Spanned<String>]) {
        let (Some(last), Some(line)) = (steps.last(), lines.last()) else { return };
        let (word, what) = match last {
            Step::Cache(_) => ("cache", "skips on a hit"),
            Step::Pool(_) => ("pool", "holds a connection for"),
            _ => return,
        };
        if steps.len() == lines.len() {
            let error = Diagnostic::new(format!("after `{word}` there must be a step that it {what}"));
            let hint = format!("a `call`, `wait` or `cpu` step comes after `{word}`");
            self.errors.push(error.at(line.place).hint(hint));
        }
    }

    fn step(
        &mut self,
        owner: Owner<'_>,
        form: Form,
        line: Line<'_>,
        own: &Named<EdgeTable>,
        edges: &mut Vec<Edge>,
    ) -> Option<Step> {
        match (form, owner) {
            (Form::Publish { .. } | Form::Transaction(_), Owner::Source) => {
                let error =
                    Diagnostic::new("only services publish messages and begin transactions").at(line.place);
                self.errors.push(error.hint("have the source call an endpoint that does"));
                None
            }
            (Form::Publish { topic, probability }, Owner::Service { .. }) => {
                let probability = probability.map_or(Some(1.0), |share| self.share(&share, line));
                let known = self.names.topics.clone();
                let topic = self.part_named("topic", &topic, &known, line)?;
                Some(Step::Publish { topic, probability: probability? })
            }
            (Form::Transaction(name), Owner::Service { .. }) => {
                let known = self.names.transactions.clone();
                let transaction = self.part_named("transaction", &name, &known, line)?;
                let roles = self.names.participants[transaction].clone();
                let mut call = |to: EndpointRef| {
                    let (edge, timeout) = self.edge(to.service, own, edges);
                    Call { to, edge, timeout, probability: 1.0 }
                };
                let calls = roles.into_iter().map(|roles| roles.map(|to| to.map(&mut call))).collect();
                Some(Step::Transaction { transaction, calls })
            }
            (Form::Cpu { .. } | Form::Cache(_) | Form::Pool(_), Owner::Source) => {
                let error = Diagnostic::new("a source has no processor, cache or pool").at(line.place);
                self.errors
                    .push(error.hint("the steps of a source are call, choose, route, parallel and wait"));
                None
            }
            (Form::Cpu { request, attempt }, Owner::Service { .. }) => {
                Some(Step::Cpu(self.demand(&request, attempt.as_ref(), line)))
            }
            (Form::Wait { request, attempt }, _) => {
                Some(Step::Wait(self.demand(&request, attempt.as_ref(), line)))
            }
            (Form::Call { to, timeout, probability }, _) => {
                let timeout = timeout.and_then(|timeout| self.timeout(&timeout, line));
                let probability = probability.map_or(Some(1.0), |share| self.share(&share, line));
                let call = self.call(&to, timeout, line, own, edges)?;
                Some(Step::Call(Call { probability: probability?, ..call }))
            }
            (Form::Choose { branches, timeout }, _) => {
                self.choose(&branches, timeout.as_ref(), line, own, edges)
            }
            (Form::Route { attribute, rules, timeout }, _) => {
                let timeout = timeout.and_then(|timeout| self.timeout(&timeout, line));
                let calls: Vec<Call> =
                    rules.iter().filter_map(|(_, to)| self.call(to, timeout, line, own, edges)).collect();
                if calls.len() < rules.len() {
                    return None;
                }
                let rules: Vec<Part> = rules.into_iter().map(|(rule, _)| rule).collect();
                self.route(&attribute, &rules, calls, line)
            }
            (Form::Parallel { to, need, times, timeout }, _) => {
                let timeout = timeout.and_then(|timeout| self.timeout(&timeout, line));
                let times = times.map_or(Some(1), |times| self.whole_number(&times, "times", line));
                let calls: Vec<Call> =
                    to.iter().filter_map(|to| self.call(to, timeout, line, own, edges)).collect();
                self.parallel(calls, to.len(), times?, &need, line)
            }
            (Form::Cache(name), Owner::Service { caches, .. }) => {
                let known: Vec<&str> = caches.iter().map(|cache| cache.name.as_str()).collect();
                self.part_named("cache", &name, &known, line).map(Step::Cache)
            }
            (Form::Pool(name), Owner::Service { pools, .. }) => {
                let known: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
                self.part_named("connection pool", &name, &known, line).map(Step::Pool)
            }
        }
    }

    fn choose(
        &mut self,
        branches: &[(Part, Part)],
        timeout: Option<&Part>,
        line: Line<'_>,
        own: &Named<EdgeTable>,
        edges: &mut Vec<Edge>,
    ) -> Option<Step> {
        let timeout = timeout.and_then(|timeout| self.timeout(timeout, line));
        let mut chosen = Vec::new();
        for (share, to) in branches {
            let share = self.share(share, line);
            let call = self.call(to, timeout, line, own, edges);
            chosen.push((share?, call?));
        }
        let sum: f64 = chosen.iter().map(|(share, _)| share).sum();
        if sum > 1.0 + 1e-9 {
            self.wrong(format!("the shares sum to {}%", (sum * 1e6).round() / 1e4), line.place);
        }
        Some(Step::Choose(chosen))
    }

    fn parallel(
        &mut self,
        calls: Vec<Call>,
        named: usize,
        times: u64,
        need: &Need,
        line: Line<'_>,
    ) -> Option<Step> {
        if calls.len() < named {
            return None;
        }
        let width = times.saturating_mul(calls.len() as u64);
        if width > WIDEST {
            self.wrong(format!("{width} calls at once are more than {WIDEST}"), line.place);
            return None;
        }
        let need = match need {
            Need::All => width,
            Need::Any => 1,
            Need::Quorum(part) => {
                let quorum = self.whole_number(part, "quorum", line)?;
                if quorum > width {
                    let place = self.files.inside(line.place, line.text, part.at.clone());
                    self.wrong(format!("a quorum of {quorum} cannot come from {width} calls"), place);
                }
                quorum
            }
        };
        let calls = std::iter::repeat_n(calls, times as usize).flatten().collect();
        Some(Step::Parallel { calls, need: need as u32 })
    }

    fn demand(&mut self, request: &Part, attempt: Option<&Part>, line: Line<'_>) -> Demand {
        let law = |check: &mut Self, part: &Part, dimension| -> Law {
            check.law_in(part.at.clone(), line.text, line.place, dimension)
        };
        Demand {
            request: law(self, request, Dimension::Time),
            attempt: attempt.map(|attempt| law(self, attempt, Dimension::Number)),
        }
    }

    fn call(
        &mut self,
        to: &Part,
        timeout: Option<Duration>,
        line: Line<'_>,
        own: &Named<EdgeTable>,
        edges: &mut Vec<Edge>,
    ) -> Option<Call> {
        let to = self.endpoint(&to.text, self.files.inside(line.place, line.text, to.at.clone()))?;
        let (edge, edge_timeout) = self.edge(to.service, own, edges);
        Some(Call { to, edge, timeout: timeout.or(edge_timeout), probability: 1.0 })
    }

    /// `service.endpoint`
    pub(super) fn endpoint(&mut self, text: &str, place: Place) -> Option<EndpointRef> {
        let Some((service, endpoint)) = text.split_once('.') else {
            let known = self.names.services.iter().position(|known| known == text);
            let error = Diagnostic::new(format!("`{}` is not an endpoint", shortened(text)));
            let hint = match known.and_then(|at| self.names.endpoints[at].first()) {
                Some(first) => format!("write \"{text}.{}\"", first.value),
                None => "write \"service.endpoint\"".to_owned(),
            };
            self.errors.push(error.at(place).hint(hint));
            return None;
        };
        let dot = service.len();
        let at_service = self.files.inside(place, text, 0..dot);
        let at_endpoint = self.files.inside(place, text, dot + 1..text.len());
        let services = self.names.services.clone();
        let service = self.lookup("service", service, at_service, &services)?;
        let known = self.names.endpoints[service].clone();
        let known: Vec<&str> = known.iter().map(|name| name.value.as_str()).collect();
        let endpoint = self.lookup_in(&services[service], "endpoint", endpoint, at_endpoint, &known)?;
        Some(EndpointRef { service, endpoint })
    }

    /// The caller's edge to a service and the time limit it gives.
    fn edge(
        &mut self,
        to: usize,
        own: &Named<EdgeTable>,
        edges: &mut Vec<Edge>,
    ) -> (usize, Option<Duration>) {
        let callers = self.names.callers[to].clone();
        let own = own.0.iter().find(|(name, _)| name.value == self.names.services[to]);
        let place = own.map(|(name, _)| name.place);
        let own = own.map_or_else(EdgeTable::default, |(_, table)| table.clone());
        let timeout = own.timeout.or(callers.timeout);
        if let Some(timeout) = &timeout
            && timeout.value == Duration::ZERO
        {
            self.wrong("`timeout` must be longer than zero", timeout.place);
        }
        let timeout = timeout.map(|timeout| timeout.value);
        if let Some(known) = edges.iter().position(|edge| edge.to == to) {
            return (known, timeout);
        }
        let sharing = match own.sharing.or(callers.sharing) {
            Some(SharingWord::Service) => Sharing::Service,
            Some(SharingWord::Instance) | None => Sharing::Instance,
        };
        let written = set(&over(own.connections, callers.connections));
        let connections = written.as_ref().map(|table| self.connections(table, sharing));
        let default_balancer = match &connections {
            Some(connections) if connections.per_connection => "random",
            _ => "round-robin",
        };
        let balancer =
            set(&over(own.balancer, callers.balancer)).unwrap_or_else(|| balancer(default_balancer));
        let health_check = own.health_check.or(callers.health_check);
        let health_check = health_check.as_ref().and_then(|table| self.health_check(table, to));
        let host_selection = set(&over(own.host_selection, callers.host_selection));
        self.zones_of_priorities(host_selection.as_ref(), to, place);
        let outlier = set(&over(own.outlier, callers.outlier));
        let cares = outlier.is_some() || health_check.is_some() || host_selection.is_some();
        if cares && connections.as_ref().is_some_and(|kept| kept.per_connection) {
            let callee = self.names.services[to].clone();
            let message =
                format!("the edge to `{callee}`: behind one address a client cannot tell endpoints apart");
            let hint = "leave out `outlier`, `health-check` and `host-selection`, or balance per request";
            self.wrong_edge(Diagnostic::new(message).hint(hint), place);
        }
        if cares && balancer.build(Time::ZERO).needs().probes {
            let (callee, name) = (self.names.services[to].clone(), balancer.name());
            let message = format!("the edge to `{callee}`: `{name}` judges endpoints by probes of its own");
            let hint = "leave out `outlier`, `health-check` and `host-selection`, or use another balancer";
            self.wrong_edge(Diagnostic::new(message).hint(hint), place);
        }
        let affinity = own.affinity.or(callers.affinity).and_then(|name| self.affinity(&name));
        let by = own.affinity_by.or(callers.affinity_by);
        if let Some(by) = &by
            && affinity.is_none()
        {
            let error = Diagnostic::new("what is kept together?").at(by.place);
            self.errors.push(error.hint("name an attribute of requests: affinity = \"session\""));
        }
        let cookie = by.is_some_and(|by| by.value == AffinityWord::Cookie);
        let Needs { load, probes, .. } = balancer.build(Time::ZERO).needs();
        if let (Some(table), Some(Connections { per_connection: true, .. })) = (&written, &connections)
            && (load || probes || affinity.is_some())
        {
            let error = Diagnostic::new(
                "a balancer of connections sees neither requests nor how busy an instance is",
            );
            self.errors.push(error.at(table.place).hint(
                "take another balancer and leave `affinity` out, or write `balancing = \"per-request\"`",
            ));
        }
        let policies = EdgePolicies {
            cancel: own.cancel.or(callers.cancel).unwrap_or(false),
            retry: set(&over(own.retry, callers.retry)),
            hedge: set(&over(own.hedge, callers.hedge)),
            retry_budget: set(&over(own.retry_budget, callers.retry_budget)),
            breaker: set(&over(own.breaker, callers.breaker)),
            limiter: set(&over(own.limiter, callers.limiter)),
        };
        let callee = self.names.services[to].clone();
        self.one_way_to_go_on(&format!("the edge to `{callee}`"), &policies, place);
        let propagate_deadline = own.propagate_deadline.or(callers.propagate_deadline);
        let levels = self.levels(&callee, own.level.or(callers.level).unwrap_or_default());
        edges.push(Edge {
            to,
            policies,
            levels,
            propagate_deadline,
            balancer,
            affinity,
            cookie,
            outlier,
            health_check,
            host_selection,
            sharing,
            connections,
        });
        (edges.len() - 1, timeout)
    }

    /// Levels around the policies of an edge.
    fn levels(&mut self, callee: &str, tables: Vec<LevelTable>) -> Vec<EdgeLevel> {
        let mut levels: Vec<EdgeLevel> = Vec::new();
        if let Some(extra) = tables.get(MOST_LEVELS) {
            let message = format!("an edge has at most {MOST_LEVELS} levels around it");
            self.wrong(message, extra.name.place);
        }
        for table in tables {
            let LevelTable { name, timeout, cancel, retry, hedge, retry_budget, breaker, limiter, .. } =
                table;
            if levels.iter().any(|level| level.name == name.value) {
                self.wrong(format!("the edge to `{callee}` has two levels `{}`", name.value), name.place);
            }
            if let Some(timeout) = &timeout
                && timeout.value == Duration::ZERO
            {
                self.wrong("`timeout` must be longer than zero", timeout.place);
            }
            let policies = EdgePolicies {
                cancel: cancel.unwrap_or(false),
                retry: set(&retry),
                hedge: set(&hedge),
                retry_budget: set(&retry_budget),
                breaker: set(&breaker),
                limiter: set(&limiter),
            };
            self.one_way_to_go_on(&format!("the level `{}`", name.value), &policies, Some(name.place));
            levels.push(EdgeLevel {
                name: name.value,
                timeout: timeout.map(|timeout| timeout.value),
                policies,
            });
        }
        levels
    }

    /// Upstream has either retries or hedging for a call, and so has a level here; a budget bounds one of them.
    fn one_way_to_go_on(&mut self, whose: &str, policies: &EdgePolicies, place: Option<Place>) {
        let error = if policies.retry.is_some() && policies.hedge.is_some() {
            Diagnostic::new(format!("{whose} has both `retry` and `hedge`"))
                .hint("gRPC allows one of them: put the other into a `level` around it")
        } else {
            return;
        };
        self.wrong_edge(error, place);
    }

    /// An error about a whole edge, which may be written nowhere but at its callee.
    pub(super) fn wrong_edge(&mut self, error: Diagnostic, place: Option<Place>) {
        self.errors.push(match place {
            Some(place) => error.at(place),
            None => error,
        });
    }

    /// `[service.call.X]` must name a service; one that no step calls is worth a warning.
    pub(super) fn unused_edges(&mut self, what: &str, name: &str, own: &Named<EdgeTable>, edges: &[Edge]) {
        for (callee, _) in &own.0 {
            let Some(to) = self.service_named(callee) else { continue };
            if !edges.iter().any(|edge| edge.to == to) {
                let warning = format!(
                    "{what}.{name}.call.{} has no effect: no step of `{name}` calls it",
                    callee.value
                );
                self.warnings.push(warning);
            }
        }
    }

    fn part_named<S: AsRef<str>>(
        &mut self,
        what: &str,
        part: &Part,
        known: &[S],
        line: Line<'_>,
    ) -> Option<usize> {
        let place = self.files.inside(line.place, line.text, part.at.clone());
        self.lookup(what, &part.text, place, known)
    }

    fn timeout(&mut self, part: &Part, line: Line<'_>) -> Option<Duration> {
        match parse_duration(&part.text) {
            Ok(Duration::ZERO) => {
                let place = self.files.inside(line.place, line.text, part.at.clone());
                self.wrong("`timeout` must be longer than zero", place);
                None
            }
            Ok(timeout) => Some(timeout),
            Err(error) => {
                self.unit_error(error.within(part.at.start, part.at.len()), line.place, line.text, 0);
                None
            }
        }
    }

    fn share(&mut self, part: &Part, line: Line<'_>) -> Option<f64> {
        match parse_share(&part.text) {
            Ok(share) => Some(share),
            Err(error) => {
                self.unit_error(error.within(part.at.start, part.at.len()), line.place, line.text, 0);
                None
            }
        }
    }

    /// A whole number from one up.
    fn whole_number(&mut self, part: &Part, name: &str, line: Line<'_>) -> Option<u64> {
        match part.text.replace('_', "").parse::<u64>() {
            Ok(number) if number >= 1 => Some(number),
            _ => {
                let place = self.files.inside(line.place, line.text, part.at.clone());
                self.wrong(format!("`{name}` is a whole number from 1 up"), place);
                None
            }
        }
    }

    fn step_error(&mut self, error: StepError, line: Line<'_>) {
        let place = self.files.inside(line.place, line.text, error.at);
        let diagnostic = match error.unknown {
            Some((what, found, known)) => Diagnostic::unknown(what, &found, known.iter().copied()),
            None => Diagnostic::new(error.message),
        };
        let diagnostic = match error.hint {
            Some(hint) => diagnostic.hint(hint),
            None => diagnostic,
        };
        self.errors.push(diagnostic.at(place));
    }
}

/// The edge's own policy, else the one that the called service wants of its callers.
fn over<T>(own: Policy<T>, callers: Policy<T>) -> Policy<T> {
    match own {
        Policy::Inherited => callers,
        set_or_removed => set_or_removed,
    }
}

/// The settings of a policy that is set.
pub(super) fn set<T: Clone>(policy: &Policy<T>) -> Option<T> {
    match policy {
        Policy::Set(settings) => Some(settings.clone()),
        Policy::Inherited | Policy::Removed => None,
    }
}

/// A balancer without settings, by the name under which it stands in the registry.
fn balancer(name: &str) -> BalancerSettings {
    let settings = serde_json::json!({ name: {} });
    BalancerSettings::deserialize(settings).expect("it needs no settings")
}
