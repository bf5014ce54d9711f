//! The access log of servers: the Common Log Format, and how long it took.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use jiff::Timestamp;
use tuyau::http::{BoxError, Connection};

use crate::output::{Output, Took, Visible};

/// What is known of a request when it comes.
#[derive(Debug)]
pub(crate) struct Entry {
    peer: String,
    line: String,
    at: Timestamp,
    out: Output,
}

impl Entry {
    /// With the path that was asked for, or all of what was.
    pub(crate) fn of<B>(request: &Request<B>, asked: Asked, out: Output) -> Self {
        let peer = request.extensions().get::<Connection>().and_then(Connection::peer);
        let peer = match peer {
            Some(peer) => peer.ip().map_or_else(|| peer.to_string(), |ip| ip.to_string()),
            None => "-".into(),
        };
        let url = request.uri();
        let target = match asked {
            Asked::Path => url.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
            // Without the user, who may have a password.
            Asked::Url => url.to_string().replacen(user(url), "", 1),
        };
        // A quote would end what is quoted.
        let line = format!("{} {target} {:?}", request.method(), request.version()).replace('"', "%22");
        Self { peer, line, at: Timestamp::now(), out }
    }

    /// Prints it: once the response was sent, `whole` or not, or what came of it ended.
    pub(crate) fn print(&self, status: StatusCode, bytes: u64, begun: Instant, whole: bool) {
        let Self { peer, line, at, out } = self;
        let at = at.strftime("%d/%b/%Y:%H:%M:%S +0000");
        let took = Took(begun.elapsed());
        let end = if whole { "" } else { ", broken off" };
        let (peer, status) = (if peer.is_empty() { "-" } else { peer }, status.as_u16());
        let (peer, line) = (Visible(peer), Visible(line));
        out.tell(format_args!("{peer} - - [{at}] \"{line}\" {status} {bytes} {took}{end}"));
    }
}

/// What of a URL is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Path,
    Url,
}

/// `user:password@`, or nothing.
fn user(url: &http::Uri) -> &str {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    authority.rfind('@').map_or("", |at| &authority[..=at])
}

/// A body; once it has ended, its entry is printed.
pub(crate) struct Logged {
    body: UnsyncBoxBody<Bytes, BoxError>,
    entry: Option<(Entry, StatusCode, Instant)>,
    bytes: u64,
    /// All that there is, if that is known.
    length: Option<u64>,
    whole: bool,
}

impl Logged {
    pub(crate) fn new(
        body: UnsyncBoxBody<Bytes, BoxError>,
        length: Option<u64>,
        entry: Option<(Entry, StatusCode, Instant)>,
    ) -> Self {
        let whole = body.is_end_stream();
        Self { body, entry, bytes: 0, length, whole }
    }
}

impl Body for Logged {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                self.whole = self.body.is_end_stream();
            }
            Poll::Ready(None) => self.whole = true,
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        if let Some((entry, status, begun)) = &self.entry {
            // Nobody asks a body for its end who knows its length, or any of it for HEAD.
            let whole = self.whole || self.length == Some(self.bytes) || entry.line.starts_with("HEAD ");
            entry.print(*status, self.bytes, *begun, whole);
        }
    }
}
