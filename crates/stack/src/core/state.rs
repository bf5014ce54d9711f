//! The changes that keep the state whole; when they are due is decided a level above.

use std::task::Context;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, State as TcpState};
use smoltcp::socket::udp;
use tuyau_core::Instant;

use super::{Connection, Deadline, Fate, MAX_TIME_WAIT, Rest, Role, State, remember};
use crate::config::Config;
use crate::inspect::Ends;

impl State {
    /// Has the driver run: there is something to send.
    pub(crate) fn kick(&mut self) {
        if !self.kicked
            && let Some(driver) = &self.driver
        {
            self.kicked = true;
            driver.wake_by_ref();
        }
    }

    /// The driver runs, and is woken by `cx` from now on.
    pub(crate) fn driver_runs(&mut self, cx: &Context<'_>) {
        self.kicked = false;
        remember(&mut self.driver, cx);
    }

    pub(super) fn add(&mut self, socket: Socket<'static>, ends: Ends, role: Role) -> usize {
        let socket = Some(self.sockets.add(socket));
        self.born += 1;
        let born = self.born;
        let connection =
            self.connections.insert(Connection { born, socket, ends, role, fate: None, rest: None });
        self.by_ends.insert(ends, connection);
        connection
    }

    /// A port of the configured ones, at random, that `free` says yes to.
    pub(super) fn free_port(&mut self, config: &Config, free: impl Fn(&Self, u16) -> bool) -> Option<u16> {
        let (first, count) = (*config.ports.start(), config.ports.len());
        let start = self.random.usize(..count);
        (0..count)
            .filter_map(|n| u16::try_from((start + n) % count).ok().map(|offset| first + offset))
            .find(|port| free(self, *port))
    }

    pub(super) fn deadline(&mut self, connection: usize, at: Instant) {
        let born = self.connections[connection].born;
        self.deadlines.push_back(Deadline { at, connection, born, drained: false });
    }

    /// Counts the connection among those in TIME-WAIT, which may cost the oldest of them.
    pub(super) fn time_wait(&mut self, ends: Ends) {
        if self.time_wait.contains(&ends) {
            return;
        }
        self.time_wait.push_back(ends);
        while self.time_wait.len() > MAX_TIME_WAIT {
            let oldest = self.time_wait.pop_front().and_then(|oldest| self.known(oldest));
            if let Some(oldest) = oldest.filter(|oldest| self.tcp(*oldest) == Some(TcpState::TimeWait)) {
                self.forget(oldest);
            }
        }
    }

    /// Removes the socket, and the connection with it, unless a flow has it still.
    pub(super) fn forget(&mut self, connection: usize) {
        let Some(it) = self.connections.get_mut(connection) else { return };
        if let Some(handle) = it.socket.take() {
            self.sockets.remove(handle);
        }
        if self.by_ends.get(&it.ends) == Some(&connection) {
            self.by_ends.remove(&it.ends);
        }
        if it.role == Role::Orphan {
            self.connections.remove(connection);
        }
    }

    pub(crate) fn tcp(&self, connection: usize) -> Option<TcpState> {
        let handle = self.connections.get(connection)?.socket?;
        Some(self.sockets.get::<Socket>(handle).state())
    }

    /// The connection between these ends, if a flow or a connect has it.
    pub(crate) fn owned_by_flow(&self, ends: Ends) -> Option<usize> {
        let connection = *self.by_ends.get(&ends)?;
        (self.connections[connection].role == Role::Flow).then_some(connection)
    }

    pub(crate) fn known(&self, ends: Ends) -> Option<usize> {
        self.by_ends.get(&ends).copied()
    }

    pub(crate) fn set_fate(&mut self, connection: usize, fate: Fate) {
        if let Some(it) = self.connections.get_mut(connection) {
            it.fate.get_or_insert(fate);
        }
    }

    /// Gives a connection up that can't be had.
    pub(crate) fn abort(&mut self, connection: usize) {
        if let Some(handle) = self.connections.get(connection).and_then(|it| it.socket) {
            self.sockets.get_mut::<Socket>(handle).abort();
        }
    }

    pub(crate) fn ends(&self, connection: usize) -> Ends {
        self.connections[connection].ends
    }

    /// Why the connection is no more, if it ended other than by a FIN.
    pub(crate) fn fate(&self, connection: usize) -> Fate {
        self.connections[connection].fate.unwrap_or(Fate::TimedOut)
    }

    /// The socket of a flow, unless it has outlived it.
    pub(crate) fn stream(&mut self, connection: usize) -> Option<&mut Socket<'static>> {
        let it = &self.connections[connection];
        if it.rest.is_some() {
            return None;
        }
        Some(self.sockets.get_mut::<Socket>(it.socket?))
    }

    /// What a flow that has outlived its socket has not read yet; then, the end.
    pub(crate) fn rest(&mut self, connection: usize, take: impl FnOnce(&[u8]) -> usize) {
        if let Some(rest) = &mut self.connections[connection].rest {
            rest.read += take(&rest.bytes[rest.read..]);
        }
    }

    /// If both sides have ended, takes over what the flow has not read yet.
    ///
    /// The flow is not woken: it is, by the FIN.
    pub(super) fn retire(&mut self, connection: usize) {
        let it = &mut self.connections[connection];
        let Some(handle) = it.socket else { return };
        let socket = self.sockets.get_mut::<Socket>(handle);
        if !matches!(socket.state(), TcpState::Closing | TcpState::TimeWait) || it.rest.is_some() {
            return;
        }
        let mut bytes = vec![0; socket.recv_queue()];
        let read = socket.recv_slice(&mut bytes).unwrap_or(0);
        bytes.truncate(read);
        it.rest = Some(Rest { bytes, read: 0 });
    }

    /// smoltcp gives up whoever is silent, also where nothing is to be said: lets those be.
    pub(super) fn disarm(&mut self) {
        for (_, connection) in &self.connections {
            let Some(handle) = connection.socket else { continue };
            let socket = self.sockets.get_mut::<Socket>(handle);
            let idle =
                matches!(socket.state(), TcpState::Established | TcpState::CloseWait | TcpState::FinWait2);
            if idle && socket.send_queue() == 0 {
                socket.set_timeout(None);
            }
        }
    }

    /// Whether a lookup has that port already.
    pub(crate) fn has_udp(&self, port: u16) -> bool {
        self.sockets.iter().any(|(_, socket)| match socket {
            smoltcp::socket::Socket::Udp(socket) => socket.endpoint().port == port,
            _ => false,
        })
    }

    pub(crate) fn udp(&mut self, handle: SocketHandle) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(handle)
    }
}
