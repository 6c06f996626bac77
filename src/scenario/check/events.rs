//! What happens to the system: faults, operator actions, rollouts.

use super::Check;
use super::measures::{Part, not_simulated};
use super::versions::PARENT;
use crate::policies::balancer::Balancer as _;
use crate::policies::rollout::{Act, Rollout as _, RolloutSettings};
use crate::random::law::Law;
use crate::scenario::de::Spanned;
use crate::scenario::error::{Diagnostic, Place, shortened};
use crate::scenario::model::{
    Action, ActionTime, Fault, Operation, Participant, Prediction, RolloutPlan, Scenario, Target, Thing,
    Trouble, When,
};
use crate::scenario::profile::{Csv, number};
use crate::scenario::schema::{
    ActionChoice, ActionTable, CrashPoint, FaultChoice, FaultTable, NodeLossTable, PredictionTable,
    RolloutTable, ThrottleTable,
};
use crate::time::{Duration, Time};
use crate::units::UnitError;

impl Check<'_> {
    pub(super) fn fault(&mut self, table: &FaultTable, scenario: &Scenario) -> Option<Fault> {
        let (what, lasts, label) = self.trouble(&table.what.value, scenario);
        let when = match &table.what.value {
            FaultChoice::NodeLoss(loss) if loss.trace.is_some() => self.failure_trace(table, loss),
            _ => self.when(table, lasts),
        };
        let name = match &table.name {
            Some(name) => {
                let text = &name.value;
                if text.trim().is_empty() || text.len() > 100 || text.chars().any(char::is_control) {
                    self.wrong("the name of a fault is one line of 1 to 100 characters", name.place);
                }
                text.clone()
            }
            None => label,
        };
        Some(Fault { name, when: when?, what: what? })
    }

    fn when(&mut self, table: &FaultTable, lasts: Option<Spanned<Duration>>) -> Option<When> {
        if let Some(lasts) = &lasts {
            self.some_time(lasts, "for");
        }
        match (&table.at, &table.mtbf, &table.mttr) {
            (Some(at), None, None) => {
                if let Some(crew) = &table.crew {
                    self.wrong("`crew` belongs to faults that are drawn by `mtbf` and `mttr`", crew.place);
                }
                self.before_the_end(at, "fault");
                Some(When::At { at: Time(at.value.0), lasts: lasts.map(|lasts| lasts.value) })
            }
            (None, Some(mtbf), Some(mttr)) => {
                if let Some(lasts) = &lasts {
                    let error =
                        Diagnostic::new("how long a drawn fault lasts is said by `mttr`").at(lasts.place);
                    self.errors.push(error.hint("leave `for` out"));
                }
                let crew = table.crew.as_ref().map(|crew| self.one_or_more(Some(crew), "crew", 1));
                let (up, down) = (self.law(mtbf), self.law(mttr));
                if up.mean() <= 0.0 {
                    self.wrong("a mean time between failures of zero would never end", mtbf.place);
                }
                Some(When::Drawn { mtbf: up, mttr: down, crew })
            }
            (Some(_), Some(law), _) | (Some(_), None, Some(law)) => {
                let error =
                    Diagnostic::new("a fault is either scheduled (`at`) or drawn (`mtbf` and `mttr`)");
                self.errors.push(error.at(law.place));
                None
            }
            (None, Some(law), None) | (None, None, Some(law)) => {
                let error = Diagnostic::new("a drawn fault needs both `mtbf` and `mttr`").at(law.place);
                self.errors.push(error.hint("write mtbf = \"exp(30d)\" and mttr = \"lognormal(3h, cv=2)\""));
                None
            }
            (None, None, None) => {
                let error = Diagnostic::new("when does this fault strike?").at(table.what.place);
                self.errors.push(error.hint("write at = \"1h\", or mtbf and mttr"));
                None
            }
        }
    }

    fn pool_named(&mut self, name: &Spanned<String>, scenario: &Scenario) -> Option<usize> {
        let known: Vec<&str> = scenario.node_pools.iter().map(|pool| pool.name.as_str()).collect();
        self.lookup("node pool", &name.value, name.place, &known)
    }

    /// Recorded failures.
    fn failure_trace(&mut self, table: &FaultTable, loss: &NodeLossTable) -> Option<When> {
        let odd = [
            ("at", table.at.as_ref().map(|key| key.place)),
            ("mtbf", table.mtbf.as_ref().map(|key| key.place)),
            ("mttr", table.mttr.as_ref().map(|key| key.place)),
            ("crew", table.crew.as_ref().map(|key| key.place)),
            ("count", loss.count.as_ref().map(|key| key.place)),
            ("for", loss.lasts.as_ref().map(|key| key.place)),
        ];
        for (key, place) in odd {
            if let Some(place) = place {
                self.wrong(format!("when, what and how long is said by `trace`; leave `{key}` out"), place);
            }
        }
        let speed_up = loss
            .speed_up
            .as_ref()
            .map_or(1.0, |factor| self.above_zero(factor.value, "speed-up", factor.place));
        let file = loss.trace.as_ref()?;
        let text = match self.files.data(file.place.file, &file.value) {
            Ok(text) => text.to_owned(),
            Err(reason) => {
                self.wrong(reason, file.place);
                return None;
            }
        };
        match failures(&file.value, &text, speed_up) {
            Ok(entries) => Some(When::Trace(entries)),
            Err(error) => {
                self.errors
                    .push(Diagnostic { hint: error.hint, ..Diagnostic::new(error.message).at(file.place) });
                None
            }
        }
    }

    fn before_the_end(&mut self, at: &Spanned<Duration>, what: &str) {
        if at.value >= self.duration {
            self.warnings
                .push(format!("a {what} at {} never happens: the run ends at {}", at.value, self.duration));
        }
    }

    /// What it does, how long it was written to last, and a label.
    fn trouble(
        &mut self,
        choice: &FaultChoice,
        scenario: &Scenario,
    ) -> (Option<Trouble>, Option<Spanned<Duration>>, String) {
        match choice {
            FaultChoice::Crash(table) => {
                let target = self.target(&table.service, table.count.as_ref());
                (target.map(Trouble::Crash), None, format!("crash {}", table.service.value))
            }
            FaultChoice::Slow(table) => {
                let target = self.target(&table.service, table.count.as_ref());
                let factor = self.above_zero(table.factor.value, "factor", table.factor.place);
                let trouble = target.map(|target| Trouble::Slow(target, factor));
                (trouble, table.lasts, format!("slow {}", table.service.value))
            }
            FaultChoice::ErrorRate(table) => {
                let target = self.target(&table.service, table.count.as_ref());
                let trouble = target.map(|target| Trouble::ErrorRate(target, table.rate.0));
                (trouble, table.lasts, format!("errors in {}", table.service.value))
            }
            FaultChoice::Hang(table) => {
                let target = self.target(&table.service, table.count.as_ref());
                (target.map(Trouble::Hang), table.lasts, format!("hang {}", table.service.value))
            }
            FaultChoice::NodeLoss(table) => {
                let (pool, count) = self.some_nodes(&table.pool, table.count.as_ref(), scenario, "lose");
                let spreads = table.spreads.map_or(0.0, |share| share.0);
                let trouble = pool.map(|pool| Trouble::NodeLoss { pool, count, spreads });
                let label = match table.trace {
                    None => format!("loss of {count} of {}", table.pool.value),
                    Some(_) => format!("losses of {}", table.pool.value),
                };
                (trouble, table.lasts, label)
            }
            FaultChoice::SpotReclaim(table) => {
                let pool = self.pool_named(&table.pool, scenario);
                let count = self.one_or_more(table.count.as_ref(), "count", 1);
                if let Some(pool) = pool
                    && !scenario.node_pools[pool].spot
                {
                    let message = format!("nobody can reclaim the nodes of `{}`", table.pool.value);
                    let error = Diagnostic::new(message).at(table.pool.place);
                    self.errors.push(error.hint("write spot = true in that [[node-pool]]"));
                }
                let notice = table.notice.map_or(Duration::from_secs(120), |notice| notice.value);
                let trouble = pool.map(|pool| Trouble::SpotReclaim { pool, count, notice });
                (trouble, table.lasts, format!("reclaim of {count} of {}", table.pool.value))
            }
            FaultChoice::ProvisioningOutage(table) => {
                let pool = table.pool.as_ref().map(|pool| self.pool_named(pool, scenario));
                let label = match &table.pool {
                    None => "provisioning outage".to_owned(),
                    Some(pool) => format!("no nodes for {}", pool.value),
                };
                let trouble = match pool {
                    Some(None) => None,
                    pool => Some(Trouble::ProvisioningOutage { pool: pool.flatten() }),
                };
                (trouble, table.lasts, label)
            }
            FaultChoice::DnsOutage(table) => (Some(Trouble::DnsOutage), table.lasts, "DNS outage".to_owned()),
            FaultChoice::RegistryOutage(table) => {
                (Some(Trouble::RegistryOutage), table.lasts, "registry outage".to_owned())
            }
            FaultChoice::DiscoveryOutage(table) => {
                let service = self.service_with_registry(&table.service, scenario);
                let trouble = service.map(|service| Trouble::DiscoveryOutage { service });
                (trouble, table.lasts, format!("no registry for {}", table.service.value))
            }
            FaultChoice::ZoneLoss(table) => {
                let zone = self.zone_named(&table.zone);
                let trouble = zone.map(|zone| Trouble::ZoneLoss { zone });
                (trouble, table.lasts, format!("loss of zone {}", table.zone.value))
            }
            FaultChoice::Partition(table) => {
                let trouble = self.two_zones(&table.between).map(|between| Trouble::Partition { between });
                let [a, b] = &table.between.value;
                (trouble, table.lasts, format!("partition {} | {}", a.value, b.value))
            }
            FaultChoice::PacketLoss(table) => {
                let between = table.between.as_ref().map(|between| self.two_zones(between));
                let trouble = match between {
                    Some(None) => None,
                    Some(between) => Some(Trouble::PacketLoss { between, rate: table.rate.0 }),
                    None => Some(Trouble::PacketLoss { between: None, rate: table.rate.0 }),
                };
                (trouble, table.lasts, "packet loss".to_owned())
            }
            FaultChoice::AddedLatency(table) => {
                let between = table.between.as_ref().map(|between| self.two_zones(between));
                let latency = self.law(&table.latency);
                let trouble = match between {
                    Some(None) => None,
                    Some(between) => Some(Trouble::AddedLatency { between, latency }),
                    None => Some(Trouble::AddedLatency { between: None, latency }),
                };
                (trouble, table.lasts, "added latency".to_owned())
            }
            FaultChoice::NoisyNeighbour(table) => {
                let (pool, count) = self.some_nodes(&table.pool, table.count.as_ref(), scenario, "disturb");
                let cores = self.above_zero(table.cores.value, "cores", table.cores.place);
                let trouble = pool.map(|pool| Trouble::NoisyNeighbour { pool, count, cores });
                (trouble, table.lasts, format!("noisy neighbour on {count} of {}", table.pool.value))
            }
            FaultChoice::MemoryLeak(table) => {
                let target = self.target(&table.service, table.count.as_ref());
                if let Some(target) = target
                    && scenario.services[target.service].instance.memory_use.is_none()
                {
                    let name = &table.service.value;
                    let error = Diagnostic::new(format!("the memory of `{name}` is not simulated"));
                    self.errors.push(
                        error
                            .at(table.service.place)
                            .hint("say how much it uses: instance = { memory-use = { base = \"300MiB\" } }"),
                    );
                }
                let trouble = target.map(|target| Trouble::MemoryLeak(target, table.per_hour.value.0));
                (trouble, table.lasts, format!("memory leak in {}", table.service.value))
            }
            FaultChoice::DiskFull(table) => {
                let target = self.target(&table.service, table.count.as_ref());
                if let Some(target) = target
                    && scenario.services[target.service].instance.disk_use.is_none()
                {
                    let error = not_simulated(Part::Disk, &table.service.value);
                    self.errors.push(error.at(table.service.place));
                }
                let label = format!("full disks of {}", table.service.value);
                (target.map(Trouble::DiskFull), table.lasts, label)
            }
            FaultChoice::BadConfig(table) => {
                let known: Vec<&str> = scenario.configs.iter().map(|config| config.name.as_str()).collect();
                let at = self.lookup("configuration", &table.config.value, table.config.place, &known);
                let trouble = at.and_then(|config| {
                    let versions = scenario.configs[config].versions.iter();
                    let known: Vec<&str> = versions.map(|version| version.name.as_str()).collect();
                    let Spanned { value, place } = &table.version;
                    let version = self.lookup_in(&table.config.value, "version", value, *place, &known)?;
                    Some(Trouble::BadConfig { config, version })
                });
                (trouble, table.lasts, format!("bad configuration {}", table.version.value))
            }
            FaultChoice::BrokerOutage(table) => {
                let trouble = self.topic_named(&table.topic).map(|topic| Trouble::BrokerOutage { topic });
                (trouble, table.lasts, format!("broker outage of {}", table.topic.value))
            }
            FaultChoice::CrashCoordinator(table) => {
                let known = self.names.transactions.clone();
                let name = &table.transaction;
                let transaction = self.lookup("transaction", &name.value, name.place, &known);
                let decided = table.point == CrashPoint::Decided;
                let trouble =
                    transaction.map(|transaction| Trouble::CrashCoordinator { transaction, decided });
                (trouble, None, format!("crash of the coordinator of {}", name.value))
            }
            FaultChoice::Outage(table) => {
                let trouble = self.service_named(&table.service).map(|service| Trouble::Outage { service });
                (trouble, table.lasts, format!("outage of {}", table.service.value))
            }
        }
    }

    /// So many nodes of a pool.
    fn some_nodes(
        &mut self,
        pool: &Spanned<String>,
        written: Option<&Spanned<u32>>,
        scenario: &Scenario,
        what_for: &str,
    ) -> (Option<usize>, u32) {
        let at = self.pool_named(pool, scenario);
        let count = self.one_or_more(written, "count", 1);
        if let (Some(at), Some(written)) = (at, written) {
            let of = &scenario.node_pools[at];
            let nodes = of.scales.map_or(of.nodes, |(_, max)| max);
            if count > nodes {
                let message = format!("`{}` has only {nodes} nodes to {what_for}", pool.value);
                self.wrong(message, written.place);
            }
        }
        (at, count)
    }

    fn target(&mut self, service: &Spanned<String>, count: Option<&Spanned<u32>>) -> Option<Target> {
        let service = self.service_named(service);
        let count = count.map(|count| self.one_or_more(Some(count), "count", 1));
        Some(Target { service: service?, count })
    }

    pub(super) fn action(&mut self, table: &ActionTable, scenario: &Scenario) -> Option<Action> {
        let when = self.action_time(table);
        let what = match &table.what.value {
            ActionChoice::Scale(scale) => {
                let replicas = u64::from(scale.replicas.value);
                let place: Place = scale.replicas.place;
                self.within_limit(replicas, "instances", self.limits.instances, "instances", Some(place));
                Operation::Scale {
                    service: self.service_named(&scale.service)?,
                    replicas: scale.replicas.value,
                }
            }
            ActionChoice::Promote(promote) if Self::has_group(&promote.service, scenario) => {
                self.promote(promote, scenario)?
            }
            ActionChoice::Promote(promote) => {
                if let Some(seat) = &promote.seat {
                    let error = Diagnostic::new(format!("`{}` has no group", promote.service.value));
                    self.errors.push(error.at(seat.place).hint("only a group has seats"));
                }
                let act = if promote.full.unwrap_or(false) { Act::PromoteFull } else { Act::Promote };
                self.act(act, &promote.service, scenario)?
            }
            ActionChoice::Abort(of) => self.act(Act::Abort, &of.service, scenario)?,
            ActionChoice::Pause(of) => self.act(Act::Pause, &of.service, scenario)?,
            ActionChoice::Resume(of) => self.act(Act::Resume, &of.service, scenario)?,
            ActionChoice::Retry(of) => self.act(Act::Retry, &of.service, scenario)?,
            ActionChoice::Switch(switch) => {
                let service = self.service_named(&switch.service)?;
                let to = if switch.version.value == PARENT {
                    None
                } else {
                    let known: Vec<&str> = scenario.services[service]
                        .versions
                        .iter()
                        .map(|version| version.name.as_str())
                        .collect();
                    let Spanned { value, place } = &switch.version;
                    Some(self.lookup_in(&switch.service.value, "version", value, *place, &known)?)
                };
                Operation::Switch { service, to }
            }
            ActionChoice::Publish(publish) => self.publish(publish, scenario)?,
            ActionChoice::Undo(undo) => {
                let service = self.rolled_out(&undo.service, "nothing to go back to", scenario)?;
                Operation::Undo { service, revision: undo.to_revision.unwrap_or(0) }
            }
            ActionChoice::Restore(restore) => self.restore(restore, scenario)?,
            ActionChoice::Resize(resize) => self.resize(resize, table.what.place, scenario)?,
            ActionChoice::Throttle(throttle) => self.throttle(throttle, table.what.place, scenario)?,
            ActionChoice::Degrade(degrade) => {
                let endpoint = self.endpoint(&degrade.endpoint.value, degrade.endpoint.place)?;
                Operation::Degrade { endpoint, cost: degrade.cost.0 }
            }
            ActionChoice::Drain(drain) => {
                const LASTS: Duration = Duration::from_secs(1800);
                let lasts = drain.lasts.as_ref().map_or(LASTS, |lasts| self.some_time(lasts, "for"));
                Operation::Drain { lasts }
            }
            ActionChoice::StopTopic(stop) => {
                Operation::Forward { topic: self.topic_named(&stop.topic)?, on: false }
            }
            ActionChoice::ResumeTopic(resume) => {
                Operation::Forward { topic: self.topic_named(&resume.topic)?, on: true }
            }
            ActionChoice::Replay(replay) => {
                let topic = self.topic_named(&replay.topic)?;
                let retention = scenario.topics[topic].retention;
                if replay.before.value > retention {
                    let error = Diagnostic::new(format!(
                        "`{}` keeps messages only for {retention}",
                        replay.topic.value
                    ));
                    self.errors.push(error.at(replay.before.place).hint("raise its `retention`"));
                }
                Operation::Replay { topic, before: replay.before.value }
            }
            ActionChoice::KillSwitch(switch) => {
                let endpoint = self.endpoint(&switch.endpoint.value, switch.endpoint.place)?;
                Operation::KillSwitch { endpoint, on: switch.on.unwrap_or(true) }
            }
        };
        Some(Action { when: when?, what })
    }

    /// A service that has a rollout.
    fn rolled_out(&mut self, name: &Spanned<String>, otherwise: &str, scenario: &Scenario) -> Option<usize> {
        let service = self.service_named(name)?;
        if scenario.rollouts.iter().all(|rollout| rollout.service != service) {
            let message =
                format!("`{}` is never rolled out, so there is {otherwise}", shortened(&name.value));
            let error = Diagnostic::new(message).at(name.place);
            self.errors.push(error.hint("write a [[rollout]] of it"));
        }
        Some(service)
    }

    /// What somebody does about a rollout, if that can be done.
    fn act(&mut self, act: Act, name: &Spanned<String>, scenario: &Scenario) -> Option<Operation> {
        let service = self.rolled_out(name, "nothing to act on", scenario)?;
        let ways: Vec<&RolloutSettings> = scenario
            .rollouts
            .iter()
            .filter(|rollout| rollout.service == service)
            .map(|rollout| &rollout.how)
            .collect();
        if let Some(first) = ways.first()
            && !ways.iter().any(|how| how.takes(act))
        {
            let message = format!("nobody can {} a rollout of the kind {}", act.verb(), first.name());
            let hint = match first {
                RolloutSettings::Rolling(_) | RolloutSettings::Recreate(_) => {
                    "a Deployment knows `pause`, `resume` and `undo`"
                }
                RolloutSettings::Flagger(_) => "flagger knows `abort`, `pause` and `resume`",
                _ => "`canary` and `blue-green` know `promote`, `abort`, `pause`, `resume` and `retry`",
            };
            self.errors.push(Diagnostic::new(message).at(name.place).hint(hint));
        }
        Some(Operation::Rollout { service, act })
    }

    /// Somebody who foresees a fault.
    pub(super) fn prediction(&mut self, table: &PredictionTable, scenario: &Scenario) -> Option<Prediction> {
        let known: Vec<&str> = scenario.faults.iter().map(|fault| fault.name.as_str()).collect();
        let fault = self.lookup("fault", &table.fault.value, table.fault.place, &known)?;
        let can = matches!(
            scenario.faults[fault].what,
            Trouble::Crash(_) | Trouble::Hang(_) | Trouble::NodeLoss { .. }
        );
        if !can {
            let error = Diagnostic::new("nobody can predict this fault").at(table.fault.place);
            self.errors.push(error.hint("predictable are `crash`, `hang` and `node-loss`"));
        }
        let five_minutes = || Law::fixed(Duration::from_secs(300));
        let lead = table.lead.as_ref().map_or_else(five_minutes, |lead| self.law(lead));
        Some(Prediction {
            name: table.name.value.clone(),
            fault,
            lead,
            hit_rate: table.hit_rate.map_or(1.0, |share| share.0),
            false_alarms: table.false_alarms.map_or(0.0, |rate| rate.0),
        })
    }

    /// A share of a source's requests, or of somebody's calls to a service.
    fn throttle(&mut self, table: &ThrottleTable, place: Place, scenario: &Scenario) -> Option<Operation> {
        let share = table.share.0;
        let (sources, services) = (self.names.sources.clone(), self.names.services.clone());
        let (caller, name, edges) = match (&table.source, &table.service) {
            (Some(source), None) => {
                let at = self.lookup("source", &source.value, source.place, &sources)?;
                (Thing::Source(at), source, &scenario.sources[at].edges)
            }
            (None, Some(service)) => {
                let at = self.lookup("service", &service.value, service.place, &services)?;
                (Thing::Service(at), service, &scenario.services[at].edges)
            }
            _ => {
                let error = Diagnostic::new("whose requests are throttled?").at(place);
                let hint = "write throttle = { source = \"x\", share = .. } or { service = \"x\", callee = \"y\", share = .. }";
                self.errors.push(error.hint(hint));
                return None;
            }
        };
        match (caller, &table.callee) {
            (Thing::Source(source), None) => Some(Operation::Throttle { source, share }),
            (Thing::Service(_), None) => {
                let error = Diagnostic::new(format!("to whom shall `{}` make fewer calls?", name.value));
                self.errors.push(error.at(name.place).hint("write callee = \"..\" beside it"));
                None
            }
            (caller, Some(callee)) => {
                let to = self.lookup("service", &callee.value, callee.place, &services)?;
                let edge = edges.iter().position(|edge| edge.to == to);
                if edge.is_none() {
                    self.wrong(
                        format!("`{}` makes no calls to `{}`", name.value, callee.value),
                        callee.place,
                    );
                }
                Some(Operation::ThrottleCalls { caller, edge: edge?, share })
            }
        }
    }

    fn action_time(&mut self, table: &ActionTable) -> Option<ActionTime> {
        if let Some(prediction) = &table.on_prediction {
            let known = self.names.predictions.clone();
            let other = table.at.as_ref().map(|at| at.place);
            if let Some(place) = other.or_else(|| table.on_alert.as_ref().map(|alert| alert.place)) {
                self.wrong("an action follows the clock, an alert or a prediction, only one of them", place);
            }
            let after = table.after.as_ref().map_or(Duration::ZERO, |after| after.value);
            let prediction = self.lookup("prediction", &prediction.value, prediction.place, &known)?;
            return Some(ActionTime::OnPrediction { prediction, after });
        }
        if let ActionChoice::Drain(_) = &table.what.value {
            let error = Diagnostic::new("what is to be drained is said by a prediction").at(table.what.place);
            self.errors.push(error.hint("write on-prediction = \"..\""));
            return None;
        }
        let named = [&table.on_alert, &table.on_resolved].into_iter().flatten().count();
        match (&table.at, table.on_alert.as_ref().or(table.on_resolved.as_ref())) {
            (Some(at), None) => {
                self.before_the_end(at, "action");
                if let Some(after) = &table.after {
                    self.wrong("`after` belongs to actions that follow an alert (`on-alert`)", after.place);
                }
                Some(ActionTime::At(Time(at.value.0)))
            }
            (None, Some(name)) if named == 1 => {
                let known = self.names.alerts.clone();
                let after = table.after.as_ref().map_or(Duration::ZERO, |after| after.value);
                let alert = self.lookup("alert", &name.value, name.place, &known)?;
                Some(if table.on_alert.is_some() {
                    ActionTime::OnAlert { alert, after }
                } else {
                    ActionTime::OnResolved { alert, after }
                })
            }
            (None, Some(alert)) => {
                let message = "an action follows the beginning of an alert (`on-alert`) or its end (`on-resolved`), not both";
                let error = Diagnostic::new(message).at(alert.place);
                self.errors.push(error.hint("write a second [[action]]"));
                None
            }
            (Some(_), Some(alert)) => {
                self.wrong(
                    "an action follows the clock (`at`) or an alert (`on-alert`), not both",
                    alert.place,
                );
                None
            }
            (None, None) => {
                let error = Diagnostic::new("when does the operator act?").at(table.what.place);
                self.errors.push(error.hint("write at = \"1h\", or on-alert = \"..\" and after = \"5min\""));
                None
            }
        }
    }

    pub(super) fn rollout(&mut self, table: RolloutTable, scenario: &Scenario) -> Option<RolloutPlan> {
        self.before_the_end(&table.at, "rollout");
        let service = self.service_named(&table.service)?;
        let known: Vec<&str> =
            scenario.services[service].versions.iter().map(|version| version.name.as_str()).collect();
        let to = self.lookup_in(&table.service.value, "version", &table.to.value, table.to.place, &known)?;
        if table.how.value.weighs() {
            self.deaf_to_weights(service, scenario);
        }
        if table.how.value.build(Time::ZERO).watches() {
            self.can_tell_versions_apart(&table, service, scenario);
        }
        Some(RolloutPlan { at: Time(table.at.value.0), service, to, how: table.how.value })
    }

    /// Callers that do not divide their traffic, whatever a rollout says.
    fn deaf_to_weights(&mut self, service: usize, scenario: &Scenario) {
        let of_services = scenario.services.iter().map(|caller| (&caller.name, &caller.edges));
        let of_sources = scenario.sources.iter().map(|caller| (&caller.name, &caller.edges));
        for (caller, edges) in of_services.chain(of_sources) {
            let Some(edge) = edges.iter().find(|edge| edge.to == service) else { continue };
            let knows_health =
                edge.outlier.is_some() || edge.health_check.is_some() || edge.host_selection.is_some();
            let why = if edge.connections.is_some() {
                "it keeps connections"
            } else if knows_health {
                "it looks at the health of endpoints"
            } else if edge.cookie {
                "cookies name the instance"
            } else {
                continue;
            };
            let callee = &scenario.services[service].name;
            let warning = format!(
                "the rollout of `{callee}` divides traffic by weight, but `{caller}` sees all instances alike: {why}"
            );
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }

    /// A dynamic update needs callers that can send a call to one version, and hold it back.
    fn can_tell_versions_apart(&mut self, table: &RolloutTable, service: usize, scenario: &Scenario) {
        let how = table.how.value.name();
        let mut dependants = vec![service];
        let mut at = 0;
        while let Some(&on) = dependants.get(at) {
            for (caller, other) in scenario.services.iter().enumerate() {
                if other.edges.iter().any(|edge| edge.to == on) && !dependants.contains(&caller) {
                    dependants.push(caller);
                }
            }
            at += 1;
        }
        let edges = scenario.sources.iter().flat_map(|source| &source.edges);
        let edges = edges.chain(scenario.services.iter().flat_map(|service| &service.edges));
        let mut against = None;
        for edge in edges.filter(|edge| dependants.contains(&edge.to)) {
            let here = edge.to == service;
            let health =
                edge.outlier.is_some() || edge.health_check.is_some() || edge.host_selection.is_some();
            let found = match () {
                () if edge.connections.is_some() => Some("ride on simulated connections"),
                () if here && health => Some("leave endpoints out by their health"),
                () if here && edge.all_policies().any(|policies| policies.hedge.is_some()) => {
                    Some("are hedged")
                }
                () if here && edge.balancer.build(Time::ZERO).needs().probes => {
                    Some("are balanced by probes")
                }
                () => None,
            };
            if let (None, Some(found)) = (&against, found) {
                against = Some((edge.to, format!("calls to it {found}")));
            }
        }
        if scenario.services[service].activator.is_some() {
            against = Some((service, "an activator holds calls to it".to_owned()));
        }
        let takes_part = |at: &usize| {
            let parts = scenario.transactions.iter().flat_map(|transaction| &transaction.participants);
            parts.flat_map(Participant::endpoints).any(|endpoint| endpoint.service == *at)
        };
        if let Some(at) = dependants.iter().copied().find(takes_part) {
            against = Some((at, "it takes part in a transaction".to_owned()));
        }
        if let Some(at) = dependants.iter().copied().find(|at| scenario.services[*at].group.is_some()) {
            against = Some((at, "its instances have a leader".to_owned()));
        }
        if let Some((at, why)) = against {
            let name = &scenario.services[at].name;
            let error = Diagnostic::new(format!(
                "`{how}` cannot tell the versions of `{}` apart: `{name}` is in the way, {why}",
                table.service.value
            ));
            let hint =
                "take that off the edge, or use a rollout that leaves calls alone, such as container-swap";
            self.errors.push(error.at(table.how.place).hint(hint));
        }
    }
}

/// Recorded failures from a file: when, which node, for how long.
fn failures(path: &str, text: &str, speed_up: f64) -> Result<Vec<(Time, u32, Duration)>, UnitError> {
    /// Enough for any recording, and few enough to be scheduled at once.
    const MOST: usize = 1_000_000;
    let rows = Csv::read(path, text)?;
    let (at, node, down) = (rows.column("at_s")?, rows.column("node")?, rows.column("down_s")?);
    let mut entries: Vec<(Time, u32, Duration)> = Vec::new();
    for (line, fields) in &rows.rows {
        let cell = |column: &str, at: usize, most: f64| {
            let value = number(path, *line, column, fields.get(at))?;
            if (0.0..=most).contains(&value) {
                return Ok(value);
            }
            Err(UnitError::new(format!(
                "`{path}`, line {line}: {value} in column `{column}` is out of range"
            )))
        };
        let seconds = |value: f64| Duration::from_ns_f64(value / speed_up * 1e9);
        let start = Time::ZERO + seconds(cell("at_s", at, 1e9)?);
        if entries.last().is_some_and(|(before, ..)| *before > start) {
            return Err(UnitError::new(format!(
                "`{path}`, line {line}: this is earlier than the line before"
            )));
        }
        let which = cell("node", node, 1e6)?;
        if which.fract() != 0.0 {
            return Err(UnitError::new(format!("`{path}`, line {line}: {which} is no number of a node")));
        }
        entries.push((start, which as u32, seconds(cell("down_s", down, 1e9)?)));
        if entries.len() > MOST {
            return Err(UnitError::new(format!("`{path}` has more than {MOST} failures")));
        }
    }
    if entries.is_empty() {
        return Err(UnitError::new(format!("`{path}` has no failures in it")));
    }
    Ok(entries)
}
