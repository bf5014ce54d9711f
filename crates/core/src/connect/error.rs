//! What goes wrong when connecting.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;
use core::net::SocketAddr;

use crate::report::listed;
use crate::resolve;

/// Why a hop could not be connected: what kind of failure, in words, what to do about it, and
/// the cause. A clone has the same cause.
#[derive(Clone)]
pub struct ConnectError {
    kind: ConnectErrorKind,
    what: Cow<'static, str>,
    /// Apart, for every result of connecting has place for an error.
    more: Option<Box<More>>,
}

#[derive(Clone, Default)]
struct More {
    hint: Option<Cow<'static, str>>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// What kind of failure, grouped by who can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(usize)] // no padding in `ConnectError`, which is moved with every result
pub enum ConnectErrorKind {
    /// The peer is there and said no.
    Refused,
    /// There is no way to the peer.
    Unreachable,
    /// What was to be connected to does not exist: no such name, no such path.
    NotFound,
    /// It took longer than allowed.
    TimedOut,
    /// The peer hung up before the connection was of use.
    Closed,
    /// The peer is not who it should be. Ends the whole resolution.
    Verification,
    /// The peer does not accept who we are. Ends the whole resolution.
    Authentication,
    /// The context's policy forbids it.
    Policy,
    /// The peer, or what is on the way, does not speak as it should.
    Protocol,
    /// The transport can't do this.
    Unsupported,
    /// The context or the caller asked for what makes no sense.
    Misuse,
    /// The environment failed or refused: permissions, descriptors, memory.
    Environment,
    /// Anything else; see the source.
    Other,
}

impl ConnectError {
    /// An error of this kind; `what` says what failed, not why: `connect`, `handshake with …`.
    pub fn new(kind: ConnectErrorKind, what: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, what: what.into(), more: None }
    }

    /// With other words for what failed.
    pub fn with_what(mut self, what: impl Into<Cow<'static, str>>) -> Self {
        self.what = what.into();
        self
    }

    /// With the cause.
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.more.get_or_insert_default().source = Some(source.into().into());
        self
    }

    /// With what to do about it.
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.more.get_or_insert_default().hint = Some(hint.into());
        self
    }

    /// What kind of failure it is.
    pub const fn kind(&self) -> ConnectErrorKind {
        self.kind
    }

    /// What to do about it, if that is known.
    pub fn hint(&self) -> Option<&str> {
        self.more.as_ref()?.hint.as_deref()
    }

    /// That none of the addresses of `host` could be connected: `failed` are those that were tried, in order. Says
    /// each cause once, with the addresses that it hit; kind and hint are those of the last.
    pub fn of_addresses(host: &str, failed: Vec<(SocketAddr, Self)>) -> Self {
        let Some((_, last)) = failed.last() else {
            return Self::new(ConnectErrorKind::NotFound, alloc::format!("`{host}` has no address"))
                .with_hint("check the name");
        };
        let (kind, hint) = (last.kind, last.more.as_ref().and_then(|more| more.hint.clone()));
        let mut causes: Vec<(String, Vec<String>)> = Vec::new();
        for (address, error) in &failed {
            let (address, mut why) = (address.to_string(), String::new());
            // What failed is said already: all of it but why.
            let _ = write_chain(error.source().unwrap_or(error), &mut why);
            let why = why.replace(&address, "it");
            match causes.iter_mut().find(|(known, _)| *known == why) {
                Some((_, addresses)) => addresses.push(address),
                None => causes.push((why, [address].into())),
            }
        }
        let causes: Vec<_> =
            causes.iter().map(|(why, addresses)| alloc::format!("{}: {why}", listed(addresses))).collect();
        let what = alloc::format!("no address of `{host}` could be connected ({})", causes.join("; "));
        match hint {
            Some(hint) => Self::new(kind, what).with_hint(hint),
            None => Self::new(kind, what),
        }
    }

    /// Whether the peer was found not to be, or not to accept, who it should: no other candidate
    /// may be tried in its place.
    pub(crate) const fn is_final(&self) -> bool {
        self.kind.is_final()
    }
}

impl ConnectErrorKind {
    pub(crate) const fn is_final(self) -> bool {
        matches!(self, Self::Verification | Self::Authentication)
    }
}

impl fmt::Debug for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What `fn main() -> Result<…>` prints of it: with the causes, and what to do.
        write_chain(self, f)?;
        self.hint().map_or(Ok(()), |hint| write!(f, "\n  what to do: {hint}"))
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.more.as_ref()?.source.as_deref().map(|source| source as _)
    }
}

impl From<crate::FlowError> for ConnectError {
    fn from(error: crate::FlowError) -> Self {
        use crate::FlowErrorKind::{Aborted, BrokenPipe, InvalidData, Reset, TimedOut, UnexpectedEof};
        let kind = match error.kind() {
            Reset | BrokenPipe | UnexpectedEof | Aborted => ConnectErrorKind::Closed,
            TimedOut => ConnectErrorKind::TimedOut,
            InvalidData => ConnectErrorKind::Protocol,
            _ => ConnectErrorKind::Other,
        };
        Self::new(kind, "handshake").with_source(error)
    }
}

/// `error` and its causes, outermost first, each once: `connect: connection refused`.
pub(crate) fn write_chain(error: &(dyn Error + 'static), f: &mut dyn fmt::Write) -> fmt::Result {
    let mut said = in_a_line(error);
    f.write_str(&said)?;
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<resolve::Error>() {
            // Its candidates are of the same chain; what to do about them is said once, at its end.
            return write!(f, ": {}", error.report().brief());
        }
        let text = in_a_line(error);
        // Some errors say their cause themselves.
        if !said.contains(&text) {
            write!(f, ": {text}")?;
            said.push_str(&text);
        }
        cause = error.source();
    }
    Ok(())
}

/// An error of several lines, as that of a resolution is, in one.
fn in_a_line(error: &(dyn Error + 'static)) -> String {
    let text = alloc::format!("{error}");
    if !text.contains('\n') {
        return text;
    }
    text.split('\n').map(str::trim).collect::<Vec<_>>().join("; ")
}
