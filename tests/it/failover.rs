//! Groups that lose their leader, in stories that can be followed on paper.

use crate::story::{Told, tell, tell_from};

/// Three members, one writer at 100/s and one reader at 100/s; `group` and `rest` say more.
fn store(group: &str, rest: &str) -> String {
    format!(
        "[[node-pool]]\nname = \"racks\"\nnodes = 3\ncores = 4\nmemory = \"16GiB\"\nzones = [\"a\", \"b\", \"c\"]\n\
         [[service]]\nname = \"store\"\nreplicas = 3\nanti-affinity = \"zone\"\n\
         instance = {{ cores = 2, mode = \"async\", max-in-flight = 5000, start = \"30s\" }}\n\
         [[service.endpoint]]\nname = \"put\"\nsteps = [\"cpu 1ms\"]\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 1ms\"]\n\
         [service.group]\nwrites = [\"put\"]\n{group}\n\
         [[source]]\nname = \"writer\"\nto = \"store.put\"\nzone = \"b\"\ndeadline = \"60s\"\n\
         arrivals.deterministic = {{ rate = \"100/s\" }}\n\
         [[source]]\nname = \"reader\"\nto = \"store.get\"\nzone = \"b\"\ndeadline = \"60s\"\n\
         arrivals.deterministic = {{ rate = \"100/s\" }}\n\
         [network]\ncross-zone = \"0ms\"\n{rest}"
    )
}

const CRASH: &str = "[[fault]]\nat = \"2min\"\ncrash = { service = \"store\", count = 1 }\n";
/// The first data centre on its own for two minutes.
const CUT: &str = "[[fault]]\nat = \"2min\"\npartition = { between = [\"a\", \"b\"], for = \"2min\" }\n\
                   [[fault]]\nat = \"2min\"\npartition = { between = [\"a\", \"c\"], for = \"2min\" }\n";

/// When somebody was elected after the first.
fn elected(told: &Told) -> Vec<f64> {
    let elections = told.decisions("election").into_iter().filter(|line| line.3 == "it was elected");
    elections.map(|line| line.0).skip(1).collect()
}

#[test]
fn a_crash_under_the_lease_is_an_outage_of_the_lease_and_two_retries() {
    let group = "election.lease = {}\nreplication = { mode = \"asynchronous\", lag = \"55ms\" }\nblocking-window = \"30s\"";
    let told = tell_from("1min", "4min", &store(group, CRASH));
    let [back] = elected(&told)[..] else { panic!("{:?}", told.decisions("election")) };
    let outage = back - 120.0;
    assert!((13.0..=15.0 + 4.4 + 4.4).contains(&outage), "{outage}");
    let leaderless = told.metric("group.store.leaderless_s");
    assert!((leaderless - outage).abs() < 1e-9, "{leaderless} {outage}");
    // All writes of the outage were held, the window is longer than that, and the new leader got them.
    told.is("group.store.failed_writes", 0.0);
    let blocked = told.metric("group.store.blocked_writes");
    assert!((blocked - outage * 100.0).abs() <= 1.0, "{blocked} {outage}");
    // One every 10 ms, and each needs 55 ms: five were acknowledged and under way.
    told.is("group.store.lost_writes", 5.0);
    told.is("group.store.split_brain_s", 0.0);
    // What was inside when it crashed is what failed.
    assert!(told.metric("availability") > 0.9998);
}

#[test]
fn a_window_that_is_too_short_fails_what_it_held() {
    let group = "election.lease = {}\nreplication = { mode = \"asynchronous\" }\nblocking-window = \"5s\"";
    let told = tell_from("1min", "4min", &store(group, CRASH));
    let [back] = elected(&told)[..] else { panic!("{:?}", told.decisions("election")) };
    // All that came earlier than 5 s before the new leader.
    let failed = told.metric("group.store.failed_writes");
    assert!((failed - (back - 125.0) * 100.0).abs() <= 1.5, "{failed} {back}");
    told.is("group.store.lost_writes", 0.0);
}

/// Each data centre is lost or cut off in turn, so the leader is struck, wherever it sits.
#[test]
fn a_quorum_loses_nothing() {
    let lost = |zone: &str| {
        format!("[[fault]]\nat = \"2min\"\nzone-loss = {{ zone = \"{zone}\", for = \"2min\" }}\n")
    };
    let cut = |zone: &str| {
        let others = ["a", "b", "c"].into_iter().filter(|other| *other != zone);
        let ways = others.map(|other| {
            format!("[[fault]]\nat = \"2min\"\npartition = {{ between = [\"{zone}\", \"{other}\"], for = \"2min\" }}\n")
        });
        ways.collect::<Vec<_>>().concat()
    };
    // How long nobody leads at most, once the leader is struck: the lease and two retries; etcd's election timeout of one to two
    // seconds; a heartbeat that is missed for a period, and a vote.
    for (election, at_most) in [("lease", 23.8), ("raft", 2.5), ("majority-vote", 6.0)] {
        let group = format!(
            "election.{election} = {{}}\nreplication = {{ mode = \"quorum\", lag = \"55ms\" }}\nblocking-window = \"30s\""
        );
        let mut struck = 0;
        for zone in ["a", "b", "c"] {
            for fault in [lost(zone), cut(zone)] {
                let told = tell_from("1min", "6min", &store(&group, &fault));
                told.is("group.store.lost_writes", 0.0);
                told.is("group.store.double_leader_writes", 0.0);
                if let Some(back) = elected(&told).into_iter().find(|at| *at >= 120.0) {
                    assert!(
                        back - 120.0 <= at_most,
                        "{election}: {zone} is struck, and nobody leads until {back}"
                    );
                    struck += 1;
                }
            }
        }
        assert!(struck >= 1, "{election}: nobody struck the leader");
    }
}

#[test]
fn who_is_asked_to_stop_hands_over_within_a_retry() {
    let roll = "[[service.version]]\nname = \"v1\"\n[[service.version]]\nname = \"v2\"\n";
    let with = |release: bool| {
        let group = format!(
            "election.lease = {{ release-on-cancel = {release} }}\nreplication = {{ mode = \"synchronous\" }}\n\
             blocking-window = \"30s\"\n{roll}"
        );
        let rollout = "[[rollout]]\nat = \"2min\"\nservice = \"store\"\nto = \"v2\"\n\
                       rolling = { max-surge = 0, max-unavailable = 1 }\n";
        let told = tell_from("1min", "8min", &store(&group, rollout));
        told.is("group.store.lost_writes", 0.0);
        told.is("service.store.rollouts_completed", 1.0);
        told.metric("group.store.leaderless_s") / told.metric("group.store.elections")
    };
    assert!(with(true) <= 4.4);
    assert!(with(false) > 10.0);
}

#[test]
fn the_minority_steps_down_where_somebody_counts() {
    // The lock sits in zone c, so a leader in a cannot renew: the last renewal is at most 2 s old, and then it has 10 s.
    let group = "election.lease = {}\nlock-zone = \"c\"\nreplication = { mode = \"asynchronous\" }";
    let told = tell_from("1min", "6min", &store(group, CUT));
    let ended = told.decisions("election").into_iter().find(|line| line.3 == "it no longer leads").unwrap().0;
    assert!((130.0..=132.0).contains(&ended), "{ended}");
    told.is("group.store.split_brain_s", 0.0);
    // Nobody counts: from the election on the other side until both meet again.
    let group = "election.manual = {}\nreplication = { mode = \"asynchronous\" }";
    let promote = format!("{CUT}[[action]]\nat = \"3min\"\npromote = {{ service = \"store\" }}\n");
    let told = tell_from("1min", "6min", &store(group, &promote));
    let double = told.metric("group.store.split_brain_s");
    assert!((60.0..=61.0).contains(&double), "{double}");
}

#[test]
fn an_operator_promotes_only_who_has_caught_up() {
    let group = "election.manual = {}\nreplication = { mode = \"quorum\" }\nsync-rate = \"100/s\"";
    // At two minutes seat 2 is lost, is back at 2:30 with 3000 writes to get, and would be behind for long.
    let story = "[[fault]]\nat = \"2min\"\nzone-loss = { zone = \"c\", for = \"20s\" }\n\
                 [[action]]\nat = \"170s\"\npromote = { service = \"store\", seat = 2 }\n\
                 [[action]]\nat = \"180s\"\npromote = { service = \"store\", seat = 1 }\n";
    let told = tell_from("1min", "4min", &store(group, story));
    told.is("group.store.promotions_refused", 1.0);
    assert_eq!(elected(&told), [180.0]);
}

#[test]
fn a_backup_loses_what_came_after_it() {
    let group = "election.manual = {}\nreplication = { mode = \"quorum\" }\nsync-rate = \"1k/s\"";
    let restore = "[[action]]\nat = \"3min\"\n\
                   restore = { service = \"store\", backup-age = \"90s\", log-age = \"30s\", takes = \"20s\" }\n";
    let told = tell("5min", &store(group, restore));
    // 30 s of writes are lost, give or take the second in which the log is noted; a minute of writes is written again in 6 s.
    let lost = told.metric("group.store.lost_writes");
    assert!((3000.0..=3101.0).contains(&lost), "{lost}");
    let leaderless = told.metric("group.store.leaderless_s");
    assert!((25.9..=26.2).contains(&leaderless), "{leaderless}");
}

#[test]
fn a_member_that_lags_answers_stale_reads() {
    let reads = |lag: &str| {
        let group = format!(
            "election.manual = {{}}\nreads = \"any\"\nreplication = {{ mode = \"asynchronous\", lag = \"{lag}\" }}"
        );
        let told = tell_from("1min", "3min", &store(&group, ""));
        told.metric("group.store.stale_read_ratio")
    };
    // Writes are acknowledged every 10 ms: a member that is 20 ms behind always lacks one, one that is not behind never does.
    assert!((reads("20ms") - 2.0 / 3.0).abs() < 0.03);
    assert!(reads("0ms") < 1e-9);
}
