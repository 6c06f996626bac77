//! The one macro of the project: a family's registry.
//!
//! From one line per algorithm it derives the settings enum as written in a scenario (`limiter.bulkhead = { .. }`, so an
//! error points at the exact word), the names for `simlab list` and for error text, `build(now)`, and the by-value
//! runtime enum with one cold `Custom` variant for foreign policies. `mod` lines stay outside: rustfmt skips modules
//! that a macro declares.
//!
//! `macro_rules!` cannot repeat over algorithms and methods at once, so each invocation also leaves a local `dispatch!`
//! behind, which the hand-written `impl Trait for Any..` below it uses once per method.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::time::Time;

/// Ties an algorithm to its settings.
pub trait Algorithm: Sized {
    /// Settings as written in a scenario, with the upstream's names and defaults.
    type Settings;

    /// A fresh policy at `now`.
    fn new(settings: &Self::Settings, now: Time) -> Self;
}

/// One registered algorithm, for `simlab list` and `simlab explain`.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Family, as it is written in a scenario (`limiter`).
    pub family: &'static str,
    /// Name, as it is written in a scenario (`bulkhead`).
    pub name: &'static str,
    /// Source text of its file; the module doc at its top is what `simlab explain` prints.
    pub source: &'static str,
}

impl Kind {
    /// The module doc: fixed headings, Markdown.
    pub fn doc(&self) -> String {
        let lines = self.source.lines().take_while(|line| line.starts_with("//!"));
        lines
            .map(|line| line.trim_start_matches("//!").strip_prefix(' ').unwrap_or("").to_owned() + "\n")
            .collect()
    }

    /// What the module doc says under a heading, without blank lines around it; empty if there is no such heading.
    pub fn section(&self, heading: &str) -> String {
        let doc = self.doc();
        let is_heading = |line: &&str| line.starts_with('#');
        let begins = |line: &&str| is_heading(line) && line.trim_start_matches('#').trim() == heading;
        let lines = doc.lines().skip_while(|line| !begins(line)).skip(1);
        let lines: Vec<&str> = lines.take_while(|line| !is_heading(line)).collect();
        lines.join("\n").trim_matches('\n').to_owned()
    }

    /// As in a scenario: `limiter.bulkhead`.
    pub fn written(&self) -> String {
        format!("{}.{}", self.family, self.name)
    }

    /// The first sentence of the module doc.
    pub fn summary(&self) -> String {
        let doc = self.doc();
        let paragraph: String = doc.lines().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        paragraph.split_once(". ").map_or_else(|| paragraph.clone(), |(first, _)| format!("{first}."))
    }
}

/// The fewest settings with which the algorithm called `name` can be built, as in a scenario and read: what is missing gets the
/// first of `values` that it takes. For who runs every algorithm without knowing any.
pub fn least<S: DeserializeOwned>(name: &str, values: &[Value]) -> Option<(Value, S)> {
    let mut given = Map::new();
    let settings = complete(name, &mut given, values)?;
    Some((Value::Object(given), settings))
}

fn complete<S: DeserializeOwned>(name: &str, given: &mut Map<String, Value>, values: &[Value]) -> Option<S> {
    let error = match serde_json::from_value(json!({ name: given })) {
        Ok(settings) => return Some(settings),
        Err(error) => error.to_string(),
    };
    let missing = error.split_once("missing field `")?.1.split_once('`')?.0;
    if given.contains_key(missing) {
        return None;
    }
    for value in values {
        given.insert(missing.to_owned(), value.clone());
        if let Some(settings) = complete(name, given, values) {
            return Some(settings);
        }
    }
    given.remove(missing);
    None
}

/// See the module documentation.
macro_rules! registry {
    (
        ($d:tt)
        $(#[$settings_doc:meta])* $Settings:ident,
        $(#[$any_doc:meta])* $Any:ident : $Trait:ident,
        family $family:literal in $folder:literal,
        $( $name:literal => $module:ident :: $Type:ident ),+ $(,)?
    ) => {
        $(#[$settings_doc])*
        #[derive(Clone, Debug, PartialEq, serde::Deserialize, schemars::JsonSchema)]
        pub enum $Settings {
            $( #[doc = concat!("Settings of `", $name, "`.")]
               #[serde(rename = $name)]
               $Type(<$module::$Type as $crate::policies::Algorithm>::Settings), )+
        }

        impl $Settings {
            /// All registered algorithms, in registry order.
            pub const KINDS: &'static [$crate::policies::Kind] = &[
                $( $crate::policies::Kind {
                    family: $family,
                    name: $name,
                    source: include_str!(concat!($folder, "/", stringify!($module), ".rs")),
                }, )+
            ];

            /// A fresh policy at `now`.
            pub fn build(&self, now: $crate::time::Time) -> $Any {
                match self {
                    $( Self::$Type(settings) => {
                        $Any::$Type(<$module::$Type as $crate::policies::Algorithm>::new(settings, now))
                    } )+
                }
            }

            /// The name as it is written in a scenario.
            pub const fn name(&self) -> &'static str {
                match self { $( Self::$Type(_) => $name, )+ }
            }
        }

        $(#[$any_doc])*
        pub enum $Any {
            $( #[doc = concat!("See [`", stringify!($module), "`].")] $Type($module::$Type), )+
            /// A policy from outside the registry, injected by the lab.
            Custom(Box<dyn $Trait + Send>),
        }

        /// Calls the same method on whichever algorithm is inside.
        macro_rules! dispatch {
            ($d any:expr, $d policy:ident => $d call:expr) => {
                match $d any { $( $Any::$Type($d policy) => $d call, )+ $Any::Custom($d policy) => $d call }
            };
        }
    };
}
