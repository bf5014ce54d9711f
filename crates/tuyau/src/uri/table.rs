//! The options of the base transports and of connecting as a whole, and how values are read. Those of layers and hops
//! are in their modules.

use std::net::{IpAddr, SocketAddr};
#[cfg(any(feature = "ssh", feature = "tls"))]
use std::path::PathBuf;
use std::time::Duration;

use tuyau_core::names::{ATTEMPT_DELAY, ATTEMPT_TIMEOUT, DEADLINE};
use tuyau_core::{ConnectCx, Context, Key};
use tuyau_tokio::{BIND, FAST_OPEN, INTERFACE, KEEPALIVE, Keepalive, MARK, NODELAY};

use super::options::{OPTION, OptionInfo};
use crate::Allow;

/// Of the connection as a whole.
pub(crate) static ATTEMPTS: &[OptionInfo] = &[
    OptionInfo {
        name: "connect-timeout",
        what: "how long connecting may take in all; unlimited by default. Only ever shortens",
        example: "5s",
        bind: |ctx, value| shorten(ctx, &DEADLINE, value),
        ..OPTION
    },
    OptionInfo {
        name: "attempt-timeout",
        what: "how long the attempt on one address may take, with its hops and handshakes; 2min by default. Only ever shortens",
        example: "2s",
        bind: |ctx, value| shorten(ctx, &ATTEMPT_TIMEOUT, value),
        ..OPTION
    },
    OptionInfo {
        name: "attempt-delay",
        what: "how long until the next address joins the race; 250ms by default",
        example: "100ms",
        bind: |ctx, value| Ok(ctx.with(&ATTEMPT_DELAY, duration(value)?)),
        ..OPTION
    },
];

const TCP: OptionInfo = OptionInfo { layer: Some("tcp"), listens: true, socket: true, ..OPTION };

/// Of Unix sockets.
pub(crate) static UNIX_OPTIONS: &[OptionInfo] = &[
    #[cfg(feature = "proxy-protocol")]
    OptionInfo { layer: Some("unix"), ..crate::layers::proxy_protocol::OPTION_INFO },
];

/// Of TCP.
pub(crate) static TCP_OPTIONS: &[OptionInfo] = &[
    OptionInfo {
        name: "nodelay",
        what: "whether small writes go out at once; true by default",
        example: "false",
        bind: |ctx, value| Ok(ctx.with(&NODELAY, boolean(value)?)),
        ..TCP
    },
    OptionInfo {
        name: "keepalive",
        what: "whether, or after how long a silence, the system probes the peer; false by default",
        example: "30s",
        bind: keepalive,
        ..TCP
    },
    OptionInfo {
        name: "bind",
        what: "the local address, and port if it matters, to connect from; the system chooses by default",
        example: "192.0.2.1",
        wants: Allow::ROUTE,
        listens: false,
        bind: |ctx, value| Ok(ctx.with(&BIND, socket_address(value)?)),
        ..TCP
    },
    OptionInfo {
        name: "interface",
        what: "the network interface to use (Linux); the system chooses by default",
        example: "eth0",
        wants: Allow::ROUTE,
        bind: |ctx, value| match value {
            "" => Err("the name of an interface"),
            name => Ok(ctx.with(&INTERFACE, name.into())),
        },
        ..TCP
    },
    OptionInfo {
        name: "mark",
        what: "the mark of the packets, for routing and firewalls (Linux); none by default",
        example: "42",
        wants: Allow::ROUTE,
        bind: |ctx, value| Ok(ctx.with(&MARK, value.parse().map_err(|_| "a number of 32 bits")?)),
        ..TCP
    },
    OptionInfo {
        name: "fast-open",
        what: "whether the first write goes out with the SYN (Linux); false by default",
        example: "true",
        listens: false,
        bind: |ctx, value| Ok(ctx.with(&FAST_OPEN, boolean(value)?)),
        ..TCP
    },
    #[cfg(feature = "proxy-protocol")]
    OptionInfo { layer: Some("tcp"), ..crate::layers::proxy_protocol::OPTION_INFO },
];

pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text).map_err(|_| "a time has a unit")
}

/// Binds `key` to the duration, or to what `ctx` has if that is shorter: a URI may come from a
/// stranger, who can't wait on our account.
fn shorten(ctx: Context, key: &'static Key<Duration>, text: &str) -> Result<Context, &'static str> {
    let wanted = duration(text)?;
    let bound = ConnectCx::new(&ctx).and_then(|cx| cx.get(key)).ok().flatten();
    Ok(ctx.with(key, bound.map_or(wanted, |bound| bound.min(wanted))))
}

pub(crate) fn boolean(text: &str) -> Result<bool, &'static str> {
    match text {
        "" | "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("true or false"),
    }
}

#[cfg(any(feature = "ssh", feature = "tls"))]
pub(crate) fn file(text: &str) -> Result<PathBuf, &'static str> {
    if text.is_empty() { Err("the path of a file") } else { Ok(text.into()) }
}

fn keepalive(ctx: Context, text: &str) -> Result<Context, &'static str> {
    match (boolean(text), duration(text)) {
        (Ok(true), _) => Ok(ctx.with(&KEEPALIVE, Keepalive::default())),
        (Ok(false), _) => Ok(ctx.without(&KEEPALIVE)),
        (_, Ok(idle)) => Ok(ctx.with(&KEEPALIVE, Keepalive { idle: Some(idle), ..Keepalive::default() })),
        _ => Err("true, false or a time with its unit"),
    }
}

fn socket_address(text: &str) -> Result<SocketAddr, &'static str> {
    let address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 0));
    address.or_else(|_| text.parse()).map_err(|_| "an address, or address:port")
}
