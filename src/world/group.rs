//! Groups: a service whose instances agree on a leader, and who knows which one it is.
//!
//! Each instance takes a *seat* of its group; what stands on the disk of a seat (its log, its vote) outlives the instance.
//! Messages of the election travel over the network like all others: they are late, lost with a partition, and wait while
//! their reader hangs. The time that one member leads is a *reign*. That a reign has begun is announced to each zone, whose
//! callers send what the leader must do to whom they know of; while they know nobody, it is held at the activator of the
//! service for as long as the blocking window, if there is one. The log itself is the business of `replica`.

use std::collections::VecDeque;

use crate::kernel::queue::Queue;
use crate::policies::election::lease::Lock;
use crate::policies::election::{
    AnyElection, Election as _, Envelope, From, LogEnd, Message, Place, Seat, Standing, To,
};
use crate::policies::view::{Class, Slot};
use crate::random::{Key, Rng};
use crate::time::{Duration, Time};

use super::call::Origin;
use super::control::Control;
use super::frame::NIL;
use super::instance::State;
use super::outbound::ANYWHERE;
use super::replica::{Link, Log, included, length};
use super::report::{Decision, Step};
use super::spec::{GroupSpec, Op, ReplicationMode};
use super::{Flow, World};

/// Who cannot reach somebody tries again so much later.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// Whoever hangs gets its messages so much later, over and over again.
pub(super) const WHILE_HUNG: Duration = Duration::from_millis(50);

/// What happens in a group.
#[derive(Clone, Debug)]
pub(super) enum Affair {
    /// A member wanted to be woken then.
    Wake(u32, Time),
    /// A message arrives.
    Letter(Box<Letter>),
    /// A zone cannot be told of a reign yet ...
    Announce(u32, u32),
    /// ... or knows it now (false: that it is over).
    Routed(u32, u32, bool),
    /// A member turns to the leader of a reign.
    Follow(u32, u32),
    /// A round of what a member has missed is over: its seat, the reign, how far it has come, its process.
    Synced(u32, u32, u64, u32),
    /// An entry reaches a member: its seat, the reign, the length of the log with it, its process.
    Apply(u32, u32, u64, u32),
    /// The leader of a reign hears that a member has so much of its log.
    Acknowledge(u32, u32, u64),
    /// The group is there again, from a backup.
    Restored,
}

/// A message under way.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    from: From,
    to: To,
    message: Message,
}

/// One seat.
pub(super) struct Member {
    election: AnyElection,
    /// Who sits there; `NIL` if nobody does ...
    pub(super) instance: u32,
    /// ... and who did last.
    last: u32,
    /// How often somebody has left it.
    pub(super) starts: u32,
    /// When it will be woken; `Time::MAX` for never.
    armed: Time,
    /// It believes to lead ...
    pub(super) leads: bool,
    /// ... in this reign, or did in this one last.
    pub(super) reign: u32,
    pub(super) log: Log,
    pub(super) link: Link,
    /// The leader has written without it.
    pub(super) missed: bool,
    /// It takes no requests before it has caught up.
    pub(super) gated: bool,
    /// When the last entry sent to it arrives.
    pub(super) ships_at: Time,
    /// As a leader: how much of its log each member has.
    pub(super) matches: Vec<u64>,
    /// As a leader: writes that wait for others.
    pub(super) waiting: VecDeque<WriteTicket>,
}

/// Names a write that waits to be acknowledged, even after its slot has been reused.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriteTicket {
    /// Length of the log with it.
    pub(super) position: u64,
    pub(super) frame: u32,
    pub(super) pc: u16,
    pub(super) started: Time,
}

/// The time that one member leads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reign {
    pub(super) seat: u32,
    term: u64,
    /// Length of the log when it began.
    pub(super) base: u64,
    /// Its own writes that were acknowledged.
    pub(super) acknowledged: u64,
}

/// What is counted in the counted part of the run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GroupCounts {
    pub(super) elections: u64,
    pub(super) writes: u64,
    pub(super) blocked_writes: u64,
    pub(super) failed_writes: u64,
    pub(super) double_leader_writes: u64,
    pub(super) reads: u64,
    pub(super) stale_reads: u64,
    pub(super) promotions_refused: u64,
    pub(super) syncs: u64,
    /// Time with nobody, or with several, who believe to lead and can act on it, ns.
    pub(super) leaderless_ns: u64,
    pub(super) split_ns: u64,
}

/// A group while the world runs.
pub(super) struct Group {
    pub(super) members: Vec<Member>,
    lock: Lock,
    pub(super) reigns: Vec<Reign>,
    /// By zone, the outside last: the last reign that is known there, and whether it lasts as far as is known.
    routes: Vec<(Option<u32>, bool)>,
    /// Seat of the leader that counts, or counted last.
    pub(super) authority: Option<u32>,
    out: Vec<Envelope>,
    /// Root of its draws ...
    pub(super) key: Key,
    /// ... and how many there were.
    pub(super) draws: u64,
    pub(super) counts: GroupCounts,
    /// Members that believe to lead and can act on it ...
    pub(super) accepting: u32,
    /// ... since then.
    since: Time,
    /// What the leader's log was at some times, for who restores it.
    pub(super) history: Vec<(Time, Log)>,
    /// It is being rebuilt.
    pub(super) restoring: bool,
    counted: (Time, Time),
}

impl Group {
    pub(super) fn new(
        spec: &GroupSpec,
        name: &str,
        seats: u32,
        zones: usize,
        seed: u64,
        counted: (Time, Time),
    ) -> Self {
        let member = |_| Member {
            election: spec.election.build(Time::ZERO),
            instance: NIL,
            last: NIL,
            starts: 0,
            armed: Time::MAX,
            leads: false,
            reign: 0,
            log: Log::new(),
            link: Link::Cut,
            missed: false,
            gated: false,
            ships_at: Time::ZERO,
            matches: vec![0; seats as usize],
            waiting: VecDeque::new(),
        };
        Self {
            members: (0..seats).map(member).collect(),
            lock: Lock::default(),
            reigns: Vec::new(),
            routes: vec![(None, false); zones + 1],
            authority: None,
            out: Vec::new(),
            key: Key::new(seed).named("group").named(name),
            draws: 0,
            counts: GroupCounts::default(),
            accepting: 0,
            since: Time::ZERO,
            history: Vec::new(),
            restoring: false,
            counted,
        }
    }

    /// The next draw of the group.
    pub(super) const fn next_key(&mut self) -> Key {
        self.draws += 1;
        self.key.with(self.draws)
    }

    /// The seat of an instance.
    pub(super) fn seat_of(&self, instance: u32) -> Option<u32> {
        self.members.iter().position(|member| member.instance == instance).map(|seat| seat as u32)
    }

    /// Which of two reigns counts: a later term, and in one term a later beginning.
    pub(super) fn rank(&self, reign: u32) -> (u64, u32) {
        (self.reigns[reign as usize].term, reign)
    }

    /// The reign that counts most of those that last.
    pub(super) fn ruling(&self) -> Option<u32> {
        let lasting = (0..self.reigns.len() as u32).filter(|reign| self.lasts(*reign));
        lasting.max_by_key(|reign| self.rank(*reign))
    }

    /// Whether a reign lasts in the eyes of who leads it.
    pub(super) fn lasts(&self, reign: u32) -> bool {
        let member = &self.members[self.reigns[reign as usize].seat as usize];
        member.leads && member.reign == reign
    }

    /// Acknowledged writes of a reign that are still there: in the log of the leader that counts, or counted last.
    pub(super) fn valid(&self, reign: u32) -> u64 {
        let acknowledged = self.reigns[reign as usize].acknowledged;
        let log = self.authority.map(|seat| &self.members[seat as usize].log);
        acknowledged.min(log.map_or(u64::MAX, |log| included(log, reign)))
    }

    /// Acknowledged writes that are not.
    pub(super) fn lost(&self) -> u64 {
        (0..self.reigns.len() as u32)
            .map(|reign| self.reigns[reign as usize].acknowledged - self.valid(reign))
            .sum()
    }

    /// Whether a log has every acknowledged write that was not lost.
    pub(super) fn is_complete(&self, log: &Log) -> bool {
        (0..self.reigns.len() as u32).all(|reign| included(log, reign) >= self.valid(reign))
    }

    fn is_eligible(&self, spec: &GroupSpec, seat: u32) -> bool {
        let member = &self.members[seat as usize];
        !spec.must_catch_up
            || match spec.mode {
                ReplicationMode::Asynchronous => !member.missed,
                ReplicationMode::Quorum | ReplicationMode::Synchronous => self.is_complete(&member.log),
            }
    }

    /// What a member knows of itself.
    fn standing(&self, spec: &GroupSpec, seat: u32) -> Standing {
        let log = &self.members[seat as usize].log;
        let term = log.last().map_or(0, |(reign, _)| self.reigns[*reign as usize].term);
        Standing { log: LogEnd { term, index: length(log) }, eligible: self.is_eligible(spec, seat) }
    }

    /// Accounts for the time since the last change of who leads.
    fn settle(&mut self, now: Time) {
        let (from, to) = (self.since.max(self.counted.0), now.min(self.counted.1));
        let passed = if from < to { (to - from).0 } else { 0 };
        self.since = now;
        match self.accepting {
            0 => self.counts.leaderless_ns += passed,
            1 => {}
            _ => self.counts.split_ns += passed,
        }
    }
}

impl World<'_> {
    /// Groups begin with whoever is there.
    pub(super) fn begin_groups(&mut self, queue: &mut Queue) -> Flow {
        for service in 0..self.services.len() {
            if self.services[service].group.is_none() {
                continue;
            }
            for at in 0..self.services[service].living.len() {
                let index = self.services[service].living[at];
                if self.instances[index as usize].state == State::Ready {
                    self.take_seat(Time::ZERO, queue, index)?;
                }
            }
        }
        Ok(())
    }

    /// A process that runs takes a seat: its last one, or the first that is free. Whether it must catch up before it is ready.
    pub(super) fn take_seat(
        &mut self,
        now: Time,
        queue: &mut Queue,
        index: u32,
    ) -> Result<bool, super::Full> {
        let service = self.instances[index as usize].service;
        let Some(group) = &mut self.services[service as usize].group else { return Ok(false) };
        let free = |member: &Member| member.instance == NIL;
        let mine = group.members.iter().position(|member| free(member) && member.last == index);
        let Some(seat) = mine.or_else(|| group.members.iter().position(free)) else { return Ok(false) };
        let must = self.spec.services[service as usize].group.as_ref().is_some_and(|spec| spec.must_catch_up);
        let ruling = group.ruling();
        let behind = ruling.is_some_and(|reign| {
            let leader = group.reigns[reign as usize].seat as usize;
            group.members[leader].log != group.members[seat].log
        });
        let restoring = group.restoring;
        let member = &mut group.members[seat];
        member.instance = index;
        member.last = index;
        member.missed |= behind;
        member.gated = must && behind;
        let gated = member.gated;
        if !restoring {
            self.start_member(now, queue, service, seat as u32)?;
            if let Some(reign) = ruling {
                self.turn_to(now, queue, service, seat as u32, reign);
            }
        }
        Ok(gated)
    }

    pub(super) fn start_member(&mut self, now: Time, queue: &mut Queue, service: u32, seat: u32) -> Flow {
        self.ask(now, queue, service, seat, |election, place, standing, rng, out| {
            election.on_start(now, place, standing, rng, out);
        })
    }

    /// The process of an instance is gone.
    pub(super) fn leave_seat(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let service = self.instances[index as usize].service;
        let Some(group) = &mut self.services[service as usize].group else { return Ok(()) };
        let Some(seat) = group.seat_of(index) else { return Ok(()) };
        let member = &mut group.members[seat as usize];
        member.instance = NIL;
        member.starts += 1;
        member.armed = Time::MAX;
        member.link = Link::Cut;
        member.gated = false;
        self.look_at_leader(now, queue, service, seat, "the leader died")?;
        self.seat_a_spare(now, queue, service)
    }

    /// An instance that found no free seat, as a rollout may have one for a while, takes one.
    fn seat_a_spare(&mut self, now: Time, queue: &mut Queue, service: u32) -> Flow {
        let state = &self.services[service as usize];
        let Some(group) = &state.group else { return Ok(()) };
        let spare = |index: &&u32| {
            let instance = &self.instances[**index as usize];
            instance.state == State::Ready && !instance.more.leaving && group.seat_of(**index).is_none()
        };
        let Some(&index) = state.living.iter().find(spare) else { return Ok(()) };
        if self.take_seat(now, queue, index)? { self.set_available(now, queue, index, false) } else { Ok(()) }
    }

    /// An instance gets SIGTERM: it leads no longer.
    pub(super) fn resign(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let service = self.instances[index as usize].service;
        let Some(group) = &self.services[service as usize].group else { return Ok(()) };
        let Some(seat) = group.seat_of(index) else { return Ok(()) };
        self.ask(now, queue, service, seat, |election, _, _, _, out| election.on_shutdown(now, out))
    }

    /// Asks or tells the election of a member, sends what it has to say, and looks whether it leads.
    pub(super) fn ask(
        &mut self,
        now: Time,
        queue: &mut Queue,
        service: u32,
        seat: u32,
        what: impl FnOnce(&mut AnyElection, Place, Standing, &mut Rng, &mut Vec<Envelope>),
    ) -> Flow {
        let Some(spec) = &self.spec.services[service as usize].group else { return Ok(()) };
        let Some(group) = &mut self.services[service as usize].group else { return Ok(()) };
        let standing = group.standing(spec, seat);
        let place = Place { me: Seat(seat), seats: group.members.len() as u32 };
        let mut rng = group.next_key().rng();
        let mut out = std::mem::take(&mut group.out);
        what(&mut group.members[seat as usize].election, place, standing, &mut rng, &mut out);
        for envelope in out.drain(..) {
            self.post(now, queue, service, From::Member(Seat(seat)), envelope);
        }
        if let Some(group) = &mut self.services[service as usize].group {
            group.out = out;
        }
        self.arm_member(now, queue, service, seat);
        self.look_at_leader(now, queue, service, seat, "it no longer leads")
    }

    /// Where a member sits; an empty seat is where its last instance was.
    pub(super) fn zone_of_seat(&self, service: u32, seat: u32) -> u32 {
        let last =
            self.services[service as usize].group.as_ref().map(|group| group.members[seat as usize].last);
        last.filter(|last| *last != NIL).map_or(0, |last| self.instances[last as usize].more.zone)
    }

    /// How long a word of the group takes between zones; `None` while none gets through.
    pub(super) fn way_between(&mut self, service: u32, from: u32, to: u32) -> Option<Duration> {
        let key = self.services[service as usize].group.as_mut()?.next_key();
        self.word_delay(from, to, key.0)
    }

    /// Sends a message to whom it may concern.
    fn post(&mut self, now: Time, queue: &mut Queue, service: u32, from: From, envelope: Envelope) {
        let Some(spec) = &self.spec.services[service as usize].group else { return };
        let home = match from {
            From::Member(seat) => self.zone_of_seat(service, seat.0),
            From::Lock => spec.lock_zone,
        };
        let seats =
            self.services[service as usize].group.as_ref().map_or(0, |group| group.members.len() as u32);
        let all = match envelope.to {
            To::Member(seat) => seat.0..seat.0 + 1,
            To::Others => 0..seats,
            To::Lock => {
                if let Some(delay) = self.way_between(service, home, spec.lock_zone) {
                    let letter = Box::new(Letter { from, to: To::Lock, message: envelope.message });
                    self.schedule(queue, now + delay, Control::Group(service, Affair::Letter(letter)));
                }
                return;
            }
        };
        for seat in all {
            if from == From::Member(Seat(seat)) {
                continue;
            }
            let there = self.zone_of_seat(service, seat);
            if let Some(delay) = self.way_between(service, home, there) {
                let to = To::Member(Seat(seat));
                let letter = Box::new(Letter { from, to, message: envelope.message });
                self.schedule(queue, now + delay, Control::Group(service, Affair::Letter(letter)));
            }
        }
    }

    fn arm_member(&mut self, now: Time, queue: &mut Queue, service: u32, seat: u32) {
        let Some(group) = &mut self.services[service as usize].group else { return };
        let member = &mut group.members[seat as usize];
        if member.instance == NIL {
            return;
        }
        if let Some(at) = member.election.next_wakeup().map(|at| at.max(now)).filter(|at| *at < member.armed)
        {
            member.armed = at;
            self.schedule(queue, at, Control::Group(service, Affair::Wake(seat, at)));
        }
    }

    /// Something happens in a group.
    pub(super) fn on_affair(&mut self, now: Time, queue: &mut Queue, service: u32, affair: Affair) -> Flow {
        match affair {
            Affair::Wake(seat, at) => self.wake_member(now, queue, service, seat, at),
            Affair::Letter(letter) => self.receive(now, queue, service, letter),
            Affair::Announce(zone, reign) => {
                self.announce_reign(now, queue, service, zone, reign);
                Ok(())
            }
            Affair::Routed(zone, reign, lasts) => {
                self.note_route(now, queue, service, zone, reign, lasts);
                Ok(())
            }
            Affair::Follow(seat, reign) => self.follow_leader(now, queue, service, seat, reign),
            Affair::Synced(seat, reign, upto, starts) => {
                self.on_synced(now, queue, service, seat, reign, upto, starts)
            }
            Affair::Apply(seat, reign, position, starts) => {
                self.on_apply(now, queue, service, seat, reign, position, starts)
            }
            Affair::Acknowledge(seat, reign, position) => {
                self.on_acknowledge(now, queue, service, seat, reign, position)
            }
            Affair::Restored => self.on_restored(now, queue, service),
        }
    }

    /// Whether a member hangs, and gets what comes a little later.
    pub(super) fn is_member_hung(&self, service: u32, seat: u32) -> bool {
        let Some(group) = &self.services[service as usize].group else { return false };
        let instance = group.members[seat as usize].instance;
        instance != NIL && self.instances[instance as usize].hung
    }

    fn wake_member(&mut self, now: Time, queue: &mut Queue, service: u32, seat: u32, at: Time) -> Flow {
        let hung = self.is_member_hung(service, seat);
        let Some(group) = &mut self.services[service as usize].group else { return Ok(()) };
        let member = &mut group.members[seat as usize];
        if member.instance == NIL || member.armed != at {
            return Ok(());
        }
        if hung {
            member.armed = now + WHILE_HUNG;
            let wake = Affair::Wake(seat, now + WHILE_HUNG);
            self.schedule(queue, now + WHILE_HUNG, Control::Group(service, wake));
            return Ok(());
        }
        member.armed = Time::MAX;
        if member.election.next_wakeup().is_some_and(|due| due <= now) {
            return self.ask(now, queue, service, seat, |election, _, standing, rng, out| {
                election.on_wakeup(now, standing, rng, out);
            });
        }
        self.arm_member(now, queue, service, seat);
        Ok(())
    }

    fn receive(&mut self, now: Time, queue: &mut Queue, service: u32, letter: Box<Letter>) -> Flow {
        let Letter { from, to, message } = *letter;
        let seat = match to {
            To::Member(seat) => seat.0,
            To::Others | To::Lock => {
                let Some(group) = &mut self.services[service as usize].group else { return Ok(()) };
                if let (Message::Lease(message), From::Member(back)) = (&message, from)
                    && let Some(answer) = group.lock.serve(message)
                {
                    let envelope = Envelope { to: To::Member(back), message: Message::Lease(answer) };
                    self.post(now, queue, service, From::Lock, envelope);
                }
                return Ok(());
            }
        };
        if self.is_member_hung(service, seat) {
            self.schedule(queue, now + WHILE_HUNG, Control::Group(service, Affair::Letter(letter)));
            return Ok(());
        }
        let there = self.services[service as usize]
            .group
            .as_ref()
            .is_some_and(|group| group.members[seat as usize].instance != NIL && !group.restoring);
        if there {
            return self.ask(now, queue, service, seat, |election, _, standing, rng, out| {
                election.on_message(now, from, &message, standing, rng, out);
            });
        }
        Ok(())
    }

    /// A member may have begun or ceased to lead.
    fn look_at_leader(
        &mut self,
        now: Time,
        queue: &mut Queue,
        service: u32,
        seat: u32,
        reason: &'static str,
    ) -> Flow {
        let Some(group) = &mut self.services[service as usize].group else { return Ok(()) };
        let member = &group.members[seat as usize];
        let leads = member.instance != NIL && member.election.is_leader();
        if leads == member.leads {
            return Ok(());
        }
        if leads {
            self.begin_reign(now, queue, service, seat)
        } else {
            self.end_reign(now, queue, service, seat, reason)
        }
    }

    /// Who can act as a leader may have changed.
    pub(super) fn recount_leaders(&mut self, now: Time, service: u32) {
        let Some(group) = &mut self.services[service as usize].group else { return };
        group.settle(now);
        let acts = |member: &&Member| member.leads && !self.instances[member.instance as usize].hung;
        group.accepting = group.members.iter().filter(acts).count() as u32;
    }

    fn begin_reign(&mut self, now: Time, queue: &mut Queue, service: u32, seat: u32) -> Flow {
        let counts = self.counts_at(now);
        let Some(group) = &mut self.services[service as usize].group else { return Ok(()) };
        let before = group.ruling().map_or(-1.0, |reign| f64::from(group.reigns[reign as usize].seat));
        let (reign, lost) = (group.reigns.len() as u32, group.lost());
        let term = group.members[seat as usize].election.term();
        let base = length(&group.members[seat as usize].log);
        group.reigns.push(Reign { seat, term, base, acknowledged: 0 });
        // One that does not know yet that others have gone on without it.
        let late = group.ruling().is_some_and(|ruling| group.rank(ruling) > group.rank(reign));
        if !late {
            group.authority = Some(seat);
        }
        let lost = group.lost().saturating_sub(lost);
        group.counts.elections += u64::from(counts);
        let member = &mut group.members[seat as usize];
        member.leads = true;
        member.reign = reign;
        member.link = Link::Cut;
        member.missed = false;
        member.matches.fill(0);
        let index = member.instance;
        let gated = std::mem::replace(&mut member.gated, false);
        self.recount_leaders(now, service);
        let inputs = [("term", term as f64), ("log_writes", base as f64), ("lost_writes", lost as f64)];
        self.note_election(now, service, &inputs, before, f64::from(seat), "it was elected");
        let name = &self.spec.services[service as usize].name;
        let detail = format!("{name}-{} leads", self.instances[index as usize].ordinal);
        self.telemetry.log(now, "leader", name.clone(), detail);
        for zone in 0..=self.spec.zones.len() as u32 {
            self.announce_reign(now, queue, service, zone, reign);
        }
        let home = self.zone_of_seat(service, seat);
        let seats =
            self.services[service as usize].group.as_ref().map_or(0, |group| group.members.len() as u32);
        for other in (0..seats).filter(|other| *other != seat && !late) {
            // Whoever hears of the new leader listens to no other.
            let there = self.zone_of_seat(service, other);
            if self.way_between(service, home, there).is_some()
                && let Some(group) = &mut self.services[service as usize].group
            {
                group.members[other as usize].link = Link::Cut;
            }
            self.turn_to(now, queue, service, other, reign);
        }
        if gated { self.let_in(now, queue, index) } else { Ok(()) }
    }

    fn end_reign(
        &mut self,
        now: Time,
        queue: &mut Queue,
        service: u32,
        seat: u32,
        reason: &'static str,
    ) -> Flow {
        let Some(group) = &mut self.services[service as usize].group else { return Ok(()) };
        let member = &mut group.members[seat as usize];
        member.leads = false;
        let (reign, alive) = (member.reign, member.instance != NIL);
        let waiting = std::mem::take(&mut member.waiting);
        let log = length(&member.log) as f64;
        let term = group.reigns[reign as usize].term as f64;
        let after = group.ruling().map_or(-1.0, |reign| f64::from(group.reigns[reign as usize].seat));
        let ruling = group.ruling();
        self.recount_leaders(now, service);
        self.note_election(
            now,
            service,
            &[("term", term), ("log_writes", log)],
            f64::from(seat),
            after,
            reason,
        );
        if !alive {
            // What was inside is lost with it.
            return Ok(());
        }
        let home = self.zone_of_seat(service, seat);
        for zone in 0..=self.spec.zones.len() as u32 {
            if let Some(delay) = self.way_between(service, home, zone) {
                let over = Affair::Routed(zone, reign, false);
                self.schedule(queue, now + delay, Control::Group(service, over));
            }
        }
        if let Some(reign) = ruling {
            self.turn_to(now, queue, service, seat, reign);
        }
        self.fail_waiting(now, queue, service, waiting)
    }

    fn note_election(
        &mut self,
        now: Time,
        service: u32,
        inputs: &[(&'static str, f64)],
        before: f64,
        after: f64,
        reason: &'static str,
    ) {
        let inputs = inputs.iter().map(|&(what, value)| Step { metric: None, what, value }).collect();
        let subject = self.spec.services[service as usize].name.clone();
        self.telemetry.decide(Decision { at: now, kind: "election", subject, inputs, before, after, reason });
    }

    /// A member will turn to the leader of a reign.
    fn turn_to(&mut self, now: Time, queue: &mut Queue, service: u32, seat: u32, reign: u32) {
        let Some(spec) = &self.spec.services[service as usize].group else { return };
        let Some(group) = &mut self.services[service as usize].group else { return };
        let after = spec.reconnect.sample_duration(&mut group.next_key().draws());
        self.schedule(queue, now + after, Control::Group(service, Affair::Follow(seat, reign)));
    }

    // ---- who knows the leader

    fn announce_reign(&mut self, now: Time, queue: &mut Queue, service: u32, zone: u32, reign: u32) {
        let Some(spec) = &self.spec.services[service as usize].group else { return };
        let Some(group) = &mut self.services[service as usize].group else { return };
        if !group.lasts(reign) {
            return;
        }
        let seat = group.reigns[reign as usize].seat;
        let after = spec.announce.sample_duration(&mut group.next_key().draws());
        let home = self.zone_of_seat(service, seat);
        let (at, what) = match self.way_between(service, home, zone) {
            Some(delay) => (now + delay + after, Affair::Routed(zone, reign, true)),
            None => (now + AGAIN, Affair::Announce(zone, reign)),
        };
        if at == now {
            return self.note_route(now, queue, service, zone, reign, true);
        }
        self.schedule(queue, at, Control::Group(service, what));
    }

    fn note_route(&mut self, now: Time, queue: &mut Queue, service: u32, zone: u32, reign: u32, lasts: bool) {
        let Some(group) = &mut self.services[service as usize].group else { return };
        let known = group.routes[zone as usize].0;
        if lasts && known.is_none_or(|known| group.rank(known) < group.rank(reign)) {
            group.routes[zone as usize] = (Some(reign), true);
            self.look_at_held(now, queue, service);
        } else if !lasts && known == Some(reign) {
            group.routes[zone as usize].1 = false;
        }
    }

    /// Whether the endpoint that begins at `entry` is the leader's business.
    #[inline]
    pub(super) fn is_for_leader(&self, entry: u16) -> bool {
        matches!(self.spec.ops[entry as usize], Op::Member { leader: true, .. })
    }

    /// The leader, as the zone of the caller knows it and as long as the caller thinks that it is there.
    pub(super) fn known_leader(&self, origin: &Origin) -> Option<Slot> {
        let outbound = &self.outbounds[origin.outbound as usize];
        let zone = if outbound.zone == u32::from(ANYWHERE) && origin.parent != NIL {
            self.instances[self.frames[origin.parent].instance as usize].more.zone
        } else {
            outbound.zone
        };
        let group = self.services[outbound.service as usize].group.as_ref()?;
        let (reign, lasts) = *group.routes.get(zone as usize)?;
        let member = &group.members[group.reigns[reign.filter(|_| lasts)? as usize].seat as usize];
        let slot = Slot(self.instances[member.last as usize].ordinal);
        outbound.view.eligible.binary_search(&slot).is_ok().then_some(slot)
    }

    /// An attempt finds no leader to go to; it is blocked, or has failed.
    #[cold]
    pub(super) fn note_unled(&mut self, now: Time, service: u32, entry: u16, blocked: bool) {
        if !self.counts_at(now) || !matches!(self.spec.ops[entry as usize], Op::Member { write: true, .. }) {
            return;
        }
        if let Some(group) = &mut self.services[service as usize].group {
            if blocked {
                group.counts.blocked_writes += 1;
            } else {
                group.counts.failed_writes += 1;
            }
        }
    }

    /// An attempt starts at a member. Whether it is the right one.
    pub(super) fn is_right_member(&mut self, now: Time, slot: u32, leader: bool, write: bool) -> bool {
        let counts = self.counts_at(now);
        let index = self.frames[slot].instance;
        let service = self.instances[index as usize].service;
        let Some(group) = &mut self.services[service as usize].group else { return true };
        let seat = group.seat_of(index).filter(|_| !group.restoring);
        let member = seat.map(|seat| &group.members[seat as usize]);
        let Some(member) = member.filter(|member| if leader { member.leads } else { !member.gated }) else {
            group.counts.failed_writes += u64::from(write && counts);
            return false;
        };
        if !write {
            let stale = !group.is_complete(&member.log);
            group.counts.reads += u64::from(counts);
            group.counts.stale_reads += u64::from(counts && stale);
        }
        true
    }

    /// Writes that wait at a member that leads no longer fail.
    pub(super) fn fail_waiting(
        &mut self,
        now: Time,
        queue: &mut Queue,
        service: u32,
        waiting: VecDeque<WriteTicket>,
    ) -> Flow {
        let counts = self.counts_at(now);
        for ticket in waiting {
            if self.is_waiting(&ticket) {
                if let Some(group) = &mut self.services[service as usize].group {
                    group.counts.failed_writes += u64::from(counts);
                }
                self.finish(now, queue, ticket.frame, Class::Failure)?;
            }
        }
        Ok(())
    }

    /// A member has caught up: traffic may come.
    pub(super) fn let_in(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let instance = &self.instances[index as usize];
        if instance.state == State::Ready && !instance.more.leaving {
            return self.set_available(now, queue, index, true);
        }
        Ok(())
    }

    /// An operator makes somebody the leader: the one on the given seat, or the one with the longest log.
    pub(super) fn promote(&mut self, now: Time, queue: &mut Queue, service: u32, seat: Option<u32>) -> Flow {
        let counts = self.counts_at(now);
        let name = self.spec.services[service as usize].name.clone();
        let Some(spec) = &self.spec.services[service as usize].group else { return Ok(()) };
        let Some(group) = &self.services[service as usize].group else { return Ok(()) };
        let can = |&seat: &u32| {
            let member = &group.members[seat as usize];
            let up = member.instance != NIL && !self.instances[member.instance as usize].hung;
            up && !member.leads && !group.restoring && group.is_eligible(spec, seat)
        };
        let mut seats: Vec<u32> = (0..group.members.len() as u32).filter(can).collect();
        seats.retain(|at| seat.is_none_or(|seat| seat == *at));
        // The first of the longest.
        let rank = |seat: &&u32| (length(&group.members[**seat as usize].log), std::cmp::Reverse(**seat));
        let Some(&seat) = seats.iter().max_by_key(rank) else {
            self.telemetry.log(now, "action", name, "nobody can be promoted: none has caught up".to_owned());
            if let Some(group) = &mut self.services[service as usize].group {
                group.counts.promotions_refused += u64::from(counts);
            }
            return Ok(());
        };
        self.telemetry.log(now, "action", name, format!("seat {seat} is promoted"));
        self.ask(now, queue, service, seat, |election, _, _, _, out| {
            election.on_promote(now, out);
        })
    }
}
