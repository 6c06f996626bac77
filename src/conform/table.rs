//! The table that `simlab conform` prints: one line per algorithm, upstream and way in which the cases were obtained.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Counts, Obtained, Report, Row, Table, queueing};

/// Widest line.
const WIDTH: usize = 120;

/// Heading of what simlab has no algorithm for.
const MISSING: &str = "no such algorithm here yet";

/// What one line counts: family and name of the algorithm, upstream, how obtained.
type Line<'a> = (bool, &'a str, &'a str, String, Obtained);

impl Report {
    /// A table for people: the algorithms by family, the first failures, the reasons of what was left out, then
    /// [`Self::summary`]. No wider than 120 columns, but for messages. Ends with a newline.
    pub fn table(&self) -> String {
        let mut table = if self.rows.is_empty() { String::new() } else { of_vectors(&self.rows) };
        for Table { path, lines } in &self.tables {
            let _ = write!(table, "{}{}\n\n", if table.is_empty() { "" } else { "\n" }, path.display());
            table.push_str(&queueing::table(lines));
        }
        let _ = writeln!(table, "\n{}", self.summary());
        table
    }
}

fn of_vectors(rows: &[Row]) -> String {
    let mut lines: BTreeMap<Line<'_>, Counts> = BTreeMap::new();
    for row in rows {
        let split = row.algorithm.and_then(|algorithm| algorithm.split_once('.'));
        let (family, name) = split.unwrap_or((MISSING, &row.family));
        for (obtained, counts) in &row.counts {
            let line = (split.is_none(), family, name, short(&row.upstream), *obtained);
            *lines.entry(line).or_default() += *counts;
        }
    }
    let widest = |width: fn(&Line<'_>) -> usize| lines.keys().map(width).max().unwrap_or(0);
    // What has no algorithm here may have a longer name, and is cut.
    let name_width = widest(|line| if line.0 { 0 } else { line.2.chars().count() }).max(MISSING.len());
    let numbers = " passed  failed  refused  skipped";
    let obtained_width = "documentation".len();
    let upstream_width = widest(|line| line.3.chars().count())
        .min(WIDTH - 2 - name_width - 2 - 2 - obtained_width - 2 - numbers.len());

    let mut table = String::new();
    let _ = writeln!(
        table,
        "  {:<name_width$}  {:<upstream_width$}  {:<obtained_width$}  {numbers}",
        "algorithm", "upstream", "obtained"
    );
    let mut heading = "";
    for ((_, family, name, upstream, obtained), Counts { passed, failed, refused, skipped }) in &lines {
        if *family != heading {
            heading = family;
            let _ = writeln!(table, "{family}");
        }
        let (name, upstream) = (cut(name, name_width), cut(upstream, upstream_width));
        let obtained = obtained.word();
        let _ = writeln!(
            table,
            "  {name:<name_width$}  {upstream:<upstream_width$}  {obtained:<obtained_width$}  {passed:>7}  {failed:>6}  {refused:>7}  {skipped:>7}"
        );
    }
    table.push('\n');
    for obtained in Obtained::ALL.into_iter().filter(|word| lines.keys().any(|line| line.4 == *word)) {
        let _ = writeln!(table, "{:<obtained_width$}  {}", obtained.word(), obtained.meaning());
    }
    table.push_str(&failures(rows));
    table.push_str(&left_out(rows));
    table
}

fn failures(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let name = row.algorithm.unwrap_or(&row.family);
        for (case, message) in &row.failures {
            let _ = writeln!(text, "\nfailed: {name}, case {case}: {message}");
        }
        let more = row.totals().failed - row.failures.len() as u64;
        if more > 0 {
            let _ = writeln!(text, "        and {more} more in {}", row.path.display());
        }
    }
    text
}

fn left_out(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let name = row.algorithm.unwrap_or(&row.family);
        for (reason, count) in &row.reasons {
            let _ = writeln!(text, "left out: {name} ({}), {count} cases: {reason}", row.family);
        }
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

/// Project and version: the text up to a comma, semicolon, colon or parenthesis; long hashes are cut to eight digits.
pub(super) fn short(text: &str) -> String {
    let mut depth = 0_u32;
    let end = text.char_indices().find(|(at, c)| {
        let rest = &text[*at..];
        match c {
            '(' if *at > 0 && text[..*at].ends_with(' ') => return depth == 0,
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && [", ", "; ", ": "].iter().any(|mark| rest.starts_with(mark))
    });
    let clause = &text[..end.map_or(text.len(), |(at, _)| at)];
    let word = |word: &str| {
        let digits = word.bytes().rev().take_while(u8::is_ascii_hexdigit).count();
        word[..if digits == 40 { word.len() - 32 } else { word.len() }].to_owned()
    };
    clause.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// At most `width` characters: the beginning, and the end, where versions stand.
fn cut(text: &str, width: usize) -> String {
    const END: usize = 9;
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= width {
        return text.to_owned();
    }
    let (first, last) = (&letters[..width - END - 3], &letters[letters.len() - END..]);
    format!("{}...{}", first.iter().collect::<String>(), last.iter().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_and_version_are_what_stands_first() {
        assert_eq!(
            short("sony/gobreaker v2 at fed8e9eb (v2.4.0+1, only CI change), go1.19.8"),
            "sony/gobreaker v2 at fed8e9eb"
        );
        assert_eq!(short("npm cockatiel 3.2.1, node 20.20.2, fake Date"), "npm cockatiel 3.2.1");
        assert_eq!(short("v2.4.0"), "v2.4.0");
        assert_eq!(short("retry min(max, delay*backoff^i)"), "retry min(max, delay*backoff^i)");
        assert_eq!(short("k/a @55c37cd5eb550756c5ccc5a89e9068d77797e575 (2026-08-22), x"), "k/a @55c37cd5");
        assert_eq!(cut("abcdefghijklmnopqrstuvwxyz", 15), "abc...rstuvwxyz");
        assert_eq!(cut("abcdef", 6), "abcdef");
    }
}
