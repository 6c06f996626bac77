//! The Kubernetes Vertical Pod Autoscaler: requests from a fading histogram of past usage.
//!
//! ## What it does
//! Every sample of CPU goes into a histogram with buckets that grow by 5 %; of memory only the highest value of each
//! instance per day does. Samples lose half of their weight per half-life (24 h). The target is the 90th percentile, the
//! lower bound the median, the upper bound the 95th percentile, each the *end* of its bucket plus 15 %. With a short
//! history the bounds are wide: the upper one is multiplied by `1 + 1/c`, the lower one by `(1 + 0.001/c)^-2`, where `c`
//! is the smaller of the days between the first and the last CPU sample and the number of these samples / 1440. A kill for lack
//! of memory counts as a peak of `max(used + 100 MiB, 1.2 * used)`.
//!
//! With `update-mode = "off"` that is all. With `"initial"` new instances ask for the target, and their limits keep their
//! proportion to the requests. With `"recreate"` running ones are evicted, too: those that ask for less than the lower or
//! more than the upper bound; those that were killed for lack of memory within 10 min of their start; and those that are 12 h
//! old and 10 % or more off the target. With `"in-place-or-recreate"` they are resized without a restart; if their node
//! has no room they are evicted after 5 min (at once if it can never have it), with `"in-place"` they wait for ever. A
//! service with fewer than two instances is left alone, and at least half of its instances stay untouched in each look.
//!
//! ## When it helps
//! Where requests were guessed once and never looked at again, and load is much the same from day to day.
//!
//! ## How it fails
//! * It needs a day or more; in a flood it still recommends what was enough yesterday.
//! * A percentile of CPU says nothing of latency: requests that come in bursts need more than their 90th percentile.
//! * CPU that a quota cut off was never used, so it is not recommended.
//! * A target that no node has room for leaves the successors without a node; `max-allowed` is the remedy.
//! * Evicted instances count as replaced as soon as their successors are placed, ready or not: without a disruption budget
//!   all instances of a service that starts slowly are gone within minutes.
//! * Together with an HPA on CPU utilization both move the same ratio, and neither converges.
//!
//! ## Settings
//! Flags of the recommender, and `min-allowed`, `max-allowed` of a container policy:
//! * `recommender-interval` (`"1min"`).
//! * `target-cpu-percentile`, `target-memory-percentile` (`"90%"`);
//!   `recommendation-lower-bound-cpu-percentile`, `-memory-percentile` (`"50%"`);
//!   `recommendation-upper-bound-cpu-percentile`, `-memory-percentile` (`"95%"`).
//! * `recommendation-margin-fraction` (`"15%"`).
//! * `pod-recommendation-min-cpu-millicores` (25), `pod-recommendation-min-memory-mb` (250, in MiB as upstream takes it):
//!   least for a whole pod, shared by its containers.
//! * `cpu-histogram-decay-half-life`, `memory-histogram-decay-half-life`, `memory-aggregation-interval` (`"24h"`).
//! * `oom-bump-up-ratio` (1.2), `oom-min-bump-up-bytes` (`"100MiB"`).
//! * `min-allowed`, `max-allowed` (none): `{ cpu = "100m", memory = "128MiB" }`.
//!
//! Of the update policy, and flags of the updater:
//! * `update-mode` (`"recreate"`): `"off"`, `"initial"`, `"recreate"`, `"in-place"` or `"in-place-or-recreate"`.
//! * `min-replicas` (2); `eviction-tolerance` (`"50%"`); `updater-interval` (`"1min"`).
//! * `pod-update-threshold` (`"10%"`), `in-recommendation-bounds-eviction-lifetime-threshold` (`"12h"`),
//!   `evict-after-oom-threshold` (`"10min"`).
//! * `in-place-skip-disruption-budget` (false): resizing on the spot needs no other instances to carry on.
//!
//! ## Origin
//! kubernetes/autoscaler at 55c37cd5, `vertical-pod-autoscaler/pkg/recommender`: `util/histogram.go`,
//! `util/decaying_histogram.go`, `logic/estimator.go`, `logic/recommender.go`, `model/container.go` (`addMemorySample`,
//! `RecordOOM`), `model/aggregate_container_state.go`. The updater: see `recommender/updater.rs`.
//!
//! ## Deliberate differences
//! * One recommender serves one container of one service, so there is nothing to merge; checkpoints are not modelled.
//! * Limits are always controlled (`RequestsAndLimits`); there is no limit range and no rate limit of evictions.
//! * Before the first CPU sample there is no recommendation; upstream would give the minimum.
//! * The clock starts at a multiple of the half-life, whatever the date of the run is.
//! * `confidence-interval-cpu` and `-memory` are the day that they default to.

pub mod histogram;
mod settings;

use std::collections::BTreeMap;

use super::updater::Updater;
use super::{Recommendation, Recommender, Usage};
use crate::policies::Algorithm;
use crate::policies::view::Resources;
use crate::time::{Duration, Time};
use crate::units::Share;
use histogram::{DecayingHistogram, Options};
pub use settings::{Allowed, VpaSettings};

/// Weight of every CPU sample (`minSampleWeight`).
const CPU_SAMPLE_WEIGHT: f64 = 0.1;
/// Weight of every peak of memory.
const MEMORY_SAMPLE_WEIGHT: f64 = 1.0;
/// No amount is larger (`MaxResourceAmount`).
const MAX_AMOUNT: f64 = 1e14;
/// One sample per minute for a day is a confidence of 1.
const DAY: Duration = Duration::from_secs(86_400);

/// Peaks of memory of one instance (`ContainerState`).
#[derive(Clone, Copy, Debug, Default)]
struct Peaks {
    last_cpu_sample_start: Option<Time>,
    last_memory_sample_start: Time,
    /// End of the current interval, not part of it; `None` before the first sample.
    window_end: Option<Time>,
    memory_peak: i64,
    oom_peak: i64,
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Vpa {
    state: Box<State>,
}

#[derive(Clone, Debug)]
struct State {
    settings: VpaSettings,
    cpu: DecayingHistogram,
    memory: DecayingHistogram,
    /// First and last CPU sample.
    seen: Option<(Time, Time)>,
    total_samples_count: u64,
    instances: BTreeMap<u32, Peaks>,
}

impl Algorithm for Vpa {
    type Settings = VpaSettings;

    fn new(settings: &VpaSettings, _now: Time) -> Self {
        Self {
            state: Box::new(State {
                settings: settings.clone(),
                cpu: DecayingHistogram::new(Options::CPU, settings.cpu_histogram_decay_half_life),
                memory: DecayingHistogram::new(Options::MEMORY, settings.memory_histogram_decay_half_life),
                seen: None,
                total_samples_count: 0,
                instances: BTreeMap::new(),
            }),
        }
    }
}

impl Recommender for Vpa {
    fn interval(&self) -> Duration {
        self.state.settings.recommender_interval
    }

    fn on_usage(&mut self, _now: Time, usage: &Usage) {
        let state = &mut *self.state;
        let Usage { instance, at, used } = *usage;
        let peaks = state.instances.entry(instance).or_default();
        // Samples may be told twice, or out of order.
        if peaks.last_cpu_sample_start.is_none_or(|last| at > last) && used.cpu_milli >= 0 {
            peaks.last_cpu_sample_start = Some(at);
            state.cpu.add_sample(used.cpu_milli as f64 / 1000.0, CPU_SAMPLE_WEIGHT, at);
            let (first, last) = state.seen.unwrap_or((at, at));
            state.seen = Some((first.min(at), last.max(at)));
            state.total_samples_count += 1;
        }
        if at >= peaks.last_memory_sample_start && used.memory >= 0 {
            let interval = state.settings.memory_aggregation_interval;
            peaks.add(&mut state.memory, interval, at, used.memory, false);
        }
    }

    fn on_oom(&mut self, now: Time, instance: u32, request: i64) {
        let state = &mut *self.state;
        let interval = state.settings.memory_aggregation_interval;
        let peaks = state.instances.entry(instance).or_default();
        // What an earlier kill made of it is left out, or kill after kill would add up.
        let used = request.max(peaks.memory_peak);
        let needed = (used.saturating_add_unsigned(state.settings.oom_min_bump_up_bytes.0))
            .max(scaled(used, state.settings.oom_bump_up_ratio));
        peaks.add(&mut state.memory, interval, now, needed, true);
    }

    fn updater(&self) -> Updater {
        let settings = &self.state.settings;
        Updater {
            mode: settings.update_mode,
            interval: settings.updater_interval,
            min_replicas: settings.min_replicas,
            eviction_tolerance: settings.eviction_tolerance.0,
            update_threshold: settings.pod_update_threshold.0,
            lifetime_threshold: settings.in_recommendation_bounds_eviction_lifetime_threshold,
            evict_after_oom: settings.evict_after_oom_threshold,
            skip_disruption_budget: settings.in_place_skip_disruption_budget,
        }
    }

    fn on_gone(&mut self, _now: Time, instance: u32) {
        self.state.instances.remove(&instance);
    }

    fn recommend(&mut self, _now: Time, containers: u32) -> Option<Recommendation> {
        let state = &*self.state;
        let settings = &state.settings;
        let (first, last) = state.seen?;
        let confidence =
            ((last - first).0 as f64 / DAY.0 as f64).min(state.total_samples_count as f64 / (60.0 * 24.0));

        let fraction = 1.0 / f64::from(containers.max(1));
        let min = Resources {
            cpu_milli: scaled(i64::from(settings.pod_recommendation_min_cpu_millicores), fraction),
            memory: scaled(i64::from(settings.pod_recommendation_min_memory_mb) << 20, fraction),
        };
        let margin = settings.recommendation_margin_fraction.0;
        let estimate = |cpu: Share, memory: Share, multiplier: f64| {
            let amount = |base: i64| scaled(base + scaled(base, margin), multiplier);
            Resources {
                cpu_milli: amount(whole(state.cpu.percentile(cpu.0) * 1000.0)).max(min.cpu_milli),
                memory: amount(whole(state.memory.percentile(memory.0))).max(min.memory),
            }
        };
        let capped = |resources: Resources| Resources {
            cpu_milli: resources
                .cpu_milli
                .min(settings.max_allowed.cpu.map_or(i64::MAX, |cpu| cpu.milli))
                .max(settings.min_allowed.cpu.map_or(0, |cpu| cpu.milli)),
            memory: resources
                .memory
                .min(
                    settings
                        .max_allowed
                        .memory
                        .map_or(i64::MAX, |memory| i64::try_from(memory.0).unwrap_or(i64::MAX)),
                )
                .max(
                    settings
                        .min_allowed
                        .memory
                        .map_or(0, |memory| i64::try_from(memory.0).unwrap_or(i64::MAX)),
                ),
        };
        Some(Recommendation {
            target: capped(estimate(settings.target_cpu_percentile, settings.target_memory_percentile, 1.0)),
            lower_bound: capped(estimate(
                settings.recommendation_lower_bound_cpu_percentile,
                settings.recommendation_lower_bound_memory_percentile,
                libm::pow(1.0 + 0.001 / confidence, -2.0),
            )),
            upper_bound: capped(estimate(
                settings.recommendation_upper_bound_cpu_percentile,
                settings.recommendation_upper_bound_memory_percentile,
                1.0 + 1.0 / confidence,
            )),
        })
    }
}

impl Peaks {
    /// `addMemorySample`: the peak of an interval replaces the lower one before it.
    fn add(
        &mut self,
        histogram: &mut DecayingHistogram,
        interval: Duration,
        at: Time,
        memory: i64,
        oom: bool,
    ) {
        self.last_memory_sample_start = at;
        let mut window_end = self.window_end.unwrap_or(at);
        if at < window_end {
            let peak = self.memory_peak.max(self.oom_peak);
            // A peak of 0 is taken for none, so nothing replaces it before the interval ends.
            if peak == 0 || memory <= peak {
                return;
            }
            histogram.subtract_sample(peak as f64, MEMORY_SAMPLE_WEIGHT, window_end);
        } else {
            let passed = (at - window_end).0 / interval.0;
            window_end += interval * (passed + 1);
            self.memory_peak = 0;
            self.oom_peak = 0;
        }
        self.window_end = Some(window_end);
        histogram.add_sample(memory as f64, MEMORY_SAMPLE_WEIGHT, window_end);
        *(if oom { &mut self.oom_peak } else { &mut self.memory_peak }) = memory;
    }
}

/// A whole amount, fractions dropped (`resourceAmountFromFloat`).
fn whole(amount: f64) -> i64 {
    amount.clamp(0.0, MAX_AMOUNT) as i64
}

/// `ScaleResource`. Nothing times infinity is nothing, as the minimum that follows wants it.
fn scaled(amount: i64, factor: f64) -> i64 {
    whole(amount as f64 * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: i64 = 1 << 20;

    fn read(text: &str) -> Result<VpaSettings, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    fn usage(instance: u32, at: u64, cpu_milli: i64, memory: i64) -> Usage {
        Usage { instance, at: Time::from_secs(at), used: Resources { cpu_milli, memory } }
    }

    #[test]
    fn reads_the_flags() {
        assert_eq!(read("").unwrap(), VpaSettings::default());
        let settings =
            read("target-cpu-percentile = '80%'\nmax-allowed = { cpu = '2', memory = '1GiB' }").unwrap();
        assert_eq!(settings.target_cpu_percentile, Share(0.8));
        for (text, part) in [
            ("target-cpu-percentile = '120%'", "more than the whole"),
            ("cpu-histogram-decay-half-life = '0s'", "longer than zero"),
            ("oom-bump-up-ratio = 0.5", "at least 1"),
            ("update-mode = 'auto'", "unknown variant"),
            ("updater-interval = '0s'", "longer than zero"),
            ("min-allowed.cpu = 3\nmax-allowed.cpu = 2", "greater than"),
            ("target-percentile = '90%'", "unknown field"),
        ] {
            let message = read(text).expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn a_steady_instance_gets_the_end_of_its_bucket_and_a_margin() {
        let mut vpa = Vpa::new(&VpaSettings::default(), Time::ZERO);
        assert_eq!(vpa.recommend(Time::ZERO, 1), None);
        // Ten days of one sample a minute.
        for minute in 0..=14_400 {
            vpa.on_usage(Time::from_secs(minute * 60), &usage(1, minute * 60, 500, 600 * MIB));
        }
        let recommendation = vpa.recommend(Time::from_secs(864_000), 1).unwrap();
        let cpu = vpa.state.cpu.percentile(0.9);
        assert!(cpu > 0.5 && cpu < 0.53);
        let base = (cpu * 1000.0) as i64;
        let target = base + (base as f64 * 0.15) as i64;
        assert_eq!(recommendation.target.cpu_milli, target);
        // Confidence 10: a tenth more above, 0.02 % less below.
        assert_eq!(recommendation.upper_bound.cpu_milli, (target as f64 * 1.1) as i64);
        assert_eq!(recommendation.lower_bound.cpu_milli, target - 1);
        assert!(recommendation.target.memory > 690 * MIB && recommendation.target.memory < 730 * MIB);
    }

    #[test]
    fn a_short_history_makes_wide_bounds() {
        let mut vpa = Vpa::new(&VpaSettings::default(), Time::ZERO);
        vpa.on_usage(Time::ZERO, &usage(1, 0, 500, 600 * MIB));
        let first = vpa.recommend(Time::ZERO, 1).unwrap();
        assert_eq!(first.upper_bound.cpu_milli, 100_000_000_000_000);
        assert_eq!(first.lower_bound, Resources { cpu_milli: 25, memory: 250 * MIB });
        // Half a day: three times.
        for minute in 1..=720 {
            vpa.on_usage(Time::from_secs(minute * 60), &usage(1, minute * 60, 500, 600 * MIB));
        }
        let later = vpa.recommend(Time::from_secs(43_200), 1).unwrap();
        assert_eq!(later.upper_bound.cpu_milli, later.target.cpu_milli * 3);
    }

    #[test]
    fn memory_counts_one_peak_a_day_and_kills_bump_it() {
        let mut vpa = Vpa::new(&VpaSettings::default(), Time::ZERO);
        vpa.on_usage(Time::ZERO, &usage(1, 0, 100, 300 * MIB));
        vpa.on_usage(Time::from_secs(60), &usage(1, 60, 100, 900 * MIB));
        vpa.on_usage(Time::from_secs(120), &usage(1, 120, 100, 200 * MIB));
        // Only the 900 MiB are left.
        assert!(vpa.state.memory.percentile(0.0) > (900 * MIB) as f64);
        vpa.on_oom(Time::from_secs(180), 1, 1000 * MIB);
        // 1.2 times the request is more than 100 MiB above it.
        let peak = vpa.state.memory.percentile(0.0);
        assert!(peak > (1200 * MIB) as f64 && peak < (1270 * MIB) as f64, "{peak}");
        // The next kill starts from the request again, not from 1200 MiB.
        vpa.on_oom(Time::from_secs(240), 1, 1000 * MIB);
        assert_eq!(vpa.state.memory.percentile(1.0), peak);
        // A day later a new interval begins.
        vpa.on_usage(Time::from_secs(90_000), &usage(1, 90_000, 100, 300 * MIB));
        assert!(vpa.state.memory.percentile(0.1) < (320 * MIB) as f64);
    }

    #[test]
    fn policies_cap_and_containers_share_the_minimum() {
        let settings = read("max-allowed = { cpu = '400m' }\nmin-allowed = { memory = '500MiB' }").unwrap();
        let mut vpa = Vpa::new(&settings, Time::ZERO);
        for minute in 0..200 {
            vpa.on_usage(Time::from_secs(minute * 60), &usage(1, minute * 60, 900, MIB));
        }
        let got = vpa.recommend(Time::from_secs(12_000), 1).unwrap();
        assert_eq!(got.target, Resources { cpu_milli: 400, memory: 500 * MIB });
        let mut vpa = Vpa::new(&VpaSettings::default(), Time::ZERO);
        vpa.on_usage(Time::ZERO, &usage(1, 0, 1, MIB));
        assert_eq!(
            vpa.recommend(Time::ZERO, 2).unwrap().target,
            Resources { cpu_milli: 12, memory: 125 * MIB }
        );
    }
}
