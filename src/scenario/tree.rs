//! The text of a scenario as a tree in which every key and value knows where it was written.

use toml::de::{DeTable, DeValue};

use super::error::{Diagnostic, Place};

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// What TOML can say. Dates are kept as the text they were written as.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Boolean(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    Array(Vec<Node>),
    Table(Table),
}

/// Entries in the order of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
}

/// One line of a table.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) node: Node,
}

/// A name and its place.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) place: Place,
}

impl Node {
    /// The tree of a TOML document.
    pub(super) fn parse(text: &str, file: u32) -> Result<Self, Diagnostic> {
        let table = DeTable::parse(text).map_err(|error| syntax(&error, text, file))?;
        let place = Place::new(file, 0..0);
        Ok(Self { value: Value::Table(Table::read(table.into_inner(), file)?), place })
    }

    /// The tree of one TOML value.
    pub(super) fn parse_value(text: &str, file: u32) -> Result<Self, Diagnostic> {
        let value = DeValue::parse(text).map_err(|error| syntax(&error, text, file))?;
        Self::read(value, file)
    }

    fn read(spanned: toml::Spanned<DeValue<'_>>, file: u32) -> Result<Self, Diagnostic> {
        let place = Place::new(file, spanned.span());
        let value = match spanned.into_inner() {
            DeValue::Boolean(value) => Value::Boolean(value),
            DeValue::Integer(integer) => {
                let read = i128::from_str_radix(integer.as_str(), integer.radix());
                Value::Integer(
                    read.map_err(|_| {
                        Diagnostic::new(format!("the number {integer} is too large")).at(place)
                    })?,
                )
            }
            DeValue::Float(float) => match float.as_str().parse::<f64>() {
                Ok(value) if value.is_finite() => Value::Float(value),
                _ => {
                    let error = Diagnostic::new(format!("`{float}` is not a finite number")).at(place);
                    return Err(error.hint("limits that do not bind are written \"unlimited\" or left out"));
                }
            },
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Datetime(date) => Value::Text(date.to_string()),
            DeValue::Array(items) => {
                Value::Array(items.into_iter().map(|item| Self::read(item, file)).collect::<Result<_, _>>()?)
            }
            DeValue::Table(table) => Value::Table(Table::read(table, file)?),
        };
        Ok(Self { value, place })
    }

    /// The table inside, if it is one.
    pub(super) fn table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The text inside, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value of `name = ".."` inside a table.
    pub(super) fn name(&self) -> Option<&str> {
        self.table()?.get("name")?.text()
    }

    /// What kind of thing it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Boolean(_) => "a boolean",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::Array(_) => "an array",
            Value::Table(_) => "a table",
        }
    }
}

impl Table {
    fn read(table: DeTable<'_>, file: u32) -> Result<Self, Diagnostic> {
        let mut entries = table
            .into_iter()
            .map(|(key, value)| {
                let place = Place::new(file, key.span());
                let node = Node::read(value, file)?;
                Ok(Entry { key: Key { name: key.into_inner().into_owned(), place }, node })
            })
            .collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(|entry| entry.key.place);
        Ok(Self { entries })
    }

    /// The value of a key.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.entries.iter().find(|entry| entry.key.name == name).map(|entry| &entry.node)
    }

    /// The value of a key, to be changed.
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Node> {
        self.entries.iter_mut().find(|entry| entry.key.name == name).map(|entry| &mut entry.node)
    }

    /// Takes a key out.
    pub(super) fn remove(&mut self, name: &str) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.key.name == name)?;
        Some(self.entries.remove(at))
    }

    /// Sets a key, in its old position if it had one.
    pub(super) fn put(&mut self, key: Key, node: Node) {
        match self.entries.iter_mut().find(|entry| entry.key.name == key.name) {
            Some(entry) => *entry = Entry { key, node },
            None => self.entries.push(Entry { key, node }),
        }
    }
}

/// A syntax error in our words and with our hints.
fn syntax(error: &toml::de::Error, text: &str, file: u32) -> Diagnostic {
    let span = error.span().unwrap_or(0..0);
    let line_start = text.get(..span.start).map_or(0, |before| before.rfind('\n').map_or(0, |at| at + 1));
    let line = text.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
    let diagnostic =
        Diagnostic::new(format!("this is not TOML: {}", error.message())).at(Place::new(file, span));
    let value = line.split_once('=').map(|(_, value)| value.trim_start());
    let bare_quantity = value.is_some_and(|value| {
        value.starts_with(|c: char| c.is_ascii_digit())
            && value.trim_end().ends_with(|c: char| c.is_ascii_alphabetic() || c == '%')
    });
    match value {
        Some(value) if bare_quantity => {
            let value = value.trim_end();
            diagnostic.hint(format!("quantities with a unit are strings: write \"{value}\""))
        }
        _ => diagnostic,
    }
}
