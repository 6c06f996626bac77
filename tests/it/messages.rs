//! Message queues: what is published is worked off once, or everybody can see what became of it.

use crate::story::{Told, tell};

/// A publisher and its queue; `{topic}` and `{worker}` say more about it and its consumer.
fn jobs(duration: &str, arrivals: &str, topic: &str, worker: &str, more: &str) -> Told {
    tell(
        duration,
        &format!(
            "[[service]]
name = \"api\"
instance = {{ mode = \"async\" }}
[[service.endpoint]]
name = \"post\"
steps = [\"publish jobs\"]

[[service]]
name = \"worker\"
{worker}

[[topic]]
name = \"jobs\"
keys = 1
{topic}

[[source]]
name = \"users\"
to = \"api.post\"
arrivals.deterministic = {{ profile = \"{arrivals}\" }}
{more}"
        ),
    )
}

const ONE_BY_ONE: &str = "consumer = [{ endpoint = \"worker.do\" }]";
const WORKER: &str =
    "instance = { workers = 1 }\n[[service.endpoint]]\nname = \"do\"\nsteps = [\"cpu 200ms\"]";

/// A hundred messages at 0.1, 0.2 .. 10 s, and 200 ms of work for each: message k is taken at 0.1 + 0.2 (k - 1) s, after it has
/// waited for 0.1 (k - 1) s, and the last one is done at 20.1 s. When it comes, 49 are done.
#[test]
fn a_backlog_drains_when_it_should() {
    let told = jobs("30s", "steps(0s: 10/s, 10.05s: 0/s)", ONE_BY_ONE, WORKER, "");
    told.is("topic.jobs.published", 100.0);
    told.is("topic.jobs.consumed", 100.0);
    told.is("topic.jobs.delivered", 100.0);
    told.is("topic.jobs.backlog_max", 51.0);
    told.is("topic.jobs.lag_mean_s", 4.95);
    told.is("topic.jobs.lag_max_s", 9.9);
    for nothing in
        ["redelivered", "doubled", "lost", "dead_lettered", "waiting", "out_of_order", "publish_failed"]
    {
        told.is(&format!("topic.jobs.{nothing}"), 0.0);
    }
    let backlog = told.curve("jobs", "backlog");
    // At 11 s 54 are done; at 20 s one is left.
    assert_eq!((backlog[10], backlog[19], backlog[20]), (46.0, 1.0, 0.0));
    // Publishing takes no time, and nobody waits for the work.
    told.is("latency_mean_ms", 0.0);
    told.is("service.worker.attempts_rps", 100.0 / 30.0);
}

#[test]
fn the_publisher_waits_for_the_broker() {
    let topic = format!("publish = \"7ms\"\n{ONE_BY_ONE}");
    let told = jobs("30s", "steps(0s: 1/s, 3.5s: 0/s)", &topic, WORKER, "");
    told.is("latency_mean_ms", 7.0);
    told.is("topic.jobs.lag_max_s", 0.0);
}

/// Two instances with three hands each take six messages a second; at 2.5 s, in the middle of the second round, one of them dies with
/// three messages in its hands.
#[test]
fn a_crash_doubles_or_loses_what_is_in_work() {
    let worker = "replicas = 2\ninstance = { workers = 8, start = \"20s\" }\n\
                  [[service.endpoint]]\nname = \"do\"\nsteps = [\"wait 1s\"]";
    let crash = "[[fault]]\nat = \"2.5s\"\ncrash = { service = \"worker\", count = 1 }";
    let with = |delivery: &str| {
        let topic = format!(
            "delivery = \"{delivery}\"\nconsumer = [{{ endpoint = \"worker.do\", concurrency = 3 }}]"
        );
        let told = jobs("40s", "steps(0s: 0/s, 1s: 1000/s, 1.0305s: 0/s)", &topic, worker, crash);
        told.is("topic.jobs.published", 30.0);
        ["consumed", "doubled", "redelivered", "lost"].map(|name| told.metric(&format!("topic.jobs.{name}")))
    };
    assert_eq!(with("at-least-once"), [30.0, 3.0, 3.0, 0.0]);
    assert_eq!(with("effectively-once"), [30.0, 0.0, 3.0, 0.0]);
    assert_eq!(with("at-most-once"), [27.0, 0.0, 0.0, 3.0]);
}

/// What is refused comes again after 1, 2 and 4 s, each time with half a second of work; the fourth time is the last.
#[test]
fn a_poisonous_message_is_put_aside() {
    let worker = "instance = { workers = 1 }\n[[service.endpoint]]\nname = \"do\"\nsteps = [\"wait 500ms\"]\n\
                  [[service.version]]\nname = \"v1\"\nerror-rate = \"100%\"";
    let topic = format!("max-deliveries = 4\n{ONE_BY_ONE}");
    let told = jobs("20s", "steps(0s: 1/s, 1.5s: 0/s)", &topic, worker, "");
    assert_eq!(told.times("jobs", "a message is put aside after 4 deliveries"), [10.0]);
    told.is("topic.jobs.dead_lettered", 1.0);
    told.is("topic.jobs.delivered", 4.0);
    told.is("topic.jobs.redelivered", 3.0);
    told.is("topic.jobs.consumed", 0.0);
}

/// Nothing gets through: the broker hears nothing for 2 s, three times.
#[test]
fn what_gets_lost_on_its_way_comes_again() {
    let topic = format!("loss = \"100%\"\nack-timeout = \"2s\"\nmax-deliveries = 3\n{ONE_BY_ONE}");
    let told = jobs("20s", "steps(0s: 1/s, 1.5s: 0/s)", &topic, WORKER, "");
    assert_eq!(told.times("jobs", "a message is put aside after 3 deliveries"), [7.0]);
    told.is("service.worker.attempts_rps", 0.0);
    let topic = format!("loss = \"100%\"\ndelivery = \"at-most-once\"\n{ONE_BY_ONE}");
    let told = jobs("20s", "steps(0s: 1/s, 1.5s: 0/s)", &topic, WORKER, "");
    told.is("topic.jobs.lost", 1.0);
}

/// Work of 3 s is taken for lost after 2 s and done again, while the first goes on.
#[test]
fn slow_work_is_done_twice() {
    let worker = "replicas = 2\ninstance = { workers = 4 }\n[[service.endpoint]]\nname = \"do\"\nsteps = [\"wait 3s\"]";
    let topic = format!("ack-timeout = \"2s\"\nmax-deliveries = 2\n{ONE_BY_ONE}");
    let told = jobs("20s", "steps(0s: 1/s, 1.5s: 0/s)", &topic, worker, "");
    told.is("topic.jobs.redelivered", 1.0);
    told.is("topic.jobs.dead_lettered", 1.0);
    let topic = format!("delivery = \"effectively-once\"\nack-timeout = \"2s\"\n{ONE_BY_ONE}");
    let told = jobs("20s", "steps(0s: 1/s, 1.5s: 0/s)", &topic, worker, "");
    // At 5 s the second delivery is given up on; the first was done at 4 s, and the third does nothing.
    told.is("topic.jobs.redelivered", 1.0);
    told.is("topic.jobs.deduplicated", 2.0);
    told.is("topic.jobs.consumed", 1.0);
    told.is("topic.jobs.doubled", 0.0);
}

/// Four messages of one key, a second each, and two hands.
#[test]
fn a_partition_is_worked_off_one_after_the_other() {
    let worker = "instance = { workers = 4 }\n[[service.endpoint]]\nname = \"do\"\nsteps = [\"wait 1s\"]";
    let with = |order: &str| {
        let topic = format!("{order}\nconsumer = [{{ endpoint = \"worker.do\", concurrency = 2 }}]");
        jobs("20s", "steps(0s: 0/s, 1s: 1000/s, 1.0045s: 0/s)", &topic, worker, "")
    };
    with("order = \"key\"\npartitions = 4").is("topic.jobs.lag_max_s", 2.997);
    with("").is("topic.jobs.lag_max_s", 0.998);
}

/// The hand of the one that dies held the older of two messages: who takes it up comes after the younger one.
#[test]
fn redelivery_breaks_the_order_that_nobody_asked_for() {
    let worker = "replicas = 2\ninstance = { workers = 1, start = \"5s\" }\n\
                  [[service.endpoint]]\nname = \"do\"\nsteps = [\"wait 1s\"]";
    let crash = "[[fault]]\nat = \"1.5s\"\ncrash = { service = \"worker\", count = 1 }";
    let with = |order: &str| {
        let topic = format!("{order}\n{ONE_BY_ONE}");
        jobs("20s", "steps(0s: 0/s, 1s: 1000/s, 1.0025s: 0/s)", &topic, worker, crash)
    };
    with("").is("topic.jobs.out_of_order", 1.0);
    with("order = \"key\"").is("topic.jobs.out_of_order", 0.0);
}

/// One message is in work for ten seconds, two may wait, and two more come.
#[test]
fn a_full_topic() {
    let worker = "instance = { workers = 1 }\n[[service.endpoint]]\nname = \"do\"\nsteps = [\"wait 10s\"]";
    let with = |full: &str| {
        let topic = format!("length = 2\nfull = \"{full}\"\n{ONE_BY_ONE}");
        let told = jobs("60s", "steps(0s: 0/s, 1s: 1000/s, 1.0055s: 0/s)", &topic, worker, "");
        ["published", "publish_failed", "lost", "consumed"]
            .map(|name| told.metric(&format!("topic.jobs.{name}")))
    };
    assert_eq!(with("reject"), [3.0, 2.0, 0.0, 3.0]);
    assert_eq!(with("drop-newest"), [5.0, 0.0, 2.0, 3.0]);
    assert_eq!(with("drop-oldest"), [5.0, 0.0, 2.0, 3.0]);
}

/// Messages at 1, 2 .. 10 s. The topic is stopped at 4.5 s and replayed at 10.5 s from 2.5 s on: 3 and 4 come again, 5 to 10 for
/// the first time.
#[test]
fn a_topic_is_stopped_and_replayed() {
    let worker = "instance = { workers = 1 }\n[[service.endpoint]]\nname = \"do\"\nsteps = [\"wait 10ms\"]";
    let actions = "[[action]]\nat = \"4.5s\"\nstop-topic = { topic = \"jobs\" }\n\
                   [[action]]\nat = \"10.5s\"\nreplay = { topic = \"jobs\", before = \"2s\" }";
    let with = |delivery: &str| {
        let topic = format!("delivery = \"{delivery}\"\n{ONE_BY_ONE}");
        let told = jobs("20s", "steps(0s: 1/s, 10.5s: 0/s)", &topic, worker, actions);
        told.is("topic.jobs.replayed", 2.0);
        told.is("topic.jobs.consumed", 10.0);
        // The window closes before the tenth comes.
        assert_eq!(told.curve("jobs", "backlog")[9], 5.0);
        ["doubled", "deduplicated", "lag_max_s"].map(|name| told.metric(&format!("topic.jobs.{name}")))
    };
    assert_eq!(with("at-least-once"), [2.0, 0.0, 7.5]);
    // What is known is not even sent; 5 comes right after that.
    assert_eq!(with("effectively-once"), [0.0, 2.0, 5.5]);
    let resumed = actions
        .replace("replay = { topic = \"jobs\", before = \"2s\" }", "resume-topic = { topic = \"jobs\" }");
    let told = jobs("20s", "steps(0s: 1/s, 10.5s: 0/s)", ONE_BY_ONE, worker, &resumed);
    told.is("topic.jobs.replayed", 0.0);
    told.is("topic.jobs.doubled", 0.0);
    told.is("topic.jobs.lag_max_s", 5.5);
}

/// A publisher whose own work fails has published all the same; its second try publishes again, under the same name.
#[test]
fn a_retry_publishes_again() {
    let with = |delivery: &str| {
        let text = format!(
            "[[service]]
name = \"api\"
[[service.endpoint]]
name = \"post\"
steps = [\"publish jobs\", \"cpu 1ms\"]
[[service.version]]
name = \"v1\"
error-rate = \"100%\"
[[service]]
name = \"worker\"
{WORKER}
[[topic]]
name = \"jobs\"
delivery = \"{delivery}\"
{ONE_BY_ONE}
[[source]]
name = \"users\"
to = \"api.post\"
arrivals.deterministic = {{ profile = \"steps(0s: 1/s, 3.5s: 0/s)\" }}
[source.call.api]
retry.fixed = {{ attempts = 2, delay = \"0s\" }}
"
        );
        let told = tell("20s", &text);
        ["published", "consumed", "doubled", "deduplicated"]
            .map(|name| told.metric(&format!("topic.jobs.{name}")))
    };
    assert_eq!(with("at-least-once"), [6.0, 6.0, 3.0, 0.0]);
    assert_eq!(with("effectively-once"), [3.0, 3.0, 0.0, 3.0]);
}

/// While the broker is down nothing can be published, and nobody hears that work is done.
#[test]
fn a_broker_is_down() {
    let outage = "[[fault]]\nat = \"2.1s\"\nbroker-outage = { topic = \"jobs\", for = \"3s\" }";
    let topic = format!("ack-timeout = \"1s\"\n{ONE_BY_ONE}");
    let told = jobs("20s", "steps(0s: 1/s, 8.5s: 0/s)", &topic, WORKER, outage);
    // Those of 3, 4 and 5 s; the one of 2 s was being worked on.
    told.is("topic.jobs.publish_failed", 3.0);
    told.is("topic.jobs.published", 5.0);
    told.is("topic.jobs.consumed", 5.0);
    told.is("topic.jobs.doubled", 1.0);
    told.is("failed_ratio", 3.0 / 8.0);
}

/// Everybody who consumes gets every message.
#[test]
fn two_consumers_each_get_all() {
    let worker = format!("{WORKER}\n[[service.endpoint]]\nname = \"count\"\nsteps = [\"cpu 1ms\"]");
    let topic = "consumer = [{ endpoint = \"worker.do\" }, { endpoint = \"worker.count\" }]";
    let told = jobs("30s", "steps(0s: 1/s, 5.5s: 0/s)", topic, &worker, "");
    told.is("topic.jobs.published", 5.0);
    told.is("topic.jobs.consumed", 10.0);
}
