//! Socket options, as values of the context.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, Socket, TcpKeepalive};
use tuyau_core::{ConnectCx, ConnectError, ConnectErrorKind, Key};

/// Whether small writes are sent at once (`TCP_NODELAY`). True if absent. Of connected and
/// accepted TCP sockets.
pub static NODELAY: Key<bool> = Key::new("nodelay").shown();
/// Whether and how the system probes an idle peer (`SO_KEEPALIVE`). Off if absent. Of connected
/// and accepted TCP sockets.
pub static KEEPALIVE: Key<Keepalive> = Key::new("keepalive");
/// The local address to connect from; port 0 lets the system choose. Of connected TCP sockets. It
/// must be of the family of the address that is dialled.
pub static BIND: Key<SocketAddr> = Key::new("bind").shown();
/// The network interface to use (`SO_BINDTODEVICE`; Linux). Of connected and listening TCP sockets.
pub static INTERFACE: Key<Arc<str>> = Key::new("interface").shown();
/// The mark for routing and firewalls (`SO_MARK`; Linux, with `CAP_NET_ADMIN`). Of connected and
/// listening TCP sockets.
pub static MARK: Key<u32> = Key::new("mark").shown();
/// Whether the first write goes out with the SYN (TCP Fast Open, RFC 7413; Linux). Off if absent. Of
/// connected TCP sockets. A refusal may then show at the first write only, where no other
/// candidate can stand in any more.
pub static FAST_OPEN: Key<bool> = Key::new("fast-open").shown();

/// How the system probes an idle peer. What is `None` is the system's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Keepalive {
    /// How long a connection is idle before the first probe.
    pub idle: Option<Duration>,
    /// The time between probes.
    pub interval: Option<Duration>,
    /// How many probes may go unanswered before the connection is given up.
    pub count: Option<u32>,
}

/// What every TCP socket gets, however it came about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamOptions {
    nodelay: bool,
    keepalive: Option<Keepalive>,
}

impl StreamOptions {
    pub(crate) fn read(cx: &ConnectCx<'_>) -> Result<Self, ConnectError> {
        Ok(Self { nodelay: cx.get(&NODELAY)?.unwrap_or(true), keepalive: cx.get(&KEEPALIVE)? })
    }

    pub(crate) fn apply(&self, socket: &SockRef<'_>) -> Result<(), ConnectError> {
        let Self { nodelay, keepalive } = *self;
        socket.set_tcp_nodelay(nodelay).map_err(|error| refused(&NODELAY, nodelay, error))?;
        if let Some(keepalive) = keepalive {
            socket
                .set_tcp_keepalive(&keepalive.to_system()?)
                .map_err(|error| refused(&KEEPALIVE, format_args!("{keepalive:?}"), error))?;
        }
        Ok(())
    }
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { nodelay: true, keepalive: None }
    }
}

impl Keepalive {
    fn to_system(self) -> Result<TcpKeepalive, ConnectError> {
        let Self { idle, interval, count } = self;
        // The system counts in seconds, and refuses 0 with a bare "invalid argument".
        let too_short = |time: Option<Duration>| time.is_some_and(|time| time < Duration::from_secs(1));
        if too_short(idle) || too_short(interval) || count == Some(0) {
            return Err(misuse(
                &KEEPALIVE,
                format_args!("{self:?}"),
                "times are of one second and more, counts of 1 and more",
            ));
        }
        let mut keepalive = TcpKeepalive::new();
        if let Some(idle) = idle {
            keepalive = keepalive.with_time(idle);
        }
        if let Some(interval) = interval {
            keepalive = keepalive.with_interval(interval);
        }
        if let Some(count) = count {
            keepalive = keepalive.with_retries(count);
        }
        Ok(keepalive)
    }
}

/// What routes a socket's packets: to be set before it connects or listens.
#[derive(Clone, Debug)]
pub(crate) struct RouteOptions {
    interface: Option<Arc<str>>,
    mark: Option<u32>,
}

impl RouteOptions {
    pub(crate) fn read(cx: &ConnectCx<'_>) -> Result<Self, ConnectError> {
        Ok(Self { interface: cx.get(&INTERFACE)?, mark: cx.get(&MARK)? })
    }

    pub(crate) fn apply(&self, socket: &Socket) -> Result<(), ConnectError> {
        let Self { interface, mark } = self;
        if let Some(interface) = interface {
            bind_device(socket, interface).map_err(|error| refused(&INTERFACE, interface, error))?;
        }
        if let Some(mark) = *mark {
            set_mark(socket, mark).map_err(|error| refused(&MARK, mark, error))?;
        }
        Ok(())
    }
}

/// What a connecting socket alone can have.
#[derive(Clone, Debug)]
pub(crate) struct DialOptions {
    bind: Option<SocketAddr>,
    fast_open: bool,
}

impl DialOptions {
    pub(crate) fn read(cx: &ConnectCx<'_>) -> Result<Self, ConnectError> {
        Ok(Self { bind: cx.get(&BIND)?, fast_open: cx.get(&FAST_OPEN)?.unwrap_or(false) })
    }

    pub(crate) fn apply(&self, socket: &Socket, to: SocketAddr) -> Result<(), ConnectError> {
        let Self { bind, fast_open } = *self;
        if let Some(from) = bind {
            if from.is_ipv4() != to.is_ipv4() {
                return Err(misuse(&BIND, from, "it is not of the family of the address that is dialled"));
            }
            socket.bind(&from.into()).map_err(|error| refused(&BIND, from, error))?;
        }
        if fast_open {
            set_fast_open(socket).map_err(|error| refused(&FAST_OPEN, true, error))?;
        }
        Ok(())
    }
}

#[cfg(target_os = "linux")]
fn bind_device(socket: &Socket, interface: &str) -> io::Result<()> {
    socket.bind_device(Some(interface.as_bytes()))
}

#[cfg(target_os = "linux")]
fn set_mark(socket: &Socket, mark: u32) -> io::Result<()> {
    socket.set_mark(mark)
}

#[cfg(target_os = "linux")]
fn set_fast_open(socket: &Socket) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt::TcpFastOpenConnect};
    setsockopt(socket, TcpFastOpenConnect, &true).map_err(io::Error::from)
}

#[cfg(not(target_os = "linux"))]
fn bind_device(_socket: &Socket, _interface: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn set_mark(_socket: &Socket, _mark: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn set_fast_open(_socket: &Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The platform refuses a socket option: names it.
fn refused<T>(key: &'static Key<T>, value: impl std::fmt::Display, error: io::Error) -> ConnectError {
    let (kind, hint) = match error.kind() {
        io::ErrorKind::PermissionDenied => (
            ConnectErrorKind::Environment,
            "it takes a privilege (CAP_NET_ADMIN, or CAP_NET_RAW): or do without it",
        ),
        io::ErrorKind::Unsupported => {
            (ConnectErrorKind::Unsupported, "this platform does not have it: do without it")
        }
        io::ErrorKind::AddrNotAvailable => {
            (ConnectErrorKind::Environment, "no interface of this machine has that address")
        }
        _ => (ConnectErrorKind::Environment, "change it, or do without it"),
    };
    ConnectError::new(kind, format!("socket option `{}` = {value}", key.name()))
        .with_hint(hint)
        .with_source(error)
}

/// A socket option that makes no sense.
fn misuse<T>(key: &'static Key<T>, value: impl std::fmt::Display, why: &'static str) -> ConnectError {
    ConnectError::new(ConnectErrorKind::Misuse, format!("socket option `{}` = {value}", key.name()))
        .with_hint(why)
}
