//! Overrides, on the tree and before typing: `extends`, `[vars]`, `--set` and strategies.
//!
//! One rule serves all of them: tables merge, lists of named tables merge by `name` (and may be written as a table by
//! name), a policy replaces the whole policy, anything else replaces what was there.

use super::error::{Diagnostic, Place};
use super::tree::{Entry, Key, Node, Table, Value};

/// Whether an override may bring things that were not there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Additions {
    /// `extends`: the file on top may add anything.
    Welcome,
    /// Strategies: all have the same services, sources and node pools, so that they can be compared.
    OnlyEvents,
}

/// Keys whose value is one algorithm by name; an override replaces it whole.
const POLICIES: &[&str] = &[
    "election",
    "limiter",
    "autoscaler",
    "recommender",
    "retry",
    "retry-budget",
    "hedge",
    "breaker",
    "balancer",
    "arrivals",
    "slow-down",
    "scheduler",
    "provisioner",
    "discovery",
    "outlier",
    "host-selection",
    "detector",
];

/// Lists of tables with a `name`.
const NAMED_LISTS: &[&str] = &[
    "service",
    "source",
    "node-pool",
    "fault",
    "alert",
    "prediction",
    "config",
    "rollback",
    "action",
    "rollout",
    "topic",
    "transaction",
    "strategy",
    "endpoint",
    "cache",
    "pool",
    "version",
    "level",
];

/// Lists whose elements say what they do by one key among these neighbours (`node-loss = { .. }` beside `at = ".."`).
const EVENTS: &[(&str, &[&str])] = &[
    ("fault", &["name", "at", "mtbf", "mttr", "crew"]),
    ("action", &["name", "at", "on-alert", "on-resolved", "on-prediction", "after"]),
    ("rollout", &["name", "at", "service", "to", "workload", "metric-names"]),
    ("transaction", &["name", "log", "participant"]),
];

/// Lays `over` on `base`.
pub(super) fn overlay(base: &mut Node, over: &Node, additions: Additions) -> Result<(), Diagnostic> {
    overlay_at(base, over, Level { list: None, by_name: false, additions })
}

/// Where in the tree a merge happens.
#[derive(Clone, Copy)]
struct Level {
    /// The list that the tables at this level are elements of.
    list: Option<&'static str>,
    /// The keys of this table are names of the user (`call.store`), not keys of the language.
    by_name: bool,
    additions: Additions,
}

fn overlay_at(base: &mut Node, over: &Node, level: Level) -> Result<(), Diagnostic> {
    let (Value::Table(below), Value::Table(above)) = (&mut base.value, &over.value) else {
        *base = over.clone();
        return Ok(());
    };
    if let Some((_, neighbours)) = EVENTS.iter().find(|(list, _)| Some(*list) == level.list) {
        let says_what = |entry: &Entry| !neighbours.contains(&entry.key.name.as_str());
        if let Some(chosen) = above.entries.iter().find(|entry| says_what(entry)) {
            below.entries.retain(|entry| !says_what(entry) || entry.key.name == chosen.key.name);
        }
    }
    for Entry { key, node } in &above.entries {
        let name = key.name.as_str();
        let policy = !level.by_name && POLICIES.contains(&name);
        let list = NAMED_LISTS.iter().find(|list| !level.by_name && **list == name).copied();
        match (below.get_mut(name), list) {
            (Some(old), Some(list)) if !policy && holds_tables(old) => {
                overlay_list(old, node, list, level.additions)?;
            }
            (None, Some(list)) if matches!(node.value, Value::Table(_)) => {
                let place = key.place;
                let mut empty = Node { value: Value::Array(Vec::new()), place };
                overlay_list(&mut empty, node, list, level.additions)?;
            }
            (None, Some(list)) if level.additions == Additions::OnlyEvents && !may_be_added(list) => {
                return Err(not_added(list, key.place));
            }
            (Some(old), _) if !policy && matches!(old.value, Value::Table(_)) => {
                let inner = Level { list: None, by_name: name == "call", additions: level.additions };
                overlay_at(old, node, inner)?;
            }
            _ => below.put(key.clone(), node.clone()),
        }
    }
    Ok(())
}

/// Whether a list is one of tables; `node-pool` may be one of names.
fn holds_tables(node: &Node) -> bool {
    matches!(&node.value, Value::Array(items) if items.iter().all(|item| item.table().is_some()))
}

/// Lays a list of named tables, or a table by name, on a list of named tables.
fn overlay_list(
    base: &mut Node,
    over: &Node,
    list: &'static str,
    additions: Additions,
) -> Result<(), Diagnostic> {
    let Value::Array(items) = &mut base.value else { return Ok(()) };
    let level = Level { list: Some(list), by_name: false, additions };
    match &over.value {
        Value::Table(by_name) => {
            for Entry { key, node } in &by_name.entries {
                let known = items.iter().position(|item| identity(item, list) == Some(&key.name));
                let Some(at) = known else {
                    let names = items.iter().filter_map(|item| identity(item, list));
                    return Err(Diagnostic::unknown(&list.replace('-', " "), &key.name, names).at(key.place));
                };
                if takes_away(node, list) {
                    items.remove(at);
                } else {
                    overlay_at(&mut items[at], node, level)?;
                }
            }
        }
        Value::Array(more) => {
            for node in more {
                let name = identity(node, list).map(str::to_owned);
                let known =
                    items.iter().position(|item| name.is_some() && identity(item, list) == name.as_deref());
                match known {
                    Some(at) => overlay_at(&mut items[at], node, level)?,
                    None if additions == Additions::OnlyEvents && !may_be_added(list) => {
                        let place = node
                            .table()
                            .and_then(|table| table.get("name"))
                            .map_or(node.place, |name| name.place);
                        return Err(not_added(list, place));
                    }
                    None => items.push(node.clone()),
                }
            }
        }
        _ => *base = over.clone(),
    }
    Ok(())
}

/// What a list element is called: its `name`, and a rollout without one by its service.
fn identity<'a>(item: &'a Node, list: &str) -> Option<&'a str> {
    item.name().or_else(|| if list == "rollout" { item.table()?.get("service")?.text() } else { None })
}

/// `rollout.api = "none"`: what a strategy could add it can take away.
fn takes_away(node: &Node, list: &str) -> bool {
    may_be_added(list) && node.text() == Some("none")
}

fn may_be_added(list: &str) -> bool {
    !matches!(list, "service" | "source" | "node-pool" | "topic" | "transaction")
}

fn not_added(list: &str, place: Place) -> Diagnostic {
    let what = list.replace('-', " ");
    Diagnostic::new(format!("a strategy cannot add a {what}"))
        .at(place)
        .hint(format!("declare the {what} in the scenario and let the strategies change it"))
}

/// Values for `"$name"`.
#[derive(Default)]
pub(super) struct Vars {
    values: Vec<(String, Node)>,
}

impl Vars {
    /// Takes `[vars]` out of the tree.
    pub(super) fn take(root: &mut Node) -> Result<Self, Diagnostic> {
        let Value::Table(table) = &mut root.value else { return Ok(Self { values: Vec::new() }) };
        let Some(entry) = table.remove("vars") else { return Ok(Self { values: Vec::new() }) };
        let Value::Table(vars) = entry.node.value else {
            return Err(Diagnostic::new("`vars` is a table: write [vars]").at(entry.node.place));
        };
        let raw =
            Self { values: vars.entries.into_iter().map(|entry| (entry.key.name, entry.node)).collect() };
        let values = raw.values.iter().map(|(name, _)| Ok((name.clone(), raw.settled(name)?)));
        Ok(Self { values: values.collect::<Result<_, Diagnostic>>()? })
    }

    /// The value of a variable that may stand for another one, and so on.
    fn settled(&self, name: &str) -> Result<Node, Diagnostic> {
        let mut open = vec![name.to_owned()];
        let (_, first) =
            self.values.iter().find(|(known, _)| known == name).expect("only called for known names");
        let mut node = first;
        while let Some(next) = reference(node) {
            if open.iter().any(|other| other == next) {
                return Err(
                    Diagnostic::new(format!("the variable `{next}` is defined by itself")).at(node.place)
                );
            }
            open.push(next.to_owned());
            node = self.get(next, node.place)?;
        }
        // Without this, lists of lists of variables could grow without bound.
        match innermost_reference(node) {
            Some(place) => {
                Err(Diagnostic::new("a variable cannot stand inside another variable's list").at(place))
            }
            None => Ok(node.clone()),
        }
    }

    fn get(&self, name: &str, place: Place) -> Result<&Node, Diagnostic> {
        let known = self.values.iter().find(|(known, _)| known == name);
        known.map(|(_, value)| value).ok_or_else(|| {
            let names = self.values.iter().map(|(known, _)| known.as_str());
            let unknown = Diagnostic::unknown("variable", name, names).at(place);
            if self.values.is_empty() { unknown.hint("variables are set under [vars]") } else { unknown }
        })
    }

    /// Puts values in the place of `"$name"`, everywhere below `node`.
    pub(super) fn substitute(&self, node: &mut Node) -> Result<(), Diagnostic> {
        if let Some(name) = reference(node) {
            *node = self.get(name, node.place)?.clone();
            return Ok(());
        }
        match &mut node.value {
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.substitute(item)),
            Value::Table(table) => {
                table.entries.iter_mut().try_for_each(|entry| self.substitute(&mut entry.node))
            }
            _ => Ok(()),
        }
    }
}

/// The name in `"$name"`.
fn reference(node: &Node) -> Option<&str> {
    node.text()?.strip_prefix('$')
}

fn innermost_reference(node: &Node) -> Option<Place> {
    match &node.value {
        Value::Text(_) => reference(node).map(|_| node.place),
        Value::Array(items) => items.iter().find_map(innermost_reference),
        Value::Table(table) => table.entries.iter().find_map(|entry| innermost_reference(&entry.node)),
        _ => None,
    }
}

/// One `--set path=value`.
#[derive(Debug)]
pub(super) struct Setting {
    path: Vec<Key>,
    value: Node,
}

impl Setting {
    /// Reads `text`, which is file number `file` for the places of errors. A value that is not TOML is a string.
    pub(super) fn parse(text: &str, file: u32) -> Result<Self, Diagnostic> {
        let whole = Place::new(file, 0..text.len());
        let wrong =
            |message: &str| Diagnostic::new(message).at(whole).hint("write --set service.api.replicas=8");
        let equals = unquoted(text, '=').next().ok_or_else(|| wrong("`=` is missing"))?;
        let mut path = Vec::new();
        let mut start = 0;
        for end in unquoted(&text[..equals], '.').chain([equals]) {
            let part = text[start..end].trim();
            let name = part.strip_prefix('"').and_then(|part| part.strip_suffix('"')).unwrap_or(part);
            if name.is_empty() {
                return Err(wrong("a part of the path is empty"));
            }
            path.push(Key { name: name.to_owned(), place: Place::new(file, start..end) });
            start = end + 1;
        }
        let written = &text[equals + 1..];
        let place = Place::new(file, equals + 1..text.len());
        let value = match Node::parse_value(written.trim(), file) {
            Ok(node) => Node { value: node.value, place },
            Err(_) => Node { value: Value::Text(written.trim().to_owned()), place },
        };
        Ok(Self { path, value })
    }

    /// Whether it sets a variable.
    pub(super) fn is_var(&self) -> bool {
        self.path.len() == 2 && self.path[0].name == "vars"
    }

    /// Changes the tree.
    pub(super) fn apply(mut self, root: &mut Node, vars: &Vars) -> Result<(), Diagnostic> {
        vars.substitute(&mut self.value)?;
        descend(root, &self.path, self.value, None)
    }
}

/// Positions of `sign` outside double quotes.
fn unquoted(text: &str, sign: char) -> impl Iterator<Item = usize> {
    let mut quoted = false;
    text.char_indices().filter_map(move |(at, c)| {
        quoted ^= c == '"';
        (c == sign && !quoted).then_some(at)
    })
}

fn descend(node: &mut Node, path: &[Key], value: Node, under: Option<&str>) -> Result<(), Diagnostic> {
    let Some((key, rest)) = path.split_first() else {
        *node = value;
        return Ok(());
    };
    match &mut node.value {
        Value::Table(table) => {
            if under.is_some_and(|under| POLICIES.contains(&under)) {
                // Another algorithm than the one that was there replaces it.
                table.entries.retain(|entry| entry.key.name == key.name);
            }
            if table.get(&key.name).is_none() {
                let empty = Node { value: Value::Table(Table::default()), place: key.place };
                table.put(key.clone(), empty);
            }
            let child = table.get_mut(&key.name).expect("it was put there");
            // Below `call` stand names of services, which may be called like a policy.
            let under = if under == Some("call") { None } else { Some(key.name.as_str()) };
            descend(child, rest, value, under)
        }
        Value::Array(items) => {
            let list = under.unwrap_or_default();
            let known = items.iter().position(|item| identity(item, list) == Some(&key.name));
            let Some(at) = known else {
                let names: Vec<&str> = items.iter().filter_map(|item| identity(item, list)).collect();
                return Err(Diagnostic::unknown(&list.replace('-', " "), &key.name, names).at(key.place));
            };
            if rest.is_empty() && takes_away(&value, list) {
                items.remove(at);
                return Ok(());
            }
            descend(&mut items[at], rest, value, None)
        }
        // A plain value (`retry = "none"`) gives way to a table.
        _ => {
            *node = Node { value: Value::Table(Table::default()), place: key.place };
            descend(node, path, value, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Node {
        Node::parse(text, 0).expect("valid TOML")
    }

    /// The tree without places, one line per value.
    fn flat(node: &Node, path: &str, out: &mut Vec<String>) {
        match &node.value {
            Value::Table(table) => {
                for Entry { key, node } in &table.entries {
                    flat(node, &format!("{path}.{}", key.name), out);
                }
                if table.entries.is_empty() {
                    out.push(format!("{} = {{}}", &path[1..]));
                }
            }
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    flat(item, &format!("{path}[{at}]"), out);
                }
            }
            Value::Text(text) => out.push(format!("{} = {text:?}", &path[1..])),
            Value::Integer(value) => out.push(format!("{} = {value}", &path[1..])),
            Value::Float(value) => out.push(format!("{} = {value}", &path[1..])),
            Value::Boolean(value) => out.push(format!("{} = {value}", &path[1..])),
        }
    }

    fn lines(node: &Node) -> Vec<String> {
        let mut out = Vec::new();
        flat(node, "", &mut out);
        out
    }

    const BASE: &str = r#"
        [[service]]
        name = "a"
        replicas = 2
        limiter.vegas = { max-limit = 10 }
        instance = { cores = 2, queue = 8 }
        [[service.endpoint]]
        name = "x"
        steps = ["cpu 1ms"]
        [[service]]
        name = "b"
        [[rollout]]
        service = "a"
        rolling = { max-surge = "25%" }
    "#;

    fn overlaid(over: &str, additions: Additions) -> Result<Vec<String>, String> {
        let mut base = node(BASE);
        overlay(&mut base, &node(over), additions).map_err(|error| error.message)?;
        Ok(lines(&base))
    }

    #[test]
    fn another_moment_leaves_what_is_done() {
        let mut both = node("[[action]]\nname = \"a\"\nat = \"1s\"\nscale = 3");
        overlay(&mut both, &node("action.a.on-resolved = \"busy\""), Additions::OnlyEvents).unwrap();
        assert!(lines(&both).contains(&"action[0].scale = 3".to_owned()));
    }

    #[test]
    fn none_takes_an_event_away() {
        let base =
            || node("[[rollout]]\nservice = \"a\"\n[[fault]]\nname = \"f\"\n[[service]]\nname = \"a\"");
        let mut both = base();
        overlay(&mut both, &node("rollout.a = \"none\"\nfault.f = \"none\""), Additions::OnlyEvents).unwrap();
        assert_eq!(lines(&both), ["service[0].name = \"a\""]);
        let mut one = base();
        Setting::parse("rollout.a=none", 1).unwrap().apply(&mut one, &Vars::default()).unwrap();
        assert_eq!(lines(&one), ["fault[0].name = \"f\"", "service[0].name = \"a\""]);
        // A service stays: others may call it.
        let mut whole = base();
        overlay(&mut whole, &node("service.a = \"none\""), Additions::OnlyEvents).unwrap();
        assert!(lines(&whole).contains(&"service[0] = \"none\"".to_owned()));
    }

    #[test]
    fn tables_merge_and_policies_replace() {
        let over = r#"
            [service.a]
            limiter.aimd = {}
            instance.queue = 9
            endpoint.x.steps = ["cpu 2ms"]
            [rollout.a]
            stop-the-world = {}
        "#;
        let expected = [
            "service[0].name = \"a\"",
            "service[0].replicas = 2",
            "service[0].limiter.aimd = {}",
            "service[0].instance.cores = 2",
            "service[0].instance.queue = 9",
            "service[0].endpoint[0].name = \"x\"",
            "service[0].endpoint[0].steps[0] = \"cpu 2ms\"",
            "service[1].name = \"b\"",
            "rollout[0].service = \"a\"",
            "rollout[0].stop-the-world = {}",
        ];
        assert_eq!(overlaid(over, Additions::OnlyEvents).unwrap(), expected);
    }

    #[test]
    fn only_a_file_may_add_services() {
        let over = "[[service]]\nname = \"c\"";
        assert_eq!(overlaid(over, Additions::OnlyEvents).unwrap_err(), "a strategy cannot add a service");
        assert!(overlaid(over, Additions::Welcome).unwrap().contains(&"service[2].name = \"c\"".to_owned()));
        assert_eq!(overlaid("[service.d]\nx = 1", Additions::Welcome).unwrap_err(), "unknown service `d`");
    }

    #[test]
    fn a_service_may_be_called_like_a_policy() {
        let mut base = node("[call.limiter]\ntimeout = \"1s\"");
        overlay(&mut base, &node("[call.limiter]\ncancel = true"), Additions::Welcome).unwrap();
        assert_eq!(lines(&base), ["call.limiter.timeout = \"1s\"", "call.limiter.cancel = true"]);
    }

    fn set(text: &str) -> Result<Vec<String>, String> {
        let mut base = node(BASE);
        let vars =
            Vars { values: vec![("n".to_owned(), node("x = 7").table().unwrap().get("x").unwrap().clone())] };
        let setting = Setting::parse(text, 1).map_err(|error| error.message)?;
        setting.apply(&mut base, &vars).map_err(|error| error.message)?;
        Ok(lines(&base))
    }

    #[test]
    fn sets_by_path() {
        let has = |text: &str, line: &str| assert!(set(text).unwrap().contains(&line.to_owned()), "{text}");
        has("service.a.replicas=8", "service[0].replicas = 8");
        has("service.a.replicas=$n", "service[0].replicas = 7");
        has("service.a.instance.start=exp(3s)", "service[0].instance.start = \"exp(3s)\"");
        has("service.a.endpoint.x.steps=[\"cpu 3ms\"]", "service[0].endpoint[0].steps[0] = \"cpu 3ms\"");
        has("service.b.retry=none", "service[1].retry = \"none\"");
        has("scenario.duration=10min", "scenario.duration = \"10min\"");
        has("\"scenario\".note=a=b", "scenario.note = \"a=b\"");
    }

    #[test]
    fn setting_another_algorithm_replaces_the_first() {
        let lines = set("service.a.limiter.aimd.backoff=0.9").unwrap();
        assert!(lines.contains(&"service[0].limiter.aimd.backoff = 0.9".to_owned()));
        assert!(!lines.iter().any(|line| line.contains("vegas")));
    }

    #[test]
    fn bad_settings_say_what_is_wrong() {
        assert_eq!(set("service.a.replicas").unwrap_err(), "`=` is missing");
        assert_eq!(set("service..replicas=1").unwrap_err(), "a part of the path is empty");
        assert_eq!(set("service.c.replicas=1").unwrap_err(), "unknown service `c`");
        assert_eq!(set("service.a.replicas=$m").unwrap_err(), "unknown variable `m`");
    }

    #[test]
    fn variables_stand_for_whole_strings() {
        let mut root = node("a = \"$n\"\nb = [\"$m\", \"x$n\"]\n[vars]\nn = 3\nm = \"$n\"");
        let vars = Vars::take(&mut root).unwrap();
        vars.substitute(&mut root).unwrap();
        assert_eq!(lines(&root), ["a = 3", "b[0] = 3", "b[1] = \"x$n\""]);
    }

    #[test]
    fn variables_do_not_chase_their_tails() {
        let mut root = node("[vars]\nn = \"$m\"\nm = \"$n\"");
        let error = Vars::take(&mut root).err().map(|error| error.message);
        assert_eq!(error.as_deref(), Some("the variable `n` is defined by itself"));
    }
}
