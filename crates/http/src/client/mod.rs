//! The client: requests, and the connections below them.

mod body;
mod connector;
#[cfg(feature = "cookies")]
mod cookies;
mod error;
mod heard;
mod keys;
mod multipart;
mod pool;
mod redirect;
mod request;
mod response;
mod sender;

pub use body::Body;
pub use connector::{Connected, Connector};
#[cfg(feature = "cookies")]
pub use cookies::Cookies;
pub use error::{Error, Stage};
pub(crate) use heard::Listening;
pub use keys::{SCHEME, STACKS, Scheme, Stacks};
pub use multipart::Multipart;
pub use request::RequestBuilder;
pub use response::ResponseBody;
pub use sender::{Sender, handshake};

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, HeaderName, RANGE, UPGRADE};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body::Body as HttpBody;
use tokio::time::{Instant, timeout_at};
use tuyau_core::{Context, Flow, Report};

use crate::Versions;
use crate::error::BoxError;
use crate::incoming::FOR_EVER;
use pool::{Checkout, Keep, Origin, Pool, Route, Told};
use response::{Lease, ResponseBody as Incoming};
use sender::{Unsent, check_length, understood};

/// Asks for what is at URLs. Of a URL, the client puts scheme, host and port into its context ([`SCHEME`],
/// `names::HOST`, `names::PORT`); all else, from the lookup of names over proxies to TLS, is the context's. What it
/// can't do for [`https`](Scheme::Https) but in clear, it does not do.
///
/// Clones are cheap, and share connections. A connection is used again by whoever would have connected alike: whose
/// context has the same bindings in all places that its resolution read. (Two contexts with different client
/// certificates, proxies or roots never share one.)
///
/// ```no_run
/// # async fn example(ctx: tuyau_core::Context) -> Result<(), tuyau_http::Error> {
/// use tuyau_http::Client;
///
/// let client = Client::new(ctx);
/// let response = client.get("http://example.org/").send().await?;
/// println!("{} {}", response.status(), response.into_body().text().await?);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    /// The context and what was found in it.
    routes: Arc<Routes>,
    pool: Arc<Pool>,
    settings: Arc<Settings>,
    #[cfg(feature = "cookies")]
    cookies: Option<Cookies>,
}

struct Routes {
    ctx: Context,
    known: Mutex<Ways>,
}

#[derive(Default)]
struct Ways {
    by_origin: HashMap<Origin, Arc<Route>>,
    /// What was asked for last is mostly asked for next: that is found without looking at what the URL means.
    last: Option<(http::uri::Scheme, Authority, Arc<Route>)>,
}

/// How many origins are remembered per context.
const ROUTES: usize = 1024;

#[derive(Clone)]
struct Settings {
    keep: Keep,
    headers: HeaderMap,
    first_byte: Option<Duration>,
    idle: Option<Duration>,
    total: Option<Duration>,
    redirects: usize,
    decompress: bool,
}

/// What is said of one request only.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) total: Option<Duration>,
    pub(crate) expect_continue: bool,
    pub(crate) on_redirect: Option<Box<OnRedirect>>,
}

type OnRedirect = dyn Fn(&Response<ResponseBody>) + Send + Sync;

/// The URL that a response came from in the end: an extension of every response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalUrl(pub Uri);

/// The time that something may take.
#[derive(Clone, Copy, Default)]
struct Time {
    total: Duration,
    until: Option<Instant>,
}

impl Time {
    /// From now on.
    fn of(total: Option<Duration>) -> Self {
        let until = total.map(|total| Instant::now() + total.min(FOR_EVER));
        Self { total: total.unwrap_or_default(), until }
    }

    /// The one of the two that is over first.
    fn or(self, other: Self) -> Self {
        match (self.until, other.until) {
            (Some(until), Some(others)) if until <= others => self,
            (Some(_), None) => self,
            _ => other,
        }
    }

    /// What comes of `work`, which is all there is to `stage`.
    async fn keep<T>(self, stage: Stage, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match self.until {
            Some(until) => {
                timeout_at(until, work).await.unwrap_or_else(|_| Err(Error::late(stage, self.total)))
            }
            None => work.await,
        }
    }
}

impl Client {
    /// A client that connects by `ctx`: up to 30 s for a connection, 60 s for the response's head and for each
    /// further piece of its body, ten redirects, connections kept for 90 s.
    pub fn new(ctx: Context) -> Self {
        let settings = Settings {
            keep: Keep {
                versions: Versions::All,
                connect: Some(Duration::from_secs(30)),
                idle: Duration::from_secs(90),
                most_idle: 32,
                told: None,
            },
            headers: HeaderMap::new(),
            first_byte: Some(Duration::from_secs(60)),
            idle: Some(Duration::from_secs(60)),
            total: None,
            redirects: 10,
            decompress: true,
        };
        Self {
            routes: Arc::new(Routes { ctx, known: Mutex::default() }),
            pool: Arc::default(),
            settings: Arc::new(settings),
            #[cfg(feature = "cookies")]
            cookies: None,
        }
    }

    /// The same client, its connections too, with another context.
    pub fn with_context(&self, ctx: Context) -> Self {
        Self { routes: Arc::new(Routes { ctx, known: Mutex::default() }), ..self.clone() }
    }

    /// Which versions are spoken: what ALPN is offered (unless the context says so itself), and without ALPN
    /// HTTP/1.1, or HTTP/2 by prior knowledge with [`Versions::Http2`].
    pub fn versions(self, versions: Versions) -> Self {
        self.set(|settings| settings.keep.versions = versions).apart()
    }

    /// How long lookup, connecting and handshakes may take together.
    pub fn connect_timeout(self, timeout: Option<Duration>) -> Self {
        self.set(|settings| settings.keep.connect = timeout)
    }

    /// How long the response's head may take after the last piece of the request was handed over.
    pub fn first_byte_timeout(self, timeout: Option<Duration>) -> Self {
        self.set(|settings| settings.first_byte = timeout)
    }

    /// How long each further piece of the response's body may take.
    pub fn idle_timeout(self, timeout: Option<Duration>) -> Self {
        self.set(|settings| settings.idle = timeout)
    }

    /// How long a request may take in all: redirects, retries and the response's body included.
    pub fn timeout(self, timeout: Option<Duration>) -> Self {
        self.set(|settings| settings.total = timeout)
    }

    /// How many redirects are followed; 0: the response is what there is.
    pub fn redirects(self, most: usize) -> Self {
        self.set(|settings| settings.redirects = most)
    }

    /// Whether responses may be compressed (gzip, deflate, brotli), and are decoded; on, if not set.
    pub fn decompress(self, decompress: bool) -> Self {
        self.set(|settings| settings.decompress = decompress)
    }

    /// How long a connection is kept for the next request, and how many of HTTP/1 per origin. 90 s, 32.
    pub fn keep(self, idle: Duration, most: usize) -> Self {
        self.set(|settings| (settings.keep.idle, settings.keep.most_idle) = (idle, most)).apart()
    }

    /// Is told how each connection came about that is made. Called where the request is: it must not block.
    pub fn on_connect(self, told: impl Fn(&Report) + Send + Sync + 'static) -> Self {
        self.set(|settings| settings.keep.told = Some(Told(Arc::new(told))))
    }

    /// A field for every request that does not have it.
    pub fn header(self, name: HeaderName, value: HeaderValue) -> Self {
        self.set(|settings| drop(settings.headers.insert(name, value)))
    }

    /// Keeps and sends cookies (RFC 6265).
    #[cfg(feature = "cookies")]
    pub fn cookies(mut self, cookies: Cookies) -> Self {
        self.cookies = Some(cookies);
        self
    }

    fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }

    /// What was connected under other settings is not to be used.
    fn apart(mut self) -> Self {
        self.pool = Arc::default();
        self.routes = Arc::new(Routes { ctx: self.routes.ctx.clone(), known: Mutex::default() });
        self
    }

    /// GET `url`.
    pub fn get(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.method(Method::GET, url)
    }

    /// HEAD `url`.
    pub fn head(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.method(Method::HEAD, url)
    }

    /// POST to `url`.
    pub fn post(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.method(Method::POST, url)
    }

    /// PUT to `url`.
    pub fn put(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.method(Method::PUT, url)
    }

    /// PATCH `url` (RFC 5789).
    pub fn patch(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.method(Method::PATCH, url)
    }

    /// DELETE `url`.
    pub fn delete(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.method(Method::DELETE, url)
    }

    /// `method` on `url`.
    pub fn method(&self, method: Method, url: impl AsRef<str>) -> RequestBuilder {
        RequestBuilder::new(self.clone(), method, url.as_ref())
    }

    /// Sends `request`, whose URL is absolute, follows redirects, and gives the response as soon as its head is
    /// there. It asks for an upgrade if the request does: see [`upgrade`](crate::upgrade).
    ///
    /// A request is sent again, on another connection, if nothing of it was sent; or if the server closed a kept
    /// connection without an answer, and the request may be repeated: its method is idempotent (RFC 9110 section 9.2.2),
    /// its body is bytes. What a server of HTTP/2 did not process, as it says (RFC 9113 section 8.7), is sent again
    /// whatever its method.
    ///
    /// Cancel safe: dropped, the connection is closed, or the stream reset.
    ///
    /// # Errors
    /// If there is no response: [`Error::stage`] says how far it came. A response of any status is none.
    pub async fn request<B>(&self, request: Request<B>) -> Result<Response<ResponseBody>, Error>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut request = request.map(Body::new);
        request::user_to_field(&mut request)?;
        self.execute(request, Options::default()).await
    }

    /// A flow to the host and port of `url`, in no pool. Its error does not say which.
    pub(crate) async fn open(&self, url: &Uri) -> Result<Flow, Error> {
        self.route(url)?.connect(&self.settings.keep).await
    }

    pub(crate) async fn execute(
        &self,
        request: Request<Body>,
        options: Options,
    ) -> Result<Response<Incoming>, Error> {
        let settings = &*self.settings;
        let time = Time::of(options.total.or(settings.total));
        let (mut head, mut body) = request.into_parts();
        for (name, value) in &settings.headers {
            head.headers.entry(name).or_insert_with(|| value.clone());
        }
        // A range is one of the encoded bytes.
        let decode = settings.decompress && !head.headers.contains_key(RANGE);
        if decode {
            let codings = HeaderValue::from_static("gzip, deflate, br");
            head.headers.entry(ACCEPT_ENCODING).or_insert(codings);
        }
        check_length(&head.headers, &head.method, &body).map_err(|error| error.at(&head.uri))?;
        for left in (0..=settings.redirects).rev() {
            let again = body.try_clone();
            let sent = self.send(&head, body, &options, time).await;
            let response = sent.map_err(|error| error.at(&head.uri))?;
            #[cfg(feature = "cookies")]
            if let Some(cookies) = &self.cookies {
                cookies.store(&response, &head.uri);
            }
            let next = match settings.redirects {
                0 => Ok(None),
                _ => redirect::next(&response, &head.uri, &head.method),
            };
            // What can't be sent again is answered by the redirect itself.
            let next = next.map(|next| next.filter(|next| !next.body || again.is_some()));
            if let (Some(on_redirect), Ok(Some(_)) | Err(_)) = (&options.on_redirect, &next) {
                on_redirect(&response);
            }
            let Some(next) = next.map_err(|error| error.at(&head.uri))? else {
                let mut response = response.map(|body| body.timed(settings.idle, time.until));
                response.extensions_mut().insert(FinalUrl(head.uri));
                return Ok(if decode { response::decoded(response).await } else { response });
            };
            if left == 0 {
                let most = settings.redirects;
                return Err(Error::what(Stage::Redirect, format!("more than {most}")).at(&head.uri));
            }
            redirect::strip(&mut head.headers, &head.uri, &next);
            body = match again {
                Some(again) if next.body => again,
                _ => Body::empty(),
            };
            (head.uri, head.method) = (next.url, next.method);
        }
        unreachable!("the last round returns")
    }

    /// What is sent, of a request that may have to be sent again.
    fn request_of(&self, head: &Parts, body: Body) -> Request<Body> {
        #[cfg_attr(not(feature = "cookies"), expect(unused_mut))]
        let mut head = head.clone();
        #[cfg(feature = "cookies")]
        if let Some(cookies) = &self.cookies {
            cookies.add(&mut head);
        }
        Request::from_parts(head, body)
    }

    /// Sends on a connection that is there, or on a new one.
    async fn send(
        &self,
        head: &Parts,
        body: Body,
        options: &Options,
        time: Time,
    ) -> Result<Response<Incoming>, Error> {
        let keep = &self.settings.keep;
        let route = self.route(&head.uri)?;
        let upgrading = head.headers.contains_key(UPGRADE);
        let mut request = self.request_of(head, body);
        let mut fresh = false;
        loop {
            let Checkout { mut sender, known, reused } = route.checkout(keep, fresh, time).await?;
            let spare = if reused { request.body().try_clone() } else { None };
            let lease = Lease::of(&sender.link);
            let exchanged = {
                // Pinned, as it would be copied to wherever it is awaited.
                let exchanging = pin!(self.exchange(&mut sender, request, options));
                time.keep(Stage::Wait, exchanging).await?
            };
            let Unsent { error, request: unsent } = match exchanged {
                Ok(response) => {
                    understood(&response, upgrading)?;
                    let checkout = Checkout { sender, known, reused };
                    let lease = lease.with_return(checkout, Arc::downgrade(route.site()));
                    return Ok(response.map(|body| Incoming::new(body, lease)));
                }
                Err(unsent) => unsent,
            };
            let stage = if unsent.is_some() { Stage::Send } else { Stage::Wait };
            // A connection that was just made, and is closed already, is no accident of keeping it.
            let next = match (unsent, spare) {
                (Some(unsent), _) if reused => Some(unsent),
                (None, Some(body)) if may_repeat(&error, &head.method) => Some(self.request_of(head, body)),
                _ => None,
            };
            let Some(next) = next else { return Err(Error::caused(stage, sender.explain(error))) };
            (request, fresh) = (next, true);
        }
    }

    /// The head of the response, in time.
    async fn exchange(
        &self,
        sender: &mut Sender,
        mut request: Request<Body>,
        options: &Options,
    ) -> Result<Result<Response<hyper::body::Incoming>, Unsent>, Error> {
        if options.expect_continue && !sender.is_shared() {
            request::hold_back(&mut request);
        }
        let Some(first_byte) = self.settings.first_byte else { return Ok(sender.exchange(request).await) };
        let first_byte = first_byte.min(FOR_EVER);
        let progress = request.body_mut().progress();
        let mut until = Instant::now() + first_byte;
        let link = sender.link.clone();
        let mut alarm = link.alarm();
        let result = {
            let mut exchanging = pin!(sender.exchange(request));
            poll_fn(|cx| {
                if let Poll::Ready(result) = exchanging.as_mut().poll(cx) {
                    return Poll::Ready(Ok(result));
                }
                loop {
                    ready!(alarm.poll_until(until, cx));
                    let last = progress.as_ref().map(|progress| progress.last() + first_byte);
                    match last.filter(|last| *last > until) {
                        Some(later) => until = later,
                        None => return Poll::Ready(Err(Error::late(Stage::Wait, first_byte))),
                    }
                }
            })
            .await
        };
        link.keep(alarm);
        result
    }

    fn route(&self, url: &Uri) -> Result<Arc<Route>, Error> {
        let mut known = self.routes.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((scheme, authority, route)) = &known.last
            && (url.scheme(), url.authority()) == (Some(scheme), Some(authority))
        {
            return Ok(route.clone());
        }
        let route = self.known_or_new(&mut known.by_origin, request::origin(url)?)?;
        known.last = url
            .scheme()
            .cloned()
            .zip(url.authority().cloned())
            .map(|(scheme, authority)| (scheme, authority, route.clone()));
        Ok(route)
    }

    fn known_or_new(
        &self,
        known: &mut HashMap<Origin, Arc<Route>>,
        origin: Origin,
    ) -> Result<Arc<Route>, Error> {
        if let Some(route) = known.get(&origin) {
            return Ok(route.clone());
        }
        // Names routes apart, and nothing else: it never wraps in the life of a process.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Relaxed);
        let route = Arc::new(self.pool.route(id, &self.routes.ctx, &origin, &self.settings.keep)?);
        if known.len() >= ROUTES {
            known.clear();
        }
        known.insert(origin, route.clone());
        Ok(route)
    }
}

/// Whether a request that failed on a kept connection may be sent again, though it was sent.
fn may_repeat(error: &hyper::Error, method: &Method) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        // RFC 9113 section 8.7: it was not processed.
        if error.downcast_ref::<h2::Error>().is_some_and(is_unprocessed) {
            return true;
        }
        cause = error.source();
    }
    let closed = error.is_incomplete_message() || error.is_canceled() || error.is_closed() || is_reset(error);
    closed && method.is_idempotent()
}

/// A stream that was refused, or is above the last that a server answers that is about to go.
fn is_unprocessed(error: &h2::Error) -> bool {
    let leaves = error.is_go_away() && error.is_remote();
    match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => true,
        reason => leaves && reason == Some(h2::Reason::NO_ERROR),
    }
}

fn is_reset(error: &hyper::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof);
        }
        if let Some(io) = error.downcast_ref::<h2::Error>() {
            return io.is_io() || io.is_go_away();
        }
        cause = error.source();
    }
    false
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("pool", &self.pool).finish_non_exhaustive()
    }
}
