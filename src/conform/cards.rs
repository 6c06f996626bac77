//! Fidelity cards: for each registered algorithm what it follows, how it was checked, and where it differs on purpose.
//! `docs/FIDELITY.md` is this text.

use std::fmt::Write as _;
use std::path::Path;

use super::table::short;
use super::{Obtained, Report, Row};
use crate::policies::{FAMILIES, Kind};

/// Widest line.
const WIDTH: usize = 118;

impl Report {
    /// Markdown: an overview, then one card for each registered algorithm, with the counts of this replay.
    pub fn cards(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for obtained in Obtained::ALL {
            let _ = writeln!(text, "* **{}**: {}.", obtained.word(), obtained.meaning());
        }
        let _ = writeln!(text, "\nAll recorded cases: {}.", self.summary());
        for family in FAMILIES {
            let Some(first) = family.first() else { continue };
            let _ = writeln!(text, "\n## {}\n", first.family);
            for kind in *family {
                text.push_str(&self.line(kind));
            }
            for kind in *family {
                text.push_str(&self.card(kind));
            }
        }
        text
    }

    /// The files that check an algorithm.
    fn files(&self, kind: &Kind) -> impl Iterator<Item = &Row> {
        let written = kind.written();
        self.rows.iter().filter(move |row| row.algorithm == Some(&written))
    }

    /// One line of the overview of a family.
    fn line(&self, kind: &Kind) -> String {
        let mut found: Vec<String> = Vec::new();
        for obtained in Obtained::ALL {
            let counts = self.files(kind).filter_map(|row| row.counts.get(&obtained)).copied();
            let passed = counts.map(|counts| counts.passed).sum::<u64>();
            if passed > 0 {
                found.push(format!("{passed} {}", obtained.word()));
            }
        }
        let checked = if found.is_empty() { "no recorded cases".to_owned() } else { found.join(", ") };
        format!("* `{}`: {checked}\n", kind.name)
    }

    fn card(&self, kind: &Kind) -> String {
        let mut text = format!("\n### {}\n\n{}", kind.written(), wrapped(&kind.summary(), ""));
        let _ = write!(text, "\n**Origin**\n\n{}", reflowed(&kind.section("Origin")));
        let files: Vec<String> = self.files(kind).map(|row| self.evidence(row)).collect();
        let checked = if files.is_empty() { NO_CASES.to_owned() } else { files.join("\n") };
        let _ = write!(text, "\n**Checked**\n\n{}", reflowed(&checked));
        let differences = reflowed(&kind.section("Deliberate differences"));
        let _ = write!(text, "\n**Deliberate differences**\n\n{differences}");
        text
    }

    /// What one file of cases shows.
    fn evidence(&self, row: &Row) -> String {
        let file =
            row.path.strip_prefix(&self.path).ok().filter(|rest| *rest != Path::new("")).unwrap_or(&row.path);
        let file = file.to_string_lossy().replace('\\', "/");
        let mut counts: Vec<String> = Vec::new();
        for (obtained, found) in &row.counts {
            let of = found.passed + found.failed + found.refused + found.skipped;
            let mut words = format!("{} of {of} cases agree ({})", found.passed, obtained.word());
            let others = [(found.failed, "failed"), (found.refused, "refused"), (found.skipped, "skipped")];
            for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
                let _ = write!(words, ", {count} {what}");
            }
            counts.push(words);
        }
        let mut words = format!("* `{file}`, {}: {}.", short(&row.upstream), counts.join("; "));
        for (reason, count) in &row.reasons {
            let _ = write!(words, " Left out: {count}, {reason}.");
        }
        words
    }
}

/// A text of paragraphs and items (`* `) in lines of at most [`WIDTH`] characters.
fn reflowed(text: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut begins = true;
    for line in text.lines() {
        if begins || line.starts_with("* ") {
            parts.push(String::new());
        }
        begins = line.is_empty();
        if let Some(part) = parts.last_mut() {
            part.push_str(line);
            part.push(' ');
        }
    }
    let indent = |part: &str| if part.starts_with("* ") { "  " } else { "" };
    parts.iter().map(|part| wrapped(part, indent(part))).collect()
}

/// The words in lines of at most [`WIDTH`] characters, all but the first behind `indent`; with a newline at the end.
fn wrapped(text: &str, indent: &str) -> String {
    let (mut lines, mut line) = (String::new(), String::new());
    for word in text.split_whitespace() {
        let length = line.chars().count() + 1 + word.chars().count();
        if !line.trim().is_empty() && length > WIDTH {
            let _ = writeln!(lines, "{line}");
            line = format!("{indent}{word}");
        } else {
            let gap = if line.is_empty() { "" } else { " " };
            let _ = write!(line, "{gap}{word}");
        }
    }
    format!("{lines}{line}\n")
}

const NO_CASES: &str = "No recorded cases; held to the contracts of its family and to its own tests.";

const HEAD: &str = "\
# Fidelity

One card for each algorithm: what it follows, how that was checked, and where it differs on purpose. The program writes
the cards itself, from the documentation in the policies' own files and from a replay of the recorded cases:

    cargo run --release -- conform tests/vectors --markdown > docs/FIDELITY.md

A test fails while this page is not what that command writes. A case agrees if every output recorded in it is met: whole
numbers exactly, floating point to about the digits that were written down. How cases were obtained:
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_between_words() {
        let text = wrapped(&"word ".repeat(50), "  ");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(reflowed("* one\n  two\n* three"), "* one two\n* three\n");
        assert!(
            lines.iter().all(|line| line.len() <= WIDTH) && lines[1].starts_with("  word word"),
            "{text}"
        );
    }
}
