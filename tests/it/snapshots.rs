//! What people read, pinned as text: the summary, the tables, and the words on the charts.
//!
//! `SIMLAB_LOOK=folder cargo test --test it snapshots` also writes the whole results folder there, for looking at.

mod sample;

use std::collections::BTreeSet;
use std::convert::Infallible;

use simlab::lab::outcome::StudyOutcome;
use simlab::report::{self, ResultFile, WallClock, terminal};

const WALL: WallClock = WallClock { seconds: 41.5, threads: 2 };

fn files(outcome: &StudyOutcome) -> Vec<ResultFile> {
    let mut files = Vec::new();
    let Ok(()) = report::render(outcome, &WALL, |file| {
        files.push(file);
        Ok::<(), Infallible>(())
    });
    files
}

fn text(files: &[ResultFile], path: &str) -> String {
    let file = files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("{path} is missing"));
    String::from_utf8(file.bytes.clone()).expect("text")
}

/// Some lines of a long table.
fn lines(text: &str, numbers: impl IntoIterator<Item = usize>) -> String {
    let lines: Vec<&str> = text.lines().collect();
    numbers.into_iter().flat_map(|number| [lines[number], "\n"]).collect()
}

/// What an SVG says, in order.
fn words(svg: &str) -> String {
    let mut inside = false;
    let mut words = String::new();
    for line in svg.lines() {
        if line.starts_with("<text") {
            inside = true;
        } else if line.starts_with("</text") {
            inside = false;
        } else if inside {
            words.push_str(line);
            words.push('\n');
        }
    }
    words
}

#[test]
fn the_whole_folder_can_be_looked_at() {
    let files = files(&sample::typhoon());
    if let Some(folder) = std::env::var_os("SIMLAB_LOOK") {
        for file in &files {
            let path = std::path::Path::new(&folder).join(&file.path);
            std::fs::create_dir_all(path.parent().expect("inside the folder")).expect("creates");
            std::fs::write(path, &file.bytes).expect("writes");
        }
    }
    let known: BTreeSet<String> = report::known_paths().into_iter().collect();
    let traces = report::trace::files(&[]).map(|file| file.path);
    let made: BTreeSet<String> = files.into_iter().map(|file| file.path).chain(traces).collect();
    assert_eq!(known, made, "the sample shows everything there is");
}

#[test]
fn summary_on_a_terminal() {
    let outcome = sample::typhoon();
    insta::assert_snapshot!("terminal", terminal::summary(&outcome, false));
    assert!(
        terminal::summary(&outcome, false).ends_with(&format!("\n{}\n", outcome.verdict)),
        "the verdict comes last"
    );
    assert!(terminal::summary(&outcome, true).contains("\u{1b}[1m"));
    assert!(!terminal::summary(&outcome, false).contains('\u{1b}'));
}

#[test]
fn summary_without_intervals() {
    insta::assert_snapshot!("terminal_one_replication", terminal::summary(&sample::outcome(1), false));
}

#[test]
fn summary_of_an_interrupted_study() {
    let mut outcome = sample::typhoon();
    outcome.manifest.partial = true;
    outcome.strategies[4].replications.truncate(2);
    assert!(terminal::summary(&outcome, false).contains("PARTIAL: interrupted; 22 of 25 runs finished"));
    let files = files(&outcome);
    assert!(text(&files, "run.json").contains("\"partial\": true"));
    assert!(text(&files, "summary.json").contains("\"partial\": true"));
    assert!(text(&files, "report.html").contains("PARTIAL"));
    assert!(text(&files, "charts/latency.svg").contains("PARTIAL"));
}

#[test]
fn tables() {
    let files = files(&sample::typhoon());
    insta::assert_snapshot!("summary_csv", lines(&text(&files, "summary.csv"), 0..12));
    insta::assert_snapshot!("replications_csv", lines(&text(&files, "replications.csv"), 0..4));
    insta::assert_snapshot!(
        "timeline_csv",
        lines(&text(&files, "timeline.csv"), [0, 1, 2, 301, 601, 1201, 1501, 1801, 5000])
    );
    insta::assert_snapshot!("latency_csv", lines(&text(&files, "latency.csv"), 0..13));
    insta::assert_snapshot!("events_csv", lines(&text(&files, "events.csv"), 0..9));
    insta::assert_snapshot!("decisions_jsonl", lines(&text(&files, "decisions.jsonl"), 0..4));
}

#[test]
fn a_huge_timeline_keeps_one_run_and_the_bands() {
    let outcome = sample::outcome(3);
    let whole = String::from_utf8(report::timeline_csv_within(&outcome, usize::MAX)).expect("text");
    let thinned = String::from_utf8(report::timeline_csv_within(&outcome, 1000)).expect("text");
    let count = |text: &str, replication: &str| {
        text.lines().filter(|line| line.split(',').nth(1) == Some(replication)).count()
    };
    assert_eq!(count(&thinned, "0"), count(&whole, "0"));
    assert_eq!(count(&thinned, "1"), 0);
    for band in ["min", "median", "max"] {
        assert_eq!(count(&thinned, band), count(&whole, "0"));
        assert_eq!(count(&whole, band), 0);
    }
}

#[test]
fn json_documents() {
    let outcome = sample::outcome(2);
    let files = files(&outcome);
    let parsed = |path: &str| serde_json::from_str::<serde_json::Value>(&text(&files, path)).expect("JSON");
    let mut run = parsed("run.json");
    run["strategies"].as_array_mut().expect("a list").truncate(1);
    insta::assert_snapshot!("run_json", format!("{run:#}"));
    let mut summary = parsed("summary.json");
    for list in ["strategies", "comparisons", "thresholds"] {
        summary[list].as_array_mut().expect("a list").truncate(1);
    }
    insta::assert_snapshot!("summary_json", format!("{summary:#}"));
}

#[test]
fn only_run_json_knows_the_wall_clock() {
    let outcome = sample::outcome(2);
    let other = WallClock { seconds: 99.0, threads: 7 };
    let mut moved = Vec::new();
    let mut first = files(&outcome).into_iter();
    let Ok(()) = report::render(&outcome, &other, |file| {
        if file.bytes != first.next().expect("as many files").bytes {
            moved.push(file.path);
        }
        Ok::<(), Infallible>(())
    });
    assert_eq!(moved, ["run.json"]);
}

#[test]
fn charts_say_what_they_show() {
    let files = files(&sample::typhoon());
    for chart in
        ["latency", "percentiles", "availability", "load", "replicas", "nodes", "forecast", "cost", "ranking"]
    {
        let svg = text(&files, &format!("charts/{chart}.svg"));
        let words = words(&svg);
        for needed in [
            "5 replications, seed 1822, counted from 10min to 3h",
            "36 h of the storm in 3 simulated hours",
            "limiter",
        ] {
            assert!(words.contains(needed), "{chart} must say {needed}");
        }
        insta::assert_snapshot!(format!("chart_{chart}"), words);
    }
    let latency = text(&files, "charts/latency.svg");
    assert!(latency.contains("stroke-dasharray"), "curves differ by more than their colour");
    assert!(latency.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1200\""));
}

#[test]
fn the_report_needs_nothing_from_elsewhere() {
    let report = text(&files(&sample::typhoon()), "report.html");
    assert!(report.contains("default-src 'none'"));
    let outside = ["src=\"", "href=", "url(", "@import", "<link", "<iframe", "fetch("];
    for load in outside {
        assert!(!report.contains(load), "the report loads something: {load}");
    }
    let addresses = report.matches("http").count();
    assert_eq!(
        addresses,
        report.matches("http://www.w3.org/2000/svg").count() + 1,
        "only namespaces and http-equiv"
    );
    assert!(report.contains("&lt;a story &amp; its"), "the scenario's text is escaped");
    assert!(!report.contains("{{") && !report.contains("{%"));
    assert_eq!(report.matches("<svg").count(), report::chart::CHARTS.len());
}

#[test]
fn little_to_show_is_no_reason_to_fail() {
    let nothing_finished = sample::outcome(0);
    assert!(files(&nothing_finished).iter().all(|file| !file.path.starts_with("charts/")));

    let mut no_strategies = sample::outcome(1);
    no_strategies.strategies.clear();
    no_strategies.comparisons.clear();
    no_strategies.thresholds.clear();
    assert!(terminal::summary(&no_strategies, false).ends_with("points (paired, 95 %)\n"));
    files(&no_strategies);

    let mut all_failed = sample::outcome(2);
    for run in all_failed.strategies.iter_mut().flat_map(|strategy| &mut strategy.replications) {
        run.timeline.series.iter_mut().for_each(|series| series.values.fill(f64::NAN));
        run.percentiles.clear();
        run.metrics.insert("latency_offered_p99_ms".into(), f64::INFINITY);
    }
    let files = files(&all_failed);
    assert_eq!(text(&files, "timeline.csv").lines().count(), 1, "a window with nothing to say has no row");
    assert!(text(&files, "replications.csv").contains("latency_offered_p99_ms,inf"));
    let report = text(&files, "report.html");
    let (page, _script) = report.split_once("<script>").expect("a script at the end");
    assert!(!page.contains("NaN"));
}

#[test]
fn many_strategies_and_odd_names_fit() {
    let mut outcome = sample::outcome(2);
    let template = outcome.strategies[1].clone();
    for number in 0..20 {
        let mut strategy = template.clone();
        strategy.name = format!("strategy \"{number}\" <with> a rather long name & signs\u{1b}[31m");
        outcome.strategies.push(strategy);
    }
    outcome.manifest.title = "x".repeat(500);
    let files = files(&outcome);
    let svg = text(&files, "charts/load.svg");
    assert!(svg.contains("strategy &quot;0&quot; &lt;with&gt; a rath"));
    assert!(!svg.contains('\u{1b}'));
}
