//! The promises of coordinators: a decision once told stays, nothing is asked of who was forgotten, and the same history has the same end.

use simlab::policies::transaction::{
    Command, Decision, MOST_PARTICIPANTS, Record, Reply, Request, Transaction, TransactionSettings,
};
use simlab::random::Key;
use simlab::time::{Duration, Time};

use super::{fold, for_each};

/// Transactions of one run.
const TRANSACTIONS: u32 = 3_000;

#[test]
fn transactions() {
    for_each(TransactionSettings::KINDS, |_, text, settings: &TransactionSettings| {
        let mut rng = Key::new(41).rng();
        let mut digest = 0;
        let mut ends = [0, 0];
        for nth in 0..TRANSACTIONS {
            let participants = 1 + rng.index(u32::from(MOST_PARTICIPANTS)).min(nth % 40) as u8;
            let mut now = Time::from_secs(u64::from(nth) * 1000);
            let mut one = settings.build(now);
            assert_eq!(one.decision(), Some(Decision::Abort), "{text}: what nobody knows has aborted");
            let (mut todo, mut log, mut told) = (Vec::new(), Vec::new(), None);
            one.begin(now, participants, &mut todo);
            let mut steps = 0;
            while let Some(command) = (!todo.is_empty()).then(|| todo.remove(0)) {
                steps += 1;
                assert!(steps < 100_000, "{text}: goes on for ever");
                match command {
                    Command::Send(to, request) => {
                        assert!(to < participants, "{text}: asks somebody who does not take part");
                        let bad = if request == Request::Prepare { 3 } else { 0 };
                        let reply = match rng.index(100) {
                            luck if luck < bad => Reply::Refused,
                            99 => Reply::Silent,
                            _ => Reply::Done,
                        };
                        one.on_reply(now, to, request, reply, &mut todo);
                    }
                    Command::Force(record) => {
                        log.push(record);
                        one.on_logged(now, &mut todo);
                    }
                    Command::Write(record) => log.push(record),
                    Command::Tell(decision) => {
                        assert!(told.is_none(), "{text}: tells twice");
                        told = Some(decision);
                        ends[usize::from(decision == Decision::Commit)] += 1;
                        if decision == Decision::Commit {
                            assert!(
                                log.contains(&Record::Decided(decision)),
                                "{text}: told before it was logged"
                            );
                        }
                    }
                    Command::Stuck(_) => {}
                    Command::Forget => assert!(todo.is_empty(), "{text}: does something after it forgot"),
                }
                if todo.is_empty()
                    && let Some(due) = one.next_wakeup()
                {
                    assert!(due >= now, "{text}: wants to be woken in the past");
                    now = due + Duration(u64::from(rng.index(3)));
                    one.on_wakeup(now, &mut todo);
                }
            }
            assert_eq!(one.decision(), told, "{text}: says something else than it told");
            fold(&mut digest, log.len() as u64 * 4 + u64::from(told == Some(Decision::Commit)));
        }
        assert!(ends.iter().all(|count| *count > 100), "{text}: {ends:?}");
        digest
    });
}
