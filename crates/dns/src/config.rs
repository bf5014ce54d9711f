//! What a lookup is told: servers, names, times, randomness.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use resolv_conf::ScopedIp;
use tuyau_core::{ConnectError, ConnectErrorKind, Context};

/// How names are looked up. See resolv.conf(5), whose words these are.
#[derive(Clone, Debug)]
pub struct Config {
    /// The servers, in the order in which they are asked.
    pub servers: Vec<Server>,
    /// Domains to complete a name by. A name that ends in a dot is complete.
    pub search: Vec<String>,
    /// A name with at least so many dots is first tried as it is, one with fewer last.
    pub ndots: u32,
    /// How long one server may take to answer one query, connecting included.
    pub timeout: Duration,
    /// How often all the servers are asked.
    pub attempts: u32,
    /// Whether each query begins with another server, at random.
    pub rotate: bool,
    /// Whether TCP is used even where UDP can be.
    pub tcp: bool,
}

impl Config {
    /// These servers; no search list, 1 dot, 5 seconds, 2 attempts, as resolv.conf(5) has them.
    pub fn new(servers: impl IntoIterator<Item = Server>) -> Self {
        Self {
            servers: servers.into_iter().collect(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            tcp: false,
        }
    }

    /// What `/etc/resolv.conf` says now. It is not read again.
    ///
    /// # Errors
    /// If it can't be read or understood.
    pub fn from_system() -> Result<Self, ConnectError> {
        Self::from_file("/etc/resolv.conf")
    }

    /// What a file in the format of resolv.conf(5) says.
    ///
    /// # Errors
    /// If it can't be read or understood.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConnectError> {
        let path = path.as_ref();
        let failed = |kind| ConnectError::new(kind, format!("name servers from `{}`", path.display()));
        let text = std::fs::read(path).map_err(|error| {
            failed(ConnectErrorKind::Environment)
                .with_source(error)
                .with_hint("name the servers, or use the system's resolver")
        })?;
        Self::from_resolv_conf(&text).map_err(|error| failed(error.kind()).with_source(error))
    }

    /// What the text of a resolv.conf(5) says. Without a server in it, the one on this machine is
    /// asked, as the system's resolver does. Of the options, `ndots`, `timeout`, `attempts`, `rotate` and
    /// `use-vc` are obeyed; the others are about how the C library works.
    ///
    /// # Errors
    /// If a line can't be understood.
    pub fn from_resolv_conf(text: &[u8]) -> Result<Self, ConnectError> {
        let mut parsed = resolv_conf::Config::parse(text).map_err(|error| {
            ConnectError::new(ConnectErrorKind::Misuse, "resolv.conf")
                .with_source(error)
                .with_hint("see resolv.conf(5)")
        })?;
        parsed.glibc_normalize();
        let servers = parsed.get_nameservers_or_local();
        let servers = servers.iter().map(scoped).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            search: parsed.get_last_search_or_domain().cloned().collect(),
            ndots: parsed.ndots,
            timeout: Duration::from_secs(parsed.timeout.max(1).into()),
            attempts: parsed.attempts.max(1),
            rotate: parsed.rotate,
            tcp: parsed.use_vc,
            ..Self::new(servers.into_iter().map(Server::at))
        })
    }
}

/// Port 53 of an address that may have a zone (RFC 4007).
fn scoped(ip: &ScopedIp) -> Result<SocketAddr, ConnectError> {
    match ip {
        ScopedIp::V6(ip, Some(zone)) => Ok(std::net::SocketAddrV6::new(*ip, 53, 0, zone_index(zone)?).into()),
        ScopedIp::V6(ip, None) => Ok((IpAddr::V6(*ip), 53).into()),
        ScopedIp::V4(ip) => Ok((IpAddr::V4(*ip), 53).into()),
    }
}

fn zone_index(zone: &str) -> Result<u32, ConnectError> {
    if let Ok(index) = zone.parse() {
        return Ok(index);
    }
    #[cfg(unix)]
    let found = nix::net::if_::if_nametoindex(zone).map_err(std::io::Error::from);
    #[cfg(not(unix))]
    let found = Err(std::io::Error::from(std::io::ErrorKind::Unsupported));
    found.map_err(|error| {
        ConnectError::new(ConnectErrorKind::NotFound, format!("zone `{zone}` of a name server"))
            .with_source(error)
            .with_hint("a zone is the name or number of a network interface of this machine")
    })
}

/// A name server, and how it is reached.
#[derive(Clone)]
pub struct Server(pub(crate) Reach);

#[derive(Clone)]
pub(crate) enum Reach {
    At(SocketAddr),
    Flow { name: Arc<str>, ctx: Context },
}

impl Server {
    /// At an address: by UDP or TCP, as the [`Dns`](crate::Dns) is put on a net.
    pub fn at(address: SocketAddr) -> Self {
        Self(Reach::At(address))
    }

    /// Over the flow that `ctx` resolves to, by the framing of RFC 7766; if it is TLS (ALPN `dot`, port
    /// 853), this is DNS over TLS (RFC 7858). It is resolved anew when the flow that there was has ended.
    /// `name` is for reports. `ctx` must not itself look names up by this server.
    pub fn flow(name: &str, ctx: Context) -> Self {
        Self(Reach::Flow { name: name.into(), ctx })
    }
}

impl From<SocketAddr> for Server {
    fn from(address: SocketAddr) -> Self {
        Self::at(address)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reach::At(address) => address.fmt(f),
            Reach::Flow { name, ctx: _ } => f.write_str(name),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({self})")
    }
}

/// Where random numbers come from. Whoever can guess them can forge answers (RFC 5452): outside of
/// tests, use [`system`](Self::system).
#[derive(Clone)]
pub struct Random(Arc<dyn Fn() -> u32 + Send + Sync>);

impl Random {
    /// The operating system's.
    ///
    /// # Panics
    /// On use, if the system has none to give.
    pub fn system() -> Self {
        Self::new(|| getrandom::u32().expect("the system gives random numbers"))
    }

    /// What `next` gives, each of the 2³² as likely.
    pub fn new(next: impl Fn() -> u32 + Send + Sync + 'static) -> Self {
        Self(Arc::new(next))
    }

    pub(crate) fn id(&self) -> u16 {
        (self.0)() as u16
    }

    /// A number from 0 up to and with `max`.
    pub(crate) fn up_to(&self, max: u32) -> u32 {
        ((u64::from((self.0)()) * (u64::from(max) + 1)) >> 32) as u32
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_the_system_reads_it() {
        let text = b"nameserver 192.0.2.1\nnameserver fe80::1%1\nsearch a.example b.example\n\
                     options ndots:2 timeout:3 attempts:4 rotate use-vc trust-ad\n";
        let config = Config::from_resolv_conf(text).unwrap();
        let servers: Vec<String> = config.servers.iter().map(Server::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[fe80::1%1]:53"]);
        assert_eq!(config.search, ["a.example", "b.example"]);
        assert_eq!((config.ndots, config.attempts), (2, 4));
        assert_eq!(config.timeout, Duration::from_secs(3));
        assert!(config.rotate && config.tcp);

        let empty = Config::from_resolv_conf(b"# nothing\n").unwrap();
        assert_eq!(empty.servers[0].to_string(), "127.0.0.1:53");
        assert!(Config::from_resolv_conf(b"nameserver nonsense\n").is_err());
        let error = Config::from_resolv_conf(b"nameserver fe80::1%nosuch0\n").unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::NotFound);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Config::from_file("/nowhere/resolv.conf").unwrap_err();
        assert_eq!(error.to_string(), "name servers from `/nowhere/resolv.conf`");
        assert!(error.hint().is_some());
    }

    #[test]
    fn random_numbers_cover_their_range() {
        assert_eq!(Random::new(|| 0).up_to(10), 0);
        assert_eq!(Random::new(|| u32::MAX).up_to(10), 10);
        assert_eq!(Random::new(|| u32::MAX).up_to(0), 0);
        assert_eq!(Random::new(|| u32::MAX).up_to(u32::MAX), u32::MAX);
    }
}
