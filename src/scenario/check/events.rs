//! What happens to the system: faults, operator actions, rollouts.

use super::Check;
use crate::scenario::de::Spanned;
use crate::scenario::error::{Diagnostic, Place};
use crate::scenario::model::{
    Action, ActionTime, Fault, Operation, RolloutPlan, Scenario, Target, Trouble, When,
};
use crate::scenario::schema::{ActionChoice, ActionTable, FaultChoice, FaultTable, RolloutTable};
use crate::time::{Duration, Time};

impl Check<'_> {
    pub(super) fn fault(&mut self, table: &FaultTable, scenario: &Scenario) -> Option<Fault> {
        let (what, lasts, label) = self.trouble(&table.what.value, scenario);
        let when = self.when(table, lasts);
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
                let known: Vec<&str> = scenario.node_pools.iter().map(|pool| pool.name.as_str()).collect();
                let pool = self.lookup("node pool", &table.pool.value, table.pool.place, &known);
                let count = self.one_or_more(table.count.as_ref(), "count", 1);
                if let (Some(pool), Some(written)) = (pool, &table.count) {
                    let nodes = scenario.node_pools[pool].nodes;
                    if count > nodes {
                        let message = format!("`{}` has only {nodes} nodes to lose", table.pool.value);
                        self.wrong(message, written.place);
                    }
                }
                let trouble = pool.map(|pool| Trouble::NodeLoss { pool, count });
                (trouble, table.lasts, format!("loss of {count} of {}", table.pool.value))
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
            FaultChoice::Outage(table) => {
                let trouble = self.service_named(&table.service).map(|service| Trouble::Outage { service });
                (trouble, table.lasts, format!("outage of {}", table.service.value))
            }
        }
    }

    fn target(&mut self, service: &Spanned<String>, count: Option<&Spanned<u32>>) -> Option<Target> {
        let service = self.service_named(service);
        let count = count.map(|count| self.one_or_more(Some(count), "count", 1));
        Some(Target { service: service?, count })
    }

    pub(super) fn action(&mut self, table: &ActionTable) -> Option<Action> {
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
            ActionChoice::Throttle(throttle) => {
                let known = self.names.sources.clone();
                let source = self.lookup("source", &throttle.source.value, throttle.source.place, &known)?;
                Operation::Throttle { source, share: throttle.share.0 }
            }
            ActionChoice::KillSwitch(switch) => {
                let endpoint = self.endpoint(&switch.endpoint.value, switch.endpoint.place)?;
                Operation::KillSwitch { endpoint, on: switch.on.unwrap_or(true) }
            }
        };
        Some(Action { when: when?, what })
    }

    fn action_time(&mut self, table: &ActionTable) -> Option<ActionTime> {
        match (&table.at, &table.on_alert) {
            (Some(at), None) => {
                self.before_the_end(at, "action");
                if let Some(after) = &table.after {
                    self.wrong("`after` belongs to actions that follow an alert (`on-alert`)", after.place);
                }
                Some(ActionTime::At(Time(at.value.0)))
            }
            (None, Some(alert)) => {
                let known = self.names.alerts.clone();
                let after = table.after.as_ref().map_or(Duration::ZERO, |after| after.value);
                let alert = self.lookup("alert", &alert.value, alert.place, &known)?;
                Some(ActionTime::OnAlert { alert, after })
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
        Some(RolloutPlan { at: Time(table.at.value.0), service, to, how: table.how.value })
    }
}
