//! Prequal: probes tell how many requests each endpoint has in flight and how slow it is; the quickest of the not too
//! busy ones is taken.
//!
//! ## What it does
//! With each query the client sends probes to a few endpoints at random. The answers, requests in flight (RIF) and an
//! estimate of the latency at that RIF, arrive on their own and wait in a pool. A probe is *hot* if its RIF is above
//! the `rif-quantile` of the RIFs seen lately. If any probe is cold, the cold one with the lowest latency is taken,
//! else the one with the lowest RIF; with fewer than two probes any endpoint at random. A used probe counts one more
//! request in flight and may be used a few times. Probes leave when they are too old, used up, pushed out by newer
//! ones, or by a steady removal of the oldest and the worst in turn.
//!
//! ## When it helps
//! Many clients, noisy neighbours, uneven machines: the counts come from the server itself, so they cover all clients,
//! and a pool makes the choice out of many without waiting for a probe.
//!
//! ## How it fails
//! Probes cost messages. An instance that fails fast has few requests in flight and attracts traffic; the aversion to
//! errors here is a stopgap. With rare queries probes are outdated when they are used. Clients that hold the same good
//! probe herd.
//!
//! ## Settings
//! * `probes-per-query` (default 3, 0 to 64, may be a fraction): probes sent with each query.
//! * `removals-per-query` (default 1, 0 to 64, may be a fraction): probes removed with each query, the worst and the
//!   oldest in turn.
//! * `pool-size` (default 16, 2 to 1024): most probes kept.
//! * `probe-age` (default `1s`): older probes are dropped.
//! * `rif-quantile` (default 84.09 %, that is 2^-0.25): 0 goes by RIF alone, 100 % by latency alone.
//! * `delta` (default 1, at least 0): how far the uses of a probe may go beyond what keeps the pool full.
//! * `error-threshold` (default `50%`): endpoints with a larger share of errors lately are the last choice; `100%`
//!   switches it off.
//!
//! ## Origin
//! Wydrowski, Kleinberg, Rumble and Archer, *Load is not what you should balance: Introducing Prequal*, NSDI 2024
//! (arXiv 2312.10172), section 4. There is no open upstream. **Provisional**: the rules and defaults are from memory of
//! the paper, of which only the introduction could be read; they await somebody who holds them against section 4.
//!
//! ## Deliberate differences
//! Provisional choices where the paper leaves them open or memory does:
//! * The quantile is over the last 64 answers; ties go to the oldest probe; a probe is removed after its last use.
//! * A newer probe of an endpoint replaces the older one in the pool. The factor 1 - (pool size / endpoints) of the reuse
//!   budget is the chance that a probe meets an endpoint that is not in the pool yet, so this seems to be meant. Where that
//!   budget is not positive (a pool nearly as large as the fleet), a probe is used once, as max(1, budget) says. Using it
//!   until it is replaced would be worse than picking at random: what is cold is ranked by latency alone, so everybody
//!   goes to the same endpoint until the next probe.
//! * The latency that a server reports is the median of at least 8 of its last 64 answers, those that arrived at the
//!   nearest RIF.
//! * A share of errors is a moving average in which an outcome counts for 1/8; probes of endpoints above the threshold
//!   rank behind all others.
//! * No probes while there are no queries, and no removal from a pool of one.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{Balancer, Needs, Reading};
use crate::policies::Algorithm;
use crate::policies::view::{Endpoints, Outcome, RequestHead, Slot};
use crate::random::Rng;
use crate::time::{Duration, Time};
use crate::units::Share;

/// Settings of `balancer.prequal`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PrequalSettings {
    /// Probes sent with each query.
    #[serde(deserialize_with = "per_query")]
    #[schemars(range(min = 0.0, max = 64.0))]
    pub probes_per_query: f64,
    /// Probes removed with each query.
    #[serde(deserialize_with = "per_query")]
    #[schemars(range(min = 0.0, max = 64.0))]
    pub removals_per_query: f64,
    /// Most probes kept.
    #[serde(deserialize_with = "pool_size")]
    #[schemars(range(min = 2, max = 1024))]
    pub pool_size: u32,
    /// Older probes are dropped.
    pub probe_age: Duration,
    /// Probes with a RIF above this quantile are hot.
    pub rif_quantile: Share,
    /// How far the uses of a probe may go beyond what keeps the pool full.
    #[serde(deserialize_with = "delta")]
    #[schemars(range(min = 0.0))]
    pub delta: f64,
    /// Endpoints with a larger share of errors are the last choice.
    pub error_threshold: Share,
}

impl Default for PrequalSettings {
    fn default() -> Self {
        Self {
            probes_per_query: 3.0,
            removals_per_query: 1.0,
            pool_size: 16,
            probe_age: Duration::from_secs(1),
            // 2^-0.25
            rif_quantile: Share(0.840_896_415_253_714_6),
            delta: 1.0,
            error_threshold: Share(0.5),
        }
    }
}

fn per_query<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let number = f64::deserialize(deserializer)?;
    if (0.0..=64.0).contains(&number) {
        Ok(number)
    } else {
        Err(de::Error::custom(format!("{number} per query is not between 0 and 64")))
    }
}

fn pool_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let size = u32::deserialize(deserializer)?;
    if (2..=1024).contains(&size) {
        Ok(size)
    } else {
        Err(de::Error::custom(format!(
            "pool-size is {size}, but a choice needs 2 probes, and 1024 are plenty"
        )))
    }
}

fn delta<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let delta = f64::deserialize(deserializer)?;
    if delta >= 0.0 && delta.is_finite() {
        Ok(delta)
    } else {
        Err(de::Error::custom(format!("delta is {delta}, but it must be 0 or more")))
    }
}

/// The hot-cold lexicographic rule: position of the probe to use, `None` if there are fewer than two.
pub fn select(pool: impl Iterator<Item = Reading> + Clone, rif_threshold: u32) -> Option<usize> {
    pool.clone().nth(1)?;
    let rank = |(_, reading): &(usize, Reading)| {
        let hot = reading.rif > rif_threshold;
        (hot, if hot { u64::from(reading.rif) } else { reading.latency.0 })
    };
    pool.enumerate().min_by_key(rank).map(|(at, _)| at)
}

/// Position of the probe that goes first when a bad one has to go: the hot one with the highest RIF, else the slowest;
/// `None` if there are fewer than two.
pub fn worst(pool: impl Iterator<Item = Reading> + Clone, rif_threshold: u32) -> Option<usize> {
    pool.clone().nth(1)?;
    let rank = |reading: Reading| {
        let hot = reading.rif > rif_threshold;
        (hot, if hot { u64::from(reading.rif) } else { reading.latency.0 })
    };
    let mut worst: Option<(usize, (bool, u64))> = None;
    for (at, rank) in pool.map(rank).enumerate() {
        if worst.is_none_or(|(_, known)| rank > known) {
            worst = Some((at, rank));
        }
    }
    worst.map(|(at, _)| at)
}

/// How often a probe may be used on average: `None` if new endpoints do not come in faster than probes are removed.
pub fn reuse_budget(
    delta: f64,
    pool_size: f64,
    replicas: f64,
    probes_per_query: f64,
    removals_per_query: f64,
) -> Option<f64> {
    let surplus = (1.0 - pool_size / replicas) * probes_per_query - removals_per_query;
    (surplus > 0.0).then(|| ((1.0 + delta) / surplus).max(1.0))
}

/// RIFs that the quantile is over.
const RIFS: usize = 64;

/// A probe in the pool.
#[derive(Clone, Copy, Debug)]
struct Probe {
    slot: Slot,
    received: Time,
    reading: Reading,
    uses: u32,
    /// Uses it may see, once that is drawn.
    allowed: u32,
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Prequal(Box<State>);

#[derive(Clone, Debug)]
struct State {
    settings: PrequalSettings,
    /// Oldest first.
    pool: Vec<Probe>,
    /// RIFs of the last answers, in a ring.
    rifs: [u32; RIFS],
    seen: usize,
    /// Probes and removals that are due, with the fraction left over.
    probes_due: f64,
    removals_due: f64,
    /// The next removal takes the worst, not the oldest.
    worst_next: bool,
    /// Endpoints probed with the present query.
    probed: Vec<Slot>,
    /// Moving share of errors, by slot.
    errors: Vec<f64>,
    /// Whether an endpoint may be picked, by slot: a probe may be answered by one that is gone.
    listed: Vec<bool>,
}

impl Algorithm for Prequal {
    type Settings = PrequalSettings;

    fn new(settings: &PrequalSettings, _now: Time) -> Self {
        Self(Box::new(State {
            settings: *settings,
            pool: Vec::with_capacity(settings.pool_size as usize + 1),
            rifs: [0; RIFS],
            seen: 0,
            probes_due: 0.0,
            removals_due: 0.0,
            worst_next: true,
            probed: Vec::with_capacity(65),
            errors: Vec::new(),
            listed: Vec::new(),
        }))
    }
}

impl State {
    /// The quantile of the RIFs seen lately.
    fn rif_threshold(&self) -> u32 {
        let known = self.seen.min(RIFS);
        if known == 0 {
            return 0;
        }
        let mut sorted = self.rifs;
        let sorted = &mut sorted[..known];
        let rank = (self.settings.rif_quantile.0 * known as f64).ceil() as usize;
        if rank == 0 {
            // The quantile 0: all but the idle are hot.
            return 0;
        }
        *sorted.select_nth_unstable(rank.min(known) - 1).1
    }

    /// What the pool says, errors considered.
    fn readings(&self) -> impl Iterator<Item = Reading> + Clone {
        let Self { pool, errors, settings, .. } = self;
        pool.iter().map(|probe| {
            let averse = errors[probe.slot.0 as usize] > settings.error_threshold.0;
            if averse { Reading { rif: u32::MAX, ..probe.reading } } else { probe.reading }
        })
    }

    /// The present threshold; with a quantile of 100 % nothing but what is averse is hot.
    fn threshold(&self) -> u32 {
        if self.settings.rif_quantile.0 >= 1.0 { u32::MAX - 1 } else { self.rif_threshold() }
    }

    /// Uses up the probe at `at`.
    fn use_probe(&mut self, at: usize, replicas: usize, rng: &mut Rng) -> Slot {
        let PrequalSettings { delta, pool_size, probes_per_query, removals_per_query, .. } = self.settings;
        let probe = &mut self.pool[at];
        probe.uses += 1;
        probe.reading.rif = probe.reading.rif.saturating_add(1);
        if probe.allowed == 0 {
            let budget = reuse_budget(
                delta,
                f64::from(pool_size),
                replicas as f64,
                probes_per_query,
                removals_per_query,
            );
            // Rounded up or down at random, so that the mean is right.
            let budget = budget.unwrap_or(1.0);
            let whole = budget.floor();
            probe.allowed = whole.min(1e9) as u32 + u32::from(rng.unit() < budget - whole);
        }
        let slot = probe.slot;
        if probe.uses >= probe.allowed {
            self.pool.remove(at);
        }
        slot
    }

    /// The steady removal.
    fn remove_some(&mut self) {
        self.removals_due += self.settings.removals_per_query;
        while self.removals_due >= 1.0 {
            self.removals_due -= 1.0;
            let Some(worst) = worst(self.readings(), self.threshold()) else { continue };
            self.pool.remove(if self.worst_next { worst } else { 0 });
            self.worst_next = !self.worst_next;
        }
    }
}

impl Balancer for Prequal {
    fn needs(&self) -> Needs {
        Needs { probes: true, ..Needs::default() }
    }

    fn on_update(&mut self, _now: Time, endpoints: &Endpoints) {
        let State { pool, errors, listed, .. } = &mut *self.0;
        let slots = errors.len().max(endpoints.weight.len());
        errors.resize(slots, 0.0);
        listed.clear();
        listed.resize(slots, false);
        endpoints.eligible.iter().for_each(|slot| listed[slot.0 as usize] = true);
        pool.retain(|probe| listed[probe.slot.0 as usize]);
    }

    fn pick(
        &mut self,
        now: Time,
        _request: &RequestHead,
        endpoints: &Endpoints,
        rng: &mut Rng,
    ) -> Option<Slot> {
        let eligible = endpoints.eligible.as_slice();
        if eligible.is_empty() {
            return None;
        }
        let state = &mut *self.0;
        let age = state.settings.probe_age;
        state.pool.retain(|probe| now.since(probe.received) <= age);
        let slot = match select(state.readings(), state.threshold()) {
            Some(at) => state.use_probe(at, eligible.len(), rng),
            None => eligible[rng.index(eligible.len() as u32) as usize],
        };
        state.remove_some();
        state.probes_due += state.settings.probes_per_query;
        state.probed.clear();
        Some(slot)
    }

    fn next_probe(&mut self, _now: Time, endpoints: &Endpoints, rng: &mut Rng) -> Option<Slot> {
        let state = &mut *self.0;
        if state.probes_due < 1.0 {
            return None;
        }
        state.probes_due -= 1.0;
        let n = endpoints.eligible.len();
        if state.probed.len() >= n {
            // Everybody has been asked; what is still due lapses, or a fleet that grows would be asked for all of it at once.
            state.probes_due = state.probes_due.fract();
            return None;
        }
        // Without replacement within one query.
        loop {
            let slot = endpoints.eligible[rng.index(n as u32) as usize];
            if !state.probed.contains(&slot) {
                state.probed.push(slot);
                return Some(slot);
            }
        }
    }

    fn on_probe(&mut self, now: Time, slot: Slot, reading: Reading) {
        let state = &mut *self.0;
        state.rifs[state.seen % RIFS] = reading.rif;
        state.seen += 1;
        if !state.listed[slot.0 as usize] {
            return;
        }
        // A newer answer of the same endpoint replaces the older one; else the oldest makes room.
        if let Some(at) = state.pool.iter().position(|probe| probe.slot == slot) {
            state.pool.remove(at);
        } else if state.pool.len() >= state.settings.pool_size as usize {
            state.pool.remove(0);
        }
        state.pool.push(Probe { slot, received: now, reading, uses: 0, allowed: 0 });
    }

    fn on_outcome(&mut self, _now: Time, slot: Slot, outcome: &Outcome) {
        if outcome.is_unwanted() {
            return;
        }
        let share = &mut self.0.errors[slot.0 as usize];
        *share += (f64::from(u8::from(outcome.is_error())) - *share) / 8.0;
    }
}

/// The server's half: what it answers to probes.
#[derive(Clone, Debug)]
pub struct Reporter {
    /// (RIF at arrival, latency) of the last answers, in a ring.
    answers: [(u32, Duration); RIFS],
    seen: usize,
}

impl Default for Reporter {
    fn default() -> Self {
        Self { answers: [(0, Duration::ZERO); RIFS], seen: 0 }
    }
}

/// Answers that an estimate takes in, if there are so many.
const NEIGHBOURS: usize = 8;

impl Reporter {
    /// A request that found `rif` others in flight has been answered.
    pub fn on_answer(&mut self, rif: u32, latency: Duration) {
        self.answers[self.seen % RIFS] = (rif, latency);
        self.seen += 1;
    }

    /// The answer to a probe.
    pub fn reading(&self, rif: u32) -> Reading {
        let answers = &self.answers[..self.seen.min(RIFS)];
        // Distances in RIF, then the widest that is needed.
        let mut distances = [u32::MAX; RIFS];
        for (distance, (tag, _)) in distances.iter_mut().zip(answers) {
            *distance = tag.abs_diff(rif);
        }
        if answers.is_empty() {
            return Reading { rif, latency: Duration::ZERO };
        }
        let mut sorted = distances;
        let wanted = NEIGHBOURS.min(answers.len());
        let reach = *sorted[..answers.len()].select_nth_unstable(wanted - 1).1;
        let mut latencies = [Duration::ZERO; RIFS];
        let mut count = 0;
        for (distance, (_, latency)) in distances.iter().zip(answers) {
            if *distance <= reach {
                latencies[count] = *latency;
                count += 1;
            }
        }
        let median = *latencies[..count].select_nth_unstable(count / 2).1;
        Reading { rif, latency: median }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::view::Class;
    use crate::random::Key;

    const fn reading(rif: u32, ms: u64) -> Reading {
        Reading { rif, latency: Duration::from_millis(ms) }
    }

    /// Answers to probes of all endpoints but the last: (RIF, latency in ms).
    fn primed(readings: &[(u32, u64)], settings: PrequalSettings) -> (Prequal, Endpoints) {
        let endpoints = Endpoints::uniform(readings.len() as u32 + 1);
        let mut policy = Prequal::new(&settings, Time::ZERO);
        policy.on_update(Time::ZERO, &endpoints);
        for (slot, &(rif, ms)) in (0..).zip(readings) {
            policy.on_probe(Time::ZERO, Slot(slot), reading(rif, ms));
        }
        (policy, endpoints)
    }

    fn pick(policy: &mut Prequal, endpoints: &Endpoints, at: Time) -> Slot {
        policy.pick(at, &RequestHead::default(), endpoints, &mut Key::new(4).rng()).unwrap()
    }

    #[test]
    fn the_quickest_of_the_cold_and_a_used_probe_counts_itself() {
        // Reuse: (1 + 1) / ((1 - 4/5) x 2.5 - 0) = 4 times.
        let settings = PrequalSettings {
            pool_size: 4,
            probes_per_query: 2.5,
            removals_per_query: 0.0,
            ..PrequalSettings::default()
        };
        // The 84.09 % quantile of four RIFs is the fourth: nobody is hot.
        let (mut policy, endpoints) = primed(&[(2, 30), (9, 10), (3, 20), (4, 40)], settings);
        assert_eq!(pick(&mut policy, &endpoints, Time::ZERO), Slot(1));
        // Its RIF is 10 now, above the largest seen.
        assert_eq!(pick(&mut policy, &endpoints, Time::ZERO), Slot(2));
        // Two seconds later the probes are forgotten, and any will do.
        let later = Time::from_secs(2);
        let picks: Vec<_> = (0..40)
            .map(|i| {
                let mut rng = Key::new(i).rng();
                policy.pick(later, &RequestHead::default(), &endpoints, &mut rng).unwrap().0
            })
            .collect();
        assert!((0..5).all(|slot| picks.contains(&slot)), "{picks:?}");
    }

    #[test]
    fn who_fails_fast_is_the_last_choice() {
        let (mut policy, endpoints) = primed(&[(0, 1), (7, 80), (6, 90)], PrequalSettings::default());
        for _ in 0..6 {
            // 1 - (7/8)^6 = 0.55
            policy.on_outcome(Time::ZERO, Slot(0), &Outcome::new(Class::Failure, Duration::ZERO));
        }
        assert_ne!(pick(&mut policy, &endpoints, Time::ZERO), Slot(0));
    }

    #[test]
    fn probes_go_to_different_endpoints_and_fractions_add_up() {
        let settings = PrequalSettings { probes_per_query: 1.5, ..PrequalSettings::default() };
        let (mut policy, endpoints) = primed(&[(0, 1); 4], settings);
        let mut rng = Key::new(1).rng();
        let mut sent = Vec::new();
        for _ in 0..10 {
            pick(&mut policy, &endpoints, Time::ZERO);
            let probes: Vec<_> =
                std::iter::from_fn(|| policy.next_probe(Time::ZERO, &endpoints, &mut rng)).collect();
            assert!(probes.len() < 2 || probes[0] != probes[1]);
            sent.push(probes.len());
        }
        assert_eq!(sent, [1, 2, 1, 2, 1, 2, 1, 2, 1, 2]);
    }

    #[test]
    fn a_server_knows_its_latency_at_its_present_load() {
        let mut reporter = Reporter::default();
        assert_eq!(reporter.reading(5), reading(5, 0));
        for rif in 0..16 {
            reporter.on_answer(rif, Duration::from_millis(10 * u64::from(rif)));
        }
        // The eight nearest to 2 lie within 5 of it: 0 to 7, whose upper median is 40 ms.
        assert_eq!(reporter.reading(2), reading(2, 40));
        assert_eq!(reporter.reading(15), reading(15, 120));
    }

    #[test]
    fn settings_are_checked() {
        let parse = |text: &str| serde_json::from_str::<PrequalSettings>(text);
        assert_eq!(parse("{}").unwrap(), PrequalSettings::default());
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert!(error(r#"{"pool-size": 1}"#).contains("a choice needs 2 probes"));
        assert!(error(r#"{"probes-per-query": -1}"#).contains("not between 0 and 64"));
        assert!(error(r#"{"delta": -0.5}"#).contains("0 or more"));
    }
}
