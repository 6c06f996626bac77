//! Where requests come from, and what becomes of them.

use crate::kernel::queue::{Payload, Queue};
use crate::policies::view::Class;
use crate::random::{Key, Stream, below, variate};
use crate::stats::histogram::{Totals, Window};
use crate::time::{Duration, Time};

use super::call::{Origin, RequestRecord};
use super::consistency::Bonds;
use super::frame::{AWAITED, Frame, NIL, Side};
use super::spec::{Arrivals, NO_RING, Rate};
use super::telemetry::{Integral, Moments};
use super::{ARRIVAL, Flow, Full, USER, World};

/// A source while the world runs.
pub(super) struct Source {
    /// Root of its requests' keys.
    key: Key,
    stream: Stream,
    cursor: Cursor,
    /// First outbound of client 0.
    pub(super) outbounds: u32,
    /// First user in the numbering of `USER` events.
    pub(super) users: u32,
    /// Requests each user has made.
    cycles: Vec<u32>,
    pub(super) live: bool,
    /// Share of requests that operators let in.
    pub(super) share: f64,
    /// Requests sent from here on count.
    pub(super) counted_from: Time,
    /// Requests so far.
    pub(super) arrivals: u64,
    pub(super) outcomes: Outcomes,
    /// The same, only for requests sent in the counted part.
    pub(super) counted: Outcomes,
    pub(super) counted_arrivals: u64,
    pub(super) inconsistent: u64,
    /// Good answers of lower quality, of counted requests.
    pub(super) degraded: u64,
    pub(super) latency: Moments,
    pub(super) histogram: Totals,
    /// Good answers of the present window.
    pub(super) window: Window,
    pub(super) in_system: Integral,
    /// Sum of the times that finished requests spent in the system, ns.
    pub(super) time_sum: u128,
}

/// How requests ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcomes {
    pub(super) good: u64,
    pub(super) failed: u64,
    pub(super) timed_out: u64,
    pub(super) rejected: u64,
    pub(super) abandoned: u64,
}

impl Outcomes {
    #[inline]
    const fn add(&mut self, class: Class) {
        match class {
            Class::Success => self.good += 1,
            Class::Failure => self.failed += 1,
            Class::Timeout => self.timed_out += 1,
            Class::Rejected => self.rejected += 1,
            Class::Abandoned => self.abandoned += 1,
        }
    }

    pub(super) const fn merge(&mut self, other: Self) {
        self.good += other.good;
        self.failed += other.failed;
        self.timed_out += other.timed_out;
        self.rejected += other.rejected;
        self.abandoned += other.abandoned;
    }

    pub(super) const fn all(&self) -> u64 {
        self.good + self.failed + self.timed_out + self.rejected + self.abandoned
    }
}

/// Where a source is in its profile, cycle of states or trace.
#[derive(Clone, Debug)]
struct Cursor {
    segment: usize,
    /// Mean gap in ns while the rate is constant for ever; 0 otherwise.
    constant_gap: f64,
    /// End of the present state (Markov-modulated).
    state_ends: Time,
}

const CLIENT_SALT: u64 = 0x636c_6965_6e74_2d73;
const SHARE_SALT: u64 = 0x7368_6172_652d_736c;
const THINK_SALT: u64 = 0x7468_696e_6b2d_736c;

impl Source {
    pub(super) fn new(
        spec: &super::spec::SourceSpec,
        seed: u64,
        counted_from: Time,
        outbounds: u32,
        users: u32,
    ) -> Self {
        let constant_gap = match &spec.arrivals {
            Arrivals::Poisson(rate) | Arrivals::Deterministic(rate)
                if rate.sine.is_none() && rate.points.len() == 1 && rate.points[0].1 > 0.0 =>
            {
                1e9 / rate.points[0].1
            }
            _ => 0.0,
        };
        let count = if let Arrivals::Users { count, .. } = spec.arrivals { count } else { 0 };
        Self {
            key: Key::new(seed).named("request").named(&spec.name),
            stream: Stream::new(seed, "arrivals", &spec.name),
            cursor: Cursor { segment: 0, constant_gap, state_ends: Time::ZERO },
            outbounds,
            users,
            cycles: vec![0; count as usize],
            live: true,
            share: 1.0,
            counted_from,
            arrivals: 0,
            outcomes: Outcomes::default(),
            counted: Outcomes::default(),
            counted_arrivals: 0,
            inconsistent: 0,
            degraded: 0,
            latency: Moments::default(),
            histogram: Totals::new(),
            window: Window::new(),
            in_system: Integral::default(),
            time_sum: 0,
        }
    }

    /// Users of a closed loop.
    pub(super) fn user_count(&self) -> u32 {
        self.cycles.len() as u32
    }
}

impl World<'_> {
    /// Schedules what each source does first.
    pub(super) fn begin_sources(&mut self, queue: &mut Queue) {
        for index in 0..self.sources.len() {
            if let Arrivals::Users { think, .. } = &self.spec.sources[index].arrivals {
                let source = &self.sources[index];
                for user in 0..source.user_count() {
                    let key = Key(source.key.with(u64::from(user)).0 ^ THINK_SALT);
                    let first = think.sample_duration(&mut key.with(0).draws());
                    queue.push(Time::ZERO + first, Payload::new(USER, source.users + user));
                }
            } else {
                self.schedule_arrival(Time::ZERO, queue, index);
            }
        }
    }

    /// Schedules the next arrival of a source, if there is one before the end.
    #[inline(always)]
    fn schedule_arrival(&mut self, now: Time, queue: &mut Queue, index: usize) {
        let (spec, source) = (&self.spec.sources[index], &mut self.sources[index]);
        let next = if source.cursor.constant_gap > 0.0 && matches!(spec.arrivals, Arrivals::Poisson(_)) {
            Some(now + Duration::from_ns_f64(variate::exp1(&mut source.stream) * source.cursor.constant_gap))
        } else {
            next_arrival(&spec.arrivals, source, now, self.spec.end)
        };
        match next {
            Some(at) if at < self.spec.end && source.arrivals < spec.requests => {
                queue.push(at, Payload::new(ARRIVAL, index as u32));
            }
            _ => self.dry_up(index),
        }
    }

    /// A source has nothing more to send. Unless its requests are used up, the run still goes on to its end.
    #[cold]
    fn dry_up(&mut self, index: usize) {
        if self.sources[index].arrivals >= self.spec.sources[index].requests {
            self.retire(index);
        }
    }

    /// The counted part is over: no source sends anything from here on.
    pub(super) fn retire_all(&mut self) {
        for index in 0..self.sources.len() {
            self.retire(index);
        }
    }

    fn retire(&mut self, index: usize) {
        if std::mem::replace(&mut self.sources[index].live, false) {
            self.live_sources -= 1;
            self.over = self.live_sources == 0 && self.open_roots == 0;
        }
    }

    /// A request of an open loop begins.
    #[inline(always)]
    pub(super) fn on_arrival(&mut self, now: Time, queue: &mut Queue, index: u32) -> Flow {
        let number = self.sources[index as usize].arrivals;
        let key = self.sources[index as usize].key.with(number);
        self.begin_request(now, queue, index as usize, key, NIL)?;
        self.schedule_arrival(now, queue, index as usize);
        Ok(())
    }

    /// A user of a closed loop makes the next request.
    pub(super) fn on_user(&mut self, now: Time, queue: &mut Queue, user: u32) -> Flow {
        // The last one that starts at or before it; open loops have no users and start where the next one does.
        let last = self.sources.partition_point(|source| source.users <= user);
        let index =
            (0..last).rev().find(|&at| self.sources[at].user_count() > 0).expect("users belong to a source");
        if now >= self.spec.end || self.sources[index].arrivals >= self.spec.sources[index].requests {
            self.retire(index);
            return Ok(());
        }
        let source = &mut self.sources[index];
        let member = user - source.users;
        source.cycles[member as usize] += 1;
        let key = source.key.with(u64::from(member)).with(u64::from(source.cycles[member as usize]));
        self.begin_request(now, queue, index, key, user)
    }

    #[inline(always)]
    fn begin_request(&mut self, now: Time, queue: &mut Queue, index: usize, key: Key, user: u32) -> Flow {
        let (spec, source) = (&self.spec.sources[index], &mut self.sources[index]);
        source.arrivals += 1;
        source.counted_arrivals += u64::from(now >= source.counted_from);
        source.in_system.up(now);
        self.open_roots += 1;
        let share = source.share;
        let client = if spec.clients == 1 { 0 } else { below((key.0 ^ CLIENT_SALT) as u32, spec.clients) };
        let first = source.outbounds + client * spec.edges.len() as u32;
        let request = if self.tracks_requests {
            let record = RequestRecord {
                refs: 1,
                user,
                source: index as u32,
                key: key.0,
                versions: [0; 8],
                bonds: Bonds::default(),
                inconsistent: false,
                degraded: false,
                errand: NIL,
            };
            let request = self.requests.insert(record).ok_or(Full::InFlight)?;
            if self.tracer.is_some() {
                self.trace_request(now, index as u32, key.0, request);
            }
            request
        } else {
            NIL
        };
        if share < 1.0 && Key(key.0 ^ SHARE_SALT).draws().unit() >= share {
            self.root_done(now, queue, index as u32, now, request, Class::Rejected);
            self.let_go(request);
            return Ok(());
        }
        if let Some(call) = spec.direct {
            let edge = u32::from(self.spec.calls[call as usize].edge);
            let origin = Origin {
                parent: NIL,
                parent_pc: 0,
                outbound: first + edge,
                request,
                tag: 0,
                priority: spec.priority,
            };
            self.place(now, queue, call, key.0, &origin)?;
            self.let_go(request);
            return Ok(());
        }
        let frame = Frame {
            started: now,
            arrived: now,
            key: key.0,
            next: index as u32,
            parent: NIL,
            instance: NIL,
            outbound: first,
            pc: spec.entry,
            parent_pc: 0,
            pending: 0,
            need: 0,
            slack: 0,
            flags: AWAITED,
            ring: spec.deadline,
            priority: spec.priority,
            zone: spec.zone as u16,
        };
        let slot = self.frames.insert(frame).ok_or(Full::InFlight)?;
        if self.has_sides {
            let mut side = Side { request, ..Side::EMPTY };
            if spec.propagate_deadline && spec.deadline != NO_RING {
                side.deadline = now + self.rings[spec.deadline as usize].delay();
            }
            self.put_side(slot, side);
            if self.watching != 0 {
                self.reckon(slot);
            }
        }
        if spec.deadline != NO_RING {
            self.rings[spec.deadline as usize].arm(now, slot, queue);
        }
        self.advance(now, queue, slot)
    }

    /// A request is over for its user.
    #[inline(always)]
    pub(super) fn root_done(
        &mut self,
        now: Time,
        queue: &mut Queue,
        index: u32,
        started: Time,
        request: u32,
        class: Class,
    ) {
        // Behind the sources come those who send probes; what no source has sent is an errand.
        let Some(source) = self.sources.get_mut(index as usize) else {
            if index == NIL {
                return self.errand_answered(now, queue, request, class);
            }
            return self.probe_answered(now, queue, index, class);
        };
        source.in_system.down(now);
        let latency = (now - started).0;
        source.time_sum += u128::from(latency);
        source.outcomes.add(class);
        let counted = started >= source.counted_from;
        if counted {
            source.counted.add(class);
        }
        if class == Class::Success {
            self.telemetry.recovery.slow += u64::from(latency > self.slow_above);
            source.window.record(latency);
            if counted {
                source.latency.add(latency);
                source.histogram.record(latency);
            }
        }
        self.open_roots -= 1;
        self.over = self.open_roots == 0 && self.live_sources == 0;
        if request != NIL {
            self.request_over(now, queue, index, request, class, counted);
        }
    }

    /// Version bookkeeping, and the user thinks about the answer.
    #[inline(never)]
    fn request_over(
        &mut self,
        now: Time,
        queue: &mut Queue,
        index: u32,
        request: u32,
        class: Class,
        counted: bool,
    ) {
        if self.tracer.is_some() {
            self.trace_over(now, request, class);
        }
        let RequestRecord { user, key, inconsistent, degraded, .. } = self.requests[request];
        let source = &mut self.sources[index as usize];
        source.degraded += u64::from(degraded && counted && class == Class::Success);
        if inconsistent && counted {
            source.inconsistent += 1;
            self.telemetry.note_inconsistent(key);
        }
        if user == NIL {
            return;
        }
        let Arrivals::Users { think, leave, away, .. } = &self.spec.sources[index as usize].arrivals else {
            return;
        };
        let member = user - source.users;
        let key = Key(source.key.with(u64::from(member)).0 ^ THINK_SALT);
        let mut rng = key.with(u64::from(source.cycles[member as usize])).draws();
        let pause = think.sample_duration(&mut rng);
        let upset = class != Class::Success && *leave > 0.0 && rng.unit() < *leave;
        let pause = if upset { away.sample_duration(&mut rng) } else { pause };
        queue.push(now + pause, Payload::new(USER, user));
    }
}

/// The next arrival after `now`, or `None` if there is none before `end`.
fn next_arrival(arrivals: &Arrivals, source: &mut Source, now: Time, end: Time) -> Option<Time> {
    match arrivals {
        Arrivals::Poisson(rate) => {
            let work = variate::exp1(&mut source.stream);
            if let Some((amplitude, period, phase)) = rate.sine {
                return Some(thinned(
                    rate.points[0].1,
                    amplitude,
                    period,
                    phase,
                    now,
                    work,
                    &mut source.stream,
                ));
            }
            passed(rate, &mut source.cursor.segment, now, work)
        }
        Arrivals::Deterministic(rate) => {
            if let Some((amplitude, period, phase)) = rate.sine {
                let angle = phase_angle(now, period, phase);
                let current = rate.points[0].1 + amplitude * libm::sin(angle);
                return Some(now + Duration::from_ns_f64(1e9 / current.max(1e-9)));
            }
            passed(rate, &mut source.cursor.segment, now, 1.0)
        }
        Arrivals::Renewal(gap) => Some(now + gap.sample_duration(&mut source.stream)),
        Arrivals::Mmpp(states) => Some(modulated(states, source, now, end)),
        Arrivals::Trace(times) => {
            let at = times.get(source.cursor.segment).copied();
            source.cursor.segment += 1;
            at
        }
        Arrivals::Users { .. } => None,
    }
}

/// When the integral of the rate from `now` reaches `work` (in requests).
fn passed(rate: &Rate, segment: &mut usize, now: Time, mut work: f64) -> Option<Time> {
    let points = &rate.points;
    let mut at = now;
    while *segment + 1 < points.len() && points[*segment + 1].0 <= at {
        *segment += 1;
    }
    loop {
        let (start, base) = points[*segment];
        let next = points.get(*segment + 1);
        let slope = match next {
            Some(&(end, to)) if rate.linear => (to - base) / (end - start).as_secs_f64(),
            _ => 0.0,
        };
        let current = slope.mul_add((at - start).as_secs_f64(), base);
        let left = next.map(|&(end, _)| (end - at).as_secs_f64());
        let held = left.map(|left| left * (current + slope * left / 2.0));
        if held.is_none_or(|held| work <= held) {
            // Solves current x + slope x^2 / 2 = work, in the form that is stable for small slopes.
            let root = libm::sqrt((current * current + 2.0 * slope * work).max(0.0));
            if current + root <= 0.0 {
                return None;
            }
            return Some(at + Duration::from_secs_f64(2.0 * work / (current + root)));
        }
        work -= held.unwrap_or(0.0);
        *segment += 1;
        at = points[*segment].0;
    }
}

/// Lewis and Shedler's thinning, exact for a sinusoidal rate.
fn thinned(
    base: f64,
    amplitude: f64,
    period: Duration,
    phase: f64,
    now: Time,
    first: f64,
    stream: &mut Stream,
) -> Time {
    let peak = base + amplitude;
    let (mut at, mut work) = (now, first);
    loop {
        at += Duration::from_ns_f64(work * 1e9 / peak);
        let rate = base + amplitude * libm::sin(phase_angle(at, period, phase));
        if stream.unit() * peak < rate {
            return at;
        }
        work = variate::exp1(stream);
    }
}

fn phase_angle(at: Time, period: Duration, phase: f64) -> f64 {
    let wave = (at.0 % period.0) as f64 / period.0 as f64 + phase;
    wave * std::f64::consts::TAU
}

/// Markov-modulated: within a state arrivals are Poisson; states follow each other in a cycle.
fn modulated(states: &[(f64, Duration)], source: &mut Source, now: Time, end: Time) -> Time {
    let stream = &mut source.stream;
    let cursor = &mut source.cursor;
    if cursor.state_ends == Time::ZERO {
        cursor.state_ends = now + Duration::from_ns_f64(variate::exp1(stream) * states[0].1.0 as f64);
    }
    let mut at = now;
    loop {
        let rate = states[cursor.segment].0;
        if rate > 0.0 {
            let next = at + Duration::from_ns_f64(variate::exp1(stream) * 1e9 / rate);
            if next < cursor.state_ends {
                return next;
            }
        }
        at = cursor.state_ends;
        if at >= end {
            return at;
        }
        cursor.segment = (cursor.segment + 1) % states.len();
        let mean = states[cursor.segment].1.0 as f64;
        cursor.state_ends = at + Duration::from_ns_f64(variate::exp1(stream) * mean);
    }
}
