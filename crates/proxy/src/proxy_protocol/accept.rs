//! Headers on listeners.

use std::sync::Arc;
use std::time::Duration;

use tuyau_core::names::{LOCAL, PEER};
use tuyau_core::{
    Ask, BoxFuture, ConnectCx, ConnectError, ConnectErrorKind, Context, Flow, Key, Layer, Listener, Network,
    Role, SharedRuntime,
};

use super::header::{Decoded, Header};
use crate::error::said;
use crate::handshake::{Broken, Handshake};
use crate::relabelled::{Label, relabelled};
use crate::within::within;

/// A fact: the PROXY protocol header that an accepted flow began with.
pub static HEADER: Key<Arc<Header>> = Key::new("proxy-header");

/// Reads the header (either version) that each accepted flow must begin with. Whoever is believed can say
/// to be anybody, so only named networks are; what comes from elsewhere is refused.
///
/// A [`Layer`] for the side that accepts: see [`listen`](Self::listen).
#[derive(Clone, Debug)]
pub struct AcceptProxy {
    from: Vec<Network>,
    unaddressed: bool,
    timeout: Duration,
}

impl AcceptProxy {
    /// Believes headers from `networks`.
    pub fn from_networks(networks: impl IntoIterator<Item = Network>) -> Self {
        let from = networks.into_iter().collect();
        Self { from, unaddressed: false, timeout: Duration::from_secs(5) }
    }

    /// Believes headers also from peers that have no IP address: whoever may connect to the Unix socket.
    pub fn and_unaddressed(mut self) -> Self {
        self.unaddressed = true;
        self
    }

    /// How long a header may take to come. 5 s if not set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// `listener`, whose flows begin with a header. It is read in the handshake, off the accept loop.
    ///
    /// # Errors
    /// If `ctx` has no [`RUNTIME`](tuyau_core::names::RUNTIME): without, a silent peer could not be
    /// dropped in time.
    pub fn listen(self, listener: Listener, ctx: &Context) -> Result<Listener, ConnectError> {
        clock(&ConnectCx::new(ctx)?)?;
        Ok(listener.layered(Arc::new(self), ctx))
    }

    /// # Errors
    /// Unless the header that `inner` begins with is to be believed.
    async fn read(&self, inner: Flow) -> Result<Flow, ConnectError> {
        let peer = inner.fact(&PEER);
        let who = peer.as_ref().map_or_else(|| "the peer".into(), |peer| format!("peer {peer}"));
        let believed = match peer.and_then(|peer| peer.ip()) {
            Some(ip) => self.from.iter().any(|network| network.contains(ip)),
            None => self.unaddressed,
        };
        if !believed {
            let what = format!("{who} is in none of the networks that may send PROXY protocol headers here");
            return Err(ConnectError::new(ConnectErrorKind::Policy, what)
                .with_hint("add its network if it's a proxy of yours; clients must go through one"));
        }
        let mut handshake = Handshake::new(inner);
        match header(&mut handshake).await {
            Ok(Ok(header)) => Ok(relabelled(handshake.into_flow(), Told(Arc::new(header)))),
            Ok(Err(error)) => {
                let what = format!("{who} sent no good PROXY protocol header: {}", said(handshake.unread()));
                Err(ConnectError::new(ConnectErrorKind::Protocol, what)
                    .with_source(error)
                    .with_hint("does the proxy in front send one (haproxy: send-proxy-v2)?"))
            }
            Err(broken) => {
                let hint = "a health check, or somebody who expects this side to speak first";
                Err(broken.explain(&who, "within its PROXY protocol header", &handshake, hint))
            }
        }
    }
}

async fn header(handshake: &mut Handshake) -> Result<Result<Header, super::HeaderError>, Broken> {
    loop {
        match Header::decode(handshake.unread()) {
            Ok(Decoded::Partial(_)) => handshake.more().await?,
            Ok(Decoded::Complete { header, length }) => {
                handshake.skip(length);
                return Ok(Ok(header));
            }
            Err(error) => return Ok(Err(error)),
        }
    }
}

fn clock(cx: &ConnectCx<'_>) -> Result<SharedRuntime, ConnectError> {
    cx.runtime().cloned().ok_or_else(|| {
        ConnectError::new(ConnectErrorKind::Misuse, "reading PROXY protocol headers needs a runtime")
            .with_hint("bind RUNTIME: silent peers could not be dropped in time without")
    })
}

impl Layer for AcceptProxy {
    fn describe(&self) -> String {
        "proxy-protocol".into()
    }

    fn keeps_peer(&self) -> bool {
        false
    }

    fn wrap<'a>(
        &'a self,
        inner: Flow,
        role: Role,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Flow, ConnectError>> {
        Box::pin(async move {
            if role == Role::Client {
                let what = "the side that connects sends a PROXY protocol header, and reads none";
                return Err(
                    ConnectError::new(ConnectErrorKind::Misuse, what).with_hint("use SendProxy there")
                );
            }
            let who = inner.fact(&PEER).map_or_else(|| "the peer".into(), |peer| format!("peer {peer}"));
            within(&clock(cx)?, self.timeout, self.read(inner)).await.unwrap_or_else(|| {
                let what = format!("{who} sent no whole PROXY protocol header in {:?}", self.timeout);
                Err(ConnectError::new(ConnectErrorKind::TimedOut, what)
                    .with_hint("does the proxy in front send one (haproxy: send-proxy-v2)?"))
            })
        })
    }
}

/// What the header told about the flow.
struct Told(Arc<Header>);

impl Label for Told {
    fn fact(&self, ask: &mut Ask<'_>, _below: &Flow) {
        ask.answer(&HEADER, || self.0.clone());
        // Without addresses, those of the connection itself hold.
        if let Some(addresses) = self.0.addresses() {
            ask.answer(&PEER, || addresses.source.clone()).answer(&LOCAL, || addresses.destination.clone());
        }
    }
}
