//! The command-line program; everything is in [`simlab::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    simlab::cli::main()
}
