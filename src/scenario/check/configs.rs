//! Configurations, their publication, and who takes changes back.

use super::{Check, calls};
use crate::policies::rollback::RollbackSettings;
use crate::policies::rollout::RolloutSettings;
use crate::policies::rollout::rolling::RollingSettings;
use crate::scenario::de::Spanned;
use crate::scenario::error::Diagnostic;
use crate::scenario::model::{Batch, Config, ConfigVersion, Operation, Publish, RollbackPlan, Scenario};
use crate::scenario::schema::{BatchTable, ConfigTable, PublishTable, RollbackTable};
use crate::time::Duration;

use super::measures::{Part, not_simulated};

/// The environment of a configuration that names a service only.
const PRODUCTION: &str = "production";

impl Check<'_> {
    pub(super) fn config(&mut self, table: &ConfigTable) -> Option<Config> {
        const MOST: usize = 255;
        let mut environments: Vec<(String, usize)> = Vec::new();
        match (&table.service, table.environment.0.is_empty()) {
            (Some(service), true) => environments.push((PRODUCTION.to_owned(), self.service_named(service)?)),
            (None, false) => {
                for (name, service) in &table.environment.0 {
                    self.well_formed("environment", name, true);
                    let at = self.service_named(service)?;
                    if environments.iter().any(|(_, known)| *known == at) {
                        self.wrong(format!("`{}` is two environments", service.value), service.place);
                    }
                    environments.push((name.value.clone(), at));
                }
            }
            _ => {
                let message = format!("whose configuration is `{}`?", table.name.value);
                let error = Diagnostic::new(message).at(table.name.place);
                self.errors.push(error.hint("write either `service` or `environment`"));
                return None;
            }
        }
        let mut versions: Vec<ConfigVersion> = Vec::new();
        for version in &table.version {
            let name = &version.name;
            self.well_formed("version", name, true);
            if versions.iter().any(|known| known.name == name.value) {
                self.wrong(format!("there are two versions named `{}`", name.value), name.place);
            }
            versions.push(ConfigVersion {
                name: name.value.clone(),
                error_rate: version.error_rate.map_or(0.0, |share| share.0),
                demand: version
                    .demand
                    .map_or(1.0, |demand| self.above_zero(demand.value, "demand", demand.place)),
            });
        }
        if versions.is_empty() || versions.len() > MOST {
            let message = format!("`{}` needs 1 to {MOST} versions", table.name.value);
            let error = Diagnostic::new(message).at(table.name.place);
            self.errors.push(error.hint("write [[config.version]] with a name"));
        }
        Some(Config {
            name: table.name.value.clone(),
            environments,
            delay: self.law_or_zero(table.delay.as_ref()),
            encryption: table.encryption.unwrap_or_default(),
            restart: table.restart.unwrap_or(false),
            versions,
        })
    }

    pub(super) fn publish(&mut self, table: &PublishTable, scenario: &Scenario) -> Option<Operation> {
        let known: Vec<&str> = scenario.configs.iter().map(|config| config.name.as_str()).collect();
        let at = self.lookup("configuration", &table.config.value, table.config.place, &known)?;
        let (config, owner) = (&scenario.configs[at], &table.config.value);
        let known: Vec<&str> = config.versions.iter().map(|version| version.name.as_str()).collect();
        let version = self.lookup_in(owner, "version", &table.version.value, table.version.place, &known)?;
        let known: Vec<&str> = config.environments.iter().map(|(name, _)| name.as_str()).collect();
        let environment = match &table.environment {
            None => None,
            Some(name) => Some(self.lookup_in(owner, "environment", &name.value, name.place, &known)?),
        };
        if let Some(share) = &table.share
            && share.value.0 <= 0.0
        {
            self.wrong("a share of nobody is no beginning", share.place);
        }
        Some(Operation::Publish(Publish {
            config: at,
            version,
            environment,
            share: table.share.as_ref().map_or(1.0, |share| share.value.0),
            soak: table.soak.unwrap_or_default(),
            batch: table.batch.as_ref().map(|batch| self.batch(batch)),
        }))
    }

    fn batch(&mut self, table: &BatchTable) -> Batch {
        Batch {
            size: self.one_or_more(table.size.as_ref(), "size", 1),
            takes: self.law_or_zero(table.takes.as_ref()),
            failure_rate: table.failure_rate.map_or(0.0, |share| share.0),
            retries: table.retries.unwrap_or(0),
            pause: table.pause.unwrap_or_default(),
            max_failed: table.max_failed.map_or(0.0, |share| share.0),
        }
    }

    pub(super) fn rollback(&mut self, table: &RollbackTable, scenario: &Scenario) -> Option<RollbackPlan> {
        let service = self.service_named(&table.service)?;
        let known = self.names.alerts.clone();
        let alert = match &table.alert {
            None => None,
            Some(alert) => Some(self.lookup("alert", &alert.value, alert.place, &known)?),
        };
        if let Some(disk) = &table.disk
            && scenario.services[service].instance.disk_use.is_none()
        {
            self.errors.push(not_simulated(Part::Disk, &table.service.value).at(disk.place));
        }
        let minds = table.error_ratio.is_some()
            || table.mean_latency.is_some()
            || table.crashes.is_some()
            || table.disk.is_some()
            || alert.is_some();
        if !minds {
            let error = Diagnostic::new("nothing would ever be taken back").at(table.name.place);
            self.errors.push(
                error.hint("say what is bad: `error-ratio`, `mean-latency`, `crashes`, `disk` or `alert`"),
            );
        }
        let mut time = |written: Option<&Spanned<Duration>>, name: &str, usual: u64| {
            written.map_or_else(|| Duration::from_secs(usual), |written| self.some_time(written, name))
        };
        let (every, window) =
            (time(table.every.as_ref(), "every", 15), time(table.window.as_ref(), "window", 60));
        let settle = time(table.settle.as_ref(), "settle", 120);
        let crashes = table.crashes.as_ref();
        let crashes = crashes.map(|count| u64::from(self.one_or_more(Some(count), "crashes", 1)));
        Some(RollbackPlan {
            name: table.name.value.clone(),
            service,
            every,
            window,
            least: u64::from(self.one_or_more(table.least.as_ref(), "least", 20)),
            settings: RollbackSettings {
                error_ratio: table.error_ratio.map(|share| share.0),
                mean_latency: table.mean_latency.as_ref().map(|limit| limit.value.as_secs_f64()),
                crashes,
                disk: table.disk.as_ref().map(|share| share.value.0),
                hold: table.lasts.unwrap_or_default(),
                settle,
                max_steps: table.max_steps.unwrap_or(2),
            },
            alert,
            by: calls::set(&table.by).unwrap_or_else(|| RolloutSettings::Rolling(RollingSettings::default())),
        })
    }
}
