//! What tests need from the machine they run on.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpSocket;
use tuyau_core::Target;

/// An abstract Unix socket name that no other test, nor process, uses.
pub fn abstract_target() -> Target {
    // Test machinery: names must differ within the process, whoever asks.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    Target::path(format!("\0tuyau-test-{}-{next}", std::process::id()))
}

/// This test binary again, to run `test` alone, with the variable `role` set: for what changes the whole
/// process. The test asks for the variable to know which side it is.
pub fn rerun(test: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of this test"));
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(role, "1");
    command
}

/// A TCP port of 127.0.0.1 for a server that can't be told to choose its own.
///
/// The kernel won't hand it out to anybody else for a minute; a server that sets `SO_REUSEADDR`
/// (nearly all do) can bind it.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let client = TcpStream::connect(address).expect("it listens");
    let (accepted, _) = listener.accept().expect("a client");
    // Whoever closes first keeps the port, in TIME_WAIT: that must be the server's side.
    drop(accepted);
    drop(client);
    address.port()
}

/// A TCP port of 127.0.0.1 on which nobody listens, as long as this process lives.
pub fn dead_port() -> u16 {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
    let port = socket.local_addr().expect("it is bound").port();
    // Bound and not listening, it refuses, and keeps the port from everybody else.
    std::mem::forget(socket);
    port
}

/// A directory of the test's own. It is removed with the test.
#[derive(Debug)]
pub struct Place(tempfile::TempDir);

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// A new one, empty.
    pub fn new() -> Self {
        Self(tempfile::Builder::new().prefix("tuyau-test-").tempdir().expect("a temporary directory"))
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        self.0.path()
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("text").to_owned()
    }

    /// What is in it.
    pub fn entries(&self) -> Vec<OsString> {
        let entries = std::fs::read_dir(self.0.path()).expect("it is there");
        entries.map(|entry| entry.expect("readable").file_name()).collect()
    }

    /// A name that no other test uses.
    pub fn name(&self) -> &str {
        self.0.path().file_name().and_then(OsStr::to_str).expect("text")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{Ipv4Addr, TcpListener};

    use super::free_port;

    #[test]
    fn free_ports_differ_and_can_be_bound() {
        let ports: HashSet<_> = (0..100).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 100);
        for port in ports {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it is free");
        }
    }
}
