//! What a broker does with a message when a delivery of it has ended.
//!
//! The three promises that brokers make. *At most once*: a message is forgotten when it is sent to its consumer. *At least once*: it is
//! sent again until it is acknowledged. *Effectively once*: so it is, and whoever consumes it keeps the message's name together with what
//! it did, so that a second delivery does nothing. A message that its consumer refuses comes again after a pause that grows
//! from time to time; one whose consumer is gone, or says nothing, comes again at once. After so many deliveries it is put aside.
//!
//! From documentation: Amazon SQS (visibility timeout, `maxReceiveCount` and dead-letter queues), `ActiveMQ` (`RedeliveryPolicy`), Kafka's
//! exactly-once semantics.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::time::Duration;

/// What a broker promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    /// A message may be lost, and is never sent twice.
    AtMostOnce,
    /// A message is not lost, and may be worked on twice.
    #[default]
    AtLeastOnce,
    /// A message is not lost, and what it does is done once.
    EffectivelyOnce,
}

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The consumer has acknowledged it.
    Acknowledged,
    /// The consumer said that it could not do it.
    Refused,
    /// The consumer is gone.
    Broken,
    /// Nothing was heard for as long as the broker waits.
    Silent,
}

/// What becomes of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is done with.
    Done,
    /// It is sent again after this pause.
    Again(Duration),
    /// It is put aside, into the dead-letter queue.
    DeadLetter,
    /// It is lost.
    Lost,
}

/// The rules of a topic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delivery {
    /// What is promised.
    pub guarantee: Guarantee,
    /// Pause after the first delivery that was refused.
    pub delay: Duration,
    /// Growth of the pause from one to the next, at least 1.
    pub multiplier: f64,
    /// Longest pause.
    pub max_delay: Duration,
    /// After so many deliveries without success a message is put aside.
    pub max_deliveries: u32,
}

impl Delivery {
    /// What becomes of a message whose delivery number `deliveries` (from 1) has ended.
    pub fn next(&self, deliveries: u32, ended: Ended) -> Next {
        match ended {
            Ended::Acknowledged => Next::Done,
            _ if self.guarantee == Guarantee::AtMostOnce => Next::Lost,
            _ if deliveries >= self.max_deliveries => Next::DeadLetter,
            Ended::Refused => Next::Again(self.pause(deliveries)),
            Ended::Broken | Ended::Silent => Next::Again(Duration::ZERO),
        }
    }

    fn pause(&self, deliveries: u32) -> Duration {
        let mut pause = self.delay.0 as f64;
        for _ in 1..deliveries {
            pause *= self.multiplier;
            if pause >= self.max_delay.0 as f64 {
                return self.max_delay;
            }
        }
        Duration::from_ns_f64(pause).min(self.max_delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn rules(guarantee: Guarantee) -> Delivery {
        Delivery { guarantee, delay: S(1), multiplier: 2.0, max_delay: S(5), max_deliveries: 5 }
    }

    #[test]
    fn pauses_grow_to_a_bound_and_then_the_message_is_put_aside() {
        let rules = rules(Guarantee::AtLeastOnce);
        let all: Vec<Next> = (1..=5).map(|nth| rules.next(nth, Ended::Refused)).collect();
        let pauses = [S(1), S(2), S(4), S(5)].map(Next::Again);
        assert_eq!(all, [pauses.as_slice(), &[Next::DeadLetter]].concat());
    }

    #[test]
    fn who_is_gone_has_refused_nothing() {
        let rules = rules(Guarantee::EffectivelyOnce);
        assert_eq!(rules.next(3, Ended::Broken), Next::Again(Duration::ZERO));
        assert_eq!(rules.next(3, Ended::Silent), Next::Again(Duration::ZERO));
        assert_eq!(rules.next(5, Ended::Silent), Next::DeadLetter);
        assert_eq!(rules.next(9, Ended::Acknowledged), Next::Done);
    }

    #[test]
    fn at_most_once_never_sends_again() {
        let rules = rules(Guarantee::AtMostOnce);
        for ended in [Ended::Refused, Ended::Broken, Ended::Silent] {
            assert_eq!(rules.next(1, ended), Next::Lost);
        }
    }
}
