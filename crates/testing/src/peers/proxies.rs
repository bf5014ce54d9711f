//! Proxies.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};

use super::install::command;
use super::process::{Peer, wait_until};
use super::sshd::Sshd;
use crate::{Place, free_port};

/// A proxy of the test's own, on a port of 127.0.0.1. Dropped, it ends.
#[derive(Debug)]
pub struct Proxy {
    place: Place,
    port: u16,
    peer: Peer,
}

impl Proxy {
    #[track_caller]
    fn start(place: Place, port: u16, command: &mut std::process::Command) -> Self {
        let peer = Peer::spawn(command);
        wait_until(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        Self { place, port, peer }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its directory.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Kills it, with its connections.
    pub fn kill(&mut self) {
        self.peer.kill();
    }
}

/// microsocks: SOCKS5, with this user name and password if given.
///
/// # Panics
/// If it is not installed.
#[track_caller]
pub fn microsocks(credentials: Option<(&str, &str)>) -> Proxy {
    let port = free_port();
    let mut command = command("microsocks", "microsocks");
    command.args(["-i", "127.0.0.1", "-p", &port.to_string()]);
    if let Some((user, password)) = credentials {
        command.args(["-u", user, "-P", password]);
    }
    Proxy::start(Place::new(), port, &mut command)
}

/// Dante's `sockd`: SOCKS5 by this method (`none`, or `username` for users of the system), which connects to
/// all but port 1.
///
/// # Panics
/// If it is not installed.
#[track_caller]
pub fn dante(method: &str) -> Proxy {
    let (place, port) = (Place::new(), free_port());
    let config = format!(
        "logoutput: stderr\ninternal: 127.0.0.1 port = {port}\nexternal: 127.0.0.1\n\
         clientmethod: none\nsocksmethod: {method}\n\
         client pass {{ from: 0/0 to: 0/0 }}\n\
         socks block {{ from: 0/0 to: 0/0 port = 1 }}\nsocks pass {{ from: 0/0 to: 0/0 }}\n"
    );
    fs::write(place.path("sockd.conf"), config).expect("write");
    let mut command = command("danted", "dante-server");
    command.args(["-f", &place.path("sockd.conf"), "-p", &place.path("pid")]);
    Proxy::start(place, port, &mut command)
}

/// `ssh -D`: SOCKS5 by OpenSSH's client, through `sshd`. It hangs up on what it can't connect.
///
/// # Panics
/// If it is not installed.
#[track_caller]
pub fn ssh_dynamic(sshd: &Sshd) -> Proxy {
    let port = free_port();
    let mut command = command("ssh", "openssh-client");
    command.args(["-N", "-F", "none", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes"]);
    command.arg("-o").arg(format!("UserKnownHostsFile={}", sshd.known_hosts().display()));
    command.arg("-i").arg(sshd.identity()).args(["-p", &sshd.port().to_string()]);
    command.args(["-D", &format!("127.0.0.1:{port}"), "-l", &sshd.user(), "127.0.0.1"]);
    Proxy::start(Place::new(), port, &mut command)
}

/// tinyproxy: HTTP, with this user name and password if given. It connects to all ports but 1.
///
/// # Panics
/// If it is not installed.
#[track_caller]
pub fn tinyproxy(credentials: Option<(&str, &str)>) -> Proxy {
    let (place, port) = (Place::new(), free_port());
    let mut config = format!(
        "Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 1000\nFilter \"{}\"\n",
        place.path("filter")
    );
    fs::write(place.path("filter"), "^forbidden\\.test$\n").expect("write");
    if let Some((user, password)) = credentials {
        config += &format!("BasicAuth {user} {password}\n");
    }
    fs::write(place.path("tinyproxy.conf"), config).expect("write");
    let mut command = command("tinyproxy", "tinyproxy-bin");
    command.args(["-d", "-c", &place.path("tinyproxy.conf")]);
    Proxy::start(place, port, &mut command)
}

/// haproxy with these sections, which go by their names to addresses of their own; `{port}` in them is the
/// port of what is waited for.
///
/// # Panics
/// If it is not installed.
#[track_caller]
pub fn haproxy(sections: &str) -> Proxy {
    let (place, port) = (Place::new(), free_port());
    let config = format!(
        "global\n log stdout format raw local0\n\
         defaults\n mode tcp\n timeout connect 10s\n timeout client 60s\n timeout server 60s\n{}\n",
        sections.replace("{port}", &port.to_string())
    );
    fs::write(place.path("haproxy.cfg"), config).expect("write");
    let mut command = command("haproxy", "haproxy");
    command.args(["-db", "-f", &place.path("haproxy.cfg")]);
    Proxy::start(place, port, &mut command)
}
