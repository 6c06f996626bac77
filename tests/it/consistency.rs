//! Dynamic updates: no request meets two versions where that is promised, and the story of the hole in tranquillity.

use proptest::prelude::*;

use crate::story::{Told, load, run, tell};

/// A random acyclic system: service `s0` is the front, every service may call those after it.
fn system(size: usize, calls: &[u8], waits: &[u8], replicas: u32) -> String {
    let mut text = String::new();
    let mut at = 0;
    let mut next = || {
        at += 1;
        calls[at % calls.len()]
    };
    for service in 0..size {
        let mut steps = vec![format!("\"wait exp({}ms)\"", 1 + waits[service % waits.len()] % 40)];
        for _ in 0..2 {
            let left = size - service - 1;
            if left == 0 {
                break;
            }
            let callee = service + 1 + usize::from(next()) % left;
            let other = service + 1 + usize::from(next()) % left;
            steps.push(match next() % 5 {
                0 => format!("\"choose 40% s{callee}.get, 30% s{other}.get\""),
                1 if callee != other => format!("\"parallel s{callee}.get s{other}.get\""),
                2 => format!("\"call s{callee}.get probability=50%\""),
                _ => format!("\"call s{callee}.get\""),
            });
            steps.push(format!("\"cpu exp({}ms)\"", 1 + next() % 5));
        }
        text += &format!(
            "[[service]]\nname = \"s{service}\"\nreplicas = {replicas}\ndiscovery = \"uniform(0s, 300ms)\"\n\
             instance = {{ cores = 8, mode = \"async\", max-in-flight = 5000, start = \"500ms\", grace = \"5s\" }}\n\
             [[service.endpoint]]\nname = \"get\"\nsteps = [{}]\n[[service.version]]\nname = \"v1\"\n\
             [[service.version]]\nname = \"v2\"\n",
            steps.join(", ")
        );
    }
    text
}

fn source(rate: u32) -> String {
    format!(
        "[network]\nsame-zone = \"1ms\"\n[[source]]\nname = \"users\"\nto = \"s0.get\"\nclients = 3\n\
         arrivals.poisson = {{ rate = \"{rate}/s\" }}\n"
    )
}

fn update(target: usize, at_ms: u32, how: &str) -> String {
    format!("[[rollout]]\nat = \"{at_ms}ms\"\nservice = \"s{target}\"\nto = \"v2\"\n{how}\n")
}

const SAFE: [&str; 4] = [
    "version-consistency = {}",
    "version-consistency = { strategy = \"blocking\" }",
    "version-consistency = { strategy = \"waiting\" }",
    "quiescence = {}",
];

fn told(text: &str) -> Told {
    tell("8s", text)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 0, ..ProptestConfig::default() })]

    /// Whatever calls whom, whenever the update comes: no request meets two versions, and none fails for it.
    #[test]
    fn a_safe_update_shows_every_request_one_version(
        size in 2_usize..7,
        calls in prop::collection::vec(any::<u8>(), 24),
        waits in prop::collection::vec(any::<u8>(), 8),
        target in any::<prop::sample::Index>(),
        at in 500_u32..4_000,
        replicas in 1_u32..4,
        retries in any::<bool>(),
    ) {
        let target = target.index(size);
        let retry = if retries && target > 0 {
            "[service.callers]\ntimeout = \"60ms\"\nretry.exponential = { attempts = 3, base = \"5ms\" }\n"
        } else {
            ""
        };
        for how in SAFE {
            let mut system = system(size, &calls, &waits, replicas);
            if target > 0 {
                let at = system.find(&format!("name = \"s{target}\"")).unwrap();
                let end = system[at..].find("[[service]]").map_or(system.len(), |next| at + next);
                system.insert_str(end, retry);
            }
            let told = told(&format!("{system}{}{}", source(400), update(target, at, how)));
            prop_assert_eq!(told.metric("version_inconsistent_requests"), 0.0, "{}", how);
            if retry.is_empty() {
                prop_assert_eq!(told.metric("availability"), 1.0, "{}", how);
            }
            if how != SAFE[2] {
                prop_assert_eq!(told.metric(&format!("rollout.s{target}.unfinished")), 0.0, "{}", how);
            }
        }
    }
}

/// A million requests through each safe update, one after the other.
#[test]
fn none_in_a_million() {
    let calls = [3, 1, 3, 0, 1, 4, 2, 2, 3, 9, 6, 3, 8, 1, 0, 5];
    let mut requests = 0.0;
    for (number, how) in SAFE.iter().enumerate() {
        let system = system(5, &calls, &[3, 8, 1, 12], 2);
        let text = format!("{system}{}{}", source(2_000), update(3, 1_700 + 100 * number as u32, how));
        let study = load(&format!(
            "[scenario]\nname = \"story\"\nduration = \"8s\"\nwarm-up = \"0s\"\nreplications = 16\nseed = {number}\n{text}"
        ));
        for run in &run(&study, 2).strategies[0].replications {
            assert_eq!(run.metrics["version_inconsistent_requests"], 0.0, "{how}");
            requests += run.requests as f64;
        }
    }
    assert!(requests > 1e6, "{requests}");
}

/// Portal, auth and proc by hand: one request every second, the token at its beginning and the verification 400 ms later.
fn portal(how: &str, at: &str) -> Told {
    let service = |name: &str, endpoints: &[(&str, &str)]| {
        let endpoints: String = endpoints
            .iter()
            .map(|(name, steps)| format!("[[service.endpoint]]\nname = \"{name}\"\nsteps = [{steps}]\n"))
            .collect();
        format!(
            "[[service]]\nname = \"{name}\"\ninstance = {{ mode = \"async\", max-in-flight = 100 }}\n{endpoints}\
             [[service.version]]\nname = \"v1\"\n[[service.version]]\nname = \"v2\"\n"
        )
    };
    let text = [
        service("portal", &[("do", "\"call auth.token\", \"wait 200ms\", \"call proc.work\"")]),
        service("auth", &[("token", "\"wait 100ms\""), ("verify", "\"wait 100ms\"")]),
        service("proc", &[("work", "\"wait 100ms\", \"call auth.verify\", \"wait 100ms\"")]),
        "[[source]]\nname = \"users\"\nto = \"portal.do\"\narrivals.deterministic = { rate = \"1/s\" }\n"
            .to_owned(),
        format!("[[rollout]]\nat = \"{at}\"\nservice = \"auth\"\nto = \"v2\"\n{how}\n"),
    ]
    .concat();
    tell("20s", &text)
}

/// The request that begins at 5 s has its token at 5.1 s, is verified from 5.4 to 5.5 s and answered at 5.6 s.
#[test]
fn each_criterion_waits_for_its_own_moment() {
    let waited = |how: &str, at: &str| {
        let told = portal(how, at);
        (told.metric("rollout.auth.timeliness_s"), told.metric("version_inconsistent_requests"))
    };
    let about =
        |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
    let blocking = "version-consistency = { strategy = \"blocking\" }";
    // B, the token call runs: all wait, tranquillity for the end of that call, which is the wrong moment.
    let (time, inconsistent) = waited("tranquillity = {}", "5050ms");
    about(time, 0.05);
    assert_eq!(inconsistent, 1.0);
    for how in [blocking, "version-consistency = {}", "version-consistency = { strategy = \"waiting\" }"] {
        let (time, inconsistent) = waited(how, "5050ms");
        about(time, 0.45);
        assert_eq!(inconsistent, 0.0, "{how}");
    }
    let (time, inconsistent) = waited("quiescence = {}", "5050ms");
    about(time, 0.55);
    assert_eq!(inconsistent, 0.0);
    // C, between token and verification: tranquil, and wrong.
    assert_eq!(waited("tranquillity = {}", "5200ms"), (0.0, 1.0));
    about(waited(blocking, "5200ms").0, 0.3);
    // D, after the verification: free, and the request is not over.
    about(waited(blocking, "5550ms").0, 0.0);
    about(waited("quiescence = {}", "5550ms").0, 0.05);
    // A, before anything.
    about(waited(blocking, "4900ms").0, 0.0);
    about(waited("quiescence = {}", "4900ms").0, 0.0);
}

#[test]
fn who_is_held_goes_on_when_the_moment_has_come() {
    // Asked at 5.05 s with messages of 500 ms there and back, the edges stand at 6.05 s; the call to proc of 5.3 s waits for
    // that, and so does the request of 6 s at the portal's door; then its token has to wait until proc's verification is answered
    // at 6.25 s.
    let told = portal("version-consistency = { strategy = \"blocking\", message = \"500ms\" }", "5050ms");
    assert_eq!(told.metric("version_inconsistent_requests"), 0.0);
    assert_eq!(told.metric("rollout.auth.held"), 3.0);
    // 0.75 s, 0.05 s, and 0.2 s for the token.
    assert!((told.metric("rollout.auth.held_s") - 1.0).abs() < 1e-6);
    assert!((told.metric("rollout.auth.timeliness_s") - 1.2).abs() < 1e-6);
    assert_eq!(told.metric("rollout.auth.held_lost"), 0.0);
    assert_eq!(told.metric("availability"), 1.0);
    // Without messages: the request of 5 s stands in the way until 5.5 s, nobody comes before that.
    let told = portal("version-consistency = { strategy = \"blocking\" }", "5050ms");
    assert_eq!(told.metric("rollout.auth.held"), 0.0);
}

#[test]
fn an_update_request_looks_and_then_swaps() {
    // Busy from 5.0 to 5.5 s in each second; looks at 5.05, 5.35 and 5.65 s, and the swap is at once.
    let told = portal("update-request = { poll = \"300ms\" }", "5050ms");
    assert!((told.metric("rollout.auth.timeliness_s") - 0.6).abs() < 1e-6);
    assert_eq!(told.metric("version_inconsistent_requests"), 0.0);
    // Every full second the flag is up at 50 ms.
    let told = portal("update-request = { poll = \"1s\" }", "5050ms");
    assert_eq!(told.metric("rollout.auth.unfinished"), 1.0);
}

#[test]
fn a_handed_over_state_makes_two_versions_one() {
    let inconsistent = |how: &str| portal(how, "5200ms").metric("version_inconsistent_requests");
    // Switched at 5.2 s, the verification comes at 5.4 s.
    assert_eq!(inconsistent("container-swap = {}"), 1.0);
    assert_eq!(inconsistent("state-hand-over = { write = \"100ms\", read = \"99ms\" }"), 0.0);
    assert_eq!(inconsistent("state-hand-over = { write = \"100ms\", read = \"101ms\" }"), 1.0);
}
