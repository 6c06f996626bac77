//! Leader election of Kubernetes: whoever writes his name into a Lease object leads while he renews it in time.
//!
//! ## What it does
//! Each candidate reads the lease every `retry-period` * (1 .. 2.2). It takes the lease if nobody holds it, or if it has seen
//! no change of it for `lease-duration` by its own clock. The holder renews every `retry-period`; if it could not for
//! `renew-deadline`, it stops leading by itself.
//!
//! ## When it helps
//! The group needs no quorum of its own: two members, or one, elect a leader as long as the store of the lease is up.
//!
//! ## How it fails
//! After a crash nobody leads for up to `lease-duration` plus two retries: others see the last renewal one retry late, and find
//! the lease run out one retry late (15 s + twice 2 .. 4.4 s at most). If the store is down, every leader
//! steps down. A holder that hangs goes on believing until it runs again, and a renewal whose answer took longer than
//! `lease-duration` - `renew-deadline` - `retry-period` lets two lead: the lease does not fence.
//!
//! ## Settings
//! Names and defaults as in the component configuration of Kubernetes.
//! * `lease-duration` (`15s`), `renew-deadline` (`10s`), `retry-period` (`2s`): duration > deadline > 1.2 * retry.
//! * `release-on-cancel` (false): a holder that is shut down gives the lease back.
//!
//! ## Origin
//! kubernetes/client-go 32ce75a7, `tools/leaderelection/leaderelection.go` (`NewLeaderElector`, `acquire`, `renew`,
//! `tryAcquireOrRenew`, `isLeaseValid`; `release` as it was before it read first) and
//! `tools/leaderelection/resourcelock/interface.go` (`NewFromKubeconfig`:
//! a request to the store is given up after half the renew deadline, but not before 1 s); pinned by
//! `tests/vectors/balancer/k8s_lease_election.json`.
//!
//! ## Deliberate differences
//! * Who loses the lease stands for election again at once; most programs exit instead and are started anew.
//! * A member that is not eligible reads the lease and does not take it.
//! * Who is shut down stops leading before it gives the lease back; upstream does both at once. Who could not renew in time
//!   does not try to give it back; upstream does, for as long as one request takes, while it still counts as leader.
//! * Every process has a name of its own, as `hostname_uuid` has it, so that a restarted holder waits like everybody else.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Election, Envelope, From, Place, Seat, Standing, To};
use crate::policies::Algorithm;
use crate::random::Rng;
use crate::time::{Duration, Time};

/// A candidate waits between one and this much more retry periods (`JitterFactor`).
const JITTER_FACTOR: f64 = 1.2;

/// Settings of `election.lease`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct LeaseSettings(Written);

/// The settings before they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "LeaseSettings")]
struct Written {
    /// How long others respect a lease that does not change; the store keeps whole seconds of it.
    lease_duration: Duration,
    /// How long the holder tries to renew before it stops leading.
    renew_deadline: Duration,
    /// Time between two tries.
    retry_period: Duration,
    /// A holder that is shut down gives the lease back.
    release_on_cancel: bool,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
            release_on_cancel: false,
        }
    }
}

impl TryFrom<Written> for LeaseSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { lease_duration, renew_deadline, retry_period, .. } = written;
        if lease_duration <= renew_deadline {
            return Err("lease-duration must be greater than renew-deadline (NewLeaderElector)".to_owned());
        }
        if renew_deadline <= Duration::from_ns_f64(JITTER_FACTOR * retry_period.0 as f64) {
            let rule = "renew-deadline must be greater than retry-period * 1.2 (NewLeaderElector)";
            return Err(rule.to_owned());
        }
        if retry_period == Duration::ZERO {
            return Err("retry-period must be greater than zero (NewLeaderElector)".to_owned());
        }
        if lease_duration < Duration::from_secs(1) {
            return Err("lease-duration is kept in whole seconds: it must be at least 1 s".to_owned());
        }
        Ok(Self(written))
    }
}

/// Who holds the lease: a process, by its seat and how often that was started; 0 is nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity(u64);

impl Identity {
    /// Nobody.
    pub const NOBODY: Self = Self(0);

    /// The process that was started last on a seat.
    #[inline]
    pub const fn new(seat: Seat, starts: u32) -> Self {
        Self((seat.0 as u64) << 32 | starts as u64)
    }
}

/// What stands in the lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it.
    pub holder_identity: Identity,
    /// For how many seconds it is respected.
    pub lease_duration_seconds: u64,
    /// How often it has changed hands.
    pub leader_transitions: u64,
}

/// What a candidate and the store of the lease say to each other. `request` tells answers to one question from another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// What stands in it?
    Get {
        /// Number of the request.
        request: u32,
    },
    /// This stands in it, in this version; 0 if there is none yet.
    Found {
        /// Number of the request.
        request: u32,
        /// What stands in it.
        record: Record,
        /// Number of the change that wrote it.
        version: u64,
    },
    /// Write this, if nobody has written since that version.
    Update {
        /// Number of the request.
        request: u32,
        /// What shall stand in it.
        record: Record,
        /// Number of the change that the candidate knows.
        version: u64,
    },
    /// Whether that was done, and the version now.
    Updated {
        /// Number of the request.
        request: u32,
        /// Number of this change; `None` if somebody else was quicker.
        version: Option<u64>,
    },
}

/// The lease object in its store, which lets one of two writers win (`resourceVersion`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Lock {
    record: Record,
    version: u64,
}

impl Lock {
    /// Answers a request.
    pub fn serve(&mut self, message: &Message) -> Option<Message> {
        match *message {
            Message::Get { request } => {
                Some(Message::Found { request, record: self.record, version: self.version })
            }
            Message::Update { request, record, version } => {
                let fits = version == self.version;
                if fits {
                    self.record = record;
                    self.version += 1;
                }
                Some(Message::Updated { request, version: fits.then_some(self.version) })
            }
            Message::Found { .. } | Message::Updated { .. } => None,
        }
    }
}

/// Whether a lease that was last seen to change at `observed_time` is still respected (`isLeaseValid`).
#[inline]
pub fn is_lease_valid(now: Time, observed_time: Time, lease_duration_seconds: u64) -> bool {
    observed_time.0.saturating_add(lease_duration_seconds.saturating_mul(1_000_000_000)) > now.0
}

/// What a candidate may do with the record that it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Another holds it.
    Respect,
    /// It is its own.
    Renew,
    /// It is free or has run out.
    Take,
}

/// The third and fourth step of `tryAcquireOrRenew`.
#[inline]
pub fn claim(now: Time, me: Identity, record: &Record, observed_time: Time) -> Claim {
    if record.holder_identity == me {
        return Claim::Renew;
    }
    let held = record.holder_identity != Identity::NOBODY;
    if held && is_lease_valid(now, observed_time, record.lease_duration_seconds) {
        return Claim::Respect;
    }
    Claim::Take
}

/// Which loop it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    Off,
    /// `acquire`.
    Acquiring,
    /// `renew`: it gives up at this time.
    Renewing(Time),
}

/// Where the present try stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// None; the next begins at this time.
    Idle(Time),
    /// The holder writes without reading first.
    Optimistic(Record),
    Reading,
    Writing(Record),
}

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    settings: Written,
    me: Identity,
    starts: u32,
    observed_record: Record,
    observed_version: u64,
    observed_time: Time,
    run: Run,
    step: Step,
    /// Number of the present request.
    request: u32,
    /// When the present try began.
    began: Time,
    /// When the present request is given up.
    timeout: Time,
}

impl Algorithm for Lease {
    type Settings = LeaseSettings;

    fn new(settings: &LeaseSettings, now: Time) -> Self {
        Self {
            settings: settings.0,
            me: Identity::NOBODY,
            starts: 0,
            observed_record: Record::default(),
            observed_version: 0,
            observed_time: Time::ZERO,
            run: Run::Off,
            step: Step::Idle(now),
            request: 0,
            began: now,
            timeout: now,
        }
    }
}

impl Lease {
    fn own_record(&self) -> Record {
        Record {
            holder_identity: self.me,
            lease_duration_seconds: self.settings.lease_duration.0 / 1_000_000_000,
            leader_transitions: self.observed_record.leader_transitions,
        }
    }

    fn try_acquire_or_renew(&mut self, now: Time, out: &mut Vec<Envelope>) {
        self.began = now;
        let Record { holder_identity, lease_duration_seconds, .. } = self.observed_record;
        if holder_identity == self.me && is_lease_valid(now, self.observed_time, lease_duration_seconds) {
            let record = self.own_record();
            self.step = Step::Optimistic(record);
            return self.write(now, record, out);
        }
        self.read(now, out);
    }

    fn read(&mut self, now: Time, out: &mut Vec<Envelope>) {
        self.step = Step::Reading;
        self.ask(now);
        self.send(Message::Get { request: self.request }, out);
    }

    fn write(&mut self, now: Time, record: Record, out: &mut Vec<Envelope>) {
        self.ask(now);
        self.send(Message::Update { request: self.request, record, version: self.observed_version }, out);
    }

    fn ask(&mut self, now: Time) {
        self.request += 1;
        self.timeout = now + Duration(self.settings.renew_deadline.0 / 2).max(Duration::from_secs(1));
    }

    #[expect(clippy::unused_self, reason = "reads like the other steps")]
    fn send(&self, message: Message, out: &mut Vec<Envelope>) {
        out.push(Envelope { to: To::Lock, message: super::Message::Lease(message) });
    }

    fn set_observed_record(&mut self, now: Time, record: Record, version: u64) {
        self.observed_record = record;
        self.observed_version = version;
        self.observed_time = now;
    }

    /// The present request came to nothing.
    fn request_failed(&mut self, now: Time, rng: &mut Rng, out: &mut Vec<Envelope>) {
        match self.step {
            Step::Optimistic(_) => self.read(now, out),
            _ => self.try_failed(now, rng),
        }
    }

    fn try_failed(&mut self, now: Time, rng: &mut Rng) {
        let retry = self.settings.retry_period;
        self.step = Step::Idle(match self.run {
            // A ticker: a tick that a slow try has missed comes at once.
            Run::Renewing(_) => (self.began + retry).max(now),
            _ => now + retry + Duration::from_ns_f64(rng.unit() * JITTER_FACTOR * retry.0 as f64),
        });
    }

    fn try_succeeded(&mut self, now: Time) {
        // Who has just got it renews at once; then each renewal waits one period after the last.
        let next = if self.is_leader() { now + self.settings.retry_period } else { now };
        self.run = Run::Renewing(next + self.settings.renew_deadline);
        self.step = Step::Idle(next);
    }

    /// Says that nobody holds the lease any more (`release`).
    fn release(&mut self, now: Time, out: &mut Vec<Envelope>) {
        if self.observed_record.holder_identity == self.me {
            let leader_transitions = self.observed_record.leader_transitions;
            let record =
                Record { holder_identity: Identity::NOBODY, lease_duration_seconds: 1, leader_transitions };
            self.write(now, record, out);
        }
    }
}

impl Election for Lease {
    fn on_start(
        &mut self,
        now: Time,
        place: Place,
        standing: Standing,
        rng: &mut Rng,
        out: &mut Vec<Envelope>,
    ) {
        self.starts += 1;
        self.me = Identity::new(place.me, self.starts);
        self.observed_record = Record::default();
        self.observed_version = 0;
        self.run = Run::Acquiring;
        self.step = Step::Idle(now);
        self.on_wakeup(now, standing, rng, out);
    }

    fn on_message(
        &mut self,
        now: Time,
        _from: From,
        message: &super::Message,
        standing: Standing,
        rng: &mut Rng,
        out: &mut Vec<Envelope>,
    ) {
        let super::Message::Lease(message) = *message else { return };
        if self.run == Run::Off {
            return;
        }
        match (message, self.step) {
            (Message::Found { request, record, version }, Step::Reading) if request == self.request => {
                if version != self.observed_version || version == 0 {
                    self.set_observed_record(now, record, version);
                }
                let claim = claim(self.began, self.me, &record, self.observed_time);
                if claim == Claim::Respect || claim == Claim::Take && !standing.eligible {
                    return self.try_failed(now, rng);
                }
                let mut record = self.own_record();
                // The first one creates the record.
                record.leader_transitions += u64::from(claim == Claim::Take && version > 0);
                self.step = Step::Writing(record);
                self.write(now, record, out);
            }
            (Message::Updated { request, version }, Step::Optimistic(record) | Step::Writing(record))
                if request == self.request =>
            {
                match version {
                    Some(version) => {
                        self.set_observed_record(now, record, version);
                        self.try_succeeded(now);
                        self.on_wakeup(now, standing, rng, out);
                    }
                    None => self.request_failed(now, rng, out),
                }
            }
            _ => {}
        }
    }

    fn on_wakeup(&mut self, now: Time, _standing: Standing, rng: &mut Rng, out: &mut Vec<Envelope>) {
        match self.run {
            Run::Off => return,
            Run::Renewing(deadline) if now >= deadline => {
                self.run = Run::Acquiring;
                self.step = Step::Idle(now);
            }
            _ => {}
        }
        match self.step {
            Step::Idle(next) if now >= next => self.try_acquire_or_renew(now, out),
            Step::Idle(_) => {}
            _ if now >= self.timeout => self.request_failed(now, rng, out),
            _ => {}
        }
    }

    fn on_shutdown(&mut self, now: Time, out: &mut Vec<Envelope>) {
        if self.is_leader() && self.settings.release_on_cancel {
            self.release(now, out);
        }
        self.run = Run::Off;
    }

    fn next_wakeup(&self) -> Option<Time> {
        let step = match self.step {
            Step::Idle(next) => next,
            _ => self.timeout,
        };
        match self.run {
            Run::Off => None,
            Run::Acquiring => Some(step),
            Run::Renewing(deadline) => Some(step.min(deadline)),
        }
    }

    fn is_leader(&self) -> bool {
        matches!(self.run, Run::Renewing(_))
    }

    fn term(&self) -> u64 {
        self.observed_record.leader_transitions
    }
}
