//! The host's stack as a net.

mod lookup;
mod tcp;
#[cfg(unix)]
mod unix;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tuyau_core::{
    BoxFuture, ConnectCx, ConnectError, ConnectErrorKind, Flow, Listener, Many, Net, Policy, SharedNet,
    Target,
};

use crate::ip::with_zone;
use lookup::Lookups;
#[cfg(unix)]
pub(crate) use tcp::TcpAcceptor;
#[cfg(unix)]
pub(crate) use unix::UnixAcceptor;
#[cfg(unix)]
pub use unix::{CREDENTIALS, Credentials};

/// The host's stack as a [`Net`], with the default limits: [`Host::new`], shared.
pub fn host() -> SharedNet {
    Arc::new(Host::new())
}

/// The host's stack: TCP (IPv4, IPv6), Unix sockets, and the system's resolver.
///
/// * `connect` dials an address, a path (a Unix socket; abstract with a leading NUL byte, on Linux)
///   or a name, whose addresses it tries one after the other. (In a context they are candidates,
///   and race: [`derivations`](crate::derivations).)
/// * `listen` takes the same. A name is looked up, and listens on each of its addresses; on `[::]`
///   IPv4 comes in too.
/// * `lookup` asks `getaddrinfo(3)` on a thread of its own. Addresses come in the order of RFC 6724,
///   if the system sorts them.
///
/// Its policy is asked about each address dialled. Where certain networks only are allowed, Unix
/// sockets are refused: who listens behind one can't be known.
#[derive(Debug, Clone)]
pub struct Host {
    lookups: Lookups,
}

impl Host {
    /// The host's stack. 64 lookups may be under way at once.
    pub fn new() -> Self {
        Self::with_max_lookups(64)
    }

    /// The host's stack, with at most `max` lookups under way at once; others wait for their turn.
    /// A lookup that hangs counts until the system gives it up, even if nobody waits for it any
    /// more: this bounds the threads that it costs.
    pub fn with_max_lookups(max: usize) -> Self {
        Self { lookups: Lookups::new(Arc::new(Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS)))) }
    }

    async fn addresses(
        &self,
        host: &str,
        port: u16,
        policy: &Policy,
    ) -> Result<Vec<SocketAddr>, ConnectError> {
        let addresses = self.lookups.lookup(host, policy).await?;
        addresses.into_iter().map(|ip| with_zone(ip, port, Some(host))).collect()
    }

    async fn connect_name(&self, host: &str, port: u16, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        let addresses = cx.hop("lookup", host, self.addresses(host, port, cx.policy())).await?;
        let mut failures = Vec::new();
        for address in addresses {
            match cx.hop("tcp", address, connect_address(address, cx)).await {
                Ok(flow) => return Ok(flow),
                Err(error) => failures.push((address, error)),
            }
        }
        Err(ConnectError::of_addresses(host, failures))
    }

    async fn listen_name(&self, host: &str, port: u16, cx: &ConnectCx<'_>) -> Result<Listener, ConnectError> {
        let addresses = self.addresses(host, port, cx.policy()).await?;
        tcp::listen(&addresses, cx)
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Net for Host {
    fn describe(&self) -> String {
        "this machine".into()
    }

    fn connect<'a>(
        &'a self,
        target: &'a Target,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Flow, ConnectError>> {
        match target {
            Target::Addr(address) => Box::pin(connect_address(*address, cx)),
            Target::Name { host, port } => Box::pin(self.connect_name(host, *port, cx)),
            #[cfg(unix)]
            Target::Path(path) => Box::pin(unix::connect(path, cx)),
            other => Box::pin(std::future::ready(Err(unsupported("connect to", other)))),
        }
    }

    fn listen<'a>(
        &'a self,
        target: &'a Target,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Listener, ConnectError>> {
        match target {
            Target::Addr(address) => Box::pin(async move { tcp::listen(&[*address], cx) }),
            Target::Name { host, port } => Box::pin(self.listen_name(host, *port, cx)),
            #[cfg(unix)]
            Target::Path(path) => Box::pin(unix::listen(path)),
            other => Box::pin(std::future::ready(Err(unsupported("listen on", other)))),
        }
    }

    fn lookup<'a>(
        &'a self,
        name: &'a str,
        policy: &'a Policy,
    ) -> BoxFuture<'a, Result<Many<IpAddr>, ConnectError>> {
        Box::pin(async move { self.lookups.lookup(name, policy).await.map(Many::All) })
    }
}

async fn connect_address(address: SocketAddr, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
    cx.policy().check_address(Some(address.ip()))?;
    tcp::connect(address, cx).await
}

fn unsupported(verb: &str, target: &Target) -> ConnectError {
    ConnectError::new(ConnectErrorKind::Unsupported, format!("the host's stack can't {verb} `{target}`"))
        .with_hint("it takes names, IP addresses, and paths of Unix sockets where the system has them")
}
