//! What goes wrong on a connected flow.

use alloc::boxed::Box;
use core::error::Error;
use core::fmt;

/// An error on a flow. Keeps its kind and its source; converts to `std::io::Error` and back
/// without loss (feature `std`).
pub struct FlowError {
    kind: FlowErrorKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What kind of error, grouped by who can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FlowErrorKind {
    /// The peer reset the connection: it died, or it threw away what it had not read.
    Reset,
    /// The peer, or this side, no longer takes bytes in this direction.
    BrokenPipe,
    /// The flow ended where the protocol or layer says that it must not: truncated, not closed.
    UnexpectedEof,
    /// Written to after [`shutdown`](crate::Flow::shutdown): the caller's mistake.
    WriteAfterShutdown,
    /// The transport gave up waiting.
    TimedOut,
    /// The network gave the connection up.
    Aborted,
    /// The peer sent what the layer can't accept.
    InvalidData,
    /// The flow can't do this.
    Unsupported,
    /// The environment refused.
    PermissionDenied,
    /// Anything else; see the source.
    Other,
}

impl FlowError {
    /// An error without a source.
    pub const fn new(kind: FlowErrorKind) -> Self {
        Self { kind, source: None }
    }

    /// An error that `source` caused.
    pub fn with_source(kind: FlowErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, source: Some(source.into()) }
    }

    /// What kind of error it is.
    pub const fn kind(&self) -> FlowErrorKind {
        self.kind
    }
}

impl fmt::Debug for FlowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What `fn main() -> Result<…>` prints of it: with the causes.
        crate::connect::write_chain(self, f)
    }
}

impl fmt::Display for FlowErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reset => "connection reset by peer",
            Self::BrokenPipe => "broken pipe: the other side no longer reads",
            Self::UnexpectedEof => "the flow ended unexpectedly",
            Self::WriteAfterShutdown => "written to after its write side was shut down",
            Self::TimedOut => "timed out",
            Self::Aborted => "connection aborted",
            Self::InvalidData => "the peer sent invalid data",
            Self::Unsupported => "not supported by this flow",
            Self::PermissionDenied => "permission denied",
            Self::Other => "flow failed",
        })
    }
}

impl fmt::Display for FlowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl Error for FlowError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<FlowErrorKind> for FlowError {
    fn from(kind: FlowErrorKind) -> Self {
        Self::new(kind)
    }
}

#[cfg(feature = "std")]
mod io {
    use super::{FlowError, FlowErrorKind};

    use std::io;

    impl From<io::Error> for FlowError {
        fn from(error: io::Error) -> Self {
            let kind = match error.kind() {
                io::ErrorKind::ConnectionReset => FlowErrorKind::Reset,
                io::ErrorKind::BrokenPipe => FlowErrorKind::BrokenPipe,
                io::ErrorKind::UnexpectedEof => FlowErrorKind::UnexpectedEof,
                io::ErrorKind::TimedOut => FlowErrorKind::TimedOut,
                io::ErrorKind::ConnectionAborted => FlowErrorKind::Aborted,
                io::ErrorKind::InvalidData => FlowErrorKind::InvalidData,
                io::ErrorKind::Unsupported => FlowErrorKind::Unsupported,
                io::ErrorKind::PermissionDenied => FlowErrorKind::PermissionDenied,
                _ => FlowErrorKind::Other,
            };
            // A flow error that went through io::Error comes back as it was.
            match error.downcast::<FlowError>() {
                Ok(flow) => flow,
                Err(error) => Self::with_source(kind, error),
            }
        }
    }

    impl From<FlowError> for io::Error {
        fn from(error: FlowError) -> Self {
            let kind = match error.kind {
                FlowErrorKind::Reset => io::ErrorKind::ConnectionReset,
                FlowErrorKind::BrokenPipe | FlowErrorKind::WriteAfterShutdown => io::ErrorKind::BrokenPipe,
                FlowErrorKind::UnexpectedEof => io::ErrorKind::UnexpectedEof,
                FlowErrorKind::TimedOut => io::ErrorKind::TimedOut,
                FlowErrorKind::Aborted => io::ErrorKind::ConnectionAborted,
                FlowErrorKind::InvalidData => io::ErrorKind::InvalidData,
                FlowErrorKind::Unsupported => io::ErrorKind::Unsupported,
                FlowErrorKind::PermissionDenied => io::ErrorKind::PermissionDenied,
                FlowErrorKind::Other => io::ErrorKind::Other,
            };
            match error {
                FlowError { kind: whole, source: Some(source) } => match source.downcast::<io::Error>() {
                    // The kind was read off the source, so the source says it all (its errno too).
                    Ok(source) if source.kind() == kind || whole == FlowErrorKind::Other => *source,
                    Ok(source) => io::Error::new(kind, FlowError { kind: whole, source: Some(source) }),
                    Err(source) => io::Error::new(kind, FlowError { kind: whole, source: Some(source) }),
                },
                bare @ FlowError { source: None, .. } => io::Error::new(kind, bare),
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn an_io_error_survives_both_ways_with_its_errno() {
            let there = FlowError::from(io::Error::from_raw_os_error(104));
            assert_eq!(there.kind(), FlowErrorKind::Reset);
            assert_eq!(io::Error::from(there).raw_os_error(), Some(104));
        }

        #[test]
        fn a_flow_error_survives_both_ways_with_its_kind() {
            let there = io::Error::from(FlowError::new(FlowErrorKind::WriteAfterShutdown));
            assert_eq!(there.kind(), io::ErrorKind::BrokenPipe);
            assert_eq!(FlowError::from(there).kind(), FlowErrorKind::WriteAfterShutdown);
        }
    }
}
