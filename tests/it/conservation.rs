//! Nothing gets lost: random small scenarios that mix everything, whose books must balance.
//!
//! Every run recounts its own books at the end (and, in debug builds, at every timeline window) and panics if anything does
//! not agree; see `docs/INVARIANTS.md`. So these stories only have to be told.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use proptest::prelude::*;
use simlab::lab::outcome::StudyOutcome;
use simlab::lab::{self, LabError, Progress, RunOptions};
use simlab::random::Key;
use simlab::scenario::Overrides;
use simlab::scenario::model::Study;

/// What a random scenario may have. A failing mixture shrinks to the few that matter.
const FEATURES: [&str; 105] = [
    "long",
    "nodes",
    "tight nodes",
    "second pool",
    "network",
    "outside",
    "discovery",
    "web timeout",
    "web cancel",
    "web retry",
    "web budget",
    "web breaker",
    "web bulkhead",
    "web bucket",
    "web clients",
    "front timeout",
    "front cancel",
    "front retry",
    "front budget",
    "front breaker",
    "front bulkhead",
    "front shared",
    "mid timeout",
    "mid cancel",
    "mid retry",
    "mid breaker",
    "mid bulkhead",
    "mid shared",
    "balancer",
    "front async",
    "mid async",
    "leaf async",
    "front bounded",
    "mid bounded",
    "leaf bounded",
    "mid drop",
    "leaf drop",
    "mid lifo",
    "leaf priority",
    "mid impatient",
    "leaf impatient",
    "front fifo",
    "mid fifo",
    "leaf shared",
    "mid warm-up",
    "leaf slow-down",
    "mid bulkhead inside",
    "leaf bucket inside",
    "hpa",
    "formula",
    "leaf errors",
    "parallel any",
    "quorum",
    "choose",
    "probability",
    "cycle",
    "self call",
    "cache",
    "shared cache",
    "ttl",
    "pool",
    "impatient pool",
    "pool around cpu",
    "wait",
    "attempt part",
    "deadline",
    "propagate",
    "users",
    "leaving users",
    "second source",
    "counted source",
    "mmpp",
    "crash",
    "slow",
    "hang",
    "error-rate",
    "node-loss",
    "zone-loss",
    "partition",
    "packet-loss",
    "latency",
    "outage",
    "drawn",
    "operators",
    "mid activator",
    "leaf activator",
    "mid metered",
    "leaf starts at zero",
    "leaf kpa",
    "leaf keda",
    "mid hpa from zero",
    "kube",
    "apart",
    "even zones",
    "cluster autoscaler",
    "karpenter",
    "slow orders",
    "no orders",
    "spot",
    "images",
    "no registry",
    "spreads",
    "affinity",
    "route",
    "weights",
];

/// And some more that need the others: rollouts, a second helping of faults, and what bounds an instance from outside.
const EXTRAS: [&str; 101] = [
    "stop-the-world",
    "container-swap",
    "rolling",
    "canary",
    "blue-green",
    "flagger",
    "second rollout",
    "more faults",
    "zero steps",
    "mid quota",
    "leaf quota",
    "mid modest",
    "leaf modest",
    "mid side-car",
    "leaf memory",
    "mid collector",
    "leaf boot",
    "memory-leak",
    "noisy-neighbour",
    "mid vpa",
    "leaf vpa",
    "resizing",
    "leaf disk",
    "mid full disk",
    "disk-full",
    "leaf burst",
    "bytes",
    "web connections",
    "front connections",
    "mid connections",
    "names",
    "listeners",
    "dns-outage",
    "web outlier",
    "front outlier",
    "mid outlier",
    "web checks",
    "front checks",
    "front zones",
    "mid zones",
    "mid probes",
    "leaf probes",
    "mid registry",
    "leaf registry",
    "predictions",
    "mid adaptive",
    "leaf adaptive",
    "mid codel",
    "leaf codel",
    "leaf punctual",
    "mid punctual",
    "mid by rank",
    "web line",
    "front line",
    "mid line",
    "front newest",
    "front thresholds",
    "mid shares",
    "degraded",
    "fewer calls",
    "web hedge",
    "front hedge",
    "mid hedge",
    "web levels",
    "front levels",
    "mid levels",
    "outer hedge",
    "outer cancel",
    "any budget",
    "web deadline",
    "front deadline",
    "mid deadline",
    "quiescence",
    "tranquillity",
    "version-consistency",
    "update-request",
    "state-hand-over",
    "second update",
    "recreate",
    "undo",
    "hooks",
    "odd ends",
    "rollout acts",
    "switching",
    "crashing version",
    "configurations",
    "taken back",
    "herd",
    "messages",
    "known messages",
    "careless messages",
    "ordered messages",
    "short queue",
    "lossy messages",
    "broker",
    "topic actions",
    "two-phase",
    "presumes nothing",
    "helpful",
    "saga",
    "dying coordinators",
];

const BALANCERS: [&str; 17] = [
    "random",
    "weighted-random",
    "round-robin",
    "smooth-weighted-round-robin",
    "least-request",
    "p2c",
    "weighted-round-robin",
    "least-conn",
    "peak-ewma",
    "finagle-peak-ewma",
    "ring-hash",
    "maglev",
    "join-shortest-queue",
    "prequal",
    "least-rate",
    "least-response-time",
    "aperture",
];

/// Writes one scenario. Each parameter depends on the seed and its own name, so leaving a feature out changes nothing else.
struct Writer<'a> {
    seed: u64,
    features: &'a BTreeSet<usize>,
}

impl Writer<'_> {
    fn has(&self, name: &str) -> bool {
        let known = FEATURES.iter().chain(&EXTRAS).position(|feature| *feature == name);
        self.features.contains(&known.unwrap_or_else(|| panic!("{name} is no feature")))
    }

    /// A number in `from..=to`.
    fn number(&self, what: &str, from: u64, to: u64) -> u64 {
        from + Key::new(self.seed).named(what).0 % (to - from + 1)
    }

    fn one_of<'t>(&self, what: &str, choices: &[&'t str]) -> &'t str {
        choices[self.number(what, 0, choices.len() as u64 - 1) as usize]
    }

    fn seconds(&self) -> u64 {
        if self.has("long") { 500 } else { 40 }
    }

    /// An instant at which something happens.
    fn at(&self, what: &str) -> String {
        format!("{}ms", self.number(what, 1000, self.seconds() * 800))
    }

    /// A length; now and then longer than the run.
    fn lasting(&self, what: &str) -> String {
        format!("{}ms", self.number(what, 1, self.seconds() * 400))
    }

    fn law(&self, what: &str, mean_us: u64) -> String {
        let mean = self.number(what, mean_us / 2, mean_us * 2);
        match self.number(&format!("{what} law"), 0, 3) {
            0 => format!("{mean}us"),
            1 => format!("exp({mean}us)"),
            2 => format!("lognormal({mean}us, cv=2)"),
            _ => format!("uniform(0us, {}us)", 2 * mean),
        }
    }

    fn edge(&self, name: &str) -> String {
        let mut text = String::new();
        let has = |what: &str| {
            let feature = format!("{name} {what}");
            FEATURES.contains(&feature.as_str()) && self.has(&feature)
        };
        let number = |what: &str, from, to| self.number(&format!("{name} {what}"), from, to);
        if has("timeout") {
            writeln!(text, "timeout = \"{}ms\"", number("timeout ms", 5, 200)).unwrap();
        }
        if has("cancel") {
            text += "cancel = true\n";
        }
        let some = |what: &str| {
            let feature = format!("{name} {what}");
            EXTRAS.contains(&feature.as_str()) && self.has(&feature)
        };
        let hedge = |name: &str| {
            let delay = self.number(&format!("{name} hedging delay"), 0, 60);
            match self.number(&format!("{name} hedge kind"), 0, 3) {
                0 => format!("hedge.grpc = {{ max-attempts = 3, hedging-delay = \"{delay}ms\" }}"),
                1 => format!(
                    "hedge.grpc = {{ max-attempts = 5, hedging-delay = \"{delay}ms\", non-fatal = [\"failure\", \"rejected\"] }}"
                ),
                2 => "hedge.percentile = { min-data-points = 20, period = \"2s\" }".to_owned(),
                _ => format!("hedge.tied = {{ delay = \"{}ms\" }}", delay / 10),
            }
        };
        if some("deadline") {
            writeln!(text, "propagate-deadline = {}", number("deadline kind", 0, 1) == 0).unwrap();
        }
        if some("levels") {
            let mut levels = Vec::new();
            for level in 0..number("levels", 1, 3) {
                let number = |what: &str, from, to| number(&format!("{what} {level}"), from, to);
                let mut level = format!("name = \"level-{level}\"");
                if number("level timeout", 0, 1) == 0 {
                    write!(level, ", timeout = \"{}ms\"", number("level timeout ms", 20, 400)).unwrap();
                }
                if self.has("outer cancel") && number("level cancel", 0, 1) == 0 {
                    level += ", cancel = true";
                }
                if self.has("outer hedge") && number("level hedge", 0, 1) == 0 {
                    write!(level, ", {}", hedge(&format!("{name} level"))).unwrap();
                } else if number("level retry", 0, 2) > 0 {
                    level += ", retry.fixed = { attempts = 2, delay = \"10ms\" }";
                }
                if number("level budget", 0, 2) == 0 {
                    level += ", retry-budget.envoy = {}";
                }
                if number("level bulkhead", 0, 2) == 0 {
                    level += ", limiter.bulkhead = { max-concurrent = 5 }";
                }
                if number("level breaker", 0, 3) == 0 {
                    level += ", breaker.seed = { error-threshold = 9, open = \"2s\" }";
                }
                levels.push(format!("{{ {level} }}"));
            }
            writeln!(text, "level = [{}]", levels.join(", ")).unwrap();
        }
        if some("hedge") {
            writeln!(text, "{}", hedge(name)).unwrap();
        } else if has("retry") {
            let attempts = number("attempts", 2, 4);
            match number("retry kind", 0, 2) {
                0 => writeln!(
                    text,
                    "retry.exponential = {{ attempts = {attempts}, base = \"20ms\", max-delay = \"1s\" }}"
                ),
                1 => writeln!(text, "retry.fixed = {{ attempts = {attempts}, delay = \"0s\" }}"),
                _ => writeln!(text, "retry.seed = {{ attempts = {attempts} }}"),
            }
            .unwrap();
        }
        if has("budget") || self.has("any budget") {
            let kinds = ["tower", "finagle", "envoy", "grpc", "token-bucket", "aws-sdk", "failure-ratio"];
            let kind = if self.has("any budget") {
                self.one_of(&format!("{name} budget kind"), &kinds)
            } else {
                "tower"
            };
            writeln!(text, "retry-budget.{kind} = {{}}").unwrap();
        }
        if has("breaker") {
            let threshold = number("errors", 1, 10);
            writeln!(text, "breaker.seed = {{ error-threshold = {threshold}, open = \"3s\" }}").unwrap();
        }
        let more = |what: &str| {
            let feature = format!("{name} {what}");
            EXTRAS.contains(&feature.as_str()) && self.has(&feature)
        };
        if more("line") {
            let most = number("most", 1, 6);
            let wait = self.one_of(&format!("{name} line wait"), &["30ms", "1s", "1000h"]);
            writeln!(text, "limiter.bulkhead = {{ max-concurrent = {most}, max-wait = \"{wait}\" }}")
                .unwrap();
        } else if more("newest") {
            let most = number("most", 1, 6);
            writeln!(
                text,
                "limiter.lifo-blocking = {{ delegate.aimd = {{ min-limit = 1, initial-limit = {most} }}, backlog-size = {most}, backlog-timeout = \"200ms\" }}"
            )
            .unwrap();
        } else if more("thresholds") {
            text += "limiter.envoy-circuit-breakers = { max-requests = 4 }\n";
        } else if has("bulkhead") {
            let most = number("most", 1, 6);
            writeln!(text, "limiter.bulkhead = {{ max-concurrent = {most} }}").unwrap();
        } else if has("bucket") {
            text += "limiter.seed-token-bucket = { capacity = 20, fill-rate = \"30/s\" }\n";
        }
        let connected = format!("{name} connections");
        // Behind one address nobody knows who is well.
        let mut is_blind = false;
        if self.has(&connected) {
            let connections = self.connections(&connected);
            is_blind = connections.contains("per-connection");
            text += &connections;
        } else if has("shared") {
            text += "sharing = \"service\"\n";
        }
        let some = |what: &str| {
            let feature = format!("{name} {what}");
            let asks =
                self.has("balancer") && self.one_of(&format!("{name} balancer"), &BALANCERS) == "prequal";
            !(asks || is_blind) && EXTRAS.contains(&feature.as_str()) && self.has(&feature)
        };
        if some("outlier") {
            text += "outlier.envoy = { consecutive-5xx = 2, consecutive-gateway-failure = 2, interval = \"2s\", base-ejection-time = \"1s\", \
                     max-ejection-percent = \"60%\", enforcing-consecutive-gateway-failure = \"50%\", max-ejection-time-jitter = \"1s\", \
                     success-rate-minimum-hosts = 2, success-rate-request-volume = 3, failure-percentage-minimum-hosts = 2, \
                     failure-percentage-request-volume = 3, enforcing-failure-percentage = \"100%\", always-eject-one-host = true }\n";
        }
        if some("checks") {
            let port = self.one_of(
                &format!("{name} check"),
                &["own-port = true", "cost = \"exp(1ms)\"", "cost = \"0ms\""],
            );
            writeln!(
                text,
                "health-check = {{ detector.envoy = {{ timeout = \"90ms\", interval = \"700ms\", unhealthy-threshold = 2, healthy-threshold = 1, interval-jitter = \"100ms\" }}, {port} }}"
            )
            .unwrap();
        }
        if some("zones") && self.has("nodes") {
            let panic = self.one_of(&format!("{name} panic"), &["0%", "50%", "100%"]);
            writeln!(
                text,
                "host-selection.envoy = {{ healthy-panic-threshold = \"{panic}\", priorities = [[\"a\"], [\"b\"]], zone-aware = {{ min-cluster-size = 1 }} }}"
            )
            .unwrap();
        }
        if self.has("balancer") {
            let settings = match self.one_of(&format!("{name} balancer"), &BALANCERS) {
                "least-conn" => "least-conn = { max-fails = 2, fail-timeout = \"1s\" }".to_owned(),
                "maglev" => "maglev = { table-size = 127, retry-other-host = true }".to_owned(),
                "weighted-round-robin" => "weighted-round-robin = { slow-start.window = \"5s\" }".to_owned(),
                kind => format!("{kind} = {{}}"),
            };
            writeln!(text, "balancer.{settings}").unwrap();
        }
        if self.has("affinity") {
            let attribute = self.one_of(&format!("{name} affinity"), &["session", "path"]);
            writeln!(text, "affinity = \"{attribute}\"").unwrap();
            if self.number(&format!("{name} cookie"), 0, 1) == 0 {
                text += "affinity-by = \"cookie\"\n";
            }
        }
        text
    }

    fn connections(&self, name: &str) -> String {
        let one_of = |what: &str, choices: &[&'static str]| self.one_of(&format!("{name} {what}"), choices);
        let mut parts = vec![one_of("max", &["max = 1", "max = 3", "max = \"unlimited\""]).to_owned()];
        // A balancer of connections does not see requests.
        let blind = !self.has("balancer") && !self.has("affinity");
        let per_connection =
            blind && one_of("balancing", &["per-request", "per-connection"]) == "per-connection";
        if per_connection {
            parts.push("balancing = \"per-connection\"".to_owned());
        }
        let protocol = ["protocol = \"http1\"", "protocol = \"http2\", streams = 3", "max-idle = 1"];
        parts.push(one_of("protocol", &protocol).to_owned());
        for (what, choices) in [
            ("pending", ["", "max-pending = 0", "max-pending = 2"]),
            ("idle", ["", "idle-timeout = \"30ms\"", "idle-timeout = \"0s\""]),
            ("age", ["", "max-age = \"exp(300ms)\"", "max-age = \"5s\""]),
            ("requests", ["", "max-requests = 1", "max-requests = 7"]),
            ("timeout", ["", "connect-timeout = \"10ms\"", "connect-timeout = \"3s\""]),
            (
                "tls",
                ["", "tls = { cpu = \"exp(3ms)\" }", "tls = { cpu = \"3ms\", resumption = \"instance\" }"],
            ),
        ] {
            parts.push(one_of(what, &choices).to_owned());
        }
        let waits = self.number(&format!("{name} waits"), 0, 1) == 0;
        match self.number(&format!("{name} backoff"), 0, 2) {
            0 => {}
            some => {
                parts
                    .push(format!("backoff = {{ base = \"40ms\", max = \"1s\", wait-for-ready = {waits} }}"));
                if some == 2 && per_connection {
                    parts.push("min = 1".to_owned());
                }
            }
        }
        if self.has("names") {
            let answers = one_of("answers", &["1", "2", "\"unlimited\""]);
            parts.push(format!("dns = {{ ttl = \"2s\", answers = {answers}, ignore-ttl = \"20%\" }}"));
        }
        parts.retain(|part| !part.is_empty());
        format!("connections = {{ {} }}\n", parts.join(", "))
    }

    fn instance(&self, name: &str) -> String {
        let mut parts = Vec::new();
        let has = |what: &str| {
            let feature = format!("{name} {what}");
            FEATURES.contains(&feature.as_str()) && self.has(&feature)
        };
        let number = |what: &str, from, to| self.number(&format!("{name} {what}"), from, to);
        parts.push(format!("cores = {}", number("cores", 1, 2)));
        if has("async") {
            parts.push("mode = \"async\"".to_owned());
            if number("endless", 0, 1) == 0 {
                parts.push(format!("max-in-flight = {}", number("in flight", 1, 40)));
            }
        } else {
            parts.push(format!("workers = {}", number("workers", 1, 12)));
        }
        let some = |what: &str| {
            let feature = format!("{name} {what}");
            EXTRAS.contains(&feature.as_str()) && self.has(&feature)
        };
        if some("quota") {
            parts
                .push(format!("cpu-limit = {}", self.one_of(&format!("{name} limit"), &["0.3", "1", "1.5"])));
        }
        if some("modest") {
            parts.push("cpu-request = 0.25".to_owned());
        }
        if some("memory") {
            parts.push(
                "memory-limit = \"1GiB\", memory-use = { base = \"900MiB\", per-attempt = \"9MiB\", \
                 leak-per-request = \"1MiB\" }"
                    .to_owned(),
            );
        }
        if some("collector") {
            parts.push("gc = { per-request = \"1MiB\", young = \"8MiB\", pause = \"exp(20ms)\" }".to_owned());
        }
        if some("boot") {
            parts.push("start-cpu = \"exp(1s)\"".to_owned());
        }
        if some("burst") {
            parts.push("cpu-burst = { baseline = \"20%\", credits = \"500ms\", max = \"2s\" }".to_owned());
        }
        if some("disk") {
            parts.push(
                "disk-use = { size = \"1GiB\", per-request = \"2MiB\", per-hour = \"50GiB\" }".to_owned(),
            );
        }
        if some("full disk") {
            parts
                .push("disk-use = { size = \"100MiB\", per-request = \"1MiB\", full = \"fail\" }".to_owned());
        }
        let bound = ["burst", "quota", "collector", "boot", "side-car"].iter().any(|what| some(what));
        if has("fifo") && !bound {
            parts.push("cpu = \"fifo\"".to_owned());
        } else if has("shared") {
            parts.push("cpu = \"shared\"".to_owned());
        }
        if has("bounded") || has("drop") {
            // Nothing can be shed where nobody waits.
            let sheds = ["codel", "punctual", "by rank"].iter().any(|what| some(what));
            parts.push(format!("queue = {}", number("queue", 0, 8).max(u64::from(sheds))));
        }
        if has("drop") {
            parts.push("full = \"drop\"".to_owned());
        }
        if some("codel") {
            parts.push("shedding.codel = { target-delay = \"2ms\", interval = \"50ms\" }".to_owned());
        } else if some("punctual") {
            parts.push("shedding.deadline = { needs = \"5ms\" }".to_owned());
        } else if some("by rank") {
            parts.push(
                "shedding.failsafe-go-priority = { calibration-interval = \"200ms\", initial-rejection-factor = 1 }".to_owned(),
            );
        }
        if some("adaptive") {
            let when = ["lifo-threshold = 1", "lifo-threshold = 3", "lifo-after = \"30ms\""];
            let when = self.one_of(&format!("{name} stands"), &when);
            parts.push(format!("order = \"adaptive-lifo\", {when}"));
        } else if has("lifo") {
            parts.push("order = \"lifo\"".to_owned());
        } else if has("priority") {
            parts.push("order = \"priority\"".to_owned());
        }
        if has("impatient") {
            parts.push("queue-timeout = \"exp(50ms)\"".to_owned());
        }
        if has("warm-up") {
            parts.push("warm-up = { for = \"10s\", slowdown = 3 }".to_owned());
        }
        if has("slow-down") {
            parts.push(match number("usl", 0, 1) {
                0 => "slow-down = { usl = { alpha = 0.05, beta = 0.001 } }".to_owned(),
                _ => "slow-down = { table = [1, 1.2, 2] }".to_owned(),
            });
        }
        if self.has("images") && self.has("nodes") {
            parts.push(format!("image = \"{}MiB\"", number("image", 1, 400)));
        } else {
            parts.push(format!("pull = \"{}ms\"", number("pull", 0, 3000)));
        }
        parts.push(format!("start = \"uniform(0s, {}ms)\"", number("start", 1, 4000)));
        parts.push(format!("grace = \"{}ms\"", number("grace", 0, 500)));
        if self.has("hooks") {
            parts.push(format!("pre-stop = \"{}ms\"", number("hook", 0, 800)));
        }
        if self.has("odd ends") {
            let ends = ["on-term = \"exit\"", "on-term = \"ignore\"", "lame-duck = \"200ms\""];
            parts.push(self.one_of(&format!("{name} ends"), &ends).to_owned());
        }
        if self.has("nodes") {
            parts.push("memory = \"1GiB\"".to_owned());
        }
        parts.join(", ")
    }

    fn fault(&self, text: &mut String, name: &str, what: &str) {
        writeln!(text, "[[fault]]\nname = \"{name}\"\nat = \"{}\"\n{what}", self.at(name)).unwrap();
    }

    fn faults(&self, text: &mut String, round: &str) {
        let service = |what: &str| self.one_of(&format!("{round} {what} service"), &["front", "mid", "leaf"]);
        let lasting = |what: &str| self.lasting(&format!("{round} {what} lasts"));
        let count = |what: &str| match self.number(&format!("{round} {what} count"), 0, 2) {
            0 => String::new(),
            count => format!(", count = {count}"),
        };
        let struck = |what: &str, more: &str| {
            let (service, count, lasting) = (service(what), count(what), lasting(what));
            format!("{what} = {{ service = \"{service}\"{count}{more}, for = \"{lasting}\" }}")
        };
        let name = |what: &str| format!("{what}{round}");
        if self.has("crash") {
            let what = format!("crash = {{ service = \"{}\"{} }}", service("crash"), count("crash"));
            self.fault(text, &name("crash"), &what);
        }
        if self.has("slow") {
            self.fault(text, &name("slow"), &struck("slow", ", factor = 4"));
        }
        if self.has("hang") {
            self.fault(text, &name("hang"), &struck("hang", ""));
        }
        if self.has("error-rate") {
            self.fault(text, &name("error-rate"), &struck("error-rate", ", rate = \"40%\""));
        }
        if self.has("outage") {
            let what = format!(
                "outage = {{ service = \"{}\", for = \"{}\" }}",
                service("outage"),
                lasting("outage")
            );
            self.fault(text, &name("outage"), &what);
        }
        if self.has("nodes") && self.has("node-loss") {
            let what = format!(
                "node-loss = {{ pool = \"general\", count = 1, for = \"{}\"{} }}",
                lasting("node-loss"),
                if self.has("spreads") { ", spreads = \"50%\"" } else { "" },
            );
            self.fault(text, &name("node-loss"), &what);
        }
        if self.has("nodes") && self.has("noisy-neighbour") {
            let what = format!(
                "noisy-neighbour = {{ pool = \"general\", count = 2, cores = {}, for = \"{}\" }}",
                self.number(&format!("{round} stolen"), 1, 7),
                lasting("noisy-neighbour")
            );
            self.fault(text, &name("noisy-neighbour"), &what);
        }
        if self.has("leaf memory") && self.has("memory-leak") {
            let what = format!(
                "memory-leak = {{ service = \"leaf\", count = 1, per-hour = \"9GiB\", for = \"{}\" }}",
                lasting("memory-leak")
            );
            self.fault(text, &name("memory-leak"), &what);
        }
        for (owner, feature) in [("leaf", "leaf disk"), ("mid", "mid full disk")] {
            if self.has(feature) && self.has("disk-full") {
                let lasting = lasting(&format!("{owner} disk-full"));
                let what = format!("disk-full = {{ service = \"{owner}\", count = 1, for = \"{lasting}\" }}");
                self.fault(text, &name(&format!("{owner} disk-full")), &what);
            }
        }
        if self.has("nodes") && self.has("zone-loss") {
            let what = format!("zone-loss = {{ zone = \"a\", for = \"{}\" }}", lasting("zone-loss"));
            self.fault(text, &name("zone-loss"), &what);
        }
        if self.has("nodes") && self.has("partition") {
            let what =
                format!("partition = {{ between = [\"a\", \"b\"], for = \"{}\" }}", lasting("partition"));
            self.fault(text, &name("partition"), &what);
        }
        if self.has("packet-loss") {
            let rate = self.one_of(&format!("{round} rate"), &["1%", "30%", "100%"]);
            let what = format!("packet-loss = {{ rate = \"{rate}\", for = \"{}\" }}", lasting("packet-loss"));
            self.fault(text, &name("packet-loss"), &what);
        }
        if self.has("dns-outage") {
            let what = format!("dns-outage = {{ for = \"{}\" }}", lasting("dns-outage"));
            self.fault(text, &name("dns-outage"), &what);
        }
        if self.has("latency") {
            let what =
                format!("added-latency = {{ latency = \"exp(20ms)\", for = \"{}\" }}", lasting("latency"));
            self.fault(text, &name("latency"), &what);
        }
    }

    /// What places instances and provides machines.
    fn machinery(&self, text: &mut String) {
        if self.has("kube") {
            let how = self.one_of("kube", &["least-allocated", "most-allocated"]);
            writeln!(text, "[scheduler]\nkube = {{ scoring-strategy = \"{how}\" }}").unwrap();
        }
        if self.has("nodes") && self.has("cluster autoscaler") {
            *text += "[provisioner]\ncluster-autoscaler = { scan-interval = \"3s\", scale-down-unneeded-time = \"10s\", \
                      scale-down-delay-after-add = \"5s\", max-node-provision-time = \"12s\", \
                      initial-node-group-backoff-duration = \"10s\" }\n";
        } else if self.has("nodes") && self.has("karpenter") {
            *text += "[provisioner]\nkarpenter = { registration-timeout = \"12s\" }\n";
        }
        if self.has("slow orders") {
            let queue = self.number("order queue", 0, 3);
            writeln!(
                text,
                "[provisioning]\nconcurrency = 1\ntakes = \"exp(4s)\"\nqueue = {queue}\ntimeout = \"9s\"\nfailure-rate = \"20%\""
            )
            .unwrap();
        }
        if self.has("images") {
            *text += "[registry]\nbandwidth = \"200MiB/s\"\nnode-bandwidth = \"90MiB/s\"\n";
        }
        for (feature, what) in [("no orders", "provisioning-outage"), ("no registry", "registry-outage")] {
            if self.has(feature) {
                let lasting = self.lasting(feature);
                self.fault(text, feature, &format!("{what} = {{ for = \"{lasting}\" }}"));
            }
        }
        if self.has("nodes") && self.has("spot") {
            let (notice, lasting) = (self.number("notice", 0, 20_000), self.lasting("spot"));
            let what = format!(
                "spot-reclaim = {{ pool = \"general\", count = 2, notice = \"{notice}ms\", for = \"{lasting}\" }}"
            );
            self.fault(text, "spot", &what);
            *text += "[[fault]]\nname = \"reclaims\"\nmtbf = \"exp(30s)\"\nmttr = \"exp(5s)\"\n\
                      spot-reclaim = { pool = \"general\", count = 3, notice = \"3s\" }\n";
        }
    }

    fn text(&self) -> String {
        let secs = self.seconds();
        let mut text = format!(
            "[scenario]\nname = \"any\"\nduration = \"{secs}s\"\nwarm-up = \"{}ms\"\nseed = {}\nreplications = 1\n\
             [objective]\navailability = \"90%\"\nlatency-p99 = \"500ms\"\n\
             [limits]\nin-flight = 200000\npending-events = 1000000\ninstances = 5000\n",
            self.number("warm-up", 0, secs * 500),
            self.seed % 1000,
        );
        if self.has("network") || self.has("outside") {
            text += "[network]\n";
            if self.has("network") {
                text += "same-zone = \"0.2ms\"\ncross-zone = \"exp(2ms)\"\n";
            }
            if self.has("outside") {
                text += "outside = \"uniform(1ms, 20ms)\"\n";
            }
        }
        if self.has("nodes") {
            let nodes = if self.has("tight nodes") { 2 } else { 4 };
            writeln!(
                text,
                "[[node-pool]]\nname = \"general\"\nnodes = {nodes}\ncores = 6\nmemory = \"16GiB\"\n\
                 zones = [\"a\", \"b\"]\nprice = \"0.2/h\"\nspot = true\ndisk = \"500MiB\"\n\
                 boot = \"uniform(1s, 10s)\"\nmin = {}\nmax = {}",
                self.number("min nodes", 0, 2),
                self.number("max nodes", 4, 7),
            )
            .unwrap();
            if self.has("second pool") {
                text += "[[node-pool]]\nname = \"other\"\nnodes = 2\ncores = 8\nmemory = \"16GiB\"\nzones = [\"b\"]\n";
            }
        }
        self.machinery(&mut text);
        self.services(&mut text);
        self.sources(&mut text);
        self.errands(&mut text);
        self.faults(&mut text, "");
        if self.has("more faults") {
            self.faults(&mut text, " again");
        }
        if self.has("drawn") {
            let hang = self.one_of("drawn what", &["hang", "crash", "slow"]);
            let more = if hang == "slow" { ", factor = 3" } else { "" };
            let count = self.number("drawn count", 1, 3);
            writeln!(
                text,
                "[[fault]]\nname = \"drawn\"\nmtbf = \"exp(8s)\"\nmttr = \"exp(2s)\"\ncrew = 1\n\
                 {hang} = {{ service = \"mid\", count = {count}{more} }}"
            )
            .unwrap();
            if self.has("nodes") {
                text += "[[fault]]\nname = \"machines\"\nmtbf = \"exp(20s)\"\nmttr = \"exp(5s)\"\n\
                         node-loss = { pool = \"general\", count = 2 }\n";
            }
        }
        for (owner, feature) in [("mid", "mid registry"), ("leaf", "leaf registry")] {
            let swims = self.one_of(feature, &["", "", "", "", "", "swim"]) == "swim";
            if self.has(feature) && self.has("no registry") && !swims {
                let what = format!(
                    "discovery-outage = {{ service = \"{owner}\", for = \"{}\" }}",
                    self.lasting(&format!("{owner} lost"))
                );
                self.fault(&mut text, &format!("{owner} lost"), &what);
            }
        }
        if self.has("predictions") {
            let foreseen: Vec<(&str, &str)> = [
                ("seer", "crash"),
                ("prophet", if self.has("nodes") { "node-loss" } else { "" }),
                ("oracle", if self.has("nodes") && self.has("drawn") { "machines" } else { "" }),
            ]
            .into_iter()
            .filter(|(_, fault)| *fault == "machines" || FEATURES.contains(fault) && self.has(fault))
            .collect();
            for (name, fault) in foreseen {
                writeln!(
                    text,
                    "[[prediction]]\nname = \"{name}\"\nfault = \"{fault}\"\nlead = \"exp(3s)\"\nhit-rate = \"70%\"\n\
                     false-alarms = \"0.1/s\"\n[[action]]\non-prediction = \"{name}\"\nafter = \"100ms\"\ndrain = {{ for = \"4s\" }}"
                )
                .unwrap();
            }
        }
        if self.has("operators") {
            let replicas = self.number("scale to", 0, 6);
            writeln!(
                text,
                "[[action]]\nat = \"{}\"\nscale = {{ service = \"mid\", replicas = {replicas} }}\n\
                 [[action]]\nat = \"{}\"\nscale = {{ service = \"leaf\", replicas = 3 }}\n\
                 [[action]]\nat = \"{}\"\nthrottle = {{ source = \"web\", share = \"50%\" }}\n\
                 [[action]]\nat = \"{}\"\nkill-switch = {{ endpoint = \"leaf.get\", on = true }}\n\
                 [[action]]\nat = \"{}\"\nkill-switch = {{ endpoint = \"leaf.get\", on = false }}",
                self.at("scale"),
                self.at("scale leaf"),
                self.at("throttle"),
                self.at("kill"),
                self.at("revive"),
            )
            .unwrap();
        }
        if self.has("degraded") {
            writeln!(
                text,
                "[[action]]\nat = \"{}\"\ndegrade = {{ endpoint = \"mid.get\", cost = \"40%\" }}\n\
                 [[action]]\nat = \"{}\"\ndegrade = {{ endpoint = \"mid.get\", cost = \"100%\" }}\n\
                 [[action]]\nat = \"{}\"\ndegrade = {{ endpoint = \"leaf.get\", cost = \"0%\" }}",
                self.at("degrade"),
                self.at("in full"),
                self.at("degrade leaf"),
            )
            .unwrap();
        }
        if self.has("fewer calls") {
            writeln!(
                text,
                "[[action]]\nat = \"{}\"\nthrottle = {{ service = \"mid\", callee = \"leaf\", share = \"30%\" }}\n\
                 [[action]]\nat = \"{}\"\nthrottle = {{ service = \"mid\", callee = \"leaf\", share = \"100%\" }}\n\
                 [[action]]\nat = \"{}\"\nthrottle = {{ source = \"web\", callee = \"front\", share = \"70%\" }}",
                self.at("fewer"),
                self.at("all again"),
                self.at("fewer of web"),
            )
            .unwrap();
        }
        if self.has("resizing") {
            for (name, size) in [
                ("shrink", "cpu-request = 0.2, cpu-limit = 0.4"),
                ("grow", "cpu-request = 1.5, cpu-limit = 2"),
                ("swell", "cpu-request = 5, cpu-limit = 5.5, memory = \"1GiB\""),
            ] {
                let service = self.one_of(&format!("{name} whom"), &["mid", "leaf"]);
                writeln!(
                    text,
                    "[[action]]\nname = \"{name}\"\nat = \"{}\"\nresize = {{ service = \"{service}\", {size} }}",
                    self.at(name)
                )
                .unwrap();
            }
        }
        let settings = [
            ("stop-the-world", "{}"),
            ("container-swap", "{ batch = 2 }"),
            ("recreate", "{ min-ready = \"1s\", progress-deadline = \"3s\", revision-history-limit = 0 }"),
            (
                "rolling",
                "{ max-surge = 1, max-unavailable = 0, min-ready = \"2s\", progress-deadline = \"4s\" }",
            ),
            (
                "canary",
                "{ traffic-routing = true, scale-down-delay = \"1s\", steps = [{ set-weight = 30 }, \
                 { pause = { duration = \"2s\" } }, { set-weight = 60 }], analysis = { metrics = [{ judge.threshold = \
                 { metric = \"error-ratio\", window = \"2s\", success.below = 0.5 }, interval = \"1s\", failure-limit = 2 }] } }",
            ),
            (
                "blue-green",
                "{ preview-replica-count = 1, auto-promotion = \"1s\", scale-down-delay = \"2s\" }",
            ),
            (
                "flagger",
                "{ interval = \"1s\", step-weight = 25, max-weight = 50, threshold = 3, metrics = [{ judge.threshold = \
                 { metric = \"mean-latency\", window = \"2s\", success.below = 10 } }] }",
            ),
        ];
        for (how, settings) in settings {
            if self.has(how) {
                let service = self.one_of(how, &["mid", "leaf"]);
                writeln!(
                    text,
                    "[[rollout]]\nname = \"{how}\"\nat = \"{}\"\nservice = \"{service}\"\nto = \"v2\"\n{how} = {settings}",
                    self.at(how)
                )
                .unwrap();
            }
        }
        let settings = [
            ("quiescence", "{ message = \"3ms\" }"),
            ("tranquillity", "{}"),
            ("version-consistency", "{ strategy = \"blocking\", message = \"3ms\" }"),
            ("update-request", "{ poll = \"100ms\" }"),
            ("state-hand-over", "{}"),
        ];
        for (how, settings) in settings {
            if self.has(how) {
                let service = self.one_of(how, &["mid", "leaf"]);
                let strategy = self.one_of("strategy", &["blocking", "concurrent-versions", "waiting"]);
                let settings = settings.replace("blocking", strategy);
                let update = |name: &str, to: &str| {
                    format!(
                        "[[rollout]]\nname = \"{name}\"\nat = \"{}\"\nservice = \"{service}\"\nto = \"{to}\"\n{how} = {settings}\n",
                        self.at(name)
                    )
                };
                let mut updates = update(how, "v2");
                if self.has("second update") {
                    updates += &update(&format!("{how} back"), "v1");
                }
                // Some things on an edge keep versions from being told apart, and such an update is refused.
                let whole = format!("{text}{updates}");
                if Study::from_text("story", &whole, &Overrides::default()).is_ok() {
                    text = whole;
                }
            }
        }
        let updated = ["stop-the-world", "container-swap", "recreate", "rolling"];
        for how in updated.into_iter().filter(|how| self.has("undo") && self.has(how)) {
            let (service, at) = (self.one_of(how, &["mid", "leaf"]), self.at(&format!("undo {how}")));
            let to = self.number(&format!("undo {how} to"), 0, 3);
            writeln!(
                text,
                "[[action]]\nname = \"undo {how}\"\nat = \"{at}\"\nundo = {{ service = \"{service}\", to-revision = {to} }}"
            )
            .unwrap();
        }
        if self.has("rollout acts") {
            let all = ["promote", "abort", "pause", "resume", "retry"];
            let acts = [
                ("rolling", &all[2..4]),
                ("recreate", &all[2..4]),
                ("flagger", &all[1..4]),
                ("canary", &all[..]),
                ("blue-green", &all[..]),
            ];
            for (how, verbs) in acts.into_iter().filter(|(how, _)| self.has(how)) {
                let service = self.one_of(how, &["mid", "leaf"]);
                for nth in 0..4 {
                    let verb = self.one_of(&format!("{how} act {nth}"), verbs);
                    let at = self.at(&format!("{how} act {nth} at"));
                    writeln!(
                        text,
                        "[[action]]\nname = \"{how} {nth}\"\nat = \"{at}\"\n{verb} = {{ service = \"{service}\" }}"
                    )
                    .unwrap();
                }
            }
        }
        if self.has("switching") {
            for nth in 0..3 {
                let (service, at) =
                    (self.one_of("switched", &["mid", "leaf"]), self.at(&format!("switch {nth}")));
                let to = self.one_of(&format!("switch {nth} to"), &["v1", "v2", "v3", "parent"]);
                writeln!(
                    text,
                    "[[action]]\nname = \"switch {nth}\"\nat = \"{at}\"\nswitch = {{ service = \"{service}\", version = \"{to}\" }}"
                )
                .unwrap();
            }
        }
        if self.has("configurations") {
            writeln!(
                text,
                "[[config]]\nname = \"knobs\"\nenvironment = {{ staging = \"mid\", production = \"leaf\" }}\ndelay = \"exp(500ms)\"\n\
                 encryption = \"5ms\"\nrestart = {}\n[[config.version]]\nname = \"c1\"\n[[config.version]]\nname = \"c2\"\nerror-rate = \"30%\"\n\
                 [[config.version]]\nname = \"c3\"\ndemand = 3",
                self.number("config restart", 0, 1) == 0
            )
            .unwrap();
            for nth in 0..5 {
                let version = self.one_of(&format!("publish {nth}"), &["c1", "c2", "c3"]);
                let how = self.one_of(
                    &format!("publish {nth} how"),
                    &[
                        "",
                        ", environment = \"production\"",
                        ", share = \"40%\", soak = \"2s\"",
                        ", batch = { size = 2, takes = \"exp(300ms)\", failure-rate = \"30%\", retries = 1, max-failed = \"60%\" }",
                    ],
                );
                writeln!(
                    text,
                    "[[action]]\nname = \"publish {nth}\"\nat = \"{}\"\npublish = {{ config = \"knobs\", version = \"{version}\"{how} }}",
                    self.at(&format!("publish {nth} at"))
                )
                .unwrap();
            }
        }
        if self.has("configurations") {
            let (at, lasts) = (self.at("bad config"), self.lasting("bad config lasts"));
            writeln!(
                text,
                "[[fault]]\nname = \"bad config\"\nat = \"{at}\"\nbad-config = {{ config = \"knobs\", version = \"c2\", for = \"{lasts}\" }}"
            )
            .unwrap();
        }
        if self.has("taken back") {
            writeln!(
                text,
                "[[rollback]]\nname = \"guard\"\nservice = \"{}\"\nerror-ratio = \"5%\"\nmean-latency = \"50ms\"\ncrashes = 2\n\
                 every = \"1s\"\nwindow = \"4s\"\nsettle = \"4s\"\nleast = 3\nmax-steps = 3",
                self.one_of("guarded", &["mid", "leaf"])
            )
            .unwrap();
        }
        if self.has("second rollout") {
            for (name, to) in [("back", "v1"), ("on", "v3")] {
                writeln!(
                    text,
                    "[[rollout]]\nname = \"{name}\"\nat = \"{}\"\nservice = \"mid\"\nto = \"{to}\"\nrolling = {{}}",
                    self.at(name)
                )
                .unwrap();
            }
        }
        text
    }

    /// Topics and transactions.
    fn errands(&self, text: &mut String) {
        let topic = self.has("messages");
        if topic {
            let delivery = match () {
                () if self.has("known messages") => "effectively-once",
                () if self.has("careless messages") => "at-most-once",
                () => "at-least-once",
            };
            let order = if self.has("ordered messages") { "order = \"key\"\npartitions = 3\n" } else { "" };
            let full = self.one_of("full", &["reject", "drop-oldest", "drop-newest"]);
            let length = if self.has("short queue") { self.number("length", 1, 20) } else { 100_000 };
            let loss = if self.has("lossy messages") { "loss = \"10%\"\n" } else { "" };
            writeln!(
                text,
                "[[topic]]\nname = \"news\"\ndelivery = \"{delivery}\"\n{order}{loss}publish = \"{}\"\n\
                 keys = 5\nack-timeout = \"{}ms\"\nlength = {length}\nfull = \"{full}\"\nmax-deliveries = {}\n\
                 redelivery = {{ delay = \"50ms\", max = \"1s\" }}\nretention = \"{}s\"\n\
                 consumer = [{{ endpoint = \"mid.note\", concurrency = 2 }}, {{ endpoint = \"leaf.note\" }}]",
                self.law("publish", 500),
                self.number("ack", 20, 3000),
                self.number("deliveries", 1, 6),
                self.number("retention", 3, 9),
            )
            .unwrap();
            if self.has("broker") {
                let what =
                    format!("broker-outage = {{ topic = \"news\", for = \"{}\" }}", self.lasting("broker"));
                self.fault(text, "broker", &what);
            }
            if self.has("topic actions") {
                writeln!(
                    text,
                    "[[action]]\nat = \"{}\"\nstop-topic = {{ topic = \"news\" }}\n\
                     [[action]]\nat = \"{}\"\nresume-topic = {{ topic = \"news\" }}\n\
                     [[action]]\nat = \"{}\"\nreplay = {{ topic = \"news\", before = \"{}ms\" }}",
                    self.at("stop topic"),
                    self.at("resume topic"),
                    self.at("replay"),
                    self.number("replay before", 0, 3000),
                )
                .unwrap();
            }
        }
        if let Some(how) = self.protocol() {
            let saga = how == "saga";
            let settings = match () {
                () if saga => self.one_of(
                    "saga",
                    &["", "attempts = 2", "pivot = 1", "recovery = \"forward\"", "compensation-attempts = 2"],
                ),
                () if self.has("presumes nothing") => "presumption = \"nothing\", heuristic-after = \"4s\"",
                () => "inquire-after = \"400ms\", vote-timeout = \"2s\"",
            };
            let helpful = if !saga && self.has("helpful") {
                if settings.is_empty() { "cooperative = true" } else { ", cooperative = true" }
            } else {
                ""
            };
            let part = |service: &str| {
                format!(
                    "{{ prepare = \"{service}.prepare\", commit = \"{service}.commit\", abort = \"{service}.abort\", \
                     rows = {}, lock-timeout = \"{}ms\" }}",
                    self.number(&format!("{service} rows"), 1, 9),
                    self.number(&format!("{service} patience"), 1, 2000),
                )
            };
            writeln!(
                text,
                "[[transaction]]\nname = \"pair\"\nlog = \"{}\"\n{how} = {{ {settings}{helpful} }}\nparticipant = [{}, {}]",
                self.law("log", 1000),
                part("mid"),
                part("leaf"),
            )
            .unwrap();
            if self.has("dying coordinators") {
                for (nth, point) in ["voted", "decided"].into_iter().enumerate() {
                    writeln!(
                        text,
                        "[[fault]]\nname = \"dies {nth}\"\nat = \"{}\"\ncrash-coordinator = {{ transaction = \"pair\", point = \"{point}\" }}",
                        self.at(point),
                    )
                    .unwrap();
                }
            }
        }
    }

    fn protocol(&self) -> Option<&'static str> {
        match () {
            () if self.has("two-phase") => Some("two-phase-commit"),
            () if self.has("saga") => Some("saga"),
            () => None,
        }
    }

    fn services(&self, text: &mut String) {
        let mean = if self.has("zero steps") { 0 } else { 4000 };
        let attempt = if self.has("attempt part") { " * exp(1)" } else { "" };
        let mut front = vec![format!("cpu {}", self.law("front cpu", mean / 4))];
        front.push(match () {
            () if self.has("parallel any") => "parallel any mid.get mid.get leaf.get".to_owned(),
            () if self.has("quorum") => "parallel quorum=2 mid.get mid.get leaf.get timeout=150ms".to_owned(),
            () if self.has("route") => "route path /a mid.get, /b* leaf.get, * mid.get".to_owned(),
            () if self.has("choose") => "choose 60% mid.get, 30% leaf.get".to_owned(),
            () if self.has("probability") => "call mid.get probability=60%".to_owned(),
            () => "call mid.get".to_owned(),
        });
        if self.has("messages") {
            front.push("publish news probability=60%".to_owned());
        }
        if self.protocol().is_some() {
            front.push("transaction pair".to_owned());
        }
        let mut mid = vec![format!("cpu {}{attempt}", self.law("mid cpu", mean))];
        if self.has("wait") {
            mid.push(format!("wait {}", self.law("mid wait", 5000)));
        }
        if self.has("pool") {
            mid.push("pool db".to_owned());
        }
        if self.has("cache") || self.has("shared cache") {
            mid.push("cache keys".to_owned());
        }
        mid.push("call leaf.get".to_owned());
        if self.has("pool around cpu") {
            mid.push("pool db".to_owned());
            mid.push(format!("cpu {}", self.law("mid more cpu", mean / 2)));
        }
        let mut leaf = vec![format!("cpu {}", self.law("leaf cpu", mean))];
        if self.has("cycle") {
            leaf.push("call mid.get probability=30%".to_owned());
        }
        if self.has("self call") {
            leaf.push("call leaf.get probability=40%".to_owned());
        }
        for (name, steps, edge) in
            [("front", &front, "front"), ("mid", &mid, "mid"), ("leaf", &leaf, "front")]
        {
            let has = |what: &str| {
                let feature = format!("{name} {what}");
                FEATURES.contains(&feature.as_str()) && self.has(&feature)
            };
            let number = |what: &str, from, to| self.number(&format!("{name} {what}"), from, to);
            let replicas = if has("starts at zero") { 0 } else { number("replicas", 1, 3) };
            writeln!(text, "[[service]]\nname = \"{name}\"\nreplicas = {replicas}\nprice = \"0.1/h\"")
                .unwrap();
            if self.has("weights") {
                text.push_str("weights = [1, 3, 2]\n");
            }
            if self.has("apart") && name == "mid" {
                *text += "anti-affinity = \"node\"\n";
            }
            if self.has("even zones") && name == "leaf" {
                *text += "zone-max-skew = 1\n";
            }
            if self.has("nodes") && self.has("second pool") {
                let pool = self.one_of(&format!("{name} pool"), &["general", "other"]);
                writeln!(text, "node-pool = \"{pool}\"").unwrap();
            }
            let some = |what: &str| {
                let feature = format!("{name} {what}");
                EXTRAS.contains(&feature.as_str()) && self.has(&feature)
            };
            if some("registry") {
                let registries = [
                    ".poll = { period = \"3s\" }",
                    ".heartbeats = { detector.heartbeat = { period = \"1s\", misses = 2 }, push-delay-max = \"1s\" }",
                    ".heartbeats = { detector.phi-accrual = { acceptable-heartbeat-pause = \"1s\" }, fetch = \"2s\" }",
                    ".eureka = { lease-renewal-interval = \"1s\", lease-expiration-duration = \"2s\", eviction-interval = \"2s\", \
                     response-cache-update-interval = \"1s\", registry-fetch-interval = \"1s\" }",
                    ".consul = { ttl = \"3s\" }",
                    ".swim = { probe-interval = \"500ms\" }",
                ];
                let which = self.one_of(&format!("{name} registry"), &registries);
                writeln!(text, "discovery{which}").unwrap();
            } else if self.has("discovery") {
                text.push_str("discovery = \"uniform(0s, 3s)\"\n");
            }
            if self.has("listeners") {
                let kinds = [
                    "idle-timeout = \"40ms\"",
                    "max-age = \"exp(400ms)\"",
                    "max-requests = 3",
                    "max-connections = 2",
                ];
                let kind = self.one_of(&format!("{name} listener"), &kinds);
                writeln!(text, "listener = {{ {kind} }}").unwrap();
            }
            if some("probes") {
                let port = self.one_of(
                    &format!("{name} probe"),
                    &["own-port = true", "cost = \"exp(1ms)\"", "endpoint = \"get\""],
                );
                for (kind, more) in
                    [("startup", ""), ("liveness", ""), ("readiness", ", success-threshold = 2")]
                {
                    if number(kind, 0, 2) > 0 {
                        writeln!(
                            text,
                            "probe.{kind} = {{ period = \"800ms\", timeout = \"{}ms\", initial-delay = \"{}ms\", failure-threshold = 2, {port}{more} }}",
                            number("probe timeout", 10, 300),
                            number("probe delay", 0, 1000),
                        )
                        .unwrap();
                    }
                }
            }
            if has("activator") || has("metered") {
                let metered = if has("metered") { ", per-instance = 2" } else { "" };
                writeln!(
                    text,
                    "activator = {{ capacity = {}, timeout = \"{}ms\"{metered} }}",
                    number("capacity", 1, 40),
                    number("patience", 50, 9000)
                )
                .unwrap();
            }
            if has("kpa") {
                writeln!(
                    text,
                    "autoscaler.kpa = {{ max-scale = 4, window = \"6s\", scale-to-zero-grace-period = \"1s\", container-concurrency = {} }}",
                    number("concurrency", 0, 3)
                )
                .unwrap();
            } else if has("keda") {
                text.push_str(
                    "autoscaler.keda = { max-replica-count = 4, polling-interval = \"2s\", cooldown-period = \"3s\", triggers = [{ metric = \"service.leaf.concurrency\", threshold = 2 }] }\n",
                );
            }
            if has("hpa from zero") && !self.has("hpa") && !self.has("formula") {
                text.push_str(
                    "autoscaler.hpa = { min-replicas = 0, max-replicas = 4, sync-period = \"2s\", downscale-stabilization = \"3s\", metrics = [{ object = { of = \"service.mid\", metric = \"concurrency\", average-value = 2 } }] }\n",
                );
            }
            if name == "mid" && self.has("hpa") {
                text.push_str(
                    "autoscaler.hpa = { min-replicas = 1, max-replicas = 6, target-cpu-utilization = 50, \
                     downscale-stabilization = \"10s\" }\nmetrics = { period = \"2s\", window = \"6s\", delay = \"1s\" }\n",
                );
            } else if name == "mid" && self.has("formula") {
                text.push_str("autoscaler.seed-formula = { interval = \"5s\" }\n");
            }
            if name == "mid" && self.has("mid shares") {
                text.push_str(
                    "limiter.partitioned = { delegate.fixed = 4, partitions = [{ priority = 3, percent = \"60%\" }, { priority = 0, percent = \"10%\" }] }\n",
                );
            } else if name == "mid" && self.has("mid bulkhead inside") {
                text.push_str("limiter.bulkhead = { max-concurrent = 5 }\n");
            }
            if name == "leaf" && self.has("leaf bucket inside") {
                text.push_str("limiter.seed-token-bucket = { capacity = 10, fill-rate = \"25/s\" }\n");
            }
            if (name == "mid" && self.has("mid vpa")) || (name == "leaf" && self.has("leaf vpa")) {
                let modes = ["off", "initial", "recreate", "in-place", "in-place-or-recreate"];
                let mode = self.one_of(&format!("{name} mode"), &modes);
                writeln!(
                    text,
                    "recommender.vpa = {{ update-mode = \"{mode}\", recommender-interval = \"2s\", updater-interval = \"3s\", \
                     min-replicas = 1, pod-update-threshold = \"1%\", \
                     in-recommendation-bounds-eviction-lifetime-threshold = \"4s\", \
                     in-place-skip-disruption-budget = true, max-allowed = {{ cpu = 2, memory = \"3GiB\" }} }}"
                )
                .unwrap();
                if name == "leaf" || !self.has("hpa") {
                    text.push_str("metrics = { period = \"1s\", window = \"3s\" }\n");
                }
            }
            writeln!(text, "instance = {{ {} }}", self.instance(name)).unwrap();
            if name == "leaf" && self.has("herd") {
                let way = self.one_of("herd way", &["seed", "one-at-a-time"]);
                writeln!(text, "on-outage = {{ way = \"{way}\", most = 12 }}").unwrap();
            }
            let steps: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
            writeln!(text, "[[service.endpoint]]\nname = \"get\"\nsteps = [{}]", steps.join(", ")).unwrap();
            if name != "front" && self.has("messages") {
                let steps = if name == "mid" { "\"cpu 2ms\", \"call leaf.get\"" } else { "\"cpu exp(3ms)\"" };
                writeln!(text, "[[service.endpoint]]\nname = \"note\"\nsteps = [{steps}]").unwrap();
            }
            if name != "front" && self.protocol().is_some() {
                for role in ["prepare", "commit", "abort"] {
                    let steps = if role == "prepare" { "\"cpu exp(2ms)\"" } else { "\"wait exp(2ms)\"" };
                    writeln!(text, "[[service.endpoint]]\nname = \"{role}\"\nsteps = [{steps}]").unwrap();
                }
            }
            if self.has("bytes") {
                *text += "network-use = { in = \"1KiB\", out = \"20KiB\" }\n";
            }
            if name == "mid" && self.has("mid side-car") {
                let limit = self.one_of("side-car limit", &["", "cpu-limit = 0.1\n", "cpu-limit = 3\n"]);
                writeln!(text, "[[service.sidecar]]\nname = \"proxy\"\ncost = \"exp(2ms)\"\n{limit}")
                    .unwrap();
            }
            if name == "mid" && (self.has("cache") || self.has("shared cache")) {
                let scope = if self.has("shared cache") { "service" } else { "instance" };
                let ttl = if self.has("ttl") { "ttl = \"400ms\"\n" } else { "" };
                writeln!(
                    text,
                    "[[service.cache]]\nname = \"keys\"\nkeys = {}\nzipf = 0.9\ncapacity = 20\nscope = \"{scope}\"\n\
                     single-flight = true\n{ttl}",
                    self.number("keys", 1, 60)
                )
                .unwrap();
            }
            if name == "mid" && (self.has("pool") || self.has("pool around cpu")) {
                let wait = if self.has("impatient pool") { "max-wait = \"15ms\"\n" } else { "" };
                let size = self.number("pool size", 1, 3);
                writeln!(text, "[[service.pool]]\nname = \"db\"\nsize = {size}\n{wait}").unwrap();
            }
            if name != "front" {
                let errors =
                    if name == "leaf" && self.has("leaf errors") { "error-rate = \"10%\"\n" } else { "" };
                let crashes = if self.has("crashing version") {
                    "crash-loop = \"exp(3s)\"\nparent = \"v1\"\n"
                } else {
                    ""
                };
                writeln!(
                    text,
                    "[[service.version]]\nname = \"v1\"\n{errors}[[service.version]]\nname = \"v2\"\ndemand = 1.3\n{crashes}\
                     [[service.version]]\nname = \"v3\"\nerror-rate = \"5%\""
                )
                .unwrap();
            }
            let callees: &[&str] = match name {
                "front"
                    if self.has("parallel any")
                        || self.has("quorum")
                        || self.has("choose")
                        || self.protocol().is_some()
                        || self.has("route") =>
                {
                    &["mid", "leaf"]
                }
                "front" => &["mid"],
                "mid" => &["leaf"],
                _ if self.has("self call") && self.has("cycle") => &["mid", "leaf"],
                _ if self.has("self call") => &["leaf"],
                _ if self.has("cycle") => &["mid"],
                _ => &[],
            };
            for callee in callees {
                writeln!(text, "[service.call.{callee}]\n{}", self.edge(edge)).unwrap();
            }
        }
    }

    fn sources(&self, text: &mut String) {
        let rate = if self.has("long") { 6 } else { 60 };
        let rate = self.number("rate", rate / 2, rate * 2);
        let deadline = |text: &mut String| {
            if self.has("deadline") {
                writeln!(text, "deadline = \"{}ms\"", self.number("deadline ms", 20, 1500)).unwrap();
                if self.has("propagate") {
                    text.push_str("propagate-deadline = true\n");
                }
            }
        };
        text.push_str("[[source]]\nname = \"web\"\nto = \"front.get\"\n");
        if self.has("affinity") || self.has("route") {
            text.push_str(
                "attributes = { session = \"zipf(50, 1)\", path = \"30% /a, 20% /b/1, 20% /b/2\" }\n",
            );
        }
        deadline(text);
        if self.has("web clients") {
            writeln!(text, "clients = {}", self.number("clients", 2, 9)).unwrap();
        }
        if self.has("mmpp") {
            writeln!(
                text,
                "arrivals.mmpp = {{ states = [{{ rate = \"{rate}/s\", lasts = \"2s\" }}, {{ rate = \"{}/s\", lasts = \"1s\" }}] }}",
                rate * 4
            )
            .unwrap();
        } else {
            writeln!(text, "arrivals.poisson = {{ rate = \"{rate}/s\" }}").unwrap();
        }
        writeln!(text, "[source.call.front]\n{}", self.edge("web")).unwrap();
        if self.has("users") {
            let leave = if self.has("leaving users") { ", leave = \"50%\", away = \"exp(5s)\"" } else { "" };
            writeln!(
                text,
                "[[source]]\nname = \"people\"\npriority = 3\nattributes.session = \"user\"\nsteps = [\"call front.get\", \"wait exp(50ms)\", \"call mid.get\"]\n\
                 arrivals.users = {{ count = {}, think = \"exp(1s)\"{leave} }}",
                self.number("people", 1, 10)
            )
            .unwrap();
            deadline(text);
            writeln!(text, "[source.call.front]\n{}", self.edge("web")).unwrap();
        }
        if self.has("second source") {
            let zone = if self.has("nodes") { "zone = \"b\"\n" } else { "" };
            writeln!(
                text,
                "[[source]]\nname = \"batch\"\npriority = 1\nto = \"mid.get\"\n{zone}arrivals.deterministic = {{ rate = \"5/s\" }}"
            )
            .unwrap();
        }
        if self.has("counted source") {
            text.push_str(
                "[[source]]\nname = \"counted\"\nto = \"leaf.get\"\nrequests = 100\narrivals.poisson = { rate = \"20/s\" }\n",
            );
        }
    }
}

/// Runs a text; a limit that it hits is its own fault, everything else is ours.
fn run(text: &str) -> Option<StudyOutcome> {
    let study = Study::from_text("story", text, &Overrides::default())
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    match lab::run(&study, &RunOptions { threads: Some(1) }, &Progress::default()) {
        Ok(outcome) => Some(outcome),
        Err(LabError::Stopped { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// What must hold of the results of any run.
fn plausible(outcome: &StudyOutcome) {
    let replication = &outcome.strategies[0].replications[0];
    let metrics = &replication.metrics;
    for (name, value) in metrics {
        assert!(value.is_finite() && *value >= 0.0, "{name} = {value}");
        let share = ["availability", "hit_ratio", "work_ratio", "waited_ratio"];
        if share.iter().any(|ending| name.ends_with(ending)) || name.ends_with("finished_ratio") {
            assert!(*value <= 1.0 + 1e-9, "{name} = {value}");
        }
    }
    let sum: f64 = ["availability", "failed_ratio", "timeout_ratio", "rejected_ratio", "unfinished_ratio"]
        .iter()
        .filter_map(|name| metrics.get(*name))
        .sum();
    assert!(metrics["requests"] == 0.0 || (sum - 1.0).abs() < 1e-9, "the endings sum to {sum}");
    let windows = replication.timeline.t_s.len();
    for series in &replication.timeline.series {
        assert_eq!(series.values.len(), windows, "{} {} {}", series.scope, series.name, series.metric);
    }
}

/// Whatever is measured can stand in a threshold.
fn known_to_thresholds(text: &str, outcome: &StudyOutcome) {
    let mut text = text.to_owned();
    if !text.contains("[thresholds]") {
        text += "\n[thresholds]\n";
    }
    for name in outcome.strategies[0].replications[0].metrics.keys() {
        writeln!(text, "\"{name}\" = [\"mean < 1\"]").unwrap();
    }
    // Most want a unit, which is another matter.
    if let Err(error) = Study::from_text("story", &text, &Overrides::default()) {
        let error = error.to_string();
        assert!(!error.contains("unknown metric"), "{error}");
    }
}

/// How many scenarios to try; `SIMLAB_CASES=20000` for a long night.
fn cases() -> u32 {
    std::env::var("SIMLAB_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_books_balance(
        seed in any::<u64>(),
        features in prop::collection::btree_set(0..FEATURES.len() + EXTRAS.len(), 1..60),
    ) {
        let text = Writer { seed, features: &features }.text();
        if std::env::var_os("SIMLAB_SHOW").is_some() {
            let _ = std::fs::write("/tmp/last-story.toml", &text);
        }
        if let Some(outcome) = run(&text) {
            plausible(&outcome);
            known_to_thresholds(&text, &outcome);
        }
    }
}
