//! Netflix Eureka: leases that endpoints renew, caches of caches, and self-preservation.
//!
//! ## What it does
//! An endpoint renews its lease every `lease-renewal-interval`. Every `eviction-interval` a task looks for leases that have
//! run out. Because a renewal already adds the length of the lease and the check adds it again, a renewed lease lives twice as
//! long as it says (180 s by default); one that was never renewed lives once. If fewer renewals came in the last whole minute
//! than `renewal-percent-threshold` of what is expected from all that are registered, nobody is evicted at all
//! (*self-preservation*). Otherwise one run evicts at most 15 % of all, chosen at random. Clients fetch every
//! `registry-fetch-interval` from a copy that is refreshed every `response-cache-update-interval`.
//!
//! ## When it helps
//! The registry outlives a partition: stale views keep serving, and nobody has to agree on anything.
//!
//! ## How it fails
//! A dead endpoint stays in the views for up to 180 + 60 + 30 + 30 s. In a small service one death is more than 15 %, and
//! self-preservation keeps the dead on the list for ever.
//!
//! ## Settings
//! * `lease-renewal-interval` (default `30s`), `lease-expiration-duration` (default `90s`), `eviction-interval` (default
//!   `60s`), `renewal-percent-threshold` (default `85%`), `enable-self-preservation` (default true),
//!   `response-cache-update-interval` (default `30s`), `registry-fetch-interval` (default `30s`).
//!
//! ## Origin
//! Netflix/eureka 61acc83d, `AbstractInstanceRegistry.java` (`evict`, `updateRenewsPerMinThreshold`),
//! `PeerAwareInstanceRegistryImpl.java` (`isLeaseExpirationEnabled`), `Lease.java` (`renew`, `isExpired`), `MeasuredRate.java`;
//! pinned by `tests/vectors/balancer/eureka_lease.json`.
//!
//! ## Deliberate differences
//! * One server without peers. `wait-time-in-ms-when-sync-empty` and the update of the threshold every 15 min do not exist: the
//!   expected number follows registrations and cancellations, as it does upstream in between.
//! * An endpoint registers as soon as it is ready (as Spring Cloud does); upstream's client waits for its first heartbeat.
//! * The clients' own further caches (Ribbon, 30 s) are not here.
//! * The task's compensation for late timers is always zero.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Delivery, Discovery, set_listed};
use crate::policies::Algorithm;
use crate::policies::view::Slot;
use crate::random::Rng;
use crate::time::{Duration, Time};
use crate::units::Share;

/// Settings of `discovery.eureka`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct EurekaSettings(Written);

/// The settings before they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", rename = "EurekaSettings")]
struct Written {
    /// Time between two renewals of an endpoint.
    lease_renewal_interval: Duration,
    /// Length of a lease.
    lease_expiration_duration: Duration,
    /// Time between two runs of the eviction task.
    eviction_interval: Duration,
    /// Share of the expected renewals below which nobody is evicted; also the share that a run leaves.
    renewal_percent_threshold: Share,
    /// Whether that holds.
    enable_self_preservation: bool,
    /// Time between two refreshes of the copy that clients read.
    response_cache_update_interval: Duration,
    /// Time between two fetches of a client.
    registry_fetch_interval: Duration,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            lease_renewal_interval: Duration::from_secs(30),
            lease_expiration_duration: Duration::from_secs(90),
            eviction_interval: Duration::from_secs(60),
            renewal_percent_threshold: Share(0.85),
            enable_self_preservation: true,
            response_cache_update_interval: Duration::from_secs(30),
            registry_fetch_interval: Duration::from_secs(30),
        }
    }
}

impl TryFrom<Written> for EurekaSettings {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let lengths = [
            ("lease-renewal-interval", written.lease_renewal_interval),
            ("lease-expiration-duration", written.lease_expiration_duration),
            ("eviction-interval", written.eviction_interval),
            ("response-cache-update-interval", written.response_cache_update_interval),
            ("registry-fetch-interval", written.registry_fetch_interval),
        ];
        for (name, length) in lengths {
            if length < Duration::from_millis(1) {
                return Err(format!("{name} must be at least 1ms"));
            }
        }
        if written.lease_expiration_duration < written.lease_renewal_interval {
            return Err(
                "lease-expiration-duration is less than lease-renewal-interval: every lease would run out"
                    .to_owned(),
            );
        }
        Ok(Self(written))
    }
}

/// `updateRenewsPerMinThreshold`
pub fn renews_per_min_threshold(expected_clients: u64, renewal_interval_s: f64, percent: f64) -> u64 {
    (expected_clients as f64 * (60.0 / renewal_interval_s) * percent) as u64
}

/// `isLeaseExpirationEnabled`
pub const fn is_lease_expiration_enabled(
    threshold: u64,
    renews_last_min: u64,
    self_preservation: bool,
) -> bool {
    !self_preservation || threshold > 0 && renews_last_min > threshold
}

/// How many of the `expired` leases one run of `evict` may take.
pub fn evict_count(registry_size: u64, expired: u64, percent: f64) -> u64 {
    let registry_size_threshold = (registry_size as f64 * percent) as u64;
    expired.min(registry_size - registry_size_threshold)
}

/// A lease, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    last_update_timestamp: u64,
    duration: u64,
}

impl Lease {
    /// A lease of so many milliseconds that was registered at `now`.
    pub const fn new(now: u64, duration: u64) -> Self {
        Self { last_update_timestamp: now, duration }
    }

    /// The endpoint renews it.
    pub const fn renew(&mut self, now: u64) {
        self.last_update_timestamp = now + self.duration;
    }

    /// Whether it has run out, with so much patience on top.
    pub const fn is_expired(&self, now: u64, additional_lease_ms: u64) -> bool {
        now > self.last_update_timestamp + self.duration + additional_lease_ms
    }
}

/// Renewals in whole minutes (`MeasuredRate`).
#[derive(Clone, Copy, Debug, Default)]
struct MeasuredRate {
    minute: u64,
    current: u64,
    last: u64,
}

impl MeasuredRate {
    const fn roll(&mut self, now: Time) {
        let minute = now.as_millis() / 60_000;
        if minute != self.minute {
            self.last = if minute == self.minute + 1 { self.current } else { 0 };
            self.current = 0;
            self.minute = minute;
        }
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Eureka(Box<Server>);

#[derive(Clone, Debug)]
struct Server {
    settings: Written,
    /// By slot.
    leases: Vec<Option<Lease>>,
    renews: MeasuredRate,
    expected_clients: u64,
    registered: Vec<Slot>,
    /// What clients read.
    cached: Vec<Slot>,
    /// Next run of each task.
    next_eviction: Time,
    next_refresh: Time,
    expired: Vec<Slot>,
}

impl Algorithm for Eureka {
    type Settings = EurekaSettings;

    fn new(settings: &EurekaSettings, now: Time) -> Self {
        Self(Box::new(Server {
            settings: settings.0,
            leases: Vec::new(),
            renews: MeasuredRate { minute: now.as_millis() / 60_000, ..MeasuredRate::default() },
            expected_clients: 0,
            registered: Vec::new(),
            cached: Vec::new(),
            next_eviction: now + settings.0.eviction_interval,
            next_refresh: now,
            expired: Vec::new(),
        }))
    }
}

impl Server {
    fn cancel(&mut self, slot: Slot) {
        if let Some(lease) = self.leases.get_mut(slot.0 as usize)
            && lease.take().is_some()
        {
            self.expected_clients = self.expected_clients.saturating_sub(1);
        }
        set_listed(&mut self.registered, slot, false);
    }

    fn evict(&mut self, now: Time, rng: &mut Rng) {
        let Written { lease_renewal_interval, renewal_percent_threshold, enable_self_preservation, .. } =
            self.settings;
        self.renews.roll(now);
        let percent = renewal_percent_threshold.0;
        let interval = lease_renewal_interval.as_secs_f64();
        let threshold = renews_per_min_threshold(self.expected_clients, interval, percent);
        if !is_lease_expiration_enabled(threshold, self.renews.last, enable_self_preservation) {
            return;
        }
        self.expired.clear();
        let expired = |slot: &&Slot| {
            let lease = self.leases.get(slot.0 as usize).copied().flatten();
            lease.is_some_and(|lease| lease.is_expired(now.as_millis(), 0))
        };
        self.expired.extend(self.registered.iter().filter(expired));
        let take = evict_count(self.registered.len() as u64, self.expired.len() as u64, percent);
        for at in 0..take as usize {
            // A shuffle of Knuth that stops early.
            let next = at + rng.index((self.expired.len() - at) as u32) as usize;
            self.expired.swap(at, next);
            self.cancel(self.expired[at]);
        }
    }
}

impl Discovery for Eureka {
    fn on_register(&mut self, now: Time, slot: Slot) {
        let server = &mut *self.0;
        let at = slot.0 as usize;
        if server.leases.len() <= at {
            server.leases.resize(at + 1, None);
        }
        let duration = server.settings.lease_expiration_duration.as_millis();
        if server.leases[at].replace(Lease::new(now.as_millis(), duration)).is_none() {
            server.expected_clients += 1;
        }
        set_listed(&mut server.registered, slot, true);
    }

    fn on_deregister(&mut self, _now: Time, slot: Slot) {
        self.0.cancel(slot);
    }

    fn heartbeat_interval(&self) -> Option<Duration> {
        Some(self.0.settings.lease_renewal_interval)
    }

    fn on_heartbeat(&mut self, now: Time, slot: Slot) {
        let server = &mut *self.0;
        server.renews.roll(now);
        match server.leases.get_mut(slot.0 as usize) {
            Some(Some(lease)) => {
                lease.renew(now.as_millis());
                server.renews.current += 1;
            }
            // 404: the client registers.
            _ => self.on_register(now, slot),
        }
    }

    /// The shorter of its two tasks; each looks for itself whether it is due.
    fn interval(&self) -> Option<Duration> {
        let Written { eviction_interval, response_cache_update_interval, .. } = self.0.settings;
        Some(eviction_interval.min(response_cache_update_interval))
    }

    fn on_interval(&mut self, now: Time, _answers: &mut dyn FnMut(Slot) -> bool, rng: &mut Rng) {
        let server = &mut *self.0;
        if now >= server.next_eviction {
            server.next_eviction = now + server.settings.eviction_interval;
            server.evict(now, rng);
        }
        if now >= server.next_refresh {
            server.next_refresh = now + server.settings.response_cache_update_interval;
            server.cached.clone_from(&server.registered);
        }
    }

    fn delivery(&self) -> Delivery {
        Delivery::Fetch(self.0.settings.registry_fetch_interval)
    }

    fn listed(&self, _now: Time) -> &[Slot] {
        &self.0.cached
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    /// Runs a registry of `n` endpoints for `minutes`; endpoint 0 is silent from 60 s on. When it left the list, in seconds.
    fn death(n: u32, minutes: u64) -> Option<u64> {
        let mut eureka = Eureka::new(&EurekaSettings::default(), Time::ZERO);
        for slot in 0..n {
            eureka.on_register(Time::ZERO, Slot(slot));
        }
        (30..60 * minutes).step_by(30).find(|&at| {
            let now = Time::from_secs(at);
            for slot in u32::from(at > 60)..n {
                eureka.on_heartbeat(now, Slot(slot));
            }
            eureka.on_interval(now, &mut |_| true, &mut Key(0).rng());
            !eureka.listed(now).contains(&Slot(0))
        })
    }

    #[test]
    fn a_death_is_noticed_after_twice_the_lease_and_the_next_eviction() {
        // Renewed last at 60 s, runs out after 240 s; the task looks at 240 (not yet: strictly more) and at 300.
        assert_eq!(death(20, 10), Some(300));
    }

    #[test]
    fn in_a_small_service_self_preservation_keeps_the_dead() {
        // Two of three renew twice a minute: 4, and 5 are expected (3 * 2 * 0.85 = 5.1).
        assert_eq!(death(3, 30), None);
    }
}
