//! Redis.

use nix::sys::signal::Signal;

use super::install::{ends_by, require};
use super::server::{Launch, Server};
use crate::{Place, free_port};

/// A Redis server without a password, which keeps what was written when it is killed.
///
/// # Panics
/// If it is not installed, or does not start.
#[track_caller]
pub fn redis() -> Server {
    start(None)
}

/// Like [`redis`], with TLS alone on its TCP port: this certificate chain and key, files in PEM. Clients need no
/// certificate.
///
/// # Panics
/// As [`redis`].
#[track_caller]
pub fn redis_tls(chain: &str, key: &str) -> Server {
    start(Some((chain.to_owned(), key.to_owned())))
}

#[track_caller]
fn start(tls: Option<(String, String)>) -> Server {
    let program = require("redis-server", "redis-server");
    let (place, port) = (Place::new(), free_port());
    let (dir, socket) = (place.dir().to_owned(), place.path("redis.sock"));
    let its_socket = socket.clone();
    let command = move || {
        let mut command = ends_by("KILL");
        command.arg(&program).arg("--dir").arg(&dir).args(["--unixsocket", &its_socket]);
        command.args(["--bind", "127.0.0.1"]);
        match &tls {
            None => command.args(["--port", &port.to_string()]),
            Some((chain, key)) => command
                .args(["--port", "0", "--tls-port", &port.to_string(), "--tls-auth-clients", "no"])
                .args(["--tls-cert-file", chain, "--tls-key-file", key]),
        };
        command.args(["--appendonly", "yes", "--save", ""]);
        command
    };
    let launch = Launch {
        command: Box::new(command),
        // Both sockets listen by then.
        ready: |peer| drop(peer.line("eady to accept connections")),
        stop: Signal::SIGKILL,
    };
    Server::start_in(place, port, socket, launch)
}
