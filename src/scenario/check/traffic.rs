//! Sources and what drives them.

use super::Check;
use super::calls::Owner;
use crate::random::law::Law;
use crate::scenario::de::{Named, Spanned};
use crate::scenario::error::{Diagnostic, Place};
use crate::scenario::model::{Arrivals, Edge, Profile, Source, Step, Users};
use crate::scenario::profile::{self, Csv};
use crate::scenario::schema::{
    ArrivalsChoice, EdgeTable, MmppTable, RateTable, RenewalTable, SourceTable, StormTable, TraceTable,
    UsersTable,
};
use crate::scenario::storm::{self, Storm};
use crate::time::{Duration, Time};
use crate::units::UnitError;

/// Each client owns its policies, so their number is bounded like a population, not like traffic.
const MOST_CLIENTS: u64 = 1_000_000;

impl Check<'_> {
    pub(super) fn source(&mut self, table: &SourceTable) -> Source {
        let mut edges: Vec<Edge> = Vec::new();
        let steps = self.journey(table, &table.call, &mut edges);
        self.unused_edges("source", &table.name.value, &table.call, &edges);
        if let Some(zone) = &table.zone {
            self.well_formed("zone", zone, false);
        }
        if let Some(clients) = &table.clients {
            self.at_most(u64::from(clients.value), MOST_CLIENTS, "clients", clients.place);
        }
        if let Some(propagate) = &table.propagate_deadline
            && propagate.value
            && table.deadline.is_none()
        {
            let error = Diagnostic::new("there is no deadline to propagate").at(propagate.place);
            self.errors.push(error.hint("write deadline = \"2s\""));
        }
        Source {
            name: table.name.value.clone(),
            steps,
            edges,
            clients: self.one_or_more(table.clients.as_ref(), "clients", 1),
            zone: table.zone.as_ref().and_then(|zone| self.zone_named(zone)),
            arrivals: {
                self.most_requests = table.requests;
                self.arrivals(&table.arrivals)
            },
            requests: table.requests,
            deadline: table.deadline.as_ref().map(|deadline| self.some_time(deadline, "deadline")),
            priority: table.priority.map_or(0, |priority| priority.value),
            propagate_deadline: table.propagate_deadline.is_some_and(|propagate| propagate.value),
            carries: self.carried(table, matches!(table.arrivals.value, ArrivalsChoice::Users(_))),
        }
    }

    fn journey(&mut self, table: &SourceTable, own: &Named<EdgeTable>, edges: &mut Vec<Edge>) -> Vec<Step> {
        match (&table.to, &table.steps) {
            (Some(to), None) => {
                let call = Spanned { value: format!("call {}", to.value), place: to.place };
                // `to` names an endpoint and nothing else, so it is looked up before it becomes a step.
                match self.endpoint(&to.value, to.place) {
                    Some(_) => self.steps(Owner::Source, &[call], own, edges),
                    None => Vec::new(),
                }
            }
            (None, Some(steps)) => {
                if steps.value.is_empty() {
                    self.wrong("a journey needs at least one step", steps.place);
                }
                self.steps(Owner::Source, &steps.value, own, edges)
            }
            (Some(_), Some(steps)) => {
                let error = Diagnostic::new("a source has either `to` or `steps`").at(steps.place);
                self.errors.push(error.hint("`to = \"a.x\"` is short for `steps = [\"call a.x\"]`"));
                Vec::new()
            }
            (None, None) => {
                let error = Diagnostic::new(format!("where do the requests of `{}` go?", table.name.value));
                self.errors.push(error.at(table.name.place).hint("write to = \"service.endpoint\""));
                Vec::new()
            }
        }
    }

    fn arrivals(&mut self, choice: &Spanned<ArrivalsChoice>) -> Arrivals {
        let place = choice.place;
        match &choice.value {
            ArrivalsChoice::Poisson(table) => Arrivals::Poisson(self.rate(table, place)),
            ArrivalsChoice::Deterministic(table) => Arrivals::Deterministic(self.rate(table, place)),
            ArrivalsChoice::Renewal(table) => Arrivals::Renewal(self.renewal(table)),
            ArrivalsChoice::Mmpp(table) => Arrivals::Mmpp(self.mmpp(table)),
            ArrivalsChoice::Trace(table) => Arrivals::Trace(self.trace(table)),
            ArrivalsChoice::Users(table) => Arrivals::Users(self.users(table)),
        }
    }

    fn rate(&mut self, table: &RateTable, place: Place) -> Profile {
        let (mut profile, place) = match (&table.rate, &table.profile, &table.storm) {
            (Some(rate), None, None) => (profile::constant(rate.value.0), rate.place),
            (None, Some(text), None) => (self.profile(text), text.place),
            (None, None, Some(storm)) => (self.storm(storm), storm.place),
            (None, None, None) => {
                let error = Diagnostic::new("how often do requests come?").at(place);
                self.errors
                    .push(error.hint("write rate = \"90/s\" or profile = \"ramp(0s: 10/s, 10min: 100/s)\""));
                return profile::constant(1.0);
            }
            _ => {
                self.wrong("only one of `rate`, `profile` and `storm` can be given", place);
                return profile::constant(1.0);
            }
        };
        if let Some(scale) = &table.scale {
            let factor = self.at_least(scale.value, 0.0, "scale", scale.place);
            profile::scale(&mut profile, factor);
        }
        self.bounded(mean_count(&profile, self.duration), place);
        profile
    }

    fn profile(&mut self, text: &Spanned<String>) -> Profile {
        let files = &mut *self.files;
        let mut read = |path: &str| files.data(text.place.file, path).map(str::to_owned);
        match profile::parse(&text.value, &mut read) {
            Ok(profile) => profile,
            Err(error) => {
                self.whole_string(error, text.place);
                profile::constant(1.0)
            }
        }
    }

    fn storm(&mut self, storm: &Spanned<StormTable>) -> Profile {
        let table = &storm.value;
        let before = self.errors.len();
        let reach = storm::parse_distance(&table.reach.value);
        let start = storm::parse_moment(&table.start.value);
        let track = self.files.data(table.track.place.file, &table.track.value).map(str::to_owned);
        let shape = table.shape.as_ref().map(|text| {
            let files = &mut *self.files;
            let mut read = |path: &str| files.data(text.place.file, path).map(str::to_owned);
            let detrend = table.detrend.map(|detrend| detrend.value);
            storm::shape(&text.value, detrend, &mut read).map_err(|error| (error, text.place))
        });
        let reach = self.or_report(reach.map_err(|error| (error, table.reach.place)));
        let start = self.or_report(start.map_err(|error| (error, table.start.place)));
        let track = self.or_report(track.map_err(|message| (UnitError::new(message), table.track.place)));
        let shape = shape.and_then(|shape| self.or_report(shape));
        let [north, east] = table.place.value;
        if !(-90.0..=90.0).contains(&north) || !(-360.0..=360.0).contains(&east) {
            self.wrong("a place is [degrees north, degrees east]", table.place.place);
        }
        if table.peak.value.0 < table.calm.value.0 {
            self.wrong("`peak` is lower than `calm`", table.peak.place);
        }
        let speed_up = table
            .speed_up
            .map_or(1.0, |speed_up| self.above_zero(speed_up.value, "speed-up", speed_up.place));
        let every = table.every.map_or(Duration::from_secs(10), |every| self.some_time(&every, "every"));
        if let Some(detrend) = &table.detrend {
            self.some_time(detrend, "detrend");
        }
        let (Some(reach), Some(start), Some(track)) = (reach, start, track) else {
            return profile::constant(1.0);
        };
        if self.errors.len() > before {
            return profile::constant(1.0);
        }
        let storm = Storm {
            track: (&table.track.value, &track),
            place: table.place.value,
            speed_up,
            start,
            calm: table.calm.value.0,
            peak: table.peak.value.0,
            reach,
            shape,
            every,
        };
        let profile = storm.profile(self.duration).map_err(|error| (error, table.track.place));
        self.or_report(profile).unwrap_or_else(|| profile::constant(1.0))
    }

    fn or_report<T>(&mut self, read: Result<T, (UnitError, Place)>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err((error, place)) => {
                self.whole_string(error, place);
                None
            }
        }
    }

    /// An error that points at a whole string: its columns are those of a piece or of another file.
    pub(super) fn whole_string(&mut self, error: UnitError, place: Place) {
        let UnitError { message, hint, .. } = error;
        self.errors.push(Diagnostic { hint, ..Diagnostic::new(message).at(place) });
    }

    fn renewal(&mut self, table: &RenewalTable) -> Law {
        let law = self.law(&table.gap);
        if law.mean() <= 0.0 {
            self.wrong("gaps without length would send endless requests at one instant", table.gap.place);
        } else {
            self.bounded(self.duration.0 as f64 / law.mean(), table.gap.place);
        }
        law
    }

    fn mmpp(&mut self, table: &MmppTable) -> Vec<(f64, Duration)> {
        let states = &table.states;
        if states.value.is_empty() {
            self.wrong("`states` needs at least one state", states.place);
            return Vec::new();
        }
        let read: Vec<(f64, Duration)> =
            states.value.iter().map(|state| (state.rate.0, self.some_time(&state.lasts, "lasts"))).collect();
        let round: f64 = read.iter().map(|(_, lasts)| lasts.as_secs_f64()).sum();
        let sent: f64 = read.iter().map(|(rate, lasts)| rate * lasts.as_secs_f64()).sum();
        if round > 0.0 {
            self.bounded(sent / round * self.duration.as_secs_f64(), states.place);
        }
        read
    }

    fn trace(&mut self, table: &TraceTable) -> Vec<Time> {
        let path = &table.file.value;
        let text = match self.files.data(table.file.place.file, path) {
            Ok(text) => text.to_owned(),
            Err(message) => {
                self.wrong(message, table.file.place);
                return Vec::new();
            }
        };
        match arrival_times(path, &text, &table.column.value) {
            Ok(times) => {
                self.within_limit(
                    times.len() as u64,
                    "requests",
                    self.limits.requests,
                    "requests",
                    Some(table.file.place),
                );
                if times.first().is_some_and(|first| first.0 >= self.duration.0) {
                    self.warnings
                        .push(format!("`{path}` starts after the end of the run: it sends no request"));
                }
                times
            }
            Err(error) => {
                let missing = error.message.contains("has no column");
                self.whole_string(error, if missing { table.column.place } else { table.file.place });
                Vec::new()
            }
        }
    }

    fn users(&mut self, table: &UsersTable) -> Users {
        let count = self.one_or_more(Some(&table.count), "count", 1);
        let limit = self.limits.in_flight;
        self.within_limit(u64::from(count), "users", limit, "in-flight", Some(table.count.place));
        Users {
            count,
            think: self.law(&table.think),
            leave: table.leave.map_or(0.0, |share| share.0),
            away: self.law_or_zero(table.away.as_ref()),
        }
    }

    /// Refuses traffic that would break the limit of requests anyway, before a second is simulated.
    fn bounded(&mut self, requests: f64, place: Place) {
        let limit = self.limits.requests;
        let requests = self.most_requests.map_or(requests, |most| requests.min(most as f64));
        if requests > limit as f64 {
            let error =
                Diagnostic::new(format!("about {requests:.3e} requests are more than the limit of {limit}"));
            self.errors.push(error.at(place).hint("if that is meant, raise `requests` under [limits]"));
        }
    }
}

/// Expected number of requests of a profile.
fn mean_count(profile: &Profile, duration: Duration) -> f64 {
    let end = Time(duration.0);
    let points = profile.points.iter().take_while(|(at, _)| *at < end);
    points
        .enumerate()
        .map(|(at, &(from, rate))| {
            let next = profile.points.get(at + 1);
            let to = next.map_or(end, |(to, _)| (*to).min(end));
            let last = if profile.linear { next.map_or(rate, |(_, rate)| *rate) } else { rate };
            f64::midpoint(rate, last) * to.since(from).as_secs_f64()
        })
        .sum()
}

/// The instants of a trace, ascending. The unit stands in the name of the column.
fn arrival_times(path: &str, text: &str, column: &str) -> Result<Vec<Time>, UnitError> {
    let table = Csv::read(path, text)?;
    let at = table.column(column)?;
    let seconds = match column.rsplit_once('_').map(|(_, unit)| unit) {
        Some("ms") => 1e-3,
        Some("us") => 1e-6,
        Some("ns") => 1e-9,
        Some("min") => 60.0,
        _ => 1.0,
    };
    let mut times: Vec<Time> = Vec::with_capacity(table.rows.len());
    for (line, cells) in &table.rows {
        let value = profile::number(path, *line, column, cells.get(at))?;
        if value < 0.0 {
            return Err(UnitError::new(format!("`{path}`, line {line}: the time {value} is negative")));
        }
        let time = Time(Duration::from_secs_f64(value * seconds).0);
        if times.last().is_some_and(|before| *before > time) {
            return Err(UnitError::new(format!("`{path}`, line {line}: the time goes back"))
                .hint(format!("sort the rows by `{column}`")));
        }
        times.push(time);
    }
    if times.is_empty() {
        return Err(UnitError::new(format!("`{path}` has no rows")));
    }
    Ok(times)
}
