//! `buckets(latency.json)`: the buckets of a Prometheus histogram as a law.
//!
//! Three spellings are read, told apart by their first sign: the answer to an instant query (a vector whose `le` labels are the
//! bounds), JSON written by hand (`{"0.1": 250, "+Inf": 260}` or `[{"le": 0.1, "count": 250}, ..]`), and the text that a process
//! exposes (`x_bucket{le="0.1"} 250`). Counts are cumulative. Series that differ in other labels than `le` are added up, and
//! the order does not matter: Prometheus sorts `le` as text, too.
//!
//! As in `histogram_quantile`, values spread evenly inside a bucket, the lowest bucket starts at 0, and what lies above the
//! highest finite bound counts as lying on it. That is a lie about the tail, so more than 1 % there is refused unless `top`
//! says how far it reaches; then it spreads evenly up to there.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::{Buckets, Choice, Law};
use crate::units::UnitError;

/// What may lie above the highest finite bound without `top`.
const MOST_ABOVE: f64 = 0.01;

/// No histogram has more bounds.
const MOST_BOUNDS: usize = 10_000;

/// How the file is to be understood.
pub(super) struct Options<'a> {
    /// What one of the file is in the base unit.
    pub(super) unit: f64,
    /// Upper end of the highest bucket, in the base unit.
    pub(super) top: Option<f64>,
    /// Name of the histogram, where a file has several.
    pub(super) metric: Option<&'a str>,
}

/// Cumulative counts by bound. Bounds are not negative, so their bits sort as they do.
#[derive(Default)]
struct Cumulative(BTreeMap<u64, f64>);

impl Cumulative {
    fn add(&mut self, row: &str, bound: Option<f64>, count: Option<f64>) -> Result<(), UnitError> {
        match (bound, count) {
            (Some(bound), Some(count)) if bound >= 0.0 && count >= 0.0 && count.is_finite() => {
                // The sum also turns -0 into 0.
                *self.0.entry((bound + 0.0).to_bits()).or_insert(0.0) += count;
            }
            _ => {
                let message = "has no bound `le` and count that are numbers of at least 0";
                return Err(UnitError::new(format!("{row} {message}")));
            }
        }
        if self.0.len() > MOST_BOUNDS {
            return Err(UnitError::new(format!("more than {MOST_BOUNDS} bounds")));
        }
        Ok(())
    }
}

/// Reads the law out of the content of file `path`; `written` is how it was asked for.
pub(super) fn law(
    path: &str,
    written: String,
    content: &[u8],
    options: &Options<'_>,
) -> Result<Law, UnitError> {
    let place = |error: UnitError| UnitError { message: format!("{path}: {}", error.message), ..error };
    let text = std::str::from_utf8(content)
        .map_err(|_| place(UnitError::new("not a text file")))?
        .trim_start_matches('\u{feff}')
        .trim();
    let cumulative = match text.bytes().next() {
        None => Err(UnitError::new("the file is empty")),
        Some(b'{' | b'[') => from_json(text),
        Some(_) => from_text(text, options.metric),
    };
    build(&cumulative.map_err(place)?, written, options).map_err(place)
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => bound(text),
        value => value.as_f64(),
    }
}

/// A number as Prometheus writes it.
fn bound(text: &str) -> Option<f64> {
    match text.trim() {
        "+Inf" | "Inf" => Some(f64::INFINITY),
        text => text.parse().ok(),
    }
}

fn from_json(text: &str) -> Result<Cumulative, UnitError> {
    let json: Value =
        serde_json::from_str(text).map_err(|error| UnitError::new(format!("not JSON ({error})")))?;
    if json.get("status").and_then(Value::as_str) == Some("error") {
        let why = json.get("error").and_then(Value::as_str).unwrap_or("without a reason");
        let why: String = why.chars().take(200).collect();
        return Err(UnitError::new(format!("the query failed: {why}")));
    }
    let mut cumulative = Cumulative::default();
    let answer = json.pointer("/data/result").or_else(|| json.get("result"));
    if let Some(rows) = answer.unwrap_or(&json).as_array() {
        for (index, row) in rows.iter().enumerate() {
            if row.get("values").is_some() {
                return Err(UnitError::new("the answer to a range query")
                    .hint("ask for one moment: /api/v1/query instead of /api/v1/query_range"));
            }
            let bound = row.get("le").or_else(|| row.pointer("/metric/le")).and_then(number);
            let count = row.get("count").or_else(|| row.pointer("/value/1")).and_then(number);
            cumulative.add(&format!("bucket {index}"), bound, count)?;
        }
        return Ok(cumulative);
    }
    match json.as_object() {
        Some(table) if answer.is_none() && table.keys().all(|key| bound(key).is_some()) => {
            for (key, count) in table {
                cumulative.add(&format!("bucket `{key}`"), bound(key), number(count))?;
            }
            Ok(cumulative)
        }
        _ => Err(UnitError::new("neither a list of buckets nor the answer to a query")
            .hint("write {\"0.1\": 250, \"+Inf\": 260} with cumulative counts, bounds in seconds")),
    }
}

/// Lines `name_bucket{labels, le="bound"} count`; everything else is left out.
fn from_text(text: &str, metric: Option<&str>) -> Result<Cumulative, UnitError> {
    let mut cumulative = Cumulative::default();
    let mut first: Option<&str> = None;
    for (index, line) in text.lines().enumerate() {
        let Some((name, rest)) = line.trim().split_once('{') else { continue };
        let Some(name) = name.strip_suffix("_bucket") else { continue };
        if metric.is_some_and(|metric| metric != name) {
            continue;
        }
        let known = *first.get_or_insert(name);
        if known != name {
            return Err(UnitError::new(format!("holds several histograms, `{known}` and `{name}`"))
                .hint(format!("say which one, as in `buckets(.., metric={known})`")));
        }
        let row = format!("line {}", index + 1);
        let Some((labels, value)) = rest.rsplit_once('}') else {
            return Err(UnitError::new(format!("{row}: the labels have no end")));
        };
        let le = labels.split("le=\"").nth(1).and_then(|rest| rest.split('"').next());
        // A moment may stand behind the count.
        let count = value.split_whitespace().next();
        cumulative.add(&row, le.and_then(bound), count.and_then(bound))?;
    }
    if first.is_none() {
        let what = metric.map_or_else(|| "any".to_owned(), |metric| format!("`{metric}`"));
        return Err(UnitError::new(format!(
            "has no lines `.._bucket{{le=\"..\"}} count` of {what} histogram"
        ))
        .hint("JSON is read, too: {\"0.1\": 250, \"+Inf\": 260}"));
    }
    Ok(cumulative)
}

fn build(cumulative: &Cumulative, written: String, options: &Options<'_>) -> Result<Law, UnitError> {
    let rows: Vec<(f64, f64)> =
        cumulative.0.iter().map(|(bits, count)| (f64::from_bits(*bits), *count)).collect();
    let Some((&(last, total), finite)) = rows.split_last() else {
        return Err(UnitError::new("there is no bucket"));
    };
    if last.is_finite() {
        return Err(UnitError::new(
            "there is no bucket `+Inf`, so nobody knows how much lies above the rest",
        )
        .hint("its count is that of all values"));
    }
    if let Some(pair) = rows.windows(2).find(|pair| pair[1].1 < pair[0].1) {
        let ((low, more), (high, less)) = (pair[0], pair[1]);
        return Err(UnitError::new(format!(
            "the counts fall from {more} at le={low} to {less} at le={}",
            if high.is_finite() { high.to_string() } else { "+Inf".to_owned() }
        ))
        .hint("counts are cumulative, as in Prometheus"));
    }
    let Some(&(highest, up_to)) = finite.last() else {
        return Err(UnitError::new("no bucket has a finite bound"));
    };
    let above = (total - up_to) / total;
    let end = match options.top {
        Some(top) if top < highest * options.unit => {
            return Err(UnitError::new("`top` lies below the highest finite bound"));
        }
        Some(top) => top,
        None if above > MOST_ABOVE => {
            return Err(UnitError::new(format!(
                "{:.1} % of the values lie above the highest finite bound, {highest}",
                above * 100.0
            ))
            .hint("say how far they reach, as in `buckets(.., top=30s)`, or measure with higher buckets"));
        }
        None => highest * options.unit,
    };
    let (mut bins, mut weights, mut low, mut below) = (Vec::new(), Vec::new(), 0.0, 0.0);
    for (bound, count) in rows {
        let high = if bound.is_finite() { bound * options.unit } else { end };
        if count > below {
            bins.push((low, high - low));
            weights.push(count - below);
        }
        (low, below) = (high, count);
    }
    let choice = Choice::new(weights).ok_or_else(|| UnitError::new("all buckets are empty"))?;
    Ok(Law::Buckets(Arc::new(Buckets { written, bins: bins.into(), choice })))
}
