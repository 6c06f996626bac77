//! One sync of an HPA over a thousand instances; the budget is 50 microseconds. `cargo bench --bench autoscaler`

use std::hint::black_box;
use std::num::NonZeroU32;

use criterion::{Criterion, criterion_group, criterion_main};
use simlab::policies::Algorithm as _;
use simlab::policies::autoscaler::hpa::{Hpa, HpaSettings};
use simlab::policies::autoscaler::{Autoscaler as _, Fleet, Phase, Pod, PodReading, Reading, Sample};
use simlab::time::{Duration, Time};

fn hpa(criterion: &mut Criterion) {
    let pod = Pod {
        phase: Phase::Running,
        ready: Some((true, Time::ZERO)),
        started: Some(Time::ZERO),
        deleting: false,
    };
    let pods = vec![pod; 1000];
    let cpu = (0..1000).map(|at| {
        let sample =
            Sample { milli: 500 + at % 300, at: Time::from_secs(3590), window: Duration::from_secs(30) };
        PodReading { request_milli: Some(1000), sample: Some(sample) }
    });
    let readings = [Reading::Pods(cpu.collect())];
    let fleet = Fleet {
        current: 1000,
        pods: &pods,
        readings: &readings,
        instance_cores: 1.0,
        instance_memory: 0,
        memory_available: 0,
    };
    let settings = HpaSettings::with_max_replicas(NonZeroU32::new(5000).expect("not zero"));
    let mut hpa = Hpa::new(&settings, Time::ZERO);
    let mut now = Time::from_secs(3600);
    criterion.bench_function("hpa sync, 1000 instances", |bencher| {
        bencher.iter(|| {
            now += Duration::from_secs(15);
            hpa.evaluate(black_box(now), black_box(&fleet), &mut ())
        });
    });
}

criterion_group!(benches, hpa);
criterion_main!(benches);
