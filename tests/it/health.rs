//! Who is well, who says so, and who believes it: probes, outlier detection, checks, host selection, registries, predictions.
//! Numbers in these stories were worked out by hand.

use crate::story::{Told, tell};

/// `rate` requests a second of 10 ms for `replicas` instances, in turn; `edge` belongs to the caller, `service` to the callee.
fn system(replicas: u32, rate: u32, service: &str, edge: &str, rest: &str) -> String {
    format!(
        "[[service]]\nname = \"api\"\nreplicas = {replicas}\n{service}\
         instance = {{ cores = 1, workers = 4, queue = 50, start = \"2s\" }}\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 10ms\"]\n\
         [[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.deterministic = {{ rate = \"{rate}/s\" }}\n\
         [source.call.api]\nbalancer.round-robin = {{}}\n{edge}\n{rest}"
    )
}

fn fault(at: &str, what: &str) -> String {
    format!("[[fault]]\nat = \"{at}\"\n{what}\n")
}

/// Times at which any instance said this.
fn all(told: &Told, detail: &str) -> Vec<f64> {
    let mut times: Vec<f64> =
        (0..40).flat_map(|number| told.times(&format!("api-{number}"), detail)).collect();
    times.sort_by(f64::total_cmp);
    times
}

mod outliers {
    use super::*;

    #[test]
    fn the_broken_one_of_ten_costs_five_errors_a_sweep_later_five_more() {
        let broken =
            fault("10s", "error-rate = { service = \"api\", count = 1, rate = \"100%\", for = \"5min\" }");
        // Ten a second for each. Ejected for 30 s at the fifth error, let in by a sweep (10 s apart), ejected for 60 s.
        let told = tell("130s", &system(10, 100, "", "outlier.envoy = {}", &broken));
        let lines = told.decisions("outlier");
        let changes: Vec<(f64, String)> =
            lines.iter().map(|(_, _, after, why)| (*after, why.clone())).collect();
        let out = || (1.0, "consecutive 5xx".to_owned());
        let back = || (0.0, "time served".to_owned());
        assert_eq!(changes[..4], [out(), back(), out(), back()], "{lines:?}");
        let stays: Vec<f64> = lines.windows(2).step_by(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert!((30.0..=40.0).contains(&stays[0]) && (60.0..=70.0).contains(&stays[1]), "{stays:?}");
        let ejections = lines.iter().filter(|(_, _, after, _)| *after == 1.0).count();
        told.is("service.api.ejections", ejections as f64);
        told.is("failed_ratio", 5.0 * ejections as f64 / told.metric("requests"));
        told.is("service.api.panic_ratio", 0.0);
    }

    #[test]
    fn one_of_nine_is_more_than_ten_percent() {
        let broken =
            fault("10s", "error-rate = { service = \"api\", count = 1, rate = \"100%\", for = \"5min\" }");
        let told = tell("30s", &system(9, 90, "", "outlier.envoy = {}", &broken));
        told.is("service.api.ejections", 0.0);
        // From 10 s on ten of ninety fail in every second; the one in progress at 10 s may already.
        let failed = told.metric("failed_ratio") * 2700.0;
        assert!((failed - 200.0).abs() <= 1.5, "{failed}");
    }
}

mod panic {
    use super::*;

    /// Six of ten fail, all of which may be ejected.
    fn six_of_ten(threshold: &str) -> Told {
        let broken =
            fault("10s", "error-rate = { service = \"api\", count = 6, rate = \"100%\", for = \"5min\" }");
        let edge = format!(
            "outlier.envoy = {{ max-ejection-percent = \"100%\" }}\nhost-selection.envoy = {{ healthy-panic-threshold = \"{threshold}\" }}"
        );
        tell("30s", &system(10, 100, "", &edge, &broken))
    }

    #[test]
    fn below_half_everybody_is_tried_again() {
        let told = six_of_ten("50%");
        // Four of ten are 40 %, below half: health is ignored once the sixth is out.
        assert!(told.metric("failed_ratio") > 0.3, "{}", told.metric("failed_ratio"));
        assert!(told.metric("service.api.panic_ratio") > 0.5);
    }

    #[test]
    fn without_panic_the_four_carry_on() {
        let told = six_of_ten("0%");
        told.is("service.api.ejections", 6.0);
        told.is("service.api.panic_ratio", 0.0);
        told.is("failed_ratio", 30.0 / told.metric("requests"));
    }
}

mod zones {
    use super::*;

    fn two_zones(edge: &str, rest: &str) -> String {
        let pools = "[[node-pool]]\nname = \"n\"\nnodes = 8\ncores = 1\nmemory = \"8GiB\"\nzones = [\"a\", \"b\"]\nmax-pods = 1\n";
        format!(
            "{pools}[[service]]\nname = \"api\"\nreplicas = 8\ninstance = {{ cores = 1, workers = 4 }}\n\
             [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 1ms\"]\n\
             [[source]]\nname = \"web\"\nzone = \"a\"\nto = \"api.get\"\narrivals.poisson = {{ rate = \"400/s\" }}\n\
             [source.call.api]\n{edge}\n{rest}"
        )
    }

    /// Share of attempts that zone b serves, from its latency: 10 ms there and back more.
    fn abroad(told: &Told) -> f64 {
        (told.metric("latency_mean_ms") - 1.0) / 20.0
    }

    const FAR: &str = "[network]\ncross-zone = \"10ms\"\n";

    #[test]
    fn the_second_level_takes_over_by_what_the_first_has_lost() {
        let edge = "timeout = \"2s\"\noutlier.envoy = { max-ejection-percent = \"100%\" }\n\
                    host-selection.envoy = { priorities = [[\"a\"], [\"b\"]] }";
        let whole = tell("20s", &two_zones(edge, FAR));
        assert!(abroad(&whole).abs() < 0.02, "all stays at home: {}", abroad(&whole));
        // Two of four are left in zone a: health 140 * 2 / 4 = 70, so 30 % go to b. The oldest instances are on the nodes in
        // turn: a, b, a, b.
        let broken =
            fault("0s", "error-rate = { service = \"api\", count = 4, rate = \"100%\", for = \"1h\" }");
        let half = tell("29s", &two_zones(edge, &format!("{FAR}{broken}")));
        // Those of zone b fail, too, but only two of its four were struck, and both are out soon.
        assert!((abroad(&half) - 0.3).abs() < 0.04, "{}", abroad(&half));
    }

    #[test]
    fn zones_that_do_not_exist_are_known_by_name() {
        let edge = "host-selection.envoy = { priorities = [[\"c\"]] }";
        let text = format!("[scenario]\nname = \"x\"\nduration = \"1s\"\n{}", two_zones(edge, ""));
        let error =
            simlab::scenario::model::Study::from_text("x", &text, &simlab::scenario::Overrides::default());
        let message = error.unwrap_err().to_string();
        assert!(message.contains("there is no zone `c`"), "{message}");
    }
}

mod probes {
    use super::*;

    #[test]
    fn a_new_instance_gets_traffic_when_its_probe_has_passed() {
        let grow = "[[action]]\nat = \"10s\"\nscale = { service = \"api\", replicas = 2 }\n";
        let told = tell("60s", &system(1, 10, "probe.readiness = { cost = \"5ms\" }\n", "", grow));
        // Two seconds to start; the container's start triggers a probe, which takes 5 ms.
        assert_eq!(told.times("api-1", "started"), [12.0]);
        assert_eq!(told.times("api-1", "ready"), [12.005]);
        let told = tell(
            "60s",
            &system(1, 10, "probe.readiness = { cost = \"5ms\", initial-delay = \"7s\" }\n", "", grow),
        );
        assert_eq!(told.times("api-1", "ready"), [19.005], "not before the delay is over");
    }

    #[test]
    fn a_hang_is_noticed_after_three_periods_and_cured_by_a_restart() {
        let hang = fault("30s", "hang = { service = \"api\", count = 1, for = \"10min\" }");
        let probes = "probe.readiness = {}\nprobe.liveness = {}\n";
        let told = tell("3min", &system(2, 20, probes, "timeout = \"1s\"", &hang));
        // The next probe comes within 10 s, then two more, and each is given a second.
        let lost = told.times("api-0", "not ready");
        assert!(lost.len() == 1 && (51.0..=61.0).contains(&lost[0]), "{lost:?}");
        let failed = told.times("api-0", "liveness probe failed");
        assert!(failed.len() == 1 && (51.0..=61.0).contains(&failed[0]), "{failed:?}");
        // What hangs does not react to being told to stop: 30 s of grace, then 2 s to start.
        let started = told.times("api-0", "started");
        assert!((started[0] - failed[0] - 32.0).abs() < 1e-6, "{started:?} {failed:?}");
        told.is("service.api.readiness_lost", 1.0);
        told.is("service.api.probe_restarts", 1.0);
    }

    #[test]
    fn a_process_that_never_gets_well_is_started_ever_more_rarely() {
        let broken =
            fault("0s", "error-rate = { service = \"api\", count = 1, rate = \"100%\", for = \"1h\" }");
        let probes = "probe.liveness = { period = \"1s\", endpoint = \"get\" }\n";
        let told = tell("3min", &system(1, 1, probes, "", &broken));
        let started = told.times("api-0", "ready");
        let failed = told.times("api-0", "liveness probe failed");
        let waits: Vec<f64> = failed.iter().zip(&started).map(|(failed, started)| started - failed).collect();
        // Start-up takes 2 s; the back-off is 0, 10, 20, 40 s. A request inside may hold the end up for its 10 ms.
        for (wait, expected) in waits.iter().zip([2.0, 12.0, 22.0, 42.0]) {
            assert!((wait - expected).abs() < 0.1, "{waits:?}");
        }
        assert!(waits.len() >= 4, "{waits:?}");
    }

    #[test]
    fn overload_takes_readiness_and_a_port_of_its_own_does_not() {
        // One instance does 100 a second; 200 come for 40 s. The queue has 50 places, 0.54 s, and the probe waits 0.3 s.
        let flood = |port: &str| {
            let text = format!(
                "[[service]]\nname = \"api\"\nprobe.readiness = {{ period = \"2s\", timeout = \"300ms\"{port} }}\n\
                 instance = {{ cores = 1, workers = 1, queue = 50 }}\n\
                 [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 10ms\"]\n\
                 [[source]]\nname = \"web\"\nto = \"api.get\"\n\
                 arrivals.deterministic = {{ profile = \"steps(0s: 50/s, 20s: 200/s, 60s: 50/s)\" }}\n"
            );
            tell("100s", &text)
        };
        let (shared, own) = (flood(""), flood(", own-port = true"));
        assert!(shared.metric("service.api.readiness_lost") >= 2.0);
        own.is("service.api.readiness_lost", 0.0);
        own.is("service.api.probes_failed_ratio", 0.0);
        assert!(shared.metric("availability") < own.metric("availability") - 0.05);
    }
}

mod checks {
    use super::*;

    #[test]
    fn a_client_leaves_out_who_does_not_answer_and_takes_it_back() {
        let hang = fault("20s", "hang = { service = \"api\", count = 1, for = \"30s\" }");
        let edge = "timeout = \"1s\"\nhealth-check = { detector.envoy = { timeout = \"1s\", interval = \"2s\", \
                    unhealthy-threshold = 2, healthy-threshold = 1 } }";
        let told = tell("80s", &system(4, 40, "", edge, &hang));
        let lines = told.decisions("check");
        let [(out, .., why), (back, ..)] = &lines[..] else { panic!("{lines:?}") };
        // The next check comes within 2 s and is lost a second later, and the one after that.
        assert!((22.0..=26.1).contains(out) && why == "no answer", "{lines:?}");
        assert!((50.0..=53.1).contains(back), "{lines:?}");
        told.is("service.api.checked_out", 1.0);
    }
}

mod registries {
    use super::*;

    /// Two of twelve die without a word at 30 s. How many of 24 000 requests failed.
    fn deaths(discovery: &str, rest: &str) -> Told {
        let service = format!("{discovery}\n");
        let crash = fault("30s", "crash = { service = \"api\", count = 2 }");
        tell("600s", &system(12, 120, &service, "", &format!("{crash}{rest}")))
    }

    #[test]
    fn a_poll_is_late_by_up_to_a_period() {
        let told = deaths("discovery.poll = { period = \"20s\" }", "");
        // Twenty a second for the two, for up to 20 s.
        let failed = told.metric("failed_ratio") * 72_000.0;
        assert!(failed > 0.0 && failed <= 401.0, "{failed}");
    }

    #[test]
    fn heartbeats_are_missed_three_times() {
        let told = deaths("discovery.heartbeats = {}", "");
        // The last one came within 5 s before the death; 15 s later, within a second, they are out.
        let failed = told.metric("failed_ratio") * 72_000.0;
        assert!((200.0..=330.0).contains(&failed), "{failed}");
    }

    #[test]
    fn eureka_keeps_the_dead_for_minutes() {
        let told = deaths("discovery = \"eureka\"", "");
        // 180 s after the last renewal, then the next eviction (60 s), the copy (30 s) and the fetch (30 s), of which
        // everything is drawn; two of fourteen on the list.
        let failed = told.metric("failed_ratio") * 72_000.0;
        let rate = 120.0 * 2.0 / 14.0;
        assert!((150.0 * rate..=305.0 * rate).contains(&failed), "{}", failed / rate);
    }

    #[test]
    fn a_registry_that_nobody_reaches_leaves_everybody_with_what_they_know() {
        let outage = fault("29s", "discovery-outage = { service = \"api\", for = \"100s\" }");
        let told = deaths("discovery.poll = { period = \"20s\" }", &outage);
        // Nobody learns of the deaths before 129 s.
        let failed = told.metric("failed_ratio") * 72_000.0;
        assert!((1975.0..=2401.0).contains(&failed), "{failed}");
        let told = deaths("", "");
        assert!(told.metric("failed_ratio") * 72_000.0 < 20.0, "the control plane knows at once");
    }

    #[test]
    fn members_find_out_among_themselves() {
        let told = deaths("discovery = \"swim\"", "");
        // Found within about a second; 4 s with two confirmations (which twelve members soon are), 24 s without any.
        let failed = told.metric("failed_ratio") * 72_000.0;
        assert!((4.0 * 15.0..=26.0 * 20.0).contains(&failed), "{failed}");
    }
}

mod predictions {
    use super::*;

    fn crash(extra: &str) -> Told {
        let text = "[[fault]]\nname = \"wear\"\nat = \"60s\"\ncrash = { service = \"api\", count = 1 }\n\
                    [[prediction]]\nname = \"seer\"\nfault = \"wear\"\nlead = \"20s\"\n";
        tell("120s", &system(2, 20, "", "", &format!("{text}{extra}")))
    }

    const DRAIN: &str = "[[action]]\non-prediction = \"seer\"\nafter = \"5s\"\ndrain = {}\n";

    #[test]
    fn who_is_drained_in_time_has_nothing_to_lose() {
        let told = crash(DRAIN);
        told.is("prediction.seer.raised", 1.0);
        told.is("prediction.seer.missed", 0.0);
        assert_eq!(told.times("seer", "api-0"), [40.0]);
        assert_eq!(told.times("api-0", "drained"), [45.0]);
        assert_eq!(told.times("api-2", "ready"), [47.0], "its replacement");
        told.is("availability", 1.0);
    }

    #[test]
    fn a_blind_seer_helps_nobody_and_an_anxious_one_drains_for_nothing() {
        let blind = crash(&format!("hit-rate = \"0%\"\n{DRAIN}"));
        blind.is("prediction.seer.raised", 0.0);
        blind.is("prediction.seer.missed", 1.0);
        assert_eq!(all(&blind, "drained"), [] as [f64; 0]);
        let anxious = crash(&format!("hit-rate = \"0%\"\nfalse-alarms = \"6/min\"\n{DRAIN}"));
        // Twelve are expected; fewer than two or more than thirty would be a chance of less than one in 10 000.
        let raised = anxious.metric("prediction.seer.raised");
        assert!((2.0..=30.0).contains(&raised), "{raised}");
        anxious.is("prediction.seer.false_alarms", raised);
        assert!(!all(&anxious, "drained").is_empty());
    }
}
