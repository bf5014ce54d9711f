//! Listeners: they accept flows.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;
use core::future::poll_fn;
use core::task::{self, Poll, ready};

use crate::names::PEER;
use crate::{BoxFuture, ConnectCx, ConnectError, Context, Flow, Role, SharedLayer, Target};

/// What a transport implements to be accepted from. Dropping it stops listening, and removes what
/// it left in the file system.
pub trait RawListener: Send + Sync + 'static {
    /// The next connection. Never waits for a handshake: see [`Accepted`].
    fn poll_accept(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<Accepted, AcceptError>>;

    /// Where it listens: with the port that the system chose, if it was asked to.
    fn local(&self) -> Target;

    /// All the places where it listens, [`local`](Self::local) first: a name may have several addresses. That one alone,
    /// if not said otherwise; whoever wraps a listener passes on what that says.
    fn locals(&self) -> Vec<Target> {
        vec![self.local()]
    }
}

/// Accepts flows of unknown make.
pub struct Listener(Box<dyn RawListener>);

impl Listener {
    /// A listener over `raw`.
    pub fn new(raw: impl RawListener) -> Self {
        Self(Box::new(raw))
    }

    /// The next connection, its handshake not yet done. Cancel safe.
    ///
    /// Most servers want `serve` from the crate of their runtime: it gets the loop around this right.
    pub async fn accept(&mut self) -> Result<Accepted, AcceptError> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// See [`RawListener::poll_accept`].
    pub fn poll_accept(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<Accepted, AcceptError>> {
        self.0.poll_accept(cx)
    }

    /// Where it listens: the first of [`locals`](Self::locals).
    pub fn local(&self) -> Target {
        self.0.local()
    }

    /// All the places where it listens: each address of the name that it was asked to listen on.
    pub fn locals(&self) -> Vec<Target> {
        self.0.locals()
    }

    /// The same, with every flow wrapped in `layer`, as the server; the layer reads its settings in
    /// `ctx`. The handshakes are left to who [finishes](Accepted::finish) what is accepted: one that
    /// hangs keeps nobody else waiting.
    pub fn layered(self, layer: SharedLayer, ctx: &Context) -> Self {
        Self::new(Layered { inner: self, layer, ctx: ctx.clone() })
    }
}

struct Layered {
    inner: Listener,
    layer: SharedLayer,
    ctx: Context,
}

impl RawListener for Layered {
    fn poll_accept(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<Accepted, AcceptError>> {
        let accepted = ready!(self.inner.poll_accept(cx))?;
        let (layer, ctx) = (self.layer.clone(), self.ctx.clone());
        let peer = accepted.peer().filter(|_| layer.keeps_peer());
        let handshake: BoxFuture<'static, _> = Box::pin(async move {
            let flow = accepted.finish().await?;
            layer.wrap(flow, Role::Server, &ConnectCx::new(&ctx)?).await
        });
        Poll::Ready(Ok(match peer {
            Some(peer) => Accepted::HandshakeWith(peer, handshake),
            None => Accepted::Handshake(handshake),
        }))
    }

    fn local(&self) -> Target {
        self.inner.local()
    }

    fn locals(&self) -> Vec<Target> {
        self.inner.locals()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener({})", self.local())
    }
}

/// A connection that was accepted: a flow, or the handshake that will make it one.
pub enum Accepted {
    /// Ready to be used.
    Flow(Flow),
    /// Still to be done, away from the accept loop.
    Handshake(BoxFuture<'static, Result<Flow, ConnectError>>),
    /// The same, with a peer whose address is known already.
    HandshakeWith(Target, BoxFuture<'static, Result<Flow, ConnectError>>),
}

impl Accepted {
    /// Who is there, as far as that is known before the handshake.
    pub fn peer(&self) -> Option<Target> {
        match self {
            Self::Flow(flow) => flow.fact(&PEER),
            Self::Handshake(_) => None,
            Self::HandshakeWith(peer, _) => Some(peer.clone()),
        }
    }

    /// The flow, once the handshake is done. Dropping the future closes the connection.
    pub async fn finish(self) -> Result<Flow, ConnectError> {
        match self {
            Self::Flow(flow) => Ok(flow),
            Self::Handshake(handshake) | Self::HandshakeWith(_, handshake) => handshake.await,
        }
    }
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flow(flow) => f.debug_tuple("Flow").field(flow).finish(),
            Self::Handshake(_) => f.write_str("Handshake"),
            Self::HandshakeWith(peer, _) => f.debug_tuple("Handshake").field(peer).finish(),
        }
    }
}

/// Why nothing was accepted.
#[derive(Debug)]
pub struct AcceptError {
    kind: AcceptErrorKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What an accept loop does about an [`AcceptError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AcceptErrorKind {
    /// That one connection died before it was accepted: go on at once.
    Connection,
    /// The process or the system has no more descriptors or memory: wait a little, then go on.
    Exhausted,
    /// The listener can accept no more, and never will: stop.
    Closed,
}

impl AcceptError {
    /// An error without a source.
    pub const fn new(kind: AcceptErrorKind) -> Self {
        Self { kind, source: None }
    }

    /// An error that `source` caused.
    pub fn with_source(kind: AcceptErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, source: Some(source.into()) }
    }

    /// What to do about it.
    pub const fn kind(&self) -> AcceptErrorKind {
        self.kind
    }
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            AcceptErrorKind::Connection => "a connection died before it was accepted",
            AcceptErrorKind::Exhausted => "no more descriptors or memory to accept with",
            AcceptErrorKind::Closed => "the listener is closed",
        })
    }
}

impl Error for AcceptError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
