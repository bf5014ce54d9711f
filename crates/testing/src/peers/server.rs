//! A server of a test's own.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use super::Peer;
use crate::Place;

/// A server of the test's own, on a TCP port of 127.0.0.1 and on a Unix socket. Dropped, it ends.
pub struct Server {
    place: Place,
    port: u16,
    socket: String,
    launch: Launch,
    peer: Option<Peer>,
}

/// How a server is started and ended.
pub(super) struct Launch {
    pub(super) command: Box<dyn Fn() -> Command + Send>,
    /// Waits until it accepts clients, on both.
    pub(super) ready: fn(&mut Peer),
    /// What ends it without leaving anything behind.
    pub(super) stop: Signal,
}

impl Server {
    /// `socket` is in `place`.
    #[track_caller]
    pub(super) fn start_in(place: Place, port: u16, socket: String, launch: Launch) -> Self {
        let mut server = Self { place, port, socket, launch, peer: None };
        server.restart();
        server
    }

    /// `tcp://127.0.0.1:PORT`.
    pub fn tcp(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// `unix:PATH`.
    pub fn unix(&self) -> String {
        format!("unix:{}", self.socket)
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The Unix socket.
    pub fn socket(&self) -> &Path {
        Path::new(&self.socket)
    }

    /// Kills it (SIGKILL), with all its processes. Its connections are closed when this returns.
    pub fn kill(&mut self) {
        if let Some(mut peer) = self.peer.take() {
            peer.kill();
        }
    }

    /// Starts it again where it was, with what it had stored; it has been [killed](Self::kill), else it is
    /// stopped first. It accepts clients when this returns.
    ///
    /// # Panics
    /// If it does not start: with all that it said.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        let peer = self.peer.insert(Peer::spawn(&mut (self.launch.command)()));
        (self.launch.ready)(peer);
    }

    fn stop(&mut self) {
        if let Some(mut peer) = self.peer.take() {
            peer.stop(self.launch.stop);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { place, port, socket: _, launch: _, peer } = self;
        f.debug_struct("Server").field("place", place).field("port", port).field("peer", peer).finish()
    }
}
