//! How clients keep connections, and what instances do with them.

use super::Check;
use crate::random::law::Law;
use crate::scenario::de::Spanned;
use crate::scenario::error::Diagnostic;
use crate::scenario::model::{Backoff, Connections, Dns, Listener, Resumption, Sharing, Tls};
use crate::scenario::schema::{
    BackoffTable, BalancingWord, ConnectionsTable, DnsTable, ListenerTable, ProtocolWord, ResumptionWord,
    TlsTable,
};
use crate::time::Duration;

/// Envoy's default thresholds `max_connections` and `max_pending_requests` (`config.cluster.v3.CircuitBreakers`).
const ENVOY_THRESHOLD: u32 = 1024;
/// Envoy's default `idle_timeout` of an upstream connection (`HttpProtocolOptions`).
const ENVOY_IDLE: Duration = Duration::from_secs(3600);
/// Envoy's default `connect_timeout` of a cluster.
const ENVOY_CONNECT: Duration = Duration::from_secs(5);
/// The least that RFC 9113, section 6.5.2, recommends for `SETTINGS_MAX_CONCURRENT_STREAMS`; what Go's client assumes before
/// it has heard from the server.
const STREAMS: u32 = 100;
/// OpenSSL's default session time-out, `SSL_get_default_timeout` of TLS.
const TICKET: Duration = Duration::from_secs(7200);
/// What kubeadm writes into `CoreDNS`' `Corefile` for names of the cluster.
const NAME: Duration = Duration::from_secs(30);
/// More round trips than this in one set-up are a slip of the keyboard.
const MOST_ROUND_TRIPS: u64 = 10;

impl Check<'_> {
    pub(super) fn connections(&mut self, table: &Spanned<ConnectionsTable>, sharing: Sharing) -> Connections {
        let (place, table) = (table.place, &table.value);
        if sharing == Sharing::Service {
            let error =
                Diagnostic::new("connections belong to one calling instance, not to the whole service");
            self.errors.push(error.at(place).hint("leave out `sharing = \"service\"` or `connections`"));
        }
        let multiplexed = table.protocol == Some(ProtocolWord::Http2);
        if let Some(streams) = &table.streams
            && !multiplexed
        {
            let error = Diagnostic::new("`http1` carries one attempt at a time; `streams` belong to `http2`");
            self.errors.push(error.at(streams.place).hint("write `protocol = \"http2\"`"));
        }
        if let Some(most) = &table.max_idle
            && multiplexed
        {
            let error = Diagnostic::new("`max-idle` is about `http1`; streams share a connection");
            self.errors.push(error.at(most.place).hint("leave it out, or write `max`"));
        }
        let streams = self.one_or_more(table.streams.as_ref(), "streams", STREAMS);
        let per_connection = table.balancing == Some(BalancingWord::PerConnection);
        let max = self.count(table.max.as_ref(), "max", 1).unwrap_or(ENVOY_THRESHOLD);
        let backoff = table.backoff.as_ref().map(|backoff| self.backoff(backoff));
        if let Some(min) = table.min.as_ref().filter(|min| min.value > 0) {
            let needs = if !per_connection {
                Some("`balancing = \"per-connection\"`, for it does not say to which endpoint")
            } else if backoff.is_none() {
                Some("a `backoff`, or a service that is gone would be called on without a pause")
            } else {
                None
            };
            if let Some(needs) = needs {
                self.wrong(format!("`min` needs {needs}"), min.place);
            }
            self.at_most(u64::from(min.value), u64::from(max), "min", min.place);
        }
        let idle_timeout = table.idle_timeout.unwrap_or(ENVOY_IDLE);
        Connections {
            streams: multiplexed.then_some(streams),
            per_connection,
            max,
            max_pending: self.count(table.max_pending.as_ref(), "max-pending", 0).unwrap_or(ENVOY_THRESHOLD),
            max_idle: self.count(table.max_idle.as_ref(), "max-idle", 0).unwrap_or(u32::MAX),
            min: table.min.as_ref().map_or(0, |min| min.value),
            idle_timeout: (idle_timeout > Duration::ZERO).then_some(idle_timeout),
            max_age: table.max_age.as_ref().map(|age| self.law(age)),
            max_requests: self.count(table.max_requests.as_ref(), "max-requests", 1).unwrap_or(u32::MAX),
            connect_round_trips: self.round_trips(
                table.connect_round_trips.as_ref(),
                "connect-round-trips",
                1,
                1,
            ),
            connect_timeout: table
                .connect_timeout
                .as_ref()
                .map_or(ENVOY_CONNECT, |timeout| self.some_time(timeout, "connect-timeout")),
            tls: table.tls.as_ref().map(|tls| self.tls(tls)),
            backoff,
            dns: table.dns.as_ref().map(|dns| self.dns(dns)),
        }
    }

    fn dns(&mut self, table: &DnsTable) -> Dns {
        Dns {
            ttl: table.ttl.as_ref().map_or(NAME, |ttl| self.some_time(ttl, "ttl")),
            answers: self.count(table.answers.as_ref(), "answers", 1).unwrap_or(u32::MAX),
            ignore_ttl: table.ignore_ttl.map_or(0.0, |share| share.0),
        }
    }

    fn round_trips(&mut self, trips: Option<&Spanned<u32>>, name: &str, least: u32, default: u8) -> u8 {
        let Some(trips) = trips else { return default };
        self.at_least(f64::from(trips.value), f64::from(least), name, trips.place);
        self.at_most(u64::from(trips.value), MOST_ROUND_TRIPS, name, trips.place) as u8
    }

    fn tls(&mut self, table: &TlsTable) -> Tls {
        if let Some(cpu) = &table.resumed_cpu
            && table.resumed_round_trips.as_ref().is_some_and(|trips| trips.value == 0)
        {
            let error = Diagnostic::new("early data takes no round trip, so there is none for its core time");
            self.errors.push(error.at(cpu.place).hint("let the steps of the endpoint do that work"));
        }
        Tls {
            round_trips: self.round_trips(table.round_trips.as_ref(), "round-trips", 1, 1),
            cpu: self.law_or_zero(table.cpu.as_ref()),
            resumption: match table.resumption {
                Some(ResumptionWord::Instance) => Resumption::Instance,
                Some(ResumptionWord::Service) => Resumption::Service,
                Some(ResumptionWord::None) | None => Resumption::None,
            },
            resumed_round_trips: self.round_trips(
                table.resumed_round_trips.as_ref(),
                "resumed-round-trips",
                0,
                1,
            ),
            resumed_cpu: self.law_or_zero(table.resumed_cpu.as_ref()),
            ticket_lifetime: table
                .ticket_lifetime
                .as_ref()
                .map_or(TICKET, |lifetime| self.some_time(lifetime, "ticket-lifetime")),
        }
    }

    fn backoff(&mut self, table: &Spanned<BackoffTable>) -> Backoff {
        let table = &table.value;
        let base = table.base.as_ref().map_or(Duration::from_secs(1), |base| self.some_time(base, "base"));
        let max = table.max.as_ref().map_or(Duration::from_secs(120), |max| {
            if max.value < base {
                self.wrong("`max` must not be shorter than `base`", max.place);
            }
            max.value
        });
        Backoff {
            base,
            multiplier: table.multiplier.as_ref().map_or(1.6, |multiplier| {
                self.at_least(multiplier.value, 1.0, "multiplier", multiplier.place)
            }),
            jitter: table.jitter.map_or(0.2, |jitter| jitter.0),
            max: max.max(base),
            wait_for_ready: table.wait_for_ready.unwrap_or(false),
        }
    }

    pub(super) fn listener(&mut self, table: &ListenerTable) -> Listener {
        let law = |check: &mut Self, text| -> Law { check.law(text) };
        Listener {
            idle_timeout: table.idle_timeout.as_ref().map(|timeout| self.some_time(timeout, "idle-timeout")),
            max_age: table.max_age.as_ref().map(|age| law(self, age)),
            max_requests: self.count(table.max_requests.as_ref(), "max-requests", 1).unwrap_or(u32::MAX),
            max_connections: self
                .count(table.max_connections.as_ref(), "max-connections", 1)
                .unwrap_or(u32::MAX),
        }
    }
}
