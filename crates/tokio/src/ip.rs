//! TCP and Unix sockets over whichever net the context holds, and how their endpoints come about.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use tuyau_core::names::{HOST, NET, POLICY, PORT, RUNTIME};
use tuyau_core::{
    ConnectCx, ConnectError, ConnectErrorKind, Context, Endpoint, Flow, Key, Many, Protocol, SharedNet, Stop,
    Target, decline, opt, req,
};

use crate::mem::{MEM, MEM_HUB, MEM_NAME, MemEndpoint, MemHub};
use crate::{host, runtime};

/// An address of the peer: where to connect to, as opposed to [`HOST`], what was asked for.
pub static IP: Key<IpAddr> = Key::new("ip").shown();
/// TCP (RFC 9293), over whichever net the endpoint holds.
pub static TCP: Endpoint<Tcp> = Endpoint::new("tcp", &Tcp);
/// Unix stream sockets, over whichever net the endpoint holds.
pub static UNIX: Endpoint<Unix> = Endpoint::new("unix", &Unix);
/// The Unix socket to connect to: a [`Target::Path`].
pub static UNIX_PATH: Key<Target> = Key::new("unix-path").shown();

/// The protocol of [`TCP`].
#[derive(Clone, Copy, Debug)]
pub struct Tcp;

/// The protocol of [`UNIX`].
#[derive(Clone, Copy, Debug)]
pub struct Unix;

/// Where to connect to by TCP, and through what.
#[derive(Clone, Debug)]
pub struct TcpEndpoint {
    /// What is dialled through.
    pub net: SharedNet,
    /// An address, or a name for the net to look up.
    pub target: Target,
}

/// Which Unix socket to connect to, and through what.
#[derive(Clone, Debug)]
pub struct UnixEndpoint {
    /// What is dialled through.
    pub net: SharedNet,
    /// A [`Target::Path`].
    pub target: Target,
}

impl Protocol for Tcp {
    type Endpoint = TcpEndpoint;
    type Flow = Flow;

    async fn connect(&self, endpoint: TcpEndpoint, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        endpoint.net.connect(&endpoint.target, cx).await
    }

    fn describe(&self, endpoint: &TcpEndpoint, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", endpoint.target)
    }

    /// The address family: 4, 6, or none for a name.
    fn group(&self, endpoint: &TcpEndpoint) -> Option<u32> {
        endpoint.target.ip().map(|ip| if ip.is_ipv4() { 4 } else { 6 })
    }
}

impl Protocol for Unix {
    type Endpoint = UnixEndpoint;
    type Flow = Flow;

    async fn connect(&self, endpoint: UnixEndpoint, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        endpoint.net.connect(&endpoint.target, cx).await
    }

    fn describe(&self, endpoint: &UnixEndpoint, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", endpoint.target)
    }
}

/// `ctx` over the defaults of this crate. Nothing is offered.
///
/// | key | comes from |
/// |---|---|
/// | [`RUNTIME`], [`NET`] | [`runtime()`], [`host()`] |
/// | [`MEM_HUB`] | a new [`MemHub`], of this context alone |
/// | [`IP`] (many) | [`HOST`]: an IP literal as it is, a name by the lookup of [`NET`], under [`POLICY`] |
/// | [`TCP`] | [`NET`], [`PORT`] and [`IP`]; or [`HOST`] in its place, if the net looks names up itself |
/// | [`UNIX`] | [`NET`], [`UNIX_PATH`] |
/// | [`MEM`] | [`MEM_HUB`], [`MEM_NAME`] |
///
/// A net says that it looks names up itself by refusing its `lookup` as
/// [`Unsupported`](ConnectErrorKind::Unsupported).
///
/// A literal IPv6 host may name a zone (RFC 4007 section 11): `fe80::1%eth0`.
pub fn derivations(ctx: Context) -> Context {
    let defaults =
        Context::new()
            .with(&RUNTIME, runtime())
            .with(&NET, host())
            .with(&MEM_HUB, MemHub::new())
            .derive_many(&IP, (req(&HOST), req(&NET), opt(&POLICY)), |(host, net, policy)| async move {
                if let Some((ip, _zone)) = literal(&host) {
                    return Ok::<_, Stop>(Many::All(vec![ip]));
                }
                match net.lookup(&host, &policy.unwrap_or_default()).await {
                    Err(error) if error.kind() == ConnectErrorKind::Unsupported => {
                        Err(decline(format!("{} looks names up itself", net.describe())))
                    }
                    found => Ok(found?),
                }
            })
            .derive(&TCP, (req(&NET), req(&PORT), opt(&IP), opt(&HOST)), |(net, port, ip, host)| async move {
                let target = match (ip, host) {
                    (Some(ip), host) => Target::Addr(with_zone(ip, port, host.as_deref())?),
                    (None, Some(host)) => Target::Name { host, port },
                    (None, None) => return Err(decline("there is neither `host` nor `ip`")),
                };
                Ok(TcpEndpoint { net, target })
            })
            .derive(&UNIX, (req(&NET), req(&UNIX_PATH)), |(net, target)| async move {
                Ok(UnixEndpoint { net, target })
            })
            .derive(&MEM, (req(&MEM_HUB), req(&MEM_NAME)), |(hub, name)| async move {
                Ok(MemEndpoint { hub, name })
            });
    ctx.under(defaults)
}

/// An IP literal, and its zone if it has one.
pub(crate) fn literal(host: &str) -> Option<(IpAddr, Option<&str>)> {
    if let Ok(ip) = host.parse() {
        return Some((ip, None));
    }
    let (ip, zone) = host.split_once('%')?;
    let ip: std::net::Ipv6Addr = ip.parse().ok()?;
    Some((ip.into(), Some(zone)))
}

/// The address, in the zone that `host` names if it is the literal that `ip` came from.
pub(crate) fn with_zone(ip: IpAddr, port: u16, host: Option<&str>) -> Result<SocketAddr, ConnectError> {
    match (ip, host.and_then(literal)) {
        (IpAddr::V6(v6), Some((same, Some(zone)))) if same == ip => {
            Ok(SocketAddrV6::new(v6, port, 0, zone_index(zone)?).into())
        }
        _ => Ok(SocketAddr::new(ip, port)),
    }
}

fn zone_index(zone: &str) -> Result<u32, ConnectError> {
    if let Ok(index) = zone.parse() {
        return Ok(index);
    }
    interface_index(zone).map_err(|error| {
        ConnectError::new(ConnectErrorKind::NotFound, format!("zone `{zone}`"))
            .with_source(error)
            .with_hint("a zone is the name or number of a network interface of this machine")
    })
}

#[cfg(unix)]
fn interface_index(name: &str) -> std::io::Result<u32> {
    nix::net::if_::if_nametoindex(name).map_err(std::io::Error::from)
}

#[cfg(not(unix))]
fn interface_index(_name: &str) -> std::io::Result<u32> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_may_have_a_zone() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(literal("127.0.0.1"), Some((ip("127.0.0.1"), None)));
        assert_eq!(literal("fe80::1%lo"), Some((ip("fe80::1"), Some("lo"))));
        assert_eq!(literal("127.0.0.1%lo"), None);
        assert_eq!(literal("localhost"), None);
        assert_eq!(with_zone(ip("fe80::1"), 80, Some("fe80::1%7")).unwrap().to_string(), "[fe80::1%7]:80");
        assert_eq!(with_zone(ip("::1"), 80, Some("localhost")).unwrap().to_string(), "[::1]:80");
        let error = with_zone(ip("fe80::1"), 80, Some("fe80::1%nosuch0")).unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::NotFound);
    }

    #[test]
    fn addresses_have_the_group_of_their_family() {
        let group = |target: Target| Tcp.group(&TcpEndpoint { net: host(), target });
        assert_eq!(group(Target::Addr("127.0.0.1:1".parse().unwrap())), Some(4));
        assert_eq!(group(Target::Addr("[::1]:1".parse().unwrap())), Some(6));
        assert_eq!(group(Target::name("a", 1)), None);
    }
}
