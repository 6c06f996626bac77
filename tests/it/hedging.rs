//! Hedged calls, levels of an edge, budgets and deadlines in the world: stories worked out by hand, and order statistics.

use crate::story::{Told, tell};

/// One request at 10 s (and only that one, if the run ends before 20 s).
const ONE_AT_10: &str =
    "[[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.deterministic = { rate = \"0.1/s\" }\n";

fn service(name: &str, instance: &str, steps: &str) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\n{instance}\n[[service.endpoint]]\nname = \"get\"\nsteps = [{steps}]\n"
    )
}

mod levels {
    use super::*;

    /// A service that fails every attempt after 10 ms, and an edge to it.
    fn failing(edge: &str) -> Told {
        let version = "[[service.version]]\nname = \"v1\"\nerror-rate = \"100%\"\n";
        let api = service("api", "instance = { cores = 8, workers = 8 }", "\"cpu 10ms\"");
        tell("15s", &format!("{api}{version}{ONE_AT_10}[source.call.api]\n{edge}"))
    }

    #[test]
    fn levels_multiply() {
        let three = "retry.fixed = { attempts = 3, delay = \"0s\" }";
        let one = failing(three);
        one.is("service.api.attempts_per_call", 3.0);
        let edge =
            format!("{three}\nlevel = [{{ name = \"app\", {three} }}, {{ name = \"side-car\", {three} }}]");
        let all = failing(&edge);
        all.is("service.api.attempts_per_call", 27.0);
        all.is("failed_ratio", 1.0);
        all.is("service.api.sojourn_mean_ms", 10.0);
        // A level whose edge has no policies of its own.
        failing(&format!("level = [{{ name = \"app\", {three} }}]")).is("service.api.attempts_per_call", 3.0);
    }

    #[test]
    fn each_level_has_a_budget_of_its_own() {
        // The bucket of the app starts with two tokens and a tenth for the call, one of which is spent on a retry; that of the gateway
        // gives the same for each of the two calls it sees. So 2 calls of the gateway, and 1 or 2 attempts for each of them.
        let retry =
            "retry.fixed = { attempts = 9, delay = \"0s\" }, retry-budget.token-bucket = { size = 2 }";
        let own = "retry.fixed = { attempts = 9, delay = \"0s\" }\nretry-budget.token-bucket = { size = 2 }";
        failing(own).is("service.api.attempts_per_call", 2.0);
        // The first call of the gateway: one retry, 1.0 tokens left. The second one brings a tenth: 1.1, another retry.
        failing(&format!("{own}\nlevel = [{{ name = \"app\", {retry} }}]"))
            .is("service.api.attempts_per_call", 4.0);
    }

    #[test]
    fn an_outer_timeout_ends_the_call_below_only_if_it_is_told() {
        // 100 ms of work, three attempts of the inner level one after the other, and an outer level that waits for 150 ms.
        let story = |outer: &str| {
            let version = "[[service.version]]\nname = \"v1\"\nerror-rate = \"100%\"\n";
            let api = service("api", "instance = { cores = 8, workers = 8 }", "\"cpu 100ms\"");
            let edge = format!(
                "[source.call.api]\nretry.fixed = {{ attempts = 3, delay = \"0s\" }}\n\
                 level = [{{ name = \"app\", timeout = \"150ms\"{outer} }}]\n"
            );
            tell("15s", &format!("{api}{version}{ONE_AT_10}{edge}"))
        };
        // Nobody tells the gateway: it goes on trying for nobody.
        let deaf = story("");
        deaf.is("timeout_ratio", 1.0);
        deaf.is("service.api.attempts_per_call", 3.0);
        deaf.is("service.api.utilization", 0.3 / (15.0 * 8.0));
        let told = story(", cancel = true");
        told.is("timeout_ratio", 1.0);
        told.is("service.api.attempts_per_call", 2.0);
        told.is("service.api.utilization", 0.15 / (15.0 * 8.0));
        // Two attempts of the outer level, each of which is a whole call of the inner one.
        let twice = story(", cancel = true, retry.fixed = { attempts = 2, delay = \"0s\" }");
        twice.is("service.api.attempts_per_call", 4.0);
        twice.is("service.api.utilization", 0.3 / (15.0 * 8.0));
    }
}

mod hedges {
    use super::*;

    /// Two instances, one of them ten times slower, and a request that goes to the slow one first.
    fn slow_and_fast(edge: &str) -> Told {
        let api = service("api", "replicas = 2\ninstance = { cores = 1, workers = 1 }", "\"cpu 100ms\"");
        let fault =
            "[[fault]]\nat = \"5s\"\nslow = { service = \"api\", count = 1, factor = 10, for = \"60s\" }\n";
        tell("15s", &format!("{api}{fault}{ONE_AT_10}[source.call.api]\n{edge}"))
    }

    #[test]
    fn the_copy_goes_elsewhere_and_the_slower_one_is_wasted() {
        let alone = slow_and_fast("");
        let hedge = "hedge.grpc = { max-attempts = 2 }\n";
        let hedged = slow_and_fast(hedge);
        hedged.is("latency_mean_ms", 100.0);
        hedged.is("service.api.attempts_per_call", 2.0);
        hedged.is("wasted_work_ratio", 10.0 / 11.0);
        // Wherever a single request goes, it is one of the two.
        let latency = alone.metric("latency_mean_ms");
        assert!(latency == 100.0 || latency == 1000.0, "{latency}");
        let cancelled = slow_and_fast(&format!("{hedge}cancel = true"));
        cancelled.is("latency_mean_ms", 100.0);
        cancelled.is("service.api.utilization", 0.2 / (15.0 * 2.0));
    }

    #[test]
    fn a_copy_that_is_not_needed_is_not_sent_and_a_budget_can_forbid_it() {
        let late = slow_and_fast("hedge.grpc = { max-attempts = 2, hedging-delay = \"2s\" }\n");
        late.is("service.api.attempts_per_call", 1.0);
        // With one token of two gone after a failure the throttle is shut; here nothing fails, so it is open.
        let open =
            slow_and_fast("hedge.grpc = { max-attempts = 2 }\nretry-budget.grpc = { max-tokens = 2 }\n");
        open.is("service.api.attempts_per_call", 2.0);
        let shut = slow_and_fast(
            "hedge.grpc = { max-attempts = 2 }\nretry-budget.envoy = { min-retry-concurrency = 0 }\n",
        );
        shut.is("service.api.attempts_per_call", 1.0);
    }

    #[test]
    fn a_failure_that_is_not_fatal_brings_the_next_copy_forward() {
        // Attempts fail after 10 ms; copies would be 100 ms apart.
        let version = "[[service.version]]\nname = \"v1\"\nerror-rate = \"100%\"\n";
        let api = service("api", "replicas = 3\ninstance = { cores = 8, workers = 8 }", "\"cpu 10ms\"");
        let story = |fatal: &str| {
            let edge = format!("hedge.grpc = {{ max-attempts = 3, hedging-delay = \"100ms\"{fatal} }}\n");
            tell("15s", &format!("{api}{version}{ONE_AT_10}[source.call.api]\n{edge}"))
        };
        story("").is("service.api.attempts_per_call", 1.0);
        let again = story(", non-fatal = [\"failure\"]");
        again.is("service.api.attempts_per_call", 3.0);
        again.is("failed_ratio", 1.0);
    }

    /// The mean of so many independent latencies is what theory says: 4 standard errors, of which it is given the spread of one.
    #[track_caller]
    fn agrees(told: &Told, metric: &str, expected: f64, spread: f64) {
        let n = told.metric("requests");
        let z = (told.metric(metric) - expected) / (spread / n.sqrt());
        assert!(z.abs() < 4.0, "{metric} is {}, not {expected}: z = {z:.2}", told.metric(metric));
    }

    /// Exponential times of mean 100 ms, drawn anew for each copy, and nobody ever waits.
    fn exponential(edge: &str) -> Told {
        let api = service(
            "api",
            "replicas = 5\ninstance = { mode = \"async\", cores = 1 }",
            "\"wait 100ms * exp(1)\"",
        );
        let source = "[[source]]\nname = \"web\"\nto = \"api.get\"\nrequests = 100_000\n\
                      arrivals.poisson = { rate = \"1000/s\" }\n[source.call.api]\n";
        tell("1h", &format!("{api}{source}{edge}"))
    }

    /// Order statistics: seven figures, |z| < 4 each, so at most one correct simulator in 2000 would fail (and none does for these
    /// seeds).
    #[test]
    fn the_fastest_of_several_is_as_fast_as_theory_says() {
        // The least of k exponential times has a k-th of the mean.
        for copies in [2.0, 3.0, 5.0] {
            let told = exponential(&format!("hedge.grpc = {{ max-attempts = {copies} }}\n"));
            agrees(&told, "latency_mean_ms", 100.0 / copies, 100.0 / copies);
            told.is("service.api.attempts_per_call", copies);
        }
        // A second copy after the 95th percentile, ln 20 = 2.9957 means: one call in twenty is sent twice, and the mean falls by half
        // of what those would have waited, e^-d / 2.
        let told = exponential("hedge.grpc = { max-attempts = 2, hedging-delay = \"299573us\" }\n");
        agrees(&told, "service.api.attempts_per_call", 1.05, (0.05_f64 * 0.95).sqrt());
        agrees(&told, "latency_mean_ms", 97.5, 100.0);
        // After that, two copies run: beyond d the tail falls twice as fast, so of 100 calls one takes longer than d + ln(5) / 2.
        told.is_about("latency_p99_ms", 100.0 * (20_f64.ln() + 5_f64.ln() / 2.0));
        // The percentile found by itself, from the second of ten periods on. As upstream, the time of a copy that wins counts from
        // its own start, and that of the slower one never: of the share h that is hedged half is seen beyond d, so h / 2 =
        // 5 % in the end, a little less after a few periods.
        let told = exponential("hedge.percentile = { period = \"10s\" }\n");
        let share = (told.metric("service.api.attempts_per_call") - 1.0) / 0.9;
        assert!((0.075..0.1).contains(&share), "{share}");
    }

    #[test]
    fn tied_copies_wait_in_two_queues_and_work_in_one() {
        let story = |edge: &str| {
            let api =
                service("api", "replicas = 10\ninstance = { cores = 1, workers = 1 }", "\"cpu exp(10ms)\"");
            let source = "[[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.poisson = { rate = \"700/s\" }\n\
                          [source.call.api]\nbalancer.random = {}\n";
            tell("200s", &format!("{api}{source}{edge}"))
        };
        // Ten queues of M/M/1 at 70 %: 10 ms / 0.3.
        let alone = story("");
        assert!(
            (alone.metric("latency_mean_ms") / 33.3 - 1.0).abs() < 0.06,
            "{}",
            alone.metric("latency_mean_ms")
        );
        let tied = story("hedge.tied = { delay = \"0s\" }\n");
        assert!(tied.metric("latency_mean_ms") < 0.6 * alone.metric("latency_mean_ms"));
        // Word takes no time here, so the work is done once, but for copies that start at the same instant in idle places.
        let delayed = story("hedge.tied = { delay = \"100us\" }\n");
        assert!(delayed.metric("latency_mean_ms") < 0.6 * alone.metric("latency_mean_ms"));
        assert!(delayed.metric("wasted_work_ratio") < 0.001, "{}", delayed.metric("wasted_work_ratio"));
        let (once, twice) =
            (alone.metric("service.api.utilization"), delayed.metric("service.api.utilization"));
        assert!((twice / once - 1.0).abs() < 1e-3, "{once} {twice}");
    }
}

mod deadlines {
    use super::*;

    /// A front that waits 300 ms for a database that takes five seconds, for people who wait for one.
    fn story(people: &str, edge: &str) -> Told {
        let db = service("db", "instance = { cores = 1 }", "\"cpu 5s\"");
        let api = service("api", "instance = { cores = 1 }", "\"call db.get\"");
        let call = format!("[service.call.db]\ntimeout = \"300ms\"\n{edge}");
        tell("19s", &format!("{db}{api}{call}{ONE_AT_10}deadline = \"1s\"\n{people}"))
    }

    #[test]
    fn a_deadline_reaches_what_nobody_waits_for_any_more() {
        let nobody = story("", "");
        nobody.is("failed_ratio", 1.0);
        nobody.is("service.db.utilization", 5.0 / 19.0);
        // The attempt that the front gave up after 300 ms knows that the people leave after a second.
        let people = "propagate-deadline = true\n";
        story(people, "").is("service.db.utilization", 1.0 / 19.0);
        // It is told of the front's own patience.
        story("", "propagate-deadline = true\n").is("service.db.utilization", 0.3 / 19.0);
        story(people, "propagate-deadline = true\n").is("service.db.utilization", 0.3 / 19.0);
        // Or of nothing.
        story(people, "propagate-deadline = false\n").is("service.db.utilization", 5.0 / 19.0);
    }

    #[test]
    fn a_cancellation_stops_where_deadlines_stop() {
        let db = service("db", "instance = { cores = 1 }", "\"cpu 5s\"");
        let api = service("api", "instance = { cores = 1 }", "\"call db.get\"");
        let story = |edge: &str| {
            let web = "[source.call.api]\ntimeout = \"200ms\"\ncancel = true\n";
            let told = tell("19s", &format!("{db}{api}[service.call.db]\n{edge}{ONE_AT_10}{web}"));
            told.is("timeout_ratio", 1.0);
            told.metric("service.db.utilization")
        };
        assert!((story("") - 0.2 / 19.0).abs() < 1e-9);
        assert!((story("propagate-deadline = false\n") - 5.0 / 19.0).abs() < 1e-9);
    }
}
