//! Data that simlab made itself, under laws that are known, give these laws back.

use std::collections::BTreeMap;

use simlab::lab::calibrate::{Calibration, Measured, calibrate};
use simlab::lab::{self, Progress, RunOptions};
use simlab::scenario::Overrides;
use simlab::scenario::model::Study;
use simlab::scenario::recording::Quantity;
use simlab::stats::fit::Shape;

/// One instance for four hours, a row every 30 s.
fn measured(cores: u32, steps: &str, arrivals: &str, seed: u64) -> Measured {
    let text = format!(
        "[scenario]\nname = \"known\"\nduration = \"4h\"\nreplications = 1\nresolution = \"30s\"\nseed = {seed}\n\
         [[service]]\nname = \"web\"\ninstance = {{ cores = {cores}, workers = \"unlimited\" }}\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [{steps}]\n\
         [[source]]\nname = \"users\"\nto = \"web.get\"\n{arrivals}\n"
    );
    let study =
        Study::from_text("known", &text, &Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
    let outcome = lab::run(&study, &RunOptions::default(), &Progress::default()).expect("runs");
    let timeline = &outcome.strategies[0].replications[0].timeline;
    let series: BTreeMap<&str, &Vec<f64>> =
        timeline.series.iter().map(|series| (series.metric, &series.values)).collect();
    let seconds = |metric: &str| series[metric].iter().map(|ms| ms / 1e3).collect::<Vec<f64>>();
    let rate = series["offered_rps"].clone();
    Measured {
        step: 30.0,
        cpu: Some(series["utilization"].iter().map(|busy| busy * f64::from(cores)).collect()),
        replicas: vec![1.0; rate.len()],
        latency: vec![
            (Quantity::Latency(0.5), seconds("latency_p50_ms")),
            (Quantity::Latency(0.9), seconds("latency_p90_ms")),
            (Quantity::Latency(0.99), seconds("latency_p99_ms")),
        ],
        buckets: Vec::new(),
        cores: None,
        rate,
    }
}

fn near(found: f64, known: f64, share: f64, what: &str) {
    assert!((found / known - 1.0).abs() < share, "{what}: {found}, not {known}");
}

/// Up and down between a tenth and nine tenths of the capacity, three times in four hours.
fn tide(mean: f64) -> String {
    format!("arrivals.poisson = {{ profile = \"sine({mean}/s, amplitude={}/s, period=80min)\" }}", 0.8 * mean)
}

fn held_out(found: &Calibration, what: &str) -> f64 {
    found.errors.iter().find(|(name, ..)| name == what).expect("was measured").2
}

#[test]
fn an_exponential_service_on_one_core() {
    let found = calibrate(&measured(1, "\"cpu exp(20ms)\"", &tide(25.0), 1)).expect("enough data");
    near(found.work, 0.020, 0.02, "work");
    assert_eq!((found.cores, found.shape), (1, Shape::Exponential), "{found:?}");
    assert!(found.wait < 0.002, "a wait of less than a tenth of the work is noise: {found:?}");
    let (index, lo, hi) = found.dispersion.expect("enough counts");
    assert!(lo < 1.0 && hi > 1.0, "{index}");
    assert!(held_out(&found, "cores in use") < 0.05);
    assert!(held_out(&found, "p50 latency") < 0.2, "{found:?}");
}

#[test]
fn a_lognormal_service_on_four_cores() {
    let found =
        calibrate(&measured(4, "\"cpu lognormal(40ms, cv=2)\"", &tide(50.0), 2)).expect("enough data");
    near(found.work, 0.040, 0.03, "work");
    assert_eq!(found.shape, Shape::Lognormal, "{found:?}");
    near(found.cv, 2.0, 0.2, "cv");
    assert!((3..=5).contains(&found.cores), "{found:?}");
    assert!(held_out(&found, "p50 latency") < 0.1, "{found:?}");
    assert!(held_out(&found, "p99 latency") < 0.25, "{found:?}");
}

#[test]
fn a_steady_gamma_service() {
    let found = calibrate(&measured(2, "\"cpu gamma(50ms, cv=0.5)\"", &tide(20.0), 3)).expect("enough data");
    near(found.work, 0.050, 0.02, "work");
    assert_ne!(found.shape, Shape::Exponential, "{found:?}");
    near(found.cv, 0.5, 0.25, "cv");
    assert_eq!(found.cores, 2, "{found:?}");
}

#[test]
fn without_cpu_the_bend_tells() {
    let mut measured = measured(1, "\"cpu exp(20ms)\"", &tide(25.0), 4);
    measured.cpu = None;
    measured.cores = Some(1);
    let found = calibrate(&measured).expect("enough data");
    near(found.work, 0.020, 0.1, "work");
    assert!(found.warnings.iter().any(|warning| warning.contains("without CPU figures")), "{found:?}");
}

#[test]
fn bursts_are_seen() {
    let gap = "arrivals.renewal = { gap = \"gamma(40ms, cv=2)\" }";
    let found = calibrate(&measured(1, "\"cpu exp(10ms)\"", gap, 5)).expect("enough data");
    let (index, lo, hi) = found.dispersion.expect("enough counts");
    assert!(lo > 1.2 && hi > 3.5 && (2.5..5.0).contains(&index), "{index} [{lo}, {hi}]");
}

#[test]
fn what_was_never_loaded_cannot_be_known() {
    let quiet = calibrate(&measured(2, "\"cpu exp(20ms)\"", &tide(15.0), 6)).expect("enough data");
    assert!(quiet.busiest < 0.5);
    assert!(quiet.warnings.iter().any(|warning| warning.contains("cannot be seen")), "{quiet:?}");
    let mut short = measured(1, "\"cpu exp(20ms)\"", &tide(25.0), 1);
    short.rate.truncate(10);
    assert!(calibrate(&short).is_err());
    let mut blind = measured(1, "\"cpu exp(20ms)\"", &tide(25.0), 1);
    (blind.cpu, blind.latency) = (None, Vec::new());
    assert!(calibrate(&blind).unwrap_err().0.contains("CPU or latency"));
}
