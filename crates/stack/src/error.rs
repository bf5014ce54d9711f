//! What goes wrong, in words: who, why, and what to do.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use smoltcp::socket::tcp;
use tuyau_core::{ConnectError, ConnectErrorKind, FlowError, FlowErrorKind, Target};

use crate::core::Fate;

/// An error of the device, which several flows may have to tell.
#[derive(Clone, Debug)]
pub(crate) struct Trouble(Arc<io::Error>);

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self(Arc::new(error))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the packet device: {}", self.0)
    }
}

impl Error for Trouble {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

/// Why a flow can't go on.
pub(crate) fn flow(fate: Fate, trouble: Option<&Trouble>) -> FlowError {
    let kind = match fate {
        Fate::Reset => return FlowErrorKind::Reset.into(),
        Fate::TimedOut | Fate::Unreachable => FlowErrorKind::TimedOut,
        Fate::Dead => FlowErrorKind::Aborted,
    };
    match trouble {
        Some(trouble) => FlowError::with_source(kind, trouble.clone()),
        None => kind.into(),
    }
}

/// Why a connection did not come about.
pub(crate) fn connect(remote: SocketAddr, fate: Fate, trouble: Option<&Trouble>) -> ConnectError {
    let (kind, cause, hint) = match fate {
        Fate::Reset => (
            ConnectErrorKind::Refused,
            io::ErrorKind::ConnectionRefused,
            "nobody listens on that port: is the server running, and on that address?",
        ),
        Fate::Unreachable => (
            ConnectErrorKind::Unreachable,
            io::ErrorKind::HostUnreachable,
            "a router on the way knows no way there, or a firewall forbids it",
        ),
        Fate::TimedOut => (
            ConnectErrorKind::TimedOut,
            io::ErrorKind::TimedOut,
            "nothing answered: the host is down, or a firewall drops it",
        ),
        Fate::Dead => return trouble.map_or_else(|| dead(&Trouble::from(ended())), dead),
    };
    let error = ConnectError::new(kind, format!("connect to {remote}")).with_hint(hint);
    match trouble.filter(|_| fate == Fate::TimedOut) {
        Some(trouble) => error.with_source(trouble.clone()),
        None => error.with_source(io::Error::from(cause)),
    }
}

/// Why the driver of a stack is no more, if it was not the device.
pub(crate) fn ended() -> io::Error {
    io::Error::other("the runtime that drove the stack has ended")
}

pub(crate) fn dead(why: &Trouble) -> ConnectError {
    ConnectError::new(ConnectErrorKind::Environment, "the stack has no packet device any more")
        .with_source(why.clone())
        .with_hint("make another stack, over a new device")
}

pub(crate) fn no_route(remote: SocketAddr) -> ConnectError {
    let family = if remote.is_ipv4() { "IPv4" } else { "IPv6" };
    ConnectError::new(ConnectErrorKind::Unreachable, format!("connect to {remote}"))
        .with_source(io::Error::from(io::ErrorKind::NetworkUnreachable))
        .with_hint(format!(
            "the stack has no route there: give it an {family} address in that network, or a gateway"
        ))
}

pub(crate) fn no_dial(remote: SocketAddr, source: tcp::ConnectError) -> ConnectError {
    ConnectError::new(ConnectErrorKind::Misuse, format!("connect to {remote}"))
        .with_source(source)
        .with_hint("an address and a port are wanted, neither of them 0")
}

pub(crate) fn ports_exhausted(remote: SocketAddr, ports: &RangeInclusive<u16>) -> ConnectError {
    ConnectError::new(ConnectErrorKind::Environment, format!("connect to {remote}"))
        .with_source(io::Error::from(io::ErrorKind::AddrNotAvailable))
        .with_hint(format!(
            "all local ports from {} to {} are in use towards it: close some flows, or configure more ports",
            ports.start(),
            ports.end()
        ))
}

pub(crate) fn in_use(address: SocketAddr) -> ConnectError {
    let hint = match address.port() {
        0 => "all of the stack's ports are listened on: close some listeners, or configure more ports",
        _ => "something else listens there, on this stack: stop it, or choose another",
    };
    ConnectError::new(ConnectErrorKind::Environment, format!("listen on {address}"))
        .with_source(io::Error::from(io::ErrorKind::AddrInUse))
        .with_hint(hint)
}

pub(crate) fn not_here(address: SocketAddr, own: &[(IpAddr, u8)]) -> ConnectError {
    let own: Vec<String> = own.iter().map(|(ip, _)| ip.to_string()).collect();
    let hint = match own.is_empty() {
        true => "the stack has no address of its own".to_owned(),
        false => format!("the stack has {}", own.join(", ")),
    };
    ConnectError::new(ConnectErrorKind::Environment, format!("listen on {address}"))
        .with_source(io::Error::from(io::ErrorKind::AddrNotAvailable))
        .with_hint(hint)
}

pub(crate) fn unsupported(verb: &str, target: &Target) -> ConnectError {
    ConnectError::new(ConnectErrorKind::Unsupported, format!("a stack in user space can't {verb} `{target}`"))
        .with_hint("it takes names and IP addresses")
}
