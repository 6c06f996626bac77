//! The program as a user meets it: exit codes, streams, files.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use assert_cmd::Command;
use tempfile::TempDir;

const TINY: &str = r#"
[scenario]
name = "tiny"
title = "One small service"
duration = "20s"
replications = 2

[[service]]
name = "api"
[[service.endpoint]]
name = "get"
steps = ["cpu exp(10ms)"]

[[source]]
name = "users"
to = "api.get"
arrivals.poisson = { rate = "50/s" }
"#;

/// A folder of its own with `tiny.toml` (and what is added to it), and the program started there.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self::with("")
    }

    fn with(more: &str) -> Self {
        let desk = Self(tempfile::tempdir().expect("a temporary folder"));
        fs::write(desk.path("tiny.toml"), format!("{TINY}{more}")).expect("writes");
        desk
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn simlab(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_simlab"));
        command.current_dir(self.0.path()).args(arguments);
        for variable in ["NO_COLOR", "CLICOLOR_FORCE"] {
            command.env_remove(variable);
        }
        command
    }

    /// (exit code, stdout, stderr).
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.simlab(arguments).output().expect("starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
    }

    /// Every file below `folder` with its content, in order of path.
    fn files(&self, folder: &str) -> Vec<(String, Vec<u8>)> {
        fn walk(root: &Path, folder: &Path, files: &mut Vec<(String, Vec<u8>)>) {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    walk(root, &path, files);
                } else {
                    let name =
                        path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
                    files.push((name, fs::read(&path).expect("readable")));
                }
            }
        }
        let mut files = Vec::new();
        walk(&self.path(folder), &self.path(folder), &mut files);
        files.sort();
        files
    }
}

#[test]
fn help_is_pinned() {
    let desk = Desk::new();
    for verb in ["", "run", "check", "conform", "list", "why", "import", "backtest", "calibrate"] {
        let arguments: Vec<&str> = [verb, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
        let (code, stdout, stderr) = desk.run(&arguments);
        assert_eq!((code, stderr.as_str()), (0, ""));
        insta::assert_snapshot!(format!("help_{}", if verb.is_empty() { "simlab" } else { verb }), stdout);
    }
}

#[test]
fn wrong_flags_exit_with_2() {
    let desk = Desk::new();
    for arguments in [
        &["run"][..],
        &["frobnicate"],
        &["run", "tiny.toml", "--nonsense"],
        &["run", "tiny.toml", "--threads", "0"],
        &["run", "tiny.toml", "--replications", "0"],
        &["run", "tiny.toml", "--seed", "-1"],
        &["run", "tiny.toml", "--color", "purple"],
        &["run", "tiny.toml", "--json", "--quiet"],
        &["explain", "no-such-policy"],
        &["man", "no-such-verb"],
        &["completions", "no-such-shell"],
    ] {
        let (code, stdout, stderr) = desk.run(arguments);
        assert_eq!(code, 2, "{arguments:?}: {stderr}");
        assert_eq!(stdout, "", "{arguments:?}");
        assert!(stderr.starts_with("error: ") || arguments == ["run"], "{arguments:?}: {stderr}");
        assert!(!desk.path("results").exists());
    }
}

#[test]
fn a_missing_file_exits_with_3_and_writes_nothing() {
    let desk = Desk::new();
    for verb in ["run", "check"] {
        let (code, stdout, stderr) = desk.run(&[verb, "missing.toml"]);
        assert_eq!((code, stdout.as_str()), (3, ""));
        assert!(stderr.contains("missing.toml"), "{stderr}");
        assert!(!desk.path("results").exists());
    }
    assert_eq!(desk.run(&["conform", "missing"]).0, 3);
    let (code, _, stderr) = desk.run(&["run", "tiny.toml", "--replications", "1000000000000"]);
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("replications"), "{stderr}");
    assert!(!desk.path("results").exists());
}

#[test]
fn a_run_writes_everything_and_ends_with_the_verdict() {
    let desk = Desk::new();
    let (code, stdout, stderr) = desk.run(&["run", "tiny.toml"]);
    assert_eq!(code, 0, "{stderr}");
    let files: Vec<String> = desk.files("results/tiny").into_iter().map(|(name, _)| name).collect();
    for name in [
        "run.json",
        "summary.json",
        "summary.csv",
        "replications.csv",
        "timeline.csv",
        "latency.csv",
        "events.csv",
    ] {
        assert!(files.iter().any(|file| file == name), "{name} is missing: {files:?}");
    }
    assert!(
        files.iter().any(|file| file == "report.html") && files.iter().any(|file| file == "decisions.jsonl")
    );
    assert!(files.iter().all(|file| !file.starts_with('.')), "leftovers: {files:?}");
    assert!(!stdout.contains("results"), "stdout never names the folder");
    assert!(stderr.contains("results/tiny") && stderr.contains("requests in"));
    let (_, quiet, silence) = desk.run(&["run", "tiny.toml", "--quiet"]);
    assert_eq!(quiet.lines().count(), 1);
    assert!(stdout.ends_with(&quiet), "the verdict is the last line");
    assert_eq!(silence, "");
}

#[test]
fn threads_and_folders_do_not_show() {
    let desk = Desk::new();
    let (code, one, _) = desk.run(&["run", "tiny.toml", "--threads", "1", "--out", "a"]);
    assert_eq!(code, 0);
    let (_, two, _) = desk.run(&["run", "tiny.toml", "--threads", "2", "--out", "b"]);
    assert_eq!(one, two);
    let without_clock = |folder: &str| -> Vec<(String, Vec<u8>)> {
        let mut files = desk.files(folder);
        for (_, bytes) in files.iter_mut().filter(|(name, _)| name == "run.json") {
            let mut run: serde_json::Value = serde_json::from_slice(bytes).expect("JSON");
            run.as_object_mut()
                .expect("an object")
                .remove("wall_clock")
                .expect("the only place of wall-clock figures");
            *bytes = run.to_string().into_bytes();
        }
        files
    };
    assert_eq!(without_clock("a"), without_clock("b"));
}

#[test]
fn json_is_one_document() {
    let desk = Desk::new();
    let (code, stdout, _) = desk.run(&["run", "tiny.toml", "--json", "--seed", "7", "--replications", "3"]);
    assert_eq!(code, 0);
    let document: serde_json::Value = serde_json::from_str(&stdout).expect("one JSON document");
    assert_eq!(document["scenario"], "tiny");
    assert_eq!(document["strategies"][0]["metrics"]["availability"]["n"], 3);
    let file: serde_json::Value =
        serde_json::from_slice(&fs::read(desk.path("results/tiny/summary.json")).expect("written"))
            .expect("JSON");
    assert_eq!(document, file);
    let run: serde_json::Value =
        serde_json::from_slice(&fs::read(desk.path("results/tiny/run.json")).expect("written"))
            .expect("JSON");
    assert_eq!(run["seed"], 7);
}

#[test]
fn a_failed_threshold_exits_with_99() {
    let desk = Desk::with("[thresholds]\n\"latency\" = [\"p(50) < 1us\"]\n");
    let (code, stdout, stderr) = desk.run(&["run", "tiny.toml"]);
    assert_eq!(code, 99, "{stderr}");
    assert!(stdout.contains("✗ latency: p(50) < 1us"), "{stdout}");
    let desk = Desk::with("[thresholds]\n\"latency\" = [\"p(50) < 1h\"]\n");
    let (code, stdout, _) = desk.run(&["run", "tiny.toml"]);
    assert_eq!(code, 0);
    assert!(stdout.contains("✓ latency: p(50) < 1h"), "{stdout}");
}

#[test]
fn a_scenario_may_come_through_a_pipe() {
    let desk = Desk::new();
    let output = desk.simlab(&["check", "-"]).write_stdin(TINY).output().expect("starts");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("-: ok: 1 strategy x 2 replications of 20s"));
}

#[test]
fn one_bad_file_does_not_hide_the_others() {
    let desk = Desk::new();
    fs::write(desk.path("bad.toml"), "[scenario\n").expect("writes");
    let (code, stdout, stderr) = desk.run(&["check", "bad.toml", "tiny.toml"]);
    assert_eq!(code, 3);
    assert!(stdout.contains("tiny.toml: ok"), "{stdout}");
    assert!(stderr.contains("bad.toml"), "{stderr}");
}

#[test]
fn a_folder_that_cannot_be_written_exits_with_1() {
    let desk = Desk::new();
    fs::write(desk.path("occupied"), "a file").expect("writes");
    let (code, stdout, stderr) = desk.run(&["run", "tiny.toml", "--out", "occupied/deep"]);
    assert_eq!((code, stdout.as_str()), (1, ""), "known before the run, not after it");
    assert!(stderr.starts_with("error: cannot make the results folder `occupied/deep`"), "{stderr}");
    assert_eq!(fs::read(desk.path("occupied")).expect("still there"), b"a file");
}

#[test]
fn colour_follows_the_flag_and_the_environment() {
    let desk = Desk::new();
    let coloured = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = desk.simlab(arguments);
        command.envs(variables.iter().copied());
        String::from_utf8_lossy(&command.output().expect("starts").stderr).contains('\u{1b}')
    };
    let failing = ["explain", "no-such-policy"];
    assert!(!coloured(&failing, &[]), "a pipe is no terminal");
    assert!(
        coloured(&[&failing[..], &["--color", "always"]].concat(), &[("NO_COLOR", "1")]),
        "the flag wins"
    );
    assert!(coloured(&failing, &[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(&failing, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let desk = Desk::new();
    for arguments in [&["schema"][..], &["completions", "bash"], &["man"], &["list"], &["run", "tiny.toml"]] {
        let mut child = Process::new(env!("CARGO_BIN_EXE_simlab"))
            .args(arguments)
            .current_dir(desk.0.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("UTF-8");
        assert_eq!(child.wait().expect("ends").code(), Some(0), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("panicked") && !stderr.contains("error"), "{arguments:?}: {stderr}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let desk = Desk::new();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let mut child = Process::new(env!("CARGO_BIN_EXE_simlab"))
        .arg("schema")
        .current_dir(desk.0.path())
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stderr = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("UTF-8");
    assert_eq!(child.wait().expect("ends").code(), Some(1));
    assert!(stderr.starts_with("error: cannot write to standard output"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_is_finished() {
    let desk = Desk::new();
    let mut child = Process::new(env!("CARGO_BIN_EXE_simlab"))
        .args([
            "run",
            "tiny.toml",
            "--replications",
            "9000",
            "--set",
            "scenario.duration=10min",
            "--out",
            "out",
        ])
        .current_dir(desk.0.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    std::thread::sleep(Duration::from_millis(1500));
    assert!(Process::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill").success());
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().expect("piped").read_to_string(&mut stdout).expect("UTF-8");
    child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("UTF-8");
    assert_eq!(child.wait().expect("ends").code(), Some(130), "{stderr}");
    assert!(stderr.contains("stopping; what is finished is kept"), "{stderr}");
    if desk.path("out").exists() {
        assert!(stdout.contains("PARTIAL: interrupted"), "{stdout}");
        let run = fs::read_to_string(desk.path("out/run.json")).expect("written whole");
        assert!(run.contains("\"partial\": true"));
        assert!(desk.files("out").iter().all(|(name, _)| !name.starts_with('.')), "leftovers");
    } else {
        assert!(stderr.contains("nothing was written"), "{stderr}");
    }
}

#[test]
fn lists_and_pages_are_there() {
    let desk = Desk::new();
    fs::create_dir(desk.path("scenarios")).expect("makes");
    fs::write(desk.path("scenarios/one.toml"), TINY).expect("writes");
    let (code, stdout, _) = desk.run(&["list"]);
    assert_eq!(code, 0);
    for needed in [
        "limiter.bulkhead",
        "breaker.seed",
        "lognormal(5ms, cv=1.5)",
        "node-loss",
        "poisson",
        "scale",
        "One small service",
    ] {
        assert!(stdout.contains(needed), "list must name {needed}:\n{stdout}");
    }
    let (_, laws, _) = desk.run(&["list", "laws"]);
    assert!(laws.contains("exp(12ms)") && !laws.contains("node-loss"));
    let (code, page, _) = desk.run(&["explain", "bulkhead"]);
    assert_eq!(code, 0);
    for heading in ["limiter.bulkhead", "WHAT IT DOES", "HOW IT FAILS", "SETTINGS", "ORIGIN"] {
        assert!(page.contains(heading), "explain must have {heading}:\n{page}");
    }
    let (_, _, hint) = desk.run(&["explain", "bulkhed"]);
    assert!(hint.contains("did you mean `limiter.bulkhead`"), "{hint}");
    let (code, schema, _) = desk.run(&["schema"]);
    assert_eq!(code, 0);
    serde_json::from_str::<serde_json::Value>(&schema).expect("JSON");
    let (code, page, _) = desk.run(&["man", "run"]);
    assert_eq!(code, 0);
    assert!(page.contains("simlab\\-run") || page.contains("simlab-run"));
}

#[test]
fn why_tells_one_decision() {
    let desk = Desk::with(
        "[[strategy]]\nname = \"none\"\n[[strategy]]\nname = \"hpa\"\n[strategy.service.api]\n\
         autoscaler.hpa = { max-replicas = 5 }\n",
    );
    let (code, ..) = desk.run(&["run", "tiny.toml", "--quiet", "--out", "out"]);
    assert_eq!(code, 0);
    let ask = |more: &[&str]| desk.run(&[&["why", "out"], more].concat());
    let (code, stdout, stderr) = ask(&["--at", "1min"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    insta::assert_snapshot!("why", stdout);
    for (flags, exit, part) in [
        (&["--at", "1min", "--strategy", "none"][..], 3, "known: `hpa`"),
        (&["--at", "1min", "--service", "nope"], 3, "known: `api`"),
        (&["--at", "0s"], 3, "no decision at or before 0s"),
        (&["--at", "1min", "--replication", "99"], 3, "replication 99 has no decision"),
        (&["--at", "60"], 2, "unit"),
        (&["--at", "1min", "--replication", "0"], 2, "0"),
    ] {
        let (code, stdout, stderr) = ask(flags);
        assert_eq!((code, stdout.as_str()), (exit, ""), "{flags:?}");
        assert!(stderr.contains(part), "{flags:?}: {stderr}");
    }
    let (code, _, stderr) = desk.run(&["why", "nowhere", "--at", "1min"]);
    assert!(code == 3 && stderr.contains("the folder that `simlab run` wrote"), "{stderr}");
}

/// Half an hour of load, a row every 30 s, that doubles after ten minutes.
fn load(desk: &Desk) {
    let rows: String = (0..60)
        .map(|i| format!("{},{}\n", 30 * i, if i < 20 { 40 } else { 80 + i % 3 }))
        .collect::<Vec<_>>()
        .concat();
    fs::write(desk.path("load.csv"), format!("t_s,requests_per_second\n{rows}")).expect("writes");
    let hpa = "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: web}\nspec:\n  scaleTargetRef: {kind: Deployment, name: web}\n  minReplicas: 2\n  maxReplicas: 9\n  metrics:\n    - type: Resource\n      resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}\n";
    fs::write(desk.path("hpa.yaml"), hpa).expect("writes");
}

#[test]
fn a_backtest_tells_what_it_assumes_and_who_keeps_the_objective() {
    let desk = Desk::new();
    load(&desk);
    let arguments = [
        "backtest",
        "load.csv",
        "--manifest",
        "hpa.yaml",
        "--cpu-per-request",
        "50ms",
        "--price",
        "0.1/h",
        "--replications",
        "3",
        "--scenario-out",
        "kept.toml",
    ];
    let (code, stdout, stderr) = desk.run(&arguments);
    assert_eq!(code, 0, "{stderr}");
    insta::assert_snapshot!("backtest", stdout);
    let names: Vec<String> = desk.files("results/backtest-load").into_iter().map(|(name, _)| name).collect();
    for name in ["run.json", "summary.json", "decisions.jsonl", "report.html", "charts/replicas.svg"] {
        assert!(names.iter().any(|file| file == name), "{name} is missing: {names:?}");
    }
    let summary: serde_json::Value =
        serde_json::from_slice(&fs::read(desk.path("results/backtest-load/summary.json")).expect("written"))
            .expect("JSON");
    for metric in ["under_provisioned_ratio", "saturated_ratio", "scaling_actions", "bad_requests"] {
        assert!(summary["strategies"][1]["metrics"][metric]["mean"].is_number(), "{metric}");
    }
    // The scenario that was kept is the one that ran.
    let (code, _, stderr) = desk.run(&["run", "kept.toml", "--out", "kept"]);
    assert_eq!(code, 0, "{stderr}");
    let digests = |folder: &str| -> Vec<String> {
        let run: serde_json::Value =
            serde_json::from_slice(&fs::read(desk.path(folder).join("run.json")).expect("written"))
                .expect("JSON");
        run["strategies"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|strategy| strategy["replications"][0]["digest"].to_string())
            .collect()
    };
    assert_eq!(digests("results/backtest-load"), digests("kept"));
    let (code, why, _) = desk.run(&["why", "results/backtest-load", "--at", "11min"]);
    assert_eq!(code, 0);
    assert!(why.contains("web"), "{why}");
}

#[test]
fn a_backtest_refuses_what_it_cannot_answer() {
    let desk = Desk::new();
    load(&desk);
    fs::write(desk.path("two.yaml"), {
        let one = fs::read_to_string(desk.path("hpa.yaml")).expect("readable");
        format!("{one}---\n{}", one.replace("web", "api"))
    })
    .expect("writes");
    fs::write(desk.path("none.yaml"), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")
        .expect("writes");
    fs::write(desk.path("cpu.csv"), "t_s,colour\n0,1\n60,2\n").expect("writes");
    let hpa = ["--manifest", "hpa.yaml"];
    let work = ["--cpu-per-request", "50ms"];
    let cases: Vec<Vec<&str>> = vec![
        [&["load.csv"][..], &hpa].concat(),
        [&["load.csv", "--manifest", "two.yaml"][..], &work].concat(),
        [&["load.csv", "--manifest", "none.yaml"][..], &work].concat(),
        [&["load.csv", "--manifest", "missing.yaml"][..], &work].concat(),
        [&["missing.csv"][..], &hpa, &work].concat(),
        [&["load.csv"][..], &hpa, &["--cpu-per-request", "50"]].concat(),
        [&["load.csv"][..], &hpa, &["--cpu-per-request", "0s"]].concat(),
        [&["load.csv"][..], &hpa, &["--cpu", "cpu.csv"]].concat(),
        [&["load.csv"][..], &hpa, &work, &["--start", "soon"]].concat(),
        [&["load.csv", "--policy", "seed-formula = 3"][..], &work].concat(),
        [&["load.csv", "--policy", "seed-formula = { max-replicas = 9 }", "--thin", "4"][..], &work].concat(),
    ];
    let mut report = String::new();
    for case in cases {
        let arguments = [&["backtest"][..], &case].concat();
        let (code, stdout, stderr) = desk.run(&arguments);
        assert_eq!((code, stdout.as_str()), (3, ""), "{arguments:?}: {stderr}");
        report += &[&arguments.join(" "), &stderr, ""].join("\n");
    }
    insta::assert_snapshot!("backtest_refused", report);
    assert!(!desk.path("results").exists());
}

#[test]
fn a_long_load_is_thinned_and_says_so() {
    let desk = Desk::new();
    load(&desk);
    let rows: String =
        (0..60).map(|i| format!("{i},{}\n", 1_200_000 + 100 * (i % 5))).collect::<Vec<_>>().concat();
    fs::write(desk.path("long.csv"), format!("t_min,per-minute\n{rows}")).expect("writes");
    let arguments = [
        "backtest",
        "long.csv",
        "--manifest",
        "hpa.yaml",
        "--cpu-per-request",
        "100us",
        "--replications",
        "1",
    ];
    let (code, stdout, stderr) = desk.run(&arguments);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("each simulated request stands for 4 of the 72 million"), "{stdout}");
    // Two cores are busy under either load, and so are the replicas that an HPA finds for it.
    let hours = |stdout: &str| -> f64 {
        let line = stdout.lines().find(|line| line.starts_with("hpa ")).expect("a row");
        line.split_whitespace().nth(1).expect("replica-hours").parse().expect("a number")
    };
    let (_, exact, _) = desk.run(&[&arguments[..], &["--thin", "40"]].concat());
    assert!((hours(&stdout) / hours(&exact) - 1.0).abs() < 0.05, "{stdout}\n{exact}");
}

#[test]
fn a_calibration_writes_a_scenario_that_runs() {
    let desk = Desk::new();
    // What two cores with 20 ms of work would show, by the utilization law and the formula of M/M/2, in round figures.
    let rows: String = (0..80)
        .map(|i| {
            let rate = 10.0 + f64::from((i * 37) % 80);
            let rho = rate * 0.02 / 2.0;
            let mean = 20.0 / (1.0 - rho * rho);
            format!("{},{rate},{},{mean:.3},{:.3},{:.3}\n", 30 * i, rate * 0.02, mean * 0.693, mean * 4.605)
        })
        .collect::<Vec<_>>()
        .concat();
    let header = "t_s,requests_per_second,cpu_cores,latency_mean_ms,latency_p50_ms,latency_p99_ms\n";
    fs::write(desk.path("week.csv"), format!("{header}{rows}")).expect("writes");
    let (code, stdout, stderr) =
        desk.run(&["calibrate", "--load", "week.csv", "--scenario-out", "found.toml"]);
    assert_eq!(code, 0, "{stderr}");
    insta::assert_snapshot!("calibrate", format!("{stdout}--- stderr\n{stderr}"));
    let (code, _, stderr) = desk.run(&["run", "found.toml", "--replications", "2"]);
    assert_eq!(code, 0, "{stderr}");
    let (_, json, _) = desk.run(&["calibrate", "--load", "week.csv", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&json).expect("one JSON document");
    assert_eq!(found["cores"], 2);
    fs::write(desk.path("snippet.toml"), found["scenario"].as_str().expect("text")).expect("writes");
    assert_eq!(desk.run(&["check", "snippet.toml"]).0, 0);
    let (code, _, stderr) = desk.run(&["calibrate", "--load", "week.csv", "--buckets", "missing.json"]);
    assert_eq!(code, 3, "{stderr}");
}

#[test]
fn scaled_objects_and_knative_take_part_in_a_backtest() {
    let desk = Desk::new();
    load(&desk);
    let pod = "spec: {containers: [{name: web, image: 'w:1', resources: {requests: {cpu: 500m}, limits: {cpu: 1500m}}}]}";
    let deployment = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  replicas: 3\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    {pod}\n---\n"
    );
    let hpa = fs::read_to_string(desk.path("hpa.yaml")).expect("readable");
    fs::write(desk.path("web.yaml"), deployment + &hpa).expect("writes");
    fs::write(
        desk.path("keda.yaml"),
        "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {name: web}\nspec:\n  scaleTargetRef: {name: web}\n  minReplicaCount: 1\n  maxReplicaCount: 9\n  triggers:\n  - {type: prometheus, metadata: {threshold: '15'}}\n",
    )
    .expect("writes");
    fs::write(
        desk.path("knative.yaml"),
        format!("apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: web}}\nspec:\n  template:\n    metadata:\n      annotations: {{autoscaling.knative.dev/max-scale: '9', autoscaling.knative.dev/target: '2'}}\n    {pod}\n"),
    )
    .expect("writes");
    let work = ["backtest", "load.csv", "--cpu-per-request", "50ms", "--replications", "1"];
    let manifests = ["--manifest", "web.yaml", "--manifest", "keda.yaml", "--manifest", "knative.yaml"];
    let (code, stdout, stderr) =
        desk.run(&[&work[..], &manifests, &["--scenario-out", "kept.toml"]].concat());
    assert_eq!(code, 0, "{stderr}");
    for part in [
        "metric `prometheus` is taken to be service.web.requests-per-second",
        "requests and limits of an instance are those of `web` in web.yaml",
        "instances with 1.5 cores",
    ] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    for row in ["web ", "keda ", "knative "] {
        assert!(stdout.lines().any(|line| line.starts_with(row)), "{row}: {stdout}");
    }
    let kept = fs::read_to_string(desk.path("kept.toml")).expect("written");
    assert!(kept.contains("replicas = 3\nmanifest = \"web.yaml\"\nworkload = \"web\""), "{kept}");
    // Flags win.
    let (_, stdout, _) = desk.run(&[&work[..], &manifests[..2], &["--cores", "2"]].concat());
    assert!(stdout.contains("instances with 2 cores"), "{stdout}");

    // What nobody knows is asked for, and what is not simulated is refused.
    let memory = hpa.replace(
        "name: cpu, target: {type: Utilization, averageUtilization: 60}",
        "name: memory, target: {type: AverageValue, averageValue: 300Mi}",
    );
    fs::write(desk.path("memory.yaml"), memory).expect("writes");
    let (code, _, stderr) = desk.run(&[&work[..], &["--manifest", "memory.yaml"]].concat());
    assert!(code == 3 && stderr.contains("--memory-use 300MiB"), "{stderr}");
    let (code, _, stderr) =
        desk.run(&[&work[..], &["--manifest", "memory.yaml", "--memory-use", "200MiB+5MiB"]].concat());
    assert_eq!(code, 0, "{stderr}");
    let pods = "type: Pods\n      pods: {metric: {name: http_requests_per_second}, target: {type: AverageValue, averageValue: '10'}}";
    let rate = hpa.replace(
        "type: Resource\n      resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}",
        pods,
    );
    fs::write(desk.path("rate.yaml"), rate).expect("writes");
    let (code, _, stderr) = desk.run(&[&work[..], &["--manifest", "rate.yaml"]].concat());
    assert!(code == 3 && stderr.contains("--metric http_requests_per_second=concurrency"), "{stderr}");
}

#[test]
fn a_calibration_reads_latency_cpu_and_buckets_from_files_of_their_own() {
    let desk = Desk::new();
    let rate = |i: u32| 10.0 + f64::from((i * 37) % 80);
    let mean = |i: u32| 0.02 / (1.0 - (rate(i) * 0.01).powi(2));
    let csv = |header: &str, row: &dyn Fn(u32) -> String| {
        let rows: Vec<String> = (0..80).map(|i| format!("{},{}\n", 30 * i, row(i))).collect();
        let rows = rows.concat();
        format!("t_s,{header}\n{rows}")
    };
    let write = |name: &str, text: String| fs::write(desk.path(name), text).expect("writes");
    write("load.csv", csv("requests_per_second", &|i| rate(i).to_string()));
    write("latency.csv", csv("latency_mean_ms", &|i| (1e3 * mean(i)).to_string()));
    // As a range query answers.
    let values: Vec<String> =
        (0..80).map(|i| format!("[{}, \"{}\"]", 30 * i, 0.02 * rate(i) + 0.1)).collect();
    write(
        "cpu.json",
        format!(
            "{{\"status\": \"success\", \"data\": {{\"resultType\": \"matrix\", \"result\": [{{\"metric\": {{}}, \"values\": [{}]}}]}}}}",
            values.join(", ")
        ),
    );
    // An exponential law of mean 20 ms.
    let bounds = [0.005, 0.01, 0.02, 0.04, 0.08, 0.16];
    let buckets: Vec<String> = bounds
        .iter()
        .map(|bound: &f64| format!("\"{bound}\": {:.0}", 1e5 * (1.0 - (-bound / 0.02).exp())))
        .collect();
    write("buckets.json", format!("{{{}, \"+Inf\": 100000}}", buckets.join(", ")));
    let (code, json, stderr) = desk.run(&[
        "calibrate",
        "--load",
        "load.csv",
        "--latency",
        "latency.csv",
        "--cpu",
        "cpu.json",
        "--buckets",
        "buckets.json",
        "--json",
    ]);
    assert_eq!(code, 0, "{stderr}");
    let found: serde_json::Value = serde_json::from_str(&json).expect("one JSON document");
    assert_eq!(found["cores"], 2, "{json}");
    let scenario = found["scenario"].as_str().expect("text");
    assert!(scenario.contains("exp("), "{json}");
    write("found.toml", scenario.to_owned());
    let (code, _, stderr) = desk.run(&["run", "found.toml", "--replications", "1"]);
    assert_eq!(code, 0, "{stderr}");
}
