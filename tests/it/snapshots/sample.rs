//! A made-up outcome of the size and shape of a real study: five strategies, five replications, 300 windows, eight
//! services, a flood with a lost node and a rollout in the middle.

use std::collections::BTreeMap;

use serde_json::json;
use simlab::lab::outcome::{
    Bistable, ComparisonOutcome, Estimate, Finding, LogEvent, Manifest, PercentileCurve, Replication, Series,
    StrategyOutcome, StudyOutcome, ThresholdOutcome, Timeline, Verdict,
};

const WINDOWS: usize = 300;
const WINDOW_S: f64 = 36.0;
const REPLICATIONS: u32 = 5;
const SERVICES: [&str; 8] =
    ["api-gateway", "typhoon", "weather", "hydrology", "store", "auth", "tiles", "notification"];

/// What a strategy is good at; the curves follow from these few numbers.
struct Character {
    name: &'static str,
    title: &'static str,
    /// Replicas follow the load up to this many.
    most_replicas: f64,
    /// Extra attempts per failed request.
    retries: f64,
    /// Share of overload turned away early instead of queueing.
    sheds: f64,
}

const CHARACTERS: [Character; 5] = [
    Character {
        name: "nothing",
        title: "fixed replicas, no protection",
        most_replicas: 6.0,
        retries: 0.0,
        sheds: 0.0,
    },
    Character {
        name: "hpa",
        title: "plus the horizontal pod autoscaler",
        most_replicas: 20.0,
        retries: 0.0,
        sheds: 0.0,
    },
    Character {
        name: "retries",
        title: "plus retries with a budget",
        most_replicas: 20.0,
        retries: 0.2,
        sheds: 0.0,
    },
    Character { name: "breaker", title: "plus a breaker", most_replicas: 20.0, retries: 0.15, sheds: 0.5 },
    Character {
        name: "limiter",
        title: "plus a limiter in front",
        most_replicas: 20.0,
        retries: 0.1,
        sheds: 0.95,
    },
];

/// The sample with `replications` of each strategy.
pub(crate) fn outcome(replications: u32) -> StudyOutcome {
    let strategies: Vec<StrategyOutcome> =
        CHARACTERS.iter().map(|character| strategy(character, replications)).collect();
    let difference = |strategy: &StrategyOutcome| {
        let base = &strategies[0];
        strategy
            .metrics
            .keys()
            .map(|metric| {
                let pairs = strategy.replications.iter().zip(&base.replications);
                (
                    metric.clone(),
                    over(&pairs.map(|(a, b)| a.metrics[metric] - b.metrics[metric]).collect::<Vec<_>>()),
                )
            })
            .collect()
    };
    let comparisons = strategies[1..]
        .iter()
        .map(|strategy| ComparisonOutcome {
            strategy: strategy.name.clone(),
            baseline: "nothing".into(),
            differences: difference(strategy),
            primary: "availability".into(),
            p_holm: (replications > 1).then_some(0.0021),
            words: format!("availability of {} differs from that of nothing", strategy.name),
            finding: if strategy.name == "retries" { Finding::NotShown } else { Finding::Better },
        })
        .collect();
    let threshold =
        |strategy: usize, text: &str, metric: &str, verdict: Verdict, failed: bool| ThresholdOutcome {
            text: text.into(),
            strategy: CHARACTERS[strategy].name.into(),
            estimate: strategies[strategy].metrics.get(metric).copied(),
            verdict,
            failed,
        };
    let thresholds = vec![
        threshold(1, "latency{strategy:hpa}: p(99) < 800ms", "latency_p99_ms", Verdict::Fail, true),
        threshold(4, "availability{strategy:limiter}: mean > 90%", "availability", Verdict::Pass, false),
        threshold(
            3,
            "availability{strategy:breaker}: mean > 95%",
            "availability",
            Verdict::Inconclusive,
            false,
        ),
    ];
    StudyOutcome {
        manifest: Manifest {
            simlab: "0.1.0".into(),
            scenario: "typhoon".into(),
            title: "A storm portal under Mangkhut".into(),
            note: Some("Storm time runs 12 times faster: 36 h of the storm in 3 simulated hours.".into()),
            path: "scenarios/typhoon.toml".into(),
            text: "[scenario]\nname = \"typhoon\" # <a story & its \"flood\">\nduration = \"3h\"\n".into(),
            hash: 0x0123_4567_89ab_cdef,
            seed: 1822,
            replications,
            warm_up_s: 600.0,
            duration_s: WINDOWS as f64 * WINDOW_S,
            primary: "availability".into(),
            baseline: "nothing".into(),
            focus: None,
            partial: false,
        },
        strategies,
        comparisons,
        thresholds,
        verdict: "limiter is better than nothing: availability is higher by 30.1 ± 2.0 points (paired, 95 %)"
            .into(),
        warnings: vec![
            "5 replications are few: intervals are wide and a second state may stay unseen".into(),
        ],
    }
}

/// The sample in full.
pub(crate) fn typhoon() -> StudyOutcome {
    outcome(REPLICATIONS)
}

fn strategy(character: &Character, replications: u32) -> StrategyOutcome {
    let replications: Vec<Replication> = (0..replications).map(|index| run(character, index)).collect();
    let names =
        replications.first().map(|run| run.metrics.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let metrics = names
        .into_iter()
        .map(|name| {
            let values: Vec<f64> = replications.iter().map(|run| run.metrics[&name]).collect();
            (name, over(&values))
        })
        .collect();
    let bistable = match (character.name, replications.len()) {
        ("retries", 5) => vec![Bistable {
            metric: "availability".into(),
            bad: (2, 5),
            interval: (0.053, 0.853),
            centres: (0.991, 0.62),
        }],
        _ => Vec::new(),
    };
    StrategyOutcome {
        name: character.name.into(),
        title: character.title.into(),
        metrics,
        bistable,
        replications,
    }
}

/// Mean with t interval.
fn over(values: &[f64]) -> Estimate {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let half = (values.len() > 1).then(|| {
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        2.776 * (variance / n).sqrt()
    });
    Estimate { mean, lo: half.map(|h| mean - h), hi: half.map(|h| mean + h), n: values.len() as u32 }
}

/// A fluid sketch of one run: load, capacity, backlog.
fn run(character: &Character, index: u32) -> Replication {
    // Paired: the noise of the load depends on the replication, not on the strategy.
    let mut noise = Noise(u64::from(index) * 7919 + 17);
    let t_s: Vec<f64> = (1..=WINDOWS).map(|window| window as f64 * WINDOW_S).collect();
    let (mut offered, mut goodput, mut availability) = (Vec::new(), Vec::new(), Vec::new());
    let (mut p50, mut p99, mut wanted, mut ready) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut replicas, mut backlog) = (6.0f64, 0.0f64);
    for (window, &t) in t_s.iter().enumerate() {
        let storm = (-((t - 6200.0) / 1500.0).powi(2)).exp();
        let load = (60.0 + 540.0 * storm) * (1.0 + 0.07 * noise.next());
        let lost = if (6000.0..7200.0).contains(&t) { 0.75 } else { 1.0 };
        let aim = (load / 55.0).clamp(6.0, character.most_replicas).ceil();
        if aim > replicas {
            replicas = (replicas + 1.0).min(aim);
        } else if window % 8 == 0 {
            replicas = (replicas - 1.0).max(aim);
        }
        let rollout = if (5400.0..5900.0).contains(&t) { 0.9 } else { 1.0 };
        let capacity = replicas * 60.0 * lost * rollout;
        let attempts = load * (1.0 + character.retries * (backlog / (backlog + 2000.0)));
        let over = (attempts - capacity).max(0.0);
        backlog = (backlog * 0.9
            + (over - (capacity - attempts).max(0.0) * 2.0) * WINDOW_S * (1.0 - character.sheds))
            .max(0.0);
        let delay_ms = 1000.0 * backlog / capacity;
        let good = if delay_ms > 2000.0 {
            (capacity / attempts).min(1.0) * 0.7
        } else {
            (capacity / attempts).min(1.0)
        };
        let share = good.min(1.0) * (1.0 - 0.002 * noise.next().abs());
        offered.push(load);
        availability.push(share);
        goodput.push(load * share);
        p50.push(18.0 * (1.0 + 0.05 * noise.next()) + delay_ms.min(1500.0) * 0.4);
        p99.push(if share < 0.02 {
            f64::NAN
        } else {
            140.0 * (1.0 + 0.15 * noise.next()) + delay_ms.min(1800.0)
        });
        wanted.push(aim);
        ready.push((replicas * lost).round());
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let overall = goodput.iter().sum::<f64>() / offered.iter().sum::<f64>();
    let tail = p99.iter().copied().filter(|ms| !ms.is_nan()).fold(0.0, f64::max);
    let hours = ready.iter().sum::<f64>() * WINDOW_S / 3600.0 + 14.0;
    let metrics = BTreeMap::from([
        ("availability".to_owned(), overall),
        ("latency_p50_ms".to_owned(), mean(&p50)),
        ("latency_p99_ms".to_owned(), tail * (0.9 - 0.4 * character.sheds)),
        ("goodput_rps".to_owned(), mean(&goodput)),
        ("offered_rps".to_owned(), mean(&offered)),
        ("amplification".to_owned(), 1.0 + character.retries * 0.4),
        ("rejected_ratio".to_owned(), (1.0 - overall) * character.sheds),
        ("instance_hours".to_owned(), hours),
        ("cost".to_owned(), hours * 0.19 * (1.0 + 0.1 * character.retries)),
        ("service.typhoon.utilization".to_owned(), mean(&offered) / (mean(&ready) * 60.0)),
        ("version_inconsistent_requests".to_owned(), f64::from(index + 3)),
    ]);
    let mut series = vec![
        Series { scope: "run", name: String::new(), metric: "offered_rps", values: offered.clone() },
        Series { scope: "run", name: String::new(), metric: "goodput_rps", values: goodput },
        Series { scope: "run", name: String::new(), metric: "availability", values: availability },
        Series { scope: "run", name: String::new(), metric: "latency_p50_ms", values: p50 },
        Series { scope: "run", name: String::new(), metric: "latency_p99_ms", values: p99 },
    ];
    for (position, service) in SERVICES.iter().enumerate() {
        let moves = position < 2;
        let scaled = |values: &[f64], base: f64| -> Vec<f64> {
            values
                .iter()
                .map(|v| if moves { (v * (1.0 - 0.4 * position as f64)).ceil() } else { base })
                .collect()
        };
        let of = |metric, values| Series { scope: "service", name: (*service).to_owned(), metric, values };
        series.push(of("replicas_wanted", scaled(&wanted, 3.0)));
        series.push(of("replicas_ready", scaled(&ready, 3.0)));
        series.push(of("utilization", offered.iter().map(|load| (load / 700.0).min(1.0)).collect()));
    }
    let machines = |per: f64, least: f64| ready.iter().map(|v| (v / per).ceil().max(least)).collect();
    let missing = wanted.iter().zip(&ready).map(|(wanted, ready)| (wanted - ready).max(0.0)).collect();
    for (metric, values) in [
        ("nodes_ready", machines(4.0, 2.0)),
        ("nodes_ordered", machines(20.0, 0.0)),
        ("pending_instances", missing),
    ] {
        series.push(Series { scope: "node-pool", name: "general".to_owned(), metric, values });
    }
    // What comes faster than fifty a second waits.
    let excess = offered.iter().scan(0.0, |waiting: &mut f64, load| {
        *waiting = (*waiting + (load - 50.0)).max(0.0);
        Some(waiting.floor())
    });
    let values = excess.collect();
    series.push(Series { scope: "topic", name: "warnings".to_owned(), metric: "backlog", values });
    let shares = [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99];
    let points = shares
        .iter()
        .map(|&p: &f64| {
            let nines = -(1.0 - p / 100.0).log10();
            (p, 9.0 * (1.0 + 0.03 * noise.next()) * (1.0 + nines).powf(1.0 + tail / 900.0))
        })
        .collect();
    let event = |t_s, kind, subject: &str, detail: &str| LogEvent {
        t_s,
        kind,
        subject: subject.into(),
        detail: detail.into(),
    };
    Replication {
        index,
        seed: 1_822_000_000_000_000_000 + u64::from(index),
        digest: 0xfeed_0000 + u64::from(index),
        requests: 2_340_112,
        hops: 14_000_321,
        events: 88_123_456,
        inconsistent: Vec::new(),
        metrics,
        timeline: Timeline { t_s, series },
        percentiles: vec![PercentileCurve { scope: "run", name: String::new(), points }],
        lives: lives(),
        events_log: vec![
            event(3000.0, "action", "public", "throttle to 80 %"),
            event(5400.0, "rollout", "typhoon", "v1 to v2, rolling"),
            event(5830.0 + 40.0 * f64::from(index), "rollout_end", "typhoon", "on v2"),
            event(6000.0, "fault", "landfall", "node-loss: general-0 with 5 instances"),
            event(6000.0, "node", "general-0", "lost"),
            event(6031.25, "instance", "typhoon-7", "ready, replaces \"typhoon-2\""),
            event(7200.0, "fault_end", "landfall", "general-0 is back"),
        ],
        decisions: vec![
            json!({"t_s": 15.0, "service": "typhoon", "autoscaler": "hpa", "desired": 6}),
            json!({}),
            forecast(3600.0, 40.0),
            forecast(3630.0, 44.0),
            forecast(3660.0, 50.0),
        ],
    }
}

/// A decision of a scaler that looks a minute ahead.
fn forecast(t_s: f64, measured: f64) -> serde_json::Value {
    let metric = "source.public.requests-per-second";
    json!({"t_s": t_s, "subject": "typhoon", "steps": [
        ["measured", measured, metric], ["horizon-s", 60.0, metric],
        ["forecast", measured + 5.0, metric], ["forecast-high", measured + 9.0, metric],
    ]})
}

/// Numbers of mean 0 and about unit spread, the same everywhere.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        let mut sum = -6.0;
        for _ in 0..12 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            sum += (self.0 >> 11) as f64 / (1u64 << 53) as f64;
        }
        sum
    }
}

/// A version that was tried, taken back, and mended.
fn lives() -> Vec<simlab::lab::outcome::VersionLife> {
    let life =
        |version: &str, parent: Option<&str>, spans: &[(f64, f64)]| simlab::lab::outcome::VersionLife {
            service: "api".to_owned(),
            version: version.to_owned(),
            parent: parent.map(str::to_owned),
            spans: spans.to_vec(),
        };
    vec![
        life("v1", None, &[(0.0, 900.0), (1200.0, 2400.0)]),
        life("v2", Some("v1"), &[(600.0, 1260.0)]),
        life("v3", Some("v2"), &[]),
        life("v1-fix", Some("v1"), &[(2300.0, 3600.0)]),
    ]
}
