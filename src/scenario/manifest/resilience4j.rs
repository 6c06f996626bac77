//! resilience4j as Spring Boot reads it: the properties under `resilience4j` of an `application.yml`.
//!
//! Keys are taken as Spring's relaxed binding takes them (`failureRateThreshold`, `failure_rate_threshold` and
//! `failure-rate-threshold` are one property, and dots make levels); unlike there, a property that nobody knows is an error.
//! Values of the kind `${NAME:default}` are their default. Documents for profiles are read only if the profile is asked for.
//!
//! Origin: resilience4j v2.4.0, `resilience4j-framework-common`, `Common*ConfigurationProperties` (names of properties,
//! `create*Config` for what an instance inherits from its base) and `ConfigUtils.mergePropertiesIfAny`; defaults of
//! `TimeLimiterConfig`. Durations: Spring Boot's `DurationStyle` (ISO-8601, a number with a unit, or milliseconds).

use std::path::Path;

use super::fields::{Fields, Findings};
use super::yaml::{self, Entry, Node, Value};
use crate::scenario::error::{Diagnostic, Place, shortened};
use crate::scenario::files::Files;
use crate::scenario::tree;

/// The modules that have a counterpart here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scenario) enum Module {
    Retry,
    CircuitBreaker,
    RateLimiter,
    TimeLimiter,
    Bulkhead,
}

impl Module {
    pub(in crate::scenario) const ALL: [Self; 5] =
        [Self::Retry, Self::CircuitBreaker, Self::RateLimiter, Self::TimeLimiter, Self::Bulkhead];

    /// Its name below `resilience4j`.
    pub(in crate::scenario) const fn key(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::CircuitBreaker => "circuitbreaker",
            Self::RateLimiter => "ratelimiter",
            Self::TimeLimiter => "timelimiter",
            Self::Bulkhead => "bulkhead",
        }
    }
}

/// Modules that are known and have no effect here.
const OTHER_MODULES: &[&str] =
    &["circuitbreaker-aspect-order", "micrometer", "scheduled", "thread-pool", "thread-pool-bulkhead"];

/// Settings of one policy, as in a scenario.
pub(in crate::scenario) type Settings = Vec<(&'static str, tree::Node)>;

/// The properties of one file.
#[derive(Debug)]
pub(in crate::scenario) struct Properties {
    /// Path of the file.
    pub(in crate::scenario) file: String,
    modules: Vec<Configured>,
    /// What has no effect: line and path.
    no_effect: Vec<(usize, String)>,
    /// Profiles whose documents were left out, with their lines.
    pub(in crate::scenario) left_out: Vec<(usize, String)>,
}

/// One module.
#[derive(Debug)]
struct Configured {
    module: Module,
    configs: Vec<(String, Layer)>,
    instances: Vec<(String, Layer)>,
}

/// The properties of one instance, or of one shared configuration, as they are written.
#[derive(Debug, Default)]
struct Layer {
    base: Option<(String, Place)>,
    values: Vec<(&'static str, tree::Node)>,
}

impl Layer {
    fn get(&self, name: &str) -> Option<&tree::Node> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, node)| node)
    }

    fn is_on(&self, name: &str) -> bool {
        matches!(self.get(name), Some(tree::Node { value: tree::Value::Boolean(true), .. }))
    }
}

/// Reads the file; with a `profile` its documents too.
pub(in crate::scenario) fn read(
    path: &Path,
    profile: Option<(&str, Place)>,
    files: &mut Files,
) -> Result<Properties, Vec<Diagnostic>> {
    let one = |error| vec![error];
    let number = files.manifest(path).map_err(one)?;
    let name = files.sources[number as usize].name.clone();
    let documents = yaml::documents(&files.sources[number as usize].text, number).map_err(one)?;
    let (mut together, mut left_out, mut seen) = (None, Vec::new(), false);
    // Documents of the profile come last, whatever their place, as in Spring.
    let mut of_profile = Vec::new();
    for document in &documents {
        match (profile_of(document).map_err(one)?, profile) {
            (None, _) => {
                let found = properties(document, "resilience4j").map_err(one)?;
                lay_over(&mut together, found).map_err(one)?;
            }
            (Some((own, _)), Some((wanted, _))) if own.split(',').any(|own| own.trim() == wanted) => {
                seen = true;
                of_profile.push(document);
            }
            (Some((own, place)), _) => left_out.push((own, place)),
        }
    }
    if let Some((wanted, place)) = profile.filter(|_| !seen) {
        let known = left_out.iter().map(|(own, _)| own.as_str());
        return Err(vec![Diagnostic::unknown("profile", wanted, known).at(place)]);
    }
    for document in of_profile {
        lay_over(&mut together, properties(document, "resilience4j").map_err(one)?).map_err(one)?;
    }
    let Some(root) = together else {
        return Err(vec![Diagnostic::new(format!("there is no `resilience4j` in `{name}`"))]);
    };
    let mut findings = Findings::default();
    let modules = Fields::document(&root, &mut findings, modules);
    if !matches!(root.value, Value::Mapping(_)) {
        findings.errors.push(Diagnostic::new("`resilience4j` is a mapping of modules").at(root.place));
    }
    if !findings.errors.is_empty() {
        return Err(findings.errors);
    }
    let no_effect =
        findings.no_effect.iter().map(|(place, path)| (files.line(*place), path.clone())).collect();
    let left_out = left_out.iter().map(|(own, place)| (files.line(*place), own.clone())).collect();
    Ok(Properties { file: name, modules: modules.unwrap_or_default(), no_effect, left_out })
}

/// The profile that a document is for.
fn profile_of(document: &Node) -> Result<Option<(String, Place)>, Diagnostic> {
    let Some(spring) = properties(document, "spring")? else { return Ok(None) };
    let paths: [&[&str]; 2] = [&["config", "activate", "on-profile"], &["profiles"]];
    let found = paths.iter().find_map(|path| path.iter().try_fold(&spring, |node, key| node.get(key)));
    Ok(found.and_then(|node| Some((node.scalar()?.to_owned(), node.place))))
}

/// What stands below `prefix`, with dots in keys as levels.
fn properties(document: &Node, prefix: &str) -> Result<Option<Node>, Diagnostic> {
    let Value::Mapping(entries) = &document.value else { return Ok(None) };
    let mut root = Node { value: Value::Mapping(Vec::new()), place: document.place };
    for entry in entries.iter().filter(|entry| entry.key.split('.').next() == Some(prefix)) {
        insert(&mut root, &levels(&entry.key), entry.place, spread(&entry.node, 1)?)?;
    }
    let Value::Mapping(mut entries) = root.value else { return Ok(None) };
    Ok(entries.pop().map(|entry| entry.node))
}

/// The keys that a key with dots stands for; brackets hold a name that has dots itself.
fn levels(key: &str) -> Vec<&str> {
    match key.strip_prefix('[').and_then(|key| key.strip_suffix(']')) {
        Some(name) => vec![name],
        None => key.split('.').collect(),
    }
}

/// Depth of the names of instances and configurations below `resilience4j`: the one that people choose.
const OWN_NAMES: usize = 3;

/// The node with dots as levels, keys in kebab case, and placeholders as their defaults.
fn spread(node: &Node, depth: usize) -> Result<Node, Diagnostic> {
    match &node.value {
        Value::Mapping(entries) => {
            let mut whole = Node { value: Value::Mapping(Vec::new()), place: node.place };
            for entry in entries {
                let levels = levels(&entry.key);
                let below = spread(&entry.node, depth + levels.len())?;
                let names: Vec<String> = levels
                    .iter()
                    .enumerate()
                    .map(|(at, level)| match depth + at {
                        OWN_NAMES => (*level).to_owned(),
                        1 => module_name(level),
                        _ => kebab(level),
                    })
                    .collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                insert(&mut whole, &names, entry.place, below)?;
            }
            Ok(whole)
        }
        Value::Plain(text) | Value::Text(text) => {
            match text.strip_prefix("${").and_then(|text| text.strip_suffix('}')) {
                Some(inside) => {
                    if let Some((_, default)) = inside.split_once(':') {
                        Ok(Node { value: Value::Plain(default.to_owned()), place: node.place })
                    } else {
                        let error =
                            Diagnostic::new(format!("`{}` has no value in this file", shortened(text)));
                        Err(error.at(node.place).hint(format!("give it a default: ${{{inside}:...}}")))
                    }
                }
                None => Ok(node.clone()),
            }
        }
        _ => Ok(node.clone()),
    }
}

/// `circuitBreaker` and `circuit-breaker` are `circuitbreaker`.
fn module_name(key: &str) -> String {
    let plain: String = key.chars().filter(|c| !matches!(c, '-' | '_')).collect::<String>().to_lowercase();
    let known = Module::ALL.iter().map(|module| module.key()).find(|known| *known == plain);
    known.map_or_else(|| kebab(key), str::to_owned)
}

/// `failureRateThreshold` and `failure_rate_threshold` are `failure-rate-threshold`.
fn kebab(key: &str) -> String {
    let mut name = String::new();
    for c in key.chars() {
        if c.is_ascii_uppercase() && !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
        name.push(if c == '_' { '-' } else { c.to_ascii_lowercase() });
    }
    name
}

/// Puts `value` below the keys of `path`.
fn insert(node: &mut Node, path: &[&str], place: Place, value: Node) -> Result<(), Diagnostic> {
    let Some((key, rest)) = path.split_first() else {
        return merge(node, value, place);
    };
    if let Value::Null = node.value {
        node.value = Value::Mapping(Vec::new());
    }
    let Value::Mapping(entries) = &mut node.value else {
        return Err(
            Diagnostic::new(format!("`{}` is set twice, with and without levels", shortened(key))).at(place)
        );
    };
    if !entries.iter().any(|entry| entry.key == *key) {
        entries.push(Entry {
            key: (*key).to_owned(),
            place,
            node: Node { value: Value::Null, place: value.place },
        });
    }
    let entry = entries.iter_mut().find(|entry| entry.key == *key).expect("it is there now");
    insert(&mut entry.node, rest, place, value)
}

/// Adds `value` to what is there; a property that is there already is set twice.
fn merge(node: &mut Node, value: Node, place: Place) -> Result<(), Diagnostic> {
    match (&mut node.value, value.value) {
        (_, Value::Null) => Ok(()),
        (Value::Null, written) => {
            *node = Node { value: written, place: value.place };
            Ok(())
        }
        (Value::Mapping(_), Value::Mapping(entries)) => {
            entries.into_iter().try_for_each(|entry| insert(node, &[&entry.key], entry.place, entry.node))
        }
        _ => Err(Diagnostic::new("this property is set twice").at(place)),
    }
}

/// Lays one document over those before it; what it sets again wins.
fn lay_over(under: &mut Option<Node>, over: Option<Node>) -> Result<(), Diagnostic> {
    let Some(over) = over else { return Ok(()) };
    let Some(under) = under else {
        *under = Some(over);
        return Ok(());
    };
    let (Value::Mapping(below), Value::Mapping(above)) = (&mut under.value, &over.value) else {
        *under = over;
        return Ok(());
    };
    for entry in above {
        match below.iter_mut().find(|known| known.key == entry.key) {
            None => below.push(entry.clone()),
            Some(known) => {
                let mut inner = Some(known.node.clone());
                lay_over(&mut inner, Some(entry.node.clone()))?;
                *known = Entry { node: inner.expect("it was there"), ..entry.clone() };
            }
        }
    }
    Ok(())
}

fn modules(fields: &mut Fields<'_>) -> Option<Vec<Configured>> {
    fields.no_effect(OTHER_MODULES);
    let mut found = Vec::new();
    for module in Module::ALL {
        found.extend(fields.object(module.key(), |fields| {
            fields.no_effect(&["metrics", "tags"]);
            // The order in which annotations wrap each other; the default is the order of an edge.
            fields.no_effect(&[
                "circuit-breaker-aspect-order",
                "retry-aspect-order",
                "rate-limiter-aspect-order",
                "time-limiter-aspect-order",
                "bulkhead-aspect-order",
            ]);
            let configs = fields.each("configs", |fields| layer(module, fields));
            let mut instances = fields.each("instances", |fields| layer(module, fields));
            // The older names of `instances`.
            instances.extend(fields.each("backends", |fields| layer(module, fields)));
            instances.extend(fields.each("limiters", |fields| layer(module, fields)));
            Some(Configured { module, configs, instances })
        }));
    }
    Some(found)
}

fn layer(module: Module, fields: &mut Fields<'_>) -> Option<Layer> {
    let base = fields.get("base-config", scalar);
    let base = base.map(|base| (base, fields.value_place("base-config").unwrap_or(fields.place)));
    let mut layer = Layer { base, values: Vec::new() };
    layer.read(fields, module);
    Some(layer)
}

fn scalar(node: &Node, name: &str) -> Result<String, Diagnostic> {
    let wrong = || Diagnostic::new(format!("`{name}` is one value, not {}", node.kind()));
    node.scalar().map(str::to_owned).ok_or_else(wrong)
}

impl Layer {
    fn read(&mut self, fields: &mut Fields<'_>, module: Module) {
        fields.no_effect(&["event-consumer-buffer-size", "writable-stack-trace-enabled"]);
        match module {
            Module::CircuitBreaker => {
                self.take(fields, &["failure-rate-threshold", "slow-call-rate-threshold"], percentage);
                self.take(
                    fields,
                    &[
                        "slow-call-duration-threshold",
                        "wait-duration-in-open-state",
                        "exponential-max-wait-duration-in-open-state",
                        "max-wait-duration-in-half-open-state",
                    ],
                    duration,
                );
                self.take(
                    fields,
                    &[
                        "sliding-window-size",
                        "minimum-number-of-calls",
                        "permitted-number-of-calls-in-half-open-state",
                    ],
                    count,
                );
                self.take(fields, &["sliding-window-type", "transition-to-state-after-wait-duration"], word);
                self.take(
                    fields,
                    &[
                        "automatic-transition-from-open-to-half-open-enabled",
                        "enable-exponential-backoff",
                        "enable-randomized-wait",
                    ],
                    boolean,
                );
                self.take(fields, &["exponential-backoff-multiplier"], number);
                fields.no_effect(&[
                    "allow-health-indicator-to-fail",
                    "ignore-class-binding-exceptions",
                    "ignore-exception-predicate",
                    "ignore-exceptions",
                    "ignore-unknown-exceptions",
                    "initial-state",
                    "randomized-wait-factor",
                    "record-exceptions",
                    "record-failure-predicate",
                    "record-result-predicate",
                    "register-health-indicator",
                ]);
            }
            Module::Retry => {
                self.take(fields, &["max-attempts"], count);
                self.take(fields, &["wait-duration", "exponential-max-wait-duration"], duration);
                self.take(fields, &["enable-exponential-backoff", "enable-randomized-wait"], boolean);
                self.take(fields, &["exponential-backoff-multiplier"], number);
                fields.no_effect(&[
                    "consume-result-before-retry-attempt",
                    "fail-after-max-attempts",
                    "ignore-class-binding-exceptions",
                    "ignore-exceptions",
                    "ignore-unknown-exceptions",
                    "interval-bi-function",
                    "randomized-wait-factor",
                    "result-predicate",
                    "retry-exception-predicate",
                    "retry-exceptions",
                ]);
            }
            Module::RateLimiter => {
                self.take(fields, &["limit-for-period"], count);
                self.take(fields, &["limit-refresh-period", "timeout-duration"], duration);
                fields.no_effect(&[
                    "allow-health-indicator-to-fail",
                    "register-health-indicator",
                    "subscribe-for-events",
                ]);
            }
            Module::TimeLimiter => {
                self.take(fields, &["timeout-duration"], duration);
                self.take(fields, &["cancel-running-future"], boolean);
            }
            Module::Bulkhead => {
                self.take(fields, &["max-concurrent-calls"], count);
                self.take(fields, &["max-wait-duration"], duration);
                fields.no_effect(&["fair-call-handling-enabled"]);
            }
        }
    }

    fn take(
        &mut self,
        fields: &mut Fields<'_>,
        names: &[&'static str],
        read: fn(&str, &str) -> Result<tree::Value, Diagnostic>,
    ) {
        for &name in names {
            let value = fields.get(name, |node, name| {
                let value = read(&scalar(node, name)?, name)?;
                Ok(tree::Node { value, place: node.place })
            });
            self.values.extend(value.map(|node| (name, node)));
        }
    }
}

fn wrong(name: &str, text: &str, what: &str) -> Diagnostic {
    Diagnostic::new(format!("`{name}` is {what}, not `{}`", shortened(text)))
}

fn count(text: &str, name: &str) -> Result<tree::Value, Diagnostic> {
    let number = text.parse::<i32>().ok().filter(|number| *number >= 0);
    number
        .map(|number| tree::Value::Integer(number.into()))
        .ok_or_else(|| wrong(name, text, "a whole number from 0 up"))
}

fn number(text: &str, name: &str) -> Result<tree::Value, Diagnostic> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number.map(tree::Value::Float).ok_or_else(|| wrong(name, text, "a number"))
}

fn boolean(text: &str, name: &str) -> Result<tree::Value, Diagnostic> {
    match text {
        "true" | "on" | "yes" => Ok(tree::Value::Boolean(true)),
        "false" | "off" | "no" => Ok(tree::Value::Boolean(false)),
        _ => Err(wrong(name, text, "true or false")),
    }
}

/// `COUNT_BASED` is `count-based`.
fn word(text: &str, _: &str) -> Result<tree::Value, Diagnostic> {
    Ok(tree::Value::Text(text.to_lowercase().replace('_', "-")))
}

/// `50` is `50%`.
fn percentage(text: &str, name: &str) -> Result<tree::Value, Diagnostic> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    match number {
        Some(number) if (0.0..=100.0).contains(&number) => Ok(tree::Value::Text(format!("{number}%"))),
        Some(number) => {
            Err(Diagnostic::new(format!("`{name}` is {number}, but must be at most 100 (percent)")))
        }
        None => {
            let error = wrong(name, text, "a number of percent");
            Err(if text.ends_with('%') { error.hint("write it without the sign: 50 is 50 %") } else { error })
        }
    }
}

fn duration(text: &str, name: &str) -> Result<tree::Value, Diagnostic> {
    let Some(nanos) = spring_duration(text) else {
        let error = wrong(name, text, "a duration");
        return Err(error.hint(
            "Spring takes ISO-8601 (PT1.5S), a whole number with a unit (500ms, 10s, 2m), or milliseconds",
        ));
    };
    Ok(tree::Value::Text(format!("{nanos}ns")))
}

/// Nanoseconds of a duration as Spring Boot reads it.
fn spring_duration(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 7] = [
        ("ns", 1),
        ("us", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
        ("d", 86_400_000_000_000),
    ];
    let lower = text.to_lowercase();
    if let Some(iso) = lower.strip_prefix('p') {
        return iso_duration(iso);
    }
    let digits = lower.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = lower.split_at(digits);
    let factor = match unit {
        "" => 1_000_000,
        unit => UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// `dt1h30m2.5s` behind the `P`, in lower case.
fn iso_duration(text: &str) -> Option<u64> {
    let (days, time) = text.split_once('t').map_or((text, None), |(days, time)| (days, Some(time)));
    let mut total = match days.strip_suffix('d') {
        Some(days) => days.parse::<u64>().ok()?.checked_mul(86_400_000_000_000)?,
        None if days.is_empty() && time.is_some() => 0,
        None => return None,
    };
    let mut rest = time.unwrap_or_default();
    if time == Some("") {
        return None;
    }
    for (unit, factor) in [('h', 3_600_000_000_000_u64), ('m', 60_000_000_000)] {
        if let Some((number, behind)) = rest.split_once(unit) {
            total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(factor)?)?;
            rest = behind;
        }
    }
    let Some(seconds) = rest.strip_suffix('s') else { return rest.is_empty().then_some(total) };
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos = format!("{fraction:0<9}").parse::<u64>().ok()?;
    total.checked_add(whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?)?.checked_add(nanos)
}

/// What an instance inherits from, the instance itself first.
type Chain<'a> = Vec<&'a Layer>;

impl Properties {
    /// The modules that name the instance.
    pub(in crate::scenario) fn modules_of(&self, instance: &str) -> Vec<Module> {
        let names = |module: &&Configured| module.instances.iter().any(|(name, _)| name == instance);
        self.modules.iter().filter(names).map(|module| module.module).collect()
    }

    /// Every instance of the modules for which `of` is true.
    pub(in crate::scenario) fn instances(&self, of: impl Fn(Module) -> bool) -> Vec<&str> {
        let modules = self.modules.iter().filter(|module| of(module.module));
        let mut names: Vec<&str> =
            modules.flat_map(|module| module.instances.iter().map(|(name, _)| name.as_str())).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What the module says of the instance, as settings of the policy here; then what has no effect.
    pub(in crate::scenario) fn settings(
        &self,
        module: Module,
        instance: &str,
    ) -> Result<(Settings, Vec<(usize, String)>), Diagnostic> {
        let configured =
            self.modules.iter().find(|found| found.module == module).expect("it names the instance");
        let (chain, paths) = configured.chain(instance)?;
        let settings = match module {
            Module::CircuitBreaker => breaker(&chain),
            Module::Retry => retry(&chain),
            Module::RateLimiter => {
                Ok(inherited(&chain, &["limit-for-period", "limit-refresh-period", "timeout-duration"]))
            }
            Module::TimeLimiter => Ok(time_limit(&chain)),
            Module::Bulkhead => Ok(renamed(
                &chain,
                &[("max-concurrent-calls", "max-concurrent"), ("max-wait-duration", "max-wait")],
            )),
        };
        let used = |path: &str| paths.iter().any(|used| path.starts_with(used.as_str()));
        let no_effect = self.no_effect.iter().filter(|(_, path)| used(path));
        let no_effect = no_effect.map(|(line, path)| (*line, format!("resilience4j.{path}"))).collect();
        Ok((settings?, no_effect))
    }
}

impl Configured {
    /// The layers of an instance, and their paths in the file.
    fn chain(&self, instance: &str) -> Result<(Chain<'_>, Vec<String>), Diagnostic> {
        let config =
            |name: &str| self.configs.iter().find(|(known, _)| known == name).map(|(_, layer)| layer);
        let own = self.instances.iter().find(|(name, _)| name == instance).map(|(_, layer)| layer);
        let mut layer = own.expect("it names the instance");
        let mut name = instance.to_owned();
        let (mut chain, mut paths) =
            (vec![layer], vec![format!("{}.instances.{instance}.", self.module.key())]);
        loop {
            let next = match &layer.base {
                Some((base, place)) => {
                    let known = self.configs.iter().map(|(name, _)| name.as_str());
                    let unknown = || Diagnostic::unknown("base-config", base, known).at(*place);
                    let found = config(base).ok_or_else(unknown)?;
                    if chain.iter().any(|seen| std::ptr::eq(*seen, found)) {
                        let message = format!("the configuration `{}` is based on itself", shortened(base));
                        return Err(Diagnostic::new(message).at(*place));
                    }
                    Some((base.as_str(), found))
                }
                // The breaker looks for a configuration of the same name first, and what is based on one takes no default.
                None if self.module == Module::CircuitBreaker => {
                    let same = config(&name).map(|found| (name.as_str(), found));
                    same.or_else(|| config("default").map(|found| ("default", found)))
                }
                None if name == "default" => None,
                None => config("default").map(|found| ("default", found)),
            };
            let Some((of, found)) =
                next.filter(|(_, found)| !chain.iter().any(|seen| std::ptr::eq(*seen, *found)))
            else {
                return Ok((chain, paths));
            };
            chain.push(found);
            paths.push(format!("{}.configs.{of}.", self.module.key()));
            (layer, name) = (found, of.to_owned());
        }
    }
}

/// The properties of these names, each from the nearest layer that has it.
fn inherited(chain: &Chain<'_>, names: &[&'static str]) -> Settings {
    let nearest = |name: &&'static str| {
        let node = chain.iter().find_map(|layer| layer.get(name))?;
        Some((*name, node.clone()))
    };
    names.iter().filter_map(nearest).collect()
}

fn breaker(chain: &Chain<'_>) -> Result<Settings, Diagnostic> {
    let mut settings = inherited(
        chain,
        &[
            "failure-rate-threshold",
            "slow-call-rate-threshold",
            "slow-call-duration-threshold",
            "max-wait-duration-in-half-open-state",
            "transition-to-state-after-wait-duration",
            "sliding-window-type",
            "sliding-window-size",
            "minimum-number-of-calls",
            "permitted-number-of-calls-in-half-open-state",
            "automatic-transition-from-open-to-half-open-enabled",
        ],
    );
    // The wait and its growth come from one layer: the nearest one that has a wait.
    if let Some((layer, wait)) = with_wait(chain, "wait-duration-in-open-state") {
        settings.push(("wait-duration-in-open-state", wait.clone()));
        not_randomized(layer, layer)?;
        if layer.is_on("enable-exponential-backoff") {
            settings.push(("exponential-backoff-multiplier", multiplier(layer, layer, wait.place)));
            let most = layer.get("exponential-max-wait-duration-in-open-state");
            settings.extend(most.map(|most| ("exponential-max-wait-duration-in-open-state", most.clone())));
        }
    }
    Ok(settings)
}

/// The nearest layer with a wait that is not zero, and the wait.
fn with_wait<'a>(chain: &Chain<'a>, name: &str) -> Option<(&'a Layer, &'a tree::Node)> {
    chain.iter().find_map(|layer| {
        let wait = layer.get(name).filter(|wait| wait.text() != Some("0ns"))?;
        Some((*layer, wait))
    })
}

/// The factor of an exponential back-off: from `layer`, else from `base`, else 1.5.
fn multiplier(layer: &Layer, base: &Layer, place: Place) -> tree::Node {
    let written =
        layer.get("exponential-backoff-multiplier").or_else(|| base.get("exponential-backoff-multiplier"));
    written.cloned().unwrap_or(tree::Node { value: tree::Value::Float(1.5), place })
}

fn not_randomized(layer: &Layer, base: &Layer) -> Result<(), Diagnostic> {
    let flag = layer.get("enable-randomized-wait").or_else(|| base.get("enable-randomized-wait"));
    match flag {
        Some(tree::Node { value: tree::Value::Boolean(true), place }) => {
            let error = Diagnostic::new("resilience4j's randomized waits are not modelled").at(*place);
            Err(error.hint("write the policy into the scenario, or set enable-randomized-wait: false"))
        }
        _ => Ok(()),
    }
}

fn retry(chain: &Chain<'_>) -> Result<Settings, Diagnostic> {
    let mut settings = inherited(chain, &["max-attempts"]);
    let at = chain.iter().position(|layer| layer.get("wait-duration").is_some());
    let constant =
        |place| ("exponential-backoff-multiplier", tree::Node { value: tree::Value::Float(1.0), place });
    // A layer takes the kind of growth from the one right above it, but only a layer with a wait decides.
    let Some(at) = at else {
        let place = settings.first().map_or_else(Place::default, |(_, node)| node.place);
        settings.push(constant(place));
        return Ok(settings);
    };
    let layer = chain[at];
    let base = chain.get(at + 1).copied().unwrap_or(layer);
    let wait = layer.get("wait-duration").expect("it has one").clone();
    let place = wait.place;
    settings.push(("wait-duration", wait));
    not_randomized(layer, base)?;
    let grows = match layer.get("enable-exponential-backoff") {
        Some(_) => layer.is_on("enable-exponential-backoff"),
        None => base.is_on("enable-exponential-backoff"),
    };
    if grows {
        settings.push(("exponential-backoff-multiplier", multiplier(layer, base, place)));
        let most =
            layer.get("exponential-max-wait-duration").or_else(|| base.get("exponential-max-wait-duration"));
        settings.extend(most.map(|most| ("exponential-max-wait-duration", most.clone())));
    } else {
        settings.push(constant(place));
    }
    Ok(settings)
}

/// What is inherited, under our names.
fn renamed(chain: &Chain<'_>, names: &[(&'static str, &'static str)]) -> Settings {
    let one = |(theirs, ours): &(&'static str, &'static str)| {
        inherited(chain, &[theirs]).pop().map(|(_, node)| (*ours, node))
    };
    names.iter().filter_map(one).collect()
}

/// A time limit is always there: one second, and the call is cancelled.
fn time_limit(chain: &Chain<'_>) -> Settings {
    let mut settings =
        renamed(chain, &[("timeout-duration", "timeout"), ("cancel-running-future", "cancel")]);
    let place = settings.first().map_or_else(Place::default, |(_, node)| node.place);
    let defaults = [("timeout", tree::Value::Text("1s".to_owned())), ("cancel", tree::Value::Boolean(true))];
    for (name, value) in defaults {
        if !settings.iter().any(|(known, _)| *known == name) {
            settings.push((name, tree::Node { value, place }));
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_spring() {
        let ms = 1_000_000;
        for (text, nanos) in [
            ("500", 500 * ms),
            ("500ms", 500 * ms),
            ("10s", 10_000 * ms),
            ("2m", 120_000 * ms),
            ("PT1S", 1000 * ms),
            ("PT1.5S", 1500 * ms),
            ("PT0.000000001S", 1),
            ("PT1H30M", 5_400_000 * ms),
            ("P1DT1S", 86_401_000 * ms),
            ("pt20s", 20_000 * ms),
            ("500ns", 500),
        ] {
            assert_eq!(spring_duration(text), Some(nanos), "{text}");
        }
        for text in ["", "1.5s", "-1s", "PT", "P", "PT1X", "10 s", "1min", "PT1.0000000001S", "99999999999d"]
        {
            assert_eq!(spring_duration(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_bound_loosely() {
        assert_eq!(kebab("failureRateThreshold"), "failure-rate-threshold");
        assert_eq!(kebab("failure_rate_threshold"), "failure-rate-threshold");
        assert_eq!(module_name("circuit-breaker"), "circuitbreaker");
        assert_eq!(module_name("thread-pool-bulkhead"), "thread-pool-bulkhead");
    }
}
