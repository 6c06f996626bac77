//! Consul with TTL checks: an endpoint that does not report in time turns critical, and watchers are told at once.
//!
//! ## What it does
//! An endpoint reports every `heartbeat`. If none came for `ttl`, its check is *critical* and it leaves the answers; the next
//! report makes it *passing* again. One that stays critical for `deregister-critical-service-after` is deregistered by a task
//! that runs every 30 s. Clients hold blocking queries, so a change reaches them within `push-delay` .. `push-delay-max`.
//!
//! ## When it helps
//! A service knows best whether it is well, and says so itself.
//!
//! ## How it fails
//! A pause of the process longer than `ttl` is a death. When nobody reaches the registry for that long, all checks turn
//! critical at once, and every watcher gets an empty list.
//!
//! ## Settings
//! * `ttl` (default `30s`), `heartbeat` (default two thirds of `ttl`, at most `ttl` less 1 s, as of Spring Cloud Consul).
//! * `deregister-critical-service-after` (default none; at least `1min`).
//! * `push-delay` (default `0s`), `push-delay-max` (default `push-delay`).
//!
//! ## Origin
//! `HashiCorp` Consul's documentation of TTL checks, of `deregister_critical_service_after` and of blocking queries, from memory;
//! there is no upstream run behind it. Consul has no default for `ttl`.
//!
//! ## Deliberate differences
//! * One server; neither anti-entropy (1 min) nor gossip among agents: agents report changes at once.
//! * Critical is noticed by a look once in a second; Consul has a timer for each check.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Delivery, Discovery, set_listed};
use crate::policies::Algorithm;
use crate::policies::view::Slot;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `discovery.consul`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct ConsulSettings(Written);

/// The settings before they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "ConsulSettings")]
struct Written {
    /// Longest time between two reports.
    ttl: Duration,
    /// Time between two reports.
    heartbeat: Option<Duration>,
    /// How long a check may be critical before the endpoint is deregistered.
    deregister_critical_service_after: Option<Duration>,
    /// Shortest time until a client knows of a change.
    push_delay: Duration,
    /// Longest time until a client knows of a change.
    push_delay_max: Option<Duration>,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30),
            heartbeat: None,
            deregister_critical_service_after: None,
            push_delay: Duration::ZERO,
            push_delay_max: None,
        }
    }
}

/// Consul's floor of `deregister_critical_service_after`.
const SHORTEST_CRITICAL: Duration = Duration::from_secs(60);
/// How often critical services are looked for.
const REAPER: Duration = Duration::from_secs(30);
/// How often checks are looked at.
const LOOK: Duration = Duration::from_secs(1);

impl TryFrom<Written> for ConsulSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if written.ttl < Duration::from_secs(1) {
            return Err("ttl must be at least 1s".to_owned());
        }
        if written.heartbeat.is_some_and(|heartbeat| heartbeat == Duration::ZERO || heartbeat >= written.ttl)
        {
            return Err("heartbeat must be more than zero and less than ttl".to_owned());
        }
        if written.deregister_critical_service_after.is_some_and(|after| after < SHORTEST_CRITICAL) {
            return Err("deregister-critical-service-after is at least 1min (Consul's minimum)".to_owned());
        }
        if written.push_delay_max.is_some_and(|max| max < written.push_delay) {
            return Err("push-delay-max is less than push-delay".to_owned());
        }
        Ok(Self(written))
    }
}

/// The check of one endpoint.
#[derive(Clone, Copy, Debug)]
struct Check {
    reported: Time,
    critical_since: Option<Time>,
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Consul {
    settings: Written,
    /// By slot.
    checks: Vec<Option<Check>>,
    passing: Vec<Slot>,
    next_reap: Time,
}

impl Algorithm for Consul {
    type Settings = ConsulSettings;

    fn new(settings: &ConsulSettings, now: Time) -> Self {
        Self { settings: settings.0, checks: Vec::new(), passing: Vec::new(), next_reap: now + REAPER }
    }
}

impl Discovery for Consul {
    fn on_register(&mut self, now: Time, slot: Slot) {
        let at = slot.0 as usize;
        if self.checks.len() <= at {
            self.checks.resize(at + 1, None);
        }
        self.checks[at] = Some(Check { reported: now, critical_since: None });
        set_listed(&mut self.passing, slot, true);
    }

    fn on_deregister(&mut self, _now: Time, slot: Slot) {
        if let Some(check) = self.checks.get_mut(slot.0 as usize) {
            *check = None;
        }
        set_listed(&mut self.passing, slot, false);
    }

    fn heartbeat_interval(&self) -> Option<Duration> {
        let Written { ttl, heartbeat, .. } = self.settings;
        let usual = Duration(ttl.0 / 3 * 2)
            .min(Duration(ttl.0.saturating_sub(1_000_000_000)).max(Duration(ttl.0 / 2)));
        Some(heartbeat.unwrap_or(usual))
    }

    fn on_heartbeat(&mut self, now: Time, slot: Slot) {
        self.on_register(now, slot);
    }

    fn interval(&self) -> Option<Duration> {
        Some(LOOK)
    }

    fn on_interval(&mut self, now: Time, _answers: &mut dyn FnMut(Slot) -> bool, _rng: &mut Rng) {
        let reaps = now >= self.next_reap;
        if reaps {
            self.next_reap = now + REAPER;
        }
        for (at, entry) in self.checks.iter_mut().enumerate() {
            let Some(check) = entry else { continue };
            if check.critical_since.is_none() && now - check.reported >= self.settings.ttl {
                check.critical_since = Some(now);
                set_listed(&mut self.passing, Slot(at as u32), false);
            }
            if reaps
                && let (Some(after), Some(since)) =
                    (self.settings.deregister_critical_service_after, check.critical_since)
                && now - since > after
            {
                *entry = None;
            }
        }
    }

    fn delivery(&self) -> Delivery {
        let Written { push_delay, push_delay_max, .. } = self.settings;
        Delivery::Push(push_delay, push_delay_max.unwrap_or(push_delay))
    }

    fn listed(&self, _now: Time) -> &[Slot] {
        &self.passing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    #[test]
    fn silence_for_a_ttl_is_critical_and_a_report_heals() {
        let mut consul = Consul::new(&ConsulSettings::default(), Time::ZERO);
        assert_eq!(consul.heartbeat_interval(), Some(Duration::from_secs(20)));
        consul.on_register(Time::ZERO, Slot(0));
        consul.on_heartbeat(Time::from_secs(20), Slot(0));
        for (at, there) in [(49, 1), (50, 0), (51, 0)] {
            consul.on_interval(Time::from_secs(at), &mut |_| true, &mut Key(0).rng());
            assert_eq!(consul.listed(Time::from_secs(at)).len(), there, "{at} s");
        }
        consul.on_heartbeat(Time::from_secs(52), Slot(0));
        assert_eq!(consul.listed(Time::from_secs(52)).len(), 1);
    }
}
