//! Services whose instances agree on a leader, and what operators do with them.

use super::Check;
use crate::policies::election::{ElectionSettings, MOST_SEATS};
use crate::random::law::Law;
use crate::scenario::de::Spanned;
use crate::scenario::error::{Diagnostic, shortened};
use crate::scenario::model::{Activator, Endpoint, Group, Operation, ReplicationMode, Scenario};
use crate::scenario::schema::{PromoteTable, ReadsWord, ReplicationWord, RestoreTable, ServiceTable};
use crate::time::Duration;

/// Where writes are held while nobody is known to lead.
pub(super) fn waiting_room(group: Option<&Group>) -> Option<Activator> {
    const CAPACITY: u32 = 1_000_000;
    let timeout = group?.blocking_window?;
    Some(Activator { capacity: CAPACITY, timeout, per_instance: None })
}

impl Check<'_> {
    /// Who leads is not looked up by connection.
    pub(super) fn group_connections(&mut self, scenario: &Scenario, services: &[ServiceTable]) {
        let edges = scenario.services.iter().flat_map(|service| &service.edges);
        let edges = edges.chain(scenario.sources.iter().flat_map(|source| &source.edges));
        for edge in edges.filter(|edge| edge.connections.is_some()) {
            if let Some(group) = &services[edge.to].group {
                let message = format!(
                    "callers of `{}` keep `connections`, but who leads a group is not looked up by connection",
                    services[edge.to].name.value
                );
                self.wrong(message, group.place);
            }
        }
    }

    /// `[service.group]`
    pub(super) fn group(&mut self, table: &ServiceTable, endpoints: &[Endpoint]) -> Option<Group> {
        let written = table.group.as_ref()?;
        let group = &written.value;
        let name = &table.name.value;
        let seats = table.replicas.as_ref().map_or(1, |replicas| replicas.value);
        if !(1..=MOST_SEATS).contains(&seats) {
            let message = format!("a group has 1 to {MOST_SEATS} seats, and `{name}` has {seats} replicas");
            self.wrong(message, written.place);
        }
        let votes =
            matches!(group.election.value, ElectionSettings::Raft(_) | ElectionSettings::MajorityVote(_));
        let quorum = group.replication.mode.is_none_or(|mode| mode == ReplicationWord::Quorum);
        if seats.is_multiple_of(2) && (votes || quorum) {
            self.warnings.push(format!(
                "the group of `{name}` has {seats} seats: it bears the loss of {}, as one with {} would",
                (seats - 1) / 2,
                seats - 1
            ));
        }
        let conflicts = [
            (table.activator.is_some(), "an `activator`: the group holds what waits for a leader by itself"),
            (super::calls::set(&table.autoscaler).is_some(), "an `autoscaler`: its number of seats is fixed"),
        ];
        for (conflict, what) in conflicts {
            if conflict {
                self.wrong(format!("a service with a group cannot have {what}"), written.place);
            }
        }
        let known: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
        let mut writes = vec![false; endpoints.len()];
        for write in &group.writes.value {
            if let Some(at) = self.lookup_in(name, "endpoint", &write.value, write.place, &known) {
                writes[at] = true;
            }
        }
        if group.writes.value.is_empty() {
            let error = Diagnostic::new(format!("the group of `{name}` has nothing to write"));
            self.errors.push(error.at(group.writes.place).hint("name the endpoints that the leader serves"));
        }
        let lock_zone = match &group.lock_zone {
            Some(zone) if !matches!(group.election.value, ElectionSettings::Lease(_)) => {
                self.wrong("only `election.lease` has a lock outside the group", zone.place);
                None
            }
            Some(zone) => self.zone_named(zone),
            None => None,
        };
        let replication = &group.replication;
        let blocking_window = group.blocking_window.filter(|window| *window > Duration::ZERO);
        let second = || Law::fixed(Duration::from_secs(1));
        let reconnect = group.reconnect.as_ref().map_or_else(second, |law| self.law(law));
        Some(Group {
            election: group.election.value.clone(),
            lock_zone,
            writes,
            leader_reads: group.reads == ReadsWord::Leader,
            mode: match replication.mode.unwrap_or(ReplicationWord::Quorum) {
                ReplicationWord::Asynchronous => ReplicationMode::Asynchronous,
                ReplicationWord::Quorum => ReplicationMode::Quorum,
                ReplicationWord::Synchronous => ReplicationMode::Synchronous,
            },
            lag: self.law_or_zero(replication.lag.as_ref()),
            cost: replication.cost.as_ref().map_or(Duration::ZERO, |cost| cost.value),
            blocking_window,
            reconnect,
            announce: self.law_or_zero(group.announce.as_ref()),
            must_catch_up: group.must_catch_up.unwrap_or(true),
            sync_rate: group
                .sync_rate
                .as_ref()
                .map_or(1000.0, |rate| self.above_zero(rate.value.0, "sync-rate", rate.place)),
        })
    }

    /// Whether that is a service with a group.
    pub(super) fn has_group(name: &Spanned<String>, scenario: &Scenario) -> bool {
        scenario.services.iter().any(|service| service.name == name.value && service.group.is_some())
    }

    fn group_named(&mut self, name: &Spanned<String>, scenario: &Scenario) -> Option<usize> {
        let service = self.service_named(name)?;
        if scenario.services[service].group.is_none() {
            let error = Diagnostic::new(format!("`{}` has no group", shortened(&name.value))).at(name.place);
            self.errors.push(error.hint("write [service.group] with an election, replication and writes"));
            return None;
        }
        Some(service)
    }

    /// `promote = { service = "store", seat = 2 }`
    pub(super) fn promote(&mut self, table: &PromoteTable, scenario: &Scenario) -> Option<Operation> {
        let service = self.group_named(&table.service, scenario)?;
        let of = &scenario.services[service];
        if let Some(group) = &of.group
            && !matches!(group.election, ElectionSettings::Manual(_))
        {
            let message = format!("`{}` elects its leader by itself", table.service.value);
            let error = Diagnostic::new(message).at(table.service.place);
            self.errors.push(error.hint("only with election.manual = {} somebody is promoted by hand"));
        }
        if let Some(seat) = &table.seat
            && seat.value >= of.replicas
        {
            self.wrong(format!("`{}` has the seats 0 to {}", of.name, of.replicas.max(1) - 1), seat.place);
        }
        Some(Operation::Promote { service, seat: table.seat.as_ref().map(|seat| seat.value) })
    }

    /// `restore = { service = "store", backup-age = "1h", log-age = "1min", takes = "5min" }`
    pub(super) fn restore(&mut self, table: &RestoreTable, scenario: &Scenario) -> Option<Operation> {
        let service = self.group_named(&table.service, scenario)?;
        let backup_age = table.backup_age.value;
        let log_age = table.log_age.as_ref().map_or(backup_age, |age| age.value);
        if log_age > backup_age {
            let place = table.log_age.as_ref().map_or(table.backup_age.place, |age| age.place);
            self.wrong("`log-age` is at most `backup-age`: the log goes on from the backup", place);
        }
        Some(Operation::Restore { service, backup_age, log_age, takes: table.takes.value })
    }
}
