//! Elections: how the members of a group agree on one leader.
//!
//! A member sits on a *seat* of its group. It is *told* that its process starts or shuts down and what messages arrive, and
//! *woken* when it has asked for that; what it wants to send it leaves in an outbox as values, which somebody carries. Whether
//! it *believes* to lead can be asked at any time; that two may believe it at once is what a simulation wants to see.
//!
//! What a member must remember through a restart (its term, its vote) it keeps: it stands on the disk of its seat.

pub mod lease;
pub mod majority_vote;
pub mod manual;
pub mod raft;

use crate::random::Rng;
use crate::time::Time;

/// Seats of a group at most: votes are counted in the bits of one word.
pub const MOST_SEATS: u32 = 63;

/// A member's place in its group, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat(pub u32);

/// Where a member sits, and among how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its seat.
    pub me: Seat,
    /// Number of seats, the empty ones included; at most [`MOST_SEATS`].
    pub seats: u32,
}

impl Place {
    /// How many are more than half of all seats.
    #[inline]
    pub const fn majority(self) -> u32 {
        self.seats / 2 + 1
    }
}

/// The last entry of a member's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogEnd {
    /// Term in which it was written.
    pub term: u64,
    /// How many entries there are up to it.
    pub index: u64,
}

/// What a member knows of itself beyond the election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The end of its log.
    pub log: LogEnd,
    /// It may become the leader: it is not still being filled with what it missed.
    pub eligible: bool,
}

/// What members and the lock say to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// To or from the lock.
    Lease(lease::Message),
    /// Between members under Raft.
    Raft(raft::Message),
    /// Between members under the numbered vote.
    Vote(majority_vote::Message),
    /// From a leader that was put in by hand.
    Manual(manual::Message),
}

/// For whom a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// One member.
    Member(Seat),
    /// All other members.
    Others,
    /// The lock outside the group.
    Lock,
}

/// Who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// A member.
    Member(Seat),
    /// The lock outside the group.
    Lock,
}

/// A message under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// For whom.
    pub to: To,
    /// What it says.
    pub message: Message,
}

/// One member's side of an election.
pub trait Election {
    /// Its process starts, for the first time or anew; it has a disk from before.
    fn on_start(
        &mut self,
        now: Time,
        place: Place,
        standing: Standing,
        rng: &mut Rng,
        out: &mut Vec<Envelope>,
    );

    /// A message reaches it.
    fn on_message(
        &mut self,
        now: Time,
        from: From,
        message: &Message,
        standing: Standing,
        rng: &mut Rng,
        out: &mut Vec<Envelope>,
    );

    /// It is woken at the time that it named, or later.
    fn on_wakeup(&mut self, now: Time, standing: Standing, rng: &mut Rng, out: &mut Vec<Envelope>);

    /// Its process was asked to stop. It does not lead any more and says what it has to say.
    fn on_shutdown(&mut self, now: Time, out: &mut Vec<Envelope>);

    /// An operator makes it the leader; whether this kind of election lets him.
    fn on_promote(&mut self, _now: Time, _out: &mut Vec<Envelope>) -> bool {
        false
    }

    /// When it wants to be woken, if nothing else happens.
    fn next_wakeup(&self) -> Option<Time>;

    /// Whether it believes to lead.
    fn is_leader(&self) -> bool;

    /// The term, or number, that it knows of.
    fn term(&self) -> u64;
}

registry! {
    ($)
    /// An election and its settings, as written in a scenario.
    ElectionSettings,
    /// Any election, by value.
    AnyElection: Election,
    family "election" in "election",
    "lease" => lease::Lease,
    "raft" => raft::Raft,
    "majority-vote" => majority_vote::MajorityVote,
    "manual" => manual::Manual,
}

impl Election for AnyElection {
    fn on_start(
        &mut self,
        now: Time,
        place: Place,
        standing: Standing,
        rng: &mut Rng,
        out: &mut Vec<Envelope>,
    ) {
        dispatch!(self, policy => policy.on_start(now, place, standing, rng, out));
    }

    fn on_message(
        &mut self,
        now: Time,
        from: From,
        message: &Message,
        standing: Standing,
        rng: &mut Rng,
        out: &mut Vec<Envelope>,
    ) {
        dispatch!(self, policy => policy.on_message(now, from, message, standing, rng, out));
    }

    fn on_wakeup(&mut self, now: Time, standing: Standing, rng: &mut Rng, out: &mut Vec<Envelope>) {
        dispatch!(self, policy => policy.on_wakeup(now, standing, rng, out));
    }

    fn on_shutdown(&mut self, now: Time, out: &mut Vec<Envelope>) {
        dispatch!(self, policy => policy.on_shutdown(now, out));
    }

    fn on_promote(&mut self, now: Time, out: &mut Vec<Envelope>) -> bool {
        dispatch!(self, policy => policy.on_promote(now, out))
    }

    fn next_wakeup(&self) -> Option<Time> {
        dispatch!(self, policy => policy.next_wakeup())
    }

    fn is_leader(&self) -> bool {
        dispatch!(self, policy => policy.is_leader())
    }

    fn term(&self) -> u64 {
        dispatch!(self, policy => policy.term())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::random::Key;
    use crate::time::Duration;

    /// A message that arrives.
    #[derive(Clone, Copy)]
    struct Arrival {
        from: From,
        to: To,
        message: Message,
    }

    /// Members, a lock and a bad network, in a few lines.
    struct Group {
        members: Vec<AnyElection>,
        alive: Vec<bool>,
        leads: Vec<bool>,
        /// Who is cut off from the others and from the lock, by bit.
        cut: u64,
        lock: lease::Lock,
        under_way: BTreeMap<(u64, u64), Arrival>,
        sent: u64,
        logs: Vec<LogEnd>,
        rng: Rng,
        now: Time,
        loss: f64,
        /// Longest one-way delay.
        delay: Duration,
        /// By term: who led in it.
        led: BTreeMap<u64, u32>,
        leaders: u32,
        /// Time with two or more that believe to lead.
        double: Duration,
        /// When each leadership began or ended: time, seat, whether it began.
        turns: Vec<(Time, u32, bool)>,
    }

    impl Group {
        fn new(settings: &str, seats: u32, seed: u64) -> Self {
            let settings: ElectionSettings = serde_json::from_str(settings).unwrap();
            let mut group = Self {
                members: (0..seats).map(|_| settings.build(Time::ZERO)).collect(),
                alive: vec![false; seats as usize],
                leads: vec![false; seats as usize],
                cut: 0,
                lock: lease::Lock::default(),
                under_way: BTreeMap::new(),
                sent: 0,
                logs: vec![LogEnd::default(); seats as usize],
                rng: Key::new(seed).rng(),
                now: Time::ZERO,
                loss: 0.0,
                delay: Duration::from_millis(20),
                led: BTreeMap::new(),
                leaders: 0,
                double: Duration::ZERO,
                turns: Vec::new(),
            };
            (0..seats).for_each(|seat| group.start(seat));
            group
        }

        fn tell(
            &mut self,
            seat: u32,
            what: impl FnOnce(&mut AnyElection, Standing, &mut Rng, &mut Vec<Envelope>),
        ) {
            let standing = Standing { log: self.logs[seat as usize], eligible: true };
            let mut out = Vec::new();
            what(&mut self.members[seat as usize], standing, &mut self.rng, &mut out);
            for envelope in out {
                self.send(From::Member(Seat(seat)), envelope);
            }
            self.note(seat);
        }

        fn note(&mut self, seat: u32) {
            let leads = self.alive[seat as usize] && self.members[seat as usize].is_leader();
            if std::mem::replace(&mut self.leads[seat as usize], leads) != leads {
                self.turns.push((self.now, seat, leads));
                self.leaders = if leads { self.leaders + 1 } else { self.leaders - 1 };
            }
        }

        fn send(&mut self, from: From, envelope: Envelope) {
            let others: Vec<To> = match (envelope.to, from) {
                (To::Others, From::Member(me)) => (0..self.members.len() as u32)
                    .filter(|&to| to != me.0)
                    .map(|to| To::Member(Seat(to)))
                    .collect(),
                (to, _) => vec![to],
            };
            for to in others {
                let delay = self.rng.unit() * self.delay.0 as f64;
                let lost = self.rng.unit() < self.loss || self.is_cut(from, to);
                if !lost {
                    let at = (self.now + Duration::from_ns_f64(delay)).0;
                    self.sent += 1;
                    self.under_way.insert((at, self.sent), Arrival { from, to, message: envelope.message });
                }
            }
        }

        fn is_cut(&self, from: From, to: To) -> bool {
            let side = |seat: Seat| self.cut >> seat.0 & 1;
            let a = if let From::Member(seat) = from { side(seat) } else { 0 };
            let b = if let To::Member(seat) = to { side(seat) } else { 0 };
            a != b
        }

        fn start(&mut self, seat: u32) {
            self.alive[seat as usize] = true;
            let (now, place) = (self.now, Place { me: Seat(seat), seats: self.members.len() as u32 });
            self.tell(seat, |member, standing, rng, out| member.on_start(now, place, standing, rng, out));
        }

        fn crash(&mut self, seat: u32) {
            self.alive[seat as usize] = false;
            self.note(seat);
        }

        fn run(&mut self, until: Time) {
            loop {
                let wake = (0..self.members.len() as u32).filter(|&seat| self.alive[seat as usize]);
                let wake =
                    wake.filter_map(|seat| Some((self.members[seat as usize].next_wakeup()?, seat))).min();
                let arrival = self.under_way.keys().next().copied();
                let next = wake.map_or(u64::MAX, |(at, _)| at.0).min(arrival.map_or(u64::MAX, |key| key.0));
                let at = Time(next.max(self.now.0)).min(until);
                if self.leaders > 1 {
                    self.double = self.double + (at - self.now);
                }
                self.now = at;
                if next > until.0 {
                    return;
                }
                if let Some(key) = arrival.filter(|key| key.0 <= next) {
                    let arrival = self.under_way.remove(&key).unwrap();
                    self.deliver(arrival);
                } else if let Some((_, seat)) = wake {
                    let now = self.now;
                    self.tell(seat, |member, standing, rng, out| member.on_wakeup(now, standing, rng, out));
                }
                self.look();
            }
        }

        fn deliver(&mut self, Arrival { from, to, message }: Arrival) {
            if self.is_cut(from, to) {
                return;
            }
            match (to, message) {
                (To::Member(seat), message) if self.alive[seat.0 as usize] => {
                    let now = self.now;
                    self.tell(seat.0, |member, standing, rng, out| {
                        member.on_message(now, from, &message, standing, rng, out);
                    });
                }
                (To::Lock, Message::Lease(message)) => {
                    let (Some(answer), From::Member(seat)) = (self.lock.serve(&message), from) else {
                        return;
                    };
                    let envelope = Envelope { to: To::Member(seat), message: Message::Lease(answer) };
                    self.send(From::Lock, envelope);
                }
                _ => {}
            }
        }

        /// At most one leader per term.
        fn look(&mut self) {
            for (seat, member) in self.members.iter().enumerate() {
                if self.alive[seat] && member.is_leader() && !matches!(member, AnyElection::Lease(_)) {
                    let other = *self.led.entry(member.term()).or_insert(seat as u32);
                    assert_eq!(other, seat as u32, "two led in term {}", member.term());
                }
            }
        }

        fn leader(&self) -> Option<u32> {
            (0..self.members.len() as u32)
                .find(|&seat| self.alive[seat as usize] && self.members[seat as usize].is_leader())
        }

        /// Half an hour of crashes, restarts, cuts and losses.
        fn trouble(&mut self, hours: u64) {
            let seats = self.members.len() as u32;
            self.loss = 0.05;
            let end = Time::from_secs(hours * 3600);
            while self.now < end {
                let pause = Duration::from_millis(100 + u64::from(self.rng.index(20_000)));
                self.run(self.now + pause);
                let seat = self.rng.index(seats);
                match self.rng.index(4) {
                    0 if self.alive[seat as usize] => self.crash(seat),
                    0 | 1 if !self.alive[seat as usize] => self.start(seat),
                    2 => self.cut = self.rng.bits() & ((1 << seats) - 1),
                    3 => self.cut = 0,
                    _ => self.logs[seat as usize].index += 1,
                }
            }
        }
    }

    const VOTES: [&str; 4] = [
        r#"{"raft": {}}"#,
        r#"{"raft": {"pre-vote": false, "check-quorum": false}}"#,
        r#"{"raft": {"heartbeat-interval": "1s", "election-timeout": "5s"}}"#,
        r#"{"majority-vote": {}}"#,
    ];

    #[test]
    fn at_most_one_leads_in_a_term() {
        for settings in VOTES {
            for seats in [1, 2, 3, 5] {
                for seed in 0..3 {
                    let mut group = Group::new(settings, seats, seed);
                    group.trouble(1);
                    assert!(seats == 2 || group.led.len() > 1, "{settings}, {seats} seats: {:?}", group.led);
                }
            }
        }
    }

    #[test]
    fn two_never_hold_the_lease_while_their_clocks_agree() {
        for seed in 0..10 {
            let mut group = Group::new(r#"{"lease": {"release-on-cancel": true}}"#, 3, seed);
            group.delay = Duration::from_secs(1);
            group.trouble(3);
            assert_eq!(
                group.double,
                Duration::ZERO,
                "seed {seed}: an answer takes 2 s and not more than 3 s"
            );
            assert!(group.turns.len() > 20, "seed {seed}: {:?}", group.turns);
        }
    }

    #[test]
    fn a_replay_is_the_same() {
        for settings in VOTES.into_iter().chain([r#"{"lease": {}}"#, r#"{"manual": {}}"#]) {
            let run = || {
                let mut group = Group::new(settings, 5, 7);
                group.trouble(1);
                (group.turns, group.sent)
            };
            assert_eq!(run(), run(), "{settings}");
        }
    }

    #[test]
    fn a_crashed_holder_is_replaced_after_its_lease_and_one_retry() {
        for seed in 0..200 {
            let mut group = Group::new(r#"{"lease": {}}"#, 3, seed);
            group.delay = Duration::ZERO;
            let crash = Time::from_millis(60_000 + seed * 10);
            group.run(crash);
            let leader = group.leader().unwrap();
            group.crash(leader);
            group.run(crash + Duration::from_secs(40));
            let began = group.turns.last().unwrap();
            assert!(began.2 && began.1 != leader);
            let outage = (began.0 - crash).as_secs_f64();
            // Others see the last renewal, at most 2 s old, with one of their next looks, 4.4 s apart at most; 15 s after
            // that one of their looks finds the lease run out.
            assert!((13.0..=15.0 + 4.4 + 4.4).contains(&outage), "seed {seed}: {outage}");
        }
    }

    #[test]
    fn who_releases_the_lease_is_replaced_within_a_retry() {
        for seed in 0..50 {
            let mut group = Group::new(r#"{"lease": {"release-on-cancel": true}}"#, 2, seed);
            group.delay = Duration::ZERO;
            group.run(Time::from_secs(60));
            let leader = group.leader().unwrap();
            let now = group.now;
            group.tell(leader, |member, _, _, out| member.on_shutdown(now, out));
            group.run(Time::from_secs(90));
            let began = group.turns.last().unwrap();
            assert!(began.2 && began.1 != leader);
            let outage = (began.0 - Time::from_secs(60)).as_secs_f64();
            assert!(outage <= 4.4 + 0.1, "seed {seed}: {outage}");
        }
    }

    #[test]
    fn who_is_cut_off_stops_leading_where_somebody_counts() {
        let cut_off = |settings: &str| {
            let mut group = Group::new(settings, 5, 3);
            group.run(Time::from_secs(60));
            let old = group.leader().unwrap();
            group.cut = 1 << old;
            group.run(Time::from_secs(180));
            let stopped = group.turns.iter().find(|turn| turn.1 == old && !turn.2).map(|turn| turn.0);
            let double = group.double;
            group.cut = 0;
            group.run(Time::from_secs(240));
            assert_eq!(group.leaders, 1, "{settings}: {:?}", group.turns);
            (stopped.map(|at| (at - Time::from_secs(60)).as_secs_f64()), double.as_secs_f64())
        };
        // The renewal under way or due within 2 s has 10 s.
        let (stopped, double) = cut_off(r#"{"lease": {}}"#);
        assert!(stopped.is_some_and(|after| (10.0..=12.1).contains(&after)) && double == 0.0, "{stopped:?}");
        // CheckQuorum looks once per election timeout, and forgives whoever was heard since it last looked.
        let (stopped, _) = cut_off(r#"{"raft": {}}"#);
        assert!(stopped.is_some_and(|after| (1.0..=2.1).contains(&after)), "{stopped:?}");
        // Nobody counts: until they meet again.
        let (stopped, double) = cut_off(r#"{"majority-vote": {}}"#);
        assert!(stopped.is_none() && double > 110.0, "{stopped:?} {double}");
    }

    #[test]
    fn raft_elects_nobody_who_lacks_what_a_majority_has() {
        for seed in 0..20 {
            let mut group = Group::new(r#"{"raft": {}}"#, 5, seed);
            group.logs = vec![LogEnd { term: 1, index: 9 }; 5];
            group.logs[1] = LogEnd { term: 1, index: 8 };
            group.logs[4] = LogEnd { term: 0, index: 30 };
            for _ in 0..10 {
                group.run(group.now + Duration::from_secs(20));
                if let Some(leader) = group.leader() {
                    assert!(![1, 4].contains(&leader), "seed {seed}: {leader} leads");
                    group.crash(leader);
                    group.run(group.now + Duration::from_secs(20));
                    assert!(group.leader().is_none_or(|leader| ![1, 4].contains(&leader)), "seed {seed}");
                    group.start(leader);
                }
            }
            assert!(group.led.len() > 10);
        }
    }

    #[test]
    fn pre_vote_spares_the_leader() {
        let disturbed = |pre_vote: bool, check_quorum: bool| {
            let settings =
                format!(r#"{{"raft": {{"pre-vote": {pre_vote}, "check-quorum": {check_quorum}}}}}"#);
            let mut group = Group::new(&settings, 3, 5);
            group.run(Time::from_secs(20));
            let leader = group.leader().unwrap();
            group.cut = 1 << ((leader + 1) % 3);
            group.run(Time::from_secs(60));
            group.cut = 0;
            group.run(Time::from_secs(120));
            (group.turns.iter().filter(|turn| !turn.2).count(), group.members[0].term())
        };
        assert_eq!(disturbed(true, true).0, 0);
        let (ended, term) = disturbed(false, false);
        assert!(ended > 0 && term > 10, "who was cut off raised its term in vain, {term} times");
    }

    #[test]
    fn by_hand_the_first_seat_leads_until_somebody_says_otherwise() {
        let mut group = Group::new(r#"{"manual": {}}"#, 3, 1);
        group.run(Time::from_secs(10));
        assert_eq!(group.leader(), Some(0));
        group.crash(0);
        group.run(Time::from_secs(60));
        assert_eq!(group.leader(), None, "nobody acts");
        let now = group.now;
        group.tell(2, |member, _, _, out| assert!(member.on_promote(now, out)));
        group.run(Time::from_secs(61));
        assert_eq!((group.leader(), group.leaders), (Some(2), 1));
        group.start(0);
        assert_eq!(group.leaders, 2, "the old master does not know yet");
        group.run(Time::from_secs(63));
        assert_eq!((group.leader(), group.leaders), (Some(2), 1));
    }

    #[test]
    fn settings_are_checked_as_upstream_does() {
        let error = |text: &str| serde_json::from_str::<ElectionSettings>(text).unwrap_err().to_string();
        assert!(error(r#"{"lease": {"renew-deadline": "15s"}}"#).contains("greater than renew-deadline"));
        assert!(error(r#"{"lease": {"retry-period": "9s"}}"#).contains("retry-period * 1.2"));
        assert!(error(r#"{"raft": {"heartbeat-interval": "300ms"}}"#).contains("at least 5 times"));
        assert!(error(r#"{"raft": {"election-timeout": "51s"}}"#).contains("at most 50 s"));
        assert!(error(r#"{"majority-vote": {"period": "1s"}}"#).contains("more than heartbeat"));
        assert!(error(r#"{"manual": {"announce": "0s"}}"#).contains("more than zero"));
    }
}
