//! The one macro of the project: a family's registry.
//!
//! From one line per algorithm it derives the settings enum as written in a scenario (`limiter.bulkhead = { .. }`, so an
//! error points at the exact word), the names for `simlab list` and for error text, `build(now)`, and the by-value
//! runtime enum with one cold `Custom` variant for foreign policies. `mod` lines stay outside: rustfmt skips modules
//! that a macro declares.
//!
//! `macro_rules!` cannot repeat over algorithms and methods at once, so each invocation also leaves a local `dispatch!`
//! behind, which the hand-written `impl Trait for Any..` below it uses once per method.

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

    /// The first sentence of the module doc.
    pub fn summary(&self) -> String {
        let doc = self.doc();
        let paragraph: String = doc.lines().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        paragraph.split_once(". ").map_or_else(|| paragraph.clone(), |(first, _)| format!("{first}."))
    }
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
