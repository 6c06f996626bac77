//! What happens inside an instance and between neighbours on a node, against figures worked out by hand.

use crate::story::{Told, tell};

/// So many requests at the same moment, 10 s into the run: one from each of so many sources.
fn burst(count: u32) -> String {
    let source = |number| {
        format!(
            "[[source]]\nname = \"s{number}\"\nto = \"api.get\"\narrivals.deterministic = {{ rate = \"0.1/s\" }}\n"
        )
    };
    (0..count).map(source).collect::<Vec<_>>().concat()
}

fn service(name: &str, extra: &str, instance: &str, steps: &str) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\n{extra}instance = {{ {instance} }}\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [{steps}]\n"
    )
}

/// The moments at which an instance of the log says this.
fn moments(told: &Told, detail: &str) -> Vec<f64> {
    told.times("api-0", detail)
}

mod quota {
    use super::*;

    #[test]
    fn four_threads_on_a_limit_of_one_core_take_turns_with_standing_still() {
        // 4 x 50 ms of work, 100 ms a period, periods start anywhere: 25 ms run, 75 stand still, the last 25 run. If a period
        // ends in the first stretch, the second stretch starts with a full quota: 50 ms of running is all there is to do,
        // and what is left of the first quota decides how long they stand. From 10.000 s on, at most 125 ms and at least 50.
        let api = service("api", "", "cores = 4, workers = 4, cpu-limit = 1", "\"cpu 50ms\"");
        let told = tell("15s", &format!("{api}{}", burst(4)));
        let latency = told.metric("latency_mean_ms");
        assert!((50.0..=125.0).contains(&latency), "{latency}");
        // 200 ms of core time, whatever the phase.
        told.is("service.api.utilization", 0.2 / (15.0 * 4.0));
        told.is("service.api.throttled_per_instance_s", (latency - 50.0) / 1e3);
        // Two periods are touched, and the first one's quota runs out, unless their border lies in the middle.
        let throttled = told.metric("service.api.throttled_ratio");
        assert!(throttled == 0.5 || (throttled == 0.0 && latency == 50.0), "{throttled}");
    }

    #[test]
    fn a_quota_gives_its_rate_in_the_long_run() {
        // Two threads always busy on 1.5 cores: 75 ms of running in each 100, so 15 requests of 100 ms core time a second.
        let api = service("api", "", "cores = 2, workers = 2, cpu-limit = 1.5", "\"cpu 100ms\"");
        let users = "[[source]]\nname = \"web\"\nto = \"api.get\"\n\
                     arrivals.users = { count = 2, think = \"0s\" }\n";
        let told = tell("100s", &format!("{api}{users}"));
        let rate = told.metric("throughput_rps");
        assert!((rate - 15.0).abs() < 0.05, "{rate}");
        assert!((told.metric("service.api.utilization") - 0.75).abs() < 1e-3);
        assert!((told.metric("service.api.throttled_ratio") - 1.0).abs() < 2e-3);
        assert!((told.metric("service.api.throttled_per_instance_s") - 25.0).abs() < 0.1);
    }

    #[test]
    fn a_limit_of_all_cores_changes_nothing() {
        let stories = ["", ", cpu-limit = 2"].map(|limit| {
            let instance = format!("cores = 2, workers = 8{limit}");
            let api = service("api", "", &instance, "\"cpu exp(20ms)\"");
            let source =
                "[[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.poisson = { rate = \"70/s\" }\n";
            tell("60s", &format!("{api}{source}"))
        });
        for metric in ["latency_mean_ms", "latency_p99_ms", "service.api.sojourn_mean_ms", "throughput_rps"] {
            stories[1].is(metric, stories[0].metric(metric));
        }
        stories[1].is("service.api.throttled_ratio", 0.0);
        let busy = stories.each_ref().map(|told| told.metric("service.api.utilization"));
        assert!((busy[0] - busy[1]).abs() < 1e-6, "{busy:?}");
    }

    #[test]
    fn start_up_work_waits_for_the_quota_too() {
        // 2 s of work at half a core: four seconds (the last period ends when its quota is used, not before).
        let start = "start-cpu = \"2s\", start = \"1s\"";
        let api = service("api", "", &format!("cores = 1, {start}, cpu-limit = 0.5"), "\"cpu 1ms\"");
        let crash = "[[fault]]\nat = \"5s\"\ncrash = { service = \"api\" }\n";
        let told = tell("15s", &format!("{api}{}{crash}", burst(1)));
        let ready = told.times("api-1", "ready")[0];
        assert!((9.9..=10.05).contains(&ready), "{ready}");
        let api = service("api", "", &format!("cores = 1, {start}"), "\"cpu 1ms\"");
        let told = tell("15s", &format!("{api}{}{crash}", burst(1)));
        assert_eq!(told.times("api-1", "ready"), [8.0]);
    }
}

mod neighbours {
    use super::*;

    const NODE: &str = "[[node-pool]]\nname = \"n\"\nnodes = 1\ncores = 4\nmemory = \"8GiB\"\n";

    /// An api that always has one thread busy, beside a hog with so many.
    fn beside(api: &str, hog: &str, threads: u32, rest: &str) -> Told {
        let api = service("api", "", api, "\"cpu 10ms\"");
        let hog = service("hog", "", hog, "\"cpu 100ms\"");
        let users = |name: &str, count: u32| {
            format!(
                "[[source]]\nname = \"of-{name}\"\nto = \"{name}.get\"\n\
                 arrivals.users = {{ count = {count}, think = \"0s\" }}\n"
            )
        };
        tell("20s", &format!("{NODE}{api}{hog}{}{}{rest}", users("api", 1), users("hog", threads)))
    }

    #[test]
    fn cores_are_shared_by_request() {
        // The api asks for 0.5 cores and uses one; the hog asks for 0.5 and could use four. Two each, so the api has its one.
        let told = beside("cores = 1, cpu-request = 0.5", "cores = 4, workers = 4, cpu-request = 0.5", 4, "");
        told.is_about("source.of-api.latency_mean_ms", 10.0);
        assert!((told.metric("service.hog.utilization") - 0.75).abs() < 1e-3);
        told.is("service.api.steal_ratio", 0.0);
        assert!((told.metric("service.hog.steal_ratio") - 0.25).abs() < 1e-3);
        // It asks for a tenth of what the hog asks for, 102 shares beside 1024: 4 x 102/1126 of a core.
        let told = beside("cores = 1, cpu-request = 0.1", "cores = 4, workers = 4, cpu-request = 1", 4, "");
        let latency = told.metric("source.of-api.latency_mean_ms");
        assert!((latency - 10.0 * 1126.0 / 408.0).abs() < 0.01, "{latency}");
        assert!((told.metric("service.api.steal_ratio") - (1.0 - 408.0 / 1126.0)).abs() < 1e-4);
    }

    #[test]
    fn who_uses_what_it_asks_for_is_never_disturbed() {
        let told = beside("cores = 1, cpu-request = 1", "cores = 4, workers = 16, cpu-request = 0.1", 16, "");
        told.is_about("source.of-api.latency_mean_ms", 10.0);
        told.is("service.api.steal_ratio", 0.0);
        assert!((told.metric("service.hog.utilization") - 0.75).abs() < 1e-3);
    }

    #[test]
    fn a_quota_on_the_hog_leaves_cores_idle() {
        let told = beside(
            "cores = 1, cpu-request = 0.1",
            "cores = 4, workers = 4, cpu-request = 0.5, cpu-limit = 2",
            4,
            "",
        );
        assert!((told.metric("service.hog.utilization") - 0.5).abs() < 2e-3);
        assert!(told.metric("service.hog.throttled_ratio") > 0.99);
        // While the hog runs, on all four cores in half of the time, the api has 4 x 0.1 / 0.6 of a core; else one.
        let latency = told.metric("source.of-api.latency_mean_ms");
        assert!((10.5..=14.0).contains(&latency), "{latency}");
    }

    #[test]
    fn stolen_cores_are_gone_for_all_and_come_back() {
        let fault = "[[fault]]\nname = \"thief\"\nat = \"5s\"\n\
                     noisy-neighbour = { pool = \"n\", cores = 3.5, for = \"10s\" }\n";
        let told = beside("cores = 1, cpu-request = 1", "cores = 1, workers = 1, cpu-request = 1", 1, fault);
        // Half a core for two of them: a quarter each for ten of twenty seconds.
        assert!((told.metric("service.api.utilization") - 0.625).abs() < 1e-3);
        assert!((told.metric("service.hog.utilization") - 0.625).abs() < 1e-3);
        assert!((told.metric("service.api.steal_ratio") - 0.375).abs() < 1e-3);
        assert_eq!(told.times("thief", ""), [5.0, 15.0]);
    }

    #[test]
    fn a_node_that_cannot_be_oversubscribed_keeps_no_such_state() {
        let told = beside("cores = 1", "cores = 2, workers = 4", 4, "");
        assert!(!told.metrics().contains_key("service.api.steal_ratio"));
    }
}

mod sidecars {
    use super::*;

    #[test]
    fn every_attempt_passes_the_proxy_twice() {
        let sidecar = "[[service.sidecar]]\nname = \"proxy\"\ncost = \"4ms\"\n";
        let api = service("api", "", "cores = 1", "\"cpu 10ms\"");
        let told = tell("15s", &format!("{api}{sidecar}{}", burst(1)));
        told.is("service.api.sojourn_mean_ms", 14.0);
        told.is("service.api.utilization", 0.014 / 15.0);
    }

    #[test]
    fn a_tight_proxy_throttles_an_idle_app() {
        // 40 ms of core time in each request on a limit of 0.1: 10 ms a period, so four quotas. At best the first is used
        // at the very end of a period: 10 + 200 + 10 ms; at worst at its start: 310 ms and what the app takes.
        let sidecar = "[[service.sidecar]]\nname = \"proxy\"\ncost = \"40ms\"\ncpu-limit = 0.1\n";
        let api = service("api", "", "cores = 4", "\"cpu 1ms\"");
        let told = tell("15s", &format!("{api}{sidecar}{}", burst(1)));
        let sojourn = told.metric("service.api.sojourn_mean_ms");
        assert!((220.0..=311.0 + 1e-6).contains(&sojourn), "{sojourn}");
        assert!(told.metric("service.api.throttled_per_instance_s") > 0.17);
    }

    #[test]
    fn the_program_draws_the_same_with_and_without_a_proxy() {
        let stories = ["", "[[service.sidecar]]\nname = \"proxy\"\ncost = \"2ms\"\n"].map(|sidecar| {
            let api = service("api", "", "cores = 1, workers = 1", "\"cpu exp(10ms)\", \"cpu exp(1ms)\"");
            tell("100s", &format!("{api}{sidecar}{}", burst(1)))
        });
        stories[1].is("latency_mean_ms", stories[0].metric("latency_mean_ms") + 2.0);
    }

    #[test]
    fn an_autoscaler_can_follow_one_container() {
        // The proxy uses 0.3 cores and asks for 0.1: 300 % of its request, where 100 % are wanted, so three instances.
        let scaler = "[service.autoscaler.hpa]\nmax-replicas = 10\n\
                      metrics = [{ container-resource = { container = \"proxy\", name = \"cpu\", utilization = 100 } }]\n";
        let sidecar = "[[service.sidecar]]\nname = \"proxy\"\ncost = \"30ms\"\n";
        let source =
            "[[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.deterministic = { rate = \"10/s\" }\n";
        let api = service("api", "", "cores = 2, workers = 8", "\"cpu 1ms\"");
        let told = tell("10min", &format!("{api}{scaler}{sidecar}{source}"));
        assert_eq!(told.curve("api", "replicas_ready").last(), Some(&3.0));
    }
}

mod memory {
    use super::*;

    #[test]
    fn a_leak_kills_again_and_again_with_back_off() {
        // 100 MiB to lose at 1 MiB/s: killed every 100 s of life. The first restart is at once, then after 10 s, 20 s ...
        let instance = "cores = 1, start = \"2s\", memory-limit = \"500MiB\", \
                        memory-use = { base = \"400MiB\", leak-per-hour = \"3600MiB\" }";
        let api = service("api", "", instance, "\"cpu 1ms\"");
        let told = tell("400s", &format!("{api}{}", burst(1)));
        let kills = moments(&told, "out of memory");
        let expected = [100.0, 200.0, 310.0];
        assert_eq!(kills.len(), 3, "{kills:?}");
        for (kill, expected) in kills.iter().zip(expected) {
            assert!((kill - expected).abs() < 0.01, "{kills:?}");
        }
        let ready = moments(&told, "ready");
        // Killed at 100: ready at 102. Killed at 200: waits 10 s. Killed at 310: waits 20 s.
        for (ready, expected) in ready.iter().zip([102.0, 212.0, 332.0]) {
            assert!((ready - expected).abs() < 0.01, "{ready:?}");
        }
        told.is("service.api.oom_kills", 3.0);
    }

    #[test]
    fn many_attempts_at_once_are_too_much() {
        // 100 MiB and 10 for each attempt: the eleventh at one moment is one too many; all of them are lost.
        let instance = "cores = 1, workers = 32, memory-limit = \"200MiB\", start = \"1s\", \
                        memory-use = { base = \"100MiB\", per-attempt = \"10MiB\" }";
        let api = service("api", "", instance, "\"wait 1s\"");
        let told = tell("15s", &format!("{api}{}", burst(10)));
        told.is("availability", 1.0);
        told.is("service.api.oom_kills", 0.0);
        let told = tell("15s", &format!("{api}{}", burst(11)));
        told.is("availability", 0.0);
        told.is("service.api.oom_kills", 1.0);
    }

    #[test]
    fn a_leak_that_a_fault_brings_stays_until_the_process_ends() {
        let instance = "cores = 1, memory-limit = \"200MiB\", memory-use = { base = \"100MiB\" }";
        let api = service("api", "", instance, "\"cpu 1ms\"");
        let fault = "[[fault]]\nat = \"10s\"\nmemory-leak = { service = \"api\", per-hour = \"3600MiB\", for = \"50s\" }\n";
        let told = tell("200s", &format!("{api}{}{fault}", burst(1)));
        let curve = told.curve("api", "memory_bytes");
        let mib = |at: usize| (curve[at - 1] / f64::from(1 << 20)).round();
        assert_eq!([mib(10), mib(35), mib(60), mib(150)], [100.0, 125.0, 150.0, 150.0]);
        told.is("service.api.oom_kills", 0.0);
    }

    #[test]
    fn an_autoscaler_can_follow_memory() {
        // 100 MiB and 20 for each of twenty inside: 500 where 260 are wanted, so two instances. Each of them then has 300:
        // 15 % too much, so three, each with 233. 233/260 is just beyond the tolerance, but wants ceil(2.7) = three.
        let scaler = "[service.autoscaler.hpa]\nmax-replicas = 10\n\
                      metrics = [{ resource = { name = \"memory\", average-value = \"260Mi\" } }]\n";
        let instance = "mode = \"async\", memory = \"1GiB\", memory-use = { base = \"100MiB\", per-attempt = \"20MiB\" }";
        let api = service("api", "", instance, "\"wait 2s\"");
        let source =
            "[[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.deterministic = { rate = \"10/s\" }\n";
        let told = tell("10min", &format!("{api}{scaler}{source}"));
        assert_eq!(told.curve("api", "replicas_ready").last(), Some(&3.0));
    }

    #[test]
    fn a_collection_stops_the_program() {
        // A request a second allocates 1 MiB; every tenth fills the young generation and waits 5 ms and 1 GiB x 20 ms.
        let instance = "cores = 1, workers = 1, memory-use = { base = \"1GiB\" }, \
                        gc = { per-request = \"1MiB\", young = \"10MiB\", pause = \"5ms\", per-gib = \"20ms\" }";
        let api = service("api", "", instance, "\"cpu 10ms\"");
        let source =
            "[[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.deterministic = { rate = \"1/s\" }\n";
        let told = tell("100.5s", &format!("{api}{source}"));
        told.is("latency_mean_ms", 10.0 + 2.5);
        told.is("service.api.gc_pause_mean_ms", 25.0);
        told.is("service.api.gc_pause_ratio", 10.0 * 0.025 / 100.5);
        // The collector's core time is used, too.
        told.is("service.api.utilization", (100.0 * 0.01 + 10.0 * 0.025) / 100.5);
    }
}

mod disk {
    use super::*;

    /// 10 MiB a second on 10 GiB: 9 GiB are full after 921.6 s.
    const LOGS: &str = "cores = 1, start = \"2s\", disk-use = { size = \"10GiB\", per-hour = \"36000MiB\" }";

    #[test]
    fn an_instance_is_evicted_at_nine_tenths_and_its_successor_starts_empty() {
        let api = service("api", "", LOGS, "\"cpu 1ms\"");
        let told = tell("1000s", &format!("{api}{}", burst(1)));
        let evicted = moments(&told, "evicted: disk pressure");
        assert_eq!(evicted.len(), 1);
        assert!((evicted[0] - 921.6).abs() < 1e-6, "{evicted:?}");
        assert_eq!(told.times("api-0", "died"), evicted);
        let ready = told.times("api-1", "ready")[0];
        assert!((ready - 923.6).abs() < 1e-6, "{ready}");
        told.is("service.api.disk_evictions", 1.0);
        let curve = told.curve("api", "disk_bytes");
        let mib = |at: usize| curve[at - 1] / f64::from(1 << 20);
        // Two seconds of its life the successor was not ready.
        for (at, expected) in [(100, 1000.0), (921, 9210.0), (1000, 764.0)] {
            assert!((mib(at) - expected).abs() < 1e-3, "{} MiB at {at} s", mib(at));
        }
    }

    #[test]
    fn an_alert_at_eighty_percent_comes_before_the_eviction() {
        let alert = "[[alert]]\nname = \"disk\"\non = \"service.api.disk-utilization\"\nabove = \"80%\"\n\
                     every = \"10s\"\n\
                     [[action]]\non-alert = \"disk\"\nafter = \"30s\"\nscale = { service = \"api\", replicas = 0 }\n";
        let api = service("api", "", LOGS, "\"cpu 1ms\"");
        let told = tell("1000s", &format!("{api}{}{alert}", burst(1)));
        let fired = told.times("disk", "at");
        assert_eq!(fired.len(), 1, "{fired:?}");
        // 8 GiB after 819.2 s, seen at the next look.
        assert!((819.2..=829.2).contains(&fired[0]), "{fired:?}");
        told.is("service.api.disk_evictions", 0.0);
    }

    #[test]
    fn requests_fill_it_too_and_the_last_one_is_lost() {
        // 100 MiB and 8 for each: the hundredth makes 900 of 1000. They end after 50 ms, so the last one dies inside.
        let instance = "cores = 1, start = \"1s\", \
                        disk-use = { size = \"1000MiB\", base = \"100MiB\", per-request = \"8MiB\" }";
        let api = service("api", "", instance, "\"wait 50ms\"");
        let source =
            "[[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.deterministic = { rate = \"10/s\" }\n";
        let told = tell("10.55s", &format!("{api}{source}"));
        told.is("service.api.disk_evictions", 1.0);
        assert_eq!(moments(&told, "evicted: disk pressure"), [10.0]);
        // The hundredth dies, and the next five find nobody.
        told.is("availability", 99.0 / 105.0);
    }

    #[test]
    fn a_fault_fills_disks_at_once() {
        let fault = "[[fault]]\nat = \"5s\"\ndisk-full = { service = \"api\", count = 2, for = \"20s\" }\n";
        let api = |full: &str| {
            let instance = format!("cores = 1, start = \"3s\", disk-use = {{ size = \"1GiB\"{full} }}");
            service("api", "replicas = 3\n", &instance, "\"cpu 1ms\"")
        };
        let told = tell("60s", &format!("{}{}{fault}", api(""), burst(1)));
        told.is("service.api.disk_evictions", 2.0);
        let ready = told.curve("api", "replicas_ready");
        assert_eq!([ready[3], ready[5], ready[9], ready[40]], [3.0, 1.0, 3.0, 3.0]);
        // Kept, and of no use: the round robin meets a full one twice in three.
        let source = "[[source]]\nname = \"web\"\nto = \"api.get\"\n\
                      arrivals.deterministic = { rate = \"3/s\" }\n\
                      call.api.balancer.round-robin = {}\n";
        let told = tell("60.1s", &format!("{}{source}{fault}", api(", full = \"fail\"")));
        assert!(!told.metrics().contains_key("service.api.disk_evictions"));
        told.is("availability", (180.0 - 40.0) / 180.0);
        assert_eq!(told.curve("api", "replicas_ready").iter().copied().fold(3.0, f64::min), 3.0);
    }
}

mod network {
    use super::*;

    const SOURCE: &str =
        "[[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.deterministic = { rate = \"10/s\" }\n";

    fn api(extra: &str, steps: &str) -> String {
        let api = service("api", extra, "cores = 1, workers = 50", steps);
        format!("{api}network-use = {{ in = \"1KiB\", out = \"19KiB\" }}\n")
    }

    #[test]
    fn bytes_are_counted_on_the_way_in_and_out() {
        let told = tell("100.05s", &format!("{}{SOURCE}", api("", "\"cpu 1ms\"")));
        told.is("service.api.network_bytes_per_second", 1000.0 * 20.0 * 1024.0 / 100.05);
        told.is("latency_mean_ms", 1.0);
        // Answers that nobody waits for any more go out as well; errors bring nothing.
        let slow = SOURCE.replace("to =", "deadline = \"1s\"\nto =");
        let told = tell("100.05s", &format!("{}{slow}", api("", "\"wait 2s\"")));
        told.is("availability", 0.0);
        // Nineteen answers and one more are still to come.
        told.is("service.api.network_bytes_per_second", (1000.0 + 980.0 * 19.0) * 1024.0 / 100.05);
    }

    #[test]
    fn each_endpoint_has_its_own() {
        let more = "[[service.endpoint]]\nname = \"put\"\nsteps = [\"cpu 1ms\"]\nnetwork-use = { in = \"5KiB\" }\n\
                    [[service.endpoint]]\nname = \"ping\"\nsteps = [\"cpu 1ms\"]\n";
        let sources = ["get", "put", "ping"].map(|to| {
            format!(
                "[[source]]\nname = \"{to}\"\nto = \"api.{to}\"\narrivals.deterministic = {{ rate = \"1/s\" }}\n"
            )
        });
        let told = tell("10.5s", &format!("{}{more}{}", api("", "\"cpu 1ms\""), sources.concat()));
        told.is("service.api.network_bytes_per_second", 10.0 * 25.0 * 1024.0 / 10.5);
    }

    #[test]
    fn an_autoscaler_follows_bytes_per_second() {
        // 200 KiB a second where each instance should have 60: four.
        let scaler = "[service.autoscaler.hpa]\nmax-replicas = 10\n\
                      metrics = [{ pods = { metric = \"network-bytes-per-second\", average-value = \"60Ki\" } }]\n";
        let alert = "[[alert]]\nname = \"loud\"\non = \"service.api.network-bytes-per-second\"\nabove = \"199KiB/s\"\n\
                     [[alert]]\nname = \"louder\"\non = \"service.api.network-bytes-per-second\"\nabove = \"201KiB/s\"\n";
        let text = format!("{}{scaler}{SOURCE}{alert}", api("", "\"cpu 1ms\""));
        let told = tell("10min", &text);
        assert_eq!(told.curve("api", "replicas_ready").last(), Some(&4.0));
        told.is("alert.loud.fired", 1.0);
        told.is("alert.louder.fired", 0.0);
    }

    #[test]
    fn an_autoscaler_follows_the_disk() {
        let scaler = "[service.autoscaler.hpa]\nmax-replicas = 4\n\
                      metrics = [{ pods = { metric = \"disk-bytes\", average-value = \"100Mi\" } }]\n";
        let instance = "cores = 1, disk-use = { size = \"10GiB\", base = \"150MiB\" }";
        let api = service("api", "", instance, "\"cpu 1ms\"");
        let told = tell("10min", &format!("{api}{scaler}{SOURCE}"));
        // 150 of 100 each, always: up to the most that is allowed.
        assert_eq!(told.curve("api", "replicas_ready").last(), Some(&4.0));
    }

    #[test]
    fn a_share_of_the_memory_limit_can_be_watched() {
        let fired = |above: &str| {
            let alert = format!(
                "[[alert]]\nname = \"full\"\non = \"service.api.memory-utilization\"\nabove = \"{above}\"\n"
            );
            let instance = "cores = 1, memory-limit = \"400MiB\", memory-use = { base = \"300MiB\" }";
            let api = service("api", "replicas = 2\n", instance, "\"cpu 1ms\"");
            tell("2min", &format!("{api}{SOURCE}{alert}")).metric("alert.full.fired")
        };
        assert_eq!((fired("74%"), fired("76%")), (1.0, 0.0));
    }
}

mod burst {
    use super::*;

    /// Two cores at 20 %, so 0.4 earned all the time, on which two threads are always busy.
    const INSTANCE: &str = "cores = 2, workers = 2, cpu-burst = { baseline = \"20%\", credits = \"80s\" }";

    const USERS: &str = "[[source]]\nname = \"web\"\nto = \"api.get\"\n\
                         arrivals.users = { count = 2, think = \"0s\" }\n";

    #[test]
    fn credits_last_as_long_as_they_should_and_then_the_baseline_is_left() {
        // 80 core-seconds, spent at 2 - 0.4: fifty seconds of two cores, then fifty of 0.4.
        let api = service("api", "", INSTANCE, "\"cpu 100ms\"");
        let told = tell("100s", &format!("{api}{USERS}"));
        told.is("service.api.utilization", (50.0 * 2.0 + 50.0 * 0.4) / 200.0);
        let curve = told.curve("api", "burst_credits_s");
        for (at, expected) in [(10, 64.0), (49, 1.6), (50, 0.0), (100, 0.0)] {
            assert!((curve[at - 1] - expected).abs() < 1e-6, "{} at {at} s", curve[at - 1]);
        }
        let rate = told.curve("api", "utilization");
        assert!((rate[48] - 1.0).abs() < 1e-6 && (rate[50] - 0.2).abs() < 1e-6, "{rate:?}");
    }

    #[test]
    fn who_stays_below_the_baseline_is_not_disturbed_and_saves_for_a_day() {
        let instance = "cores = 1, cpu-burst = { baseline = \"20%\", max = \"10s\" }";
        let source =
            "[[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.deterministic = { rate = \"1/s\" }\n";
        let api = service("api", "", instance, "\"cpu 100ms\"");
        let told = tell("200.5s", &format!("{api}{source}"));
        // It begins with nothing: what it has earned before the first request is enough for that, and so on.
        told.is("latency_mean_ms", 100.0);
        let curve = told.curve("api", "burst_credits_s");
        assert!((curve[49] - 5.1).abs() < 0.1 && (curve[199] - 10.0).abs() < 0.1, "{curve:?}");
    }

    #[test]
    fn a_process_that_starts_again_finds_what_was_left() {
        // Killed for its memory at 20 s: 80 - 20 x 1.6 are left, and the start of ten seconds earns four. During
        // the first 10 ms nobody was there, which is worth another 0.02.
        let instance = INSTANCE.replace(
            "workers",
            "start = \"10s\", memory-limit = \"500MiB\", \
             memory-use = { base = \"480MiB\", leak-per-hour = \"3600MiB\" }, workers",
        );
        let api = service("api", "", &instance, "\"cpu 100ms\"");
        // Who is turned away at once must not come back at once.
        let users = USERS.replace("count = 2, think = \"0s\"", "count = 10, think = \"10ms\"");
        let told = tell("31s", &format!("{api}{users}"));
        let curve = told.curve("api", "burst_credits_s");
        assert!((curve[29] - 52.02).abs() < 1e-3, "{curve:?}");
    }
}
