//! Alerts: what is watched, and when that is too much.

use super::Check;
use super::measures::gauges;
use crate::policies::alert::{Rule, Threshold};
use crate::scenario::de::Spanned;
use crate::scenario::error::{Diagnostic, shortened};
use crate::scenario::model::{Alert, Gauge, Thing};
use crate::scenario::schema::{AlertTable, Level};
use crate::time::Duration;
use crate::units;

/// Rates and ratios are taken over this much, if nothing else is written.
const WINDOW: Duration = Duration::from_secs(60);

/// Prometheus evaluates its rules once a minute by default; most set-ups say 15 s or 30 s.
const EVERY: Duration = Duration::from_secs(15);

/// What a threshold is written in.
#[derive(Clone, Copy)]
enum Unit {
    Share,
    Rate,
    Bandwidth,
    Time,
    Number,
}

impl Unit {
    const fn of(gauge: Gauge) -> Self {
        match gauge {
            Gauge::Utilization | Gauge::BadRatio | Gauge::MemoryUtilization | Gauge::DiskUtilization => {
                Self::Share
            }
            Gauge::Rate => Self::Rate,
            Gauge::MeanTime => Self::Time,
            Gauge::Network => Self::Bandwidth,
            Gauge::Concurrency | Gauge::QueueLength => Self::Number,
        }
    }
}

impl Check<'_> {
    pub(super) fn alert(&mut self, table: &AlertTable) -> Option<Alert> {
        let on = self.watched(&table.on);
        let threshold = match (&table.above, &table.below) {
            (Some(above), None) => self.level(above, on).map(Threshold::Above),
            (None, Some(below)) => self.level(below, on).map(Threshold::Below),
            (Some(_), Some(below)) => {
                self.wrong("an alert has one threshold, `above` or `below`", below.place);
                None
            }
            (None, None) => {
                let error = Diagnostic::new("when does this alert fire?").at(table.on.place);
                self.errors.push(error.hint("write above = \"80%\", or below = .."));
                None
            }
        };
        let window = table.window.as_ref().map_or(WINDOW, |window| self.some_time(window, "window"));
        let every = table.every.as_ref().map_or(EVERY, |every| self.some_time(every, "every"));
        let rule = Rule {
            threshold: threshold?,
            hold: table.lasts.unwrap_or_default(),
            keep_firing: table.keep_firing.unwrap_or_default(),
        };
        Some(Alert { name: table.name.value.clone(), on: on?, rule, window, every })
    }

    /// `service.NAME.METRIC` or `source.NAME.METRIC`.
    fn watched(&mut self, on: &Spanned<String>) -> Option<(Thing, Gauge)> {
        let parts: Option<(&str, &str, &str)> = (|| {
            let (kind, rest) = on.value.split_once('.')?;
            let (name, metric) = rest.rsplit_once('.')?;
            Some((kind, name, metric))
        })();
        let (services, sources) = (self.names.services.clone(), self.names.sources.clone());
        let (thing, metric) = match parts {
            Some(("service", name, metric)) => {
                (Thing::Service(self.lookup("service", name, on.place, &services)?), metric)
            }
            Some(("source", name, metric)) => {
                (Thing::Source(self.lookup("source", name, on.place, &sources)?), metric)
            }
            _ => {
                let error = Diagnostic::new(format!("`{}` cannot be watched", shortened(&on.value)));
                let hint = "write on = \"service.NAME.utilization\" or \"source.NAME.bad-ratio\"";
                self.errors.push(error.at(on.place).hint(hint));
                return None;
            }
        };
        let known: Vec<&str> = gauges(thing).iter().map(|(name, _)| *name).collect();
        let owner = &on.value[..on.value.len() - metric.len() - 1];
        let at = self.lookup_in(owner, "metric", metric, on.place, &known)?;
        let gauge = gauges(thing)[at].1;
        if let Some(error) = self.missing(thing, gauge) {
            self.errors.push(error.at(on.place));
            return None;
        }
        Some((thing, gauge))
    }

    /// A threshold in the unit of what it is for.
    fn level(&mut self, level: &Spanned<Level>, on: Option<(Thing, Gauge)>) -> Option<f64> {
        let (_, gauge) = on?;
        let unit = Unit::of(gauge);
        let read = match (unit, &level.value) {
            (Unit::Share, Level::Text(text)) => units::parse_share(text).ok(),
            (Unit::Rate, Level::Text(text)) => units::parse_rate(text).ok(),
            (Unit::Bandwidth, Level::Text(text)) => {
                units::parse_bandwidth(text).ok().map(|bytes| bytes as f64)
            }
            (Unit::Time, Level::Text(text)) => units::parse_duration(text).ok().map(Duration::as_secs_f64),
            (Unit::Number, Level::Number(number)) => Some(*number),
            _ => None,
        };
        let found = read.filter(|number| number.is_finite() && *number >= 0.0);
        if found.is_none() {
            let (what, example) = match unit {
                Unit::Share => ("a share", "\"80%\""),
                Unit::Rate => ("a rate", "\"500/s\""),
                Unit::Bandwidth => ("so many bytes per second", "\"10MiB/s\""),
                Unit::Time => ("a time", "\"300ms\""),
                Unit::Number => ("a number, not negative", "100"),
            };
            let error = Diagnostic::new(format!("the threshold of this metric is {what}")).at(level.place);
            self.errors.push(error.hint(format!("write {example}")));
        }
        found
    }
}
