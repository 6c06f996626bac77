//! From the tree to typed values by serde, with every error at the deepest key or value it is about.
//!
//! Three things go beyond an ordinary format, each recognised by a name that cannot occur in a file:
//! [`Spanned`] receives its place, [`Policy`] reads `"none"`, and a struct field whose name begins with `$` receives all
//! keys that the struct does not know, so that `node-loss = { .. }` can stand beside `at = ".."`.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};

use super::error::{Diagnostic, Place, enumerated, shortened};
use super::tree::{Entry, Node, Table, Value};

/// Reads a `T` out of the tree.
pub(super) fn read<T: for<'de> Deserialize<'de>>(node: &Node) -> Result<T, Diagnostic> {
    T::deserialize(Reader::new(node)).map_err(Fault::into_diagnostic)
}

/// A value that knows where it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spanned<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// A policy of one family: not mentioned, removed by `"none"`, or set.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Policy<T> {
    #[default]
    Inherited,
    Removed,
    Set(T),
}

/// A table from names to values, in file order.
#[derive(Clone, Debug)]
pub(super) struct Named<T>(pub(super) Vec<(Spanned<String>, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

const SPANNED: &str = "$spanned";
const SPANNED_FIELDS: &[&str] = &["$file", "$start", "$end", "$value"];
const POLICY: &str = "$policy";
const CHOICE: char = '$';

/// The deserializer: one node.
#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    /// The key it stands under, which names the family in messages.
    key: Option<&'a str>,
    /// Keys that the surrounding struct takes itself, when this is a choice among the rest.
    beside: &'static [&'static str],
}

impl<'a> Reader<'a> {
    fn new(node: &'a Node) -> Self {
        Self { node, key: None, beside: &[] }
    }

    fn under(node: &'a Node, key: &'a str) -> Self {
        Self { node, key: Some(key), beside: &[] }
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let read = match &self.node.value {
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Integer(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => visitor.visit_u64(value),
                (_, Ok(value)) => visitor.visit_i64(value),
                _ => Err(Fault::custom(format!("the number {value} is too large"))),
            },
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_str(text),
            Value::Array(items) => visitor.visit_seq(Items { items: items.iter() }),
            Value::Table(table) => visitor.visit_map(Entries::of(table)),
        };
        read.map_err(|fault| fault.at(self.node.place))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if name == POLICY && self.node.text() == Some("none") {
            return visitor.visit_none();
        }
        visitor.visit_newtype_struct(self).map_err(|fault| fault.at(self.node.place))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if name == SPANNED {
            return visitor.visit_map(Placed { reader: self, next: 0 });
        }
        let choice = fields.iter().find(|field| field.starts_with(CHOICE));
        let (Some(choice), Value::Table(table)) = (choice, &self.node.value) else {
            return self.deserialize_any(visitor);
        };
        let (own, rest): (Vec<&Entry>, Vec<&Entry>) =
            table.entries.iter().partition(|entry| fields.contains(&entry.key.name.as_str()));
        let rest = Table { entries: rest.into_iter().cloned().collect() };
        let rest = Node { value: Value::Table(rest), place: self.node.place };
        let entries = Entries { own: own.into_iter(), choice: Some((choice, &rest, fields)), next: None };
        visitor.visit_map(entries).map_err(|fault| fault.at(self.node.place))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Table(table) => match table.entries.first() {
                None => visitor.visit_unit(),
                Some(entry) => Err(Fault::unknown_field(&entry.key.name, &[]).at(entry.key.place)),
            },
            _ => Err(Fault::custom("nothing can be set here: write {}").at(self.node.place)),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let family = self.key.map(|key| key.trim_start_matches(CHOICE));
        let place = self.node.place;
        let named = |fault: Fault| fault.in_family(family).at(place);
        match &self.node.value {
            // `balancer = "p2c"` is short for `balancer.p2c = {}`.
            Value::Text(text) => {
                let empty = Node { value: Value::Table(Table::default()), place };
                visitor.visit_enum(Variant { name: text, place, node: &empty }).map_err(named)
            }
            Value::Table(table) => match table.entries.as_slice() {
                [entry] if self.beside.is_empty() || variants.contains(&entry.key.name.as_str()) => visitor
                    .visit_enum(Variant { name: &entry.key.name, place: entry.key.place, node: &entry.node })
                    .map_err(named),
                entries => Err(wrong_choice(entries, variants, self.beside, family).at(place)),
            },
            _ => {
                let what = family.unwrap_or("value");
                let fault =
                    Fault::custom(format!("expected the name of one {what}, found {}", self.node.kind()));
                Err(Fault { known: variants, ..fault }.at(place))
            }
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf seq tuple tuple_struct map
        identifier ignored_any
    }
}

/// A choice that is not exactly one of the variants: none, several, or a key that is neither variant nor neighbour.
fn wrong_choice(
    entries: &[Entry],
    variants: &'static [&'static str],
    beside: &'static [&'static str],
    family: Option<&str>,
) -> Fault {
    let family = family.unwrap_or("value");
    if let Some(stranger) = entries.iter().find(|entry| !variants.contains(&entry.key.name.as_str())) {
        let what = if beside.is_empty() { family } else { "key" };
        let beside = beside.iter().filter(|name| !name.starts_with(CHOICE));
        let known: Vec<&str> = beside.chain(variants).copied().collect();
        let unknown = Diagnostic::unknown(what, &stranger.key.name, known);
        return Fault { ready: Some(unknown), ..Fault::custom("") }.at(stranger.key.place);
    }
    match entries {
        [first, second, ..] => Fault::custom(format!(
            "only one {family} can stand here, and there are `{}` and `{}`",
            first.key.name, second.key.name
        ))
        .at(second.key.place),
        _ => Fault { known: variants, ..Fault::custom(format!("no {family} is named here")) },
    }
}

/// Elements of an array.
struct Items<'a> {
    items: std::slice::Iter<'a, Node>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(node) = self.items.next() else { return Ok(None) };
        seed.deserialize(Reader::new(node)).map(Some).map_err(|fault| fault.at(node.place))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// Entries of a table, and after them what was left for the choice.
struct Entries<'a> {
    own: std::vec::IntoIter<&'a Entry>,
    choice: Option<(&'static str, &'a Node, &'static [&'static str])>,
    next: Option<Reader<'a>>,
}

impl<'a> Entries<'a> {
    fn of(table: &'a Table) -> Self {
        Self { own: table.entries.iter().collect::<Vec<_>>().into_iter(), choice: None, next: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        if let Some(entry) = self.own.next() {
            self.next = Some(Reader::under(&entry.node, &entry.key.name));
            let name = Node { value: Value::Text(entry.key.name.clone()), place: entry.key.place };
            return seed.deserialize(Reader::new(&name)).map(Some).map_err(|fault| fault.at(entry.key.place));
        }
        let Some((name, node, beside)) = self.choice.take() else { return Ok(None) };
        self.next = Some(Reader { node, key: Some(name), beside });
        seed.deserialize(name.into_deserializer()).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let reader = self.next.take().expect("serde asks for a value after its key");
        seed.deserialize(reader).map_err(|fault| fault.at(reader.node.place))
    }
}

/// What [`Spanned`] asks for.
struct Placed<'a> {
    reader: Reader<'a>,
    next: usize,
}

impl<'de> MapAccess<'de> for Placed<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        match SPANNED_FIELDS.get(self.next) {
            Some(field) => seed.deserialize((*field).into_deserializer()).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let place = self.reader.node.place;
        self.next += 1;
        match self.next {
            1 => seed.deserialize(place.file.into_deserializer()),
            2 => seed.deserialize(place.start.into_deserializer()),
            3 => seed.deserialize(place.end.into_deserializer()),
            _ => seed.deserialize(self.reader).map_err(|fault| fault.at(place)),
        }
    }
}

/// The chosen variant of an enum and its settings.
struct Variant<'a> {
    name: &'a str,
    place: Place,
    node: &'a Node,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Fault;
    type Variant = Reader<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Reader<'a>), Fault> {
        let name: de::value::StrDeserializer<'_, Fault> = self.name.into_deserializer();
        let value = seed.deserialize(name).map_err(|fault| fault.at(self.place))?;
        Ok((value, Reader::under(self.node, self.name)))
    }
}

impl<'de> VariantAccess<'de> for Reader<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        self.deserialize_unit(de::IgnoredAny).map(|_| ())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self).map_err(|fault| fault.at(self.node.place))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_struct("", fields, visitor)
    }
}

/// Why a node is not what the type wants.
#[derive(Debug)]
struct Fault {
    message: String,
    hint: Option<String>,
    /// Names that would have been right.
    known: &'static [&'static str],
    /// A name that is not among them.
    found: Option<String>,
    /// What kind of thing the name is for: `key`, or the family.
    what: Option<String>,
    ready: Option<Diagnostic>,
    place: Option<Place>,
}

impl Fault {
    fn custom(message: impl fmt::Display) -> Self {
        let text = message.to_string();
        let (message, hint) = match text.split_once("\nhint: ") {
            Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
            None => (text, None),
        };
        Self { message, hint, known: &[], found: None, what: None, ready: None, place: None }
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self { known, found: Some(field.to_owned()), what: Some("key".to_owned()), ..Self::custom("") }
    }

    /// The place, unless a deeper one is known already.
    fn at(mut self, place: Place) -> Self {
        self.place.get_or_insert(place);
        self
    }

    fn in_family(mut self, family: Option<&str>) -> Self {
        if self.found.is_some() && self.what.is_none() {
            self.what = Some(family.unwrap_or("value").to_owned());
        }
        self
    }

    fn into_diagnostic(self) -> Diagnostic {
        let diagnostic = match (self.ready, self.found) {
            (Some(ready), _) => ready,
            (None, Some(found)) => {
                let known = self.known.iter().copied().filter(|name| !name.starts_with(CHOICE));
                Diagnostic::unknown(self.what.as_deref().unwrap_or("value"), &found, known)
            }
            (None, None) => {
                let plain = Diagnostic::new(self.message);
                if self.known.is_empty() { plain } else { plain.note(enumerated(self.known)) }
            }
        };
        let diagnostic = match self.hint {
            Some(hint) => diagnostic.hint(hint),
            None => diagnostic,
        };
        match self.place {
            Some(place) => diagnostic.at(place),
            None => diagnostic,
        }
    }
}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::custom(message)
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let fault = Self::custom(format!("expected {}, found {}", wanted(expected), seen(found)));
        let quoted_number = matches!(found, Unexpected::Str(text) if text.parse::<f64>().is_ok());
        match found {
            Unexpected::Str(text) if quoted_number && wanted(expected).contains("number") => {
                Self { hint: Some(format!("write {text} without quotes")), ..fault }
            }
            _ => fault,
        }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(len: usize, expected: &dyn de::Expected) -> Self {
        Self::custom(format!("expected {}, found {len} of them", wanted(expected)))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self { known: expected, found: Some(variant.to_owned()), ..Self::custom("") }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::unknown_field(field, expected)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format!("`{field}` is missing here"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::custom(format!("`{field}` is given twice"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl de::StdError for Fault {}

/// What serde calls by the names of Rust types, in words.
fn wanted(expected: &dyn de::Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "u8" => "a whole number from 0 to 255".to_owned(),
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" => "a whole number from 0 to 4294967295".to_owned(),
        "u64" | "usize" => "a whole number, zero or more".to_owned(),
        "i32" | "i64" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "a sequence" => "an array".to_owned(),
        "a map" => "a table".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        _ => text,
    }
}

fn seen(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("`{value}`"),
        Unexpected::Signed(value) => format!("`{value}`"),
        Unexpected::Float(value) => format!("`{value}`"),
        Unexpected::Str(text) => format!("the string \"{}\"", shortened(text)),
        Unexpected::Seq => "an array".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Spanned<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with its place")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Spanned<T>, A::Error> {
                let mut numbers = [0_u32; 3];
                for number in &mut numbers {
                    map.next_key::<String>()?;
                    *number = map.next_value()?;
                }
                map.next_key::<String>()?;
                let [file, start, end] = numbers;
                Ok(Spanned { value: map.next_value()?, place: Place { file, start, end } })
            }
        }

        deserializer.deserialize_struct(SPANNED, SPANNED_FIELDS, Fields(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Policy<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Settings<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Settings<T> {
            type Value = Policy<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a policy or \"none\"")
            }

            fn visit_none<E>(self) -> Result<Policy<T>, E> {
                Ok(Policy::Removed)
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<Policy<T>, D::Error> {
                T::deserialize(deserializer).map(Policy::Set)
            }
        }

        deserializer.deserialize_newtype_struct(POLICY, Settings(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Pairs<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(name) = map.next_key()? {
                    pairs.push((name, map.next_value()?));
                }
                Ok(Named(pairs))
            }
        }

        deserializer.deserialize_map(Pairs(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for Policy<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Policy_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let settings = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [settings, { "type": "string", "description": "\"none\", or the name of a policy with its defaults" }] })
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Named_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({ "type": "object", "additionalProperties": value })
    }
}
