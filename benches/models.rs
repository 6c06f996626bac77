//! Requests per second of the four reference models, from the scenario files through the ordinary world. Loading is left
//! out. `cargo bench --bench models`

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use simlab::kernel::Handle;
use simlab::lab::assemble::assemble;
use simlab::scenario::Overrides;
use simlab::scenario::model::Study;
use simlab::world;

const REQUESTS: u64 = 200_000;

fn models(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("models");
    group.sample_size(10).throughput(Throughput::Elements(REQUESTS));
    for model in ["a", "b", "c", "d"] {
        let path = format!("{}/scenarios/bench/{model}.toml", env!("CARGO_MANIFEST_DIR"));
        let settings = vec![
            format!("source.clients.requests={REQUESTS}"),
            "scenario.duration=100000h".to_owned(),
            "scenario.warm-up=0s".to_owned(),
            "scenario.resolution=100h".to_owned(),
        ];
        let study = Study::load(&path, &Overrides { settings, ..Overrides::default() })
            .unwrap_or_else(|error| panic!("{}", error.render(false)));
        let spec = assemble(&study, &study.strategies[0].scenario);
        group.bench_function(model, |bencher| {
            bencher.iter_batched(
                Handle::default,
                |handle| world::run(&spec, 1, &handle).expect("the model runs to its end").digest,
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, models);
criterion_main!(benches);
