//! nginx's peers: weights, and who rests after failures.
//!
//! Shared by the methods of an `upstream` block, which all count failures the same way: nginx at 3f6f7824,
//! `src/http/ngx_http_upstream_round_robin.c` (`ngx_http_upstream_free_round_robin_peer`, and the conditions in
//! `ngx_http_upstream_get_peer`).

use schemars::JsonSchema;
use serde::Deserialize;

use crate::policies::view::{Class, Endpoints, Outcome, Slot};
use crate::time::{Duration, Time};

/// The parameters of a `server` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServerSettings {
    /// Outstanding requests of this client at which a peer is passed over; 0 = no limit.
    pub max_conns: u32,
    /// Failures after which a peer rests; 0 = failures do not matter.
    pub max_fails: u32,
    /// How long it rests, in whole seconds.
    pub fail_timeout: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self { max_conns: 0, max_fails: 1, fail_timeout: Duration::from_secs(10) }
    }
}

/// nginx's `ngx_http_upstream_rr_peers_t`.
#[derive(Clone, Debug)]
pub(super) struct Peers {
    settings: ServerSettings,
    pub(super) by_slot: Vec<Peer>,
    /// Whether the list has one peer only.
    pub(super) single: bool,
}

/// nginx's `ngx_http_upstream_rr_peer_t`, without its connections (the caller counts those).
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) current_weight: i64,
    pub(super) effective_weight: i64,
    pub(super) weight: i64,
    max_conns: u32,
    fails: u32,
    max_fails: u32,
    /// Whole seconds, as all times below.
    fail_timeout: u64,
    accessed: u64,
    checked: u64,
}

impl Peer {
    fn new(settings: &ServerSettings, weight: u32) -> Self {
        Self {
            current_weight: 0,
            effective_weight: i64::from(weight),
            weight: i64::from(weight),
            max_conns: settings.max_conns,
            fails: 0,
            max_fails: settings.max_fails,
            fail_timeout: settings.fail_timeout.0 / 1_000_000_000,
            accessed: 0,
            checked: 0,
        }
    }

    /// Whether it may be picked at `now` (in seconds) with so many requests outstanding.
    pub(super) const fn is_usable(&self, now: u64, active: u32) -> bool {
        let rests = self.max_fails > 0
            && self.fails >= self.max_fails
            && now.saturating_sub(self.checked) <= self.fail_timeout;
        let full = self.max_conns > 0 && active >= self.max_conns;
        !(rests || full)
    }

    /// It takes part in a round: what it adds to the sum.
    pub(super) fn advance(&mut self) -> i64 {
        let effective_weight = self.effective_weight;
        self.current_weight += effective_weight;
        if self.effective_weight < self.weight {
            self.effective_weight += 1;
        }
        effective_weight
    }

    /// It is picked, and pays `total`.
    pub(super) const fn pay(&mut self, now: u64, total: i64) {
        self.current_weight -= total;
        if now.saturating_sub(self.checked) > self.fail_timeout {
            self.checked = now;
        }
    }
}

impl Peers {
    pub(super) const fn new(settings: &ServerSettings) -> Self {
        Self { settings: *settings, by_slot: Vec::new(), single: false }
    }

    /// Gives one peer its own settings, as a `server` line does. Its history starts over.
    pub(super) fn set_server(&mut self, slot: Slot, settings: &ServerSettings) {
        let peer = &mut self.by_slot[slot.0 as usize];
        *peer = Peer::new(settings, peer.weight as u32);
    }

    pub(super) fn on_update(&mut self, endpoints: &Endpoints) {
        let Self { settings, by_slot: peers, single } = self;
        for (peer, &weight) in peers.iter_mut().zip(&endpoints.weight) {
            if peer.weight != i64::from(weight) {
                *peer = Peer::new(settings, weight);
            }
        }
        let known = peers.len();
        peers.extend(endpoints.weight.iter().skip(known).map(|&weight| Peer::new(settings, weight)));
        *single = endpoints.eligible.len() == 1;
    }

    /// The only peer, which is never disabled, if it is not full.
    pub(super) fn pick_single(&self, endpoints: &Endpoints) -> Option<Slot> {
        let slot = *endpoints.eligible.first()?;
        let peer = &self.by_slot[slot.0 as usize];
        let full = peer.max_conns > 0 && endpoints.active(slot) >= peer.max_conns;
        (!full).then_some(slot)
    }

    pub(super) fn on_outcome(&mut self, now: Time, slot: Slot, outcome: &Outcome) {
        if outcome.ignored {
            return;
        }
        let peer = &mut self.by_slot[slot.0 as usize];
        if self.single {
            peer.fails = 0;
        } else if matches!(outcome.class, Class::Failure | Class::Timeout) {
            let now = now.as_secs();
            peer.fails = peer.fails.saturating_add(1);
            peer.accessed = now;
            peer.checked = now;
            if peer.max_fails > 0 {
                peer.effective_weight -= peer.weight / i64::from(peer.max_fails);
            }
            peer.effective_weight = peer.effective_weight.max(0);
        } else if peer.accessed < peer.checked {
            // The chance after the rest was taken well.
            peer.fails = 0;
        }
    }
}
