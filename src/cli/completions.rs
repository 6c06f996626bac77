//! `simlab completions SHELL`.

use clap::Args;
use clap_complete::Shell;

use super::console::Console;
use super::{Exit, Failure, command};

/// Flags of `completions`.
#[derive(Args)]
pub(super) struct Arguments {
    /// Shell to write for
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub(super) fn completions(arguments: &Arguments, console: &Console) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command(), "simlab", &mut script);
    console.print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::OK)
}
