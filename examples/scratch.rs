//! scratch
use simlab::kernel::Handle;
use simlab::policies::balancer::BalancerSettings;
use simlab::random::law::Law;
use simlab::time::{Duration, Time};
use simlab::world::{self, spec::*};
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let n: u64 = a[1].parse().unwrap();
    let inst: u32 = a[2].parse().unwrap();
    let zero = Law::Constant(0.0);
    let service = ServiceSpec {
        name: "s".into(),
        replicas: inst,
        pool: None,
        cores: 1,
        cpu_request: 1.0,
        memory: 0,
        workers: 1,
        cpu: CpuMode::Dedicated,
        queue: u32::MAX,
        drop_when_full: false,
        order: Order::Fifo,
        queue_timeout: None,
        pull: zero.clone(),
        start: zero.clone(),
        warm_up: None,
        grace: Duration::from_secs(30),
        slow_down: vec![],
        endpoints: vec![("get".into(), 0)],
        edges: vec![],
        limiter: None,
        autoscaler: None,
        metrics: (Duration::from_secs(15), Duration::from_secs(30), Duration::ZERO),
        discovery: zero.clone(),
        caches: vec![],
        pools: vec![],
        versions: vec![VersionSpec { name: "v1".into(), demand: 1.0, error_rate: 0.0 }],
        version_slot: None,
        price: None,
    };
    let balancer: BalancerSettings = serde_json::from_str(r#"{"p2c":{}}"#).unwrap();
    let edge = EdgeSpec {
        to: 0,
        cancel: false,
        retry: None,
        budget: None,
        breaker: None,
        limiter: None,
        balancer,
        shared: false,
    };
    let source = SourceSpec {
        name: "u".into(),
        entry: 2,
        direct: Some(0),
        edges: vec![edge],
        clients: 1,
        zone: 1,
        arrivals: Arrivals::Poisson(Rate {
            points: vec![(Time::ZERO, 90.0 * f64::from(inst))],
            linear: false,
            sine: None,
        }),
        requests: n,
        deadline: NO_RING,
        propagate_deadline: false,
        priority: 0,
    };
    let spec = Spec {
        warm_up: Time::ZERO,
        end: Time::from_secs(1_000_000),
        horizon: Time::from_secs(2_000_000),
        resolution: Duration::from_secs(4000),
        zones: vec!["x".into()],
        latency: vec![zero.clone(); 4],
        pools: vec![],
        services: vec![service],
        sources: vec![source],
        ops: vec![Op::Cpu(Law::exponential(1e7), None), Op::End, Op::Call(0), Op::End],
        calls: vec![CallSpec { service: 0, entry: 0, edge: 0, probability: 1.0, ring: 0 }],
        rings: vec![Duration::from_millis(100)],
        faults: vec![],
        actions: vec![],
        rollouts: vec![],
        objective: ObjectiveSpec::default(),
        limits: Limits {
            pending_events: 4_000_000,
            in_flight: 4_000_000,
            instances: 1_000_000,
            requests: 1 << 40,
            events: 1 << 36,
        },
        priorities: vec![0],
    };
    let t = std::time::Instant::now();
    let r = world::run(&spec, 1, &Handle::default()).unwrap();
    let s = t.elapsed().as_secs_f64();
    println!(
        "ns/req {:.1} mean {:?} to {:?} p99 {:?} ev {} dig {:x}",
        s * 1e9 / n as f64,
        r.metrics["latency_mean_ms"] / 10.0,
        r.metrics["timeout_ratio"],
        r.metrics["latency_p99_ms"],
        r.events,
        r.digest
    );
}
