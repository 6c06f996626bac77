//! What requests carry, and who looks at it: attributes of sources, `affinity` of edges, `route` steps.

use super::Check;
use super::calls::Line;
use crate::scenario::de::Spanned;
use crate::scenario::error::Diagnostic;
use crate::scenario::model::{Attribute, Call, Carried, Step};
use crate::scenario::schema::SourceTable;
use crate::scenario::step::Part;
use crate::units::{UnitError, parse_number, parse_share};

/// Most values of a numbered attribute: where each was served last is kept in a table.
const MOST_VALUES: f64 = 1e7;

/// An attribute as one source writes it.
enum Written {
    /// `uniform(N)`, `zipf(N, EXPONENT)`
    Number { count: u64, zipf: f64 },
    /// `70% /search, 30% /buy`
    Named(Vec<(f64, String)>),
    /// `user`
    User,
}

impl Check<'_> {
    /// All attributes that some source gives its requests, with their named values.
    pub(super) fn attributes(&mut self, sources: &[SourceTable]) -> Vec<Attribute> {
        let mut found: Vec<Attribute> = Vec::new();
        for (name, text) in sources.iter().flat_map(|source| &source.attributes.0) {
            self.well_formed("attribute", name, false);
            let at = found.iter().position(|known| known.name == name.value).unwrap_or_else(|| {
                found.push(Attribute { name: name.value.clone(), values: Vec::new() });
                found.len() - 1
            });
            // Whatever cannot be read is reported with its source.
            if let Ok(Written::Named(shares)) = parse(&text.value) {
                for (_, value) in shares {
                    if !found[at].values.contains(&value) {
                        found[at].values.push(value);
                    }
                }
            }
        }
        found
    }

    /// What the requests of one source carry.
    pub(super) fn carried(&mut self, table: &SourceTable, has_users: bool) -> Vec<(usize, Carried)> {
        let mut carried = Vec::new();
        for (name, text) in &table.attributes.0 {
            let Some(at) = self.names.attributes.iter().position(|known| known.name == name.value) else {
                continue;
            };
            match parse(&text.value) {
                Ok(written) => {
                    if let Some(how) = self.carried_as(at, written, text, has_users) {
                        carried.push((at, how));
                    }
                }
                Err(error) => self.whole_string(error, text.place),
            }
        }
        carried
    }

    fn carried_as(
        &mut self,
        at: usize,
        written: Written,
        text: &Spanned<String>,
        has_users: bool,
    ) -> Option<Carried> {
        let Attribute { name, values } = &self.names.attributes[at];
        match written {
            Written::Named(shares) => {
                let place = |(share, value): &(f64, String)| {
                    (*share, values.iter().position(|known| known == value).unwrap_or(0))
                };
                return Some(Carried::Named(shares.iter().map(place).collect()));
            }
            _ if !values.is_empty() => {
                let message = format!("`{name}` has named values in another source, and numbers here");
                self.wrong(message, text.place);
            }
            Written::Number { count, zipf } => return Some(Carried::Number { count, zipf }),
            Written::User if has_users => return Some(Carried::User),
            Written::User => {
                let error = Diagnostic::new("only a closed loop has users").at(text.place);
                let hint =
                    "a population of an open loop is written \"zipf(10_000, 0.9)\" or \"uniform(10_000)\"";
                self.errors.push(error.hint(hint));
            }
        }
        None
    }

    /// `affinity = "session"`
    pub(super) fn affinity(&mut self, name: &Spanned<String>) -> Option<usize> {
        let known: Vec<String> =
            self.names.attributes.iter().map(|attribute| attribute.name.clone()).collect();
        if known.is_empty() {
            let error = Diagnostic::new(format!("no request has the attribute `{}`", name.value));
            let hint = format!(
                "a source gives its requests attributes: attributes.{} = \"zipf(10_000, 0.9)\"",
                name.value
            );
            self.errors.push(error.at(name.place).hint(hint));
            return None;
        }
        self.lookup("attribute", &name.value, name.place, &known)
    }

    /// `route path /search a.x, /buy* b.y, * c.z`: a call for each named value, the first rule that fits.
    pub(super) fn route(
        &mut self,
        attribute: &Part,
        rules: &[Part],
        calls: Vec<Call>,
        line: Line<'_>,
    ) -> Option<Step> {
        let known: Vec<String> = self.names.attributes.iter().map(|known| known.name.clone()).collect();
        let place = |check: &Self, part: &Part| check.files.inside(line.place, line.text, part.at.clone());
        let at = self.lookup("attribute", &attribute.text, place(self, attribute), &known)?;
        let values = self.names.attributes[at].values.clone();
        if values.is_empty() {
            let error =
                Diagnostic::new(format!("the values of `{}` are numbers without names", attribute.text));
            let hint = "`route` looks at named values, as in attributes.path = \"70% /search, 30% /buy\"";
            self.errors.push(error.at(place(self, attribute)).hint(hint));
            return None;
        }
        let otherwise = rules.len() - 1;
        if rules[otherwise].text != "*" {
            let error = Diagnostic::new("requests that no rule fits have nowhere to go");
            let hint = "end with a rule for everything else: \"* service.endpoint\"";
            self.errors.push(error.at(place(self, &rules[otherwise])).hint(hint));
        }
        let fits = |rule: &Part, value: &String| match rule.text.strip_suffix('*') {
            Some(prefix) => value.starts_with(prefix),
            None => *value == rule.text,
        };
        for rule in &rules[..otherwise] {
            if !values.iter().any(|value| fits(rule, value)) {
                let names: Vec<&str> = values.iter().map(String::as_str).collect();
                let error = Diagnostic::unknown(&format!("value of `{}`", attribute.text), &rule.text, names);
                self.errors.push(error.at(place(self, rule)));
            }
        }
        let first = |value: &String| rules.iter().position(|rule| fits(rule, value)).unwrap_or(otherwise);
        Some(Step::Route { attribute: at, calls, to: values.iter().map(first).collect(), otherwise })
    }
}

fn parse(text: &str) -> Result<Written, UnitError> {
    let text = text.trim();
    if text == "user" {
        return Ok(Written::User);
    }
    if let Some((law, arguments)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let arguments: Vec<&str> = arguments.split(',').map(str::trim).collect();
        let (count, zipf) = match (law.trim(), arguments.as_slice()) {
            ("uniform", [count]) => (parse_number(count)?, 0.0),
            ("zipf", [count, exponent]) => (parse_number(count)?, parse_number(exponent)?),
            _ => return Err(unreadable(text)),
        };
        if !(1.0..=MOST_VALUES).contains(&count) || count.fract() != 0.0 {
            return Err(UnitError::new(format!("an attribute has 1 to {MOST_VALUES} values, not {count}")));
        }
        if !(0.0..=100.0).contains(&zipf) {
            return Err(UnitError::new(format!("the exponent of a popularity is 0 to 100, not {zipf}")));
        }
        return Ok(Written::Number { count: count as u64, zipf });
    }
    let mut shares: Vec<(f64, String)> = Vec::new();
    for piece in text.split(',') {
        let [share, value] = piece.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(unreadable(text));
        };
        if shares.iter().any(|(_, known)| known == value) {
            return Err(UnitError::new(format!("`{value}` has two shares")));
        }
        shares.push((parse_share(share)?, value.to_owned()));
    }
    let sum: f64 = shares.iter().map(|(share, _)| share).sum();
    if sum > 1.0 + 1e-9 {
        return Err(UnitError::new(format!("the shares sum to {}%", (sum * 1e6).round() / 1e4)));
    }
    Ok(Written::Named(shares))
}

fn unreadable(text: &str) -> UnitError {
    UnitError::new(format!(
        "`{}` says nothing about the values of an attribute",
        crate::units::shortened(text)
    ))
    .hint("write \"zipf(10_000, 0.9)\", \"uniform(10_000)\", \"user\" or \"70% /search, 30% /buy\"")
}
