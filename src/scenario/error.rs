//! What is said when a scenario is refused: the place, the names that would have been known, and a hint.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// Bytes of one of the files that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Position in the list of files; the scenario itself is the first.
    pub file: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Place {
    /// Bytes `range` of file number `file`. Scenario files are far smaller than 4 GiB.
    pub(super) fn new(file: u32, range: Range<usize>) -> Self {
        Self { file, start: range.start as u32, end: range.end as u32 }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// One sentence without a final period.
    pub message: String,
    /// Where; `None` if no file could be read.
    pub place: Option<Place>,
    /// Facts that help to understand it: known names, limits.
    pub notes: Vec<String>,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error without a place.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, notes: Vec::new(), hint: None }
    }

    /// At a place.
    pub(super) fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// With advice.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With a fact.
    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// `found` is no known `what` (service, limiter, key ...); names what is known and guesses what was meant.
    pub(super) fn unknown<'a>(what: &str, found: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let error = Self::new(format!("unknown {what} `{}`", shortened(found)));
        if known.is_empty() {
            error.note(format!("there is no {what} here"))
        } else {
            error.among(found, known)
        }
    }

    /// `found` is none of the `known` names.
    pub(super) fn among<'a>(self, found: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let error = if known.is_empty() { self } else { self.note(enumerated(&known)) };
        match nearest(found, &known) {
            Some(name) => error.hint(format!("did you mean `{name}`?")),
            None => error,
        }
    }
}

/// The known name that `found` was probably meant to be.
pub(super) fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let folded = |name: &str| name.to_lowercase().replace('_', "-");
    let found = folded(found);
    known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&found, &folded(name)), *name))
        .filter(|(distance, name)| {
            let length = name.len().max(found.len());
            *distance * 3 <= length || *distance <= 1 && length > 1
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Names in a row, broken into lines; a long list is cut.
pub(super) fn enumerated(names: &[&str]) -> String {
    const SHOWN: usize = 40;
    const WIDTH: usize = 100;
    let mut text = "known:".to_owned();
    let mut width = text.len();
    for (at, name) in names.iter().take(SHOWN).enumerate() {
        let comma = if at + 1 < names.len() { "," } else { "" };
        let word = format!("`{}`{comma}", shortened(name));
        let space = if width + word.len() < WIDTH { " " } else { "\n" };
        width = if space == " " { width + 1 + word.len() } else { word.len() };
        text.push_str(space);
        text.push_str(&word);
    }
    let rest = names.len().saturating_sub(SHOWN);
    if rest > 0 {
        text.push_str(" and ");
        text.push_str(&rest.to_string());
        text.push_str(" more");
    }
    text
}

pub(super) use crate::units::shortened;

/// A file that was read, for pointing into it.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Path as it was written, or `<stdin>`, or the text of a command-line option.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Why a scenario was refused. [`ScenarioError::render`] says it to a person.
#[derive(Clone, Debug)]
pub struct ScenarioError {
    diagnostics: Vec<Diagnostic>,
    files: Vec<SourceFile>,
}

impl ScenarioError {
    /// In the order of the files; the same thing is said once, and no more than ten things are.
    pub(super) fn new(mut diagnostics: Vec<Diagnostic>, files: Vec<SourceFile>) -> Self {
        const MOST: usize = 10;
        diagnostics.sort_by_key(|error| error.place);
        diagnostics.dedup();
        diagnostics.truncate(MOST);
        Self { diagnostics, files }
    }

    /// What is wrong, in file order; never empty.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Each error with its file, line, column, source line and hint; with terminal colours if asked for.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let texts: Vec<String> = self.diagnostics.iter().map(|error| self.one(error, &renderer)).collect();
        texts.join("\n\n")
    }

    fn one(&self, error: &Diagnostic, renderer: &Renderer) -> String {
        let title = Level::ERROR.primary_title(&error.message);
        let file = error.place.and_then(|place| Some((place, self.files.get(place.file as usize)?)));
        let mut group = match file {
            Some((place, file)) => {
                let span = clamped(place, &file.text);
                let annotation = AnnotationKind::Primary.span(span);
                title.element(Snippet::source(&file.text).path(&file.name).annotation(annotation))
            }
            None => Group::with_title(title),
        };
        for note in &error.notes {
            group = group.element(Level::NOTE.message(note));
        }
        if let Some(hint) = &error.hint {
            group = group.element(Level::HELP.with_name("hint").message(hint));
        }
        renderer.render(&[group])
    }
}

/// The bytes of `place` inside `text`, on character boundaries and on one line, so that a caret always fits.
fn clamped(place: Place, text: &str) -> Range<usize> {
    let boundary =
        |at: usize| (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let start = boundary(place.start as usize);
    let end = boundary(place.end as usize).max(start);
    let line_end = text[start..end].find('\n').map_or(end, |at| start + at);
    start..line_end.max(start)
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for ScenarioError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_only_what_is_near() {
        let known = ["aimd", "bulkhead", "seed-token-bucket"];
        assert_eq!(nearest("amid", &known), Some("aimd"));
        assert_eq!(nearest("seed_token_bucket", &known), Some("seed-token-bucket"));
        assert_eq!(nearest("vegas", &known), None);
    }

    #[test]
    fn a_place_outside_the_text_still_renders() {
        let file = SourceFile { name: "x.toml".to_owned(), text: "é".to_owned() };
        let error = Diagnostic::new("odd").at(Place { file: 0, start: 1, end: 99 });
        let rendered = ScenarioError::new(vec![error], vec![file]).render(false);
        assert!(rendered.contains("x.toml:1"), "{rendered}");
    }
}
