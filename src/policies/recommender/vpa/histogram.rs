//! Exponential buckets whose old samples fade (upstream: `pkg/recommender/util/histogram.go`, `histogram_options.go`,
//! `decaying_histogram.go`).
//!
//! Fading is done backwards: a sample weighs `2^(age of the reference / half-life)` more, so nothing has to be touched
//! while time goes by. When the exponent passes 100 the reference moves, and all weights are scaled down by a power of
//! two. Weights below *epsilon* count as empty, which is why the reference is observable: right after the first sample it
//! lies within half a half-life of it, later samples weigh more and more.

use crate::time::{Duration, Time};

/// Weights below this count as empty (`epsilon` of the model's histogram options).
pub const EPSILON: f64 = 1e-4;

/// Each bucket is wider than the one before by this factor (`histogramBucketSizeGrowth` plus 1).
pub const RATIO: f64 = 1.05;

/// The reference moves when a weight would pass 2 to this power (`maxDecayExponent`).
const MAX_DECAY_EXPONENT: i128 = 100;

/// Seconds from year 1, the zero of upstream's clock, to 1970, which is the zero of [`Time`] in recorded cases.
const YEAR_ONE_TO_1970_S: i128 = 62_135_596_800;

/// Where the buckets lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Width of the first bucket.
    pub first_bucket_size: f64,
    /// Everything from here on falls into the last bucket.
    pub max_value: f64,
}

impl Options {
    /// In cores (`CPUHistogramOptions`).
    pub const CPU: Self = Self { first_bucket_size: 0.01, max_value: 1000.0 };
    /// In bytes (`MemoryHistogramOptions`).
    pub const MEMORY: Self = Self { first_bucket_size: 1e7, max_value: 1e12 };

    /// How many buckets there are.
    pub fn buckets(&self) -> usize {
        self.exponent(self.max_value).ceil() as usize + 1
    }

    /// Sum of the widths of all buckets below `value`, as an exponent of the ratio.
    fn exponent(&self, value: f64) -> f64 {
        libm::log(value * (RATIO - 1.0) / self.first_bucket_size + 1.0) / libm::log(RATIO)
    }

    /// The bucket of a value.
    fn find_bucket(&self, value: f64) -> usize {
        if value < self.first_bucket_size {
            return 0;
        }
        (self.exponent(value) as usize).min(self.buckets() - 1)
    }

    /// Where a bucket starts.
    fn bucket_start(&self, bucket: usize) -> f64 {
        if bucket == 0 {
            return 0.0;
        }
        self.first_bucket_size * (libm::pow(RATIO, bucket as f64) - 1.0) / (RATIO - 1.0)
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct DecayingHistogram {
    options: Options,
    half_life: Duration,
    bucket_weight: Box<[f64]>,
    total_weight: f64,
    /// The first bucket that is not empty; the last one if all are.
    min_bucket: usize,
    /// The last bucket that is not empty; 0 if all are.
    max_bucket: usize,
    /// Samples of this instant have their plain weight, in nanoseconds. There is none before the first sample, where
    /// upstream has one in year 1, from which the first sample moves it away.
    reference: Option<i128>,
}

impl DecayingHistogram {
    /// An empty histogram; `half_life` must not be zero.
    pub fn new(options: Options, half_life: Duration) -> Self {
        let buckets = options.buckets();
        Self {
            options,
            half_life,
            bucket_weight: vec![0.0; buckets].into_boxed_slice(),
            total_weight: 0.0,
            min_bucket: buckets - 1,
            max_bucket: 0,
            reference: None,
        }
    }

    /// Adds a sample of `weight` (not negative) at an instant.
    pub fn add_sample(&mut self, value: f64, weight: f64, at: Time) {
        let weight = weight * self.decay_factor(at);
        let bucket = self.options.find_bucket(value);
        self.bucket_weight[bucket] += weight;
        self.total_weight += weight;
        if self.bucket_weight[bucket] >= EPSILON {
            self.min_bucket = self.min_bucket.min(bucket);
            self.max_bucket = self.max_bucket.max(bucket);
        }
    }

    /// Takes back a sample that was added with the same value, weight and instant.
    pub fn subtract_sample(&mut self, value: f64, weight: f64, at: Time) {
        let mut weight = weight * self.decay_factor(at);
        let bucket = self.options.find_bucket(value);
        if weight > self.bucket_weight[bucket] - EPSILON {
            weight = self.bucket_weight[bucket];
        }
        self.total_weight -= weight;
        self.bucket_weight[bucket] -= weight;
        self.narrow();
    }

    /// The end of the bucket in which the percentile (0 to 1) lies, or the start of the last bucket, which has no end;
    /// 0 if there are no samples.
    pub fn percentile(&self, percentile: f64) -> f64 {
        if self.is_empty() {
            return 0.0;
        }
        let threshold = percentile * self.total_weight;
        let mut partial_sum = 0.0;
        let mut bucket = self.min_bucket;
        while bucket < self.max_bucket {
            partial_sum += self.bucket_weight[bucket];
            if partial_sum >= threshold {
                break;
            }
            bucket += 1;
        }
        self.options.bucket_start((bucket + 1).min(self.bucket_weight.len() - 1))
    }

    /// Whether no bucket has any weight to speak of.
    pub fn is_empty(&self) -> bool {
        self.bucket_weight[self.min_bucket] < EPSILON
    }

    fn decay_factor(&mut self, at: Time) -> f64 {
        let (at, half_life) = (i128::from(at.0), i128::from(self.half_life.0));
        let reference = match self.reference {
            Some(reference) if at <= reference + half_life * MAX_DECAY_EXPONENT => reference,
            _ => self.shift_reference(at),
        };
        libm::exp2((at - reference) as f64 / half_life as f64)
    }

    /// Moves the reference to the multiple of the half-life (since year 1) nearest to `to`, and says where it is.
    fn shift_reference(&mut self, to: i128) -> i128 {
        let half_life = i128::from(self.half_life.0);
        let past = (to + YEAR_ONE_TO_1970_S * 1_000_000_000) % half_life;
        let nearest = if past * 2 < half_life { to - past } else { to - past + half_life };
        if let Some(reference) = self.reference {
            let exponent = ((reference - nearest) as f64 / half_life as f64 + 0.5).floor();
            self.scale(libm::ldexp(1.0, exponent as i32));
        }
        self.reference = Some(nearest);
        nearest
    }

    fn scale(&mut self, factor: f64) {
        for weight in self.bucket_weight.iter_mut().take(self.max_bucket + 1).skip(self.min_bucket) {
            *weight *= factor;
        }
        self.total_weight *= factor;
        self.narrow();
    }

    /// Leaves out at both ends what has become empty.
    fn narrow(&mut self) {
        while self.bucket_weight[self.min_bucket] < EPSILON && self.min_bucket + 1 < self.bucket_weight.len()
        {
            self.min_bucket += 1;
        }
        while self.bucket_weight[self.max_bucket] < EPSILON && self.max_bucket > 0 {
            self.max_bucket -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn buckets_grow_by_a_twentieth() {
        let cpu = Options::CPU;
        assert_eq!(cpu.bucket_start(0), 0.0);
        assert!((cpu.bucket_start(1) - 0.01).abs() < 1e-12);
        assert!((cpu.bucket_start(2) - 0.0205).abs() < 1e-12);
        assert_eq!((cpu.find_bucket(0.0), cpu.find_bucket(0.0099), cpu.find_bucket(0.0101)), (0, 0, 1));
        assert_eq!(cpu.find_bucket(1e9), cpu.buckets() - 1);
        assert!(cpu.bucket_start(cpu.buckets() - 1) >= 1000.0);
    }

    #[test]
    fn half_the_weight_after_a_half_life() {
        let mut histogram = DecayingHistogram::new(Options::CPU, DAY);
        assert!(histogram.is_empty());
        assert_eq!(histogram.percentile(0.9), 0.0);
        histogram.add_sample(1.0, 1.0, Time::ZERO);
        histogram.add_sample(2.0, 1.0, Time::ZERO + DAY);
        // The old one has a third of the weight.
        let old = histogram.percentile(0.33);
        let young = histogram.percentile(0.34);
        assert!(old > 1.0 && old < 1.06 && young > 2.0 && young < 2.11, "{old} {young}");
    }

    #[test]
    fn taking_back_what_was_added_leaves_nothing() {
        let mut histogram = DecayingHistogram::new(Options::MEMORY, DAY);
        let late = Time::ZERO + DAY * 5;
        histogram.add_sample(3e8, 1.0, late);
        histogram.add_sample(9e8, 1.0, late);
        histogram.subtract_sample(9e8, 1.0, late);
        assert!(histogram.percentile(1.0) < 3.3e8);
        histogram.subtract_sample(3e8, 1.0, late);
        assert!(histogram.is_empty());
    }

    #[test]
    fn very_old_samples_are_forgotten_when_the_reference_moves() {
        let mut histogram = DecayingHistogram::new(Options::CPU, DAY);
        histogram.add_sample(7.0, 1.0, Time::ZERO);
        histogram.add_sample(1.0, 1.0, Time::ZERO + DAY * 101);
        assert!(histogram.percentile(1.0) < 1.06, "{}", histogram.percentile(1.0));
    }
}
