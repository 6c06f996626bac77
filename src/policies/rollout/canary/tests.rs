use super::*;

fn set(spec: u32, available: u32, is_new: bool) -> ReplicaSet {
    ReplicaSet { spec, available, ready: available, existing: spec.max(available), is_new }
}

fn canary(settings: &str) -> Canary {
    Canary::new(&toml::from_str(settings).unwrap(), Time::ZERO)
}

/// Plays a rollout of 10 replicas against a world in which everything that is wanted is there at once; what it did, one line
/// per order.
fn story(
    rollout: &mut Canary,
    from: u64,
    until: u64,
    sets: &mut [ReplicaSet; 2],
    errors: u64,
) -> Vec<String> {
    use crate::policies::judge::{Pair, Reading};
    let mut lines = Vec::new();
    for second in from..until {
        let now = Time::from_secs(second);
        for order in 0.. {
            assert!(order < 100, "{lines:?}");
            match rollout.sync(now, 10, &*sets) {
                None => break,
                Some(Command::Scale { set, to }) => {
                    sets[set] = self::set(to, to, set == 1);
                    lines.push(format!("{second} scale {set} to {to}"));
                }
                Some(Command::Weight { new, of }) => lines.push(format!("{second} weight {new}/{of}")),
                Some(Command::Measure(_)) => {
                    let canary = Reading { requests: 100, errors, ..Reading::default() };
                    let whole = Pair { canary, baseline: canary };
                    rollout.on_evidence(now, &Evidence { whole, steps: Vec::new() });
                }
                Some(Command::Tell(Milestone::Measured { .. })) => {}
                Some(Command::Tell(news)) => lines.push(format!("{second} {news:?}")),
                Some(end) => {
                    lines.push(format!("{second} {end:?}"));
                    return lines;
                }
            }
        }
    }
    lines
}

const STEPS: &str = "steps = [{ set-weight = 20 }, { pause = { duration = '60s' } }, { set-weight = 50 }]\n";
const ANALYSIS: &str = "analysis.metrics = [{ judge.threshold = { metric = 'error-ratio', success.below = 0.05 }, interval = '10s' }]\n";

#[test]
fn routed_from_the_first_step_to_the_last_instance() {
    let mut rollout = canary(&format!("{STEPS}traffic-routing = true"));
    let mut sets = [set(10, 10, false), set(0, 0, true)];
    let lines = story(&mut rollout, 0, 200, &mut sets, 0);
    assert_eq!(
        lines,
        [
            "0 weight 0/100",
            "0 scale 1 to 2",
            "0 weight 20/100",
            "0 Step { done: 1, of: 3 }",
            "0 Paused",
            "61 Step { done: 2, of: 3 }",
            "61 scale 1 to 5",
            "61 weight 50/100",
            "61 Step { done: 3, of: 3 }",
            "61 scale 1 to 10",
            "61 weight 100/100",
            "61 Promoted",
            "91 scale 0 to 0",
            "91 Done",
        ]
    );
}

#[test]
fn without_a_router_numbers_make_the_weight() {
    let mut rollout = canary(STEPS);
    let mut sets = [set(10, 10, false), set(0, 0, true)];
    let lines = story(&mut rollout, 0, 200, &mut sets, 0);
    assert_eq!(
        lines[..2],
        ["0 scale 0 to 8", "0 scale 1 to 2"],
        "two may be missing, and the stable version is first"
    );
    assert!(lines.contains(&"0 Paused".to_owned()));
    assert_eq!(lines.last().unwrap(), "61 Done");
    assert_eq!(sets.map(|set| set.spec), [0, 10]);
}

#[test]
fn a_failed_analysis_takes_it_back() {
    let mut rollout = canary(&format!("{STEPS}{ANALYSIS}traffic-routing = true"));
    let mut sets = [set(10, 10, false), set(0, 0, true)];
    story(&mut rollout, 0, 25, &mut sets, 0);
    let lines = story(&mut rollout, 25, 200, &mut sets, 50);
    assert_eq!(
        lines,
        ["30 Aborting(AnalysisFailed)", "30 weight 0/100", "60 scale 1 to 0", "60 Aborted"],
        "the canary stays 30 s longer than its traffic"
    );
    // Without a router it goes at once, and the stable version grows again.
    let mut rollout = canary(&format!("{STEPS}{ANALYSIS}"));
    let mut sets = [set(10, 10, false), set(0, 0, true)];
    let lines = story(&mut rollout, 0, 200, &mut sets, 50);
    assert_eq!(lines.last().unwrap(), "0 Aborted");
    assert_eq!(sets.map(|set| set.spec), [10, 0]);
}

#[test]
fn an_inconclusive_analysis_waits_for_somebody() {
    let both = ANALYSIS.replace("success.below = 0.05", "success.below = 0.05, failure.above = 0.9");
    let mut rollout = canary(&format!("{STEPS}{both}"));
    let mut sets = [set(10, 10, false), set(0, 0, true)];
    let lines = story(&mut rollout, 0, 300, &mut sets, 50);
    assert!(lines.contains(&"0 Inconclusive".to_owned()), "{lines:?}");
    assert!(!rollout.done);
    rollout.on_act(Time::from_secs(300), Act::Abort);
    assert_eq!(story(&mut rollout, 300, 301, &mut sets, 50).last().unwrap(), "300 Aborted");
}

#[test]
fn a_pause_without_an_end_waits_for_a_promotion() {
    let mut rollout = canary("steps = [{ set-weight = 20 }, { pause = {} }]");
    let mut sets = [set(10, 10, false), set(0, 0, true)];
    assert_eq!(story(&mut rollout, 0, 2000, &mut sets, 0).last().unwrap(), "0 Paused");
    rollout.on_act(Time::from_secs(2000), Act::Promote);
    assert_eq!(story(&mut rollout, 2000, 2001, &mut sets, 0).last().unwrap(), "2000 Done");
}

#[test]
fn a_version_that_never_gets_ready() {
    let settings = "steps = [{ set-weight = 20 }]\nprogress-deadline-abort = true";
    let mut rollout = canary(settings);
    let mut sets = [set(10, 10, false), set(0, 0, true)];
    let mut end = None;
    for second in 0..700 {
        while let Some(command) = rollout.sync(Time::from_secs(second), 10, &sets) {
            match command {
                Command::Scale { set, to } => sets[set].spec = to,
                Command::Aborted => end = Some(second),
                _ => {}
            }
        }
    }
    assert_eq!(end, Some(601));
    assert_eq!(sets.map(|set| set.spec), [10, 0]);
}

#[test]
fn back_to_the_stable_version_skips_everything() {
    let mut rollout = canary(&format!("{STEPS}{ANALYSIS}traffic-routing = true\nscale-down-delay = '0s'"));
    rollout.on_begin(Time::ZERO, true);
    let mut sets = [set(3, 3, false), set(10, 10, true)];
    let lines = story(&mut rollout, 0, 1, &mut sets, 100);
    assert_eq!(lines, ["0 weight 100/100", "0 scale 0 to 0", "0 Promoted", "0 Done"]);
}

#[test]
fn refused() {
    let read = toml::from_str::<CanarySettings>;
    for (wrong, why) in [
        ("steps = [{ set-weight = 101 }]", "step 0: a weight of 101"),
        (
            "steps = [{ set-weight = 5 }, { set-canary-scale = { replicas = 1 } }]",
            "step 1: `set-canary-scale` needs",
        ),
        ("traffic-routing = true\nsteps = [{ set-canary-scale = {} }]", "one of `replicas`"),
        ("dynamic-stable-scale = true", "only be used with"),
        ("max-surge = 0\nmax-unavailable = '0%'", "must not be 0"),
        (
            "steps = [{ set-weight = 5 }]\nanalysis = { starting-step = 2, metrics = [{ judge.msprt = {} }] }",
            "beyond the 1 steps",
        ),
        ("analysis = { metrics = [] }", "needs a metric"),
        ("steps = [{ weight = 5 }]", "unknown variant"),
    ] {
        let error = read(wrong).unwrap_err().to_string();
        assert!(error.contains(why), "{wrong}: {error}");
    }
}
