//! Failure prediction: somebody who reads logs and monitors machines says, some time ahead and not always rightly, that an
//! instance or a node is about to fail. What follows are actions of operators.
//!
//! A prediction belongs to one fault. Whether it foresees a stroke is drawn for each stroke on its own; what it names is then
//! what is struck, if it is still there. False alarms come by themselves, at random, and name somebody whom the fault could
//! strike.

use crate::kernel::queue::Queue;
use crate::random::variate::exp1;
use crate::random::{Key, Stream};
use crate::time::{Duration, Time};

use super::control::Control;
use super::instance::State;
use super::provisioning::Drain;
use super::spec::{ActionTime, Operation, Trouble};
use super::{Flow, World};

/// A prediction while the world runs.
pub(super) struct Predictor {
    /// When false alarms come.
    stream: Stream,
    /// Raised in the counted part of the run, false alarms included, and those.
    pub(super) raised: u64,
    pub(super) false_alarms: u64,
    /// Strokes of its fault in the counted part that it did not foresee.
    pub(super) missed: u64,
}

/// What is about to fail, or is said to be.
#[derive(Clone, Debug)]
pub(super) struct Forecast {
    prediction: u32,
    /// Target of the fault; `None` is a false alarm.
    target: Option<u32>,
}

impl World<'_> {
    pub(super) fn begin_predictions(&mut self, queue: &mut Queue) {
        for (index, prediction) in self.spec.predictions.iter().enumerate() {
            let stream = Stream::new(self.seed, "false alarm", &prediction.name);
            self.predictors.push(Predictor { stream, raised: 0, false_alarms: 0, missed: 0 });
            self.next_false_alarm(Time::ZERO, queue, index as u32);
        }
    }

    fn next_false_alarm(&mut self, now: Time, queue: &mut Queue, index: u32) {
        let rate = self.spec.predictions[index as usize].false_alarms;
        if rate <= 0.0 {
            return;
        }
        let gap = exp1(&mut self.predictors[index as usize].stream) / rate;
        let at = now + Duration::from_secs_f64(gap);
        if at < self.spec.end {
            self.schedule(queue, at, Control::Foresee(Forecast { prediction: index, target: None }));
        }
    }

    /// A fault will strike `target` at `at`: somebody may say so before.
    pub(super) fn foresee(&mut self, now: Time, queue: &mut Queue, fault: u32, target: u32, at: Time) {
        for (index, prediction) in self.spec.predictions.iter().enumerate() {
            if prediction.fault != fault || at >= self.spec.end {
                continue;
            }
            let key = Key::new(self.seed).named("prediction").named(&prediction.name);
            let mut draws = key.with(u64::from(target)).with(at.0).draws();
            if draws.unit() >= prediction.hit_rate {
                self.predictors[index].missed += u64::from(at >= self.spec.warm_up);
                continue;
            }
            let lead = prediction.lead.sample_duration(&mut draws);
            let said = Time(at.0.saturating_sub(lead.0)).max(now);
            let forecast = Forecast { prediction: index as u32, target: Some(target) };
            self.schedule(queue, said, Control::Foresee(forecast));
        }
    }

    /// A prediction is raised.
    pub(super) fn on_foresee(&mut self, now: Time, queue: &mut Queue, forecast: &Forecast) {
        let Forecast { prediction: index, target } = *forecast;
        let spec = &self.spec.predictions[index as usize];
        let what = &self.spec.faults[spec.fault as usize].what;
        let named = if let Some(target) = target {
            let named = self.foreseen(spec.fault, target);
            self.faults[spec.fault as usize].foretell(target, named.clone());
            named
        } else {
            let could = self.target_count(what).max(1);
            let draw = self.predictors[index as usize].stream.unit();
            let nth = ((draw * f64::from(could)) as u32).min(could - 1);
            self.next_false_alarm(now, queue, index);
            self.victims(what, nth)
        };
        if self.counts_at(now) {
            let predictor = &mut self.predictors[index as usize];
            predictor.raised += 1;
            predictor.false_alarms += u64::from(target.is_none());
        }
        let nodes = matches!(what, Trouble::NodeLoss { .. });
        let names: Vec<String> = named.iter().map(|&one| self.name_of(one, nodes)).collect();
        self.telemetry.log(now, "prediction", spec.name.clone(), names.join(", "));
        for (at, action) in self.spec.actions.iter().enumerate() {
            let ActionTime::OnPrediction { prediction, after } = action.when else { continue };
            if prediction != index {
                continue;
            }
            let control = match action.what {
                Operation::Drain { lasts } => {
                    Control::Evacuate { nodes, targets: named.clone(), until: now + after + lasts }
                }
                _ => Control::Act(at as u32),
            };
            self.schedule(queue, now + after, control);
        }
    }

    fn name_of(&self, index: u32, node: bool) -> String {
        if node {
            let node = &self.cluster.nodes[index as usize];
            return format!("{}-{}", self.spec.pools[node.pool as usize].name, node.number);
        }
        let instance = &self.instances[index as usize];
        format!("{}-{}", self.spec.services[instance.service as usize].name, instance.ordinal)
    }

    /// An operator moves everything away from what is said to fail.
    pub(super) fn evacuate(
        &mut self,
        now: Time,
        queue: &mut Queue,
        nodes: bool,
        targets: &[u32],
        until: Time,
    ) -> Flow {
        for &index in targets {
            let name = self.name_of(index, nodes);
            if nodes {
                if !self.cluster.nodes[index as usize].is_up() {
                    continue;
                }
                self.telemetry.log(now, "action", name, "drained".to_owned());
                self.cluster.look_again();
                self.cluster.nodes[index as usize].cordons += 1;
                self.schedule(queue, until, Control::Uncordon(index));
                self.drain(now, queue, Drain { node: index, grace: Duration::MAX, until })?;
                continue;
            }
            let instance = &self.instances[index as usize];
            let service = instance.service;
            let leaves = matches!(instance.state, State::Dead) || instance.more.leaving;
            if leaves || instance.more.available && self.disruptions_allowed(now, service) == 0 {
                continue;
            }
            self.telemetry.log(now, "action", name, "drained".to_owned());
            self.shut_down(now, queue, index)?;
            self.reconcile(now, queue, service)?;
            self.membership_changed(now, queue, service)?;
        }
        Ok(())
    }

    /// The node takes instances again.
    pub(super) fn uncordon(&mut self, now: Time, queue: &mut Queue, node: u32) {
        self.cluster.nodes[node as usize].cordons -= 1;
        self.cluster.look_again();
        self.retry_pending(now, queue);
    }
}
