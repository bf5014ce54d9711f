//! What flows, listeners and the driver share: smoltcp's interface and sockets, and what they are for.

mod state;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use slab::Slab;
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State as TcpState};
use smoltcp::wire::{IpAddress, IpEndpoint, IpListenEndpoint};
use tuyau_core::{ConnectError, Instant, SharedRuntime};

use crate::config::Config;
use crate::error::{self, Trouble};
use crate::inspect::Ends;

/// How long a connection that comes in may take for its handshake: it holds a place of the backlog.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many connections in TIME-WAIT are remembered. smoltcp keeps their buffers: beyond this, those that have waited
/// longest are forgotten. (A FIN that comes again is then answered by a reset, to a peer that has read it all.)
const MAX_TIME_WAIT: usize = 64;

/// One interface, behind a lock.
pub(crate) struct Core {
    state: Mutex<State>,
    pub(crate) runtime: SharedRuntime,
    pub(crate) config: Config,
    events: Arc<Events>,
}

/// What keeps a core running. When the last is gone, the driver ends once all has been said.
pub(crate) struct Owner(pub(crate) Arc<Core>);

impl Drop for Owner {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.owned = false;
        state.kick();
    }
}

pub(crate) struct State {
    pub(crate) iface: Interface,
    pub(crate) sockets: SocketSet<'static>,
    connections: Slab<Connection>,
    born: u64,
    by_ends: HashMap<Ends, usize>,
    listeners: Slab<Listening>,
    by_port: HashMap<u16, Vec<usize>>,
    /// When to look whether connections that are being closed are getting anywhere.
    deadlines: VecDeque<Deadline>,
    time_wait: VecDeque<Ends>,
    pub(crate) random: fastrand::Rng,
    pub(crate) driver: Option<Waker>,
    kicked: bool,
    owned: bool,
    /// Why the device can't be used any more.
    pub(crate) dead: Option<Trouble>,
    /// Why the last packet could not be sent.
    pub(crate) trouble: Option<Trouble>,
    /// When to look again for sockets that wait for nothing.
    next_disarm: Instant,
}

/// One TCP connection.
struct Connection {
    /// Tells it from another that had its place, or its ends, before.
    born: u64,
    /// Absent when the flow outlives the socket.
    socket: Option<SocketHandle>,
    ends: Ends,
    role: Role,
    fate: Option<Fate>,
    /// What was received, but not yet read, when the socket entered TIME-WAIT: smoltcp throws it away at its end.
    rest: Option<Rest>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    /// A flow owns it, or a connect.
    Flow,
    /// It waits for its handshake.
    Pending(usize),
    /// It waits to be accepted.
    Ready(usize),
    /// Nobody owns it: it ends by itself.
    Orphan,
}

/// When to look at a connection that is being closed.
struct Deadline {
    at: Instant,
    connection: usize,
    born: u64,
    /// All data was acknowledged when it was looked at last.
    drained: bool,
}

/// Why a connection ended, other than by a FIN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Reset,
    Unreachable,
    TimedOut,
    /// The device, or the driver, is gone.
    Dead,
}

#[derive(Default)]
struct Rest {
    bytes: Vec<u8>,
    read: usize,
}

struct Listening {
    /// The address, or any of one family or both.
    on: On,
    port: u16,
    /// Connections in their handshake, and those that wait to be accepted.
    waiting: usize,
    ready: VecDeque<usize>,
    waker: Option<Waker>,
}

/// Which addresses a listener is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum On {
    One(IpAddress),
    AnyV4,
    Any,
}

impl On {
    fn takes(self, ip: IpAddress) -> bool {
        match self {
            Self::One(own) => own == ip,
            Self::AnyV4 => matches!(ip, IpAddress::Ipv4(_)),
            Self::Any => true,
        }
    }

    fn overlaps(self, other: Self) -> bool {
        match (self, other) {
            (Self::One(ip), on) | (on, Self::One(ip)) => on.takes(ip),
            _ => true,
        }
    }
}

/// The connections that something happened to, and that no flow waits for.
#[derive(Default)]
pub(crate) struct Events(Mutex<Vec<usize>>);

struct Event {
    events: Arc<Events>,
    connection: usize,
}

impl Wake for Event {
    fn wake(self: Arc<Self>) {
        self.events.0.lock().unwrap_or_else(PoisonError::into_inner).push(self.connection);
    }
}

impl Core {
    pub(crate) fn new(iface: Interface, config: Config, runtime: SharedRuntime, seed: u64) -> Arc<Self> {
        let now = runtime.now();
        let state = State {
            iface,
            sockets: SocketSet::new(Vec::new()),
            connections: Slab::new(),
            born: 0,
            by_ends: HashMap::new(),
            listeners: Slab::new(),
            by_port: HashMap::new(),
            deadlines: VecDeque::new(),
            time_wait: VecDeque::new(),
            random: fastrand::Rng::with_seed(seed),
            driver: None,
            kicked: false,
            owned: true,
            dead: None,
            trouble: None,
            next_disarm: now + config.timeout / 2,
        };
        Arc::new(Self { state: Mutex::new(state), runtime, config, events: Arc::default() })
    }

    /// Nothing that we run under the lock panics by intent, and smoltcp's state stays of use if it did.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn socket(&self) -> Socket<'static> {
        let Config { receive_buffer, send_buffer, timeout, keepalive, nagle, .. } = self.config;
        let buffer = |size| SocketBuffer::new(vec![0; size]);
        let mut socket = Socket::new(buffer(receive_buffer), buffer(send_buffer));
        socket.set_congestion_control(CongestionControl::Cubic);
        socket.set_nagle_enabled(nagle);
        socket.set_timeout(Some(timeout.into()));
        socket.set_keep_alive(keepalive.map(Into::into));
        socket
    }

    /// Begins to connect to `remote`, from `local` or the address that routing says.
    pub(crate) fn dial(&self, remote: SocketAddr, local: Option<IpAddr>) -> Result<usize, ConnectError> {
        let mut state = self.lock();
        if let Some(dead) = &state.dead {
            return Err(error::dead(dead));
        }
        let ip = remote.ip().into();
        let Some(local) = local.map(Into::into).or_else(|| state.iface.get_source_address(&ip)) else {
            return Err(error::no_route(remote));
        };
        let end = IpEndpoint::new(ip, remote.port());
        let Some(port) = state.free_port(&self.config, |state, port| {
            let ends = Ends { local: IpEndpoint::new(local, port), remote: end };
            !state.by_ends.contains_key(&ends)
        }) else {
            return Err(error::ports_exhausted(remote, &self.config.ports));
        };
        let local = IpEndpoint::new(local, port);
        let mut socket = self.socket();
        let State { iface, .. } = &mut *state;
        socket.connect(iface.context(), end, local).map_err(|source| error::no_dial(remote, source))?;
        let connection = state.add(socket, Ends { local, remote: end }, Role::Flow);
        state.kick();
        Ok(connection)
    }

    /// Begins to listen; port 0 is any that is free.
    pub(crate) fn listen(&self, on: On, port: u16) -> Option<(usize, u16)> {
        let mut state = self.lock();
        let free = |state: &State, port: u16| {
            let same = state.by_port.get(&port).into_iter().flatten();
            same.clone().all(|listener| !state.listeners[*listener].on.overlaps(on))
        };
        let port = match port {
            0 => state.free_port(&self.config, free)?,
            port => Some(port).filter(|port| free(&state, *port))?,
        };
        let listening = Listening { on, port, waiting: 0, ready: VecDeque::new(), waker: None };
        let listener = state.listeners.insert(listening);
        state.by_port.entry(port).or_default().push(listener);
        Some((listener, port))
    }

    /// The next connection that is ready.
    pub(crate) fn poll_accept(&self, listener: usize, cx: &Context<'_>) -> Poll<Result<usize, Trouble>> {
        let mut state = self.lock();
        let listening = &mut state.listeners[listener];
        if let Some(connection) = listening.ready.pop_front() {
            listening.waiting -= 1;
            state.connections[connection].role = Role::Flow;
            return Poll::Ready(Ok(connection));
        }
        if let Some(dead) = &state.dead {
            return Poll::Ready(Err(dead.clone()));
        }
        remember(&mut state.listeners[listener].waker, cx);
        Poll::Pending
    }

    /// Stops listening; whoever was not accepted is reset.
    pub(crate) fn close_listener(&self, listener: usize) {
        let mut state = self.lock();
        let port = state.listeners[listener].port;
        let waits = |role| matches!(role, Role::Pending(of) | Role::Ready(of) if of == listener);
        let left: Vec<usize> = state
            .connections
            .iter()
            .filter(|(_, it)| waits(it.role))
            .map(|(connection, _)| connection)
            .collect();
        for connection in left {
            self.leave(&mut state, connection, true);
        }
        state.listeners.remove(listener);
        if let Some(same) = state.by_port.get_mut(&port) {
            same.retain(|other| *other != listener);
            if same.is_empty() {
                state.by_port.remove(&port);
            }
        }
        state.kick();
    }

    /// Who owned the connection is gone.
    pub(crate) fn close(&self, connection: usize) {
        let mut state = self.lock();
        self.leave(&mut state, connection, false);
        state.kick();
    }

    /// As the kernel does: what was written is still sent, then the end; but if there is something that nobody will
    /// read, the peer is told by a reset.
    fn leave(&self, state: &mut State, connection: usize, reset: bool) {
        let Some(it) = state.connections.get_mut(connection) else { return };
        let unread = it.rest.take().is_some_and(|rest| rest.read < rest.bytes.len());
        it.role = Role::Orphan;
        let Some(handle) = it.socket else {
            state.forget(connection);
            return;
        };
        let socket = state.sockets.get_mut::<Socket>(handle);
        let connecting = matches!(socket.state(), TcpState::SynSent | TcpState::SynReceived);
        if reset || unread || connecting || socket.recv_queue() > 0 {
            socket.abort();
        } else {
            self.end(socket);
        }
        state.deadline(connection, self.runtime.now() + self.config.timeout);
        self.settle(state, connection);
    }

    /// Ends the write side. The timeout must be kept here: smoltcp would count the time that the connection was idle.
    fn end(&self, socket: &mut Socket<'_>) {
        if socket.send_queue() == 0 && self.config.keepalive.is_none() {
            socket.set_timeout(None);
        }
        socket.close();
    }

    /// Ends the write side of a flow.
    pub(crate) fn shutdown(&self, connection: usize) {
        let mut state = self.lock();
        let Some(socket) = state.stream(connection).filter(|socket| socket.may_send()) else { return };
        self.end(socket);
        state.deadline(connection, self.runtime.now() + self.config.timeout);
        state.kick();
    }

    /// Somebody wants to connect: a socket that will answer, if somebody listens. `Err` if it must wait.
    pub(crate) fn welcome(&self, state: &mut State, ends: Ends) -> Result<Option<usize>, BacklogFull> {
        if let Some(&known) = state.by_ends.get(&ends) {
            match state.tcp(known) {
                // The peer uses its port again (RFC 9293 section 3.6.1): no reason to make it wait.
                Some(TcpState::TimeWait) => {
                    state.retire(known);
                    state.forget(known);
                }
                Some(TcpState::Closed) => {
                    state.by_ends.remove(&ends);
                }
                _ => return Ok(None),
            }
        }
        if !state.iface.has_ip_addr(ends.local.addr) {
            return Ok(None);
        }
        let same = state.by_port.get(&ends.local.port).into_iter().flatten();
        let Some(&listener) =
            same.clone().find(|listener| state.listeners[**listener].on.takes(ends.local.addr))
        else {
            return Ok(None);
        };
        if state.listeners[listener].waiting >= self.config.backlog {
            return Err(BacklogFull);
        }
        let mut socket = self.socket();
        socket.set_timeout(Some(self.config.timeout.min(HANDSHAKE).into()));
        let at = IpListenEndpoint { addr: Some(ends.local.addr), port: ends.local.port };
        if socket.listen(at).is_err() {
            return Ok(None); // port 0
        }
        state.listeners[listener].waiting += 1;
        Ok(Some(state.add(socket, ends, Role::Pending(listener))))
    }

    /// After a packet of this connection was processed.
    pub(crate) fn welcomed(&self, state: &mut State, connection: usize) {
        self.settle(state, connection);
    }

    /// The peer ended its side: if that was all, what was not read is taken over.
    pub(crate) fn finished(&self, state: &mut State, ends: Ends) {
        let Some(&connection) = state.by_ends.get(&ends) else { return };
        if state.connections[connection].role == Role::Flow {
            state.retire(connection);
            self.settle(state, connection);
        }
    }

    /// Takes note of what happened to connections that no flow waits for.
    pub(crate) fn settle_all(&self, state: &mut State) {
        loop {
            let happened = std::mem::take(&mut *self.events.0.lock().unwrap_or_else(PoisonError::into_inner));
            if happened.is_empty() {
                return;
            }
            for connection in happened {
                self.settle(state, connection);
            }
        }
    }

    fn settle(&self, state: &mut State, connection: usize) {
        let Some(it) = state.connections.get(connection) else { return };
        let (Some(handle), role, ends) = (it.socket, it.role, it.ends) else { return };
        let socket = state.sockets.get_mut::<Socket>(handle);
        match (role, socket.state()) {
            // What outlives its flow's interest goes by itself.
            (Role::Flow, TcpState::Closed) if it.rest.is_some() => return state.forget(connection),
            (Role::Flow, TcpState::TimeWait) if it.rest.is_some() => state.time_wait(ends),
            (Role::Flow, TcpState::Closing) if it.rest.is_some() => {}
            (Role::Flow | Role::Ready(_), _) => return,
            // A handshake that came to nothing: smoltcp would listen on, for anybody.
            (Role::Pending(listener), TcpState::Listen | TcpState::Closed) => {
                state.listeners[listener].waiting -= 1;
                socket.abort();
                state.connections[connection].role = Role::Orphan;
                state.deadline(connection, self.runtime.now() + self.config.timeout);
                return self.settle(state, connection);
            }
            (Role::Pending(_), TcpState::SynReceived | TcpState::SynSent) => {}
            (Role::Pending(listener), _) => {
                socket.set_timeout(Some(self.config.timeout.into()));
                state.connections[connection].role = Role::Ready(listener);
                let listening = &mut state.listeners[listener];
                listening.ready.push_back(connection);
                if let Some(waker) = listening.waker.take() {
                    waker.wake();
                }
                return;
            }
            (Role::Orphan, TcpState::Closed) if socket.remote_endpoint().is_none() => {
                return state.forget(connection);
            }
            (Role::Orphan, TcpState::Closed) => {} // its reset is still to be sent
            (Role::Orphan, TcpState::TimeWait) => state.time_wait(ends),
            // Nobody will read what comes: the peer must know.
            (Role::Orphan, _) if socket.can_recv() => socket.abort(),
            (Role::Orphan, _) => {}
        }
        let event = Arc::new(Event { events: self.events.clone(), connection });
        let waker = Waker::from(event);
        let socket = state.sockets.get_mut::<Socket>(handle);
        socket.register_recv_waker(&waker);
        socket.register_send_waker(&waker);
    }

    /// Gives up what has taken too long, and lets idle connections be; then says when to come back.
    pub(crate) fn expire(&self, state: &mut State, now: Instant) -> Option<Instant> {
        while state.deadlines.front().is_some_and(|deadline| deadline.at <= now) {
            let Some(due) = state.deadlines.pop_front() else { break };
            let Deadline { at, connection, born, drained } = due;
            let known = state.connections.get(connection).filter(|it| it.born == born);
            let Some(it) = known else { continue };
            let Some(handle) = it.socket else { continue };
            let socket = state.sockets.get_mut::<Socket>(handle);
            let sends_end =
                matches!(socket.state(), TcpState::FinWait1 | TcpState::Closing | TcpState::LastAck);
            match it.role {
                // As long as there are bytes to send, smoltcp's own timeout holds.
                Role::Flow | Role::Orphan if sends_end && (socket.send_queue() > 0 || !drained) => {
                    let drained = socket.send_queue() == 0;
                    let at = at + self.config.timeout;
                    state.deadlines.push_back(Deadline { at, connection, born, drained });
                }
                Role::Flow if sends_end => socket.abort(),
                Role::Orphan => state.forget(connection),
                _ => {}
            }
        }
        if now >= state.next_disarm {
            state.next_disarm = now + self.config.timeout / 2;
            if self.config.keepalive.is_none() {
                state.disarm();
            }
        }
        state.deadlines.front().map(|deadline| deadline.at)
    }

    /// Whether nothing is left to do, ever.
    pub(crate) fn is_over(&self, state: &State) -> bool {
        !state.owned
            && state
                .connections
                .iter()
                .all(|(connection, _)| state.tcp(connection) == Some(TcpState::TimeWait))
    }

    /// The end of everything: the device is gone, or the runtime does not run the driver any more.
    pub(crate) fn die(&self, why: io::Error) {
        let mut state = self.lock();
        if state.dead.is_some() {
            return;
        }
        state.dead = Some(Trouble::from(why));
        let State { connections, sockets, .. } = &mut *state;
        for (_, connection) in connections.iter_mut() {
            let Some(handle) = connection.socket else { continue };
            let socket = sockets.get_mut::<Socket>(handle);
            if socket.is_active() {
                connection.fate = Some(Fate::Dead);
            }
            socket.abort(); // wakes whoever waits
        }
        for (_, socket) in sockets.iter_mut() {
            if let smoltcp::socket::Socket::Udp(socket) = socket {
                socket.close(); // likewise
            }
        }
        for (_, listening) in &mut state.listeners {
            if let Some(waker) = listening.waker.take() {
                waker.wake();
            }
        }
    }
}

/// No place is left for another connection that waits to be accepted.
pub(crate) struct BacklogFull;

fn remember(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}
