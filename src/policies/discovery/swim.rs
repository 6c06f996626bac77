//! SWIM as in `HashiCorp` memberlist: members ping each other, suspect who does not answer, and gossip about it.
//!
//! ## What it does
//! Every `probe-interval` each member pings the next one of its shuffled list; `indirect-checks` others try, too. Who does not
//! answer within the interval is *suspected*. The suspicion lasts `suspicion-mult` * max(1, log10 n) intervals at least and
//! `suspicion-max-timeout-mult` times that at most; each member that suspects independently shortens it. Then the member is
//! dead. News spreads to `gossip-nodes` members every `gossip-interval`.
//!
//! ## When it helps
//! Nobody has to be up for it: there is no server, and the load per member does not grow with their number.
//!
//! ## How it fails
//! Detection takes many intervals: the wait for the next ping, the interval, the suspicion, and the gossip. A member that is
//! slow rather than dead is suspected and refutes, over and over.
//!
//! ## Settings
//! Names and defaults of memberlist's `DefaultLANConfig`.
//! * `probe-interval` (`1s`), `probe-timeout` (`500ms`), `indirect-checks` (3), `suspicion-mult` (4),
//!   `suspicion-max-timeout-mult` (6), `gossip-interval` (`200ms`), `gossip-nodes` (3), `retransmit-mult` (4),
//!   `push-pull-interval` (`30s`).
//!
//! ## Origin
//! hashicorp/memberlist 1b4c746c, `suspicion.go` (`remainingSuspicionTime`), `util.go` (`suspicionTimeout`, `retransmitLimit`,
//! `pushPullScale`), `state.go` (`probe`, `suspectNode`); pinned by `tests/vectors/balancer/swim_memberlist.json`.
//!
//! ## Deliberate differences
//! * All members have one view of suspicions: what one knows, all know. A suspicion counts one confirmation for each further
//!   member whose ping goes unanswered, as their gossip would arrive well within the suspicion.
//! * News reaches a client after a number of gossip rounds that is drawn evenly from 1 to log base `gossip-nodes` + 1 of n,
//!   rounded up. Nothing is lost, so neither `retransmit-mult` nor `push-pull-interval` matters; both are checked and kept.
//! * Indirect checks see the same as the direct one: there are no asymmetric partitions. No awareness (Lifeguard's health
//!   score) and no TCP fallback.
//! * A member that answers a ping while it is suspected refutes at once.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Delivery, Discovery, set_listed};
use crate::policies::Algorithm;
use crate::policies::view::Slot;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// Settings of `discovery.swim`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct SwimSettings(Written);

/// The settings before they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "SwimSettings")]
struct Written {
    /// Time between two pings of a member.
    probe_interval: Duration,
    /// How long a direct answer is waited for before others are asked to try.
    probe_timeout: Duration,
    /// Members that are asked to try.
    indirect_checks: u32,
    /// Shortest suspicion, in intervals (times the logarithm of the number of members).
    suspicion_mult: u32,
    /// Longest suspicion, in shortest ones.
    suspicion_max_timeout_mult: u32,
    /// Time between two rounds of gossip.
    gossip_interval: Duration,
    /// Members that a member tells in a round.
    gossip_nodes: u32,
    /// How often news is told, in logarithms of the number of members.
    retransmit_mult: u32,
    /// Time between two full exchanges.
    push_pull_interval: Duration,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(500),
            indirect_checks: 3,
            suspicion_mult: 4,
            suspicion_max_timeout_mult: 6,
            gossip_interval: Duration::from_millis(200),
            gossip_nodes: 3,
            retransmit_mult: 4,
            push_pull_interval: Duration::from_secs(30),
        }
    }
}

impl TryFrom<Written> for SwimSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if written.probe_interval < Duration::from_millis(1)
            || written.gossip_interval < Duration::from_millis(1)
        {
            return Err("probe-interval and gossip-interval must be at least 1ms".to_owned());
        }
        if written.probe_timeout > written.probe_interval {
            return Err("probe-timeout is more than probe-interval".to_owned());
        }
        if written.suspicion_mult == 0 || written.suspicion_max_timeout_mult == 0 || written.gossip_nodes == 0
        {
            return Err("suspicion-mult, suspicion-max-timeout-mult and gossip-nodes must be more than zero"
                .to_owned());
        }
        Ok(Self(written))
    }
}

/// Shortest suspicion among `n` members.
pub fn suspicion_timeout(suspicion_mult: u32, n: u32, interval: Duration) -> Duration {
    let node_scale = libm::log10(f64::from(n.max(1))).max(1.0);
    // Multiplied by 1000 to keep some precision because of the integer.
    Duration((u64::from(suspicion_mult) * ((node_scale * 1000.0) as u64)).saturating_mul(interval.0) / 1000)
}

/// How often a piece of news is told among `n` members.
pub fn retransmit_limit(retransmit_mult: u32, n: u32) -> u32 {
    retransmit_mult * libm::ceil(libm::log10(f64::from(n) + 1.0)) as u32
}

/// Time between two full exchanges among `n` members.
pub fn push_pull_scale(interval: Duration, n: u32) -> Duration {
    const THRESHOLD: f64 = 32.0;
    if f64::from(n) <= THRESHOLD {
        return interval;
    }
    let multiplier = libm::ceil(libm::log2(f64::from(n)) - libm::log2(THRESHOLD)) + 1.0;
    Duration(interval.0.saturating_mul(multiplier as u64))
}

/// What is left of a suspicion in milliseconds, after `elapsed` and with so many of `k` confirmations; negative if it is over.
pub fn remaining_suspicion_time(confirmations: u32, k: u32, elapsed: i64, min: i64, max: i64) -> i64 {
    // `newSuspicion`: with nobody to confirm it, the shortest time holds.
    if k == 0 {
        return min - elapsed;
    }
    let frac = libm::log(f64::from(confirmations) + 1.0) / libm::log(f64::from(k) + 1.0);
    let (min_s, max_s) = (min as f64 / 1000.0, max as f64 / 1000.0);
    let raw = max_s - frac * (max_s - min_s);
    let timeout = libm::floor(1000.0 * raw) as i64;
    timeout.max(min) - elapsed
}

/// One member.
#[derive(Clone, Debug, Default)]
struct Member {
    joined: bool,
    /// Since when it is suspected, and who found it so.
    suspected: Option<(Time, Vec<u32>)>,
    /// The others in the order in which it pings them, and where it is.
    list: Vec<u32>,
    next: usize,
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Swim {
    settings: Written,
    /// By slot.
    members: Vec<Member>,
    alive: Vec<Slot>,
}

impl Algorithm for Swim {
    type Settings = SwimSettings;

    fn new(settings: &SwimSettings, _now: Time) -> Self {
        Self { settings: settings.0, members: Vec::new(), alive: Vec::new() }
    }
}

impl Swim {
    /// Longest time that news takes, in rounds of gossip.
    fn rounds(&self) -> u64 {
        let n = self.alive.len().max(1) as f64;
        (libm::log(n) / libm::log(f64::from(self.settings.gossip_nodes) + 1.0)).ceil().max(1.0) as u64
    }

    /// The next member that `prober` pings.
    fn target(&mut self, prober: u32, rng: &mut Rng) -> Option<u32> {
        let others: usize = self.alive.len().checked_sub(1).filter(|others| *others > 0)?;
        for _ in 0..=2 * others {
            let member = &mut self.members[prober as usize];
            if member.next >= member.list.len() {
                member.list.clear();
                member.list.extend(self.alive.iter().map(|slot| slot.0).filter(|other| *other != prober));
                member.next = 0;
                for at in (1..member.list.len()).rev() {
                    member.list.swap(at, rng.index(at as u32 + 1) as usize);
                }
            }
            let target = member.list[member.next];
            member.next += 1;
            if self.alive.binary_search(&Slot(target)).is_ok() {
                return Some(target);
            }
        }
        None
    }

    fn is_over(&self, now: Time, since: Time, confirmations: u32) -> bool {
        let Written { suspicion_mult, suspicion_max_timeout_mult, probe_interval, .. } = self.settings;
        let n = self.alive.len() as u32;
        // One suspects; the others can confirm.
        let mut k = suspicion_mult.saturating_sub(2);
        if n < k + 2 {
            k = 0;
        }
        let min = suspicion_timeout(suspicion_mult, n, probe_interval).as_millis().cast_signed();
        let max = i64::from(suspicion_max_timeout_mult) * min;
        let elapsed = (now - since).as_millis().cast_signed();
        remaining_suspicion_time(confirmations.min(k), k, elapsed, min, max) <= 0
    }
}

impl Discovery for Swim {
    fn on_register(&mut self, _now: Time, slot: Slot) {
        let at = slot.0 as usize;
        if self.members.len() <= at {
            self.members.resize_with(at + 1, Member::default);
        }
        self.members[at] = Member { joined: true, ..Member::default() };
        set_listed(&mut self.alive, slot, true);
    }

    fn on_deregister(&mut self, _now: Time, slot: Slot) {
        if let Some(member) = self.members.get_mut(slot.0 as usize) {
            *member = Member::default();
        }
        set_listed(&mut self.alive, slot, false);
    }

    fn heartbeat_interval(&self) -> Option<Duration> {
        None
    }

    fn on_heartbeat(&mut self, _now: Time, _slot: Slot) {}

    fn interval(&self) -> Option<Duration> {
        Some(self.settings.probe_interval)
    }

    /// All pings of one interval, as their outcome is known at its end.
    fn on_interval(&mut self, now: Time, answers: &mut dyn FnMut(Slot) -> bool, rng: &mut Rng) {
        for at in 0..self.members.len() {
            // Who was taken for dead and is not comes back.
            if self.members[at].joined
                && self.alive.binary_search(&Slot(at as u32)).is_err()
                && answers(Slot(at as u32))
            {
                self.on_register(now, Slot(at as u32));
            }
        }
        for prober in 0..self.members.len() as u32 {
            if self.alive.binary_search(&Slot(prober)).is_err() || !answers(Slot(prober)) {
                continue;
            }
            let Some(target) = self.target(prober, rng) else { continue };
            let answered = answers(Slot(target));
            let suspected = &mut self.members[target as usize].suspected;
            match suspected {
                _ if answered => *suspected = None,
                None => *suspected = Some((now, vec![prober])),
                Some((_, by)) if !by.contains(&prober) => by.push(prober),
                Some(_) => {}
            }
        }
        for at in 0..self.members.len() {
            let Some((since, by)) = &self.members[at].suspected else { continue };
            if self.is_over(now, *since, by.len() as u32 - 1) {
                self.members[at].suspected = None;
                set_listed(&mut self.alive, Slot(at as u32), false);
            }
        }
    }

    fn delivery(&self) -> Delivery {
        let round = self.settings.gossip_interval;
        Delivery::Push(round, round * self.rounds())
    }

    fn listed(&self, _now: Time) -> &[Slot] {
        &self.alive
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    #[test]
    fn a_dead_member_of_ten_is_known_between_the_shortest_and_the_longest_suspicion() {
        for seed in 0..20 {
            let mut swim = Swim::new(&SwimSettings::default(), Time::ZERO);
            for slot in 0..10 {
                swim.on_register(Time::ZERO, Slot(slot));
            }
            let mut rng = Key(seed).rng();
            let dead = (1..200).find(|&at| {
                let now = Time::from_secs(at);
                swim.on_interval(now, &mut |slot| slot != Slot(4), &mut rng);
                swim.listed(now).len() < 10
            });
            // Nine members ping one of nine each in a second: somebody finds it soon; then 4 s with two confirmations, 24 s
            // with none.
            let dead = dead.unwrap();
            assert!((4..=26).contains(&dead), "{dead} s");
            assert_eq!(swim.listed(Time::from_secs(dead)).len(), 9);
        }
    }

    #[test]
    fn who_answers_again_refutes() {
        let mut swim = Swim::new(&SwimSettings::default(), Time::ZERO);
        for slot in 0..3 {
            swim.on_register(Time::ZERO, Slot(slot));
        }
        let mut rng = Key(1).rng();
        for at in 1..60 {
            // Every other second is too little for a death.
            swim.on_interval(Time::from_secs(at), &mut |slot| slot != Slot(1) || at % 2 == 0, &mut rng);
            assert_eq!(swim.listed(Time::from_secs(at)).len(), 3, "{at} s");
        }
    }
}
