//! Headers towards a peer.

use std::fmt;

use tuyau_core::names::{LOCAL, PEER};
use tuyau_core::{
    AnyEndpoint, BoxFuture, ConnectCx, ConnectError, ConnectErrorKind, Context, Dial, Endpoint, Flow, Key,
    Layer, Protocol, Role, dial, or,
};

use super::header::{Header, HeaderError, Version};

/// What is sent, if something lies over [`PROXY_PROTOCOL`]. If absent: [`SendProxy::new`] of version 2.
pub static SEND_PROXY: Key<SendProxy> = Key::new("send-proxy");
/// A connection that begins with a PROXY protocol header. See [`over`].
pub static PROXY_PROTOCOL: Endpoint<ProxyProtocol> = Endpoint::new("proxy-protocol", &ProxyProtocol);

/// The protocol of [`PROXY_PROTOCOL`].
#[derive(Clone, Copy, Debug)]
pub struct ProxyProtocol;

/// What to connect to, and what to tell it first.
#[derive(Clone, Debug)]
pub struct ProxyEndpoint {
    /// What is connected.
    pub below: Dial,
    /// What is sent.
    pub send: SendProxy,
}

/// Sends a header before all else. A [`Layer`] for the side that connects; the flow itself stays as it was.
#[derive(Clone, Debug)]
pub struct SendProxy {
    version: Version,
    header: Option<Header>,
}

impl SendProxy {
    /// Tells the addresses of the connection itself, as curl's `--haproxy-protocol` does. Fails where they
    /// are not known as what this version can carry.
    pub fn new(version: Version) -> Self {
        Self { version, header: None }
    }

    /// Sends this header: whose connection it is that is carried on.
    pub fn header(header: Header) -> Self {
        Self { version: header.version(), header: Some(header) }
    }

    /// Tells the peer and the local address of `flow`, which was accepted and is carried on; that it is our
    /// own if they are not known as what this version can carry.
    pub fn of(version: Version, flow: &Flow) -> Self {
        let known = flow.fact(&PEER).zip(flow.fact(&LOCAL));
        let header = known.map(|(peer, local)| Header::new(version, peer, local));
        let header = header.filter(|header| header.encode().is_ok());
        Self { version, header: Some(header.unwrap_or_else(|| Header::local(version))) }
    }

    /// # Errors
    /// If a header was given that can't be written.
    fn check(&self) -> Result<(), ConnectError> {
        self.header.as_ref().map_or(Ok(()), |header| header.encode().map(drop).map_err(unwritable))
    }

    fn bytes(&self, flow: &Flow) -> Result<Vec<u8>, ConnectError> {
        let Self { version, header } = self;
        let encoded = match (header, flow.fact(&LOCAL), flow.fact(&PEER)) {
            (Some(header), ..) => header.encode(),
            (None, Some(local), Some(peer)) => Header::new(*version, local, peer).encode(),
            (None, ..) => Err(HeaderError::Unencodable),
        };
        encoded.map_err(unwritable)
    }
}

fn unwritable(error: HeaderError) -> ConnectError {
    ConnectError::new(ConnectErrorKind::Misuse, "the PROXY protocol header can't be written")
        .with_source(error)
        .with_hint("version 2 carries more than 1; both addresses must be of one family")
}

impl Layer for SendProxy {
    fn describe(&self) -> String {
        "proxy-protocol".into()
    }

    fn wrap<'a>(
        &'a self,
        mut inner: Flow,
        role: Role,
        _cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Flow, ConnectError>> {
        Box::pin(async move {
            if role == Role::Server {
                let what = "the side that accepts reads a PROXY protocol header, and sends none";
                return Err(
                    ConnectError::new(ConnectErrorKind::Misuse, what).with_hint("use AcceptProxy there")
                );
            }
            let bytes = self.bytes(&inner)?;
            inner.write_all(&bytes).await?;
            Ok(inner)
        })
    }
}

impl Protocol for ProxyProtocol {
    type Endpoint = ProxyEndpoint;
    type Flow = Flow;

    async fn connect(&self, endpoint: ProxyEndpoint, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        let flow = endpoint.below.open(cx).await?;
        let header = match endpoint.send.version {
            Version::V1 => "header of version 1",
            Version::V2 => "header of version 2",
        };
        cx.hop("proxy-protocol", header, endpoint.send.wrap(flow, Role::Client, cx)).await
    }

    fn describe(&self, endpoint: &ProxyEndpoint, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", endpoint.below)
    }

    fn group(&self, endpoint: &ProxyEndpoint) -> Option<u32> {
        endpoint.below.group()
    }
}

/// `ctx`, in which `layer` is derived: a header, as [`SEND_PROXY`] says, in front of what `below` connects.
/// It is not offered. A header that can't be written is an error before anything is dialled.
#[track_caller]
pub fn over(
    ctx: Context,
    layer: &'static Endpoint<ProxyProtocol>,
    below: &'static dyn AnyEndpoint,
) -> Context {
    let derive = (or(&SEND_PROXY, SendProxy::new(Version::V2)), dial(below));
    ctx.derive(layer, derive, |(send, below)| async move {
        send.check()?;
        Ok(ProxyEndpoint { below, send })
    })
}
