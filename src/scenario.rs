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
//! Beside them, [`manifest`] reads what Kubernetes runs in production.
//!
//! The syntax is that of `schema` (`simlab schema` prints it), the meaning that of [`model`].

pub mod backtest;
mod check;
mod de;
mod error;
mod files;
pub mod import;
mod loops;
pub mod manifest;
mod merge;
pub mod model;
mod production;
mod profile;
pub mod recording;
mod schema;
mod step;
mod storm;
mod threshold;
mod tree;

pub use error::{Diagnostic, Place, ScenarioError, SourceFile};
pub use schema::json_schema;
pub use threshold::{
    ALERT_METRICS, CONFIG_METRICS, GROUP_METRICS, NODE_POOL_METRICS, PREDICTION_METRICS, REQUEST_METRICS,
    ROLLBACK_METRICS, RUN_METRICS, SERVICE_METRICS, TOPIC_METRICS, TRANSACTION_METRICS, Unit,
};

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
        Self::from_parts(name, text, &[], overrides)
    }

    /// As [`from_text`](Self::from_text), with data files that exist in memory only: (path as the text calls it, content).
    pub fn from_parts(
        name: &str,
        text: &str,
        data: &[(&str, &str)],
        overrides: &Overrides,
    ) -> Result<Self, ScenarioError> {
        let mut files = Files::new(Limits::default().file_size);
        let file = files.option(name, text);
        for (path, content) in data {
            files.attach(path, content);
        }
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
        if tree.table().is_some_and(|table| table.get("scenario").is_none()) {
            let error = Diagnostic::new("there is no [scenario] table").at(tree.place);
            return Err(vec![error.hint("write [scenario] with a name and a duration")]);
        }
        let mut notes = production::adopt(&mut tree, files)?;
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
            let parts = threshold::Parts::of(&scenario);
            study_so_far.thresholds = read_thresholds(&thresholds, &parts, &plans, &mut check.errors);
        }
        let Check { errors, warnings, .. } = check;
        notes.extend(warnings);
        if !errors.is_empty() {
            return Err(errors);
        }
        for warning in notes {
            let warning =
                if plans.len() > 1 { format!("strategy `{}`: {warning}", plan.name) } else { warning };
            study_so_far.warnings.push(warning);
        }
        let (name, title) = (plan.name.clone(), plan.title.clone());
        study_so_far.strategies.push(Strategy { name, title, scenario });
        study = Some(study_so_far);
    }
    let mut study = study.expect("there is at least the default strategy");
    let parts = threshold::Parts::of(&study.strategies[0].scenario);
    check_primary(&study.primary, &root, &parts).map_err(one)?;
    check_focus(study.focus.as_deref(), &root, &parts).map_err(one)?;
    shared_warnings_once(&mut study);
    select(&mut study, &overrides.strategies).map_err(one)?;
    path.clone_into(&mut study.path);
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
            if let Some(plan) = plans.iter().find(|plan| plan.name == base.value) {
                overrides.clone_from(&plan.overrides);
            } else {
                let known = plans.iter().map(|plan| plan.name.as_str());
                let name = error::shortened(&base.value);
                let error = Diagnostic::new(format!("no strategy before this one is named `{name}`"));
                check.errors.push(error.at(base.place).among(&base.value, known));
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
        focus: table.focus.as_ref().map(|source| source.value.clone()),
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
    parts: &threshold::Parts,
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
            match threshold::condition(metric, value, parts) {
                Ok(condition) => thresholds.push(Threshold {
                    text: format!("{}: {value}", key.value),
                    metric: condition.metric,
                    strategy: position.flatten(),
                    comparison: condition.comparison,
                    value: condition.value,
                    allow_inconclusive: table.allow_inconclusive,
                }),
                Err(threshold::Wrong::Metric(error)) => errors.push(error.at(key.place)),
                Err(threshold::Wrong::Condition(error)) => errors.push(error.at(*place)),
            }
        }
    }
    thresholds
}

fn check_primary(primary: &str, root: &Node, parts: &threshold::Parts) -> Result<(), Diagnostic> {
    if threshold::unit_of(primary, parts).is_some() {
        return Ok(());
    }
    Err(Diagnostic {
        place: place_in_header(root, "primary"),
        ..threshold::unknown_metric(primary, parts, false)
    })
}

fn check_focus(focus: Option<&str>, root: &Node, parts: &threshold::Parts) -> Result<(), Diagnostic> {
    let Some(focus) = focus.filter(|focus| !parts.sources.iter().any(|source| source == focus)) else {
        return Ok(());
    };
    let known = parts.sources.iter().map(String::as_str);
    Err(Diagnostic { place: place_in_header(root, "focus"), ..Diagnostic::unknown("source", focus, known) })
}

/// Where a key of `[scenario]` has its value.
fn place_in_header(root: &Node, key: &str) -> Option<Place> {
    root.table().and_then(|root| Some(root.get("scenario")?.table()?.get(key)?.place))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::autoscaler::AutoscalerSettings;
    use crate::random::law::Law;
    use crate::scenario::model::{
        Arrivals, CpuSharing, Full, Mode, Scenario, Sharing, SlowDown, Step, Trouble, WarmUp, When,
    };
    use crate::time::Time;

    /// Loads `text` with files beside it.
    fn load_with(text: &str, others: &[(&str, &str)], overrides: &Overrides) -> Result<Study, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in others {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let path = folder.path().join("scenario.toml");
        std::fs::write(&path, text).expect("written");
        Study::load(&path.to_string_lossy(), overrides).map_err(|error| error.render(false))
    }

    fn study(text: &str) -> Study {
        load_with(text, &[], &Overrides::default()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn first(text: &str) -> Scenario {
        study(text).strategies.remove(0).scenario
    }

    const SMALL: &str = r#"
        [scenario]
        name = "small"
        duration = "10min"
        [[service]]
        name = "api"
        [[service.endpoint]]
        name = "get"
        steps = ["cpu 5ms"]
        [[source]]
        name = "users"
        to = "api.get"
        arrivals.poisson = { rate = "10/s" }
    "#;

    #[test]
    fn defaults_are_those_of_the_model() {
        let study = study(SMALL);
        assert_eq!((study.seed, study.replications, study.baseline), (1, 5, 0));
        assert_eq!((study.title.as_str(), study.primary.as_str()), ("small", "availability"));
        assert_eq!((study.warm_up, study.resolution), (Duration::ZERO, Duration::from_secs(2)));
        assert_eq!((study.strategies.len(), study.strategies[0].name.as_str()), (1, "default"));
        assert_eq!(study.warnings, Vec::<String>::new());
        let service = &study.strategies[0].scenario.services[0];
        assert_eq!((service.replicas, service.node_pools.len()), (1, 0));
        assert_eq!(service.instance.mode, Mode::Threads { workers: 1 });
        assert_eq!((service.instance.cpu, service.instance.queue), (CpuSharing::Shared, None));
        assert_eq!(service.instance.grace, Duration::from_secs(30));
        assert_eq!(service.versions[0].name, "v1");
        let edge = &study.strategies[0].scenario.sources[0].edges[0];
        assert_eq!(edge.balancer.name(), "round-robin");
        assert_eq!((edge.policies.cancel, edge.sharing), (false, Sharing::Instance));
    }

    /// Everything that the syntax has, once.
    const WHOLE: &str = r#"
        [scenario]
        name = "whole"
        title = "Everything once"
        note = "Storm time runs 12 x"
        duration = "3h"
        warm-up = "10min"
        seed = 1822
        replications = 7
        resolution = "1min"
        primary = "latency_p99_ms"
        baseline = "hpa"
        [objective]
        availability = "99.9%"
        latency-p99 = "800ms"
        [limits]
        requests = 5_000_000
        file-size = "1GiB"
        [vars]
        replicas = 6
        same = "$replicas"
        [network]
        same-zone = "0.2ms"
        cross-zone = "1ms"
        outside = "20ms"
        [[network.link]]
        between = ["a", "b"]
        latency = "lognormal(2ms, cv=0.2)"

        [[node-pool]]
        name = "general"
        nodes = 4
        cores = 16
        memory = "64GiB"
        zones = ["a", "b"]
        price = "0.19/h"

        [[service]]
        name = "typhoon"
        replicas = "$same"
        node-pool = "general"
        price = "0.05/h"
        discovery = "uniform(0s, 2s)"
        metrics = { period = "15s", window = "30s", delay = "0s" }
        instance = { cores = 2, cpu-request = 1.5, memory = "1GiB", mode = "threads", workers = 32, queue = 128, full = "drop", order = "lifo", queue-timeout = "exp(2s)", cpu = "fifo", pull = "20s", start = "lognormal(25s, cv=0.3)", warm-up = { for = "60s", slowdown = 3 }, grace = "10s", slow-down = { usl = { alpha = 0.02, beta = 0.0005 } } }
        limiter.seed-token-bucket = { capacity = 100, fill-rate = "50/s" }
        autoscaler.hpa = { min-replicas = 2, max-replicas = 20, target-cpu-utilization = 70 }
        [[service.endpoint]]
        name = "position"
        steps = [
            "cpu lognormal(3ms, cv=1) * exp(1)", "cache tracks", "call store.track timeout=300ms", "wait exp(2ms)",
            "pool db", "call store.track", "parallel quorum=2 store.track store.track store.put timeout=1s",
            "parallel store.track times=100", "choose 70% store.track, 30% store.put", "call store.put probability=10%",
        ]
        [[service.cache]]
        name = "tracks"
        keys = 10_000
        zipf = 1.0
        capacity = 500
        ttl = "10min"
        scope = "service"
        single-flight = true
        [[service.pool]]
        name = "db"
        size = 20
        max-wait = "1s"
        [[service.version]]
        name = "v1"
        [[service.version]]
        name = "v2"
        demand = 1.1
        error-rate = "2%"
        [service.callers]
        timeout = "1s"
        cancel = true
        breaker.seed = {}
        [service.call.store]
        timeout = "250ms"
        retry.exponential = { attempts = 3, base = "50ms", max-delay = "2s" }
        retry-budget.tower = {}
        limiter.bulkhead = { max-concurrent = 25 }
        balancer = "p2c"
        sharing = "service"

        [[service]]
        name = "store"
        pool = "general"
        instance = { mode = "async", max-in-flight = "unlimited", slow-down = { table = [1, 1.1, 1.3] } }
        [[service.endpoint]]
        name = "track"
        steps = ["cpu 1ms"]
        [[service.endpoint]]
        name = "put"
        steps = ["wait 1ms"]

        [[source]]
        name = "public"
        to = "typhoon.position"
        clients = 200
        zone = "a"
        deadline = "2s"
        propagate-deadline = true
        priority = 3
        arrivals.poisson = { rate = "90/s", scale = 0.5 }
        [source.call.typhoon]
        timeout = "3s"
        breaker = "none"
        [[source]]
        name = "journey"
        steps = ["call typhoon.position", "wait 1s", "call store.put"]
        arrivals.deterministic = { profile = "ramp(0s: 10/s, 10min: 100/s)" }
        [[source]]
        name = "gaps"
        to = "store.track"
        arrivals.renewal = { gap = "gamma(10ms, cv=2)" }
        [[source]]
        name = "states"
        to = "store.track"
        arrivals.mmpp = { states = [{ rate = "5/s", lasts = "100s" }, { rate = "30/s", lasts = "10s" }] }
        [[source]]
        name = "trace"
        to = "store.track"
        arrivals.trace = { file = "x.csv", column = "t_ms" }
        [[source]]
        name = "users"
        to = "store.track"
        arrivals.users = { count = 100, think = "exp(5s)", leave = "20%", away = "exp(1min)" }
        [[source]]
        name = "flood"
        to = "store.track"
        arrivals.poisson = { profile = "file(x.csv:per-minute)" }

        [[fault]]
        name = "landfall"
        at = "1h40m"
        node-loss = { pool = "general", count = 1, for = "20min" }
        [[fault]]
        at = "1h"
        crash = { service = "store", count = 1 }
        [[fault]]
        at = "1h"
        slow = { service = "store", count = 1, factor = 5, for = "5min" }
        [[fault]]
        at = "1h"
        error-rate = { service = "store", rate = "20%", for = "5min" }
        [[fault]]
        at = "1h"
        hang = { service = "store" }
        [[fault]]
        at = "1h"
        zone-loss = { zone = "b", for = "5min" }
        [[fault]]
        at = "1h"
        partition = { between = ["a", "b"], for = "5min" }
        [[fault]]
        at = "1h"
        packet-loss = { rate = "5%", for = "5min" }
        [[fault]]
        at = "1h"
        added-latency = { between = ["a", "b"], latency = "50ms", for = "5min" }
        [[fault]]
        at = "1h"
        outage = { service = "store", for = "5min" }
        [[fault]]
        mtbf = "exp(30d)"
        mttr = "lognormal(3h, cv=2)"
        crew = 1
        node-loss = { pool = "general" }

        [[action]]
        at = "1h"
        scale = { service = "store", replicas = 10 }
        [[action]]
        at = "1h"
        throttle = { source = "public", share = "50%" }
        [[action]]
        at = "1h"
        kill-switch = { endpoint = "store.put", on = false }

        [[rollout]]
        at = "90min"
        service = "typhoon"
        to = "v2"
        rolling = { max-surge = "25%", max-unavailable = "25%" }

        [[strategy]]
        name = "nothing"
        [[strategy]]
        name = "hpa"
        title = "with a scaler"
        extends = "nothing"
        [strategy.service.typhoon]
        autoscaler.hpa = { min-replicas = 2, max-replicas = 30, target-cpu-utilization = 50 }
        [strategy.service.typhoon.callers]
        retry.fixed = { attempts = 2, delay = "10ms" }
        [[strategy]]
        name = "less"
        extends = "hpa"
        [strategy.service.typhoon]
        autoscaler = "none"
        endpoint.position.steps = ["cpu 1ms"]
        [strategy.rollout.typhoon]
        stop-the-world = {}

        [thresholds]
        allow-inconclusive = true
        "latency{strategy:hpa}" = ["p(99) < 800ms", "mean < 200ms"]
        "availability{strategy:hpa}" = ["mean > 99.5%"]
        "service.typhoon.utilization" = ["mean < 80%"]
    "#;

    fn whole(overrides: &Overrides) -> Result<Study, String> {
        load_with(WHOLE, &[("x.csv", "t_ms,per-minute\n0,600\n60,1200\n")], overrides)
    }

    #[test]
    fn everything_in_the_syntax_is_understood() {
        let study = whole(&Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((study.seed, study.replications, study.baseline), (1822, 7, 1));
        assert_eq!(study.objective.availability, Some(0.999));
        assert_eq!((study.limits.requests, study.limits.file_size), (5_000_000, 1 << 30));
        assert_eq!(study.thresholds.len(), 4);
        assert_eq!(study.thresholds[0].strategy, Some(1));
        assert_eq!(study.thresholds[0].text, "latency{strategy:hpa}: p(99) < 800ms");

        let scenario = &study.strategies[0].scenario;
        assert_eq!(scenario.zones, ["a", "b"]);
        assert_eq!(scenario.network.links[0].between, (0, 1));
        let typhoon = &scenario.services[0];
        assert_eq!((typhoon.replicas, typhoon.node_pools.as_slice()), (6, [0].as_slice()));
        assert_eq!(typhoon.instance.warm_up, Some(WarmUp { lasts: Duration::from_secs(60), slowdown: 3.0 }));
        assert_eq!((typhoon.instance.full, typhoon.instance.cpu), (Full::Drop, CpuSharing::Fifo));
        assert_eq!(typhoon.instance.slow_down, SlowDown::Usl { alpha: 0.02, beta: 0.0005 });
        assert_eq!(scenario.services[1].instance.mode, Mode::Async { max_in_flight: u32::MAX });
        assert_eq!((typhoon.caches[0].local, typhoon.caches[0].capacity), (false, Some(500)));

        let steps = &typhoon.endpoints[0].steps;
        assert_eq!(steps.len(), 10);
        let Step::Call(call) = &steps[2] else { panic!("{:?}", steps[2]) };
        assert_eq!((call.to.service, call.edge, call.timeout), (1, 0, Some(Duration::from_millis(300))));
        let Step::Call(call) = &steps[5] else { panic!("{:?}", steps[5]) };
        assert_eq!(call.timeout, Some(Duration::from_millis(250)), "the edge's own");
        let Step::Parallel { calls, need } = &steps[6] else { panic!("{:?}", steps[6]) };
        assert_eq!((calls.len(), *need, calls[2].to.endpoint), (3, 2, 1));
        let Step::Parallel { calls, need } = &steps[7] else { panic!("{:?}", steps[7]) };
        assert_eq!((calls.len(), *need), (100, 100));
        let Step::Choose(branches) = &steps[8] else { panic!("{:?}", steps[8]) };
        assert_eq!((branches[0].0, branches[1].0), (0.7, 0.3));
        let edge = &typhoon.edges[0];
        assert_eq!((edge.balancer.name(), edge.sharing), ("p2c", Sharing::Service));
        let policies = &edge.policies;
        assert!(policies.retry.is_some() && policies.retry_budget.is_some() && policies.limiter.is_some());

        // The source's edge: `callers` of typhoon, of which it takes the breaker away.
        let edge = &scenario.sources[0].edges[0];
        assert!(edge.policies.breaker.is_none() && edge.policies.cancel);
        let Arrivals::Poisson(profile) = &scenario.sources[0].arrivals else { panic!() };
        assert_eq!(profile.points, [(Time::ZERO, 45.0)]);
        let Arrivals::Trace(times) = &scenario.sources[4].arrivals else { panic!() };
        assert_eq!(times, &[Time::ZERO, Time::from_millis(60)]);
        assert_eq!(scenario.sources[1].steps.len(), 3);

        assert_eq!(scenario.faults.len(), 11);
        assert!(matches!(scenario.faults[0].what, Trouble::NodeLoss { pool: 0, count: 1, .. }));
        assert!(matches!(scenario.faults[10].when, When::Drawn { crew: Some(1), .. }));
        assert_eq!(scenario.faults[1].name, "crash store");
        assert_eq!((scenario.actions.len(), scenario.rollouts[0].to), (3, 1));
        assert_eq!(scenario.rollouts[0].how.name(), "rolling");
    }

    #[test]
    fn strategies_build_on_one_another() {
        let study = whole(&Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
        let [nothing, hpa, less] = study.strategies.as_slice() else { panic!() };
        assert_eq!(hpa.title, "with a scaler");
        let most = |scenario: &Scenario| format!("{:?}", scenario.services[0].autoscaler);
        assert_ne!(most(&nothing.scenario), most(&hpa.scenario));
        assert!(matches!(hpa.scenario.services[0].autoscaler, Some(AutoscalerSettings::Hpa(_))));
        assert!(less.scenario.services[0].autoscaler.is_none());
        // Inherited from `hpa`, through `callers`.
        assert!(nothing.scenario.sources[0].edges[0].policies.retry.is_none());
        assert!(less.scenario.sources[0].edges[0].policies.retry.is_some());
        assert_eq!(less.scenario.services[0].endpoints[0].steps.len(), 1);
        assert_eq!(less.scenario.rollouts[0].how.name(), "stop-the-world");
        // The edge to `store` has lost its calls there, which is worth a word.
        assert!(
            study
                .warnings
                .iter()
                .any(|warning| warning.starts_with("strategy `less`: service.typhoon.call.store"))
        );
    }

    #[test]
    fn the_command_line_has_the_last_word() {
        let overrides = Overrides {
            settings: vec!["vars.replicas=9".to_owned(), "service.store.replicas=$replicas".to_owned()],
            seed: Some(4),
            replications: Some(2),
            strategies: vec!["less".to_owned(), "hpa".to_owned()],
        };
        let study = whole(&overrides).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((study.seed, study.replications), (4, 2));
        let names: Vec<&str> = study.strategies.iter().map(|strategy| strategy.name.as_str()).collect();
        assert_eq!((names, study.baseline), (vec!["hpa", "less"], 0));
        assert_eq!(study.thresholds[0].strategy, Some(0));
        let services = &study.strategies[0].scenario.services;
        assert_eq!((services[0].replicas, services[1].replicas), (9, 9));
        assert_ne!(study.hash, whole(&Overrides::default()).unwrap().hash);
    }

    #[test]
    fn the_command_line_can_be_wrong() {
        let error = |settings: &[&str], strategies: &[&str]| {
            let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            let overrides = Overrides {
                settings: owned(settings),
                strategies: owned(strategies),
                ..Overrides::default()
            };
            load_with(SMALL, &[], &overrides).unwrap_err()
        };
        insta::assert_snapshot!(error(&["service.apy.replicas=3"], &[]), @r"
        error: unknown service `apy`
         --> --set:1:9
          |
        1 | service.apy.replicas=3
          |         ^^^
          |
          = note: known: `api`
          = hint: did you mean `api`?
        ");
        insta::assert_snapshot!(error(&["service.api.replicas=many"], &[]), @r#"
        error: expected a whole number from 0 to 4294967295, found the string "many"
         --> --set:1:22
          |
        1 | service.api.replicas=many
          |                      ^^^^
        "#);
        insta::assert_snapshot!(error(&["service.api.replicas"], &[]), @r"
        error: `=` is missing
         --> --set:1:1
          |
        1 | service.api.replicas
          | ^^^^^^^^^^^^^^^^^^^^
          |
          = hint: write --set service.api.replicas=8
        ");
        insta::assert_snapshot!(error(&[], &["hpa"]), @r"
        error: unknown strategy `hpa`
         |
         = note: known: `default`
        ");
    }

    #[test]
    fn a_file_lies_over_its_base() {
        let top = r#"
            extends = "base.toml"
            [scenario]
            name = "top"
            [[service]]
            name = "api"
            replicas = 4
            [[service]]
            name = "extra"
            [[service.endpoint]]
            name = "get"
            steps = ["cpu 1ms"]
        "#;
        let study = load_with(top, &[("base.toml", SMALL)], &Overrides::default()).unwrap();
        let services = &study.strategies[0].scenario.services;
        assert_eq!((study.name.as_str(), services.len(), services[0].replicas), ("top", 2, 4));
        assert_eq!(study.text, top);
    }

    #[test]
    fn cycles_with_time_or_decay_are_legal() {
        let with = |steps: &str| {
            let text = SMALL.replace("\"cpu 5ms\"", steps);
            load_with(&text, &[], &Overrides::default())
                .map(|_| ())
                .map_err(|error| error.lines().next().map(str::to_owned))
        };
        assert_eq!(with("\"cpu 5ms\", \"call api.get\""), Ok(()));
        assert_eq!(with("\"call api.get probability=50%\", \"cpu 5ms\""), Ok(()));
        let refused = Err(Some("error: these calls go round for ever without taking any time".to_owned()));
        assert_eq!(with("\"call api.get\", \"cpu 5ms\""), refused);
        assert_eq!(with("\"parallel api.get api.get\", \"cpu 5ms\""), refused);
        assert_eq!(with("\"choose 60% api.get, 40% api.get\", \"cpu 5ms\""), refused);
    }

    #[test]
    fn cross_zone_delay_has_a_default_where_there_are_zones() {
        let pool = "\n[[node-pool]]\nname = \"p\"\nnodes = 2\ncores = 4\nmemory = \"8GiB\"\nzones = [\"a\", \"b\"]\n";
        assert_eq!(first(SMALL).network.cross_zone, Law::Constant(0.0));
        assert_eq!(first(&format!("{SMALL}{pool}")).network.cross_zone, Law::Constant(1e6));
    }

    #[test]
    fn the_schema_is_draft_2020_12_and_has_no_inner_names() {
        let schema = json_schema();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        let text = schema.to_string();
        for inner in ["$fault", "$rollout", "$action", "$value"] {
            assert!(!text.contains(&format!("\"{inner}\"")), "{inner}");
        }
        for key in ["scenario", "service", "node-pool", "strategy", "thresholds"] {
            assert!(schema["properties"].get(key).is_some(), "{key}");
        }
        for word in ["node-loss", "stop-the-world", "max-concurrent", "queue-timeout"] {
            assert!(text.contains(&format!("\"{word}\"")), "{word}");
        }
    }
}
