//! The server: listeners, connections, the end.

pub(crate) mod frames;
pub(crate) mod guard;
mod refusal;
mod serve;
pub(crate) mod service;
mod stall;
mod turns;
pub(crate) mod watch;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;
use tuyau_core::names::PEER;
use tuyau_core::{BoxFuture, Flow, Key, Listener, Target};
use tuyau_tokio::Served;

pub use refusal::Refused;
pub use serve::{FlowServed, Http, Versions, serve_flow};

use crate::error::{BoxError, Limit, ServeError};
use crate::incoming::Incoming;
use crate::limits::Limits;
use crate::listener::{Name, Tagged, admitting, named};
use serve::Closing;

/// Serves HTTP on any number of listeners.
///
/// The service is any `tower::Service` of requests that can be cloned: an axum `Router` as it is. It must be ready
/// soon: a request waits for that. Requests of one HTTP/2 connection are handled side by side, each in a task of its own;
/// on a runtime of one thread, where they take turns anyway, it gets that when it first waits.
///
/// ```no_run
/// # async fn example(tcp: tuyau_core::Listener, unix: tuyau_core::Listener, stop: impl Future<Output = ()> + Send + 'static) {
/// use axum::{Router, routing::get};
/// use tuyau_http::Server;
///
/// let router = Router::<()>::new().route("/", get(|| async { "hello" }));
/// let report = Server::new(router)
///     .listen(tcp)
///     .listen_as("local", unix)
///     .graceful(stop)
///     .serve()
///     .await;
/// println!("{report}");
/// # }
/// ```
#[must_use = "nothing is served unless `serve` is awaited"]
pub struct Server<S> {
    service: S,
    http: Http,
    listeners: Vec<Listener>,
    stop: BoxFuture<'static, ()>,
    drain: Duration,
    abort: BoxFuture<'static, ()>,
    on_failure: OnFailure,
}

type OnFailure = Arc<dyn Fn(Failure) + Send + Sync>;

/// What went wrong outside of handlers.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// Nothing could be accepted, a handshake failed, or a connection's task panicked.
    Accept(tuyau_tokio::Failure),
    /// A connection ended other than by the rules of HTTP.
    Connection {
        /// Whose.
        peer: Option<Target>,
        /// Why.
        error: ServeError,
    },
}

impl<S> Server<S> {
    /// A server of this service that listens nowhere yet, with the default [`Limits`].
    pub fn new(service: S) -> Self {
        Self {
            service,
            http: Http::new(),
            listeners: Vec::new(),
            stop: Box::pin(std::future::pending()),
            drain: Duration::from_secs(10),
            abort: Box::pin(std::future::pending()),
            on_failure: Arc::new(|_| {}),
        }
    }

    /// Listens here too.
    pub fn listen(mut self, listener: Listener) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Listens here too; requests are told the name: [`Connection::listener`](crate::Connection::listener).
    pub fn listen_as(self, name: &str, listener: Listener) -> Self {
        self.listen(named(name, listener))
    }

    /// Once this is ready nothing more is accepted, idle connections end, clients are told to go
    /// (`Connection: close`, GOAWAY), and requests in flight have the [drain time](Self::drain) to end.
    pub fn graceful(mut self, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        self.stop = Box::pin(stop);
        self
    }

    /// How long requests may take to end after the stop; then their connections are closed. 10 s if not set.
    pub fn drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// Once this is ready after the stop, the drain time is over. Never, if not set.
    pub fn abort(mut self, abort: impl Future<Output = ()> + Send + 'static) -> Self {
        self.abort = Box::pin(abort);
        self
    }

    /// How much clients may cost.
    pub fn limits(self, limits: Limits) -> Self {
        self.http(|http| http.limits(limits))
    }

    /// Which versions are served.
    pub fn versions(self, versions: Versions) -> Self {
        self.http(|http| http.versions(versions))
    }

    /// See [`Http::on_error`].
    pub fn on_error(self, on_error: impl Fn(&Refused) -> Response<Bytes> + Send + Sync + 'static) -> Self {
        self.http(|http| http.on_error(on_error))
    }

    /// See [`Http::fact`].
    pub fn fact<T: Clone + Send + Sync + 'static>(self, key: &'static Key<T>) -> Self {
        self.http(|http| http.fact(key))
    }

    /// Is told what goes wrong outside of handlers. Called from tasks: it must not block.
    pub fn on_failure(mut self, on_failure: impl Fn(Failure) + Send + Sync + 'static) -> Self {
        self.on_failure = Arc::new(on_failure);
        self
    }

    fn http(mut self, change: impl FnOnce(Http) -> Http) -> Self {
        self.http = change(self.http);
        self
    }

    /// Serves until the [stop](Self::graceful), or until all listeners are closed, and then until all connections
    /// have ended. Dropped, it closes everything at once.
    ///
    /// It must be awaited in a tokio runtime.
    pub async fn serve<B>(self) -> Report
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Self { service, http, listeners, stop, drain, abort, on_failure } = self;
        let limits = http.settings().clone();
        let state = Arc::new(State {
            // Cloned under a lock, so that it need not be `Sync`.
            service: Mutex::new(service),
            http,
            closing: Arc::default(),
            addresses: Arc::default(),
            counts: Counts::default(),
            on_failure: on_failure.clone(),
        });
        let closing = state.closing.clone();
        let serving = state.clone();
        let admitted = |listener| {
            let state = state.clone();
            admitting(listener, move |peer| state.admit(peer))
        };
        let mut listeners = listeners.into_iter().map(admitted);
        let Some(first) = listeners.next() else { return Report::default() };
        let serve = tuyau_tokio::serve(first, move |flow| serving.clone().connection(flow));
        let connections = listeners
            .fold(serve, tuyau_tokio::Serve::listen)
            .stop(async move {
                stop.await;
                closing.begin();
            })
            .drain(drain)
            .abort(abort)
            .max_connections(limits.connections)
            .max_handshakes(limits.handshakes)
            .handshake_timeout(limits.handshake_time)
            .on_failure(move |failure| on_failure(Failure::Accept(failure)))
            .await;
        let Counts { requests, failed, refused, late } = &state.counts;
        Report {
            connections,
            requests: requests.load(Relaxed),
            failed: failed.load(Relaxed),
            refused: refused.load(Relaxed),
            late: late.load(Relaxed),
        }
    }
}

impl<S> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("http", &self.http)
            .field("listeners", &self.listeners)
            .finish_non_exhaustive()
    }
}

/// What was served, once it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The connections: accepted, finished, aborted at the end of the drain time.
    pub connections: Served,
    /// Requests that came, on connections that were not aborted.
    pub requests: u64,
    /// Connections that broke, or whose client does not speak HTTP as it should.
    pub failed: u64,
    /// Connections that were refused or cut off: an unknown protocol, a limit that was reached.
    pub refused: u64,
    /// Bodies and streams that were given up, because the client sent or took too little for too long.
    pub late: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, requests, failed, refused, late } = self;
        write!(f, "{connections}; {requests} requests")?;
        for (count, what) in [(failed, "broke"), (refused, "refused"), (late, "stalled")] {
            if *count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// What all connections share.
struct State<S> {
    service: Mutex<S>,
    http: Http,
    closing: Arc<Closing>,
    addresses: Arc<Addresses>,
    counts: Counts,
    on_failure: OnFailure,
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    late: AtomicU64,
}

impl<S> State<S> {
    /// A place for this peer, if there is one left; if not, that is counted and told.
    fn admit(&self, peer: Target) -> Option<Place> {
        let entered = self.addresses.enter(&peer, self.http.settings().connections_per_address);
        if let Err(limit) = &entered {
            self.counts.refused.fetch_add(1, Relaxed);
            let error = ServeError::limit(*limit);
            (self.on_failure)(Failure::Connection { peer: Some(peer), error });
        }
        entered.ok()
    }

    async fn connection<B>(self: Arc<Self>, flow: Flow)
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (place, flow) = Tagged::<Place>::take(flow);
        let (listener, flow) = Tagged::<Name>::take(flow);
        let peer = flow.fact(&PEER);
        // Who it is may not have been known before the handshake.
        let place = match (place, &peer) {
            (None, Some(known)) => match self.admit(known.clone()) {
                Some(place) => Some(place),
                None => return,
            },
            (place, _) => place,
        };
        let service = lock(&self.service).clone();
        let (served, ended) = self.http.serve_until(flow, service, &self.closing, listener).await;
        drop(place);
        let counts = &self.counts;
        counts.requests.fetch_add(served.requests, Relaxed);
        counts.late.fetch_add(served.late.into(), Relaxed);
        if let Err(error) = ended {
            let count = if error.is_refusal() { &counts.refused } else { &counts.failed };
            count.fetch_add(1, Relaxed);
            (self.on_failure)(Failure::Connection { peer, error });
        }
    }
}

/// How many connections each address has.
#[derive(Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

/// One connection among them.
struct Place(Option<(Arc<Addresses>, IpAddr)>);

impl Addresses {
    fn enter(self: &Arc<Self>, peer: &Target, most: usize) -> Result<Place, Limit> {
        let Some(address) = peer.ip().map(subscriber) else { return Ok(Place(None)) };
        let mut counts = lock(&self.0);
        let count = counts.entry(address).or_default();
        if *count >= most {
            return Err(Limit::ConnectionsPerAddress);
        }
        *count += 1;
        Ok(Place(Some((self.clone(), address))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((addresses, address)) = &self.0 {
            let mut counts = lock(&addresses.0);
            if let Some(count) = counts.get_mut(address) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(address);
                }
            }
        }
    }
}

/// The address, or the network of it that one subscriber has.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let network = address.to_bits() & (u128::MAX << 64);
            std::net::Ipv6Addr::from_bits(network).into()
        }
    }
}

/// Nothing panics while a lock is held, but a service's `clone`, which leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
