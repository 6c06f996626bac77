//! Alerts: monitoring looks at a metric from time to time, and people act on what it says.

use crate::kernel::queue::Queue;
use crate::policies::alert::{Alert, Change};
use crate::random::Key;
use crate::time::{Duration, Time};

use super::World;
use super::control::Control;
use super::metrics::{History, latest};
use super::spec::{ActionTime, AlertSpec};

/// An alert while the world runs.
pub(super) struct Watch {
    alert: Alert,
    history: History,
    /// How often it fired in the counted part of the run.
    pub(super) fired: u64,
    /// Since when it fires, as far as that counts.
    since: Option<Time>,
    /// How long it fired before that.
    firing: Duration,
}

impl Watch {
    pub(super) fn new(spec: &AlertSpec) -> Self {
        Self {
            alert: Alert::new(spec.rule),
            history: History::new(),
            fired: 0,
            since: None,
            firing: Duration::ZERO,
        }
    }

    /// Whether it fires at present.
    pub(super) const fn is_firing(&self) -> bool {
        self.alert.is_firing()
    }

    /// How long it has fired in the counted part, up to `now`.
    pub(super) fn firing_until(&self, now: Time) -> Duration {
        self.firing + self.since.map_or(Duration::ZERO, |since| now.max(since) - since)
    }
}

impl World<'_> {
    /// Schedules the first look at every alert; each has its own phase.
    pub(super) fn begin_alerts(&mut self, queue: &mut Queue) {
        for (index, alert) in self.spec.alerts.iter().enumerate() {
            self.alerts.push(Watch::new(alert));
            let phase = Key::new(self.seed).named("phase").named("alert").named(&alert.name).draws().unit();
            let first = Time::ZERO + Duration::from_ns_f64(alert.every.0 as f64 * phase);
            self.schedule(queue, first, Control::Look(index as u32));
        }
    }

    /// People act, each after the time that `after` finds for them.
    fn follow_alert(&mut self, now: Time, queue: &mut Queue, after: impl Fn(ActionTime) -> Option<Duration>) {
        for (at, action) in self.spec.actions.iter().enumerate() {
            if let Some(after) = after(action.when) {
                self.schedule(queue, now + after, Control::Act(at as u32));
            }
        }
    }

    /// A look at an alert.
    pub(super) fn on_look(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let spec = &self.spec.alerts[index as usize];
        let (thing, gauge) = spec.on;
        let observed = self.observe(now, thing, gauge);
        let watch = &mut self.alerts[index as usize];
        watch.history.retain(|known| now - known.at <= spec.window + spec.every);
        watch.history.push(observed);
        let found = latest(&watch.history, |known| known.at, now, Duration::ZERO, spec.window);
        let value = found.and_then(|(last, first)| gauge.value(last, first));
        match watch.alert.evaluate(now, value) {
            Some(Change::Fires) => {
                watch.fired += u64::from(now >= self.spec.warm_up);
                watch.since = Some(now.max(self.spec.warm_up));
                let detail = value.map_or_else(String::new, |value| format!("at {value:.3}"));
                self.telemetry.log(now, "alert", spec.name.clone(), detail);
                self.follow_alert(now, queue, |when| match when {
                    ActionTime::OnAlert { alert, after } => (alert == index).then_some(after),
                    _ => None,
                });
            }
            Some(Change::Resolved) => {
                watch.firing = watch.firing_until(now);
                watch.since = None;
                self.telemetry.log(now, "alert_end", spec.name.clone(), String::new());
                self.follow_alert(now, queue, |when| match when {
                    ActionTime::OnResolved { alert, after } => (alert == index).then_some(after),
                    _ => None,
                });
            }
            None => {}
        }
        if now + spec.every < self.spec.end {
            self.schedule(queue, now + spec.every, Control::Look(index));
        }
    }
}
