//! Nets: something on which one can open, listen and look names up.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

use crate::{BoxFuture, ConnectCx, ConnectError, Flow, Listener, Many, Policy};

/// Where a net connects to or listens: the address of one end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// A name, for the net to look up, and a port.
    Name {
        /// The name: of a host, or whatever the net calls by name.
        host: Arc<str>,
        /// The port.
        port: u16,
    },
    /// An address and a port.
    Addr(SocketAddr),
    /// A path in the file system (a Unix socket); a leading NUL byte makes it an abstract name.
    Path(Arc<[u8]>),
    /// A context id and a port (vsock).
    Context {
        /// The context id.
        cid: u32,
        /// The port.
        port: u32,
    },
    /// Known by a description only: a child process, a standard stream, an unnamed peer.
    Described(Arc<str>),
}

impl Target {
    /// A name and a port.
    pub fn name(host: &str, port: u16) -> Self {
        Self::Name { host: host.into(), port }
    }

    /// A path in the file system.
    pub fn path(path: impl AsRef<[u8]>) -> Self {
        Self::Path(path.as_ref().into())
    }

    /// The address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Addr(addr) => Some(addr.ip()),
            _ => None,
        }
    }
}

impl From<SocketAddr> for Target {
    fn from(addr: SocketAddr) -> Self {
        Self::Addr(addr)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { host, port } => write!(f, "{host}:{port}"),
            Self::Addr(addr) => addr.fmt(f),
            Self::Path(path) => match path.split_first() {
                Some((0, name)) => write!(f, "@{}", String::from_utf8_lossy(name)),
                _ => f.write_str(&String::from_utf8_lossy(path)),
            },
            Self::Context { cid, port } => write!(f, "vsock {cid}:{port}"),
            Self::Described(what) => f.write_str(what),
        }
    }
}

/// Something on which one can open flows, listen, and look names up: the host's stack, a
/// user-space stack, an SSH server, a SOCKS5 proxy, a WireGuard tunnel, a simulated network.
///
/// The context holds one under [`names::NET`](crate::names::NET); transports dial through it. A
/// net that can't do something says so with
/// [`ConnectErrorKind::Unsupported`](crate::ConnectErrorKind::Unsupported), and never goes another way.
pub trait Net: Send + Sync + 'static {
    /// What it is, for reports: `this machine`, `socks5h://127.0.0.1:1080`.
    fn describe(&self) -> String;

    /// Opens a flow to `target`. Dropping the future gives up and leaves nothing behind.
    fn connect<'a>(
        &'a self,
        target: &'a Target,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Flow, ConnectError>>;

    /// Listens on `target`.
    fn listen<'a>(
        &'a self,
        target: &'a Target,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Listener, ConnectError>>;

    /// The addresses of `name`, all at once or as they become known. A net that looks names up on
    /// this machine refuses if `policy` forbids it.
    fn lookup<'a>(
        &'a self,
        name: &'a str,
        policy: &'a Policy,
    ) -> BoxFuture<'a, Result<Many<IpAddr>, ConnectError>>;
}

/// A [`Net`], shared.
pub type SharedNet = Arc<dyn Net>;

impl fmt::Display for dyn Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

impl fmt::Debug for dyn Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Net({})", self.describe())
    }
}

/// Something that one goes through: given the context that reaches it, it is a [`Net`] to beyond.
/// See [`Context::via`](crate::Context::via).
pub trait Hop {
    /// The net beyond this hop, which is itself dialled in `outer`.
    fn over(self: Box<Self>, outer: crate::Context) -> SharedNet;
}
