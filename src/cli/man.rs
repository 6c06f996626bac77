//! `simlab man [VERB]`.

use clap::Args;
use clap_mangen::Man;

use super::console::Console;
use super::{Exit, Failure, command};

/// Flags of `man`.
#[derive(Args)]
pub(super) struct Arguments {
    /// The page of one verb instead of the overview
    #[arg(value_name = "VERB")]
    verb: Option<String>,
}

/// Prints the page, e.g. for `simlab man | man -l -`.
pub(super) fn man(arguments: &Arguments, console: &Console) -> Result<Exit, Failure> {
    let mut page = command();
    page.build();
    if let Some(verb) = &arguments.verb {
        let found = page.find_subcommand(verb).cloned();
        page = found.ok_or_else(|| {
            Failure::new(Exit::USAGE, format!("no verb is called `{verb}`; see simlab --help"))
        })?;
        page = page.display_name(format!("simlab-{verb}"));
    }
    let mut text = Vec::new();
    Man::new(page).render(&mut text)?;
    console.print(&String::from_utf8_lossy(&text))?;
    Ok(Exit::OK)
}
