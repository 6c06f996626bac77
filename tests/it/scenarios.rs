//! What the world does, one story at a time, against figures worked out by hand.

#![expect(clippy::manual_midpoint, reason = "a mean of two figures worked out by hand reads best as such")]

use crate::story::{tell, tell_from};

/// One request at 10 s (and only that one, if the run ends before 20 s).
const ONE_AT_10: &str =
    "[[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.deterministic = { rate = \"0.1/s\" }\n";

/// Requests at 1 s, 2 s, 3 s ...
const EVERY_SECOND: &str =
    "[[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.deterministic = { rate = \"1/s\" }\n";

/// A service `api` with one endpoint.
fn api(instance: &str, steps: &str) -> String {
    format!(
        "[[service]]\nname = \"api\"\ninstance = {{ {instance} }}\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [{steps}]\n"
    )
}

mod calls {
    use super::*;

    #[test]
    fn a_timed_out_attempt_goes_on_as_a_zombie_unless_it_is_cancelled() {
        let scenario = |edge: &str| {
            format!(
                "{}{ONE_AT_10}[source.call.api]\ntimeout = \"200ms\"\n{edge}",
                api("cores = 1", "\"cpu 1s\"")
            )
        };
        let zombie = tell("15s", &scenario(""));
        zombie.is("timeout_ratio", 1.0);
        zombie.is("service.api.sojourn_mean_ms", 1000.0);
        zombie.is("service.api.utilization", 1.0 / 15.0);
        let cancelled = tell("15s", &scenario("cancel = true"));
        cancelled.is("timeout_ratio", 1.0);
        cancelled.is("service.api.sojourn_mean_ms", 200.0);
        cancelled.is("service.api.utilization", 0.2 / 15.0);
        cancelled.is("wasted_work_ratio", 1.0);
    }

    #[test]
    fn cancelling_reaches_everything_below() {
        let below = "[[service]]\nname = \"db\"\ninstance = { cores = 1 }\n\
                     [[service.endpoint]]\nname = \"query\"\nsteps = [\"cpu 1s\"]\n";
        let front = api("cores = 1", "\"call db.query\"");
        let edge = "[source.call.api]\ntimeout = \"200ms\"\ncancel = true\n";
        let told = tell("15s", &format!("{below}{front}{ONE_AT_10}{edge}"));
        told.is("service.db.utilization", 0.2 / 15.0);
        let deadline = "deadline = \"300ms\"\npropagate-deadline = true\n";
        let told = tell("15s", &format!("{below}{front}{ONE_AT_10}{deadline}"));
        told.is("service.db.utilization", 0.3 / 15.0);
        let told = tell("15s", &format!("{below}{front}{ONE_AT_10}deadline = \"300ms\"\n"));
        told.is("timeout_ratio", 1.0);
        told.is("service.db.utilization", 1.0 / 15.0);
    }

    #[test]
    fn retries_obey_attempts_and_backoff() {
        let edge = "[source.call.api]\nretry.fixed = { attempts = 3, delay = \"100ms\" }\n";
        let fault = "[[fault]]\nat = \"0s\"\noutage = { service = \"api\" }\n";
        let told = tell("15s", &format!("{}{ONE_AT_10}{edge}{fault}", api("cores = 1", "\"cpu 1s\"")));
        told.is("service.api.attempts_per_call", 3.0);
        told.is("rejected_ratio", 1.0);
        // Two delays of 100 ms are all the time it took.
        told.is("in_system_mean", 0.2 / 15.0);
        assert!(!told.metrics().contains_key("latency_mean_ms"), "nothing good, so no latency (INV-23)");
    }

    #[test]
    fn a_budget_bounds_the_retries() {
        let edge = "[source.call.api]\nretry.fixed = { attempts = 4, delay = \"1ms\" }\n\
                    retry-budget.tower = { min-per-sec = 0, retry-percent = \"20%\" }\n";
        let source = EVERY_SECOND.replace("1/s", "50/s");
        let fault = "[[fault]]\nat = \"0s\"\noutage = { service = \"api\" }\n";
        let told = tell("60s", &format!("{}{source}{edge}{fault}", api("cores = 1", "\"cpu 1ms\"")));
        let attempts = told.metric("service.api.attempts_per_call");
        assert!((1.19..=1.2).contains(&attempts), "{attempts}");
    }

    #[test]
    fn a_breaker_opens_probes_and_closes() {
        let edge = "[source.call.api]\nbreaker.seed = {}\n";
        let source = EVERY_SECOND.replace("1/s", "2/s");
        let fault = "[[fault]]\nat = \"0s\"\noutage = { service = \"api\", for = \"40s\" }\n";
        let told = tell("80s", &format!("{}{source}{edge}{fault}", api("cores = 1", "\"cpu 1ms\"")));
        let changes = told.decisions("breaker");
        let seen: Vec<(f64, &str)> = changes.iter().map(|(at, .., reason)| (*at, reason.as_str())).collect();
        // Errors at 0.5, 1, 1.5, 2 and 2.5 s; 30 s later one probe, into the outage; 30 s later one that succeeds.
        let expected =
            [(2.5, "open"), (32.5, "half-open"), (32.5, "open"), (62.5, "half-open"), (62.501, "closed")];
        assert_eq!(seen, expected);
        // Six attempts reached the outage; all from 62.5 s on were good, but those that found the probe out: none.
        told.is("availability", 35.0 / 159.0);
        assert_eq!(told.curve("api", "breakers_open")[30], 1.0);
    }

    #[test]
    fn a_bulkhead_lets_in_what_it_says() {
        let edge = "[source.call.api]\nlimiter.bulkhead = { max-concurrent = 2 }\n";
        let service = api("cores = 4, workers = 8", "\"cpu 3500ms\"");
        let told = tell("8500ms", &format!("{service}{EVERY_SECOND}{edge}"));
        // 1 and 2 pass, 3 and 4 do not, 5 follows 1 (until 4.5), 6 follows 2 (until 5.5), 7 and 8 do not.
        told.is("rejected_ratio", 0.5);
        told.is("latency_mean_ms", 3500.0);
    }
}

mod queues {
    use super::*;

    #[test]
    fn a_full_queue_rejects_or_drops() {
        let scenario = |full: &str| {
            format!(
                "{}{EVERY_SECOND}",
                api(&format!("workers = 1, queue = 0, full = \"{full}\""), "\"cpu 2500ms\"")
            )
        };
        let rejecting = tell("2500ms", &scenario("reject"));
        rejecting.is("rejected_ratio", 0.5);
        rejecting.is("latency_mean_ms", 2500.0);
        // The one at 2 s knocks again at 3 s, in vain, and at 5 s, when the first has left.
        let dropping = tell("2500ms", &scenario("drop"));
        dropping.is("availability", 1.0);
        dropping.is("latency_mean_ms", (2500.0 + 5500.0) / 2.0);
    }

    #[test]
    fn the_transport_gives_up_after_127_seconds() {
        let service = api("workers = 1, queue = 0, full = \"drop\"", "\"wait 200s\"");
        let source = EVERY_SECOND.replace("rate = \"1/s\"", "profile = \"steps(0s: 1/s, 2500ms: 0/s)\"");
        let told = tell("300s", &format!("{service}{source}"));
        told.is("failed_ratio", 0.5);
        told.is("in_system_mean", (200.0 + 127.0) / 300.0);
        told.is("service.api.refused_ratio", 0.5);
    }

    #[test]
    fn a_caller_that_gave_up_does_not_knock_again() {
        let service = api("workers = 1, queue = 0, full = \"drop\"", "\"cpu 1500ms\"");
        let edge = "[source.call.api]\ntimeout = \"1600ms\"\n";
        let told = tell("2500ms", &format!("{service}{EVERY_SECOND}{edge}"));
        // At 3 s the second knocks and is let in; its caller hears nothing before 3.6 s.
        told.is("timeout_ratio", 0.5);
        let told = tell("2500ms", &format!("{service}{EVERY_SECOND}{}", edge.replace("1600", "900")));
        // Both time out. The second is gone before it knocks again, so one zombie is all the work there is.
        told.is("timeout_ratio", 1.0);
        told.is("service.api.refused_ratio", 0.5);
    }

    #[test]
    fn first_come_last_come_and_rank() {
        let scenario =
            |order: &str| format!("{}{EVERY_SECOND}", api(&format!("order = \"{order}\""), "\"cpu 2200ms\""));
        // 1 runs until 3.2 s, the next until 5.4 s, the last until 7.6 s.
        tell("3500ms", &scenario("fifo")).is_about("latency_p999_ms", 4600.0);
        tell("3500ms", &scenario("lifo")).is_about("latency_p999_ms", 5600.0);
        let source = |name: &str, priority: u8| {
            format!(
                "[[source]]\nname = \"{name}\"\nto = \"api.get\"\npriority = {priority}\n\
                 arrivals.deterministic = {{ rate = \"1/s\" }}\n"
            )
        };
        let service = api("order = \"priority\"", "\"cpu 2200ms\"");
        let told = tell(
            "1500ms",
            &format!("{service}{}{}{}", source("low", 0), source("high", 9), source("mid", 5)),
        );
        // All at 1 s: the first in file order finds the worker free, the others wait by rank.
        told.is("source.low.latency_mean_ms", 2200.0);
        told.is("source.high.latency_mean_ms", 4400.0);
        told.is("source.mid.latency_mean_ms", 6600.0);
    }

    #[test]
    fn patience_ends_in_the_queue() {
        let service = api("workers = 1, queue-timeout = \"700ms\"", "\"cpu 2500ms\"");
        let told = tell("2500ms", &format!("{service}{EVERY_SECOND}"));
        told.is("rejected_ratio", 0.5);
        told.is("service.api.wait_mean_ms", 350.0);
        told.is("in_system_mean", (1.5 + 0.5) / 2.5);
    }

    #[test]
    fn a_connection_is_waited_for() {
        let pool = |more: &str| {
            let service = api("workers = 4", "\"pool db\", \"wait 2500ms\"");
            format!("{service}[[service.pool]]\nname = \"db\"\nsize = 1\n{more}\n{EVERY_SECOND}")
        };
        tell("2500ms", &pool("")).is("latency_mean_ms", (2500.0 + 4000.0) / 2.0);
        let impatient = tell("2500ms", &pool("max-wait = \"1s\""));
        impatient.is("failed_ratio", 0.5);
        impatient.is("latency_mean_ms", 2500.0);
    }

    #[test]
    fn one_miss_fetches_for_all() {
        let cached = |flight: &str| {
            let service = api("workers = 4", "\"cache one\", \"wait 2500ms\"");
            let cache = format!("[[service.cache]]\nname = \"one\"\nkeys = 1\nttl = \"1s\"\n{flight}\n");
            format!("{service}{cache}{EVERY_SECOND}")
        };
        // At 1 s a miss, back at 3.5 s; those at 2 s and 3 s fetch on their own, or wait for the first; the one at 4 s
        // hits; the one at 5 s comes too late for what was stored at 3.5 s, but not for what was stored at 4.5 s.
        let alone = tell("5200ms", &cached(""));
        alone.is("latency_mean_ms", 3.0 * 2500.0 / 5.0);
        let together = tell("5200ms", &cached("single-flight = true"));
        together.is("latency_mean_ms", (2500.0 + 1500.0 + 500.0 + 0.0 + 2500.0) / 5.0);
        together.is("service.api.cache_hit_ratio", 0.6);
    }
}

mod cores {
    use super::*;

    #[test]
    fn shared_cores_match_the_analytic_finish_times() {
        // 1.5 s of work at 1, 2 and 3 s. Alone the first gets 1 s; then two share; at 3 s the first is done, the second has
        // 1 s left and shares with the third until 5 s; the third needs another half second alone.
        let told = tell(
            "3500ms",
            &format!("{}{EVERY_SECOND}", api("workers = 8, cpu = \"shared\"", "\"cpu 1500ms\"")),
        );
        told.is("latency_mean_ms", (2000.0 + 3000.0 + 2500.0) / 3.0);
        told.is_about("latency_p999_ms", 3000.0);
        told.is("service.api.utilization", 2.5 / 3.5);
        // One after the other: 1 - 2.5 - 4 - 5.5 s.
        let told = tell(
            "3500ms",
            &format!("{}{EVERY_SECOND}", api("workers = 8, cpu = \"fifo\"", "\"cpu 1500ms\"")),
        );
        told.is("latency_mean_ms", 2000.0);
        told.is_about("latency_p999_ms", 2500.0);
        // A core for each.
        let told =
            tell("3500ms", &format!("{}{EVERY_SECOND}", api("cores = 3, workers = 3", "\"cpu 1500ms\"")));
        told.is("latency_mean_ms", 1500.0);
    }

    #[test]
    fn a_hang_pauses_and_resumes_exactly() {
        let hang = |service: String| {
            let fault = "[[fault]]\nat = \"10500ms\"\nhang = { service = \"api\", for = \"2s\" }\n";
            tell("15s", &format!("{service}{ONE_AT_10}{fault}"))
        };
        for instance in ["workers = 1", "workers = 4, cpu = \"fifo\"", "workers = 4, cpu = \"shared\""] {
            let told = hang(api(instance, "\"cpu 1s\""));
            told.is("latency_mean_ms", 3000.0);
            told.is("service.api.utilization", 1.0 / 15.0);
        }
        // What was to follow a wait, or an answer, follows when the instance goes on; a longer wait notices nothing.
        hang(api("", "\"wait 1s\"")).is("latency_mean_ms", 2500.0);
        hang(api("", "\"wait 3s\"")).is("latency_mean_ms", 3000.0);
        let below =
            "[[service]]\nname = \"db\"\n[[service.endpoint]]\nname = \"query\"\nsteps = [\"cpu 1s\"]\n";
        hang(format!("{below}{}", api("", "\"call db.query\", \"cpu 100ms\""))).is("latency_mean_ms", 2600.0);
        // Two hangs that overlap, from 10.5 to 12.5 s and from 12 to 14 s, are one until 14 s.
        let again = "[[fault]]\nname = \"again\"\nat = \"12s\"\nhang = { service = \"api\", for = \"2s\" }\n\
                     [[fault]]\nat = \"10500ms\"\nhang = { service = \"api\", for = \"2s\" }\n";
        let told = tell("19s", &format!("{}{ONE_AT_10}{again}", api("", "\"cpu 1s\"")));
        told.is("latency_mean_ms", 4500.0);
    }

    #[test]
    fn an_attempt_that_meets_a_hanging_instance_waits() {
        let fault = "[[fault]]\nat = \"9s\"\nhang = { service = \"api\", for = \"3s\" }\n";
        for instance in ["workers = 1", "workers = 4, cpu = \"fifo\"", "workers = 4, cpu = \"shared\""] {
            let told = tell("15s", &format!("{}{ONE_AT_10}{fault}", api(instance, "\"cpu 1s\"")));
            told.is("latency_mean_ms", 3000.0);
        }
    }

    #[test]
    fn a_slow_instance_works_at_a_fraction_of_its_speed() {
        let fault = "[[fault]]\nat = \"10500ms\"\nslow = { service = \"api\", factor = 4, for = \"30s\" }\n";
        // Half a second of work is left when it becomes slow. Shared cores notice; otherwise steps keep the speed that they
        // started with.
        let told =
            tell("19s", &format!("{}{ONE_AT_10}{fault}", api("workers = 4, cpu = \"shared\"", "\"cpu 1s\"")));
        told.is("latency_mean_ms", 2500.0);
        let told =
            tell("19s", &format!("{}{ONE_AT_10}{fault}", api("workers = 1", "\"cpu 1s\", \"cpu 1s\"")));
        told.is("latency_mean_ms", 5000.0);
    }

    #[test]
    fn company_slows_down() {
        // Alone 1 s; the second of two starts at twice the demand.
        let service = api("cores = 4, workers = 4, slow-down = { table = [1, 2] }", "\"cpu 1200ms\"");
        tell("2500ms", &format!("{service}{EVERY_SECOND}")).is("latency_mean_ms", (1200.0 + 2400.0) / 2.0);
        let service = api(
            "cores = 4, workers = 4, slow-down = { usl = { alpha = 0.5, beta = 0.1 } }",
            "\"cpu 1200ms\"",
        );
        tell("2500ms", &format!("{service}{EVERY_SECOND}"))
            .is("latency_mean_ms", (1200.0 + 1200.0 * 1.7) / 2.0);
    }

    #[test]
    fn warm_up_falls_linearly_and_only_after_a_start() {
        let service = api("warm-up = { for = \"10s\", slowdown = 3 }, start = \"1s\"", "\"cpu 100ms\"");
        // From the start there is nothing to warm up.
        tell("1500ms", &format!("{service}{EVERY_SECOND}")).is("latency_mean_ms", 100.0);
        // Dead at 4 s, ready at 5 s, asked at 10 s: half of the way from 3 to 1.
        let crash = "[[fault]]\nat = \"4s\"\ncrash = { service = \"api\" }\n";
        tell("15s", &format!("{service}{ONE_AT_10}{crash}")).is("latency_mean_ms", 200.0);
    }
}

mod fleet {
    use super::*;

    const TWO_NODES: &str =
        "[[node-pool]]\nname = \"metal\"\nnodes = 2\ncores = 4\nmemory = \"8GiB\"\nzones = [\"a\", \"b\"]\n";

    #[test]
    fn shutting_down_lets_work_finish_within_the_grace_period() {
        let scenario = |grace: &str| {
            let service = api(&format!("grace = \"{grace}\""), "\"cpu 5s\"");
            format!(
                "{service}{ONE_AT_10}[[action]]\nat = \"11s\"\nscale = {{ service = \"api\", replicas = 0 }}\n"
            )
        };
        let patient = tell("19s", &scenario("10s"));
        patient.is("latency_mean_ms", 5000.0);
        assert_eq!(patient.times("api-0", "draining"), [11.0]);
        assert_eq!(patient.times("api-0", "stopped"), [15.0]);
        let strict = tell("19s", &scenario("2s"));
        strict.is("failed_ratio", 1.0);
        strict.is("in_system_mean", 3.0 / 19.0);
        assert_eq!(strict.times("api-0", "stopped"), [13.0]);
        strict.is("instance_hours", 13.0 / 3600.0);
    }

    #[test]
    fn a_crashed_instance_is_replaced_after_pull_and_start() {
        let crash = "[[fault]]\nat = \"10500ms\"\ncrash = { service = \"api\" }\n";
        let instance = "pull = \"20s\", start = \"5s\"";
        let told = tell("60s", &format!("{}{EVERY_SECOND}{crash}", api(instance, "\"cpu 700ms\"")));
        assert_eq!(told.times("api-0", "died"), [10.5]);
        assert_eq!(told.times("api-1", "ready"), [35.5]);
        // The one in progress and those that find nobody: from the tenth to the 35th.
        told.is("failed_ratio", 26.0 / 59.0);
        // On a node that has the image, nothing is pulled.
        let told =
            tell("60s", &format!("{TWO_NODES}{}{EVERY_SECOND}{crash}", api(instance, "\"cpu 700ms\"")));
        assert_eq!(told.times("api-1", "ready"), [15.5]);
    }

    #[test]
    fn a_lost_machine_is_noticed_late_and_its_instances_later() {
        let service = api("pull = \"20s\", start = \"5s\"", "\"cpu 10ms\"");
        let edge = "[source.call.api]\ntimeout = \"500ms\"\n";
        let lost = |lasts: &str| {
            let fault =
                format!("[[fault]]\nat = \"9500ms\"\nnode-loss = {{ pool = \"metal\", count = 1{lasts} }}\n");
            tell("500s", &format!("{TWO_NODES}{service}{EVERY_SECOND}{edge}{fault}"))
        };
        let told = lost("");
        assert_eq!(told.times("metal-0", "lost"), [9.5]);
        // 40 s until it is noticed, 300 s until its instances are given up, then pull and start elsewhere.
        assert_eq!(told.times("api-1", "ready"), [9.5 + 40.0 + 300.0 + 25.0]);
        // While nobody has noticed, callers run into their timeouts; then they know nobody to call.
        told.is("timeout_ratio", 40.0 / 499.0);
        told.is("failed_ratio", 325.0 / 499.0);
        // A machine that comes back reports its instances dead at once.
        let told = lost(", for = \"60s\"");
        assert_eq!(told.times("metal-0", "back"), [69.5]);
        assert_eq!(told.times("api-1", "ready"), [69.5 + 25.0]);
    }

    #[test]
    fn work_on_a_lost_machine_is_never_answered() {
        let service = api("", "\"cpu 1s\"");
        let fault = "[[fault]]\nat = \"10500ms\"\nnode-loss = { pool = \"metal\", count = 1 }\n";
        let scenario = |edge: &str| format!("{TWO_NODES}{service}{ONE_AT_10}{edge}{fault}");
        // The step's end passes unheard; the caller's patience ends, or its transport's.
        let told = tell("19s", &scenario("[source.call.api]\ntimeout = \"4s\"\n"));
        told.is("timeout_ratio", 1.0);
        told.is("in_system_mean", 4.0 / 19.0);
        let once = scenario("").replace("rate = \"0.1/s\"", "profile = \"steps(0s: 0.1/s, 11s: 0/s)\"");
        let told = tell("300s", &once);
        told.is("failed_ratio", 1.0);
        told.is("in_system_mean", (0.5 + 127.0) / 300.0);
    }

    #[test]
    fn a_machine_is_back_when_its_last_fault_is_over() {
        let service = api("", "\"cpu 10ms\"");
        let faults = "[[fault]]\nat = \"10s\"\nnode-loss = { pool = \"metal\", count = 1, for = \"20s\" }\n\
                      [[fault]]\nat = \"20s\"\nzone-loss = { zone = \"a\", for = \"30s\" }\n";
        let told = tell("100s", &format!("{TWO_NODES}{service}{EVERY_SECOND}{faults}"));
        assert_eq!(told.times("metal-0", "back"), [50.0]);
        told.is("node-pool.metal.nodes_up_mean", (2.0 * 60.0 + 40.0) / 100.0);
    }

    #[test]
    fn callers_learn_late_that_somebody_is_there() {
        let service = "[[service]]\nname = \"api\"\nreplicas = 0\ndiscovery = \"5s\"\n\
                       [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 10ms\"]\n";
        let scale = "[[action]]\nat = \"9500ms\"\nscale = { service = \"api\", replicas = 1 }\n";
        let told = tell("30500ms", &format!("{service}{EVERY_SECOND}{scale}"));
        assert_eq!(told.times("api-0", "ready"), [9.5]);
        // Known at 14.5 s: the first 14 fail at once.
        told.is("failed_ratio", 14.0 / 30.0);
    }

    #[test]
    fn an_autoscaler_decides_at_its_phase_on_late_metrics() {
        let service = "[[service]]\nname = \"api\"\ninstance = { workers = 64 }\n\
                       autoscaler.hpa = { min-replicas = 1, max-replicas = 4, target-cpu-utilization = 50 }\n\
                       metrics = { period = \"10s\", window = \"20s\", delay = \"7s\" }\n\
                       [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 900ms\"]\n";
        let told = tell("120s", &format!("{service}{EVERY_SECOND}"));
        let decisions = told.decisions("autoscaler");
        let phase = decisions[0].0;
        assert!(phase < 15.0, "the first comes within one period");
        for (number, (at, ..)) in decisions.iter().enumerate() {
            assert!((at - phase - 15.0 * number as f64).abs() < 1e-6);
        }
        // The first sample needs two readings, at 0 and 10 s, and is there at 17 s.
        let (before, after): (Vec<_>, Vec<_>) = decisions.iter().partition(|(at, ..)| *at < 17.0);
        assert!(before.iter().all(|(_, from, to, _)| from == to));
        // 0.9 busy against 0.5 wanted: two.
        assert_eq!((after[0].1, after[0].2), (1.0, 2.0));
    }

    /// Without any sample nothing is changed, and the HPA says why; every second sample is enough, for a reader finds the one
    /// before as well.
    #[test]
    fn scrapes_that_get_lost_leave_an_autoscaler_blind() {
        let told = |loss: &str| {
            let service = format!(
                "[[service]]\nname = \"api\"\ninstance = {{ workers = 64 }}\n\
                 autoscaler.hpa = {{ min-replicas = 1, max-replicas = 4, target-cpu-utilization = 50 }}\n\
                 metrics = {{ period = \"10s\", window = \"60s\", loss = \"{loss}\" }}\n\
                 [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 900ms\"]\n"
            );
            let told = tell("600s", &format!("{service}{EVERY_SECOND}"));
            told.decisions("autoscaler")
                .into_iter()
                .map(|(_, _, to, reason)| (to, reason))
                .collect::<Vec<_>>()
        };
        let blind = told("100%");
        assert!(
            blind.iter().all(|(to, reason)| *to == 1.0 && *reason == "FailedGetResourceMetric"),
            "{blind:?}"
        );
        let seeing = told("30%");
        assert!(seeing.iter().any(|(to, _)| *to == 2.0), "{seeing:?}");
        assert!(seeing.iter().skip(3).any(|(_, reason)| *reason == "FailedGetResourceMetric"), "{seeing:?}");
    }
}

mod network {
    use super::*;

    const TWO_ZONES: &str = "[network]\ncross-zone = \"1ms\"\n\
                             [[node-pool]]\nname = \"metal\"\nnodes = 1\ncores = 4\nmemory = \"8GiB\"\nzones = [\"b\"]\n";

    #[test]
    fn a_partition_holds_messages_back_until_it_heals() {
        let source = format!("{ONE_AT_10}zone = \"a\"\n");
        let fault = "[[fault]]\nat = \"9s\"\npartition = { between = [\"a\", \"b\"], for = \"10s\" }\n";
        let told = tell("19s", &format!("{TWO_ZONES}{}{source}{fault}", api("", "\"cpu 10ms\"")));
        // Sent again after 0.2, 0.4, 0.8 ... s: at 10.2, 10.6, 11.4, 13, 16.2 and, healed, at 22.6 s.
        told.is("latency_mean_ms", 12_600.0 + 1.0 + 10.0 + 1.0);
    }

    #[test]
    fn delays_add_up_and_a_broken_connection_ends() {
        let source = format!("{ONE_AT_10}zone = \"a\"\n");
        let service = api("", "\"cpu 10ms\"");
        tell("15s", &format!("{TWO_ZONES}{service}{source}")).is("latency_mean_ms", 12.0);
        let added = "[[fault]]\nat = \"9s\"\nadded-latency = { latency = \"5ms\", for = \"5s\" }\n";
        tell("15s", &format!("{TWO_ZONES}{service}{source}{added}")).is("latency_mean_ms", 22.0);
        let lost = "[[fault]]\nat = \"9s\"\npartition = { between = [\"a\", \"b\"] }\n";
        let told = tell("19900ms", &format!("{TWO_ZONES}{service}{source}{lost}"));
        // Its users would wait longer than the run drains.
        told.is("availability", 0.0);
    }

    #[test]
    fn instances_that_share_a_calling_side_still_sit_where_they_sit() {
        let pools = "[network]\ncross-zone = \"10ms\"\n\
                     [[node-pool]]\nname = \"here\"\nnodes = 1\ncores = 4\nmemory = \"8GiB\"\nzones = [\"a\"]\n\
                     [[node-pool]]\nname = \"there\"\nnodes = 1\ncores = 4\nmemory = \"8GiB\"\nzones = [\"b\"]\n";
        let service = "[[service]]\nname = \"api\"\nnode-pool = \"there\"\n\
                       [[service.endpoint]]\nname = \"get\"\nsteps = [\"call db.query\"]\n\
                       [service.call.db]\nsharing = \"service\"\n\
                       [[service]]\nname = \"db\"\nnode-pool = \"there\"\n\
                       [[service.endpoint]]\nname = \"query\"\nsteps = [\"cpu 5ms\"]\n";
        tell("15s", &format!("{pools}{service}{ONE_AT_10}")).is("latency_mean_ms", 5.0);
    }
}

mod rollouts {
    use super::*;

    /// A journey that asks `api` twice, ten seconds apart.
    const TWICE: &str = "[[source]]\nname = \"web\"\nsteps = [\"call api.get\", \"wait 10s\", \"call api.get\"]\n\
                         arrivals.deterministic = { rate = \"1/s\" }\n";

    fn versioned(instance: &str, replicas: u32) -> String {
        format!(
            "[[service]]\nname = \"api\"\nreplicas = {replicas}\ninstance = {{ {instance} }}\n\
             [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 10ms\"]\n\
             [[service.version]]\nname = \"v1\"\n[[service.version]]\nname = \"v2\"\n[[service.version]]\nname = \"v3\"\n"
        )
    }

    fn rollout(at: &str, to: &str, how: &str) -> String {
        format!(
            "[[rollout]]\nname = \"to-{to}-{at}\"\nat = \"{at}\"\nservice = \"api\"\nto = \"{to}\"\n{how}\n"
        )
    }

    #[test]
    fn requests_that_see_two_versions_are_counted_exactly() {
        let scenario = format!(
            "{}{TWICE}{}",
            versioned("cores = 4, workers = 4", 1),
            rollout("20500ms", "v2", "container-swap = {}")
        );
        let told = tell("60500ms", &scenario);
        // Sent from 11 to 20 s: first answered by v1, ten seconds later by v2.
        told.is("version_inconsistent_requests", 10.0);
        told.is("availability", 1.0);
        // Those sent before the warm-up ends do not count.
        tell_from("15500ms", "60500ms", &scenario).is("version_inconsistent_requests", 5.0);
    }

    #[test]
    fn stopping_the_world_keeps_versions_apart() {
        let how = rollout("20500ms", "v2", "stop-the-world = {}");
        let told = tell("60500ms", &format!("{}{TWICE}{how}", versioned("start = \"5s\"", 2)));
        // Nobody serves from 20.5 to 25.5 s: requests of 21 to 25 s fail at once, those of 11 to 15 s in the end; those of 16
        // to 20 s see two versions.
        told.is("failed_ratio", 10.0 / 60.0);
        told.is("version_inconsistent_requests", 5.0);
        assert_eq!(told.times("api-0", "draining (v1)"), [20.5]);
        assert_eq!(told.times("api-2", "ready (v2)"), [25.5]);
        assert_eq!(told.times("api", "complete"), [25.5]);
    }

    #[test]
    fn ready_is_available_only_after_a_while() {
        let how = |more: &str| {
            rollout("10s", "v2", &format!("rolling = {{ max-surge = 1, max-unavailable = 0{more} }}"))
        };
        let scenario = |more: &str| format!("{}{EVERY_SECOND}{}", versioned("start = \"5s\"", 1), how(more));
        assert_eq!(tell("100s", &scenario("")).times("api-0", "draining"), [15.0]);
        let told = tell("100s", &scenario(", min-ready = \"30s\""));
        assert_eq!(told.times("api-0", "draining"), [45.0]);
        assert_eq!(told.times("api", "complete"), [45.0]);
        // Two instances, one after the other.
        let told = tell(
            "200s",
            &format!("{}{EVERY_SECOND}{}", versioned("start = \"5s\"", 2), how(", min-ready = \"30s\"")),
        );
        assert_eq!(told.times("api-1", "draining"), [45.0]);
        assert_eq!(told.times("api-0", "draining"), [80.0]);
    }

    /// Two machines' cores for two instances: there is no room for a third, and none of the two may go.
    const FULL: &str = "[[node-pool]]\nname = \"metal\"\nnodes = 1\ncores = 2\nmemory = \"8GiB\"\n";

    #[test]
    fn a_rollout_that_does_not_move_is_reported_and_can_be_undone() {
        let how = "rolling = { max-surge = 1, max-unavailable = 0, progress-deadline = \"60s\" }";
        let undo = "[[action]]\nat = \"100s\"\nundo = { service = \"api\" }\n";
        let scenario =
            format!("{FULL}{}{EVERY_SECOND}{}{undo}", versioned("cores = 1", 2), rollout("10s", "v2", how));
        let told = tell("200s", &scenario);
        // Looked at one second after the deadline.
        assert_eq!(told.times("api", "progress deadline exceeded"), [71.0]);
        assert_eq!(told.times("api", "undo: back to v1 (revision 1)"), [100.0]);
        assert_eq!(told.times("api-2", "died"), [100.0], "it was never placed");
        assert_eq!(told.times("api", "complete"), [100.0]);
        told.is("service.api.rollouts_stalled", 1.0);
        told.is("service.api.rollouts_completed", 1.0);
        told.is("service.api.rollout_time_s", 0.0);
        told.is("availability", 1.0);
    }

    #[test]
    fn undo_goes_back_as_far_as_the_history_reaches() {
        let undo = |at: &str, to: u32| {
            format!(
                "[[action]]\nname = \"{at}\"\nat = \"{at}\"\nundo = {{ service = \"api\", to-revision = {to} }}\n"
            )
        };
        let scenario = |limit: u32, undos: &str| {
            let how = format!("rolling = {{ revision-history-limit = {limit} }}");
            let rollouts = [rollout("10s", "v2", &how), rollout("20s", "v3", &how)].concat();
            format!("{}{EVERY_SECOND}{rollouts}{undos}", versioned("start = \"1s\"", 1))
        };
        let undos = [undo("30s", 1), undo("40s", 1), undo("50s", 0), undo("60s", 5)].concat();
        let told = tell("70s", &scenario(10, &undos));
        assert_eq!(told.times("api", "undo: back to v1 (revision 1)"), [30.0]);
        assert_eq!(told.times("api", "undo: there is no revision 1"), [40.0], "it is number 4 now");
        assert_eq!(told.times("api", "undo: back to v3 (revision 3)"), [50.0]);
        assert_eq!(told.times("api", "undo: revision 5 is rolled out already"), [60.0]);
        // With one former version kept, v1 goes when v3 is there; with none nobody goes back.
        let told = tell("70s", &scenario(1, &undos));
        assert_eq!(told.times("api", "undo: there is no revision 1"), [30.0, 40.0]);
        assert_eq!(told.times("api", "undo: back to v2 (revision 2)"), [50.0]);
        let told = tell("70s", &scenario(0, &undo("30s", 0)));
        assert_eq!(told.times("api", "undo: there is no former revision"), [30.0]);
    }

    #[test]
    fn a_change_of_scale_in_the_middle_is_dealt_in_proportion() {
        let scale = "[[action]]\nat = \"20s\"\nscale = { service = \"api\", replicas = 8 }\n";
        let how = rollout("10s", "v2", "rolling = {}");
        let told = tell("100s", &format!("{}{EVERY_SECOND}{how}{scale}", versioned("start = \"50s\"", 4)));
        // 3 old and 2 new ones, 5 at most; now 10 at most: three more of the old, two more of the new.
        assert_eq!(told.times("api-5", "ready (v2)"), [60.0]);
        // When the first new ones are ready, two of the old ones that are not can go.
        assert_eq!(told.times("api-7", "died (v1)"), [60.0]);
        assert_eq!(told.times("api-8", "died (v1)"), [60.0]);
        assert_eq!(told.times("api-6", "ready (v1)"), [70.0]);
        assert_eq!(told.times("api-9", "ready (v2)"), [70.0]);
        assert_eq!(told.times("api-10", "ready (v2)"), [70.0]);
    }

    #[test]
    fn recreate_waits_for_the_last_old_instance() {
        let instance = "start = \"5s\", pre-stop = \"3s\"";
        let how = rollout("10500ms", "v2", "recreate = {}");
        let told = tell("30s", &format!("{}{EVERY_SECOND}{how}", versioned(instance, 2)));
        assert_eq!(told.times("api-0", "stopped (v1)"), [13.5]);
        assert_eq!(told.times("api-2", "ready (v2)"), [18.5]);
        told.is("service.api.rollout_time_s", 8.0);
    }

    #[test]
    fn a_newer_rollout_takes_over() {
        // The way to v2 takes 50 s; after ten of them somebody wants v3, and then v1 again.
        let rollouts = [
            rollout("10s", "v2", "rolling = { max-surge = 1, max-unavailable = 0 }"),
            rollout("20s", "v3", "rolling = { max-surge = 1, max-unavailable = 0 }"),
            rollout("30s", "v1", "container-swap = {}"),
        ];
        let told =
            tell("300s", &format!("{}{EVERY_SECOND}{}", versioned("start = \"50s\"", 2), rollouts.concat()));
        assert_eq!(told.times("api", "superseded"), [20.0, 30.0]);
        assert_eq!(told.times("api", "complete").len(), 1);
        told.is("availability", 1.0);
        assert_eq!(*told.curve("api", "replicas_ready").last().unwrap(), 2.0);
    }
}

mod metrics {
    use super::*;

    /// DESIGN section 8, one by one.
    #[test]
    fn definitions_against_a_run_worked_out_by_hand() {
        let scenario = "[objective]\navailability = \"90%\"\n\
            [[node-pool]]\nname = \"metal\"\nnodes = 2\ncores = 4\nmemory = \"8GiB\"\nprice = \"0.3/h\"\n\
            [[service]]\nname = \"api\"\nreplicas = 2\nprice = \"0.6/h\"\n\
            instance = { cores = 2, workers = 2, cpu-request = 0.5 }\n\
            [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 100ms\", \"call db.query\"]\n\
            [[service]]\nname = \"db\"\ninstance = { workers = 1 }\n\
            [[service.endpoint]]\nname = \"query\"\nsteps = [\"cpu 600ms\"]\n";
        let source = "[[source]]\nname = \"web\"\nto = \"api.get\"\ndeadline = \"1s\"\n\
                      arrivals.deterministic = { rate = \"2/s\" }\n";
        let told = tell_from("1200ms", "3200ms", &format!("{scenario}{source}"));
        // Sent at 0.5, 1, 1.5 ... 3 s; the counted ones are 1.5, 2, 2.5 and 3. At the db from 0.6, 1.1, 1.6 ... one after the
        // other: done at 1.2, 1.8, 2.4, 3.0, 3.6, 4.2. Latencies 0.7, 0.8, 0.9, 1.0 (too late by nothing: the deadline fires
        // first), and the last two are late.
        told.is("requests", 4.0);
        told.is("offered_rps", 2.0);
        told.is("throughput_rps", 2.0);
        told.is("availability", 0.25);
        told.is("goodput_rps", 0.5);
        told.is("timeout_ratio", 0.75);
        told.is("failed_ratio", 0.0);
        told.is("rejected_ratio", 0.0);
        told.is("unfinished_ratio", 0.0);
        told.is("latency_mean_ms", 900.0);
        told.is_about("latency_p50_ms", 900.0);
        assert!(!told.metrics().contains_key("latency_offered_p99_ms"), "three of four are infinitely slow");
        // From 1.2 to 3.2 s: the one of 1 s until 1.8, then 1.5-2.4, 2-3, 2.5-3.2 and 3-3.2.
        told.is("in_system_mean", (0.6 + 0.9 + 1.0 + 0.7 + 0.2) / 2.0);
        // The db works without a pause.
        told.is("service.db.utilization", 1.0);
        told.is("service.db.cpu_of_request", 1.0);
        // 100 ms of each of four, on four cores that ask for one.
        told.is("service.api.utilization", 0.4 / (2.0 * 4.0));
        told.is("service.api.cpu_of_request", 0.4 / 2.0);
        // Attempts that reached the db in the counted part: at 1.6, 2.1, 2.6 and 3.1 s; waits 0.2, 0.3, 0.4, 0.5.
        told.is("service.db.wait_mean_ms", 350.0);
        told.is("service.db.waited_ratio", 1.0);
        told.is("service.db.attempts_rps", 2.0);
        told.is("service.api.attempts_per_call", 1.0);
        told.is("amplification", 1.0);
        told.is("instance_hours", 3.0 * 2.0 / 3600.0);
        told.is("node_hours", 2.0 * 2.0 / 3600.0);
        told.is("cost", (2.0 * 2.0 * 0.6 + 2.0 * 2.0 * 0.3) / 3600.0);
        told.is("error_budget_burned", 0.75 / 0.1);
        for absent in ["recovery_time_s", "version_inconsistent_requests", "service.api.cache_hit_ratio"] {
            assert!(!told.metrics().contains_key(absent), "{absent} does not apply (INV-23)");
        }
    }

    #[test]
    fn wasted_is_what_no_good_answer_used() {
        // Whichever answers first is good enough; the other's three seconds are for nothing.
        let service = |name: &str, work: &str| {
            format!(
                "[[service]]\nname = \"{name}\"\n[[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu {work}\"]\n"
            )
        };
        let front = api("", "\"parallel any slow.get fast.get\"");
        let told =
            tell("19s", &format!("{front}{}{}{ONE_AT_10}", service("slow", "3s"), service("fast", "1s")));
        told.is("latency_mean_ms", 1000.0);
        told.is("wasted_work_ratio", 0.75);
        // A late answer makes all of it waste.
        let told = tell(
            "19s",
            &format!(
                "{front}{}{}{ONE_AT_10}deadline = \"900ms\"\n",
                service("slow", "3s"),
                service("fast", "1s")
            ),
        );
        told.is("wasted_work_ratio", 1.0);
    }

    #[test]
    fn recovery_counts_from_the_end_of_the_fault() {
        let scenario = |until: &str| {
            let fault =
                format!("[[fault]]\nat = \"20s\"\noutage = {{ service = \"api\", for = \"{until}\" }}\n");
            let source = EVERY_SECOND.replace("1/s", "10/s");
            format!("[objective]\navailability = \"90%\"\n{}{source}{fault}", api("", "\"cpu 1ms\""))
        };
        // Windows are 10 s long from the start. One that begins with the end of the fault is good ...
        let told = tell("120s", &scenario("20s"));
        told.is("recovery_time_s", 0.0);
        told.is("recovery_unrecovered", 0.0);
        // ... one that holds three bad seconds is not.
        tell("120s", &scenario("23s")).is("recovery_time_s", 7.0);
        // Five in a row do not fit any more.
        let told = tell("80s", &scenario("20s"));
        told.is("recovery_unrecovered", 1.0);
        assert!(!told.metrics().contains_key("recovery_time_s"));
        // A crash is over when it happens; the service is back ten seconds later.
        let crash = format!(
            "[objective]\navailability = \"90%\"\n{}{}[[fault]]\nat = \"20s\"\ncrash = {{ service = \"api\" }}\n",
            api("start = \"10s\"", "\"cpu 1ms\""),
            EVERY_SECOND.replace("1/s", "10/s")
        );
        tell("120s", &crash).is("recovery_time_s", 10.0);
    }

    #[test]
    fn the_last_window_ends_with_the_run() {
        let told = tell("5500ms", &format!("{}{EVERY_SECOND}", api("", "\"cpu 1ms\"")));
        assert_eq!(told.0.timeline.t_s, [1.0, 2.0, 3.0, 4.0, 5.0, 5.5]);
    }

    #[test]
    fn a_run_goes_on_to_its_end_without_traffic() {
        let source = "[[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.poisson = { profile = \"steps(0s: 10/s, 5s: 0/s)\" }\n";
        let told = tell("100s", &format!("{}{source}", api("", "\"cpu 1ms\"")));
        told.is("instance_hours", 100.0 / 3600.0);
        assert_eq!(told.0.timeline.t_s.len(), 100);
    }
}

mod sources {
    use super::*;

    #[test]
    fn users_of_several_loops_are_told_apart() {
        let users = |name: &str, count: u32, to: &str| {
            format!(
                "[[source]]\nname = \"{name}\"\nto = \"{to}.get\"\n\
                 arrivals.users = {{ count = {count}, think = \"1s\" }}\n"
            )
        };
        let open = |name: &str| {
            format!(
                "[[source]]\nname = \"{name}\"\nto = \"api.get\"\narrivals.deterministic = {{ rate = \"0.1/s\" }}\n"
            )
        };
        let service = api("workers = 64, cores = 64", "\"wait 1s\"");
        let scenario =
            [service, users("few", 2, "api"), users("many", 5, "api"), open("x"), open("y"), open("z")];
        // Think for a second, wait for a second: a request every two seconds from each.
        let told = tell("20500ms", &scenario.concat());
        told.is("source.few.requests", 20.0);
        told.is("source.many.requests", 50.0);
        told.is("source.x.requests", 2.0);
    }

    #[test]
    fn a_journey_without_calls_is_still_a_journey() {
        let waits = "[[source]]\nname = \"dreamer\"\nsteps = [\"wait 1s\"]\narrivals.deterministic = { rate = \"1/s\" }\n";
        let told = tell("10500ms", &format!("{}{waits}{EVERY_SECOND}", api("", "\"cpu 1ms\"")));
        told.is("source.dreamer.latency_mean_ms", 1000.0);
        told.is("source.web.latency_mean_ms", 1.0);
    }

    #[test]
    fn throttled_requests_are_rejected() {
        let throttle = "[[action]]\nat = \"5500ms\"\nthrottle = { source = \"web\", share = \"0%\" }\n";
        let told = tell("10500ms", &format!("{}{EVERY_SECOND}{throttle}", api("", "\"cpu 1ms\"")));
        told.is("rejected_ratio", 0.5);
        let switch = "[[action]]\nat = \"5500ms\"\nkill-switch = { endpoint = \"api.get\" }\n";
        let told = tell("10500ms", &format!("{}{EVERY_SECOND}{switch}", api("", "\"cpu 1ms\"")));
        told.is("rejected_ratio", 0.5);
        told.is("service.api.refused_ratio", 0.5);
    }
}
