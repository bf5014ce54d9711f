//! Hops that are killed while something is relayed through them: they are named, and nothing hangs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use tuyau_testing::peers::{Sshd, microsocks, sshd, tinyproxy};

use crate::peers::{Peer, listening, tuyau};

fn hop(sshd: &Sshd) -> String {
    let (port, user) = (sshd.port(), sshd.user());
    let (known, identity) = (sshd.known_hosts(), sshd.identity());
    let files = format!("known-hosts={}&identity={}", known.display(), identity.display());
    format!("ssh://{user}@127.0.0.1:{port}?{files}")
}

/// Relays through `hop` with `connect`, kills it, and gives what was said then.
fn connected(hop: &str, kill: impl FnOnce()) -> String {
    let (_echo, target) = listening(["listen", "tcp://127.0.0.1:0", "--echo"]);
    let mut client = Peer::spawn(&mut tuyau(["connect", &target, "--via", hop]));
    let mut input = client.stdin();
    input.write_all(b"hello\n").expect("it reads");
    client.line("hello");
    kill();
    // Until it is told that nobody takes it.
    while input.write_all(b"more\n").is_ok() {
        std::thread::yield_now();
    }
    let said = client.end().code(3).stderr;
    assert!(said.contains(&format!("{target} via ")), "{said}");
    said
}

#[test]
fn connections_through_what_is_killed_end_and_name_it() {
    let mut ssh = sshd();
    let (via, server) = (hop(&ssh), format!("{}@127.0.0.1:{}", ssh.user(), ssh.port()));
    let said = connected(&via, || ssh.kill());
    assert!(said.contains(&format!("the SSH connection to {server} ended: ")), "{said}");
    let mut socks = microsocks(None);
    let via = format!("socks5h://127.0.0.1:{}", socks.port());
    let said = connected(&via, || socks.kill());
    assert!(said.contains(&via), "{said}");
    let mut http = tinyproxy(None);
    let via = format!("http://127.0.0.1:{}", http.port());
    let said = connected(&via, || http.kill());
    assert!(said.contains(&via), "{said}");
}

#[test]
fn a_bridge_tells_each_client_whose_hop_is_killed() {
    let (_echo, target) = listening(["listen", "tcp://127.0.0.1:0", "--echo"]);
    let mut ssh = sshd();
    let args = ["bridge", "tcp://127.0.0.1:0", &target, "--via", &hop(&ssh)];
    let (mut bridge, near) = listening(args);
    let mut near = TcpStream::connect(near.trim_start_matches("tcp://")).expect("it listens");
    near.write_all(b"hello\n").expect("it reads");
    let mut line = String::new();
    BufReader::new(&near).read_line(&mut line).expect("an echo");
    assert_eq!(line, "hello\n");
    ssh.kill();
    // Reset, so that what came is not taken for all.
    assert!(near.read(&mut [0]).is_err());
    let said = bridge.error_line("error: ");
    assert!(said.contains(&format!("{target} via ssh://")), "{said}");
    assert!(said.contains("the SSH connection to ") && said.contains(" ended: "), "{said}");
}

#[test]
fn listening_beyond_what_is_killed_ends_and_says_so() {
    let (_echo, target) = listening(["listen", "tcp://127.0.0.1:0", "--echo"]);
    let mut ssh = sshd();
    let (bridge, far) = listening(["bridge", "tcp://127.0.0.1:0", &target, "--listen-via", &hop(&ssh)]);
    let mut client = TcpStream::connect(far.trim_start_matches("tcp://")).expect("it listens there");
    client.write_all(b"hello\n").expect("it reads");
    let mut line = String::new();
    BufReader::new(&client).read_line(&mut line).expect("an echo");
    assert_eq!(line, "hello\n");
    ssh.kill();
    let said = bridge.end().code(3).stderr;
    let server = format!("{}@127.0.0.1:{}", ssh.user(), ssh.port());
    let gone = format!(
        "nobody can connect any more: the listener is closed: the SSH connection to {server} ended: "
    );
    assert!(said.contains(&gone), "{said}");
}
