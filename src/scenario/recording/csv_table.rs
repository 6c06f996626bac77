//! CSV with a header whose names say what they count.

use super::{Diagnostic, MOST_POINTS, Place, Quantity, RateUnit, Raw, RawColumn, Reading};
use crate::scenario::error::{enumerated, shortened};
use crate::scenario::storm::days;

/// What a column is, by its name.
#[derive(Clone, Copy)]
struct Meaning {
    what: Quantity,
    factor: f64,
    counts: bool,
    known_rate: bool,
}

const EXAMPLES: &[&str] = &[
    "requests_per_second",
    "requests_per_minute",
    "count",
    "cpu_per_request",
    "cpu_cores",
    "latency_p99_ms",
    "latency_mean_ms",
    "replicas",
];

pub(super) fn read(text: &str, file: u32, reading: &Reading) -> Result<Raw, Diagnostic> {
    let mut reader =
        csv::ReaderBuilder::new().comment(Some(b'#')).trim(csv::Trim::All).from_reader(text.as_bytes());
    let wrong = |error: csv::Error| {
        let at = error.position().map_or(0, |position| position.byte() as usize);
        let message = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("{len} cells where the header has {expected_len}")
            }
            _ => error.to_string(),
        };
        Diagnostic::new(message).at(line_at(text, file, at))
    };
    let header = reader.headers().map_err(wrong)?.clone();
    let header_at = text.find(&header[0]).unwrap_or(0);
    let header_place = line_at(text, file, header_at);
    if header.iter().all(|name| name.parse::<f64>().is_ok()) {
        return Err(Diagnostic::new("the first line has no names")
            .at(header_place)
            .hint("begin the file with the line: timestamp,requests_per_second"));
    }
    let clock = clock(&header[0]).ok_or_else(|| {
        Diagnostic::new(format!("`{}` is not the name of a time", shortened(&header[0])))
            .at(header_place)
            .hint("the first column is `timestamp` (seconds since 1970 or 2026-11-21T10:00:00Z), `t_s` or `t_min` (since the start)")
    })?;
    let mut meanings = Vec::new();
    let mut unused = Vec::new();
    for (index, name) in header.iter().enumerate().skip(1) {
        match meaning(name, reading) {
            Ok(meaning) => {
                if meanings.iter().any(|(_, known): &(usize, Meaning)| known.what == meaning.what) {
                    let error = Diagnostic::new(format!("two columns say {}", meaning.what.words()));
                    return Err(error.at(header_place));
                }
                meanings.push((index, meaning));
            }
            Err(Some(error)) => return Err(error.at(header_place)),
            Err(None) => unused.push(format!("`{}`", shortened(name))),
        }
    }
    if meanings.is_empty() {
        let error = Diagnostic::new("no column has a name that says what it counts").at(header_place);
        return Err(error.note(enumerated(EXAMPLES)).hint(
            "a column `value` becomes the load with --unit per-second, per-minute, per-hour or count",
        ));
    }
    let mut raw = Raw { moments: Vec::new(), columns: Vec::new(), notes: Vec::new() };
    if !unused.is_empty() {
        raw.notes.push(format!("columns that are not used: {}", unused.join(", ")));
    }
    raw.columns = meanings
        .iter()
        .map(|(_, meaning)| RawColumn {
            what: meaning.what,
            known_rate: meaning.known_rate,
            counts: meaning.counts,
            values: Vec::new(),
        })
        .collect();
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        let at = record.position().map_or(0, |position| position.byte() as usize);
        let cell = |index: usize| cell_place(text, file, at, &record, index);
        let written = &record[0];
        let moment = moment(written, clock).ok_or_else(|| {
            let error = Diagnostic::new(format!("`{}` is not a moment", shortened(written)));
            error.at(cell(0)).hint("seconds, or a date as in 2026-11-21T10:00:00Z")
        })?;
        raw.moments.push((moment, Some(line_at(text, file, at))));
        if raw.moments.len() > MOST_POINTS {
            return Err(Diagnostic::new(format!("more than {MOST_POINTS} rows")));
        }
        for ((index, meaning), column) in meanings.iter().zip(&mut raw.columns) {
            let written = &record[*index];
            // An empty cell is a gap, and so is NaN, which Prometheus writes for 0/0.
            let value = if written.is_empty() { Some(f64::NAN) } else { written.parse::<f64>().ok() };
            let Some(value) = value else {
                let message = format!(
                    "`{}` in column `{}` is not a number",
                    shortened(written),
                    shortened(&header[*index])
                );
                return Err(Diagnostic::new(message).at(cell(*index)));
            };
            column.values.push(value * meaning.factor);
        }
    }
    Ok(raw)
}

/// How a first column counts time: seconds of one of it, and whether it may be dates.
fn clock(name: &str) -> Option<f64> {
    let name = folded(name);
    match name.as_str() {
        "timestamp" | "time" | "t" | "ts" | "date" | "datetime" | "time_utc" | "unix" | "unix_s"
        | "epoch" | "t_s" | "second" | "seconds" | "time_s" | "second_of_day" => Some(1.0),
        "t_min" | "min" | "minute" | "minutes" | "minute_of_day" | "minute_of_day_utc" => Some(60.0),
        "timestamp_ms" | "t_ms" | "unix_ms" | "epoch_ms" => Some(1e-3),
        "t_h" | "hour" | "hours" => Some(3600.0),
        _ => None,
    }
}

/// A moment in seconds.
fn moment(text: &str, unit: f64) -> Option<f64> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => {
            // No clock shows the year 5138; that many are milliseconds.
            Some(if number > 1e11 { number / 1e3 } else { number * unit })
        }
        Ok(_) => None,
        Err(_) => rfc3339(text),
    }
}

/// `2026-11-21T10:00:00[.5](Z|+08:00)`, also with a space for the T.
fn rfc3339(text: &str) -> Option<f64> {
    if !text.is_ascii() || text.len() < 19 {
        return None;
    }
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let part = &text[range];
        if part.bytes().all(|byte| byte.is_ascii_digit()) { part.parse().ok() } else { None }
    };
    let bytes = text.as_bytes();
    let signs = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if signs.iter().any(|(at, sign)| bytes[*at] != *sign) || ![b'T', b't', b' '].contains(&bytes[10]) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let in_range =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    if !in_range {
        return None;
    }
    let rest = &text[19..];
    let digits =
        rest.strip_prefix('.').map_or(0, |rest| 1 + rest.bytes().take_while(u8::is_ascii_digit).count());
    let fraction = if digits > 1 { format!("0{}", &rest[..digits]).parse::<f64>().ok()? } else { 0.0 };
    let shift = match &rest[digits..] {
        "Z" | "z" => 0,
        zone if zone.len() == 6 && zone.as_bytes()[3] == b':' => {
            let at = text.len() - 6;
            let minutes = number(at + 1..at + 3)? * 60 + number(at + 4..at + 6)?;
            match zone.as_bytes()[0] {
                b'+' => minutes,
                b'-' => -minutes,
                _ => return None,
            }
        }
        _ => return None,
    };
    let whole = days(year, month, day) * 86_400 + hour * 3600 + (minute - shift) * 60 + second;
    Some(whole as f64 + fraction)
}

/// What a column counts. `Err(Some)` if the name is known to be a mistake, `Err(None)` if it says nothing.
fn meaning(name: &str, reading: &Reading) -> Result<Meaning, Option<Diagnostic>> {
    let of = |what, factor| Meaning { what, factor, counts: false, known_rate: true };
    let name = folded(name);
    let load = |unit: RateUnit| match unit {
        RateUnit::PerSecond => of(Quantity::Rate, 1.0),
        RateUnit::PerMinute => of(Quantity::Rate, 1.0 / 60.0),
        RateUnit::PerHour => of(Quantity::Rate, 1.0 / 3600.0),
        RateUnit::Count => Meaning { counts: true, known_rate: false, ..of(Quantity::Rate, 1.0) },
    };
    let unit = match name.as_str() {
        "requests_per_second"
        | "requests_per_s"
        | "req_per_second"
        | "req_s"
        | "req_per_s"
        | "rps"
        | "qps"
        | "per_second"
        | "load_rps"
        | "offered_rps" => Some(RateUnit::PerSecond),
        "requests_per_minute" | "req_per_minute" | "rpm" | "per_minute" => Some(RateUnit::PerMinute),
        "requests_per_hour" | "per_hour" => Some(RateUnit::PerHour),
        "count" | "requests" | "hits" | "invocations" => Some(RateUnit::Count),
        "load" | "rate" | "value" | "traffic" => reading.unit,
        _ => None,
    };
    if let Some(unit) = unit {
        let unit = reading.unit.unwrap_or(unit);
        return Ok(load(unit));
    }
    if name.ends_with("_total") {
        let error =
            Diagnostic::new(format!("`{}` is the name of a counter, not of a rate", shortened(&name)));
        return Err(Some(
            error.hint(
                "rate() of it, as in requests_per_second, or what was counted in each row, as in count",
            ),
        ));
    }
    match name.as_str() {
        "load" | "rate" | "value" | "traffic" if reading.bare == Quantity::Rate => {
            let error = Diagnostic::new(format!("nobody knows what `{name}` counts"));
            return Err(Some(error.hint(
                "call it requests_per_second, or add --unit per-second, per-minute, per-hour or count",
            )));
        }
        "cpu_per_request" | "cpu_per_request_s" | "cpu_per_request_seconds" => {
            return Ok(of(Quantity::CpuPerRequest, 1.0));
        }
        "cpu_per_request_ms" => return Ok(of(Quantity::CpuPerRequest, 1e-3)),
        "cpu" | "cpu_cores" | "cores" | "cores_in_use" => return Ok(of(Quantity::CpuCores, 1.0)),
        "replicas" | "instances" | "pods" | "replicas_ready" => return Ok(of(Quantity::Replicas, 1.0)),
        _ => {}
    }
    latency(&name)
}

/// `latency_p99_ms`, `p50_s`, `mean_ms`.
fn latency(name: &str) -> Result<Meaning, Option<Diagnostic>> {
    let bare = name.strip_prefix("latency_").or_else(|| name.strip_prefix("duration_")).unwrap_or(name);
    let (stem, factor) = match bare.rsplit_once('_') {
        Some((stem, "ms")) => (stem, Some(1e-3)),
        Some((stem, "s" | "seconds")) => (stem, Some(1.0)),
        Some((stem, "us")) => (stem, Some(1e-6)),
        _ => (bare, None),
    };
    let what = match stem {
        "mean" | "avg" | "average" => Some(Quantity::MeanLatency),
        _ => stem.strip_prefix('p').filter(|digits| !digits.is_empty()).and_then(|digits| {
            let number: f64 = digits.replace('_', ".").parse().ok()?;
            // p999 is the 99.9th.
            let percent =
                if number > 100.0 { number / libm::pow(10.0, (digits.len() - 2) as f64) } else { number };
            (percent > 0.0 && percent < 100.0).then_some(Quantity::Latency((percent * 1e3).round() / 1e5))
        }),
    };
    match (what, factor) {
        (Some(what), Some(factor)) => Ok(Meaning { what, factor, counts: false, known_rate: true }),
        (Some(_), None) => {
            let error = Diagnostic::new(format!("`{}` has no unit", shortened(name)));
            Err(Some(error.hint(format!("call it {}_ms or {}_s", shortened(name), shortened(name)))))
        }
        _ => Err(None),
    }
}

/// Lower case, with one underscore for everything that is no letter or digit.
fn folded(name: &str) -> String {
    let folded: String = name
        .trim_start_matches('\u{feff}')
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .collect();
    folded.split('_').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_")
}

/// The line that holds a byte, without its end.
fn line_at(text: &str, file: u32, byte: usize) -> Place {
    let byte = byte.min(text.len());
    let start = text.as_bytes()[..byte].iter().rposition(|&c| c == b'\n').map_or(0, |at| at + 1);
    // The reader may stand at the end of the line before.
    let start = start + text.as_bytes()[start..].iter().take_while(|&&c| c == b'\n' || c == b'\r').count();
    let end = text.as_bytes()[start..]
        .iter()
        .position(|&c| c == b'\n' || c == b'\r')
        .map_or(text.len(), |at| start + at);
    Place::new(file, start..end)
}

/// The cell of a row.
fn cell_place(text: &str, file: u32, row: usize, record: &csv::StringRecord, index: usize) -> Place {
    let line = line_at(text, file, row);
    let mut at = line.start as usize;
    for cell in record.iter().take(index) {
        at = text.get(at..).and_then(|rest| rest.find(cell)).map_or(at, |found| at + found + cell.len());
        at = text.get(at..).and_then(|rest| rest.find(',')).map_or(at, |found| at + found + 1);
    }
    let wanted = &record[index];
    match text.get(at..line.end as usize).and_then(|rest| rest.find(wanted)) {
        Some(found) if !wanted.is_empty() => Place::new(file, at + found..at + found + wanted.len()),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds_since_1970() {
        assert_eq!(rfc3339("1970-01-02T00:00:00Z"), Some(86_400.0));
        assert_eq!(rfc3339("2000-03-01 00:00:00.5+00:00"), Some(951_868_800.5));
        assert_eq!(rfc3339("2000-03-01T08:00:00+08:00"), Some(951_868_800.0));
        for wrong in [
            "2000-03-01",
            "2000-03-01T00:00:00",
            "2000-13-01T00:00:00Z",
            "2000-03-01T00:00:00+8",
            "xxxx-03-01T00:00:00Z",
        ] {
            assert_eq!(rfc3339(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_say_what_they_count() {
        let reading = Reading { bare: Quantity::Rate, unit: None, longest_gap: crate::time::Duration::ZERO };
        let what =
            |name: &str| meaning(name, &reading).ok().map(|found| (found.what, found.factor, found.counts));
        assert_eq!(what("Requests per second"), Some((Quantity::Rate, 1.0, false)));
        assert_eq!(what("per-minute"), Some((Quantity::Rate, 1.0 / 60.0, false)));
        assert_eq!(what("count"), Some((Quantity::Rate, 1.0, true)));
        assert_eq!(what("latency_p99_ms"), Some((Quantity::Latency(0.99), 1e-3, false)));
        assert_eq!(what("p999_s"), Some((Quantity::Latency(0.999), 1.0, false)));
        assert_eq!(what("colour"), None);
        assert!(matches!(meaning("http_requests_total", &reading), Err(Some(_))));
        assert!(matches!(meaning("p99", &reading), Err(Some(_))));
        assert!(matches!(meaning("value", &reading), Err(Some(_))));
    }
}
