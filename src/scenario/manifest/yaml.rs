//! YAML as a small tree in which every key and value knows its place.
//!
//! The parser gives events with places; what Kubernetes would not accept is refused while the tree grows: duplicate keys, keys
//! that are no text, tags, and documents that grow without bound (aliases, depth). JSON is YAML, so it needs nothing of
//! its own. Merge keys (`<<: *base`) are resolved, as `kubectl` resolves them.

use std::collections::BTreeMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use crate::scenario::error::{Diagnostic, Place, shortened};

/// A value and its place. For a value behind an alias that is the place of its anchor.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// What YAML can say.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A word without quotes, which may mean a number or a boolean.
    Plain(String),
    /// Text in quotes or in a block.
    Text(String),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// One field of a mapping.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

/// Levels of nesting; a pod template needs about fifteen.
const DEEPEST: usize = 64;

/// Values in one file; the largest manifests (bundles of resource definitions) have about a tenth of it.
const MOST_VALUES: usize = 1 << 20;

/// What anchors and aliases together may repeat, in bytes as counted by [`Node::size`].
const MOST_REPEATED: usize = 1 << 20;

impl Node {
    /// What kind of thing it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Plain(word) if boolean(word).is_some() => "a boolean",
            Value::Plain(word) if is_number(word) => "a number",
            Value::Plain(_) | Value::Text(_) => "a string",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }

    /// The value of a field, if this is a mapping.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node),
            _ => None,
        }
    }

    /// The text of a scalar as it was written.
    pub(super) fn scalar(&self) -> Option<&str> {
        match &self.value {
            Value::Plain(text) | Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Bytes that a copy takes, roughly: text and a fixed amount per value.
    fn size(&self) -> usize {
        const FIXED: usize = 16;
        FIXED
            + match &self.value {
                Value::Null => 0,
                Value::Plain(text) | Value::Text(text) => text.len(),
                Value::Sequence(items) => items.iter().map(Self::size).sum(),
                Value::Mapping(entries) => {
                    entries.iter().map(|entry| entry.key.len() + entry.node.size()).sum()
                }
            }
    }
}

/// The boolean that an unquoted word means to Kubernetes, which reads YAML 1.1.
pub(super) fn boolean(word: &str) -> Option<bool> {
    match word {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// Whether an unquoted word means a number.
pub(super) fn is_number(word: &str) -> bool {
    let word = word.strip_prefix(['-', '+']).unwrap_or(word);
    if matches!(word, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let digits = word.replace('_', "");
    let radix = |prefix: &str, radix: u32| {
        digits
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(radix)))
    };
    if radix("0x", 16) || radix("0o", 8) || radix("0b", 2) {
        return true;
    }
    digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'))
        && digits.parse::<f64>().is_ok()
}

/// The documents of a stream; those that say nothing are left out.
pub(super) fn documents(text: &str, file: u32) -> Result<Vec<Node>, Diagnostic> {
    let offsets = Offsets::new(text);
    let mut builder = Builder::new(file, &offsets);
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => builder.on(event, span)?,
            Err(error) => {
                return Err(syntax(error.info(), offsets.byte(error.marker().index()), text, file));
            }
        }
    }
    Ok(builder.documents)
}

/// What the parser says about byte `at`, and advice for the usual reasons.
fn syntax(info: &str, at: usize, text: &str, file: u32) -> Diagnostic {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    // The parser may stop at the end of the line before the tab that it minds.
    let mut line_start = start;
    for line in text[start..].split_inclusive('\n').take(2) {
        let indentation = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
        if let Some(tab) = indentation.find('\t') {
            let place = Place::new(file, line_start + tab..line_start + tab + 1);
            return Diagnostic::new("this is not YAML: a tab in the indentation")
                .at(place)
                .hint("indent with spaces");
        }
        line_start += line.len();
    }
    let error = Diagnostic::new(format!("this is not YAML: {info}")).at(Place::new(file, at..at + 1));
    let line = text[start..].lines().next().unwrap_or_default();
    if line.contains("{{") { error.hint(TEMPLATE) } else { error }
}

const TEMPLATE: &str = "this looks like a template: render it first, for instance with `helm template`";

/// From places in characters, as the parser counts them, to places in bytes.
struct Offsets<'a> {
    text: &'a str,
    /// Byte of every [`Self::STEP`]th character; empty if characters are bytes.
    marks: Vec<usize>,
}

impl<'a> Offsets<'a> {
    const STEP: usize = 256;

    fn new(text: &'a str) -> Self {
        let marks = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().step_by(Self::STEP).map(|(at, _)| at).collect()
        };
        Self { text, marks }
    }

    fn byte(&self, character: usize) -> usize {
        let Some(&mark) = self.marks.get(character / Self::STEP) else {
            return if self.marks.is_empty() { character.min(self.text.len()) } else { self.text.len() };
        };
        let mut rest = self.text[mark..].char_indices();
        rest.nth(character % Self::STEP).map_or(self.text.len(), |(at, _)| mark + at)
    }

    fn range(&self, span: Span) -> Range<usize> {
        self.byte(span.start.index())..self.byte(span.end.index())
    }
}

/// A collection that has begun.
struct Open {
    collection: Collection,
    place: Place,
    anchor: usize,
}

enum Collection {
    Sequence(Vec<Node>),
    Mapping {
        entries: Vec<Entry>,
        /// The keys so far, and where.
        keys: BTreeMap<String, Place>,
        /// A key whose value comes next.
        key: Option<(String, Place)>,
        /// Values of `<<`.
        merged: Vec<Node>,
    },
}

/// Grows documents from events.
struct Builder<'a> {
    file: u32,
    offsets: &'a Offsets<'a>,
    documents: Vec<Node>,
    open: Vec<Open>,
    /// Finished values by the number of their anchor, within one document.
    anchors: BTreeMap<usize, Node>,
    /// Keys and values so far.
    values: usize,
    /// Bytes copied for anchors and aliases.
    repeated: usize,
}

impl<'a> Builder<'a> {
    fn new(file: u32, offsets: &'a Offsets<'a>) -> Self {
        Self {
            file,
            offsets,
            documents: Vec::new(),
            open: Vec::new(),
            anchors: BTreeMap::new(),
            values: 0,
            repeated: 0,
        }
    }

    fn on(&mut self, event: Event<'_>, span: Span) -> Result<(), Diagnostic> {
        let place = Place::new(self.file, self.offsets.range(span));
        match event {
            Event::DocumentStart(_) => {
                // An anchor is known in its own document only.
                self.anchors.clear();
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let place = self.without_comment(place, style);
                let explicit = text_by_tag(tag.as_deref(), place)?;
                let value = match (&*text, style) {
                    ("" | "~" | "null" | "Null" | "NULL", ScalarStyle::Plain) if !explicit => Value::Null,
                    (_, ScalarStyle::Plain) if !explicit => Value::Plain(text.into_owned()),
                    _ => Value::Text(text.into_owned()),
                };
                self.finished(Node { value, place }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                text_by_tag(tag.as_deref(), place)?;
                self.begin(Collection::Sequence(Vec::new()), place, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                text_by_tag(tag.as_deref(), place)?;
                let (entries, keys, merged) = (Vec::new(), BTreeMap::new(), Vec::new());
                self.begin(Collection::Mapping { entries, keys, key: None, merged }, place, anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Open { collection, place, anchor } = self.open.pop().expect("what ends has begun");
                let value = match collection {
                    Collection::Sequence(items) => Value::Sequence(items),
                    Collection::Mapping { entries, keys, merged, .. } => {
                        Value::Mapping(with_merged(entries, keys, merged)?)
                    }
                };
                self.finished(Node { value, place }, anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(
                        Diagnostic::new("this alias has no finished anchor in its document").at(place)
                    );
                };
                self.repeated += node.size();
                let node = node.clone();
                self.within_limit(place)?;
                self.finished(node, 0)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    /// The parser counts a comment behind a quoted text as part of it.
    fn without_comment(&self, place: Place, style: ScalarStyle) -> Place {
        let quote = match style {
            ScalarStyle::SingleQuoted => b'\'',
            ScalarStyle::DoubleQuoted => b'"',
            _ => return place,
        };
        let written = &self.offsets.text.as_bytes()[place.start as usize..place.end as usize];
        let Some(opening) = written.iter().position(|byte| *byte == quote) else { return place };
        let mut at = opening + 1;
        while at < written.len() {
            let escaped = match quote {
                b'"' => written[at] == b'\\',
                _ => written[at] == quote && written.get(at + 1) == Some(&quote),
            };
            if escaped {
                at += 2;
            } else if written[at] == quote {
                let start = place.start as usize;
                return Place::new(place.file, start..start + at + 1);
            } else {
                at += 1;
            }
        }
        place
    }

    fn begin(&mut self, collection: Collection, place: Place, anchor: usize) -> Result<(), Diagnostic> {
        // A collection in the place of a key would wait for ever.
        self.key_is_text(place)?;
        if self.open.len() == DEEPEST {
            return Err(
                Diagnostic::new(format!("this is nested deeper than {DEEPEST} levels, the limit")).at(place)
            );
        }
        self.open.push(Open { collection, place, anchor });
        Ok(())
    }

    /// Refuses a collection where a key is due.
    fn key_is_text(&self, place: Place) -> Result<(), Diagnostic> {
        let Some(Open { collection: Collection::Mapping { key: None, .. }, .. }) = self.open.last() else {
            return Ok(());
        };
        let error = Diagnostic::new("a key is text, not a collection").at(place);
        let template = self.offsets.text[..place.start as usize].ends_with('{');
        Err(if template { error.hint(TEMPLATE) } else { error })
    }

    fn finished(&mut self, node: Node, anchor: usize) -> Result<(), Diagnostic> {
        self.values += 1;
        if self.values > MOST_VALUES {
            let message = format!("there are more than {MOST_VALUES} keys and values here, the limit");
            return Err(Diagnostic::new(message).at(node.place));
        }
        if anchor != 0 {
            self.repeated += node.size();
            self.within_limit(node.place)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(Open { collection, .. }) = self.open.last_mut() else {
            if !matches!(node.value, Value::Null) {
                self.documents.push(node);
            }
            return Ok(());
        };
        match collection {
            Collection::Sequence(items) => items.push(node),
            Collection::Mapping { entries, keys, key, merged } => match key.take() {
                None => {
                    let Node { value: Value::Plain(name) | Value::Text(name), place } = node else {
                        return Err(
                            Diagnostic::new(format!("a key is text, not {}", node.kind())).at(node.place)
                        );
                    };
                    if keys.contains_key(&name) {
                        let name = shortened(&name);
                        let error = Diagnostic::new(format!("`{name}` is written twice in this mapping"));
                        return Err(error.at(place).hint("keep one of the two"));
                    }
                    keys.insert(name.clone(), place);
                    *key = Some((name, place));
                }
                Some((name, _)) if name == "<<" => match node.value {
                    Value::Sequence(items) => merged.extend(items),
                    _ => merged.push(node),
                },
                Some((key, place)) => entries.push(Entry { key, place, node }),
            },
        }
        Ok(())
    }

    fn within_limit(&self, place: Place) -> Result<(), Diagnostic> {
        if self.repeated <= MOST_REPEATED {
            return Ok(());
        }
        let error = Diagnostic::new("anchors and aliases repeat more than 1 MiB here, the limit").at(place);
        Err(error.note("a few lines of aliases of aliases can stand for gigabytes (a YAML bomb)"))
    }
}

/// Own entries first, then those of the merged mappings that are not overridden.
fn with_merged(
    mut entries: Vec<Entry>,
    mut keys: BTreeMap<String, Place>,
    merged: Vec<Node>,
) -> Result<Vec<Entry>, Diagnostic> {
    for node in merged {
        let Value::Mapping(others) = node.value else {
            return Err(Diagnostic::new(format!("`<<` merges mappings, not {}", node.kind())).at(node.place));
        };
        for entry in others {
            if !keys.contains_key(&entry.key) {
                keys.insert(entry.key.clone(), entry.place);
                entries.push(entry);
            }
        }
    }
    Ok(entries)
}

/// Whether a tag makes a scalar text. Tags that say what is so anyway are accepted.
fn text_by_tag(tag: Option<&Tag>, place: Place) -> Result<bool, Diagnostic> {
    let Some(tag) = tag else { return Ok(false) };
    match tag.suffix.as_str() {
        "str" if tag.is_yaml_core_schema() => Ok(true),
        "int" | "float" | "bool" | "null" | "seq" | "map" if tag.is_yaml_core_schema() => Ok(false),
        _ => Err(Diagnostic::new(format!(
            "the tag `{}` has no meaning in a manifest",
            shortened(&tag.to_string())
        ))
        .at(place)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Node {
        documents(text, 0).expect("valid").remove(0)
    }

    fn refused(text: &str) -> String {
        documents(text, 0).expect_err("invalid").message
    }

    fn written(text: &str, place: Place) -> &str {
        &text[place.start as usize..place.end as usize]
    }

    #[test]
    fn places_are_bytes_even_after_wide_characters_and_carriage_returns() {
        let text = "é: \"ü\\\" x\" # \"ö\"\r\nb: wörd\r\nc: 'it''s' # 'c'\r\n";
        let Value::Mapping(entries) = one(text).value else { panic!("a mapping") };
        assert_eq!(written(text, entries[0].place), "é");
        assert_eq!(written(text, entries[0].node.place), "\"ü\\\" x\"");
        assert_eq!(written(text, entries[1].place), "b");
        assert_eq!(written(text, entries[1].node.place), "wörd");
        assert_eq!(written(text, entries[2].node.place), "'it''s'");
        let long = format!("{}{text}", "# äöü\n".repeat(300));
        let Value::Mapping(entries) = one(&long).value else { panic!("a mapping") };
        assert_eq!(written(&long, entries[1].node.place), "wörd");
    }

    #[test]
    fn streams_have_documents_and_empty_ones_do_not_count() {
        let documents =
            documents("# only a comment\n---\n---\na: 1\n...\n---\n{\"b\": null}\n---\n", 0).expect("valid");
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[0].get("a").and_then(Node::scalar), Some("1"));
        assert!(matches!(documents[1].get("b"), Some(Node { value: Value::Null, .. })));
    }

    #[test]
    fn aliases_and_merge_keys_are_resolved() {
        let node = one("base: &base {cpu: 1, memory: 2}\nown: *base\nmore:\n  <<: *base\n  cpu: 3\n");
        assert_eq!(node.get("own").and_then(|own| own.get("memory")).and_then(Node::scalar), Some("2"));
        let more = node.get("more").expect("written");
        assert_eq!(more.get("cpu").and_then(Node::scalar), Some("3"));
        assert_eq!(more.get("memory").and_then(Node::scalar), Some("2"));
        assert!(more.get("<<").is_none());
    }

    #[test]
    fn what_grows_without_bound_is_refused() {
        use std::fmt::Write as _;
        let mut bomb = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
        for level in 1..9 {
            let below = format!("*a{}", level - 1);
            writeln!(bomb, "a{level}: &a{level} [{}]", [below.as_str(); 9].join(", ")).expect("written");
        }
        assert_eq!(refused(&bomb), "anchors and aliases repeat more than 1 MiB here, the limit");
        assert_eq!(refused(&"[".repeat(200)), "this is nested deeper than 64 levels, the limit");
        let many = format!("[{}]", "1,".repeat(1 << 20));
        assert_eq!(refused(&many), "there are more than 1048576 keys and values here, the limit");
        assert_eq!(refused("a: &a [*a]\n"), "this alias has no finished anchor in its document");
        assert_eq!(refused("a: &x 1\n---\nb: *x\n"), "this alias has no finished anchor in its document");
    }

    #[test]
    fn what_kubernetes_would_not_read_is_refused() {
        assert_eq!(refused("a: 1\nb: 2\na: 3\n"), "`a` is written twice in this mapping");
        assert_eq!(refused("[a]: 1\n"), "a key is text, not a collection");
        assert_eq!(refused("a: !secret x\n"), "the tag `!secret` has no meaning in a manifest");
        assert_eq!(refused("<<: 3\n"), "`<<` merges mappings, not a number");
    }

    #[test]
    fn words_mean_what_kubernetes_takes_them_for() {
        for word in ["1", "-1", "1.5", "1e3", "0x1F", "0o17", "1_000", ".5", ".inf", "08"] {
            assert!(is_number(word), "{word}");
        }
        for word in ["1.2.3", "1Gi", "e3", "-", "", "0x", "1-2", "infinity", "2024-01-01"] {
            assert!(!is_number(word), "{word}");
        }
        assert_eq!(boolean("on"), Some(true));
        assert_eq!(boolean("nope"), None);
        assert_eq!(one("a: !!str 3\n").get("a").expect("written").kind(), "a string");
    }
}
