//! Building blocks of the laws: exponential, normal, gamma and Zipf variates that give the same bits everywhere.
//!
//! Nothing here calls the platform's math library: tables are computed by the compiler from sums and products of `f64`
//! (IEEE 754 leaves no freedom there), and what is left of `exp` and `log` at run time is the `libm` crate, by name.
//! `rand_distr` would be shorter, but it silently changes from `libm` to the platform's functions as soon as anything in
//! the build turns on `num-traits/std`, and then tests and release binaries draw different numbers. It serves as the
//! oracle in the tests below instead.
//!
//! **The ziggurat** (Marsaglia and Tsang 2000, doi 10.18637/jss.v005.i08). The area under a falling density f is covered
//! by 256 layers of equal area v: 255 rectangles, and a base strip that includes the tail beyond r. With `x[1] = r`, each
//! next edge follows from `f(x[i + 1]) = f(x[i]) + v / x[i]`; `x[0] = v / f(r)` is the width of a rectangle as large as the
//! base strip. Eight random bits choose a layer and 53 others a point across it; 98.9 % of the time it lies within the next
//! edge and is accepted after one multiplication and one comparison.

use rand::Rng;

/// Exponential with mean 1.
#[inline]
pub fn exp1(rng: &mut impl Rng) -> f64 {
    let bits = rng.next_u64();
    let layer = (bits & 0xff) as usize;
    let x = super::unit(bits) * EXP1.edge[layer];
    if x < EXP1.edge[layer + 1] { x } else { exp1_slowly(rng, layer, x) }
}

/// The wedges and the tail, once in about 90 draws.
#[cold]
#[inline(never)]
fn exp1_slowly(rng: &mut impl Rng, mut layer: usize, mut x: f64) -> f64 {
    // The exponential has no memory: its tail beyond r is r and another exponential.
    let mut base = 0.0;
    loop {
        if layer == 0 {
            base += EXP1_R;
        } else {
            let (low, high) = (EXP1.height[layer], EXP1.height[layer + 1]);
            if low + super::unit(rng.next_u64()) * (high - low) < libm::exp(-x) {
                return base + x;
            }
        }
        let bits = rng.next_u64();
        layer = (bits & 0xff) as usize;
        x = super::unit(bits) * EXP1.edge[layer];
        if x < EXP1.edge[layer + 1] {
            return base + x;
        }
    }
}

/// Normal with mean 0 and standard deviation 1.
#[inline]
pub fn normal(rng: &mut impl Rng) -> f64 {
    let bits = rng.next_u64();
    let layer = (bits & 0xff) as usize;
    let x = super::unit(bits) * NORMAL.edge[layer];
    let x = if x < NORMAL.edge[layer + 1] { x } else { half_normal_slowly(rng, layer, x) };
    // Bit 8 is used neither for the layer nor for the point across it: it is the sign.
    f64::from_bits(x.to_bits() | (bits & 0x100) << 55)
}

#[cold]
#[inline(never)]
fn half_normal_slowly(rng: &mut impl Rng, mut layer: usize, mut x: f64) -> f64 {
    loop {
        if layer == 0 {
            // Marsaglia's tail: beyond r the normal is close below an exponential of rate r.
            loop {
                let beyond = exp1(rng) / NORMAL_R;
                if 2.0 * exp1(rng) >= beyond * beyond {
                    return NORMAL_R + beyond;
                }
            }
        }
        let (low, high) = (NORMAL.height[layer], NORMAL.height[layer + 1]);
        if low + super::unit(rng.next_u64()) * (high - low) < libm::exp(-0.5 * x * x) {
            return x;
        }
        let bits = rng.next_u64();
        layer = (bits & 0xff) as usize;
        x = super::unit(bits) * NORMAL.edge[layer];
        if x < NORMAL.edge[layer + 1] {
            return x;
        }
    }
}

/// Gamma variates of one shape and scale 1 (Marsaglia and Tsang 2000, doi 10.1145/358407.358414).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gamma {
    shape: f64,
    d: f64,
    c: f64,
}

impl Gamma {
    /// With this shape, which must be positive and finite.
    pub fn new(shape: f64) -> Self {
        assert!(shape > 0.0 && shape.is_finite(), "a gamma law has a positive shape, not {shape}");
        // Shapes below 1 are drawn from shape + 1 and pulled down afterwards.
        let d = if shape < 1.0 { shape + 1.0 } else { shape } - 1.0 / 3.0;
        Self { shape, d, c: 1.0 / libm::sqrt(9.0 * d) }
    }

    /// The shape, which is also the mean.
    pub fn shape(&self) -> f64 {
        self.shape
    }

    /// One variate.
    #[inline]
    pub fn sample(&self, rng: &mut impl Rng) -> f64 {
        let value = loop {
            let x = normal(rng);
            let t = 1.0 + self.c * x;
            if t <= 0.0 {
                continue;
            }
            let v = t * t * t;
            let u = 1.0 - super::unit(rng.next_u64());
            // The squeeze spares the logarithms 98 % of the time.
            if u < 1.0 - 0.0331 * x * x * x * x
                || libm::log(u) < 0.5 * x * x + self.d * (1.0 - v + libm::log(v))
            {
                break self.d * v;
            }
        };
        if self.shape < 1.0 { value * libm::exp(-exp1(rng) / self.shape) } else { value }
    }
}

/// Zipf's law over the ranks 0..n: rank k has weight (k + 1)^-exponent. Drawn by rejection-inversion (Hörmann and
/// Derflinger 1996, doi 10.1145/235025.235029), at most about 1.2 tries for any n and exponent, and without a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Zipf {
    exponent: f64,
    /// H(1.5) - 1 and H(n + 0.5): the range of the inverted integral.
    first: f64,
    last: f64,
    /// Points this close below the rank they round to need no second look.
    sure: f64,
    n: u64,
}

impl Zipf {
    /// Over `n` ranks (at least 1) with an exponent of at least 0; 0 is uniform.
    pub fn new(n: u64, exponent: f64) -> Self {
        assert!(n >= 1, "Zipf's law needs at least one rank");
        assert!(
            exponent >= 0.0 && exponent.is_finite(),
            "Zipf's law has an exponent of at least 0, not {exponent}"
        );
        let mut law = Self { exponent, first: 0.0, last: 0.0, sure: 0.0, n };
        law.first = law.integral(1.5) - 1.0;
        law.last = law.integral(n as f64 + 0.5);
        law.sure = 2.0 - law.inverse(law.integral(2.5) - law.weight(2.0));
        law
    }

    /// How many ranks there are.
    #[inline]
    pub const fn ranks(&self) -> u64 {
        self.n
    }

    /// A rank, 0 the most popular.
    #[inline]
    pub fn sample(&self, rng: &mut impl Rng) -> u64 {
        if self.exponent == 0.0 {
            return below(rng.next_u64(), self.n);
        }
        loop {
            let u = self.last + super::unit(rng.next_u64()) * (self.first - self.last);
            let x = self.inverse(u);
            // Truncation of x + 1/2 rounds; the bounds catch the last bit of the inverse.
            let rank = ((x + 0.5) as u64).clamp(1, self.n);
            let at = rank as f64;
            if at - x <= self.sure || u >= self.integral(at + 0.5) - self.weight(at) {
                return rank - 1;
            }
        }
    }

    /// x^-s.
    fn weight(&self, x: f64) -> f64 {
        libm::exp(-self.exponent * libm::log(x))
    }

    /// The integral of x^-s from 1: (x^(1-s) - 1) / (1-s), which is log x where s = 1.
    fn integral(&self, x: f64) -> f64 {
        let log = libm::log(x);
        log * expm1_over((1.0 - self.exponent) * log)
    }

    fn inverse(&self, y: f64) -> f64 {
        // Rounding may push the argument of the logarithm just below -1 for a large s.
        let t = (y * (1.0 - self.exponent)).max(-1.0);
        libm::exp(y * log1p_over(t))
    }
}

/// (e^x - 1) / x, steady around 0.
fn expm1_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { libm::expm1(x) / x } else { 1.0 + x / 2.0 * (1.0 + x / 3.0) }
}

/// log(1 + x) / x, steady around 0.
fn log1p_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { libm::log1p(x) / x } else { 1.0 - x * (0.5 - x / 3.0) }
}

/// `bits` scaled to `0..n` by multiply-high; the bias is below n / 2^64.
#[inline]
fn below(bits: u64, n: u64) -> u64 {
    ((u128::from(bits) * u128::from(n)) >> 64) as u64
}

/// Where the tail of the exponential begins; the value that makes the top layer close at height 1.
const EXP1_R: f64 = 7.697_117_470_131_05;
/// Area of one of its layers.
const EXP1_V: f64 = 0.003_949_659_822_581_557;
/// The same for the normal density without its factor 1 / sqrt(2 pi).
const NORMAL_R: f64 = 3.654_152_885_361_009;
const NORMAL_V: f64 = 0.004_928_673_233_974_655;

/// Edges of the layers from the widest to 0, and the density there.
struct Ziggurat {
    edge: [f64; 257],
    height: [f64; 257],
}

static EXP1: Ziggurat = exponential_layers();
static NORMAL: Ziggurat = normal_layers();

const fn exponential_layers() -> Ziggurat {
    let mut layers = Ziggurat { edge: [0.0; 257], height: [1.0; 257] };
    layers.edge[1] = EXP1_R;
    layers.height[1] = exact::exp(-EXP1_R);
    layers.edge[0] = EXP1_V / layers.height[1];
    layers.height[0] = 0.0;
    let mut i = 1;
    while i < 255 {
        layers.height[i + 1] = layers.height[i] + EXP1_V / layers.edge[i];
        layers.edge[i + 1] = -exact::ln(layers.height[i + 1]);
        i += 1;
    }
    layers
}

const fn normal_layers() -> Ziggurat {
    let mut layers = Ziggurat { edge: [0.0; 257], height: [1.0; 257] };
    layers.edge[1] = NORMAL_R;
    layers.height[1] = exact::exp(-0.5 * NORMAL_R * NORMAL_R);
    layers.edge[0] = NORMAL_V / layers.height[1];
    layers.height[0] = 0.0;
    let mut i = 1;
    while i < 255 {
        layers.height[i + 1] = layers.height[i] + NORMAL_V / layers.edge[i];
        layers.edge[i + 1] = exact::sqrt(-2.0 * exact::ln(layers.height[i + 1]));
        i += 1;
    }
    layers
}

/// `exp`, `ln` and `sqrt` by series and Newton steps, for the compiler to evaluate; good to about two units in the last
/// place, and the same on every machine.
mod exact {
    const LN_2: f64 = std::f64::consts::LN_2;

    /// For x in -30..=0.
    pub(super) const fn exp(x: f64) -> f64 {
        // e^x = (e^(x / 32))^32 with Taylor terms until they no longer matter (|x / 32| < 1).
        let (y, mut term, mut sum, mut n) = (x / 32.0, 1.0, 1.0, 1.0);
        while n < 24.0 {
            term *= y / n;
            sum += term;
            n += 1.0;
        }
        let mut doubling = 0;
        while doubling < 5 {
            sum *= sum;
            doubling += 1;
        }
        sum
    }

    /// For x in 0..=1, 0 excluded.
    pub(super) const fn ln(mut x: f64) -> f64 {
        let mut powers = 0.0;
        while x < 0.75 {
            x *= 2.0;
            powers += 1.0;
        }
        // ln x = 2 artanh((x - 1) / (x + 1)), and the argument is at most 1/5 in size.
        let t = (x - 1.0) / (x + 1.0);
        let (square, mut power, mut sum, mut n) = (t * t, t, 0.0, 1.0);
        while n < 30.0 {
            sum += power / n;
            power *= square;
            n += 2.0;
        }
        2.0 * sum - powers * LN_2
    }

    /// For x in 0..=20.
    pub(super) const fn sqrt(x: f64) -> f64 {
        let (mut root, mut step) = (x / 2.0 + 0.5, 0);
        while step < 12 {
            root = 0.5 * (root + x / root);
            step += 1;
        }
        root
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rand_distr::Distribution;
    use statrs::distribution::ContinuousCDF;

    use super::*;
    use crate::random::{Key, Rng as KeyedRng};

    const DRAWS: usize = 400_000;

    /// Largest gap between two distribution functions that chance alone leaves 1 time in 10^6, for samples of this size against an
    /// exact law (Kolmogorov: 2 exp(-2 n d^2) = 10^-6).
    fn allowance(n: usize) -> f64 {
        (-(1e-6_f64 / 2.0).ln() / 2.0 / n as f64).sqrt()
    }

    pub(crate) fn sorted(seed: u64, mut draw: impl FnMut(&mut KeyedRng) -> f64) -> Vec<f64> {
        let mut rng = Key::new(seed).rng();
        let mut sample: Vec<f64> = (0..DRAWS).map(|_| draw(&mut rng)).collect();
        sample.sort_by(f64::total_cmp);
        sample
    }

    /// Kolmogorov-Smirnov at level 10^-6 against an exact distribution function.
    pub(crate) fn follows(name: &str, sample: &[f64], cdf: impl Fn(f64) -> f64) {
        let n = sample.len() as f64;
        let gap = sample.iter().enumerate().map(|(index, &x)| {
            let p = cdf(x);
            (p - index as f64 / n).abs().max(((index + 1) as f64 / n - p).abs())
        });
        let gap = gap.fold(0.0, f64::max);
        assert!(gap < allowance(sample.len()), "{name}: Kolmogorov-Smirnov distance {gap}");
    }

    /// The same between two samples.
    pub(crate) fn agree(name: &str, ours: &[f64], theirs: &[f64]) {
        let (mut i, mut j, mut gap) = (0, 0, 0.0_f64);
        while i < ours.len() && j < theirs.len() {
            if ours[i] <= theirs[j] {
                i += 1;
            } else {
                j += 1;
            }
            gap = gap.max((i as f64 / ours.len() as f64 - j as f64 / theirs.len() as f64).abs());
        }
        assert!(gap < allowance(ours.len() / 2), "{name}: distance {gap} from rand_distr");
    }

    #[test]
    fn layers_have_equal_area_and_close_at_the_top() {
        for (layers, r, v, density) in [
            (&EXP1, EXP1_R, EXP1_V, (|x| libm::exp(-x)) as fn(f64) -> f64),
            (&NORMAL, NORMAL_R, NORMAL_V, |x| libm::exp(-0.5 * x * x)),
        ] {
            assert_eq!((layers.edge[1], layers.edge[256], layers.height[256]), (r, 0.0, 1.0));
            for i in 1..256 {
                let area = layers.edge[i] * (layers.height[i + 1] - layers.height[i]);
                assert!((area / v - 1.0).abs() < 2e-12, "layer {i} has area {area}");
                assert!(
                    (layers.height[i] / density(layers.edge[i]) - 1.0).abs() < 1e-14,
                    "height of layer {i}"
                );
            }
        }
        // The base strip: its rectangle and the tail beyond.
        let tail = EXP1_R * EXP1.height[1] + libm::exp(-EXP1_R);
        assert!((tail / EXP1_V - 1.0).abs() < 1e-13);
        let tail = NORMAL_R * NORMAL.height[1]
            + libm::sqrt(std::f64::consts::PI / 2.0) * libm::erfc(NORMAL_R / std::f64::consts::SQRT_2);
        assert!((tail / NORMAL_V - 1.0).abs() < 1e-13);
    }

    #[test]
    fn exponential_and_normal() {
        let exponential = sorted(1, exp1);
        follows("exp1", &exponential, |x| -libm::expm1(-x));
        agree("exp1", &exponential, &sorted(2, |rng| rand_distr::Exp1.sample(rng)));
        let bell = sorted(3, normal);
        let exact = statrs::distribution::Normal::standard();
        follows("normal", &bell, |x| exact.cdf(x));
        agree("normal", &bell, &sorted(4, |rng| rand_distr::StandardNormal.sample(rng)));
    }

    #[test]
    fn tails_are_as_heavy_as_they_should_be() {
        // Shares beyond a point inside and one beyond the last edge, within 5 standard deviations of the binomial.
        let mut rng = Key::new(5).rng();
        let n = 4_000_000;
        let (mut exponential, mut bell) = ([0_u32; 2], [0_u32; 2]);
        for _ in 0..n {
            let (x, z) = (exp1(&mut rng), normal(&mut rng));
            for (count, from) in exponential.iter_mut().zip([5.0, 9.0]) {
                *count += u32::from(x > from);
            }
            for (count, from) in bell.iter_mut().zip([3.0, 3.9]) {
                *count += u32::from(z.abs() > from);
            }
        }
        let close = |count: u32, p: f64| {
            let expected = f64::from(n) * p;
            assert!(
                (f64::from(count) - expected).abs() < 5.0 * expected.sqrt(),
                "{count} where {expected} were due"
            );
        };
        for (count, from) in exponential.into_iter().zip([5.0, 9.0]) {
            close(count, libm::exp(-from));
        }
        for (count, from) in bell.into_iter().zip([3.0, 3.9]) {
            close(count, libm::erfc(from / std::f64::consts::SQRT_2));
        }
    }

    #[test]
    fn gamma_of_all_shapes() {
        for (seed, shape) in [(10, 0.05), (11, 0.25), (12, 0.9), (13, 1.0), (14, 2.5), (15, 40.0)] {
            let gamma = Gamma::new(shape);
            let sample = sorted(seed, |rng| gamma.sample(rng));
            let exact = statrs::distribution::Gamma::new(shape, 1.0).unwrap();
            follows("gamma", &sample, |x| exact.cdf(x));
            let oracle = rand_distr::Gamma::new(shape, 1.0).unwrap();
            agree("gamma", &sample, &sorted(100 + seed, |rng| oracle.sample(rng)));
        }
    }

    #[test]
    fn zipf_ranks() {
        for (seed, n, s) in
            [(20, 1, 1.0), (21, 10, 0.0), (22, 10, 0.5), (23, 1000, 1.0), (24, 100, 1.7), (25, 50, 6.0)]
        {
            let zipf = Zipf::new(n, s);
            let mut rng = Key::new(seed).rng();
            let mut counts = vec![0_u32; n as usize];
            for _ in 0..DRAWS {
                counts[zipf.sample(&mut rng) as usize] += 1;
            }
            let weights: Vec<f64> = (1..=n).map(|rank| (rank as f64).powf(-s)).collect();
            let sum: f64 = weights.iter().sum();
            for (rank, (count, weight)) in counts.iter().zip(&weights).enumerate() {
                let expected = DRAWS as f64 * weight / sum;
                let off = (f64::from(*count) - expected).abs();
                // 5.5 standard deviations, and a few more counts where the binomial is far from normal.
                assert!(
                    off < 5.5 * expected.sqrt() + 4.0,
                    "rank {rank} of {n}, s = {s}: {count} for {expected}"
                );
            }
        }
    }

    #[test]
    fn zipf_of_a_huge_catalogue() {
        let zipf = Zipf::new(1 << 40, 1.0);
        let mut rng = Key::new(30).rng();
        let top = (0..DRAWS).filter(|_| zipf.sample(&mut rng) == 0).count() as f64 / DRAWS as f64;
        // 1 / H(2^40), the harmonic number.
        let share = 1.0 / (40.0 * std::f64::consts::LN_2 + 0.577_215_664_901_532_9);
        assert!((top - share).abs() < 5.0 * (share / DRAWS as f64).sqrt(), "{top} for {share}");
    }

    #[test]
    fn golden_bits() {
        // A change here changes every result of every user.
        let fold = |mut draw: Box<dyn FnMut(&mut KeyedRng) -> f64>| {
            let mut rng = Key::new(1).rng();
            (0..100_000).fold(0, |fold, _| super::super::mix(fold ^ draw(&mut rng).to_bits()))
        };
        let (gamma, zipf) = (Gamma::new(0.5), Zipf::new(1000, 0.9));
        let bits = [
            fold(Box::new(exp1)),
            fold(Box::new(normal)),
            fold(Box::new(move |rng| gamma.sample(rng))),
            fold(Box::new(move |rng| zipf.sample(rng) as f64)),
        ];
        assert_eq!(
            bits.map(|bits| format!("{bits:016x}")),
            ["c4adada02e17d336", "0341415f0a836835", "571ded1d93347540", "ff1efcdae9cb9598"]
        );
    }
}
