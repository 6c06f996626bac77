//! The command line: one file per verb. Only here does simlab print, exit or read a real clock.
//!
//! Data goes to stdout; progress, timings, warnings and errors go to stderr, so that stdout is the same bytes for the
//! same scenario and seed. A reader that closes the pipe early is no error.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | all well |
//! | 1 | internal or I/O error, or a failed conformance case |
//! | 2 | wrong flags |
//! | 3 | something is wrong with an input file, missing included |
//! | 99 | a threshold failed |
//! | 130 | interrupted; what was finished is kept and marked partial |

mod backtest;
mod calibrate;
mod check;
mod completions;
mod conform;
mod console;
mod explain;
mod import;
mod list;
mod man;
mod progress;
mod run;
mod schema;
mod store;
mod why;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use console::{Colour, Console};

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors and go to stdout; a closed pipe is no reason to complain.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::USAGE.0));
        }
    };
    let console = Console::new(cli.color);
    // A panic is a bug in simlab; the hook has already said where. It must not look like an exit code of its own.
    let done =
        panic::catch_unwind(AssertUnwindSafe(|| perform(cli.command, &console))).unwrap_or_else(|_| {
            Err(Failure::new(Exit::INTERNAL, "this is a bug in simlab; nothing was written"))
        });
    let exit = done.unwrap_or_else(|failure| {
        console.complain(&failure.message);
        failure.exit
    });
    ExitCode::from(exit.0)
}

fn perform(verb: Verb, console: &Console) -> Result<Exit, Failure> {
    match verb {
        Verb::Run(arguments) => run::run(&arguments, console),
        Verb::Check(arguments) => check::check(&arguments, console),
        Verb::List(arguments) => list::list(&arguments, console),
        Verb::Explain(arguments) => explain::explain(&arguments, console),
        Verb::Schema => schema::schema(console),
        Verb::Conform(arguments) => conform::conform(&arguments, console),
        Verb::Import(arguments) => import::import(&arguments, console),
        Verb::Backtest(arguments) => backtest::backtest(&arguments, console),
        Verb::Calibrate(arguments) => calibrate::calibrate(&arguments, console),
        Verb::Why(arguments) => why::why(&arguments, console),
        Verb::Completions(arguments) => completions::completions(&arguments, console),
        Verb::Man(arguments) => man::man(&arguments, console),
    }
}

/// The test bench for the policies you actually run
///
/// A deterministic simulator of services, hardware, failures and floods that drives the real autoscaling, breaker,
/// limiter, retry, balancing and rollout algorithms, and says which policy keeps latency and availability, at what cost,
/// and how sure that is.
#[derive(Parser)]
#[command(name = "simlab", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
struct Cli {
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = Colour::Auto, help = COLOUR_HELP)]
    color: Colour,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a scenario: all strategies, all replications, then tables, charts and a verdict
    Run(run::Arguments),
    /// Check scenarios without running them
    Check(check::Arguments),
    /// List policies, laws, arrivals, faults and the scenarios at hand
    List(list::Arguments),
    /// Explain a policy: what it does, when it helps, how it fails, its settings and its origin
    Explain(explain::Arguments),
    /// Print the JSON Schema of scenario files
    Schema,
    /// Replay recorded cases of the original implementations through simlab's policies
    Conform(conform::Arguments),
    /// Write a scenario that runs from Kubernetes manifests
    Import(import::Arguments),
    /// Replay a recorded load against autoscalers, from manifests as they are in production
    Backtest(Box<backtest::Arguments>),
    /// Fit service laws and capacity to load, latency and CPU from production, and say how well they fit
    Calibrate(calibrate::Arguments),
    /// Say in plain words what an autoscaler decided at a moment of an earlier run, and why
    Why(why::Arguments),
    /// Print a completion script for a shell
    Completions(completions::Arguments),
    /// Print the manual page (troff)
    Man(man::Arguments),
}

const COLOUR_HELP: &str = "When to use colour; auto honours NO_COLOR and CLICOLOR_FORCE";

const EXIT_CODES: &str = "\
Exit codes:
  0    ok
  1    internal or I/O error, or a failed conformance case
  2    wrong flags
  3    something is wrong with an input file, missing included
  99   a threshold failed
  130  interrupted; what was finished is kept and marked partial";

/// What the process ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exit(u8);

impl Exit {
    const OK: Self = Self(0);
    const INTERNAL: Self = Self(1);
    const USAGE: Self = Self(2);
    const INPUT: Self = Self(3);
    const THRESHOLD: Self = Self(99);
    const INTERRUPTED: Self = Self(130);
}

/// Why a verb stopped, as it is shown.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    /// Whole text, already rendered.
    message: String,
}

impl Failure {
    /// `error: message`.
    fn new(exit: Exit, message: impl std::fmt::Display) -> Self {
        Self { exit, message: format!("error: {message}") }
    }

    /// Something is wrong with an input file; the text is already rendered with its place and hint.
    const fn input(rendered: String) -> Self {
        Self { exit: Exit::INPUT, message: rendered }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::INTERNAL, format!("cannot write to standard output: {error}"))
    }
}

/// The command as clap knows it, for completions and the manual.
fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    #[test]
    fn flags_are_consistent() {
        super::command().debug_assert();
    }
}
