//! HTTP as a client on one flow.

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as HttpBody;
use hyper::client::conn::{http1, http2};
use tokio::time::Instant;
use tuyau_core::Flow;

use super::body::Body;
use super::error::{Error, Stage};
use super::heard::{Heard, Lost};
use super::response::{Lease, ResponseBody};
use crate::Versions;
use crate::alarm::Alarm;
use crate::connection::Connection;
use crate::error::BoxError;
use crate::incoming::FOR_EVER;
use crate::server::service::is_coding_known;
use crate::upgrade::Held;

/// Speaks HTTP as a client on `flow`, which one already has: the version is what ALPN agreed on; without, it is
/// HTTP/1.1, or HTTP/2 by prior knowledge if `versions` has no other.
///
/// It must be awaited in a tokio runtime: the connection is driven by a task, which ends with the sender.
///
/// ```no_run
/// # async fn example(ctx: tuyau_core::Context) -> Result<(), Box<dyn std::error::Error>> {
/// use http::Request;
/// use tuyau_http::{Body, Versions, handshake};
///
/// let flow = ctx.resolve().await?.into_flow();
/// let mut sender = handshake(flow, Versions::All).await?;
/// let request = Request::get("http://svc/").body(Body::empty())?;
/// println!("{}", sender.send(request).await?.into_body().text().await?);
/// # Ok(()) }
/// ```
///
/// # Errors
/// If ALPN agreed on what `versions` does not have, or the flow breaks.
pub async fn handshake(flow: Flow, versions: Versions) -> Result<Sender, Error> {
    open(flow, versions, FOR_EVER).await
}

/// One connection to send requests on. Over HTTP/1 one at a time: the next waits until the response's body was
/// read to its end.
pub struct Sender {
    wire: Wire,
    pub(super) link: Arc<Link>,
    said: Option<Box<Said>>,
}

/// The field `Host` that was sent last, and what it was made of.
struct Said {
    authority: Authority,
    scheme: Option<Scheme>,
    host: HeaderValue,
}

enum Wire {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>),
}

/// What a connection and its task share.
pub(super) struct Link {
    pub(super) connection: Connection,
    heard: Heard,
    origin: Instant,
    in_use: AtomicU32,
    /// Milliseconds since `origin`.
    idle_since: AtomicU64,
    /// Set by requests that are over, and left so for the next: that costs less than to set one for each.
    alarms: Mutex<Vec<Alarm>>,
}

/// How many alarms a connection keeps.
const ALARMS: usize = 16;

impl Link {
    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn alarm(&self) -> Alarm {
        self.alarms().pop().unwrap_or_default()
    }

    pub(super) fn keep(&self, alarm: Alarm) {
        let mut alarms = self.alarms();
        if alarms.len() < ALARMS {
            alarms.push(alarm);
        }
    }

    fn alarms(&self) -> MutexGuard<'_, Vec<Alarm>> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self) {
        self.in_use.fetch_add(1, Relaxed);
    }

    pub(super) fn end(&self) {
        self.idle_since.store(self.now(), Relaxed);
        self.in_use.fetch_sub(1, Relaxed);
    }

    /// Since when it is idle.
    fn idle_since(&self) -> Option<Instant> {
        let idle = self.in_use.load(Relaxed) == 0;
        idle.then(|| self.origin + Duration::from_millis(self.idle_since.load(Relaxed)))
    }
}

/// Runs the tasks of HTTP/2.
#[derive(Clone, Copy)]
struct Spawn;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawn {
    fn execute(&self, task: F) {
        drop(tokio::spawn(task));
    }
}

/// Which version it is going to be.
pub(super) fn version(alpn: Option<&[u8]>, versions: Versions) -> Result<Version, Error> {
    match (alpn, versions) {
        (Some(b"h2"), Versions::All | Versions::Http2) | (None, Versions::Http2) => Ok(Version::HTTP_2),
        (Some(b"http/1.1" | b"http/1.0"), Versions::All | Versions::Http1)
        | (None, Versions::All | Versions::Http1) => Ok(Version::HTTP_11),
        (Some(alpn), _) => Err(Error::what(
            Stage::Handshake,
            format!("ALPN agreed on `{}`, which was not asked for", alpn.escape_ascii()),
        )),
    }
}

/// A connection that is idle has at least this long: whoever opened it is about to use it.
const LEAST_IDLE: Duration = Duration::from_millis(10);

/// The connection closes itself once it was idle for so long.
pub(super) async fn open(flow: Flow, versions: Versions, idle: Duration) -> Result<Sender, Error> {
    let idle = idle.clamp(LEAST_IDLE, FOR_EVER);
    let connection = Connection::of(&flow, None, &[]);
    let version = version(connection.alpn(), versions)?;
    let (flow, heard) = Heard::of(flow, version);
    let link = Arc::new(Link {
        origin: Instant::now(),
        in_use: AtomicU32::new(0),
        idle_since: AtomicU64::new(0),
        alarms: Mutex::default(),
        connection,
        heard,
    });
    let failed = |error| Error::caused(Stage::Handshake, BoxError::from(error));
    let wire = match version {
        Version::HTTP_2 => {
            let (sender, connection) = http2::Builder::new(Spawn).handshake(flow).await.map_err(failed)?;
            drop(tokio::spawn(drive(connection, link.clone(), idle)));
            Wire::H2(sender)
        }
        _ => {
            let (sender, connection) = http1::Builder::new().handshake(flow).await.map_err(failed)?;
            drop(tokio::spawn(drive(connection.with_upgrades(), link.clone(), idle)));
            Wire::H1(sender)
        }
    };
    Ok(Sender { wire, link, said: None })
}

/// Until it ends, or was idle for too long. Whoever waits for a response is told what went wrong.
async fn drive(connection: impl Future<Output = hyper::Result<()>>, link: Arc<Link>, idle: Duration) {
    let mut connection = std::pin::pin!(connection);
    let mut alarm = Alarm::default();
    let ended = poll_fn(|cx| {
        if connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            let since = link.idle_since();
            ready!(alarm.poll_until(since.unwrap_or_else(Instant::now) + idle, cx));
            if since.is_some() {
                return Poll::Ready(());
            }
        }
    });
    ended.await;
}

/// A request that was not answered, and itself if nothing of it was sent.
pub(super) struct Unsent {
    pub(super) error: hyper::Error,
    pub(super) request: Option<Request<Body>>,
}

impl Sender {
    /// The facts of the flow.
    pub fn connection(&self) -> &Connection {
        &self.link.connection
    }

    /// The version that is spoken.
    pub fn version(&self) -> Version {
        if self.is_shared() { Version::HTTP_2 } else { Version::HTTP_11 }
    }

    /// Whether the connection is closed.
    pub fn is_closed(&self) -> bool {
        match &self.wire {
            Wire::H1(sender) => sender.is_closed(),
            Wire::H2(sender) => sender.is_closed(),
        }
    }

    /// Sends `request`, whose URL is absolute, and waits for the head of its response. Not cancel safe: the request
    /// may have been sent; over HTTP/1 the connection is closed then.
    ///
    /// # Errors
    /// If the connection is closed, or breaks, or `Content-Length` is not that of the body.
    pub async fn send<B>(&mut self, request: Request<B>) -> Result<Response<ResponseBody>, Error>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let url = request.uri().clone();
        let upgrading = request.headers().contains_key(UPGRADE);
        let request = request.map(Body::new);
        check_length(request.headers(), request.method(), request.body()).map_err(|error| error.at(&url))?;
        self.ready().await.map_err(|error| Error::caused(Stage::Send, self.explain(error)).at(&url))?;
        let sent = self.exchange(request).await;
        let response = sent.map_err(|Unsent { error, request }| {
            let stage = if request.is_some() { Stage::Send } else { Stage::Wait };
            Error::caused(stage, self.explain(error)).at(&url)
        })?;
        understood(&response, upgrading).map_err(|error| error.at(&url))?;
        let lease = Lease::of(&self.link);
        Ok(response.map(|body| ResponseBody::new(body, lease)))
    }

    /// Why it is of no use.
    pub(super) fn explain(&self, error: hyper::Error) -> Lost {
        self.link.heard.explain(error, self.version(), &self.link.connection)
    }

    /// Whether any number of requests may share it.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.wire, Wire::H2(_))
    }

    /// Another handle of it, if it may be shared.
    pub(super) fn share(&self) -> Option<Self> {
        match &self.wire {
            Wire::H1(_) => None,
            Wire::H2(sender) => {
                Some(Self { wire: Wire::H2(sender.clone()), link: self.link.clone(), said: None })
            }
        }
    }

    /// Once it can take a request.
    pub(super) async fn ready(&mut self) -> hyper::Result<()> {
        poll_fn(|cx| match &mut self.wire {
            Wire::H1(sender) => sender.poll_ready(cx),
            Wire::H2(sender) => sender.poll_ready(cx),
        })
        .await
    }

    /// Sends, and waits for the head.
    pub(super) async fn exchange(
        &mut self,
        mut request: Request<Body>,
    ) -> Result<Response<hyper::body::Incoming>, Unsent> {
        let tunnel = self.is_shared() && request.method() == Method::CONNECT;
        let sent = match &mut self.wire {
            Wire::H1(sender) => {
                frame(&mut request);
                let url = to_origin_form(&mut request, &mut self.said);
                sender.try_send_request(request).await.map_err(|mut error| {
                    let mut request = error.take_message();
                    if let Some(request) = &mut request {
                        *request.uri_mut() = url;
                    }
                    Unsent { error: error.into_error(), request }
                })
            }
            Wire::H2(sender) => {
                *request.version_mut() = Version::HTTP_2;
                host_to_authority(&mut request);
                slash_before_query(&mut request);
                sender.try_send_request(request).await.map_err(|mut error| {
                    let request = error.take_message();
                    Unsent { error: error.into_error(), request }
                })
            }
        };
        sent.map(|mut response| {
            response.extensions_mut().insert(self.link.connection.clone());
            if tunnel && response.status().is_success() {
                response.extensions_mut().insert(Held(Arc::new(Lease::of(&self.link))));
            }
            response
        })
    }
}

/// Whether what `Content-Length` says of the body, if it says something, can be true (RFC 9110 section 8.6). HEAD, of
/// which none is expected, is let be.
pub(super) fn check_length(headers: &HeaderMap, method: &Method, body: &Body) -> Result<(), Error> {
    let wrong = |why| Err(Error::what(Stage::Request, format!("Content-Length says {why}")));
    for value in headers.get_all(CONTENT_LENGTH) {
        let text = value.to_str().ok().filter(|text| !text.starts_with('+'));
        let Some(said) = text.and_then(|text| text.parse::<u64>().ok()) else {
            return wrong(format!("`{}`, which is no length", value.as_bytes().escape_ascii()));
        };
        match body.size_hint().exact() {
            Some(has) if has != said && method != Method::HEAD => {
                return wrong(format!("{said}, and the body has {has} bytes"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What HTTP/1.1 has to be told of a request: that `TE` is for one hop (RFC 9110 section 10.1.4); that there is no body,
/// where one is expected (section 8.6); and that there is one of unknown length, where hyper takes it that the method has
/// none.
fn frame(request: &mut Request<Body>) {
    let expects_content = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    let empty = request.body().is_end_stream() && !request.headers().contains_key(UPGRADE);
    let unsized_body = !request.body().is_end_stream() && request.body().size_hint().exact().is_none();
    let seldom = matches!(*request.method(), Method::GET | Method::HEAD);
    let headers = request.headers_mut();
    if expects_content && empty {
        headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
    }
    if unsized_body && seldom && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if headers.contains_key(TE) && !headers.get_all(CONNECTION).iter().any(|option| option == "te") {
        headers.append(CONNECTION, HeaderValue::from_static("te"));
    }
}

/// Whether `response` is one that can be taken for what it says.
pub(super) fn understood<B>(response: &Response<B>, upgrading: bool) -> Result<(), Error> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && !upgrading {
        return Err(Error::what(Stage::Wait, "the server switched protocols, which was not asked for"));
    }
    if !is_coding_known(response.headers()) {
        let codings = response.headers().get_all(TRANSFER_ENCODING).iter();
        let codings: Vec<_> = codings.map(|coding| coding.as_bytes().escape_ascii().to_string()).collect();
        let why =
            format!("its body is encoded for transfer by `{}`, which was not asked for", codings.join(", "));
        return Err(Error::what(Stage::Wait, why));
    }
    Ok(())
}

/// The form of the target that HTTP/1.1 has for its method (RFC 9112 section 3.2), and the field `Host`. Gives
/// back what the URL was.
fn to_origin_form(request: &mut Request<Body>, said: &mut Option<Box<Said>>) -> Uri {
    *request.version_mut() = Version::HTTP_11;
    let url = request.uri().clone();
    if !request.headers().contains_key(HOST)
        && let Some(authority) = url.authority()
    {
        let is_known = said.as_deref().is_some_and(|said| {
            (Some(&said.authority), said.scheme.as_ref()) == (Some(authority), url.scheme())
        });
        if !is_known {
            let (authority, scheme) = (authority.clone(), url.scheme().cloned());
            *said =
                host_of(&authority, url.scheme_str()).map(|host| Box::new(Said { authority, scheme, host }));
        }
        if let Some(said) = said {
            request.headers_mut().insert(HOST, said.host.clone());
        }
    }
    let mut parts = http::uri::Parts::default();
    if request.method() == Method::CONNECT {
        parts.authority = url.authority().cloned();
    } else {
        let path = url.path_and_query().filter(|path| path.as_str() != "/");
        parts.path_and_query = Some(path.cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
    }
    if let Ok(target) = Uri::from_parts(parts) {
        *request.uri_mut() = target;
    }
    url
}

/// HTTP/2 has no field `Host`, but an authority (RFC 9113 section 8.3.1): who gave the one means the other.
fn host_to_authority(request: &mut Request<Body>) {
    let host = request.headers_mut().remove(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    if let Some(host) = host {
        let mut parts = request.uri().clone().into_parts();
        parts.authority = Some(host);
        if let Ok(url) = Uri::from_parts(parts) {
            *request.uri_mut() = url;
        }
    }
}

/// A URL may leave the path out (`http://a?q`), HTTP/2 may not (RFC 9113 section 8.3.1).
fn slash_before_query(request: &mut Request<Body>) {
    let path = request.uri().path_and_query().filter(|path| path.as_str().starts_with('?'));
    let Some(path) = path.and_then(|path| format!("/{}", path.as_str()).parse().ok()) else { return };
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(path);
    if let Ok(url) = Uri::from_parts(parts) {
        *request.uri_mut() = url;
    }
}

/// Without user, and without the port that goes without saying.
fn host_of(authority: &Authority, scheme: Option<&str>) -> Option<HeaderValue> {
    let host = match (authority.port_u16(), scheme) {
        (Some(80), Some("http")) | (Some(443), Some("https")) | (None, _) => authority.host().to_owned(),
        (Some(port), _) => format!("{}:{port}", authority.host()),
    };
    HeaderValue::try_from(host).ok()
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("version", &self.version())
            .field("connection", &self.link.connection)
            .finish()
    }
}
