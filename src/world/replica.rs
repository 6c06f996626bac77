//! The log of a group: writes of its leader, and how its members come to have them.
//!
//! A log is known by who wrote how much of it: a list of reigns, each with the length of the log at its end. Two logs agree up
//! to where their lists part, because one leader writes one sequence. The leader sends each write to all members whose link
//! stands, in order; a member whose link broke (it died, it was cut off, there is a new leader) connects anew after a while,
//! drops what the leader does not have, and gets what it has missed at the rate of a synchronisation.

use std::collections::{BTreeMap, VecDeque};

use crate::kernel::queue::Queue;
use crate::policies::election::Election as _;
use crate::time::{Duration, Time};

use super::control::Control;
use super::frame::{ENDED, INSIDE, NIL, STARTED};
use super::group::{AGAIN, Affair, Group, WHILE_HUNG, WriteTicket};
use super::instance::State;
use super::spec::{ActionSpec, Operation, ReplicationMode};
use super::{Flow, World};

/// Reigns, each with the length of the log at its end.
pub(super) type Log = Vec<(u32, u64)>;

/// How a member is connected with the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// It is not, or leads itself.
    Cut,
    /// It gets what it has missed in this reign.
    Syncing(u32),
    /// It gets what is written in this reign.
    Streaming(u32),
}

/// A round of a synchronisation that takes no longer is the last one: what was written meanwhile comes with the stream.
const LAST_ROUND: Duration = Duration::from_millis(100);

/// Time between two notes of how the log stood, for who restores it.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// Number of writes in a log.
pub(super) fn length(log: &Log) -> u64 {
    log.last().map_or(0, |(_, end)| *end)
}

/// Writes of one reign that are in a log.
pub(super) fn included(log: &Log, reign: u32) -> u64 {
    let Ok(at) = log.binary_search_by_key(&reign, |(of, _)| *of) else { return 0 };
    let before = if at == 0 { 0 } else { log[at - 1].1 };
    log[at].1 - before
}

/// The first `length` writes of a log.
fn prefix(log: &Log, length: u64) -> Log {
    let mut cut = Log::new();
    for &(reign, end) in log {
        if cut.last().is_some_and(|(_, end)| *end >= length) || length == 0 {
            break;
        }
        cut.push((reign, end.min(length)));
    }
    cut
}

/// Up to where two logs agree.
fn common(one: &Log, other: &Log) -> u64 {
    let mut agreed = 0;
    for (&(reign, end), &(also, other_end)) in one.iter().zip(other) {
        if reign != also {
            break;
        }
        agreed = end.min(other_end);
        if end != other_end {
            break;
        }
    }
    agreed
}

/// Adds the writes of a reign up to `position`.
fn extend(log: &mut Log, reign: u32, position: u64) {
    match log.last_mut() {
        Some((last, end)) if *last == reign => *end = (*end).max(position),
        _ => log.push((reign, position)),
    }
}

impl Group {
    /// The leader of `reign` acknowledges its log up to `position`.
    fn acknowledge(&mut self, reign: u32, position: u64, counts: bool) {
        let late = (0..self.reigns.len() as u32).any(|other| self.rank(other) > self.rank(reign));
        let of = &mut self.reigns[reign as usize];
        let more = position.saturating_sub(of.base).saturating_sub(of.acknowledged);
        of.acknowledged += more;
        if counts {
            self.counts.writes += more;
            self.counts.double_leader_writes += if late { more } else { 0 };
        }
    }

    /// How much of the log of the leader on `seat` may be acknowledged.
    fn committed(&self, mode: ReplicationMode, seat: u32) -> u64 {
        let leader = &self.members[seat as usize];
        let own = length(&leader.log);
        let streams = |at: usize| self.members[at].link == Link::Streaming(leader.reign);
        let others = (0..self.members.len()).filter(|at| *at != seat as usize);
        match mode {
            ReplicationMode::Asynchronous => own,
            ReplicationMode::Synchronous => {
                others.filter(|at| streams(*at)).map(|at| leader.matches[at]).min().unwrap_or(own).min(own)
            }
            ReplicationMode::Quorum => {
                let mut have: Vec<u64> = others.map(|at| leader.matches[at]).collect();
                have.push(own);
                have.sort_unstable_by(|a, b| b.cmp(a));
                have[self.members.len() / 2]
            }
        }
    }
}

impl World<'_> {
    /// Whether a write still waits where its ticket says.
    pub(super) fn is_waiting(&self, ticket: &WriteTicket) -> bool {
        let frame = &self.frames[ticket.frame];
        frame.has(INSIDE | STARTED)
            && !frame.has(ENDED)
            && frame.pc == ticket.pc
            && frame.started == ticket.started
    }

    /// The write of `slot` goes into the log. Whether it may be answered at once.
    pub(super) fn replicate(
        &mut self,
        now: Time,
        queue: &mut Queue,
        slot: u32,
    ) -> Result<Written, super::Full> {
        let counts = self.counts_at(now);
        let index = self.frames[slot].instance;
        let service = self.instances[index as usize].service;
        let Some(spec) = &self.spec.services[service as usize].group else { return Ok(Written::Now) };
        let Some(group) = &mut self.services[service as usize].group else { return Ok(Written::Now) };
        let Some(seat) = group.seat_of(index).filter(|seat| group.members[*seat as usize].leads) else {
            // It has lost the lead while it worked on this.
            group.counts.failed_writes += u64::from(counts);
            return Ok(Written::Never);
        };
        let leader = &mut group.members[seat as usize];
        let (reign, position) = (leader.reign, length(&leader.log) + 1);
        extend(&mut leader.log, reign, position);
        if spec.backups && group.history.last().is_none_or(|(at, _)| now - *at >= NOTE_EVERY) {
            let log = group.members[seat as usize].log.clone();
            group.history.push((now, log));
        }
        for other in 0..group.members.len() as u32 {
            if other != seat {
                self.ship(now, queue, service, seat, other, position)?;
            }
        }
        let Some(group) = &mut self.services[service as usize].group else { return Ok(Written::Now) };
        let committed = group.committed(spec.mode, seat);
        group.acknowledge(reign, committed, counts);
        if committed >= position {
            return Ok(Written::Now);
        }
        let frame = &self.frames[slot];
        let ticket = WriteTicket { position, frame: slot, pc: frame.pc, started: frame.started };
        group.members[seat as usize].waiting.push_back(ticket);
        Ok(Written::Later)
    }

    /// Sends one write to a member, if its link stands.
    fn ship(
        &mut self,
        now: Time,
        queue: &mut Queue,
        service: u32,
        leader: u32,
        to: u32,
        position: u64,
    ) -> Flow {
        let Some(spec) = &self.spec.services[service as usize].group else { return Ok(()) };
        let Some(group) = &mut self.services[service as usize].group else { return Ok(()) };
        let reign = group.members[leader as usize].reign;
        if group.members[to as usize].link != Link::Streaming(reign) {
            return Ok(());
        }
        let lag = spec.lag.sample_duration(&mut group.next_key().draws());
        let (home, there) = (self.zone_of_seat(service, leader), self.zone_of_seat(service, to));
        let way = self.word_way(service, home, there);
        let Some(group) = &mut self.services[service as usize].group else { return Ok(()) };
        let member = &mut group.members[to as usize];
        let Some(way) = way else {
            return self.cut_link(now, queue, service, to, reign);
        };
        // In order.
        member.ships_at = member.ships_at.max(now + lag + way);
        let apply = Affair::Apply(to, reign, position, member.starts);
        let at = member.ships_at;
        self.schedule(queue, at, Control::Group(service, apply));
        Ok(())
    }

    /// The link of a member is broken; it connects anew.
    fn cut_link(&mut self, now: Time, queue: &mut Queue, service: u32, seat: u32, reign: u32) -> Flow {
        let Some(group) = &mut self.services[service as usize].group else { return Ok(()) };
        group.members[seat as usize].link = Link::Cut;
        self.schedule(queue, now + AGAIN, Control::Group(service, Affair::Follow(seat, reign)));
        self.commit(now, queue, service, reign)
    }

    /// A write reaches a member.
    #[expect(clippy::too_many_arguments, reason = "what an affair says")]
    pub(super) fn on_apply(
        &mut self,
        now: Time,
        queue: &mut Queue,
        service: u32,
        seat: u32,
        reign: u32,
        position: u64,
        starts: u32,
    ) -> Flow {
        let hung = self.is_member_hung(service, seat);
        let Some(group) = &mut self.services[service as usize].group else { return Ok(()) };
        let leader = group.reigns[reign as usize].seat;
        // What its leader had not got rid of when it died, or ceased to lead, goes nowhere.
        let lasts = group.lasts(reign);
        let member = &mut group.members[seat as usize];
        if !lasts || member.link != Link::Streaming(reign) || member.starts != starts {
            return Ok(());
        }
        if hung {
            let again = Affair::Apply(seat, reign, position, starts);
            self.schedule(queue, now + WHILE_HUNG, Control::Group(service, again));
            return Ok(());
        }
        extend(&mut member.log, reign, position);
        let (there, home) = (self.zone_of_seat(service, seat), self.zone_of_seat(service, leader));
        match self.word_way(service, there, home) {
            None => self.cut_link(now, queue, service, seat, reign),
            Some(Duration::ZERO) => self.on_acknowledge(now, queue, service, seat, reign, position),
            Some(way) => {
                let answer = Affair::Acknowledge(seat, reign, position);
                self.schedule(queue, now + way, Control::Group(service, answer));
                Ok(())
            }
        }
    }

    /// The leader of a reign hears how much of its log a member has.
    pub(super) fn on_acknowledge(
        &mut self,
        now: Time,
        queue: &mut Queue,
        service: u32,
        seat: u32,
        reign: u32,
        position: u64,
    ) -> Flow {
        let Some(group) = &mut self.services[service as usize].group else { return Ok(()) };
        if !group.lasts(reign) {
            return Ok(());
        }
        let leader = group.reigns[reign as usize].seat;
        let has = &mut group.members[leader as usize].matches[seat as usize];
        *has = (*has).max(position);
        self.commit(now, queue, service, reign)
    }

    /// Writes that enough members have are answered.
    fn commit(&mut self, now: Time, queue: &mut Queue, service: u32, reign: u32) -> Flow {
        let counts = self.counts_at(now);
        let Some(spec) = &self.spec.services[service as usize].group else { return Ok(()) };
        let Some(group) = &mut self.services[service as usize].group else { return Ok(()) };
        if !group.lasts(reign) {
            return Ok(());
        }
        let seat = group.reigns[reign as usize].seat;
        let committed = group.committed(spec.mode, seat);
        group.acknowledge(reign, committed, counts);
        loop {
            let Some(group) = &mut self.services[service as usize].group else { return Ok(()) };
            let waiting = &mut group.members[seat as usize].waiting;
            let Some(ticket) = waiting.pop_front_if(|ticket| ticket.position <= committed) else {
                return Ok(());
            };
            if self.is_waiting(&ticket) {
                self.frames[ticket.frame].pc += 1;
                self.go_on(now, queue, ticket.frame)?;
            }
        }
    }

    /// A member connects with the leader of a reign.
    pub(super) fn follow_leader(
        &mut self,
        now: Time,
        queue: &mut Queue,
        service: u32,
        seat: u32,
        reign: u32,
    ) -> Flow {
        let Some(group) = &self.services[service as usize].group else { return Ok(()) };
        let leader = group.reigns[reign as usize].seat;
        let member = &group.members[seat as usize];
        let engaged = match member.link {
            Link::Cut => false,
            // Never back to an older leader.
            Link::Syncing(other) | Link::Streaming(other) => group.rank(other) >= group.rank(reign),
        };
        if member.instance == NIL || member.leads || engaged || !group.lasts(reign) {
            return Ok(());
        }
        let (home, there) = (self.zone_of_seat(service, leader), self.zone_of_seat(service, seat));
        let hung = self.is_member_hung(service, seat) || self.is_member_hung(service, leader);
        if hung || self.word_way(service, there, home).is_none() {
            self.schedule(queue, now + AGAIN, Control::Group(service, Affair::Follow(seat, reign)));
            return Ok(());
        }
        let Some(group) = &mut self.services[service as usize].group else { return Ok(()) };
        let agreed = common(&group.members[leader as usize].log, &group.members[seat as usize].log);
        let member = &mut group.members[seat as usize];
        member.log = prefix(&member.log, agreed);
        member.ships_at = now;
        self.sync_round(now, queue, service, seat, reign)
    }

    /// The next round of what a member has missed, or none.
    fn sync_round(&mut self, now: Time, queue: &mut Queue, service: u32, seat: u32, reign: u32) -> Flow {
        let Some(spec) = &self.spec.services[service as usize].group else { return Ok(()) };
        let counts = self.counts_at(now);
        let Some(group) = &mut self.services[service as usize].group else { return Ok(()) };
        let leader = group.reigns[reign as usize].seat;
        let log = group.members[leader as usize].log.clone();
        let (wanted, starts) = (length(&log), group.members[seat as usize].starts);
        let member = &mut group.members[seat as usize];
        let missing = wanted - length(&member.log);
        let takes = Duration::from_secs_f64(missing as f64 / spec.sync_rate);
        let again = member.link == Link::Syncing(reign);
        if takes <= LAST_ROUND {
            member.log = log;
            member.link = Link::Streaming(reign);
            member.missed = false;
            let (index, gated) = (member.instance, std::mem::replace(&mut member.gated, false));
            group.members[leader as usize].matches[seat as usize] = wanted;
            self.commit(now, queue, service, reign)?;
            return if gated { self.readmit(now, queue, index) } else { Ok(()) };
        }
        member.missed = true;
        member.link = Link::Syncing(reign);
        let index = member.instance;
        let shuts = spec.must_catch_up && !std::mem::replace(&mut member.gated, spec.must_catch_up);
        group.counts.syncs += u64::from(counts && !again);
        self.schedule(
            queue,
            now + takes,
            Control::Group(service, Affair::Synced(seat, reign, wanted, starts)),
        );
        if shuts && self.instances[index as usize].state == State::Ready {
            return self.set_available(now, queue, index, false);
        }
        Ok(())
    }

    /// A round is over.
    #[expect(clippy::too_many_arguments, reason = "what an affair says")]
    pub(super) fn on_synced(
        &mut self,
        now: Time,
        queue: &mut Queue,
        service: u32,
        seat: u32,
        reign: u32,
        upto: u64,
        starts: u32,
    ) -> Flow {
        let Some(group) = &self.services[service as usize].group else { return Ok(()) };
        let leader = group.reigns[reign as usize].seat;
        let member = &group.members[seat as usize];
        if member.link != Link::Syncing(reign) || member.starts != starts {
            return Ok(());
        }
        let (home, there) = (self.zone_of_seat(service, leader), self.zone_of_seat(service, seat));
        let cut = !group.lasts(reign) || self.word_way(service, home, there).is_none();
        if cut {
            return self.cut_link(now, queue, service, seat, reign);
        }
        let Some(group) = &mut self.services[service as usize].group else { return Ok(()) };
        let log = prefix(&group.members[leader as usize].log, upto);
        group.members[seat as usize].log = log;
        self.sync_round(now, queue, service, seat, reign)
    }

    /// An operator has the group rebuilt: from a backup of some age, and from the log that was saved since, up to another age.
    pub(super) fn restore(
        &mut self,
        now: Time,
        queue: &mut Queue,
        service: u32,
        ages: (Duration, Duration),
        takes: Duration,
    ) -> Flow {
        let Some(spec) = &self.spec.services[service as usize].group else { return Ok(()) };
        let Some(group) = &mut self.services[service as usize].group else { return Ok(()) };
        if std::mem::replace(&mut group.restoring, true) {
            return Ok(());
        }
        let stood = |age: Duration| {
            let upto = Time(now.0.saturating_sub(age.0));
            group.history.iter().rev().find(|(at, _)| *at <= upto).map(|(_, log)| log.clone())
        };
        let (backup, log) = (stood(ages.0).unwrap_or_default(), stood(ages.1).unwrap_or_default());
        let replayed = length(&log).saturating_sub(length(&backup));
        let takes = takes + Duration::from_secs_f64(replayed as f64 / spec.sync_rate);
        group.history.retain(|(_, old)| length(old) <= length(&log));
        let seats = group.members.len() as u32;
        for seat in 0..seats {
            self.ask(now, queue, service, seat, |election, _, _, _, out| {
                election.on_shutdown(now, out);
                // There is nobody to say anything.
                out.clear();
            })?;
            let Some(group) = &mut self.services[service as usize].group else { return Ok(()) };
            let member = &mut group.members[seat as usize];
            member.log.clone_from(&log);
            member.link = Link::Cut;
            member.missed = false;
        }
        let name = self.spec.services[service as usize].name.clone();
        let detail = format!("restored to {} writes, which takes {takes}", length(&log));
        self.telemetry.log(now, "action", name, detail);
        self.schedule(queue, now + takes, Control::Group(service, Affair::Restored));
        Ok(())
    }

    /// The group is there again.
    pub(super) fn on_restored(&mut self, now: Time, queue: &mut Queue, service: u32) -> Flow {
        let name = self.spec.services[service as usize].name.clone();
        self.telemetry.log(now, "action", name, "is restored".to_owned());
        let Some(group) = &mut self.services[service as usize].group else { return Ok(()) };
        group.restoring = false;
        for seat in 0..group.members.len() as u32 {
            let Some(group) = &mut self.services[service as usize].group else { return Ok(()) };
            let member = &mut group.members[seat as usize];
            if member.instance == NIL {
                continue;
            }
            let (index, gated) = (member.instance, std::mem::replace(&mut member.gated, false));
            self.start_member(now, queue, service, seat)?;
            if gated {
                self.readmit(now, queue, index)?;
            }
        }
        Ok(())
    }

    /// What groups have to say at the end.
    pub(super) fn group_metrics(&mut self, end: Time, metrics: &mut BTreeMap<String, f64>) {
        for service in 0..self.services.len() {
            self.recount_leaders(end, service as u32);
            let Some(group) = &self.services[service].group else { continue };
            let name = &self.spec.services[service].name;
            let mut put = |metric: &str, value: f64| metrics.insert(format!("group.{name}.{metric}"), value);
            let counts = group.counts;
            put("leaderless_s", counts.leaderless_ns as f64 / 1e9);
            put("split_brain_s", counts.split_ns as f64 / 1e9);
            put("elections", counts.elections as f64);
            put("writes", counts.writes as f64);
            put("blocked_writes", counts.blocked_writes as f64);
            put("failed_writes", counts.failed_writes as f64);
            put("lost_writes", group.lost() as f64);
            put("double_leader_writes", counts.double_leader_writes as f64);
            put("syncs", counts.syncs as f64);
            if counts.reads > 0 {
                put("reads", counts.reads as f64);
                put("stale_reads", counts.stale_reads as f64);
                put("stale_read_ratio", counts.stale_reads as f64 / counts.reads as f64);
            }
            let promotes = |action: &ActionSpec| match action.what {
                Operation::Promote(of, _) => of as usize == service,
                _ => false,
            };
            if self.spec.actions.iter().any(promotes) {
                put("promotions_refused", counts.promotions_refused as f64);
            }
        }
    }

    /// Acknowledged writes that the member lacks which lacks most, of those that are there.
    pub(super) fn replica_lag(group: &Group) -> f64 {
        let lacks = |log: &Log| {
            let reigns = 0..group.reigns.len() as u32;
            reigns.map(|reign| group.valid(reign).saturating_sub(included(log, reign))).sum::<u64>()
        };
        let there = group.members.iter().filter(|member| member.instance != NIL);
        there.map(|member| lacks(&member.log)).max().unwrap_or(0) as f64
    }

    /// INV-37: what was acknowledged is there or counted as lost; a member's log is the leader's, as far as they agree; and who
    /// waits to be acknowledged waits in order.
    pub(super) fn check_groups(&self) {
        for service in &self.services {
            let Some(group) = &service.group else { continue };
            let all: u64 = group.reigns.iter().map(|reign| reign.acknowledged).sum();
            let there: u64 = (0..group.reigns.len() as u32).map(|reign| group.valid(reign)).sum();
            assert_eq!(all, there + group.lost(), "INV-37: what was acknowledged is there or lost");
            let has_all = |seat: u32| group.is_complete(&group.members[seat as usize].log);
            assert!(group.authority.is_none_or(has_all), "INV-37: the leader that counts has what is there");
            for member in &group.members {
                assert!(member.log.is_sorted(), "INV-37: reigns follow each other");
                assert!(member.log.windows(2).all(|pair| pair[0].1 < pair[1].1), "INV-37: none is empty");
                let ascending = |tickets: &VecDeque<WriteTicket>| {
                    tickets.iter().zip(tickets.iter().skip(1)).all(|(one, next)| one.position < next.position)
                };
                assert!(ascending(&member.waiting), "INV-37: writes wait in order");
                assert!(member.leads || member.waiting.is_empty(), "INV-37: only a leader has writes wait");
            }
            let leads = group.members.iter().filter(|member| member.leads).count() as u32;
            assert!(group.accepting <= leads, "INV-37: who acts as a leader believes to be one");
        }
    }
}

/// When a write may be answered.
pub(super) enum Written {
    /// At once.
    Now,
    /// When enough members have it.
    Later,
    /// It may not: somebody else leads.
    Never,
}
