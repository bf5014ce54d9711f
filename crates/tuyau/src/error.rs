//! What goes wrong from a URI to a flow or listener.

use std::error::Error as StdError;
use std::fmt;

use tuyau_core::ConnectError;

use crate::UriError;

/// Why there is no flow or no listener. `Display` is for people, and may have several lines; so is `Debug`,
/// which `fn main() -> Result<…>` prints.
#[non_exhaustive]
pub enum Error {
    /// The URI can't be used.
    Uri(UriError),
    /// Nothing could be connected: every candidate, and why. `{:#}` lists all.
    Connect(Box<tuyau_core::Error>),
    /// It could not be listened on.
    Listen(ListenError),
}

/// Why a URI could not be listened on. `Debug` is `Display`, as of [`Error`].
pub struct ListenError {
    uri: String,
    source: ConnectError,
}

impl ListenError {
    pub(crate) fn new(uri: &crate::Uri, source: ConnectError) -> Self {
        Self { uri: uri.to_string(), source }
    }

    /// What it failed at, of what kind it is, and what to do about it.
    pub fn cause(&self) -> &ConnectError {
        &self.source
    }
}

/// With its causes and what to do about it.
impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't listen on {}: {}", self.uri, self.source)?;
        let mut cause = self.source.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        match self.source.hint() {
            Some(hint) => write!(f, "\n  {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StdError for ListenError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.source)
    }
}

/// That of what it is.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(error) => error.fmt(f),
            Self::Connect(error) => error.fmt(f),
            Self::Listen(error) => error.fmt(f),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The source of what it is.
impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Uri(error) => error.source(),
            Self::Connect(error) => error.source(),
            Self::Listen(error) => error.source(),
        }
    }
}

impl From<UriError> for Error {
    fn from(error: UriError) -> Self {
        Self::Uri(error)
    }
}

impl From<tuyau_core::Error> for Error {
    fn from(error: tuyau_core::Error) -> Self {
        Self::Connect(Box::new(error))
    }
}

impl From<ListenError> for Error {
    fn from(error: ListenError) -> Self {
        Self::Listen(error)
    }
}
