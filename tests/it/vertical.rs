//! Instances that get another size: by a recommender and its updater, and by hand.

use crate::story::{Told, tell};

/// Ten requests a second of 20 ms CPU for each of `replicas`: 0.2 cores.
fn steady(replicas: u32, extra: &str, instance: &str) -> String {
    format!(
        "[[service]]\nname = \"api\"\nreplicas = {replicas}\n{extra}instance = {{ {instance} }}\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 20ms\"]\n\
         [[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.deterministic = {{ rate = \"{}/s\" }}\n\
         [source.call.api]\nbalancer.round-robin = {{}}\n",
        10 * replicas
    )
}

/// A service of which somebody always wants something.
fn busy(name: &str, users: u32, replicas: u32, instance: &str) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\nreplicas = {replicas}\ninstance = {{ {instance} }}\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 100ms\"]\n\
         [[source]]\nname = \"of-{name}\"\nto = \"{name}.get\"\n\
         arrivals.users = {{ count = {users}, think = \"0s\" }}\n"
    )
}

fn node(cores: u32) -> String {
    format!("[[node-pool]]\nname = \"n\"\nnodes = 1\ncores = {cores}\nmemory = \"64GiB\"\n")
}

/// 0.2 cores lie in the bucket from 0.1960 to 0.2158, and 215m and 15 % are 247m.
const TARGET: f64 = 0.247;

/// When instances said this, all of them, sorted.
fn all(told: &Told, detail: &str) -> Vec<f64> {
    let mut times: Vec<f64> =
        (0..20).flat_map(|number| told.times(&format!("api-{number}"), detail)).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// The upper bound is 247m x (1 + 1/c), with c in days since the first sample. It falls below a request of 8 cores when
/// 1/c < 31.39, so 2752 s after that; the first sample was taken at 15 s or later and read within a minute.
#[track_caller]
fn soon_after_the_bound_fell(at: f64) {
    assert!((2767.0..=2767.0 + 150.0).contains(&at), "{at}");
}

mod recommender {
    use super::*;

    #[test]
    fn off_shows_what_to_ask_for_and_changes_nothing() {
        let instance = "cores = 1, memory = \"1GiB\"";
        let told = ["", "recommender.vpa = { update-mode = \"off\" }\n"]
            .map(|extra| tell("10min", &format!("{}{}", node(4), steady(2, extra, instance))));
        for metric in ["latency_mean_ms", "throughput_rps", "service.api.cpu_of_request"] {
            told[1].is(metric, told[0].metric(metric));
        }
        assert_eq!(told[1].curve("api", "cpu_recommended").last(), Some(&TARGET));
        assert_eq!(told[1].curve("api", "cpu_requested").last(), Some(&1.0));
        told[1].is("service.api.cpu_requested_mean", 2.0);
        told[1].is("service.api.memory_requested_mean_bytes", 2.0 * f64::from(1 << 30));
        let lines = told[1].decisions("recommender");
        assert!((9..=10).contains(&lines.len()), "one a minute: {lines:?}");
        let (_, before, after, reason) = lines.last().unwrap();
        assert_eq!((*before, *after, reason.as_str()), (1.0, TARGET, "only shown"));
    }

    #[test]
    fn initial_is_for_new_instances_only() {
        let extra = "recommender.vpa = { update-mode = \"initial\" }\n";
        let instance = "cores = 1, cpu-request = 0.8, cpu-limit = 1.6";
        let more = "[[action]]\nat = \"9min\"\nscale = { service = \"api\", replicas = 2 }\n";
        let told = tell("10min", &format!("{}{more}", steady(1, extra, instance)));
        assert_eq!(told.curve("api", "cpu_requested").last(), Some(&(f64::midpoint(0.8, TARGET))));
        assert!(all(&told, "evicted").is_empty());
    }

    #[test]
    fn recreate_evicts_half_and_a_minute_later_the_other_half() {
        let extra = "recommender.vpa = {}\n";
        let instance = "cores = 1, cpu-request = 8, start = \"5s\"";
        let told = tell("1h", &format!("{}{}", node(32), steady(4, extra, instance)));
        let evicted = all(&told, "evicted to be resized");
        let first = evicted[0];
        soon_after_the_bound_fell(first);
        assert_eq!(evicted, [first, first, first + 60.0, first + 60.0]);
        assert_eq!(all(&told, "ready"), [first + 5.0, first + 5.0, first + 65.0, first + 65.0]);
        let asked = told.curve("api", "cpu_requested");
        let halfway = asked[first as usize + 30];
        assert!((halfway - f64::midpoint(8.0, TARGET)).abs() < 1e-9, "{halfway}");
        assert_eq!(asked.last(), Some(&TARGET));
        // Those that drain are still there, so they count.
        let cores = (32.0 * first + 60.0 * (16.0 + 2.0 * TARGET) + (3540.0 - first) * 4.0 * TARGET) / 3600.0;
        assert!((told.metric("service.api.cpu_requested_mean") - cores).abs() < 0.01, "{cores}");
        told.is("availability", 1.0);
    }

    #[test]
    fn a_disruption_budget_slows_it_down() {
        let extra = "recommender.vpa = {}\ndisruption-budget = { min-available = 3 }\n";
        let told = tell("1h", &steady(4, extra, "cores = 1, cpu-request = 8, start = \"5s\""));
        let evicted = all(&told, "evicted to be resized");
        let first = evicted[0];
        assert_eq!(evicted, [first, first + 60.0, first + 120.0, first + 180.0]);
    }

    #[test]
    fn the_only_instance_is_left_alone() {
        for (extra, count) in [("", 0), ("min-replicas = 1", 1)] {
            let extra = format!("recommender.vpa = {{ {extra} }}\n");
            let told = tell("1h", &steady(1, &extra, "cores = 1, cpu-request = 8"));
            assert_eq!(all(&told, "evicted").len(), count);
        }
    }

    #[test]
    fn in_place_nobody_restarts_and_who_waited_gets_the_room() {
        // Two of three find room on the node; with so few running the updater would wait for the third. They use 0.3 cores
        // each: the bucket ends at 0.3054, and 305m and 15 % are 350m. The bound falls below 8 cores when 1/c < 21.86, so
        // 3953 s after the first sample.
        let extra =
            "recommender.vpa = { update-mode = \"in-place\", in-place-skip-disruption-budget = true }\n";
        let told = tell("75min", &format!("{}{}", node(16), steady(3, extra, "cores = 1, cpu-request = 8")));
        let resized = all(&told, "resized");
        let first = resized[0];
        assert!((3968.0..=3968.0 + 150.0).contains(&first), "{first}");
        assert_eq!(told.times("api-2", "ready"), [first]);
        assert!(all(&told, "evicted").is_empty() && all(&told, "draining").is_empty());
        // It began with the size that was guessed, and shrinks a minute later.
        assert_eq!(resized, [first, first, first + 60.0]);
        assert!((told.curve("api", "cpu_requested").last().unwrap() - 0.35).abs() < 1e-9);
    }

    #[test]
    fn without_room_an_instance_waits_five_minutes_and_is_evicted() {
        // Two on a node of 0.2 cores: both need more than the 0.1 they ask for, and there is none. The lower bound,
        // 215m and 15 %, passes 100m within the first hour: 247 / (1 + 0.001/c)^2 > 100 for c > 0.00175, 151 s.
        let instance = "cores = 1, cpu-request = 0.1";
        for (mode, evicts) in [("in-place", false), ("in-place-or-recreate", true)] {
            let extra = format!(
                "recommender.vpa = {{ update-mode = \"{mode}\", max-allowed = {{ cpu = \"150m\" }} }}\n"
            );
            let pool =
                "[[node-pool]]\nname = \"n\"\nnodes = 1\ncores = 0.2\nmemory = \"1GiB\"\nshare-cpu = false\n";
            let told = tell("15min", &format!("{pool}{}", steady(2, &extra, instance)));
            let waits = all(&told, "waits for room");
            let evicted = all(&told, "evicted");
            assert_eq!(evicted.is_empty(), !evicts, "{evicted:?}");
            if evicts {
                assert_eq!(evicted[0], waits[0] + 360.0, "more than five minutes, so the sixth look");
            }
        }
    }

    #[test]
    fn a_kill_for_lack_of_memory_is_answered_with_more() {
        // 450 MiB of 500 are used; a leak of 1 MiB/s from 300 s on kills the first instance at 350 s. That counts as
        // 600 MiB, which end in the bucket up to 664,388,475 B; with 15 % that is 764,046,746 B.
        let extra = "recommender.vpa = { update-mode = \"in-place\" }\n";
        let instance =
            "cores = 1, memory-limit = \"500MiB\", memory-use = { base = \"450MiB\" }, start = \"1s\"";
        let leak = "[[fault]]\nat = \"300s\"\n\
                    memory-leak = { service = \"api\", count = 1, per-hour = \"3600MiB\", for = \"80s\" }\n";
        let told = tell("10min", &format!("{}{leak}", steady(2, extra, instance)));
        told.is("service.api.oom_kills", 1.0);
        let resized = told.times("api-0", "resized");
        assert!((350.0..=350.0 + 120.0).contains(&resized[0]), "{resized:?}");
        assert!(told.times("api-1", "resized").is_empty(), "what it asks for is within the bounds");
        let asked = told.curve("api", "memory_requested_bytes").last().unwrap() * 2.0;
        let bytes = asked - 500.0 * f64::from(1 << 20);
        assert!((bytes - 764_046_746.0).abs() < 2.0, "{bytes}");
    }
}

mod by_hand {
    use super::*;

    #[test]
    fn a_larger_quota_holds_from_the_next_moment_on() {
        // Ten requests of 100 ms a second with one core, twenty with two.
        let api = busy("api", 2, 1, "cores = 2, workers = 2, cpu-limit = 1");
        let action =
            "[[action]]\nat = \"50s\"\nresize = { service = \"api\", cpu-request = 2, cpu-limit = 2 }\n";
        let told = tell("100s", &format!("{}{api}{action}", node(4)));
        let rate = told.metric("throughput_rps");
        assert!((rate - 15.0).abs() < 0.05, "{rate}");
        told.is("service.api.cpu_requested_mean", 1.5);
        assert!(told.times("api-0", "ready").is_empty(), "nobody restarts");
    }

    #[test]
    fn a_quota_may_be_new() {
        let api = busy("api", 2, 1, "cores = 2, workers = 2, cpu-request = 0.5");
        let action = "[[action]]\nat = \"50s\"\nresize = { service = \"api\", cpu-limit = 0.5 }\n";
        let told = tell("100s", &format!("{api}{action}"));
        let rate = told.metric("throughput_rps");
        assert!((rate - 12.5).abs() < 0.05, "{rate}");
        assert!((told.metric("service.api.throttled_ratio") - 1.0).abs() < 0.01);
    }

    #[test]
    fn a_larger_request_is_a_larger_weight() {
        // 102 shares of 1126 of four cores, then one of two halves of which it uses one core: (0.3623 + 1) / 2.
        let api = busy("api", 1, 1, "cores = 1, cpu-request = 0.1");
        let hog = busy("hog", 4, 1, "cores = 4, workers = 4, cpu-request = 1");
        let action = "[[action]]\nat = \"50s\"\nresize = { service = \"api\", cpu-request = 1 }\n";
        let told = tell("100s", &format!("{}{api}{hog}{action}", node(4)));
        let used = told.metric("service.api.utilization");
        assert!((used - f64::midpoint(4.0 * 102.0 / 1126.0, 1.0)).abs() < 1e-3, "{used}");
    }

    #[test]
    fn without_room_it_waits_for_some() {
        // The kubelet tries again after three minutes; by then the other one has gone.
        let api = busy("api", 1, 1, "cores = 1, cpu-request = 2");
        let hog = busy("hog", 1, 1, "cores = 1, cpu-request = 2").replace("think = \"0s\"", "think = \"1s\"");
        let actions = "[[action]]\nat = \"50s\"\nresize = { service = \"api\", cpu-request = 3 }\n\
                       [[action]]\nat = \"100s\"\nscale = { service = \"hog\", replicas = 0 }\n";
        let told = tell("300s", &format!("{}{api}{hog}{actions}", node(4)));
        assert_eq!(told.times("api-0", "waits for room"), [50.0]);
        assert_eq!(told.times("api-0", "resized"), [230.0]);
    }

    #[test]
    fn a_smaller_memory_limit_kills_who_uses_more() {
        let api = steady(1, "", "cores = 1, memory-limit = \"500MiB\", memory-use = { base = \"300MiB\" }");
        let action = "[[action]]\nat = \"50s\"\n\
                      resize = { service = \"api\", memory = \"200MiB\", memory-limit = \"200MiB\" }\n";
        let told = tell("55s", &format!("{api}{action}"));
        assert_eq!(told.times("api-0", "out of memory")[0], 50.0);
    }
}
