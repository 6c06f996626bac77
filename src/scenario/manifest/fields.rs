//! Reading one mapping field by field: what is asked for is known, what is left over is an error.
//!
//! A reader asks for every field of its type and gets values; mistakes are collected, so that one reading of a file tells
//! them all. `None` means that nothing was written or that it was wrong; in the second case it has been said.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::yaml::{Entry, Node, Value, boolean, is_number};
use crate::scenario::error::{Diagnostic, Place, shortened};
use crate::units::quantity::Quantity;

/// What was noticed in one document.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<Diagnostic>,
    /// Fields that Kubernetes knows and simlab does not use: place and path.
    pub(super) no_effect: Vec<(Place, String)>,
}

/// The fields of one mapping.
pub(super) struct Fields<'a> {
    entries: &'a [Entry],
    /// Where the mapping is named: its key, or its first field.
    pub(super) place: Place,
    /// From the root of the document, `spec.metrics[0]`; empty at the root.
    path: String,
    /// Fields asked for so far.
    known: Vec<&'static str>,
    /// Whether other fields are accepted too.
    open: bool,
    findings: &'a mut Findings,
}

/// A count of things or a share of them, as in `maxSurge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountOrPercent {
    /// So many.
    Count(u32),
    /// So many of a hundred.
    Percent(u32),
}

/// Largest `int32`, the type of most numbers in Kubernetes.
pub(super) const INT32: i64 = i32::MAX as i64;

impl<'a> Fields<'a> {
    /// Reads a whole document; what is left over at its root is an error.
    pub(super) fn document<T>(
        node: &'a Node,
        findings: &'a mut Findings,
        read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
    ) -> Option<T> {
        let Value::Mapping(entries) = &node.value else { return None };
        let place = entries.first().map_or(node.place, |entry| entry.place);
        let mut fields =
            Fields { entries, place, path: String::new(), known: Vec::new(), open: false, findings };
        let value = read(&mut fields);
        fields.finish();
        value
    }

    fn finish(self) {
        for entry in self.entries {
            if !self.open && !self.known.contains(&entry.key.as_str()) {
                let key = shortened(&entry.key);
                let message = if self.path.is_empty() {
                    format!("unknown field `{key}`")
                } else {
                    format!("unknown field `{key}` in `{}`", self.path)
                };
                let mut known = self.known.clone();
                known.sort_unstable();
                known.dedup();
                self.findings.errors.push(Diagnostic::new(message).at(entry.place).among(&entry.key, known));
            }
        }
    }

    /// Says that something is wrong.
    pub(super) fn error(&mut self, error: Diagnostic) {
        self.findings.errors.push(error);
    }

    /// Refuses the value of a field.
    pub(super) fn refuse(&mut self, name: &str, message: impl Into<String>) {
        let place = self.value_place(name).unwrap_or(self.place);
        self.error(Diagnostic::new(message).at(place));
    }

    /// The field, which is known from now on. `null` is as good as absent.
    fn take(&mut self, name: &'static str) -> Option<&'a Entry> {
        self.known.push(name);
        self.written(name)
    }

    fn written(&self, name: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| entry.key == name && !matches!(entry.node.value, Value::Null))
    }

    /// Whether a field is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.written(name).is_some()
    }

    /// Where the value of a field stands.
    pub(super) fn value_place(&self, name: &str) -> Option<Place> {
        self.written(name).map(|entry| match entry.node.value {
            Value::Sequence(_) | Value::Mapping(_) => entry.place,
            _ => entry.node.place,
        })
    }

    /// From the root of the document; empty at the root.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Fields that must be there.
    pub(super) fn need(&mut self, names: &[&'static str]) {
        for name in names {
            if !self.has(name) {
                let path = self.path_of(name);
                self.error(Diagnostic::new(format!("`{path}` is missing")).at(self.place));
            }
        }
    }

    /// Fields that Kubernetes knows and simlab has no use for; those written are listed.
    pub(super) fn no_effect(&mut self, names: &[&'static str]) {
        for name in names {
            if let Some(entry) = self.take(name) {
                let path = self.path_of(name);
                self.findings.no_effect.push((entry.place, path));
            }
        }
    }

    /// Fields that say nothing about behaviour, such as those that the API server writes.
    pub(super) fn silent(&mut self, names: &[&'static str]) {
        self.known.extend(names);
    }

    /// Accepts everything that is written here.
    pub(super) fn anything(&mut self) {
        self.open = true;
    }

    /// Text inside a mapping that is not examined.
    pub(super) fn peek(&self, name: &str, inner: &str) -> Option<&'a str> {
        self.written(name)?.node.get(inner)?.scalar()
    }

    /// A scalar read by `read`, whose error is placed at the value.
    pub(super) fn get<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Node, &str) -> Result<T, Diagnostic>,
    ) -> Option<T> {
        let entry = self.take(name)?;
        match read(&entry.node, name) {
            Ok(value) => Some(value),
            Err(error) => {
                let place = match entry.node.value {
                    Value::Sequence(_) | Value::Mapping(_) => entry.place,
                    _ => entry.node.place,
                };
                self.error(error.at(place));
                None
            }
        }
    }

    /// Text; numbers and booleans have to be quoted.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.get(name, |node, name| text(node, name).map(str::to_owned))
    }

    /// Text that is not empty.
    pub(super) fn name(&mut self, name: &'static str) -> Option<String> {
        self.get(name, |node, name| match text(node, name)? {
            "" => Err(Diagnostic::new(format!("`{name}` is empty"))),
            text => Ok(text.to_owned()),
        })
    }

    /// A boolean.
    pub(super) fn boolean(&mut self, name: &'static str) -> Option<bool> {
        self.get(name, |node, name| match &node.value {
            Value::Plain(word) if boolean(word).is_some() => Ok(boolean(word) == Some(true)),
            _ => Err(wrong_kind(node, name, "true or false")),
        })
    }

    /// A whole number within bounds.
    pub(super) fn integer(&mut self, name: &'static str, bounds: RangeInclusive<i64>) -> Option<i64> {
        self.get(name, |node, name| integer(node, name, bounds))
    }

    /// A count of things, 0 ..= `i32::MAX`.
    pub(super) fn count(&mut self, name: &'static str) -> Option<u32> {
        self.integer(name, 0..=INT32).map(|number| number as u32)
    }

    /// A count of things, 1 ..= `i32::MAX`.
    pub(super) fn positive(&mut self, name: &'static str) -> Option<u32> {
        self.integer(name, 1..=INT32).map(|number| number as u32)
    }

    /// A quantity that is not negative.
    pub(super) fn quantity(&mut self, name: &'static str) -> Option<Quantity> {
        self.get(name, quantity)
    }

    /// A quantity above zero.
    pub(super) fn positive_quantity(&mut self, name: &'static str) -> Option<Quantity> {
        self.get(name, |node, name| {
            let quantity = quantity(node, name)?;
            if quantity.milli() == 0 {
                return Err(Diagnostic::new(format!("`{name}` is 0, but must be above 0")));
            }
            Ok(quantity)
        })
    }

    /// A count or `"25%"`, of at most 100 % unless `beyond_all`.
    pub(super) fn count_or_percent(
        &mut self,
        name: &'static str,
        beyond_all: bool,
    ) -> Option<CountOrPercent> {
        self.get(name, |node, name| {
            if let Value::Text(text) | Value::Plain(text) = &node.value
                && let Some(number) = text.strip_suffix('%')
            {
                let percent =
                    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok()).flatten();
                return match percent {
                    Some(percent) if percent <= 100 || beyond_all => Ok(CountOrPercent::Percent(percent)),
                    Some(_) => Err(Diagnostic::new(format!("`{name}` is {text}, but must be at most 100%"))),
                    None => Err(Diagnostic::new(format!("`{}` is not a percentage", shortened(text)))
                        .hint("write a whole number of percent: \"25%\"")),
                };
            }
            match &node.value {
                Value::Plain(word) if is_number(word) => {
                    integer(node, name, 0..=INT32).map(|number| CountOrPercent::Count(number as u32))
                }
                _ => Err(wrong_kind(node, name, "a whole number or a percentage such as \"25%\"")),
            }
        })
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&'static str, T)]) -> Option<T> {
        self.get(name, |node, name| {
            let text = text(node, name)?;
            match choices.iter().find(|(word, _)| *word == text) {
                Some((_, value)) => Ok(*value),
                None => Err(Diagnostic::new(format!("unknown {name} `{}`", shortened(text)))
                    .among(text, choices.iter().map(|(word, _)| *word))),
            }
        })
    }

    /// A mapping with fields of its own.
    pub(super) fn object<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
    ) -> Option<T> {
        let entry = self.take(name)?;
        let path = self.path_of(name);
        self.inside(&entry.node, entry.place, path, read)
    }

    /// A mapping from free names to mappings with fields of their own, in the order of the file; one without any may be empty.
    pub(super) fn each<T>(
        &mut self,
        name: &'static str,
        mut read: impl FnMut(&mut Fields<'_>) -> Option<T>,
    ) -> Vec<(String, T)> {
        let Some(entry) = self.take(name) else { return Vec::new() };
        let Value::Mapping(entries) = &entry.node.value else {
            self.error(wrong_kind(&entry.node, name, "a mapping").at(place_of(entry)));
            return Vec::new();
        };
        let path = self.path_of(name);
        let mut values = Vec::with_capacity(entries.len());
        for entry in entries {
            let empty = Node { value: Value::Mapping(Vec::new()), place: entry.place };
            let node = if matches!(entry.node.value, Value::Null) { &empty } else { &entry.node };
            let value = self.inside(node, entry.place, format!("{path}.{}", entry.key), &mut read);
            values.extend(value.map(|value| (entry.key.clone(), value)));
        }
        values
    }

    /// A list of mappings; `None` if it is absent.
    pub(super) fn list<T>(
        &mut self,
        name: &'static str,
        mut read: impl FnMut(&mut Fields<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let (entry, items) = self.sequence(name)?;
        let path = self.path_of(name);
        let mut values = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            let place = match &item.value {
                Value::Mapping(entries) => entries.first().map_or(entry.place, |first| first.place),
                Value::Null | Value::Sequence(_) => entry.place,
                _ => item.place,
            };
            values.extend(self.inside(item, place, format!("{path}[{at}]"), &mut read));
        }
        Some(values)
    }

    /// A list of mappings that, if it is there, has at least one.
    pub(super) fn filled_list<T>(
        &mut self,
        name: &'static str,
        read: impl FnMut(&mut Fields<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        if self
            .written(name)
            .is_some_and(|entry| matches!(&entry.node.value, Value::Sequence(items) if items.is_empty()))
        {
            self.refuse(name, format!("`{}` is empty", self.path_of(name)));
        }
        self.list(name, read)
    }

    /// A list of text; empty if it is absent.
    pub(super) fn texts(&mut self, name: &'static str) -> Vec<String> {
        let Some((entry, items)) = self.sequence(name) else { return Vec::new() };
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            match text(item, name) {
                Ok(text) => values.push(text.to_owned()),
                Err(error) => {
                    let place = if item.scalar().is_some() { item.place } else { entry.place };
                    self.error(error.at(place));
                }
            }
        }
        values
    }

    /// A mapping from free names to text, in the order of the file, with the places of both.
    pub(super) fn pairs(&mut self, name: &'static str) -> Vec<Pair> {
        let Some(entry) = self.take(name) else { return Vec::new() };
        let Value::Mapping(entries) = &entry.node.value else {
            self.error(wrong_kind(&entry.node, name, "a mapping").at(place_of(entry)));
            return Vec::new();
        };
        let mut pairs = Vec::with_capacity(entries.len());
        for pair in entries {
            // A name without a value is an empty text to Kubernetes.
            let value =
                if matches!(pair.node.value, Value::Null) { Ok("") } else { text(&pair.node, &pair.key) };
            match value {
                Ok(value) => pairs.push(Pair {
                    key: pair.key.clone(),
                    key_place: pair.place,
                    value: value.to_owned(),
                    place: place_of(pair),
                }),
                Err(error) => self.error(error.at(place_of(pair))),
            }
        }
        pairs
    }

    /// A mapping from free names to text.
    pub(super) fn map(&mut self, name: &'static str) -> BTreeMap<String, String> {
        self.pairs(name).into_iter().map(|pair| (pair.key, pair.value)).collect()
    }

    /// A mapping from names that `known` accepts to quantities.
    pub(super) fn quantities(
        &mut self,
        name: &'static str,
        known: impl Fn(&str) -> Result<(), Diagnostic>,
    ) -> BTreeMap<String, Quantity> {
        let mut quantities = BTreeMap::new();
        let Some(entry) = self.take(name) else { return quantities };
        let Value::Mapping(entries) = &entry.node.value else {
            self.error(wrong_kind(&entry.node, name, "a mapping").at(place_of(entry)));
            return quantities;
        };
        for entry in entries {
            if let Err(error) = known(&entry.key) {
                self.error(error.at(entry.place));
            }
            match quantity(&entry.node, &entry.key) {
                Ok(quantity) => {
                    quantities.insert(entry.key.clone(), quantity);
                }
                Err(error) => self.error(error.at(place_of(entry))),
            }
        }
        quantities
    }

    fn sequence(&mut self, name: &'static str) -> Option<(&'a Entry, &'a [Node])> {
        let entry = self.take(name)?;
        if let Value::Sequence(items) = &entry.node.value {
            return Some((entry, items));
        }
        self.error(wrong_kind(&entry.node, name, "a list").at(place_of(entry)));
        None
    }

    fn inside<T>(
        &mut self,
        node: &Node,
        place: Place,
        path: String,
        read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
    ) -> Option<T> {
        let Value::Mapping(entries) = &node.value else {
            let at = if node.scalar().is_some() { node.place } else { place };
            self.error(wrong_kind(node, &path, "a mapping").at(at));
            return None;
        };
        let mut fields =
            Fields { entries, place, path, known: Vec::new(), open: false, findings: &mut *self.findings };
        let value = read(&mut fields);
        fields.finish();
        value
    }
}

/// A free name and its text.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) key_place: Place,
    pub(super) value: String,
    pub(super) place: Place,
}

/// Where the value of a field stands; a collection is shown by its key.
fn place_of(entry: &Entry) -> Place {
    if entry.node.scalar().is_some() { entry.node.place } else { entry.place }
}

fn wrong_kind(node: &Node, name: &str, expected: &str) -> Diagnostic {
    Diagnostic::new(format!("`{}` is {expected}, not {}", shortened(name), node.kind()))
}

/// The text of a node; an unquoted word that means something else is refused, as Kubernetes refuses it.
fn text<'n>(node: &'n Node, name: &str) -> Result<&'n str, Diagnostic> {
    match &node.value {
        Value::Text(text) => Ok(text),
        Value::Plain(word) if boolean(word).is_none() && !is_number(word) => Ok(word),
        Value::Plain(word) => {
            Err(wrong_kind(node, name, "a string")
                .hint(format!("write it in quotes: \"{}\"", shortened(word))))
        }
        _ => Err(wrong_kind(node, name, "a string")),
    }
}

/// A whole number in plain decimal digits.
fn integer(node: &Node, name: &str, bounds: RangeInclusive<i64>) -> Result<i64, Diagnostic> {
    let Value::Plain(word) = &node.value else {
        let error = wrong_kind(node, name, "a whole number");
        return Err(match node.scalar() {
            Some(text) if text.parse::<i64>().is_ok() => {
                error.hint(format!("write it without quotes: {text}"))
            }
            _ => error,
        });
    };
    let digits = word.strip_prefix(['-', '+']).unwrap_or(word);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let error = Diagnostic::new(format!("`{name}` is a whole number, not `{}`", shortened(word)));
        return Err(error);
    }
    if digits.len() > 1 && digits.starts_with('0') {
        let error = Diagnostic::new(format!("the number {} begins with 0", shortened(word)));
        return Err(error
            .note("Kubernetes reads such a number as octal")
            .hint("write it without leading zeros"));
    }
    let (least, most) = (*bounds.start(), *bounds.end());
    match word.parse::<i64>() {
        Ok(number) if bounds.contains(&number) => Ok(number),
        Ok(number) if number < least => {
            Err(Diagnostic::new(format!("`{name}` is {number}, but must be at least {least}")))
        }
        _ if word.starts_with('-') => {
            Err(Diagnostic::new(format!("`{name}` is too small, it must be at least {least}")))
        }
        _ => Err(Diagnostic::new(format!("`{name}` is {}, but must be at most {most}", shortened(word)))),
    }
}

fn quantity(node: &Node, name: &str) -> Result<Quantity, Diagnostic> {
    let Some(text) = node.scalar() else {
        return Err(wrong_kind(node, name, "a quantity such as \"500m\""));
    };
    let quantity = Quantity::parse(text).map_err(|error| {
        let diagnostic = Diagnostic::new(format!("{} (`{}`)", error.message, shortened(name)));
        match error.hint {
            Some(hint) => diagnostic.hint(hint),
            None => diagnostic,
        }
    })?;
    if quantity.milli() < 0 {
        return Err(Diagnostic::new(format!("`{}` is {text}, but must not be negative", shortened(name))));
    }
    Ok(quantity)
}
