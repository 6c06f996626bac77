use std::fs;

use super::*;

const TEN_MINUTES: Duration = Duration::from_secs(600);

fn read_with(name: &str, text: &str, unit: Option<RateUnit>) -> Result<Recording, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    let reading = Reading { bare: Quantity::Rate, unit, longest_gap: TEN_MINUTES };
    let path = path.display().to_string();
    Recording::read(&path, &reading).map_err(|error| error.render(false).replace(&path, name))
}

fn read(name: &str, text: &str) -> Result<Recording, String> {
    read_with(name, text, None)
}

fn rates(name: &str, text: &str) -> Vec<f64> {
    let recording = read(name, text).unwrap();
    recording.column(Quantity::Rate).unwrap().to_vec()
}

fn matrix(series: &[&[(f64, &str)]]) -> String {
    let one = |(index, values): (usize, &&[(f64, &str)])| {
        let values: Vec<_> = values.iter().map(|(t, value)| serde_json::json!([t, value])).collect();
        serde_json::json!({"metric": {"pod": index.to_string()}, "values": values})
    };
    let series: Vec<_> = series.iter().enumerate().map(one).collect();
    serde_json::json!({"status": "success", "data": {"resultType": "matrix", "result": series}}).to_string()
}

#[test]
fn units_follow_from_the_names() {
    assert_eq!(rates("a.csv", "timestamp,requests_per_second\n0,5\n60,7\n"), [5.0, 7.0]);
    assert_eq!(rates("a.csv", "t_min,per-minute\n0,60\n1,120\n"), [1.0, 2.0]);
    assert_eq!(rates("a.csv", "minute,count\n0,60\n1,120\n2,180\n"), [1.0, 2.0, 3.0]);
    let value = read_with("a.csv", "t,value\n0,60\n60,120\n", Some(RateUnit::PerMinute)).unwrap();
    assert_eq!(value.column(Quantity::Rate).unwrap(), [1.0, 2.0]);
    let recording = read(
        "a.csv",
        "timestamp,rps,cpu_per_request_ms\n2000-03-01T00:00:00Z,5,20\n2000-03-01T00:01:00Z,7,30\n",
    );
    let recording = recording.unwrap();
    assert_eq!((recording.start, recording.step), (951_868_800.0, 60.0));
    assert_eq!(recording.column(Quantity::CpuPerRequest).unwrap(), [0.02, 0.03]);
}

#[test]
fn series_are_added_up() {
    let text = matrix(&[&[(100.0, "1"), (115.0, "2"), (130.0, "3")], &[(115.0, "10"), (130.0, "NaN")]]);
    let recording = read("a.json", &text).unwrap();
    assert_eq!(recording.column(Quantity::Rate).unwrap(), [1.0, 12.0, 3.0]);
    assert_eq!(recording.notes, ["2 series are added up: {pod=\"0\"}, {pod=\"1\"}"]);
}

#[test]
fn short_gaps_are_bridged_and_said() {
    // Missing rows, an empty cell, a NaN.
    let text = "t_s,rps\n0,10\n60,20\n240,50\n300,\n360,70\n420,NaN\n480,90\n";
    let recording = read("a.csv", text).unwrap();
    assert_eq!(recording.t_s, [0.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 420.0, 480.0]);
    assert_eq!(
        recording.column(Quantity::Rate).unwrap(),
        [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0]
    );
    assert_eq!(
        recording.notes,
        ["3 gaps of together 4min bridged by straight lines; the longest, 2min, from 120 s"]
    );
}

#[test]
fn another_recording_is_read_at_the_moments_of_this_one() {
    let load = read("a.csv", "timestamp,rps\n1000000060,5\n1000000120,6\n1000000180,7\n").unwrap();
    let cpu = read("b.csv", "timestamp,cpu_cores\n1000000000,1\n1000000100,2\n").unwrap();
    let aligned = load.aligned(&cpu, Quantity::CpuCores).unwrap();
    assert_eq!(aligned, [1.0, 2.0, 2.0]);
}

#[test]
fn what_could_be_misunderstood_is_refused() {
    let counter: Vec<(f64, String)> =
        (0..80).map(|i| (1e9 + 15.0 * f64::from(i), (i * i).to_string())).collect();
    let counter: Vec<(f64, &str)> = counter.iter().map(|(t, value)| (*t, value.as_str())).collect();
    let long_gap: String = (0..40)
        .filter(|i| !(20..33).contains(i))
        .map(|i| format!("{},{}\n", 60 * i, i % 7))
        .collect::<Vec<_>>()
        .concat();
    let cases: Vec<(&str, String)> = vec![
        ("counter.json", matrix(&[&counter])),
        ("total.json", r#"{"data": {"resultType": "matrix", "result": [{"metric": {"__name__": "hits_total"}, "values": []}]}}"#.into()),
        ("vector.json", r#"{"status": "success", "data": {"resultType": "vector", "result": []}}"#.into()),
        ("none.json", matrix(&[])),
        ("failed.json", r#"{"status": "error", "error": "query timed out"}"#.into()),
        ("cut.json", "{\"data\":\n  {\"result\": [".into()),
        ("odd.json", r#"{"answer": 42}"#.into()),
        ("negative.json", matrix(&[&[(1e9, "3"), (1e9 + 15.0, "-1")]])),
        ("infinite.json", matrix(&[&[(1e9, "3"), (1e9 + 15.0, "+Inf")]])),
        ("back.json", matrix(&[&[(1e9, "3"), (1e9 - 15.0, "1")]])),
        ("word.json", matrix(&[&[(1e9, "3"), (1e9 + 15.0, "many")]])),
        ("empty.csv", " \n".into()),
        ("binary.csv", "t_s,rps\n0,\0\n".into()),
        ("header.csv", "t_s,rps\n".into()),
        ("nameless.csv", "0,10\n60,20\n".into()),
        ("clockless.csv", "place,rps\n0,10\n".into()),
        ("unknown.csv", "t_s,colour\n0,10\n".into()),
        ("unitless.csv", "t_s,value\n0,10\n".into()),
        ("latency.csv", "t_s,p99\n0,10\n".into()),
        ("total.csv", "t_s,requests_total\n0,10\n".into()),
        ("twice.csv", "t_s,rps,count\n0,10,10\n".into()),
        ("word.csv", "t_s,rps\n0,10\n60,many\n".into()),
        ("moment.csv", "t_s,rps\n0,10\nnoon,11\n".into()),
        ("cells.csv", "t_s,rps\n0,10\n60,10,3\n".into()),
        ("negative.csv", "t_s,rps\n0,10\n60,-3\n".into()),
        ("double.csv", "t_s,rps\n0,10\n60,3\n60,4\n".into()),
        ("back.csv", "t_s,rps\n0,10\n60,3\n30,4\n".into()),
        ("gap.csv", format!("t_s,rps\n{long_gap}")),
        ("nothing.csv", "t_s,rps\n0,NaN\n60,\n".into()),
    ];
    let report: Vec<String> =
        cases.iter().map(|(name, text)| format!("{name}\n{}\n", read(name, text).expect_err(name))).collect();
    insta::assert_snapshot!(report.join("\n"));
}

#[test]
fn a_ramp_with_a_name_is_no_counter() {
    let rows: String = (0..100).map(|i| format!("{},{}\n", 15 * i, 10 * i)).collect::<Vec<_>>().concat();
    assert!(read("a.csv", &format!("t_s,requests_per_second\n{rows}")).is_ok());
    let error = read("a.csv", &format!("t_s,count\n{rows}")).unwrap_err();
    assert!(error.contains("counter"), "{error}");
}

proptest::proptest! {
    #[test]
    fn nothing_panics(text in "[0-9a-z,.\n\":{}\\[\\]-]{0,60}") {
        let _ = read("a.csv", &format!("t_s,rps\n{text}"));
        let _ = read("a.json", &format!("{{\"result\": [{text}]}}"));
    }
}
