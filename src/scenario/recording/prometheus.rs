//! The answer of Prometheus to a range query: `{"status": "success", "data": {"resultType": "matrix", "result": [..]}}`, or its
//! inner parts alone.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Diagnostic, MOST_POINTS, Place, Quantity, RateUnit, Raw, RawColumn, Reading};
use crate::scenario::error::shortened;

pub(super) fn read(text: &str, file: u32, reading: &Reading) -> Result<Raw, Diagnostic> {
    let json: Value = serde_json::from_str(text).map_err(|error| {
        let at = byte_of(text, error.line(), error.column());
        Diagnostic::new(format!("this is not JSON: {error}")).at(Place::new(file, at..at + 1))
    })?;
    if json.get("status").and_then(Value::as_str) == Some("error") {
        let why = json.get("error").and_then(Value::as_str).unwrap_or("it does not say why");
        return Err(Diagnostic::new(format!("the query failed: {}", shortened(why))));
    }
    let kind = json.pointer("/data/resultType").or_else(|| json.get("resultType")).and_then(Value::as_str);
    if let Some(kind) = kind.filter(|kind| *kind != "matrix") {
        return Err(Diagnostic::new(format!("this is a {}, not a range of time", shortened(kind)))
            .hint("ask /api/v1/query_range with start, end and step instead of /api/v1/query"));
    }
    let result = json.pointer("/data/result").or_else(|| json.get("result")).unwrap_or(&json);
    let Some(series) = result.as_array() else {
        return Err(Diagnostic::new("this is no answer to a range query")
            .hint("as from /api/v1/query_range: {\"data\": {\"resultType\": \"matrix\", \"result\": [{\"metric\": {}, \"values\": [[1700000000, \"12.5\"], ..]}]}}"));
    };
    if series.is_empty() {
        return Err(Diagnostic::new("the query found no series").hint("check the query and its time range"));
    }
    let mut notes = Vec::new();
    let mut names: Vec<String> = Vec::new();
    // Times are kept in whole milliseconds, as Prometheus has them.
    let mut sums: BTreeMap<i64, f64> = BTreeMap::new();
    for (index, one) in series.iter().enumerate() {
        if let Some(name) = one.pointer("/metric/__name__").and_then(Value::as_str)
            && (name.ends_with("_total") || name.ends_with("_count") || name.ends_with("_bucket"))
        {
            return Err(Diagnostic::new(format!("`{}` is a counter, not a rate", shortened(name)))
                .hint(format!("ask for sum(rate({}[1m]))", shortened(name))));
        }
        let Some(values) = one.get("values").and_then(Value::as_array) else {
            return Err(Diagnostic::new(format!("result[{index}] has no `values`")));
        };
        names.push(labels(one));
        let mut before = None;
        for (at, pair) in values.iter().enumerate() {
            let place = || format!("result[{index}].values[{at}]");
            let moment = pair.get(0).and_then(Value::as_f64);
            let value = pair.get(1).and_then(number);
            let (Some(moment), Some(value)) = (moment, value) else {
                return Err(Diagnostic::new(format!(
                    "{} is not a moment and a number: {}",
                    place(),
                    shortened(&pair.to_string())
                )));
            };
            if !(0.0..1e11).contains(&moment) {
                return Err(Diagnostic::new(format!(
                    "{}: {moment} is not a moment in seconds since 1970",
                    place()
                )));
            }
            if before.is_some_and(|before| moment <= before) {
                return Err(Diagnostic::new(format!("{}: the time does not grow", place()))
                    .hint("sort the values by time, each moment once"));
            }
            before = Some(moment);
            let slot = sums.entry((moment * 1e3).round() as i64).or_insert(f64::NAN);
            if !value.is_nan() {
                *slot = if slot.is_nan() { value } else { *slot + value };
            }
        }
        if sums.len() > MOST_POINTS {
            return Err(Diagnostic::new(format!("more than {MOST_POINTS} moments")));
        }
    }
    if names.len() > 1 {
        const SHOWN: usize = 3;
        let rest = names.len().saturating_sub(SHOWN);
        let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        let total = names.len();
        names.truncate(SHOWN);
        notes.push(format!("{total} series are added up: {}{more}", names.join(", ")));
    }
    let factor = match (reading.bare, reading.unit) {
        (Quantity::Rate, Some(RateUnit::PerMinute)) => 60.0,
        (Quantity::Rate, Some(RateUnit::PerHour)) => 3600.0,
        _ => 1.0,
    };
    let counts = reading.bare == Quantity::Rate && reading.unit == Some(RateUnit::Count);
    let values = sums.values().map(|value| value / factor).collect();
    Ok(Raw {
        moments: sums.keys().map(|ms| (*ms as f64 / 1e3, None)).collect(),
        columns: vec![RawColumn { what: reading.bare, known_rate: false, counts, values }],
        notes,
    })
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => match text.as_str() {
            "+Inf" => Some(f64::INFINITY),
            "-Inf" => Some(f64::NEG_INFINITY),
            text => text.parse().ok(),
        },
        value => value.as_f64(),
    }
}

/// `{pod="a"}` of a series.
fn labels(series: &Value) -> String {
    let pairs = series.get("metric").and_then(Value::as_object).into_iter().flatten();
    let pairs: Vec<String> =
        pairs.map(|(key, value)| format!("{key}={:?}", value.as_str().unwrap_or_default())).collect();
    format!("{{{}}}", shortened(&pairs.join(",")))
}

/// Byte at a line and column of serde's counting.
fn byte_of(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (start + column.saturating_sub(1)).min(text.len().saturating_sub(1))
}
