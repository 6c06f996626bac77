//! `simlab list`: what a scenario can name, and the scenarios at hand.

use std::fmt::Write as _;
use std::fs;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::console::Console;
use super::{Exit, Failure};
use crate::policies;
use crate::scenario;

/// Flags of `list`.
#[derive(Args)]
pub(super) struct Arguments {
    /// One kind only
    #[arg(value_enum)]
    what: Option<What>,
}

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    Policies,
    Laws,
    Arrivals,
    Faults,
    Actions,
    Scenarios,
}

/// Prints the lists.
pub(super) fn list(arguments: &Arguments, console: &Console) -> Result<Exit, Failure> {
    let mut text = String::new();
    let schema = scenario::json_schema();
    for what in What::value_variants() {
        if arguments.what.is_some_and(|wanted| wanted != *what) {
            continue;
        }
        let (head, rows) = match what {
            What::Policies => (
                "policies (simlab explain NAME tells more)",
                policies::kinds().map(|kind| (kind.written(), kind.summary())).collect(),
            ),
            What::Laws => {
                ("laws, wherever a duration is drawn (then `+ 2ms` shifts, `x 1.5` scales)", laws())
            }
            What::Arrivals => ("arrivals.*, when requests come", variants(&schema, "ArrivalsChoice")),
            What::Faults => ("faults", variants(&schema, "FaultTable")),
            What::Actions => ("actions of operators", variants(&schema, "ActionTable")),
            What::Scenarios => ("scenarios in ./scenarios", scenarios()),
        };
        section(&mut text, head, &rows);
    }
    console.print(&text)?;
    Ok(Exit::OK)
}

fn section(text: &mut String, head: &str, rows: &[(String, String)]) {
    if rows.is_empty() {
        return;
    }
    if !text.is_empty() {
        text.push('\n');
    }
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    writeln!(text, "{head}").expect(STRING);
    for (name, summary) in rows {
        writeln!(text, "{}", format!("  {name:<width$}  {summary}").trim_end()).expect(STRING);
    }
}

fn laws() -> Vec<(String, String)> {
    LAWS.iter().map(|(example, words)| ((*example).to_owned(), (*words).to_owned())).collect()
}

/// Names and descriptions of a choice of the scenario language, out of its own schema.
fn variants(schema: &Value, choice: &str) -> Vec<(String, String)> {
    let Some(definition) = schema.pointer(&format!("/$defs/{choice}")) else { return Vec::new() };
    let described = |variant: &Value| {
        let words = variant.get("description").and_then(Value::as_str).unwrap_or("").replace('\n', " ");
        let name = variant
            .get("properties")
            .and_then(Value::as_object)
            .and_then(|table| table.keys().next().cloned());
        name.or_else(|| variant.get("const").and_then(Value::as_str).map(str::to_owned))
            .map(|name| (name, words))
    };
    definition.get("oneOf").and_then(Value::as_array).into_iter().flatten().filter_map(described).collect()
}

/// Scenario files of the working folder, with their titles.
fn scenarios() -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir("scenarios") else { return Vec::new() };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| std::path::Path::new(name).extension().is_some_and(|ending| ending == "toml"))
        .collect();
    names.sort();
    names
        .into_iter()
        .map(|name| {
            let path = format!("scenarios/{name}");
            let title =
                fs::read_to_string(&path).map_or_else(|error| format!("({error})"), |text| title(&text));
            (path, title)
        })
        .collect()
}

/// The title that a scenario gives itself, or its first line of comment.
fn title(text: &str) -> String {
    let table = text.parse::<toml::Table>().ok();
    let stated = table.as_ref().and_then(|table| table.get("scenario")?.get("title")?.as_str());
    let comment = || text.lines().find_map(|line| line.strip_prefix('#')).unwrap_or("").trim();
    stated.unwrap_or_else(comment).to_owned()
}

/// An example of each law and what it is.
const LAWS: &[(&str, &str)] = &[
    ("12ms", "always the same"),
    ("exp(12ms)", "exponential with this mean"),
    ("uniform(0s, 2s)", "anything between, equally likely"),
    ("erlang(10ms, k=3)", "sum of k exponentials with this mean in all"),
    ("gamma(10ms, cv=2)", "gamma with this mean and coefficient of variation"),
    ("lognormal(5ms, cv=1.5)", "lognormal with this mean and coefficient of variation"),
    ("weibull(10ms, shape=0.7)", "Weibull with this mean"),
    ("pareto(2ms, alpha=1.5)", "Pareto from this minimum"),
    ("bounded-pareto(1ms, 10s, alpha=1.5)", "Pareto cut at both ends"),
    ("hyperexp(10ms, cv=2)", "one of two exponentials, balanced means"),
    ("normal(10ms, sd=1ms)", "normal, cut at zero"),
    ("mix(80%: exp(5ms), 20%: exp(500ms))", "one of several laws"),
    ("file(data/x.csv:column, unit=ms)", "values of a column, drawn with replacement"),
    ("buckets(latency.json)", "Prometheus histogram (query answer, JSON or text), linear inside a bucket"),
];

const STRING: &str = "writing into a string cannot fail";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn choices_are_read_from_the_schema() {
        let schema = json!({ "$defs": { "FaultTable": { "oneOf": [
            { "description": "Instances die.", "properties": { "crash": {} }, "required": ["crash"] },
            { "description": "Nodes die.", "properties": { "node-loss": {} }, "required": ["node-loss"] },
        ] } } });
        let faults = variants(&schema, "FaultTable");
        assert_eq!(faults[1], ("node-loss".to_owned(), "Nodes die.".to_owned()));
        assert!(variants(&schema, "ActionTable").is_empty());
    }

    #[test]
    fn a_scenario_tells_its_title_or_first_comment() {
        assert_eq!(title("# One queue\n[scenario]\nname = \"mm1\"\n"), "One queue");
        assert_eq!(title("# One queue\n[scenario]\ntitle = \"M/M/1\"\n"), "M/M/1");
        assert_eq!(title("not toml"), "");
    }
}
