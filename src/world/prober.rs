//! Probes: small requests that ask an instance whether it is well. They take the way of any attempt: network, queue, worker,
//! cores; only the instance's own limiter lets them pass. One that has a port of its own meets nothing of that.
//!
//! Whoever sends them has a calling side without a view, which stands behind those of the sources: an answer that comes back
//! to it is not the end of a request.

use crate::kernel::queue::Queue;
use crate::policies::detector::Probe;
use crate::policies::detector::kubelet::ProbeKind;
use crate::policies::view::{Class, Slot};
use crate::random::Key;
use crate::time::{Duration, Time};

use super::call::Origin;
use super::control::Control;
use super::frame::{AWAITED, Frame, NIL};
use super::instance::State;
use super::outbound::{ANYWHERE, Outbound};
use super::spec::{AskSpec, NO_RING};
use super::{Flow, Full, World};

/// On whose behalf a prober works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Of the kubelet.
    Kubelet(ProbeKind),
    /// Of a client, for one of the endpoints that it knows.
    Client(u32, Slot),
}

/// Sends probes to one instance.
#[derive(Clone, Debug)]
pub(super) struct Prober {
    pub(super) instance: u32,
    owner: Owner,
    ask: AskSpec,
    timeout: Duration,
    /// Its calling side.
    outbound: u32,
    /// Probes sent; they key their draws.
    sent: u64,
    /// When the one that is out was sent.
    began: Time,
    /// When the next one is due; anything else that says so is out of date.
    due: Time,
    stopped: bool,
}

impl Prober {
    /// Whether no probe is out.
    pub(super) fn is_idle(&self) -> bool {
        self.due < Time::MAX
    }

    /// Sends no more.
    pub(super) const fn stop(&mut self) {
        self.stopped = true;
    }
}

impl World<'_> {
    pub(super) fn new_prober(
        &mut self,
        now: Time,
        instance: u32,
        owner: Owner,
        ask: &AskSpec,
        timeout: Duration,
    ) -> u32 {
        let number = self.probers.len() as u32;
        let outbound = self.outbounds.len() as u32;
        let service = self.instances[instance as usize].service;
        self.outbounds.push(Outbound::of_prober(service, self.sources.len() as u32 + number, now));
        self.probers.push(Prober {
            instance,
            owner,
            ask: ask.clone(),
            timeout,
            outbound,
            sent: 0,
            began: now,
            due: Time::MAX,
            stopped: false,
        });
        number
    }

    /// The next probe goes out at `at`, whatever was said before.
    pub(super) fn probe_at(&mut self, queue: &mut Queue, prober: u32, at: Time) {
        self.probers[prober as usize].due = at;
        if at < self.spec.end {
            self.schedule(queue, at, Control::Probe(prober));
        }
    }

    /// A probe is due.
    pub(super) fn on_probe_due(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let prober = &mut self.probers[index as usize];
        if prober.stopped || prober.due != now {
            return Ok(());
        }
        if let Owner::Client(client, _) = prober.owner
            && !self.outbounds[client as usize].alive
        {
            prober.stop();
            return Ok(());
        }
        prober.began = now;
        if let Owner::Kubelet(kind) = prober.owner {
            let instance = prober.instance;
            match self.is_probe_due(now, instance, kind) {
                Some(true) => {}
                Some(false) => {
                    let next = self.next_turn(instance, kind, now, now);
                    self.probe_at(queue, index, next);
                    return Ok(());
                }
                None => {
                    self.probers[index as usize].stop();
                    return Ok(());
                }
            }
        }
        self.send_probe(now, queue, index)
    }

    fn send_probe(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let prober = &mut self.probers[index as usize];
        prober.sent += 1;
        // Until the answer nothing is due.
        prober.due = Time::MAX;
        let Prober { instance, owner, outbound, sent, timeout, .. } = *prober;
        let AskSpec { entry, ring } = prober.ask;
        let service = self.instances[instance as usize].service;
        if self.counts_at(now) {
            self.services[service as usize].health.probes += 1;
        }
        let Some(entry) = entry else {
            let instance = &self.instances[instance as usize];
            let runs = matches!(instance.state, State::Ready | State::Draining);
            let (at, result) = match () {
                () if runs && !instance.hung => (now, Probe::Passed),
                // Nobody is there to refuse the connection.
                () if runs || instance.silent => (now + timeout, Probe::Lost),
                () => (now, Probe::Lost),
            };
            self.schedule(queue, at, Control::Probed(index, result));
            return Ok(());
        };
        let home = self.instances[instance as usize].more.zone as u16;
        let zone = match owner {
            Owner::Kubelet(_) => home,
            Owner::Client(client, _) => match self.outbounds[client as usize].zone as u16 {
                ANYWHERE => home,
                zone => zone,
            },
        };
        let key = Key::new(self.seed).named("probe").with(u64::from(outbound)).with(sent).0;
        let frame = Frame {
            started: now,
            arrived: now,
            key,
            next: NIL,
            parent: NIL,
            instance,
            outbound,
            pc: entry,
            parent_pc: 0,
            pending: 0,
            need: 0,
            slack: 0,
            flags: AWAITED,
            ring,
            priority: 0,
            zone,
        };
        let frame = self.frames.insert(frame).ok_or(Full::InFlight)?;
        if self.has_sides {
            let origin = Origin { parent: NIL, parent_pc: 0, outbound, request: NIL, tag: 0, priority: 0 };
            self.note_side(frame, &origin, NIL);
        }
        if ring != NO_RING {
            self.rings[ring as usize].arm(now, frame, queue);
        }
        self.transmit(now, queue, frame)
    }

    /// The answer to a probe has come back, or nobody waits for it any longer; `root` counts sources first. What follows has
    /// to wait until whoever is at work here is done.
    #[cold]
    pub(super) fn probe_answered(&mut self, now: Time, queue: &mut Queue, root: u32, class: Class) {
        let result = match class {
            Class::Success => Probe::Passed,
            Class::Timeout | Class::Abandoned => Probe::Lost,
            Class::Failure | Class::Rejected => Probe::Failed,
        };
        self.schedule(queue, now, Control::Probed(root - self.sources.len() as u32, result));
    }

    /// A probe has ended.
    pub(super) fn on_probed(&mut self, now: Time, queue: &mut Queue, index: u32, result: Probe) -> Flow {
        let Prober { instance, owner, began, stopped, .. } = self.probers[index as usize];
        if stopped {
            return Ok(());
        }
        let service = self.instances[instance as usize].service;
        if result != Probe::Passed && self.counts_at(now) {
            self.services[service as usize].health.probes_failed += 1;
        }
        match owner {
            Owner::Client(client, slot) => {
                if let Some(next) = self.on_checked(now, queue, client, slot, result, began) {
                    self.probe_at(queue, index, next.max(now));
                }
                Ok(())
            }
            Owner::Kubelet(kind) => {
                let next = self.next_turn(instance, kind, began, now);
                self.probe_at(queue, index, next);
                self.on_kubelet_probed(now, queue, instance, kind, result)
            }
        }
    }
}
