//! What was written: from the text of a scenario file to a checked [`Study`], or to an error that shows the place.
//!
//! ```text
//! files   text, read once, size-limited, hashed
//! tree    keys and values that know their places
//! merge   extends, [vars], --set, one tree per strategy
//! de      tree -> schema by serde, errors at the deepest token
//! check   schema -> model: names become indices, quantities base units, nonsense an error
//! ```
//!
//! The syntax is that of `schema` (`simlab schema` prints it), the meaning that of [`model`].

mod check;
mod de;
mod error;
mod files;
mod loops;
mod merge;
pub mod model;
mod profile;
mod schema;
mod step;
mod storm;
mod threshold;
mod tree;

pub use error::{Diagnostic, Place, ScenarioError, SourceFile};
pub use schema::json_schema;
pub use threshold::{METRICS, SERVICE_METRICS, Unit};

use check::Check;
use de::Spanned;
use files::Files;
use merge::{Additions, Setting, Vars, overlay};
use model::{Limits, Objective, Strategy, Study, Threshold};
use schema::{Header, ObjectiveTable, ScenarioFile, StrategyTable, Thresholds};
use tree::{Node, Table, Value};

use crate::time::Duration;

/// What the command line changes about a scenario.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--set path=value`, in order.
    pub settings: Vec<String>,
    /// `--seed`.
    pub seed: Option<u64>,
    /// `--replications`.
    pub replications: Option<u64>,
    /// `--strategy`: only these; empty means all.
    pub strategies: Vec<String>,
}

impl Study {
    /// Reads and checks a scenario file; `-` is standard input.
    pub fn load(path: &str, overrides: &Overrides) -> Result<Self, ScenarioError> {
        let mut files = Files::new(Limits::default().file_size);
        let root = read_file(path, &mut files, &mut Vec::new());
        load(path, root, overrides, &mut files).map_err(|errors| ScenarioError::new(errors, files.sources))
    }

    /// The same for a scenario that is no file, for instance one that a program has written; `name` stands where messages
    /// show the path, and relative paths in it start from the working directory.
    pub fn from_text(name: &str, text: &str, overrides: &Overrides) -> Result<Self, ScenarioError> {
        let mut files = Files::new(Limits::default().file_size);
        let file = files.option(name, text);
        let root = read_source(file, &mut files, &mut Vec::new());
        load(name, root, overrides, &mut files).map_err(|errors| ScenarioError::new(errors, files.sources))
    }
}

fn load(
    path: &str,
    root: Result<Node, Diagnostic>,
    overrides: &Overrides,
    files: &mut Files,
) -> Result<Study, Vec<Diagnostic>> {
    let one = |error| vec![error];
    let mut root = root.map_err(one)?;
    set(&mut root, &overrides.settings, files).map_err(one)?;
    let plans = take_strategies(&mut root)?;

    let mut study: Option<Study> = None;
    for plan in &plans {
        let mut tree = root.clone();
        for overrides in &plan.overrides {
            overlay(&mut tree, overrides, Additions::OnlyEvents).map_err(one)?;
        }
        let file: ScenarioFile = de::read(&tree).map_err(one)?;
        // What all strategies share is read with the first.
        let mut study_so_far = match study.take() {
            Some(study) => study,
            None => header(&file, &plans, overrides, files)?,
        };
        let thresholds = study_so_far.strategies.is_empty().then(|| copy_of(&file.thresholds));
        let mut check = Check::new(files, study_so_far.limits, study_so_far.duration);
        let scenario = check.scenario(file);
        if let Some(thresholds) = thresholds {
            let services: Vec<String> =
                scenario.services.iter().map(|service| service.name.clone()).collect();
            study_so_far.thresholds = read_thresholds(&thresholds, &services, &plans, &mut check.errors);
        }
        let Check { errors, warnings, .. } = check;
        if !errors.is_empty() {
            return Err(errors);
        }
        for warning in warnings {
            let warning =
                if plans.len() > 1 { format!("strategy `{}`: {warning}", plan.name) } else { warning };
            study_so_far.warnings.push(warning);
        }
        let (name, title) = (plan.name.clone(), plan.title.clone());
        study_so_far.strategies.push(Strategy { name, title, scenario });
        study = Some(study_so_far);
    }
    let mut study = study.expect("there is at least the default strategy");
    let services: Vec<String> =
        study.strategies[0].scenario.services.iter().map(|service| service.name.clone()).collect();
    check_primary(&study.primary, &root, &services).map_err(one)?;
    shared_warnings_once(&mut study);
    select(&mut study, &overrides.strategies).map_err(one)?;
    study.path = path.to_owned();
    study.text.clone_from(&files.sources[0].text);
    study.hash =
        overrides.settings.iter().fold(files.hash, |hash, text| files::hashed(hash, text.as_bytes()));
    Ok(study)
}

/// A file laid over the one that it extends.
fn read_file(path: &str, files: &mut Files, open: &mut Vec<std::path::PathBuf>) -> Result<Node, Diagnostic> {
    let file = files.scenario(path)?;
    if path != "-" {
        open.push(std::fs::canonicalize(path).unwrap_or_else(|_| path.into()));
    }
    read_source(file, files, open)
}

/// The text of source number `file`, laid over the file that it extends.
fn read_source(file: u32, files: &mut Files, open: &mut Vec<std::path::PathBuf>) -> Result<Node, Diagnostic> {
    let mut node = Node::parse(&files.sources[file as usize].text, file)?;
    let Value::Table(table) = &mut node.value else { return Ok(node) };
    let Some(extends) = table.remove("extends") else { return Ok(node) };
    let place = extends.node.place;
    let Some(base) = extends.node.text() else {
        return Err(Diagnostic::new(format!("`extends` is the path of a file, not {}", extends.node.kind()))
            .at(place));
    };
    let base = files.resolve(file, base);
    if open.contains(&std::fs::canonicalize(&base).unwrap_or_else(|_| base.clone())) {
        return Err(Diagnostic::new("this file extends itself, directly or through others").at(place));
    }
    let mut below = read_file(&base.to_string_lossy(), files, open).map_err(|error| match error.place {
        Some(_) => error,
        None => error.at(place),
    })?;
    overlay(&mut below, &node, Additions::Welcome)?;
    Ok(below)
}

/// Applies `--set` and `[vars]`: first the variables that are set, then the rest.
fn set(root: &mut Node, settings: &[String], files: &mut Files) -> Result<(), Diagnostic> {
    let mut read = Vec::new();
    for text in settings {
        let file = files.option("--set", text);
        read.push(Setting::parse(text, file)?);
    }
    let (of_vars, others): (Vec<Setting>, Vec<Setting>) = read.into_iter().partition(Setting::is_var);
    let none = Vars::default();
    for setting in of_vars {
        setting.apply(root, &none)?;
    }
    let vars = Vars::take(root)?;
    vars.substitute(root)?;
    others.into_iter().try_for_each(|setting| setting.apply(root, &vars))
}

/// A strategy before it is laid on the scenario.
struct Plan {
    name: String,
    title: String,
    /// Its own overrides, after those of the strategies it extends.
    overrides: Vec<Node>,
}

/// Takes `[[strategy]]` out of the tree; without any there is one that changes nothing.
fn take_strategies(root: &mut Node) -> Result<Vec<Plan>, Vec<Diagnostic>> {
    let Value::Table(table) = &mut root.value else { return Ok(Vec::new()) };
    let Some(entry) = table.remove("strategy") else {
        return Ok(vec![Plan { name: "default".to_owned(), title: String::new(), overrides: Vec::new() }]);
    };
    let tables: Vec<StrategyTable> = de::read(&entry.node).map_err(|error| vec![error])?;
    let Value::Array(nodes) = entry.node.value else { return Ok(Vec::new()) };
    let mut scratch = Files::default();
    let mut check = Check::new(&mut scratch, Limits::default(), Duration::ZERO);
    let mut plans: Vec<Plan> = Vec::new();
    for (table, node) in tables.into_iter().zip(nodes) {
        check.well_formed("strategy", &table.name, true);
        if plans.iter().any(|plan| plan.name == table.name.value) {
            let error = Diagnostic::new(format!("there are two strategies named `{}`", table.name.value));
            check.errors.push(error.at(table.name.place).hint("every name must be its own"));
        }
        let mut overrides = Vec::new();
        if let Some(base) = &table.extends {
            match plans.iter().find(|plan| plan.name == base.value) {
                Some(plan) => overrides.clone_from(&plan.overrides),
                None => {
                    let known = plans.iter().map(|plan| plan.name.as_str());
                    let error = Diagnostic::unknown("earlier strategy", &base.value, known);
                    check.errors.push(error.at(base.place));
                }
            }
        }
        overrides.push(only_overrides(node));
        plans.push(Plan { name: table.name.value, title: table.title.unwrap_or_default(), overrides });
    }
    if plans.is_empty() {
        check.errors.push(Diagnostic::new("`strategy` is an empty list").at(entry.node.place));
    }
    if check.errors.is_empty() { Ok(plans) } else { Err(check.errors) }
}

/// A strategy's table without what is about the strategy itself.
fn only_overrides(node: Node) -> Node {
    let Node { value, place } = node;
    let Value::Table(mut table) = value else { return Node { value: Value::Table(Table::default()), place } };
    for own in ["name", "title", "extends"] {
        table.remove(own);
    }
    Node { value: Value::Table(table), place }
}

/// What stands above the strategies.
fn header(
    file: &ScenarioFile,
    plans: &[Plan],
    overrides: &Overrides,
    files: &mut Files,
) -> Result<Study, Vec<Diagnostic>> {
    let table = &file.scenario;
    let mut check = Check::new(files, Limits::default(), table.duration.value);
    let limits = check.limits(&file.limits);
    check.well_formed("scenario", &table.name, true);
    let warm_up = table.warm_up.map_or(Duration::ZERO, |warm_up| warm_up.value);
    if table.duration.value == Duration::ZERO {
        check.errors.push(Diagnostic::new("`duration` must be longer than zero").at(table.duration.place));
    } else if let Some(written) = &table.warm_up
        && warm_up >= table.duration.value
    {
        let error = Diagnostic::new(format!(
            "the warm-up of {warm_up} leaves nothing of the duration of {} to be counted",
            table.duration.value
        ));
        check.errors.push(error.at(written.place));
    }
    let replications = replications(table, overrides, limits, &mut check);
    let resolution = resolution(table, &mut check);
    let baseline = match &table.baseline {
        None => Some(0),
        Some(name) => plans.iter().position(|plan| plan.name == name.value).or_else(|| {
            let known = plans.iter().map(|plan| plan.name.as_str());
            check.errors.push(Diagnostic::unknown("strategy", &name.value, known).at(name.place));
            None
        }),
    };
    let objective = objective(&file.objective, &mut check);
    let errors = std::mem::take(&mut check.errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    files.largest = limits.file_size;
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(Study {
        name: table.name.value.clone(),
        title: table.title.as_deref().map_or_else(|| table.name.value.clone(), one_line),
        note: table.note.clone(),
        seed: overrides.seed.or(table.seed).unwrap_or(1),
        replications: replications as u32,
        warm_up,
        duration: table.duration.value,
        resolution,
        primary: table
            .primary
            .as_ref()
            .map_or_else(|| "availability".to_owned(), |primary| primary.value.clone()),
        baseline: baseline.unwrap_or(0),
        objective,
        strategies: Vec::new(),
        thresholds: Vec::new(),
        limits,
        text: String::new(),
        hash: 0,
        path: String::new(),
        warnings: Vec::new(),
    })
}

fn replications(table: &Header, overrides: &Overrides, limits: Limits, check: &mut Check<'_>) -> u64 {
    let (number, place) = match (overrides.replications, &table.replications) {
        (Some(number), _) => (number, None),
        (None, Some(written)) => (written.value, Some(written.place)),
        (None, None) => (5, None),
    };
    if number == 0 {
        let error = Diagnostic::new("at least one replication is needed");
        check.errors.push(Diagnostic { place, ..error });
    }
    check.within_limit(number, "replications", limits.replications, "replications", place);
    number
}

fn resolution(table: &Header, check: &mut Check<'_>) -> Duration {
    const WINDOWS: u64 = 300;
    const MOST: u64 = 1_000_000;
    let duration = table.duration.value;
    let Some(written) = &table.resolution else { return Duration(duration.0.div_ceil(WINDOWS).max(1)) };
    if written.value == Duration::ZERO {
        check.errors.push(Diagnostic::new("`resolution` must be longer than zero").at(written.place));
    } else if duration.0 / written.value.0 > MOST {
        let error =
            Diagnostic::new(format!("a run would have more than {MOST} timeline windows")).at(written.place);
        check.errors.push(error.hint("write a longer `resolution`"));
    }
    written.value
}

fn objective(table: &ObjectiveTable, check: &mut Check<'_>) -> Objective {
    if let Some(availability) = &table.availability
        && availability.value.0 <= 0.0
    {
        check.errors.push(Diagnostic::new("an objective of 0% is met by anything").at(availability.place));
    }
    if let Some(latency) = &table.latency_p99
        && latency.value == Duration::ZERO
    {
        check.errors.push(Diagnostic::new("`latency-p99` must be longer than zero").at(latency.place));
    }
    Objective {
        availability: table.availability.map(|share| share.value.0),
        latency_p99: table.latency_p99.map(|latency| latency.value),
    }
}

fn copy_of(thresholds: &Thresholds) -> Thresholds {
    Thresholds {
        allow_inconclusive: thresholds.allow_inconclusive,
        conditions: thresholds.conditions.clone(),
    }
}

fn read_thresholds(
    table: &Thresholds,
    services: &[String],
    plans: &[Plan],
    errors: &mut Vec<Diagnostic>,
) -> Vec<Threshold> {
    let mut thresholds = Vec::new();
    for (key, conditions) in &table.conditions {
        let (metric, strategy) = match threshold::selector(&key.value) {
            Ok(selector) => selector,
            Err(error) => {
                errors.push(error.at(key.place));
                continue;
            }
        };
        let position = strategy.map(|name| plans.iter().position(|plan| plan.name == name));
        if position == Some(None) {
            let known = plans.iter().map(|plan| plan.name.as_str());
            errors.push(Diagnostic::unknown("strategy", strategy.unwrap_or_default(), known).at(key.place));
        }
        for Spanned { value, place } in conditions {
            match threshold::condition(metric, value, services) {
                Ok(condition) => thresholds.push(Threshold {
                    text: format!("{}: {value}", key.value),
                    metric: condition.metric,
                    strategy: position.flatten(),
                    comparison: condition.comparison,
                    value: condition.value,
                    allow_inconclusive: table.allow_inconclusive,
                }),
                // An unknown metric is the key's fault, everything else the condition's.
                Err(error) => {
                    let of_key = error.message.starts_with("unknown metric")
                        || error.message.starts_with("unknown service");
                    errors.push(error.at(if of_key { key.place } else { *place }));
                }
            }
        }
    }
    thresholds
}

fn check_primary(primary: &str, root: &Node, services: &[String]) -> Result<(), Diagnostic> {
    if threshold::unit_of(primary, services).is_some() {
        return Ok(());
    }
    let written = root.table().and_then(|root| root.get("scenario")?.table()?.get("primary"));
    let place = written.map(|node| node.place);
    Err(Diagnostic { place, ..threshold::unknown_metric(primary, services) })
}

/// A warning that every strategy gives is about the scenario.
fn shared_warnings_once(study: &mut Study) {
    let strategies = study.strategies.len();
    if strategies < 2 {
        return;
    }
    let text = |warning: &str| warning.split_once(": ").map_or(warning, |(_, text)| text).to_owned();
    let all = study.warnings.clone();
    let shared =
        |warning: &String| all.iter().filter(|other| text(other) == text(warning)).count() >= strategies;
    let mut warnings: Vec<String> = Vec::new();
    for warning in &all {
        let warning = if shared(warning) { text(warning) } else { warning.clone() };
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    study.warnings = warnings;
}

/// Keeps only the strategies that were asked for, in file order.
fn select(study: &mut Study, wanted: &[String]) -> Result<(), Diagnostic> {
    if wanted.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = study.strategies.iter().map(|strategy| strategy.name.clone()).collect();
    if let Some(stranger) = wanted.iter().find(|name| !names.contains(name)) {
        return Err(Diagnostic::unknown("strategy", stranger, names.iter().map(String::as_str)));
    }
    let kept: Vec<usize> = (0..names.len()).filter(|at| wanted.contains(&names[*at])).collect();
    let moved = |old: usize| kept.iter().position(|at| *at == old);
    let baseline = moved(study.baseline).unwrap_or(0);
    study.baseline = baseline;
    study.thresholds.retain_mut(|threshold| match threshold.strategy {
        None => true,
        Some(old) => {
            threshold.strategy = moved(old);
            threshold.strategy.is_some()
        }
    });
    study.strategies.retain(|strategy| wanted.contains(&strategy.name));
    Ok(())
}
