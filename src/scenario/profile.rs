//! Rates over time: `constant(90/s)`, `ramp(0s: 10/s, 10min: 100/s)`, `steps(..)`, `sine(..)`, `file(path:column)`.

use super::model::{Profile, Sinusoid};
use crate::time::{Duration, Time};
use crate::units::{UnitError, parse_duration, parse_rate};

/// Names of profiles, for messages.
const KINDS: &[&str] = &["constant", "ramp", "steps", "sine", "file"];

/// Reads a profile; `files` hands out the text of a data file.
pub(super) fn parse(
    text: &str,
    files: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<Profile, UnitError> {
    let (name, inside) = application(text)?;
    match name {
        "constant" => Ok(constant(parse_rate(inside)?)),
        "ramp" => Ok(Profile { points: points(inside)?, linear: true, sinusoid: None }),
        "steps" => Ok(Profile { points: points(inside)?, linear: false, sinusoid: None }),
        "sine" => sine(inside),
        "file" => {
            let series = Series::read(inside, files)?;
            Ok(Profile { points: series.into_points(), linear: false, sinusoid: None })
        }
        _ => {
            let error = UnitError::new(format!("unknown profile `{name}`"));
            let known = super::error::nearest(name, KINDS);
            Err(match known {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("profiles are constant, ramp, steps, sine and file"),
            })
        }
    }
}

/// The same rate for ever.
pub(super) fn constant(rate: f64) -> Profile {
    Profile { points: vec![(Time::ZERO, rate)], linear: false, sinusoid: None }
}

/// Every rate times `factor`.
pub(super) fn scale(profile: &mut Profile, factor: f64) {
    for (_, rate) in &mut profile.points {
        *rate *= factor;
    }
    if let Some(sinusoid) = &mut profile.sinusoid {
        sinusoid.amplitude *= factor;
    }
}

/// `name(inside)` as its two parts.
pub(super) fn application(text: &str) -> Result<(&str, &str), UnitError> {
    let parts = text.trim().strip_suffix(')').and_then(|text| text.split_once('('));
    let (name, inside) = parts.ok_or_else(|| {
        UnitError::new(format!("`{}` is not a profile", super::error::shortened(text))).hint(
            "write \"constant(90/s)\", \"ramp(0s: 10/s, 10min: 100/s)\" or \"file(data/x.csv:per-minute)\"",
        )
    })?;
    Ok((name.trim(), inside.trim()))
}

/// `0s: 10/s, 10min: 100/s`, ascending.
fn points(inside: &str) -> Result<Vec<(Time, f64)>, UnitError> {
    let mut points: Vec<(Time, f64)> = Vec::new();
    for pair in inside.split(',') {
        let (at, rate) = pair.split_once(':').ok_or_else(|| {
            UnitError::new(format!("`{}` is not a time and a rate", pair.trim()))
                .hint("write \"10min: 100/s\"")
        })?;
        let (at, rate) = (Time(parse_duration(at.trim())?.0), parse_rate(rate.trim())?);
        if points.last().is_some_and(|(before, _)| *before >= at) {
            return Err(UnitError::new(format!(
                "the times of a profile must grow, and `{}` does not",
                pair.trim()
            )));
        }
        points.push((at, rate));
    }
    // Before its first point a profile already has the first rate.
    if let Some((first, rate)) = points.first().copied()
        && first > Time::ZERO
    {
        points.insert(0, (Time::ZERO, rate));
    }
    Ok(points)
}

fn sine(inside: &str) -> Result<Profile, UnitError> {
    let mut parts = inside.split(',');
    let base = parse_rate(parts.next().unwrap_or_default().trim())?;
    let (mut amplitude, mut period, mut phase) = (None, None, 0.0);
    for part in parts {
        let (name, value) = part
            .split_once('=')
            .map_or_else(|| (part.trim(), ""), |(name, value)| (name.trim(), value.trim()));
        match name {
            "amplitude" => amplitude = Some(parse_rate(value)?),
            "period" => period = Some(parse_duration(value)?),
            "phase" => match value.parse::<f64>() {
                Ok(share) if (0.0..=1.0).contains(&share) => phase = share,
                _ => return Err(UnitError::new("the phase is a number from 0 to 1")),
            },
            _ => {
                return Err(UnitError::new(format!("unknown argument `{name}` of sine"))
                    .hint("write \"sine(100/s, amplitude=50/s, period=60s)\""));
            }
        }
    }
    let missing = |name: &str| {
        UnitError::new(format!("sine needs its {name}"))
            .hint("write \"sine(100/s, amplitude=50/s, period=60s)\"")
    };
    let amplitude = amplitude.ok_or_else(|| missing("amplitude"))?;
    let period = period.ok_or_else(|| missing("period"))?;
    if amplitude > base {
        return Err(UnitError::new(
            "the amplitude is larger than the rate it moves around, which would fall below zero",
        ));
    }
    if period == Duration::ZERO {
        return Err(UnitError::new("the period is zero"));
    }
    Ok(Profile { sinusoid: Some(Sinusoid { amplitude, period, phase }), ..constant(base) })
}

/// A column of rates over time, piecewise constant.
#[derive(Debug)]
pub(super) struct Series {
    /// (start in seconds, requests per second), ascending.
    pub(super) rows: Vec<(f64, f64)>,
    /// End of the last row's interval, in seconds.
    pub(super) end: f64,
}

impl Series {
    /// Reads `path:column`. The first column is the time, the named one a rate or, by its name, a count.
    pub(super) fn read(
        reference: &str,
        files: &mut dyn FnMut(&str) -> Result<String, String>,
    ) -> Result<Self, UnitError> {
        let (path, column) = file_and_column(reference)?;
        let text = files(path).map_err(UnitError::new)?;
        let table = Csv::read(path, &text)?;
        let at = table.column(column)?;
        let first = table.header.first().map(String::as_str).unwrap_or_default();
        let minutes = first.ends_with("_min") || first == "min" || first.starts_with("minute");
        let seconds = if minutes { 60.0 } else { 1.0 };
        let mut rows: Vec<(f64, f64)> = Vec::with_capacity(table.rows.len());
        for (line, fields) in &table.rows {
            let start = seconds * number(path, *line, first, fields.get(0))?;
            let value = number(path, *line, column, fields.get(at))?;
            if start < 0.0 || value < 0.0 {
                return Err(UnitError::new(format!("`{path}`, line {line}: a time or a rate is negative")));
            }
            if rows.last().is_some_and(|(before, _)| *before >= start) {
                return Err(UnitError::new(format!(
                    "`{path}`, line {line}: the time does not grow from row to row"
                ))
                .hint(format!("sort the rows by `{first}` and remove duplicates")));
            }
            rows.push((start, value));
        }
        let Some((last, _)) = rows.last().copied() else {
            return Err(UnitError::new(format!("`{path}` has no rows")));
        };
        // The last interval is as long as the one before it.
        let gap = if rows.len() > 1 { last - rows[rows.len() - 2].0 } else { seconds };
        let end = last + gap;
        for at in 0..rows.len() {
            let next = rows.get(at + 1).map_or(end, |row| row.0);
            rows[at].1 /= match column {
                name if name.starts_with("per-minute") || name.starts_with("per_minute") => 60.0,
                name if name.starts_with("per-second") || name.starts_with("per_second") => 1.0,
                name if name.starts_with("count") => next - rows[at].0,
                _ => 1.0,
            };
        }
        Ok(Self { rows, end })
    }

    fn into_points(self) -> Vec<(Time, f64)> {
        let instant = |secs: f64| Time(Duration::from_secs_f64(secs).0);
        let mut points: Vec<(Time, f64)> =
            self.rows.into_iter().map(|(at, rate)| (instant(at), rate)).collect();
        if points[0].0 > Time::ZERO {
            points.insert(0, (Time::ZERO, 0.0));
        }
        points
    }

    /// The value that holds `secs` after the start; the series repeats after its end.
    pub(super) fn at(&self, secs: f64) -> f64 {
        let start = self.rows[0].0;
        let length = self.end - start;
        let within = start + libm::fmod(secs, length);
        let after = self.rows.partition_point(|(at, _)| *at <= within);
        self.rows[after.saturating_sub(1)].1
    }
}

/// `path:column` as its two parts.
pub(super) fn file_and_column(reference: &str) -> Result<(&str, &str), UnitError> {
    let parts = reference.rsplit_once(':').map(|(path, column)| (path.trim(), column.trim()));
    parts.filter(|(path, column)| !path.is_empty() && !column.is_empty()).ok_or_else(|| {
        UnitError::new(format!("`{}` names no column", super::error::shortened(reference)))
            .hint("write \"file(data/x.csv:column)\"")
    })
}

/// The cells of a CSV file with a header.
pub(super) struct Csv<'a> {
    path: &'a str,
    pub(super) header: Vec<String>,
    /// (line in the file, cells)
    pub(super) rows: Vec<(u64, csv::StringRecord)>,
}

impl<'a> Csv<'a> {
    pub(super) fn read(path: &'a str, text: &str) -> Result<Self, UnitError> {
        let mut reader =
            csv::ReaderBuilder::new().comment(Some(b'#')).trim(csv::Trim::All).from_reader(text.as_bytes());
        let wrong = |error: csv::Error| {
            let line = error.position().map_or(1, csv::Position::line);
            let reason = match error.kind() {
                csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                    format!("{len} cells where the header has {expected_len}")
                }
                _ => error.to_string(),
            };
            UnitError::new(format!("`{path}`, line {line}: {reason}"))
        };
        let header = reader.headers().map_err(wrong)?.iter().map(str::to_owned).collect();
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(wrong)?;
            rows.push((record.position().map_or(0, csv::Position::line), record));
        }
        Ok(Self { path, header, rows })
    }

    /// Position of a column.
    pub(super) fn column(&self, name: &str) -> Result<usize, UnitError> {
        self.header.iter().position(|known| known == name).ok_or_else(|| {
            let known: Vec<String> = self.header.iter().map(|name| format!("`{name}`")).collect();
            UnitError::new(format!("`{}` has no column `{name}`", self.path))
                .hint(format!("its columns are {}", known.join(", ")))
        })
    }
}

/// A cell as a finite number.
pub(super) fn number<'a>(
    path: &str,
    line: u64,
    column: &str,
    cell: Option<impl Into<&'a str>>,
) -> Result<f64, UnitError> {
    let cell = cell.map_or("", Into::into);
    match cell.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => {
            let cell = super::error::shortened(cell);
            Err(UnitError::new(format!(
                "`{path}`, line {line}: `{cell}` in column `{column}` is not a number"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, file: &str) -> Result<Profile, String> {
        parse(text, &mut |_| Ok(file.to_owned())).map_err(|error| error.message)
    }

    fn points_of(text: &str, file: &str) -> Vec<(u64, f64)> {
        read(text, file).unwrap().points.iter().map(|(at, rate)| (at.as_millis(), *rate)).collect()
    }

    #[test]
    fn reads_the_written_ones() {
        assert_eq!(points_of("constant(90/min)", ""), [(0, 1.5)]);
        assert_eq!(points_of("ramp(0s: 10/s, 10min: 100/s)", ""), [(0, 10.0), (600_000, 100.0)]);
        assert_eq!(points_of("steps(5min: 80/s)", ""), [(0, 80.0), (300_000, 80.0)]);
        let sine = read("sine(100/s, amplitude=50/s, period=60s, phase=0.25)", "").unwrap();
        let wave = Sinusoid { amplitude: 50.0, period: Duration::from_secs(60), phase: 0.25 };
        assert_eq!(sine, Profile { sinusoid: Some(wave), ..constant(100.0) });
    }

    #[test]
    fn reads_files() {
        assert_eq!(points_of("file(x.csv:rps)", "t_s,rps\n0,5\n10,7\n"), [(0, 5.0), (10_000, 7.0)]);
        assert_eq!(
            points_of("file(x.csv:per-minute)", "t_min,per-minute\n0,60\n1,120\n"),
            [(0, 1.0), (60_000, 2.0)]
        );
        let counts = "t_s,count\n0,10\n5,10\n15,30\n";
        assert_eq!(points_of("file(x.csv:count)", counts), [(0, 2.0), (5_000, 1.0), (15_000, 3.0)]);
        assert_eq!(points_of("file(x.csv:rps)", "t_s,rps\n4,5\n"), [(0, 0.0), (4_000, 5.0)]);
    }

    #[test]
    fn refuses_the_rest_with_the_line() {
        let error = |text, file| read(text, file).unwrap_err();
        assert_eq!(
            error("ramp(10s: 1/s, 5s: 2/s)", ""),
            "the times of a profile must grow, and `5s: 2/s` does not"
        );
        assert_eq!(error("rampe(1/s)", ""), "unknown profile `rampe`");
        assert_eq!(error("90/s", ""), "`90/s` is not a profile");
        assert_eq!(error("sine(1/s, period=1s)", ""), "sine needs its amplitude");
        assert_eq!(error("file(x.csv:b)", "t,a\n"), "`x.csv` has no column `b`");
        assert_eq!(error("file(x.csv)", ""), "`x.csv` names no column");
        assert_eq!(error("file(x.csv:a)", "t,a\n"), "`x.csv` has no rows");
        assert_eq!(
            error("file(x.csv:a)", "t,a\n0,1\n1,x\n"),
            "`x.csv`, line 3: `x` in column `a` is not a number"
        );
        assert_eq!(
            error("file(x.csv:a)", "t,a\n0,1\n0,1\n"),
            "`x.csv`, line 3: the time does not grow from row to row"
        );
        assert_eq!(error("file(x.csv:a)", "t,a\n0,-1\n"), "`x.csv`, line 2: a time or a rate is negative");
        assert_eq!(error("file(x.csv:a)", "t,a\n0\n"), "`x.csv`, line 2: 1 cells where the header has 2");
        assert_eq!(
            error("file(x.csv:a)", "t,a\n0,NaN\n"),
            "`x.csv`, line 2: `NaN` in column `a` is not a number"
        );
    }
}
