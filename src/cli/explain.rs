//! `simlab explain NAME`: prints what the policy's own file says about it.

use clap::Args;

use super::console::Console;
use super::{Exit, Failure};
use crate::policies::{self, Kind};

/// Flags of `explain`.
#[derive(Args)]
pub(super) struct Arguments {
    /// Name of a policy, with its family or without: `limiter.bulkhead`, `bulkhead`
    #[arg(value_name = "NAME")]
    name: String,
}

/// Prints every policy of that name; several families may have one.
pub(super) fn explain(arguments: &Arguments, console: &Console) -> Result<Exit, Failure> {
    let name = arguments.name.as_str();
    let found: Vec<&Kind> =
        policies::kinds().filter(|kind| kind.name == name || kind.written() == name).collect();
    if found.is_empty() {
        return Err(unknown(name));
    }
    let pages: Vec<String> = found.into_iter().map(|kind| page(kind, console.colour_out)).collect();
    console.print(&pages.join("\n"))?;
    Ok(Exit::OK)
}

/// The module documentation under the name, Markdown headings as plain headings.
fn page(kind: &Kind, colour: bool) -> String {
    let bold = |text: &str| if colour { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() };
    let mut text = format!("{}\n\n", bold(&kind.written()));
    for line in kind.doc().lines() {
        let heading = line.trim_start_matches('#');
        if heading.len() < line.len() {
            text.push_str(&bold(&heading.trim().to_uppercase()));
        } else {
            text.push_str(line);
        }
        text.push('\n');
    }
    text
}

/// Says what was close, or what there is.
fn unknown(name: &str) -> Failure {
    let near =
        |kind: &Kind| strsim::jaro_winkler(name, kind.name).max(strsim::jaro_winkler(name, &kind.written()));
    let mut close: Vec<(&Kind, f64)> =
        policies::kinds().map(|kind| (kind, near(kind))).filter(|(_, score)| *score > 0.75).collect();
    close.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    close.truncate(3);
    let hint = if close.is_empty() {
        "simlab list policies shows all".to_owned()
    } else {
        let names: Vec<String> = close.into_iter().map(|(kind, _)| format!("`{}`", kind.written())).collect();
        format!("did you mean {}?", names.join(" or "))
    };
    Failure::new(Exit::USAGE, format!("no policy is called `{name}`\n\nhint: {hint}"))
}
