//! The worst that can be put to an algorithm of a traffic family: gaps of years, many calls at one instant, costs without
//! measure, results that come years late or never. Nothing is promised here but an answer.

use simlab::policies::balancer::{Balancer, BalancerSettings, Reading};
use simlab::policies::breaker::{Breaker, BreakerSettings};
use simlab::policies::hedge::{AnyHedge, HedgePolicy, HedgeSettings};
use simlab::policies::limiter::{Limiter, LimiterSettings};
use simlab::policies::retry::{Budget, BudgetSettings, Ended, Retry, RetryPolicy, RetrySettings};
use simlab::policies::shedding::{Newcomer, Shedding, SheddingSettings, Turn};
use simlab::policies::view::{Admit, Endpoints, Outcome, Permit, RequestHead, Slot};
use simlab::random::{Key, Rng};
use simlab::time::{Duration, Time};

use super::{STEPS, ending, fold, for_each, hot};

const YEAR: u64 = 365 * 86_400 * 1_000_000_000;

/// Mostly no time at all, now and then years; some two hundred of them in a run, and time ends after 584.
fn pause(rng: &mut Rng) -> Duration {
    match rng.index(2000) {
        0..1200 => Duration::ZERO,
        1200..1800 => Duration(u64::from(rng.index(1000))),
        1800..1998 => Duration(u64::from(rng.index(2_000_000_000))),
        _ => Duration(rng.bits() % (4 * YEAR)),
    }
}

/// Any ending, after no time, after a while or after years.
fn any_ending(rng: &mut Rng) -> Outcome {
    let outcome = ending(rng, false);
    let latency = match rng.index(10) {
        0 => Duration::ZERO,
        1 => Duration(rng.bits() % (4 * YEAR)),
        _ => outcome.latency,
    };
    Outcome { latency, ..outcome }
}

/// Permits that are out; results get lost, and the others come in any order.
#[derive(Default)]
struct Out(Vec<Permit>);

impl Out {
    fn add(&mut self, permit: Permit) {
        self.0.push(permit);
    }

    /// The permit whose result comes now.
    fn result(&mut self, rng: &mut Rng) -> Option<Permit> {
        let n = self.0.len() as u32;
        let permit = (n > 0).then(|| self.0.swap_remove(rng.index(n) as usize))?;
        (rng.index(10) > 0).then_some(permit)
    }
}

fn check_until(admit: &Admit, now: Time, text: &str) {
    if let Admit::Reject { until: Some(until) } = admit {
        assert!(*until > now, "{text}: refused at {now:?}, but promised for {until:?}");
    }
}

#[test]
fn breakers() {
    for_each(BreakerSettings::KINDS, |_, text, settings: &BreakerSettings| {
        let mut breaker = settings.build(Time::ZERO);
        let mut rng = Key::new(21).rng();
        let (mut now, mut digest, mut out) = (Time::ZERO, 0, Out::default());
        for _ in 0..STEPS {
            now += pause(&mut rng);
            match rng.index(5) {
                0..3 => {
                    let admit = hot(|| breaker.try_acquire(now));
                    check_until(&admit, now, text);
                    if let Admit::Now(permit) = admit {
                        out.add(permit);
                    }
                }
                3 => hot(|| breaker.poll(now)),
                _ => {
                    if let Some(permit) = out.result(&mut rng) {
                        let outcome = any_ending(&mut rng);
                        hot(|| breaker.on_outcome(now, permit, &outcome));
                    }
                }
            }
            fold(&mut digest, hot(|| breaker.state(now)) as u64);
        }
        digest
    });
}

#[test]
fn limiters() {
    for_each(LimiterSettings::KINDS, |_, text, settings: &LimiterSettings| {
        let mut limiter = settings.build(Time::ZERO);
        let mut rng = Key::new(22).rng();
        let (mut now, mut digest, mut out) = (Time::ZERO, 0, Out::default());
        for _ in 0..STEPS {
            now += pause(&mut rng);
            if rng.index(2) == 0 {
                let cost = [1, 1, 1, 2, 1000, u32::MAX][rng.index(6) as usize];
                let max_wait = [Duration::ZERO, Duration::from_secs(1), Duration::MAX][rng.index(3) as usize];
                let admit = hot(|| limiter.try_acquire(now, cost, max_wait, &mut rng));
                check_until(&admit, now, text);
                if let Admit::Now(permit) | Admit::At(_, permit) = admit {
                    assert!(permit.start >= now, "{text}");
                    out.add(permit);
                }
                fold(&mut digest, u64::from(matches!(admit, Admit::Reject { .. })));
            } else if let Some(permit) = out.result(&mut rng) {
                let outcome = any_ending(&mut rng);
                hot(|| limiter.on_outcome(now, permit, &outcome, &mut rng));
            }
            hot(|| {
                limiter
                    .gauges(now, &mut |name, value| assert!(!value.is_nan(), "{text}: {name} is no number"));
            });
        }
        digest
    });
}

#[test]
fn balancers() {
    for_each(BalancerSettings::KINDS, |_, text, settings: &BalancerSettings| {
        let mut policy = settings.build(Time::ZERO);
        // Its twin, which is told everything but how attempts end.
        let mut deaf = settings.build(Time::ZERO);
        let mut rng = Key::new(23).rng();
        let (mut now, mut digest) = (Time::ZERO, 0);
        let mut endpoints = Endpoints::default();
        let mut out: Vec<Slot> = Vec::new();
        policy.on_update(now, &endpoints);
        deaf.on_update(now, &endpoints);
        for step in 0..STEPS {
            now += pause(&mut rng);
            if rng.index(500) == 0 {
                // None, one, or all of many; the heaviest weights beside the lightest.
                let n = [0, 1, 300][rng.index(3) as usize];
                let before = std::mem::replace(&mut endpoints, Endpoints::uniform(300));
                endpoints.eligible.truncate(n);
                for (at, active) in before.active.iter().enumerate() {
                    endpoints.active[at] = *active;
                }
                endpoints.weight[0] = [1, 1_000_000][rng.index(2) as usize];
                policy.on_update(now, &endpoints);
                deaf.on_update(now, &endpoints);
            }
            if rng.index(2) == 0 {
                let affinity = (rng.index(2) == 0).then(|| rng.bits());
                let request = RequestHead { affinity, attempt: rng.index(100) };
                if policy.needs().load {
                    endpoints.load.clone_from(&endpoints.active);
                }
                let mut draws = Key::new(u64::from(step)).rng();
                let mut same_draws = draws.clone();
                let picked = hot(|| policy.pick(now, &request, &endpoints, &mut draws));
                if !policy.needs().outcomes {
                    let unheard = deaf.pick(now, &request, &endpoints, &mut same_draws);
                    assert_eq!(unheard, picked, "{text}: it does listen to outcomes");
                }
                // Probes go out, and nobody answers most of them.
                while let Some(slot) = hot(|| policy.next_probe(now, &endpoints, &mut draws)) {
                    if rng.index(10) == 0 {
                        let reading = Reading { rif: u32::MAX, latency: Duration(rng.bits() % (4 * YEAR)) };
                        hot(|| policy.on_probe(now, slot, reading));
                    }
                }
                if let Some(slot) = picked {
                    assert!(endpoints.eligible.contains(&slot), "{text}: {slot:?} is not eligible");
                    endpoints.active[slot.0 as usize] += 1;
                    out.push(slot);
                }
                fold(&mut digest, picked.map_or(u64::MAX, |slot| u64::from(slot.0)));
            } else if !out.is_empty() {
                let slot = out.swap_remove(rng.index(out.len() as u32) as usize);
                let outcome = any_ending(&mut rng);
                endpoints.active[slot.0 as usize] -= 1;
                if rng.index(10) > 0 {
                    hot(|| policy.on_outcome(now, slot, &outcome));
                }
            }
        }
        digest
    });
}

#[test]
fn retries() {
    for_each(RetrySettings::KINDS, |_, _, settings: &RetrySettings| {
        let policy = settings.build(Time::ZERO);
        let mut rng = Key::new(24).rng();
        let (mut now, mut digest) = (Time::ZERO, 0);
        for _ in 0..STEPS {
            now += pause(&mut rng);
            let attempt = [0, 1, 63, 64, 1000, u32::MAX - 1][rng.index(6) as usize];
            let mut carry = [0.0, 1e9, 1e300][rng.index(3) as usize];
            let outcome = any_ending(&mut rng);
            let answer = hot(|| policy.on_failure(now, attempt, &mut carry, &outcome, &mut rng));
            fold(&mut digest, if let Retry::After(delay) = answer { delay.0 } else { u64::MAX });
        }
        digest
    });
}

#[test]
fn retry_budgets() {
    for_each(BudgetSettings::KINDS, |_, _, settings: &BudgetSettings| {
        let mut budget = settings.build(Time::ZERO);
        let mut rng = Key::new(25).rng();
        let (mut now, mut digest) = (Time::ZERO, 0);
        for step in 0..STEPS {
            now += pause(&mut rng);
            // Long times without a deposit, and long times without a withdrawal; what was withdrawn seldom comes back.
            let class = any_ending(&mut rng).class;
            if rng.index(100) < if step % 20_000 < 10_000 { 1 } else { 99 } {
                hot(|| budget.deposit(now));
                continue;
            }
            let after = (rng.index(5) > 0).then_some(class);
            let withdrawn = hot(|| budget.withdraw(now, after));
            fold(&mut digest, withdrawn.map_or(0, |cost| u64::from(cost) + 1));
            if rng.index(2) == 0 {
                hot(|| budget.on_sent(now));
                let ended = Ended { class, sent: true, withdrawn, retryable: rng.index(2) == 0 };
                hot(|| budget.on_ended(now, &ended));
            }
        }
        digest
    });
}

#[test]
fn hedges() {
    for_each(HedgeSettings::KINDS, |_, _, settings: &HedgeSettings| {
        let mut policy: AnyHedge = settings.build(Time::ZERO);
        let mut rng = Key::new(27).rng();
        let (mut now, mut digest) = (Time::ZERO, 0);
        for _ in 0..STEPS {
            now += pause(&mut rng);
            let sent = [1, 2, u32::MAX][rng.index(3) as usize];
            let delay = hot(|| policy.delay(now, sent));
            fold(&mut digest, delay.map_or(u64::MAX, |delay| delay.0));
            let outcome = any_ending(&mut rng);
            fold(&mut digest, hot(|| policy.on_outcome(now, &outcome)) as u64);
        }
        digest
    });
}

#[test]
fn shedding() {
    for_each(SheddingSettings::KINDS, |_, _, settings: &SheddingSettings| {
        let mut policy = settings.build(Time::ZERO);
        let mut rng = Key::new(26).rng();
        let (mut now, mut digest) = (Time::ZERO, 0);
        for _ in 0..STEPS {
            now += pause(&mut rng);
            let time = |rng: &mut Rng| match rng.index(3) {
                0 => Duration::ZERO,
                1 => Duration(rng.bits() % 1_000_000_000),
                _ => Duration(rng.bits() % (4 * YEAR)),
            };
            let (priority, waiting) = (rng.index(256) as u8, [0, 1, u32::MAX][rng.index(3) as usize]);
            let newcomer = Newcomer { priority, waiting, workers: [1, u32::MAX][rng.index(2) as usize] };
            let left = (rng.index(2) == 0).then(|| time(&mut rng));
            let turn = Turn { priority, waiting, waited: time(&mut rng), left };
            let turned_away = hot(|| policy.turns_away(now, &newcomer, &mut rng));
            let drops = hot(|| policy.drops(now, &turn, &mut rng));
            fold(&mut digest, u64::from(drops) + 2 * u64::from(turned_away));
        }
        digest
    });
}
