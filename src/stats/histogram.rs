//! Log-linear histogram of integers: latencies in nanoseconds, mostly.
//!
//! Every octave is cut into 2^`BITS` bins of equal width, so a bin is never wider than 2^-`BITS` of the values in it: 0.8 %
//! for 7 bits, 3.1 % for 5. Values below 2^(`BITS` + 1) have bins of their own. Quantiles are interpolated linearly inside a bin, which for a smooth
//! density is far better than the width. All 64-bit values fit; memory grows with the largest value seen.
//!
//! Recording is a shift, an addition and an increment. The structure follows `HdrHistogram` (Tene); the index is the
//! piecewise linear approximation of a logarithm that floating-point formats use too.

/// What a bin counts with: `u64` for totals, `u32` for the many small histograms of time windows.
pub trait Counter: Copy + Default + sealed::Sealed {
    /// One more.
    fn increment(&mut self);
    /// So many more.
    fn add(&mut self, count: u64);
    /// As `u64`.
    fn get(self) -> u64;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
}

impl Counter for u32 {
    #[inline]
    fn increment(&mut self) {
        *self += 1;
    }

    fn add(&mut self, count: u64) {
        *self += Self::try_from(count).expect("a window holds fewer than 2^32 samples");
    }

    #[inline]
    fn get(self) -> u64 {
        u64::from(self)
    }
}

impl Counter for u64 {
    #[inline]
    fn increment(&mut self) {
        *self += 1;
    }

    fn add(&mut self, count: u64) {
        *self += count;
    }

    #[inline]
    fn get(self) -> u64 {
        self
    }
}

/// For a whole run: bins no wider than 0.8 %.
pub type Totals = Histogram<u64, 7>;

/// For one of many windows: bins no wider than 3.1 %, a few kilobytes at most.
pub type Window = Histogram<u32, 5>;

/// Log-linear histogram with 2^`BITS` bins per octave.
#[derive(Clone, Debug, Default)]
pub struct Histogram<C, const BITS: u32> {
    /// Grows to whole octaves; bins beyond the end are empty.
    bins: Vec<C>,
}

/// Two histograms are equal if they hold the same counts, however much memory they have.
impl<C: Counter, const BITS: u32> PartialEq for Histogram<C, BITS> {
    fn eq(&self, other: &Self) -> bool {
        let trimmed = |bins: &[C]| bins.len() - bins.iter().rev().take_while(|bin| bin.get() == 0).count();
        let (ours, theirs) = (trimmed(&self.bins), trimmed(&other.bins));
        ours == theirs && self.bins.iter().zip(&other.bins).all(|(a, b)| a.get() == b.get())
    }
}

impl<C: Counter, const BITS: u32> Histogram<C, BITS> {
    /// Empty, and without memory of its own until something is recorded.
    pub const fn new() -> Self {
        Self { bins: Vec::new() }
    }

    /// Counts one value.
    #[inline]
    pub fn record(&mut self, value: u64) {
        let index = Self::index(value);
        match self.bins.get_mut(index) {
            Some(bin) => bin.increment(),
            None => self.record_beyond(index, 1),
        }
    }

    /// Counts a value `count` times.
    pub fn record_many(&mut self, value: u64, count: u64) {
        self.record_beyond(Self::index(value), count);
    }

    #[cold]
    #[inline(never)]
    fn record_beyond(&mut self, index: usize, count: u64) {
        if index >= self.bins.len() {
            // Whole octaves, so that growing is rare.
            let octave = 1 << BITS;
            self.bins.resize((index / octave + 1) * octave, C::default());
        }
        self.bins[index].add(count);
    }

    /// Values counted.
    pub fn count(&self) -> u64 {
        self.bins.iter().map(|bin| bin.get()).sum()
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.bins.iter().all(|bin| bin.get() == 0)
    }

    /// Forgets the counts and keeps the memory.
    pub fn clear(&mut self) {
        self.bins.fill(C::default());
    }

    /// Adds all counts of `other`; the result does not depend on the order of merges.
    pub fn merge<D: Counter>(&mut self, other: &Histogram<D, BITS>) {
        if self.bins.len() < other.bins.len() {
            self.bins.resize(other.bins.len(), C::default());
        }
        for (bin, other) in self.bins.iter_mut().zip(&other.bins) {
            if other.get() > 0 {
                bin.add(other.get());
            }
        }
    }

    /// The `q`-quantile (0..=1) of what was counted, or `None` if nothing was.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        self.quantile_among(q, self.count())
    }

    /// The `q`-quantile where `total - count()` further values are larger than any number: infinite if it falls among
    /// them, `None` if `total` is 0.
    pub fn quantile_among(&self, q: f64, total: u64) -> Option<f64> {
        if total == 0 {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * total as f64;
        let mut below = 0.0;
        let mut last = None;
        for (index, bin) in self.bins.iter().enumerate().filter(|(_, bin)| bin.get() > 0) {
            let count = bin.get() as f64;
            if below + count >= rank {
                return Some(Self::inside(index, ((rank - below) / count).max(0.0)));
            }
            below += count;
            last = Some(index);
        }
        match last {
            // Only rounding of the rank can get here with everything counted.
            Some(index) if below >= total as f64 => Some(Self::inside(index, 1.0)),
            _ => Some(f64::INFINITY),
        }
    }

    /// How many values lie above the `q`-quantile: what its estimate stands on.
    pub fn exceedances(&self, q: f64) -> u64 {
        exceedances(q, self.count())
    }

    /// Share of the counted values above `value`, interpolated; `None` if nothing was counted.
    pub fn share_above(&self, value: f64) -> Option<f64> {
        let (mut above, mut total) = (0.0, 0.0);
        for (low, width, count) in self.bins() {
            let part = if width == 1.0 {
                f64::from(u8::from(low > value))
            } else {
                ((low + width - value) / width).clamp(0.0, 1.0)
            };
            above += part * count as f64;
            total += count as f64;
        }
        (total > 0.0).then(|| above / total)
    }

    /// Lower end, width and count of every bin that is not empty, in ascending order.
    pub fn bins(&self) -> impl Iterator<Item = (f64, f64, u64)> {
        let full = self.bins.iter().enumerate().filter(|(_, bin)| bin.get() > 0);
        full.map(|(index, bin)| {
            let (low, width) = Self::bounds(index);
            (low as f64, width as f64, bin.get())
        })
    }

    /// Where a value is counted: the number of its octave, then its leading bits.
    #[inline]
    const fn index(value: u64) -> usize {
        // Below 2^BITS there is nothing to shift away.
        let shift = (u64::BITS - 1 - BITS) - (value | 1 << BITS).leading_zeros();
        ((shift as usize) << BITS) + (value >> shift) as usize
    }

    /// First value and number of values of a bin.
    const fn bounds(index: usize) -> (u64, u64) {
        let shift = ((index >> BITS) as u32).saturating_sub(1);
        let leading = index as u64 - ((shift as u64) << BITS);
        (leading << shift, 1 << shift)
    }

    /// The value at this fraction of a bin; a bin of one value is that value.
    fn inside(index: usize, fraction: f64) -> f64 {
        let (low, width) = Self::bounds(index);
        if width == 1 { low as f64 } else { low as f64 + fraction * width as f64 }
    }
}

/// How many of `count` values lie above their `q`-quantile.
pub fn exceedances(q: f64, count: u64) -> u64 {
    // Taking off a little keeps 0.9 x 10 from becoming 9.000000000000002, and thus 10.
    let at_most = (q.clamp(0.0, 1.0) * count as f64 * (1.0 - 4.0 * f64::EPSILON)).ceil() as u64;
    count - at_most.min(count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bins_tile_the_integers() {
        let mut next = 0_u64;
        for index in 0..Totals::index(u64::MAX) {
            let (low, width) = Totals::bounds(index);
            assert_eq!(low, next);
            assert_eq!(Totals::index(low), index);
            assert_eq!(Totals::index(low + width - 1), index);
            assert!(width == 1 || width as f64 / low as f64 <= 1.0 / 128.0);
            next = low + width;
        }
        let (low, width) = Totals::bounds(Totals::index(u64::MAX));
        assert_eq!((low, low + (width - 1)), (next, u64::MAX));
    }

    #[test]
    fn small_values_are_exact() {
        let mut histogram = Totals::new();
        assert_eq!(histogram.quantile(0.5), None);
        for value in 1..=100 {
            histogram.record(value);
        }
        assert_eq!(histogram.count(), 100);
        assert_eq!(histogram.quantile(0.0), Some(1.0));
        assert_eq!(histogram.quantile(0.5), Some(50.0));
        assert_eq!(histogram.quantile(0.99), Some(99.0));
        assert_eq!(histogram.quantile(1.0), Some(100.0));
        assert_eq!(histogram.share_above(90.0), Some(0.1));
        assert_eq!(
            (histogram.exceedances(0.9), histogram.exceedances(0.99), histogram.exceedances(1.0)),
            (10, 1, 0)
        );
    }

    #[test]
    fn the_missing_are_infinite() {
        let mut histogram = Window::new();
        histogram.record_many(10, 98);
        assert_eq!(histogram.quantile_among(0.98, 100), Some(10.0));
        assert_eq!(histogram.quantile_among(0.99, 100), Some(f64::INFINITY));
        histogram.clear();
        assert_eq!((histogram.count(), histogram.is_empty(), histogram.quantile(0.5)), (0, true, None));
        assert_eq!(histogram.quantile_among(0.5, 3), Some(f64::INFINITY));
        assert_eq!(histogram, Window::new());
    }

    #[test]
    fn interpolation_beats_the_width_of_a_bin() {
        // The uniform law on 0..2^30: quantiles are known to the nanosecond.
        let mut histogram = Window::new();
        for i in 0..1 << 20 {
            histogram.record(i * 1024 + 512);
        }
        for q in [0.01, 0.1, 0.5, 0.9, 0.99, 0.999] {
            let off = histogram.quantile(q).unwrap() / (q * f64::from(1 << 30)) - 1.0;
            assert!(off.abs() < 2e-4, "{q}: off by {off}");
        }
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_bin_of_the_truth(
            mut values in prop::collection::vec(0_u64..u64::MAX >> 8, 1..200), q in 0.0..=1.0_f64,
        ) {
            let mut histogram = Totals::new();
            for value in &values {
                histogram.record(*value);
            }
            values.sort_unstable();
            let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1] as f64;
            let found = histogram.quantile(q).unwrap();
            // The quantile lies in the bin of the order statistic (the bin above where the rank falls between two).
            prop_assert!((found - exact).abs() <= exact / 128.0 + 1.0, "{} for {}", found, exact);
        }

        #[test]
        fn merging_is_recording(
            left in prop::collection::vec(0_u64..1 << 40, 0..50), right in prop::collection::vec(0_u64..1 << 40, 0..50),
        ) {
            let total = (left.len() + right.len()) as u64;
            let (mut a, mut b, mut all) = (Totals::new(), Histogram::<u32, 7>::new(), Totals::new());
            for value in left {
                a.record(value);
                all.record(value);
            }
            for value in right {
                b.record(value);
                all.record(value);
            }
            a.merge(&b);
            prop_assert_eq!(a.count(), total);
            prop_assert_eq!(a, all);
        }

        #[test]
        fn quantiles_never_fall(values in prop::collection::vec(0_u64..1 << 50, 1..50)) {
            let mut histogram = Window::new();
            for value in &values {
                histogram.record(*value);
            }
            let quantiles: Vec<f64> = (0..=100).map(|q| histogram.quantile(f64::from(q) / 100.0).unwrap()).collect();
            prop_assert!(quantiles.is_sorted());
        }
    }
}
