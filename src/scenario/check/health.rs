//! Who is well, and who knows: probes, health checks, host selection and registries.

use super::Check;
use crate::policies::detector::kubelet::{KubeletSettings, ProbeKind};
use crate::policies::discovery::DiscoverySettings;
use crate::policies::host_selection::HostSelectionSettings;
use crate::random::law::Law;
use crate::scenario::de::Spanned;
use crate::scenario::error::{Diagnostic, Place};
use crate::scenario::model::{HealthCheck, Probe, ProbeWork, Scenario};
use crate::scenario::schema::{DiscoveryChoice, HealthCheckTable, LawText, ProbeTable, ServiceTable};
use crate::time::Duration;

impl Check<'_> {
    pub(super) fn discovery(&mut self, choice: Option<&DiscoveryChoice>) -> (Law, Option<DiscoverySettings>) {
        match choice {
            None => (self.law_or_zero(None), None),
            Some(DiscoveryChoice::Delay(law)) => (self.law(law), None),
            Some(DiscoveryChoice::Registry(settings)) => (self.law_or_zero(None), Some(settings.clone())),
        }
    }

    pub(super) fn probes(&mut self, table: &ServiceTable) -> Vec<Probe> {
        let written = [
            (ProbeKind::Startup, &table.probe.startup),
            (ProbeKind::Liveness, &table.probe.liveness),
            (ProbeKind::Readiness, &table.probe.readiness),
        ];
        let Some(own) = self.names.services.iter().position(|name| *name == table.name.value) else {
            return Vec::new();
        };
        written.into_iter().filter_map(|(kind, probe)| self.probe(kind, probe.as_ref()?, own)).collect()
    }

    fn probe(&mut self, kind: ProbeKind, table: &ProbeTable, service: usize) -> Option<Probe> {
        let mut time = |written: Option<&Spanned<Duration>>, name: &str, default: Duration| match written {
            Some(written) => self.some_time(written, name),
            None => default,
        };
        let period = time(table.period.as_ref(), "period", Duration::from_secs(10));
        let timeout = time(table.timeout.as_ref(), "timeout", Duration::from_secs(1));
        let success = self.one_or_more(table.success_threshold.as_ref(), "success-threshold", 1);
        let failure = self.one_or_more(table.failure_threshold.as_ref(), "failure-threshold", 3);
        if kind != ProbeKind::Readiness
            && let Some(threshold) = table.success_threshold.as_ref().filter(|threshold| threshold.value > 1)
        {
            let message = format!("`success-threshold` must be 1 for a {} probe (Kubernetes)", kind.name());
            self.wrong(message, threshold.place);
        }
        let initial_delay = table.initial_delay.map_or(Duration::ZERO, |delay| delay.value);
        let settings = KubeletSettings::of_manifest(initial_delay, period, timeout, success, failure).ok();
        let work = self.work(table.endpoint.as_ref(), table.cost.as_ref(), table.own_port.as_ref(), service);
        Some(Probe { kind, settings: settings?, work: work? })
    }

    pub(super) fn health_check(&mut self, table: &HealthCheckTable, to: usize) -> Option<HealthCheck> {
        let work = self.work(table.endpoint.as_ref(), table.cost.as_ref(), table.own_port.as_ref(), to);
        Some(HealthCheck { detector: table.detector.clone(), work: work? })
    }

    /// What a probe of `service` asks for.
    fn work(
        &mut self,
        endpoint: Option<&Spanned<String>>,
        cost: Option<&Spanned<LawText>>,
        own_port: Option<&Spanned<bool>>,
        service: usize,
    ) -> Option<ProbeWork> {
        if own_port.is_some_and(|own| own.value) {
            let odd = endpoint.map(|key| key.place).or_else(|| cost.map(|key| key.place));
            if let Some(place) = odd {
                self.wrong("a probe with a port of its own asks no worker for anything", place);
            }
            return Some(ProbeWork::OwnPort);
        }
        match (endpoint, cost) {
            (Some(_), Some(cost)) => {
                let error =
                    Diagnostic::new("a probe asks an `endpoint` or has a `cost`, not both").at(cost.place);
                self.errors.push(error.hint("what an endpoint costs is said by its steps"));
                None
            }
            (Some(endpoint), None) => {
                let owner = self.names.services[service].clone();
                let known = self.names.endpoints[service].clone();
                let known: Vec<&str> = known.iter().map(|name| name.value.as_str()).collect();
                let at = self.lookup_in(&owner, "endpoint", &endpoint.value, endpoint.place, &known);
                at.map(ProbeWork::Endpoint)
            }
            (None, cost) => Some(ProbeWork::Cost(self.law_or_zero(cost))),
        }
    }

    /// Zones that priority levels name must exist.
    pub(super) fn zones_of_priorities(
        &mut self,
        settings: Option<&HostSelectionSettings>,
        to: usize,
        place: Option<Place>,
    ) {
        let Some(HostSelectionSettings::Envoy(settings)) = settings else { return };
        for zone in settings.zones() {
            if !self.names.zones.iter().any(|known| known == zone) {
                let callee = &self.names.services[to];
                let message =
                    format!("host-selection of the callers of `{callee}`: there is no zone `{zone}`");
                let known: Vec<&str> = self.names.zones.iter().map(String::as_str).collect();
                let error = Diagnostic::new(message);
                let error = if known.is_empty() {
                    error.hint("zones exist by being named in `zones` of a node pool or `zone` of a source")
                } else {
                    error.among(zone, known.iter().copied())
                };
                if !self.errors.iter().any(|old| old.message == error.message) {
                    self.wrong_edge(error, place);
                }
            }
        }
    }

    /// A service whose clients ask a registry.
    pub(super) fn service_with_registry(
        &mut self,
        name: &Spanned<String>,
        scenario: &Scenario,
    ) -> Option<usize> {
        let service = self.service_named(name)?;
        match &scenario.services.get(service)?.directory {
            Some(DiscoverySettings::Swim(_)) => {
                let message = format!(
                    "the instances of `{}` watch each other: there is no registry to fail",
                    name.value
                );
                self.errors
                    .push(Diagnostic::new(message).at(name.place).hint("use `partition` or `packet-loss`"));
                None
            }
            Some(_) => Some(service),
            None => {
                let message = format!(
                    "the control plane tells clients of `{}` who is there, not a registry",
                    name.value
                );
                let hint = "give the service one: discovery.eureka = {}";
                self.errors.push(Diagnostic::new(message).at(name.place).hint(hint));
                None
            }
        }
    }
}
