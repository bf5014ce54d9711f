//! What goes wrong once the flow is there.

use std::error::Error;
use std::fmt;

use tuyau_core::{FlowError, FlowErrorKind};

/// The source of a [`FlowError`] of this layer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WsError {
    /// The peer sent text, where bytes go.
    Text,
    /// The peer broke the protocol.
    Protocol(String),
    /// The peer closed the connection for a reason that is no ordinary end (RFC 6455 section 7.4).
    Closed {
        /// Its status code.
        code: u16,
        /// What it said.
        reason: String,
    },
    /// The connection ended without a Close: what was read may not be all.
    Truncated,
    /// The peer no longer answers.
    Silent,
}

impl WsError {
    pub(crate) fn into_flow(self) -> FlowError {
        let kind = match &self {
            Self::Text | Self::Protocol(_) => FlowErrorKind::InvalidData,
            Self::Closed { .. } => FlowErrorKind::Reset,
            Self::Truncated => FlowErrorKind::UnexpectedEof,
            Self::Silent => FlowErrorKind::TimedOut,
        };
        FlowError::with_source(kind, self)
    }
}

impl fmt::Display for WsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str(
                "the peer sends text frames, but this is a stream of bytes: it must send binary ones (does it want the subprotocol `binary`?)",
            ),
            Self::Protocol(what) => write!(f, "WebSocket: {what}"),
            Self::Closed { code, reason } => {
                write!(f, "the peer closed the WebSocket: {code} ({})", meaning(*code))?;
                if reason.is_empty() { Ok(()) } else { write!(f, ": {}", reason.escape_debug()) }
            }
            Self::Truncated => f.write_str("the connection ended without a WebSocket Close: what came may not be all"),
            Self::Silent => f.write_str("the peer has answered no WebSocket ping"),
        }
    }
}

impl Error for WsError {}

/// RFC 6455 section 7.4.1, and IANA's registry.
fn meaning(code: u16) -> &'static str {
    match code {
        1002 => "we broke the protocol",
        1003 => "it does not take binary data",
        1007 => "it could not read what we sent",
        1008 => "against its policy",
        1009 => "a frame was too large for it",
        1010 => "it misses an extension",
        1011 => "it failed",
        1012 => "it restarts",
        1013 => "it is overloaded: try again later",
        1014 => "what it forwards to answers nonsense",
        3000 => "it wants authentication",
        3003 => "it forbids this",
        3008 => "it waited too long",
        4000.. => "a code of the application's own",
        _ => "a code without a meaning",
    }
}
