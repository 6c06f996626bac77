//! Message queues and transactions.

use super::Check;
use crate::policies::delivery::Delivery;
use crate::policies::transaction::{MOST_PARTICIPANTS, TransactionSettings};
use crate::random::law::Law;
use crate::scenario::de::Spanned;
use crate::scenario::error::Diagnostic;
use crate::scenario::model::{Consumer, EndpointRef, Participant, Topic, TopicFull, Transaction};
use crate::scenario::schema::{
    ConsumerTable, Count, ParticipantTable, TopicFullWord, TopicOrderWord, TopicTable, TransactionTable,
};
use crate::time::Duration;

/// More keys or rows than this are a slip of the keyboard.
const MOST_KEYS: u64 = 100_000_000;
/// More partitions than this are a slip of the keyboard.
const MOST_PARTITIONS: u64 = 100_000;

/// Where an endpoint stands that does not.
const NOWHERE: EndpointRef = EndpointRef { service: 0, endpoint: 0 };

impl Check<'_> {
    pub(super) fn topic_named(&mut self, name: &Spanned<String>) -> Option<usize> {
        let known = self.names.topics.clone();
        self.lookup("topic", &name.value, name.place, &known)
    }

    pub(super) fn topic(&mut self, table: &TopicTable) -> Topic {
        let second = Duration::from_secs(1);
        let multiplier = table
            .redelivery
            .multiplier
            .as_ref()
            .map_or(2.0, |factor| self.at_least(factor.value, 1.0, "multiplier", factor.place));
        if table.consumer.is_empty() {
            let error = Diagnostic::new(format!("nobody consumes the messages of `{}`", table.name.value));
            let hint = "write consumer = [{ endpoint = \"service.endpoint\" }]";
            self.errors.push(error.at(table.name.place).hint(hint));
        }
        let partitions = self.one_or_more(table.partitions.as_ref(), "partitions", 16);
        if let Some(written) = &table.partitions {
            self.at_most(u64::from(partitions), MOST_PARTITIONS, "partitions", written.place);
            if table.order == TopicOrderWord::None {
                let error = Diagnostic::new("partitions only matter where messages keep an order");
                self.errors.push(error.at(written.place).hint("write order = \"key\""));
            }
        }
        Topic {
            name: table.name.value.clone(),
            publish: self.law_or_zero(table.publish.as_ref()),
            delivery: Delivery {
                guarantee: table.delivery,
                delay: table.redelivery.delay.unwrap_or(second),
                multiplier,
                max_delay: table.redelivery.max.unwrap_or(Duration::from_secs(60)),
                max_deliveries: table.max_deliveries.as_ref().map_or(u32::MAX, |most| {
                    self.some_count(most, "max-deliveries").min(u64::from(u32::MAX)) as u32
                }),
            },
            ack_timeout: table
                .ack_timeout
                .as_ref()
                .map_or(Duration::from_secs(30), |timeout| self.some_time(timeout, "ack-timeout")),
            ordered: table.order == TopicOrderWord::Key,
            partitions,
            keys: self.ranks(table.keys.as_ref(), "keys"),
            zipf: self.exponent(table.zipf.as_ref()),
            length: table.length.as_ref().map_or(u64::MAX, |length| self.some_count(length, "length")),
            full: match table.full {
                TopicFullWord::Reject => TopicFull::Reject,
                TopicFullWord::DropOldest => TopicFull::DropOldest,
                TopicFullWord::DropNewest => TopicFull::DropNewest,
            },
            loss: table.loss.map_or(0.0, |share| share.0),
            retention: table.retention.as_ref().map_or(Duration::from_secs(600), |retention| retention.value),
            consumers: table.consumer.iter().filter_map(|consumer| self.consumer(consumer)).collect(),
        }
    }

    fn consumer(&mut self, table: &ConsumerTable) -> Option<Consumer> {
        let concurrency = self.one_or_more(table.concurrency.as_ref(), "concurrency", 1);
        let endpoint = self.endpoint(&table.endpoint.value, table.endpoint.place)?;
        Some(Consumer { endpoint, concurrency })
    }

    fn some_count(&mut self, count: &Spanned<Count>, name: &str) -> u64 {
        match count.value {
            Count::Unlimited => u64::MAX,
            Count::Of(number) => {
                self.at_least(number as f64, 1.0, name, count.place);
                number
            }
        }
    }

    /// How many keys or rows there are.
    fn ranks(&mut self, written: Option<&Spanned<u64>>, name: &str) -> u64 {
        let Some(ranks) = written else { return 1000 };
        self.at_least(ranks.value as f64, 1.0, name, ranks.place);
        self.at_most(ranks.value, MOST_KEYS, name, ranks.place)
    }

    fn exponent(&mut self, written: Option<&Spanned<f64>>) -> f64 {
        written.map_or(0.0, |zipf| {
            if !(0.0..=20.0).contains(&zipf.value) {
                self.wrong(format!("`zipf` is a number from 0 to 20, and is {}", zipf.value), zipf.place);
            }
            zipf.value
        })
    }

    pub(super) fn transaction(&mut self, table: &TransactionTable) -> Transaction {
        let log = self.law_or_zero(table.log.as_ref());
        let how = table.how.value.clone();
        let participants = &table.participant.value;
        if participants.is_empty() || participants.len() > usize::from(MOST_PARTICIPANTS) {
            let message = format!("a transaction has 1 to {MOST_PARTICIPANTS} participants");
            self.wrong(message, table.participant.place);
        }
        Transaction {
            name: table.name.value.clone(),
            participants: participants.iter().map(|one| self.participant(one, &how)).collect(),
            how,
            log: if log.is_zero() { Law::Constant(0.0) } else { log },
        }
    }

    fn participant(&mut self, table: &ParticipantTable, how: &TransactionSettings) -> Participant {
        let commits = matches!(how, TransactionSettings::TwoPhaseCommit(_));
        if commits && table.commit.is_none() {
            let error =
                Diagnostic::new("two-phase commit asks every participant to commit").at(table.prepare.place);
            self.errors.push(error.hint("write commit = \"service.endpoint\" beside it"));
        }
        let mut own = |name: &Spanned<String>| self.endpoint_of_one(name);
        let prepare = own(&table.prepare).unwrap_or(NOWHERE);
        let commit = table.commit.as_ref().map(|name| own(name).unwrap_or(NOWHERE));
        let abort = own(&table.abort).unwrap_or(NOWHERE);
        for (name, role) in [(table.commit.as_ref(), commit), (Some(&table.abort), Some(abort))] {
            if let (Some(name), Some(role)) = (name, role)
                && role.service != prepare.service
            {
                self.wrong("a participant is one service: this is an endpoint of another", name.place);
            }
        }
        Participant {
            prepare,
            commit: commit.filter(|_| commits),
            abort,
            rows: self.ranks(table.rows.as_ref(), "rows"),
            zipf: self.exponent(table.zipf.as_ref()),
            lock_timeout: table.lock_timeout.as_ref().map(|timeout| self.some_time(timeout, "lock-timeout")),
        }
    }

    /// An endpoint that plays one part in one transaction: its program locks and logs for that.
    fn endpoint_of_one(&mut self, name: &Spanned<String>) -> Option<EndpointRef> {
        let at = self.endpoint(&name.value, name.place)?;
        if self.names.parts.contains(&at) {
            let error = Diagnostic::new(format!("`{}` already has a part in a transaction", name.value));
            self.errors.push(error.at(name.place).hint("give each part an endpoint of its own"));
        }
        self.names.parts.push(at);
        Some(at)
    }
}

/// Endpoints that prepare, commit and abort, by participant.
pub(super) fn roles(transaction: &Transaction) -> Vec<[Option<EndpointRef>; 3]> {
    let of = |one: &Participant| [Some(one.prepare), one.commit, Some(one.abort)];
    transaction.participants.iter().map(of).collect()
}
