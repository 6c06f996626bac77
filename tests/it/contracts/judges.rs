//! The promises of judges: an answer to whatever was seen, nothing at all included, and the same answer to the same questions.

use simlab::policies::judge::{Evidence, Judge, JudgeSettings, Pair, Phase, Reading};
use simlab::random::{Key, Rng};
use simlab::time::{Duration, Time};

use super::{fold, for_each};

/// Looks of one run: each is a whole analysis.
const LOOKS: u32 = 2_000;

/// A version over a minute: nobody, somebody, or absurdly many.
fn reading(rng: &mut Rng) -> Reading {
    let requests = match rng.index(12) {
        0..3 => 0,
        3 => 1,
        4 => 1 << 40,
        _ => u64::from(rng.index(5_000)),
    };
    let errors = (rng.unit() * rng.unit() * requests as f64) as u64;
    let bad = errors + ((requests - errors) as f64 * rng.unit()) as u64;
    let mean = if requests == 0 { 0.0 } else { rng.unit() };
    Reading { over: Duration::from_secs(60), requests, errors, bad, mean, quantiles: [mean; 4] }
}

#[test]
fn judges() {
    for_each(JudgeSettings::KINDS, |_, text, settings: &JudgeSettings| {
        let mut judge = settings.build(Time::ZERO);
        let wanted = judge.wants();
        let mut rng = Key::new(31).rng();
        let mut digest = 0;
        for look in 0..LOOKS {
            let now = Time::from_secs(u64::from(look) * 60);
            let mut pair = || Pair { canary: reading(&mut rng), baseline: reading(&mut rng) };
            let whole = pair();
            let steps = if wanted.steps { (0..look % 30).map(|_| pair()).collect() } else { Vec::new() };
            let phase = judge.judge(now, &Evidence { whole, steps });
            assert_ne!(phase, Phase::Pending, "{text}: says nothing at all");
            assert_eq!(judge.wants(), wanted, "{text}: changes its mind about what it wants");
            fold(&mut digest, phase as u64);
            fold(&mut digest, judge.found().to_bits());
        }
        digest
    });
}
