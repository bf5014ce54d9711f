//! TCP on the host's stack.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tuyau_core::names::{LOCAL, PEER};
use tuyau_core::{
    AcceptError, AcceptErrorKind, Accepted, Ask, ConnectCx, ConnectError, ConnectErrorKind, Flow, Listener,
    RawListener, Target,
};

use crate::error::{accept_error, connect_error};
use crate::options::{DialOptions, RouteOptions, StreamOptions};

/// How many connections may wait to be accepted; the system has its own, lower limit.
const BACKLOG: i32 = 4096;

pub(crate) async fn connect(address: SocketAddr, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
    let socket = new_socket(address)?;
    RouteOptions::read(cx)?.apply(&socket)?;
    DialOptions::read(cx)?.apply(&socket, address)?;
    StreamOptions::read(cx)?.apply(&SockRef::from(&socket))?;
    let stream = TcpSocket::from_std_stream(socket.into())
        .connect(address)
        .await
        .map_err(|error| explain(address, error))?;
    // Dialling a port of the ephemeral range on this machine, where nobody listens, can connect
    // a socket to itself.
    if stream.local_addr().ok() == Some(address) && stream.peer_addr().ok() == Some(address) {
        return Err(explain(address, io::ErrorKind::ConnectionRefused.into()));
    }
    Ok(flow(stream))
}

fn explain(address: SocketAddr, error: io::Error) -> ConnectError {
    let refused = error.kind() == io::ErrorKind::ConnectionRefused;
    let error = connect_error(format_args!("connect to {address}"), error);
    if refused {
        error.with_hint("nobody listens on that port: is the server running, and on that address?")
    } else {
        error
    }
}

/// How often a port is chosen that all addresses have free.
const CHOICES: usize = 16;

/// A listener on all of `addresses` that this machine has.
pub(crate) fn listen(addresses: &[SocketAddr], cx: &ConnectCx<'_>) -> Result<Listener, ConnectError> {
    let route = RouteOptions::read(cx)?;
    let mut choices = if addresses.iter().all(|address| address.port() == 0) { CHOICES } else { 1 };
    loop {
        choices -= 1;
        match bind_all(addresses, &route) {
            Ok(listeners) => {
                return Ok(Listener::new(TcpAcceptor::new(listeners, StreamOptions::read(cx)?)));
            }
            // The port that the first address got is somebody else's at another.
            Err(Bind::Taken(_)) if choices > 0 => {}
            Err(Bind::NotHere(error) | Bind::Taken(error) | Bind::Failed(error)) => return Err(error),
        }
    }
}

fn bind_all(addresses: &[SocketAddr], route: &RouteOptions) -> Result<Vec<TcpListener>, Bind> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut missing = None;
    for address in addresses {
        let mut address = *address;
        // Port 0 is one port for all: the one that the first address got.
        if let (0, Some(Ok(first))) = (address.port(), listeners.first().map(TcpListener::local_addr)) {
            address.set_port(first.port());
        }
        match bind(address, route) {
            Ok(listener) => listeners.push(listener),
            Err(Bind::NotHere(error)) => missing = Some(error),
            Err(error) => return Err(error),
        }
    }
    match (listeners.is_empty(), missing) {
        (false, _) => Ok(listeners),
        (true, Some(error)) => Err(Bind::NotHere(error)),
        (true, None) => {
            Err(ConnectError::new(ConnectErrorKind::NotFound, "there is no address to listen on").into())
        }
    }
}

/// Why an address could not be listened on.
enum Bind {
    /// This machine does not have it: another address of the same name may do.
    NotHere(ConnectError),
    /// Somebody else listens there.
    Taken(ConnectError),
    Failed(ConnectError),
}

impl From<ConnectError> for Bind {
    fn from(error: ConnectError) -> Self {
        Self::Failed(error)
    }
}

fn bind(address: SocketAddr, route: &RouteOptions) -> Result<TcpListener, Bind> {
    let failed = |error: io::Error| {
        let not_here = matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported);
        let taken = error.kind() == io::ErrorKind::AddrInUse;
        let error = connect_error(format_args!("listen on {address}"), error);
        match (not_here, taken) {
            (true, _) => Bind::NotHere(error),
            (_, true) => Bind::Taken(error),
            _ => Bind::Failed(error),
        }
    };
    let socket = new_socket(address)?;
    route.apply(&socket)?;
    if address.ip().is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified()).map_err(failed)?;
    }
    // On Windows this would let others take the port over.
    #[cfg(not(windows))]
    socket.set_reuse_address(true).map_err(failed)?;
    socket.bind(&address.into()).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)?;
    TcpListener::from_std(socket.into()).map_err(failed)
}

fn new_socket(address: SocketAddr) -> Result<Socket, ConnectError> {
    Socket::new(Domain::for_address(address), Type::STREAM, None)
        .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
        .map_err(|error| connect_error(format_args!("socket for {address}"), error))
}

pub(crate) fn flow(stream: TcpStream) -> Flow {
    Flow::from_tokio_with(stream, facts)
}

fn facts(stream: &TcpStream, ask: &mut Ask<'_>) {
    if let Ok(peer) = stream.peer_addr() {
        ask.answer(&PEER, || canonical(peer));
    }
    if let Ok(local) = stream.local_addr() {
        ask.answer(&LOCAL, || canonical(local));
    }
}

/// An IPv4 peer of a dual-stack listener, as the IPv4 address that it is.
fn canonical(address: SocketAddr) -> Target {
    Target::Addr(match address.ip().to_canonical() {
        ip if ip.is_ipv4() => SocketAddr::new(ip, address.port()),
        _ => address,
    })
}

/// Accepts TCP connections on one or several addresses, in turn.
#[derive(Debug)]
pub(crate) struct TcpAcceptor {
    listeners: Vec<TcpListener>,
    options: StreamOptions,
    turn: usize,
}

impl TcpAcceptor {
    /// `listeners` must not be empty.
    pub(crate) fn new(listeners: Vec<TcpListener>, options: StreamOptions) -> Self {
        Self { listeners, options, turn: 0 }
    }
}

impl RawListener for TcpAcceptor {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Accepted, AcceptError>> {
        for _ in 0..self.listeners.len() {
            self.turn = (self.turn + 1) % self.listeners.len();
            let Poll::Ready(accepted) = self.listeners[self.turn].poll_accept(cx) else { continue };
            let (stream, _) = accepted.map_err(accept_error)?;
            self.options
                .apply(&SockRef::from(&stream))
                .map_err(|error| AcceptError::with_source(AcceptErrorKind::Connection, error))?;
            return Poll::Ready(Ok(Accepted::Flow(flow(stream))));
        }
        Poll::Pending
    }

    fn local(&self) -> Target {
        match self.listeners.first().map(TcpListener::local_addr) {
            Some(Ok(address)) => Target::Addr(address),
            _ => Target::Described("tcp".into()),
        }
    }

    fn locals(&self) -> Vec<Target> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok().map(Target::Addr)).collect()
    }
}
