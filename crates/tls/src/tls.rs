//! TLS as an endpoint: over whatever can be dialled.

use std::fmt;
use std::sync::Arc;

use tuyau_core::names::{ALPN, HOST, LAYER, SERVER_NAME};
use tuyau_core::{
    AnyEndpoint, ConnectCx, ConnectError, Context, Dial, Endpoint, Flow, Key, Protection, Protocol,
    SharedLayer, dial, opt, or, req,
};

use crate::client::{Clients, TlsClient};
use crate::config::{BACKEND, Backend, IDENTITY, MIN_VERSION, RESUMPTION, ROOTS, Roots, Settings, Version};
use crate::handshake::is_host_of;
use crate::material::misuse;

/// TLS (RFC 8446, RFC 5246) over what the endpoint dials, the server's certificate verified.
pub static TLS: Endpoint<Tls> = Endpoint::new("tls", &Tls).protection(Protection::Authenticated);

/// The client that [`over`] and [`upgrades`] use: derived from the keys of this crate, unless it is bound to
/// a value.
pub static CLIENT: Key<TlsClient> = Key::new("tls-client");

/// The protocol of [`TLS`]. Declare more endpoint keys of it for TLS in TLS, and declare them
/// [`Authenticated`](Protection::Authenticated): it connects to nobody whom it could not verify.
#[derive(Clone, Copy, Debug)]
pub struct Tls;

/// What TLS is dialled over, and how.
#[derive(Clone)]
pub struct TlsEndpoint {
    /// What is dialled below.
    pub below: Dial,
    /// The client, which knows the name of the server.
    pub client: TlsClient,
}

impl Protocol for Tls {
    type Endpoint = TlsEndpoint;
    type Flow = Flow;

    async fn connect(&self, endpoint: TlsEndpoint, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        if !endpoint.client.verifies() {
            return Err(misuse("this TLS client verifies nobody".into())
                .with_hint("dial it by an endpoint key of `dangerous::UnverifiedTls`, which says so"));
        }
        endpoint.open(cx).await
    }

    fn describe(&self, endpoint: &TlsEndpoint, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{endpoint:?}")
    }

    /// That of what is dialled below.
    fn group(&self, endpoint: &TlsEndpoint) -> Option<u32> {
        endpoint.below.group()
    }
}

impl TlsEndpoint {
    pub(crate) async fn open(&self, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        let flow = self.below.open(cx).await?;
        self.client.handshake(flow, cx).await
    }
}

impl fmt::Debug for TlsEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.client.name() {
            Some(name) if !is_host_of(name, &self.below.address()) => write!(f, "{} as {name}", self.below),
            _ => write!(f, "{}", self.below),
        }
    }
}

/// Lets `layer` be dialled over `below`. Nothing is offered.
///
/// | key | comes from |
/// |---|---|
/// | `layer` | [`CLIENT`], `SERVER_NAME` or else `HOST`, `ALPN`, and what `below` dials |
/// | [`CLIENT`] | [`BACKEND`], [`ROOTS`], [`IDENTITY`], [`MIN_VERSION`], [`RESUMPTION`] |
///
/// Files are read, and what is wrong with them is found, before anything is looked up or dialled. They are
/// read again once they have changed.
#[track_caller]
pub fn over(ctx: Context, layer: &'static Endpoint<Tls>, below: &'static dyn AnyEndpoint) -> Context {
    bind(clients(ctx, &CLIENT, true), layer, below, &CLIENT)
}

/// Like [`over`], by this client, whatever the context says: where several layers need settings of their own.
#[track_caller]
pub fn over_with(
    ctx: Context,
    layer: &'static Endpoint<Tls>,
    below: &'static dyn AnyEndpoint,
    client: TlsClient,
) -> Context {
    let args = (opt(&SERVER_NAME), opt(&HOST), opt(&ALPN), dial(below));
    ctx.derive(layer, args, move |(server_name, host, alpn, below)| {
        let client = client.clone();
        async move { Ok(TlsEndpoint { below, client: client.fill(server_name, host, alpn)? }) }
    })
}

/// Lets flows be upgraded in mid-stream: binds [`LAYER`] to the client that [`over`] would use, for
/// [`Context::upgrade`] as the client.
#[track_caller]
pub fn upgrades(ctx: Context) -> Context {
    upgrades_by(clients(ctx, &CLIENT, true), &CLIENT)
}

#[track_caller]
pub(crate) fn upgrades_by(ctx: Context, client: &'static Key<TlsClient>) -> Context {
    let args = (req(client), opt(&SERVER_NAME), opt(&HOST), opt(&ALPN));
    ctx.derive(&LAYER, args, |(client, server_name, host, alpn)| async move {
        Ok(Arc::new(client.fill(server_name, host, alpn)?) as SharedLayer)
    })
}

/// Binds `layer`. The client comes first: what is wrong with it costs no lookup.
#[track_caller]
pub(crate) fn bind<L>(
    ctx: Context,
    layer: &'static Endpoint<L>,
    below: &'static dyn AnyEndpoint,
    client: &'static Key<TlsClient>,
) -> Context
where
    L: Protocol<Endpoint = TlsEndpoint>,
{
    let args = (req(client), opt(&SERVER_NAME), opt(&HOST), opt(&ALPN), dial(below));
    ctx.derive(layer, args, |(client, server_name, host, alpn, below)| async move {
        Ok(TlsEndpoint { below, client: client.fill(server_name, host, alpn)? })
    })
}

/// Derives `client` from the keys of this crate, under what the context has.
#[track_caller]
pub(crate) fn clients(ctx: Context, client: &'static Key<TlsClient>, verifies: bool) -> Context {
    let made = Clients::default();
    let args = (
        or(&BACKEND, Backend::default()),
        or(&ROOTS, Roots::default()),
        opt(&IDENTITY),
        or(&MIN_VERSION, Version::default()),
        or(&RESUMPTION, true),
    );
    let defaults =
        Context::new().derive(client, args, move |(backend, roots, identity, min_version, resumption)| {
            let made = made.clone();
            async move {
                let settings = Settings { backend, roots, identity, min_version, resumption };
                Ok(made.get(settings, verifies)?)
            }
        });
    ctx.under(defaults)
}
