//! A flood that follows a storm: the closer its eye to the place, the more people ask.
//!
//! rate(t) = calm + (peak - calm) exp(-(d/reach)^2), where d is the great-circle distance from the storm's eye to the
//! place and the storm moves `speed-up` times faster than the clock of the run. Between two fixes of the track, latitude
//! and longitude move linearly. The minute-to-minute shape of real traffic, divided by its own trend, multiplies the
//! rate. The result is sampled in the middle of short pieces, within which the rate is constant.

use super::model::Profile;
use super::profile::{Csv, Series, application, number};
use crate::time::{Duration, Time};
use crate::units::UnitError;

/// The plan of a storm's flood; rates in requests per second, distances in km.
#[derive(Debug)]
pub(super) struct Storm<'a> {
    /// Path and text of the track.
    pub(super) track: (&'a str, &'a str),
    /// Degrees north and east.
    pub(super) place: [f64; 2],
    /// Storm seconds per second of the run.
    pub(super) speed_up: f64,
    /// Storm time at which the run starts, seconds since 1970.
    pub(super) start: f64,
    pub(super) calm: f64,
    pub(super) peak: f64,
    /// Distance at which the excess has fallen to 1/e.
    pub(super) reach: f64,
    /// Shape of the traffic, if any, already divided by its trend.
    pub(super) shape: Option<Series>,
    /// Length of one piece.
    pub(super) every: Duration,
}

impl Storm<'_> {
    /// The rate over a run of `duration`.
    pub(super) fn profile(&self, duration: Duration) -> Result<Profile, UnitError> {
        let track = Track::read(self.track.0, self.track.1)?;
        track.covers(self.start, self.start + self.speed_up * duration.as_secs_f64(), self.track.0)?;
        let every = self.every.as_secs_f64();
        if duration.0 / self.every.0.max(1) > 10_000_000 {
            return Err(UnitError::new("the storm would be cut into more than 10 million pieces")
                .hint("raise `every`"));
        }
        let pieces = (duration.as_secs_f64() / every).ceil().max(1.0) as usize;
        let points = (0..pieces).map(|piece| {
            let middle = (piece as f64 + 0.5) * every;
            let eye = track.at(self.start + self.speed_up * middle);
            let ratio = distance_km(eye, self.place) / self.reach;
            let base = self.calm + (self.peak - self.calm) * libm::exp(-ratio * ratio);
            let shape = self.shape.as_ref().map_or(1.0, |shape| shape.at(middle));
            (Time(self.every.0 * piece as u64), base * shape)
        });
        Ok(Profile { points: points.collect(), linear: false, sinusoid: None })
    }
}

/// The fixes of a track: (seconds since 1970, [latitude, longitude]).
struct Track(Vec<(f64, [f64; 2])>);

impl Track {
    fn read(path: &str, text: &str) -> Result<Self, UnitError> {
        let table = Csv::read(path, text)?;
        let [time, north, east] =
            [table.column("time_utc")?, table.column("lat_deg_n")?, table.column("lon_deg_e")?];
        let mut fixes: Vec<(f64, [f64; 2])> = Vec::new();
        for (line, cells) in &table.rows {
            let moment = cells.get(time).unwrap_or_default();
            let at = parse_moment(moment)
                .map_err(|error| UnitError::new(format!("`{path}`, line {line}: {}", error.message)))?;
            let north = number(path, *line, "lat_deg_n", cells.get(north))?;
            let east = number(path, *line, "lon_deg_e", cells.get(east))?;
            if !(-90.0..=90.0).contains(&north) || !(-360.0..=360.0).contains(&east) {
                return Err(UnitError::new(format!(
                    "`{path}`, line {line}: there is no place {north} north, {east} east"
                )));
            }
            if fixes.last().is_some_and(|(before, _)| *before >= at) {
                return Err(UnitError::new(format!(
                    "`{path}`, line {line}: the time does not grow from row to row"
                )));
            }
            fixes.push((at, [north, east]));
        }
        match fixes.len() {
            0 | 1 => Err(UnitError::new(format!("`{path}` has fewer than two fixes"))),
            _ => Ok(Self(fixes)),
        }
    }

    /// A run may not need more storm than was observed.
    fn covers(&self, from: f64, to: f64, path: &str) -> Result<(), UnitError> {
        let (first, last) = (self.0[0].0, self.0[self.0.len() - 1].0);
        if from < first || to > last {
            return Err(UnitError::new(format!(
                "`{path}` covers {} to {}, and the run needs {} to {}",
                moment(first),
                moment(last),
                moment(from),
                moment(to)
            ))
            .hint("move `start`, or lower `speed-up` or the duration"));
        }
        Ok(())
    }

    /// Where the eye is; linear between fixes, over the date line the short way.
    fn at(&self, moment: f64) -> [f64; 2] {
        let next = self.0.partition_point(|(at, _)| *at <= moment).clamp(1, self.0.len() - 1);
        let ((from, [north, east]), (to, [north_next, east_next])) = (self.0[next - 1], self.0[next]);
        let part = ((moment - from) / (to - from)).clamp(0.0, 1.0);
        let turn = libm::remainder(east_next - east, 360.0);
        [north + part * (north_next - north), east + part * turn]
    }
}

/// Great-circle distance on a sphere of the mean Earth radius (6371.0088 km, IUGG), by the haversine formula.
fn distance_km(a: [f64; 2], b: [f64; 2]) -> f64 {
    const RADIUS_KM: f64 = 6371.0088;
    let half_sine = |degrees: f64| libm::sin(degrees.to_radians() / 2.0);
    let (north, east) = (half_sine(b[0] - a[0]), half_sine(b[1] - a[1]));
    let cosines = libm::cos(a[0].to_radians()) * libm::cos(b[0].to_radians());
    let haversine = (north * north + cosines * east * east).clamp(0.0, 1.0);
    2.0 * RADIUS_KM * libm::asin(libm::sqrt(haversine))
}

/// A shape such as `file(data/x.csv:count)`, divided by its mean, or by its moving average over `detrend`.
pub(super) fn shape(
    text: &str,
    detrend: Option<Duration>,
    files: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<Series, UnitError> {
    let (name, inside) = application(text)?;
    if name != "file" {
        return Err(UnitError::new(format!("a shape is a file, not `{name}`"))
            .hint("write \"file(data/x.csv:count)\""));
    }
    let mut series = Series::read(inside, files)?;
    let starts: Vec<f64> = series.rows.iter().map(|row| row.0).collect();
    let lengths: Vec<f64> =
        starts.iter().skip(1).chain([&series.end]).zip(&starts).map(|(to, from)| to - from).collect();
    // Running integral of the rate and of time, so that every average is two look-ups.
    let mut integral = vec![(0.0, 0.0)];
    for (row, length) in series.rows.iter().zip(&lengths) {
        let (area, time) = integral[integral.len() - 1];
        integral.push((area + row.1 * length, time + length));
    }
    let mean =
        |from: usize, to: usize| (integral[to].0 - integral[from].0) / (integral[to].1 - integral[from].1);
    let rows = series.rows.len();
    let trend: Vec<f64> = match detrend {
        None => vec![mean(0, rows); rows],
        Some(window) => (0..rows)
            .map(|row| {
                let (from, to) =
                    (starts[row] - window.as_secs_f64() / 2.0, starts[row] + window.as_secs_f64() / 2.0);
                let first = starts.partition_point(|at| *at < from).min(row);
                let past = starts.partition_point(|at| *at <= to).max(row + 1);
                mean(first, past)
            })
            .collect(),
    };
    for (row, trend) in series.rows.iter_mut().zip(trend) {
        row.1 = if trend > 0.0 { row.1 / trend } else { 1.0 };
    }
    Ok(series)
}

/// `600km` or `5000m`, in km.
pub(super) fn parse_distance(text: &str) -> Result<f64, UnitError> {
    let text = text.trim();
    let (number, km) = match (text.strip_suffix("km"), text.strip_suffix('m')) {
        (Some(number), _) => (number, 1.0),
        (None, Some(number)) => (number, 0.001),
        (None, None) => (text, 0.0),
    };
    match number.trim().replace('_', "").parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 && km > 0.0 => Ok(value * km),
        _ => Err(UnitError::new(format!("`{}` is not a distance above zero", super::error::shortened(text)))
            .hint("write \"600km\"")),
    }
}

/// `2018-09-15T06:00Z` or with seconds, in seconds since 1970.
pub(super) fn parse_moment(text: &str) -> Result<f64, UnitError> {
    let wrong = || {
        UnitError::new(format!("`{}` is not a moment in UTC", super::error::shortened(text)))
            .hint("write \"2018-09-15T06:00:00Z\"")
    };
    let bare = text.trim().strip_suffix('Z').ok_or_else(wrong)?;
    let (date, clock) = bare.split_once('T').ok_or_else(wrong)?;
    let numbers = |text: &str, sign: char| -> Option<Vec<i64>> {
        let digits = |part: &str| {
            !part.is_empty() && part.len() <= 4 && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        text.split(sign).map(|part| if digits(part) { part.parse().ok() } else { None }).collect()
    };
    let date = numbers(date, '-').ok_or_else(wrong)?;
    let clock = numbers(clock, ':').ok_or_else(wrong)?;
    let ([year, month, day], [hour, minute, rest @ ..]) = (date.as_slice(), clock.as_slice()) else {
        return Err(wrong());
    };
    let second = match rest {
        [] => 0,
        [second] => *second,
        _ => return Err(wrong()),
    };
    let in_range =
        (1..=12).contains(month) && (1..=31).contains(day) && *hour < 24 && *minute < 60 && second < 61;
    if !in_range {
        return Err(wrong());
    }
    Ok((days(*year, *month, *day) * 86_400 + hour * 3600 + minute * 60 + second) as f64)
}

/// Days since 1970-01-01 in the Gregorian calendar: years start in March, so that the leap day comes last.
pub(super) fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 1
        - 719_468
}

/// Seconds since 1970 as `2018-09-15T06:00:00Z`.
pub(super) fn moment(secs: f64) -> String {
    let secs = secs.floor() as i64;
    let (day, second) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let year = (1970 - 400..).take(1200).take_while(|year| days(*year, 1, 1) <= day).last().unwrap_or(1970);
    let month = (1..=12).take_while(|month| days(year, *month, 1) <= day).last().unwrap_or(1);
    let first = days(year, month, 1);
    format!(
        "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}Z",
        day - first + 1,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_seconds_since_1970() {
        assert_eq!(parse_moment("1970-01-01T00:00Z").unwrap(), 0.0);
        assert_eq!(parse_moment("2000-03-01T00:00:00Z").unwrap(), 951_868_800.0);
        assert_eq!(parse_moment("2018-09-15T06:00Z").unwrap(), 1_536_991_200.0);
        for text in [
            "2018-09-15",
            "2018-09-15T06:00",
            "2018-13-15T06:00Z",
            "x",
            "2018-09-15T06Z",
            "T:Z",
            "2018-09-15T99:00Z",
        ] {
            assert!(parse_moment(text).is_err(), "{text}");
        }
        for secs in [0.0, 951_868_740.0, 1_536_991_200.0, 1_709_164_800.0] {
            assert_eq!(parse_moment(&moment(secs)).unwrap(), secs);
        }
    }

    #[test]
    fn distances_on_the_sphere() {
        // A quarter of a great circle, and Hong Kong to Guam as published calculators give it (about 3400 km).
        assert!((distance_km([0.0, 0.0], [0.0, 90.0]) - 10_007.557).abs() < 0.01);
        assert!((distance_km([22.3, 114.2], [13.45, 144.8]) - 3_365.0).abs() < 40.0);
        assert_eq!(distance_km([22.3, 114.2], [22.3, 114.2]), 0.0);
        assert!((distance_km([0.0, 179.5], [0.0, -179.5]) - 111.195).abs() < 0.01);
    }

    const TRACK: &str = "time_utc,lat_deg_n,lon_deg_e\n\
        2018-09-15T00:00Z,20,120\n2018-09-16T00:00Z,22,116\n2018-09-16T06:00Z,22,114\n";

    fn storm(shape: Option<Series>) -> Storm<'static> {
        Storm {
            track: ("track.csv", TRACK),
            place: [22.0, 114.0],
            speed_up: 12.0,
            start: parse_moment("2018-09-15T00:00Z").unwrap(),
            calm: 50.0,
            peak: 800.0,
            reach: 600.0,
            shape,
            every: Duration::from_secs(10),
        }
    }

    #[test]
    fn the_rate_grows_as_the_storm_comes_near() {
        let profile = storm(None).profile(Duration::from_secs(9000)).unwrap();
        assert_eq!(profile.points.len(), 900);
        assert!(!profile.linear);
        assert!(profile.points.windows(2).all(|pair| pair[0].1 < pair[1].1));
        // 600 km and more away at the start; on top of the place at the end.
        assert!(profile.points[0].1 < 50.0 + 750.0 * libm::exp(-1.0), "{:?}", profile.points[0]);
        assert!((profile.points[899].1 - 800.0).abs() < 0.1, "{:?}", profile.points[899]);
    }

    #[test]
    fn a_storm_is_not_invented() {
        let error = storm(None).profile(Duration::from_secs(9001)).unwrap_err();
        assert_eq!(
            error.message,
            "`track.csv` covers 2018-09-15T00:00:00Z to 2018-09-16T06:00:00Z, and the run needs 2018-09-15T00:00:00Z to 2018-09-16T06:00:12Z"
        );
        let backwards = Track::read(
            "t.csv",
            "time_utc,lat_deg_n,lon_deg_e\n2018-09-16T00:00Z,1,1\n2018-09-15T00:00Z,1,1\n",
        );
        assert!(backwards.is_err());
    }

    #[test]
    fn shapes_have_mean_one() {
        let mut files = |_: &str| Ok("minute,count\n0,60\n1,120\n2,60\n3,240\n".to_owned());
        let flat = shape("file(x.csv:count)", None, &mut files).unwrap();
        let mean = flat.rows.iter().map(|row| row.1).sum::<f64>() / 4.0;
        assert!((mean - 1.0).abs() < 1e-12);
        assert_eq!((flat.at(0.0), flat.at(200.0)), (0.5, 2.0));
        // After its end the shape repeats.
        assert_eq!(flat.at(240.0), 0.5);
        let local = shape("file(x.csv:count)", Some(Duration::from_secs(120)), &mut files).unwrap();
        assert_eq!(local.rows[0].1, 1.0 / 1.5);
    }

    #[test]
    fn distances_carry_units() {
        assert_eq!(parse_distance("600km").unwrap(), 600.0);
        assert_eq!(parse_distance("500 m").unwrap(), 0.5);
        for text in ["600", "km", "-3km", "0km", "NaNkm"] {
            assert!(parse_distance(text).is_err(), "{text}");
        }
    }
}
