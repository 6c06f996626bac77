//! The little language of steps: `cpu lognormal(3ms, cv=1) * exp(1)`, `call store.track timeout=300ms`.
//!
//! Only the form is read here; names, laws and times stay text with their columns until `check` resolves them.

use std::ops::Range;

/// A piece of the step and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) text: String,
    pub(super) at: Range<usize>,
}

/// A step as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    /// `cpu LAW [* LAW]`
    Cpu { request: Part, attempt: Option<Part> },
    /// `wait LAW [* LAW]`
    Wait { request: Part, attempt: Option<Part> },
    /// `call SERVICE.ENDPOINT [timeout=..] [probability=..]`
    Call { to: Part, timeout: Option<Part>, probability: Option<Part> },
    /// `choose 70% a.x, 30% b.y [timeout=..]`
    Choose { branches: Vec<(Part, Part)>, timeout: Option<Part> },
    /// `route ATTRIBUTE /search a.x, /buy* b.y, * c.z [timeout=..]`
    Route { attribute: Part, rules: Vec<(Part, Part)>, timeout: Option<Part> },
    /// `parallel [all|any|quorum=N] a.x b.y [times=N] [timeout=..]`
    Parallel { to: Vec<Part>, need: Need, times: Option<Part>, timeout: Option<Part> },
    /// `cache NAME`
    Cache(Part),
    /// `pool NAME`
    Pool(Part),
    /// `publish TOPIC [probability=..]`
    Publish { topic: Part, probability: Option<Part> },
    /// `transaction NAME`
    Transaction(Part),
}

/// How many calls of a `parallel` must succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Need {
    All,
    Any,
    Quorum(Part),
}

/// Why a step could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StepError {
    pub(super) message: String,
    pub(super) at: Range<usize>,
    pub(super) hint: Option<String>,
    /// A word that is not one of these.
    pub(super) unknown: Option<(&'static str, String, &'static [&'static str])>,
}

/// First words of a step.
const KINDS: &[&str] =
    &["cpu", "wait", "call", "choose", "route", "parallel", "cache", "pool", "publish", "transaction"];

/// Reads one step.
pub(super) fn parse(text: &str) -> Result<Form, StepError> {
    let mut words = words(text);
    let Some(kind) = words.next() else {
        return Err(
            wrong("a step is empty", 0..text.len()).hinted("write \"cpu 5ms\" or \"call service.endpoint\"")
        );
    };
    let rest = Part::of(text, kind.at.end..text.len());
    match kind.text.as_str() {
        "cpu" => demand(&kind, &rest).map(|(request, attempt)| Form::Cpu { request, attempt }),
        "wait" => demand(&kind, &rest).map(|(request, attempt)| Form::Wait { request, attempt }),
        "call" => call(&kind, words),
        "choose" => choose(text, &kind, &rest),
        "route" => route(text, &kind, &rest),
        "parallel" => parallel(&kind, words),
        "cache" => only(&kind, words, "write \"cache tracks\"").map(Form::Cache),
        "pool" => only(&kind, words, "write \"pool db\"").map(Form::Pool),
        "publish" => publish(&kind, words),
        "transaction" => only(&kind, words, "write \"transaction checkout\"").map(Form::Transaction),
        _ => Err(unknown("step", &kind, KINDS)),
    }
}

fn demand(kind: &Part, rest: &Part) -> Result<(Part, Option<Part>), StepError> {
    let example = format!("write \"{0} 5ms\" or \"{0} lognormal(3ms, cv=1) * exp(1)\"", kind.text);
    if rest.text.is_empty() {
        return Err(wrong(format!("`{}` needs a time or a law", kind.text), kind.at.clone()).hinted(example));
    }
    let mut factors = split(rest, '*').into_iter();
    let (request, attempt) = (factors.next(), factors.next());
    if let Some(third) = factors.next() {
        return Err(wrong("a step has at most two factors: the request's part and the attempt's", third.at)
            .hinted(example));
    }
    let empty = [&request, &attempt].into_iter().flatten().find(|part| part.text.is_empty()).cloned();
    match (empty, request) {
        (Some(part), _) => Err(wrong("a factor is missing beside `*`", part.at).hinted(example)),
        (None, Some(request)) => Ok((request, attempt)),
        (None, None) => Err(wrong("a law is missing", rest.at.clone()).hinted(example)),
    }
}

fn call(kind: &Part, words: impl Iterator<Item = Part>) -> Result<Form, StepError> {
    let (mut to, mut timeout, mut probability) = (None, None, None);
    for word in words {
        match word.option() {
            Some((name, value)) => match name.text.as_str() {
                "timeout" => set(&mut timeout, &name, value)?,
                "probability" => set(&mut probability, &name, value)?,
                _ => return Err(unknown("option", &name, &["timeout", "probability"])),
            },
            None if to.is_none() => to = Some(word),
            None => {
                let hint = "several calls at once are written \"parallel a.x b.y\"";
                return Err(wrong(
                    format!("`call` goes to one endpoint, and `{}` is too many", word.text),
                    word.at,
                )
                .hinted(hint));
            }
        }
    }
    let to = to.ok_or_else(|| {
        wrong("`call` needs an endpoint", kind.at.clone()).hinted("write \"call service.endpoint\"")
    })?;
    Ok(Form::Call { to, timeout, probability })
}

fn publish(kind: &Part, words: impl Iterator<Item = Part>) -> Result<Form, StepError> {
    let (mut topic, mut probability) = (None, None);
    for word in words {
        match word.option() {
            Some((name, value)) if name.text == "probability" => set(&mut probability, &name, value)?,
            Some((name, _)) => return Err(unknown("option", &name, &["probability"])),
            None if topic.is_none() => topic = Some(word),
            None => {
                let message = format!("`publish` takes one topic, and `{}` is too many", word.text);
                return Err(wrong(message, word.at).hinted("write a step for each topic"));
            }
        }
    }
    let topic = topic.ok_or_else(|| {
        wrong("`publish` needs a topic", kind.at.clone()).hinted("write \"publish payments\"")
    })?;
    Ok(Form::Publish { topic, probability })
}

fn choose(text: &str, kind: &Part, rest: &Part) -> Result<Form, StepError> {
    let example = "write \"choose 70% a.x, 30% b.y\"";
    if rest.text.is_empty() {
        return Err(wrong("`choose` needs shares and endpoints", kind.at.clone()).hinted(example));
    }
    let wrong_branch = |at| wrong("each branch of `choose` is a share and an endpoint", at).hinted(example);
    branches(text, rest, wrong_branch).map(|(branches, timeout)| Form::Choose { branches, timeout })
}

fn route(text: &str, kind: &Part, rest: &Part) -> Result<Form, StepError> {
    let example = "write \"route path /search a.x, /buy* b.y, * c.z\"";
    let Some(attribute) = words(&rest.text).next() else {
        return Err(wrong("`route` needs an attribute and rules", kind.at.clone()).hinted(example));
    };
    let attribute = Part::of(text, shifted(&attribute.at, rest.at.start));
    let rules = Part::of(text, attribute.at.end..rest.at.end);
    if rules.text.is_empty() {
        return Err(wrong("`route` needs rules", attribute.at).hinted(example));
    }
    let wrong_rule = |at| wrong("each rule of `route` is a value and an endpoint", at).hinted(example);
    branches(text, &rules, wrong_rule).map(|(rules, timeout)| Form::Route { attribute, rules, timeout })
}

/// Pairs of words, and an option of all.
type Branches = (Vec<(Part, Part)>, Option<Part>);

/// Pairs of words between commas, and the `timeout` of all.
fn branches(
    text: &str,
    rest: &Part,
    wrong_branch: impl Fn(Range<usize>) -> StepError,
) -> Result<Branches, StepError> {
    let (mut branches, mut timeout) = (Vec::new(), None);
    for branch in split(rest, ',') {
        let mut plain = Vec::new();
        for word in words(&branch.text).map(|word| Part::of(text, shifted(&word.at, branch.at.start))) {
            match word.option() {
                Some((name, value)) if name.text == "timeout" => set(&mut timeout, &name, value)?,
                Some((name, _)) => return Err(unknown("option", &name, &["timeout"])),
                None => plain.push(word),
            }
        }
        match <[Part; 2]>::try_from(plain) {
            Ok([share, to]) => branches.push((share, to)),
            Err(_) => return Err(wrong_branch(branch.at)),
        }
    }
    Ok((branches, timeout))
}

fn parallel(kind: &Part, words: impl Iterator<Item = Part>) -> Result<Form, StepError> {
    let (mut to, mut need, mut times, mut timeout) = (Vec::new(), None, None, None);
    for word in words {
        match (word.option(), word.text.as_str()) {
            (None, "all") => set(&mut need, &word, Need::All)?,
            (None, "any") => set(&mut need, &word, Need::Any)?,
            (None, _) => to.push(word),
            (Some((name, value)), _) => match name.text.as_str() {
                "quorum" => set(&mut need, &name, Need::Quorum(value))?,
                "times" => set(&mut times, &name, value)?,
                "timeout" => set(&mut timeout, &name, value)?,
                _ => return Err(unknown("option", &name, &["quorum", "times", "timeout"])),
            },
        }
    }
    if to.is_empty() {
        return Err(wrong("`parallel` needs endpoints", kind.at.clone()).hinted("write \"parallel a.x b.y\""));
    }
    Ok(Form::Parallel { to, need: need.unwrap_or(Need::All), times, timeout })
}

fn only(kind: &Part, mut words: impl Iterator<Item = Part>, example: &str) -> Result<Part, StepError> {
    let name = words.next();
    match (name, words.next()) {
        (Some(name), None) => Ok(name),
        (None, _) => Err(wrong(format!("`{}` needs a name", kind.text), kind.at.clone()).hinted(example)),
        (_, Some(extra)) => {
            Err(wrong(format!("`{}` is too many: `{}` takes one name", extra.text, kind.text), extra.at)
                .hinted(example))
        }
    }
}

fn set<T>(slot: &mut Option<T>, name: &Part, value: T) -> Result<(), StepError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(wrong(format!("`{}` says again what was said before", name.text), name.at.clone())),
    }
}

impl Part {
    /// The trimmed piece `at` of `text`.
    fn of(text: &str, at: Range<usize>) -> Self {
        let piece = &text[at.clone()];
        let start = at.start + (piece.len() - piece.trim_start().len());
        let trimmed = piece.trim();
        Self { text: trimmed.to_owned(), at: start..start + trimmed.len() }
    }

    /// `name=value` as its two halves.
    fn option(&self) -> Option<(Self, Self)> {
        let equals = self.text.find('=')?;
        let half = |range: Range<usize>| Self {
            text: self.text[range.clone()].to_owned(),
            at: shifted(&range, self.at.start),
        };
        Some((half(0..equals), half(equals + 1..self.text.len())))
    }
}

fn shifted(range: &Range<usize>, by: usize) -> Range<usize> {
    range.start + by..range.end + by
}

/// Words between blanks.
fn words(text: &str) -> impl Iterator<Item = Part> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].find(|c: char| !c.is_whitespace())?;
        let end = text[start..].find(char::is_whitespace).map_or(text.len(), |len| start + len);
        at = end;
        Some(Part { text: text[start..end].to_owned(), at: start..end })
    })
}

/// Pieces between `sign`, not looking into parentheses.
fn split(part: &Part, sign: char) -> Vec<Part> {
    let (mut pieces, mut start, mut depth) = (Vec::new(), 0, 0_i32);
    for (at, c) in part.text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if c == sign && depth <= 0 => {
                pieces.push(start..at);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    pieces.push(start..part.text.len());
    let placed = |range| {
        let piece = Part::of(&part.text, range);
        Part { at: shifted(&piece.at, part.at.start), ..piece }
    };
    pieces.into_iter().map(placed).collect()
}

fn wrong(message: impl Into<String>, at: Range<usize>) -> StepError {
    StepError { message: message.into(), at, hint: None, unknown: None }
}

fn unknown(what: &'static str, found: &Part, known: &'static [&'static str]) -> StepError {
    StepError { unknown: Some((what, found.text.clone(), known)), ..wrong("", found.at.clone()) }
}

impl StepError {
    fn hinted(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts at the columns that were recorded; they must be the texts that were read.
    fn parts(text: &str) -> String {
        let show = |part: &Part| {
            assert_eq!(part.text, text[part.at.clone()], "{text}");
            part.text.clone()
        };
        let maybe = |part: &Option<Part>| part.as_ref().map_or_else(|| "-".to_owned(), show);
        match parse(text) {
            Ok(Form::Cpu { request, attempt }) => format!("cpu|{}|{}", show(&request), maybe(&attempt)),
            Ok(Form::Wait { request, attempt }) => format!("wait|{}|{}", show(&request), maybe(&attempt)),
            Ok(Form::Call { to, timeout, probability }) => {
                format!("call|{}|{}|{}", show(&to), maybe(&timeout), maybe(&probability))
            }
            Ok(Form::Choose { branches, timeout }) => {
                let branches: Vec<String> =
                    branches.iter().map(|(share, to)| format!("{} {}", show(share), show(to))).collect();
                format!("choose|{}|{}", branches.join("|"), maybe(&timeout))
            }
            Ok(Form::Route { attribute, rules, timeout }) => {
                let rules: Vec<String> =
                    rules.iter().map(|(value, to)| format!("{} {}", show(value), show(to))).collect();
                format!("route|{}|{}|{}", show(&attribute), rules.join("|"), maybe(&timeout))
            }
            Ok(Form::Parallel { to, need, times, timeout }) => {
                let to: Vec<String> = to.iter().map(show).collect();
                format!("parallel|{}|{need:?}|{}|{}", to.join(" "), maybe(&times), maybe(&timeout))
                    .replace("Part ", "")
            }
            Ok(Form::Cache(name)) => format!("cache|{}", show(&name)),
            Ok(Form::Pool(name)) => format!("pool|{}", show(&name)),
            Ok(Form::Publish { topic, probability }) => {
                format!("publish|{}|{}", show(&topic), maybe(&probability))
            }
            Ok(Form::Transaction(name)) => format!("transaction|{}", show(&name)),
            Err(error) => format!("error at {:?}: {}", &text[error.at.clone()], error.message),
        }
    }

    #[test]
    fn reads_every_form() {
        assert_eq!(parts("cpu lognormal(3ms, cv=1) * exp(1)"), "cpu|lognormal(3ms, cv=1)|exp(1)");
        assert_eq!(parts("  wait  exp(2ms) "), "wait|exp(2ms)|-");
        assert_eq!(parts("call store.track timeout=300ms"), "call|store.track|300ms|-");
        assert_eq!(parts("call c.log probability=10%"), "call|c.log|-|10%");
        assert_eq!(parts("choose 70% a.visit, 30% b.visit"), "choose|70% a.visit|30% b.visit|-");
        assert_eq!(parts("choose 5% a.x timeout=1s"), "choose|5% a.x|1s");
        assert_eq!(
            parts("route path /search a.x, /buy* b.y, * c.z timeout=1s"),
            "route|path|/search a.x|/buy* b.y|* c.z|1s"
        );
        assert_eq!(parts("parallel any a.x b.y"), "parallel|a.x b.y|Any|-|-");
        assert_eq!(parts("parallel leaf.get times=100 timeout=1s"), "parallel|leaf.get|All|100|1s");
        assert_eq!(parts("cache tracks"), "cache|tracks");
        assert_eq!(parts("pool db"), "pool|db");
        assert_eq!(parts("publish payments probability=20%"), "publish|payments|20%");
        assert_eq!(parts("transaction checkout"), "transaction|checkout");
    }

    #[test]
    fn points_at_what_is_wrong() {
        assert_eq!(parts(""), "error at \"\": a step is empty");
        assert_eq!(parts("cpu"), "error at \"cpu\": `cpu` needs a time or a law");
        assert_eq!(parts("cpu 1ms *"), "error at \"\": a factor is missing beside `*`");
        assert_eq!(
            parts("call a.x b.y"),
            "error at \"b.y\": `call` goes to one endpoint, and `b.y` is too many"
        );
        assert_eq!(parts("call timeout=3s"), "error at \"call\": `call` needs an endpoint");
        assert_eq!(
            parts("choose 70%"),
            "error at \"70%\": each branch of `choose` is a share and an endpoint"
        );
        assert_eq!(parts("route"), "error at \"route\": `route` needs an attribute and rules");
        assert_eq!(parts("route path"), "error at \"path\": `route` needs rules");
        assert_eq!(
            parts("route path /a a.x, b.y"),
            "error at \"b.y\": each rule of `route` is a value and an endpoint"
        );
        assert_eq!(parts("cache a b"), "error at \"b\": `b` is too many: `cache` takes one name");
        assert_eq!(
            parts("call a.x timeout=1s timeout=2s"),
            "error at \"timeout\": `timeout` says again what was said before"
        );
        assert_eq!(parse("cqu 3ms").unwrap_err().unknown.unwrap().1, "cqu");
    }
}
