//! Vertical scaling: a recommender learns from the metrics pipeline, an updater gives instances what it recommends.

use crate::kernel::queue::Queue;
use crate::policies::recommender::updater::{DEFERRED, Pod, UpdateMode, Updater};
use crate::policies::recommender::{AnyRecommender, Recommendation, Recommender as _, Usage};
use crate::policies::view::Resources;
use crate::random::Key;
use crate::time::{Duration, Time};

use super::control::Control;
use super::instance::State;
use super::report::{Decision, Step};
use super::resize::Fit;
use super::spec::{Ask, Signal};
use super::telemetry::Integral;
use super::{Flow, World};

/// The recommender of a service, and what it said last.
pub(super) struct Advice {
    recommender: AnyRecommender,
    pub(super) updater: Updater,
    pub(super) last: Option<Recommendation>,
}

/// What the placed instances of a service ask their nodes for, all together.
#[derive(Default)]
pub(super) struct Asked {
    /// Thousandths of a core.
    pub(super) cpu: Integral,
    /// Bytes.
    pub(super) memory: Integral,
}

impl Asked {
    /// An instance has its node.
    pub(super) fn more(&mut self, now: Time, request: Resources) {
        self.cpu.set(now, self.cpu.level() + request.cpu_milli.unsigned_abs());
        self.memory.set(now, self.memory.level() + request.memory.unsigned_abs());
    }

    /// An instance is gone.
    pub(super) fn less(&mut self, now: Time, request: Resources) {
        self.cpu.set(now, self.cpu.level() - request.cpu_milli.unsigned_abs());
        self.memory.set(now, self.memory.level() - request.memory.unsigned_abs());
    }
}

/// What its own container asks for.
fn own(ask: &Ask) -> Resources {
    Resources {
        cpu_milli: (ask.cpu_request * 1000.0 - 1e-6).ceil() as i64,
        memory: i64::try_from(ask.memory_request).unwrap_or(i64::MAX),
    }
}

impl World<'_> {
    /// Starts recommenders and updaters, each with a phase of its own.
    pub(super) fn begin_recommenders(&mut self, queue: &mut Queue) {
        for index in 0..self.spec.services.len() {
            let service = &self.spec.services[index];
            let Some(settings) = &service.recommender else { continue };
            let recommender = settings.build(Time::ZERO);
            let (updater, every) = (recommender.updater(), recommender.interval());
            self.services[index].advice = Some(Box::new(Advice { recommender, updater, last: None }));
            let key = Key::new(self.seed).named("phase").named(&service.name);
            let first = |name: &str, every: Duration| {
                Time::ZERO + Duration::from_ns_f64(every.0 as f64 * key.named(name).draws().unit())
            };
            if service.autoscaler.is_none() {
                self.schedule(queue, Time::ZERO, Control::Scrape(index as u32));
            }
            self.schedule(queue, first("recommender", every), Control::Recommend(index as u32));
            if !matches!(updater.mode, UpdateMode::Off | UpdateMode::Initial) {
                self.schedule(queue, first("updater", updater.interval), Control::Update(index as u32));
            }
        }
    }

    /// A recommender reads what the instances used, and recommends.
    pub(super) fn on_recommend(&mut self, now: Time, queue: &mut Queue, service: u32) {
        let spec = &self.spec.services[service as usize];
        let Some(mut advice) = self.services[service as usize].advice.take() else { return };
        for &index in &self.services[service as usize].living {
            let Some(cpu) = self.pod_reading(now, index, Signal::ContainerCpu(0)).sample else { continue };
            // Less than nothing is no sample.
            let memory = spec.memory_use.as_ref().map_or(-1, |_| {
                let sample = self.pod_reading(now, index, Signal::Memory).sample;
                sample.map_or(-1, |sample| sample.milli / 1000)
            });
            let used = Resources { cpu_milli: cpu.milli, memory };
            advice.recommender.on_usage(now, &Usage { instance: index, at: cpu.at, used });
        }
        advice.last = advice.recommender.recommend(now, 1 + spec.sidecars.len() as u32);
        let (every, last, mode) = (advice.recommender.interval(), advice.last, advice.updater.mode);
        let before = self.ask_of(service).cpu_request;
        self.services[service as usize].advice = Some(advice);
        if let Some(recommended) = last {
            self.note_recommendation(now, service, &recommended, before, mode);
        }
        if now + every < self.spec.end {
            self.schedule(queue, now + every, Control::Recommend(service));
        }
    }

    fn note_recommendation(
        &mut self,
        now: Time,
        service: u32,
        recommended: &Recommendation,
        before: f64,
        mode: UpdateMode,
    ) {
        let spec = &self.spec.services[service as usize];
        let Recommendation { target, lower_bound, upper_bound } = *recommended;
        let bounds = [("target", target), ("lower-bound", lower_bound), ("upper-bound", upper_bound)];
        let cores = |resources: Resources| resources.cpu_milli as f64 / 1000.0;
        let cpu = bounds.map(|(what, value)| Step { metric: Some("cpu".into()), what, value: cores(value) });
        let mut inputs = cpu.to_vec();
        if spec.memory_use.is_some() {
            let memory = bounds.map(|(what, value)| Step {
                metric: Some("memory".into()),
                what,
                value: value.memory as f64,
            });
            inputs.extend(memory);
        }
        self.telemetry.decide(Decision {
            at: now,
            kind: "recommender",
            subject: spec.name.clone(),
            inputs,
            before,
            after: cores(target),
            reason: match mode {
                UpdateMode::Off => "only shown",
                UpdateMode::Initial => "for new instances",
                UpdateMode::Recreate => "for new instances, running ones are recreated",
                UpdateMode::InPlace | UpdateMode::InPlaceOrRecreate => "for all instances, in place",
            },
        });
    }

    /// Curves about the size of the instances of a service: what their own containers ask for on average, and should.
    pub(super) fn push_sizes(&self, service: u32, push: &mut impl FnMut(&'static str, f64)) {
        let spec = &self.spec.services[service as usize];
        let state = &self.services[service as usize];
        let living = state.living.iter().map(|&index| &self.instances[index as usize].more.ask);
        let count = state.living.len();
        let mean = |sum: f64| if count > 0 { sum / count as f64 } else { f64::NAN };
        let last = state.advice.as_ref().map(|advice| advice.last.map(|recommended| recommended.target));
        push("cpu_requested", mean(living.clone().map(|ask| ask.cpu_request).sum()));
        if let Some(target) = last {
            push("cpu_recommended", target.map_or(f64::NAN, |target| target.cpu_milli as f64 / 1000.0));
        }
        if spec.memory_use.is_some() {
            push("memory_requested_bytes", mean(living.map(|ask| ask.memory_request as f64).sum()));
            if let Some(target) = last {
                push("memory_recommended_bytes", target.map_or(f64::NAN, |target| target.memory as f64));
            }
        }
    }

    /// An updater looks at the instances of its service.
    pub(super) fn on_update(&mut self, now: Time, queue: &mut Queue, service: u32) -> Flow {
        let Some(advice) = &self.services[service as usize].advice else { return Ok(()) };
        let (updater, last) = (advice.updater, advice.last);
        if now + updater.interval < self.spec.end {
            self.schedule(queue, now + updater.interval, Control::Update(service));
        }
        let Some(recommended) = last else { return Ok(()) };
        let (mut running, mut pods) = (Vec::new(), Vec::new());
        for &index in &self.services[service as usize].living {
            let instance = &self.instances[index as usize];
            if !instance.more.leaving && !matches!(instance.state, State::Pending | State::Dead) {
                running.push(index);
                pods.push(Pod {
                    started: instance.more.launched,
                    request: own(&instance.more.ask),
                    quick_oom: instance.more.memory.as_ref().is_some_and(|memory| memory.quick_oom),
                });
            }
        }
        let memory = self.spec.services[service as usize].memory_use.is_some();
        let due = updater.due(now, &pods, &recommended, memory);
        for (at, &index) in running.iter().enumerate() {
            if !due.contains(&at) {
                self.instances[index as usize].more.waits_for_room = None;
            }
        }
        let ask = self.ask_of(service);
        let mut group = updater.group(self.services[service as usize].wanted, running.len() as u32);
        for index in due.into_iter().map(|at| running[at]) {
            let waited = self.instances[index as usize].more.waits_for_room.map(|since| now - since);
            if updater.mode != UpdateMode::Recreate {
                if waited.is_none() {
                    if !updater.skip_disruption_budget && !group.may_disturb() {
                        continue;
                    }
                    group.disturbed();
                }
                let fit = self.resize(now, queue, index, ask);
                if fit != Fit::Done {
                    self.wait_for_room(now, index);
                }
                let failed = waited.is_some_and(|waited| match fit {
                    Fit::Done => false,
                    Fit::NotNow => waited > DEFERRED,
                    Fit::Never => true,
                });
                if !failed || updater.mode == UpdateMode::InPlace {
                    continue;
                }
            }
            let ready = self.instances[index as usize].more.available;
            if !group.may_disturb() || ready && self.disruptions_allowed(now, service) == 0 {
                continue;
            }
            group.disturbed();
            self.log_instance(now, index, "evicted to be resized");
            self.shut_down(now, queue, index)?;
            self.reconcile(now, queue, service)?;
            self.membership_changed(now, queue, service)?;
        }
        // Some may be smaller now.
        self.retry_pending(now, queue);
        Ok(())
    }

    /// An instance was killed for lack of memory; its last process had been ready since then.
    pub(super) fn note_oom(&mut self, now: Time, index: u32) {
        let instance = &mut self.instances[index as usize];
        let Some(advice) = &mut self.services[instance.service as usize].advice else { return };
        if let Some(memory) = &mut instance.more.memory {
            memory.quick_oom = now - instance.more.ready_at < advice.updater.evict_after_oom;
        }
        advice.recommender.on_oom(now, index, own(&instance.more.ask).memory);
    }

    /// An instance is gone.
    pub(super) fn forget_usage(&mut self, now: Time, index: u32) {
        let service = self.instances[index as usize].service;
        if let Some(advice) = &mut self.services[service as usize].advice {
            advice.recommender.on_gone(now, index);
        }
    }
}
