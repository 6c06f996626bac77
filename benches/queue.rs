//! Nanoseconds per event of the event queue and of the standard heap, in the hold model: as many events stay pending,
//! each handled one schedules the next. `cargo bench --bench queue`

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use simlab::kernel::queue::{Payload, Queue};
use simlab::random::Stream;
use simlab::random::variate::exp1;
use simlab::time::Time;

/// Mean time from scheduling to handling, in ns.
const MEAN_NS: f64 = 10e6;

/// Delays drawn beforehand, so that both queues are timed without the sampler.
fn delays() -> Vec<u64> {
    let mut rng = Stream::new(1, "bench", "delays");
    (0..1 << 16).map(|_| (exp1(&mut rng) * MEAN_NS) as u64).collect()
}

fn hold(criterion: &mut Criterion) {
    let delays = delays();
    let mut group = criterion.benchmark_group("hold");
    for pending in [100_u32, 10_000, 1_000_000] {
        group.bench_function(BenchmarkId::new("queue", pending), |bencher| {
            let mut next = delays.iter().cycle();
            let mut queue = Queue::new();
            for index in 0..pending {
                queue.push(Time(*next.next().expect("delays never end")), Payload::new(1, index));
            }
            bencher.iter(|| {
                let (now, payload) = queue.pop().expect("as many events as before are pending");
                queue.push(Time(now.0 + next.next().expect("delays never end")), payload);
            });
        });
        group.bench_function(BenchmarkId::new("std binary heap", pending), |bencher| {
            let mut next = delays.iter().cycle();
            let mut sequence = 0_u64;
            let mut heap = BinaryHeap::new();
            for index in 0..pending {
                let at = *next.next().expect("delays never end");
                heap.push(Reverse((at, sequence, Payload::new(1, index).0)));
                sequence += 1;
            }
            bencher.iter(|| {
                let Reverse((now, _, payload)) = heap.pop().expect("as many events as before are pending");
                heap.push(Reverse((now + next.next().expect("delays never end"), sequence, payload)));
                sequence += 1;
            });
        });
    }
    group.finish();
}

criterion_group!(benches, hold);
criterion_main!(benches);
