//! Confidence interval of the shift between two samples, by inverting the normal approximation of the rank sum
//! (`MannWhitney.scala`, after R's `wilcox.test`).

use crate::stats::interval::normal_quantile;

/// How far one sample lies above the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shift {
    /// Lower end of the confidence interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// The shift itself (Hodges-Lehmann).
    pub estimate: f64,
}

/// The shift of `experiment` above `control`; `None` if all values are tied at some shift, so that there is no interval.
pub fn mann_whitney(experiment: &[f64], control: &[f64], confidence: f64) -> Option<Shift> {
    let extremes = |values: &[f64]| {
        values
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)))
    };
    let ((x_min, x_max), (y_min, y_max)) = (extremes(experiment), extremes(control));
    let (mu_min, mu_max) = (x_min - y_max, x_max - y_min);
    let mut pooled = Vec::with_capacity(experiment.len() + control.len());
    let mut diff = |mu: f64| wilcoxon_diff(experiment, control, mu, &mut pooled);
    let (lower, upper) = (diff(mu_min)?, diff(mu_max)?);
    let z = -normal_quantile((1.0 - confidence) / 2.0);
    let mut find_root = |quantile: f64| {
        if lower - quantile <= 0.0 {
            Some(mu_min)
        } else if upper - quantile >= 0.0 {
            Some(mu_max)
        } else {
            brent(mu_min, mu_max, lower - quantile, upper - quantile, |mu| Some(diff(mu)? - quantile))
        }
    };
    let (low, high) = (find_root(z)?, find_root(-z)?);
    let estimate = brent(mu_min, mu_max, lower, upper, diff)?;
    Some(Shift { low, high, estimate })
}

/// The standardised rank sum of `x - mu` among itself and `y`, with continuity correction; `None` if all are tied.
fn wilcoxon_diff(x: &[f64], y: &[f64], mu: f64, pooled: &mut Vec<(f64, bool)>) -> Option<f64> {
    pooled.clear();
    pooled.extend(x.iter().map(|&value| (value - mu, true)));
    pooled.extend(y.iter().map(|&value| (value, false)));
    pooled.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (n, m) = (x.len() as f64, y.len() as f64);
    let (mut rank_sum, mut ties) = (0.0, 0.0);
    let mut at = 0;
    // Negative zero ties with zero, so runs are found by comparison and not by bits.
    while at < pooled.len() {
        let value = pooled[at].0;
        let end = at + pooled[at..].iter().take_while(|other| other.0 == value).count();
        let count = (end - at) as f64;
        let average = (at + 1 + end) as f64 / 2.0;
        rank_sum += average * pooled[at..end].iter().filter(|other| other.1).count() as f64;
        ties += count * count * count - count;
        at = end;
    }
    let dz = rank_sum - n * (n + 1.0) / 2.0 - n * m / 2.0;
    let correction = if dz == 0.0 { 0.0 } else { 0.5_f64.copysign(dz) };
    let sigma = libm::sqrt(n * m / 12.0 * ((n + m + 1.0) - ties / ((n + m) * (n + m - 1.0))));
    (sigma != 0.0).then(|| (dz - correction) / sigma)
}

/// R's `zeroin` with a tolerance of 1e-4 and 1000 iterations (`KayentaBrentSolver.brentDirect`).
#[expect(clippy::many_single_char_names, reason = "Brent's names")]
fn brent(
    ax: f64,
    bx: f64,
    mut fa: f64,
    mut fb: f64,
    mut func: impl FnMut(f64) -> Option<f64>,
) -> Option<f64> {
    const TOL: f64 = 1e-4;
    if fa == 0.0 {
        return Some(ax);
    }
    if fb == 0.0 {
        return Some(bx);
    }
    let (mut a, mut b) = (ax, bx);
    let (mut c, mut fc) = (a, fa);
    for _ in 0..=1000 {
        let prev_step = b - a;
        if fc.abs() < fb.abs() {
            (a, b, c) = (b, c, b);
            (fa, fb, fc) = (fb, fc, fb);
        }
        let tol_act = 2.0 * f64::EPSILON * b.abs() + TOL / 2.0;
        let mut new_step = (c - b) / 2.0;
        if new_step.abs() <= tol_act || fb == 0.0 {
            return Some(b);
        }
        if prev_step.abs() >= tol_act && fa.abs() > fb.abs() {
            let cb = c - b;
            let (mut p, mut q) = if a == c {
                // Two points: linear.
                let t1 = fb / fa;
                (cb * t1, 1.0 - t1)
            } else {
                // Three: inverse quadratic.
                let (q, t1, t2) = (fa / fc, fb / fc, fb / fa);
                (t2 * (cb * q * (q - t1) - (b - a) * (t1 - 1.0)), (q - 1.0) * (t1 - 1.0) * (t2 - 1.0))
            };
            if p > 0.0 {
                q = -q;
            } else {
                p = -p;
            }
            if p < 0.75 * cb * q - (tol_act * q).abs() / 2.0 && p < (prev_step * q / 2.0).abs() {
                new_step = p / q;
            }
        }
        if new_step.abs() < tol_act {
            new_step = if new_step > 0.0 { tol_act } else { -tol_act };
        }
        (a, fa) = (b, fb);
        b += new_step;
        fb = func(b)?;
        if (fb > 0.0 && fc > 0.0) || (fb < 0.0 && fc < 0.0) {
            (c, fc) = (a, fa);
        }
    }
    Some(b)
}
