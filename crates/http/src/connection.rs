//! What a handler is told of the connection that its request came by.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use tuyau_core::names::{LOCAL, NEGOTIATED_ALPN, PEER, PEER_CERTIFICATES, SECURITY};
use tuyau_core::{Ask, Flow, Key, KeyRef, Protection, Target};

/// The connection that a request came by: an extension of every request that is served. Cheap to clone.
///
/// ```
/// # use tuyau_http::Connection;
/// # fn example(request: http::Request<()>) -> Option<()> {
/// let connection = request.extensions().get::<Connection>()?;
/// println!("from {:?}, by {:?}", connection.peer(), connection.listener());
/// # Some(()) }
/// ```
#[derive(Clone)]
pub struct Connection(Arc<Facts>);

struct Facts {
    listener: Option<Arc<str>>,
    peer: Option<Target>,
    local: Option<Target>,
    security: Protection,
    alpn: Option<Arc<[u8]>>,
    certificates: Option<Arc<[Vec<u8>]>>,
    others: Vec<(KeyRef, Box<dyn Any + Send + Sync>)>,
}

/// A further fact that handlers may ask for.
pub(crate) type Fact = Arc<dyn Fn(&Flow) -> Option<(KeyRef, Box<dyn Any + Send + Sync>)> + Send + Sync>;

impl Connection {
    pub(crate) fn of(flow: &Flow, listener: Option<Arc<str>>, others: &[Fact]) -> Self {
        Self(Arc::new(Facts {
            listener,
            peer: flow.fact(&PEER),
            local: flow.fact(&LOCAL),
            security: flow.fact(&SECURITY).unwrap_or_default(),
            alpn: flow.fact(&NEGOTIATED_ALPN),
            certificates: flow.fact(&PEER_CERTIFICATES),
            others: others.iter().filter_map(|fact| fact(flow)).collect(),
        }))
    }

    /// The address of the client.
    pub fn peer(&self) -> Option<&Target> {
        self.0.peer.as_ref()
    }

    /// The address that the client connected to.
    pub fn local(&self) -> Option<&Target> {
        self.0.local.as_ref()
    }

    /// How far the connection is protected.
    pub fn security(&self) -> Protection {
        self.0.security
    }

    /// What ALPN (RFC 7301) agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.0.alpn.as_deref()
    }

    /// The certificates that the client showed, its own first, each in DER.
    pub fn certificates(&self) -> &[Vec<u8>] {
        self.0.certificates.as_deref().unwrap_or_default()
    }

    /// The name of the listener that accepted it, if that was given one.
    pub fn listener(&self) -> Option<&str> {
        self.0.listener.as_deref()
    }

    /// Answers for a stream of this connection.
    pub(crate) fn answer(&self, ask: &mut Ask<'_>) {
        let facts = &*self.0;
        ask.answer(&SECURITY, || facts.security);
        if let Some(peer) = &facts.peer {
            ask.answer(&PEER, || peer.clone());
        }
        if let Some(local) = &facts.local {
            ask.answer(&LOCAL, || local.clone());
        }
        if let Some(alpn) = &facts.alpn {
            ask.answer(&NEGOTIATED_ALPN, || alpn.clone());
        }
        if let Some(certificates) = &facts.certificates {
            ask.answer(&PEER_CERTIFICATES, || certificates.clone());
        }
    }

    /// A fact of the flow's that the server was told to keep: see [`Http::fact`](crate::Http::fact).
    pub fn fact<T: Clone + 'static>(&self, key: &'static Key<T>) -> Option<T> {
        let (_, value) = self.0.others.iter().find(|(other, _)| *other == key.erase())?;
        value.downcast_ref().cloned()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("listener", &self.0.listener)
            .field("peer", &self.0.peer)
            .field("local", &self.0.local)
            .field("security", &self.0.security)
            .finish_non_exhaustive()
    }
}
