//! Nanoseconds per recorded latency, and per quantile of a full histogram. `cargo bench --bench histogram`

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use simlab::random::Stream;
use simlab::random::law::Law;
use simlab::stats::histogram::{Totals, Window};

fn histogram(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("histogram");
    let mut rng = Stream::new(1, "bench", "latencies");
    let law = Law::lognormal(10e6, 1.5);
    let latencies: Vec<u64> = (0..4096).map(|_| law.sample_duration(&mut rng).0).collect();
    let mut next = 0;
    let mut latency = || {
        next = (next + 1) % latencies.len();
        latencies[next]
    };
    let (mut totals, mut window) = (Totals::new(), Window::new());
    group.bench_function("the loop around it", |bencher| bencher.iter(|| black_box(latency())));
    group.bench_function("record in totals", |bencher| bencher.iter(|| totals.record(latency())));
    group.bench_function("record in a window", |bencher| bencher.iter(|| window.record(latency())));
    group.bench_function("p99 of totals", |bencher| bencher.iter(|| black_box(&totals).quantile(0.99)));
    group.bench_function("p99 of a window", |bencher| bencher.iter(|| black_box(&window).quantile(0.99)));
    group.bench_function("clear a window", |bencher| bencher.iter(|| black_box(&mut window).clear()));
    group.finish();
}

criterion_group!(benches, histogram);
criterion_main!(benches);
