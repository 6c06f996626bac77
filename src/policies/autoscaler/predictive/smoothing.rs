//! Exponential smoothing with a damped trend and, if wanted, additive seasons: ETS(A, Ad, N) and ETS(A, Ad, A).
//!
//! Hyndman, Koehler, Ord and Snyder, *Forecasting with Exponential Smoothing* (2008), in error-correction form: level `l`,
//! trend `b`, seasons `s` and the error `e` of the forecast one step ahead follow
//!
//! `e = y - (l + phi b + s)`, then `l += phi b + alpha e`, `b = phi b + beta e`, `s += gamma e`.

/// How quickly old points are forgotten.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Of the level, 0..=1.
    pub alpha: f64,
    /// Of the trend, 0..=alpha.
    pub beta: f64,
    /// Of the seasons, 0..=1 - alpha.
    pub gamma: f64,
    /// What is left of the trend after each point, 0..=1.
    pub phi: f64,
}

/// What is expected some points ahead.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Expected value.
    pub mean: f64,
    /// Standard deviation of its error, judged by the errors one step ahead so far; 0 before there was any.
    pub deviation: f64,
}

/// The state of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Smoothing {
    weights: Weights,
    level: f64,
    trend: f64,
    /// By point of the season; the points themselves while the first season lasts. Empty without seasons.
    seasons: Vec<f64>,
    points: u64,
    /// Exponentially weighted sum of the squares of the errors, and of the weights themselves.
    squares: f64,
    weight: f64,
}

/// What is left of an old error's weight after each point (J. P. Morgan, *`RiskMetrics` Technical Document*, 1996).
const MEMORY: f64 = 0.94;

impl Smoothing {
    /// Knows nothing yet; `season` is the number of points in a season, 0 for none.
    pub fn new(weights: Weights, season: usize) -> Self {
        let seasons = vec![0.0; season];
        Self { weights, level: 0.0, trend: 0.0, seasons, points: 0, squares: 0.0, weight: 0.0 }
    }

    /// The next point.
    pub fn observe(&mut self, y: f64) {
        let Weights { alpha, beta, gamma, phi } = self.weights;
        if self.points == 0 {
            self.level = y;
        } else {
            let e = y - (self.level + phi * self.trend + self.season(1));
            self.level += phi * self.trend + alpha * e;
            self.trend = phi * self.trend + beta * e;
            if self.knows_seasons() {
                let at = self.position(1);
                self.seasons[at] += gamma * e;
            }
            self.squares = MEMORY * self.squares + e * e;
            self.weight = MEMORY * self.weight + 1.0;
        }
        if !self.seasons.is_empty() && !self.knows_seasons() {
            self.first_season(y);
        }
        self.points += 1;
    }

    /// The first season is followed by level and trend alone. Its end shows how each point lay to the mean (Hyndman and
    /// Athanasopoulos, *Forecasting: Principles and Practice*, on initial values).
    fn first_season(&mut self, y: f64) {
        self.seasons[self.points as usize] = y;
        if self.points + 1 == self.seasons.len() as u64 {
            let mean = self.seasons.iter().sum::<f64>() / self.seasons.len() as f64;
            self.seasons.iter_mut().for_each(|s| *s -= mean);
            (self.level, self.trend) = (mean, 0.0);
            // The errors so far were those of another model.
            (self.squares, self.weight) = (0.0, 0.0);
        }
    }

    /// `steps` points after the last one, at least 1; `None` before the first point.
    pub fn forecast(&self, steps: u32) -> Option<Forecast> {
        if self.points == 0 {
            return None;
        }
        let Weights { alpha, beta, gamma, phi } = self.weights;
        // Effects of the trend, and of an error now, on each later point.
        let (mut damped, mut power, mut variance) = (0.0, 1.0, 1.0);
        for step in 1..=steps {
            power *= phi;
            damped += power;
            if step < steps {
                let again = self.knows_seasons() && u64::from(step).is_multiple_of(self.seasons.len() as u64);
                let c = alpha + beta * damped + if again { gamma } else { 0.0 };
                variance += c * c;
            }
        }
        let mean = self.level + damped * self.trend + self.season(u64::from(steps));
        let square = if self.weight > 0.0 { self.squares / self.weight } else { 0.0 };
        Some(Forecast { mean, deviation: (square * variance).sqrt() })
    }

    fn knows_seasons(&self) -> bool {
        !self.seasons.is_empty() && self.points >= self.seasons.len() as u64
    }

    /// Where in the season the point `steps` after the last one lies.
    fn position(&self, steps: u64) -> usize {
        ((self.points + steps - 1) % self.seasons.len() as u64) as usize
    }

    /// What the season adds to that point.
    fn season(&self, steps: u64) -> f64 {
        if self.knows_seasons() { self.seasons[self.position(steps)] } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHTS: Weights = Weights { alpha: 0.5, beta: 0.2, gamma: 0.3, phi: 0.9 };

    fn near(found: f64, wanted: f64) {
        assert!((found - wanted).abs() < 1e-9 * wanted.abs().max(1.0), "{found} for {wanted}");
    }

    #[test]
    fn the_first_steps_by_hand() {
        let mut model = Smoothing::new(WEIGHTS, 0);
        assert_eq!(model.forecast(1), None);
        model.observe(10.0);
        assert_eq!(model.forecast(3), Some(Forecast { mean: 10.0, deviation: 0.0 }));
        // e = 4: l = 10 + 0.5 * 4 = 12, b = 0.2 * 4 = 0.8
        model.observe(14.0);
        let one = model.forecast(1).unwrap();
        near(one.mean, 12.0 + 0.9 * 0.8);
        near(one.deviation, 4.0);
        // c_1 = 0.5 + 0.2 * 0.9 = 0.68
        let two = model.forecast(2).unwrap();
        near(two.mean, 12.0 + (0.9 + 0.81) * 0.8);
        near(two.deviation, 4.0 * (1.0f64 + 0.68 * 0.68).sqrt());
        // e = 12.72 - 12.72 = 0: the old square keeps 0.94 of its weight.
        model.observe(12.72);
        near(model.forecast(1).unwrap().deviation, (16.0 * 0.94f64 / 1.94).sqrt());
    }

    #[test]
    fn a_line_is_continued_where_the_trend_is_not_damped() {
        let mut model = Smoothing::new(Weights { phi: 1.0, ..WEIGHTS }, 0);
        (0..400).for_each(|i| model.observe(5.0 + 3.0 * f64::from(i)));
        near(model.forecast(10).unwrap().mean, 5.0 + 3.0 * 409.0);
        assert!(model.forecast(10).unwrap().deviation < 1e-3);
    }

    #[test]
    fn seasons_come_back() {
        let season = [3.0, -1.0, 4.0, -6.0];
        let mut model = Smoothing::new(WEIGHTS, season.len());
        (0..400).for_each(|i| model.observe(100.0 + season[i % 4]));
        for steps in 1..=9 {
            near(model.forecast(steps).unwrap().mean, 100.0 + season[(399 + steps as usize) % 4]);
        }
    }

    /// Errors of independent normal points fall within two deviations as often as they should: 95.4 %, give or take 3 % (five
    /// standard errors of 5000 points, doubled because neighbouring forecasts share points).
    #[test]
    fn deviations_are_honest() {
        use crate::random::{Stream, variate};
        let mut rng = Stream::new(7, "test", "smoothing");
        let points: Vec<f64> = (0..5100).map(|_| 50.0 + 5.0 * variate::normal(&mut rng)).collect();
        let mut model = Smoothing::new(Weights { alpha: 0.1, beta: 0.01, gamma: 0.0, phi: 0.9 }, 0);
        let mut within = 0;
        for (at, &y) in points.iter().enumerate() {
            if at >= 100 {
                let forecast = model.forecast(1).unwrap();
                within += u32::from((y - forecast.mean).abs() <= 2.0 * forecast.deviation);
            }
            model.observe(y);
        }
        let share = f64::from(within) / 5000.0;
        assert!((share - 0.954).abs() < 0.03, "{share}");
    }
}
