//! Kubernetes quantities (`250m`, `1.5Gi`, `1e3`) as whole thousandths.
//!
//! Origin: `k8s.io/apimachinery/pkg/api/resource`. A value finer than a thousandth is rounded away from zero, as
//! `Quantity.MilliValue` rounds it, through which every autoscaler reads it.

use std::fmt;

use super::{UnitError, shortened};

/// A quantity in thousandths: of a core, a byte, a request per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(i64);

/// Every suffix with its factor as a power: of 10 (first) times of 2 (second).
const SUFFIXES: &[(&str, i32, u32)] = &[
    ("", 0, 0),
    ("n", -9, 0),
    ("u", -6, 0),
    ("m", -3, 0),
    ("k", 3, 0),
    ("M", 6, 0),
    ("G", 9, 0),
    ("T", 12, 0),
    ("P", 15, 0),
    ("E", 18, 0),
    ("Ki", 0, 10),
    ("Mi", 0, 20),
    ("Gi", 0, 30),
    ("Ti", 0, 40),
    ("Pi", 0, 50),
    ("Ei", 0, 60),
];

impl Quantity {
    /// So many thousandths.
    pub const fn from_milli(milli: i64) -> Self {
        Self(milli)
    }

    /// Thousandths.
    pub const fn milli(self) -> i64 {
        self.0
    }

    /// The whole number that is not below it, as upstream's `Value()`: bytes, for instance.
    pub const fn rounded_up(self) -> i64 {
        self.0.div_euclid(1_000) + (self.0.rem_euclid(1_000) != 0) as i64
    }

    /// Reads a quantity; the error is a message and a hint.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let (mantissa, suffix) = split(text);
        let shown = shortened(text);
        let wrong = |hint: Option<&str>| UnitError {
            hint: hint.map(str::to_owned),
            ..UnitError::new(format!("`{shown}` is not a quantity"))
        };
        if !mantissa.contains(|c: char| c.is_ascii_digit()) || mantissa.matches('.').count() > 1 {
            let hint = mantissa.is_empty().then_some("a quantity starts with a number: \"500m\", \"1.5Gi\"");
            return Err(wrong(hint));
        }
        let exponent = suffix.strip_prefix(['e', 'E']).filter(|digits| !digits.is_empty());
        let (tens, twos) = if let Some((_, tens, twos)) = SUFFIXES.iter().find(|(known, ..)| *known == suffix)
        {
            (*tens, *twos)
        } else if let Some(digits) = exponent {
            (digits.parse().map_err(|_| wrong(Some(advice(suffix))))?, 0)
        } else {
            return Err(wrong(Some(advice(suffix))));
        };
        let too_large = UnitError::new(format!("the quantity `{shown}` is too large"));
        scaled(mantissa, tens, twos).map(Self).ok_or(too_large)
    }
}

/// A number and what follows it.
fn split(text: &str) -> (&str, &str) {
    let signed = text.strip_prefix(['-', '+']).unwrap_or(text);
    let end = signed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(signed.len());
    text.split_at(text.len() - signed.len() + end)
}

/// What was probably meant by an unknown suffix.
fn advice(suffix: &str) -> &'static str {
    let bare = suffix.strip_suffix(['b', 'B']).unwrap_or(suffix);
    match bare.to_ascii_lowercase().as_str() {
        "k" => "`k` is 1000, `Ki` is 1024",
        "g" => "`G` is 10^9, `Gi` is 2^30",
        "t" => "`T` is 10^12, `Ti` is 2^40",
        "m" => "`m` is a thousandth, `M` is 10^6, `Mi` is 2^20",
        "ki" => "write `Ki`",
        "mi" => "write `Mi`",
        "gi" => "write `Gi`",
        "ti" => "write `Ti`",
        _ => "suffixes: n u m k M G T P E, Ki Mi Gi Ti Pi Ei, or an exponent such as e3",
    }
}

/// `number * 10^tens * 2^twos` in thousandths, rounded away from zero; `None` beyond the range of `i64`.
fn scaled(number: &str, tens: i32, twos: u32) -> Option<i64> {
    let negative = number.starts_with('-');
    let number = number.trim_start_matches(['-', '+']);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = fraction.trim_end_matches('0');
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    if value == 0 {
        return Some(0);
    }
    value = value.checked_mul(1 << twos)?;
    // Thousandths shift by three digits, the fraction back by its length.
    let shift = tens.checked_add(3)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let value = if shift >= 0 {
        value.checked_mul(10_i128.checked_pow(shift.unsigned_abs())?)?
    } else {
        // Beyond the largest power the value is less than a thousandth, which rounds to one.
        let divisor = 10_i128.checked_pow(shift.unsigned_abs()).unwrap_or(i128::MAX);
        value / divisor + i128::from(value % divisor != 0)
    };
    i64::try_from(if negative { -value } else { value }).ok()
}

impl fmt::Display for Quantity {
    /// Whole numbers plainly, others in thousandths: `2`, `1500m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 % 1_000 == 0 { write!(f, "{}", self.0 / 1_000) } else { write!(f, "{}m", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn milli(text: &str) -> i64 {
        Quantity::parse(text).unwrap_or_else(|error| panic!("{text}: {}", error.message)).milli()
    }

    #[test]
    fn every_suffix_means_its_factor() {
        assert_eq!(milli("2"), 2_000);
        assert_eq!(milli("250m"), 250);
        assert_eq!(milli("0.5"), 500);
        assert_eq!(milli(".5"), 500);
        assert_eq!(milli("5."), 5_000);
        assert_eq!(milli("10k"), 10_000_000);
        assert_eq!(milli("3M"), 3_000_000_000);
        assert_eq!(milli("1G"), 1_000_000_000_000);
        assert_eq!(milli("1T"), 1_000_000_000_000_000);
        assert_eq!(milli("1Ki"), 1_024_000);
        assert_eq!(milli("512Mi"), 512 * 1_048_576 * 1_000);
        assert_eq!(milli("1.5Gi"), 3 * (1 << 29) * 1_000);
        assert_eq!(milli("1Ti"), (1 << 40) * 1_000);
        assert_eq!(milli("1e3"), 1_000_000);
        assert_eq!(milli("1E3"), 1_000_000);
        assert_eq!(milli("25e-1"), 2_500);
        assert_eq!(milli("1e+2"), 100_000);
        assert_eq!(milli("-1"), -1_000);
        assert_eq!(milli("+0.10"), 100);
        assert_eq!(milli("0Ei"), 0);
    }

    #[test]
    fn what_is_finer_than_a_thousandth_is_rounded_away_from_zero() {
        assert_eq!(milli("1n"), 1);
        assert_eq!(milli("1500u"), 2);
        assert_eq!(milli("0.0011"), 2);
        assert_eq!(milli("-0.0011"), -2);
        assert_eq!(milli("1e-99"), 1);
        assert_eq!(Quantity::parse("1500m").map(Quantity::rounded_up), Ok(2));
        assert_eq!(Quantity::parse("-1500m").map(Quantity::rounded_up), Ok(-1));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in
            ["", "x", "100x", "Mi", "1 Gi", "1.2.3", "1K", "1Mb", "1e", "0x10", "--1", "1e3k", "1ee3", "١"]
        {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
        let error = Quantity::parse("4K").expect_err("no such suffix");
        assert_eq!(error.hint.as_deref(), Some("`k` is 1000, `Ki` is 1024"));
        assert_eq!(Quantity::parse("10E").expect_err("too large").message, "the quantity `10E` is too large");
        assert!(Quantity::parse("1e40").is_err());
        assert!(Quantity::parse(&"9".repeat(60)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(milli in any::<i64>()) {
            let quantity = Quantity::from_milli(milli);
            prop_assert_eq!(Quantity::parse(&quantity.to_string()), Ok(quantity));
        }

        #[test]
        fn binary_and_decimal_suffixes_agree_with_arithmetic(number in 0_i64..8_000_000, thousandths in 0_i64..1_000) {
            let text = format!("{number}.{thousandths:03}Mi");
            prop_assert_eq!(milli(&text), (number * 1_000 + thousandths) * 1_048_576);
            let text = format!("{number}.{thousandths:03}k");
            prop_assert_eq!(milli(&text), (number * 1_000 + thousandths) * 1_000);
        }

        #[test]
        fn nothing_panics(text in "[-+.0-9eEinumkKMGTPx ]{0,40}") {
            let _ = Quantity::parse(&text);
        }
    }
}
