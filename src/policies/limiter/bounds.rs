//! Bounds of single settings, refused at the exact token.

use std::fmt::Display;
use std::num::NonZeroU32;

use serde::{Deserialize, Deserializer, de};

use crate::time::Duration;

/// More than nothing.
pub(super) fn positive<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + PartialOrd + Default,
{
    let value = T::deserialize(deserializer)?;
    if value > T::default() { Ok(value) } else { Err(de::Error::custom("it must be more than zero")) }
}

/// `value` if it keeps the rule, which the message names.
fn ruled<T: Display + Copy, E: de::Error>(value: T, kept: bool, rule: &str) -> Result<T, E> {
    if kept { Ok(value) } else { Err(E::custom(format!("it is {value}, but it must be {rule}"))) }
}

/// A weight: above 0 and at most 1.
pub(super) fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    ruled(value, value > 0.0 && value <= 1.0, "above 0 and at most 1")
}

/// A back-off ratio of concurrency-limits: at least 0.5 and below 1.
pub(super) fn backoff<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    ruled(value, (0.5..1.0).contains(&value), "at least 0.5 and below 1")
}

/// A finite factor of at least 1.
pub(super) fn factor<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    ruled(value, value.is_finite() && value >= 1.0, "at least 1 and finite")
}

/// A cold factor: a finite number above 1.
pub(super) fn above_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    ruled(value, value.is_finite() && value > 1.0, "above 1 and finite")
}

/// A time in whole milliseconds.
pub(super) fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let time = Duration::deserialize(deserializer)?;
    ruled(time, time.0.is_multiple_of(1_000_000), "in whole milliseconds, as upstream counts")
}

/// A time in whole milliseconds, at least one.
pub(super) fn some_millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let time = millis(deserializer)?;
    ruled(time, time > Duration::ZERO, "more than zero")
}

/// `n` as a count; for defaults, which are not zero.
pub(super) const fn count(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("a default count is not zero")
}

/// The rule of all limits that move.
pub(super) fn ordered(min: NonZeroU32, max: NonZeroU32) -> Result<(), String> {
    if min <= max { Ok(()) } else { Err(format!("min-limit = {min} is above max-limit = {max}")) }
}
