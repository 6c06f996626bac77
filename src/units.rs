//! Quantities as they are written in scenarios: `"250ms"`, `"2.5k/s"`, `"512MiB"`, `"80%"`, `"0.19/h"`.
//!
//! A number without its unit is refused, because `timeout = 5` has cost more people more nights than any policy here.
//! Decimal digits are kept as integers until the unit is known, so `"0.1s"` is exactly 100 000 000 ns.
//!
//! [`Duration`] and the newtypes below can be read by serde as strings; a message and its hint travel together, parted by
//! a line break and `hint: `, so that whoever prints a scenario error can split them again.

pub mod quantity;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::time::Duration;

/// Why a quantity (or a law) could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitError {
    /// What is wrong, without a final period.
    pub message: String,
    /// What to write instead, if that is known.
    pub hint: Option<String>,
    /// Bytes of the text that are at fault, if that is less than all of it.
    pub at: Option<Range<usize>>,
}

impl UnitError {
    /// An error about the whole text.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, at: None }
    }

    /// With advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Pointing at some bytes of the text.
    #[must_use]
    pub fn at(mut self, at: Range<usize>) -> Self {
        self.at = Some(at);
        self
    }

    /// The same error seen from a text in which this one starts at byte `start` and is `len` bytes long.
    #[must_use]
    pub fn within(mut self, start: usize, len: usize) -> Self {
        let at = self.at.unwrap_or(0..len);
        self.at = Some(at.start + start..at.end + start);
        self
    }
}

impl fmt::Display for UnitError {
    /// The message, then the hint on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for UnitError {}

/// A name as it can stand in a message: one line, not endless.
pub fn shortened(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut short: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push_str("...");
    }
    short.replace("\\'", "'").replace("\\\"", "\"")
}

/// A share of a whole, 0..=1, written `"80%"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Share(pub f64);

/// So many per second, written `"90/s"`, `"2.5k/s"`, `"10/h"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Rate(pub f64);

/// A size in bytes, written `"512MiB"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// Bytes per second, written `"100MiB/s"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bandwidth(pub u64);

/// Money per hour in whatever currency the scenario thinks in, written `"0.19/h"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Price(pub f64);

/// Reads a length of time: `"250ms"`, `"1.5s"`, `"1h40m"`, `"2d 6h"`. Units are `ns us ms s min h d`; `m` means minutes
/// only after hours, where it cannot be mistaken. Rounded to whole nanoseconds; what would round to nothing is refused.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let mut total = 0_u64;
    for part in duration_parts(text)? {
        total = part
            .number
            .scaled(part.unit)
            .and_then(|ns| total.checked_add(ns))
            .ok_or_else(|| UnitError::new(format!("`{}` is longer than 584 years", text.trim())))?;
        if total == 0 && part.number.digits != 0 {
            return Err(UnitError::new(format!(
                "`{}` is less than one nanosecond, the resolution of time here",
                text.trim()
            )));
        }
    }
    Ok(Duration(total))
}

/// As [`parse_duration`], in nanoseconds and not rounded to whole ones: for the parameters of laws.
pub fn parse_duration_ns(text: &str) -> Result<f64, UnitError> {
    let ns: f64 = duration_parts(text)?.iter().map(|part| part.number.as_f64() * part.unit as f64).sum();
    if ns > u64::MAX as f64 {
        return Err(UnitError::new(format!("`{}` is longer than 584 years", text.trim())));
    }
    Ok(ns)
}

/// Reads a rate, per second: `"90/s"`, `"2.5k/s"`, `"90/min"`, `"10/h"`. Factors are `k`, `M` and `G`.
pub fn parse_rate(text: &str) -> Result<f64, UnitError> {
    const UNITS: &[(&str, f64)] = &[("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86400.0), ("ms", 1e-3)];
    let (number, unit, at) = number_and_unit(text, "a rate", "90/s")?;
    let wrong = |hint: String| {
        Err(UnitError::new(format!("`{unit}` is not a unit of a rate")).hint(hint).at(at.clone()))
    };
    let Some((factor, per)) = unit.split_once('/') else {
        let digits = &text.trim()[..text.trim().len() - unit.len()];
        return match unit {
            "rps" | "qps" | "Hz" | "hz" => wrong(format!("write \"{}/s\"", digits.trim_end())),
            _ => wrong("a rate ends in /s, /min, /h or /d, as in \"2.5k/s\"".into()),
        };
    };
    let factor = match factor.trim_end() {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        _ => return wrong("the factors of a rate are k, M and G, as in \"2.5k/s\"".into()),
    };
    match UNITS.iter().find(|(name, _)| *name == per.trim_start()) {
        Some((_, seconds)) => finite(number.as_f64() * factor / seconds, text),
        None => wrong("a rate is per s, min, h or d, as in \"90/min\"".into()),
    }
}

/// Reads a size: `"64KiB"`, `"1.5GiB"`, `"20MB"`, `"100B"`.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let (number, unit, at) = number_and_unit(text, "a size", "512MiB")?;
    let Some((_, factor)) = BYTES.iter().find(|(name, _)| *name == unit) else {
        let error = UnitError::new(format!("`{unit}` is not a unit of size")).at(at);
        return Err(match unit {
            "Ki" | "Mi" | "Gi" | "Ti" => error.hint(format!("write {unit}B")),
            "K" | "k" | "KB" => error.hint("write KiB (1024 bytes) or kB (1000 bytes)"),
            "M" | "G" | "T" => {
                error.hint(format!("write {unit}iB (powers of 1024) or {unit}B (powers of 1000)"))
            }
            _ => error.hint("sizes are written in B, KiB, MiB, GiB, TiB, kB, MB, GB or TB"),
        });
    };
    let bytes =
        number.scaled(*factor).ok_or_else(|| UnitError::new(format!("`{}` is too large", text.trim())))?;
    if bytes == 0 && number.digits != 0 {
        return Err(UnitError::new(format!("`{}` is less than one byte", text.trim())));
    }
    Ok(bytes)
}

/// Reads a bandwidth, bytes per second: `"100MiB/s"`.
pub fn parse_bandwidth(text: &str) -> Result<u64, UnitError> {
    match text.rsplit_once('/') {
        Some((size, unit)) if unit.trim() == "s" => parse_bytes(size.trim_end()),
        _ => {
            Err(UnitError::new(format!("`{}` is not a bandwidth", shortened(text)))
                .hint("write \"100MiB/s\""))
        }
    }
}

/// Reads a share of a whole: `"80%"` is 0.8. More than `"100%"` is refused.
pub fn parse_share(text: &str) -> Result<f64, UnitError> {
    let share = parse_percent(text)?;
    if share > 1.0 {
        return Err(UnitError::new(format!("`{}` is more than the whole", text.trim()))
            .hint("a share lies between 0% and 100%"));
    }
    Ok(share)
}

/// As [`parse_share`], without the upper bound: for targets and surges, which may pass 100 %.
pub fn parse_percent(text: &str) -> Result<f64, UnitError> {
    let (number, unit, at) = number_and_unit(text, "a share", "80%")?;
    if unit != "%" {
        return Err(UnitError::new(format!("`{unit}` is not a unit of a share"))
            .hint("write a percentage, as in \"80%\"")
            .at(at));
    }
    finite(Decimal { exponent: number.exponent - 2, ..number }.as_f64(), text)
}

/// Reads a price, per hour: `"0.19/h"`, `"4.5/d"`.
pub fn parse_price(text: &str) -> Result<f64, UnitError> {
    if let Some(rest) = text.trim().strip_prefix(['$', '€', '£', '¥']) {
        return Err(UnitError::new("prices are written without a currency")
            .hint(format!("write \"{}\"", rest.trim())));
    }
    let (number, unit, at) = number_and_unit(text, "a price", "0.19/h")?;
    let hours = match unit {
        "/h" => 1.0,
        "/d" => 24.0,
        _ => {
            let error = UnitError::new(format!("`{unit}` is not a unit of a price"));
            return Err(error.hint("prices are per hour or per day, as in \"0.19/h\"").at(at));
        }
    };
    finite(number.as_f64() / hours, text)
}

/// Reads a plain number that must be finite and not negative, exactly as `f64` parsing rounds it.
pub fn parse_number(text: &str) -> Result<f64, UnitError> {
    let start = text.len() - text.trim_start().len();
    let (number, end) = scan_number(text, start)?;
    let rest = text[end..].trim_end();
    if !rest.is_empty() {
        let error =
            UnitError::new(format!("`{}` is not a plain number", text.trim())).at(end..end + rest.len());
        return Err(error.hint("no unit belongs here"));
    }
    finite(number.as_f64(), text)
}

/// Units of size and what they are worth.
pub(crate) const BYTES: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Units of time in nanoseconds, longest first.
pub(crate) const TIMES: &[(&str, u64)] = &[
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// digits x 10^exponent, not negative.
#[derive(Clone, Copy, Debug)]
struct Decimal {
    digits: u128,
    exponent: i32,
}

impl Decimal {
    /// The nearest `f64`.
    fn as_f64(self) -> f64 {
        // The standard library rounds decimal text correctly; going through text keeps that.
        format!("{}e{}", self.digits, self.exponent).parse().expect("digits and an exponent are a number")
    }

    /// Times `unit`, rounded to the nearest integer; `None` if it does not fit.
    fn scaled(self, unit: u64) -> Option<u64> {
        let product = self.digits.checked_mul(u128::from(unit))?;
        let power = 10_u128.checked_pow(self.exponent.unsigned_abs());
        let whole = match (self.exponent < 0, power) {
            _ if product == 0 => 0,
            (false, power) => product.checked_mul(power?)?,
            (true, None) => 0,
            (true, Some(power)) => product / power + u128::from(product % power >= power - power / 2),
        };
        u64::try_from(whole).ok()
    }
}

struct DurationPart {
    number: Decimal,
    unit: u64,
}

fn duration_parts(text: &str) -> Result<Vec<DurationPart>, UnitError> {
    let mut parts: Vec<DurationPart> = Vec::new();
    let mut rest = text.len() - text.trim_start().len();
    loop {
        let start = rest;
        let (number, end) = scan_number(text, start)?;
        let unit_start = end + (text[end..].len() - text[end..].trim_start().len());
        let unit: &str = {
            let tail = &text[unit_start..];
            &tail[..tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len())]
        };
        let unit_end = unit_start + unit.len();
        let written = text[start..end].trim();
        if unit.is_empty() && text[unit_start..].is_empty() {
            return Err(UnitError::new(format!("`{}` has no unit of time", text.trim()))
                .hint(format!("write \"{written}ms\" or \"{written}s\"")));
        }
        let after_hours = parts.last().is_some_and(|part| part.unit == TIMES[1].1);
        let known = match unit {
            "m" if after_hours => Some(TIMES[2].1),
            "µs" | "μs" => Some(1_000),
            _ => TIMES.iter().find(|(name, _)| *name == unit).map(|(_, ns)| *ns),
        };
        let Some(ns) = known else {
            let error = if unit.is_empty() {
                UnitError::new(format!("`{}` is not a length of time", text.trim()))
                    .at(unit_start..text.trim_end().len())
            } else {
                UnitError::new(format!("`{unit}` is not a unit of time")).at(unit_start..unit_end)
            };
            let instead = match unit {
                "m" => {
                    "write min for minutes (m means minutes only after h, as in \"1h40m\") or ms for milliseconds"
                }
                "S" | "sec" | "secs" | "second" | "seconds" => "write s for seconds",
                "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" | "MS" | "mS" => {
                    "write ms for milliseconds"
                }
                "usec" | "micros" | "microsecond" | "microseconds" => "write us for microseconds",
                "mins" | "minute" | "minutes" | "M" => "write min for minutes",
                "hr" | "hrs" | "hour" | "hours" | "H" => "write h for hours",
                "day" | "days" | "D" => "write d for days",
                "w" | "week" | "weeks" => "write days, as in \"7d\"",
                _ => "times are written in ns, us, ms, s, min, h or d, as in \"250ms\" or \"1h40m\"",
            };
            return Err(error.hint(instead));
        };
        if parts.last().is_some_and(|part| part.unit <= ns) {
            return Err(UnitError::new(format!("`{unit}` comes after a unit that is not longer"))
                .hint("write longer units first, each once, as in \"1h40m\"")
                .at(unit_start..unit_end));
        }
        parts.push(DurationPart { number, unit: ns });
        rest = unit_end + (text[unit_end..].len() - text[unit_end..].trim_start().len());
        if text[rest..].is_empty() {
            return Ok(parts);
        }
    }
}

/// One number and all that follows it, with the place of the latter.
fn number_and_unit<'t>(
    text: &'t str,
    what: &str,
    example: &str,
) -> Result<(Decimal, &'t str, Range<usize>), UnitError> {
    let start = text.len() - text.trim_start().len();
    let (number, end) = scan_number(text, start)?;
    let unit = text[end..].trim();
    let unit_start = text.trim_end().len() - unit.len();
    if unit.is_empty() {
        return Err(UnitError::new(format!("`{}` has no unit, but {what} needs one", text.trim()))
            .hint(with_unit(&text[start..end], example)));
    }
    Ok((number, unit, unit_start..unit_start + unit.len()))
}

/// Digits, an optional fraction and an optional exponent from byte `start`; gives the byte after them.
fn scan_number(text: &str, start: usize) -> Result<(Decimal, usize), UnitError> {
    let bytes = text.as_bytes();
    let rest = text[start..].trim_end();
    let whole = || start..start + rest.len();
    let lower = rest.to_ascii_lowercase();
    if rest.is_empty() {
        return Err(UnitError::new("there is nothing here").hint("write a number and its unit"));
    }
    if lower.starts_with('-') {
        return Err(UnitError::new(format!("`{rest}` is negative"))
            .hint("it must not be below zero")
            .at(whole()));
    }
    if lower.starts_with("nan") || lower.starts_with("inf") || lower.starts_with("+inf") {
        return Err(UnitError::new(format!("`{rest}` is not a finite number")).at(whole()));
    }
    let (mut digits, mut exponent, mut seen, mut fraction) = (0_u128, 0_i32, 0_usize, false);
    let mut at = start;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'0'..=b'9' => {
                seen += 1;
                // Digits beyond the 38th only say how large the number is.
                match digits.checked_mul(10).and_then(|digits| digits.checked_add(u128::from(byte - b'0'))) {
                    Some(longer) => {
                        digits = longer;
                        exponent -= i32::from(fraction);
                    }
                    None => exponent += i32::from(!fraction),
                }
            }
            b'.' if !fraction => fraction = true,
            // A separator stands between two digits.
            b'_' if seen > 0
                && bytes[at - 1].is_ascii_digit()
                && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => {}
            _ => break,
        }
        at += 1;
    }
    if seen == 0 {
        return Err(UnitError::new(format!("`{rest}` does not start with a number")).at(whole()));
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let end =
            bytes[at + 1 + sign..].iter().take_while(|byte| byte.is_ascii_digit()).count() + at + 1 + sign;
        if end > at + 1 + sign {
            // Far beyond any quantity, and far from overflowing the sum.
            let power = text[at + 1 + sign..end].parse::<i32>().unwrap_or(100_000).min(100_000);
            exponent += if bytes[at + 1] == b'-' { -power } else { power };
            at = end;
        }
    }
    Ok((Decimal { digits, exponent }, at))
}

fn finite(value: f64, text: &str) -> Result<f64, UnitError> {
    if value.is_finite() { Ok(value) } else { Err(UnitError::new(format!("`{}` is too large", text.trim()))) }
}

/// Serde and schema for a quantity that is written as a string.
macro_rules! quantity {
    ($type:ty, $what:literal, $example:literal, $schema:literal, $pattern:literal, $parse:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Reader;

                impl Visitor<'_> for Reader {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!($what, ", such as \"", $example, "\""))
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        $parse(text).map_err(E::custom)
                    }

                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$type, E> {
                        Err(E::custom(bare(number, $what, $example)))
                    }

                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$type, E> {
                        Err(E::custom(bare(number, $what, $example)))
                    }

                    fn visit_f64<E: de::Error>(self, number: f64) -> Result<$type, E> {
                        Err(E::custom(bare(number, $what, $example)))
                    }
                }

                deserializer.deserialize_any(Reader)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                false
            }

            fn schema_name() -> Cow<'static, str> {
                $schema.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "description": concat!($what, ", such as \"", $example, "\""),
                    "examples": [$example],
                    "pattern": $pattern,
                })
            }
        }
    };
}

quantity!(
    Duration,
    "a length of time",
    "250ms",
    "Duration",
    r"^\s*([0-9][0-9._]*([eE][-+]?[0-9]+)?\s*(ns|us|µs|μs|ms|s|min|m|h|d)\s*)+$|^\$.+$",
    parse_duration
);
quantity!(Share, "a share", "80%", "Share", r"^\s*[0-9.][0-9._]*([eE][-+]?[0-9]+)?\s*%\s*$|^\$.+$", |text| {
    parse_share(text).map(Share)
});
quantity!(
    Rate,
    "a rate",
    "90/s",
    "Rate",
    r"^\s*[0-9.][0-9._]*([eE][-+]?[0-9]+)?\s*[kMG]?\s*/\s*(ms|s|min|h|d)\s*$|^\$.+$",
    |text| parse_rate(text).map(Rate)
);
quantity!(
    Bytes,
    "a size",
    "512MiB",
    "Bytes",
    r"^\s*[0-9.][0-9._]*([eE][-+]?[0-9]+)?\s*([KMGT]iB|[kMGT]?B)\s*$|^\$.+$",
    |text| parse_bytes(text).map(Bytes)
);
quantity!(
    Bandwidth,
    "a bandwidth",
    "100MiB/s",
    "Bandwidth",
    r"^\s*[0-9.][0-9._]*([eE][-+]?[0-9]+)?\s*([KMGT]iB|[kMGT]?B)\s*/\s*s\s*$|^\$.+$",
    |text| parse_bandwidth(text).map(Bandwidth)
);
quantity!(
    Price,
    "a price",
    "0.19/h",
    "Price",
    r"^\s*[0-9.][0-9._]*([eE][-+]?[0-9]+)?\s*/[hd]\s*$|^\$.+$",
    |text| parse_price(text).map(Price)
);

/// The refusal of a number that came without quotes and thus without a unit.
fn bare(number: impl fmt::Display, what: &str, example: &str) -> UnitError {
    let text = number.to_string();
    if text.starts_with('-') {
        return UnitError::new(format!("`{text}` is negative, and {what} needs a unit"))
            .hint(format!("write \"{example}\""));
    }
    if text.starts_with(|c: char| !c.is_ascii_digit()) {
        return UnitError::new(format!("`{text}` is not a finite number"))
            .hint(format!("write \"{example}\""));
    }
    UnitError::new(format!("{what} needs a unit, and the bare number {text} has none"))
        .hint(with_unit(&text, example))
}

/// Advice to write `number` with the unit of `example`.
fn with_unit(number: &str, example: &str) -> String {
    let unit = example.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    match number.parse::<f64>() {
        // Somebody who writes 0.8 for a share hardly ever means 0.8 %.
        Ok(share) if unit == "%" && share > 0.0 && share <= 1.0 => {
            format!("write \"{}%\", or \"{number}%\" if that is meant", (share * 1e8).round() / 1e6)
        }
        _ => format!("write \"{number}{unit}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(text: &str) -> u64 {
        parse_duration(text).unwrap_or_else(|error| panic!("{text}: {error}")).0
    }

    fn refusal<T: fmt::Debug>(result: Result<T, UnitError>) -> String {
        result.expect_err("must be refused").to_string()
    }

    #[test]
    fn durations_are_exact() {
        assert_eq!(ns("250ms"), 250_000_000);
        assert_eq!(ns("0.1s"), 100_000_000);
        assert_eq!(ns("0.3us"), 300);
        assert_eq!(ns("1h40m"), 6_000_000_000_000);
        assert_eq!(ns("1h 40min"), 6_000_000_000_000);
        assert_eq!(ns("2min30s"), 150_000_000_000);
        assert_eq!(ns("1d12h"), 129_600_000_000_000);
        assert_eq!(ns("30 d"), 2_592_000_000_000_000);
        assert_eq!(ns("1.5e3ms"), 1_500_000_000);
        assert_eq!(ns("10_000us"), 10_000_000);
        assert_eq!(ns("5µs"), 5_000);
        assert_eq!(ns("0s"), 0);
        assert_eq!(ns("1.0000000004s"), 1_000_000_000);
        assert_eq!(ns("1.0000000005s"), 1_000_000_001);
        assert_eq!(ns("18446744073709551615ns"), u64::MAX);
    }

    #[test]
    fn durations_are_refused_with_a_hint() {
        insta::assert_snapshot!(
            ["250", "5m", "5sec", "-5ms", "nan", "inf s", "1s1s", "40m1h", "", "ms", "0.4ns", "600000000h", "1e400s", "5 % s"]
                .map(|text| format!("{text:?}: {}", refusal(parse_duration(text))))
                .join("\n"),
            @r#"
        "250": `250` has no unit of time
        hint: write "250ms" or "250s"
        "5m": `m` is not a unit of time
        hint: write min for minutes (m means minutes only after h, as in "1h40m") or ms for milliseconds
        "5sec": `sec` is not a unit of time
        hint: write s for seconds
        "-5ms": `-5ms` is negative
        hint: it must not be below zero
        "nan": `nan` is not a finite number
        "inf s": `inf s` is not a finite number
        "1s1s": `s` comes after a unit that is not longer
        hint: write longer units first, each once, as in "1h40m"
        "40m1h": `m` is not a unit of time
        hint: write min for minutes (m means minutes only after h, as in "1h40m") or ms for milliseconds
        "": there is nothing here
        hint: write a number and its unit
        "ms": `ms` does not start with a number
        "0.4ns": `0.4ns` is less than one nanosecond, the resolution of time here
        "600000000h": `600000000h` is longer than 584 years
        "1e400s": `1e400s` is longer than 584 years
        "5 % s": `5 % s` is not a length of time
        hint: times are written in ns, us, ms, s, min, h or d, as in "250ms" or "1h40m"
        "#
        );
        assert_eq!(parse_duration("1h5sec").unwrap_err().at, Some(3..6));
    }

    #[test]
    fn rates_are_per_second() {
        assert_eq!(parse_rate("90/s"), Ok(90.0));
        assert_eq!(parse_rate("2.5k/s"), Ok(2500.0));
        assert_eq!(parse_rate("90/min"), Ok(1.5));
        assert_eq!(parse_rate("36/h"), Ok(0.01));
        assert_eq!(parse_rate("1 M / s"), Ok(1e6));
        insta::assert_snapshot!(
            ["90", "90 rps", "90/fortnight", "2K/s", "-1/s", "1e999/s", "NaN/s"].map(|text| refusal(parse_rate(text))).join("\n"),
            @r#"
        `90` has no unit, but a rate needs one
        hint: write "90/s"
        `rps` is not a unit of a rate
        hint: write "90/s"
        `/fortnight` is not a unit of a rate
        hint: a rate is per s, min, h or d, as in "90/min"
        `K/s` is not a unit of a rate
        hint: the factors of a rate are k, M and G, as in "2.5k/s"
        `-1/s` is negative
        hint: it must not be below zero
        `1e999/s` is too large
        `NaN/s` is not a finite number
        "#
        );
    }

    #[test]
    fn sizes_shares_and_prices() {
        assert_eq!(parse_bytes("64GiB"), Ok(64 << 30));
        assert_eq!(parse_bytes("1.5KiB"), Ok(1536));
        assert_eq!(parse_bytes("20 MB"), Ok(20_000_000));
        assert_eq!(parse_share("80%"), Ok(0.8));
        assert_eq!(parse_share("99.9%"), Ok(0.999));
        assert_eq!(parse_share("0%"), Ok(0.0));
        assert_eq!(parse_percent("250%"), Ok(2.5));
        assert_eq!(parse_price("0.19/h"), Ok(0.19));
        assert_eq!(parse_price("12/d"), Ok(0.5));
        assert_eq!(parse_number(" 1_000.5 "), Ok(1000.5));
        insta::assert_snapshot!(
            [
                refusal(parse_bytes("512Mi")),
                refusal(parse_bytes("512")),
                refusal(parse_bytes("20000000TiB")),
                refusal(parse_share("0.8")),
                refusal(parse_share("180%")),
                refusal(parse_price("$0.19/h")),
                refusal(parse_price("3/week")),
                refusal(parse_number("3ms")),
            ]
            .join("\n"),
            @r#"
        `Mi` is not a unit of size
        hint: write MiB
        `512` has no unit, but a size needs one
        hint: write "512MiB"
        `20000000TiB` is too large
        `0.8` has no unit, but a share needs one
        hint: write "80%", or "0.8%" if that is meant
        `180%` is more than the whole
        hint: a share lies between 0% and 100%
        prices are written without a currency
        hint: write "0.19/h"
        `/week` is not a unit of a price
        hint: prices are per hour or per day, as in "0.19/h"
        `3ms` is not a plain number
        hint: no unit belongs here
        "#
        );
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Written {
        #[expect(dead_code, reason = "only its refusal is looked at")]
        timeout: Duration,
    }

    #[test]
    fn toml_points_at_the_value() {
        let message = |text: &str| toml::from_str::<Written>(text).unwrap_err().to_string();
        insta::assert_snapshot!(message("timeout = 5"), @r#"
        TOML parse error at line 1, column 11
          |
        1 | timeout = 5
          |           ^
        a length of time needs a unit, and the bare number 5 has none
        hint: write "5ms"
        "#);
        insta::assert_snapshot!(message("timeout = true"), @r#"
        TOML parse error at line 1, column 11
          |
        1 | timeout = true
          |           ^^^^
        invalid type: boolean `true`, expected a length of time, such as "250ms"
        "#);
        insta::assert_snapshot!(message("timeout = -3.5"), @r#"
        TOML parse error at line 1, column 11
          |
        1 | timeout = -3.5
          |           ^^^^
        `-3.5` is negative, and a length of time needs a unit
        hint: write "250ms"
        "#);
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,20}") {
            let _ = parse_duration(&text);
            let _ = parse_duration_ns(&text);
            let _ = parse_rate(&text);
            let _ = parse_bytes(&text);
            let _ = parse_share(&text);
            let _ = parse_price(&text);
            let _ = parse_number(&text);
        }

        #[test]
        fn whole_numbers_of_any_unit_are_exact(count in 0_u64..200_000, unit in 0_usize..7) {
            let (name, ns) = TIMES[unit];
            proptest::prop_assert_eq!(parse_duration(&format!("{count}{name}")), Ok(Duration(count * ns)));
        }
    }
}
