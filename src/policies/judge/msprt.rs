//! Always-valid comparison of the shares of bad requests of both versions (mixture sequential probability ratio test).
//!
//! # What it does
//! Compares the new version with the old one, as often as one likes: the likelihood of the observed difference, averaged
//! over a normal law of differences with standard deviation `tau`, over its likelihood without any difference. The inverse
//! of the largest ratio so far is a p-value that is valid at every look. Once it is at most `alpha` and the new version has
//! the larger share the version is bad; if the old one has, it is good.
//!
//! # When it helps
//! Someone looks at a dashboard of a canary again and again. An ordinary test at 5 % then fires on a good version far more
//! often than in 5 % of the rollouts; this one does not, and a large difference is still found at once.
//!
//! # How it fails
//! * Without a difference it never decides; the rollout goes on when its analysis is over.
//! * With few requests on either side the normal approximation is poor: `least-requests` waits.
//! * It weighs all requests since the analysis began alike, so a version that goes bad late is found late.
//!
//! # Settings
//! * `alpha` (0.05): chance to ever call a version different that is not.
//! * `tau` (0.05): the difference of the two shares one cares about.
//! * `slow`: a request that takes longer than this is bad, even if it succeeds.
//! * `least-requests` (50): it says nothing before both versions have had so many.
//!
//! # Origin
//! R. Johari, P. Koomen, L. Pekelis, D. Walsh, Always Valid Inference: Continuous Monitoring of A/B Tests, Operations
//! Research 70 (2022) 1806-1821 (arXiv 1512.04922), the mixture SPRT of section 4 with a normal mixture and the normal
//! approximation for Bernoulli data. From the published formulas.
//!
//! # Deliberate differences
//! The paper takes its samples in pairs; the two versions of a canary have different numbers of requests, so the variance of
//! the difference is p(1-p)(1/n + 1/m), with p over both together.

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::policies::Algorithm;
use crate::policies::judge::{Evidence, Judge, Phase, Wanted};
use crate::time::{Duration, Time};

/// Settings of [`Msprt`].
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default, remote = "Self")]
pub struct MsprtSettings {
    /// Chance to ever call a version different that is not.
    pub alpha: f64,
    /// Standard deviation of the differences one cares about, as a share of the requests.
    pub tau: f64,
    /// A request that takes longer is bad.
    pub slow: Option<Duration>,
    /// Requests of each version before it says anything.
    pub least_requests: u64,
}

impl Default for MsprtSettings {
    fn default() -> Self {
        Self { alpha: 0.05, tau: 0.05, slow: None, least_requests: 50 }
    }
}

impl<'de> Deserialize<'de> for MsprtSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        if !(0.0 < settings.alpha && settings.alpha < 1.0) {
            return Err(D::Error::custom("`alpha` is a chance between 0 and 1"));
        }
        if !(0.0 < settings.tau && settings.tau <= 1.0) {
            return Err(D::Error::custom("`tau` is a share above 0, at most 1"));
        }
        Ok(settings)
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Msprt {
    settings: MsprtSettings,
    /// Valid at every look so far.
    p_value: f64,
    /// Whether the new version had the larger share when the p-value was last pushed down.
    worse: bool,
}

impl Algorithm for Msprt {
    type Settings = MsprtSettings;

    fn new(settings: &MsprtSettings, _now: Time) -> Self {
        Self { settings: settings.clone(), p_value: 1.0, worse: false }
    }
}

/// The mixture likelihood ratio of a difference `delta` whose variance is `variance`.
pub fn likelihood_ratio(delta: f64, variance: f64, tau: f64) -> f64 {
    let spread = variance + tau * tau;
    libm::sqrt(variance / spread) * libm::exp(tau * tau * delta * delta / (2.0 * variance * spread))
}

impl Judge for Msprt {
    fn wants(&self) -> Wanted {
        Wanted { window: None, slow: self.settings.slow, steps: false }
    }

    fn judge(&mut self, _now: Time, evidence: &Evidence) -> Phase {
        let (canary, baseline) = (evidence.whole.canary, evidence.whole.baseline);
        let least = self.settings.least_requests.max(1);
        if canary.requests < least || baseline.requests < least {
            return Phase::Running;
        }
        let (n, m) = (canary.requests as f64, baseline.requests as f64);
        let delta = canary.bad as f64 / n - baseline.bad as f64 / m;
        let pooled = (canary.bad + baseline.bad) as f64 / (n + m);
        let variance = pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m);
        if variance > 0.0 {
            let p_value = 1.0 / likelihood_ratio(delta, variance, self.settings.tau);
            if p_value < self.p_value {
                (self.p_value, self.worse) = (p_value, delta > 0.0);
            }
        }
        match self.p_value <= self.settings.alpha {
            false => Phase::Running,
            true if self.worse => Phase::Failed,
            true => Phase::Successful,
        }
    }

    fn found(&self) -> f64 {
        self.p_value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::judge::{Pair, Reading};
    use crate::random::Key;
    use crate::stats::interval::of_probability;

    fn see(judge: &mut Msprt, canary: (u64, u64), baseline: (u64, u64)) -> Phase {
        let reading = |(requests, bad)| Reading { requests, errors: bad, bad, ..Reading::default() };
        let whole = Pair { canary: reading(canary), baseline: reading(baseline) };
        judge.judge(Time::ZERO, &Evidence { whole, steps: Vec::new() })
    }

    #[test]
    fn by_hand() {
        // Variance 0.0001, tau 0.03: sqrt(0.0001/0.001) exp(0.0009 * 0.0016 / (2 * 0.0001 * 0.001)) = 0.316228 e^7.2.
        assert!((likelihood_ratio(0.04, 0.0001, 0.03) - 0.316_227_766 * 1_339.430_764).abs() < 1e-3);
        // Without a difference the ratio is below 1 and falls as the variance does.
        assert!(likelihood_ratio(0.0, 0.0001, 0.03) < 0.32);
        let mut judge = Msprt::new(&MsprtSettings::default(), Time::ZERO);
        assert_eq!(see(&mut judge, (49, 49), (1000, 0)), Phase::Running, "too few requests");
        assert_eq!(see(&mut judge, (100, 0), (1000, 0)), Phase::Running, "nothing differs");
        assert_eq!(see(&mut judge, (100, 20), (1000, 10)), Phase::Failed);
        let mut judge = Msprt::new(&MsprtSettings::default(), Time::ZERO);
        assert_eq!(see(&mut judge, (1000, 10), (1000, 200)), Phase::Successful, "it cures something");
    }

    /// 400 looks at versions that do not differ: at most 5 % of the runs ever decide (exact binomial bound, 99.9 %); a
    /// two-sided z-test at the same looks decides wrongly far more often.
    #[test]
    fn looking_again_and_again_costs_nothing() {
        let runs = 500;
        let (mut ours, mut naive) = (0, 0);
        for run in 0..runs {
            let mut rng = Key::new(11).named("msprt").with(run).rng();
            let mut judge = Msprt::new(&MsprtSettings::default(), Time::ZERO);
            let (mut canary, mut baseline) = (0, 0);
            let (mut decided, mut fooled) = (false, false);
            for look in 1..=400_u64 {
                for _ in 0..10 {
                    canary += u64::from(rng.unit() < 0.05);
                    baseline += u64::from(rng.unit() < 0.05);
                }
                let n = look * 10;
                decided |= see(&mut judge, (n, canary), (n, baseline)) != Phase::Running;
                let p = (canary + baseline) as f64 / (2 * n) as f64;
                let deviation = (p * (1.0 - p) * 2.0 / n as f64).sqrt();
                let delta = (canary as f64 - baseline as f64) / n as f64;
                fooled |= n >= 50 && delta.abs() > 1.96 * deviation;
            }
            ours += u32::from(decided);
            naive += u32::from(fooled);
        }
        let (low, _) = of_probability(ours, runs as u32, 0.999);
        assert!(low <= 0.05, "{ours} of {runs}");
        let (low, _) = of_probability(naive, runs as u32, 0.999);
        assert!(low > 0.15, "the naive test was fooled {naive} times in {runs}");
    }
}
