//! Life of a connection: set up, used, idle, old, closed by one side or the other.
//!
//! **Set-up** takes round trips, each a frame of its own between client and instance (marked [`WIRE`]), so delays, losses,
//! partitions, dead machines and SYN retries are those of any other message. The first trip is the transport's: an instance
//! that is not ready refuses it, a full queue that drops does not answer it. Then come those of TLS; the work of the first of
//! them is done at the instance like that of an attempt: it takes a worker (or waits for one) and a core.
//!
//! **The end.** The client closes when the connection was idle for too long, is too old or has carried enough; HTTP/1.1 also
//! when an attempt on it timed out, for the answer may still come. The instance closes idle ones, and asks for the end of
//! old ones (GOAWAY, `Connection: close`) or of all when it shuts down. The client learns of that one delay later; an attempt
//! that it sends meanwhile on a connection that is already closed fails.

use crate::kernel::queue::Queue;
use crate::policies::view::{Class, Slot};
use crate::random::Key;
use crate::random::law::Law;
use crate::time::{Duration, Time};

use super::control::Control;
use super::frame::{AWAITED, ENDED, Frame, NIL, Side, WAITING, WIRE};
use super::instance::State;
use super::pool::Front;
use super::spec::{ConnectionsSpec, NO_RING, Resumption};
use super::{Flow, Full, World};

/// One connection between a client and an instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    pub(super) phase: Phase,
    /// Calling side that owns it.
    pub(super) outbound: u32,
    /// Place in its pool.
    pub(super) host: u32,
    pub(super) instance: u32,
    /// Process of the instance: how often it had been restarted.
    process: u32,
    /// Distinguishes it from others that used the same slot.
    serial: u64,
    key: u64,
    started: Time,
    /// Attempts on it.
    pub(super) streams: u32,
    /// Most at a time; HTTP/1.1 has but one, and no word for taking it back.
    most: u32,
    multiplexed: bool,
    /// Attempts that it may still carry.
    left: u32,
    /// Since when it has had no attempt.
    idle_since: Time,
    /// The client closes it then ...
    expires: Time,
    /// ... and the instance asks it to.
    leaves: Time,
    /// When its next timer is due.
    armed: Time,
    /// Round trip of the set-up that is under way.
    trip: u8,
    trips: u8,
    resumed: bool,
    /// Frame of that trip.
    pub(super) frame: u32,
    /// The instance counts it.
    accepted: bool,
    /// It stands in the list of those that take another attempt.
    pub(super) listed: bool,
    /// The client sends nothing more on it.
    draining: bool,
    /// The present answer is the last (`Connection: close`).
    closing: bool,
    /// The instance no longer knows it.
    pub(super) gone: bool,
    /// The present attempt has reached the instance (HTTP/1.1).
    arrived: bool,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// The slot is free.
    #[default]
    Free,
    /// It is being set up.
    Opening,
    /// Attempts may ride on it.
    Open,
    /// The client has done with it.
    Closed,
}

/// Names a connection, even after its slot has been reused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tie {
    at: u32,
    serial: u64,
}

/// What the other end has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It is closed.
    Gone,
    /// No new attempts.
    Leave,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            phase: Phase::Free,
            outbound: NIL,
            host: 0,
            instance: NIL,
            process: 0,
            serial: 0,
            key: 0,
            started: Time::ZERO,
            streams: 0,
            most: 1,
            multiplexed: false,
            left: u32::MAX,
            idle_since: Time::ZERO,
            expires: Time::MAX,
            leaves: Time::MAX,
            armed: Time::MAX,
            trip: 0,
            trips: 0,
            resumed: false,
            frame: NIL,
            accepted: false,
            listed: false,
            draining: false,
            closing: false,
            gone: false,
            arrived: false,
        }
    }
}

impl Connection {
    /// Whether the client may send another attempt on it.
    pub(super) fn takes_more(&self) -> bool {
        self.phase == Phase::Open && !self.draining && !self.closing && self.streams < self.most
    }

    /// An attempt takes it; to which instance it goes.
    pub(super) const fn take(&mut self) -> u32 {
        self.streams += 1;
        self.arrived = false;
        if self.left < u32::MAX {
            self.left -= 1;
        }
        self.draining |= self.left == 0;
        self.instance
    }

    /// Whether the instance counts it.
    pub(super) const fn is_accepted(&self) -> bool {
        self.accepted
    }

    /// Whether the instance sees no attempt on it.
    fn is_idle_there(&self) -> bool {
        self.streams == 0 || !self.multiplexed && !self.arrived
    }
}

const AGE_SALT: u64 = 0x636f_6e6e_2d61_6765;
const LEAVE_SALT: u64 = 0x636f_6e6e_2d6c_7665;
const GONE_SALT: u64 = 0x636f_6e6e_2d67_6f6e;
const BACKOFF_SALT: u64 = 0x636f_6e6e_2d62_6f66;

/// A handshake without work at the instance: no op.
const NO_WORK: u16 = u16::MAX;

impl<'a> World<'a> {
    fn settings_of(&self, at: u32) -> &'a ConnectionsSpec {
        let outbound = &self.outbounds[self.connections[at].outbound as usize];
        &self.spec.connections[outbound.connections as usize]
    }
}

impl World<'_> {
    /// The client of `from` begins to set a connection up.
    pub(super) fn open_connection(
        &mut self,
        now: Time,
        queue: &mut Queue,
        from: u32,
        host: u32,
        slot: Slot,
        key: Key,
    ) -> Flow {
        let at = self.new_connection(now, from, host, slot, key)?;
        self.counts_of(from).begun += 1;
        let settings = self.settings_of(at);
        let Connection { instance, process, .. } = self.connections[at];
        let mut trips = settings.connect_round_trips;
        if let Some(tls) = settings.tls {
            let (holder, process) = holder(tls.resumption, instance, process);
            let pool = self.pool(from);
            let resumed = tls.resumption != Resumption::None
                && pool.is_some_and(|pool| pool.has_ticket(now, holder, process));
            self.connections[at].resumed = resumed;
            trips += if resumed { tls.resumed_round_trips } else { tls.round_trips };
        }
        self.connections[at].trips = trips;
        if let Some(pool) = self.pool(from) {
            pool.places[host as usize].opening += 1;
        }
        self.arm(queue, at);
        self.next_trip(now, queue, at)
    }

    /// A connection that was there before the run began, at some point of its life.
    pub(super) fn adopt_connection(
        &mut self,
        now: Time,
        queue: &mut Queue,
        from: u32,
        slot: Slot,
        key: Key,
    ) -> Flow {
        let at = self.new_connection(now, from, 0, slot, key)?;
        let settings = self.settings_of(at);
        let connection = &mut self.connections[at];
        connection.accepted = true;
        connection.phase = Phase::Open;
        let instance = connection.instance as usize;
        self.instances[instance].more.connections += 1;
        self.counts_of(from).open.up(now);
        self.draw_ages(now, at, true);
        if let Some(tls) = settings.tls {
            self.give_ticket(now, at, tls.resumption, tls.ticket_lifetime);
        }
        self.list(at);
        self.arm(queue, at);
        Ok(())
    }

    fn new_connection(&mut self, now: Time, from: u32, host: u32, slot: Slot, key: Key) -> Result<u32, Full> {
        let spec = self.spec;
        let service = self.outbounds[from as usize].service as usize;
        let instance = self.services[service].slots[slot.0 as usize];
        let Some(pool) = self.pool(from) else { unreachable!("only pools open connections") };
        let settings = &spec.connections[pool.settings as usize];
        pool.connections += 1;
        pool.places[host as usize].connections += 1;
        if let Some(Front { view, .. }) = &mut pool.front {
            view.active[slot.0 as usize] += 1;
        }
        self.serial += 1;
        let connection = Connection {
            phase: Phase::Opening,
            outbound: from,
            host,
            instance,
            process: self.instances[instance as usize].more.restarts,
            serial: self.serial,
            key: key.0,
            started: now,
            idle_since: now,
            most: settings.streams,
            multiplexed: settings.multiplexed,
            left: settings.max_requests.min(spec.services[service].listener.max_requests),
            ..Connection::default()
        };
        self.connections.insert(connection).ok_or(Full::InFlight)
    }

    /// The next round trip of a set-up, or it stands.
    fn next_trip(&mut self, now: Time, queue: &mut Queue, at: u32) -> Flow {
        let connection = &mut self.connections[at];
        if connection.trip == connection.trips {
            return self.established(now, queue, at);
        }
        connection.trip += 1;
        let (trip, resumed, from) = (connection.trip, connection.resumed, connection.outbound);
        let (instance, key) = (connection.instance, Key(connection.key).with(u64::from(trip)));
        let settings = self.settings_of(at);
        let works = trip == settings.connect_round_trips + 1;
        let work = settings.tls.filter(|_| works);
        let work = work.and_then(|tls| if resumed { tls.resumed_work } else { tls.work });
        let frame = Frame {
            started: now,
            arrived: now,
            key: key.0,
            next: NIL,
            parent: NIL,
            instance,
            outbound: self.wire,
            pc: work.unwrap_or(NO_WORK),
            parent_pc: 0,
            pending: 0,
            need: 0,
            slack: 0,
            flags: AWAITED,
            ring: NO_RING,
            priority: 0,
            zone: self.outbounds[from as usize].zone as u16,
        };
        let slot = self.frames.insert(frame).ok_or(Full::InFlight)?;
        self.put_side(slot, Side { call: WIRE, connection: at, ..Side::EMPTY });
        self.connections[at].frame = slot;
        self.transmit(now, queue, slot)
    }

    /// Whether `slot` is a round trip of a set-up.
    #[inline]
    pub(super) fn is_wire(&self, slot: u32) -> bool {
        self.has_sides && self.sides[slot as usize].call == WIRE
    }

    /// The connection that the attempt `slot` rides on, if its caller still waits for it.
    pub(super) fn ridden(&self, slot: u32) -> Option<u32> {
        if !self.has_sides || !self.frames[slot].has(AWAITED) {
            return None;
        }
        let Side { call, connection, .. } = self.sides[slot as usize];
        (call != WIRE && connection < WAITING).then_some(connection)
    }

    /// What comes by connection reaches its instance; whether that was all.
    pub(super) fn meet(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Result<bool, Full> {
        if self.is_wire(slot) {
            return self.shake_hands(now, queue, slot);
        }
        let Some(at) = self.ridden(slot) else { return Ok(false) };
        let connection = &mut self.connections[at];
        connection.arrived = true;
        let (gone, from) = (connection.gone, connection.outbound);
        if !gone || self.instances[connection.instance as usize].silent {
            return Ok(false);
        }
        let instance = connection.instance;
        self.counts_of(from).stale += 1;
        self.note_too_late(now, instance);
        self.refuse(now, queue, slot, Class::Failure)?;
        Ok(true)
    }

    /// A round trip of a set-up reaches the instance.
    fn shake_hands(&mut self, now: Time, queue: &mut Queue, slot: u32) -> Result<bool, Full> {
        let frame = &self.frames[slot];
        let instance = &self.instances[frame.instance as usize];
        let (awaited, works) = (frame.has(AWAITED), frame.pc != NO_WORK);
        let (ready, silent) = (instance.state == State::Ready, instance.silent);
        if works || !awaited && !silent {
            // Its instance does not know that nobody waits for it.
            if !works {
                self.refuse(now, queue, slot, Class::Failure)?;
            }
            return Ok(!works);
        }
        let service = &self.services[instance.service as usize];
        if !ready {
            if silent {
                self.drop_silently(now, queue, slot);
            } else {
                self.note_too_late(now, self.frames[slot].instance);
                self.refuse(now, queue, slot, Class::Failure)?;
            }
            return Ok(true);
        }
        let at = self.sides[slot as usize].connection;
        if self.connections[at].trip == 1 {
            let free = instance.inside < service.workers && instance.queued == 0;
            if service.drop_when_full && !free && instance.queued >= service.queue {
                self.drop_silently(now, queue, slot);
                return Ok(true);
            }
            if !self.accept(at) {
                self.refuse(now, queue, slot, Class::Rejected)?;
                return Ok(true);
            }
        }
        self.frames[slot].flags |= ENDED;
        self.reply(now, queue, slot, Class::Success)?;
        Ok(true)
    }

    /// The instance takes a connection, unless it has too many.
    fn accept(&mut self, at: u32) -> bool {
        let connection = &mut self.connections[at];
        let instance = &mut self.instances[connection.instance as usize];
        let most = self.spec.services[instance.service as usize].listener.max_connections;
        let accepted = instance.more.connections < most;
        connection.accepted = accepted;
        instance.more.connections += u32::from(accepted);
        accepted
    }

    /// The client hears how a round trip of a set-up ended.
    pub(super) fn on_wire(&mut self, now: Time, queue: &mut Queue, at: u32, class: Class) -> Flow {
        let connection = &mut self.connections[at];
        connection.frame = NIL;
        if connection.phase == Phase::Closed {
            self.free_if_loose(at);
            return Ok(());
        }
        if class == Class::Success {
            return self.next_trip(now, queue, at);
        }
        self.set_up_failed(now, queue, at)
    }

    fn set_up_failed(&mut self, now: Time, queue: &mut Queue, at: u32) -> Flow {
        let Connection { outbound: from, host, started, key, .. } = self.connections[at];
        let &ConnectionsSpec { per_connection, backoff, .. } = self.settings_of(at);
        self.counts_of(from).failed += 1;
        self.close(now, at);
        let unit = Key(key ^ BACKOFF_SALT).draws().unit();
        if let Some(pool) = self.pool(from) {
            pool.failed(host, started, backoff.as_ref(), unit);
        }
        let waits = backoff.is_some_and(|backoff| backoff.wait_for_ready);
        if !waits {
            let most = if per_connection { 1 } else { usize::MAX };
            self.let_down_waiting(now, queue, from, host, most)?;
        }
        self.pump(now, queue, from, host)
    }

    /// A set-up has succeeded.
    fn established(&mut self, now: Time, queue: &mut Queue, at: u32) -> Flow {
        let connection = &mut self.connections[at];
        connection.phase = Phase::Open;
        connection.idle_since = now;
        let Connection { outbound: from, host, started, resumed, .. } = self.connections[at];
        let tls = self.settings_of(at).tls;
        let counted = started >= self.spec.warm_up;
        let counts = self.counts_of(from);
        counts.established += 1;
        counts.open.up(now);
        counts.resumed += u64::from(resumed);
        if counted {
            counts.set_up.add((now - started).0);
        }
        if let Some(pool) = self.pool(from) {
            pool.places[host as usize].opening -= 1;
            pool.succeeded(host);
        }
        if let Some(tls) = tls {
            self.give_ticket(now, at, tls.resumption, tls.ticket_lifetime);
        }
        self.draw_ages(now, at, false);
        self.list(at);
        self.arm(queue, at);
        self.pump(now, queue, from, host)
    }

    fn give_ticket(&mut self, now: Time, at: u32, resumption: Resumption, lifetime: Duration) {
        if resumption == Resumption::None {
            return;
        }
        let Connection { outbound: from, instance, process, .. } = self.connections[at];
        let (holder, process) = holder(resumption, instance, process);
        if let Some(pool) = self.pool(from) {
            pool.keep_ticket(now, holder, process, now + lifetime);
        }
    }

    /// How old it may get on either side; with `aged` a part of that has passed.
    fn draw_ages(&mut self, now: Time, at: u32, aged: bool) {
        let Connection { key, instance, .. } = self.connections[at];
        let service = self.instances[instance as usize].service as usize;
        let draw = |law: &Option<Law>, salt: u64| {
            let mut rng = Key(key ^ salt).draws();
            let Some(law) = law else { return Time::MAX };
            let age = law.sample_duration(&mut rng);
            now + if aged { Duration::from_ns_f64(age.0 as f64 * rng.unit()) } else { age }
        };
        let expires = draw(&self.settings_of(at).max_age, AGE_SALT);
        let leaves = draw(&self.spec.services[service].listener.max_age, LEAVE_SALT);
        let connection = &mut self.connections[at];
        (connection.expires, connection.leaves) = (expires, leaves);
    }

    /// Puts a connection on the list of those that take another attempt, or takes it off.
    pub(super) fn list(&mut self, at: u32) {
        let connection = &mut self.connections[at];
        let (takes, host, from) = (connection.takes_more(), connection.host as usize, connection.outbound);
        if std::mem::replace(&mut connection.listed, takes) == takes {
            return;
        }
        let Some(pool) = self.pool(from) else { return };
        let ready = &mut pool.places[host].ready;
        if takes {
            ready.push(at);
        } else if let Some(place) = ready.iter().rposition(|&other| other == at) {
            ready.remove(place);
        }
    }

    /// An attempt on it has ended, as its caller sees it. The place in the pool where there is room for another one now.
    pub(super) fn stream_over(&mut self, now: Time, queue: &mut Queue, at: u32, class: Class) -> u32 {
        let connection = &mut self.connections[at];
        connection.streams -= 1;
        let host = connection.host;
        if connection.phase == Phase::Closed {
            self.free_if_loose(at);
            return host;
        }
        // That is how the client learns that the other end is gone.
        connection.draining |= connection.gone && class == Class::Failure;
        let Connection { outbound: from, streams, multiplexed, .. } = *connection;
        let unheard = !multiplexed && matches!(class, Class::Timeout | Class::Abandoned);
        let done = connection.closing || connection.draining;
        if unheard || done && streams == 0 {
            self.close(now, at);
            return host;
        }
        if streams == 0 {
            connection.idle_since = now;
            let most = self.settings_of(at).max_idle as usize;
            let place = self.pool(from).map(|pool| &pool.places[host as usize]);
            let enough = place.is_some_and(|place| place.waiting.is_empty() && place.ready.len() >= most);
            if enough && !multiplexed {
                self.close(now, at);
                return host;
            }
        }
        self.list(at);
        self.arm(queue, at);
        host
    }

    /// The client has done with a connection. Attempts that are still on it end in their own way.
    fn close(&mut self, now: Time, at: u32) {
        let connection = &mut self.connections[at];
        let was = std::mem::replace(&mut connection.phase, Phase::Closed);
        let Connection { outbound: from, host, instance, .. } = *connection;
        let counted = std::mem::take(&mut connection.accepted);
        self.list(at);
        let ordinal = self.instances[instance as usize].ordinal as usize;
        if counted {
            self.instances[instance as usize].more.connections -= 1;
        }
        if was == Phase::Open {
            self.counts_of(from).open.down(now);
        }
        if let Some(pool) = self.pool(from) {
            pool.connections -= 1;
            let place = &mut pool.places[host as usize];
            place.connections -= 1;
            place.opening -= u32::from(was == Phase::Opening);
            if let Some(Front { view, .. }) = &mut pool.front {
                view.active[ordinal] -= 1;
            }
        }
        self.free_if_loose(at);
    }

    fn free_if_loose(&mut self, at: u32) {
        let connection = &mut self.connections[at];
        if connection.phase == Phase::Closed && connection.streams == 0 && connection.frame == NIL {
            connection.phase = Phase::Free;
            self.connections.remove(at);
        }
    }

    /// Closes all connections of one calling side.
    pub(super) fn close_all_of(&mut self, now: Time, queue: &mut Queue, from: u32) -> Flow {
        for at in 0..self.connections.slots() {
            let connection = &self.connections[at];
            if connection.outbound == from && matches!(connection.phase, Phase::Opening | Phase::Open) {
                let frame = connection.frame;
                self.close(now, at);
                if frame != NIL {
                    self.hear(now, queue, frame, Class::Abandoned)?;
                }
            }
        }
        Ok(())
    }

    // ---- timers

    /// When something has to be done about a connection.
    fn due(&self, at: u32) -> Time {
        let connection = &self.connections[at];
        let settings = self.settings_of(at);
        match connection.phase {
            Phase::Opening => return connection.started + settings.connect_timeout,
            Phase::Open => {}
            Phase::Free | Phase::Closed => return Time::MAX,
        }
        let mut due = Time::MAX;
        if connection.streams == 0
            && let Some(timeout) = settings.idle_timeout
        {
            due = due.min(connection.idle_since + timeout);
        }
        if !connection.draining {
            due = due.min(connection.expires);
        }
        if !connection.gone {
            due = due.min(self.idle_there_until(at)).min(connection.leaves);
        }
        due
    }

    /// When the instance takes a connection for idle, if it does so now.
    fn idle_there_until(&self, at: u32) -> Time {
        let connection = &self.connections[at];
        let service = self.instances[connection.instance as usize].service as usize;
        match self.spec.services[service].listener.idle_timeout {
            Some(timeout) if connection.is_idle_there() && !connection.draining => {
                connection.idle_since + timeout
            }
            _ => Time::MAX,
        }
    }

    fn arm(&mut self, queue: &mut Queue, at: u32) {
        let due = self.due(at);
        let connection = &mut self.connections[at];
        if due < connection.armed {
            connection.armed = due;
            let tie = Tie { at, serial: connection.serial };
            self.schedule(queue, due, Control::Connection(tie));
        }
    }

    fn find(&self, tie: Tie) -> Option<u32> {
        let connection = &self.connections[tie.at];
        let lives = matches!(connection.phase, Phase::Opening | Phase::Open);
        (lives && connection.serial == tie.serial).then_some(tie.at)
    }

    /// Something may have to be done about a connection.
    pub(super) fn on_connection_due(&mut self, now: Time, queue: &mut Queue, tie: Tie) -> Flow {
        let Some(at) = self.find(tie) else { return Ok(()) };
        let connection = &mut self.connections[at];
        if connection.armed != now {
            return Ok(());
        }
        connection.armed = Time::MAX;
        let Connection { phase, frame, outbound: from, host, started, .. } = *connection;
        let settings = self.settings_of(at);
        if phase == Phase::Opening {
            if started + settings.connect_timeout <= now {
                return self.hear(now, queue, frame, Class::Timeout);
            }
            self.arm(queue, at);
            return Ok(());
        }
        let idle = settings.idle_timeout;
        let connection = &mut self.connections[at];
        connection.draining |= connection.expires <= now;
        let idle = idle.is_some_and(|timeout| connection.idle_since + timeout <= now);
        if connection.streams == 0 && (connection.draining || idle) {
            self.close(now, at);
            return self.pump(now, queue, from, host);
        }
        if !connection.gone {
            if connection.leaves <= now {
                connection.leaves = Time::MAX;
                self.ask_to_leave(now, queue, at);
            } else if self.idle_there_until(at) <= now {
                self.hang_up(now, queue, at);
            }
        }
        self.list(at);
        self.arm(queue, at);
        Ok(())
    }

    // ---- what the instance does

    /// The instance wants a connection to end, without harm to the attempts on it.
    fn ask_to_leave(&mut self, now: Time, queue: &mut Queue, at: u32) {
        let connection = &mut self.connections[at];
        if connection.multiplexed {
            self.tell(now, queue, at, Word::Leave);
        } else if connection.is_idle_there() {
            self.hang_up(now, queue, at);
        } else {
            connection.closing = true;
        }
    }

    /// The instance closes a connection.
    fn hang_up(&mut self, now: Time, queue: &mut Queue, at: u32) {
        let connection = &mut self.connections[at];
        connection.gone = true;
        if std::mem::take(&mut connection.accepted) {
            self.instances[connection.instance as usize].more.connections -= 1;
        }
        self.tell(now, queue, at, Word::Gone);
    }

    /// The client will hear, unless the message gets lost; then it finds out by itself.
    fn tell(&mut self, now: Time, queue: &mut Queue, at: u32, word: Word) {
        let Connection { instance, outbound, key, serial, .. } = self.connections[at];
        let to = self.outbounds[outbound as usize].zone;
        let from = self.instances[instance as usize].more.zone;
        let salt = if word == Word::Gone { GONE_SALT } else { 0 };
        if let Some(delay) = self.word_delay(from, to, key ^ salt) {
            self.schedule(queue, now + delay, Control::Word(Tie { at, serial }, word));
        }
    }

    /// The client hears from the other end.
    pub(super) fn on_word(&mut self, now: Time, queue: &mut Queue, tie: Tie, word: Word) -> Flow {
        let Some(at) = self.find(tie) else { return Ok(()) };
        let connection = &mut self.connections[at];
        if connection.phase == Phase::Opening {
            // The trip under way will tell.
            return Ok(());
        }
        connection.draining = true;
        let Connection { streams, outbound: from, host, .. } = *connection;
        if streams == 0 {
            self.close(now, at);
            return self.pump(now, queue, from, host);
        }
        debug_assert!(word == Word::Gone || connection.multiplexed);
        self.list(at);
        Ok(())
    }

    /// An instance shuts down: idle connections are closed, the others after their present attempts.
    pub(super) fn drain_connections(&mut self, now: Time, queue: &mut Queue, index: u32) {
        for at in 0..self.connections.slots() {
            let connection = &self.connections[at];
            if connection.instance == index && connection.phase == Phase::Open && !connection.gone {
                self.ask_to_leave(now, queue, at);
            }
        }
    }

    /// The process of an instance is gone, and with it the other ends; with `silent` nobody is told.
    pub(super) fn lose_connections(&mut self, now: Time, queue: &mut Queue, index: u32, silent: bool) {
        for at in 0..self.connections.slots() {
            let connection = &mut self.connections[at];
            if connection.instance != index || !matches!(connection.phase, Phase::Opening | Phase::Open) {
                continue;
            }
            let known = std::mem::replace(&mut connection.gone, true);
            connection.accepted = false;
            if !known && !silent {
                self.tell(now, queue, at, Word::Gone);
            }
        }
        self.instances[index as usize].more.connections = 0;
    }
}

/// Who honours a ticket that this process gave.
const fn holder(resumption: Resumption, instance: u32, process: u32) -> (u32, u32) {
    match resumption {
        Resumption::Service => (NIL, 0),
        Resumption::None | Resumption::Instance => (instance, process),
    }
}
