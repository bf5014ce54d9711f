//! Bodies of responses.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_ENCODING;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower_http::decompression::{Decompression, DecompressionBody};
use tuyau_core::{FlowError, Target};

use super::error::{Error, Stage};
use super::pool::{Checkout, Site};
use super::sender::Link;
use crate::alarm::Alarm;
use crate::connection::Connection;
use crate::error::{BodyError, BodyErrorKind, BoxError};
use crate::incoming::FOR_EVER;
use crate::proxy::fields::of_trailers;

/// The body of a response, as it comes: [`bytes`](Self::bytes), [`text`](Self::text), or frame by frame with
/// `http_body_util::BodyExt`, trailers too. Read to its end, its connection can be used again; dropped before,
/// HTTP/1 closes the connection and HTTP/2 resets the stream.
pub struct ResponseBody {
    body: Content,
    /// The longest that the reader waits for the next piece.
    idle: Option<Duration>,
    /// When all of it must have come.
    until: Option<Instant>,
    /// Since when the reader waits.
    since: Option<Instant>,
    alarm: Alarm,
}

enum Content {
    Plain(Raw),
    Decoded(Box<DecompressionBody<Raw>>),
}

/// As it comes by the connection, and what is to be done with that afterwards.
pub(super) struct Raw {
    body: hyper::body::Incoming,
    lease: Option<Lease>,
}

/// One request's hold of a connection.
pub(super) struct Lease {
    link: Arc<Link>,
    /// What goes back where, once the body was read.
    back: Option<(Checkout, Weak<Site>)>,
}

impl Lease {
    pub(super) fn of(link: &Arc<Link>) -> Self {
        link.begin();
        Self { link: link.clone(), back: None }
    }

    pub(super) fn with_return(mut self, checkout: Checkout, site: Weak<Site>) -> Self {
        self.back = Some((checkout, site));
        self
    }

    fn end(mut self) {
        if let Some((checkout, site)) = self.back.take()
            && let Some(site) = site.upgrade()
        {
            site.give_back(checkout);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.link.end();
    }
}

impl ResponseBody {
    pub(super) fn new(body: hyper::body::Incoming, lease: Lease) -> Self {
        let mut raw = Raw { body, lease: Some(lease) };
        raw.has_ended();
        Self { body: Content::Plain(raw), idle: None, until: None, since: None, alarm: Alarm::default() }
    }

    pub(super) fn timed(mut self, idle: Option<Duration>, until: Option<Instant>) -> Self {
        (self.idle, self.until) = (idle.map(|idle| idle.min(FOR_EVER)), until);
        self
    }

    /// All of it, however much that is: limit what you take from strangers with `http_body_util::Limited`.
    ///
    /// # Errors
    /// If it breaks off, takes too long, or can't be decoded.
    pub async fn bytes(self) -> Result<Bytes, Error> {
        match self.collect().await {
            Ok(all) => Ok(all.to_bytes()),
            Err(error) => Err(Error::caused(Stage::Body, error)),
        }
    }

    /// All of it as text: UTF-8, with what is not replaced by U+FFFD.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub async fn text(self) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(&self.bytes().await?).into_owned())
    }

    /// Whether the reader has waited too long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { idle, until, since, alarm, .. } = self;
        let idle = idle.map(|idle| *since.get_or_insert_with(Instant::now) + idle);
        match [idle, *until].into_iter().flatten().min() {
            Some(until) => alarm.poll_until(until, cx),
            None => Poll::Pending,
        }
    }
}

/// Decodes the body of `response` as its `Content-Encoding` says; that field and the length go.
pub(super) async fn decoded(response: Response<ResponseBody>) -> Response<ResponseBody> {
    if !response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    let (head, ResponseBody { body, idle, until, since, alarm }) = response.into_parts();
    let raw = match body {
        Content::Plain(raw) => raw,
        body => return Response::from_parts(head, ResponseBody { body, idle, until, since, alarm }),
    };
    let mut once = Decompression::new(Once(Some(Response::from_parts(head, raw))));
    let Ok(response) = tower_service::Service::call(&mut once, http::Request::new(())).await;
    response.map(|body| ResponseBody { body: Content::Decoded(Box::new(body)), idle, until, since, alarm })
}

/// A service that has its response already.
struct Once(Option<Response<Raw>>);

impl tower_service::Service<http::Request<()>> for Once {
    type Response = Response<Raw>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Response<Raw>, Self::Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: http::Request<()>) -> Self::Future {
        match self.0.take() {
            Some(response) => std::future::ready(Ok(response)),
            None => unreachable!("it is called once"),
        }
    }
}

impl Raw {
    fn has_ended(&mut self) {
        if self.body.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.end();
        }
    }
}

impl Body for Raw {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                self.has_ended();
                Some(Ok(of_trailers(frame)))
            }
            None => {
                if let Some(lease) = self.lease.take() {
                    lease.end();
                }
                None
            }
            Some(Err(error)) => {
                let connection = self.lease.take().map(|lease| lease.link.connection.clone());
                Some(Err(BodyError::with_source(
                    BodyErrorKind::Broken,
                    Broken::of(error, connection.as_ref()),
                )))
            }
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a body broke off with: the cause of an error of [`BodyErrorKind::Broken`].
#[derive(Debug)]
struct Broken {
    peer: String,
    error: hyper::Error,
}

impl Broken {
    fn of(error: hyper::Error, connection: Option<&Connection>) -> Self {
        let peer =
            connection.and_then(Connection::peer).map_or_else(|| "the server".into(), Target::to_string);
        Self { peer, error }
    }

    /// What the engine found, rather than the flow.
    fn found(&self) -> Option<io::ErrorKind> {
        let error = self.error.source()?.downcast_ref::<io::Error>()?;
        let of_flow = error.get_ref().is_some_and(|inner| inner.is::<FlowError>());
        (!of_flow).then(|| error.kind())
    }

    fn is_end(&self) -> bool {
        self.found() == Some(io::ErrorKind::UnexpectedEof) || self.error.is_incomplete_message()
    }

    /// Whether its chunks are none (RFC 9112 section 7.1).
    fn is_malformed(&self) -> bool {
        use io::ErrorKind::{InvalidData, InvalidInput};
        matches!(self.found(), Some(InvalidData | InvalidInput))
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_end() {
            "closed the connection"
        } else if self.is_malformed() {
            "sent it against the rules of HTTP"
        } else {
            "broke it off"
        };
        write!(f, "{} {what}", self.peer)
    }
}

impl StdError for Broken {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // The engine's own word for it says no more.
        self.error.source().filter(|_| !self.is_end())
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let poll = match &mut this.body {
            Content::Plain(raw) => Pin::new(raw).poll_frame(cx),
            Content::Decoded(body) => Pin::new(body).poll_frame(cx).map_err(undecoded),
        };
        if poll.is_ready() {
            this.since = None;
            return poll;
        }
        this.poll_late(cx).map(|()| {
            let over = this.until.is_some_and(|until| until <= Instant::now());
            (this.idle, this.until) = (None, None);
            Some(Err(BodyError::new(if over { BodyErrorKind::OutOfTime } else { BodyErrorKind::TimedOut })))
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Content::Plain(raw) => raw.is_end_stream(),
            Content::Decoded(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Content::Plain(raw) => raw.size_hint(),
            Content::Decoded(body) => body.size_hint(),
        }
    }
}

/// The body's own error, or that it could not be decoded.
fn undecoded(error: BoxError) -> BodyError {
    match error.downcast::<BodyError>() {
        Ok(error) => *error,
        Err(error) => BodyError::with_source(BodyErrorKind::Encoding, error),
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("size_hint", &self.size_hint()).finish_non_exhaustive()
    }
}
