//! `simlab import PATH`: a scenario skeleton from Kubernetes manifests.

use std::path::PathBuf;

use clap::Args;

use super::console::Console;
use super::{Exit, Failure};
use crate::scenario::import::skeleton;

/// Flags of `import`.
#[derive(Args)]
pub(super) struct Arguments {
    /// Manifest, or folder of manifests (*.yaml, *.yml, *.json)
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

/// Prints the skeleton.
pub(super) fn import(arguments: &Arguments, console: &Console) -> Result<Exit, Failure> {
    let text = skeleton(&arguments.path).map_err(|error| Failure::input(error.render(console.colour_err)))?;
    console.print(&text)?;
    Ok(Exit::OK)
}
