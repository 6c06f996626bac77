//! Axes with ticks that people would choose: own steps and labels for time, rates, shares, logarithmic latency and the
//! logarithmic tail of a percentile curve.

use crate::report::quantity;

/// A scale with its ticks.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// Words beside the axis, with the unit.
    pub title: String,
    scale: Scale,
    lo: f64,
    hi: f64,
    ticks: Vec<(f64, String)>,
    minor: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    Log,
    /// -log10(1 - x) of a share 0..1.
    Tail,
}

impl Scale {
    fn apply(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => libm::log10(value.max(f64::MIN_POSITIVE)),
            Self::Tail => -libm::log10((1.0 - value).max(1e-12)),
        }
    }
}

impl Axis {
    /// Model time from 0 to `end_s`.
    pub(super) fn time(end_s: f64) -> Self {
        let end_s = if end_s > 0.0 { end_s } else { 1.0 };
        let step =
            TIME_STEPS.iter().copied().find(|step| end_s / step <= 12.0).unwrap_or_else(|| step(end_s, 10));
        let (title, label): (_, fn(f64) -> String) = if end_s <= 180.0 {
            ("simulated time, s", quantity::short)
        } else if end_s <= 3600.0 {
            ("simulated time, min:s", |t| format!("{}:{:02}", t as u64 / 60, t as u64 % 60))
        } else {
            ("simulated time, h:min", quantity::clock)
        };
        let ticks = multiples(step, 0.0, end_s).map(|t| (t, label(t))).collect();
        Self { title: title.to_owned(), scale: Scale::Linear, lo: 0.0, hi: end_s, ticks, minor: Vec::new() }
    }

    /// From `from` (lowered to a tick) to `to` (raised to a tick), about `count` ticks.
    pub(super) fn linear(
        title: &str,
        (from, to): (f64, f64),
        count: usize,
        label: fn(f64) -> String,
    ) -> Self {
        let (from, to) = if from.is_finite() && to.is_finite() { (from, to) } else { (0.0, 1.0) };
        let to = if to - from > to.abs() * 1e-9 { to } else { from + from.abs().max(1.0) };
        let step = step(to - from, count);
        let (lo, hi) = ((from / step + 1e-9).floor() * step, (to / step - 1e-9).ceil() * step);
        let ticks = multiples(step, lo, hi).map(|value| (value, label(value))).collect();
        Self { title: title.to_owned(), scale: Scale::Linear, lo, hi, ticks, minor: Vec::new() }
    }

    /// A share between `from` and 1, labelled in percent.
    pub(super) fn share(title: &str, from: f64) -> Self {
        let from = from.clamp(0.0, 0.9999);
        let step = step(1.0 - from, 8);
        let lo = ((from / step + 1e-9).floor() * step).max(0.0);
        let label = |share: f64| format!("{} %", quantity::share_digits((share * 1e8).round() / 1e6));
        let ticks = multiples(step, lo, 1.0).map(|value| (value.min(1.0), label(value))).collect();
        Self { title: title.to_owned(), scale: Scale::Linear, lo, hi: 1.0, ticks, minor: Vec::new() }.padded()
    }

    /// Latency in ms, logarithmic: fine labels within one decade, 1-2-5 over a few, decades over many.
    pub(super) fn latency(title: &str, (from, to): (f64, f64)) -> Self {
        let (from, to) = if from > 0.0 && from <= to && to.is_finite() { (from, to) } else { (1.0, 10.0) };
        let (from, to) = (from / 1.02, to * 1.02);
        let (first, last) =
            (libm::floor(libm::log10(from)) as i32 - 1, libm::ceil(libm::log10(to)) as i32 + 1);
        let bounds = |digits: &'static [f64]| {
            let decade = move |power: i32| libm::pow(10.0, f64::from(power));
            (first..=last).flat_map(move |power| digits.iter().map(move |digit| digit * decade(power)))
        };
        let lo = bounds(FINE).filter(|&v| v <= from).fold(f64::NAN, f64::max);
        let hi = bounds(FINE).filter(|&v| v >= to).fold(f64::NAN, f64::min);
        let decades = libm::log10(hi / lo);
        let inside = |v: &f64| *v >= lo * 0.999 && *v <= hi * 1.001;
        let digits: &'static [f64] = match decades {
            d if d <= 1.0 => FINE,
            d if d <= 4.1 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let ticks = bounds(digits).filter(inside).map(|v| (v, quantity::millis(v))).collect();
        let minor = bounds(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]).filter(inside).collect();
        Self { title: title.to_owned(), scale: Scale::Log, lo, hi, ticks, minor }
    }

    /// The same in a narrow panel: few labels.
    pub(super) fn sparse_latency(title: &str, range: (f64, f64)) -> Self {
        let mut axis = Self::latency(title, range);
        let bare = |label: &str| {
            label.starts_with('1') && label.chars().filter(|c| ('1'..='9').contains(c)).count() == 1
        };
        if axis.ticks.iter().filter(|(_, label)| bare(label)).count() >= 2 {
            axis.ticks.retain(|(_, label)| bare(label));
        } else {
            let few = axis.ticks.len().div_ceil(3).max(1);
            let mut at = 0;
            axis.ticks.retain(|_| {
                at += 1;
                (at - 1) % few == 0
            });
        }
        axis
    }

    /// Rows with these labels, the first on top, at heights from their number down to 1.
    pub(super) fn rows(labels: &[String]) -> Self {
        let last = labels.len();
        let ticks =
            labels.iter().enumerate().map(|(at, label)| ((last - at) as f64, label.clone())).collect();
        let hi = last as f64 + 0.5;
        Self { title: String::new(), scale: Scale::Linear, lo: 0.5, hi, ticks, minor: Vec::new() }
    }

    /// Shares of requests from 0 up to `last` (0..1), stretched towards 1 so that each further nine takes equal room.
    pub(super) fn tail(title: &str, last: f64) -> Self {
        let last = last.max(0.9);
        let nines = [0.0, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99995, 0.99999];
        let label = |share: f64| match share {
            0.0 => "0".to_owned(),
            _ => format!("{} %", quantity::share_digits((share * 1e8).round() / 1e6)),
        };
        let ticks =
            nines.iter().filter(|&&share| share <= last + 1e-9).map(|&share| (share, label(share))).collect();
        Self { title: title.to_owned(), scale: Scale::Tail, lo: 0.0, hi: last, ticks, minor: Vec::new() }
    }

    /// A little room beyond both ends, so that a curve along an end does not hide under the frame.
    pub(super) fn padded(mut self) -> Self {
        let room = (self.hi - self.lo) * 0.025;
        self.lo -= room;
        self.hi += room;
        self
    }

    /// Labelled ticks.
    pub(super) fn ticks(&self) -> &[(f64, String)] {
        &self.ticks
    }

    /// Grid lines without a label.
    pub(super) fn minor(&self) -> &[f64] {
        &self.minor
    }

    /// Width of the widest label, in characters.
    pub(super) fn label_chars(&self) -> usize {
        self.ticks.iter().map(|(_, label)| label.chars().count()).max().unwrap_or(0)
    }

    /// Position between the ends, 0..1; what lies outside is moved to the nearer end, so that a curve that leaves the
    /// axis runs along its edge.
    pub(super) fn position(&self, value: f64) -> f64 {
        let value = value.clamp(self.lo, self.hi);
        let (lo, hi) = (self.scale.apply(self.lo), self.scale.apply(self.hi));
        (self.scale.apply(value) - lo) / (hi - lo)
    }
}

/// Multiples of `step` from `lo` to `hi`, both inclusive.
fn multiples(step: f64, lo: f64, hi: f64) -> impl Iterator<Item = f64> {
    let first = (lo / step - 1e-6).ceil() as i64;
    let last = (hi / step + 1e-6).floor() as i64;
    (first..=last).map(move |k| k as f64 * step)
}

/// A step of 1, 2 or 5 times a power of ten that cuts `length` into at most `count` parts.
fn step(length: f64, count: usize) -> f64 {
    let raw = length / count as f64;
    let decade = libm::pow(10.0, libm::floor(libm::log10(raw)));
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|digit| digit * decade)
        .find(|step| *step >= raw * 0.999)
        .unwrap_or(raw)
}

/// Where a logarithmic axis may begin and end, and its labels within one decade.
const FINE: &[f64] = &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0];

/// Steps of a time axis, in seconds.
const TIME_STEPS: &[f64] = &[
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0,
    10_800.0, 21_600.0, 43_200.0, 86_400.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> String {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect::<Vec<_>>().join("  ")
    }

    #[test]
    fn ticks_are_what_a_person_would_draw() {
        assert_eq!(
            labels(&Axis::time(10_800.0)),
            "0:00  0:15  0:30  0:45  1:00  1:15  1:30  1:45  2:00  2:15  2:30  2:45  3:00"
        );
        assert_eq!(labels(&Axis::time(60.0)), "0  5  10  15  20  25  30  35  40  45  50  55  60");
        assert_eq!(
            labels(&Axis::latency("", (4.0, 900.0))),
            "5 ms  10 ms  20 ms  50 ms  100 ms  200 ms  500 ms  1 s"
        );
        assert_eq!(labels(&Axis::latency("", (310.0, 900.0))), "300 ms  400 ms  500 ms  600 ms  800 ms  1 s");
        assert_eq!(labels(&Axis::latency("", (0.2, 90_000.0))), "1 ms  10 ms  100 ms  1 s  10 s  100 s");
        assert_eq!(
            labels(&Axis::linear("", (0.0, 834.0), 6, quantity::per_second)),
            "0/s  200/s  400/s  600/s  800/s  1000/s"
        );
        assert_eq!(labels(&Axis::share("", 0.31)), "30 %  40 %  50 %  60 %  70 %  80 %  90 %  100 %");
        assert_eq!(
            labels(&Axis::share("", 0.9993)),
            "99.93 %  99.94 %  99.95 %  99.96 %  99.97 %  99.98 %  99.99 %  100 %"
        );
        assert_eq!(
            labels(&Axis::tail("", 0.9999)),
            "0  50 %  75 %  90 %  95 %  99 %  99.5 %  99.9 %  99.95 %  99.99 %"
        );
    }

    #[test]
    fn odd_ranges_still_make_an_axis() {
        for (lo, hi) in [(0.0, 0.0), (f64::NAN, f64::NAN), (f64::INFINITY, f64::NEG_INFINITY), (5.0, 5.0)] {
            assert!(Axis::linear("", (lo, hi), 6, quantity::si).ticks().len() >= 2);
            assert!(!Axis::latency("", (lo, hi)).ticks().is_empty());
        }
        assert!(Axis::time(0.0).ticks().len() >= 2);
        assert!(Axis::share("", 1.0).ticks().len() >= 2);
    }

    #[test]
    fn nines_take_equal_room() {
        let axis = Axis::tail("", 0.9999);
        for (share, position) in [(0.0, 0.0), (0.9, 0.25), (0.99, 0.5), (0.999, 0.75), (0.9999, 1.0)] {
            assert!((axis.position(share) - position).abs() < 1e-9);
        }
    }
}
