//! How a command ends.

use std::fmt;
use std::io;

use crate::output::wrapped;
use crate::signals::{self, Signal};
use crate::told;

/// Why a command did not end well: what to say, and what to exit with.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It could not be connected or listened on, or what was asked for failed.
    Failed(String),
    /// It failed, and has said so already.
    Told,
    /// The command line, or a URI in it, can't be used.
    Usage(String),
    /// It was connected, and broke in the middle.
    Broken(String),
    /// A server answered that it did not work, and that was to count.
    #[cfg(feature = "web")]
    Status(String),
    /// Whoever read the standard output stopped reading.
    OutputClosed,
    /// A signal ended it.
    Signal(Signal),
    /// A signal ended it while something was being connected.
    Interrupted(Signal, String),
}

impl Failure {
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Failed(_) | Self::Told => 1,
            Self::Usage(_) => 2,
            Self::Broken(_) => 3,
            #[cfg(feature = "web")]
            Self::Status(_) => 22,
            Self::OutputClosed => 141,
            Self::Signal(Signal::HangUp) | Self::Interrupted(Signal::HangUp, _) => 129,
            Self::Signal(Signal::Interrupt) | Self::Interrupted(Signal::Interrupt, _) => 130,
            Self::Signal(Signal::Terminate) | Self::Interrupted(Signal::Terminate, _) => 143,
        }
    }

    /// What to say about it, if anything.
    pub(crate) fn message(&self) -> Option<&str> {
        match self {
            Self::Failed(message)
            | Self::Usage(message)
            | Self::Broken(message)
            | Self::Interrupted(_, message) => Some(message),
            #[cfg(feature = "web")]
            Self::Status(message) => Some(message),
            Self::Told | Self::OutputClosed | Self::Signal(_) => None,
        }
    }

    /// It could not write to standard output.
    pub(crate) fn of_output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Failed(format!("can't write to standard output: {error}")),
        }
    }
}

impl From<tuyau::Error> for Failure {
    fn from(error: tuyau::Error) -> Self {
        match error {
            tuyau::Error::Uri(_) => Self::Usage(error.to_string()),
            tuyau::Error::Connect(error) if signals::has_come() => {
                Self::Failed(wrapped(&told::report(error.report()), &io::stderr()))
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<tuyau::UriError> for Failure {
    fn from(error: tuyau::UriError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<tuyau::core::Error> for Failure {
    fn from(error: tuyau::core::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// An error and its causes, outermost first.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        let mut said = last.clone();
        f.write_str(&last)?;
        let mut cause = self.0.source();
        // What could not be resolved says all of its causes.
        let mut said_all = self.0.is::<tuyau::core::Error>();
        while let Some(error) = cause.filter(|_| !said_all) {
            said_all = error.is::<tuyau::core::Error>();
            let text = error.to_string();
            // `connection reset by peer: Connection reset by peer (os error 104)` says nothing more.
            if !text.to_lowercase().starts_with(&last.to_lowercase()) && !said.contains(&text) {
                write!(f, ": {text}")?;
                said.push_str(&text);
            }
            last = text;
            cause = error.source();
        }
        Ok(())
    }
}

/// An error in one line.
pub(crate) fn in_a_line(error: &(dyn std::error::Error + 'static)) -> String {
    joined(&Chain(error).to_string())
}

/// The lines of `text` in one.
pub(crate) fn joined(text: &str) -> String {
    text.split('\n').map(str::trim).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[derive(Debug)]
    struct Says(&'static str, Option<Box<Says>>);

    impl fmt::Display for Says {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Says {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|it| it as _)
        }
    }

    #[test]
    fn a_cause_is_told_once() {
        let cause = |text| Box::new(Says("listen on [::1]:1", Some(Box::new(Says(text, None)))));
        let said = Says("can't listen: listen on [::1]:1: in use\n  choose another", Some(cause("in use")));
        assert_eq!(in_a_line(&said), "can't listen: listen on [::1]:1: in use; choose another");
        let unsaid = Says("can't listen", Some(cause("in use")));
        assert_eq!(in_a_line(&unsaid), "can't listen: listen on [::1]:1: in use");
        let same = Says("connection reset", Some(Box::new(Says("Connection reset by peer", None))));
        assert_eq!(in_a_line(&same), "connection reset");
    }
}
