//! A registry that lives on heartbeats: providers send them, a detector judges the silence, clients are told or ask.
//!
//! ## What it does
//! An endpoint registers and then sends a heartbeat every interval of its `detector`. Every `check` the registry asks each
//! detector; who is gone is taken off the list, and put back by its next heartbeat. Clients are told of each change within
//! `push-delay` .. `push-delay-max`, or fetch the list every `fetch`.
//!
//! ## When it helps
//! Nothing else knows that a process died: no orchestrator, no connection that breaks.
//!
//! ## How it fails
//! A death is known after the detector's patience plus a check plus the delivery; until then clients send into the void. A
//! registry that nobody reaches takes everybody off its list, and tells it as soon as it is back, before the next heartbeats.
//!
//! ## Settings
//! * `detector` (default `heartbeat`): `heartbeat` or `phi-accrual`, with its own settings.
//! * `check` (default `1s`).
//! * `push-delay` (default `0s`), `push-delay-max` (default `push-delay`); or `fetch`.
//!
//! ## Origin
//! simlab's own definition, after the provider/consumer registries of the projects that it grew from; pinned by its tests.
//!
//! ## Deliberate differences
//! None.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Delivery, Discovery, set_listed};
use crate::policies::Algorithm;
use crate::policies::detector::heartbeat::HeartbeatSettings;
use crate::policies::detector::{AnyDetector, Detector, DetectorSettings, Probe, Verdict};
use crate::policies::view::Slot;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `discovery.heartbeats`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct HeartbeatsSettings(Written);

/// The settings before they are checked.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "HeartbeatsSettings")]
struct Written {
    /// Judges the silence of an endpoint.
    detector: DetectorSettings,
    /// Time between two looks of the registry.
    check: Duration,
    /// Shortest time until a client knows of a change.
    push_delay: Duration,
    /// Longest time until a client knows of a change.
    push_delay_max: Option<Duration>,
    /// Clients ask instead, so often.
    fetch: Option<Duration>,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            detector: DetectorSettings::Heartbeat(HeartbeatSettings::default()),
            check: Duration::from_secs(1),
            push_delay: Duration::ZERO,
            push_delay_max: None,
            fetch: None,
        }
    }
}

impl TryFrom<Written> for HeartbeatsSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if written.check == Duration::ZERO {
            return Err("check must be more than zero".to_owned());
        }
        if written.fetch == Some(Duration::ZERO) {
            return Err("fetch must be more than zero".to_owned());
        }
        if written.fetch.is_some()
            && (written.push_delay > Duration::ZERO || written.push_delay_max.is_some())
        {
            return Err("clients either fetch or are told: leave out fetch, or push-delay".to_owned());
        }
        if written.push_delay_max.is_some_and(|max| max < written.push_delay) {
            return Err("push-delay-max is less than push-delay".to_owned());
        }
        if !matches!(written.detector, DetectorSettings::Heartbeat(_) | DetectorSettings::PhiAccrual(_)) {
            let name = written.detector.name();
            return Err(format!("{name} judges probes, not heartbeats: use heartbeat or phi-accrual"));
        }
        Ok(Self(written))
    }
}

/// See the module documentation.
pub struct Heartbeats {
    settings: Written,
    /// By slot: what watches it, if it is registered.
    watched: Vec<Option<AnyDetector>>,
    listed: Vec<Slot>,
}

impl Algorithm for Heartbeats {
    type Settings = HeartbeatsSettings;

    fn new(settings: &HeartbeatsSettings, _now: Time) -> Self {
        Self { settings: settings.0.clone(), watched: Vec::new(), listed: Vec::new() }
    }
}

impl Discovery for Heartbeats {
    fn on_register(&mut self, now: Time, slot: Slot) {
        let at = slot.0 as usize;
        if self.watched.len() <= at {
            self.watched.resize_with(at + 1, || None);
        }
        let mut detector = self.settings.detector.build(now);
        detector.on_result(now, Probe::Passed);
        self.watched[at] = Some(detector);
        set_listed(&mut self.listed, slot, true);
    }

    fn on_deregister(&mut self, _now: Time, slot: Slot) {
        if let Some(watched) = self.watched.get_mut(slot.0 as usize) {
            *watched = None;
        }
        set_listed(&mut self.listed, slot, false);
    }

    fn heartbeat_interval(&self) -> Option<Duration> {
        Some(self.settings.detector.build(Time::ZERO).interval())
    }

    fn on_heartbeat(&mut self, now: Time, slot: Slot) {
        match self.watched.get_mut(slot.0 as usize) {
            Some(Some(detector)) => {
                detector.on_result(now, Probe::Passed);
                set_listed(&mut self.listed, slot, true);
            }
            // Who is not known registers anew.
            _ => self.on_register(now, slot),
        }
    }

    fn interval(&self) -> Option<Duration> {
        Some(self.settings.check)
    }

    fn on_interval(&mut self, now: Time, _answers: &mut dyn FnMut(Slot) -> bool, _rng: &mut Rng) {
        for (at, watched) in self.watched.iter().enumerate() {
            if watched.as_ref().is_some_and(|detector| detector.verdict(now) == Verdict::Unhealthy) {
                set_listed(&mut self.listed, Slot(at as u32), false);
            }
        }
    }

    fn delivery(&self) -> Delivery {
        let Written { push_delay, push_delay_max, fetch, .. } = self.settings;
        fetch
            .map_or_else(|| Delivery::Push(push_delay, push_delay_max.unwrap_or(push_delay)), Delivery::Fetch)
    }

    fn listed(&self, _now: Time) -> &[Slot] {
        &self.listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    #[test]
    fn a_silent_provider_leaves_the_list_and_its_next_heartbeat_brings_it_back() {
        let settings: HeartbeatsSettings =
            serde_json::from_str(r#"{"detector": {"heartbeat": {"period": "5s", "misses": 2}}}"#).unwrap();
        let mut registry = Heartbeats::new(&settings, Time::ZERO);
        registry.on_register(Time::ZERO, Slot(0));
        registry.on_register(Time::ZERO, Slot(1));
        for at in 1..=11 {
            let now = Time::from_secs(at);
            if at % 5 == 0 {
                registry.on_heartbeat(now, Slot(1));
            }
            registry.on_interval(now, &mut |_| true, &mut Key(0).rng());
            let there = registry.listed(now).len();
            assert_eq!(there, if at <= 10 { 2 } else { 1 }, "{at} s: more than two periods of 5 s");
        }
        registry.on_heartbeat(Time::from_secs(12), Slot(0));
        assert_eq!(registry.listed(Time::from_secs(12)), [Slot(0), Slot(1)]);
    }

    #[test]
    fn probes_are_no_heartbeats() {
        let error =
            serde_json::from_str::<HeartbeatsSettings>(r#"{"detector": {"kubelet": {}}}"#).unwrap_err();
        assert!(error.to_string().contains("kubelet judges probes, not heartbeats"), "{error}");
    }
}
