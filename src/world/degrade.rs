//! Degradation: cheaper answers of lower quality, and calls that are left out, while somebody has switched that on.

use crate::random::Key;
use crate::time::Time;

use super::World;
use super::frame::NIL;
use super::spec::{Op, Thing};

const CALLS_SALT: u64 = 0x6361_6c6c_732d_736c;

/// An endpoint that answers cheaper at present.
#[derive(Clone, Copy, Debug)]
pub(super) struct Degraded {
    /// Its first op and the one past its last.
    from: u16,
    to: u16,
    /// Factor on every `cpu` step.
    pub(super) cost: f64,
}

/// A calling side that leaves calls out at present.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throttled {
    caller: Thing,
    edge: u32,
    share: f64,
}

impl World<'_> {
    /// The endpoint that begins at `entry` answers at this share of its cost from now on; 1 is in full.
    pub(super) fn set_degraded(&mut self, entry: u16, cost: f64) {
        self.degraded.retain(|degraded| degraded.from != entry);
        if cost != 1.0 {
            let length = self.spec.ops[usize::from(entry)..].iter().position(|op| matches!(op, Op::End));
            let to = entry + length.expect("a program has an end") as u16 + 1;
            self.degraded.push(Degraded { from: entry, to, cost });
        }
        // Every step asks from now on, until it finds that nothing changes its demand.
        self.instances.iter_mut().for_each(|instance| instance.plain = false);
    }

    /// The endpoint whose program `pc` stands in, if it answers cheaper.
    pub(super) fn degraded_at(&self, pc: u16) -> Option<Degraded> {
        self.degraded.iter().find(|degraded| (degraded.from..degraded.to).contains(&pc)).copied()
    }

    /// An attempt of lower quality has ended well for a caller who waits: so is the answer that it is part of.
    pub(super) fn note_degraded(&mut self, slot: u32) {
        let request = self.sides[slot as usize].request;
        if request != NIL {
            self.requests[request].degraded = true;
        }
    }

    /// Only this share of the calls over an edge is made from now on.
    pub(super) fn throttle_calls(&mut self, caller: Thing, edge: u32, share: f64) {
        self.throttled.retain(|throttled| (throttled.caller, throttled.edge) != (caller, edge));
        if share < 1.0 {
            self.throttled.push(Throttled { caller, edge, share });
        }
        match caller {
            Thing::Service(service) => {
                if let Some(shared) = self.services[service as usize].shared_outbound(edge) {
                    self.outbounds[shared as usize].share = share;
                }
                for &instance in &self.services[service as usize].living {
                    let outbound = self.instances[instance as usize].outbounds + edge;
                    self.outbounds[outbound as usize].share = share;
                }
            }
            Thing::Source(source) => {
                let edges = self.spec.sources[source as usize].edges.len() as u32;
                let first = self.sources[source as usize].outbounds;
                for client in 0..self.spec.sources[source as usize].clients {
                    self.outbounds[(first + client * edges + edge) as usize].share = share;
                }
            }
        }
    }

    /// The calling sides of a new instance leave out what those of its service do.
    pub(super) fn throttle_new(&mut self, index: u32) {
        let instance = &self.instances[index as usize];
        let ours = |throttled: &&Throttled| throttled.caller == Thing::Service(instance.service);
        for throttled in self.throttled.iter().filter(ours) {
            self.outbounds[(instance.outbounds + throttled.edge) as usize].share = throttled.share;
        }
    }

    /// Whether the call with the draws under `key` is left out.
    #[inline]
    pub(super) fn is_left_out(&self, outbound: u32, key: u64) -> bool {
        let share = self.outbounds[outbound as usize].share;
        share < 1.0 && Key(key ^ CALLS_SALT).draws().unit() >= share
    }

    /// A line in the log about an endpoint.
    pub(super) fn log_degraded(&mut self, now: Time, entry: u16, cost: f64) {
        let name = self.endpoint_name(entry);
        let detail = if cost == 1.0 {
            "in full".to_owned()
        } else {
            format!("degraded to {:.0} % of its cost", cost * 100.0)
        };
        self.telemetry.log(now, "action", name, detail);
    }
}
