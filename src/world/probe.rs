//! Probes: small messages by which a balancer asks instances how busy and how slow they are.
//!
//! A probe travels like a request and its answer like an answer, but it is answered at once, by the process itself: it
//! needs no worker, no core and no place in the queue. A probe that gets lost, or reaches an instance that is dead or
//! hangs, is never answered; nobody waits for it.

use crate::kernel::queue::{Payload, Queue};
use crate::policies::balancer::{Balancer as _, Reading};
use crate::policies::view::Slot;
use crate::random::Rng;
use crate::time::Time;

use super::call::Origin;
use super::instance::State;
use super::outbound::ANYWHERE;
use super::{Flow, Full, PROBE, World};

/// A probe under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Probe {
    outbound: u32,
    /// Instance that is asked.
    instance: u32,
    /// Zone of the client.
    zone: u32,
    key: u64,
    /// The answer, on the way back.
    answer: Option<Reading>,
}

/// What became of all probes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProbeCounts {
    pub(super) sent: u64,
    pub(super) answered: u64,
    pub(super) lost: u64,
}

const THERE_SALT: u64 = 0x7072_6f62_652d_746f;
const BACK_SALT: u64 = 0x7072_6f62_652d_6261;

impl World<'_> {
    /// Sends the probes that the balancer of a calling side wants after a pick.
    #[inline(never)]
    pub(super) fn send_probes(
        &mut self,
        now: Time,
        queue: &mut Queue,
        origin: &Origin,
        rng: &mut Rng,
    ) -> Flow {
        let index = origin.outbound;
        loop {
            let outbound = &mut self.outbounds[index as usize];
            let Some(slot) = outbound.balancer.next_probe(now, &outbound.view, rng) else { return Ok(()) };
            let service = &mut self.services[outbound.service as usize];
            service.probes += u64::from(now >= service.counted_from);
            let instance = service.slots[slot.0 as usize];
            let zone = match outbound.zone {
                zone if zone == u32::from(ANYWHERE) => {
                    self.instances[self.caller_of(origin) as usize].more.zone
                }
                zone => zone,
            };
            let probe = Probe { outbound: index, instance, zone, key: rng.bits(), answer: None };
            self.probe_counts.sent += 1;
            self.travel_as_probe(now, queue, probe)?;
        }
    }

    /// A probe, or its answer, sets out.
    fn travel_as_probe(&mut self, now: Time, queue: &mut Queue, probe: Probe) -> Flow {
        if self.network.is_quiet() {
            return self.probe_arrives(now, queue, probe);
        }
        let there = self.instances[probe.instance as usize].more.zone;
        let delay = match probe.answer {
            None => self.network.delay(self.spec, probe.zone, there, probe.key ^ THERE_SALT),
            Some(_) => self.network.delay(self.spec, there, probe.zone, probe.key ^ BACK_SALT),
        };
        let Some(delay) = delay else {
            self.probe_counts.lost += 1;
            return Ok(());
        };
        let at = self.probes.insert(probe).ok_or(Full::InFlight)?;
        queue.push(now + delay, Payload::new(PROBE, at));
        Ok(())
    }

    /// The journey of a probe or of its answer is over.
    pub(super) fn on_probe(&mut self, now: Time, queue: &mut Queue, at: u32) -> Flow {
        let probe = self.probes[at];
        self.probes.remove(at);
        self.probe_arrives(now, queue, probe)
    }

    fn probe_arrives(&mut self, now: Time, queue: &mut Queue, probe: Probe) -> Flow {
        let instance = &self.instances[probe.instance as usize];
        let Some(reading) = probe.answer else {
            if !matches!(instance.state, State::Ready | State::Draining) || instance.hung {
                self.probe_counts.lost += 1;
                return Ok(());
            }
            let rif = instance.inside + instance.queued;
            let reading = instance
                .more
                .reporter
                .as_ref()
                .map_or_else(|| Reading { rif, ..Reading::default() }, |reporter| reporter.reading(rif));
            return self.travel_as_probe(now, queue, Probe { answer: Some(reading), ..probe });
        };
        self.probe_counts.answered += 1;
        let outbound = &mut self.outbounds[probe.outbound as usize];
        if outbound.alive {
            outbound.balancer.on_probe(now, Slot(instance.ordinal), reading);
        }
        Ok(())
    }

    /// INV-31: every probe is answered, lost or under way.
    pub(super) fn check_probes(&self) {
        let counts = self.probe_counts;
        assert_eq!(
            counts.sent,
            counts.answered + counts.lost + self.probes.len() as u64,
            "INV-31: probes sent are answered, lost or under way"
        );
    }
}
