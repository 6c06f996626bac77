//! Names: a client asks for the addresses of a service when it needs one, and believes the answer until its time to live is
//! over; some believe the first one for ever.
//!
//! The name server knows who is ready as the control plane does, and each of its answers begins with the next address (the
//! cyclic order of BIND's `rrset-order`), so that short answers take turns. Nobody tells a client that an address is gone:
//! it goes on trying to connect there. Looking up takes no time. While there is a DNS outage nobody gets an answer: a client
//! that opens connections to a name (`per-connection`) then knows no address once its answer is too old, a balancer that
//! picks for each attempt keeps its last list, as Envoy's `STRICT_DNS` clusters do.

use crate::kernel::queue::Queue;
use crate::policies::view::Slot;
use crate::random::Key;
use crate::time::Time;

use super::World;
use super::outbound::{Outbound, STALE, add};
use super::pool::Pool;
use super::spec::DnsSpec;

/// What a client knows of a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    /// It believes its answer until then.
    good_until: Time,
    /// It believes any answer for ever.
    for_ever: bool,
}

impl Name {
    pub(super) fn new(dns: &DnsSpec, key: Key) -> Self {
        Self { good_until: Time::ZERO, for_ever: key.named("dns").draws().unit() < dns.ignore_ttl }
    }
}

impl World<'_> {
    /// `from` is about to pick an address: it asks again if its answer is too old.
    pub(super) fn look_up(&mut self, now: Time, queue: &mut Queue, from: u32) {
        let spec = self.spec;
        let outbound = &self.outbounds[from as usize];
        let Some(Pool { name: Some(name), settings, .. }) = outbound.pool.as_deref() else { return };
        let Some(dns) = &spec.connections[*settings as usize].dns else { return };
        if now < name.good_until {
            return;
        }
        let name = *name;
        let service = outbound.service as usize;
        let out = self.dns_outages > 0;
        let answer = if out { Vec::new() } else { self.answer(now, service, dns.answers) };
        let Outbound { pool, asks, weights, view, .. } = &mut self.outbounds[from as usize];
        let Some(pool) = pool else { return };
        if out && pool.front.is_none() {
            return;
        }
        if !answer.is_empty() {
            let good_until = if name.for_ever { Time::MAX } else { now + dns.ttl };
            pool.name = Some(Name { good_until, ..name });
        }
        view.eligible.clear();
        for &slot in &answer {
            add(view, now, slot, weights);
        }
        *asks |= STALE;
        if let Some(front) = &mut pool.front {
            front.view.eligible.clear();
            for &slot in &answer {
                add(&mut front.view, now, slot, weights);
            }
            front.stale = true;
        }
        self.refresh_hosts(now, queue, from);
    }

    /// What the name server says.
    fn answer(&mut self, now: Time, service: usize, most: u32) -> Vec<Slot> {
        let living = self.services[service].living.iter();
        let ready = living.filter(|&&index| self.ready_since(now, index).is_some());
        let mut answer: Vec<Slot> =
            ready.map(|&index| Slot(self.instances[index as usize].ordinal)).collect();
        if answer.is_empty() {
            return answer;
        }
        let counts = self.services[service].connections.get_or_insert_default();
        let first = counts.lookups % answer.len() as u64;
        counts.lookups += 1;
        answer.rotate_left(first as usize);
        answer.truncate(most as usize);
        answer
    }

    /// A DNS outage begins or ends.
    pub(super) const fn set_dns_outage(&mut self, on: bool) {
        if on {
            self.dns_outages += 1;
        } else {
            self.dns_outages -= 1;
        }
    }
}
