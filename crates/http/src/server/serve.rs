//! HTTP on one flow that one already has.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{sleep, timeout};
use tower_service::Service;
use tuyau_core::{Flow, Key, Protection, ReadBuf, Unboxed};

use super::frames::PREFACE;
use super::guard::Guard;
use super::refusal::{ErrorHandler, Refused, answer, last_response, replace};
use super::service::{Adapter, Shared};
use super::stall::Tasks;
use super::turns::{self, InTurns};
use super::watch::{Due, GRACE, Kind, Watch};
use crate::alarm::Alarm;
use crate::connection::{Connection, Fact};
use crate::error::{BoxError, Limit, ServeError, ServeErrorKind};
use crate::incoming::{FOR_EVER, Incoming};
use crate::limits::Limits;

/// Serves HTTP on `flow`, which one already has, with the default [`Limits`]: the version is what ALPN agreed
/// on. See [`Http`] for all that can be set.
///
/// Cancel safe: dropped, the connection is closed.
///
/// ```no_run
/// # async fn example(flow: tuyau_core::Flow) -> Result<(), tuyau_http::ServeError> {
/// use axum::{Router, routing::get};
///
/// let served = tuyau_http::serve_flow(flow, Router::<()>::new().route("/", get(|| async { "hello" }))).await?;
/// println!("{} requests", served.requests);
/// # Ok(()) }
/// ```
///
/// # Errors
/// If the connection ended other than by the rules of HTTP.
pub async fn serve_flow<S, B>(flow: Flow, service: S) -> Result<FlowServed, ServeError>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Http::new().serve_flow(flow, service).await
}

/// How HTTP is served, whatever listens.
#[derive(Clone, Default)]
pub struct Http {
    limits: Arc<Limits>,
    versions: Versions,
    on_error: Option<ErrorHandler>,
    facts: Vec<Fact>,
}

/// Which versions of HTTP are served. What ALPN agreed on is one of them, or the connection is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Versions {
    /// HTTP/1.0, HTTP/1.1 and HTTP/2: where ALPN says nothing on a clear flow, its first bytes tell HTTP/2 by
    /// prior knowledge (RFC 9113 section 3.3) from HTTP/1.
    #[default]
    All,
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2, where ALPN says nothing by prior knowledge.
    Http2,
}

/// What was served on one flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlowServed {
    /// Requests that came.
    pub requests: u64,
    /// Bodies and streams that were given up, because the client sent or took too little for too long.
    pub late: u32,
    /// Whether a handler may have taken the flow over.
    pub upgraded: bool,
}

impl Http {
    /// All versions, with the default limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// How much clients may cost.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Arc::new(limits);
        self
    }

    /// Which versions are served.
    pub fn versions(mut self, versions: Versions) -> Self {
        self.versions = versions;
        self
    }

    /// Makes the response to what no handler answers: a request that is none (HTTP/2 resets the stream of one
    /// that violates its framing), one whose head took too long, and a service that failed. An empty response
    /// with the [status](Refused::status) if not set. Called from tasks: it must not block.
    pub fn on_error(
        mut self,
        on_error: impl Fn(&Refused) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        self.on_error = Some(Arc::new(on_error));
        self
    }

    /// Keeps this fact of each flow for the handlers: [`Connection::fact`]. Address, protection, ALPN and
    /// certificates are kept anyway.
    pub fn fact<T: Clone + Send + Sync + 'static>(mut self, key: &'static Key<T>) -> Self {
        self.facts.push(Arc::new(move |flow| {
            let value: T = flow.fact(key)?;
            Some((key.erase(), Box::new(value)))
        }));
        self
    }

    pub(crate) fn settings(&self) -> &Limits {
        &self.limits
    }

    /// Serves HTTP on `flow` until the client or the rules of HTTP end it. Cancel safe: dropped, the connection
    /// is closed.
    ///
    /// # Errors
    /// If it ended otherwise.
    pub async fn serve_flow<S, B>(&self, flow: Flow, service: S) -> Result<FlowServed, ServeError>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (served, ended) = self.serve_until(flow, service, &Arc::default(), None).await;
        ended.map(|()| served)
    }

    /// The same, until `closing` too; then requests in flight end, and no more are taken.
    pub(crate) async fn serve_until<S, B>(
        &self,
        mut flow: Flow,
        service: S,
        closing: &Arc<Closing>,
        listener: Option<Arc<str>>,
    ) -> (FlowServed, Result<(), ServeError>)
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let connection = Connection::of(&flow, listener, &self.facts);
        let (kind, unread) = match self.version(&mut flow, &connection, closing).await {
            Ok(Some(version)) => version,
            Ok(None) => return (FlowServed::default(), Ok(())),
            Err(error) => return (FlowServed::default(), Err(error)),
        };
        let watch = Watch::new(kind, &self.limits);
        let shared =
            Shared { connection: connection.clone(), watch: watch.clone(), on_error: self.on_error.clone() };
        let adapter = Adapter::new(service, shared);
        let ended = match kind {
            Kind::H1 => {
                let replaced = self.on_error.clone().map(|on_error| {
                    let connection = connection.clone();
                    Arc::new(move |hypers: &[u8]| replace(&on_error, &connection, hypers)) as _
                });
                // Boxed in one go: what is moved while a task waits would keep its room in that.
                let guard = |flow| Unboxed(Guard::new(flow, unread, &watch, replaced));
                let mut driver = Box::pin(Driver::new(
                    self.h1().serve_connection(guard(flow), adapter).with_upgrades(),
                    &watch,
                    closing,
                ));
                match driver.as_mut().await {
                    Ended::Late(Limit::HeaderTime) => {
                        let flow = driver
                            .as_mut()
                            .take()
                            .and_then(|served| served.into_parts())
                            .map(|parts| parts.io.0.into_parts().0);
                        if let Some(flow) = flow {
                            let refused = Refused::unread(StatusCode::REQUEST_TIMEOUT, &connection);
                            let response = answer(self.on_error.as_ref(), &refused);
                            // Boxed, as it would be room in the task of each connection.
                            Box::pin(say_last(flow, &last_response(response, None))).await;
                        }
                        Ended::Late(Limit::HeaderTime)
                    }
                    ended => ended,
                }
            }
            Kind::H2 => {
                let flow = turns::Shared::new(Flow::new(Guard::new(flow, unread, &watch, None)));
                let connection = self.h2(Tasks::new(&watch)).serve_connection(flow.clone(), adapter);
                let served = InTurns { connection, flow };
                // Boxed, as it would be room in the task of each connection of HTTP/1.
                Box::pin(Driver::new(served, &watch, closing)).await
            }
        };
        let served =
            FlowServed { requests: watch.requests(), late: watch.late(), upgraded: watch.is_upgraded() };
        let ended = match (ended, watch.breached()) {
            (_, Some(limit)) | (Ended::Late(limit), None) => Err(ServeError::limit(limit)),
            (Ended::Http { result: Err(error), between }, None) => {
                let error = ServeError::from_hyper(error);
                // Between two requests a client may go as it likes: many don't say goodbye.
                let gone = *error.kind() == ServeErrorKind::Connection && between;
                if gone { Ok(()) } else { Err(error) }
            }
            (Ended::Http { result: Ok(()), .. } | Ended::Gone, None) => Ok(()),
        };
        (served, ended)
    }

    /// Which version `flow` speaks, and what was read of it to know; `None` if it was closed in silence.
    async fn version(
        &self,
        flow: &mut Flow,
        connection: &Connection,
        closing: &Closing,
    ) -> Result<Option<(Kind, Bytes)>, ServeError> {
        let kind = match (connection.alpn(), self.versions) {
            (Some(b"h2"), Versions::All | Versions::Http2) => Kind::H2,
            (Some(b"http/1.1" | b"http/1.0"), Versions::All | Versions::Http1) => Kind::H1,
            (Some(alpn), _) => return Err(ServeError::unknown_protocol(alpn)),
            (None, Versions::Http1) => Kind::H1,
            (None, Versions::Http2) => Kind::H2,
            // RFC 9113 section 3.2: over TLS, HTTP/2 is what ALPN agrees on.
            (None, Versions::All) if connection.security() != Protection::Clear => Kind::H1,
            (None, Versions::All) => {
                let first_byte = self.limits.first_byte.min(FOR_EVER);
                let sniffed = async {
                    tokio::select! {
                        biased;
                        sniffed = sniff(flow) => sniffed,
                        () = closing.begun_a_while() => Ok(None),
                    }
                };
                return match Box::pin(timeout(first_byte, sniffed)).await {
                    Ok(sniffed) => sniffed.map_err(ServeError::connection),
                    Err(_) => Err(ServeError::limit(Limit::FirstByte)),
                };
            }
        };
        Ok(Some((kind, Bytes::new())))
    }

    fn h1(&self) -> hyper::server::conn::http1::Builder {
        let mut builder = hyper::server::conn::http1::Builder::new();
        let size = self.limits.header_size.max(8 * 1024);
        // hyper's buffer is the limit of the head; its own timer would allocate for each request.
        builder.header_read_timeout(None).max_header_size(size).half_close(false);
        if self.limits.header_count != Limits::default().header_count {
            builder.max_headers(self.limits.header_count);
        }
        builder
    }

    fn h2(&self, tasks: Tasks) -> hyper::server::conn::http2::Builder<Tasks> {
        let limits = &self.limits;
        let mut builder = hyper::server::conn::http2::Builder::new(tasks);
        builder
            .max_concurrent_streams(limits.h2_streams)
            .max_header_list_size(u32::try_from(limits.header_size).unwrap_or(u32::MAX))
            .max_send_buf_size(limits.h2_send_buffer.min(u32::MAX as usize))
            .enable_connect_protocol();
        builder
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("limits", &self.limits)
            .field("versions", &self.versions)
            .finish_non_exhaustive()
    }
}

/// Reads until it is clear whether the first bytes are the preface of HTTP/2. Cancel safe but for bytes read.
async fn sniff(flow: &mut Flow) -> Result<Option<(Kind, Bytes)>, tuyau_core::FlowError> {
    let mut seen = Vec::new();
    loop {
        let n = poll_fn(|cx| {
            // On the stack of the poll, not in the connection's task for as long as that lives.
            let mut bytes = [0; 2048];
            let mut buf = ReadBuf::new(&mut bytes);
            ready!(flow.poll_read(cx, &mut buf))?;
            seen.extend_from_slice(buf.filled());
            Poll::Ready(Ok::<_, tuyau_core::FlowError>(buf.filled().len()))
        })
        .await?;
        let looked = seen.len().min(PREFACE.len());
        match seen[..looked] == PREFACE[..looked] {
            _ if seen.is_empty() => return Ok(None),
            false => return Ok(Some((Kind::H1, seen.into()))),
            true if looked == PREFACE.len() => return Ok(Some((Kind::H2, seen.into()))),
            // A client that ends in the middle of a preface has HTTP/1 tell it so.
            true if n == 0 => return Ok(Some((Kind::H1, seen.into()))),
            true => {}
        }
    }
}

/// Sends the last bytes of a connection, and closes it so that they arrive. Whoever does not take them does not
/// get them.
async fn say_last(mut flow: Flow, bytes: &[u8]) {
    let saying = async {
        flow.write_all(bytes).await?;
        flow.shutdown().await?;
        while flow.read(&mut [0; 1024]).await? > 0 {}
        Ok::<_, tuyau_core::FlowError>(())
    };
    let _ = timeout(Duration::from_secs(2), saying).await;
}

/// Tells connections to end.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    begun: AtomicBool,
    told: Arc<Notify>,
}

impl Closing {
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Until requests that were on their way have come.
    async fn begun_a_while(&self) {
        let told = self.told.notified();
        if !self.has_begun() {
            told.await;
        }
        sleep(GRACE).await;
    }
}

/// A connection that hyper serves.
trait Served: Future<Output = hyper::Result<()>> {
    /// To end once what is in flight has.
    fn end(self: Pin<&mut Self>);
}

impl<S, B> Served for hyper::server::conn::http1::UpgradeableConnection<Unboxed<Guard>, S>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S, B> Served for InTurns<hyper::server::conn::http2::Connection<turns::Shared, S, Tasks>>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    fn end(self: Pin<&mut Self>) {
        self.project().connection.graceful_shutdown();
    }
}

/// How a connection ended.
enum Ended {
    /// By the rules of HTTP, or against them; between two requests, or in the middle of one.
    Http { result: hyper::Result<()>, between: bool },
    /// All is said, but the client does not hang up.
    Gone,
    /// A limit was reached.
    Late(Limit),
}

pin_project! {
    /// Drives a connection, and looks at the clock.
    struct Driver<C> {
        #[pin]
        served: Option<C>,
        watch: Arc<Watch>,
        closing: Arc<Closing>,
        #[pin]
        told: OwnedNotified,
        // That the stop wakes: asking it takes a lock, and once is enough.
        waker: Option<Waker>,
        closed: bool,
        alarm: Alarm,
    }
}

impl<C> Driver<C> {
    fn new(served: C, watch: &Arc<Watch>, closing: &Arc<Closing>) -> Self {
        Self {
            served: Some(served),
            watch: watch.clone(),
            closing: closing.clone(),
            told: closing.told.clone().notified_owned(),
            waker: None,
            closed: false,
            alarm: Alarm::default(),
        }
    }

    fn take(self: Pin<&mut Self>) -> Option<C>
    where
        C: Unpin,
    {
        self.project().served.get_mut().take()
    }
}

impl<C: Served> Future for Driver<C> {
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let mut this = self.project();
        if this.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            *this.waker = Some(cx.waker().clone());
            if !*this.closed {
                let _ = this.told.as_mut().poll(cx);
            }
        }
        loop {
            let Some(mut served) = this.served.as_mut().as_pin_mut() else { return Poll::Pending };
            let mut asks_until = u64::MAX;
            if !*this.closed && this.closing.has_begun() {
                this.watch.closing();
                match this.watch.may_still_ask() {
                    Some(until) => asks_until = until,
                    None => {
                        *this.closed = true;
                        served.as_mut().end();
                    }
                }
            }
            if let Poll::Ready(result) = served.as_mut().poll(cx) {
                // Now: requests in flight are dropped with the connection.
                return Poll::Ready(Ended::Http { result, between: this.watch.is_between() });
            }
            let (at, due) = this.watch.due();
            ready!(this.alarm.poll_until(this.watch.at(at.min(asks_until)), cx));
            match due.filter(|_| at <= asks_until) {
                // hyper's own end of it says goodbye (GOAWAY, close_notify).
                Some(Due::Idle) => {
                    *this.closed = true;
                    this.watch.closing();
                    served.end();
                }
                Some(Due::Gone) => return Poll::Ready(Ended::Gone),
                Some(Due::Late(limit)) => return Poll::Ready(Ended::Late(limit)),
                None => {}
            }
        }
    }
}

impl From<ServeError> for io::Error {
    fn from(error: ServeError) -> Self {
        io::Error::other(error)
    }
}
