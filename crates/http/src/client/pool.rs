//! Connections that are used again.
//!
//! A connection may serve a context if that has the same bindings in all places that the connection's
//! resolution read, by identity. Whatever told it where, through what and as whom to connect is among
//! them: no list of fields to forget one in.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tuyau_core::names::{ALPN, DEADLINE, HOST, POLICY, PORT};
use tuyau_core::{BoxFuture, ConnectCx, Context, Flow, Reads, Report, Resolved};

use super::Time;
use super::error::{Error, Stage};
use super::keys::{SCHEME, STACKS, Scheme};
use super::sender::{Sender, open};
use crate::Versions;

/// How many origins without a connection are remembered.
const ORIGINS: usize = 256;

/// What of a URL decides where one connects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) scheme: Scheme,
    pub(super) host: Arc<str>,
    pub(super) port: u16,
}

/// How connections are made and kept.
#[derive(Clone, Debug)]
pub(super) struct Keep {
    pub(super) versions: Versions,
    pub(super) connect: Option<Duration>,
    pub(super) idle: Duration,
    pub(super) most_idle: usize,
    pub(super) told: Option<Told>,
}

/// Who is told how each connection came about.
#[derive(Clone)]
pub(super) struct Told(pub(super) Arc<dyn Fn(&Report) + Send + Sync>);

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

/// All connections, of all origins and contexts.
#[derive(Default)]
pub(super) struct Pool(Mutex<HashMap<Origin, Arc<Site>>>);

/// One origin.
pub(super) struct Site {
    /// What the URL says: the same bindings for every context, so that contexts can share connections.
    says: Context,
    most_idle: usize,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    /// Of HTTP/1: each is used by one at a time. The last one used is the first to be used again.
    idle: Vec<Pooled>,
    /// Of HTTP/2.
    shared: Vec<Pooled>,
}

/// A connection, and whom it may serve.
struct Pooled {
    sender: Sender,
    reads: Arc<Known>,
}

/// What the resolution of a connection read.
pub(super) struct Known {
    reads: Reads,
    /// The route that it was last found to match.
    matched: AtomicU64,
}

/// One context's way to one origin.
pub(super) struct Route {
    id: u64,
    ctx: Context,
    /// How long a resolution may take by the context itself, if it has a clock.
    allowed: Option<Duration>,
    site: Arc<Site>,
    /// Whether one connection serves one request at a time, as far as is known: if not, one dial is enough for all who
    /// wait.
    exclusive: AtomicBool,
    dialling: tokio::sync::Mutex<Dialled>,
    dials: AtomicU64,
}

/// What the last dial that others waited for came to.
#[derive(Default)]
struct Dialled {
    failed: Option<(u64, Error)>,
}

/// A connection to send one request on.
pub(super) struct Checkout {
    pub(super) sender: Sender,
    pub(super) known: Arc<Known>,
    pub(super) reused: bool,
}

impl Pool {
    fn site(&self, origin: &Origin, keep: &Keep) -> Arc<Site> {
        let mut sites = lock(&self.0);
        if let Some(site) = sites.get(origin) {
            return site.clone();
        }
        if sites.len() >= ORIGINS {
            sites.retain(|_, site| Arc::strong_count(site) > 1 || site.is_in_use());
        }
        let site = Arc::new(Site {
            says: Context::new()
                .with(&SCHEME, origin.scheme)
                .with(&HOST, origin.host.clone())
                .with(&PORT, origin.port),
            most_idle: keep.most_idle,
            connections: Mutex::default(),
        });
        sites.insert(origin.clone(), site.clone());
        site
    }

    /// The way of `ctx` to `origin`; `id` is its own.
    pub(super) fn route(&self, id: u64, ctx: &Context, origin: &Origin, keep: &Keep) -> Result<Route, Error> {
        let plain = ConnectCx::new(ctx).and_then(|cx| {
            let allowed = cx.runtime().map(|_| cx.get(&DEADLINE)).transpose()?;
            Ok((cx.get(&STACKS)?, cx.get(&POLICY)?, allowed.map(|allowed| allowed.unwrap_or(Duration::MAX))))
        });
        let (stacks, policy, allowed) = plain.map_err(|error| Error::caused(Stage::Resolve, error))?;
        let site = self.site(origin, keep);
        let alpn: &[&[u8]] = match keep.versions {
            Versions::All => &[b"h2", b"http/1.1"],
            Versions::Http1 => &[b"http/1.1"],
            Versions::Http2 => &[b"h2"],
        };
        let alpn: Arc<[Vec<u8>]> = alpn.iter().map(|name| name.to_vec()).collect();
        let mut ctx = ctx.clone().under(Context::new().with(&ALPN, alpn)).merge(site.says.clone());
        if origin.scheme == Scheme::Https {
            ctx = ctx.with(&POLICY, policy.unwrap_or_default().encrypted_end_to_end());
        }
        if let Some(stacks) = stacks {
            ctx = stacks.apply(origin.scheme, ctx);
        }
        Ok(Route {
            id,
            ctx,
            allowed,
            site,
            exclusive: AtomicBool::new(keep.versions == Versions::Http1),
            dialling: tokio::sync::Mutex::default(),
            dials: AtomicU64::new(0),
        })
    }
}

impl Route {
    /// A connection: one that is there, or a new one. Cancel safe: whoever waits for the same dial goes on with
    /// one of its own.
    pub(super) async fn checkout(&self, keep: &Keep, fresh: bool, time: Time) -> Result<Checkout, Error> {
        let before = self.dials.load(Relaxed);
        if !fresh && let Some(found) = time.keep(Stage::Connect, self.find()).await? {
            return Ok(found);
        }
        if self.exclusive.load(Relaxed) {
            return self.dial(keep, time).await;
        }
        let dialling = async { Ok(self.dialling.lock().await) };
        let mut dialled = time.keep(Stage::Connect, dialling).await?;
        if let Some((dial, error)) = &dialled.failed
            && *dial > before
        {
            return Err(error.clone());
        }
        if (!fresh || self.dials.load(Relaxed) > before)
            && let Some(found) = time.keep(Stage::Connect, self.find()).await?
        {
            return Ok(found);
        }
        if self.exclusive.load(Relaxed) {
            drop(dialled);
            return self.dial(keep, time).await;
        }
        let result = self.dial(keep, time).await;
        // Others may have more time.
        let failed = result.as_ref().err().filter(|error| !(error.is_timeout() && time.until.is_some()));
        dialled.failed = failed.map(|error| (self.dials.load(Relaxed), error.clone()));
        result
    }

    /// A flow of its own, in no pool.
    pub(super) async fn connect(&self, keep: &Keep) -> Result<Flow, Error> {
        Ok(self.resolve(keep, Time::of(keep.connect)).await?.into_flow())
    }

    async fn resolve(&self, keep: &Keep, time: Time) -> Result<Resolved, Error> {
        let resolved = match time.until.zip(self.allowed) {
            // The deadline goes down the way, so that whoever was waited for is named.
            Some((until, allowed)) => {
                let left = until.saturating_duration_since(Instant::now());
                self.ctx.clone().with(&DEADLINE, left.min(allowed)).resolve().await.map_err(Error::unresolved)
            }
            None => {
                let resolving = async { self.ctx.resolve().await.map_err(Error::unresolved) };
                time.keep(Stage::Connect, resolving).await
            }
        }?;
        if let Some(Told(told)) = &keep.told {
            told(&resolved.report());
        }
        Ok(resolved)
    }

    /// Boxed: most requests find a connection, and need not carry the room for this about.
    fn dial<'a>(&'a self, keep: &'a Keep, time: Time) -> BoxFuture<'a, Result<Checkout, Error>> {
        Box::pin(self.dial_anew(keep, time))
    }

    async fn dial_anew(&self, keep: &Keep, time: Time) -> Result<Checkout, Error> {
        let time = Time::of(keep.connect).or(time);
        let connecting = async {
            let resolved = self.resolve(keep, time).await?;
            let reads = resolved.reads();
            let opening = open(resolved.into_flow(), keep.versions, keep.idle);
            Ok::<_, Error>((time.keep(Stage::Connect, opening).await?, reads))
        };
        let result = connecting.await;
        self.dials.fetch_add(1, Relaxed);
        let (sender, reads) = result?;
        let known = Arc::new(Known { reads, matched: AtomicU64::new(self.id) });
        self.exclusive.store(!sender.is_shared(), Relaxed);
        if let Some(shared) = sender.share() {
            let pooled = Pooled { sender: shared, reads: known.clone() };
            let mut connections = lock(&self.site.connections);
            connections.shared.retain(|pooled| !pooled.sender.is_closed());
            connections.shared.push(pooled);
        }
        Ok(Checkout { sender, known, reused: false })
    }

    /// One that is there and alive.
    async fn find(&self) -> Result<Option<Checkout>, Error> {
        while let Some(mut found) = self.take() {
            // Over HTTP/1 its task may still have to note that the last response was read; a dead one says so.
            if found.sender.ready().await.is_ok() {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn take(&self) -> Option<Checkout> {
        let mut connections = lock(&self.site.connections);
        connections.shared.retain(|pooled| !pooled.sender.is_closed());
        if let Some(pooled) = connections.shared.iter().find(|pooled| pooled.reads.matches(self))
            && let Some(sender) = pooled.sender.share()
        {
            return Some(Checkout { sender, known: pooled.reads.clone(), reused: true });
        }
        connections.idle.retain(|pooled| !pooled.sender.is_closed());
        let place = connections.idle.iter().rposition(|pooled| pooled.reads.matches(self))?;
        let Pooled { sender, reads } = connections.idle.remove(place);
        Some(Checkout { sender, known: reads, reused: true })
    }

    pub(super) fn site(&self) -> &Arc<Site> {
        &self.site
    }
}

impl Known {
    fn matches(&self, route: &Route) -> bool {
        if self.matched.load(Relaxed) == route.id {
            return true;
        }
        let matches = self.reads.matches(&route.ctx);
        if matches {
            self.matched.store(route.id, Relaxed);
        }
        matches
    }
}

impl Site {
    /// A connection of HTTP/1 whose response was read to its end.
    pub(super) fn give_back(&self, checkout: Checkout) {
        let Checkout { sender, known: reads, reused: _ } = checkout;
        if sender.is_closed() || sender.is_shared() {
            return;
        }
        let mut connections = lock(&self.connections);
        if connections.idle.len() >= self.most_idle {
            connections.idle.retain(|pooled| !pooled.sender.is_closed());
        }
        if connections.idle.len() < self.most_idle {
            connections.idle.push(Pooled { sender, reads });
        }
    }

    fn is_in_use(&self) -> bool {
        let mut connections = lock(&self.connections);
        let Connections { idle, shared } = &mut *connections;
        for pooled in [idle, shared] {
            pooled.retain(|pooled| !pooled.sender.is_closed());
        }
        !(connections.idle.is_empty() && connections.shared.is_empty())
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(lock(&self.0).keys()).finish()
    }
}

/// Nothing panics while a lock is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
