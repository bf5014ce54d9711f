//! What goes wrong with a request.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use tuyau_core::ConnectErrorKind;
use tuyau_core::report::Outcome;

use crate::error::BoxError;

/// Why a request has no response: in which stage, for which URL, and the cause. The causes of
/// [`Resolve`](Stage::Resolve) and [`Connect`](Stage::Connect) name every hop: [`Error::resolution`].
///
/// `Display` says the URL and the stage, and leaves the causes to [`source`](StdError::source), as of whatever is the
/// cause of something else; `Debug` has them all in one line, each once.
#[derive(Clone)]
pub struct Error {
    url: Option<Box<Uri>>,
    /// Shared by all who waited for the same.
    inner: Arc<Inner>,
}

struct Inner {
    stage: Stage,
    what: Option<String>,
    timeout: bool,
    source: Option<BoxError>,
}

/// How far a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// The request makes no sense: its URL, its method, its `Content-Length`.
    Request,
    /// Nothing could be connected to: no such name, a setting that is missing.
    Resolve,
    /// Nothing could be connected.
    Connect,
    /// HTTP could not be begun on the connection, or not the one that was asked for.
    Handshake,
    /// The request could not be sent, or not in whole.
    Send,
    /// The response did not come.
    Wait,
    /// The response's body broke off.
    Body,
    /// The response leads elsewhere, where the client does not go.
    Redirect,
}

impl Error {
    pub(crate) fn new(stage: Stage) -> Self {
        Self { url: None, inner: Arc::new(Inner { stage, what: None, timeout: false, source: None }) }
    }

    pub(crate) fn what(stage: Stage, what: impl Into<String>) -> Self {
        Self::new(stage).with(|inner| inner.what = Some(what.into()))
    }

    pub(crate) fn caused(stage: Stage, source: impl Into<BoxError>) -> Self {
        let source = source.into();
        Self::new(stage).with(|inner| inner.source = Some(source))
    }

    pub(crate) fn late(stage: Stage, after: Duration) -> Self {
        Self::what(stage, format!("took more than {after:?}")).with(|inner| inner.timeout = true)
    }

    pub(crate) fn unresolved(error: tuyau_core::Error) -> Self {
        let dialled = error.report().candidates.iter().any(|candidate| {
            candidate.endpoint.is_some()
                && matches!(candidate.outcome, Outcome::Failed(_) | Outcome::Cancelled)
        });
        let timeout = error.kind() == ConnectErrorKind::TimedOut;
        let nothing = error.report().candidates.is_empty();
        let stage = if dialled { Stage::Connect } else { Stage::Resolve };
        Self::caused(stage, error).with(|inner| {
            inner.timeout = timeout;
            inner.what =
                nothing.then(|| "bind `STACKS`, what URLs go over, to `tuyau::http_stacks(…)` say".into());
        })
    }

    pub(crate) fn at(mut self, url: &Uri) -> Self {
        self.url.get_or_insert_with(|| Box::new(shown(url)));
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            change(inner);
        }
        self
    }

    /// How far the request came.
    pub fn stage(&self) -> Stage {
        self.inner.stage
    }

    /// Whether it took too long.
    pub fn is_timeout(&self) -> bool {
        self.inner.timeout
    }

    /// The URL that was asked for, of the last request if there were redirects; without query and user. Of a tunnel,
    /// its host and port.
    pub fn url(&self) -> Option<&Uri> {
        self.url.as_deref()
    }

    /// What the resolution of the context did, if that is what failed: every candidate and every hop.
    pub fn resolution(&self) -> Option<&tuyau_core::Error> {
        self.inner.source.as_ref()?.downcast_ref()
    }
}

/// Queries carry secrets.
fn shown(url: &Uri) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = url.scheme().cloned();
    parts.authority = url.authority().and_then(|authority| {
        let host = authority.as_str().rsplit('@').next()?;
        host.parse().ok()
    });
    // What a tunnel is asked for to has none.
    parts.path_and_query = url.path_and_query().and_then(|_| url.path().parse().ok());
    Uri::from_parts(parts).unwrap_or_default()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { stage, what, .. } = &*self.inner;
        if let Some(url) = &self.url {
            write!(f, "{url}: ")?;
        }
        f.write_str(match stage {
            Stage::Request => "bad request",
            Stage::Resolve => "resolve",
            Stage::Connect => "connect",
            Stage::Handshake => "handshake",
            Stage::Send => "send",
            Stage::Wait => "wait for the response",
            Stage::Body => "body",
            Stage::Redirect => "redirect",
        })?;
        what.as_ref().map_or(Ok(()), |what| write!(f, ": {what}"))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What `fn main() -> Result<…>` prints of it: with the causes, each once.
        let mut said = self.to_string();
        f.write_str(&said)?;
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said.push_str(&text);
            }
            // What could not be resolved says all of its causes.
            cause = error.source().filter(|_| !error.is::<tuyau_core::Error>());
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}
