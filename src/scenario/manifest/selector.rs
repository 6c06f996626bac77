//! Label selectors.

use std::collections::BTreeMap;

use super::fields::Fields;

/// Which labels a thing must have; an empty one takes everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Labels with exactly these values.
    pub labels: BTreeMap<String, String>,
    /// Further conditions, all of which must hold.
    pub requirements: Vec<Requirement>,
}

/// A condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Name of the label.
    pub key: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what; empty for `Exists` and `DoesNotExist`.
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Its value is one of the values.
    In,
    /// It is absent or its value is none of the values.
    NotIn,
    /// It is there.
    Exists,
    /// It is absent.
    DoesNotExist,
    /// Its value is an integer above the one value (nodes only).
    Gt,
    /// Its value is an integer below the one value (nodes only).
    Lt,
}

impl Selector {
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let labels = fields.map("matchLabels");
        let requirements = fields.list("matchExpressions", |fields| Requirement::read(fields, LABELS));
        Some(Self { labels, requirements: requirements.unwrap_or_default() })
    }

    /// Whether a thing with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.requirements.iter().all(|requirement| requirement.matches(labels))
    }
}

type Operators = &'static [(&'static str, Operator)];

const LABELS: Operators = &[
    ("In", Operator::In),
    ("NotIn", Operator::NotIn),
    ("Exists", Operator::Exists),
    ("DoesNotExist", Operator::DoesNotExist),
];

/// The operators of node affinity.
pub(super) const NODES: Operators = &[
    ("In", Operator::In),
    ("NotIn", Operator::NotIn),
    ("Exists", Operator::Exists),
    ("DoesNotExist", Operator::DoesNotExist),
    ("Gt", Operator::Gt),
    ("Lt", Operator::Lt),
];

impl Requirement {
    pub(super) fn read(fields: &mut Fields<'_>, operators: Operators) -> Option<Self> {
        fields.need(&["key", "operator"]);
        let key = fields.name("key");
        let operator = fields.choice("operator", operators);
        let values = fields.texts("values");
        let (key, operator) = (key?, operator?);
        let complaint = match operator {
            Operator::In | Operator::NotIn if values.is_empty() => "needs at least one value",
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => "takes no values",
            Operator::Gt | Operator::Lt if values.len() != 1 || values[0].parse::<i64>().is_err() => {
                "needs exactly one value, an integer in quotes"
            }
            _ => return Some(Self { key, operator, values }),
        };
        fields.refuse("operator", format!("`{operator:?}` {complaint}"));
        None
    }

    /// Whether a thing with these labels fulfils it.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let compared = |above: fn(&i64, &i64) -> bool| {
            let found = value.and_then(|value| value.parse().ok());
            let bound = self.values.first().and_then(|value| value.parse().ok());
            found.zip(bound).is_some_and(|(found, bound)| above(&found, &bound))
        };
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => compared(i64::gt),
            Operator::Lt => compared(i64::lt),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(operator: Operator, values: &[&str]) -> Requirement {
        Requirement {
            key: "tier".to_owned(),
            operator,
            values: values.iter().map(|&value| value.to_owned()).collect(),
        }
    }

    #[test]
    fn operators_compare_as_documented() {
        let labels = BTreeMap::from([("tier".to_owned(), "7".to_owned())]);
        let none = BTreeMap::new();
        for (operator, values, with, without) in [
            (Operator::In, ["7"].as_slice(), true, false),
            (Operator::NotIn, &["7"], false, true),
            (Operator::Exists, &[], true, false),
            (Operator::DoesNotExist, &[], false, true),
            (Operator::Gt, &["6"], true, false),
            (Operator::Lt, &["6"], false, false),
        ] {
            let requirement = requirement(operator, values);
            assert_eq!(
                (requirement.matches(&labels), requirement.matches(&none)),
                (with, without),
                "{operator:?}"
            );
        }
        assert!(Selector::default().matches(&none));
    }
}
