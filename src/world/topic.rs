//! Message queues: a broker keeps what was published until each consumer has worked it off.
//!
//! The broker hands a message to an instance that is ready and has not its hands full; what comes then is an ordinary attempt at
//! the consumer's endpoint, sent as an errand. What a message does there counts from the start of the work, unless the
//! consumer answers with an error: a consumer that dies in the middle has done what it did. Only where the broker promises
//! *effectively once* it counts at the end, together with the name of the message.
//!
//! Every message is, for every consumer, in exactly one [`State`]; the books hold that (INV-38).

use std::collections::{BTreeMap, VecDeque};

use crate::kernel::queue::Queue;
use crate::policies::delivery::{Ended, Guarantee, Next};
use crate::policies::view::Class;
use crate::random::Key;
use crate::time::{Duration, Time};

use super::call::{RequestRecord, attempt_tag};
use super::control::Control;
use super::errand::{Errand, Work};
use super::frame::{AWAITED, Frame, NIL};
use super::instance::State as Life;
use super::outbound::Outbound;
use super::spec::{NO_RING, TopicFull};
use super::telemetry::Integral;
use super::{Flow, Full, World};

/// Something that is due at a topic.
#[derive(Clone, Copy, Debug)]
pub(super) enum TopicEvent {
    /// A consumer may be able to take a message.
    Pump(u32, u32),
    /// A pause before a message is delivered again is over.
    Due(u32, u32, u64),
    /// A delivery of which nothing will be heard has lasted for as long as the broker waits.
    Silent(u32, u32, u64),
}

/// A message queue while the world runs.
pub(super) struct Topic {
    /// Messages that some consumer has not done with, or that are kept for a replay.
    log: VecDeque<Message>,
    /// Number of the first of them.
    first: u64,
    /// How many of them have which name.
    names: BTreeMap<u64, u32>,
    /// Nothing is delivered.
    stopped: bool,
    stopped_at: Option<Time>,
    /// Broker outages in force.
    outages: u32,
    pub(super) published: u64,
    pub(super) failed: u64,
    /// Published again under a name that the broker knew.
    known: u64,
    pub(super) consumers: Vec<Consumer>,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    /// The same however often its publisher tries.
    name: u64,
    key: u64,
    published: Time,
    origin: RequestRecord,
    priority: u8,
    /// Something under that name had been published before.
    again: bool,
}

/// What has become of a message for one consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// It waits.
    Waiting,
    /// It is being delivered or worked on.
    Out,
    /// It will be delivered again later.
    Paused,
    /// It was worked off.
    Once,
    /// It was worked off, and some work on it was done more than once.
    Doubled,
    /// It was dropped, got lost on its way, or its only delivery failed.
    Lost,
    /// It was put aside.
    Dead,
}

impl State {
    const ALL: usize = 7;

    const fn is_final(self) -> bool {
        matches!(self, Self::Once | Self::Doubled | Self::Lost | Self::Dead)
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    state: State,
    deliveries: u32,
    /// How often its work was done.
    effects: u32,
    /// When it comes again, or is given up on.
    due: Time,
}

/// Who gets the messages of a topic.
pub(super) struct Consumer {
    outbound: u32,
    /// By message, beside the log.
    entries: VecDeque<Entry>,
    /// Messages that wait, by partition; a single one where there is no order.
    lanes: Vec<Lane>,
    /// Lanes from which something can be taken.
    runnable: VecDeque<u32>,
    /// Messages that wait in lanes.
    queued: u64,
    /// Messages in work, by instance.
    in_work: Vec<u32>,
    /// Whose turn it is among the instances.
    cursor: usize,
    /// A look at it is scheduled.
    pumped: bool,
    /// Messages by state.
    states: [u64; State::ALL],
    /// So were those that are no longer kept.
    forgotten: [u64; State::ALL],
    /// Messages that are in no final state.
    pub(super) backlog: Integral,
    backlog_max: u64,
    pub(super) delivered: u64,
    redelivered: u64,
    deduplicated: u64,
    replayed: u64,
    out_of_order: u64,
    lag_sum: u128,
    lag_max: Duration,
    /// Number of the newest message of each key whose work was begun, plus 1.
    newest: BTreeMap<u64, u64>,
}

#[derive(Clone, Debug, Default)]
struct Lane {
    waiting: VecDeque<u64>,
    /// The one before is not done with.
    busy: bool,
    listed: bool,
}

const KEY_SALT: u64 = 0x746f_7069_632d_6b65;
const SHARE_SALT: u64 = 0x746f_7069_632d_7368;
const WAY_SALT: u64 = 0x746f_7069_632d_7761;
const ACK_SALT: u64 = 0x746f_7069_632d_6163;

impl Consumer {
    fn entry(&mut self, first: u64, message: u64) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(message.checked_sub(first)?).ok()?)
    }

    /// Makes a lane known if something can be taken from it.
    fn list(&mut self, lane: u32) {
        let state = &mut self.lanes[lane as usize];
        if !state.busy && !state.listed && !state.waiting.is_empty() {
            state.listed = true;
            self.runnable.push_back(lane);
        }
    }

    fn turn(&mut self, now: Time, first: u64, message: u64, to: State) {
        let entry = self.entry(first, message).expect("what is not done with is kept");
        let before = std::mem::replace(&mut entry.state, to);
        self.states[before as usize] -= 1;
        self.states[to as usize] += 1;
        match (before.is_final(), to.is_final()) {
            (false, true) => self.backlog.down(now),
            (true, false) => self.rise(now),
            _ => {}
        }
    }

    fn rise(&mut self, now: Time) {
        self.backlog.up(now);
        self.backlog_max = self.backlog_max.max(self.backlog.level());
    }
}

impl Topic {
    fn is_silent(&self) -> bool {
        self.stopped || self.outages > 0
    }

    /// How long the oldest message waits that some consumer has not done with.
    pub(super) fn oldest(&self, now: Time) -> Duration {
        let waits = |at: &usize| self.consumers.iter().any(|one| !one.entries[*at].state.is_final());
        let oldest = (0..self.log.len()).find(waits);
        oldest.map_or(Duration::ZERO, |at| now - self.log[at].published)
    }

    /// Forgets what everybody has done with and is not kept for a replay.
    fn trim(&mut self, now: Time, retention: Duration) {
        while let Some(oldest) = self.log.front() {
            let done = |consumer: &Consumer| consumer.entries[0].state.is_final();
            if oldest.published + retention > now || !self.consumers.iter().all(done) {
                return;
            }
            let name = oldest.name;
            if let Some(count) = self.names.get_mut(&name) {
                *count -= 1;
                if *count == 0 {
                    self.names.remove(&name);
                }
            }
            self.log.pop_front();
            self.first += 1;
            for consumer in &mut self.consumers {
                let entry = consumer.entries.pop_front().expect("entries lie beside the log");
                consumer.states[entry.state as usize] -= 1;
                consumer.forgotten[entry.state as usize] += 1;
            }
        }
    }
}

impl World<'_> {
    /// Creates the topics.
    pub(super) fn build_topics(&mut self) {
        for spec in &self.spec.topics {
            let consumers = spec.consumers.iter().map(|consumer| {
                self.outbounds.push(Outbound::of_prober(consumer.service, NIL, Time::ZERO));
                Consumer {
                    outbound: self.outbounds.len() as u32 - 1,
                    entries: VecDeque::new(),
                    lanes: vec![Lane::default(); spec.partitions.max(1) as usize],
                    runnable: VecDeque::new(),
                    queued: 0,
                    in_work: Vec::new(),
                    cursor: 0,
                    pumped: false,
                    states: [0; State::ALL],
                    forgotten: [0; State::ALL],
                    backlog: Integral::default(),
                    backlog_max: 0,
                    delivered: 0,
                    redelivered: 0,
                    deduplicated: 0,
                    replayed: 0,
                    out_of_order: 0,
                    lag_sum: 0,
                    lag_max: Duration::ZERO,
                    newest: BTreeMap::new(),
                }
            });
            let topic = Topic {
                consumers: consumers.collect(),
                log: VecDeque::new(),
                first: 0,
                names: BTreeMap::new(),
                stopped: false,
                stopped_at: None,
                outages: 0,
                published: 0,
                failed: 0,
                known: 0,
            };
            self.topics.push(topic);
        }
    }

    /// A program publishes a message. Whether the broker has it.
    pub(super) fn publish(
        &mut self,
        now: Time,
        queue: &mut Queue,
        slot: u32,
        topic: u16,
        probability: f64,
    ) -> Result<Published, Full> {
        let spec = &self.spec.topics[usize::from(topic)];
        let frame = &self.frames[slot];
        let (name, priority) = (frame.key ^ self.op_salts[frame.pc as usize], frame.priority);
        if probability < 1.0 && Key(name ^ SHARE_SALT).draws().unit() >= probability {
            return Ok(Published::Nothing);
        }
        let origin = self.origin_of(slot);
        let state = &mut self.topics[usize::from(topic)];
        let is_full = |consumer: &Consumer| consumer.queued >= spec.length;
        let rejected = spec.full == TopicFull::Reject && state.consumers.iter().any(is_full);
        if state.outages > 0 || rejected {
            state.failed += 1;
            return Ok(Published::Failed);
        }
        let again = state.names.contains_key(&name);
        if again && spec.delivery.guarantee == Guarantee::EffectivelyOnce {
            state.known += 1;
            return Ok(Published::Done);
        }
        state.trim(now, spec.retention);
        if state.log.len() >= self.spec.limits.in_flight as usize {
            return Err(Full::InFlight);
        }
        let number = state.first + state.log.len() as u64;
        let key = spec.keys.sample(&mut Key(name ^ KEY_SALT).draws());
        *state.names.entry(name).or_default() += 1;
        state.log.push_back(Message { name, key, published: now, origin, priority, again });
        state.published += 1;
        for at in 0..state.consumers.len() {
            let consumer = &mut state.consumers[at];
            let entry = Entry { state: State::Waiting, deliveries: 0, effects: 0, due: Time::MAX };
            consumer.entries.push_back(entry);
            consumer.states[State::Waiting as usize] += 1;
            consumer.rise(now);
            if consumer.queued >= spec.length {
                if spec.full == TopicFull::DropNewest {
                    consumer.turn(now, state.first, number, State::Lost);
                    continue;
                }
                let oldest = |lane: &&mut Lane| lane.waiting.front().copied().unwrap_or(u64::MAX);
                let lane = consumer.lanes.iter_mut().min_by_key(oldest).expect("there is a lane");
                let dropped = lane.waiting.pop_front().expect("a full topic has messages that wait");
                consumer.queued -= 1;
                consumer.turn(now, state.first, dropped, State::Lost);
            }
            let lane = lane_of(spec.partitions, key);
            consumer.lanes[lane as usize].waiting.push_back(number);
            consumer.queued += 1;
            consumer.list(lane);
        }
        self.look_at_topic(now, queue, u32::from(topic));
        Ok(Published::Done)
    }

    /// Consumers of a topic may be able to take something.
    fn look_at_topic(&mut self, now: Time, queue: &mut Queue, topic: u32) {
        for at in 0..self.topics[topic as usize].consumers.len() as u32 {
            self.look_at_consumer(now, queue, topic, at);
        }
    }

    fn look_at_consumer(&mut self, now: Time, queue: &mut Queue, topic: u32, at: u32) {
        let consumer = &mut self.topics[topic as usize].consumers[at as usize];
        if !std::mem::replace(&mut consumer.pumped, true) {
            self.schedule(queue, now, Control::Topic(TopicEvent::Pump(topic, at)));
        }
    }

    /// An instance of a service can take messages.
    pub(super) fn consumer_came(&mut self, now: Time, queue: &mut Queue, service: u32) {
        for topic in 0..self.topics.len() {
            for at in 0..self.spec.topics[topic].consumers.len() {
                if self.spec.topics[topic].consumers[at].service == service {
                    self.look_at_consumer(now, queue, topic as u32, at as u32);
                }
            }
        }
    }

    /// Something is due at a topic.
    pub(super) fn on_topic(&mut self, now: Time, queue: &mut Queue, event: TopicEvent) -> Flow {
        match event {
            TopicEvent::Pump(topic, at) => {
                self.topics[topic as usize].consumers[at as usize].pumped = false;
                self.pump_messages(now, queue, topic, at)
            }
            TopicEvent::Due(topic, at, message) => {
                if self.is_due(now, topic, at, message, State::Paused) {
                    self.put_back(now, queue, topic, at, message);
                }
                Ok(())
            }
            TopicEvent::Silent(topic, at, message) => {
                if self.is_due(now, topic, at, message, State::Out) {
                    self.conclude(now, queue, topic, at, message, Ended::Silent);
                }
                Ok(())
            }
        }
    }

    fn is_due(&mut self, now: Time, topic: u32, at: u32, message: u64, state: State) -> bool {
        let topic = &mut self.topics[topic as usize];
        let entry = topic.consumers[at as usize].entry(topic.first, message);
        entry.is_some_and(|entry| entry.state == state && entry.due == now)
    }

    /// Hands messages to instances, as long as there are some and somebody has a hand free.
    fn pump_messages(&mut self, now: Time, queue: &mut Queue, index: u32, at: u32) -> Flow {
        let once = self.spec.topics[index as usize].delivery.guarantee == Guarantee::EffectivelyOnce;
        let ordered = self.spec.topics[index as usize].partitions > 0;
        loop {
            let topic = &mut self.topics[index as usize];
            if topic.is_silent() {
                return Ok(());
            }
            let consumer = &mut topic.consumers[at as usize];
            let Some(&lane) = consumer.runnable.front() else { return Ok(()) };
            let Some(&message) = consumer.lanes[lane as usize].waiting.front() else {
                consumer.runnable.pop_front();
                consumer.lanes[lane as usize].listed = false;
                continue;
            };
            let entry = consumer.entry(topic.first, message).expect("what waits is kept");
            if once && entry.effects > 0 {
                // Whoever would work on it knows its name.
                consumer.lanes[lane as usize].waiting.pop_front();
                consumer.queued -= 1;
                consumer.deduplicated += 1;
                consumer.turn(now, topic.first, message, State::Once);
                continue;
            }
            let Some(instance) = self.free_hand(index, at) else { return Ok(()) };
            let consumer = &mut self.topics[index as usize].consumers[at as usize];
            let state = &mut consumer.lanes[lane as usize];
            state.waiting.pop_front();
            state.busy = ordered;
            state.listed = false;
            consumer.runnable.pop_front();
            consumer.queued -= 1;
            consumer.list(lane);
            self.deliver(now, queue, index, at, message, instance)?;
        }
    }

    /// An instance that can take another message.
    fn free_hand(&mut self, topic: u32, at: u32) -> Option<u32> {
        let spec = self.spec.topics[topic as usize].consumers[at as usize];
        let consumer = &mut self.topics[topic as usize].consumers[at as usize];
        consumer.in_work.resize(self.instances.len(), 0);
        let living = &self.services[spec.service as usize].living;
        for step in 0..living.len() {
            let place = (consumer.cursor + step) % living.len();
            let index = living[place] as usize;
            let instance = &self.instances[index];
            let ready = instance.state == Life::Ready && instance.more.available && !instance.more.leaving;
            if ready && consumer.in_work[index] < spec.concurrency {
                consumer.cursor = place + 1;
                return Some(index as u32);
            }
        }
        None
    }

    /// A message sets out.
    fn deliver(
        &mut self,
        now: Time,
        queue: &mut Queue,
        index: u32,
        at: u32,
        message: u64,
        instance: u32,
    ) -> Flow {
        let spec = &self.spec.topics[index as usize];
        let topic = &mut self.topics[index as usize];
        let Message { name, published, origin, priority, .. } = topic.log[(message - topic.first) as usize];
        let consumer = &mut topic.consumers[at as usize];
        consumer.turn(now, topic.first, message, State::Out);
        consumer.delivered += 1;
        consumer.lag_sum += u128::from((now - published).0);
        consumer.lag_max = consumer.lag_max.max(now - published);
        let entry = consumer.entry(topic.first, message).expect("what is sent is kept");
        entry.deliveries += 1;
        entry.due = now + spec.ack_timeout;
        let deliveries = entry.deliveries;
        consumer.redelivered += u64::from(deliveries > 1);
        let from = consumer.outbound;
        let key = Key(name).with(u64::from(at)).0;
        if spec.loss > 0.0 && Key(key ^ WAY_SALT).with(deliveries.into()).draws().unit() < spec.loss {
            if spec.delivery.guarantee == Guarantee::AtMostOnce {
                self.conclude(now, queue, index, at, message, Ended::Silent);
            } else {
                let silent = TopicEvent::Silent(index, at, message);
                self.schedule(queue, now + spec.ack_timeout, Control::Topic(silent));
            }
            return Ok(());
        }
        consumer.in_work[instance as usize] += 1;
        let work = Work::Delivery { topic: index, consumer: at, message, instance };
        let request = self.new_errand(now, work, &origin)?;
        let tag = attempt_tag(0, deliveries - 1);
        let frame = Frame {
            started: now,
            arrived: now,
            key,
            next: NIL,
            parent: NIL,
            instance,
            outbound: from,
            pc: spec.consumers[at as usize].entry,
            parent_pc: 0,
            pending: 0,
            need: 0,
            slack: 0,
            flags: AWAITED,
            ring: spec.ring,
            priority,
            // The broker is as near as can be.
            zone: self.instances[instance as usize].more.zone as u16,
        };
        let frame = self.frames.insert(frame).ok_or(Full::InFlight)?;
        let origin =
            super::call::Origin { parent: NIL, parent_pc: 0, outbound: from, request, tag, priority };
        self.note_side(frame, &origin, NIL);
        if self.watching != 0 {
            self.set_out(frame);
        }
        self.outbounds[from as usize].attempts += 1;
        if spec.ring != NO_RING {
            self.rings[spec.ring as usize].arm(now, frame, queue);
        }
        self.transmit(now, queue, frame)
    }

    /// A delivery has come to its end, as far as the broker knows.
    pub(super) fn delivery_over(
        &mut self,
        now: Time,
        queue: &mut Queue,
        errand: &Errand,
        class: Class,
    ) -> Flow {
        let Work::Delivery { topic: index, consumer: at, message, instance } = errand.work else {
            unreachable!("only deliveries end so")
        };
        let spec = &self.spec.topics[index as usize];
        let topic = &mut self.topics[index as usize];
        topic.consumers[at as usize].in_work[instance as usize] -= 1;
        let number = topic.consumers[at as usize].entry(topic.first, message).map(|entry| entry.deliveries);
        let ended = match class {
            Class::Success => Ended::Acknowledged,
            Class::Failure if errand.cut_off => Ended::Broken,
            Class::Failure | Class::Rejected => Ended::Refused,
            Class::Timeout => Ended::Silent,
            Class::Abandoned => Ended::Broken,
        };
        let name = topic.log[(message - topic.first) as usize].name;
        let way = Key(Key(name).with(u64::from(at)).0 ^ ACK_SALT).with(number.unwrap_or(0).into());
        let lost = topic.outages > 0 || spec.loss > 0.0 && way.draws().unit() < spec.loss;
        if ended == Ended::Acknowledged && lost && spec.delivery.guarantee != Guarantee::AtMostOnce {
            // The broker goes on waiting.
            let due = (errand.sent + spec.ack_timeout).max(now);
            self.schedule(queue, due, Control::Topic(TopicEvent::Silent(index, at, message)));
        } else {
            self.conclude(now, queue, index, at, message, ended);
        }
        self.pump_messages(now, queue, index, at)
    }

    /// What becomes of a message whose delivery ended like that.
    fn conclude(&mut self, now: Time, queue: &mut Queue, index: u32, at: u32, message: u64, ended: Ended) {
        let spec = &self.spec.topics[index as usize];
        let topic = &mut self.topics[index as usize];
        let Message { key, again, .. } = topic.log[(message - topic.first) as usize];
        let consumer = &mut topic.consumers[at as usize];
        let Entry { deliveries, effects, .. } =
            *consumer.entry(topic.first, message).expect("what is being worked on is kept");
        let next = match spec.delivery.next(deliveries, ended) {
            Next::Again(Duration::ZERO) => return self.put_back(now, queue, index, at, message),
            Next::Again(pause) => {
                consumer.turn(now, topic.first, message, State::Paused);
                let entry = consumer.entry(topic.first, message).expect("looked at above");
                entry.due = now + pause;
                self.schedule(queue, now + pause, Control::Topic(TopicEvent::Due(index, at, message)));
                return;
            }
            Next::Done if effects > 1 || again => State::Doubled,
            Next::Done => State::Once,
            Next::Lost => State::Lost,
            Next::DeadLetter => State::Dead,
        };
        consumer.turn(now, topic.first, message, next);
        let lane = lane_of(spec.partitions, key);
        consumer.lanes[lane as usize].busy = false;
        consumer.list(lane);
        if next == State::Dead {
            let detail = format!("a message is put aside after {deliveries} deliveries");
            self.telemetry.log(now, "topic", spec.name.clone(), detail);
        }
        self.look_at_consumer(now, queue, index, at);
    }

    /// A message waits again, before all others.
    fn put_back(&mut self, now: Time, queue: &mut Queue, index: u32, at: u32, message: u64) {
        let partitions = self.spec.topics[index as usize].partitions;
        let topic = &mut self.topics[index as usize];
        let lane = lane_of(partitions, topic.log[(message - topic.first) as usize].key);
        let consumer = &mut topic.consumers[at as usize];
        consumer.turn(now, topic.first, message, State::Waiting);
        consumer.queued += 1;
        let state = &mut consumer.lanes[lane as usize];
        state.waiting.push_front(message);
        state.busy = false;
        consumer.list(lane);
        self.look_at_consumer(now, queue, index, at);
    }

    /// The work on a message begins.
    pub(super) fn message_begun(&mut self, topic: u32, at: u32, message: u64) {
        let once = self.spec.topics[topic as usize].delivery.guarantee == Guarantee::EffectivelyOnce;
        let topic = &mut self.topics[topic as usize];
        let consumer = &mut topic.consumers[at as usize];
        // The work of a delivery that was given up on may begin when everybody has forgotten the message.
        let Some(entry) = consumer.entry(topic.first, message) else { return };
        entry.effects += u32::from(!once);
        let key = topic.log[(message - topic.first) as usize].key;
        let newest = consumer.newest.entry(key).or_default();
        if message + 1 < *newest {
            consumer.out_of_order += 1;
        }
        *newest = (*newest).max(message + 1);
    }

    /// The work on a message is done.
    pub(super) fn message_worked_off(&mut self, topic: u32, at: u32, message: u64) {
        let once = self.spec.topics[topic as usize].delivery.guarantee == Guarantee::EffectivelyOnce;
        let topic = &mut self.topics[topic as usize];
        let consumer = &mut topic.consumers[at as usize];
        let Some(entry) = consumer.entry(topic.first, message).filter(|_| once) else { return };
        let known = std::mem::replace(&mut entry.effects, 1) > 0;
        consumer.deduplicated += u64::from(known);
    }

    /// The work on a message was given up, and what it did undone.
    pub(super) fn message_undone(&mut self, topic: u32, at: u32, message: u64) {
        let once = self.spec.topics[topic as usize].delivery.guarantee == Guarantee::EffectivelyOnce;
        let topic = &mut self.topics[topic as usize];
        if let Some(entry) = topic.consumers[at as usize].entry(topic.first, message)
            && !once
        {
            entry.effects -= 1;
        }
    }

    pub(super) fn set_broker_outage(&mut self, now: Time, queue: &mut Queue, topic: u32, on: bool) {
        let outages = &mut self.topics[topic as usize].outages;
        *outages = if on { *outages + 1 } else { outages.saturating_sub(1) };
        if !on {
            self.look_at_topic(now, queue, topic);
        }
    }

    /// An operator stops a topic, or has it go on.
    pub(super) fn forward(&mut self, now: Time, queue: &mut Queue, topic: u32, on: bool) {
        let state = &mut self.topics[topic as usize];
        state.stopped = !on;
        if !on {
            state.stopped_at = Some(now);
        }
        let name = self.spec.topics[topic as usize].name.clone();
        self.telemetry.log(now, "action", name, if on { "delivers again" } else { "stopped" }.to_owned());
        if on {
            self.look_at_topic(now, queue, topic);
        }
    }

    /// Everything since so long before the topic was stopped is delivered again, except what is on its way.
    pub(super) fn replay(&mut self, now: Time, queue: &mut Queue, index: u32, before: Duration) {
        let partitions = self.spec.topics[index as usize].partitions;
        let topic = &mut self.topics[index as usize];
        let since = Time(topic.stopped_at.unwrap_or(now).0.saturating_sub(before.0));
        topic.stopped = false;
        let begin = topic.log.partition_point(|message| message.published < since);
        let mut replayed = 0;
        for consumer in &mut topic.consumers {
            for at in begin..topic.log.len() {
                let message = topic.first + at as u64;
                let entry = &mut consumer.entries[at];
                if matches!(entry.state, State::Waiting | State::Out) {
                    continue;
                }
                entry.deliveries = 0;
                consumer.turn(now, topic.first, message, State::Waiting);
                consumer.replayed += 1;
                consumer.queued += 1;
                replayed += 1;
                let lane = lane_of(partitions, topic.log[at].key);
                consumer.lanes[lane as usize].waiting.push_back(message);
            }
            for lane in 0..consumer.lanes.len() as u32 {
                let state = &mut consumer.lanes[lane as usize];
                state.waiting.make_contiguous().sort_unstable();
                // A message that paused waits with the others now.
                state.busy = false;
            }
            for (entry, message) in consumer.entries.iter().zip(&topic.log) {
                if partitions > 0 && matches!(entry.state, State::Out | State::Paused) {
                    consumer.lanes[lane_of(partitions, message.key) as usize].busy = true;
                }
            }
            for lane in 0..consumer.lanes.len() as u32 {
                consumer.list(lane);
            }
        }
        let name = self.spec.topics[index as usize].name.clone();
        self.telemetry.log(now, "action", name, format!("replays {replayed} messages"));
        self.look_at_topic(now, queue, index);
    }

    /// Metrics of topics.
    pub(super) fn topic_metrics(&self, metrics: &mut BTreeMap<String, f64>, end: Time) {
        for (spec, topic) in self.spec.topics.iter().zip(&self.topics) {
            let mut put = |name: &str, value: f64| {
                metrics.insert(format!("topic.{}.{name}", spec.name), value);
            };
            let consumers = || topic.consumers.iter();
            let sum = |of: fn(&Consumer) -> u64| consumers().map(of).sum::<u64>() as f64;
            let in_state = |state: State| {
                let all = consumers().map(|one| one.states[state as usize] + one.forgotten[state as usize]);
                all.sum::<u64>() as f64
            };
            put("published", topic.published as f64);
            put("publish_failed", topic.failed as f64);
            put("delivered", sum(|one| one.delivered));
            put("redelivered", sum(|one| one.redelivered));
            put("consumed", in_state(State::Once) + in_state(State::Doubled));
            put("doubled", in_state(State::Doubled));
            put("deduplicated", topic.known as f64 + sum(|one| one.deduplicated));
            put("lost", in_state(State::Lost));
            put("dead_lettered", in_state(State::Dead));
            put("waiting", sum(|one| one.backlog.level()));
            put("replayed", sum(|one| one.replayed));
            put("out_of_order", sum(|one| one.out_of_order));
            put("backlog_max", consumers().map(|one| one.backlog_max).max().unwrap_or(0) as f64);
            if end > Time::ZERO {
                let area: u128 = consumers().map(|one| one.backlog.area(end)).sum();
                put("backlog_mean", area as f64 / end.0 as f64);
            }
            let delivered = sum(|one| one.delivered);
            if delivered > 0.0 {
                let lag: u128 = consumers().map(|one| one.lag_sum).sum();
                put("lag_mean_s", lag as f64 / delivered / 1e9);
                let most = consumers().map(|one| one.lag_max).max();
                put("lag_max_s", most.map_or(0.0, Duration::as_secs_f64));
            }
        }
    }

    /// INV-38: every message is, for every consumer, in one state, and whoever works on one has it.
    pub(super) fn check_topics(&self) {
        let mut in_work: BTreeMap<(u32, u32, u32), u32> = BTreeMap::new();
        for errand in (0..self.errands.slots()).map(|slot| &self.errands[slot]) {
            if let Work::Delivery { topic, consumer, instance, .. } = errand.work
                && errand.open
            {
                *in_work.entry((topic, consumer, instance)).or_default() += 1;
            }
        }
        for (index, topic) in (0..).zip(&self.topics) {
            for (at, consumer) in (0..).zip(&topic.consumers) {
                let mut states = [0; State::ALL];
                consumer.entries.iter().for_each(|entry| states[entry.state as usize] += 1);
                assert_eq!(consumer.states, states, "INV-38: messages by state");
                let all: u64 = states.iter().chain(&consumer.forgotten).sum();
                assert_eq!(topic.published, all, "INV-38: every message is accounted for");
                let queued: usize = consumer.lanes.iter().map(|lane| lane.waiting.len()).sum();
                assert_eq!(consumer.queued, queued as u64, "INV-38: messages in lanes");
                assert_eq!(states[State::Waiting as usize], consumer.queued, "INV-38: messages that wait");
                let open: u64 =
                    [State::Waiting, State::Out, State::Paused].map(|at| states[at as usize]).iter().sum();
                assert_eq!(consumer.backlog.level(), open, "INV-38: the backlog");
                for (instance, count) in (0..).zip(&consumer.in_work) {
                    let found = in_work.get(&(index, at, instance)).copied().unwrap_or(0);
                    assert_eq!(*count, found, "INV-38: messages that an instance works on");
                }
            }
        }
    }
}

/// What came of publishing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// This request publishes nothing.
    Nothing,
    /// The broker has the message.
    Done,
    /// It does not.
    Failed,
}

/// Where the messages of a key stand.
fn lane_of(partitions: u32, key: u64) -> u32 {
    if partitions == 0 { 0 } else { (Key(key).with(0).0 % u64::from(partitions)) as u32 }
}
