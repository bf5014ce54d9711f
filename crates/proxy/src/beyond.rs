//! What all proxies that one dials through have in common: the net beyond.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tuyau_core::names::{HOST, LOCAL, NET, PEER, POLICY, PORT, SECURITY};
use tuyau_core::{
    Ask, BoxFuture, ConnectCx, ConnectError, ConnectErrorKind, Context, Flow, Listener, Many, Net, Policy,
    Protection, SharedNet, Target,
};

use crate::relabelled::{Label, relabelled};

/// A proxy's protocol, as its client.
pub(crate) trait Dialect: Send + Sync + 'static {
    /// `socks5h`, as in a URI.
    fn scheme(&self) -> &'static str;

    /// Whether names are looked up before the proxy is asked.
    fn looks_up_here(&self) -> bool {
        false
    }

    /// How far the connection to the proxy must be protected, at least.
    fn wants(&self) -> Protection {
        Protection::Clear
    }

    /// The request for `target`, before anything is dialled: what can't be asked for costs no packet.
    fn request(&self, target: &Target) -> Result<Vec<u8>, ConnectError>;

    /// Asks the proxy `at` the other end of `flow`. The flow beyond, and the address that the proxy
    /// says it connects from.
    fn ask(
        &self,
        flow: Flow,
        request: &[u8],
        asked: &Asked<'_>,
    ) -> impl Future<Output = Result<(Flow, Option<SocketAddr>), ConnectError>> + Send;
}

/// Who is asked for what.
pub(crate) struct Asked<'a> {
    /// The proxy, as people are shown it.
    pub(crate) proxy: &'a str,
    pub(crate) target: &'a Target,
    pub(crate) cx: &'a ConnectCx<'a>,
}

/// A fact about a flow through a proxy, for [`Flow::find`]: what is known of the proxy itself. With two
/// proxies, the nearest to the target is found.
#[derive(Clone, Debug)]
pub struct Tunnel {
    peer: Target,
    proxy: Arc<str>,
    security: Protection,
    bound: Option<SocketAddr>,
}

impl Tunnel {
    /// The proxy, like a URI without secrets.
    pub fn proxy(&self) -> &str {
        &self.proxy
    }

    /// How far the connection to the proxy is protected. Says nothing of what is beyond.
    pub fn security(&self) -> Protection {
        self.security
    }

    /// Where the proxy says it connects from, if it does (`BND.ADDR` of SOCKS5).
    pub fn bound(&self) -> Option<SocketAddr> {
        self.bound
    }
}

impl Label for Tunnel {
    fn fact(&self, ask: &mut Ask<'_>, below: &Flow) {
        ask.answer(&PEER, || self.peer.clone());
        if let Some(local) = below.fact(&LOCAL) {
            ask.answer(&LOCAL, || local);
        }
        // All else that the flow below knows (a certificate, what ALPN agreed on) is about the proxy.
        ask.answer(&SECURITY, || Protection::Clear).stop();
    }
}

/// The net beyond a proxy that is dialled in `outer`.
pub(crate) struct Beyond<D> {
    dialect: D,
    outer: Context,
    shown: Arc<str>,
}

impl<D: Dialect> Beyond<D> {
    pub(crate) fn over(dialect: D, set_by: Option<Arc<str>>, outer: Context) -> SharedNet {
        let shown = shown(dialect.scheme(), set_by.as_deref(), &outer).into();
        Arc::new(Self { dialect, outer, shown })
    }

    async fn open(&self, target: &Target, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        let literal = match target {
            Target::Name { host, port } => host.parse().ok().map(|ip| SocketAddr::new(ip, *port).into()),
            _ => None,
        };
        match literal.as_ref().unwrap_or(target) {
            Target::Name { host, port } if self.dialect.looks_up_here() => {
                self.open_looked_up(host, *port, cx).await
            }
            target => self.open_one(target, cx).await,
        }
    }

    /// Looks `host` up here, and asks for one address after the other. (In a context they are
    /// candidates, and race.)
    async fn open_looked_up(&self, host: &str, port: u16, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        let found = cx.hop("lookup", format!("{host} (looked up here)"), self.look_up(host, cx.policy()));
        let mut failed = Vec::new();
        for ip in all(found.await?).await? {
            let address = SocketAddr::new(ip, port);
            match self.open_one(&address.into(), cx).await {
                Ok(flow) => return Ok(flow),
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => failed.push((address, error)),
            }
        }
        match failed.len() {
            1 => Err(failed.remove(0).1),
            _ => Err(ConnectError::of_addresses(host, failed)),
        }
    }

    async fn open_one(&self, target: &Target, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        let Self { dialect, outer, shown } = self;
        cx.policy().check_target(target, shown)?;
        let request = dialect.request(target)?;
        let unreachable = |error: ConnectError| error.with_what(format!("{shown} can't be reached"));
        let flow = cx.resolve(outer).await.map_err(unreachable)?.into_flow();
        let security = flow.fact(&SECURITY).unwrap_or_default();
        if security < dialect.wants() {
            let what = format!("{shown} is to be reached over TLS, and the context reaches it in clear text");
            return Err(ConnectError::new(ConnectErrorKind::Misuse, what)
                .with_hint("offer TLS in the context that the proxy is dialled in; nothing was sent"));
        }
        let asked = Asked { proxy: shown, target, cx };
        let (_, at) = shown.split_once("://").unwrap_or(("", "proxy"));
        let mut hop = format!("{at} to {target}");
        if matches!(target, Target::Name { .. }) {
            hop.push_str(", looked up there");
        }
        let asking = dialect.ask(flow, &request, &asked);
        let (flow, bound) = cx.hop(dialect.scheme(), hop, asking).await?;
        Ok(relabelled(flow, Tunnel { peer: target.clone(), proxy: shown.clone(), security, bound }))
    }

    /// By the net that the proxy itself is dialled through: this machine's, as a rule.
    async fn look_up(&self, name: &str, policy: &Policy) -> Result<Many<IpAddr>, ConnectError> {
        if let Ok(ip) = name.parse() {
            return Ok(Many::All(vec![ip]));
        }
        let failed = |error: tuyau_core::Error| {
            ConnectError::new(error.kind(), "the context of the proxy").with_source(error)
        };
        let own = self.outer.get(&POLICY).await.map_err(failed)?.unwrap_or_default();
        if !policy.allows_local_lookup() || !own.allows_local_lookup() {
            let what = format!("{} looks up `{name}` on this machine, which the policy forbids", self.shown);
            return Err(ConnectError::new(ConnectErrorKind::Policy, what)
                .with_hint("let the proxy look names up (socks5h://), or give an address"));
        }
        let net = self.outer.get(&NET).await.map_err(failed)?.ok_or_else(|| {
            ConnectError::new(ConnectErrorKind::Misuse, format!("there is no net to look up `{name}` by"))
                .with_hint("let the proxy look names up (socks5h://), or give an address")
        })?;
        match net.lookup(name, policy).await {
            Err(error) if error.kind() == ConnectErrorKind::Unsupported => {
                let what = format!(
                    "{} wants the address of `{name}`, and {} gives none: it looks names up itself",
                    self.shown,
                    net.describe()
                );
                // Not `Unsupported`: that would let the name through to the proxy.
                Err(ConnectError::new(ConnectErrorKind::Misuse, what)
                    .with_hint("let the proxy look names up (socks5h://), or give an address")
                    .with_source(error))
            }
            found => found,
        }
    }
}

fn is_final(error: &ConnectError) -> bool {
    matches!(error.kind(), ConnectErrorKind::Authentication | ConnectErrorKind::Verification)
}

async fn all(many: Many<IpAddr>) -> Result<Vec<IpAddr>, ConnectError> {
    let mut stream = match many {
        Many::All(addresses) => return Ok(addresses),
        Many::Stream(stream) => stream,
    };
    let (mut addresses, mut failed) = (Vec::new(), None);
    while let Some(next) = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
        match next {
            Ok(address) => addresses.push(address),
            Err(tuyau_core::Stop::Decline(why)) => failed = Some(why.into()),
            Err(tuyau_core::Stop::Fail(error)) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if addresses.is_empty() => {
            Err(ConnectError::new(ConnectErrorKind::NotFound, "lookup").with_source(error))
        }
        _ => Ok(addresses),
    }
}

impl<D: Dialect> Net for Beyond<D> {
    fn describe(&self) -> String {
        self.shown.to_string()
    }

    fn connect<'a>(
        &'a self,
        target: &'a Target,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Flow, ConnectError>> {
        Box::pin(self.open(target, cx))
    }

    fn listen<'a>(
        &'a self,
        target: &'a Target,
        _cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Listener, ConnectError>> {
        let what = format!("{} can't listen on {target} for us", self.shown);
        let error = ConnectError::new(ConnectErrorKind::Unsupported, what)
            .with_hint("listen on this machine, or on an SSH server that the peer can reach");
        Box::pin(std::future::ready(Err(error)))
    }

    fn lookup<'a>(
        &'a self,
        name: &'a str,
        policy: &'a Policy,
    ) -> BoxFuture<'a, Result<Many<IpAddr>, ConnectError>> {
        if self.dialect.looks_up_here() {
            return Box::pin(self.look_up(name, policy));
        }
        let what = format!("{} looks names up itself, and does not tell", self.shown);
        Box::pin(std::future::ready(Err(ConnectError::new(ConnectErrorKind::Unsupported, what))))
    }
}

/// `socks5h://127.0.0.1:1080 (set by ALL_PROXY)`; no address if the context reaches the proxy by
/// something else than a host and a port.
fn shown(scheme: &str, set_by: Option<&str>, outer: &Context) -> String {
    let mut shown = scheme.to_owned();
    if let Ok(cx) = ConnectCx::new(outer)
        && let (Ok(Some(host)), Ok(port)) = (cx.get(&HOST), cx.get(&PORT))
    {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
        let _ = write!(shown, "://{host}");
        if let Some(port) = port {
            let _ = write!(shown, ":{port}");
        }
    }
    if let Some(variable) = set_by {
        let _ = write!(shown, " (set by {variable})");
    }
    shown
}

/// What a proxy can't be asked for.
pub(crate) fn cant(scheme: &str, target: &Target) -> ConnectError {
    ConnectError::new(ConnectErrorKind::Unsupported, format!("{scheme} can't connect to `{target}`"))
        .with_hint("it takes names and IP addresses, with a port")
}

/// A zone (RFC 4007) means something on this machine only.
pub(crate) fn without_zone(scheme: &str, address: SocketAddr) -> Result<SocketAddr, ConnectError> {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => Err(ConnectError::new(
            ConnectErrorKind::Unsupported,
            format!("{scheme} can't pass on the zone of {address}"),
        )
        .with_hint("a zone is an interface of this machine: give an address that the proxy can route")),
        _ => Ok(address),
    }
}
