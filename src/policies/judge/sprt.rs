//! Wald's sequential probability ratio test on the share of bad requests of the new version.
//!
//! # What it does
//! Weighs two statements against each other: the share of bad requests is `good`, or it is `bad`. Every request moves the
//! logarithm of their likelihood ratio; once it is above ln((1 - beta) / alpha) the version is bad, once it is below
//! ln(beta / (1 - alpha)) it is good, and in between the judge wants to see more.
//!
//! # When it helps
//! No other test with the same two error rates needs fewer requests on average, whichever statement is true (Wald and
//! Wolfowitz 1948). It may look after every request and pays nothing for it.
//!
//! # How it fails
//! * Both shares are written down, not compared with the old version: a bad hour of the whole system is a bad version.
//! * A share between the two can keep it waiting for very long; `most-requests` ends that.
//! * It weighs all requests since the analysis began alike, so a version that goes bad late is found late.
//!
//! # Settings
//! * `good` (required), `bad` (required): the two shares of bad requests, 0 < good < bad < 1.
//! * `alpha` (0.05): chance to call a good version bad.
//! * `beta` (0.05): chance to call a bad version good.
//! * `slow`: a request that takes longer than this is bad, even if it succeeds.
//! * `most-requests`: after so many requests without a decision the measurement is inconclusive.
//!
//! # Origin
//! A. Wald, Sequential Tests of Statistical Hypotheses, Annals of Mathematical Statistics 16 (1945), 117-186, section 5.32
//! (double dichotomies are not needed: the second share is known). A. Wald and J. Wolfowitz, Optimum Character of the
//! Sequential Probability Ratio Test, Annals of Mathematical Statistics 19 (1948). From the published formulas.
//!
//! # Deliberate differences
//! Requests arrive in groups, one group per look, so the bounds may be overshot; the error rates are then lower than
//! `alpha` and `beta`, not higher.

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::policies::Algorithm;
use crate::policies::judge::{Evidence, Judge, Phase, Wanted};
use crate::time::{Duration, Time};

/// Settings of [`Sprt`].
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, remote = "Self")]
pub struct SprtSettings {
    /// Share of bad requests of a good version.
    pub good: f64,
    /// Share of bad requests of a bad version.
    pub bad: f64,
    /// Chance to call a good version bad.
    #[serde(default = "five_percent")]
    pub alpha: f64,
    /// Chance to call a bad version good.
    #[serde(default = "five_percent")]
    pub beta: f64,
    /// A request that takes longer is bad.
    #[serde(default)]
    pub slow: Option<Duration>,
    /// It gives up after so many requests.
    #[serde(default)]
    pub most_requests: Option<u64>,
}

const fn five_percent() -> f64 {
    0.05
}

impl<'de> Deserialize<'de> for SprtSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Self::deserialize(deserializer)?;
        let Self { good, bad, alpha, beta, .. } = settings;
        if !(0.0 < good && good < bad && bad < 1.0) {
            return Err(D::Error::custom("`good` and `bad` are shares with 0 < good < bad < 1"));
        }
        if !(0.0 < alpha && 0.0 < beta && alpha + beta < 1.0) {
            return Err(D::Error::custom("`alpha` and `beta` are chances above 0, together below 1"));
        }
        Ok(settings)
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Sprt {
    settings: SprtSettings,
    found: f64,
}

impl Algorithm for Sprt {
    type Settings = SprtSettings;

    fn new(settings: &SprtSettings, _now: Time) -> Self {
        Self { settings: settings.clone(), found: 0.0 }
    }
}

impl Judge for Sprt {
    fn wants(&self) -> Wanted {
        Wanted { window: None, slow: self.settings.slow, steps: false }
    }

    fn judge(&mut self, _now: Time, evidence: &Evidence) -> Phase {
        let SprtSettings { good, bad, alpha, beta, most_requests, .. } = self.settings;
        let seen = evidence.whole.canary;
        let fine = (seen.requests - seen.bad) as f64;
        let log_ratio =
            seen.bad as f64 * libm::log(bad / good) + fine * libm::log((1.0 - bad) / (1.0 - good));
        self.found = log_ratio;
        if log_ratio >= libm::log((1.0 - beta) / alpha) {
            Phase::Failed
        } else if log_ratio <= libm::log(beta / (1.0 - alpha)) {
            Phase::Successful
        } else if most_requests.is_some_and(|most| seen.requests >= most) {
            Phase::Inconclusive
        } else {
            Phase::Running
        }
    }

    fn found(&self) -> f64 {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::judge::{Pair, Reading};
    use crate::random::Key;
    use crate::stats::interval::of_probability;

    fn judge(more: &str) -> Sprt {
        let settings = format!("good = 0.01\nbad = 0.05\n{more}");
        Sprt::new(&toml::from_str(&settings).unwrap(), Time::ZERO)
    }

    fn see(judge: &mut Sprt, requests: u64, bad: u64) -> Phase {
        let canary = Reading { requests, errors: bad, bad, ..Reading::default() };
        let whole = Pair { canary, baseline: Reading::default() };
        judge.judge(Time::ZERO, &Evidence { whole, steps: Vec::new() })
    }

    #[test]
    fn by_hand() {
        // ln 5 = 1.609438 per bad request, ln(0.95/0.99) = -0.041243 per good one, bounds ln 19 = 2.944439.
        let mut judge = judge("");
        assert_eq!(see(&mut judge, 0, 0), Phase::Running);
        assert_eq!(see(&mut judge, 71, 0), Phase::Running, "-2.928");
        assert_eq!(see(&mut judge, 72, 0), Phase::Successful, "-2.969");
        assert_eq!(see(&mut judge, 8, 2), Phase::Failed, "2 * 1.609438 - 6 * 0.041243 = 2.971");
        assert_eq!(see(&mut judge, 9, 2), Phase::Running, "2.930");
        let mut judge = self::judge("most-requests = 9");
        assert_eq!(see(&mut judge, 9, 2), Phase::Inconclusive);
    }

    /// Over many runs the shares of wrong verdicts are no higher than the settings say (exact binomial bounds, 99.9 %).
    #[test]
    fn its_error_rates_hold() {
        let runs = 2000;
        for (share, wrong) in [(0.01, Phase::Failed), (0.05, Phase::Successful)] {
            let mut mistaken = 0;
            for run in 0..runs {
                let mut rng = Key::new(7).named("sprt").with(run).rng();
                let mut judge = judge("");
                let (mut requests, mut bad) = (0, 0);
                let verdict = loop {
                    requests += 1;
                    bad += u64::from(rng.unit() < share);
                    match see(&mut judge, requests, bad) {
                        Phase::Running => {}
                        verdict => break verdict,
                    }
                };
                mistaken += u32::from(verdict == wrong);
            }
            let (low, high) = of_probability(mistaken, runs as u32, 0.999);
            assert!(low <= 0.05 / 0.95, "{mistaken} of {runs} wrong at a share of {share}");
            assert!(high > 0.01, "a test that never errs did not run");
        }
    }

    #[test]
    fn refused() {
        let read = toml::from_str::<SprtSettings>;
        for wrong in
            ["good = 0.1", "good = 0.1\nbad = 0.1", "good = 0\nbad = 0.1", "good = 0.1\nbad = 0.2\nalpha = 1"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
