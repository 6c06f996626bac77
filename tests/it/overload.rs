//! More work than can be done: who waits, who is shed, who is told to ask for less. Stories with numbers worked out by hand.

use crate::story::{Told, tell};

/// A service with one core and one worker unless `instance` says otherwise.
fn api(instance: &str, step: &str) -> String {
    format!(
        "[[service]]\nname = \"api\"\ninstance = {{ workers = 1, {instance} }}\n[[service.endpoint]]\nname = \"get\"\n\
         steps = [\"{step}\"]\n"
    )
}

/// Requests at 1 s, 2 s, 3 s ...
const EVERY_SECOND: &str =
    "[[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.deterministic = { rate = \"1/s\" }\n";

mod orders {
    use super::*;

    /// Work of 2.2 s, five requests. The last answer says who was last.
    fn last(order: &str) -> Told {
        tell("5500ms", &format!("{}{EVERY_SECOND}", api(order, "cpu 2200ms")))
    }

    #[test]
    fn the_newest_goes_first_while_many_wait() {
        last("order = \"fifo\"").is_about("latency_p999_ms", 7000.0);
        // At 3.2 s 2 and 3 wait: 3 is taken. At 5.4 s 2, 4 and 5, at the end 2 at 9.8 s.
        last("order = \"lifo\"").is_about("latency_p999_ms", 10_000.0);
        // At 3.2 s only one would be left: 2. At 5.4 s two are: 5. Then 3, and 4 at 9.8 s.
        last("order = \"adaptive-lifo\", lifo-threshold = 2").is_about("latency_p999_ms", 8000.0);
        last("order = \"adaptive-lifo\", lifo-threshold = 0").is_about("latency_p999_ms", 10_000.0);
        last("order = \"adaptive-lifo\", lifo-threshold = 9").is_about("latency_p999_ms", 7000.0);
    }

    #[test]
    fn the_newest_goes_first_when_the_queue_stands() {
        // Somebody has been waiting since 2 s: not long enough at 3.2 s (2), but at 5.4 s (5), 7.6 s (4) and 9.8 s (3).
        last("order = \"adaptive-lifo\", lifo-after = \"1500ms\"").is_about("latency_p999_ms", 9000.0);
    }

    #[test]
    fn who_gives_up_leaves_the_line() {
        // Newest first, 2 waits from 2 s on, and gives up at 6.5 s, before its turn at 9.8 s.
        let told = last("order = \"lifo\", queue-timeout = \"4500ms\"");
        told.is("rejected_ratio", 0.2);
        told.is_about("latency_p999_ms", 5800.0);
    }
}

mod shedding {
    use super::*;

    #[test]
    fn codel_drops_what_stands_before_the_third_interval() {
        let instance = "shedding.codel = { target-delay = \"100ms\", interval = \"3s\" }";
        let told = tell("12500ms", &format!("{}{EVERY_SECOND}", api(instance, "cpu 1500ms")));
        // The interval from 2.5 s on has a shortest wait of 0.5 s, so that from 7 s on counts as overloaded. At 8.5 s it drops 6,
        // 7 and 8, which have waited 2.5 s, 1.5 s and 0.5 s. 9 does not wait, so the next interval is calm.
        told.is("service.api.shed_ratio", 3.0 / 12.0);
        told.is("rejected_ratio", 3.0 / 12.0);
        told.is(
            "latency_mean_ms",
            (1500.0 + 2000.0 + 2500.0 + 3000.0 + 3500.0 + 1500.0 + 2000.0 + 2500.0 + 3000.0) / 9.0,
        );
    }

    #[test]
    fn with_the_newest_first_codel_drops_the_oldest_last() {
        let instance = "order = \"adaptive-lifo\", lifo-threshold = 1, shedding.codel = { target-delay = \"100ms\", interval = \"3s\" }";
        let told = tell("12500ms", &format!("{}{EVERY_SECOND}", api(instance, "cpu 1500ms")));
        // 1 until 2.5 s, 2 until 4 s, 3 until 5.5 s; then 4 and 5 wait and 5 goes first, until 7 s (6 has come, 7 comes then).
        // An interval begins at 7 s, of which 6 is the first: the one before had waits of 0.5 s and more, so it is overloaded.
        // At 8.5 s 8 (0.5 s), 7 (1.5 s) and 4 (4.5 s) are dropped.
        told.is("service.api.shed_ratio", 3.0 / 12.0);
        told.is_about("latency_p999_ms", 3000.0);
    }

    /// Answers take 1.5 s, and callers wait 2.2 s.
    fn impatient(instance: &str) -> Told {
        let edge = "[source.call.api]\ntimeout = \"2200ms\"\n";
        tell("9500ms", &format!("{}{EVERY_SECOND}{edge}", api(instance, "cpu 1500ms")))
    }

    #[test]
    fn work_that_is_too_late_is_not_begun() {
        let told = impatient("queue = 100");
        told.is("availability", 2.0 / 9.0);
        told.is("timeout_ratio", 7.0 / 9.0);
        // 3 has 1.2 s left when its turn comes at 4 s: too little. 4 then finds the worker free, and it all begins anew.
        let told = impatient("shedding.deadline = { needs = \"1500ms\" }");
        told.is("availability", 6.0 / 9.0);
        told.is("rejected_ratio", 3.0 / 9.0);
        told.is("latency_mean_ms", 1750.0);
        // Without a need only what is past is dropped: 6, which came at 6 s and whose turn comes at 8.5 s.
        let told = impatient("shedding.deadline = {}");
        told.is("availability", 2.0 / 9.0);
        assert!(told.metric("service.api.shed_ratio") > 0.0);
    }

    #[test]
    fn the_least_important_pay_for_a_flood() {
        let source = |name: &str, priority: u8, rate: u32| {
            format!(
                "[[source]]\nname = \"{name}\"\nto = \"api.get\"\npriority = {priority}\n\
                 arrivals.poisson = {{ rate = \"{rate}/s\" }}\n"
            )
        };
        let flood = |instance: &str| {
            let service = api(instance, "wait exp(200ms)").replace("workers = 1", "workers = 100");
            // 500 a second can be done; 750 come, 250 of them important.
            tell("120s", &format!("{service}{}{}", source("users", 3, 250), source("batch", 0, 500)))
        };
        let told = flood("queue = 300");
        assert!(told.metric("source.users.availability") < 0.7);
        // The queue may fill within half a second, so the threshold has to move faster than that.
        let told = flood("shedding.failsafe-go-priority = { calibration-interval = \"100ms\" }");
        let (users, batch) =
            (told.metric("source.users.availability"), told.metric("source.batch.availability"));
        assert!(users > 0.99 && (0.45..0.55).contains(&batch), "{users} {batch}");
        let told = flood("shedding.failsafe-go-priority = { calibration-interval = \"1s\" }");
        assert!(told.metric("source.users.availability") < 0.95, "too slow for this queue");
    }
}

mod limiters {
    use super::*;

    fn limited(limiter: &str) -> Told {
        let service = api("cores = 4", "cpu 1500ms").replace("workers = 1", "workers = 8");
        tell("8500ms", &format!("{service}{EVERY_SECOND}[source.call.api]\n{limiter}\n"))
    }

    #[test]
    fn a_bulkhead_keeps_a_line() {
        let told = limited("limiter.bulkhead = { max-concurrent = 1, max-wait = \"2200ms\" }");
        // One after the other; 6 would start at 8.5 s, and is refused at 8.2 s.
        told.is("rejected_ratio", 1.0 / 8.0);
        told.is("latency_mean_ms", (1500.0 + 2000.0 + 2500.0 + 3000.0 + 3500.0 + 3000.0 + 3500.0) / 7.0);
    }

    #[test]
    fn the_newest_is_unblocked_first() {
        let told = limited(
            "limiter.lifo-blocking = { delegate.bulkhead = { max-concurrent = 1 }, backlog-size = 2, backlog-timeout = \"2200ms\" }",
        );
        // At 5.5 s 5 overtakes 4, which is refused at 6.2 s; at 8.5 s 8 overtakes 7, refused at 9.2 s.
        told.is("rejected_ratio", 2.0 / 8.0);
        told.is("latency_mean_ms", (1500.0 + 2000.0 + 2500.0 + 2000.0 + 2500.0 + 2000.0) / 6.0);
        // With one place, 6 finds 4 waiting at 6 s; 7 waits from 7 s on, 8 finds it there.
        let told = limited(
            "limiter.lifo-blocking = { delegate.bulkhead = { max-concurrent = 1 }, backlog-size = 1, backlog-timeout = \"2200ms\" }",
        );
        told.is("rejected_ratio", 2.0 / 8.0);
    }

    #[test]
    fn who_waits_in_vain_gives_nothing_away() {
        // The user of 2 is gone at 2.4 s, and its turn comes at 2.5 s: 3 is next all the same.
        let deadline = EVERY_SECOND.replace("to = ", "deadline = \"2s\"\nto = ");
        let service = api("cores = 4", "cpu 1500ms").replace("workers = 1", "workers = 8");
        let edge = "[source.call.api]\nlimiter.bulkhead = { max-concurrent = 1, max-wait = \"10s\" }\n";
        let told = tell("4500ms", &format!("{service}{deadline}{edge}"));
        // 1 is good. 2 starts at 2.5 s and ends at 4 s, just as its time is up; 3 starts then, 4 never matters.
        assert!(told.metric("availability") < 0.6);
        told.is("unfinished_ratio", 0.0);
    }

    #[test]
    fn envoys_thresholds_count() {
        let service = api("cores = 4", "cpu 3500ms").replace("workers = 1", "workers = 8");
        let edge = "[source.call.api]\nlimiter.envoy-circuit-breakers = { max-requests = 2 }\n";
        let told = tell("8500ms", &format!("{service}{EVERY_SECOND}{edge}"));
        told.is("rejected_ratio", 0.5);
    }
}

mod degradation {
    use super::*;

    /// Ten requests a second, 299 in all.
    const TEN: &str =
        "[[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.deterministic = { rate = \"10/s\" }\n";

    #[test]
    fn an_answer_may_be_cheaper_for_a_while() {
        let actions = "[[action]]\nat = \"10550ms\"\ndegrade = { endpoint = \"api.get\", cost = \"50%\" }\n\
                       [[action]]\nat = \"20550ms\"\ndegrade = { endpoint = \"api.get\", cost = \"100%\" }\n";
        let told = tell("30s", &format!("{}{TEN}{actions}", api("", "cpu 20ms")));
        told.is("availability", 1.0);
        told.is("degraded_ratio", 100.0 / 299.0);
        told.is("latency_mean_ms", (100.0 * 10.0 + 199.0 * 20.0) / 299.0);
        assert_eq!(told.times("api.get", "degraded to 50 %"), [10.55]);
        assert_eq!(told.times("api.get", "in full"), [20.55]);
    }

    #[test]
    fn calls_may_be_left_out_for_a_while() {
        let leaf =
            "[[service]]\nname = \"leaf\"\n[[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 1ms\"]\n";
        let actions = "[[action]]\nat = \"10550ms\"\nthrottle = { service = \"api\", callee = \"leaf\", share = \"0%\" }\n\
                       [[action]]\nat = \"12s\"\nscale = { service = \"api\", replicas = 3 }\n\
                       [[action]]\nat = \"20550ms\"\nthrottle = { service = \"api\", callee = \"leaf\", share = \"100%\" }\n";
        let told = tell("30s", &format!("{}{leaf}{TEN}{actions}", api("", "call leaf.get")));
        told.is("failed_ratio", 100.0 / 299.0);
        told.is("service.leaf.attempts_rps", 199.0 / 30.0);
        let half =
            "[[action]]\nat = \"0s\"\nthrottle = { source = \"web\", callee = \"api\", share = \"50%\" }\n";
        let told = tell("300s", &format!("{}{TEN}{half}", api("", "cpu 20ms")));
        // 2999 draws: four standard deviations are 0.037.
        let rejected = told.metric("rejected_ratio");
        assert!((rejected - 0.5).abs() < 0.037, "{rejected}");
    }

    #[test]
    fn what_an_alert_has_switched_off_comes_back() {
        let crowd = "[[alert]]\nname = \"slow\"\non = \"source.web.latency-mean\"\nabove = \"100ms\"\nwindow = \"5s\"\nevery = \"5s\"\n\
                     for = \"5s\"\nkeep-firing = \"20s\"\n\
                     [[action]]\non-alert = \"slow\"\ndegrade = { endpoint = \"api.get\", cost = \"25%\" }\n\
                     [[action]]\non-resolved = \"slow\"\nafter = \"3s\"\ndegrade = { endpoint = \"api.get\", cost = \"100%\" }\n";
        let flood = "[[source]]\nname = \"web\"\nto = \"api.get\"\n\
                     arrivals.deterministic = { profile = \"steps(0s: 10/s, 60s: 70/s, 100s: 10/s)\" }\n";
        let told = tell("5min", &format!("{}{flood}{crowd}", api("", "cpu 20ms")));
        let at = |kind: &str| -> Vec<f64> {
            told.0.events_log.iter().filter(|event| event.kind == kind).map(|event| event.t_s).collect()
        };
        let (fires, ends) = (at("alert"), at("alert_end"));
        assert_eq!((fires.len(), ends.len()), (1, 1), "{fires:?} {ends:?}");
        assert_eq!(told.times("api.get", "degraded"), fires);
        let back = told.times("api.get", "in full");
        assert!(back.len() == 1 && (back[0] - ends[0] - 3.0).abs() < 1e-6, "{back:?} {ends:?}");
        assert!(told.metric("degraded_ratio") > 0.3 && told.metric("degraded_ratio") < 0.8);
        told.is("availability", 1.0);
    }
}

/// What theory says, through the engine. Twenty independent runs each; all tests of this module together reject a right
/// engine with probability 1 %.
mod theory {
    use simlab::stats::interval::t_quantile;
    use simlab::stats::moments::Moments;

    use super::*;
    use crate::story::{load, run};

    const RUNS: usize = 20;

    /// Comparisons in this module.
    const COMPARISONS: f64 = 9.0;

    /// The metric agrees with what was expected, which is known to within `known`.
    #[track_caller]
    fn agrees(span: &str, scenario: &str, metric: &str, expected: f64, known: f64) {
        let text = format!(
            "[scenario]\nname = \"story\"\n{span}\nreplications = {RUNS}\nresolution = \"1h\"\n{scenario}"
        );
        let outcome = run(&load(&text), 2);
        let values: Vec<f64> =
            outcome.strategies[0].replications.iter().map(|run| run.metrics[metric]).collect();
        let moments = Moments::of(&values);
        let (mean, error) = (moments.mean().unwrap(), moments.standard_error().unwrap());
        let allowed = t_quantile(1.0 - 0.01 / COMPARISONS / 2.0, RUNS as f64 - 1.0) * error + known;
        assert!(
            (mean - expected).abs() <= allowed,
            "{metric} is {mean} ± {error}, not {expected}\n{scenario}"
        );
        assert!(allowed < expected * 0.1, "{metric} is {mean} ± {error}, which says nothing");
    }

    fn poisson(rate: f64) -> String {
        format!(
            "[[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.poisson = {{ rate = \"{rate}/s\" }}\n"
        )
    }

    /// Rows Q147, Q149 and Q150 of the queueing table: the workload of an M/D/1 queue barred above (burst - 1) / rate.
    #[test]
    fn buckets_and_cells_refuse_poisson_traffic_as_they_must() {
        for (rate, burst, expected) in
            [(8.0, 5, 0.035_290_396_436), (15.0, 20, 0.333_333_343_502), (9.0, 1, 0.473_684_210_526)]
        {
            for limiter in [
                format!("token-bucket = {{ rate = \"10/s\", burst = {burst} }}"),
                format!("gcra = {{ replenish-1-per = \"100ms\", max-burst = {burst} }}"),
            ] {
                let service = api("", "wait 1ms").replace("workers = 1", "workers = 1000");
                let scenario = format!("{service}{}[source.call.api]\nlimiter.{limiter}\n", poisson(rate));
                agrees("duration = \"2010s\"\nwarm-up = \"10s\"", &scenario, "rejected_ratio", expected, 0.0);
            }
        }
    }

    /// M/M/1 whose customers are lost if they would wait for more than D (Barrer 1957; row Q079 of the table). Whether they leave
    /// at that moment or are dropped when their turn comes, the same ones are served.
    #[test]
    fn dropping_at_the_turn_loses_as_many_as_leaving_the_line() {
        let (lambda, mu, patience): (f64, f64, f64) = (1.5, 1.0, 3.0);
        let rho = lambda / mu;
        let decay = libm::exp(-mu * (1.0 - rho) * patience);
        let expected = (1.0 - rho) * rho * decay / (1.0 - rho * rho * decay);
        assert!((expected - 0.370_028_694_124).abs() < 1e-11, "{expected}");
        let span = "duration = \"4100s\"\nwarm-up = \"100s\"";
        let leaving = format!("{}{}", api("queue-timeout = \"3s\"", "cpu exp(1s)"), poisson(lambda));
        agrees(span, &leaving, "rejected_ratio", expected, 0.0);
        let dropping = format!(
            "{}{}[source.call.api]\ntimeout = \"1000s\"\n",
            api("shedding.deadline = { needs = \"997s\" }", "cpu exp(1s)"),
            poisson(lambda)
        );
        agrees(span, &dropping, "rejected_ratio", expected, 0.0);
    }

    /// A throttle with factor K before a gate that shuts for T after each request it lets in. Of s requests sent per second
    /// s / (1 + s T) get in, and the throttle sends K times what got in: s = (K - 1) / T. The history of two minutes holds
    /// 600 accepted requests, so its share of refusals scatters by 4 %, and the mean of what it sends is off by the square of that.
    #[test]
    fn the_throttle_of_the_sre_book_finds_its_fixed_point() {
        let service = api("", "wait 1ms").replace("workers = 1", "workers = 1000")
            + "[service.limiter]\ngcra = { replenish-1-per = \"100ms\" }\n";
        let scenario =
            format!("{service}{}[source.call.api]\nlimiter.sre-adaptive-throttle = {{}}\n", poisson(40.0));
        agrees("duration = \"40min\"\nwarm-up = \"10min\"", &scenario, "goodput_rps", 5.0, 0.05);
    }
}
