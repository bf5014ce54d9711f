//! Standard output and standard error, with colours where they are wanted.

use std::fmt;
use std::io::{self, IsTerminal, Stderr, Stdout, Write};
use std::os::fd::AsFd;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use tuyau::Report;

use crate::cli::Color;
use crate::exit::Failure;
use crate::told::told;

pub(crate) const GOOD: Style = AnsiColor::Green.on_default().bold();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const HEAD: Style = Style::new().bold();

/// Where a command writes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    choice: ColorChoice,
}

impl Output {
    pub(crate) fn new(color: Color) -> Self {
        let choice = match color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        };
        Self { choice }
    }

    fn stdout(self) -> AutoStream<Stdout> {
        AutoStream::new(io::stdout(), self.choice)
    }

    fn stderr(self) -> AutoStream<Stderr> {
        AutoStream::new(io::stderr(), self.choice)
    }

    /// Prints `text` to standard output.
    pub(crate) fn print(self, text: impl fmt::Display) -> Result<(), Failure> {
        let mut stdout = self.stdout();
        write!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(|error| Failure::of_output(&error))
    }

    /// Prints a line to standard output.
    pub(crate) fn line(self, text: impl fmt::Display) -> Result<(), Failure> {
        self.print(format_args!("{text}\n"))
    }

    /// Writes bytes to standard output, as they are.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| Failure::of_output(&error))
    }

    /// Tells the user something, on standard error. Who does not listen there is not told.
    pub(crate) fn tell(self, text: impl fmt::Display) {
        let _ = writeln!(self.stderr(), "{text}");
    }

    /// Tells the user that something went wrong.
    pub(crate) fn error(self, text: impl fmt::Display) {
        self.tell(format_args!("{BAD}error:{BAD:#} {}", told(text.to_string())));
    }

    /// Whether what is logged may have colours.
    pub(crate) fn colours_stderr(self) -> bool {
        let choice = AutoStream::choice(&io::stderr());
        match self.choice {
            ColorChoice::Always | ColorChoice::AlwaysAnsi => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => choice != ColorChoice::Never,
        }
    }

    /// Whether something may be drawn that moves.
    pub(crate) fn is_live(self) -> bool {
        io::stdout().is_terminal() && io::stderr().is_terminal()
    }
}

/// `report` as text for `stream`: a terminal has it wrapped at its width.
pub(crate) fn wrapped(report: &Report, stream: &(impl IsTerminal + AsFd)) -> String {
    let width = columns(stream);
    format!("{report:width$}").trim_end().to_owned()
}

/// How wide `stream` is; 0 if it is no terminal.
pub(crate) fn columns(stream: &(impl IsTerminal + AsFd)) -> usize {
    match stream.is_terminal() {
        true => rustix::termios::tcgetwinsize(stream).map_or(0, |size| size.ws_col.into()),
        false => 0,
    }
}

/// Text that may come from a peer, without what a terminal would act on.
pub(crate) struct Visible<'a>(pub(crate) &'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        self.0.chars().try_for_each(|c| {
            let reorders = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if c.is_control() || reorders { write!(f, "{}", c.escape_unicode()) } else { f.write_char(c) }
        })
    }
}

/// A time for people: `12.3 µs`, `4.56 ms`, `1.23 s`.
pub(crate) struct Took(pub(crate) std::time::Duration);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        let (value, unit) = match seconds {
            ..1e-3 => (seconds * 1e6, "µs"),
            ..1.0 => (seconds * 1e3, "ms"),
            _ => (seconds, "s"),
        };
        let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
        f.pad(&format!("{value:.digits$} {unit}"))
    }
}

/// So many of something: `1 line`, `2 lines`.
pub(crate) struct Count(pub(crate) u64, pub(crate) &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}
