//! Connections between clients and instances: what they cost, who waits for them and how they end, worked out by hand.

use crate::story::{Told, load, run, tell};

/// A client 10 ms away from one instance that works for 5 ms; a request each second.
fn far(settings: &str, source: &str, duration: &str) -> Told {
    let text = format!(
        "[network]\noutside = \"10ms\"\n\
         [[service]]\nname = \"api\"\ninstance = {{ cores = 16, workers = 16 }}\n{settings}\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 5ms\"]\n\
         [[source]]\nname = \"web\"\nto = \"api.get\"\n{source}\narrivals.deterministic = {{ rate = \"1/s\" }}\n"
    );
    tell(duration, &text)
}

#[test]
fn without_connections_nothing_is_set_up() {
    let told = far("", "", "10500ms");
    told.is("latency_mean_ms", 25.0);
    assert!(!told.metrics().contains_key("service.api.connections_mean"));
}

#[test]
fn a_connection_costs_a_round_trip_once() {
    let told = far("callers.connections = {}", "", "10500ms");
    // Ten requests; the first waits 20 ms for its connection.
    told.is("latency_mean_ms", 25.0 + 20.0 / 10.0);
    told.is("service.api.connect_mean_ms", 20.0);
    told.is("service.api.connects_rps", 1.0 / 10.5);
    told.is("service.api.pool_wait_mean_ms", 2.0);
    told.is("service.api.pool_waited_ratio", 0.1);
    // Open from 1.02 s on.
    told.is("service.api.connections_mean", 9.48 / 10.5);
    told.is("service.api.sojourn_mean_ms", 5.0);
    told.is("service.api.stale_requests", 0.0);
}

#[test]
fn tls_costs_its_round_trips_and_work() {
    for (tls, cost) in [
        ("{}", 40.0),
        ("{ round-trips = 2 }", 60.0),
        ("{ cpu = \"3ms\" }", 43.0),
        ("{ round-trips = 2, cpu = \"3ms\" }", 63.0),
    ] {
        let told = far(&format!("callers.connections = {{ tls = {tls} }}"), "", "10500ms");
        told.is("service.api.connect_mean_ms", cost);
        told.is("latency_mean_ms", 25.0 + cost / 10.0);
    }
}

#[test]
fn tickets_make_later_handshakes_cheaper() {
    // Idle connections are closed after half a second, so each request needs a new one.
    let kept = |resumption: &str| {
        far(
            &format!(
                "callers.connections = {{ idle-timeout = \"500ms\", tls = {{ round-trips = 2, cpu = \"3ms\", \
                 resumption = \"{resumption}\", resumed-cpu = \"1ms\" }} }}"
            ),
            "",
            "10500ms",
        )
    };
    kept("none").is("service.api.connect_mean_ms", 63.0);
    for resumption in ["instance", "service"] {
        let told = kept(resumption);
        told.is("service.api.connect_mean_ms", (63.0 + 9.0 * 41.0) / 10.0);
        told.is("service.api.connect_resumed_share", 0.9);
    }
}

/// Two instances, four cores each, a request takes `cpu`; one client without a network.
fn near(settings: &str, cpu: &str, source: &str, duration: &str) -> Told {
    let text = format!(
        "[[service]]\nname = \"api\"\nreplicas = 2\ninstance = {{ cores = 4, workers = 4 }}\n{settings}\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu {cpu}\"]\n\
         [[source]]\nname = \"web\"\nto = \"api.get\"\n{source}\n"
    );
    tell(duration, &text)
}

#[test]
fn one_connection_serves_one_attempt_at_a_time() {
    // A request of 300 ms each 100 ms for a second: the n-th of ten goes out at 0.1 + 0.3 (n - 1) s and waits 0.2 (n - 1) s.
    let source = "requests = 10\narrivals.deterministic = { rate = \"10/s\" }";
    let told =
        near("callers.connections = { max = 1, balancing = \"per-connection\" }", "300ms", source, "10s");
    told.is("service.api.pool_wait_mean_ms", 0.2 * 4.5 * 1000.0);
    told.is("latency_mean_ms", 0.2 * 4.5 * 1000.0 + 300.0);
    // The run is over with the last answer, at 3.1 s.
    told.is("service.api.pool_waiting_mean", 0.2 * 45.0 / 3.1);
    // At 1 s seven are still to go out.
    assert_eq!(told.curve("api", "pool_waiting")[0], 6.0);
    assert_eq!(told.curve("api", "connection_skew")[0], 2.0, "all of them are at one of two instances");
}

#[test]
fn streams_share_a_connection() {
    let source = "requests = 10\narrivals.deterministic = { rate = \"10/s\" }";
    let told = near(
        "callers.connections = { max = 1, protocol = \"http2\", streams = 2, balancing = \"per-connection\" }",
        "300ms",
        source,
        "10s",
    );
    // Two at a time: the n-th pair goes out at 0.1 + 0.3 (n - 1) s at the earliest, and comes each 0.2 s.
    // Sent: 0.1 0.2 | 0.4 0.5 | 0.7 0.8 | 1.0 1.1 | 1.3 1.4; came: 0.1 0.2 0.3 0.4 0.5 ...
    told.is("service.api.pool_wait_mean_ms", 1000.0 * (0.1 + 0.1 + 0.2 + 0.2 + 0.3 + 0.3 + 0.4 + 0.4) / 10.0);
}

#[test]
fn few_may_wait() {
    let source = "requests = 10\narrivals.deterministic = { rate = \"10/s\" }";
    let told = near(
        "callers.connections = { max = 1, max-pending = 1, balancing = \"per-connection\" }",
        "300ms",
        source,
        "10s",
    );
    // Out at 0.1, 0.4, 0.7 and 1 s; those of 0.2, 0.5 and 0.8 s wait. The others find the place taken, but for the last.
    told.is("rejected_ratio", 0.5);
    told.is("service.api.pool_refused_ratio", 0.5);
    told.is("availability", 0.5);
}

#[test]
fn a_timeout_closes_a_connection_but_takes_back_a_stream() {
    let source = "requests = 10\ncall.api.timeout = \"100ms\"\narrivals.deterministic = { rate = \"1/s\" }";
    for (protocol, connects) in [("http1", 10.0), ("http2", 1.0)] {
        let told = near(
            &format!("callers.connections = {{ protocol = \"{protocol}\", balancing = \"per-connection\" }}"),
            "300ms",
            source,
            "20s",
        );
        told.is("timeout_ratio", 1.0);
        // The last answer is given up at 10.1 s.
        told.is("service.api.connects_rps", connects / 10.1);
    }
}

#[test]
fn waiting_for_a_connection_counts_against_the_timeout() {
    let source = "requests = 10\ncall.api.timeout = \"450ms\"\narrivals.deterministic = { rate = \"10/s\" }";
    let told =
        near("callers.connections = { max = 1, balancing = \"per-connection\" }", "300ms", source, "20s");
    // Sent: 0.1, 0.4 (came 0.2, until 0.65: too late, the connection is closed), 0.65 (came 0.3, until 0.75), ...
    // Only the first is served in time: the next one always has less than 300 ms left.
    told.is("availability", 0.1);
    told.is("timeout_ratio", 0.9);
}

#[test]
fn long_lived_connections_do_not_notice_a_new_instance() {
    // Eight clients with one connection each, which they keep.
    let told = |settings: &str| {
        let text = format!(
            "[[service]]\nname = \"api\"\nreplicas = 1\ninstance = {{ cores = 4, workers = 4 }}\n\
             callers.connections = {{ balancing = \"per-connection\"{settings} }}\n\
             [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 1ms\"]\n\
             [[source]]\nname = \"web\"\nto = \"api.get\"\nclients = 8\narrivals.deterministic = {{ rate = \"400/s\" }}\n\
             [[action]]\nat = \"10s\"\nscale = {{ service = \"api\", replicas = 2 }}\n"
        );
        tell("30s", &text)
    };
    let kept = told("");
    assert_eq!(kept.curve("api", "connection_skew")[28], 2.0, "all are where they were");
    assert_eq!(kept.curve("api", "connections")[28], 8.0);
    // Ages that differ, or all would come back at once.
    let churned = told(", max-age = \"uniform(1s, 5s)\"");
    let skew: f64 = churned.curve("api", "connection_skew")[16..28].iter().sum::<f64>() / 12.0;
    // The larger of two parts of eight is 5.1 in the mean.
    assert!((1.1..1.5).contains(&skew), "they have come back: {skew}");
    assert_eq!(churned.curve("api", "connections")[28], 8.0);
}

#[test]
fn whoever_sends_while_the_other_end_hangs_up_fails() {
    // What the instance does is heard 10 ms later, and what the client does, too.
    let source = "requests = 4\n";
    let kept = |idle: &str| {
        far(
            &format!(
                "callers.connections = {{ idle-timeout = \"0s\" }}\nlistener = {{ idle-timeout = \"{idle}\" }}"
            ),
            source,
            "20s",
        )
    };
    // Sent at 1 s, connected at 1.02 s, answered at 1.045 s; sent at 2 s.
    let told = kept("960ms");
    // Closed at 2.005 s, and the request arrives at 2.01 s: it fails at 2.02 s. The next needs a new connection.
    told.is("failed_ratio", 0.5);
    told.is("service.api.stale_requests", 2.0);
    // Each request on a connection that stands arrives 985 ms after the answer to the one before.
    kept("990ms").is("availability", 1.0);
    // Closed at 1.945 s, heard at 1.955 s.
    let told = kept("900ms");
    told.is("availability", 1.0);
    told.is("service.api.connect_mean_ms", 20.0);
    told.is("latency_mean_ms", 45.0);
}

#[test]
fn a_shutdown_closes_what_is_idle_and_lets_the_rest_finish() {
    let text = |protocol: &str| {
        format!(
            "[network]\noutside = \"10ms\"\n\
             [[service]]\nname = \"api\"\nreplicas = 2\ninstance = {{ cores = 8, workers = 8 }}\n\
             callers.connections = {{ protocol = \"{protocol}\", balancing = \"per-connection\" }}\n\
             [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 400ms\"]\n\
             [[source]]\nname = \"web\"\nto = \"api.get\"\nclients = 10\narrivals.deterministic = {{ rate = \"5/s\" }}\n\
             [[action]]\nat = \"5050ms\"\nscale = {{ service = \"api\", replicas = 1 }}\n"
        )
    };
    for protocol in ["http1", "http2"] {
        let told = tell("10s", &text(protocol));
        // Whoever was inside has its answer, and the others went elsewhere: at 5.05 s nobody is on the way.
        told.is("availability", 1.0);
        assert_eq!(told.curve("api", "connection_skew")[9], 1.0, "all are at the one that is left");
    }
}

#[test]
fn a_machine_that_dies_silently_is_found_by_timeouts_or_not_at_all() {
    let text = |protocol: &str, source: &str| {
        format!(
            "[[node-pool]]\nname = \"n\"\nnodes = 1\ncores = 8\nmemory = \"8GiB\"\n\
             [[service]]\nname = \"api\"\npool = \"n\"\ninstance = {{ cores = 8, workers = 8 }}\n\
             callers.connections = {{ protocol = \"{protocol}\", connect-timeout = \"1s\" }}\ncallers.timeout = \"2s\"\n\
             [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 1ms\"]\n\
             [[source]]\nname = \"web\"\nto = \"api.get\"\n{source}\narrivals.deterministic = {{ rate = \"1/s\" }}\n\
             [[fault]]\nat = \"3500ms\"\nnode-loss = {{ pool = \"n\", count = 1 }}\n"
        )
    };
    // Sent at 1 .. 3 s: good. At 4 s on the old connection: no answer. From 5 s on a new one cannot be set up within 1 s.
    let told = tell("20s", &text("http1", "requests = 7"));
    told.is("availability", 3.0 / 7.0);
    told.is("timeout_ratio", 1.0 / 7.0);
    told.is("failed_ratio", 3.0 / 7.0);
    // Streams are taken back, and the connection is kept.
    let told = tell("20s", &text("http2", "requests = 7"));
    told.is("timeout_ratio", 4.0 / 7.0);
    told.is("service.api.connect_failed_ratio", 0.0);
}

#[test]
fn backoff_paces_the_attempts_to_connect() {
    let text = |wait: bool| {
        format!(
            "[[service]]\nname = \"api\"\nreplicas = 1\ninstance = {{ cores = 8, workers = 8, start = \"8s\" }}\n\
             callers.connections = {{ balancing = \"per-connection\", dns = {{ ignore-ttl = \"100%\" }}, \
             backoff = {{ base = \"1s\", multiplier = 2, jitter = \"0%\", wait-for-ready = {wait} }} }}\n\
             [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 1ms\"]\n\
             [[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.deterministic = {{ rate = \"2/s\" }}\n\
             [[fault]]\nat = \"1200ms\"\ncrash = {{ service = \"api\" }}\n"
        )
    };
    // Its only address is dead. Set-ups begin at 1.5 s, 2.5 s, 4.5 s, 8.5 s.
    let told = tell("10400ms", &text(false));
    told.is("availability", 2.0 / 20.0);
    // The first one succeeded.
    told.is("service.api.connect_failed_ratio", 4.0 / 5.0);
    let told = tell("10400ms", &text(true));
    told.is("service.api.connect_failed_ratio", 4.0 / 5.0);
    told.is("failed_ratio", 0.0);
    told.is("unfinished_ratio", 18.0 / 20.0);
}

#[test]
fn names_are_believed_until_their_time_is_over() {
    let text = |ignore: &str| {
        format!(
            "[[service]]\nname = \"api\"\nreplicas = 1\ninstance = {{ cores = 8, workers = 8, start = \"0s\" }}\n\
             callers.connections = {{ balancing = \"per-connection\", dns = {{ ttl = \"10s\"{ignore} }} }}\n\
             [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 1ms\"]\n\
             [[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.deterministic = {{ rate = \"1/s\" }}\n\
             [[fault]]\nat = \"3500ms\"\ncrash = {{ service = \"api\" }}\n"
        )
    };
    // Asked at 1 s; the address dies at 3.5 s, and its successor is in the answer from 11 s on: seven requests fail.
    tell("20500ms", &text("")).is("failed_ratio", 7.0 / 20.0);
    tell("20500ms", &text(", ignore-ttl = \"100%\"")).is("failed_ratio", 17.0 / 20.0);
}

#[test]
fn short_answers_take_turns() {
    let text = "[[service]]\nname = \"api\"\nreplicas = 4\ninstance = { cores = 8, workers = 8 }\n\
         callers.connections = { balancing = \"per-connection\", dns = { answers = 1 } }\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 1ms\"]\n\
         [[source]]\nname = \"web\"\nto = \"api.get\"\nclients = 400\narrivals.deterministic = { rate = \"1000/s\" }\n";
    let told = tell("10s", text);
    assert_eq!(told.curve("api", "connections")[9], 400.0);
    assert_eq!(told.curve("api", "connection_skew")[9], 1.0, "a hundred each");
}

#[test]
fn without_a_name_server_open_connections_go_on() {
    let text = "[[service]]\nname = \"api\"\nreplicas = 2\ninstance = { cores = 8, workers = 8 }\n\
         callers.connections = { balancing = \"per-connection\", max-requests = 5, dns = { ttl = \"2s\" } }\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 1ms\"]\n\
         [[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.deterministic = { rate = \"1/s\" }\n\
         [[fault]]\nat = \"2500ms\"\ndns-outage = { for = \"8s\" }\n";
    // The connection carries the requests of 1 s to 5 s; from 6 s on a new one is needed, and nobody says where. Over at 10.5 s.
    tell("20500ms", text).is("failed_ratio", 5.0 / 20.0);
}

#[test]
fn a_herd_is_as_large_as_what_was_lost() {
    // A thousand devices with a connection each; the only instance dies at 10 s and is back at 10.5 s. All find nobody at
    // 10 s, and all come at 11 s, for gRPC's first pause is exact. One worker shakes hands with one after the other.
    let text = "[[service]]\nname = \"api\"\nreplicas = 1\ninstance = { cores = 1, workers = 1, start = \"500ms\" }\n\
         callers.connections = { balancing = \"per-connection\", min = 1, max = 1, tls = { cpu = \"1ms\" }, backoff = {} }\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 1ms\"]\n\
         [[source]]\nname = \"web\"\nto = \"api.get\"\nclients = 1000\narrivals.deterministic = { rate = \"0.01/s\" }\n\
         [[fault]]\nat = \"10s\"\ncrash = { service = \"api\" }\n";
    let told = tell("30s", text);
    told.is("service.api.connects_rps", 2000.0 / 30.0);
    told.is("service.api.connect_failed_ratio", 0.5);
    // 1 ms, 2 ms ... 1000 ms.
    told.is("service.api.connect_mean_ms", 500.5);
    told.is("service.api.utilization", 1.0 / 29.5);
    assert_eq!(told.curve("api", "connections")[8], 1000.0, "they are there from the start");
    assert_eq!(told.curve("api", "connections")[10], 0.0);
    assert_eq!(told.curve("api", "connections")[28], 1000.0);
}

#[test]
fn the_share_of_a_new_instance_follows_the_churn() {
    // Connections live for 60 s and their ages are uniform, so t after the scale-out t / 60 s of them have been opened again,
    // half of these to the new instance. Three looks at 4 standard errors: a right engine fails one time in 5000.
    const CLIENTS: f64 = 4000.0;
    let text = "[[service]]\nname = \"api\"\nreplicas = 1\ninstance = { cores = 1, workers = 1 }\n\
         callers.connections = { balancing = \"per-connection\", min = 1, max = 1, max-age = \"60s\", backoff = {} }\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 1ms\"]\n\
         [[source]]\nname = \"web\"\nto = \"api.get\"\nclients = 4000\narrivals.deterministic = { rate = \"1/s\" }\n\
         [[action]]\nat = \"10s\"\nscale = { service = \"api\", replicas = 2 }\n";
    let told = tell("60s", text);
    let skew = told.curve("api", "connection_skew");
    for after in [15.0, 30.0, 45.0] {
        let new = after / 60.0 / 2.0;
        let found = 1.0 - skew[10 + after as usize - 1] / 2.0;
        let error = (new * (1.0 - new) / CLIENTS).sqrt();
        assert!((found - new).abs() < 4.0 * error, "{after} s after: {found}, not {new}");
    }
}

#[test]
fn waiting_for_one_of_c_connections_is_a_queue_with_c_servers() {
    // The callee has room for everybody, so the pool is what queues: M/M/4 at 80 %. Twenty independent runs; two figures at
    // 99.9 % each (t with 19 degrees of freedom).
    const T: f64 = 3.883;
    let text = "[scenario]\nname = \"pool\"\nduration = \"330s\"\nwarm-up = \"30s\"\nreplications = 20\n\
         [[service]]\nname = \"api\"\nreplicas = 1\ninstance = { cores = 64, workers = 64 }\n\
         callers.connections = { balancing = \"per-connection\", max = 4, max-pending = \"unlimited\" }\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu exp(100ms)\"]\n\
         [[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.poisson = { rate = \"32/s\" }\n";
    let outcome = run(&load(text), 2);
    // Erlang C with a = 3.2.
    let a: f64 = 3.2;
    let below: f64 = [1.0, a, a.powi(2) / 2.0, a.powi(3) / 6.0].iter().sum();
    let full = a.powi(4) / 24.0 / (1.0 - a / 4.0);
    let waits = full / (below + full);
    let mean_ms = waits / (40.0 - 32.0) * 1000.0;
    for (name, expected) in
        [("service.api.pool_waited_ratio", waits), ("service.api.pool_wait_mean_ms", mean_ms)]
    {
        let found: Vec<f64> =
            outcome.strategies[0].replications.iter().map(|one| one.metrics[name]).collect();
        let mean = found.iter().sum::<f64>() / 20.0;
        let variance = found.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / 19.0;
        let half = T * (variance / 20.0).sqrt();
        assert!((mean - expected).abs() < half, "{name} is {mean} +- {half}, not {expected}");
        assert!(half < 0.2 * expected, "{name}: the interval says something");
    }
}
