//! Connections between clients and instances: what they cost, who waits for them and how they end, worked out by hand.

use crate::story::{Told, tell};

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
