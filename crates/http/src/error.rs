//! What goes wrong on a connection that is served, and in bodies.

use std::error::Error as StdError;
use std::fmt;

/// An error of any kind.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Which of the [`Limits`](crate::Limits) was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// [`connections_per_address`](crate::Limits::connections_per_address).
    ConnectionsPerAddress,
    /// [`first_byte`](crate::Limits::first_byte).
    FirstByte,
    /// [`header_time`](crate::Limits::header_time).
    HeaderTime,
    /// [`write_idle`](crate::Limits::write_idle).
    WriteIdle,
    /// [`half_closed`](crate::Limits::half_closed).
    HalfClosed,
    /// [`h2_preface`](crate::Limits::h2_preface).
    H2Preface,
    /// [`h2_resets`](crate::Limits::h2_resets).
    H2Resets,
    /// [`h2_control_frames`](crate::Limits::h2_control_frames).
    H2ControlFrames,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConnectionsPerAddress => "too many connections from its address",
            Self::FirstByte => "it sent nothing",
            Self::HeaderTime => "the head of its request took too long",
            Self::WriteIdle => "it does not read what it is sent",
            Self::HalfClosed => "it ended its side, and its response took too long",
            Self::H2Preface => "its preface of HTTP/2 took too long",
            Self::H2Resets => "it resets too many requests",
            Self::H2ControlFrames => "it sends too many frames that carry nothing",
        })
    }
}

/// Why a connection ended other than by the rules of HTTP.
#[derive(Debug)]
pub struct ServeError {
    kind: ServeErrorKind,
    source: Option<BoxError>,
}

/// What kind of failure, grouped by who can act on it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServeErrorKind {
    /// The client reached a limit.
    Limit(Limit),
    /// ALPN (RFC 7301) agreed on what this server does not speak.
    UnknownProtocol(Vec<u8>),
    /// The client does not speak HTTP as it should.
    Protocol,
    /// The connection broke, or the client went away in the middle.
    Connection,
}

impl ServeError {
    pub(crate) fn limit(limit: Limit) -> Self {
        Self { kind: ServeErrorKind::Limit(limit), source: None }
    }

    pub(crate) fn unknown_protocol(alpn: &[u8]) -> Self {
        Self { kind: ServeErrorKind::UnknownProtocol(alpn.to_vec()), source: None }
    }

    pub(crate) fn connection(source: impl Into<BoxError>) -> Self {
        Self { kind: ServeErrorKind::Connection, source: Some(source.into()) }
    }

    pub(crate) fn from_hyper(error: hyper::Error) -> Self {
        // hyper does not tell errors of HTTP/2's own from those of the connection; their source does.
        let io = StdError::source(&error).is_some_and(|source| source.is::<std::io::Error>());
        let connection =
            error.is_incomplete_message() || error.is_closed() || error.is_body_write_aborted() || io;
        let kind = if connection { ServeErrorKind::Connection } else { ServeErrorKind::Protocol };
        Self { kind, source: Some(error.into()) }
    }

    /// Whether the client was turned away, rather than lost, as most are who end their side.
    pub(crate) fn is_refusal(&self) -> bool {
        match self.kind {
            ServeErrorKind::Limit(limit) => limit != Limit::HalfClosed,
            ServeErrorKind::UnknownProtocol(_) => true,
            ServeErrorKind::Protocol | ServeErrorKind::Connection => false,
        }
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> &ServeErrorKind {
        &self.kind
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ServeErrorKind::Limit(limit) => write!(f, "the client was cut off: {limit}"),
            ServeErrorKind::UnknownProtocol(alpn) => {
                write!(f, "ALPN agreed on `{}`, which is not served", alpn.escape_ascii())
            }
            ServeErrorKind::Protocol => f.write_str("the client does not speak HTTP as it should"),
            ServeErrorKind::Connection => f.write_str("the connection broke"),
        }
    }
}

impl StdError for ServeError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Why a body ended before its end.
#[derive(Debug)]
pub struct BodyError {
    kind: BodyErrorKind,
    source: Option<BoxError>,
}

/// What happened to the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BodyErrorKind {
    /// The peer sent nothing, or too little, for too long.
    TimedOut,
    /// The time that was allowed for the whole exchange was over, though it went on.
    OutOfTime,
    /// The connection broke or was closed, or the peer reset the stream.
    Broken,
    /// It is not encoded as its `Content-Encoding` says.
    Encoding,
}

impl BodyError {
    pub(crate) fn new(kind: BodyErrorKind) -> Self {
        Self { kind, source: None }
    }

    pub(crate) fn with_source(kind: BodyErrorKind, source: impl Into<BoxError>) -> Self {
        Self { kind, source: Some(source.into()) }
    }

    /// What happened.
    pub const fn kind(&self) -> BodyErrorKind {
        self.kind
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            BodyErrorKind::TimedOut => "the body stalled for too long",
            BodyErrorKind::OutOfTime => "the time for the whole exchange was over",
            BodyErrorKind::Broken => "the body ended before its end",
            BodyErrorKind::Encoding => "the body is not encoded as its head says",
        })
    }
}

impl StdError for BodyError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
