//! Errands: calls that nobody's program waits for. A broker has a consumer work on a message; a coordinator asks a participant of
//! a transaction for something.
//!
//! An errand has a request record of its own, which every attempt below it carries, and no parent. Whoever sent it hears how
//! it ended by an event of its own, so that nothing is nested in what was going on at its end. What an errand does at its instance
//! counts when its attempt there starts and ends, not when the answer arrives, which may get lost.

use crate::kernel::queue::Queue;
use crate::policies::transaction::Request;
use crate::policies::view::Class;
use crate::time::Time;

use super::call::{Origin, RequestRecord};
use super::control::Control;
use super::frame::{NIL, STARTED, Task};
use super::{Flow, Full, World};

/// What an errand is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Work {
    /// Nothing any more.
    #[default]
    Nothing,
    /// A delivery of a message.
    Delivery {
        /// Topic.
        topic: u32,
        /// Position among its consumers.
        consumer: u32,
        /// Number of the message.
        message: u64,
        /// Where it is worked on.
        instance: u32,
    },
    /// A request of a coordinator.
    Request {
        /// Transaction.
        transaction: u32,
        /// Position among its participants.
        participant: u8,
        /// For what.
        what: Request,
        /// Life of the coordinator that sent it.
        life: u32,
    },
}

/// A call that nobody's program waits for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Errand {
    pub(super) work: Work,
    pub(super) request: u32,
    /// When it was sent.
    pub(super) sent: Time,
    /// Its instance, or the way to it, is gone: nobody knows what came of it.
    pub(super) cut_off: bool,
    /// Whoever sent it has not heard how it ended.
    pub(super) open: bool,
}

impl World<'_> {
    /// A new errand on behalf of the request `origin`; its request record.
    pub(super) fn new_errand(&mut self, now: Time, work: Work, origin: &RequestRecord) -> Result<u32, Full> {
        let errand = self.errands.insert(Errand::default()).ok_or(Full::InFlight)?;
        let RequestRecord { user, source, key, .. } = *origin;
        let record = RequestRecord { refs: 1, user, source, key, errand, ..RequestRecord::default() };
        let request = self.requests.insert(record).ok_or(Full::InFlight)?;
        self.errands[errand] = Errand { work, request, sent: now, cut_off: false, open: true };
        self.trace_nothing(request);
        Ok(request)
    }

    /// The request on whose behalf `slot` works, as far as an errand has to know it.
    pub(super) fn origin_of(&self, slot: u32) -> RequestRecord {
        match self.sides[slot as usize].request {
            NIL => RequestRecord { user: NIL, key: self.frames[slot].key, ..RequestRecord::default() },
            request => self.requests[request],
        }
    }

    /// The errand of which `slot` is an attempt, not one of those below it.
    pub(super) fn errand_of(&self, slot: u32) -> Option<u32> {
        let request = self.sides[slot as usize].request;
        if request == NIL || self.frames[slot].parent != NIL {
            return None;
        }
        Some(self.requests[request].errand).filter(|errand| *errand != NIL)
    }

    /// What `slot` works for.
    pub(super) fn work_of(&self, slot: u32) -> Work {
        self.errand_of(slot).map_or(Work::Nothing, |errand| self.errands[errand].work)
    }

    /// Instance that makes a call, where several share a calling side.
    pub(super) fn caller_of(&self, origin: &Origin) -> u32 {
        match origin.parent {
            NIL => self.home_of(origin.request),
            parent => self.frames[parent].instance,
        }
    }

    /// Where whoever sent the errand of a request sits.
    fn home_of(&self, request: u32) -> u32 {
        match self.errands[self.requests[request].errand].work {
            Work::Delivery { instance, .. } => instance,
            Work::Request { transaction, .. } => self.coordinator_of(transaction),
            Work::Nothing => unreachable!("an errand is for something while its attempts go on"),
        }
    }

    /// The answer to an errand has come back, or nobody waits for it any longer.
    #[cold]
    pub(super) fn errand_answered(&mut self, now: Time, queue: &mut Queue, request: u32, class: Class) {
        let errand = self.requests[request].errand;
        self.schedule(queue, now, Control::Errand(errand, class));
    }

    /// Whoever sent an errand hears how it ended.
    pub(super) fn on_errand(&mut self, now: Time, queue: &mut Queue, at: u32, class: Class) -> Flow {
        let errand = self.errands[at];
        self.errands[at].open = false;
        match errand.work {
            Work::Nothing => {}
            Work::Delivery { .. } => self.delivery_over(now, queue, &errand, class)?,
            Work::Request { .. } => self.participant_answered(now, queue, &errand, class)?,
        }
        self.let_go(errand.request);
        Ok(())
    }

    /// Nothing refers to an errand any more.
    pub(super) fn errand_gone(&mut self, at: u32) {
        let work = std::mem::take(&mut self.errands[at].work);
        self.errands.remove(at);
        if let Work::Request { transaction, .. } = work {
            self.request_gone(transaction);
        }
    }

    /// A worker has taken `slot`.
    pub(super) fn errand_started(&mut self, slot: u32) {
        if let Work::Delivery { topic, consumer, message, .. } = self.work_of(slot) {
            self.sides[slot as usize].task = Task::Works;
            self.message_begun(topic, consumer, message);
        }
    }

    /// The program of `slot` has come to its end. Whether that is a success.
    pub(super) fn errand_done(&mut self, now: Time, queue: &mut Queue, slot: u32) -> bool {
        match self.work_of(slot) {
            Work::Nothing => true,
            Work::Delivery { topic, consumer, message, .. } => {
                self.sides[slot as usize].task = Task::None;
                self.message_worked_off(topic, consumer, message);
                true
            }
            Work::Request { transaction, participant, what, .. } => {
                self.request_done(now, queue, slot, transaction, participant, what)
            }
        }
    }

    /// `slot` ends with an error of its own: what it did is undone.
    pub(super) fn errand_failed(&mut self, now: Time, queue: &mut Queue, slot: u32) {
        match self.work_of(slot) {
            Work::Delivery { topic, consumer, message, .. } if self.frames[slot].has(STARTED) => {
                self.sides[slot as usize].task = Task::None;
                self.message_undone(topic, consumer, message);
            }
            Work::Request { transaction, participant, what: Request::Prepare, .. } => {
                self.attempt_ends(now, queue, slot, transaction, participant, true);
            }
            _ => {}
        }
    }

    /// `slot` leaves its instance, and its program has come to no end.
    pub(super) fn errand_left(&mut self, now: Time, queue: &mut Queue, slot: u32) {
        if let Work::Request { transaction, participant, what: Request::Prepare, .. } = self.work_of(slot) {
            self.attempt_ends(now, queue, slot, transaction, participant, false);
        }
    }

    /// What was inside an instance is lost.
    pub(super) fn lose_errands(&mut self, now: Time, queue: &mut Queue, index: u32, here: &[u32]) {
        for &slot in here {
            self.cut_off(slot);
            self.errand_left(now, queue, slot);
        }
        self.lose_coordinators(now, index);
    }

    /// Nobody will ever know from the answer what came of `slot`.
    pub(super) fn cut_off(&mut self, slot: u32) {
        if let Some(errand) = self.errand_of(slot) {
            self.errands[errand].cut_off = true;
        }
    }

    /// A new instance of a service can be used.
    pub(super) fn errands_resume(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let service = self.instances[index as usize].service;
        self.consumer_came(now, queue, service);
        self.recover_transactions(now, queue, index)
    }
}
