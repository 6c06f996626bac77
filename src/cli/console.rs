//! The two output streams and whether they are coloured.

use std::env;
use std::io::{self, ErrorKind, IsTerminal, Write};

use clap::ValueEnum;

/// `--color`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Colour {
    /// On a terminal, unless the environment says otherwise
    Auto,
    /// Even into files and pipes
    Always,
    /// Plain text
    Never,
}

/// Where text goes.
pub(super) struct Console {
    /// Whether stdout is coloured.
    pub colour_out: bool,
    /// Whether stderr is coloured.
    pub colour_err: bool,
}

impl Console {
    pub(super) fn new(colour: Colour) -> Self {
        Self {
            colour_out: colour.wanted(io::stdout().is_terminal()),
            colour_err: colour.wanted(io::stderr().is_terminal()),
        }
    }

    /// Data for stdout. A reader that has gone away (`simlab run .. | head`) is no error.
    #[expect(clippy::unused_self, reason = "output goes through the console, so that it is easy to find")]
    pub(super) fn print(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            done => done,
        }
    }

    /// A line for stderr: timings and hints. If nobody listens there, nothing can be done about it.
    #[expect(clippy::unused_self, reason = "output goes through the console, so that it is easy to find")]
    pub(super) fn note(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{}", text.trim_end());
    }

    /// `warning: ...` on stderr.
    pub(super) fn warn(&self, text: &str) {
        self.note(&format!("{} {text}", self.painted("33;1", "warning:")));
    }

    /// An error on stderr; a plain `error:` at its start is painted.
    pub(super) fn complain(&self, message: &str) {
        match message.strip_prefix("error:") {
            Some(rest) => self.note(&format!("{}{rest}", self.painted("31;1", "error:"))),
            None => self.note(message),
        }
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.colour_err { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

impl Colour {
    fn wanted(self, terminal: bool) -> bool {
        let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if set("NO_COLOR") => false,
            Self::Auto
                if env::var_os("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0") =>
            {
                true
            }
            Self::Auto => terminal && env::var_os("TERM").is_none_or(|term| term != "dumb"),
        }
    }
}
