//! Transactions: a coordinator for each that is going on, and what its participants have locked for it.
//!
//! A coordinator lives in the instance whose program began the transaction, and dies with it. The next instance of that service that becomes
//! ready reads the log and goes on. What a participant keeps of its part (that it said yes, and which row it has locked) is in its
//! own log, and survives its instances. Requests go out as errands, over the edges of the coordinator's instance; questions of
//! participants in doubt take no time.

use std::collections::{BTreeMap, VecDeque};

use crate::kernel::queue::Queue;
use crate::policies::transaction::{
    AnyTransaction, Branch, Command, Decision, Part, Record, Reply, Request, Start, Transaction as _,
};
use crate::policies::view::Class;
use crate::random::Key;
use crate::time::{Duration, Time};

use super::call::{Origin, RequestRecord, attempt_tag};
use super::control::Control;
use super::errand::{Errand, Work};
use super::frame::{ENDED, INSIDE, NIL, Task};
use super::hang::Late;
use super::instance::State;
use super::spec::Op;
use super::{Flow, Full, World};

/// Something that is due in a transaction.
#[derive(Clone, Copy, Debug)]
pub(super) enum TransactionEvent {
    /// A record is in the log, if the coordinator still lives that life.
    Logged(Ticket, u32),
    /// The coordinator wanted to be woken.
    Wake(Ticket, u32),
    /// A participant has been in doubt for long.
    Doubt(Ticket, u8),
    /// An attempt that waited for a row has got it.
    Granted(WaitTicket),
    /// An attempt has waited for a row long enough.
    Overdue(WaitTicket),
    /// The instance of a coordinator dies.
    Crash(u32),
}

/// Names a transaction, even after its slot has been reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    at: u32,
    serial: u64,
}

/// Names an attempt that waits, for a row or for the end of its transaction, even after its slot has been reused.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitTicket {
    frame: u32,
    pc: u16,
    started: Time,
}

/// A transaction that is going on.
pub(super) struct Running {
    /// Position in `Spec::transactions`.
    spec: u32,
    serial: u64,
    key: u64,
    origin: RequestRecord,
    priority: u8,
    /// Who waits for it: an attempt at this op.
    frame: u32,
    started: Time,
    pc: u16,
    /// Instance of the coordinator, `NIL` while it is down ...
    home: u32,
    /// ... where it was last ...
    last_home: u32,
    /// ... and how often it has begun anew.
    life: u32,
    service: u32,
    machine: Option<AnyTransaction>,
    /// The coordinator has not forgotten it.
    known: bool,
    log: Vec<Record>,
    forcing: Option<Record>,
    wake: Option<Time>,
    told: Option<Decision>,
    parts: Vec<Share>,
    /// Requests that somebody still refers to.
    errands: u32,
}

/// What one participant has to do with it.
struct Share {
    branch: Branch,
    row: u64,
    locked: bool,
    /// Attempts at its work, waiting for the row or working.
    attempts: u32,
    asked: Time,
    inquiries: u32,
    /// How often it was asked to prepare, commit and abort.
    sent: [u32; 3],
}

/// A row that is locked.
struct Row {
    holder: u32,
    waiting: VecDeque<Waiter>,
}

struct Waiter {
    frame: u32,
    at: u32,
    since: Time,
}

/// What is kept about all transactions of one kind.
pub(super) struct Ledger {
    /// Rows that are locked, by participant.
    rows: Vec<BTreeMap<u64, Row>>,
    /// The next coordinator that is about to decide, or (`true`) has decided, dies.
    armed: Option<bool>,
    begun: u64,
    pub(super) committed: u64,
    aborted: u64,
    recovered: u64,
    in_doubt: u64,
    in_doubt_max: Duration,
    locks: u64,
    waited: u128,
    waited_max: Duration,
    lock_timeouts: u64,
    compensated: u64,
    stuck: u64,
    heuristic: u64,
    damage: u64,
}

/// What comes of a `lock` op.
pub(super) enum Locked {
    /// The program goes on.
    Go,
    /// It waits.
    Wait,
    /// It ends.
    End(Class),
}

const ROW_SALT: u64 = 0x726f_7773_2d73_616c;
const LOG_SALT: u64 = 0x6c6f_6773_2d73_616c;

impl Running {
    fn share(&mut self, participant: u8) -> &mut Share {
        &mut self.parts[usize::from(participant)]
    }
}

impl World<'_> {
    /// Creates what is kept about transactions.
    pub(super) fn build_transactions(&mut self) {
        for spec in &self.spec.transactions {
            self.ledgers.push(Ledger {
                rows: spec.participants.iter().map(|_| BTreeMap::new()).collect(),
                armed: None,
                begun: 0,
                committed: 0,
                aborted: 0,
                recovered: 0,
                in_doubt: 0,
                in_doubt_max: Duration::ZERO,
                locks: 0,
                waited: 0,
                waited_max: Duration::ZERO,
                lock_timeouts: 0,
                compensated: 0,
                stuck: 0,
                heuristic: 0,
                damage: 0,
            });
        }
    }

    fn running(&self, at: u32) -> &Running {
        self.transactions[at].as_deref().expect("a transaction that somebody refers to goes on")
    }

    fn running_mut(&mut self, at: u32) -> &mut Running {
        self.transactions[at].as_deref_mut().expect("a transaction that somebody refers to goes on")
    }

    fn ticket(&self, at: u32) -> Ticket {
        Ticket { at, serial: self.running(at).serial }
    }

    /// Instance in which the coordinator lives, or lived last.
    pub(super) fn coordinator_of(&self, at: u32) -> u32 {
        self.running(at).last_home
    }

    /// The program of `slot` begins a transaction, and waits for its end.
    pub(super) fn begin_transaction(&mut self, now: Time, queue: &mut Queue, slot: u32, kind: u16) -> Flow {
        let spec = &self.spec.transactions[usize::from(kind)];
        let frame = self.frames[slot];
        let key = Key(frame.key ^ self.op_salts[frame.pc as usize]);
        let tag = self.sides[slot as usize].tag;
        let key = key.with(u64::from(tag)).0;
        let machine = spec.how.build(now);
        let part = |(at, one): (u64, &super::spec::ParticipantSpec)| Share {
            branch: machine.branch(),
            row: one.rows.sample(&mut Key(key ^ ROW_SALT).with(at).draws()),
            locked: false,
            attempts: 0,
            asked: Time::ZERO,
            inquiries: 0,
            sent: [0; 3],
        };
        let parts: Vec<Share> = (0..).zip(&spec.participants).map(part).collect();
        let participants = parts.len() as u8;
        let ledger = &mut self.ledgers[usize::from(kind)];
        ledger.begun += 1;
        let serial = u64::from(kind) << 48 | ledger.begun;
        let running = Running {
            spec: u32::from(kind),
            serial,
            key,
            origin: self.origin_of(slot),
            priority: frame.priority,
            frame: slot,
            started: frame.started,
            pc: frame.pc,
            home: frame.instance,
            last_home: frame.instance,
            life: 0,
            service: self.instances[frame.instance as usize].service,
            machine: Some(machine),
            known: true,
            log: Vec::new(),
            forcing: None,
            wake: None,
            told: None,
            parts,
            errands: 0,
        };
        let at = self.transactions.insert(Some(Box::new(running))).ok_or(Full::InFlight)?;
        self.ask_coordinator(now, queue, at, |machine, todo| machine.begin(now, participants, todo))
    }

    /// The coordinator is told something, and what it wants done is done.
    fn ask_coordinator(
        &mut self,
        now: Time,
        queue: &mut Queue,
        at: u32,
        ask: impl FnOnce(&mut AnyTransaction, &mut Vec<Command>),
    ) -> Flow {
        let mut todo = Vec::new();
        let Some(machine) = &mut self.running_mut(at).machine else { return Ok(()) };
        ask(machine, &mut todo);
        let wake = machine.next_wakeup();
        let (ticket, life) = (self.ticket(at), self.running(at).life);
        let running = self.running_mut(at);
        if wake != running.wake {
            running.wake = wake;
            if let Some(wake) = wake {
                let event = TransactionEvent::Wake(ticket, life);
                self.schedule(queue, wake.max(now), Control::Transaction(event));
            }
        }
        self.obey(now, queue, at, &todo)
    }

    fn obey(&mut self, now: Time, queue: &mut Queue, at: u32, todo: &[Command]) -> Flow {
        let ticket = self.ticket(at);
        let (kind, life) = (self.running(at).spec, self.running(at).life);
        let mut tell = None;
        for command in todo {
            if self.running(at).life != life {
                // It died in the middle of it.
                return Ok(());
            }
            match *command {
                Command::Send(participant, what) => self.send_request(now, queue, at, participant, what)?,
                Command::Force(record) => {
                    let running = self.running_mut(at);
                    running.forcing = Some(record);
                    let (home, nth) = (running.home, running.log.len() as u64);
                    let key = Key(running.key ^ LOG_SALT).with(u64::from(life)).with(nth);
                    let armed = &mut self.ledgers[kind as usize].armed;
                    if record == Record::Decided(Decision::Commit) && *armed == Some(false) {
                        *armed = None;
                        self.schedule(queue, now, Control::Transaction(TransactionEvent::Crash(home)));
                    }
                    let takes = self.spec.transactions[kind as usize].log.sample_duration(&mut key.draws());
                    let logged = TransactionEvent::Logged(ticket, life);
                    self.schedule(queue, now + takes, Control::Transaction(logged));
                }
                Command::Write(record) => self.running_mut(at).log.push(record),
                Command::Tell(decision) => tell = Some(decision),
                Command::Stuck(participant) => {
                    self.ledgers[kind as usize].stuck += 1;
                    let spec = &self.spec.transactions[kind as usize];
                    let service = spec.participants[usize::from(participant)].service as usize;
                    let detail = format!("{} did not undo its part", self.spec.services[service].name);
                    self.telemetry.log(now, "transaction", spec.name.clone(), detail);
                }
                Command::Forget => {
                    let running = self.running_mut(at);
                    running.machine = None;
                    running.known = false;
                }
            }
        }
        let forgets = !self.running(at).known;
        let home = self.running(at).home;
        let answer = tell.map(|decision| {
            let running = self.running_mut(at);
            let first = running.told.replace(decision).is_none();
            let client = WaitTicket { frame: running.frame, pc: running.pc, started: running.started };
            (decision, first, client)
        });
        self.forget_if_over(at);
        if let Some((decision, first, ticket)) = answer {
            let ledger = &mut self.ledgers[kind as usize];
            match decision {
                _ if !first => {}
                Decision::Commit => ledger.committed += 1,
                Decision::Abort => ledger.aborted += 1,
            }
            self.tell_client(now, queue, ticket, decision)?;
        }
        if forgets { self.coordinator_done(now, queue, home) } else { Ok(()) }
    }

    /// The program that began a transaction goes on, or fails, if it still waits.
    fn tell_client(&mut self, now: Time, queue: &mut Queue, client: WaitTicket, decision: Decision) -> Flow {
        let WaitTicket { frame, pc, started } = client;
        if frame == NIL {
            return Ok(());
        }
        let state = &self.frames[frame];
        if !state.has(INSIDE) || state.has(ENDED) || state.started != started || state.pc != pc {
            return Ok(());
        }
        if decision == Decision::Commit {
            self.frames[frame].pc += 1;
            return self.go_on(now, queue, frame);
        }
        if self.is_hung(frame) {
            self.frames[frame].pc += 1;
            self.stall(frame, false);
            return Ok(());
        }
        self.network.go_deeper();
        self.finish(now, queue, frame, Class::Failure)?;
        self.network.come_back();
        Ok(())
    }

    /// Whether a coordinator in an instance still has something to do there.
    pub(super) fn coordinates(&self, index: u32) -> bool {
        let here = |at: u32| self.transactions[at].as_ref().is_some_and(|one| one.home == index && one.known);
        (0..self.transactions.slots()).any(here)
    }

    /// A coordinator has nothing more to do; its instance may have waited for that.
    fn coordinator_done(&mut self, now: Time, queue: &mut Queue, home: u32) -> Flow {
        let instance = &self.instances[home as usize];
        if instance.state == State::Draining && instance.inside == 0 && instance.queued == 0 {
            return self.emptied(now, queue, home);
        }
        Ok(())
    }

    /// A request of a coordinator sets out.
    fn send_request(
        &mut self,
        now: Time,
        queue: &mut Queue,
        at: u32,
        participant: u8,
        what: Request,
    ) -> Flow {
        let spec = self.spec;
        let running = self.running_mut(at);
        let Op::Transaction { calls, .. } = &spec.ops[running.pc as usize] else {
            unreachable!("transactions begin at their op")
        };
        let call = calls[usize::from(participant)][what as usize];
        let (home, life, origin, priority) = (running.home, running.life, running.origin, running.priority);
        let key = Key(running.key).with(participant.into()).with(what as u64).0;
        let nth = &mut running.share(participant).sent[what as usize];
        let tag = attempt_tag(0, *nth);
        *nth += 1;
        running.errands += 1;
        let request =
            self.new_errand(now, Work::Request { transaction: at, participant, what, life }, &origin)?;
        let edge = u32::from(spec.calls[call as usize].edge);
        let instance = &self.instances[home as usize];
        let shared = self.services[instance.service as usize].shared_outbound(edge);
        let outbound = shared.unwrap_or(instance.outbounds + edge);
        let origin = Origin { parent: NIL, parent_pc: 0, outbound, request, tag, priority };
        self.place(now, queue, call, key, &origin)
    }

    /// Nobody refers to a request any more.
    pub(super) fn request_gone(&mut self, at: u32) {
        self.running_mut(at).errands -= 1;
        self.forget_if_over(at);
    }

    /// A participant answered, or did not.
    pub(super) fn participant_answered(
        &mut self,
        now: Time,
        queue: &mut Queue,
        errand: &Errand,
        class: Class,
    ) -> Flow {
        let Work::Request { transaction: at, participant, what, life } = errand.work else {
            unreachable!("only requests end so")
        };
        let running = self.running_mut(at);
        if running.life != life {
            // Whoever asked is dead.
            return Ok(());
        }
        let share = running.share(participant);
        let nothing_left = match share.branch.part() {
            Part::Aborted => true,
            Part::Idle => matches!(class, Class::Failure | Class::Rejected) && share.attempts == 0,
            _ => false,
        };
        let reply = match class {
            Class::Success => Reply::Done,
            _ if what == Request::Prepare && nothing_left => Reply::Refused,
            _ => Reply::Silent,
        };
        self.ask_coordinator(now, queue, at, |machine, todo| {
            machine.on_reply(now, participant, what, reply, todo);
        })
    }

    /// Something is due in a transaction.
    pub(super) fn on_transaction(&mut self, now: Time, queue: &mut Queue, event: TransactionEvent) -> Flow {
        match event {
            TransactionEvent::Crash(instance) => self.kill(now, queue, instance, false),
            TransactionEvent::Granted(ticket) => self.on_granted(now, queue, ticket),
            TransactionEvent::Overdue(ticket) => self.on_lock_overdue(now, queue, ticket),
            TransactionEvent::Logged(ticket, life) if self.is_alive(ticket, life) => {
                self.on_logged(now, queue, ticket.at)
            }
            TransactionEvent::Wake(ticket, life) if self.is_alive(ticket, life) => {
                let running = self.running_mut(ticket.at);
                if running.wake.is_none_or(|wake| wake > now) {
                    return Ok(());
                }
                running.wake = None;
                self.ask_coordinator(now, queue, ticket.at, |machine, todo| machine.on_wakeup(now, todo))
            }
            TransactionEvent::Doubt(ticket, participant) if self.goes_on(ticket) => {
                self.on_doubt(now, queue, ticket.at, participant);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn goes_on(&self, ticket: Ticket) -> bool {
        self.transactions[ticket.at].as_ref().is_some_and(|running| running.serial == ticket.serial)
    }

    fn is_alive(&self, ticket: Ticket, life: u32) -> bool {
        self.goes_on(ticket) && self.running(ticket.at).life == life
    }

    fn on_logged(&mut self, now: Time, queue: &mut Queue, at: u32) -> Flow {
        let running = self.running_mut(at);
        let Some(record) = running.forcing.take() else { return Ok(()) };
        running.log.push(record);
        let (kind, home) = (running.spec, running.home);
        let armed = &mut self.ledgers[kind as usize].armed;
        if record == Record::Decided(Decision::Commit) && *armed == Some(true) {
            *armed = None;
            return self.kill(now, queue, home, false);
        }
        self.ask_coordinator(now, queue, at, |machine, todo| machine.on_logged(now, todo))
    }

    /// The next coordinator that decides dies: after that, or before.
    pub(super) fn arm_crash(&mut self, transaction: u32, decided: bool) {
        self.ledgers[transaction as usize].armed = Some(decided);
    }

    /// The coordinators in an instance die with it.
    pub(super) fn lose_coordinators(&mut self, now: Time, index: u32) {
        let mut lost = 0;
        for at in 0..self.transactions.slots() {
            let Some(running) = self.transactions[at].as_deref_mut() else { continue };
            if running.home == index {
                running.home = NIL;
                running.machine = None;
                running.forcing = None;
                running.wake = None;
                running.frame = NIL;
                running.life += 1;
                lost += u32::from(running.known);
            }
        }
        if lost > 0 {
            let instance = &self.instances[index as usize];
            let subject =
                format!("{}-{}", self.spec.services[instance.service as usize].name, instance.ordinal);
            self.telemetry.log(now, "transaction", subject, format!("{lost} lose their coordinator"));
        }
    }

    /// A new instance reads the log of those that are gone.
    pub(super) fn recover_transactions(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let service = self.instances[index as usize].service;
        for at in 0..self.transactions.slots() {
            let Some(running) = self.transactions[at].as_deref_mut() else { continue };
            if running.home != NIL || !running.known || running.service != service {
                continue;
            }
            running.home = index;
            running.last_home = index;
            let (kind, log, participants) = (running.spec, running.log.clone(), running.parts.len() as u8);
            running.machine = Some(self.spec.transactions[kind as usize].how.build(now));
            self.ledgers[kind as usize].recovered += 1;
            self.ask_coordinator(now, queue, at, |machine, todo| {
                machine.recover(now, participants, &log, todo);
            })?;
        }
        Ok(())
    }

    /// Frees a transaction that nobody has anything to do with any more.
    fn forget_if_over(&mut self, at: u32) {
        let running = self.running(at);
        let idle = |share: &Share| !share.branch.holds_locks() && share.attempts == 0 && !share.locked;
        if !running.known && running.errands == 0 && running.parts.iter().all(idle) {
            self.transactions[at] = None;
            self.transactions.remove(at);
        }
    }

    // ---- participants

    /// The work for a transaction is about to begin: it needs its row.
    pub(super) fn lock(&mut self, now: Time, queue: &mut Queue, slot: u32, kind: u16) -> Locked {
        let Work::Request { transaction: at, participant, what: Request::Prepare, .. } = self.work_of(slot)
        else {
            return Locked::Go;
        };
        let running = self.running_mut(at);
        if running.spec != u32::from(kind) {
            return Locked::Go;
        }
        let share = running.share(participant);
        match share.branch.start() {
            Start::Work => {}
            Start::Known => return Locked::End(Class::Success),
            Start::Refuse => return Locked::End(Class::Failure),
        }
        share.attempts += 1;
        let (row, locked) = (share.row, share.locked);
        self.sides[slot as usize].task = Task::Works;
        if locked {
            return Locked::Go;
        }
        let ledger = &mut self.ledgers[usize::from(kind)];
        let rows = &mut ledger.rows[usize::from(participant)];
        if let Some(row) = rows.get_mut(&row) {
            self.sides[slot as usize].task = Task::WaitsForRow;
            row.waiting.push_back(Waiter { frame: slot, at, since: now });
            let timeout =
                self.spec.transactions[usize::from(kind)].participants[usize::from(participant)].lock_timeout;
            if let Some(timeout) = timeout {
                let frame = &self.frames[slot];
                let ticket = WaitTicket { frame: slot, pc: frame.pc, started: frame.started };
                let overdue = TransactionEvent::Overdue(ticket);
                self.schedule(queue, now + timeout, Control::Transaction(overdue));
            }
            return Locked::Wait;
        }
        rows.insert(row, Row { holder: at, waiting: VecDeque::new() });
        ledger.locks += 1;
        self.running_mut(at).share(participant).locked = true;
        Locked::Go
    }

    /// An attempt whose ticket is this waits for a row, or is about to go on with it.
    fn waits_for_row(&self, ticket: WaitTicket) -> bool {
        let frame = &self.frames[ticket.frame];
        frame.has(INSIDE)
            && frame.pc == ticket.pc
            && frame.started == ticket.started
            && self.sides[ticket.frame as usize].task == Task::WaitsForRow
    }

    fn on_granted(&mut self, now: Time, queue: &mut Queue, ticket: WaitTicket) -> Flow {
        if !self.waits_for_row(ticket) {
            return Ok(());
        }
        self.sides[ticket.frame as usize].task = Task::Works;
        self.frames[ticket.frame].pc += 1;
        self.go_on(now, queue, ticket.frame)
    }

    pub(super) fn on_lock_overdue(&mut self, now: Time, queue: &mut Queue, ticket: WaitTicket) -> Flow {
        if !self.waits_for_row(ticket) {
            return Ok(());
        }
        if self.is_hung(ticket.frame) {
            self.postpone(ticket.frame, Late::Row(ticket));
            return Ok(());
        }
        let Work::Request { transaction: at, participant, .. } = self.work_of(ticket.frame) else {
            unreachable!("only requests wait for rows")
        };
        let kind = self.running(at).spec as usize;
        let share = &self.running(at).parts[usize::from(participant)];
        if share.locked {
            // It has just got it.
            return Ok(());
        }
        let row = share.row;
        self.ledgers[kind].lock_timeouts += 1;
        self.leave_row(now, kind, participant, row, ticket.frame);
        self.finish(now, queue, ticket.frame, Class::Failure)
    }

    /// `slot` does not wait for a row any more.
    fn leave_row(&mut self, now: Time, kind: usize, participant: u8, row: u64, slot: u32) {
        let ledger = &mut self.ledgers[kind];
        let Some(row) = ledger.rows[usize::from(participant)].get_mut(&row) else { return };
        if let Some(at) = row.waiting.iter().position(|waiter| waiter.frame == slot) {
            let waited = now - row.waiting[at].since;
            row.waiting.remove(at);
            ledger.locks += 1;
            ledger.waited += u128::from(waited.0);
            ledger.waited_max = ledger.waited_max.max(waited);
        }
    }

    /// A request has been carried out by the program of `slot`. Whether the answer is yes.
    pub(super) fn request_done(
        &mut self,
        now: Time,
        queue: &mut Queue,
        slot: u32,
        at: u32,
        participant: u8,
        what: Request,
    ) -> bool {
        let decision = match what {
            Request::Prepare => {
                let worked = std::mem::take(&mut self.sides[slot as usize].task) != Task::None;
                let share = self.running_mut(at).share(participant);
                share.attempts -= u32::from(worked);
                let before = share.branch.part();
                let yes = share.branch.done(now);
                if before == Part::Working
                    && let Some((due, _)) = share.branch.next_wakeup(Time::ZERO)
                {
                    let doubt = TransactionEvent::Doubt(self.ticket(at), participant);
                    self.schedule(queue, due, Control::Transaction(doubt));
                }
                self.unlock_if_free(now, queue, at, participant);
                return yes;
            }
            Request::Commit => Decision::Commit,
            Request::Abort => Decision::Abort,
        };
        self.decide_branch(now, queue, at, participant, decision);
        true
    }

    /// An attempt at the work of a participant ends without success: it says no, or nobody says anything.
    pub(super) fn attempt_ends(
        &mut self,
        now: Time,
        queue: &mut Queue,
        slot: u32,
        at: u32,
        participant: u8,
        says_no: bool,
    ) {
        let task = std::mem::take(&mut self.sides[slot as usize].task);
        if task == Task::None {
            return;
        }
        let kind = self.running(at).spec as usize;
        let share = self.running_mut(at).share(participant);
        share.attempts -= 1;
        if says_no {
            share.branch.failed();
        } else if share.attempts == 0 {
            share.branch.lost();
        }
        let row = share.row;
        if task == Task::WaitsForRow {
            self.leave_row(now, kind, participant, row, slot);
        }
        self.unlock_if_free(now, queue, at, participant);
    }

    /// A participant learns how it ends.
    fn decide_branch(&mut self, now: Time, queue: &mut Queue, at: u32, participant: u8, decision: Decision) {
        let kind = self.running(at).spec as usize;
        let share = self.running_mut(at).share(participant);
        let (before, damaged) = (share.branch.part(), share.branch.is_damaged());
        let changed = share.branch.decide(decision);
        let damaged = share.branch.is_damaged() && !damaged;
        let ledger = &mut self.ledgers[kind];
        ledger.damage += u64::from(damaged);
        match before {
            Part::InDoubt { since } if changed => ledger.in_doubt_max = ledger.in_doubt_max.max(now - since),
            Part::Committed if changed => ledger.compensated += 1,
            _ => {}
        }
        self.unlock_if_free(now, queue, at, participant);
    }

    /// A participant has been in doubt for long: it asks, or guesses.
    fn on_doubt(&mut self, now: Time, queue: &mut Queue, at: u32, participant: u8) {
        let running = self.running_mut(at);
        let kind = running.spec as usize;
        let known = match &running.machine {
            Some(machine) => machine.decision(),
            None if !running.known => Some(Decision::Abort),
            None => None,
        };
        let share = running.share(participant);
        let Part::InDoubt { since } = share.branch.part() else { return };
        let Some((due, guess)) = share.branch.next_wakeup(share.asked) else { return };
        if due != now {
            return;
        }
        if let Some(guess) = guess {
            share.branch.guess(guess);
            let ledger = &mut self.ledgers[kind];
            ledger.heuristic += 1;
            ledger.in_doubt_max = ledger.in_doubt_max.max(now - since);
            self.unlock_if_free(now, queue, at, participant);
            self.forget_if_over(at);
            return;
        }
        let first = share.inquiries == 0;
        share.inquiries += 1;
        share.asked = now;
        let cooperative = share.branch.is_cooperative();
        self.ledgers[kind].in_doubt += u64::from(first);
        let others = (0_u8..).zip(&mut self.running_mut(at).parts);
        let heard = known.or_else(|| {
            let mut answers = others.filter(|(other, _)| *other != participant);
            if cooperative { answers.find_map(|(_, share)| share.branch.answer()) } else { None }
        });
        if let Some(decision) = heard {
            self.decide_branch(now, queue, at, participant, decision);
            self.forget_if_over(at);
            return;
        }
        let share = self.running_mut(at).share(participant);
        if let Some((due, _)) = share.branch.next_wakeup(share.asked) {
            let doubt = TransactionEvent::Doubt(self.ticket(at), participant);
            self.schedule(queue, due, Control::Transaction(doubt));
        }
    }

    /// A row goes to the next one who waits for it, if its holder needs it no more.
    fn unlock_if_free(&mut self, now: Time, queue: &mut Queue, at: u32, participant: u8) {
        let running = self.running_mut(at);
        let kind = running.spec as usize;
        let share = running.share(participant);
        if !share.locked || share.attempts > 0 || share.branch.holds_locks() {
            return;
        }
        share.locked = false;
        let number = share.row;
        let ledger = &mut self.ledgers[kind];
        let rows = &mut ledger.rows[usize::from(participant)];
        let row = rows.get_mut(&number).expect("a locked row is known");
        assert_eq!(row.holder, at, "INV-39: whoever gives a row back has it");
        let Some(next) = row.waiting.pop_front() else {
            rows.remove(&number);
            return;
        };
        row.holder = next.at;
        let waited = now - next.since;
        ledger.locks += 1;
        ledger.waited += u128::from(waited.0);
        ledger.waited_max = ledger.waited_max.max(waited);
        self.running_mut(next.at).share(participant).locked = true;
        let frame = &self.frames[next.frame];
        let ticket = WaitTicket { frame: next.frame, pc: frame.pc, started: frame.started };
        self.schedule(queue, now, Control::Transaction(TransactionEvent::Granted(ticket)));
    }

    // ---- reports

    /// Metrics of transactions.
    pub(super) fn transaction_metrics(&self, metrics: &mut BTreeMap<String, f64>) {
        for (spec, ledger) in self.spec.transactions.iter().zip(&self.ledgers) {
            let mut put = |name: &str, value: f64| {
                metrics.insert(format!("transaction.{}.{name}", spec.name), value);
            };
            put("begun", ledger.begun as f64);
            put("committed", ledger.committed as f64);
            put("aborted", ledger.aborted as f64);
            put("unfinished", (ledger.begun - ledger.committed - ledger.aborted) as f64);
            put("recovered", ledger.recovered as f64);
            put("in_doubt", ledger.in_doubt as f64);
            put("in_doubt_max_s", ledger.in_doubt_max.as_secs_f64());
            if ledger.locks > 0 {
                put("lock_wait_mean_ms", ledger.waited as f64 / ledger.locks as f64 / 1e6);
            }
            put("lock_wait_max_s", ledger.waited_max.as_secs_f64());
            put("lock_timeouts", ledger.lock_timeouts as f64);
            put("compensated", ledger.compensated as f64);
            put("stuck", ledger.stuck as f64);
            put("heuristic", ledger.heuristic as f64);
            put("heuristic_damage", ledger.damage as f64);
        }
    }

    /// Transactions of one kind that are going on, their participants in doubt, and attempts that wait for a row.
    pub(super) fn transaction_levels(&self, kind: u32) -> [u64; 3] {
        let (mut open, mut in_doubt) = (0, 0);
        for at in 0..self.transactions.slots() {
            let Some(running) = self.transactions[at].as_deref().filter(|one| one.spec == kind) else {
                continue;
            };
            open += u64::from(running.told.is_none());
            let doubts = |share: &&Share| matches!(share.branch.part(), Part::InDoubt { .. });
            in_doubt += running.parts.iter().filter(doubts).count() as u64;
        }
        let rows = self.ledgers[kind as usize].rows.iter().flat_map(BTreeMap::values);
        [open, in_doubt, rows.map(|row| row.waiting.len() as u64).sum()]
    }

    /// INV-39: rows are locked by transactions that go on and need them; who waits for one is there; every transaction is
    /// accounted for.
    pub(super) fn check_transactions(&self) {
        let mut open = vec![0; self.ledgers.len()];
        let mut locked = 0;
        let mut errands = vec![0; self.transactions.slots() as usize];
        for errand in (0..self.errands.slots()).map(|slot| &self.errands[slot]) {
            if let Work::Request { transaction, .. } = errand.work {
                errands[transaction as usize] += 1;
            }
        }
        let mut attempts: BTreeMap<(u32, u8), (u32, u32)> = BTreeMap::new();
        for slot in 0..self.sides.len() as u32 {
            let task = self.sides[slot as usize].task;
            if self.frames[slot].flags != 0
                && let Work::Request { transaction, participant, .. } = self.work_of(slot)
                && task != Task::None
            {
                assert!(self.frames[slot].has(INSIDE), "INV-39: whoever works for a participant is there");
                let (all, waiting) = attempts.entry((transaction, participant)).or_default();
                *all += 1;
                *waiting += u32::from(task == Task::WaitsForRow);
            }
        }
        for at in 0..self.transactions.slots() {
            let Some(running) = self.transactions[at].as_deref() else {
                assert_eq!(errands[at as usize], 0, "INV-39: requests belong to transactions that go on");
                continue;
            };
            assert_eq!(running.errands, errands[at as usize], "INV-39: requests of a transaction");
            let lives = running.known && running.home != NIL;
            assert_eq!(running.machine.is_some(), lives, "INV-39: a coordinator lives in its instance");
            open[running.spec as usize] += u64::from(running.told.is_none());
            for (participant, share) in (0..).zip(&running.parts) {
                let (all, _) = attempts.get(&(at, participant)).copied().unwrap_or_default();
                assert_eq!(share.attempts, all, "INV-39: attempts at the work of a participant");
                let row = self.ledgers[running.spec as usize].rows[usize::from(participant)].get(&share.row);
                let holds = row.is_some_and(|row| row.holder == at);
                assert_eq!(share.locked, holds, "INV-39: who has locked a row holds it");
                let needs = share.attempts > 0 || share.branch.holds_locks();
                assert!(!share.locked || needs, "INV-39: nobody keeps a row for nothing");
                locked += usize::from(share.locked);
            }
        }
        let rows = self.ledgers.iter().flat_map(|ledger| &ledger.rows);
        assert_eq!(rows.map(BTreeMap::len).sum::<usize>(), locked, "INV-39: rows that are locked");
        for (ledger, open) in self.ledgers.iter().zip(open) {
            let ended = ledger.committed + ledger.aborted;
            assert_eq!(ledger.begun, ended + open, "INV-39: every transaction is accounted for");
        }
    }
}
