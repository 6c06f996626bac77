//! Nanoseconds per draw of the generators and of every law. `cargo bench --bench samplers`

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use rand::Rng as _;
use simlab::random::law::{Dimension, Law, no_files};
use simlab::random::variate::{Zipf, exp1, normal};
use simlab::random::{Key, Stream};

fn generators(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("generator");
    let mut keyed = Key::new(1).rng();
    group.bench_function("keyed", |bencher| bencher.iter(|| keyed.bits()));
    let mut stream = Stream::new(1, "arrivals", "bench");
    group.bench_function("stream", |bencher| bencher.iter(|| stream.next_u64()));
    let key = Key::new(1);
    let mut number = 0;
    group.bench_function("a key of its own for each draw", |bencher| {
        bencher.iter(|| {
            number += 1;
            key.with(number).rng().unit()
        });
    });
    group.finish();
}

fn variates(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("variate");
    let mut rng = Stream::new(1, "bench", "variates");
    group.bench_function("exp1", |bencher| bencher.iter(|| exp1(&mut rng)));
    group.bench_function("normal", |bencher| bencher.iter(|| normal(&mut rng)));
    let zipf = Zipf::new(10_000, 1.0);
    group.bench_function("zipf", |bencher| bencher.iter(|| zipf.sample(&mut rng)));
    // What the ziggurats replace.
    let inversion = |rng: &mut Stream| -libm::log(1.0 - rng.unit());
    group.bench_function("exp1 by inversion", |bencher| bencher.iter(|| inversion(&mut rng)));
    group.finish();
}

fn laws(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("law");
    let mut rng = Stream::new(1, "bench", "laws");
    for text in [
        "12ms",
        "exp(12ms)",
        "uniform(3ms, 20ms)",
        "erlang(10ms, k=3)",
        "gamma(10ms, cv=2)",
        "lognormal(5ms, cv=1.5)",
        "weibull(10ms, shape=0.7)",
        "pareto(2ms, alpha=1.5)",
        "bounded-pareto(1ms, 10s, alpha=1.5)",
        "hyperexp(10ms, cv=2)",
        "normal(10ms, sd=1ms)",
        "mix(80%: exp(5ms), 20%: exp(500ms))",
        "lognormal(5ms, cv=1) x 2 + 3ms",
    ] {
        let law = Law::parse(text, Dimension::Time, &mut no_files).expect("the law is well written");
        group.bench_function(text, |bencher| bencher.iter(|| black_box(&law).sample_duration(&mut rng)));
    }
    group.finish();
}

criterion_group!(benches, generators, variates, laws);
criterion_main!(benches);
